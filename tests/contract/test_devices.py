"""What every file server promises, whatever it serves: of walking, opening, reading, listing, refusing and telling.

Those that keep files that may be made and removed promise more: `test_file_servers.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognu.devices.cmd import CommandServer
from cognu.errors import E, FileError
from cognu.files.limits import Resource
from cognu.files.server import FileServer
from cognu.ninep.types import DMDIR, DMNAMEDPIPE, OEXEC, ORCLOSE, ORDWR, OREAD, OTRUNC, OWRITE, SetStat, Stat
from cognu.world.real import RealThreads
from contract.devices import DEVICES, Device, Means, far, means_of, near
from contract.servers import refused
from joined import idle
from serving import Client, done

Tree = dict[str, Stat]


class Bench(NamedTuple):
    device: Device
    client: Client
    tree: Tree
    means: Means


async def look(client: Client) -> Tree:
    """All files by their paths, the root as the empty one."""
    found = {"": await client.stat("")}
    waiting = [""]
    while waiting:
        above = waiting.pop()
        for entry in await client.entries(above):
            path = f"{above}/{entry.name}".lstrip("/")
            found[path] = await client.stat(path)
            if entry.qid.is_dir:
                waiting.append(path)
    return found


def same(before: Tree, after: Tree) -> bool:
    """Whether the same files are there, with the same modes; contents and times may be others."""
    return {path: (stat.qid, stat.mode) for path, stat in before.items()} == {
        path: (stat.qid, stat.mode) for path, stat in after.items()
    }


async def opened(
    name: str, place: Path, way: Callable[[FileServer], AbstractAsyncContextManager[Client]]
) -> AsyncIterator[Bench]:
    device, threads = DEVICES[name], RealThreads(2)
    means = means_of(place, threads)
    server = device.make(means)
    try:
        async with way(server) as client:
            tree = await look(client)
            yield Bench(device, client, tree, means)
            await idle()
            assert same(tree, await look(client)), "something was left, or lost"
    finally:
        if isinstance(server, CommandServer):
            await server.close()
        threads.close()
    assert not any(means.quota.used(resource) for resource in Resource)


@pytest.fixture(
    params=[(name, way) for name in DEVICES for way in (near, far)], ids=lambda param: f"{param[0]} {param[1].__name__}"
)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async for made in opened(request.param[0], tmp_path, request.param[1]):
        yield made


@pytest.fixture(params=DEVICES)
async def local(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """For what a client of 9P can't ask, or says with another error."""
    async for made in opened(request.param, tmp_path, near):
        yield made


def is_dir(stat: Stat) -> bool:
    return bool(stat.mode & DMDIR)


def files(bench: Bench) -> list[str]:
    return [path for path, stat in bench.tree.items() if not is_dir(stat)]


def directories(bench: Bench) -> list[str]:
    return [path for path, stat in bench.tree.items() if is_dir(stat)]


async def read_once(client: Client, path: str, mode: int = OREAD) -> bytes:
    fid = await client.open(path, mode)
    try:
        return await client.read_fid(fid)
    finally:
        client.server.clunk(fid)


def allows(stat: Stat, bit: int) -> bool:
    return bool((stat.mode | stat.mode >> 3 | stat.mode >> 6) & bit)


def test_the_rows_say_of_files_that_are_there(tmp_path: Path) -> None:
    async def check() -> None:
        for name, device in DEVICES.items():
            async for made in opened(name, tmp_path, near):
                said = {*device.waits, *device.makes, *device.untold, *device.fails}
                assert {path for path in said if path.rstrip("/") not in made.tree} == set(), name
                assert len(files(made)) >= 1

    asyncio.run(check())


async def test_there_is_no_tree_but_its_own(local: Bench) -> None:
    await refused(E.NOATTACH, lambda: local.client.server.attach(local.client.caller, local.device.aname))


