"""The network between machines goes dead in the middle of things, and comes back: on hosts of their own.

Where a test sleeps, that is the fault itself and not a wait for something.
"""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from cognu.errors import E
from cognu.files.server import LOCK_END, OAPPEND, Lock, Owner
from cognu.ninep.types import ORDWR, OWRITE
from e2e.harness import Client, File, refused, until
from hosts.kit import MIB, at_terminal, joined, sum_of, well, write_big
from hosts.network import Host, Network

pytestmark = pytest.mark.timeout(240)


@pytest.mark.interop
async def test_a_write_over_a_line_that_is_dead_for_40_seconds_ends_with_every_byte(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    await joined(network, "write:{shared}")
    digest = write_big(desk.shared / "big", 128)
    writing = await desk.node.begin("sh", "-c", f"cp {desk.shared}/big /n/pi{pi.shared}/big")
    await network.cut("desk", "pi", after=16 * MIB)
    await asyncio.sleep(40)
    assert writing.returncode is None
    for a, b in (("desk", "pi"), ("pi", "desk")):
        assert (await network.counts(a, b)).stopped > 0
    await network.mend("desk", "pi")
    assert await well(writing) == b""
    assert sum_of(pi.shared / "big") == digest


# -- many cuts --------------------------------------------------------------------------------------------------------


class Holder:
    """Somebody at desk who holds a lock of a file of pi's, and somebody at pi who would like it."""

    def __init__(self, file: File, rival: File) -> None:
        self.file = file
        self.rival = rival

    async def take(self) -> bool:
        return await self.file.mount.lock_range(self.file.fid, whole_file("desk"), False)

    async def holds(self) -> bool:
        return not await self.rival.mount.lock_range(self.rival.fid, whole_file("pi"), False)

    async def gives_up(self) -> None:
        await self.file.mount.unlock_range(self.file.fid, whole_file("desk"))


def whole_file(client: str) -> Lock:
    return Lock(0, LOCK_END, True, Owner(0, client, 1))


@asynccontextmanager
async def locked(desk: Client, pi: Client, path: Path) -> AsyncIterator[Holder]:
    (await pi.create(str(path))).close()
    holder = Holder(await desk.open(f"/n/pi{path}", ORDWR), await pi.open(str(path), ORDWR))
    try:
        assert await holder.take()
        yield holder
    finally:
        holder.file.close()
        holder.rival.close()


async def read_until(command: Process, ends: Callable[[bytes], bool]) -> bytes:
    assert command.stdout is not None
    data = b""
    while not ends(data):
        part = await command.stdout.read(1 << 16)
        assert part, data
        data += part
    return data


class Watchers:
    """At desk: somebody who follows a file of pi's as it grows, and somebody who watches a directory there."""

    def __init__(self, following: Process, watching: Process, place: Path, lines: int) -> None:
        self.following = following
        self.watching = watching
        self.place = place
        self.lines = lines
        self.done = 0

    @classmethod
    async def begin(cls, desk: Host, pi: Host, lines: int) -> Watchers:
        place = pi.shared / "made"
        place.mkdir()
        (pi.shared / "log").write_text("line 0\n")
        following = await desk.node.begin("sh", "-c", f"tail -f /n/pi{pi.shared}/log")
        made = cls(following, await desk.node.begin("sh", "-c", f"watch -n {lines} /n/pi{place}"), place, lines)
        assert await read_until(following, lambda data: data.endswith(b"\n")) == b"line 0\n"
        return made

    def happens(self) -> None:
        """A line more in the file, and a file more in the directory."""
        self.done += 1
        with open(self.place.with_name("log"), "a") as log:
            log.write(f"line {self.done}\n")
        (self.place / f"file {self.done}").mkdir()

    async def have_seen_it_all(self) -> None:
        assert self.done == self.lines
        told = (await well(self.watching)).decode().splitlines()
        assert told == [f"made /n/pi{self.place}/file {n}" for n in range(1, self.lines + 1)]
        said = await read_until(self.following, lambda data: data.endswith(f"line {self.lines}\n".encode()))
        assert said.decode().splitlines() == [f"line {n}" for n in range(1, self.lines + 1)]

    async def end(self) -> None:
        for command in (self.following, self.watching):
            if command.returncode is None:
                command.kill()
            await command.communicate()


async def through_cuts(network: Network, megabytes: int, cuts: int) -> None:
    """A copy of `megabytes` from pi to desk, with `cuts` of one to eight seconds; all else goes on beside it."""
    desk, pi = network["desk"], network["pi"]
    await joined(network, "write:{shared}", "run")
    digest = write_big(pi.shared / "big", megabytes)
    chance = Random(f"{network.seed}: cuts")
    pauses = [chance.uniform(1, 8) for _ in range(cuts)]
    watchers = await Watchers.begin(desk, pi, cuts)
    with at_terminal(desk, "cpu", "pi") as terminal:
        terminal.resize(24, 80)
        await asyncio.to_thread(terminal.shows, "pi%")
        try:
            async with (
                desk.node.client() as here, pi.node.client() as there,
                locked(here, there, pi.shared / "locked") as holder,
            ):  # fmt: skip
                copying = await desk.node.begin("sh", "-c", f"cp /n/pi{pi.shared}/big {desk.shared}/big")
                for number, pause in enumerate(pauses):
                    await network.cut("pi", "desk", after=megabytes * MIB // (cuts + 1))
                    watchers.happens()
                    for key in f"echo {number} >>/tmp/keys\r":
                        terminal.type(key)
                    assert await holder.holds()
                    await asyncio.sleep(pause)
                    assert copying.returncode is None
                    await network.mend("desk", "pi")
                assert await well(copying) == b""
                assert await holder.holds()
                await holder.gives_up()
                assert not await holder.holds()
            assert sum_of(desk.shared / "big") == digest
            await watchers.have_seen_it_all()
            terminal.type("cat /tmp/keys; echo that was 'all'; exit 5\r")
            shown = await asyncio.to_thread(terminal.shows, "\nthat was all\n")
            assert shown.endswith("".join(f"\n{number}" for number in range(cuts)))
            assert await asyncio.to_thread(terminal.process.wait) == 5
        finally:
            await watchers.end()


@pytest.mark.interop
@pytest.mark.timeout(400)
async def test_a_copy_of_a_gibibyte_a_terminal_a_lock_and_watchers_go_on_through_ten_random_cuts(
    network: Network,
) -> None:
    await through_cuts(network, 1024, 10)


TIMES = 80


@pytest.mark.interop
async def test_what_may_be_done_but_once_is_done_once_through_cuts(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    await joined(network, "write:{shared}")
    far = f"/n/pi{pi.shared}"

    def doing(what: str, after: str = "") -> str:
        return f"n=0; while [ $n -lt {TIMES} ]; do n=$((n + 1)); {what}; done {after}"

    # The last: each of its changes would be refused if it had been made before.
    scripts = [
        doing(f"echo line $n >>{far}/reopened"),
        doing("echo line $n", f">>{far}/open"),
        doing(f"mkdir {far}/d; echo $n >{far}/d/f; mv {far}/d/f {far}/d/g; rm {far}/d/g; rm -r {far}/d; echo $n"),
    ]
    commands = [await desk.node.begin("sh", "-c", script) for script in scripts]
    for pause in (2, 5):
        await network.cut("desk", "pi", after=15_000)
        await asyncio.sleep(pause)
        await network.mend("desk", "pi")
    *_, changed = [await well(command) for command in commands]
    lines = [f"line {n}" for n in range(1, TIMES + 1)]
    for name in ("reopened", "open"):
        assert (pi.shared / name).read_text().splitlines() == lines
    assert changed.decode().split() == [str(n) for n in range(1, TIMES + 1)]
    assert not (pi.shared / "d").exists()


# -- other faults -----------------------------------------------------------------------------------------------------


async def copying_big(network: Network, megabytes: int) -> tuple[Process, str]:
    """A copy from pi to desk that stands still a third through, for the line is cut; the checksum of what it copies."""
    desk, pi = network["desk"], network["pi"]
    await joined(network, "read:{shared}")
    digest = write_big(pi.shared / "big", megabytes)
    copying = await desk.node.begin("sh", "-c", f"cp /n/pi{pi.shared}/big {desk.shared}/big")
    await network.cut("pi", "desk", after=megabytes * MIB // 3)
    return copying, digest


@pytest.mark.interop
@pytest.mark.parametrize("who", ["desk", "pi"])
async def test_a_copy_goes_on_when_a_machine_has_another_address(network: Network, who: str) -> None:
    copying, digest = await copying_big(network, 64)
    await network[who].new_address()
    await network.mend("desk", "pi")
    assert copying.returncode is None
    assert await well(copying) == b""
    assert sum_of(network["desk"].shared / "big") == digest


@pytest.mark.interop
async def test_a_copy_goes_on_when_packets_were_lost_one_way_only(network: Network) -> None:
    copying, digest = await copying_big(network, 64)
    for a, b in (("desk", "pi"), ("pi", "desk")):
        await network.mend("desk", "pi")
        await network.set(a, b, one_way=True, cut=True)
        await asyncio.sleep(6)
        assert copying.returncode is None
        await network.set(a, b, one_way=True, cut=False)
        if a == "desk":
            await network.cut("pi", "desk", after=20 * MIB)
    assert await well(copying) == b""
    assert sum_of(network["desk"].shared / "big") == digest


@pytest.mark.interop
async def test_a_copy_goes_on_when_a_node_stood_still(network: Network) -> None:
    copying, digest = await copying_big(network, 64)
    network["pi"].suspend()
    await network.mend("desk", "pi")
    await asyncio.sleep(30)
    assert copying.returncode is None
    network["pi"].resume()
    await network.cut("pi", "desk", after=20 * MIB)
    network["desk"].suspend()
    await network.mend("desk", "pi")
    await asyncio.sleep(5)
    assert copying.returncode is None
    network["desk"].resume()
    assert await well(copying) == b""
    assert sum_of(network["desk"].shared / "big") == digest


@pytest.mark.interop
async def test_files_and_commands_come_whole_over_a_line_that_loses_and_reorders(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    await network.set("desk", "pi", delay=0.05, jitter=0.01, loss=0.05, reorder=0.05)
    await joined(network, "write:{shared}", "run")
    digest = write_big(pi.shared / "big", 1)
    near, far = f"{desk.shared}/big", f"/n/pi{pi.shared}"
    script = f"cp {far}/big {near}; cp {near} {far}/back; ls {far}; cpu pi 'echo there; exit 3'; echo $?"
    assert await well(await desk.node.begin("sh", "-c", script)) == b"back\nbig\nthere\n3\n"
    assert sum_of(desk.shared / "big") == sum_of(pi.shared / "back") == digest
    assert (await network.counts("pi", "desk")).lost > 0


def kept_for(seconds: int, *hosts: Host) -> None:
    """What is open between hosts whose nodes were not started yet outlives its last link for so long."""
    for host in hosts:
        host.node.home.mkdir()
        (host.node.home / "settings.json").write_text(json.dumps({"retention": seconds}))


@pytest.mark.interop
async def test_what_is_open_when_a_machine_is_away_for_too_long_ends_and_says_so(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    kept_for(5, desk, pi)
    await joined(network, "write:{shared}")
    (pi.shared / "log").write_text("before\n")
    following = await desk.node.begin("sh", "-c", f"tail -f /n/pi{pi.shared}/log")
    await read_until(following, lambda data: data == b"before\n")
    (pi.shared / "log").write_text("before\nmore\n")
    await read_until(following, lambda data: data.endswith(b"more\n"))  # it has begun to follow, and waits
    async with desk.node.client() as here:
        adding = await here.open(f"/n/pi{pi.shared}/log", OWRITE | OAPPEND)
        await network.cut("desk", "pi")
        reading = await desk.node.begin("sh", "-c", f"cat /n/pi{pi.shared}/log")
        # Nobody can know whether a change that was under way was made.
        await refused(adding.write(b"perhaps\n"), E.NOTRECOVERABLE)
        _, err = await following.communicate()
        assert following.returncode == 1
        assert E.AWAY.text in err.decode()
        assert "5 seconds" in err.decode()
        out, err = await reading.communicate()
        assert (reading.returncode, out) == (1, b"")
        assert f"{E.AWAY.text}: since " in err.decode(), "what only began then has the same answer"
        await network.mend("desk", "pi")

        async def together() -> bool:
            [row] = await here.rpc("peers")
            return bool(row["connected"])

        await until(here, together)  # and no command dials
        adding.close()
        assert await here.read(f"/n/pi{pi.shared}/log") == b"before\nmore\n"


@pytest.mark.interop
async def test_what_is_open_when_a_node_restarts_ends_and_says_that_instead(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    await joined(network, "write:{shared}")
    (pi.shared / "log").write_text("before\n")
    following = await desk.node.begin("sh", "-c", f"tail -f /n/pi{pi.shared}/log")
    await read_until(following, lambda data: data == b"before\n")
    async with desk.node.client() as here:
        adding = await here.open(f"/n/pi{pi.shared}/log", OWRITE | OAPPEND)
        pi.suspend()
        perhaps = asyncio.create_task(refused(adding.write(b"perhaps\n"), E.NOTRECOVERABLE))
        await pi.node.signal(signal.SIGKILL)
        await pi.node.start()
        await perhaps
        _, err = await following.communicate()
        assert following.returncode == 1
        assert E.RESTARTED.text in err.decode()
        assert E.AWAY.text not in err.decode()
        adding.close()
        assert await here.read(f"/n/pi{pi.shared}/log") == b"before\n"
