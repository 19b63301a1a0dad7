"""What each operation does, and does not do: theorems about the state before and the state after.

As invariants, they are said of elements of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import z3
from z3 import And, BitVecVal, Implies, Not, Or

from cognu.kernel.state import ANSWERED, CANCELLED, DELIVERED, FAILED, GRANT, PLACES, QUEUED, SEND, Code
from proofs.effects import EFFECTS, READ_ONLY, Call, Where, enclosed, giver, inherited, place_of
from proofs.invariants import BIT, CHAINS, NONE, Chain, ancestor_has_children, live, lost, queued, used, within
from proofs.machine import SCALARS, SORTS, TABLES, View, sort_of
from proofs.symbolic import WIDTH


class Goal(NamedTuple):
    group: int
    name: str
    holds: Any


CAP_FIELDS: Final = ("generation", "holder", "endpoint", "rights", "badge", "parent")
PROCESS_FIELDS: Final = ("alive", "creator", "quota")
MESSAGE_FIELDS: Final = ("state", "sender", "handler", "endpoint", "slot", "generation", "wanted")


def same(v: View, w: View, part: str, names: tuple[str, ...], x: Any) -> Any:
    """Whether these tables have at `x` what they had."""
    before, after = getattr(v, part), getattr(w, part)
    return And(*(getattr(after, name)(x) == getattr(before, name)(x) for name in names))


def frame(v: View, w: View, c: Call) -> list[Goal]:
    """4, integrity: an operation changes nothing but what its row of the table of effects allows. What is in a list
    changes with it, and so do its neighbours there.
    """
    effect = EFFECTS[c.name]

    def may(where: Where | None, **at: Any) -> Any:
        return False if where is None else where(v, w, c._replace(**at))

    caps, processes, messages = may(effect.caps), may(effect.processes), may(effect.messages)
    family = [And(used(view, c.d), may(effect.families, d=view.slots.parent(c.d))) for view in (v, w)]
    account = [may(effect.accounts, q=view.slots.holder(c.d)) for view in (v, w)]
    creator = may(effect.accounts, q=v.processes.creator(c.q))
    server = [may(effect.servers, q=view.endpoints.server(c.e)) for view in (v, w)]
    sender = [may(effect.accounts, q=view.messages.sender(c.m)) for view in (v, w)]
    place = z3.And(*(same(v, w, "messages", ("cap_slot", "cap_generation", "cap_rights"), c.m * PLACES + n)
                     for n in range(PLACES)))  # fmt: skip
    bound = Or(may(effect.bindings), may(effect.caps, d=v.processes.bound(c.k)))
    rows: list[tuple[str, list[Any]]] = [
        ("other capabilities stay", [caps, same(v, w, "slots", CAP_FIELDS, c.d)]),
        ("other capabilities stay bound", [caps, may(effect.interfaces), same(v, w, "slots", ("interface",), c.d)]),
        ("other bindings stay", [bound, same(v, w, "processes", ("bound",), c.k)]),
        ("other slots have the same children", [may(effect.families), same(v, w, "slots", ("first",), c.d)]),
        ("other lists of children stay", [caps, *family, same(v, w, "slots", ("next", "prev"), c.d)]),
        ("other lists of what is held stay",
         [caps, *account, same(v, w, "slots", ("held_next", "held_prev"), c.d)]),
        ("other accounts stay",
         [may(effect.accounts), same(v, w, "processes", ("used", "held", "first", "sent"), c.q)]),
        ("other processes stay", [processes, same(v, w, "processes", PROCESS_FIELDS, c.q)]),
        ("other lists of processes stay", [processes, creator, same(v, w, "processes", ("next", "prev"), c.q)]),
        ("other endpoints stay", [may(effect.endpoints), same(v, w, "endpoints", ("alive", "server", "root"), c.e)]),
        ("other lists of endpoints stay",
         [may(effect.endpoints), *server, same(v, w, "endpoints", ("next", "prev"), c.e)]),
        ("others serve what they served", [may(effect.servers), same(v, w, "processes", ("served",), c.q)]),
        ("other queues stay", [may(effect.queues), same(v, w, "endpoints", ("newest", "oldest"), c.e)]),
        ("other messages stay", [messages, And(same(v, w, "messages", MESSAGE_FIELDS, c.m), place)]),
        ("other lists of what was sent stay",
         [messages, *sender, same(v, w, "messages", ("sent_next", "sent_prev"), c.m)]),
        ("other places in queues stay",
         [messages, may(effect.queues, e=v.messages.endpoint(c.m)), same(v, w, "messages", ("next", "prev"), c.m)]),
        ("other scalars stay",
         [And(*(getattr(w, name) == getattr(v, name) for name in SCALARS if name not in effect.scalars))]),
    ]  # fmt: skip
    if effect.queues is None:
        rows += [
            ("nobody's turn changes", [same(v, w, "processes", ("ready", "turn"), c.q)]),
            ("no endpoint gets ready", [same(v, w, "endpoints", ("ready_next", "ready_prev"), c.e)]),
        ]
    return [Goal(4, name, Or(*ways)) for name, ways in rows]


def refusal(v: View, w: View, c: Call) -> list[Goal]:
    """A refused operation names a refusal of the closed list and changes nothing at all."""
    codes = Or(*(c.result == -int(code) for code in Code))
    busy, due = c.result == -int(Code.BUSY), others_due(v, c)
    found = [
        Goal(4, "a refusal is one of the list", codes), Goal(4, "a refusal changes nothing", unchanged(v, w, c)),
        Goal(5, "busy is said only while other steps are due", Implies(busy, due)),
    ]  # fmt: skip
    told_first = False if c.name == "revoke_step" else ends_nothing(v, c)
    if c.name not in READ_ONLY:
        found.append(Goal(5, "while other steps are due busy is said", Implies(due, Or(busy, told_first))))
    if c.name in STEPS:
        found.append(Goal(5, "with none but its own steps due a step succeeds", Or(due, ends_nothing(v, c))))
    return found


STEPS: Final = ("reap_step", "revoke_step", "end_endpoint_step", "end_process_step")
"""What is called until it says that no more is due."""


def ends_nothing(v: View, c: Call) -> Any:
    """Whether a step was refused because it has nothing to work on: what it is to end does not live (which is told
    before who is busy), or below which it is to cut is not in the caller's hands.
    """
    if c.name == "revoke_step":
        g = c.given
        slot = g["slot"]
        ours = And(live(v, slot), v.slots.generation(slot) == g["generation"], v.slots.holder(slot) == g["holder"])
        return And(Not(ours), c.result != -int(Code.BUSY))
    if c.name == "end_endpoint_step":
        return And(c.result == -int(Code.NO_ENDPOINT), v.endpoints.alive(c.given["endpoint"]) == 0)
    if c.name == "end_process_step":
        process = c.given["process"]
        gone = And(c.result == -int(Code.NO_PROCESS), v.processes.alive(process) == 0)
        return Or(gone, And(c.result == -int(Code.INVALID), process == 0))
    return False


def others_due(v: View, c: Call) -> Any:
    """Whether steps are due that are not this operation's own: it must go on with those."""
    g, ours = c.given, z3.BoolVal(False)
    if c.name == "revoke_step":
        ours = And(v.cut == g["slot"], v.cut_root == 0)
    elif c.name == "end_endpoint_step":
        ours = And(v.cut == v.endpoints.root(g["endpoint"]), v.cut_root == 1)
    elif c.name == "end_process_step":
        served = v.processes.served(g["process"])
        ours = Or(v.cut == 0, And(served != 0, v.cut == v.endpoints.root(served), v.cut_root == 1))
    elif c.name == "reap_step":
        ours = v.cut == 0
    return And(v.cursor != 0, Not(ours))


