"""What the demo is made of: machines, each a node with a home of its own, and the commands typed on them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COGNU = str(Path(sys.executable).with_name("cognu"))
PATIENCE = 30.0
"""Seconds that one command may take before the demo gives up on it."""
NOT_RUNNING = 3
"""The exit status of a command that finds no node."""
SHOWN_LINES = 12
LONG = 100
"""Characters of a line, or of a word, above which its middle is left out where it is shown."""


class Failed(Exception):
    """A step did not check out; the text says what was wanted and what came."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Failed(what)


def same(got: object, wanted: object, what: str) -> None:
    need(got == wanted, f"{what}: wanted {wanted!r}, got {got!r}")


def shorten(text: str) -> str:
    return text if len(text) <= LONG else f"{text[: LONG - 20]}…{text[-19:]}"


def show(text: str) -> None:
    """What came, as a terminal would have it, but not more than fits."""
    lines = text.splitlines()
    for line in lines[:SHOWN_LINES]:
        print(f"    {shorten(line)}")
    if len(lines) > SHOWN_LINES:
        print(f"    … {len(lines) - SHOWN_LINES} more lines")


def found(text: str) -> None:
    print(f"  + {text}")


@dataclass(frozen=True)
class Ran:
    """A command that ended. `seconds` is how long it took, start of the OS process included."""

    status: int
    out: str
    err: str
    seconds: float


@dataclass
class Machine:
    """A node, and a user at its keyboard. `work` is where that user's files are."""

    name: str
    home: Path
    work: Path
    pid: int = 0
    """The node's, once it told."""
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *options: str) -> Ran:
        """Start the node."""
        ran = self.types("up", "--name", self.name, *options)
        self.pid = self.asks("status")["pid"]
        return ran

    def types(self, *words: str, stdin: str = "", status: int = 0) -> Ran:
        """Type `cognu WORDS`, show it and what came, and check its exit status."""
        self.shows(list(words))
        ran = self.quietly(*words, stdin=stdin)
        show(ran.out)
        show(ran.err)
        need(ran.status == status, f"cognu {words[0]}: exit status {ran.status} instead of {status}")
        return ran

    def refused(self, *words: str, status: int | None = None) -> Ran:
        """Type a command that must fail, with `status` if that is given."""
        self.shows(list(words))
        ran = self.quietly(*words)
        show(ran.out)
        show(ran.err)
        need(ran.status != 0, f"cognu {words[0]} should have been refused")
        need(status in (None, ran.status), f"cognu {words[0]}: exit status {ran.status} instead of {status}")
        return ran

    def quietly(self, *words: str, stdin: str = "") -> Ran:
        began = time.monotonic()
        typed = self._popen(list(words))
        try:
            out, err = typed.communicate(stdin, timeout=PATIENCE)
        except subprocess.TimeoutExpired as slow:
            raise Failed(f"cognu {' '.join(words)}: no end after {slow.timeout:.0f} s") from None
        except KeyboardInterrupt:
            # Ctrl-C while a node starts: it would be there after we looked for what to stop.
            if words[0] == "up":
                typed.wait(PATIENCE)
            raise
        finally:
            _kill(typed)
        return Ran(typed.returncode, out, err, time.monotonic() - began)

    def asks(self, *words: str) -> Any:
        """What a command says with --json, not shown."""
        ran = self.quietly(*words, "--json")
        need(ran.status == 0, f"cognu {' '.join(words)}: {ran.err.strip()}")
        return json.loads(ran.out)

    def begins(self, *words: str) -> subprocess.Popen[str]:
        """Type a command that goes on while others are typed; it is ended when the demo is."""
        self.shows([*words, "&"])
        started = self._popen(list(words))
        self.running.append(started)
        return started

    def process(self, program: str, started: subprocess.Popen[str]) -> dict[str, Any]:
        """The row of `ps` for a program that `begins` started, as soon as there is one."""
        until = time.monotonic() + PATIENCE
        while True:
            for row in self.asks("ps"):
                if row["argv"] and program in row["argv"][0] and row["state"] != "dead":
                    return dict(row)
            if started.poll() is not None:
                assert started.stderr is not None
                raise Failed(f"{program} ended before ps could show it: {started.stderr.read().strip()}")
            need(time.monotonic() < until, f"ps on {self.name} never showed {program}")

    def log_tail(self, lines: int = 15) -> str:
        log = self.home / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"

    def stop(self) -> None:
        """End everything that was started here, the node last, by force if it doesn't go by itself."""
        for started in self.running:
            _kill(started)
        try:
            ended = self.quietly("down").status in (0, NOT_RUNNING)
        except Failed:
            ended = False
        if not ended and self.pid:
            print(f"{self.name} did not stop when told to; killed", file=sys.stderr)
            os.kill(self.pid, signal.SIGKILL)

    def _popen(self, words: list[str]) -> subprocess.Popen[str]:
        """A session of its own: Ctrl-C is for the demo, which then stops everything in order."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._argv(words), stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=self.work, start_new_session=True
        )

    def _argv(self, words: list[str]) -> list[str]:
        return [COGNU, "--home", str(self.home), *words]

    def shows(self, words: list[str]) -> None:
        """Show a command line as it would be typed at this machine."""
        typed = " ".join(word if word == "&" else shorten(shlex.quote(word)) for word in words)
        print(f"  {self.name}$ cognu {typed}", flush=True)


def _kill(process: subprocess.Popen[Any]) -> None:
    """End a process and all of its session if it hasn't ended, and close our ends of its pipes."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # what was still to be written has no reader any more
