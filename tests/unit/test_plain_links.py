"""Plain requests over a link: at once, in order through a full channel and a cut, and what a revocation leaves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cognu.devices.host import HostServer
from cognu.errors import E, FileError
from cognu.files.export import Export
from cognu.files.mount import MountServer
from cognu.files.plain import BATCH
from cognu.files.process import Process
from cognu.files.server import Fid
from cognu.mesh.identity import Peer
from cognu.mesh.session import Channel
from cognu.mesh.session_channel import CHANNEL_WINDOW
from cognu.mesh.session_core import QUEUE_LOW
from cognu.ninep import glance
from cognu.ninep import messages as m
from cognu.ninep.codec import decode
from cognu.ninep.messages import Dialect
from cognu.ninep.types import NOFID, NOTAG
from cognu.world.host_tree import RealHostTree
from cognu.world.real import RealClock, real_world
from joined import ME, Slow, attach_to, idle
from memfs import MemDirectory, MemFile
from mesh_support import QUICK, Forwarder, Node, echo, read_exactly
from prompt import LARGE, MSIZE, Prompt, plant, start, wire
from serving import Client


class Far:
    """A client over a link, whose messages the test writes; `export` is what answers, `line` what is between."""

    def __init__(self, channel: Channel, line: Forwarder, exports: list[Export], dialect: Dialect) -> None:
        self.channel = channel
        self.line = line
        self._exports = exports
        self._dialect = dialect

    @property
    def export(self) -> Export:
        return self._exports[0]

    @property
    def full(self) -> bool:
        """The server's channel has no room, and all that was sent before is with the client's node, unread."""
        return self.queued > QUEUE_LOW and not self.channel._state.window

    @property
    def queued(self) -> int:
        """Bytes that wait in the server's channel."""
        stream = self.export._stream
        assert isinstance(stream, Channel)
        return stream._state.queued

    @property
    def waits_for_room(self) -> bool:
        stream = self.export._stream
        assert isinstance(stream, Channel)
        return stream._writer is not None

    async def send(self, *requests: tuple[m.Message, int]) -> None:
        await self.channel.write(b"".join(wire(message, tag, self._dialect) for message, tag in requests))

    async def reply(self) -> bytes:
        size = await read_exactly(self.channel, 4)
        return size + await read_exactly(self.channel, int.from_bytes(size, "little") - 4)

    async def ask(self, message: m.Message, tag: int = 1) -> bytes:
        await self.send((message, tag))
        return await self.reply()

    async def begin(self) -> None:
        """Attached: fid 0 is the root."""
        await self.ask(m.Tversion(MSIZE, self._dialect.value), NOTAG)
        await self.ask(m.Tattach(0, NOFID, "glenda", ""))

    async def open(self, fid: int, *names: str) -> None:
        assert (await self.ask(m.Twalk(0, fid, names)))[4] == glance.WALK + 1
        assert (await self.ask(m.Tlopen(fid, 0)))[4] == glance.LOPEN + 1


@asynccontextmanager
async def over_a_link(path: Path, process: Process, dialect: Dialect = Dialect.L) -> AsyncIterator[Far]:
    exports: list[Export] = []

    async def serve(_: Peer, __: str, channel: Channel) -> None:
        exports.append(Export(channel, process, attach_to(process)))
        await exports[-1].serve()

    a = Node(path / "a", echo, QUICK)
    b = await Node(path / "b", serve, QUICK).listen()
    line = await Forwarder(b.address).start()
    a.knows(b, "b", line.address)
    b.knows(a, "a")
    try:
        yield Far(await a.mesh.open("b", "9p"), line, exports, dialect)
    finally:
        await a.mesh.close()
        await b.mesh.close()
        await line.close()


async def until(so: Callable[[], bool]) -> None:
    while not so():  # noqa: ASYNC110  # that the client's node has it all is told nobody
        await asyncio.sleep(0)


def with_slow(large: bytes) -> tuple[Prompt, Slow]:
    """`slow` has its answers when the test says so."""
    server, slow = Prompt(), Slow("slow")
    node = server.at("/large")
    assert isinstance(node, MemFile)
    node.data = large
    assert isinstance(server.root, MemDirectory)
    server.root.add(slow)
    return server, slow


