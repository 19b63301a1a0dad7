"""The post: messages with their bytes, who is woken, what is charged, and that nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Domain
from cognu.files.limits import Quota, Resource
from cognu.files.post import MAX_BYTES, NAME_BYTES, Box, Gift, Kind, Notice, Post
from cognu.kernel import ALL_RIGHTS, GRANT, NODE, READ, SEND, Cap

NAME = bytes(range(1, NAME_BYTES + 1))


class Two:
    """A server and a client of one interface, each with a box and a quota."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.post: Post = self.authority.post
        self.server, self.client = self.authority.new_process(NODE, 50), self.authority.new_process(NODE, 50)
        self.quotas = Quota(limits={Resource.PIPE: 2 * MAX_BYTES}), Quota(limits={Resource.PIPE: 1000})
        self.boxes: list[Box] = [
            self.post.open(pid, quota) for pid, quota in zip((self.server, self.client), self.quotas, strict=True)
        ]
        self.root = self.post.serve(self.server, NAME, self.client)
        _, self.thing = self.authority.new_server()

    def emit(self, data: bytes = b"ask", wanted: bool = True, gifts: tuple[Gift, ...] = ()) -> int:
        return self.post.emit(self.client, NAME, data, wanted, gifts)

    def receive(self) -> Notice:
        found = self.post.peek(self.server, (), True)
        assert found is not None
        return self.post.take(self.server, found)

    def outcome(self, message: int) -> Notice | None:
        found = self.post.peek(self.client, (message,), False)
        return None if found is None else self.post.take(self.client, found)

    def bytes_held(self) -> tuple[int, int]:
        server, client = (quota.used(Resource.PIPE) for quota in self.quotas)
        return server, client

    def woken(self) -> tuple[bool, bool]:
        """Who was since the last look."""
        server, client = (box.ready.is_set() for box in self.boxes)
        for box in self.boxes:
            box.ready.clear()
        return server, client

    def end(self, pid: int) -> None:
        self.post.close(pid)
        self.authority.end_process(pid)


@pytest.fixture
def two() -> Iterator[Two]:
    made = Two()
    made.woken()
    yield made
    for pid in list(made.post._boxes):
        made.end(pid)
    assert made.bytes_held() == (0, 0)
    assert (made.post._letters, made.post._sent_by) == ({}, {})
    while made.post.peek(made.server, (), True):
        raise AssertionError("something is queued at a process that ended")
    assert not made.authority.kernel.messages.state


def refused(error: E, call: object, *arguments: object) -> None:
    assert callable(call)
    with pytest.raises(FileError) as caught:
        call(*arguments)
    assert caught.value.error is error


def test_a_request_and_its_answer_carry_bytes_and_wake(two: Two) -> None:
    message = two.emit(b"ask")
    assert two.woken() == (True, False)
    assert two.bytes_held() == (0, 3)
    assert two.outcome(message) is None
    assert two.receive() == Notice(Kind.REQUEST, message, 0, NAME, (), b"ask")
    assert two.bytes_held() == (0, 0)
    two.post.answer(two.server, message, b"answer")
    assert two.woken() == (False, True)
    assert two.bytes_held() == (6, 0)
    assert two.outcome(message) == Notice(Kind.ANSWER, message, data=b"answer")
    refused(E.NOMESSAGE, two.post.peek, two.client, (message,), False)


def test_a_request_that_wants_no_answer_has_no_number_for_its_handler(two: Two) -> None:
    two.emit(b"news", wanted=False)
    assert two.receive() == Notice(Kind.REQUEST, 0, 0, NAME, (), b"news")
    assert two.post.peek(two.server, (), True) is None


def test_what_was_found_stays_until_it_is_taken(two: Two) -> None:
    two.emit()
    assert two.post.peek(two.server, (), True) == two.post.peek(two.server, (), True)


