"""Twenty shells of two machines on a third at once, which end in every way there is: nothing of them is left."""

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
WAYS = ("exit", "~.", "closed", "SIGTERM", "SIGKILL")


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


def in_use(machine: Machine) -> tuple[int, list[list[str]], str, int]:
    """Its node's descriptors and children, its processes, and what is left to each machine that it is linked to."""
    pid = machine.asks("status")["pid"]
    text = (
        "cat /proc/kept; for p in /proc/[0-9]*; do case $(cat $p/args) in peer*) cat $p/args $p/mem-limits; esac; done"
    )
    rows = [row["argv"] for row in machine.asks("ps") if row["argv"][:1] not in (["sh"], ["cognu"], ["ps"])]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(os.listdir(f"/proc/{pid}/fd")), sorted(rows), machine.says("sh", "-c", text), len(children)


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
        user.process.wait()
    else:
        user.signal(signal.Signals[way])
        user.process.wait()


@pytest.mark.long
def test_twenty_sessions_of_two_machines_end_in_every_way_and_leave_nothing(
    machines: tuple[Machine, Machine, Machine],
) -> None:
    desk, lap, _ = machines
    for machine in (desk, lap):
        assert machine.run("cpu", "pi", "true").returncode == 0
    before = [in_use(machine) for machine in machines]
    with ExitStack() as stack:
        users: list[tuple[Machine, str, Terminal, int]] = []
        for machine in (desk, lap):
            for way in WAYS:
                for options in ([], ["--keep"]):
                    user = stack.enter_context(machine.terminal("cpu", *options, "pi"))
                    users.append((machine, way, user, bool(options)))
        kept: list[tuple[Machine, int]] = []
        for index, (machine, way, user, keeps) in enumerate(users):
            user.resize(20 + index, 80)
            if keeps:
                number = begins(user)
                if way != "exit":
                    kept.append((machine, number))
            else:
                user.shows("pi%")
        for index, (_, _, user, _) in enumerate(users):
            prints(user, f"x={index}; cat /dev/winsize; echo -$x-", f"{20 + index} 80\n-{index}-\n")
        for _, way, user, _ in users:
            leave(user, way)
    for machine in (desk, lap):
        mine = {number for whose, number in kept if whose is machine}
        assert {row["id"] for row in machine.asks("cpu", "-l", "pi")} == mine
        machine.says("sh", "-c", "; ".join(f"cpu --end {number} pi" for number in mine))
    for machine, was in zip(machines, before, strict=True):
        while (now := in_use(machine)) != was:
            print(machine.name, was, now)  # what a test that ends for its time shows
