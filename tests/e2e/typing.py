"""A person at a terminal: a program on a pseudo-terminal, what is typed there, and what it shows."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Movements of the cursor, colours and the like; what one ends in is what a line editor drew anew."""


class Terminal:
    """A pseudo-terminal with one program on it, in a session of its own. Leaving it hangs up and kills."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.master, slave = os.openpty()
        self.modes = termios.tcgetattr(slave)
        self.slave = slave
        self._life, held = os.pipe()  # at its end when the program is, which holds the other end
        command = [sys.executable, "-c", _TAKE_TERMINAL, *argv]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=dict(env), cwd=cwd, start_new_session=True,
            pass_fds=(held,),
        )  # fmt: skip
        os.close(held)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for descriptor in (self.slave, self.master, self._life):
            os.close(descriptor)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def shows(self, *texts: str) -> str:
        """Wait until it shows the texts, one after the other, from where the last call left off; what came before.

        Fails when the program has ended and can show nothing any more.
        """
        before = ""
        for text in texts:
            while text not in self.shown:
                ready, _, _ = select.select([self.master, self._life], [], [])
                assert self.master in ready, (
                    f"it has ended and never showed {text!r}, after {before!r} but {self.shown!r}"
                )
                data = os.read(self.master, 65536).decode("utf-8", "replace")
                self.shown = _CONTROLS.sub("", self.shown + data).replace("\r\n", "\n")
            piece, _, self.shown = self.shown.partition(text)
            before += piece
        return before

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.type("\x03")

    def resize(self, rows: int, columns: int) -> None:
        """As a window does; the system tells the programs on it."""
        termios.tcsetwinsize(self.master, (rows, columns))

    def hang_up(self) -> None:
        """As a window does that is closed."""
        os.close(self.master)
        self.master = os.open(os.devnull, os.O_RDWR)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        """The exit status, once it has ended; what it still shows is taken, lest it wait for that."""
        os.set_blocking(self.master, False)
        while True:
            try:
                self.shown += os.read(self.master, 65536).decode("utf-8", "replace").replace("\r\n", "\n")
            except BlockingIOError:
                if self.process.poll() is not None:
                    break
        os.set_blocking(self.master, True)
        return self.process.returncode

    def reads(self) -> int:
        """The process group that has the terminal, and gets its signals."""
        return os.tcgetpgrp(self.master)

    def as_before(self) -> bool:
        """Whether the terminal's modes are those it had at the start."""
        return bool(termios.tcgetattr(self.slave) == self.modes)
