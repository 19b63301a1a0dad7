"""The server's side of a 9P connection, without I/O: bytes in, events out.

Rules of use, for the embedding:

- `feed` what arrives, then take `next_event` until it gives None, handling each event in order. After `reply`,
  `error`, `cancelled` and `close`, take events again.
- Each `Called` is ended by exactly one of `reply`, `error` and `cancelled`, at once or later, in any order.
- `Cancel(tag)` asks to stop that call soon; it may still be answered if it ended first. A call that can't be stopped
  is answered when it ends. Until then its fids, its tag and the Rflush stay reserved: so nothing that a client was
  told never happened can happen afterwards.
- What a fid stands for (`target`) is the embedding's. What is handed to `reply` belongs to the session from then on
  and comes back either as the target of a Tclunk or Tremove, which the embedding releases whether it succeeds or
  not, or in a `Release`.
- On `ProtocolError` from `next_event`, and when the connection ends, call `close` and carry on until the calls ended.

Sources: Plan 9 manual section 5, above all flush(5) and version(5).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..errors import CognuError, E, FileError, Misuse, ProtocolError
from ..values import dataclass
from . import messages as m
from .codec import HEADER, Frames, bad, compound_header, data_header, decode, encode, expected_reply, number_of, peek
from .compound import BYTES, DATA_HEADER, MINT, NEEDED, PARTS, WATCH, Compound, granted, wanted
from .fids import Call, FidRoom, FidTable
from .glance import DIALECTS, WALK, Fields, Plain, parse
from .messages import Dialect, Reply, Request, is_request
from .moves import MAKES_FID, MOVES, FidState, bad_name, refusal, uses
from .replies import check_reply, commit, error_reply, opened_state, unopened_state
from .types import MAX_MSIZE, MIN_MSIZE, NOFID, NOTAG, READ_HEADER, Buffer, Extent, Qid

VERSION = 100  # Tversion's number, the same in all dialects
FIRST_SIZE = 8192  # bytes a message may have before a version was agreed


class Called(NamedTuple):
    """A request to carry out. `target` is what its fid stands for, `other` the same for its second fid.

    The first fid is `fid`, `dfid`, `dirfid` or `olddirfid`; the second Tattach's `afid`, Trename's and Tlink's
    `dfid`, Trenameat's `newdirfid`. Fids yet to be made have None. The fids are in states that allow the message,
    names are well-formed, and counts fit the reply.
    """

    tag: int
    message: Request
    target: object
    other: object
    following: tuple[Request, ...] = ()
    """In a compound: the parts after this one. They come by themselves, in their turn, if nothing ends it before."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop this call: it was flushed, its fid is being clunked, or the session ends."""

    tag: int


@dataclass(frozen=True, slots=True)
class Release:
    """Targets that no fid stands for any more and that no Tclunk will name."""

    targets: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send these buffers now, in order, with nothing in between.

    `made`: of a compound's answer with file data, the fids that it makes known; to be given to `refusal`.
    """

    buffers: tuple[Buffer | Extent, ...]
    made: tuple[int, ...] = ()


Event = Called | Cancel | Release | Send


class Limits(NamedTuple):
    """`msize` bytes per message; `fids` that one client may hold; `calls` that it may have in flight.

    `together`: what fids it may hold together with others.
    """

    msize: int = 1 << 20
    fids: int = 65_536
    calls: int = 4_096
    together: FidRoom | None = None


class _Version(NamedTuple):
    """An answer to a Tversion, given when the old session's calls have ended."""

    tag: int
    msize: int
    dialect: Dialect | None


PART = 1 << 16
"""Added to a compound's tag: the tag of its part under way, as the embedding sees it. Of two parts one is over."""
_UNDOING = 1 << 17
"""Added to the number of a fid: the tag of a clunk that the session itself asks for."""
_TAG = PART - 1
_ENDS_FID = (m.Tclunk, m.Tremove)
_CHANGES_FID = MAKES_FID | {kind for kind, moves in MOVES.items() if any(use.exclusive for use in moves)}


