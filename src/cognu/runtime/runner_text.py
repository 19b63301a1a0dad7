"""What a node and a runner tell each other, beside the files that the program uses.

The node's tree `#g` has three files for its runner. `orders` is what to run, as JSON; `code` the compiled program;
`ctl` takes lines from the runner (`Said`), and reading it brings the node's, one at a time, as proc(3)'s ctl has them.
What comes out of a runner is not trusted: it may be a program that broke out of its sandbox.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from cognu.errors import CognuError, E, FileError, ProtocolError
from cognu.files.launch import Grant, Mapping
from cognu.files.nstext import quote, split_words

ORDERS_TREE = "#g"
STREAMS_TREE = "#d"
MAX_LINE = 4096
"""Bytes of a line either way."""
MAX_MESSAGE = 512
"""Characters of a program's last message."""
MAX_NUMBER = (1 << 63) - 1


class Stream(NamedTuple):
    """A descriptor that the program begins with: how it was opened, where it stands, and what the node knows it by.

    `mode` as in open(5), with OAPPEND; `path` as it was reached, `spec` and `names` where it really is.
    """

    number: int
    mode: int
    offset: int
    path: str
    spec: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Orders:
    """What to run. Sizes in bytes, times in ns; texts as Python has names of files (surrogateescape)."""

    args: tuple[str, ...]
    environment: tuple[str, ...]
    user: str
    pid: int
    cwd: str
    grants: tuple[Grant, ...]
    directories: tuple[Mapping, ...]
    tops: tuple[str, ...] | None  # names at the top of its namespace, if they are known
    streams: tuple[Stream, ...]
    memory: int
    cpu: int | None
    files: int
    asks: bool  # whether somebody can be asked for what it has no grant for
    code: int  # bytes of the compiled program

    def text(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse_orders(data: bytes) -> Orders:
    """Raises `ProtocolError(BADMESSAGE)`."""
    try:
        row = json.loads(data)
        return Orders(
            args=_texts(row["args"]),
            environment=_texts(row["environment"]),
            user=_text(row["user"]),
            pid=_number(row["pid"]),
            cwd=_text(row["cwd"]),
            grants=tuple(Grant(*map(_text, grant)) for grant in row["grants"]),
            directories=tuple(Mapping(*map(_text, mapping)) for mapping in row["directories"]),
            tops=None if row["tops"] is None else _texts(row["tops"]),
            streams=tuple(_stream(*stream) for stream in row["streams"]),
            memory=_number(row["memory"]),
            cpu=None if row["cpu"] is None else _number(row["cpu"]),
            files=_number(row["files"]),
            asks=bool(row["asks"]),
            code=_number(row["code"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProtocolError(E.BADMESSAGE, ORDERS_TREE, f"no orders: {type(error).__name__}") from None


def _stream(number: Any, mode: Any, offset: Any, path: Any, spec: Any, names: Any) -> Stream:
    return Stream(_number(number), _number(mode), _number(offset), _text(path), _text(spec), _texts(names))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(value)
    return tuple(map(_text, value))


# -- from the runner --------------------------------------------------------------------------------------------------


class Running(NamedTuple):
    """The wall is up, and the program begins."""


class Used(NamedTuple):
    """What the program has of memory, in bytes, and how often it ran and called."""

    memory: int
    slices: int
    calls: int


class Over(NamedTuple):
    """The program ended: with this status, for this reason if it did not exit; where its streams stand."""

    status: int
    message: str
    offsets: tuple[int, ...]


class Refused(NamedTuple):
    """It could not be begun."""

    error: FileError


Said = Running | Used | Over | Refused


def said_text(said: Said) -> bytes:
    match said:
        case Running():
            words = ["running"]
        case Used():
            words = ["used", *map(str, said)]
        case Over(status, message, offsets):
            words = ["over", str(status), quote(message[:MAX_MESSAGE]), *map(str, offsets)]
        case Refused(error):
            subject, detail = quote(error.subject[:MAX_MESSAGE]), quote(error.detail[:MAX_MESSAGE])
            words = ["refused", error.error.name, subject, detail]
    return " ".join(words).encode("utf-8", "backslashreplace")


def parse_said(data: bytes) -> Said:
    """A line of a runner. Raises `ProtocolError(BADMESSAGE)`: then it is none, or none any more."""
    try:
        if len(data) > MAX_LINE:
            raise ValueError(len(data))
        match split_words(data.decode()):
            case ["running"]:
                return Running()
            case ["used", memory, slices, calls]:
                return Used(_digits(memory), _digits(slices), _digits(calls))
            case ["over", status, message, *offsets] if int(status) < 256 and len(offsets) < 4:
                return Over(_digits(status), _line(message), tuple(map(_digits, offsets)))
            case ["refused", symbol, subject, detail] if symbol in E.__members__:
                return Refused(FileError(E[symbol], _line(subject), _line(detail)))
    except (ValueError, CognuError):
        pass
    raise ProtocolError(E.BADMESSAGE, "runner", repr(data[:40]))


def _digits(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 20):
        raise ValueError(word)
    return _number(int(word))


def _line(text: str) -> str:
    """Fit to be shown: what a terminal would act on is spelled out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:MAX_MESSAGE])
