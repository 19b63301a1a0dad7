"""Listening by IPv4 and IPv6 at one port: the host `*`."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from cognu.cli.checks import host as checks
from cognu.cli.checks.finding import Level
from cognu.errors import E, FileError
from cognu.world import Stream, families, own
from cognu.world.families import FAMILIES, TRIES, at_one_port
from cognu.world.net import RealNetwork, listening_socket
from cognu.world.sockets import SocketAddress

NETWORK = RealNetwork()
V4, V6 = socket.AF_INET, socket.AF_INET6


def lacking(monkeypatch: pytest.MonkeyPatch, *missing: int, said: int = errno.EAFNOSUPPORT) -> None:
    """A host that has not got these address families."""

    def listening(family: int, name: SocketAddress, address: str, alone: bool = False) -> socket.socket:
        if family in missing:
            raise FileError(E.IO, address) from OSError(said, "")
        return listening_socket(family, name, address, alone)

    monkeypatch.setattr(families, "listening_socket", listening)


async def test_calls_come_in_by_both_families_at_one_port_and_are_told_by_their_own_addresses() -> None:
    seen: list[str] = []

    async def accept(stream: Stream) -> None:
        seen.append(stream.peer)
        await stream.write(b"x")

    listener = await NETWORK.listen_tcp("*:0", accept)
    host, _, port = listener.address.rpartition(":")
    assert host == "*"
    for each in ("127.0.0.1", "[::1]"):
        stream = await NETWORK.connect_tcp(f"{each}:{port}")
        assert await stream.read(1) == b"x"
        assert seen.pop() == stream.local
        assert stream.local.startswith(f"{each}:")
        stream.close()
    await listener.close()
    for each in ("127.0.0.1", "[::1]"):
        with pytest.raises(FileError) as caught:
            await NETWORK.connect_tcp(f"{each}:{port}")
        assert caught.value.error is E.CONNREFUSED


@pytest.mark.parametrize("said", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize(("missing", "there", "host"), [(V6, V4, "0.0.0.0"), (V4, V6, "[::]")])
def test_a_host_that_lacks_a_family_listens_by_the_other(
    monkeypatch: pytest.MonkeyPatch, missing: int, there: int, host: str, said: int
) -> None:
    lacking(monkeypatch, missing, said=said)
    [sock], address = at_one_port(0)
    with sock:
        assert sock.family == there
        assert address == f"{host}:{sock.getsockname()[1]}"


def test_a_host_that_lacks_both_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, V4, V6)
    with pytest.raises(FileError):
        at_one_port(0)


async def test_dialling_by_a_family_that_the_host_lacks_is_refused_as_any_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(family: int, kind: int) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "")

    monkeypatch.setattr(socket, "socket", without)
    with pytest.raises(FileError):
        await NETWORK.connect_tcp("[::1]:9")


def test_a_port_that_is_taken_in_one_family_is_not_to_be_had_and_no_socket_is_left() -> None:
    with listening_socket(V6, ("::", 0), "", alone=True) as other:
        port = other.getsockname()[1]
        with pytest.raises(FileError) as caught:
            at_one_port(port)
        assert caught.value.error is E.ADDRINUSE
        listening_socket(V4, ("0.0.0.0", port), "").close()


def test_a_port_of_the_hosts_choice_that_is_taken_in_the_other_family_gives_way_to_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[int] = []

    def listening(family: int, name: SocketAddress, address: str, alone: bool = False) -> socket.socket:
        if family == V6 and len(refused) < TRIES - 1:
            refused.append(name[1])
            raise FileError(E.ADDRINUSE, address) from OSError(errno.EADDRINUSE, "")
        return listening_socket(family, name, address, alone)

    monkeypatch.setattr(families, "listening_socket", listening)
    socks, address = at_one_port(0)
    assert [sock.family for sock in socks] == [family for family, _ in FAMILIES]
    assert {sock.getsockname()[1] for sock in socks} == {int(address.removeprefix("*:"))}
    assert all(refused)
    for sock in socks:
        sock.close()
    refused.clear()
    monkeypatch.setattr(families, "TRIES", TRIES - 1)
    with pytest.raises(FileError) as caught:
        at_one_port(0)
    assert caught.value.error is E.ADDRINUSE


def test_doctor_looks_at_both_families_where_both_are_listened_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening_socket(V6, ("::", 0), "", alone=True) as other:
        port = other.getsockname()[1]
        assert [found.level for found in checks.free_port("*", port)] == [Level.PROBLEM]
        assert [found.level for found in checks.free_port("0.0.0.0", port)] == [Level.OK]
    assert [found.level for found in checks.free_port("*", port)] == [Level.OK]
    real = socket.socket

    def without(family: int = V4, *rest: Any) -> socket.socket:
        if family == V6:
            raise OSError(errno.EAFNOSUPPORT, "")
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", without)
    assert [found.level for found in checks.free_port("*", port)] == [Level.OK]


def test_a_host_from_which_nothing_leads_out_tells_the_addresses_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere(socket.socket):
        def connect(self, _: SocketAddress) -> None:
            raise OSError(errno.ENETUNREACH, "")

    monkeypatch.setattr(socket, "socket", Nowhere)
    has = {"[::1]": "lo", "127.0.0.1": "lo", "[fd77::2]": "eth0", "[fe80::1%eth0]": "eth0", "192.0.2.7": "eth0"}
    monkeypatch.setattr(own, "interfaces", lambda: has)
    assert NETWORK.local_addresses() == ["192.0.2.7", "[fd77::2]", "127.0.0.1"]


async def test_closing_ends_the_calls_of_both_families() -> None:
    ended: list[str] = []
    began: asyncio.Queue[None] = asyncio.Queue()

    async def accept(stream: Stream) -> None:
        began.put_nowait(None)
        try:
            await stream.read(1)
        finally:
            ended.append(stream.peer.rpartition(":")[0])

    listener = await NETWORK.listen_tcp("*:0", accept)
    port = listener.address.rpartition(":")[2]
    streams = [await NETWORK.connect_tcp(f"{host}:{port}") for host in ("127.0.0.1", "[::1]")]
    for _ in streams:
        await began.get()
    await listener.close()
    assert sorted(ended) == ["127.0.0.1", "[::1]"]
    for stream in streams:
        assert await stream.read(1) == b""
        stream.close()
