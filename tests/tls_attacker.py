"""Clients of TLS 1.3 (RFC 8446) that do what no library does: show a certificate without its key, or too much."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import os
from contextlib import suppress
from dataclasses import dataclass, field
from struct import pack

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cognu.mesh.identity import Identity
from cognu.world import TlsKeys

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, CERTIFICATE, CERTIFICATE_REQUEST, CERTIFICATE_VERIFY, FINISHED = 1, 2, 11, 13, 15, 20
KEY_UPDATE = 24
ED25519 = b"\x08\x07"


def certificate(
    key: Ed25519PrivateKey,
    subject: str,
    *,
    issuer: Identity | None = None,
    authority: bool | None = False,
    until: datetime.datetime = datetime.datetime(9999, 12, 31, 23, 59, 59),
) -> x509.Certificate:
    """One for `key` in any name, self-signed or signed with another's key."""
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    by = named
    if issuer is not None:
        by = x509.load_pem_x509_certificate(issuer.certificate.encode()).subject
    builder = x509.CertificateBuilder().subject_name(named).issuer_name(by).serial_number(7)
    builder = builder.public_key(key.public_key()).not_valid_before(datetime.datetime(1970, 1, 1))
    builder = builder.not_valid_after(until)
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    return builder.sign(key if issuer is None else issuer.key, None)


def pem(shown: x509.Certificate) -> str:
    return shown.public_bytes(Encoding.PEM).decode()


def der(shown: x509.Certificate) -> bytes:
    return shown.public_bytes(Encoding.DER)


def keys_for(key: Ed25519PrivateKey, chain: str, server: Identity) -> TlsKeys:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return TlsKeys(chain, private, (server.certificate,))


@dataclass(frozen=True)
class Show:
    """What the client says after the server's part: certificates, the leaf first; who signs, if anybody; and whether it
    ends the handshake."""

    chain: tuple[bytes, ...]
    signer: Ed25519PrivateKey | None
    finished: bool = True
    after: tuple[bytes, ...] = ()
    """Handshake messages sent when it is over."""


