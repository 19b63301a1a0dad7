"""Verbs of a node whose parts are in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.errors import CognuError, E, LinkBroken, visible
from cognu.mesh.identity import Peer
from cognu.mesh.session import Channel
from cognu.node import verbs
from cognu.node.node import Node
from cognu.node.telling import DROPPED
from cognu.node.verbs import make_verbs
from joined import idle
from mesh_support import two_nodes


class Recorded:
    """Stands for the parts of a node that take part when a peer is dropped, and has in what order they do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.over = False
        self.tasks: list[asyncio.Task[None]] = []
        self.peer = Peer("f", "pi", "")
        self.book = SimpleNamespace(find=lambda name: self.peer, remove=lambda fingerprint: self.done.append("book"))
        self.mesh = SimpleNamespace(cut=self._cut, leave=lambda fingerprint: self.done.append("channels"))
        self.network = SimpleNamespace(drop=self._end)

    def part(self, fingerprint: str) -> None:
        self.done.append("grants")

    async def _cut(self, fingerprint: str) -> None:
        self.done.append("link")

    async def _end(self, name: str) -> None:
        self.done.append("network")

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if self.over:
            work.close()
            return None
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]


async def test_who_is_dropped_is_out_of_the_book_before_the_goodbye_whatever_becomes_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, asked, heard = Recorded(), asyncio.Event(), asyncio.Event()

    async def goodbye(node: Node, peer: Peer) -> bool:
        asked.set()
        await heard.wait()
        return True

    monkeypatch.setattr(verbs, "say_goodbye", goodbye)
    drop = make_verbs(cast(Node, node), cast(Any, None))["drop"]
    caller = asyncio.ensure_future(drop({"peer": "pi"}))
    await asked.wait()
    assert node.done == ["book", "grants", "channels"]
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    heard.set()
    await asyncio.gather(*node.tasks)
    assert node.done == ["book", "grants", "channels", "link", "network"]


async def test_the_link_to_who_is_dropped_ends_also_if_the_goodbye_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, asked = Recorded(), asyncio.Event()

    async def goodbye(node: Node, peer: Peer) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(verbs, "say_goodbye", goodbye)
    drop = make_verbs(cast(Node, node), cast(Any, None))["drop"]
    caller = asyncio.ensure_future(drop({"peer": "pi"}))
    await asked.wait()
    node.tasks[0].cancel()
    assert await caller == {"told": False}
    assert node.done == ["book", "grants", "channels", "link", "network"]


async def test_dropping_a_peer_waits_for_no_goodbye_where_the_node_ends_and_begins_none() -> None:
    node = Recorded()
    node.over = True
    drop = make_verbs(cast(Node, node), cast(Any, None))["drop"]
    caller = asyncio.ensure_future(drop({"peer": "pi"}))
    await idle()
    assert caller.done()
    assert (await caller, node.done) == ({"told": False}, ["book", "grants", "channels"])


async def test_dropping_a_peer_waits_for_no_goodbye_that_was_cancelled_before_it_began() -> None:
    node = Recorded()
    drop = make_verbs(cast(Node, node), cast(Any, None))["drop"]
    caller = asyncio.ensure_future(drop({"peer": "pi"}))
    await asyncio.sleep(0)
    node.tasks[0].cancel()
    await idle()
    assert caller.done()
    assert await caller == {"told": False}


async def test_who_joined_is_linked_up_with_whatever_it_calls_what_it_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have a newer version, or lie: it is pinned by then."""
    linked: list[str] = []
    before = Peer("f", "pi", "", received=("lamp:1", "net"))
    peer = Peer("f", "pi", "", granted=("run",), received=("net", "camera:front\x1b[2J"))

    async def join(*_: object) -> Peer:
        return peer

    async def put_in_force(peer: Peer) -> list[CognuError]:
        return []

    async def check(texts: tuple[str, ...]) -> None:
        pass

    async def connect(fingerprint: str) -> None:
        linked.append(fingerprint)

    node = SimpleNamespace(
        world=None, me=lambda: None, book=SimpleNamespace(all=lambda: [before]), put_in_force=put_in_force,
        exports=SimpleNamespace(check=check), mesh=SimpleNamespace(note_joined=linked.append, connect=connect),
    )  # fmt: skip
    monkeypatch.setattr(verbs, "join", join)
    joined = await make_verbs(cast(Node, node), cast(Any, None))["join"]({"ticket": "t", "grants": ["run"]})
    assert joined["describe_received"] == ["use pi's network (/net)", visible("use what pi calls camera:front\x1b[2J")]
    assert joined["ended_received"] == ["use what pi calls lamp:1"]
    assert linked == ["f", "f"]


async def test_who_is_dropped_and_does_not_take_note_does_nothing_more_meanwhile(tmp_path: Path) -> None:
    """`b` drops `a`, which goes on with what it has, tries anew, and never says that it heard."""
    heard: list[bytes] = []
    served: list[str] = []
    some, goodbye, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def listen(peer: Peer, label: str, channel: Channel) -> None:
        served.append(label)
        while data := await channel.read(100):
            heard.append(data)
            some.set()

    async def be_silent(peer: Peer, label: str, channel: Channel) -> None:
        if label == DROPPED:
            goodbye.set()
        await never.wait()

    async with two_nodes(tmp_path, be_silent, listen) as (a, b):
        node = Recorded()
        node.book, node.mesh = cast(Any, b.book), cast(Any, b.mesh)
        cast(Any, node).world = b.world
        terminal = await a.mesh.open("b", "token:1")  # such as what a cpu writes to
        await terminal.write(b"x")
        await some.wait()
        tail = await b.mesh.open("a", "tree")
        reading = asyncio.ensure_future(tail.read(1))
        dropping = asyncio.ensure_future(make_verbs(cast(Node, node), cast(Any, None))["drop"]({"peer": "a"}))
        assert terminal.offer(b"on its way")
        with pytest.raises(LinkBroken) as caught:
            await reading
        assert caught.value.error is E.PARTED  # and not that a has dropped it
        await goodbye.wait()
        assert not dropping.done()
        with pytest.raises(LinkBroken) as caught:
            await terminal.read(1)
        assert caught.value.error is E.DROPPED
        late = await a.mesh.open("b", "store")
        with pytest.raises(LinkBroken) as caught:
            await late.read(1)
        assert caught.value.error is E.DROPPED
        assert not dropping.done()
        assert await dropping == {"told": False}
        assert (heard, served) == ([b"x"], ["token:1"])
        assert not b.mesh.is_linked(a.identity.fingerprint)
        never.set()
