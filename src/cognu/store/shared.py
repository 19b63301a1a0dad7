"""Results that several use at once: made for the first who asks, given up when the last one left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from cognu.errors import E, FileError

T = TypeVar("T")


class _Entry(Generic[T]):
    """`users` wait for the task or use its result."""

    __slots__ = ("task", "users")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.users = 0


class Use(Generic[T]):
    """One user's hold on a result."""

    __slots__ = ("_leave", "value")

    def __init__(self, value: T, leave: Callable[[], None]) -> None:
        self.value = value
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """May be called twice."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Shared(Generic[T]):
    """Results by key. `give_up` is called with one that nobody uses any more."""

    def __init__(self, give_up: Callable[[T], None]) -> None:
        self._give_up = give_up
        self._entries: dict[str, _Entry[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    def __len__(self) -> int:
        """Results in use or being made."""
        return len(self._entries)

    async def take(self, key: str, make: Callable[[], Coroutine[Any, Any, T]]) -> Use[T]:
        """The result for `key`, made now unless it is there or under way.

        Raises what `make` raises, to all who wait, and CANCELED if `close` ended it. Cancelling the last one who waits
        cancels the making.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(asyncio.get_running_loop().create_task(make()))
            self._tasks.add(entry.task)
            entry.task.add_done_callback(self._ended)
        entry.users += 1
        try:
            await asyncio.wait({entry.task})
            if entry.task.cancelled():
                raise FileError(E.CANCELED, key)
            value = entry.task.result()
        except BaseException:
            self._leave(key, entry)
            raise
        return Use(value, lambda: self._leave(key, entry))

    async def close(self) -> None:
        """Stop what is being made, and wait until it stopped. What is in use stays so."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _leave(self, key: str, entry: _Entry[T]) -> None:
        entry.users -= 1
        if entry.users:
            return
        del self._entries[key]
        task = entry.task
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            self._give_up(task.result())

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever waited was told; if nobody does any more, it is no one's.
