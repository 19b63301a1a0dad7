"""What is true of every state between two operations, each said of one element, or of two.

An invariant is a function of a view and of elements. It is assumed before an operation at the elements that the
operation and the goal look at, and proved after it for elements of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from z3 import And, BitVecVal, Implies, Not, Or

from cognu.kernel.state import ANSWERED, CANCELLED, DELIVERED, FAILED, INTERFACES, LIVE, QUEUED, SEND
from proofs.machine import View, in_queue
from proofs.symbolic import WIDTH


class Invariant(NamedTuple):
    """`sorts` are those of the elements; `chain` is the list that it is about."""

    name: str
    group: int
    sorts: tuple[str, ...]
    holds: Callable[..., Any]
    chain: str = ""


ALL: Final = BitVecVal(2 * LIVE - 1, WIDTH)
NONE: Final = BitVecVal(0, WIDTH)
BIT: Final = BitVecVal(LIVE, WIDTH)


def used(v: View, s: Any) -> Any:
    """Whether a slot is not free: it is live or a tombstone."""
    return v.slots.endpoint(s) != 0


def live(v: View, s: Any) -> Any:
    return v.slots.rights(s) != 0


def within(some: Any, others: Any) -> Any:
    return some & ~others == NONE


# 1: slots


def slot_in_range(v: View, s: Any) -> Any:
    return Implies(used(v, s), And(s >= 1, s <= v.last_slot))


def slot_names_what_lives(v: View, s: Any) -> Any:
    return Implies(
        used(v, s), And(v.endpoints.alive(v.slots.endpoint(s)) != 0, v.processes.alive(v.slots.holder(s)) != 0)
    )


def free_slot_is_empty(v: View, s: Any) -> Any:
    return Implies(Not(used(v, s)), v.slots.rights(s) == NONE)


def rights_are_none_or_live(v: View, s: Any) -> Any:
    rights = v.slots.rights(s)
    return And(Or(rights == NONE, And(rights & BIT != NONE, within(rights, ALL))), v.slots.badge(s) >= 0)


def never_used_slot_is_blank(v: View, s: Any) -> Any:
    return Implies(Or(s < 1, s > v.last_slot), And(v.slots.generation(s) == 0, v.slots.next(s) == 0))


def generation_begins_at_one(v: View, s: Any) -> Any:
    return Implies(And(s >= 1, s <= v.last_slot), v.slots.generation(s) >= 1)


def handle_of_the_dead_is_spent(v: View, s: Any) -> Any:
    """No handle that was ever live at a slot is live there again."""
    return And(
        v.spent(s) >= 0,
        Implies(live(v, s), v.spent(s) == v.slots.generation(s)),
        Implies(And(Not(live(v, s)), s >= 1, s <= v.last_slot), v.spent(s) < v.slots.generation(s)),
        Implies(Or(s < 1, s > v.last_slot), v.spent(s) == 0),
    )


def tombstone_has_children(v: View, s: Any) -> Any:
    return Implies(And(used(v, s), Not(live(v, s)), v.slots.first(s) == 0), s == v.cursor)


def child_is_below_its_parent(v: View, s: Any) -> Any:
    parent = v.slots.parent(s)
    return Implies(
        And(used(v, s), parent != 0),
        And(
            used(v, parent),
            v.slots.endpoint(parent) == v.slots.endpoint(s),
            v.depth(s) == v.depth(parent) + 1,
            v.depth(parent) >= 1,
        ),
    )


def root_is_its_endpoints(v: View, s: Any) -> Any:
    return Implies(
        And(used(v, s), v.slots.parent(s) == 0), And(v.endpoints.root(v.slots.endpoint(s)) == s, v.depth(s) == 1)
    )


def ancestors_are_the_parents(v: View, d: Any, a: Any) -> Any:
    """The ancestors of a slot are its parent and the ancestors of that; a root has none."""
    parent = v.slots.parent(d)
    return Implies(used(v, d), v.anc(d, a) == And(parent != 0, Or(a == parent, v.anc(parent, a))))


def ancestor_has_a_child_on_the_way(v: View, d: Any, a: Any) -> Any:
    way = v.via(d, a)
    return Implies(
        And(used(v, d), v.anc(d, a)),
        And(
            a != 0, used(v, a), used(v, way), v.slots.parent(way) == a, Or(way == d, v.anc(d, way)),
            v.depth(a) < v.depth(d),
        ),
    )  # fmt: skip


def slot_descends_from_the_root(v: View, s: Any) -> Any:
    root = v.endpoints.root(v.slots.endpoint(s))
    return Implies(used(v, s), Or(s == root, v.anc(s, root)))


def ancestor_has_children(v: View, d: Any, a: Any) -> Any:
    return Implies(And(used(v, d), v.anc(d, a)), v.slots.first(a) != 0)


# 1: processes and endpoints


def node_lives(v: View) -> Any:
    return And(v.processes.alive(0) != 0, v.last_process >= 0, v.last_endpoint >= 0, v.last_slot >= 0)


def process_in_range(v: View, p: Any) -> Any:
    alive = v.processes.alive(p)
    return And(Or(alive == 0, alive == 1), Implies(alive != 0, And(p >= 0, p <= v.last_process)))


def creator_is_older_and_lives(v: View, p: Any) -> Any:
    creator = v.processes.creator(p)
    return Implies(
        And(v.processes.alive(p) != 0, p != 0), And(v.processes.alive(creator) != 0, creator < p, creator >= 0)
    )


def ended_process_is_blank(v: View, p: Any) -> Any:
    return Implies(
        v.processes.alive(p) == 0, And(v.processes.creator(p) == 0, v.processes.quota(p) == 0, v.processes.used(p) == 0)
    )


def endpoint_has_server_and_root(v: View, e: Any) -> Any:
    alive, root = v.endpoints.alive(e), v.endpoints.root(e)
    return And(
        Or(alive == 0, alive == 1),
        Implies(
            alive != 0,
            And(
                e >= 1, e <= v.last_endpoint, v.processes.alive(v.endpoints.server(e)) != 0, root != 0,
                v.slots.parent(root) == 0, v.slots.endpoint(root) == e,
            ),
        ),
    )  # fmt: skip


def ended_endpoint_is_blank(v: View, e: Any) -> Any:
    return Implies(v.endpoints.alive(e) == 0, And(v.endpoints.server(e) == 0, v.endpoints.root(e) == 0))


# 1: steps that are due


def no_cut_without_a_cursor(v: View) -> Any:
    return And(
        Implies(v.cursor == 0, v.cut == 0),
        Implies(v.cut == 0, v.cut_root == 0),
        Or(v.cut_root == 0, v.cut_root == 1),
    )


def cursor_to_reap_is_a_tombstone_for_nobody(v: View) -> Any:
    return Implies(
        And(v.cursor != 0, v.cut == 0),
        And(used(v, v.cursor), Not(live(v, v.cursor)), v.slots.first(v.cursor) == 0),
    )


def cursor_of_a_cut_is_below_it(v: View) -> Any:
    return Implies(
        v.cut != 0,
        And(
            used(v, v.cut), used(v, v.cursor),
            Or(v.cursor == v.cut, And(v.anc(v.cursor, v.cut), v.slots.parent(v.cursor) != 0)),
            Implies(v.cut_root != 0, v.slots.parent(v.cut) == 0), Implies(v.cut_root == 0, live(v, v.cut)),
        ),
    )  # fmt: skip


# 2


def rights_are_within_the_parents(v: View, s: Any) -> Any:
    """Also where the parent is a tombstone by now: within the rights it had."""
    parent = v.slots.parent(s)
    badge = v.slots.badge(parent)
    return And(
        Implies(live(v, s), v.granted(s) == v.slots.rights(s)),
        Implies(
            And(used(v, s), parent != 0),
            And(within(v.granted(s), v.granted(parent)), Or(badge == 0, badge == v.slots.badge(s))),
        ),
    )


def descendant_has_no_more_than_its_ancestor(v: View, d: Any, a: Any) -> Any:
    badge = v.slots.badge(a)
    return Implies(
        And(used(v, d), v.anc(d, a)),
        And(
            within(v.granted(d), v.granted(a)), Or(badge == 0, badge == v.slots.badge(d)),
            v.slots.endpoint(d) == v.slots.endpoint(a),
        ),
    )  # fmt: skip


# 7


def account_is_within_its_quota(v: View, p: Any) -> Any:
    return And(v.processes.used(p) >= 0, v.processes.used(p) <= v.processes.quota(p))


# 6: messages, and what interfaces are bound to


def queued(v: View, m: Any) -> Any:
    """Whether a message is in the queue of its endpoint."""
    return in_queue(v.messages.state(m))


def lost(v: View, m: Any) -> Any:
    """Whether the capability that it was sent by has died."""
    return v.slots.generation(v.messages.slot(m)) != v.messages.generation(m)


def message_in_range(v: View, m: Any) -> Any:
    state = v.messages.state(m)
    return And(
        state >= 0, state <= FAILED, v.last_message >= 0, Or(v.messages.wanted(m) == 0, v.messages.wanted(m) == 1),
        Implies(
            state != 0,
            And(
                m >= 1, m <= v.last_message, v.processes.alive(v.messages.sender(m)) != 0,
                v.messages.endpoint(m) <= v.last_endpoint,
            ),
        ),
    )  # fmt: skip


def queued_message_has_its_endpoint(v: View, m: Any) -> Any:
    return Implies(queued(v, m), v.endpoints.alive(v.messages.endpoint(m)) != 0)


def message_that_is_over_is_blank(v: View, m: Any) -> Any:
    names = ("sender", "handler", "endpoint", "slot", "generation", "wanted")
    places = [v.messages.cap_slot(4 * m + place) == 0 for place in range(4)]
    places += [v.messages.cap_generation(4 * m + place) == 0 for place in range(4)]
    places += [v.messages.cap_rights(4 * m + place) == NONE for place in range(4)]
    return Implies(v.messages.state(m) == 0, And(*(getattr(v.messages, name)(m) == 0 for name in names), *places))


def message_is_waited_for_as_its_state_says(v: View, m: Any) -> Any:
    state, wanted = v.messages.state(m), v.messages.wanted(m)
    return And(
        Implies(Or(state == DELIVERED, state == ANSWERED, state == FAILED), wanted == 1),
        Implies(state == CANCELLED, wanted == 0),
        Implies(state == QUEUED, v.messages.handler(m) == 0),
    )


def message_was_sent_by_what_its_sender_held(v: View, m: Any) -> Any:
    """What it was sent by is the sender's still, or has died since and never comes back."""
    state, slot = v.messages.state(m), v.messages.slot(m)
    return And(
        Implies(state != 0, And(slot != 0, v.messages.generation(m) <= v.spent(slot))),
        Implies(
            And(state != 0, state != CANCELLED, Not(lost(v, m))),
            And(
                live(v, slot), v.slots.holder(slot) == v.messages.sender(m),
                v.slots.endpoint(slot) == v.messages.endpoint(m),
            ),
        ),
    )  # fmt: skip


