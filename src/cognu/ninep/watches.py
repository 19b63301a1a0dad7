"""Change notices of `.ng` (Twatch, Tevent): what an event says, how events lie on the wire, and a connection's ring.

docs/9p-ng.md has the layout and the rules. A ring keeps what the client has not confirmed yet, so an answer that it
never saw is asked for again. It is bounded: when it is full everything in it gives way to one LOST, and the client
looks again. What ends a watch is kept even so: there are no more of these than watches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from ..errors import E, FileError, Misuse
from .codec import bad, read_text, write_text
from .compound import MOST_WATCHES
from .types import Buffer

CONTENT = 1
"""Bytes of the file changed, or how many there are."""
ATTRIBUTES = 2
"""Its mode, times, owner, extended attributes."""
MADE = 4
"""`name` is in the directory now."""
REMOVED = 8
"""`name` is not in the directory any more."""
RENAMED = 16
"""`name` of the directory is called `other` now; what was called so is gone."""
GONE = 32
"""The file itself was removed. The watch is over."""
LOST = 64
"""Events were dropped: look again. Watch 0 stands for all."""
REVOKED = 128
"""The file may not be read any more. The watch is over."""
BROKEN = 256
"""Its server went away, or can't tell any more. The watch is over; look again, and watch anew."""

ASKED = CONTENT | ATTRIBUTES | MADE | REMOVED | RENAMED
"""What a mask may name. The others are told always."""
ENDS = GONE | REVOKED | BROKEN
KINDS = ASKED | ENDS | LOST
NAMES = {
    CONTENT: "content",
    ATTRIBUTES: "attributes",
    MADE: "made",
    REMOVED: "removed",
    RENAMED: "renamed",
    GONE: "gone",
    LOST: "lost",
    REVOKED: "revoked",
    BROKEN: "broken",
}

MOST_EVENTS = 1024
NAME_MAX = 255
"""Bytes of a name; of a longer one nothing is told."""
_EVENT = Struct("<QII")
LEAST_COUNT = _EVENT.size + 4
"""Bytes of an event without names."""


class Event(NamedTuple):
    """`cursor` confirms it and what came before. An empty `name` is one that is not told, or of no entry."""

    cursor: int
    watch: int
    kind: int
    name: str = ""
    other: str = ""


def pack_event(event: Event) -> bytes:
    """cursor[8] watch[4] kind[4] name[s] other[s]. Raises `Misuse`."""
    parts: list[Buffer] = []
    try:
        parts.append(_EVENT.pack(*event[:3]))
    except StructError as error:
        raise Misuse(E.OVERFLOW, "event", str(error)) from None
    write_text(event.name, parts)
    write_text(event.other, parts)
    return b"".join(parts)


def unpack_events(data: Buffer) -> Iterator[Event]:
    """The events in the data of a Revent. Raises `ProtocolError`, also for a cut one or one of no known kind."""
    view, at = memoryview(data), 0
    while at < len(view):
        texts: list[str] = []
        try:
            cursor, watch, kind = _EVENT.unpack_from(view, at)
            at = read_text(view, read_text(view, at + _EVENT.size, texts), texts)
        except StructError:
            raise bad("events", "the last one is cut") from None
        if not kind & KINDS or kind & (kind - 1):
            raise bad("event", f"kind {kind}")
        yield Event(cursor, watch, kind, *texts)


