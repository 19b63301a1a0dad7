"""One implementation for ready answers and awaited ones.

A method of a file server returns its result or an awaitable of it. Code on top is written once, as a generator:

    def length(chan) -> Steps[int]:
        stat = yield from ready(chan.server.stat(chan.fid))
        return stat.length

`ready(x)` gives `x` back at once if it is a result, and yields it if it must be awaited. `start(generator)` returns the
result itself if nothing had to be awaited, else a coroutine that carries on: so what is ready makes no task. (Trying a
coroutine once with `send(None)` would break: the future it stopped at would be found later with nobody awaiting it.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    is_awaitable = isawaitable
else:
    _awaitables: dict[type, bool] = {}

    def is_awaitable(value: object) -> bool:
        """`inspect.isawaitable`, which is slow, remembered by type: every operation on a file asks this. (So no
        generator may be one by types.coroutine.)"""
        kind = type(value)
        known = _awaitables.get(kind)
        if known is None:
            known = _awaitables[kind] = isawaitable(value)
        return known


Steps = Generator[Awaitable[Any], Any, T]
"""A computation that yields what must be awaited and returns a `T`."""


def ready(value: T | Awaitable[T]) -> Steps[T]:
    """The value, now or after awaiting it."""
    if is_awaitable(value):
        result: T = yield value
        return result
    return value


def start(steps: Steps[T]) -> T | Coroutine[Any, Any, T]:
    """Run as far as possible without awaiting: the result, or a coroutine (for the caller to await) for the rest."""
    try:
        waiting = steps.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    return _carry_on(steps, waiting)


async def _carry_on(steps: Steps[T], waiting: Awaitable[Any]) -> T:
    try:
        while True:
            try:
                value = await waiting
            except BaseException as error:
                # A StopIteration can't come out of an await, so what throw() raises is the generator's own.
                waiting = steps.throw(error)
            else:
                waiting = steps.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


async def finish(steps: Steps[T]) -> T:
    """Run to the end, for callers that are coroutines anyway."""
    result = start(steps)
    if is_awaitable(result):
        return await result
    return result