def handler_serves_the_endpoint(v: View, m: Any) -> Any:
    """While the endpoint of a delivered message lives, its server is the handler."""
    endpoint = v.messages.endpoint(m)
    return Implies(
        And(v.messages.state(m) == DELIVERED, v.endpoints.alive(endpoint) != 0),
        v.messages.handler(m) == v.endpoints.server(endpoint),
    )


def debts_of_the_dead_fail(v: View, m: Any) -> Any:
    """What was delivered by an endpoint that ended since is lost: whoever waits for it learns that it failed."""
    return Implies(And(v.messages.state(m) == DELIVERED, v.endpoints.alive(v.messages.endpoint(m)) == 0), lost(v, m))


def ended_endpoint_has_no_queue(v: View, e: Any) -> Any:
    return Implies(v.endpoints.alive(e) == 0, v.endpoints.newest(e) == 0)


def promise_is_of_rights(v: View, k: Any) -> Any:
    rights = v.messages.cap_rights(k)
    return Or(rights == NONE, And(rights & BIT != NONE, within(rights, ALL)))


def bound_slot_knows_its_interface(v: View, k: Any) -> Any:
    slot = v.processes.bound(k)
    interface = v.slots.interface(slot)
    return Implies(slot != 0, And(interface != 0, k == v.slots.holder(slot) * INTERFACES + interface))


