"""Two sessions in memory: a clock that the test moves, lines that it cuts, and doors where something else answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cognu.errors import CognuError, E, FileError, LinkBroken
from cognu.mesh.session import Channel, Session
from cognu.mesh.session_core import SessionCore, Timing
from cognu.world import Attendant
from mesh_core_kit import BOOTS, SECOND

NOON = 1_790_000_000


async def turns() -> None:
    """Until all that needs no time has happened."""
    for _ in range(40):
        await asyncio.sleep(0)


class HandClock:
    """Stands still but for `go` and `jump`."""

    def __init__(self) -> None:
        self.at = 0
        self.wall = NOON * SECOND
        self.sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> int:
        return self.at

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.at + int(seconds * SECOND), waiter))
        await waiter

    async def go(self, seconds: float) -> None:
        """Let time pass; who sleeps wakes in order, and does what he does before the next one wakes."""
        until = self.at + int(seconds * SECOND)
        while True:
            await turns()
            self.sleepers = [one for one in self.sleepers if not one[1].done()]
            due = min((when for when, _ in self.sleepers if when <= until), default=None)
            if due is None:
                break
            self.jump((due - self.at) / SECOND, due - self.at)
            for when, waiter in self.sleepers:
                if when <= due and not waiter.done():
                    waiter.set_result(None)
        self.jump((until - self.at) / SECOND, until - self.at)
        await turns()

    def jump(self, wall: float, monotonic: int = 0) -> None:
        """The clocks go on, by seconds and by nanoseconds, and nobody wakes."""
        self.wall += int(wall * SECOND)
        self.at += monotonic


class SeededRandom:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


@dataclass
class HandSenses:
    clock: HandClock
    random: SeededRandom


class Wire:
    """One end of a `SecureStream` in memory. `full`: the host takes nothing of what is offered, until `make_room`.
    `deaf`: what is sent from here is lost, and nobody is told."""

    local = peer = "192.0.2.1:1"
    peer_certificate = b""

    def __init__(self) -> None:
        self.other: Wire
        self.arrived = bytearray()
        self.held = b""
        self.closed = self.full = self.deaf = False
        self._attendant: Attendant | None = None
        self._changed = asyncio.Event()

    async def read(self, count: int) -> bytes:
        while not self.arrived:
            if self.closed or self.other.closed:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self.arrived[:count])
        del self.arrived[:count]
        return data

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        if self.closed or self.other.closed:
            raise LinkBroken(E.CONNRESET, self.peer)
        self._give(b"".join(buffers))

    def offer(self, *buffers: bytes | memoryview) -> bool:
        self.held += b"".join(buffers)
        if not self.full:
            data, self.held = self.held, b""
            self._give(data)
        return not self.full

    def make_room(self) -> None:
        assert self._attendant is not None
        self.full = False
        self.offer()
        self._attendant.room()

    def _give(self, data: bytes) -> None:
        if not (self.closed or self.other.closed or self.deaf):
            self.other.arrived += data
            self.other._wake()

    def attend(self, attendant: Attendant) -> None:
        self._attendant = attendant
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        if self._attendant is not None:
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        assert self._attendant is not None
        data = bytes(self.arrived)
        self.arrived.clear()
        if data and not self.closed:
            self._attendant.received(memoryview(data))
        if self.other.closed or self.closed:
            self._attendant.over(None)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._wake()
            self.other._wake()

    async def wait_closed(self) -> None:
        return None


def wires() -> tuple[Wire, Wire]:
    one, two = Wire(), Wire()
    one.other, two.other = two, one
    return one, two


Door = Callable[[Wire], Awaitable[None]]
"""What answers at the far end of a new connection; it is closed when that returns."""


async def echo(channel: Channel) -> None:
    while data := await channel.read(1 << 16):
        await channel.write(data)


class Side:
    """One machine's session, and the door of the other, at which it dials; with none nobody answers."""

    def __init__(self, clock: HandClock, leader: bool, timing: Timing, seed: int, boot: bytes = b"") -> None:
        self.clock = clock
        self.core = SessionCore(leader, boot or BOOTS[0 if leader else 1], timing, "follower" if leader else "leader")
        self.handler: Callable[[Channel], Awaitable[None]] = echo
        self.session = Session(
            HandSenses(clock, SeededRandom(seed)), self.core, timing, self._dial, lambda channel: self.handler(channel),
            lambda stream, port, dialled: None, lambda: 0,
        )  # fmt: skip
        self.dialled: list[float] = []  # when, in seconds
        self.door: Door | None = None
        self.error: CognuError = FileError(E.HOSTUNREACH, "leader" if not leader else "follower")
        self.doors: set[asyncio.Task[None]] = set()
        self.wires: list[Wire] = []

    async def _dial(self) -> Wire:
        self.dialled.append(self.clock.at / SECOND)
        if self.door is None:
            raise self.error
        near, far = wires()
        self.wires += [near, far]
        spawned: asyncio.Task[None] = asyncio.get_running_loop().create_task(_answer(self.door, far))
        self.doors.add(spawned)
        spawned.add_done_callback(self.doors.discard)
        return near

    async def take(self, wire: Wire) -> None:
        """The door of this side."""
        await self.session.run_link(wire)

    def cut(self) -> None:
        """Every connection that this side dialled ends."""
        for wire in self.wires:
            wire.close()

    async def close(self) -> None:
        await self.session.close(E.SESSIONLOST, "over")
        self.cut()
        await asyncio.gather(*self.doors)


async def _answer(door: Door, wire: Wire) -> None:
    with suppress(CognuError):
        await door(wire)
    wire.close()


class Two:
    """`dialler` reaches `other`, which can't dial it."""

    def __init__(self, dialler_leads: bool = True, timing: Timing | None = None, seed: int = 1) -> None:
        self.clock = HandClock()
        timing = timing or Timing()
        self.dialler = Side(self.clock, dialler_leads, timing, seed)
        self.other = Side(self.clock, not dialler_leads, timing, seed + 1)
        self.dialler.door = self.other.take

    async def __aenter__(self) -> Two:
        return self

    async def __aexit__(self, *_: object) -> None:
        closing = asyncio.gather(self.dialler.close(), self.other.close())
        while not closing.done():
            await self.clock.go(1)
        await closing

    async def open(self) -> Channel:
        """A channel to the echo of `other`, which answers."""
        channel = await self.dialler.session.open_channel("echo")
        await channel.write(b"x")
        assert await channel.read(1) == b"x"
        return channel


async def ends(work: Coroutine[Any, Any, Any], clock: HandClock, seconds: float) -> BaseException | None:
    """What `work` raises within that time, or None; it must end."""
    task = asyncio.ensure_future(work)
    await clock.go(seconds)
    assert task.done(), "it goes on"
    return task.exception()
