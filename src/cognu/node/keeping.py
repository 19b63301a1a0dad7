"""Shells of peers that stay when their terminal goes, if that was asked for (cpu(1), `--keep`).

Such a shell is no child of the connection that it was asked for by, as any other is, but of a connection that this node
holds in the peer's name for as long as the shell is there: so it is under the peer's grants and within the peer's
quota, and ends with `run`. Its terminal is a server of this node's (`devices/kept.py`). The process that the peer made
stands for one terminal that the shell is shown at: what ends that process, such as the end of the connection, takes the
terminal away, and no more. The end of the shell ends it too, with the shell's status.

A shell without a terminal is ended after as many seconds as were asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cognu.devices.kept import KeptTerminal
from cognu.devices.lent import read_on, write_on
from cognu.devices.procctl import send_note
from cognu.errors import CognuError, E, FileError
from cognu.files.chan import Chan
from cognu.files.launch import SHELL, Launch
from cognu.files.limits import Resource
from cognu.files.mounts import MREPL, ChanMover
from cognu.files.nstext import quote
from cognu.files.process import Fork, Process, Share, State
from cognu.files.server import Caller
from cognu.files.steps import finish
from cognu.ninep.types import OREAD, OWRITE
from cognu.node.node import Node
from cognu.world.timing import end_tasks

log = logging.getLogger("cognu.keeping")

PIECE = 64 * 1024
TAKEN_AWAY = 128 + 1
"""The status that a terminal gets from which another one took the shell; that of a hangup."""
PLACE = "/mnt/term"
"""Where a shell has the files of the machine whose terminal it has."""

Dress = Callable[[Process, KeptTerminal], Awaitable[None]]
"""Gives a new process the namespace and streams of a peer's shell, and starts that."""


