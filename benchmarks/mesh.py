"""Two machines: joining, after a cut, far files beside sshfs and `ssh` with tar, links beside plain TLS.

Ours are two whole nodes, `near` and `far`, each a process of its own; near's shell reads and writes what is far's, at
/n/far, by what `cp` and `grep -r` use (`NodeSession`). OpenSSH is Debian's, with keys made for the run. Its connection
for tar stands already, as the link of the nodes does; sshfs makes one before the clock starts, with nothing in its
cache. All go by the same delay proxy (`benchmarks/delay.py`), in the same machine: what they share is its processors.

What passes through a cut line is held or forgotten, without a word to either side (`delay.py`); what is measured is
the time from mending it to the next byte that somebody who waited gets. A node can't know that the line is whole
again: it sees that a connection is dead after three seconds, and dials again.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import link, link_peer, openssh, servers, trips, wire
from benchmarks.machine import CAN_ACCOUNT, family, spent
from benchmarks.measure import Bench, Case, Unit
from benchmarks.openssh import Ssh
from benchmarks.twonodes import Two, over_a_line, strangers
from cognu.mesh.identity import Peer, PeerBook, load_identity
from cognu.mesh.links import Mesh
from cognu.shell.session import NodeSession
from cognu.world.real import RealClock, real_world

HOST = "/mnt/host"
"""Where a node has all of its host's files."""
COGNU = Path(sys.executable).parent / "cognu"
DELAYS = (0, 10, 100)
CUTS = (1.0, 5.0, 15.0)
WAYS = {"hold": "held", "forget": "forgotten"}
RUNS = 3
PIECE = 4096
APPEND, WRITE_ONLY = 0o2000, 1
"""Of Tlopen (diod's protocol.md)."""


class Sizes(NamedTuple):
    """Of one delay: bytes of a large file; files of a tree; of these the first few, for one after the other."""

    large: int
    files: int
    few: int


SIZES = {0: Sizes(256 << 20, 1000, 200), 10: Sizes(64 << 20, 1000, 25), 100: Sizes(16 << 20, 1000, 4)}
"""Behind a delay sshfs takes long: it has so much on its way, whatever the delay."""
QUICK = Sizes(1 << 16, 3, 2)


async def run(bench: Bench) -> None:
    with TemporaryDirectory() as name:
        await _meet(bench, Path(name))
    for delay in (0, 1) if bench.quick else DELAYS:
        for leads in (True, False):
            with TemporaryDirectory() as name:
                await _set_up(bench, name, delay, leads)
    with TemporaryDirectory() as name:
        await _cut(bench, Path(name))
    for delay in (0,) if bench.quick else DELAYS:
        with TemporaryDirectory() as name:
            await _files(bench, Path(name), delay, QUICK if bench.quick else SIZES[delay])


# -- from nothing to the first byte -----------------------------------------------------------------------------------


async def _meet(bench: Bench, directory: Path) -> None:
    served = _plant(directory, 1, 0)
    file, grant = _far(served / "few/d0/small-0"), f"read:{HOST}{served}"
    if not COGNU.exists():
        bench.miss("join, pair", f"{COGNU} is not there")
        return
    with strangers(directory) as two:
        await bench.measure(
            [
                Case("cognu join: command to first byte", Unit.MS, lambda: _join(two, grant, file), runs=RUNS),
                Case("join, asked of the node: to first byte", Unit.MS, lambda: _ask_to_join(two, grant, file), runs=9),
                Case("cognu pair CODE: command to first byte", Unit.MS, lambda: _pair(two, grant, file), runs=RUNS),
            ]
        )


def _join(two: Two, grant: str, file: list[str]) -> float:
    """Milliseconds from the command with a ticket to a byte of the other machine's file."""
    ticket = servers.rpc(two.far, "invite", grants=[grant])["ticket"]
    began = time.perf_counter()
    subprocess.run([COGNU, "--home", two.near, "join", ticket], check=True, stdout=subprocess.DEVNULL)
    return _to_first_byte(two, began, file)


def _ask_to_join(two: Two, grant: str, file: list[str]) -> float:
    """The same without the command, which is Python's start for the most part."""
    ticket = servers.rpc(two.far, "invite", grants=[grant])["ticket"]
    began = time.perf_counter()
    servers.rpc(two.near, "join", ticket=ticket)
    return _to_first_byte(two, began, file)


