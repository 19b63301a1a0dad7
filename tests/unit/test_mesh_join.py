"""Tickets and joining: two nodes become peers, and everybody else does not."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.mesh import join as join_module
from cognu.mesh.identity import GRANT_LIMIT, Peer, certificate_der, identity_from_seed
from cognu.mesh.invitations import ATTEMPT_LIMIT, OPEN_LIMIT, Invitations, parse_invitations
from cognu.mesh.join import Inviter, Self, join
from cognu.mesh.join_messages import (
    MESSAGE_SIZE,
    Card,
    Refusal,
    Step,
    Transcript,
    pack_card,
    pack_message,
    parse_answer,
    parse_card,
    parse_claim,
    parse_confirmation,
    parse_message,
    parse_refusal,
    parse_request,
)
from cognu.mesh.pinning import public_of
from cognu.mesh.tickets import PREFIX, Ticket, format_ticket, invitation_id, parse_ticket, ticket_number
from cognu.world import Clock, Listener, SecureStream, TlsKeys
from cognu.world.tls import connect_tls, listen_tls
from mesh_support import Node, read_exactly


@dataclass
class SetClock:
    """The world's clock, with the wall clock and the monotonic one moved on by `ahead` seconds."""

    real: Clock
    ahead: float = 0.0
    wall: float = 0.0

    def now(self) -> int:
        return self.real.now() + int((self.ahead + self.wall) * 1e9)

    def monotonic(self) -> int:
        return self.real.monotonic() + int(self.ahead * 1e9)

    async def sleep(self, seconds: float) -> None:
        await self.real.sleep(seconds)


class Host(Node):
    """A node that can invite."""

    def __init__(self, home: Path, name: str) -> None:
        super().__init__(home)
        self.clock = SetClock(self.world.clock)
        self.world = replace(self.world, clock=self.clock)
        self.me = Self(self.identity, name, lambda: (self.address,) if self.address else ())
        self.joined: list[Peer] = []
        self.inviter = self.new_inviter()

    def new_inviter(self) -> Inviter:
        return Inviter(
            self.world, self.me, self.book, self.home, "127.0.0.1", lambda: ("127.0.0.1",), self.joined.append
        )

    async def join(self, ticket: str, *grants: str) -> Peer:
        return await join(self.world, self.me, self.book, ticket, grants)


@asynccontextmanager
async def hosts(path: Path, *names: str) -> AsyncIterator[list[Host]]:
    made = [Host(path / name, name) for name in names]
    for host in made:
        await host.listen()
    try:
        yield made
    finally:
        for host in made:
            await host.inviter.close()
            await host.mesh.close()


async def refused(joining: object) -> str:
    """The detail of the BADTICKET that a join ends with."""
    with pytest.raises(FileError) as caught:
        await joining  # type: ignore[misc]
    assert caught.value.error is E.BADTICKET
    return caught.value.detail


