"""Tokens between three machines: sea has the files, desk was granted them, and hands them on to pi."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from cognu.errors import CognuError, E
from cognu.files.chan import Chan
from cognu.files.mount import MountServer
from cognu.files.nscommands import apply
from cognu.files.server import Fid, HandOn
from cognu.files.steps import finish
from cognu.kernel import CREATE, EXECUTE, GRANT, READ, WRITE
from cognu.mesh.join import join as join_mesh
from cognu.ninep.messages import Dialect
from cognu.ninep.types import ORDWR, SetStat
from cognu.node.assembly import running
from cognu.node.granting import grant_peers
from cognu.node.node import Node
from cognu.node.settings import Home, Settings
from cognu.world.real import RealClock, real_world
from e2e.harness import LOOPBACK, NodeProcess, end, far, join, log_trouble, refused
from e2e.harness import Client as Session
from serving import Client, Somebody

ME = Somebody()
NAMES = ("sea", "desk", "pi")


class Three:
    """Three nodes of this process; `files` is sea's, which granted desk `write:` of it, and pi nothing."""

    def __init__(self, files: Path, nodes: list[Node]) -> None:
        self.files = files
        self.sea, self.desk, self.pi = nodes
        self._mounts: list[MountServer] = []

    async def at(self, here: Node, there: Node, aname: str, dialect: Dialect = Dialect.NG) -> Client:
        """A connection from one node to another, attached to `aname`."""
        mount = await self.dialled(here, there, dialect)
        client = Client(mount, ME, aname)
        client.root = await mount.attach(ME, aname)
        return client

    async def dialled(self, here: Node, there: Node, dialect: Dialect = Dialect.NG) -> MountServer:
        channel = await here.mesh.open(there.identity.fingerprint, "9p")
        mount = await MountServer.connect(channel, RealClock(), offer=dialect)
        self._mounts.append(mount)
        return mount

    async def token(
        self, rights: int = READ | EXECUTE, uses: int = 1, to: str = "pi", path: str = "", under: str = ""
    ) -> str:
        """What desk gets from sea for pi, by Tmint over its own link."""
        client = await self.at(self.desk, self.sea, "")
        fid = await client.walk(f"{under or self.files}/{path}")
        peer = {node.settings.name: node.identity.fingerprint for node in (self.sea, self.desk, self.pi)}.get(to, to)
        try:
            return (await mount_of(client).hand_on(fid, HandOn(rights, uses, 600, peer))).text
        finally:
            await mount_of(client).close()

    async def close(self) -> None:
        for mount in self._mounts:
            await mount.close()


def mount_of(client: Client) -> MountServer:
    assert isinstance(client.server, MountServer)
    return client.server


async def turn() -> None:
    """One turn of the loop."""
    await asyncio.sleep(0)


async def joined(inviter: Node, joiner: Node, *grants: str) -> None:
    ticket = await inviter.inviter.invite(grants)
    peer = await join_mesh(joiner.world, joiner.me(), joiner.book, ticket, ())
    await joiner.put_in_force(peer)
    await joiner.mesh.connect(peer.fingerprint)
    while not set(grants) <= set(inviter.exports.granted(joiner.identity.fingerprint)):
        await turn()


@asynccontextmanager
async def three(place: Path) -> AsyncIterator[Three]:
    files = place / "files"
    (files / "sub").mkdir(parents=True)
    (files / "note").write_text("of the sea")
    (files / "sub" / "deep").write_text("deep")
    async with AsyncExitStack() as stack:
        nodes = []
        for name in NAMES:
            settings = Settings(name, listen="127.0.0.1:0", hosts=("127.0.0.1",))
            nodes.append(
                await stack.enter_async_context(running(real_world(), Home(str(place / name)), settings, "me"))
            )
        made = Three(files, nodes)
        await joined(made.sea, made.desk, f"write:{files}")
        await joined(made.sea, made.pi)
        await joined(made.desk, made.pi)
        stack.push_async_callback(made.close)
        yield made


async def never_attaches(at: Three, here: Node, there: Node, aname: str, dialect: Dialect = Dialect.NG) -> str:
    """The refusal, in words; all that a token has of it is not in them."""
    mount = await at.dialled(here, there, dialect)
    error = await refused(mount.attach(ME, aname), E.ACCES if dialect is Dialect.L else E.NOATTACH)  # .L has a number
    assert aname.removeprefix("cap:")[:8] not in str(error) or len(aname) < 12
    return str(error)


