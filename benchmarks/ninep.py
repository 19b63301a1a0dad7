"""A node's 9P server over a directory of the host, beside diod, a server in C over the same directory.

The client is the same for both (`benchmarks/wire.py`). Ours is a whole node: the connection has a process, a namespace
and capabilities, every request passes dispatch, and the host's files are opened step by step without following links.
Except where a case says "free", client and server share one processor. diod runs with each number of threads that is
tried; of every case what is best there is measured, and printed. Where the node is compiled (`scripts/compile`), some
cases are measured beside a node of the Python source too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import servers, wire
from benchmarks.machine import CAN_ACCOUNT, pinned, spent
from benchmarks.measure import Bench, Case, Measure, Unit
from benchmarks.servers import Server
from benchmarks.wire import READ_ROOM, Wire
from cognu import compiled

SMALL_MSIZE = 65_536
"""The most that Debian's diod grants."""
LARGE_MSIZE = 1 << 20
IN_FLIGHT = 32
READS_IN_FLIGHT = 8
FILE, SMALL_FILE, WRITTEN = 1, 2, 3
"""Fids: 0 is the root; FILE is the large file, open; WRITTEN is open to be written; SMALL_FILE is free."""

SAME, TWICE, FASTER = "level", "2", "1.3"
"""Aims, for the ratios."""
TRIALS = 3
"""Runs with each number of threads, before what is measured."""

Work = Callable[[Wire], float]
"""One run of a case on one connection."""


async def run(bench: Bench) -> None:
    size, files = bench.size(256 << 20, 1 << 20), bench.size(1000, 5)
    bench.note("TCP", "no writes: over TCP a node lets nobody write but its peers")
    with TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        served = directory / "served"
        served.mkdir()
        fill(served, size, files)
        program = servers.find_diod()
        ours = stack.enter_context(servers.cognu(directory, served))
        theirs: dict[int, Server] = {}
        if program is None:
            bench.miss("diod", servers.NO_DIOD)
        else:
            for workers in servers.WORKERS:
                theirs[workers] = stack.enter_context(servers.diod(program, directory, served, workers))
            bench.note("diod", servers.version_of(theirs[servers.WORKERS[0]]) + "; threads as below")
        bench.note("the node runs", str(servers.rpc(directory / "home", "status")["code"]))
        cases = _cases(bench, stack, ours, theirs, size, files)
        if compiled.STATE.compiled and CAN_ACCOUNT:
            (directory / "pure").mkdir()
            source = stack.enter_context(servers.cognu(directory / "pure", served, pure=True))
            cases += _beside_source(bench, stack, ours, source, files)
        await bench.measure(cases)


