"""Dialling a machine at several addresses, as RFC 8305 has it ("Happy Eyeballs"): not one after the other with a long
time for each, but a little apart, and the first that works is taken. What works is said by who dials: here, that
whoever answers has proved its key. An address where nobody answers costs a quarter of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cognu.errors import CognuError
from cognu.world import Clock, SecureStream
from cognu.world.timing import end_tasks

APART_SECONDS: Final = 0.25
"""RFC 8305, 8: "Connection Attempt Delay". An attempt that failed lets the next begin at once."""

Attempt = Callable[[str], Awaitable[SecureStream]]
"""A connection to one address, where the right machine answers. Raises `CognuError`."""


@dataclass
class Raced:
    """What came of it: the connection and its address, or None and why each failed."""

    stream: SecureStream | None = None
    address: str = ""
    failures: list[tuple[str, CognuError]] = field(default_factory=list)


async def race(
    clock: Clock, addresses: Sequence[str], attempt: Attempt, final: Callable[[CognuError], bool] = lambda _: False
) -> Raced:
    """Dial `addresses`, the likeliest first, until one works, all failed, or one failed with a `final` error.

    All attempts have ended when it returns or is cancelled, and but for the one that is returned no connection is open.
    """
    raced = Raced()
    try:
        await _race(clock, addresses, attempt, final, raced)
    except BaseException:  # cancelled, maybe while the others were being ended
        if raced.stream is not None:
            raced.stream.close()
        raise
    return raced


async def _race(
    clock: Clock, addresses: Sequence[str], attempt: Attempt, final: Callable[[CognuError], bool], raced: Raced
) -> None:
    waiting = list(addresses)
    running: dict[asyncio.Task[SecureStream], str] = {}
    try:
        while waiting or running:
            if waiting:
                address = waiting.pop(0)
                running[asyncio.ensure_future(_run(attempt, address))] = address
            for task in await _some(clock, running, bool(waiting)):
                address = running.pop(task)
                try:
                    raced.stream, raced.address = task.result(), address
                    return
                except CognuError as error:
                    raced.failures.append((address, error))
                    if final(error):
                        return
    finally:
        await _give_up(running)


async def _run(attempt: Attempt, address: str) -> SecureStream:
    return await attempt(address)


async def _some(
    clock: Clock, running: dict[asyncio.Task[SecureStream], str], more: bool
) -> list[asyncio.Task[SecureStream]]:
    """Those that ended; none if it is time for the next address."""
    timer = asyncio.ensure_future(clock.sleep(APART_SECONDS)) if more else None
    try:
        await asyncio.wait([*running, *([timer] if timer is not None else [])], return_when=asyncio.FIRST_COMPLETED)
    finally:
        if timer is not None:
            await end_tasks(timer)
    return [task for task in running if task.done()][:1]


async def _give_up(running: dict[asyncio.Task[SecureStream], str]) -> None:
    """End attempts that nobody waits for; one may have worked in the same turn."""
    for task in running:
        task.add_done_callback(_close)  # whether or not this is cancelled meanwhile
    await end_tasks(*running)


def _close(task: asyncio.Task[SecureStream]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
