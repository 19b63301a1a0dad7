"""A program's descriptors: WASI's view of the numbers in `Process.descriptors`, and the program's state.

The process's table owns the chans, so whatever ends the process closes them; here stands what WASI adds to each:
rights, flags, what it is, how far a directory was read.

A directory's chan is never opened: it is walked from, and opened 9P fids can't be. Reading it opens another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cognu.errors import CognuError, E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.listing import may_be_had_again, read_directory
from cognu.files.process import Descriptors, Process
from cognu.files.server import OAPPEND, Entry, FileServer
from cognu.files.steps import Steps, finish
from cognu.ninep.types import (
    DMBLOCK,
    DMDEVICE,
    DMDIR,
    DMNAMEDPIPE,
    DMSOCKET,
    DMSYMLINK,
    OACCESS,
    ORDWR,
    OREAD,
    OWRITE,
    QTDIR,
    QTSYMLINK,
    Stat,
)
from cognu.runtime.wasi.abi import (
    ALL_RIGHTS,
    APPEND,
    DIRECTORY_RIGHTS,
    FILE_RIGHTS,
    SEEKING_RIGHTS,
    WRITING_RIGHTS,
    Errno,
    Filetype,
    Right,
    WasiError,
)
from cognu.runtime.wasi.paths import Start
from cognu.runtime.wasi.streams import ReadAhead, WriteBehind, settled
from cognu.world import Senses

FIRST_PREOPEN = 3
EXIT_UNWRITTEN = 1
"""The status of a program that exited with 0, one of whose writes was then refused."""
PLACELESS = (Filetype.UNKNOWN, Filetype.SOCKET_STREAM, Filetype.SOCKET_DGRAM)
"""Pipes and sockets: nothing in them has an offset."""
LENT = ("#d", "#s")
"""Devices whose files stand for files that somebody has open."""
_ENTRY_KINDS = {
    2: Filetype.CHARACTER_DEVICE, 4: Filetype.DIRECTORY, 6: Filetype.BLOCK_DEVICE, 8: Filetype.REGULAR_FILE,
    10: Filetype.SYMBOLIC_LINK, 12: Filetype.SOCKET_STREAM,
}  # fmt: skip
"""By DT_*, readdir(3)."""
BATCH = 128
"""Entries of a directory asked for at a time."""


class Listing:
    """A directory being read. WASI's cookies count its entries, whatever the server's are like."""

    def __init__(self, chan: Chan) -> None:
        self.chan = chan
        self.entries: list[tuple[int, bytes, Filetype]] = []
        """Number of the file, name, what it is; without `.` and `..`."""
        self._cookies: list[int] = []  # of each, by which it was had
        self._cookie = 0
        self._ended = False

    def upto(self, count: int, process: Process) -> Steps[None]:
        """Read on until there are `count` entries, or all."""
        while len(self.entries) < count and not self._ended:
            batch = yield from read_directory(process.namespace, self.chan, self._cookie, BATCH, process)
            if batch:
                self._cookie = batch[-1].cookie
            self._ended = not batch
            named = [entry for entry in batch if entry.name not in (".", "..")]
            self.entries += map(_listed, named)
            self._cookies += (entry.cookie for entry in named)

    def may_be_had(self, index: int) -> bool:
        """Whether that entry may be handed out now: perhaps it was read before something was revoked."""
        return may_be_had_again(self.chan, self._cookies[index])


def _listed(entry: Entry) -> tuple[int, bytes, Filetype]:
    if entry.qid.type & QTDIR:
        kind = Filetype.DIRECTORY
    elif entry.qid.type & QTSYMLINK:
        kind = Filetype.SYMBOLIC_LINK
    else:
        kind = filetype_of(entry.stat.mode) if entry.stat is not None else filetype_of_entry(entry.kind)
    return entry.qid.path, entry.name.encode("utf-8", "surrogateescape"), kind


@dataclass(slots=True, eq=False)
class WasiFd:
    """One descriptor. `name` is set for preopened directories; `filetype` once it was looked at (see `kind`)."""

    chan: Chan
    rights: int
    inheriting: int
    flags: int = 0
    name: bytes | None = None
    filetype: Filetype | None = None
    adopted: bool = False  # opened by somebody else: a server that can't say what it is is taken for a pipe
    shut: int = 0  # SHUT_RD, SHUT_WR
    appended: bool = False  # the last write went to the end, wherever that was
    sent: bool = False  # something was written that a far server may only have accepted
    listing: Listing | None = None
    ahead: ReadAhead | None = None
    behind: WriteBehind | None = None
    root: Chan | None = None  # the namespace's, for the working directory; the namespace owns it
    tops: frozenset[str] = frozenset()  # see `Start`

    @property
    def start(self) -> Start:
        return Start(self.chan, self.root, self.tops)

    @property
    def is_directory(self) -> bool:
        return bool(self.chan.qid.type & QTDIR)

    @property
    def is_open(self) -> bool:
        return self.chan.handle.mode is not None

    def opened(self, access: int) -> bool:
        """Whether it was opened for that: OREAD or OWRITE."""
        mode = self.chan.handle.mode
        return mode is not None and mode & OACCESS in (access, ORDWR)

    def need(self, rights: int) -> None:
        """Raises ENOTCAPABLE."""
        if rights & ~self.rights:
            raise WasiError(Errno.NOTCAPABLE)

    def stat(self, process: Process) -> Steps[Stat]:
        """An open file is what it is, whatever was mounted over it since."""
        if self.is_open:
            return (yield from dispatch(self.chan, 0, self.chan.server.stat, self.chan.fid))
        return (yield from process.namespace.stat(self.chan))

    def kind(self, process: Process) -> Steps[Filetype]:
        """What it is; asked of the server at the first use, and then kept."""
        if self.filetype is None:
            known = _kind_by_path(self.chan)
            if known is None:
                try:
                    known = kind_of(self.chan, (yield from self.stat(process)))
                except FileError:
                    if not self.adopted:
                        raise
                    known = Filetype.UNKNOWN
            self._note(known)
        assert self.filetype is not None
        return self.filetype

    def look(self, process: Process) -> Steps[tuple[Stat, Filetype]]:
        """Its attributes and what it is, in one question."""
        stat = yield from self.stat(process)
        if self.filetype is None:
            self._note(kind_of(self.chan, stat))
        assert self.filetype is not None
        return stat, self.filetype

    def _note(self, kind: Filetype) -> None:
        self.filetype = kind
        if kind in PLACELESS or (kind is Filetype.CHARACTER_DEVICE and is_terminal(self.chan)):
            # How a C library tells a terminal: a character device that can't be sought in.
            self.rights &= ~SEEKING_RIGHTS

    def is_stream(self, process: Process) -> Steps[bool]:
        """Whether reading may have to wait for somebody."""
        return (yield from self.kind(process)) not in (
            Filetype.REGULAR_FILE,
            Filetype.DIRECTORY,
            Filetype.BLOCK_DEVICE,
        )

    def settle(self) -> Steps[None]:
        """Until the write in the background, if any, is over. Raises what it raised."""
        if self.behind is not None:
            if self.behind.task is not None:
                yield settled(self.behind.task)
            self.behind.check()

    def arrive(self) -> Steps[None]:
        """Until what a far server accepted (`FileServer.accept`) is written. Raises what one of these writes did."""
        if self.sent:
            self.sent = False
            yield from dispatch(self.chan, 0, self.chan.server.settle, self.chan.fid)

    def drop(self) -> None:
        """What belongs to this descriptor beside its chan."""
        if self.ahead is not None:
            self.ahead.close()
        if self.behind is not None:
            self.behind.close()
        if self.listing is not None:
            self.listing.chan.close()
        self.ahead = self.behind = self.listing = None


def is_terminal(chan: Chan) -> bool:
    """For a character device. As Plan 9's isatty(2) has it by the name it was reached by, or a lent descriptor."""
    return chan.path.names()[-2:] == ["dev", "cons"] or chan.origin.spec in LENT