def _pair(two: Two, grant: str, file: list[str]) -> float:
    """Milliseconds from the command with the code that far shows. Nobody types: that would be most of it."""
    command = [str(COGNU), "--home", str(two.far), "--json", "pair", "--grant", grant]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as showing:
        try:
            assert showing.stdout is not None
            shown = json.loads(showing.stdout.readline())
            began = time.perf_counter()
            typed = [COGNU, "--home", two.near, "pair", shown["code"], shown["addresses"][0]]
            subprocess.run(typed, check=True, stdout=subprocess.DEVNULL)
            return _to_first_byte(two, began, file)
        finally:
            servers.end(showing)


def _to_first_byte(two: Two, began: float, file: list[str]) -> float:
    """Milliseconds; then they part, so that they can meet again."""
    with two.wire() as wire_:
        wire_.call(wire.walk(0, 1, file))
        wire_.call(wire.open_(1))
        if bytes(wire_.call(wire.read(1, 0, PIECE))[wire.READ_HEADER :]) != trips.SMALL:
            raise RuntimeError("what came is not what is in the file")
    took = (time.perf_counter() - began) * 1000
    servers.rpc(two.near, "drop", peer="far")
    servers.rpc(two.far, "drop", peer="near")
    return took


# -- setting up a link ------------------------------------------------------------------------------------------------


async def _set_up(bench: Bench, directory: str, delay: int, leads: bool) -> None:
    """From dialling to the first byte of a channel, beside the first byte of a plain TLS 1.3 connection.

    `leads`: whether who dials is the leader (docs/links.md), on which the number of trips depends.
    """
    world = real_world()
    _identities(directory, leads)
    with ExitStack() as stack:
        peer = stack.enter_context(link.other_process(directory))
        mesh_port, tls_port = int(peer.mesh.rpartition(":")[2]), peer.tls
        if delay:
            targets, (mesh_port, tls_port) = (mesh_port, tls_port), (servers.free_port(), servers.free_port())
            doors = [(f"127.0.0.1:{a}", f"127.0.0.1:{b}") for a, b in zip((mesh_port, tls_port), targets, strict=True)]
            stack.enter_context(servers.delayed(delay, *doors))
        context = link_peer.tls_context(directory, "near", "far")
        home = f"{directory}/near"
        identity, far = load_identity(world, home), load_identity(world, f"{directory}/far")
        book = PeerBook(world.disk, home)
        book.add(Peer(far.fingerprint, "far", far.certificate, (f"127.0.0.1:{mesh_port}",)))

        async def ours() -> float:
            mesh = Mesh(world, identity, book, link_peer.refuse)
            try:
                began = time.perf_counter()
                channel = await mesh.open("far", link_peer.ECHO)
                await channel.write(b"x")
                _check(await channel.read(1))
                took = time.perf_counter() - began
                channel.close()
                await channel.wait_closed()
                return took * 1000
            finally:
                await mesh.close()

        def theirs() -> float:
            began = time.perf_counter()
            with context.wrap_socket(link.tcp_to(tls_port)) as sock:
                sock.sendall(link_peer.label(link_peer.ECHO) + b"x")
                _check(sock.recv(1))
                return (time.perf_counter() - began) * 1000

        name = f"{delay} ms: a link's first byte, dialled by the {'leader' if leads else 'follower'}"
        cases = [Case(f"{name} / TLS", Unit.MS, ours, "plain TLS 1.3", theirs)]
        if CAN_ACCOUNT and not delay and leads:
            mine, others = link.our_cpu(peer, ours, 1), link.their_cpu(peer, theirs, 1)
            cases.append(Case("CPU: a link, made and ended / TLS", Unit.US, mine, "plain TLS 1.3", others))
        await bench.measure(cases)


def _identities(directory: str, leads: bool) -> None:
    """Made anew until near's fingerprint is the lesser, or the greater."""
    world = real_world()
    while True:
        near, far = (load_identity(world, f"{directory}/{name}").fingerprint for name in ("near", "far"))
        if (near < far) == leads:
            return
        rmtree(f"{directory}/near")


def _check(part: bytes) -> None:
    if part != b"x":
        raise RuntimeError(f"{part!r} came back")


# -- a cut ------------------------------------------------------------------------------------------------------------


