"""A directory of the host as a tree that nothing leads out of. See `cognu.world.HostTree`.

What keeps it so: a step opens one component relative to an open directory and never follows a link; there is
no `..`; and after the step the file is named by its handle, not by a path, so what others do to the names no
longer matters. A directory that somebody on the host moves elsewhere stays reachable for who holds its
handle, as with any descriptor.

How a file is held: `cognu.world.host_handles`.

Every method is a blocking call and may run in any thread, also beside `close` of the same handle.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import threading
from collections.abc import Callable, Set
from typing import Final, TypeVar

from cognu.errors import E, FileError, Misuse
from cognu.values import mypyc_attr
from cognu.world import MARKS, HostNode, HostStat, HostSteps, HostTell, WouldWait
from cognu.world.cached import can_open_cached, is_cached
from cognu.world.host_handles import DIRECTORY, HANDLE, ODD, Descriptor, Handle, NamedHandle, PathHandle
from cognu.world.host_names import component, decode, encode
from cognu.world.notices import HostNotices
from cognu.world.refusals import printable, refusals

T = TypeVar("T")
READ_LIMIT: Final = 1 << 24
"""Bytes of one `pread`; the buffer is allocated before it is filled."""

_KINDS: Final = {
    stat.S_IFREG: "-", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFSOCK: "s",
    stat.S_IFCHR: "c", stat.S_IFBLK: "b",
}  # fmt: skip
_CREATE_TRIES = 16
_NAMES_LIMIT = 1024
_users: dict[int, str] = {}
_groups: dict[int, str] = {}


OFFSET_LIMIT = (1 << 63) - 1
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)


@mypyc_attr(allow_interpreted_subclasses=True)
class RealHostFile:
    """An open file. Reads and writes may do less than asked, as the host's; a pipe or terminal that has
    nothing yet, or no room, is `FileError(AGAIN)`: nothing here waits. `with file.descriptor as fd` gives
    the number, for sendfile and the like.
    """

    __slots__ = ("_lock", "_name", "descriptor")

    def __init__(self, fd: int, name: str) -> None:
        self.descriptor = Descriptor(fd)
        self._name = name
        self._lock = threading.Lock()  # One append at a time, where the host has no call for it.

    def pread(self, offset: int, count: int) -> bytes:
        """At most `count` bytes at `offset`, which files without positions (pipes, terminals) ignore; `b""`
        at the end.
        """
        count = min(count, READ_LIMIT)
        _check_range(offset, count)
        with refusals(self._name), self.descriptor as fd:
            try:
                return os.pread(fd, count, offset)
            except OSError as error:
                if error.errno != errno.ESPIPE:
                    raise
            return os.read(fd, count)

    def pread_now(self, offset: int, count: int) -> memoryview | None:
        """As `pread` if the bytes are in the host's page cache (Linux, preadv2(2) RWF_NOWAIT), else None."""
        if _NOWAIT is None:
            return None
        kept = bytearray(min(count, READ_LIMIT))
        try:
            got = os.preadv(self.descriptor.number, [kept], offset, _NOWAIT)
        except (OSError, OverflowError):  # no file of the host goes on beyond 2**63
            return None  # it would wait, or can't say; `pread` finds out and tells
        return memoryview(kept)[:got].toreadonly()

    def stored_now(self, offset: int, count: int) -> tuple[int, int] | None:
        """See `world.HostFile`. Linux from 6.5 on can tell; of other users' files it does not (cachestat(2))."""
        try:
            number = self.descriptor.number
            count = min(count, os.fstat(number).st_size - offset)
        except OSError:
            return None  # `pread` tells
        return (number, count) if count > 0 and is_cached(number, offset, count) else None

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """How many bytes of `data` were written."""
        _check_range(offset, len(data))
        with refusals(self._name), self.descriptor as fd:
            try:
                return os.pwrite(fd, data, offset)
            except OSError as error:
                if error.errno != errno.ESPIPE:
                    raise
            return os.write(fd, data)

    def append(self, data: bytes | bytearray | memoryview) -> int:
        """Write at the end, whoever else writes there; how many bytes were written."""
        with refusals(self._name), self.descriptor as fd:
            try:
                return self._append(fd, data)
            except OSError as error:
                if error.errno != errno.ESPIPE:
                    raise
            return os.write(fd, data)

    def sync(self, data_only: bool) -> None:
        """fdatasync(2) or fsync(2); files that have no disk behind them (EINVAL there) have nothing to do."""
        with refusals(self._name), self.descriptor as fd:
            try:
                if data_only and hasattr(os, "fdatasync"):
                    os.fdatasync(fd)
                else:
                    os.fsync(fd)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise

    def close(self) -> None:
        self.descriptor.close()

    def _append(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        if hasattr(os, "RWF_APPEND"):
            return os.pwritev(fd, [data], 0, os.RWF_APPEND)
        with self._lock:
            return os.pwrite(fd, data, os.lseek(fd, 0, os.SEEK_END))


def _check_range(offset: int, count: int) -> None:
    """Files end at 2**63 - 1 at the latest (off_t), and Linux refuses calls that would go beyond."""
    if offset + count > OFFSET_LIMIT:
        raise FileError(E.INVAL, f"offset {offset}", f"files end at {OFFSET_LIMIT}")


@mypyc_attr(allow_interpreted_subclasses=True)
class RealHostTree:
    """`HostTree` below `path`, which is opened now, following links in `path` itself. Raises `FileError`."""

    def __init__(self, path: str, handle: type[PathHandle] | type[NamedHandle] = HANDLE) -> None:
        with refusals(path):
            self._root: Handle = handle.root(path)
        self._path = printable(path)
        self._notices = HostNotices()
        cached = isinstance(self._root, PathHandle) and can_open_cached()
        self.quick: HostSteps | None = QuickSteps(self) if cached else None

    def close(self) -> None:
        """Handles that were walked to stay good."""
        self._root.close()

    def root(self) -> HostNode:
        with refusals(self._path):
            return self._root.walk(b".")

    def walk(self, node: HostNode, name: str) -> HostNode:
        """The file `name` in the directory `node`; a link is the link itself."""
        raw = component(name)
        with refusals(name):
            return _held(node).walk(raw)

    def stat(self, node: HostNode) -> HostStat:
        with refusals(self._path):
            found = _host_stat(_held(node).stat())
        return found._replace(marks=self._marks(node)) if _may_be_marked(found) else found

    def look(self, node: HostNode, name: str) -> tuple[HostNode, HostStat]:
        return _looked(self, node, name)

    def _marks(self, node: HostNode) -> str:
        try:
            said = self.getxattr(node, MARKS)
        except FileError as error:
            if error.error not in (E.NODATA, E.NOTSUP):
                raise
            return ""
        return "".join(mark for mark in "ax" if mark.encode() in said)

    def list(self, node: HostNode) -> list[str]:
        """Bytes that are not UTF-8 show as `host_names` says; every name given here can be walked to."""
        with refusals(self._path), _held(node).directory as fd:
            reading = os.open(".", DIRECTORY, dir_fd=fd)
            try:
                return [decode(os.fsencode(name)) for name in os.listdir(reading)]
            finally:
                os.close(reading)

    def unshown(self, node: HostNode) -> Set[str]:
        return frozenset()

    def watch(self, node: HostNode, directory: bool, tell: HostTell) -> Callable[[], None]:
        held = _held(node)
        if not isinstance(held, PathHandle):
            raise FileError(E.NOTSUP, "watch", "this host does not tell of changes")
        with held.directory as fd:
            return self._notices.watch(f"/proc/self/fd/{fd}", directory, lambda: held.stat().st_nlink, tell)

    def open(self, node: HostNode, read: bool, write: bool, truncate: bool) -> RealHostFile:
        """ISDIR for a directory, LOOP for a link, NXIO for a socket or the writing end of a pipe nobody
        reads.
        """
        held = _held(node)
        if not (read or write) or (truncate and not write):
            raise FileError(E.INVAL, self._path, "open for reading, writing or both; truncate with writing")
        with refusals(self._path):
            kind = stat.S_IFMT(held.stat().st_mode)
            if kind == stat.S_IFDIR:
                raise FileError(E.ISDIR, self._path)
            if kind == stat.S_IFLNK:
                raise FileError(E.LOOP, self._path)
            flags = os.O_RDWR if read and write else os.O_WRONLY if write else os.O_RDONLY
            return RealHostFile(held.open(flags | ODD | (os.O_TRUNC if truncate else 0)), self._path)

    def create(self, node: HostNode, name: str, mode: int, exclusive: bool) -> tuple[HostNode, RealHostFile]:
        """A file open for reading and writing. One that is there is EXIST if `exclusive`, else opened as it
        is, untruncated.

        `mode` holds for a new file whatever the umask. A link in the way is EXIST or LOOP and never followed.
        """
        raw, mode = component(name), _permissions(mode, name)
        held = _held(node)
        with refusals(name), held.directory as directory:
            file = RealHostFile(_open_or_make(directory, raw, mode, exclusive), printable(name))
            try:
                made = held.walk(raw)
                with file.descriptor as fd:
                    if not os.path.samestat(made.stat(), os.fstat(fd)):
                        raise FileError(E.STALE, printable(name))
            except BaseException:
                file.close()
                raise
            return made, file

    def make_directory(self, node: HostNode, name: str, mode: int) -> HostNode:
        """A new directory with exactly `mode`."""
        raw, mode = component(name), _permissions(mode, name)
        held = _held(node)
        with refusals(name):
            with held.directory as directory:
                os.mkdir(raw, mode & 0o700, dir_fd=directory)
            made = held.walk(raw)
            try:
                if not stat.S_ISDIR(made.stat().st_mode):
                    raise FileError(E.STALE, printable(name))
                made.chmod(mode)
            except BaseException:
                made.close()
                raise
            return made

    def symlink(self, node: HostNode, name: str, target: str) -> HostNode:
        raw = component(name)
        held = _held(node)
        with refusals(name):
            with held.directory as directory:
                os.symlink(encode(target), raw, dir_fd=directory)
            return held.walk(raw)

    def make_node(self, node: HostNode, name: str, kind: str, mode: int) -> HostNode:
        """A pipe (`p`) or socket (`s`) with exactly `mode`; INVAL for another kind."""
        raw, mode = component(name), _permissions(mode, name)
        held = _held(node)
        if kind not in ("p", "s"):
            raise FileError(E.INVAL, printable(name), kind)
        with refusals(name):
            with held.directory as directory:
                if kind == "p":
                    os.mkfifo(raw, mode & 0o700, dir_fd=directory)
                else:
                    os.mknod(raw, stat.S_IFSOCK | mode & 0o700, dir_fd=directory)
            made = held.walk(raw)
            try:
                if _KINDS[stat.S_IFMT(made.stat().st_mode)] != kind:
                    raise FileError(E.STALE, printable(name))
                made.chmod(mode)
            except BaseException:
                made.close()
                raise
            return made

    def readlink(self, node: HostNode) -> str:
        """The text of a link; INVAL for anything else."""
        held = _held(node)
        with refusals(self._path):
            if not stat.S_ISLNK(held.stat().st_mode):
                raise FileError(E.INVAL, self._path, "not a link")
            return decode(held.readlink())

    def link(self, node: HostNode, name: str, existing: HostNode) -> None:
        raw = component(name)
        with refusals(name), _held(node).directory as directory:
            _held(existing).link(directory, raw)

    def unlink(self, node: HostNode, name: str, directory: bool) -> None:
        """ISDIR or NOTDIR if it is not what `directory` says."""
        raw = component(name)
        with refusals(name), _held(node).directory as fd:
            if directory:
                os.rmdir(raw, dir_fd=fd)
                return
            # Some hosts answer EPERM for a directory, which says too little (unlink(2)).
            if stat.S_ISDIR(os.stat(raw, dir_fd=fd, follow_symlinks=False).st_mode):
                raise FileError(E.ISDIR, printable(name))
            os.unlink(raw, dir_fd=fd)

    def rename(self, node: HostNode, name: str, to: HostNode, new_name: str) -> None:
        """rename(2): replaces a file, or an empty directory by a directory."""
        raw, new = component(name), component(new_name)
        with refusals(name), _held(node).directory as source, _held(to).directory as target:
            os.rename(raw, new, src_dir_fd=source, dst_dir_fd=target)

    def change(
        self,
        node: HostNode,
        *,
        mode: int | None = None,
        size: int | None = None,
        mtime: int | None = None,
        atime: int | None = None,
    ) -> None:
        """What is given changes, size before times. A link's attributes are NOTSUP; the size is a plain
        file's.
        """
        held = _held(node)
        if mode is not None:
            mode = _permissions(mode, self._path)
        with refusals(self._path):
            kind = stat.S_IFMT(held.stat().st_mode)
            if kind == stat.S_IFLNK:
                raise FileError(E.NOTSUP, self._path, "attributes of a link")
            if size is not None:
                if kind != stat.S_IFREG:
                    raise FileError(E.ISDIR if kind == stat.S_IFDIR else E.INVAL, self._path, "size")
                fd = held.open(os.O_WRONLY | ODD)
                try:
                    os.ftruncate(fd, size)
                finally:
                    os.close(fd)
            if mode is not None:
                held.chmod(mode)
            if mtime is not None or atime is not None:
                now = held.stat()
                held.utime(now.st_atime_ns if atime is None else atime, now.st_mtime_ns if mtime is None else mtime)

    def getxattr(self, node: HostNode, name: str) -> bytes:
        raw = encode(name)
        return self._attributes(node, name, lambda file: os.getxattr(file, raw))

    def listxattr(self, node: HostNode) -> tuple[str, ...]:
        return self._attributes(
            node, self._path, lambda file: tuple(decode(os.fsencode(raw)) for raw in os.listxattr(file))
        )

    def setxattr(self, node: HostNode, name: str, value: bytes, flags: int) -> None:
        raw = encode(name)
        self._attributes(node, name, lambda file: os.setxattr(file, raw, value, flags))

    def removexattr(self, node: HostNode, name: str) -> None:
        raw = encode(name)
        self._attributes(node, name, lambda file: os.removexattr(file, raw))

    def _attributes(self, node: HostNode, name: str, call: Callable[[int | str], T]) -> T:
        """Of plain files and directories alone, which is what xattr(7) gives a user's to; NOTSUP on hosts without."""
        held = _held(node)
        with refusals(name):
            if stat.S_IFMT(held.stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR) or not hasattr(os, "getxattr"):
                raise FileError(E.NOTSUP, self._path, "extended attributes")
            return held.attributes(call)

    def space(self) -> tuple[int, int, int]:
        """(block size in bytes, blocks in all, blocks an ordinary user may still take); statvfs(3)."""
        with refusals(self._path), self._root.directory as fd:
            found = os.fstatvfs(fd)
            return found.f_frsize, found.f_blocks, found.f_bavail


class QuickSteps:
    """`HostSteps` of a tree of `PathHandle`s by what the host has in memory; everything else is `WouldWait`."""

    def __init__(self, tree: RealHostTree) -> None:
        self._tree = tree

    def root(self) -> HostNode:
        with refusals(self._tree._path):
            return _path_handle(self._tree._root).walk_cached(b".")

    def walk(self, node: HostNode, name: str) -> HostNode:
        raw = component(name)
        with refusals(name):
            return _path_handle(node).walk_cached(raw)

    def stat(self, node: HostNode) -> HostStat:
        handle = _path_handle(node)
        if not handle.local:
            raise WouldWait
        try:
            found = os.fstat(handle.number)
        except OSError:
            raise WouldWait from None  # the steps that may wait say what the host says
        if found.st_uid not in _users or found.st_gid not in _groups:
            raise WouldWait
        told = _host_stat(found)
        if _may_be_marked(told):
            raise WouldWait
        handle.is_plain = told.kind == "-"
        return told

    def look(self, node: HostNode, name: str) -> tuple[HostNode, HostStat]:
        return _looked(self, node, name)

    def open(self, node: HostNode, read: bool, write: bool, truncate: bool) -> RealHostFile:
        """Plain files for reading only: making room, and what a device does when opened, may take time."""
        handle = _path_handle(node)
        if write or truncate or not (read and handle.local):
            raise WouldWait
        with refusals(self._tree._path):
            number = handle.number
            if not (handle.is_plain or stat.S_ISREG(os.fstat(number).st_mode)):
                raise WouldWait
            return RealHostFile(os.open(f"/proc/self/fd/{number}", os.O_RDONLY | ODD), self._tree._path)


def _path_handle(node: HostNode) -> PathHandle:
    if not isinstance(node, PathHandle):
        raise Misuse(E.BADF, type(node).__name__)
    return node


def _host_stat(found: os.stat_result) -> HostStat:
    mode, uid, gid, number = found.st_mode, found.st_uid, found.st_gid, found.st_rdev
    return HostStat(  # by place, and as much of it as can be at once: every request for attributes comes here
        _KINDS[mode & 0o170000],
        mode & 0o7777,
        found.st_size,
        found.st_mtime_ns,
        found.st_atime_ns,
        found.st_ctime_ns,
        (found.st_dev, found.st_ino),
        found.st_nlink,
        _user(uid),
        _group(gid),
        uid,
        gid,
        (os.major(number), os.minor(number)) if number else (0, 0),
    )


def _may_be_marked(found: HostStat) -> bool:
    return bool(found.mode & stat.S_ISVTX) and found.kind == "-"


def _looked(steps: HostSteps, node: HostNode, name: str) -> tuple[HostNode, HostStat]:
    found = steps.walk(node, name)
    try:
        return found, steps.stat(found)
    except BaseException:
        found.close()
        raise


def _held(node: HostNode) -> Handle:
    if not isinstance(node, PathHandle | NamedHandle):
        raise Misuse(E.BADF, type(node).__name__)
    return node


def _open_or_make(directory: int, name: bytes, mode: int, exclusive: bool) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | ODD
    for _ in range(_CREATE_TRIES):
        try:
            fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, mode & 0o700 | 0o600, dir_fd=directory)
        except FileExistsError:
            if exclusive:
                raise
        else:
            try:
                os.fchmod(fd, mode)
            except BaseException:
                os.close(fd)
                raise
            return fd
        try:
            return os.open(name, flags, dir_fd=directory)
        except FileNotFoundError:
            continue  # Removed in between; now it may be made after all.
    raise FileError(E.AGAIN, printable(decode(name)))


def _permissions(mode: int, name: str) -> int:
    """The permission bits and the sticky bit. Set-user-id and set-group-id are refused: the programs that
    create files here run inside Cognu, and such a file would lend this user's authority to everyone on the
    host.
    """
    if mode & ~0o1777 & 0o7777:
        raise FileError(E.PERM, printable(name), "set-user-id or set-group-id")
    return mode & 0o1777


def _user(uid: int) -> str:
    name = _users.get(uid)
    return _kept(_users, uid, lambda: pwd.getpwuid(uid).pw_name) if name is None else name


def _group(gid: int) -> str:
    name = _groups.get(gid)
    return _kept(_groups, gid, lambda: grp.getgrgid(gid).gr_name) if name is None else name


def _kept(names: dict[int, str], number: int, look_up: Callable[[], str]) -> str:
    """The name for a number, which the host may have to ask a directory service for."""
    try:
        name = look_up()
    except KeyError:
        name = str(number)
    if len(names) >= _NAMES_LIMIT:
        names.clear()
    names[number] = name
    return name
