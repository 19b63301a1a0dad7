"""The root of a tree that is served stays where it is, whoever may write in it: its name is in a directory beyond."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from cognu.devices.host import HostServer
from cognu.errors import LACKING, E, FileError, from_errno, from_text
from cognu.files.chan import Chan
from cognu.files.handing import attenuate
from cognu.files.launch import TOKEN_LABEL
from cognu.files.process import Process
from cognu.files.server import Caller, Fid, HandOn, MaybeAsync, Walk
from cognu.files.shown import Shown, parse_filter
from cognu.files.shownserver import ShownFid, ShownServer
from cognu.files.steps import finish
from cognu.kernel import CREATE, EXECUTE, GRANT, READ, WRITE
from cognu.ninep import messages as m
from cognu.ninep.attrs import wire_of_setstat
from cognu.ninep.messages import OLD_STYLE, Dialect, Message, Request
from cognu.ninep.types import ORCLOSE, ORDWR, OREAD, RIGHT_CREATE, RIGHT_EXECUTE, RIGHT_READ, RIGHT_WRITE, SetStat
from cognu.node.exporting import exported
from cognu.node.node import Node
from cognu.node.peers import PeerExports
from cognu.node.settings import Home, Settings
from cognu.world.real import real_world
from joined import Raw, bring
from serving import Client, KeepingTree, done
from serving import Node as SmallNode

DIALECTS = pytest.mark.parametrize("dialect", list(Dialect), ids=lambda dialect: dialect.value)
HIDE = pytest.mark.parametrize("hide", [(), ("*.key",)], ids=["all", "patterns"])
STAYS = (E.PERM, E.MOUNTPOINT)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory to be served, that is empty, and a file, both in another."""
    (tmp_path / "top" / "served").mkdir(parents=True)
    (tmp_path / "top" / "file").write_text("kept")
    return tmp_path / "top"


