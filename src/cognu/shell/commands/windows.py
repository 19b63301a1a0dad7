"""What a window shows of lines: how many there is room for, how wide each is, and when the size changes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple
from unicodedata import category, east_asian_width

from cognu.errors import FileError
from cognu.shell.commands.reading import opened
from cognu.shell.state import Call

CLEAR = "\033[H\033[2J"
"""To the top left, and erase the screen (ECMA-48 CUP, ED)."""
WINSIZE, RESIZE = "/dev/winsize", "/dev/resize"


class Window(NamedTuple):
    rows: int
    columns: int


def parse_window(text: bytes) -> Window | None:
    """`ROWS COLUMNS`, as terminal(4) has it; None for anything else, and for a window without a size."""
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() and len(word) < 6 for word in words):
        return None
    rows, across = map(int, words)
    return Window(rows, across) if rows and across else None


async def window_of(call: Call) -> Window | None:
    """The terminal's size; None if it does not say."""
    try:
        async with opened(call.system, WINSIZE, "r") as file:
            return parse_window(await file.read())
    except FileError:
        return None


async def resized(call: Call, changed: asyncio.Event) -> None:
    """Set `changed` at each change of the size, and at the start; return if the terminal tells of none."""
    with suppress(FileError):
        async with opened(call.system, RESIZE, "r") as file:
            while await file.read():
                changed.set()


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Two blanks between."""
    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell + " " * (most - width(cell)) for cell, most in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def fitted(lines: list[str], window: Window | None) -> list[str]:
    """As much of a table as a window shows, with a line less, where the cursor is; the last says what is left out."""
    if window is None:
        return lines
    room = max(2, window.rows - 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more"]
    return [cut(line, window.columns) for line in lines]


def folded(line: str, across: int) -> list[str]:
    """A list as several lines, each ending with a comma but the last, as far as that makes them fit."""
    first, *rest = line.split(",")
    lines = [first]
    for word in rest:
        if width(f"{lines[-1]},{word},") <= across:
            lines[-1] += f",{word}"
        else:
            lines[-1] += ","
            lines.append(f"      {word.lstrip()}")
    return lines


def cut(line: str, most: int) -> str:
    """The beginning of a line that is too wide, with an ellipsis."""
    if width(line) <= most:
        return line
    while width(line) > most - 1:
        line = line[:-1]
    return line + "\u2026"


def width(text: str) -> int:
    """Columns of a terminal: two for what East Asia writes wide, none for what is put on the letter before."""
    if text.isascii():
        return len(text)
    return sum(
        0 if category(char) in ("Mn", "Me", "Cf") else 2 if east_asian_width(char) in "WF" else 1 for char in text
    )
