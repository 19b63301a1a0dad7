"""Several requests in one trip: what both sessions make of Tcaps and Tcomp, and what may happen in the midst of one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError, Misuse, ProtocolError
from cognu.ninep import messages as m
from cognu.ninep.client import Agreed, Answered, ClientSession
from cognu.ninep.codec import decode, encode
from cognu.ninep.compound import BYTES, LIST, MINT, MOST_PARTS, PARTS, granted, wanted
from cognu.ninep.listed import LISTED_SIZE, pack_listed, unpack_listed
from cognu.ninep.messages import Dialect, Feature, Message, Reply, Request
from cognu.ninep.moves import FidState
from cognu.ninep.server import PART, Called, Cancel, Limits, Release, Send, ServerSession
from cognu.ninep.table import NOT_IN_COMPOUNDS
from cognu.ninep.types import GETATTR_ALL, NOTAG, QTSYMLINK, RIGHT_READ, Dirent, Qid
from ninep_kit import DIR, Bench

NG = Dialect.NG
STORED = Qid(0, 7, 1)
MSIZE = 65_536
LESS = m.Tattenuate(0, 5, RIGHT_READ)


def getattr_reply(qid: Qid = STORED, mode: int = 0o100644, size: int = 5) -> m.Rgetattr:
    return m.Rgetattr(GETATTR_ALL, qid, mode, 0, 0, 1, 0, size, *[0] * 12)


def bench(limits: Limits = Limits(MSIZE)) -> Bench:  # noqa: B008
    """A session that agreed on everything; fid 0 is a directory."""
    made = Bench(NG, limits)
    made.feed(m.Tcaps(wanted(limits.msize)), 1)
    assert made.sent() == [(1, m.Rcaps(wanted(limits.msize)))]
    made.fid(0, FidState.DIR)
    return made


def answered(at: Bench, parts: Sequence[Request], answers: Sequence[Reply | E], tag: int = 9) -> tuple[Reply, ...]:
    """What a compound of `parts` is answered, if those that are carried out come to `answers`; all of these are."""
    at.feed(m.Tcomp(tuple(parts)), tag)
    left = list(answers)
    while True:
        for event in at.events():
            if isinstance(event, Called):
                assert event.tag == tag + PART
                if isinstance(event.message, m.Tclunk) and not left:  # it undoes
                    at.session.reply(event.tag, m.Rclunk())
                    continue
                answer = left.pop(0)
                if isinstance(answer, E):
                    at.session.error(event.tag, FileError(answer))
                else:
                    makes = isinstance(event.message, m.Twalk) and isinstance(answer, m.Rwalk)
                    whole = makes and len(answer.qids) == len(event.message.names)  # type: ignore[union-attr]
                    whole |= isinstance(answer, m.Rattenuate)
                    at.session.reply(event.tag, answer, f"made {event.message}" if whole else None)
            elif isinstance(event, Send):
                got, reply = at.message(event)
                assert got == tag
                assert isinstance(reply, m.Rcomp)
                assert left == []
                return reply.parts


WALK, OPEN, ATTRIBUTES, READ = m.Twalk(0, 5, ("f",)), m.Tlopen(5, 0), m.Tgetattr(5, GETATTR_ALL), m.Tread(5, 0, 100)
WALKED, OPENED = m.Rwalk((STORED,)), m.Rlopen(STORED, 0)


# -- agreeing ---------------------------------------------------------------------------------------------------------


def test_both_sides_leave_out_what_they_do_not_know_and_take_the_lower_value() -> None:
    at = Bench(NG)
    at.feed(m.Tcaps((Feature("telepathy", 3), Feature(PARTS, 5), Feature(BYTES, 1 << 40), Feature(PARTS, 50))), 1)
    assert at.sent() == [(1, m.Rcaps((Feature(PARTS, 5), Feature(BYTES, MSIZE))))]
    assert granted([Feature(LIST, 9), Feature("x", 1)], wanted(100)) == (Feature(LIST, 1),)


def client_with(features: tuple[Feature, ...]) -> ClientSession:
    session = ClientSession(NG, MSIZE)
    session.version()
    version = encode(m.Rversion(MSIZE, "9P2000.ng"), NOTAG, NG)
    assert list(session.feed(b"".join(version))) == [Agreed(NG, MSIZE)]
    tag, _ = session.request(session.caps())
    assert [type(event) for event in session.feed(b"".join(encode(m.Rcaps(features), tag, NG)))] == [Answered]
    return session


def test_a_client_uses_no_more_than_it_asked_for_whatever_it_is_granted() -> None:
    session = client_with((Feature(PARTS, 1 << 40), Feature("telepathy", 1), Feature(BYTES, 1 << 63)))
    assert (session.parts, session.compound_limit, session.lists) == (MOST_PARTS, MSIZE, False)
    assert client_with(()).parts == 0


@pytest.mark.parametrize("request_", [m.Tcomp((WALK,)), m.Tlist(0, 0, 100), LESS, m.Tmint(0, 1, 1, 60, "")])
def test_what_was_not_agreed_on_is_refused(request_: Request) -> None:
    at = Bench(NG)
    at.fid(0, FidState.DIR)
    (event,) = at.ask(request_)
    assert at.error(event) == E.NOSYS.errno


def test_a_new_version_forgets_what_was_agreed() -> None:
    at = bench()
    at.feed(m.Tversion(MSIZE, "9P2000.ng"), NOTAG)
    at.events()
    (event,) = at.ask(m.Tcomp((WALK,)))
    assert at.error(event) == E.NOSYS.errno


# -- carrying out -----------------------------------------------------------------------------------------------------


def test_later_parts_use_the_fids_that_earlier_ones_made() -> None:
    at = bench()
    parts = answered(at, [WALK, OPEN, ATTRIBUTES, READ], [WALKED, OPENED, getattr_reply(), m.Rread(b"hello")])
    assert parts == (WALKED, OPENED, getattr_reply(), m.Rread(b"hello"))
    assert at.session.fid_count == 2
    assert at.session.in_flight == 0


def test_a_fid_with_less_is_made_in_a_compound_and_undone_with_it() -> None:
    at = bench()
    less = m.Rattenuate(STORED)
    assert answered(at, [LESS, m.Tlopen(5, 0)], [less, OPENED]) == (less, OPENED)
    assert at.session.fid_count == 2
    at = bench()
    assert answered(at, [LESS, m.Tlopen(5, 0)], [less, E.ACCES])[0] == less
    assert at.session.fid_count == 1


def test_no_token_is_made_in_a_compound_whose_answer_may_not_tell_of_it() -> None:
    with pytest.raises(Misuse):
        encode(m.Tcomp((m.Tmint(0, 1, 1, 60, "pi"),)), 1, NG)
    plain = b"".join(encode(m.Tmint(0, 1, 1, 60, "pi"), 1, NG))
    at = bench()
    at.session.feed((9 + len(plain)).to_bytes(4, "little") + b"\xa4\1\0\1\0" + plain)
    (event,) = at.events()
    assert at.error(event) == E.NOSYS.errno


def test_a_server_without_tokens_does_not_agree_on_them() -> None:
    at = Bench(NG)
    at.session = ServerSession(Limits(MSIZE), without=(MINT,))
    at.feed(m.Tversion(MSIZE, NG.value), NOTAG)
    at.events()
    at.feed(m.Tcaps(wanted(MSIZE)), 1)
    ((_, agreed),) = at.sent()
    assert agreed == m.Rcaps(tuple(feature for feature in wanted(MSIZE) if feature.name != MINT))
    at.fid(0, FidState.DIR)
    (event,) = at.ask(m.Tmint(0, 1, 1, 60, "pi"))
    assert at.error(event) == E.NOSYS.errno


def test_a_token_is_asked_for_and_given_for_no_longer_than_was_agreed() -> None:
    at = Bench(NG)
    at.feed(m.Tcaps((Feature(MINT, 60),)), 1)
    at.sent()
    at.fid(0, FidState.DIR)
    (event,) = at.ask(m.Tmint(0, 1, 1, 1 << 20, "pi"), 7)
    assert isinstance(event, Called)
    assert event.message == m.Tmint(0, 1, 1, 60, "pi")
    with pytest.raises(Misuse):
        at.session.reply(7, m.Rmint(61, "t"))
    at.session.reply(7, m.Rmint(60, "t"))
    assert at.sent() == [(7, m.Rmint(60, "t"))]
    client = client_with((Feature(MINT, 60),))
    tag, _ = client.request(m.Tmint(0, 1, 1, 60, "pi"))
    with pytest.raises(ProtocolError):
        list(client.feed(b"".join(encode(m.Rmint(61, "t"), tag, NG))))


def test_a_token_that_came_is_in_no_text_of_its_message() -> None:
    assert "secret" not in repr(m.Rmint(60, "secret"))


def test_each_part_says_what_follows() -> None:
    at = bench()
    at.feed(m.Tcomp((WALK, OPEN)), 3)
    (walk,) = at.events()
    assert walk == Called(3 + PART, WALK, "target 0", None, (OPEN,))
    at.session.reply(3 + PART, WALKED, "file")
    (opening,) = at.events()
    assert opening == Called(3 + PART, OPEN, "file", None)


def test_an_error_ends_it_and_what_it_made_is_clunked_before_the_answer() -> None:
    at = bench()
    at.feed(m.Tcomp((WALK, OPEN, ATTRIBUTES)), 3)
    at.events()
    at.session.reply(3 + PART, WALKED, "file")
    at.events()
    at.session.error(3 + PART, FileError(E.ACCES, "f", "no"))
    (clunk,) = at.events()
    assert clunk == Called(3 + PART, m.Tclunk(5), "file", None)
    at.session.reply(3 + PART, m.Rclunk())
    (answer,) = at.sent()
    assert answer == (3, m.Rcomp((WALKED, m.Rngerror(E.ACCES.errno, "ACCES", "f", "no"))))
    assert at.session.fid_count == 1


def test_a_short_walk_is_an_error_but_says_how_far_it_came() -> None:
    at = bench()
    short = m.Twalk(0, 6, ("d", "x"))
    assert answered(at, [WALK, short, OPEN], [WALKED, m.Rwalk((DIR,))]) == (WALKED, m.Rwalk((DIR,)))
    assert at.session.fid_count == 1


def test_a_part_that_is_refused_at_once_ends_it_like_any_other() -> None:
    at = bench()
    for wrong, error in ((m.Tclunk(77), E.BADF), (m.Tmkdir(0, "..", 0, 0), E.INVAL), (WALK, E.DUPFID)):
        _, last = answered(at, [WALK, wrong], [WALKED])
        assert isinstance(last, m.Rngerror)
        assert last.symbol == error.name
        assert at.session.fid_count == 1


def test_a_fid_that_a_part_clunks_is_not_clunked_again() -> None:
    at = bench()
    gone: list[Request] = [WALK, m.Tclunk(5), m.Tgetattr(77, 0)]
    assert len(answered(at, gone, [WALKED, m.Rclunk()])) == 3
    assert len(answered(at, gone, [WALKED, E.IO])) == 2  # its fid went nevertheless
    assert at.session.fid_count == 1


def test_a_walk_that_ends_at_a_symlink_ends_it_with_nothing_undone() -> None:
    at = bench()
    link = m.Rwalk((Qid(QTSYMLINK, 1, 3),))
    assert answered(at, [WALK, OPEN], [link]) == (link,)
    assert at.session.fid_count == 2


NO_STORED_FILE = [
    getattr_reply(Qid(0, 0, 1)),
    getattr_reply(size=0),
    getattr_reply(mode=0o020644),
    getattr_reply(Qid(0x40, 7, 1)),
]


@pytest.mark.parametrize("attributes", NO_STORED_FILE)
def test_what_might_have_to_wait_is_not_read(attributes: m.Rgetattr) -> None:
    at = bench()
    replies: list[Reply] = [WALKED, OPENED, attributes]
    assert answered(at, [WALK, OPEN, ATTRIBUTES, READ], replies) == tuple(replies)
    assert at.session.fid_count == 2


def test_a_read_comes_right_after_the_attributes_of_its_own_file() -> None:
    at = bench()
    assert answered(at, [READ], []) == ()
    assert answered(at, [WALK, OPEN, READ], [WALKED, OPENED]) == (WALKED, OPENED)
    at.do(m.Tclunk(5), m.Rclunk())
    between: list[Request] = [WALK, OPEN, ATTRIBUTES, m.Tgetattr(0, 0), READ]
    assert len(answered(at, between, [WALKED, OPENED, getattr_reply(), getattr_reply(DIR, 0o40755)])) == 4


def test_the_answer_has_at_most_the_bytes_that_were_agreed() -> None:
    at = Bench(NG)
    at.feed(m.Tcaps((Feature(PARTS, 64), Feature(BYTES, 2000))), 1)
    at.events()
    at.fid(0, FidState.DIR)
    at.feed(m.Tcomp((WALK, OPEN, ATTRIBUTES, m.Tread(5, 0, 60_000), m.Tclunk(5))), 3)
    for answer, made in ((WALKED, "f"), (OPENED, None), (getattr_reply(), None)):
        at.events()
        at.session.reply(3 + PART, answer, made)
    (read,) = at.events()
    assert isinstance(read, Called)
    assert isinstance(read.message, m.Tread)
    assert read.message.count < 2000
    at.session.reply(3 + PART, m.Rread(bytes(read.message.count)))
    (event,) = at.events()
    assert isinstance(event, Send)
    assert 2000 - 20 <= sum(map(len, event.buffers)) <= 2000
    _, reply = at.message(event)
    assert isinstance(reply, m.Rcomp)
    assert len(reply.parts) == 4  # there was no room for the clunk's answer


def test_a_text_that_does_not_fit_any_more_is_left_to_be_asked_for_alone() -> None:
    at = Bench(NG)
    at.feed(m.Tcaps((Feature(PARTS, 64), Feature(BYTES, 600))), 1)
    at.events()
    at.fid(0, FidState.FILE)
    assert answered(at, [m.Treadlink(0), m.Tgetattr(0, 0)], [m.Rreadlink("x" * 700)]) == ()


def test_more_parts_than_were_agreed_are_refused_as_a_whole() -> None:
    at = bench()
    (event,) = at.ask(m.Tcomp((m.Tgetattr(0, 0),) * (MOST_PARTS + 1)))
    assert at.error(event) == E.MSGSIZE.errno
    assert len(answered(at, [m.Tgetattr(0, 0)] * MOST_PARTS, [getattr_reply(DIR, 0o40755)] * MOST_PARTS)) == MOST_PARTS


# -- in the midst of one ----------------------------------------------------------------------------------------------


def begun(at: Bench, parts: Sequence[Request]) -> Called:
    """The first part is answered, the second under way."""
    at.feed(m.Tcomp(tuple(parts)), 3)
    at.events()
    at.session.reply(3 + PART, WALKED, "file")
    (called,) = at.events()
    assert isinstance(called, Called)
    return called


def test_a_flush_stops_the_part_under_way_and_what_was_done_is_told_before_it_is_answered() -> None:
    at = bench()
    begun(at, [WALK, OPEN, ATTRIBUTES])
    at.feed(m.Tflush(3), 4)
    assert at.events() == [Cancel(3 + PART)]
    at.session.cancelled(3 + PART)
    assert at.sent() == [(3, m.Rcomp((WALKED,))), (4, m.Rflush())]
    assert at.session.fid_count == 2


def test_a_flush_before_anything_was_done_is_answered_alone() -> None:
    at = bench()
    at.feed(m.Tcomp((WALK, OPEN)), 3)
    at.events()
    at.feed(m.Tflush(3), 4)
    assert at.events() == [Cancel(3 + PART)]
    at.session.cancelled(3 + PART)
    assert at.sent() == [(4, m.Rflush())]
    assert at.session.fid_count == 1


def test_a_flush_that_the_part_under_way_was_faster_than_begins_no_other() -> None:
    at = bench()
    begun(at, [WALK, OPEN, ATTRIBUTES])
    at.feed(m.Tflush(3), 4)
    at.events()
    at.session.reply(3 + PART, OPENED)
    assert at.sent() == [(3, m.Rcomp((WALKED, OPENED))), (4, m.Rflush())]


def test_a_part_waits_its_turn_at_a_fid_like_a_request() -> None:
    at = bench()
    at.fid(5, FidState.FILE)
    at.feed(m.Tlopen(5, 0), 1)
    at.feed(m.Tcomp((m.Tgetattr(5, 0),)), 2)
    (opening,) = at.events()
    assert isinstance(opening, Called)
    at.session.reply(1, OPENED)
    assert [type(event) for event in at.events()] == [Send, Called]
    at.feed(m.Tflush(2), 6)
    at.events()
    at.session.cancelled(2 + PART)
    assert at.sent() == [(6, m.Rflush())]


def test_one_flushed_while_it_waits_for_its_fid_never_begins() -> None:
    at = bench()
    at.fid(5, FidState.FILE)
    at.feed(m.Tlopen(5, 0), 1)
    at.feed(m.Tcomp((m.Tgetattr(5, 0),)), 2)
    at.events()
    at.feed(m.Tflush(2), 6)
    assert at.sent() == [(6, m.Rflush())]
    at.session.reply(1, OPENED)
    assert len(at.sent()) == 1
    assert at.session.in_flight == 0


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize("how", ["close", "version"])
def test_the_end_of_the_session_ends_it(how: str, seen: bool) -> None:
    at = bench()
    if seen:
        begun(at, [WALK, OPEN])
    else:
        at.feed(m.Tcomp((WALK, OPEN)), 3)
        at.session.next_event()
    if how == "close":
        at.session.close()
    else:
        at.feed(m.Tversion(MSIZE, "9P2000.ng"), NOTAG)
    events = at.events()
    assert Cancel(3 + PART) in events
    at.session.cancelled(3 + PART)
    assert any(isinstance(event, Release) for event in at.events())
    assert at.session.in_flight == 0
    assert at.session.fid_count == 0


def test_an_end_of_the_session_between_two_parts_leaves_nothing() -> None:
    at = bench()
    at.feed(m.Tcomp((WALK, OPEN)), 3)
    at.events()
    at.session.reply(3 + PART, WALKED, "file")  # and its successor not begun
    at.session.close()
    assert [type(event) for event in at.events()] == [Release]
    assert at.session.in_flight == 0


def test_an_answer_that_may_not_go_out_any_more_takes_the_fids_that_it_made_with_it() -> None:
    at = bench()
    at.feed(m.Tcomp((WALK, OPEN, ATTRIBUTES, READ)), 3)
    for reply, made in ((WALKED, "file"), (OPENED, None), (getattr_reply(), None), (m.Rread(b"hello"), None)):
        at.events()
        at.session.reply(3 + PART, reply, made)
    (send,) = at.events()
    assert isinstance(send, Send)
    assert send.made == (5,)
    at.session.refusal(3, FileError(E.REVOKED), send.made)
    (clunk,) = at.events()
    assert isinstance(clunk, Called)
    assert (clunk.message, clunk.target) == (m.Tclunk(5), "file")
    at.session.reply(clunk.tag, m.Rclunk())
    assert at.events() == []
    assert at.session.fid_count == 1


# -- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", sorted(NOT_IN_COMPOUNDS, key=str))
def test_what_may_not_be_in_a_compound_can_be_neither_sent_nor_received_in_one(message: type[Message]) -> None:
    values: dict[type[Message], Message] = {
        m.Tversion: m.Tversion(300, "x"), m.Rversion: m.Rversion(300, "x"), m.Tauth: m.Tauth(1, "", ""),
        m.Rauth: m.Rauth(DIR), m.Tflush: m.Tflush(1), m.Rflush: m.Rflush(), m.Tcaps: m.Tcaps(()), m.Rcaps: m.Rcaps(()),
        m.Tcomp: m.Tcomp(()), m.Rcomp: m.Rcomp(()), m.Tmint: m.Tmint(1, 1, 1, 1, ""), m.Rmint: m.Rmint(1, ""),
        m.Twatch: m.Twatch(1, 0), m.Rwatch: m.Rwatch(1), m.Tevent: m.Tevent(0, 99), m.Revent: m.Revent(b""),
    }  # fmt: skip
    part = values[message]
    asks = message.__name__.startswith("T")
    compound = m.Tcomp((part,)) if asks else m.Rcomp((part,))  # type: ignore[arg-type]
    with pytest.raises(Misuse) as caught:
        encode(compound, 1, NG)
    assert caught.value.error is E.NOSYS
    inner = b"".join(encode(part, 1, NG))
    wire = (9 + len(inner)).to_bytes(4, "little") + bytes([164 if asks else 165]) + b"\1\0\1\0" + inner
    with pytest.raises(ProtocolError) as met:
        decode(memoryview(wire), NG)
    assert met.value.error is E.NOSYS


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (m.Tcomp((WALK,)), m.Rcomp((WALKED, OPENED))),
        (m.Tcomp((WALK, OPEN)), m.Rcomp((OPENED,))),
        (m.Tcomp((WALK, OPEN)), m.Rcomp((m.Rngerror(2, "NOENT", "", ""), OPENED))),
        (m.Tcomp((m.Twalk(0, 5, ("a", "b")), OPEN)), m.Rcomp((WALKED, OPENED))),
        (m.Tcomp((READ,)), m.Rcomp((m.Rread(bytes(101)),))),
    ],
)
def test_a_client_ends_a_connection_whose_server_answers_a_compound_wrongly(request_: m.Tcomp, reply: m.Rcomp) -> None:
    session = client_with(wanted(MSIZE))
    tag, _ = session.request(request_)
    with pytest.raises(ProtocolError):
        list(session.feed(b"".join(encode(reply, tag, NG))))


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_arbitrary_listings_give_entries_or_a_protocol_error(data: bytes) -> None:
    try:
        entries = list(unpack_listed(data))
    except ProtocolError:
        return
    assert sum(LISTED_SIZE + len(entry.name.encode()) for entry, _ in entries) == len(data)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.text(max_size=9).filter(lambda t: "\0" not in t)), max_size=4))
@settings(deadline=None)
def test_listings_round_trip(rows: list[tuple[int, str]]) -> None:
    entries = [Dirent(Qid(0, 1, number), number, 8, name.encode(errors="ignore").decode()) for number, name in rows]
    packed = [pack_listed(entry, getattr_reply(entry.qid) if entry.offset % 2 else None) for entry in entries]
    expected = [(entry, getattr_reply(entry.qid) if entry.offset % 2 else None) for entry in entries]
    assert list(unpack_listed(b"".join(packed))) == expected
    if packed:
        with pytest.raises(ProtocolError):
            list(unpack_listed(b"".join(packed)[:-1]))
