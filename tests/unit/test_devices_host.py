"""Directories of the host as a file server: nothing leads out, and what a file is shown to be, or hidden."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognu.devices.hidden import MEMORY, Secrets
from cognu.devices.host import LIST_LIMIT, HostServer
from cognu.errors import E
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
from cognu.world import MARKS, HostStat
from cognu.world.real import real_world
from host_kit import CountingThreads, FailingTree, refused, small_tree, walked, world_with
from serving import Client, KeepingTree, done


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


# -- permissions of what is new ---------------------------------------------------------------------------------------


async def test_what_is_made_has_none_of_the_umask(tree: KeepingTree, inside: Path) -> None:
    """In a directory that gives all of it away; cp and mv say what more it is to have."""
    os.chmod(inside, 0o1777)
    client = Client(HostServer(real_world(), tree, umask=0o077))
    client.server.clunk(await client.create("file"))
    client.server.clunk(await client.create("program", 0o755))
    await client.mkdir("directory")
    directory = await client.walk("")
    await done(client.server.mknod(directory, "pipe", DMNAMEDPIPE | 0o666, 0, 0))
    client.server.clunk(directory)
    modes = {name: stat.S_IMODE((inside / name).stat().st_mode) for name in os.listdir(inside)}
    assert modes | {"d": 0} == {"d": 0, "file": 0o600, "program": 0o700, "directory": 0o700, "pipe": 0o600}
    await client.wstat("file", SetStat(mode=0o644))
    assert stat.S_IMODE((inside / "file").stat().st_mode) == 0o644
    client.close()


async def test_an_append_only_file_has_none_of_the_umask(tree: KeepingTree, inside: Path) -> None:
    os.chmod(inside, 0o777)
    client = Client(HostServer(real_world(), tree, umask=0o077))
    client.server.clunk(await client.create("log", DMAPPEND | 0o666))
    assert stat.S_IMODE((inside / "log").stat().st_mode) & 0o777 == 0o600
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
