"""The frames of one session that the other side has not acknowledged yet.

Invariants: `unacked` holds exactly the frames numbered above `acked`, in order. `resend` is a tail of it: what was sent
on an earlier link and not yet on this one.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

FRAME_COST = 256
"""Bytes that keeping a frame takes besides its payload, about."""


class Frame(NamedTuple):
    """A numbered frame; `pieces` are its payload, `size` bytes in all, and never change."""

    number: int
    kind: int
    channel: int
    pieces: tuple[memoryview, ...]
    size: int


class Outbox:
    """Read by its owner, changed by its methods; the owner takes from `resend`."""

    def __init__(self) -> None:
        self.number = 0
        self.acked = 0
        self.size = 0  # what keeping the frames takes, in bytes
        self.carried = 0  # bytes that the other side acknowledged, over all links
        self.unacked: deque[Frame] = deque()
        self.resend: deque[Frame] = deque()

    def add(self, kind: int, channel: int, pieces: tuple[memoryview, ...], size: int) -> Frame:
        """Give the next number to a frame that is sent now."""
        self.number += 1
        frame = Frame(self.number, kind, channel, pieces, size)
        self.unacked.append(frame)
        self.size += size + FRAME_COST
        return frame

    def acknowledge(self, number: int) -> list[Frame]:
        """The other side has everything up to `number`; returns the frames it was not known to have."""
        self.acked = max(self.acked, number)
        over: list[Frame] = []
        while self.unacked and self.unacked[0].number <= number:
            frame = self.unacked.popleft()
            self.size -= frame.size + FRAME_COST
            self.carried += frame.size
            over.append(frame)
        while self.resend and self.resend[0].number <= number:
            self.resend.popleft()
        return over

    def replay(self) -> None:
        """A new link: all that is not acknowledged is to be sent again."""
        self.resend = deque(self.unacked)
