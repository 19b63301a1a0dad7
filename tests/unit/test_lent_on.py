"""What is lent on to others and what never is: by a grant, by a token, by an export; and one tree per connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.errors import E, FileError
from cognu.files.launch import TOKEN_LABEL
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace
from cognu.files.process import Process
from cognu.files.server import Fid, FileServer, HandOn
from cognu.files.shown import Filter, Shown
from cognu.files.steps import finish
from cognu.kernel import READ
from cognu.mesh.identity import GRANT_LIMIT, Peer
from cognu.mesh.session import Channel
from cognu.ninep.messages import Dialect
from cognu.ninep.types import Qid
from cognu.node.channels import Channels
from cognu.node.delegation import NOT_HANDED_ON, TREE, make_token
from cognu.node.exporting import PRIVATE, exported
from cognu.node.grants import grant_of, parse_grant
from cognu.node.node import Node
from cognu.node.peers import ALONE, PeerExports
from cognu.node.tokens import Tokens
from cognu.world.real import RealRandom
from joined import CountingServer, bring, joined, tree
from serving import Client, Somebody, done
from serving import Node as Base
from streams import pair

PI = Peer("f" * 52, "pi", "")
WHAT = HandOn(READ, 1, 60, PI.fingerprint)
PLACE = "/d/e"


class StillClock:
    def monotonic(self) -> int:
        return 0


@dataclass
class Small:
    """A world of chance and a clock."""

    clock: StillClock = field(default_factory=StillClock)
    random: RealRandom = field(default_factory=RealRandom)


class Here:
    """What of a node lends: a base process with a tree, in which `other` is mounted at `PLACE`; one peer is known."""

    base: Process
    exports: PeerExports

    def __init__(self) -> None:
        self.own = tree()
        self._base = Base(self.own)
        self.authority, self.processes = self._base.authority, self._base.processes
        self.tokens = Tokens(cast(Any, Small()), self.authority)
        self.book = SimpleNamespace(get={PI.fingerprint: PI}.get, find={PI.fingerprint: PI}.__getitem__)

    async def start(self, other: FileServer | None = None) -> Here:
        self.base = await self._base.start({} if other is None else {PLACE: other})
        self.exports = PeerExports(self.base, self.processes)
        return self

    async def token(self) -> str:
        """For what is seen at `PLACE`."""
        namespace = self.base.namespace
        found = await finish(namespace.find(PLACE, self.base.cwd, self.base))
        try:
            return make_token(cast(Node, self), namespace, found, WHAT, "", Filter())[0].text
        finally:
            found.close()

    async def grant(self, text: str) -> None:
        """In force for the peer, for connections that come."""
        self.exports._held.setdefault(PI.fingerprint, {})[text] = await self.exports._hold(parse_grant(text))

    async def own_qid(self) -> Qid:
        """What is at `PLACE` in the node's own tree, below whatever is mounted there."""
        client = Client(self.own)
        fid = await client.walk(PLACE)
        self.own.clunk(fid)
        client.close()
        return fid.qid


async def seen(namespace: Namespace, process: Process) -> tuple[str, Qid]:
    """Of which server the file at `PLACE` is, behind mount points, and its qid."""
    found = await finish(namespace.find(PLACE, namespace.root, process))
    target, _ = namespace.cross(found)
    return target.server.spec, target.qid


@pytest.mark.parametrize("spec", NOT_HANDED_ON)
async def test_a_device_that_goes_by_whose_it_is_is_not_handed_on_by_a_token(spec: str) -> None:
    here = await Here().start(CountingServer(spec))
    assert await bring(here.token()) is E.ACCES
    assert here.tokens.all() == []


async def test_what_came_from_another_machine_is_not_handed_on_as_this_ones_own() -> None:
    async with joined(Dialect.NG, server=tree()) as ends:
        here = await Here().start(ends.mount)
        ends.mount.near = False
        assert await bring(here.token()) is E.ACCES
        assert here.tokens.all() == []
        ends.mount.near = True  # what a program here serves is this machine's
        assert await here.token()
        here.tokens.close()


