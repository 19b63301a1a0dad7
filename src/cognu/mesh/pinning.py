"""Pinning whoever has joined: the record that is made of its card, what ended with it, and who hears of a failure."""

from __future__ import annotations

from cognu.errors import THERE, CognuError, FileError, LinkBroken
from cognu.files.audit import audit
from cognu.mesh.addresses import leading_there
from cognu.mesh.identity import (
    Peer,
    PeerBook,
    certificate_pem,
    certificate_public,
    check_certificate,
    check_grant_count,
    clean_name,
    fingerprint_of,
    short,
)
from cognu.mesh.join_messages import Card
from cognu.world import SecureStream


def public_of(card: Card) -> bytes | None:
    """The key of a card whose certificate can be pinned."""
    try:
        check_certificate(card.certificate)
        return certificate_public(card.certificate)
    except LinkBroken:
        return None


def peer_of(
    card: Card, public: bytes, met: SecureStream, granted: tuple[str, ...], received: tuple[str, ...], now: int
) -> Peer:
    """`met` is the connection by which it came. Of its addresses those are kept that may lead there from here."""
    fingerprint = fingerprint_of(public)
    name = clean_name(card.name, short(fingerprint))
    certificate = certificate_pem(card.certificate)
    addresses = leading_there(card.addresses, met.local, met.peer)
    return Peer(fingerprint, name, certificate, addresses, granted, received, now // 10**9)


def pin(book: PeerBook, peer: Peer, here: bool, there: bool) -> Peer:
    """Pin who has joined. `here`, `there`: whether either had the other as a peer when they began.

    Grants add up only while both do. Else one has dropped the other, and what was granted before ended with that,
    whether the drop was heard of or not.
    """
    before = book.get(peer.fingerprint)
    kept = book.add(peer, anew=not (here and there))
    gone = [text for text in before.granted if text not in kept.granted] if before is not None else []
    if gone:
        audit(f"{kept.name} ({kept.fingerprint})", f"joined anew: what was granted before ended: {', '.join(gone)}")
    return kept


def check_room(book: PeerBook, peer: Peer, here: bool, there: bool) -> None:
    """Whether it could be pinned beside what it was granted before, as `pin` would. Raises GRANTSFULL."""
    before = book.get(peer.fingerprint)
    kept = before.granted if before is not None and here and there else ()
    check_grant_count(peer.name if before is None else before.name, (*kept, *peer.granted))


AGAIN = f"join or pair once more, which does no harm{THERE}drop ends it too"
"""What to do where the other machine has kept this one, or may have, and not the other way round."""


def pin_last(book: PeerBook, peer: Peer, here: bool, there: bool) -> Peer:
    """The same on the side that pins when the other one has: what fails here leaves that one with a peer too many."""
    try:
        return pin(book, peer, here, there)
    except CognuError as error:
        why = [part for part in (error.detail, error.error.hint) if part]
        said = "; ".join([*why, f"{peer.name} has kept this machine: then {AGAIN}"])
        raise FileError(error.error, error.subject, said) from error


def audit_paired(peer: Peer, address: str) -> None:
    here, there = (", ".join(grants) or "nothing" for grants in (peer.granted, peer.received))
    who = f"{peer.name} ({peer.fingerprint}), at {address}"
    audit(who, f"paired by a code; it may here: {here}; this machine there: {there}")
