"""The functions on descriptors: `fd_*`, and what they share with sockets and polling."""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.files.dispatch import dispatch
from cognu.files.server import OAPPEND
from cognu.files.steps import Steps
from cognu.kernel import WRITE
from cognu.ninep.types import OACCESS, ORDWR, OREAD, OTRUNC, OWRITE, SetStat, Stat
from cognu.runtime.wasi.abi import (
    ADVICES,
    APPEND,
    ATIM,
    ATIM_NOW,
    DIRENT,
    DSYNC,
    FDFLAGS,
    FDSTAT,
    FILESTAT,
    MTIM,
    MTIM_NOW,
    NONBLOCK,
    PRESTAT,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
    SHUT_RD,
    SHUT_WR,
    SYNC,
    Errno,
    Filetype,
    Right,
    WasiError,
)
from cognu.runtime.wasi.memory import Guest, Vector, put_u32, put_u64, reserve
from cognu.runtime.wasi.streams import BEHIND, Data, ReadAhead, WriteBehind, read_at, read_chan, settled, write_chan
from cognu.runtime.wasi.table import PLACELESS, Listing, Program, WasiFd

MAX_OFFSET = (1 << 63) - 1
MAX_TIME = (1 << 64) - 1


# -- the descriptor itself --------------------------------------------------------------------------------------------


def fd_close(program: Program, guest: Guest, fd: int) -> Steps[None]:
    entry = program.table.get(fd)
    try:
        yield from entry.settle()
        yield from entry.arrive()
    finally:
        program.table.close(fd)


def fd_renumber(program: Program, guest: Guest, fd: int, to: int) -> Steps[None]:
    replaced = program.table.get(to)
    program.table.get(fd)
    if fd != to:
        try:
            yield from replaced.settle()
            yield from replaced.arrive()
        finally:
            program.table.renumber(fd, to)


def fd_prestat_get(program: Program, guest: Guest, fd: int, out: int) -> None:
    guest.write(out, PRESTAT.pack(0, len(_preopen_name(program, fd))))


def fd_prestat_dir_name(program: Program, guest: Guest, fd: int, pointer: int, size: int) -> None:
    name = _preopen_name(program, fd)
    if size < len(name):
        raise WasiError(Errno.NAMETOOLONG)
    guest.write(pointer, name)


def _preopen_name(program: Program, fd: int) -> bytes:
    name = program.table.get(fd).name
    if name is None:
        raise WasiError(Errno.BADF)
    return name


def fd_fdstat_get(program: Program, guest: Guest, fd: int, out: int) -> Steps[None]:
    entry = program.table.get(fd)
    kind = yield from entry.kind(program.process)
    guest.write(out, FDSTAT.pack(kind, entry.flags, entry.rights, entry.inheriting))


def fd_fdstat_set_flags(program: Program, guest: Guest, fd: int, flags: int) -> Steps[None]:
    entry = program.table.get(fd, Right.FD_FDSTAT_SET_FLAGS)
    if flags & ~FDFLAGS:
        raise WasiError(Errno.INVAL)
    if (flags ^ entry.flags) & APPEND and not entry.is_directory:
        yield from _reopen(program, entry, bool(flags & APPEND))
    entry.flags = flags


def _reopen(program: Program, entry: WasiFd, append: bool) -> Steps[None]:
    """Writing at the end is the server's to do, atomically, so it is a matter of how the file was opened.

    Raises ENOTSUP if the file can't be found again by the path it was opened by.
    """
    process, namespace, old = program.process, program.process.namespace, entry.chan
    mode = old.handle.mode
    if mode is None or mode & OACCESS not in (OWRITE, ORDWR):
        return  # nothing is written through it
    yield from entry.settle()
    yield from entry.arrive()
    try:
        again = yield from namespace.find(str(old.path), process.cwd, process, follow=False)
        if namespace.cross(again)[0].key != old.key:
            raise WasiError(Errno.NOTSUP)
        mode = mode & ~(OTRUNC | OAPPEND) | (OAPPEND if append else 0)
        opened = yield from namespace.open(again, mode, process)
    except FileError:
        raise WasiError(Errno.NOTSUP) from None
    opened.handle.offset = yield from position(program, entry)
    entry.appended = False
    program.table.replace(entry, opened)


def fd_fdstat_set_rights(program: Program, guest: Guest, fd: int, base: int, inheriting: int) -> Steps[None]:
    entry = program.table.get(fd)
    yield from entry.kind(program.process)  # which its rights depend on
    if base & ~entry.rights or inheriting & ~entry.inheriting:
        raise WasiError(Errno.NOTCAPABLE)
    entry.rights, entry.inheriting = base, inheriting