class FarTerminal:
    """The terminal that a peer lent with a process, as `devices.kept.Shown`. Whoever made it closes it."""

    def __init__(self, keys: Chan, screen: Chan, control: Chan, resize: Chan) -> None:
        """Takes over the chans, which are open."""
        self._keys, self._screen, self._control, self._resize = keys, screen, control, resize

    @classmethod
    async def of(cls, process: Process, root: Chan) -> FarTerminal:
        """Of the streams that `process` was given, and the tree at `root`. Raises NXIO if there is no terminal."""
        chans: list[Chan] = []
        try:
            for number in (0, 1):
                chans.append(process.descriptors[number].share())
            for name, mode in (("consctl", OWRITE), ("resize", OREAD)):
                chans.append(await finish(process.namespace.walk(root, ["dev", name], process)))
                chans[-1] = await finish(process.namespace.open(chans[-1], mode, process))
        except BaseException as error:
            for chan in chans:
                chan.close()
            if isinstance(error, FileError) and error.error in (E.NOENT, E.BADF):
                raise FileError(E.NXIO, SHELL, "only a shell that has a terminal can be kept") from None
            raise
        return cls(*chans)

    async def typed(self) -> bytes:
        return bytes(await finish(read_on(self._keys, PIECE)))

    async def show(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[await finish(write_on(self._screen, rest)) :]

    async def control(self, word: bytes) -> None:
        await finish(write_on(self._control, word))

    async def size(self) -> bytes:
        return bytes(await finish(read_on(self._resize, PIECE)))

    def close(self) -> None:
        for chan in (self._keys, self._screen, self._control, self._resize):
            chan.close()


@dataclass(eq=False)
class _Seat:
    """A terminal that a shell is shown at: the peer's process for it, and what it lent."""

    process: Process
    terminal: FarTerminal


@dataclass(eq=False)
class Kept:
    """One shell. `peer` is the fingerprint of whose it is, `holder` the process that stands for its connection."""

    peer: str
    process: Process
    holder: Process
    seconds: int
    since: int  # when its terminal came or went, ns since 1970
    terminal: KeptTerminal = field(default_factory=KeptTerminal)
    seat: _Seat | None = None
    waiting: asyncio.Task[None] | None = None  # ends it when it was without a terminal for too long
    lending: asyncio.Lock = field(default_factory=asyncio.Lock)  # who changes what its PLACE is

    @property
    def state(self) -> str:
        return "away" if self.seat is None else "shown"


class Keeping:
    """All shells that this node keeps, by the numbers of their processes."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._kept: dict[int, Kept] = {}
        self._beginning: Counter[str] = Counter()  # by peer, those that are about to be
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what a peer asks for -----------------------------------------------------------------------------------------

    async def begin(self, process: Process, launch: Launch, peer: str, root: Chan, dress: Dress) -> None:
        """A new shell, shown at the terminal that came with `process`, which stands for that. Leaves nothing behind if
        it raises: NXIO without a terminal, ACCES or DQUOT if this machine keeps none or no more, and what `dress` does.

        It is part of a write to the process's ctl, which `run` gives the right to: so it is cancelled with that right.
        """
        node, exports = self._node, self._node.exports
        seconds = min(launch.keep, node.settings.keep.seconds)
        self._check_room(peer)
        with ExitStack() as undo:
            self._beginning[peer] += 1
            undo.callback(self._beginning.subtract, [peer])
            terminal = await FarTerminal.of(process, root)
            undo.callback(terminal.close)
            name = node.book.find(peer).name
            holder = await exports.connect(peer, name)
            undo.callback(exports.disconnect, peer, holder)
            holder.args = ["kept", name]
            kept = Kept(peer, self._process(holder, process, launch), holder, seconds, node.world.clock.now())
            undo.callback(node.processes.end, kept.process, 1, E.CANCELED.text)
            most = "" if seconds == launch.keep else ", the most here"
            again = f"cognu cpu -a {kept.process.pid} {node.settings.name} takes it again"
            said = f"[{kept.process.pid}: kept for {seconds} s without a terminal{most}; {again}]\n"
            await kept.terminal.put(said.encode())
            await dress(kept.process, kept.terminal)
            undo.pop_all()
        self._beginning[peer] -= 1
        self._kept[kept.process.pid] = kept
        log.info("%s keeps a shell here, process %d, for %d s", name, kept.process.pid, seconds)
        self._spawn(self._follow(kept))
        seat = _Seat(process, terminal)
        self._take(kept, seat)
        self._sit(kept, seat)

    def _check_room(self, peer: str) -> None:
        """Raises ACCES if none are kept here, DQUOT if no more; those that are about to begin count."""
        most = self._node.settings.keep
        if not (most.seconds and most.each and most.all):
            raise FileError(E.ACCES, "--keep", f"{self._node.settings.name} keeps no shells; 'keep' in its settings(5)")
        whose = [*(kept.peer for kept in self._kept.values()), *self._beginning.elements()]
        if whose.count(peer) >= most.each:
            raise FileError(
                E.DQUOT, "--keep", f"{most.each} shells are kept for this machine; cognu cpu -l, cpu --end ID"
            )
        if len(whose) >= most.all:
            raise FileError(E.DQUOT, "--keep", f"{self._node.settings.name} keeps {most.all} shells, and no more")

    def _process(self, holder: Process, asked: Process, launch: Launch) -> Process:
        """The shell's, with what the one that it was asked for by was told that it is to have."""
        processes = self._node.processes
        made = processes.fork(holder, Fork(environment=Share.CLEAN, descriptors=Share.CLEAN, notes=False))
        made.environment = asked.environment.copy()
        made.program, made.args, made.weight = asked.program, list(asked.args), asked.weight
        for resource, value in launch.limits.items():
            made.quota.set_limit(Resource(resource), value)
            if resource == Resource.FILES:
                made.descriptors.limit = value
        return made

    async def show(self, process: Process, launch: Launch, peer: str, root: Chan) -> None:
        """Show one of the peer's shells at the terminal that came with `process`, or end that shell.

        Raises SRCH if it has none of that number, BUSY if another terminal has it and it is not to be taken, NXIO.
        """
        kept = self._find(peer, launch.kept)
        if launch.kept_how == "end":
            if kept.process.kill is not None:
                kept.process.kill("its user ended it")
            self._spawn(self._end_with(process, kept))
            return
        self._check_free(kept, launch)
        seat = _Seat(process, await FarTerminal.of(process, root))
        try:
            self._find(peer, launch.kept)  # as it is by now
            self._check_free(kept, launch)
            if kept.seat is not None:
                back = f"cognu cpu -d -a {kept.process.pid} {self._node.settings.name}"
                self._leave(kept, kept.seat, TAKEN_AWAY, f"another terminal has taken it; {back} takes it back")
            self._take(kept, seat)  # before anything is awaited: who comes meanwhile finds that it is taken
            await self._lend(kept, seat, root)
            self._find(peer, launch.kept)
            self._check_has(kept, seat)
        except BaseException:
            seat.terminal.close()
            self._give(kept, seat)
            self._spawn(self._take_back(kept))
            raise
        self._sit(kept, seat)

    def _find(self, peer: str, number: int) -> Kept:
        kept = self._kept.get(number)
        if kept is None or kept.peer != peer or kept.process.state is State.DEAD:
            raise FileError(E.SRCH, str(number), "no shell of that number is kept; cognu cpu -l lists them")
        return kept

    def _check_free(self, kept: Kept, launch: Launch) -> None:
        if kept.seat is not None and launch.kept_how != "take":
            raise FileError(E.BUSY, str(kept.process.pid), "another terminal has it; with -d it is taken from there")

    def _check_has(self, kept: Kept, seat: _Seat) -> None:
        if kept.seat is not seat:
            raise FileError(E.BUSY, str(kept.process.pid), "another terminal took it meanwhile")

    async def _end_with(self, process: Process, kept: Kept) -> None:
        await kept.process.ended.wait()
        self._node.processes.end(process, 0)

    async def _lend(self, kept: Kept, seat: _Seat, root: Chan) -> None:
        """Give the shell the files of the machine whose terminal it has now, in place of those of the one before.

        Raises BUSY if it has not that terminal any more. One that takes it meanwhile lends its files after this.
        """
        session = kept.process
        namespace = session.namespace
        async with kept.lending:
            self._check_has(kept, seat)
            place = await finish(namespace.find(PLACE, namespace.root, session))
            try:
                namespace.mount(ChanMover(namespace.domain).move(root), place, MREPL)
            finally:
                place.close()

    async def _take_back(self, kept: Kept) -> None:
        """Take them off, unless it has a terminal or has ended."""
        session = kept.process
        async with kept.lending:
            if kept.seat is None and session.state is not State.DEAD:
                with suppress(CognuError):  # it may have taken them off itself
                    await finish(session.namespace.unmount(None, PLACE, session.namespace.root, session))

    # -- terminals come and go ----------------------------------------------------------------------------------------

    def _take(self, kept: Kept, seat: _Seat) -> None:
        """The shell has a terminal."""
        self._changed(kept, seat)
        if kept.waiting is not None:
            kept.waiting.cancel()
            kept.waiting = None

    def _changed(self, kept: Kept, seat: _Seat | None) -> None:
        """Note who has it and since when, for ps(1) too."""
        kept.seat, kept.since = seat, self._node.world.clock.now()
        since = datetime.fromtimestamp(kept.since // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kept.holder.args[2:] = [kept.state, "since", since]

    def _give(self, kept: Kept, seat: _Seat) -> None:
        """It has none, if it had this one. May be called twice."""
        if kept.seat is seat:
            self._changed(kept, None)
            if kept.process.state is not State.DEAD:
                kept.waiting = self._spawn(self._wait(kept))

    def _sit(self, kept: Kept, seat: _Seat) -> None:
        """Show it at the terminal that it has."""
        process, session = seat.process, kept.process
        process.kill = lambda by: self._leave(kept, seat, 128 + 9, str(FileError(E.KILLED, "", by)))
        process.note = lambda text: send_note(session, text)
        process.pause = lambda stop: session.pause(stop) if session.pause is not None else None
        self._spawn(self._show(kept, seat))

    async def _show(self, kept: Kept, seat: _Seat) -> None:
        """Until the shell ends, its last words having been shown, or the terminal goes, or what stands for it."""
        session = kept.process
        showing = asyncio.ensure_future(kept.terminal.show_at(seat.terminal))
        ended = asyncio.ensure_future(session.ended.wait())
        left = asyncio.ensure_future(seat.process.ended.wait())
        try:
            await asyncio.wait({showing, ended, left}, return_when=asyncio.FIRST_COMPLETED)
            if session.state is State.DEAD and not showing.done():
                drained = asyncio.ensure_future(kept.terminal.drained())
                try:
                    await asyncio.wait({showing, drained, left}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await end_tasks(drained)
        finally:
            await end_tasks(showing, ended, left)
            if session.state is State.DEAD:
                self._leave(kept, seat, session.status or 0, session.message)
            else:
                self._leave(kept, seat, TAKEN_AWAY, f"its terminal is gone; it is kept as {session.pid}")
        await self._take_back(kept)

    def _leave(self, kept: Kept, seat: _Seat, status: int, message: str) -> None:
        """The terminal is not the shell's any more; what stood for it ends with `status`. May be called twice."""
        kept.terminal.leave(seat.terminal)
        seat.terminal.close()
        self._give(kept, seat)
        self._node.processes.end(seat.process, status, message)

    async def _wait(self, kept: Kept) -> None:
        await self._node.world.clock.sleep(kept.seconds)
        if kept.process.kill is not None:
            kept.process.kill(f"no terminal came for {kept.seconds} s")

    async def _follow(self, kept: Kept) -> None:
        """Until the shell ends."""
        await kept.process.ended.wait()
        del self._kept[kept.process.pid]
        if kept.waiting is not None:
            kept.waiting.cancel()
        self._node.exports.disconnect(kept.peer, kept.holder)

    # -- who looks ----------------------------------------------------------------------------------------------------

    def text(self, caller: Caller | None) -> str:
        """The lines of /proc/kept (proc(3)): of the peer on whose connection `caller` is, or (None) of all."""
        if caller is None:
            found = list(self._kept.values())
        else:
            try:
                peer = self._node.exports.peer_of(self._node.processes[caller.pid])
            except FileError:
                return ""  # a process of this machine's own, which has none
            found = [kept for kept in self._kept.values() if kept.peer == peer]
        return "".join(map(_line, found))

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("keeping a shell failed", exc_info=error)

    async def close(self) -> None:
        """Show nothing any more, and wait for nothing. The shells end with the node's processes."""
        await end_tasks(*self._tasks)


def _line(kept: Kept) -> str:
    session = kept.process
    words = [session.pid, session.user, session.started, kept.state, kept.since, kept.seconds, *session.args]
    return " ".join(quote(str(word)) for word in words) + "\n"
