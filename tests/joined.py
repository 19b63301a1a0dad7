"""A namespace exported over streams in memory and mounted at the other end; memory servers that count their fids."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.export import Export
from cognu.files.export_calls import Attach
from cognu.files.handing import Minter
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace
from cognu.files.process import Descriptors, Process, ProcessTable
from cognu.files.server import Caller, Fid, FileServer, MaybeAsync, Walk
from cognu.files.steps import Steps
from cognu.files.tree import Node, TreeFid
from cognu.ninep import messages as m
from cognu.ninep.codec import Frames, decode, encode
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.server import Limits
from cognu.ninep.types import NOFID, NOTAG, OREAD
from memfs import MemDirectory, MemServer
from script import attach_root
from serving import Client, Somebody
from streams import MemoryStream, pair


class StoppedClock:
    """Always the same moment."""

    def now(self) -> int:
        return 1_700_000_000_000_000_000

    def monotonic(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing in these tests waits for time")


class CountingServer(MemServer):
    """Knows which of its fids are not clunked yet."""

    def __init__(self, spec: str) -> None:
        super().__init__(spec)
        self.live: set[Fid] = set()

    def _note(self, fid: Fid | None) -> None:
        if fid is not None:
            self.live.add(fid)

    def attach(self, caller: Caller, aname: str) -> MaybeAsync[Fid]:
        fid = super().attach(caller, aname)
        assert isinstance(fid, Fid)
        self._note(fid)
        return fid

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        walked = super().walk(fid, names, caller)
        assert isinstance(walked, Walk)
        self._note(walked.fid)
        return walked

    def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        made = super().create(fid, name, perm, mode, caller)
        assert isinstance(made, Fid)
        self._note(made)
        return made

    def clunk(self, fid: Fid) -> None:
        assert fid in self.live, "a fid was clunked twice"
        self.live.remove(fid)
        super().clunk(fid)


class Slow(Node):
    """A file whose reads and writes wait until the test answers them."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 0o666)
        self.reads: list[asyncio.Future[bytes]] = []
        self.written: list[bytes] = []
        self.opening: asyncio.Future[None] | None = None
        self.cancelled = 0
        self.arrived = asyncio.Event()

    async def _wait(self, future: asyncio.Future[bytes]) -> bytes:
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> MaybeAsync[TreeFid | None]:
        return None if self.opening is None else self._open(self.opening)

    async def _open(self, opening: asyncio.Future[None]) -> None:
        self.arrived.set()
        await opening

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.reads.append(future)
        self.arrived.set()
        return self._wait(future)

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        self.written.append(bytes(data))
        return len(data)

    async def parked(self, count: int) -> None:
        """Returns when `count` reads in all have come."""
        while len(self.reads) < count:
            self.arrived.clear()
            await self.arrived.wait()


@dataclass
class Joined:
    """Both ends. `server` is the root of the exported namespace; `mount` is it as seen from afar."""

    server: CountingServer
    process: Process
    export: Export
    serving: asyncio.Task[None]
    mount: MountServer
    here: MemoryStream
    there: MemoryStream


def local_process(server: FileServer, authority: Authority | None = None) -> Process:
    """A process whose namespace is `server` alone, which it may attach as `#1` too."""
    domain = Domain(authority or Authority())
    root = attach_root(domain.authority, domain, server, "/")
    namespace = Namespace(domain, root, {"1": (server, root.cap)})
    return ProcessTable(lambda: 0).add("glenda", namespace, root.share())


def attach_to(process: Process) -> Attach:
    def attach(uname: str, aname: str) -> Steps[Chan]:
        if aname not in ("", "w"):
            raise FileError(E.NOATTACH, aname)
        return (yield from process.namespace.find("/" + aname, process.cwd, process))

    return attach


