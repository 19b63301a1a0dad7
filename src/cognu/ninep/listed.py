"""The entries of an Rlist: a directory's entries with their attributes. docs/9p-ng.md has the layout."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from ..errors import E, Misuse
from .codec import bad, pack_dirent, unpack_dirent
from .messages import Rgetattr
from .types import Buffer, Dirent, Qid

_ATTRIBUTES = Struct("<Q3I15Q")  # Rgetattr's fields but for the qid, which the entry has
_NAMES = tuple(name for name in Rgetattr.__dataclass_fields__ if name not in ("valid", "qid"))
LISTED_SIZE = 24 + _ATTRIBUTES.size
"""Bytes of one entry, without its name."""


class Listed(NamedTuple):
    """An entry; `attributes` None if they are not at hand where it was listed."""

    entry: Dirent
    attributes: Rgetattr | None


def pack_listed(entry: Dirent, attributes: Rgetattr | None) -> bytes:
    """One entry; the attributes' qid is the entry's. Raises `Misuse`."""
    values = [0] * (1 + len(_NAMES))
    if attributes is not None:
        values = [attributes.valid, *(getattr(attributes, name) for name in _NAMES)]
    try:
        return pack_dirent(entry) + _ATTRIBUTES.pack(*values)
    except StructError as error:
        raise Misuse(E.OVERFLOW, "directory entry", str(error)) from None


def unpack_listed(data: Buffer) -> Iterator[Listed]:
    """The entries in the data of an Rlist. Raises `ProtocolError`, also for a cut entry."""
    view, at = memoryview(data), 0
    while at < len(view):
        try:
            entry, at = unpack_dirent(view, at)
            valid, *rest = _ATTRIBUTES.unpack_from(view, at)
        except StructError:
            raise bad("directory listing", "the last entry is cut") from None
        at += _ATTRIBUTES.size
        yield Listed(entry, Rgetattr(valid, Qid(*entry.qid), *rest) if valid else None)
