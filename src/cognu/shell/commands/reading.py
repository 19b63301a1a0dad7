"""Reading and walking, a piece at a time, for the commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from cognu.errors import CognuError, E, FileError
from cognu.ninep.types import Stat
from cognu.shell.ahead import LISTED_AHEAD, LISTED_IN_ALL
from cognu.shell.commands.early import each_ahead, look_and_read, open_in_turn
from cognu.shell.state import Call
from cognu.shell.system import File, Mode, System

LONGEST_LINE = 16 << 20
"""Bytes of one line that commands working by lines will hold."""

DEEPEST = 200
"""Levels of directories that a walk goes down; a tree bound into itself has no end."""


@asynccontextmanager
async def opened(system: System, path: str, mode: Mode, perm: int = 0o666) -> AsyncIterator[File]:
    """A file that is closed at the end. What closing turns up is raised, unless something else is on its way."""
    async with closing(await system.open(path, mode, perm)) as file:
        yield file


@asynccontextmanager
async def closing(file: File) -> AsyncIterator[File]:
    """As `opened`, for a file that is open."""
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

    The status is 0, or 1 if a file could not be read; the others were read all the same. Of several, small stored files
    are read before their turn.
    """
    several = len(call.operands) > 1

    async def early(path: str) -> File | None:
        return await look_and_read(call.system, path) if several and path != "-" else None

    async def one(path: str, held: File | None) -> None:
        if path == "-":
            await action(path, call.streams.stdin)
            return
        async with closing(held or await open_in_turn(call.system, path)) as file:
            await action(path, file)

    return await each_ahead(call, call.operands or ["-"], early, one)


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


async def walk(
    system: System, top: str, refused: Callable[[FileError], Awaitable[None]] | None = None
) -> AsyncGenerator[tuple[str, Stat]]:
    """Everything below the directory `top`, a directory before what is in it. Links are not followed.

    `refused` gets what listing a directory is refused with, and the others go on; without it that ends the walk.

    The directories that come next are listed before their turn. Who does not take all of it closes the generator.
    Raises `FileError(LOOP)` more than `DEEPEST` levels down.
    """
    waiting: list[tuple[str, int]] = [(top, 0)]
    listing: dict[str, asyncio.Task[list[Stat]]] = {}

    async def look(directory: str) -> list[Stat]:
        entries = unique(await system.list(directory))
        begin([join(directory, entry.name) for entry in entries if entry.is_dir])
        return entries

    def begin(directories: list[str]) -> None:
        for path in directories[:LISTED_AHEAD]:
            if path not in listing and len(listing) < LISTED_IN_ALL:
                listing[path] = asyncio.create_task(look(path))

    try:
        while waiting:
            directory, depth = waiting.pop()
            if depth > DEEPEST:
                raise FileError(E.LOOP, directory)
            begun = listing.get(directory)
            try:
                entries = await (look(directory) if begun is None else begun)
            except FileError as error:
                if refused is None:
                    raise
                await refused(error)
                entries = []
            listing.pop(directory, None)
            below = [(join(directory, entry.name), depth + 1) for entry in entries if entry.is_dir]
            waiting.extend(reversed(below))
            begin([path for path, _ in reversed(waiting[-LISTED_AHEAD:])])
            for entry in entries:
                yield join(directory, entry.name), entry
    finally:
        while listing:
            _, task = listing.popitem()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
