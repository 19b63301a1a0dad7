"""Peers that keep no rule, at both ends. With atheris, which looks for paths: tests/interop/test_fuzz.py."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import serve_hostile_client, use_hostile_server


@given(st.binary(max_size=600))
@settings(max_examples=150)
async def test_whatever_a_server_answers_calls_end_and_nothing_grows(data: bytes) -> None:
    await use_hostile_server(data)


@given(st.binary(max_size=600))
@settings(max_examples=150)
async def test_whatever_a_client_asks_it_is_answered_or_ended_and_nothing_is_left(data: bytes) -> None:
    await serve_hostile_client(data)
