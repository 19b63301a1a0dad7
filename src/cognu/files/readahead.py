"""What is asked of a far file before it is wanted, so that reading it in order is not one round trip after another.

Only for files that stay what they are: plain ones with something in them, by their attributes, and not one whose qid
has version 0, which is made up as it is read (Linux v9fs caches none of these either) and may give each byte once.
And only while one reader reads whole pieces in order: after the second, more and more of what follows is asked for.
An answer is good for the moment that such a reader needs to come for it, is dropped if the file is changed through the
same mount, and never says that the file is at its end: who comes to the end asks the file itself, which may have grown.
How much is asked for follows what the link carries (`files/flow.py`).

What is here was allowed when it was asked for, and may have been revoked at its owner since. So an answer is handed
out only while another request for the file is under way, or after the file was asked once more, for no bytes; and the
first refusal ends all answers. Once whoever reads could have heard of a revocation, a round trip after it, no byte
comes from here; until then at most what was asked for ahead, as when the owner's answers were on their way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from cognu.errors import FileError
from cognu.files.flow import ALL_BYTES, CEILING, Flow
from cognu.ninep.types import DMDEVICE, DMDIR, DMNAMEDPIPE, DMSOCKET, DMSYMLINK, OACCESS, OREAD, Qid, Stat
from cognu.world import Clock

PIECE = 1 << 16
"""The least that is asked for at once, however little the reader takes."""
GOOD_FOR = 250_000_000
"""Nanoseconds that an answer waits for its reader."""

T = TypeVar("T")
_OF_NO_PLAIN_FILE = DMDIR | DMSYMLINK | DMDEVICE | DMNAMEDPIPE | DMSOCKET
Data = bytes | memoryview
Ask = Callable[[int, int, int], Coroutine[Any, Any, Data]]
"""Read (fid, offset, count); cancelling it flushes the request."""
Look = Callable[[int], Coroutine[Any, Any, bool]]
"""Whether the open file (fid) is a plain one with something in it. May raise `FileError`."""
Direct = Callable[[int, int], Awaitable[Data]]


class _Part:
    """A piece that was asked for at `start`; `taken` bytes of it are with the reader."""

    __slots__ = ("answered", "count", "start", "taken", "task")

    def __init__(self, start: int, count: int, shared: AheadOfAll, fid: int, refused: Callable[[], None]) -> None:
        self.start = start
        self.count = count
        self.taken = 0
        self.answered: int | None = None  # monotonic time
        self.task = shared.ask(fid, start, count)
        mark = shared.flow.begin(count, shared.clock.monotonic())

        def note(task: asyncio.Task[Data]) -> None:
            self.answered = now = shared.clock.monotonic()
            if task.cancelled():
                shared.flow.give_up(mark)
            elif task.exception() is not None:
                shared.flow.give_up(mark)
                refused()
            else:
                shared.flow.end(mark, len(task.result()), now)

        self.task.add_done_callback(note)


class AheadOfAll:
    """What the reads ahead of one mount share; `tasks` are under way."""

    def __init__(self, ask: Ask, look: Look, clock: Clock) -> None:
        self.clock = clock
        self.tasks: set[asyncio.Task[Any]] = set()
        self.room = ALL_BYTES
        self.flow = Flow()
        self.readers: dict[int, set[ReadAhead]] = {}  # by the file's qid.path
        self._ask = ask
        self._look = look

    def drop(self) -> None:
        """Something was revoked, or the connection is lost: nothing that was asked for is handed out any more."""
        for readers in self.readers.values():
            for reader in readers:
                reader.drop()

    def changed(self, path: int) -> None:
        """A file is being changed, or has just been."""
        for reader in self.readers.get(path, ()):
            reader.drop()

    def ask(self, fid: int, offset: int, count: int) -> asyncio.Task[Data]:
        return self._begun(self._ask(fid, offset, count))

    def look(self, fid: int) -> asyncio.Task[bool]:
        return self._begun(self._look(fid))

    async def check(self, fid: int, offset: int) -> bool:
        """Whether the file may still be read."""
        try:
            await self._ask(fid, offset, 0)
        except FileError:
            return False
        return True

    def _begun(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._asked)
        return task

    def _asked(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, in case nobody comes for it


class ReadAhead:
    """The reads ahead of one open file: without gaps, and from where the last read ended."""

    __slots__ = (
        "_all",
        "_alone",
        "_depth",
        "_fid",
        "_limit",
        "_next",
        "_parts",
        "_path",
        "_piece",
        "_plain",
        "_running",
    )

    def __init__(self, shared: AheadOfAll, fid: int, path: int, limit: int) -> None:
        """Of the file `path`, open as `fid`. `limit` is the most bytes to ask for in one request."""
        self._all = shared
        self._fid = fid
        self._path = path
        self._limit = limit
        self._next = 0
        self._depth = 0  # pieces
        self._running = 0  # reads that somebody waits for
        self._alone = True  # until there are several at once: then the reader reads ahead himself
        self._parts: deque[_Part] = deque()
        self._piece = 0
        self._plain: asyncio.Task[bool] | None = None  # asked for with the second read in order
        shared.readers.setdefault(path, set()).add(self)

    async def read(self, offset: int, count: int, direct: Direct) -> Data:
        """`count` bytes or fewer; `direct` reads what was not asked for ahead. Cancelled, it leaves what was."""
        self._running += 1
        if self._running > 1:
            self._alone = False
            self.drop()
        if self._plain is None and self._alone and offset == self._next > 0:
            self._plain = self._all.look(self._fid)
            self._plain.add_done_callback(self._looked)
        try:
            data = await self._taken(offset, count)
            if not data:
                self.drop()
                data = await direct(offset, count)
        finally:
            self._running -= 1
        in_order = offset == self._next and offset > 0
        self._next = offset + len(data)
        if in_order and self._alone and (len(data) == count or self._parts):
            self._go_on(max(count, PIECE))
        return data

    async def _taken(self, offset: int, count: int) -> Data:
        """From the first part, if it is what is wanted; else nothing."""
        if not self._parts:
            return b""
        part = self._parts[0]
        old = part.answered is not None and self._all.clock.monotonic() - part.answered > GOOD_FOR
        if old or part.start + part.taken != offset:
            return b""
        if all(other.task.done() for other in self._parts) and not await self._all.check(self._fid, offset):
            return b""
        await asyncio.wait([part.task])
        if part.task.cancelled() or part.task.exception() is not None:
            return b""  # asked directly, the file says why
        if not self._parts or self._parts[0] is not part or part.start + part.taken != offset:
            return b""  # another read was first
        data = part.task.result()
        if part.taken == 0 and len(data) <= count:
            taken = data
        else:
            taken = memoryview(data)[part.taken : part.taken + count]
        part.taken += len(taken)
        if part.taken == len(data):
            self._all.room += self._parts.popleft().count
            if len(data) < part.count:
                self.drop()  # what comes next is not where the other parts are
        return taken

    def _go_on(self, piece: int) -> None:
        """Ask for more, twice as much as the time before, up to what the link carries."""
        piece = min(piece, self._limit)
        self._piece = piece
        if not self._is_plain() or (len(self._parts) > self._depth // 2 and not self._parts[-1].task.done()):
            return
        self._depth = min(self._depth * 2 or 1, max(1, CEILING // piece))
        last = self._parts[-1] if self._parts else None
        at = self._next if last is None else last.start + last.count
        held = sum(part.count for part in self._parts)  # the pieces before may have been larger
        while len(self._parts) < self._depth and self._all.room >= piece:
            if not self._all.flow.fits(held, piece):
                break
            held += piece
            self._all.room -= piece
            self._parts.append(_Part(at, piece, self._all, self._fid, self.drop))
            at += piece

    def _looked(self, _: object) -> None:
        """It is known whether the file is plain; perhaps after the read that was to go on from it."""
        if self._piece and self._alone and not self._running and not self._parts:
            self._go_on(self._piece)

    def _is_plain(self) -> bool:
        look = self._plain
        if look is None or not look.done() or look.cancelled() or look.exception() is not None:
            return False
        return look.result()

    def went_to(self, offset: int) -> None:
        """The reader has what is before `offset` by another way."""
        if not self._parts:
            self._next = offset

    def close(self) -> None:
        self.drop()
        if self._plain is not None:
            self._plain.cancel()
        readers = self._all.readers[self._path]
        readers.discard(self)
        if not readers:
            del self._all.readers[self._path]

    def drop(self) -> None:
        """Give up on everything that was asked for."""
        self._depth = 0
        while self._parts:
            part = self._parts.pop()
            self._all.room += part.count
            part.task.cancel()


def may_read_ahead(qid: Qid, mode: int) -> bool:
    """Whether an open file's bytes may be such as stay where they are, and this opening changes none."""
    return qid.type == 0 and qid.version != 0 and mode & OACCESS == OREAD


def is_plain(stat: Stat) -> bool:
    """By convention (stat(5)) the length of a stream is 0."""
    return stat.length > 0 and not stat.mode & _OF_NO_PLAIN_FILE
