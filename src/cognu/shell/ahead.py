"""Work on many files, begun before its turn, so that files on another machine are not one round trip after another.

What commands do to a list of paths or to a tree they do in order, and so it looks from outside: output, refusals and
status are as if nothing was begun early. What is under way or waits for its turn is bounded. Cancelling who asked for
it cancels and awaits all of it.

Begun early, work has more files open at once than it would have in its turn. Where a limit is too low for that, `Room`
goes on with fewer at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from cognu.errors import E, FileError

AT_ONCE = 64
"""Pieces of work that are under way or wait for their turn."""
LISTED_AHEAD, LISTED_IN_ALL = 16, 32
"""Directories listed at once, each of which may ask for the attributes of 64 entries; those a walk lists or holds."""

_ANY = 1 << 30
"""More pieces of work than there ever are."""
_TOO_MANY_OPEN = (E.MFILE, E.NFILE, E.DQUOT)
"""DQUOT may be for want of something else; then it is told after some more tries."""
OUT_OF_REACH = (E.SESSIONLOST, E.RESTARTED, E.AWAY, E.HOSTUNREACH)
_AFTER_THAT = (E.NOENT, E.BADF, E.STALE)
"""What files of a machine that is out of reach may be refused with while others are under way."""

T = TypeVar("T")
R = TypeVar("R")
Work = Callable[[T], Coroutine[Any, Any, R]]
Done = AsyncIterator[tuple[T, "asyncio.Task[R]"]]


class Room:
    """How many pieces of work may have files open at once: any number, until one is refused since too many are open.

    Then half as many, and so on, until nobody is left who wants any. Only what ends by itself belongs here, and no
    piece may wait for another one: the others wait for it.
    """

    def __init__(self) -> None:
        self._most = _ANY
        self._busy = 0
        self._wanted = 0  # pieces under way and those that wait
        self._ended = asyncio.Event()

    async def run(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Do `work`; when too many files are open, once more from its beginning, when others have closed theirs.

        Raises MFILE, NFILE or DQUOT if it was refused so while no other piece was under way.
        """
        self._wanted += 1
        try:
            while True:
                while self._busy >= self._most:
                    await self._ended.wait()
                most = self._most
                self._busy += 1
                try:
                    return await work()
                except FileError as error:
                    if most == 1 or error.error not in _TOO_MANY_OPEN:
                        raise
                    if self._most == most:  # else another that was refused with this one has seen to it
                        self._most = max(1, min(most, self._busy) // 2)
                finally:
                    self._busy -= 1
                    self._ended.set()
                    self._ended = asyncio.Event()
        finally:
            self._wanted -= 1
            if not self._wanted:
                self._most = _ANY


@asynccontextmanager
async def ahead(
    items: AsyncGenerator[T] | Iterable[T], work: Work[T, R], most: int = AT_ONCE
) -> AsyncIterator[Done[T, R]]:
    """Do `work` to every item, to `most` of them at once: an iterator of items with their tasks, done, in order.

    Raises what `items` raises, after all that came before. At the end the generator is closed, and what is left is
    cancelled and awaited. Work that nobody asked about is not heard of: what it made must not need closing.
    """
    room = asyncio.Semaphore(most)
    begun: asyncio.Queue[tuple[T, asyncio.Task[R]] | None] = asyncio.Queue()
    tasks: set[asyncio.Task[R]] = set()

    async def begin() -> None:
        try:
            async with aclosing(_each(items)) as each:
                async for item in each:
                    await room.acquire()
                    task = asyncio.create_task(work(item))
                    tasks.add(task)
                    begun.put_nowait((item, task))
        finally:
            begun.put_nowait(None)

    async def finished() -> AsyncGenerator[tuple[T, asyncio.Task[R]]]:
        while (found := await begun.get()) is not None:
            await asyncio.wait([found[1]])
            tasks.discard(found[1])
            yield found
            room.release()
        await beginning

    beginning = asyncio.create_task(begin())
    try:
        async with aclosing(finished()) as results:
            yield results
    finally:
        under_way = (beginning, *tasks)  # cancelled, the first begins no other
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _each(items: AsyncGenerator[T] | Iterable[T]) -> AsyncGenerator[T]:
    if isinstance(items, AsyncGenerator):
        async with aclosing(items):
            async for item in items:
                yield item
    else:
        for item in items:
            yield item


async def all_of(
    items: AsyncGenerator[T] | Iterable[T],
    work: Work[T, None],
    refused: Callable[[FileError], Coroutine[Any, Any, object]],
    most: int = AT_ONCE,
) -> None:
    """Do `work` to every item; `refused` gets the refusals, in order, and the others go on.

    After one that says that a whole machine is out of reach no other is begun, and those that are end first; that is
    told once, also of those that only then were refused as if their files were not there.
    """
    gone: FileError | None = None

    async def unless_gone(item: T) -> None:
        nonlocal gone
        if gone is not None:
            return
        try:
            await work(item)
        except FileError as error:
            if gone is not None and error.error in _AFTER_THAT:
                raise FileError(gone.error, error.subject, gone.detail) from error
            if error.error in OUT_OF_REACH:
                gone = gone or error
            raise

    told = False
    async with ahead(items, unless_gone, most) as done:
        async for _, task in done:
            failed = task.exception()
            if isinstance(failed, FileError):
                out_of_reach = failed.error in OUT_OF_REACH
                if not (told and out_of_reach):
                    await refused(failed)
                told = told or out_of_reach
            elif failed is not None:
                raise failed
