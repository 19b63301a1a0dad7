"""A file server that has its answers at once, and a client's socket to a process that exports it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin
from cognu.files.chan import Path as ChanPath
from cognu.files.export import Export
from cognu.files.namespace import Namespace
from cognu.files.process import Process, ProcessTable
from cognu.files.server import Caller, Fid, FileServer, StoredBytes, Walk
from cognu.files.tree import TreeFid
from cognu.kernel import ALL_RIGHTS
from cognu.ninep import messages as m
from cognu.ninep.codec import decode, encode
from cognu.ninep.messages import Dialect
from cognu.ninep.types import NOFID, NOTAG, Stat
from cognu.world.sockets import SocketStream
from joined import CountingServer, attach_to
from memfs import MemFile
from serving import Somebody, done

L = Dialect.L
LARGE = bytes(range(256)) * 2000
MSIZE = 1 << 20


class LongWay:
    """A stream that is no more than a stream."""

    def __init__(self, stream: SocketStream) -> None:
        self.read, self.write, self.close, self.wait_closed = (
            stream.read,
            stream.write,
            stream.close,
            stream.wait_closed,
        )
        self.peer = stream.peer


class Ends:
    """A client's socket, and what is at the other end."""

    def __init__(self, process: Process, revoke: Callable[[], object], direct: bool, dialect: Dialect) -> None:
        self.process = process
        self.dialect = dialect
        self.revoke = revoke
        near, far = socket.socketpair()
        self.client, self.stream = SocketStream(near, "client"), SocketStream(far, "server")
        self.export = Export(self.stream if direct else LongWay(self.stream), process, attach_to(process))
        self.serving = asyncio.get_running_loop().create_task(self.export.serve())
        self._kept = b""

    async def send(self, *requests: tuple[m.Message, int]) -> None:
        await self.client.write(b"".join(wire(message, tag, self.dialect) for message, tag in requests))

    async def replies(self, count: int) -> list[bytes]:
        """So many frames."""
        found: list[bytes] = []
        while len(found) < count:
            size = int.from_bytes(self._kept[:4], "little")
            if len(self._kept) >= 4 and len(self._kept) >= size:
                found.append(self._kept[:size])
                self._kept = self._kept[size:]
                continue
            data = await self.client.read(1 << 20)
            assert data, "the server ended the connection"
            self._kept += data
        return found

    async def ask(self, message: m.Message, tag: int = 1) -> bytes:
        await self.send((message, tag))
        return (await self.replies(1))[0]

    async def call(self, message: m.Message) -> m.Message:
        return decode(memoryview(await self.ask(message)), self.dialect)[1]

    async def begin(self) -> None:
        """Attached: fid 0 is the root."""
        await self.ask(m.Tversion(MSIZE, self.dialect.value), NOTAG)
        await self.ask(m.Tattach(0, NOFID, "glenda", ""), 0)

    async def open(self, fid: int, *names: str) -> None:
        assert isinstance(await self.call(m.Twalk(0, fid, names)), m.Rwalk)
        assert isinstance(await self.call(m.Tlopen(fid, 0)), m.Rlopen)

    async def close(self) -> None:
        self.client.close()
        await self.serving


def wire(message: m.Message, tag: int, dialect: Dialect = L) -> bytes:
    return b"".join(map(bytes, encode(message, tag, dialect)))


class Prompt(CountingServer):
    """A tree in memory that has its answers at once, and counts those that it was asked for so."""

    def __init__(self, large: Path | None = None) -> None:
        """`large`: a file of the host that stands for what `large` holds."""
        super().__init__("#1")
        for path, data in [("/d", None), ("/d/x", "d/x" * 1000), ("/d/deep", None), ("/d/deep/y", "")]:
            self.plant(path, data)
        self.plant("/large", "")
        if large is not None:
            node = self.at("/large")
            assert isinstance(node, MemFile)
            node.data = large.read_bytes()
        self.plant_link("/link", "d/x")
        self.asked = 0
        self._large = None if large is None else large.open("rb")

    def close(self) -> None:
        if self._large is not None:
            self._large.close()

    def walk_now(self, fid: Fid, names: Sequence[str], caller: Caller) -> Walk | None:
        self.asked += 1
        walked = self.walk(fid, list(names), caller)
        return walked if isinstance(walked, Walk) else None

    def open_now(self, fid: Fid, mode: int, caller: Caller) -> bool:
        self.asked += 1
        return self.open(fid, mode, caller) is fid

    def read_now(self, fid: Fid, offset: int, count: int) -> bytes | memoryview | None:
        self.asked += 1
        if not isinstance(fid, TreeFid) or not isinstance(fid.node, MemFile):
            return None
        data = self.read(fid, offset, count)
        return data if isinstance(data, bytes) else None

    def stored_now(self, fid: Fid, offset: int, count: int) -> StoredBytes | None:
        self.asked += 1
        if self._large is None or not isinstance(fid, TreeFid) or fid.node is not self.at("/large"):
            return None
        size = min(count, os.fstat(self._large.fileno()).st_size - offset)
        return StoredBytes(self._large.fileno(), size) if size > 0 else None

    def stat_now(self, fid: Fid) -> Stat | None:
        self.asked += 1
        stat = self.stat(fid)
        return stat if isinstance(stat, Stat) else None


async def start(server: FileServer) -> tuple[Process, Callable[[], object]]:
    """A process whose namespace is the server's tree, and what revokes it."""
    authority = Authority()
    domain = Domain(authority)
    endpoint, cap = authority.new_server()
    mine = authority.mint(0, cap, ALL_RIGHTS, domain.pid)
    fid = await done(server.attach(Somebody(), ""))
    root = Chan(Handle(server, fid), domain, mine, ChanPath(None, "/"), Origin("#1", ()))
    namespace = Namespace(domain, root, {})
    return ProcessTable(lambda: 0).add("glenda", namespace, root.share()), lambda: authority.end_server(endpoint)


@asynccontextmanager
async def served(server: FileServer, direct: bool = True, dialect: Dialect = L) -> AsyncIterator[Ends]:
    ends = Ends(*await start(server), direct, dialect)
    await ends.begin()
    try:
        yield ends
    finally:
        await ends.close()


@asynccontextmanager
async def prompt(large: Path | None = None) -> AsyncIterator[tuple[Prompt, Ends]]:
    server = Prompt(large)
    try:
        async with served(server) as ends:
            yield server, ends
    finally:
        server.close()


def plant(root: Path) -> Path:
    """What `Prompt` has, as files of the host."""
    (root / "d" / "deep").mkdir(parents=True)
    (root / "d" / "x").write_bytes(b"d/x" * 1000)
    (root / "d" / "deep" / "y").write_bytes(b"")
    (root / "large").write_bytes(LARGE)
    (root / "link").symlink_to("d/x")
    return root
