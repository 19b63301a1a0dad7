"""The session's core and what no node should send; hellos and reasons on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, LinkBroken, ProtocolError
from cognu.mesh.frames import (
    HEADER,
    HELLO_SIZE,
    Hello,
    Kind,
    pack_hello,
    pack_reason,
    parse_hello,
    parse_reason,
)
from cognu.mesh.session_core import (
    CHANNEL_WINDOW,
)
from mesh_core_kit import linked


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
