"""Directories of the host as a file server: few hops, nothing leaks when cancelled, nothing leads out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cognu.devices.hidden import MEMORY, Secrets
from cognu.devices.host import LIST_LIMIT, HostFid, HostServer
from cognu.errors import E, FileError
from cognu.files.server import Fid, Walk
from cognu.ninep.types import (
    DMAPPEND,
    DMDIR,
    DMEXCL,
    DMNAMEDPIPE,
    DMSETVTX,
    DMSOCKET,
    ORCLOSE,
    ORDWR,
    OREAD,
    OTRUNC,
    OWRITE,
    QTAPPEND,
    SetStat,
)
from cognu.world import MARKS, HostFile, HostNode, HostStat, HostSteps, World, WouldWait
from cognu.world.cached import can_open_cached
from cognu.world.host_tree import RealHostFile
from cognu.world.real import real_world
from serving import Client, KeepingTree, Somebody, done

T = TypeVar("T")


class CountingThreads:
    """Counts hops; runs what it is given at once."""

    def __init__(self) -> None:
        self.hops = 0

    async def run(self, function: Callable[..., T], *args: object) -> T:
        self.hops += 1
        return function(*args)


class ManualThreads:
    """Runs what it is given when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.called = asyncio.Event()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def carry_out() -> None:
            try:
                result = function(*args)
            except FileError as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.waiting.append(carry_out)
        self.called.set()
        return await future

    async def one(self) -> Callable[[], None]:
        await self.called.wait()
        self.called.clear()
        return self.waiting.pop()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[KeepingTree]:
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "d").mkdir()
    (inside / "d" / "f").write_bytes(b"file")
    before = len(os.listdir("/dev/fd"))
    made = KeepingTree(str(inside))
    yield made
    made.close()
    assert len(os.listdir("/dev/fd")) == before, "a handle of the host is left open"


@pytest.fixture
def inside(tmp_path: Path, tree: KeepingTree) -> Path:
    return tmp_path / "in"


def world_with(threads: Any) -> World:
    return replace(real_world(), threads=threads)


async def refused(error: E, call: Awaitable[Any]) -> None:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value


async def walked(client: Client, fid: Fid, names: list[str]) -> Walk:
    """A walk whose refusal comes when it is awaited, be it ready or not."""
    return await done(client.server.walk(fid, names, client.caller))


async def test_each_request_is_one_hop_and_clones_and_clunks_are_none(tree: KeepingTree, inside: Path) -> None:
    threads = CountingThreads()
    tree.quick = None
    server = HostServer(world_with(threads), tree)
    me = Somebody()
    for number in range(20):
        (inside / "d" / f"n{number}").touch()

    async def hops(call: Any) -> Any:
        before = threads.hops
        result = await done(call)
        assert threads.hops - before == 1
        return result

    root = await hops(server.attach(me, ""))
    walked = await hops(server.walk(root, ["d", "f"], me))
    up = await hops(server.walk(walked.fid, [".."], me))
    await hops(server.open(walked.fid, ORDWR, me))
    before = threads.hops
    assert await done(server.read(walked.fid, 0, 100)) == b"file"
    assert threads.hops - before == (0 if hasattr(os, "RWF_NOWAIT") else 1)  # it was in memory
    assert await hops(server.write(walked.fid, 0, b"x")) == 1
    await hops(server.stat(walked.fid))
    await hops(server.wstat(walked.fid, SetStat(name="g", mode=0o600)))
    made = await hops(server.create(up.fid, "new", 0o666, OWRITE, me))
    await hops(server.remove(made))
    before = threads.hops
    await done(server.open(up.fid, OREAD, me))
    twin = await done(server.walk(up.fid, [], me))
    assert twin.fid is not None
    assert threads.hops == before
    assert len(await hops(server.readdir(up.fid, 0, 100))) == 21
    for fid in (root, walked.fid, up.fid, made, twin.fid):
        server.clunk(fid)
    assert threads.hops == before + 1