async def test_up_from_the_root_is_the_root_and_up_from_below_is_where_one_came_from(bench: Bench) -> None:
    server, caller = bench.client.server, bench.client.caller
    for path, stat in bench.tree.items():
        fid = await bench.client.walk(path)
        up = await done(server.walk(fid, [".."], caller)) if not path or is_dir(stat) else None
        if up is not None:
            assert up.fid is not None
            assert up.fid.qid == bench.tree[path.rpartition("/")[0]].qid
            server.clunk(up.fid)
        server.clunk(fid)


async def test_a_walk_gives_what_it_found_and_fails_at_the_first_name_alone(bench: Bench) -> None:
    server, caller = bench.client.server, bench.client.caller
    for path in directories(bench):
        fid = await bench.client.walk(path)
        await refused(E.NOENT, partial(server.walk, fid, ["no such name"], caller))
        server.clunk(fid)
    root = await bench.client.walk("")
    for path in files(bench):
        names = path.split("/")
        walked = await done(server.walk(root, [*names, "below"], caller))
        assert (len(walked.qids), walked.fid) == (len(names), None)
        assert walked.qids[-1] == bench.tree[path].qid
        fid = await bench.client.walk(path)
        await refused(E.NOTDIR, partial(server.walk, fid, ["below"], caller))
        server.clunk(fid)
    server.clunk(root)


async def test_a_fid_and_its_clone_are_apart(bench: Bench) -> None:
    server = bench.client.server
    for path, stat in bench.tree.items():
        first = await bench.client.walk(path)
        second = (await done(server.walk(first, [], bench.client.caller))).fid
        assert second is not None
        server.clunk(first)
        assert (await done(server.stat(second))).qid == stat.qid
        server.clunk(second)


async def test_a_listing_is_whole_in_pieces_of_any_size_and_says_what_stat_says(bench: Bench) -> None:
    for path in directories(bench):
        whole = await bench.client.entries(path)
        assert [entry.name for entry in await bench.client.entries(path, 1)] == [entry.name for entry in whole]
        assert len({entry.name for entry in whole}) == len(whole)
        for entry in whole:
            stat = bench.tree[f"{path}/{entry.name}".lstrip("/")]
            assert (entry.qid, entry.name) == (stat.qid, stat.name)
            if entry.stat is not None:
                assert (entry.stat.qid, entry.stat.mode) == (stat.qid, stat.mode)
    assert all(stat.qid.is_dir == is_dir(stat) for stat in bench.tree.values())
    assert len({stat.qid.path for stat in bench.tree.values()}) == len(bench.tree), "a number is one file's"


async def test_directories_are_listed_and_neither_read_written_nor_cut(local: Bench) -> None:
    client = local.client
    for path in directories(local):
        for mode in (OWRITE, ORDWR, OREAD | OTRUNC, OREAD | ORCLOSE):
            await refused(E.ISDIR, client.open(path, mode))
        fid = await client.open(path)
        await refused(E.ISDIR, client.read_fid(fid))
        await refused(E.BADF, client.write_fid(fid, b"x"))
        client.server.clunk(fid)
    for path in files(local):
        fid = await client.walk(path)
        await refused(E.NOTDIR, partial(client.server.readdir, fid, 0, 10))
        client.server.clunk(fid)


async def test_a_file_is_opened_as_its_mode_allows_and_used_as_it_was_opened(local: Bench) -> None:
    client = local.client
    for path in files(local):
        stat = local.tree[path]
        fid = await client.walk(path)
        await refused(E.BADF, client.read_fid(fid))
        await refused(E.BADF, client.write_fid(fid, b"x"))
        client.server.clunk(fid)
        for mode, bits in ((OREAD, 4), (OEXEC, 4), (OWRITE, 2), (ORDWR, 6)):
            makes = path in local.device.makes
            if (makes and not bits & 2) or not all(allows(stat, bit) for bit in (4, 2) if bits & bit):
                await refused(E.ACCES, client.open(path, mode))
            elif path in local.device.fails:
                with pytest.raises(FileError):
                    await read_once(client, path, mode)
            else:
                fid = await client.open(path, mode)
                if not bits & 2:
                    await refused(E.BADF, client.write_fid(fid, b"x"))
                if not bits & 4:
                    await refused(E.BADF, client.read_fid(fid))
                assert fid.qid == stat.qid or makes
                client.server.clunk(fid)


