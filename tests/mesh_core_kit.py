"""Two cores of a session, and the wires between them in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from cognu.mesh.frames import (
    pack_hello,
    parse_hello,
)
from cognu.mesh.session_channel import ChannelState
from cognu.mesh.session_core import (
    Event,
    SessionCore,
    Timing,
)

SECOND = 1_000_000_000
BOOTS = (b"A" * 16, b"B" * 16)


@dataclass
class Pair:
    """Leader (0) and follower (1), and what is on the wire from each."""

    cores: list[SessionCore] = field(
        default_factory=lambda: [
            SessionCore(True, BOOTS[0], Timing(), "follower"),
            SessionCore(False, BOOTS[1], Timing(), "leader"),
        ]
    )
    wires: list[bytearray] = field(default_factory=lambda: [bytearray(), bytearray()])
    opened: list[list[ChannelState]] = field(default_factory=lambda: [[], []])
    closed: list[list[ChannelState]] = field(default_factory=lambda: [[], []])
    sessions: int = 0
    now: int = 0

    def link(self, answer_arrives: bool = True) -> None:
        self.sessions += 1
        self.wires = [bytearray(), bytearray()]
        self.cores[1].link_down()
        hello = parse_hello(pack_hello(self.cores[1].hello()))
        answer = self.cores[0].take_hello(hello, self.sessions.to_bytes(16, "big"), self.now)
        if answer_arrives:
            self.cores[1].take_use(parse_hello(pack_hello(answer)), self.now)
        self.note()

    def cut(self) -> None:
        self.wires = [bytearray(), bytearray()]
        for core in self.cores:
            core.link_down()

    def fill(self, side: int, budget: int = 1 << 18) -> int:
        buffers = self.cores[side].output(budget, self.now)
        self.wires[side] += b"".join(buffers)
        return len(buffers)

    def carry(self, side: int, count: int) -> int:
        """Deliver up to `count` bytes that `side` sent."""
        data = bytes(self.wires[side][:count])
        del self.wires[side][:count]
        if data and self.cores[1 - side].up:
            self.cores[1 - side].receive(data, self.now)
        self.note()
        return len(data)

    def note(self) -> None:
        for side, core in enumerate(self.cores):
            for event, channel in core.take_events():
                if event is Event.OPENED:
                    self.opened[side].append(channel)
                elif event is Event.CLOSED:
                    self.closed[side].append(channel)

    def settle(self) -> None:
        """Until neither side has anything to send."""
        moved = True
        while moved:
            moved = False
            for side in (0, 1):
                moved = bool(self.fill(side)) or moved
                moved = bool(self.carry(side, len(self.wires[side]))) or moved

    def quiet(self) -> None:
        """`settle`, and the acknowledgements that wait for a tick."""
        self.settle()
        for core in self.cores:
            core.tick(self.now)
        self.settle()


def drain(core: SessionCore, channel: ChannelState) -> bytes:
    data = b""
    while part := core.read(channel, 1 << 20):
        data += part
    return data


def linked() -> Pair:
    pair = Pair()
    pair.link()
    pair.settle()
    return pair
