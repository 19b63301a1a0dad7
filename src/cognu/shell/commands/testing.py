"""`test` and `[`, as POSIX has them for up to four arguments; `&&` and `||` join more."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from cognu.errors import E, FileError
from cognu.ninep.types import DMDIR, DMSYMLINK, Stat
from cognu.shell.state import FAILED, Call
from cognu.shell.system import is_terminal

_INTEGER = re.compile(r"\s*[-+]?[0-9]{1,18}\s*")


async def evaluate(call: Call) -> int:
    """`test`: 0 if it holds, 1 if not. Raises USAGE."""
    return await _status(call, call.argv[1:])


async def bracket(call: Call) -> int:
    """`[`, whose last argument is `]`."""
    if call.argv[-1] != "]":
        raise call.usage("the last word is ]")
    return await _status(call, call.argv[1:-1])


async def _status(call: Call, words: Sequence[str]) -> int:
    return 0 if await _holds(call, words) else FAILED


async def _holds(call: Call, words: Sequence[str]) -> bool:
    match len(words):
        case 0:
            return False
        case 1:
            return bool(words[0])
        case 3 if words[1] in _BINARY:
            return await _BINARY[words[1]](call, words[0], words[2])
    if words[0] == "!":
        return not await _holds(call, words[1:])
    if len(words) == 2 and words[0] in _UNARY:
        return await _UNARY[words[0]](call, words[1])
    if words[0] == "(" and words[-1] == ")":
        return await _holds(call, words[1:-1])
    raise call.usage("join several with && and ||" if len(words) > 4 else "this is no condition", " ".join(words)[:60])


def _integer(call: Call, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise call.usage("a whole number is wanted", text)
    return int(text)


def _compared(compare: Callable[[int, int], bool]) -> Callable[[Call, str, str], Awaitable[bool]]:
    async def numbers(call: Call, left: str, right: str) -> bool:
        return compare(_integer(call, left), _integer(call, right))

    return numbers


def _texts(compare: Callable[[str, str], bool]) -> Callable[[Call, str, str], Awaitable[bool]]:
    async def texts(_call: Call, left: str, right: str) -> bool:
        return compare(left, right)

    return texts


async def _stat(call: Call, path: str, follow: bool = True) -> Stat | None:
    try:
        return await call.system.stat(path, follow)
    except FileError as error:
        if error.error is E.PIPE:
            raise
        return None  # what can't be looked at is not there, for whoever asks


def _file(fits: Callable[[Stat], bool], follow: bool = True) -> Callable[[Call, str], Awaitable[bool]]:
    async def look(call: Call, path: str) -> bool:
        stat = await _stat(call, path, follow)
        return stat is not None and fits(stat)

    return look


async def _newer(call: Call, left: str, right: str) -> bool:
    first, second = await _stat(call, left), await _stat(call, right)
    return first is not None and (second is None or first.mtime > second.mtime)


async def _older(call: Call, left: str, right: str) -> bool:
    return await _newer(call, right, left)


async def _given(_call: Call, text: str) -> bool:
    return bool(text)


async def _empty(_call: Call, text: str) -> bool:
    return not text


async def _terminal(call: Call, text: str) -> bool:
    streams = call.streams
    files = {"0": streams.stdin, "1": streams.stdout, "2": streams.stderr}
    return text in files and is_terminal(files[text])


_UNARY: dict[str, Callable[[Call, str], Awaitable[bool]]] = {
    "-n": _given,
    "-z": _empty,
    "-t": _terminal,
    "-e": _file(lambda stat: True),
    "-f": _file(lambda stat: not stat.mode & (DMDIR | DMSYMLINK)),
    "-d": _file(lambda stat: bool(stat.mode & DMDIR)),
    "-s": _file(lambda stat: stat.length > 0),
    "-r": _file(lambda stat: bool(stat.mode & 0o444)),
    "-w": _file(lambda stat: bool(stat.mode & 0o222)),
    "-x": _file(lambda stat: bool(stat.mode & 0o111)),
    "-L": _file(lambda stat: bool(stat.mode & DMSYMLINK), follow=False),
    "-h": _file(lambda stat: bool(stat.mode & DMSYMLINK), follow=False),
}

_BINARY: dict[str, Callable[[Call, str, str], Awaitable[bool]]] = {
    "=": _texts(lambda left, right: left == right),
    "!=": _texts(lambda left, right: left != right),
    "-eq": _compared(lambda left, right: left == right),
    "-ne": _compared(lambda left, right: left != right),
    "-lt": _compared(lambda left, right: left < right),
    "-le": _compared(lambda left, right: left <= right),
    "-gt": _compared(lambda left, right: left > right),
    "-ge": _compared(lambda left, right: left >= right),
    "-nt": _newer,
    "-ot": _older,
}