async def _cut(bench: Bench, directory: Path) -> None:
    served = _plant(directory, 1, 256 * PIECE)
    with over_a_line(directory, 0, (f"write:{HOST}{served}",)) as two:
        told = _Told()
        cuts = (0.2,) if bench.quick else CUTS
        await bench.measure(
            [
                Case(f"{said}, {seconds:g} s: mended to next byte", Unit.MS,
                     partial(_recover, two, served, what, seconds, told), runs=RUNS)
                for what, said in WAYS.items() for seconds in cuts
            ]
        )  # fmt: skip
        bench.note("after the cuts", f"none lost, none doubled of {told.appended:,} blocks appended; "
                                     f"{told.read:,} reads were as they should be")  # fmt: skip


class _Told:
    """What was looked at, in all runs."""

    def __init__(self) -> None:
        self.appended = 0
        self.read = 0


def _recover(two: Two, served: Path, what: str, seconds: float, told: _Told) -> float:
    """Milliseconds from the mend to the answer of a read that was asked during the cut.

    Meanwhile somebody else appends numbered blocks, without end. Raises `RuntimeError` if a read brings what is not in
    the file, or if the blocks appended are not each there once, in order.
    """
    log = served / "log"
    log.write_bytes(b"")
    mended: list[float] = []

    def mend() -> None:
        began = time.perf_counter()
        two.order("mend")
        mended.append(began)

    over, appended = threading.Event(), [0]
    with two.wire() as reading, two.wire() as appending:
        appender = threading.Thread(target=_append, args=(appending, _far(log), over, appended))
        appender.start()
        try:
            _open_far(reading, _far(served / "large"), 0)
            read = _Reads(reading, served / "large")
            read.some(200)
            two.order(what)
            timer = threading.Timer(seconds, mend)
            timer.start()
            while not mended:
                came = read.some(1)
            timer.join()
            while came < mended[0]:
                came = read.some(1)
            read.some(20)
        finally:
            over.set()
            appender.join()
    if log.read_bytes() != b"".join(map(_block, range(appended[0]))):
        raise RuntimeError(f"{log.stat().st_size} bytes were appended in place of {appended[0]} blocks of {PIECE}")
    told.appended += appended[0]
    told.read += read.count
    return (came - mended[0]) * 1000


