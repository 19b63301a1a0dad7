"""What processes say to each other: the kernel's messages with their bytes, and who waits for them.

The kernel orders, checks and ends messages; the bytes are here, by the same numbers. A `Box` is one process's: what
it emitted, what it serves, and an event for when there may be something for it. Bytes count as bytes in a pipe in the
quota of whose box they came from, until they are handed over or nobody can get them any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from cognu.errors import E, FileError
from cognu.files.limits import Quota, Resource
from cognu.kernel import ALL_RIGHTS, ERRORS, GRANT, SEND, Cap, Code
from cognu.kernel.state import ANSWERED, CANCELLED, FAILED, PLACES

if TYPE_CHECKING:
    from cognu.files.authority import Authority

MAX_BYTES = 1 << 20
"""Of one message, or one answer."""
NAME_BYTES = 32
"""Of an interface's name, which is a hash."""


class Gift(NamedTuple):
    """A capability to go with a message: a child with `rights`, or itself if that is None."""

    cap: Cap
    rights: int | None


class Kind(IntEnum):
    """What a process is told. A request has bytes and wants an answer if its number is not 0."""

    REQUEST = 1
    ANSWER = 2
    FAILED = 3  # there will be no answer: who was to give it is gone, or the capability was revoked
    CANCELLED = 4  # a request delivered before is not wanted any more; perhaps its sender is gone


class Notice(NamedTuple):
    """`interface` is the name that a request was sent by, if it was by one; `badge` its capability's.

    `caps` came with it; one that could not be accepted any more is None.
    """

    kind: Kind
    message: int
    badge: int = 0
    interface: bytes = bytes(NAME_BYTES)
    caps: tuple[Cap | None, ...] = ()
    data: bytes = b""


@dataclass(eq=False)
class _Letter:
    """The bytes of a message, and of its answer once there is one. `payer` has them in its quota."""

    sender: int
    server: int
    cap: Cap
    interface: bytes
    data: bytes
    payer: Quota


@dataclass(eq=False)
class Box:
    """One process's. `ready` is set when something may have come; who waits clears it first."""

    quota: Quota
    users: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    sent: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)  # told by the kernel, not yet to the process
    served: list[int] = field(default_factory=list)  # endpoints


