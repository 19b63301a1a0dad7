"""A server's fid table: what each fid stands for, and whose turn it is.

Rules of use. A call enters with the fids that it names and starts once it holds them all; it leaves when it has been
answered. Calls that only use a fid hold it together, in any number, so that a parked read never keeps out a write.
A call that changes what a fid stands for holds it alone. Turns go by arrival, per fid; a call enters all its queues
at once, so the earliest one not started never waits for a later one and nothing can deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import E, FileError
from .compound import Compound
from .messages import Request
from .moves import MAKES_FID, FidState, Use


class Call:
    """A request in flight."""

    __slots__ = (
        "cancelled",
        "compound",
        "flushed",
        "flushes",
        "locks",
        "makes",
        "message",
        "missing",
        "started",
        "tag",
        "uses",
    )

    def __init__(self, tag: int, message: Request, uses: Sequence[tuple[int, Use]]) -> None:
        self.tag = tag
        self.message = message
        self.uses = uses
        # One lock per fid: Trenameat may name the same directory twice.
        self.locks: dict[int, bool] = {}
        for fid, use in uses:
            self.locks[fid] = use.exclusive or self.locks.get(fid, False)
        self.makes = type(message) in MAKES_FID and any(FidState.FREE in use.states for _, use in uses)
        self.missing = 0  # locks not held yet
        self.started = False  # handed to the embedding
        self.cancelled = False  # the embedding was told to stop it
        self.flushed = False  # a Tflush names it: it gets no reply once it was stopped
        self.compound: Compound | None = None  # of a Tcomp: how far it is
        self.flushes: list[int] = []  # tags of the Tflush that wait for its end


class Entry:
    """What a fid stands for, and whose turn it is."""

    __slots__ = ("exclusive", "holders", "state", "target", "waiting")

    def __init__(self) -> None:
        self.state = FidState.FREE
        self.target: object = None
        self.holders: dict[int, Call] = {}
        self.exclusive = False  # the one holder holds it alone
        self.waiting: dict[int, Call] = {}  # by tag, in order of arrival


class FidRoom:
    """How many fids several connections may hold together. `name` says whose they are, for refusals."""

    __slots__ = ("most", "name", "taken")

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self.taken = 0


class FidTable:
    """Fid numbers to what the embedding attached to them (`target`). At most `most`, and what there is room for."""

    def __init__(self, most: int, room: FidRoom | None = None) -> None:
        self._fids: dict[int, Entry] = {}
        self._most = most
        self._room = room
        self.bound = 0  # fids that are not FREE
        self._making = 0  # those that calls in flight are about to make

    def full(self) -> bool:
        room = self._room
        return self.bound + self._making >= self._most or (room is not None and room.taken >= room.most)

    def begin(self) -> None:
        """A call is about to make a fid. Raises MFILE, DQUOT."""
        if self.bound + self._making >= self._most:
            raise FileError(E.MFILE)
        room = self._room
        if room is not None and room.taken >= room.most:
            raise FileError(E.DQUOT, "fids", f"the limit of {room.name} is {room.most}, in use are {room.taken}")
        self._making += 1
        self._count(1)

    def end(self) -> None:
        """It made it, or did not."""
        self._making -= 1
        self._count(-1)

    def _count(self, more: int) -> None:
        if self._room is not None:
            self._room.taken += more

    def state(self, fid: int) -> FidState:
        entry = self._fids.get(fid)
        return FidState.FREE if entry is None else entry.state

    def target(self, fid: int) -> object:
        """What the fid stands for; None if it is FREE."""
        entry = self._fids.get(fid)
        return None if entry is None else entry.target

    def still(self, fid: int) -> Entry | None:
        """The entry of a fid that stands for something and that no call is changing or waits to change."""
        entry = self._fids.get(fid)
        return None if entry is None or entry.exclusive or entry.waiting else entry

    def is_free(self, fid: int) -> bool:
        """Whether the fid names nothing, and no call is about to change that."""
        return fid not in self._fids

    def put(self, fid: int, state: FidState, target: object) -> None:
        """Let a fid that names nothing, and that no call holds, stand for something."""
        entry = self._fids[fid] = Entry()
        entry.state, entry.target = state, target
        self.bound += 1
        self._count(1)

    def drop(self, fid: int) -> None:
        """Unbind a fid that no call holds."""
        del self._fids[fid]
        self.bound -= 1
        self._count(-1)

    def bind(self, fid: int, state: FidState, target: object) -> object:
        """Let a fid that a call holds stand for something; FREE unbinds. Returns what it stood for before."""
        entry = self._fids[fid]
        more = (state is not FidState.FREE) - (entry.state is not FidState.FREE)
        if more:
            self.bound += more
            self._count(more)
        old, entry.state, entry.target = entry.target, state, target
        return old

    def enter(self, call: Call) -> bool:
        """Queue a call at its fids. True if it holds them all now and may start."""
        for fid, exclusive in call.locks.items():
            entry = self._fids.get(fid)
            if entry is None:
                entry = self._fids[fid] = Entry()
            if entry.waiting or entry.exclusive or (exclusive and entry.holders):
                entry.waiting[call.tag] = call
                call.missing += 1
            else:
                entry.holders[call.tag] = call
                entry.exclusive = exclusive
        return not call.missing

    def leave(self, call: Call) -> list[Call]:
        """Take a call out of its queues. Returns the calls that may start now, in order of arrival per fid."""
        ready: list[Call] = []
        for fid in call.locks:
            entry = self._fids[fid]
            if entry.holders.pop(call.tag, None) is None:
                del entry.waiting[call.tag]
            elif not entry.holders:
                entry.exclusive = False
            self._grant(fid, entry, ready)
            if entry.state is FidState.FREE and not entry.holders and not entry.waiting:
                del self._fids[fid]
        return ready

    @staticmethod
    def _grant(fid: int, entry: Entry, ready: list[Call]) -> None:
        while entry.waiting and not entry.exclusive:
            call = next(iter(entry.waiting.values()))
            exclusive = call.locks[fid]
            if exclusive and entry.holders:
                return
            del entry.waiting[call.tag]
            entry.holders[call.tag] = call
            entry.exclusive = exclusive
            call.missing -= 1
            if not call.missing:
                ready.append(call)

    def calls(self, fid: int) -> list[Call]:
        """The calls that hold or wait for a fid, in order."""
        entry = self._fids.get(fid)
        return [] if entry is None else [*entry.holders.values(), *entry.waiting.values()]

    def clear(self) -> list[object]:
        """Unbind every fid; no call may be in flight. Returns what they stood for."""
        targets = [entry.target for entry in self._fids.values() if entry.state is not FidState.FREE]
        self._fids.clear()
        self._count(-self.bound)
        self.bound = 0
        return targets
