"""`/n`: peers by name alone, each one's files its own, and none taken for another's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.mount import MountServer
from cognu.files.server import Fid
from cognu.files.steps import finish
from cognu.mesh.imports import NetworkServer
from cognu.ninep.messages import Dialect
from cognu.ninep.types import OWRITE
from joined import CountingServer, bring, joined
from serving import Client, Node, done


def peers_tree(name: str) -> CountingServer:
    server = CountingServer("#1")
    for path, data in [("/d", None), ("/f", name)]:
        server.plant(path, data)
    return server


@asynccontextmanager
async def two_peers(
    same: bool = False, names: tuple[str, ...] | list[str] = ("a", "b")
) -> AsyncIterator[tuple[NetworkServer, list[str]]]:
    """`/n` with the peers a and b, or `names`, whose files have the `same` numbers; and the names that were dialled."""
    dialled: list[str] = []
    first = peers_tree("of a")
    second = first if same else peers_tree("of b")
    async with joined(Dialect.L, server=first) as a, joined(Dialect.L, server=second) as b:

        async def dial(name: str) -> MountServer:
            dialled.append(name)
            found = {"a": a.mount, "b": b.mount}.get(name)
            if found is None:
                raise FileError(E.NOPEER, name)
            return found

        server = NetworkServer(lambda: list(names), dial)
        try:
            yield server, dialled
        finally:
            await server.close()


async def test_only_names_of_peers_are_dialled() -> None:
    async with two_peers() as (server, dialled):
        client = Client(server)
        assert await client.read("a/f") == b"of a"
        for name in ("c", "a b", "127.0.0.1:22"):
            assert await bring(client.walk(f"{name}/f")) is E.NOENT
        assert dialled == ["a"]
        assert await client.names("") == ["a", "b"]
        assert dialled == ["a"]  # listing dials nobody
        client.close()


async def test_of_a_peer_that_is_away_the_name_is_found_and_what_is_below_it_says_why_not() -> None:
    """A walk that ends after the first name is no refusal: told as one, it would be taken for that name's."""
    async with two_peers(names=("a", "away")) as (server, dialled):
        client = Client(server)
        root, top = await client.walk(""), await client.walk("away")
        walked = await server.walk(root, ["away", "d", "f"], client.caller)
        assert ([qid.path for qid in walked.qids], walked.fid) == ([top.qid.path], None)
        assert dialled == ["away"]
        assert await bring(done(server.walk(top, ["d"], client.caller))) is E.NOPEER  # what dialling it said
        for fid in (root, top):
            server.clunk(fid)
        client.close()


async def test_what_is_on_a_peer_that_comes_back_between_two_dials_is_found_and_never_said_to_be_none() -> None:
    """Its walk ended after the peer's name; asked why, the peer was there again: the walk goes on."""
    async with two_peers() as (server, _):
        dial, away = server._dial, [FileError(E.AWAY, "a"), FileError(E.HOSTUNREACH, "a")]

        async def at_last(name: str) -> MountServer:
            if away:
                raise away.pop(0)
            return await dial(name)

        server._dial = at_last
        node = Node(SkeletonServer(["/n"]))
        process = await node.start({"/n": server})

        async def find(path: str) -> str:
            return str((await finish(process.namespace.find(path, process.cwd, process))).path)

        assert await bring(find("/n/a/f")) is E.HOSTUNREACH  # the first two dials
        away.append(FileError(E.AWAY, "a"))
        assert await find("/n/a/f") == "/n/a/f"
        away.append(FileError(E.AWAY, "b"))
        assert await bring(find("/n/b/d/none")) is E.NOENT
        node.processes.end(process, 0)


async def test_a_peer_that_was_dropped_meanwhile_is_not_dialled() -> None:
    """Its directory can be held from before, for it is made up here."""
    names = ["a", "b"]
    async with two_peers(names=names) as (server, dialled):
        client = Client(server)
        top = await client.walk("a")
        names.remove("a")
        assert await bring(done(server.walk(top, ["f"], client.caller))) is E.NOENT
        assert dialled == []
        server.clunk(top)
        client.close()


async def test_a_peer_that_is_called_otherwise_is_at_its_new_name_at_once_and_what_is_open_stays_so() -> None:
    names = ["a", "b"]
    async with two_peers(names=names) as (server, dialled):
        client = Client(server)
        file = await client.open("a/f")
        names[0] = "attic"
        server.peer_renamed("a", "attic")
        assert await client.read("attic/f") == b"of a"
        assert bytes(await done(server.read(file, 0, 10))) == b"of a"
        assert await bring(client.walk("a/f")) is E.NOENT
        assert dialled == ["a"], "it is the connection of before"
        server.clunk(file)
        client.close()