class Post:
    """All boxes. Every method raises `FileError` with nothing changed; used on the loop's thread alone."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._kernel = authority.kernel
        self._boxes: dict[int, Box] = {}
        self._letters: dict[int, _Letter] = {}
        self._sent_by: dict[Cap, set[int]] = {}
        self._numbers: dict[bytes, int] = {}  # of the interfaces that some process has bound
        self._last_number = 0
        self._bound: dict[int, set[bytes]] = {}  # by process; some of it may have died since
        self._binders: dict[bytes, int] = {}  # how many processes that is, for each
        authority.on_death.append(self._died)

    def open(self, pid: int, quota: Quota) -> Box:
        """The box of a process; each `open` needs its `close`."""
        box = self._boxes.setdefault(pid, Box(quota))
        box.users += 1
        return box

    def box(self, pid: int) -> Box:
        """The one that is open."""
        return self._boxes[pid]

    def close(self, pid: int) -> None:
        """At the last, what the process emitted is cancelled."""
        box = self._boxes[pid]
        box.users -= 1
        if box.users:
            return
        del self._boxes[pid]
        for message in list(box.sent):
            letter = self._letters[message]
            self._kernel.cancel(pid, message)
            self._forget(message, box)
            self._wake(letter.server)

    # -- interfaces -----------------------------------------------------------------------------------------------

    def names(self) -> dict[int, bytes]:
        """The interfaces that some process has bound, by the kernel's numbers for them."""
        return {number: name for name, number in self._numbers.items()}

    def serve(self, pid: int, interface: bytes, client: int) -> Cap:
        """A new endpoint of `pid`, to which `client` and the processes it makes from now on have `interface` bound.

        Returns the server's capability. The client's has SEND and GRANT. INVAL for what is no name, DQUOT, SRCH.
        """
        _check_name(interface)
        box = self._boxes[pid]
        endpoint, root = self._authority.new_server(pid, f"interface {interface.hex()}")
        try:
            self.bind(client, self._authority.mint(pid, root, SEND | GRANT, client), interface)
        except FileError:
            self._authority.end_server(endpoint)
            raise
        box.served.append(endpoint)
        return root

    def bind(self, pid: int, cap: Cap, interface: bytes) -> None:
        """Let `interface` mean `cap`, which has SEND, to this process."""
        _check_name(interface)
        self._unbind(pid, [name for name in self._bound.get(pid, ()) if not self._handles(pid, name)])
        number = self._numbers.get(interface, self._last_number + 1)
        _done(self._kernel.bind(pid, *cap, number))
        self._last_number = max(self._last_number, number)
        self._numbers[interface] = number
        self._note(pid, interface)

    def inherit(self, giver: int, pid: int) -> None:
        """Bind for a new process what its maker has bound and may hand on."""
        for interface in self._bound.get(giver, ()):
            if self._handles(giver, interface):
                result = self._kernel.inherit(giver, pid, self._numbers[interface])
                if result != -Code.RIGHTS:
                    _done(result)
                    self._note(pid, interface)

    def ended(self, pid: int) -> None:
        """A process is no more, and with it what it had bound."""
        if pid in self._bound:
            self._unbind(pid, list(self._bound[pid]))

    def _handles(self, pid: int, interface: bytes) -> bool:
        return self._kernel.bound(pid, self._numbers[interface]) > 0

    def _note(self, pid: int, interface: bytes) -> None:
        mine = self._bound.setdefault(pid, set())
        if interface not in mine:
            mine.add(interface)
            self._binders[interface] = self._binders.get(interface, 0) + 1

    def _unbind(self, pid: int, interfaces: Sequence[bytes]) -> None:
        for interface in interfaces:
            self._bound[pid].discard(interface)
            self._binders[interface] -= 1
            if not self._binders[interface]:
                del self._binders[interface], self._numbers[interface]
        if not self._bound.get(pid, True):
            del self._bound[pid]

    # -- messages -------------------------------------------------------------------------------------------------

    def emit(self, pid: int, to: bytes | Cap, data: bytes, wanted: bool, gifts: Sequence[Gift] = ()) -> int:
        """Send to the handler of an interface, or by a capability; returns the message's number.

        NOHANDLER, MSGSIZE; INVAL for too many gifts, or if the capability that it is sent by is to go with it: the
        message would end as that is taken. DQUOT, REVOKED, ACCES for the capability or a gift.
        """
        kernel, box = self._kernel, self._boxes[pid]
        cap = to if isinstance(to, Cap) else self._handler(pid, to)
        self._check_gifts(pid, gifts)
        if Gift(cap, None) in gifts:
            raise FileError(E.INVAL, "", f"{cap.slot}")
        _check_size(data)
        box.quota.take(Resource.PIPE, len(data))
        message = kernel.emit_message(pid, *cap, int(wanted))
        if message < 0:
            box.quota.give(Resource.PIPE, len(data))
            _done(message)
        self._enclose(pid, message, gifts)
        server = kernel.endpoints.server[kernel.slots.endpoint[cap.slot]]
        interface = bytes(NAME_BYTES) if isinstance(to, Cap) else to
        self._letters[message] = _Letter(pid, server, cap, interface, data, box.quota)
        self._sent_by.setdefault(cap, set()).add(message)
        box.sent.add(message)
        self._wake(server)
        return message

    def answer(self, pid: int, message: int, data: bytes, gifts: Sequence[Gift] = ()) -> None:
        """Answer a request that was delivered to this process, once.

        NOMESSAGE, also if it was cancelled; REVOKED; MSGSIZE, INVAL, DQUOT, ACCES as `emit`.
        """
        box = self._boxes[pid]
        self._check_gifts(pid, gifts)
        _check_size(data)
        box.quota.take(Resource.PIPE, len(data))
        # Promises are made before the answer is, and only its handler may make any: a refusal leaves none behind.
        result = -Code.NO_MESSAGE
        if self._kernel.messages.handler[message] == pid and message in self._letters:
            self._enclose(pid, message, gifts)
            result = self._kernel.emit_answer(pid, message)
        if result < 0:
            box.quota.give(Resource.PIPE, len(data))
            _done(result)
        letter = self._letters[message]
        letter.data, letter.payer = data, box.quota
        self._wake(letter.sender)

    def peek(self, pid: int, messages: Sequence[int], requests: bool) -> Notice | None:
        """What there is for a process: an answer to one of `messages`, or a request. Its caps are told by number only.

        NOMESSAGE for a message whose answer this process does not wait for.
        """
        for message in messages:
            if notice := self._answer_to(pid, message):
                return notice
        return self._request_for(pid) if requests else None

    def take(self, pid: int, notice: Notice) -> Notice:
        """Have what `peek` found, with its capabilities."""
        kernel, box, message = self._kernel, self._boxes[pid], notice.message
        caps = tuple(self._accept(pid, message, place) for place in range(len(notice.caps)))
        if notice.kind is Kind.FAILED:
            box.failed.discard(message)
            return notice
        letter = self._letters.get(message)
        if notice.kind is Kind.ANSWER:
            _done(kernel.take(pid, message))
            self._forget(message, box)
        else:
            lost = _done(kernel.receive(pid, message)) == FAILED
            if letter is not None and not kernel.messages.wanted[message]:
                self._forget(message, self._boxes[letter.sender])
            elif letter is not None:
                self._emptied(letter)
            if lost and notice.kind is Kind.REQUEST:
                # Taking what came with it ended what it was sent by: to its sender it has failed, so it is no request.
                return Notice(Kind.CANCELLED, message, caps=caps)
        wanted = notice.kind is not Kind.REQUEST or bool(kernel.messages.state[message])
        return notice._replace(caps=caps, message=message if wanted else 0)

    def serves(self, pid: int) -> bool:
        """Whether a request may come to it."""
        return any(self._kernel.endpoints.alive[endpoint] for endpoint in self._boxes[pid].served)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _handler(self, pid: int, interface: bytes) -> Cap:
        _check_name(interface)
        number = self._numbers.get(interface)
        slot = self._kernel.bound(pid, number) if number is not None else -Code.NO_HANDLER
        if slot < 0:
            raise FileError(ERRORS[-slot], interface.hex())
        return Cap(slot, self._kernel.slots.generation[slot])

    def _answer_to(self, pid: int, message: int) -> Notice | None:
        kernel, box = self._kernel, self._boxes[pid]
        if message not in box.failed:
            if kernel.messages.state[message] == ANSWERED and kernel.messages.sender[message] == pid:
                return Notice(Kind.ANSWER, message, caps=self._enclosed(message), data=self._letters[message].data)
            if _done(kernel.take(pid, message)) != FAILED:
                return None
            letter = self._letters[message]
            self._forget(message, box)
            box.failed.add(message)
            self._wake(letter.server)  # which may still be at it
        return Notice(Kind.FAILED, message)

    def _request_for(self, pid: int) -> Notice | None:
        kernel = self._kernel
        while message := kernel.next_message(pid):
            if kernel.messages.state[message] == CANCELLED:
                return Notice(Kind.CANCELLED, message)
            cap = Cap(kernel.messages.slot[message], kernel.messages.generation[message])
            if kernel.slots.generation[cap.slot] == cap.generation:
                letter = self._letters[message]
                badge, caps = kernel.slots.badge[cap.slot], self._enclosed(message)
                return Notice(Kind.REQUEST, message, badge, letter.interface, caps, letter.data)
            kernel.receive(pid, message)  # it can not be delivered any more
        return None

    def _enclosed(self, message: int) -> tuple[Cap | None, ...]:
        """As many as there are places up to the last that is taken."""
        places = [place for place in range(PLACES) if self._kernel.messages.cap_slot[message * PLACES + place]]
        return (None,) * (max(places) + 1 if places else 0)

    def _accept(self, pid: int, message: int, place: int) -> Cap | None:
        try:
            return self._authority.accept(pid, message, place)
        except FileError:
            return None  # not there, lost by its giver meanwhile, or more than there is room for

    def _check_gifts(self, pid: int, gifts: Sequence[Gift]) -> None:
        if len(gifts) > PLACES:
            raise FileError(E.INVAL, "", f"{PLACES}")
        for cap, rights in gifts:
            if rights is not None and rights & ~ALL_RIGHTS:
                raise FileError(E.INVAL, "", f"{rights:#x}")
            self._authority.check(pid, cap, (rights or 0) | GRANT)

    def _enclose(self, pid: int, message: int, gifts: Sequence[Gift]) -> None:
        """What was checked: nothing is refused."""
        for place, (cap, rights) in enumerate(gifts):
            self._kernel.enclose(pid, message, place, *cap, rights or 0, int(rights is None))

    def _died(self, cap: Cap) -> None:
        """What was sent by a capability is lost with it; both sides look again."""
        for message in self._sent_by.pop(cap, ()):
            letter = self._letters[message]
            if self._kernel.messages.state[message] != ANSWERED:
                self._emptied(letter)
            if not self._kernel.messages.wanted[message]:
                self._forget(message, self._boxes[letter.sender])
            self._wake(letter.sender)
            self._wake(letter.server)

    def _emptied(self, letter: _Letter) -> None:
        """Its bytes were handed over, or are nobody's."""
        letter.payer.give(Resource.PIPE, len(letter.data))
        letter.data = b""

    def _forget(self, message: int, box: Box) -> None:
        letter = self._letters.pop(message)
        self._emptied(letter)
        box.sent.discard(message)
        others = self._sent_by.get(letter.cap)
        if others is not None:
            others.discard(message)
            if not others:
                del self._sent_by[letter.cap]

    def _wake(self, pid: int) -> None:
        box = self._boxes.get(pid)
        if box is not None:
            box.ready.set()


def _check_name(interface: bytes) -> None:
    if len(interface) != NAME_BYTES or not any(interface):
        raise FileError(E.INVAL, interface.hex())


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise FileError(E.MSGSIZE, "", f"{len(data)} > {MAX_BYTES}")


def _done(result: int) -> int:
    if result < 0:
        raise FileError(ERRORS[-result])
    return result
