"""Joining: a ticket makes two machines peers.

The inviter has a second TLS listener, open only while an invitation is. Its key is made for it and shown to anybody;
who speaks through it is proved inside the connection, by both node keys and the ticket's secret (join_messages.py).
Both sides pin the other when both have confirmed; then they link up as peers, with both certificates required.

What can go wrong at the end is on the safe side: the ticket is used up first, then the inviter pins, then it says DONE,
then the joiner pins. A cut in between leaves at most a peer on the inviter's side that never links up, and the joiner
is told that the outcome is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.files.audit import audit
from cognu.mesh.identity import (
    Identity,
    Peer,
    PeerBook,
    certificate_der,
    certificate_pem,
    certificate_public,
    check_certificate,
    clean_name,
    fingerprint_bytes,
    fingerprint_of,
    identity_from_seed,
    short,
    verify,
)
from cognu.mesh.invitations import Invitation, Invitations
from cognu.mesh.join_messages import (
    MESSAGE_SIZE,
    NONCE_SIZE,
    Card,
    Refusal,
    Step,
    Transcript,
    pack_card,
    pack_message,
    parse_answer,
    parse_confirmation,
    parse_message,
    parse_refusal,
    parse_request,
)
from cognu.mesh.tickets import PREFIX, Ticket, format_ticket, invitation_id, parse_ticket, ticket_number
from cognu.world import Listener, SecureStream, Stream, TlsKeys, World
from cognu.world.timing import end_tasks, within

CONVERSATION_SECONDS = 20.0
CONVERSATIONS = 16
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Self:
    """What this machine tells of itself: `name` is its sysname, `addresses` where its link listener can be reached."""

    identity: Identity
    name: str
    addresses: Callable[[], tuple[str, ...]]

    def card(self, grants: tuple[str, ...]) -> Card:
        return Card(certificate_der(self.identity.certificate), self.name, self.addresses(), grants)


class Inviter:
    """Makes tickets and answers those who come with one."""

    def __init__(
        self, world: World, me: Self, book: PeerBook, home: str, bind: str, hosts: Callable[[], tuple[str, ...]],
        joined: Callable[[Peer], None],
    ) -> None:  # fmt: skip
        """`bind` is the host to listen on; `hosts` are this machine's addresses for the ticket, without port (IPv6 in
        brackets); `joined` is told of each new peer. Raises `FileError(DAMAGED)` over HOME/invitations.json.
        """
        self.invitations = Invitations(world, home)
        self._world = world
        self._me = me
        self._book = book
        self._bind = bind
        self._hosts = hosts
        self._joined = joined
        self._listener: Listener | None = None
        self._shown = identity_from_seed(world.random.bytes(32))
        self._closing: asyncio.Task[None] | None = None
        self._talking = 0
        self._over = asyncio.Event()

    async def start(self) -> None:
        """After a restart: listen again, at the same port, if an invitation is open. Raises `FileError`."""
        if self.invitations.open():
            await self._listen(self.invitations.port)

    async def invite(self, grants: tuple[str, ...] = ()) -> str:
        """A ticket for one machine, good for ten minutes, that grants it `grants`.

        Raises `FileError`: INVAL for grants, BUSY if too many are open, and the listener's.
        """
        await self._listen(0)
        assert self._listener is not None
        port = int(self._listener.address.rpartition(":")[2])
        try:
            row = self.invitations.create(grants, port)
        finally:
            self._over.set()
        addresses = tuple(f"{host}:{port}" for host in self._hosts())
        secret = bytes.fromhex(row.secret)
        return format_ticket(Ticket(secret, row.expires, self._me.identity.fingerprint, addresses, grants))

    async def withdraw(self, word: str) -> str:
        """End an invitation, by its ticket or the beginning of its number, which is returned.

        Raises `FileError`: BADTICKET, AMBIGUOUS.
        """
        number = ticket_number(word) if word.startswith(PREFIX) else self.invitations.find(word)
        self.invitations.withdraw(number)
        self._over.set()
        return number

    async def close(self) -> None:
        """Stop listening; open invitations stay open on disk, for `start`."""
        if self._closing is not None:
            await end_tasks(self._closing)
            self._closing = None
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()

    @property
    def listening(self) -> str:
        """The join listener's address, empty if it is closed."""
        return self._listener.address if self._listener is not None else ""

    async def _listen(self, port: int) -> None:
        if self._listener is not None:
            return
        if self._closing is not None:
            await self._closing
        shown = TlsKeys(self._shown.certificate, self._shown.private_key, None)
        self._listener = await self._world.network.listen_tls(f"{self._bind}:{port}", lambda: shown, self._accept)
        self._closing = asyncio.get_running_loop().create_task(self._close_when_over())

    async def _close_when_over(self) -> None:
        # The first look is at the first change: the listener opens before its invitation is made.
        await self._wait_for_change(CONVERSATION_SECONDS)
        while self._talking or self.invitations.open():
            await self._wait_for_change(self.invitations.seconds_left() or CONVERSATION_SECONDS)
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()

    async def _wait_for_change(self, seconds: float) -> None:
        try:
            await within(self._world.clock, seconds, _wait(self._over))
        except TimeoutError:
            pass
        self._over.clear()

    async def _accept(self, stream: SecureStream) -> None:
        if self._talking >= CONVERSATIONS:
            return
        self._talking += 1
        try:
            await within(self._world.clock, CONVERSATION_SECONDS, self._talk(stream))
        except (TimeoutError, ProtocolError) as error:
            raise LinkBroken(E.CONNRESET, stream.peer, str(error)) from error
        finally:
            self._talking -= 1
            self._over.set()

    async def _talk(self, stream: SecureStream) -> None:
        challenge = self._world.random.bytes(NONCE_SIZE)
        await stream.write(pack_message(Step.CHALLENGE, challenge))
        request = parse_request(await _expect(stream, Step.JOIN))
        found = self.invitations.attempt(request.invitation)
        if isinstance(found, Refusal):
            await _refuse(stream, found)
            return
        transcript = Transcript(
            certificate_der(self._shown.certificate), fingerprint_bytes(self._me.identity.fingerprint), challenge
        )
        transcript.add(request.signed)
        secret = bytes.fromhex(found.secret)
        public = _public_of(request.card)
        proved = transcript.proves(request.mac, secret, Step.JOIN)
        if public is None or not proved or not verify(public, request.signature, transcript.message(Step.JOIN)):
            await self._fail(stream, found)
            return
        signed = pack_card(self._me.card(found.grants))
        transcript.add(signed)
        signature = self._me.identity.sign(transcript.message(Step.ACCEPT))
        proofs = transcript.mac(secret, Step.ACCEPT) + signature
        await stream.write(pack_message(Step.ACCEPT, signed + proofs))
        mac, signature = parse_confirmation(await _expect(stream, Step.CONFIRM))
        proved = transcript.proves(mac, secret, Step.CONFIRM)
        if not proved or not verify(public, signature, transcript.message(Step.CONFIRM)):
            await self._fail(stream, found)
            return
        await self._pin(stream, found, request.card, public)
        await stream.write(pack_message(Step.DONE, transcript.mac(secret, Step.DONE)))
        # The joiner ends the connection, so that DONE is not lost to a reset.
        await stream.read(1)

    async def _fail(self, stream: SecureStream, found: Invitation) -> None:
        audit(stream.peer, f"did not join by invitation {found.number}: {Refusal.WRONG.detail}")
        self.invitations.fail(found.number)
        await _refuse(stream, Refusal.WRONG)

    async def _pin(self, stream: SecureStream, found: Invitation, card: Card, public: bytes) -> None:
        refusal = self.invitations.use(found.number, fingerprint_of(public))
        if refusal is not None:
            await _refuse(stream, refusal)
            raise LinkBroken(E.BADTICKET, stream.peer, refusal.detail)
        try:
            now = self._world.clock.now()
            peer = self._book.add(_peer_of(card, public, granted=found.grants, received=card.grants, now=now))
        except CognuError:
            await _refuse(stream, Refusal.FAILED)
            raise
        here, there = (", ".join(grants) or "nothing" for grants in (found.grants, card.grants))
        who = f"{peer.name} ({peer.fingerprint}), from {stream.peer}"
        audit(who, f"joined by invitation {found.number}; it may here: {here}; this machine there: {there}")
        self._joined(peer)