def interface_is_bound_to_the_live(v: View, s: Any) -> Any:
    interface = v.slots.interface(s)
    return Implies(
        interface != 0,
        And(
            v.slots.rights(s) & BitVecVal(LIVE | SEND, WIDTH) == BitVecVal(LIVE | SEND, WIDTH),
            interface > 0, interface < INTERFACES,
            v.processes.bound(v.slots.holder(s) * INTERFACES + interface) == s,
        ),
    )  # fmt: skip


# 1: lists


class Chain(NamedTuple):
    """A list: which elements are on it, whose list that is, and where its links stand."""

    name: str
    sort: str
    owner_sort: str
    member: Callable[[View, Any], Any]
    owner: Callable[[View, Any], Any]
    head: Callable[[View, Any], Any]
    next: Callable[[View, Any], Any]
    prev: Callable[[View, Any], Any] | None
    blank: Callable[[View, Any], Any]
    """What is so of elements that are not on it."""
    tail: Callable[[View, Any], Any] | None = None
    """The oldest item, where that is known."""


CHAINS: Final = (
    Chain(
        "kin", "slot", "slot",
        lambda v, s: And(used(v, s), v.slots.parent(s) != 0),
        lambda v, s: v.slots.parent(s),
        lambda v, s: v.slots.first(s),
        lambda v, s: v.slots.next(s),
        lambda v, s: v.slots.prev(s),
        lambda v, s: And(v.slots.prev(s) == 0, Implies(used(v, s), v.slots.next(s) == 0),
                         Implies(Not(used(v, s)), v.slots.first(s) == 0)),
    ),
    Chain(
        "held", "slot", "process",
        used,
        lambda v, s: v.slots.holder(s),
        lambda v, p: v.processes.held(p),
        lambda v, s: v.slots.held_next(s),
        lambda v, s: v.slots.held_prev(s),
        lambda v, s: And(v.slots.held_next(s) == 0, v.slots.held_prev(s) == 0),
    ),
    Chain(
        "made", "process", "process",
        lambda v, p: And(v.processes.alive(p) != 0, p != 0),
        lambda v, p: v.processes.creator(p),
        lambda v, p: v.processes.first(p),
        lambda v, p: v.processes.next(p),
        lambda v, p: v.processes.prev(p),
        lambda v, p: And(v.processes.next(p) == 0, v.processes.prev(p) == 0),
    ),
    Chain(
        "served", "endpoint", "process",
        lambda v, e: v.endpoints.alive(e) != 0,
        lambda v, e: v.endpoints.server(e),
        lambda v, p: v.processes.served(p),
        lambda v, e: v.endpoints.next(e),
        lambda v, e: v.endpoints.prev(e),
        lambda v, e: And(v.endpoints.next(e) == 0, v.endpoints.prev(e) == 0),
    ),
    Chain(
        "sent", "message", "process",
        lambda v, m: v.messages.state(m) != 0,
        lambda v, m: v.messages.sender(m),
        lambda v, p: v.processes.sent(p),
        lambda v, m: v.messages.sent_next(m),
        lambda v, m: v.messages.sent_prev(m),
        lambda v, m: And(v.messages.sent_next(m) == 0, v.messages.sent_prev(m) == 0),
    ),
    Chain(
        "queue", "message", "endpoint",
        queued,
        lambda v, m: v.messages.endpoint(m),
        lambda v, e: v.endpoints.newest(e),
        lambda v, m: v.messages.next(m),
        lambda v, m: v.messages.prev(m),
        lambda v, m: And(v.messages.next(m) == 0, v.messages.prev(m) == 0),
        lambda v, e: v.endpoints.oldest(e),
    ),
    Chain(
        "ready", "endpoint", "process",
        lambda v, e: v.endpoints.newest(e) != 0,
        lambda v, e: v.endpoints.server(e),
        lambda v, p: v.processes.ready(p),
        lambda v, e: v.endpoints.ready_next(e),
        lambda v, e: v.endpoints.ready_prev(e),
        lambda v, e: And(v.endpoints.ready_next(e) == 0, v.endpoints.ready_prev(e) == 0),
        lambda v, p: v.processes.turn(p),
    ),
    Chain(
        "free", "slot", "",
        lambda v, s: And(Not(used(v, s)), s >= 1, s <= v.last_slot),
        lambda v, s: 0,
        lambda v, _: v.free,
        lambda v, s: v.slots.next(s),
        None,
        lambda v, s: True,
    ),
)  # fmt: skip


