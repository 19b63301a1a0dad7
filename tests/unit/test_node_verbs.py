"""Verbs of a node whose parts are in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.mesh.identity import Peer
from cognu.node import verbs
from cognu.node.node import Node
from cognu.node.verbs import make_verbs


class Recorded:
    """Stands for the parts of a node that take part when a peer is dropped, and has in what order they do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.peer = Peer("f", "pi", "")
        self.book = SimpleNamespace(find=lambda name: self.peer, remove=lambda fingerprint: self.done.append("book"))
        self.mesh = SimpleNamespace(cut=self._cut)
        self.network = SimpleNamespace(drop=self._end)

    def part(self, fingerprint: str) -> None:
        self.done.append("grants")

    async def _cut(self, fingerprint: str) -> None:
        self.done.append("link")

    async def _end(self, name: str) -> None:
        self.done.append("network")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))


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
    assert node.done == ["book", "grants"]
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    heard.set()
    await asyncio.gather(*node.tasks)
    assert node.done == ["book", "grants", "link", "network"]


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
    assert node.done == ["book", "grants", "link", "network"]
