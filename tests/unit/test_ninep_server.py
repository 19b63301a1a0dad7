"""The server session: walks, turns at a fid, flush, clunk, tags, versions, limits, replies."""

from __future__ import annotations

import pytest

from cognu.errors import CognuError, E, FileError, Misuse, ProtocolError
from cognu.ninep import messages as m
from cognu.ninep.codec import encode
from cognu.ninep.fids import FidRoom
from cognu.ninep.messages import Dialect, Reply, Request
from cognu.ninep.moves import FidState
from cognu.ninep.server import Called, Cancel, Limits, Release, Send
from cognu.ninep.types import NOFID, NOTAG, Extent, Qid
from ninep_kit import DIR, FILE, OLD, STAT, Bench, L, refused

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
        assert bench.sent() == [(1, m.Rerror("operation not permitted"))]
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
    ("9P2000.u", "9P2000.u"),
    ("9P2000.u.x", "9P2000"),
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


def test_several_connections_have_room_for_so_many_fids_together() -> None:
    room = FidRoom("peer pi", 3)
    one, two = (Bench(L, Limits(65_536, together=room)) for _ in range(2))
    one.fid(0, FidState.DIR)
    one.fid(1, FidState.DIR)
    two.ask(m.Tattach(0, NOFID, "", ""), 1)
    assert room.taken == 3
    refused(one, one.ask(m.Twalk(0, 2, ("a",)), 2), E.DQUOT)
    two.session.error(1, FileError(E.NOENT))
    two.events()
    two.fid(5, FidState.DIR)
    refused(two, two.ask(m.Txattrwalk(5, 6, ""), 2), E.DQUOT)
    one.session.close()
    assert room.taken == 1
    two.do(m.Tremove(5), m.Rremove())
    assert room.taken == 0
    two.ask(m.Tattach(0, NOFID, "", ""), 1)
    two.session.close()
    two.session.cancelled(1)
    assert room.taken == 0


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
    (FileError(E.NOENT, "f"), "file does not exist", 2),
    (FileError(E.PERM, "f", "owners don't change here"), "operation not permitted: owners don't change here", 1),
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