def unchanged(v: View, w: View, c: Call) -> Any:
    """Nothing is other than it was, wherever one looks."""
    at = {"slot": c.d, "process": c.q, "endpoint": c.e, "message": c.m, "binding": c.k, "place": c.k}
    kept: list[Any] = [getattr(w, name) == getattr(v, name) for name in SCALARS]
    for part in SORTS:
        kept += [same(v, w, part, (name,), at[sort_of(part, name)]) for name in TABLES[part]]
    return And(*kept)


def deaths(v: View, w: View, c: Call) -> list[Goal]:
    """1: what ends is told, once, under the handle that it had; and no handle lives twice."""
    before, after = v.slots.generation(c.d), w.slots.generation(c.d)
    ended = And(live(v, c.d), Or(Not(live(w, c.d)), after != before))
    told = And(w.died == c.d, w.died_generation == before)
    died = w.died
    gone = Or(Not(live(w, died)), w.slots.generation(died) != w.died_generation)
    return [
        Goal(1, "a death is told", Implies(ended, And(told, after > before))),
        Goal(1, "what is told is a death",
             Implies(died != 0, And(live(v, died), v.slots.generation(died) == w.died_generation, gone))),
        Goal(1, "generations never fall", after >= before),
        Goal(1, "a handle that was live is never live again",
             Implies(And(live(w, c.d), Not(And(live(v, c.d), after == before))), after > v.spent(c.d))),
        Goal(2, "what a handle stands for never changes",
             Implies(And(live(v, c.d), live(w, c.d), after == before),
                     And(*(getattr(w.slots, name)(c.d) == getattr(v.slots, name)(c.d) for name in CAP_FIELDS)))),
    ]  # fmt: skip


