"""A machine that moves, and peers with several addresses: real sockets, lines that go deaf, and no byte lost."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cognu.errors import E, FileError
from cognu.mesh import links
from cognu.mesh.liveness import LEAST, RATE_SECONDS, SECOND, SHORTEST_SECONDS, Measure
from cognu.mesh.roaming import (
    GATHER_SECONDS,
    LEAST_GAIN,
    LOOK_SECONDS,
    Change,
    Roaming,
    clearly_nearer,
    host_of,
)
from cognu.world.real import RealClock, real_world
from mesh_support import QUICK, Forwarder, Node, behind_a_line, echoed, read_all, read_exactly, two_nodes

MS = 1_000_000


def parting(node: Node) -> asyncio.Event:
    """Set when a node's only link is gone."""
    (session,) = node.mesh._sessions.values()
    parted, link_down = asyncio.Event(), session.core.link_down

    def note() -> None:
        link_down()
        parted.set()

    session.core.link_down = note  # type: ignore[method-assign]
    return parted


def test_another_network_a_jump_and_a_sleep_are_changes_and_nothing_else() -> None:
    change = Change()
    hosts = {"10.0.0.1", "127.0.0.1"}
    assert change.look(1000 * SECOND, 5 * SECOND, hosts) == (False, frozenset())
    assert change.look(1002 * SECOND, 7 * SECOND, hosts) == (False, frozenset())
    assert change.look(1004 * SECOND, 9 * SECOND, {*hosts, "10.0.0.2"}) == (True, frozenset())
    assert change.look(1006 * SECOND, 11 * SECOND, {"127.0.0.1"}) == (True, frozenset({"10.0.0.1", "10.0.0.2"}))
    assert change.look(1010 * SECOND, 15 * SECOND, {"127.0.0.1"}) == (False, frozenset())
    assert change.look(1030 * SECOND, 35 * SECOND, {"127.0.0.1"}) == (True, frozenset())  # it was asleep
    assert change.look(5032 * SECOND, 37 * SECOND, {"127.0.0.1"}) == (True, frozenset())  # a clock that stood still
    assert change.look(5034 * SECOND, 39 * SECOND, {"127.0.0.1"}) == (False, frozenset())


class StoppedClock(RealClock):
    """Nothing is ever due by itself; `waits` has how long each sleeper wanted to."""

    def __init__(self) -> None:
        self.waits: asyncio.Queue[float] = asyncio.Queue()
        self.passes: set[float] = set()

    async def sleep(self, seconds: float) -> None:
        self.waits.put_nowait(seconds)
        if seconds not in self.passes:
            await asyncio.Event().wait()


async def test_what_the_host_says_of_its_addresses_is_acted_on_before_the_look_is_due() -> None:
    clock, has, told = StoppedClock(), {"10.0.0.1": "eth0"}, []
    clock.passes.add(GATHER_SECONDS)
    gone: asyncio.Queue[set[str]] = asyncio.Queue()

    def follow(changed: Callable[[], None]) -> Callable[[], None]:
        told.append(changed)
        return lambda: told.remove(changed)

    async def never(_: str) -> None:
        raise AssertionError("there is no peer")

    world = replace(real_world(), clock=clock)
    roaming = Roaming(world, lambda: has, lambda hosts: gone.put_nowait(set(hosts)), never, follow)
    roaming.begin()
    roaming.begin()
    [changed] = told
    for new, old in (("10.0.0.2", {"10.0.0.1"}), ("10.0.0.3", {"10.0.0.2"})):
        assert await clock.waits.get() == LOOK_SECONDS
        has.clear()
        has[new] = "eth0"
        for _ in range(3):
            changed()
        assert await gone.get() == old
        assert await clock.waits.get() == GATHER_SECONDS
    assert await clock.waits.get() == LOOK_SECONDS
    changed()  # of nothing that matters
    assert await clock.waits.get() == GATHER_SECONDS
    assert await clock.waits.get() == LOOK_SECONDS
    assert gone.empty()
    await roaming.close()
    assert told == []
    await roaming.close()


async def test_a_host_that_says_nothing_of_its_addresses_is_looked_at() -> None:
    clock, has = StoppedClock(), {"10.0.0.1": "eth0"}
    gone: asyncio.Queue[set[str]] = asyncio.Queue()

    async def never(_: str) -> None:
        raise AssertionError("there is no peer")

    world = replace(real_world(), clock=clock)
    roaming = Roaming(world, lambda: has, lambda hosts: gone.put_nowait(set(hosts)), never, lambda _: None)
    roaming.begin()
    assert await clock.waits.get() == LOOK_SECONDS
    await roaming.close()
    clock.passes.add(LOOK_SECONDS)
    again = Roaming(world, lambda: dict(has), lambda hosts: gone.put_nowait(set(hosts)), never, lambda _: None)
    again.begin()
    has.clear()
    assert await gone.get() == {"10.0.0.1"}
    await again.close()