class Ring:
    """The watches of one connection, and the events that its client has not confirmed."""

    def __init__(self, most_watches: int = MOST_WATCHES, most_events: int = MOST_EVENTS) -> None:
        self.most_watches = most_watches
        self._most_events = most_events
        self._masks: dict[int, int] = {}  # of the watches that live
        self._events: deque[Event] = deque()
        self._ended = 0  # events in it that end a watch
        self._numbers = 0  # watches made so far
        self._last = 0  # the newest cursor
        self._floor = 0  # what is up to here was confirmed, or dropped
        self._told = 0  # what is up to here was handed out
        self._pending: dict[tuple[int, int], int] = {}  # cursors of changes that need not be told twice
        self._lost = 0  # the cursor of the newest LOST

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    @property
    def watches(self) -> int:
        return len(self._masks)

    def watch(self, mask: int) -> int:
        """A new watch's number, which no other gets. Raises INVAL (unknown kinds), DQUOT."""
        if mask & ~ASKED:
            raise FileError(E.INVAL, "watch", f"kinds {mask & ~ASKED}")
        if len(self._masks) + self._ended >= self.most_watches:
            raise FileError(E.DQUOT, "watch", f"{self.most_watches} at most")
        self._numbers += 1
        self._masks[self._numbers] = mask
        return self._numbers

    def end(self, watch: int) -> None:
        """The client wants nothing more of it: nothing of it is told from now on."""
        self._masks.pop(watch, None)
        self._drop(watch)

    def _drop(self, watch: int) -> None:
        if any(event.watch == watch for event in self._events):
            self._keep(event for event in self._events if event.watch != watch)

    def _keep(self, events: Iterator[Event]) -> None:
        self._events = deque(events)
        self._ended = sum(bool(event.kind & ENDS) for event in self._events)

    def add(self, watch: int, kind: int, name: str = "", other: str = "") -> bool:
        """Something happened; whether there is now something more to tell. Of a watch that is over nothing is told."""
        mask = self._masks.get(watch)
        if mask is None or not kind & (mask | ENDS | LOST):
            return False
        if kind & ENDS:
            del self._masks[watch]
            self._drop(watch)  # what was before means nothing any more, and perhaps may not be told
        elif self._lost > self._told:
            return False  # to be looked at again anyway
        elif kind == LOST:
            self._drop(watch)  # who looks again needs none of it, and some of it may not be told any more
        elif not name:
            key = (watch, kind)
            if self._pending.get(key, 0) > self._told:
                return False
            self._pending[key] = self._last + 1
        if len(self._events) - self._ended >= self._most_events and not kind & ENDS:
            self._lose()
            return True
        self._put(watch, kind, _told(name), _told(other))
        return True

    def _put(self, watch: int, kind: int, name: str = "", other: str = "") -> None:
        self._last += 1
        self._events.append(Event(self._last, watch, kind, name, other))
        self._ended += bool(kind & ENDS)

    def _lose(self) -> None:
        """One LOST in place of all events, and after it what ended watches."""
        kept = [event for event in self._events if event.kind & ENDS]
        self._events.clear()
        self._pending.clear()
        self._ended = 0
        self._floor = self._last
        self._put(0, LOST)
        self._lost = self._last
        for event in kept:
            self._put(event.watch, event.kind)

    def since(self, cursor: int, room: int) -> list[Event]:
        """The events after `cursor`, which confirms those before, as many as `room` bytes hold; [] if there are none.

        A cursor that does not fit (of another connection, or one that goes back) brings a LOST. Raises INVAL if no
        event fits.
        """
        if room < LEAST_COUNT:
            raise FileError(E.INVAL, "Tevent", f"count {room}")
        if not self._floor <= cursor <= self._last:
            self._lose()
        else:
            while self._events and self._events[0].cursor <= cursor:
                self._ended -= bool(self._events.popleft().kind & ENDS)
            self._floor = cursor
            if not self._events:
                self._pending.clear()
        found: list[Event] = []
        for event in self._events:
            size = len(pack_event(event))
            if size > room and not found:
                event = event._replace(name="", other="")
                size = LEAST_COUNT
            if size > room:
                break
            room -= size
            found.append(event)
        if found:
            self._told = max(self._told, found[-1].cursor)
        return found


def _told(name: str) -> str:
    """A name as it may be told: one that 9P can't carry is not."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return ""
    return "" if size > NAME_MAX or "\0" in name else name
