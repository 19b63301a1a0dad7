"""A person edits lines at a prompt, near and through `cpu`: keys, history, completion, window, modes, suspension."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cognu.errors import E
from e2e.test_cli import LOOPBACK, Machine
from e2e.typing import Terminal

PROMPT = "%"
"""Of either machine."""
LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"
ENTER, TAB, RUBOUT = "\r", "\t", "\x7f"
CTRL_A, CTRL_C, CTRL_D, CTRL_E, CTRL_R, CTRL_W, CTRL_Z = "\x01", "\x03", "\x04", "\x05", "\x12", "\x17", "\x1a"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Desk, and pi, which it joined; both with terminals that can be edited on."""
    import tempfile

    place = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    desk, pi = (Machine(place, name) for name in ("desk", "pi"))
    for machine in (desk, pi):
        machine.env["TERM"] = "xterm"
        assert machine.run("up", "--name", machine.name, *LOOPBACK).returncode == 0
    desk.says("join", pi.asks("invite", "--grant", f"read:{pi.work},net,run")["ticket"])
    (desk.work / "notes one").write_text("in the notes\n")
    (desk.work / "letters").mkdir()
    (desk.work / "letters" / "first").write_text("in the letter\n")
    (desk.work / "letters" / "second").write_text("in the second\n")
    yield desk, pi
    for machine in (desk, pi):
        machine.stop()
    shutil.rmtree(place)


@pytest.fixture
def desk(machines: tuple[Machine, Machine]) -> Machine:
    return machines[0]


