"""Machines on the same networks, on a network in memory: who finds whom, and what liars can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.mesh.announcement import (
    KIND,
    Announcement,
    addresses_of,
    parse_service,
    proof_of,
    to_service,
    valid_number,
)
from cognu.mesh.discovery import MOST_NEAR, MOST_OF_A_PEER, Discovery, Me, Near, Pairing
from cognu.mesh.identity import identity_from_seed, valid_name
from cognu.world.nearby import Service
from neighbours import FakeNeighbourhood, FakeNeighbours, FakeNetwork

FINGERPRINTS = {name: identity_from_seed(name.encode().ljust(32)).fingerprint for name in ("desk", "pi", "lap")}


class HandClock:
    """Stands still until `pass_time`; sleepers wake then."""

    def __init__(self) -> None:
        self.sleepers: list[asyncio.Future[None]] = []
        self.asleep = asyncio.Event()

    def now(self) -> int:
        return 1_700_000_000 * 10**9

    def monotonic(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        self.sleepers.append(asyncio.get_running_loop().create_future())
        self.asleep.set()
        await self.sleepers[-1]

    def pass_time(self) -> None:
        sleepers, self.sleepers = self.sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)


class Counting:
    """Other bytes each time, and never the same for two machines."""

    def __init__(self, start: int) -> None:
        self.next = start << 32

    def bytes(self, count: int) -> bytes:
        self.next += 1
        return self.next.to_bytes(count, "big")


@dataclass
class Machine:
    """One machine's part of the world, and its discovery."""

    name: str
    neighbours: FakeNeighbours
    random: Counting
    known: set[str] = field(default_factory=set)
    told: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    clock: HandClock = field(default_factory=HandClock)
    mode: str = "on"

    def __post_init__(self) -> None:
        me = Me(FINGERPRINTS[self.name], self.name)
        self.discovery = Discovery(self, me, self.mode, lambda: self.known, lambda *told: self.told.append(told))

    def rows(self) -> list[Near]:
        return self.discovery.near()


@asynccontextmanager
async def machines(*names: str, mode: str = "on") -> AsyncIterator[list[Machine]]:
    """On one network, at 192.0.2.1, .2 …, each listening at port 4000."""
    network = FakeNetwork()
    made = [
        Machine(name, FakeNeighbours(network, f"192.0.2.{number}"), Counting(number), mode=mode)
        for number, name in enumerate(names, 1)
    ]
    for machine in made:
        await machine.discovery.start("0.0.0.0:4000")
    try:
        yield made
    finally:
        for machine in made:
            await machine.discovery.close()
        assert not network.places, "somebody listens still"


async def turns(until: Callable[[], bool]) -> None:
    """Let others run until it is so; nothing here waits for time."""
    for _ in range(1000):
        if until():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def test_a_known_peer_s_addresses_are_told_and_a_stranger_is_seen_without_a_name() -> None:
    async with machines("desk", "pi", "lap") as (desk, pi, _):
        desk.known.add(FINGERPRINTS["pi"])
        desk.discovery.peers_changed()
        assert {(row.peer, row.name, row.addresses) for row in desk.rows()} == {
            (FINGERPRINTS["pi"], "", ("192.0.2.2:4000",)),
            ("", "", ("192.0.2.3:4000",)),
        }
        assert desk.told == []  # it was heard before it was known, and is joined now anyway
        pi.neighbours.move("192.0.2.77", "2001:db8::7", "fe80::7%eth0")
        await turns(lambda: bool(desk.told))
        told = ("192.0.2.77:4000", "[2001:db8::7]:4000", "[fe80::7%eth0]:4000")
        assert desk.told == [(FINGERPRINTS["pi"], told)]
        assert all(not row.peer for row in pi.rows())


async def test_what_is_announced_names_nobody_and_is_another_at_each_network() -> None:
    async with machines("desk", "pi") as (desk, pi):
        before = pi.neighbours.mine[0].said
        assert before is not None
        assert set(before.text) == {"v", "id"}
        for secret in (FINGERPRINTS["pi"], FINGERPRINTS["pi"][:8], "pi"):
            assert secret not in before.instance
            assert secret.encode() not in b"".join(before.text.values())
        pi.neighbours.move("198.51.100.9")
        await turns(lambda: pi.neighbours.mine[0].said != before)
        after = pi.neighbours.mine[0].said
        assert after is not None
        assert after.instance != before.instance
        assert after.text["id"] != before.text["id"]
        assert [row.addresses for row in desk.rows()] == [("198.51.100.9:4000",)]


