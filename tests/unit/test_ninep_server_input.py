"""The server session and what no client should send: broken messages, any bytes, any requests in any order."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError, Misuse, ProtocolError
from cognu.ninep import messages as m
from cognu.ninep.compound import BYTES, LIST, PARTS
from cognu.ninep.fids import FidRoom
from cognu.ninep.messages import Dialect, Reply, Request
from cognu.ninep.moves import FidState
from cognu.ninep.server import Called, Cancel, Limits, Release, Send, ServerSession
from cognu.ninep.table import NOT_IN_COMPOUNDS, TABLE, Row
from cognu.ninep.types import NOFID, NOTAG, Qid
from ninep_kit import DIR, FILE, STAT, Bench, L, refused

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
    "F": st.just((m.Feature(PARTS, 3), m.Feature(BYTES, 700), m.Feature(LIST, 1))),
    "u": st.just(STAT),
}


@cache
def any_request(dialect: Dialect) -> st.SearchStrategy[Request]:
    rows = [row for row in TABLE if dialect in row.dialects and m.is_request(row.number) and row.number != 100]
    # A version forgets what was agreed, so compounds have a chance only if they are often asked for.
    return st.sampled_from(rows + [row for row in rows if row.layout in ("F", "C")] * 5).flatmap(a_request)


@cache
def a_request(row: Row) -> st.SearchStrategy[Any]:
    if row.layout == "C":
        inside = [
            other
            for other in TABLE
            if Dialect.NG in other.dialects and m.is_request(other.number) and other.message not in NOT_IN_COMPOUNDS
        ]
        parts = st.lists(st.sampled_from(inside).flatmap(a_request), max_size=4)
        return parts.map(lambda found: m.Tcomp(tuple(found)))
    return st.builds(row.message, *(FIELDS[kind] for kind in row.layout.split()))


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
    room = FidRoom("peer pi", 3)
    bench = Bench(dialect, Limits(8192, fids=4, calls=5, together=room))
    embedding = Embedding(bench.session)
    if dialect is Dialect.NG:
        bench.ask(m.Tcaps((m.Feature(PARTS, 3), m.Feature(LIST, 1))))
    asked = 0
    for _ in range(data.draw(st.integers(0, 40))):
        end: bool = data.draw(st.booleans())
        if embedding.open and end:
            embedding.end(data.draw(st.sampled_from(sorted(embedding.open))), data.draw(st.integers(0, 2)))
        else:
            bench.feed(data.draw(any_request(dialect)), data.draw(st.integers(1, 8)))
            asked += 1
        embedding.drain()
        assert bench.session.fid_count <= room.taken <= 3
    if data.draw(st.booleans()):
        bench.feed(m.Tversion(8192, dialect.value), NOTAG)
    else:
        bench.session.close()
    embedding.drain()
    while embedding.open:
        embedding.end(min(embedding.open), 2)
        embedding.drain()
    assert not embedding.made
    assert (bench.session.fid_count, bench.session.in_flight, room.taken) == (0, 0, 0)
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