@pytest.fixture(params=["near", "far"])
def user(machines: tuple[Machine, Machine], request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """Somebody at a prompt of desk's own, or at one of pi's that desk's terminal shows."""
    desk, _ = machines
    words = ["sh"] if request.param == "near" else ["cpu", "pi"]
    with desk.terminal(*words) as terminal:
        terminal.resize(24, 80)
        terminal.shows(PROMPT)
        yield terminal


def prints(user: Terminal, typed: str, *lines: str) -> None:
    """Type it; the lines must come, each at the beginning of one, and then a prompt."""
    user.type(typed + ENTER)
    user.shows(*(f"\n{line}" for line in lines), PROMPT)


def test_a_line_is_edited(user: Terminal) -> None:
    prints(user, "echo hxllo" + LEFT * 3 + RUBOUT + "e", "hello\n")
    prints(user, "cho word" + CTRL_A + "e" + CTRL_E + "s" + LEFT + RIGHT + "!", "words!\n")
    prints(user, "echo one two" + CTRL_W + "three", "one three\n")
    prints(user, "echo ä日本x" + LEFT + RUBOUT + "-", "ä日-x\n")


def test_lines_are_recalled_and_searched(user: Terminal) -> None:
    prints(user, "echo first", "first\n")
    prints(user, "echo other", "other\n")
    prints(user, UP + UP + " again", "first again\n")
    prints(user, UP + UP + DOWN + "!", "first again!\n")
    user.type(CTRL_R + "oth")
    user.shows("oth")
    user.type(ENTER + CTRL_E + " found")
    prints(user, "", "other found\n")
    prints(user, "history 2", "    ")


def test_a_script_of_several_lines_is_one_entry(user: Terminal) -> None:
    user.type("for x in 1 2" + ENTER)
    user.shows(">")
    user.type("do echo -$x; done" + ENTER)
    user.shows("\n-1\n-2\n", PROMPT)
    prints(user, UP, "-1\n-2\n")
    user.type("cat <<E" + ENTER + "a b" + ENTER + "E" + ENTER)
    user.shows("\na b\n", PROMPT)


def test_tab_completes_paths_commands_variables_and_nodes(user: Terminal) -> None:
    for text, drawn in (
        ("cat no", "tes\\ one"),
        ("cat 'no", "tes one'"),
        ("cat let", "ters/"),
        ("hist", "ory"),
        ("echo $HO", "ME"),
        ("ls --js", "on"),
    ):
        user.type(text + TAB)
        user.shows(drawn)
        user.type(CTRL_C)
        user.shows("\n", PROMPT)  # the one after it
    user.type("cat no" + TAB)
    user.shows("one")
    prints(user, "", "in the notes\n")
    user.type("cat let" + TAB)
    user.shows("ters/")
    user.type(TAB)
    user.shows("first", "second", PROMPT)
    user.type("s" + TAB)
    user.shows("econd")
    prints(user, "", "in the second\n")


def test_tab_completes_the_name_of_a_node(desk: Machine) -> None:
    with desk.terminal("sh") as user:
        user.shows(PROMPT)
        user.type("cpu p" + TAB)
        user.shows("i")
        prints(user, "echo there", "there\n")


def test_the_size_of_a_window_is_seen_after_it_changed(user: Terminal) -> None:
    prints(user, "cat /dev/winsize", "24 80\n")
    user.resize(33, 60)
    prints(user, "cat /dev/winsize", "33 60\n")
    # The line editor wraps what is longer than the window is wide now.
    prints(user, "echo " + "x" * 70, "x" * 70 + "\n")
    user.type("head -n 1 /dev/cons; cat /dev/winsize" + ENTER)
    user.shows("winsize", "\n")
    while not user.as_before():
        pass
    user.resize(40, 90)
    user.type("line" + ENTER)
    user.shows("40 90\n", PROMPT)


def test_what_is_typed_ahead_is_for_the_prompts_to_come(user: Terminal) -> None:
    numbers = range(12)
    user.type("".join(f"echo all-{number}{ENTER}" for number in numbers))
    user.shows(*(f"\nall-{number}\n" for number in numbers), PROMPT)
    for number in numbers:  # each at the moment when the command before is over
        user.type(f"echo each-{number}{ENTER}")
        user.shows(f"\neach-{number}\n")
    user.type("false" + ENTER + CTRL_D)
    assert user.ends() == 1


def test_commands_have_the_terminal_in_its_own_modes_or_raw(user: Terminal) -> None:
    user.type("cat" + ENTER)
    user.shows("cat", "\n")
    while not user.as_before():
        pass  # until the editor has let go of it
    user.type("typed\n")
    user.shows("typed\ntyped\n")
    user.type(CTRL_D)
    user.shows(PROMPT)
    user.type("echo begun; { echo rawon; head -n 1; } > /dev/consctl" + ENTER)
    user.shows("\nbegun\n")
    while termios.tcgetattr(user.slave)[3] & termios.ICANON:
        pass
    user.type("\n")
    user.shows(PROMPT)


def test_ctrl_c_drops_a_line_and_ends_a_command(user: Terminal) -> None:
    user.type("echo never" + CTRL_C)
    user.shows("\n", PROMPT)
    prints(user, "echo $?", "130\n")
    user.type("echo begun; sleep 1000" + ENTER)
    user.shows("\nbegun\n")
    user.interrupt()
    user.shows(PROMPT)
    user.type("while true; do :; done" + ENTER)
    user.shows("done", "\n")
    while not user.as_before():
        pass
    user.interrupt()
    user.shows(PROMPT)
    prints(user, "echo $?", "130\n")


def test_a_quit_ends_what_runs_and_not_the_shell(user: Terminal) -> None:
    user.type("echo begun; sleep 1000" + ENTER)
    user.shows("\nbegun\n")
    user.type("\x1c")
    user.shows(PROMPT)
    prints(user, "echo $?", "130\n")


@pytest.mark.parametrize("words", ["sh", "cpu pi"])
def test_ctrl_d_ends_the_shell_on_an_empty_line_only(desk: Machine, words: str) -> None:
    with desk.terminal(*words.split()) as user:
        user.shows(PROMPT)
        user.type("xfalse" + CTRL_A + CTRL_D + ENTER)
        user.shows("\n", PROMPT)
        user.type(CTRL_D)
        assert user.ends() == 1
        assert user.as_before()


@contextmanager
def host_shell(machine: Machine) -> Iterator[Terminal]:
    """A host's shell with job control, in which `cognu` is started."""
    env = {**machine.env, "PS1": "host$ "}
    with Terminal(["/bin/bash", "--norc", "--noediting", "-i"], env, machine.work) as user:
        user.shows("host$ ")
        yield user
        user.type("exit\n")
        user.ends()


@pytest.mark.parametrize("words", ["sh", "cpu pi"])
def test_ctrl_z_suspends_the_shell_and_it_goes_on_with_its_line(desk: Machine, words: str) -> None:
    from e2e.test_cli import COGNU

    with host_shell(desk) as user:
        user.type(f"{COGNU} {words}\n")
        user.shows(PROMPT)
        user.type("echo kept" + CTRL_Z)
        user.shows("Stopped", "host$ ")
        user.type("echo on $((1+1)) the host\n")
        user.shows("on 2 the host\n", "host$ ")
        user.type("fg\n")
        user.shows(PROMPT)
        prints(user, " on", "kept on\n")
        user.type("sleep 1000" + ENTER)
        user.shows("1000", "\n")
        while not termios.tcgetattr(user.slave)[3] & termios.ICANON:
            pass  # until the editor has let go of it
        user.type(CTRL_Z)
        user.shows("Stopped", "host$ ")
        user.type("fg\n")
        user.shows(words, "\n")
        while user.reads() == user.process.pid:
            pass  # until the host's shell has given the terminal away
        user.interrupt()
        user.shows(PROMPT)
        user.type("exit 3" + ENTER)
        user.shows("host$ ")
        user.type("echo $?\n")
        user.shows("\n3\n", "host$ ")


def test_lines_are_kept_for_the_next_shell_and_for_nobody_else(desk: Machine) -> None:
    for number in range(2):
        with desk.terminal("sh") as user:
            user.shows(PROMPT)
            if number:
                prints(user, UP + UP, "kept 0\n")
            else:
                prints(user, "echo kept 0", "kept 0\n")
                prints(user, " echo secret", "secret\n")
            user.type("exit" + ENTER)
            assert user.ends() == 0
    kept = desk.home / "history"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "secret" not in kept.read_text()


def test_one_word_for_a_far_shell_is_a_line_of_it(desk: Machine) -> None:
    assert desk.says("cpu", "pi", "echo a b | wc -w; cat /dev/sysname").split() == ["2", "pi"]
    assert desk.says("sh", "-c", "cpu pi 'x=1; echo -$x-'") == "-1-\n"
    assert desk.says("cpu", "pi", "echo", "a | b", "$x") == "a | b $x\n"
    assert desk.run("cpu", "pi", "exit 7").returncode == 7
    assert E.SYNTAX.text.encode() in desk.run("cpu", "pi", "echo |").stderr


@pytest.mark.parametrize(
    ("words", "begun"),
    [
        (["sh"], PROMPT),
        (["cpu", "pi"], PROMPT),
        (["cpu", "pi", "echo begun; sleep 1000"], "begun\n"),
        (["sh", "-c", "echo begun; sleep 1000"], "begun\n"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_shell_without_a_word_of_the_node(
    desk: Machine, words: list[str], begun: str, number: signal.Signals
) -> None:
    with desk.terminal(*words) as user:
        user.shows(begun)
        user.signal(number)
        assert user.ends() == 128 + number
        assert user.as_before()
        assert "node" not in user.shown


@pytest.mark.parametrize("away", [False, True])
def test_a_far_shell_is_left_by_an_escape_also_if_its_machine_is_away(
    machines: tuple[Machine, Machine], away: bool
) -> None:
    desk, pi = machines
    node = pi.asks("status")["pid"]
    with desk.terminal("sh") as user:
        user.shows(PROMPT)
        user.type("cpu pi" + ENTER)
        user.shows("\n", PROMPT)
        prints(user, "cat /dev/sysname; echo '~~.'", "pi~~.\n")
        prints(user, "echo '" + ENTER + "~~.'", "~.\n")
        if away:
            os.kill(node, signal.SIGSTOP)
        try:
            user.type("~.")
            user.shows("left pi", "\n", PROMPT)
            prints(user, "echo $?; cat /dev/sysname; echo", "137\ndesk\n")
        finally:
            os.kill(node, signal.SIGCONT)
        user.type(CTRL_D)
        assert user.ends() == 0
        assert user.as_before()
    assert desk.says("cpu", "pi", "echo", "again") == "again\n"


def test_the_prompt_tells_whose_it_is_and_may_be_set(desk: Machine) -> None:
    with desk.terminal("sh") as user:
        user.shows("cognu%")
        user.type("PS1='mine> ' PS2='more> '" + ENTER)
        user.shows("\n", "mine>")
        user.type("cpu pi" + ENTER)
        user.shows("\n", "pi%")
        user.type("PS1='there> '" + ENTER)
        user.shows("\n", "there>")
        user.type("exit" + ENTER)
        user.shows("\n", "mine>")
        user.type("echo 'a" + ENTER)
        user.shows("more>")
        user.type("b'; unset PS1" + ENTER)
        user.shows("\na\nb\n", "cognu%")