def numbers(v: View, w: View, c: Call) -> list[Goal]:
    """1: the number of a process or of an endpoint is never used again: those that live are up to the last one given,
    which never falls.
    """
    q, e = c.q, c.e
    old = And(v.processes.alive(q) == 0, q <= v.last_process)
    ended = And(v.endpoints.alive(e) == 0, e <= v.last_endpoint)
    grown = [getattr(w, name) >= getattr(v, name) for name in ("last_process", "last_endpoint", "last_slot")]
    return [
        Goal(1, "the number of a process is never used again", Implies(old, w.processes.alive(q) == 0)),
        Goal(1, "the number of an endpoint is never used again", Implies(ended, w.endpoints.alive(e) == 0)),
        Goal(1, "the last numbers never fall", And(*grown)),
    ]


def confinement(v: View, w: View, c: Call) -> list[Goal]:
    """3: who holds what it did not hold before got it by minting or moving from a holder who may grant it, or out of
    a message in which such a holder enclosed it, or by inheriting it from such a holder; or it made the endpoint. What
    is held is a handle, slot and generation: who moves what it holds to itself gains that, and no more.
    """
    d, g = c.d, c.given
    kept = And(live(v, d), v.slots.holder(d) == c.q, v.slots.generation(d) == w.slots.generation(d))
    gains = And(live(w, d), w.slots.holder(d) == c.q, Not(kept))
    way: Any = False
    if c.name in ("mint", "move"):
        given = And(c.q == g["to"], v.slots.generation(g["slot"]) == g["generation"])
        way = And(given, handed(v, w, c, g["slot"], g["holder"]))
    elif c.name == "accept":
        place = place_of(c)
        given = And(c.q == g["taker"], v.slots.generation(enclosed(v, c)) == v.messages.cap_generation(place))
        as_promised = w.slots.rights(d) == v.messages.cap_rights(place)
        way = And(
            given, handed(v, w, c, enclosed(v, c), giver(v, c)), Or(d == enclosed(v, c), as_promised),
            g["place"] >= 0, g["place"] < PLACES,
        )  # fmt: skip
    elif c.name == "inherit":
        way = And(c.q == g["process"], handed(v, w, c, inherited(v, c), g["giver"]))
    elif c.name == "create_endpoint":
        way = And(c.q == g["server"], w.slots.endpoint(d) == c.result, v.endpoints.alive(c.result) == 0)
    return [Goal(3, "a capability is gained only from a holder", Implies(gains, way))]


def handed(v: View, w: View, c: Call, slot: Any, holder: Any) -> Any:
    """Whether `d` is now what `holder` could hand on out of `slot`: a child of it, or itself."""
    d, had, badge = c.d, v.slots.rights(slot), v.slots.badge(slot)
    return And(
        had & BIT != NONE, v.slots.holder(slot) == holder, Or(c.q == holder, had & BitVecVal(GRANT, WIDTH) != NONE),
        w.slots.endpoint(d) == v.slots.endpoint(slot), within(w.slots.rights(d), had),
        Or(badge == 0, w.slots.badge(d) == badge), Or(w.slots.parent(d) == slot, d == slot),
    )  # fmt: skip


