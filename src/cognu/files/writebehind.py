"""Writes to a far file that are accepted before the file's server has them, so that they don't cost a trip each.

Only for plain files, which keep what is written at the place that was named: not one whose qid has version 0, which is
made up as it is used, and none opened to append. Who writes so must ask for the outcome in the end (`settle`), as
whoever closes a file does. The first write that fails is told once, by the next `write` or by `settle`, whichever
comes first; if nobody asks before the fid is gone, the log says so.

What is on its way is bounded by what the link carries (`files/flow.py`), as for reading ahead. Two writes of the same
bytes are never on their way together, for a server carries out what it has in any order; and whatever else is asked
about the file through the same mount waits until they are answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from cognu.errors import E, FileError
from cognu.files.flow import ALL_BYTES, Flow
from cognu.files.server import OAPPEND, OEXCL
from cognu.ninep.types import OACCESS, ORCLOSE, ORDWR, OWRITE, Qid
from cognu.world import Clock

log = logging.getLogger("cognu.writebehind")

Ask = Callable[[int, int, int, bytes], Coroutine[Any, Any, int]]
"""Write (fid, the file's qid.path, offset, data); returns how many bytes were taken."""


class BehindOfAll:
    """What the writes of one mount share."""

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self.ask = ask
        self.clock = clock
        self.room = ALL_BYTES  # but for one write of each file
        self.flow = Flow()
        self.tasks: set[asyncio.Task[None]] = set()
        self.files: dict[int, set[WriteBehind]] = {}  # by the file's qid.path: those that have something on its way

    def overlapping(self, path: int, place: range) -> set[asyncio.Task[None]]:
        """What is on its way to the same bytes of the file, through whichever open of it."""
        return {
            task
            for file in self.files.get(path, ())
            for task, other in file.under_way.items()
            if place.start < other.stop and other.start < place.stop
        }

    async def quiet(self, path: int) -> None:
        """Nothing written to the file through this mount before is on its way when this returns."""
        while path in self.files:
            await asyncio.wait({task for file in self.files[path] for task in file.under_way})

    async def all_quiet(self) -> None:
        """The same of all files."""
        while self.tasks:
            await asyncio.wait(self.tasks)


class WriteBehind:
    """The writes through one open file. `under_way` has those not answered."""

    __slots__ = ("_all", "_bytes", "_failed", "_fid", "_path", "under_way")

    def __init__(self, shared: BehindOfAll, fid: int, path: int) -> None:
        self.under_way: dict[asyncio.Task[None], range] = {}
        self._all = shared
        self._fid = fid
        self._path = path
        self._bytes = 0
        self._failed: FileError | None = None

    async def write(self, offset: int, data: bytes) -> int:
        """Accept all of `data`; waits for room. Cancelled, or if it raises, it has accepted nothing."""
        place = range(offset, offset + len(data))
        self._tell()
        while (before := self._all.overlapping(self._path, place)) or not self._fits(len(data)):
            await asyncio.wait(before or self.under_way, return_when=asyncio.FIRST_COMPLETED)
        self._tell()
        task = asyncio.get_running_loop().create_task(self._send(offset, data))
        self._bytes += len(data)
        self._all.room -= len(data)
        self.under_way[task] = place
        self._all.tasks.add(task)
        self._all.files.setdefault(self._path, set()).add(self)
        task.add_done_callback(self._sent)
        return len(data)

    async def settle(self) -> None:
        """All that was accepted is answered. Raises what a write that was accepted failed with, once."""
        while self.under_way:
            await asyncio.wait(self.under_way)
        self._tell()

    def close(self, gone: Callable[[], None]) -> None:
        """No more is written; `gone` is called when all is answered."""

        def last(_: object) -> None:
            if not self.under_way:
                if self._failed is not None:
                    log.error("a write that was accepted failed, and nobody asked for its outcome: %s", self._failed)
                gone()

        if not self.under_way:
            last(None)
        for task in self.under_way:
            task.add_done_callback(last)  # after `_sent`, which was there first

    def _fits(self, size: int) -> bool:
        """Whether so many bytes more may be on their way. One write always fits."""
        return not self.under_way or (size <= self._all.room and self._all.flow.fits(self._bytes, size))

    def _tell(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            try:
                raise failed
            finally:
                del failed  # an error that its own frame holds keeps all that is in use further up

    async def _send(self, offset: int, data: bytes) -> None:
        done = 0
        mark = self._all.flow.begin(len(data), self._all.clock.monotonic())
        try:
            while done < len(data):
                taken = await self._all.ask(self._fid, self._path, offset + done, data[done:])
                if not taken:
                    raise FileError(E.IO, "write", "nothing was taken")
                done += taken
        except BaseException:
            self._all.flow.give_up(mark)
            raise
        self._all.flow.end(mark, done, self._all.clock.monotonic())

    def _sent(self, task: asyncio.Task[None]) -> None:
        size = len(self.under_way.pop(task))
        self._bytes -= size
        self._all.room += size
        self._all.tasks.discard(task)
        if not self.under_way:
            files = self._all.files[self._path]
            files.discard(self)
            if not files:
                del self._all.files[self._path]
        failed = FileError(E.NOTRECOVERABLE, "write") if task.cancelled() else task.exception()
        if failed is not None and self._failed is None:
            if isinstance(failed, FileError):
                self._failed = FileError(failed.error, failed.subject, failed.detail)
            else:
                self._failed = FileError(E.IO, "write", type(failed).__name__)


def may_write_behind(qid: Qid, mode: int) -> bool:
    """Whether what is written to a file opened so may be accepted before it is there."""
    special = mode & (OAPPEND | OEXCL | ORCLOSE)
    return qid.type == 0 and qid.version != 0 and mode & OACCESS in (OWRITE, ORDWR) and not special
