"""The server session: legal moves, turns at a fid, flush, clunk, versions, limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import CognuError, E, FileError, Misuse, ProtocolError
from cognu.ninep import messages as m
from cognu.ninep.codec import decode, encode, messages_of
from cognu.ninep.messages import Dialect, Message, Reply, Request, WireStat
from cognu.ninep.moves import MOVES, FidState
from cognu.ninep.server import Called, Cancel, Event, Limits, Release, Send, ServerSession
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
            if self.dialect is not OLD:
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


# -- legal moves: every message against every state of every fid it names --

# "." hands the request over; otherwise the error. The columns are free, file, directory, open file, open directory,
# authentication, attribute.
EXPECTED = """
Tauth.afid          .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Tattach.fid         .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Tattach.afid        BADF   BADUSE BADUSE BADUSE BADUSE .      BADUSE
Twalk.fid           BADF   NOTDIR .      NOTDIR BADUSE BADUSE BADUSE
Twalk.newfid        .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Topen.fid           BADF   .      .      BADUSE BADUSE BADUSE -
Tcreate.fid         BADF   NOTDIR .      NOTDIR BADUSE BADUSE -
Tread.fid           BADF   BADUSE BADUSE .      .      .      .
Twrite.fid          BADF   BADUSE BADUSE .      ISDIR  .      .
Tclunk.fid          BADF   .      .      .      .      .      .
Tremove.fid         BADF   .      .      .      .      .      .
Tstat.fid           BADF   .      .      .      .      BADUSE -
Twstat.fid          BADF   .      .      .      .      BADUSE -
Tstatfs.fid         BADF   .      .      .      .      BADUSE BADUSE
Tlopen.fid          BADF   .      .      BADUSE BADUSE BADUSE BADUSE
Tlcreate.fid        BADF   NOTDIR .      NOTDIR BADUSE BADUSE BADUSE
Tsymlink.fid        BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Tmknod.dfid         BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Trename.fid         BADF   .      .      .      .      BADUSE BADUSE
Trename.dfid        BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Treadlink.fid       BADF   .      BADUSE .      ISDIR  BADUSE BADUSE
Tgetattr.fid        BADF   .      .      .      .      BADUSE BADUSE
Tsetattr.fid        BADF   .      .      .      .      BADUSE BADUSE
Txattrwalk.fid      BADF   .      .      .      .      BADUSE BADUSE
Txattrwalk.newfid   .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Txattrcreate.fid    BADF   .      .      BADUSE BADUSE BADUSE BADUSE
Treaddir.fid        BADF   NOTDIR BADUSE NOTDIR .      BADUSE BADUSE
Tfsync.fid          BADF   BADUSE BADUSE .      .      BADUSE BADUSE
Tlock.fid           BADF   BADUSE BADUSE .      .      BADUSE BADUSE
Tgetlock.fid        BADF   BADUSE BADUSE .      .      BADUSE BADUSE
Tlink.fid           BADF   .      .      .      .      BADUSE BADUSE
Tlink.dfid          BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Tmkdir.dfid         BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Trenameat.olddirfid BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Trenameat.newdirfid BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Tunlinkat.dirfid    BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
"""
COLUMNS = [
    FidState.FREE,
    FidState.FILE,
    FidState.DIR,
    FidState.OPEN,
    FidState.OPENDIR,
    FidState.AUTH,
    FidState.XATTR,
]

# A request of each kind; the fid under test is 10, the other one 20, which is a directory or free as needed.
SAMPLES: dict[str, Request] = {
    "Tauth.afid": m.Tauth(10, "u", ""),
    "Tattach.fid": m.Tattach(10, NOFID, "u", ""),
    "Tattach.afid": m.Tattach(21, 10, "u", ""),
    "Twalk.fid": m.Twalk(10, 21, ("a",)),
    "Twalk.newfid": m.Twalk(20, 10, ("a",)),
    "Topen.fid": m.Topen(10, 0),
    "Tcreate.fid": m.Tcreate(10, "a", 0o644, 0),
    "Tread.fid": m.Tread(10, 0, 1),
    "Twrite.fid": m.Twrite(10, 0, b"x"),
    "Tclunk.fid": m.Tclunk(10),
    "Tremove.fid": m.Tremove(10),
    "Tstat.fid": m.Tstat(10),
    "Twstat.fid": m.Twstat(10, STAT),
    "Tstatfs.fid": m.Tstatfs(10),
    "Tlopen.fid": m.Tlopen(10, 0),
    "Tlcreate.fid": m.Tlcreate(10, "a", 0, 0o644, 0),
    "Tsymlink.fid": m.Tsymlink(10, "a", "b", 0),
    "Tmknod.dfid": m.Tmknod(10, "a", 0, 0, 0, 0),
    "Trename.fid": m.Trename(10, 20, "a"),
    "Trename.dfid": m.Trename(20, 10, "a"),
    "Treadlink.fid": m.Treadlink(10),
    "Tgetattr.fid": m.Tgetattr(10, 0),
    "Tsetattr.fid": m.Tsetattr(10, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "Txattrwalk.fid": m.Txattrwalk(10, 21, ""),
    "Txattrwalk.newfid": m.Txattrwalk(20, 10, ""),
    "Txattrcreate.fid": m.Txattrcreate(10, "a", 0, 0),
    "Treaddir.fid": m.Treaddir(10, 0, 1),
    "Tfsync.fid": m.Tfsync(10, 0),
    "Tlock.fid": m.Tlock(10, 0, 0, 0, 0, 0, ""),
    "Tgetlock.fid": m.Tgetlock(10, 0, 0, 0, 0, ""),
    "Tlink.fid": m.Tlink(20, 10, "a"),
    "Tlink.dfid": m.Tlink(10, 20, "a"),
    "Tmkdir.dfid": m.Tmkdir(10, "a", 0, 0),
    "Trenameat.olddirfid": m.Trenameat(10, "a", 20, "b"),
    "Trenameat.newdirfid": m.Trenameat(20, "a", 10, "b"),
    "Tunlinkat.dirfid": m.Tunlinkat(10, "a", 0),
}


def test_the_table_below_names_every_fid_of_every_message() -> None:
    named = {f"{kind.__name__}.{use.field}" for kind, moves in MOVES.items() for use in moves}
    rows = {line.split()[0] for line in EXPECTED.strip().splitlines()}
    assert named == rows == SAMPLES.keys()
    every = {kind for dialect in Dialect for kind in messages_of(dialect) if kind.__name__.startswith("T")}
    assert set(MOVES) == every


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("row", EXPECTED.strip().splitlines(), ids=lambda row: row.split()[0])
def test_every_message_against_every_state(row: str, dialect: Dialect) -> None:
    name, *cells = row.split()
    request = SAMPLES[name]
    for state, cell in zip(COLUMNS, cells, strict=True):
        if type(request) not in messages_of(dialect) or (state is FidState.XATTR and dialect is OLD):
            continue
        if name == "Tread.fid" and state is FidState.OPENDIR and dialect is not OLD:
            cell = "ISDIR"  # 9P2000.L reads directories with Treaddir alone
        bench = Bench(dialect)
        bench.fid(20, FidState.DIR)
        bench.fid(10, state)
        before = bench.session.fid_count
        events = bench.ask(request)
        if cell == ".":
            (event,) = events
            assert isinstance(event, Called), (name, state)
            assert (event.tag, event.message) == (1, request)
            targets = [event.target, event.other]
            assert ("target 10" in targets) == (state is not FidState.FREE)
            bench.session.error(1, FileError(E.IO))
            bench.events()
            ended = isinstance(request, m.Tclunk | m.Tremove)
            assert bench.session.fid_count == before - ended  # an error changes nothing, but a clunk always ends
        else:
            refused(bench, events, E[cell])
            assert bench.session.fid_count == before
        assert bench.session.in_flight == 0


def test_targets_come_in_the_documented_order() -> None:
    bench = Bench()
    for number in (1, 2):
        bench.fid(number, FidState.DIR)
    bench.fid(3, FidState.AUTH)
    orders: list[tuple[Request, object, object]] = [
        (m.Trename(1, 2, "n"), "target 1", "target 2"),
        (m.Tlink(2, 1, "n"), "target 1", "target 2"),
        (m.Trenameat(1, "a", 2, "b"), "target 1", "target 2"),
        (m.Trenameat(1, "a", 1, "b"), "target 1", "target 1"),
        (m.Tattach(4, 3, "u", ""), None, "target 3"),
        (m.Tattach(5, NOFID, "u", ""), None, None),
        (m.Twalk(1, 6, ("a",)), "target 1", None),
    ]
    for tag, (request, target, other) in enumerate(orders):
        assert bench.ask(request, tag) == [Called(tag, request, target, other)]


# -- walks --


def test_a_complete_walk_makes_the_fid_and_a_short_one_does_not() -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    bench.ask(m.Twalk(0, 1, ("a", "b")))
    bench.session.reply(1, m.Rwalk((DIR,)))
    assert bench.sent() == [(1, m.Rwalk((DIR,)))]
    assert bench.session.fid_count == 1
    bench.do(m.Twalk(0, 1, ("a", "b")), m.Rwalk((DIR, FILE)), "b")
    assert bench.ask(m.Tgetattr(1, 0)) == [Called(1, m.Tgetattr(1, 0), "b", None)]


def test_a_walk_onto_its_own_fid_replaces_and_releases_what_it_stood_for() -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    bench.ask(m.Twalk(0, 0, ("a",)))
    bench.session.reply(1, m.Rwalk((FILE,)), "a")
    released, sent = bench.events()
    assert released == Release(("target 0",))
    assert bench.message(sent) == (1, m.Rwalk((FILE,)))
    assert bench.ask(m.Tlopen(0, 0)) == [Called(1, m.Tlopen(0, 0), "a", None)]


def test_an_open_fid_can_be_cloned_and_the_clone_is_not_open() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.fid(1, FidState.OPENDIR)
    bench.do(m.Twalk(0, 2, ()), m.Rwalk(()), "clone")
    bench.do(m.Twalk(1, 3, ()), m.Rwalk(()), "clone of directory")
    bench.do(m.Twalk(0, 0, ()), m.Rwalk(()))
    refused(bench, bench.ask(m.Tread(2, 0, 1)), E.BADUSE)
    assert bench.ask(m.Tlopen(2, 0), 1) == [Called(1, m.Tlopen(2, 0), "clone", None)]
    assert bench.ask(m.Tmkdir(3, "d", 0, 0), 3) == [Called(3, m.Tmkdir(3, "d", 0, 0), "clone of directory", None)]


NAMES: list[tuple[Request, E]] = [
    (m.Twalk(0, 1, ("a",) * 17), E.BADMESSAGE),
    (m.Twalk(0, 1, ("a/b",)), E.ILSEQ),
    (m.Twalk(0, 1, ("",)), E.ILSEQ),
    (m.Twalk(0, 1, ("é" * 128,)), E.NAMETOOLONG),
    (m.Tmkdir(0, "..", 0, 0), E.INVAL),
    (m.Tlcreate(0, ".", 0, 0, 0), E.INVAL),
    (m.Trenameat(0, "a/", 0, "b"), E.ILSEQ),
    (m.Trenameat(0, "a", 0, ".."), E.INVAL),
    (m.Tunlinkat(0, "", 0), E.ILSEQ),
]


@pytest.mark.parametrize(("request_", "error"), NAMES)
def test_names_that_can_not_be_are_refused(request_: Request, error: E) -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    refused(bench, bench.ask(request_), error)


def test_a_wstat_that_leaves_the_name_alone_is_no_bad_name() -> None:
    bench = Bench(OLD)
    bench.fid(0, FidState.FILE)
    request = m.Twstat(0, STAT._replace(name=""))
    assert bench.ask(request) == [Called(1, request, "target 0", None)]
    refused(bench, bench.ask(m.Twstat(0, STAT._replace(name="a/b")), 2), E.ILSEQ)


# -- turns --


def test_a_parked_read_does_not_block_a_write_on_the_same_fid() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    (parked,) = bench.ask(m.Tread(0, 0, 10), 1)
    (write,) = bench.ask(m.Twrite(0, 0, b"x"), 2)
    assert isinstance(parked, Called)
    assert isinstance(write, Called)
    bench.session.reply(2, m.Rwrite(1))
    bench.session.reply(1, m.Rread(b"x"))
    assert bench.sent() == [(2, m.Rwrite(1)), (1, m.Rread(b"x"))]


def test_requests_that_need_an_earlier_one_wait_for_it() -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    pipeline: list[Request] = [m.Twalk(0, 1, ("a",)), m.Tlopen(1, 0), m.Tread(1, 0, 5), m.Tread(1, 5, 5)]
    for tag, message in enumerate(pipeline):
        bench.feed(message, tag)
    assert bench.events() == [Called(0, m.Twalk(0, 1, ("a",)), "target 0", None)]
    bench.session.reply(0, m.Rwalk((FILE,)), "a")
    _, opened = bench.events()
    assert opened == Called(1, m.Tlopen(1, 0), "a", None)
    bench.session.reply(1, m.Rlopen(FILE, 0))
    _, *reads = bench.events()
    assert reads == [Called(2, m.Tread(1, 0, 5), "a", None), Called(3, m.Tread(1, 5, 5), "a", None)]


def test_when_the_earlier_one_fails_those_that_need_it_fail_too() -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    bench.feed(m.Twalk(0, 1, ("a",)), 0)
    bench.feed(m.Tlopen(1, 0), 1)
    bench.feed(m.Tread(1, 0, 5), 2)
    bench.events()
    bench.session.error(0, FileError(E.NOENT))
    assert bench.sent() == [(0, m.Rlerror(2)), (1, m.Rlerror(9)), (2, m.Rlerror(9))]
    assert (bench.session.in_flight, bench.session.fid_count) == (0, 1)


# -- flush --


def test_rflush_comes_after_the_reply_if_the_request_ended_first() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    assert bench.ask(m.Tflush(1), 2) == [Cancel(1)]
    bench.session.reply(1, m.Rread(b"x"))
    assert bench.sent() == [(1, m.Rread(b"x")), (2, m.Rflush())]


def test_a_cancelled_request_gets_no_reply_and_its_tag_is_free_again() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    bench.ask(m.Tflush(1), 2)
    bench.session.cancelled(1)
    assert bench.sent() == [(2, m.Rflush())]
    with pytest.raises(Misuse):
        bench.session.reply(1, m.Rread(b"x"))
    assert bench.ask(m.Tread(0, 0, 5), 1) == [Called(1, m.Tread(0, 0, 5), "target 0", None)]


def test_several_flushes_of_one_tag_are_answered_in_order_and_cancel_once() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    events = [event for tag in (2, 3, 4) for event in bench.ask(m.Tflush(1), tag)]
    assert events == [Cancel(1)]
    bench.session.cancelled(1)
    assert bench.sent() == [(tag, m.Rflush()) for tag in (2, 3, 4)]


def test_a_flush_of_a_flush_is_answered_right_after_it() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    bench.ask(m.Tflush(1), 2)
    assert bench.ask(m.Tflush(2), 3) == []
    assert bench.session.in_flight == 3
    bench.session.cancelled(1)
    assert bench.sent() == [(2, m.Rflush()), (3, m.Rflush())]
    assert bench.session.in_flight == 0


def test_a_flush_of_an_unknown_tag_or_of_itself_is_answered_at_once() -> None:
    bench = Bench()
    for old in (7, 2, NOTAG):
        bench.feed(m.Tflush(old), 2)
        assert bench.sent() == [(2, m.Rflush())]


def test_a_flush_of_a_request_that_waits_for_its_turn_is_answered_at_once() -> None:
    bench = Bench()
    bench.fid(0, FidState.FILE)
    bench.ask(m.Tlopen(0, 0), 1)
    assert bench.ask(m.Tread(0, 0, 5), 2) == []
    bench.feed(m.Tflush(2), 3)
    assert bench.sent() == [(3, m.Rflush())]
    bench.session.reply(1, m.Rlopen(FILE, 0))
    assert bench.sent() == [(1, m.Rlopen(FILE, 0))]


def test_a_flushed_walk_that_was_stopped_leaves_its_fid_free() -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    bench.ask(m.Twalk(0, 1, ("a",)), 1)
    bench.ask(m.Tflush(1), 2)
    bench.session.cancelled(1)
    bench.events()
    assert bench.session.fid_count == 1
    bench.do(m.Twalk(0, 1, ("a",)), m.Rwalk((FILE,)), "a")


def test_a_flushed_clunk_that_was_stopped_leaves_its_fid() -> None:
    bench = Bench()
    bench.fid(0, FidState.FILE)
    bench.ask(m.Tclunk(0), 1)
    assert bench.ask(m.Tflush(1), 2) == [Cancel(1)]
    bench.session.cancelled(1)
    bench.events()
    assert bench.ask(m.Tgetattr(0, 0)) == [Called(1, m.Tgetattr(0, 0), "target 0", None)]


# -- clunk --


def test_a_clunk_cancels_what_is_parked_and_starts_when_that_has_ended() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    bench.ask(m.Tread(0, 0, 5), 2)
    assert bench.ask(m.Tclunk(0), 3) == [Cancel(1), Cancel(2)]
    bench.session.cancelled(1)
    assert bench.sent() == [(1, m.Rlerror(4))]
    bench.session.reply(2, m.Rread(b"x"))  # it was done already
    sent, clunk = bench.events()
    assert bench.message(sent) == (2, m.Rread(b"x"))
    assert clunk == Called(3, m.Tclunk(0), "target 0", None)
    bench.session.reply(3, m.Rclunk())
    assert bench.sent() == [(3, m.Rclunk())]
    assert bench.session.fid_count == 0


def test_a_clunk_ends_what_waits_before_it_and_a_later_request_finds_no_fid() -> None:
    bench = Bench()
    bench.fid(0, FidState.FILE)
    bench.ask(m.Tlopen(0, 0), 1)
    bench.ask(m.Tread(0, 0, 5), 2)
    refused_read, cancel = sorted(bench.ask(m.Tclunk(0), 3), key=lambda event: isinstance(event, Cancel))
    assert bench.message(refused_read) == (2, m.Rlerror(4))
    assert cancel == Cancel(1)
    bench.feed(m.Tgetattr(0, 0), 4)
    bench.feed(m.Tclunk(0), 5)
    assert bench.sent() == [(4, m.Rlerror(4))]
    bench.session.cancelled(1)
    sent, clunk = bench.events()
    assert bench.message(sent) == (1, m.Rlerror(4))
    assert clunk == Called(3, m.Tclunk(0), "target 0", None)
    bench.session.reply(3, m.Rclunk())
    assert bench.sent() == [(3, m.Rclunk()), (5, m.Rlerror(9))]


def test_a_clunk_ends_waiting_calls_whose_turn_it_makes_come() -> None:
    bench = Bench()
    bench.ask(m.Tauth(1, "u", ""), 1)
    assert bench.ask(m.Tattach(2, 1, "u", ""), 2) == []  # has fid 2, waits for fid 1
    assert bench.ask(m.Tauth(2, "u", ""), 3) == []  # waits for the attach
    bench.feed(m.Tclunk(2), 4)
    assert bench.sent() == [(2, m.Rlerror(4)), (3, m.Rlerror(4)), (4, m.Rlerror(9))]
    assert bench.session.in_flight == 1


def test_a_failed_clunk_or_remove_ends_the_fid_all_the_same() -> None:
    bench = Bench(OLD)
    for request in (m.Tclunk(0), m.Tremove(0)):
        bench.fid(0, FidState.FILE)
        bench.ask(request)
        bench.session.error(1, FileError(E.PERM, "f"))
        assert bench.sent() == [(1, m.Rerror("f: operation not permitted"))]
        assert bench.session.fid_count == 0


# -- tags --


def test_a_tag_in_use_is_refused_and_the_first_request_goes_on() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    refused(bench, bench.ask(m.Tgetattr(0, 0), 1), E.DUPTAG)
    refused(bench, bench.ask(m.Tflush(9), 1), E.DUPTAG)
    bench.session.reply(1, m.Rread(b""))
    assert bench.sent() == [(1, m.Rread(b""))]


def test_notag_is_for_versions_only() -> None:
    bench = Bench()
    refused(bench, bench.ask(m.Tattach(0, NOFID, "", ""), NOTAG), E.BADMESSAGE)


# -- versions --

VERSIONS = [
    ("9P2000", "9P2000"),
    ("9P2000.L", "9P2000.L"),
    ("9P2000.u", "9P2000"),
    ("9P2000.ng", "9P2000.ng"),
    ("9P2000.L.x", "9P2000"),
    ("9P1999", "unknown"),
    ("9P2000x", "unknown"),
    ("", "unknown"),
    ("Q", "unknown"),
    ("unknown", "unknown"),
]


@pytest.mark.parametrize(("asked", "answer"), VERSIONS)
def test_the_dialect_asked_for_or_plain_9p2000_is_answered(asked: str, answer: str) -> None:
    bench = Bench(None)
    bench.feed(m.Tversion(8192, asked), NOTAG)
    assert bench.sent() == [(NOTAG, m.Rversion(8192, answer))]
    assert bench.session.dialect == next((dialect for dialect in Dialect if dialect.value == answer), None)


@pytest.mark.parametrize(("asked", "answer"), [(256, 256), (65_536, 65_536), (65_537, 65_536), (2**32 - 1, 65_536)])
def test_msize_is_the_smaller_of_both(asked: int, answer: int) -> None:
    bench = Bench(None)
    bench.feed(m.Tversion(asked, "9P2000"), NOTAG)
    assert bench.sent() == [(NOTAG, m.Rversion(answer, "9P2000"))]
    assert bench.session.msize == answer


def test_an_msize_too_small_is_refused_and_changes_nothing() -> None:
    bench = Bench(OLD)
    bench.fid(0, FidState.DIR)
    refused(bench, bench.ask(m.Tversion(255, "9P2000"), NOTAG), E.INVAL)
    assert bench.session.fid_count == 1


def test_nothing_goes_before_a_version() -> None:
    bench = Bench(None)
    refused(bench, bench.ask(m.Tattach(0, NOFID, "", "")), E.BADMESSAGE)
    bench.feed(m.Tversion(8192, "nonsense"), NOTAG)
    bench.events()
    refused(bench, bench.ask(m.Tattach(0, NOFID, "", "")), E.BADMESSAGE)


def test_a_new_version_cancels_all_then_releases_all_then_is_answered() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.fid(1, FidState.DIR)
    bench.ask(m.Tread(0, 0, 5), 1)
    bench.ask(m.Twalk(1, 2, ("a",)), 2)
    bench.ask(m.Tlopen(2, 0), 3)
    bench.ask(m.Tflush(2), 4)
    assert bench.ask(m.Tversion(4096, "9P2000"), NOTAG) == [Cancel(1)]  # 2 was cancelled by its flush already
    bench.dialect = OLD
    bench.feed(m.Tattach(0, NOFID, "", ""), 1)
    assert bench.events() == []
    bench.session.cancelled(1)
    assert bench.events() == []
    bench.session.reply(2, m.Rwalk((FILE,)), "walked")  # too late: it goes nowhere, but nothing leaks
    released, sent, called = bench.events()
    assert isinstance(released, Release)
    assert sorted(map(str, released.targets)) == ["target 0", "target 1", "walked"]
    assert bench.message(sent) == (NOTAG, m.Rversion(4096, "9P2000"))
    assert called == Called(1, m.Tattach(0, NOFID, "", ""), None, None)
    assert (bench.session.dialect, bench.session.fid_count) == (OLD, 0)


def test_a_client_that_goes_on_sending_while_it_waits_for_rversion_is_stopped() -> None:
    bench = Bench(L, Limits(8192))
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    bench.ask(m.Tversion(8192, "9P2000.L"), NOTAG)
    some = b"".join(encode(m.Tgetattr(0, 0), 1, L)) * 100
    for _ in range(8192 // len(some)):
        bench.session.feed(some)
    with pytest.raises(ProtocolError):
        bench.session.feed(some)


# -- the end --


def test_close_cancels_and_releases_and_sends_nothing_more() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    bench.session.close()
    bench.session.close()
    assert bench.events() == [Cancel(1)]
    bench.session.reply(1, m.Rread(b"x"))
    assert bench.events() == [Release(("target 0",))]
    assert bench.session.in_flight == 0
    with pytest.raises(Misuse):
        bench.feed(m.Tclunk(0), 1)


def test_close_takes_back_what_the_embedding_has_not_seen() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    bench.ask(m.Tread(0, 0, 5), 1)
    bench.session.reply(1, m.Rread(b"x"))
    bench.session.close()
    assert bench.events() == [Release(("target 0",))]


# -- limits --


def test_too_many_fids_are_refused_without_effect_and_those_being_made_count() -> None:
    bench = Bench(L, Limits(65_536, fids=3))
    bench.fid(0, FidState.DIR)
    bench.fid(1, FidState.DIR)
    bench.ask(m.Twalk(0, 2, ("a",)), 1)
    refused(bench, bench.ask(m.Tattach(3, NOFID, "", ""), 2), E.MFILE)
    bench.session.error(1, FileError(E.NOENT))
    bench.events()
    bench.fid(3, FidState.DIR)
    refused(bench, bench.ask(m.Txattrwalk(0, 4, ""), 2), E.MFILE)
    bench.do(m.Tclunk(3), m.Rclunk())
    bench.fid(4, FidState.DIR)


def test_too_many_requests_are_refused_without_effect_but_never_a_flush_or_clunk() -> None:
    bench = Bench(L, Limits(65_536, calls=2))
    bench.fid(0, FidState.OPEN)
    for tag in (1, 2):
        bench.ask(m.Tread(0, 0, 5), tag)
    refused(bench, bench.ask(m.Tread(0, 0, 5), 3), E.AGAIN)
    assert bench.ask(m.Tflush(1), 4) == [Cancel(1)]
    assert bench.ask(m.Tclunk(0), 5) == [Cancel(2)]
    for tag in (1, 2):
        bench.session.cancelled(tag)
    assert bench.events()[-1] == Called(5, m.Tclunk(0), "target 0", None)


def test_ten_thousand_fids() -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    for fid in range(1, 10_000):
        bench.do(m.Twalk(0, fid, ("a",)), m.Rwalk((FILE,)), fid)
    assert bench.session.fid_count == 10_000
    for fid in range(1, 10_000):
        bench.do(m.Tclunk(fid), m.Rclunk())
    assert bench.session.fid_count == 1


def test_nofid_names_nothing() -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    for request in (m.Tclunk(NOFID), m.Twalk(0, NOFID, ()), m.Tattach(NOFID, NOFID, "", "")):
        refused(bench, bench.ask(request), E.BADF)


def test_a_read_is_asked_for_no_more_than_fits_the_reply() -> None:
    bench = Bench(L, Limits(8192))
    bench.fid(0, FidState.OPEN)
    (event,) = bench.ask(m.Tread(0, 0, 2**32 - 1))
    assert isinstance(event, Called)
    assert event.message == m.Tread(0, 0, 8192 - 11)
    bench.session.reply(1, m.Rread(bytes(8192 - 11)))
    (send,) = bench.events()
    assert isinstance(send, Send)
    assert sum(map(len, send.buffers)) == 8192


# -- replies --


def test_data_the_embedding_sends_itself_follows_its_header() -> None:
    bench = Bench()
    bench.fid(0, FidState.OPEN)
    extent = Extent("host file", 4096, 5)
    bench.ask(m.Tread(0, 0, 10))
    bench.session.reply_extent(1, extent)
    (send,) = bench.events()
    header = b"".join(encode(m.Rread(b"12345"), 1, L))[:11]
    assert send == Send((header, extent))
    bench.ask(m.Tread(0, 0, 10))
    with pytest.raises(Misuse):
        bench.session.reply_extent(1, Extent("host file", 0, 11))
    bench.session.reply_extent(1, Extent("host file", 0, 0))
    assert bench.sent() == [(1, m.Rread(b""))]


WRONG: list[tuple[Request, Reply, object]] = [
    (m.Tread(1, 0, 2), m.Rwrite(2), None),
    (m.Tread(1, 0, 2), m.Rread(b"abc"), None),
    (m.Tread(1, 0, 2), m.Rlerror(5), None),
    (m.Tread(1, 0, 2), m.Rread(b""), "made"),
    (m.Twrite(1, 0, b"ab"), m.Rwrite(3), None),
    (m.Twalk(0, 2, ("a",)), m.Rwalk(()), None),
    (m.Twalk(0, 2, ("a",)), m.Rwalk((FILE, FILE)), "made"),
    (m.Twalk(0, 2, ("a",)), m.Rwalk((FILE,)), None),
    (m.Twalk(0, 2, ("a", "b")), m.Rwalk((FILE,)), "made"),
    (m.Tattach(2, NOFID, "", ""), m.Rattach(DIR), None),
]


@pytest.mark.parametrize(("request_", "reply", "made"), WRONG)
def test_a_wrong_reply_is_misuse_and_leaves_the_request_open(request_: Request, reply: Reply, made: object) -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    bench.fid(1, FidState.OPEN)
    bench.ask(request_)
    with pytest.raises(Misuse):
        bench.session.reply(1, reply, made)
    assert bench.events() == []
    with pytest.raises(Misuse):
        bench.session.cancelled(1)  # nobody asked for that
    bench.session.error(1, FileError(E.IO))
    assert bench.sent() == [(1, m.Rlerror(5))]
    assert bench.session.fid_count == 2


def test_a_result_that_the_wire_can_not_carry_is_an_error_and_what_was_made_comes_back() -> None:
    bench = Bench(L, Limits(256))
    bench.fid(0, FidState.FILE)
    for target, error in (("x" * 300, E.MSGSIZE), ("\udc80", E.ILSEQ)):
        bench.ask(m.Treadlink(0))
        bench.session.reply(1, m.Rreadlink(target))
        assert bench.sent() == [(1, m.Rlerror(error.errno))]
    bench.ask(m.Tattach(1, NOFID, "", ""))
    bench.session.reply(1, m.Rattach(Qid(0, 1 << 32, 0)), "made")
    released, sent = bench.events()
    assert released == Release(("made",))
    assert bench.message(sent) == (1, m.Rlerror(E.OVERFLOW.errno))
    assert bench.session.fid_count == 1


ERRORS = [
    (FileError(E.NOENT, "f"), "f: file does not exist", 2),
    (FileError(E.STALE), "file is gone at its server", 116),
    (FileError(E.NOENT, "x" * 200), "file does not exist", 2),
    (FileError(E.NOENT, "\udc80"), "file does not exist", 2),
    (FileError(E.NOENT, "a\0"), "file does not exist", 2),
]


@pytest.mark.parametrize(("error", "text", "number"), ERRORS)
def test_errors_are_text_on_9p2000_and_numbers_on_l(error: CognuError, text: str, number: int) -> None:
    for dialect, expected in ((OLD, m.Rerror(text)), (L, m.Rlerror(number))):
        bench = Bench(dialect)
        bench.fid(0, FidState.FILE)
        bench.ask(m.Tremove(0))
        bench.session.error(1, error)
        assert bench.sent() == [(1, expected)]


# -- broken input --


def raw(number: int, tag: int, body: bytes) -> bytes:
    return (7 + len(body)).to_bytes(4, "little") + bytes([number]) + tag.to_bytes(2, "little") + body


def test_a_message_of_another_dialect_or_with_bad_text_is_refused_and_the_session_goes_on() -> None:
    bench = Bench()
    bench.fid(0, FidState.DIR)
    bench.session.feed(raw(124, 1, bytes(4)))  # Tstat
    refused(bench, bench.events(), E.NOSYS)
    bench.session.feed(raw(250, 1, b""))
    refused(bench, bench.events(), E.NOSYS)
    bench.session.feed(raw(72, 1, bytes(4) + b"\1\0\xff" + bytes(8)))  # Tmkdir
    refused(bench, bench.events(), E.ILSEQ)


BROKEN = [raw(101, 1, bytes(4) + b"\0\0"), raw(120, 1, b""), raw(120, 1, bytes(5)), bytes(4), b"\xff" * 4]


@pytest.mark.parametrize("wire", BROKEN)
def test_what_is_no_request_ends_the_session(wire: bytes) -> None:
    bench = Bench()
    bench.session.feed(wire)
    with pytest.raises(ProtocolError):
        bench.session.next_event()
    bench.session.close()
    assert bench.events() == []


SMALL = st.integers(0, 4)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "1": st.integers(0, 3),
    "2": SMALL,
    "4": SMALL | st.just(NOFID),
    "8": st.integers(0, 9),
    "s": st.sampled_from(["", "a", "..", "a/b", "9P2000", "9P2000.L"]),
    "d": st.binary(max_size=9),
    "S": st.lists(st.sampled_from(["a", "b", ".."]), max_size=3).map(tuple),
    "t": st.just(STAT),
}


def any_request(dialect: Dialect) -> st.SearchStrategy[Request]:
    rows = [row for row in m.TABLE if dialect in row.dialects and m.is_request(row.number) and row.number != 100]
    return st.sampled_from(rows).flatmap(
        lambda row: st.builds(row.message, *(FIELDS[kind] for kind in row.layout.split()))  # type: ignore[arg-type]
    )


def result(event: Called) -> tuple[Reply | None, object]:
    """A plausible result of a request; None for those that this small server can't do."""
    match event.message:
        case m.Tattach():
            return m.Rattach(DIR), object()
        case m.Tauth():
            return m.Rauth(Qid(8, 0, 0)), object()
        case m.Twalk(fid=fid, newfid=newfid, names=names):
            qids = tuple(DIR if name == "a" else FILE for name in names)
            return m.Rwalk(qids), None if fid == newfid and not names else object()
        case m.Tread():
            return m.Rread(b""), None
        case m.Twrite():
            return m.Rwrite(0), None
        case m.Tlopen():
            return m.Rlopen(DIR, 0), None
        case m.Topen():
            return m.Ropen(FILE, 0), object()
        case m.Txattrwalk():
            return m.Rxattrwalk(0), object()
        case m.Tclunk():
            return m.Rclunk(), None
        case m.Tremove():
            return m.Rremove(), None
        case _:
            return None, None


