"""Multicast DNS at several interfaces, without a network: what is said where, what is told, and what floods cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zeroconf._dns import DNSAddress, DNSPointer, DNSService, DNSText
from zeroconf._protocol.outgoing import DNSOutgoing

from cognu.world import neighbours
from cognu.world.nearby import Service
from cognu.world.neighbours import (
    LOOKS_TO_REST,
    MOST_ASKED,
    MOST_HOSTS,
    MOST_KEPT,
    PACKETS_A_SECOND,
    PACKETS_AT_ONCE,
    Interface,
    _Bounded,
    _Found,
    _Neighbourhood,
    _Place,
    hosts_at,
)

KIND = "_t._tcp.local."
ETH = Interface("eth", 2, ("10.77.1.2", "fe80::1", "2001:db8::1"))
DOCKER = Interface("docker0", 3, ("172.17.0.1", "fe80::2"))
LOOPBACK = Interface("lo", 1, ("127.0.0.1",))


@dataclass
class Ear:
    told: list[Service] = field(default_factory=list)
    gone_ones: list[str] = field(default_factory=list)
    moves: int = 0

    def heard(self, service: Service) -> None:
        self.told.append(service)

    def gone(self, instance: str) -> None:
        self.gone_ones.append(instance)

    def moved(self) -> None:
        self.moves += 1


@pytest.mark.parametrize(
    ("interface", "families", "chosen", "said"),
    [
        (ETH, (4, 6), (), ["10.77.1.2", "2001:db8::1", "fe80::1"]),
        (DOCKER, (4, 6), (), ["172.17.0.1", "fe80::2"]),
        (ETH, (4,), (), ["10.77.1.2"]),
        (DOCKER, (4, 6), ("10.77.1.2",), []),
        (ETH, (4, 6), ("10.77.1.2", "192.0.2.1"), ["10.77.1.2"]),
        (ETH, (4, 6), ("fe80::1%eth",), ["fe80::1"]),
        (Interface("eth", 2, tuple(f"10.0.0.{n}" for n in range(20))), (4, 6), (), [f"10.0.0.{n}" for n in range(8)]),
    ],
)
def test_on_a_network_only_the_addresses_are_said_that_this_machine_has_there(
    interface: Interface, families: tuple[int, ...], chosen: tuple[str, ...], said: list[str]
) -> None:
    assert hosts_at(interface, families, chosen) == said


@dataclass
class FakePlace:
    """One interface, of which a test says what is heard there."""

    interface: Interface
    found: dict[str, _Found] = field(default_factory=dict)
    said: list[Service | None] = field(default_factory=list)
    left: bool = False
    settled: int = 0

    async def say(self, service: Service | None) -> None:
        self.said.append(service)

    async def settle(self) -> None:
        self.settled += 1

    async def leave(self) -> None:
        self.left = True


class Cable:
    """The interfaces of a host, as a test has them, and the looks at them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *interfaces: Interface) -> None:
        self.interfaces = list(interfaces)
        self.made: list[FakePlace] = []
        self.refuses: set[str] = set()
        self.tries = 0
        self.ear = Ear()
        monkeypatch.setattr(_Place, "enter", self._enter)
        self.place = _Neighbourhood(KIND, self.ear, (4, 6), lambda: list(self.interfaces))
        self.place._following.cancel()

    async def _enter(self, of: _Neighbourhood, kind: str, interface: Interface) -> FakePlace:
        if interface.name in self.refuses:
            self.tries += 1
            raise OSError("no multicast")
        self.made.append(FakePlace(interface))
        return self.made[-1]

    async def look(self, unsettled: bool = False) -> None:
        await self.place._move(list(self.interfaces), unsettled)

    def hears(self, place: FakePlace, order: int, service: Service | None, instance: str = "aa") -> None:
        if service is None:
            del place.found[instance]
        else:
            place.found[instance] = _Found(order, service)
        self.place.heard(instance)


SAID = Service("aa", (), 4000, {"v": b"1"})


async def test_each_interface_says_its_own_and_one_that_goes_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    cable = Cable(monkeypatch, ETH, DOCKER)
    await cable.place.announce(SAID)
    await cable.look()
    eth, docker = cable.made
    assert eth.said == [SAID._replace(hosts=("10.77.1.2", "2001:db8::1", "fe80::1"))]
    assert docker.said == [SAID._replace(hosts=("172.17.0.1", "fe80::2"))]
    await cable.place.announce(SAID._replace(hosts=("10.77.1.2",)))
    assert eth.said[1] == SAID._replace(hosts=("10.77.1.2",))
    assert docker.said[1] is None
    cable.interfaces = [ETH._replace(hosts=("10.77.1.9",))]
    await cable.look()
    assert (docker.left, eth.left, eth.settled) == (True, False, 1)
    assert eth.said[2] is None, "the address that was chosen is gone"
    await cable.place.close()
    assert eth.left