def nearer(v: View, w: View, process: Any = None) -> Any:
    """Whether a step lowered the measure of a loop. In this order: how many slots are in use; what the ending process
    uses; how many messages wait in queues; how far the cursor can still go down, for a slot has as many slots in use
    above it as it is deep.
    """

    def levels(view: View) -> list[Any]:
        used = [] if process is None else [view.processes.used(process)]
        return [view.in_use, *used, view.waiting, z3.If(view.cursor == 0, 0, -view.depth(view.cursor))]

    lower: Any = False
    for before, after in reversed(list(zip(levels(v), levels(w), strict=True))):
        lower = Or(after < before, And(after == before, lower))
    return lower


def steps(v: View, w: View, c: Call) -> list[Goal]:
    """5: every step lowers a measure; when a loop is done, what was to end has ended."""
    g, done, more = c.given, c.result == 0, c.result == 1
    found: list[Goal] = []
    if c.name == "revoke_step":
        slot = g["slot"]
        # That an ancestor has children is proved for every state, so for the one after, too.
        none = Implies(ancestor_has_children(w, c.d, slot), Not(And(used(w, c.d), w.anc(c.d, slot))))
        found += [
            Goal(5, "revoking comes nearer its end", Implies(more, nearer(v, w))),
            Goal(5, "a step of revoking stays with its capability", Implies(more, And(w.cut == slot, w.cut_root == 0))),
            Goal(5, "after revoking no descendant is left", Implies(done, And(none, live(w, slot)))),
        ]
    elif c.name == "end_endpoint_step":
        root = v.endpoints.root(g["endpoint"])
        found += [
            Goal(5, "ending an endpoint comes nearer its end", Implies(more, nearer(v, w))),
            Goal(5, "a step of ending stays with its endpoint", Implies(more, And(w.cut == root, w.cut_root == 1))),
            Goal(5, "after its end nothing names an endpoint",
                 Implies(done, And(w.endpoints.alive(g["endpoint"]) == 0, w.slots.endpoint(c.d) != g["endpoint"]))),
        ]  # fmt: skip
    elif c.name == "end_process_step":
        p = g["process"]
        held = And(used(w, c.d), w.slots.holder(c.d) == p)
        made = And(w.processes.alive(c.q) != 0, c.q != 0, w.processes.creator(c.q) == p)
        serves = And(w.endpoints.alive(c.e) != 0, w.endpoints.server(c.e) == p)
        sent = And(w.messages.state(c.m) != 0, w.messages.sender(c.m) == p)
        found += [
            Goal(5, "ending a process comes nearer its end", Implies(more, nearer(v, w, p))),
            Goal(5, "after its end a process has nothing",
                 Implies(done, And(w.processes.alive(p) == 0, Not(Or(held, made, serves, sent))))),
        ]  # fmt: skip
    elif c.name in ("reap_step", "delete"):
        if c.name == "delete":
            kept = And(live(w, g["slot"]), w.slots.generation(g["slot"]) == g["generation"])
            found += [Goal(5, "what is given up is dead", Not(kept))]
        found += [Goal(5, "more is due where it is said", And(more == (w.cursor != 0), Or(more, done)))]
        if c.name == "reap_step":
            found += [Goal(5, "reaping comes nearer its end", Implies(v.cursor != 0, nearer(v, w)))]
    if c.name in ("revoke_step", "end_endpoint_step", "end_process_step"):
        found += [Goal(5, "no step is due after the last", And(Or(more, done), Implies(done, w.cursor == 0)))]
    if c.name not in READ_ONLY:
        found += [Goal(5, "nothing else happens while steps are due", Not(others_due(v, c)))]
    return found


def of_slot(v: View, slot: Any, q: Any) -> Any:
    """What a slot costs an account."""
    return z3.If(And(used(v, slot), v.slots.holder(slot) == q), z3.IntVal(1), z3.IntVal(0))


