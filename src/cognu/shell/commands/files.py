"""Commands that make, remove and describe files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

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
from cognu.shell.ahead import LISTED_AHEAD
from cognu.shell.commands.early import each_ahead
from cognu.shell.commands.reading import join, opened, unique
from cognu.shell.state import Call
from cognu.shell.system import System, is_terminal

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
