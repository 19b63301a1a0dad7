"""The names of objects: BLAKE3-256 of their bytes, shown as a CIDv1 (raw, blake3) in base32.

Sources: github.com/multiformats/cid (version 1), the multicodec table (raw 0x55, blake3 0x1e).
"""

from __future__ import annotations

from base64 import b32decode, b32encode

from blake3 import blake3

from cognu.errors import E, FileError

_HEAD = bytes([0x01, 0x55, 0x1E, 0x20])  # CIDv1, raw, blake3, 32 bytes follow
LENGTH = 59
"""Characters of a whole name: `b` for base32, then 36 bytes."""
COMMON = "bafkr4i"
"""What every name begins with; a prefix must go beyond it."""
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")


def name_of(data: bytes | memoryview) -> str:
    """The name of an object."""
    return name_of_digest(blake3(data).digest())


def name_of_digest(digest: bytes) -> str:
    """The name for 32 bytes of BLAKE3."""
    return "b" + b32encode(_HEAD + digest).decode().lower().rstrip("=")


def is_prefix(text: str) -> bool:
    """Whether `text` may be a name or the beginning of one."""
    return len(COMMON) < len(text) <= LENGTH and text.startswith(COMMON) and set(text) <= _ALPHABET


def check_name(text: str) -> str:
    """`text` itself if it is a whole name in its one right form. Raises INVAL."""
    if len(text) == LENGTH and is_prefix(text):
        raw = b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8))
        if name_of_digest(raw[4:]) == text:
            return text
    raise FileError(E.INVAL, text, "not the name of an object")


def is_whole(text: str) -> bool:
    """Whether `text` is a whole name in its one right form."""
    try:
        check_name(text)
    except FileError:
        return False
    return True
