"""The writable file servers that keep one contract, each as a client that the tests ask through."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cognu.devices.host import HostServer
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.mount import MountServer
from cognu.files.process import Process
from cognu.files.server import Caller, Fid, FileServer, MaybeAsync, Then
from cognu.files.shown import parse_filter
from cognu.files.shownserver import ShownFid, ShownServer
from cognu.files.steps import Steps, ready, start
from cognu.ninep.messages import Dialect
from cognu.world.real import RealClock, real_world
from cognu.world.sockets import SocketStream
from serving import Client, KeepingTree, Node, done


async def ram(_: Path) -> AsyncIterator[Client]:
    client = Client(RamServer(RealClock()))
    yield client
    client.close()


async def host(path: Path) -> AsyncIterator[Client]:
    before = len(os.listdir("/dev/fd"))
    os.chmod(path, 0o777)
    tree = KeepingTree(str(path))
    client = Client(HostServer(real_world(), tree))
    yield client
    client.close()
    tree.close()
    assert len(os.listdir("/dev/fd")) == before, "a handle of the host is left open"


class Rooted(ShownServer):
    """With roots of its own, by which a test asks."""

    def __init__(self, server: FileServer, hide: str) -> None:
        super().__init__(server, parse_filter([hide], []))
        self.server = server

    def attach(self, caller: Caller, aname: str) -> MaybeAsync[Fid]:
        def steps() -> Steps[Fid]:
            return ShownFid((yield from ready(self.server.attach(caller, aname))), (), 0, caller)

        return start(steps())


async def in_part(path: Path) -> AsyncIterator[Client]:
    """The host's tree, of which patterns hide what no test asks for."""
    async for whole in host(path):
        client = Client(Rooted(whole.server, "*.hidden"))
        yield client
        client.close()


class Foreseeing(Client):
    """Says with each walk what may come next, whatever comes, and has its writes accepted before they are there."""

    then = Then.READ

    async def walk(self, path: str) -> Fid:
        above, _, name = path.strip("/").rpartition("/")
        directory = await super().walk(above)
        if not name:
            return directory
        try:
            walked = await done(self.server.walk_to(directory, [name], self.caller, self.then))
        finally:
            self.server.clunk(directory)
        self.then = {Then.READ: Then.STAT, Then.STAT: Then.LIST, Then.LIST: Then.READ}[self.then]
        assert walked.fid is not None
        return walked.fid

    async def write_fid(self, fid: Fid, data: bytes, offset: int = 0) -> int:
        count = await done(self.server.accept(fid, offset, memoryview(data)))
        await done(self.server.settle(fid))
        return count


async def far(
    path: Path, offer: Dialect = Dialect.NG, of: Callable[[MountServer], Client] = Client
) -> AsyncIterator[Client]:
    """The memory server of another process, by 9P over a socket."""
    process = await Node(RamServer(RealClock())).start()
    here, there = map(SocketStream, socket.socketpair(), ("here", "there"))
    serving = asyncio.ensure_future(Export(there, process, lambda user, aname: attach_root(process)).serve())
    mount = await MountServer.connect(here, RealClock(), offer=offer)
    client = of(mount)
    yield client
    client.close()
    await mount.close()
    await serving


def far_u(path: Path) -> AsyncIterator[Client]:
    return far(path, Dialect.U)


def far_l(path: Path) -> AsyncIterator[Client]:
    return far(path, Dialect.L)


def foreseen(path: Path) -> AsyncIterator[Client]:
    return far(path, of=Foreseeing)


SERVERS: dict[str, Callable[[Path], AsyncIterator[Client]]] = {
    "ram": ram, "host": host, "far": far, "far.u": far_u, "far.l": far_l, "foreseen": foreseen, "in part": in_part,
}  # fmt: skip


def attach_root(process: Process) -> Steps[Chan]:
    return process.namespace.root.share()
    yield


async def refused(error: E, call: Awaitable[Any] | Callable[[], Any]) -> None:
    with pytest.raises(FileError) as caught:
        await done(call() if callable(call) else call)
    # The errno is what every dialect and every client tells apart.
    assert caught.value.errno == error.errno, caught.value
