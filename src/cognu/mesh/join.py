"""Joining: a ticket, or a short code, makes two machines peers. The side that gives these out; and join, by a ticket.

The inviter has a second TLS listener, open only while an invitation is. Its key is made for it and shown to anybody;
who speaks through it is proved inside the connection, by both node keys and the ticket's secret (join_messages.py).
Both sides pin the other when both have confirmed; then they link up as peers, with both certificates required.

What can go wrong at the end is on the safe side: the ticket is used up first, then the inviter pins, then it says DONE,
then the joiner pins. A cut in between leaves at most a peer on the inviter's side that never links up, and the joiner
is told that the outcome is unknown.

By a code (pairing.py, pair.py) they come to a secret of their own first, and what one asks of the other its user is
asked about before it says ACCEPT or CONFIRM; all else is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.files.audit import audit
from cognu.mesh.codes import new_code
from cognu.mesh.dialling import race
from cognu.mesh.discovery import Finder
from cognu.mesh.identity import (
    Identity,
    Peer,
    PeerBook,
    certificate_der,
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
    key_proof,
    pack_card,
    pack_message,
    pack_refusal,
    parse_answer,
    parse_claim,
    parse_confirmation,
    parse_message,
    parse_pair,
    parse_refusal,
    parse_request,
    proves_key,
)
from cognu.mesh.pairing import LAST_WORD_SECONDS, Person, Proposal, ShownCode, Wish
from cognu.mesh.pinning import AGAIN, audit_paired, peer_of, pin, pin_last, public_of
from cognu.mesh.spake import ANSWER_SECONDS, Exchange
from cognu.mesh.tickets import PREFIX, Ticket, format_ticket, invitation_id, pack_texts, parse_ticket, ticket_number
from cognu.world import Clock, Listener, SecureStream, Stream, TlsKeys, World
from cognu.world.crowd import one_too_many, place_of
from cognu.world.timing import end_tasks, unless, within

CONVERSATION_SECONDS = 20.0
CONVERSATIONS = 16
"""Of those that have proved nothing; with one more, the oldest of the host that has most is cut."""
CONNECT_SECONDS = 10.0
CONSENT_SECONDS = 120.0
"""How long a user is asked for an answer."""


@dataclass(frozen=True)
class Self:
    """What this machine tells of itself: `name` is its sysname, `addresses` where its link listener can be reached."""

    identity: Identity
    name: str
    addresses: Callable[[], tuple[str, ...]]

    def card(self, grants: tuple[str, ...], asks: tuple[str, ...] = (), knows: bool = False) -> Card:
        return Card(certificate_der(self.identity.certificate), self.name, self.addresses(), grants, asks, knows)


class _Typed(NamedTuple):
    """Who has typed the code that is shown, and proved its key."""

    shown: ShownCode
    transcript: Transcript
    secret: bytes
    card: Card
    public: bytes
    known: bool


class Inviter:
    """Makes tickets and codes, and answers those who come with one."""

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
        self._opening = asyncio.Lock()
        """Held while a listener is opened, so that those who want one at the same time get the same, and `close` ends
        one that is just being opened."""
        self._closed = False
        self._shown = identity_from_seed(world.random.bytes(32))
        self._closing: asyncio.Task[None] | None = None
        self._talking = 0
        self._unproven: dict[SecureStream, str] = {}  # where each is from, the oldest first
        self._code: ShownCode | None = None
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

    async def show_code(self, wish: Wish, person: Person, finder: Finder) -> Peer:
        """Show a code, tell `finder` of it, and wait until a machine has paired by it: the record that was pinned.

        Raises `FileError`: NOTPAIRED if none did, or its user or this one did not agree; CODESHOWN if one is already;
        the listener's. Cancelling ends it, and tells who is being talked to; if
        both had confirmed by then, the two are peers, and it returns all the same.
        """
        if self._code is not None:
            raise FileError(E.CODESHOWN, "pair", f"it ends by itself at {_time_of_day(self._code.until)}")
        code = new_code(self._world.random)
        shown = self._code = ShownCode(code, self._world.random, wish, person, self._world.clock.now())
        try:
            await self._listen(0)
            assert self._listener is not None
            port = int(self._listener.address.rpartition(":")[2])
            hide = await finder.announce_pairing(code.number, port)
            try:
                person.shown(code, tuple(f"{host}:{port}" for host in self._hosts()))
                del code
                return await shown.wait(self._world.clock)
            except asyncio.CancelledError:
                peer = await shown.leave(self._world.clock)
                if peer is None:
                    raise
                return peer
            finally:
                hide()
        finally:
            shown.end()
            self._code = None
            self._over.set()

    @property
    def number(self) -> str:
        """How the code that is shown begins; empty if none is."""
        return self._code.number if self._code is not None else ""

    async def withdraw(self, word: str) -> str:
        """End an invitation, by its ticket or the beginning of its number, which is returned.

        Raises `FileError`: BADTICKET, AMBIGUOUS.
        """
        number = ticket_number(word) if word.startswith(PREFIX) else self.invitations.find(word)
        self.invitations.withdraw(number)
        self._over.set()
        return number

    async def close(self) -> None:
        """Stop listening, for good; open invitations stay open on disk, for the next start. A code that is shown is
        over."""
        if self._code is not None:
            self._code.conclude(_stopping())
        self._closed = True
        async with self._opening:
            listener, self._listener = self._listener, None
            closing, self._closing = self._closing, None
            if closing is not None and listener is None:
                await asyncio.shield(closing)  # it is closing the listener, or has
            elif closing is not None and listener is not None:
                await end_tasks(closing)
                await listener.close()

    @property
    def listening(self) -> str:
        """The join listener's address, empty if it is closed."""
        return self._listener.address if self._listener is not None else ""

    async def _listen(self, port: int) -> None:
        async with self._opening:
            if self._closed:
                raise _stopping()
            if self._listener is not None:
                return
            if self._closing is not None:
                await asyncio.shield(self._closing)
            shown = TlsKeys(self._shown.certificate, self._shown.private_key, None)
            self._listener = await self._world.network.listen_tls(f"{self._bind}:{port}", lambda: shown, self._accept)
            self._closing = asyncio.get_running_loop().create_task(self._close_when_over())

    async def _close_when_over(self) -> None:
        # The first look is at the first change: the listener opens before its invitation is made.
        await self._wait_for_change(CONVERSATION_SECONDS)
        while self._talking or self._code is not None or self.invitations.open():
            await self._wait_for_change(self.invitations.seconds_left() or CONVERSATION_SECONDS)
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()

    async def _wait_for_change(self, seconds: float) -> None:
        try:
            await within(self._world.clock, seconds, self._over.wait())
        except TimeoutError:
            pass
        self._over.clear()

    async def _accept(self, stream: SecureStream) -> None:
        self._make_room(stream)
        self._talking += 1
        try:
            typed = await within(self._world.clock, CONVERSATION_SECONDS, self._talk(stream))
            self._unproven.pop(stream, None)
            if typed is not None:
                await self._settle(stream, typed)
        except (TimeoutError, FileError, ProtocolError) as error:
            raise LinkBroken(E.CONNRESET, stream.peer, str(error)) from error
        finally:
            self._unproven.pop(stream, None)
            self._talking -= 1
            self._over.set()

    def _make_room(self, stream: SecureStream) -> None:
        """However many connect, one that comes from elsewhere gets its turn."""
        if len(self._unproven) >= CONVERSATIONS:
            oldest = one_too_many(self._unproven)
            del self._unproven[oldest]
            oldest.close()
        self._unproven[stream] = place_of(stream.peer)

    async def _talk(self, stream: SecureStream) -> _Typed | None:
        """To the end with who has a ticket; with who has typed a code, up to its proof."""
        challenge = self._world.random.bytes(NONCE_SIZE)
        await stream.write(pack_message(Step.CHALLENGE, challenge))
        transcript = Transcript(
            certificate_der(self._shown.certificate), fingerprint_bytes(self._me.identity.fingerprint), challenge
        )
        step, body = await expect(stream, Step.TICKET, Step.PAIR)
        if step is Step.PAIR:
            return await self._talk_by_code(stream, transcript, body)
        await self._talk_by_ticket(stream, transcript, body)
        return None

    async def _talk_by_ticket(self, stream: SecureStream, transcript: Transcript, claim: bytes) -> None:
        found = self.invitations.attempt(parse_claim(claim))
        if isinstance(found, Refusal):
            await refuse(stream, found)
            return
        secret = bytes.fromhex(found.secret)
        transcript.add(claim)
        await stream.write(pack_message(Step.KEYED, transcript.mac(secret, Step.KEYED)))
        request = parse_request((await expect(stream, Step.JOIN))[1])
        transcript.add(request.signed)
        public = public_of(request.card)
        proved = transcript.proves(request.mac, secret, Step.JOIN)
        if public is None or not proved or not verify(public, request.signature, transcript.message(Step.JOIN)):
            await self._fail(stream, found)
            return
        known = self._book.get(fingerprint_of(public)) is not None
        signed = pack_card(self._me.card(found.grants, knows=known))
        transcript.add(signed)
        signature = self._me.identity.sign(transcript.message(Step.ACCEPT))
        proofs = transcript.mac(secret, Step.ACCEPT) + signature
        await stream.write(pack_message(Step.ACCEPT, signed + proofs))
        if not await self._confirmed(stream, transcript, secret, public):
            await self._fail(stream, found)
            return
        await self._pin(stream, found, request.card, public, known)
        await stream.write(pack_message(Step.DONE, transcript.mac(secret, Step.DONE)))
        # The joiner ends the connection, so that DONE is not lost to a reset.
        await stream.read(1)

    async def _confirmed(
        self, stream: SecureStream, transcript: Transcript, secret: bytes, public: bytes
    ) -> tuple[tuple[str, ...]] | None:
        """What the joiner grants further, alone in a tuple; None if its CONFIRM proves nothing."""
        said = parse_confirmation((await expect(stream, Step.CONFIRM))[1])
        transcript.add(said.signed)
        proved = transcript.proves(said.mac, secret, Step.CONFIRM)
        if not proved or not verify(public, said.signature, transcript.message(Step.CONFIRM)):
            return None
        return (said.grants,)

    # -- by a code --

    async def _talk_by_code(self, stream: SecureStream, transcript: Transcript, body: bytes) -> _Typed | None:
        arrived = self._world.clock.monotonic()
        number, element = parse_pair(body)
        shown = self._code
        found = shown.attempt() if shown is not None and shown.number == number else Refusal.NO_CODE
        if shown is None or isinstance(found, Refusal):
            await refuse(stream, found if isinstance(found, Refusal) else Refusal.NO_CODE)
            return None
        try:
            secret = found.key(element)
            transcript.add(body)
            await self._answer_element(stream, transcript, found, arrived)
            typed = await self._proven(stream, transcript, secret, (element, found.element), shown)
        except BaseException as error:
            self._code_failed(stream, shown, Refusal.CODE if isinstance(error, ProtocolError) else Refusal.GIVEN_UP)
            raise
        if isinstance(typed, Refusal):
            self._code_failed(stream, shown, typed)
            spent = typed is Refusal.CODE and not shown.left
            await refuse(stream, Refusal.CODE_SPENT if spent else typed, 0 if typed is not Refusal.CODE else shown.left)
            return None
        late = shown.take()
        if late is not None:
            await refuse(stream, late)
            return None
        return typed

    async def _answer_element(
        self, stream: SecureStream, transcript: Transcript, exchange: Exchange, arrived: int
    ) -> None:
        answer = fingerprint_bytes(self._me.identity.fingerprint) + exchange.element
        transcript.add(answer)
        await rest_until(self._world.clock, arrived, ANSWER_SECONDS)
        await stream.write(pack_message(Step.PAIRED, answer))

    async def _proven(
        self, stream: SecureStream, transcript: Transcript, secret: bytes, elements: tuple[bytes, bytes],
        shown: ShownCode,
    ) -> _Typed | Refusal:  # fmt: skip
        _, mac = await expect(stream, Step.KEY)
        if not proves_key(Step.KEY, mac, secret, *elements):
            return Refusal.CODE
        await stream.write(pack_message(Step.KEYED, key_proof(Step.KEYED, secret, *elements)))
        request = parse_request((await expect(stream, Step.JOIN))[1])
        transcript.add(request.signed)
        public = public_of(request.card)
        proved = transcript.proves(request.mac, secret, Step.JOIN)
        if public is None or not proved or not verify(public, request.signature, transcript.message(Step.JOIN)):
            return Refusal.BETWEEN
        known = self._book.get(fingerprint_of(public)) is not None
        return _Typed(shown, transcript, secret, request.card, public, known)

    def _code_failed(self, stream: SecureStream, shown: ShownCode, why: Refusal) -> None:
        audit(stream.peer, f"did not pair by code {shown.number}: {why.detail}")
        shown.failed(stream.peer, why)

    async def _settle(self, stream: SecureStream, typed: _Typed) -> None:
        """From the joiner's proof to the end; what comes of it is told to whoever shows the code."""
        shown = typed.shown
        error: CognuError = FileError(E.NOTPAIRED, "pair", "it was given up here")
        try:
            agreed = await unless(shown.over, self._agree(stream, typed))
            if agreed is None:
                told = await refuse_at_last(self._world.clock, stream, Refusal.GIVEN_UP, LAST_WORD_SECONDS)
                shown.person.left(_name(typed.card, typed.public), told)
                return
            await within(self._world.clock, CONVERSATION_SECONDS, self._pin_typed(stream, typed, *agreed))
        except LinkBroken:
            error = went_away(stream)
            raise
        except TimeoutError:
            error = FileError(E.NOTPAIRED, "pair", "the other machine has fallen silent")
            raise
        except CognuError as failed:
            error = failed
            raise
        finally:
            shown.conclude(error)

    async def _agree(self, stream: SecureStream, typed: _Typed) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is granted here, and there, when this user and that one have said so."""
        shown, transcript, clock = typed.shown, typed.transcript, self._world.clock
        granted = await consent(clock, stream, shown.person, shown.wish, typed.card, typed.public)
        signed = pack_card(self._me.card(granted, shown.wish.asks, typed.known))
        transcript.add(signed)
        signature = self._me.identity.sign(transcript.message(Step.ACCEPT))
        proofs = transcript.mac(typed.secret, Step.ACCEPT) + signature
        await stream.write(pack_message(Step.ACCEPT, signed + proofs))
        if shown.wish.asks:
            shown.person.waits(_name(typed.card, typed.public))
        seconds = CONSENT_SECONDS + CONVERSATION_SECONDS
        said = await within(clock, seconds, self._confirmed(stream, transcript, typed.secret, typed.public))
        if said is None:
            await refuse_at_last(clock, stream, Refusal.BETWEEN)
            raise Refusal.BETWEEN.error()
        return granted, (*typed.card.grants, *said[0])

    async def _pin_typed(
        self, stream: SecureStream, typed: _Typed, granted: tuple[str, ...], received: tuple[str, ...]
    ) -> None:
        now = self._world.clock.now()
        try:
            record = peer_of(typed.card, typed.public, stream, granted=granted, received=received, now=now)
            peer = pin(self._book, record, typed.known, typed.card.knows)
        except CognuError:
            await refuse_at_last(self._world.clock, stream, Refusal.NOT_KEPT)
            raise
        audit_paired(peer, stream.peer)
        self._joined(peer)
        typed.shown.conclude(peer)
        await stream.write(pack_message(Step.DONE, typed.transcript.mac(typed.secret, Step.DONE)))
        await stream.read(1)

    # -- by a ticket --

    async def _fail(self, stream: SecureStream, found: Invitation) -> None:
        audit(stream.peer, f"did not join by invitation {found.number}: {Refusal.WRONG.detail}")
        self.invitations.fail(found.number)
        await refuse(stream, Refusal.WRONG)

    async def _pin(self, stream: SecureStream, found: Invitation, card: Card, public: bytes, known: bool) -> None:
        refusal = self.invitations.use(found.number, fingerprint_of(public))
        if refusal is not None:
            await refuse(stream, refusal)
            raise LinkBroken(E.BADTICKET, stream.peer, refusal.detail)
        try:
            now = self._world.clock.now()
            record = peer_of(card, public, stream, granted=found.grants, received=card.grants, now=now)
            peer = pin(self._book, record, known, card.knows)
        except CognuError:
            await refuse(stream, Refusal.FAILED)
            raise
        here, there = (", ".join(grants) or "nothing" for grants in (peer.granted, peer.received))
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
            known = book.get(parsed.inviter) is not None
            asking = _ask(world, me, stream, parsed, grants, known)
            transcript, peer, known_there = await within(clock, CONVERSATION_SECONDS, asking)
        except TimeoutError:
            raise FileError(E.TIMEDOUT, stream.peer) from None
        await confirm(clock, me, stream, parsed.secret, transcript)
    finally:
        stream.close()
    return pin_last(book, peer, known, known_there)


async def _reach(world: World, ticket: Ticket) -> SecureStream:
    """A connection to the ticket's listener, not yet to anybody trusted."""
    stream, refused, where = await connect_any(world, ticket.addresses)
    if stream is not None:
        return stream
    if world.clock.now() // 1_000_000_000 >= ticket.expires:
        raise FileError(E.BADTICKET, "ticket", f"{Refusal.EXPIRED.detail} ({where})")
    if refused:
        detail = f"no invitation is open there: it was used, was withdrawn, or the node is down ({where})"
        raise FileError(E.BADTICKET, "ticket", detail)
    raise FileError(E.HOSTUNREACH, "ticket", where)