def chain_invariants(c: Chain) -> list[Invariant]:
    """A list is what it seems: each member is on its owner's, once, and the links lead both ways."""
    return [*_head_of(c), *_links_of(c), *_members_of(c), *_tail_of(c)]


def _owners(c: Chain) -> tuple[str, ...]:
    return (c.owner_sort,) if c.owner_sort else ()


def _head_of(c: Chain) -> Iterator[Invariant]:
    """An owner has a head just if it has members, and that is one of them."""

    def member_has_a_head(v: View, x: Any) -> Any:
        head = c.head(v, c.owner(v, x))
        return Implies(
            c.member(v, x), And(head != 0, v.stamp[c.name](x) <= v.stamp[c.name](head), v.stamp[c.name](x) < v.clock)
        )

    def head_is_on_its_list(v: View, *o: Any) -> Any:
        owner = o[0] if o else 0
        head = c.head(v, owner)
        return Implies(
            head != 0,
            And(c.member(v, head), c.owner(v, head) == owner, True if c.prev is None else c.prev(v, head) == 0),
        )

    yield Invariant(f"{c.name}: member has a head", 1, (c.sort,), member_has_a_head, c.name)
    yield Invariant(f"{c.name}: head is on its list", 1, _owners(c), head_is_on_its_list, c.name)