# -- reading and writing ----------------------------------------------------------------------------------------------


def fd_read(program: Program, guest: Guest, fd: int, iovs: int, count: int, out: int) -> Steps[None]:
    entry = program.table.file(fd, Right.FD_READ)
    vector = Vector(guest, iovs, count)
    reserve(guest, out, 4)
    data = yield from receive(program, entry, vector.total)
    vector.scatter(guest, data)
    put_u32(guest, out, len(data))


def receive(program: Program, entry: WasiFd, count: int, peek: bool = False) -> Steps[Data]:
    """Read from a descriptor where it stands; `b""` at the end. Raises EAGAIN if that would wait and must not."""
    if count == 0 or entry.shut & SHUT_RD:
        return b""
    waits = not entry.flags & NONBLOCK or not (yield from entry.is_stream(program.process))
    if entry.ahead is None and waits and not peek:
        if entry.appended:
            entry.chan.handle.offset = yield from position(program, entry)
        return (yield from read_chan(entry.chan, count))
    if entry.ahead is None:
        entry.ahead = ReadAhead(entry.chan)
    ahead = entry.ahead
    ahead.begin()
    while not ahead.ready:
        if not waits:
            raise WasiError(Errno.AGAIN)
        assert ahead.task is not None
        yield settled(ahead.task)
    return ahead.take(count, peek)


def fd_write(program: Program, guest: Guest, fd: int, iovs: int, count: int, out: int) -> Steps[None]:
    entry = program.table.file(fd, Right.FD_WRITE)
    vector = Vector(guest, iovs, count)
    reserve(guest, out, 4)
    written = yield from send(program, entry, vector.gather(guest))
    put_u32(guest, out, written)


def send(program: Program, entry: WasiFd, data: bytes) -> Steps[int]:
    """Write to a descriptor where it stands. Raises EAGAIN if that would wait and must not, EPIPE after a shutdown."""
    if entry.shut & SHUT_WR:
        raise WasiError(Errno.PIPE)
    if not data:
        return 0
    if entry.flags & NONBLOCK and (yield from entry.is_stream(program.process)):
        if entry.behind is None:
            entry.behind = WriteBehind(entry.chan)
        if entry.behind.task is not None:
            raise WasiError(Errno.AGAIN)
        data = data[:BEHIND]
        entry.behind.begin(data)
        return len(data)
    yield from entry.settle()
    entry.sent = True
    written = yield from write_chan(entry.chan, data)
    entry.appended = bool(entry.flags & APPEND)
    yield from _written(entry)
    return written


def _written(entry: WasiFd) -> Steps[None]:
    if entry.flags & (DSYNC | SYNC):
        chan = entry.chan
        yield from dispatch(chan, 0, chan.server.sync, chan.fid, not entry.flags & SYNC)


def fd_pread(program: Program, guest: Guest, fd: int, iovs: int, count: int, offset: int, out: int) -> Steps[None]:
    entry = program.table.file(fd, Right.FD_READ)
    yield from _seekable(program, entry, Right.FD_SEEK)
    vector = Vector(guest, iovs, count)
    reserve(guest, out, 4)
    _check_range(offset, 0)
    data: Data = b""
    if vector.total:
        data = yield from read_at(entry.chan, offset, vector.total)
    vector.scatter(guest, data)
    put_u32(guest, out, len(data))


def fd_pwrite(program: Program, guest: Guest, fd: int, iovs: int, count: int, offset: int, out: int) -> Steps[None]:
    """With APPEND set it writes at the end, as Linux's pwrite(2) does: how a file was opened is all a server knows."""
    entry = program.table.file(fd, Right.FD_WRITE)
    yield from _seekable(program, entry, Right.FD_SEEK)
    vector = Vector(guest, iovs, count)
    reserve(guest, out, 4)
    data = vector.gather(guest)
    _check_range(offset, len(data))
    written = 0
    if data:
        chan, entry.sent = entry.chan, True
        written = yield from dispatch(chan, WRITE, chan.server.accept, chan.fid, offset, data)
        yield from _written(entry)
    put_u32(guest, out, written)


