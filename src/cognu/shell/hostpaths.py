"""What a path of the host is called in a node's namespace: its own name, except where Cognu uses that name itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

OURS = frozenset(("bin", "dev", "env", "fd", "mnt", "n", "net", "proc", "srv", "tmp"))
"""Top-level names of the namespace that are not the host's."""
TWICE = ("bin", "dev", "env", "fd", "proc", "srv", "tmp")
"""Those of them that a host may have too: there the same path is another file."""
DEVICES = frozenset((
    "drivers", "kmesg", "log", "notify", "null", "pid", "profile", "random", "sensor", "snarf", "sysname", "time",
    "user", "zero",
))  # fmt: skip
"""What a node has in /dev. By these names it is always meant, whether the host has one too or not."""
HOST = "/mnt/host"
"""Where the whole host is."""


def is_directory(path: str) -> bool:
    """Whether the host has a directory there, itself and no link to one: such are bound at their own names."""
    return os.path.isdir(path) and not os.path.islink(path)


def namespace_path(path: str, bound: Callable[[str], bool] = is_directory) -> str:
    """The namespace's name for an absolute path of the host."""
    whole = os.path.normpath("/" + path.lstrip("/"))
    top = whole.split("/")[1]
    if not top:
        return HOST
    if top in OURS or top.startswith(".") or not bound(f"/{top}"):
        return HOST + whole
    return whole


def translate(word: str, exists: Callable[[str], bool] = os.path.lexists) -> str:
    """A word of the host's command line: an absolute path of the host by its name in the namespace, else as it is.

    What does not exist on the host may be meant in the namespace (`/n/pi/...`) and stays too, and so does a device of
    the node's.
    """
    match os.path.normpath(word).split("/"):
        case ["", "dev", name, *_] if name in DEVICES:
            return word
    return namespace_path(word) if word.startswith("/") and exists(word) else word


def translate_all(words: Iterable[str]) -> list[str]:
    return [translate(word) for word in words]