async def test_who_waits_to_be_paired_with_is_found_by_who_looks_then_and_by_who_looked_before() -> None:
    async with machines("desk", "pi", "lap", mode="pairing") as (desk, pi, lap):
        assert not desk.neighbours.mine, "nobody pairs, so nobody listens"
        early = desk.discovery.pairing()
        waiting = asyncio.ensure_future(anext(early))
        await turns(lambda: bool(desk.neighbours.mine))
        end = await pi.discovery.announce_pairing("17", 5001)
        assert await waiting == Pairing("pi", ("192.0.2.2:5001",), "17")
        late = lap.discovery.pairing()
        assert await anext(late) == Pairing("pi", ("192.0.2.2:5001",), "17")
        assert [row.name for row in lap.rows()] == ["pi"]
        assert "id" not in (pi.neighbours.mine[0].said or Service("", (), 0, {})).text
        end()
        end()
        await turns(lambda: not lap.rows() and not desk.rows())
        again = await pi.discovery.announce_pairing("17", 5001)
        assert (await anext(late)).name == "pi"
        again()
        await turns(lambda: not lap.rows() and not desk.rows())
        await early.aclose()
        await late.aclose()
        await turns(lambda: not any(one.neighbours.mine for one in (desk, pi, lap)))


async def test_two_that_pair_under_one_name_and_number_are_both_told() -> None:
    async with machines("desk", "pi", "lap") as (desk, pi, lap):
        lap.discovery._me = Me(FINGERPRINTS["lap"], "pi")
        await pi.discovery.announce_pairing("17", 5001)
        await lap.discovery.announce_pairing("17", 5002)
        found = desk.discovery.pairing()
        assert {(await anext(found)).addresses, (await anext(found)).addresses} == {
            ("192.0.2.2:5001",),
            ("192.0.2.3:5002",),
        }
        await found.aclose()


async def test_what_is_said_anew_has_another_instance_and_looking_changes_nothing() -> None:
    async with machines("desk", "pi") as (desk, pi):
        seen = []
        for _ in range(2):
            seen += [row.instance for row in desk.rows()]
            end = await pi.discovery.announce_pairing("1", 5001)
            seen += [row.instance for row in desk.rows()]
            looking = pi.discovery.pairing()
            waiting = asyncio.ensure_future(anext(looking))
            await turns(lambda: bool(pi.discovery._waiting))
            assert [row.instance for row in desk.rows()] == seen[-1:]
            waiting.cancel()
            await asyncio.wait([waiting])
            await looking.aclose()
            end()
            await turns(lambda: not pi.discovery._tasks)
        assert len(set(seen)) == len(seen) == 4


async def test_only_the_last_invitation_is_announced_and_ending_an_earlier_one_leaves_it() -> None:
    async with machines("desk", "pi") as (desk, pi):
        first = await pi.discovery.announce_pairing("1", 5001)
        await pi.discovery.announce_pairing("2", 5002)
        first()
        await turns(lambda: not pi.discovery._tasks)
        assert [(row.number, row.joining) for row in desk.rows()] == [("2", ("192.0.2.2:5002",))]


