"""`#c`: null, zero, random, time, sysname, user, pid, drivers, as in cons(3).

    drivers     a line for each device that whoever opens it may attach: `#` and its letter, and its name

cons and consctl are not here: they are the terminal's own server's, mounted before this by whoever has a terminal.
Lines written to consctl are `rawon` and `rawoff`, as in cons(3); cons ends its raw state when consctl is closed.
"""

from __future__ import annotations

from collections.abc import Callable

from cognu.files.process import ProcessTable
from cognu.files.server import Caller, MaybeAsync
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer
from cognu.world import Clock, Random, Senses

MAX_READ = 1 << 20
"""Bytes of one read of zero; those who read on get more. Random numbers come in smaller pieces, being slower."""
MAX_RANDOM = 1 << 16


class Null(Node):
    def __init__(self) -> None:
        super().__init__("null", 0o666)

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return b""

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        return len(data)


class Zero(Node):
    def __init__(self) -> None:
        super().__init__("zero", 0o444)

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return bytes(min(count, MAX_READ))


class RandomBytes(Node):
    def __init__(self, random: Random) -> None:
        super().__init__("random", 0o444)
        self._random = random

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return self._random.bytes(min(count, MAX_RANDOM))


class OfCaller(Node):
    """Reads as something of the process that opened it."""

    def __init__(self, name: str, of: Callable[[Caller], str]) -> None:
        super().__init__(name, 0o444)
        self._of = of

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        assert fid.caller is not None
        return self._of(fid.caller).encode()[offset : offset + count]


def time_text(clock: Clock) -> str:
    """cons(3): seconds and nanoseconds since 1970, ticks since some start, ticks per second."""
    now = clock.now()
    return f"{now // 10**9:11d} {now:21d} {clock.monotonic():21d} {10**9:21d} "


DRIVERS = {
    "|": "pipe", "C": "cmd", "D": "desktop", "I": "ip", "N": "nodes", "P": "profile", "R": "root", "S": "sensor",
    "U": "host", "V": "store", "c": "cons", "d": "dup", "e": "env", "g": "registry", "h": "man", "i": "dial",
    "k": "log", "n": "node", "p": "proc", "q": "children", "r": "ram", "s": "srv",
}  # fmt: skip
"""What each device is called. `#i` is `#I` for dialling alone, `#q` is `#p` with one's own processes alone."""


def drivers_text(processes: ProcessTable, caller: Caller) -> str:
    """The devices of a caller's namespace. Raises SRCH for one that is no process."""
    letters = sorted(processes[caller.pid].namespace.devices)
    return "".join(f"#{letter} {DRIVERS.get(letter, '-')}\n" for letter in letters)


def cons_server(world: Senses, sysname: str, processes: ProcessTable) -> TreeServer:
    return TreeServer(
        "#c",
        Directory(
            "",
            [
                Null(),
                Zero(),
                RandomBytes(world.random),
                Text("time", lambda: time_text(world.clock)),
                Text("sysname", lambda: sysname),
                OfCaller("user", lambda caller: caller.user),
                OfCaller("pid", lambda caller: str(caller.pid)),
                OfCaller("drivers", lambda caller: drivers_text(processes, caller)),
            ],
        ),
    )