class _Reads:
    """Reads of pieces here and there, so that nothing is read ahead, each compared with what the file has."""

    def __init__(self, wire_: wire.Wire, file: Path) -> None:
        self._wire = wire_
        self._data = file.read_bytes()
        self._chance = Random(1)
        self.count = 0

    def some(self, count: int) -> float:
        """One after the other; when the last came. Raises `RuntimeError` for what is not in the file."""
        for _ in range(count):
            at = self._chance.randrange(len(self._data) // PIECE) * PIECE
            if self._wire.call(wire.read(1, at, PIECE))[wire.READ_HEADER :] != self._data[at : at + PIECE]:
                raise RuntimeError(f"what came for offset {at} is not what is in the file")
            self.count += 1
        return time.perf_counter()


def _append(wire_: wire.Wire, file: list[str], over: threading.Event, appended: list[int]) -> None:
    """Numbered blocks, some 200 a second, to the end of a far file; returns when all are there."""
    _open_far(wire_, file, WRITE_ONLY | APPEND)
    while not over.wait(0.005):
        block = _block(appended[0])
        wire_.put(wire.write_header(1, 0, len(block)), memoryview(block))
        appended[0] += 1
    wire_.call(wire.clunk(1))


def _block(number: int) -> bytes:
    return struct.pack("<I", number) * (PIECE // 4)


def _open_far(wire_: wire.Wire, file: list[str], flags: int) -> None:
    wire_.call(wire.walk(0, 1, file))
    wire_.call(wire.open_(1, flags))


# -- far files --------------------------------------------------------------------------------------------------------


async def _files(bench: Bench, directory: Path, delay: int, sizes: Sizes) -> None:
    served = _plant(directory, sizes.files, sizes.large)
    trips.plant(served / "few", sizes.few)
    with ExitStack() as stack:
        two = stack.enter_context(over_a_line(directory, delay, (f"write:{HOST}{served}",)))
        trip = trips.echo_ms(stack, delay, directory)
        bench.note(f"{delay} ms each way", f"a trip of one byte took {trip:.1f} ms")
        ssh = _ssh(bench, stack, directory, delay)
        network = real_world().network
        control = await network.connect_unix(str(two.near / "node.sock"))
        session = await NodeSession.open_session(control, RealClock(), trips.ME.user)
        try:
            cases = _by_sshfs(bench, session, ssh, served, directory / "mounted", sizes)
            if CAN_ACCOUNT and not delay:
                cases += [_accounted(case, sizes) for case in cases]
            cases += _by_tar(session, ssh, served, directory / "unpacked", sizes)
            await bench.measure([case._replace(name=f"{delay} ms: {case.name}", runs=RUNS) for case in cases])
        finally:
            await session.close()


def _ssh(bench: Bench, stack: ExitStack, directory: Path, delay: int) -> Ssh | None:
    """A server behind the delay and a connection to it; None, and noted as missing, where that can't be had."""
    missing = openssh.missing()
    if missing:
        bench.miss("sshfs, ssh and tar", missing)
        return None
    own = directory / "ssh"
    target = stack.enter_context(openssh.server(own))
    door = servers.free_port()
    stack.enter_context(servers.delayed(delay, (f"127.0.0.1:{door}", f"127.0.0.1:{target}")))
    return stack.enter_context(openssh.client(own, door))


@dataclass(frozen=True)
class _Mounted:
    """`work` at `path`, mounted anew by sshfs; `count` is what it takes and measures by."""

    ssh: Ssh
    served: Path
    place: Path
    work: Callable[[Path, int], float]
    path: str
    count: int

    def __call__(self) -> float:
        return self.measured(lambda work: work())

    def measured(self, measure: Callable[[Callable[[], float]], float]) -> float:
        with self.ssh.sshfs(self.served, self.place):
            return measure(lambda: self.work(self.place / self.path, self.count))


def _by_sshfs(
    bench: Bench, session: NodeSession, ssh: Ssh | None, served: Path, place: Path, sizes: Sizes
) -> list[Case]:
    far, mib, missing = f"/n/far{HOST}{served}", f"{sizes.large >> 20} MiB", openssh.sshfs_missing()
    if missing:
        bench.miss("sshfs", missing)

    def mounted(work: Callable[[Path, int], float], path: str, count: int) -> _Mounted | None:
        return None if missing or ssh is None else _Mounted(ssh, served, place, work, path, count)

    few, large, mb, per_second = sizes.few, sizes.large, Unit.MB_PER_SECOND, Unit.PER_SECOND
    return [
        Case("stat, one after the other / sshfs", per_second, partial(_stats, session, f"{far}/few", few),
             "sshfs", mounted(_stats_at, "few", few)),
        Case("small files, one after the other / sshfs", per_second, partial(_reads, session, f"{far}/few", few),
             "sshfs", mounted(_reads_at, "few", few)),
        Case("tree / sshfs", per_second, partial(trips.session_tree, session, f"{far}/tree", sizes.files),
             "sshfs", mounted(trips.tree_at, "few", few)),
        Case(f"read {mib} / sshfs", mb, partial(trips.session_read, session, f"{far}/large", large),
             "sshfs", mounted(trips.read_at, "large", large)),
        Case(f"write {mib} / sshfs", mb, partial(trips.session_write, session, f"{far}/copy", large),
             "sshfs", mounted(trips.write_at, "copy", large)),
    ]  # fmt: skip


def _accounted(case: Case, sizes: Sizes) -> Case:
    """The same by the processor time that all the processes of this run had, for each file or megabyte.

    That is near, far and this one, which is the shell, or sshfs, ssh, the server's process and this one; the proxy too.
    """
    large = case.unit is Unit.MB_PER_SECOND
    tree = case.name.startswith("tree")
    ours, theirs = case.ours, case.theirs
    few = sizes.large / 1e6 if large else sizes.few
    many = sizes.files if tree else few

    async def mine() -> float:
        before = _spent()
        work = ours()
        assert not isinstance(work, float)
        await work
        return _since(before) / many

    def others(work: Callable[[], float]) -> float:
        before = _spent()
        work()
        return _since(before) / few

    what = "MB" if large else "file"
    peer = partial(theirs.measured, others) if isinstance(theirs, _Mounted) else None
    return Case(f"CPU per {what}: {case.name}", Unit.US, mine, case.peer, peer)


def _spent() -> dict[int, int]:
    """Nanoseconds of each process of this run."""
    had = {}
    for pid in family(os.getpid()):
        with suppress(FileNotFoundError):  # it ended meanwhile
            had[pid] = spent(pid)
    return had


def _since(before: dict[int, int]) -> float:
    """Microseconds that those have had since which were there, and still are."""
    now = _spent()
    return sum(now[pid] - then for pid, then in before.items() if pid in now) / 1000


def _by_tar(session: NodeSession, ssh: Ssh | None, served: Path, unpacked: Path, sizes: Sizes) -> list[Case]:
    far, mib, large = f"/n/far{HOST}{served}", f"{sizes.large >> 20} MiB", sizes.large
    mb, per_second, peer = Unit.MB_PER_SECOND, Unit.PER_SECOND, "ssh and tar"
    return [
        Case("tree / ssh and tar", per_second, partial(trips.session_tree, session, f"{far}/tree", sizes.files),
             peer, ssh and partial(_tar_here, ssh, served, "tree", sizes.files)),
        Case(f"read {mib} / ssh and tar", mb, partial(trips.session_read, session, f"{far}/large", large),
             peer, ssh and partial(_tar_here, ssh, served, "large", large / 1e6)),
        Case(f"write {mib} / ssh and tar", mb, partial(trips.session_write, session, f"{far}/copy", large),
             peer, ssh and partial(_tar_there, ssh, served, unpacked, large / 1e6)),
    ]  # fmt: skip


def _names(few: int) -> Sequence[str]:
    return [f"d{number // trips.IN_DIRECTORY}/small-{number}" for number in range(few)]


async def _stats(session: NodeSession, top: str, few: int) -> float:
    """Per second."""
    began = time.perf_counter()
    for name in _names(few):
        if (await session.stat(f"{top}/{name}")).length != len(trips.SMALL):
            raise RuntimeError(f"{name} has another length")
    return few / (time.perf_counter() - began)


def _stats_at(top: Path, few: int) -> float:
    began = time.perf_counter()
    for name in _names(few):
        if os.stat(top / name).st_size != len(trips.SMALL):
            raise RuntimeError(f"{name} has another length")
    return few / (time.perf_counter() - began)


async def _reads(session: NodeSession, top: str, few: int) -> float:
    """Files per second, each to its end."""
    began = time.perf_counter()
    for name in _names(few):
        file = await session.open(f"{top}/{name}", "r")
        data = b""
        while part := await file.read():
            data += part
        await file.close()
        if data != trips.SMALL:
            raise RuntimeError(f"{name} has {len(data)} bytes")
    return few / (time.perf_counter() - began)


def _reads_at(top: Path, few: int) -> float:
    began = time.perf_counter()
    for name in _names(few):
        if (top / name).read_bytes() != trips.SMALL:
            raise RuntimeError(f"{name} is not as it should be")
    return few / (time.perf_counter() - began)


def _tar_here(ssh: Ssh, served: Path, what: str, count: float) -> float:
    """Of `count` each second: `what` packed there, and unpacked by a tar here that throws it away."""
    began = time.perf_counter()
    with subprocess.Popen(ssh.command(f"tar cf - -C {served} {what}"), stdout=subprocess.PIPE) as packing:
        subprocess.run(["tar", "xf", "-", "-O"], stdin=packing.stdout, stdout=subprocess.DEVNULL, check=True)
    took = time.perf_counter() - began
    if packing.returncode:
        raise RuntimeError(f"ssh and tar end with {packing.returncode}")
    return count / took


def _tar_there(ssh: Ssh, served: Path, unpacked: Path, count: float) -> float:
    """The large file packed here and unpacked there, as a file."""
    began = time.perf_counter()
    with subprocess.Popen(["tar", "cf", "-", "-C", str(served), "large"], stdout=subprocess.PIPE) as packing:
        there = ssh.command(f"mkdir -p {unpacked} && tar xf - -C {unpacked}")
        subprocess.run(there, stdin=packing.stdout, check=True)
    return count / (time.perf_counter() - began)


# -- what is served ---------------------------------------------------------------------------------------------------


def _plant(directory: Path, files: int, large: int) -> Path:
    """The tree `tree`, one file at least of `few`, and `large`, in which no piece is like another."""
    served = directory / "served"
    served.mkdir()
    trips.plant(served / "tree", files)
    trips.plant(served / "few", 1)
    with open(served / "large", "wb") as file:
        for number in range(large // PIECE):
            file.write(_block(number))
    return served


def _far(path: Path) -> list[str]:
    """The names that lead to a file of far's, at near."""
    return ["n", "far", *Path(HOST).parts[1:], *path.parts[1:]]