@pytest.mark.parametrize("what", ["announce", "look"])
async def test_who_gives_up_while_it_enters_the_network_does_not_stay_there(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async with machines("desk", "pi", mode="pairing") as (desk, _):
        reached = asyncio.Event()

        async def announce(place: FakeNeighbourhood, service: Service | None) -> None:
            reached.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as slow:
            slow.setattr(FakeNeighbourhood, "announce", announce)
            slow.setattr(FakeNeighbourhood, "close", leave)
            entering: asyncio.Future[object] = asyncio.ensure_future(
                desk.discovery.announce_pairing("1", 5001) if what == "announce" else anext(desk.discovery.pairing())
            )
            await reached.wait()
            entering.cancel()
            await asyncio.wait([entering])
            await turns(lambda: not desk.neighbours.network.places)
        # Nobody is in the network for good, so the next one leaves it.
        end = await desk.discovery.announce_pairing("2", 5002)
        assert len(desk.neighbours.network.places) == 1
        end()
        await turns(lambda: not desk.neighbours.network.places)


async def leave(place: FakeNeighbourhood) -> None:
    place.machine.mine.remove(place)
    place.machine.network.places.remove(place)


async def test_what_comes_after_the_end_begins_nothing_more() -> None:
    async with machines("desk", "pi") as (desk, _):
        desk.known.add(FINGERPRINTS["pi"])
        end = await desk.discovery.announce_pairing("1", 5001)
        looking = desk.discovery.pairing()
        waiting = asyncio.ensure_future(anext(looking))
        await turns(lambda: bool(desk.discovery._waiting))
        await desk.discovery.close()
        for late in (end, desk.discovery.moved, lambda: desk.discovery.heard(liar(1, FINGERPRINTS["pi"]))):
            late()
            assert not desk.discovery._tasks
        waiting.cancel()
        await asyncio.wait([waiting])
        await looking.aclose()
        assert not desk.discovery._tasks
        assert not desk.neighbours.mine


async def test_where_discovery_is_off_nothing_is_said_or_heard() -> None:
    async with machines("desk", "pi", mode="off") as (desk, pi):
        end = await pi.discovery.announce_pairing("1", 5001)
        looking = asyncio.ensure_future(anext(desk.discovery.pairing()))
        await asyncio.sleep(0)
        assert not desk.neighbours.network.places
        looking.cancel()
        end()
        await asyncio.wait([looking])


async def test_a_node_that_listens_on_the_loopback_alone_is_in_no_network() -> None:
    network = FakeNetwork()
    for address in ("127.0.0.1:4000", "[::1]:4000"):
        machine = Machine("desk", FakeNeighbours(network, "192.0.2.1"), Counting(1))
        await machine.discovery.start(address)
        assert machine.discovery.mode == "off"
        assert not network.places
        await machine.discovery.close()


@pytest.mark.parametrize(("address", "families"), [("*:4000", (4, 6)), ("0.0.0.0:4000", (4,)), ("[::]:4000", (4, 6))])
async def test_the_addresses_that_are_announced_are_of_the_families_that_are_listened_at(
    address: str, families: tuple[int, ...]
) -> None:
    machine = Machine("desk", FakeNeighbours(FakeNetwork(), "192.0.2.1"), Counting(1))
    await machine.discovery.start(address)
    assert machine.neighbours.families == families
    said = machine.neighbours.mine[0].said
    assert said is not None
    assert said.hosts == ("192.0.2.1",)
    await machine.discovery.close()


async def test_one_that_listens_at_one_address_announces_that_alone() -> None:
    network = FakeNetwork()
    machine = Machine("desk", FakeNeighbours(network, "192.0.2.1", "2001:db8::5"), Counting(1))
    await machine.discovery.start("[2001:db8::5]:4000")
    said = machine.neighbours.mine[0].said
    assert said is not None
    assert (said.hosts, said.port) == (("2001:db8::5",), 4000)
    await machine.discovery.close()


def liar(number: int, fingerprint: str = "", *hosts: str) -> Service:
    """An announcement of somebody who knows `fingerprint`, or nothing."""
    instance = (0xF000 + number).to_bytes(8, "big")
    proof = proof_of(fingerprint, instance) if fingerprint else b"x" * 16
    return to_service(Announcement(instance, proof), 6000)._replace(hosts=hosts or ("203.0.113.5",))


async def test_a_flood_of_strangers_is_bounded_and_a_peer_is_still_heard() -> None:
    async with machines("desk") as (desk,):
        desk.known.add(FINGERPRINTS["pi"])
        for number in range(3 * MOST_NEAR):
            desk.neighbours.network.tell(KIND, liar(number))
        assert len(desk.rows()) == MOST_NEAR
        desk.neighbours.network.tell(KIND, liar(9000, FINGERPRINTS["pi"], "192.0.2.9"))
        assert len(desk.rows()) == MOST_NEAR
        assert desk.told == [(FINGERPRINTS["pi"], ("192.0.2.9:6000",))]


async def test_repeating_a_peer_s_announcements_is_bounded_in_rows_and_rate() -> None:
    async with machines("desk") as (desk,):
        desk.known.add(FINGERPRINTS["pi"])
        for number in range(100):
            desk.neighbours.network.tell(KIND, liar(number, FINGERPRINTS["pi"], f"203.0.113.{number}"))
        assert len(desk.rows()) == MOST_OF_A_PEER
        assert [addresses for _, addresses in desk.told] == [("203.0.113.0:6000",)]
        await desk.clock.asleep.wait()
        desk.clock.pass_time()
        await turns(lambda: len(desk.told) == 2)
        assert desk.told[1][1] == ("203.0.113.99:6000",)
        await turns(lambda: bool(desk.clock.sleepers))
        desk.clock.pass_time()
        await turns(lambda: not desk.discovery._resting)
        assert len(desk.told) == 2


async def test_of_more_peers_than_rows_each_one_s_addresses_are_told() -> None:
    async with machines("desk") as (desk,):
        many = [identity_from_seed(number.to_bytes(32, "big")).fingerprint for number in range(MOST_NEAR + 10)]
        desk.known.update(many)
        desk.discovery.peers_changed()
        for number, fingerprint in enumerate(many):
            desk.neighbours.network.tell(KIND, liar(number, fingerprint, f"10.0.{number >> 8}.{number & 255}"))
        assert [peer for peer, _ in desk.told] == many
        assert len(desk.rows()) == MOST_NEAR
        await turns(lambda: len(desk.clock.sleepers) == len(many))


async def test_what_is_heard_is_compared_anew_only_when_other_peers_are_known() -> None:
    async with machines("desk") as (desk,):
        desk.neighbours.network.tell(KIND, liar(1, FINGERPRINTS["pi"]))
        asked = 0

        def peers() -> set[str]:
            nonlocal asked
            asked += 1
            return desk.known

        desk.discovery._peers = peers
        for known, times in ((set[str](), 1), ({FINGERPRINTS["pi"]}, 2), ({FINGERPRINTS["pi"]}, 1)):
            desk.known, asked = known, 0
            desk.discovery.peers_changed()
            assert asked == times
        assert [row.peer for row in desk.rows()] == [FINGERPRINTS["pi"]]


async def test_who_looks_and_does_not_listen_keeps_no_more_than_so_many() -> None:
    async with machines("desk") as (desk,):
        found = desk.discovery.pairing()
        waiting = asyncio.ensure_future(anext(found))
        await turns(lambda: bool(desk.discovery._waiting))
        for number in range(3 * MOST_NEAR):
            said = Announcement(b"ABCDEFGH", b"", "mallory", str(number), 7000)
            desk.neighbours.network.tell(KIND, to_service(said, 6000)._replace(hosts=("203.0.113.5",)))
        assert (await waiting).name == "mallory"
        (inbox,) = desk.discovery._waiting
        assert len(inbox.rows) <= MOST_NEAR
        await found.aclose()


async def test_a_change_is_told_once_and_a_repetition_not() -> None:
    async with machines("desk") as (desk,):
        changes: list[int] = []
        desk.discovery.on_change = lambda: changes.append(len(desk.rows()))
        for _ in range(3):
            desk.neighbours.network.tell(KIND, liar(1))
        desk.neighbours.network.end(KIND, liar(1).instance)
        desk.neighbours.network.end(KIND, "what was never there")
        assert changes == [1, 0]


# -- what is said, as text --

NUMBERS = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=64)