async def test_a_token_shows_its_tree_with_its_rights_to_its_peer_alone(place: Path) -> None:
    async with three(place) as at:
        token = await at.token()
        said = {await never_attaches(at, at.desk, at.sea, f"cap:{token}")}  # desk itself asked for it
        said.add(await never_attaches(at, at.pi, at.sea, f"cap:{token[:-1]}"))
        said.add(await never_attaches(at, at.pi, at.sea, "cap:"))
        said.add(await never_attaches(at, at.pi, at.sea, f"cap:{token}{'a' * 40_000}"))
        await never_attaches(at, at.pi, at.desk, f"cap:{token}")  # it is sea's
        client = await at.at(at.pi, at.sea, f"cap:{token}")
        assert await client.names("") == ["note", "sub"]
        assert await client.read("sub/deep") == b"deep"
        assert (await mount_of(client).walk(client.root, [".."], ME)).qids == [client.root.qid]  # type: ignore[arg-type,union-attr]
        for changed in (client.write("note", b"x"), client.put("new"), client.remove("note")):
            await refused(changed, E.ACCES)
        await refused(mount_of(client).hand_on(fid_of(client), what(at.desk, READ)), E.ACCES, "G")
        await refused(mount_of(client).attenuate(fid_of(client), READ | WRITE), E.ACCES, "w")
        said.add(await never_attaches(at, at.pi, at.sea, f"cap:{token}"))  # once
        assert len(said) == 1  # nobody learns which it was
        await refused(mount_of(client).attach(ME, ""), E.NOATTACH)  # the connection is for that tree
        assert (at.files / "note").read_text() == "of the sea"


def fid_of(client: Client) -> Fid:
    assert client.root is not None
    return client.root


def what(peer: Node, rights: int, uses: int = 1, seconds: int = 60) -> HandOn:
    return HandOn(rights, uses, seconds, peer.identity.fingerprint)


@pytest.mark.parametrize("dialect", Dialect, ids=lambda dialect: dialect.value)
async def test_every_dialect_redeems_one(dialect: Dialect, place: Path) -> None:
    async with three(place) as at:
        token = await at.token(READ | WRITE | CREATE)
        await never_attaches(at, at.pi, at.sea, f"cap:{token}x", dialect)
        client = await at.at(at.pi, at.sea, f"cap:{token}", dialect)
        assert await client.read("note") == b"of the sea"
        await client.put("new", b"by pi")
        assert (at.files / "new").read_bytes() == b"by pi"
        await never_attaches(at, at.pi, at.sea, f"cap:{token}", dialect)


async def test_the_end_of_desks_grant_ends_what_pi_has_at_once(place: Path) -> None:
    async with three(place) as at:
        client = await at.at(at.pi, at.sea, f"cap:{await at.token(uses=2)}")
        unused = await at.token()
        opened = await client.open("note")
        assert await client.read_fid(opened, 2) == b"of"
        assert [row["by"] for row in at.sea.tokens.rows({})] == [at.desk.identity.fingerprint] * 2
        at.sea.exports.revoke(at.desk.identity.fingerprint, f"write:{at.files}")
        await refused(client.read_fid(opened, 2, 2), E.REVOKED)
        await refused(client.read("sub/deep"), E.REVOKED)
        await never_attaches(at, at.pi, at.sea, f"cap:{unused}")
        assert at.sea.tokens.all() == []


async def test_a_read_that_waits_ends_with_desks_grant(place: Path) -> None:
    async with three(place) as at:
        await finish(apply(at.sea.base, "bind '#|' /mnt/term\n", at.sea))
        await at.sea.exports.grant([(at.desk.identity.fingerprint, "write:/mnt/term")], lambda: None)
        client = await at.at(at.pi, at.sea, f"cap:{await at.token(READ | WRITE, under='/mnt/term')}")
        waiting = await client.open("data", ORDWR)
        reading = asyncio.ensure_future(client.read_fid(waiting))
        await client.stat("")  # a round trip later it is with sea
        assert not reading.done()
        at.sea.exports.revoke(at.desk.identity.fingerprint, "write:/mnt/term")
        await refused(reading, E.REVOKED)


