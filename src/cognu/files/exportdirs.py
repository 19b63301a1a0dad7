"""An exported directory as each dialect reads it: .L's entries, `.ng`'s with their attributes, 9P2000's stats."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.listing import may_be_had_again, read_directory
from cognu.files.process import Process
from cognu.files.server import Entry
from cognu.files.special import extended_entry
from cognu.files.steps import Steps
from cognu.ninep import messages as m
from cognu.ninep.attrs import dirent_type, getattr_of_stat, wire_stat
from cognu.ninep.codec import pack_dirent, pack_stat
from cognu.ninep.listed import LISTED_SIZE, pack_listed
from cognu.ninep.types import GETATTR_ALL, QTDIR, QTSYMLINK, Dirent

BATCH = 64
"""Entries asked for at once."""
MOST_STATS = 1 << 16
"""Bytes of stats that one read of plain 9P2000 or 9P2000.u looks for, give or take a batch."""


class ReadStats:
    """How far an open directory was read on plain 9P2000, which only reads on from where it stopped."""

    __slots__ = ("asked", "cookie", "filling", "held", "offset")

    def __init__(self) -> None:
        self.asked = 0  # bytes that the read before asked for
        self.offset = 0
        self.cookie = 0
        self.held: deque[tuple[int, bytes]] = deque()  # cookies and stats of what was read and not sent
        self.filling = False


def read_entries(process: Process, chan: Chan, message: m.Treaddir) -> Steps[m.Rreaddir]:
    """.L's reading of a directory."""
    found = yield from read_directory(process.namespace, chan, message.offset, max(1, message.count // 32), process)
    packed: list[bytes] = []
    room = message.count
    for entry in found:
        piece = pack_dirent(Dirent(entry.qid, entry.cookie, kind_of_entry(entry), entry.name))
        if len(piece) > room:
            break
        room -= len(piece)
        packed.append(piece)
    if found and not packed:
        raise FileError(E.INVAL, str(chan.path), "count is too small for the next entry")
    return m.Rreaddir(b"".join(packed))


def read_listing(process: Process, chan: Chan, message: m.Tlist) -> Steps[m.Rlist]:
    """As many entries as fit. Their attributes go along where they are at hand: none are asked for."""
    users = process.namespace.domain.authority.users
    packed: list[bytes] = []
    room, cookie, end = message.count, message.offset, False
    while not end and (room >= LISTED_SIZE + 1 or not packed):
        found = yield from read_directory(process.namespace, chan, cookie, max(1, room // (LISTED_SIZE + 1)), process)
        end = not found
        for entry in found:
            stat = entry.stat if entry.stat is not None and entry.stat.qid == entry.qid else None
            dirent = Dirent(entry.qid, entry.cookie, kind_of_entry(entry), entry.name)
            told = None if stat is None else getattr_of_stat(users.numbered(stat), GETATTR_ALL)
            piece = pack_listed(dirent, told)
            if len(piece) > room:
                if not packed:
                    raise FileError(E.INVAL, str(chan.path), "count is too small for the next entry")
                return m.Rlist(0, b"".join(packed))
            room, cookie = room - len(piece), entry.cookie
            packed.append(piece)
    return m.Rlist(int(end), b"".join(packed))


def read_stats(process: Process, chan: Chan, at: ReadStats, offset: int, count: int, extended: bool) -> Steps[bytes]:
    """read(5) of a directory: whole stats, from the start or from where the last read ended.

    `extended`: as 9P2000.u has them. Raises INVAL for another offset, or a count too small for the next stat; but
    a client that asks for what is left of its buffer, as Linux's does, has nothing then, and asks again.
    """
    asked, at.asked = at.asked, count
    if offset == 0:
        at.offset = at.cookie = 0
        at.held.clear()
    elif offset != at.offset:
        raise FileError(E.INVAL, str(chan.path), "a directory is read on from where the last read ended")
    # What must wait comes first, so that a flushed read has taken nothing.
    yield from _fill(process, chan, at, extended, min(count, MOST_STATS))
    packed: list[bytes] = []
    room = count
    while at.held and len(at.held[0][1]) <= room:
        _, piece = at.held.popleft()
        room -= len(piece)
        at.offset += len(piece)
        packed.append(piece)
    if not packed and at.held and (offset == 0 or count >= asked):
        raise FileError(E.INVAL, str(chan.path), "count is too small for the next entry")
    return b"".join(packed)


def _fill(process: Process, chan: Chan, at: ReadStats, extended: bool, wanted: int) -> Steps[None]:
    """Have entries at hand that may be sent: some, unless the directory is at its end, and about `wanted` bytes."""
    if at.filling:
        raise FileError(E.BUSY, str(chan.path), "the read before is not answered yet")
    at.filling = True
    try:
        whole = True
        while True:
            at.held = deque(each for each in at.held if may_be_had_again(chan, each[0]))
            if at.held and (not whole or sum(len(piece) for _, piece in at.held) >= wanted):
                return
            entries = yield from read_directory(process.namespace, chan, at.cookie, BATCH, process)
            if not entries:
                return
            whole = len(entries) == BATCH
            for entry in entries:
                packed = yield from _entry_stat(process, chan, entry, extended)
                if packed is not None:
                    at.held.append((entry.cookie, packed))
                at.cookie = entry.cookie
    finally:
        at.filling = False


def _entry_stat(process: Process, chan: Chan, entry: Entry, extended: bool) -> Steps[bytes | None]:
    """The attributes of an entry, asked for if its server gave none; None if the file is gone since."""
    if extended:
        wire = yield from extended_entry(process, chan, entry)
        return None if wire is None else pack_stat(wire, True)
    stat = entry.stat
    if stat is None or stat.is_symlink:
        try:
            found = yield from process.namespace.walk(chan, [entry.name], process)
            stat = yield from process.namespace.stat(found)
            stat = replace(stat, name=entry.name)  # not that of what a symlink led to
        except FileError:
            pass
    return None if stat is None else pack_stat(wire_stat(stat))


def kind_of_entry(entry: Entry) -> int:
    """readdir(3)'s d_type, as far as it is known."""
    if entry.stat is not None:
        return dirent_type(entry.stat.mode)
    return dirent_type(entry.qid.type << 24) if entry.qid.type & (QTDIR | QTSYMLINK) else entry.kind
