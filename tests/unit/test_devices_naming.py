"""What /net/cs and /net/dns know of machines, hosts and services, and what they can't be asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.dns import MAX_QUERY, TYPES, parse_question
from cognu.devices.naming import Known
from cognu.devices.net import NetServer
from cognu.errors import E, FileError
from cognu.mesh.addresses import Reserve
from cognu.mesh.identity import Peer
from cognu.mesh.links import Whereabouts
from cognu.ninep.types import ORDWR, OWRITE
from cognu.node.naming import PeerMachines
from cognu.node.node import Node
from cognu.world.net import RealNetwork
from serving import Client
from unit.test_devices_net import FakeNetwork, refused


class Machines:
    """Machines as a test says; `at` are names of addresses."""

    def __init__(self, **known: Known) -> None:
        self.known = known
        self.at = {"10.0.0.7": "pi"}

    def find(self, name: str) -> Known | None:
        return self.known.get(name)

    def named(self, address: str) -> str | None:
        return self.at.get(address)


PI = Known(("10.0.0.7", "fd00::7", "10.0.0.7"), "/n/pi/net")


def server(announce: bool = True, **known: Known) -> Client:
    return Client(NetServer(FakeNetwork(), announce=announce, machines=Machines(**known)))


async def ask(client: Client, file: str, query: str) -> list[str]:
    """The answer's lines, each of which is one read."""
    fid = await client.open(file, ORDWR)
    try:
        await client.write_fid(fid, query.encode())
        lines: list[bytes] = []
        while line := await client.read_fid(fid, offset=sum(map(len, lines))):
            lines.append(line)
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
        return [line.decode().removesuffix("\n") for line in lines]
    finally:
        client.server.clunk(fid)


async def test_a_machines_name_is_its_addresses_and_at_last_the_way_through_its_net() -> None:
    client = server(pi=PI, nas=Known(("10.0.0.8",)))
    assert await ask(client, "cs", "net!pi!http") == [
        "/net/tcp/clone 10.0.0.7!80",
        "/net/tcp/clone fd00::7!80",
        "/n/pi/net/tcp/clone 127.0.0.1!80",
    ]
    assert (await ask(client, "cs", "udp!pi!53"))[-1] == "/n/pi/net/udp/clone 127.0.0.1!53"
    assert await ask(client, "cs", "tcp!nas!9p") == ["/net/tcp/clone 10.0.0.8!564"]


async def test_what_is_lent_names_no_way_by_this_machines_own_peers() -> None:
    client = server(announce=False, pi=PI)
    assert await ask(client, "cs", "net!pi!http") == ["/net/tcp/clone 10.0.0.7!80", "/net/tcp/clone fd00::7!80"]


async def test_a_machine_of_which_no_address_is_known_is_reached_through_its_net_or_that_is_said() -> None:
    client = server(pi=Known((), "/n/pi/net"), nas=Known(("nowhere",)))
    assert await ask(client, "cs", "tcp!pi!80") == ["/n/pi/net/tcp/clone 127.0.0.1!80"]
    said = await refused(E.HOSTUNREACH, client.write("cs", b"tcp!nas!80", OWRITE))
    assert str(said) == "nas: host not reachable: no address of this machine is known here"
    await refused(E.HOSTUNREACH, client.write("dns", b"pi ip", OWRITE))


async def test_a_machines_address_may_be_a_name_which_the_resolver_knows() -> None:
    client = server(nas=Known(("nas.example", "10.0.0.8")))
    assert await ask(client, "cs", "tcp!nas!80") == [
        "/net/tcp/clone 10.0.0.1!80",
        "/net/tcp/clone fe80::1!80",
        "/net/tcp/clone 10.0.0.8!80",
    ]


@pytest.mark.parametrize("query", ["!kind=notes", "!sys=pi ip", "net!$fs!9fs", "tcp!$auth!567", "udp!$!1"])
async def test_cs_tells_nothing_by_attributes_and_says_where_that_is_found(query: str) -> None:
    said = await refused(E.NOTSUP, server().write("cs", query.encode(), OWRITE))
    assert "/mnt/registry/find" in str(said)


async def test_a_service_that_is_not_in_the_table_is_asked_of_the_host() -> None:
    client = server()
    assert (await ask(client, "cs", "net!printer!munin"))[0] == "/net/tcp/clone 10.0.0.1!4949"
    assert await ask(client, "cs", "tcp!*!munin") == ["/net/tcp/clone *!4949"]
    said = await refused(E.NOENT, client.write("cs", b"udp!printer!munin", OWRITE))
    assert "munin" in str(said), "what is unknown is named"


