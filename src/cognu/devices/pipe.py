"""`#|`: pipes, as pipe(3). Each attach makes a new one, a directory with its two ends `data` and `data1`.

What is written to one end is read from the other, both ways. The last close of an end is the end of file for the
other's reader, once it read what was sent, and an error (PIPE) for its writer. An end may be opened again; when both
are closed the pipe is as new. Bytes stay in order, but the boundaries of writes don't show.
"""

from __future__ import annotations

import asyncio

from cognu.errors import E, FileError
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


class End(Node):
    """One end. `incoming` is what the other end wrote and this one has not read."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 0o660)
        self.other = self
        self.incoming = bytearray()
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
        taken = bytes(memoryview(self.incoming)[:count])
        del self.incoming[:count]
        if taken:
            self.changes.tell()
        return taken

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        """All of `data`. Up to `CAPACITY` bytes go in one piece or, if this is cancelled, not at all."""
        if self.other.hung_up:
            raise FileError(E.PIPE, self.name)
        if not self._turn.locked() and len(data) <= self._room:
            self._put(data)
            return len(data)
        return self._write_later(fid, data)

    @property
    def _room(self) -> int:
        return CAPACITY - len(self.other.incoming)

    def _put(self, data: bytes | memoryview) -> None:
        self.other.incoming += data
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
                if len(left) <= room:
                    self._put(left)
                    return len(data)
                if len(left) > CAPACITY and room:
                    self._put(left[:room])
                    left = left[room:]
                await self.other.changes.next()


class PipeServer(TreeServer):
    """Makes a pipe at each attach; it lives as long as somebody holds it."""

    def __init__(self) -> None:
        super().__init__("#|", Directory(""))

    def attach(self, caller: Caller, aname: str) -> Fid:
        if aname:
            raise FileError(E.NOATTACH, self.spec + aname)
        return TreeFid(new_pipe())


def new_pipe() -> Directory:
    """The directory of a new pipe."""
    data, data1 = End("data"), End("data1")
    data.other, data1.other = data1, data
    return Directory("", [data, data1])
