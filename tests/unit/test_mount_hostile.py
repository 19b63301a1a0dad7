"""A server that means harm, as the mount driver meets it: each thing that it may try, by name.

What it may send that is no message at all, or no answer to what was asked, is in test_ninep_client.
"""

from __future__ import annotations

import asyncio
import struct

import pytest

from cognu.errors import E, FileError, LinkBroken, ProtocolError
from cognu.files import fardirs
from cognu.files.export import Export
from cognu.files.farfid import FarFid
from cognu.files.mount import MountServer
from cognu.files.server import Walk
from cognu.files.trips import MOST_EMPTY
from cognu.ninep import messages as m
from cognu.ninep.attrs import getattr_of_stat, wire_stat
from cognu.ninep.codec import Frames, decode, encode, pack_dirent, pack_stat
from cognu.ninep.messages import Dialect, Message, Reply, Request
from cognu.ninep.types import DMDIR, GETATTR_ALL, NOTAG, OREAD, QTDIR, Dirent, Qid, Stat
from cognu.world.real import RealClock
from joined import ME, attach_to, bring, idle
from serving import Node
from streams import MemoryStream, pair

OLD, U, L, NG = Dialect
DIR, FILE = Qid(QTDIR, 0, 1), Qid(0, 0, 2)
BAD_NAMES = ["a/b", "/etc/passwd", "../up", "..", ".", "", "/"]
"""Whoever copies a directory makes files by the names in it."""


class Server:
    """Its answers are methods; what has none is answered as an ordinary server would, of a directory and a file."""

    def __init__(self, stream: MemoryStream, dialect: Dialect) -> None:
        self.stream = stream
        self.dialect = dialect
        self.asked: list[Request] = []
        self.silent: tuple[type[Request], ...] = ()
        self.listing = b""

    async def serve(self) -> None:
        frames = Frames(1 << 20)
        while data := await self.stream.read(1 << 16):
            for frame in frames.feed(data):
                tag, message = decode(frame, self.dialect)
                assert isinstance(message, Request)
                self.asked.append(message)
                if not isinstance(message, self.silent):
                    await self.stream.write(*encode(self.answer(message), tag, self.dialect))

    def answer(self, message: Request) -> Reply:
        stat = Stat(name="x", qid=FILE, mode=0o644, length=3, user="u", group="g", muid="u")
        match message:
            case m.Tversion():
                return m.Rversion(8192, self.dialect.value)
            case m.Tattach():
                return m.Rattach(DIR)
            case m.Twalk(names=names):
                return m.Rwalk(tuple(DIR for _ in names))
            case m.Topen():
                return m.Ropen(DIR, 0)
            case m.Tlopen():
                return m.Rlopen(DIR, 0)
            case m.Tread(offset=offset):
                return m.Rread(self.listing if offset == 0 else b"")
            case m.Treaddir(offset=offset):
                return m.Rreaddir(self.listing if offset == 0 else b"")
            case m.Tstat():
                return m.Rstat(wire_stat(stat))
            case m.Tgetattr():
                return getattr_of_stat(stat, GETATTR_ALL)
            case m.Tflush():
                return m.Rflush()
            case m.Tclunk():
                return m.Rclunk()
            case _:
                raise AssertionError(message)


class Met:
    """A mount of such a server."""

    def __init__(self, dialect: Dialect, kind: type[Server] = Server) -> None:
        here, there = pair(1 << 20)
        self.server = kind(there, dialect)
        self.serving = asyncio.ensure_future(self.server.serve())
        self._here = here

    async def __aenter__(self) -> Met:
        self.mount = await MountServer.connect(self._here, RealClock(), offer=self.server.dialect)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mount.close()
        self.serving.cancel()
        await asyncio.wait([self.serving])

    async def root(self) -> FarFid:
        fid = await self.mount.attach(ME, "")
        assert isinstance(fid, FarFid)
        return fid

    async def directory(self) -> FarFid:
        fid = await self.mount.open(await self.root(), OREAD, ME)
        assert isinstance(fid, FarFid)
        return fid


