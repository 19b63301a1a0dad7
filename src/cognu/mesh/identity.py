"""Who a node is, and whom it knows.

A node's identity is an Ed25519 key (RFC 8032). Its fingerprint, BLAKE3 of the raw public key in lower-case base32, is
the node's name everywhere; pet names are for people and hold on one node only. The certificate for TLS is a pure
function of the key: self-signed, CA:FALSE, without an end, so no clock can make a pairing fail.

The peer book is the whole of a node's trust in others. It is one JSON file, replaced in one step; a damaged one is an
error and never an empty book.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace

from blake3 import blake3
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from cognu.errors import E, FileError, LinkBroken
from cognu.mesh.labels import LABEL_RULE, valid_labels
from cognu.world import Disk, Keeper

FINGERPRINT_LENGTH = 52
SHORT_LENGTH = 8
NAME_LIMIT = 32
NAME_RULE = f"a name is 1 to {NAME_LIMIT} of a-z, 0-9, - and _, neither - nor _ first or last"
ADDRESS_LIMIT = 8
"""Addresses kept for one peer, the one that worked last first."""
ADDRESS_LENGTH = 262
GRANT_LIMIT = 64
"""Grants of one peer. They are told in messages of one size (join_messages.py), which has room for no more."""
GRANT_LENGTH = 200
BOOK_VERSION = 1
LAST_SECOND = 253402300799
"""Since 1970, of the year 9999: no clock is believed to say more."""
KEY = "identity"
"""The name of the file with the private key, in a node's home."""
_BEGINNING = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NO_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""RFC 5280 4.1.2.5: a certificate without a well-defined expiration."""
_ANY_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
"""What a certificate says does not depend on who signs it."""
_ALIKE = str.maketrans("01i_", "oll-")
"""Characters of names that look like others, most of all in a terminal."""


def fingerprint_of(public: bytes) -> str:
    """52 characters for a raw Ed25519 public key of 32 bytes."""
    return base64.b32encode(blake3(public).digest()).decode().rstrip("=").lower()


def fingerprint_bytes(fingerprint: str) -> bytes:
    """The 32 bytes a fingerprint spells; raises `FileError(INVAL)` if it is none."""
    try:
        raw = base64.b32decode(fingerprint.upper() + "====")
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32 or base64.b32encode(raw).decode().rstrip("=").lower() != fingerprint:
        raise FileError(E.INVAL, fingerprint, "not a fingerprint")
    return raw


def fingerprint_text(raw: bytes) -> str:
    """The fingerprint that 32 bytes spell."""
    return base64.b32encode(raw).decode().rstrip("=").lower()


def short(fingerprint: str) -> str:
    """Enough of a fingerprint for people to tell machines apart; not enough to trust one by."""
    return fingerprint[:SHORT_LENGTH]


@dataclass(frozen=True)
class Identity:
    """This node's key and what follows from it. Never printed."""

    key: Ed25519PrivateKey
    public: bytes
    fingerprint: str
    certificate: str
    private_key: str

    def __repr__(self) -> str:
        return f"Identity({self.fingerprint})"

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self.key.sign(message)


def identity_from_seed(seed: bytes) -> Identity:
    """The identity of a private key of 32 bytes (RFC 8032 5.1.5)."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes_raw()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Identity(key, public, fingerprint_of(public), make_certificate(key), private)


def make_certificate(key: Ed25519PrivateKey) -> str:
    """The self-signed leaf certificate of `key`, PEM."""
    return _described(key.public_key()).sign(key, None).public_bytes(Encoding.PEM).decode()


def _described(public: Ed25519PublicKey) -> x509.CertificateBuilder:
    """All that the certificate of a key says."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fingerprint_of(public.public_bytes_raw()))])
    serial = int.from_bytes(blake3(public.public_bytes_raw()).digest()[:16], "big") | 1
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
    builder = builder.serial_number(serial).not_valid_before(_BEGINNING).not_valid_after(_NO_END)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return builder.add_extension(usage, critical=True)


def certificate_der(pem: str) -> bytes:
    """DER of a PEM certificate; raises `FileError(INVAL)`."""
    try:
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    except ValueError as error:
        raise FileError(E.INVAL, "certificate", str(error)) from error


def certificate_public(der: bytes) -> bytes:
    """The raw Ed25519 key of a DER certificate; raises `LinkBroken(BADPEER)`, for another machine sent it."""
    try:
        public = x509.load_der_x509_certificate(der).public_key()
    except ValueError as error:
        raise LinkBroken(E.BADPEER, "certificate", str(error)) from error
    if not isinstance(public, Ed25519PublicKey):
        raise LinkBroken(E.BADPEER, "certificate", "its key is not Ed25519")
    return public.public_bytes_raw()


