"""Who may do what, for the services: the kernel with its loops run, its refusals raised, its deaths
announced.

The kernel's steps are always run to their end before anything else happens; only then are the operations
cancelled that ran under a capability that died. So what a callback finds, and does, is consistent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident

from cognu.errors import LACKING, E, FileError
from cognu.files.post import Post
from cognu.files.users import Users
from cognu.kernel import CREATE, ERRORS, EXECUTE, GRANT, NODE, READ, SEND, WRITE, Cap, Code, Kernel
from cognu.kernel.state import LIVE

DEFAULT_QUOTA = 1 << 16
"""Capabilities of a process that nobody set a limit for, neither for it nor for one it descends from."""

LETTERS = {"S": SEND, "G": GRANT, "r": READ, "w": WRITE, "x": EXECUTE, "c": CREATE}
"""Of rights, in the order in which they are shown."""


def letters_of(rights: int) -> str:
    return "".join(letter for letter, bit in LETTERS.items() if rights & bit)


class Authority:
    """One kernel and what runs under its capabilities. Used on the loop's thread alone.

    Capabilities are named together with the process that holds them; the node itself is process 0. Every
    method raises `FileError` with nothing changed: REVOKED for a handle that is dead, ACCES for one of
    another process or without the right, DQUOT, SRCH for a process that is gone.
    """

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel = Kernel() if kernel is None else kernel
        self.on_death: list[Callable[[Cap], None]] = []
        """Each is called with each capability that died, after the operations under it were cancelled."""
        self.thread = get_ident()
        self.users = Users()
        """Names and numbers of owners, as 9P clients are told; no authority is in them."""
        self.orphans: deque[Callable[[], None]] = deque()
        """Ends of what the garbage collector found, which may run in the midst of anything; see `close_orphans`."""
        self.read_only: dict[int, str] = {}
        """What is said to processes that may not write in what they hold, if it is more than what they lack."""
        self._limited: set[int] = set()
        self._running: dict[Cap, dict[int, Callable[[], None]]] = {}
        self._caps: dict[int, Cap] = {}
        self._last_token = 0
        self._names: dict[int, str] = {}  # by the slot of the endpoint's root, which is used again: as many as slots
        self.post = Post(self)

    def close_orphans(self) -> None:
        """Close what the garbage collector found. `dispatch` calls it before every operation."""
        while self.orphans:
            self.orphans.popleft()()

    def new_process(self, creator: int, quota: int | None = None) -> int:
        """A process that may hold `quota` capabilities, its own processes' included.

        None: what is usual for the node, or half of what is left to `creator` if a limit was set for that or
        for one it descends from.
        """
        kernel = self.kernel
        limited = quota is not None or creator in self._limited
        payer = creator
        if quota is None:
            if limited:
                quota = (kernel.processes.quota[creator] - kernel.processes.used[creator]) // 2
            else:
                # The node pays, so that a long line of processes, each made by the one before, does not run
                # dry.
                quota = DEFAULT_QUOTA
                if kernel.processes.alive[creator]:
                    payer = NODE
        process = _done(kernel.create_process(payer, quota))
        if limited:
            self._limited.add(process)
        return process

    def end_process(self, pid: int) -> list[Cap]:
        """End a process: all it holds and serves dies; what it handed on lives. Returns what died."""
        dead = self._run(lambda: self.kernel.end_process_step(pid))
        self._limited.discard(pid)
        self.read_only.pop(pid, None)
        self.post.ended(pid)
        self._announce(dead)
        return dead

    def new_server(self, server: int = NODE, name: str = "") -> tuple[int, Cap]:
        """A new endpoint and the capability with all rights to it, held by `server`; `name` is what people are told."""
        endpoint = _done(self.kernel.create_endpoint(server))
        root = self.kernel.endpoints.root[endpoint]
        self._names[root] = name
        return endpoint, self._cap(root)

    def server_name(self, endpoint: int) -> str:
        """What the server of an endpoint that lives was named; empty if nothing."""
        return self._names[self.kernel.endpoints.root[endpoint]]

    def end_server(self, endpoint: int) -> list[Cap]:
        """End every capability to an endpoint, and it. NXIO if it is gone. Returns what died."""
        dead = self._run(lambda: self.kernel.end_endpoint_step(endpoint))
        self._announce(dead)
        return dead

    def mint(self, pid: int, cap: Cap, rights: int, to_pid: int, badge: int | None = None) -> Cap:
        """A child of `cap` for `to_pid`, with some of its rights; handing it to another process takes GRANT.

        `badge` is the parent's if None; setting another where one is set is PERM.
        """
        slot, generation = cap
        kept = self.kernel.slots.badge[slot] if badge is None else badge
        return self._cap(_done(self.kernel.mint(pid, slot, generation, rights, kept, to_pid)))

    def move(self, pid: int, cap: Cap, to_pid: int) -> Cap:
        """Hand `cap` itself over, which takes GRANT; what runs under the old handle is cancelled."""
        slot, generation = cap
        fresh = Cap(slot, _done(self.kernel.move(pid, slot, generation, to_pid)))
        self._announce([cap])
        return fresh

    def accept(self, pid: int, message: int, place: int) -> Cap:
        """Take what was enclosed in a message. NOMESSAGE, INVAL; what `mint` or `move` refuses the giver."""
        cap = self._cap(_done(self.kernel.accept(pid, message, place)))
        if self.kernel.died:
            self._announce([Cap(self.kernel.died, self.kernel.died_generation)])
        return cap

    def delete(self, pid: int, cap: Cap) -> list[Cap]:
        """Give up `cap`; what was minted from it lives on. Returns what died."""
        slot, generation = cap
        more = _done(self.kernel.delete(pid, slot, generation))
        dead = [cap]
        if more:
            dead += self._run(self.kernel.reap_step)
        self._announce(dead)
        return dead

    def revoke(self, pid: int, cap: Cap) -> list[Cap]:
        """End everything minted from `cap`, here and further down; `cap` itself lives. Returns what died."""
        slot, generation = cap
        dead = self._run(lambda: self.kernel.revoke_step(pid, slot, generation))
        self._announce(dead)
        return dead

    def check(self, pid: int, cap: Cap, rights: int) -> None:
        """Returns if `pid` holds `cap` with all of `rights`; else what is raised names those that it lacks."""
        code = self.kernel.check(pid, cap[0], cap[1], rights)
        if code:
            missing = letters_of(rights & ~self.kernel.slots.rights[cap[0]]) if -code == Code.RIGHTS else ""
            why = self.read_only.get(pid, "") if missing and set(missing) <= set("wc") else ""
            raise FileError(ERRORS[-code], "", why or (LACKING + " and ".join(missing) if missing else ""))

    def rights(self, pid: int, cap: Cap) -> int:
        """The rights of a capability that `pid` holds."""
        self.check(pid, cap, 0)
        return self.kernel.slots.rights[cap.slot] & ~LIVE

    def badge(self, pid: int, cap: Cap) -> int:
        """The badge of a capability that `pid` holds; 0 if none is set."""
        self.check(pid, cap, 0)
        return self.kernel.slots.badge[cap.slot]

    def endpoint(self, pid: int, cap: Cap) -> int:
        """What a capability that `pid` holds leads to."""
        self.check(pid, cap, 0)
        return self.kernel.slots.endpoint[cap.slot]

    def begin(self, cap: Cap, cancel: Callable[[], None]) -> int:
        """Register an operation that runs under `cap`; returns its token. REVOKED if `cap` is dead.

        `cancel` is called once, when `cap` dies, unless `end` came first.
        """
        slots = self.kernel.slots
        if slots.generation[cap.slot] != cap.generation or not slots.rights[cap.slot] & LIVE:
            raise FileError(ERRORS[Code.REVOKED])
        self._last_token += 1
        self._running.setdefault(cap, {})[self._last_token] = cancel
        self._caps[self._last_token] = cap
        return self._last_token

    def end(self, token: int) -> None:
        """The operation is over. Nothing happens if it was cancelled, or ended, before."""
        cap = self._caps.pop(token, None)
        if cap is None:
            return
        running = self._running[cap]
        del running[token]
        if not running:
            del self._running[cap]

    def _cap(self, slot: int) -> Cap:
        return Cap(slot, self.kernel.slots.generation[slot])

    def _run(self, step: Callable[[], int]) -> list[Cap]:
        dead = []
        more = 1
        while more:
            more = _done(step())
            if self.kernel.died:
                dead.append(Cap(self.kernel.died, self.kernel.died_generation))
        return dead

    def _announce(self, dead: list[Cap]) -> None:
        """Cancel what ran under each. A callback may call anything here, and its failure keeps no other from
        its turn.
        """
        failures: list[Exception] = []
        for cap in dead:
            while running := self._running.get(cap):
                token = next(iter(running))
                cancel = running[token]
                self.end(token)
                _attempt(cancel, failures)
            for tell in tuple(self.on_death):
                _attempt(partial(tell, cap), failures)
        if failures:
            raise ExceptionGroup(E.CANCELED.text, failures)


def _done(result: int) -> int:
    if result < 0:
        raise FileError(ERRORS[-result])
    return result


def _attempt(call: Callable[[], None], failures: list[Exception]) -> None:
    try:
        call()
    except Exception as failure:
        failures.append(failure)
