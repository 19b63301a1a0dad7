"""The table of effects: what each operation may change at all. `theorems.frame` says that it changes nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import z3
from z3 import And, Not, Or

from cognu.kernel.state import INTERFACES, PLACES, QUEUED
from proofs.invariants import used
from proofs.machine import View


class Call(NamedTuple):
    """An operation that ran: what it was given, what it returned, and the elements that the theorems are about: two
    slots, a process, an endpoint, a message, a number that a binding is kept under.
    """

    name: str
    given: dict[str, Any]
    result: Any
    d: Any
    a: Any
    q: Any
    e: Any
    m: Any
    k: Any


PARAMETERS: Final[dict[str, dict[str, str]]] = {
    "check": {"holder": "process", "slot": "slot", "generation": "int", "rights": "bits"},
    "mint": {
        "holder": "process", "slot": "slot", "generation": "int", "rights": "bits", "badge": "int", "to": "process",
    },
    "move": {"holder": "process", "slot": "slot", "generation": "int", "to": "process"},
    "delete": {"holder": "process", "slot": "slot", "generation": "int"},
    "reap_step": {},
    "revoke_step": {"holder": "process", "slot": "slot", "generation": "int"},
    "create_endpoint": {"server": "process"},
    "end_endpoint_step": {"endpoint": "endpoint"},
    "create_process": {"creator": "process", "quota": "int"},
    "end_process_step": {"process": "process"},
    "emit_message": {"sender": "process", "slot": "slot", "generation": "int", "wanted": "int"},
    "next_message": {"server": "process"},
    "receive": {"server": "process", "message": "message"},
    "emit_answer": {"handler": "process", "message": "message"},
    "take": {"sender": "process", "message": "message"},
    "cancel": {"sender": "process", "message": "message"},
    "enclose": {
        "giver": "process", "message": "message", "place": "int", "slot": "slot", "generation": "int",
        "rights": "bits", "moved": "int",
    },
    "accept": {"taker": "process", "message": "message", "place": "int"},
    "bind": {"process": "process", "slot": "slot", "generation": "int", "interface": "int"},
    "bound": {"process": "process", "interface": "int"},
    "inherit": {"giver": "process", "process": "process", "interface": "int"},
}  # fmt: skip
"""Every operation of the kernel, and what kind of numbers it is given."""

RESULTS: Final = {
    "mint": "slot", "accept": "slot", "bound": "slot", "inherit": "slot", "next_message": "message",
    "create_endpoint": "endpoint", "create_process": "process", "emit_message": "message",
}  # fmt: skip
"""What the results are numbers of."""

READ_ONLY: Final = ("check", "next_message", "bound")

Where = Callable[[View, View, Call], Any]


class Effect(NamedTuple):
    """Where an operation may change something; None is nowhere.

    Of which slot `d` the capability, and what it is bound to; which slot `d` may have other children; of which
    process `q` the account and its lists, the process itself, the endpoints it serves; of which endpoint `e` the
    endpoint itself, and its queue; which message `m`; which binding `k`.
    """

    caps: Where | None = None
    interfaces: Where | None = None
    families: Where | None = None
    accounts: Where | None = None
    processes: Where | None = None
    servers: Where | None = None
    endpoints: Where | None = None
    queues: Where | None = None
    messages: Where | None = None
    bindings: Where | None = None
    scalars: tuple[str, ...] = ()


def at_endpoint(v: View, c: Call) -> Any:
    """The slot that a step of ending an endpoint is at."""
    return z3.If(v.cursor != 0, v.cursor, v.endpoints.root(c.given["endpoint"]))


def due(v: View, c: Call) -> Any:
    """The slot that a step of ending a process is at."""
    process = c.given["process"]
    served = v.processes.served(process)
    return z3.If(v.cursor != 0, v.cursor, z3.If(served != 0, v.endpoints.root(served), v.processes.held(process)))


def oldest(v: View, slot: Any) -> Any:
    """The message that fails before a slot, the last capability of its endpoint, can go."""
    return v.endpoints.oldest(v.slots.endpoint(slot))


def key(process: Any, interface: Any) -> Any:
    """The number that a binding is kept under."""
    return process * INTERFACES + interface


def one(at: Callable[[View, Call], Any], **more: Any) -> Effect:
    """What ending one slot may change: itself, its family, its account; its endpoint with the last, or its queue."""
    return Effect(
        caps=lambda v, w, c: c.d == at(v, c),
        families=lambda v, w, c: c.d == v.slots.parent(at(v, c)),
        accounts=lambda v, w, c: Or(
            c.q == v.slots.holder(at(v, c)),
            And(v.slots.parent(at(v, c)) == 0, c.q == v.messages.sender(oldest(v, at(v, c)))),
        ),
        servers=lambda v, w, c: c.q == v.endpoints.server(v.slots.endpoint(at(v, c))),
        endpoints=lambda v, w, c: And(v.endpoints.root(c.e) == at(v, c), oldest(v, at(v, c)) == 0),
        queues=lambda v, w, c: v.endpoints.root(c.e) == at(v, c),
        messages=lambda v, w, c: And(v.slots.parent(at(v, c)) == 0, c.m == oldest(v, at(v, c))),
        **more,
    )


def new_slot(to: Callable[[View, Call], Any], slot: Callable[[View, Call], Any], **more: Any) -> Effect:
    """What minting may change."""
    return Effect(
        caps=lambda v, w, c: And(c.d == c.result, Not(used(v, c.d))),
        families=lambda v, w, c: c.d == slot(v, c),
        accounts=lambda v, w, c: c.q == to(v, c),
        scalars=("free", "last_slot", "died"),
        **more,
    )


def message(**more: Any) -> Effect:
    """What an operation on one message may change: the message, its queue, its sender's account."""
    return Effect(
        accounts=lambda v, w, c: c.q == v.messages.sender(c.given["message"]),
        queues=lambda v, w, c: c.e == v.messages.endpoint(c.given["message"]),
        messages=lambda v, w, c: c.m == c.given["message"],
        scalars=("died",),
        **more,
    )