def _expand(secret: bytes, label: str, context: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (7.1), for up to 32 bytes."""
    full = b"tls13 " + label.encode()
    info = pack(">HB", size, len(full)) + full + pack("B", len(context)) + context
    return hmac.digest(secret, info + b"\1", "sha256")[:size]


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _message(kind: int, body: bytes) -> bytes:
    return pack("B", kind) + len(body).to_bytes(3, "big") + body


def _with_size(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _share(answer: bytes) -> bytes:
    """The server's key share, from its ServerHello (4.1.3)."""
    at = 4 + 2 + 32 + 1 + answer[38] + 2 + 1 + 2
    while at < len(answer):
        kind, size = int.from_bytes(answer[at : at + 2], "big"), int.from_bytes(answer[at + 2 : at + 4], "big")
        if kind == 51:
            return answer[at + 8 : at + 4 + size]
        at += 4 + size
    raise ConnectionError("no share")


class _Protected:
    """One direction's records under one secret (5.2)."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(_expand(secret, "key", b"", 16))
        self._iv = int.from_bytes(_expand(secret, "iv", b"", 12), "big")
        self._count = 0
        self.finished_key = _expand(secret, "finished", b"", 32)

    def _nonce(self) -> bytes:
        self._count += 1
        return (self._iv ^ (self._count - 1)).to_bytes(12, "big")

    def seal(self, kind: int, data: bytes) -> bytes:
        """As many records as it takes."""
        out = b""
        for start in range(0, len(data), 1 << 14):
            inner = data[start : start + (1 << 14)] + pack("B", kind)
            header = pack(">BHH", APPLICATION, 0x0303, len(inner) + 16)
            out += header + self._cipher.encrypt(self._nonce(), inner, header)
        return out

    def open(self, header: bytes, body: bytes) -> tuple[int, bytes]:
        inner = self._cipher.decrypt(self._nonce(), body, header).rstrip(b"\0")
        return inner[-1], inner[:-1]


def hello() -> tuple[X25519PrivateKey, bytes]:
    """A ClientHello that any server takes, and the key whose share is in it."""
    secret = X25519PrivateKey.generate()
    share = b"\0\x1d" + _with_size(secret.public_key().public_bytes_raw())
    extensions = [(43, b"\2\3\4"), (10, b"\0\2\0\x1d"), (13, b"\0\2" + ED25519), (51, _with_size(share))]
    listed = b"".join(pack(">H", number) + _with_size(body) for number, body in extensions)
    body = b"\3\3" + os.urandom(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + _with_size(listed)
    return secret, _message(CLIENT_HELLO, body)


def record(data: bytes) -> bytes:
    """A handshake message in the clear."""
    return pack(">BHH", HANDSHAKE, 0x0301, len(data)) + data


@dataclass
class Attacker:
    """One connection. What it says may be anything; what it hears is decrypted as a client would."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    transcript: bytes = b""
    _pending: bytes = field(default=b"", repr=False)

    @classmethod
    async def to(cls, address: str) -> Attacker:
        host, port = address.rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port)))

    async def handshake(self, show: Show) -> bytes:
        """What the server says to it in the end: its first bytes of data, or nothing if it refuses."""
        try:
            return await self._handshake(show)
        except (ConnectionError, asyncio.IncompleteReadError):
            return b""
        finally:
            self.writer.close()
            with suppress(ConnectionError):
                await self.writer.wait_closed()

    async def _handshake(self, show: Show) -> bytes:
        secret, said = hello()
        self.writer.write(record(said))
        answer = await self._in_the_clear()
        self.transcript = said + answer
        shared = secret.exchange(X25519PublicKey.from_public_bytes(_share(answer)))
        empty = _digest(b"")
        first = _expand(hmac.digest(bytes(32), bytes(32), "sha256"), "derived", empty, 32)
        middle = hmac.digest(first, shared, "sha256")
        at = _digest(self.transcript)
        mine = _Protected(_expand(middle, "c hs traffic", at, 32))
        theirs = _Protected(_expand(middle, "s hs traffic", at, 32))
        await self._until_finished(theirs)
        last = hmac.digest(_expand(middle, "derived", empty, 32), bytes(32), "sha256")
        at = _digest(self.transcript)
        data_there = _Protected(_expand(last, "s ap traffic", at, 32))
        data_here = _Protected(_expand(last, "c ap traffic", at, 32))
        self.writer.write(mine.seal(HANDSHAKE, self._answer(show, mine)))
        for message in show.after:
            self.writer.write(data_here.seal(HANDSHAKE, message))
        await self.writer.drain()
        kind, data = await self._record(data_there)
        return data if kind == APPLICATION else b""

    def _answer(self, show: Show, mine: _Protected) -> bytes:
        listed = b"".join(_with_size(shown, 3) + b"\0\0" for shown in show.chain)
        said = _message(CERTIFICATE, b"\0" + _with_size(listed, 3))
        if show.signer is not None:
            covered = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + _digest(self.transcript + said)
            said += _message(CERTIFICATE_VERIFY, ED25519 + _with_size(show.signer.sign(covered)))
        if show.finished:
            said += _message(FINISHED, hmac.digest(mine.finished_key, _digest(self.transcript + said), "sha256"))
        return said

    async def _in_the_clear(self) -> bytes:
        header = await self.reader.readexactly(5)
        body = await self.reader.readexactly(int.from_bytes(header[3:], "big"))
        if header[0] != HANDSHAKE:
            raise ConnectionError("refused")
        assert body[0] == SERVER_HELLO
        return body

    async def _record(self, theirs: _Protected) -> tuple[int, bytes]:
        while True:
            header = await self.reader.readexactly(5)
            body = await self.reader.readexactly(int.from_bytes(header[3:], "big"))
            if header[0] == ALERT:
                raise ConnectionError("refused")
            if header[0] != CHANGE_CIPHER_SPEC:  # sent for the sake of old boxes on the way (appendix D.4)
                return theirs.open(header, body)

    async def _until_finished(self, theirs: _Protected) -> None:
        while True:
            while len(self._pending) >= 4 and len(self._pending) >= 4 + int.from_bytes(self._pending[1:4], "big"):
                size = 4 + int.from_bytes(self._pending[1:4], "big")
                message, self._pending = self._pending[:size], self._pending[size:]
                self.transcript += message
                if message[0] == FINISHED:
                    return
            kind, data = await self._record(theirs)
            if kind == ALERT:
                raise ConnectionError("refused")
            self._pending += data
