"""Dialling out: conversations, their ends, what is refused, and the connection server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.conversation import MAX_CONVERSATIONS, PEER_CONVERSATIONS
from cognu.devices.cs import MAX_QUERY, SERVICES, parse_query, parse_service
from cognu.devices.net import NetServer
from cognu.errors import E, FileError, LinkBroken
from cognu.files.limits import Quota, Resource
from cognu.files.server import Fid
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.world import Stream, TcpStream
from cognu.world.net import RealNetwork
from serving import Client, Somebody


class Line:
    """A stream whose other end is the test's: `sent` is what was written, `arrive` what comes."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.local = "10.0.0.9:1234"
        self.sent = b""
        self.closed = self.ended = False
        self.broken: E | None = None
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.readers = 0

    async def read(self, count: int) -> bytes:
        self.readers += 1
        assert self.readers == 1, "one reader at a time"
        try:
            data = b"" if self.closed else await self.incoming.get()
        finally:
            self.readers -= 1
        if self.broken:
            raise LinkBroken(self.broken, self.peer)
        assert len(data) <= count
        return data

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        if self.broken or self.closed:
            raise LinkBroken(self.broken or E.PIPE, self.peer)
        self.sent += b"".join(buffers)

    def close(self) -> None:
        self.closed = True
        self.incoming.put_nowait(b"")

    def end_writing(self) -> None:
        self.ended = True

    async def wait_closed(self) -> None:
        return None


class FakeNetwork(RealNetwork):
    """Refuses as it is told, else connects to a `Line`; a gate may hold the connecting up."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.refusal: E | None = None
        self.gate: asyncio.Event | None = None
        self.dialled: list[str] = []

    async def connect_tcp(self, address: str, timeout: float = 20.0) -> TcpStream:
        self.dialled.append(address)
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise FileError(self.refusal, address)
        self.lines.append(Line(address))
        return self.lines[-1]

    async def connect_unix(self, path: str) -> TcpStream:
        return await self.connect_tcp(path)

    async def resolve(self, host: str) -> list[str]:
        if host == "nowhere":
            raise FileError(E.HOSTUNREACH, host)
        return ["10.0.0.1", "fe80::1"]

    async def reverse(self, address: str) -> list[str]:
        if address != "10.0.0.1":
            raise FileError(E.HOSTUNREACH, address)
        return ["printer.example"]

    async def service(self, name: str, protocol: str) -> int:
        if (name, protocol) != ("munin", "tcp"):
            raise FileError(E.NOENT, name, "no such service")
        return 4949


async def refused(error: E, call: Awaitable[Any]) -> FileError:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value
    return caught.value


async def turns() -> None:
    """Let everybody go as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Dialler:
    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.client = Client(NetServer(self.network, unix=None))

    async def dial(self, address: str = "10.0.0.1!80", protocol: str = "tcp") -> tuple[Fid, Fid, Line]:
        """ctl, data, and the line they are connected to."""
        ctl = await self.client.open(f"{protocol}/clone", ORDWR)
        await self.client.write_fid(ctl, f"connect {address}".encode())
        number = (await self.client.read_fid(ctl)).decode()
        data = await self.client.open(f"{protocol}/{number}/data", ORDWR)
        return ctl, data, self.network.lines[-1]


async def test_a_conversation_from_clone_to_the_last_close() -> None:
    dialler = Dialler()
    client = dialler.client
    ctl, data, line = await dialler.dial()
    assert dialler.network.dialled == ["10.0.0.1:80"]
    assert await client.names("tcp") == ["0", "clone"]
    assert await client.names("tcp/0") == ["ctl", "data", "listen", "local", "remote", "status"]
    assert await client.read("tcp/0/status") == b"Established\n"
    assert await client.read("tcp/0/remote") == b"10.0.0.1!80\n"
    assert await client.read("tcp/0/local") == b"10.0.0.9!1234\n"
    assert await client.write_fid(data, b"GET /") == 5
    assert line.sent == b"GET /"
    line.incoming.put_nowait(b"200 OK")
    assert await client.read_fid(data) == b"200 OK"
    assert await client.read_fid(data, 0) == b""
    client.server.clunk(ctl)
    assert not line.closed
    client.server.clunk(data)
    assert line.closed
    assert await client.names("tcp") == ["clone"]


