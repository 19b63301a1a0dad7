"""Labels: what a person says of a machine, NAME or NAME=VALUE, each name once. No I/O.

A machine's own are in its settings, and its profile says them to whoever may read that. Those that this machine's user
gives to a peer are in the peer book: they are told to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from cognu.errors import E, FileError

MOST_LABELS: Final = 64
VALUE_BYTES: Final = 200
LABEL_RULE: Final = (
    "a label is NAME or NAME=VALUE: a name is 1 to 63 of a-z, 0-9, '.', - and _, and begins with a letter or "
    f"digit; a value is printable, at most {VALUE_BYTES} bytes; a machine has at most {MOST_LABELS}"
)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def name_of(label: str) -> str:
    return label.partition("=")[0]


def valid_label(label: str) -> bool:
    name, _, value = label.partition("=")
    # What is printable can be encoded, and makes no line of its own.
    return _NAME.fullmatch(name) is not None and value.isprintable() and len(value.encode()) <= VALUE_BYTES


def valid_labels(labels: Sequence[str]) -> bool:
    names = {name_of(label) for label in labels}
    return all(map(valid_label, labels)) and len(names) == len(labels) <= MOST_LABELS


def changed_labels(labels: Iterable[str], words: Iterable[str]) -> tuple[str, ...]:
    """The labels after each word in turn: NAME or NAME=VALUE gives one, -NAME takes it away if it is there; by name.

    Raises `FileError(INVAL)` for what is no label, and for too many.
    """
    now = {name_of(label): label for label in labels}
    for word in words:
        taken = word.startswith("-")
        if not valid_label(word[taken:]) or (taken and "=" in word):
            raise FileError(E.INVAL, word, LABEL_RULE)
        if taken:
            now.pop(word[1:], None)
        else:
            name, _, value = word.partition("=")
            now[name] = word if value else name
    if len(now) > MOST_LABELS:
        raise FileError(E.INVAL, f"{len(now)} labels", LABEL_RULE)
    return tuple(now[name] for name in sorted(now))
