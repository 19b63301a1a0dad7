"""Commands that read text, or any bytes.

None holds a whole file but `sort`; `tail` holds the lines that it will print, and `grep` one line. A pattern of `grep`
that takes exponential time (`(a*)*b`) holds up the shell's process, for Python's matcher can't be interrupted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from cognu.errors import E, FileError
from cognu.ninep.types import Stat
from cognu.shell.ahead import ahead
from cognu.shell.commands.early import look_and_read, open_in_turn, read_small
from cognu.shell.commands.following import Counted, follow
from cognu.shell.commands.reading import chunks, closing, each_input, lines, walk
from cognu.shell.commands.regex import compile_fixed, compile_regex
from cognu.shell.options import parse_count
from cognu.shell.state import Call, decode, encode
from cognu.shell.system import File

_DEFAULT_LINES = 10


async def cat(call: Call) -> int:
    async def one(_name: str, file: File) -> None:
        async for data in chunks(file):
            await call.write(data)

    return await each_input(call, one)


async def echo(call: Call) -> int:
    words = call.operands
    newline = not (words and words[0] == "-n")
    await call.write(encode(" ".join(words if newline else words[1:]) + ("\n" if newline else "")))
    return 0


def _titles(call: Call) -> Callable[[str], str]:
    """What to print before each file's part: nothing for a single file, else a line with its name."""
    first = True

    def title(name: str) -> str:
        nonlocal first
        if len(call.operands) < 2:
            return ""
        gap = "" if first else "\n"
        first = False
        return f"{gap}==> {name} <==\n"

    return title


async def head(call: Call) -> int:
    by_bytes = call.options.value("c")
    digits = "".join(letter for letter, _ in call.options.given if letter.isdigit())
    count = parse_count(by_bytes or call.options.value("n") or digits or str(_DEFAULT_LINES))
    title = _titles(call)

    async def one(name: str, file: File) -> None:
        await call.write(encode(title(name)))
        left = count
        while left > 0:
            data = await file.read(min(left, 65536)) if by_bytes else await file.read()
            if not data:
                return
            if by_bytes is None:
                data, used = _first_lines(data, left)
            else:
                used = len(data)
            await call.write(data)
            left -= used

    return await each_input(call, one)


def _first_lines(data: bytes, count: int) -> tuple[bytes, int]:
    """The start of `data` up to its `count`-th newline, and how many newlines that holds."""
    end = 0
    for done in range(count):
        found = data.find(b"\n", end)
        if found < 0:
            return data, done
        end = found + 1
    return data[:end], count


async def tail(call: Call) -> int:
    by_bytes = "c" in call.options
    typed = call.options.value("c") or call.options.value("n") or str(_DEFAULT_LINES)
    from_start = typed.startswith("+")
    count = parse_count(typed.lstrip("+-") if typed[:1] in ("+", "-") else typed)
    title = _titles(call)
    if "f" in call.options and len(call.operands) > 1:
        raise FileError(E.USAGE, "tail", "-f follows one file")

    async def one(name: str, file: File) -> None:
        await call.write(encode(title(name)))
        if from_start:
            await _skip(call, file, max(count - 1, 0), by_bytes)
        elif by_bytes:
            await call.write(await _last_bytes(file, count))
        else:
            await _last_lines(call, file, count)

    async def on(name: str, file: File) -> None:
        counted = Counted(file)
        # The input ends by itself and is not followed (POSIX, tail, of pipes). Another stream has no length, nor an end
        # to count from: all of it is printed, as it comes.
        stream = name != "-" and not (await call.system.stat(name)).length
        await (_skip(call, counted, 0, True) if stream else one(name, counted))
        if name != "-":
            await follow(call, name, counted)

    return await each_input(call, on if "f" in call.options else one)


async def _skip(call: Call, file: File, left: int, by_bytes: bool) -> None:
    async for data in chunks(file):
        if left:
            start, used = (data[:left], min(left, len(data))) if by_bytes else _first_lines(data, left)
            left -= used
            data = data[len(start) :]
        if data:
            await call.write(data)


async def _last_bytes(file: File, count: int) -> bytes:
    kept = bytearray()
    async for data in chunks(file):
        kept += data
        if len(kept) > count + (1 << 20):
            del kept[: len(kept) - count]
    return bytes(kept[len(kept) - count :] if len(kept) > count else kept)


async def _last_lines(call: Call, file: File, count: int) -> None:
    """Keeps the last pieces read that hold `count` lines, whatever their length."""
    pieces: deque[bytes] = deque()
    newlines = 0
    async for data in chunks(file):
        pieces.append(data)
        newlines += data.count(b"\n")
        while len(pieces) > 1 and newlines - pieces[0].count(b"\n") > count:
            newlines -= pieces.popleft().count(b"\n")
    whole = b"".join(pieces)
    start = len(whole)
    end = len(whole) - 1 if whole.endswith(b"\n") else len(whole)
    for _ in range(count):
        start = whole.rfind(b"\n", 0, end) + 1
        end = start - 1
        if start == 0:
            break
    if start < len(whole):
        await call.write(whole[start:])


