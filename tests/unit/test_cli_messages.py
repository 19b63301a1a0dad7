"""9P messages as the tracer prints them: readable, matched, shortened, and without secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.cli.messages import HIDDEN, Row, Tracer
from cognu.ninep import messages as m
from cognu.ninep.codec import encode, pack_dirent
from cognu.ninep.messages import Dialect, Message, WireStat
from cognu.ninep.table import TABLE
from cognu.ninep.types import NOFID, NOTAG, Dirent, Qid

SECRET = "mfrggzdfmztwq2lk"
QID = Qid(0x80, 3, 0x2A)
Said = list[tuple[bool, int, Message]]


def raw(message: Message, tag: int, dialect: Dialect = Dialect.LEGACY) -> bytes:
    return b"".join(encode(message, tag, dialect))


def session(*said: tuple[bool, int, Message], dialect: Dialect = Dialect.LEGACY) -> Said:
    version = dialect.value
    return [(True, NOTAG, m.Tversion(8192, version)), (False, NOTAG, m.Rversion(8192, version)), *said]


def rows(said: Said, dialect: Dialect = Dialect.LEGACY, shown: int = 32) -> list[Row]:
    """A millisecond passes from message to message."""
    tracer = Tracer(shown)
    found: list[Row] = []
    for at, (from_client, tag, message) in enumerate(said):
        found += tracer.passed(from_client, raw(message, tag, dialect), at * 1_000_000)
    return found


def lines(*said: tuple[bool, int, Message], dialect: Dialect = Dialect.LEGACY, shown: int = 32) -> list[str]:
    return [row.text for row in rows(session(*said, dialect=dialect), dialect, shown)][2:]


def test_a_conversation_reads_as_what_was_asked_and_answered() -> None:
    assert [row.text for row in rows(session())] == [
        'Tversion tag none msize 8192 version "9P2000"',
        'Rversion tag none (Tversion, 1.0 ms) msize 8192 version "9P2000"',
    ]
    assert lines(
        (True, 0, m.Tattach(1, NOFID, "me", "/lib")),
        (False, 0, m.Rattach(QID)),
        (True, 1, m.Twalk(1, 2, ("a b", "x"))),
        (True, 7, m.Topen(2, 0x51)),
        (False, 1, m.Rwalk((QID, QID))),
        (False, 7, m.Rerror("permission denied")),
        (True, 1, m.Tread(2, 0, 100)),
        (False, 1, m.Rread(b"near and\nfar")),
        (True, 2, m.Tcreate(1, "n", 0o644, 1)),
    ) == [
        'Tattach tag 0 fid 1 afid none uname "me" aname "/lib"',
        "Rattach tag 0 (Tattach fid 1, 1.0 ms) qid 2a.3.80",
        'Twalk tag 1 fid 1 newfid 2 names ["a b" "x"]',
        "Topen tag 7 fid 2 mode write|truncate|remove-on-close",
        "Rwalk tag 1 (Twalk fid 1, 2.0 ms) qids [2a.3.80 2a.3.80]",
        'Rerror tag 7 (Topen fid 2, 2.0 ms) ename "permission denied"',
        "Tread tag 1 fid 2 offset 0 count 100",
        r"Rread tag 1 (Tread fid 2, 1.0 ms) count 12 b'near and\nfar'",
        'Tcreate tag 2 fid 1 name "n" perm 0644 mode write',
    ]


def test_data_are_shortened_and_directories_show_their_names() -> None:
    data = bytes(range(97, 123)) * 4
    read, answer = (True, 1, m.Tread(2, 0, 1000)), (False, 1, m.Rread(data))
    assert lines(read, answer, shown=3)[1].endswith("count 104 b'abc'…")
    assert lines(read, answer, shown=0)[1].endswith("count 104")
    assert lines((True, 1, m.Twrite(2, 0, b"\xff\x1b[2J")))[0].endswith(r"count 5 b'\xff\x1b[2J'")
    assert lines((True, 1, m.Twrite(2, 0, "\u0653\\xf3".encode())))[0].endswith(r"count 6 b'\xd9\x93\\xf3'")
    entries = b"".join(pack_dirent(Dirent(QID, at + 1, 4, f"n{at}")) for at in range(20))
    said = lines((True, 1, m.Treaddir(2, 0, 4096)), (False, 1, m.Rreaddir(entries)), dialect=Dialect.L)
    assert said[1].endswith('"n14" "n15" and 4 more]')
    cut = lines((True, 1, m.Treaddir(2, 0, 4096)), (False, 1, m.Rreaddir(b"x")), dialect=Dialect.L)
    assert cut[1].endswith("count 1 malformed entries")


def test_a_compound_shows_its_parts() -> None:
    said = lines(
        (True, 1, m.Tcomp((m.Twalk(0, 1, ("a",)), m.Tread(1, 0, 9)))),
        (False, 1, m.Rcomp((m.Rwalk((QID,)), m.Rread(b"of a")))),
        dialect=Dialect.NG,
    )
    assert said[0] == 'Tcomp tag 1 parts [(Twalk fid 0 newfid 1 names ["a"]) (Tread fid 1 offset 0 count 9)]'
    assert said[1].endswith(f"parts [(Rwalk qids [2a.3.80]) (Rread count 4 {HIDDEN})]")


def test_an_answer_to_nothing_is_told_and_its_data_are_not_shown() -> None:
    [line] = lines((False, 9, m.Rread(b"whose?")))
    assert line == f"Rread tag 9 (nothing was asked under this tag) count 6 {HIDDEN}"


def test_what_is_malformed_is_told_and_the_next_message_is_read() -> None:
    tracer = Tracer()
    short = bytes([9, 0, 0, 0, 120, 1, 0, 0, 0])  # a Tclunk with half a fid
    unknown = bytes([7, 0, 0, 0, 200, 1, 0])
    [first, second, third] = tracer.passed(True, short + unknown + raw(m.Tclunk(4), 2), 0)
    assert first.text == "Tclunk tag 1 size 9 malformed: bad 9P message: it ends too early"
    assert first.parts["malformed"] == "bad 9P message: it ends too early"
    assert second.text.startswith("message 200 tag 1 size 7 malformed: ")
    assert third.text == "Tclunk tag 2 fid 4"
    [wrong] = tracer.passed(False, raw(m.Tclunk(4), 2), 0)
    assert wrong.text.endswith("from the wrong side")


def test_after_what_can_not_be_cut_into_messages_nothing_more_is_told() -> None:
    for noise in (b"\x01\0\0\0", b"\xff\xff\xff\xff", b"GET / HTTP/1.0\r\n\r\n"):
        tracer = Tracer()
        [row] = tracer.passed(True, noise, 0)
        assert row.text.startswith("not 9P: ")
        assert tracer.passed(True, raw(m.Tclunk(4), 2), 0) == []
        assert len(tracer.passed(False, raw(m.Rclunk(), 2), 0)) == 1, "the other direction goes on"


def test_what_is_left_of_a_message_when_its_side_ends_is_told() -> None:
    tracer = Tracer()
    assert tracer.passed(True, raw(m.Tclunk(4), 2)[:6], 0) == []
    [row] = tracer.ended(True, 0)
    assert row.text == "cut: 6 bytes of a message"
    assert tracer.ended(True, 0) == tracer.ended(False, 0) == []


# -- secrets ----------------------------------------------------------------------------------------------------------

L = Dialect.L
LEAKS: dict[str, tuple[Dialect, Said]] = {
    "an attach name": (L, [(True, 1, m.Tattach(1, NOFID, "me", SECRET))]),
    "a token": (L, [(True, 1, m.Tattach(1, NOFID, "me", f"cap:{SECRET}"))]),
    "an attach name that the server repeats": (
        Dialect.LEGACY,
        [(True, 1, m.Tattach(1, NOFID, "me", SECRET)), (False, 1, m.Rerror(f"{SECRET}: attach refused"))],
    ),
    "of .ng": (
        Dialect.NG,
        [(True, 1, m.Tattach(1, NOFID, "me", SECRET)), (False, 1, m.Rngerror(13, "NOATTACH", SECRET, f"x {SECRET}"))],
    ),
    "what is written to an authentication": (L, [(True, 1, m.Tauth(5, "me", "")), (True, 2, m.Twrite(5, 0, b"S" * 9))]),
    "what is read from one": (
        L,
        [(True, 1, m.Tauth(5, "me", "")), (False, 1, m.Rauth(QID)), (True, 2, m.Tread(5, 0, 99)),
         (False, 2, m.Rread(SECRET.encode()))],
    ),
    "of one whose number was a file's and is again": (
        L,
        [(True, 1, m.Tattach(5, NOFID, "me", "")), (True, 2, m.Tclunk(5)), (True, 3, m.Tauth(5, "me", "")),
         (False, 1, m.Rattach(QID)), (False, 2, m.Rclunk()), (True, 4, m.Twrite(5, 0, SECRET.encode()))],
    ),
    "a token in data": (L, [(True, 1, m.Twrite(3, 0, f"grant cap:{SECRET} and more".encode()))]),
    "one that is cut": (L, [(True, 1, m.Twrite(3, 0, b"x" * 4090 + f"cap:{SECRET}".encode()))]),
    "a ticket": (L, [(True, 1, m.Tread(3, 0, 99)), (False, 1, m.Rread(f'{{"ticket": "cognu-{SECRET}"}}'.encode()))]),
    "an import": (L, [(True, 1, m.Twrite(3, 0, f"import {SECRET}\nstart".encode()))]),
    "a token of rpc": (L, [(True, 1, m.Tread(3, 0, 99)), (False, 1, m.Rread(f'{{"token": "{SECRET}"}}'.encode()))]),
    "an attach name in a compound": (
        Dialect.NG, [(True, 1, m.Tcomp((m.Tattach(1, NOFID, "me", SECRET), m.Twrite(1, 0, b"SSSS"))))],
    ),
    "a name": (L, [(True, 1, m.Twalk(1, 2, (f"cap:{SECRET}",)))]),
}  # fmt: skip


@pytest.mark.parametrize("what", list(LEAKS))
def test_no_secret_is_shown(what: str) -> None:
    dialect, said = LEAKS[what]
    found = rows(session(*said, dialect=dialect), dialect, shown=4096)
    assert len(found) == len(said) + 2
    text = "".join(row.text + json.dumps(row.parts) for row in found)
    assert SECRET not in text
    assert SECRET[:8] not in text
    assert "SSSS" not in text


def test_a_number_that_was_an_authentications_shows_data_once_it_is_a_files() -> None:
    said = lines(
        (True, 1, m.Tauth(5, "me", "")),
        (False, 1, m.Rerror("authentication not required")),
        (True, 1, m.Tattach(5, NOFID, "me", "")),
        (False, 1, m.Rattach(QID)),
        (True, 1, m.Twrite(5, 0, b"open")),
    )
    assert said[-1].endswith("count 4 b'open'")


def test_with_more_authentications_than_are_remembered_no_data_are_shown() -> None:
    from cognu.cli.messages import MOST_AUTHS

    said = [(True, at % 60_000, m.Tauth(at, "me", "")) for at in range(MOST_AUTHS + 1)]
    assert lines(*said, (True, 1, m.Twrite(70_000, 0, b"x")))[-1].endswith(f"count 1 {HIDDEN}")


def test_a_text_that_is_no_text_is_not_repeated() -> None:
    bad = raw(m.Tattach(1, NOFID, "me", "S" * 9), 1).replace(b"SSS", b"SS\xff", 1)
    [row] = Tracer().passed(True, bad, 0)
    assert "malformed" in row.parts
    assert "SS" not in row.text + json.dumps(row.parts)


# -- whatever comes ---------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60))))
def test_any_bytes_are_taken_and_any_row_is_json_and_one_line(pieces: list[tuple[bool, bytes]]) -> None:
    tracer = Tracer()
    for from_client, piece in pieces:
        for row in tracer.passed(from_client, piece, 5):
            assert json.loads(json.dumps(row.parts)) is not None
            assert row.text.isprintable()


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
QIDS = st.builds(Qid, st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "1": st.integers(0, 255), "2": U16, "4": U32, "8": U64, "s": NAMES, "q": QIDS, "d": st.binary(max_size=200),
    "S": st.lists(NAMES, max_size=20).map(tuple), "Q": st.lists(QIDS, max_size=20).map(tuple),
    "t": st.builds(WireStat, U16, U32, QIDS, U32, U32, U32, U64, NAMES, NAMES, NAMES, NAMES),
}  # fmt: skip


def messages(dialect: Dialect) -> st.SearchStrategy[Message]:
    known = [row for row in TABLE if dialect in row.dialects and set(row.layout.split()) <= FIELDS.keys()]
    return st.sampled_from(known).flatmap(
        lambda row: st.builds(row.message, *(FIELDS[kind] for kind in row.layout.split()))
    )


@given(st.data(), st.sampled_from(list(Dialect)))
def test_every_message_of_every_dialect_has_a_line_in_whatever_pieces_it_comes(data: Any, dialect: Dialect) -> None:
    said = data.draw(st.lists(messages(dialect), max_size=4))
    stream = raw(m.Rversion(8192, dialect.value), NOTAG)
    tracer = Tracer()
    assert len(tracer.passed(False, stream, 0)) == 1
    for from_client in (True, False):
        mine = [message for message in said if from_client is (type(message).__name__[0] == "T")]
        sent = b"".join(raw(message, 1, dialect) for message in mine if not isinstance(message, m.Rversion))
        whole = Tracer()
        whole._dialect = dialect
        expected = [row.text for row in whole.passed(from_client, sent, 0)]
        got: list[str] = []
        step = data.draw(st.integers(1, 50))
        for at in range(0, len(sent), step):
            got += [row.text for row in tracer.passed(from_client, sent[at : at + step], 0)]
        assert len(got) == len(expected) == sum(not isinstance(message, m.Rversion) for message in mine)
        assert all("malformed: " not in line for line in got)
        assert all(line.isprintable() for line in got)


def test_every_message_has_a_name() -> None:
    from cognu.cli.messages import _NAMES

    assert set(_NAMES) == {row.number for row in TABLE}