async def test_an_interface_that_can_not_be_used_leaves_the_others_and_is_tried_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cable = Cable(monkeypatch, DOCKER, ETH)
    cable.refuses = {"docker0"}
    for _ in range(LOOKS_TO_REST + 2):
        await cable.look()
    assert [place.interface for place in cable.made] == [ETH]
    assert cable.tries == 2
    assert [one.message for one in caplog.records] == ["machines on docker0 are not found: OSError: no multicast"]
    await cable.place.close()


async def test_one_that_is_heard_on_two_networks_is_told_with_all_its_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cable = Cable(monkeypatch, ETH, DOCKER)
    await cable.look()
    eth, docker = cable.made
    cable.hears(eth, 1, SAID._replace(hosts=("10.77.1.3",)))
    cable.hears(docker, 2, SAID._replace(hosts=("172.17.0.9", "10.77.1.3")))
    assert cable.ear.told[-1].hosts == ("10.77.1.3", "172.17.0.9")
    changed = SAID._replace(hosts=("172.17.0.9",), port=4001)
    cable.hears(docker, 3, changed)
    assert cable.ear.told[-1] == changed, "what contradicts is not mixed: the newest counts"
    cable.hears(docker, 4, None)
    assert cable.ear.told[-1] == SAID._replace(hosts=("10.77.1.3",))
    assert cable.ear.gone_ones == []
    cable.hears(eth, 5, None)
    assert cable.ear.gone_ones == ["aa"]
    cable.hears(eth, 6, SAID._replace(hosts=tuple(f"10.0.0.{n}" for n in range(8))))
    cable.hears(docker, 7, SAID._replace(hosts=("172.17.0.9",)))
    assert len(cable.ear.told[-1].hosts) == MOST_HOSTS
    await cable.place.close()


def dead(number: int) -> bytes:
    """That there is a service whose name has a NUL: no service has."""
    out = DNSOutgoing(0x8400)
    out.add_answer_at_time(DNSPointer(KIND, 12, 1, 120, f"{number}\0.{KIND}"), 0)
    return out.packets()[0]


# -- floods, through zeroconf itself; nothing leaves the host --


class Sink(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got = 0

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.got += 1


def test_of_a_flood_no_more_packets_are_looked_at_than_so_many_a_second() -> None:
    now, sink = [0.0], Sink()
    bounded = _Bounded(sink, lambda: now[0], 4)
    for _ in range(3 * PACKETS_AT_ONCE):
        bounded.datagram_received(b"", ("192.0.2.1", 5353))
    assert sink.got == PACKETS_AT_ONCE
    for _ in range(10):
        now[0] += 0.5
        for _ in range(3 * PACKETS_A_SECOND):
            bounded.datagram_received(b"", ("192.0.2.1", 5353))
    assert sink.got == PACKETS_AT_ONCE + 5 * PACKETS_A_SECOND


def test_packets_of_another_interface_are_passed_over() -> None:
    sink = Sink()
    bounded = _Bounded(sink, lambda: 0.0, 4)
    for link in (4, 6, 0):  # by an address of no one link none is told
        bounded.datagram_received(b"", ("fe80::1", 5353, 0, link))
    assert sink.got == 2


def packet(number: int, whole: bool = True) -> bytes:
    """What machine `number` answers; or only that it is there."""
    name, host = f"{number:016x}.{KIND}", f"{number:016x}.local."
    out = DNSOutgoing(0x8400)
    out.add_answer_at_time(DNSPointer(KIND, 12, 1, 120, name), 0)
    if whole:
        out.add_answer_at_time(DNSService(name, 33, 0x8001, 120, 0, 0, 4000, host), 0)
        out.add_answer_at_time(DNSText(name, 16, 0x8001, 120, b"\3v=1"), 0)
        out.add_answer_at_time(DNSAddress(host, 1, 0x8001, 120, bytes([10, 1, number >> 8 & 255, number & 255])), 0)
    return out.packets()[0]


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[_Place, Ear, Callable[[bytes], None]]]:
    """At the loopback; the last is how a packet comes in."""
    ear = Ear()
    of = _Neighbourhood(KIND, ear, (4, 6), list)
    place = await _Place.enter(of, KIND, LOOPBACK)
    of._places[1] = place
    protocol = cast(_Bounded, place._dns.zeroconf.engine.readers[0].transport.get_protocol())
    try:
        yield place, ear, lambda data: protocol.datagram_received(data, ("127.0.0.1", 5353))
    finally:
        await of.close()


async def test_two_hundred_machines_that_answer_at_once_are_all_heard() -> None:
    async with listening() as (place, ear, comes):
        for number in range(200):
            comes(packet(number))
        await asyncio.sleep(0)
        assert {service.instance for service in ear.told} == {f"{number:016x}" for number in range(200)}
        assert {service.port for service in ear.told} == {4000}
        assert not place._asking


