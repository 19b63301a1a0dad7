"""Word expansion: parameters, substitutions, splitting into fields, file names.

Source: POSIX.1-2024, Shell & Utilities, 2.6. Fields are split at blanks and newlines (there is no IFS). Text is `str`;
bytes that are no UTF-8 pass through as surrogate escapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cognu.errors import FileError
from cognu.ninep.types import DMDIR, DMSYMLINK, Stat
from cognu.shell.pattern import MAGIC, compile_pattern, matches
from cognu.shell.syntax import Literal, Parameter, Part, Script, Substitution, Word
from cognu.shell.system import System

Field = list[tuple[str, bool]]
"""Pieces of one field as (text, quoted)."""

BLANKS = " \t\n"


class Scope(Protocol):
    """What expansion needs from the shell."""

    @property
    def system(self) -> System: ...

    @property
    def arguments(self) -> Sequence[str]:
        """`$1` and following."""

    def parameter(self, name: str) -> str:
        """A variable's value, empty if there is none; `@` and `*` are not asked for."""

    async def substitute(self, script: Script) -> str:
        """The script's output without its last newlines."""


async def expand_words(words: Sequence[Word], scope: Scope) -> list[str]:
    """All words as arguments: expanded, split, and with patterns replaced by the names that match."""
    arguments: list[str] = []
    for word in words:
        for field in await _fields(word, scope):
            arguments.extend(await _names(field, scope.system))
    return arguments


async def expand_text(word: Word, scope: Scope) -> str:
    """A word as one text, neither split nor matched: the value of an assignment, the target of a redirection."""
    text = ""
    for part in word.parts:
        if isinstance(part, Parameter) and part.name in "@*":
            text += " ".join(scope.arguments)
        else:
            text += (await _value(part, scope))[0]
    return text


async def _value(part: Part, scope: Scope) -> tuple[str, bool]:
    """The part's text, and whether it is to be split."""
    if isinstance(part, Literal):
        return part.text, False
    if isinstance(part, Parameter):
        return scope.parameter(part.name), not part.quoted
    if isinstance(part, Substitution):
        return await scope.substitute(part.script), not part.quoted
    return scope.parameter("HOME") or "~", False


class _Fields:
    """Collects pieces into fields; `open` is the field being added to, None between two."""

    def __init__(self) -> None:
        self.done: list[Field] = []
        self.open: Field | None = None

    def add(self, text: str, quoted: bool) -> None:
        if self.open is None:
            self.open = []
        self.open.append((text, quoted))

    def end(self) -> None:
        if self.open is not None:
            self.done.append(self.open)
            self.open = None

    def split(self, text: str) -> None:
        if text[:1] in tuple(BLANKS):
            self.end()
        pieces = [piece for piece in text.replace("\t", " ").replace("\n", " ").split(" ") if piece]
        for index, piece in enumerate(pieces):
            if index:
                self.end()
            self.add(piece, quoted=False)
        if text[-1:] in tuple(BLANKS):
            self.end()


async def _fields(word: Word, scope: Scope) -> list[Field]:
    fields = _Fields()
    for part in word.parts:
        if isinstance(part, Parameter) and part.name in "@*":
            _add_arguments(fields, part, scope.arguments)
            continue
        text, to_split = await _value(part, scope)
        if to_split:
            fields.split(text)
        else:
            fields.add(text, not isinstance(part, Literal) or part.quoted)
    fields.end()
    return fields.done


def _add_arguments(fields: _Fields, part: Parameter, arguments: Sequence[str]) -> None:
    """`"$@"` makes one field of each argument, `"$*"` one of all, unquoted both split further."""
    if part.quoted and part.name == "*":
        fields.add(" ".join(arguments), quoted=True)
        return
    for index, argument in enumerate(arguments):
        if index:
            fields.end()
        if part.quoted:
            fields.add(argument, quoted=True)
        else:
            fields.split(argument)


async def _names(field: Field, system: System) -> list[str]:
    """The sorted file names that the field's pattern matches; without a pattern or a match the field as typed."""
    typed = "".join(text for text, _ in field)
    if not any(char in MAGIC for text, quoted in field if not quoted for char in text):
        return [typed]
    return await _find(_components(field), system) or [typed]


def _components(field: Field) -> list[Field]:
    components: list[Field] = [[]]
    for text, quoted in field:
        for index, piece in enumerate(text.split("/")):
            if index:
                components.append([])
            if piece:
                components[-1].append((piece, quoted))
    return components


async def _find(components: Sequence[Field], system: System) -> list[str]:
    """Paths that fit, component by component. What can't be read holds no match; a lost node is an error."""
    paths = [""]
    unsure = False
    for index, component in enumerate(components):
        last = index == len(components) - 1
        slash = "" if last else "/"
        text = "".join(piece for piece, _ in component)
        if not any(char in MAGIC for piece, quoted in component if not quoted for char in piece):
            paths = [path + text + slash for path in paths]
            unsure = unsure or bool(text)
            continue
        steps = compile_pattern(component)
        found: list[str] = []
        for path in paths:
            for entry in await _entries(path, system):
                if matches(steps, entry.name) and (last or entry.mode & (DMDIR | DMSYMLINK)):
                    found.append(path + entry.name + slash)
                    unsure = unsure or bool(entry.mode & DMSYMLINK)
        paths = found
    if unsure:
        paths = [path for path in paths if await _exists(path, system)]
    return sorted(set(paths))


async def _entries(path: str, system: System) -> list[Stat]:
    try:
        return await system.list(path or ".")
    except FileError:
        return []


async def _exists(path: str, system: System) -> bool:
    try:
        stat = await system.stat(path.rstrip("/") or "/", follow=path.endswith("/"))
    except FileError:
        return False
    return bool(stat.mode & DMDIR) or not path.endswith("/")