def fill(served: Path, size: int, files: int) -> None:
    """What is served: a file of `size` bytes, one to be written, and small files."""
    (served / "large").write_bytes(bytes(range(256)) * (size // 256))
    (served / "written").write_bytes(bytes(size))
    for number in range(files):
        (served / f"small-{number}").write_bytes(b"a small file\n")


class Best:
    """A peer that runs with several numbers of threads, as one measure: that of the number with which it is best.

    Which that is the first run finds out, which is not counted.
    """

    def __init__(self, bench: Bench, each: dict[int, Callable[[], float]]) -> None:
        self._bench = bench
        self._each = each
        self._best: Callable[[], float] | None = None

    def named(self, case: str, more_is_better: bool) -> Callable[[], float]:
        """The measure, which tells which number it was for `case`."""

        def measure() -> float:
            if self._best is None:
                tried = {workers: median(one() for _ in range(TRIALS)) for workers, one in self._each.items()}
                best = (max if more_is_better else min)(tried, key=tried.__getitem__)
                self._best = self._each[best]
                said = ", ".join(f"{workers}: {_shown(rate)}" for workers, rate in tried.items())
                self._bench.note(f"diod's threads, {case}", f"{best} ({said})")
            return self._best()

        return measure


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _cases(
    bench: Bench, stack: ExitStack, ours: Server, theirs: dict[int, Server], size: int, files: int
) -> list[Case]:
    """Every kind of work over both kinds of socket. Without the peer, ours alone: figures without ratios."""
    operations = bench.size(2000, 20)
    per_second, mb = Unit.PER_SECOND, Unit.MB_PER_SECOND
    cases = []
    for tcp in (False, True):
        kind = "TCP" if tcp else "Unix"

        def both(
            work: Work, free: bool = False, large: bool = False, tcp: bool = tcp, cpu: bool = False, write: bool = False
        ) -> tuple[Measure, Best | None]:
            def one(server: Server) -> Callable[[], float]:
                connection = stack.enter_context(_open(server, tcp, LARGE_MSIZE if large else SMALL_MSIZE, write))
                return _measure(work, connection, server.pid, free, cpu)

            each = {workers: one(server) for workers, server in theirs.items()}
            return one(ours), Best(bench, each) if each else None

        def getattrs(c: Wire) -> float:
            return getattr_one(c, operations)

        def flight(c: Wire) -> float:
            return getattr_flight(c, operations * 2)

        def bytes_(c: Wire) -> float:
            return _read_byte(c, operations)

        def opens(c: Wire) -> float:
            return small_files(c, files)

        def reads(c: Wire) -> float:
            return read_all(c, size, 1)

        def writes(c: Wire) -> float:
            return write_all(c, size)

        rows: list[tuple[str, Unit, str, tuple[Measure, Best | None]]] = [
            ("getattr", per_second, SAME, both(getattrs)),
            ("getattr, 32 in flight", per_second, "", both(flight)),
            ("getattr, 32 in flight, free", per_second, TWICE, both(flight, free=True)),
            ("read 1 byte", per_second, SAME, both(bytes_)),
            ("tree of 1,000: walk, open, read, clunk", per_second, SAME, both(opens)),
            ("read 256 MiB, msize 64 KiB", mb, "", both(reads)),
            ("read 256 MiB, each its own msize", mb, FASTER, both(reads, large=True)),
            ("read 256 MiB, 8 in flight, free", mb, "", both(lambda c: read_all(c, size, READS_IN_FLIGHT), True, True)),
        ]
        if not tcp:  # over TCP a node lets nobody write but its peers
            rows += [
                ("write 256 MiB, msize 64 KiB", mb, "", both(writes, write=True)),
                ("write 256 MiB, each its own msize", mb, FASTER, both(writes, large=True, write=True)),
            ]
        if CAN_ACCOUNT:
            rows += [
                ("server's CPU per getattr", Unit.US, "", both(getattrs, cpu=True)),
                ("server's CPU per read of 1 byte", Unit.US, "", both(bytes_, cpu=True)),
                ("server's CPU per small file", Unit.US, "", both(opens, cpu=True)),
            ]
        for name, unit, aim, (mine, peer) in rows:
            case = f"{kind}: {name}"
            measure = peer.named(case, unit.more_is_better) if peer else None
            cases.append(Case(case, unit, mine, "diod", measure, runs=7, aim=aim))
    return cases


def _beside_source(bench: Bench, stack: ExitStack, ours: Server, source: Server, files: int) -> list[Case]:
    """The processor time of the compiled node, beside that of the node of the Python source."""
    operations = bench.size(2000, 20)
    work: list[tuple[str, Work]] = [
        ("getattr", lambda c: getattr_one(c, operations)),
        ("getattr, 32 in flight", lambda c: getattr_flight(c, operations * 2)),
        ("read of 1 byte", lambda c: _read_byte(c, operations)),
        ("small file", lambda c: small_files(c, files)),
        ("write of 4 KiB", lambda c: _write_again(c, operations)),
    ]

    def measures(what: Work, write: bool) -> list[Callable[[], float]]:
        opened = [stack.enter_context(_open(server, False, SMALL_MSIZE, write)) for server in (ours, source)]
        return [_measure(what, c, server.pid, False, True) for c, server in zip(opened, (ours, source), strict=True)]

    return [
        Case(f"compiled: server's CPU per {name}", Unit.US, mine, "Python source", its, runs=7)
        for name, what in work
        for mine, its in [measures(what, name.startswith("write"))]
    ]


def _open(server: Server, tcp: bool, msize: int, write: bool) -> Wire:
    """A connection with the large file open as FILE, or the other one as WRITTEN."""
    return prepared(server.connect_to_write(msize) if write else server.connect(tcp, msize), write)


def prepared(connection: Wire, write: bool) -> Wire:
    fid, name, flags = (WRITTEN, "written", servers.RDWR) if write else (FILE, "large", 0)
    connection.call(wire.walk(0, fid, [name]))
    connection.call(wire.open_(fid, flags))
    return connection


def _measure(work: Work, connection: Wire, server: int, free: bool, cpu: bool) -> Callable[[], float]:
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


def getattr_one(connection: Wire, count: int) -> float:
    began = time.perf_counter()
    connection.repeat(wire.getattr_(FILE), count)
    return count / (time.perf_counter() - began)


def getattr_flight(connection: Wire, count: int) -> float:
    requests = [wire.getattr_(FILE, number % 4096) for number in range(count)]
    began = time.perf_counter()
    connection.stream(requests, IN_FLIGHT)
    return count / (time.perf_counter() - began)


def _read_byte(connection: Wire, count: int) -> float:
    began = time.perf_counter()
    connection.repeat(wire.read(FILE, 0, 1), count)
    return count / (time.perf_counter() - began)


def _write_again(connection: Wire, count: int) -> float:
    """Writes per second of 4 KiB at the same place."""
    data, header = memoryview(bytes(4096)), wire.write_header(WRITTEN, 0, 4096, 1)
    began = time.perf_counter()
    for _ in range(count):
        connection.put(header, data)
    return count / (time.perf_counter() - began)


def small_files(connection: Wire, count: int) -> float:
    """Files per second, each other than the one before."""
    open_, read, clunk = wire.open_(SMALL_FILE), wire.read(SMALL_FILE, 0, 4096), wire.clunk(SMALL_FILE)
    began = time.perf_counter()
    for number in range(count):
        connection.call(wire.walk(0, SMALL_FILE, [f"small-{number}"]))
        connection.call(open_)
        connection.call(read)
        connection.call(clunk)
    return count / (time.perf_counter() - began)


def read_all(connection: Wire, size: int, window: int) -> float:
    """MB per second of one file, in pieces as large as msize allows."""
    piece = connection.msize - READ_ROOM
    requests = [
        wire.read(FILE, offset, min(piece, size - offset), number % 4096)
        for number, offset in enumerate(range(0, size, piece))
    ]
    began = time.perf_counter()
    if window == 1:
        for number, message in enumerate(requests):
            at, end = number * piece, min(size, (number + 1) * piece)
            at += len(connection.call(message)) - wire.READ_HEADER
            while at < end:  # a server may give less than there is, as ours does of what is not all in memory
                got = len(connection.call(wire.read(FILE, at, end - at))) - wire.READ_HEADER
                if not got:
                    raise RuntimeError(f"{at} bytes of {size} came")
                at += got
    else:
        connection.stream(requests, window)
    return size / (time.perf_counter() - began) / 1e6


def write_all(connection: Wire, size: int, window: int = 1) -> float:
    """MB per second into one file, in pieces as large as msize allows."""
    piece = connection.msize - READ_ROOM
    data = memoryview(bytes(piece))
    headers = [
        (wire.write_header(WRITTEN, offset, min(piece, size - offset), number % 4096), min(piece, size - offset))
        for number, offset in enumerate(range(0, size, piece))
    ]
    if window > 1:
        messages = [header + data[:count] for header, count in headers]
        began = time.perf_counter()
        connection.stream(messages, window)
        return size / (time.perf_counter() - began) / 1e6
    began = time.perf_counter()
    for header, count in headers:
        connection.put(header, data[:count])
    return size / (time.perf_counter() - began) / 1e6