async def test_a_peer_that_is_called_otherwise_while_it_is_dialled_leaves_no_connection_behind() -> None:
    names = ["a", "b"]
    async with two_peers(names=names) as (server, _):
        client, dial = Client(server), server._dial

        async def slowly(name: str) -> MountServer:
            mount = await dial(name)
            names[0] = "attic"
            server.peer_renamed("a", "attic")
            return mount

        server._dial = slowly
        assert await bring(client.walk("a/f")) is E.NOENT
        assert not server._peers
        client.close()


async def test_a_file_of_one_peer_is_never_moved_or_linked_into_another_peers_tree() -> None:
    """Their numbers mean something on their own connection alone: the wrong file would be taken."""
    async with two_peers() as (server, _):
        client = Client(server)
        ours, theirs = await client.walk("a"), await client.walk("b/d")
        file = await client.walk("a/f")

        async def rename() -> None:
            await server.rename(ours, "f", theirs, "f")

        async def link() -> None:
            await server.link(theirs, file, "g")

        assert await bring(rename()) is E.XDEV
        assert await bring(link()) is E.XDEV
        assert await client.read("a/f") == b"of a"
        assert await client.names("b/d") == []
        for fid in (ours, theirs, file):
            server.clunk(fid)
        client.close()


async def test_the_same_number_at_two_peers_is_two_files_here() -> None:
    """Mount tables go by number: a peer must not be able to slip under what was mounted on another's file."""
    async with two_peers(same=True) as (server, _):
        client = Client(server)
        fids: list[Fid] = [await client.walk(path) for path in ("a", "a/d", "a/f", "b", "b/d", "b/f")]
        assert len({fid.qid.path for fid in fids}) == len(fids)
        again = await client.walk("a/f")
        assert again.qid == fids[2].qid
        stats = [await server.stat(fid) for fid in fids]
        assert [stat.qid.path for stat in stats] == [fid.qid.path for fid in fids]
        for fid in (*fids, again):
            server.clunk(fid)
        client.close()


async def test_the_directory_of_peers_is_nobodys_to_change() -> None:
    async with two_peers() as (server, _):
        client = Client(server)
        root = await client.walk("")
        assert await bring(client.create("new")) is E.ACCES
        assert await bring(client.remove("")) is E.ACCES
        assert await bring(server.open(root, OWRITE, client.caller)) is E.ISDIR
        with pytest.raises(FileError) as caught:
            server.attach(client.caller, "other")
        assert caught.value.error is E.NOATTACH
        server.clunk(root)
        client.close()


async def test_listing_peers_and_asking_for_their_attributes_dials_nobody() -> None:
    """One that is away must not hold up who looks at all."""
    async with two_peers() as (server, dialled):
        client = Client(server)
        for entry in await client.entries(""):
            assert entry.stat is not None
            fid = await client.walk(entry.name)
            assert await server.stat(fid) == entry.stat
            assert fid.qid == entry.qid
            up = await server.walk(fid, [".."], client.caller)
            assert up.fid is not None
            server.clunk(up.fid)
            server.clunk(fid)
        assert dialled == []
        assert await bring(client.walk("c")) is E.NOENT
        client.close()


async def test_a_peers_directory_has_one_number_before_and_after_it_was_asked() -> None:
    """Mount tables go by number: what was mounted there must stay where it is."""
    async with two_peers() as (server, dialled):
        client = Client(server)
        before = await client.walk("a")
        inside = await client.walk("a/d")
        above = (await server.walk(inside, [".."], client.caller)).fid
        assert above is not None
        opened = await client.open("a")
        assert {above.qid, opened.qid, (await server.stat(above)).qid} == {before.qid}
        assert dialled == ["a"]
        for fid in (before, inside, above, opened):
            server.clunk(fid)
        client.close()


async def test_a_peers_directory_takes_changes_over_the_link_that_is_there_then() -> None:
    async with two_peers() as (server, dialled):
        client = Client(server)
        top = await client.walk("a")
        made = await server.create(top, "new", 0o644, OWRITE, client.caller)
        assert await done(server.write(made, 0, b"x")) == 1
        await server.rename(top, "new", top, "old")
        assert await client.names("a") == ["d", "f", "old"]
        await server.drop("a")
        assert await bring(server.rename(top, "old", top, "new")) is not None  # the test's line is gone for good
        assert dialled == ["a", "a"]
        for fid in (made, top):
            server.clunk(fid)
        client.close()
