"""Writes that are accepted before they are answered: none is lost, no error is, and everybody sees them in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from cognu.errors import E, FileError
from cognu.files.flow import CEILING, FLOOR
from cognu.files.mount import FarFid
from cognu.files.server import OAPPEND, OEXCL, Caller, MaybeAsync
from cognu.files.tree import Node, TreeFid
from cognu.files.writebehind import may_write_behind
from cognu.ninep import messages as m
from cognu.ninep.messages import Dialect
from cognu.ninep.types import OEXEC, ORCLOSE, ORDWR, OREAD, OTRUNC, OWRITE, QTAPPEND, Buffer, Qid, SetStat, Stat
from joined import ME, CountingServer, Joined, StoppedClock, bring, idle, joined, only_the_roots_are_left
from memfs import MemDirectory
from serving import Client

STORED = Qid(0, 7, 1)
MSIZE = 1 << 16
PIECE = 30_000


class TimedClock(StoppedClock):
    def __init__(self) -> None:
        self.time = 0

    def monotonic(self) -> int:
        return self.time


class Held(Node):
    """A stored file whose writes wait until the test lets them be done, in whatever order it likes."""

    def __init__(self, name: str = "held") -> None:
        super().__init__(name, 0o666)
        self.qid = self.qid._replace(version=7)
        self.data = bytearray()
        self.waiting: list[tuple[asyncio.Future[int | None], int, bytes]] = []
        self.arrived = asyncio.Event()
        self.free = False  # no write waits any more

    def stat(self) -> Stat:
        return Stat(self.name, self.qid, 0o666, len(self.data))

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return bytes(self.data[offset : offset + count])

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        if self.free:
            return self.put(offset, bytes(data))
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        held = bytes(data)
        self.waiting.append((future, offset, held))
        self.arrived.set()
        taken = await future
        return self.put(offset, held if taken is None else held[:taken])

    def put(self, offset: int, data: bytes) -> int:
        self.data[len(self.data) :] = bytes(max(0, offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        return len(data)

    def wstat(self, change: SetStat) -> MaybeAsync[None]:
        if change.length is not None:
            del self.data[change.length :]
        return None

    async def parked(self, count: int) -> None:
        """Returns when `count` writes wait."""
        while len(self.waiting) < count:
            self.arrived.clear()
            await self.arrived.wait()

    def answer(self, at: int = 0, taken: int | None = None, error: E | None = None) -> None:
        """Let one of those that wait be done: all of it, `taken` bytes of it, or not at all."""
        future, _, _ = self.waiting.pop(at)
        if future.done():  # cancelled
            return
        if error is not None:
            future.set_exception(FileError(error, "held", "no"))
        else:
            future.set_result(taken)

    def answer_all(self) -> None:
        self.free = True
        while self.waiting:
            self.answer()


@asynccontextmanager
async def at_work(mode: int = OWRITE) -> AsyncIterator[tuple[Joined, Held, FarFid]]:
    """A far file, open."""
    async with joined(Dialect.NG, server=CountingServer("#1"), msize=MSIZE) as ends:
        node = Held()
        root = ends.server.root
        assert isinstance(root, MemDirectory)
        root.add(node)
        fid = await Client(ends.mount, ME).open("held", mode)
        assert isinstance(fid, FarFid)
        yield ends, node, fid
        node.answer_all()
        await idle()
        ends.mount.clunk(fid)
        await idle()
        assert only_the_roots_are_left(ends) or ends.mount.broken is not None
        assert not ends.mount._behind.files
        assert not ends.mount._behind.tasks


async def accept(ends: Joined, fid: FarFid, offset: int, data: bytes) -> None:
    assert await ends.mount.accept(fid, offset, data) == len(data)


async def test_a_write_is_accepted_before_it_is_answered_and_settling_waits_for_it() -> None:
    async with at_work() as (ends, node, fid):
        await accept(ends, fid, 0, b"hello")
        await accept(ends, fid, 5, b" there")
        await node.parked(2)
        settling = asyncio.create_task(ends.mount.settle(fid))
        await idle()
        assert not settling.done()
        node.answer(1)
        await idle()
        assert not settling.done()
        node.answer()
        await settling
        assert node.data == b"hello there"


async def test_what_the_server_leaves_of_a_write_is_sent_again() -> None:
    async with at_work() as (ends, node, fid):
        await accept(ends, fid, 0, b"hello")
        await node.parked(1)
        node.answer(taken=2)
        await node.parked(1)
        assert node.waiting[0][1:] == (2, b"llo")
        node.answer()
        await ends.mount.settle(fid)
        assert node.data == b"hello"


async def test_a_server_that_takes_nothing_is_an_error_and_no_endless_loop() -> None:
    async with at_work() as (ends, node, fid):
        await accept(ends, fid, 0, b"hello")
        await node.parked(1)
        node.answer(taken=0)
        assert await bring(ends.mount.settle(fid)) is E.IO


@pytest.mark.parametrize("how", ["accept", "write", "settle", "sync"])
async def test_the_first_error_is_told_once_by_whatever_comes_next(how: str) -> None:
    async with at_work() as (ends, node, fid):
        for offset in (0, 1):
            await accept(ends, fid, offset, b"x")
        await node.parked(2)
        node.answer(error=E.NOSPC)
        node.answer(error=E.IO)
        await idle()
        node.free = True
        following: dict[str, Callable[[], object]] = {
            "accept": lambda: ends.mount.accept(fid, 2, b"x"),
            "write": lambda: ends.mount.write(fid, 2, b"x"),
            "settle": lambda: ends.mount.settle(fid),
            "sync": lambda: ends.mount.sync(fid, False),
        }
        assert await bring(following[how]()) is E.NOSPC  # type: ignore[arg-type]
        await ends.mount.settle(fid)
        await accept(ends, fid, 0, b"again")
        await ends.mount.settle(fid)
        assert node.data == b"again"


async def test_an_error_that_nobody_asked_for_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with at_work() as (ends, node, _):
        other = await Client(ends.mount, ME).open("held", OWRITE)
        assert isinstance(other, FarFid)
        await accept(ends, other, 0, b"x")
        await node.parked(1)
        ends.mount.clunk(other)
        with caplog.at_level(logging.ERROR, "cognu.writebehind"):
            node.answer(error=E.NOSPC)
            await idle()
        assert "nobody asked" in caplog.text


async def test_a_fid_is_clunked_only_when_what_was_accepted_is_written() -> None:
    async with at_work() as (ends, node, _):
        other = await Client(ends.mount, ME).open("held", OWRITE)
        assert isinstance(other, FarFid)
        count = ends.mount.fid_count
        await accept(ends, other, 0, b"kept")
        await node.parked(1)
        ends.mount.clunk(other)
        await idle()
        assert ends.mount.fid_count == count
        node.answer()
        await idle()
        assert ends.mount.fid_count == count - 1
        assert node.data == b"kept"


@pytest.mark.parametrize("what", ["read", "stat", "truncate", "open", "write"])
async def test_whatever_else_is_asked_of_the_file_comes_after_what_was_accepted(what: str) -> None:
    async with at_work(ORDWR) as (ends, node, fid):
        client = Client(ends.mount, ME)
        other = await client.open("held", ORDWR)
        assert isinstance(other, FarFid)
        await accept(ends, fid, 0, b"written")
        await node.parked(1)

        async def asked() -> object:
            match what:
                case "read":
                    return bytes(await ends.mount.read(other, 0, 100))
                case "stat":
                    return (await ends.mount.stat(other)).length
                case "truncate":
                    await ends.mount.wstat(other, SetStat(length=3))
                case "open":
                    ends.mount.clunk(await client.open("held", OWRITE | OTRUNC))
                case _:
                    return await ends.mount.write(fid, 0, b"W")
            return None

        asking = asyncio.create_task(asked())
        await idle()
        assert not asking.done()
        node.answer_all()
        answers: dict[str, object] = {"read": b"written", "stat": 7, "write": 1}
        assert await asking == answers.get(what)
        await ends.mount.settle(fid)
        assert bytes(node.data) == {"truncate": b"wri", "write": b"Written"}.get(what, b"written")
        ends.mount.clunk(other)


async def test_two_writes_of_the_same_bytes_are_never_on_their_way_together() -> None:
    async with at_work() as (ends, node, fid):
        await accept(ends, fid, 0, b"aaaa")
        second = asyncio.create_task(ends.mount.accept(fid, 2, b"bb"))
        await accept(ends, fid, 10, b"c")
        await idle()
        assert not second.done()
        assert len(node.waiting) == 2
        node.answer()
        assert await second == 2
        node.answer_all()
        await ends.mount.settle(fid)
        assert bytes(node.data) == b"aabb" + bytes(6) + b"c"


async def most_on_its_way(ends: Joined, node: Held, fid: FarFid, count: int, trip: int) -> int:
    """Write so many pieces as fast as may be, all that wait answered after `trip` nanoseconds; the most that waited."""
    clock = ends.mount._behind.clock = TimedClock()
    most, at = 0, 0
    for _ in range(count):
        writing = asyncio.create_task(ends.mount.accept(fid, at, bytes(PIECE)))
        at += PIECE
        await idle()
        most = max(most, sum(len(data) for _, _, data in node.waiting))
        if not writing.done():
            clock.time += trip
            while node.waiting:
                node.answer()
            await idle()
            await writing
    node.answer_all()
    await ends.mount.settle(fid)
    assert len(node.data) == count * PIECE
    assert ends.mount._behind.flow.flying == 0
    return most


async def test_what_is_on_its_way_follows_what_the_link_carries() -> None:
    """All that waits is answered together, so that the link carries whatever is put on it."""
    async with at_work() as (ends, node, fid):
        most = await most_on_its_way(ends, node, fid, 200, 20_000_000)
        assert 8 * FLOOR < most <= CEILING


async def test_no_more_than_the_floor_is_on_its_way_while_nothing_is_known_of_the_link() -> None:
    async with at_work() as (ends, node, fid):
        assert FLOOR - PIECE < await most_on_its_way(ends, node, fid, 60, 0) <= FLOOR


async def test_a_write_that_is_refused_or_cancelled_takes_no_room_for_good() -> None:
    async with at_work() as (ends, node, fid):
        await accept(ends, fid, 0, b"x" * PIECE)
        await node.parked(1)
        assert ends.mount._behind.flow.flying == PIECE
        node.answer(error=E.NOSPC)
        assert await bring(ends.mount.settle(fid)) is E.NOSPC
        assert ends.mount._behind.flow.flying == 0
        await accept(ends, fid, 0, b"x" * PIECE)
        await node.parked(1)
        await ends.mount.close()
        assert ends.mount._behind.flow.flying == 0
        assert await bring(ends.mount.settle(fid)) is E.NOTRECOVERABLE


@pytest.mark.parametrize("how", ["accept", "write", "append"])
async def test_a_write_through_another_open_does_not_overtake_one_of_the_same_bytes(how: str) -> None:
    async with at_work() as (ends, node, fid):
        other = await Client(ends.mount, ME).open("held", OWRITE | (OAPPEND if how == "append" else 0))
        assert isinstance(other, FarFid)
        assert (other.behind is None) is (how == "append")
        await accept(ends, fid, 0, b"aaaa")
        await accept(ends, fid, 8, b"c")
        await node.parked(2)
        method = ends.mount.accept if how == "accept" else ends.mount.write
        second = asyncio.create_task(method(other, 2, b"bb"))
        await idle()
        assert not second.done()
        assert len(node.waiting) == 2
        node.answer()
        await idle()
        assert second.done() is (how == "accept")  # others wait for all of the file
        node.answer_all()
        assert await second == 2
        await ends.mount.settle(other)
        await ends.mount.settle(fid)
        assert bytes(node.data) == b"aabb" + bytes(4) + b"c"
        ends.mount.clunk(other)


async def test_who_gives_up_waiting_for_room_has_written_nothing_and_loses_nothing() -> None:
    async with at_work() as (ends, node, fid):
        await accept(ends, fid, 0, b"aaaa")
        giving_up = asyncio.create_task(ends.mount.accept(fid, 0, b"bbbb"))
        await idle()
        giving_up.cancel()
        await asyncio.wait([giving_up])
        node.answer_all()
        await ends.mount.settle(fid)
        assert node.data == b"aaaa"


async def test_a_lost_connection_is_told_to_who_wrote() -> None:
    async with at_work() as (ends, node, fid):
        await accept(ends, fid, 0, b"x")
        await node.parked(1)
        ends.here.cut()
        assert await bring(ends.mount.settle(fid)) is E.NOTRECOVERABLE


async def test_a_mount_that_is_closed_leaves_no_task() -> None:
    async with at_work() as (ends, node, fid):
        await accept(ends, fid, 0, b"x")
        await node.parked(1)
        await ends.mount.close()
        assert not ends.mount._behind.tasks
        assert await bring(ends.mount.settle(fid)) is E.NOTRECOVERABLE


async def test_what_is_no_plain_file_is_written_at_once() -> None:
    async with joined(Dialect.NG, server=CountingServer("#1")) as ends:
        node = Held()
        node.qid = node.qid._replace(version=0)
        root = ends.server.root
        assert isinstance(root, MemDirectory)
        root.add(node)
        fid = await Client(ends.mount, ME).open("held", OWRITE)
        assert isinstance(fid, FarFid)
        writing = asyncio.create_task(ends.mount.accept(fid, 0, b"x"))
        await node.parked(1)
        await idle()
        assert not writing.done()
        node.answer(error=E.ACCES)
        assert await bring(writing) is E.ACCES
        ends.mount.clunk(fid)


async def test_a_file_just_made_is_looked_at_once_when_it_is_written_on() -> None:
    """Empty, it might be anything; that its first write came to something shows what it is."""
    async with joined(Dialect.NG, server=CountingServer("#1")) as ends:
        node = Held()
        stored, node.qid = node.qid, node.qid._replace(version=0)
        root = ends.server.root
        assert isinstance(root, MemDirectory)
        root.add(node)
        fid = await Client(ends.mount, ME).open("held", OWRITE)
        assert isinstance(fid, FarFid)
        writing = asyncio.create_task(ends.mount.accept(fid, 0, b"x"))
        await node.parked(1)
        await idle()
        assert not writing.done()
        node.answer()
        node.qid = stored
        assert await writing == 1
        for offset in (1, 2):
            await accept(ends, fid, offset, b"y")
        await node.parked(2)
        node.answer_all()
        await ends.mount.settle(fid)
        assert node.data == b"xyy"
        ends.mount.clunk(fid)


async def test_what_is_seen_to_be_a_stream_is_not_looked_at_again() -> None:
    async with joined(Dialect.NG, server=CountingServer("#1")) as ends:
        node, looked = Held(), 0
        node.qid, node.free = node.qid._replace(version=0), True
        before = node.stat

        def counted() -> Stat:
            nonlocal looked
            looked += 1
            return before()

        node.stat = counted  # type: ignore[method-assign]
        root = ends.server.root
        assert isinstance(root, MemDirectory)
        root.add(node)
        fid = await Client(ends.mount, ME).open("held", OWRITE)
        assert isinstance(fid, FarFid)
        for offset in range(5):
            await accept(ends, fid, offset, b"x")
        assert looked == 1
        assert fid.behind is None
        ends.mount.clunk(fid)


class Growing(Held):
    """Made empty, and made up as far as its version says; stored once something was written."""

    def __init__(self, name: str = "held") -> None:
        super().__init__(name)
        self.qid = self.qid._replace(version=0)
        self.free = True

    def put(self, offset: int, data: bytes) -> int:
        self.qid = self.qid._replace(version=7)
        return super().put(offset, data)


class Making(MemDirectory):
    def create(self, name: str, perm: int, mode: int, caller: Caller) -> Node:
        node = Growing(name)
        self.add(node)
        return node


@asynccontextmanager
async def making() -> AsyncIterator[tuple[Joined, FarFid, Held, list[m.Request]]]:
    """A file just made by the client; what is asked from then on."""
    async with joined(Dialect.NG, server=CountingServer("#1"), msize=MSIZE) as ends:
        ends.server.root.__class__ = Making
        root = await ends.mount.attach(ME, "")
        await idle()
        fid = await ends.mount.create(root, "new", 0o666, OWRITE, ME)
        assert isinstance(fid, FarFid)
        at = ends.server.root
        assert isinstance(at, Making)
        node = at.children["new"]
        assert isinstance(node, Growing)
        asked: list[m.Request] = []
        request = ends.mount._session.request

        def noting(message: m.Request) -> tuple[int, list[Buffer]]:
            asked.append(message)
            return request(message)

        ends.mount._session.request = noting  # type: ignore[method-assign]
        yield ends, fid, node, asked
        await ends.mount.settle(fid)
        ends.mount.clunk(fid)
        ends.mount.clunk(root)
        await idle()


async def test_the_first_write_of_a_file_just_made_brings_what_it_is_and_the_next_waits_for_nothing() -> None:
    async with making() as (ends, fid, node, asked):
        await accept(ends, fid, 0, b"one")
        assert [type(part) for part in asked[0].parts] == [m.Twrite, m.Tgetattr]  # type: ignore[union-attr]
        node.free = False
        await accept(ends, fid, 3, b"two")
        await accept(ends, fid, 6, b"three")
        await node.parked(2)
        assert [type(each) for each in asked] == [m.Tcomp, m.Twrite, m.Twrite]
        node.answer_all()
        await ends.mount.settle(fid)
        assert node.data == b"onetwothree"


async def test_of_a_large_first_write_as_much_is_taken_as_fits_beside_the_question() -> None:
    async with making() as (ends, fid, node, asked):
        count = await ends.mount.accept(fid, 0, b"x" * MSIZE)
        assert MSIZE - 200 < count < MSIZE
        assert len(node.data) == count
        assert len(asked) == 1
        assert fid.behind is not None


async def test_a_first_write_that_is_refused_says_so_and_the_next_asks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async with making() as (ends, fid, node, _):

        def full(offset: int, data: bytes) -> int:
            raise FileError(E.NOSPC)

        with monkeypatch.context() as patched:
            patched.setattr(node, "put", full)
            assert await bring(ends.mount.accept(fid, 0, b"one")) is E.NOSPC
        assert fid.behind is None
        await accept(ends, fid, 0, b"two")
        await accept(ends, fid, 3, b"three")
        await ends.mount.settle(fid)
        assert node.data == b"twothree"


def test_only_plain_files_that_are_not_opened_to_append_are_written_behind() -> None:
    assert may_write_behind(STORED, OWRITE)
    assert may_write_behind(STORED, ORDWR | OTRUNC)
    for mode in (OREAD, OEXEC, OWRITE | OAPPEND, OWRITE | OEXCL, ORDWR | ORCLOSE):
        assert not may_write_behind(STORED, mode)
    for qid in (Qid(0, 0, 1), Qid(QTAPPEND, 7, 1), Qid(0x20, 7, 1)):
        assert not may_write_behind(qid, OWRITE)