async def connect_any(world: World, addresses: tuple[str, ...]) -> tuple[SecureStream | None, bool, str]:
    """A connection to the first that answers, or None; whether one was refused; and what became of each.

    They are dialled a little apart: those where nobody answers cost CONNECT_SECONDS all together.
    """

    async def attempt(address: str) -> SecureStream:
        return await world.network.connect_tls(address, TlsKeys("", "", None), CONNECT_SECONDS)

    raced = await race(world.clock, addresses, attempt)
    if raced.stream is not None:
        return raced.stream, False, ""
    failed = dict(raced.failures)
    refused = any(error.error is E.CONNREFUSED for error in failed.values())
    return None, refused, "; ".join(str(failed[address]) for address in dict.fromkeys(addresses))


async def challenged(stream: SecureStream) -> bytes:
    """The listener's nonce."""
    _, challenge = await expect(stream, Step.CHALLENGE)
    if len(challenge) != NONCE_SIZE:
        raise ProtocolError(E.BADFRAME, stream.peer, "CHALLENGE")
    return challenge


def request(world: World, me: Self, transcript: Transcript, secret: bytes, wish: Wish, known: bool) -> bytes:
    """The message JOIN. `known`: the inviter is a peer already."""
    signed = world.random.bytes(NONCE_SIZE) + pack_card(me.card(wish.grants, wish.asks, known))
    transcript.add(signed)
    signature = me.identity.sign(transcript.message(Step.JOIN))
    return pack_message(Step.JOIN, signed + transcript.mac(secret, Step.JOIN) + signature)


