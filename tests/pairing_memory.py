"""Two machines that pair over a network in memory, of which one can be killed at any message, and started again.

A machine that is killed does nothing any more: its files stay as they are, what it would write is not written, and the
other one sees the end of their connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

from cognu.errors import E, FileError, LinkBroken
from cognu.mesh.codes import Code
from cognu.mesh.identity import Peer, PeerBook, certificate_der, identity_from_seed
from cognu.mesh.join import Inviter, Self
from cognu.mesh.join_messages import MESSAGE_SIZE, Step
from cognu.mesh.pair import pair
from cognu.mesh.pairing import Wish
from cognu.world import Disk, Network, SecureStream, TlsKeys
from cognu.world.real import real_world
from pairing_kit import Air, User

Message = tuple[str, Step]
"""Who sends it, and which."""


class Files:
    """A `Disk` of a machine."""

    def __init__(self, machine: Box) -> None:
        self.machine = machine
        self.kept: dict[str, bytes] = {}

    def read(self, path: str) -> bytes:
        return self.kept[path]

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        if self.machine.wire.at_write == self.machine.name:
            self.machine.kill()
        if self.machine.dead:
            raise FileError(E.IO, path)  # nobody hears of it
        self.kept[path] = data

    def exists(self, path: str) -> bool:
        return path in self.kept

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        pass


class End:
    """A machine's end of a connection: as much of a `SecureStream` as joining uses."""

    def __init__(self, machine: Box, peer_certificate: bytes) -> None:
        self.machine = machine
        self.peer = "elsewhere:1"
        self.local = "here:1"
        self.peer_certificate = peer_certificate
        self.other: End
        self._bytes = b""
        self._ended = False
        self._came = asyncio.Event()
        machine.ends.append(self)

    async def read(self, count: int) -> bytes:
        while not self._bytes and not self._ended:
            self._came.clear()
            await self._came.wait()
        await self._live()
        part, self._bytes = self._bytes[:count], self._bytes[count:]
        return part

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        data = b"".join(buffers)
        for start in range(0, len(data), MESSAGE_SIZE):
            await self._live()
            message = data[start : start + MESSAGE_SIZE]
            said = (self.machine.name, Step(message[4]))
            wire = self.machine.wire
            if wire.before == said:
                self.machine.kill()
                await self._live()
            if wire.received == said:
                self.other.machine.kill()
            self.other.take(message)
            if wire.after == said:
                self.machine.kill()
                await self._live()

    async def _live(self) -> None:
        """Who was killed goes no further."""
        if self.machine.dead:
            await asyncio.Event().wait()

    def take(self, data: bytes) -> None:
        self._bytes += data
        self._came.set()

    def end(self) -> None:
        self._ended = True
        self._came.set()

    def close(self) -> None:
        if not self.machine.dead:
            self.end()
            self.other.end()

    async def wait_closed(self) -> None:
        pass


class Door:
    """A `Listener`."""

    def __init__(self, wire: Wire, address: str) -> None:
        self.address = address
        self._wire = wire

    async def close(self) -> None:
        self._wire.doors.pop(self.address, None)


class Wire:
    """The network. At most one of these says who dies, and when: at a message of the one who sends it, before it leaves
    or after; when another's comes; or when it writes its peer book."""

    def __init__(
        self, before: Message | None = None, after: Message | None = None, received: Message | None = None,
        at_write: str = "",
    ) -> None:  # fmt: skip
        self.before, self.after, self.received, self.at_write = before, after, received, at_write
        self.died = asyncio.Event()
        self.doors: dict[str, tuple[Box, TlsKeys, Callable[[SecureStream], Awaitable[None]]]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def calm(self) -> None:
        """From now on nobody dies."""
        self.before = self.after = self.received = None
        self.at_write = ""


class Port:
    """A machine's `Network`: the part that joining uses."""

    def __init__(self, machine: Box) -> None:
        self._machine = machine

    async def listen_tls(
        self, address: str, keys: Callable[[], TlsKeys], accept: Callable[[SecureStream], Awaitable[None]]
    ) -> Door:
        where = f"{self._machine.name}:9"
        self._machine.wire.doors[where] = (self._machine, keys(), accept)
        return Door(self._machine.wire, where)

    async def connect_tls(self, address: str, keys: TlsKeys, timeout: float = 20.0) -> SecureStream:
        wire = self._machine.wire
        if address not in wire.doors:
            raise FileError(E.CONNREFUSED, address)
        there, shown, accept = wire.doors[address]
        near, far = End(self._machine, certificate_der(shown.certificate)), End(there, b"")
        near.other, far.other = far, near
        task = asyncio.ensure_future(_answer(accept, far))
        wire.tasks.add(task)
        task.add_done_callback(wire.tasks.discard)
        return cast(SecureStream, near)


async def _answer(accept: Callable[[SecureStream], Awaitable[None]], end: End) -> None:
    try:
        await accept(cast(SecureStream, end))
    except LinkBroken:
        pass  # as a listener does
    finally:
        end.close()


class Box:
    """A machine. What it keeps is in `files`; `start` makes the rest of it anew."""

    def __init__(self, name: str, wire: Wire) -> None:
        self.name = name
        self.wire = wire
        self.dead = False
        self.ends: list[End] = []
        self.files = Files(self)
        self.identity = identity_from_seed(name.encode().ljust(32))
        self.start()

    def start(self) -> None:
        self.dead, self.ends = False, []
        network, disk = cast(Network, Port(self)), cast(Disk, self.files)
        self.world = replace(real_world(), network=network, disk=disk)
        self.book = PeerBook(disk, "/home")
        self.me = Self(self.identity, self.name, lambda: (f"{self.name}:1",))
        self.user = User()
        self.inviter = Inviter(self.world, self.me, self.book, "/home", self.name, lambda: (self.name,), _nothing)

    def kill(self) -> None:
        """At once, with nothing said to anybody."""
        self.dead = True
        for end in self.ends:
            end.other.end()
        self.wire.doors.pop(f"{self.name}:9", None)
        self.wire.died.set()

    def show(self, *grants: str) -> asyncio.Task[Peer]:
        return asyncio.ensure_future(self.inviter.show_code(Wish(grants), self.user, Air()))

    def type(self, code: Code, at: tuple[str, ...]) -> asyncio.Task[Peer]:
        return asyncio.ensure_future(pair(self.world, self.me, self.book, code, at, Air(), Wish(), self.user))


def _nothing(peer: Peer) -> None:
    pass
