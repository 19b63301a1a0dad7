"""What Tab offers: commands, variables, nodes, options, hashes or paths, by where in a command line the cursor stands.

`where` looks at text alone and takes any text, finished or not; `complete` asks the system for the names. What can't be
listed offers nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cognu.errors import FileError
from cognu.ninep.types import DMDIR, DMSYMLINK, Stat
from cognu.shell.commands import COMMANDS
from cognu.shell.state import Shell
from cognu.shell.system import PROGRAMS, absolute
from cognu.store.names import COMMON

NODES = "/n"
OBJECTS = "/mnt/store/objects"
Kind = Literal["command", "help", "variable", "node", "option", "path"]

_BEGINS_ANOTHER = frozenset(["if", "then", "elif", "else", "while", "until", "do", "{", "!"])
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)?$")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_BEFORE_NODES = (("cpu",), ("import",), ("peers", "rename"), ("peers", "label"), ("peers", "drop"))
_SPECIAL = frozenset(" \t\n|&;()<>\\'\"$`*?[]#~!{}=")
_IN_DOUBLE_QUOTES = frozenset('\\"$`')


@dataclass(frozen=True, slots=True)
class Place:
    """`start` is where in the text the part begins that is to be replaced, `typed` what it says without its quoting,
    `directory` the same of what stands before it in the word. `quote` is open at the end; `words` came before."""

    kind: Kind
    start: int
    typed: str
    directory: str = ""
    quote: str = ""
    words: tuple[str, ...] = ()


@dataclass(slots=True)
class _Scan:
    """One command line up to the cursor: its finished words, and the one under way."""

    words: list[str] = field(default_factory=list)
    start: int | None = None
    plain: str = ""
    quote: str = ""
    redirected: bool = False
    slash: int = 0  # where in the text what follows the word's last slash begins
    quoted_at: int = 0

    def begin(self, at: int) -> None:
        if self.start is None:
            self.start = self.slash = at

    def add(self, char: str, after: int) -> None:
        self.plain += char
        if char == "/":
            self.slash = after

    def end_word(self) -> None:
        if self.start is not None:
            first = not self.words
            if self.redirected:
                self.redirected = False
            elif not (first and (self.plain in _BEGINS_ANOTHER or _ASSIGNMENT.match(self.plain))):
                self.words.append(self.plain)
        self.start, self.plain = None, ""

    def end_command(self) -> None:
        self.end_word()
        self.words, self.redirected = [], False


def _scan(text: str) -> _Scan:
    scan = _Scan()
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if scan.quote == "'":
            scan.quote = "" if char == "'" else "'"
            if scan.quote:
                scan.add(char, at)
        elif char == "\\" and at < len(text) and (not scan.quote or text[at] in _IN_DOUBLE_QUOTES):
            scan.begin(at - 1)
            scan.add(text[at], at + 1)
            at += 1
        elif scan.quote:
            scan.quote = "" if char == '"' else '"'
            if scan.quote:
                scan.add(char, at)
        elif char in " \t":
            scan.end_word()
        elif char in "|&;()\n`":
            scan.end_command()
        elif char in "<>":
            scan.end_word()
            scan.redirected = True
        else:
            scan.begin(at - 1)
            if char in "'\"":
                scan.quote, scan.quoted_at = char, at - 1
            else:
                scan.add(char, at)
    scan.begin(at)
    return scan


def where(text: str) -> Place:
    """What kind of name stands at the end of `text`."""
    scan = _scan(text)
    assert scan.start is not None
    words = tuple(scan.words)
    variable = _VARIABLE.search(text, scan.start)
    if variable is not None and scan.quote != "'":
        name = variable[1] or ""
        return Place("variable", len(text) - len(name), name, quote=scan.quote, words=words)
    slash = scan.plain.rfind("/") + 1
    directory, typed = scan.plain[:slash], scan.plain[slash:]
    start = scan.slash
    if scan.quote and scan.quoted_at < start:
        # The quote was opened before; what is put in goes on inside it.
        start = max(start, scan.quoted_at + 1)
    place = Place("path", start, typed, directory, scan.quote, words)
    if scan.redirected or directory:
        return place
    return _by_words(place)


def _by_words(place: Place) -> Place:
    words, typed = place.words, place.typed
    kind: Kind = "path"
    if not words:
        assigned = _ASSIGNMENT.match(typed)
        if assigned is None:
            kind = "command"
        else:
            return Place("path", place.start + assigned.end(), typed[assigned.end() :], "", place.quote, words)
    elif typed.startswith("--on="):
        return Place("node", place.start + 5, typed[5:], "", place.quote, words)
    elif words[-1] == "--on" or words in _BEFORE_NODES or (words[0] == "export" and len(words) == 2):
        kind = "node"
    elif typed.startswith("-"):
        kind = "option"
    elif words[0] in ("help", "man"):
        kind = "help"
    return Place(kind, place.start, typed, place.directory, place.quote, words)


@dataclass(frozen=True, slots=True)
class Offer:
    """Names that fit, sorted; a directory's ends in a slash."""

    place: Place
    names: tuple[str, ...]

    def insertion(self) -> str:
        """What to put at `place.start`: as much as all names have in common, with its quoting."""
        place = self.place
        common = _common(self.names) if self.names else place.typed
        whole = len(self.names) == 1
        text = _quoted(common, place.quote)
        if not whole or common.endswith("/") or place.kind == "variable":
            return text
        return f"{text}{place.quote} "


