"""Reads ahead of the mount driver: which files, how much, and what must never come of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.flow import ALL_BYTES, CEILING, FLOOR
from cognu.files.mount import FarFid, MountServer
from cognu.files.readahead import GOOD_FOR, PIECE, AheadOfAll, Data, ReadAhead, is_plain
from cognu.ninep import messages as m
from cognu.ninep.attrs import getattr_of_stat
from cognu.ninep.codec import Frames, decode, encode
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.types import (
    DMAPPEND,
    DMDEVICE,
    DMDIR,
    DMNAMEDPIPE,
    DMSETUID,
    DMSOCKET,
    NOTAG,
    ORDWR,
    OREAD,
    Qid,
    Stat,
    qid_type,
)
from joined import CountingServer, StoppedClock, idle, joined, open_at
from memfs import MemDirectory
from serving import Somebody
from streams import MemoryStream, pair

STORED, ANOTHER = Qid(0, 7, 1), Qid(0, 7, 2)
CONTENT = bytes(range(256)) * (3 * PIECE // 64)


class SetClock(StoppedClock):
    """A clock that stands where it was put."""

    time = 0

    def monotonic(self) -> int:
        return self.time


class FarFile:
    """A server of one file, by hand: it answers reads when told to, and keeps what was asked."""

    def __init__(self, stream: MemoryStream, qid: Qid) -> None:
        self.stream = stream
        self.qid = qid
        self.opened = -1
        self.content = CONTENT
        self.mode = 0o644
        self.revoked = False
        self.asked: list[tuple[int, int]] = []
        self.checked = 0
        self.flushed = 0
        self.held: list[tuple[int, m.Tread]] | None = None  # reads that wait, if they do
        self._came = asyncio.Event()

    async def serve(self) -> None:
        frames = Frames(1 << 21)
        while data := await self.stream.read(1 << 16):
            for frame in frames.feed(data):
                await self._take(*decode(frame, Dialect.NG))
            self._came.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._came.clear()
            await self._came.wait()

    async def release(self) -> None:
        """Answer the reads that wait; further ones go on waiting."""
        assert self.held is not None
        held, self.held = self.held, []
        for tag, message in held:
            await self.give(tag, message)

    async def _take(self, tag: int, message: Message) -> None:
        if isinstance(message, m.Tversion):
            await self.answer(NOTAG, m.Rversion(message.msize, "9P2000.ng"))
        elif isinstance(message, m.Tattach | m.Tlopen):
            if isinstance(message, m.Tlopen):
                self.opened = message.fid
            reply = m.Rattach(self.qid) if isinstance(message, m.Tattach) else m.Rlopen(self.qid, 0)
            await self.answer(tag, reply)
        elif isinstance(message, m.Tgetattr):
            stat = Stat("f", self.qid, self.mode, len(self.content))
            if message.fid != self.opened:
                stat = Stat("other", ANOTHER, 0o644, 0)
            await self.answer(tag, getattr_of_stat(stat, message.request_mask))
        elif isinstance(message, m.Twalk):
            await self.answer(tag, m.Rwalk((self.qid,) * len(message.names)))
        elif isinstance(message, m.Twrite):
            await self.answer(tag, m.Rwrite(len(message.data)))
        elif isinstance(message, m.Tclunk):
            await self.answer(tag, m.Rclunk())
        elif isinstance(message, m.Tflush):
            self.flushed += 1
            await self.answer(tag, m.Rflush())
        elif isinstance(message, m.Tread) and self.revoked:
            await self.answer(tag, m.Rngerror(E.REVOKED.errno, E.REVOKED.name, "", ""))
        elif isinstance(message, m.Tread) and not message.count:
            self.checked += 1
            await self.answer(tag, m.Rread(b""))
        elif isinstance(message, m.Tread):
            self.asked.append((message.offset, message.count))
            if self.held is None:
                await self.give(tag, message)
            else:
                self.held.append((tag, message))

    async def give(self, tag: int, message: m.Tread) -> None:
        await self.answer(tag, m.Rread(self.content[message.offset : message.offset + message.count]))

    async def answer(self, tag: int, message: Message) -> None:
        await self.stream.write(*encode(message, tag, Dialect.NG))


@asynccontextmanager
async def opened(qid: Qid = STORED, mode: int = OREAD) -> AsyncIterator[tuple[MountServer, FarFid, FarFile, SetClock]]:
    here, there = pair(1 << 16)
    far, clock = FarFile(there, qid), SetClock()
    serving = asyncio.create_task(far.serve())
    mount = await MountServer.connect(here, clock)
    try:
        root = await mount.attach(Somebody(), "")
        fid = (await mount.walk(root, ["f"], Somebody())).fid
        assert isinstance(fid, FarFid)
        await mount.open(fid, mode, Somebody())
        yield mount, fid, far, clock
    finally:
        await mount.close()
        there.close()
        await serving


async def round_trip(mount: MountServer, fid: FarFid) -> None:
    """All that was sent before has been answered."""
    await mount.walk(fid, [], Somebody())
    await asyncio.wait(mount._ahead.tasks or [asyncio.ensure_future(asyncio.sleep(0))])


async def test_a_file_read_in_order_is_asked_for_ahead_and_comes_whole() -> None:
    async with opened() as (mount, fid, far, _):
        got = b""
        while part := await mount.read(fid, len(got), PIECE):
            got += part
        assert got == CONTENT
        offsets = [offset for offset, _ in far.asked]
        assert offsets[:2] == [0, PIECE]
        assert offsets.count(2 * PIECE) == 1
        assert offsets[-1] == len(CONTENT)  # the end was asked for, by itself


async def test_nothing_is_asked_ahead_of_a_first_read_or_out_of_order() -> None:
    async with opened() as (mount, fid, far, _):
        for offset in (0, 5 * PIECE, 2 * PIECE, 0):
            assert await mount.read(fid, offset, PIECE) == CONTENT[offset : offset + PIECE]
        await round_trip(mount, fid)
        assert far.asked == [(0, PIECE), (5 * PIECE, PIECE), (2 * PIECE, PIECE), (0, PIECE)]


async def test_nothing_is_asked_ahead_for_one_who_does_so_himself() -> None:
    async with opened() as (mount, fid, far, _):
        first = asyncio.gather(*(mount.read(fid, index * PIECE, PIECE) for index in range(4)))
        assert b"".join(await first) == CONTENT[: 4 * PIECE]
        for index in range(4, 8):
            await mount.read(fid, index * PIECE, PIECE)
        await round_trip(mount, fid)
        assert far.asked == [(index * PIECE, PIECE) for index in range(8)]


async def test_streams_and_files_that_change_are_read_as_they_are_asked_for() -> None:
    for qid, mode in ((Qid(0, 0, 1), OREAD), (Qid(qid_type(DMAPPEND), 7, 1), OREAD), (STORED, ORDWR)):
        async with opened(qid, mode) as (mount, fid, far, _):
            for index in range(4):
                await mount.read(fid, index * PIECE, PIECE)
            await round_trip(mount, fid)
            assert far.asked == [(index * PIECE, PIECE) for index in range(4)]


async def test_a_reader_of_little_is_served_from_large_pieces() -> None:
    async with opened() as (mount, fid, far, _):
        got = b""
        while len(got) < 4 * PIECE:
            got += await mount.read(fid, len(got), 1000)
        assert got == CONTENT[: len(got)]
        assert far.asked[:4] == [(0, 1000), (1000, 1000), (2000, 1000), (3000, PIECE)]
        assert len(far.asked) < 30


async def test_what_was_changed_through_the_mount_is_read_anew() -> None:
    async with opened() as (mount, fid, far, _):
        await mount.read(fid, 0, PIECE)
        await mount.read(fid, PIECE, PIECE)
        await round_trip(mount, fid)
        assert len(far.asked) > 2
        far.content = bytes(len(CONTENT))
        other = (await mount.walk(fid, [], Somebody())).fid
        assert other is not None
        await mount.write(other, 0, b"x")
        assert await mount.read(fid, 2 * PIECE, PIECE) == bytes(PIECE)


async def test_writing_to_another_file_disturbs_nobody() -> None:
    async with opened() as (mount, fid, far, _):
        root = await mount.attach(Somebody(), "")
        await mount.stat(root)
        for index in range(8):
            await mount.read(fid, index * PIECE, PIECE)
            await mount.write(root, 0, b"x")
        assert len(far.asked) == len(set(far.asked))


async def test_an_answer_nobody_came_for_is_not_kept() -> None:
    async with opened() as (mount, fid, far, clock):
        await mount.read(fid, 0, PIECE)
        await mount.read(fid, PIECE, PIECE)
        await round_trip(mount, fid)
        far.content = bytes(len(CONTENT))
        clock.time = GOOD_FOR
        assert await mount.read(fid, 2 * PIECE, PIECE) == CONTENT[2 * PIECE : 3 * PIECE]
        clock.time = 10 * GOOD_FOR
        assert await mount.read(fid, 3 * PIECE, PIECE) == bytes(PIECE)


async def test_the_end_is_asked_for_when_it_is_reached() -> None:
    async with opened() as (mount, fid, far, _):
        far.content = CONTENT[: 2 * PIECE]
        await mount.read(fid, 0, PIECE)
        await mount.read(fid, PIECE, PIECE)
        await round_trip(mount, fid)
        far.content = CONTENT  # it grew after the answer to what was asked ahead: nothing was there
        assert await mount.read(fid, 2 * PIECE, PIECE) == CONTENT[2 * PIECE : 3 * PIECE]


async def ahead_under_way(mount: MountServer, fid: FarFid, far: FarFile) -> None:
    """Read two pieces; the server holds back what is asked ahead of the third."""
    await mount.read(fid, 0, PIECE)
    far.held = []
    reading = asyncio.create_task(mount.read(fid, PIECE, PIECE))
    await far.until(lambda: bool(far.held))
    await far.release()
    await reading
    await far.until(lambda: bool(far.held))
    assert far.asked == [(0, PIECE), (PIECE, PIECE), (2 * PIECE, PIECE)]


async def test_clunking_flushes_what_is_under_way() -> None:
    async with opened() as (mount, fid, far, _):
        await ahead_under_way(mount, fid, far)
        mount.clunk(fid)
        await far.until(lambda: far.flushed == 1)
        assert mount._ahead.room == ALL_BYTES


async def test_a_cancelled_reader_leaves_what_was_asked_ahead_for_the_next() -> None:
    async with opened() as (mount, fid, far, _):
        await ahead_under_way(mount, fid, far)
        reading = asyncio.create_task(mount.read(fid, 2 * PIECE, PIECE))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        await far.release()
        assert await mount.read(fid, 2 * PIECE, PIECE) == CONTENT[2 * PIECE : 3 * PIECE]
        assert far.asked.count((2 * PIECE, PIECE)) == 1


async def test_what_was_refused_ahead_is_asked_for_again() -> None:
    async with opened() as (mount, fid, far, _):
        await ahead_under_way(mount, fid, far)
        assert far.held is not None
        ((tag, _message),) = far.held
        far.held = None
        await far.answer(tag, m.Rngerror(5, "IO", "", ""))
        assert await mount.read(fid, 2 * PIECE, PIECE) == CONTENT[2 * PIECE : 3 * PIECE]
        assert far.asked.count((2 * PIECE, PIECE)) == 2


async def two_pieces(mount: MountServer, fid: FarFid, far: FarFile) -> None:
    """Read; what follows has been asked for and has come."""
    await mount.read(fid, 0, PIECE)
    await mount.read(fid, PIECE, PIECE)
    await round_trip(mount, fid)
    assert len(far.asked) > 2


async def test_what_came_ahead_is_not_handed_out_once_its_owner_has_revoked() -> None:
    async with opened() as (mount, fid, far, _):
        await two_pieces(mount, fid, far)
        far.revoked = True
        with pytest.raises(FileError) as caught:
            await mount.read(fid, 2 * PIECE, PIECE)
        assert caught.value.error is E.REVOKED
        assert mount._ahead.room == ALL_BYTES


async def test_with_nothing_under_way_the_file_is_asked_before_what_came_ahead_is_handed_out() -> None:
    async with opened() as (mount, fid, far, _):
        await two_pieces(mount, fid, far)
        assert far.checked == 0
        assert await mount.read(fid, 2 * PIECE, 100) == CONTENT[2 * PIECE : 2 * PIECE + 100]
        assert far.checked == 1
        assert far.asked.count((2 * PIECE, PIECE)) == 1


async def test_a_refusal_of_one_read_ahead_ends_all_that_came() -> None:
    async with opened() as (mount, fid, far, _):
        await two_pieces(mount, fid, far)
        await mount.read(fid, 2 * PIECE, PIECE)
        await round_trip(mount, fid)
        far.held = []
        assert await mount.read(fid, 3 * PIECE, PIECE) == CONTENT[3 * PIECE : 4 * PIECE]
        await far.until(lambda: bool(far.held))
        asked = mount._ahead.tasks.copy()
        far.revoked = True
        for tag, _message in far.held:
            await far.answer(tag, m.Rngerror(E.REVOKED.errno, E.REVOKED.name, "", ""))
        await asyncio.wait(asked)
        assert mount._ahead.room == ALL_BYTES
        with pytest.raises(FileError) as caught:
            await mount.read(fid, 4 * PIECE, PIECE)
        assert caught.value.error is E.REVOKED


async def test_what_came_ahead_ends_with_the_connection() -> None:
    async with opened() as (mount, fid, far, _):
        await two_pieces(mount, fid, far)
        far.stream.close()
        assert mount._reader is not None
        await asyncio.wait([mount._reader])
        assert mount._ahead.room == ALL_BYTES
        with pytest.raises(FileError):
            await mount.read(fid, 2 * PIECE, PIECE)


async def test_revoked_at_the_exporting_node_no_byte_comes_a_round_trip_later() -> None:
    tree = CountingServer("#1")
    tree.plant("/big", "x" * (3 << 20))
    async with joined(Dialect.L, server=tree) as far:
        node = far.server.root
        assert isinstance(node, MemDirectory)
        node.children["big"].qid = Qid(0, 7, 99)
        fid = await open_at(far, "big")
        at = 0
        for _ in range(6):
            at += len(await far.mount.read(fid, at, 1 << 15))
        assert far.mount._ahead.room < ALL_BYTES
        namespace = far.process.namespace
        authority = namespace.domain.authority
        authority.end_server(authority.kernel.slots.endpoint[namespace.root.cap.slot])
        await idle()
        with pytest.raises(FileError) as caught:
            await far.mount.read(fid, at, 1 << 15)
        assert caught.value.error is E.REVOKED


async def test_only_plain_files_with_something_in_them_are_read_ahead() -> None:
    for mode in (DMDEVICE | 0o644, DMNAMEDPIPE | 0o644, DMSOCKET | 0o644, DMDIR | 0o755):
        async with opened() as (mount, fid, far, _):
            far.mode = mode
            for index in range(4):
                await mount.read(fid, index * PIECE, PIECE)
            await round_trip(mount, fid)
            assert far.asked == [(index * PIECE, PIECE) for index in range(4)]
    assert not is_plain(Stat("f", STORED, 0o644, 0))
    assert is_plain(Stat("f", STORED, DMSETUID | 0o4755, 1))


# -- the bookkeeping alone ------------------------------------------------------------------------------------------


class Source:
    """A file that answers at once, a little less than asked now and then, and refuses what it is told to."""

    def __init__(self, content: bytes, short: int, refused: int) -> None:
        self.content = content
        self.short = short
        self.refused = refused
        self.most = 0
        self.all = AheadOfAll(self.ahead, self.look, SetClock())

    async def look(self, fid: int) -> bool:
        return True

    async def ahead(self, fid: int, offset: int, count: int) -> Data:
        self.most = max(self.most, ALL_BYTES - self.all.room)
        await asyncio.sleep(0)
        if not count:
            return b""
        self.refused -= 1
        if self.refused == 0:
            raise FileError(E.IO)
        return self._part(offset, count)

    async def direct(self, offset: int, count: int) -> Data:
        await asyncio.sleep(0)
        return self._part(offset, count)

    def _part(self, offset: int, count: int) -> bytes:
        self.short -= 1
        return self.content[offset : offset + (count if self.short else max(1, count // 2))]


@settings(deadline=None)
@given(
    reads=st.lists(st.tuples(st.integers(0, 9), st.sampled_from([1, 700, PIECE, 3 * PIECE])), max_size=60),
    short=st.integers(0, 20),
    refused=st.integers(0, 10),
)
def test_whatever_is_read_is_what_the_file_has(reads: list[tuple[int, int]], short: int, refused: int) -> None:
    async def main() -> None:
        source = Source(CONTENT, short, refused)
        ahead = ReadAhead(source.all, 1, 1, 1 << 20)
        at = 0
        for jump, count in reads:
            if jump == 0:
                at = at * 7 % len(CONTENT)
            data = await ahead.read(at, count, source.direct)
            assert data == CONTENT[at : at + len(data)]
            assert data or at >= len(CONTENT)
            at += len(data)
        assert source.most <= FLOOR  # nothing is known of the link
        ahead.close()
        assert source.all.readers == {}
        assert source.all.room == ALL_BYTES
        while source.all.tasks:
            await asyncio.wait(source.all.tasks)
        assert source.all.flow.flying == 0

    asyncio.run(main())


async def test_one_mount_asks_ahead_for_so_much_and_no_more() -> None:
    content = bytes(1 << 23)
    source = Source(content, 0, 0)
    files = [ReadAhead(source.all, number, number, 1 << 20) for number in range(3 * ALL_BYTES // FLOOR)]
    read: Callable[[ReadAhead, int], Awaitable[Data]] = lambda file, at: file.read(at, 1 << 18, source.direct)  # noqa: E731
    for step in range(5):
        for file in files:
            await read(file, step << 18)
        assert source.all.room >= 0
    assert source.most > ALL_BYTES - FLOOR
    for file in files:
        file.drop()
    assert source.all.room == ALL_BYTES
    while source.all.tasks:
        await asyncio.wait(source.all.tasks)
    assert source.all.flow.flying == 0


class LongLink(Source):
    """Its answers come together, one trip of a simulated clock after the last of them was asked for."""

    def __init__(self, content: bytes, trip: int) -> None:
        self.clock = SetClock()
        super().__init__(content, 0, 0)
        self.all.clock = self.clock
        self.trip = trip
        self.asked: list[asyncio.Future[None]] = []

    async def ahead(self, fid: int, offset: int, count: int) -> Data:
        self.most = max(self.most, ALL_BYTES - self.all.room)
        if count:
            self.asked.append(asyncio.get_running_loop().create_future())
            await self.asked[-1]
        return self.content[offset : offset + count]

    def arrive(self) -> None:
        self.clock.time += self.trip
        asked, self.asked = self.asked, []
        for future in asked:
            if not future.done():
                future.set_result(None)


async def test_what_is_asked_for_ahead_follows_what_the_link_carries() -> None:
    source = LongLink(bytes(256) * (3 * CEILING // 256), 20_000_000)
    ahead, at, trips = ReadAhead(source.all, 1, 1, 1 << 20), 0, 0
    while at < len(source.content):
        reading = asyncio.create_task(ahead.read(at, PIECE, source.direct))
        await idle()
        while not reading.done():
            trips += 1
            source.arrive()
            await idle()
        at += len(await reading)
    assert trips < 30  # of 64 KiB each it would be 768, of 1 MiB 48
    assert 8 << 20 < source.most <= CEILING
    ahead.close()
    assert source.all.room == ALL_BYTES
    while source.all.tasks:
        await asyncio.wait(source.all.tasks)
    assert source.all.flow.flying == 0