def of_message(v: View, message: Any, q: Any) -> Any:
    """What a message costs an account."""
    return z3.If(And(v.messages.state(message) != 0, v.messages.sender(message) == q), z3.IntVal(1), z3.IntVal(0))


def of_process(v: View, process: Any, q: Any) -> Any:
    """What a process costs the account of its creator."""
    made = And(v.processes.alive(process) != 0, process != 0, v.processes.creator(process) == q)
    return z3.If(made, v.processes.quota(process) + 1, z3.IntVal(0))


class Charged(NamedTuple):
    """Elements that cost an account something. Two of the terms of one list may be the same element."""

    slots: list[Any]
    messages: list[Any]
    processes: list[Any]

    def total(self, cost: Callable[[Callable[[View, Any, Any], Any], Any], Any]) -> Any:
        """The sum of a cost over the elements, each counted once."""
        total: Any = z3.IntVal(0)
        for charge, items in zip((of_slot, of_message, of_process), self, strict=True):
            for number, item in enumerate(items):
                first = And(*(item != other for other in items[:number]))
                total = total + z3.If(first, cost(charge, item), 0)
        return total


def accounts(v: View, w: View, c: Call, charged: Charged) -> list[Goal]:
    """7: what an account says it uses changes as what is charged to it does. `charged` is all that the operation
    wrote; what is charged for others is the same as before.
    """
    change = charged.total(lambda charge, item: charge(w, item, c.q) - charge(v, item, c.q))
    others = And(
        Or(*(c.d == slot for slot in charged.slots), of_slot(w, c.d, c.q) == of_slot(v, c.d, c.q)),
        Or(*(c.m == message for message in charged.messages), of_message(w, c.m, c.q) == of_message(v, c.m, c.q)),
        Or(*(c.a == process for process in charged.processes), of_process(w, c.a, c.q) == of_process(v, c.a, c.q)),
    )
    found = [
        Goal(7, "an account changes as its charges do", w.processes.used(c.q) - v.processes.used(c.q) == change),
        Goal(7, "what was not written is charged as before", others),
        Goal(7, "no new slot is begun while one is free", Implies(v.free != 0, w.last_slot == v.last_slot)),
    ]
    return found + (returned(v, w, c, charged) if c.name == "end_process_step" else [])


def returned(v: View, w: View, c: Call, charged: Charged) -> list[Goal]:
    """7: an ending process's quota goes to its creator: with what passes on, that part; with its end, what is left.
    Nobody else's quota changes, here or (4) elsewhere.
    """
    p = c.given["process"]
    creator = v.processes.creator(p)

    def passing(charge: Callable[[View, Any, Any], Any], item: Any) -> Any:
        return z3.If(charge(w, item, creator) > 0, charge(v, item, p), 0)

    back = w.processes.used(creator) == v.processes.used(creator) - v.processes.quota(p) - 1
    passed = w.processes.quota(p) == v.processes.quota(p) - charged.total(passing)
    stays = same(v, w, "processes", ("alive", "creator"), p)
    above = Or(same(v, w, "processes", ("creator",), c.q),
               And(v.processes.creator(c.q) == p, w.processes.creator(c.q) == creator))  # fmt: skip
    return [
        Goal(7, "the quota of the ended returns", Implies(c.result == 0, back)),
        Goal(7, "the quota of the ending falls by what passes on", Implies(c.result == 1, And(passed, stays))),
        Goal(7, "of another process the creator alone changes",
             Implies(c.q != p, And(same(v, w, "processes", ("alive", "quota"), c.q), above))),
    ]  # fmt: skip


def checked(v: View, c: Call) -> list[Goal]:
    """3: `check` says yes to a live capability with these rights in the hands of its holder, and to nothing else."""
    g = c.given
    slot = g["slot"]
    alive = And(v.slots.generation(slot) == g["generation"], live(v, slot))
    ours = v.slots.holder(slot) == g["holder"]
    enough = within(g["rights"], v.slots.rights(slot))
    return [
        Goal(3, "check says yes to the holder of the rights alone", (c.result == 0) == And(alive, ours, enough)),
        Goal(3, "check says who is revoked", (c.result == -int(Code.REVOKED)) == Not(alive)),
        Goal(3, "check says who is not the holder", (c.result == -int(Code.NOT_HOLDER)) == And(alive, Not(ours))),
        Goal(3, "check says what rights are missing",
             (c.result == -int(Code.RIGHTS)) == And(alive, ours, Not(enough))),
    ]  # fmt: skip