async def test_what_is_read_in_pieces_is_what_is_read_at_once_and_ends(bench: Bench) -> None:
    client = bench.client
    for path in files(bench):
        if not allows(bench.tree[path], 4) or path in {*bench.device.waits, *bench.device.makes}:
            continue
        if path in bench.device.fails:
            with pytest.raises(FileError):
                await read_once(client, path)
            continue
        fid = await client.open(path, OREAD)
        whole = await client.read_fid(fid, 1 << 16)
        pieces = [await client.read_fid(fid, 3, offset) for offset in range(0, len(whole), 3)]
        assert b"".join(pieces) == whole
        assert await client.read_fid(fid, 100, len(whole)) == b""
        assert await client.read_fid(fid, 100, 1 << 40) == b""
        assert await client.read_fid(fid, 0) == b""
        client.server.clunk(fid)


async def test_a_read_that_waits_can_be_given_up_and_leaves_nothing(bench: Bench) -> None:
    client = bench.client
    for path in bench.device.waits:
        fid = await client.open(path, OREAD)
        for _ in range(2):
            reading = asyncio.ensure_future(client.read_fid(fid, 100))
            await idle()
            assert not reading.done(), path
            reading.cancel()
            await asyncio.wait([reading])
        client.server.clunk(fid)


async def test_nothing_is_made_moved_renamed_or_removed_and_a_refusal_changes_nothing(bench: Bench) -> None:
    client, server = bench.client, bench.client.server
    for path, stat in bench.tree.items():
        if is_dir(stat):
            for perm in (0o666, DMDIR | 0o777):
                with pytest.raises(FileError):
                    await client.create(f"{path}/made", perm, OREAD)
            fid = await client.walk(path)
            for call in (
                partial(server.symlink, fid, "made", "/"),
                partial(server.mknod, fid, "made", DMNAMEDPIPE | 0o600, 0, 0),
                partial(server.link, fid, fid, "made"),
                partial(server.rename, fid, "x", fid, "made"),
            ):
                with pytest.raises(FileError):
                    await done(call())
            server.clunk(fid)
        with pytest.raises(FileError):
            await client.remove(path)
        for change in (SetStat(name="other"), SetStat(mode=0), SetStat(mtime=1)):
            with pytest.raises(FileError):
                await client.wstat(path, change)


async def test_who_may_cut_a_file_cuts_it_and_other_files_are_as_before(bench: Bench) -> None:
    """Shells write `> file`: a device takes that where it takes writing."""
    for path in files(bench):
        if allows(bench.tree[path], 2) and path not in bench.device.makes:
            bench.client.server.clunk(await bench.client.open(path, OWRITE | OTRUNC))


async def test_changes_are_told_or_the_row_says_why_not(local: Bench) -> None:
    for path in local.tree:
        fid = await local.client.walk(path)
        if local.device.is_told(path):
            end = await done(local.client.server.watch(fid, 0, lambda notice: None))
            end()
            end()
        else:
            await refused(E.NOTSUP, partial(local.client.server.watch, fid, 0, lambda notice: None))
        local.client.server.clunk(fid)


GARBAGE = st.binary(max_size=80) | st.sampled_from(
    [b"", b"\0", b"\xff" * 20, b"x" * (1 << 16), b"'open", b"exec", b"remove"]
)


@pytest.mark.parametrize("name", DEVICES)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=GARBAGE, offset=st.integers(0, 1 << 40))
def test_whatever_is_written_is_taken_or_refused(name: str, tmp_path: Path, garbage: bytes, offset: int) -> None:
    async def check() -> None:
        async for made in opened(name, tmp_path, near):
            for path in files(made):
                if not allows(made.tree[path], 2):
                    continue
                fid = await made.client.open(path, OWRITE)
                for at in (0, offset):
                    try:
                        count = await made.client.write_fid(fid, garbage, at)
                    except FileError:
                        continue
                    assert 0 <= count <= len(garbage)
                made.client.server.clunk(fid)

    asyncio.run(check())
