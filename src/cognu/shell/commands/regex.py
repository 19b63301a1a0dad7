"""POSIX regular expressions, basic and extended, as Python's. Source: POSIX.1-2024, XBD chapter 9, with GNU's `\\|`,
`\\+`, `\\?`, `\\w`, `\\s`, `\\b`, `\\<` and `\\>`.

Every construct is parsed here and written anew, so nothing of Python's own syntax can be reached from a pattern.
"""

from __future__ import annotations

import re

from cognu.errors import E, FileError

MOST_REPEATS = 32767  # RE_DUP_MAX of GNU's library

_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": " \\t\\n\\r\\f\\v",
    "blank": " \\t",
    "punct": "!-/:-@\\[-`{-\\~",
    "print": " -\\~",
    "graph": "!-\\~",
    "cntrl": "\\x00-\\x1f\\x7f",
    "xdigit": "0-9A-Fa-f",
}
_ESCAPES = {"w": r"\w", "W": r"\W", "s": r"\s", "S": r"\S", "b": r"\b", "B": r"\B", "<": r"\b(?=\w)", ">": r"\b(?<=\w)"}


def compile_regex(pattern: str, extended: bool, ignore_case: bool) -> re.Pattern[str]:
    """The compiled form. Raises `FileError(USAGE)` for what is no regular expression."""
    translated = _Translator(pattern, extended).whole()
    try:
        return re.compile(translated, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError) as error:
        raise FileError(E.USAGE, pattern, str(error)) from None
    except RecursionError:
        raise FileError(E.USAGE, pattern, "parentheses nest too deep") from None


def compile_fixed(text: str, ignore_case: bool) -> re.Pattern[str]:
    return re.compile(re.escape(text), re.IGNORECASE if ignore_case else 0)