def enclosed(v: View, c: Call) -> Any:
    """The slot of a capability that goes with a message."""
    return v.messages.cap_slot(place_of(c))


def place_of(c: Call) -> Any:
    return c.given["message"] * PLACES + c.given["place"]


def giver(v: View, c: Call) -> Any:
    """Who enclosed what is in a message now: its sender, until it is delivered."""
    message = c.given["message"]
    return z3.If(v.messages.state(message) == QUEUED, v.messages.sender(message), v.messages.handler(message))


def inherited(v: View, c: Call) -> Any:
    """What the giver has an interface bound to."""
    return v.processes.bound(key(c.given["giver"], c.given["interface"]))


EFFECTS: Final[dict[str, Effect]] = {
    "check": Effect(),
    "next_message": Effect(),
    "bound": Effect(),
    "mint": new_slot(lambda v, c: c.given["to"], lambda v, c: c.given["slot"]),
    "move": Effect(
        caps=lambda v, w, c: c.d == c.given["slot"],
        accounts=lambda v, w, c: Or(c.q == c.given["holder"], c.q == c.given["to"]),
        scalars=("died", "died_generation"),
    ),
    "delete": one(lambda v, c: c.given["slot"], scalars=("free", "cursor", "died", "died_generation")),
    "reap_step": one(lambda v, c: v.cursor, scalars=("free", "cursor", "died", "died_generation")),
    "revoke_step": Effect(
        caps=lambda v, w, c: And(c.d == v.cursor, v.anc(c.d, c.given["slot"])),
        families=lambda v, w, c: Or(c.d == c.given["slot"], v.anc(c.d, c.given["slot"])),
        accounts=lambda v, w, c: c.q == v.slots.holder(v.cursor),
        scalars=("free", "cursor", "cut", "died", "died_generation"),
    ),
    "create_endpoint": Effect(
        caps=lambda v, w, c: And(c.d == w.endpoints.root(c.result), Not(used(v, c.d))),
        accounts=lambda v, w, c: c.q == c.given["server"],
        servers=lambda v, w, c: c.q == c.given["server"],
        endpoints=lambda v, w, c: And(c.e == c.result, v.endpoints.alive(c.e) == 0),
        scalars=("free", "last_slot", "last_endpoint", "died"),
    ),
    "end_endpoint_step": one(at_endpoint, scalars=("free", "cursor", "cut", "cut_root", "died", "died_generation")),
    "create_process": Effect(
        accounts=lambda v, w, c: c.q == c.given["creator"],
        processes=lambda v, w, c: And(c.q == c.result, v.processes.alive(c.q) == 0),
        scalars=("last_process", "died"),
    ),
    "end_process_step": one(due, scalars=("free", "cursor", "cut", "cut_root", "died", "died_generation"))._replace(
        accounts=lambda v, w, c: Or(
            c.q == c.given["process"], c.q == v.processes.creator(c.given["process"]),
            c.q == v.slots.holder(due(v, c)),
            And(v.slots.parent(due(v, c)) == 0, c.q == v.messages.sender(oldest(v, due(v, c)))),
        ),
        processes=lambda v, w, c: Or(
            c.q == c.given["process"],
            And(c.q == v.processes.first(c.given["process"]), v.processes.creator(c.q) == c.given["process"]),
        ),
        queues=lambda v, w, c: Or(
            v.endpoints.root(c.e) == due(v, c), c.e == v.messages.endpoint(v.processes.sent(c.given["process"])),
        ),
        messages=lambda v, w, c: Or(
            And(v.slots.parent(due(v, c)) == 0, c.m == oldest(v, due(v, c))),
            c.m == v.processes.sent(c.given["process"]),
        ),
    ),
    "emit_message": Effect(
        accounts=lambda v, w, c: c.q == c.given["sender"],
        queues=lambda v, w, c: c.e == v.slots.endpoint(c.given["slot"]),
        messages=lambda v, w, c: And(c.m == c.result, v.messages.state(c.m) == 0),
        scalars=("last_message", "died"),
    ),
    "receive": message(),
    "emit_answer": message()._replace(accounts=None, queues=None),
    "take": message(),
    "cancel": message(),
    "enclose": message()._replace(accounts=None, queues=None),
    "accept": Effect(
        caps=lambda v, w, c: Or(c.d == enclosed(v, c), And(c.d == c.result, Not(used(v, c.d)))),
        families=lambda v, w, c: c.d == enclosed(v, c),
        accounts=lambda v, w, c: Or(c.q == c.given["taker"], c.q == v.slots.holder(enclosed(v, c))),
        messages=lambda v, w, c: c.m == c.given["message"],
        scalars=("free", "last_slot", "died", "died_generation"),
    ),
    "bind": Effect(
        interfaces=lambda v, w, c: Or(
            c.d == c.given["slot"], c.d == v.processes.bound(key(c.given["process"], c.given["interface"])),
        ),
        bindings=lambda v, w, c: Or(
            c.k == key(c.given["process"], c.given["interface"]), v.processes.bound(c.k) == c.given["slot"],
        ),
        scalars=("died",),
    ),
    "inherit": new_slot(
        lambda v, c: c.given["process"], inherited,
        interfaces=lambda v, w, c: c.d == v.processes.bound(key(c.given["process"], c.given["interface"])),
        bindings=lambda v, w, c: c.k == key(c.given["process"], c.given["interface"]),
    ),
}  # fmt: skip
