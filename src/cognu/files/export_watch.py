"""Twatch and Tevent carried out for an export: the watches of one connection, and the Tevent that waits.

An event goes out where it happens, in its turn among the answers: so what a client is answered after a change is
answered after the event. What waits to be sent is checked again then, as file data are (`Export`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.namespace import Namespace
from cognu.files.server import Notice
from cognu.files.steps import Steps
from cognu.files.watching import Watching, watch
from cognu.ninep import messages as m
from cognu.ninep.server import ServerSession
from cognu.ninep.watches import ENDS, LOST, Event, Ring, pack_event

EARLY = 16
"""Notices kept for a watch that the client does not know of yet; more make a LOST."""


class Watches:
    """`sources` is told, by tag, what an answer's events are of; `wake` has what was answered sent soon."""

    def __init__(self, session: ServerSession, sources: dict[int, list[Chan]], wake: Callable[[], None]) -> None:
        self._session = session
        self._sources = sources
        self._wake = wake
        self._ring = Ring(0)
        self._watchings: dict[int, Watching | None] = {}  # None: about to be, or over
        self._of_fid: dict[int, list[int]] = {}
        self._early: dict[int, list[Notice]] = {}
        self._waits: tuple[int, m.Tevent] | None = None

    def watch(self, namespace: Namespace, chan: Chan, message: m.Twatch) -> Steps[m.Rwatch]:
        """Raises INVAL, DQUOT, and what `watching.watch` does."""
        ring = self._ring
        if not self._of_fid:
            ring.most_watches = self._session.most_watches
        number = ring.watch(message.mask)
        self._early[number] = []
        try:
            watching = yield from watch(namespace, chan, message.mask, partial(self._told, number))
        except BaseException:
            del self._early[number]
            ring.end(number)
            raise
        self._watchings[number] = watching
        self._of_fid.setdefault(message.fid, []).append(number)
        # The client gets its number with the answer, which is on its way when this turn of the loop is over.
        asyncio.get_running_loop().call_soon(self._announced, number)
        return m.Rwatch(number)

    def _announced(self, number: int) -> None:
        for notice in self._early.pop(number, []):
            self._told(number, notice)

    def _told(self, number: int, notice: Notice) -> None:
        early = self._early.get(number)
        if early is not None:
            if notice.kind & (ENDS | LOST):
                early.clear()  # as in the ring, it is in place of all before
            elif len(early) >= EARLY:
                early[:] = [Notice(LOST)]
            early.append(notice)
            return
        if self._ring.add(number, *notice) and self._waits is not None:
            tag, message = self._waits
            self._answer(tag, message)
            self._wake()

    def ask(self, tag: int, message: m.Tevent) -> None:
        """Answer the call with what happened since, or keep it until something has. Raises ALREADY, INVAL."""
        if self._waits is not None:
            raise FileError(E.ALREADY, "Tevent", "one waits on this connection")
        self._answer(tag, message)

    def _answer(self, tag: int, message: m.Tevent) -> None:
        events = self._ring.since(message.cursor, message.count)
        if not events:
            self._waits = tag, message
            return
        self._waits = None
        sources = [chan.share() for chan in self._chans_of(events)]
        if sources:
            self._sources[tag] = sources
        self._session.reply(tag, m.Revent(b"".join(map(pack_event, events))))

    def _chans_of(self, events: list[Event]) -> list[Chan]:
        watchings = [self._watchings.get(number) for number in {event.watch for event in events}]
        return [chan for watching in watchings if watching is not None for chan in watching.chans]

    def stop(self, tag: int) -> bool:
        """Whether the Tevent that waits had that tag; it is not answered any more."""
        if self._waits is None or self._waits[0] != tag:
            return False
        self._waits = None
        return True

    def end_fid(self, fid: int) -> None:
        """The fid is clunked: its watches are over."""
        for number in self._of_fid.pop(fid, []):
            self._early.pop(number, None)
            self._ring.end(number)
            watching = self._watchings.pop(number, None)
            if watching is not None:
                watching.end()

    def end(self) -> None:
        """There are no fids any more: the connection is over, or begins anew."""
        for fid in list(self._of_fid):
            self.end_fid(fid)
        self._ring = Ring(0)