def certificate_pem(der: bytes) -> str:
    """PEM of a DER certificate that was parsed before."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def check_certificate(der: bytes) -> None:
    """Raises `LinkBroken(BADPEER)` unless the certificate may be pinned: what `make_certificate` makes of its key.

    An authority could vouch for anybody. And TLS looks a certificate up by the name in it: one that had another peer's
    would be found in the place of that peer's own, which would then be refused.
    """
    public = certificate_public(der)
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise LinkBroken(E.BADPEER, "certificate", f"not a self-signed leaf: {error}") from error
    made = _described(Ed25519PublicKey.from_public_bytes(public)).sign(_ANY_KEY, None)
    if certificate.tbs_certificate_bytes != made.tbs_certificate_bytes:
        raise LinkBroken(E.BADPEER, "certificate", "not as a node makes it of its key")


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is `public`'s over `message`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_identity(world: Keeper, home: str) -> Identity:
    """The key in HOME/identity; a new one, written with mode 0600, if there is none.

    Raises `FileError(DAMAGED)` if the file holds no Ed25519 key; it is left as it is.
    """
    path = f"{home}/{KEY}"
    if not world.disk.exists(path):
        identity = identity_from_seed(world.random.bytes(32))
        world.disk.make_directory(home)
        world.disk.write(path, identity.private_key.encode(), 0o600)
        return identity
    try:
        key = load_pem_private_key(world.disk.read(path), password=None)
    except (ValueError, TypeError) as error:
        raise FileError(E.DAMAGED, path, "no private key in it") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FileError(E.DAMAGED, path, "its key is not Ed25519")
    return identity_from_seed(key.private_bytes_raw())


@dataclass(frozen=True)
class Peer:
    """A machine this node paired with. `granted` is what we let it use, `received` what it lets us use, as it said
    last, at `as_of` (seconds since 1970). `labels` are what this machine's user says of it, as in `mesh.labels`.
    `seen` is when a link to it was up last, as this machine's clock had it then, in the same seconds; 0: never."""

    fingerprint: str
    name: str
    certificate: str
    addresses: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()
    received: tuple[str, ...] = ()
    as_of: int = 0
    labels: tuple[str, ...] = ()
    seen: int = 0


