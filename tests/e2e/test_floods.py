"""Ten thousand connections to what a node listens at: it keeps few of them, and serves who it always served."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from pathlib import Path

import pytest

from cognu.mesh.tickets import parse_ticket
from e2e.harness import NodeProcess, pair
from tls_attacker import hello, record

CONNECTIONS = 10_000
OPEN = 800
"""How many of them are kept open on this side."""
MORE_FILES = 400
"""Descriptors: 64 handshakes, and those that the same turns of the loop accepted and cut, which are closed next."""
MORE_MEMORY = 96 << 20
ELSEWHERE = "127.0.0.9"


def memory(node: NodeProcess) -> int:
    """Bytes of the host's memory that it has."""
    for line in Path(f"/proc/{node.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError("not told")


class Flood:
    """Connections from another host's address; every other one begins a handshake, and none ends it."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._at = (host, int(port))
        self._open: deque[socket.socket] = deque()
        self.made = 0

    async def run(self) -> None:
        try:
            while self.made < CONNECTIONS:
                await asyncio.gather(*(self._connect() for _ in range(50)))
        finally:
            for sock in self._open:
                sock.close()

    async def _connect(self) -> None:
        sock = socket.socket()
        self._open.append(sock)
        sock.setblocking(False)
        sock.bind((ELSEWHERE, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, self._at)
        self.made += 1
        try:
            await loop.sock_sendall(sock, record(hello()[1])[: 40 if self.made % 2 else 0])
        except ConnectionError:
            pass  # it was cut already
        while len(self._open) > OPEN:
            self._open.popleft().close()


async def watched(node: NodeProcess, flood: asyncio.Task[None]) -> tuple[int, int]:
    """The most descriptors and bytes it has, until the flood is over; its own socket answers all the time."""
    files = used = 0
    async with node.client() as client:
        while not flood.done():
            assert "tmp" in await client.list("/")
            files, used = max(files, node.open_files()), max(used, memory(node))
    await flood
    return files, used


@pytest.mark.long
async def test_ten_thousand_connections_to_the_links_listener_keep_no_peer_out(place: Path) -> None:
    async with pair(place, "read:{shared}") as two:
        (two.shared / "x").write_text("here")
        async with two.desk.client() as desk:
            [row] = await desk.rpc("peers")
        await two.desk.stop()
        files, used = two.pi.open_files(), memory(two.pi)
        flood = asyncio.create_task(Flood(row["address"]).run())
        watch = asyncio.create_task(watched(two.pi, flood))
        await two.desk.start()
        async with two.desk.client() as desk:
            assert await desk.read(f"/n/pi{two.shared}/x") == b"here"
            assert not flood.done(), "the flood was over before the peer came"
            most_files, most_used = await watch
            assert most_files < files + MORE_FILES
            assert most_used < used + MORE_MEMORY
            assert await desk.read(f"/n/pi{two.shared}/x") == b"here"


@pytest.mark.long
async def test_ten_thousand_connections_to_the_join_listener_keep_nobody_with_a_ticket_out(place: Path) -> None:
    async with pair(place) as two, two.pi.client() as pi, two.desk.client() as desk:
        ticket = (await pi.rpc("invite", grants=["net"]))["ticket"]
        [address] = [at for at in parse_ticket(ticket).addresses if at.startswith("127.")]
        files, used = two.pi.open_files(), memory(two.pi)
        flood = asyncio.create_task(Flood(address).run())
        watch = asyncio.create_task(watched(two.pi, flood))
        # A second ticket keeps the listener open when the first is used.
        await pi.rpc("invite")
        assert (await desk.rpc("join", ticket=ticket))["received"] == ["net"]
        most_files, most_used = await watch
        assert most_files < files + MORE_FILES
        assert most_used < used + MORE_MEMORY
