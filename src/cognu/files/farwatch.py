"""The mount driver's watches: each has a fid of its own at the server, and one Tevent waits for the events of all.

While nobody watches none waits, and while nothing happens nothing is sent. When the connection is lost, all who watch
are told BROKEN: they look again, and watch anew where they find the file next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from cognu.errors import CognuError, E, FileError, ProtocolError
from cognu.files.server import End, Notice, Tell
from cognu.ninep import messages as m
from cognu.ninep.client import ClientSession
from cognu.ninep.watches import BROKEN, ENDS, LOST, REVOKED, Event, unpack_events

log = logging.getLogger("cognu.mount")

COUNT = 1 << 14
"""Bytes of events asked for at once."""
MOST_REFUSED = 16
"""Times in a row that events may be held back. A server has some after each time, unless more was revoked meanwhile."""
Ask = Callable[[type[m.Rwatch] | type[m.Revent], m.Twatch | m.Tevent], Awaitable[m.Rwatch | m.Revent]]


class FarWatches:
    """The watches of one connection."""

    def __init__(
        self,
        session: ClientSession,
        ask: Ask,
        clone: Callable[[int], Awaitable[int]],
        discard: Callable[[int], None],
        fail: Callable[[CognuError], None],
        revoked: Callable[[], None],
    ) -> None:
        self._session = session
        self._ask = ask
        self._clone = clone
        self._discard = discard
        self._fail = fail
        self._revoked = revoked
        self._tells: dict[int, tuple[Tell, int]] = {}  # by the watch's number; with its fid
        self._cursor = 0
        self.settled = asyncio.Event()  # it is known whether the server can tell
        self.asking: asyncio.Task[None] | None = None

    async def watch(self, fid: int, kinds: int, tell: Tell) -> End:
        """As `FileServer.watch`. Raises NOTSUP if the server has no such messages, or can't tell."""
        await self.settled.wait()
        if not self._session.watches:
            raise FileError(E.NOTSUP, "watch", "the server does not tell of changes")
        own = await self._clone(fid)
        try:
            reply = await self._ask(m.Rwatch, m.Twatch(own, kinds))
        except BaseException:
            self._discard(own)  # which ends a watch that there is nevertheless
            raise
        assert isinstance(reply, m.Rwatch)
        # Its events come after the Rwatch, and whoever waited for that goes on before who waits for them.
        self._tells[reply.watch] = tell, own
        if self.asking is None:
            self.asking = asyncio.get_running_loop().create_task(self._ask_on())
            self.asking.add_done_callback(self._asked)
        return partial(self._end, reply.watch, own)

    def _end(self, watch: int, own: int) -> None:
        if self._tells.get(watch, (None, -1))[1] != own:
            return
        del self._tells[watch]
        self._discard(own)
        if not self._tells and self.asking is not None:
            self.asking.cancel()
            self.asking = None

    async def _ask_on(self) -> None:
        refused = 0  # since the last event
        try:
            while self._tells:
                try:
                    reply = await self._ask(m.Revent, m.Tevent(self._cursor, min(COUNT, self._session.io_limit)))
                except FileError as error:
                    refused += 1
                    if error.error is not E.REVOKED or refused > MOST_REFUSED:
                        raise
                    continue  # some of it may not be told any more; the rest is
                refused = 0
                assert isinstance(reply, m.Revent)
                events = list(unpack_events(reply.data))
                if not events or events[0].cursor <= self._cursor:
                    raise ProtocolError(E.BADMESSAGE, "Revent", "it says nothing new")
                for event in events:
                    self._cursor = event.cursor
                    self._tell(event)
        except ProtocolError as error:
            self._fail(error)
        except FileError as error:
            log.warning("no change is told any more: %s", error)
            self.broken()

    def _asked(self, task: asyncio.Task[None]) -> None:
        if self.asking is task:
            self.asking = None

    def _tell(self, event: Event) -> None:
        if event.kind == LOST and not event.watch:
            for tell, _ in list(self._tells.values()):
                tell(Notice(LOST))
            return
        tell_it, own = self._tells.get(event.watch, (None, 0))
        if tell_it is None:
            return  # it was ended here meanwhile
        if event.kind == REVOKED:
            self._revoked()  # nothing that was asked for ahead is handed out any more
        if event.kind & ENDS:
            del self._tells[event.watch]
            self._discard(own)
        tell_it(Notice(*event[2:]))

    def broken(self) -> None:
        """The connection is lost, or the server can't tell any more."""
        self.settled.set()
        tells, self._tells = self._tells, {}
        for tell, own in tells.values():
            self._discard(own)
            tell(Notice(BROKEN))
        if self.asking is not None and self.asking is not asyncio.current_task():
            self.asking.cancel()