def _common(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return next((first[:at] for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), first)


def _quoted(text: str, quote: str) -> str:
    if quote == "'":
        return text.replace("'", "'\\''")
    special = _IN_DOUBLE_QUOTES if quote else _SPECIAL
    return "".join(f"\\{char}" if char in special else char for char in text)


async def complete(shell: Shell, text: str) -> Offer:
    """What fits at the end of `text`. Raises `LinkBroken`."""
    place = where(text)
    names: Iterable[str]
    match place.kind:
        case "command":
            directories = (name for name in await _paths(shell, place) if name.endswith("/"))
            names = {*COMMANDS, *shell.functions, *await _listed(shell, PROGRAMS), *directories}
        case "help":
            names = COMMANDS
        case "variable":
            names = shell.variables
        case "node":
            names = await _listed(shell, NODES)
        case "option":
            names = _options(place.words[0])
        case "path":
            names = await _paths(shell, place)
    if place.kind in ("command", "path") and not place.directory and place.typed.startswith(COMMON):
        names = [*names, *await _listed(shell, OBJECTS)]
    # A name with a line's end in it could not be shown, nor typed, on one line.
    found = sorted({name for name in names if name.startswith(place.typed) and "\n" not in name})
    start, quote = place.start, place.quote
    if quote and place.start < len(text) and text[place.start] == quote:
        # The quote was opened within what is replaced.
        start += 1
        place = Place(place.kind, start, place.typed, place.directory, quote, place.words)
    return Offer(place, tuple(found))


def _options(name: str) -> list[str]:
    command = COMMANDS.get(name)
    options = [*(command.options or ()), "help"] if command is not None else []
    return [f"--{option}" for option in options if len(option.rstrip("=")) > 1]


async def _entries(shell: Shell, directory: str) -> list[Stat]:
    return await (shell.listings or shell.system).list(directory)


async def _listed(shell: Shell, directory: str) -> list[str]:
    try:
        return [entry.name for entry in await _entries(shell, directory)]
    except FileError:
        return []


async def _paths(shell: Shell, place: Place) -> list[str]:
    directory = re.sub(
        r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?", lambda found: shell.variables.get(found[1], ""), place.directory
    )
    if directory.startswith("~/"):
        directory = shell.variables.get("HOME", "~") + directory[1:]
    names: list[str] = []
    try:
        for entry in await _entries(shell, directory or "."):
            if not entry.name.startswith(place.typed) or (entry.name.startswith(".") and not place.typed):
                continue
            slash = "/" if await _is_directory(shell, directory, entry.name, entry.mode) else ""
            names.append(entry.name + slash)
    except FileError:
        pass
    return names


async def _is_directory(shell: Shell, directory: str, name: str, mode: int) -> bool:
    if not mode & DMSYMLINK:
        return bool(mode & DMDIR)
    path = absolute(absolute(shell.system.cwd, directory or "."), name)
    try:
        return bool((await shell.system.stat(path)).mode & DMDIR)
    except FileError:
        return False
