"""What the kernel does, on sets and maps. To be read beside the prose; written apart from the tables.

A state is plain data. An operation is a function on it that changes it and returns None, or returns why it refuses
and changes nothing. What loops in steps outside of the kernel is one operation here. The names of new things are
chosen by the kernel; all that is said of them is that they were never used before.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from cognu.kernel.state import (
    ALL_RIGHTS,
    ANSWERED,
    CANCELLED,
    DELIVERED,
    FAILED,
    GRANT,
    INTERFACES,
    LIVE,
    NODE,
    PLACES,
    QUEUED,
    SEND,
    Code,
)

Id = tuple[int, int]
"""A capability. Only whether two are the same matters."""

Refusal = Code | None


@dataclass(frozen=True)
class Process:
    creator: int
    quota: int


@dataclass(frozen=True)
class Capability:
    """`rights` is a set of bits. One that died is kept while there are some below it, for the tree's sake."""

    holder: int
    endpoint: int
    rights: int
    badge: int
    parent: Id | None
    alive: bool = True


@dataclass(frozen=True)
class Promise:
    """A capability enclosed in a message: a child with `rights`, or itself if that is None."""

    of: Id
    rights: int | None


@dataclass(frozen=True)
class Message:
    """`by` is the capability it was sent by. `handler` is whom it was delivered to."""

    sender: int
    endpoint: int
    by: Id
    wanted: bool
    state: int = QUEUED
    handler: int | None = None
    enclosed: tuple[Promise | None, ...] = (None,) * PLACES


@dataclass
class State:
    """`queues` has the messages of an endpoint, `turns` the endpoints of a process that have any, oldest first."""

    processes: dict[int, Process] = field(default_factory=dict)
    endpoints: dict[int, int] = field(default_factory=dict)
    capabilities: dict[Id, Capability] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    bound: dict[tuple[int, int], Id] = field(default_factory=dict)
    queues: dict[int, tuple[int, ...]] = field(default_factory=dict)
    turns: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def copy(self) -> State:
        return State(*(copy(part) for part in vars(self).values()))


def start(quota: int) -> State:
    return State({NODE: Process(NODE, quota)})


# What is said of a state


def alive(s: State, cap: Id) -> bool:
    return cap in s.capabilities and s.capabilities[cap].alive


def children(s: State, cap: Id) -> set[Id]:
    return {below for below, c in s.capabilities.items() if c.parent == cap}


def descendants(s: State, cap: Id) -> set[Id]:
    below = children(s, cap)
    return below.union(*(descendants(s, child) for child in below))


def used(s: State, process: int) -> int:
    """Dead capabilities and finished messages that are still there count too."""
    held = sum(c.holder == process for c in s.capabilities.values())
    sent = sum(m.sender == process for m in s.messages.values())
    made = sum(p.quota + 1 for number, p in s.processes.items() if p.creator == process and number != NODE)
    return held + sent + made


def room(s: State, process: int, units: int = 1) -> bool:
    return used(s, process) + units <= s.processes[process].quota


def lost(s: State, message: int) -> bool:
    """Whether the capability it was sent by has died: then it is neither delivered nor answered any more."""
    return not alive(s, s.messages[message].by)


# Capabilities


def check(s: State, holder: int, cap: Id, rights: int) -> Refusal:
    if not alive(s, cap):
        return Code.REVOKED
    if s.capabilities[cap].holder != holder:
        return Code.NOT_HOLDER
    # Who asks for LIVE asks whether it is alive.
    return Code.RIGHTS if rights & ~(s.capabilities[cap].rights | LIVE) else None


def mint(s: State, holder: int, cap: Id, rights: int, badge: int, to: int, new: Id) -> Refusal:
    if rights & LIVE or badge < 0:
        return Code.INVALID
    if refused := check(s, holder, cap, rights if to == holder else rights | GRANT):
        return refused
    c = s.capabilities[cap]
    if c.badge not in (0, badge):
        return Code.BADGE
    if refused := _taker(s, to):
        return refused
    s.capabilities[new] = Capability(to, c.endpoint, rights, badge, cap)
    return None


def move(s: State, holder: int, cap: Id, to: int, new: Id) -> Refusal:
    if refused := check(s, holder, cap, 0 if to == holder else GRANT):
        return refused
    if refused := _taker(s, to, 0 if to == holder else 1):
        return refused
    s.capabilities[new] = replace(s.capabilities[cap], holder=to)
    for below in children(s, cap):
        s.capabilities[below] = replace(s.capabilities[below], parent=new)
    del s.capabilities[cap]
    _unbind(s, {cap})
    return None


def delete(s: State, holder: int, cap: Id) -> Refusal:
    if refused := check(s, holder, cap, 0):
        return refused
    _die(s, {cap})
    return None


