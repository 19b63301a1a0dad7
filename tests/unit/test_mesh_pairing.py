"""Pairing by a short code: two machines that know it become peers, and everybody else does not."""

from __future__ import annotations

import asyncio
import datetime
import gc
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.mesh import join as join_module
from cognu.mesh import pair as pair_module
from cognu.mesh import pairing as pairing_module
from cognu.mesh.codes import (
    ATTEMPTS,
    OFFER,
    Code,
    check_address,
    format_offer,
    new_code,
    parse_code,
    parse_offer,
)
from cognu.mesh.discovery import Discovery, Me, Pairing
from cognu.mesh.identity import Identity, Peer, identity_from_seed
from cognu.mesh.join import CONVERSATIONS, Self, expect
from cognu.mesh.join_messages import (
    MESSAGE_SIZE,
    Refusal,
    Step,
    key_proof,
    pack_message,
    pack_pair,
    parse_confirmation,
    parse_pair,
    parse_paired,
    proves_key,
)
from cognu.mesh.pairing import Proposal, Wish
from cognu.mesh.spake import Exchange, Side
from cognu.mesh.tickets import pack_texts
from cognu.world import Clock, SecureStream, TlsKeys
from cognu.world.real import real_world
from cognu.world.tls import connect_tls, listen_tls
from mesh_support import read_exactly
from neighbours import FakeNeighbours, FakeNetwork
from pairing_kit import MESSENGER, Machine, User, another, between, machines


async def refused(pairing: object) -> str:
    """The detail of the NOTPAIRED that it ends with, or for a wrong code WRONGCODE."""
    with pytest.raises(FileError) as caught:
        await pairing  # type: ignore[misc]
    wrong = caught.value.detail == Refusal.CODE.detail
    assert caught.value.error is (E.WRONGCODE if wrong else E.NOTPAIRED), caught.value
    return caught.value.detail