def test_addresses_that_could_not_be_had_count_as_the_same() -> None:
    change = Change()
    assert change.look(1000 * SECOND, 5 * SECOND, None) == (False, frozenset())
    assert change.look(1002 * SECOND, 7 * SECOND, {"10.0.0.1"}) == (False, frozenset())
    assert change.look(1004 * SECOND, 9 * SECOND, None) == (False, frozenset())
    assert change.look(5006 * SECOND, 11 * SECOND, None) == (True, frozenset())  # it was asleep
    assert change.look(5008 * SECOND, 13 * SECOND, {"10.0.0.2"}) == (True, frozenset({"10.0.0.1"}))


@pytest.mark.parametrize("fails", [{0}, {1, 2}])
async def test_a_look_for_which_no_descriptor_is_left_is_made_again(
    fails: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    clock, looks, follows = StoppedClock(), 0, 0
    clock.passes.add(LOOK_SECONDS)
    gone: asyncio.Queue[set[str]] = asyncio.Queue()

    def interfaces() -> dict[str, str]:
        nonlocal looks
        looks += 1
        if looks - 1 in fails:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return {"10.0.0.1" if looks < 5 else "10.0.0.2": "eth0"}

    def follow(_: Callable[[], None]) -> Callable[[], None]:
        def unfollow() -> None:
            nonlocal follows
            follows -= 1

        nonlocal follows
        follows += 1
        return unfollow

    async def never(_: str) -> None:
        raise AssertionError("there is no peer")

    world = replace(real_world(), clock=clock)
    roaming = Roaming(world, interfaces, lambda hosts: gone.put_nowait(set(hosts)), never, follow)
    for _ in range(3):
        roaming.begin()
    assert follows == 1
    assert await gone.get() == {"10.0.0.1"}
    assert [one.message for one in caplog.records if "can't be had" in one.message] == [
        "this machine's addresses can't be had, and count as the same: [Errno 24] Too many open files"
    ]
    await roaming.close()
    assert follows == 0


async def test_a_look_that_fails_of_something_else_follows_the_host_once() -> None:
    follows = 0

    def follow(_: Callable[[], None]) -> Callable[[], None]:
        def unfollow() -> None:
            nonlocal follows
            follows -= 1

        nonlocal follows
        follows += 1
        return unfollow

    def interfaces() -> dict[str, str]:
        raise ValueError("a fault")

    async def never(_: str) -> None:
        raise AssertionError("there is no peer")

    roaming = Roaming(real_world(), interfaces, lambda _: None, never, follow)
    for _ in range(5):
        with pytest.raises(ValueError, match="a fault"):
            roaming.begin()
    assert follows == 1
    await roaming.close()
    assert follows == 0


def test_only_a_way_that_is_nearer_by_a_third_is_gone_over_to() -> None:
    assert clearly_nearer(10 * MS, 16 * MS)
    assert not clearly_nearer(10 * MS, 15 * MS)
    assert not clearly_nearer(100_000, LEAST_GAIN)
    assert not clearly_nearer(1, None)
    for near, far in ((3 * MS, 7 * MS), (1, LEAST_GAIN + 2)):
        assert clearly_nearer(near, far)
        assert not clearly_nearer(far, near)  # so that two do not take turns
    assert host_of("[::1]:5") == "[::1]"


def test_the_round_trip_is_smoothed_and_the_shortest_gets_old() -> None:
    measure = Measure(0)
    assert (measure.smoothed, measure.shortest, measure.rate) == (None, None, None)
    measure.round_trip(8 * MS, 1)
    measure.round_trip(16 * MS, 2)
    assert (measure.smoothed, measure.shortest) == (9 * MS, 8 * MS)
    later = SHORTEST_SECONDS * SECOND + 1
    measure.round_trip(20 * MS, later)
    assert measure.shortest == 8 * MS
    measure.round_trip(30 * MS, 2 * later)
    assert measure.shortest == 20 * MS


def test_what_little_two_say_who_have_just_joined_is_no_rate() -> None:
    measure = Measure(0)
    measure.carried(100, SECOND, busy=False)
    measure.carried(109, 2 * SECOND, busy=False)
    assert measure.rate is None
    measure.carried(109 + LEAST, 3 * SECOND, busy=False)
    assert measure.rate == LEAST
    slow = Measure(0)
    slow.carried(100, SECOND, busy=True)
    slow.carried(5100, 2 * SECOND, busy=True)
    assert slow.rate == 5000


def test_the_rate_is_the_most_of_the_last_while_and_who_sends_little_lowers_nothing() -> None:
    measure = Measure(0)
    measure.carried(0, 1 * SECOND, busy=False)
    assert measure.rate is None
    measure.carried(5_000_000, 2 * SECOND, busy=True)
    assert measure.rate == 5_000_000
    measure.carried(5_001_000, 100 * SECOND, busy=False)
    assert measure.rate == 5_000_000
    measure.carried(14_001_000, 101 * SECOND, busy=False)
    assert measure.rate == 9_000_000
    for step in range(1, 4):
        measure.carried(14_001_000 + step * 1_000_000, (101 + step * (RATE_SECONDS + 1)) * SECOND, busy=True)
    assert measure.rate == 1_000_000 // (RATE_SECONDS + 1)


async def test_a_deaf_address_does_not_hold_up_the_next(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        lines = [await Forwarder(b.address).start() for _ in range(2)]
        lines[0].deaf = True
        a.book.update(replace(a.book.find("b"), addresses=(lines[0].address, lines[1].address)))
        await a.mesh.connect("b")
        (status,) = a.mesh.status()
        assert status.address == lines[1].address
        assert (status.link.dialled, status.interface, status.waits) == (True, "lo", False)
        assert host_of(status.link.local) == "127.0.0.1"
        assert [row.address for row in status.reserves] == [lines[0].address]
        assert a.book.find("b").addresses[0] == lines[1].address
        for line in lines:
            await line.close()


@pytest.mark.parametrize("dialler_leads", [True, False])
async def test_a_path_cut_in_a_transfer_brings_in_another_address(tmp_path: Path, dialler_leads: bool) -> None:
    async with behind_a_line(tmp_path, dialler_leads) as (a, b, line):
        other = await Forwarder(b.address).start()
        a.book.update(replace(a.book.find("b"), addresses=(line.address, other.address)))
        channel = await a.mesh.open("b", "echo")
        assert a.mesh.status()[0].address == line.address

        def on_bytes() -> None:
            line.deaf = line.deaf or line.passed > 2_000_000

        line.on_bytes = on_bytes
        data = os.urandom(8_000_000)
        received = await echoed(channel, data)
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        (status,) = a.mesh.status()
        assert status.address == other.address
        assert [(row.address, row.failed) for row in status.reserves] == [(line.address, True)]
        assert status.link.sent >= len(data)
        assert status.link.received >= len(data)
        await other.close()


@pytest.mark.parametrize("dialler_leads", [True, False])
async def test_a_link_goes_over_to_a_nearer_address_in_a_transfer_without_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialler_leads: bool
) -> None:
    monkeypatch.setattr(links, "clearly_nearer", lambda took, shortest: True)
    async with behind_a_line(tmp_path, dialler_leads) as (a, b, line):
        other = await Forwarder(b.address).start()
        peer = a.book.find("b")
        a.book.update(replace(peer, addresses=(line.address, other.address)))
        channel = await a.mesh.open("b", "echo")
        data = os.urandom(6_000_000)
        used = {a.mesh.status()[0].address}

        async def send() -> None:
            for start in range(0, len(data), 500_000):
                await channel.write(data[start : start + 500_000])
                if start % 2_000_000 == 0:
                    await a.mesh._seek(peer.fingerprint)
                    used.add(a.mesh.status()[0].address)
            channel.end()

        sending = asyncio.create_task(send())
        assert hashlib.sha256(await read_all(channel)).digest() == hashlib.sha256(data).digest()
        await sending
        assert used == {line.address, other.address}
        assert sum(node.mesh.status()[0].connected for node in (a, b)) == 2
        await other.close()


async def test_a_like_way_is_measured_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "clearly_nearer", lambda took, shortest: False)
    async with behind_a_line(tmp_path) as (a, b, line):
        other = await Forwarder(b.address).start()
        a.book.update(replace(a.book.find("b"), addresses=(line.address, other.address, "127.0.0.1:9")))
        await a.mesh.connect("b")
        await a.mesh._seek(b.identity.fingerprint)
        (status,) = a.mesh.status()
        assert status.address == line.address
        near, none = status.reserves
        assert (near.address, near.failed) == (other.address, False)
        assert near.rtt is not None
        assert near.rtt > 0
        assert (none.address, none.failed, none.rtt) == ("127.0.0.1:9", True, None)
        await other.close()


