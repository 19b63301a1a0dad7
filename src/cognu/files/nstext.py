"""A namespace as text: commands that rebuild it, and the same commands carried out (namespace(6), ns(1)).

Lines are `bind [-abc] SOURCE PLACE`, `mount [-abc] SERVICE PLACE [ANAME]`, `unmount [SOURCE] PLACE`, `cd PLACE` and
comments after `#` and a blank; words with odd characters are quoted as in rc(1): 'it''s'.

`describe` prints a source or a place by the path it was bound with where that path, read in order, provably means the
same file; otherwise by the device it really is on (`#U/home`), which no mount can change. So the output rebuilds
the table exactly, and needs no walking to make.
"""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.files.chan import Chan, Origin
from cognu.files.namespace import MAFTER, MBEFORE, MCREATE, MREPL, MountHead, Namespace

MAX_TEXT = 64 * 1024
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:@%,#")


def quote(word: str) -> str:
    """A word as rc(1) reads it back."""
    if word and all(letter in _PLAIN for letter in word):
        return word
    return "'" + word.replace("'", "''") + "'"


def split_words(line: str) -> list[str]:
    """The words of a line, with rc's quotes. A lone `#` word begins a comment. Raises SYNTAX on an open quote."""
    words: list[str] = []
    at, end = 0, len(line)
    while at < end:
        if line[at] in " \t\r\n":
            at += 1
            continue
        if line[at] == "#" and (at + 1 == end or line[at + 1] in " \t\r\n"):
            break
        word: list[str] = []
        while at < end and line[at] not in " \t\r\n":
            if line[at] != "'":
                word.append(line[at])
                at += 1
                continue
            at += 1
            while True:
                close = line.find("'", at)
                if close < 0:
                    raise FileError(E.SYNTAX, line.strip(), "a quote is not closed")
                word.append(line[at:close])
                at = close + 1
                if line[at : at + 1] != "'":
                    break
                word.append("'")
                at += 1
        words.append("".join(word))
    return words


def describe(namespace: Namespace, cwd: Chan) -> str:
    """The commands that rebuild `namespace`, as ns(1) prints them, and a `cd` to `cwd`."""
    lines: list[str] = []
    rebuilt: dict[Origin, list[Origin]] = {}
    root = namespace.root.origin
    for head in namespace.heads.values():
        place = _name(head.place, root, rebuilt)
        for flags, member in _binds(head):
            options = {MREPL: "", MBEFORE: "b", MAFTER: "a"}[flags & 3] + ("c" if flags & MCREATE else "")
            source = _source_name(member, root, rebuilt)
            lines.append(" ".join(["bind", *(["-" + options] if options else []), quote(source), quote(place)]))
        rebuilt[head.place.origin] = [member.chan.origin for member in head.members]
    lines.append(f"cd {quote(_name(cwd, root, rebuilt))}")
    return "".join(line + "\n" for line in lines)


def _binds(head: MountHead) -> list[tuple[int, Chan]]:
    """Flags and source of the binds that make this head out of nothing, in order."""
    members = head.members
    create = [MCREATE if member.create else 0 for member in members]
    own = [index for index, member in enumerate(members) if member.chan.key == head.place.key and not member.create]
    if own and len(members) > 1:
        middle = own[0]
        before = [(MBEFORE | create[index], members[index].chan) for index in range(middle - 1, -1, -1)]
        after = [(MAFTER | create[index], members[index].chan) for index in range(middle + 1, len(members))]
        return before + after
    first = [(MREPL | create[0], members[0].chan)]
    return first + [(MAFTER | create[index], members[index].chan) for index in range(1, len(members))]


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
    """Flags of leading `-a`, `-b`, `-c` options and the words after them. Raises USAGE, INVAL."""
    flags = 0
    while words and len(words[0]) > 1 and words[0][0] == "-":
        for letter in words[0][1:]:
            if letter not in "abc":
                raise FileError(E.USAGE, words[0], "bind and mount take -a, -b and -c")
            flags |= {"a": MAFTER, "b": MBEFORE, "c": MCREATE}[letter]
        words = words[1:]
    return flags, words
