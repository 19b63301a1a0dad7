"""Peers that keep no rule, at both ends. With atheris, which looks for paths: tests/interop/test_fuzz.py."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.files.plain import PlainAnswers
from cognu.ninep import glance
from cognu.ninep.codec import Frames, peek
from cognu.ninep.messages import Dialect
from hostile import recorded, serve_hostile_client, use_hostile_server

NG = tuple(Dialect).index(Dialect.NG)
RUNS = 300


def strings(dialect: int) -> list[bytes]:
    """Always the same ones, all in that dialect."""
    chance = random.Random(7)
    return [bytes([dialect]) + chance.randbytes(500) for _ in range(RUNS)]


@given(st.binary(max_size=600), st.booleans())
@settings(max_examples=100)
async def test_whatever_a_server_answers_calls_end_and_nothing_grows(data: bytes, direct: bool) -> None:
    await use_hostile_server(data, direct)


@given(st.binary(max_size=600), st.booleans())
@settings(max_examples=100)
async def test_whatever_a_client_asks_it_is_answered_or_ended_and_nothing_is_left(data: bytes, direct: bool) -> None:
    await serve_hostile_client(data, direct)


async def test_the_hostile_client_has_everything_of_ng_carried_out() -> None:
    """Else the test above would only see it refused."""
    seen: set[int] = set()
    for data in strings(NG)[:100]:
        seen |= await serve_hostile_client(data)
    assert {163, 165, 167, 169, 171, 173, 175} <= seen


async def test_the_hostile_client_is_answered_by_the_short_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    answer = PlainAnswers._answer

    def noted(self: PlainAnswers, chan: object, fields: glance.Fields, names: tuple[str, ...]) -> int:
        size = answer(self, chan, fields, names)  # type: ignore[arg-type]
        seen.update({fields[1]} if size else ())
        return size

    monkeypatch.setattr(PlainAnswers, "_answer", noted)
    for data in strings(NG)[:20]:
        await serve_hostile_client(data, direct=True)
    assert seen == {glance.GETATTR, glance.READ, glance.WALK, glance.LOPEN, glance.CLUNK}


@pytest.mark.parametrize("direct", [False, True])
async def test_the_hostile_server_is_asked_for_everything_of_ng_and_answers_some_of_it(direct: bool) -> None:
    seen: set[int | str] = set()
    for data in strings(NG):
        seen |= await use_hostile_server(data, direct)
    assert {162, 164, 166, 168, 170, 172, 174, "attenuate", "hand_on", "watch", "list", "notice"} <= seen


async def test_the_recorded_conversation_has_everything_of_ng() -> None:
    """What is fuzzed by changed bytes (tests/interop/fuzz_ninep.py)."""
    for said, kinds in zip(
        await recorded(Dialect.NG), ({162, 164, 168, 170, 172, 174}, {163, 165, 169, 171, 173, 175}), strict=True
    ):
        assert kinds <= {peek(frame)[0] for frame in Frames(1 << 20).feed(said)}