def _seekable(program: Program, entry: WasiFd, rights: int) -> Steps[None]:
    """Raises ESPIPE for streams, ENOTCAPABLE."""
    kind = yield from entry.kind(program.process)
    if kind in PLACELESS:
        raise WasiError(Errno.SPIPE)
    if kind is Filetype.CHARACTER_DEVICE and not entry.rights & Right.FD_SEEK:
        raise WasiError(Errno.SPIPE)
    entry.need(rights)


def _check_range(offset: int, count: int) -> None:
    if offset + count > MAX_OFFSET:
        raise WasiError(Errno.INVAL if offset > MAX_OFFSET else Errno.FBIG)


# -- position ---------------------------------------------------------------------------------------------------------


def position(program: Program, entry: WasiFd) -> Steps[int]:
    """Where it stands, in bytes. After a write to the end that is the end, and only the server knows where."""
    if entry.appended:
        entry.chan.handle.offset = (yield from entry.stat(program.process)).length
        entry.appended = False
    return entry.chan.handle.offset


def fd_seek(program: Program, guest: Guest, fd: int, offset: int, whence: int, out: int) -> Steps[None]:
    asks = offset == 0 and whence == SEEK_CUR
    entry = program.table.file(fd, 0)
    yield from _seekable(program, entry, Right.FD_TELL if asks else Right.FD_SEEK)
    reserve(guest, out, 8)
    if whence == SEEK_SET:
        start = 0
    elif whence == SEEK_CUR:
        start = yield from position(program, entry)
    elif whence == SEEK_END:
        start = (yield from entry.stat(program.process)).length
    else:
        raise WasiError(Errno.INVAL)
    if start + offset < 0:
        raise WasiError(Errno.INVAL)
    if start + offset > MAX_OFFSET:
        raise WasiError(Errno.OVERFLOW)
    if not asks:
        entry.chan.handle.offset = start + offset
        entry.appended = False
    put_u64(guest, out, start + offset)


def fd_tell(program: Program, guest: Guest, fd: int, out: int) -> Steps[None]:
    entry = program.table.file(fd, 0)
    yield from _seekable(program, entry, Right.FD_TELL)
    put_u64(guest, out, (yield from position(program, entry)))


def fd_advise(program: Program, guest: Guest, fd: int, offset: int, length: int, advice: int) -> Steps[None]:
    """Taken, and nothing is done with it: servers have no place for it."""
    entry = program.table.file(fd, Right.FD_ADVISE)
    if advice >= ADVICES or offset + length > MAX_OFFSET:
        raise WasiError(Errno.INVAL)
    if (yield from entry.is_stream(program.process)):
        raise WasiError(Errno.SPIPE)


# -- attributes -------------------------------------------------------------------------------------------------------


def fd_allocate(program: Program, guest: Guest, fd: int, offset: int, length: int) -> Steps[None]:
    """The file is made at least that long; how it is stored is its server's matter."""
    entry = program.table.file(fd, Right.FD_ALLOCATE)
    if length == 0:
        raise WasiError(Errno.INVAL)
    _check_range(offset, length)
    _writable(entry)
    if (yield from entry.kind(program.process)) is not Filetype.REGULAR_FILE:
        raise WasiError(Errno.SPIPE)
    if (yield from entry.stat(program.process)).length < offset + length:
        yield from change(program, entry, SetStat(length=offset + length))


def fd_filestat_get(program: Program, guest: Guest, fd: int, out: int) -> Steps[None]:
    entry = program.table.get(fd, Right.FD_FILESTAT_GET)
    reserve(guest, out, FILESTAT.size)
    stat, kind = yield from entry.look(program.process)
    guest.write(out, pack_filestat(stat, kind, program.device(entry.chan.server)))


def pack_filestat(stat: Stat, kind: Filetype, device: int) -> bytes:
    times = (max(0, min(time, MAX_TIME)) for time in (stat.atime, stat.mtime, stat.ctime or stat.mtime))
    inode = stat.qid.path & MAX_TIME
    return FILESTAT.pack(device, inode, kind, stat.links, stat.length, *times)


def fd_filestat_set_size(program: Program, guest: Guest, fd: int, size: int) -> Steps[None]:
    entry = program.table.file(fd, Right.FD_FILESTAT_SET_SIZE)
    if size > MAX_OFFSET:
        raise WasiError(Errno.INVAL)
    _writable(entry)
    if (yield from entry.is_stream(program.process)):
        raise WasiError(Errno.INVAL)
    yield from change(program, entry, SetStat(length=size))


def _writable(entry: WasiFd) -> None:
    """Raises EBADF unless the file was opened for writing."""
    if not entry.opened(OWRITE):
        raise WasiError(Errno.BADF)


