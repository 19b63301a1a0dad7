"""`#k`: the node's log, seen as `/dev/log` and `/dev/kmesg`.

    log     the lines kept, then each new one as it comes; a read waits for the next. Every open file has a place of
            its own in it; one that falls behind gets, for the lines that were dropped meanwhile, one line with `lost`
    kmesg   the lines kept at the moment of opening, and an end, as cons(3)

Each line is a JSON object: time (ns since 1970), level (debug, info, warning, error, critical), logger, message, and
trace for an exception; a read gives whole lines as far as its count allows, and a longer one in pieces.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice

from cognu.files.server import Caller, End, MaybeAsync, Tell
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer, Watchers
from cognu.ninep.watches import CONTENT

KEPT_LINES = 4096
KEPT_BYTES = 1 << 20
MAX_LINE = 1 << 16
"""Bytes of a message or trace; the rest of a longer one is cut off."""


class JsonLines(logging.Formatter):
    """One JSON object per record, as this module's head says."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, int | str] = {
            "time": int(record.created * 1e9),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MAX_LINE],
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)[-MAX_LINE:]
        return json.dumps(line, ensure_ascii=False)


class Ring:
    """The last lines, each with its number. Lines are added on the loop's thread alone."""

    def __init__(self, lines: int = KEPT_LINES, size: int = KEPT_BYTES) -> None:
        self._most = lines
        self._most_bytes = size
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self.first = 0  # the number of the oldest line kept
        self._waiting: set[asyncio.Event] = set()
        self.watchers = Watchers()

    @property
    def end(self) -> int:
        """The number that the next line gets."""
        return self.first + len(self._lines)

    def add(self, line: bytes) -> None:
        """`line` ends with a newline. The oldest go to make room."""
        self._lines.append(line)
        self._bytes += len(line)
        while len(self._lines) > self._most or (self._bytes > self._most_bytes and len(self._lines) > 1):
            self._bytes -= len(self._lines.popleft())
            self.first += 1
        for event in self._waiting:
            event.set()
        self.watchers.tell(CONTENT)

    def line(self, number: int) -> bytes:
        """A line that is kept."""
        return self._lines[number - self.first]

    def text(self) -> bytes:
        return b"".join(islice(self._lines, len(self._lines)))

    async def wait(self, number: int) -> None:
        """Until there is a line of that number, or there was."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while self.end <= number:
                event.clear()
                await event.wait()
        finally:
            self._waiting.discard(event)


class RingHandler(logging.Handler):
    """Puts records into a ring. Made on the running loop; `close` takes it out of use.

    Records of other threads are handed to the loop; what comes when the loop is over is dropped: nobody can read it.
    """

    def __init__(self, ring: Ring) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # A lone surrogate comes out as JSON's own escape.
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        if threading.get_ident() == self._thread:
            self._ring.add(line)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring.add, line)


@dataclass
class _Place:
    """How far a reader is: the next line, and what of a long one is still to be read."""

    number: int
    rest: bytes = b""


class Log(Node):
    def __init__(self, ring: Ring) -> None:
        super().__init__("log", 0o444)
        self._ring = ring

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = _Place(self._ring.first)

    def watch(self, tell: Tell) -> End:
        return self._ring.watchers.add(tell)

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        """The offset doesn't matter: it is a stream."""
        place = fid.state
        assert isinstance(place, _Place)
        if count == 0 or place.rest or place.number < self._ring.end:
            return self._take(place, count)
        return self._read_later(place, count)

    async def _read_later(self, place: _Place, count: int) -> bytes:
        while not place.rest and place.number >= self._ring.end:  # another reader of this fid may be faster
            await self._ring.wait(place.number)
        return self._take(place, count)

    def _take(self, place: _Place, count: int) -> bytes:
        if not place.rest:
            place.rest = self._lost(place)
        while len(place.rest) < count and place.number < self._ring.end:
            line = self._ring.line(place.number)
            if place.rest and len(place.rest) + len(line) > count:
                break
            place.rest += line
            place.number += 1
        taken, place.rest = place.rest[:count], place.rest[count:]
        return taken

    def _lost(self, place: _Place) -> bytes:
        """A line about what the reader missed, if it missed any."""
        lost = self._ring.first - place.number
        if lost <= 0:
            return b""
        place.number = self._ring.first
        line = {"time": json.loads(self._ring.line(place.number))["time"], "level": "warning", "logger": "cognu.log"}
        return json.dumps({**line, "message": f"{lost} lines lost", "lost": lost}).encode() + b"\n"


def log_server(ring: Ring) -> TreeServer:
    return TreeServer("#k", Directory("", [Log(ring), Text("kmesg", ring.text)]))