async def accepted(
    stream: SecureStream, transcript: Transcript, secret: bytes, inviter: str, wrong: FileError
) -> tuple[Card, bytes]:
    """The inviter's card and key, which has the fingerprint `inviter`. Raises `wrong` if it proves nothing."""
    answer = parse_answer((await expect(stream, Step.ACCEPT))[1])
    transcript.add(answer.signed)
    public = public_of(answer.card)
    if public is None or fingerprint_of(public) != inviter:
        raise FileError(wrong.error, wrong.subject, f"another machine than the inviter answers at {stream.peer}")
    proved = transcript.proves(answer.mac, secret, Step.ACCEPT)
    if not proved or not verify(public, answer.signature, transcript.message(Step.ACCEPT)):
        raise wrong
    return answer.card, public


async def _ask(
    world: World, me: Self, stream: SecureStream, ticket: Ticket, grants: tuple[str, ...], known: bool
) -> tuple[Transcript, Peer, bool]:
    """Up to the inviter's proof: what was said, the record to pin once the inviter has confirmed, and whether it has
    this machine as a peer already."""
    challenge = await challenged(stream)
    transcript = Transcript(stream.peer_certificate, fingerprint_bytes(ticket.inviter), challenge)
    wrong = Refusal.WRONG.error()
    claim = invitation_id(ticket.secret) + world.random.bytes(NONCE_SIZE)
    transcript.add(claim)
    await stream.write(pack_message(Step.TICKET, claim))
    # Who does not have the ticket, or stands between, hears nothing of this machine.
    if not transcript.proves((await expect(stream, Step.KEYED))[1], ticket.secret, Step.KEYED):
        raise wrong
    await stream.write(request(world, me, transcript, ticket.secret, Wish(grants), known))
    card, public = await accepted(stream, transcript, ticket.secret, ticket.inviter, wrong)
    record = peer_of(card, public, stream, granted=grants, received=card.grants, now=world.clock.now())
    return transcript, record, card.knows