async def test_a_file_whose_beginning_alone_is_in_memory_is_read_whole(
    tree: KeepingTree, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inside / "long").write_bytes(bytes(range(256)) * 64)
    whole = RealHostFile.pread_now
    monkeypatch.setattr(RealHostFile, "pread_now", lambda file, offset, count: whole(file, offset, min(count, 4096)))
    client = Client(HostServer(real_world(), tree))
    fid = await client.open("long")
    assert await done(client.server.read(fid, 100, 9000)) == (bytes(range(256)) * 64)[100:9100]
    (inside / "long").write_bytes(b"cut")
    assert await done(client.server.read(fid, 0, 9000)) == b"cut"
    client.server.clunk(fid)
    client.close()


async def test_what_the_host_has_in_memory_takes_no_hop(tree: KeepingTree) -> None:
    assert (tree.quick is not None) is can_open_cached()
    hop = 1 if tree.quick is None else 0
    threads = CountingThreads()
    server = HostServer(world_with(threads), tree)
    me = Somebody()
    root = await server.attach(me, "")
    await done(server.stat(root))  # looks up who the owner is
    before = threads.hops
    down = await done(server.walk(root, ["d", "f"], me))
    assert down.fid is not None
    up = await done(server.walk(down.fid, [".."], me))
    assert up.fid is not None
    assert [qid.path for qid in up.qids] == [down.qids[0].path]
    assert (await done(server.stat(down.fid))).length == 4
    await done(server.open(down.fid, OREAD, me))
    assert threads.hops - before == 4 * hop
    before = threads.hops
    assert await done(server.read(down.fid, 0, 100)) == b"file"
    assert await done(server.read(down.fid, 4, 100)) == b""
    assert threads.hops - before == (0 if hasattr(os, "RWF_NOWAIT") else 2)
    for fid in (root, down.fid, up.fid):
        server.clunk(fid)


async def test_a_file_that_grew_after_it_was_opened_is_read_in_ever_larger_pieces(
    tree: KeepingTree, inside: Path
) -> None:
    client = Client(HostServer(real_world(), tree))
    fid = await client.open("d/f")
    data = os.urandom(1_000_000)
    (inside / "d" / "f").write_bytes(data)
    sizes, got = [], b""
    while part := await done(client.server.read(fid, len(got), 1 << 20)):
        sizes.append(len(part))
        got += bytes(part)
    assert got == data
    assert len(sizes) < 10 + hasattr(os, "RWF_NOWAIT") * 10
    client.server.clunk(fid)
    client.close()


class ReluctantSteps:
    """Quick steps that would wait from some call on."""

    def __init__(self, steps: HostSteps, left: int) -> None:
        self._steps = steps
        self._left = left

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise WouldWait

    def root(self) -> HostNode:
        self._count()
        return self._steps.root()

    def walk(self, node: HostNode, name: str) -> HostNode:
        self._count()
        return self._steps.walk(node, name)

    def stat(self, node: HostNode) -> HostStat:
        self._count()
        return self._steps.stat(node)

    def open(self, node: HostNode, read: bool, write: bool, truncate: bool) -> HostFile:
        self._count()
        return self._steps.open(node, read, write, truncate)


@pytest.mark.parametrize("left", range(5))
async def test_what_would_wait_midway_is_begun_again_in_a_thread(tree: KeepingTree, left: int) -> None:
    quick: HostSteps = tree.quick or tree
    me = Somebody()

    def server(left: int) -> HostServer:
        tree.quick = ReluctantSteps(quick, left)
        return HostServer(real_world(), tree)

    root = await server(0).attach(me, "")
    down = await done(server(left).walk(root, ["d", "f"], me))
    assert down.fid is not None
    assert len(down.qids) == 2
    short = await done(server(left).walk(root, ["d", "none", "f"], me))
    assert (len(short.qids), short.fid) == (1, None)
    up = await done(server(left).walk(down.fid, [".."], me))
    assert up.fid is not None
    assert up.qids == down.qids[:1]
    assert (await done(server(left).stat(down.fid))).length == 4
    await refused(E.NOENT, walked(Client(server(left)), root, ["none"]))
    await refused(E.NOTDIR, walked(Client(server(left)), down.fid, ["g"]))
    last = server(left)
    await done(last.open(down.fid, OREAD, me))
    assert await done(last.read(down.fid, 0, 9)) == b"file"
    for fid in (root, down.fid, up.fid):
        last.clunk(fid)


