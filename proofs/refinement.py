"""8, refinement: each operation agrees with `spec.py`, which is written apart from the kernel.

The specification's own functions run, on a state that is an abstraction of the tables: beside each path of the
kernel's operation, under the same conditions. Both must refuse for the same reason, and what the one wrote and
deleted the other must have written and deleted, and nothing else. What an account uses is taken from the tables, as
group 7 has shown it to be the sum that the specification says. What the specification does in one loop over
everything (who dies, who is unbound, the order in queues) is not run here; groups 5 and 6, the small states and the
machine beside the specification are about that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import z3
from z3 import And, Implies, Not, Or

from cognu.kernel.state import LIVE, PLACES, QUEUED, Code
from proofs import spec
from proofs.effects import key
from proofs.machine import View
from proofs.prover import Path, walk
from proofs.symbolic import WIDTH, Bits, Num, Run, Truth, explore
from proofs.theorems import CAP_FIELDS, MESSAGE_FIELDS, PROCESS_FIELDS, Goal, same


class Part:
    """One map of the specification's state: what the tables say, and what was written and deleted since."""

    def __init__(self, abstraction: Abstraction) -> None:
        self.of = abstraction
        self.written: list[tuple[Any, Any]] = []
        self.deleted: list[Any] = []

    def __setitem__(self, key: Any, value: Any) -> None:
        self.written.append((key, value))

    def __delitem__(self, key: Any) -> None:
        self.deleted.append(key)

    def items(self) -> tuple[()]:
        """What is done for each of many is not run here."""
        return ()

    def values(self) -> tuple[()]:
        return ()

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __ior__(self, _other: object) -> Part:
        return self


class Processes(Part):
    def __contains__(self, process: Any) -> bool:
        return bool(self.of.truth(self.of.view.processes.alive(term(process)) != 0))

    def __getitem__(self, process: Any) -> spec.Process:
        look = self.of.view.processes
        return spec.Process(self.of.num(look.creator(term(process))), self.of.num(look.quota(term(process))))

    def pop(self, process: Any) -> spec.Process:
        del self[process]
        return self[process]


class Endpoints(Part):
    def __contains__(self, endpoint: Any) -> bool:
        return bool(self.of.truth(self.of.view.endpoints.alive(term(endpoint)) != 0))

    def __getitem__(self, endpoint: Any) -> Any:
        return self.of.num(self.of.view.endpoints.server(term(endpoint)))


class Capabilities(Part):
    """A capability is a slot with its generation. Those that died and are kept for the tree have no name here: that
    they die is as if they were deleted.
    """

    def __contains__(self, cap: Any) -> bool:
        for written, _ in self.written:
            if written is cap:
                return True
        slots = self.of.view.slots
        live = And(slots.rights(term(cap[0])) != 0, slots.generation(term(cap[0])) == term(cap[1]))
        return bool(self.of.truth(live))

    def __getitem__(self, cap: Any) -> spec.Capability:
        for written, value in self.written:
            if written is cap:
                assert isinstance(value, spec.Capability)
                return value
        slots, slot = self.of.view.slots, term(cap[0])
        parent = slots.parent(slot)
        return spec.Capability(
            self.of.num(slots.holder(slot)), self.of.num(slots.endpoint(slot)), self.of.rights(slots.rights(slot)),
            self.of.num(slots.badge(slot)), (self.of.num(parent), self.of.num(slots.generation(parent))),
        )  # fmt: skip


class Places:
    """The promises of a message."""

    def __init__(self, of: Abstraction, message: Any) -> None:
        self.of, self.message = of, message

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return ()
        look = self.of.view.messages
        at = self.message * PLACES + term(place)
        if not self.of.truth(look.cap_slot(at) != 0):
            return None
        cap = (self.of.num(look.cap_slot(at)), self.of.num(look.cap_generation(at)))
        moved = self.of.truth(look.cap_rights(at) == 0)
        return spec.Promise(cap, None if moved else self.of.rights(look.cap_rights(at)))


