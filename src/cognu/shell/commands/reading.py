"""Reading and walking, a piece at a time, for the commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from cognu.errors import CognuError, E, FileError
from cognu.ninep.types import Stat
from cognu.shell.state import Call
from cognu.shell.system import File, Mode, System

LONGEST_LINE = 16 << 20
"""Bytes of one line that commands working by lines will hold."""

DEEPEST = 200
"""Levels of directories that a walk goes down; a tree bound into itself has no end."""


@asynccontextmanager
async def opened(system: System, path: str, mode: Mode) -> AsyncIterator[File]:
    """A file that is closed at the end. What closing turns up is raised, unless something else is on its way."""
    file = await system.open(path, mode)
    try:
        yield file
    except BaseException:
        with suppress(CognuError):
            await file.close()
        raise
    await file.close()


async def chunks(file: File) -> AsyncIterator[bytes]:
    while data := await file.read():
        yield data


async def lines(file: File) -> AsyncIterator[bytes]:
    """Lines without their newline; the last one may have had none. Raises `FileError(LINETOOLONG)`."""
    kept: list[bytes] = []
    size = 0
    while data := await file.read():
        first, newline, rest = data.partition(b"\n")
        if not newline:
            kept.append(data)
            size += len(data)
            if size > LONGEST_LINE:
                raise FileError(E.LINETOOLONG, file.path)
            continue
        yield b"".join((*kept, first))
        *whole, last = rest.split(b"\n")
        for line in whole:
            yield line
        kept = [last] if last else []
        size = len(last)
    if kept:
        yield b"".join(kept)


async def each_input(call: Call, action: Callable[[str, File], Awaitable[None]]) -> int:
    """Do `action(name, file)` to every operand's file, or to the standard input for `-` and if there is none.

    The status is 0, or 1 if a file could not be read; the others were read all the same.
    """

    async def one(path: str) -> None:
        if path == "-":
            await action(path, call.streams.stdin)
            return
        async with opened(call.system, path, "r") as file:
            await action(path, file)

    return await call.each(call.operands or ["-"], one)


def join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}" if directory.strip("/") or not directory else f"/{name}"


def base_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def unique(entries: list[Stat]) -> list[Stat]:
    """Entries by name, sorted; of names that come twice in a union the first, which is the one a walk finds."""
    found: dict[str, Stat] = {}
    for entry in entries:
        found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found)]


async def walk(system: System, top: str) -> AsyncIterator[tuple[str, Stat]]:
    """Everything below the directory `top`, a directory before what is in it. Links are not followed.

    Raises `FileError(LOOP)` more than `DEEPEST` levels down.
    """
    waiting: list[tuple[str, int]] = [(top, 0)]
    while waiting:
        directory, depth = waiting.pop()
        if depth > DEEPEST:
            raise FileError(E.LOOP, directory)
        below: list[tuple[str, int]] = []
        for entry in unique(await system.list(directory)):
            path = join(directory, entry.name)
            yield path, entry
            if entry.is_dir:
                below.append((path, depth + 1))
        waiting.extend(reversed(below))
