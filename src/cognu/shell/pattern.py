"""Patterns for names: `*`, `?`, `[...]` without classes like `[:alpha:]`.

Source: POSIX.1-2024, Shell & Utilities, 2.14.

Matching goes back to the last `*` only, so a hostile pattern costs length of pattern times length of name, no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Star:
    """Any text."""


@dataclass(frozen=True, slots=True)
class One:
    """Any one character, or one in (or outside, if `negated`) the ranges."""

    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = True


Step = Star | One | str
"""A `str` is one character that stands for itself."""


def _accepts(step: One | str, char: str) -> bool:
    if isinstance(step, str):
        return step == char
    return any(low <= char <= high for low, high in step.ranges) != step.negated


def compile_pattern(pieces: Sequence[tuple[str, bool]]) -> list[Step]:
    """Steps for text given as (text, quoted) pieces; quoted characters stand for themselves."""
    chars = [(char, quoted) for text, quoted in pieces for char in text]
    steps: list[Step] = []
    at = 0
    while at < len(chars):
        char, quoted = chars[at]
        bracket = None if quoted or char != "[" else _bracket(chars, at)
        if bracket is not None:
            step, at = bracket
            steps.append(step)
            continue
        if char == "*" and not quoted:
            steps.append(Star())
        elif char == "?" and not quoted:
            steps.append(One())
        else:
            steps.append(char)
        at += 1
    return steps


def _bracket(chars: Sequence[tuple[str, bool]], start: int) -> tuple[One, int] | None:
    """The set that opens at `start` and the index after it; None if it is never closed and so is plain text."""
    at = start + 1
    negated = at < len(chars) and chars[at] in (("!", False), ("^", False))
    at += negated
    first = at
    ranges: list[tuple[str, str]] = []
    while at < len(chars):
        char, quoted = chars[at]
        if char == "]" and not quoted and at > first:
            return One(tuple(ranges), negated), at + 1
        dash = at + 2 < len(chars) and chars[at + 1] == ("-", False) and chars[at + 2] != ("]", False)
        ranges.append((char, chars[at + 2][0] if dash else char))
        at += 3 if dash else 1
    return None


def matches(steps: Sequence[Step], name: str, dots: bool = False) -> bool:
    """Whether the whole name fits. A leading dot is matched only by a dot that was typed, unless `dots`."""
    if not dots and name.startswith(".") and steps[:1] != ["."]:
        return False
    step = at = 0
    star = -1
    star_at = 0
    while at < len(name):
        current = steps[step] if step < len(steps) else None
        if isinstance(current, Star):
            star, star_at = step, at
            step += 1
        elif current is not None and _accepts(current, name[at]):
            step += 1
            at += 1
        elif star >= 0:
            star_at += 1
            step, at = star + 1, star_at
        else:
            return False
    return all(isinstance(rest, Star) for rest in steps[step:])
