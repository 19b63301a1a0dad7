"""The client session: version, tags, fids, flush, and what it makes of wrong or hostile answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError, Misuse, ProtocolError
from cognu.ninep import messages as m
from cognu.ninep.client import LOWER, Agreed, Answered, ClientSession, Declined, Event, Failed, Flushed
from cognu.ninep.codec import decode, encode
from cognu.ninep.messages import Dialect, Message, Reply, Request
from cognu.ninep.types import NOTAG, Qid

OLD, _, L, NG = Dialect
FILE = Qid(0, 0, 1)


def wire(message: Message, tag: int, dialect: Dialect = L) -> bytes:
    return b"".join(encode(message, tag, dialect))


def connected(dialect: Dialect = L, msize: int = 8192) -> ClientSession:
    client = ClientSession(dialect, msize)
    client.version()
    assert list(client.feed(wire(m.Rversion(msize, dialect.value), NOTAG))) == [Agreed(dialect, msize)]
    return client


def answers(client: ClientSession, message: Message, tag: int) -> list[Event]:
    return list(client.feed(wire(message, tag, client.dialect or L)))


# -- version --


def test_the_version_sent_is_the_offer() -> None:
    client = ClientSession(L, 8192)
    assert b"".join(client.version()) == wire(m.Tversion(8192, "9P2000.L"), NOTAG)
    with pytest.raises(Misuse):
        client.version()
    with pytest.raises(Misuse):
        client.request(m.Tclunk(0))


@pytest.mark.parametrize(("offer", "answer", "dialect"), [(L, "9P2000.L", L), (L, "9P2000", OLD), (OLD, "9P2000", OLD)])
def test_the_server_may_answer_the_offer_or_plain_9p2000(offer: Dialect, answer: str, dialect: Dialect) -> None:
    client = ClientSession(offer, 8192)
    client.version()
    assert list(client.feed(wire(m.Rversion(4096, answer), NOTAG))) == [Agreed(dialect, 4096)]
    assert (client.dialect, client.msize, client.io_limit) == (dialect, 4096, 4072)


BAD_VERSIONS: list[tuple[Dialect, Message, E]] = [
    (L, m.Rversion(8192, "unknown"), E.BADVERSION),
    (L, m.Rversion(8192, "9P2000.u"), E.BADVERSION),
    (OLD, m.Rversion(8192, "9P2000.L"), E.BADVERSION),
    (L, m.Rversion(8193, "9P2000.L"), E.BADMESSAGE),
    (L, m.Rversion(255, "9P2000.L"), E.BADMESSAGE),
    (L, m.Rlerror(5), E.BADVERSION),
    (OLD, m.Rerror("go away"), E.BADVERSION),
    (L, m.Rclunk(), E.BADMESSAGE),
]


@pytest.mark.parametrize(("offer", "answer", "error"), BAD_VERSIONS)
def test_another_answer_to_the_version_ends_it(offer: Dialect, answer: Message, error: E) -> None:
    client = ClientSession(offer, 8192)
    client.version()
    with pytest.raises(ProtocolError) as caught:
        list(client.feed(wire(answer, NOTAG, offer)))
    assert caught.value.error is error


@pytest.mark.parametrize("offer", list(Dialect))
@pytest.mark.parametrize(("answer", "dialect"), [(m.Rlerror(5), L), (m.Rerror("who?"), OLD)])
def test_an_error_of_another_dialect_says_that_the_offer_is_not_known(
    offer: Dialect, answer: Message, dialect: Dialect
) -> None:
    client = ClientSession(offer, 8192)
    client.version()
    with pytest.raises(ProtocolError) as caught:
        list(client.feed(wire(answer, NOTAG, dialect)))
    assert caught.value.error is E.BADVERSION


def test_a_server_that_does_not_know_a_dialect_is_offered_the_next_and_no_more_than_there_are() -> None:
    client = ClientSession(Dialect.NG, 8192, lower=LOWER)
    client.version()
    refusals: list[Message] = [m.Rlerror(95), m.Rversion(8192, "unknown")]
    for refusal, offered in zip(refusals, LOWER, strict=True):
        [event] = client.feed(wire(refusal, NOTAG, L))
        assert isinstance(event, Declined)
        assert b"".join(event.again) == wire(m.Tversion(8192, offered.value), NOTAG)
    assert list(client.feed(wire(m.Rversion(4096, "9P2000"), NOTAG))) == [Agreed(OLD, 4096)]
    with pytest.raises(Misuse):
        client.version()
    other = ClientSession(Dialect.NG, 8192, lower=LOWER)
    other.version()
    unknown = wire(m.Rversion(8192, "unknown"), NOTAG)
    with pytest.raises(ProtocolError) as caught:
        list(other.feed(unknown * 3))
    assert caught.value.error is E.BADVERSION


def test_a_server_that_speaks_first_is_refused() -> None:
    with pytest.raises(ProtocolError):
        list(ClientSession(L, 8192).feed(wire(m.Rversion(8192, "9P2000.L"), NOTAG)))


# -- requests and answers --


def test_answers_come_in_any_order_and_free_their_tags() -> None:
    client = connected()
    one, _ = client.request(m.Tgetattr(0, 0))
    two, buffers = client.request(m.Tclunk(1))
    assert b"".join(buffers) == wire(m.Tclunk(1), two)
    assert sorted(client.in_flight) == [one, two]
    assert answers(client, m.Rclunk(), two) == [Answered(two, m.Rclunk())]
    assert answers(client, m.Rlerror(2), one) == [Failed(one, Failure(E.NOENT))]
    assert client.in_flight == []


class Failure(FileError):
    """Equal to any error of the same row."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileError) and other.error is self.error

    __hash__ = FileError.__hash__


