"""chmod: permissions as chmod(1) of POSIX writes them."""

from __future__ import annotations

import re

from cognu.errors import E, FileError
from cognu.ninep.types import DMPERM, SetStat
from cognu.shell.state import Call

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxX]*)+)")
_ACTION = re.compile(r"([-+=])([rwxX]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def new_mode(text: str, mode: int, is_directory: bool) -> int:
    """The permissions (nine bits) that `text` makes of those of `mode`: octal digits, or clauses such as `u+x,go-w`.

    A clause that says nobody means everybody. `X` is `x` for directories and for what somebody may execute already.
    Raises `FileError(USAGE)`.
    """
    if re.fullmatch(r"[0-7]{1,4}", text, re.ASCII) and int(text, 8) <= DMPERM:
        return int(text, 8)
    now = mode & DMPERM
    for clause in text.split(","):
        found = _CLAUSE.fullmatch(clause)
        if found is None:
            raise FileError(E.USAGE, text, "a mode is three octal digits, or as in u+x,go-w")
        for sign, letters in _ACTION.findall(found[2]):
            executes = is_directory or bool(now & 0o111)
            bits = sum(_BITS[letter] for letter in {"x" if letter == "X" else letter for letter in letters})
            if "X" in letters and "x" not in letters and not executes:
                bits &= ~_BITS["x"]
            now = _changed(now, set(found[1].replace("a", "ugo") or "ugo"), sign, bits)
    return now


def _changed(mode: int, who: set[str], sign: str, bits: int) -> int:
    theirs = sum(0o7 << _SHIFTS[each] for each in who)
    given = sum(bits << _SHIFTS[each] for each in who)
    if sign == "=":
        return mode & ~theirs | given
    return mode | given if sign == "+" else mode & ~given


async def chmod(call: Call) -> int:
    mode, *paths = call.operands
    new_mode(mode, 0, False)  # a mode that is none is told once, and no file changes

    async def one(path: str) -> None:
        found = await call.system.stat(path)
        # All but the permissions stays as it is: append-only and exclusive use are bits of the mode too.
        wanted = found.mode & ~DMPERM | new_mode(mode, found.mode, found.is_dir)
        await call.system.wstat(path, SetStat(mode=wanted))

    return await call.each(paths, one)
