"""Questions that a command asks at the host's terminal: only what is typed to them is an answer."""

from __future__ import annotations

import asyncio
import os
import select
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cognu.cli.answers import echoing, fresh_line


@dataclass
class Keyboard:
    """A pseudo-terminal: what is typed at `keys` comes at `terminal`."""

    keys: int
    terminal: int
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def type(self, text: str) -> None:
        os.write(self.keys, text.encode())


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    keys, terminal = os.openpty()
    yield Keyboard(keys, terminal)
    os.close(terminal)
    os.close(keys)


@pytest.mark.parametrize("before", ["y\n", "y\ny\ny\n", "y", "n\ny", "\x04"])
async def test_what_is_typed_before_the_question_is_no_answer(keyboard: Keyboard, before: str) -> None:
    keyboard.type(before)
    answer = asyncio.ensure_future(fresh_line(keyboard.terminal, keyboard.asked.set))
    await keyboard.asked.wait()
    await asyncio.sleep(0)
    assert not answer.done()
    keyboard.type("no\n")
    assert await answer == "no"


async def test_the_line_that_is_typed_to_the_question_is_the_answer_and_no_other(keyboard: Keyboard) -> None:
    answer = asyncio.ensure_future(fresh_line(keyboard.terminal, keyboard.asked.set))
    await keyboard.asked.wait()
    keyboard.type(" yes \ny\n")
    assert await answer == "yes"
    # The line after it was typed before the next question.
    keyboard.asked.clear()
    again = asyncio.ensure_future(fresh_line(keyboard.terminal, keyboard.asked.set))
    await keyboard.asked.wait()
    keyboard.type("n\n")
    assert await again == "n"


def test_what_is_typed_unseen_is_not_echoed_and_nobody_else_gets_what_is_left_of_it(keyboard: Keyboard) -> None:
    def echoes() -> bool:
        return bool(termios.tcgetattr(keyboard.terminal)[3] & termios.ECHO)

    with echoing(keyboard.terminal, False):
        keyboard.type("71-4831-9052\n")
        with echoing(keyboard.terminal, True):
            assert echoes()
        assert not echoes()
        assert select.select([keyboard.terminal], [], [], 10)[0]  # it has come by now
    assert echoes()
    keyboard.type("next\n")
    assert os.read(keyboard.terminal, 100) == b"next\n"
    assert os.read(keyboard.keys, 100) == b"next\r\n"


async def test_the_end_of_the_input_is_an_empty_answer(keyboard: Keyboard) -> None:
    answer = asyncio.ensure_future(fresh_line(keyboard.terminal, keyboard.asked.set))
    await keyboard.asked.wait()
    keyboard.type("\x04")
    assert await answer == ""


async def test_a_terminal_that_is_hung_up_is_an_empty_answer() -> None:
    keys, terminal = os.openpty()
    asked = asyncio.Event()
    answer = asyncio.ensure_future(fresh_line(terminal, asked.set))
    await asked.wait()
    os.close(keys)
    assert await answer == ""
    os.close(terminal)


async def test_a_question_that_is_withdrawn_takes_nothing(keyboard: Keyboard) -> None:
    answer = asyncio.ensure_future(fresh_line(keyboard.terminal, keyboard.asked.set))
    await keyboard.asked.wait()
    answer.cancel()
    await asyncio.wait({answer})
    keyboard.type("ls\n")
    assert await asyncio.to_thread(os.read, keyboard.terminal, 100) == b"ls\n"
