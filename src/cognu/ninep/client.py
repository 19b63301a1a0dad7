"""The client's side of a 9P connection, without I/O: requests to bytes, bytes to answers.

Rules of use, for the embedding: send what `version` gives and `feed` what arrives until `Agreed`; then `request`
gives a tag and the buffers to send, in order. Each tag ends in exactly one of `Answered`, `Failed` and `Flushed`
(also while a flush is under way: an answer that crossed the flush counts, flush(5)). On `ProtocolError` the
connection is of no further use and every tag in `in_flight` is lost.

Sources: Plan 9 manual section 5, above all version(5) and flush(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import E, FileError, Misuse, ProtocolError, from_errno, from_text
from . import messages as m
from .codec import Frames, bad, decode, encode, expected_reply, number_of, peek
from .compound import BYTES, LIST, PARTS, WATCH, granted, wanted, wrong_reply
from .messages import Dialect, Message, Reply, Request
from .types import IOHDRSZ, MAX_MSIZE, MIN_MSIZE, NOFID, NOTAG, Buffer

_ERRORS = {number_of(Dialect.L, m.Rlerror): Dialect.L, number_of(Dialect.LEGACY, m.Rerror): Dialect.LEGACY}
"""The errors of other dialects than the one offered, which a server that does not know that one may answer with, as
diod does."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """The version is settled; requests may be sent. `msize` in bytes."""

    dialect: Dialect
    msize: int


@dataclass(frozen=True, slots=True)
class Declined:
    """The server does not know the dialect. `again` is to be sent: the Tversion that offers the next."""

    again: list[Buffer]


@dataclass(frozen=True, slots=True)
class Answered:
    """A request's result, of the kind that belongs to it. Data fields are views into what was fed."""

    tag: int
    message: Reply


@dataclass(frozen=True, slots=True)
class Failed:
    """The server refused a request."""

    tag: int
    error: FileError


@dataclass(frozen=True, slots=True)
class Flushed:
    """A flushed request got no answer: it is as if it had never been sent."""

    tag: int


Event = Agreed | Declined | Answered | Failed | Flushed
UNKNOWN = "unknown"
LOWER = (Dialect.L, Dialect.LEGACY)
"""What is offered after `.ng`: a server should answer an offer with a lower dialect that it knows (version(5)); some
answer that they don't know it."""


@dataclass(slots=True)
class _Sent:
    request: Request
    answered: bool = False
    flush: int | None = None  # tag of the Tflush that names it


