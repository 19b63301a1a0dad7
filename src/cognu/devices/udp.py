"""udp as conversations, as udp(3). Each read gives one datagram (what exceeds the count is lost), each write sends one.

Connected, a conversation has the datagrams of one other side. Announced, there are two ways:

- As with tcp: opening `listen` waits for a datagram from somebody new; the conversation it gives has the datagrams of
  that one, the first included. At most `MAX_CALLS` such wait, and `MAX_QUEUED` datagrams for each; more are dropped.
- After `headers`, written to ctl before or after announcing: each read and write of `data` has a header before the
  datagram, `HEADER` bytes: remote, local and interface's address (16 bytes each, IPv4 as ::ffff:a.b.c.d), remote and
  local port (2 bytes each, the first the highest). The local ones are the announced ones, and ignored in writes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cognu.devices.announcing import announce_at
from cognu.devices.conversation import (
    ANNOUNCED,
    CLOSED,
    CONNECT,
    ESTABLISHED,
    FINWAIT,
    Conversation,
    Protocol,
    ip_address,
    split_address,
    world_address,
)
from cognu.errors import E, FileError, LinkBroken
from cognu.world import Datagrams, Network

USAGE = "connect ADDRESS!PORT; announce [ADDRESS!]PORT; headers; accept N; reject N; hangup"
HEADER = 52
MAX_CALLS = 64
MAX_QUEUED = 64
_HEADER = struct.Struct(">16s16s16sHH")


class Header(NamedTuple):
    """The header of a datagram; addresses as the world writes them, `HOST:PORT`."""

    remote: str
    local: str


def pack_header(header: Header) -> bytes:
    remote, remote_port = _packed(header.remote)
    local, local_port = _packed(header.local)
    return _HEADER.pack(remote, local, local, remote_port, local_port)


def parse_header(data: bytes | memoryview) -> tuple[Header, memoryview]:
    """The header and the datagram after it. Raises INVAL if there is no whole header."""
    if len(data) < HEADER:
        raise FileError(E.INVAL, "data", f"a header of {HEADER} bytes goes before each datagram")
    remote, local, _, remote_port, local_port = _HEADER.unpack_from(data)
    return Header(_unpacked(remote, remote_port), _unpacked(local, local_port)), memoryview(data)[HEADER:]


def _packed(address: str) -> tuple[bytes, int]:
    host, _, port = address.rpartition(":")
    number = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    if number.version == 4:
        return b"\0" * 10 + b"\xff\xff" + number.packed, int(port)
    return number.packed, int(port)


def _unpacked(packed: bytes, port: int) -> str:
    number = ipaddress.IPv6Address(packed)
    return world_address(str(number.ipv4_mapped or number), port)


class _Call:
    """One other side of an announced socket: what came from it and was not read."""

    def __init__(self, remote: str) -> None:
        self.remote = remote
        self.queue: deque[bytes] = deque()
        self.came = asyncio.Event()


class _Shared:
    """An announced socket that several conversations use: each gets the datagrams of one other side."""

    def __init__(self, datagrams: Datagrams) -> None:
        self.datagrams = datagrams
        self.announced = True
        self.fresh: deque[_Call] = deque()
        self.came = asyncio.Event()  # of a fresh call, or the end
        self._calls: dict[str, _Call] = {}
        self._users = 1
        self._pump: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sort datagrams. Until then they wait in the host's queue."""
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._sort())

    @property
    def sorts(self) -> bool:
        return self._pump is not None

    async def _sort(self) -> None:
        try:
            while True:
                try:
                    data, remote = await self.datagrams.receive()
                except FileError:
                    continue  # about one that was sent: udp promises nothing
                self._sorted(data, remote)
        except LinkBroken:
            return

    def _sorted(self, data: bytes, remote: str) -> None:
        call = self._calls.get(remote)
        if call is None:
            if not self.announced or len(self.fresh) >= MAX_CALLS:
                return
            call = self._calls[remote] = _Call(remote)
            self.fresh.append(call)
            self.came.set()
        if len(call.queue) < MAX_QUEUED:
            call.queue.append(data)
            call.came.set()

    def next(self) -> _Call:
        """The first fresh call, for a conversation that uses this from now on."""
        self._users += 1
        return self.fresh.popleft()

    def forget(self, call: _Call) -> None:
        self._calls.pop(call.remote, None)
        call.came.set()
        self._release()

    def end(self) -> None:
        """No more calls; conversations that there are go on."""
        self.announced = False
        for call in self.fresh:
            self._calls.pop(call.remote, None)
        self.fresh.clear()
        self.came.set()
        self._release()

    def _release(self) -> None:
        self._users -= 1
        if self._users == 0:
            self.datagrams.close()
            if self._pump is not None:
                self._pump.cancel()