async def confirm(
    clock: Clock, me: Self, stream: SecureStream, secret: bytes, transcript: Transcript, grants: tuple[str, ...] = ()
) -> None:
    """Say CONFIRM, with what is granted further, and wait for DONE.

    Raises what the inviter refuses with, and `LinkBroken(NOTRECOVERABLE)` if it can't be known what became of it.
    """
    signed = pack_texts(grants)
    transcript.add(signed)
    signature = me.identity.sign(transcript.message(Step.CONFIRM))
    message = pack_message(Step.CONFIRM, signed + transcript.mac(secret, Step.CONFIRM) + signature)
    try:
        await within(clock, CONVERSATION_SECONDS, _finish(stream, message, secret, transcript))
    except (TimeoutError, LinkBroken, ProtocolError) as error:
        said = f"{error or 'no answer'}; the other machine may have kept this one: {AGAIN}"
        raise LinkBroken(E.NOTRECOVERABLE, "join", said) from error


async def _finish(stream: SecureStream, message: bytes, secret: bytes, transcript: Transcript) -> None:
    await stream.write(message)
    _, done = await expect(stream, Step.DONE)
    if not transcript.proves(done, secret, Step.DONE):
        raise ProtocolError(E.BADFRAME, stream.peer, Refusal.WRONG.detail)


