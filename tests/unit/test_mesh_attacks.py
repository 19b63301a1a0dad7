"""Attacks on the listener of links: strangers who want to be peers, and peers who want to be others or to take all."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognu.errors import CognuError, E, FileError, LinkBroken
from cognu.mesh.frames import HELLO_SIZE, Hello, pack_hello, parse_hello
from cognu.mesh.identity import Identity, Peer, certificate_der, identity_from_seed
from cognu.mesh.session import GREETINGS
from cognu.world import SecureStream, TlsKeys
from cognu.world import tls as tls_module
from cognu.world.crowd import one_too_many, place_of
from cognu.world.net import RealNetwork
from cognu.world.tls import GREETING, connect_tls
from mesh_support import Node, echo, read_exactly, two_nodes
from tls_attacker import HANDSHAKE, KEY_UPDATE, Attacker, Show, certificate, der, hello, keys_for, pem, record

THIEF = Ed25519PrivateKey.from_private_bytes(b"t" * 32)


def keys_of(node: Node, *trusted: Node) -> TlsKeys:
    me = node.identity
    return TlsKeys(me.certificate, me.private_key, tuple(other.identity.certificate for other in trusted))


def _node(path: Path, other: Node, leads: bool) -> Node:
    """One whose key is, or is not, the leader's of the two."""
    return next(node for node in (Node(path / f"node{n}") for n in range(64)) if node.fingerprint_order(other) == leads)


async def still_good(a: Node) -> None:
    """The peer gets in, and is served."""
    channel = await a.mesh.open("b", "echo")
    await channel.write(b"x")
    assert await channel.read(1) == b"x"
    channel.close()


# -- who is no peer ---------------------------------------------------------------------------------------------------


def _by_pinned(authority: bool | None, own_name: bool) -> Callable[[Identity], str]:
    """A certificate that a pinned peer's key signed for the thief's."""
    return lambda peer: pem(
        certificate(THIEF, peer.fingerprint if own_name else "thief", issuer=peer, authority=authority)
    )


def _through_authority(peer: Identity) -> str:
    """The same, with the pinned key in a certificate of an authority along."""
    above = certificate(peer.key, peer.fingerprint, authority=True)
    return _by_pinned(False, False)(peer) + pem(above) + peer.certificate


