"""Requests to a node and their answers: the same text both ways, and nothing but an error for any other."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import CognuError, E, FileError, ProtocolError
from cognu.files.rpc import MAX_REQUEST, answer_of, parse_request, refusal_text, request_text, result_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.text(min_size=1, max_size=20), st.dictionaries(st.text(), VALUES, max_size=4))
def test_a_request_is_read_as_it_was_written(verb: str, arguments: dict[str, object]) -> None:
    assert parse_request(request_text(verb, arguments)) == (verb, arguments)


@given(VALUES)
def test_a_result_is_read_as_it_was_written(result: object) -> None:
    assert answer_of(result_text(result)) == result


@given(st.sampled_from(E), st.text(), st.text())
def test_a_refusal_is_raised_as_it_was_meant(row: E, subject: str, detail: str) -> None:
    with pytest.raises(FileError) as raised:
        answer_of(refusal_text(FileError(row, subject, detail)))
    assert (raised.value.error, raised.value.subject, raised.value.detail) == (row, subject, detail)


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_other_text_is_no_request_and_no_answer(data: bytes) -> None:
    request = outcome(parse_request, data)
    if request is not E.USAGE:
        message = json.loads(data)
        assert request == (message["verb"], message.get("arguments", {}))
    result = outcome(answer_of, data)
    if result is not E.BADMESSAGE:
        answer = json.loads(data)
        assert answer == {"result": result} or answer["error"]["symbol"] == getattr(result, "name", None)


def outcome(parse: Callable[[bytes], object], data: bytes) -> object:
    """What it returns, or the row that it raises."""
    try:
        return parse(data)
    except CognuError as error:
        return error.error


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", "{", '{"verb": ""}', '{"verb": 3}', '{"verb": "a", "arguments": []}', "[" * 100_000],
)
def test_what_is_no_request_is_usage(text: str) -> None:
    with pytest.raises(FileError) as raised:
        parse_request(text.encode()[:MAX_REQUEST])
    assert raised.value.error is E.USAGE


def test_a_request_has_a_bound() -> None:
    with pytest.raises(FileError) as raised:
        parse_request(request_text("a", {"b": "x" * MAX_REQUEST}))
    assert raised.value.error is E.MSGSIZE


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"result": 1, "error": {}}, {"error": None}, {"error": {"symbol": "NOENT"}},
        {"error": {"symbol": "NOSUCH", "subject": "", "detail": ""}},
        {"error": {"symbol": "NOENT", "subject": 1, "detail": ""}},
        {"error": {"symbol": [], "subject": "", "detail": ""}},
    ],
)  # fmt: skip
def test_what_is_no_answer_breaks_the_protocol(answer: object) -> None:
    with pytest.raises(ProtocolError):
        answer_of(json.dumps(answer).encode())
