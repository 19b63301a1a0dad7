"""Machines that were away from each other for so long that their session is lost, and come together by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cognu.errors import E, FileError, LinkBroken
from cognu.mesh import links, roaming
from cognu.mesh.addresses import Addresses
from cognu.mesh.liveness import SECOND
from cognu.mesh.roaming import RETURN_FIRST, RETURN_LAST
from cognu.world import SecureStream
from cognu.world.real import real_world
from mesh_support import QUICK, Forwarder, Node, behind_a_line, two_nodes

SOON_LOST = replace(QUICK, silence=0.3, answer=0.2, retention=0.3)


@asynccontextmanager
async def parted_for_good(path: Path, dialler_leads: bool) -> AsyncIterator[tuple[Node, Node]]:
    """`a`, whose line to `b` is gone, and the session with it."""
    async with behind_a_line(path, dialler_leads, SOON_LOST) as (a, b, line):
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        assert await channel.read(1) == b"x"
        await line.close()
        with pytest.raises(LinkBroken) as caught:
            await channel.read(1)
        assert caught.value.error is E.AWAY
        yield a, b


def linked(node: Node) -> asyncio.Event:
    """Set when a link of it comes up."""
    event = asyncio.Event()
    node.mesh.on_linked = lambda _: event.set()
    return event


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roaming, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(roaming, "SEEK_SOON", 0.0)
    monkeypatch.setattr(links, "RETURN_FIRST", 0.02)


@pytest.mark.parametrize("dialler_leads", [True, False])
async def test_a_peer_whose_session_is_lost_is_linked_again_without_a_command(
    tmp_path: Path, hasty: None, dialler_leads: bool
) -> None:
    async with parted_for_good(tmp_path, dialler_leads) as (a, b):
        came = linked(a)
        other = await Forwarder(b.address).start()
        a.book.update(replace(a.book.find("b"), addresses=(other.address,)))  # and nothing is heard
        await came.wait()
        assert a.mesh.status()[0].connected
        await other.close()


async def test_one_that_is_heard_again_is_near_and_linked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    monkeypatch.setattr(links, "RETURN_FIRST", 1000.0)  # for the pauses; that it was long ago is said by the clock
    async with parted_for_good(tmp_path, True) as (a, b):
        peer, ways = b.identity.fingerprint, a.mesh._of(b.identity.fingerprint)
        [address] = a.book.find("b").addresses
        a.mesh.heard(peer, [address])
        while not a.mesh.refuted(peer, [address]):
            await a.mesh._seek(peer)
        tried, dial = [], a.mesh._dial
        came = linked(a)

        async def dialled(fingerprint: str) -> SecureStream:
            tried.append(fingerprint)
            return await dial(fingerprint)

        a.mesh._sessions[peer]._dial = lambda: dialled(peer)
        a.mesh.heard(peer, [address])  # too soon after the dial that failed
        assert tried == []
        assert not a.mesh.refuted(peer, [address])
        line = Forwarder(b.address)
        line._listener = await real_world().network.listen_tcp(address, line._accept)
        ways.failed(address, a.world.clock.monotonic() - int(1000 * SECOND) - 1)
        a.mesh._sessions[peer].reaching._failure = None
        a.mesh.heard(peer, [address])
        await came.wait()
        assert a.mesh.status()[0].connected
        assert not a.mesh.refuted(peer, [address])
        await line.close()


async def test_the_pauses_grow_to_a_minute_and_are_left_to_chance(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        peer, tried = b.identity.fingerprint, 0
        await a.mesh.connect("b")
        session = a.mesh._sessions[peer]

        async def nobody() -> SecureStream:
            nonlocal tried
            tried += 1
            session.reaching._failure = None
            raise FileError(E.HOSTUNREACH, "b")

        session._dial = nobody
        gone = asyncio.Event()
        a.mesh.on_away = gone.set
        await b.mesh.close()
        await gone.wait()
        a.mesh._roaming.forget(peer)  # the test says when
        pauses: list[float] = []
        for count in range(1, 9):
            session.reaching._failure = None
            pause = await a.mesh._seek(peer)
            assert pause is not None
            assert tried == count
            pauses.append(pause)
        whole = [min(RETURN_FIRST * 2**number, RETURN_LAST) for number in range(8)]
        assert all(most / 2 <= pause <= most for pause, most in zip(pauses, whole, strict=True))
        assert len(set(pauses[4:])) > 1
        a.mesh.note_dropped(peer)  # and to one that dropped this machine nobody goes back
        session.reaching._failure = None
        assert await a.mesh._seek(peer) is None
        assert tried == 8


async def test_one_that_never_was_linked_is_not_dialled_without_a_command(tmp_path: Path) -> None:
    a, b = Node(tmp_path / "a"), Node(tmp_path / "b")
    a.knows(b, "b", "127.0.0.1:9")
    with pytest.raises(FileError):
        await a.mesh.connect("b")
    a.mesh._sessions[b.identity.fingerprint].reaching._failure = None
    assert await a.mesh._seek(b.identity.fingerprint) is None
    await a.mesh.close()
    await b.mesh.close()


def test_what_is_said_again_is_worth_a_dial_when_the_last_one_there_was_some_time_ago() -> None:
    ways, said = Addresses(), ("192.0.2.1:9", "192.0.2.2:9")
    ways.hear(said, 0)
    assert not ways.failed_before(said, 100)
    ways.failed(said[1], 50)
    assert ways.failed_before(said, 51)
    assert not ways.failed_before(said, 50)
    assert not ways.failed_before(said[:1], 51)
    ways.answered(said[1], 52)
    assert not ways.failed_before(said, 100)
