"""How a file of the host is held, so that nothing that others do to its names leads elsewhere.

How a file is held is chosen in one place, `HANDLE`:

- `PathHandle`, where the host has O_PATH: a descriptor that names the inode itself, link or not. Descriptors
  for reading and writing come from `/proc/self/fd/N`, which leads to that inode and nowhere else (open(2),
  proc_pid_fd(5)).
- `NamedHandle`, anywhere else: the open parent and the name, with device and inode number compared at every
  use. What was swapped meanwhile is STALE.

Every method is a blocking call and may run in any thread, also beside `close` of the same handle.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from cognu.errors import E, FileError, from_oserror
from cognu.world import HostNode
from cognu.world.cached import is_local, open_cached
from cognu.world.host_names import decode
from cognu.world.refusals import printable

log = logging.getLogger("cognu.world")

T = TypeVar("T")
ODD = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Opening never waits for a pipe's other end, and a terminal does not become the node's."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Descriptor:
    """A descriptor that is closed when asked to and no call uses it: a number closed under a running call
    could by then be another file's. `with` gives the number; it raises `FileError(BADF)` after `close`.
    """

    __slots__ = ("_closed", "_fd", "_lock", "_users")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._users = 0
        self._closed = False
        self._lock = threading.Lock()  # Guards the two above.

    def __enter__(self) -> int:
        with self._lock:
            if self._closed:
                raise FileError(E.BADF)
            self._users += 1
            return self._fd

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and not self._users
        if last:
            _close(self._fd)

    @property
    def number(self) -> int:
        """The number, for one call that its owner makes at once, and beside which nobody closes it."""
        if self._closed:
            raise FileError(E.BADF)
        return self._fd

    def close(self) -> None:
        with self._lock:
            last = not (self._closed or self._users)
            self._closed = True
        if last:
            _close(self._fd)

    def __del__(self) -> None:
        # A call whose caller was cancelled still returns its handle, to nobody.
        if not self._closed:
            self.close()


def _close(fd: int) -> None:
    """The number is free then, whatever close(2) says: that is of what was written before and is lost (EIO, EDQUOT).

    Nobody is left to be told but the log; who must know asks before, by `sync`.
    """
    try:
        os.close(fd)
    except OSError as error:
        log.error("what was written to a file of the host may be lost: %s", from_oserror(error))


class Handle(HostNode, Protocol):
    """One file, held so that no link or race leads elsewhere. `with self.directory as fd` is for the *at
    calls.
    """

    @property
    def directory(self) -> Descriptor: ...

    def walk(self, name: bytes) -> Handle: ...

    def stat(self) -> os.stat_result: ...

    def open(self, flags: int) -> int: ...

    def readlink(self) -> bytes: ...

    def chmod(self, mode: int) -> None: ...

    def utime(self, atime: int, mtime: int) -> None: ...

    def link(self, directory: int, name: bytes) -> None: ...

    def attributes(self, call: Callable[[int | str], T]) -> T:
        """Have `call` do something to extended attributes, by what Python takes for the file."""


class PathHandle:
    """A file by an O_PATH descriptor. `local`: on a file system of this machine's own, as far as is known.

    `is_plain`: a plain file, as was seen once: what kind of file an inode is never changes.
    """

    __slots__ = ("_descriptor", "is_plain", "local")

    def __init__(self, fd: int, local: bool) -> None:
        self._descriptor = Descriptor(fd)
        self.local = local
        self.is_plain = False

    @classmethod
    def root(cls, path: str) -> PathHandle:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return cls(fd, is_local(fd))

    @property
    def directory(self) -> Descriptor:
        return self._descriptor

    @property
    def number(self) -> int:
        """See `Descriptor.number`."""
        if self._descriptor._closed:
            raise FileError(E.BADF)
        return self._descriptor._fd

    def walk(self, name: bytes) -> PathHandle:
        with self._descriptor as directory:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            return PathHandle(fd, is_local(fd))

    def walk_cached(self, name: bytes) -> PathHandle:
        """As `walk` if the host need not wait for it, else raises `WouldWait`; it stays in the same mount."""
        return PathHandle(open_cached(self.number, name), self.local)

    def stat(self) -> os.stat_result:
        with self._descriptor as fd:
            return os.fstat(fd)

    def open(self, flags: int) -> int:
        with self._descriptor as fd:
            return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)

    def readlink(self) -> bytes:
        with self._descriptor as fd:
            return os.readlink(b"", dir_fd=fd)

    def chmod(self, mode: int) -> None:
        with self._descriptor as fd:
            os.chmod(f"/proc/self/fd/{fd}", mode)

    def utime(self, atime: int, mtime: int) -> None:
        with self._descriptor as fd:
            os.utime(f"/proc/self/fd/{fd}", ns=(atime, mtime))

    def link(self, directory: int, name: bytes) -> None:
        with self._descriptor as fd:
            os.link(f"/proc/self/fd/{fd}".encode(), name, dst_dir_fd=directory, follow_symlinks=True)

    def attributes(self, call: Callable[[int | str], T]) -> T:
        with self._descriptor as fd:
            return call(f"/proc/self/fd/{fd}")

    def close(self) -> None:
        self._descriptor.close()


class NamedHandle:
    """A file by its open parent, its name and its identity; a directory by its own descriptor besides."""

    __slots__ = ("_identity", "_name", "_own", "_parent")

    def __init__(self, parent: Descriptor, name: bytes) -> None:
        with parent as fd:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            self._own: Descriptor | None = None
            if stat.S_ISDIR(found.st_mode):
                self._own = Descriptor(os.open(name, DIRECTORY, dir_fd=fd))
                with self._own as own:
                    found = os.fstat(own)
            self._parent = Descriptor(os.dup(fd))
        self._name = name
        self._identity = (found.st_dev, found.st_ino)

    @classmethod
    def root(cls, path: str) -> NamedHandle:
        return cls(Descriptor(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)), b".")

    @property
    def directory(self) -> Descriptor:
        if self._own is None:
            raise NotADirectoryError(errno.ENOTDIR, "")
        return self._own

    def walk(self, name: bytes) -> NamedHandle:
        return NamedHandle(self.directory, name)

    def stat(self) -> os.stat_result:
        if self._own is not None:
            with self._own as fd:
                return os.fstat(fd)
        with self._parent as fd:
            return self._check(os.stat(self._name, dir_fd=fd, follow_symlinks=False))

    def open(self, flags: int) -> int:
        # Truncating waits until the file is known to be the one that was meant.
        plain = flags & ~os.O_TRUNC | os.O_NOFOLLOW | ODD
        if self._own is not None:
            with self._own as own:
                return os.open(b".", plain, dir_fd=own)
        with self._parent as parent:
            fd = os.open(self._name, plain, dir_fd=parent)
        try:
            self._check(os.fstat(fd))
            if flags & os.O_TRUNC:
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def readlink(self) -> bytes:
        self.stat()
        with self._parent as fd:
            return os.readlink(self._name, dir_fd=fd)

    def chmod(self, mode: int) -> None:
        self._with_own(os.O_RDONLY, lambda fd: os.fchmod(fd, mode))

    def utime(self, atime: int, mtime: int) -> None:
        self._with_own(os.O_RDONLY, lambda fd: os.utime(fd, ns=(atime, mtime)))

    def link(self, directory: int, name: bytes) -> None:
        self.stat()
        with self._parent as fd:
            os.link(self._name, name, src_dir_fd=fd, dst_dir_fd=directory, follow_symlinks=False)

    def attributes(self, call: Callable[[int | str], T]) -> T:
        fd = self.open(os.O_RDONLY)
        try:
            return call(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        self._parent.close()
        if self._own is not None:
            self._own.close()

    def _with_own(self, flags: int, call: Callable[[int], None]) -> None:
        fd = self.open(flags)
        try:
            call(fd)
        finally:
            os.close(fd)

    def _check(self, found: os.stat_result) -> os.stat_result:
        if (found.st_dev, found.st_ino) != self._identity:
            raise FileError(E.STALE, printable(decode(self._name)))
        return found


HANDLE: type[PathHandle] | type[NamedHandle] = PathHandle if hasattr(os, "O_PATH") else NamedHandle
