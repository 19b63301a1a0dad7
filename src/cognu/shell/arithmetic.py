"""`$((...))`: whole numbers of 64 bits with the operators of C that have no side effects.

Source: POSIX.1-2024, Shell & Utilities, 2.6.4; ISO C for precedence. A name stands for a variable's value, 0 if it is
empty. Results wrap as they do in C on every host that we run on; division and remainder cut towards zero.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from cognu.errors import E, FileError

DEEPEST = 60
"""How deep parentheses and prefixes may nest; bounds the recursion."""
SUBJECT = "$((...))"

_TOKEN = re.compile(
    r"\s*(0[xX][0-9a-fA-F]+|[0-9]+|[A-Za-z_][A-Za-z0-9_]*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%()<>&|^!~?:])"
)
_MOST_DIGITS = 30

_BINARY: dict[str, tuple[int, Callable[[int, int], int]]] = {
    "||": (1, lambda a, b: int(bool(a or b))),
    "&&": (2, lambda a, b: int(bool(a and b))),
    "|": (3, operator.or_),
    "^": (4, operator.xor),
    "&": (5, operator.and_),
    "==": (6, lambda a, b: int(a == b)),
    "!=": (6, lambda a, b: int(a != b)),
    "<": (7, lambda a, b: int(a < b)),
    "<=": (7, lambda a, b: int(a <= b)),
    ">": (7, lambda a, b: int(a > b)),
    ">=": (7, lambda a, b: int(a >= b)),
    "<<": (8, lambda a, b: a << (b & 63)),
    ">>": (8, lambda a, b: a >> (b & 63)),
    "+": (9, operator.add),
    "-": (9, operator.sub),
    "*": (10, operator.mul),
    "/": (10, lambda a, b: _divide(a, b)),
    "%": (10, lambda a, b: a - b * _divide(a, b)),
}
"""Each binary operator with how tightly it binds."""


def calculate(text: str, variable: Callable[[str], str]) -> int:
    """The value of an expression. Raises `FileError(USAGE)` that names what is wrong with it."""
    reader = _Reader(text, variable)
    value = reader.choice(True)
    if reader.token:
        raise refusal(f"'{reader.token}' is not expected in '{text.strip()}'")
    return value


def refusal(detail: str) -> FileError:
    return FileError(E.USAGE, SUBJECT, detail)


def _wrapped(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _divide(a: int, b: int) -> int:
    if b == 0:
        raise refusal("division by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


class _Reader:
    """`token` is the next one, empty at the end. What `counts` false reads is only looked over, as in C: the side of
    `&&` or `?:` that is not taken divides nothing by zero."""

    def __init__(self, text: str, variable: Callable[[str], str]) -> None:
        self.text = text
        self.variable = variable
        self.position = 0
        self.depth = 0
        self.token = ""
        self.advance()

    def advance(self) -> str:
        before = self.token
        found = _TOKEN.match(self.text, self.position)
        if found is not None:
            self.token, self.position = found[1], found.end()
        elif self.text[self.position :].strip():
            raise refusal(f"'{self.text[self.position :].strip()[:20]}' can't be read")
        else:
            self.token = ""
        return before

    def choice(self, counts: bool) -> int:
        self.depth += 1
        if self.depth > DEEPEST:
            raise refusal(f"it nests more than {DEEPEST} deep")
        value = self.binary(1, counts)
        if self.token == "?":
            self.advance()
            first = self.choice(counts and value != 0)
            if self.advance() != ":":
                raise refusal("a ':' is missing after '?'")
            second = self.choice(counts and value == 0)
            value = first if value else second
        self.depth -= 1
        return value

    def binary(self, least: int, counts: bool) -> int:
        left = self.unary(counts)
        while (found := _BINARY.get(self.token)) is not None and found[0] >= least:
            sign = self.advance()
            taken = counts and not (sign == "&&" and not left) and not (sign == "||" and left)
            right = self.binary(found[0] + 1, taken)
            left = _wrapped(found[1](left, right)) if taken else int(sign == "||") if counts else 0
        return left

    def unary(self, counts: bool) -> int:
        sign = self.advance()
        if sign in ("-", "+", "!", "~"):
            self.depth += 1
            if self.depth > DEEPEST:
                raise refusal(f"it nests more than {DEEPEST} deep")
            value = self.unary(counts)
            self.depth -= 1
            return _wrapped({"-": -value, "+": value, "!": int(not value), "~": ~value}[sign])
        if sign == "(":
            value = self.choice(counts)
            if self.advance() != ")":
                raise refusal("a ')' is missing")
            return value
        if sign[:1].isdigit():
            return number(sign)
        if sign[:1].isalpha() or sign[:1] == "_":
            return number(self.variable(sign).strip() or "0")
        raise refusal(f"a number is wanted, not '{sign}'" if sign else "a number is wanted at the end")


def number(text: str) -> int:
    """A C constant: decimal, octal after 0, hexadecimal after 0x; a sign may stand before it."""
    digits = text.lstrip("+-") if text[:1] in ("+", "-") else text
    base = 16 if digits[:2].lower() == "0x" else 8 if digits[:1] == "0" else 10
    try:
        if len(digits) > _MOST_DIGITS or not digits.isascii() or "_" in digits:
            raise ValueError
        value = int(digits, base)
    except ValueError:
        raise refusal(f"'{text[:_MOST_DIGITS]}' is not a number") from None
    return _wrapped(-value if text.startswith("-") else value)
