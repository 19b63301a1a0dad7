"""What commands of the shell do to files before their turn: looking at them, and reading small ones whole.

Never opened before its turn is what may be a stream or a device, for opening or reading these may do something by
itself. `shell/ahead.py` has the bound: of `AT_ONCE` pieces of work each holds at most `SMALL` bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from cognu.errors import E, FileError
from cognu.files.readahead import is_plain
from cognu.ninep.types import Stat
from cognu.shell.ahead import AT_ONCE, Work, ahead
from cognu.shell.state import Call
from cognu.shell.system import File, Mode, System, absolute

SMALL = 1 << 15
"""Bytes of the largest file that is read before its turn: what comes with the walk in one trip."""

R = TypeVar("R")


async def each_ahead(
    call: Call,
    paths: Iterable[str],
    work: Work[str, R],
    action: Callable[[str, R], Awaitable[None]],
    most: int = AT_ONCE,
) -> int:
    """As `Call.each`, with `work` begun early: `action` gets what it came to; its refusal is reported in its turn."""
    paths = list(paths)
    if len(paths) < 2:

        async def both(path: str) -> None:
            await action(path, await work(path))

        return await call.each(paths, both)
    status = 0
    async with ahead(paths, work, most) as done:
        async for path, task in done:

            async def one(path: str, task: asyncio.Task[R] = task) -> None:
                await action(path, task.result())

            status = max(status, await call.each([path], one))
    return status


def is_stored(stat: Stat) -> bool:
    """Whether it is a plain file that keeps what it has, so that opening and reading it changes nothing.

    A qid of version 0 is of what is made up as it is read; a length of 0 may be a stream's (stat(5)).
    """
    return is_plain(stat) and stat.qid.type == 0 and stat.qid.version != 0


async def read_small(system: System, path: str, stat: Stat) -> File | None:
    """The whole of a small stored file; None if it is none, or is refused: then it is for who opens it to say so."""
    if not is_stored(stat) or stat.length > SMALL:
        return None
    try:
        return await system.room.run(lambda: read_if_small(system, path))
    except FileError:
        return None


async def read_if_small(system: System, path: str) -> File | None:
    """The whole of a stored file; None if it is not small. Raises `FileError`."""
    parts: list[bytes] = []
    size = 0
    file = await system.open(path, "r")
    try:
        while size <= SMALL and (data := await file.read(SMALL + 1 - size)):
            parts.append(data)
            size += len(data)
    finally:
        await file.close()
    return None if size > SMALL else Held(absolute(system.cwd, path), b"".join(parts))


async def look_and_read(system: System, path: str) -> File | None:
    """As `read_small`, of a file that nothing is known of."""
    try:
        stat = await system.stat(path)
    except FileError:
        return None
    return await read_small(system, path, stat)


async def open_in_turn(system: System, path: str, mode: Mode = "r", perm: int = 0o666) -> File:
    """What was begun early may have as many files open as there may be: then when it has closed some."""
    return await system.room.run(lambda: system.open(path, mode, perm))


class Held:
    """A file that was read whole and is closed: the `File` of who has not come to it yet."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self._data = data

    async def read(self, count: int = SMALL) -> bytes:
        data, self._data = self._data[:count], self._data[count:]
        return data

    async def write(self, data: bytes) -> None:
        raise FileError(E.BADF, self.path)

    async def close(self) -> None:
        self._data = b""
