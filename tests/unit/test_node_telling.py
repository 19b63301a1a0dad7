"""What a node says of its grants, as text, and when it asks what it is granted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.registry import SECOND
from cognu.errors import E, FileError, ProtocolError
from cognu.mesh.identity import GRANT_LENGTH, GRANT_LIMIT, Peer
from cognu.mesh.session import Channel
from cognu.node import telling
from cognu.node.node import Node
from cognu.node.telling import (
    GRANTED,
    KEEP_SECONDS,
    LEAST_SECONDS,
    Asking,
    answer,
    grants_text,
    parse_grants_text,
    refresh_one,
    tell_granted,
)
from cognu.world.timing import end_tasks
from joined import idle
from unit.test_registering import Clock


@given(st.lists(st.sampled_from(["net", "run", "read:/home/me", "write:/ä"]), unique=True))
def test_grants_are_read_as_they_were_told(grants: list[str]) -> None:
    assert parse_grants_text(grants_text(Peer("f", "pi", "", granted=tuple(grants)))) == tuple(grants)


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_any_other_answer_breaks_the_protocol_and_none_is_out_of_bounds(data: bytes) -> None:
    try:
        told = parse_grants_text(data)
    except ProtocolError:
        return
    assert list(told) == json.loads(data)
    assert len(told) <= GRANT_LIMIT
    assert all(0 < len(text.encode()) <= GRANT_LENGTH for text in told)


@pytest.mark.parametrize(
    "told", [{}, [1], [""], ["a\0b"], ["x" * (GRANT_LENGTH + 1)], ["net"] * (GRANT_LIMIT + 1), "net"]
)
def test_what_is_given_nowhere_is_refused(told: object) -> None:
    with pytest.raises(ProtocolError) as raised:
        parse_grants_text(json.dumps(told).encode())
    assert raised.value.error is E.BADMESSAGE


class Bench:
    """desk and its peer pi, which is linked at first; `asked` are those that were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.peers = {"f1": Peer("f1", "pi", "")}
        self.linked = {"f1"}
        self.asked: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.looks = 0
        mesh = SimpleNamespace(is_linked=lambda key: key in self.linked, link_of=lambda key: self)
        self.node = cast(Node, SimpleNamespace(
            world=SimpleNamespace(clock=self.clock), book=SimpleNamespace(get=self.peers.get), mesh=mesh,
            spawn=lambda work: self.tasks.append(asyncio.ensure_future(work)),
        ))  # fmt: skip
        self.asking = Asking(self.node, self.looked)
        self.node.on_granted = self.asking.ask
        self.opened: list[str] = []
        self.silent = False
        monkeypatch.setattr(telling, "refresh_one", self.refreshed)

    async def refreshed(self, node: Node, peer: Peer) -> bool:
        self.asked.append(peer.name)
        return False

    def looked(self) -> None:
        self.looks += 1

    async def open_channel(self, label: str) -> Bench:
        self.opened.append(label)
        return self

    async def read(self, count: int) -> bytes:
        if self.silent:
            await asyncio.Event().wait()
        return b""

    def close(self) -> None:
        self.opened.append("closed")


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    made = Bench(monkeypatch)
    yield made
    await end_tasks(*made.tasks)
    assert not [task for task in made.tasks if not task.cancelled() and task.exception()]


async def test_a_peer_that_says_that_its_grants_are_others_is_asked_at_once_and_then_once_in_a_second(
    bench: Bench,
) -> None:
    channel = SimpleNamespace(label=GRANTED)
    for _ in range(100):
        await answer(bench.node, bench.peers["f1"], cast(Channel, channel))
        await idle()
    assert (bench.asked, bench.looks, len(bench.tasks)) == (["pi"], 1, 1)
    await bench.clock.passes(LEAST_SECONDS)
    assert (bench.asked, bench.looks) == (["pi"] * 2, 2)
    await bench.clock.passes(LEAST_SECONDS)
    assert (bench.asked, bench.looks) == (["pi"] * 2, 2)
    assert bench.tasks[0].done()
    bench.asking.ask("f1")
    await idle()
    assert len(bench.asked) == 3


async def test_who_is_not_linked_or_no_peer_any_more_is_not_asked(bench: Bench) -> None:
    bench.linked.clear()
    bench.asking.ask("f1")
    await idle()
    bench.linked.add("f1")
    bench.asking.ask("f1")
    bench.asking.ask("f1")
    await idle()
    del bench.peers["f1"]
    await bench.clock.passes(LEAST_SECONDS)
    assert (bench.asked, all(task.done() for task in bench.tasks)) == (["pi"], True)


async def test_where_the_disk_is_full_what_a_peer_says_is_no_failure_and_what_is_not_kept_is_not_called_current(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def update(peer: Peer) -> None:
        raise FileError(E.NOSPC, "peers")

    async def said(node: Node, peer: Peer) -> tuple[str, ...]:
        return tuple(says)

    says: list[str] = []
    bench.clock.at = (KEEP_SECONDS + 1) * SECOND
    cast(SimpleNamespace, bench.node).book.update = update
    monkeypatch.setattr(telling, "_ask", said)
    monkeypatch.setattr(telling, "refresh_one", refresh_one)
    assert await refresh_one(bench.node, bench.peers["f1"])  # only when it was said could not be kept
    says.append("net")
    assert not await refresh_one(bench.node, bench.peers["f1"])
    said_so = f"what this node may do at pi can't be kept until it says so again: {FileError(E.NOSPC, 'peers')}"
    assert caplog.messages == [said_so] * 2
    bench.asking.ask("f1")
    await idle()
    assert bench.looks == 1


async def test_a_peer_is_told_of_its_grants_if_it_is_linked_and_not_waited_for_without_end(bench: Bench) -> None:
    await tell_granted(bench.node, bench.peers["f1"])
    assert bench.opened == [GRANTED, "closed"]
    bench.silent = True
    told = asyncio.ensure_future(tell_granted(bench.node, bench.peers["f1"]))
    await idle()
    assert not told.done()
    await bench.clock.passes(telling.ASK_SECONDS)
    await told
    assert bench.opened == [GRANTED, "closed"] * 2
    bench.linked.clear()
    await tell_granted(bench.node, bench.peers["f1"])
    assert len(bench.opened) == 4
