"""Hosts of network namespaces on one emulated switch, as tests use them: `hosts.emulator` is the process behind.

    desk --eth--+            +--eth-- pi        eth: 10.77.1.0/24      desk .1  pi .2  lap .3
                |  emulator  |                  wifi: 10.77.2.0/24              pi .2  lap .3
    lap --eth---+            +--wifi-- pi
     +----wifi--+                               default routes by eth, where it has an address, else by wifi

A process that was started on a host is killed when the one that runs the tests ends.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any

from e2e.harness import Ended, NodeProcess, end, join, log_trouble

TESTS = Path(__file__).resolve().parents[1]
SEGMENTS = {"eth": 1, "wifi": 2}
METRICS = {"eth": 100, "wifi": 600}
LINKS = {"desk": ("eth",), "pi": ("eth", "wifi"), "lap": ("eth", "wifi")}
"""What the hosts of most tests are joined by."""
MADE_SECONDS = CLOSED_SECONDS = 60.0
NSENTER = shutil.which("nsenter") or "nsenter"  # by its path, for who starts it by exec(2)
TOOLS = ("ip", "unshare", "nsenter", "setpriv")


def unable() -> str:
    """Why no hosts can be made here; empty if they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run([*_unshare(), "ip", "link", "add", "type", "veth"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"no network namespaces here: {tried.stderr.strip()}"


def _unshare() -> list[str]:
    """A network namespace of its own, in a user namespace where that takes one."""
    return ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--net"]


def seed() -> str:
    """HOSTS_SEED, or a new one; where a change is judged, the same for all."""
    chosen = os.environ.get("HOSTS_SEED") or ("1" if "CI" in os.environ else str(SystemRandom().randrange(1 << 32)))
    print(f"HOSTS_SEED={chosen}")
    return chosen


@dataclass(frozen=True)
class Counts:
    """Of lines: what came out and what did not, as `hosts.wire.Line` counts it.

    Of the whole network: frames that are on their way (`waiting`), that came faster than the emulator took them
    (`overran`), and that a host did not take (`refused`).
    """

    frames: int
    bytes: int
    lost: int
    overflowed: int
    stopped: int
    waiting: int
    overran: int
    refused: int


class Host:
    """A machine: a network of its own, and a node that may run there. Its files are this machine's."""

    def __init__(self, name: str, number: int, links: Sequence[str], place: Path) -> None:
        self.name = name
        self.pid = 0  # of the process that keeps its namespace
        self.addresses = {link: f"10.77.{SEGMENTS[link]}.{number}" for link in links}
        self.shared = place / f"{name}-files"
        self.shared.mkdir()
        self.node = NodeProcess(place / name, name)
        self._macs = {link: f"02:00:00:00:{SEGMENTS[link]:02x}:{number:02x}" for link in links}
        self._later = itertools.count(100 + number, 20)

    def topology(self) -> list[list[str]]:
        return [[link, f"{at}/24", self._macs[link], str(METRICS[link])] for link, at in self.addresses.items()]

    def made(self, pid: int) -> None:
        self.pid = pid
        self.node.prefix = self.inside

    @property
    def inside(self) -> tuple[str, ...]:
        """What stands before a command that is to run here."""
        user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        return (NSENTER, "-t", str(self.pid), *user, "--net", "setpriv", "--pdeathsig", "KILL")

    async def begin(self, *words: str, **streams: Any) -> asyncio.subprocess.Process:
        """Start a command; its pid is the process's own. `streams`: as `create_subprocess_exec` has them, or pipes."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return await asyncio.create_subprocess_exec(*self.inside, *words, **{**pipes, **streams})

    async def run(self, *words: str, stdin: bytes = b"") -> Ended:
        """A command, to its end."""
        made = await self.begin(*words)
        try:
            out, err = await made.communicate(stdin)
        except BaseException:
            made.kill()
            await made.wait()
            raise
        assert made.returncode is not None
        return Ended(out, err, made.returncode, "")

    async def ip(self, *words: str) -> str:
        """ip(8), which must succeed."""
        ended = await self.run("ip", *words)
        assert ended.status == 0, ended.errors.decode()
        return ended.output.decode()

    async def new_address(self, link: str = "eth") -> str:
        """A link has another address from now on, and the old one is gone. Returns the new one."""
        new = f"10.77.{SEGMENTS[link]}.{next(self._later)}"
        await self.ip("address", "flush", "dev", link, "scope", "global")
        await self.ip("address", "add", f"{new}/24", "dev", link)
        await self.ip("route", "replace", "default", "dev", link, "metric", str(METRICS[link]))
        self.addresses[link] = new
        return new

    def suspend(self) -> None:
        """The node stands still, as on a machine that sleeps, until `resume`; its connections stay."""
        os.kill(self.node.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.node.pid, signal.SIGCONT)


class Network:
    """The hosts and what lies between them. A place is a host (`pi`), one of its links (`pi.wifi`) or all (`*`)."""

    def __init__(
        self, hosts: dict[str, Host], seed: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.hosts = hosts
        self.seed = seed
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening: asyncio.Task[None] | None = None

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    async def set(
        self, a: str, b: str = "*", *, one_way: bool = False, after: int | None = None, **conditions: Any
    ) -> None:
        """Change what the lines between two places are like, both ways; conditions not named stay as they are.

        With `after` it is changed, and this returns, when so many more bytes came through from `a` to `b`. `conditions`
        are those of `hosts.wire.Conditions`. Raises `ValueError` for others, and for places that no line joins.
        """
        await self._order("set", a, b, both=not one_way, anew=False, after=after, conditions=conditions)

    async def clear(self) -> None:
        """All lines are as they were in the beginning."""
        await self._order("set", "*", "*", both=False, anew=True, after=None, conditions={})

    async def cut(self, a: str, b: str = "*", *, after: int | None = None) -> None:
        """Nothing comes through between two places, either way, and no machine is told. `after` as for `set`."""
        await self.set(a, b, after=after, cut=True)

    async def mend(self, a: str, b: str = "*") -> None:
        await self.set(a, b, cut=False)

    async def carried(self, a: str, b: str, count: int) -> None:
        """Until `count` more bytes came through from one place to the other."""
        await self._order("carried", a, b, after=count)

    async def counts(self, a: str = "*", b: str = "*") -> Counts:
        """Of the lines from one place to the other, since the beginning."""
        answer = await self._order("counts", a, b)
        return Counts(**{name: answer[name] for name in Counts.__dataclass_fields__})

    async def start(self, *names: str) -> None:
        """Start the nodes of hosts."""
        await asyncio.gather(*(self[name].node.start() for name in names))

    async def join(self, inviter: str, joiner: str, *grants: str) -> None:
        """One node invites another and grants it this; `{shared}` is the inviter's directory."""
        lent = (grant.format(shared=self[inviter].shared) for grant in grants)
        await join(self[inviter].node, self[joiner].node, *lent)

    async def _order(self, do: str, source: str, target: str, **rest: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        order = {"id": number, "do": do, "from": source, "to": target, **rest}
        try:
            self._writer.write(json.dumps(order).encode() + b"\n")
            answer: dict[str, Any] = await answered
        finally:
            del self._asked[number]
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                answer = json.loads(line)
                if answer["id"] == 0:
                    for name, pid in answer["pids"].items():
                        self[name].made(pid)
                waiter = self._asked.get(answer["id"])
                if waiter is not None and not waiter.done():
                    waiter.set_result(answer)
        finally:
            for waiter in self._asked.values():
                if not waiter.done():
                    waiter.set_exception(RuntimeError("the emulator ended; its standard error says why"))

    async def begin(self) -> None:
        made = self._asked[0] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen())
        await asyncio.wait_for(made, MADE_SECONDS)
        del self._asked[0]

    async def close(self) -> None:
        """Every node that runs is ended, then the network is."""
        try:
            if self._listening is not None and not self._listening.done() and not self._asked:
                await self.clear()
            running = [host for host in self.hosts.values() if _runs(host.node)]
            for host in running:
                host.resume()
            await asyncio.gather(*(end(host.node) for host in running))
        finally:
            self._writer.close()
            if self._listening is not None:
                await self._listening


def _runs(node: NodeProcess) -> bool:
    return node.process is not None and node.process.returncode is None


@asynccontextmanager
async def emulated(place: Path, seed: str, links: dict[str, tuple[str, ...]] | None = None) -> AsyncIterator[Network]:
    """A network of hosts, by default desk, pi and lap; their nodes' homes and files are in `place`.

    In the end no node may have logged an error.
    """
    hosts = {name: Host(name, number, of, place) for number, (name, of) in enumerate((links or LINKS).items(), 1)}
    ours, theirs = socket.socketpair()
    topology = {"seed": seed, "hosts": {name: host.topology() for name, host in hosts.items()}}
    with theirs:
        emulator = await asyncio.create_subprocess_exec(
            *_unshare(), sys.executable, "-m", "hosts.emulator", json.dumps(topology),
            stdin=theirs.fileno(), env={**os.environ, "PYTHONPATH": str(TESTS)},
        )  # fmt: skip
    network = Network(hosts, seed, *await asyncio.open_connection(sock=ours))
    try:
        try:
            await network.begin()
            yield network
        finally:
            await asyncio.wait_for(network.close(), CLOSED_SECONDS)
    finally:
        try:
            status = await asyncio.wait_for(emulator.wait(), CLOSED_SECONDS)
        except TimeoutError:
            emulator.kill()
            status = await emulator.wait()
    assert status == 0, f"the emulator ended with {status}"
    for host in hosts.values():
        if host.node.process is not None:
            assert log_trouble(host.node) == [], host.name
