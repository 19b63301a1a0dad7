"""Questions to the host's resolver, which may be long without an answer: bounded for each who asks.

All that one peer starts here asks together, and so does all that no peer does. Each has `AT_ONCE` questions under way
and `WAITING` behind them; the next is refused. A question that nobody waits for any more counts until the host has
answered, for as long does it hold a thread. So whoever asks for names that nobody answers for is in nobody's way but
its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cognu.errors import E, FileError
from cognu.files.limits import QuotaOf, nobodys, whose
from cognu.files.server import Caller
from cognu.world.timing import end_tasks

T = TypeVar("T")
AT_ONCE = 4
WAITING = 64


class _Asking:
    """Of one who asks."""

    def __init__(self) -> None:
        self.under_way = 0
        self.waiting: dict[asyncio.Future[bool], None] = {}  # True: its turn has come; False: it will not


class Lookups:
    """What several servers ask together. `close` ends it."""

    def __init__(self, quota_of: QuotaOf = nobodys) -> None:
        self._quota_of = quota_of
        self._asking: dict[object, _Asking] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def ask(self, caller: Caller | None, question: Callable[[], Awaitable[T]]) -> T:
        """What `question` gives, asked when it is the caller's turn. Raises AGAIN, and what it raises.

        Cancelled while it waits for its turn, it is not asked.
        """
        who = None if caller is None else whose(self._quota_of(caller))
        asking = self._asking.setdefault(who, _Asking())
        if asking.under_way < AT_ONCE:
            asking.under_way += 1
        else:
            await self._turn(who, asking)
        task = asyncio.ensure_future(_answer(question))
        self._tasks.add(task)

        def over(_: object) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()  # nobody may be there to hear of it
            self._next(who, asking)

        task.add_done_callback(over)
        await asyncio.wait([task])
        if task.cancelled():
            raise FileError(E.CANCELED, "lookups")
        return task.result()

    async def _turn(self, who: object, asking: _Asking) -> None:
        if len(asking.waiting) >= WAITING:
            raise FileError(E.AGAIN, "lookups", f"{AT_ONCE} are not answered yet, {WAITING} wait")
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asking.waiting[turn] = None
        try:
            came = await turn
        except asyncio.CancelledError:
            if turn in asking.waiting:
                del asking.waiting[turn]
            elif not turn.cancelled() and turn.result():
                self._next(who, asking)  # it had come
            raise
        if not came:
            raise FileError(E.CANCELED, "lookups")

    def _next(self, who: object, asking: _Asking) -> None:
        """One is over: whoever waits longest has its place."""
        while asking.waiting:
            turn = next(iter(asking.waiting))
            del asking.waiting[turn]
            if not turn.done():
                turn.set_result(True)
                return
        asking.under_way -= 1
        if not asking.under_way:
            del self._asking[who]

    async def close(self) -> None:
        """Who waits for an answer hears CANCELED."""
        for asking in self._asking.values():
            for turn in asking.waiting:
                if not turn.done():
                    turn.set_result(False)
            asking.waiting.clear()
        await end_tasks(*self._tasks)


async def _answer(question: Callable[[], Awaitable[T]]) -> T:
    return await question()