def clean_name(offered: str, fallback: str) -> str:
    """A pet name out of what another machine calls itself: letters, digits, `-` and `_`, at most 32 characters."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in offered.partition(".")[0])
    return kept.strip("-_")[:NAME_LIMIT].rstrip("-_").lower() or fallback


def valid_name(name: str) -> bool:
    """Whether `name` can be a pet name: what `clean_name` makes."""
    return clean_name(name, "") == name != ""


def alike(name: str) -> str:
    """The same for pet names that a person may take for each other."""
    return name.translate(_ALIKE).replace("rn", "m").replace("vv", "w")


def bounded_texts(texts: Iterable[str], count: int, length: int) -> bool:
    """Whether there are at most `count` texts, each 1 to `length` printable characters without blanks."""
    listed = list(texts)
    return len(listed) <= count and all(
        0 < len(text.encode("utf-8", "surrogatepass")) <= length and text.isprintable() and " " not in text
        for text in listed
    )


def bounded_grants(texts: Iterable[str]) -> bool:
    """Whether there are no more grants than a record holds, each of a length that it holds. Any path may be in them."""
    listed = list(texts)
    return len(listed) <= GRANT_LIMIT and all(map(_is_kept, listed))


def check_grant_count(subject: str, texts: Iterable[str]) -> None:
    """Raises `FileError(GRANTSFULL)` about `subject` if these are more than one peer may have."""
    count = len(set(texts))
    if count > GRANT_LIMIT:
        raise FileError(E.GRANTSFULL, subject, f"{count}, and one machine may have at most {GRANT_LIMIT}")


def _is_kept(grant: str) -> bool:
    try:
        return 0 < len(grant.encode()) <= GRANT_LENGTH and "\0" not in grant
    except UnicodeEncodeError:
        return False


class PeerBook:
    """The peers, by fingerprint, in HOME/peers.json. Every change is on disk when the call returns."""

    def __init__(self, disk: Disk, home: str) -> None:
        """Raises `FileError(DAMAGED)` if the file is not a peer book as this class writes it."""
        self._disk = disk
        self._home = home
        self._path = f"{home}/peers.json"
        self._peers: dict[str, Peer] = {}
        self.on_change: Callable[[], None] | None = None
        self.on_anew: Callable[[str], None] = lambda _: None
        """Told the fingerprint of a peer that was in the book and has joined anew: what was between them has ended."""
        if disk.exists(self._path):
            self._peers = parse_book(disk.read(self._path), self._path)

    def all(self) -> list[Peer]:
        """Sorted by pet name."""
        return sorted(self._peers.values(), key=lambda peer: peer.name)

    def get(self, fingerprint: str) -> Peer | None:
        return self._peers.get(fingerprint)

    def find(self, text: str) -> Peer:
        """By fingerprint, pet name, or a unique beginning of a fingerprint (8 characters or more).

        Raises `FileError(NOPEER)` or `FileError(AMBIGUOUS)`, this also where one's name begins another's fingerprint.
        """
        if text in self._peers:
            return self._peers[text]
        begun = text.lower() if len(text) >= SHORT_LENGTH else None
        found = [
            peer
            for peer in self._peers.values()
            if peer.name == text or (begun is not None and peer.fingerprint.startswith(begun))
        ]
        if not found:
            raise FileError(E.NOPEER, text)
        if len(found) > 1:
            raise FileError(E.AMBIGUOUS, text)
        return found[0]

    def add(self, peer: Peer, anew: bool = False) -> Peer:
        """Pin a peer, or join what is new to what was pinned of the same one; returns it with the pet name it got.

        Grants add up: a further ticket takes nothing away that an earlier one gave. But not if the two join `anew`,
        since one has dropped the other: what was granted before ended then. What it grants here is as it said last,
        and of what it said earlier as much as there is room for: it may have taken that back. A name that another peer
        has gets a number. Raises `FileError`: GRANTSFULL, and INVAL for a record that is none.
        """
        known = self._peers.get(peer.fingerprint)
        if known is None:
            stored = replace(peer, name=self.unique_name(peer.name))
        elif anew:
            stored = replace(peer, name=known.name, labels=known.labels, seen=known.seen)
        else:
            stored = replace(
                peer,
                name=known.name,
                labels=known.labels,
                seen=known.seen,
                granted=tuple(dict.fromkeys((*known.granted, *peer.granted))),
                received=tuple(dict.fromkeys((*known.received, *peer.received)))[-GRANT_LIMIT:],
            )
        check_peer(stored)
        self._store({**self._peers, stored.fingerprint: stored})
        if known is not None and anew:
            self.on_anew(stored.fingerprint)
        return stored

    def update(self, *peers: Peer) -> None:
        """Replace records, names included, all or none.

        Raises `FileError`: NOPEER, EXIST if another has the name, GRANTSFULL, INVAL, and what writing raises.
        """
        changed = dict(self._peers)
        for peer in peers:
            check_peer(peer)
            if peer.fingerprint not in changed:
                raise FileError(E.NOPEER, peer.name)
            if any(other.name == peer.name and other.fingerprint != peer.fingerprint for other in changed.values()):
                raise FileError(E.EXIST, peer.name)
            changed[peer.fingerprint] = peer
        if changed != self._peers:
            self._store(changed)

    def remove(self, fingerprint: str) -> Peer:
        """Forget a peer; raises `FileError(NOPEER)`."""
        if fingerprint not in self._peers:
            raise FileError(E.NOPEER, fingerprint)
        peer = self._peers[fingerprint]
        self._store({key: other for key, other in self._peers.items() if key != fingerprint})
        return peer

    def learn_address(self, fingerprint: str, address: str) -> None:
        """Put an address that worked first; nothing happens if it is there already, or the peer is gone."""
        peer = self._peers.get(fingerprint)
        if peer is None or peer.addresses[:1] == (address,) or not bounded_texts([address], 1, ADDRESS_LENGTH):
            return
        others = tuple(known for known in peer.addresses if known != address)
        self.update(replace(peer, addresses=(address, *others)[:ADDRESS_LIMIT]))

    def claim_address(self, fingerprint: str, address: str, before: str = "") -> None:
        """Put an address where a peer says it is last, in place of `before`, what it said there, if that is in the
        book, and of the last if there is no room. Nothing happens if it is there already, or the peer is gone."""
        peer = self._peers.get(fingerprint)
        if peer is None or address in peer.addresses or not bounded_texts([address], 1, ADDRESS_LENGTH):
            return
        others = [known for known in peer.addresses if known != before]
        self.update(replace(peer, addresses=(*others[: ADDRESS_LIMIT - 1], address)))

    def note_seen(self, seen: Mapping[str, int]) -> None:
        """When peers were linked last, by fingerprint; those that are gone are passed over. `on_change` is not called.

        Raises what writing raises.
        """
        peers = dict(self._peers)
        for fingerprint, at in seen.items():
            if fingerprint in peers and 0 <= at <= LAST_SECOND:
                peers[fingerprint] = replace(peers[fingerprint], seen=at)
        if peers != self._peers:
            self._write(peers)

    def unique_name(self, wanted: str) -> str:
        """`wanted`, or with `-2`, `-3` … if a peer has it, or one that looks alike."""
        taken = {alike(peer.name) for peer in self._peers.values()}
        name, number = wanted, 1
        while alike(name) in taken:
            number += 1
            ending = f"-{number}"
            name = wanted[: NAME_LIMIT - len(ending)] + ending
        return name

    def _write(self, peers: dict[str, Peer]) -> None:
        # The disk first: what could not be written is not trusted either.
        self._disk.make_directory(self._home)
        self._disk.write(self._path, format_book(peers.values()), 0o600)
        self._peers = peers

    def _store(self, peers: dict[str, Peer]) -> None:
        self._write(peers)
        if self.on_change is not None:
            self.on_change()


def check_peer(peer: Peer) -> None:
    """Raises `FileError` unless all is in bounds and the certificate is the fingerprint's: INVAL, GRANTSFULL."""
    if not valid_name(peer.name):
        raise FileError(E.INVAL, peer.name, NAME_RULE)
    if not bounded_texts(peer.addresses, ADDRESS_LIMIT, ADDRESS_LENGTH):
        raise FileError(E.INVAL, peer.name, "addresses")
    check_grant_count(peer.name, peer.granted)
    for grants in (peer.granted, peer.received):
        if not bounded_grants(grants):
            raise FileError(E.INVAL, peer.name, "grants")
    if not valid_labels(peer.labels):
        raise FileError(E.INVAL, peer.name, LABEL_RULE)
    try:
        der = certificate_der(peer.certificate)
        check_certificate(der)
        public = certificate_public(der)
    except LinkBroken as error:
        raise FileError(E.INVAL, peer.name, error.detail) from error
    if fingerprint_of(public) != peer.fingerprint:
        raise FileError(E.INVAL, peer.name, "certificate and fingerprint differ")