async def test_it_outlives_the_connection_that_asked_for_it_and_is_handed_on_with_the_right_to(place: Path) -> None:
    async with three(place) as at:
        client = await at.at(at.pi, at.sea, f"cap:{await at.token(READ | GRANT)}")
        await at.desk.network.drop("sea")
        await at.desk.mesh.cut(at.sea.identity.fingerprint)
        assert await client.read("note") == b"of the sea"
        sub = await client.walk("sub")
        further = await mount_of(client).hand_on(sub, what(at.desk, READ))
        back = await at.at(at.desk, at.sea, f"cap:{further.text}")
        assert await back.read("deep") == b"deep"
        first = at.sea.tokens.all()[0]
        at.sea.tokens.revoke(at.pi.identity.fingerprint, first.number)
        await refused(client.read("note"), E.REVOKED)
        await refused(back.read("deep"), E.REVOKED)  # it came from pi's


async def test_what_is_refused_when_one_is_asked_for(place: Path) -> None:
    async with three(place) as at:
        await refused(at.token(to="unknown"), E.NOPEER)
        await refused(at.token(to="sea"), E.NOPEER)  # itself
        await refused(at.token(uses=0), E.INVAL)
        await refused(at.token(uses=17), E.INVAL)
        await refused(at.token(path="none"), E.NOENT)
        client = await at.at(at.desk, at.sea, "")
        await refused(mount_of(client).hand_on(fid_of(client), what(at.pi, READ)), E.NOTSUP)  # several trees
        fid = await client.walk(f"{at.files}/note")
        made = await mount_of(client).attenuate(fid, READ | EXECUTE)
        await refused(mount_of(client).hand_on(made, what(at.pi, READ)), E.ACCES, "G")
        for _ in range(64):
            await mount_of(client).hand_on(fid, what(at.pi, READ))
        await refused(mount_of(client).hand_on(fid, what(at.pi, READ)), E.DQUOT)
        local = await at.at(at.pi, at.sea, "")
        assert await local.names("") == []  # to pi itself nothing was granted


async def test_a_machine_that_is_dropped_loses_what_was_handed_to_it_and_by_it(place: Path) -> None:
    async with three(place) as at:
        client = await at.at(at.pi, at.sea, f"cap:{await at.token()}")
        await client.stat("note")
        at.sea.exports.forget(at.desk.identity.fingerprint)
        await refused(client.stat("note"), E.REVOKED)
        chan = at.sea.base.namespace.root
        note = await at_path(at.sea, f"{at.files}/note")
        at.sea.tokens.make(chan.domain, note, what(at.pi, READ))
        at.sea.tokens.forget(at.pi.identity.fingerprint)
        assert at.sea.tokens.all() == []


async def test_a_machine_that_joins_anew_has_nothing_of_what_was_handed_to_it_before(place: Path) -> None:
    """Where sea never heard that desk had dropped it; and what desk is granted again is a grant of its own."""
    async with three(place) as at:
        grant = f"write:{at.files}"
        chan, note = at.sea.base.namespace.root, await at_path(at.sea, f"{at.files}/note")
        at.sea.tokens.make(chan.domain, note, what(at.desk, READ))
        client = await at.at(at.pi, at.sea, f"cap:{await at.token()}")
        await client.stat("note")
        at.desk.book.remove(at.sea.identity.fingerprint)
        await joined(at.sea, at.desk, grant)
        assert at.sea.exports.granted(at.desk.identity.fingerprint) == [grant]
        assert at.sea.tokens.all() == []
        await refused(client.stat("note"), E.REVOKED)


async def at_path(node: Node, path: str) -> Chan:
    return await finish(node.base.namespace.find(path, node.base.cwd, node.base))


# -- as people do it --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def machines(place: Path) -> AsyncIterator[list[NodeProcess]]:
    nodes = [NodeProcess(place / name, name, *LOOPBACK) for name in NAMES]
    try:
        await asyncio.gather(*(node.start() for node in nodes))
        yield nodes
    finally:
        await asyncio.gather(*(end(node) for node in nodes))
    for node in nodes:
        assert log_trouble(node) == []


