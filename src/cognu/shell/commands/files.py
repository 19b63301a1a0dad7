"""Commands that make, remove and describe files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

from cognu.errors import E, FileError
from cognu.files.nstext import parse_options, split_commands
from cognu.ninep.types import (
    DMAPPEND,
    DMBLOCK,
    DMDEVICE,
    DMDIR,
    DMEXCL,
    DMNAMEDPIPE,
    DMPERM,
    DMSOCKET,
    DMSYMLINK,
    SetStat,
    Stat,
)
from cognu.shell.ahead import AT_ONCE, LISTED_AHEAD, ahead, all_of
from cognu.shell.commands.early import each_ahead
from cognu.shell.commands.reading import (
    DEEPEST,
    base_name,
    chunks,
    join,
    opened,
    unique,
)
from cognu.shell.state import FAILED, Call, decode
from cognu.shell.system import System, absolute, is_terminal

T = TypeVar("T")

KINDS = (
    (DMDIR, "d", "directory"),
    (DMSYMLINK, "l", "link"),
    (DMBLOCK, "b", "block device"),
    (DMDEVICE, "c", "device"),
    (DMNAMEDPIPE, "p", "pipe"),
    (DMSOCKET, "s", "socket"),
    (DMAPPEND, "a", "append-only file"),
    (DMEXCL, "x", "exclusive file"),
)
"""Mode bits with the letter that `ls -l` shows and the word that `stat` says; the first that is set counts."""


def _kind(mode: int) -> tuple[str, str]:
    return next(((letter, word) for bit, letter, word in KINDS if mode & bit), ("-", "file"))


def _permissions(mode: int) -> str:
    return "".join(letter if mode >> (8 - index) & 1 else "-" for index, letter in enumerate("rwxrwxrwx"))


def _date(nanoseconds: int) -> str:
    try:
        return datetime.fromtimestamp(nanoseconds // 1_000_000_000).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        # A server may send any number; one that is no date of this calendar is shown as it came.
        return str(nanoseconds)


def record_of(path: str, stat: Stat) -> dict[str, object]:
    """A file for programs to read: size in bytes, time in nanoseconds since 1970, mode as octal digits."""
    return {
        "name": stat.name,
        "path": path,
        "type": _kind(stat.mode)[1],
        "mode": f"{stat.mode & DMPERM:03o}",
        "size": stat.length,
        "mtime": stat.mtime,
        "user": stat.user,
        "group": stat.group,
    }


async def ls(call: Call) -> int:
    files: list[tuple[str, Stat]] = []
    directories: list[str] = []

    async def look(path: str) -> Stat:
        return await call.system.stat(path, follow=not ("l" in call.options or "d" in call.options))

    async def sort_in(path: str, stat: Stat) -> None:
        if stat.is_dir and "d" not in call.options:
            directories.append(path)
        else:
            files.append((path, stat))

    status = await each_ahead(call, call.operands or ["."], look, sort_in)
    records: list[dict[str, object]] = []
    await _show(call, files, records)
    headed = len(files) + len(directories) > 1 or status != 0
    shown = bool(files)

    async def show_directory(path: str, listed: list[Stat]) -> None:
        nonlocal shown
        entries = [
            (entry.name, entry) for entry in unique(listed) if "a" in call.options or not entry.name.startswith(".")
        ]
        if headed and "json" not in call.options:
            await call.print(*([""] if shown else []), f"{path}:")
        shown = True
        await _show(call, entries, records, path)

    status = max(status, await each_ahead(call, directories, call.system.list, show_directory, LISTED_AHEAD))
    if "json" in call.options:
        await call.print(json.dumps(records))
    return status


async def _show(
    call: Call, entries: list[tuple[str, Stat]], records: list[dict[str, object]], directory: str = ""
) -> None:
    order = call.options.last_of("tS")
    keys = {"t": lambda entry: -entry[1].mtime, "S": lambda entry: -entry[1].length}
    entries.sort(key=lambda entry: entry[0])
    if order is not None:
        entries.sort(key=keys[order])
    if "r" in call.options:
        entries.reverse()
    if "json" in call.options:
        records.extend(record_of(join(directory, path) if directory else path, stat) for path, stat in entries)
        return
    terminal = is_terminal(call.streams.stdout)
    names = [printable(path) if terminal else path for path, _ in entries]
    if "l" in call.options:
        await call.print(*long_lines([stat for _, stat in entries], names))
    elif terminal and "1" not in call.options:
        columns = call.environment.get("COLUMNS", "")
        await call.print(*_columns(names, int(columns) if columns.isdecimal() and len(columns) < 5 else 80))
    else:
        await call.print(*names)


def printable(name: str) -> str:
    """A name that can't steer the terminal it is shown on, nor end the line that it is in."""
    return "".join(char if char.isprintable() else "?" for char in name)