def _links_of(c: Chain) -> Iterator[Invariant]:
    """From each member to the next and back, among those of one owner."""

    def next_leads_on(v: View, x: Any) -> Any:
        after = c.next(v, x)
        return Implies(
            And(c.member(v, x), after != 0),
            And(
                c.member(v, after), c.owner(v, after) == c.owner(v, x), v.stamp[c.name](after) < v.stamp[c.name](x),
                True if c.prev is None else c.prev(v, after) == x,
            ),
        )  # fmt: skip

    def prev_leads_back(v: View, x: Any) -> Any:
        assert c.prev is not None
        before = c.prev(v, x)
        return Implies(
            c.member(v, x),
            And(
                Implies(before == 0, c.head(v, c.owner(v, x)) == x),
                Implies(
                    before != 0,
                    And(c.member(v, before), c.owner(v, before) == c.owner(v, x), c.next(v, before) == x),
                ),
            ),
        )

    yield Invariant(f"{c.name}: next leads on", 1, (c.sort,), next_leads_on, c.name)
    if c.prev is not None:
        yield Invariant(f"{c.name}: prev leads back", 1, (c.sort,), prev_leads_back, c.name)


def _members_of(c: Chain) -> Iterator[Invariant]:
    """None is left out, and nothing else has links."""

    def others_are_blank(v: View, x: Any) -> Any:
        return Implies(Not(c.member(v, x)), c.blank(v, x))

    def next_is_the_one_below(v: View, x: Any, y: Any) -> Any:
        """No member stands between another one and its next."""
        after = c.next(v, y)
        stamp = v.stamp[c.name]
        return Implies(
            And(c.member(v, x), c.member(v, y), c.owner(v, x) == c.owner(v, y), x != y, stamp(x) <= stamp(y)),
            And(stamp(x) != stamp(y), after != 0, stamp(x) <= stamp(after)),
        )

    yield Invariant(f"{c.name}: others are blank", 1, (c.sort,), others_are_blank, c.name)
    yield Invariant(f"{c.name}: next is the one below", 1, (c.sort, c.sort), next_is_the_one_below, c.name)