@given(st.binary(min_size=8, max_size=8), st.sampled_from([b"", b"q" * 16]), NUMBERS, st.integers(1, 65535))
def test_what_is_said_is_understood(instance: bytes, proof: bytes, number: str, port: int) -> None:
    for said in (Announcement(instance, proof), Announcement(instance, proof, "pi-2", number, port)):
        service = to_service(said, port)
        assert parse_service(service) == said
        assert len(service.instance) <= 63
        assert all(len(key) + 1 + len(value) <= 255 for key, value in service.text.items())


KEYS = st.sampled_from(["v", "id", "name", "pair", "x", "", "\ufffd"])
VALUES = st.one_of(
    st.binary(max_size=255), st.sampled_from([b"1", b"0" * 32, b"pi", b"7:5001", b"7:", b":1", b"7:99999", b"7:\xb2"])
)
INSTANCES = st.one_of(st.text(max_size=63), st.just("00112233aabbccdd"))


@given(INSTANCES, st.lists(st.ip_addresses().map(str), max_size=8), st.integers(-1, 70000),
       st.dictionaries(KEYS, VALUES))  # fmt: skip
def test_whatever_is_heard_is_parsed_into_something_bounded(
    instance: str, hosts: list[str], port: int, text: dict[str, bytes]
) -> None:
    service = Service(instance, tuple(hosts), port, text)
    said = parse_service(service)
    if said is None:
        return
    assert said.instance.hex() == instance
    assert len(said.proof) in (0, 16)
    assert 0 < port < 65536
    if said.number:
        assert valid_number(said.number)
        assert valid_name(said.name)
        assert 0 < said.join_port < 65536
    else:
        assert (said.name, said.join_port) == ("", 0)
    assert all(address.endswith(f":{port}") for address in addresses_of(service, port))


def test_the_proof_is_of_the_fingerprint_and_the_instance() -> None:
    assert proof_of("a" * 52, bytes(8)).hex() == "7c6ba6b9eef26b491ba3888baea6496a"
    assert proof_of("a" * 52, bytes(7) + b"\1") != proof_of("a" * 52, bytes(8))
    assert proof_of(FINGERPRINTS["pi"], bytes(8)) != proof_of(FINGERPRINTS["desk"], bytes(8))
