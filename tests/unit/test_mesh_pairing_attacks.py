"""Attacks on pairing by a code: who does not know it, who stands between, and who says what no machine says."""

from __future__ import annotations

import asyncio
import datetime
import gc
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cognu.errors import CognuError, E, LinkBroken, ProtocolError
from cognu.mesh import join as join_module
from cognu.mesh import pair as pair_module
from cognu.mesh.codes import (
    ATTEMPTS,
    Code,
)
from cognu.mesh.identity import Identity, identity_from_seed
from cognu.mesh.join import CONVERSATIONS, Self, expect
from cognu.mesh.join_messages import (
    MESSAGE_SIZE,
    Refusal,
    Step,
    pack_message,
    pack_pair,
    parse_pair,
)
from cognu.mesh.spake import Exchange, Side
from cognu.mesh.tickets import pack_texts
from cognu.world import Clock, SecureStream, TlsKeys
from cognu.world.real import real_world
from cognu.world.tls import connect_tls, listen_tls
from mesh_support import read_exactly
from pairing_kit import MESSENGER, Machine, another, between, machines, refused, where


async def test_a_wrong_code_is_refused_and_told_on_both_sides_and_the_right_one_is_still_good(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        said = await refused(pi.type(another(code), at=desk.user.addresses))
        assert said == f"{Refusal.CODE.detail}; 2 attempts are left"
        assert desk.user.tries == [(Refusal.CODE, ATTEMPTS - 1)]
        await pi.type(code)
        await showing


async def test_the_right_code_is_no_longer_good_after_the_attempts(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        for left in range(ATTEMPTS - 1, -1, -1):
            said = Refusal.CODE if left else Refusal.CODE_SPENT
            assert await refused(pi.type(another(code), at=desk.user.addresses)) == said.error(left).detail
        assert await refused(showing) == Refusal.CODE_SPENT.detail
        assert [left for _, left in desk.user.tries] == list(range(ATTEMPTS - 1, -1, -1))
        await spent(desk, pi, code)


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
        await spent(desk, pi, code)


async def spent(desk: Machine, pi: Machine, code: Code) -> None:
    """Its listener has ended, and the right code is good for nothing."""
    if desk.inviter._closing is not None:
        await desk.inviter._closing
    assert Refusal.NO_CODE.detail in await refused(pi.type(code, at=desk.user.addresses))
    assert desk.book.all() == []


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
        assert sum(text.startswith(Refusal.CODE.detail) for text in said) <= ATTEMPTS - 1
        assert sum(text.startswith((Refusal.CODE.detail, Refusal.CODE_SPENT.detail)) for text in said) >= ATTEMPTS
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
        assert await refused(expect(stream, Step.KEYED)) == f"{Refusal.CODE.detail}; 1 attempt is left"
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


@pytest.mark.parametrize("step", [step for step in Step if step not in (Step.CHALLENGE, Step.REFUSE, Step.TICKET)])
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
            await stream.write(b"CgJ3\x09")
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


async def test_what_a_machine_says_of_itself_can_not_steer_a_terminal(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        pi.me = replace(pi.me, name="\x1b[2J pi")
        showing = desk.show()
        await pi.type(await desk.code(), asks=("net",))
        await showing
        [proposal] = desk.user.asked
        assert proposal.name.isprintable()
        assert " " not in proposal.name