async def consent(
    clock: Clock, stream: SecureStream, person: Person, wish: Wish, card: Card, public: bytes
) -> tuple[str, ...]:
    """All that the other machine is granted here: what it gets anyway, and what it asks for if the user agrees.

    Raises `FileError(NOTPAIRED)` if the user does not, which the other side is told; what that side says meanwhile.
    """
    if not card.asks:
        return wish.grants
    proposal = Proposal(
        _name(card, public), fingerprint_of(public), stream.peer, card.asks, wish.grants, card.grants, card.knows
    )  # fmt: skip
    asking = asyncio.ensure_future(person.agrees(proposal))
    leaving = asyncio.ensure_future(expect(stream, Step.REFUSE))
    why = "what was asked for was not agreed to here"
    try:
        await within(clock, CONSENT_SECONDS, _first(asking, leaving))
        if leaving.done():
            _, body = leaving.result()
            why_not, left = parse_refusal(body)
            raise why_not.error(left)
        await end_tasks(leaving)
        agreed = asking.result()
    except TimeoutError:
        agreed, why = False, f"nobody has answered here within {CONSENT_SECONDS:.0f} s"
    except CognuError:
        if not leaving.done() or leaving.cancelled():
            await refuse_at_last(clock, stream, Refusal.DECLINED)
        raise
    finally:
        await end_tasks(asking, leaving)
    if not agreed:
        await refuse_at_last(clock, stream, Refusal.DECLINED)
        raise FileError(E.NOTPAIRED, "pair", why)
    return tuple(dict.fromkeys((*wish.grants, *card.asks)))


