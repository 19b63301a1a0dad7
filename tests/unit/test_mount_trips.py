"""What goes over the wire for what is done to a far file, frame by frame and both ways, with compounds and without.

A near namespace over a mount, as a shell's or a program's is; at the far end another process's namespace, exported.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from traceback import clear_frames

import pytest

import cognu.files.export_calls
import cognu.ninep.server
from cognu.errors import E, FileError
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.dispatch import dispatch
from cognu.files.export import Export
from cognu.files.listing import read_directory
from cognu.files.mount import FarFid, MountServer
from cognu.files.mounts import MREPL
from cognu.files.namespace import Namespace
from cognu.files.process import ProcessTable
from cognu.files.server import Caller, Entry, Then
from cognu.files.steps import Steps, finish
from cognu.files.tree import TreeFid
from cognu.kernel import ALL_RIGHTS, READ, WRITE
from cognu.ninep import messages as m
from cognu.ninep.codec import Frames, decode
from cognu.ninep.listed import pack_listed
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.types import DMDIR, OREAD, OWRITE, Dirent, Qid, Stat
from joined import ME, CountingServer, Joined, StoppedClock, attach_to, idle, joined, only_the_roots_are_left, put_slow
from memfs import MemFile
from streams import MemoryStream, pair

COMPOUNDS = pytest.param("compounds", id="compounds")
WAYS = pytest.mark.parametrize("way", [COMPOUNDS, "no Tcaps", "9P2000.L"])


class TimedClock(StoppedClock):
    def __init__(self) -> None:
        self.time = 0

    def monotonic(self) -> int:
        return self.time


class Tapped(MemoryStream):
    """Keeps the messages that were written to it, by the names of their classes; a compound with its parts."""

    said: list[str]

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        for frame in self.frames.feed(b"".join(buffers)):
            message = decode(frame, self.dialect)[1]
            self.said.append(name_of(message))
            self.messages.append(message)
        await super().write(*buffers)

    def tap(self, dialect: Dialect) -> None:
        self.frames, self.dialect, self.said = Frames(1 << 24), dialect, []
        self.messages: list[Message] = []


def name_of(message: Message) -> str:
    if isinstance(message, m.Tcomp | m.Rcomp):
        return f"{type(message).__name__}({' '.join(map(name_of, message.parts))})"
    return type(message).__name__


@dataclass
class Near:
    """The near side, with what was said on the wire since `forget`."""

    ends: Joined
    namespace: Namespace
    clock: TimedClock

    def forget(self) -> None:
        for end in (self.ends.here, self.ends.there):
            assert isinstance(end, Tapped)
            end.said.clear()
            end.messages.clear()

    def said(self) -> tuple[list[str], list[str]]:
        """The requests and the replies."""
        here, there = self.ends.here, self.ends.there
        assert isinstance(here, Tapped)
        assert isinstance(there, Tapped)
        return list(here.said), list(there.said)

    def requests(self) -> list[Message]:
        assert isinstance(self.ends.here, Tapped)
        return self.ends.here.messages

    async def find(self, path: str, then: Then | None = None) -> Chan:
        return await finish(self.namespace.find(path, self.namespace.root, ME, then=then))

    async def open(self, path: str, mode: int = OREAD) -> Chan:
        then = Then.READ if mode == OREAD else None
        return await finish(self.namespace.open(await self.find(path, then), mode, ME))

    async def read(self, chan: Chan, offset: int, count: int = 4096) -> bytes:
        return bytes(await finish(dispatch(chan, READ, chan.server.read, chan.fid, offset, count)))

    async def cat(self, path: str) -> bytes:
        chan = await self.open(path)
        try:
            data = b""
            while piece := await self.read(chan, len(data)):
                data += piece
            return data
        finally:
            chan.close()

    async def stat(self, path: str) -> Stat:
        chan = await self.find(path, Then.STAT)
        try:
            return await finish(self.namespace.stat(chan))
        finally:
            chan.close()

    async def ls(self, path: str) -> list[Entry]:
        chan = await finish(self.namespace.open(await self.find(path, Then.LIST), OREAD, ME))
        try:
            found: list[Entry] = []
            while batch := await finish(
                read_directory(self.namespace, chan, found[-1].cookie if found else 0, 128, ME)
            ):
                found += batch
            return found
        finally:
            chan.close()

    async def put(self, path: str, data: bytes) -> None:
        chan = await finish(self.namespace.create_path(path, 0o666, OWRITE, self.namespace.root, ME))
        try:
            assert await finish(dispatch(chan, WRITE, chan.server.write, chan.fid, 0, data)) == len(data)
        finally:
            chan.close()

    async def quiet(self) -> None:
        """Nothing is held that nobody uses, and all that was sent has been answered."""
        gc.collect()
        self.namespace.domain.authority.close_orphans()
        await idle()
        assert not self.ends.mount._calls


async def refused(what: Awaitable[object]) -> E:
    try:
        await what
    except FileError as error:
        clear_frames(error.__traceback__)  # they hold chans
        return error.error
    pytest.fail("it was allowed")


def stored(server: CountingServer, path: str) -> MemFile:
    """What stands there, with the version of something that is stored."""
    node = server.at(path)
    assert isinstance(node, MemFile)
    node.qid = node.qid._replace(version=7)
    return node


def served() -> CountingServer:
    server = CountingServer("#1")
    for path, data in [("/d", None), ("/d/x", "d/x"), ("/d/e", None), ("/d/empty", ""), ("/many", None)]:
        server.plant(path, data)
    server.plant_link("/d/link", "x")
    for number in range(100):
        server.plant(f"/many/file-{number}", "x" * number)
    stored(server, "/d/x")
    return server


@asynccontextmanager
async def near(way: str, monkeypatch: pytest.MonkeyPatch, rights: int = ALL_RIGHTS) -> AsyncIterator[Near]:
    if way == "no Tcaps":
        monkeypatch.setattr(cognu.ninep.server, "wanted", lambda msize: ())
    dialect = Dialect.L if way == "9P2000.L" else Dialect.NG
    streams = pair(1 << 22)
    for end in streams:
        end.__class__ = Tapped
        assert isinstance(end, Tapped)
        end.tap(dialect)
    clock = TimedClock()
    async with joined(dialect, server=served(), streams=streams, msize=1 << 16) as ends:
        ends.mount._clock = ends.mount._trips._clock = clock
        domain = Domain(Authority())
        namespace = Namespace(domain, await finish(attach_own(ends.mount, domain, ME, rights=rights)))
        at = Near(ends, namespace, clock)
        at.forget()
        try:
            yield at
        finally:
            namespace.release()
            if ends.mount.broken is None:
                await at.quiet()
                assert ends.mount.fid_count == 0
                assert only_the_roots_are_left(ends)


# -- counted ----------------------------------------------------------------------------------------------------------


async def test_the_attributes_of_a_path_are_one_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        assert (await at.stat("/d/x")).length == 3
        await at.quiet()
        assert at.said() == (["Tcomp(Twalk Tgetattr)", "Tclunk"], ["Rcomp(Rwalk Rgetattr)", "Rclunk"])


async def test_all_of_a_small_file_is_one_trip_and_nobody_waits_for_the_clunk(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        assert await at.cat("/d/x") == b"d/x"
        assert len(at.said()[0]) == 1
        await at.quiet()
        asked, told = at.said()
        assert asked == ["Tcomp(Twalk Tlopen Tgetattr Tread)", "Tclunk"]
        assert told == ["Rcomp(Rwalk Rlopen Rgetattr Rread)", "Rclunk"]


async def test_a_listing_is_one_trip_with_all_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        for path, count in (("/d", 4), ("/many", 100)):
            at.forget()
            listed = await at.ls(path)
            assert len(listed) == count
            assert all(entry.stat is not None and entry.stat.name == entry.name for entry in listed)
            await at.quiet()
            assert at.said() == (["Tcomp(Twalk Tlopen Tlist)", "Tclunk"], ["Rcomp(Rwalk Rlopen Rlist)", "Rclunk"])


async def test_a_long_listing_is_one_trip_for_each_reply_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        for number in range(900):
            at.ends.server.plant(f"/many/more-{number}", "")
        listed = await at.ls("/many")
        assert sorted(entry.name for entry in listed) == sorted(
            [f"file-{number}" for number in range(100)] + [f"more-{number}" for number in range(900)]
        )
        await at.quiet()
        # 64 KiB hold about 370 entries; then the reader asks for 128 at a time.
        assert at.said()[0] == ["Tcomp(Twalk Tlopen Tlist)", *["Tlist"] * 5, "Tclunk"]


async def test_a_small_file_is_made_and_written_in_four_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is to be, whether it is there, making it, writing it."""
    async with near("compounds", monkeypatch) as at:
        await at.put("/d/new", b"hello")
        await at.quiet()
        asked, told = at.said()
        assert asked == ["Twalk", "Twalk", "Tcomp(Twalk Tlcreate)", "Tclunk", "Twrite", "Tclunk"]
        assert told == ["Rwalk", "Rngerror", "Rcomp(Rwalk Rlcreate)", "Rclunk", "Rwrite", "Rclunk"]