CALLS: dict[str, Callable[[HostServer, Any], Any]] = {
    "attach": lambda server, fid: server.attach(Somebody(), ""),
    "walk": lambda server, fid: server.walk(fid, ["d", "f"], Somebody()),
    "short walk": lambda server, fid: server.walk(fid, ["d", "none"], Somebody()),
    "walk up": lambda server, fid: server.walk(fid, [".."], Somebody()),
    "create": lambda server, fid: server.create(fid, "new", 0o666, ORDWR, Somebody()),
    "make directory": lambda server, fid: server.create(fid, "new", DMDIR | 0o777, OREAD, Somebody()),
    "symlink": lambda server, fid: server.symlink(fid, "new", "target"),
    "stat": lambda server, fid: server.stat(fid),
}


@pytest.mark.parametrize("finished_first", [False, True])
@pytest.mark.parametrize("call", CALLS)
async def test_a_cancelled_request_leaves_no_handle(tree: KeepingTree, call: str, finished_first: bool) -> None:
    threads = ManualThreads()
    tree.quick = None
    server = HostServer(world_with(threads), tree)
    attaching = asyncio.ensure_future(server.attach(Somebody(), ""))
    (await threads.one())()
    root = await attaching
    task = asyncio.ensure_future(done(CALLS[call](server, root)))
    carry_out = await threads.one()
    if finished_first:
        carry_out()
        task.cancel()
    else:
        task.cancel()
        await asyncio.wait([task])
        carry_out()
    await asyncio.wait([task])
    assert task.cancelled()
    server.clunk(root)


@pytest.mark.parametrize("finished_first", [False, True])
async def test_a_cancelled_open_leaves_the_fid_closed(tree: KeepingTree, finished_first: bool) -> None:
    threads = ManualThreads()
    tree.quick = None
    server = HostServer(world_with(threads), tree)
    client = Client(server)
    walking = asyncio.ensure_future(client.walk("d/f"))
    for _ in range(3):
        (await threads.one())()
    fid = await walking
    task = asyncio.ensure_future(done(server.open(fid, OREAD, Somebody())))
    carry_out = await threads.one()
    if finished_first:
        carry_out()
    task.cancel()
    await asyncio.wait([task])
    if not finished_first:
        carry_out()
    assert task.cancelled()
    with pytest.raises(FileError) as caught:
        server.read(fid, 0, 1)
    assert caught.value.error is E.BADF
    server.clunk(fid)
    client.close()


async def test_a_cancelled_write_used_its_own_copy(tree: KeepingTree, inside: Path) -> None:
    threads = ManualThreads()
    server = HostServer(world_with(CountingThreads()), tree)
    client = Client(server)
    fid = await client.open("d/f", OWRITE)
    server._world = world_with(threads)
    buffer = bytearray(b"good")
    task = asyncio.ensure_future(server.write(fid, 0, memoryview(buffer)))
    carry_out = await threads.one()
    task.cancel()
    await asyncio.wait([task])
    buffer[:] = b"evil"
    carry_out()
    assert (inside / "d" / "f").read_bytes() == b"good"
    server.clunk(fid)
    client.close()


async def test_links_and_dots_lead_nowhere_else(tree: KeepingTree, inside: Path) -> None:
    (inside.parent / "secret").write_bytes(b"secret")
    (inside / "out").symlink_to("..")
    (inside / "away").symlink_to("/etc")
    client = Client(HostServer(real_world(), tree))
    for path in ("out/secret", "away/passwd"):
        await refused(E.NOTDIR, client.walk(path))
    root = await client.walk("")
    for name in ("../secret", "d/f", ".", "", "\0", "\ud800"):
        await refused(E.NOENT, walked(client, root, [name]))
    await refused(E.NOENT, walked(client, root, ["..", "secret"]))
    client.server.clunk(root)
    client.close()


