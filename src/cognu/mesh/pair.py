"""Pairing on the side where the code is typed: find the machine that shows it, come to a secret, join by that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple

from cognu.errors import CognuError, E, FileError, LinkBroken
from cognu.mesh.codes import Code
from cognu.mesh.discovery import Finder, Pairing
from cognu.mesh.identity import Peer, PeerBook, fingerprint_text
from cognu.mesh.join import (
    CONSENT_SECONDS,
    CONVERSATION_SECONDS,
    Self,
    accepted,
    challenged,
    confirm,
    connect_any,
    consent,
    expect,
    refuse_at_last,
    request,
    rest_until,
    went_away,
)
from cognu.mesh.join_messages import (
    Refusal,
    Step,
    Transcript,
    key_proof,
    pack_message,
    pack_pair,
    parse_paired,
    proves_key,
)
from cognu.mesh.pairing import LAST_WORD_SECONDS, Person, Wish
from cognu.mesh.pinning import audit_paired, check_room, peer_of, pin_last
from cognu.mesh.spake import ANSWER_SECONDS, Exchange, Side
from cognu.world import SecureStream, World
from cognu.world.timing import within

FIND_SECONDS = 10.0
HEARD = 8
"""Machines that show another code which are told of: any may say that it does."""
MORE_SECONDS = 1.0
"""For a second machine with the same number, when the first was another one."""
MACHINES = 3
"""With so many of one number the code is tried: each may be a liar's, and is one guess for him."""


class _Met(NamedTuple):
    """Who shows the code, before it has proved anything."""

    transcript: Transcript
    secret: bytes
    inviter: str
    known: bool


async def pair(
    world: World, me: Self, book: PeerBook, code: Code, addresses: tuple[str, ...], finder: Finder, wish: Wish,
    person: Person,
) -> Peer:  # fmt: skip
    """Pair with the machine that shows `code`, at one of `addresses`, or if there are none, where `finder` finds it.

    Returns the record that was pinned. Raises `FileError`: NOTPAIRED, WRONGCODE, HOSTUNREACH, TIMEDOUT; `LinkBroken`,
    of which NOTRECOVERABLE says that it can't be known whether the other side has paired. Cancelling ends it.
    """
    if addresses:
        return await _pair_at(world, me, book, code, addresses, wish, person, "")
    tried: list[Pairing] = []
    others: list[str] = []

    def other(found: Pairing) -> None:
        said = f"{found.name} shows one that begins with {found.number}"
        if len(others) < HEARD and said not in others:
            others.append(said)
            person.heard(found.name, found.number)

    failure: CognuError | None = None
    while len(tried) < MACHINES:
        try:
            seconds = MORE_SECONDS if tried else FIND_SECONDS
            found = await within(world.clock, seconds, _next(finder, code.number, tried, other))
        except TimeoutError:
            break
        tried.append(found)
        try:
            return await _pair_at(world, me, book, code, found.addresses, wish, person, found.name)
        except FileError as error:
            if error.detail not in _ELSEWHERE and error.error not in (E.HOSTUNREACH, E.WRONGCODE):
                raise
            failure = error
    nobody = f"no machine near here shows a code that begins with {code.number}"
    nobody += "".join(f", {said}" for said in others) + "; say its ADDRESS too"
    # Where one is shown, this one may be that mistyped.
    raise failure or FileError(E.WRONGCODE if others else E.NOTPAIRED, "pair", nobody)


_ELSEWHERE = (Refusal.NO_CODE.detail, Refusal.CODE_SPENT.detail)
"""After these, and a wrong code, another machine with that number may be the one."""


async def _next(finder: Finder, number: str, tried: list[Pairing], other: Callable[[Pairing], None]) -> Pairing:
    """One with that number which was not tried; it waits for it without an end. `other` is told of other numbers."""
    places = [each.addresses for each in tried]
    async with aclosing(finder.pairing()) as machines:
        async for found in machines:
            if found.number == number and found.addresses and found.addresses not in places:
                return found
            if found.number and found.number != number:
                other(found)
    raise FileError(E.NOTPAIRED, "pair", "discovery ended")


