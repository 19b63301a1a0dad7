"""Bytes between two processes on loopback: a channel between two nodes beside a blocking TLS socket and plain TCP.

All three carry the same stream: 256 MiB one way, ended by one byte back; and 50 bytes to and fro, one after the other,
with both ends on one processor. The node's channel is encrypted by TLS 1.3, numbered, kept until acknowledged and
multiplexed; the TLS socket has the same protocol, cipher and certificates, and does nothing else. The other process is
`benchmarks/link_peer.py`, for all three. Each run has a new channel, or a new connection, made before the clock starts.

"CPU" is the processor time that both processes had, for each megabyte or each trip: on a machine that does other things
too it is the figure to trust.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import link_peer
from benchmarks.machine import CAN_ACCOUNT, pinned, spent
from benchmarks.measure import Bench, Case, Unit
from cognu.mesh.identity import Peer, PeerBook, load_identity
from cognu.mesh.links import Mesh
from cognu.mesh.session import Channel
from cognu.world.real import real_world

ROOT = Path(__file__).parents[1]
SMALL = 50
PIECE = 1 << 18
"""Bytes of one write, the same for all."""


class Other(NamedTuple):
    """The other process and where it listens for each kind."""

    pid: int
    mesh: str
    tls: int
    tcp: int


async def run(bench: Bench) -> None:
    total, trips = bench.size(256 << 20, 4 << 20), bench.size(2000, 20)
    with TemporaryDirectory() as directory, other_process(directory) as peer:
        context = link_peer.tls_context(directory, "near", "far")

        def tls() -> socket.socket:
            secure = context.wrap_socket(tcp_to(peer.tls))
            bench.note("cipher of the TLS socket", " ".join(map(str, secure.cipher() or ())))
            return secure

        def tcp() -> socket.socket:
            return tcp_to(peer.tcp)

        def bytes_by(connect: Callable[[], socket.socket]) -> Callable[[], float]:
            return lambda: _socket_bytes(connect(), total)

        def trips_by(connect: Callable[[], socket.socket]) -> Callable[[], float]:
            def measure() -> float:
                with pinned(peer.pid):
                    return _socket_trips(connect(), trips)

            return measure

        async with _mesh(directory, peer) as mesh:

            async def our_bytes() -> float:
                return await _channel_bytes(await mesh.open("far", link_peer.sink(total)), total)

            async def our_trips() -> float:
                with pinned(peer.pid):
                    return await _channel_trips(await mesh.open("far", link_peer.ECHO), trips)

            mb, us, aim = Unit.MB_PER_SECOND, Unit.US, "level with the TLS socket"
            cases = [
                Case("one way / TLS socket", mb, our_bytes, "blocking TLS", bytes_by(tls), aim=aim),
                Case("one way / TCP", mb, our_bytes, "blocking TCP", bytes_by(tcp)),
                Case("50 bytes to and fro / TLS socket", us, our_trips, "blocking TLS", trips_by(tls)),
                Case("50 bytes to and fro / TCP", us, our_trips, "blocking TCP", trips_by(tcp)),
            ]
            if CAN_ACCOUNT:
                ours, theirs = our_cpu(peer, our_bytes, total / 1e6), their_cpu(peer, bytes_by(tls), total / 1e6)
                cases.append(Case("CPU per MB one way / TLS socket", us, ours, "blocking TLS", theirs, aim=aim))
                ours, theirs = our_cpu(peer, our_trips, trips), their_cpu(peer, trips_by(tls), trips)
                cases.append(Case("CPU per trip / TLS socket", us, ours, "blocking TLS", theirs))
            await bench.measure(cases)


def their_cpu(peer: Other, work: Callable[[], float], count: float) -> Callable[[], float]:
    """Measures what both processes spend on `work`, for each of `count`."""

    def measure() -> float:
        before = _spent(peer.pid)
        work()
        return (_spent(peer.pid) - before) / count

    return measure


def our_cpu(peer: Other, work: Callable[[], Awaitable[float]], count: float) -> Callable[[], Awaitable[float]]:
    """The same of what is awaited."""

    async def measure() -> float:
        before = _spent(peer.pid)
        await work()
        return (_spent(peer.pid) - before) / count

    return measure


@contextmanager
def other_process(directory: str) -> Iterator[Other]:
    """`link_peer` with a home of its own below `directory`, where both sides' identities are made first."""
    world = real_world()
    identities = {name: load_identity(world, f"{directory}/{name}") for name in ("near", "far")}
    near = identities["near"]
    book = PeerBook(world.disk, f"{directory}/far")
    book.add(Peer(near.fingerprint, "near", near.certificate, ()))
    command = [sys.executable, "-m", "benchmarks.link_peer", directory]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = process.stdout.readline().split()
        if len(said) != 3:
            raise RuntimeError(f"the other process did not start: {said}")
        yield Other(process.pid, said[0], int(said[1]), int(said[2]))
    finally:
        process.stdin.close()  # what it waits for
        process.stdout.close()
        process.wait()


@asynccontextmanager
async def _mesh(directory: str, peer: Other) -> AsyncIterator[Mesh]:
    world = real_world()
    home = f"{directory}/near"
    far = load_identity(world, f"{directory}/far")
    book = PeerBook(world.disk, home)
    book.add(Peer(far.fingerprint, "far", far.certificate, (peer.mesh,)))
    mesh = Mesh(world, load_identity(world, home), book, link_peer.refuse)
    try:
        await mesh.connect("far")
        yield mesh
    finally:
        await mesh.close()


def _spent(other: int) -> float:
    """Microseconds of processor that both processes have had."""
    return (spent(os.getpid()) + spent(other)) / 1000


def tcp_to(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def _channel_bytes(channel: Channel, total: int) -> float:
    """MB per second."""
    piece = bytes(PIECE)
    began = time.perf_counter()
    for _ in range(total // PIECE):
        await channel.write(piece)
    _check(await channel.read(1))
    seconds = time.perf_counter() - began
    channel.close()
    await channel.wait_closed()
    return total / seconds / 1e6


async def _channel_trips(channel: Channel, count: int) -> float:
    """Microseconds for each."""
    message = bytes(SMALL)
    began = time.perf_counter()
    for _ in range(count):
        await channel.write(message)
        left = SMALL
        while left:
            part = await channel.read(left)
            _check(part)
            left -= len(part)
    seconds = time.perf_counter() - began
    channel.close()
    await channel.wait_closed()
    return seconds / count * 1e6


def _socket_bytes(sock: socket.socket, total: int) -> float:
    """MB per second; closes the socket."""
    piece = bytes(PIECE)
    with sock:
        sock.sendall(link_peer.label(link_peer.sink(total)))
        began = time.perf_counter()
        for _ in range(total // PIECE):
            sock.sendall(piece)
        _check(sock.recv(1))
        return total / (time.perf_counter() - began) / 1e6


def _socket_trips(sock: socket.socket, count: int) -> float:
    """Microseconds for each; closes the socket."""
    message = bytes(SMALL)
    with sock:
        sock.sendall(link_peer.label(link_peer.ECHO))
        began = time.perf_counter()
        for _ in range(count):
            sock.sendall(message)
            left = SMALL
            while left:
                part = sock.recv(left)
                _check(part)
                left -= len(part)
        return (time.perf_counter() - began) / count * 1e6


def _check(part: bytes) -> None:
    if not part:
        raise RuntimeError("the other process ended the stream early")
