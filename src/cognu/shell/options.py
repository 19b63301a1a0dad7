"""Command lines: options by POSIX's rules (XBD 12.2), with long names, and numbers.

Options may stand after operands too, except where what follows belongs to a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cognu.errors import E, FileError

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Options:
    """What was typed: option letters or long names with their values (`""` for a flag), and the operands."""

    given: list[tuple[str, str]] = field(default_factory=list)
    operands: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return any(given == name for given, _ in self.given)

    def value(self, name: str) -> str | None:
        """The last value typed for an option, None if it was not."""
        found = self.values(name)
        return found[-1] if found else None

    def values(self, name: str) -> list[str]:
        return [value for given, value in self.given if given == name]

    def last_of(self, names: str) -> str | None:
        """The letter typed last among those that exclude each other."""
        typed = [given for given, _ in self.given if given in names]
        return typed[-1] if typed else None


def parse_options(arguments: Sequence[str], names: Sequence[str], mixed: bool = True) -> Options:
    """Sort arguments into options and operands.

    `names` lists the options, one letter or a long name each, with `=` after those that take a value. With `mixed`
    false, everything from the first operand on is an operand. Raises `FileError(USAGE)`.
    """
    options = Options()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            break
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            if f"{name}=" in names:
                options.given.append((name, value if equals else _value(argument, rest)))
            elif name in names and len(name) > 1 and not equals:
                options.given.append((name, ""))
            else:
                raise FileError(E.USAGE, argument, "no such option")
        elif argument.startswith("-") and argument != "-":
            _letters(argument, rest, names, options)
        else:
            options.operands.append(argument)
            if not mixed:
                break
    options.operands.extend(rest)
    return options


def _letters(argument: str, rest: list[str], names: Sequence[str], options: Options) -> None:
    for index, letter in enumerate(argument[1:], start=2):
        if f"{letter}=" in names:
            options.given.append((letter, argument[index:] or _value(f"-{letter}", rest)))
            return
        if letter not in names:
            raise FileError(E.USAGE, f"-{letter}", "no such option")
        options.given.append((letter, ""))


def _value(option: str, rest: list[str]) -> str:
    if not rest:
        raise FileError(E.USAGE, option, "a value is missing")
    return rest.pop(0)


def parse_count(text: str) -> int:
    """A decimal number without a sign, of at most 18 digits. Raises `FileError(USAGE)`."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise FileError(E.USAGE, text, "a number is wanted, zero or more")
    return int(text)


def parse_size(text: str) -> int:
    """A number of bytes, or of K, M or G (powers of 1024). Raises `FileError(USAGE)`."""
    unit = _UNITS.get(text[-1:].upper())
    return parse_count(text) if unit is None else parse_count(text[:-1]) * unit


def parse_seconds(text: str) -> float:
    """Seconds, zero or more, with a fraction if wanted. Raises `FileError(USAGE)`."""
    whole, _, fraction = text.partition(".")
    parse_count(whole + fraction)
    return float(text)
