"""A shell on another machine, and what of the machines behind it and behind its terminal it reaches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cognu.errors import E
from e2e.harness import LOOPBACK, Ended, NodeProcess, end, join, log_trouble
from programs.build import build


@dataclass
class Three:
    """Desk may run programs on pi and on sea and read `shared` of sea; so may pi on sea, of which desk has nothing."""

    desk: NodeProcess
    pi: NodeProcess
    sea: NodeProcess
    work: Path
    shared: Path

    async def cpu(self, text: str, *options: str) -> Ended:
        """A line for a shell on pi, typed on desk."""
        return await self.desk.command("cpu", *options, "pi", text, cwd=self.work)


@asynccontextmanager
async def three(place: Path) -> AsyncIterator[Three]:
    work, shared = place / "work", place / "sea-shared"
    for directory in (work, shared):
        directory.mkdir()
    (shared / "chart.txt").write_text("of sea\n")
    (work / "notes.txt").write_text("of desk\n")
    desk, pi, sea = nodes = [NodeProcess(place / name, name, *LOOPBACK) for name in ("desk", "pi", "sea")]
    try:
        await asyncio.gather(*(node.start() for node in nodes))
        await join(pi, desk, "run")
        for other in (desk, pi):
            await join(sea, other, "run", f"read:{shared}")
        yield Three(desk, pi, sea, work, shared)
    finally:
        await asyncio.gather(*map(end, nodes))
    assert [trouble for node in nodes for trouble in log_trouble(node)] == []


CHART = "chart.txt"


async def test_a_far_shell_goes_on_to_no_machine_in_its_machines_name(place: Path) -> None:
    async with three(place) as all_three, all_three.sea.client() as sea:
        before = {*await sea.list("/proc")}
        named = ("sea", "desk", "pi", "mars")
        (all_three.work / "wc.wasm").write_bytes(build("wc"))
        tried = (f"cpu {name} ls; echo $?; run --on {name} ./wc.wasm; echo $?" for name in named)
        ended = await all_three.cpu("\n".join(tried))
        assert ended.output == b"126\n" * 8, ended
        told = [line.partition(": ")[2] for line in ended.errors.decode().splitlines()]
        why = "a shell of desk's has none to go on to; at desk itself: cpu"
        assert told == [f"{name}: {E.NOPEER.text}: {why} {name}" for name in named for _ in range(2)]
        # Nor by a tree of its terminal's that looks like a machine.
        fake = all_three.work / "n" / "sea" / "proc"
        fake.mkdir(parents=True)
        (fake / "clone").write_text("1\n")
        ended = await all_three.cpu(f"bind '/mnt/term{all_three.work}/n' /n; cpu sea ls; cat /n/sea/proc/clone")
        assert ended.output == b"1\n", ended
        assert E.NOPEER.text.encode() in ended.errors, ended
        assert (fake / "clone").read_text() == "1\n"
        # Machines may have connected there meanwhile, for what they read themselves.
        begun = {*await sea.list("/proc")} - before
        assert {(await sea.read(f"/proc/{number}/args")).split()[0] for number in begun} <= {b"peer"}


async def test_a_far_shell_has_the_files_of_a_third_machine_that_its_terminal_lends_it_by_name(place: Path) -> None:
    async with three(place) as all_three, all_three.sea.client() as sea:
        shared = f"/n/sea{all_three.shared}"
        there = f"/mnt/term{shared}"
        typed = (
            f"cat {there}/{CHART}; echo x >{there}/new; echo $?; ls /mnt/term/n /mnt/term/n/sea; cat {shared}/{CHART}"
        )
        ended = await all_three.cpu(typed, f"--grant={shared}")
        top = all_three.shared.parts[1].encode()
        assert ended.output == b"of sea\n1\n/mnt/term/n:\nsea\n\n/mnt/term/n/sea:\n" + top + b"\n", ended
        assert ended.errors.count(E.NOENT.text.encode()) == 1, ended  # pi's own /n has no sea for it
        assert not (all_three.shared / "new").exists()
        beyond = await all_three.cpu(f"echo x >{there}/new; echo $?", f"--grant={shared}:rw")
        assert beyond.output == b"1\n", beyond  # what sea let desk do is not more by that
        assert not (all_three.shared / "new").exists()
        never = ("/n", "/n/sea", "/n/sea/proc", "/n/sea/proc/clone:rw", "/tmp/b")
        line = "; ".join(f"cpu --grant {path} pi ls /mnt/term; echo $?" for path in never)
        refused = await all_three.desk.command("sh", "-c", f"mkdir /tmp/b; bind /n/sea/proc /tmp/b; {line}")
        assert refused.output == b"126\n" * len(never), refused
        assert refused.errors.count(E.ACCES.text.encode()) == len(never), refused

        begun = await all_three.desk.begin(
            "cpu", f"--grant={shared}", "pi", f"cat {there}/{CHART}; read x; cat {there}/{CHART}"
        )
        assert begun.stdin is not None
        assert begun.stdout is not None
        assert await begun.stdout.readline() == b"of sea\n"
        await sea.rpc("revoke", peer="desk", grant=f"read:{all_three.shared}")
        out, errors = await begun.communicate(b"go\n")
        assert (out, begun.returncode) == (b"", 1), errors
        assert E.NOENT.text.encode() in errors
