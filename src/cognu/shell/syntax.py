"""The shell's abstract syntax and the one error that reading a script can raise.

Source: POSIX.1-2024, Shell & Utilities, chapter 2. A `Command` is what may stand between two pipe signs.
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
    """`$name`: a variable, a position (`1`), or one of `? $ # @ * !`.

    `operator` is that of `${name:-word}` and its kin (POSIX 2.6.2), `length` for `${#name}`, or empty.
    """

    name: str
    quoted: bool
    operator: str = ""
    word: Word | None = None


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`$((expression))`, whose own parameters and substitutions are expanded first."""

    expression: Word
    quoted: bool


@dataclass(frozen=True, slots=True)
class Substitution:
    """`$(script)` or the same in backquotes: the script's output without its last newlines."""

    script: Script
    quoted: bool


@dataclass(frozen=True, slots=True)
class Tilde:
    """An unquoted `~` that stands alone or before a slash: the home directory."""


Part = Literal | Parameter | Arithmetic | Substitution | Tilde


@dataclass(frozen=True, slots=True)
class Word:
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    name: str
    value: Word


@dataclass(slots=True)
class Document:
    """The lines of a here-document, which the lexer fills in once it comes to them; None until then."""

    body: Word | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """`kind` is one of `<`, `>`, `>>`, `>&` (the target is then a descriptor's number), `&>`, and `<<`, whose target is
    the word that ends the `document`."""

    fd: int
    kind: str
    target: Word
    document: Document | None = None


@dataclass(frozen=True, slots=True)
class Simple:
    """Assignments, then words (the first names the command), with redirections anywhere among them."""

    assignments: tuple[Assignment, ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """`{ ...; }`"""

    body: Script


@dataclass(frozen=True, slots=True)
class Subshell:
    """`( ... )`: what it changes is gone afterwards."""

    body: Script


@dataclass(frozen=True, slots=True)
class If:
    """Pairs of condition and body, of which the first that holds runs; `otherwise` if none does."""

    clauses: tuple[tuple[Script, Script], ...]
    otherwise: Script | None


@dataclass(frozen=True, slots=True)
class While:
    """`while`, or with `until` as long as the condition fails."""

    condition: Script
    body: Script
    until: bool


@dataclass(frozen=True, slots=True)
class For:
    """`words` None: over the arguments, `"$@"`."""

    name: str
    words: tuple[Word, ...] | None
    body: Script


@dataclass(frozen=True, slots=True)
class Case:
    """Each arm's patterns, and what runs for the first that fits."""

    subject: Word
    arms: tuple[tuple[tuple[Word, ...], Script], ...]


@dataclass(frozen=True, slots=True)
class Function:
    """`name() command` defines it."""

    name: str
    body: Compound


Structure = Group | Subshell | If | While | For | Case


@dataclass(frozen=True, slots=True)
class Compound:
    """A structure with redirections that hold for all of it."""

    structure: Structure
    redirects: tuple[Redirect, ...] = ()


Command = Simple | Compound | Function


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
