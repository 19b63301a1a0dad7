"""When each peer was linked last, beyond this node's end: in the peer book, in seconds.

The disk is written when a link came or went, and every few minutes while there is one, but not more often than once in
PAUSE_SECONDS, however often links come and go; and when the node stops. One that is killed knows it to these minutes.
The wall clock may be wrong: what it says was in the future is not known, and the next link puts it right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from cognu.errors import CognuError
from cognu.mesh.identity import PeerBook
from cognu.mesh.liveness import SECOND
from cognu.world import Clock
from cognu.world.timing import end_tasks, within

log = logging.getLogger("cognu.node")

PAUSE_SECONDS: Final = 60.0
EVERY_SECONDS: Final = 300.0


class Seen:
    """End it with `close`, while links are still up. `is_linked` tells of a fingerprint."""

    def __init__(self, clock: Clock, book: PeerBook, is_linked: Callable[[str], bool]) -> None:
        self._clock = clock
        self._book = book
        self._is_linked = is_linked
        self._linked: set[str] = set()
        self._at: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._refused = False

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        if self._task is not None:
            await end_tasks(self._task)
        self.look()
        self._write()

    def look(self) -> None:
        """A link may have come or gone."""
        now, before = self._clock.now() // SECOND, self._linked
        peers = {peer.fingerprint for peer in self._book.all()}
        self._linked = {peer for peer in peers if self._is_linked(peer)}
        self._at = {peer: at for peer, at in self._at.items() if peer in peers}
        self._at |= dict.fromkeys((self._linked | before) & peers, now)
        if self._linked != before:
            self._changed.set()

    def last(self, fingerprint: str) -> int | None:
        """When the peer was linked last, wall-clock ns, as of the last `look`; None if that is not known."""
        peer, now = self._book.get(fingerprint), self._clock.now()
        at = self._at.get(fingerprint, 0) or (0 if peer is None else peer.seen)
        return at * SECOND if 0 < at * SECOND <= now else None

    async def _keep(self) -> None:
        while True:
            try:
                await within(self._clock, EVERY_SECONDS, self._changed.wait())
            except TimeoutError:
                self.look()
            self._changed.clear()
            self._write()
            await self._clock.sleep(PAUSE_SECONDS)

    def _write(self) -> None:
        try:
            self._book.note_seen(self._at)
            self._refused = False
        except CognuError as error:
            if not self._refused:
                log.warning("when peers were seen last can't be kept: %s", error)
            self._refused = True