class Messages(Part):
    def get(self, message: Any) -> spec.Message | None:
        return self[message] if self.of.truth(self.of.view.messages.state(term(message)) != 0) else None

    def __getitem__(self, message: Any) -> spec.Message:
        for written, value in reversed(self.written):
            if written is message:
                assert isinstance(value, spec.Message)
                return value
        look, m = self.of.view.messages, term(message)
        by = (self.of.num(look.slot(m)), self.of.num(look.generation(m)))
        fields = [self.of.num(getattr(look, name)(m)) for name in ("sender", "endpoint")]
        wanted: Any = self.of.num(look.wanted(m))
        places: Any = Places(self.of, m)
        return spec.Message(
            fields[0], fields[1], by, wanted, self.of.num(look.state(m)), self.of.num(look.handler(m)), places
        )


class Bound(Part):
    def get(self, where: Any, otherwise: Any) -> Any:
        slot = self.of.view.processes.bound(key(term(where[0]), term(where[1])))
        if not self.of.truth(slot != 0):
            return otherwise
        return self.of.num(slot), self.of.num(self.of.view.slots.generation(slot))


class Abstraction:
    """The specification's state, of the tables before an operation."""

    def __init__(self, run: Run, view: View) -> None:
        self.run, self.view = run, view
        self.processes, self.endpoints = Processes(self), Endpoints(self)
        self.capabilities, self.messages, self.bound = Capabilities(self), Messages(self), Bound(self)
        self.queues: dict[Any, Any] = {}
        self.turns: dict[Any, Any] = {}
        self.places: list[tuple[Any, Any, spec.Promise | None]] = []
        """What was put into which place of which message."""
        self.ended = False
        """Whether something died: what becomes of the tree and of its endpoint is not run here."""

    def truth(self, expr: Any) -> Truth:
        return Truth(self.run, expr)

    def num(self, expr: Any) -> Any:
        return Num(self.run, expr)

    def rights(self, expr: Any) -> Any:
        """Rights as the specification has them: without the kernel's own bit."""
        return Bits(self.run, expr & ~LIVE_BIT)


LIVE_BIT: Final = z3.BitVecVal(LIVE, WIDTH)


def term(value: Any) -> Any:
    return value.expr if isinstance(value, (Num, Bits)) else z3.IntVal(int(value))


@contextmanager
def without_loops() -> Iterator[None]:
    """The specification with what goes over everything left out, and with accounts as the tables have them."""

    def used(s: Any, process: Any) -> Any:
        return s.num(s.view.processes.used(term(process)))

    def die(s: Any, caps: set[Any]) -> None:
        s.ended = True
        for cap in caps:
            del s.capabilities[cap]

    def unbind(s: Any, caps: set[Any]) -> None:
        s.bound.deleted += caps

    def set_place(s: Any, message: Any, place: Any, promise: Any) -> None:
        s.places.append((message, place, promise))

    stubs: dict[str, Any] = {
        "used": used,
        "children": lambda s, cap: set(),
        "descendants": lambda s, cap: set(),
        "_die": die,
        "_unbind": unbind,
        "_enqueue": lambda s, message: None,
        "_dequeue": lambda s, message: None,
        "_set_place": set_place,
    }
    before = {name: getattr(spec, name) for name in stubs}
    for name, stub in stubs.items():
        setattr(spec, name, stub)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(spec, name, function)


LOOPS: Final = ("revoke_step", "end_endpoint_step", "end_process_step")
"""What the specification does at once is done when they return 0."""

PLAIN: Final = ("check", "emit_answer", "cancel", "enclose", "bind")
"""What returns 0 if it is not refused."""

NOT_SPECIFIED: Final = ("reap_step", "next_message")
"""A step that the specification has no need of; and a question of order alone, of which `theorems.turns` says all.
"""