async def test_what_is_the_nodes_own_is_handed_on() -> None:
    here = await Here().start()
    token = await here.token()
    assert here.tokens.redeem(TOKEN_LABEL + token, PI.fingerprint).rights == READ
    here.tokens.close()


async def test_the_clipboard_is_lent_by_a_grant_of_its_own_and_not_with_a_tree() -> None:
    here = await Here().start(CountingServer("#D"))
    await here.grant("read:/d")
    session = await here.exports.connect(PI.fingerprint, PI.name)
    assert await seen(session.namespace, session) == ("#1", await here.own_qid())
    here.exports.disconnect(PI.fingerprint, session)
    await here.grant(f"read:{PLACE}")
    session = await here.exports.connect(PI.fingerprint, PI.name)
    assert (await seen(session.namespace, session))[0] == "#D"
    here.exports.disconnect(PI.fingerprint, session)
    here.exports.close()


@pytest.mark.parametrize("spec", ["#N", "#n", "#s", "#d", "#e", "#p", "#C"])
async def test_a_device_of_processes_or_of_the_nodes_control_is_not_lent_by_a_grant(spec: str) -> None:
    here = await Here().start(CountingServer(spec))
    assert await bring(here.exports.check((f"read:{PLACE}",))) is E.ACCES
    # Nor with a tree that it is mounted in: there the peer sees what is below it.
    await here.grant("read:/d")
    session = await here.exports.connect(PI.fingerprint, PI.name)
    assert await seen(session.namespace, session) == ("#1", await here.own_qid())
    here.exports.disconnect(PI.fingerprint, session)
    here.exports.close()


async def test_rights_behind_the_path_of_a_grant_are_told_from_a_path() -> None:
    here = await Here().start()
    for path, meant in (("/gone/x:rw", "write:/gone/x"), ("/gone/x:r", "read:/gone/x"), ("/gone/x:y", ""), ("/x", "")):
        with pytest.raises(FileError) as caught:
            await here.exports.check((f"read:{path}",))
        assert (caught.value.error, caught.value.subject) == (E.NOENT, path)
        assert caught.value.detail == (
            f"a machine's grant has no :{path.rpartition(':')[2]} behind its path: {meant}" if meant else ""
        )
    here.exports.close()


async def test_more_grants_than_one_may_have_are_refused_before_any_is_looked_at() -> None:
    here = await Here().start()
    texts = tuple(f"read:/gone{n}" for n in range(GRANT_LIMIT + 1))
    assert await bring(here.exports.check(texts)) is E.GRANTSFULL
    assert await bring(here.exports.check(texts[1:])) is E.NOENT
    await here.grant("read:/d")
    assert await bring(here.exports.check(texts[1:], PI.fingerprint)) is E.GRANTSFULL
    here.exports.close()


async def test_another_device_is_lent_by_a_grant_with_the_tree_it_is_mounted_in() -> None:
    here = await Here().start(CountingServer("#k"))
    await here.exports.check((f"read:{PLACE}",))
    await here.grant("read:/d")
    session = await here.exports.connect(PI.fingerprint, PI.name)
    assert (await seen(session.namespace, session))[0] == "#k"
    here.exports.disconnect(PI.fingerprint, session)
    here.exports.close()


WRITABLE = Shown("/", writable=True)
HIDING = Shown("/", hide=("*.key",))


@pytest.mark.parametrize("shown", [WRITABLE, HIDING], ids=["writable", "hiding"])
@pytest.mark.parametrize("spec", PRIVATE)
async def test_where_something_may_be_changed_or_is_hidden_no_device_of_processes_is_exported(
    spec: str, shown: Shown
) -> None:
    here = await Here().start(CountingServer(spec))
    session = await exported(cast(Node, here), shown, "9p")
    assert await seen(session.namespace, session) == ("#1", await here.own_qid())
    here.processes.end(session, 0)


