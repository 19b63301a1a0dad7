"""Calls of the mount driver, and what an answer that comes after its caller gave up is to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cognu.ninep import messages as m
from cognu.ninep.messages import Reply, Request
from cognu.ninep.types import L_TRUNC, OTRUNC

CHANGES = (
    m.Twrite, m.Tcreate, m.Tlcreate, m.Tremove, m.Twstat, m.Tsetattr, m.Tmkdir, m.Tsymlink, m.Tlink, m.Tmknod,
    m.Trename, m.Trenameat, m.Tunlinkat, m.Txattrcreate,
)  # fmt: skip
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


async def take_kept(
    kept: list[Kept], offset: int, count: int, is_stored: Callable[[int], Awaitable[bool]]
) -> bytes | None:
    """What the first of a fid's cancelled reads brought after all, or what is left of it; None if that is nothing.

    A stream would lose it for ever, at whatever offset it is read next. A stored file, which has bytes up to what
    `is_stored` is asked for, is read again.
    """
    first = kept[0]
    await asyncio.wait([first.settled])
    doubtful = first.data is not None and (first.at != offset or not first.data)
    if doubtful and await is_stored(first.at + len(first.data or b"")):
        first.data = None
    taken = first.take(count)
    if first.data is None and first in kept:
        kept.remove(first)
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


def is_change(request: Request) -> bool:
    """Whether it changes something at the server, so that without its answer the outcome is unknown."""
    if isinstance(request, m.Tcomp):
        return any(is_change(part) for part in request.parts)
    if isinstance(request, m.Tlopen):
        return bool(request.flags & L_TRUNC)
    if isinstance(request, m.Topen):
        return bool(request.mode & OTRUNC)
    return isinstance(request, CHANGES)


def has_result(future: asyncio.Future[Reply]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