def _tail_of(c: Chain) -> Iterator[Invariant]:
    """Of a list whose last is known: it is the oldest."""

    def oldest_is_the_last(v: View, o: Any) -> Any:
        assert c.tail is not None
        tail = c.tail(v, o)
        return And(
            (tail == 0) == (c.head(v, o) == 0),
            Implies(tail != 0, And(c.member(v, tail), c.owner(v, tail) == o, c.next(v, tail) == 0)),
        )

    def last_is_the_oldest(v: View, x: Any) -> Any:
        assert c.tail is not None
        return Implies(And(c.member(v, x), c.next(v, x) == 0), c.tail(v, c.owner(v, x)) == x)

    if c.tail is not None:
        yield Invariant(f"{c.name}: oldest is the last", 1, _owners(c), oldest_is_the_last, c.name)
        yield Invariant(f"{c.name}: last is the oldest", 1, (c.sort,), last_is_the_oldest, c.name)


def said(function: Callable[..., Any], group: int, *sorts: str, chain: str = "") -> Invariant:
    return Invariant(function.__name__.replace("_", " "), group, sorts, function, chain)


INVARIANTS: Final[tuple[Invariant, ...]] = (
    said(node_lives, 1),
    said(slot_in_range, 1, "slot"),
    said(slot_names_what_lives, 1, "slot"),
    said(free_slot_is_empty, 1, "slot"),
    said(rights_are_none_or_live, 1, "slot"),
    said(never_used_slot_is_blank, 1, "slot"),
    said(generation_begins_at_one, 1, "slot"),
    said(handle_of_the_dead_is_spent, 1, "slot"),
    said(tombstone_has_children, 1, "slot"),
    said(child_is_below_its_parent, 1, "slot"),
    said(root_is_its_endpoints, 1, "slot"),
    said(process_in_range, 1, "process"),
    said(creator_is_older_and_lives, 1, "process"),
    said(ended_process_is_blank, 1, "process"),
    said(endpoint_has_server_and_root, 1, "endpoint"),
    said(ended_endpoint_is_blank, 1, "endpoint"),
    said(no_cut_without_a_cursor, 1),
    said(cursor_to_reap_is_a_tombstone_for_nobody, 1),
    said(cursor_of_a_cut_is_below_it, 1),
    said(rights_are_within_the_parents, 2, "slot"),
    said(message_in_range, 6, "message"),
    said(queued_message_has_its_endpoint, 6, "message"),
    said(message_that_is_over_is_blank, 6, "message"),
    said(message_is_waited_for_as_its_state_says, 6, "message"),
    said(message_was_sent_by_what_its_sender_held, 6, "message"),
    said(handler_serves_the_endpoint, 6, "message"),
    said(debts_of_the_dead_fail, 6, "message"),
    said(ended_endpoint_has_no_queue, 6, "endpoint"),
    said(promise_is_of_rights, 6, "place"),
    said(bound_slot_knows_its_interface, 6, "binding"),
    said(interface_is_bound_to_the_live, 6, "slot"),
    said(account_is_within_its_quota, 7, "process"),
    *(made for chain in CHAINS for made in chain_invariants(chain)),
    said(ancestors_are_the_parents, 1, "slot", "slot", chain="anc"),
    said(ancestor_has_a_child_on_the_way, 1, "slot", "slot", chain="anc"),
    said(descendant_has_no_more_than_its_ancestor, 2, "slot", "slot", chain="anc"),
    said(slot_descends_from_the_root, 1, "slot", chain="anc"),
)


class Lemma(NamedTuple):
    """What follows from the invariants in every state: it is proved once, from them at `at`, and then assumed."""

    says: Invariant
    at: Callable[..., dict[str, list[Any]]]


LEMMAS: Final = (
    Lemma(
        said(ancestor_has_children, 1, "slot", "slot", chain="anc"),
        lambda v, d, a: {"slot": [d, a, v.via(d, a)]},
    ),
)