def test_only_answers_that_are_waited_for_are_told(two: Two) -> None:
    one, other = two.emit(), two.emit()
    two.receive()
    two.receive()
    two.post.answer(two.server, other, b"other")
    assert two.outcome(one) is None
    assert two.post.peek(two.client, (one, other), False) == Notice(Kind.ANSWER, other, data=b"other")


def test_a_handlers_end_is_told_to_who_waits(two: Two) -> None:
    queued, delivered = two.emit(b"1"), two.emit(b"2")
    two.receive()
    two.woken()
    two.end(two.server)
    assert two.woken()[1]
    assert two.bytes_held() == (0, 0)
    assert two.outcome(queued) == Notice(Kind.FAILED, queued)
    assert two.outcome(delivered) == Notice(Kind.FAILED, delivered)
    refused(E.NOHANDLER, two.emit)


def test_an_answer_outlives_its_handler(two: Two) -> None:
    message = two.emit()
    two.receive()
    two.post.answer(two.server, message, b"last words")
    two.end(two.server)
    assert two.outcome(message) == Notice(Kind.ANSWER, message, data=b"last words")


def test_a_clients_end_is_told_to_who_works_for_it(two: Two) -> None:
    two.emit(b"never seen")
    working = two.receive()
    two.emit(b"taken back")
    two.woken()
    two.end(two.client)
    assert two.woken()[0]
    assert two.receive() == Notice(Kind.CANCELLED, working.message)
    assert two.post.peek(two.server, (), True) is None
    refused(E.NOMESSAGE, two.post.answer, two.server, working.message, b"late")
    assert two.bytes_held() == (0, 0)


def test_revoking_fails_what_was_sent_and_tells_both(two: Two) -> None:
    queued, unwanted, delivered = two.emit(b"1"), two.emit(b"2", wanted=False), two.emit(b"3")
    request = two.receive()
    two.woken()
    two.authority.revoke(two.server, two.root)
    assert two.woken() == (True, True)
    assert two.bytes_held() == (0, 0)
    refused(E.REVOKED, two.post.answer, two.server, request.message, b"late")
    assert two.bytes_held() == (0, 0)
    for message in (queued, delivered):
        assert two.outcome(message) == Notice(Kind.FAILED, message)
    assert unwanted not in two.post._letters
    assert two.receive() == Notice(Kind.CANCELLED, request.message)
    assert two.post.peek(two.server, (), True) is None


def test_capabilities_go_both_ways(two: Two) -> None:
    mine = two.authority.mint(NODE, two.thing, ALL_RIGHTS, two.client)
    message = two.emit(gifts=(Gift(mine, READ), Gift(mine, READ | GRANT)))
    request = two.receive()
    first, second = request.caps
    assert first is not None
    assert second is not None
    assert two.authority.rights(two.server, first) == READ
    assert two.authority.rights(two.server, second) == READ | GRANT
    two.post.answer(two.server, message, b"", (Gift(second, None),))
    answer = two.outcome(message)
    assert answer is not None
    [got] = answer.caps
    assert got is not None
    assert two.authority.rights(two.client, got) == READ | GRANT
    refused(E.REVOKED, two.authority.check, two.server, second, 0)


def test_what_runs_under_a_capability_handed_on_is_cancelled(two: Two) -> None:
    mine = two.authority.mint(NODE, two.thing, ALL_RIGHTS, two.client)
    events: list[str] = []
    two.authority.begin(mine, lambda: events.append("cancelled"))
    two.emit(wanted=False, gifts=(Gift(mine, None),))
    assert events == []
    two.receive()
    assert events == ["cancelled"]


def test_a_gift_that_was_revoked_on_the_way_does_not_come(two: Two) -> None:
    mine = two.authority.mint(NODE, two.thing, ALL_RIGHTS, two.client)
    two.emit(wanted=False, gifts=(Gift(mine, READ), Gift(two.authority.mint(NODE, two.thing, GRANT, two.client), 0)))
    two.authority.delete(two.client, mine)
    missing, there = two.receive().caps
    assert missing is None
    assert there is not None