@pytest.fixture
async def node(host: Path, tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(real_world(), Home(str(tmp_path)), Settings("desk"), "me")
    tree = KeepingTree(str(host))
    small = SmallNode(HostServer(real_world(), tree))
    made.processes = small.processes
    made.base = await small.start()
    yield made
    await made.end_tasks()
    tree.close()


def attempts(dialect: Dialect, fid: int) -> list[Request]:
    """Each request that would take its name away from the file at `fid`; the last gives up the fid too."""
    if dialect in OLD_STYLE:
        change = wire_of_setstat(SetStat(name="moved"), 0, dialect is Dialect.U)
        return [m.Twstat(fid, change), m.Topen(fid, OREAD | ORCLOSE), m.Tremove(fid)]
    return [m.Trename(fid, 7, "moved"), m.Tremove(fid)]


def refusal(answer: Message) -> E:
    if isinstance(answer, m.Rlerror | m.Rngerror):
        return from_errno(answer.ecode).error
    assert isinstance(answer, m.Rerror), answer
    return from_text(answer.ename).error


def left(host: Path) -> list[str]:
    return sorted(path.name for path in host.iterdir())


@HIDE
@DIALECTS
async def test_no_request_takes_the_name_of_a_served_root(
    node: Node, host: Path, dialect: Dialect, hide: tuple[str, ...]
) -> None:
    process = await exported(node, Shown("/served", True, hide), "9p --stdio")
    raw = await Raw.over(process, dialect)
    fids = [0, 1]
    raw.send((m.Twalk(0, 1, ()), 1), (m.Twalk(0, 7, ()), 2))
    await raw.answers(2)
    if dialect is Dialect.NG:
        fids.insert(0, 2)
        asks: list[Request] = [m.Tcaps((m.Feature("attenuate", 1),))]
        asks.append(m.Tattenuate(0, 2, RIGHT_READ | RIGHT_WRITE | RIGHT_CREATE))
        for ask in asks:
            raw.send((ask, 1))
            [(_, less)] = await raw.answers(1)
        assert isinstance(less, m.Rattenuate)
    for fid in fids[::-1]:
        for request in attempts(dialect, fid):
            raw.send((request, 1))
            [(_, answer)] = await raw.answers(1)
            assert refusal(answer) in STAYS, request
    assert left(host) == ["file", "served"]
    await raw.close()


@HIDE
async def test_a_directory_in_it_goes_by_the_same_requests(node: Node, host: Path, hide: tuple[str, ...]) -> None:
    (host / "served" / "in").mkdir()
    process = await exported(node, Shown("/served", True, hide), "9p --stdio")
    raw = await Raw.over(process, Dialect.L)
    for request in (m.Twalk(0, 1, ("in",)), m.Trename(1, 0, "other"), m.Tremove(1)):
        raw.send((request, 1))
        [(_, answer)] = await raw.answers(1)
        assert not isinstance(answer, m.Rlerror), request
    assert left(host / "served") == []
    await raw.close()


@pytest.mark.parametrize("path", ["/served", "/file"])
async def test_what_a_token_is_for_stays(node: Node, host: Path, path: str) -> None:
    base = node.base
    chan = await finish(base.namespace.find(path, base.cwd, base))
    what = HandOn(READ | WRITE | EXECUTE | CREATE, 1, 60, "pi")
    token = node.tokens.make(base.namespace.domain, chan, what, "")[0]
    held = node.tokens.redeem(TOKEN_LABEL + token.text, "pi").chan
    await takes_nothing(base, held)
    assert left(host) == ["file", "served"]
    chan.close()


@pytest.mark.parametrize("text", ["write:/served", "write+hide=*.key:/served", "write:/file", "write:/"])
async def test_what_is_granted_for_good_stays(node: Node, host: Path, text: str) -> None:
    exports = PeerExports(node.base, node.processes)
    await exports.grant([("f" * 52, text)], lambda: None)
    session = await exports.connect("f" * 52, "pi")
    chan = await finish(session.namespace.find(text.partition(":")[2], session.cwd, session))
    await takes_nothing(session, chan)
    await takes_nothing(session, attenuate(session.namespace, chan, RIGHT_READ | RIGHT_WRITE | RIGHT_CREATE))
    assert left(host) == ["file", "served"]
    exports.disconnect("f" * 52, session)
    exports.close()


@pytest.mark.parametrize("by", ["9p --stdio", "listen"])
async def test_who_may_only_read_is_told_that_it_is_served_so(node: Node, host: Path, by: str) -> None:
    session = await exported(node, Shown("/served", False), by)
    space, domain = session.namespace, session.namespace.domain
    with pytest.raises(FileError) as refused:
        await finish(space.create(space.root, "new", 0o600, ORDWR, session))
    assert refused.value.error is E.ACCES
    said = f"{by} serves it to be read; there: cognu 9p --stdio --rw PATH"
    assert refused.value.explain() == f"{E.ACCES.text}: {said}"
    less = attenuate(space, space.root, RIGHT_READ | RIGHT_EXECUTE)
    with pytest.raises(FileError) as refused:
        less.domain.check(less.cap, WRITE | GRANT)
    assert refused.value.detail.startswith(LACKING)
    authority = domain.authority
    assert list(authority.read_only) == [domain.pid]
    writable = await exported(node, Shown("/served", True), by)
    assert list(authority.read_only) == [domain.pid]
    for each in (session, writable):
        node.processes.end(each, 0)
    del less
    gc.collect()
    authority.close_orphans()
    assert authority.read_only == {}


async def takes_nothing(process: Process, chan: Chan) -> None:
    space = process.namespace
    assert await bring(finish(space.wstat(chan, SetStat(name="moved")))) in STAYS
    assert await bring(finish(space.open(chan.share(), OREAD | ORCLOSE, process))) in STAYS
    assert await bring(finish(space.remove(chan.share(), process))) in STAYS


async def test_a_tree_of_which_patterns_say_what_is_shown_keeps_its_root(host: Path) -> None:
    tree = KeepingTree(str(host))
    client = Client(HostServer(real_world(), tree))
    for name in ("served", "file"):
        shown = ShownServer(client.server, parse_filter(["*.key"], []))
        root = ShownFid(await client.walk(name), (), 0, client.caller)
        with pytest.raises(FileError) as refused:
            await done(shown.remove(root))
        assert refused.value.error is E.BUSY
        with pytest.raises(FileError) as refused:
            await done(shown.open(root, OREAD | ORCLOSE, client.caller))
        assert refused.value.error is E.BUSY
        shown.clunk(root)
    assert left(host) == ["file", "served"]
    client.close()
    tree.close()


class Noting(HostServer):
    """Notes the names that it is asked for."""

    asked: ClassVar[list[Sequence[str]]]

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        self.asked.append(names)
        return super().walk(fid, names, caller)


@pytest.mark.parametrize("kind", [list, tuple])
async def test_no_walk_leads_above_a_tree_with_patterns(
    host: Path, kind: type[list[str]] | type[tuple[str, ...]]
) -> None:
    (host / "served" / "in").mkdir()
    tree = KeepingTree(str(host))
    client = Client(Noting(real_world(), tree))
    asked = Noting.asked = []
    shown = ShownServer(client.server, parse_filter(["*.key"], []))
    root = ShownFid(await client.walk("served"), (), 0, client.caller)
    for names in (("..", "file"), ("..", ".."), ("..", "served")):
        for walk in (shown.walk, shown.walk_now):
            with pytest.raises(FileError) as refused:
                await done(walk(root, kind(names), client.caller))
            assert refused.value.error is E.NOENT, names
    stays = await done(shown.walk(root, kind([".."]), client.caller))
    assert stays.fid is not None
    assert (stays.fid.qid, [stays.qids[0]]) == (root.qid, [root.qid])
    for beyond in (["in", ".."], ["in", "..", "..", "file"]):
        walked = await done(shown.walk(root, kind(beyond), client.caller))
        assert (walked.fid, len(walked.qids)) == (None, 1), beyond
    inner = (await done(shown.walk(root, kind(["in"]), client.caller))).fid
    assert inner is not None
    up = (await done(shown.walk(inner, kind([".."]), client.caller))).fid
    assert up is not None
    assert up.qid == root.qid
    assert {tuple(names) for names in asked if ".." in names} == {("..",)}
    for fid in (up, inner, stays.fid, root):
        shown.clunk(fid)
    client.close()
    tree.close()