def connection_names(chan: Chan) -> list[str]:
    """The last names of the path, if it is a file of a network connection (ip(3)): `[tcp, 4, data]`; else none."""
    names = chan.path.names()[-3:]
    if len(names) == 3 and names[0] in ("tcp", "udp", "unix") and names[1].isdecimal():
        return names
    return []


def kind_of(chan: Chan, stat: Stat) -> Filetype:
    known = _kind_by_path(chan)
    if known is not None:
        return known
    kind = filetype_of(stat.mode)
    # What stands for an open file (dup(3), srv(3)) is read where that file stands, whatever offset one asks for.
    return Filetype.UNKNOWN if kind is Filetype.REGULAR_FILE and chan.origin.spec in LENT else kind


def _kind_by_path(chan: Chan) -> Filetype | None:
    if chan.qid.type & QTDIR:
        return Filetype.DIRECTORY
    if chan.qid.type & QTSYMLINK:
        return Filetype.SYMBOLIC_LINK
    if chan.origin.spec.startswith("#|"):
        return Filetype.UNKNOWN
    if chan.origin.spec == "#c" or chan.path.names()[-2:] == ["dev", "cons"]:
        return Filetype.CHARACTER_DEVICE
    connection = connection_names(chan)
    if connection and connection[2] == "data":
        return Filetype.SOCKET_DGRAM if connection[0] == "udp" else Filetype.SOCKET_STREAM
    return None


