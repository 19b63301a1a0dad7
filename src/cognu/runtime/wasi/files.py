"""The functions on paths: `path_*`."""

from __future__ import annotations

from typing import NamedTuple

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.namespace import check_no_gain
from cognu.files.process import Process
from cognu.files.server import OAPPEND, OEXCL, Then
from cognu.files.steps import Steps
from cognu.kernel import CREATE
from cognu.ninep.types import DMDIR, OACCESS, ORDWR, OREAD, OTRUNC, OWRITE, QTDIR, QTSYMLINK, SetStat
from cognu.runtime.wasi.abi import (
    ALL_RIGHTS,
    APPEND,
    CREAT,
    DIRECTORY,
    DIRECTORY_RIGHTS,
    EXCL,
    FDFLAGS,
    FILE_RIGHTS,
    FILESTAT,
    OFLAGS,
    SYMLINK_FOLLOW,
    TRUNC,
    Errno,
    Right,
    WasiError,
    errno_of,
)
from cognu.runtime.wasi.descriptors import pack_filestat, times_change
from cognu.runtime.wasi.memory import Guest, path_at, put_u32, reserve
from cognu.runtime.wasi.paths import Found, Start, reach, read_link, resolve
from cognu.runtime.wasi.table import Program, WasiFd, kind_of

FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
"""Permissions of what a program makes; WASI has no way to say them."""
RACES = 8
"""How often a file may come and go between our looking and our making it, until we give up."""


# -- opening ----------------------------------------------------------------------------------------------------------


def path_open(
    program: Program, guest: Guest, fd: int, lookup: int, pointer: int, size: int, oflags: int,
    base: int, inheriting: int, fdflags: int, out: int,
) -> Steps[None]:  # fmt: skip
    parent = program.table.directory(fd, Right.PATH_OPEN)
    reserve(guest, out, 4)
    path = path_at(guest, pointer, size)
    base, inheriting = base & ALL_RIGHTS, inheriting & ALL_RIGHTS
    _check_open(parent, oflags, base, inheriting, fdflags)
    # What is opened below bequeaths all that this directory does, not just `inheriting`: Wasmtime enforces no rights,
    # and Zig asks too few for a directory to make files in it later. fd_fdstat_set_rights narrows, and that holds.
    inheriting = parent.inheriting
    # open(2): with O_CREAT and O_EXCL a symlink at the end is a file that exists, wherever it leads.
    follow = bool(lookup & SYMLINK_FOLLOW) and oflags & (CREAT | EXCL) != CREAT | EXCL
    process = program.process
    wanted = _Wanted(path, follow, oflags, base, inheriting, fdflags)
    try:
        entry = yield from _opened(process, parent.start, wanted)
    except (FileError, WasiError) as error:
        if not (yield from _granted(process, parent.start, error, wanted)):
            raise
        entry = yield from _opened(process, parent.start, wanted)
    put_u32(guest, out, program.table.add(entry))


class _Wanted(NamedTuple):
    """What path_open was asked for."""

    path: str
    follow: bool
    oflags: int
    base: int
    inheriting: int
    fdflags: int


def _opened(process: Process, start: Start, wanted: _Wanted) -> Steps[WasiFd]:
    path, follow, oflags, *how = wanted
    reads = _mode(oflags, wanted.base, wanted.fdflags) == OREAD and not oflags & (CREAT | DIRECTORY)
    for _ in range(RACES):
        # What is only to be opened is asked for here, with all that it is opened for.
        place, then = bool(oflags & CREAT), Then.READ if reads else None
        found = yield from resolve(process, start, path, follow=follow, place=place, ask=False, then=then)
        try:
            if found.chan is None:
                return (yield from _create(process, found, oflags, *how))
            return (yield from _open(process, found.chan, oflags, *how))
        except FileError as error:
            # Between looking and making somebody else made it, or took away what was to be opened.
            race = E.EXIST if found.chan is None else E.NOENT
            if oflags & (CREAT | EXCL) != CREAT or error.error is not race:
                raise
    raise WasiError(Errno.AGAIN)