ERRORS = [
    (OLD, m.Rerror("file does not exist"), E.NOENT),
    (OLD, m.Rerror("'/a' permission denied"), E.ACCES),
    (OLD, m.Rerror("own words"), E.IO),
    (L, m.Rlerror(38), E.NOSYS),
    (L, m.Rlerror(9999), E.IO),
    (L, m.Rlerror(0), E.IO),
    (NG, m.Rngerror(13, "NOCREATE", "/x", "why"), E.NOCREATE),
    (NG, m.Rngerror(13, "NEWWORD", "/x", "why"), E.ACCES),
]


@pytest.mark.parametrize(("dialect", "answer", "error"), ERRORS)
def test_errors_become_rows_of_the_table(dialect: Dialect, answer: Message, error: E) -> None:
    client = connected(dialect)
    tag, _ = client.request(m.Tclunk(1))
    (event,) = answers(client, answer, tag)
    assert event == Failed(tag, Failure(error))


def test_payloads_are_not_copied() -> None:
    client = connected()
    data = memoryview(b"payload")
    _, buffers = client.request(m.Twrite(0, 0, data))
    assert buffers[1] is data
    tag, _ = client.request(m.Tread(0, 0, 100))
    answer = wire(m.Rread(b"payload"), tag)
    (event,) = client.feed(answer)
    assert isinstance(event, Answered)
    assert isinstance(event.message, m.Rread)
    assert isinstance(event.message.data, memoryview)
    assert event.message.data.obj is answer


WRONG: list[tuple[Request, Message]] = [
    (m.Tread(0, 0, 3), m.Rread(b"four")),
    (m.Treaddir(0, 0, 3), m.Rreaddir(b"four")),
    (m.Twrite(0, 0, b"abc"), m.Rwrite(4)),
    (m.Twalk(0, 1, ("a",)), m.Rwalk((FILE, FILE))),
    (m.Twalk(0, 1, ("a",)), m.Rwalk(())),
    (m.Tclunk(0), m.Rremove()),
    (m.Tclunk(0), m.Rflush()),
    (m.Tclunk(0), m.Tclunk(0)),
]


@pytest.mark.parametrize(("request_", "answer"), WRONG)
def test_an_answer_that_does_not_fit_its_request_ends_the_connection(request_: Request, answer: Message) -> None:
    client = connected()
    tag, _ = client.request(request_)
    with pytest.raises(ProtocolError):
        answers(client, answer, tag)
    assert client.in_flight == [tag]


def test_an_answer_to_nothing_ends_the_connection() -> None:
    client = connected()
    tag, _ = client.request(m.Tclunk(0))
    answers(client, m.Rclunk(), tag)
    for late in (tag, 77, NOTAG):
        with pytest.raises(ProtocolError):
            answers(client, m.Rclunk(), late)


def test_an_answer_of_the_other_dialect_ends_the_connection() -> None:
    client = connected(L)
    tag, _ = client.request(m.Tclunk(0))
    with pytest.raises(ProtocolError):
        list(client.feed(wire(m.Rerror("x"), tag, OLD)))


def test_an_answer_that_is_not_utf_8_fails_its_request_only() -> None:
    client = connected()
    tag, _ = client.request(m.Treadlink(0))
    link = wire(m.Rreadlink("xx"), tag).replace(b"xx", b"\xff\xff")
    assert list(client.feed(link)) == [Failed(tag, Failure(E.ILSEQ))]
    assert client.in_flight == []


def test_an_answer_to_a_flush_that_is_not_utf_8_ends_the_connection() -> None:
    """A flush is never refused, flush(5): what it was for would never end."""
    client = connected()
    tag, _ = client.request(m.Treadlink(0))
    client.flush(tag)
    (flush,) = set(client._sent) - {tag}
    answer = wire(m.Rreadlink("xx"), flush).replace(b"xx", b"\xff\xff")
    with pytest.raises(ProtocolError):
        list(client.feed(answer))


