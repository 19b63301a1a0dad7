"""A namespace as text: commands that rebuild it, and the same commands carried out (namespace(6), ns(1)).

Lines are `bind [-abcr] SOURCE PLACE`, `mount [-abcr] SERVICE PLACE [ANAME]`, `unmount [SOURCE] PLACE`, `cd PLACE` and
comments after `#` and a blank; words with odd characters are quoted as in rc(1): 'it''s'.

`describe` prints a source or a place by the path it was bound with where that path, read in order, provably means the
same file; otherwise by the device it really is on (`#U/home`), which no mount can change. So the output rebuilds
the table exactly, and needs no walking to make.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cognu.errors import E, FileError
from cognu.files.chan import Chan, Origin
from cognu.files.mounts import MAFTER, MBEFORE, MCREATE, MREAD, MREPL, Member, MountHead
from cognu.files.namespace import Namespace

MAX_TEXT = 64 * 1024
SERVED = "#M"
"""How the name of a server begins that was mounted; the path of the file it is behind follows."""
_BLANK = " \t\r\n"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:@%,#")


def quote(word: str) -> str:
    """A word as rc(1) reads it back."""
    if word and word != "#" and all(letter in _PLAIN for letter in word):
        return word
    return "'" + word.replace("'", "''") + "'"


def split_words(text: str) -> list[str]:
    """The words of a line, with rc's quotes. A lone `#` word begins a comment. Raises SYNTAX on an open quote."""
    return [word for command in split_commands(text) for word in command.words]


class Command(NamedTuple):
    """One command of a text: the number of the line it begins on, its text, its words."""

    line: int
    text: str
    words: list[str]


def split_commands(text: str) -> Iterator[Command]:
    """The commands of a text, one a line, but that a newline in quotes is part of its word. Raises SYNTAX, in turn."""
    at, line = 0, 1
    while at < len(text):
        words, end = _read_command(text, at)
        if words:
            yield Command(line, text[at:end].strip(), words)
        line += text.count("\n", at, end)
        at = end


def _read_command(text: str, at: int) -> tuple[list[str], int]:
    """The words from `at` on to the end of the line, and where the next begins."""
    words: list[str] = []
    while at < len(text):
        if text[at] == "\n":
            return words, at + 1
        if text[at] in _BLANK:
            at += 1
        elif text[at] == "#" and text[at + 1 : at + 2] in ("", *_BLANK):
            end = text.find("\n", at)
            return words, len(text) if end < 0 else end + 1
        else:
            word, at = _read_word(text, at)
            words.append(word)
    return words, at


def _read_word(text: str, at: int) -> tuple[str, int]:
    """The word that begins at `at`, and where it ends."""
    begin, parts = at, list[str]()
    while at < len(text) and text[at] not in _BLANK:
        if text[at] != "'":
            plain = at
            while at < len(text) and text[at] not in _BLANK and text[at] != "'":
                at += 1
            parts.append(text[plain:at])
            continue
        while True:  # once for each '' inside
            close = text.find("'", at + 1)
            if close < 0:
                raise FileError(E.SYNTAX, text[begin:].partition("\n")[0], "a quote is not closed")
            parts.append(text[at + 1 : close])
            at = close + 1
            if text[at : at + 1] != "'":
                break
            parts.append("'")
    return "".join(parts), at


def describe(namespace: Namespace, cwd: Chan) -> str:
    """The commands that rebuild `namespace`, as ns(1) prints them, and a `cd` to `cwd`."""
    lines: list[str] = []
    rebuilt: dict[Origin, list[Origin]] = {}
    root = namespace.root.origin
    for head in namespace.heads.values():
        place = _name(head.place, root, rebuilt)
        for flags, member in _binds(head):
            options = {MREPL: "", MBEFORE: "b", MAFTER: "a"}[flags & 3]
            options += ("c" if flags & MCREATE else "") + ("r" if flags & MREAD else "")
            source = _source_name(member, root, rebuilt)
            lines.append(" ".join(_line(member.origin, source, place, "-" + options if options else "")))
            # From the first line on the place is a mount point; a union's names need a search, so any two will do.
            before = rebuilt.get(head.place.origin, [] if not flags & 3 else [head.place.origin])
            rebuilt[head.place.origin] = [*before, member.origin]
    lines.append(f"cd {quote(_name(cwd, root, rebuilt))}")
    return "".join(line + "\n" for line in lines)