async def test_a_code_makes_two_machines_peers_that_link_up(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show("read:/home/me")
        peer = await pi.type(await desk.code(), "net")
        known = await showing
        assert (peer.name, peer.fingerprint) == ("desk", desk.identity.fingerprint)
        assert (peer.granted, peer.received) == (("net",), ("read:/home/me",))
        assert (known.name, known.granted, known.received) == ("pi", ("read:/home/me",), ("net",))
        assert desk.joined == [known]
        assert desk.user.asked == pi.user.asked == []
        for opener, name in ((desk, "pi"), (pi, "desk")):
            channel = await opener.mesh.open(name, "echo")
            await channel.write(b"hello")
            assert await read_exactly(channel, 5) == b"hello"


async def test_by_default_nothing_is_granted_and_nothing_asked(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        peer = await pi.type(await desk.code())
        assert (peer.granted, peer.received, (await showing).granted) == ((), (), ())


async def test_what_is_asked_is_granted_when_both_users_agree(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show("net", asks=("run",))
        peer = await pi.type(await desk.code(), "read:/a", asks=("read:/b", "net"))
        known = await showing
        assert (known.granted, known.received) == (("net", "read:/b"), ("read:/a", "run"))
        assert (peer.granted, peer.received) == (("read:/a", "run"), ("net", "read:/b"))
        [to_desk], [to_pi] = desk.user.asked, pi.user.asked
        assert (to_desk.name, to_desk.fingerprint) == ("pi", pi.identity.fingerprint)
        assert (to_desk.asks, to_desk.grants, to_desk.offers) == (("read:/b", "net"), ("net",), ("read:/a",))
        assert to_desk.address.startswith("127.0.0.1:")
        assert (to_pi.name, to_pi.asks, to_pi.grants) == ("desk", ("run",), ("read:/a",))


@pytest.mark.parametrize("who", ["desk", "pi"])
async def test_a_no_on_either_side_pairs_nobody_and_both_are_told(tmp_path: Path, who: str) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        (desk if who == "desk" else pi).user.yes = False
        showing = desk.show(asks=("run",))
        there = await refused(pi.type(await desk.code(), asks=("net",)))
        here = await refused(showing)
        said = {here, there}
        assert said == {Refusal.DECLINED.detail, "what was asked for was not agreed to here"}
        assert desk.book.all() == pi.book.all() == []


async def test_an_answer_that_does_not_come_is_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_module, "CONSENT_SECONDS", 0.05)
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user.thinks = True
        showing = desk.show()
        assert await refused(pi.type(await desk.code(), asks=("net",))) == Refusal.DECLINED.detail
        assert "nobody has answered here" in await refused(showing)
        assert desk.user.left_alone.is_set()


@pytest.mark.parametrize("unable", [False, True])
async def test_a_no_that_is_not_taken_is_a_no_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unable: bool
) -> None:
    class No(User):
        async def agrees(self, proposal: Proposal) -> bool:
            monkeypatch.setattr(join_module, "CONVERSATION_SECONDS", 0.05)
            if unable:
                raise FileError(E.NOENT, "/secret")
            return False

    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user = No()
        showing = desk.show()
        stays = asyncio.Event()

        async def stay(*_: object) -> None:
            await stays.wait()

        monkeypatch.setattr(pair_module, "accepted", stay)  # it reads nothing from then on
        typing = asyncio.create_task(pi.type(await desk.code(), asks=("net",)))
        with pytest.raises(FileError) as caught:
            await showing
        if unable:
            assert (caught.value.error, caught.value.subject) == (E.NOENT, "/secret")
        else:
            assert caught.value.detail == "what was asked for was not agreed to here"
        typing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await typing


async def test_what_can_not_be_granted_is_told_here_and_there_only_that_it_was_not(tmp_path: Path) -> None:
    class Unable(User):
        async def agrees(self, proposal: object) -> bool:
            raise FileError(E.NOENT, "/secret")

    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user = Unable()
        showing = desk.show()
        assert await refused(pi.type(await desk.code(), asks=("read:/secret",))) == Refusal.DECLINED.detail
        with pytest.raises(FileError) as caught:
            await showing
        assert (caught.value.error, caught.value.subject) == (E.NOENT, "/secret")
        assert desk.book.all() == pi.book.all() == []


async def test_giving_up_where_the_code_is_shown_ends_the_other_side_too(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user.thinks = True
        showing = desk.show()
        typing = asyncio.create_task(pi.type(await desk.code(), asks=("net",)))
        await desk.user.is_asked.wait()
        showing.cancel()
        assert await refused(typing) == Refusal.GIVEN_UP.detail
        await desk.user.left_alone.wait()
        assert desk.book.all() == pi.book.all() == []


async def test_giving_up_where_the_code_was_typed_ends_the_question_on_the_other_side(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user.thinks = True
        showing = desk.show()
        typing = asyncio.create_task(pi.type(await desk.code(), asks=("net",)))
        await desk.user.is_asked.wait()
        typing.cancel()
        assert "went away" in await refused(showing)
        assert desk.user.left_alone.is_set()
        assert desk.book.all() == []


async def test_giving_up_while_the_one_who_typed_is_asked_ends_both(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        pi.user.thinks = True
        showing = desk.show(asks=("net",))
        typing = asyncio.create_task(pi.type(await desk.code()))
        await pi.user.is_asked.wait()
        showing.cancel()
        assert await refused(typing) == Refusal.GIVEN_UP.detail
        assert pi.user.left_alone.is_set()


async def test_giving_up_a_code_that_nobody_typed_closes_the_listener(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        closing = desk.inviter._closing
        showing.cancel()
        assert closing is not None
        await closing
        assert desk.inviter.listening == ""
        assert desk.inviter._code is None
        assert pi.air.rows == []
        assert Refusal.NO_CODE.detail in await refused(pi.type(code, at=desk.user.addresses))


async def test_a_code_lives_for_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing_module, "CODE_SECONDS", 0.05)
    async with machines(tmp_path, "desk") as (desk,):
        assert "nobody has typed the code" in await refused(desk.show())


async def test_one_code_is_shown_at_a_time_and_a_ticket_may_be_open_beside_it(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi", "third") as (desk, pi, third):
        ticket = await desk.inviter.invite(("run",))
        showing = desk.show()
        code = await desk.code()
        with pytest.raises(FileError) as caught:
            await desk.inviter.show_code(Wish(), User(), desk.air)
        assert caught.value.error is E.CODESHOWN
        assert re.search(r"ends by itself at \d\d:\d\d:\d\d$", str(caught.value))
        assert (await join_module.join(third.world, third.me, third.book, ticket)).received == ("run",)
        await pi.type(code)
        await showing


# -- attacks ----------------------------------------------------------------------------------------------------------


async def test_a_wrong_code_is_refused_and_told_on_both_sides_and_the_right_one_is_still_good(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        assert await refused(pi.type(another(code), at=desk.user.addresses)) == Refusal.CODE.detail
        assert desk.user.tries == [(Refusal.CODE, ATTEMPTS - 1)]
        await pi.type(code)
        await showing


async def test_the_right_code_is_no_longer_good_after_the_attempts(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        for left in range(ATTEMPTS - 1, -1, -1):
            said = Refusal.CODE if left else Refusal.CODE_SPENT
            assert await refused(pi.type(another(code), at=desk.user.addresses)) == said.detail
        assert await refused(showing) == Refusal.CODE_SPENT.detail
        assert [left for _, left in desk.user.tries] == list(range(ATTEMPTS - 1, -1, -1))
        await closed(desk)
        assert Refusal.NO_CODE.detail in await refused(pi.type(code, at=desk.user.addresses))
        assert desk.book.all() == []


async def test_an_attempt_counts_before_it_is_looked_at(tmp_path: Path) -> None:
    """Who leaves as soon as it has the answer to its element, having learnt what there is to learn, has spent one."""
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        for left in range(ATTEMPTS - 1, -1, -1):
            stream = await begin(desk, Exchange(Side.TYPES, "0000000000", pi.world.random).element)
            assert desk.inviter._code is not None
            assert desk.inviter._code.left == left
            stream.close()
        assert await refused(showing) == Refusal.CODE_SPENT.detail
        assert {why for why, _ in desk.user.tries} == {Refusal.GIVEN_UP}
        await closed(desk)
        assert Refusal.NO_CODE.detail in await refused(pi.type(code, at=desk.user.addresses))


async def closed(desk: Machine) -> None:
    """Its listener has ended."""
    if desk.inviter._closing is not None:
        await desk.inviter._closing


async def begin(desk: Machine, element: bytes) -> SecureStream:
    """A conversation up to the answer to an element."""
    code = await desk.code()
    stream = await connect_tls(desk.user.addresses[0], TlsKeys("", "", None))
    try:
        await expect(stream, Step.CHALLENGE)
        await stream.write(pack_message(Step.PAIR, pack_pair(code.number, element)))
        await expect(stream, Step.PAIRED)
    except BaseException:
        stream.close()
        raise
    return stream


async def test_attempts_at_once_are_counted_one_by_one(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        tries = [refused(pi.type(another(code), at=desk.user.addresses)) for _ in range(ATTEMPTS + 3)]
        said = await asyncio.gather(*tries)
        assert said.count(Refusal.CODE.detail) <= ATTEMPTS - 1
        assert sum(text in (Refusal.CODE.detail, Refusal.CODE_SPENT.detail) for text in said) >= ATTEMPTS
        assert [left for _, left in desk.user.tries][-1] == 0
        assert await refused(showing) == Refusal.CODE_SPENT.detail


async def test_another_machines_number_costs_no_attempt(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        stranger = Code(f"{(int(code.number) + 1) % 100:02}{code.digits[2:]}")
        assert await refused(pi.type(stranger, at=desk.user.addresses)) == Refusal.NO_CODE.detail
        assert desk.user.tries == []
        await pi.type(code)
        await showing


async def test_replayed_messages_are_refused(tmp_path: Path) -> None:
    """What was said when it went well does not go well again, in the same order and to the same code's machine."""
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        kept: list[bytes] = []
        async with between(desk.user.addresses[0], kept) as address:
            await refused(pi.type(code, at=(address,)))
        said = {Step(message[4]): message for message in kept}
        stream = await connect_tls(desk.user.addresses[0], TlsKeys("", "", None))
        await expect(stream, Step.CHALLENGE)
        await stream.write(said[Step.PAIR])
        await expect(stream, Step.PAIRED)
        await stream.write(said[Step.KEY])
        assert await refused(expect(stream, Step.KEYED)) == Refusal.CODE.detail
        stream.close()
        await pi.type(code)
        await showing
        assert [peer.name for peer in desk.book.all()] == ["pi"]


async def test_somebody_between_with_a_certificate_of_his_own_is_named_on_both_sides(tmp_path: Path) -> None:
    """The code is right on both sides, and so is the key; but each saw another listener."""
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show("run", asks=("run",))
        async with between(desk.user.addresses[0] if desk.user.addresses else await where(desk), []) as address:
            assert await refused(pi.type(await desk.code(), at=(address,))) == Refusal.BETWEEN.detail
        assert desk.user.tries == [(Refusal.BETWEEN, ATTEMPTS - 1)]
        assert desk.book.all() == pi.book.all() == []
        assert desk.user.asked == pi.user.asked == []
        showing.cancel()


async def where(desk: Machine) -> str:
    await desk.code()
    return desk.user.addresses[0]


def made_by(maker: Identity) -> TlsKeys:
    """A leaf for a key of the attacker's, signed by `maker`'s key: what a pinned peer could make."""
    mine = identity_from_seed(b"x" * 32)
    begin, end = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)
    issuer = x509.load_pem_x509_certificate(maker.certificate.encode()).subject
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, mine.fingerprint)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(mine.key.public_key())
    made = builder.serial_number(7).not_valid_before(begin).not_valid_after(end).sign(maker.key, None)
    return TlsKeys(made.public_bytes(Encoding.PEM).decode(), mine.private_key, None)


async def test_a_certificate_of_a_pinned_peers_making_does_not_help_who_stands_between(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi", "thief") as (desk, pi, thief):
        pi.knows(thief, "thief")
        desk.knows(thief, "thief")
        showing = desk.show()
        for keys in (made_by(thief.identity), TlsKeys(thief.identity.certificate, thief.identity.private_key, None)):
            async with between(await where(desk), [], keys) as address:
                assert await refused(pi.type(await desk.code(), at=(address,))) == Refusal.BETWEEN.detail
        assert [peer.name for peer in pi.book.all()] == [peer.name for peer in desk.book.all()] == ["thief"]
        showing.cancel()


@pytest.mark.parametrize("step", [step for step in Step if step not in (Step.CHALLENGE, Step.REFUSE)])
async def test_one_changed_bit_of_any_message_pairs_nobody_on_the_side_that_gets_it(tmp_path: Path, step: Step) -> None:
    """By one who stands between and shows, as no one can, the listener's own certificate."""

    def change(message: bytes) -> bytes:
        if message[4] != step:
            return message
        place = 7 + 2 if step is Step.PAIR else 7 + int.from_bytes(message[5:7], "big") - 1
        return message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]

    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        keys = desk.inviter._shown
        async with between(await where(desk), [], TlsKeys(keys.certificate, keys.private_key, None), change) as address:
            with pytest.raises(CognuError) as caught:
                await pi.type(await desk.code(), at=(address,))
        if step is Step.DONE:  # desk has pinned before, as it must; pi says that it can't know
            assert caught.value.error is E.NOTRECOVERABLE
            assert (await showing).name == "pi"
        else:
            assert desk.book.all() == []
            showing.cancel()
        assert pi.book.all() == []


async def test_who_does_not_take_the_refusal_of_its_last_message_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()

    async def stay(clock: Clock, me: Self, stream: SecureStream, *_: object) -> None:
        await stream.write(pack_message(Step.CONFIRM, pack_texts(()) + bytes(32 + 64)))
        monkeypatch.setattr(join_module, "CONVERSATION_SECONDS", 0.05)
        await gone.wait()

    monkeypatch.setattr(pair_module, "confirm", stay)
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        typing = asyncio.create_task(pi.type(await desk.code()))
        assert await refused(showing) == Refusal.BETWEEN.detail
        assert not typing.done()
        typing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await typing


async def test_who_shows_a_code_and_does_not_know_it_hears_nothing_of_who_types_it(tmp_path: Path) -> None:
    """No name, no key, no address, nothing that is asked for: the proof of the key is all that comes."""
    heard: list[bytes] = []
    over = asyncio.Event()

    async def lie(stream: SecureStream) -> None:
        exchange = Exchange(Side.SHOWS, "2700000000", real_world().random)
        await stream.write(pack_message(Step.CHALLENGE, bytes(32)))
        heard.append(await read_exactly(stream, MESSAGE_SIZE))
        await stream.write(pack_message(Step.PAIRED, bytes(32) + exchange.element))
        heard.append(await read_exactly(stream, MESSAGE_SIZE))
        await stream.write(pack_message(Step.KEYED, bytes(32)))
        rest = b""
        with suppress(LinkBroken):
            rest = await stream.read(MESSAGE_SIZE)
        heard.append(rest)
        over.set()

    keys = TlsKeys(MESSENGER.certificate, MESSENGER.private_key, None)
    listener = await listen_tls("127.0.0.1:0", lambda: keys, lie)
    async with machines(tmp_path, "pi") as (pi,):
        typing = pi.type(Code("2748319052"), "run", asks=("read:/a/secret",), at=(listener.address,))
        assert await refused(typing) == Refusal.CODE.detail
        await over.wait()
        await listener.close()
    assert [message[4] for message in heard[:2]] == [Step.PAIR, Step.KEY]
    assert heard[1][7 + 32 :].strip(b"\0") == heard[2] == b""


async def test_own_messages_sent_back_are_refused(tmp_path: Path) -> None:
    """A listener that says to the one who types what that one has just said."""

    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        elements: list[bytes] = []

        def reflect(message: bytes) -> bytes:
            if message[4] == Step.PAIR:
                elements.append(parse_pair(message[7 : 7 + 35])[1])
            if message[4] != Step.PAIRED:
                return message
            body = message[7 : 7 + 32] + elements[0]
            return pack_message(Step.PAIRED, body)

        async with between(await where(desk), [], None, reflect) as address:
            with pytest.raises(CognuError) as caught:
                await pi.type(await desk.code(), at=(address,))
        assert isinstance(caught.value, ProtocolError)
        assert "OffSides" in caught.value.detail
        showing.cancel()


async def test_a_machine_can_not_pair_with_itself(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk") as (desk,):
        showing = desk.show()
        assert "own" in await refused(desk.type(await desk.code(), at=(await where(desk),)))
        showing.cancel()


SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",  # neutral
    "0100000000000000000000000000000000000000000000000000000000000080",  # the same, with the other sign
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # the same, y + p
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # order 2
    "0000000000000000000000000000000000000000000000000000000000000000",  # order 4
    "0000000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # order 4, y + p
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",  # order 8
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "0200000000000000000000000000000000000000000000000000000000000000",  # on no curve
]
"""Points that are none of the group's (RFC 7748 7, RFC 8032 5.1.3)."""


@pytest.mark.parametrize("point", SMALL)
async def test_a_point_outside_of_the_group_ends_the_conversation_and_counts(tmp_path: Path, point: str) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        with pytest.raises(LinkBroken):
            await begin(desk, b"A" + bytes.fromhex(point))
        assert desk.user.tries == [(Refusal.CODE, ATTEMPTS - 1)]
        await pi.type(await desk.code())
        await showing


@pytest.mark.parametrize(
    "data",
    [b"x" * MESSAGE_SIZE, b"x" * 3 * MESSAGE_SIZE, pack_message(Step.PAIR, b""), pack_message(Step.PAIR, bytes(500)),
     pack_message(Step.PAIR, b"xx" + bytes(33)), pack_message(Step.KEY, bytes(32)), pack_message(Step.DONE, bytes(32))],
)  # fmt: skip
async def test_garbage_is_cut_off_and_costs_no_attempt(tmp_path: Path, data: bytes) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        stream = await connect_tls(await where(desk), TlsKeys("", "", None))
        with suppress(LinkBroken):
            await stream.write(data)
            while await stream.read(MESSAGE_SIZE):
                pass
        stream.close()
        assert desk.user.tries == []
        await pi.type(await desk.code())
        await showing


async def test_a_slow_one_is_cut_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        monkeypatch.setattr(join_module, "CONVERSATION_SECONDS", 0.5)
        stream = await begin(desk, Exchange(Side.TYPES, "0000000000", pi.world.random).element)
        with suppress(LinkBroken):
            await stream.write(b"CgJ2\x09")
            while await stream.read(MESSAGE_SIZE):
                pass
        stream.close()
        assert desk.user.tries == [(Refusal.GIVEN_UP, ATTEMPTS - 1)]
        monkeypatch.undo()
        await pi.type(await desk.code())
        await showing


async def test_however_many_connect_one_from_elsewhere_gets_its_turn(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        address = await where(desk)
        held: list[SecureStream] = []
        for _ in range(3 * CONVERSATIONS):
            stream = await connect_tls(address, TlsKeys("", "", None))
            await expect(stream, Step.CHALLENGE)
            held.append(stream)
            assert len(desk.inviter._unproven) <= CONVERSATIONS
        elsewhere = _Far("10.0.0.9:1")
        desk.inviter._make_room(elsewhere)  # type: ignore[arg-type]
        for _ in range(2 * CONVERSATIONS):
            desk.inviter._make_room(_Far("10.0.0.8:1"))  # type: ignore[arg-type]
        assert not elsewhere.closed
        desk.inviter._unproven.clear()
        await pi.type(await desk.code())
        await showing
        for stream in held:
            stream.close()


@pytest.mark.long
async def test_a_thousand_that_connect_and_say_nothing_leave_room_for_who_knows_the_code(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        address = await where(desk)
        held: list[SecureStream] = []

        async def connect() -> None:
            with suppress(CognuError):
                held.append(await connect_tls(address, TlsKeys("", "", None)))
            assert len(desk.inviter._unproven) <= CONVERSATIONS

        for _ in range(50):
            await asyncio.gather(*(connect() for _ in range(20)))
        assert len(held) > CONVERSATIONS
        await pi.type(await desk.code())
        await showing
        assert desk.user.tries == []
        for stream in held:
            stream.close()


class _Far:
    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.closed = False

    def close(self) -> None:
        self.closed = True


async def test_the_code_is_in_no_log_and_nowhere_when_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        assert code.digits[2:] not in repr(code)
        await refused(pi.type(another(code), at=desk.user.addresses))
        await pi.type(code)
        await showing
        lines = [record.getMessage() for record in caplog.records if record.name == "cognu.audit"]
        assert [line.partition(": ")[2] for line in lines] == [
            f"did not pair by code {code.number}: {Refusal.CODE.detail}",
            "paired by a code; it may here: nothing; this machine there: nothing",
            "paired by a code; it may here: nothing; this machine there: nothing",
        ]
        for secret in (code.digits, code.text, code.digits[2:]):
            assert secret not in caplog.text
            assert not any(secret in text for text in files_below(tmp_path))
        digits = code.digits
        del code
        desk.user.code = None
        gc.collect()
        holders = [each for each in gc.get_objects() if isinstance(each, (dict, Code)) and _holds(each, digits)]
        assert holders == []


def files_below(path: Path) -> list[str]:
    return [each.read_text() for each in path.rglob("*") if each.is_file()]


def _holds(thing: object, digits: str) -> bool:
    values = list(thing.values()) if type(thing) is dict else [getattr(thing, "digits", None)]
    return any(type(value) in (str, bytes) and value in (digits, digits.encode()) for value in values)


# -- finding ----------------------------------------------------------------------------------------------------------


async def test_liars_of_the_same_number_are_passed_over_and_get_one_guess_each(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi", "liar") as (desk, pi, liar):
        showing = desk.show()
        code = await desk.code()
        lying = asyncio.create_task(_show_under(liar, another(code)))
        await liar.user.sees.wait()
        pi.air.rows.reverse()
        await pi.type(code)
        await showing
        assert liar.user.tries == [(Refusal.CODE, ATTEMPTS - 1)]
        lying.cancel()


async def _show_under(machine: Machine, code: Code) -> Peer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join_module, "new_code", lambda _: code)
        return await machine.show()


async def test_the_code_is_tried_with_few_machines(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        port = desk.user.addresses[0].rpartition(":")[2]
        pi.air.rows[:] = [Pairing("x", (f"127.0.0.{host}:{port}",), code.number) for host in range(2, 12)]
        with pytest.raises(FileError):
            await pi.type(another(code))
        assert len(desk.user.tries) <= pair_module.MACHINES
        showing.cancel()


async def test_the_nodes_own_discovery_finds_who_shows_the_code(tmp_path: Path) -> None:
    network = FakeNetwork()
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        for machine in (desk, pi):
            meeting = replace(machine.world, neighbours=FakeNeighbours(network, "127.0.0.1"))
            me = Me(machine.identity.fingerprint, machine.me.name)
            machine.finder = Discovery(meeting, me, "pairing", list, lambda *_: None)
            await machine.finder.start("0.0.0.0:7")
        typing = asyncio.create_task(pi.type(Code("0000000000")))  # it waits for one that nobody shows, meanwhile
        showing = desk.show()
        code = await desk.code()
        assert (await pi.type(code)).name == "desk"
        assert (await showing).name == "pi"
        typing.cancel()
        await asyncio.wait({typing})
        for machine in (desk, pi):
            assert isinstance(machine.finder, Discovery)
            await machine.finder.close()
        assert network.places == []


async def test_when_nobody_shows_such_a_code_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_module, "FIND_SECONDS", 0.05)
    async with machines(tmp_path, "pi") as (pi,):
        assert "begins with 27; say" in await refused(pi.type(Code("2748319052")))


async def test_who_shows_another_code_is_named_while_it_is_looked_for_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_module, "FIND_SECONDS", 0.05)
    async with machines(tmp_path, "pi") as (pi,):
        pi.air.rows += [Pairing("desk", ("127.0.0.1:9",), "82")] * 2
        pi.air.rows += [Pairing(f"liar{count}", ("127.0.0.1:9",), "83") for count in range(100)]
        said = await refused(pi.type(Code("2748319052")))
        assert "begins with 27, desk shows one that begins with 82, liar0 shows" in said
        assert said.endswith("; say its ADDRESS too")
        assert pi.user.others[:2] == [("desk", "82"), ("liar0", "83")]
        assert len(pi.user.others) == said.count(" shows one ") == pair_module.HEARD


# -- what is typed and what is sent -----------------------------------------------------------------------------------

CODES = st.integers(0, 10**10 - 1).map(lambda number: Code(f"{number:010}"))


@given(CODES, st.sampled_from(["", " ", "-", " - "]))
def test_a_code_is_read_however_it_is_spaced(code: Code, space: str) -> None:
    assert parse_code(space.join(code.digits)) == parse_code(code.text) == code


@given(st.text(max_size=40))
def test_any_text_is_a_code_or_refused_without_being_repeated(text: str) -> None:
    if len("".join(text.split()).replace("-", "")) == 10 and "".join(text.split()).replace("-", "").isascii():
        with suppress(FileError):
            assert parse_code(text).digits.isdigit()
        return
    with pytest.raises(FileError) as caught:
        parse_code(text)
    assert caught.value.error is E.NOTPAIRED
    assert caught.value.detail == "a code is 10 digits, as in 27-4831-9052"


ADDRESSES = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(["127.0.0.1", "pi.local", "[::1]", "[fe80::1%eth0]"]),
              st.integers(1, 65535)),
)  # fmt: skip


@given(CODES, st.lists(ADDRESSES, min_size=1, max_size=8).map(tuple))
def test_an_offer_survives_the_camera(code: Code, addresses: tuple[str, ...]) -> None:
    assert parse_offer(f" {format_offer(code, addresses)}\n") == (code, addresses)


@given(st.one_of(st.text(max_size=80), st.text("0123456789@:,[]%.a", max_size=80).map(OFFER.__add__)))
def test_any_text_is_an_offer_or_refused(text: str) -> None:
    with suppress(FileError):
        code, addresses = parse_offer(text)
        assert parse_offer(format_offer(code, addresses)) == (code, addresses)


@pytest.mark.parametrize("text", ["", "pi", "pi:0", "pi:70000", "pi:x", "a b:1", "::1:5", "pi:1,b:2", "[::1]", "@:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(FileError) as caught:
        check_address(text)
    assert caught.value.error is E.USAGE


def test_codes_are_new_and_use_all_digits() -> None:
    random = real_world().random
    codes = {new_code(random).digits for _ in range(100)}
    assert len(codes) == 100
    assert set("".join(codes)) == set("0123456789")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_message_of_pairing_parses_or_is_a_protocol_error(body: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [parse_pair, parse_paired, parse_confirmation]
    for parse in parsers:
        with suppress(ProtocolError):
            parse(body)


@given(st.binary(min_size=33, max_size=33), CODES)
def test_pair_survives_the_wire(element: bytes, code: Code) -> None:
    assert parse_pair(pack_pair(code.number, element)) == (code.number, element)


def test_the_proof_of_the_key_differs_by_step_secret_and_both_elements() -> None:
    steps = (Step.KEY, Step.KEYED)
    proofs = {key_proof(step, secret, a, b) for step in steps for secret in (b"k", b"l") for a in (b"a", b"b")
              for b in (b"c", b"d")}  # fmt: skip
    assert len(proofs) == 16
    proof = key_proof(Step.KEY, b"k", b"a", b"c")
    assert proves_key(Step.KEY, proof, b"k", b"a", b"c")
    assert not proves_key(Step.KEY, proof, b"k", b"c", b"a")
    assert not proves_key(Step.KEYED, proof, b"k", b"a", b"c")


async def test_what_a_machine_says_of_itself_can_not_steer_a_terminal(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        pi.me = replace(pi.me, name="\x1b[2J pi")
        showing = desk.show()
        await pi.type(await desk.code(), asks=("net",))
        await showing
        [proposal] = desk.user.asked
        assert proposal.name.isprintable()
        assert " " not in proposal.name