@dataclass(slots=True)
class _Counts:
    lines: int = 0
    words: int = 0
    size: int = 0

    def row(self, wanted: str, width: int, name: str) -> str:
        numbers = {"l": self.lines, "w": self.words, "c": self.size}
        row = " ".join(f"{numbers[letter]:>{width}}" for letter in wanted)
        return f"{row} {name}" if name else row


async def wc(call: Call) -> int:
    wanted = "".join(letter for letter in "lwc" if letter in call.options) or "lwc"
    width = 1 if len(wanted) == 1 else 7
    total = _Counts()

    async def one(name: str, file: File) -> None:
        counts = _Counts()
        in_word = False
        async for data in chunks(file):
            counts.lines += data.count(b"\n")
            counts.size += len(data)
            # A word that goes on from the piece before was counted there.
            counts.words += len(data.split()) - (in_word and not data[:1].isspace())
            in_word = not data[-1:].isspace()
        total.lines += counts.lines
        total.words += counts.words
        total.size += counts.size
        await call.print(counts.row(wanted, width, name if call.operands else ""))

    status = await each_input(call, one)
    if len(call.operands) > 1:
        await call.print(total.row(wanted, width, "total"))
    return status


class _Found(Exception):
    """`grep -q` found what it looks for."""


@dataclass(slots=True)
class _Grep:
    call: Call
    pattern: re.Pattern[str]
    named: bool
    matched: bool = False
    refused: bool = False

    async def file(self, name: str, file: File) -> None:
        """Print what one file holds of the pattern. Raises `_Found`."""
        options = self.call.options
        prefix = encode(f"{name}:") if self.named else b""
        count = number = 0
        async for line in lines(file):
            number += 1
            if (self.pattern.search(decode(line)) is None) != ("v" in options):
                continue
            self.matched = True
            count += 1
            if "q" in options:
                raise _Found
            if "l" in options:
                await self.call.print(name)
                return
            if "c" not in options:
                # Written at once: what follows may be long in coming.
                await self.call.write(prefix + (b"%d:" % number if "n" in options else b"") + line + b"\n")
        if "c" in options:
            await self.call.write(prefix + b"%d\n" % count)

    async def paths(self, paths: list[str]) -> None:
        async def early(path: str) -> File | None:
            return await look_and_read(self.call.system, path) if path != "-" else None

        if len(paths) == 1:
            await self.path(paths[0])
            return
        async with ahead(paths, early) as done:
            async for path, task in done:
                await self.path(path, task.result())

    async def path(self, path: str, held: File | None = None) -> None:
        """`held`: what was read of it before its turn, if anything was."""
        try:
            if path == "-":
                await self.file("(standard input)", self.call.streams.stdin)
                return
            async with closing(held or await open_in_turn(self.call.system, path)) as file:
                await self.file(path, file)
        except FileError as error:
            if error.error is E.PIPE:
                raise
            self.refused = True
            await self.call.complain(error)

    async def _early(self, found: tuple[str, Stat]) -> File | None:
        return await read_small(self.call.system, *found)

    async def tree(self, path: str) -> None:
        try:
            if not (await self.call.system.stat(path)).is_dir:
                await self.path(path)
                return
            async with ahead(walk(self.call.system, path), self._early) as done:
                async for (below, entry), task in done:
                    if not entry.is_dir and not entry.is_symlink:
                        await self.path(below, task.result())
        except FileError as error:
            if error.error is E.PIPE:
                raise
            self.refused = True
            await self.call.complain(error)


async def grep(call: Call) -> int:
    """0 if something matched, 1 if nothing did, 2 if a file could not be read (POSIX grep)."""
    typed, *paths = call.operands
    recursive = "r" in call.options
    ignore_case = "i" in call.options
    if "F" in call.options:
        pattern = compile_fixed(typed, ignore_case)
    else:
        pattern = compile_regex(typed, "E" in call.options, ignore_case)
    work = _Grep(call, pattern, len(paths) > 1 or recursive)
    try:
        if not recursive:
            await work.paths(paths or ["-"])
        else:
            for path in paths or ["."]:
                await work.tree(path)
    except _Found:
        return 0
    return 2 if work.refused else int(not work.matched)


_NUMBER = re.compile(rb"[ \t]*(-?[0-9]*(?:\.[0-9]*)?)")


def _number(line: bytes) -> Decimal:
    """The number that a line starts with, 0 if there is none (POSIX sort -n)."""
    found = _NUMBER.match(line)
    text = found[1].decode() if found else ""
    return Decimal(text) if any(char.isdigit() for char in text) else Decimal(0)


async def sort(call: Call) -> int:
    held: list[bytes] = []

    async def one(_name: str, file: File) -> None:
        async for line in lines(file):
            held.append(line)

    status = await each_input(call, one)
    numeric = "n" in call.options
    reverse = "r" in call.options
    if "u" in call.options:
        first: dict[object, bytes] = {}
        for line in held:
            first.setdefault(_number(line) if numeric else line, line)
        held = list(first.values())
    if numeric:
        # Lines with equal numbers come in the order of their bytes.
        held.sort(key=lambda line: (_number(line), line), reverse=reverse)
    else:
        held.sort(reverse=reverse)
    for start in range(0, len(held), 1000):
        await call.write(b"".join(line + b"\n" for line in held[start : start + 1000]))
    return status