def filetype_of(mode: int) -> Filetype:
    """From `Stat.mode`."""
    if mode & DMDIR:
        return Filetype.DIRECTORY
    if mode & DMSYMLINK:
        return Filetype.SYMBOLIC_LINK
    if mode & DMDEVICE:
        return Filetype.BLOCK_DEVICE if mode & DMBLOCK else Filetype.CHARACTER_DEVICE
    if mode & DMSOCKET:
        return Filetype.SOCKET_STREAM
    return Filetype.UNKNOWN if mode & DMNAMEDPIPE else Filetype.REGULAR_FILE


def filetype_of_entry(kind: int) -> Filetype:
    """From `Entry.kind`. Pipes have no type of WASI's."""
    return _ENTRY_KINDS.get(kind, Filetype.UNKNOWN)


class FdTable:
    """By number, lowest free first, as POSIX demands. Raises EBADF, EMFILE."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors
        self._entries: dict[int, WasiFd] = {}

    def __iter__(self) -> Iterator[WasiFd]:
        return iter(list(self._entries.values()))

    def get(self, number: int, rights: int = 0) -> WasiFd:
        """Raises EBADF, ENOTCAPABLE."""
        entry = self._entries.get(number)
        if entry is None or entry.chan.closed:
            raise WasiError(Errno.BADF)
        entry.need(rights)
        return entry

    def file(self, number: int, rights: int) -> WasiFd:
        """A descriptor that is no directory (EBADF if it is, as in Wasmtime).

        EBADF too for reading or writing what was not opened for that (read(2), write(2)); ENOTCAPABLE if it was.
        """
        entry = self.get(number)
        if entry.is_directory:
            raise WasiError(Errno.BADF)
        lacking = rights & ~entry.rights
        if lacking & Right.FD_READ and not entry.opened(OREAD):
            raise WasiError(Errno.BADF)
        if lacking & Right.FD_WRITE and not entry.opened(OWRITE):
            raise WasiError(Errno.BADF)
        entry.need(rights)
        return entry

    def directory(self, number: int, rights: int) -> WasiFd:
        """Raises EBADF, ENOTDIR, ENOTCAPABLE."""
        entry = self.get(number)
        if not entry.is_directory:
            raise WasiError(Errno.NOTDIR)
        entry.need(rights)
        return entry

    def add(self, entry: WasiFd, number: int | None = None) -> int:
        """Take over the entry and its chan; if that fails (EMFILE) the chan is closed."""
        try:
            number = self._descriptors.add(entry.chan, number)
        except CognuError:
            entry.chan.close()
            raise
        self._entries[number] = entry
        return number

    def adopt(self, number: int, entry: WasiFd) -> None:
        """Note what WASI adds to a chan that the process has already."""
        self._entries[number] = entry

    def close(self, number: int) -> None:
        """Raises EBADF."""
        entry = self.get(number)
        del self._entries[number]
        entry.drop()
        self._descriptors.close(number)

    def renumber(self, old: int, new: int) -> None:
        """`new`, which must be open, becomes what `old` was; `old` is free then. Raises EBADF."""
        replaced = self.get(new)
        self.get(old)
        if old == new:
            return
        replaced.drop()
        self._descriptors.move(old, new)
        self._entries[new] = self._entries.pop(old)

    def replace(self, entry: WasiFd, chan: Chan) -> None:
        """Give an entry another chan, and close the one it had."""
        number = next(number for number, known in self._entries.items() if known is entry)
        entry.drop()
        entry.chan = chan
        self._descriptors.add(chan, number)

    def drop(self) -> None:
        """The program is over. The chans are the process's, which closes them when it ends."""
        for entry in self._entries.values():
            entry.drop()
        self._entries.clear()


