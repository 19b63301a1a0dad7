"""What would begin on a peer that is away is kept waiting for a while, and then refused, with what was begun ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.errors import E, FileError
from cognu.files.launch import AWAY_SECONDS
from cognu.mesh.identity import Peer
from cognu.node.away import LOOK_SECONDS, unless_away
from cognu.node.node import Node
from cognu.world.timing import time_of_day

SINCE = 1_700_000_000 * 10**9
LOOKS = int(AWAY_SECONDS / LOOK_SECONDS)


class Away:
    """A node whose clock goes on by itself, and which is linked with its peer at the looks of these numbers."""

    def __init__(self, *linked: int) -> None:
        self.linked = linked
        self.looks = 0
        self.ended = False
        self.answers = {0: asyncio.Event()}  # by the number of the look at which there is one
        self.link: SimpleNamespace | None = SimpleNamespace(reaching=SimpleNamespace(since=SINCE))
        mesh = SimpleNamespace(is_linked=self.is_linked, link_of=lambda _: self.link)
        clock = SimpleNamespace(sleep=self.sleep)
        self.node = cast(Node, SimpleNamespace(mesh=mesh, world=SimpleNamespace(clock=clock)))

    def is_linked(self, fingerprint: str) -> bool:
        assert fingerprint == "f"
        self.looks += 1
        if self.looks in self.answers:
            self.answers[self.looks].set()
        return self.looks in self.linked

    async def sleep(self, seconds: float) -> None:
        assert seconds == LOOK_SECONDS
        await asyncio.sleep(0)

    async def work(self, answered: asyncio.Event) -> int:
        try:
            await answered.wait()
            return self.looks
        finally:
            self.ended = True

    async def ask(self, looks: int, *addresses: str) -> Any:
        """For what answers after so many looks; 0: never."""
        answered = self.answers.setdefault(looks, asyncio.Event())
        return await unless_away(self.node, Peer("f", "pi", "", addresses), self.work(answered))


@pytest.mark.parametrize("addresses", [(), ("a:1",), ("a:1", "b:1")])
async def test_it_is_refused_after_a_while_however_many_addresses_it_has(addresses: tuple[str, ...]) -> None:
    away = Away()
    with pytest.raises(FileError) as caught:
        await away.ask(0, *addresses)
    assert caught.value.error is E.HOSTUNREACH
    assert caught.value.subject == "pi"
    assert caught.value.detail == f"away since {time_of_day(SINCE)}; waited 10 seconds"
    assert away.looks == LOOKS
    assert away.ended


async def test_of_one_that_never_was_linked_is_said_how_long_it_was_waited_for() -> None:
    away = Away()
    away.link = None
    with pytest.raises(FileError) as caught:
        await away.ask(0)
    assert caught.value.detail == "waited 10 seconds"


async def test_a_link_that_came_back_meanwhile_begins_the_time_anew() -> None:
    away = Away(LOOKS - 1)
    with pytest.raises(FileError):
        await away.ask(0, "a:1")
    assert away.looks == 2 * LOOKS - 1


async def test_what_is_answered_in_time_is_the_answer() -> None:
    away = Away()
    assert await away.ask(LOOKS - 2, "a:1") >= LOOKS - 2
    assert away.ended
