"""The shell's abstract syntax and the one error that reading a script can raise.

Source: POSIX.1-2024, Shell & Utilities, chapter 2. A `Command` is what may stand between two pipe signs; `if`,
`while`, `for` and functions become further members of that union.
"""

from __future__ import annotations

from dataclasses import dataclass

from cognu.errors import CognuError, E


class SyntaxFault(CognuError):
    """A script can't be read. `line` and `column` count from 1.

    `incomplete` is true if more text could still make it right: a prompt then asks for another line.
    """

    def __init__(self, line: int, column: int, detail: str, incomplete: bool) -> None:
        super().__init__(E.SYNTAX, f"line {line}, column {column}", detail)
        self.line = line
        self.column = column
        self.incomplete = incomplete


@dataclass(frozen=True, slots=True)
class Literal:
    """Text as typed. What was quoted is never split, and `*?[` in it stand for themselves."""

    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """`$name`: a variable, a position (`1`), or one of `? $ # @ * !`."""

    name: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Substitution:
    """`$(script)` or the same in backquotes: the script's output without its last newlines."""

    script: Script
    quoted: bool


@dataclass(frozen=True, slots=True)
class Tilde:
    """An unquoted `~` that stands alone or before a slash: the home directory."""


Part = Literal | Parameter | Substitution | Tilde


@dataclass(frozen=True, slots=True)
class Word:
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    name: str
    value: Word


@dataclass(frozen=True, slots=True)
class Redirect:
    """`kind` is one of `<`, `>`, `>>`, `>&` (the target is then a descriptor's number) and `&>`."""

    fd: int
    kind: str
    target: Word


@dataclass(frozen=True, slots=True)
class Simple:
    """Assignments, then words (the first names the command), with redirections anywhere among them."""

    assignments: tuple[Assignment, ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]


Command = Simple


@dataclass(frozen=True, slots=True)
class Pipeline:
    commands: tuple[Command, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class AndOr:
    """`first`, then each pipeline if the status so far agrees with its operator, `&&` or `||`."""

    first: Pipeline
    rest: tuple[tuple[str, Pipeline], ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a list; `text` is how it was typed, for the list of jobs."""

    body: AndOr
    background: bool
    text: str


@dataclass(frozen=True, slots=True)
class Script:
    items: tuple[Item, ...]
