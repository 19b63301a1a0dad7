"""When peers were linked last: what is kept of it, how often the disk is written, and what wrong clocks do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cognu.errors import E, FileError
from cognu.mesh.identity import Peer, PeerBook, identity_from_seed
from cognu.mesh.liveness import SECOND
from cognu.node.seen import EVERY_SECONDS, PAUSE_SECONDS, Seen
from cognu.world.real import real_world

NOON = 1_800_000_000


class HandClock:
    """Stands still but for `go`."""

    def __init__(self) -> None:
        self.seconds = NOON
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self.seconds * SECOND

    def monotonic(self) -> int:
        return self.seconds * SECOND

    async def sleep(self, seconds: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.seconds + seconds, waiter))
        await waiter

    async def go(self, seconds: int) -> None:
        self.seconds += seconds
        due, self.sleepers = (
            [one for one in self.sleepers if one[0] <= self.seconds],
            [one for one in self.sleepers if one[0] > self.seconds],
        )
        for _, waiter in due:
            if not waiter.done():
                waiter.set_result(None)
        for _ in range(20):
            await asyncio.sleep(0)


class Bench:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = HandClock()
        self.linked: set[str] = set()
        self.told = 0
        self.book = PeerBook(real_world().disk, str(home))
        for name in ("pi", "lap"):
            identity = identity_from_seed(name.encode().ljust(32))
            self.book.add(Peer(identity.fingerprint, name, identity.certificate))
        self.pi = self.book.find("pi").fingerprint
        self.seen = Seen(self.clock, self.book, lambda peer: peer in self.linked)
        self.book.on_change = self._tell

    def _tell(self) -> None:
        self.told += 1

    def on_disk(self) -> int:
        """Of pi, as a node would find it that starts now."""
        return PeerBook(real_world().disk, str(self.home)).find("pi").seen

    async def link(self, up: bool) -> None:
        self.linked = {self.pi} if up else set()
        self.seen.look()
        await self.clock.go(0)


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Bench]:
    bench = Bench(home)
    bench.seen.begin()
    try:
        await bench.clock.go(0)
        yield bench
    finally:
        await bench.seen.close()


async def test_it_is_on_the_disk_when_a_link_came_every_few_minutes_and_when_it_went(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        assert (bench.on_disk(), bench.seen.last(bench.pi)) == (0, None)
        await bench.link(True)
        assert bench.on_disk() == NOON
        await bench.clock.go(int(PAUSE_SECONDS))
        await bench.clock.go(int(EVERY_SECONDS))
        assert bench.on_disk() == NOON + PAUSE_SECONDS + EVERY_SECONDS
        await bench.clock.go(int(PAUSE_SECONDS))
        await bench.clock.go(7)
        await bench.link(False)
        gone = bench.clock.seconds
        assert bench.on_disk() == gone
        await bench.clock.go(1000)
        bench.seen.look()
        assert bench.seen.last(bench.pi) == gone * SECOND
        assert bench.told == 0
    assert bench.on_disk() == gone


async def test_links_that_come_and_go_cost_no_more_than_a_write_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as bench:
        real, writes = bench.book.note_seen, list[int]()

        def counted(seen: Mapping[str, int]) -> None:
            writes.append(bench.clock.seconds)
            real(seen)

        monkeypatch.setattr(bench.book, "note_seen", counted)
        for second in range(130):
            await bench.link(second % 2 == 0)
            await bench.clock.go(1)
        assert writes == [NOON, NOON + 60, NOON + 120]


async def test_a_node_that_stops_keeps_it_and_one_that_is_killed_knows_what_was_kept_before(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.link(True)
        await bench.clock.go(200)
        assert bench.on_disk() == NOON, "what a node knows that is killed now"
    assert bench.on_disk() == NOON + 200
    again = Bench(tmp_path)
    again.clock.seconds = NOON + 900
    again.seen.look()
    assert again.seen.last(again.pi) == (NOON + 200) * SECOND


async def test_a_clock_that_was_wrong_says_nothing_of_the_future_and_the_next_link_puts_it_right(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as bench:
        bench.clock.seconds = NOON + 10**9
        await bench.link(True)
        await bench.link(False)
    again = Bench(tmp_path)
    assert again.on_disk() == NOON + 10**9
    assert again.seen.last(again.pi) is None
    await again.link(True)
    await again.link(False)
    await again.seen.close()
    assert (again.on_disk(), again.seen.last(again.pi)) == (NOON, NOON * SECOND)


async def test_a_clock_set_back_while_linked_says_nothing_of_the_future(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.link(True)
        await bench.link(False)
        bench.clock.seconds -= 3600
        assert bench.seen.last(bench.pi) is None


async def test_a_full_disk_is_told_once_and_a_peer_that_was_dropped_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as bench:

        def full(path: str, data: bytes, mode: int = 0) -> None:
            raise FileError(E.NOSPC, path)

        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
            patched.setattr(bench.book, "_disk", Full(full))
            await bench.link(True)
            await bench.clock.go(int(PAUSE_SECONDS))
            await bench.link(False)
            assert len([one for one in caplog.records if "can't be kept" in one.message]) == 1
            assert bench.on_disk() == 0
        bench.book.remove(bench.pi)
        bench.seen.look()
        assert bench.seen.last(bench.pi) is None
    assert [peer.name for peer in bench.book.all()] == ["lap"]


class Full:
    def __init__(self, write: object) -> None:
        self.write = write

    def make_directory(self, path: str) -> None:
        """It is there."""
