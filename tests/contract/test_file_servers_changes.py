"""What every writable file server promises of removing, renaming, attributes, links and locks."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from functools import partial

import pytest

from cognu.devices.host import HostServer
from cognu.errors import E, FileError
from cognu.files.mount import MountServer
from cognu.files.server import LOCK_END, Lock, Notice, Owner, Then
from cognu.ninep.messages import Dialect
from cognu.ninep.types import (
    DMBLOCK,
    DMDEVICE,
    DMDIR,
    DMNAMEDPIPE,
    DMSOCKET,
    DMSYMLINK,
    ORCLOSE,
    ORDWR,
    OREAD,
    OWRITE,
    QTSYMLINK,
    XATTR_CREATE,
    XATTR_REPLACE,
    SetStat,
)
from cognu.ninep.watches import ASKED, GONE, MADE, REMOVED, RENAMED
from contract.servers import Foreseeing, refused
from serving import Client, done
from watched import Noted


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


# -- change notices --


async def test_what_changes_is_told_or_it_is_refused_to_tell(client: Client) -> None:
    """Where it can't be told one has to look: on the older dialects, and on a host that is not Linux."""
    await client.mkdir("d")
    fid, noted = await client.walk("d"), Noted()
    server = client.server
    older = isinstance(server, MountServer) and server.dialect is not Dialect.NG
    if older or (isinstance(server, HostServer) and sys.platform != "linux"):
        await refused(E.NOTSUP, lambda: server.watch(fid, ASKED, noted))
        server.clunk(fid)
        return
    end = await done(server.watch(fid, ASKED, noted))
    server.clunk(fid)
    await client.put("d/a", b"")
    assert (await noted.all(1))[0] == (MADE, "a")
    await client.wstat("d/a", SetStat(name="b"))
    await noted.all(2)
    assert noted.notices[1] == Notice(RENAMED, "a", "b")
    await client.remove("d/b")
    assert (await noted.all(3))[2:] == [(REMOVED, "b")]
    await client.remove("d")
    assert (await noted.all(4))[3] == (GONE, "")
    end()
