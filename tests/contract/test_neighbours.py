"""What every world's `Neighbours` does: the one in memory, and multicast DNS over the host's loopback."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cognu.world.nearby import Hearing, Neighbours, Service
from cognu.world.neighbours import Interface, RealNeighbours
from neighbours import FakeNeighbours, FakeNetwork

LOOPBACK = [Interface("lo", 1, ("127.0.0.1",))]


@dataclass
class Ear:
    """Keeps what was told, and lets a test wait for it."""

    services: dict[str, Service] = field(default_factory=dict)
    moves: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, service: Service) -> None:
        self.services[service.instance] = service
        self.changed.set()

    def gone(self, instance: str) -> None:
        self.services.pop(instance, None)
        self.changed.set()

    def moved(self) -> None:
        self.moves += 1
        self.changed.set()

    async def until(self, so: Callable[[], bool]) -> None:
        while not so():
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture(params=["memory", pytest.param("loopback", marks=pytest.mark.uvloop)])
def machine(request: pytest.FixtureRequest) -> Callable[[], Neighbours]:
    """Makes one machine after the other on one network."""
    if request.param == "memory":
        network = FakeNetwork()
        return lambda: FakeNeighbours(network, "127.0.0.1")
    return lambda: RealNeighbours(lambda: LOOPBACK)


def kind() -> str:
    """One that no other test has: the loopback is all tests'."""
    return f"_t{os.urandom(6).hex()}._tcp"


def test_the_ear_is_a_hearing() -> None:
    hearing: Hearing = Ear()
    assert hearing is not None


async def test_what_one_announces_others_hear_and_hear_when_it_changes_and_goes(
    machine: Callable[[], Neighbours],
) -> None:
    here, there, what = Ear(), Ear(), kind()
    first, second = await machine().meet(what, here), await machine().meet(what, there)
    try:
        said = Service("0011aabb", (), 4000, {"v": b"1", "id": b"00ff"})
        await first.announce(said)
        await there.until(lambda: "0011aabb" in there.services)
        assert there.services["0011aabb"] == said._replace(hosts=("127.0.0.1",))
        await first.announce(said._replace(text={"v": b"1", "pair": b"7:5001"}))
        await there.until(lambda: "pair" in there.services["0011aabb"].text)
        await second.announce(Service("cc", (), 4001, {}))
        await here.until(lambda: "cc" in here.services)
        assert (here.services["cc"].port, dict(here.services["cc"].text)) == (4001, {})
        await first.announce(said._replace(instance="22", hosts=("127.0.0.1", "2001:db8::7")))
        await there.until(lambda: "22" in there.services and "0011aabb" not in there.services)
        assert there.services["22"].hosts == ("127.0.0.1",), "no network has the other"
        await first.announce(said._replace(instance="33", hosts=("2001:db8::7",)))
        await there.until(lambda: "22" not in there.services)
        assert "33" not in there.services
        await first.announce(None)
        await there.until(lambda: "22" not in there.services)
    finally:
        await first.close()
        await second.close()


async def test_who_comes_later_hears_what_was_announced_before_and_closing_takes_it_back(
    machine: Callable[[], Neighbours],
) -> None:
    what, ear = kind(), Ear()
    early = await machine().meet(what, Ear())
    await early.announce(Service("aa", (), 4000, {}))
    late = await machine().meet(what, ear)
    try:
        await ear.until(lambda: "aa" in ear.services)
        await early.close()
        await early.close()
        await ear.until(lambda: not ear.services)
    finally:
        await early.close()
        await late.close()


async def test_kinds_do_not_mix(machine: Callable[[], Neighbours]) -> None:
    one, other, what = Ear(), Ear(), kind()
    first, second = await machine().meet(what, one), await machine().meet(kind(), other)
    try:
        await second.announce(Service("bb", (), 4000, {}))
        await first.announce(Service("aa", (), 4000, {}))
        await one.until(lambda: "aa" in one.services)
        await other.until(lambda: "bb" in other.services)
        assert set(one.services) == {"aa"}
        assert set(other.services) == {"bb"}
    finally:
        await first.close()
        await second.close()


# -- the host's own --


class Cable:
    """The interfaces of a host, as a test has them."""

    def __init__(self, *interfaces: Interface) -> None:
        self.interfaces = list(interfaces)

    def __call__(self) -> list[Interface]:
        return list(self.interfaces)


@pytest.mark.uvloop
async def test_interfaces_may_be_none_and_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cognu.world.neighbours.LOOK_SECONDS", 0.01)
    cable, what, ear, mine = Cable(), kind(), Ear(), Ear()
    moving = await RealNeighbours(cable).meet(what, mine)
    still = await RealNeighbours(lambda: LOOPBACK).meet(what, ear)
    try:
        await moving.announce(Service("aa", (), 4000, {}))
        cable.interfaces = list(LOOPBACK)
        await ear.until(lambda: "aa" in ear.services)
        assert mine.moves == 0, "nothing was said anywhere else before"
        cable.interfaces = []
        await ear.until(lambda: "aa" not in ear.services)
        await mine.until(lambda: mine.moves == 1)
        cable.interfaces = list(LOOPBACK)
        await ear.until(lambda: "aa" in ear.services)
        await mine.until(lambda: mine.moves == 2)
    finally:
        await moving.close()
        await still.close()


@pytest.mark.uvloop
async def test_what_the_host_refuses_is_logged_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cognu.world.neighbours.LOOK_SECONDS", 0.01)
    looks, ear, what = 0, Ear(), kind()

    def refuses() -> list[Interface]:
        nonlocal looks
        looks += 1
        if looks < 4:
            raise OSError("no such thing")
        return LOOPBACK

    place = await RealNeighbours(refuses).meet(what, ear)
    try:
        await place.announce(Service("aa", (), 4000, {}))
        await ear.until(lambda: "aa" in ear.services)
    finally:
        await place.close()
    assert [record.message for record in caplog.records if record.name == "cognu.world"] == [
        "machines on the local networks are not found: OSError: no such thing"
    ]


async def test_closing_before_anything_happened_leaves_nothing() -> None:
    place = await RealNeighbours(Cable()).meet(kind(), Ear())
    await place.close()
    await place.announce(Service("aa", (), 4000, {}))
    assert asyncio.all_tasks() == {asyncio.current_task()}