def revoke(s: State, holder: int, cap: Id) -> Refusal:
    if refused := check(s, holder, cap, 0):
        return refused
    _die(s, descendants(s, cap))
    return None


def _taker(s: State, to: int, units: int = 1) -> Refusal:
    if to not in s.processes:
        return Code.NO_PROCESS
    return None if room(s, to, units) else Code.QUOTA


def _die(s: State, caps: set[Id]) -> None:
    """They are dead; what is dead and has nothing below goes; an endpoint goes with its last capability."""
    for cap in caps:
        s.capabilities[cap] = replace(s.capabilities[cap], rights=0, alive=False)
    _unbind(s, caps)
    while gone := {cap for cap, c in s.capabilities.items() if not c.alive and not children(s, cap)}:
        for cap in gone:
            del s.capabilities[cap]
    for endpoint in set(s.endpoints) - {c.endpoint for c in s.capabilities.values()}:
        for message in s.queues.get(endpoint, ()):
            _fail(s, message)
        del s.endpoints[endpoint]


def _unbind(s: State, caps: set[Id]) -> None:
    s.bound = {key: cap for key, cap in s.bound.items() if cap not in caps}


# Endpoints and processes


def create_endpoint(s: State, server: int, new: int, root: Id) -> Refusal:
    if refused := _taker(s, server):
        return refused
    s.endpoints[new] = server
    s.capabilities[root] = Capability(server, new, ALL_RIGHTS, 0, None)
    return None


def end_endpoint(s: State, endpoint: int) -> Refusal:
    if endpoint not in s.endpoints:
        return Code.NO_ENDPOINT
    _die(s, {cap for cap, c in s.capabilities.items() if c.endpoint == endpoint})
    return None


def create_process(s: State, creator: int, quota: int, new: int) -> Refusal:
    if quota < 0:
        return Code.INVALID
    if refused := _taker(s, creator, quota + 1):
        return refused
    s.processes[new] = Process(creator, quota)
    return None


def end_process(s: State, process: int, order: Sequence[int]) -> Refusal:
    """All it serves, sent and holds ends; what is left for others' sake passes to its creator.

    Its messages end in some `order`, which the kernel chooses.
    """
    if process == NODE:
        return Code.INVALID
    if process not in s.processes:
        return Code.NO_PROCESS
    for endpoint in {e for e, server in s.endpoints.items() if server == process}:
        end_endpoint(s, endpoint)
    for message in sorted((i for i, m in s.messages.items() if m.sender == process), key=order.index):
        _let_go(s, message)
    _die(s, {cap for cap, c in s.capabilities.items() if c.holder == process})
    creator = s.processes.pop(process).creator
    s.capabilities |= {i: replace(c, holder=creator) for i, c in s.capabilities.items() if c.holder == process}
    s.messages |= {i: replace(m, sender=creator) for i, m in s.messages.items() if m.sender == process}
    s.processes |= {i: replace(p, creator=creator) for i, p in s.processes.items() if p.creator == process}
    return None


# Messages


def emit_message(s: State, sender: int, cap: Id, wanted: int, new: int) -> Refusal:
    if refused := check(s, sender, cap, SEND):
        return refused
    if not room(s, sender):
        return Code.QUOTA
    s.messages[new] = Message(sender, s.capabilities[cap].endpoint, cap, bool(wanted))
    _enqueue(s, new)
    return None


def next_message(s: State, server: int) -> int:
    return s.queues[s.turns[server][0]][0] if s.turns.get(server) else 0


def receive(s: State, server: int, message: int) -> Refusal | int:
    """What became of the message, if not refused. Then it is another endpoint's turn, if there is one."""
    m = s.messages.get(message)
    if m is None or m.state not in (QUEUED, CANCELLED) or s.endpoints[m.endpoint] != server:
        return Code.NO_MESSAGE
    if m.state == CANCELLED or lost(s, message):
        _fail(s, message)
        became = CANCELLED if m.state == CANCELLED else FAILED
    else:
        _dequeue(s, message)
        became = DELIVERED
        if m.wanted:
            s.messages[message] = replace(m, state=DELIVERED, handler=server, enclosed=(None,) * PLACES)
        else:
            del s.messages[message]
    if m.endpoint in s.turns.get(server, ()):
        s.turns[server] = (*(e for e in s.turns[server] if e != m.endpoint), m.endpoint)
    return became


def emit_answer(s: State, handler: int, message: int) -> Refusal:
    m = s.messages.get(message)
    if m is None or m.state != DELIVERED or m.handler != handler:
        return Code.NO_MESSAGE
    if lost(s, message):
        return Code.REVOKED
    s.messages[message] = replace(m, state=ANSWERED)
    return None