REFUSED: list[tuple[Request, type[Exception], E]] = [
    (m.Tstat(0), Misuse, E.NOSYS),
    (m.Tflush(0), Misuse, E.BADMESSAGE),
    (m.Tversion(1, ""), Misuse, E.BADMESSAGE),
    (m.Twrite(0, 0, bytes(8192 - 22)), FileError, E.MSGSIZE),
    (m.Twalk(0, 1, ("a\0",)), FileError, E.ILSEQ),
    (m.Twalk(0, 1, ("x" * 65536,)), FileError, E.NAMETOOLONG),
    (m.Tread(0, 1 << 64, 1), FileError, E.OVERFLOW),
]


@pytest.mark.parametrize(("request_", "kind", "error"), REFUSED)
def test_what_can_not_be_sent_changes_nothing(request_: Request, kind: type[Misuse | FileError], error: E) -> None:
    client = connected()
    with pytest.raises(kind) as caught:
        client.request(request_)
    assert caught.value.error is error
    assert client.in_flight == []
    assert client.request(m.Twrite(0, 0, bytes(8192 - 23)))[0] == 0


def test_tags_run_out_with_an_error_and_come_back() -> None:
    client = connected()
    tags = {client.request(m.Tclunk(0))[0] for _ in range(65_535)}
    assert len(tags) == 65_535
    assert NOTAG not in tags
    with pytest.raises(FileError) as caught:
        client.request(m.Tclunk(0))
    assert caught.value.error is E.AGAIN
    with pytest.raises(FileError):
        client.flush(5)
    answers(client, m.Rclunk(), 5)
    assert client.request(m.Tclunk(0))[0] == 5


def test_fids_are_given_out_once_and_run_out_with_an_error() -> None:
    client = ClientSession(L, 8192, max_fids=2)
    fids = [client.new_fid(), client.new_fid()]
    assert len(set(fids)) == 2
    with pytest.raises(FileError) as caught:
        client.new_fid()
    assert caught.value.error is E.MFILE
    client.free_fid(fids[0])
    assert client.new_fid() == fids[0]
    with pytest.raises(Misuse):
        client.free_fid(9)
    assert client.fid_count == 2


# -- flush --


def test_a_flushed_request_without_answer_ends_at_the_rflush() -> None:
    client = connected()
    tag, _ = client.request(m.Tread(0, 0, 9))
    (buffer,) = client.flush(tag)
    flush, message = decode(memoryview(buffer), L)
    assert message == m.Tflush(tag)
    assert client.flush(tag) == []
    assert client.in_flight == [tag]
    assert answers(client, m.Rflush(), flush) == [Flushed(tag)]
    assert client.in_flight == []


def test_an_answer_that_crosses_the_flush_counts_and_its_tag_stays_taken_until_the_rflush() -> None:
    client = connected()
    tag, _ = client.request(m.Tclunk(0))
    client.flush(tag)
    flush = tag + 1
    assert answers(client, m.Rclunk(), tag) == [Answered(tag, m.Rclunk())]
    assert client.flush(tag) == []
    assert client.request(m.Tclunk(1))[0] not in (tag, flush)
    assert answers(client, m.Rflush(), flush) == []
    assert {client.request(m.Tclunk(2))[0], client.request(m.Tclunk(3))[0]} == {tag, flush}


def test_nothing_is_flushed_that_is_not_under_way() -> None:
    client = connected()
    assert client.flush(3) == []
    tag, _ = client.request(m.Tclunk(0))
    client.flush(tag)
    assert client.flush(tag + 1) == []  # the flush itself


@pytest.mark.parametrize("answer", [m.Rlerror(5), m.Rclunk()])
def test_a_flush_is_answered_by_rflush_alone(answer: Reply) -> None:
    client = connected()
    tag, _ = client.request(m.Tread(0, 0, 9))
    client.flush(tag)
    with pytest.raises(ProtocolError):
        answers(client, answer, tag + 1)


def test_no_second_answer_while_the_tag_is_being_flushed() -> None:
    client = connected()
    tag, _ = client.request(m.Tclunk(0))
    client.flush(tag)
    answers(client, m.Rclunk(), tag)
    with pytest.raises(ProtocolError):
        answers(client, m.Rclunk(), tag)


# -- arbitrary input --


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans(), st.sampled_from(Dialect))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_raise_protocol_errors_only(chunks: list[bytes], framed: bool, dialect: Dialect) -> None:
    client = connected(dialect, 256)
    requests: list[Request] = [m.Tread(0, 0, 4), m.Twalk(0, 1, ("a", "b")), m.Tattach(0, 0, "", ""), m.Tclunk(0)]
    for request in requests:
        client.request(request)
    client.flush(0)
    ended: list[int] = []
    try:
        for chunk in chunks:
            if framed and len(chunk) > 2:
                body = chunk[2:]
                chunk = (7 + len(body)).to_bytes(4, "little") + bytes([chunk[0] | 1, chunk[1] & 3, 0]) + body
            for event in client.feed(chunk):
                assert not isinstance(event, Agreed | Declined)
                ended.append(event.tag)
            assert client._frames.pending <= 256
    except ProtocolError:
        pass
    assert len(ended) == len(set(ended))
    assert sorted(ended + client.in_flight) == [0, 1, 2, 3]
