"""What is typed at the host's terminal in answer to a question."""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cognu.errors import from_oserror

ANSWER_LIMIT = 4096
"""Bytes of a line, as a terminal gives them at most (termios(3), canonical mode)."""


@contextmanager
def echoing(terminal: int, on: bool) -> Iterator[None]:
    """Whether what is typed meanwhile is seen at the terminal. If not, what nobody has read in the end is dropped, as
    it was meant for nobody else. The terminal is left alone while another job has it, which would stop this one.
    """
    if not _has(terminal):
        yield
        return
    before = termios.tcgetattr(terminal)
    meanwhile = termios.tcgetattr(terminal)
    meanwhile[3] = meanwhile[3] | termios.ECHO if on else meanwhile[3] & ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, meanwhile)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW if on else termios.TCSAFLUSH, before)


def _has(terminal: int) -> bool:
    """Whether no other job has it."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise from_oserror(error, "the terminal") from None
        return True  # it controls no jobs (tcgetpgrp(3))


async def fresh_line(terminal: int, ask: Callable[[], object]) -> str:
    """Have the question shown by `ask`, and wait for the line that is typed from then on at the terminal, a descriptor
    in canonical mode. What was typed before, a whole line or the beginning of one, can't be meant for an answer and is
    dropped. Empty at the end of the input, as when the terminal is hung up. Cancelled, it takes nothing.
    """
    termios.tcflush(terminal, termios.TCIFLUSH)
    ask()
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(terminal, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(terminal)
    # Not through a buffer of Python's, where what came before could wait.
    try:
        return os.read(terminal, ANSWER_LIMIT).decode("utf-8", "replace").strip()
    except OSError as error:
        if error.errno != errno.EIO:
            raise from_oserror(error, "the terminal") from None
        return ""  # hung up (termios(3))
