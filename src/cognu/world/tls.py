"""TLS 1.3 between nodes: a non-blocking `SSLSocket` watched by the running loop.

A memory BIO, which asyncio and uvloop use, copies every byte twice more and cost five sixths of the speed; so OpenSSL
reads and writes the socket itself, in whole records. Who is trusted is a list of exact leaf certificates (RFC 5280
CA:FALSE, so none of them can vouch for another). Two things Python's `ssl` leaves to its caller are done here:

- A TLS 1.3 client's handshake returns before the server has looked at its certificate (RFC 8446 4.4.4), so the server
  sends a greeting after its own handshake and the client waits for it: a refusal is an error of `connect_tls`.
- A handshake that is slow ends at its deadline, and of too many at once the oldest of the host that has most is cut,
  so nobody holds the door.
  OpenSSL bounds the size of each handshake message (100 KiB for certificates).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache

from cognu.errors import CognuError, E, FileError, LinkBroken, Misuse, from_oserror
from cognu.world import Attendant, Listener, SecureStream, Stream, TlsKeys
from cognu.world.crowd import one_too_many, place_of
from cognu.world.net import RealNetwork
from cognu.world.sockets import SocketStream, join_address

RECORD = 16384
"""Plaintext bytes of a full record (RFC 8446 5.1)."""
SEND_LIMIT = 16 * RECORD
READ_LIMIT = 8 * RECORD
TURN_BYTES = 1 << 20
"""Bytes a stream may move without waiting before the loop gets a turn."""
HANDSHAKE_SECONDS = 10.0
SILENT_MILLISECONDS = 30_000
"""More than a session waits before it gives a link up (`Timing.silence`)."""
HANDSHAKES = 64
"""Unfinished handshakes of one listener; with one more, the oldest of the host that has most is cut."""
PINNED = 64
"""Contexts that are kept for those who are dialled again."""
GREETING = b"cognu-1\n"


class TlsStream:
    """A `SecureStream`. One reader and one writer at a time, or, after `attend`, none.

    An orderly end (close_notify, RFC 8446 6.1) reads as `b""`; a connection that ends without one is `LinkBroken`, for
    anybody on the way can cut it. A write that is cancelled has torn a record: the stream is closed.
    """

    def __init__(self, sock: ssl.SSLSocket, peer: str) -> None:
        self._socket = sock
        self._fd = sock.fileno()
        self._peer = peer
        self._local = _name(sock)
        self._loop = asyncio.get_running_loop()
        self._certificate = b""
        self._waiting: dict[bool, list[asyncio.Future[None]]] = {False: [], True: []}
        self._buffer: memoryview | None = None  # made when it is read into: who only connects has none
        self._failure: LinkBroken | None = None
        self._closed = False
        self._moved = 0
        self._reads = False
        self._writes = False
        self._pump: _Pump | None = None

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def local(self) -> str:
        return self._local

    @property
    def peer_certificate(self) -> bytes:
        """DER; empty if the other side was not asked for one, or before the handshake."""
        return self._certificate

    async def handshake(self) -> None:
        """Raises `LinkBroken(BADPEER)` over certificates, `LinkBroken(CONNRESET)` if the connection ends."""
        while True:
            try:
                self._socket.do_handshake()
                self._certificate = self._socket.getpeercert(binary_form=True) or b""
                return
            except ssl.SSLWantReadError:
                await self._ready(writing=False)
            except ssl.SSLWantWriteError:
                await self._ready(writing=True)
            except (OSError, ValueError) as error:
                raise self._broken(error) from error

    async def read(self, count: int) -> bytes:
        if count < 1:
            raise Misuse(E.INVAL, self._peer, f"read of {count} bytes")
        if self._reads or self._pump is not None:
            raise Misuse(E.ALREADY, self._peer)
        self._reads = True
        try:
            await self._take_turn()
            while not self._closed:
                try:
                    return self._receive(min(count, READ_LIMIT))
                except ssl.SSLWantReadError:
                    await self._ready(writing=False)
                except ssl.SSLWantWriteError:
                    await self._ready(writing=True)
            return b""
        finally:
            self._reads = False

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        """Returns when the host has taken every byte."""
        if self._writes or self._pump is not None:
            raise Misuse(E.ALREADY, self._peer)
        self._writes = True
        try:
            for piece in _pieces(buffers):
                await self._take_turn()
                await self._send(piece)
        except BaseException:
            self.close()
            raise
        finally:
            self._writes = False

    def attend(self, attendant: Attendant) -> None:
        if self._reads or self._writes or self._pump is not None:
            raise Misuse(E.ALREADY, self._peer)
        if self._closed:
            raise LinkBroken(E.PIPE, self._peer, "closed here")
        self._pump = _Pump(self._loop, self._socket, self._space(), attendant, self._broken)

    def offer(self, *buffers: bytes | memoryview) -> bool:
        if self._pump is None:
            raise Misuse(E.INVAL, self._peer, "attend() comes first")
        return self._pump.offer(buffers)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        torn = self._writes or self._failure is not None
        if self._pump is not None:
            torn = not self._pump.stop()
        if not torn:
            try:
                # Sends close_notify, and would then wait for the other side's, which nobody here wants.
                self._socket.unwrap()
            except (OSError, ValueError):
                pass
        if not self._loop.is_closed():
            for writing, waiters in self._waiting.items():
                if waiters:
                    self._wake(writing)
        self._socket.close()
        self._buffer = None

    async def wait_closed(self) -> None:
        """Returns at once: closing a socket is over when `close` returns."""
        if not self._closed:
            raise Misuse(E.BUSY, self._peer, "close() comes first")

    def _receive(self, count: int) -> bytes:
        """What is there, gathered over as many records as fit, since OpenSSL gives at most one at a time."""
        if self._failure is not None:
            raise self._failure
        got = 0
        try:
            if count <= RECORD:
                data = self._socket.recv(count)
                self._moved += len(data)
                return data
            buffer = self._space()
            while got < count:
                taken = self._socket.recv_into(buffer[got:count])
                if taken == 0:
                    break
                got += taken
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if got == 0:
                raise
        except (OSError, ValueError) as error:
            self._failure = self._broken(error)
            if got == 0:
                raise self._failure from error
        self._moved += got
        return bytes(self._space()[:got])

    def _space(self) -> memoryview:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(READ_LIMIT))
        return self._buffer

    async def _send(self, piece: bytes | memoryview) -> None:
        while piece:
            if self._closed:
                raise LinkBroken(E.PIPE, self._peer, "closed here")
            if self._failure is not None:
                raise self._failure
            try:
                # After a want, OpenSSL demands the same bytes again (SSL_write(3)), which this loop gives it.
                sent = self._socket.send(piece)
                self._moved += sent
                piece = memoryview(piece)[sent:]
            except ssl.SSLWantWriteError:
                await self._ready(writing=True)
            except ssl.SSLWantReadError:
                await self._ready(writing=False)
            except (OSError, ValueError) as error:
                self._failure = self._broken(error)
                raise self._failure from error

    async def _take_turn(self) -> None:
        if self._moved >= TURN_BYTES:
            self._moved = 0
            await asyncio.sleep(0)

    async def _ready(self, writing: bool) -> None:
        self._moved = 0
        waiters = self._waiting[writing]
        waiter: asyncio.Future[None] = self._loop.create_future()
        if not waiters:
            watch = self._loop.add_writer if writing else self._loop.add_reader
            watch(self._fd, self._wake, writing)
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters and not self._closed:
                    self._unwatch(writing)

    def _wake(self, writing: bool) -> None:
        self._unwatch(writing)
        waiters = self._waiting[writing]
        while waiters:
            waiter = waiters.pop()
            if not waiter.done():
                waiter.set_result(None)

    def _unwatch(self, writing: bool) -> None:
        if writing:
            self._loop.remove_writer(self._fd)
        else:
            self._loop.remove_reader(self._fd)

    def _broken(self, error: OSError | ValueError) -> LinkBroken:
        if self._closed:
            return LinkBroken(E.PIPE, self._peer, "closed here")
        if isinstance(error, ssl.SSLCertVerificationError):
            return LinkBroken(E.BADPEER, self._peer, error.verify_message)
        if isinstance(error, ssl.SSLEOFError):
            return LinkBroken(E.CONNRESET, self._peer, "ended without notice")
        if isinstance(error, ssl.SSLError):
            reason = (error.reason or "TLS failed").lower().replace("_", " ")
            refused = any(word in reason for word in ("unknown ca", "certificate", "access denied"))
            if refused and "alert" in reason:
                # With its certificate it has proved who it is before it says so: it knew this node once, or never did.
                row = E.DROPPED if self._certificate else E.BADPEER
                return LinkBroken(row, self._peer, f"it does not trust this node ({reason})")
            return LinkBroken(E.BADPEER if refused else E.CONNRESET, self._peer, reason)
        if isinstance(error, OSError):
            return LinkBroken(from_oserror(error).error, self._peer)
        return LinkBroken(E.CONNRESET, self._peer, str(error))


class _Pump:
    """A stream's socket, watched all the time: what comes is handed over from the loop's own callback, and what is
    offered is sent at once. No task and no future is between the socket and the attendant.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: ssl.SSLSocket,
        buffer: memoryview,
        attendant: Attendant,
        broken: Callable[[OSError | ValueError], LinkBroken],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._fd = sock.fileno()
        self._buffer = buffer
        self._attendant = attendant
        self._broken = broken
        self._unsent: deque[bytes | memoryview] = deque()
        self._read_first = False  # OpenSSL must read before it can write on
        self._watches_room = False
        self._over = False
        self._whole = True
        self._unsendable: LinkBroken | None = None  # why nothing can be sent any more
        loop.add_reader(self._fd, self._on_readable)
        if sock.pending():  # the host has nothing to tell of what OpenSSL holds already
            loop.call_soon(self._on_readable)

    def offer(self, buffers: tuple[bytes | memoryview, ...]) -> bool:
        if self._over or self._unsendable is not None:
            return False
        waits = bool(self._unsent)
        size = sum(map(len, buffers))
        if size <= RECORD:
            if size == 0:
                return not waits
            self._unsent.append(b"".join(buffers))
        else:
            self._unsent.extend(_pieces(buffers))
        return not waits and self._flush()

    def stop(self) -> bool:
        """Watch no more; whether what was sent ends where a record ends, so that the stream may be closed in order."""
        if not self._over:
            self._unwatch()
        return self._whole

    def _unwatch(self) -> None:
        self._over = True
        self._whole = self._whole and not self._unsent
        self._unsent.clear()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            if self._watches_room:
                self._loop.remove_writer(self._fd)

    def _end(self, error: LinkBroken | None) -> None:
        if not self._over:
            self._whole = error is None
            self._unwatch()
            self._attendant.over(error)

    def _on_readable(self) -> None:
        if not self._over:
            self._take_in()

    def _take_in(self) -> int:
        """Hand over what there is, at least some of it, and the end if that is reached; how many bytes there were."""
        got = 0
        failure: LinkBroken | None = None
        ended = False
        try:
            # Room for a whole record each time: OpenSSL must hold none back, for the host would not tell of it.
            while READ_LIMIT - got >= RECORD:
                taken = self._socket.recv_into(self._buffer[got:] if got else self._buffer)
                got += taken
                if got < RECORD:
                    # A short message, and most likely all for now; if not, the host says so.
                    ended = taken == 0
                    break
                if taken == 0:
                    ended = True
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            self._watch_room()
        except (OSError, ValueError) as error:
            ended, failure = True, self._broken(error)
        if got:
            self._attendant.received(self._buffer[:got])
        if ended:
            self._end(failure)
        elif self._read_first:
            self._read_first = False
            self._on_writable()
        return got

    def _take_rest(self) -> None:
        """Nothing can be sent any more. What the other side said before it ended, and why, can still be read."""
        while not self._over and self._take_in():
            pass
        self._end(self._unsendable)

    def _flush(self) -> bool:
        """Whether all is sent. After a want, OpenSSL demands the same bytes again (SSL_write(3)), which it gets."""
        unsent = self._unsent
        try:
            while unsent:
                piece = unsent[0]
                sent = self._socket.send(piece)
                if sent == len(piece):
                    unsent.popleft()
                else:
                    unsent[0] = memoryview(piece)[sent:]
        except ssl.SSLWantWriteError:
            self._watch_room()
        except ssl.SSLWantReadError:
            self._read_first = True
        except (OSError, ValueError) as error:
            unsent.clear()
            self._unsendable = self._broken(error)
            # Not at once: whoever offers does not expect to be handed anything meanwhile.
            self._loop.call_soon(self._take_rest)
            return False
        return not unsent

    def _watch_room(self) -> None:
        if not self._watches_room:
            self._watches_room = True
            self._loop.add_writer(self._fd, self._on_writable)

    def _on_writable(self) -> None:
        if self._over or self._unsendable is not None or not self._flush():
            return
        if self._watches_room:
            self._watches_room = False
            self._loop.remove_writer(self._fd)
        self._attendant.room()


