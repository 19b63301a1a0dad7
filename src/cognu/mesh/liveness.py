"""What one link owes and is owed, and what was measured on it. No clock is read here: times are nanoseconds of the
caller's monotonic clock.

Nothing is sent for the sake of measuring bandwidth. Where frames go, a PING goes with them now and then; its PONG is a
sample of the round trip, and by its acknowledgement tells how many bytes the other side has. The bytes between two
PONGs, by the time between them, are a sample of the delivery rate. Of these the most of the last while counts, as in
BBR (draft-ietf-ccwg-bbr, 5.5.5), and a sample taken while there was not always something to send counts only if it is
higher: who sends little lowers nothing. A small one of that kind counts not at all, for it says nothing of the link.
"""

from __future__ import annotations

SECOND = 1_000_000_000
RATE_SECONDS = 10
"""A rate is good for so long, once or twice over."""
LEAST = 1 << 16
"""Bytes of a sample that says something of a link which was not busy all the time: about a first window of TCP's."""
SHORTEST_SECONDS = 300
"""So is the shortest round trip: longer than most queues last that a link's own traffic makes."""


class Measure:
    """One link's round trips, in nanoseconds, and its delivery rate, in bytes a second; None until known."""

    __slots__ = ("_at", "_carried", "_rates", "_rates_since", "_shortest", "_shortest_since", "smoothed")

    def __init__(self, now: int) -> None:
        self.smoothed: int | None = None
        self._shortest: list[int | None] = [None, None]  # in this while, and in the one before
        self._shortest_since = now
        self._rates = [0, 0]  # likewise
        self._rates_since = now
        self._at: int | None = None  # when the last rate's while ended
        self._carried = 0

    @property
    def shortest(self) -> int | None:
        return min((took for took in self._shortest if took is not None), default=None)

    @property
    def rate(self) -> int | None:
        return max(self._rates) or None

    def round_trip(self, took: int, now: int) -> None:
        """A PING came back after `took`."""
        # RFC 6298, 2.3: an eighth of what is new.
        self.smoothed = took if self.smoothed is None else (7 * self.smoothed + took) // 8
        if now - self._shortest_since > SHORTEST_SECONDS * SECOND:
            self._shortest, self._shortest_since = [None, self._shortest[0]], now
        known = self._shortest[0]
        self._shortest[0] = took if known is None else min(took, known)

    def carried(self, total: int, now: int, busy: bool) -> None:
        """The other side was seen to have `total` bytes in all; `busy`: there was something to send all the time since
        it was last."""
        before, self._at = self._at, now
        size, self._carried = total - self._carried, total
        if before is None or now <= before or size <= 0:
            return
        rate = size * SECOND // (now - before)
        if not busy and (size < LEAST or rate <= max(self._rates)):
            return
        if now - self._rates_since > RATE_SECONDS * SECOND:
            self._rates, self._rates_since = [0, self._rates[0]], now
        self._rates[0] = max(self._rates[0], rate)


class Liveness:
    """One link. Read and changed by the core."""

    __slots__ = (
        "ack_bytes", "ack_due", "dry", "heard", "measure", "owed_since", "ping", "ping_wanted", "pinged", "pong",
        "progress", "ticked",
    )  # fmt: skip

    def __init__(self, now: int) -> None:
        self.heard = now
        self.owed_since: int | None = None
        self.ticked = now
        self.ping: int | None = None
        self.pinged = now
        self.ping_wanted = True
        self.pong: bytes | None = None
        self.progress = False
        self.ack_bytes = 0
        self.ack_due = False
        self.dry = True  # since the last PONG there was nothing to send for a while
        self.measure = Measure(now)

    def answered(self, ping: int, carried: int, now: int) -> bool:
        """A PONG; whether it answers the PING that is out."""
        if self.ping != ping:
            return False
        self.ping = None
        self.measure.round_trip(now - ping, now)
        self.measure.carried(carried, now, not self.dry)
        self.dry = False
        return True
