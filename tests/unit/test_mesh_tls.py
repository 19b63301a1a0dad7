"""TLS between nodes: who is let in, what is refused, and what a slow or rude other side can't do."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import CognuError, E, FileError, LinkBroken, Misuse
from cognu.mesh.identity import Identity, certificate_der, identity_from_seed
from cognu.world import SecureStream, TlsKeys
from cognu.world import tls as tls_module
from cognu.world.net import RealNetwork
from cognu.world.tls import RECORD, _pieces, connect_tls, listen_tls, make_context
from mesh_support import read_exactly

SERVER = identity_from_seed(b"s" * 32)
CLIENT = identity_from_seed(b"c" * 32)
OTHER = identity_from_seed(b"o" * 32)


def keys(me: Identity, *trusted: Identity) -> TlsKeys:
    return TlsKeys(me.certificate, me.private_key, tuple(peer.certificate for peer in trusted))


async def echo(stream: SecureStream) -> None:
    while data := await stream.read(1 << 18):
        await stream.write(data)


@asynccontextmanager
async def server(
    trusted: Callable[[], TlsKeys] = lambda: keys(SERVER, CLIENT),
    accept: Callable[[SecureStream], object] | None = None,
) -> AsyncIterator[str]:
    async def handle(stream: SecureStream) -> None:
        if accept is not None:
            accept(stream)
        await echo(stream)

    listener = await listen_tls("127.0.0.1:0", trusted, handle)
    try:
        yield listener.address
    finally:
        await listener.close()


def issued(issuer: Identity, subject: str) -> TlsKeys:
    """A key with a certificate that `issuer` signed, as if it were an authority."""
    key = Ed25519PrivateKey.generate()
    parent = x509.load_pem_x509_certificate(issuer.certificate.encode())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(parent.subject).serial_number(5)
    builder = builder.public_key(key.public_key()).not_valid_before(datetime.datetime(2020, 1, 1))
    certificate = builder.not_valid_after(datetime.datetime(2050, 1, 1)).sign(issuer.key, None)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return TlsKeys(certificate.public_bytes(Encoding.PEM).decode(), private, (SERVER.certificate,))


async def test_a_clients_context_is_made_once_for_the_same_keys_and_for_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = identity_from_seed(os.urandom(32))
    made: list[TlsKeys] = []

    def making(keys: TlsKeys, server: bool) -> ssl.SSLContext:
        if not server:
            made.append(keys)
        return make_context(keys, server)

    monkeypatch.setattr(tls_module, "make_context", making)
    async with server(lambda: keys(SERVER, me)) as address:
        for _ in range(3):
            streams = await asyncio.gather(*(connect_tls(address, keys(me, SERVER)) for _ in range(2)))
            for stream in streams:
                stream.close()
        with pytest.raises(LinkBroken) as caught:
            await connect_tls(address, keys(me, OTHER))
        assert caught.value.error is E.BADPEER
        anybody = TlsKeys(me.certificate, me.private_key, None)  # as who joins has them, once
        for _ in range(2):
            (await connect_tls(address, anybody)).close()
    assert made == [keys(me, SERVER), keys(me, OTHER), anybody, anybody]


async def test_both_sides_see_the_others_certificate() -> None:
    seen: list[bytes] = []
    async with server(accept=lambda stream: seen.append(stream.peer_certificate)) as address:
        stream = await connect_tls(address, keys(CLIENT, SERVER))
        assert stream.peer_certificate == certificate_der(SERVER.certificate)
        assert stream.peer == address
        await stream.write(b"x")
        assert await stream.read(10) == b"x"
        assert seen == [certificate_der(CLIENT.certificate)]
        stream.close()


async def echo_much(address: str) -> None:
    stream = await connect_tls(address, keys(CLIENT, SERVER))
    data = os.urandom(5_000_000)

    async def send() -> None:
        await stream.write(data[:10], memoryview(data)[10:40_000], b"", bytearray(data[40_000:3_000_000]))
        await stream.write(data[3_000_000:])

    sending = asyncio.create_task(send())
    assert await read_exactly(stream, len(data)) == data
    await sending
    stream.close()
    assert await stream.read(1) == b""


async def test_large_writes_arrive_whole_and_in_order() -> None:
    async with server() as address:
        await echo_much(address)


def test_the_same_holds_on_uvloop() -> None:
    async def main() -> None:
        async with server() as address:
            await echo_much(address)

    uvloop.run(main())


async def test_a_writer_waits_for_a_reader_who_does_not_read() -> None:
    read_on = asyncio.Event()
    counted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def handle(stream: SecureStream) -> None:
        await read_on.wait()
        total = 0
        while data := await stream.read(1 << 20):
            total += len(data)
        counted.set_result(total)

    listener = await listen_tls("127.0.0.1:0", lambda: keys(SERVER, CLIENT), handle)
    stream = await connect_tls(listener.address, keys(CLIENT, SERVER))
    writing = asyncio.create_task(stream.write(bytes(50_000_000)))
    done, _ = await asyncio.wait({writing}, timeout=0.1)
    assert not done
    read_on.set()
    await writing
    stream.close()
    assert await counted == 50_000_000
    await listener.close()


@pytest.mark.parametrize(
    ("shown", "server_trusts"),
    [
        (keys(OTHER, SERVER), (CLIENT,)),
        (keys(CLIENT, SERVER), ()),
        (TlsKeys("", "", (SERVER.certificate,)), (CLIENT,)),
        (issued(CLIENT, "child"), (CLIENT,)),
        (issued(CLIENT, CLIENT.fingerprint), (CLIENT,)),
    ],
    ids=["stranger", "nobody trusted", "no certificate", "issued by a pinned leaf", "issued under the leaf's name"],
)
async def test_the_client_hears_that_the_server_refused_it(shown: TlsKeys, server_trusts: tuple[Identity, ...]) -> None:
    accepted: list[SecureStream] = []
    async with server(lambda: keys(SERVER, *server_trusts), accepted.append) as address:
        with pytest.raises(LinkBroken) as caught:
            await connect_tls(address, shown)
        assert caught.value.error is E.DROPPED
        assert address in str(caught.value)
    assert accepted == []


async def test_the_client_refuses_a_server_that_is_not_pinned() -> None:
    async with server() as address:
        with pytest.raises(LinkBroken) as caught:
            await connect_tls(address, keys(CLIENT, OTHER))
        assert caught.value.error is E.BADPEER


async def test_a_change_of_trust_holds_for_the_next_handshake() -> None:
    trusted = [keys(SERVER)]
    async with server(lambda: trusted[0]) as address:
        with pytest.raises(LinkBroken):
            await connect_tls(address, keys(CLIENT, SERVER))
        trusted[0] = keys(SERVER, CLIENT, OTHER)
        (await connect_tls(address, keys(CLIENT, SERVER))).close()
        trusted[0] = keys(SERVER, OTHER)
        with pytest.raises(LinkBroken):
            await connect_tls(address, keys(CLIENT, SERVER))


async def test_older_tls_is_refused() -> None:
    async with server() as address:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        host, port = address.split(":")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection(host, int(port), ssl=context)


async def test_slow_handshakes_do_not_hold_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """More silent connections than the listener keeps; the oldest is cut, and a real client gets through."""
    monkeypatch.setattr(tls_module, "HANDSHAKES", 3)
    async with server() as address:
        silent = [await RealNetwork().connect_tcp(address) for _ in range(5)]
        with suppress(LinkBroken):
            assert await silent[0].read(1) == b""
        stream = await connect_tls(address, keys(CLIENT, SERVER))
        await stream.write(b"x")
        assert await stream.read(1) == b"x"
        stream.close()
        for connection in silent:
            connection.close()


async def test_a_handshake_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_module, "HANDSHAKE_SECONDS", 0.05)
    async with server() as address:
        silent = await RealNetwork().connect_tcp(address)
        with suppress(LinkBroken):
            assert await silent.read(1) == b""
        silent.close()


async def test_garbage_and_endless_handshakes_are_cut() -> None:
    async with server() as address:
        oversized = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16379)
        for data in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), oversized):
            rude = await RealNetwork().connect_tcp(address)
            with suppress(CognuError):
                for _ in range(100):
                    await rude.write(data)
            with suppress(LinkBroken):
                while await rude.read(1000):
                    pass
            rude.close()
        (await connect_tls(address, keys(CLIENT, SERVER))).close()


async def test_a_server_that_never_answers_times_out() -> None:
    async def hold(stream: object) -> None:
        await asyncio.get_running_loop().create_future()

    listener = await RealNetwork().listen_tcp("127.0.0.1:0", hold)
    with pytest.raises(FileError) as caught:
        await connect_tls(listener.address, keys(CLIENT, SERVER), 0.05)
    assert caught.value.error is E.TIMEDOUT
    await listener.close()


async def test_nobody_there_and_no_tls_there_are_told_apart() -> None:
    async def talk(stream: object) -> None:
        assert hasattr(stream, "write")
        await stream.write(b"SSH-2.0\r\n")

    listener = await RealNetwork().listen_tcp("127.0.0.1:0", talk)
    with pytest.raises(LinkBroken) as caught:
        await connect_tls(listener.address, keys(CLIENT, SERVER))
    assert caught.value.error is not E.BADPEER
    await listener.close()
    with pytest.raises(FileError) as refused:
        await connect_tls(listener.address, keys(CLIENT, SERVER))
    assert refused.value.error is E.CONNREFUSED


async def test_an_end_without_notice_is_told_from_an_orderly_one() -> None:
    listening: list[SecureStream] = []
    async with server(accept=listening.append) as address:
        orderly = await connect_tls(address, keys(CLIENT, SERVER))
        await orderly.write(b"x")
        await orderly.read(1)
        listening[0].close()
        assert await orderly.read(1) == b""
        orderly.close()
        torn = await connect_tls(address, keys(CLIENT, SERVER))
        await torn.write(b"x")
        await torn.read(1)
        far = listening[1]
        assert isinstance(far, tls_module.TlsStream)
        # The socket alone is closed, as when the process dies.
        far._failure = LinkBroken(E.CONNRESET)
        far.close()
        with pytest.raises(LinkBroken) as caught:
            await torn.read(1)
        assert caught.value.error is E.CONNRESET
        torn.close()


async def test_closing_wakes_a_reader_and_misuse_is_named() -> None:
    async with server() as address:
        stream = await connect_tls(address, keys(CLIENT, SERVER))
        reading = asyncio.create_task(stream.read(1))
        await asyncio.sleep(0)
        with pytest.raises(Misuse):
            await stream.read(1)
        with pytest.raises(Misuse):
            await stream.wait_closed()
        stream.close()
        stream.close()
        assert await reading == b""
        with pytest.raises(LinkBroken):
            await stream.write(b"x")
        await stream.wait_closed()
        with pytest.raises(Misuse):
            await stream.read(0)


async def test_a_listener_without_a_key_says_so_at_once() -> None:
    with pytest.raises(FileError) as caught:
        await listen_tls("127.0.0.1:0", lambda: TlsKeys("no certificate", "no key", ()), echo)
    assert caught.value.error is E.INVAL
    with pytest.raises(FileError):
        make_context(TlsKeys(CLIENT.certificate, CLIENT.private_key, ("garbage",)), server=False)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3 * RECORD), max_size=8))
def test_records_are_whole_but_the_last(sizes: list[int]) -> None:
    source = os.urandom(3 * RECORD)
    buffers = tuple(source[:size] for size in sizes)
    pieces = list(_pieces(buffers))
    assert b"".join(pieces) == b"".join(buffers)
    assert all(len(piece) % RECORD == 0 for piece in pieces[:-1])
