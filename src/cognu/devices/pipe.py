"""`#|`: pipes, as pipe(3). Each attach makes a new one, a directory with its two ends `data` and `data1`.

What is written to one end is read from the other, both ways. The last close of an end is the end of file for the
other's reader, once it read what was sent, and an error (PIPE) for its writer. An end may be opened again; when both
are closed the pipe is as new. Bytes stay in order, but the boundaries of writes don't show.

Bytes that wait are charged (`Resource.PIPE`) to the process that opened the end they were written to.
"""

from __future__ import annotations

import asyncio
from collections import deque

from cognu.errors import E, FileError
from cognu.files.limits import Quota, QuotaOf, Resource, nobodys
from cognu.files.server import Caller, Fid, MaybeAsync
from cognu.files.tree import Directory, Node, TreeFid, TreeServer

CAPACITY = 64 * 1024
"""Bytes that wait in one direction before a writer has to."""


class _Changes:
    """Those who wait for something to change. All are woken, look for themselves and perhaps wait again.

    So a waiter that is cancelled the moment it is woken takes nothing with it.
    """

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def next(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class Waiting(bytearray):
    """Bytes on their way, and whose quota they count in, in the order they came."""

    def __init__(self) -> None:
        super().__init__()
        self._owed: deque[tuple[Quota, int]] = deque()

    def put(self, data: bytes | memoryview, quota: Quota | None) -> None:
        """Raises DQUOT with nothing put."""
        size = len(data)
        if quota is not None:
            quota.take(Resource.PIPE, size)
            self._owed.append((quota, size))
        self += data

    def take(self, count: int) -> bytes:
        """The first `count` bytes, or all."""
        taken = bytes(memoryview(self)[:count])
        del self[:count]
        left = len(taken)
        while left and self._owed:
            quota, size = self._owed[0]
            paid = min(left, size)
            quota.give(Resource.PIPE, paid)
            left -= paid
            if paid < size:
                self._owed[0] = quota, size - paid
            else:
                self._owed.popleft()
        return taken

    def clear(self) -> None:
        self.take(len(self))


class End(Node):
    """One end. `incoming` is what the other end wrote and this one has not read."""

    def __init__(self, name: str, quota_of: QuotaOf = nobodys) -> None:
        super().__init__(name, 0o660)
        self.other = self
        self.incoming = Waiting()
        self._quota_of = quota_of
        self.opens = 0
        self.used = False  # was open since the pipe was new
        self.changes = _Changes()  # of `incoming` and of the other end's being open
        self._turn = asyncio.Lock()  # one writer at a time, so that long writes are not mixed

    @property
    def length(self) -> int:
        return len(self.incoming)

    @property
    def hung_up(self) -> bool:
        return self.used and self.opens == 0

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        self.opens += 1
        self.used = True
        fid.state = self._quota_of(caller)
        return None

    def close(self, fid: TreeFid) -> None:
        self.opens -= 1
        if self.opens == 0:
            self.incoming.clear()
            if self.other.opens == 0:
                self.other.incoming.clear()
                self.used = self.other.used = False
        self.changes.tell()
        self.other.changes.tell()

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        if self.incoming or count == 0 or self.other.hung_up:
            return self._take(count)
        return self._read_later(fid, count)

    async def _read_later(self, fid: TreeFid, count: int) -> bytes | memoryview:
        while not self.incoming and not self.other.hung_up:
            await self.changes.next()
            if fid.mode is None:
                raise FileError(E.BADF, self.name)
        return self._take(count)

    def _take(self, count: int) -> bytes:
        taken = self.incoming.take(count)
        if taken:
            self.changes.tell()
        return taken

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        """All of `data`. Up to `CAPACITY` bytes go in one piece or, if this is cancelled, not at all.

        Raises PIPE, and DQUOT if the writer's tree may have no more bytes in pipes; a longer write that it cuts short
        returns what went.
        """
        if self.other.hung_up:
            raise FileError(E.PIPE, self.name)
        if not self._turn.locked() and len(data) <= self._room:
            self._put(fid, data)
            return len(data)
        return self._write_later(fid, data)

    @property
    def _room(self) -> int:
        return CAPACITY - len(self.other.incoming)

    def _put(self, fid: TreeFid, data: bytes | memoryview) -> None:
        assert fid.state is None or isinstance(fid.state, Quota)
        self.other.incoming.put(data, fid.state)
        self.other.changes.tell()

    async def _write_later(self, fid: TreeFid, data: bytes | memoryview) -> int:
        left = memoryview(data)
        async with self._turn:
            while True:
                if fid.mode is None:
                    raise FileError(E.BADF, self.name)
                if self.other.hung_up:
                    raise FileError(E.PIPE, self.name)
                room = self._room
                if len(left) <= room or (len(left) > CAPACITY and room):
                    try:
                        self._put(fid, left[:room])
                    except FileError:
                        if len(left) == len(data):
                            raise
                        return len(data) - len(left)
                    left = left[room:]
                    if not left:
                        return len(data)
                await self.other.changes.next()


class PipeServer(TreeServer):
    """Makes a pipe at each attach; it lives as long as somebody holds it."""

    def __init__(self, quota_of: QuotaOf = nobodys) -> None:
        super().__init__("#|", Directory(""))
        self._quota_of = quota_of

    def attach(self, caller: Caller, aname: str) -> Fid:
        if aname:
            raise FileError(E.NOATTACH, self.spec + aname)
        return TreeFid(new_pipe(self._quota_of))


def new_pipe(quota_of: QuotaOf = nobodys) -> Directory:
    """The directory of a new pipe."""
    data, data1 = End("data", quota_of), End("data1", quota_of)
    data.other, data1.other = data1, data
    return Directory("", [data, data1])
