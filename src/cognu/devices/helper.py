"""Programs of the host that a device asks: given some bytes, they say some, and end; within a time and a size."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from cognu.errors import E, FileError
from cognu.world import Clock, Piped, Spawn
from cognu.world.timing import end_tasks, within

CHUNK = 1 << 16
LAST_MOMENT = 5.0
"""Seconds that one that was killed may take to end."""
MAX_COMPLAINT = 200
"""Characters of what a helper says of its failure that are told."""


async def run_helper(
    spawn: Spawn, clock: Clock, argv: Sequence[str], most: int, seconds: float, given: bytes = b"",
    env: Mapping[str, str] | None = None, leaves: bool = False,
) -> bytes:  # fmt: skip
    """What it writes. Its process group has ended when this returns or raises, unless it `leaves` something behind.

    Then its output is not waited for: what stays may hold it. Raises TIMEDOUT, FBIG, and IO with its exit status and
    the first line of its errors if that is not 0.
    """
    piped = await spawn.start_piped(argv, env or {}, "/")
    said, complaint = bytearray(), bytearray()
    ended = False
    try:
        try:
            status = await within(clock, seconds, _talk(piped, given, said, complaint, most, leaves))
        except TimeoutError:
            raise FileError(E.TIMEDOUT, argv[0], f"{seconds:g} s") from None
        ended = True
        if len(said) > most:
            raise FileError(E.FBIG, argv[0], f"it says more than {most} bytes")
        if status:
            words = " ".join(complaint.decode("utf-8", "replace").split())[:MAX_COMPLAINT]
            words = "".join(char if char.isprintable() else "?" for char in words)
            raise FileError(E.IO, argv[0], f"it ended with status {status}{f': {words}' if words else ''}")
        return bytes(said)
    finally:
        if not (ended and leaves):
            piped.kill_group()
        piped.close()
        if not ended:
            with suppress(TimeoutError):
                await within(clock, LAST_MOMENT, piped.wait())


async def _talk(piped: Piped, given: bytes, said: bytearray, complaint: bytearray, most: int, leaves: bool) -> int:
    """Give it what it is given, take what it says, and its status. What is too long ends it."""
    giving = asyncio.ensure_future(_give(piped, given))
    saying = asyncio.ensure_future(_take(piped, piped.read, said, most))
    complaining = asyncio.ensure_future(_take(piped, piped.read_errors, complaint, CHUNK))
    try:
        status = await piped.wait()
        if not leaves:
            piped.kill_group()  # what it left behind may hold its output
            await asyncio.gather(saying, complaining)
        return status
    finally:
        await end_tasks(giving, saying, complaining)


async def _give(piped: Piped, given: bytes) -> None:
    """It need not take it all."""
    rest = memoryview(given)
    with suppress(FileError):
        while rest:
            rest = rest[await piped.write(rest) :]
    piped.close_input()


async def _take(piped: Piped, read: Callable[[int], Awaitable[bytes]], into: bytearray, most: int) -> None:
    while len(into) <= most and (piece := await read(min(CHUNK, most + 1 - len(into)))):
        into += piece
    if len(into) > most:
        piped.kill_group()
