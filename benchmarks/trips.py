"""Far files over a link with a delay: a node beside diod, sshfs, and its own in single 9P2000.L requests.

The delay is a proxy's (`benchmarks/delay.py`), the same for all. Our server is a whole node. Its clients are the load
generator of `ninep`, the mount driver below a namespace, and for trees and whole files what the shell's commands use
(`grep -r`, `cp`). diod's is the load generator, which reads a tree as a program does: one file after the other, in four
requests each. sshfs is read through the host's calls, as a program does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import ninep, servers, wire
from benchmarks.delay import connect
from benchmarks.measure import Bench, Case, Measure, Unit
from benchmarks.servers import Server
from benchmarks.wire import Wire
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Domain
from cognu.files.dispatch import dispatch
from cognu.files.listing import read_directory
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace
from cognu.files.server import Then
from cognu.files.steps import finish
from cognu.kernel import READ
from cognu.ninep.messages import Dialect
from cognu.ninep.types import OREAD, Stat
from cognu.shell.ahead import ahead
from cognu.shell.commands.early import read_small
from cognu.shell.commands.reading import walk
from cognu.shell.connection import Somebody
from cognu.shell.session import NodeSession
from cognu.world.real import RealClock, real_world

ME = Somebody("me")
SMALL = b"a small file\n"
IN_DIRECTORY = 100
"""Files in each directory of the tree."""
ECHOES = 20

Work = Callable[[Namespace, int], Awaitable[None]]


class Sizes(NamedTuple):
    """Of one delay: files in all; of these the first few, for who reads one after the other; bytes of a large file."""

    files: int
    few: int
    large: int


class Doors(NamedTuple):
    """Addresses behind the delay: a node's two, diod's if there is one, a port of SFTP if that can be had."""

    node: str
    control: str
    diod: str
    sftp: int


async def run(bench: Bench) -> None:
    if bench.quick:
        await run_at(bench, 2, Sizes(3, 2, 1 << 16))
    else:
        await run_at(bench, 10, Sizes(1000, 25, 16 << 20))
        await run_at(bench, 100, Sizes(1000, 3, 4 << 20))


async def run_at(bench: Bench, delay: int, sizes: Sizes) -> None:
    with TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        served = directory / "served"
        served.mkdir()
        ninep.fill(served, sizes.large, 0)
        plant(served / "tree", sizes.files)
        plant(served / "few", sizes.few)
        ours, diod, doors = behind(bench, stack, delay, directory, served)
        bench.note(f"{delay} ms each way", f"a trip of one byte took {echo_ms(stack, delay, directory):.1f} ms")
        cases = [*_small(bench, stack, doors, ours, diod, sizes)]
        async with AsyncMounts(doors, ours) as mounts:
            cases += _trees(stack, doors, diod, mounts, served, directory, sizes)
            await bench.measure([case._replace(name=f"{delay} ms: {case.name}") for case in cases])


def plant(top: Path, files: int) -> None:
    for number in range(files):
        place = top / f"d{number // IN_DIRECTORY}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"small-{number}").write_bytes(SMALL)


def behind(
    bench: Bench, stack: ExitStack, delay: int, directory: Path, served: Path
) -> tuple[Server, Server | None, Doors]:
    """A node, diod and SFTP over `served`, each with a door behind the delay; a peer that is not here is noted."""
    ours = stack.enter_context(servers.cognu(directory, served))
    program, missing = servers.find_diod(), servers.sftp_missing()
    if program is None:
        bench.miss("diod", servers.NO_DIOD)
    if missing:
        bench.miss("sshfs", missing)
    diod = stack.enter_context(servers.diod(program, directory, served)) if program else None
    sftp = stack.enter_context(servers.sftp()) if not missing else 0
    doors = Doors(str(directory / "a"), str(directory / "b"), str(directory / "c") if diod else "", 0)
    pairs = [(doors.node, ours.path), (doors.control, ours.control)]
    if diod is not None:
        pairs.append((doors.diod, diod.path))
    if sftp:
        doors = doors._replace(sftp=servers.free_port())
        pairs.append((f"127.0.0.1:{doors.sftp}", f"127.0.0.1:{sftp}"))
    stack.enter_context(servers.delayed(delay, *pairs))
    return ours, diod, doors


def echo_ms(stack: ExitStack, delay: int, directory: Path) -> float:
    """What a trip of one byte through the proxy takes, the median in ms; see `median_trip`."""
    with ExitStack() as inner:
        target, door = str(directory / "echo"), str(directory / "echo-late")
        inner.enter_context(servers.echo(target))
        inner.enter_context(servers.delayed(delay, (door, target)))
        took = []
        with connect(door) as sock:
            for _ in range(ECHOES):
                began = time.perf_counter()
                sock.sendall(b"x")
                sock.recv(1)
                took.append((time.perf_counter() - began) * 1000)
    return median_trip(took, delay)


def median_trip(took: Sequence[float], delay: float) -> float:
    """All in ms; `delay` is one way. Raises `RuntimeError` if a trip took less than twice that."""
    if min(took) < 2 * delay:
        raise RuntimeError(f"the proxy delays {min(took) / 2:.2f} ms, not {delay}")
    return median(took)


# -- the load generator's ---------------------------------------------------------------------------------------------


def _small(
    bench: Bench, stack: ExitStack, doors: Doors, ours: Server, diod: Server | None, sizes: Sizes
) -> Sequence[Case]:
    """Small operations and large files by the same client, each server with the msize that it grants."""
    one, flight = bench.size(5, 2), bench.size(128, 32)

    def both(work: ninep.Work, write: bool = False) -> tuple[Measure, Measure | None]:
        where = [(doors.control, ours.control_aname) if write else (doors.node, ours.path_aname)]
        if diod is not None:
            where.append((doors.diod, diod.path_aname))
        pair = []
        for address, aname in where:
            connection = stack.enter_context(Wire(connect(address), aname, ninep.LARGE_MSIZE))
            pair.append(partial(work, ninep.prepared(connection, write)))
        return pair[0], pair[1] if len(pair) > 1 else None

    per_second, mb, size, mib = Unit.PER_SECOND, Unit.MB_PER_SECOND, sizes.large, f"{sizes.large >> 20} MiB"
    rows: list[tuple[str, Unit, tuple[Measure, Measure | None]]] = [
        ("getattr", per_second, both(lambda c: ninep.getattr_one(c, one))),
        ("getattr, 32 in flight", per_second, both(lambda c: ninep.getattr_flight(c, flight))),
        (f"read {mib}, 8 in flight", mb, both(lambda c: ninep.read_all(c, size, ninep.READS_IN_FLIGHT))),
        (f"write {mib}, 8 in flight", mb, both(lambda c: ninep.write_all(c, size, ninep.READS_IN_FLIGHT), write=True)),
    ]
    return [Case(name, unit, mine, "diod", peer, runs=3) for name, unit, (mine, peer) in rows]


def wire_tree(address: str, aname: str, files: int) -> float:
    """Files per second of the tree `few`, one after the other: walk, open, read and clunk, each waited for."""
    with Wire(connect(address), aname, ninep.SMALL_MSIZE) as connection:
        open_, clunk = wire.open_(ninep.SMALL_FILE), wire.clunk(ninep.SMALL_FILE)
        read = wire.read(ninep.SMALL_FILE, 0, 4096)
        began = time.perf_counter()
        for number in range(files):
            path = ["few", f"d{number // IN_DIRECTORY}", f"small-{number}"]
            connection.call(wire.walk(0, ninep.SMALL_FILE, path))
            connection.call(open_)
            data = connection.call(read)
            if len(data) != wire.READ_HEADER + len(SMALL):
                raise RuntimeError(f"{path} has {len(data)} bytes")
            connection.call(clunk)
        return files / (time.perf_counter() - began)


# -- sshfs ------------------------------------------------------------------------------------------------------------


def sshfs_tree(port: int, served: Path, place: Path, files: int) -> float:
    """As `tree_at`, mounted anew."""
    with servers.sshfs(port, served, place):
        return tree_at(place / "few", files)


def sshfs_read(port: int, served: Path, place: Path, size: int) -> float:
    with servers.sshfs(port, served, place):
        return read_at(place / "large", size)


def sshfs_write(port: int, served: Path, place: Path, size: int) -> float:
    with servers.sshfs(port, served, place):
        return write_at(place / "copy", size)


def tree_at(top: Path, files: int) -> float:
    """Files per second of a tree, listed and then read as `grep -r` does, by the host's calls."""
    began, seen = time.perf_counter(), 0
    for directory in sorted(os.scandir(top), key=lambda entry: entry.name):
        for entry in sorted(os.scandir(directory.path), key=lambda entry: entry.name):
            with open(entry.path, "rb", buffering=0) as file:
                seen += file.readall() == SMALL
    took = time.perf_counter() - began
    if seen != files:
        raise RuntimeError(f"{seen} of {files} files are as they should be")
    return files / took