async def test_dns_tells_addresses_by_family_and_names_of_addresses() -> None:
    client = server(pi=PI)
    assert await ask(client, "dns", "printer") == ["printer ip 10.0.0.1"]
    assert await ask(client, "dns", "printer ipv6\n") == ["printer ipv6 fe80::1"]
    assert await ask(client, "dns", "pi ip") == ["pi ip 10.0.0.7"]
    assert await ask(client, "dns", "10.0.0.1 ptr") == ["10.0.0.1 ptr printer.example"]
    assert await ask(client, "dns", "1.0.0.10.in-addr.arpa ptr") == ["10.0.0.1 ptr printer.example"]
    assert await ask(client, "dns", "10.0.0.7 ptr") == ["10.0.0.7 ptr pi"]


async def test_each_fid_of_dns_has_its_own_answer_and_a_refusal_leaves_none() -> None:
    client = server()
    first, second = await client.open("dns", ORDWR), await client.open("dns", ORDWR)
    await client.write_fid(first, b"printer ip")
    assert await client.read_fid(second) == b""
    assert await client.read_fid(first, 4, offset=11) == b"10.0"
    await refused(E.HOSTUNREACH, client.write_fid(first, b"nowhere ip"))
    assert await client.read_fid(first) == b""


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", E.USAGE),
        ("a b c", E.USAGE),
        ("pi/x ip", E.USAGE),
        ("!pi ip", E.USAGE),
        ("pi mx", E.NOTSUP),
        ("pi txt", E.NOTSUP),
        ("pi ptr", E.USAGE),
        ("1.2.3.4.5.in-addr.arpa ptr", E.USAGE),
        ("1.2.ip6.arpa ptr", E.USAGE),
        ("10.0.0.99 ptr", E.HOSTUNREACH),
        ("x" * (MAX_QUERY + 1), E.TOOBIG),
    ],
)
async def test_what_dns_can_not_tell_is_refused(query: str, error: E) -> None:
    client = server()
    await refused(error, client.write("dns", query.encode(), OWRITE))
    await refused(E.ILSEQ, client.write("dns", b"\xff", OWRITE))


@given(st.ip_addresses())
def test_the_name_of_an_address_in_arpa_stands_for_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    for name in (address.reverse_pointer, f"{address.reverse_pointer.upper()}.", str(address)):
        assert parse_question(f"{name} ptr") == (str(address), "ptr")


@given(st.text(max_size=40) | st.lists(st.sampled_from(["a", ".", "1", "in-addr.arpa", "ip6.arpa", " ", *TYPES])).map(
    "".join
))  # fmt: skip
def test_any_question_parses_or_is_refused(query: str) -> None:
    answer: tuple[str, str] | E
    try:
        answer = parse_question(query)
    except FileError as error:
        answer = error.error
    if isinstance(answer, E):
        assert answer in (E.USAGE, E.NOTSUP)
        return
    name, kind = answer
    assert len(name.split()) == 1
    assert kind in TYPES
    if kind == "ptr":
        ipaddress.ip_address(name)


def peer(
    name: str, address: str = "", received: Sequence[str] = (), reserves: Sequence[tuple[str, bool]] = ()
) -> Whereabouts:
    others = tuple(Reserve(other, heard, None, False) for other, heard in reserves)
    return Whereabouts(Peer(name * 8, name, "", received=tuple(received)), address, others)


def machines(*rows: Whereabouts) -> PeerMachines:
    mesh = SimpleNamespace(whereabouts=lambda: list(rows))
    settings = SimpleNamespace(name="desk")
    return PeerMachines(
        cast(Node, SimpleNamespace(mesh=mesh, settings=settings, hosts=lambda: ["10.0.0.2", "[fd::2]"]))
    )


def test_a_peer_is_where_it_is_linked_and_where_it_proved_its_key_not_where_somebody_says() -> None:
    known = machines(
        peer("pi", address="[fd::7]:4000", received=("net",),
             reserves=[("10.0.0.7:4000", False), ("10.0.0.66:1", True), ("[fd::7]:5000", False)]),
        peer("nas", received=("read:/net", "run")),
        peer("hub", received=("write:/net",)),
    )  # fmt: skip
    assert known.find("pi") == Known(("fd::7", "10.0.0.7"), "/n/pi/net")
    assert known.find("nas") == Known((), "")  # it is not linked; and may not be dialled by
    assert known.find("hub") == Known((), "/n/hub/net")
    assert known.find("nobody") is None
    assert known.named("fd::7") == known.named("10.0.0.7") == "pi"
    assert known.named("10.0.0.66") is None


def test_this_machine_is_known_by_its_own_name_unless_a_peer_has_it() -> None:
    assert machines().find("desk") == Known(("127.0.0.1", "::1", "10.0.0.2", "fd::2"))
    assert machines().named("127.0.0.1") == "desk"
    assert machines(peer("desk")).find("desk") == Known(())


async def test_the_hosts_own_resolver_answers_of_addresses_and_services() -> None:
    network = RealNetwork()
    assert "127.0.0.1" in await network.resolve("localhost")
    await refused(E.NOENT, network.service("no such service", "tcp"))
    await refused(E.NOENT, network.service("a\0b", "tcp"))
    assert all(await network.reverse("127.0.0.1"))