def _line(origin: Origin, source: str, place: str, options: str) -> list[str]:
    """The words of a bind, or of a mount if the source is the root of what is served behind a file."""
    words = [options] if options else []
    service, _, aname = origin.spec.removeprefix(SERVED).partition(" ")
    if not service.startswith("/") or origin.names:
        return ["bind", *words, quote(source), quote(place)]
    return ["mount", *words, quote(service), quote(place), *([quote(aname)] if aname else [])]


def _binds(head: MountHead) -> list[tuple[int, Chan]]:
    """Flags and source of the binds that make this head out of nothing, in order; as they were made if that will do."""
    return _binds_made(head) or _binds_anew(head)


def _binds_made(head: MountHead) -> list[tuple[int, Chan]]:
    """The binds as they were made, or none if carrying them out would not give this chain."""
    chain: list[Member] = []
    binds = []
    for member in sorted(head.members, key=lambda member: member.turn):
        chain = {MREPL: [member], MBEFORE: [member, *chain], MAFTER: [*chain, member]}[member.order]
        if member.turn:
            binds.append((member.order | _kind(member), member.chan))
    # Turn 0 is the place itself, which is there by itself unless the first bind replaces it.
    place = any(member.turn == 0 for member in head.members)
    sound = chain == head.members and bool(binds) and (place or binds[0][0] & 3 == MREPL)
    return binds if sound else []


def _kind(member: Member) -> int:
    return (MCREATE if member.create else 0) | (MREAD if member.read_only else 0)


def _binds_anew(head: MountHead) -> list[tuple[int, Chan]]:
    members = head.members
    kinds = [_kind(member) for member in members]
    own = [index for index, member in enumerate(members) if member.chan.key == head.place.key and not kinds[index]]
    if own and len(members) > 1:
        middle = own[0]
        before = [(MBEFORE | kinds[index], members[index].chan) for index in range(middle - 1, -1, -1)]
        after = [(MAFTER | kinds[index], members[index].chan) for index in range(middle + 1, len(members))]
        return before + after
    first = [(MREPL | kinds[0], members[0].chan)]
    return first + [(MAFTER | kinds[index], members[index].chan) for index in range(1, len(members))]


def _name(chan: Chan, root: Origin, rebuilt: dict[Origin, list[Origin]]) -> str:
    """The chan's path if read so far it means this very file, before any mount at its end; else its device's name."""
    path = str(chan.path)
    return path if _meaning(path, root, rebuilt) == chan.origin else str(chan.origin)


def _source_name(chan: Chan, root: Origin, rebuilt: dict[Origin, list[Origin]]) -> str:
    """As `_name`, for a source: what it means must not itself be a mount point, which bind would cross."""
    name = _name(chan, root, rebuilt)
    return str(chan.origin) if chan.origin in rebuilt else name


def _meaning(path: str, root: Origin, rebuilt: dict[Origin, list[Origin]]) -> Origin | None:
    """Where a path leads by the mounts so far, judged by names alone; None where a union would have to be searched."""
    if not path.startswith("/"):
        return None
    at = root
    names = [name for name in path.split("/") if name]
    for name in names:
        members = rebuilt.get(at)
        if members is not None:
            if len(members) > 1:
                return None
            at = members[0]
        at = at.step(name)
    return at


def parse_options(words: list[str]) -> tuple[int, list[str]]:
    """Flags of leading `-a`, `-b`, `-c`, `-r` options and the words after them. Raises USAGE, INVAL."""
    flags = 0
    while words and len(words[0]) > 1 and words[0][0] == "-":
        for letter in words[0][1:]:
            if letter not in "abcr":
                raise FileError(E.USAGE, words[0], "bind and mount take -a, -b, -c and -r")
            flags |= {"a": MAFTER, "b": MBEFORE, "c": MCREATE, "r": MREAD}[letter]
        words = words[1:]
    return flags, words