def listed(dialect: Dialect, name: str, cookie: int = 1) -> bytes:
    if dialect is L:
        return pack_dirent(Dirent(FILE, cookie, 8, name))
    return pack_stat(wire_stat(Stat(name, FILE, 0o644, 0, user="u", group="g", muid="u")), dialect is U)


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("dialect", [OLD, U, L], ids=lambda dialect: dialect.value)
async def test_a_directory_holds_no_name_that_leads_elsewhere(dialect: Dialect, name: str) -> None:
    async with Met(dialect) as met:
        met.server.listing = listed(dialect, "good", 1) + listed(dialect, name, 2)
        directory = await met.directory()
        if name in (".", ".."):
            assert [entry.name for entry in await met.mount.readdir(directory, 0, 10)] == ["good"]
        else:
            assert await bring(met.mount.readdir(directory, 0, 10)) is E.BADMESSAGE
        met.server.listing = listed(dialect, "good")
        assert [entry.name for entry in await met.mount.readdir(directory, 0, 10)] == ["good"]


@pytest.mark.parametrize("dialect", [OLD, U, L], ids=lambda dialect: dialect.value)
async def test_a_listing_that_is_cut_fails_alone(dialect: Dialect) -> None:
    async with Met(dialect) as met:
        met.server.listing = listed(dialect, "good")[:-1]
        directory = await met.directory()
        assert await bring(met.mount.readdir(directory, 0, 10)) is E.BADMESSAGE
        assert (await met.mount.stat(directory)).length == 3


class Endless(Server):
    """Lists for ever: with new names, or nothing but dots."""

    name = "f"

    def answer(self, message: Request) -> Reply:
        match message:
            case m.Tread(offset=offset):
                return m.Rread(listed(self.dialect, f"{self.name}{offset}") * 20)
            case m.Treaddir(offset=offset):
                name = self.name if self.name == "." else f"{self.name}{offset}"
                return m.Rreaddir(listed(self.dialect, name, offset + 1))
            case _:
                return super().answer(message)


@pytest.mark.parametrize("dialect", [OLD, U, L], ids=lambda dialect: dialect.value)
async def test_a_directory_without_end_ends_in_an_error(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fardirs, "MOST_ENTRIES", 100)
    async with Met(dialect, Endless) as met:
        directory = await met.directory()
        found = 0
        while found < 100:
            found += len(await met.mount.readdir(directory, found, 10))
        assert await bring(met.mount.readdir(directory, found, 10)) is E.OVERFLOW
        assert len(directory.entries) < 150


async def test_a_server_that_lists_nothing_but_dots_is_asked_a_few_times() -> None:
    async with Met(L, Endless) as met:
        met.server.name = "."  # type: ignore[attr-defined]
        directory = await met.directory()
        assert await bring(met.mount.readdir(directory, 0, 10)) is E.BADMESSAGE
        assert sum(isinstance(asked, m.Treaddir) for asked in met.server.asked) == MOST_EMPTY


class Fickle(Server):
    """Says of each file now that it is a directory, now that it is none."""

    turn = 0

    def answer(self, message: Request) -> Reply:
        self.turn += 1
        qid = (DIR, FILE)[self.turn % 2]
        match message:
            case m.Twalk(names=names):
                return m.Rwalk(tuple(qid for _ in names))
            case m.Topen():
                return m.Ropen(qid, 0)
            case m.Tlopen():
                return m.Rlopen(qid, 0)
            case m.Tgetattr() | m.Tstat():
                mode = (0o755 | DMDIR, 0o644)[self.turn % 2]
                stat = Stat(name="x", qid=qid, mode=mode, length=3, user="u", group="g", muid="u")
                return (
                    getattr_of_stat(stat, GETATTR_ALL) if isinstance(message, m.Tgetattr) else m.Rstat(wire_stat(stat))
                )
            case _:
                return super().answer(message)


