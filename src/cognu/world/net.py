"""Streams and listeners on the host's sockets.

A stream is a non-blocking socket, watched by the loop only while somebody waits. It has no buffer of its own:
what is not read stays in the host's socket buffer, and a write returns when the host has taken every byte, so
back-pressure is the host's and data is not copied on the way. The same code runs on asyncio's loop and on
uvloop's.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import os
import socket
import stat
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from cognu.errors import E, FileError, LinkBroken, Misuse, from_oserror
from cognu.world import Accept, Announcement, Datagrams, Listener, SecureStream, TcpStream, Threads, TlsKeys
from cognu.world.refusals import printable, refusals

T = TypeVar("T")
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
BACKLOG = 1024
ACCEPT_BURST = 64
ACCEPT_PAUSE = 0.1
UNIX_PATH_LIMIT = 107 if sys.platform == "linux" else 103
"""sun_path holds 108 bytes on Linux and 104 on macOS, with a NUL at the end (unix(7))."""
UNIX_CONNECT_SECONDS = 5.0

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


class RealNetwork:
    """`Network` on the host's sockets; TLS is `cognu.world.tls`.

    `asking` are the threads for `resolve`, `reverse` and `service`, so that who waits there for the host's resolver is
    in the way of nobody who dials; without, they are the loop's.
    """

    _asking: Threads | None = None

    def __init__(self, asking: Threads | None = None) -> None:
        self._asking = asking

    async def connect_tcp(self, address: str, timeout: float = 20.0) -> TcpStream:
        """Tries the host's addresses in order, each with its share of what is left of `timeout` seconds."""
        host, port = split_address(address)
        if port == 0:
            raise FileError(E.INVAL, printable(address), "port 0")
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                found = await lookup(host, port)
        except TimeoutError:
            raise FileError(E.TIMEDOUT, printable(address)) from None
        refused = FileError(E.HOSTUNREACH, printable(address))
        for index, (family, name) in enumerate(found):
            left = deadline - asyncio.get_running_loop().time()
            try:
                return await _connect(family, name, address, left / (len(found) - index))
            except FileError as error:
                refused = error
        try:
            raise refused
        finally:
            del refused  # an error that its own frame holds keeps all that is in use further up

    async def listen_tcp(self, address: str, accept: Accept) -> Listener:
        """Listens on the first address the host part has; `0.0.0.0` and `[::]` mean every interface, `*` that in each
        family which this host has, at one port.
        """
        from cognu.world.families import at_one_port  # It is made of this module's sockets.

        host, port = split_address(address)
        if host == "*":
            socks, at = at_one_port(port)
        else:
            socks = [listening_socket(*(await lookup(host, port))[0], address)]
            at = join_address(socks[0].getsockname())
        try:
            return SocketListener(socks, at, accept)
        except BaseException:
            for sock in socks:
                sock.close()
            raise

    async def announce_tcp(self, address: str) -> Announcement:
        from cognu.world.calls import SocketAnnouncement  # It is made of this module's streams.

        host, port = split_address(address)
        return SocketAnnouncement(listening_socket(*(await lookup(host, port))[0], address))

    async def open_udp(self, local: str, remote: str = "") -> Datagrams:
        from cognu.world.calls import open_datagrams

        return await open_datagrams(local, remote)

    async def connect_unix(self, path: str) -> TcpStream:
        _check_unix_path(path)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UNIX_CONNECT_SECONDS
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with refusals(path):
                # A full backlog says EAGAIN and never tells when there is room (connect(2)), so this asks
                # again.
                while True:
                    try:
                        sock.connect(path)
                        return SocketStream(sock, path)
                    except BlockingIOError:
                        if loop.time() >= deadline:
                            raise FileError(E.TIMEDOUT, printable(path)) from None
                    await asyncio.sleep(0.02)
        except BaseException:
            sock.close()
            raise

    async def listen_unix(self, path: str, accept: Accept) -> Listener:
        """A socket file nobody answers at is replaced; anything else in its place is ADDRINUSE."""
        _check_unix_path(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with refusals(path):
                unlink = _bind_unix(sock, path)
                return SocketListener([sock], path, accept, unlink)
        except BaseException:
            sock.close()
            raise

    async def connect_tls(self, address: str, keys: TlsKeys, timeout: float = 20.0) -> SecureStream:
        from cognu.world import tls  # A node without peers never loads it.

        return await tls.connect_tls(address, keys, timeout)

    async def listen_tls(
        self, address: str, keys: Callable[[], TlsKeys], accept: Callable[[SecureStream], Awaitable[None]]
    ) -> Listener:
        from cognu.world import tls

        return await tls.listen_tls(address, keys, accept)

    def local_addresses(self) -> list[str]:
        from cognu.world import own

        return own.addresses()

    def interfaces(self) -> dict[str, str]:
        from cognu.world import own

        return own.interfaces()

    def follow(self, changed: Callable[[], None]) -> Callable[[], None] | None:
        from cognu.world import own

        return own.follow(changed)

    async def resolve(self, host: str) -> list[str]:
        found = await lookup(host, 0, self._asking)
        return list(dict.fromkeys(str(name[0]) for _, name in found))

    async def reverse(self, address: str) -> list[str]:
        [(_, name), *_] = await lookup(address, 0)
        try:
            found, _ = await _in_thread(self._asking, socket.getnameinfo, name, socket.NI_NAMEREQD)
        except OSError as error:
            raise FileError(E.HOSTUNREACH, printable(address), printable(str(error.strerror))) from error
        return [found]

    async def service(self, name: str, protocol: str) -> int:
        try:
            return await _in_thread(self._asking, socket.getservbyname, name, protocol)
        except (OSError, ValueError):
            raise FileError(E.NOENT, printable(name), f"no such service of {protocol}") from None


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


async def _in_thread(threads: Threads | None, function: Callable[..., T], *args: object) -> T:
    if threads is None:
        return await asyncio.get_running_loop().run_in_executor(None, function, *args)
    return await threads.run(function, *args)


async def lookup(host: str, port: int, threads: Threads | None = None) -> list[tuple[int, SocketAddress]]:
    """(family, socket address) pairs, in the host's order of preference, at least one; raises
    `FileError(HOSTUNREACH)`. Names are asked for in `threads`, or the loop's.
    """
    numeric = None
    with suppress(ValueError):
        numeric = ipaddress.ip_address(host)
    if numeric is not None and numeric.version == 4:
        return [(socket.AF_INET, (host, port))]
    try:
        if numeric is not None:  # at once, for the threads that ask a resolver may all be waiting for one
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        else:
            asked = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
            found = await _in_thread(threads, asked)
    except socket.gaierror as error:
        raise FileError(E.HOSTUNREACH, printable(host), str(error.strerror)) from error
    except (OSError, ValueError, OverflowError) as error:
        raise FileError(E.HOSTUNREACH, printable(host), printable(str(error))) from error
    families = (socket.AF_INET, socket.AF_INET6)
    pairs = [(int(family), name) for family, _, _, _, name in found if family in families]
    if not pairs:
        raise FileError(E.HOSTUNREACH, printable(host))
    return pairs


def listening_socket(family: int, name: SocketAddress, address: str, alone: bool = False) -> socket.socket:
    """`alone`: an IPv6 socket takes no IPv4 calls, whatever the host's default is (ipv6(7))."""
    sock = _socket(family, address)
    try:
        with refusals(address):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if alone:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(name)
            sock.listen(BACKLOG)
            return sock
    except BaseException:
        sock.close()
        raise


def _socket(family: int, address: str) -> socket.socket:
    with refusals(address):  # a host may lack a family
        return socket.socket(family, socket.SOCK_STREAM)


async def _connect(family: int, name: SocketAddress, address: str, timeout: float) -> SocketStream:
    sock = _socket(family, address)
    try:
        sock.setblocking(False)
        no_delay(sock)
        try:
            async with asyncio.timeout(timeout):
                with refusals(address):
                    await asyncio.get_running_loop().sock_connect(sock, name)
        except TimeoutError:
            raise FileError(E.TIMEDOUT, printable(address)) from None
        if sock.getsockname() == sock.getpeername():
            # A connect to a free local port can meet itself (simultaneous open, RFC 9293 3.5).
            raise FileError(E.CONNREFUSED, printable(address))
        return SocketStream(sock, join_address(name))
    except BaseException:
        sock.close()
        raise


def no_delay(sock: socket.socket) -> None:
    # macOS refuses options on a connection that already ended; its reads will say so.
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _check_unix_path(path: str) -> None:
    with refusals(path):
        length = len(os.fsencode(path))
    if "\0" in path or not path:
        raise FileError(E.INVAL, printable(path), "path of a socket")
    if length > UNIX_PATH_LIMIT:
        limit = f"path of a socket: {length} bytes of at most {UNIX_PATH_LIMIT}"
        raise FileError(E.NAMETOOLONG, printable(path), limit)


def _bind_unix(sock: socket.socket, path: str) -> Callable[[], None]:
    """Bind, with mode 0600 from the first moment, and listen; returns what removes the file if it is still
    ours.
    """
    # Two that start at once must not both find the same stale file; the lock on the directory is held for a
    # moment.
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        _remove_stale(path)
        if sys.platform == "linux":
            # bind(2) makes the file with the socket's own mode, less the umask.
            os.fchmod(sock.fileno(), 0o600)
            sock.bind(path)
        else:
            before = os.umask(0o177)
            try:
                sock.bind(path)
            finally:
                os.umask(before)
        sock.listen(BACKLOG)
        made = os.lstat(path)
    finally:
        os.close(directory)

    def unlink() -> None:
        with suppress(FileNotFoundError):
            now = os.lstat(path)
            if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                os.unlink(path)

    return unlink


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileError(E.ADDRINUSE, printable(path), "a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result != errno.ECONNREFUSED:
        raise FileError(E.ADDRINUSE, printable(path))
    os.unlink(path)