def _pieces(buffers: tuple[bytes | bytearray | memoryview, ...]) -> Iterator[bytes | memoryview]:
    """The buffers cut where records end: what lies within one buffer is passed on as it is, small parts are joined."""
    carried: list[memoryview] = []
    size = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if size and view:
            part = view[: RECORD - size]
            carried.append(part)
            size += len(part)
            view = view[len(part) :]
            if size < RECORD:
                continue
            yield b"".join(carried)
            carried, size = [], 0
        whole = len(view) - len(view) % RECORD
        for start in range(0, whole, SEND_LIMIT):
            yield view[start : min(start + SEND_LIMIT, whole)]
        if whole < len(view):
            carried.append(view[whole:])
            size = len(view) - whole
    if carried:
        yield carried[0] if len(carried) == 1 else b"".join(carried)


def make_context(keys: TlsKeys, server: bool) -> ssl.SSLContext:
    """A context that shows `keys.certificate` and accepts exactly `keys.trusted`; raises `FileError(INVAL)`.

    `trusted` None accepts anybody, and a server then asks for no certificate; the empty tuple accepts nobody.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    if server:
        # A resumed connection would skip the certificates.
        context.num_tickets = 0
    context.verify_mode = ssl.CERT_NONE if keys.trusted is None else ssl.CERT_REQUIRED
    try:
        if keys.trusted:
            context.load_verify_locations(cadata="".join(keys.trusted))
        if keys.certificate:
            _load_pair(context, keys.certificate, keys.private_key)
    except (ssl.SSLError, ValueError) as error:
        raise FileError(E.INVAL, "certificate or key", str(error)) from error
    return context


def _load_pair(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    # `ssl` loads keys from files only. Pipes are files that never touch a disk; a PEM fits in one.
    ends: list[int] = []
    try:
        for text in (certificate, private_key):
            reader, writer = os.pipe()
            ends.append(reader)
            try:
                os.set_blocking(writer, False)
                data = text.encode()
                if os.write(writer, data) != len(data):
                    raise FileError(E.FBIG, "certificate or key")
            finally:
                os.close(writer)
        context.load_cert_chain(f"/dev/fd/{ends[0]}", f"/dev/fd/{ends[1]}")
    finally:
        for end in ends:
            os.close(end)


def _name(sock: socket.socket) -> str:
    try:
        return join_address(sock.getsockname())
    except OSError:
        return ""  # macOS does not tell of a connection that already ended


def _end_when_silent(sock: socket.socket) -> None:
    """Have the host forget a connection whose bytes nobody acknowledges, also when it is closed already: else it goes
    on sending them for many minutes (tcp(7)). Hosts without the option have a limit of their own."""
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MILLISECONDS)


def _wrap(sock: socket.socket, context: ssl.SSLContext, peer: str, server: bool) -> TlsStream:
    try:
        _end_when_silent(sock)
        wrapped = context.wrap_socket(
            sock, server_side=server, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
    except (OSError, ValueError) as error:
        sock.close()
        raise LinkBroken(E.CONNRESET, peer, str(error)) from error
    return TlsStream(wrapped, peer)


@lru_cache(maxsize=PINNED)
def _pinned(keys: TlsKeys) -> ssl.SSLContext:
    """The context of a client that knows whom it calls: the same for the same keys, since making one takes a
    millisecond. A peer that shows another certificate, or that is pinned with another, has other keys."""
    return make_context(keys, server=False)


async def connect_tls(address: str, keys: TlsKeys, timeout: float = 20.0) -> SecureStream:
    """Connect to `HOST:PORT` and wait until the server has accepted this side; `timeout` seconds for all of it.

    Raises `FileError` if there is no connection (TIMEDOUT also for the handshake), `LinkBroken(BADPEER)` if either side
    does not trust the other's certificate, `LinkBroken` if the connection ends.
    """
    context = _pinned(keys) if keys.trusted else make_context(keys, server=False)
    try:
        async with asyncio.timeout(timeout):
            plain = await RealNetwork().connect_tcp(address, timeout)
            assert isinstance(plain, SocketStream)
            stream = _wrap(plain.detach(), context, plain.peer, server=False)
            try:
                await stream.handshake()
                await _expect_greeting(stream)
            except BaseException:
                stream.close()
                raise
            return stream
    except TimeoutError:
        raise FileError(E.TIMEDOUT, address) from None


async def _expect_greeting(stream: TlsStream) -> None:
    greeting = b""
    while len(greeting) < len(GREETING):
        part = await stream.read(len(GREETING) - len(greeting))
        if not part:
            raise LinkBroken(E.CONNRESET, stream.peer, "ended before its greeting")
        greeting += part
    if greeting != GREETING:
        raise LinkBroken(E.NOPROTO, stream.peer, "not a node, or of another version")


class _Door:
    """What a TLS listener does with each connection before `accept` sees it."""

    def __init__(self, keys: Callable[[], TlsKeys], accept: Callable[[SecureStream], Awaitable[None]]) -> None:
        self._keys = keys
        self._accept = accept
        self._made: tuple[TlsKeys, ssl.SSLContext] | None = None
        self._handshakes: dict[asyncio.Timeout, str] = {}  # where each is from, the oldest first

    def context(self) -> ssl.SSLContext:
        keys = self._keys()
        if self._made is None or self._made[0] != keys:
            self._made = keys, make_context(keys, server=True)
        return self._made[1]

    async def serve(self, plain: Stream) -> None:
        assert isinstance(plain, SocketStream)
        try:
            context = self.context()
        except CognuError:
            plain.close()
            raise
        stream = _wrap(plain.detach(), context, plain.peer, server=True)
        try:
            await self._greet(stream)
            await self._accept(stream)
        finally:
            stream.close()

    async def _greet(self, stream: TlsStream) -> None:
        if len(self._handshakes) >= HANDSHAKES:
            cut = one_too_many(self._handshakes)
            del self._handshakes[cut]
            if not cut.expired():
                cut.reschedule(asyncio.get_running_loop().time())
        limit = asyncio.timeout(HANDSHAKE_SECONDS)
        try:
            async with limit:
                self._handshakes[limit] = place_of(stream.peer)
                await stream.handshake()
                await stream.write(GREETING)
        except TimeoutError:
            raise LinkBroken(E.TIMEDOUT, stream.peer, "handshake") from None
        finally:
            self._handshakes.pop(limit, None)


async def listen_tls(
    address: str, keys: Callable[[], TlsKeys], accept: Callable[[SecureStream], Awaitable[None]]
) -> Listener:
    """Listen on `HOST:PORT` (port 0: any free one). `keys` is asked at every handshake; `accept` gets the trusted only.

    Raises `FileError`: INVAL for an address, certificate or key that is none, ADDRINUSE, ACCES.
    """
    door = _Door(keys, accept)
    door.context()
    return await RealNetwork().listen_tcp(address, door.serve)
