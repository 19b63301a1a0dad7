"""What a peer gave to be run here counts as given until it is dropped, and not after."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from cognu.mesh.identity import Peer
from cognu.node.launcher import Launcher
from cognu.node.peers import PeerExports

PI = Peer("f", "pi", "")


class Here:
    """A node's store, which has every program that was fetched once, and its book."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.known: dict[str, Peer] = {"f": PI}
        self.on_fetch: Callable[[], None] = lambda: None
        self.exports = PeerExports(cast(Any, None), cast(Any, None))
        self.store = SimpleNamespace(is_published=lambda name: False, get_from=self._fetch, get=self._get)
        self.book = SimpleNamespace(find=self.known.__getitem__, get=self.known.get)

    async def _fetch(self, peer: str, name: str) -> bytes:
        self.fetched.append(name)
        self.on_fetch()
        return b"program"

    async def _get(self, name: str) -> bytes:
        return b"program"

    async def given(self, name: str) -> None:
        launcher = object.__new__(Launcher)
        launcher._node = cast(Any, self)
        assert await launcher._given_by("f", name) == b"program"

    def drop(self) -> None:
        self.known.clear()
        self.exports.forget("f")


async def test_a_program_is_given_once_and_again_after_its_peer_was_dropped() -> None:
    here = Here()
    for name in ("a", "a", "b", "a"):
        await here.given(name)
    assert here.fetched == ["a", "b"]
    here.drop()
    assert here.exports.given == {}
    here.known["f"] = PI  # it was invited again
    await here.given("a")
    assert here.fetched == ["a", "b", "a"]


async def test_what_comes_while_its_peer_is_dropped_is_not_remembered() -> None:
    here = Here()
    here.on_fetch = here.drop
    await here.given("a")
    assert here.exports.given == {}
