"""Calls of the mount driver, and what an answer that comes after its caller gave up is to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cognu.ninep import messages as m
from cognu.ninep.messages import Reply, Request

Late = Callable[[Reply | None], None]
"""Told, once, what was answered to a call whose caller was cancelled, or None."""


class Kept:
    """What a cancelled read at the offset `at` comes to, when `settled` is done: `data`, or None if to nothing.

    An end is something: a terminal says it once.
    """

    __slots__ = ("at", "data", "settled")

    def __init__(self, at: int, settled: asyncio.Future[None]) -> None:
        self.at = at
        self.data: bytes | None = None
        self.settled = settled

    def late(self, reply: Reply | None) -> None:
        if isinstance(reply, m.Rread):
            self.data = bytes(reply.data)
        self.settled.set_result(None)

    def take(self, count: int) -> bytes | None:
        if self.data is None:
            return None
        taken, rest = self.data[:count], self.data[count:]
        self.at += len(taken)
        self.data = rest or None
        return taken


class Call:
    __slots__ = ("future", "late", "request")

    def __init__(self, request: Request, future: asyncio.Future[Reply], late: Late | None) -> None:
        self.request = request
        self.future = future
        self.late = late

    def too_late(self, reply: Reply | None) -> None:
        """The caller was cancelled: whoever undoes the call is told, once, what was answered after all, or None."""
        late, self.late = self.late, None
        if late is not None:
            late(reply)


def has_result(future: asyncio.Future[Reply]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