async def test_without_compounds_it_is_a_trip_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for way, dialect in (("no Tcaps", "Tcaps"), ("9P2000.L", "")):
        async with near(way, monkeypatch) as at:
            await at.stat("/d/x")
            await at.quiet()
            assert at.said()[0] == ["Twalk", "Tgetattr", "Tclunk"], dialect
            at.forget()
            await at.cat("/d/x")
            await at.quiet()
            assert at.said()[0] == ["Twalk", "Tlopen", "Tread", "Tread", "Tgetattr", "Tclunk"]
            at.forget()
            await at.ls("/d")
            await at.quiet()
            assert at.said()[0] == ["Twalk", "Tlopen", "Treaddir", "Treaddir", "Tclunk"]


# -- the same by every way --------------------------------------------------------------------------------------------


@WAYS
async def test_what_is_found_is_the_same_by_every_way(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with near(way, monkeypatch) as at:
        assert await at.cat("/d/x") == b"d/x"
        assert await at.cat("/d/empty") == b""
        assert await at.cat("/d/link") == b"d/x"
        assert await at.cat("/many/file-99") == b"x" * 99
        assert (await at.stat("/d")).mode & DMDIR
        assert (await at.stat("/d/link")).length == 3
        assert {entry.name for entry in await at.ls("/d")} == {"x", "e", "empty", "link"}
        await at.put("/d/e/new", b"hello")
        assert await at.cat("/d/e/new") == b"hello"
        made = await finish(at.namespace.create_path("/d/n", DMDIR | 0o777, OREAD, at.namespace.root, ME))
        made.close()
        await at.put("/d/n/y", b"y")
        assert [entry.name for entry in await at.ls("/d/n")] == ["y"]


@WAYS
async def test_what_is_refused_is_refused_in_the_same_way(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with near(way, monkeypatch) as at:
        at.ends.server.at("/d/x").mode = 0o222

        assert await refused(at.cat("/d/x")) is E.ACCES
        assert await refused(at.cat("/d/none")) is E.NOENT
        assert await refused(at.stat("/d/none/x")) is E.NOENT
        assert await refused(at.cat("/d/x/y")) is E.NOTDIR
        assert await refused(at.ls("/d/x")) in (E.NOTDIR, E.ACCES)
        assert await refused(at.put("/d/x/y", b"")) is E.NOTDIR


# -- rights -----------------------------------------------------------------------------------------------------------


async def test_who_may_not_read_asks_for_no_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch, rights=ALL_RIGHTS & ~READ) as at:
        assert await refused(at.cat("/d/x")) is E.ACCES
        await at.quiet()
        assert at.said()[0] == ["Twalk", "Tclunk"]


async def test_what_is_hidden_by_a_mount_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        await finish(at.namespace.bind("/many/file-5", "/d/x", MREPL, at.namespace.root, ME))
        await at.quiet()
        at.forget()
        assert await at.cat("/d/x") == b"xxxxx"
        opened = [part for request in at.requests() if isinstance(request, m.Tcomp) for part in request.parts]
        assert opened == []


async def test_a_refusal_of_opening_is_told_without_asking_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        at.ends.server.at("/d/x").mode = 0o222
        assert await refused(at.cat("/d/x")) is E.ACCES
        await at.quiet()
        assert at.said()[0] == ["Tcomp(Twalk Tlopen Tgetattr Tread)", "Twalk", "Tclunk"]
        # Later it is asked for anew.
        chan = await at.find("/d/x", Then.READ)
        at.ends.server.at("/d/x").mode = 0o666
        at.clock.time = 1
        assert (await finish(at.namespace.open(chan, OREAD, ME))) is chan
        chan.close()


async def test_what_came_with_the_walk_is_good_for_half_the_time_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:

        def slowly(*_: object) -> int:
            at.clock.time += 5
            return at.clock.time

        monkeypatch.setattr(at.clock, "monotonic", slowly)
        chan = await at.find("/d/x", Then.READ)  # asked at 5, answered at 10: good until 12
        await finish(at.namespace.open(chan, OREAD, ME))
        at.forget()
        assert await at.read(chan, 0) == b"d/x"  # at 15
        assert at.said()[0] == ["Tread"]
        chan.close()


async def test_what_nobody_came_for_in_time_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        chans = []
        for number in range(3):
            chans.append(await at.open("/d/x"))
            at.clock.time += 1
            assert len(at.ends.mount._trips._holding) == 1, number
        held = [chan.fid.held for chan in chans if isinstance(chan.fid, FarFid)]
        assert [each is not None and each.data for each in held] == [None, None, b"d/x"]
        for chan in chans:
            assert await at.read(chan, 0) == b"d/x"
            chan.close()


async def test_a_change_by_the_same_mount_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        chan = await at.open("/d/x")
        other = await at.open("/d/x", OWRITE)
        await finish(dispatch(other, WRITE, other.server.write, other.fid, 0, b"NEW"))
        assert await at.read(chan, 0) == b"NEW"
        assert (await finish(dispatch(chan, 0, chan.server.stat, chan.fid))).length == 3
        chan.close()
        other.close()


async def test_a_revocation_at_the_far_end_ends_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        chan, other = await at.open("/d/x"), await at.open("/many/file-9")
        far = at.ends.process.namespace
        authority = far.domain.authority
        authority.end_server(authority.kernel.slots.endpoint[far.root.cap.slot])
        assert await refused(at.read(other, 5)) is E.REVOKED
        assert await refused(at.read(chan, 0)) is E.REVOKED
        for one in (chan, other):
            one.close()


# -- streams, and giving up -------------------------------------------------------------------------------------------


async def test_a_stream_is_opened_with_the_walk_but_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        slow = put_slow(at.ends)
        slow.qid = slow.qid._replace(version=3)
        chan = await at.open("/slow")
        assert slow.reads == []
        assert at.said()[1] == ["Rcomp(Rwalk Rlopen Rgetattr)"]
        reading = asyncio.create_task(at.read(chan, 0))
        await slow.parked(1)
        slow.reads[0].set_result(b"typed")
        assert await reading == b"typed"
        chan.close()


async def test_who_gives_up_while_a_file_is_opened_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        slow = put_slow(at.ends)
        slow.opening = asyncio.get_running_loop().create_future()
        opening = asyncio.create_task(at.open("/slow"))
        await slow.arrived.wait()
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        await at.quiet()
        assert at.said() == (
            ["Tcomp(Twalk Tlopen Tgetattr Tread)", "Tflush", "Tclunk"],
            ["Rcomp(Rwalk)", "Rflush", "Rclunk"],
        )


async def test_a_far_file_is_opened_once_however_it_is_used_then(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at:
        opened: list[int] = []
        node = stored(at.ends.server, "/many/file-3")
        before = node.open

        def noted(fid: TreeFid, mode: int, caller: Caller) -> None:
            opened.append(mode)
            before(fid, mode, caller)

        monkeypatch.setattr(node, "open", noted)
        await at.cat("/many/file-3")
        assert opened == [OREAD]
        chan = await at.find("/many/file-3", Then.READ)
        chan = await finish(at.namespace.open(chan, OWRITE, ME))  # not what was announced: another fid
        await finish(dispatch(chan, WRITE, chan.server.write, chan.fid, 0, b"y"))
        chan.close()
        assert opened == [OREAD, OREAD, OWRITE]
        assert await at.cat("/many/file-3") == b"yxx"


async def test_a_walk_goes_on_from_a_directory_that_was_opened_with_its_own_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with near("compounds", monkeypatch) as at:
        chan = await at.find("/d", Then.LIST)
        found = await finish(at.namespace.walk(chan, ["e"], ME))
        assert found.qid.is_dir
        assert (await finish(at.namespace.walk(chan, ["..", "many"], ME))).qid.is_dir
        for one in (chan, found):
            one.close()


# -- servers that are not ours ----------------------------------------------------------------------------------------


def listed(offset: int, name: str) -> bytes:
    return pack_listed(Dirent(Qid(0, 1, offset), offset, 8, name), None)


async def test_a_listing_goes_on_after_dots_and_never_in_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {0: m.Rlist(0, listed(1, ".") + listed(2, "..")), 2: m.Rlist(0, listed(3, "x")), 3: m.Rlist(0, b"")}

    def page(_: object, __: object, message: m.Tlist) -> Steps[m.Rlist]:
        return pages[message.offset]
        yield

    monkeypatch.setattr(cognu.files.export_calls, "read_listing", page)
    async with near("compounds", monkeypatch) as at:
        chan = await finish(at.namespace.open(await at.find("/d"), OREAD, ME))
        (entry,) = await finish(dispatch(chan, READ, chan.server.readdir, chan.fid, 0, 10))
        assert (entry.name, entry.stat) == ("x", None)
        assert await refused(finish(dispatch(chan, READ, chan.server.readdir, chan.fid, 3, 10))) is E.BADMESSAGE
        chan.close()


async def test_a_listing_that_is_cut_is_an_error_and_leaves_no_fid(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_: object, __: object, ___: object) -> Steps[m.Rlist]:
        return m.Rlist(1, b"cut")
        yield

    monkeypatch.setattr(cognu.files.export_calls, "read_listing", cut)
    async with near("compounds", monkeypatch) as at:
        assert await refused(at.find("/d", Then.LIST)) is E.BADMESSAGE


# -- by way of another node -------------------------------------------------------------------------------------------


@asynccontextmanager
async def one_hop_more(at: Near) -> AsyncIterator[Namespace]:
    """The near namespace, exported once more and mounted: as a shell's, which reaches another machine by its node."""
    process = ProcessTable(lambda: 0).add("glenda", at.namespace.hold(), at.namespace.root.share())
    here, there = pair()
    serving = asyncio.create_task(Export(there, process, attach_to(process)).serve())
    mount = await MountServer.connect(here, at.clock)
    domain = Domain(Authority())
    namespace = Namespace(domain, await finish(attach_own(mount, domain, ME)))
    at.forget()
    try:
        yield namespace
    finally:
        namespace.release()
        await mount.close()
        await serving
        process.cwd.close()
        process.namespace.release()


async def test_it_is_one_trip_by_way_of_a_node_between(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near("compounds", monkeypatch) as at, one_hop_more(at) as namespace:
        through = Near(at.ends, namespace, at.clock)
        assert await through.cat("/d/x") == b"d/x"
        assert (await through.stat("/d/x")).length == 3
        assert {entry.name for entry in await through.ls("/d") if entry.stat} == {"x", "e", "empty", "link"}
        await idle()
        asked = at.said()[0]
        assert [name for name in asked if name != "Tclunk"] == [
            "Tcomp(Twalk Tlopen Tgetattr Tread)",
            "Tcomp(Twalk Tgetattr)",
            "Tcomp(Twalk Tlopen Tlist)",
        ]


async def test_a_right_that_the_node_between_has_revoked_opens_nothing_beyond_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with near("compounds", monkeypatch) as at, one_hop_more(at) as namespace:
        through = Near(at.ends, namespace, at.clock)
        assert await through.cat("/d/x") == b"d/x"
        await idle()
        at.forget()
        authority = at.namespace.domain.authority
        authority.end_server(authority.kernel.slots.endpoint[at.namespace.root.cap.slot])
        assert await refused(through.cat("/d/x")) is E.REVOKED
        await idle()
        assert [name for name in at.said()[0] if name != "Tclunk"] == []