async def _pair_at(
    world: World, me: Self, book: PeerBook, code: Code, addresses: tuple[str, ...], wish: Wish, person: Person,
    name: str,
) -> Peer:  # fmt: skip
    """`name` is what it calls itself where it was found, empty if it was not."""
    # Before anybody hears of it: how long this takes depends on the code.
    exchange = Exchange(Side.TYPES, code.digits, world.random)
    stream, refused, where = await connect_any(world, addresses)
    if stream is None:
        detail = f"{Refusal.NO_CODE.detail} ({where})" if refused else where
        raise FileError(E.NOTPAIRED if refused else E.HOSTUNREACH, "pair", detail)
    clock, confirming = world.clock, False
    try:
        try:
            meeting = _meet(world, me, book, stream, code.number, exchange, wish)
            met = await within(clock, CONVERSATION_SECONDS, meeting)
            if wish.asks:
                person.waits(name or stream.peer)
            answer = accepted(stream, met.transcript, met.secret, met.inviter, Refusal.BETWEEN.error())
            card, public = await within(clock, CONSENT_SECONDS + CONVERSATION_SECONDS, answer)
            granted = await consent(clock, stream, person, wish, card, public)
        except TimeoutError:
            raise FileError(E.TIMEDOUT, stream.peer) from None
        except LinkBroken as error:
            raise went_away(stream) from error
        further = tuple(grant for grant in granted if grant not in wish.grants)
        peer = peer_of(card, public, stream, granted=granted, received=card.grants, now=clock.now())
        try:
            check_room(book, peer, met.known, card.knows)
        except FileError:
            await refuse_at_last(clock, stream, Refusal.NOT_KEPT, LAST_WORD_SECONDS)
            raise
        confirming = True
        await confirm(clock, me, stream, met.secret, met.transcript, further)
        address = stream.peer
    except asyncio.CancelledError:
        exchange.forget()
        given_up = None if confirming else await refuse_at_last(clock, stream, Refusal.GIVEN_UP, LAST_WORD_SECONDS)
        person.left(name or stream.peer, given_up)
        raise
    finally:
        stream.close()
    kept = pin_last(book, peer, met.known, card.knows)
    audit_paired(kept, address)
    return kept


async def _meet(
    world: World, me: Self, book: PeerBook, stream: SecureStream, number: str, exchange: Exchange, wish: Wish
) -> _Met:
    """Up to JOIN: the secret, if both have the same code. The inviter's fingerprint is by its own word as yet."""
    challenge = await challenged(stream)
    said = pack_pair(number, exchange.element)
    await stream.write(pack_message(Step.PAIR, said))
    _, answer = await expect(stream, Step.PAIRED)
    arrived = world.clock.monotonic()
    inviter, element = parse_paired(answer)
    if fingerprint_text(inviter) == me.identity.fingerprint:
        raise FileError(E.NOTPAIRED, "pair", "that code is this machine's own")
    secret = exchange.key(element)
    transcript = Transcript(stream.peer_certificate, inviter, challenge)
    transcript.add(said)
    transcript.add(answer)
    await rest_until(world.clock, arrived, ANSWER_SECONDS)
    await stream.write(pack_message(Step.KEY, key_proof(Step.KEY, secret, exchange.element, element)))
    # Who does not know the code hears nothing of this machine.
    if not proves_key(Step.KEYED, (await expect(stream, Step.KEYED))[1], secret, exchange.element, element):
        raise Refusal.CODE.error()
    known = book.get(fingerprint_text(inviter)) is not None
    await stream.write(request(world, me, transcript, secret, wish, known))
    return _Met(transcript, secret, fingerprint_text(inviter), known)