def take(s: State, sender: int, message: int) -> Refusal | int:
    """What became of it; 0 is nothing yet."""
    m = s.messages.get(message)
    if m is None or m.sender != sender or not m.wanted:
        return Code.NO_MESSAGE
    if m.state in (QUEUED, DELIVERED) and not lost(s, message):
        return 0
    _let_go(s, message)
    return ANSWERED if m.state == ANSWERED else FAILED


def cancel(s: State, sender: int, message: int) -> Refusal:
    m = s.messages.get(message)
    if m is None or m.sender != sender or m.state == CANCELLED:
        return Code.NO_MESSAGE
    _let_go(s, message)
    return None


def enclose(s: State, giver: int, message: int, place: int, cap: Id, rights: int, moved: int) -> Refusal:
    if not 0 <= place < PLACES or rights & LIVE:
        return Code.INVALID
    m = s.messages.get(message)
    if m is None or (m.state, giver) not in ((QUEUED, m.sender), (DELIVERED, m.handler)):
        return Code.NO_MESSAGE
    if refused := check(s, giver, cap, GRANT if moved else rights | GRANT):
        return refused
    _set_place(s, message, place, Promise(cap, None if moved else rights))
    return None


def accept(s: State, taker: int, message: int, place: int, new: Id) -> Refusal:
    m = s.messages.get(message)
    if m is not None and m.state == QUEUED and s.endpoints[m.endpoint] == taker:
        giver = m.sender
        if lost(s, message):
            return Code.REVOKED
    elif m is not None and m.state == ANSWERED and m.sender == taker and m.handler is not None:
        giver = m.handler
    else:
        return Code.NO_MESSAGE
    promise = m.enclosed[place] if 0 <= place < PLACES else None
    if promise is None:
        return Code.INVALID
    if not alive(s, promise.of):
        return Code.REVOKED
    if promise.rights is None:
        refused = move(s, giver, promise.of, taker, new)
    else:
        refused = mint(s, giver, promise.of, promise.rights, s.capabilities[promise.of].badge, taker, new)
    if refused is None:
        _set_place(s, message, place, None)
    return refused


def _set_place(s: State, message: int, place: int, promise: Promise | None) -> None:
    m = s.messages[message]
    s.messages[message] = replace(m, enclosed=(*m.enclosed[:place], promise, *m.enclosed[place + 1 :]))


def _let_go(s: State, message: int) -> None:
    """Its sender wants it no more. If it is with a handler, that is told by finding it in the queue again."""
    m = s.messages[message]
    if m.state == DELIVERED and m.endpoint in s.endpoints:
        s.messages[message] = replace(m, state=CANCELLED, wanted=False)
        _enqueue(s, message)
    elif m.state != CANCELLED:
        if m.state == QUEUED:
            _dequeue(s, message)
        del s.messages[message]


def _fail(s: State, message: int) -> None:
    """It leaves the queue, and stays only if somebody waits to learn what became of it."""
    _dequeue(s, message)
    if s.messages[message].wanted:
        s.messages[message] = replace(s.messages[message], state=FAILED)
    else:
        del s.messages[message]


def _enqueue(s: State, message: int) -> None:
    endpoint = s.messages[message].endpoint
    server = s.endpoints[endpoint]
    if endpoint not in s.queues:
        s.turns[server] = (*s.turns.get(server, ()), endpoint)
    s.queues[endpoint] = (*s.queues.get(endpoint, ()), message)


def _dequeue(s: State, message: int) -> None:
    endpoint = s.messages[message].endpoint
    server = s.endpoints[endpoint]
    s.queues[endpoint] = tuple(other for other in s.queues[endpoint] if other != message)
    if not s.queues[endpoint]:
        del s.queues[endpoint]
        s.turns[server] = tuple(e for e in s.turns[server] if e != endpoint)
        if not s.turns[server]:
            del s.turns[server]


# Interfaces


def bind(s: State, process: int, cap: Id, interface: int) -> Refusal:
    if not 0 < interface < INTERFACES:
        return Code.INVALID
    if refused := check(s, process, cap, SEND):
        return refused
    _unbind(s, {cap})
    s.bound[process, interface] = cap
    return None


def bound(s: State, process: int, interface: int) -> Refusal | Id:
    if not 0 < interface < INTERFACES:
        return Code.INVALID
    return s.bound.get((process, interface), Code.NO_HANDLER)


def inherit(s: State, giver: int, process: int, interface: int, new: Id) -> Refusal:
    cap = bound(s, giver, interface)
    if isinstance(cap, Code) or cap is None:
        return cap
    c = s.capabilities[cap]
    if refused := mint(s, giver, cap, c.rights, c.badge, process, new):
        return refused
    return bind(s, process, new, interface)
