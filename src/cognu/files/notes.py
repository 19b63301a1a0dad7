"""Notes to processes, and the signals of POSIX that they are (notify(2) of Plan 9, signal(7) of Linux)."""

from __future__ import annotations

from collections.abc import Mapping

from cognu.errors import E, FileError

NOTES: Mapping[str, int] = {"hangup": 1, "interrupt": 2, "quit": 3, "kill": 9, "alarm": 14, "term": 15}
"""Notes that a program can be sent, by the signals' numbers, which are the same on all hosts. A WebAssembly program has
no handlers, so each ends it."""
_LINES = {
    "HUP": "note hangup", "INT": "interrupt", "QUIT": "note quit", "KILL": "kill", "ALRM": "note alarm",
    "TERM": "note term", "STOP": "stop", "CONT": "start",
}  # fmt: skip
SIGNALS = tuple(_LINES)
"""Signals that a process can be sent, by name; what a user's program makes of others is nobody's to know."""
_NUMBERS = {"1": "HUP", "2": "INT", "3": "QUIT", "9": "KILL", "14": "ALRM", "15": "TERM"}
"""Those whose number is the same everywhere; STOP and CONT have others on each host."""


def note_signal(text: str) -> int:
    """The signal that a note is. Raises INVAL for one that means nothing to a program."""
    number = NOTES.get(text)
    if number is None:
        raise FileError(E.INVAL, text, " ".join(NOTES))
    return number


def signal_line(word: str) -> str | None:
    """The line for /proc/N/ctl that a signal is: by its name in any case, with or without SIG, or its number."""
    name = word.upper().removeprefix("SIG")
    return _LINES.get(_NUMBERS.get(name, name))
