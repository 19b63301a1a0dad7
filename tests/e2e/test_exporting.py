"""Trees for clients that speak 9P themselves: over a pipe, through patterns, and never round in circles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cognu.cli.addresses import parse_address
from cognu.cli.remote import How, attached
from cognu.cli.serving import confine
from cognu.errors import E, FileError
from cognu.files.mount import MountServer
from cognu.files.shown import Shown
from cognu.ninep.messages import Dialect
from cognu.ninep.types import ORDWR, OREAD, OTRUNC, OWRITE
from cognu.world.real import RealClock, real_world
from e2e.harness import Client, Me, NodeProcess, end, far, log_trouble, pair, refused, until


@asynccontextmanager
async def one_node(place: Path) -> AsyncIterator[NodeProcess]:
    """With a directory `tree` beside its home."""
    (place / "tree/deep").mkdir(parents=True)
    (place / "tree/letter").write_text("Dear desk,\n")
    (place / "tree/id.key").write_text("secret")
    (place / "tree/deep/leaf").write_text("leaf\n")
    node = NodeProcess(place / "home", "desk", "--listen", "127.0.0.1:0")
    await node.start()
    try:
        yield node
    finally:
        await end(node)
    assert log_trouble(node) == []


def over_a_pipe(node: NodeProcess, *options: str) -> str:
    """The address of a `9p --stdio`, as one behind ssh would be."""
    return "exec!" + " ".join([*node.argv(), "9p", *options])


async def test_a_tree_is_served_over_a_pipe_and_no_more_than_that(place: Path) -> None:
    async with one_node(place) as node:
        tree = str(place / "tree")
        address = over_a_pipe(node, "--stdio", tree)
        listed = await node.command("9p", "ls", address)
        assert (listed.status, listed.errors) == (0, b"")
        assert listed.output.split() == [b"deep", b"id.key", b"letter"]
        for dialect in (Dialect.LEGACY, Dialect.NG):
            async with attached(parse_address(address), How(dialect=dialect)) as remote:
                letter = await remote.open("letter", OREAD)
                assert await remote.read("letter", letter, 0) == b"Dear desk,\n"
                letter.close()
                await refused(remote.open("letter", OWRITE), E.ACCES)
        async with attached(parse_address(over_a_pipe(node, "--stdio", tree, "--hide", "*.key")), How()) as remote:
            assert [entry.name for entry in await remote.list("/")] == ["deep", "letter"]
            await refused(remote.stat("id.key"), E.NOENT)
        async with attached(parse_address(over_a_pipe(node, "--rw", "--stdio", tree)), How()) as remote:
            letter = await remote.open("letter", OWRITE | OTRUNC)
            await remote.write("letter", letter, 0, b"yes")
            letter.close()
            assert (place / "tree/letter").read_text() == "yes"
        async with node.client() as client:
            # Each connection's process ends with it.
            async def over() -> bool:
                args = [await client.read(f"/proc/{pid}/args") for pid in await client.list("/proc") if pid.isdigit()]
                return not any(each.startswith(b"9p ") for each in args)

            await until(client, over)


async def test_a_confined_connection_can_not_be_made_more_again(place: Path) -> None:
    async with one_node(place) as node:
        for aname in ("#|", "#U", "cap:x", "tree:path /", "x"):
            stream = await real_world().network.connect_unix(node.socket)
            await confine(stream, Shown(str(place / "tree")))
            mount = await MountServer.connect(stream, RealClock())
            try:
                root = far(await mount.attach(Me(), ""))
                assert (await mount.walk(root, ["letter"], Me())).fid is not None
                with pytest.raises(FileError):
                    await mount.walk(root, ["home"], Me())
                up = await mount.walk(root, [".."], Me())
                assert up.fid is not None
                assert up.fid.qid == root.qid
                if aname.startswith("cap:"):
                    assert (await mount.attach(Me(), aname)).qid == root.qid
                else:
                    with pytest.raises(FileError) as caught:
                        await mount.attach(Me(), aname)
                    assert caught.value.error in (E.NOATTACH, E.NODEV)
            finally:
                await mount.close()


WRONG = (
    (("--stdio", "/no/such"), 1, E.NOENT),
    (("--stdio", "/", "--hide", "["), 2, E.USAGE),
    (("--rw",), 2, E.USAGE),
    (("--stdio", "/", "ls", "x:1"), 2, E.USAGE),
)


async def test_what_can_not_be_served_over_a_pipe_is_told(place: Path) -> None:
    async with one_node(place) as node:
        for words, status, error in WRONG:
            done = await node.command("9p", *words)
            assert (done.status, done.output) == (status, b"")
            assert error.text.encode() in done.errors


async def test_without_a_node_nothing_is_served_over_a_pipe(place: Path) -> None:
    done = await NodeProcess(place / "none", "none").command("9p", "--stdio", "/")
    assert (done.status, done.output) == (3, b"")
    assert E.NONODE.text.encode() in done.errors


async def test_the_pipe_ends_when_the_node_does(place: Path) -> None:
    async with one_node(place) as node:
        serving = await node.begin("9p", "--stdio", str(place / "tree"))
        assert serving.stdin is not None
        assert serving.stdout is not None
        serving.stdin.write(bytes([19, 0, 0, 0, 100, 255, 255, 0, 32, 0, 0, 6, 0]) + b"9P2000")
        assert (await serving.stdout.readexactly(19))[4] == 101
        assert await node.stop() == 0
        assert await serving.stdout.read() == b""
        assert await serving.wait() == 0
        serving.stdin.close()


async def test_a_listener_shows_what_its_patterns_let_through(place: Path) -> None:
    async with one_node(place) as node:
        socket = str(place / "s")
        made = await node.command("listen", socket, "--path", str(place / "tree"), "--show", "*.key", "--hide", "deep")
        assert made.status == 0
        listed = await node.command("9p", "ls", socket)
        assert listed.output == b"id.key\n"
        wrong = await node.command("listen", str(place / "t"), "--hide", "[")
        assert (wrong.status, E.USAGE.text.encode() in wrong.errors) == (2, True)
        assert not (place / "t").exists()


# -- no way round -----------------------------------------------------------------------------------------------------


async def names_below(client: Client, path: str, most: int = 500) -> list[str]:
    """Every path below a directory, as `find` would go; more than `most` is taken for a circle."""
    found: list[str] = []
    waiting = [path]
    while waiting:
        at = waiting.pop()
        for name in await client.list(at):
            found.append(f"{at}/{name}")
            assert len(found) < most, f"it goes round: {found[-1]}"
            if (await client.stat(found[-1])).is_dir:
                waiting.append(found[-1])
    return found


async def mount_listener(client: Client, address: str, token: str, name: str, at: str) -> None:
    """Have what is listened for at `address` in the base namespace of the client's node, over its own network."""
    data = await client.dial("tcp", address.replace(":", "!"))
    board = await client.create(f"/srv/{name}", 0o600, ORDWR)
    await board.write(str(data.number).encode())
    board.close()
    await client.write("/proc/1/ns", f"mount /srv/{name} {at} {token}\n")


