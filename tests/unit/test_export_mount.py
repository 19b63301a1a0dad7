"""Export and mount driver joined in memory: what one end asks the other does, whatever happens to the link between."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from cognu.errors import CognuError, E
from cognu.files.exportdirs import kind_of_entry
from cognu.files.mount import FarFid, MountServer
from cognu.files.mounts import MAFTER, MBEFORE, MCREATE, MREPL
from cognu.files.process import Descriptors
from cognu.files.server import OAPPEND, OEXCL, Entry, MaybeAsync
from cognu.files.steps import finish
from cognu.files.tree import Node, TreeFid
from cognu.ninep.messages import Dialect
from cognu.ninep.types import (
    ORCLOSE,
    ORDWR,
    OREAD,
    OTRUNC,
    OWRITE,
    QTDIR,
    FileSystemStat,
    Qid,
    SetStat,
)
from joined import (
    ME,
    Joined,
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
from memfs import MemDirectory, MemFile
from serving import Client
from streams import pair

OLD, L = Dialect.LEGACY, Dialect.L
BOTH = pytest.mark.parametrize("dialect", [OLD, L], ids=["9P2000", "9P2000.L"])


# -- every operation, both ways ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("sizes", [(1 << 20,), (1,), (3, 1, 50, 7)], ids=["whole", "bytewise", "odd"])
async def test_files_are_made_read_written_changed_and_removed(dialect: Dialect, sizes: tuple[int, ...]) -> None:
    async with joined(dialect, server=tree(), streams=pair(sizes=sizes)) as ends:
        client = Client(ends.mount, ME)
        assert await client.read("d/x") == b"d/x"
        await client.put("d/new", b"hello")
        assert await client.read("d/new") == b"hello"
        fid = await client.open("d/new", OWRITE | OTRUNC)
        assert await client.write_fid(fid, b"bye") == 3
        ends.mount.clunk(fid)
        assert await client.read("d/new") == b"bye"
        await client.mkdir("d/n")
        fid = await client.walk("d/new")
        stat = await ends.mount.stat(fid)
        assert (stat.name, stat.length, stat.mode) == ("new", 3, 0o666)
        assert stat.qid.path == ends.server.at("/d/new").qid.path
        await ends.mount.wstat(fid, SetStat(name="old"))
        assert (await ends.mount.stat(fid)).name == "old"
        await ends.mount.sync(fid, False) if dialect is OLD else None
        ends.mount.clunk(fid)
        assert await client.read("d/old") == b"bye"
        await ends.mount.remove(await client.walk("d/old"))
        await ends.mount.remove(await client.walk("d/n"))
        assert await bring(client.walk("d/old")) is E.NOENT
        listed = await ends.mount.readdir(await client.open("d"), 0, 100)
        assert names(listed) == ["e", "x"]


async def test_a_listing_says_what_each_file_is_without_a_trip_for_it() -> None:
    """Also where it goes on, and of a file whose server was not asked, that it is not known."""
    async with joined(L, server=tree()) as ends:
        client = Client(ends.mount, ME)
        await ends.mount.symlink(await client.walk("d"), "link", "e")
        listed = await ends.mount.readdir(await client.open("d"), 0, 100)
        kinds = {entry.name: entry.kind for entry in listed if entry.stat is None}
        assert kinds == {"e": 4, "link": 10, "x": 8}
    for qid, told, sent in ((0, 0, 0), (0, 8, 8), (QTDIR, 0, 4)):
        assert kind_of_entry(Entry(1, Qid(qid, 0, 1), "x", None, told)) == sent


async def test_what_9p2000_l_adds_works_through_both_ends() -> None:
    async with joined(L, server=tree()) as ends:
        client, mount = Client(ends.mount, ME), ends.mount
        root, d = await client.walk(""), await client.walk("d")
        await mount.symlink(d, "link", "e/y")
        link = await client.walk("d/link")
        assert link.is_symlink
        assert await mount.readlink(link) == "e/y"
        await mount.rename(d, "x", root, "moved")
        assert await client.read("moved") == b"d/x"
        await mount.rename(root, "moved", root, "f")  # over what is there
        assert await client.read("f") == b"d/x"
        assert await mount.statfs(root) == FileSystemStat()
        fid = await client.open("f", ORDWR)
        await mount.sync(fid, True)
        assert await bring(mount.link(d, fid, "hard")) is E.NOTSUP  # memfs has none
        assert await bring(mount.readlink(fid)) is E.INVAL


async def test_plain_9p2000_refuses_what_it_has_not() -> None:
    async with joined(OLD, server=tree()) as ends:
        client, mount = Client(ends.mount, ME), ends.mount
        root, d = await client.walk(""), await client.walk("d")
        for attempt in (mount.symlink(d, "l", "t"), mount.readlink(d), mount.link(d, root, "n"), mount.statfs(d)):
            assert await bring(attempt) is E.NOTSUP
        assert await bring(mount.rename(d, "x", root, "x")) is E.XDEV
        await mount.rename(d, "x", d, "renamed")
        assert await client.read("d/renamed") == b"d/x"
        assert await bring(client.read("l")) is E.NOENT  # links are followed, and this one leads nowhere now


@BOTH
async def test_errors_come_through_as_the_rows_they_were(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        client = Client(ends.mount, ME)
        assert await bring(client.walk("d/none")) is E.NOENT
        assert await bring(client.walk("f/none")) is E.NOTDIR
        assert await bring(client.open("d", OWRITE)) is E.ISDIR
        assert await bring(client.mkdir("d")) is E.EXIST
        assert await bring(client.create("f/x")) is E.NOTDIR
        assert await bring(ends.mount.remove(await client.walk("d"))) is E.NOTEMPTY
        assert await bring(ends.mount.attach(ME, "elsewhere")) in (E.NOATTACH, E.ACCES)
        fid = await client.open("f", OREAD)
        assert await bring(client.write_fid(fid, b"x")) is E.BADF
        await ends.mount.attach(ME, "w")


@BOTH
async def test_appending_and_exclusive_creation(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        client = Client(ends.mount, ME)
        root = await client.walk("")
        made = await ends.mount.create(root, "new", 0o600, OWRITE | OEXCL, ME)
        assert await client.write_fid(made, b"one") == 3
        if dialect is L:
            assert await bring(ends.mount.create(root, "new", 0o600, OWRITE | OEXCL, ME)) is E.EXIST
        fid = await client.open("new", OWRITE | OAPPEND)
        if dialect is OLD:  # the client does it, as 9P2000 can't ask for it
            await client.write_fid(fid, b"two", 0)
            assert await client.read("new") == b"onetwo"


@BOTH
async def test_a_file_opened_to_be_removed_goes_with_its_fid(dialect: Dialect) -> None:
    class Closing(MemFile):
        def close(self, fid: TreeFid) -> None:
            if (fid.mode or 0) & ORCLOSE:
                self.remove()

    async with joined(dialect, server=tree()) as ends:
        root = ends.server.root
        assert isinstance(root, MemDirectory)
        root.add(Closing("gone"))
        fid = await open_at(ends, "gone", ORDWR | ORCLOSE)
        ends.mount.clunk(fid)
        await idle()
        assert "gone" not in root.children


@BOTH
async def test_long_paths_are_walked_in_as_many_requests_as_it_takes(dialect: Dialect) -> None:
    server = tree()
    path = ""
    for _ in range(40):
        path += "/n"
        server.plant(path, None)
    server.plant(path + "/end", "deep")
    async with joined(dialect, server=server) as ends:
        root = await ends.mount.attach(ME, "")
        walked = await ends.mount.walk(root, [*path.split("/")[1:], "end"], ME)
        assert isinstance(walked.fid, FarFid)
        assert len(walked.qids) == 41
        if dialect is L:  # by way of the directory that it was found in
            await ends.mount.wstat(walked.fid, SetStat(name="renamed"))
            assert server.at(path + "/renamed")
        short = await ends.mount.walk(root, ["n"] * 20 + ["none", "n"], ME)
        assert (len(short.qids), short.fid) == (20, None)
        await idle()
        assert ends.mount.fid_count == 2


@BOTH
async def test_partial_walks_say_how_far_they_came_and_leave_no_fid(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        root = await ends.mount.attach(ME, "")
        walked = await ends.mount.walk(root, ["d", "e", "none", "z"], ME)
        assert [qid.path for qid in walked.qids] == [ends.server.at("/d").qid.path, ends.server.at("/d/e").qid.path]
        assert walked.fid is None
        assert await bring(ends.mount.walk(root, ["none", "z"], ME)) is E.NOENT
        assert ends.mount.fid_count == 1
        up = await ends.mount.walk(root, [".."], ME)
        assert up.fid is not None
        assert up.fid.qid == root.qid


@BOTH
async def test_one_can_walk_on_from_an_open_directory(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        mount, client = ends.mount, Client(ends.mount, ME)
        opened = await client.open("d/e")
        assert (await mount.walk(opened, ["y"], ME)).qids == [ends.server.at("/d/e/y").qid]
        assert (await mount.walk(opened, [".."], ME)).qids == [ends.server.at("/d").qid]
        clone = (await mount.walk(opened, [], ME)).fid
        assert clone is not None
        assert names(await mount.readdir(await mount.open(clone, OREAD, ME), 0, 9)) == ["y"]
        assert await bring(mount.walk(opened, ["none"], ME)) is E.NOENT
        root = await mount.open(await mount.attach(ME, ""), OREAD, ME)
        assert (await mount.walk(root, ["d", "x"], ME)).fid is not None


async def test_a_root_stays_at_the_server_until_the_last_fid_walked_from_it_is_gone() -> None:
    async with joined(L, server=tree()) as ends:
        mount = ends.mount
        root = await mount.attach(ME, "")
        fid = (await mount.walk(root, ["d", "x"], ME)).fid
        assert fid is not None
        mount.clunk(root)
        await idle()
        assert mount.fid_count == 2
        await mount.wstat(fid, SetStat(name="renamed"))  # needs the directory, found from the root
        mount.clunk(fid)
        await idle()
        assert mount.fid_count == 0


# -- a namespace at the far end ---------------------------------------------------------------------------------------


async def bind(ends: Joined, source: str, place: str, flags: int) -> None:
    process = ends.process
    await finish(process.namespace.bind(source, place, flags, process.cwd, process))


@BOTH
@pytest.mark.parametrize("count", [1, 2, 3, 100])
async def test_unions_and_mount_points_of_the_far_namespace_show(dialect: Dialect, count: int) -> None:
    async with joined(dialect, server=tree()) as ends:
        client = Client(ends.mount, ME)
        await bind(ends, "/d/e", "/w", MREPL)
        assert await client.read("w/y") == b"e/y"
        await bind(ends, "/d", "/w", MAFTER)
        await bind(ends, "/f", "/d/x", MREPL)
        fid, found, cookie = await client.open("w"), [], 0
        while batch := await ends.mount.readdir(fid, cookie, count):
            found += batch
            cookie = batch[-1].cookie
        assert names(found) == ["y", "e", "x"]
        assert found[-1].qid.path == ends.server.at("/f").qid.path  # what is mounted there, by its own name
        again = await ends.mount.readdir(fid, 0, count)
        assert again == found[: len(again)]
        assert await client.read("w/x") == b"f"
        assert await client.read("w/e/../y") == b"e/y"
        assert await bring(ends.mount.remove(await client.walk("w"))) in (E.MOUNTPOINT, E.BUSY)


@BOTH
async def test_unions_of_far_trees_can_be_exported_again(dialect: Dialect) -> None:
    """Two hops: entries whose attributes cost a trip are asked for, in later members too."""
    far = tree()
    async with joined(L, server=far) as first, joined(dialect, server=tree()) as second:
        namespace = second.process.namespace
        cap = namespace.devices["1"].cap
        namespace.devices["2"] = namespace.devices["1"]._replace(server=first.mount, cap=cap)
        await bind(second, "#2/d", "/w", MBEFORE)
        await bind(second, "#2/d/e", "/w", MAFTER)
        await bind(second, "#2/d", "/d", MAFTER)
        client = Client(second.mount, ME)
        listed = await second.mount.readdir(await client.open("w"), 0, 100)
        assert names(listed) == ["e", "x", "y"]
        listed = await second.mount.readdir(await client.open("d"), 0, 100)
        assert names(listed) == ["e", "x", "e", "x"]
        assert await client.read("w/y") == b"e/y"


@BOTH
async def test_symlinks_are_shown_by_9p2000_l_and_followed_for_9p2000(dialect: Dialect) -> None:
    server = tree()
    server.plant_link("/w/up", "../d")
    server.plant_link("/w/lost", "nowhere")
    async with joined(dialect, server=server) as ends:
        client = Client(ends.mount, ME)
        fid = await client.walk("w/up")
        listed = await ends.mount.readdir(await client.open("w"), 0, 9)
        if dialect is L:
            assert fid.is_symlink
            assert await bring(client.walk("w/up/x")) is E.NOTDIR
            assert await ends.mount.readlink(fid) == "../d"
            assert [entry.qid.type for entry in listed] == [2, 2]
        else:
            assert fid.is_directory
            assert await client.read("w/up/x") == b"d/x"
            assert [bool(entry.qid.type & QTDIR) for entry in listed] == [False, True]
            assert await bring(client.walk("w/lost")) is E.NOENT


@BOTH
async def test_creating_asks_the_far_union_where(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        client = Client(ends.mount, ME)
        await bind(ends, "/d/e", "/w", MBEFORE)
        assert await bring(client.put("w/new", b"1")) in (E.NOCREATE, E.ACCES)
        await bind(ends, "/d", "/w", MAFTER | MCREATE)
        await client.put("w/new", b"1")
        await client.mkdir("w/sub")
        assert await client.read("d/new") == b"1"
        assert {"new", "sub"} <= set(names(await ends.mount.readdir(await client.open("d"), 0, 9)))


# -- waiting, cancelling, flushing ------------------------------------------------------------------------------------


@BOTH
async def test_a_cancelled_read_is_flushed_and_the_others_go_on(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        slow = put_slow(ends)
        fid = await open_at(ends, "slow", ORDWR)
        loop = asyncio.get_running_loop()
        first, second = (loop.create_task(ends.mount.read(fid, 0, 100)) for _ in range(2))
        await slow.parked(2)
        assert await ends.mount.write(fid, 0, b"meanwhile") == 9
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await Client(ends.mount, ME).read("f") == b"f"
        assert slow.cancelled == 1
        slow.reads[1].set_result(b"second")
        assert bytes(await second) == b"second"
        await idle()
        assert ends.mount._session.in_flight == []
        assert len(ends.mount._session._sent) == 0  # the flush and its tags are done with


async def test_an_answer_that_crosses_a_cancellation_is_not_mistaken_for_another_calls() -> None:
    """The tag of a call that was answered just before its caller was cancelled may be another's by then."""
    async with joined(L, server=tree()) as ends:
        slow = put_slow(ends)
        fid = await open_at(ends, "slow")
        loop = asyncio.get_running_loop()
        root = await ends.mount.attach(ME, "")
        walk = loop.create_task(ends.mount.walk(root, ["d"], ME))
        others: list[asyncio.Task[Any]] = []
        arrived = ends.mount._arrived

        def watch(event: Any) -> None:
            arrived(event)
            others.append(loop.create_task(ends.mount.read(fid, 0, 10)))
            walk.cancel()

        ends.mount._arrived = watch  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await walk
        ends.mount._arrived = arrived  # type: ignore[method-assign]
        await slow.parked(1)
        slow.reads[0].set_result(b"mine")
        assert bytes(await others[0]) == b"mine"
        await idle()
        assert ends.mount.fid_count == 3  # the open file, its root, and `root`: not the one nobody waited for


