"""What a channel holds for its reader, against a byte string."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.mesh import session_inbox
from cognu.mesh.frames import HEADER, Kind
from cognu.mesh.session_inbox import SMALL_BYTES, WHOLE_BYTES, Inbox
from mesh_core_kit import drain, linked

_PIECES = st.lists(st.binary(min_size=1, max_size=20), max_size=4)


@pytest.mark.parametrize(("small", "whole"), [(SMALL_BYTES, WHOLE_BYTES), (4, 16)])
@given(st.lists(st.one_of(_PIECES, st.integers(1, 50))))
def test_every_byte_is_taken_once_and_in_order(small: int, whole: int, steps: list[list[bytes] | int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_inbox, "SMALL_BYTES", small)
        patch.setattr(session_inbox, "WHOLE_BYTES", whole)
        _take_against_a_byte_string(steps)


def _take_against_a_byte_string(steps: list[list[bytes] | int]) -> None:
    inbox, model = Inbox(), b""
    for step in steps:
        if isinstance(step, list):
            inbox.add(step, sum(map(len, step)))
            model += b"".join(step)
        elif model:
            data = inbox.take(step)
            assert type(data) is bytes
            assert data == model[: len(data)]
            assert min(step, len(model), session_inbox.WHOLE_BYTES) <= len(data) <= step
            model = model[len(data) :]
        assert inbox.size == len(model)
    assert inbox.clear() == len(model)
    assert inbox.size == 0


def test_a_large_piece_is_handed_on_as_it_is() -> None:
    inbox = Inbox()
    large = bytes(WHOLE_BYTES)
    inbox.add([large, b"next"], WHOLE_BYTES + 4)
    assert inbox.take(1 << 20) is large
    assert inbox.take(1 << 20) == b"next"


def test_what_was_dropped_leaves_no_offset_behind() -> None:
    inbox = Inbox()
    inbox.add([b"abcdef"], 6)
    assert inbox.take(2) == b"ab"
    assert inbox.clear() == 4
    inbox.add([b"ghi"], 3)
    assert inbox.take(10) == b"ghi"


def held(frames: bytes, size: int) -> float:
    """Bytes of memory for each of `size` bytes that came in these frames and nobody reads."""
    pair = linked()
    pair.cores[1].receive(HEADER.pack(1, Kind.OPEN, 0, 0, 1, 1, 0) + b"x", 0)
    pair.note()
    tracemalloc.start()
    try:
        pair.cores[1].receive(frames, 0)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(drain(pair.cores[1], pair.opened[1][0])) == size
    return used / size


def data_frames(*sizes: int) -> bytes:
    numbered = enumerate(sizes, 2)
    return b"".join(HEADER.pack(size, Kind.DATA, 0, 0, 1, number, 0) + bytes(size) for number, size in numbered)


@pytest.mark.parametrize("sizes", [[1] * 10_000, [SMALL_BYTES, 1] * 500, [SMALL_BYTES - 1] * 500, [1, 50] * 4000])
def test_what_waits_to_be_read_takes_its_size_in_memory_however_small_the_frames(sizes: list[int]) -> None:
    assert held(data_frames(*sizes), sum(sizes)) < 1.3
