"""How much is on its way over links of every kind, simulated: enough to keep them busy, and no more."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.files.flow import CEILING, FLOOR, PROBE_AFTER, Flow, Mark

MS, SECOND = 1_000_000, 1_000_000_000
MB = 1_000_000
PIECE = 1 << 16


class Link:
    """Carries requests one after the other, `rate` bytes a second, and answers each `delay` nanoseconds later."""

    def __init__(self, rate: int, delay: int) -> None:
        self.rate = rate
        self.delay = delay
        self.now = 0
        self.flow = Flow()
        self.most = 0
        self._free_at = 0
        self._flying: deque[tuple[int, Mark]] = deque()

    def carry(self, total: int, piece: int = PIECE) -> int:
        """Send so many bytes, as many at once as may be; returns the nanoseconds that it took."""
        begun, left = self.now, total
        while left > 0 or self._flying:
            while left > 0 and self.flow.fits(self.flow.flying, piece):
                self._free_at = max(self.now, self._free_at) + piece * SECOND // self.rate
                self._flying.append((self._free_at + self.delay, self.flow.begin(piece, self.now)))
                left -= piece
            self.most = max(self.most, self.flow.flying)
            at, mark = self._flying.popleft()
            self.now = max(self.now, at)
            self.flow.end(mark, mark.size, self.now)
        assert self.flow.flying == 0
        return self.now - begun


@pytest.mark.parametrize(
    ("rate", "delay"),
    [(100 * MB, 20 * MS), (20 * MB, 200 * MS), (300 * MB, 20 * MS), (900 * MB, MS), (500 * MB, MS // 5), (MB, 50 * MS)],
)
def test_a_link_is_kept_busy_whatever_its_delay(rate: int, delay: int) -> None:
    link = Link(rate, delay)
    link.carry(rate)  # a second's worth to begin with
    assert link.carry(4 * rate) < 1.05 * 4 * SECOND + 2 * delay
    product = rate * delay // SECOND
    assert link.most <= max(FLOOR, 3 * (product + PIECE))


def test_it_gets_there_by_doubling_with_every_round_trip() -> None:
    link = Link(80 * MB, 200 * MS)
    windows = []
    for _ in range(7):
        link.carry(link.flow.window)
        windows.append(link.flow.window)
    assert all(1.5 * one <= other for one, other in pairwise(windows[:5]))
    assert windows[-1] == CEILING


@pytest.mark.parametrize("piece", [FLOOR // 2, FLOOR, FLOOR + 1, 4 * FLOOR])
@pytest.mark.parametrize("late", [0, 3 * MS])
def test_requests_as_large_as_the_floor_get_there_too(piece: int, late: int) -> None:
    """One alone is all that fits at first. `late`: the first is answered sooner than others ever are."""
    link = Link(300 * MB, 20 * MS)
    link.carry(piece, piece)
    link.delay += late
    link.carry(100 * MB, piece)
    assert link.carry(300 * MB, piece) < 1.1 * SECOND


def test_on_a_slow_link_two_large_requests_are_all() -> None:
    link = Link(MB, 20 * MS)
    link.carry(60 * MB, FLOOR)
    assert link.most == 2 * FLOOR


def test_a_slow_link_gets_no_more_than_the_floor() -> None:
    link = Link(MB, 20 * MS)
    link.carry(60 * MB)
    assert link.flow.window == FLOOR
    assert link.most == FLOOR


def test_the_queue_that_it_makes_itself_makes_it_no_larger() -> None:
    link = Link(10 * MB, 100 * MS)
    link.carry(20 * MB)
    before = link.flow.window
    link.carry(10 * MB * 6 * PROBE_AFTER // SECOND)
    assert link.flow.window <= 1.2 * before
    assert link.most <= 1.5 * before


def test_it_follows_a_link_that_becomes_slower_or_longer() -> None:
    link = Link(100 * MB, 20 * MS)
    link.carry(200 * MB)
    link.rate = 10 * MB
    link.carry(100 * MB)
    assert link.flow.window <= 3 * 10 * MB * 20 * MS // SECOND + FLOOR
    link.rate, link.delay = 20 * MB, 200 * MS
    link.carry(20 * MB * 30)
    assert link.carry(200 * MB) < 1.15 * 10 * SECOND


def test_who_asks_for_little_lowers_nothing() -> None:
    link = Link(50 * MB, 100 * MS)
    link.carry(100 * MB)
    before = link.flow.window
    for _ in range(200):
        link.carry(PIECE)
    assert link.flow.window >= 0.9 * before


def test_what_was_given_up_says_nothing_of_the_link() -> None:
    flow = Flow()
    marks = [flow.begin(PIECE, 0) for _ in range(4)]
    for mark in marks:
        flow.give_up(mark)
    assert (flow.flying, flow.window) == (0, FLOOR)
    flow.end(flow.begin(PIECE, 5), PIECE, 5)  # a clock that stands still
    assert (flow.flying, flow.window) == (0, FLOOR)


@given(st.lists(st.tuples(st.integers(0, 1 << 21), st.integers(0, 1 << 21), st.integers(0, 1 << 36), st.booleans())))
def test_whatever_comes_it_stays_between_its_bounds(steps: list[tuple[int, int, int, bool]]) -> None:
    """(bytes asked for, bytes that came, nanoseconds until then, whether more is asked for first)"""
    flow, now, flying = Flow(), 0, deque[Mark]()
    for asked, came, later, more in steps:
        flying.append(flow.begin(asked, now))
        now += later
        if more:
            continue
        flow.end(flying.popleft(), came, now)
        assert FLOOR <= flow.window <= CEILING
    while flying:
        flow.give_up(flying.popleft())
    assert flow.flying == 0
