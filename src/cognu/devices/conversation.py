"""Conversations of a network, as ip(3): what `/net/tcp`, `/net/udp` and `/net/unix` have in common.

    PROTOCOL/clone              opening it makes a conversation N and gives its ctl
    PROTOCOL/N/ctl              reads as N; takes the lines below, one to a write
    PROTOCOL/N/data             the bytes, or one datagram for each read and write
    PROTOCOL/N/listen           opening it waits for a call and gives the ctl of the call's own conversation
    PROTOCOL/N/{local,remote}   `ADDRESS!PORT`, `::!0` while it is not known
    PROTOCOL/N/status           one word: Closed, Connect, Established, Announced, Closewait (the other side ended),
                                Finwait (hung up here)

    connect ADDRESS!PORT        call somebody
    announce PORT               take calls; also *!PORT (every IPv4 address of this machine) and ADDRESS!PORT. Port 0
                                is any; `local` says which
    hangup                      end it: a waiting read ends, later ones too; a write is PIPE
    accept N, reject N [WHY]    to a call: take it (it is taken as it comes), or hang up

Making one, by `clone` or `listen`, takes opening for writing: who may only read makes nothing.

A conversation ends, connected or not, when the last open file of it is closed (`devices/counted.py`).

Each counts as an open file in the quota of who made it, and those of one peer have a number of their own, so that no
peer's conversations leave others without (`Room`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cognu.devices.counted import Clone, Counted, CountedFile, CountedText
from cognu.devices.naming import is_numeric
from cognu.errors import E, FileError
from cognu.files.limits import Quota, QuotaOf, Resource, nobodys, whose
from cognu.files.nstext import split_words
from cognu.files.server import Caller, MaybeAsync
from cognu.files.steps import Steps, start
from cognu.files.tree import Directory, Node, TreeFid, check_for_writing

MAX_CONVERSATIONS = 1024
"""That no peer made, of all protocols of a network or of all commands."""
PEER_CONVERSATIONS = 256
"""That all of one peer made."""
UNKNOWN = "::!0"
"""An address that is not known or not chosen, as ip(3) prints it."""
CLOSED, CONNECT, ESTABLISHED = "Closed", "Connect", "Established"
ANNOUNCED, CLOSEWAIT, FINWAIT = "Announced", "Closewait", "Finwait"


class Conversation(Counted):
    """One conversation. Protocols derive from it."""

    usage = ""

    def __init__(self, protocol: Protocol, number: int, owner: str, *, listens: bool) -> None:
        ctl = Ctl(self)
        files: list[Node] = [Data(self)]
        if listens:
            files.append(Listen(self))
        files += [
            CountedText(self, "local", lambda: f"{self.local}\n"),
            CountedText(self, "remote", lambda: f"{self.remote}\n"),
            CountedText(self, "status", lambda: f"{self.state}\n"),
        ]
        super().__init__(str(number), ctl, files)
        for node in (self, ctl, *files):
            node.user = node.group = owner
        self.protocol = protocol
        self.quota: Quota | None = None  # that it is charged to
        self.state = CLOSED
        self.local = UNKNOWN
        self.remote = UNKNOWN

    def release(self) -> None:
        super().release()
        if self.opens == 0:
            self.protocol.room.give(self.quota)

    @property
    def is_over(self) -> bool:
        """Nobody has it open, or it was hung up: what comes now comes too late."""
        return self.opens == 0 or self.state == FINWAIT

    # What a protocol fills in. Each is called on a conversation that is held.

    async def connect(self, address: str) -> None:
        """Raises ALREADY, USAGE, and what the world says: CONNREFUSED, NETUNREACH, HOSTUNREACH, TIMEDOUT …"""
        raise FileError(E.NOTSUP, "connect")

    async def announce(self, address: str) -> None:
        """Raises ALREADY, USAGE, ACCES where announcing is not lent, ADDRINUSE …"""
        raise FileError(E.NOTSUP, "announce", self.usage)

    async def call(self) -> Conversation:
        """Wait for the next call: a new conversation, not yet held. Raises NOTANNOUNCED, AGAIN."""
        raise FileError(E.NOTANNOUNCED, self.name)

    async def end_writing(self) -> None:
        """The other side reads the end after what was written; reading goes on. Raises NOTCONN, NOTSUP."""
        raise FileError(E.NOTSUP, "hangup write", self.usage)

    def more(self, words: list[str]) -> None:
        """A line of ctl that only this protocol takes."""
        raise FileError(E.USAGE, " ".join(words[:1]), self.usage)

    async def receive(self, count: int) -> bytes:
        raise NotImplementedError

    async def send(self, data: bytes | memoryview) -> int:
        raise NotImplementedError


class Room:
    """How many conversations of one network, or of `#C`, each has: every peer by itself, and together all that
    no peer does."""

    def __init__(self, quota_of: QuotaOf = nobodys) -> None:
        self.quota_of = quota_of
        self._held: Counter[Quota | None] = Counter()

    def check(self, quota: Quota | None) -> None:
        """Raises AGAIN, DQUOT where one more is too many."""
        who = whose(quota)
        most = MAX_CONVERSATIONS if who is None else PEER_CONVERSATIONS
        if self._held[who] >= most:
            raise FileError(E.AGAIN, "conversations", f"{f'{who.name} has' if who else 'there are'} {most} open")
        if quota is not None:
            quota.check(Resource.FILES)

    def take(self, quota: Quota | None) -> None:
        """Raises as `check`, with nothing taken."""
        self.check(quota)
        self._held[whose(quota)] += 1
        if quota is not None:
            quota.add(Resource.FILES, 1)

    def give(self, quota: Quota | None) -> None:
        """One that was taken is over."""
        who = whose(quota)
        self._held[who] -= 1
        if not self._held[who]:
            del self._held[who]
        if quota is not None:
            quota.give(Resource.FILES)


Make = Callable[["Protocol", int, str], Conversation]
"""(protocol, number, owner): a new conversation."""


class Protocol(Directory):
    """`/net/NAME`."""

    def __init__(self, name: str, make: Make, room: Room) -> None:
        super().__init__(name, [Clone(lambda caller: self.new(caller.user, room.quota_of(caller)))])
        self._make = make
        self._last = -1
        self.room = room

    def new(self, owner: str, quota: Quota | None) -> Conversation:
        """A conversation, charged to `quota`, that is to be held at once. Raises AGAIN, DQUOT."""
        self.room.take(quota)
        self._last += 1
        conversation = self._make(self, self._last, owner)
        conversation.quota = quota
        self.add(conversation)
        return conversation


class _File(CountedFile):
    def __init__(self, conversation: Conversation, name: str) -> None:
        super().__init__(conversation, name, 0o660)
        self.conversation = conversation


class Ctl(_File):
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
        conversation = self.conversation
        match words:
            case ["connect", address]:
                yield conversation.connect(address)
            case ["announce", address]:
                yield conversation.announce(address)
            case ["hangup", "write"]:
                yield conversation.end_writing()
            case ["hangup"] | ["reject", _, *_]:
                conversation.hang_up()
            case ["accept", _]:
                pass
            case _:
                conversation.more(words)
        return len(data)


class Data(_File):
    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation, "data")

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        return self.conversation.receive(count)

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        return self.conversation.send(data)


class Listen(_File):
    """Opening it waits for a call; the fid is then the ctl of the call's conversation."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation, "listen")

    async def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid:
        check_for_writing(self, mode)
        self.conversation.hold()
        try:
            call = await self.conversation.call()
        finally:
            self.conversation.release()
        protocol = fid.above.above if fid.above is not None else None
        return call.opened(protocol)


def split_address(address: str, usage: str, least_port: int = 1) -> tuple[str, int]:
    """(host, port) of `HOST!PORT`, numeric; where any port may be asked for, so may any host, `*`. Raises USAGE.

    A name would have to be asked for, and that is for cs, which bounds it.
    """
    host, _, port = address.rpartition("!")
    known = port.isascii() and port.isdigit() and len(port) <= 5
    numeric = is_numeric(host) or (host == "*" and not least_port)
    if not numeric or not known or not least_port <= int(port) <= 65535:
        raise FileError(E.USAGE, address, f"{usage}; all numeric, /net/cs translates names")
    return host, int(port)


def announced_address(word: str, usage: str) -> str:
    """The world's `HOST:PORT` for what is written after `announce`. Raises USAGE."""
    host, port = split_address(word if "!" in word else f"*!{word}", usage, 0)
    return world_address("0.0.0.0" if host == "*" else host, port)


def world_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ip_address(address: str) -> str:
    """`ADDRESS!PORT` for the world's `HOST:PORT` or `[HOST]:PORT`."""
    host, colon, port = address.rpartition(":")
    return f"{host.strip('[]')}!{port}" if colon else UNKNOWN