async def test_those_that_wait_to_be_asked_are_heard_though_others_are_answered_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 that say at first only that they are there, and at once all the rest while 64 of them are being asked."""
    from zeroconf.asyncio import AsyncServiceInfo

    answered = asyncio.Event()

    async def request(info: AsyncServiceInfo, zc: Any, timeout: float) -> bool:
        await answered.wait()
        return info.load_from_cache(zc)

    monkeypatch.setattr(AsyncServiceInfo, "async_request", request)
    async with listening() as (place, ear, comes):
        names = [f"{number:016x}.{KIND}" for number in range(200)]
        for name in names:
            place.named(name)
        assert (len(place._asking), len(place._waiting)) == (MOST_ASKED, 200 - MOST_ASKED)
        place.named(names[0])  # it is being asked
        assert names[0] in place._waiting
        records = [packet(number) for number in range(200)]
        with monkeypatch.context() as quiet:
            quiet.setattr(_Place, "named", lambda *_: None)
            for data in records:
                comes(data)
            await asyncio.sleep(0)
        assert not place.found
        asked = list(place._asking.values())
        answered.set()
        await asyncio.wait(asked)
        assert (len(place.found), len(place._asking), len(place._waiting)) == (200, 0, 0)
        assert {service.instance for service in ear.told} == {f"{number:016x}" for number in range(200)}


async def test_one_that_waits_is_asked_when_another_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    from zeroconf.asyncio import AsyncServiceInfo

    gates: dict[str, asyncio.Event] = {}

    async def request(info: AsyncServiceInfo, zc: Any, timeout: float) -> bool:
        await gates.setdefault(info.name, asyncio.Event()).wait()
        return False

    monkeypatch.setattr(AsyncServiceInfo, "async_request", request)
    async with listening() as (place, _, _):
        names = [f"{number:016x}.{KIND}" for number in range(MOST_ASKED + 2)]
        for name in [*names, names[1]]:
            place.named(name)
        await asyncio.sleep(0)
        first = place._asking[names[0]]
        gates[names[0]].set()
        await asyncio.wait([first])
        assert list(place._waiting) == [names[-1], names[1]]
        assert len(place._asking) == MOST_ASKED
        assert names[MOST_ASKED] in place._asking


async def test_a_flood_of_machines_that_are_none_is_bounded_in_names_questions_and_records() -> None:
    async with listening() as (place, ear, comes):
        for number in range(3 * MOST_KEPT):
            comes(packet(number))
            comes(packet(100_000 + number, whole=False))
        await asyncio.sleep(0)
        assert len(place.found) == MOST_KEPT
        assert len(place._asking) == MOST_ASKED
        assert len(place._waiting) == MOST_KEPT
        for number in range(2 * PACKETS_AT_ONCE):
            comes(packet(200_000 + number))
        records = place._dns.zeroconf.cache.cache
        assert sum(map(len, records.values())) <= 4 * PACKETS_AT_ONCE + PACKETS_A_SECOND
    assert not ear.moves


async def test_a_name_that_none_can_have_is_passed_over() -> None:
    async with listening() as (place, ear, comes):
        comes(dead(1))
        comes(packet(1))
        await asyncio.sleep(0)
        assert [service.instance for service in ear.told] == [f"{1:016x}"]
        assert not place._asking


async def test_who_says_again_what_another_said_is_one_with_it_and_a_goodbye_ends_both() -> None:
    async with listening() as (place, ear, comes):
        comes(packet(7))
        comes(packet(7).replace(bytes([10, 1, 0, 7]), bytes([10, 9, 9, 9])))
        await asyncio.sleep(0)
        assert {service.instance for service in ear.told} == {f"{7:016x}"}
        assert set(ear.told[-1].hosts) <= {"10.1.0.7", "10.9.9.9"}
        assert len(place.found) == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(
    st.binary(max_size=200),
    st.tuples(st.integers(0, 150), st.integers(0, 255)).map(lambda at: packet(5)[: at[0]] + bytes([at[1]])
                                                            + packet(5)[at[0] + 1 :]),
), max_size=20))  # fmt: skip
def test_whatever_comes_is_passed_over_or_told(packets: list[bytes]) -> None:
    async def run() -> None:
        async with listening() as (place, ear, comes):
            for data in packets:
                comes(data)
            await asyncio.sleep(0)
            assert len(place.found) <= len(packets)
            assert all(len(service.hosts) <= MOST_HOSTS for service in ear.told)

    asyncio.run(run())


def test_the_host_s_interfaces_are_bounded_and_without_the_loopback() -> None:
    found = neighbours.host_interfaces()
    assert len(found) <= neighbours.MOST_INTERFACES
    assert all(not host.startswith("127.") for interface in found for host in interface.hosts)
