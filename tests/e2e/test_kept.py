"""A shell on another machine that stays when its terminal goes, and is taken again (cpu(1), `--keep`)."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cognu.errors import E
from e2e.test_cli import LOOPBACK, Machine
from e2e.typing import Terminal

ENTER, CTRL_D = "\r", "\x04"
GRANTS = "net,run"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine, Machine]]:
    """Desk and lap, which both joined pi, and pi."""
    import tempfile

    place = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    desk, pi, lap = (Machine(place, name) for name in ("desk", "pi", "lap"))
    all_three = (desk, pi, lap)
    for machine in all_three:
        machine.env["TERM"] = "xterm"
        assert machine.run("up", "--name", machine.name, *LOOPBACK).returncode == 0
    for machine in (desk, lap):
        machine.says("join", pi.asks("invite", "--grant", GRANTS)["ticket"])
    (desk.work / "notes").write_text("of desk\n")
    yield desk, pi, lap
    for machine in all_three:
        machine.stop()
    shutil.rmtree(place)


@pytest.fixture
def desk(machines: tuple[Machine, Machine, Machine]) -> Machine:
    return machines[0]


@pytest.fixture
def pi(machines: tuple[Machine, Machine, Machine]) -> Machine:
    return machines[1]


@pytest.fixture
def lap(machines: tuple[Machine, Machine, Machine]) -> Machine:
    return machines[2]


def begins(user: Terminal) -> int:
    """The number of a shell that was just asked for, whose prompt is there now."""
    user.shows("[")
    said = user.shows(": kept for ")
    user.shows("pi%")
    return int(said)


def prints(user: Terminal, typed: str, *lines: str) -> None:
    """Type it; the lines must come, each at the beginning of one, and then a prompt."""
    user.type(typed + ENTER)
    user.shows(*(f"\n{line}" for line in lines), "pi%")


def kept(machine: Machine) -> dict[int, bool]:
    """By their numbers, whether a terminal has them."""
    return {row["id"]: row["shown"] for row in machine.asks("cpu", "-l", "pi")}


def free(desk: Machine, number: int) -> None:
    """Return when no terminal has it: what stands for the one that had it has ended."""
    while kept(desk)[number]:
        pass


def test_a_shell_goes_on_without_its_terminal_and_every_line_is_there_when_it_is_taken_again(desk: Machine) -> None:
    with desk.terminal("cpu", "--keep", "pi") as user:
        user.resize(24, 80)
        number = begins(user)
        prints(user, "x=kept; cat notes", "of desk\n")
        user.type("n=0; while [ $n -lt 400 ]; do n=$((n + 1)); echo line-$n; done; head -n 1" + ENTER)
        user.shows("\nline-1\n")
        user.signal(signal.SIGKILL)
        user.process.wait()
    with desk.terminal("cpu", "-d", "-a", str(number), "pi") as user:
        user.resize(40, 100)
        before = user.shows("\nline-400\n")
        assert re.findall(r"\nline-(\d+)", before) == [str(n) for n in range(1, 400)]
        user.type("typed\n")
        user.shows("typed\ntyped\n", "pi%")
        prints(user, "echo $x; cat /dev/winsize; cat notes", "kept\n40 100\nof desk\n")
        user.type("exit 5" + ENTER)
        assert user.ends() == 5
        assert user.as_before()
    assert kept(desk) == {}


@pytest.mark.long
def test_a_line_that_is_half_typed_is_there_at_a_window_of_another_size(desk: Machine) -> None:
    with desk.terminal("cpu", "--keep", "pi") as user:
        user.resize(24, 80)
        number = begins(user)
        user.type("echo half")
        user.shows("echo half")
        user.signal(signal.SIGKILL)
        user.process.wait()
    with desk.terminal("cpu", "-d", "-a", str(number), "pi") as user:
        user.resize(12, 40)
        user.shows("pi% echo half")
        user.type(" and half" + ENTER)
        user.shows("\nhalf and half\n", "pi%")
        prints(user, "cat /dev/winsize", "12 40\n")
        user.type(CTRL_D)
        assert user.ends() == 0
    assert kept(desk) == {}


@pytest.mark.long
@pytest.mark.parametrize("how", ["window", "escape", "SIGTERM", "node"])
def test_a_shell_is_kept_however_its_terminal_goes(desk: Machine, how: str) -> None:
    with desk.terminal("cpu", "--keep", "pi") as user:
        number = begins(user)
        prints(user, "x=kept", "")
        if how == "window":
            user.hang_up()
            user.process.wait()
        elif how == "escape":
            user.type("~.")
            user.shows("left pi")
            assert user.ends() == 128 + signal.SIGKILL
            assert user.as_before()
        elif how == "SIGTERM":
            user.signal(signal.SIGTERM)
            assert user.ends() == 128 + signal.SIGTERM
            assert user.as_before()
        else:
            os.kill(desk.asks("status")["pid"], signal.SIGKILL)
            user.process.wait()
            assert user.as_before()
            assert desk.run("up").returncode == 0
    with desk.terminal("cpu", "-d", "-a", str(number), "pi") as user:
        user.shows("pi%")
        prints(user, "echo $x", "kept\n")
        user.type(CTRL_D)
        assert user.ends() == 0


@pytest.mark.long
def test_one_terminal_has_it_and_another_may_take_it_but_no_other_machine(
    desk: Machine, pi: Machine, lap: Machine
) -> None:
    with desk.terminal("cpu", "--keep", "--for", "1000", "pi") as first:
        number = begins(first)
        with desk.terminal("cpu", "-a", str(number), "pi") as second:
            second.shows(E.BUSY.text)
            assert second.ends() == 126
        with lap.terminal("cpu", "-d", "-a", str(number), "pi") as second:
            second.shows(E.SRCH.text)
            assert second.ends() == 126
        assert lap.refuses(126, E.SRCH, "cpu", "--end", str(number), "pi")
        assert kept(lap) == {}
        assert kept(desk) == {number: True}
        [row] = pi.asks("cpu", "-l", "--here")
        assert (row["id"], row["user"], row["node"], row["seconds"]) == (number, "desk", "pi", 1000)
        assert str(number) in pi.says("cpu", "-l", "--here")
        with desk.terminal("cpu", "-d", "-a", str(number), "pi") as second:
            second.shows("pi%")
            first.shows("another terminal has taken it")
            assert first.ends() == 129
            assert first.as_before()
            prints(second, "echo $((6 * 7))", "42\n")
            assert desk.run("cpu", "--end", str(number), "pi").returncode == 0
            assert second.ends() == 137
            assert second.as_before()
    assert kept(desk) == {}
    assert pi.says("sh", "-c", "cat /proc/kept") == ""


@pytest.mark.long
def test_it_ends_with_the_right_to_run_with_its_time_and_with_its_node(desk: Machine, pi: Machine) -> None:
    with desk.terminal("cpu", "--keep", "pi") as shown, desk.terminal("cpu", "--keep", "pi") as gone:
        numbers = begins(shown), begins(gone)
        gone.type("~.")
        gone.ends()
        free(desk, numbers[1])
        pi.says("grants", "revoke", "desk", "run")
        shown.shows(E.REVOKED.text)
        assert shown.ends() == 1
        assert shown.as_before()
        assert pi.says("sh", "-c", "cat /proc/kept") == ""
    pi.says("grants", "set", "desk", "run")
    with desk.terminal("cpu", "--keep", "--for", "1", "pi") as user:
        number = begins(user)
        user.type("~.")
        user.ends()
        pi.run("wait", str(number))
    assert kept(desk) == {}
    with desk.terminal("cpu", "--keep", "pi") as user:
        begins(user)
        pi.says("down")
        user.ends()
        assert user.as_before()
    pi.run("up")
    assert kept(desk) == {}


@pytest.mark.long
def test_eight_shells_at_once_and_one_in_another(desk: Machine, pi: Machine) -> None:
    with ExitStack() as many:
        users = [many.enter_context(desk.terminal("cpu", "--keep", "pi")) for _ in range(4)]
        users += [many.enter_context(desk.terminal("cpu", "pi")) for _ in range(4)]
        numbers = [begins(user) for user in users[:4]]
        assert len(set(numbers)) == 4
        for index, user in enumerate(users):
            user.resize(20 + index, 80)
            user.type(f"x={index}" + ENTER)
        for index, user in enumerate(users):
            user.shows("pi%")
            prints(user, "echo -$x-; cat /dev/winsize", f"-{index}-\n{20 + index} 80\n")
        for index, user in enumerate(users):
            user.type(f"exit {index}" + ENTER)
            assert user.ends() == index
    assert kept(desk) == {}


def test_what_keeping_takes_is_said(desk: Machine) -> None:
    for words in (
        ["--keep", "pi"], ["-a", "3", "pi"], ["--for", "3", "pi"], ["-d", "pi"], ["-l", "pi", "x"], ["--json", "pi"],
        [], ["--end", "x", "pi"], ["-e", "1=2", "pi"], ["-e", "NOT_SET_AT_ALL", "pi"],
    ):  # fmt: skip
        assert E.USAGE.text in desk.run("cpu", *words).stderr.decode(), words
        assert desk.run("cpu", *words).returncode == 2
    desk.refuses(1, E.NOPEER, "cpu", "-l", "mars")
