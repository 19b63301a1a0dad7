"""Sockets that wait for others: calls to an announced tcp port, and datagrams.

Nothing is taken from the host before somebody asks for it, and then in the same step in which it is handed over, so a
cancelled wait loses nothing, and what is not asked for waits (or is dropped) in the host's own queues.
"""

from __future__ import annotations

import asyncio
import socket

from cognu.errors import E, FileError, LinkBroken, Misuse, from_oserror
from cognu.world.net import lookup
from cognu.world.refusals import printable, refusals
from cognu.world.sockets import BURST, SocketAddress, SocketStream, join_address, no_delay, split_address

MAX_DATAGRAM = 1 << 16
"""No datagram of udp has more bytes (RFC 768)."""


class _Waiting:
    """A socket and who waits until it can be read or written: at most one each."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.address = address
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._turns = 0
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    def check_open(self) -> None:
        if self.closed:
            raise LinkBroken(E.PIPE, self.address)

    async def take_turn(self) -> None:
        """So that what is always ready never holds up the others."""
        self._turns += 1
        if self._turns > BURST:
            self._turns = 0
            await asyncio.sleep(0)

    async def readable(self) -> None:
        """Raises `LinkBroken(PIPE)` if it was closed meanwhile, `Misuse(ALREADY)` for a second that waits."""
        if self._readable is not None:
            raise Misuse(E.ALREADY, self.address)
        waiter = self._readable = self._loop.create_future()
        self._loop.add_reader(self.socket.fileno(), _wake, waiter)
        try:
            await waiter
        finally:
            self._readable = None
            if not self.closed:
                self._loop.remove_reader(self.socket.fileno())
        self.check_open()

    async def writable(self) -> None:
        assert self._writable is None
        waiter = self._writable = self._loop.create_future()
        self._loop.add_writer(self.socket.fileno(), _wake, waiter)
        try:
            await waiter
        finally:
            self._writable = None
            if not self.closed:
                self._loop.remove_writer(self.socket.fileno())
        self.check_open()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if not self._loop.is_closed():
            for waiter, remove in (
                (self._readable, self._loop.remove_reader),
                (self._writable, self._loop.remove_writer),
            ):
                if waiter is not None:
                    remove(self.socket.fileno())
                    _wake(waiter)
        self.socket.close()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class SocketAnnouncement:
    """An `Announcement` on a listening socket, which it owns."""

    def __init__(self, sock: socket.socket) -> None:
        self._waiting = _Waiting(sock, join_address(sock.getsockname()))

    @property
    def address(self) -> str:
        return self._waiting.address

    async def accept(self) -> SocketStream:
        """Raises `FileError` too: NFILE or NOMEM if the host has none left; the call keeps waiting."""
        waiting = self._waiting
        await waiting.take_turn()
        while True:
            waiting.check_open()
            try:
                sock, name = waiting.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                await waiting.readable()
            except OSError as error:
                raise from_oserror(error, waiting.address) from error
            else:
                no_delay(sock)
                return SocketStream(sock, join_address(name))

    def close(self) -> None:
        self._waiting.close()


class SocketDatagrams:
    """`Datagrams` on a bound socket, which it owns. Its own address is the host's once it is connected."""

    def __init__(self, sock: socket.socket) -> None:
        self._waiting = _Waiting(sock, join_address(sock.getsockname()))
        self._family = sock.family
        self._sending = asyncio.Lock()

    @property
    def local(self) -> str:
        return self._waiting.address

    async def receive(self) -> tuple[bytes, str]:
        waiting = self._waiting
        await waiting.take_turn()
        while True:
            waiting.check_open()
            try:
                data, name = waiting.socket.recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                await waiting.readable()
            except OSError as error:
                raise from_oserror(error, waiting.address) from error
            else:
                return data, join_address(name)

    async def send(self, data: bytes | bytearray | memoryview, to: str = "") -> None:
        name = await _name(self._family, to) if to else None
        waiting = self._waiting
        async with self._sending:
            while True:
                waiting.check_open()
                with refusals(to or waiting.address):
                    if _sent(waiting.socket, data, name):
                        return
                await waiting.writable()

    def close(self) -> None:
        self._waiting.close()


def _sent(sock: socket.socket, data: bytes | bytearray | memoryview, name: SocketAddress | None) -> bool:
    """Whether the host took it; if not, it has no room now."""
    try:
        if name is None:
            sock.send(data)
        else:
            sock.sendto(data, name)
    except BlockingIOError:
        return False
    return True


async def _name(family: int, address: str) -> SocketAddress:
    """What the socket module takes. Raises `FileError(INVAL)` for an address of another family."""
    host, port = split_address(address)
    for found, name in await lookup(host, port):
        if found == family:
            return name
    raise FileError(E.INVAL, printable(address), "an address of the other internet protocol")


async def open_datagrams(local: str, remote: str) -> SocketDatagrams:
    """See `Network.open_udp`."""
    host, port = split_address(local)
    family, name = (await lookup(host, port))[0]
    there = await _name(family, remote) if remote else None
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        with refusals(remote or local):
            sock.bind(name)
            if there is not None:
                sock.connect(there)
        return SocketDatagrams(sock)
    except BaseException:
        sock.close()
        raise