async def test_ipv6_addresses_are_dialled_in_brackets() -> None:
    dialler = Dialler()
    await dialler.dial("fe80::1!80")
    assert dialler.network.dialled == ["[fe80::1]:80"]


async def test_conversations_are_apart_and_numbers_are_not_used_again() -> None:
    dialler = Dialler()
    first, second = await dialler.dial(), await dialler.dial()
    assert first[2] is not second[2]
    for fid in first[:2]:
        dialler.client.server.clunk(fid)
    await dialler.dial()
    assert await dialler.client.names("tcp") == ["1", "2", "clone"]
    await refused(E.NOENT, dialler.client.walk("tcp/0/data"))


async def test_a_walked_file_of_an_ended_conversation_is_not_opened() -> None:
    dialler = Dialler()
    client = dialler.client
    ctl, data, _ = await dialler.dial()
    walked = await client.walk("tcp/0/data"), await client.walk("tcp/0/status")
    client.server.clunk(ctl)
    client.server.clunk(data)
    for fid in walked:
        with pytest.raises(FileError) as caught:
            client.server.open(fid, OREAD, client.caller)
        assert caught.value.error is E.NOENT


@pytest.mark.parametrize("error", [E.CONNREFUSED, E.NETUNREACH, E.HOSTUNREACH, E.TIMEDOUT])
async def test_what_refuses_a_connection_is_told_and_another_try_may_follow(error: E) -> None:
    dialler = Dialler()
    client = dialler.client
    dialler.network.refusal = error
    ctl = await client.open("tcp/clone", ORDWR)
    await refused(error, client.write_fid(ctl, b"connect 10.0.0.1!80"))
    assert await client.read("tcp/0/status") == b"Closed\n"
    dialler.network.refusal = None
    await client.write_fid(ctl, b"connect 10.0.0.1!80")
    await refused(E.ALREADY, client.write_fid(ctl, b"connect 10.0.0.1!81"))


@pytest.mark.parametrize(
    "line",
    ["", "connect", "connect 10.0.0.1", "connect !80", "connect a!http", "connect a!0", "connect a!65536",
     "connect a!٣", "connect a!1 b", "announce", "headers", "accept", "hangup now"],
)  # fmt: skip
async def test_a_wrong_line_is_refused_with_what_ctl_takes(line: str) -> None:
    dialler = Dialler()
    ctl = await dialler.client.open("tcp/clone", ORDWR)
    failure = await refused(E.USAGE, dialler.client.write_fid(ctl, line.encode()))
    assert "ADDRESS!PORT" in failure.detail
    assert dialler.network.dialled == []


async def test_data_before_connect_is_not_connected() -> None:
    client = Dialler().client
    ctl = await client.open("tcp/clone", ORDWR)
    data = await client.open("tcp/0/data", ORDWR)
    await refused(E.NOTCONN, client.read_fid(data))
    await refused(E.NOTCONN, client.write_fid(data, b"x"))
    await refused(E.ILSEQ, client.write_fid(ctl, b"\xff"))


async def test_a_cancelled_connect_leaves_the_conversation_closed() -> None:
    dialler = Dialler()
    client = dialler.client
    dialler.network.gate = asyncio.Event()
    ctl = await client.open("tcp/clone", ORDWR)
    connecting = asyncio.ensure_future(client.write_fid(ctl, b"connect 10.0.0.1!80"))
    await turns()
    assert await client.read("tcp/0/status") == b"Connect\n"
    await refused(E.ALREADY, client.write_fid(ctl, b"connect 10.0.0.1!80"))
    connecting.cancel()
    await asyncio.wait([connecting])
    assert await client.read("tcp/0/status") == b"Closed\n"
    assert dialler.network.lines == []


