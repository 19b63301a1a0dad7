"""Byte streams in memory, in pairs: with back-pressure, cuts, and reads that end wherever the test likes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator

from cognu.errors import E, LinkBroken


class MemoryStream:
    """One end of a pair; see `world.Stream`. `sizes` says, over and over, how many bytes each read gives at most."""

    def __init__(self, peer: str, capacity: int, sizes: Iterator[int]) -> None:
        self.peer = peer
        self.capacity = capacity
        self.sizes = sizes
        self.other: MemoryStream
        self.arrived = bytearray()
        self.written = 0  # bytes in all
        self.closed = False
        self.cut_off = False
        self._changed = asyncio.Event()
        self._writers = 0

    def _wake(self) -> None:
        for end in (self, self.other):
            end._changed.set()
            end._changed = asyncio.Event()

    async def read(self, count: int) -> bytes:
        while True:
            if self.cut_off:
                raise LinkBroken(E.CONNRESET, self.peer)
            if self.closed:
                return b""
            if self.arrived:
                size = min(count, next(self.sizes), len(self.arrived))
                data = bytes(self.arrived[:size])
                del self.arrived[:size]
                self._wake()
                return data
            if self.other.closed:
                return b""
            await self._changed.wait()

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        self._check()
        assert self._writers == 0, "a stream has one writer at a time"
        self._writers += 1
        try:
            for buffer in buffers:
                self.other.arrived += buffer
                self.written += len(buffer)
            self._wake()
            while len(self.other.arrived) > self.capacity:
                await self._changed.wait()
                self._check()
        finally:
            self._writers -= 1

    def _check(self) -> None:
        if self.cut_off or self.closed or self.other.closed:
            raise LinkBroken(E.CONNRESET, self.peer)

    def close(self) -> None:
        self.closed = True
        self._wake()

    async def wait_closed(self) -> None:
        return None

    def cut(self) -> None:
        """The link is lost, with all that is on its way, for both ends."""
        self.cut_off = self.other.cut_off = True
        self._wake()


def pair(
    capacity: int = 1 << 16, sizes: Iterable[int] = (1 << 30,), other_sizes: Iterable[int] | None = None
) -> tuple[MemoryStream, MemoryStream]:
    """Two joined ends. A write waits while more than `capacity` bytes are unread at the other end."""
    sizes = list(sizes)
    first = MemoryStream("first", capacity, itertools.cycle(sizes))
    second = MemoryStream("second", capacity, itertools.cycle(sizes if other_sizes is None else list(other_sizes)))
    first.other, second.other = second, first
    return first, second