LEGAL: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "emit_message": ((0, QUEUED),),
    "receive": ((QUEUED, DELIVERED), (QUEUED, 0), (QUEUED, FAILED), (CANCELLED, 0)),
    "emit_answer": ((DELIVERED, ANSWERED),),
    "take": ((ANSWERED, 0), (FAILED, 0), (QUEUED, 0), (DELIVERED, CANCELLED), (DELIVERED, 0)),
    "cancel": ((ANSWERED, 0), (FAILED, 0), (QUEUED, 0), (DELIVERED, CANCELLED), (DELIVERED, 0)),
    "delete": ((QUEUED, FAILED), (QUEUED, 0), (CANCELLED, 0)),
    "reap_step": ((QUEUED, FAILED), (QUEUED, 0), (CANCELLED, 0)),
    "end_endpoint_step": ((QUEUED, FAILED), (QUEUED, 0), (CANCELLED, 0)),
    "end_process_step": (
        (QUEUED, FAILED), (QUEUED, 0), (CANCELLED, 0), (ANSWERED, 0), (FAILED, 0), (DELIVERED, CANCELLED),
        (DELIVERED, 0),
    ),
}  # fmt: skip
"""What may become of a message, by which operation. All others leave all messages in the state they are in."""


def messages(v: View, w: View, c: Call) -> list[Goal]:
    """6: a number is never used again; a message goes the way its states allow; only whom it was delivered to answers
    it, once; what is lost is neither delivered nor answered.
    """
    m, g = c.m, c.given
    before, after = v.messages.state(m), w.messages.state(m)
    ways = [And(before == one, after == other) for one, other in LEGAL.get(c.name, ())]
    delivered = And(after == DELIVERED, before != DELIVERED)
    answered = And(after == ANSWERED, before != ANSWERED)
    passed = And(c.name == "end_process_step" and v.messages.sender(m) == g["process"], after == CANCELLED)
    lasting = And(before != 0, after != 0)
    found = [
        Goal(6, "a message goes the way of its states", Or(before == after, *ways)),
        Goal(6, "a number is never used again", Implies(And(before == 0, m <= v.last_message), after == 0)),
        Goal(6, "numbers only grow", w.last_message >= v.last_message),
        Goal(6, "a message stays what it is",
             Implies(lasting, And(same(v, w, "messages", ("endpoint", "slot", "generation"), m),
                                  Or(passed, same(v, w, "messages", ("sender",), m)),
                                  Or(delivered, same(v, w, "messages", ("handler",), m))))),
        Goal(6, "what is lost is neither delivered nor answered", Implies(Or(delivered, answered), Not(lost(v, m)))),
    ]  # fmt: skip
    if c.name == "receive":
        server = v.endpoints.server(v.messages.endpoint(m))
        found.append(Goal(6, "only its server gets a message",
                          Implies(delivered, And(m == g["message"], server == g["server"],
                                                 w.messages.handler(m) == g["server"]))))  # fmt: skip
        left = And(before != 0, Not(v.messages.wanted(m) == 0), v.messages.wanted(m) != 0)
        found.append(Goal(6, "who waits for a message is told", Implies(And(left, before == QUEUED), after != 0)))
    else:
        found.append(Goal(6, "nothing else delivers", Not(delivered)))
    if c.name == "emit_answer":
        owed = And(m == g["message"], v.messages.handler(m) == g["handler"])
        found.append(Goal(6, "only its handler answers a message", Implies(answered, owed)))
    else:
        found.append(Goal(6, "nothing else answers", Not(answered)))
    if c.name == "emit_message":
        slot = g["slot"]
        right = And(live(v, slot), v.slots.holder(slot) == g["sender"], v.slots.generation(slot) == g["generation"],
                    v.slots.rights(slot) & BitVecVal(SEND, WIDTH) != NONE)  # fmt: skip
        found.append(Goal(6, "who sends holds the right to", right))
    if c.name in ("take", "cancel"):
        found.append(Goal(6, "only its sender lets go of a message", v.messages.sender(g["message"]) == g["sender"]))
    unheard = And(before == DELIVERED, after == 0, v.endpoints.alive(v.messages.endpoint(m)) != 0)
    found.append(Goal(6, "a handler is told of work that nobody wants any more", Not(unheard)))
    if c.name in ("delete", "reap_step", "end_endpoint_step", "end_process_step"):
        # But who ends waits no more.
        ends = c.name == "end_process_step" and v.messages.sender(m) == g["process"]
        told = Implies(And(before != 0, v.messages.wanted(m) != 0, Not(ends)), after != 0)
        found.append(Goal(6, "who waits for a message is told", told))
    return found + enclosing(v, w, c)


