"""Names of host files as text, and back, one to one.

A host's names are bytes; Cognu's are UTF-8 on every wire. Bytes that are not UTF-8 show as one character each
out of U+EF80..U+EFFF, MirBSD's range for raw bytes (OPTU-16), so such files can be listed, read, copied and
removed like any other. A name that really holds one of these characters shows as its three raw bytes, so
`encode(decode(x)) == x` always.
"""

from __future__ import annotations

import re

from cognu.errors import E, FileError
from cognu.world.refusals import printable

_RAW = 0xEF00
_RAW_TEXT = re.compile(r"[\uef80-\uefff]")
_UNDECODED = re.compile(r"[\udc80-\udcff\uef80-\uefff]")


def decode(name: bytes) -> str:
    """Any bytes as text without surrogates."""
    return _UNDECODED.sub(_shown, name.decode("utf-8", "surrogateescape"))


def encode(name: str) -> bytes:
    """The host's bytes; raises `FileError(ILSEQ)` for lone surrogates."""
    try:
        plain = name.encode("utf-8")
    except UnicodeError:
        raise FileError(E.ILSEQ, printable(name)) from None
    if _RAW_TEXT.search(name) is None:
        return plain
    escaped = _RAW_TEXT.sub(lambda found: chr(ord(found[0]) - _RAW + 0xDC00), name)
    return escaped.encode("utf-8", "surrogateescape")


def component(name: str) -> bytes:
    """`name` as one component of a path. Empty, `.`, `..`, slash and NUL are `FileError(INVAL)`."""
    raw = encode(name)
    if raw in (b"", b".", b"..") or b"/" in raw or b"\0" in raw:
        raise FileError(E.INVAL, printable(name), "one component of a path")
    return raw


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code >= _RAW:
        return "".join(chr(_RAW + byte) for byte in found[0].encode("utf-8"))
    return chr(_RAW + code - 0xDC00)