def read_at(path: Path, size: int) -> float:
    """MB per second of a file, by the host's calls."""
    began, seen = time.perf_counter(), 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            seen += len(data)
        took = time.perf_counter() - began
    if seen != size:
        raise RuntimeError(f"{seen} bytes of {size} came")
    return size / took / 1e6


def write_at(path: Path, size: int) -> float:
    """With the closing, which waits for all that was written."""
    piece = bytes(1 << 20)
    began, left = time.perf_counter(), size
    with open(path, "wb", buffering=0) as file:
        while left:
            left -= file.write(piece[: min(left, len(piece))])
    return size / (time.perf_counter() - began) / 1e6


# -- ours -------------------------------------------------------------------------------------------------------------


class AsyncMounts:
    """The mount driver over the node's tree, in compounds and in single 9P2000.L requests; a shell's session."""

    def __init__(self, doors: Doors, ours: Server) -> None:
        self._doors, self._ours = doors, ours

    async def __aenter__(self) -> AsyncMounts:
        network = real_world().network
        self._both = [_mounted(self._doors.node, self._ours.path_aname, dialect) for dialect in (Dialect.NG, Dialect.L)]
        self.compounds, self.single = [await mount.__aenter__() for mount in self._both]
        self.session = await NodeSession.open_session(
            await network.connect_unix(self._doors.control), RealClock(), ME.user
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.session.close()
        for mount in self._both:
            await mount.__aexit__(None, None, None)


@asynccontextmanager
async def _mounted(path: str, aname: str, dialect: Dialect) -> AsyncIterator[Namespace]:
    mount = await MountServer.connect(await real_world().network.connect_unix(path), RealClock(), offer=dialect)
    domain = Domain(Authority())
    namespace = Namespace(domain, await finish(attach_own(mount, domain, ME, aname)))
    try:
        yield namespace
    finally:
        namespace.release()
        await mount.close()


def _trees(
    stack: ExitStack,
    doors: Doors,
    diod: Server | None,
    mounts: AsyncMounts,
    served: Path,
    directory: Path,
    sizes: Sizes,
) -> list[Case]:
    session, few, per_second, mb = mounts.session, sizes.few, Unit.PER_SECOND, Unit.MB_PER_SECOND
    host = f"/mnt/host{served}"
    tree = partial(session_tree, session, f"{host}/tree", sizes.files)
    mounted, mib = directory / "mounted", f"{sizes.large >> 20} MiB"
    peers: list[tuple[str, Measure | None]] = [
        ("9P2000.L", partial(per_second_of, read_in_turn, mounts.single, few)),
        ("diod", partial(wire_tree, doors.diod, diod.path_aname, few) if diod else None),
        ("sshfs", partial(sshfs_tree, doors.sftp, served, mounted, few) if doors.sftp else None),
    ]
    cases = [Case(f"tree / {peer}", per_second, tree, peer, work, runs=3) for peer, work in peers]
    cases += [
        Case("files one after the other", per_second, partial(per_second_of, read_in_turn, mounts.compounds, few),
             "9P2000.L", partial(per_second_of, read_in_turn, mounts.single, few), runs=3),
        Case("a listing with attributes", Unit.MS, partial(_milliseconds, _list, mounts.compounds, few),
             "9P2000.L", partial(_milliseconds, _list, mounts.single, few), runs=3),
        Case(f"cat {mib} / sshfs", mb, partial(session_read, session, f"{host}/large", sizes.large), "sshfs",
             partial(sshfs_read, doors.sftp, served, mounted, sizes.large) if doors.sftp else None, runs=3),
        Case(f"cp {mib} / sshfs", mb, partial(session_write, session, f"{host}/copy", sizes.large), "sshfs",
             partial(sshfs_write, doors.sftp, served, mounted, sizes.large) if doors.sftp else None, runs=3),
    ]  # fmt: skip
    return cases


async def session_tree(session: NodeSession, top: str, files: int) -> float:
    """Files per second of a tree, read as `grep -r` does."""

    async def early(found: tuple[str, Stat]) -> bytes | None:
        held = await read_small(session, *found)
        return None if held is None else await held.read()

    began, seen = time.perf_counter(), 0
    async with aclosing(walk(session, top)) as entries, ahead(entries, early) as done:
        async for _, task in done:
            seen += task.result() == SMALL
    took = time.perf_counter() - began
    if seen != files:
        raise RuntimeError(f"{seen} of {files} files are as they should be")
    return files / took


async def session_read(session: NodeSession, path: str, size: int) -> float:
    began, seen = time.perf_counter(), 0
    file = await session.open(path, "r")
    while data := await file.read():
        seen += len(data)
    await file.close()
    if seen != size:
        raise RuntimeError(f"{seen} bytes of {size} came")
    return size / (time.perf_counter() - began) / 1e6


async def session_write(session: NodeSession, path: str, size: int) -> float:
    """In the pieces in which `cp` reads, with the closing."""
    began, piece, left = time.perf_counter(), bytes(1 << 18), size
    file = await session.open(path, "w")
    while left:
        await file.write(piece[: min(left, len(piece))])
        left -= min(left, len(piece))
    await file.close()
    return size / (time.perf_counter() - began) / 1e6


async def _milliseconds(work: Work, namespace: Namespace, files: int) -> float:
    began = time.perf_counter()
    await work(namespace, files)
    return (time.perf_counter() - began) * 1000


async def per_second_of(work: Work, namespace: Namespace, files: int) -> float:
    return files * 1000 / await _milliseconds(work, namespace, files)


async def read_in_turn(namespace: Namespace, files: int) -> None:
    """One file after the other, each to its end."""
    for number in range(files):
        await read_one(namespace, "few", number)


async def read_one(namespace: Namespace, top: str, number: int) -> None:
    path = f"/{top}/d{number // IN_DIRECTORY}/small-{number}"
    found = await finish(namespace.find(path, namespace.root, ME, then=Then.READ))
    chan = await finish(namespace.open(found, OREAD, ME))
    at = 0
    while data := await finish(dispatch(chan, READ, chan.server.read, chan.fid, at, 8192)):
        at += len(data)
    chan.close()
    if at != len(SMALL):
        raise RuntimeError(f"{path} has {at} bytes")


async def _list(namespace: Namespace, files: int) -> None:
    """With the attributes of each entry, asked for all at once where the listing has none."""
    found = await finish(namespace.find("/few/d0", namespace.root, ME, then=Then.LIST))
    directory = await finish(namespace.open(found, OREAD, ME))
    cookie, seen = 0, 0
    while batch := await finish(read_directory(namespace, directory, cookie, 128, ME)):
        missing = [entry.name for entry in batch if entry.stat is None]
        await asyncio.gather(*(_stat(namespace, name) for name in missing))
        cookie, seen = batch[-1].cookie, seen + len(batch)
    assert seen == min(files, IN_DIRECTORY)
    directory.close()


async def _stat(namespace: Namespace, name: str) -> None:
    found = await finish(namespace.find(f"/few/d0/{name}", namespace.root, ME))
    await finish(namespace.stat(found))
    found.close()
