"""The path in the text of a machine's grant (grant(5)), and grants in a list.

A path that begins with a quote is quoted as in namespace(5), `read:'/home/it''s, mine'`; any other is meant as it is,
so what was kept before there were quotes reads as before. `word_of` is the one form: quotes only where they are needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from cognu.errors import E, FileError
from cognu.files.nstext import quote, split_words

OF_TREES = ("read", "write")
"""Kinds of grants that name a path."""
_LISTED = re.compile(r"((?:[^,:]*:)?(?:'(?:[^']|'')*+')?[^,]*),?", re.DOTALL)
"""One grant of a list: its kind, a path that is in quotes as a whole, and what else there is before a comma."""


def path_of(word: str) -> str:
    """The path that a word of a grant's text names. Raises SYNTAX for an open quote, USAGE for more than one word."""
    if not word.startswith("'"):
        return word
    match split_words(word):
        case [path]:
            return path
    raise FileError(E.USAGE, word, "a path is one word; a quote in it is doubled")


def word_of(path: str) -> str:
    """The word that names a path: the path itself, or in quotes."""
    return path if path.isprintable() and " " not in path and not path.startswith("'") else quote(path)


def with_path(text: str, change: Callable[[str], str]) -> str:
    """A grant's text with its path changed, if it is of a kind that names one. Raises as `path_of`."""
    head, colon, word = text.partition(":")
    if not colon or not word or head.partition("+")[0] not in OF_TREES:
        return text
    return f"{head}:{word_of(change(path_of(word)))}"


def split_listed(text: str) -> list[str]:
    """The grants of a list, separated by commas; blanks around each are dropped, and what is empty."""
    return [part for found in _LISTED.findall(text) if (part := found.strip())]