async def test_dot_dot_of_a_directory_that_was_replaced_is_not_found(tree: KeepingTree, inside: Path) -> None:
    client = Client(HostServer(real_world(), tree))
    fid = await client.walk("d/f")
    (inside / "d").rename(inside / "e")
    (inside / "d").mkdir()
    await refused(E.NOENT, walked(client, fid, [".."]))
    await refused(E.NOENT, done(client.server.remove(fid)))
    client.server.clunk(fid)
    client.close()
    assert (inside / "e" / "f").read_bytes() == b"file"


async def test_read_only_refuses_every_change(tree: KeepingTree, inside: Path) -> None:
    client = Client(HostServer(real_world(), tree, read_only=True))
    assert await client.read("d/f") == b"file"
    assert await client.names("") == ["d"]
    for call in (
        client.open("d/f", OWRITE),
        client.open("d/f", ORDWR),
        client.open("d/f", OREAD | OTRUNC),
        client.open("d/f", OREAD | ORCLOSE),
        client.create("new"),
        client.mkdir("new"),
        client.remove("d/f"),
        client.wstat("d/f", SetStat(mode=0o600)),
        client.rename("d/f", "d/g"),
        client.symlink("new", "x"),
    ):
        await refused(E.ROFS, call)
    directory, existing = await client.walk(""), await client.walk("d/f")
    await refused(E.ROFS, done(client.server.link(directory, existing, "new")))
    client.server.clunk(directory)
    client.server.clunk(existing)
    client.close()
    assert sorted(os.listdir(inside)) == ["d"]


async def test_hard_links_are_one_file(tree: KeepingTree) -> None:
    client = Client(HostServer(real_world(), tree))
    directory, existing = await client.walk(""), await client.walk("d/f")
    await done(client.server.link(directory, existing, "twin"))
    client.server.clunk(directory)
    client.server.clunk(existing)
    assert (await client.stat("twin")).qid == (await client.stat("d/f")).qid
    assert (await client.stat("twin")).links == 2
    await client.remove("d/f")
    assert await client.read("twin") == b"file"
    client.close()


async def test_odd_files_show_their_kind(tree: KeepingTree, inside: Path) -> None:
    os.mkfifo(inside / "pipe")
    client = Client(HostServer(real_world(), tree))
    assert (await client.stat("pipe")).mode & DMNAMEDPIPE
    assert not (await client.stat("pipe")).mode & DMSOCKET
    client.close()


# -- append-only and exclusive use ------------------------------------------------------------------------------------


async def test_an_append_only_file_is_written_at_its_end_and_keeps_what_it_has(tree: KeepingTree, inside: Path) -> None:
    client = Client(HostServer(real_world(), tree))
    client.server.clunk(await client.create("log", DMAPPEND | 0o666))
    await client.write("log", b"one", offset=50)
    await client.write("log", b"two", OWRITE | OTRUNC)
    client.server.clunk(await client.open("log", OREAD | OTRUNC))
    assert (inside / "log").read_bytes() == b"onetwo"
    stat = await client.stat("log")
    assert (stat.mode & ~0o777, stat.qid.type) == (DMAPPEND, QTAPPEND)
    (entry,) = [entry for entry in await client.entries("") if entry.name == "log"]
    assert entry.qid == stat.qid
    client.close()


async def test_a_file_for_exclusive_use_is_open_once_and_nothing_is_done_to_it_by_another(
    tree: KeepingTree, inside: Path
) -> None:
    client = Client(HostServer(real_world(), tree))
    fid = await client.create("lock", DMEXCL | 0o666)
    await client.write_fid(fid, b"kept")
    for mode in (OREAD, OWRITE, ORDWR | OTRUNC):
        await refused(E.BUSY, client.open("lock", mode))
    assert (inside / "lock").read_bytes() == b"kept"
    client.server.clunk(fid)
    again = await client.open("lock", ORDWR)
    await refused(E.BUSY, client.open("lock"))
    client.server.clunk(again)
    assert await client.read("lock") == b"kept"
    assert (await client.stat("lock")).mode & ~0o777 == DMEXCL
    client.close()


