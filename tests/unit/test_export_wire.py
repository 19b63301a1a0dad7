"""An export as its clients' bytes reach it: turns, limits, wrong and hostile clients, faulty servers."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.devices.ram import RamServer
from cognu.errors import CognuError, E, LinkBroken
from cognu.files.export import TURN, Export
from cognu.files.mount import FarFid, MountServer
from cognu.files.process import Descriptors
from cognu.files.server import Fid, MaybeAsync
from cognu.files.tree import Node, TreeFid
from cognu.ninep import messages as m
from cognu.ninep.codec import encode, unpack_stats
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.server import Limits
from cognu.ninep.types import (
    NOFID,
    NOTAG,
    ORDWR,
    OREAD,
    OWRITE,
)
from cognu.world.real import RealClock
from joined import (
    ME,
    Raw,
    StoppedClock,
    bring,
    idle,
    joined,
    names,
    only_the_roots_are_left,
    open_at,
    put_slow,
    tree,
)
from memfs import MemDirectory
from serving import Client
from serving import Node as Serving
from streams import MemoryStream, pair

OLD, L = Dialect.LEGACY, Dialect.L
BOTH = pytest.mark.parametrize("dialect", [OLD, L], ids=["9P2000", "9P2000.L"])


@BOTH
async def test_a_request_flushed_in_the_bytes_that_brought_it_is_stopped(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        slow = put_slow(ends)
        raw = await Raw.over(ends, dialect)
        await raw.open_path("slow", 1)
        raw.send((m.Tread(1, 0, 10), 7), (m.Tflush(7), 8), (m.Tflush(8), 9))
        assert await raw.answers(2) == [(8, m.Rflush()), (9, m.Rflush())]
        raw.send((m.Twrite(1, 0, b"w"), 7))
        assert await raw.answers(1) == [(7, m.Rwrite(1))]
        assert slow.written == [b"w"]
        await raw.close()


async def test_two_parked_reads_and_a_write_share_a_fid() -> None:
    async with joined(L, server=tree()) as ends:
        slow = put_slow(ends)
        raw = await Raw.over(ends, L)
        await raw.open_path("slow", 1)
        raw.send((m.Tread(1, 0, 10), 1), (m.Tread(1, 0, 10), 2), (m.Twrite(1, 0, b"w"), 3))
        assert await raw.answers(1) == [(3, m.Rwrite(1))]
        slow.reads[1].set_result(b"b")
        assert await raw.answers(1) == [(2, m.Rread(b"b"))]
        slow.reads[0].set_result(b"a")
        assert await raw.answers(1) == [(1, m.Rread(b"a"))]
        await raw.close()


async def test_answers_that_come_while_others_are_sent_wait_for_the_one_writer() -> None:
    async with joined(L, server=tree()) as ends:
        ends.server.plant("/big", "x" * 5000)
        slow = put_slow(ends)
        raw = await Raw.over(ends, L, capacity=100)
        await raw.open_path("slow", 1)
        await raw.open_path("big", 2)
        raw.send(*((m.Tread(1, 0, 10), tag) for tag in range(20)))
        await slow.parked(20)
        raw.send(*((m.Tread(2, 0, 5000), 100 + tag) for tag in range(5)))
        for future in slow.reads:
            future.set_result(b"late")
            await asyncio.sleep(0)
        assert sorted(tag for tag, _ in await raw.answers(25)) == [*range(20), *range(100, 105)]
        await raw.close()


async def test_a_client_that_never_reads_is_waited_for_and_then_let_go() -> None:
    async with joined(L, server=tree()) as ends:
        ends.server.plant("/big", "x" * 60_000)
        raw = await Raw.over(ends, L, capacity=1000)
        await raw.open_path("big", 1)
        raw.send(*((m.Tread(1, 0, 60_000), tag) for tag in range(200)))
        await idle()
        unread = len(raw.here.arrived)
        assert 0 < unread < (TURN + 1) * 61_000  # no more than one turn's answers are made for it
        assert await Client(ends.mount, ME).read("f") == b"f"  # and nobody else waits
        raw.serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await raw.serving
        assert raw.there.closed
        assert raw.export._session.fid_count == 0


async def test_a_client_may_have_ten_thousand_fids_and_no_more() -> None:
    async with joined(L, server=tree(), limits=Limits(1 << 16, fids=10_000)) as ends:
        root = await ends.mount.attach(ME, "")
        fids = []
        for _ in range(9_999 // 33):
            walks = (ends.mount.walk(root, ["d", "x"], ME) for _ in range(33))
            fids += [walked.fid for walked in await asyncio.gather(*walks)]
        assert len(fids) == 9_999
        assert await bring(ends.mount.walk(root, ["d"], ME)) is E.MFILE
        first = fids[0]
        assert first is not None
        ends.mount.clunk(first)
        assert (await ends.mount.walk(root, ["d"], ME)).fid is not None
        assert await bring(ends.mount.walk(root, ["d"], ME)) is E.MFILE


class Faulty(Node):
    """A file whose server has bugs."""

    def __init__(self, name: str, fault: Callable[[int], Any]) -> None:
        super().__init__(name, 0o666)
        self.fault = fault

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        return self.fault(count)  # type: ignore[no-any-return]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        return self.fault(len(data))  # type: ignore[no-any-return]


def divides(count: int) -> int:
    return count // 0


async def divides_later(count: int) -> int:
    await asyncio.sleep(0)
    return count // 0


async def gives_up(count: int) -> int:
    raise asyncio.CancelledError


FAULTS: list[tuple[Callable[[int], Any], E, int]] = [
    (divides, E.IO, 1), (divides_later, E.IO, 1), (gives_up, E.CANCELED, 0), (lambda count: bytes(count + 1), E.IO, 1),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize(("fault", "error", "logged"), FAULTS, ids=["raises", "raises later", "cancels", "too much"])
async def test_a_bug_in_a_server_is_an_io_error_and_a_line_in_the_log(
    dialect: Dialect,
    fault: Callable[[int], Any],
    error: E,
    logged: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with joined(dialect, server=tree()) as ends:
        root = ends.server.root
        assert isinstance(root, MemDirectory)
        root.add(Faulty("bad", fault))
        fid = await open_at(ends, "bad", ORDWR)
        assert await bring(ends.mount.read(fid, 0, 10)) is error
        assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == logged
        assert await Client(ends.mount, ME).read("f") == b"f"  # the connection lives


@BOTH
async def test_answers_that_are_ready_make_no_task(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    async with joined(dialect, server=tree()) as ends:
        raw = await Raw.over(ends, dialect)
        await raw.open_path("f", 1)
        made: list[object] = []
        monkeypatch.setattr(Export, "_finish", lambda *arguments: made.append(arguments))
        raw.send((m.Tread(1, 0, 10), 1), (m.Twalk(0, 2, ("d", "x")), 2), (m.Tclunk(2), 3), (m.Tread(1, 0, 10), 4))
        assert [tag for tag, _ in await raw.answers(4)] == [1, 2, 3, 4]
        assert made == []
        assert raw.export._tasks == {}
        await raw.close()


async def test_a_stream_of_ready_requests_lets_another_connection_have_its_turn() -> None:
    async with joined(L, server=tree()) as ends:
        greedy, modest = await Raw.over(ends, L, 1 << 30), await Raw.over(ends, L)
        await greedy.open_path("f", 1)
        await modest.open_path("f", 1)
        greedy.send(*((m.Tread(1, 0, 10), tag) for tag in range(4000)))
        modest.send((m.Tread(1, 0, 10), 1))
        await modest.answers(1)
        answered = len(greedy.here.arrived) // len(b"".join(map(bytes, encode(m.Rread(b"f"), 1, L))))
        assert answered <= 8 * TURN
        assert len(await greedy.answers(4000)) == 4000
        await greedy.close()
        await modest.close()


@BOTH
async def test_open_fids_are_descriptors_of_the_process(dialect: Dialect) -> None:
    held = Descriptors(limit=2)
    async with joined(dialect, server=tree(), descriptors=held) as ends:
        client, mount = Client(ends.mount, ME), ends.mount
        first, second = await client.open("f"), await client.open("d")
        assert isinstance(first, FarFid)
        assert isinstance(second, FarFid)
        assert sorted(held) == sorted([first.number, second.number])
        chan = held[first.number]
        assert (chan.handle.mode, str(chan.path)) == (OREAD, "/f")
        assert await bring(client.open("d/x")) is E.MFILE
        kept = chan.share()
        number = first.number
        mount.clunk(first)
        await client.walk("f")
        assert number not in held
        data = kept.server.read(kept.fid, 0, 10)
        assert data == b"f"  # what was handed on stays open
        kept.close()
        held.close(second.number)  # the process closes it; the client's fid is its own
        assert names(await mount.readdir(second, 0, 9)) == ["e", "x"]
        mount.clunk(second)


@BOTH
async def test_a_new_version_ends_everything_of_the_old_session(dialect: Dialect) -> None:
    held = Descriptors()
    async with joined(dialect, server=tree()) as ends:
        slow = put_slow(ends)
        raw = await Raw.over(ends, dialect)
        raw.export.calls.descriptors = held
        await raw.open_path("slow", 1)
        await raw.open_path("f", 2)
        raw.send((m.Tread(1, 0, 10), 1))
        await slow.parked(1)
        assert len(held) == 2
        raw.send((m.Tversion(65536, dialect.value), NOTAG))
        ((_, answer),) = await raw.answers(1)
        assert isinstance(answer, m.Rversion)
        assert (slow.cancelled, len(held), raw.export._session.fid_count) == (1, 0, 0)
        raw.send((m.Tattach(0, NOFID, "glenda", ""), 1))
        await raw.answers(1)
        await raw.close()


@BOTH
async def test_a_clone_of_an_open_fid_is_opened_by_itself(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        raw = await Raw.over(ends, dialect)
        await raw.open_path("f", 1)
        opening = m.Tlopen(2, 1) if dialect is L else m.Topen(2, 1)
        raw.send((m.Twalk(1, 2, ()), 1), (m.Tclunk(1), 2), (opening, 3), (m.Twrite(2, 0, b"new"), 4))
        assert (await raw.answers(4))[3] == (4, m.Rwrite(3))
        await raw.close()
        assert await Client(ends.mount, ME).read("f") == b"new"


async def test_lcreate_of_a_file_that_is_there_opens_it_as_it_is() -> None:
    async with joined(L, server=tree()) as ends:
        raw = await Raw.over(ends, L)
        raw.send((m.Twalk(0, 1, ()), 1), (m.Tlcreate(1, "f", 0o102, 0o644, 0), 2), (m.Tread(1, 0, 10), 3))
        assert (await raw.answers(3))[2] == (3, m.Rread(b"f"))
        raw.send((m.Twalk(0, 2, ()), 1), (m.Tlcreate(2, "f", 0o302, 0o644, 0), 2))
        assert (await raw.answers(2))[1] == (2, m.Rlerror(E.EXIST.errno))
        await raw.close()


async def test_tcreate_of_a_file_that_is_there_is_refused() -> None:
    async with joined(OLD, server=tree()) as ends:
        raw = await Raw.over(ends, OLD)
        raw.send((m.Twalk(0, 1, ()), 1), (m.Tcreate(1, "f", 0o644, OWRITE), 2))
        assert (await raw.answers(2))[1] == (2, m.Rerror("file already exists"))
        await raw.close()
        assert await Client(ends.mount, ME).read("f") == b"f"


async def test_a_directory_is_read_on_from_where_it_was_left_on_9p2000() -> None:
    server = tree()
    for number in range(200):
        server.plant(f"/w/file{number:03}", "")
    async with joined(OLD, server=server) as ends:
        raw = await Raw.over(ends, OLD)
        await raw.open_path("w", 1, OREAD)
        found = b""
        while True:
            raw.send((m.Tread(1, len(found), 150), 1))
            ((_, answer),) = await raw.answers(1)
            assert isinstance(answer, m.Rread)
            if not answer.data:
                break
            found += answer.data
        listed = [stat.name for stat in unpack_stats(found)]
        assert sorted(listed) == [f"file{number:03}" for number in range(200)]
        raw.send((m.Tread(1, 1, 150), 1), (m.Tread(1, 0, 10), 2), (m.Tread(1, 0, 150), 3))
        wrong, small, again = (message for _, message in await raw.answers(3))
        assert isinstance(wrong, m.Rerror)
        assert isinstance(small, m.Rerror)
        assert isinstance(again, m.Rread)
        await raw.close()


@pytest.mark.parametrize("dialect", [OLD, Dialect.U], ids=["9P2000", "9P2000.u"])
async def test_a_client_that_asks_for_what_is_left_of_its_buffer_reads_a_directory_to_its_end(
    dialect: Dialect,
) -> None:
    """Linux's does (net/9p/client.c): nothing is an answer then, and an error fails all of it."""
    server = tree()
    for number in range(400):
        server.plant(f"/w/file{number:03}", "")
    async with joined(dialect, server=server) as ends:
        raw = await Raw.over(ends, dialect)
        await raw.open_path("w", 1, OREAD)
        found, buffers = b"", 0
        while True:
            begin, buffers = len(found), buffers + 1
            while left := begin + 20_000 - len(found):
                raw.send((m.Tread(1, len(found), left), 1))
                ((_, answer),) = await raw.answers(1)
                assert isinstance(answer, m.Rread)
                if not answer.data:
                    break
                assert len(answer.data) > left - 100 or len(answer.data) + len(found) > 25_000
                found += answer.data
            if len(found) == begin:
                break
        listed = [stat.name for stat in unpack_stats(found, dialect is Dialect.U)]
        assert sorted(listed) == [f"file{number:03}" for number in range(400)]
        assert buffers > 2
        await raw.close()


