"""What a node says of its grants, as text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, ProtocolError
from cognu.mesh.identity import GRANT_LENGTH, GRANT_LIMIT, Peer
from cognu.node.telling import grants_text, parse_grants_text


@given(st.lists(st.sampled_from(["net", "run", "read:/home/me", "write:/ä"]), unique=True))
def test_grants_are_read_as_they_were_told(grants: list[str]) -> None:
    assert parse_grants_text(grants_text(Peer("f", "pi", "", granted=tuple(grants)))) == tuple(grants)


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_any_other_answer_breaks_the_protocol_and_none_is_out_of_bounds(data: bytes) -> None:
    try:
        told = parse_grants_text(data)
    except ProtocolError:
        return
    assert list(told) == json.loads(data)
    assert len(told) <= GRANT_LIMIT
    assert all(0 < len(text.encode()) <= GRANT_LENGTH for text in told)


@pytest.mark.parametrize(
    "told", [{}, [1], [""], ["a\0b"], ["x" * (GRANT_LENGTH + 1)], ["net"] * (GRANT_LIMIT + 1), "net"]
)
def test_what_is_given_nowhere_is_refused(told: object) -> None:
    with pytest.raises(ProtocolError) as raised:
        parse_grants_text(json.dumps(told).encode())
    assert raised.value.error is E.BADMESSAGE
