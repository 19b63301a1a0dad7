"""What a machine says of itself on the local networks, as a DNS-SD service `_cognu._tcp` (RFC 6763). No I/O.

Everybody on the network hears it, so it says who this is only to those who know. The instance is 8 random bytes in
hexadecimal, other ones after each start and at each network. The pairs of the TXT record:

    v=1
    id=HEX              16 bytes of BLAKE3 of "cognu discovery 1" and the instance's 8, keyed by the fingerprint's 32
    name=TEXT           what it calls itself; only while it can be paired with
    pair=NUMBER:PORT    the same: the invitation's number, and where one joins

Who knows a fingerprint, as peers do, computes `id` and compares. Others can't tell that two announcements are of one
machine. Nothing here is proved: whoever heard an announcement can repeat it with addresses of his own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from blake3 import blake3

from cognu.mesh.identity import fingerprint_bytes, valid_name
from cognu.world.nearby import Service

KIND = "_cognu._tcp"
VERSION = b"1"
INSTANCE_BYTES = 8
ID_BYTES = 16
NUMBER_LIMIT = 64
_CONTEXT = b"cognu discovery 1"
_HEX = frozenset("0123456789abcdef")
_NUMBERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Announcement:
    """`instance` is INSTANCE_BYTES; `proof` is `id`, or empty for one that does not say who it is.

    `number` is the invitation's and `join_port` where it is open, "" and 0 when there is none; `name` goes with them.
    """

    instance: bytes
    proof: bytes = b""
    name: str = ""
    number: str = ""
    join_port: int = 0


def proof_of(fingerprint: str, instance: bytes) -> bytes:
    """What only who knows the fingerprint can say of `instance`: ID_BYTES."""
    return blake3(_CONTEXT + instance, key=fingerprint_bytes(fingerprint)).digest(length=ID_BYTES)


def valid_number(number: str) -> bool:
    """Whether an invitation's number can be announced: digits and small letters, at most NUMBER_LIMIT."""
    return 0 < len(number) <= NUMBER_LIMIT and set(number) <= _NUMBERS


def instance_bytes(instance: str) -> bytes:
    """The bytes that an instance's name spells; none if it is no name of this kind."""
    return _from_hex(instance, INSTANCE_BYTES)


def to_service(said: Announcement, port: int) -> Service:
    """The service to announce; `port` is where links come in."""
    text = {"v": VERSION}
    if said.proof:
        text["id"] = said.proof.hex().encode()
    if said.number:
        text["name"] = said.name.encode()
        text["pair"] = f"{said.number}:{said.join_port}".encode()
    return Service(said.instance.hex(), (), port, text)


def parse_service(service: Service) -> Announcement | None:
    """What a service says, or None if it is none of this version. A malformed part is as if it were not there."""
    instance = instance_bytes(service.instance)
    if not instance or service.text.get("v") != VERSION or not 0 < service.port < 65536:
        return None
    proof = _from_hex(_text(service.text, "id"), ID_BYTES)
    number, _, port = _text(service.text, "pair").partition(":")
    name = _text(service.text, "name")
    join_port = int(port) if port.isdigit() and len(port) < 6 else 0
    if not valid_number(number) or not valid_name(name) or not 0 < join_port < 65536:
        return Announcement(instance, proof)
    return Announcement(instance, proof, name, number, join_port)


def addresses_of(service: Service, port: int) -> tuple[str, ...]:
    """HOST:PORT for each of its hosts, IPv6 ones in brackets."""
    return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in service.hosts)


def _text(pairs: Mapping[str, bytes], key: str) -> str:
    try:
        return pairs.get(key, b"").decode("ascii")
    except UnicodeDecodeError:
        return ""


def _from_hex(text: str, size: int) -> bytes:
    """The bytes that exactly `size` pairs of small hexadecimal digits spell, else none."""
    return bytes.fromhex(text) if len(text) == 2 * size and set(text) <= _HEX else b""
