"""What the mount driver asks of a far server beyond plain 9P2000: links, special files, space.

9P2000.L (and .ng) have a message for each. 9P2000.u says some of it by a Tcreate with an extension, on a fid of its
own, since creating opens (`files/special.py` is the other end). What a dialect has no words for is NOTSUP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from cognu.errors import E, FileError
from cognu.ninep import messages as m
from cognu.ninep.attrs import posix_mode
from cognu.ninep.client import ClientSession
from cognu.ninep.messages import OLD_STYLE, Dialect, Request
from cognu.ninep.types import DMBLOCK, DMDEVICE, DMLINK, DMSYMLINK, OREAD, FileSystemStat, Qid

_R = TypeVar("_R")


class Ask(Protocol):
    """Sends a request and waits for its reply, which is of the type that is named. Raises `FileError`."""

    async def __call__(self, request: Request, reply_type: type[_R]) -> _R: ...


class LinuxCalls:
    """For one connection. `clone` gives another fid on the same file, `drop` ends one; fids are their numbers."""

    def __init__(
        self, session: ClientSession, ask: Ask, clone: Callable[[int], Awaitable[int]], drop: Callable[[int], None]
    ) -> None:
        self._session = session
        self._ask = ask
        self._clone = clone
        self._drop = drop

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

    async def space(self, fid: int) -> FileSystemStat:
        if self._session.dialect in OLD_STYLE:
            raise FileError(E.NOTSUP, "statfs", self._spoken)
        reply = await self._ask(m.Tstatfs(fid), m.Rstatfs)
        return FileSystemStat(
            reply.type, reply.bsize, reply.blocks, reply.bfree, reply.bavail, reply.files, reply.ffree, reply.fsid,
            reply.namelen,
        )  # fmt: skip

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