def fd_filestat_set_times(program: Program, guest: Guest, fd: int, atime: int, mtime: int, flags: int) -> Steps[None]:
    entry = program.table.get(fd, Right.FD_FILESTAT_SET_TIMES)
    yield from change(program, entry, times_change(atime, mtime, flags))


def times_change(atime: int, mtime: int, flags: int) -> SetStat:
    """Times in ns. Raises EINVAL if a time is to be both given and the present."""
    if flags & ~(ATIM | ATIM_NOW | MTIM | MTIM_NOW):
        raise WasiError(Errno.INVAL)
    if flags & (ATIM | ATIM_NOW) == ATIM | ATIM_NOW or flags & (MTIM | MTIM_NOW) == MTIM | MTIM_NOW:
        raise WasiError(Errno.INVAL)
    return SetStat(
        atime=atime if flags & ATIM else None,
        mtime=mtime if flags & MTIM else None,
        atime_now=bool(flags & ATIM_NOW),
        mtime_now=bool(flags & MTIM_NOW),
    )


def change(program: Program, entry: WasiFd, wanted: SetStat) -> Steps[None]:
    if wanted == SetStat():
        return
    if not entry.is_open:
        yield from program.process.namespace.wstat(entry.chan, wanted)
        return
    chan = entry.chan
    yield from dispatch(chan, WRITE, chan.server.wstat, chan.fid, wanted)


def fd_sync(program: Program, guest: Guest, fd: int) -> Steps[None]:
    return _sync(program, program.table.get(fd, Right.FD_SYNC), False)


def fd_datasync(program: Program, guest: Guest, fd: int) -> Steps[None]:
    return _sync(program, program.table.get(fd, Right.FD_DATASYNC), True)


def _sync(program: Program, entry: WasiFd, data_only: bool) -> Steps[None]:
    yield from entry.settle()
    yield from entry.arrive()
    chan, _ = program.process.namespace.cross(entry.chan)
    if entry.is_open:
        chan = entry.chan
    yield from dispatch(chan, 0, chan.server.sync, chan.fid, data_only)


# -- directories ------------------------------------------------------------------------------------------------------


def fd_readdir(program: Program, guest: Guest, fd: int, pointer: int, size: int, cookie: int, out: int) -> Steps[None]:
    """Entries after `cookie`, the last perhaps cut off where the buffer ends; 0 takes a fresh look."""
    entry = program.table.directory(fd, Right.FD_READDIR)
    reserve(guest, pointer, size)
    reserve(guest, out, 4)
    listing = yield from _listing(program, entry, cookie == 0)
    packed = bytearray()
    given: list[int] = []
    while len(packed) < size:
        piece = yield from _entry_at(program, entry, listing, cookie)
        if piece is None:
            break
        if piece and cookie > 1:
            given.append(cookie - 2)
        packed += piece
        cookie += 1
    if not all(map(listing.may_be_had, given)):  # since it was packed: the program may read again
        raise FileError(E.REVOKED, str(entry.chan.path))
    del packed[size:]
    guest.write(pointer, packed)
    put_u32(guest, out, len(packed))


def _listing(program: Program, entry: WasiFd, fresh: bool) -> Steps[Listing]:
    if entry.listing is not None and not fresh:
        return entry.listing
    chan = entry.chan.share()
    try:
        chan = yield from program.process.namespace.open(chan, OREAD, program.process)
    except BaseException:
        chan.close()
        raise
    if entry.listing is not None:
        entry.listing.chan.close()
    entry.listing = Listing(chan)
    return entry.listing


def _entry_at(program: Program, entry: WasiFd, listing: Listing, cookie: int) -> Steps[bytes | None]:
    """None at the end, nothing of an entry that may not be had any more."""
    if cookie == 0:
        return _pack_entry(1, entry.chan.qid.path, b".", Filetype.DIRECTORY)
    if cookie == 1:
        # What is above may be out of the program's reach; C libraries take inode 0 here for "not known".
        return _pack_entry(2, 0, b"..", Filetype.DIRECTORY)
    yield from listing.upto(cookie - 1, program.process)
    if cookie - 2 >= len(listing.entries):
        return None
    if not listing.may_be_had(cookie - 2):
        return b""
    return _pack_entry(cookie + 1, *listing.entries[cookie - 2])


def _pack_entry(after: int, inode: int, name: bytes, kind: Filetype) -> bytes:
    return DIRENT.pack(after, inode & MAX_TIME, len(name), kind) + name
