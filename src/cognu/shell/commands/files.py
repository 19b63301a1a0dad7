"""Commands that make, move, copy, remove and describe files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from itertools import pairwise

from cognu.errors import E, FileError
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
from cognu.shell.commands.early import SMALL, each_ahead, is_stored, open_in_turn, read_if_small
from cognu.shell.commands.reading import (
    DEEPEST,
    base_name,
    chunks,
    closing,
    join,
    opened,
    unique,
    walk,
)
from cognu.shell.state import Call
from cognu.shell.system import System, absolute, is_terminal

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
    """A name that can't steer the terminal it is shown on."""
    return "".join(char if char.isprintable() else "?" for char in name)


def long_lines(stats: Sequence[Stat], names: Sequence[str]) -> list[str]:
    rows = [(stat.user or "-", stat.group or "-", str(stat.length)) for stat in stats]
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
        f"user {stat.user or '-'}, group {stat.group or '-'}, changed {_date(stat.mtime)}",
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
                await _mkdir_if_missing(call.system, made)

    return await call.each(call.operands, one)


async def _mkdir_if_missing(system: System, path: str) -> bool:
    """Whether it was made."""
    try:
        there = await system.stat(path)
    except FileError as error:
        if error.error is not E.NOENT:
            raise
        await system.mkdir(path)
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
    async def one(path: str) -> Stat | None:
        """Remove it, unless it is a directory."""
        here = absolute(call.system.cwd, path)
        if here == "/" or base_name(path) in (".", "..") or f"{call.system.cwd}/".startswith(f"{here}/"):
            raise FileError(E.INVAL, path, "the working directory and what is above it stay")
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
        await remove_tree(call.system, path)

    if not call.operands and "f" not in call.options:
        raise call.usage("which file?")
    return await each_ahead(call, call.operands, one, directory, _at_once(call.system, call.operands))


def _at_once(system: System, paths: Sequence[str]) -> int:
    """How many of the paths may be worked on together: those that have nothing to do with each other."""
    tree = sorted([name for name in absolute(system.cwd, path).split("/") if name] for path in paths)
    # What is in a directory comes right after it.
    apart = all(below[: len(above)] != above for above, below in pairwise(tree))
    return AT_ONCE if apart else 1


async def remove_tree(system: System, top: str) -> None:
    """Remove a directory and everything in it; links are removed, not followed."""
    levels: list[list[str]] = [[top]]
    doubled: set[str] = set()

    async def files(level: list[str], below: list[str]) -> AsyncGenerator[str]:
        async with ahead(level, system.list, LISTED_AHEAD) as listings:
            async for directory, listed in listings:
                entries = unique(listed.result())
                if len(entries) < len(listed.result()):
                    doubled.add(directory)
                paths = [(join(directory, entry.name), entry.is_dir) for entry in entries]
                below += [path for path, is_directory in paths if is_directory]
                for path, is_directory in paths:
                    if not is_directory:
                        yield path

    while levels[-1]:
        if len(levels) > DEEPEST:
            raise FileError(E.LOOP, levels[-1][0])
        below: list[str] = []
        await all_of(files(levels[-1], below), system.remove)
        levels.append(below)

    async def emptied(path: str) -> None:
        await (_remove_in_turn(system, path) if path in doubled else system.remove(path))

    for level in reversed(levels):
        await all_of(level, emptied)


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


async def _target(system: System, operands: Sequence[str]) -> tuple[str, bool]:
    """The last operand, and whether it is a directory, which it must be if several files go there."""
    target = operands[-1]
    try:
        is_directory = (await system.stat(target)).is_dir
    except FileError as error:
        if error.error is not E.NOENT:
            raise
        if len(operands) > 2 or target.endswith("/"):
            raise
        is_directory = False
    if len(operands) > 2 and not is_directory:
        raise FileError(E.NOTDIR, target)
    return target, is_directory


async def cp(call: Call) -> int:
    target, into = await _target(call.system, call.operands)

    def place(path: str) -> str:
        return join(target, base_name(absolute(call.system.cwd, path))) if into else target

    async def one(path: str) -> Stat | None:
        """Copy it, unless it is a directory or may be a stream."""
        found = await call.system.stat(path)
        if found.is_dir or found.qid.version == 0:
            return found
        await copy_file(call.system, path, place(path), found)
        return None

    async def in_turn(path: str, found: Stat | None) -> None:
        if found is None:
            return
        if not found.is_dir:
            await _copy_stream(call.system, path, place(path))
            return
        if "r" not in call.options:
            raise FileError(E.ISDIR, path, "cp -r copies directories")
        await copy_tree(call.system, path, place(path))

    sources = call.operands[:-1]
    most = _at_once(call.system, [*sources, *(map(place, sources))])
    return await each_ahead(call, sources, one, in_turn, most)