@pytest.mark.parametrize("dialect", [OLD, U, L], ids=lambda dialect: dialect.value)
async def test_a_file_that_changes_its_kind_is_an_error_to_who_reads_it_through_another_node(
    dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    async with Met(L, Fickle) as met:
        process = await Node(met.mount).start()
        here, there = pair(1 << 16)
        serving = asyncio.ensure_future(Export(there, process, attach_to(process)).serve())
        mount = await MountServer.connect(here, RealClock(), offer=dialect)
        root = await mount.attach(ME, "")
        for _ in range(8):
            fid = None
            try:
                walked = await mount.walk(root, ["x"], ME)
                assert isinstance(walked, Walk)
                assert walked.fid is not None
                fid = await mount.open(walked.fid, OREAD, ME)
                await mount.stat(fid)
                await (mount.readdir(fid, 0, 10) if fid.is_directory else mount.read(fid, 0, 10))
            except FileError:
                pass
            if fid is not None:
                mount.clunk(fid)
        await mount.close()
        await serving
        process.namespace.release()
        process.cwd.close()
        await idle()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_server_that_answers_no_flush_keeps_its_tags_and_fids_and_no_caller() -> None:
    async with Met(L) as met:
        root = await met.root()
        met.server.silent = (m.Tgetattr, m.Tflush, m.Tclunk)
        for _ in range(300):
            asking = asyncio.ensure_future(met.mount.stat(root))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
        assert len(met.mount._session._sent) == 600  # each call and its flush, and nothing else
        assert met.mount.fid_count == 1
        met.server.silent = ()
        assert (await met.mount.stat(root)).length == 3


@pytest.mark.parametrize("said", ["9P2000.x", "9P2001", "", "unknown", "9P2000.L\0", "9P2000.ng"])
async def test_a_version_that_was_not_offered_is_refused_and_the_connection_closed(said: str) -> None:
    here, there = pair(1 << 16)
    connecting = asyncio.ensure_future(MountServer.connect(here, RealClock(), offer=L))
    assert await there.read(1 << 16)
    raw = said.encode()
    await there.write(struct.pack("<IBHIH", 13 + len(raw), 101, NOTAG, 8192, len(raw)) + raw)
    with pytest.raises(ProtocolError):
        await connecting
    assert here.closed


@pytest.mark.parametrize("msize", [0, 255, 1 << 21, (1 << 32) - 1])
async def test_a_size_beyond_what_was_offered_or_of_no_use_is_refused(msize: int) -> None:
    here, there = pair(1 << 16)
    connecting = asyncio.ensure_future(MountServer.connect(here, RealClock(), offer=L))
    assert await there.read(1 << 16)
    await there.write(*encode(m.Rversion(msize, L.value), NOTAG, L))
    with pytest.raises(ProtocolError):
        await connecting
    assert here.closed


async def test_a_server_that_never_agrees_holds_nobody_who_gives_up() -> None:
    here, there = pair(1 << 16)
    connecting = asyncio.ensure_future(MountServer.connect(here, RealClock(), offer=L))
    assert await there.read(1 << 16)
    connecting.cancel()
    await asyncio.wait([connecting])
    assert connecting.cancelled()
    assert here.closed


UNASKED: list[tuple[str, Message, int]] = [
    ("a tag that nobody has", m.Rclunk(), 77),
    ("another version", m.Rversion(8192, L.value), NOTAG),
    ("another type", m.Rread(b""), 0),
]


@pytest.mark.parametrize(("message", "tag"), [row[1:] for row in UNASKED], ids=[row[0] for row in UNASKED])
async def test_an_answer_never_asked_for_ends_the_connection_and_all_calls(message: Message, tag: int) -> None:
    async with Met(L) as met:
        root = await met.root()
        met.server.silent = (m.Tgetattr,)
        asking = asyncio.ensure_future(met.mount.stat(root))
        await idle()
        await met.server.stream.write(*encode(message, tag, L))
        with pytest.raises((FileError, LinkBroken)):
            await asking
        assert met.mount.broken is not None
        assert met.mount._calls == {}


async def test_a_message_announced_as_larger_than_agreed_is_not_waited_for() -> None:
    async with Met(L) as met:
        root = await met.root()
        met.server.silent = (m.Tgetattr,)
        asking = asyncio.ensure_future(met.mount.stat(root))
        await idle()
        await met.server.stream.write(struct.pack("<I", 8193))
        with pytest.raises(FileError):
            await asking
        assert met.mount._session._frames.pending < 100