def enclosing(v: View, w: View, c: Call) -> list[Goal]:
    """3, 6: only who holds a capability and may grant it encloses it; what is enclosed goes where the message goes, and
    stays as it was promised until it is accepted or the message delivered.
    """
    g = c.given
    place = c.m * PLACES + c.a
    names = ("cap_slot", "cap_generation", "cap_rights")
    inside = And(c.a >= 0, c.a < PLACES)
    cleared = And(w.messages.cap_slot(place) == 0, w.messages.cap_generation(place) == 0,
                  w.messages.cap_rights(place) == NONE)  # fmt: skip
    stays = same(v, w, "messages", names, place)
    if c.name not in ("enclose", "accept"):
        emptied = w.messages.state(c.m) == 0
        if c.name == "receive":
            emptied = Or(emptied, And(w.messages.state(c.m) == DELIVERED, c.m == g["message"]))
        return [
            Goal(6, "a message goes on with what is enclosed", Implies(And(inside, Not(emptied)), stays)),
            Goal(6, "what is over or delivered has nothing enclosed", Implies(And(inside, emptied), cleared)),
        ]
    at = And(c.m == g["message"], c.a == g["place"])
    found = [
        Goal(6, "the place is one of the message's", And(g["place"] >= 0, g["place"] < PLACES)),
        Goal(6, "other places stay", Implies(And(inside, Not(at)), stays)),
    ]
    if c.name == "accept":
        itself = v.messages.cap_rights(place_of(c)) == NONE
        found.append(Goal(6, "accepting empties its place", Implies(at, cleared)))
        found.append(Goal(6, "who accepts is told what moved", Implies(itself, c.result == enclosed(v, c))))
        return found
    promise = z3.If(g["moved"] != 0, NONE, g["rights"] | BIT)
    exact = And(w.messages.cap_slot(place) == g["slot"], w.messages.cap_generation(place) == g["generation"],
                w.messages.cap_rights(place) == promise, c.result == 0)  # fmt: skip
    found.append(Goal(6, "enclosing promises what was asked for", Implies(at, exact)))
    kept = Or(stays, cleared)
    slot, rights = g["slot"], v.slots.rights(g["slot"])
    ours = And(c.m == g["message"], c.a == g["place"])
    held = And(
        w.messages.cap_slot(place) == slot, w.messages.cap_generation(place) == g["generation"],
        live(v, slot), v.slots.generation(slot) == g["generation"], v.slots.holder(slot) == g["giver"],
        rights & BitVecVal(GRANT, WIDTH) != NONE, within(w.messages.cap_rights(place), rights),
        giver(v, c) == g["giver"],
    )  # fmt: skip
    return [*found, Goal(3, "only a holder who may grant encloses", Implies(inside, Or(kept, And(ours, held))))]


def turns(v: View, w: View, c: Call) -> dict[str, list[Goal]]:
    """6: who gets what next, by the list that it is about: along a list stamps fall, so the oldest has the least."""
    found: dict[str, list[Goal]] = {}
    if EFFECTS[c.name].queues is not None:
        turned = v.messages.endpoint(c.given["message"]) if c.name == "receive" else None
        found = {
            "queue": order(QUEUE, v, w, c.m, z3.Int("n"), None),
            "ready": order(READY, v, w, c.e, z3.Int("f"), turned),
        }
    for about, goals in turn(v, w, c).items():
        found[about] = found.get(about, []) + goals
    return found


