"""What a channel holds for its reader, against a byte string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cognu.mesh.session_inbox import WHOLE_BYTES, Inbox

_PIECES = st.lists(st.binary(min_size=1, max_size=20), max_size=4)


@given(st.lists(st.one_of(_PIECES, st.integers(1, 50))))
def test_every_byte_is_taken_once_and_in_order(steps: list[list[bytes] | int]) -> None:
    inbox, model = Inbox(), b""
    for step in steps:
        if isinstance(step, list):
            inbox.add(step, sum(map(len, step)))
            model += b"".join(step)
        elif model:
            data = inbox.take(step)
            assert data == model[:step]
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
