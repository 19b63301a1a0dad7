"""What of a tree is shown to those it is exported to: patterns of names, and a namespace that goes by them.

In the spirit of exportfs(4)'s -P, with the shell's patterns in place of regular expressions: `*`, `?`, `[a-z]` and
`[!a-z]`. A pattern without a slash is for names at any depth; one with a slash is for paths from the exported tree's
root. What matches takes along all that is below it. What is not shown does not exist: it is not listed, can't be walked
to, and no symbolic link leads there; nor can anything be made under such a name.

What is hidden is hidden in either case, and by whatever else a host may take for the same name: another form of its
characters, dots or blanks behind it, a FAT's short one (`SECRET~1`). What is to be shown is named as it is.

Patterns go by names, not by files. So a directory is only moved to where the same is shown of what is below it, and
what a client holds of it by its old name is no way round them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category, normalize

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.namespace import Namespace
from cognu.files.nstext import quote, split_words
from cognu.files.server import Caller, Entry, Notice
from cognu.files.steps import Steps
from cognu.ninep.types import DMDIR, Qid, SetStat

MOST_PATTERNS = 256
LONGEST = 1024
"""Characters of a pattern."""
_SHORT = re.compile(r"[^.]{1,7}~[0-9]{1,6}(\.[^.]{0,3})?", re.DOTALL)
"""What a FAT may also call a file with a longer name."""
_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""First and last: Default_Ignorable_Code_Point in DerivedCoreProperties.txt of Unicode 14.0, which has all of 12.1's.
Linux leaves those out of names that it compares without regard to case (fs/unicode; ext4 and f2fs)."""


class Pattern(NamedTuple):
    """`elements` are matched one by one; not `anchored`, there is one, for a name at any depth.

    `loose`: so is what a host may take for the same name.
    """

    elements: tuple[str, ...]
    anchored: bool
    loose: bool = False

    def matches(self, names: Sequence[str]) -> bool:
        """Whether the file at the end of `names` is meant."""
        if not self.anchored:
            return bool(names) and self._takes(self.elements[0], names[-1])
        return len(names) == len(self.elements) and self.leads_from(names)

    def leads_from(self, names: Sequence[str]) -> bool:
        """Whether what is meant may be below `names`."""
        if not self.anchored:
            return True
        return len(names) <= len(self.elements) and all(map(self._takes, self.elements, names))

    def names_below(self, names: Sequence[str]) -> bool:
        """Whether this is a path, and may be one of something below `names`."""
        return self.anchored and len(names) < len(self.elements) and self.leads_from(names)

    def text(self) -> str:
        """Its one form."""
        return "/" * self.anchored + "/".join(self.elements)

    def _takes(self, element: str, name: str) -> bool:
        return matches_loosely(element, name) if self.loose else matches(element, name)


def parse_pattern(text: str) -> Pattern:
    """Raises USAGE for an empty one, one that is too long, or a bracket that is not closed."""
    elements = tuple(element for element in text.split("/") if element)
    if not elements or len(text) > LONGEST or "\0" in text:
        raise FileError(E.USAGE, text[:40], f"a pattern of names, of at most {LONGEST} characters")
    for element in elements:
        _tokens(element)
        _tokens(_folded(element))
    return Pattern(elements, "/" in text)


class Filter(NamedTuple):
    """`hide` comes before `show`. Without `show` all that is not hidden is shown; else what matches, and the
    directories that may lead there."""

    hide: tuple[Pattern, ...] = ()
    show: tuple[Pattern, ...] = ()

    def allows(self, names: Sequence[str], directory: bool) -> bool:
        """Whether the file at `names` from the root of the tree is shown; `directory` if it is one."""
        if self != NOTHING and any(map(_SHORT.fullmatch, names)):
            return False
        ways = [names[: end + 1] for end in range(len(names))]
        if any(pattern.matches(way) for way in ways for pattern in self.hide):
            return False
        if not self.show or not names or any(pattern.matches(way) for way in ways for pattern in self.show):
            return True
        return directory and any(pattern.leads_from(names) for pattern in self.show)

    def shows_alike(self, old: Sequence[str], new: Sequence[str]) -> bool:
        """Whether of all below a directory the same is shown at `new` as at `old`, both of which are shown.

        False for two places also where a path among the patterns may lead below one, whatever is there.
        """
        if any(pattern.names_below(way) for pattern in self.hide + self.show for way in (old, new)):
            return list(old) == list(new)
        return self._whole(old) == self._whole(new)

    def _whole(self, names: Sequence[str]) -> bool:
        """Whether all below `names` is shown, but for what is hidden."""
        ways = [names[: end + 1] for end in range(len(names))]
        return not self.show or any(pattern.matches(way) for way in ways for pattern in self.show)


