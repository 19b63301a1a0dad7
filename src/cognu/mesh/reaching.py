"""Getting a link to one peer up, and up again: who waits for it, each dial, and the pauses between them.

A dial is shared by all that wait for a link. When a link is lost and the session is kept, one task dials until the next
one or until the retention time is over: with pauses that double, half of each left to chance, which `hurry`
and `heard` end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol

from cognu.errors import CognuError, E, FileError
from cognu.mesh.liveness import SECOND
from cognu.mesh.session_core import Timing
from cognu.world import Senses
from cognu.world.timing import time_of_day, within

FAILED_SECONDS: Final = 1.0
"""How long a dial that found nobody stands for the next: one command asks more than once."""
EXPECT_SECONDS: Final = 10.0
"""How long a peer that is away and can't be dialled is waited for: if it dialled before, it will again."""


class Side(Protocol):
    """What a link is wanted for: a session."""

    @property
    def name(self) -> str:
        """The peer's."""

    @property
    def kept(self) -> bool:
        """Whether there is a session that a link would go on with."""

    @property
    def in_use(self) -> bool:
        """Whether channels are open."""

    def check_open(self) -> None:
        """Raises `LinkBroken` if no link is wanted any more."""

    async def dial_once(self) -> None:
        """Dial and greet; returns when the link is up, and leaves it running. Raises `CognuError`."""

    async def greeted(self) -> None:
        """Until a link is up, or none is on its way; that has a bound."""

    def run_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it in a task that ends with the session."""

    def give_up(self, detail: str) -> None:
        """The peer was away for too long: the session is lost."""


class _Failure:
    """That a dial found nobody, and until when that is the answer to others. Not the error itself, which leads to all
    that was in use where it was raised."""

    def __init__(self, error: FileError, until: int) -> None:
        self._said = (error.error, error.subject, error.detail)
        self.until = until

    def again(self) -> FileError:
        return FileError(*self._said)


class Reaching:
    """Of one session, which says when a link came (`linked`, then `up` is set) and went (`lost`)."""

    def __init__(self, world: Senses, timing: Timing, side: Side) -> None:
        self._world = world
        self._timing = timing
        self._side = side
        self.up = asyncio.Event()
        """While a link is."""
        self.dialled = False
        """Whether the last link was dialled by this side."""
        self.away: tuple[int, int] | None = None
        """Since when no link is up, and until when what waits for one is kept (wall-clock ns)."""
        self.since: int | None = None
        """Since when it is away (wall-clock ns), also once its session was given up for that; else None."""
        self.refused = False
        """While it is away: whether the last dial was refused by the machine at the peer's address."""
        self.on_away: Callable[[], None] = lambda: None
        """Called when `away` or `refused` has changed, and when a link went with its session."""
        self._attempt: asyncio.Task[None] | None = None
        self._anew = False  # whether the one under way was begun for what was heard while the one before was
        self._failure: _Failure | None = None
        self._returning: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """The network may be another now: dial without a pause, and anew if a dial is under way."""
        self._hurried.set()
        self._failure = None
        if self._attempt is not None and not self.up.is_set():
            self._attempt.cancel()  # who waits for it begins another

    def heard(self) -> None:
        """Somebody says that the peer is at another address: dial without a pause, and anew if a dial is under way.

        Not again if that was begun anew for the same: who says other addresses without end must not keep each dial from
        ending. What is heard then is dialled without a pause after it.
        """
        self._hurried.set()
        self._failure = None
        if self._attempt is not None and not self.up.is_set() and not self._anew:
            self._anew = True
            self._attempt.cancel()  # see above

    def linked(self, dialled: bool) -> None:
        self._failure = None
        self.dialled = dialled
        if self._returning is not None:
            self._returning.cancel()
            self._returning = None
        self.since = None
        self._set_away(None)

    def lost(self, kept: bool) -> None:
        """The link is gone; if the session is `kept`, see to the next one."""
        self.up.clear()
        if not kept:
            self.on_away()
            return
        self._hurried.clear()  # before the task begins: what hurries from now on counts
        self._returning = self._side.run_task(self._return())
        now = self.since = self._world.clock.now()
        self._set_away((now, now + int(self._timing.retention * SECOND)))

    async def connect(self) -> None:
        """Until a link is up; dials one if none is. Raises the dial's error if that fails and no other link came: with
        since when, if the peer was linked before, and as AWAY if its session was given up since.

        If nobody answered it raises the same without a dial for `FAILED_SECONDS`, unless a link came up, or `hurry` or
        `heard` was called meanwhile.
        """
        while not self.up.is_set():
            self._side.check_open()
            if self._failure is not None and self._now() < self._failure.until:
                raise self._told(self._failure.again())
            if self._attempt is None:
                self._attempt = self._side.run_task(self._side.dial_once())
                self._attempt.add_done_callback(self._attempt_over)
            attempt = self._attempt
            up = asyncio.ensure_future(self.up.wait())
            try:
                await asyncio.wait({attempt, up}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
            if attempt.done():
                if not attempt.cancelled() and attempt.exception() is not None and not self.up.is_set():
                    await self._failed(attempt.exception())
                if not self.up.is_set() and not attempt.cancelled():
                    error = attempt.exception()
                    if error is not None:
                        try:
                            raise self._told(error)
                        finally:
                            del error  # an error that its own frame holds keeps all that is in use further up

    def _attempt_over(self, attempt: asyncio.Task[None]) -> None:
        # What it ended with is for those that waited for it: who comes later has another dialled.
        if self._attempt is attempt:
            self._attempt = None
            if not attempt.cancelled():
                self._anew = False

    async def _failed(self, error: BaseException | None) -> None:
        """A dial ended with that: remember it, and wait for the peer's, if it may come."""
        failure = self._failure = _Failure(error, 0) if isinstance(error, FileError) else None
        del error  # see above
        # The peer may have dialled at the same time, and ended this side's link for its own.
        await self._side.greeted()
        await self._expect()
        if failure is not None and failure is self._failure:
            failure.until = self._now() + int(FAILED_SECONDS * SECOND)

    def _told(self, error: BaseException) -> BaseException:
        """Why nobody was found: of a peer that was linked it is known since when."""
        if self.since is None or not isinstance(error, FileError) or error.error is not E.HOSTUNREACH:
            return error
        since = time_of_day(self.since)
        if self.away is not None:
            return FileError(error.error, error.subject, f"away since {since}; {error.detail}")
        return FileError(E.AWAY, error.subject, f"since {since}; {error.error.text}: {error.detail}")

    async def _expect(self) -> None:
        """Wait a while for a peer that holds the session and has always been the one that dials."""
        if self._side.kept and not self.dialled:
            with suppress(TimeoutError):
                await within(self._world.clock, EXPECT_SECONDS, self.up.wait())

    def _now(self) -> int:
        return self._world.clock.monotonic()

    def _set_away(self, away: tuple[int, int] | None) -> None:
        if away != self.away:
            self.away = away
            self.refused = False
            self.on_away()

    def _note_refusal(self, refused: bool) -> None:
        # It proves nothing: whoever has the peer's address now may refuse. So the session is kept all the same.
        if refused != self.refused:
            self.refused = refused
            self.on_away()

    async def _pause(self, seconds: float) -> bool:
        """Whether `hurry` or `heard` ended it."""
        try:
            await within(self._world.clock, seconds, self._hurried.wait())
        except TimeoutError:
            return False
        self._hurried.clear()
        return True

    async def _return(self) -> None:
        """From the loss of a link until the next one (which cancels this) or the end of the retention time."""
        over = self._now() + int(self._timing.retention * SECOND)
        delay = self._timing.first_delay
        while True:
            left = (over - self._now()) / SECOND
            if left <= 0:
                break
            # Both sides notice a cut at about the same time; chance keeps them from dialling in step.
            chance = int.from_bytes(self._world.random.bytes(2), "big") / 65536
            dials = self.dialled or self._side.in_use  # who never dialled may not be able to
            if await self._pause(min(delay * (0.5 + chance / 2) if dials else left, left)):
                delay = self._timing.first_delay
            if dials:
                delay = min(delay * 2, self._timing.last_delay)
                self._failure = None  # it was long enough
                try:
                    # No longer than until then, however long the dial takes, which others may wait for.
                    await within(self._world.clock, max((over - self._now()) / SECOND, 0), self.connect())
                except CognuError as error:
                    self._note_refusal(error.error is E.CONNREFUSED)
                except TimeoutError:
                    break
        self._returning = None
        self._give_up()

    def _give_up(self) -> None:
        """The retention time is over. Who asks again at once, for the same command, is told the same without a dial."""
        assert self.since is not None
        refusal = f"; {E.CONNREFUSED.text}" if self.refused else ""
        detail = f"since {time_of_day(self.since)}; {self._timing.retention:g} seconds{refusal}"
        away = FileError(E.AWAY, self._side.name, detail)
        self._failure = _Failure(away, self._now() + int(FAILED_SECONDS * SECOND))
        self._side.give_up(detail)
        self._set_away(None)
