"""The session's core: two real ends in memory, joined by links that are cut at any byte."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, LinkBroken, Misuse, ProtocolError
from cognu.mesh import session_core
from cognu.mesh.frames import (
    PAYLOAD_LIMIT,
    Hello,
    pack_hello,
    parse_hello,
)
from cognu.mesh.session_channel import CHANNEL_WINDOW, ChannelState, kind_of
from cognu.mesh.session_core import (
    CHANNEL_LIMIT,
    EPOCH_LIMIT,
    QUEUE_LOW,
    SessionCore,
    Timing,
)
from mesh_core_kit import SECOND, Pair, drain, linked


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_written_is_read_and_the_end_is_seen(side: int) -> None:
    pair = linked()
    channel = pair.cores[side].open("label ü")
    pair.cores[side].write(channel, [b"one ", bytearray(b"two "), memoryview(b"three")])
    pair.cores[side].end(channel)
    pair.settle()
    (theirs,) = pair.opened[1 - side]
    assert theirs.label == "label ü"
    assert drain(pair.cores[1 - side], theirs) == b"one two three"
    assert pair.cores[1 - side].read(theirs, 1) == b""
    pair.cores[1 - side].write(theirs, [b"answer"])
    pair.cores[1 - side].close(theirs)
    pair.settle()
    assert drain(pair.cores[side], channel) == b"answer"
    pair.cores[side].close(channel)
    pair.quiet()
    assert pair.cores[0].channels == {}
    assert pair.cores[1].channels == {}


def test_a_buffer_may_change_after_the_write() -> None:
    pair = linked()
    channel = pair.cores[0].open("x")
    buffer = bytearray(b"before")
    pair.cores[0].write(channel, [buffer, memoryview(buffer).toreadonly()])
    buffer[:] = b"AFTER!"
    pair.settle()
    assert drain(pair.cores[1], pair.opened[1][0]) == b"beforebefore"


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 300_000)),
        st.tuples(st.just("fill"), st.integers(0, 1), st.just(0), st.integers(1, 400_000)),
        st.tuples(st.just("carry"), st.integers(0, 1), st.just(0), st.integers(1, 400_000)),
        st.tuples(st.just("carry"), st.integers(0, 1), st.just(0), st.integers(1, 100)),
        st.tuples(st.just("read"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 300_000)),
        st.tuples(st.just("cut"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("half"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("link"), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS, st.integers(0, 1 << 30))
def test_bytes_arrive_once_and_in_order_whatever_is_cut(actions: list[tuple[str, int, int, int]], seed: int) -> None:
    source = random.Random(seed)
    pair = linked()
    # Both sides opened channels; each channel is written by both.
    channels: list[dict[int, ChannelState]] = [{}, {}]
    for index, side in enumerate((0, 1, 0)):
        channels[side][index] = pair.cores[side].open(str(index))
    pair.settle()
    for side in (0, 1):
        for channel in pair.opened[side]:
            channels[side][int(channel.label)] = channel
    sent = {(side, index): bytearray() for side in (0, 1) for index in range(3)}
    got = {(side, index): bytearray() for side in (0, 1) for index in range(3)}

    def read(side: int, index: int, count: int) -> None:
        data = pair.cores[side].read(channels[side][index], count)
        got[1 - side, index] += data or b""

    for action, side, index, count in actions:
        if action == "write":
            data = source.randbytes(count)
            sent[side, index] += data
            pair.cores[side].write(channels[side][index], [data])
        elif action == "fill":
            pair.fill(side, count)
        elif action == "carry":
            pair.carry(side, count)
        elif action == "read":
            read(side, index, count)
        elif action == "cut":
            pair.cut()
        else:
            pair.link(answer_arrives=action == "link")
    pair.link()
    while any(len(got[key]) < len(sent[key]) for key in sent):
        before = sum(len(data) for data in got.values())
        pair.settle()
        for side, index in sent:
            read(side, index, 1 << 24)
        assert sum(len(data) for data in got.values()) > before, "the session stands still"
    assert got == sent
    pair.settle()
    assert all(core.alive for core in pair.cores)


@contextmanager
def overtaken(error: E) -> Iterator[None]:
    """Passes over the one refusal that a greeting which was overtaken may get."""
    try:
        yield
    except ProtocolError as refusal:
        if refusal.error is not error:
            raise


@dataclass
class Crossing:
    """Two ends that may have several links under way at once, as when both dial: greetings cross and overtake."""

    pair: Pair = field(default_factory=Pair)
    hellos: list[bytes] = field(default_factory=list)
    answers: list[tuple[bytes, list[bytearray]]] = field(default_factory=list)
    on: list[list[bytearray] | None] = field(default_factory=lambda: [None, None])

    def hello(self) -> None:
        self.hellos.append(pack_hello(self.pair.cores[1].hello()))

    def answer(self, which: int) -> None:
        """The leader takes any hello that is under way."""
        if not self.hellos:
            return
        data = self.hellos.pop(which % len(self.hellos))
        wires = [bytearray(), bytearray()]
        with overtaken(E.STALE):
            answer = self.pair.cores[0].take_hello(parse_hello(data), random.randbytes(16), 0)
            self.on[0] = wires
            self.answers.append((pack_hello(answer), wires))

    def use(self, which: int) -> None:
        """The follower takes any answer that is under way."""
        if not self.answers:
            return
        data, wires = self.answers.pop(which % len(self.answers))
        with overtaken(E.ALREADY):
            self.pair.cores[1].take_use(parse_hello(data), 0)
            self.on[1] = wires

    def fill(self, side: int) -> None:
        wires = self.on[side]
        if wires is not None:
            wires[side] += b"".join(self.pair.cores[side].output(1 << 16, 0))

    def carry(self, side: int, count: int) -> None:
        wires = self.on[1 - side]
        if wires is not None and wires[side]:
            self.pair.cores[1 - side].receive(bytes(wires[side][:count]), 0)
            del wires[side][:count]
        self.pair.note()

    def cut(self, side: int) -> None:
        self.on[side] = None
        self.pair.cores[side].link_down()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hello", "answer", "use", "fill", "carry", "write", "cut", "answer", "use", "carry"]),
            st.integers(0, 1), st.integers(1, 200),
        ), max_size=80,
    )
)  # fmt: skip
def test_links_that_cross_lose_no_session_and_no_byte(steps: list[tuple[str, int, int]]) -> None:
    crossing = Crossing()
    pair = crossing.pair
    crossing.hello()
    crossing.answer(0)
    mine = [pair.cores[0].open("leader's")]
    sent = [bytearray(), bytearray()]
    for number, (action, side, count) in enumerate(steps):
        if action == "hello":
            crossing.hello()
        elif action == "answer":
            crossing.answer(count)
        elif action == "use":
            crossing.use(count)
        elif action == "fill":
            crossing.fill(side)
        elif action == "carry":
            crossing.carry(side, count)
        elif action == "cut":
            crossing.cut(side)
        else:
            if len(mine) == 1 and pair.cores[1].alive:
                mine.append(pair.cores[1].open("follower's"))
            if side < len(mine):
                sent[side] += (data := number.to_bytes(2, "big") * 40)
                pair.cores[side].write(mine[side], [data])
    while crossing.answers:
        crossing.use(0)
    crossing.hello()
    crossing.answer(len(crossing.hellos) - 1)
    crossing.use(len(crossing.answers) - 1)
    assert crossing.on[0] is crossing.on[1] is not None
    for _ in range(20):
        for side in (0, 1):
            crossing.fill(side)
            crossing.carry(side, 1 << 20)
    for side, channel in enumerate(mine):
        assert channel.error is None
        (theirs,) = pair.opened[1 - side]
        assert drain(pair.cores[1 - side], theirs) == sent[side]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 90)), max_size=80), st.integers(0, 5))
def test_open_and_close_survive_cuts_at_any_byte(steps: list[tuple[int, int]], every: int) -> None:
    pair = linked()
    mine = pair.cores[0].open("one")
    theirs = pair.cores[1].open("two")
    pair.cores[0].write(mine, [b"data of one"])
    pair.cores[0].close(mine)
    pair.cores[1].write(theirs, [b"data of two"])
    pair.cores[1].close(theirs, E.NOENT, "no such thing")
    for number, (side, count) in enumerate(steps):
        pair.fill(side)
        pair.carry(side, count)
        if every and number % every == 0:
            pair.cut()
            pair.link(answer_arrives=number % 2 == 0)
    pair.link()
    pair.settle()
    (at_follower,), (at_leader,) = pair.opened[1], pair.opened[0]
    assert drain(pair.cores[1], at_follower) == b"data of one"
    assert pair.cores[0].read(at_leader, 100) == b"data of two"
    with pytest.raises(LinkBroken) as caught:
        pair.cores[0].read(at_leader, 100)
    assert (caught.value.error, caught.value.detail) == (E.NOENT, "no such thing")
    pair.cores[1].close(at_follower)
    pair.cores[0].close(at_leader)
    pair.quiet()
    pair.link()
    pair.quiet()
    assert pair.cores[0].channels == pair.cores[1].channels == {}
    assert pair.closed[0] == [mine, at_leader] or pair.closed[0] == [at_leader, mine]


def test_a_session_nobody_answered_is_offered_again_with_what_was_written() -> None:
    pair = Pair()
    pair.link(answer_arrives=False)
    channel = pair.cores[0].open("early")
    pair.cores[0].write(channel, [b"hello"])
    pair.fill(0)
    pair.cut()
    pair.link()
    pair.settle()
    assert drain(pair.cores[1], pair.opened[1][0]) == b"hello"


@pytest.mark.parametrize("restarted", [0, 1])
def test_a_new_boot_id_means_that_the_session_is_lost(restarted: int) -> None:
    pair = linked()
    stays = 1 - restarted
    channel = pair.cores[stays].open("x")
    pair.settle()
    pair.cut()
    pair.cores[restarted] = SessionCore(restarted == 0, b"C" * 16, Timing(), "again")
    pair.link()
    with pytest.raises(LinkBroken) as caught:
        pair.cores[stays].read(channel, 1)
    assert caught.value.error is E.RESTARTED
    with pytest.raises(LinkBroken):
        pair.cores[stays].write(channel, [b"x"])
    fresh = pair.cores[stays].open("new")
    pair.cores[stays].write(fresh, [b"goes on"])
    pair.settle()
    assert drain(pair.cores[restarted], pair.opened[restarted][-1]) == b"goes on"


def test_a_session_is_not_resumed_under_another_boot_id_though_its_number_is_known() -> None:
    pair = linked()
    leader, follower = pair.cores
    channel = leader.open("x")
    pair.settle()
    pair.cut()
    answer = leader.take_hello(replace(follower.hello(), boot=b"C" * 16), b"I" * 16, 0)
    assert answer.fresh
    with pytest.raises(LinkBroken) as caught:
        leader.read(channel, 1)
    assert caught.value.error is E.RESTARTED


@pytest.mark.parametrize("loser", [0, 1])
def test_a_side_that_gave_the_session_up_ends_it_for_the_other(loser: int) -> None:
    pair = linked()
    keeper = 1 - loser
    channel = pair.cores[keeper].open("x")
    pair.cores[keeper].write(channel, [b"lost"])
    pair.settle()
    pair.cut()
    pair.cores[loser].lose(E.SESSIONLOST, "away")
    pair.link()
    pair.settle()
    with pytest.raises(LinkBroken) as caught:
        pair.cores[keeper].read(channel, 1)
    assert caught.value.error is E.AWAY
    # What was sent on the lost session does not appear in the new one.
    assert pair.cores[loser].channels == {}


def test_what_came_before_the_loss_can_still_be_read() -> None:
    pair = linked()
    channel = pair.cores[0].open("x")
    pair.cores[0].write(channel, [b"before"])
    pair.settle()
    theirs = pair.opened[1][0]
    pair.cores[1].lose(E.SESSIONLOST, "away")
    assert pair.cores[1].read(theirs, 100) == b"before"
    with pytest.raises(LinkBroken):
        pair.cores[1].read(theirs, 100)


def test_a_slow_reader_holds_up_its_own_channel_only() -> None:
    pair = linked()
    slow, fast = pair.cores[0].open("slow"), pair.cores[0].open("fast")
    pair.cores[0].write(slow, [bytes(3 * CHANNEL_WINDOW)])
    pair.settle()
    assert slow.queued == 2 * CHANNEL_WINDOW
    pair.cores[0].write(fast, [b"through"])
    pair.settle()
    at_slow, at_fast = pair.opened[1]
    assert drain(pair.cores[1], at_fast) == b"through"
    total = 0
    while total < 3 * CHANNEL_WINDOW:
        total += len(pair.cores[1].read(at_slow, 1 << 24) or b"")
        pair.settle()
    assert slow.queued == 0


def test_the_window_stops_what_is_taken_from_the_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_core, "SESSION_WINDOW", 100_000)
    pair = linked()
    channel = pair.cores[0].open("x")
    pair.cores[0].write(channel, [bytes(1_000_000)])
    while pair.fill(0):
        pass
    pair.wires[0].clear()
    assert 100_000 <= 1_000_000 - channel.queued < 400_000
    assert not pair.cores[0].wants_output
    pair.cut()
    pair.link()
    pair.settle()
    # What the window held back goes on as the acknowledgements come, at the latest with a tick.
    while channel.queued:
        pair.quiet()
    assert len(drain(pair.cores[1], pair.opened[1][0])) == 1_000_000


def test_what_a_session_holds_while_the_other_side_is_away_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_core, "SESSION_WINDOW", 100_000)
    pair = linked()
    channels = [pair.cores[0].open(str(number)) for number in range(3)]
    for channel in channels:
        pair.cores[0].write(channel, [bytes(1_000_000)])
    while pair.fill(0):
        pass
    pair.cut()
    held = pair.cores[0]._outbox.size
    assert held < 100_000 + PAYLOAD_LIMIT
    for _ in range(10):  # each new link is answered by nobody
        pair.link(answer_arrives=False)
        while pair.fill(0):
            pass
        pair.cut()
        assert pair.cores[0]._outbox.size == held
        assert all(channel.queued > QUEUE_LOW for channel in channels)  # so that who writes waits
    pair.link()
    while any(channel.queued for channel in channels):
        pair.quiet()
    for theirs in pair.opened[1]:
        assert len(drain(pair.cores[1], theirs)) == 1_000_000


def test_both_sides_may_close_with_more_queued_than_there_is_credit() -> None:
    pair = linked()
    channel = pair.cores[0].open("x")
    pair.settle()
    theirs = pair.opened[1][0]
    pair.cores[0].write(channel, [bytes(4 * CHANNEL_WINDOW)])
    pair.cores[1].write(theirs, [bytes(4 * CHANNEL_WINDOW)])
    pair.settle()
    pair.cores[0].close(channel)
    pair.cores[1].close(theirs)
    for _ in range(4):
        pair.quiet()
    assert pair.cores[0].channels == pair.cores[1].channels == {}


@pytest.mark.parametrize("closer", [0, 1])
def test_a_close_is_acknowledged_at_once(closer: int) -> None:
    pair = linked()
    channel = pair.cores[0].open("x")
    pair.settle()
    (theirs,) = pair.opened[1]
    pair.cores[closer].close([channel, theirs][closer])
    pair.settle()  # no tick
    assert pair.closed[closer] == [[channel, theirs][closer]]
    assert pair.closed[1 - closer] == []


def test_data_that_crosses_a_close_is_dropped_and_the_session_goes_on() -> None:
    pair = linked()
    channel = pair.cores[0].open("x")
    pair.settle()
    theirs = pair.opened[1][0]
    pair.cores[1].write(theirs, [bytes(CHANNEL_WINDOW)])
    while pair.fill(1):
        pass
    pair.cores[0].close(channel)
    pair.fill(0)
    pair.carry(1, len(pair.wires[1]))
    pair.quiet()
    pair.cores[1].close(theirs)
    pair.quiet()
    assert all(core.alive and not core.channels for core in pair.cores)


def test_what_came_on_the_old_link_after_the_hello_is_not_delivered_twice() -> None:
    crossing = Crossing()
    pair = crossing.pair
    crossing.hello()
    crossing.answer(0)
    crossing.use(0)
    channel = pair.cores[0].open("x")
    pair.cores[0].write(channel, [b"one "])
    crossing.hello()
    crossing.fill(0)
    crossing.carry(0, 1000)
    pair.cores[0].write(channel, [b"two "])
    crossing.fill(0)
    crossing.carry(0, 1000)
    crossing.answer(0)
    crossing.use(0)
    pair.cores[0].write(channel, [b"three"])
    crossing.fill(0)
    crossing.carry(0, 1000)
    (theirs,) = pair.opened[1]
    assert drain(pair.cores[1], theirs) == b"one two three"


def test_writing_to_a_closed_channel_says_who_closed_it() -> None:
    pair = linked()
    channel = pair.cores[0].open("x")
    pair.settle()
    pair.cores[1].close(pair.opened[1][0])
    pair.settle()
    with pytest.raises(LinkBroken) as caught:
        pair.cores[0].write(channel, [b"x"])
    assert caught.value.error is E.PIPE
    pair.cores[0].close(channel)
    with pytest.raises(LinkBroken, match="closed here"):
        pair.cores[0].write(channel, [b"x"])


def test_too_many_channels_are_refused_one_by_one() -> None:
    pair = linked()
    for number in range(CHANNEL_LIMIT):
        pair.cores[0].open(str(number))
    with pytest.raises(LinkBroken) as caught:
        pair.cores[0].open("more")
    assert caught.value.error is E.NFILE
    early = pair.cores[1].open("crossing")
    pair.settle()
    with pytest.raises(LinkBroken) as caught:
        pair.cores[1].read(early, 1)
    assert caught.value.error is E.NFILE
    assert pair.cores[0].alive


def test_a_label_has_an_upper_bound() -> None:
    pair = linked()
    with pytest.raises(Misuse):
        pair.cores[0].open("x" * 1025)


def test_a_hello_said_before_the_session_began_that_comes_late_is_refused_and_loses_nothing() -> None:
    """Both dialled at once: the follower said hello on two links before it had an answer on either."""
    pair = Pair()
    late = parse_hello(pack_hello(pair.cores[1].hello()))
    pair.link()
    channel = pair.cores[1].open("x")
    pair.cores[1].write(channel, [b"data"])
    pair.settle()
    with pytest.raises(ProtocolError) as caught:
        pair.cores[0].take_hello(late, b"t" * 16, 0)
    assert caught.value.error is E.STALE
    [there] = pair.opened[0]
    assert drain(pair.cores[0], there) == b"data"
    pair.cores[0].write(there, [b"more"])
    pair.settle()
    assert drain(pair.cores[1], channel) == b"more"


def test_the_follower_refuses_an_older_decision_and_a_wrong_resume() -> None:
    pair = linked()
    hello = pair.cores[1].hello()
    old = pair.cores[0].take_hello(hello, b"1" * 16, 0)
    new = pair.cores[0].take_hello(hello, b"2" * 16, 0)
    pair.cores[1].take_use(new, 0)
    with pytest.raises(ProtocolError) as caught:
        pair.cores[1].take_use(old, 0)
    assert caught.value.error is E.ALREADY
    with pytest.raises(ProtocolError) as caught:
        pair.cores[0].take_hello(Hello(hello.boot, hello.session, 0, EPOCH_LIMIT, alive=True), bytes(16), 0)
    assert caught.value.error is E.BADFRAME
    last = pair.cores[0].take_hello(pair.cores[1].hello(), b"3" * 16, 0)
    pair.cores[1].lose(E.SESSIONLOST, "away")
    with pytest.raises(ProtocolError) as caught:
        pair.cores[1].take_use(last, 0)
    assert caught.value.error is E.STALE


def test_a_peer_that_received_more_than_was_sent_is_refused() -> None:
    pair = linked()
    hello = pair.cores[1].hello()
    with pytest.raises(ProtocolError):
        pair.cores[0].take_hello(Hello(hello.boot, hello.session, 99, alive=True), bytes(16), 0)
    assert pair.cores[0].alive


def test_an_idle_link_is_asked_and_found_dead_after_ten_seconds() -> None:
    pair = linked()
    core = pair.cores[0]
    alive_until = 0
    asked_at = None
    for step in range(100):
        now = step * SECOND // 4
        if not core.tick(now):
            break
        if core.output(1000, now) and asked_at is None:
            asked_at = now
        alive_until = now
    assert asked_at == 7 * SECOND
    assert 9 * SECOND < alive_until < 10 * SECOND


def test_a_link_that_owes_an_acknowledgement_is_dead_after_three_seconds() -> None:
    pair = linked()
    core = pair.cores[0]
    core.write(core.open("x"), [b"data"])
    core.output(1000, 0)
    steps = 0
    while core.tick(steps * SECOND // 4):
        steps += 1
    assert steps == 12


def test_a_link_that_acknowledges_in_time_lives_on() -> None:
    pair = linked()
    core = pair.cores[0]
    channel = core.open("x")
    for step in range(100):
        pair.now = step * SECOND // 2
        core.write(channel, [b"data"])
        assert all(side.tick(pair.now) for side in pair.cores)
        pair.settle()


def test_a_receiver_in_the_middle_of_a_slow_frame_is_heard() -> None:
    pair = linked()
    channel = pair.cores[0].open("x")
    pair.settle()
    pair.cores[0].write(channel, [bytes(100_000)])
    pair.fill(0)
    while pair.wires[0]:
        pair.now += SECOND
        pair.carry(0, 5_000)
        assert all(core.tick(pair.now) for core in pair.cores)
        pair.fill(1)
        pair.carry(1, 1 << 20)


def test_a_process_that_stood_still_does_not_take_the_link_for_dead() -> None:
    pair = linked()
    core = pair.cores[0]
    core.write(core.open("x"), [b"data"])
    core.output(1000, 0)
    assert core.tick(0)
    assert core.tick(3600 * SECOND)
    assert core.tick(3601 * SECOND)
    assert core.tick(3602 * SECOND)
    assert not core.tick(3603 * SECOND)


def test_the_round_trip_is_measured() -> None:
    pair = Pair()
    pair.link()
    pair.fill(0)
    pair.carry(0, 1000)
    pair.now = 5_000_000
    pair.fill(1)
    pair.carry(1, 1000)
    assert pair.cores[0].rtt == 5_000_000


def test_bye_ends_the_other_sides_channels_with_the_reason() -> None:
    pair = linked()
    channel = pair.cores[1].open("x")
    pair.settle()
    pair.cores[0].bye(E.REVOKED, "dropped")
    pair.fill(0)
    pair.carry(0, 1000)
    with pytest.raises(LinkBroken) as caught:
        pair.cores[1].read(channel, 1)
    assert (caught.value.error, caught.value.detail) == (E.REVOKED, "dropped")


def test_what_follows_the_colon_of_a_label_is_in_no_message() -> None:
    assert kind_of("cap:secrettoken") == "cap"
    assert ChannelState(1, "cap:secrettoken").kind == "cap"
    assert kind_of("9p") == "9p"


@pytest.mark.parametrize("side", [0, 1])
def test_who_leaves_ends_all_channels_at_once_and_may_say_a_last_word(side: int) -> None:
    pair = linked()
    here, there = pair.cores[side], pair.cores[1 - side]
    mine, theirs, done = here.open("mine"), there.open("theirs"), there.open("done")
    pair.settle()
    at_here, closed = pair.opened[side]
    here.close(closed)
    here.write(mine, [bytes(2 * CHANNEL_WINDOW)])  # nobody reads it: it waits for credit
    pair.settle()
    there.write(theirs, [b"on its way"])
    pair.fill(1 - side)
    here.leave(E.PARTED, E.DROPPED)
    late = there.open("late")
    word = here.open("last word")
    pair.settle()
    assert here.read(closed, 1) == b""  # it was closed before
    for channel in (mine, at_here):
        with pytest.raises(LinkBroken) as caught:
            here.read(channel, 1)
        assert caught.value.error is E.PARTED
        with pytest.raises(LinkBroken) as caught:
            here.write(channel, [b"x"])
        assert caught.value.error is E.PARTED
    for channel in (theirs, late):
        with pytest.raises(LinkBroken) as caught:
            drain(there, channel)
        assert caught.value.error is E.DROPPED
    assert [channel.label for channel in pair.opened[side]] == ["theirs", "done"]
    assert pair.opened[1 - side][-1].label == "last word"
    there.close(pair.opened[1 - side][-1])
    pair.settle()
    assert here.read(word, 1) == b""
    assert drain(there, done) == b""