async def join(world: World, me: Self, book: PeerBook, ticket: str, grants: tuple[str, ...] = ()) -> Peer:
    """Use a ticket: become peers with the machine that made it, and grant it `grants`; returns the pinned record.

    Raises `FileError(BADTICKET)`: mistyped, expired, used, wrong, this node's own, or of another machine than the one
    that answers; `FileError(HOSTUNREACH)`; `LinkBroken(NOTRECOVERABLE)` if the link was cut after this side confirmed.
    """
    parsed = parse_ticket(ticket)
    if parsed.inviter == me.identity.fingerprint:
        raise FileError(E.BADTICKET, "ticket", "it is this node's own")
    stream = await _reach(world, parsed)
    clock = world.clock
    try:
        try:
            transcript, peer = await within(clock, CONVERSATION_SECONDS, _ask(world, me, stream, parsed, grants))
        except TimeoutError:
            raise FileError(E.TIMEDOUT, stream.peer) from None
        try:
            await within(clock, CONVERSATION_SECONDS, _confirm(me, stream, parsed, transcript))
        except (TimeoutError, LinkBroken, ProtocolError) as error:
            raise LinkBroken(E.NOTRECOVERABLE, "join", str(error)) from error
    finally:
        stream.close()
    return book.add(peer)


async def _reach(world: World, ticket: Ticket) -> SecureStream:
    """A connection to the ticket's listener, not yet to anybody trusted."""
    tried: list[str] = []
    refused = False
    for address in ticket.addresses:
        try:
            return await world.network.connect_tls(address, TlsKeys("", "", None), CONNECT_SECONDS)
        except CognuError as error:
            tried.append(str(error))
            refused = refused or error.error is E.CONNREFUSED
    where = "; ".join(tried)
    if world.clock.now() // 1_000_000_000 >= ticket.expires:
        raise FileError(E.BADTICKET, "ticket", f"{Refusal.EXPIRED.detail} ({where})")
    if refused:
        detail = f"no invitation is open there: it was used, was withdrawn, or the node is down ({where})"
        raise FileError(E.BADTICKET, "ticket", detail)
    raise FileError(E.HOSTUNREACH, "ticket", where)