async def test_a_ticket_makes_two_machines_peers_that_link_up(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite(("home/me", "net"))
        peer = await pi.join(ticket, "proc")
        assert (peer.name, peer.fingerprint) == ("desk", desk.identity.fingerprint)
        assert (peer.granted, peer.received) == (("proc",), ("home/me", "net"))
        assert peer.addresses == (desk.address,)
        (known,) = desk.joined
        assert desk.book.all() == [known]
        assert (known.name, known.granted, known.received) == ("pi", ("home/me", "net"), ("proc",))
        assert known.addresses == (pi.address,)
        for opener, name in ((desk, "pi"), (pi, "desk")):
            channel = await opener.mesh.open(name, "echo")
            await channel.write(b"hello")
            assert await read_exactly(channel, 5) == b"hello"


async def test_the_default_grants_nothing_and_names_are_made_unique(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        other = Host(tmp_path / "second", "pi.local")
        assert (await pi.join(await desk.inviter.invite())).granted == ()
        assert (await other.join(await desk.inviter.invite())).received == ()
        assert [peer.name for peer in desk.book.all()] == ["pi", "pi-2"]


async def test_the_listener_is_open_only_while_an_invitation_is(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        assert desk.inviter.listening == ""
        ticket = await desk.inviter.invite()
        assert desk.inviter.listening
        await pi.join(ticket)
        closing = desk.inviter._closing
        assert closing is not None
        await closing
        assert desk.inviter.listening == ""
        assert "no invitation is open" in await refused(pi.join(ticket))


async def test_who_invite_at_the_same_time_get_one_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the one before is closed."""
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        await desk.inviter.withdraw(await desk.inviter.invite())
        first = desk.inviter._listener
        assert first is not None
        closing, go, close = asyncio.Event(), asyncio.Event(), first.close

        async def slowly() -> None:
            closing.set()
            await go.wait()
            await close()

        monkeypatch.setattr(first, "close", slowly)
        await closing.wait()
        inviting = [asyncio.create_task(desk.inviter.invite()) for _ in range(2)]
        given_up = asyncio.create_task(desk.inviter.invite())
        await asyncio.sleep(0)
        given_up.cancel()
        go.set()
        tickets = await asyncio.gather(*inviting)
        places = {parse_ticket(ticket).addresses for ticket in tickets}
        assert places == {(desk.inviter.listening,)}
        assert (await pi.join(tickets[1])).name == "desk"


async def test_closing_in_the_midst_of_listening_leaves_no_listener_and_none_is_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hosts(tmp_path, "desk") as (desk,):
        begun, go = asyncio.Event(), asyncio.Event()
        made: list[Listener] = []
        network = desk.world.network
        listen = network.listen_tls

        async def slow(*arguments: Any) -> Listener:
            begun.set()
            await go.wait()
            made.append(await listen(*arguments))
            return made[-1]

        monkeypatch.setattr(network, "listen_tls", slow)
        inviting = asyncio.ensure_future(desk.inviter.invite())
        await begun.wait()
        closing = asyncio.ensure_future(desk.inviter.close())
        go.set()
        await asyncio.gather(inviting, closing, return_exceptions=True)
        assert desk.inviter.listening == ""
        [listener] = made
        with pytest.raises(FileError) as caught:
            await connect_tls(listener.address, TlsKeys("", "", None))
        assert caught.value.error is E.CONNREFUSED
        with pytest.raises(FileError) as caught:
            await desk.inviter.invite()
        assert "the node is stopping" in str(caught.value)
        await desk.inviter.close()


async def test_a_machine_that_can_not_keep_the_other_says_that_it_is_kept_there(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        (tmp_path / "pi" / "peers.json").mkdir()
        with pytest.raises(FileError) as caught:
            await pi.join(ticket)
        assert "desk has kept this machine: then join or pair once more" in str(caught.value)
        assert caught.value.explain() == str(caught.value)
        (tmp_path / "pi" / "peers.json").rmdir()
        assert (await pi.join(await desk.inviter.invite())).name == "desk"


async def test_a_ticket_works_once(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi", "second") as (desk, pi, second):
        ticket = await desk.inviter.invite()
        await desk.inviter.invite()
        await pi.join(ticket)
        assert await refused(second.join(ticket)) == Refusal.USED.detail
        assert await refused(pi.join(ticket)) == Refusal.USED.detail
        assert len(desk.book.all()) == 1
        assert second.book.all() == []


async def test_a_ticket_lives_ten_minutes(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        desk.clock.ahead = 599
        await desk.inviter.invite()
        desk.clock.ahead = 601
        assert await refused(pi.join(ticket)) == Refusal.EXPIRED.detail


async def test_setting_the_clock_back_does_not_prolong_a_ticket(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        desk.clock.ahead, desk.clock.wall = 601, -3600
        await desk.inviter.invite()
        assert await refused(pi.join(ticket)) == Refusal.EXPIRED.detail


async def test_an_expired_ticket_whose_listener_is_gone_is_called_expired(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        await desk.inviter.close()
        pi.clock.ahead = 601
        assert Refusal.EXPIRED.detail in await refused(pi.join(ticket))


async def test_a_withdrawn_ticket_says_so(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        await desk.inviter.invite()
        await desk.inviter.withdraw(ticket)
        assert await refused(pi.join(ticket)) == Refusal.WITHDRAWN.detail
        assert await refused(desk.inviter.withdraw(ticket)) == Refusal.WITHDRAWN.detail


async def test_an_open_invitation_is_withdrawn_by_the_beginning_of_its_number(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        number = ticket_number(ticket)
        other = ticket_number(await desk.inviter.invite())
        assert [row.number for row in desk.inviter.invitations.open()] == [number, other]
        with pytest.raises(FileError) as caught:
            await desk.inviter.withdraw("")
        assert caught.value.error is E.BADTICKET
        assert await desk.inviter.withdraw(number[:6].upper()) == number
        assert [row.number for row in desk.inviter.invitations.open()] == [other]
        assert await refused(pi.join(ticket)) == Refusal.WITHDRAWN.detail
        for _ in range(17):  # more than there are digits to begin with
            await desk.inviter.invite()
        digits = [row.number[0] for row in desk.inviter.invitations.open()]
        with pytest.raises(FileError) as caught:
            await desk.inviter.withdraw(next(digit for digit in digits if digits.count(digit) > 1))
        assert caught.value.error is E.AMBIGUOUS
        with pytest.raises(FileError) as caught:
            await desk.inviter.withdraw(number)
        assert caught.value.error is E.BADTICKET


async def test_who_joined_by_which_invitation_is_logged_without_the_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cognu.audit")
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite(("net",))
        parsed = parse_ticket(ticket)
        await pi.join(ticket, "run")
        [line] = [record.getMessage() for record in caplog.records if record.name == "cognu.audit"]
        assert line.startswith(f"pi ({pi.me.identity.fingerprint}), from 127.0.0.1:")
        number = ticket_number(ticket)
        assert line.endswith(f": joined by invitation {number}; it may here: net; this machine there: run")
        assert ticket not in caplog.text
        assert parsed.secret.hex() not in caplog.text


async def test_invitations_and_their_ends_survive_a_restart(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi", "second") as (desk, pi, second):
        used, fresh = await desk.inviter.invite(), await desk.inviter.invite(("net",))
        await pi.join(used)
        await desk.inviter.close()
        desk.inviter = desk.new_inviter()
        await desk.inviter.start()
        assert await refused(second.join(used)) == Refusal.USED.detail
        assert (await second.join(fresh)).received == ("net",)


async def test_an_altered_ticket_is_told_from_an_expired_one(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        middle = len(ticket) // 2
        letter = "a" if ticket[middle] != "a" else "b"
        for bad in (ticket[:-1], ticket[:middle] + letter + ticket[middle + 1 :], ticket + "a", PREFIX, "xyz", ""):
            assert "copy it whole" in (detail := await refused(pi.join(bad))) or "begins with" in detail
        assert await refused(desk.join(ticket)) == "it is this node's own"
        assert desk.inviter.invitations.open()[0].attempts == 0


async def test_a_wrong_secret_is_refused_and_attempts_are_counted_before_they_are_checked(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        parsed = parse_ticket(ticket)
        guess = format_ticket(replace(parsed, secret=bytes(16)))
        assert await refused(pi.join(guess)) == Refusal.UNKNOWN.detail
        for attempt in range(ATTEMPT_LIMIT):
            assert desk.inviter.invitations.open()[0].attempts == attempt
            assert await refused(_ask_with_wrong_proof(desk, parsed)) == Refusal.WRONG.detail
        await desk.inviter.invite()
        assert await refused(pi.join(ticket)) == Refusal.SPENT.detail
        assert desk.book.all() == []


async def _ask_with_wrong_proof(desk: Host, ticket: Ticket) -> None:
    """What one does who has seen the invitation's number but not the secret."""
    thief = identity_from_seed(b"t" * 32)
    me = Self(thief, "thief", lambda: ())
    stream = await connect_tls(ticket.addresses[0], TlsKeys("", "", None))
    try:
        _, challenge = await join_module.expect(stream, Step.CHALLENGE)
        transcript = Transcript(stream.peer_certificate, desk.identity.public, challenge)
        claim = invitation_id(ticket.secret) + bytes(32)
        transcript.add(claim)
        await stream.write(pack_message(Step.TICKET, claim))
        await join_module.expect(stream, Step.KEYED)
        signed = bytes(32) + pack_card(me.card(()))
        transcript.add(signed)
        signature = thief.sign(transcript.message(Step.JOIN))
        body = signed + transcript.mac(bytes(16), Step.JOIN) + signature
        await stream.write(pack_message(Step.JOIN, body))
        await join_module.expect(stream, Step.ACCEPT)
    finally:
        stream.close()


@pytest.mark.parametrize("dropper", ["inviter", "joiner", "nobody"])
async def test_grants_add_up_only_while_neither_has_dropped_the_other(
    tmp_path: Path, dropper: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However little whoever was dropped has heard of it."""
    caplog.set_level(logging.INFO, "cognu.audit")
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        await desk.join(await pi.inviter.invite(("run",)), "net")
        if dropper != "nobody":
            (pi if dropper == "inviter" else desk).book.remove(
                (desk if dropper == "inviter" else pi).identity.fingerprint
            )
        caplog.clear()
        anew: list[str] = []
        desk.book.on_anew = pi.book.on_anew = anew.append
        met = await desk.join(await pi.inviter.invite(("read:/a",)))
        there, here = pi.book.find("desk"), desk.book.find("pi")
        assert met == here
        both = dropper == "nobody"
        assert anew == {"nobody": [], "inviter": [here.fingerprint], "joiner": [there.fingerprint]}[dropper]
        assert there.granted == here.received == (("run", "read:/a") if both else ("read:/a",))
        assert there.received == here.granted == (("net",) if both else ())
        said = " ".join(caplog.messages)
        assert ("what was granted before ended: run" in said) == (dropper == "joiner")
        assert ("what was granted before ended: net" in said) == (dropper == "inviter")
        assert f"it may here: {', '.join(there.granted)}" in said


async def test_a_replayed_request_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a joiner once sent, who did not look who answers, does not answer another challenge."""
    proves = Transcript.proves

    def careless(transcript: Transcript, mac: bytes, secret: bytes, step: Step) -> bool:
        return step is Step.KEYED or proves(transcript, mac, secret, step)

    monkeypatch.setattr(Transcript, "proves", careless)
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = parse_ticket(await desk.inviter.invite())
        kept: list[bytes] = []
        async with _between(ticket, kept) as seen:
            with pytest.raises(CognuError):
                await pi.join(format_ticket(seen))
        said = {Step(data[4]): data for data in kept}
        stream = await connect_tls(ticket.addresses[0], TlsKeys("", "", None))
        await join_module.expect(stream, Step.CHALLENGE)
        await stream.write(said[Step.TICKET])
        await join_module.expect(stream, Step.KEYED)
        await stream.write(said[Step.JOIN])
        assert await refused(join_module.expect(stream, Step.ACCEPT)) == Refusal.WRONG.detail
        stream.close()
        assert desk.book.all() == pi.book.all() == []


@asynccontextmanager
async def _between(ticket: Ticket, kept: list[bytes]) -> AsyncIterator[Ticket]:
    """Somebody between the machines, who passes every message on over a TLS listener of his own."""
    shown = identity_from_seed(b"m" * 32)
    keys = TlsKeys(shown.certificate, shown.private_key, None)

    async def relay(near: SecureStream) -> None:
        far = await connect_tls(ticket.addresses[0], TlsKeys("", "", None))

        async def pump(source: SecureStream, sink: SecureStream) -> None:
            with suppress(CognuError, AssertionError):
                while True:
                    message = await read_exactly(source, MESSAGE_SIZE)
                    kept.append(message)
                    await sink.write(message)
            sink.close()

        try:
            await asyncio.gather(pump(near, far), pump(far, near))
        finally:
            far.close()

    listener = await listen_tls("127.0.0.1:0", lambda: keys, relay)
    try:
        yield replace(ticket, addresses=(listener.address,))
    finally:
        await listener.close()


async def test_somebody_between_the_machines_is_noticed(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = parse_ticket(await desk.inviter.invite())
        kept: list[bytes] = []
        async with _between(ticket, kept) as seen:
            assert await refused(pi.join(format_ticket(seen))) == Refusal.WRONG.detail
        assert desk.book.all() == pi.book.all() == []
        # And hears nothing of who would have joined.
        assert {Step(data[4]) for data in kept} == {Step.CHALLENGE, Step.TICKET, Step.KEYED}
        for secret in (certificate_der(pi.identity.certificate), pi.identity.public, pi.address.encode()):
            assert not any(secret in data for data in kept)
        # An attempt is all that it cost.
        assert (await pi.join(format_ticket(ticket))).name == "desk"


async def test_who_knows_the_number_of_a_ticket_alone_hears_nothing_of_who_joins(tmp_path: Path) -> None:
    """Such as a machine that has an address of the ticket's now, which was another's."""
    heard: list[Step] = []

    async def answer(stream: SecureStream) -> None:
        await stream.write(pack_message(Step.CHALLENGE, bytes(32)))
        with suppress(AssertionError, LinkBroken):
            heard.append(Step((await read_exactly(stream, MESSAGE_SIZE))[4]))
            await stream.write(pack_message(Step.KEYED, bytes(32)))
            heard.append(Step((await read_exactly(stream, MESSAGE_SIZE))[4]))

    shown = identity_from_seed(b"m" * 32)
    listener = await listen_tls("127.0.0.1:0", lambda: TlsKeys(shown.certificate, shown.private_key, None), answer)
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = parse_ticket(await desk.inviter.invite())
        seen = format_ticket(replace(ticket, addresses=(listener.address,)))
        assert await refused(pi.join(seen)) == Refusal.WRONG.detail
    await listener.close()
    assert heard == [Step.TICKET]


async def test_another_machine_than_the_inviter_is_refused(tmp_path: Path) -> None:
    """Even one that knows the ticket's secret can't stand in for the inviter."""
    async with hosts(tmp_path, "desk", "pi", "thief") as (desk, pi, thief):
        ticket = parse_ticket(await desk.inviter.invite())
        stolen = parse_ticket(await thief.inviter.invite())
        table = thief.inviter.invitations
        (row,) = table.open()
        number = invitation_id(ticket.secret).hex()
        table._rows[number] = replace(row, number=number, secret=ticket.secret.hex())
        table._ends[number] = table._ends[row.number]
        # The thief's proofs are for its own name, so already its side finds the joiner's wrong.
        seen = replace(ticket, addresses=stolen.addresses)
        assert await refused(pi.join(format_ticket(seen))) == Refusal.WRONG.detail
        # And if it passes over that, the joiner compares the key that answers.
        thief.inviter._me = replace(thief.me, identity=replace(thief.identity, fingerprint=ticket.inviter))
        assert "another machine" in await refused(pi.join(format_ticket(seen)))
        assert pi.book.all() == []


async def test_a_cut_after_confirming_is_called_an_unknown_outcome(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = parse_ticket(await desk.inviter.invite())

        def fail(peer: Peer) -> None:
            raise LinkBroken(E.CONNRESET, peer.name)

        desk.inviter._joined = fail
        with pytest.raises(LinkBroken) as caught:
            await pi.join(format_ticket(ticket))
        assert caught.value.error is E.NOTRECOVERABLE
        assert pi.book.all() == []


async def test_a_pairing_that_could_not_be_stored_is_refused(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        (tmp_path / "desk" / "peers.json").mkdir()
        failures: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        assert await refused(pi.join(ticket)) == Refusal.FAILED.detail
        assert pi.book.all() == []


async def test_the_grants_shown_in_a_forged_ticket_are_not_given(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = parse_ticket(await desk.inviter.invite(("net",)))
        assert (await pi.join(format_ticket(replace(ticket, grants=("everything",))))).received == ("net",)
        assert desk.book.all()[0].granted == ("net",)


@pytest.mark.parametrize("data", [b"x" * MESSAGE_SIZE, b"x" * 3 * MESSAGE_SIZE, pack_message(Step.DONE, bytes(32)),
                                  pack_message(Step.TICKET, b""), pack_message(Step.JOIN, bytes(500))])  # fmt: skip
async def test_garbage_is_cut_off_and_the_invitation_stays_good(tmp_path: Path, data: bytes) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        stream = await connect_tls(parse_ticket(ticket).addresses[0], TlsKeys("", "", None))
        with suppress(LinkBroken):
            await stream.write(data)
            while await stream.read(MESSAGE_SIZE):
                pass
        stream.close()
        await pi.join(ticket)


async def test_a_silent_joiner_is_cut_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosts(tmp_path, "desk", "pi") as (desk, pi):
        ticket = await desk.inviter.invite()
        monkeypatch.setattr(join_module, "CONVERSATION_SECONDS", 0.05)
        stream = await connect_tls(parse_ticket(ticket).addresses[0], TlsKeys("", "", None))
        with suppress(LinkBroken):
            while await stream.read(MESSAGE_SIZE):
                pass
        stream.close()
        monkeypatch.undo()
        await pi.join(ticket)


async def test_too_many_invitations_and_bad_grants_are_refused(tmp_path: Path) -> None:
    async with hosts(tmp_path, "desk") as (desk,):
        many = tuple(f"x{n}" for n in range(GRANT_LIMIT + 1))
        for grants, error in ((("",), E.INVAL), (("a\0b",), E.INVAL), (("x" * 201,), E.INVAL), (many, E.GRANTSFULL)):
            with pytest.raises(FileError) as caught:
                await desk.inviter.invite(grants)
            assert caught.value.error is error
        for _ in range(OPEN_LIMIT):
            await desk.inviter.invite()
        with pytest.raises(FileError) as caught:
            await desk.inviter.invite()
        assert caught.value.error is E.BUSY


# Codecs

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=50)
TICKETS = st.builds(
    Ticket,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32).map(lambda seed: identity_from_seed(seed).fingerprint),
    st.lists(TEXTS, min_size=1, max_size=8).map(tuple),
    st.lists(TEXTS, max_size=16).map(tuple),
)


@settings(deadline=None)
@given(TICKETS)
def test_a_ticket_survives_being_copied_with_line_breaks(ticket: Ticket) -> None:
    text = format_ticket(ticket)
    assert parse_ticket(text) == ticket
    wrapped = "\n  ".join(text[start : start + 60] for start in range(0, len(text), 60))
    assert parse_ticket(f" {wrapped.upper()}\n") == ticket
    assert ticket.secret.hex() not in repr(ticket)


@settings(deadline=None)
@given(TICKETS, st.data())
def test_any_single_wrong_letter_is_noticed(ticket: Ticket, data: st.DataObject) -> None:
    text = format_ticket(ticket)
    place = data.draw(st.integers(len(PREFIX), len(text) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567189").filter(lambda c: c != text[place]))
    with pytest.raises(FileError):
        parse_ticket(text[:place] + letter + text[place + 1 :])


@settings(deadline=None)
@given(st.one_of(st.text(max_size=300), st.text("abcdefghijklmnopqrstuvwxyz234567", max_size=300).map(PREFIX.__add__)))
def test_any_text_is_refused_as_a_ticket(text: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_ticket(text)
    assert caught.value.error is E.BADTICKET


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_content_with_a_right_checksum_parses_or_is_refused(body: bytes) -> None:
    text = PREFIX + base64.b32encode(body + blake3(body).digest(4)).decode().rstrip("=").lower()
    with suppress(FileError):
        assert format_ticket(parse_ticket(text)) == text


@settings(deadline=None)
@given(st.binary(max_size=600), st.integers(0, 11))
def test_any_message_parses_or_is_a_protocol_error(body: bytes, step: int) -> None:
    data = b"CgJ3" + bytes([step]) + len(body).to_bytes(2, "big") + body
    for whole in (body, data, data + bytes(MESSAGE_SIZE - len(data)), data + b"x" * (MESSAGE_SIZE - len(data))):
        with suppress(ProtocolError):
            came, got = parse_message(whole)
            assert pack_message(came, got) == whole
    parsers: list[Callable[[bytes], object]] = [
        parse_card, parse_claim, parse_request, parse_answer, parse_confirmation, parse_refusal,
    ]  # fmt: skip
    for parse in parsers:
        with suppress(ProtocolError):
            parse(body)


@settings(deadline=None)
@given(st.binary(max_size=1024), st.text(st.characters(codec="utf-8"), max_size=255),
       st.lists(TEXTS, max_size=8).map(tuple), st.lists(TEXTS, max_size=16).map(tuple), st.booleans())  # fmt: skip
def test_a_card_survives_the_wire(
    certificate: bytes, name: str, addresses: tuple[str, ...], grants: tuple[str, ...], knows: bool
) -> None:
    card = Card(certificate, name, addresses, grants, knows=knows)
    assert parse_card(pack_card(card)) == card


def test_proofs_differ_by_step_secret_and_everything_said() -> None:
    def proof(listener: bytes = b"l", said: bytes = b"s", secret: bytes = b"k", step: Step = Step.JOIN) -> bytes:
        transcript = Transcript(listener, b"i", b"c")
        transcript.add(said)
        return transcript.mac(secret, step)

    proofs = {proof(), proof(listener=b"x"), proof(said=b"x"), proof(secret=b"x"), proof(step=Step.DONE)}
    assert len(proofs) == 5


ROW = {"number": "", "secret": "", "expires": 1, "grants": [], "attempts": 0, "state": "used", "peer": ""}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[" * 100_000, json.dumps({"version": 2, "port": 1, "invitations": []}).encode(),
        json.dumps({"version": 1, "port": 70000, "invitations": []}).encode(),
        json.dumps({"version": 1, "port": 1, "invitations": [ROW, ROW]}).encode(),
        *(json.dumps({"version": 1, "port": 1, "invitations": [{**ROW, **change}]}).encode() for change in (
            {"state": "open"}, {"state": "new"}, {"attempts": -1}, {"attempts": True}, {"expires": "1"},
            {"secret": "zz"}, {"grants": [1]}, {"more": 1})),
    ],
)  # fmt: skip
def test_a_damaged_table_of_invitations_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "invitations.json").write_bytes(content)
    with pytest.raises(FileError) as caught:
        Invitations(Node(tmp_path / "n").world, str(tmp_path))
    assert caught.value.error is E.DAMAGED


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_table_of_invitations_parses_or_is_damaged(data: bytes) -> None:
    with suppress(FileError):
        parse_invitations(data, "invitations.json")


def test_a_certificate_that_is_no_leaf_can_not_be_pinned() -> None:
    identity = identity_from_seed(bytes(32))
    good = Card(certificate_der(identity.certificate), "x", (), ())
    assert public_of(good) == identity.public
    assert public_of(replace(good, certificate=b"x")) is None
