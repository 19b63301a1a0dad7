"""Word expansion: parameters, substitutions, splitting into fields, file names.

Source: POSIX.1-2024, Shell & Utilities, 2.6. Fields are split at blanks and newlines (there is no IFS). Text is `str`;
bytes that are no UTF-8 pass through as surrogate escapes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from cognu.errors import E, FileError
from cognu.ninep.types import DMDIR, DMSYMLINK, Stat
from cognu.shell.ahead import AT_ONCE, LISTED_AHEAD, Work, ahead
from cognu.shell.arithmetic import calculate
from cognu.shell.lexer import is_name
from cognu.shell.pattern import MAGIC, Step, compile_pattern, matches
from cognu.shell.syntax import Arithmetic, Literal, Parameter, Part, Script, Substitution, Word
from cognu.shell.system import System

T = TypeVar("T")
Field = list[tuple[str, bool]]
"""Pieces of one field as (text, quoted)."""

BLANKS = " \t\n"
MOST_CUT = 4096
"""Characters of a value of which a pattern may cut something off: the time is the square of it."""


class Scope(Protocol):
    """What expansion needs from the shell."""

    @property
    def system(self) -> System: ...

    @property
    def arguments(self) -> Sequence[str]:
        """`$1` and following."""

    def parameter(self, name: str) -> str | None:
        """A variable's value, None if there is none; `@` and `*` are not asked for."""

    @property
    def strict(self) -> bool:
        """Whether a variable that is not set is an error (`set -u`)."""

    def assign(self, name: str, value: str) -> None: ...

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
    return "".join([text for text, _, _ in await _pieces(word.parts, scope)])


async def expand_pattern(word: Word, scope: Scope) -> list[Step]:
    """A word as a pattern, in which what was quoted stands for itself (`case`, `${x%pattern}`)."""
    return compile_pattern([(text, quoted) for text, _, quoted in await _pieces(word.parts, scope)])


_Piece = tuple[str, bool, bool]
"""A text, whether it is to be split, and whether it was quoted."""


async def _pieces(parts: Sequence[Part], scope: Scope) -> list[_Piece]:
    found: list[_Piece] = []
    for part in parts:
        if isinstance(part, Literal):
            found.append((part.text, False, part.quoted))
        elif isinstance(part, Parameter):
            found += await _parameter(part, scope)
        elif isinstance(part, Arithmetic):
            text = await expand_text(part.expression, scope)
            value = calculate(text, lambda name: scope.parameter(name) or "")
            found.append((str(value), not part.quoted, part.quoted))
        elif isinstance(part, Substitution):
            found.append((await scope.substitute(part.script), not part.quoted, part.quoted))
        else:
            found.append((scope.parameter("HOME") or "~", False, True))
    return found


async def _parameter(part: Parameter, scope: Scope) -> list[_Piece]:
    """POSIX 2.6.2. A word that takes the value's place is split where it was not quoted."""
    value = " ".join(scope.arguments) if part.name in "@*" else scope.parameter(part.name)
    operator = part.operator
    if operator == "length":
        value = str(len(value or ""))
    elif operator and operator[0] in "%#":
        assert part.word is not None
        value = _cut(part.name, value or "", operator, await expand_pattern(part.word, scope))
    elif operator:
        assert part.word is not None
        absent = not value if operator[0] == ":" else value is None
        if (operator[-1] == "+") != absent:
            if operator[-1] == "=":
                value = await expand_text(part.word, scope)
                if not is_name(part.name):
                    raise FileError(E.USAGE, f"${{{part.name}...}}", "only variables can be assigned to")
                scope.assign(part.name, value)
            elif operator[-1] == "?":
                raise FileError(E.USAGE, part.name, await expand_text(part.word, scope) or "it is not set")
            else:
                pieces = await _pieces(part.word.parts, scope)
                found = [(text, not quoted and not part.quoted, quoted or part.quoted) for text, _, quoted in pieces]
                return found or [("", not part.quoted, part.quoted)]
        elif operator[-1] == "+":
            value = ""
    elif value is None and scope.strict:
        raise FileError(E.USAGE, part.name, "it is not set")
    return [(value or "", not part.quoted, part.quoted)]


def _cut(name: str, value: str, operator: str, steps: Sequence[Step]) -> str:
    """`value` without the shortest (or longest, `%%` and `##`) end or beginning that fits the pattern."""
    if len(value) > MOST_CUT:
        raise FileError(E.TOOBIG, f"${{{name}{operator}...}}", f"more than {MOST_CUT} characters")
    lengths = range(len(value) + 1)
    for count in reversed(lengths) if len(operator) == 2 else lengths:
        if operator[0] == "#" and matches(steps, value[:count], dots=True):
            return value[count:]
        if operator[0] == "%" and matches(steps, value[len(value) - count :], dots=True):
            return value[: len(value) - count]
    return value


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
        if isinstance(part, Parameter) and part.name in "@*" and not part.operator:
            _add_arguments(fields, part, scope.arguments)
            continue
        for text, to_split, quoted in await _pieces((part,), scope):
            if to_split:
                fields.split(text)
            else:
                fields.add(text, quoted)
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
        unsure = False  # what is listed is there
        async for path, entries in _asked(paths, partial(_entries, system), LISTED_AHEAD):
            for entry in entries:
                if matches(steps, entry.name) and (last or entry.mode & (DMDIR | DMSYMLINK)):
                    found.append(path + entry.name + slash)
                    unsure = unsure or bool(entry.mode & DMSYMLINK)
        paths = found
    if unsure:
        paths = [path async for path, there in _asked(paths, partial(_exists, system), AT_ONCE) if there]
    return sorted(set(paths))


async def _asked(paths: Sequence[str], ask: Work[str, T], most: int) -> AsyncGenerator[tuple[str, T]]:
    """Each path, in order, with what is answered about it; many are asked about at once."""
    if len(paths) == 1:
        yield paths[0], await ask(paths[0])
        return
    async with ahead(paths, ask, most) as done:
        async for path, task in done:
            yield path, task.result()


async def _entries(system: System, path: str) -> list[Stat]:
    try:
        return await system.list(path or ".")
    except FileError:
        return []


async def _exists(system: System, path: str) -> bool:
    try:
        stat = await system.stat(path.rstrip("/") or "/", follow=path.endswith("/"))
    except FileError:
        return False
    return bool(stat.mode & DMDIR) or not path.endswith("/")
