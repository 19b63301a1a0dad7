"""Far files over a link with a delay: in compounds as two nodes do it, beside the same in single 9P2000.L requests.

Both ends are the same: a whole node that serves a directory of the host, and the mount driver below a namespace. The
delay is kept here, between the socket and the driver: 10 ms each way, in order, whatever the bandwidth.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import servers
from benchmarks.measure import Bench, Case, Measure, Unit
from benchmarks.servers import Server
from cognu.errors import CognuError
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Domain
from cognu.files.dispatch import dispatch
from cognu.files.listing import read_directory
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace
from cognu.files.server import Then
from cognu.files.steps import finish
from cognu.kernel import READ
from cognu.ninep.messages import Dialect
from cognu.ninep.types import OREAD
from cognu.shell.connection import Somebody
from cognu.world import Stream
from cognu.world.real import RealClock, real_world

DELAY = 0.010
"""Seconds, each way."""
ME = Somebody("me")

Work = Callable[[Namespace, int], Awaitable[None]]


class Delayed:
    """A stream that delivers what is written to it, and what comes, `DELAY` later. Takes over the stream."""

    def __init__(self, stream: Stream) -> None:
        self.peer = stream.peer
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._came: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._going: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._tasks = [self._loop.create_task(work) for work in (self._receive(), self._send())]

    async def _receive(self) -> None:
        data = b"-"
        while data:
            try:
                data = await self._stream.read(1 << 18)
            except CognuError:
                data = b""
            self._came.put_nowait((self._loop.time() + DELAY, data))

    async def _send(self) -> None:
        while True:
            due, data = await self._going.get()
            await asyncio.sleep(due - self._loop.time())
            await self._stream.write(data)

    async def read(self, count: int) -> bytes:
        due, data = await self._came.get()
        await asyncio.sleep(due - self._loop.time())
        assert len(data) <= count
        return data

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        self._going.put_nowait((self._loop.time() + DELAY, b"".join(buffers)))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._stream.close()

    async def wait_closed(self) -> None:
        await asyncio.wait(self._tasks)
        await self._stream.wait_closed()


async def run(bench: Bench) -> None:
    files = bench.size(50, 3)
    with TemporaryDirectory() as name:
        directory = Path(name)
        served = directory / "served"
        (served / "tree").mkdir(parents=True)
        for number in range(files):
            (served / "tree" / f"small-{number}").write_bytes(b"a small file\n")
        with servers.cognu(directory, served) as server:
            async with _mounted(server, Dialect.NG) as ours, _mounted(server, Dialect.L) as single:

                def pair(work: Work, per: int) -> tuple[Measure, Measure]:
                    return partial(_took, work, ours, files, per), partial(_took, work, single, files, per)

                cases = []
                for title, work, per in (("walk, open, read, clunk", _read_all, files), ("a listing of 50", _list, 1)):
                    mine, theirs = pair(work, per)
                    cases.append(Case(f"10 ms each way: {title}", Unit.MS, mine, "9P2000.L", theirs, runs=5))
                await bench.measure(cases)


@asynccontextmanager
async def _mounted(server: Server, dialect: Dialect) -> AsyncIterator[Namespace]:
    network = real_world().network
    stream = Delayed(await network.connect_unix(server.path))
    mount = await MountServer.connect(stream, RealClock(), offer=dialect)
    domain = Domain(Authority())
    namespace = Namespace(domain, await finish(attach_own(mount, domain, ME, server.path_aname)))
    try:
        yield namespace
    finally:
        namespace.release()
        await mount.close()


async def _took(work: Work, namespace: Namespace, files: int, per: int) -> float:
    """Milliseconds for each of `per`."""
    began = time.perf_counter()
    await work(namespace, files)
    return (time.perf_counter() - began) * 1000 / per


async def _read_all(namespace: Namespace, files: int) -> None:
    """One file after the other, each to its end."""
    for number in range(files):
        found = await finish(namespace.find(f"/tree/small-{number}", namespace.root, ME, then=Then.READ))
        chan = await finish(namespace.open(found, OREAD, ME))
        at = 0
        while data := await finish(dispatch(chan, READ, chan.server.read, chan.fid, at, 8192)):
            at += len(data)
        chan.close()


async def _list(namespace: Namespace, files: int) -> None:
    """With the attributes of each entry, asked for all at once where the listing has none."""
    found = await finish(namespace.find("/tree", namespace.root, ME, then=Then.LIST))
    directory = await finish(namespace.open(found, OREAD, ME))
    cookie, seen = 0, 0
    while batch := await finish(read_directory(namespace, directory, cookie, 128, ME)):
        missing = [entry.name for entry in batch if entry.stat is None]
        await asyncio.gather(*(_stat(namespace, name) for name in missing))
        cookie, seen = batch[-1].cookie, seen + len(batch)
    assert seen == files
    directory.close()


async def _stat(namespace: Namespace, name: str) -> None:
    found = await finish(namespace.find(f"/tree/{name}", namespace.root, ME))
    await finish(namespace.stat(found))
    found.close()
