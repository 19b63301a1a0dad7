"""Code that waits only if it must: `files.steps`."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from inspect import isawaitable
from typing import Any

import pytest

from cognu.errors import E, FileError
from cognu.files.steps import Steps, finish, is_awaitable, ready, start


class Thing:
    pass


class Promise:
    def __await__(self) -> Generator[Any, None, int]:
        return asyncio.sleep(0, 7).__await__()


async def seven() -> int:
    return 7


async def test_what_can_be_awaited_is_known_by_its_type_however_often_it_is_asked() -> None:
    coroutine = seven()
    awaitables = [coroutine, asyncio.ensure_future(seven()), asyncio.get_running_loop().create_future(), Promise()]
    others = [None, b"", 0, "", Thing(), seven, (letter for letter in "ab"), memoryview(b"")]
    for _ in range(2):
        assert all(is_awaitable(value) and isawaitable(value) for value in awaitables)
        assert not any(is_awaitable(value) or isawaitable(value) for value in others)
    assert await coroutine == 7
    assert await awaitables[1] == 7


def both(value: Any) -> Steps[int]:
    first: int = yield from ready(value)
    return first + 1


async def test_what_is_ready_needs_no_coroutine_and_what_is_not_gets_one() -> None:
    assert start(both(7)) == 8
    for value in (seven(), asyncio.ensure_future(seven()), Promise()):
        pending = start(both(value))
        assert is_awaitable(pending)
        assert await pending == 8
    assert await finish(both(7)) == await finish(both(seven())) == 8


async def test_an_error_comes_out_of_the_steps_where_it_was_awaited() -> None:
    async def fails() -> int:
        raise FileError(E.NOENT, "x")

    def steps() -> Steps[str]:
        try:
            return str((yield from both(fails())))
        except FileError as error:
            return error.subject

    assert await finish(steps()) == "x"
    with pytest.raises(FileError):
        await finish(both(fails()))