async def test_these_bits_outlive_the_server_and_are_set_and_taken_by_the_mode(tree: KeepingTree, inside: Path) -> None:
    client = Client(HostServer(real_world(), tree))
    await client.wstat("d/f", SetStat(mode=DMAPPEND | DMEXCL | 0o640))
    client.close()
    other = Client(HostServer(real_world(), tree))
    assert (await other.stat("d/f")).mode == DMAPPEND | DMEXCL | 0o640
    fid = await other.open("d/f", OWRITE)
    await refused(E.BUSY, other.open("d/f"))
    await other.wstat("d/f", SetStat(mode=0o600))
    assert (await other.stat("d/f")).mode == 0o600
    assert (inside / "d/f").stat().st_mode & 0o7777 == 0o600
    assert os.listxattr(inside / "d/f") == []
    other.server.clunk(fid)
    client.server.clunk(await other.open("d/f"))
    other.close()


async def test_they_are_for_plain_files_and_their_attribute_is_nobodys_to_change(tree: KeepingTree) -> None:
    client = Client(HostServer(real_world(), tree))
    await refused(E.NOTSUP, client.create("dir", DMDIR | DMAPPEND | 0o777, OREAD))
    await refused(E.NOTSUP, client.wstat("d", SetStat(mode=DMDIR | DMEXCL | 0o777)))
    client.server.clunk(await client.create("log", DMAPPEND | 0o666))
    fid, server = await client.walk("log"), client.server
    assert await done(server.listxattr(fid)) == []
    await refused(E.NOTSUP, done(server.getxattr(fid, MARKS)))
    await refused(E.NOTSUP, done(server.setxattr(fid, MARKS, b"", 0)))
    await refused(E.NOTSUP, done(server.removexattr(fid, MARKS)))
    server.clunk(fid)
    assert sorted(await client.names("")) == ["d", "log"]
    client.close()


async def test_a_sticky_bit_of_the_hosts_own_is_no_mark(tree: KeepingTree, inside: Path) -> None:
    (inside / "d/f").chmod(0o1644)
    os.setxattr(inside / "d/f", "user.other", b"x")
    client = Client(HostServer(real_world(), tree))
    assert (await client.stat("d/f")).mode == DMSETVTX | 0o644
    first, second = await client.open("d/f"), await client.open("d/f")
    client.server.clunk(first)
    client.server.clunk(second)
    client.close()


async def test_where_no_attribute_can_be_kept_nothing_is_made_and_nothing_changed(failing: FailingTree) -> None:
    client = Client(HostServer(real_world(), failing))
    failing.refuse_attributes = True
    await refused(E.NOTSUP, client.create("log", DMAPPEND | 0o666))
    await refused(E.NOTSUP, client.wstat("d/f", SetStat(mode=DMEXCL | 0o600, length=0)))
    failing.refuse_attributes, failing.refuse_change = False, True
    await refused(E.IO, client.create("log", DMAPPEND | 0o666))
    await refused(E.IO, client.wstat("d/f", SetStat(mode=DMEXCL | 0o600)))
    failing.refuse_change = False
    assert await client.names("") == ["d"]
    fid = await client.walk("d/f")
    assert await done(client.server.listxattr(fid)) == []
    client.server.clunk(fid)
    assert not (await client.stat("d/f")).mode & DMEXCL
    assert await client.read("d/f") == b"file"
    client.close()


async def test_who_gives_up_opening_a_file_for_exclusive_use_does_not_keep_it(tree: KeepingTree) -> None:
    client = Client(HostServer(real_world(), tree))
    client.server.clunk(await client.create("lock", DMEXCL | 0o666))
    for _ in range(20):
        fid = await client.walk("lock")
        opening = asyncio.ensure_future(done(client.server.open(fid, ORDWR, client.caller)))
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        client.server.clunk(fid)
    client.server.clunk(await client.open("lock"))
    client.close()