class ServerSession:
    """One client's connection. `dialect` is None and `msize` the limit until a version was agreed."""

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008
        dialects: tuple[Dialect, ...] = tuple(Dialect),
        without: Container[str] = (),
    ) -> None:
        """`dialects` are those it may agree to; `without`: features of `.ng` that it has not."""
        if not MIN_MSIZE <= limits.msize <= MAX_MSIZE:
            raise Misuse(E.INVAL, f"msize {limits.msize}")
        self.limits = limits
        self._dialects = dialects
        self._without = without
        self.dialect: Dialect | None = None
        self.msize = limits.msize
        self._frames = Frames(min(limits.msize, FIRST_SIZE))
        self._fids = FidTable(limits.fids, limits.together)
        self._calls: dict[int, Call] = {}
        self._ready: deque[Call] = deque()
        self._events: deque[Event] = deque()
        self._version: _Version | None = None
        self._closed = False
        self._features: dict[str, int] = {}  # agreed by Tcaps

    # -- what the embedding calls --

    def feed(self, data: Buffer) -> None:
        """Add bytes that arrived. A bytes object is kept as it is, and decoded data are views into it.

        Raises `ProtocolError` if the client goes on sending while it waits for its Rversion, `Misuse` after `close`.
        """
        if self._closed:
            raise Misuse(E.BADF, "session")
        if self._version is not None and self._frames.pending + len(data) > self._frames.max_size:
            raise bad("session", "more requests before Rversion")
        self._frames.add(data)

    def next_event(self) -> Event | None:
        """The next thing to do, or None until more is fed or a call ends. Raises `ProtocolError`."""
        while True:
            if self._events:
                return self._events.popleft()
            if self._ready:
                call = self._ready.popleft()
                if self._calls.get(call.tag) is call:  # a clunk may have ended it meanwhile
                    if call.compound is None:
                        self._start(call)
                    else:
                        self._go_on(call, call.compound)
                continue
            if self._version is not None or self._closed:
                return None
            frame = self._frames.take()
            if frame is None:
                return None
            self._arrive(frame)

    # -- plain requests: see `plain` --

    @property
    def idle(self) -> bool:
        """A version was agreed, and there is nothing to do until more is fed or a call ends."""
        return self.dialect is not None and not (
            self._events or self._ready or self._version or self._closed or self._frames.pending
        )

    def glance(self) -> Plain | None:
        """The next request, if that comes next and is plain. It stays the next until one of the four below is called.

        None in any other case: then `next_event` says what there is to do.
        """
        if self._events or self._ready or self.dialect not in DIALECTS or self._version is not None or self._closed:
            return None
        chunk, at = self._frames.look()
        if len(chunk) - at < HEADER.size:
            return None
        plain = parse(chunk, at, self._fids)
        if plain is None:
            return None
        fields = plain[1]
        if fields[0] > self._frames.max_size or fields[2] in self._calls or fields[2] == NOTAG:
            return None
        if fields[1] == WALK and self._fids.full():
            return None
        return plain if len(self._calls) < self.limits.calls else None

    def taken(self, fields: Fields) -> None:
        """The request that `glance` showed is answered, and changed no fid."""
        self._frames.skip(fields[0])

    def walked(self, fields: Fields, qid: Qid, made: object) -> None:
        """A Twalk is answered that went all the way, to a file of that qid; its new fid stands for `made`."""
        self._frames.skip(fields[0])
        self._fids.put(fields[4], unopened_state(qid), made)

    def opened(self, fields: Fields, qid: Qid) -> None:
        """A Tlopen is answered; what the fid stands for is open."""
        self._frames.skip(fields[0])
        self._fids.bind(fields[3], opened_state(qid), self._fids.target(fields[3]))

    def clunked(self, fields: Fields) -> None:
        """A Tclunk is answered; the embedding releases what the fid stood for."""
        self._frames.skip(fields[0])
        self._fids.drop(fields[3])

    def reply(self, tag: int, message: Reply, made: object = None) -> None:
        """Answer a call with its result.

        `made` is what the new fid shall stand for: needed for Rattach, Rauth, Rxattrwalk and an Rwalk that went all
        the way (but for a Twalk without names onto its own fid); may replace the target for an open, create or
        Txattrcreate. A message that the dialect's fields or msize can't hold becomes an error reply and leaves the
        fids as they were. Raises `Misuse`, with the call still in flight, for an unknown tag, a wrong kind of
        reply, or one that says more than was asked.
        """
        call = self._answered(tag)
        assert self.dialect is not None
        expected = expected_reply(self.dialect, type(call.message))
        if type(message) is not expected:
            raise Misuse(E.BADMESSAGE, type(message).__name__, f"{expected.__name__} is due")
        check_reply(call.message, message, made)
        try:
            buffers = encode(message, tag & _TAG, self.dialect)
            if sum(map(len, buffers)) > self.msize:
                raise Misuse(E.MSGSIZE, type(message).__name__)
        except Misuse as error:
            if made is not None:
                self._release(made)
            self._finish(call, self._error_buffers(tag, error))
            return
        if type(call.message) in _CHANGES_FID:
            gone = commit(self._fids, call.message, message, made)
            if gone is not None:
                self._release(gone)
        if tag >= PART:
            self._note(tag, message)
        self._finish(call, buffers)

    def reply_extent(self, tag: int, extent: Extent) -> None:
        """Answer a Tread with `extent.count` bytes that the embedding sends itself: `Send((header, extent))`.

        The extent's source must stay usable until it was sent, even if the fid is clunked meanwhile.
        """
        call = self._answered(tag)
        if not isinstance(call.message, m.Tread) or not 0 <= extent.count <= call.message.count:
            raise Misuse(E.BADMESSAGE, "Rread", f"{extent.count} bytes")
        assert self.dialect is not None
        header = data_header(number_of(self.dialect, m.Rread), tag & _TAG, extent.count)
        if tag >= PART:
            self._note(tag, m.Rread(b""))
        self._finish(call, [header, extent] if extent.count else [header])

    def error(self, tag: int, error: CognuError) -> None:
        """Answer a call with an error: errno on 9P2000.L, text on 9P2000, both on the others.

        A Tclunk or Tremove ends its fid anyway.
        """
        call = self._answered(tag)
        if isinstance(call.message, _ENDS_FID):
            self._fids.bind(call.message.fid, FidState.FREE, None)
        self._finish(call, self._error_buffers(tag, error))

    def refusal(self, tag: int, error: CognuError, made: Sequence[int] = ()) -> list[Buffer]:
        """What to send in place of an answer that was given but not sent yet, because it may not go out any more.

        `made` is the `Send`'s: those fids are clunked, so there are events to take.
        """
        for fid in made:
            self._undo(fid)
        return self._error_buffers(tag, error)

    def cancelled(self, tag: int) -> None:
        """A call that a `Cancel` named was stopped and did nothing. A flushed one gets no reply, others INTR."""
        call = self._answered(tag)
        if not call.cancelled:
            raise Misuse(E.INVAL, f"tag {tag}")
        self._finish(call, None if call.flushed else self._error_buffers(tag, FileError(E.INTR)))

    def close(self) -> None:
        """The connection is gone: cancel the calls, and release the fids once they ended. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._version = None
        for event in [*self._events]:  # what the embedding has not seen need not happen
            if isinstance(event, Called):
                call = self._calls[event.tag]
                call.started = False
                if call.makes:
                    self._fids.end()
            if isinstance(event, Called | Send):
                self._events.remove(event)
        self._abort()

    def target(self, fid: int) -> object:
        """What a fid stands for at this moment, for 9P2000.u's link, which names one in a text; None if nothing."""
        return self._fids.target(fid)

    @property
    def most_watches(self) -> int:
        """How many watches the client may have, as it agreed to by Tcaps."""
        return self._features.get(WATCH, 0)

    @property
    def in_flight(self) -> int:
        """Calls and flushes not answered yet."""
        return len(self._calls)

    @property
    def fid_count(self) -> int:
        return self._fids.bound

    # -- requests --

    def _arrive(self, frame: memoryview) -> None:
        number, tag = peek(frame)
        if not is_request(number):
            raise bad(f"message {number}", "not a request")
        if number == VERSION:
            message = decode(frame, Dialect.LEGACY)[1]
            assert isinstance(message, m.Tversion)
            self._negotiate(tag, message)
            return
        if self.dialect is None:
            return self._refuse(tag, FileError(E.BADMESSAGE, f"message {number}", "Tversion comes first"))
        if tag == NOTAG:
            return self._refuse(tag, FileError(E.BADMESSAGE, f"message {number}", "NOTAG"))
        if tag in self._calls:
            return self._refuse(tag, FileError(E.DUPTAG, f"tag {tag}"))
        try:
            message = decode(frame, self.dialect)[1]
        except ProtocolError as error:
            if error.error not in (E.ILSEQ, E.NOSYS):
                raise
            return self._refuse(tag, error)
        match message:
            case m.Tflush(oldtag):
                return self._flush(tag, oldtag)
            case m.Tcaps():
                return self._agree(tag, message)
            case m.Tcomp():
                return self._compound(tag, message)
        assert not isinstance(message, Reply)
        self._admit(tag, message, self.dialect)

    def _admit(self, tag: int, message: Request, dialect: Dialect) -> None:
        ends = isinstance(message, _ENDS_FID)
        if len(self._calls) >= self.limits.calls and not ends:  # a refused clunk would leave the fid behind
            return self._refuse(tag, FileError(E.AGAIN))
        needed = NEEDED.get(type(message))
        if needed is not None and needed not in self._features:
            return self._refuse(tag, FileError(E.NOSYS, type(message).__name__, "Tcaps did not agree on it"))
        wrong = bad_name(message)
        if wrong is not None:
            return self._refuse(tag, FileError(wrong, type(message).__name__))
        if isinstance(message, m.Tread | m.Treaddir) and message.count > self.msize - READ_HEADER:
            message = replace(message, count=self.msize - READ_HEADER)
        elif isinstance(message, m.Tlist | m.Tevent):
            message = replace(message, count=min(message.count, self.msize - DATA_HEADER))
        elif isinstance(message, m.Tmint):
            message = replace(message, seconds=min(message.seconds, self._features[MINT]))
        named = [(getattr(message, use.field), use) for use in uses(message, dialect)]
        if isinstance(message, m.Tattach) and message.afid == NOFID:
            del named[1]  # no authentication
        call = Call(tag, message, named)
        if ends:
            self._cancel_users(call.uses[0][0])
        self._calls[tag] = call
        if self._fids.enter(call):
            self._start(call)

    def _start(self, call: Call) -> None:
        """The call holds its fids: check them, then hand it over."""
        for fid, use in call.uses:
            wrong = refusal(use, self._fids.state(fid), fid)
            if wrong is not None:
                return self._finish(call, self._error_buffers(call.tag, FileError(wrong, f"fid {fid}")))
        if call.makes:
            try:
                self._fids.begin()
            except FileError as error:
                return self._finish(call, self._error_buffers(call.tag, error))
        call.started = True
        targets = [self._fids.target(fid) for fid, _ in call.uses]  # None for a fid yet to be made
        compound = self._compound_of(call.tag)
        following = () if compound is None else compound.following
        other = targets[1] if len(targets) > 1 else None
        first = targets[0] if targets else None
        self._events.append(Called(call.tag, call.message, first, other, following))

    def _flush(self, tag: int, oldtag: int) -> None:
        assert self.dialect is not None
        old = self._calls.get(oldtag)
        if old is None:
            self._send(encode(m.Rflush(), tag, self.dialect))
            return
        self._calls[tag] = Call(tag, m.Tflush(oldtag), ())
        old.flushes.append(tag)
        old.flushed = True
        if isinstance(old.message, m.Tflush):
            return  # answered right after the flush that it names
        if old.started:
            self._cancel(old)
        else:
            self._finish(old, None)

    # -- compounds --

    def _agree(self, tag: int, message: m.Tcaps) -> None:
        offered = [feature for feature in wanted(self.msize) if feature.name not in self._without]
        features = granted(message.features, offered)
        self._features = dict(features)
        self._send(encode(m.Rcaps(features), tag, Dialect.NG))

    def _compound(self, tag: int, message: m.Tcomp) -> None:
        if not self._features.get(PARTS):
            return self._refuse(tag, FileError(E.NOSYS, "Tcomp", "Tcaps did not agree on it"))
        if len(message.parts) > self._features[PARTS]:
            return self._refuse(tag, FileError(E.MSGSIZE, "Tcomp", f"{len(message.parts)} parts"))
        if len(self._calls) >= self.limits.calls:
            return self._refuse(tag, FileError(E.AGAIN))
        call = self._calls[tag] = Call(tag, message, ())
        call.started = True
        call.compound = Compound(message, min(self.msize, self._features.get(BYTES, self.msize)))
        self._ready.append(call)

    def _go_on(self, call: Call, compound: Compound) -> None:
        """Begin the next part, or answer. The parts of many compounds take turns."""
        assert self.dialect is not None
        part = None if self._ended else compound.take()
        if part is not None:
            return self._admit(call.tag | PART, part, self.dialect)
        replies = compound.replies
        if call.flushed and not replies:
            return self._finish(call, None)
        buffers = [buffer for reply in replies for buffer in reply]
        header = compound_header(number_of(Dialect.NG, m.Rcomp), call.tag, len(replies), sum(map(len, buffers)))
        self._finish(call, [header, *buffers], tuple(compound.made) if compound.reads else ())

    def _compound_of(self, tag: int) -> Compound | None:
        """The compound that a part's tag belongs to; None for the tag of a request by itself."""
        return self._calls[tag & _TAG].compound if PART <= tag < _UNDOING else None

    def _note(self, tag: int, message: Reply) -> None:
        compound = self._compound_of(tag)
        if compound is not None:
            compound.note(message)

    def _part_ended(self, tag: int, buffers: Sequence[Buffer | Extent] | None) -> None:
        """The compound's part under way is over, or was refused at once."""
        compound = self._compound_of(tag)
        if compound is not None:
            compound.ended(None if buffers is None else list(buffers))
            self._ready.append(self._calls[tag & _TAG])

    def _undo(self, fid: int) -> None:
        """Clunk a fid for the client, who is told that it was not made."""
        if not self._ended and self._fids.state(fid) is not FidState.FREE and _UNDOING + fid not in self._calls:
            assert self.dialect is not None
            self._admit(_UNDOING + fid, m.Tclunk(fid), self.dialect)

    def _stop_compound(self, call: Call, compound: Compound) -> None:
        """Flushed, or the session ends: the part under way is stopped, if it can be, and no other is begun."""
        compound.stop()
        part = self._calls.get(call.tag | PART)
        if part is None or isinstance(part.message, _ENDS_FID):
            return
        part.flushed = True
        if part.started:
            self._cancel(part)
        else:
            self._finish(part, None)

    def _cancel(self, call: Call) -> None:
        if call.compound is not None:
            return self._stop_compound(call, call.compound)
        if not call.cancelled:
            call.cancelled = True
            self._events.append(Cancel(call.tag))

    def _cancel_users(self, fid: int) -> None:
        """A clunk ends what came before it on the fid, but for another clunk."""
        for call in self._fids.calls(fid):
            if isinstance(call.message, _ENDS_FID):
                continue
            if call.started:
                self._cancel(call)
            else:
                self._finish(call, self._error_buffers(call.tag, FileError(E.INTR)))

    # -- replies --

    def _answered(self, tag: int) -> Call:
        call = self._calls.get(tag)
        if call is None or not call.started:
            raise Misuse(E.BADMESSAGE, f"tag {tag}", "no such call")
        return call

    def _finish(self, call: Call, buffers: Sequence[Buffer | Extent] | None, made: tuple[int, ...] = ()) -> None:
        """End a call: its reply if it gets one, then the flushes that wait for it, then whose turn comes now."""
        if call.started and call.makes:
            self._fids.end()
        del self._calls[call.tag]
        if call.tag >= PART:
            self._part_ended(call.tag, buffers)
        elif buffers is not None:
            self._send(buffers, made)
        assert self.dialect is not None
        flushes = deque(call.flushes)
        while flushes:
            tag = flushes.popleft()
            self._send(encode(m.Rflush(), tag, self.dialect))
            flushes.extend(self._calls.pop(tag).flushes)
        self._ready.extend(self._fids.leave(call))
        if self._ended and not self._calls:
            self._aborted()

    def _send(self, buffers: Sequence[Buffer | Extent], made: tuple[int, ...] = ()) -> None:
        if not self._ended:
            self._events.append(Send(tuple(buffers), made))

    def _release(self, target: object) -> None:
        self._events.append(Release((target,)))

    def _refuse(self, tag: int, error: CognuError) -> None:
        buffers = self._error_buffers(tag, error)
        if tag >= PART:
            self._part_ended(tag, buffers)
        else:
            self._send(buffers)

    def _error_buffers(self, tag: int, error: CognuError) -> list[Buffer]:
        compound = self._compound_of(tag)
        room = self.msize if compound is None else min(self.msize, compound.room)
        return error_reply(error, tag & _TAG, self.dialect, room)

    # -- the session as a whole --

    @property
    def _ended(self) -> bool:
        """The session of the calls in flight is over; their replies go nowhere."""
        return self._closed or self._version is not None

    def _negotiate(self, tag: int, message: m.Tversion) -> None:
        """version(5): the dialect asked for or a lower one, never a higher; "unknown" if there is none."""
        if message.msize < MIN_MSIZE:
            return self._refuse(tag, FileError(E.INVAL, f"msize {message.msize}"))
        dialect = next((known for known in self._dialects if known.value == message.version), None)
        family = message.version.partition(".")[0]
        if dialect is None and Dialect.LEGACY in self._dialects and family == Dialect.LEGACY.value:
            dialect = Dialect.LEGACY
        self._version = _Version(tag, min(message.msize, self.limits.msize), dialect)
        self._abort()

    def _abort(self) -> None:
        """Cancel what runs, drop what waits. Events already given stay; those for the old session's client go."""
        self._ready.clear()
        for call in list(self._calls.values()):
            call.flushes.clear()  # the flushes go too, unanswered
            part = self._calls.get(call.tag | PART)
            if call.compound is not None and (part is None or not part.started):
                del self._calls[call.tag]
            elif call.started:
                self._cancel(call)
            else:
                self._fids.leave(call)
                del self._calls[call.tag]
        if not self._calls:
            self._aborted()

    def _aborted(self) -> None:
        """The old session's calls have ended: release its fids and begin the new session, if there is one."""
        self._ready.clear()
        targets = self._fids.clear()
        if targets:
            self._events.append(Release(tuple(targets)))
        if self._version is None:
            return
        version, self._version = self._version, None
        self.dialect, self.msize = version.dialect, version.msize
        self._features = {}
        if version.dialect is None:
            self.msize = self.limits.msize
            self._frames.max_size = min(self.limits.msize, FIRST_SIZE)
        else:
            self._frames.max_size = version.msize
        answer = m.Rversion(version.msize, version.dialect.value if version.dialect else "unknown")
        self._send(encode(answer, version.tag, Dialect.LEGACY))