class UdpConversation(Conversation):
    usage = USAGE

    def __init__(self, protocol: Protocol, number: int, owner: str, network: Network, ports: range) -> None:
        """`ports` are those that may be announced."""
        super().__init__(protocol, number, owner, listens=True)
        self._network = network
        self._ports = ports
        self._headers = False
        self._datagrams: Datagrams | None = None  # connected
        self._shared: _Shared | None = None  # announced, or a call of one that is
        self._call: _Call | None = None
        self._reading = asyncio.Lock()
        self._listening = asyncio.Lock()

    # -- ctl --------------------------------------------------------------------------------------------------------

    async def connect(self, address: str) -> None:
        host, port = split_address(address, USAGE)
        local, remote = "[::]:0" if ":" in host else "0.0.0.0:0", world_address(host, port)
        self._datagrams = await self._begin(address, lambda: self._network.open_udp(local, remote))
        self.state, self.remote, self.local = ESTABLISHED, address, ip_address(self._datagrams.local)

    async def announce(self, address: str) -> None:
        datagrams = await self._begin(address, lambda: announce_at(address, USAGE, self._ports, self._network.open_udp))
        self._shared = _Shared(datagrams)
        self.state, self.local = ANNOUNCED, ip_address(datagrams.local)

    async def _begin(self, address: str, begin: Callable[[], Awaitable[Datagrams]]) -> Datagrams:
        if self.state != CLOSED:
            raise FileError(E.ALREADY, address, self.state)
        self.state = CONNECT
        try:
            datagrams = await begin()
        except BaseException:
            if self.state == CONNECT:
                self.state = CLOSED
            raise
        if self.is_over:
            datagrams.close()
            raise FileError(E.CONNRESET, address, "hung up meanwhile")
        return datagrams

    def more(self, words: list[str]) -> None:
        if words != ["headers"]:
            super().more(words)
        if self.state not in (CLOSED, ANNOUNCED) or (self._shared is not None and self._shared.sorts):
            raise FileError(E.ALREADY, "headers", self.state)
        self._headers = True

    async def call(self) -> Conversation:
        async with self._listening:
            shared = self._shared
            if shared is None or self._call is not None or self._headers or not shared.announced:
                raise FileError(E.NOTANNOUNCED, self.name)
            self.protocol.room.check(self.quota)
            shared.start()
            while not shared.fresh:
                shared.came.clear()
                await shared.came.wait()
                if not shared.announced:
                    raise FileError(E.NOTANNOUNCED, self.name, "hung up")
            made = self.protocol.new(self.user, self.quota)
            assert isinstance(made, UdpConversation)
            call = shared.next()
            made._shared, made._call = shared, call
            made.state, made.local, made.remote = ESTABLISHED, self.local, ip_address(call.remote)
            return made

    def hang_up(self) -> None:
        if self.state in (ESTABLISHED, ANNOUNCED):
            if self._datagrams is not None:
                self._datagrams.close()
            elif self._shared is not None and self._call is not None:
                self._shared.forget(self._call)
            elif self._shared is not None:
                self._shared.end()
        if self.state != CLOSED:
            self.state = FINWAIT

    # -- data -------------------------------------------------------------------------------------------------------

    async def receive(self, count: int) -> bytes:
        async with self._reading:
            if self.state == FINWAIT:
                return b""
            if self._call is not None:
                return (await self._next(self._call))[:count]
            try:
                if self._datagrams is not None:
                    return (await self._datagrams.receive())[0][:count]
                datagrams = self._announced()
                data, remote = await datagrams.receive()
            except LinkBroken:
                return b""  # hung up meanwhile
            return (pack_header(Header(remote, datagrams.local)) + data)[:count]

    async def _next(self, call: _Call) -> bytes:
        while not call.queue:
            call.came.clear()
            await call.came.wait()
            if self.state == FINWAIT:
                return b""
        return call.queue.popleft()

    def _announced(self) -> Datagrams:
        """The socket of a conversation that has all its datagrams, with headers."""
        if self._shared is None or not self._headers:
            raise FileError(E.NOTCONN, self.name)
        return self._shared.datagrams

    async def send(self, data: bytes | memoryview) -> int:
        if self.state == FINWAIT:
            raise FileError(E.PIPE, self.remote)
        try:
            if self._datagrams is not None:
                await self._datagrams.send(data)
            elif self._call is not None:
                assert self._shared is not None
                await self._shared.datagrams.send(data, self._call.remote)
            else:
                datagrams = self._announced()
                header, rest = parse_header(data)
                await datagrams.send(rest, header.remote)
        except LinkBroken as error:
            raise FileError(error.error, self.remote, error.detail) from None
        return len(data)