def _granted(process: Process, start: Start, error: FileError | WasiError, wanted: _Wanted) -> Steps[bool]:
    """Whether somebody who was asked granted what may be all that is missing.

    A file that must not be there yet can't be granted: it would be there.
    """
    errno = error.errno if isinstance(error, WasiError) else errno_of(error.error)
    if process.reach is None or errno not in (Errno.NOENT, Errno.ACCES) or wanted.oflags & EXCL:
        return False
    creates = bool(wanted.oflags & CREAT)
    mode = _mode(wanted.oflags, wanted.base, wanted.fdflags)
    rights = {OREAD: "r", OWRITE: "w", ORDWR: "rw"}[OREAD if mode is None else mode & OACCESS] + "c" * creates
    if errno is Errno.NOENT:
        return (yield from reach(process, start, wanted.path, rights))
    found = yield from resolve(process, start, wanted.path, follow=wanted.follow, place=creates, ask=False)
    if found.chan is not None:
        there = str(found.chan.path)
    else:
        directory, name = found.place()
        there = f"{str(directory.path).rstrip('/')}/{name}"
    given: bool = yield process.reach(there, rights)
    return given


def _check_open(parent: WasiFd, oflags: int, base: int, inheriting: int, fdflags: int) -> None:
    if oflags & ~OFLAGS or fdflags & ~FDFLAGS or (oflags & DIRECTORY and oflags & (CREAT | EXCL | TRUNC)):
        raise WasiError(Errno.INVAL)
    parent.need(
        (Right.PATH_CREATE_FILE if oflags & CREAT else 0) | (Right.PATH_FILESTAT_SET_SIZE if oflags & TRUNC else 0)
    )
    if (base | inheriting) & ~parent.inheriting:
        raise WasiError(Errno.NOTCAPABLE)


def _mode(oflags: int, base: int, fdflags: int) -> int | None:
    """How to open a file so that these rights can be used; None if it need not be opened at all."""
    # Only the right to write asks for writing, as in Wasmtime: Go asks for the right to set the size of all it reads.
    mode = {(True, False): OREAD, (False, True): OWRITE, (True, True): ORDWR}.get(
        (bool(base & Right.FD_READ), bool(base & Right.FD_WRITE))
    )
    if mode is None and oflags & (CREAT | TRUNC):
        mode = OWRITE
    if mode is None:
        return None
    return mode | (OTRUNC if oflags & TRUNC else 0) | (OAPPEND if fdflags & APPEND else 0)


def _create(process: Process, found: Found, oflags: int, base: int, inheriting: int, fdflags: int) -> Steps[WasiFd]:
    if found.slash:
        raise WasiError(Errno.ISDIR)
    directory, name = found.place()
    mode = (_mode(oflags, base, fdflags) or 0) & ~OTRUNC | OEXCL
    chan = yield from process.namespace.create(directory, name, FILE_MODE, mode, process)
    return WasiFd(chan, base & FILE_RIGHTS, inheriting, fdflags)


def _open(process: Process, chan: Chan, oflags: int, base: int, inheriting: int, fdflags: int) -> Steps[WasiFd]:
    if oflags & CREAT and oflags & EXCL:
        raise WasiError(Errno.EXIST)
    if chan.qid.type & QTSYMLINK:
        raise WasiError(Errno.LOOP)
    if chan.qid.type & QTDIR:
        if oflags & (CREAT | TRUNC) or base & Right.FD_WRITE:
            raise WasiError(Errno.ISDIR)
        return WasiFd(chan.share(), base & DIRECTORY_RIGHTS, inheriting, fdflags)
    if oflags & DIRECTORY:
        raise WasiError(Errno.NOTDIR)
    mode = _mode(oflags, base, fdflags)
    if mode is not None:
        chan = yield from process.namespace.open(chan, mode, process)
    return WasiFd(chan, base & FILE_RIGHTS, inheriting, fdflags)


# -- attributes -------------------------------------------------------------------------------------------------------


