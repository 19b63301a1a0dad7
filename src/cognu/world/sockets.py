"""Streams and listeners on the host's sockets.

A stream is a non-blocking socket, watched by the loop only while somebody waits. It has no buffer of its own:
what is not read stays in the host's socket buffer, and a write returns when the host has taken every byte, so
back-pressure is the host's and data is not copied on the way. The same code runs on asyncio's loop and on
uvloop's.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from cognu.errors import E, FileError, LinkBroken, Misuse, from_oserror
from cognu.world import Accept
from cognu.world.refusals import printable

RECEIVE_LIMIT = 1 << 20
"""Bytes asked of the host in one call, whatever the caller would take: the buffer is allocated before it is
filled.
"""
BURST = 32
"""Calls that may succeed at once before the loop gets a turn, so that a busy stream never holds up the
others.
"""
IOV_LIMIT = 512
_MORE = getattr(socket, "MSG_MORE", 0)
"""More follows at once: of TCP, no segment for the header alone."""
ACCEPT_BURST = 64
ACCEPT_PAUSE = 0.1

_INTERNET = (socket.AF_INET, socket.AF_INET6)

SocketAddress = Any
"""What the socket module takes for one family."""


class SocketStream:
    """A `Stream` on a connected socket, which it owns from then on. Made on the running loop.

    Several writers may wait at once; their buffers go out whole and in order, and a write that is cancelled
    is still sent to its end, so that no frame is torn. A second reader at a time is `Misuse`.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._fd = sock.fileno()
        self._peer = peer
        self._local = join_address(sock.getsockname()) if sock.family in _INTERNET else ""
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._turns = 0
        self._watched = False
        self._reading: tuple[asyncio.Future[bytes], int] | None = None
        self._kept = b""
        self._read_error: E | None = None
        self._queue: deque[memoryview] = deque()
        self._writers: list[asyncio.Future[None]] = []
        self._write_error: E | None = None
        self._ended = False
        self._look: Callable[[bytes], bool] | None = None

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def local(self) -> str:
        """`HOST:PORT` on this side; empty for a Unix socket."""
        return self._local

    async def read(self, count: int) -> bytes:
        """1 to `count` bytes, `b""` at the end or after `close`. Raises `LinkBroken`; cancelling loses no
        byte.
        """
        if count < 1:
            raise Misuse(E.INVAL, self._peer, f"read of {count} bytes")
        await self._take_turn()
        if self._reading is not None:
            raise Misuse(E.ALREADY, self._peer)
        if self._kept:
            data, self._kept = self._kept[:count], self._kept[count:]
            return data
        received = self._receive(count)
        if received is not None:
            return received
        self._turns = 0
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._reading = (waiter, count)
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._fd, self._on_readable)
        try:
            return await waiter
        except asyncio.CancelledError:
            # The bytes may have come in the same turn of the loop as the cancellation; the next read gets
            # them.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._kept = waiter.result()
            raise
        finally:
            self._reading = None

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        """Returns when the host has taken every byte. Raises `LinkBroken`, also after `close`."""
        await self._take_turn()
        self._check_writable()
        waits = bool(self._queue)
        self._queue.extend(view for view in (memoryview(buffer).cast("B") for buffer in buffers) if view)
        if not waits:
            self._flush()
            self._check_writable()
        if not self._queue:
            return
        self._turns = 0
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._writers.append(waiter)
        if not waits:
            self._loop.add_writer(self._fd, self._on_writable)
        try:
            await waiter
        except asyncio.CancelledError:
            # The caller may use its buffers again from now on, so what is still queued must be ours.
            self._queue = deque(memoryview(bytes(view)) for view in self._queue)
            if waiter.done() and not waiter.cancelled():
                waiter.exception()
            raise
        finally:
            if waiter in self._writers:
                self._writers.remove(waiter)

    def look_first(self, look: Callable[[bytes], bool]) -> None:
        """See `world.DirectStream`. Data that a `read` finds at once, without waiting, are not shown."""
        self._look = look

    def offer(self, *buffers: bytes | memoryview) -> bool:
        """See `world.DirectStream`; `write` may be used beside it."""
        if self._queue or self._write_error is not None:
            if self._write_error is None:
                self._queue.extend(memoryview(buffer) for buffer in buffers if buffer)  # `_flush` never ends on b""
            return False
        try:
            sent = self._socket.send(buffers[0]) if len(buffers) == 1 else self._socket.sendmsg(buffers)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._write_error = from_oserror(error).error
            return False
        if sent == sum(map(len, buffers)):
            return True
        for buffer in buffers:
            if sent < len(buffer):
                self._queue.append(memoryview(buffer)[sent:])
            sent = max(sent - len(buffer), 0)
        self._loop.add_writer(self._fd, self._on_writable)
        return False

    def offer_file(self, header: bytes, number: int, offset: int, count: int) -> bool:
        """See `world.FileStream`."""
        sent = 0
        if not self._queue and self._write_error is None:
            try:
                header = header[self._socket.send(header, _MORE) :]
                sent = 0 if header else os.sendfile(self._fd, number, offset, count)
            except OSError:
                pass  # no room, or it can't be done so; if it is the socket, `offer` is told the same
            if sent == count:
                return True
        try:
            rest = os.pread(number, count - sent, offset + sent)
        except OSError:
            rest = b""  # a disk that fails
        if len(rest) < count - sent:
            self.close()
            return False
        return self.offer(header, rest)

    def end_writing(self) -> None:
        """See `world.TcpStream`. What is queued goes first."""
        if self._write_error is None:
            self._ended = True
            if not self._queue:
                self._shut()

    def close(self) -> None:
        """A waiting read returns `b""`, waiting writes raise `LinkBroken(PIPE)`; what they had queued is
        dropped.
        """
        if self._closed:
            return
        self._closed = True
        if not self._loop.is_closed():
            if self._watched:
                self._loop.remove_reader(self._fd)
            if self._queue:
                self._loop.remove_writer(self._fd)
            if self._reading is not None and not self._reading[0].done():
                self._reading[0].set_result(b"")
        self._queue.clear()
        self._write_error = E.PIPE
        self._end_writers()
        self._socket.close()

    async def wait_closed(self) -> None:
        """Returns at once: closing a socket is over when `close` returns."""
        if not self._closed:
            raise Misuse(E.BUSY, self._peer, "close() comes first")

    def detach(self) -> socket.socket:
        """Give the socket away, to TLS; nothing may be read or written yet. The stream is closed from then
        on.
        """
        if self._watched or self._queue or self._kept:
            raise Misuse(E.BUSY, self._peer, "detach() comes before the first read and write")
        sock = socket.socket(fileno=self._socket.detach())
        sock.setblocking(False)
        self.close()
        return sock

    async def _take_turn(self) -> None:
        self._turns += 1
        if self._turns > BURST:
            self._turns = 0
            await asyncio.sleep(0)

    def _receive(self, count: int) -> bytes | None:
        """What is there; None if nothing is yet. An error is kept, since the host tells it only once."""
        if self._closed:
            return b""
        if self._read_error is None:
            try:
                return self._socket.recv(min(count, RECEIVE_LIMIT))
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                self._read_error = from_oserror(error).error
        raise LinkBroken(self._read_error, self._peer)

    def _on_readable(self) -> None:
        if self._reading is None or self._reading[0].done():
            self._watched = False
            self._loop.remove_reader(self._fd)
            return
        waiter, count = self._reading
        try:
            received = self._receive(count)
        except LinkBroken as error:
            waiter.set_exception(error)
            return
        if received is None or (self._look is not None and received and self._look(received)):
            return
        if not waiter.done():
            waiter.set_result(received)
        elif not self._closed:  # who looked has cancelled the read
            self._kept = received

    def _flush(self) -> None:
        """Hand the host as much of the queue as it takes; an error empties the queue and is kept."""
        queue = self._queue
        while queue:
            try:
                sent = self._socket.sendmsg(list(islice(queue, IOV_LIMIT)))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._write_error = from_oserror(error).error
                queue.clear()
                return
            while sent:
                if sent < len(queue[0]):
                    queue[0] = queue[0][sent:]
                    break
                sent -= len(queue.popleft())

    def _on_writable(self) -> None:
        self._flush()
        if not self._queue:
            self._loop.remove_writer(self._fd)
            self._end_writers()
            if self._ended:
                self._shut()

    def _shut(self) -> None:
        self._write_error = self._write_error or E.PIPE
        with suppress(OSError):  # the other side is gone, which reading tells
            self._socket.shutdown(socket.SHUT_WR)

    def _end_writers(self) -> None:
        for waiter in self._writers:
            if waiter.done():
                continue
            if self._write_error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(LinkBroken(self._write_error, self._peer))

    def _check_writable(self) -> None:
        error = self._write_error or (E.PIPE if self._ended else None)
        if error is not None:
            raise LinkBroken(error, self._peer)