def test_what_is_refused_leaves_nothing(two: Two) -> None:
    plain = two.authority.mint(NODE, two.thing, READ, two.client)
    mine = two.authority.mint(NODE, two.thing, ALL_RIGHTS, two.client)
    refused(E.ACCES, two.emit, b"x", True, (Gift(mine, READ), Gift(plain, READ)))
    refused(E.INVAL, two.emit, b"x", True, (Gift(mine, READ),) * 5)
    refused(E.INVAL, two.emit, b"x", True, (Gift(mine, 64),))
    refused(E.MSGSIZE, two.emit, bytes(MAX_BYTES + 1))
    refused(E.DQUOT, two.emit, bytes(1001))
    refused(E.NOHANDLER, two.post.emit, two.client, bytes(NAME_BYTES - 1) + b"x", b"", False)
    refused(E.NOHANDLER, two.post.emit, two.server, NAME, b"", False)
    refused(E.ACCES, two.post.emit, two.client, plain, b"", False)
    refused(E.REVOKED, two.post.emit, two.client, Cap(999, 1), b"", False)
    for name in (b"", bytes(NAME_BYTES), b"short"):
        refused(E.INVAL, two.post.bind, two.client, mine, name)
    message = two.emit()
    assert two.receive().caps == ()
    theirs = two.authority.mint(NODE, two.thing, ALL_RIGHTS, two.server)
    refused(E.ACCES, two.post.answer, two.server, message, b"x", (Gift(theirs, READ), Gift(mine, READ)))
    refused(E.MSGSIZE, two.post.answer, two.server, message, bytes(MAX_BYTES + 1))
    refused(E.NOMESSAGE, two.post.answer, two.client, message, b"x")
    two.post.answer(two.server, message, b"answer")
    refused(E.NOMESSAGE, two.post.answer, two.server, message, b"again")
    assert two.outcome(message) == Notice(Kind.ANSWER, message, data=b"answer")


@pytest.mark.parametrize("wanted", [True, False])
def test_a_message_does_not_take_along_what_it_is_sent_by(two: Two, wanted: bool) -> None:
    cap = two.post._handler(two.client, NAME)
    for to in (NAME, cap):
        refused(E.INVAL, two.post.emit, two.client, to, b"act!", wanted, (Gift(cap, None),))
    assert two.post.peek(two.server, (), True) is None
    two.post.emit(two.client, cap, b"act!", False, (Gift(cap, SEND),))
    (child,) = two.receive().caps
    assert child is not None
    assert two.authority.rights(two.server, child) == SEND


@pytest.mark.parametrize("wanted", [True, False])
def test_a_message_that_is_lost_as_it_is_taken_has_one_outcome_on_both_sides(two: Two, wanted: bool) -> None:
    cap = two.post._handler(two.client, NAME)
    message = two.emit(b"act!", wanted)
    two.authority.kernel.enclose(two.client, message, 0, *cap, 0, 1)  # which the post refuses
    told = two.receive()
    assert (told.kind, told.data) == (Kind.CANCELLED, b"")
    assert len(told.caps) == 1
    if wanted:
        assert two.outcome(message) == Notice(Kind.FAILED, message)
    refused(E.NOMESSAGE, two.post.answer, two.server, message, b"done")
    assert two.post.peek(two.server, (), True) is None


def test_capabilities_are_bounded_for_a_handler_too(two: Two) -> None:
    mine = two.authority.mint(NODE, two.thing, ALL_RIGHTS, two.client)
    full = two.authority.new_process(NODE, 1)
    two.post.open(full, Quota())
    two.post.serve(full, NAME, two.client)
    two.emit(wanted=False, gifts=(Gift(mine, READ),))
    found = two.post.peek(full, (), True)
    assert found is not None
    assert two.post.take(full, found).caps == (None,)