async def _refuse_same(system: System, path: str, to: str) -> None:
    """Writing would cut the file to nothing before it is read; binds give one file many names, so qids are compared."""
    source = await system.stat(path)
    try:
        target = await system.stat(to)
    except FileError as error:
        if error.error is E.NOENT:
            return
        raise
    same_text = absolute(system.cwd, path) == absolute(system.cwd, to)
    same_file = (source.type, source.dev, source.qid, source.length, source.mtime) == (
        target.type,
        target.dev,
        target.qid,
        target.length,
        target.mtime,
    )
    if same_text or same_file:
        raise FileError(E.INVAL, to, f"it is the same file as {path}")


async def copy_file(system: System, path: str, to: str, found: Stat | None = None, new: bool = False) -> None:
    """Copy one file's bytes. When it returns they are written and the copy is closed.

    `found`: what is known of it. `new`: nothing is at `to`.
    """
    if not new:
        await _refuse_same(system, path, to)

    async def copy() -> None:
        # Both are open before anything is read, so that it may begin again if there are too many open.
        small = found is not None and is_stored(found) and found.length <= SMALL
        held = await read_if_small(system, path) if small else None
        async with closing(held or await system.open(path, "r")) as source, opened(system, to, "w") as target:
            async for data in chunks(source):
                await target.write(data)

    await system.room.run(copy)


async def _copy_stream(system: System, path: str, to: str) -> None:
    """As `copy_file` of what may have no end, in its turn: nobody waits for it to be closed."""
    await _refuse_same(system, path, to)
    async with (
        closing(await open_in_turn(system, path)) as source,
        closing(await open_in_turn(system, to, "w")) as target,
    ):
        async for data in chunks(source):
            await target.write(data)


async def copy_tree(system: System, path: str, to: str) -> None:
    """Copy a directory and everything in it into `to`, which may be there. Links to files become files.

    After a refusal what is being copied is finished, and nothing more is begun. Raises the first, in order.
    """
    source, target = absolute(system.cwd, path), absolute(system.cwd, to)
    if f"{target}/".startswith(f"{source.rstrip('/')}/"):
        raise FileError(E.INVAL, to, f"it is inside {path}")
    made: dict[str, asyncio.Future[bool | None]] = {}
    """For each directory of the copy whether it is new; None if it is refused, which is told once."""

    async def directory(copy: str, in_new: bool) -> bool:
        async def make() -> bool:
            nonlocal in_new
            if not in_new:
                return await _mkdir_if_missing(system, copy)
            in_new = False  # what is refused may have been made all the same, for making a directory opens it too
            await system.mkdir(copy)
            return True

        return await system.room.run(make)

    async def one(found: tuple[str, Stat]) -> None:
        below, entry = found
        copy = join(to, below[len(path) :].lstrip("/"))
        in_new = await made[copy.rpartition("/")[0]]
        if in_new is None:
            return
        if not entry.is_dir:
            if entry.is_symlink and (await system.stat(below)).is_dir:
                raise FileError(E.NOTSUP, below, "a link to a directory is not copied")
            await copy_file(system, below, copy, entry, in_new)
            return
        try:
            made[copy].set_result(await directory(copy, in_new))
        finally:
            if not made[copy].done():
                made[copy].set_result(None)

    async def found() -> AsyncGenerator[tuple[str, Stat]]:
        async with aclosing(walk(system, path)) as entries:
            async for below, entry in entries:
                if entry.is_dir:
                    made[join(to, below[len(path) :].lstrip("/"))] = asyncio.get_running_loop().create_future()
                yield below, entry

    top = asyncio.get_running_loop().create_future()
    top.set_result(await directory(to, in_new=False))
    made[join(to, "x").rpartition("/")[0]] = top
    await all_of(found(), one)


async def mv(call: Call) -> int:
    target, into = await _target(call.system, call.operands)

    async def one(path: str) -> None:
        to = join(target, base_name(absolute(call.system.cwd, path))) if into else target
        source, goal = absolute(call.system.cwd, path), absolute(call.system.cwd, to)
        if f"{goal}/".startswith(f"{source.rstrip('/')}/"):
            raise FileError(E.INVAL, to, f"it is {path} or inside it")
        try:
            await call.system.rename(path, to)
        except FileError as error:
            if error.error is not E.XDEV:
                raise
            await _move_across(call.system, path, to)

    return await call.each(call.operands[:-1], one)


async def _move_across(system: System, path: str, to: str) -> None:
    """From one server to another: copy, and remove only what was copied whole (POSIX mv)."""
    if (await system.stat(path, follow=False)).is_dir:
        await copy_tree(system, path, to)
        await remove_tree(system, path)
    else:
        await copy_file(system, path, to)
        await system.remove(path)