def path_filestat_get(
    program: Program, guest: Guest, fd: int, lookup: int, pointer: int, size: int, out: int
) -> Steps[None]:
    parent = program.table.directory(fd, Right.PATH_FILESTAT_GET)
    reserve(guest, out, FILESTAT.size)
    path = path_at(guest, pointer, size)
    process = program.process
    found = yield from resolve(process, parent.start, path, follow=bool(lookup & SYMLINK_FOLLOW), then=Then.STAT)
    chan, _ = process.namespace.cross(found.existing())
    stat = yield from process.namespace.stat(chan)
    guest.write(out, pack_filestat(stat, kind_of(chan, stat), program.device(chan.server)))


def path_filestat_set_times(
    program: Program, guest: Guest, fd: int, lookup: int, pointer: int, size: int,
    atime: int, mtime: int, flags: int,
) -> Steps[None]:  # fmt: skip
    parent = program.table.directory(fd, Right.PATH_FILESTAT_SET_TIMES)
    path = path_at(guest, pointer, size)
    wanted = times_change(atime, mtime, flags)
    process = program.process
    found = yield from resolve(process, parent.start, path, follow=bool(lookup & SYMLINK_FOLLOW))
    if wanted != SetStat():
        yield from process.namespace.wstat(found.existing(), wanted)


# -- making and removing ----------------------------------------------------------------------------------------------


def path_create_directory(program: Program, guest: Guest, fd: int, pointer: int, size: int) -> Steps[None]:
    parent = program.table.directory(fd, Right.PATH_CREATE_DIRECTORY)
    path = path_at(guest, pointer, size)
    process = program.process
    directory, name = yield from _vacant(process, parent.start, path, slash=True)
    made = yield from process.namespace.create(directory, name, DMDIR | DIRECTORY_MODE, OREAD | OEXCL, process)
    made.close()


def _vacant(process: Process, base: Start, path: str, *, slash: bool = False) -> Steps[tuple[Chan, str]]:
    """The place for a file that must not be there yet. Raises EEXIST, and ENOENT for `name/` unless `slash` is fine."""
    found = yield from resolve(process, base, path.rstrip("/") or path, follow=False, place=True)
    if found.chan is not None:
        raise WasiError(Errno.EXIST)
    if path.endswith("/") and not slash:
        raise WasiError(Errno.NOENT)
    return found.place()


def path_remove_directory(program: Program, guest: Guest, fd: int, pointer: int, size: int) -> Steps[None]:
    parent = program.table.directory(fd, Right.PATH_REMOVE_DIRECTORY)
    path = path_at(guest, pointer, size)
    # A symlink is no directory, and `link/` is not its target here: nothing is removed that the path does not name.
    found = yield from resolve(program.process, parent.start, path.rstrip("/") or path, follow=False, place=True)
    chan = found.existing()
    if not chan.qid.type & QTDIR:
        raise WasiError(Errno.NOTDIR)
    found.place()
    yield from program.process.namespace.remove(chan, program.process)


def path_unlink_file(program: Program, guest: Guest, fd: int, pointer: int, size: int) -> Steps[None]:
    parent = program.table.directory(fd, Right.PATH_UNLINK_FILE)
    path = path_at(guest, pointer, size)
    found = yield from resolve(program.process, parent.start, path, follow=False, place=True)
    chan = found.existing()
    if chan.qid.type & QTDIR:
        raise WasiError(Errno.ISDIR)
    yield from program.process.namespace.remove(chan, program.process)