class ClientSession:
    """One connection to a server. `dialect` is None until `Agreed`.

    `offer` is the highest dialect to propose; the server may answer a lower one. `lower` are proposed in turn if it
    says that it does not know it (`Declined`). `msize` in bytes is the most to propose, and then what was agreed.
    """

    def __init__(
        self, offer: Dialect = Dialect.NG, msize: int = 1 << 20, max_fids: int = 65_536, lower: tuple[Dialect, ...] = ()
    ) -> None:
        if not MIN_MSIZE <= msize <= MAX_MSIZE:
            raise Misuse(E.INVAL, f"msize {msize}")
        self.offer = offer
        self._lower = lower
        self.msize = msize
        self.dialect: Dialect | None = None
        self._frames = Frames(msize)
        self._sent: dict[int, _Sent] = {}
        self._version_sent = False
        self._features: dict[str, int] = {}  # agreed by Tcaps
        self._tags = _Numbers(NOTAG)
        self._fids = _Numbers(min(max_fids, NOFID))

    # -- sending --

    def version(self) -> list[Buffer]:
        """The Tversion to send first. Raises `Misuse` if it was asked for before."""
        if self._version_sent:
            raise Misuse(E.BADVERSION, "Tversion")
        self._version_sent = True
        return encode(m.Tversion(self.msize, self.offer.value), NOTAG, self.offer)

    def request(self, message: Request) -> tuple[int, list[Buffer]]:
        """Allocate a tag and encode a request: (tag, buffers to send).

        Raises, with nothing changed: `Misuse` before `Agreed`, for Tversion and Tflush (see `version`, `flush`) and
        for what the dialect can't say; `FileError(MSGSIZE)` if it exceeds msize; `FileError(AGAIN)` if all 65,535
        tags are in use; `FileError` with ILSEQ, NAMETOOLONG or OVERFLOW for values that 9P can't carry.
        """
        if self.dialect is None or isinstance(message, m.Tversion | m.Tflush):
            raise Misuse(E.BADMESSAGE, type(message).__name__)
        expected_reply(self.dialect, type(message))  # Misuse if the dialect has no such message
        return self._issue(message, self.dialect)

    def flush(self, tag: int) -> list[Buffer]:
        """The Tflush for a request, to be sent; empty if it is answered or being flushed already.

        The tag is not used again until the server's Rflush. Raises `FileError(AGAIN)` if no tag is free.
        """
        sent = self._sent.get(tag)
        if sent is None or sent.answered or sent.flush is not None or isinstance(sent.request, m.Tflush):
            return []
        assert self.dialect is not None
        sent.flush, buffers = self._issue(m.Tflush(tag), self.dialect)
        return buffers

    def _issue(self, message: Request, dialect: Dialect) -> tuple[int, list[Buffer]]:
        tag = self._tags.take()
        if tag is None:
            raise FileError(E.AGAIN, type(message).__name__)
        try:
            buffers = encode(message, tag, dialect)
            size = sum(map(len, buffers))
            if size > self.msize:
                raise FileError(E.MSGSIZE, type(message).__name__, f"{size} bytes, at most {self.msize} were agreed")
        except Misuse as error:
            self._tags.give_back(tag)
            raise FileError(error.error, error.subject, error.detail) from None
        except FileError:
            self._tags.give_back(tag)
            raise
        self._sent[tag] = _Sent(message)
        return tag, buffers

    # -- fids --

    def new_fid(self) -> int:
        """A fid that is not in use, for Tattach, Twalk, Tauth or Txattrwalk. Raises `FileError(MFILE)`."""
        fid = self._fids.take()
        if fid is None:
            raise FileError(E.MFILE)
        return fid

    def free_fid(self, fid: int) -> None:
        """Give back a fid after its Tclunk or Tremove was answered, or if what should make it failed."""
        if not self._fids.give_back(fid):
            raise Misuse(E.BADF, f"fid {fid}")

    # -- state --

    @property
    def in_flight(self) -> list[int]:
        """Tags of requests that were neither answered nor flushed; flushes themselves are not listed."""
        return [tag for tag, sent in self._sent.items() if not sent.answered and not isinstance(sent.request, m.Tflush)]

    @property
    def fid_count(self) -> int:
        return self._fids.used

    @property
    def parts(self) -> int:
        """The most parts of a Tcomp; 0 if the server has it not, or has not said so yet."""
        return self._features.get(PARTS, 0)

    @property
    def lists(self) -> bool:
        """Whether the server has Tlist."""
        return LIST in self._features

    @property
    def watches(self) -> int:
        """The most watches (Twatch); 0 if the server has it not, or has not said so yet."""
        return self._features.get(WATCH, 0)

    @property
    def compound_limit(self) -> int:
        """The most bytes of an Rcomp."""
        return min(self.msize, self._features.get(BYTES, self.msize))

    def caps(self) -> m.Tcaps:
        """The request that asks for all that this side knows of `.ng`; its answer settles the properties above."""
        return m.Tcaps(wanted(self.msize))

    @property
    def io_limit(self) -> int:
        """The most bytes to ask for or send in one Tread, Treaddir or Twrite."""
        return self.msize - IOHDRSZ

    # -- receiving --

    def feed(self, data: Buffer) -> Iterator[Event]:
        """Add bytes that arrived; yields what became of which request. A bytes object is kept, not copied.

        Take all events before the next `feed`. Raises `ProtocolError` while iterating.
        """
        for frame in self._frames.feed(data):
            event = self._arrive(frame)
            if event is not None:
                yield event

    def _arrive(self, frame: memoryview) -> Event | None:
        number, tag = peek(frame)
        if self.dialect is None:
            return self._agree(decode(frame, _ERRORS.get(number, self.offer))[1])
        sent = self._sent.get(tag)
        if sent is None or sent.answered:
            raise bad(f"tag {tag}", "no request has it")
        try:
            message = decode(frame, self.dialect)[1]
        except ProtocolError as error:
            if error.error is not E.ILSEQ or isinstance(sent.request, m.Tflush):
                raise
            # The frame is sound but holds a text that is not UTF-8: this one answer is lost, not the connection.
            self._settle(tag, sent)
            return Failed(tag, FileError(E.ILSEQ, error.subject))
        if isinstance(sent.request, m.Tflush):
            return self._flushed(tag, sent.request.oldtag, message)
        failure = failure_of(message)
        if failure is None:
            self._check(sent.request, message)
        self._settle(tag, sent)
        if failure is not None:
            return Failed(tag, failure)
        assert isinstance(message, Reply)
        return Answered(tag, message)

    def _agree(self, message: Message) -> Agreed | Declined:
        if not self._version_sent:
            raise bad(type(message).__name__, "nothing was asked")
        failure = failure_of(message)
        if self._lower and (failure is not None or (isinstance(message, m.Rversion) and message.version == UNKNOWN)):
            self.offer, *lower = self._lower
            self._lower, self._version_sent = tuple(lower), False
            return Declined(self.version())
        if failure is not None:
            raise ProtocolError(E.BADVERSION, self.offer.value, str(failure))
        if not isinstance(message, m.Rversion):
            raise bad(type(message).__name__, "Rversion is due")
        # Offered ".u", ".L" or ".ng", a server answers that or plain 9P2000; anything else was never asked for.
        allowed = {self.offer.value: self.offer, Dialect.LEGACY.value: Dialect.LEGACY}
        dialect = allowed.get(message.version)
        if dialect is None:
            raise ProtocolError(E.BADVERSION, message.version)
        if not MIN_MSIZE <= message.msize <= self.msize:
            raise bad("Rversion", f"msize {message.msize}")
        self.dialect, self.msize = dialect, message.msize
        self._frames.max_size = message.msize
        return Agreed(dialect, message.msize)

    def _settle(self, tag: int, sent: _Sent) -> None:
        """A request is answered. If a flush of it is under way, its tag stays taken until the Rflush."""
        if sent.flush is None:
            del self._sent[tag]
            self._tags.give_back(tag)
        else:
            sent.answered = True

    def _flushed(self, tag: int, oldtag: int, message: Message) -> Event | None:
        """The answer to a Tflush, which flush(5) says is never an error."""
        if not isinstance(message, m.Rflush):
            raise bad(type(message).__name__, "Rflush is due")
        old = self._sent.pop(oldtag)
        del self._sent[tag]
        self._tags.give_back(tag)
        self._tags.give_back(oldtag)
        return None if old.answered else Flushed(oldtag)

    def _check(self, request: Request, reply: Message) -> None:
        """A reply must be of its request's kind and say no more than was asked."""
        assert self.dialect is not None
        expected = expected_reply(self.dialect, type(request))
        if type(reply) is not expected:
            raise bad(type(reply).__name__, f"{expected.__name__} is due")
        match request, reply:
            case (m.Tread() | m.Treaddir() | m.Tlist() | m.Tevent(), m.Rread() | m.Rreaddir() | m.Rlist() | m.Revent()):
                if len(reply.data) > request.count:
                    raise bad(expected.__name__, f"{len(reply.data)} bytes, {request.count} were asked for")
            case m.Twrite(), m.Rwrite():
                if reply.count > len(request.data):
                    raise bad("Rwrite", f"{reply.count} bytes, {len(request.data)} were sent")
            case m.Tmint(), m.Rmint():
                if reply.seconds > request.seconds:
                    raise bad("Rmint", f"{reply.seconds} seconds, {request.seconds} were asked for")
            case m.Twalk(), m.Rwalk():
                got, asked = len(reply.qids), len(request.names)
                if got > asked or (asked and not got):
                    raise bad("Rwalk", f"{got} qids for {asked} names")
            case m.Tcaps(), m.Rcaps():
                self._features = dict(granted(reply.features, request.features))
            case m.Tcomp(), m.Rcomp():
                wrong = wrong_reply(request, reply, self._check)
                if wrong:
                    raise bad("Rcomp", wrong)
            case _:
                pass


def failure_of(message: Message) -> FileError | None:
    """The refusal that a reply is; None if it is none."""
    if isinstance(message, m.Rlerror):
        return from_errno(message.ecode)
    if isinstance(message, m.Rngerror):
        if message.symbol in E.__members__:
            return FileError(E[message.symbol], message.subject, message.detail)
        return from_errno(message.ecode, message.subject, message.detail)
    if isinstance(message, m.Rerror):
        error = from_text(message.ename)
        # A server of 9P2000.u may have texts of its own; then its number says more than "i/o error".
        return from_errno(message.ecode, "", message.ename) if error.error is E.IO and message.ecode else error
    return None


class _Numbers:
    """Numbers from 0 up to a limit, taken and given back."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next = 0
        self._free: list[int] = []
        self._taken: set[int] = set()

    @property
    def used(self) -> int:
        return len(self._taken)

    def take(self) -> int | None:
        if self._free:
            number = self._free.pop()
        elif self._next < self._limit:
            number = self._next
            self._next += 1
        else:
            return None
        self._taken.add(number)
        return number

    def give_back(self, number: int) -> bool:
        if number not in self._taken:
            return False
        self._taken.remove(number)
        self._free.append(number)
        return True
