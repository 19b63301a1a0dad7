"""For parsers that are given anything: a value, or a refusal that says that it was no such text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cognu.errors import E, FileError

T = TypeVar("T")


def read_or_misused(parse: Callable[[str], T], text: str) -> T | None:
    """What `parse` makes of the text; None if it refused it as wrong usage. Any other end is the test's failure."""
    try:
        return parse(text)
    except FileError as refused:
        if refused.error not in (E.USAGE, E.SYNTAX, E.ILSEQ):
            raise
        return None
