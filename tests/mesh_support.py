"""Two nodes' meshes on loopback, and a forwarder between them that can go deaf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cognu.errors import CognuError, FileError
from cognu.mesh.identity import Identity, Peer, PeerBook, load_identity
from cognu.mesh.links import Mesh, OnChannel
from cognu.mesh.session import Channel
from cognu.mesh.session_core import Timing
from cognu.world import Listener, Stream, World
from cognu.world.real import real_world

QUICK = Timing(silence=1.0, answer=0.4, retention=20.0, first_delay=0.02, last_delay=0.2)


async def read_all(stream: Stream) -> bytes:
    """To the end."""
    parts = []
    while part := await stream.read(1 << 20):
        parts.append(part)
    return b"".join(parts)


async def echoed(channel: Channel, data: bytes) -> bytes:
    """What an echo gives back of `data`, which is sent to its end meanwhile."""

    async def send() -> None:
        await channel.write(data)
        channel.end()

    sending = asyncio.create_task(send())
    received = await read_all(channel)
    await sending
    return received


async def read_exactly(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.read(count - len(data))
        assert part, f"ended after {len(data)} of {count} bytes"
        data += part
    return data


async def echo(peer: Peer, label: str, channel: Channel) -> None:
    while part := await channel.read(1 << 18):
        await channel.write(part)


class Node:
    """One node: its world, identity, book and mesh."""

    def __init__(self, home: Path, on_channel: OnChannel = echo, timing: Timing = QUICK) -> None:
        self.home = str(home)
        self.world: World = real_world()
        self.identity: Identity = load_identity(self.world, self.home)
        self.book = PeerBook(self.world.disk, self.home)
        self.mesh = Mesh(self.world, self.identity, self.book, on_channel, timing)
        self.address = ""

    async def listen(self) -> Node:
        self.address = await self.mesh.listen("127.0.0.1:0")
        return self

    def knows(self, other: Node, name: str, *addresses: str) -> None:
        peer = Peer(other.identity.fingerprint, name, other.identity.certificate, addresses)
        self.book.add(peer)

    def fingerprint_order(self, other: Node) -> bool:
        """Whether this node is the leader of the two."""
        return self.identity.fingerprint < other.identity.fingerprint


@asynccontextmanager
async def two_nodes(
    path: Path, on_a: OnChannel = echo, on_b: OnChannel = echo, timing: Timing = QUICK
) -> AsyncIterator[tuple[Node, Node]]:
    """`a` and `b`, paired, each knowing the other's address."""
    a = await Node(path / "a", on_a, timing).listen()
    b = await Node(path / "b", on_b, timing).listen()
    a.knows(b, "b", b.address)
    b.knows(a, "a", a.address)
    try:
        yield a, b
    finally:
        await a.mesh.close()
        await b.mesh.close()


@asynccontextmanager
async def behind_a_line(
    path: Path, dialler_leads: bool = True, timing: Timing = QUICK
) -> AsyncIterator[tuple[Node, Node, Forwarder]]:
    """`a`, which does not listen, reaches `b` over a line that the test can cut; `b` can't reach `a`."""
    homes = [path / "a", path / "b"]
    if (Node(homes[0]).fingerprint_order(Node(homes[1]))) != dialler_leads:
        homes.reverse()
    a = Node(homes[0], echo, timing)
    b = await Node(homes[1], echo, timing).listen()
    line = await Forwarder(b.address).start()
    a.knows(b, "b", line.address)
    b.knows(a, "a")
    try:
        yield a, b, line
    finally:
        await a.mesh.close()
        await b.mesh.close()
        await line.close()


class Forwarder:
    """Passes TCP connections on to `target`. `deaf` swallows every byte both ways and ends nothing."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.deaf = False
        self.connections = 0
        self.address = ""
        self._network = real_world().network
        self._listener: Listener | None = None
        self._streams: set[Stream] = set()
        self.passed = 0
        self.hear: Callable[[], None] = lambda: None
        """Called at each new connection."""
        self.on_bytes: Callable[[], None] = lambda: None

    async def start(self) -> Forwarder:
        self._listener = await self._network.listen_tcp("127.0.0.1:0", self._accept)
        self.address = self._listener.address
        return self

    def cut(self) -> None:
        """End every connection, both ways, losing what is under way."""
        for stream in list(self._streams):
            stream.close()

    async def close(self) -> None:
        self.cut()
        if self._listener is not None:
            await self._listener.close()

    async def _accept(self, near: Stream) -> None:
        self.connections += 1
        self.hear()
        try:
            far = await self._network.connect_tcp(self.target)
        except FileError:
            return  # nobody is there: then nobody is here
        self._streams |= {near, far}
        # A connection that was deaf once has lost bytes, and must stay so.
        lost = [self.deaf]
        try:
            await asyncio.gather(self._pump(near, far, lost), self._pump(far, near, lost))
        finally:
            self._streams -= {near, far}
            near.close()
            far.close()

    async def _pump(self, source: Stream, sink: Stream, lost: list[bool]) -> None:
        with suppress(CognuError):
            while data := await source.read(1 << 16):
                lost[0] = lost[0] or self.deaf
                if not lost[0]:
                    self.passed += len(data)
                    await sink.write(data)
                    self.on_bytes()
        if not lost[0]:
            source.close()
            sink.close()