class FailingTree(KeepingTree):
    """Refuses to tell about, or to change, files from some call on."""

    stats_left = 1 << 30
    refuse_change = False
    refuse_attributes = False

    def setxattr(self, node: HostNode, name: str, value: bytes, flags: int) -> None:
        if self.refuse_attributes:
            raise FileError(E.NOTSUP)
        super().setxattr(node, name, value, flags)

    def stat(self, node: HostNode) -> HostStat:
        self.stats_left -= 1
        if self.stats_left < 0:
            raise FileError(E.IO)
        return super().stat(node)

    def change(self, node: HostNode, **changes: int | None) -> None:
        if self.refuse_change:
            raise FileError(E.IO)
        super().change(node, **changes)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[FailingTree]:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"file")
    before = len(os.listdir("/dev/fd"))
    made = FailingTree(str(tmp_path))
    yield made
    made.close()
    assert len(os.listdir("/dev/fd")) == before, "a handle of the host is left open"


@pytest.mark.parametrize("stats", range(4))
@pytest.mark.parametrize("call", [*CALLS, "open", "readdir"])
async def test_a_request_that_fails_on_its_way_leaves_no_handle(failing: FailingTree, call: str, stats: int) -> None:
    server = HostServer(world_with(CountingThreads()), failing)
    client = Client(server)
    root, file, listing = await client.walk(""), await client.walk("d/f"), await client.open("")
    calls: dict[str, Callable[[HostServer, Any], Any]] = {
        **CALLS,
        "open": lambda server, fid: server.open(file, ORDWR, Somebody()),
        "readdir": lambda server, fid: server.readdir(listing, 0, 10),
    }
    failing.stats_left = stats
    result: Any = None
    failed = False
    try:
        result = await done(calls[call](server, root))
    except FileError as error:
        failed = error.error is E.IO
    assert failed or result is not None
    made = getattr(result, "fid", result)
    for fid in [root, file, listing, *([made] if isinstance(made, HostFid) and made is not file else [])]:
        server.clunk(fid)
    client.close()


async def test_a_wstat_that_fails_takes_its_rename_back(failing: FailingTree, tmp_path: Path) -> None:
    client = Client(HostServer(world_with(CountingThreads()), failing))
    failing.refuse_change = True
    await refused(E.IO, client.wstat("d/f", SetStat(name="g", mode=0o600)))
    assert os.listdir(tmp_path / "d") == ["f"]
    client.close()


async def test_a_large_directory_comes_in_bounded_pieces(tree: KeepingTree, inside: Path) -> None:
    for number in range(LIST_LIMIT + 10):
        (inside / str(number)).touch()
    client = Client(HostServer(world_with(CountingThreads()), tree))
    fid = await client.open("")
    assert len(await done(client.server.readdir(fid, 0, 1 << 20))) == LIST_LIMIT
    client.server.clunk(fid)
    assert len(await client.names("", 1 << 20)) == LIST_LIMIT + 11
    client.close()


def stat_of(identity: tuple[int, int]) -> HostStat:
    return HostStat("-", 0o644, 1, 2, 3, 4, identity, 1, "u", "g", 0, 0)


def test_qid_numbers_never_collide(tree: KeepingTree) -> None:
    server = HostServer(real_world(), tree)
    identities = [
        (device, inode) for device in (5, 1 << 40, 7) for inode in (1, 2, (1 << 47) - 1, 1 << 47, (1 << 64) - 1)
    ]
    numbers = [server._qid(stat_of(identity)).path for identity in identities]
    assert len(set(numbers)) == len(identities)
    assert all(0 <= number < 1 << 64 for number in numbers)
    assert numbers == [server._qid(stat_of(identity)).path for identity in identities]


def identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