async def _ask(
    world: World, me: Self, stream: SecureStream, ticket: Ticket, grants: tuple[str, ...]
) -> tuple[Transcript, Peer]:
    """Up to the inviter's proof: what was said, and the record to pin once the inviter has confirmed."""
    challenge = await _expect(stream, Step.CHALLENGE)
    if len(challenge) != NONCE_SIZE:
        raise ProtocolError(E.BADFRAME, stream.peer, "CHALLENGE")
    inviter = fingerprint_bytes(ticket.inviter)
    transcript = Transcript(stream.peer_certificate, inviter, challenge)
    signed = invitation_id(ticket.secret) + world.random.bytes(NONCE_SIZE) + pack_card(me.card(grants))
    transcript.add(signed)
    signature = me.identity.sign(transcript.message(Step.JOIN))
    await stream.write(pack_message(Step.JOIN, signed + transcript.mac(ticket.secret, Step.JOIN) + signature))
    answer = parse_answer(await _expect(stream, Step.ACCEPT))
    transcript.add(answer.signed)
    public = _public_of(answer.card)
    if public is None or fingerprint_of(public) != ticket.inviter:
        raise FileError(E.BADTICKET, "ticket", f"another machine than the inviter answers at {stream.peer}")
    proved = transcript.proves(answer.mac, ticket.secret, Step.ACCEPT)
    if not proved or not verify(public, answer.signature, transcript.message(Step.ACCEPT)):
        raise FileError(E.BADTICKET, "ticket", Refusal.WRONG.detail)
    return transcript, _peer_of(answer.card, public, granted=grants, received=answer.card.grants, now=world.clock.now())


async def _confirm(me: Self, stream: SecureStream, ticket: Ticket, transcript: Transcript) -> None:
    signature = me.identity.sign(transcript.message(Step.CONFIRM))
    await stream.write(pack_message(Step.CONFIRM, transcript.mac(ticket.secret, Step.CONFIRM) + signature))
    done = await _expect(stream, Step.DONE)
    if not transcript.proves(done, ticket.secret, Step.DONE):
        raise ProtocolError(E.BADFRAME, stream.peer, Refusal.WRONG.detail)


def _public_of(card: Card) -> bytes | None:
    """The key of a card whose certificate can be pinned."""
    try:
        check_certificate(card.certificate)
        return certificate_public(card.certificate)
    except LinkBroken:
        return None


def _peer_of(card: Card, public: bytes, granted: tuple[str, ...], received: tuple[str, ...], now: int) -> Peer:
    fingerprint = fingerprint_of(public)
    name = clean_name(card.name, short(fingerprint))
    certificate = certificate_pem(card.certificate)
    return Peer(fingerprint, name, certificate, card.addresses, granted, received, now // 10**9)


async def _refuse(stream: SecureStream, refusal: Refusal) -> None:
    await stream.write(pack_message(Step.REFUSE, bytes([refusal])))
    # The other side ends the connection, so that the refusal is not lost to a reset.
    await stream.read(1)


async def _expect(stream: Stream, step: Step) -> bytes:
    """The body of the next message; raises `FileError(BADTICKET)` if it is a refusal, `ProtocolError` if another."""
    data = b""
    while len(data) < MESSAGE_SIZE:
        part = await stream.read(MESSAGE_SIZE - len(data))
        if not part:
            raise LinkBroken(E.CONNRESET, stream.peer, f"ended before {step.name}")
        data += part
    came, body = parse_message(data)
    if came is Step.REFUSE and step in (Step.ACCEPT, Step.DONE):
        raise FileError(E.BADTICKET, "ticket", parse_refusal(body).detail)
    if came is not step:
        raise ProtocolError(E.BADFRAME, stream.peer, f"{came.name} instead of {step.name}")
    return body


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