class Embedding:
    """Carries out requests late and in any order, and keeps the books: what was made and what came back."""

    def __init__(self, session: ServerSession) -> None:
        self.session = session
        self.open: dict[int, Called] = {}
        self.cancels: set[int] = set()
        self.made: set[int] = set()
        self.sent = 0

    def drain(self) -> None:
        for event in iter(self.session.next_event, None):
            match event:
                case Called():
                    assert event.tag not in self.open
                    self.open[event.tag] = event
                case Cancel(tag=tag):
                    assert tag in self.open
                    self.cancels.add(tag)
                case Release(targets=targets):
                    self.forget(targets)
                case Send():
                    self.sent += 1

    def forget(self, targets: Iterable[object]) -> None:
        for target in targets:
            self.made.remove(id(target))

    def end(self, tag: int, how: int) -> None:
        event = self.open.pop(tag)
        reply, made = result(event)
        if tag in self.cancels and how == 0:
            self.session.cancelled(tag)
        else:
            if isinstance(event.message, m.Tclunk | m.Tremove):
                self.forget([event.target])
            if how == 1 or reply is None:
                self.session.error(tag, FileError(E.IO))
            else:
                if made is not None:
                    self.made.add(id(made))
                    self.keep.append(made)
                self.session.reply(tag, reply, made)
        self.cancels.discard(tag)

    keep: list[object] = []  # noqa: RUF012  (keeps ids unique for as long as the tests run)