@asynccontextmanager
async def joined(
    dialect: Dialect = Dialect.L,
    *,
    server: CountingServer | None = None,
    limits: Limits | None = None,
    descriptors: Descriptors | None = None,
    streams: tuple[MemoryStream, MemoryStream] | None = None,
    msize: int = 1 << 16,
) -> AsyncIterator[Joined]:
    """Both ends, ended together; afterwards neither has a task, and the exported server has only its root's fids."""
    server = server or CountingServer("#1")
    process = local_process(server)
    here, there = streams or pair()
    export = Export(there, process, attach_to(process), descriptors, limits)
    serving = asyncio.get_running_loop().create_task(export.serve())
    mount = await MountServer.connect(here, StoppedClock(), "#M", dialect, msize)
    try:
        yield Joined(server, process, export, serving, mount, here, there)
    finally:
        await mount.close()
        await serving
        assert not export._tasks
        assert not export._stopping
        assert not export.calls._reading
        assert not export.calls._numbers


ME = Somebody()


def tree() -> CountingServer:
    server = CountingServer("#1")
    for path, data in [("/d", None), ("/d/x", "d/x"), ("/d/e", None), ("/d/e/y", "e/y"), ("/f", "f"), ("/w", None)]:
        server.plant(path, data)
    server.plant_link("/l", "d/x")
    return server


def names(entries: list[Any]) -> list[str]:
    return [entry.name for entry in entries]


async def bring(awaitable: Awaitable[object]) -> E:
    with pytest.raises(FileError) as caught:
        await awaitable
    return caught.value.error


async def idle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


def put_slow(ends: Joined, name: str = "slow") -> Slow:
    root = ends.server.root
    assert isinstance(root, MemDirectory)
    node = Slow(name)
    root.add(node)
    return node


async def open_at(ends: Joined, path: str, mode: int = OREAD) -> Fid:
    return await Client(ends.mount, ME).open(path, mode)


def only_the_roots_are_left(ends: Joined) -> bool:
    """Of the server's fids, only those that the exporting process itself has: its root's."""
    gc.collect()
    ends.process.namespace.domain.authority.close_orphans()
    return len(ends.server.live) == 1


class Raw:
    """A connection of its own to the exporting process, whose messages the test writes."""

    def __init__(
        self, ends: Joined | Process, dialect: Dialect, capacity: int = 1 << 16, minter: Minter | None = None
    ) -> None:
        process = ends if isinstance(ends, Process) else ends.process
        self.dialect = dialect
        self.here, self.there = pair(capacity)
        self.export = Export(self.there, process, attach_to(process), minter=minter)
        self.serving = asyncio.get_running_loop().create_task(self.export.serve())
        self.frames = Frames(1 << 20)
        self.pending: list[tuple[int, Message]] = []

    @classmethod
    async def over(
        cls, ends: Joined | Process, dialect: Dialect, capacity: int = 1 << 16, minter: Minter | None = None
    ) -> Raw:
        raw = cls(ends, dialect, capacity, minter)
        raw.send((m.Tversion(65536, dialect.value), NOTAG))
        await raw.answers(1)
        raw.send((m.Tattach(0, NOFID, "glenda", ""), 0))
        await raw.answers(1)
        return raw

    def send(self, *messages: tuple[Message, int]) -> None:
        """All in one piece."""
        wire = b"".join(bytes(part) for message, tag in messages for part in encode(message, tag, self.dialect))
        self.here.other.arrived += wire
        self.here._wake()

    async def answers(self, count: int) -> list[tuple[int, Message]]:
        while len(self.pending) < count:
            data = await self.here.read(1 << 16)
            assert data, "the server ended the connection"
            for frame in self.frames.feed(data):
                message, tag = decode(frame, self.dialect)[::-1]
                assert isinstance(tag, int)
                self.pending.append((tag, message))
        found, self.pending = self.pending[:count], self.pending[count:]
        return found

    async def open_path(self, name: str, fid: int, mode: int = 2) -> None:
        opening = m.Tlopen(fid, mode) if self.dialect in (Dialect.L, Dialect.NG) else m.Topen(fid, mode)
        self.send((m.Twalk(0, fid, (name,)), 1), (opening, 2))
        for _, message in await self.answers(2):
            assert not isinstance(message, m.Rerror | m.Rlerror)

    async def close(self) -> None:
        self.here.close()
        await self.serving
