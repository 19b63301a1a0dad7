"""What lies between two ports, one way: delay, loss, rate, reordering, a cut. No I/O and no clock.

A line decides of each frame when it comes out at the other end, or that it does not. It holds no frame itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Conditions:
    """Times in seconds, `loss` and `reorder` as chances from 0 to 1.

    `jitter`: up to so much is added to `delay`, which overtakes nothing by itself. `rate`: bytes per second, with up to
    `queue` bytes that wait their turn; what comes then is dropped. `reorder`: the chance that a frame is `late` by so
    much, while those after it are not. `cut`: nothing comes through, and nobody is told.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: float | None = None
    queue: int = 1 << 18
    reorder: float = 0.0
    late: float = 0.01
    cut: bool = False

    def __post_init__(self) -> None:
        if min(self.delay, self.jitter, self.late, self.queue) < 0 or (self.rate is not None and self.rate <= 0):
            raise ValueError(f"no time, rate or queue is below zero: {self}")
        if not (0 <= self.loss <= 1 and 0 <= self.reorder <= 1):
            raise ValueError(f"chances go from 0 to 1: {self}")

    def but(self, changes: Mapping[str, Any]) -> Conditions:
        """These with some of them changed. Raises `TypeError` for a name that is none, `ValueError` for its value."""
        return replace(self, **changes)

    @property
    def plain(self) -> bool:
        """Whether every frame comes out at once."""
        return self == PLAIN


PLAIN = Conditions()


class Line:
    """One direction between two ports. The same seed and the same frames at the same times give the same fates."""

    def __init__(self, seed: str) -> None:
        self.conditions = PLAIN
        self.plain = True
        self.frames = self.bytes = 0  # that came out
        self.lost = 0  # by chance
        self.overflowed = 0  # found the queue full
        self.stopped = 0  # by a cut
        self._random = Random(seed)
        self._free = 0  # when what waits for its turn has gone out
        self.last = 0  # when the latest frame that kept its place comes out

    def set(self, conditions: Conditions) -> None:
        """From now on; what is on its way stays as it is, unless the line is cut."""
        self.conditions = conditions
        self.plain = conditions.plain

    def take(self, now: int, size: int) -> int | None:
        """A frame of `size` bytes goes in at `now` (ns): when it comes out, or None if it never does."""
        like = self.conditions
        if like.cut:
            self.stopped += 1
            return None
        if like.loss and self._random.random() < like.loss:
            self.lost += 1
            return None
        out = now
        if like.rate is not None:
            begins = max(now, self._free)
            if (begins - now) * like.rate / SECOND + size > like.queue:
                self.overflowed += 1
                return None
            self._free = out = begins + int(size * SECOND / like.rate)
        out += int((like.delay + like.jitter * self._random.random()) * SECOND)
        if like.reorder and self._random.random() < like.reorder:
            return out + int(like.late * SECOND)
        self.last = max(self.last, out)
        return self.last

    def comes_out(self, size: int) -> bool:
        """A frame is at the end; whether it comes out, for what was on its way when the line was cut does not."""
        if self.conditions.cut:
            self.stopped += 1
            return False
        self.frames += 1
        self.bytes += size
        return True


class Switch:
    """Which ports a frame goes to: where its destination was last seen, or all others of the same segment."""

    def __init__(self, segments: Mapping[str, str]) -> None:
        """`segments`: of each port. What is in different segments never meets."""
        self._others = {
            port: tuple(other for other in segments if other != port and segments[other] == segment)
            for port, segment in segments.items()
        }
        self._segments = dict(segments)
        self._seen: dict[tuple[str, bytes], str] = {}

    def targets(self, port: str, frame: bytes) -> tuple[str, ...]:
        """For an Ethernet frame that came in at `port`. A frame too short to have a header goes nowhere."""
        if len(frame) < 14:
            return ()
        segment = self._segments[port]
        destination, source = frame[:6], frame[6:12]
        if not source[0] & 1:
            self._seen[segment, source] = port
        if destination[0] & 1:
            return self._others[port]
        at = self._seen.get((segment, destination))
        if at is None:
            return self._others[port]
        return () if at == port else (at,)