NOTHING = Filter()
"""Without patterns."""


def parse_filter(hide: Sequence[str], show: Sequence[str]) -> Filter:
    """Raises USAGE."""
    if len(hide) + len(show) > MOST_PATTERNS:
        raise FileError(E.USAGE, "patterns", f"{MOST_PATTERNS} at most")
    return Filter(tuple(parse_pattern(text)._replace(loose=True) for text in hide), tuple(map(parse_pattern, show)))


class Shown(NamedTuple):
    """A tree to be exported: where it is, whether it may be changed, and the patterns."""

    path: str
    writable: bool = False
    hide: tuple[str, ...] = ()
    show: tuple[str, ...] = ()

    def text(self) -> str:
        """As one line, for `parse_shown`."""
        words = ["write"] if self.writable else []
        words += [word for pattern in self.hide for word in ("hide", pattern)]
        words += [word for pattern in self.show for word in ("show", pattern)]
        return " ".join(map(quote, [*words, "path", self.path]))


def parse_shown(text: str) -> Shown:
    """Raises USAGE, and SYNTAX for an open quote."""
    words = iter(split_words(text))
    write, hide, show = False, list[str](), list[str]()
    for word in words:
        value = "" if word == "write" else next(words, "")
        if word == "write":
            write = True
        elif word == "path" and value and not list(words):
            return Shown(value, write, tuple(hide), tuple(show))
        elif word in ("hide", "show") and value:
            (hide if word == "hide" else show).append(value)
        else:
            break
    raise FileError(E.USAGE, text[:40], "[write] [hide PATTERN] [show PATTERN] path PATH")


# -- one name ---------------------------------------------------------------------------------------------------------


def matches(pattern: str, name: str) -> bool:
    """Whether one element of a pattern matches a name, in at most the product of their lengths of steps."""
    tokens = _tokens(pattern)
    at = position = 0
    behind, held = -1, 0  # the place behind the last star, and where in the name that star ends
    while position < len(name):
        token = tokens[at] if at < len(tokens) else None
        if token is _STAR:
            at += 1
            behind, held = at, position
        elif token is not None and _takes(token, name[position]):
            at, position = at + 1, position + 1
        elif behind >= 0:
            held += 1
            at, position = behind, held
        else:
            return False
    return all(token is _STAR for token in tokens[at:])


@lru_cache(maxsize=4096)
def matches_loosely(pattern: str, name: str) -> bool:
    """Whether an element of a pattern matches a name, or what a host may take for that name."""
    patterns = {pattern, _folded(pattern)}
    return any(matches(each, form) for each in patterns for form in _forms(name))


def _forms(name: str) -> Iterator[str]:
    """A name as it is, and without what hosts differ in: case, forms of characters, and what they do not keep."""
    yield name
    bare = name.partition(":")[0].rstrip(". ")  # as Windows has it, and what serves its file systems
    yield bare
    yield _folded(bare)
    yield _folded(bare).upper()


def _folded(text: str) -> str:
    """In lower case, composed, without characters that nobody sees (which HFS+, ext4 and f2fs pass over)."""
    seen = "".join(char for char in normalize("NFKC", text) if category(char) != "Cf" and not _ignorable(char))
    return normalize("NFKC", seen.casefold())


def _ignorable(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _IGNORABLE)


