"""A node's 9P server over a directory of the host, beside diod, a server in C over the same directory.

The client is the same for both (`benchmarks/wire.py`). Ours is a whole node: the connection has a process, a namespace
and capabilities, every request passes dispatch, and the host's files are opened step by step without following links.
Except where a case says "free", client and server share one processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import servers, wire
from benchmarks.machine import CAN_ACCOUNT, pinned, spent
from benchmarks.measure import Bench, Case, Measure, Unit
from benchmarks.servers import Server
from benchmarks.wire import READ_ROOM, Wire

SMALL_MSIZE = 65_536
"""The most that Debian's diod grants."""
LARGE_MSIZE = 1 << 20
IN_FLIGHT = 32
READS_IN_FLIGHT = 8
FILE, SMALL_FILE = 1, 2
"""Fids: 0 is the root; FILE is the large file, open; SMALL_FILE is free."""

Work = Callable[[Wire], float]
"""One run of a case on one connection."""
Pair = tuple[Measure, Measure | None]


async def run(bench: Bench) -> None:
    size = bench.size(64 << 20, 1 << 20)
    with TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        served = directory / "served"
        served.mkdir()
        (served / "large").write_bytes(bytes(range(256)) * (size // 256))
        for number in range(100):
            (served / f"small-{number}").write_bytes(b"a small file\n")
        program = servers.find_diod()
        ours = stack.enter_context(servers.cognu(directory, served))
        theirs = stack.enter_context(servers.diod(program, directory, served)) if program else None
        if theirs is None:
            bench.miss("diod", "no such program; on Debian and Ubuntu: apt-get install diod")
        await bench.measure(_cases(bench, stack, ours, theirs, size))


def _cases(bench: Bench, stack: ExitStack, ours: Server, theirs: Server | None, size: int) -> list[Case]:
    """Every kind of work over both kinds of socket. Without the peer, ours alone: figures without ratios."""
    operations, files = bench.size(2000, 20), bench.size(100, 5)
    per_second, mb = Unit.PER_SECOND, Unit.MB_PER_SECOND
    cases = []
    for tcp in (False, True):
        kind = "TCP" if tcp else "Unix"

        def both(work: Work, free: bool = False, large: bool = False, tcp: bool = tcp, cpu: bool = False) -> Pair:
            pair = []
            for server in (ours, theirs):
                if server is not None:
                    connection = stack.enter_context(_open(server, tcp, LARGE_MSIZE if large else SMALL_MSIZE))
                    pair.append(_measure(work, connection, server.pid, free, cpu))
            return pair[0], pair[1] if len(pair) > 1 else None

        def getattrs(c: Wire) -> float:
            return _getattr(c, operations)

        def flight(c: Wire) -> float:
            return _getattr_flight(c, operations * 2)

        def bytes_(c: Wire) -> float:
            return _read_byte(c, operations)

        def opens(c: Wire) -> float:
            return _small_files(c, files)

        def reads(c: Wire) -> float:
            return _read_all(c, size, 1)

        rows: list[tuple[str, Unit, Pair]] = [
            ("getattr", per_second, both(getattrs)),
            ("getattr, 32 in flight", per_second, both(flight)),
            ("getattr, 32 in flight, free", per_second, both(flight, free=True)),
            ("read 1 byte", per_second, both(bytes_)),
            ("walk, open, read, clunk", per_second, both(opens)),
            ("read 64 MiB, msize 64 KiB", mb, both(reads)),
            ("read 64 MiB, each its own msize", mb, both(reads, large=True)),
            ("read 64 MiB, 8 in flight, free", mb, both(lambda c: _read_all(c, size, READS_IN_FLIGHT), True, True)),
        ]
        if CAN_ACCOUNT:
            rows += [
                ("server's CPU per getattr", Unit.US, both(getattrs, cpu=True)),
                ("server's CPU per read of 1 byte", Unit.US, both(bytes_, cpu=True)),
                ("server's CPU per small file", Unit.US, both(opens, cpu=True)),
            ]
        for name, unit, (mine, peer) in rows:
            cases.append(Case(f"{kind}: {name}", unit, mine, "diod", peer, runs=7))
    return cases


def _open(server: Server, tcp: bool, msize: int) -> Wire:
    """A connection with the large file open as FILE."""
    connection = server.connect(tcp, msize)
    connection.call(wire.walk(0, FILE, ["large"]))
    connection.call(wire.open_(FILE))
    return connection


def _measure(work: Work, connection: Wire, server: int, free: bool, cpu: bool) -> Measure:
    """One run of `work`: what it says, or with `cpu` the microseconds of processor that the server had for each."""

    def measure() -> float:
        if free:
            return work(connection)
        with pinned(server):
            began, before = time.perf_counter(), spent(server) if cpu else 0
            rate = work(connection)
            count = rate * (time.perf_counter() - began)
            return (spent(server) - before) / count / 1000 if cpu else rate

    return measure


# -- the work ---------------------------------------------------------------------------------------------------------


def _getattr(connection: Wire, count: int) -> float:
    began = time.perf_counter()
    connection.repeat(wire.getattr_(FILE), count)
    return count / (time.perf_counter() - began)


def _getattr_flight(connection: Wire, count: int) -> float:
    requests = [wire.getattr_(FILE, number % 4096) for number in range(count)]
    began = time.perf_counter()
    connection.stream(requests, IN_FLIGHT)
    return count / (time.perf_counter() - began)


def _read_byte(connection: Wire, count: int) -> float:
    began = time.perf_counter()
    connection.repeat(wire.read(FILE, 0, 1), count)
    return count / (time.perf_counter() - began)


def _small_files(connection: Wire, count: int) -> float:
    """Files per second, each other than the one before."""
    open_, read, clunk = wire.open_(SMALL_FILE), wire.read(SMALL_FILE, 0, 4096), wire.clunk(SMALL_FILE)
    began = time.perf_counter()
    for number in range(count):
        connection.call(wire.walk(0, SMALL_FILE, [f"small-{number}"]))
        connection.call(open_)
        connection.call(read)
        connection.call(clunk)
    return count / (time.perf_counter() - began)


def _read_all(connection: Wire, size: int, window: int) -> float:
    """MB per second of one file, in pieces as large as msize allows."""
    piece = connection.msize - READ_ROOM
    requests = [
        wire.read(FILE, offset, min(piece, size - offset), number % 4096)
        for number, offset in enumerate(range(0, size, piece))
    ]
    began = time.perf_counter()
    if window == 1:
        received = sum(len(connection.call(message)) - wire.READ_HEADER for message in requests)
        if received != size:
            raise RuntimeError(f"{received} bytes of {size} came")
    else:
        connection.stream(requests, window)
    return size / (time.perf_counter() - began) / 1e6
