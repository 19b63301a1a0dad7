"""What every writable file server promises, whatever it keeps its files in."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cognu.devices.host import HostServer
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.mount import MountServer
from cognu.files.process import Process
from cognu.files.server import LOCK_END, OAPPEND, Fid, Lock, Owner, Then
from cognu.files.steps import Steps
from cognu.ninep.messages import Dialect
from cognu.ninep.types import (
    DMBLOCK,
    DMDEVICE,
    DMDIR,
    DMNAMEDPIPE,
    DMSOCKET,
    DMSYMLINK,
    OEXEC,
    ORCLOSE,
    ORDWR,
    OREAD,
    OTRUNC,
    OWRITE,
    QTDIR,
    QTSYMLINK,
    XATTR_CREATE,
    XATTR_REPLACE,
    SetStat,
)
from cognu.world.net import SocketStream
from cognu.world.real import RealClock, real_world
from serving import Client, KeepingTree, Node, done


async def ram(_: Path) -> AsyncIterator[Client]:
    client = Client(RamServer(RealClock()))
    yield client
    client.close()


async def host(path: Path) -> AsyncIterator[Client]:
    before = len(os.listdir("/dev/fd"))
    os.chmod(path, 0o777)
    tree = KeepingTree(str(path))
    client = Client(HostServer(real_world(), tree))
    yield client
    client.close()
    tree.close()
    assert len(os.listdir("/dev/fd")) == before, "a handle of the host is left open"


class Foreseeing(Client):
    """Says with each walk what may come next, whatever comes, and has its writes accepted before they are there."""

    then = Then.READ

    async def walk(self, path: str) -> Fid:
        above, _, name = path.strip("/").rpartition("/")
        directory = await super().walk(above)
        if not name:
            return directory
        try:
            walked = await done(self.server.walk_to(directory, [name], self.caller, self.then))
        finally:
            self.server.clunk(directory)
        self.then = {Then.READ: Then.STAT, Then.STAT: Then.LIST, Then.LIST: Then.READ}[self.then]
        assert walked.fid is not None
        return walked.fid

    async def write_fid(self, fid: Fid, data: bytes, offset: int = 0) -> int:
        count = await done(self.server.accept(fid, offset, memoryview(data)))
        await done(self.server.settle(fid))
        return count


async def far(
    path: Path, offer: Dialect = Dialect.NG, of: Callable[[MountServer], Client] = Client
) -> AsyncIterator[Client]:
    """The memory server of another process, by 9P over a socket."""
    process = await Node(RamServer(RealClock())).start()
    here, there = map(SocketStream, socket.socketpair(), ("here", "there"))
    serving = asyncio.ensure_future(Export(there, process, lambda user, aname: attach_root(process)).serve())
    mount = await MountServer.connect(here, RealClock(), offer=offer)
    client = of(mount)
    yield client
    client.close()
    await mount.close()
    await serving


def far_u(path: Path) -> AsyncIterator[Client]:
    return far(path, Dialect.U)


def far_l(path: Path) -> AsyncIterator[Client]:
    return far(path, Dialect.L)


def foreseen(path: Path) -> AsyncIterator[Client]:
    return far(path, of=Foreseeing)


SERVERS: dict[str, Callable[[Path], AsyncIterator[Client]]] = {
    "ram": ram, "host": host, "far": far, "far.u": far_u, "far.l": far_l, "foreseen": foreseen,
}  # fmt: skip


@pytest.fixture(params=SERVERS)
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    async for made in SERVERS[request.param](tmp_path):
        yield made


@pytest.fixture(params=["ram", "host", "far", "foreseen"])
async def linux(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    async for made in SERVERS[request.param](tmp_path):
        yield made


@pytest.fixture(params=["ram", "host"])
async def local(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    """For what 9P has no words for, or says with another error."""
    async for made in SERVERS[request.param](tmp_path):
        yield made


def attach_root(process: Process) -> Steps[Chan]:
    return process.namespace.root.share()
    yield


async def refused(error: E, call: Awaitable[Any] | Callable[[], Any]) -> None:
    with pytest.raises(FileError) as caught:
        await done(call() if callable(call) else call)
    # The errno is what every dialect and every client tells apart.
    assert caught.value.errno == error.errno, caught.value


async def test_what_is_written_is_read_back(client: Client) -> None:
    await client.put("a", b"hello")
    assert await client.read("a") == b"hello"
    stat = await client.stat("a")
    assert (stat.name, stat.length, stat.mode) == ("a", 5, 0o666)


async def test_reads_stop_at_the_end_and_give_what_was_asked(client: Client) -> None:
    await client.put("a", b"0123456789")
    fid = await client.open("a")
    assert await client.read_fid(fid, 4, 3) == b"3456"
    assert await client.read_fid(fid, 4, 8) == b"89"
    assert await client.read_fid(fid, 4, 10) == b""
    assert await client.read_fid(fid, 4, 1 << 40) == b""
    assert await client.read_fid(fid, 0, 0) == b""
    client.server.clunk(fid)


async def test_a_write_beyond_the_end_leaves_zeros_between(client: Client) -> None:
    await client.put("a", b"x")
    assert await client.write("a", b"yz", offset=4) == 2
    assert await client.read("a") == b"x\0\0\0yz"
    assert await client.write("a", b"", offset=100) == 0
    assert (await client.stat("a")).length == 6


async def test_a_write_within_changes_only_its_bytes(client: Client) -> None:
    await client.put("a", b"0123456789")
    assert await client.write("a", b"XY", offset=3) == 2
    assert await client.read("a") == b"012XY56789"


async def test_truncating_at_open_empties_and_plain_open_does_not(client: Client) -> None:
    await client.put("a", b"hello")
    client.server.clunk(await client.open("a", OWRITE))
    assert await client.read("a") == b"hello"
    client.server.clunk(await client.open("a", OWRITE | OTRUNC))
    assert await client.read("a") == b""
    await client.write("a", b"again")
    client.server.clunk(await client.open("a", OREAD | OTRUNC))
    assert await client.read("a") == b""


async def test_append_writes_go_to_the_end_whatever_their_offset(client: Client) -> None:
    await client.put("a", b"one")
    assert await client.write("a", b"two", OWRITE | OAPPEND, offset=0) == 3
    assert await client.read("a") == b"onetwo"


async def test_length_is_set_by_wstat_both_ways(client: Client) -> None:
    await client.put("a", b"hello")
    await client.wstat("a", SetStat(length=2))
    assert await client.read("a") == b"he"
    await client.wstat("a", SetStat(length=4))
    assert await client.read("a") == b"he\0\0"


async def test_what_attributes_can_not_be_is_refused(local: Client) -> None:
    await local.put("a", b"x")
    await refused(E.INVAL, local.wstat("a", SetStat(length=-1)))
    await refused(E.PERM, local.wstat("a", SetStat(mode=DMDIR | 0o777)))
    await refused(E.ISDIR, local.create("d", DMDIR | 0o777, ORDWR))
    assert await local.names("") == ["a"]
    assert await local.read("a") == b"x"


async def test_only_plain_files_have_a_length_to_set(client: Client) -> None:
    await client.mkdir("d")
    await client.symlink("s", "d")
    await refused(E.ISDIR, client.wstat("d", SetStat(length=1)))
    await client.wstat("d", SetStat(length=0, mode=DMDIR | 0o700))
    assert (await client.stat("d")).mode == DMDIR | 0o700
    with pytest.raises(FileError):
        await client.wstat("s", SetStat(length=0))


async def test_an_open_file_is_used_only_as_it_was_opened(client: Client) -> None:
    await client.put("a", b"x")
    for mode, readable, writable in (
        (OREAD, True, False),
        (OWRITE, False, True),
        (ORDWR, True, True),
        (OEXEC, True, False),
    ):
        fid = await client.open("a", mode)
        if readable:
            assert await client.read_fid(fid) == b"x"
        else:
            await refused(E.BADF, client.read_fid(fid))
        if writable:
            assert await client.write_fid(fid, b"x") == 1
        else:
            await refused(E.BADF, client.write_fid(fid, b"x"))
        client.server.clunk(fid)
    fid = await client.walk("a")
    await refused(E.BADF, client.read_fid(fid))
    await refused(E.BADF, client.write_fid(fid, b"x"))
    client.server.clunk(fid)


async def test_a_file_is_opened_for_writing_by_who_makes_it_read_only(client: Client) -> None:
    fid = await client.create("a", 0o444, ORDWR)
    assert await client.write_fid(fid, b"hi") == 2
    assert await client.read_fid(fid) == b"hi"
    client.server.clunk(fid)
    assert (await client.stat("a")).mode == 0o444


async def test_the_directorys_permissions_bound_the_new_files(client: Client) -> None:
    client.server.clunk(await client.create("d", DMDIR | 0o750, OREAD))
    await client.put("d/f")
    client.server.clunk(await client.create("d/s", DMDIR | 0o777, OREAD))
    assert (await client.stat("d/f")).mode == 0o640
    assert (await client.stat("d/s")).mode == DMDIR | 0o750


async def test_creating_what_is_there_is_refused_and_changes_nothing(client: Client) -> None:
    await client.put("a", b"kept")
    await refused(E.EXIST, client.create("a"))
    await refused(E.EXIST, client.create("a", DMDIR | 0o777, OREAD))
    assert await client.read("a") == b"kept"


@pytest.mark.parametrize(("name", "error"), [("", E.INVAL), (".", E.INVAL), ("..", E.INVAL), ("a/b", E.INVAL)])
async def test_what_is_no_name_can_not_be_created(local: Client, name: str, error: E) -> None:
    root = await local.walk("")
    await refused(error, lambda: local.server.create(root, name, 0o666, ORDWR, local.caller))
    local.server.clunk(root)
    assert await local.names("") == []


async def test_names_have_a_limit_and_any_utf8(client: Client) -> None:
    await refused(E.NAMETOOLONG, client.create("x" * 256))
    for name in ("x" * 255, "ü" * 127, "a b", "'", "\n", "-rf"):
        await client.put(name, name.encode())
        assert await client.read(name) == name.encode()


async def test_files_are_made_in_directories_only(client: Client) -> None:
    await client.put("a")
    await refused(E.NOTDIR, client.create("a/b"))
    await refused(E.NOTDIR, client.walk("a/b"))
    assert await client.names("") == ["a"]


async def test_a_walk_that_fails_later_tells_how_far_it_came(client: Client) -> None:
    await client.mkdir("d")
    await client.put("d/f")
    root = await client.walk("")
    walked = await done(client.server.walk(root, ["d", "f", "x"], client.caller))
    assert walked.fid is None
    assert [qid.type & QTDIR for qid in walked.qids] == [QTDIR, 0]
    assert walked.qids[1] == (await client.stat("d/f")).qid
    await refused(E.NOENT, lambda: client.server.walk(root, ["none", "f"], client.caller))
    walked = await done(client.server.walk(root, ["d", "f"], client.caller))
    assert walked.fid is not None
    assert len(walked.qids) == 2
    client.server.clunk(walked.fid)
    client.server.clunk(root)


async def test_dot_dot_goes_up_and_stays_at_the_root(client: Client) -> None:
    await client.mkdir("d")
    await client.mkdir("d/e")
    fid = await client.walk("d/e")
    for expected in ("d", "/", "/"):
        walked = await done(client.server.walk(fid, [".."], client.caller))
        assert walked.fid is not None
        client.server.clunk(fid)
        fid = walked.fid
        assert (await done(client.server.stat(fid))).name == expected
    client.server.clunk(fid)


async def test_dot_dot_of_a_moved_directory_is_where_it_was_walked_from(linux: Client) -> None:
    for path in ("a", "a/b", "c", "secret"):
        await linux.mkdir(path)
    fid = await linux.walk("a/b")
    await linux.rename("a/b", "c/b")
    walked = await done(linux.server.walk(fid, [".."], linux.caller))
    assert walked.fid is not None
    assert (await done(linux.server.stat(walked.fid))).name == "a"
    linux.server.clunk(walked.fid)
    linux.server.clunk(fid)


async def test_a_fid_follows_the_renames_of_what_is_above_it(local: Client) -> None:
    await local.mkdir("a")
    await local.mkdir("a/b")
    await local.put("a/b/f", b"x")
    fid = await local.walk("a/b/f")
    await local.rename("a", "z")
    await done(local.server.wstat(fid, SetStat(name="g")))
    assert await local.read("z/b/g") == b"x"
    assert (await done(local.server.stat(fid))).name == "g"
    await done(local.server.remove(fid))
    local.server.clunk(fid)
    assert await local.names("z/b") == []


async def test_a_cloned_fid_lives_apart(client: Client) -> None:
    await client.put("a", b"x")
    fid = await client.walk("a")
    twin = (await done(client.server.walk(fid, [], client.caller))).fid
    assert twin is not None
    client.server.clunk(fid)
    opened = await done(client.server.open(twin, OREAD, client.caller))
    assert await client.read_fid(opened) == b"x"
    client.server.clunk(opened)


async def test_a_directory_is_read_in_pieces_by_cookie(client: Client) -> None:
    expected = sorted(f"f{number:02d}" for number in range(25))
    for name in expected:
        await client.put(name, name.encode())
    await client.mkdir("sub")
    for count in (1, 7, 100):
        assert await client.names("", count) == [*expected, "sub"]
    for entry in await client.entries("", 3):
        stat = await client.stat(entry.name)
        assert entry.stat in (None, stat)
        assert entry.qid == stat.qid


async def test_reading_a_directory_goes_on_from_any_cookie_and_starts_anew_from_0(client: Client) -> None:
    for name in "abcdef":
        await client.put(name)
    fid = await client.open("")
    whole = await done(client.server.readdir(fid, 0, 100))
    assert await done(client.server.readdir(fid, whole[2].cookie, 2)) == whole[3:5]
    assert await done(client.server.readdir(fid, whole[-1].cookie, 2)) == []
    await client.put("g")
    assert len(await done(client.server.readdir(fid, 0, 100))) == 7
    client.server.clunk(fid)


async def test_what_goes_away_while_a_directory_is_read_ends_nothing(client: Client) -> None:
    for name in "abcdefgh":
        await client.put(name)
    fid = await client.open("")
    first = await done(client.server.readdir(fid, 0, 2))
    gone = {"a", "b", "c", "d", "e", "f", "g", "h"} - {entry.name for entry in first}
    for name in sorted(gone)[1:]:
        await client.remove(name)
    seen = [entry.name for entry in first]
    cookie = first[-1].cookie
    while batch := await done(client.server.readdir(fid, cookie, 1)):
        seen += [entry.name for entry in batch]
        cookie = batch[-1].cookie
    assert sorted(gone)[0] in seen
    client.server.clunk(fid)


async def test_files_are_not_read_as_directories_nor_directories_as_files(client: Client) -> None:
    await client.mkdir("d")
    await client.put("f")
    fid = await client.open("f")
    await refused(E.NOTDIR, lambda: client.server.readdir(fid, 0, 10))
    client.server.clunk(fid)
    fid = await client.open("d")
    await refused(E.ISDIR, client.read_fid(fid))
    client.server.clunk(fid)
    await refused(E.ISDIR, client.open("d", OWRITE))
    await refused(E.ISDIR, client.open("d", OREAD | OTRUNC))


async def test_removed_is_gone_for_new_walks_and_for_unopened_fids(client: Client) -> None:
    await client.put("a", b"x")
    if isinstance(client, Foreseeing):
        client.then = Then.STAT  # what was opened with the walk stays, as whatever is open
    walked = await client.walk("a")
    await client.remove("a")
    await refused(E.NOENT, client.walk("a"))
    await refused(E.NOENT, lambda: client.server.stat(walked))
    await refused(E.NOENT, lambda: client.server.open(walked, OREAD, client.caller))
    await refused(E.NOENT, lambda: client.server.remove(walked))
    client.server.clunk(walked)


async def test_removed_stays_for_who_has_it_open(client: Client) -> None:
    await client.put("a", b"before")
    fid = await client.open("a", ORDWR)
    await client.remove("a")
    await client.put("a", b"other")
    assert await client.read_fid(fid) == b"before"
    assert await client.write_fid(fid, b"AFTER") == 5
    assert await client.read_fid(fid) == b"AFTERe"
    assert (await done(client.server.stat(fid))).length == 6
    client.server.clunk(fid)
    assert await client.read("a") == b"other"


async def test_a_fid_of_a_removed_file_removes_no_other_of_that_name(client: Client) -> None:
    await client.put("a", b"old")
    fid = await client.open("a")
    await client.rename("a", "b")
    await client.put("a", b"new")
    await done(client.server.remove(fid))
    client.server.clunk(fid)
    assert await client.names("") == ["a"]
    assert await client.read("a") == b"new"


async def test_only_empty_directories_are_removed(client: Client) -> None:
    await client.mkdir("d")
    await client.put("d/f")
    await refused(E.NOTEMPTY, client.remove("d"))
    await client.remove("d/f")
    await client.remove("d")
    assert await client.names("") == []


async def test_the_root_is_neither_removed_nor_renamed(local: Client) -> None:
    await refused(E.BUSY, local.remove(""))
    await refused(E.INVAL, local.wstat("", SetStat(name="x")))
    assert (await local.stat("")).name == "/"


async def test_remove_on_close(client: Client) -> None:
    fid = await client.create("a", 0o666, ORDWR | ORCLOSE)
    await client.write_fid(fid, b"x")
    assert await client.names("") == ["a"]
    client.server.clunk(fid)
    assert await client.names("") == []
    await client.put("b")
    client.server.clunk(await client.open("b", OREAD | ORCLOSE))
    assert await client.names("") == []


async def test_remove_on_close_of_what_is_gone_or_filled_harms_nobody(client: Client) -> None:
    fid = await client.create("a", 0o666, ORDWR | ORCLOSE)
    await client.remove("a")
    await client.put("a", b"another")
    client.server.clunk(fid)
    assert await client.read("a") == b"another"
    directory = await client.create("d", DMDIR | 0o777, OREAD | ORCLOSE)
    await client.put("d/f")
    client.server.clunk(directory)
    assert await client.names("d") == ["f"]


async def test_wstat_renames_within_the_directory_to_a_free_name(local: Client) -> None:
    await local.put("a", b"x")
    await local.put("b", b"y")
    await refused(E.EXIST, local.wstat("a", SetStat(name="b")))
    for bad in ("", ".", "..", "x/y"):
        await refused(E.INVAL, local.wstat("a", SetStat(name=bad)))
    qid = (await local.stat("a")).qid
    await local.wstat("a", SetStat(name="c"))
    assert await local.names("") == ["b", "c"]
    assert (await local.stat("c")).qid.path == qid.path
    await local.wstat("c", SetStat(name="c"))
    assert await local.read("c") == b"x"


async def test_wstat_does_all_or_nothing(local: Client) -> None:
    await local.put("a", b"hello")
    before = await local.stat("a")
    await refused(E.PERM, local.wstat("a", SetStat(name="b", length=0, user="nobody-of-that-name")))
    await refused(E.INVAL, local.wstat("a", SetStat(name="b", length=-1, mode=0o600)))
    assert await local.names("") == ["a"]
    assert replace(await local.stat("a"), ctime=0) == replace(before, ctime=0)


async def test_mode_and_times_are_set(linux: Client) -> None:
    await linux.put("a")
    await linux.wstat("a", SetStat(mode=0o640, mtime=1_000_000_007, atime=5_000_000_003))
    stat = await linux.stat("a")
    assert (stat.mode, stat.mtime, stat.atime) == (0o640, 1_000_000_007, 5_000_000_003)
    await linux.wstat("a", SetStat(mtime_now=True))
    assert (await linux.stat("a")).mtime > 1_000_000_007
    assert (await linux.stat("a")).atime == 5_000_000_003


async def test_the_version_tells_that_the_contents_changed(client: Client) -> None:
    await client.put("a", b"1")
    before = (await client.stat("a")).qid
    await client.write("a", b"22")
    after = (await client.stat("a")).qid
    assert after.path == before.path
    assert after.version != before.version


async def test_files_differ_in_their_qids(client: Client) -> None:
    for name in ("a", "b"):
        await client.put(name)
    await client.mkdir("d")
    await client.put("d/a")
    paths = [(await client.stat(path)).qid.path for path in ("", "a", "b", "d", "d/a")]
    assert len(set(paths)) == 5


async def test_rename_moves_and_replaces(linux: Client) -> None:
    await linux.mkdir("d")
    await linux.put("a", b"A")
    await linux.put("d/b", b"B")
    await linux.rename("a", "d/b")
    assert await linux.names("") == ["d"]
    assert await linux.read("d/b") == b"A"
    await linux.rename("d/b", "d/b")
    assert await linux.read("d/b") == b"A"


async def test_rename_refuses_what_rename_2_refuses(linux: Client) -> None:
    for path in ("d", "d/sub", "empty"):
        await linux.mkdir(path)
    await linux.put("f", b"f")
    await linux.put("d/g")
    await refused(E.NOENT, linux.rename("none", "x"))
    await refused(E.INVAL, linux.rename("d", "d/sub/d"))
    await refused(E.ISDIR, linux.rename("f", "empty"))
    await refused(E.NOTDIR, linux.rename("empty", "f"))
    await refused(E.NOTEMPTY, linux.rename("empty", "d"))
    await linux.rename("d", "empty")
    assert await linux.names("empty") == ["g", "sub"]
    assert await linux.names("") == ["empty", "f"]


async def test_a_symlink_is_shown_and_not_followed(client: Client) -> None:
    await client.mkdir("d")
    await client.put("d/f", b"x")
    await client.symlink("link", "d")
    stat = await client.stat("link")
    assert stat.qid.type == QTSYMLINK
    assert stat.mode & DMSYMLINK
    assert await client.readlink("link") == "d"
    assert stat.length == 1
    root = await client.walk("")
    walked = await done(client.server.walk(root, ["link", "f"], client.caller))
    assert walked.fid is None
    assert [qid.type for qid in walked.qids] == [QTSYMLINK]
    client.server.clunk(root)
    await refused(E.LOOP, client.open("link"))
    await refused(E.EXIST, client.symlink("d", "x"))
    await refused(E.NOENT, client.symlink("empty", ""))
    await refused(E.INVAL, client.readlink("d/f"))
    await client.remove("link")
    assert await client.read("d/f") == b"x"


async def test_pipes_and_sockets_are_names_that_clients_know_what_to_do_with(client: Client) -> None:
    await client.mkdir("d")
    await client.mknod("d/pipe", DMNAMEDPIPE | 0o640)
    await client.mknod("d/socket", DMSOCKET | 0o666)
    assert (await client.stat("d/pipe")).mode == DMNAMEDPIPE | 0o640
    assert (await client.stat("d/socket")).mode == DMSOCKET | 0o666
    assert await client.names("d") == ["pipe", "socket"]
    await refused(E.NXIO, client.open("d/socket"))
    await refused(E.EXIST, client.mknod("d/pipe", DMNAMEDPIPE | 0o640))
    await client.remove("d/pipe")
    assert await client.names("d") == ["socket"]


async def test_no_device_is_made_by_a_name(client: Client) -> None:
    await refused(E.PERM, client.mknod("null", DMDEVICE | 0o666, 1, 3))
    await refused(E.PERM, client.mknod("disk", DMDEVICE | DMBLOCK | 0o666, 8, 0))
    assert await client.names("") == []


async def test_statfs_counts_in_blocks(linux: Client) -> None:
    fid = await linux.walk("")
    space = await done(linux.server.statfs(fid))
    assert space.bsize > 0
    assert 0 <= space.bfree <= space.blocks
    linux.server.clunk(fid)


async def test_sync_returns_when_what_was_written_is_safe(client: Client) -> None:
    fid = await client.create("a")
    await client.write_fid(fid, b"x")
    for data_only in (False, True):
        await done(client.server.sync(fid, data_only))
    client.server.clunk(fid)


async def test_no_aname_but_the_empty_one(local: Client) -> None:
    await refused(E.NOATTACH, lambda: local.server.attach(local.caller, "other"))


ME, OTHER = Owner(1, "host", 1), Owner(1, "host", 2)


async def test_ranges_are_locked_for_all_who_ask_for_locks(linux: Client) -> None:
    await linux.put("a", b"0123456789")
    await linux.put("b")
    server = linux.server
    first, second, other = await linux.open("a", ORDWR), await linux.open("a", ORDWR), await linux.open("b", ORDWR)
    whole = Lock(0, LOCK_END, True, OTHER)
    assert await done(server.lock_range(first, Lock(2, 4, True, ME), False))
    assert not await done(server.lock_range(second, whole, False))
    assert await done(server.lock_range(other, whole, False))
    found = await done(server.find_lock(second, whole))
    assert found is not None
    assert (found.begin, found.end, found.exclusive, found.owner.process) == (2, 4, True, 1)
    assert await done(server.lock_range(first, Lock(2, 3, False, ME), False))
    assert await done(server.lock_range(second, Lock(0, 3, False, OTHER), False))
    await done(server.unlock_range(second, Lock(3, 4, True, ME)))  # by whatever fid
    assert await done(server.lock_range(second, Lock(3, LOCK_END, True, OTHER), False))
    assert await linux.write_fid(first, b"x", 5) == 1  # it binds only those who ask
    server.clunk(first)
    assert await done(server.lock_range(second, whole, False))
    assert await done(server.find_lock(second, whole)) is None
    for fid in (second, other):
        server.clunk(fid)


async def test_who_waits_for_a_range_has_it_when_it_is_free(linux: Client) -> None:
    await linux.put("a")
    server = linux.server
    first, second = await linux.open("a", ORDWR), await linux.open("a", ORDWR)
    assert await done(server.lock_range(first, Lock(0, 1, True, ME), False))
    waiting = asyncio.ensure_future(done(server.lock_range(second, Lock(0, 1, True, OTHER), True)))
    assert not await done(server.lock_range(second, Lock(0, 1, True, OTHER), False))
    server.clunk(first)
    assert await waiting
    server.clunk(second)


async def test_a_file_is_locked_only_as_it_was_opened(linux: Client) -> None:
    await linux.put("a")
    reading, writing = await linux.open("a", OREAD), await linux.open("a", OWRITE)
    await refused(E.BADF, lambda: linux.server.lock_range(reading, Lock(0, 1, True, ME), False))
    await refused(E.BADF, lambda: linux.server.lock_range(writing, Lock(0, 1, False, ME), False))
    for fid in (reading, writing):
        linux.server.clunk(fid)


async def test_attributes_are_set_read_listed_and_removed(linux: Client) -> None:
    await linux.put("a", b"x")
    await linux.mkdir("d")
    server = linux.server
    for path in ("a", "d"):
        fid = await linux.walk(path)
        assert await done(server.listxattr(fid)) == []
        values = {"user.x": b"one", "user.ü": bytes(range(256)), "user.long": b"y" * 2000}
        for name, value in values.items():
            await done(server.setxattr(fid, name, value, 0))
        assert sorted(await done(server.listxattr(fid))) == sorted(values)
        assert {name: await done(server.getxattr(fid, name)) for name in values} == values
        await done(server.setxattr(fid, "user.x", b"two", XATTR_REPLACE))
        assert await done(server.getxattr(fid, "user.x")) == b"two"
        await refused(E.EXIST, partial(server.setxattr, fid, "user.x", b"three", XATTR_CREATE))
        await refused(E.NODATA, partial(server.setxattr, fid, "user.y", b"z", XATTR_REPLACE))
        await done(server.removexattr(fid, "user.x"))
        await refused(E.NODATA, partial(server.removexattr, fid, "user.x"))
        await refused(E.NODATA, partial(server.getxattr, fid, "user.x"))
        assert sorted(await done(server.listxattr(fid))) == ["user.long", "user.ü"]
        server.clunk(fid)
    assert await linux.read("a") == b"x"


async def test_an_attribute_may_be_empty(linux: Client) -> None:
    await linux.put("a")
    fid = await linux.open("a", OREAD)  # an open file has them too
    await done(linux.server.setxattr(fid, "user.none", b"", 0))
    assert await done(linux.server.getxattr(fid, "user.none")) == b""
    assert await done(linux.server.listxattr(fid)) == ["user.none"]
    linux.server.clunk(fid)


async def test_attributes_have_limits_and_are_called_user(linux: Client) -> None:
    await linux.put("a")
    await linux.symlink("s", "a")
    server = linux.server
    file, link = await linux.walk("a"), await linux.walk("s")
    for name in ("trusted.x", "security.capability", "system.posix_acl_access", "x"):
        await refused(E.NOTSUP, partial(server.setxattr, file, name, b"x", 0))
        await refused(E.NOTSUP, partial(server.getxattr, file, name))
        await refused(E.NOTSUP, partial(server.removexattr, file, name))
    await refused(E.INVAL, lambda: server.setxattr(file, "user.", b"x", 0))
    await refused(E.NAMETOOLONG, lambda: server.setxattr(file, "user." + "x" * 251, b"x", 0))
    await refused(E.NOTSUP, lambda: server.setxattr(link, "user.x", b"x", 0))
    with pytest.raises(FileError):
        await done(server.setxattr(file, "user.big", bytes((1 << 16) + 1), 0))
    assert await done(server.listxattr(file)) == []
    for fid in (file, link):
        server.clunk(fid)
