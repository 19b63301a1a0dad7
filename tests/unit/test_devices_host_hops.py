"""How requests to a directory of the host are carried out: few hops to threads, and no handle left, come what may."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cognu.devices.hidden import Secrets
from cognu.devices.host import HostServer
from cognu.devices.hostfids import HostFid
from cognu.errors import E, FileError
from cognu.ninep.types import DMDIR, ORDWR, OREAD, OWRITE, SetStat
from cognu.world import HostFile, HostNode, HostStat, HostSteps, WouldWait
from cognu.world.cached import can_open_cached
from cognu.world.host_tree import RealHostFile
from cognu.world.real import real_world
from host_kit import CountingThreads, FailingTree, refused, small_tree, walked, world_with
from serving import Client, KeepingTree, Somebody, done

T = TypeVar("T")


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
    with small_tree(tmp_path / "in", KeepingTree) as made:
        yield made


@pytest.fixture
def inside(tmp_path: Path, tree: KeepingTree) -> Path:
    return tmp_path / "in"


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[FailingTree]:
    with small_tree(tmp_path, FailingTree) as made:
        yield made


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


async def test_a_file_that_grew_since_its_opening_is_read_as_it_is(tree: KeepingTree, inside: Path) -> None:
    (inside / "log").write_bytes(b"x" * 10)
    client = Client(HostServer(real_world(), tree))
    fid = await client.open("log")
    grown = bytes(range(256)) * 4000
    (inside / "log").write_bytes(grown)
    for offset in (0, 65_536, 500_000):
        assert await done(client.server.read(fid, offset, 65_536)) == grown[offset : offset + 65_536]
    assert await done(client.server.read(fid, 0, 1 << 20)) == grown
    assert await done(client.server.read(fid, len(grown) - 5, 1 << 20)) == grown[-5:]
    assert await done(client.server.read(fid, len(grown), 1 << 20)) == b""
    client.server.clunk(fid)
    client.close()


@pytest.mark.parametrize("offset", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1])
async def test_an_offset_that_no_file_has_is_refused_without_the_hosts_names(
    tree: KeepingTree, inside: Path, offset: int
) -> None:
    (inside / "g").write_bytes(b"file")
    client = Client(HostServer(real_world(), tree))
    fid = await client.open("g", ORDWR)
    calls: list[Callable[[], Any]] = [
        lambda: client.server.read(fid, offset, 10),
        lambda: client.server.write(fid, offset, b"x"),
    ]
    for call in calls:
        with pytest.raises(FileError) as caught:
            await done(call())
        assert caught.value.error is E.INVAL
        assert str(inside) not in str(caught.value)
        assert "Python" not in str(caught.value)
    assert client.server.stored_now(fid, offset, 10) is None
    assert await done(client.server.read(fid, 1 << 62, 10)) == b""
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

    def look(self, node: HostNode, name: str) -> tuple[HostNode, HostStat]:
        self._count()
        return self._steps.look(node, name)

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


@pytest.mark.skipif(not can_open_cached(), reason="this host answers nothing from memory")
async def test_a_small_file_is_looked_at_once_when_it_is_walked_to_and_once_when_it_is_opened(
    tree: KeepingTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, me = HostServer(real_world(), tree, hidden=Secrets(frozenset({(0, 0)}))), Somebody()
    root = await server.attach(me, "")
    await done(server.stat(root))  # looks up who the owner is
    looks: list[int] = []
    look = os.fstat

    def counted(number: int) -> os.stat_result:
        looks.append(number)
        return look(number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", counted)
        walked_to = server.walk_now(root, ["d", "f"], me)
        assert walked_to is not None
        assert walked_to.fid is not None
        assert len(looks) == 2  # one for each name
        assert server.open_now(walked_to.fid, OREAD, me)
        assert server.read_now(walked_to.fid, 0, 9) == b"file"
        server.clunk(walked_to.fid)
        assert len(looks) == 3
    server.clunk(root)


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