@pytest.mark.long
async def test_a_tree_of_a_third_machine_is_handed_on_by_the_commands(place: Path) -> None:
    files = place / "files"
    files.mkdir()
    (files / "note").write_text("of the sea")
    (files / "secret.key").write_text("no")
    async with machines(place) as (sea, desk, pi):
        await join(sea, desk, f"read:{files}")
        await join(sea, pi)
        await join(desk, pi)
        made = await desk.command("sh", "-c", f"export --token /n/sea{files} pi")
        assert made.status == 0, made
        token = made.output.decode().strip()
        assert made.errors.decode() == "for pi, once within 600 s; there: import --token FILE sea PLACE\n"
        taken = await pi.command("import", "--token", "-", "sea", "/n/notes", stdin=made.output)
        assert (taken.status, taken.errors) == (0, b"")
        read = await pi.command("sh", "-c", "cat /n/notes/note")
        assert read.output == b"of the sea"
        refused_ = await pi.command("sh", "-c", "echo x > /n/notes/note")
        assert b"permission denied" in refused_.errors
        await desk.stop()
        again = await pi.command("sh", "-c", "cat /n/notes/note; ns; cat /proc/1/ns; caps --json")
        assert again.output.startswith(b"of the sea")
        listed = await sea.command("sh", "-c", "grants; caps")
        assert b"token  pi    token:1 " in listed.output
        assert b", asked for by desk, in use 1 times\n" in listed.output
        assert b"token:1 of pi" in listed.output
        once = await pi.command("import", "--token", "-", "sea", "/n/again", stdin=made.output)
        assert once.status != 0
        for said in (
            again.output,
            listed.output,
            once.errors,
            (sea.home / "log").read_bytes(),
            (pi.home / "log").read_bytes(),
        ):
            assert token.encode() not in said
        log = (sea.home / "log").read_text()
        assert "peer desk: made token 1 for pi, 1 uses: rx:" in log
        assert "peer pi: redeemed token 1: " in log
        gone = await sea.command("grants", "revoke", "desk", f"read:{files}")
        assert gone.status == 0
        after = await pi.command("sh", "-c", "cat /n/notes/note")
        assert b"capability revoked" in after.errors

        own = await sea.command("export", "--token", "--hide", "*.key", "--uses", "2", str(files), "pi")
        (place / "token").write_bytes(own.output)
        shown = await pi.command(
            "sh", "-c", f"import --token {place}/token sea /n/own; ls /n/own; cat /n/own/secret.key"
        )
        assert shown.output == b"note\n"
        assert b"file does not exist" in shown.errors
        back = await sea.command("sh", "-c", "grants revoke pi token:2; grants")
        assert b"token" not in back.output.splitlines()[-1]
        late = await pi.command("sh", "-c", f"import --token {place}/token sea /n/own")
        assert b"token refused" in late.errors
        assert token.encode() not in late.errors


async def test_a_grant_with_patterns_shows_no_more_by_whatever_way_it_is_used(place: Path) -> None:
    async with three(place) as at:
        (at.files / "id.key").write_text("no")
        (at.files / "sub" / "id.key").write_text("no")
        (at.files / "led").symlink_to("sub/id.key")
        text = f"write+hide=*.key+hide=/sub/deep:{at.files}"
        await grant_peers(at.sea, [at.sea.book.find("pi")], [text])
        assert text in (place / "sea" / "peers.json").read_text()
        for dialect in Dialect:
            client = await at.at(at.pi, at.sea, "", dialect)
            root = str(at.files)
            assert await client.names(root) == ["led", "note", "sub"]
            assert await client.names(f"{root}/sub") == []
            for name in ("id.key", "ID.KEY", "sub/deep", "sub/id.key"):
                await refused(client.walk(f"{root}/{name}"), E.NOENT, "")
            await refused(client.create(f"{root}/new.key"), E.ACCES)
            await refused(client.wstat(f"{root}/note", SetStat(name="note.key")), E.ACCES)
            await refused(client.wstat(f"{root}/sub", SetStat(name="other")), E.ACCES)
            await client.write(f"{root}/note", b"of pi")
        less = await mount_of(client).attenuate(await client.walk(root), READ)
        await refused(mount_of(client).walk(less, ["id.key"], ME), E.NOENT)
        fid = await client.walk(f"{root}/sub")
        token = (await mount_of(client).hand_on(fid, what(at.desk, READ))).text
        handed = await at.at(at.desk, at.sea, f"cap:{token}")
        assert await handed.names("") == []
        for name in ("deep", "id.key", "Deep"):
            await refused(handed.walk(name), E.NOENT, "")
        at.sea.exports.revoke(at.pi.identity.fingerprint, text)
        await refused(handed.names(""), E.REVOKED, "")
        assert sorted(path.name for path in at.files.iterdir()) == ["id.key", "led", "note", "sub"]


