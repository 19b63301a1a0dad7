"""The shell's 9P connection to a node, what is under way over it, and files open through it."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from cognu.errors import CognuError, E, FileError, LinkBroken
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.dispatch import dispatch
from cognu.files.mount import FarFid, MountServer
from cognu.files.namespace import Namespace
from cognu.files.server import FileServer, Notice
from cognu.files.steps import Steps, finish
from cognu.files.watching import Inbox, Watching
from cognu.kernel import READ, WRITE
from cognu.ninep.client import ClientSession
from cognu.ninep.types import DMAPPEND, DMDEVICE, DMNAMEDPIPE, DMSOCKET
from cognu.world import Clock, Stream

READ_SIZE = 256 * 1024
"""Bytes asked for by a read that does not say how many: few trips for large files, little to hold."""


@dataclass(frozen=True)
class Somebody:
    """Who asks: the caller of local operations."""

    user: str
    pid: int = 1


LEAVES = "~. leaves"
"""How a shell of another machine is given up, which has the terminal, maybe with its prompt shown."""


class Wait(NamedTuple):
    """Something under way: the paths that it is about, as they were typed, and how whoever waits gives it up.

    `begins`: the machine where it is yet to begin, for which the node waits only so long (`launch.AWAY_SECONDS`).
    """

    paths: tuple[str, ...]
    leave: str = "Ctrl-C gives up"
    begins: str = ""


class Connection(MountServer):
    """The mount of the node's tree. Once the node is gone, `told` says so. `waits` is what is under way."""

    def __init__(self, stream: Stream, session: ClientSession, clock: Clock, spec: str) -> None:
        super().__init__(stream, session, clock, spec)
        self.waits: dict[int, Wait] = {}
        self._numbers = itertools.count()

    @contextmanager
    def told(self, subject: str, keep: bool = False) -> Iterator[None]:
        """Refusals name `subject`, as it was typed, or with `keep` what the node names, if it names anything.

        Once the node is gone each is a `LinkBroken`.
        """
        over = self.begin_wait(Wait((subject,)))
        try:
            yield
        except FileError as error:
            if self.broken is None:
                raise FileError(error.error, (keep and error.subject) or subject, error.detail) from None
            unknown = error.error is E.NOTRECOVERABLE
            raise LinkBroken(E.NOTRECOVERABLE if unknown else E.NONODE, self.peer, self.broken.error.text) from None
        finally:
            over()

    def begin_wait(self, wait: Wait) -> Callable[[], None]:
        """What it gives is to be called once it is over."""
        number = next(self._numbers)
        self.waits[number] = wait

        def over() -> None:
            self.waits.pop(number, None)

        return over


def local_namespace(server: FileServer, caller: Somebody, aname: str = "") -> Steps[Namespace]:
    """A namespace of this process's own in which the server's tree is the root, and nothing else is mounted."""
    domain = Domain(Authority())
    return Namespace(domain, (yield from attach_own(server, domain, caller, aname, spec="/")))


_STREAMS = DMAPPEND | DMDEVICE | DMNAMEDPIPE | DMSOCKET
OffsetOf = Callable[[int], Awaitable[int]]
"""Where a descriptor is, by its fid's number."""


class NodeFile:
    """A `shell.system.File` on the node; its fid there is a descriptor, which can be handed to a child."""

    def __init__(self, connection: Connection, chan: Chan, path: str, subject: str, offset_of: OffsetOf) -> None:
        """Takes over `chan`, which is open. `path` is what `File.path` says, `subject` what errors name."""
        self.path = path
        self._connection = connection
        self._chan = chan
        self._subject = subject
        self._offset_of = offset_of
        self._offset = 0
        self._lent = False  # somebody else may have moved the offset
        self._positions: bool | None = None  # not asked yet
        self.commands = False  # what is written are commands: refusals name what the node names

    async def read(self, count: int = READ_SIZE) -> bytes:
        with self._connection.told(self._subject):
            await self._settle()
            chan = self._chan
            data = await finish(dispatch(chan, READ, chan.server.read, chan.fid, self._offset, count))
        self._offset += len(data)
        return bytes(data)

    async def write(self, data: bytes) -> None:
        with self._connection.told("" if self.commands else self._subject, keep=self.commands):
            await self._settle()
            chan, rest = self._chan, memoryview(data)
            while rest:
                taken = await finish(dispatch(chan, WRITE, chan.server.accept, chan.fid, self._offset, rest))
                if taken == 0:
                    raise FileError(E.IO, self._subject)
                self._offset += taken
                rest = rest[taken:]

    async def has_positions(self) -> bool:
        """See `system.Positioned`. What is a plain file with bytes in it is; a device has no length (stat(5))."""
        if self._positions is None:
            with self._connection.told(self._subject):
                stat = await finish(dispatch(self._chan, 0, self._chan.server.stat, self._chan.fid))
            self._positions = stat.length > 0 and not stat.mode & _STREAMS
        return self._positions

    def step_back(self, count: int) -> None:
        self._offset -= count

    def rewind(self) -> None:
        """Read on from the start, where some files answer what was written to them."""
        self._offset = 0

    async def close(self) -> None:
        """Raises what a write came to that was not answered yet; it is closed then too."""
        try:
            with self._connection.told(self._subject):
                await self._written()
        finally:
            self._chan.close()

    async def _written(self) -> None:
        """What was written has arrived. Raises what it was refused with."""
        if not self._chan.closed:
            await finish(dispatch(self._chan, 0, self._chan.server.settle, self._chan.fid))

    async def lend(self) -> tuple[int, int]:
        """The fid's number and the offset, for handing it over; from then on the node keeps the offset."""
        with self._connection.told(self._subject):
            await self._settle()
            await self._written()
            number = fid_number(self._chan)
        self._lent = True
        return number, self._offset

    def release(self) -> Chan:
        """The chan itself, for who uses it from now on instead of this file."""
        return self._chan

    async def _settle(self) -> None:
        """After somebody else had it: go on where they stopped, as after fork."""
        if self._lent:
            self._offset = await self._offset_of(fid_number(self._chan))
            self._lent = False


async def read_whole(file: NodeFile) -> bytes:
    """All that is left of it."""
    parts: list[bytes] = []
    while data := await file.read():
        parts.append(data)
    return b"".join(parts)


async def read_answer(file: NodeFile) -> bytes:
    """What a file answers to what was written to it."""
    file.rewind()
    return await read_whole(file)


class NodeWatch:
    """A `shell.system.Watch` of a file of the node."""

    def __init__(self, watching: Watching, inbox: Inbox) -> None:
        self._watching = watching
        self._inbox = inbox

    async def next(self) -> Notice:
        return await self._inbox.next()

    async def close(self) -> None:
        self._watching.end()


class Posting(NodeFile):
    """A file of /srv, which is there until it is closed."""

    async def close(self) -> None:
        chan = self._chan
        # If somebody took it off before, or the node is gone, it is no more.
        with suppress(CognuError), self._connection.told(self.path):
            await finish(dispatch(chan, WRITE, chan.server.remove, chan.fid))
        chan.close()


def fid_number(chan: Chan) -> int:
    """The number by which the node knows an open chan as a descriptor. Raises BADF if it is closed."""
    fid = chan.fid
    assert isinstance(fid, FarFid)
    return fid.number