async def test_two_machines_that_serve_each_other_are_walked_to_an_end(place: Path) -> None:
    """Desk listens with all it has, pi has that at one of its own places and lends the place to desk."""
    async with pair(place, "read:{shared}") as two:
        inner = two.shared / "inner"
        inner.mkdir()
        (two.notes / "note").write_text("of desk\n")
        async with two.desk.client() as desk, two.pi.client() as pi:
            made = await desk.rpc("listen", address="127.0.0.1:0", path="/")
            await mount_listener(pi, made["address"], made["token"], "desk", str(inner))
            async with two.pi.client() as later:  # this session's namespace is as the base was before
                assert await later.read(f"{inner}{two.notes}/note") == b"of desk\n"
                assert await later.list(f"{inner}/n") == []  # and so not pi's own tree again
            # Pi lends what is its own, and not what it has of desk.
            await pi.rpc("revoke", peer="desk", grant=f"read:{two.shared}")
            await pi.rpc("export", path=str(two.shared), peer="desk")
            assert await names_below(desk, f"/n/pi{two.shared}") == [f"/n/pi{inner}"]
            await refused(pi.rpc("export", path=str(inner), peer="desk"), E.ACCES, "lent on")
            await refused(desk.rpc("export", path=f"/n/pi{two.shared}"), E.ACCES)


async def test_what_a_peer_lends_is_served_on_if_that_is_asked_for(place: Path) -> None:
    async with pair(place, "read:{shared}") as two:
        (two.shared / "file").write_text("of pi\n")
        socket = str(two.path / "s")
        async with two.desk.client() as desk:
            await desk.rpc("listen", address=socket, path="/n")
            through = await Client.connect(socket)
            try:
                assert await through.list("/") == ["pi"]
                assert await through.read(f"/pi{two.shared}/file") == b"of pi\n"
            finally:
                await through.close()
            whole = await desk.rpc("listen", address=str(two.path / "t"), path="/")
            through = await Client.connect(whole["address"])
            try:
                assert await through.list("/n") == []
            finally:
                await through.close()