class SocketListener:
    """Accepts on listening sockets, which it owns, and runs one task per connection."""

    def __init__(
        self, socks: Sequence[socket.socket], address: str, accept: Accept, unlink: Callable[[], None] | None = None
    ) -> None:
        self._sockets = tuple(socks)
        self._address = address
        self._accept = accept
        self._unlink = unlink
        self._loop = asyncio.get_running_loop()
        self._streams: dict[asyncio.Task[None], SocketStream] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False
        for sock in self._sockets:
            sock.setblocking(False)
        self._resume()

    @property
    def address(self) -> str:
        return self._address

    async def close(self) -> None:
        """Cancel the handlers, end their streams, and wait for them (except for a handler that calls this
        itself).
        """
        if not self._closed:
            self._closed = True
            if self._pause is not None:
                self._pause.cancel()
            else:
                self._rest()
            if self._unlink is not None:
                self._unlink()
            for sock in self._sockets:
                sock.close()
            for task in self._others():
                task.cancel()
        tasks = self._others()
        if tasks:
            await asyncio.wait(tasks)

    def _others(self) -> list[asyncio.Task[None]]:
        current = asyncio.current_task()
        return [task for task in self._streams if task is not current]

    def _on_connections(self, listening: socket.socket) -> None:
        # A bounded number, so that a flood of connections leaves the loop its turns.
        for _ in range(ACCEPT_BURST):
            try:
                sock, name = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait_for_room(error)
                return
            self._serve(sock, name)

    def _wait_for_room(self, error: OSError) -> None:
        # Out of descriptors or memory: the connection stays queued, and the loop must not spin on it
        # meanwhile.
        self._report(str(from_oserror(error, self._address)), error)
        if self._pause is None:
            self._rest()
            self._pause = self._loop.call_later(ACCEPT_PAUSE, self._resume)

    def _rest(self) -> None:
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())

    def _resume(self) -> None:
        self._pause = None
        for sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._on_connections, sock)

    def _serve(self, sock: socket.socket, name: SocketAddress) -> None:
        if sock.family != socket.AF_UNIX:
            no_delay(sock)
        stream = SocketStream(sock, self._address if sock.family == socket.AF_UNIX else join_address(name))
        task = self._loop.create_task(self._handle(stream))
        self._streams[task] = stream
        task.add_done_callback(self._ended)

    async def _handle(self, stream: SocketStream) -> None:
        await self._accept(stream)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Here and not in the task: one that is cancelled before its first step never runs a line.
        self._streams.pop(task).close()
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, LinkBroken):
            self._report(f"{self._address}: handler failed", error)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error})


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of `HOST:PORT` or `[IPV6]:PORT`; raises `FileError(INVAL)`."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    valid = bool(colon and host) and not any(c in host for c in "[]\0 ") and (bracketed or ":" not in host)
    if not (valid and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise FileError(E.INVAL, printable(address), "addresses are HOST:PORT or [IPV6]:PORT")
    return host, int(port)


def join_address(name: SocketAddress) -> str:
    """`HOST:PORT` for a tcp socket's name as the socket module gives it."""
    host, port = name[0], name[1]
    if len(name) > 3 and name[3]:  # of one link, and known to this host alone by the number (RFC 4007, 11)
        with suppress(OSError):  # it is gone
            host = f"{host}%{socket.if_indextoname(name[3])}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def no_delay(sock: socket.socket) -> None:
    # macOS refuses options on a connection that already ended; its reads will say so.
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
