"""Calls to an announced port and datagrams, on real sockets of the loopback and on the node's event loop.

`test_devices_net_calls` has them on asyncio's own.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from cognu.errors import E, FileError, LinkBroken, Misuse
from cognu.world.calls import MAX_DATAGRAM
from cognu.world.net import RealNetwork
from cognu.world.sockets import BURST

NETWORK = RealNetwork()
LOOPBACK = "127.0.0.1:0"
pytestmark = pytest.mark.uvloop


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_calls_are_accepted_one_by_one_and_know_both_ends() -> None:
    announced = await NETWORK.announce_tcp(LOOPBACK)
    callers = [await NETWORK.connect_tcp(announced.address) for _ in range(BURST + 5)]
    calls = [await announced.accept() for _ in callers]
    assert {call.local for call in calls} == {announced.address}
    assert {call.peer for call in calls} == {caller.local for caller in callers}
    announced.close()
    await callers[0].write(b"x")
    by_peer = {call.peer: call for call in calls}
    assert await by_peer[callers[0].local].read(5) == b"x"
    for stream in (*callers, *calls):
        stream.close()
    with pytest.raises(FileError) as caught:
        await NETWORK.connect_tcp(announced.address)
    assert caught.value.error is E.CONNREFUSED


async def test_a_cancelled_accept_loses_no_call_and_a_close_ends_it() -> None:
    announced = await NETWORK.announce_tcp(LOOPBACK)
    waiting = asyncio.ensure_future(announced.accept())
    await turns()
    with pytest.raises(Misuse):
        await announced.accept()
    caller = await NETWORK.connect_tcp(announced.address)
    waiting.cancel()
    await asyncio.wait([waiting])
    call = waiting.result() if not waiting.cancelled() else await announced.accept()
    assert call.peer == caller.local
    waiting = asyncio.ensure_future(announced.accept())
    await turns()
    announced.close()
    announced.close()
    for attempt in (waiting, announced.accept()):
        with pytest.raises(LinkBroken) as caught:
            await attempt
        assert caught.value.error is E.PIPE
    caller.close()
    call.close()


async def test_calls_not_accepted_are_refused_at_the_close() -> None:
    announced = await NETWORK.announce_tcp(LOOPBACK)
    caller = await NETWORK.connect_tcp(announced.address)
    announced.close()
    try:
        assert await caller.read(1) == b""  # some hosts end it quietly
    except LinkBroken as error:
        refusal = error.error
        assert refusal is E.CONNRESET
    caller.close()


async def test_datagrams_keep_their_bounds_and_say_where_they_are_from() -> None:
    one, two = await NETWORK.open_udp(LOOPBACK), await NETWORK.open_udp(LOOPBACK)
    for data in (b"", b"x", bytes(60_000)):
        await one.send(data, two.local)
        assert await two.receive() == (data, one.local)
    with pytest.raises(FileError) as caught:
        await one.send(bytes(MAX_DATAGRAM), two.local)
    assert caught.value.error is E.MSGSIZE
    for address, error in (("[::1]:9", E.INVAL), ("nonsense", E.INVAL)):
        with pytest.raises(FileError) as caught:
            await one.send(b"", address)
        assert caught.value.error is error
    one.close()
    two.close()


async def test_a_connected_socket_has_one_other_side_and_hears_of_refusals() -> None:
    server = await NETWORK.open_udp(LOOPBACK)
    client = await NETWORK.open_udp(LOOPBACK, server.local)
    stranger = await NETWORK.open_udp(LOOPBACK)
    await stranger.send(b"no", client.local)
    await client.send(b"ask")
    assert await server.receive() == (b"ask", client.local)
    await server.send(b"answer", client.local)
    assert await client.receive() == (b"answer", server.local)
    server.close()
    await client.send(b"x")
    with pytest.raises(FileError) as caught:
        await client.receive()
    assert caught.value.error is E.CONNREFUSED
    client.close()
    stranger.close()


async def test_a_cancelled_receive_loses_nothing_and_a_close_ends_it() -> None:
    here, there = await NETWORK.open_udp(LOOPBACK), await NETWORK.open_udp(LOOPBACK)
    waiting = asyncio.ensure_future(here.receive())
    await turns()
    waiting.cancel()
    await asyncio.wait([waiting])
    await there.send(b"x", here.local)
    assert (await here.receive())[0] == b"x"
    waiting = asyncio.ensure_future(here.receive())
    await turns()
    here.close()
    for attempt in (waiting, here.receive(), here.send(b"", there.local)):
        with pytest.raises(LinkBroken):
            await attempt
    there.close()


async def test_a_sender_waits_while_the_host_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = await NETWORK.open_udp(LOOPBACK), await NETWORK.open_udp(LOOPBACK)
    refusals = [BlockingIOError(), BlockingIOError()]
    real = socket.socket.sendto

    def sendto(self: socket.socket, *arguments: object) -> int:
        if refusals:
            raise refusals.pop()
        return real(self, *arguments)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(socket.socket, "sendto", sendto)
    await asyncio.gather(here.send(b"a", there.local), here.send(b"b", there.local))
    assert [(await there.receive())[0], (await there.receive())[0]] == [b"a", b"b"]
    here.close()
    there.close()


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
async def test_what_is_no_address_is_refused(address: str) -> None:
    for call in (NETWORK.announce_tcp(address), NETWORK.open_udp(address), NETWORK.open_udp(LOOPBACK, address or "x")):
        with pytest.raises(FileError) as caught:
            await call
        assert caught.value.error is E.INVAL


async def test_a_port_in_use_is_refused() -> None:
    announced, datagrams = await NETWORK.announce_tcp(LOOPBACK), await NETWORK.open_udp(LOOPBACK)
    for call in (NETWORK.announce_tcp(announced.address), NETWORK.open_udp(datagrams.local)):
        with pytest.raises(FileError) as caught:
            await call
        assert caught.value.error is E.ADDRINUSE
    announced.close()
    datagrams.close()