def long_lines(stats: Sequence[Stat], names: Sequence[str]) -> list[str]:
    rows = [(printable(stat.user) or "-", printable(stat.group) or "-", str(stat.length)) for stat in stats]
    user, group, size = (max((len(row[column]) for row in rows), default=0) for column in range(3))
    return [
        f"{_kind(stat.mode)[0]}{_permissions(stat.mode)} {row[0]:{user}} {row[1]:{group}} {row[2]:>{size}} "
        f"{_date(stat.mtime)} {name}"
        for stat, row, name in zip(stats, rows, names, strict=True)
    ]


def _columns(names: Sequence[str], width: int) -> list[str]:
    """Names in columns, read downwards, as many as fit into `width` characters."""
    if not names:
        return []
    cell = max(len(name) for name in names) + 2
    per_line = max(1, (width + 2) // cell)
    rows = -(-len(names) // per_line)
    return ["".join(name.ljust(cell) for name in names[row::rows]).rstrip() for row in range(rows)]


async def stat(call: Call) -> int:
    records: list[dict[str, object]] = []

    async def look(path: str) -> Stat:
        return await call.system.stat(path, follow=False)

    async def one(path: str, found: Stat) -> None:
        record = record_of(path, found)
        record["qid"] = {"type": found.qid.type, "version": found.qid.version, "path": found.qid.path}
        records.append(record)
        if "json" not in call.options:
            await call.print(*described(path, found))

    status = await each_ahead(call, call.operands, look, one)
    if "json" in call.options:
        await call.print(json.dumps(records))
    return status


def described(path: str, stat: Stat) -> tuple[str, str]:
    """What is known of a file, for people."""
    return (
        f"{path}: {_kind(stat.mode)[1]}, {stat.length} bytes, mode {stat.mode & DMPERM:03o}, "
        f"user {printable(stat.user) or '-'}, group {printable(stat.group) or '-'}, changed {_date(stat.mtime)}",
        f"  qid type {stat.qid.type:#04x}, version {stat.qid.version}, path {stat.qid.path:#x}",
    )


async def mkdir(call: Call) -> int:
    async def one(path: str) -> None:
        if "p" not in call.options:
            await call.system.mkdir(path)
            return
        made = "/" if path.startswith("/") else ""
        for element in path.split("/"):
            if element:
                made = join(made, element) if made else element
                await mkdir_if_missing(call.system, made)

    return await call.each(call.operands, one)


async def mkdir_if_missing(system: System, path: str, perm: int = 0o777) -> bool:
    """Whether it was made."""
    try:
        there = await system.stat(path)
    except FileError as error:
        if error.error is not E.NOENT:
            raise
        await system.mkdir(path, perm)
        return True
    if not there.is_dir:
        raise FileError(E.NOTDIR, path)
    return False


async def touch(call: Call) -> int:
    async def one(path: str) -> None:
        try:
            await call.system.stat(path)
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            async with opened(call.system, path, "a"):
                return
        await call.system.wstat(path, SetStat(mtime_now=True, atime_now=True))

    return await call.each(call.operands, one)


async def rm(call: Call) -> int:
    refused: set[str] = set()

    async def one(path: str) -> Stat | None:
        """Remove it, unless it is a directory."""
        here = absolute(call.system.cwd, path)
        if here == "/" or base_name(path) in (".", "..") or f"{call.system.cwd}/".startswith(f"{here}/"):
            raise FileError(E.NOTMINE, path, "the working directory and what is above it stay")
        try:
            found = await call.system.stat(path, follow=False)
        except FileError as error:
            if error.error is E.NOENT and "f" in call.options:
                return None
            raise
        if found.is_dir:
            return found
        await call.system.remove(path)
        return None

    async def directory(path: str, found: Stat | None) -> None:
        if found is None:
            return
        if "r" not in call.options:
            raise FileError(E.ISDIR, path, "rm -r removes directories")
        await refuse_roots(call.system, path)
        if not await remove_tree(call, path):
            refused.add(path)

    if not call.operands and "f" not in call.options:
        raise call.usage("which file?")
    status = await each_ahead(call, call.operands, one, directory, at_once(call.system, call.operands))
    return FAILED if refused else status


def at_once(system: System, paths: Sequence[str]) -> int:
    """How many of the paths may be worked on together: those that have nothing to do with each other."""
    tree = sorted([name for name in absolute(system.cwd, path).split("/") if name] for path in paths)
    # What is in a directory comes right after it.
    apart = all(below[: len(above)] != above for above, below in pairwise(tree))
    return AT_ONCE if apart else 1


async def refuse_roots(system: System, path: str) -> None:
    """All of a machine, or of something mounted, is not meant as a directory with what is in it.

    Raises `FileError(MOUNTPOINT)` for /n and what is directly below it, and where something is mounted there or below.
    """
    here = await system.resolve(path)
    if here.rpartition("/")[0] in ("", "/n") and (here == "/n" or here.startswith("/n/")):
        raise FileError(E.MOUNTPOINT, path, "all that a machine lends; name what is in it")
    for place in await _mounted(system):
        if f"{place.rstrip('/')}/".startswith(f"{here.rstrip('/')}/"):
            raise FileError(E.MOUNTPOINT, path, "" if place == here else place)


async def _mounted(system: System) -> list[str]:
    """Where something is mounted or bound in this namespace; nothing if it has no /proc to tell."""
    text = bytearray()
    try:
        async with opened(system, f"/proc/{system.pid}/ns", "r") as file:
            async for data in chunks(file):
                text += data
    except FileError as error:
        if error.error is not E.NOENT:
            raise
    lines = (command.words for command in split_commands(decode(bytes(text))))
    return [parse_options(rest)[1][1] for verb, *rest in lines if verb in ("bind", "mount")]


async def remove_tree(call: Call, top: str) -> bool:
    """Remove a directory and everything in it; links are removed, not followed.

    What is refused is told, and all else goes. Whether nothing was refused.
    """
    system = call.system
    levels: list[list[str]] = [[top]]
    doubled: set[str] = set()
    left: set[str] = set()
    """Directories that still hold something, which has been told."""

    async def files(level: list[str], below: list[str]) -> AsyncGenerator[str]:
        async with ahead(level, system.list, LISTED_AHEAD) as listings:
            async for directory, listed in listings:
                if isinstance(listed.exception(), FileError):
                    left.add(directory)
                entries = unique(await told(call, listed) or [])
                if entries and len(entries) < len(listed.result()):
                    doubled.add(directory)
                paths = [(join(directory, entry.name), entry.is_dir) for entry in entries]
                below += [path for path, is_directory in paths if is_directory]
                for path, is_directory in paths:
                    if not is_directory:
                        yield path

    async def removed(path: str) -> None:
        try:
            await system.remove(path)
        except FileError:
            left.add(path.rpartition("/")[0])
            raise

    async def emptied(path: str) -> None:
        if path in left:
            left.add(path.rpartition("/")[0])
            return
        try:
            await (_remove_in_turn(system, path) if path in doubled else system.remove(path))
        except FileError:
            left.add(path.rpartition("/")[0])
            raise

    while levels[-1]:
        if len(levels) > DEEPEST:
            raise FileError(E.LOOP, levels[-1][0])
        below: list[str] = []
        await all_of(files(levels[-1], below), removed, call.complain)
        levels.append(below)
    for level in reversed(levels):
        await all_of(level, emptied, call.complain)
    return not left


async def told(call: Call, task: asyncio.Task[T]) -> T | None:
    """What a task that is done came to; None if it was refused, which is told."""
    try:
        return task.result()
    except FileError as error:
        await call.complain(error)
        return None


async def _remove_in_turn(system: System, top: str) -> None:
    """What is in a directory once more: of a name that a union holds twice the second has come to light."""
    waiting: list[tuple[str, bool, int]] = [(top, False, 0)]
    while waiting:
        path, emptied, depth = waiting.pop()
        if emptied:
            await system.remove(path)
            continue
        if depth > DEEPEST:
            raise FileError(E.LOOP, path)
        waiting.append((path, True, depth))
        for entry in await system.list(path):
            below = join(path, entry.name)
            if entry.is_dir:
                waiting.append((below, False, depth + 1))
            else:
                await system.remove(below)