async def refuse(stream: SecureStream, refusal: Refusal, left: int = 0) -> None:
    await stream.write(pack_message(Step.REFUSE, pack_refusal(refusal, left)))
    # The other side ends the connection, so that the refusal is not lost to a reset; it may have said something before.
    while await stream.read(MESSAGE_SIZE):
        pass


async def refuse_at_last(clock: Clock, stream: SecureStream, refusal: Refusal, seconds: float | None = None) -> bool:
    """The last word of a conversation that is over whether it is taken or not, which is what it returns."""
    try:
        await within(clock, CONVERSATION_SECONDS if seconds is None else seconds, refuse(stream, refusal))
    except (TimeoutError, LinkBroken):
        return False
    return True


def went_away(stream: SecureStream) -> FileError:
    """What a user is told of a connection that broke."""
    return FileError(E.NOTPAIRED, "pair", f"the other machine went away ({stream.peer})")


def _name(card: Card, public: bytes) -> str:
    return clean_name(card.name, short(fingerprint_of(public)))


async def expect(stream: Stream, *steps: Step) -> tuple[Step, bytes]:
    """The next message, which is to be one of `steps`, and its body.

    Raises the `FileError` of a refusal, where none is expected; `ProtocolError` for another message; `LinkBroken`.
    """
    data = b""
    while len(data) < MESSAGE_SIZE:
        part = await stream.read(MESSAGE_SIZE - len(data))
        if not part:
            raise LinkBroken(E.CONNRESET, stream.peer, f"ended before {steps[0].name}")
        data += part
    came, body = parse_message(data)
    if came is Step.REFUSE and came not in steps:
        why, left = parse_refusal(body)
        raise why.error(left)
    if came not in steps:
        raise ProtocolError(E.BADFRAME, stream.peer, f"{came.name} instead of {steps[0].name}")
    return came, body


async def rest_until(clock: Clock, begun: int, seconds: float) -> None:
    """Sleep until `seconds` after `begun` (ns of the monotonic clock), so that work takes as long whatever it was."""
    await clock.sleep(max(0.0, seconds - (clock.monotonic() - begun) / 1e9))


def _stopping() -> FileError:
    return FileError(E.NOTPAIRED, "pair", "the node is stopping")


def _time_of_day(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds // 10**9):%H:%M:%S}"


async def _first(*tasks: asyncio.Future[Any]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
