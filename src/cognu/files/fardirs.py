"""The mount driver's ways to read a directory: .L's entries, and the stats of 9P2000 and .u."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cognu.errors import E, FileError
from cognu.files.farfid import FarFid
from cognu.files.server import Entry
from cognu.files.trips import MOST_EMPTY
from cognu.ninep import messages as m
from cognu.ninep.attrs import stat_of_wire
from cognu.ninep.codec import unpack_dirents, unpack_stats

MOST_ENTRIES = 1 << 20
"""Of one directory, read from its start to its end: a server may list for ever."""
_DOTS = (".", "..")


def checked(fid: FarFid, cookie: int, entries: list[Entry]) -> list[Entry]:
    """`entries`, if a directory may have them: who copies a tree makes files by these names.

    Raises BADMESSAGE for what names no file in this very directory, OVERFLOW for more than `MOST_ENTRIES`.
    """
    for entry in entries:
        if "/" in entry.name or entry.name in ("", *_DOTS):
            raise FileError(E.BADMESSAGE, fid.name(), f"its server lists {entry.name!r} in it")
    fid.listed = len(entries) + (fid.listed if cookie else 0)
    if fid.listed > MOST_ENTRIES:
        raise FileError(E.OVERFLOW, fid.name(), f"its server lists more than {MOST_ENTRIES} files in it")
    return entries


async def read_entries(
    ask: Callable[[m.Treaddir], Awaitable[m.Rreaddir]], fid: FarFid, cookie: int, count: int, limit: int
) -> list[Entry]:
    """At most `count` entries after `cookie`; a reply has at most `limit` bytes."""
    for _ in range(MOST_EMPTY):
        reply = await ask(m.Treaddir(fid.number, cookie, min(limit, max(512, 64 * count))))
        found = unpack_dirents(reply.data)
        if not found:
            return []
        entries = [
            Entry(entry.offset, entry.qid, entry.name, None, entry.type) for entry in found if entry.name not in _DOTS
        ]
        if entries:
            return entries[:count]
        cookie = found[-1].offset
    raise FileError(E.BADMESSAGE, fid.name(), "its server lists nothing but dots")


async def read_stats(
    read: Callable[[FarFid, int, int], Awaitable[bytes | memoryview]],
    fid: FarFid,
    cookie: int,
    count: int,
    limit: int,
    extended: bool,
) -> list[Entry]:
    """The same where a directory is read like a file, on from where it was left off; `extended` by 9P2000.u."""
    if cookie == 0:
        fid.entries, fid.offset = [], 0
    while len(fid.entries) < min(cookie + count, MOST_ENTRIES + 1):
        data = await read(fid, fid.offset, limit)
        if not data:
            break
        fid.offset += len(data)
        for wire in unpack_stats(data, extended):
            stat = stat_of_wire(wire)
            if stat.name in _DOTS:
                continue
            fid.entries.append(Entry(len(fid.entries) + 1, stat.qid, stat.name, stat))
    return fid.entries[cookie : cookie + count]
