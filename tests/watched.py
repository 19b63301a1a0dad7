"""A RamServer exported and mounted, whose frames are counted, and somebody who is told of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cognu.devices.ram import RamServer
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.export import Export
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace
from cognu.files.process import Process, ProcessTable
from cognu.files.server import Fid, FileServer, Notice
from cognu.files.steps import finish
from cognu.files.watching import Watching, watch
from cognu.kernel import ALL_RIGHTS, Cap
from cognu.ninep import messages as m
from cognu.ninep.codec import Frames, decode
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.watches import ASKED
from joined import StoppedClock, attach_to
from serving import Client, Somebody, done
from streams import MemoryStream, pair


class Noted:
    """A `Tell`, and what it was told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._more = asyncio.Event()

    def __call__(self, notice: Notice) -> None:
        self.notices.append(notice)
        self._more.set()

    async def all(self, count: int) -> list[tuple[int, str]]:
        """The first notices, once there are so many."""
        while len(self.notices) < count:
            self._more.clear()
            await self._more.wait()
        return [(notice.kind, notice.name) for notice in self.notices]


class Frame:
    """Notes each message that is written to a stream."""

    def __init__(self, stream: MemoryStream, dialect: Dialect = Dialect.NG) -> None:
        self.messages: list[Message] = []
        self._frames = Frames(1 << 20)
        self._dialect = dialect
        self._write = stream.write
        stream.write = self.write  # type: ignore[method-assign]

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        for frame in self._frames.feed(b"".join(bytes(buffer) for buffer in buffers)):
            number = frame[4]
            kind = m.Tversion if number == 100 else m.Rversion if number == 101 else None
            if kind is None:
                self.messages.append(decode(frame, self._dialect)[1])
        await self._write(*buffers)

    def take(self) -> list[str]:
        """The names of those since the last time."""
        found, self.messages = self.messages, []
        return [type(message).__name__ for message in found]


def process_on(server: FileServer, root: Fid, authority: Authority, cap: Cap, rights: int = ALL_RIGHTS) -> Process:
    """A process whose root is `server`, under a capability minted from the node's own `cap`."""
    domain = Domain(authority)
    mine = authority.mint(0, cap, rights, domain.pid)
    chan = Chan(Handle(server, root), domain, mine, Path(None, "/"), Origin("#r", ()))
    return ProcessTable(lambda: 0).add("glenda", Namespace(domain, chan), chan.share())


@dataclass
class Ends:
    """`there` acts on the exported server itself; `mount` is it from afar, `far` a process that has it as its root."""

    server: RamServer
    authority: Authority
    cap: Cap
    there: Client
    exported: Process
    export: Export
    mount: MountServer
    far: Process
    here: MemoryStream
    asked: Frame
    answered: Frame

    def revoke(self) -> None:
        """What the exported namespace has is revoked."""
        self.authority.revoke(0, self.cap)

    async def watch(self, path: str, kinds: int = ASKED, process: Process | None = None) -> tuple[Watching, Noted]:
        return await watch_in(process or self.far, path, kinds)


async def watch_in(process: Process, path: str, kinds: int = ASKED) -> tuple[Watching, Noted]:
    noted = Noted()
    found = await finish(process.namespace.find(path, process.cwd, process))
    try:
        return await finish(watch(process.namespace, found, kinds, noted)), noted
    finally:
        found.close()


@asynccontextmanager
async def ends(
    rights: int = ALL_RIGHTS, dialect: Dialect = Dialect.NG, server: FileServer | None = None, capacity: int = 1 << 16
) -> AsyncIterator[Ends]:
    """All is ended together; then no task is left, nor any watch."""
    ram = RamServer(StoppedClock())
    authority = Authority()
    _, cap = authority.new_server()
    exported_server = server or ram
    root = await done(exported_server.attach(Somebody(), ""))
    exported = process_on(exported_server, root, authority, cap, rights)
    here, there = pair(capacity)
    asked, answered = Frame(here, dialect), Frame(there, dialect)
    export = Export(there, exported, attach_to(exported))
    serving = asyncio.get_running_loop().create_task(export.serve())
    mount = await MountServer.connect(here, StoppedClock(), "#M", dialect)
    away = Authority()
    _, far_cap = away.new_server()
    far = process_on(mount, await done(mount.attach(Somebody(), "")), away, far_cap)
    try:
        yield Ends(ram, authority, cap, Client(ram), exported, export, mount, far, here, asked, answered)
    finally:
        await mount.close()
        await serving
        assert not export._watches._watchings
        assert not exported.namespace.watchings
        assert mount._watches.asking is None


def watchers_of(server: RamServer, path: str = "/") -> int:
    """How many watch a file, as its server knows."""
    node = server.root
    for name in path.strip("/").split("/"):
        if name:
            node = node.children[name]  # type: ignore[attr-defined]
    return 0 if node._watchers is None else len(node._watchers._tells)