@pytest.mark.parametrize("dialect", Dialect)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_asked_nothing_leaks_and_every_request_is_answered(dialect: Dialect, data: st.DataObject) -> None:
    bench = Bench(dialect, Limits(8192, fids=4, calls=5))
    embedding = Embedding(bench.session)
    asked = 0
    for _ in range(data.draw(st.integers(0, 40))):
        end: bool = data.draw(st.booleans())
        if embedding.open and end:
            embedding.end(data.draw(st.sampled_from(sorted(embedding.open))), data.draw(st.integers(0, 2)))
        else:
            bench.feed(data.draw(any_request(dialect)), data.draw(st.integers(1, 8)))
            asked += 1
        embedding.drain()
        assert bench.session.fid_count <= 4
    if data.draw(st.booleans()):
        bench.feed(m.Tversion(8192, dialect.value), NOTAG)
    else:
        bench.session.close()
    embedding.drain()
    while embedding.open:
        embedding.end(min(embedding.open), 2)
        embedding.drain()
    assert not embedding.made
    assert (bench.session.fid_count, bench.session.in_flight) == (0, 0)
    assert embedding.sent <= asked + 1


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_raise_protocol_errors_only_and_keep_no_more_than_a_message(
    chunks: list[bytes], framed: bool
) -> None:
    bench = Bench(L, Limits(256))
    embedding = Embedding(bench.session)
    try:
        for chunk in chunks:
            wire = raw(chunk[0] & 0x7E, chunk[1], chunk[2:]) if framed and len(chunk) > 2 else chunk
            bench.session.feed(wire)
            embedding.drain()
            assert bench.session._frames.pending <= 256
    except ProtocolError:
        pass
    bench.session.close()
    embedding.drain()
    while embedding.open:
        embedding.end(min(embedding.open), 1)
        embedding.drain()
    assert bench.session.in_flight == 0


def test_limits_out_of_range_are_misuse() -> None:
    for msize in (255, (16 << 20) + 1):
        with pytest.raises(Misuse):
            ServerSession(Limits(msize))


def test_ng_carries_the_whole_error_cut_to_the_message() -> None:
    bench = Bench(Dialect.NG)
    bench.fid(1, FidState.FILE)
    bench.ask(m.Tgetattr(1, 0))
    bench.session.error(1, FileError(E.NOCREATE, "/p\0\ud800", "d" * 100_000))
    (event,) = bench.events()
    _, message = bench.message(event)
    assert isinstance(message, m.Rngerror)
    assert (message.ecode, message.symbol, message.subject) == (E.NOCREATE.errno, "NOCREATE", "/p??")
    assert message.detail == "d" * len(message.detail)
    assert 1000 < len(message.detail) <= 4096
