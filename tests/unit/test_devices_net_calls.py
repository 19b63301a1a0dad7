"""Taking calls: announce, listen, accept and hang up over tcp; udp connected, announced, and with headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cognu.devices.announcing import parse_listen
from cognu.devices.conversation import MAX_CONVERSATIONS, Protocol, announced_address, ip_address
from cognu.devices.net import NetServer
from cognu.devices.udp import HEADER, MAX_CALLS, MAX_QUEUED, Header, pack_header, parse_header
from cognu.errors import E, FileError, LinkBroken
from cognu.files.server import Fid
from cognu.files.tree import TreeFid
from cognu.ninep.types import ORDWR, OREAD
from cognu.world import Announcement, Datagrams, TcpStream
from cognu.world.net import RealNetwork
from serving import Client

LOOPBACK = "127.0.0.1"


class Net(Client):
    """A client of a network that may announce; closes what it opened when it ends."""

    def __init__(self, network: RealNetwork | None = None, announce: bool = True) -> None:
        super().__init__(NetServer(network or RealNetwork(), announce=announce))
        self.fids: list[Fid] = []

    async def use(self, path: str) -> Fid:
        """Open for reading and writing, until the end or `end`."""
        fid = await self.open(path, ORDWR)
        self.fids.append(fid)
        return fid

    async def began(self, protocol: str, *lines: str) -> tuple[Fid, str]:
        """A conversation told `lines`: its ctl and its directory."""
        ctl = await self.use(f"{protocol}/clone")
        for line in lines:
            await self.write_fid(ctl, line.encode())
        return ctl, f"{protocol}/{(await self.read_fid(ctl)).decode()}"

    async def text(self, path: str) -> str:
        fid = await self.open(path)
        try:
            return (await self.read_fid(fid)).decode().strip()
        finally:
            self.server.clunk(fid)

    async def called(self, directory: str) -> tuple[Fid, str]:
        """The next call: its ctl and directory."""
        ctl = await self.use(f"{directory}/listen")
        return ctl, f"{directory.partition('/')[0]}/{(await self.read_fid(ctl)).decode()}"

    def end(self, *fids: Fid) -> None:
        for fid in fids or tuple(self.fids):
            self.fids.remove(fid)
            self.server.clunk(fid)


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    net = Net()
    yield net
    net.end(*net.fids)
    for protocol in ("tcp", "udp"):
        assert await net.names(protocol) == ["clone"]


async def refused(error: E, call: Awaitable[Any]) -> FileError:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value
    return caught.value


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# -- tcp --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_who_may_only_read_makes_no_conversation(net: Net, protocol: str) -> None:
    await refused(E.ACCES, net.open(f"{protocol}/clone", OREAD))
    assert await net.names(protocol) == ["clone"]
    _, there = await net.began(protocol, f"announce {LOOPBACK}!0")
    before = await net.names(protocol)
    if protocol == "tcp":
        await net.began(protocol, f"connect {await net.text(f'{there}/local')}")
        before = await net.names(protocol)
        await refused(E.ACCES, net.open(f"{there}/listen", OREAD))
    assert await net.names(protocol) == before


async def test_a_call_is_a_conversation_of_its_own(net: Net) -> None:
    announced, there = await net.began("tcp", f"announce {LOOPBACK}!0")
    assert await net.text(f"{there}/status") == "Announced"
    address = await net.text(f"{there}/local")
    assert address.startswith(f"{LOOPBACK}!")
    assert await net.text(f"{there}/remote") == "::!0"
    waiting = asyncio.ensure_future(net.called(there))
    await turns()
    assert not waiting.done()
    _, caller = await net.began("tcp", f"connect {address}")
    call_ctl, call = await waiting
    assert await net.text(f"{call}/status") == "Established"
    assert await net.text(f"{call}/local") == address == await net.text(f"{caller}/remote")
    assert await net.text(f"{call}/remote") == await net.text(f"{caller}/local")
    await net.write_fid(call_ctl, f"accept {call.rpartition('/')[2]}".encode())
    near, far = await net.use(f"{caller}/data"), await net.use(f"{call}/data")
    await net.write_fid(near, b"hello")
    assert await net.read_fid(far) == b"hello"
    net.end(announced)  # what was accepted goes on
    assert there.rpartition("/")[2] not in await net.names("tcp")
    await net.write_fid(far, b"still here")
    assert await net.read_fid(near) == b"still here"
    net.end(far, call_ctl)
    assert await net.read_fid(near) == b""
    assert await net.text(f"{caller}/status") == "Closewait"


async def test_ipv6_addresses_are_announced_without_brackets(net: Net) -> None:
    for protocol in ("tcp", "udp"):
        _, there = await net.began(protocol, "announce ::1!0")
        address = await net.text(f"{there}/local")
        assert address.startswith("::1!")
        _, caller = await net.began(protocol, f"connect {address}")
        data = await net.use(f"{caller}/data")
        await net.write_fid(data, b"x")
        _, call = await net.called(there)
        assert await net.text(f"{call}/remote") == await net.text(f"{caller}/local")
        assert await net.read_fid(await net.use(f"{call}/data")) == b"x"


async def test_calls_wait_until_somebody_listens_and_may_be_rejected(net: Net) -> None:
    _, there = await net.began("tcp", f"announce {LOOPBACK}!0")
    address = await net.text(f"{there}/local")
    callers = [(await net.began("tcp", f"connect {address}"))[1] for _ in range(3)]
    calls = [await net.called(there) for _ in callers]
    remotes = {await net.text(f"{call}/remote") for _, call in calls}
    assert remotes == {await net.text(f"{caller}/local") for caller in callers}
    for ctl, call in calls:
        await net.write_fid(ctl, f"reject {call.rpartition('/')[2]} 'not today'".encode())
        assert await net.text(f"{call}/status") == "Finwait"
    for caller in callers:
        assert await net.read_fid(await net.use(f"{caller}/data")) == b""


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_hanging_up_ends_who_listens(net: Net, protocol: str) -> None:
    ctl, there = await net.began(protocol, f"announce {LOOPBACK}!0")
    waiting = [asyncio.ensure_future(net.called(there)) for _ in range(2)]
    await turns()
    await net.write_fid(ctl, b"hangup")
    for call in waiting:
        await refused(E.NOTANNOUNCED, call)
    await refused(E.NOTANNOUNCED, net.called(there))
    assert await net.text(f"{there}/status") == "Finwait"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_listener_that_gives_up_takes_no_call_along(net: Net, protocol: str) -> None:
    _, there = await net.began(protocol, f"announce {LOOPBACK}!0")
    waiting = asyncio.ensure_future(net.called(there))
    await turns()
    waiting.cancel()
    await asyncio.wait([waiting])
    _, caller = await net.began(protocol, f"connect {await net.text(f'{there}/local')}")
    data = await net.use(f"{caller}/data")
    await net.write_fid(data, b"x")
    _, call = await net.called(there)
    assert await net.read_fid(await net.use(f"{call}/data")) == b"x"


async def test_who_waits_keeps_the_port_though_ctl_is_closed(net: Net) -> None:
    ctl, there = await net.began("tcp", f"announce {LOOPBACK}!0")
    address = await net.text(f"{there}/local")
    waiting = asyncio.ensure_future(net.called(there))
    await turns()
    net.end(ctl)
    await net.began("tcp", f"connect {address}")
    _, call = await waiting
    assert await net.text(f"{call}/local") == address
    _, again = await net.began("tcp")
    await refused(E.CONNREFUSED, net.write_fid(net.fids[-1], f"connect {address}".encode()))
    assert await net.text(f"{again}/status") == "Closed"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_port_in_use_is_refused_and_what_is_under_way_is_not_begun_twice(net: Net, protocol: str) -> None:
    ctl, there = await net.began(protocol, f"announce {LOOPBACK}!0")
    address = await net.text(f"{there}/local")
    await refused(E.ALREADY, net.write_fid(ctl, f"announce {LOOPBACK}!0".encode()))
    await refused(E.ALREADY, net.write_fid(ctl, f"connect {address}".encode()))
    other, there = await net.began(protocol)
    await refused(E.NOTANNOUNCED, net.called(there))
    await refused(E.ADDRINUSE, net.write_fid(other, f"announce {address}".encode()))
    assert await net.text(f"{there}/status") == "Closed"
    await net.write_fid(other, f"announce {LOOPBACK}!0".encode())


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_where_announcing_is_not_lent_the_refusal_names_the_grant(protocol: str) -> None:
    net = Net(announce=False)
    ctl, there = await net.began(protocol)
    failure = await refused(E.ACCES, net.write_fid(ctl, b"announce *!0"))
    assert "the grant net" in failure.detail
    assert await net.text(f"{there}/status") == "Closed"
    net.end()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("word", ["", "x", "!", "!5", "*", "*!", "*!x", "*!65536", "-1", "1!2!", "*!999999999", "٣"])
async def test_only_numeric_addresses_are_announced(net: Net, protocol: str, word: str) -> None:
    ctl, _ = await net.began(protocol)
    failure = await refused(E.USAGE, net.write_fid(ctl, f"announce '{word}'".encode()))
    assert "announce [ADDRESS!]PORT" in failure.detail


@given(st.text(st.sampled_from("0123456789.:!*ab "), max_size=20))
@example("0100000")
def test_any_word_to_announce_is_an_address_or_refused(word: str) -> None:
    try:
        address = announced_address(word, "usage")
    except FileError as error:
        assert error.error is E.USAGE  # noqa: PT017
        return
    host, port = ip_address(address).rsplit("!", 1)
    assert 0 <= int(port) <= 65535
    given_host = word.rpartition("!")[0] if "!" in word else "*"
    assert host == ("0.0.0.0" if given_host == "*" else given_host)


async def test_no_more_calls_are_taken_than_conversations_fit(net: Net) -> None:
    _, there = await net.began("tcp", f"announce {LOOPBACK}!0")
    _, caller = await net.began("tcp", f"connect {await net.text(f'{there}/local')}")
    tcp = await net.walk("tcp")
    assert isinstance(tcp, TreeFid)
    assert isinstance(tcp.node, Protocol)
    more = [await net.use("tcp/clone") for _ in range(MAX_CONVERSATIONS - 2)]
    await refused(E.AGAIN, net.called(there))
    net.end(*more)
    _, call = await net.called(there)  # it waited
    assert await net.text(f"{call}/remote") == await net.text(f"{caller}/local")


# -- udp --------------------------------------------------------------------------------------------------------------


async def test_udp_connected_keeps_the_bounds_of_datagrams(net: Net) -> None:
    _, there = await net.began("udp", f"announce {LOOPBACK}!0")
    _, caller = await net.began("udp", f"connect {await net.text(f'{there}/local')}")
    assert await net.text(f"{caller}/status") == "Established"
    near = await net.use(f"{caller}/data")
    for data in (b"one", b"", b"three"):
        await net.write_fid(near, data)
    _, call = await net.called(there)
    assert await net.text(f"{call}/remote") == await net.text(f"{caller}/local")
    assert await net.text(f"{call}/local") == await net.text(f"{there}/local")
    far = await net.use(f"{call}/data")
    assert [await net.read_fid(far, 2), await net.read_fid(far), await net.read_fid(far)] == [b"on", b"", b"three"]
    await net.write_fid(far, b"answer")
    assert await net.read_fid(near) == b"answer"
    await refused(E.MSGSIZE, net.write_fid(near, bytes(65536)))


async def test_each_other_side_has_its_conversation_and_they_outlive_the_announced_one(net: Net) -> None:
    announced, there = await net.began("udp", f"announce {LOOPBACK}!0")
    address = await net.text(f"{there}/local")
    callers = []
    for name in (b"a", b"b"):
        _, caller = await net.began("udp", f"connect {address}")
        callers.append(await net.use(f"{caller}/data"))
        await net.write_fid(callers[-1], name)
    calls = []
    for _ in callers:
        ctl, call = await net.called(there)
        calls.append((ctl, await net.use(f"{call}/data")))
    first = [await net.read_fid(data) for _, data in calls]
    assert sorted(first) == [b"a", b"b"]
    by_name = dict(zip(first, calls, strict=True))
    net.end(announced)
    await net.write_fid(callers[1], b"more")
    assert await net.read_fid(by_name[b"b"][1]) == b"more"
    reading = asyncio.ensure_future(net.read_fid(by_name[b"a"][1]))
    await turns()
    await net.write_fid(by_name[b"a"][0], b"hangup")
    assert await reading == b""
    await refused(E.PIPE, net.write_fid(by_name[b"a"][1], b"x"))


async def test_with_headers_one_conversation_has_all_datagrams(net: Net) -> None:
    ctl, there = await net.began("udp", "headers", f"announce {LOOPBACK}!0")
    address = await net.text(f"{there}/local")
    server = await net.use(f"{there}/data")
    _, caller = await net.began("udp", f"connect {address}")
    client = await net.use(f"{caller}/data")
    await net.write_fid(client, b"ping")
    data = await net.read_fid(server)
    header, rest = parse_header(data)
    assert bytes(rest) == b"ping"
    assert ip_address(header.remote) == await net.text(f"{caller}/local")
    assert ip_address(header.local) == address
    assert data[:12] == bytes(10) + b"\xff\xff"
    assert await net.write_fid(server, data[:HEADER] + b"pong") == HEADER + 4
    assert await net.read_fid(client) == b"pong"
    await refused(E.INVAL, net.write_fid(server, bytes(HEADER - 1)))
    await refused(E.NOTANNOUNCED, net.called(there))
    reading = asyncio.ensure_future(net.read_fid(server))
    await turns()
    await net.write_fid(ctl, b"hangup")
    assert await reading == b""


async def test_udp_without_headers_has_no_data_before_a_call(net: Net) -> None:
    ctl, there = await net.began("udp", f"announce {LOOPBACK}!0")
    data = await net.use(f"{there}/data")
    await refused(E.NOTCONN, net.read_fid(data))
    await refused(E.NOTCONN, net.write_fid(data, b"x"))
    listening = asyncio.ensure_future(net.called(there))
    await turns()
    await refused(E.ALREADY, net.write_fid(ctl, b"headers"))
    listening.cancel()
    await asyncio.wait([listening])


class Line:
    """`Datagrams` that the test fills."""

    local = "10.0.0.1:53"

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[tuple[bytes, str] | None] = asyncio.Queue()
        self.empty = asyncio.Event()
        self.sent: list[tuple[bytes, str]] = []
        self.closed = False

    async def receive(self) -> tuple[bytes, str]:
        if self.incoming.empty():
            self.empty.set()
        found = None if self.closed else await self.incoming.get()
        if found is None:
            raise LinkBroken(E.PIPE, self.local)
        return found

    async def drained(self) -> None:
        if not self.incoming.empty():
            self.empty.clear()
            await self.empty.wait()

    async def send(self, data: bytes | bytearray | memoryview, to: str = "") -> None:
        self.sent.append((bytes(data), to))

    def close(self) -> None:
        self.closed = True
        self.incoming.put_nowait(None)


class FakeNetwork(RealNetwork):
    def __init__(self) -> None:
        self.lines: list[Line] = []

    async def open_udp(self, local: str, remote: str = "") -> Datagrams:
        self.lines.append(Line())
        return self.lines[-1]


async def test_what_comes_faster_than_it_is_read_is_dropped_beyond_a_bound() -> None:
    network = FakeNetwork()
    net = Net(network)
    _, there = await net.began("udp", "announce 53")
    listening = asyncio.ensure_future(net.called(there))
    await turns()
    [line] = network.lines
    for number in range(MAX_QUEUED + 10):
        line.incoming.put_nowait((b"%d" % number, "10.0.0.2:9"))
    for number in range(MAX_CALLS + 10):
        line.incoming.put_nowait((b"", f"10.0.0.3:{number + 1}"))
    _, call = await listening
    await line.drained()
    data = await net.use(f"{call}/data")
    assert [await net.read_fid(data) for _ in range(MAX_QUEUED)] == [b"%d" % number for number in range(MAX_QUEUED)]
    reading = asyncio.ensure_future(net.read_fid(data))
    await turns()
    assert not reading.done()
    line.incoming.put_nowait((b"next", "10.0.0.2:9"))
    assert await reading == b"next"
    calls = [await net.called(there) for _ in range(MAX_CALLS - 1)]
    assert await net.text(f"{calls[0][1]}/remote") == "10.0.0.3!1"
    more = asyncio.ensure_future(net.called(there))
    await turns()
    assert not more.done()  # the 10 more were dropped
    line.incoming.put_nowait((b"", "10.0.0.4:1"))
    assert await net.text(f"{(await more)[1]}/remote") == "10.0.0.4!1"
    assert not line.closed
    net.end()
    assert line.closed


class Refusing(FakeNetwork):
    """No tcp, and udp that nothing comes from."""

    async def connect_tcp(self, address: str, timeout: float = 20.0) -> TcpStream:
        raise FileError(E.CONNREFUSED, address)

    async def announce_tcp(self, address: str) -> Announcement:
        raise FileError(E.ADDRINUSE, address)


WORDS = ["connect", "announce", "hangup", "accept", "reject", "headers", "*!0", "10.0.0.1!9", "::1!9", "9", "'", "\n"]


@given(st.sampled_from(["tcp", "udp"]), st.lists(st.lists(st.sampled_from(WORDS), max_size=4), max_size=6))
def test_any_lines_to_ctl_are_carried_out_or_refused(protocol: str, lines: list[list[str]]) -> None:
    async def scenario() -> None:
        network = Refusing()
        net = Net(network)
        ctl, there = await net.began(protocol)
        refusals: list[E] = []
        for line in lines:
            try:
                await net.write_fid(ctl, " ".join(line).encode())
            except FileError as error:
                refusals.append(error.error)
        assert {*refusals} <= {E.USAGE, E.SYNTAX, E.ALREADY, E.CONNREFUSED, E.ADDRINUSE}
        state = await net.text(f"{there}/status")
        assert state in ("Closed", "Finwait") or (protocol == "udp" and state in ("Established", "Announced"))
        net.end()
        assert all(line.closed for line in network.lines)

    asyncio.run(scenario())


addresses = st.tuples(st.ip_addresses(), st.integers(0, 65535)).map(
    lambda pair: f"[{pair[0]}]:{pair[1]}" if pair[0].version == 6 else f"{pair[0]}:{pair[1]}"
)


@given(addresses.filter(lambda text: "::ffff:" not in text), addresses.filter(lambda text: "::ffff:" not in text))
def test_headers_read_back(remote: str, local: str) -> None:
    header = Header(remote, local)
    packed = pack_header(header)
    assert len(packed) == HEADER
    found, rest = parse_header(packed + b"data")
    assert (found, bytes(rest)) == (header, b"data")


@given(st.binary(max_size=80))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    if len(data) < HEADER:
        with pytest.raises(FileError):
            parse_header(data)
    else:
        header, rest = parse_header(data)
        assert pack_header(Header(header.remote, header.local))[48:] == data[48:HEADER]
        assert bytes(rest) == data[HEADER:]


# -- lent, at some ports ----------------------------------------------------------------------------------------------


def lent(aname: str) -> Net:
    client = Net(announce=False)
    client.aname = aname
    return client


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("listen", range(1024, 65536)), ("listen=8000", range(8000, 8001)), ("listen=1-65535", range(1, 65536)),
        ("listen=8000-8100", range(8000, 8101)), ("listen=8000-8000", None), ("listen=9-8", None), ("listen=0", None),
        ("listen=08", None), ("listen=65536", None), ("listen=", None), ("listen=1-", None), ("listen=a", None),
        ("dial", None), ("", None), ("listen=1-2-3", None), ("listen=\u0661", None),
    ],
)  # fmt: skip
def test_ports_are_written_in_one_way(text: str, ports: range | None) -> None:
    assert parse_listen(text) == ports


@given(st.text(max_size=20) | st.from_regex(r"listen=[0-9]{0,6}-?[0-9]{0,6}", fullmatch=True))
def test_any_text_is_ports_that_there_are_or_none(text: str) -> None:
    ports = parse_listen(text)
    assert ports is None or (ports and ports[0] >= 1 and ports[-1] <= 65535)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_at_a_lent_network_calls_are_taken_at_the_ports_that_were_granted_and_no_other(protocol: str) -> None:
    whole = lent("listen")
    try:
        _, at = await whole.began(protocol, f"announce {LOOPBACK}!0")
        port = int((await whole.text(f"{at}/local")).rpartition("!")[2])
        assert port >= 1024
        ctl = await whole.use(f"{protocol}/clone")
        with pytest.raises(FileError) as caught:
            await whole.write_fid(ctl, f"announce {LOOPBACK}!80".encode())
        assert caught.value.error is E.ACCES
        assert "net:listen is for ports 1024-65535" in str(caught.value)
        assert "; there: cognu grants set WHO net:listen=80" in caught.value.explain()
        assert E.ACCES.hint not in caught.value.explain()
        # Of a narrower range any means the first that is free; the ctl of a refusal may be used again.
        some = lent(f"listen={port}-{port + 9}")
        try:
            ctl, at = await some.began(protocol, f"announce {LOOPBACK}!0")
            assert port < int((await some.text(f"{at}/local")).rpartition("!")[2]) <= port + 9
        finally:
            some.end()
        one = lent(f"listen={port}")
        try:
            ctl = await one.use(f"{protocol}/clone")
            for words, error in (
                (f"{LOOPBACK}!0", E.ADDRINUSE), (f"{LOOPBACK}!{port}", E.ADDRINUSE),
                (f"{LOOPBACK}!{port + 1}", E.ACCES),
            ):  # fmt: skip
                with pytest.raises(FileError) as caught:
                    await one.write_fid(ctl, f"announce {words}".encode())
                assert caught.value.error is error
        finally:
            one.end()
    finally:
        whole.end()


def test_what_is_lent_ends_with_the_right_to_it_and_ones_own_does_not() -> None:
    assert NetServer(RealNetwork()).ends_with_right
    assert not NetServer(RealNetwork(), announce=True).ends_with_right
