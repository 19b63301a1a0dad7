"""`#I`: dialling out, as ip(3): `/net/tcp/{clone,N/{ctl,data,local,remote,status}}`, the same for unix, and `/net/cs`.

A conversation begins by opening `clone`, which gives its ctl; `connect ADDRESS!PORT` written there connects it, and
`data` carries the bytes. It ends, connected or not, when the last open file of it is closed. Who holds this server's
capability may dial whatever the node can reach; Unix sockets only where the server was made with their paths.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from cognu.devices.cs import ConnectionServer
from cognu.errors import E, FileError, LinkBroken
from cognu.files.nstext import split_words
from cognu.files.server import Caller, MaybeAsync
from cognu.files.steps import Steps, start
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer
from cognu.world import Network, Stream

MAX_CONVERSATIONS = 1024
UNKNOWN = "::!0"
"""An address that is not known or not chosen, as ip(3) prints it."""

Dial = Callable[[str], Awaitable[Stream]]
"""Connects to what was written after `connect`."""


class Conversation(Directory):
    """One conversation; a directory of its protocol while anything of it is open."""

    def __init__(self, number: int, owner: str, dial: Dial, usage: str) -> None:
        self.ctl = Ctl(self)
        files = [
            self.ctl,
            Data(self),
            # A stream of the world does not say from where it goes out, so the local address is the unknown one.
            _Counted(self, "local", lambda: f"{UNKNOWN}\n"),
            _Counted(self, "remote", lambda: f"{self.remote}\n"),
            _Counted(self, "status", lambda: f"{self.state}\n"),
        ]
        super().__init__(str(number), files)
        for node in (self, *files):
            node.user = node.group = owner
        self.dial = dial
        self.usage = usage
        self.state = "Closed"
        self.remote = UNKNOWN
        self.stream: Stream | None = None
        self.opens = 0
        # A stream takes one reader and one writer at a time.
        self.reading = asyncio.Lock()
        self.writing = asyncio.Lock()

    def hold(self) -> None:
        if self.parent is None:
            raise FileError(E.NOENT, self.name)
        self.opens += 1

    def release(self) -> None:
        self.opens -= 1
        if self.opens == 0:
            self.hang_up()
            if isinstance(self.parent, Directory):
                self.parent.discard(self.name)

    async def connect(self, address: str) -> None:
        """Raises ALREADY, and what the world says: CONNREFUSED, NETUNREACH, HOSTUNREACH, TIMEDOUT …"""
        if self.state in ("Connecting", "Established"):
            raise FileError(E.ALREADY, address, self.state)
        self.state = "Connecting"
        try:
            stream = await self.dial(address)
        except BaseException as error:
            self.state = "Closed"
            if isinstance(error, LinkBroken):
                raise FileError(error.error, error.subject, error.detail) from None
            raise
        if self.opens == 0 or self.state != "Connecting":
            stream.close()
            raise FileError(E.CONNRESET, address, "hung up meanwhile")
        self.stream, self.state, self.remote = stream, "Established", address

    def hang_up(self) -> None:
        """A waiting read ends; later ones too; a write is PIPE."""
        if self.state != "Closed":
            self.state = "Hangup"
        if self.stream is not None:
            self.stream.close()

    def connected(self) -> Stream:
        if self.stream is None:
            raise FileError(E.NOTCONN, self.name)
        return self.stream


class _Counted(Text):
    """A text of a conversation; open, it keeps the conversation there."""

    def __init__(self, conversation: Conversation, name: str, get: Callable[[], str]) -> None:
        super().__init__(name, get)
        self._conversation = conversation

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        self._conversation.hold()
        super().open(fid, mode, caller)

    def close(self, fid: TreeFid) -> None:
        self._conversation.release()


class _File(Node):
    def __init__(self, conversation: Conversation, name: str) -> None:
        super().__init__(name, 0o660)
        self.conversation = conversation

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        self.conversation.hold()
        return None

    def close(self, fid: TreeFid) -> None:
        self.conversation.release()


class Ctl(_File):
    """Reads as the conversation's number; takes `connect ADDRESS` and `hangup`, one to a write."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation, "ctl")

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return self.conversation.name.encode()[offset : offset + count]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        return start(self._write(bytes(data)))

    def _write(self, data: bytes) -> Steps[int]:
        try:
            words = split_words(data.decode())
        except UnicodeDecodeError:
            raise FileError(E.ILSEQ, "ctl") from None
        match words:
            case ["connect", address]:
                yield self.conversation.connect(address)
            case ["hangup"]:
                self.conversation.hang_up()
            case _:
                raise FileError(E.USAGE, " ".join(words[:1]), f"connect {self.conversation.usage}; hangup")
        return len(data)


class Data(_File):
    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation, "data")

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        conversation = self.conversation
        if count == 0:
            return b""
        async with conversation.reading:
            try:
                return await conversation.connected().read(count)
            except LinkBroken as error:
                raise FileError(error.error, conversation.remote, error.detail) from None

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        conversation = self.conversation
        async with conversation.writing:
            if conversation.state == "Hangup":
                raise FileError(E.PIPE, conversation.remote)
            try:
                await conversation.connected().write(data)
            except LinkBroken as error:
                raise FileError(error.error, conversation.remote, error.detail) from None
        return len(data)


class Clone(Node):
    """Opening it makes a conversation; the fid is its ctl."""

    def __init__(self, dial: Dial, usage: str) -> None:
        super().__init__("clone", 0o666)
        self._dial = dial
        self._usage = usage
        self._last = -1

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid:
        protocol = self.parent
        assert isinstance(protocol, Directory)
        if len(protocol.children) > MAX_CONVERSATIONS:
            raise FileError(E.AGAIN, "conversations", f"{MAX_CONVERSATIONS} are open")
        # Numbers are not used again, so that nobody finds another's conversation where theirs was.
        self._last += 1
        conversation = Conversation(self._last, caller.user, self._dial, self._usage)
        protocol.add(conversation)
        conversation.hold()
        return TreeFid(conversation.ctl, TreeFid(conversation, fid.above))


class NetServer(TreeServer):
    """`unix`: paths of Unix sockets that may be dialled; None: any; empty: there is no `/net/unix`."""

    def __init__(self, network: Network, *, unix: Collection[str] | None = (), spec: str = "#I") -> None:
        self._network = network
        self._unix = unix
        protocols = [Directory("tcp", [Clone(self._dial_tcp, "ADDRESS!PORT")])]
        if unix is None or unix:
            protocols.append(Directory("unix", [Clone(self._dial_unix, "PATH")]))
        super().__init__(spec, Directory("", [*protocols, ConnectionServer(network, len(protocols) > 1)]))

    async def _dial_tcp(self, address: str) -> Stream:
        host, _, port = address.rpartition("!")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
            raise FileError(E.USAGE, address, "connect ADDRESS!PORT, both numeric; /net/cs translates names")
        return await self._network.connect_tcp(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    async def _dial_unix(self, path: str) -> Stream:
        if self._unix is not None and path not in self._unix:
            raise FileError(E.ACCES, path)
        return await self._network.connect_unix(path)
