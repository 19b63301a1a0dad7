"""A 9P server session on a bench: its client's bytes are played by hand."""

from __future__ import annotations

from cognu.errors import E
from cognu.ninep import messages as m
from cognu.ninep.codec import decode, encode
from cognu.ninep.messages import OLD_STYLE, Dialect, Message, Reply, Request, WireStat
from cognu.ninep.moves import FidState
from cognu.ninep.server import Called, Event, Limits, Send, ServerSession
from cognu.ninep.types import NOFID, NOTAG, Extent, Qid

OLD, L = Dialect.LEGACY, Dialect.L
FILE, DIR = Qid(0, 0, 1), Qid(0x80, 0, 2)
STAT = WireStat(0, 0, FILE, 0o644, 0, 0, 0, "n", "", "", "")


class Bench:
    """A session with its client's bytes played by hand; `targets` are strings."""

    def __init__(self, dialect: Dialect | None = L, limits: Limits = Limits(65_536)) -> None:  # noqa: B008
        self.session = ServerSession(limits)
        self.dialect = dialect or OLD
        if dialect is not None:
            self.feed(m.Tversion(limits.msize, dialect.value), NOTAG)
            assert self.sent() == [(NOTAG, m.Rversion(limits.msize, dialect.value))]

    def feed(self, message: Message, tag: int) -> None:
        self.session.feed(b"".join(encode(message, tag, self.dialect)))

    def events(self) -> list[Event]:
        return list(iter(self.session.next_event, None))

    def sent(self) -> list[tuple[int, Message]]:
        """All events, which must be messages to send."""
        return [self.message(event) for event in self.events()]

    def message(self, event: Event) -> tuple[int, Message]:
        assert isinstance(event, Send)
        wire = b"".join(part for part in event.buffers if not isinstance(part, Extent))
        return decode(memoryview(wire), self.dialect)

    def ask(self, message: Request, tag: int = 1) -> list[Event]:
        self.feed(message, tag)
        return self.events()

    def do(self, message: Request, reply: Reply, made: object = None) -> None:
        """One request carried out to its end."""
        (event,) = self.ask(message, 999)
        assert isinstance(event, Called)
        self.session.reply(999, reply, made)
        assert [answer for answer in self.sent() if answer[0] == 999] == [(999, reply)]

    def fid(self, number: int, state: FidState) -> None:
        """Bring a fid into a state the way a client would."""
        name = f"target {number}"
        if state is FidState.FREE:
            return
        if state is FidState.AUTH:
            return self.do(m.Tauth(number, "u", ""), m.Rauth(Qid(8, 0, 9)), name)
        directory = state in (FidState.DIR, FidState.OPENDIR)
        self.do(m.Tattach(number, NOFID, "u", ""), m.Rattach(DIR if directory else FILE), name)
        if state in (FidState.OPEN, FidState.OPENDIR):
            qid = DIR if directory else FILE
            if self.dialect not in OLD_STYLE:
                self.do(m.Tlopen(number, 0), m.Rlopen(qid, 0))
            else:
                self.do(m.Topen(number, 0), m.Ropen(qid, 0))
        if state is FidState.XATTR:
            self.do(m.Txattrcreate(number, "user.x", 1, 0), m.Rxattrcreate())

    def error(self, event: Event) -> int | str:
        _, message = self.message(event)
        assert isinstance(message, m.Rlerror | m.Rngerror | m.Rerror)
        return message.ename if isinstance(message, m.Rerror) else message.ecode


def refused(bench: Bench, events: list[Event], error: E) -> None:
    (event,) = events
    expected = bench.error(event)
    if isinstance(expected, int):
        assert expected == error.errno
    else:
        assert error.text in expected