@BOTH
async def test_cancelled_walks_and_opens_leave_no_fid(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        slow = put_slow(ends)
        mount = ends.mount
        root = await mount.attach(ME, "")
        loop = asyncio.get_running_loop()
        for rounds in range(6):
            task = loop.create_task(mount.walk(root, ["d", "e"], ME))
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                walked = task.result().fid
                assert walked is not None
                mount.clunk(walked)
        await idle()
        assert mount.fid_count == 1
        slow.opening = loop.create_future()
        fid = (await mount.walk(root, ["slow"], ME)).fid
        assert fid is not None
        opening = loop.create_task(mount.open(fid, OREAD, ME))
        await slow.arrived.wait()
        opening.cancel()
        await asyncio.wait([opening])
        mount.clunk(fid)
        making = loop.create_task(mount.create(root, "new", 0o666, OWRITE, ME))
        making.cancel()
        await asyncio.wait([making])
        await idle()
        assert mount.fid_count == 1
        mount.clunk(root)
        await idle()
        assert mount.fid_count == 0
        assert ends.export._session.fid_count == 0


@BOTH
async def test_clunking_a_fid_ends_what_waits_on_it(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        slow = put_slow(ends)
        fid = await open_at(ends, "slow")
        reading = asyncio.get_running_loop().create_task(ends.mount.read(fid, 0, 10))
        await slow.parked(1)
        ends.mount.clunk(fid)
        assert await bring(reading) is E.INTR
        assert slow.cancelled == 1


@BOTH
async def test_revoking_the_servers_capability_ends_far_reads(dialect: Dialect) -> None:
    async with joined(dialect, server=tree()) as ends:
        slow = put_slow(ends)
        fid = await open_at(ends, "slow")
        reading = asyncio.get_running_loop().create_task(ends.mount.read(fid, 0, 10))
        await slow.parked(1)
        authority = ends.process.namespace.domain.authority
        endpoint = 1
        authority.end_server(endpoint)
        assert await bring(reading) is E.REVOKED
        assert await bring(ends.mount.read(fid, 0, 10)) is E.REVOKED
        assert await bring(open_at(ends, "f")) is E.REVOKED


# -- links that break -------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", ["cut", "close"])
async def test_when_the_link_is_lost_reads_fail_and_writes_have_an_unknown_outcome(dialect: Dialect, how: str) -> None:
    async with joined(dialect, server=tree()) as ends:
        slow = put_slow(ends)
        client = Client(ends.mount, ME)
        fid = await client.open("slow", ORDWR)
        blocked = put_blocked(ends)
        writing_fid = await client.open("blocked", OWRITE)
        loop = asyncio.get_running_loop()
        reading = loop.create_task(ends.mount.read(fid, 0, 10))
        writing = loop.create_task(ends.mount.write(writing_fid, 0, b"data"))
        await slow.parked(1)
        await blocked.entered.wait()
        broken: list[CognuError] = []
        ends.mount.on_broken = broken.append
        if how == "cut":
            ends.here.cut()
        else:
            ends.there.close()
        assert await bring(reading) is E.CONNRESET
        assert await bring(writing) is E.NOTRECOVERABLE
        assert await bring(ends.mount.stat(fid)) is E.CONNRESET
        assert len(broken) == 1
        await ends.serving
        assert (slow.cancelled, blocked.cancelled) == (1, 1)
        assert ends.export._session.fid_count == 0
        assert only_the_roots_are_left(ends)


class Blocked(Node):
    """A file whose writes never end by themselves."""

    def __init__(self) -> None:
        super().__init__("blocked", 0o666)
        self.entered = asyncio.Event()
        self.cancelled = 0

    async def _never(self) -> int:
        self.entered.set()
        try:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        return self._never()


def put_blocked(ends: Joined) -> Blocked:
    root = ends.server.root
    assert isinstance(root, MemDirectory)
    node = Blocked()
    root.add(node)
    return node


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    async with joined(L, server=tree(), descriptors=Descriptors()) as ends:
        client = Client(ends.mount, ME)
        for path in ("d/x", "d", "f", "d/e/y"):
            await client.open(path)
        await bind(ends, "/d", "/w", MAFTER)
        await client.open("w")
        await ends.mount.close()
        await ends.serving
        descriptors = ends.export.calls.descriptors
        assert descriptors is not None
        assert len(descriptors) == 0
        ends.process.namespace.release()
        ends.process.cwd.close()
        gc.collect()
        ends.process.namespace.domain.authority.close_orphans()
        assert not ends.server.live


async def test_closing_the_mount_driver_ends_its_calls_and_may_be_repeated() -> None:
    async with joined(L, server=tree()) as ends:
        slow = put_slow(ends)
        fid = await open_at(ends, "slow")
        reading = asyncio.get_running_loop().create_task(ends.mount.read(fid, 0, 10))
        await slow.parked(1)
        await ends.mount.close()
        await ends.mount.close()
        assert await bring(reading) is E.SESSIONLOST
        ends.mount.clunk(fid)  # nobody is there to be told


async def test_a_connection_that_never_answers_can_be_given_up() -> None:
    here, _ = pair()
    connecting = asyncio.get_running_loop().create_task(MountServer.connect(here, StoppedClock()))
    await idle()
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert here.closed