def format_book(peers: Iterable[Peer]) -> bytes:
    """The file's content."""
    rows = [{field.name: getattr(peer, field.name) for field in fields(Peer)} for peer in peers]
    return (json.dumps({"version": BOOK_VERSION, "peers": rows}, indent=1) + "\n").encode()


def parse_book(data: bytes, path: str) -> dict[str, Peer]:
    """The peers by fingerprint; raises `FileError(DAMAGED)` about `path`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(E.DAMAGED, path, f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.keys() != {"version", "peers"}:
        raise FileError(E.DAMAGED, path, "not a peer book")
    if document["version"] != BOOK_VERSION or not isinstance(document["peers"], list):
        raise FileError(E.DAMAGED, path, "not a peer book of this version")
    peers: dict[str, Peer] = {}
    for index, row in enumerate(document["peers"]):
        peer = _parse_peer(row)
        if peer is None:
            raise FileError(E.DAMAGED, path, f"peer {index}")
        if peer.fingerprint in peers or any(peer.name == other.name for other in peers.values()):
            raise FileError(E.DAMAGED, path, f"peer {index} is there twice")
        peers[peer.fingerprint] = peer
    return peers


def _parse_peer(row: object) -> Peer | None:
    if not isinstance(row, dict):
        return None
    row = {"labels": [], "seen": 0, **row}  # which there were not always
    if row.keys() != {field.name for field in fields(Peer)}:
        return None
    as_of, seen = row["as_of"], row["seen"]
    if any(type(seconds) is not int or not 0 <= seconds <= LAST_SECOND for seconds in (as_of, seen)):
        return None
    texts = [row["fingerprint"], row["name"], row["certificate"]]
    lists = [row["addresses"], row["granted"], row["received"], row["labels"]]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(items, list) for items in lists):
        return None
    if not all(isinstance(item, str) for items in lists for item in items):
        return None
    addresses, granted, received, labels = (tuple(items) for items in lists)
    peer = Peer(row["fingerprint"], row["name"], row["certificate"], addresses, granted, received, as_of, labels, seen)
    try:
        check_peer(peer)
    except (FileError, UnicodeError):
        return None
    return peer
