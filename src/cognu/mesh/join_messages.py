"""What two machines say to each other while one joins, by ticket or by code: messages of one size, with proofs.

Every message is 32768 bytes: magic, type u8, length u16, the body, zeros. Who listens on the way learns not even which
is longer. Bodies:

    CHALLENGE  I to J   nonce (32)
    TICKET     J to I   invitation (16) nonce (32)
    KEYED      I to J   MAC
    JOIN       J to I   nonce (32) card; MAC, signature
    ACCEPT     I to J   card; MAC, signature
    CONFIRM    J to I   the joiner's further grants; MAC, signature
    DONE       I to J   MAC
    REFUSE     both     reason u8, attempts left u8 (of a code; else 0)

A card is what a machine says of itself: its certificate, a byte that is 1 if it has the other one as a peer already,
and lists of its name, its addresses, its grants and what it asks for. The signatures are of the node keys; the MACs are
keyed by the ticket's secret. Both cover everything said before, and the certificate of the TLS listener they spoke
through, so that nobody can stand between. TICKET tells nothing but which ticket is meant; who answers KEYED has its
secret, and speaks through the listener that the joiner sees. Before that nothing is said of the joiner.

By a code there is no ticket, and so no secret at first. These come in place of TICKET and KEYED, and make one by SPAKE2
(spake.py), which then stands for the ticket's:

    PAIR       J to I   the code's number (2 digits) element (33)
    PAIRED     I to J   the inviter's fingerprint (32) element (33)
    KEY        J to I   MAC of both elements
    KEYED      I to J   another MAC of both elements

KEY and KEYED say whether the code is right by itself; before that nothing is said of either machine but the inviter's
fingerprint. If it is, and the MAC of JOIN is not, the two have seen different listeners: somebody stands between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from hmac import compare_digest
from struct import Struct

from blake3 import blake3

from cognu.errors import E, FileError, ProtocolError
from cognu.mesh.codes import NUMBER_DIGITS, attempts_left
from cognu.mesh.identity import ADDRESS_LENGTH, ADDRESS_LIMIT, bounded_grants, bounded_texts
from cognu.mesh.spake import ELEMENT_SIZE
from cognu.mesh.tickets import pack_texts, parse_texts

MESSAGE_SIZE = 32768
"""Enough for the longest card, so that none is refused for its size."""
NONCE_SIZE = 32
MAC_SIZE = 32
SIGNATURE_SIZE = 64
ID_SIZE = 16
CERTIFICATE_LIMIT = 1024
OFFERED_NAME_LIMIT = 255
_HEAD = Struct(">4sBH")
_MAGIC = b"CgJ3"
_FINGERPRINT_SIZE = 32


class Step(IntEnum):
    CHALLENGE = 1
    JOIN = 2
    ACCEPT = 3
    CONFIRM = 4
    DONE = 5
    REFUSE = 6
    PAIR = 7
    PAIRED = 8
    KEY = 9
    KEYED = 10
    TICKET = 11


class Refusal(IntEnum):
    """Why one refuses; the number travels, the text is for people. From NO_CODE on they are of pairing by code."""

    UNKNOWN = 1
    USED = 2
    EXPIRED = 3
    SPENT = 4
    WRONG = 5
    WITHDRAWN = 6
    FAILED = 7
    NO_CODE = 8
    CODE = 9
    BETWEEN = 10
    CODE_SPENT = 11
    CODE_USED = 12
    DECLINED = 13
    GIVEN_UP = 14
    NOT_KEPT = 15

    @property
    def detail(self) -> str:
        return _DETAILS[self]

    def error(self, left: int = 0) -> FileError:
        """As whoever is refused is told; `left` are the attempts that he still has, 0 if he was not told."""
        if self < Refusal.NO_CODE:
            return FileError(E.BADTICKET, "ticket", self.detail)
        if self not in (Refusal.CODE, Refusal.NO_CODE):  # what begins as no code does may be a good one mistyped
            return FileError(E.NOTPAIRED, "pair", self.detail)
        return FileError(E.WRONGCODE, "pair", f"{self.detail}; {attempts_left(left)}" if left else self.detail)


_DETAILS = {
    Refusal.UNKNOWN: "the inviter knows no such ticket",
    Refusal.USED: "it was used already",
    Refusal.EXPIRED: "it has expired",
    Refusal.SPENT: "too many attempts were made with it",
    Refusal.WRONG: "its secret is wrong, or somebody stands between the machines",
    Refusal.WITHDRAWN: "it was withdrawn",
    Refusal.FAILED: "the inviter could not store the pairing",
    Refusal.NO_CODE: "the machine there shows no such code, or no longer",
    Refusal.CODE: "the code is wrong",
    Refusal.BETWEEN: "the code is right, but somebody stands between the machines: neither was paired",
    Refusal.CODE_SPENT: "too many wrong codes were typed, and the one that was shown is over",
    Refusal.CODE_USED: "another machine has just paired with that code",
    Refusal.DECLINED: "what was asked for was not agreed to",
    Refusal.GIVEN_UP: "it was given up there",
    Refusal.NOT_KEPT: "the other machine could not keep it",
}


@dataclass(frozen=True)
class Card:
    """`certificate` is DER. `asks` are the grants that it asks for; `knows`: it has the other one as a peer already."""

    certificate: bytes
    name: str
    addresses: tuple[str, ...]
    grants: tuple[str, ...]
    asks: tuple[str, ...] = ()
    knows: bool = False


@dataclass(frozen=True)
class Request:
    """A JOIN; `signed` is the part that the MAC and the signature cover."""

    card: Card
    signed: bytes
    mac: bytes
    signature: bytes


@dataclass(frozen=True)
class Answer:
    """An ACCEPT; `signed` as in `Request`."""

    card: Card
    signed: bytes
    mac: bytes
    signature: bytes


@dataclass(frozen=True)
class Confirmation:
    """A CONFIRM; `signed` as in `Request`. `grants` are what was agreed to beside those of the card."""

    grants: tuple[str, ...]
    signed: bytes
    mac: bytes
    signature: bytes


def pack_message(step: Step, body: bytes) -> bytes:
    message = _HEAD.pack(_MAGIC, step, len(body)) + body
    return message + bytes(MESSAGE_SIZE - len(message))


def parse_message(data: bytes) -> tuple[Step, bytes]:
    """Raises `ProtocolError`: NOPROTO for another protocol or version, else BADFRAME."""
    if len(data) != MESSAGE_SIZE:
        raise ProtocolError(E.BADFRAME, "join", f"{len(data)} bytes")
    magic, step, length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ProtocolError(E.NOPROTO, "join", "the nodes speak different versions")
    end = _HEAD.size + length
    if step not in set(Step) or end > MESSAGE_SIZE or data[end:].strip(b"\0"):
        raise ProtocolError(E.BADFRAME, "join", f"message {step}")
    return Step(step), data[_HEAD.size : end]


def pack_card(card: Card) -> bytes:
    texts = b"".join(map(pack_texts, ((card.name,), card.addresses, card.grants, card.asks)))
    return len(card.certificate).to_bytes(2, "big") + card.certificate + bytes([card.knows]) + texts


def parse_card(data: bytes) -> Card:
    """Raises `ProtocolError(BADFRAME)`. What the certificate holds is not looked at."""
    length = int.from_bytes(data[:2], "big")
    certificate, knows = data[2 : 2 + length], data[2 + length : 3 + length]
    try:
        names, rest = parse_texts(data[3 + length :])
        addresses, rest = parse_texts(rest)
        grants, rest = parse_texts(rest)
        asks, rest = parse_texts(rest)
    except ValueError as error:
        raise ProtocolError(E.BADFRAME, "join", "card") from error
    sound = len(certificate) == length <= CERTIFICATE_LIMIT and not rest and len(names) == 1
    sound = sound and len(names[0]) <= OFFERED_NAME_LIMIT and knows in (b"\0", b"\1")
    sound = sound and bounded_texts(addresses, ADDRESS_LIMIT, ADDRESS_LENGTH)
    if not sound or not all(map(bounded_grants, (grants, asks))):
        raise ProtocolError(E.BADFRAME, "join", "card")
    return Card(certificate, names[0], addresses, grants, asks, knows == b"\1")


def parse_request(body: bytes) -> Request:
    """Raises `ProtocolError(BADFRAME)`."""
    signed, mac, signature = _split_proofs(body)
    return Request(parse_card(signed[NONCE_SIZE:]), signed, mac, signature)


def parse_claim(body: bytes) -> bytes:
    """The invitation of a TICKET; raises `ProtocolError(BADFRAME)`."""
    if len(body) != ID_SIZE + NONCE_SIZE:
        raise ProtocolError(E.BADFRAME, "join", "TICKET")
    return body[:ID_SIZE]


def parse_answer(body: bytes) -> Answer:
    """Raises `ProtocolError(BADFRAME)`."""
    signed, mac, signature = _split_proofs(body)
    return Answer(parse_card(signed), signed, mac, signature)


def parse_confirmation(body: bytes) -> Confirmation:
    """Raises `ProtocolError(BADFRAME)`."""
    signed, mac, signature = _split_proofs(body)
    try:
        grants, rest = parse_texts(signed)
    except ValueError as error:
        raise ProtocolError(E.BADFRAME, "join", "CONFIRM") from error
    if rest or not bounded_grants(grants):
        raise ProtocolError(E.BADFRAME, "join", "CONFIRM")
    return Confirmation(grants, signed, mac, signature)


def pack_pair(number: str, element: bytes) -> bytes:
    return number.encode() + element


def parse_pair(body: bytes) -> tuple[str, bytes]:
    """(number, element) of a PAIR; raises `ProtocolError(BADFRAME)`. The element is not looked at."""
    number = body[:NUMBER_DIGITS]
    if len(body) != NUMBER_DIGITS + ELEMENT_SIZE or not number.isdigit():
        raise ProtocolError(E.BADFRAME, "pair", "PAIR")
    return number.decode(), body[NUMBER_DIGITS:]


def parse_paired(body: bytes) -> tuple[bytes, bytes]:
    """(fingerprint, element) of a PAIRED; raises `ProtocolError(BADFRAME)`. The element is not looked at."""
    if len(body) != _FINGERPRINT_SIZE + ELEMENT_SIZE:
        raise ProtocolError(E.BADFRAME, "pair", "PAIRED")
    return body[:_FINGERPRINT_SIZE], body[_FINGERPRINT_SIZE:]


def key_proof(step: Step, secret: bytes, typed: bytes, shown: bytes) -> bytes:
    """KEY or KEYED: that whoever says it has the key of this exchange; the elements are of who typed the code, and of
    who shows it."""
    key = blake3(secret, derive_key_context="cognu 1 pair key").digest()
    return blake3(step.name.encode() + typed + shown, key=key).digest(MAC_SIZE)


def proves_key(step: Step, mac: bytes, secret: bytes, typed: bytes, shown: bytes) -> bool:
    return compare_digest(mac, key_proof(step, secret, typed, shown))


def pack_refusal(refusal: Refusal, left: int = 0) -> bytes:
    """The body of a REFUSE."""
    return bytes([refusal, left])


def parse_refusal(body: bytes) -> tuple[Refusal, int]:
    """Why, and how many attempts are left. Raises `ProtocolError(BADFRAME)`."""
    if len(body) != 2 or body[0] not in set(Refusal):
        raise ProtocolError(E.BADFRAME, "join", "REFUSE")
    return Refusal(body[0]), body[1]


def _split_proofs(body: bytes) -> tuple[bytes, bytes, bytes]:
    end = len(body) - MAC_SIZE - SIGNATURE_SIZE
    if end < 0:
        raise ProtocolError(E.BADFRAME, "join", f"{len(body)} bytes")
    return body[:end], body[end : end + MAC_SIZE], body[end + MAC_SIZE :]


class Transcript:
    """Everything both sides have seen, in order; the proofs of each step cover all of it and the step."""

    def __init__(self, listener: bytes, inviter: bytes, challenge: bytes) -> None:
        """`listener` is the TLS listener's certificate (DER), `inviter` the fingerprint's 32 bytes."""
        self._hash = blake3(derive_key_context="cognu 1 join transcript")
        for part in (listener, inviter, challenge):
            self.add(part)

    def add(self, part: bytes) -> None:
        self._hash.update(len(part).to_bytes(8, "big"))
        self._hash.update(part)

    def message(self, step: Step) -> bytes:
        """What is signed at `step`."""
        return b"cognu 1 join " + step.name.encode() + self._hash.digest()

    def mac(self, secret: bytes, step: Step) -> bytes:
        key = blake3(secret, derive_key_context="cognu 1 join mac").digest()
        return blake3(self.message(step), key=key).digest(MAC_SIZE)

    def proves(self, mac: bytes, secret: bytes, step: Step) -> bool:
        return compare_digest(mac, self.mac(secret, step))
