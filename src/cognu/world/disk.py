"""The node's own files on the host's disk. See `cognu.world.Disk`."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress

from cognu.errors import from_oserror
from cognu.world import HostTree
from cognu.world.host_handles import Descriptor
from cognu.world.host_tree import RealHostFile, RealHostTree
from cognu.world.refusals import refusals

MOUNTS = "/proc/self/mountinfo"
UNFINISHED = ".new-"
"""Names of files whose writing a crash cut short begin so; `list` leaves them out."""


class RealDraft:
    """`Draft` on the host's file system. One thread at a time writes; any may discard."""

    def __init__(self, path: str, mode: int) -> None:
        self._path = path
        self._directory = os.path.dirname(path) or "."
        self._fresh: str | None = None  # until it is in its place or gone
        fresh = os.path.join(self._directory, UNFINISHED + secrets.token_hex(8))
        with refusals(path):
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
            self._fresh = fresh
            self._descriptor = Descriptor(fd)
            try:
                os.fchmod(fd, mode)
            except BaseException:
                self.discard()
                raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with refusals(self._path), self._descriptor as fd:
            _write_all(fd, data)

    def commit(self, path: str = "") -> None:
        fresh = self._fresh  # Another thread may discard meanwhile; then the calls below refuse.
        assert fresh is not None
        place = path or self._path
        with refusals(place):
            with self._descriptor as fd:
                os.fsync(fd)
            self._descriptor.close()
            os.rename(fresh, place)
            self._fresh = None
            _sync_directory(os.path.dirname(place) or ".")

    def discard(self) -> None:
        fresh, self._fresh = self._fresh, None
        if fresh is not None:
            self._descriptor.close()
            with suppress(OSError):
                os.unlink(fresh)

    def __del__(self) -> None:
        # A call whose caller was cancelled still returns its draft, to nobody.
        self.discard()


class RealDisk:
    """`Disk` on the host's file system. Every method raises `FileError`."""

    def read(self, path: str) -> bytes:
        with refusals(path), open(path, "rb") as file:
            return file.read()

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """A new file beside the old one, synced, renamed over it, and the directory synced (rename(2),
        fsync(2)).
        """
        draft = RealDraft(path, mode)
        try:
            draft.write(data)
            draft.commit()
        finally:
            draft.discard()

    def open(self, path: str) -> RealHostFile:
        with refusals(path):
            return RealHostFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)

    def draft(self, path: str, mode: int = 0o600) -> RealDraft:
        return RealDraft(path, mode)

    def append(self, path: str, data: bytes) -> None:
        """Add `data` at the end, durably; the file is made (0600) if there is none. All of it or, on an
        error, none.
        """
        with refusals(path):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(fd).st_size
                try:
                    _write_all(fd, data)
                    os.fsync(fd)
                except OSError:
                    os.ftruncate(fd, before)
                    raise
            finally:
                os.close(fd)
            if before == 0:
                _sync_directory(os.path.dirname(path) or ".")

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory."""
        with refusals(path):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                os.rmdir(path)
            else:
                os.unlink(path)
            _sync_directory(os.path.dirname(path) or ".")

    def list(self, path: str) -> list[str]:
        with refusals(path):
            return sorted(name for name in os.listdir(path) if not name.startswith(UNFINISHED))

    def sweep(self, path: str) -> int:
        with refusals(path):
            left = [name for name in os.listdir(path) if name.startswith(UNFINISHED)]
            for name in left:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(path, name))
            return len(left)

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        """Make it and the parents that are missing, all with `mode` (less the umask)."""
        with refusals(path):
            missing = []
            rest = os.path.abspath(path)
            while not os.path.lexists(rest):
                missing.append(rest)
                rest = os.path.dirname(rest)
            for step in reversed(missing):
                with suppress(FileExistsError):  # Another made it meanwhile.
                    os.mkdir(step, mode)
                _sync_directory(os.path.dirname(step))
            if not os.path.isdir(path):
                raise NotADirectoryError(20, "", path)

    def exists(self, path: str) -> bool:
        with refusals(path):
            try:
                os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def lock(self, path: str) -> Callable[[], None] | None:
        """An flock(2) on `path`, which is made if missing and stays; the host lets go of it when this process
        ends.
        """
        with refusals(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            except BaseException:
                os.close(fd)
                raise
        held = [fd]

        def release() -> None:
            if held:
                os.close(held.pop())

        return release

    def mounts(self) -> Mapping[int, str]:
        try:
            with open(MOUNTS, "rb") as file:
                return parse_mounts(file.read())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise from_oserror(error, MOUNTS) from None

    def tree(self, path: str) -> HostTree:
        return RealHostTree(path)


def parse_mounts(text: bytes) -> dict[int, str]:
    """Kinds of file systems by device number, of mountinfo's lines (proc_pid_mountinfo(5)); others are passed over.

    A line is `ID PARENT MAJOR:MINOR ROOT PLACE OPTIONS [TAG...] - KIND SOURCE OPTIONS`.
    """
    kinds: dict[int, str] = {}
    for line in text.splitlines():
        before, _, after = line.partition(b" - ")
        words, kind = before.split(), after.split(b" ", 1)[0]
        major, colon, minor = words[2].partition(b":") if len(words) > 5 else (b"", b"", b"")
        if kind and colon and all(part.isdigit() and len(part) <= 9 for part in (major, minor)):
            kinds[os.makedev(int(major), int(minor))] = kind.decode("ascii", "backslashreplace")
    return kinds


def _write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
