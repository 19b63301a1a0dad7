"""`#I`: the network, as ip(3): `/net/tcp`, `/net/udp`, `/net/unix` (dialling alone), `/net/cs` and `/net/dns`.

What a conversation is and what its files take is in `conversation`, what is particular to udp in `udp`. Who may write
here may dial whatever the node can reach; Unix sockets only where the server was made with their paths; and announce
only at a server made for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from cognu.devices.announcing import EVERY, NONE, announce_at, parse_listen
from cognu.devices.conversation import (
    ANNOUNCED,
    CLOSED,
    CLOSEWAIT,
    CONNECT,
    ESTABLISHED,
    FINWAIT,
    Conversation,
    Protocol,
    Room,
    ip_address,
    split_address,
    world_address,
)
from cognu.devices.cs import ConnectionServer
from cognu.devices.dns import DnsFile
from cognu.devices.lookups import Lookups
from cognu.devices.naming import Machines, Nobody, Resolver
from cognu.devices.udp import UdpConversation
from cognu.errors import E, FileError, LinkBroken
from cognu.files.limits import QuotaOf, nobodys
from cognu.files.server import Caller, Fid, MaybeAsync
from cognu.files.tree import Directory, TreeFid, TreeServer
from cognu.world import Announcement, Network, TcpStream

USAGE = "connect ADDRESS!PORT; announce [ADDRESS!]PORT; accept N; reject N; hangup [write]"
UNIX_USAGE = "connect PATH; hangup [write]"


class StreamConversation(Conversation):
    """A conversation that is one stream: what tcp and Unix sockets share."""

    def __init__(self, protocol: Protocol, number: int, owner: str, *, listens: bool) -> None:
        super().__init__(protocol, number, owner, listens=listens)
        self._stream: TcpStream | None = None
        # A stream takes one reader and one writer at a time.
        self._reading = asyncio.Lock()
        self._writing = asyncio.Lock()

    async def _dial(self, address: str, dial: Callable[[], Awaitable[TcpStream]]) -> TcpStream:
        """Raises what `connect` does."""
        if self.state != CLOSED:
            raise FileError(E.ALREADY, address, self.state)
        self.state = CONNECT
        try:
            stream = await dial()
        except BaseException as error:
            if self.state == CONNECT:
                self.state = CLOSED
            if isinstance(error, LinkBroken):
                raise FileError(error.error, error.subject, error.detail) from None
            raise
        if self.is_over:
            stream.close()
            raise FileError(E.CONNRESET, address, "hung up meanwhile")
        self._stream, self.state, self.remote = stream, ESTABLISHED, address
        return stream

    def _connected(self) -> TcpStream:
        if self._stream is None:
            raise FileError(E.NOTCONN, self.name)
        return self._stream

    async def receive(self, count: int) -> bytes:
        if count == 0:
            return b""
        async with self._reading:
            stream = self._connected()
            try:
                data = await stream.read(count)
            except LinkBroken as error:
                raise FileError(error.error, self.remote, error.detail) from None
        if not data and self.state == ESTABLISHED and stream is self._stream:
            self.state = CLOSEWAIT
        return data

    async def send(self, data: bytes | memoryview) -> int:
        async with self._writing:
            if self.state == FINWAIT:
                raise FileError(E.PIPE, self.remote)
            try:
                await self._connected().write(data)
            except LinkBroken as error:
                raise FileError(error.error, self.remote, error.detail) from None
        return len(data)

    async def end_writing(self) -> None:
        async with self._writing:
            self._connected().end_writing()

    def hang_up(self) -> None:
        if self.state != CLOSED:
            self.state = FINWAIT
        if self._stream is not None:
            self._stream.close()


class TcpConversation(StreamConversation):
    usage = USAGE

    def __init__(self, protocol: Protocol, number: int, owner: str, network: Network, ports: range) -> None:
        super().__init__(protocol, number, owner, listens=True)
        self._network = network
        self._ports = ports
        self._announcement: Announcement | None = None
        self._listening = asyncio.Lock()

    async def connect(self, address: str) -> None:
        to = world_address(*split_address(address, USAGE))

        async def dial() -> TcpStream:
            return await self._network.connect_tcp(to)

        self.local = ip_address((await self._dial(address, dial)).local)

    async def announce(self, address: str) -> None:
        if self.state != CLOSED:
            raise FileError(E.ALREADY, address, self.state)
        self.state = CONNECT
        try:
            announcement = await announce_at(address, USAGE, self._ports, self._network.announce_tcp)
        except BaseException:
            if self.state == CONNECT:
                self.state = CLOSED
            raise
        if self.is_over:
            announcement.close()
            raise FileError(E.CONNRESET, address, "hung up meanwhile")
        self._announcement, self.state, self.local = announcement, ANNOUNCED, ip_address(announcement.address)

    async def call(self) -> Conversation:
        async with self._listening:
            if self._announcement is None or self.state != ANNOUNCED:
                raise FileError(E.NOTANNOUNCED, self.name)
            self.protocol.room.check(self.quota)
            try:
                stream = await self._announcement.accept()
            except LinkBroken as error:
                raise FileError(E.NOTANNOUNCED, self.name, error.error.text) from None
        try:
            call = self.protocol.new(self.user, self.quota)
        except FileError:
            stream.close()
            raise
        assert isinstance(call, TcpConversation)
        call._stream, call.state = stream, ESTABLISHED
        call.local, call.remote = ip_address(stream.local), ip_address(stream.peer)
        return call

    def hang_up(self) -> None:
        super().hang_up()
        if self._announcement is not None:
            self._announcement.close()


class UnixConversation(StreamConversation):
    usage = UNIX_USAGE

    def __init__(self, protocol: Protocol, number: int, owner: str, network: Network, paths: Collection[str] | None):
        super().__init__(protocol, number, owner, listens=False)
        self._network = network
        self._paths = paths

    async def connect(self, address: str) -> None:
        """A path alone is the address; raises ACCES for one that is not lent."""

        async def dial() -> TcpStream:
            if self._paths is not None and address not in self._paths:
                raise FileError(E.ACCES, address)
            return await self._network.connect_unix(address)

        await self._dial(address, dial)


class NetServer(TreeServer):
    """`unix`: paths of Unix sockets that may be dialled; None: any; empty: there is no `/net/unix`.

    `announce`: whether calls may be taken here, and not only made. Where not, it is for lending: what was opened ends
    with the right to it, and a tree attached as `listen=PORTS` takes calls at these. `machines` are what cs and dns
    know by name, `lookups` what asks the host for the rest. Conversations are charged to what `quota_of` gives.
    """

    def __init__(
        self, network: Network, *, unix: Collection[str] | None = (), announce: bool = False, spec: str = "#I",
        machines: Machines | None = None, lookups: Lookups | None = None, quota_of: QuotaOf = nobodys,
    ) -> None:  # fmt: skip
        room = Room(quota_of)
        resolver = Resolver(network, machines or Nobody(), lookups or Lookups())

        def tree(ports: range) -> Directory:
            protocols = [
                Protocol("tcp", lambda protocol, number, owner: TcpConversation(
                    protocol, number, owner, network, ports), room),
                Protocol("udp", lambda protocol, number, owner: UdpConversation(
                    protocol, number, owner, network, ports), room),
            ]  # fmt: skip
            if unix is None or unix:
                protocols.append(Protocol("unix", lambda protocol, number, owner: UnixConversation(
                    protocol, number, owner, network, unix), room))  # fmt: skip
            names = [protocol.name for protocol in protocols]
            # What is lent is another machine's to use, and there /n has its own peers.
            cs = ConnectionServer(resolver, names, ways=announce)
            return Directory("", [*protocols, cs, DnsFile(resolver)])

        super().__init__(spec, tree(EVERY if announce else NONE))
        self._tree = tree
        self._lent = not announce

    @property
    def ends_with_right(self) -> bool:
        return self._lent

    def attach(self, caller: Caller, aname: str) -> MaybeAsync[Fid]:
        """`listen`, `listen=PORTS`: a tree of its own, where these may be announced."""
        ports = parse_listen(aname)
        return super().attach(caller, aname) if ports is None else TreeFid(self._tree(ports))
