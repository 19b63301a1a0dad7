"""Two descriptors of this process, such as its standard input and output, as one `Stream`.

Their flags are shared with other programs, so neither is made non-blocking, and either may be so: what is read is
waited for first, and writing is done in a thread.
"""

from __future__ import annotations

import asyncio
import os
import select

from cognu.errors import LinkBroken, from_oserror
from cognu.world import Threads

READ_LIMIT = 1 << 16


class DescriptorStream:
    """Reads one descriptor and writes another, and closes neither. One reader and one writer at a time."""

    def __init__(self, reading: int, writing: int, threads: Threads, peer: str) -> None:
        self._reading = reading
        self._writing = writing
        self._threads = threads
        self._peer = peer
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def peer(self) -> str:
        return self._peer

    async def read(self, count: int) -> bytes:
        """`b""` at the end, or after `close`. Cancelling loses no byte. Raises `LinkBroken`."""
        while True:
            await self._readable()
            if self._closed:
                return b""
            try:
                return os.read(self._reading, min(count, READ_LIMIT))
            except BlockingIOError:
                continue  # another program that has it made it so, and took what was there
            except OSError as error:
                raise LinkBroken(from_oserror(error).error, self._peer) from None

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        try:
            loop.add_reader(self._reading, _wake, waiting)
        except PermissionError:
            return  # a plain file, which epoll(7) does not watch: it is always ready
        self._waiting = waiting
        try:
            await waiting
        finally:
            self._waiting = None
            loop.remove_reader(self._reading)

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        """Raises `LinkBroken`, PIPE if nobody reads there any more."""
        await self._threads.run(_write_all, self._writing, b"".join(buffers), self._peer)

    def close(self) -> None:
        self._closed = True
        if self._waiting is not None:
            _wake(self._waiting)

    async def wait_closed(self) -> None:
        """Returns at once: the descriptors are their owner's."""


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _write_all(descriptor: int, data: bytes, peer: str) -> None:
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                select.select([], [descriptor], [])
    except OSError as error:
        raise LinkBroken(from_oserror(error).error, peer) from None
