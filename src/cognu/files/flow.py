"""How many bytes are worth having on their way: as many as the link carries in a round trip, twice over.

One `Flow` for each direction of a connection, told when each request goes and when its answer comes. The product of
bandwidth and delay is estimated as BBR does (draft-ietf-ccwg-bbr): the rate is the most that was answered in the time
of one request, of the last while; the delay the shortest that a request took. With one product on its way the link is
busy; the second covers the time until the answers are taken. From little it doubles with every round trip, and it never
grows because of the queue that it makes itself: the shortest delay is measured anew with little on its way.

No clock is read here: times are nanoseconds of a clock that only goes forward.
"""

from __future__ import annotations

from typing import NamedTuple

FLOOR = 1 << 18
"""What may be on its way of one file, in bytes, however slow the link."""
CEILING = 1 << 24
"""The most of one file, however fast and far, but for half a request."""
ALL_BYTES = 1 << 25
"""The most of all files of one connection."""
PROBE_AFTER = 10_000_000_000
"""Nanoseconds after which the shortest delay is measured anew, with one request of each file on its way."""
PROBE_MOST = 1_000_000_000
"""Nanoseconds after which that is over, though there was never one request alone."""
ROUNDS = 10
LEAST_WHILE = 1_000_000_000
"""A rate is good for so many of the shortest delays, and for so many nanoseconds at least, once or twice over."""
_SECOND = 1_000_000_000


class Mark(NamedTuple):
    """A request of `size` bytes as it goes, at `time`, when `answered` bytes had been answered."""

    size: int
    time: int
    answered: int
    busy: bool
    """So much was on its way that its rate is the link's, not that of who asks."""
    alone: bool
    """Nothing else was on its way: its delay is the link's."""
    probing: bool
    """It goes while the shortest delay is measured anew."""


class Flow:
    """One direction of one connection. `flying` bytes are on their way; `window` of a file may be."""

    __slots__ = (
        "_answered",
        "_before",
        "_best",
        "_lowest",
        "_probing",
        "_shortest",
        "_shortest_at",
        "_since",
        "flying",
        "window",
    )

    def __init__(self) -> None:
        self.flying = 0
        self.window = FLOOR
        self._answered = 0
        self._best = 0  # bytes a second, since `_since`
        self._before = 0  # in the while before
        self._since = 0
        self._shortest = 0  # nanoseconds; 0: not known
        self._shortest_at = 0
        self._probing = False
        self._lowest = 0  # of the requests that went while probing; 0: none is answered

    def fits(self, held: int, size: int) -> bool:
        """Whether `size` bytes more are worth it of a file that has `held` on their way. One request always is.

        Half of it may be beyond a window above the floor: one request alone shows a product of at most its own size, so
        that twice that never quite has room for two, and what goes one by one would never learn that there is room.
        """
        if not held or self._probing:
            return not held
        return held + size <= FLOOR or FLOOR < self.window >= max(held, self.flying) + size // 2

    def begin(self, size: int, now: int) -> Mark:
        """A request goes. Its `Mark` is for `end` or `give_up`, one of them, once."""
        if self._shortest and not self._probing and now - self._shortest_at > PROBE_AFTER:
            self._probing, self._lowest = True, 0
        alone = not self.flying
        self.flying += size
        busy = not self._probing and 2 * self.flying >= self.window
        return Mark(size, now, self._answered, busy, alone, self._probing)

    def give_up(self, mark: Mark) -> None:
        """It was refused, or nobody wants it: it says nothing of the link."""
        self.flying -= mark.size

    def end(self, mark: Mark, size: int, now: int) -> None:
        """Its answer came, and with it `size` bytes were carried."""
        self.flying -= mark.size
        self._answered += size
        took = now - mark.time
        if took <= 0 or not size:
            return
        self._delayed(took, mark, now)
        self._rated((self._answered - mark.answered) * _SECOND // took, mark.busy, now)
        product = max(self._best, self._before) * self._shortest // _SECOND
        self.window = min(max(FLOOR, 2 * product), CEILING)

    def _delayed(self, took: int, mark: Mark, now: int) -> None:
        if not self._shortest or took <= self._shortest:
            self._shortest, self._shortest_at, self._probing = took, now, False
        elif self._probing and mark.probing:
            self._lowest = min(took, self._lowest or took)
            if mark.alone or now - self._shortest_at > PROBE_AFTER + PROBE_MOST:
                self._shortest, self._shortest_at, self._probing = self._lowest, now, False

    def _rated(self, rate: int, busy: bool, now: int) -> None:
        """Who asks for less than the link carries lowers nothing."""
        if not busy and rate <= max(self._best, self._before):
            return
        if now - self._since > max(ROUNDS * self._shortest, LEAST_WHILE):
            self._before, self._best, self._since = self._best, 0, now
        self._best = max(self._best, rate)