@pytest.mark.parametrize("how", ["clunk", "hangup"])
async def test_a_connection_that_comes_too_late_is_closed(how: str) -> None:
    dialler = Dialler()
    client = dialler.client
    dialler.network.gate = asyncio.Event()
    ctl = await client.open("tcp/clone", ORDWR)
    connecting = asyncio.ensure_future(client.write_fid(ctl, b"connect 10.0.0.1!80"))
    await turns()
    if how == "clunk":
        client.server.clunk(ctl)
    else:
        await client.write_fid(ctl, b"hangup")
    dialler.network.gate.set()
    await refused(E.CONNRESET, connecting)
    assert dialler.network.lines[0].closed


async def test_hangup_ends_waiting_reads_and_refuses_writes() -> None:
    dialler = Dialler()
    client = dialler.client
    ctl, data, line = await dialler.dial()
    reading = [asyncio.ensure_future(client.read_fid(data)) for _ in range(2)]
    await turns()
    await client.write_fid(ctl, b"hangup\n")
    assert line.closed
    assert await asyncio.gather(*reading) == [b"", b""]
    await refused(E.PIPE, client.write_fid(data, b"x"))
    assert await client.read("tcp/0/status") == b"Finwait\n"


async def test_the_end_of_writing_is_told_and_reading_goes_on() -> None:
    dialler = Dialler()
    client = dialler.client
    unconnected = await client.open("tcp/clone", ORDWR)
    await refused(E.NOTCONN, client.write_fid(unconnected, b"hangup write"))
    await refused(E.NOTSUP, client.write_fid(await client.open("udp/clone", ORDWR), b"hangup write"))
    ctl, data, line = await dialler.dial()
    await client.write_fid(ctl, b"hangup write")
    assert (line.ended, line.closed) == (True, False)
    line.incoming.put_nowait(b"still")
    assert await client.read_fid(data) == b"still"


async def test_a_cancelled_read_frees_the_line_for_the_next() -> None:
    dialler = Dialler()
    _, data, line = await dialler.dial()
    first = asyncio.ensure_future(dialler.client.read_fid(data))
    second = asyncio.ensure_future(dialler.client.read_fid(data))
    await turns()
    first.cancel()
    await turns()
    line.incoming.put_nowait(b"x")
    assert await second == b"x"


async def test_a_broken_line_is_an_error_of_the_file() -> None:
    dialler = Dialler()
    _, data, line = await dialler.dial()
    line.broken = E.CONNRESET
    line.incoming.put_nowait(b"")
    await refused(E.CONNRESET, dialler.client.read_fid(data))
    await refused(E.CONNRESET, dialler.client.write_fid(data, b"x"))


async def test_conversations_are_limited() -> None:
    client = Dialler().client
    fids = [await client.open("tcp/clone", ORDWR) for _ in range(MAX_CONVERSATIONS)]
    await refused(E.AGAIN, client.open("tcp/clone", ORDWR))
    client.server.clunk(fids[0])
    await client.open("tcp/clone", ORDWR)


class Shared:
    """A network that two peers, by two connections each, and this machine use."""

    def __init__(self, files: int = 4096) -> None:
        self.base = Quota()
        self.peers = [Quota(self.base, name, {Resource.FILES: files}) for name in ("peer desk", "peer pi")]
        for peer in self.peers:
            peer.set_share(50)
        quotas = {1: self.base, **{pid: Quota(self.peers[pid % 2]) for pid in (2, 3, 4, 5)}}
        self.server = NetServer(FakeNetwork(), unix=None, quota_of=lambda caller: quotas[caller.pid])

    async def clone(self, pid: int, protocol: str = "tcp") -> Fid:
        return await Client(self.server, Somebody(pid)).open(f"{protocol}/clone", ORDWR)