@pytest.mark.long
async def test_patterns_of_a_grant_by_the_commands(place: Path) -> None:
    files = place / "files"
    (files / "docs").mkdir(parents=True)
    for name in ("note", "id.key", "docs/id.key", "docs/page"):
        (files / name).write_text(name)
    text = f"read+hide=*.key:{files}"
    async with machines(place) as (sea, desk, _):
        await join(sea, desk, "run")
        made = await sea.command("export", "--hide", "*.key", str(files), "desk")
        assert (made.status, made.output.decode()) == (0, f"desk may: run, {text}\n"), made
        assert f"granted desk: {text}" in (sea.home / "log").read_text()
        again = await sea.command("export", str(files), "desk")
        assert again.status == 1
        assert f"grants contradict each other: {text} is in force" in again.errors.decode()
        inner = await sea.command("export", str(files / "docs"), "desk", ":rw")
        assert f"write:{files}/docs shows what of it {text} hides" in inner.errors.decode()
        await sea.command("grants", "revoke", "desk", f"write:{files}/docs")
        line = f"ls /n/sea{files} /n/sea{files}/docs; cat /n/sea{files}/id.key"
        shown = await desk.command("sh", "-c", f"{line}; import sea {files} /n/here; ls /n/here; cpu sea 'ls {files}'")
        assert shown.output.decode().count("note\n") == 3, shown
        assert b"id.key\n" not in shown.output
        assert b"id.key: file does not exist" in shown.errors
        ticket = await sea.command("invite", "--grant", text)
        assert ticket.status == 2
        assert b"export --hide" in ticket.errors
        await sea.stop()
        await sea.start()
        listed = await sea.command("grants")
        assert listed.output.decode().splitlines()[-1] == f"peer  desk  {text}"
        back = await sea.command("grants", "revoke", "desk", text)
        assert back.output.decode() == f"desk may no longer: {text}\n"


@pytest.mark.long
async def test_no_token_is_worth_anything_after_a_restart_of_its_owner(place: Path) -> None:
    files = place / "files"
    files.mkdir()
    async with machines(place) as (sea, _, pi):
        await join(sea, pi)
        async with sea.client() as at:
            token = (await at.rpc("mint", path=str(files), peer="pi", uses=3))["token"]
        await sea.stop()
        await sea.start()
        async with pi.client() as here:
            while not (await here.rpc("peers"))[0]["connected"]:  # what it found a moment ago stands for a second
                pass
            error = await refused(here.rpc("redeem", peer="sea", token=token, at="/n/x", pid=1), E.BADTOKEN)
            assert token not in str(error)


async def test_a_client_without_identity_redeems_nothing(place: Path) -> None:
    async with three(place) as at:
        token = await at.token()
        address, known = await at_listen(at.sea, str(at.files))
        network = at.sea.world.network
        for aname in (f"cap:{token}", f"{known}cap:{token}"):
            mount = await MountServer.connect(await network.connect_tcp(address), RealClock())
            with pytest.raises(CognuError) as caught:
                await mount.attach(ME, aname)
            assert caught.value.error is E.NOATTACH
            assert token not in str(caught.value)
            await mount.close()
        mount = await MountServer.connect(await network.connect_tcp(address), RealClock())
        root = await mount.attach(ME, known)
        await refused(mount.hand_on(root, what(at.pi, READ)), E.NOSYS)
        await mount.close()
        session = await MountServer.connect(await network.connect_unix(at.sea.home.socket), RealClock())
        await refused(session.attach(ME, f"cap:{token}"), E.NOATTACH)  # it names pi, not this node's own user
        await session.close()


async def at_listen(node: Node, path: str) -> tuple[str, str]:
    client = await MountServer.connect(await node.world.network.connect_unix(node.home.socket), RealClock())
    session = Session(client, far(await client.attach(ME, "")))
    said = await session.rpc("listen", address="127.0.0.1:0", path=path)
    await client.close()
    return said["address"], said["token"]
