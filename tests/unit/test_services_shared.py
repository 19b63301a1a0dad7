"""Many who mount one posted file share a connection, and each has its mount by the file that it mounted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cognu.devices.pipe import PipeServer
from cognu.devices.ram import RamServer
from cognu.devices.srv import srv_server
from cognu.errors import E
from cognu.files.authority import Authority
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.export import Export
from cognu.files.process import Process
from cognu.files.services import ChanStream, Services
from cognu.files.steps import Steps, finish
from cognu.ninep.types import DMDIR, ORDWR, OREAD
from cognu.world.real import RealClock
from joined import bring
from serving import Client, Node


class Board:
    """A service behind a pipe, posted as `/srv/x` by a process of its own."""

    def __init__(self) -> None:
        self.ram = RamServer(RealClock())
        self.node = Node(self.ram)
        self.services = Services(RealClock())

    async def start(self) -> None:
        files = Client(self.ram)
        for name in ("pipe", "srv"):
            await files.mkdir(name)
        await files.put("note", b"of the service")
        server = srv_server(self.node.processes)
        self.init = await self.node.start({"/pipe": PipeServer(), "/srv": server})
        near = await self.node.open(self.init, "/pipe/data1", ORDWR)
        self.serving = asyncio.create_task(Export(ChanStream(near), self.fork(self.init), self._root).serve())
        self.above_poster = self.fork(self.init)
        poster = self.fork(self.above_poster)
        number = poster.descriptors.add(await self.node.open(poster, "/pipe/data", ORDWR))
        await Client(server, poster).put("x", str(number).encode())
        self.node.processes.end(poster, 0)

    def _root(self, uname: str, aname: str) -> Steps[Chan]:
        return self.init.namespace.root.share()
        yield

    def fork(self, parent: Process) -> Process:
        return self.node.processes.fork(parent)

    async def mount(self, process: Process) -> Chan:
        return await self.services.mount_service(await self.node.open(process, "/srv/x", ORDWR), "", process)

    async def revoke(self, process: Process, path: str) -> None:
        """What was made of its capability to that tree."""
        chan = await self.node.open(process, path, OREAD)
        self.node.authority.revoke(process.namespace.domain.pid, chan.cap)
        chan.close()

    @property
    def authority(self) -> Authority:
        return self.node.authority


@pytest_asyncio.fixture
async def board() -> AsyncIterator[Board]:
    board = Board()
    await board.start()
    yield board
    await board.services.close()
    board.serving.cancel()  # what is posted keeps the pipe open
    await asyncio.wait([board.serving])


async def look(root: Chan) -> None:
    assert (await finish(dispatch(root, 0, root.server.stat, root.fid))).mode & DMDIR


@pytest.mark.parametrize("first", [True, False])
async def test_a_mount_ends_with_the_file_that_was_mounted_and_the_others_go_on(board: Board, first: bool) -> None:
    above = [board.fork(board.init) for _ in range(2)]
    roots = [await board.mount(board.fork(each)) for each in above]
    assert roots[0].server is roots[1].server, "one connection"
    gone, other = (0, 1) if first else (1, 0)
    await board.revoke(above[gone], "/srv")
    assert await bring(look(roots[gone])) is E.REVOKED
    await look(roots[other])
    await look(await board.mount(board.fork(above[other])))


async def test_all_mounts_end_when_what_was_posted_is_revoked(board: Board) -> None:
    roots = [await board.mount(board.fork(board.init)) for _ in range(2)]
    await board.revoke(board.above_poster, "/pipe")
    for root in roots:
        assert await bring(look(root)) is E.REVOKED


async def test_nothing_is_kept_of_mounts_whose_connection_is_over(board: Board) -> None:
    running = vars(board.authority)["_running"]
    before = dict(running)
    roots = [await board.mount(board.fork(board.init)) for _ in range(2)]
    for root in roots:
        root.close()
    await board.services.close()
    assert vars(board.services)["_mounts"] == {}
    assert running.keys() <= before.keys()
