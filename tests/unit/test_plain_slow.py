"""Plain requests of who reads slowly, over sockets and links, and of files that change under their answers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from cognu.devices.host import HostServer
from cognu.errors import E, Misuse
from cognu.files.export import UNSENT
from cognu.files.plain import BATCH
from cognu.files.server import Fid, StoredBytes
from cognu.ninep import glance
from cognu.ninep import messages as m
from cognu.ninep.codec import decode
from cognu.world.host_tree import RealHostTree
from cognu.world.real import real_world
from cognu.world.sockets import SocketStream
from joined import Slow, idle
from memfs import MemDirectory
from prompt import LARGE, MSIZE, L, Prompt, plant, prompt, served


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return plant(tmp_path / "tree")


# -- who reads slowly, and files that change --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [9000, 100_000, 400_000], ids=["joined", "copied", "sent by the host"])
async def test_who_does_not_read_is_owed_one_turns_answers_at_most_and_gets_all_in_the_end(
    tree: Path, count: int
) -> None:
    async with prompt(tree / "large") as (server, ends):
        await ends.open(1, "large")
        await ends.call(m.Tread(1, 0, 1))
        most = 0

        def offered(stream: SocketStream) -> None:
            nonlocal most
            most = max(most, sum(map(len, stream._queue)))

        total = 3000 if count == 9000 else 200
        sending = asyncio.get_running_loop().create_task(ends.send(*[(m.Tread(1, n, count), n) for n in range(total)]))
        await sending
        for _ in range(500):
            await asyncio.sleep(0)
            offered(ends.stream)
        asked = server.asked
        assert asked < total, "more is answered than anybody takes"
        assert most <= BATCH + MSIZE
        for n in range(total):
            (raw,) = await ends.replies(1)
            assert decode(memoryview(raw), L) == (n, m.Rread(LARGE[n : n + count]))


@pytest.mark.parametrize("direct", [True, False], ids=["short", "long"])
async def test_what_was_held_up_for_who_did_not_read_goes_on_and_then_nothing_runs(
    tree: Path, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(HostServer(real_world(), RealHostTree(str(tree))), direct) as ends:
        await ends.open(1, "large")
        total = UNSENT // 400_000 + 1  # one more is held up
        await ends.send(*[(m.Tread(1, n, 400_000), n) for n in range(total)])
        await idle()
        for n in range(total):
            assert decode(memoryview((await ends.replies(1))[0]), L) == (n, m.Rread(LARGE[n : n + 400_000]))
        await idle()
        with monkeypatch.context() as patched:
            patched.setattr(ends.export, "_carry_out", None)  # which would be called again and again
            await idle()
        assert await ends.call(m.Tread(1, 0, 3)) == m.Rread(LARGE[:3])


async def test_a_mistake_of_this_side_in_the_midst_of_sending_is_logged_and_ends_the_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with prompt() as (server, ends):
        assert isinstance(server.root, MemDirectory)
        slow = Slow("slow")
        server.root.add(slow)
        await ends.call(m.Twalk(0, 1, ("slow",)))
        await ends.call(m.Tlopen(1, 0))
        await ends.send((m.Tread(1, 0, 60_000), 5))
        await slow.parked(1)

        async def fail(*_: object) -> None:
            raise Misuse(E.ALREADY, "client")

        monkeypatch.setattr(ends.stream, "write", fail)
        slow.reads[0].set_result(b"l" * 20_000)  # too much to be offered
        assert await ends.client.read(1) == b""
        await ends.serving
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", "server: a mistake on this side ends the connection")
    ]


async def test_many_small_answers_behind_large_ones_that_were_held_up_are_all_sent() -> None:
    async with prompt() as (server, ends):
        assert isinstance(server.root, MemDirectory)
        slow = Slow("slow")
        server.root.add(slow)
        await ends.call(m.Twalk(0, 1, ("slow",)))
        await ends.call(m.Tlopen(1, 0))
        large, total = UNSENT // 60_000 + 5, UNSENT // 60_000 + 205
        await ends.send(*[(m.Tread(1, 0, 60_000), n) for n in range(total)])
        await slow.parked(total)
        for n, parked in enumerate(slow.reads):
            parked.set_result(b"l" * (60_000 if n < large else 1))
        await idle()
        assert {decode(memoryview(raw), L)[0] for raw in await ends.replies(total)} == set(range(total))


async def test_a_file_that_shrinks_under_its_answer_ends_the_connection_not_in_other_bytes(tree: Path) -> None:
    class Late(Prompt):
        def stored_now(self, fid: Fid, offset: int, count: int) -> StoredBytes | None:
            found = super().stored_now(fid, offset, count)
            os.truncate(tree / "large", 1000)
            return found

    server = Late(tree / "large")
    async with served(server) as ends:
        await ends.open(1, "large")
        await ends.call(m.Tread(1, 0, 1))
        await ends.send((m.Tread(1, 0, 300_000), 5))
        got = b""
        while data := await ends.client.read(1 << 20):
            got += data
        assert got[:11] == glance.pack_read(5, 300_000)
        assert got[11:] == LARGE[: len(got) - 11]
        assert len(got) <= 11 + 1000
        await ends.serving
    server.close()


async def test_a_disk_that_fails_under_its_answer_ends_the_connection_not_in_other_bytes(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with prompt(tree / "large") as (_, ends):
        await ends.open(1, "large")
        await ends.call(m.Tread(1, 0, 1))

        def fail(*_: object) -> int:
            raise OSError(errno.EIO, "a bad block")

        with monkeypatch.context() as patched:
            patched.setattr(os, "sendfile", fail)
            patched.setattr(os, "pread", fail)
            await ends.send((m.Tread(1, 0, 300_000), 5), (m.Tgetattr(1, 0), 6))
            got = b""
            while data := await ends.client.read(1 << 20):
                got += data
        assert got == glance.pack_read(5, 300_000)
        await ends.serving


class Narrow:
    """A socket that takes three bytes at a time, and nothing every other time."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self._full = False
        self.fileno, self.close = real.fileno, real.close

    def send(self, data: bytes, flags: int = 0) -> int:
        self._full = not self._full
        if not self._full:
            raise BlockingIOError
        return self._real.send(data[:3], flags)

    def sendmsg(self, buffers: Sequence[bytes]) -> int:
        return self.send(b"".join(buffers))


@pytest.mark.parametrize("by_file", [True, False])
async def test_what_the_host_takes_in_small_pieces_arrives_whole_and_in_order(tree: Path, by_file: bool) -> None:
    near, far = socket.socketpair()
    client, stream = SocketStream(near, "client"), SocketStream(far, "server")
    stream._socket = Narrow(far)  # type: ignore[assignment]
    with (tree / "large").open("rb") as file:
        if by_file:
            taken = stream.offer_file(b"a header of some bytes", file.fileno(), 100, 900)
        else:
            taken = stream.offer(b"a header of some bytes", LARGE[100:1000])
        assert not taken
        assert not stream.offer(b"and more")
    writing = asyncio.get_running_loop().create_task(stream.write(b"!"))
    got = b""
    while len(got) < 22 + 900 + 8 + 1:
        got += await client.read(1 << 16)
    await writing
    assert got == b"a header of some bytes" + LARGE[100:1000] + b"and more!"
    client.close()
    stream.close()
