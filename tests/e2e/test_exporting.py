"""Trees for clients that speak 9P themselves: over a pipe, through patterns, and never round in circles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cognu.cli.addresses import parse_address
from cognu.cli.main import run
from cognu.cli.remote import How, attached
from cognu.errors import E, FileError
from cognu.files.shown import Shown
from cognu.ninep.messages import Dialect
from cognu.ninep.types import ORDWR, OREAD, OTRUNC, OWRITE
from e2e.harness import Client, Me, NodeProcess, confined, daemon, end, far, pair, refused, until
from sessions import short_place


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    """One for all tests, with a directory `tree` beside its home."""
    with short_place() as path:
        (path / "tree/deep").mkdir(parents=True)
        (path / "tree/letter").write_text("Dear desk,\n")
        (path / "tree/id.key").write_text("secret")
        (path / "tree/deep/leaf").write_text("leaf\n")
        with daemon(path) as made:
            yield made


def tree_of(node: NodeProcess) -> Path:
    return node.home.with_name("tree")


def over_a_pipe(node: NodeProcess, *options: str) -> str:
    """The address of a `9p --stdio`, as one behind ssh would be."""
    return "exec!" + " ".join([*node.argv(), "9p", *options])


async def test_a_tree_is_served_over_a_pipe_and_no_more_than_that(node: NodeProcess) -> None:
    tree = tree_of(node)
    address = parse_address(over_a_pipe(node, "--stdio", str(tree), "--hide", "*.key"))
    listed = await node.command("9p", "ls", f"exec!{address.where}")
    assert (listed.status, listed.output, listed.errors) == (0, b"deep\nletter\n", b"")
    async with attached(address, How(dialect=Dialect.LEGACY)) as remote:
        letter = await remote.open("letter", OREAD)
        assert await remote.read("letter", letter, 0) == b"Dear desk,\n"
        letter.close()
        await refused(remote.open("letter", OWRITE), E.ACCES)
        await refused(remote.stat("id.key"), E.NOENT)
    async with attached(parse_address(over_a_pipe(node, "--rw", "--stdio", str(tree))), How()) as remote:
        leaf = await remote.open("deep/leaf", OWRITE | OTRUNC)
        await remote.write("deep/leaf", leaf, 0, b"yes")
        leaf.close()
        assert (tree / "deep/leaf").read_text() == "yes"
    async with node.client() as client:
        # Each connection's process ends with it.
        async def over() -> bool:
            args = [await client.read(f"/proc/{pid}/args") for pid in await client.list("/proc") if pid.isdigit()]
            return not any(each.startswith(b"9p ") for each in args)

        await until(client, over)


@pytest.mark.parametrize("said", [b"hello, is there 9P?\n", b"abc", b"\xff" * 300, b"\x0b\0\0\0\x78" + b"\0" * 6])
async def test_who_speaks_no_9p_over_a_pipe_is_told_so(node: NodeProcess, said: bytes) -> None:
    ended = await node.command("9p", "--stdio", str(tree_of(node)), stdin=said)
    assert (ended.status, ended.output) == (1, b"")
    assert ended.errors.startswith(b"cognu: standard input: bad 9P message: what came is no 9P")
    ended = await node.command("9p", "--stdio", str(tree_of(node)), stdin=b"")
    assert (ended.status, ended.output, ended.errors) == (0, b"", b"")


async def test_a_token_for_longer_than_a_day_is_refused(node: NodeProcess) -> None:
    ended = await node.command("sh", "-c", f"export --token --for 86401 {tree_of(node)} nobody")
    assert ended.status == 2
    assert b"--for 86401: usage: a token lasts at most 86400 seconds, a day" in ended.errors


async def test_a_renaming_does_not_bring_out_what_is_hidden_by_its_path(node: NodeProcess) -> None:
    tree = tree_of(node)
    async with confined(node, Shown(str(tree), True, ("/deep/leaf",))) as mount:
        root = await mount.attach(Me(), "")
        await refused(mount.rename(root, "deep", root, "other"), E.ACCES)
        assert (await mount.walk(root, ["deep", "leaf"], Me())).fid is None
        await mount.rename(root, "letter", root, "mail")
    assert sorted(path.name for path in tree.iterdir()) == ["deep", "id.key", "mail"]
    (tree / "mail").rename(tree / "letter")


async def test_a_confined_connection_can_not_be_made_more_again(node: NodeProcess) -> None:
    for aname in ("#|", "#U", "cap:x", "tree:path /", "x"):
        async with confined(node, Shown(str(tree_of(node)))) as mount:
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


@pytest.mark.parametrize("shown", [Shown("/", writable=True), Shown("/", hide=("*.key",))], ids=["rw", "hide"])
async def test_where_something_may_be_changed_or_is_hidden_no_program_is_started(
    node: NodeProcess, shown: Shown
) -> None:
    async with confined(node, shown) as mount:
        client = Client(mount, far(await mount.attach(Me(), "")))
        for path in ("/proc", "/srv", "/fd", "/env", "/mnt/node"):
            assert await client.list(path) == []
        assert "letter" in await client.list(str(tree_of(node)))


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (("--stdio", "/no/such"), 1, E.NOENT),
        (("--stdio", "/", "--hide", "["), 2, E.USAGE),
        (("--rw",), 2, E.USAGE),
        (("--stdio", "/", "ls", "x:1"), 2, E.USAGE),
        (("--home", "/no/such", "--stdio", "/"), 3, E.NONODE),
    ],
)
def test_what_can_not_be_served_over_a_pipe_is_told(
    node: NodeProcess, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, error: E
) -> None:
    assert run(["--home", str(node.home), "9p", *words]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert error.text in err


async def test_the_pipe_ends_when_the_node_does(place: Path) -> None:
    own = await NodeProcess(place / "home", "desk", "--listen", "127.0.0.1:0").start()
    try:
        serving = await own.begin("9p", "--stdio", str(place))
        assert serving.stdin is not None
        assert serving.stdout is not None
        serving.stdin.write(bytes([19, 0, 0, 0, 100, 255, 255, 0, 32, 0, 0, 6, 0]) + b"9P2000")
        assert (await serving.stdout.readexactly(19))[4] == 101
        assert await own.stop() == 0
        assert await serving.stdout.read() == b""
        assert await serving.wait() == 0
        serving.stdin.close()
    finally:
        await end(own)


async def test_a_listener_shows_what_its_patterns_let_through(node: NodeProcess, place: Path) -> None:
    socket = str(place / "s")
    async with node.client() as client:
        await client.rpc("listen", address=socket, path=str(tree_of(node)), show=["*.key"], hide=["deep"])
        async with attached(parse_address(socket), How()) as remote:
            assert [entry.name for entry in await remote.list("/")] == ["id.key"]
        await refused(client.rpc("listen", address=str(place / "t"), hide=["["]), E.USAGE)
        assert not (place / "t").exists()
        await client.rpc("unlisten", address=socket)


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