class _Set(NamedTuple):
    """One character out of ranges, or none of them."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool


_STAR = _Set((), False)
_ANY = _Set((), True)


def _takes(token: _Set, char: str) -> bool:
    return any(low <= char <= high for low, high in token.ranges) is not token.negated


@lru_cache(maxsize=1024)
def _tokens(pattern: str) -> tuple[_Set, ...]:
    tokens: list[_Set] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "[":
            token, at = _bracket(pattern, at)
            tokens.append(token)
        else:
            tokens.append(_STAR if char == "*" else _ANY if char == "?" else _Set(((char, char),), False))
    return tuple(tokens)


def _bracket(pattern: str, at: int) -> tuple[_Set, int]:
    """What stands in brackets, from behind the first on; a `]` at the beginning stands for itself."""
    negated = pattern[at : at + 1] in ("!", "^")
    begin = at + negated
    end = pattern.find("]", begin + 1)
    if end < 0:
        raise FileError(E.USAGE, pattern, "a bracket is not closed")
    inside, ranges = pattern[begin:end], list[tuple[str, str]]()
    while inside:
        if len(inside) > 2 and inside[1] == "-":
            ranges.append((inside[0], inside[2]))
            inside = inside[3:]
        else:
            ranges.append((inside[0], inside[0]))
            inside = inside[1:]
    return _Set(tuple(ranges), negated), end + 1


def notice_shown(patterns: Filter, above: Sequence[str], notice: Notice) -> Notice:
    """What is told of the directory at `above`: no name, if one would not be shown, be it a file's or a directory's."""
    names = [(*above, name) for name in (notice.name, notice.other) if name]
    return notice if all(patterns.allows(way, False) for way in names) else Notice(notice.kind)


# -- a namespace by them ----------------------------------------------------------------------------------------------


class ShownNamespace(Namespace):
    """A namespace in which what a filter does not show does not exist, to those who walk in it."""

    filter: Filter = Filter()

    @classmethod
    def of(cls, namespace: Namespace, shown: Filter) -> ShownNamespace:
        """Takes over all that `namespace` is, which is of no further use. It has no devices."""
        made = cls(namespace.domain, namespace.root)
        made.heads, made.no_mount, made.filter = namespace.heads, namespace.no_mount, shown
        return made

    def walk(
        self,
        chan: Chan,
        names: Sequence[str],
        caller: Caller,
        follow: bool = True,
        trail: list[Qid] | None = None,
        then: object = None,
    ) -> Steps[Chan]:
        """As a namespace does, name by name: a link may lead anywhere, and it is where one comes to that counts.

        So nothing is asked for with the walk, whatever comes `then`.
        """
        if not names:
            return (yield from super().walk(chan, names, caller, follow, trail))
        at = chan
        for left, name in zip(range(len(names) - 1, -1, -1), names, strict=True):
            step: list[Qid] | None = None if trail is None else []
            at = yield from super().walk(at, [name], caller, follow or left > 0, step)
            if not self._allows(at):
                raise FileError(E.NOENT, str(chan.path.step(names[: len(names) - left])))
            if trail is not None and step is not None:
                trail += step
        return at

    def create(self, directory: Chan, name: str, perm: int, mode: int, caller: Caller) -> Steps[Chan]:
        self._may_make(directory, name, bool(perm & DMDIR))
        return (yield from super().create(directory, name, perm, mode, caller))

    def creator(self, directory: Chan, name: str = "") -> Chan:
        if name:
            self._may_make(directory, name, False)
        return super().creator(directory)

    def wstat(self, chan: Chan, change: SetStat) -> Steps[None]:
        if change.name is not None and chan.path.parent is not None:
            self._may_move(chan, [*chan.path.names()[:-1], change.name])
        yield from super().wstat(chan, change)

    def rename(self, directory: Chan, name: str, to: Chan, new_name: str, caller: Caller) -> Steps[None]:
        moved = yield from self.walk(directory, [name], caller, follow=False)
        self._may_move(moved, [*to.path.names(), new_name])
        moved.close()
        yield from super().rename(directory, name, to, new_name, caller)

    def link(self, existing: Chan, directory: Chan, name: str) -> Steps[None]:
        self._may_move(existing, [*directory.path.names(), name])
        yield from super().link(existing, directory, name)

    def shown(self, directory: Chan, entries: list[Entry]) -> list[Entry]:
        names = directory.path.names()
        return [entry for entry in entries if self.filter.allows((*names, entry.name), entry.qid.is_dir)]

    def shown_notice(self, directory: Chan, notice: Notice) -> Notice:
        return notice_shown(self.filter, directory.path.names(), notice)

    def _allows(self, chan: Chan) -> bool:
        return self.filter.allows(chan.path.names(), self.cross(chan)[0].qid.is_dir)

    def _may_make(self, directory: Chan, name: str, is_directory: bool) -> None:
        self._must_show([*directory.path.names(), name], is_directory)

    def _may_move(self, chan: Chan, names: list[str]) -> None:
        """Raises ACCES if the file at `chan`, or what is below it, would be shown otherwise at `names` than it is."""
        is_directory = self.cross(chan)[0].qid.is_dir
        self._must_show(names, is_directory)
        if is_directory and not self.filter.shows_alike(chan.path.names(), names):
            raise FileError(E.ACCES, chan.path.name, "what is below it would be shown otherwise: it keeps its place")

    def _must_show(self, names: list[str], is_directory: bool) -> None:
        if not self.filter.allows(names, is_directory):
            raise FileError(E.ACCES, names[-1], "a name that is not shown here")
