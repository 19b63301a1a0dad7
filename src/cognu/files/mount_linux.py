"""What the mount driver asks of a far server beyond plain 9P2000: links, special files, attributes, locks, space.

9P2000.L (and .ng) have a message for each. 9P2000.u says some of it by a Tcreate with an extension, on a fid of its
own, since creating opens (`files/special.py` is the other end). What a dialect has no words for is NOTSUP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from cognu.errors import E, FileError
from cognu.files.late import Late
from cognu.files.locks import LOCK_WAIT
from cognu.files.server import LOCK_END, Lock, Owner
from cognu.ninep import messages as m
from cognu.ninep.attrs import posix_mode
from cognu.ninep.client import ClientSession
from cognu.ninep.messages import OLD_STYLE, Dialect, Request
from cognu.ninep.types import (
    DMBLOCK,
    DMDEVICE,
    DMLINK,
    DMSYMLINK,
    LOCK_BLOCKED,
    LOCK_FLAGS_BLOCK,
    LOCK_GRACE,
    LOCK_RDLCK,
    LOCK_SUCCESS,
    LOCK_UNLCK,
    LOCK_WRLCK,
    OREAD,
    XATTR_MAX,
    XATTR_REPLACE,
    FileSystemStat,
    Qid,
)
from cognu.world import Clock

LOCK_RETRY = 1.0
"""Seconds after which a server that does not wait is asked again for a range that was taken."""
_R = TypeVar("_R")


class Ask(Protocol):
    """Sends a request and waits for its reply, which is of the type that is named. Raises `FileError`."""

    async def __call__(self, request: Request, reply_type: type[_R], late: Late | None = None) -> _R: ...


class LinuxCalls:
    """For one connection; fids are their numbers. `clone` gives another one on the same file, and `drop` ends one.

    `give_back` is told of a number that was to be a fid, and whether the server has one of it.
    """

    def __init__(
        self,
        session: ClientSession,
        clock: Clock,
        ask: Ask,
        clone: Callable[[int], Awaitable[int]],
        drop: Callable[[int], None],
        give_back: Callable[[int, bool], None],
    ) -> None:
        self._session = session
        self._clock = clock
        self._ask = ask
        self._clone = clone
        self._drop = drop
        self._give_back = give_back

    async def make_symlink(self, directory: int, name: str, target: str) -> Qid:
        if self._extended("symlink"):
            return await self._create(directory, name, DMSYMLINK | 0o777, target)
        return (await self._ask(m.Tsymlink(directory, name, target, 0), m.Rsymlink)).qid

    async def target_of(self, link: int) -> str:
        """What a link says. Raises INVAL for anything else."""
        if not self._extended("readlink"):
            return (await self._ask(m.Treadlink(link), m.Rreadlink)).target
        stat = (await self._ask(m.Tstat(link), m.Rstat)).stat
        if not stat.mode & DMSYMLINK:
            raise FileError(E.INVAL, stat.name, "not a symlink")
        return stat.extension

    async def make_link(self, directory: int, existing: int, name: str) -> None:
        if self._extended("link"):
            await self._create(directory, name, DMLINK, f"{existing}\n")
        else:
            await self._ask(m.Tlink(directory, existing, name), m.Rlink)

    async def make_node(self, directory: int, name: str, mode: int, major: int, minor: int) -> Qid:
        """`mode` as in `Stat`: what kind, and permissions."""
        if self._extended("mknod"):
            device = f"{'b' if mode & DMBLOCK else 'c'} {major} {minor}" if mode & DMDEVICE else ""
            return await self._create(directory, name, mode & ~DMBLOCK, device)
        return (await self._ask(m.Tmknod(directory, name, posix_mode(mode), major, minor, 0), m.Rmknod)).qid

    async def attribute(self, fid: int, name: str) -> bytes:
        """An extended attribute's value, or if `name` is empty all names, a NUL after each. Raises NODATA, TOOBIG."""
        self._need_l("attributes")
        number = self._session.new_fid()
        walking = m.Txattrwalk(fid, number, name)
        try:
            reply = await self._ask(walking, m.Rxattrwalk, lambda reply: self._give_back(number, reply is not None))
        except FileError:
            self._give_back(number, False)
            raise
        data = b""
        try:
            if reply.size > XATTR_MAX:
                raise FileError(E.TOOBIG, name, f"{reply.size} bytes")
            while len(data) < reply.size:
                room = min(reply.size - len(data), self._session.io_limit)
                piece = (await self._ask(m.Tread(number, len(data), room), m.Rread)).data
                if not piece:
                    raise FileError(E.IO, name, f"{len(data)} of {reply.size} bytes came")
                data += piece
        finally:
            self._drop(number)
        return data

    async def set_attribute(self, fid: int, name: str, value: bytes, flags: int) -> None:
        """Raises NOTSUP for an empty value, where saying so would take the attribute away."""
        if not value and (flags == XATTR_REPLACE or self._session.dialect is not Dialect.NG):
            raise FileError(E.NOTSUP, name, "an empty value can't be told from none")
        await self._give_attribute(fid, name, value, flags)

    async def remove_attribute(self, fid: int, name: str) -> None:
        await self._give_attribute(fid, name, b"", XATTR_REPLACE)

    async def _give_attribute(self, fid: int, name: str, value: bytes, flags: int) -> None:
        self._need_l("attributes")
        number = await self._clone(fid)
        try:
            await self._ask(m.Txattrcreate(number, name, len(value), flags), m.Rxattrcreate)
            at = 0
            while at < len(value):
                piece = value[at : at + self._session.io_limit]
                written = (await self._ask(m.Twrite(number, at, piece), m.Rwrite)).count
                if not written:
                    raise FileError(E.IO, name, f"{at} of {len(value)} bytes were taken")
                at += written
        except BaseException:
            self._drop(number)
            raise
        # The server sets it now, and says what came of that. The fid is gone in any case.
        try:
            await self._ask(m.Tclunk(number), m.Rclunk, lambda _: self._give_back(number, False))
        except FileError:
            self._give_back(number, False)
            raise
        self._give_back(number, False)

    async def take_lock(self, fid: int, lock: Lock, wait: bool) -> bool:
        """Some servers answer at once that a range is taken, though they were told to wait: they are asked again.

        Raises NOLCK for what is no answer to that.
        """
        until = self._clock.monotonic() + int(LOCK_WAIT * 1e9)
        while True:
            flags = LOCK_FLAGS_BLOCK if wait else 0
            status = await self._tell_lock(fid, LOCK_WRLCK if lock.exclusive else LOCK_RDLCK, flags, lock)
            if status == LOCK_SUCCESS:
                return True
            if status not in (LOCK_BLOCKED, LOCK_GRACE):
                raise FileError(E.NOLCK, detail=f"status {status}")
            if not wait or self._clock.monotonic() >= until:
                return False
            await self._clock.sleep(LOCK_RETRY)

    async def release_lock(self, fid: int, lock: Lock) -> None:
        status = await self._tell_lock(fid, LOCK_UNLCK, 0, lock)
        if status != LOCK_SUCCESS:
            raise FileError(E.NOLCK, detail=f"status {status}")

    async def lock_in_the_way(self, fid: int, lock: Lock) -> Lock | None:
        self._need_l("lock")
        kind = LOCK_WRLCK if lock.exclusive else LOCK_RDLCK
        process, client = lock.owner.process, _client(lock)
        found = await self._ask(m.Tgetlock(fid, kind, lock.begin, _length(lock), process, client), m.Rgetlock)
        if found.type == LOCK_UNLCK:
            return None
        end = found.start + found.length if found.length else LOCK_END
        return Lock(found.start, end, found.type == LOCK_WRLCK, Owner(0, found.client_id, found.proc_id))

    async def _tell_lock(self, fid: int, kind: int, flags: int, lock: Lock) -> int:
        self._need_l("lock")
        request = m.Tlock(fid, kind, flags, lock.begin, _length(lock), lock.owner.process, _client(lock))
        return (await self._ask(request, m.Rlock)).status

    async def space(self, fid: int) -> FileSystemStat:
        self._need_l("statfs")
        reply = await self._ask(m.Tstatfs(fid), m.Rstatfs)
        return FileSystemStat(
            reply.type, reply.bsize, reply.blocks, reply.bfree, reply.bavail, reply.files, reply.ffree, reply.fsid,
            reply.namelen,
        )  # fmt: skip

    def _need_l(self, what: str) -> None:
        if self._session.dialect in OLD_STYLE:
            raise FileError(E.NOTSUP, what, self._spoken)

    def _extended(self, what: str) -> bool:
        """Whether to say it as 9P2000.u does. Raises NOTSUP on plain 9P2000."""
        if self._session.dialect is Dialect.LEGACY:
            raise FileError(E.NOTSUP, what, self._spoken)
        return self._session.dialect is Dialect.U

    @property
    def _spoken(self) -> str:
        return f"the server speaks {self._session.dialect.value if self._session.dialect else 'nothing yet'}"

    async def _create(self, directory: int, name: str, perm: int, extension: str) -> Qid:
        made = await self._clone(directory)
        try:
            return (await self._ask(m.Tcreate(made, name, perm, OREAD, extension), m.Rcreate)).qid
        finally:
            self._drop(made)


def _length(lock: Lock) -> int:
    return 0 if lock.end == LOCK_END else lock.end - lock.begin


def _client(lock: Lock) -> str:
    """One connection carries the locks of many: the server is to tell these apart, whatever they call themselves."""
    return f"{lock.owner.session}.{lock.owner.client}"


def names_of(data: bytes) -> list[str]:
    """Those of a list of attributes. Raises ILSEQ for what is no UTF-8."""
    try:
        return [name.decode() for name in data.split(b"\0") if name]
    except UnicodeDecodeError:
        raise FileError(E.ILSEQ, repr(data)[1:]) from None
