"""What is on the screen when a kept shell is taken again, in a window of another size."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

import pyte
import pytest

from e2e.test_cli import Machine
from e2e.test_kept import desk, machines
from e2e.typing import Terminal

__all__ = ["desk", "machines"]  # fixtures
ENTER, CTRL_D = "\r", "\x04"
Lines = list[str]


class Window:
    """The screen of somebody's terminal."""

    def __init__(self, user: Terminal, rows: int, columns: int) -> None:
        user.resize(rows, columns)
        self._user = user
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)

    def shows(self, so: Callable[[Lines], bool]) -> Lines:
        """Its lines, once they are so; blank ones at the end and blanks at the ends of lines are left out."""
        while not so(lines := "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")):
            ready, _, _ = select.select([self._user.master], [], [])
            self._stream.feed(os.read(ready[0], 65536))
            print(*lines, sep="\n")  # what a test that ends for its time shows
        return lines


def left(user: Terminal) -> None:
    user.signal(signal.SIGKILL)
    user.process.wait()


@pytest.mark.long
def test_what_draws_the_whole_screen_is_right_in_a_window_of_another_size(desk: Machine) -> None:
    with desk.terminal("cpu", "--keep", "pi") as user:
        window = Window(user, 24, 80)
        [said, _] = window.shows(lambda lines: lines[-1] == "pi%")
        number = said[1:].partition(":")[0]
        user.type("top" + ENTER)
        window.shows(lambda lines: lines[0].split()[:2] == ["PID", "USER"])
        left(user)
    with desk.terminal("cpu", "-d", "-a", number, "pi") as user:
        window = Window(user, 10, 50)
        lines = window.shows(lambda lines: lines[0].endswith("\u2026") and len(lines) > 1)
        assert all(line.split()[0].isdecimal() for line in lines[1:]), lines
        user.type("q")
        window.shows(lambda lines: lines[-1] == "pi%")
        user.type("exit 3" + ENTER)
        assert user.ends() == 3


@pytest.mark.long
@pytest.mark.parametrize(("rows", "columns"), [(12, 40), (40, 120)])
def test_a_line_being_typed_is_right_in_a_window_of_another_size(desk: Machine, rows: int, columns: int) -> None:
    words = "echo one two three four five six seven eight nine ten eleven twelve"
    with desk.terminal("cpu", "--keep", "pi") as user:
        window = Window(user, 24, 80)
        [said, _] = window.shows(lambda lines: lines[-1] == "pi%")
        number = said[1:].partition(":")[0]
        user.type("echo before" + ENTER)
        window.shows(lambda lines: lines[-2:] == ["before", "pi%"])
        user.type(words)
        window.shows(lambda lines: lines[-1] == f"pi% {words}")
        left(user)
    line = f"pi% {words}"
    folded = [line[at : at + columns].rstrip() for at in range(0, len(line), columns)]
    with desk.terminal("cpu", "-d", "-a", number, "pi") as user:
        window = Window(user, rows, columns)
        window.shows(lambda lines: lines[-len(folded) :] == folded)
        user.type("!")
        folded[-1] += "!"
        window.shows(lambda lines: lines[-len(folded) - 2 :] == ["pi% echo before", "before", *folded])
        user.type(ENTER)
        printed = [f"{line[9:]}!"[at : at + columns].rstrip() for at in range(0, len(line) - 8, columns)]
        end = ["pi% echo before", "before", *folded, *printed, "pi%"]
        window.shows(lambda lines: lines[-len(end) :] == end)
        user.type(CTRL_D)
        assert user.ends() == 0