def specified(path: Path) -> tuple[Any, Abstraction]:
    """What the specification says to the call of a path: what it returns, and what it wrote."""
    run, call, after = path.run, path.call, path.after
    s = Abstraction(run, path.before)
    given: dict[str, Any] = {name: (Bits if z3.is_bv(value) else Num)(run, value) for name, value in call.given.items()}
    result = Num(run, call.result)
    name = call.name.removesuffix("_step")
    arguments: list[Any] = []
    for parameter, value in given.items():
        if parameter == "generation":
            continue
        arguments.append((value, given["generation"]) if parameter == "slot" else value)
    if name in ("mint", "inherit"):
        arguments.append((result, Num(run, after.slots.generation(call.result))))
    elif name == "move":
        arguments.append((given["slot"], result))
    elif name == "accept":
        place = call.given["message"] * PLACES + call.given["place"]
        moved = path.before.messages.cap_rights(place) == 0
        slot = z3.If(moved, path.before.messages.cap_slot(place), call.result)
        arguments.append((Num(run, slot), Num(run, after.slots.generation(slot))))
    elif name == "create_endpoint":
        root = after.endpoints.root(call.result)
        arguments += [result, (Num(run, root), Num(run, after.slots.generation(root)))]
    elif name == "end_process":
        arguments.append(())
    elif name in ("create_process", "emit_message"):
        arguments.append(result)
    return getattr(spec, name)(s, *arguments), s


def agreement(path: Path) -> list[Goal]:
    """What must be so for a path of the kernel and one of the specification to agree."""
    with without_loops():
        answer, s = specified(path)
    result, after = path.call.result, path.after
    if isinstance(answer, Code):
        return [Goal(8, f"refused as the specification does: {answer.name}", result == -int(answer))]
    said: list[Any] = [result >= 0]
    if path.call.name in ("receive", "take"):
        said.append(result == term(answer))
    if path.call.name in PLAIN:
        said.append(result == 0)
    if path.call.name == "bound":
        said.append(result == term(answer[0]))
    goals = [Goal(8, "accepted as the specification does", And(*said))]
    for cap, made in s.capabilities.written:
        goals.append(Goal(8, "a capability as specified", as_capability(after, cap, made)))
    for process, made in s.processes.written:
        p = term(process)
        fields = And(after.processes.creator(p) == term(made.creator), after.processes.quota(p) == term(made.quota))
        goals.append(Goal(8, "a process as specified", And(fields, after.processes.alive(p) == 1)))
    for endpoint, server in s.endpoints.written:
        e = term(endpoint)
        served = And(after.endpoints.alive(e) == 1, after.endpoints.server(e) == term(server))
        goals.append(Goal(8, "an endpoint as specified", served))
    last = {id(message): (message, made) for message, made in s.messages.written}
    for message, made in last.values():
        goals.append(Goal(8, "a message as specified", as_message(after, message, made)))
    for (process, interface), cap in s.bound.written:
        now = after.processes.bound(key(term(process), term(interface)))
        goals.append(Goal(8, "bound as specified", now == term(cap[0])))
    return goals + [Goal(8, name, holds) for name, holds in (*gone(path, s), *places(path, s), *others(path, s))]


def gone(path: Path, s: Abstraction) -> Iterator[tuple[str, Any]]:
    """What was deleted is there no more."""
    w, done = path.after, path.call.result == 0 if path.call.name in LOOPS else z3.BoolVal(True)
    for cap in s.capabilities.deleted:
        there = And(w.slots.rights(term(cap[0])) != 0, w.slots.generation(term(cap[0])) == term(cap[1]))
        yield "a capability is gone as specified", Implies(done, Not(there))
    for process in s.processes.deleted:
        yield "a process is gone as specified", Implies(done, w.processes.alive(term(process)) == 0)
    for endpoint in s.endpoints.deleted:
        yield "an endpoint is gone as specified", Implies(done, w.endpoints.alive(term(endpoint)) == 0)
    for message in s.messages.deleted:
        yield "a message is over as specified", Implies(done, w.messages.state(term(message)) == 0)
    at = path.call.k
    kept = [at == key(term(process), term(interface)) for (process, interface), _ in s.bound.written]
    for cap in s.bound.deleted:
        yield "unbound as specified", Implies(done, Or(*kept, w.processes.bound(at) != term(cap[0])))


def places(path: Path, s: Abstraction) -> Iterator[tuple[str, Any]]:
    """What is enclosed in messages: what was put there, or nothing once they are delivered."""
    look = path.after.messages
    for message, place, promise in s.places:
        at = term(message) * PLACES + term(place)
        if promise is None:
            yield "a place is empty as specified", And(look.cap_slot(at) == 0, look.cap_rights(at) == 0)
            continue
        said = as_rights(promise.rights) | LIVE_BIT if promise.rights is not None else z3.BitVecVal(0, WIDTH)
        handle = And(look.cap_slot(at) == term(promise.of[0]), look.cap_generation(at) == term(promise.of[1]))
        yield "a place is filled as specified", And(handle, look.cap_rights(at) == said)
    for message, made in s.messages.written:
        if made.enclosed == (None,) * PLACES and made.state != QUEUED:
            empty = [look.cap_slot(term(message) * PLACES + number) == 0 for number in range(PLACES)]
            yield "places are empty as specified", And(*empty)


