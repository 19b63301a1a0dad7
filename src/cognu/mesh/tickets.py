"""Tickets: one line of text that lets one machine join, once, for ten minutes.

    cognu-<base32, lower case>

The content is: version u8, secret (16 bytes), expiry u64 (seconds since 1970), the inviter's fingerprint (32 bytes),
then two lists, addresses and grants, each a count u8 and that many texts with a length u16; last 4 bytes of BLAKE3
over all before, so that a typing error is told apart from a ticket that expired. Integers are big-endian.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from struct import Struct

from blake3 import blake3

from cognu.errors import E, FileError
from cognu.mesh.identity import (
    ADDRESS_LENGTH,
    ADDRESS_LIMIT,
    bounded_grants,
    bounded_texts,
    fingerprint_bytes,
    fingerprint_text,
)

PREFIX = "cognu-"
SECRET_SIZE = 16
LIFE_SECONDS = 600
VERSION = 1
TEXT_LIMIT = 25_000
"""Characters; longer than any ticket within the limits of its lists."""
_HEAD = Struct(">B16sQ32s")
_SUM_SIZE = 4


@dataclass(frozen=True)
class Ticket:
    """`addresses` are where to join, `expires` seconds since 1970, `grants` what the joiner will be granted."""

    secret: bytes
    expires: int
    inviter: str
    addresses: tuple[str, ...]
    grants: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Ticket(inviter={self.inviter}, expires={self.expires})"


def invitation_id(secret: bytes) -> bytes:
    """16 bytes by which the inviter finds the invitation; they tell nothing of the secret."""
    return blake3(secret, derive_key_context="cognu 1 invitation id").digest(16)


def ticket_number(text: str) -> str:
    """The number by which the inviter lists a ticket's invitation. Raises `FileError(BADTICKET)`."""
    return invitation_id(parse_ticket(text).secret).hex()


def format_ticket(ticket: Ticket) -> str:
    """The ticket as text; raises `FileError(INVAL)` if a list is out of bounds."""
    if not ticket.addresses or not bounded_texts(ticket.addresses, ADDRESS_LIMIT, ADDRESS_LENGTH):
        raise FileError(E.INVAL, "ticket", "addresses")
    if not bounded_grants(ticket.grants):
        raise FileError(E.INVAL, "ticket", "grants")
    body = _HEAD.pack(VERSION, ticket.secret, ticket.expires, fingerprint_bytes(ticket.inviter))
    body += pack_texts(ticket.addresses) + pack_texts(ticket.grants)
    body += blake3(body).digest(_SUM_SIZE)
    return PREFIX + base64.b32encode(body).decode().rstrip("=").lower()


def parse_ticket(text: str) -> Ticket:
    """The other way; blanks and line ends within are forgiven, as copying adds them.

    Raises `FileError(BADTICKET)` and says whether it is no ticket, mistyped, or of another version.
    """
    squeezed = "".join(text.split()).lower()
    if not squeezed.startswith(PREFIX) or len(squeezed) > TEXT_LIMIT:
        raise _bad(f"a ticket begins with {PREFIX}")
    letters = squeezed.removeprefix(PREFIX).upper()
    try:
        body = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError) as error:
        raise _bad("a letter is wrong or missing; copy it whole") from error
    canonical = base64.b32encode(body).decode().rstrip("=") == letters
    if not canonical or len(body) < _HEAD.size + _SUM_SIZE or blake3(body[:-_SUM_SIZE]).digest(4) != body[-_SUM_SIZE:]:
        raise _bad("a letter is wrong or missing; copy it whole")
    version, secret, expires, inviter = _HEAD.unpack_from(body)
    if version != VERSION:
        raise _bad(f"version {version}; update this node")
    try:
        addresses, rest = parse_texts(body[_HEAD.size : -_SUM_SIZE])
        grants, rest = parse_texts(rest)
    except ValueError as error:
        raise _bad("its lists are damaged") from error
    bounded = bounded_texts(addresses, ADDRESS_LIMIT, ADDRESS_LENGTH)
    if rest or not addresses or not bounded or not bounded_grants(grants):
        raise _bad("its lists are damaged")
    return Ticket(secret, expires, fingerprint_text(inviter), addresses, grants)


def pack_texts(texts: tuple[str, ...]) -> bytes:
    parts = [bytes([len(texts)])]
    for text in texts:
        data = text.encode()
        parts += [len(data).to_bytes(2, "big"), data]
    return b"".join(parts)


def parse_texts(data: bytes) -> tuple[tuple[str, ...], bytes]:
    """A list of texts and the bytes after it; raises `ValueError`."""
    if not data:
        raise ValueError("no list")
    texts: list[str] = []
    position = 1
    for _ in range(data[0]):
        length = int.from_bytes(data[position : position + 2], "big")
        position += 2
        if position + length > len(data):
            raise ValueError("list is cut off")
        texts.append(data[position : position + length].decode())
        position += length
    return tuple(texts), data[position:]


def _bad(detail: str) -> FileError:
    return FileError(E.BADTICKET, "ticket", detail)
