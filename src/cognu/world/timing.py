"""Deadlines on the world's clock, which a simulator can drive."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from cognu.world import Clock

T = TypeVar("T")


def time_of_day(nanoseconds: int) -> str:
    """Local time of day of a wall-clock time (ns), to the second."""
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).astimezone().strftime("%H:%M:%S")


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; raises `TimeoutError` if it takes longer, and then it has been cancelled and has ended."""
    task = asyncio.ensure_future(work)
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        await end_tasks(task, timer)
    raise TimeoutError


async def unless(over: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None if it is over before; then `work` has been cancelled and has ended."""
    doing, ending = asyncio.ensure_future(work), asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        await end_tasks(doing, ending)


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel the tasks and wait until they have ended; their errors are dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