@pytest.mark.parametrize("dialect", [Dialect.L, Dialect.NG])
async def test_over_a_link_they_are_answered_at_once_too(
    tmp_path: Path, dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From memory: the host sends no files by a channel."""
    process, _ = await start(HostServer(real_world(), RealHostTree(str(plant(tmp_path / "tree")))))
    async with over_a_link(tmp_path, process, dialect) as far:
        await far.begin()
        await far.ask(m.Tgetattr(0, 0))  # the kernel is asked once by the long way
        await idle()
        with monkeypatch.context() as patched:
            patched.setattr(far.export, "_begin", None)  # which would be called now
            patched.setattr(far.export, "_take_turns", None)
            await far.open(1, "large")
            assert await far.ask(m.Tread(1, 5, 400_000)) == wire(m.Rread(LARGE[5:400_005]), 1, dialect)
            assert await far.ask(m.Tread(1, 5, 30)) == wire(m.Rread(LARGE[5:35]), 1, dialect)
            assert await far.ask(m.Tclunk(1)) == wire(m.Rclunk(), 1, dialect)
        far.channel.close()


@pytest.mark.parametrize("late", [10, 20_000], ids=["little", "much"])
async def test_a_call_that_ends_while_the_channel_is_full_waits_its_turn(
    tmp_path: Path, late: int, caplog: pytest.LogCaptureFixture
) -> None:
    server, slow = with_slow(LARGE)
    process, _ = await start(server)
    async with over_a_link(tmp_path, process) as far:
        await far.begin()
        await far.open(1, "large")
        await far.open(2, "slow")
        await far.ask(m.Tread(1, 0, 1))
        await far.send((m.Tread(2, 0, 60_000), 500))
        await slow.parked(1)
        await far.send(*[(m.Tread(1, n, 400_000), n) for n in range(40)])
        await until(lambda: far.full)
        slow.reads[0].set_result(b"l" * late)
        await until(lambda: not far.export._tasks)
        await idle()
        answers = dict([decode(memoryview(await far.reply()), Dialect.L) for _ in range(41)])
        assert answers.pop(500) == m.Rread(b"l" * late)
        assert answers == {n: m.Rread(LARGE[n : n + 400_000]) for n in range(40)}
        far.channel.close()
    assert not caplog.records


@pytest.mark.parametrize("late", [False, True], ids=["reads alone", "a call ends meanwhile"])
async def test_thirty_reads_go_on_after_a_cut(tmp_path: Path, late: bool) -> None:
    data = os.urandom(1 << 20)
    server, slow = with_slow(data)
    process, _ = await start(server)
    async with over_a_link(tmp_path, process) as far:
        mount = await MountServer.connect(far.channel, RealClock(), msize=MSIZE)
        client = Client(mount, ME)
        fids = [await client.open("/large") for _ in range(30)]

        async def read(fid: Fid, offset: int) -> bytes:
            part = mount.read(fid, offset, 1_000_000)
            return bytes(part if isinstance(part, bytes | memoryview) else await part)

        async def whole(fid: Fid) -> bytes:
            found = b""
            while part := await read(fid, len(found)):
                found += part
            return found

        parked = asyncio.ensure_future(read(await client.open("/slow"), 0))
        await slow.parked(1)

        reads = [asyncio.ensure_future(whole(fid)) for fid in fids]
        await until(lambda: far.waits_for_room)
        far.line.cut()
        if late:
            slow.reads[0].set_result(b"late")
            await until(lambda: not far.export._tasks)
        assert all(found == data for found in await asyncio.gather(*reads))
        if not late:
            slow.reads[0].set_result(b"late")
        assert await parked == b"late"
        assert far.line.connections == 2


async def test_what_a_revocation_leaves_is_what_the_other_node_has_and_what_waits_in_the_channel(
    tmp_path: Path,
) -> None:
    server, _ = with_slow(LARGE)
    process, revoke = await start(server)
    async with over_a_link(tmp_path, process) as far:
        await far.begin()
        await far.open(1, "large")
        await far.ask(m.Tread(1, 0, 1))
        await far.send(*[(m.Tread(1, n, 400_000), n) for n in range(40)])
        await until(lambda: far.full)
        there = far.channel._state.incoming.size
        assert there <= CHANNEL_WINDOW
        revoke()
        refusal = m.Rlerror(FileError(E.REVOKED).errno)
        answers = [decode(memoryview(await far.reply()), Dialect.L)[1] for _ in range(40)]
        told = [answer for answer in answers if answer != refusal]
        assert told == [m.Rread(LARGE[n : n + 400_000]) for n in range(len(told))]
        assert there <= len(told) * 400_000 <= there + QUEUE_LOW + BATCH + MSIZE
        assert len(told) < 40
        far.channel.close()