async def test_an_address_that_is_heard_ends_the_pause_and_brings_the_session_back(tmp_path: Path) -> None:
    patient = replace(QUICK, first_delay=1000.0, last_delay=1000.0, retention=2000.0)
    async with behind_a_line(tmp_path, timing=patient) as (a, b, line):
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        assert await channel.read(1) == b"x"
        down = parting(a)
        reading = asyncio.create_task(channel.read(1))
        await line.close()
        await down.wait()
        other = await Forwarder(b.address).start()
        a.mesh.heard("not a peer", [other.address])
        a.mesh.heard(b.identity.fingerprint, ["no address", other.address])
        await channel.write(b"y")
        assert await reading == b"y"
        assert a.mesh.status()[0].address == other.address
        assert other.address in a.book.find("b").addresses  # it has proved itself there
        await other.close()


async def test_addresses_of_both_families_are_dialled_until_one_is_the_peers(tmp_path: Path) -> None:
    a, b = Node(tmp_path / "a"), Node(tmp_path / "b")
    port = (await b.mesh.listen("0.0.0.0:0")).rpartition(":")[2]
    stranger = await Node(tmp_path / "c").listen()
    # The loopback has more than one address on Linux.
    here = f"127.0.0.2:{port}" if sys.platform == "linux" else f"127.0.0.1:{port}"
    a.knows(b, "b")
    b.knows(a, "a")
    stranger.knows(a, "a")
    try:
        a.mesh.heard(b.identity.fingerprint, [here, f"[::1]:{port}", stranger.address])
        assert a.mesh._of(b.identity.fingerprint).order((), a.world.clock.monotonic()) == [
            stranger.address, f"[::1]:{port}", here
        ]  # fmt: skip
        await a.mesh.connect("b")
        (status,) = a.mesh.status()
        assert (status.address, status.interface) == (here, "lo")
        assert {row.address for row in status.reserves if row.failed} == {stranger.address, f"[::1]:{port}"}
        assert a.book.find("b").addresses == (here,)
    finally:
        for node in (a, b, stranger):
            await node.mesh.close()


