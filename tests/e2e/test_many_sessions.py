"""Shells of two machines on a third at once, which end in every way there is: nothing of them is left."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.test_cli import LOOPBACK, Machine
from e2e.test_kept import begins, prints
from e2e.typing import Terminal

ENTER = "\r"
CUT = "the link is cut, without a word"
WAYS = ("exit", "~.", "closed", "SIGTERM", "SIGKILL", CUT)
BOTH = ("closed", CUT)
"""Of these one shell is kept and one is not; of the others one each, in turn."""
WHAT_RUNS = """
cat /proc/kept
for p in /proc/[0-9]*; do
    a=$(cat $p/args)
    case $a in peer*) echo $a $(cat $p/mem-limits);; *) echo $a;; esac
done"""


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine, Machine]]:
    """Desk and lap, which both joined pi, and pi."""
    place = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    desk, lap, pi = all_three = tuple(Machine(place, name) for name in ("desk", "lap", "pi"))
    for machine in all_three:
        machine.env["TERM"] = "xterm"
        assert machine.run("up", "--name", machine.name, *LOOPBACK).returncode == 0
    for machine in (desk, lap):
        machine.says("join", pi.asks("invite", "--grant", "run")["ticket"])
    yield desk, lap, pi
    for machine in all_three:
        machine.stop()
    shutil.rmtree(place)


def in_use(machine: Machine, pid: int) -> tuple[int, int, list[str]]:
    """Its node's descriptors and children; what runs there, and what is left to each machine that it is linked to."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(os.listdir(f"/proc/{pid}/fd")), len(children), sorted(machine.says("sh", "-c", WHAT_RUNS).splitlines())


def leave(user: Terminal, way: str) -> None:
    if way == "exit":
        user.type("exit 5" + ENTER)
        assert user.ends() == 5
    elif way == "~.":
        user.type("~.")
        user.shows("left pi")
        assert user.ends() == 137
    elif way == "closed":
        user.hang_up()
    elif way != CUT:
        user.signal(signal.Signals[way])
    user.process.wait()


@pytest.mark.long
def test_sessions_of_two_machines_end_in_every_way_and_leave_nothing(
    machines: tuple[Machine, Machine, Machine],
) -> None:
    desk, lap, pi = machines
    pids = {machine: machine.asks("status")["pid"] for machine in machines}
    for machine in (desk, lap):
        assert machine.run("cpu", "pi", "true").returncode == 0
    before = {machine: in_use(machine, pids[machine]) for machine in (desk, pi)}
    kept = {desk: set[int](), lap: set[int]()}
    with ExitStack() as stack:
        users: list[tuple[str, Terminal]] = []
        for index, way in enumerate(WAYS):
            machine = lap if way == CUT else desk
            for options in (["--keep"], []) if way in BOTH else ([], ["--keep"])[index % 2 :][:1]:
                user = stack.enter_context(machine.terminal("cpu", *options, "pi"))
                user.resize(20 + len(users), 80)
                users.append((way, user))
                if options:
                    kept[machine].add(begins(user))
                else:
                    user.shows("pi%")
        for index, (_, user) in enumerate(users):
            prints(user, f"x={index}; cat /dev/winsize; echo -$x-", f"{20 + index} 80\n-{index}-\n")
        os.kill(pids[lap], signal.SIGKILL)
        for way, user in users:
            leave(user, way)
    assert lap.run("up").returncode == 0
    for machine, mine in kept.items():
        assert mine
        assert {row["id"] for row in machine.asks("cpu", "-l", "pi")} == mine
        machine.says("sh", "-c", "; ".join(f"cpu --end {number} pi" for number in mine))
    for machine, was in before.items():
        while (now := in_use(machine, pids[machine])) != was:
            print(machine.name, was, now)  # what a test that ends for its time shows