QUEUE, READY = (chain for chain in CHAINS if chain.tail is not None)


def order(chain: Chain, v: View, w: View, x: Any, y: Any, turned: Any) -> list[Goal]:
    """What waits in one list keeps its order, but for one that had its turn; what comes waits behind it."""
    before, after = v.stamp[chain.name], w.stamp[chain.name]
    there = And(chain.member(v, x), chain.member(w, x), chain.owner(v, x) == chain.owner(w, x))
    with_it = And(x != y, chain.member(w, y), chain.owner(w, y) == chain.owner(w, x))
    was = And(chain.member(v, y), chain.owner(v, y) == chain.owner(v, x))
    free = True if turned is None else And(x != turned, y != turned)
    kept = (after(x) < after(y)) == (before(x) < before(y))
    return [
        Goal(6, f"{chain.name}: what waits keeps its order", Implies(And(there, with_it, was, free), kept)),
        Goal(6, f"{chain.name}: what comes waits behind", Implies(And(there, with_it, Not(was)), after(x) < after(y))),
    ]


def turn(v: View, w: View, c: Call) -> dict[str, list[Goal]]:
    """6: what is next, and whose turn it is after it was received."""
    at, g = w.messages.endpoint(c.m), c.given
    waits = And(queued(w, c.m), w.endpoints.server(at) == g.get("server"))
    if c.name == "next_message":
        none, endpoint = c.result == 0, w.messages.endpoint(c.result)
        ours = And(queued(w, c.result), w.endpoints.server(endpoint) == g["server"])
        ready = And(w.endpoints.newest(c.e) != 0, w.endpoints.server(c.e) == g["server"])
        first = w.stamp["ready"](endpoint) <= w.stamp["ready"](c.e)
        longest = w.stamp["queue"](c.result) <= w.stamp["queue"](c.m)
        return {
            "queue": [
                Goal(6, "the next message is one that waits for its server", Or(none, ours)),
                Goal(6, "the next message waited longest at its endpoint",
                     Implies(And(Not(none), queued(w, c.m), at == endpoint), longest)),
            ],
            "ready": [
                Goal(6, "there is a next message if any waits", Implies(waits, Not(none))),
                Goal(6, "the next message is of the endpoint whose turn it is",
                     Implies(And(Not(none), ready), first)),
            ],
        }  # fmt: skip
    if c.name == "receive":
        done = v.messages.endpoint(g["message"])
        other = And(w.endpoints.newest(c.e) != 0, w.endpoints.server(c.e) == g["server"], c.e != done)
        last = w.stamp["ready"](c.e) < w.stamp["ready"](done)
        return {
            "ready": [
                Goal(6, "after a message it is another endpoint's turn",
                     Implies(other, w.processes.turn(g["server"]) != done)),
                Goal(6, "an endpoint that had its turn goes behind the others",
                     Implies(And(other, w.endpoints.newest(done) != 0), last)),
            ]
        }  # fmt: skip
    return {}


def bindings(v: View, w: View, c: Call) -> list[Goal]:
    """6: an interface is bound for a process to what that process holds with SEND, or inherits."""
    g = c.given
    now = w.processes.bound(c.k)
    made = And(now != 0, now != v.processes.bound(c.k))
    if c.name == "bind":
        slot = g["slot"]
        right = And(now == slot, v.slots.holder(slot) == g["process"], live(v, slot),
                    v.slots.rights(slot) & BitVecVal(SEND, WIDTH) != NONE,
                    v.slots.generation(slot) == g["generation"])  # fmt: skip
        return [Goal(6, "an interface is bound to what its process may send by", Implies(made, right))]
    if c.name == "inherit":
        return [Goal(6, "an interface is inherited from the giver",
                     Implies(made, And(now == c.result, w.slots.parent(now) == inherited(v, c))))]  # fmt: skip
    return [Goal(6, "nothing else binds an interface", Not(made))]
