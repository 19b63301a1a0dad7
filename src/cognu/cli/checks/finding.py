"""What a check is, what it finds, and how checks are carried out in bounded time. Nothing here changes anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from cognu.errors import CognuError, E, from_oserror

CHECK_SECONDS = 5.0
"""What a check may take, unless its row says otherwise."""


class Level(StrEnum):
    """`NOTE` is worth knowing and nothing is wrong; with a `PROBLEM` something does not work."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Found(NamedTuple):
    """What a look saw. `remedy` is what to do, empty where there is nothing to do; `about` tells apart several of one
    check (a peer's name, say)."""

    level: Level
    text: str
    remedy: str = ""
    about: str = ""


@dataclass(frozen=True)
class Subject:
    """What is looked at. `status` and `peers` are the node's answers, None if there were none, and then `silent` says
    why."""

    home: str
    status: dict[str, Any] | None = None
    peers: list[dict[str, Any]] | None = None
    silent: CognuError | None = None


Look = Callable[[Subject], Sequence[Found]]


@dataclass(frozen=True)
class Check:
    """One row: `means` says what depends on it. `look` may raise `CognuError` and `OSError`, which are problems."""

    area: str
    name: str
    means: str
    look: Look
    seconds: float = CHECK_SECONDS


class Finding(NamedTuple):
    """What is told of one check."""

    area: str
    check: str
    level: Level
    found: str
    means: str
    remedy: str


def ok(text: str, about: str = "") -> list[Found]:
    return [Found(Level.OK, text, "", about)]


def note(text: str, remedy: str = "", about: str = "") -> list[Found]:
    return [Found(Level.NOTE, text, remedy, about)]


def problem(text: str, remedy: str, about: str = "") -> list[Found]:
    return [Found(Level.PROBLEM, text, remedy, about)]


def refused(error: CognuError) -> list[Found]:
    """A refusal as a problem, with the table's remedy."""
    return problem(str(error), error.error.hint)


@dataclass
class _Looking:
    """One check under way, in a thread of its own: a disk or a peer that hangs must not hold up the others."""

    check: Check
    found: Sequence[Found] = ()
    bug: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self, subject: Subject) -> None:
        try:
            self.found = self.check.look(subject)
        except CognuError as error:
            self.found = refused(error)
        except OSError as error:
            self.found = refused(from_oserror(error, str(error.filename or "")))
        except BaseException as error:
            self.bug = error
        finally:
            self.done.set()


def carry_out(checks: Sequence[Check], subject: Subject) -> list[Finding]:
    """All checks at once; their findings in the order of the table.

    One that takes longer than its row allows is a problem; its thread is left behind and ends with this process.
    """
    looking = [_Looking(check) for check in checks]
    for one in looking:
        threading.Thread(target=one.run, args=(subject,), daemon=True, name=one.check.name).start()
    began = time.monotonic()
    findings: list[Finding] = []
    for one in looking:
        check = one.check
        found: Sequence[Found]
        if one.done.wait(max(0.0, began + check.seconds - time.monotonic())):
            if one.bug is not None:
                raise one.bug
            found = one.found
        else:
            late = f"{E.TIMEDOUT.text}: nothing within {check.seconds:g} s"
            found = problem(late, "look whether the disk or the other machine hangs, then ask again")
        for row in found:
            name = f"{check.name} {row.about}".rstrip()
            findings.append(Finding(check.area, name, row.level, row.text, check.means, row.remedy))
    return findings