def path_rename(
    program: Program, guest: Guest, fd: int, pointer: int, size: int, to_fd: int, to_pointer: int, to_size: int
) -> Steps[None]:
    parent = program.table.directory(fd, Right.PATH_RENAME_SOURCE)
    to_parent = program.table.directory(to_fd, Right.PATH_RENAME_TARGET)
    path, to_path = path_at(guest, pointer, size), path_at(guest, to_pointer, to_size)
    process = program.process
    source = yield from _moving(process, parent.start, path)
    target = yield from _moving(process, to_parent.start, to_path)
    directory, name = source.place(Errno.BUSY)
    to_directory, to_name = target.place(Errno.BUSY)
    chan = source.existing()
    if target.chan is not None:
        _check_replaced(chan, target.chan)
    elif to_path.endswith("/") and not chan.qid.type & QTDIR:
        raise WasiError(Errno.NOTDIR)
    if directory.cap != to_directory.cap:
        check_no_gain(chan, process.namespace.cross(to_directory)[0])
    yield from process.namespace.rename(directory, name, to_directory, to_name, process)


def _moving(process: Process, base: Start, path: str) -> Steps[Found]:
    """A symlink is moved itself; `name/` must be a directory if it is there."""
    found = yield from resolve(process, base, path.rstrip("/") or path, follow=False, place=True)
    if path.endswith("/") and found.chan is not None and not found.chan.qid.type & QTDIR:
        raise WasiError(Errno.NOTDIR)
    return found


def _check_replaced(source: Chan, target: Chan) -> None:
    """rename(2): a directory replaces a directory only, and a file a file. Raises ENOTDIR, EISDIR."""
    if source.key == target.key or bool(source.qid.type & QTDIR) == bool(target.qid.type & QTDIR):
        return
    raise WasiError(Errno.ISDIR if target.qid.type & QTDIR else Errno.NOTDIR)


# -- links ------------------------------------------------------------------------------------------------------------


def path_link(
    program: Program, guest: Guest, fd: int, lookup: int, pointer: int, size: int,
    to_fd: int, to_pointer: int, to_size: int,
) -> Steps[None]:  # fmt: skip
    parent = program.table.directory(fd, Right.PATH_LINK_SOURCE)
    to_parent = program.table.directory(to_fd, Right.PATH_LINK_TARGET)
    path, to_path = path_at(guest, pointer, size), path_at(guest, to_pointer, to_size)
    process = program.process
    follow = bool(lookup & SYMLINK_FOLLOW)
    existing = (yield from resolve(process, parent.start, path, follow=follow)).existing()
    existing, _ = process.namespace.cross(existing)
    if existing.qid.type & QTDIR:
        raise WasiError(Errno.PERM)
    directory, name = yield from _vacant(process, to_parent.start, to_path)
    where = process.namespace.creator(directory)
    if where.server is not existing.server:
        raise WasiError(Errno.XDEV)
    check_no_gain(existing, where)
    yield from dispatch(where, CREATE, where.server.link, where.fid, existing.fid, name)


def path_symlink(
    program: Program, guest: Guest, target_pointer: int, target_size: int, fd: int, pointer: int, size: int
) -> Steps[None]:
    """An absolute target is EPERM: it could not be followed here, and should not lead others astray."""
    parent = program.table.directory(fd, Right.PATH_SYMLINK)
    target, path = path_at(guest, target_pointer, target_size), path_at(guest, pointer, size)
    if not target:
        raise WasiError(Errno.NOENT)
    if target.startswith("/"):
        raise WasiError(Errno.PERM)
    process = program.process
    directory, name = yield from _vacant(process, parent.start, path)
    where = process.namespace.creator(directory)
    yield from dispatch(where, CREATE, where.server.symlink, where.fid, name, target)


def path_readlink(
    program: Program, guest: Guest, fd: int, pointer: int, size: int, buffer: int, room: int, out: int
) -> Steps[None]:
    """As readlink(2): what does not fit is cut off. An absolute target is EPERM: it names nothing here."""
    parent = program.table.directory(fd, Right.PATH_READLINK)
    reserve(guest, buffer, room)
    reserve(guest, out, 4)
    path = path_at(guest, pointer, size)
    found = yield from resolve(program.process, parent.start, path, follow=False)
    target = yield from read_link(found.existing())
    if target.startswith("/"):
        raise WasiError(Errno.PERM)
    data = target.encode("utf-8", "surrogateescape")[:room]
    guest.write(buffer, data)
    put_u32(guest, out, len(data))