def test_an_interface_is_bound_for_what_a_process_makes_from_then_on(two: Two) -> None:
    child, stranger = two.authority.new_process(two.client, 5), two.authority.new_process(NODE, 5)
    two.post.inherit(two.client, child)
    two.post.inherit(NODE, stranger)
    two.post.open(child, Quota())
    two.post.open(stranger, Quota())
    assert two.post.emit(child, NAME, b"hello", False)
    assert two.receive().data == b"hello"
    refused(E.NOHANDLER, two.post.emit, stranger, NAME, b"", False)


def test_what_a_maker_may_not_hand_on_is_not_inherited(two: Two) -> None:
    other = bytes(NAME_BYTES - 1) + b"y"
    two.post.bind(two.client, two.authority.mint(NODE, two.thing, SEND, two.client), other)
    child = two.authority.new_process(two.client, 5)
    two.post.inherit(two.client, child)
    two.post.open(child, Quota())
    assert two.post.emit(child, NAME, b"", False)
    refused(E.NOHANDLER, two.post.emit, child, other, b"", False)


def test_a_later_handler_takes_the_place_of_an_earlier(two: Two) -> None:
    second = two.authority.new_process(NODE, 5)
    two.post.open(second, Quota())
    two.post.serve(second, NAME, two.client)
    two.emit(wanted=False)
    assert two.post.peek(two.server, (), True) is None
    assert two.post.peek(second, (), True) is not None


def test_a_domain_without_room_for_what_it_inherits_is_not_made(two: Two) -> None:
    maker = Domain(two.authority)
    two.post.bind(maker.pid, two.authority.mint(NODE, two.thing, SEND | GRANT, maker.pid), NAME)
    before = set(two.authority.kernel.processes.alive)
    refused(E.DQUOT, Domain, two.authority, maker, 0)
    assert set(two.authority.kernel.processes.alive) == before
    child = Domain(two.authority, maker, 1)
    assert two.post._bound[child.pid] == {NAME}
    for domain in (child, maker):
        domain.release()
    assert not two.post._bound.keys() & {child.pid, maker.pid}


def test_interfaces_that_nobody_has_bound_are_forgotten(two: Two) -> None:
    post = two.post
    mine = two.authority.mint(NODE, two.thing, SEND | GRANT, two.client)
    for number in range(1, 20):
        post.bind(two.client, mine, bytes([number]) * NAME_BYTES)
    assert len(post._numbers) == len(post._bound[two.client]) == 3, "the one served, and the last two bound"
    child = two.authority.new_process(two.client, 5)
    post.inherit(two.client, child)
    assert len(post._bound[child]) == 2
    two.authority.revoke(two.server, two.root)
    refused(E.NOHANDLER, two.emit)
    two.authority.delete(two.client, mine)
    later = two.authority.new_process(two.client, 5)
    post.inherit(two.client, later)
    assert later not in post._bound
    two.authority.end_process(child)
    two.end(two.client)
    assert post._numbers == post._binders == {}
    assert not post._bound


def test_serving_that_is_refused_leaves_no_endpoint(two: Two) -> None:
    poor = two.authority.new_process(NODE, 0)
    two.post.open(poor, Quota())
    refused(E.DQUOT, two.post.serve, two.server, NAME, poor)
    refused(E.DQUOT, two.post.serve, poor, NAME, two.client)
    assert len(two.authority.kernel.endpoints.alive) == 2
    assert two.post.serves(two.server)
    assert not two.post.serves(two.client)
    two.authority.end_server(1)
    assert not two.post.serves(two.server)


def test_a_box_that_two_share_closes_with_the_second(two: Two) -> None:
    two.post.open(two.client, two.quotas[1])
    message = two.emit()
    two.post.close(two.client)
    two.receive()
    two.post.answer(two.server, message, b"still there")
    assert two.outcome(message) == Notice(Kind.ANSWER, message, data=b"still there")