async def test_a_flushed_directory_read_has_taken_nothing() -> None:
    """Entries of a far server come later; a read that is flushed meanwhile must not have moved on."""
    waiting: list[asyncio.Future[None]] = []

    async with joined(OLD, server=tree()) as ends:
        server = ends.server
        plain = server.readdir

        def readdir(fid: Fid, cookie: int, count: int) -> Any:
            async def later() -> Any:
                waiting.append(asyncio.get_running_loop().create_future())
                await waiting[-1]
                return plain(fid, cookie, count)

            return later()

        server.readdir = readdir  # type: ignore[method-assign]
        raw = await Raw.over(ends, OLD)
        await raw.open_path("d", 1, OREAD)
        raw.send((m.Tread(1, 0, 1000), 1), (m.Tread(1, 0, 1000), 2))
        ((tag, busy),) = await raw.answers(1)
        assert (tag, isinstance(busy, m.Rerror)) == (2, True)
        raw.send((m.Tflush(1), 3))
        assert await raw.answers(1) == [(3, m.Rflush())]
        raw.send((m.Tread(1, 0, 1000), 1))
        await idle()
        waiting[-1].set_result(None)
        ((_, answer),) = await raw.answers(1)
        assert isinstance(answer, m.Rread)
        assert [stat.name for stat in unpack_stats(answer.data)] == ["e", "x"]
        await raw.close()