@pytest.mark.parametrize("shown", [WRITABLE, HIDING, Shown("/")], ids=["writable", "hiding", "read-only"])
@pytest.mark.parametrize("spec", ALONE)
async def test_what_is_the_persons_at_the_machine_goes_with_no_tree(spec: str, shown: Shown) -> None:
    here = await Here().start(CountingServer(spec))
    session = await exported(cast(Node, here), shown, "9p")
    assert await seen(session.namespace, session) == ("#1", await here.own_qid())
    here.processes.end(session, 0)
    await here.grant("read:/d")
    peer = await here.exports.connect(PI.fingerprint, PI.name)
    assert await seen(peer.namespace, peer) == ("#1", await here.own_qid())
    here.exports.disconnect(PI.fingerprint, peer)
    await here.exports.check((f"read:{PLACE}",))  # by its own name it may be granted
    here.exports.close()


@pytest.mark.parametrize(("spec", "shown"), [("#k", WRITABLE), ("#p", Shown("/"))])
async def test_else_it_is_exported_as_it_is(spec: str, shown: Shown) -> None:
    here = await Here().start(CountingServer(spec))
    session = await exported(cast(Node, here), shown, "9p")
    assert (await seen(session.namespace, session))[0] == spec
    here.processes.end(session, 0)


@pytest.mark.parametrize("first", ["what was granted", "another token"])
async def test_a_connection_that_has_a_tree_redeems_no_token(first: str) -> None:
    """Else what it has open would go on as another process's."""
    here = await Here().start()
    here.tokens = Tokens(cast(Any, Small()), here.authority)
    await here.grant("read:/d")
    tokens = [await here.token(), await here.token()]
    near, far = pair()
    channels = Channels(cast(Node, here))
    answering = asyncio.create_task(channels.answer(PI, TREE, cast(Channel, far)))
    mount = await MountServer.connect(near, cast(Any, StillClock()), "#M")
    root: Fid = await done(mount.attach(Somebody(), "" if first == "what was granted" else TOKEN_LABEL + tokens[0]))
    assert await bring(attached(mount, TOKEN_LABEL + tokens[1])) is E.NOATTACH
    assert [handed.left for handed in here.tokens.all() if not handed.used] == [1] * (1 + (first != "another token"))
    mount.clunk(root)
    await mount.close()
    await answering
    here.tokens.close()
    here.exports.close()


async def attached(mount: MountServer, aname: str) -> object:
    return await done(mount.attach(Somebody(), aname))


@pytest.mark.parametrize("name", ["it's, mine", "two\nlines", "'", " "])
async def test_a_tree_of_any_name_is_lent_by_it(name: str) -> None:
    here = await Here().start()
    here.own.plant(f"/d/{name}", None)
    here.own.plant(f"/d/{name}/y", "read")
    await here.grant(grant_of("read", f"/d/{name}"))
    session = await here.exports.connect(PI.fingerprint, "pi")
    found = await finish(session.namespace.find(f"/d/{name}/y", session.cwd, session))
    assert found.path.names() == ["d", name, "y"]
    found.close()
    here.exports.disconnect(PI.fingerprint, session)
    here.exports.close()


async def test_all_connections_of_a_peer_have_room_for_so_many_fids_together() -> None:
    here = await Here().start()
    await here.grant("read:/d")
    here.exports.fids(PI.fingerprint, "pi").most = 4
    channels, mounts, answering = Channels(cast(Node, here)), list[MountServer](), list[asyncio.Task[None]]()
    roots: list[Fid] = []
    for _ in range(2):
        near, far = pair()
        answering.append(asyncio.create_task(channels.answer(PI, TREE, cast(Channel, far))))
        mounts.append(await MountServer.connect(near, cast(Any, StillClock()), "#M"))
        roots.append(await done(mounts[-1].attach(Somebody(), "")))
    walked = [await mounts[0].walk(roots[0], ["d"], Somebody()) for _ in range(2)]
    with pytest.raises(FileError) as refused:
        await mounts[1].walk(roots[1], ["d"], Somebody())
    assert refused.value.error is E.DQUOT
    assert "the limit of peer pi is 4, in use are 4" in str(refused.value)
    await mounts[0].close()
    await answering[0]
    assert here.exports.fids(PI.fingerprint, "pi").taken == 1
    assert (await mounts[1].walk(roots[1], ["d"], Somebody())).fid is not None
    assert len(walked) == 2
    await mounts[1].close()
    await answering[1]
    assert here.exports.fids(PI.fingerprint, "pi").taken == 0
    here.exports.close()
