"""The kernel's messages and interfaces: what must hold, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proofs.small import image, sound

from cognu.kernel import ALL_RIGHTS, GRANT, NODE, READ, SEND, WRITE, Cap, Code, Kernel
from cognu.kernel.state import ANSWERED, CANCELLED, DELIVERED, FAILED, INTERFACES, PLACES, QUEUED
from kernel_world import World, run


class Post(World):
    """`a` serves an endpoint, and `b` has a capability to it with SEND and GRANT."""

    def __init__(self) -> None:
        super().__init__()
        self.served = self.kernel.create_endpoint(self.a)
        self.top = self.handle(self.kernel.endpoints.root[self.served])
        self.cap = self.mint(self.a, self.top, SEND | GRANT, self.b, badge=7)

    def emit(self, wanted: int = 1) -> int:
        message = self.kernel.emit_message(self.b, *self.cap, wanted)
        assert message > 0, Code(-message)
        return message

    def delivered(self) -> int:
        message = self.emit()
        assert self.kernel.receive(self.a, message) == DELIVERED
        return message

    def answered(self) -> int:
        message = self.delivered()
        assert self.kernel.emit_answer(self.a, message) == 0
        return message

    def state(self, message: int) -> int:
        return self.kernel.messages.state[message]

    def end_endpoint(self) -> None:
        assert run(self.kernel, lambda: self.kernel.end_endpoint_step(self.served)) == 0


@pytest.fixture
def post() -> Iterator[Post]:
    made = Post()
    yield made
    sound(made.kernel)


def test_a_message_is_delivered_answered_and_over(post: Post) -> None:
    kernel = post.kernel
    used = kernel.processes.used[post.b]
    message = post.emit()
    assert kernel.take(post.b, message) == 0
    assert kernel.next_message(post.a) == message
    assert kernel.receive(post.a, message) == DELIVERED
    assert kernel.next_message(post.a) == 0
    assert kernel.take(post.b, message) == 0
    assert kernel.processes.used[post.b] == used + 1
    assert kernel.emit_answer(post.a, message) == 0
    assert kernel.take(post.b, message) == ANSWERED
    assert kernel.take(post.b, message) == -Code.NO_MESSAGE
    assert kernel.processes.used[post.b] == used


def test_a_message_whose_answer_nobody_waits_for_is_over_when_delivered(post: Post) -> None:
    used = post.kernel.processes.used[post.b]
    message = post.emit(wanted=0)
    assert post.kernel.take(post.b, message) == -Code.NO_MESSAGE
    assert post.kernel.receive(post.a, message) == DELIVERED
    assert post.kernel.emit_answer(post.a, message) == -Code.NO_MESSAGE
    assert post.state(message) == 0
    assert post.kernel.processes.used[post.b] == used


def test_sending_takes_send(post: Post) -> None:
    plain = post.mint(post.a, post.top, GRANT | READ, post.b)
    assert post.kernel.emit_message(post.b, *plain, 1) == -Code.RIGHTS
    assert post.kernel.emit_message(NODE, *post.cap, 1) == -Code.NOT_HOLDER
    assert post.kernel.emit_message(post.b, post.cap.slot, post.cap.generation + 1, 1) == -Code.REVOKED


def test_only_the_server_receives(post: Post) -> None:
    message = post.emit()
    assert post.kernel.receive(post.b, message) == -Code.NO_MESSAGE
    assert post.kernel.receive(NODE, message) == -Code.NO_MESSAGE
    assert post.state(message) == QUEUED


def test_only_whom_it_was_delivered_to_answers_and_once(post: Post) -> None:
    message = post.emit()
    assert post.kernel.emit_answer(post.a, message) == -Code.NO_MESSAGE
    assert post.kernel.receive(post.a, message) == DELIVERED
    for other in (NODE, post.b, 99):
        assert post.kernel.emit_answer(other, message) == -Code.NO_MESSAGE
    assert post.kernel.emit_answer(post.a, message) == 0
    assert post.kernel.emit_answer(post.a, message) == -Code.NO_MESSAGE


def test_only_the_sender_takes_and_cancels(post: Post) -> None:
    message = post.answered()
    for other in (NODE, post.a, 99):
        assert post.kernel.take(other, message) == post.kernel.cancel(other, message) == -Code.NO_MESSAGE
    assert post.kernel.take(post.b, message) == ANSWERED


def test_numbers_are_never_used_again(post: Post) -> None:
    seen = [post.emit(), post.delivered(), post.answered()]
    for message in seen:
        assert post.kernel.cancel(post.b, message) == 0
    post.kernel.receive(post.a, seen[1])
    seen += [post.emit() for _ in range(3)]
    assert len(set(seen)) == 6


def test_queues_keep_the_order_and_endpoints_take_turns(post: Post) -> None:
    kernel = post.kernel
    other = kernel.create_endpoint(post.a)
    second = post.mint(post.a, post.handle(kernel.endpoints.root[other]), SEND, post.b)
    first_ones = [post.emit() for _ in range(4)]
    second_ones = [kernel.emit_message(post.b, *second, 0) for _ in range(2)]
    assert kernel.cancel(post.b, first_ones.pop(1)) == 0
    order = []
    while message := kernel.next_message(post.a):
        assert kernel.receive(post.a, message) == DELIVERED
        order.append(message)
    assert order == [first_ones[0], second_ones[0], first_ones[1], second_ones[1], first_ones[2]]


def test_cancelling_does_not_take_the_turn_from_others_messages(post: Post) -> None:
    kernel = post.kernel
    other = kernel.create_endpoint(post.a)
    second = post.mint(post.a, post.handle(kernel.endpoints.root[other]), SEND, post.b)
    first = post.emit()
    kernel.emit_message(post.b, *second, 0)
    assert kernel.cancel(post.b, post.emit()) == 0
    assert kernel.next_message(post.a) == first


def test_a_server_may_receive_what_is_not_next(post: Post) -> None:
    messages = [post.emit() for _ in range(3)]
    assert post.kernel.receive(post.a, messages[1]) == DELIVERED
    assert post.kernel.next_message(post.a) == messages[0]


def test_what_was_queued_under_a_revoked_capability_is_not_delivered(post: Post) -> None:
    message, unwanted = post.emit(), post.emit(wanted=0)
    post.revoke(post.a, post.top)
    assert post.kernel.receive(post.a, message) == FAILED
    assert post.kernel.receive(post.a, unwanted) == FAILED
    assert post.state(unwanted) == 0
    assert post.kernel.take(post.b, message) == FAILED
    assert post.kernel.processes.used[post.b] == 0


def test_the_sender_learns_of_the_revocation_before_the_server_looks(post: Post) -> None:
    message = post.emit()
    post.revoke(post.a, post.top)
    assert post.kernel.take(post.b, message) == FAILED
    assert post.kernel.next_message(post.a) == 0


def test_what_was_delivered_under_a_revoked_capability_is_not_answered(post: Post) -> None:
    message = post.delivered()
    post.revoke(post.a, post.top)
    assert post.kernel.emit_answer(post.a, message) == -Code.REVOKED
    assert post.kernel.take(post.b, message) == FAILED
    assert post.kernel.receive(post.a, message) == CANCELLED
    assert post.state(message) == 0


def test_moving_the_capability_away_fails_what_was_sent_by_it(post: Post) -> None:
    message = post.emit()
    assert post.kernel.move(post.b, *post.cap, NODE) > 0
    assert post.kernel.take(post.b, message) == FAILED


def test_an_answer_given_is_not_taken_back(post: Post) -> None:
    message = post.answered()
    post.end_process(post.a)
    assert post.kernel.take(post.b, message) == ANSWERED


@pytest.mark.parametrize("end", [Post.end_endpoint, lambda post: post.end_process(post.a)])
def test_a_handlers_debts_fail_with_it_or_its_endpoint(post: Post, end: Callable[[Post], None]) -> None:
    queued, unwanted, delivered, cancelled = post.emit(), post.emit(wanted=0), post.delivered(), post.delivered()
    assert post.kernel.cancel(post.b, cancelled) == 0
    end(post)
    assert post.kernel.take(post.b, queued) == post.kernel.take(post.b, delivered) == FAILED
    assert post.state(unwanted) == post.state(cancelled) == 0
    assert post.kernel.processes.used[post.b] == 0
    assert not post.kernel.messages.state


def test_an_endpoint_that_ends_with_its_last_capability_fails_its_queue(post: Post) -> None:
    kernel = post.kernel
    messages = [post.emit() for _ in range(3)]
    post.delete(post.a, post.top)
    post.delete(post.b, post.cap)
    assert not kernel.endpoints.alive[post.served]
    assert [kernel.take(post.b, message) for message in messages] == [FAILED] * 3


def test_a_server_that_deletes_its_only_capability_leaves_nothing_queued(post: Post) -> None:
    kernel = post.kernel
    mine = [kernel.emit_message(post.a, *post.top, 1) for _ in range(3)]
    post.revoke(post.a, post.top)
    assert kernel.delete(post.a, *post.top) == 1
    assert (kernel.died, kernel.died_generation) == post.top
    assert kernel.emit_message(NODE, *post.root, 0) == -Code.BUSY
    run(kernel, kernel.reap_step)
    assert [kernel.take(post.a, message) for message in mine] == [FAILED] * 3


def test_cancelling_what_is_queued_leaves_nothing(post: Post) -> None:
    message = post.emit()
    assert post.kernel.cancel(post.b, message) == 0
    assert post.kernel.next_message(post.a) == 0
    assert post.kernel.receive(post.a, message) == -Code.NO_MESSAGE


def test_a_handler_is_told_once_that_its_work_is_not_wanted(post: Post) -> None:
    message = post.delivered()
    assert post.kernel.cancel(post.b, message) == 0
    assert post.kernel.cancel(post.b, message) == post.kernel.take(post.b, message) == -Code.NO_MESSAGE
    assert post.kernel.emit_answer(post.a, message) == -Code.NO_MESSAGE
    assert post.kernel.next_message(post.a) == message
    assert post.kernel.receive(post.a, message) == CANCELLED
    assert post.kernel.receive(post.a, message) == -Code.NO_MESSAGE
    assert post.kernel.processes.used[post.b] == 1


def test_the_handlers_that_serve_a_client_learn_of_its_death(post: Post) -> None:
    kernel = post.kernel
    used = kernel.processes.used[NODE] - 101
    queued, delivered, cancelled, answered = post.emit(), post.delivered(), post.delivered(), post.answered()
    assert kernel.cancel(post.b, cancelled) == 0
    post.end_process(post.b)
    assert post.state(queued) == post.state(answered) == 0
    told = []
    while message := kernel.next_message(post.a):
        assert kernel.cancel(NODE, message) == kernel.take(NODE, message) == -Code.NO_MESSAGE
        told.append((message, kernel.receive(post.a, message)))
    assert sorted(told) == [(delivered, CANCELLED), (cancelled, CANCELLED)]
    assert kernel.processes.used[NODE] == used


def test_notices_of_a_client_of_a_client_pass_upwards(post: Post) -> None:
    kernel = post.kernel
    inner = kernel.create_process(post.b, 5)
    cap = post.mint(post.b, post.cap, SEND, inner, badge=7)
    message = kernel.emit_message(inner, *cap, 1)
    assert kernel.receive(post.a, message) == DELIVERED
    post.end_process(inner)
    assert kernel.messages.sender[message] == post.b
    post.end_process(post.b)
    assert kernel.messages.sender[message] == NODE
    assert kernel.receive(post.a, message) == CANCELLED


def test_a_full_creator_takes_over_notices_without_going_over() -> None:
    kernel = Kernel(8)
    endpoint = kernel.create_endpoint(NODE)
    client = kernel.create_process(NODE, 3)
    inner = kernel.create_process(client, 2)
    cap = kernel.mint(NODE, kernel.endpoints.root[endpoint], 1, SEND, 0, inner)
    message = kernel.emit_message(inner, cap, 1, 1)
    assert kernel.receive(NODE, message) == DELIVERED
    assert kernel.processes.used[client] == kernel.processes.quota[client] == 3
    assert run(kernel, lambda: kernel.end_process_step(inner)) == 0
    assert kernel.processes.used[client] == 1
    assert run(kernel, lambda: kernel.end_process_step(client)) == 0
    assert kernel.receive(NODE, message) == CANCELLED
    assert kernel.processes.used[NODE] == 1


def test_messages_count_in_the_senders_quota(post: Post) -> None:
    small = post.kernel.create_process(NODE, 2)
    cap = post.mint(post.a, post.top, SEND, small)
    message = post.kernel.emit_message(small, *cap, 1)
    assert post.kernel.emit_message(small, *cap, 1) == -Code.QUOTA
    assert post.kernel.mint(small, *cap, SEND, 0, small) == -Code.QUOTA
    assert post.kernel.receive(post.a, message) == DELIVERED
    assert post.kernel.emit_answer(post.a, message) == 0
    assert post.kernel.emit_message(small, *cap, 1) == -Code.QUOTA
    assert post.kernel.take(small, message) == ANSWERED
    assert post.kernel.emit_message(small, *cap, 0) > 0


# Every state with every event


REACH: dict[int, Callable[[Post], int]] = {QUEUED: Post.emit, DELIVERED: Post.delivered, ANSWERED: Post.answered}


def reach_cancelled(post: Post) -> int:
    message = post.delivered()
    assert post.kernel.cancel(post.b, message) == 0
    return message


def reach_failed(post: Post) -> int:
    message = post.emit()
    post.end_endpoint()
    return message


REACH |= {CANCELLED: reach_cancelled, FAILED: reach_failed}
EVENTS: dict[str, Callable[[Post, int], int]] = {
    "receive": lambda post, message: post.kernel.receive(post.a, message),
    "emit_answer": lambda post, message: post.kernel.emit_answer(post.a, message),
    "take": lambda post, message: post.kernel.take(post.b, message),
    "cancel": lambda post, message: post.kernel.cancel(post.b, message),
}
OVER = 0
MOVES = {
    (QUEUED, "receive"): (DELIVERED, DELIVERED),
    (QUEUED, "take"): (0, QUEUED),
    (QUEUED, "cancel"): (0, OVER),
    (DELIVERED, "emit_answer"): (0, ANSWERED),
    (DELIVERED, "take"): (0, DELIVERED),
    (DELIVERED, "cancel"): (0, CANCELLED),
    (ANSWERED, "take"): (ANSWERED, OVER),
    (ANSWERED, "cancel"): (0, OVER),
    (CANCELLED, "receive"): (CANCELLED, OVER),
    (FAILED, "take"): (FAILED, OVER),
    (FAILED, "cancel"): (0, OVER),
}
"""Result and next state; all else is refused."""


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", REACH)
def test_every_state_with_every_event(post: Post, state: int, event: str) -> None:
    message = REACH[state](post)
    assert post.state(message) == state
    before = image(post.kernel)
    result = EVENTS[event](post, message)
    if (state, event) not in MOVES:
        assert result == -Code.NO_MESSAGE
        assert image(post.kernel) == before
        return
    assert (result, post.state(message)) == MOVES[state, event]


# Capabilities that go with messages


def test_a_capability_comes_with_a_request_as_a_child_with_fewer_rights(post: Post) -> None:
    kernel = post.kernel
    mine = post.mint(NODE, post.root, ALL_RIGHTS, post.b, badge=3)
    message = post.emit()
    assert kernel.enclose(post.b, message, 0, *mine, READ, 0) == 0
    got = post.handle(kernel.accept(post.a, message, 0))
    assert post.holds(post.a, got, READ)
    assert kernel.check(post.a, *got, SEND) == -Code.RIGHTS
    assert kernel.slots.badge[got.slot] == 3
    assert post.holds(post.b, mine, ALL_RIGHTS)
    assert kernel.accept(post.a, message, 0) == -Code.INVALID
    assert kernel.receive(post.a, message) == DELIVERED
    post.revoke(post.b, mine)
    assert not post.holds(post.a, got)


def test_a_capability_itself_comes_with_an_answer(post: Post) -> None:
    kernel = post.kernel
    mine = post.mint(NODE, post.root, ALL_RIGHTS, post.a)
    message = post.delivered()
    assert kernel.enclose(post.a, message, 3, *mine, 0, 1) == 0
    assert kernel.accept(post.b, message, 3) == -Code.NO_MESSAGE
    assert kernel.emit_answer(post.a, message) == 0
    assert kernel.accept(post.a, message, 3) == -Code.NO_MESSAGE
    assert post.holds(post.a, mine)
    got = post.handle(kernel.accept(post.b, message, 3))
    assert got.slot == mine.slot
    assert post.holds(post.b, got, ALL_RIGHTS)
    assert not post.holds(post.a, mine)
    assert kernel.take(post.b, message) == ANSWERED


def test_enclosing_takes_grant_and_the_rights_themselves(post: Post) -> None:
    kernel = post.kernel
    plain = post.mint(NODE, post.root, READ, post.b)
    granting = post.mint(NODE, post.root, READ | GRANT, post.b)
    message = post.emit()
    assert kernel.enclose(post.b, message, 0, *plain, READ, 0) == -Code.RIGHTS
    assert kernel.enclose(post.b, message, 0, *plain, 0, 1) == -Code.RIGHTS
    assert kernel.enclose(post.b, message, 0, *granting, SEND, 0) == -Code.RIGHTS
    assert kernel.enclose(post.b, message, 0, *post.top, SEND, 0) == -Code.NOT_HOLDER
    assert kernel.enclose(post.b, message, 0, *granting, 64, 0) == -Code.INVALID
    for place in (-1, PLACES, 99):
        assert kernel.enclose(post.b, message, place, *granting, READ, 0) == -Code.INVALID
        assert kernel.accept(post.a, message, place) == -Code.INVALID
    assert kernel.accept(post.a, message, 0) == -Code.INVALID
    assert kernel.enclose(post.b, message, 0, *granting, READ, 0) == 0


def test_no_place_reaches_into_another_message(post: Post) -> None:
    kernel = post.kernel
    mine = post.mint(NODE, post.root, ALL_RIGHTS, post.b)
    other = kernel.create_endpoint(NODE)
    cap = post.mint(NODE, post.handle(kernel.endpoints.root[other]), SEND, post.b)
    before, between, after = (
        kernel.emit_message(post.b, *cap, 1), post.emit(), kernel.emit_message(post.b, *cap, 1)
    )  # fmt: skip
    assert kernel.enclose(post.b, before, PLACES - 1, *mine, READ, 0) == 0
    assert kernel.enclose(post.b, after, 0, *mine, READ, 0) == 0
    assert kernel.accept(post.a, between, -1) == kernel.accept(post.a, between, PLACES) == -Code.INVALID
    assert kernel.enclose(post.b, between, -1, *mine, WRITE, 0) == -Code.INVALID
    assert kernel.slots.rights[kernel.accept(NODE, before, PLACES - 1)] & WRITE == 0


def test_only_sender_and_handler_enclose_each_in_its_time(post: Post) -> None:
    kernel = post.kernel
    mine = post.mint(NODE, post.root, ALL_RIGHTS, post.b)
    theirs = post.mint(NODE, post.root, ALL_RIGHTS, post.a)
    message = post.emit()
    assert kernel.enclose(post.a, message, 0, *theirs, READ, 0) == -Code.NO_MESSAGE
    assert kernel.enclose(post.b, message, 0, *mine, READ, 0) == 0
    assert kernel.accept(post.b, message, 0) == -Code.NO_MESSAGE
    assert kernel.receive(post.a, message) == DELIVERED
    assert kernel.enclose(post.b, message, 0, *mine, READ, 0) == -Code.NO_MESSAGE
    assert kernel.accept(post.a, message, 0) == -Code.NO_MESSAGE, "what was not accepted in time is gone"
    assert kernel.enclose(post.a, message, 0, *theirs, READ, 0) == 0
    assert kernel.emit_answer(post.a, message) == 0
    assert kernel.enclose(post.a, message, 1, *theirs, READ, 0) == -Code.NO_MESSAGE
    assert kernel.accept(post.b, message, 1) == -Code.INVALID
    assert kernel.accept(post.b, message, 0) > 0


def test_revoking_reaches_what_is_under_way(post: Post) -> None:
    kernel = post.kernel
    above = post.mint(NODE, post.root, ALL_RIGHTS, post.a)
    mine = post.mint(post.a, above, ALL_RIGHTS, post.b)
    message = post.emit()
    used = kernel.processes.used[post.b]
    assert kernel.enclose(post.b, message, 0, *mine, READ, 0) == 0
    assert kernel.processes.used[post.b] == used
    post.revoke(post.a, above)
    before = image(kernel)
    assert kernel.accept(post.a, message, 0) == -Code.REVOKED
    assert image(kernel) == before


def test_nothing_is_accepted_from_a_lost_message(post: Post) -> None:
    mine = post.mint(NODE, post.root, ALL_RIGHTS, post.b)
    message = post.emit()
    assert post.kernel.enclose(post.b, message, 0, *mine, READ, 0) == 0
    post.revoke(post.a, post.top)
    assert post.kernel.accept(post.a, message, 0) == -Code.REVOKED


def test_accepting_over_quota_leaves_it_enclosed(post: Post) -> None:
    kernel = post.kernel
    server = kernel.create_process(NODE, 2)
    endpoint = kernel.create_endpoint(server)
    root = post.handle(kernel.endpoints.root[endpoint])
    spare = post.mint(NODE, post.root, SEND, server)
    cap = post.mint(server, root, SEND, post.b)
    message = kernel.emit_message(post.b, *cap, 1)
    mine = post.mint(NODE, post.root, ALL_RIGHTS, post.b)
    assert kernel.enclose(post.b, message, 0, *mine, READ, 0) == 0
    assert kernel.accept(server, message, 0) == -Code.QUOTA
    post.delete(server, spare)
    assert kernel.accept(server, message, 0) > 0


# Interfaces


def test_an_interface_is_bound_per_process_and_inherited_by_its_children(post: Post) -> None:
    kernel = post.kernel
    inner = kernel.create_process(post.b, 9)
    assert kernel.bound(post.b, 5) == kernel.inherit(post.b, inner, 5) == -Code.NO_HANDLER
    assert kernel.bind(post.b, *post.cap, 5) == 0
    assert kernel.bound(post.b, 5) == post.cap.slot
    assert kernel.bound(inner, 5) == kernel.bound(post.a, 5) == kernel.bound(post.b, 6) == -Code.NO_HANDLER
    got = post.handle(kernel.inherit(post.b, inner, 5))
    assert kernel.bound(inner, 5) == got.slot
    assert kernel.slots.parent[got.slot] == post.cap.slot
    assert kernel.slots.badge[got.slot] == 7
    assert kernel.emit_message(inner, *got, 1) > 0


def test_an_interface_bound_anew_forgets_the_old(post: Post) -> None:
    kernel = post.kernel
    other = post.mint(NODE, post.root, SEND, post.b)
    assert kernel.bind(post.b, *post.cap, 5) == kernel.bind(post.b, *other, 5) == 0
    assert kernel.bound(post.b, 5) == other.slot
    assert kernel.bind(post.b, *other, 6) == 0
    assert kernel.bound(post.b, 5) == -Code.NO_HANDLER
    assert kernel.bound(post.b, 6) == other.slot


def test_a_binding_ends_with_its_capability(post: Post) -> None:
    kernel = post.kernel
    ends: list[Callable[[Cap], object]] = [
        lambda cap: post.delete(post.b, cap),
        lambda cap: post.revoke(NODE, post.root),
        lambda cap: kernel.move(post.b, *cap, post.b),
        lambda cap: kernel.move(post.b, *cap, post.a),
    ]
    for end in ends:
        cap = post.mint(NODE, post.root, SEND | GRANT, post.b)
        assert kernel.bind(post.b, *cap, 5) == 0
        end(cap)
        assert kernel.bound(post.b, 5) == -Code.NO_HANDLER
        assert not kernel.processes.bound


def test_binding_and_inheriting_are_refused_with_reason(post: Post) -> None:
    kernel = post.kernel
    plain = post.mint(NODE, post.root, READ, post.b)
    assert kernel.bind(post.b, *plain, 5) == -Code.RIGHTS
    for interface in (-1, 0, INTERFACES, INTERFACES + 5):
        assert kernel.bind(post.b, *post.cap, interface) == -Code.INVALID
        assert kernel.bound(post.b, interface) == kernel.inherit(post.b, post.a, interface) == -Code.INVALID
    kept = post.mint(NODE, post.root, SEND, post.b)
    assert kernel.bind(post.b, *kept, 5) == 0
    assert kernel.inherit(post.b, kernel.create_process(post.b, 9), 5) == -Code.RIGHTS
    assert kernel.bind(post.b, *post.cap, 6) == 0
    assert kernel.inherit(post.b, 99, 6) == -Code.NO_PROCESS
    assert kernel.inherit(99, post.b, 6) == -Code.NO_HANDLER
    assert kernel.inherit(post.b, kernel.create_process(post.b, 0), 6) == -Code.QUOTA


# All of it


OPERATIONS = {
    "check": 4, "mint": 6, "move": 4, "delete": 3, "reap_step": 0, "revoke_step": 3, "create_endpoint": 1,
    "end_endpoint_step": 1, "create_process": 2, "end_process_step": 1, "emit_message": 4, "next_message": 1,
    "receive": 2, "emit_answer": 2, "take": 2, "cancel": 2, "enclose": 7, "accept": 3, "bind": 4, "bound": 2,
    "inherit": 3,
}  # fmt: skip
"""How many arguments each takes."""


def test_these_are_all_operations() -> None:
    methods = {name for name in dir(Kernel) if not name.startswith("_")}
    assert methods == set(OPERATIONS)


@given(st.data())
def test_whatever_numbers_an_operation_is_given_it_answers_and_changes_nothing_when_it_refuses(
    data: st.DataObject,
) -> None:
    post = Post()
    post.answered()
    post.emit()
    numbers = st.integers(-2, 8) | st.integers() | st.sampled_from([ALL_RIGHTS, 64, 1 << 64])
    for name in data.draw(st.lists(st.sampled_from(list(OPERATIONS)), max_size=8)):
        arguments = [data.draw(numbers) for _ in range(OPERATIONS[name])]
        before = image(post.kernel)
        result = getattr(post.kernel, name)(*arguments)
        if result < 0:
            assert Code(-result)
            assert image(post.kernel) == before
        sound(post.kernel)


def test_messages_and_bindings_leave_nothing_behind(post: Post) -> None:
    kernel = post.kernel

    def size() -> int:
        parts = [part for part in vars(kernel).values() if not isinstance(part, int)]
        return sum(len(table) for part in parts for table in vars(part).values())

    def live_and_die() -> None:
        client = kernel.create_process(NODE, 10)
        cap = post.mint(post.a, post.top, SEND | GRANT, client)
        assert kernel.bind(client, *cap, 9) == 0
        messages = [kernel.emit_message(client, *cap, wanted) for wanted in (0, 1, 1)]
        for message in messages[:2]:
            assert kernel.enclose(client, message, 0, *cap, SEND, 0) == 0
            assert kernel.receive(post.a, message) == DELIVERED
        assert kernel.enclose(post.a, messages[1], 3, *post.top, SEND, 0) == 0
        post.end_process(client)
        assert kernel.receive(post.a, messages[1]) == CANCELLED

    live_and_die()
    before = size()
    for _ in range(20):
        live_and_die()
    assert size() == before
