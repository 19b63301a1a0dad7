"""The network of this host: calls made and taken, names, on sockets (`world/sockets.py`); TLS is `cognu.world.tls`."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import os
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from cognu.errors import E, FileError
from cognu.world import Accept, Announcement, Datagrams, Listener, SecureStream, TcpStream, Threads, TlsKeys
from cognu.world.refusals import printable, refusals
from cognu.world.sockets import SocketAddress, SocketListener, SocketStream, join_address, no_delay, split_address

T = TypeVar("T")
BACKLOG = 1024
UNIX_PATH_LIMIT = 107 if sys.platform == "linux" else 103
"""sun_path holds 108 bytes on Linux and 104 on macOS, with a NUL at the end (unix(7))."""
UNIX_CONNECT_SECONDS = 5.0


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
                    await _call(sock, name)
        except TimeoutError:
            raise FileError(E.TIMEDOUT, printable(address)) from None
        if sock.getsockname() == sock.getpeername():
            # A connect to a free local port can meet itself (simultaneous open, RFC 9293 3.5).
            raise FileError(E.CONNREFUSED, printable(address))
        return SocketStream(sock, join_address(name))
    except BaseException:
        sock.close()
        raise


async def _call(sock: socket.socket, name: SocketAddress) -> None:
    """What `sock_connect` of a loop does; uvloop's forgets the scope of an IPv6 address (0.23). Raises `OSError`."""
    error = sock.connect_ex(name)
    if error in (errno.EINPROGRESS, errno.EINTR):
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[None] = loop.create_future()

        def writable() -> None:
            if not connected.done():
                connected.set_result(None)

        loop.add_writer(sock.fileno(), writable)
        try:
            await connected
        finally:
            loop.remove_writer(sock.fileno())
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


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
