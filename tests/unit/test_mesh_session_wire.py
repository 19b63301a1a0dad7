"""The session's core and what no node should send; hellos and reasons on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, LinkBroken, ProtocolError
from cognu.mesh import session_core
from cognu.mesh.frames import (
    HEADER,
    HELLO_SIZE,
    LABEL_LIMIT,
    PAYLOAD_LIMIT,
    Hello,
    Kind,
    pack_hello,
    pack_reason,
    parse_hello,
    parse_reason,
)
from cognu.mesh.outbox import FRAME_COST
from cognu.mesh.session_channel import CHANNEL_WINDOW
from cognu.mesh.session_core import CHANNEL_LIMIT
from mesh_core_kit import drain, linked


def frame(kind: int, number: int = 1, channel: int = 1, payload: bytes = b"", ack: int = 0) -> bytes:
    return HEADER.pack(len(payload), kind, 0, 0, channel, number, ack) + payload


@pytest.mark.parametrize(
    "data",
    [
        frame(99),
        frame(Kind.DATA, payload=b"x"),
        frame(Kind.DATA, number=2, payload=b"x"),
        frame(Kind.DATA),
        frame(Kind.OPEN, number=0),
        frame(Kind.ACK, number=1),
        frame(Kind.OPEN, channel=2, payload=b"wrong parity"),
        frame(Kind.OPEN, payload=b"\xff"),
        frame(Kind.OPEN, ack=1),
        frame(Kind.CREDIT, payload=b"\0\0\0\1"),
        frame(Kind.OPEN) + frame(Kind.CREDIT, 2, payload=b"\0\0\0\1"),
        frame(Kind.OPEN) + frame(Kind.END, 2) + frame(Kind.END, 3),
        frame(Kind.OPEN) + frame(Kind.END, 2) + frame(Kind.DATA, 3, payload=b"x"),
        frame(Kind.OPEN) + frame(Kind.CLOSE, 2) + frame(Kind.DATA, 3, payload=b"x"),
        HEADER.pack(1 << 30, Kind.DATA, 0, 0, 1, 1, 0),
        HEADER.pack(0, Kind.ACK, 1, 0, 0, 0, 0),
    ],
)
def test_what_no_node_sends_ends_the_session(data: bytes) -> None:
    pair = linked()
    channel = pair.cores[1].open("mine")
    with pytest.raises(ProtocolError):
        pair.cores[1].receive(data, 0)
    with pytest.raises(LinkBroken):
        pair.cores[1].read(channel, 1)
    assert not pair.cores[1].alive
    pair.link()
    pair.settle()
    assert pair.cores[0].alive
    assert pair.cores[1].alive


def test_more_data_than_credit_is_a_violation() -> None:
    pair = linked()
    pair.cores[1].receive(frame(Kind.OPEN), 0)
    full = CHANNEL_WINDOW // 100_000
    for number in range(full):
        pair.cores[1].receive(frame(Kind.DATA, 2 + number, payload=bytes(100_000)), 0)
    with pytest.raises(ProtocolError, match="credit"):
        pair.cores[1].receive(frame(Kind.DATA, 2 + full, payload=bytes(100_000)), 0)


def test_more_than_anybody_reads_closes_the_channel_that_it_came_on_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_core, "UNREAD_LIMIT", 1_000_000)
    pair = linked()
    channels = [pair.cores[0].open(str(number)) for number in range(5)]
    for channel in channels:
        pair.cores[0].write(channel, [bytes(200_000)])
    pair.settle()
    there = pair.opened[1]
    assert sum(channel.incoming.size for channel in there) == 1_000_000
    pair.cores[0].write(channels[4], [b"x"])
    pair.settle()
    assert sum(channel.incoming.size for channel in there) == 800_000
    with pytest.raises(LinkBroken, match="nobody has read") as caught:
        pair.cores[0].read(channels[4], 1)
    assert caught.value.error is E.DQUOT
    # What is read makes room, and the others go on.
    assert len(drain(pair.cores[1], there[0])) == 200_000
    pair.cores[0].write(channels[1], [bytes(400_000)])
    pair.settle()
    assert len(drain(pair.cores[1], there[1])) == 600_000
    for channel in there[2:4]:
        pair.cores[1].close(channel)
    pair.cores[0].write(channels[0], [bytes(900_000)])
    pair.settle()
    assert there[0].incoming.size == 900_000


def test_what_was_lost_unread_does_not_count_in_the_next_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_core, "UNREAD_LIMIT", 100_000)
    pair = linked()
    pair.cores[0].write(pair.cores[0].open("old"), [bytes(90_000)])
    pair.settle()
    old = pair.opened[1].pop()
    for core in pair.cores:
        core.lose(E.AWAY, "")
    pair.link()
    pair.cores[0].write(pair.cores[0].open("new"), [bytes(90_000)])
    pair.settle()
    new = pair.opened[1].pop()
    assert pair.cores[1].read(old, 90_000)
    assert len(drain(pair.cores[1], new)) == 90_000


def test_who_sends_on_and_acknowledges_nothing_gets_no_credit_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_core, "SESSION_WINDOW", 4 * FRAME_COST)
    pair = linked()
    core = pair.cores[1]
    core.receive(frame(Kind.OPEN), 0)
    pair.note()
    channel = pair.opened[1][0]
    number = 1
    while channel.window >= PAYLOAD_LIMIT:
        assert number < 400, "it goes on for ever"
        number += 1
        core.receive(frame(Kind.DATA, number, payload=bytes(PAYLOAD_LIMIT)), 0)
        drain(core, channel)
        pair.fill(1)
    assert len(core._outbox.unacked) <= 8


@pytest.mark.parametrize("label", ["x" * (LABEL_LIMIT + 1), "\n", "\0", "cap:", "#s", "../../etc", "é" * 512])
def test_a_label_is_text_of_a_size_and_opens_nothing_by_itself(label: str) -> None:
    pair = linked()
    data = label.encode()
    if len(data) > LABEL_LIMIT:
        with pytest.raises(ProtocolError):
            pair.cores[1].receive(frame(Kind.OPEN, payload=data), 0)
        return
    pair.cores[1].receive(frame(Kind.OPEN, payload=data), 0)
    pair.note()
    assert [channel.label for channel in pair.opened[1]] == [label]


def test_channels_without_end_end_the_session() -> None:
    pair = linked()
    for number in range(2 * CHANNEL_LIMIT):
        pair.cores[1].receive(frame(Kind.OPEN, number + 1, 2 * number + 1), 0)
    number = 2 * CHANNEL_LIMIT
    with pytest.raises(ProtocolError, match="channels"):
        pair.cores[1].receive(frame(Kind.OPEN, number + 1, 2 * number + 1), 0)
    pair.note()
    assert len(pair.opened[1]) == CHANNEL_LIMIT
    assert not pair.cores[1].channels


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=10), st.integers(0, 1))
def test_any_bytes_either_pass_or_are_a_protocol_error(chunks: list[bytes], side: int) -> None:
    pair = linked()
    for chunk in chunks:
        try:
            pair.cores[side].receive(chunk, 0)
        except ProtocolError:
            assert not pair.cores[side].alive
            return


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 6), st.integers(0, 6), st.binary(max_size=8), st.integers(0, 4)),
        max_size=12,
    )
)
def test_any_frames_either_pass_or_are_a_protocol_error(frames: list[tuple[int, int, int, bytes, int]]) -> None:
    pair = linked()
    pair.cores[1].open("one")
    pair.cores[1].close(pair.cores[1].open("two"))
    pair.fill(1)
    for kind, number, channel, payload, ack in frames:
        try:
            pair.cores[1].receive(frame(kind, number, channel, payload, ack), 0)
        except ProtocolError:
            assert not pair.cores[1].alive
            return
        if not pair.cores[1].up:
            assert kind == Kind.BYE
            return


@settings(deadline=None)
@given(st.binary(max_size=2 * HELLO_SIZE))
def test_any_hello_either_parses_or_is_a_protocol_error(data: bytes) -> None:
    try:
        hello = parse_hello(data)
    except ProtocolError:
        return
    assert pack_hello(hello) == data


@settings(deadline=None)
@given(st.builds(Hello, st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16),
                 st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 65535),
                 st.booleans(), st.booleans()))  # fmt: skip
def test_a_hello_survives_the_wire(hello: Hello) -> None:
    assert parse_hello(pack_hello(hello)) == hello


@settings(deadline=None)
@given(st.sampled_from(E), st.text(max_size=100).filter(lambda text: text.isprintable()))
def test_a_reason_survives_the_wire(error: E, detail: str) -> None:
    assert parse_reason(pack_reason(error, detail)) == (error, detail)


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_reason_parses(data: bytes) -> None:
    error, _ = parse_reason(data)
    assert isinstance(error, E)