async def test_what_is_hidden_does_not_exist_by_any_name(tree: KeepingTree, inside: Path) -> None:
    secret = inside / "d" / "home"
    (secret / "below").mkdir(parents=True)
    (secret / "key").write_bytes(b"secret")
    (inside / "d" / "way").symlink_to("home")
    (inside / "empty").mkdir()
    client = Client(HostServer(real_world(), tree, hidden=Secrets({identity(secret)})))
    assert await client.names("d") == ["f", "way"]
    for path in ("d/home", "d/home/key", "d/home/below"):
        await refused(E.NOENT, client.walk(path))
    await refused(E.NOTDIR, client.walk("d/way/key"))
    for call, error in (
        (client.rename("d/home", "d/moved"), E.NOENT),
        (client.rename("empty", "d/home"), E.NOENT),
        (client.rename("d/f", "d/home"), E.NOENT),
        (client.wstat("d/f", SetStat(name="home")), E.NOENT),
        (client.create("d/home"), E.EXIST),
        (client.mkdir("d/home"), E.EXIST),
        (client.symlink("d/home", "x"), E.EXIST),
        (client.remove("d/home"), E.NOENT),
    ):
        await refused(error, call)
    top, below = await client.walk(""), await client.walk("d")
    await refused(E.NOENT, done(client.server.rename(below, "home", top, "moved")))
    await refused(E.NOENT, done(client.server.rename(top, "empty", below, "home")))
    client.server.clunk(top)
    client.server.clunk(below)
    # Moved by the host itself, or with the directory it is in, it stays hidden.
    await client.rename("d", "e")
    (inside / "e" / "home").rename(inside / "elsewhere")
    await refused(E.NOENT, client.walk("elsewhere"))
    assert await client.names("") == ["e", "empty"]
    client.close()
    assert (inside / "elsewhere" / "key").read_bytes() == b"secret"


async def test_an_empty_directory_that_is_hidden_is_not_replaced_nor_removed(tree: KeepingTree, inside: Path) -> None:
    (inside / "home").mkdir()
    hidden = identity(inside / "home")
    client = Client(HostServer(real_world(), tree, hidden=Secrets({hidden})))
    (inside / "new").mkdir()
    await refused(E.NOENT, client.rename("new", "home"))
    await refused(E.NOENT, client.remove("home"))
    client.close()
    assert identity(inside / "home") == hidden


async def test_a_hidden_file_does_not_exist_by_another_name_of_its_either(tree: KeepingTree, inside: Path) -> None:
    (inside / "key").write_bytes(b"secret")
    (inside / "d" / "copy").hardlink_to(inside / "key")
    client = Client(HostServer(real_world(), tree, hidden=Secrets({identity(inside / "key")})))
    for path in ("key", "d/copy"):
        await refused(E.NOENT, client.walk(path))
        await refused(E.NOENT, client.remove(path))
    await refused(E.NOENT, client.rename("d/copy", "d/f"))
    await refused(E.NOENT, client.rename("d/f", "d/copy"))
    assert await client.names("d") == ["f"]
    client.close()
    assert (inside / "d" / "copy").read_bytes() == b"secret"


async def test_the_hosts_processes_do_not_exist() -> None:
    world = real_world()
    for hidden in (Secrets(mounts=world.disk.mounts), Secrets({(0, 0)}, world.disk.mounts)):
        client = Client(HostServer(world, world.disk.tree("/"), hidden=hidden))
        for path in ("proc", "proc/self/mem", f"proc/{os.getpid()}/environ", "proc/self/root/etc"):
            await refused(E.NOENT, client.walk(path))
        assert "proc" not in await client.names("/")
        assert "etc" in await client.names("/")
        client.close()


@pytest.mark.parametrize(
    ("kind", "number", "hides"),
    [
        ("b", (8, 0), True),
        *(("c", number, True) for number in sorted(MEMORY)),
        ("c", (1, 3), False),
        ("-", (0, 0), False),
    ],
)
def test_raw_memory_and_raw_disks_are_hidden(kind: str, number: tuple[int, int], hides: bool) -> None:
    assert Secrets().hides(stat_of((1, 2))._replace(kind=kind, number=number)) is hides


def test_a_file_system_is_judged_each_time_it_is_entered() -> None:
    mounted = {7: "ext4", 8: "proc"}
    secrets = Secrets(mounts=lambda: mounted)
    assert [secrets.hides_below(device) for device in (6, 7, 8)] == [False, False, True]
    mounted.update({7: "proc", 8: "tmpfs"})  # numbers are used again
    assert [secrets.hides_below(device) for device in (7, 8)] == [True, False]
