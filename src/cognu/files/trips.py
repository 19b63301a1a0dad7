"""Several requests to a far server in one trip (`.ng`'s Tcomp), and what came with a walk until somebody asks for it.

Who walks may say what comes next (`server.Then`). It is asked for with the walk, and its answer held here, for the call
that follows and passes dispatch like any other. What is held is as good as an answer that is still on its way: for no
longer than half the time that its own trip took, and not if this mount changed anything meanwhile, or was refused
something as revoked. So nothing is handed out that a server's owner revoked a round trip ago.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cognu.errors import E, FileError, ProtocolError
from cognu.files.late import Late
from cognu.files.server import Entry, Then
from cognu.ninep import messages as m
from cognu.ninep.attrs import posix_mode, stat_of_getattr
from cognu.ninep.client import ClientSession, failure_of
from cognu.ninep.compound import is_made
from cognu.ninep.listed import LISTED_SIZE, unpack_listed
from cognu.ninep.messages import Reply, Request
from cognu.ninep.types import DMDIR, GETATTR_ALL, L_CREAT, L_EXCL, L_RDONLY, Qid, Stat
from cognu.world import Clock

FIRST_READ = 1 << 15
"""Bytes that are asked for with an opening."""
BESIDE = 64
"""Bytes of a compound that are not the data of the write in it; a few more."""
NAME_SIZE = 16
"""Bytes that a name in a listing is thought to have."""
MOST_EMPTY = 8
"""Replies in a row to who lists a directory that may hold nothing but itself and the one above."""

Ask = Callable[[m.Tcomp, Late], Awaitable[m.Rcomp]]
AskList = Callable[[m.Tlist], Awaitable[m.Rlist]]


class _Asked(NamedTuple):
    """When something was asked for, and how much had been changed by then."""

    at: int
    changes: int


@dataclass(slots=True)
class Held:
    """What came before it was asked for. `whole`: the data or the entries are all there is.

    Of the entries those after `cookie` are still to be handed out.
    """

    until: int = 0
    changes: int = 0
    stat: Stat | None = None
    data: bytes | None = None
    entries: Sequence[Entry] | None = None
    cookie: int = 0
    whole: bool = False
    refusal: FileError | None = None  # of opening it


class Reached(NamedTuple):
    """Where a walk came to: `number` is the new fid, None if not all names were found; `opened` if it is open."""

    qids: list[Qid]
    number: int | None
    opened: bool = False
    held: Held | None = None


class Trips:
    """Of one mount. `ask` sends a compound, and tells the fate of one whose caller gave up."""

    def __init__(
        self,
        session: ClientSession,
        clock: Clock,
        changes: Callable[[], int],
        ask: Ask,
        revoked: Callable[[], None],
        free: Callable[[int], None],
        drop: Callable[[int], None],
    ) -> None:
        """`changes` counts what makes answers worthless; `revoked` is told that something was revoked.

        `free` gives back the number of a fid that is not there, `drop` ends one that is.
        """
        self._session = session
        self._changes = changes
        self._revoked = revoked
        self._holding: deque[Held] = deque()  # what may be fresh, so that nobody who does not come for it keeps more
        self._clock = clock
        self._ask = ask
        self._free = free
        self._drop = drop

    # -- asking ---------------------------------------------------------------------------------------------------

    async def walk(self, start: int, names: Sequence[str], then: Then) -> Reached | None:
        """From the fid `start`, and on to what comes `then`. None: the server would not, and it is to be asked singly.

        Raises what the walk is refused with.
        """
        number = self._session.new_fid()
        request = m.Tcomp((m.Twalk(start, number, tuple(names)), *self._next(then, number)))
        asked = self._now()
        parts = await self._trip(request, number)
        if not parts:
            return None
        walked, *rest = parts
        refusal = failure_of(walked)
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal  # an error that its own frame holds keeps all that is in use further up
        assert isinstance(walked, m.Rwalk)
        qids = list(walked.qids)
        if len(qids) < len(names):
            return Reached(qids, None)
        failed = failure_of(parts[-1])
        if failed is not None:
            return Reached(qids, None, held=self._stamped(asked, Held(refusal=failed if len(parts) == 2 else None)))
        try:
            held = _held(names[-1], rest)
        except ProtocolError as error:
            self._drop(number)
            raise FileError(error.error, names[-1], str(error)) from None
        opened = any(isinstance(reply, m.Rlopen) for reply in rest)
        return Reached(qids, number, opened, self._stamped(asked, held))

    async def create(self, directory: int, name: str, perm: int, flags: int) -> Reached | None:
        """Make a file or a directory in the fid `directory` and open it, by Tlopen's `flags`. None as `walk`.

        Without a number in it: a directory was made, and not opened.
        """
        number, mode = self._session.new_fid(), posix_mode(perm) & 0o7777
        parts: tuple[Request, ...]
        if perm & DMDIR:
            making = m.Tmkdir(directory, name, mode, 0)
            parts = (making, m.Twalk(directory, number, (name,)), m.Tlopen(number, flags))
        else:
            making_file = m.Tlcreate(number, name, flags | L_CREAT | L_EXCL, mode, 0)
            parts = (m.Twalk(directory, number, ()), making_file)
        request = m.Tcomp(parts)
        replies = await self._trip(request, number)
        failed = failure_of(replies[-1]) if replies else None
        if failed is not None:
            try:
                raise failed
            finally:
                del failed  # an error that its own frame holds keeps all that is in use further up
        if len(replies) < len(parts):
            if is_made(request, m.Rcomp(replies)):
                self._drop(number)
            return Reached([], None) if replies and perm & DMDIR else None
        last = replies[-1]
        assert isinstance(last, m.Rlopen | m.Rlcreate)
        return Reached([last.qid], number, opened=True)

    async def write(self, fid: int, offset: int, data: bytes) -> tuple[int, Stat | None] | None:
        """Write to an open file, and ask for its attributes then, if they come too. None as `walk`: nothing is written.

        At most as much as fits beside the other part is written. Raises what the write is refused with.
        """
        writing = m.Twrite(fid, offset, data[: self._session.io_limit - BESIDE])
        request = m.Tcomp((writing, m.Tgetattr(fid, GETATTR_ALL)))
        replies = (await self._ask(request, lambda _: None)).parts
        if not replies:
            return None
        refusal = failure_of(replies[0])
        if refusal is not None:
            if refusal.error is E.REVOKED:
                self._revoked()
            try:
                raise refusal
            finally:
                del refusal  # as above
        assert isinstance(replies[0], m.Rwrite)
        looked = replies[1] if len(replies) > 1 else None
        return replies[0].count, stat_of_getattr("", looked) if isinstance(looked, m.Rgetattr) else None

    async def listing(self, ask: AskList, fid: int, cookie: int, count: int) -> tuple[list[Entry], Held]:
        """At most `count` entries after `cookie`, and what is known of those after them."""
        room = min(self._session.io_limit, max(512, (LISTED_SIZE + NAME_SIZE) * count))
        for _ in range(MOST_EMPTY):
            asked = self._now()
            reply = await ask(m.Tlist(fid, cookie, room))
            held = _held("", [reply])
            if held.entries or held.whole:
                break
            cookie = _last_cookie(reply, cookie)
        else:
            raise FileError(E.BADMESSAGE, "directory", "its server lists nothing, and says that there is more")
        entries = held.entries or ()
        found, held.entries = list(entries[:count]), entries[count:]
        held.cookie = found[-1].cookie if found else cookie
        return found, self._stamped(asked, held)

    # -- what is held ---------------------------------------------------------------------------------------------

    def stat(self, held: Held | None) -> Stat | None:
        return held.stat if held is not None and self._fresh(held) else None

    def refusal(self, held: Held | None) -> FileError | None:
        """Why it was not opened, to be told once."""
        if held is None or held.refusal is None or not self._fresh(held):
            return None
        refusal, held.refusal = held.refusal, None
        return refusal

    def read(self, held: Held | None, offset: int, count: int) -> bytes | None:
        if held is None or held.data is None:
            return None
        if not self._fresh(held):
            held.data = None
            return None
        if offset < len(held.data):
            return held.data[offset : offset + count]
        return b"" if held.whole and offset == len(held.data) else None

    def entries(self, held: Held | None, cookie: int, count: int) -> list[Entry] | None:
        if held is None or held.entries is None or held.cookie != cookie or not self._fresh(held):
            return None
        found, held.entries = list(held.entries[:count]), held.entries[count:]
        if found:
            held.cookie = found[-1].cookie
        return found if found or held.whole else None

    # -- within ---------------------------------------------------------------------------------------------------

    def _next(self, then: Then, fid: int) -> tuple[Request, ...]:
        getattr_, opening = m.Tgetattr(fid, GETATTR_ALL), m.Tlopen(fid, L_RDONLY)
        match then:
            case Then.STAT:
                return (getattr_,)
            case Then.READ:
                return (opening, getattr_, m.Tread(fid, 0, FIRST_READ))
            case Then.LIST:
                return (opening, m.Tlist(fid, 0, self._session.io_limit)) if self._session.lists else (opening,)

    async def _trip(self, request: m.Tcomp, number: int) -> tuple[Reply, ...]:
        """The answers. The fid `number`, which a walk in it is to make, is freed if it is not there afterwards."""

        def late(reply: Reply | None) -> None:
            self._end(request, number, reply)

        try:
            reply = await self._ask(request, late)
        except FileError:
            self._free(number)
            raise
        if not is_made(request, reply):
            self._free(number)
        if reply.parts and (failed := failure_of(reply.parts[-1])) is not None and failed.error is E.REVOKED:
            self._revoked()
        return reply.parts

    def _end(self, request: m.Tcomp, number: int, reply: Reply | None) -> None:
        if is_made(request, reply if isinstance(reply, m.Rcomp) else None):
            self._drop(number)
        else:
            self._free(number)

    def _now(self) -> _Asked:
        return _Asked(self._clock.monotonic(), self._changes())

    def _stamped(self, asked: _Asked, held: Held) -> Held:
        now = self._clock.monotonic()
        held.until = now + (now - asked.at) // 2
        held.changes = asked.changes
        while self._holding and not self._fresh(self._holding[0]):
            stale = self._holding.popleft()
            stale.data = stale.entries = None
        self._holding.append(held)
        return held

    def _fresh(self, held: Held) -> bool:
        return held.changes == self._changes() and self._clock.monotonic() <= held.until


def _last_cookie(reply: m.Rlist, offset: int) -> int:
    """Of entries that are all left out, as `.` and `..` are; without any, `offset`."""
    for entry, _ in unpack_listed(reply.data):
        offset = entry.offset
    return offset


def _held(name: str, replies: Sequence[Reply]) -> Held:
    held = Held()
    for reply in replies:
        match reply:
            case m.Rgetattr():
                held.stat = stat_of_getattr(name, reply)
            case m.Rread():
                held.data = bytes(reply.data)
                held.whole = held.stat is not None and held.stat.length == len(held.data) < FIRST_READ
            case m.Rlist():
                held.entries = [
                    Entry(
                        entry.offset,
                        entry.qid,
                        entry.name,
                        None if attributes is None else stat_of_getattr(entry.name, attributes),
                        entry.type,
                    )
                    for entry, attributes in unpack_listed(reply.data)
                    if entry.name not in (".", "..")
                ]
                held.whole = bool(reply.end)
            case _:
                pass
    return held