async def test_one_peer_s_conversations_leave_others_all_of_theirs() -> None:
    shared = Shared()
    mine = [await shared.clone(pid, protocol) for pid in (2, 4) for protocol in ("tcp", "udp")
            for _ in range(PEER_CONVERSATIONS // 4)]  # fmt: skip
    for protocol in ("tcp", "udp", "unix"):
        error = await refused(E.AGAIN, shared.clone(4, protocol))
        assert "peer desk has 256 open" in str(error)
    assert shared.peers[0].used(Resource.FILES) == PEER_CONVERSATIONS
    others = [await shared.clone(3) for _ in range(PEER_CONVERSATIONS)]
    own = [await shared.clone(1) for _ in range(MAX_CONVERSATIONS)]
    await refused(E.AGAIN, shared.clone(1, "udp"))
    shared.server.clunk(mine.pop())
    mine.append(await shared.clone(2, "udp"))
    for fid in (*mine, *others, *own):
        shared.server.clunk(fid)
    assert [quota.used(Resource.FILES) for quota in (shared.base, *shared.peers)] == [0, 0, 0]


async def test_a_conversation_is_an_open_file_of_who_made_it() -> None:
    shared = Shared(files=3)
    fids = [await shared.clone(2), await shared.clone(4, "udp"), await shared.clone(4, "unix")]
    assert "peer desk is 3" in str(await refused(E.DQUOT, shared.clone(2)))
    await shared.clone(3)
    shared.server.clunk(fids[1])
    await shared.clone(2)


async def test_unix_sockets_are_dialled_only_where_allowed() -> None:
    network = FakeNetwork()
    none = Client(NetServer(network))
    assert await none.names("") == ["cs", "dns", "tcp", "udp"]
    await refused(E.NOPROTO, none.write("cs", b"unix!/run/web"))
    some = Client(NetServer(network, unix=["/run/web server"]))
    ctl = await some.open("unix/clone", ORDWR)
    await refused(E.ACCES, some.write_fid(ctl, b"connect /run/secret"))
    await some.write_fid(ctl, b"connect '/run/web server'")
    assert await some.read("unix/0/remote") == b"/run/web server\n"
    assert network.dialled == ["/run/web server"]


async def test_a_real_socket_carries_bytes_both_ways(tmp_path: Path) -> None:
    network = RealNetwork()
    path = str(tmp_path / "sock")

    async def echo(stream: Stream) -> None:
        while data := await stream.read(100):
            await stream.write(data.upper())

    listeners = [await network.listen_unix(path, echo), await network.listen_tcp("127.0.0.1:0", echo)]
    client = Client(NetServer(network, unix=[path]))
    for number, (protocol, address) in enumerate([("unix", path), ("tcp", listeners[1].address.replace(":", "!"))]):
        ctl = await client.open(f"{protocol}/clone", ORDWR)
        await client.write_fid(ctl, f"connect {address}".encode())
        data = await client.open(f"{protocol}/0/data", ORDWR)
        assert await client.write_fid(data, b"hello") == 5
        assert await client.read_fid(data) == b"HELLO"
        client.server.clunk(data)
        client.server.clunk(ctl)
        await listeners[number].close()
    ctl = await client.open("tcp/clone", ORDWR)
    await refused(E.CONNREFUSED, client.write_fid(ctl, f"connect {listeners[1].address.replace(':', '!')}".encode()))


# -- cs ---------------------------------------------------------------------------------------------------------------


async def ask(client: Client, query: str) -> list[bytes]:
    """Each read gives one line."""
    fid = await client.open("cs", ORDWR)
    try:
        await client.write_fid(fid, query.encode())
        lines: list[bytes] = []
        while line := await client.read_fid(fid, offset=sum(map(len, lines))):
            lines.append(line)
        return lines
    finally:
        client.server.clunk(fid)


async def test_names_are_translated_to_what_to_open_and_write() -> None:
    client = Dialler().client
    expected = [b"/net/tcp/clone 10.0.0.1!564\n", b"/net/tcp/clone fe80::1!564\n"]
    assert await ask(client, "net!pi!9fs") == expected
    assert await ask(client, "tcp!pi!564") == expected
    assert (await ask(client, "udp!pi!domain"))[:1] == [b"/net/udp/clone 10.0.0.1!53\n"]
    assert await ask(client, "tcp!*!9fs") == await ask(client, "net!*!564") == [b"/net/tcp/clone *!564\n"]
    assert await ask(client, "udp!*!0") == [b"/net/udp/clone *!0\n"]
    assert await ask(client, "unix!/run/web") == [b"/net/unix/clone /run/web\n"]
    assert await ask(client, "tcp!fe80::1!https\n") == [line.replace(b"564", b"443") for line in expected]


async def test_what_was_asked_is_the_fids_own_and_a_new_query_replaces_it() -> None:
    client = Dialler().client
    first, second = await client.open("cs", ORDWR), await client.open("cs", ORDWR)
    await client.write_fid(first, b"net!pi!http")
    assert await client.read_fid(second) == b""
    assert await client.read_fid(first, 9, offset=10) == b"lone 10.0"
    await refused(E.HOSTUNREACH, client.write_fid(first, b"net!nowhere!http"))
    assert await client.read_fid(first) == b""


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", E.USAGE),
        ("net", E.USAGE),
        ("net!pi", E.USAGE),
        ("net!!http", E.USAGE),
        ("net!pi!", E.USAGE),
        ("net!a b!80", E.USAGE),
        ("net!pi!80\nx", E.USAGE),
        ("udp!pi!munin", E.NOENT),
        ("il!pi!53", E.NOPROTO),
        ("tcp!*!65536", E.NOENT),
        ("net!pi!frobnicate", E.NOENT),
        ("net!pi!0", E.NOENT),
        ("net!pi!65536", E.NOENT),
        ("unix!relative", E.USAGE),
        ("x" * (MAX_QUERY + 1), E.TOOBIG),
    ],
)
async def test_what_is_no_query_is_refused(query: str, error: E) -> None:
    client = Dialler().client
    await refused(error, client.write("cs", query.encode(), OWRITE))
    await refused(E.ILSEQ, client.write("cs", b"\xff"))


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["net", "tcp", "udp", "unix", "!", "/a", "pi", "*", "0", "80", *SERVICES])).map("".join)
)
def test_any_query_parses_or_is_refused(query: str) -> None:
    answer: tuple[str, str, str] | E
    try:
        answer = parse_query(query)
    except FileError as error:
        answer = error.error
    if isinstance(answer, E):
        attributes = (query.startswith("!") and "=" in query) or "!$" in query
        assert answer in (E.USAGE, E.NOPROTO, *([E.NOTSUP] if attributes else []))
    else:
        protocol, host, service = answer
        assert (protocol == "unix" and host.startswith("/")) or (protocol in ("tcp", "udp") and host and service)
        assert protocol == "unix" or not (set("!/\n") & set(host + service))


@given(st.text(max_size=8) | st.integers(-9, 99999).map(str) | st.sampled_from(sorted(SERVICES)))
def test_a_service_is_a_port_or_the_hosts_to_know(service: str) -> None:
    number = int(service) if service.isascii() and service.isdigit() else None
    if number is not None and not 0 < number <= 65535:
        with pytest.raises(FileError) as caught:
            parse_service(service)
        assert caught.value.error is E.NOENT
    else:
        assert parse_service(service) == SERVICES.get(service, number)


def test_the_owner_is_shown() -> None:
    async def scenario() -> None:
        client = Client(NetServer(FakeNetwork()), Somebody(3, "rob"))
        await client.open("tcp/clone", ORDWR)
        assert (await client.stat("tcp/0/data")).user == "rob"

    asyncio.run(scenario())