@pytest.mark.parametrize(
    "wire",
    [b"\x00" * 7, b"\xff" * 40, b"\x07\0\0\0\x64\xff\xff", b"GET / HTTP/1.0\r\n\r\n"],
    ids=["empty", "big", "early end", "http"],
)
async def test_what_is_no_9p_ends_the_connection(wire: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with joined(L, server=tree()) as ends:
        raw = Raw(ends, L)
        raw.here.other.arrived += wire
        raw.here._wake()
        await raw.serving
        assert raw.there.closed
        assert E.BADMESSAGE.text in caplog.text or E.MSGSIZE.text in caplog.text
        client = MountServer.connect(a_stream_that_says(wire), StoppedClock())
        with pytest.raises(CognuError) as caught:
            await client
        assert caught.value.error in (E.BADMESSAGE, E.MSGSIZE, E.CONNRESET, E.BADVERSION)


def a_stream_that_says(wire: bytes) -> MemoryStream:
    here, there = pair()
    here.arrived += wire
    there.closed = True
    return here


def requests() -> st.SearchStrategy[Message]:
    """Requests with few fids and few names, so that they meet."""
    fid = st.integers(0, 3)
    name = st.sampled_from(["d", "e", "x", "f", "l", "w", "..", "new", "slow"])
    flags = st.sampled_from([0, 1, 2, 0o100, 0o1000 | 1])
    return st.one_of(
        st.builds(m.Twalk, fid, fid, st.lists(name, max_size=3).map(tuple)),
        st.builds(m.Tlopen, fid, flags),
        st.builds(m.Tlcreate, fid, name, flags, st.just(0o644), st.just(0)),
        st.builds(m.Tread, fid, st.integers(0, 9), st.integers(0, 100)),
        st.builds(m.Twrite, fid, st.integers(0, 9), st.binary(max_size=9)),
        st.builds(m.Treaddir, fid, st.integers(0, 9), st.integers(0, 300)),
        st.builds(m.Tgetattr, fid, st.just(0x3FFF)),
        st.builds(m.Tclunk, fid),
        st.builds(m.Tremove, fid),
        st.builds(m.Tmkdir, fid, name, st.just(0o755), st.just(0)),
        st.builds(m.Tsymlink, fid, name, name, st.just(0)),
        st.builds(m.Treadlink, fid),
        st.builds(m.Trename, fid, fid, name),
        st.builds(m.Trenameat, fid, name, fid, name),
        st.builds(m.Tunlinkat, fid, name, st.sampled_from([0, 0x200])),
        st.builds(m.Tlink, fid, fid, name),
        st.builds(m.Tfsync, fid, st.just(0)),
        st.builds(m.Tstatfs, fid),
        st.builds(m.Tattach, fid, st.just(NOFID), st.just("u"), st.just("")),
        st.builds(m.Tflush, st.integers(0, 5)),
        st.just(m.Tversion(65536, "9P2000.L")),
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(requests(), st.integers(0, 5)), max_size=40), st.lists(st.integers(1, 64), min_size=1))
async def test_any_requests_in_any_order_are_answered_and_leave_nothing(
    sequence: list[tuple[Message, int]], sizes: list[int]
) -> None:
    async with joined(L, server=tree(), streams=pair(sizes=sizes)) as ends:
        slow = put_slow(ends)
        raw = await Raw.over(ends, L)
        raw.there.sizes = itertools.cycle(sizes)
        for message, tag in sequence:
            raw.send((message, NOTAG if isinstance(message, m.Tversion) else tag))
            await asyncio.sleep(0)
        await idle()
        for future in slow.reads:
            if not future.done():
                future.set_result(b"late")
        raw.here.close()
        await raw.serving
        assert raw.export._session.fid_count == 0
        assert raw.export._session.in_flight == 0
        assert not raw.export._tasks
        await ends.mount.close()
        await ends.serving
        assert only_the_roots_are_left(ends)


class Gone(MemoryStream):
    """A client that went away, as reading or writing tells it."""

    why = E.PIPE

    async def read(self, count: int) -> bytes:
        raise LinkBroken(self.why, self.peer)


@pytest.mark.parametrize(("why", "lines"), [(E.PIPE, 0), (E.CONNRESET, 0), (E.TIMEDOUT, 1)])
async def test_a_client_that_just_ends_is_no_news(why: E, lines: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cognu.export")
    stream = Gone("c", 1, itertools.repeat(1))
    stream.why, stream.other = why, stream
    process = await Serving(RamServer(RealClock())).start()
    await Export(stream, process, lambda uname, aname: iter(())).serve()  # type: ignore[arg-type,return-value]
    assert len(caplog.records) == lines