async def test_a_node_that_listens_by_both_families_is_linked_to_by_either(tmp_path: Path) -> None:
    a, b = Node(tmp_path / "a"), Node(tmp_path / "b")
    address = await b.mesh.listen("*:0")
    assert address.startswith("*:")
    port = address.removeprefix("*:")
    a.knows(b, "b")
    b.knows(a, "a")
    try:
        for host in ("[::1]", "127.0.0.1"):
            a.book.update(replace(a.book.find("b"), addresses=(f"{host}:{port}",)))
            await a.mesh.connect("b")
            assert a.mesh.status()[0].address == f"{host}:{port}"
            parted = parting(a)
            [session] = a.mesh._sessions.values()
            session.cut_link()
            await parted.wait()
    finally:
        await a.mesh.close()
        await b.mesh.close()


async def test_a_link_whose_local_address_is_gone_is_left_at_once(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, _):
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        assert await channel.read(1) == b"x"
        before = a.mesh.status()[0].link.local
        down = parting(a)
        a.mesh._roaming.moved({"127.0.0.1"})
        await down.wait()
        await channel.write(b"y")
        assert await channel.read(1) == b"y"
        assert a.mesh.status()[0].link.local != before


async def test_another_network_leaves_a_link_that_lives(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, _):
        channel = await a.mesh.open("b", "echo")
        before = a.mesh.status()[0].link.local
        a.mesh.moved()
        await channel.write(b"x")
        assert await channel.read(1) == b"x"
        assert a.mesh.status()[0].link.local == before


@pytest.mark.parametrize("dialler_leads", [True, False])
async def test_who_can_not_dial_waits_to_be_dialled_and_says_so(tmp_path: Path, dialler_leads: bool) -> None:
    async with behind_a_line(tmp_path, dialler_leads) as (a, b, line):
        (status,) = b.mesh.status()
        assert status.waits
        with pytest.raises(FileError, match="must connect to this node") as caught:
            await b.mesh.connect("a")
        assert caught.value.error is E.HOSTUNREACH
        linked = asyncio.Event()
        b.mesh.on_linked = lambda _: linked.set()
        await a.mesh.connect("b")  # without a channel
        await linked.wait()
        await b.mesh.connect("a")
        assert not b.mesh.status()[0].waits
        down = parting(b)
        line.cut()
        await down.wait()
        channel = await b.mesh.open("a", "echo")  # a dials anew by itself
        await channel.write(b"here")
        assert await read_exactly(channel, 4) == b"here"


@pytest.mark.parametrize("round_", range(5))
async def test_when_both_dial_at_once_one_link_stays_and_both_have_it(tmp_path: Path, round_: int) -> None:
    async with two_nodes(tmp_path) as (a, b):
        await asyncio.gather(a.mesh.connect("b"), b.mesh.connect("a"))
        channel = await a.mesh.open("b", "echo")
        for _ in range(100):  # a link that crossed may still take the place of the first, once
            await channel.write(b"x")
            assert await channel.read(1) == b"x"
        of_a, of_b = a.mesh.status()[0].link, b.mesh.status()[0].link
        assert (of_a.local, of_a.address) == (of_b.address, of_b.local)
        assert of_a.dialled is not of_b.dialled