MADE: dict[str, Callable[[Identity], str]] = {
    "its own, in the peer's name": lambda peer: pem(certificate(THIEF, peer.fingerprint)),
    "its own, with the peer's behind it": lambda peer: pem(certificate(THIEF, peer.fingerprint)) + peer.certificate,
    "signed by a pinned key": _by_pinned(False, False),
    "signed by a pinned key, in its name": _by_pinned(False, True),
    "signed by a pinned key, as an authority": _by_pinned(True, False),
    "signed by a pinned key, saying nothing": _by_pinned(None, True),
    "signed by a pinned key that calls itself an authority": _through_authority,
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
async def test_no_certificate_that_a_thief_can_make_or_be_made_gets_in(
    tmp_path: Path, made: Callable[[Identity], str]
) -> None:
    async with two_nodes(tmp_path) as (a, b):
        with pytest.raises(LinkBroken):
            await connect_tls(b.address, keys_for(THIEF, made(a.identity), b.identity))
        await still_good(a)


@pytest.mark.parametrize("authority", [False, True])
@pytest.mark.parametrize("year", [1999, 2099])
async def test_a_pinned_key_in_another_certificate_gets_in_neither_expired_nor_good(
    tmp_path: Path, authority: bool, year: int
) -> None:
    async with two_nodes(tmp_path) as (a, b):
        until = datetime.datetime(year, 1, 1)
        shown = certificate(a.identity.key, a.identity.fingerprint, authority=authority, until=until)
        with suppress(LinkBroken):  # either TLS refuses it, or the comparison with the pin does
            stream = await connect_tls(b.address, keys_for(a.identity.key, pem(shown), b.identity))
            assert not await stream.read(1)
        assert not b.mesh.is_linked(a.identity.fingerprint)
        await still_good(a)


def _pinned(node: Node) -> bytes:
    return certificate_der(node.identity.certificate)


SHOWN: dict[str, Callable[[Node], Show]] = {
    "the peer's certificate, another key": lambda a: Show((_pinned(a),), THIEF),
    "the peer's certificate, no signature": lambda a: Show((_pinned(a),), None),
    "the peer's certificate, no end": lambda a: Show((_pinned(a),), THIEF, finished=False),
    "no certificate": lambda a: Show((), None),
    "its own certificate, the peer's after it": lambda a: Show((der(certificate(THIEF, "x")), _pinned(a)), THIEF),
    "the peer's certificate, its own after it": lambda a: Show((_pinned(a), der(certificate(THIEF, "x"))), THIEF),
    "two thousand certificates": lambda a: Show((_pinned(a),) * 2000, a.identity.key),
    "one certificate of a megabyte": lambda a: Show((bytes(1 << 20),), THIEF),
    "a certificate of no bytes": lambda a: Show((b"",), THIEF),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
async def test_a_certificate_without_its_key_or_too_much_of_it_is_refused(
    tmp_path: Path, show: Callable[[Node], Show]
) -> None:
    async with two_nodes(tmp_path) as (a, b):
        thief = await Attacker.to(b.address)
        assert await thief.handshake(show(a)) == b""
        assert not b.mesh.is_linked(a.identity.fingerprint)
        await still_good(a)


async def test_the_same_client_with_the_peers_key_gets_in(tmp_path: Path) -> None:
    """So that it is for the reason named that the others do not."""
    async with two_nodes(tmp_path) as (a, b):
        client = await Attacker.to(b.address)
        assert await client.handshake(Show((_pinned(a),), a.identity.key)) == GREETING


RUDE = {
    "another hello": hello()[1],
    "a thousand changes of keys": bytes((KEY_UPDATE, 0, 0, 1, 1)) * 1000,
    "a message without end": b"\x0b\xff\xff\xff" + bytes(1 << 16),
}


@pytest.mark.parametrize("message", RUDE.values(), ids=RUDE)
async def test_what_follows_a_handshake_and_is_no_data_harms_its_link_alone(tmp_path: Path, message: bytes) -> None:
    """TLS 1.3 has no renegotiation; here is one asked for."""
    async with two_nodes(tmp_path) as (a, b):
        client = await Attacker.to(b.address)
        await client.handshake(Show((_pinned(a),), a.identity.key, after=(message,)))
        await still_good(a)


async def test_no_ticket_lets_anybody_in_who_has_been_dropped(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        context = tls_module.make_context(keys_of(a, b), server=False)

        def visit(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None, bool]:
            """What is read first, the session with what came until then, and whether it is the one given."""
            host, port = b.address.rsplit(":", 1)
            with (
                socket.create_connection((host, int(port))) as plain,
                context.wrap_socket(plain, session=session) as there,
            ):
                try:
                    greeting = there.recv(100)  # behind the tickets, if there are any
                except OSError:
                    greeting = b""
                return greeting, there.session, bool(there.session_reused)

        greeting, session, _ = await asyncio.to_thread(visit, None)
        assert greeting == GREETING
        assert session is not None
        assert not session.has_ticket
        await b.mesh.drop("a")
        greeting, _, reused = await asyncio.to_thread(visit, session)
        assert greeting == b""
        assert not reused


async def test_who_is_dropped_between_its_handshake_and_its_hello_says_it_to_nobody(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        stream = await connect_tls(b.address, keys_of(a, b))
        leads = b.fingerprint_order(a)
        if not leads:
            await read_exactly(stream, HELLO_SIZE)
        await b.mesh.drop("a")
        with suppress(LinkBroken):
            await stream.write(pack_hello(Hello(b"x" * 16, b"s" * 16, 0, 9, 0, True, True)))
            assert not await stream.read(1)
        stream.close()
        assert not b.mesh.is_linked(a.identity.fingerprint)
        with pytest.raises(LinkBroken):
            await connect_tls(b.address, keys_of(a, b))


# -- a peer that wants to be another ----------------------------------------------------------------------------------


async def test_a_peer_with_anothers_name_in_its_certificate_is_not_pinned_and_locks_nobody_out(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        mean = identity_from_seed(b"m" * 32)
        shown = pem(certificate(mean.key, a.identity.fingerprint, authority=False))
        with pytest.raises(FileError) as caught:
            b.book.add(Peer(mean.fingerprint, "aaa", shown))
        assert caught.value.error is E.INVAL
        b.book.add(Peer(mean.fingerprint, "aaa", mean.certificate))
        await still_good(a)


@pytest.mark.parametrize("thief_leads", [True, False])
async def test_a_peer_that_knows_all_numbers_of_anothers_session_gets_none_of_it(
    tmp_path: Path, thief_leads: bool
) -> None:
    async with two_nodes(tmp_path) as (a, b):
        thief = _node(tmp_path, b, thief_leads)
        b.knows(thief, "thief")
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"secret")
        assert await channel.read(6) == b"secret"
        session = b.mesh.link_of(a.identity.fingerprint)
        assert session is not None
        core = session.core
        stream = await connect_tls(b.address, keys_of(thief, b))
        stolen = Hello(core._peer_boot, core._id, core._received, core._epoch + 5, 0, True)
        if thief_leads:
            await read_exactly(stream, HELLO_SIZE)
        await stream.write(pack_hello(stolen))
        if thief_leads:
            assert not await _to_the_end(stream)
        else:
            answer = parse_hello(await read_exactly(stream, HELLO_SIZE))
            assert answer.fresh
            assert answer.session != core._id
        stream.close()
        await channel.write(b"mine")
        assert await channel.read(4) == b"mine"
        assert b.mesh.link_of(a.identity.fingerprint) is session


async def _to_the_end(stream: SecureStream) -> bytes:
    data = b""
    with suppress(LinkBroken):
        while part := await stream.read(1 << 16):
            data += part
    return data


# -- many, and slow ones ----------------------------------------------------------------------------------------------


async def test_a_peer_that_connects_without_end_and_greets_never_keeps_few_and_still_gets_in(tmp_path: Path) -> None:
    b = await Node(tmp_path / "b", echo).listen()
    a = _node(tmp_path, b, leads=True)  # so that b speaks first, and waits for an answer
    a.knows(b, "b", b.address)
    b.knows(a, "a")
    try:
        streams = [await connect_tls(b.address, keys_of(a, b)) for _ in range(GREETINGS + 4)]
        await read_exactly(streams[-1], HELLO_SIZE)
        session = b.mesh.link_of(a.identity.fingerprint)
        assert session is not None
        assert len(session._greeting) == GREETINGS
        for stream in streams[:4]:
            await _to_the_end(stream)
        await still_good(a)
        for stream in streams:
            stream.close()
    finally:
        await a.mesh.close()
        await b.mesh.close()


async def test_a_handshake_a_byte_at_a_time_ends_at_the_deadline_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "HANDSHAKE_SECONDS", 0.2)
    async with two_nodes(tmp_path) as (a, b):

        async def dribble() -> None:
            slow = await RealNetwork().connect_tcp(b.address)
            ended = asyncio.ensure_future(_until_cut(slow.read))
            said = record(hello()[1])
            for at in range(len(said) - 1):
                with suppress(CognuError):
                    await slow.write(said[at : at + 1])
                # The pause between two bytes, unless the other side ends it, which is what is waited for.
                done, _ = await asyncio.wait({ended}, timeout=0.02)
                if done:
                    break
            await ended
            slow.close()

        await asyncio.gather(*(dribble() for _ in range(20)))
        monkeypatch.undo()
        await still_good(a)


async def _until_cut(read: Callable[[int], Awaitable[bytes]]) -> None:
    with suppress(LinkBroken):
        while await read(100):
            pass


async def test_a_host_that_fills_the_door_cuts_its_own_handshakes_and_none_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "HANDSHAKES", 4)
    b = await Node(tmp_path / "b", echo).listen()
    host, port = b.address.rsplit(":", 1)
    try:
        # One from another host, which was first, and is slow.
        elsewhere = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.9", 0))
        heard = asyncio.ensure_future(elsewhere[0].read(1))
        first = [await RealNetwork().connect_tcp(b.address) for _ in range(3)]
        for _ in range(10):
            more = await RealNetwork().connect_tcp(b.address)
            cut = asyncio.ensure_future(_until_cut(first[0].read))
            done, _ = await asyncio.wait({cut, heard}, return_when=asyncio.FIRST_COMPLETED)
            assert heard not in done
            first.pop(0).close()
            first.append(more)
        # It is there still: it says something, and is answered.
        elsewhere[1].write(record(hello()[1]))
        assert (await heard)[0] == HANDSHAKE
        elsewhere[1].close()
        await elsewhere[1].wait_closed()
        for stream in first:
            stream.close()
    finally:
        await b.mesh.close()


def test_who_is_cut_is_the_oldest_of_the_place_that_has_most() -> None:
    assert one_too_many({"a": "x", "b": "y", "c": "y", "d": "z"}) == "b"
    assert one_too_many({"a": "x", "b": "y"}) == "a"
    assert place_of("10.0.0.1:80") == place_of("[::ffff:10.0.0.1]:81") == "10.0.0.1"
    assert place_of("[2001:db8::1]:80") == place_of("[2001:db8::ffff:2%eth0]:7") == "2001:db8::/64"
    assert place_of("[2001:db8:0:1::1]:80") != place_of("[2001:db8::1]:80")
    assert place_of("/a/socket:1") == "/a/socket"