def others(path: Path, s: Abstraction) -> Iterator[tuple[str, Any]]:
    """What the specification neither wrote nor deleted is as it was. Of loops, and of what dies, theorems say so."""
    if path.call.name in LOOPS:
        return
    v, w, c = path.before, path.after, path.call
    slots = [cap[0] for cap in (*(cap for cap, _ in s.capabilities.written), *s.capabilities.deleted)]
    was, now = (view.slots.rights(c.d) != 0 for view in (v, w))
    alike = And(was == now, Implies(now, same(v, w, "slots", CAP_FIELDS, c.d)))
    yield "no other capability changed", Or(*(c.d == term(slot) for slot in slots), alike)
    processes = [*(process for process, _ in s.processes.written), *s.processes.deleted]
    alike = same(v, w, "processes", PROCESS_FIELDS, c.q)
    yield "no other process changed", Or(*(c.q == term(process) for process in processes), alike)
    bindings = [c.k == key(term(process), term(interface)) for (process, interface), _ in s.bound.written]
    bindings += [v.processes.bound(c.k) == term(cap[0]) for cap in s.bound.deleted]
    if s.ended:
        # With the last capability of an endpoint goes the endpoint, and what is in its queue.
        bindings += [v.processes.bound(c.k) == term(slot) for slot in slots]
    else:
        endpoints = [*(endpoint for endpoint, _ in s.endpoints.written), *s.endpoints.deleted]
        alike = same(v, w, "endpoints", ("alive", "server"), c.e)
        yield "no other endpoint changed", Or(*(c.e == term(endpoint) for endpoint in endpoints), alike)
        messages = [*(message for message, _ in s.messages.written), *s.messages.deleted]
        alike = same(v, w, "messages", MESSAGE_FIELDS, c.m)
        yield "no other message changed", Or(*(c.m == term(message) for message in messages), alike)
    yield "nothing else is bound or unbound", Or(*bindings, same(v, w, "processes", ("bound",), c.k))


def as_rights(rights: Any) -> Any:
    return rights.expr if isinstance(rights, Bits) else z3.BitVecVal(rights, WIDTH)


def as_capability(w: View, cap: Any, made: spec.Capability) -> Any:
    slot = term(cap[0])
    rights = as_rights(made.rights)
    parent = z3.IntVal(0) if made.parent is None else term(made.parent[0])
    return And(
        w.slots.generation(slot) == term(cap[1]), w.slots.holder(slot) == term(made.holder),
        w.slots.endpoint(slot) == term(made.endpoint), w.slots.rights(slot) == rights | LIVE_BIT,
        w.slots.badge(slot) == term(made.badge), w.slots.parent(slot) == parent,
    )  # fmt: skip


def as_message(w: View, message: Any, made: spec.Message) -> Any:
    m = term(message)
    look = w.messages
    handler = True if made.handler is None else look.handler(m) == term(made.handler)
    return And(
        look.state(m) == term(made.state), look.sender(m) == term(made.sender),
        look.endpoint(m) == term(made.endpoint), look.slot(m) == term(made.by[0]),
        look.generation(m) == term(made.by[1]), look.wanted(m) == term(made.wanted),
        Implies(look.state(m) != QUEUED, handler),
    )  # fmt: skip


def refined(kernel: type, operation: str, begun: Any = lambda run: None) -> Iterator[tuple[Path, list[Goal]]]:
    """Each path of an operation together with one of the specification, and what must be so for them to agree."""
    made: list[tuple[Path, list[Goal]]] = []

    def once(run: Run) -> None:
        begun(run)
        # The specification knows no steps.
        if Truth(run, z3.Int("cursor") == 0):
            path = walk(run, kernel, operation)
            made.append((path, agreement(path)))

    for _ in explore(once):
        yield from made
        made.clear()
