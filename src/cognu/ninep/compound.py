"""Features that two `.ng` peers agree on (Tcaps), and compounds (Tcomp): what is legal in one, and how one goes.

A server carries out a compound's parts one after the other, each as a request of its own. The first that is refused,
and a walk that falls short, ends it, and then the fids that it made are clunked. It may also end before any part for
other reasons, with nothing undone: what has no reply was not carried out, and is for the client to send again. So it
ends where an answer would have to wait or be too long for those before it: see `Compound.take`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from . import messages as m
from .messages import Feature, Message, Reply, Request
from .types import QTSYMLINK, Buffer, Extent

PARTS = "comp"
"""Feature: compounds, of at most `value` parts."""
BYTES = "comp.bytes"
"""Feature: an Rcomp has at most `value` bytes."""
LIST = "list"
"""Feature: Tlist; the value is 1."""
ATTENUATE = "attenuate"
"""Feature: Tattenuate; the value is 1."""
MINT = "mint"
"""Feature: Tmint, of tokens that may be redeemed within at most `value` seconds."""
WATCH = "watch"
"""Feature: Twatch and Tevent, of at most `value` watches."""
NEEDED: dict[type[Request], str] = {
    m.Tlist: LIST,
    m.Tattenuate: ATTENUATE,
    m.Tmint: MINT,
    m.Twatch: WATCH,
    m.Tevent: WATCH,
}
"""What must be agreed on for a request."""

MOST_PARTS = 64
MOST_SECONDS = 86_400
MOST_WATCHES = 4096
HEADER_SIZE = 9
"""Bytes of an Rcomp before its parts: size[4] type[1] tag[2] n[2]."""
LEAST_ROOM = 256
"""Bytes that a part's reply must have left: enough for any that is not data, a text or a list."""
DATA_HEADER = 12
"""The most bytes that a reply with data has before them: Rlist's."""

ERRORS = (m.Rlerror, m.Rngerror, m.Rerror)
_DATA = (m.Tread, m.Treaddir, m.Tlist)
_REGULAR, _KIND = 0o100000, 0o170000  # S_IFREG, S_IFMT


def wanted(msize: int) -> tuple[Feature, ...]:
    """What this side asks for, and the most that it grants, on a connection of that msize."""
    trips = Feature(PARTS, MOST_PARTS), Feature(BYTES, msize), Feature(LIST, 1)
    return *trips, Feature(ATTENUATE, 1), Feature(MINT, MOST_SECONDS), Feature(WATCH, MOST_WATCHES)


def granted(asked: Iterable[Feature], offered: Iterable[Feature]) -> tuple[Feature, ...]:
    """The features that both have, each with the lower of both values. Of a name that comes twice the first counts."""
    most = dict(offered)
    common: dict[str, int] = {}
    for name, value in asked:
        if name in most:
            common.setdefault(name, min(value, most[name]))
    return tuple(Feature(name, value) for name, value in common.items())