class _Translator:
    """`done` is what was written; `atom` the piece a following `*` repeats, None where there is nothing to repeat."""

    def __init__(self, pattern: str, extended: bool) -> None:
        self.pattern = pattern
        self.extended = extended
        self.at = 0
        self.done: list[str] = []
        self.atom: str | None = None
        # Where each open group began in `done`.
        self.groups: list[int] = []

    def fault(self, detail: str) -> FileError:
        return FileError(E.USAGE, self.pattern, detail)

    def whole(self) -> str:
        while self.at < len(self.pattern):
            self._step()
        if self.groups:
            raise self.fault("a parenthesis is not closed")
        self._flush()
        return "".join(self.done)

    def _flush(self) -> None:
        if self.atom is not None:
            self.done.append(self.atom)
            self.atom = None

    def _put(self, atom: str) -> None:
        self._flush()
        self.atom = atom

    def _operator(self) -> str:
        """The operator at this place (`(`, `)`, `{`, `|`, `+`, `?`, `*` ...) or `""`, with the place moved past it."""
        char = self.pattern[self.at]
        following = self.pattern[self.at + 1 : self.at + 2]
        if char in "*.[^$" or (self.extended and char in "(){|+?"):
            self.at += 1
            return char
        if not self.extended and char == "\\" and following and following in "(){|+?":
            self.at += 2
            return following
        return ""

    def _step(self) -> None:
        start = self.at
        operator = self._operator()
        if operator in ("*", "+", "?", "{") and operator:
            self._repeat(operator)
        elif operator == "(":
            self._flush()
            self.groups.append(len(self.done))
            self.done.append("(")
        elif operator == ")":
            self._close()
        elif operator == "|":
            self._flush()
            self.done.append("|")
        elif operator == ".":
            self._put("(?s:.)")
        elif operator == "[":
            self._put(self._bracket())
        elif operator in ("^", "$") and operator:
            self._anchor(operator, start)
        elif self.pattern[start] == "\\":
            self._escape()
        else:
            self.at = start + 1
            self._put(re.escape(self.pattern[start]))

    def _at_start(self) -> bool:
        """Whether a basic expression begins here: there `*` is a star and `^` an anchor."""
        return self.atom is None and (not self.done or self.done[-1] in ("(", "|", "^"))

    def _anchor(self, operator: str, start: int) -> None:
        if not self.extended:
            rest = self.pattern[self.at :]
            ends = not rest or rest.startswith((r"\)", r"\|"))
            begins = start == 0 or (self.atom is None and self.done[-1] in ("(", "|"))
            if not (begins if operator == "^" else ends):
                self._put(re.escape(operator))
                return
        self._flush()
        # No line holds a newline, so `$` is the very end.
        self.done.append("^" if operator == "^" else r"\Z")

    def _close(self) -> None:
        if not self.groups:
            if self.extended:
                self._put(r"\)")
                return
            raise self.fault("a parenthesis was never opened")
        self._flush()
        start = self.groups.pop()
        group = "".join(self.done[start:]) + ")"
        del self.done[start:]
        self.atom = group

    def _repeat(self, operator: str) -> None:
        if self.atom is None:
            if operator == "*" and not self.extended and self._at_start():
                self.atom = r"\*"
                return
            raise self.fault(f"there is nothing for {operator} to repeat")
        # The group keeps a second operator from making one of Python's own out of two, such as `*?` or `*+`.
        self.atom = f"(?:{self.atom}{self._interval() if operator == '{' else operator})"

    def _interval(self) -> str:
        closing = "}" if self.extended else r"\}"
        end = self.pattern.find(closing, self.at)
        inside = self.pattern[self.at : end] if end >= 0 else ""
        found = re.fullmatch(r"([0-9]{0,5})(,?)([0-9]{0,5})", inside)
        if found is None or not (found[1] or found[2]):
            raise self.fault("a repetition is {M}, {M,}, {,N} or {M,N}")
        if any(number and int(number) > MOST_REPEATS for number in (found[1], found[3])):
            raise self.fault(f"at most {MOST_REPEATS} repetitions")
        self.at = end + len(closing)
        return f"{{{found[1] or '0'}{found[2]}{found[3]}}}"

    def _escape(self) -> None:
        following = self.pattern[self.at + 1 : self.at + 2]
        if not following:
            raise self.fault("nothing follows the last backslash")
        self.at += 2
        if following in _ESCAPES:
            self._put(_ESCAPES[following])
        elif following in "123456789":
            self._put(f"(?:\\{following})")
        else:
            self._put(re.escape(following))

    def _bracket(self) -> str:
        negated = self.pattern.startswith("^", self.at)
        self.at += negated
        first = self.at
        members: list[str] = []
        while True:
            if self.at >= len(self.pattern):
                raise self.fault("[ is not closed")
            char = self.pattern[self.at]
            if char == "]" and self.at > first:
                self.at += 1
                return f"[{'^' if negated else ''}{''.join(members)}]"
            if self.pattern.startswith("[:", self.at):
                members.append(self._class())
                continue
            low = self._member()
            if self.pattern.startswith("-", self.at) and not self.pattern.startswith("-]", self.at):
                self.at += 1
                if self.at >= len(self.pattern):
                    raise self.fault("[ is not closed")
                high = self._member()
                if low > high:
                    raise self.fault(f"the range {low}-{high} is empty")
                members.append(f"{_in_set(low)}-{_in_set(high)}")
            else:
                members.append(_in_set(low))

    def _member(self) -> str:
        """One character of a set, plain or as `[.c.]` or `[=c=]`."""
        for mark in ".=":
            if self.pattern.startswith(f"[{mark}", self.at):
                inside = self.pattern[self.at + 2 : self.at + 3]
                if not inside or not self.pattern.startswith(f"{mark}]", self.at + 3):
                    raise self.fault(f"[{mark} takes one character and {mark}]")
                self.at += 5
                return inside
        self.at += 1
        return self.pattern[self.at - 1]

    def _class(self) -> str:
        end = self.pattern.find(":]", self.at)
        name = self.pattern[self.at + 2 : end] if end >= 0 else ""
        if name not in _CLASSES:
            raise self.fault(f"the classes are {' '.join(_CLASSES)}")
        self.at = end + 2
        return _CLASSES[name]


def _in_set(char: str) -> str:
    return char if char.isalnum() else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
