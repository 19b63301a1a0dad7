"""`#S`: what this machine measures, as `/dev/sensor/NAME`: the value of a file of the host, or what a command says.

Reading gives the value as it was when the file was opened; a command's stands for as many seconds as its owner says,
and so does its failure. What is too long, takes too long or fails is an error, and no value.

Whoever watches one is told when its value is another. While anybody does, it is looked at every so many seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from cognu.devices.helper import run_helper
from cognu.errors import E, FileError
from cognu.files.limits import Copy, QuotaOf, nobodys
from cognu.files.server import Caller, End, Tell
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.ninep.watches import CONTENT
from cognu.world import Clock, Disk, Spawn, Threads
from cognu.world.timing import end_tasks

MAX_VALUE = 1 << 16
"""Bytes."""
SECONDS = 10.0
"""That a sensor may take to answer."""


@dataclass(frozen=True)
class Source:
    """What a sensor reads: `file`, or what `command` writes. It is asked at most once in `every` seconds if it is a
    command; while somebody watches, every so many."""

    file: str = ""
    command: tuple[str, ...] = ()
    every: int = 10


class Sensor(Node):
    tells = True

    def __init__(self, name: str, source: Source, host: Host) -> None:
        super().__init__(name, 0o444)
        self._source = source
        self._host = host
        self._asking = asyncio.Lock()
        self._told: bytes | FileError = b""
        self._until: int | None = None  # when that is too old, on the monotonic clock
        self._reading: asyncio.Task[bytes] | None = None
        self._watching = 0
        self._looking: asyncio.Task[None] | None = None

    async def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = Copy(self._host.quota_of(caller), await self._value())

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, Copy)
        return fid.state.data[offset : offset + count]

    def close(self, fid: TreeFid) -> None:
        assert isinstance(fid.state, Copy)
        fid.state.close()

    async def _value(self) -> bytes:
        """The value now. One asks at a time; who waited has what the one before was told, if it is not too old."""
        async with self._asking:
            if self._source.file:
                return await self._content()
            now = self._host.clock.monotonic()
            if self._until is None or now >= self._until:
                try:
                    self._told = await self._host.said(self._source.command)
                except FileError as error:
                    self._told = FileError(error.error, self.name, error.detail)
                self._until = self._host.clock.monotonic() + self._source.every * 10**9
            if isinstance(self._told, FileError):
                raise FileError(self._told.error, self.name, self._told.detail)
            return self._told

    async def _content(self) -> bytes:
        """A file that the host does not give holds one thread, and not one for each who asks."""
        if self._reading is not None and not self._reading.done():
            raise FileError(E.BUSY, self.name, "the host has not answered yet who asked before")
        self._reading = reading = asyncio.ensure_future(self._host.content(self._source.file))
        reading.add_done_callback(_heard)
        timer = asyncio.ensure_future(self._host.clock.sleep(SECONDS))
        try:
            await asyncio.wait({reading, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(timer)
        if not reading.done():
            raise FileError(E.TIMEDOUT, self.name, f"{SECONDS:g} s")
        return reading.result()

    def watch(self, tell: Tell) -> End:
        end = super().watch(tell)
        self._watching += 1
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        over = False

        def stop() -> None:
            nonlocal over
            if over:
                return
            over = True
            end()
            self._watching -= 1
            if not self._watching and self._looking is not None:
                self._looking.cancel()
                self._looking = None

        return stop

    async def _look(self) -> None:
        """Tell of every other value than before; a failure is one too, for whoever reads then is told why."""
        before = await self._seen()
        while True:
            await self._host.clock.sleep(self._source.every)
            now = await self._seen()
            if now != before:
                before = now
                self.happened(CONTENT)

    async def _seen(self) -> bytes | str:
        try:
            return await self._value()
        except FileError as error:
            return str(error)


class Host:
    """What sensors ask: the host's files and programs. `FileError` for what they don't give, or not in bounds.

    `quota_of` is whom the value is charged to that an open sensor keeps.
    """

    def __init__(self, disk: Disk, threads: Threads, spawn: Spawn, clock: Clock, quota_of: QuotaOf = nobodys) -> None:
        self.quota_of = quota_of
        self._disk = disk
        self._threads = threads
        self._spawn = spawn
        self.clock = clock

    async def content(self, path: str) -> bytes:
        data = await self._threads.run(self._read, path)
        if len(data) > MAX_VALUE:
            raise FileError(E.FBIG, path, f"a value has at most {MAX_VALUE} bytes")
        return data

    def _read(self, path: str) -> bytes:
        file = self._disk.open(path)
        try:
            return file.pread(0, MAX_VALUE + 1)
        finally:
            file.close()

    async def said(self, argv: tuple[str, ...]) -> bytes:
        return await run_helper(self._spawn, self.clock, argv, MAX_VALUE, SECONDS)


def _heard(reading: asyncio.Task[bytes]) -> None:
    """Its failure is nobody's surprise if whoever asked had gone."""
    if not reading.cancelled():
        reading.exception()


def sensor_server(host: Host, sources: Mapping[str, Source]) -> TreeServer:
    sensors = [Sensor(name, source, host) for name, source in sources.items()]
    return TreeServer("#S", Directory("", [Directory("sensor", sensors)]))