class Compound:
    """A server's side of one Tcomp. `made` are the fids that its parts made and that are still there."""

    __slots__ = ("_failed", "_now", "_parts", "_readable", "_undoing", "made", "reads", "replies", "room")

    def __init__(self, message: m.Tcomp, room: int) -> None:
        """`room` is the most bytes of the Rcomp; then, of the next reply."""
        self.room = room - HEADER_SIZE
        self.made: list[int] = []
        self.replies: list[list[Buffer | Extent]] = []
        self.reads = False  # data of a file are among the replies
        self._parts: deque[Request] = deque(message.parts)
        self._now: Request | None = None  # under way
        self._failed = False  # unless it is noted that it succeeded
        self._undoing = False
        self._readable: int | None = None  # the fid of a stored file, whose attributes the part before brought

    @property
    def following(self) -> tuple[Request, ...]:
        return () if self._undoing else tuple(self._parts)

    def take(self) -> Request | None:
        """The next part to carry out, with a count of bytes that still fit; None if there is no more.

        It ends, too, where the room does; and before a read that does not follow the attributes of its file, or whose
        file they show to be no plain one with something in it: that might wait, and take what nobody then gets.
        """
        if not self._parts:
            return None
        self._now, self._failed = self._parts.popleft(), True
        if self._undoing:
            return self._now
        readable, self._readable = self._readable, None
        if self.room < LEAST_ROOM or (isinstance(self._now, m.Tread) and self._now.fid != readable):
            self._parts.clear()
            return None
        if isinstance(self._now, _DATA) and self._now.count > self.room - DATA_HEADER:
            self._now = replace(self._now, count=self.room - DATA_HEADER)
        return self._now

    def note(self, reply: Reply) -> None:
        """The part under way succeeded, and what that means for those after it."""
        self._failed = False
        match self._now, reply:
            case m.Twalk(newfid=newfid, names=names), m.Rwalk(qids=qids):
                self._failed = len(qids) < len(names)
                if not self._failed and newfid != self._now.fid:
                    self.made.append(newfid)
                if not self._failed and qids and qids[-1].type & QTSYMLINK:
                    self._parts.clear()  # where it leads is for the client to say
            case m.Tattach(fid=fid) | m.Txattrwalk(newfid=fid) | m.Tattenuate(newfid=fid), _:
                self.made.append(fid)
            case ((m.Tclunk(fid=fid) | m.Tremove(fid=fid)), _):
                self._gone(fid)
            case m.Tgetattr(fid=fid), m.Rgetattr():
                stored = reply.mode & _KIND == _REGULAR and reply.size > 0
                if stored and reply.qid.type == 0 and reply.qid.version != 0:
                    self._readable = fid
            case m.Tread(), _:
                self.reads = True
            case _:
                pass

    def ended(self, reply: list[Buffer | Extent] | None) -> None:
        """The part under way is over with this reply; None if it was stopped and did nothing."""
        if self._undoing:
            return
        size = 0 if reply is None else sum(map(len, reply))
        if reply is None or size > self.room:  # no room for a text: asking for it changed nothing
            self._parts.clear()
            return
        self.replies.append(reply)
        self.room -= size
        if self._failed:
            if isinstance(self._now, m.Tclunk | m.Tremove):  # it ends its fid nevertheless
                self._gone(self._now.fid)
            self._undoing = True
            self._parts = deque(m.Tclunk(fid) for fid in self.made)
            self.made = []

    def stop(self) -> None:
        """No part is begun any more, but those that undo."""
        if not self._undoing:
            self._parts.clear()

    def _gone(self, fid: int) -> None:
        if fid in self.made:
            self.made.remove(fid)


def failure_in(parts: tuple[Reply, ...]) -> Reply | None:
    """The error that ended a compound, if one did."""
    return parts[-1] if parts and isinstance(parts[-1], ERRORS) else None


def wrong_reply(request: m.Tcomp, reply: m.Rcomp, check: Callable[[Request, Message], None]) -> str:
    """What is wrong with the answer to a compound, or "". `check` raises for a reply that is wrong for its part."""
    if len(reply.parts) > len(request.parts):
        return f"{len(reply.parts)} parts, {len(request.parts)} were sent"
    for index, (asked, part) in enumerate(zip(request.parts, reply.parts, strict=False), 1):
        if isinstance(part, ERRORS):
            ends = True
        else:
            check(asked, part)
            ends = isinstance(asked, m.Twalk) and isinstance(part, m.Rwalk) and len(part.qids) < len(asked.names)
        if ends and index < len(reply.parts):
            return "it goes on after an error"
    return ""


def is_made(request: m.Tcomp, reply: m.Rcomp | None) -> bool:
    """Whether the fid that a compound's only walk was to make is there, now that this was answered."""
    if reply is None or failure_in(reply.parts) is not None:
        return False
    for asked, part in zip(request.parts, reply.parts, strict=False):
        if isinstance(asked, m.Twalk) and isinstance(part, m.Rwalk):
            return len(part.qids) == len(asked.names)
    return False