@dataclass(eq=False)
class Program:
    """One running WASI program: what its guest's `data` is."""

    process: Process
    world: Senses
    args: tuple[bytes, ...] = ()
    environment: tuple[bytes, ...] = ()
    table: FdTable = field(init=False)
    _servers: dict[FileServer, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = FdTable(self.process.descriptors)

    def device(self, server: FileServer) -> int:
        """A number for a server: files are the same if device and inode are."""
        return self._servers.setdefault(server, len(self._servers) + 1)

    def adopt_streams(self) -> None:
        """Give descriptors 0, 1 and 2, as far as the process has them, their rights."""
        for number in range(FIRST_PREOPEN):
            if number in self.process.descriptors:
                self.table.adopt(number, stream_entry(self.process.descriptors[number]))

    def preopen(self, preopens: Sequence[tuple[str, Chan]], *, mapped: bool = True) -> None:
        """Take over these directories, under these names, from descriptor 3 on. Raises MFILE, BUSY.

        Unless they were `mapped` one by one, paths from the working directory, `.`, may be absolute.
        """
        for number, (name, chan) in enumerate(preopens, FIRST_PREOPEN):
            if number in self.process.descriptors:
                raise FileError(E.BUSY, f"fd {number}")
            entry = WasiFd(chan, DIRECTORY_RIGHTS, ALL_RIGHTS, name=name.encode(), filetype=Filetype.DIRECTORY)
            if name == "." and not mapped:
                entry.root = self.process.namespace.root
                entry.tops = frozenset(other[1:] for other, _ in preopens if other.startswith("/"))
            self.table.add(entry, number)

    @property
    def unsettled(self) -> bool:
        """Whether writes are under way that the program did not wait for, or may be at a far server."""
        return any(entry.behind is not None and entry.behind.task is not None for entry in self.table) or any(
            entry.sent and entry.chan.server.far for entry in self.table
        )

    async def settle(self, status: int, message: str) -> tuple[int, str]:
        """Wait until these writes are over; returns how the program ended, all told: status and message.

        Who wrote them is not there any more to hear that one was refused. So that fails the program, even if it
        exited with 0: whoever started it learns that not everything is there.
        """
        while tasks := [e.behind.task for e in self.table if e.behind is not None and e.behind.task is not None]:
            await asyncio.wait(tasks)
        for entry in list(self.table):
            try:
                await finish(entry.settle())
                await finish(entry.arrive())
            except CognuError as error:
                if error.error is E.PIPE:
                    continue  # its reader wants no more, and a program that exits is not told
                status = status or EXIT_UNWRITTEN
                message = message or str(FileError(error.error, str(entry.chan.path), error.detail))
        return status, message

    def close(self) -> None:
        self.table.drop()


def stream_entry(chan: Chan) -> WasiFd:
    """A descriptor for a chan that somebody else opened: its rights follow from how."""
    if chan.qid.type & QTDIR:
        return WasiFd(chan, Right.FD_FILESTAT_GET, 0, adopted=True)  # what is open can't be walked from
    mode = chan.handle.mode or OREAD
    rights = FILE_RIGHTS
    if mode & OACCESS == OWRITE:
        rights &= ~Right.FD_READ
    elif mode & OACCESS == OREAD:
        rights &= ~WRITING_RIGHTS
    return WasiFd(chan, rights, 0, APPEND if mode & OAPPEND else 0, adopted=True)
