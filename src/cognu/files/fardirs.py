"""The mount driver's ways to read a directory: .L's entries, and the stats of 9P2000 and .u."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cognu.files.farfid import FarFid
from cognu.files.server import Entry
from cognu.ninep import messages as m
from cognu.ninep.attrs import stat_of_wire
from cognu.ninep.codec import unpack_dirents, unpack_stats


async def read_entries(
    ask: Callable[[m.Treaddir], Awaitable[m.Rreaddir]], fid: FarFid, cookie: int, count: int, limit: int
) -> list[Entry]:
    """At most `count` entries after `cookie`; a reply has at most `limit` bytes."""
    while True:
        reply = await ask(m.Treaddir(fid.number, cookie, min(limit, max(512, 64 * count))))
        found = unpack_dirents(reply.data)
        if not found:
            return []
        entries = [
            Entry(entry.offset, entry.qid, entry.name, None, entry.type)
            for entry in found
            if entry.name not in (".", "..")
        ]
        if entries:
            return entries[:count]
        cookie = found[-1].offset


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
    while len(fid.entries) < cookie + count:
        data = await read(fid, fid.offset, limit)
        if not data:
            break
        fid.offset += len(data)
        for wire in unpack_stats(data, extended):
            stat = stat_of_wire(wire)
            fid.entries.append(Entry(len(fid.entries) + 1, stat.qid, stat.name, stat))
    return fid.entries[cookie : cookie + count]
