"""Every message, both ways: known bytes, round trips, cut anywhere, and arbitrary bytes."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cognu.ninep
from cognu.errors import E, Misuse, ProtocolError
from cognu.ninep import codec
from cognu.ninep import messages as m
from cognu.ninep.codec import Frames, decode, encode
from cognu.ninep.messages import Dialect, Message, WireStat
from cognu.ninep.table import NOT_IN_COMPOUNDS, TABLE, Row
from cognu.ninep.types import NOFID, NOTAG, Dirent, Qid

OLD, U, L, NG = Dialect
DIR = Qid(0x80, 1, 2)
DIR_HEX = "80 01000000 0200000000000000"


class Case(NamedTuple):
    dialect: Dialect
    tag: int
    message: Message
    wire: str  # hex, as the manual's layout gives it: size[4] type[1] tag[2] ...


STAT = WireStat(0x4D, 7, Qid(0, 3, 9), 0o644, 0x5F000000, 0x5F000001, 12, "a", "glenda", "sys", "")
STAT_HEX = (
    "4d00 07000000 00 03000000 0900000000000000 a4010000 0000005f 0100005f 0c00000000000000"
    " 0100 61 0600 676c656e6461 0300 737973 0000"
)
STAT_U = STAT._replace(extension="t", n_uid=1000, n_gid=100)

CASES = [
    Case(OLD, NOTAG, m.Tversion(8192, "9P2000"), "13000000 64 ffff 00200000 0600 395032303030"),
    Case(L, NOTAG, m.Rversion(8192, "9P2000.L"), "15000000 65 ffff 00200000 0800 3950323030302e4c"),
    Case(OLD, 1, m.Tauth(5, "u", "a"), "11000000 66 0100 05000000 0100 75 0100 61"),
    Case(L, 1, m.Tauth(5, "u", "a", 1000), "15000000 66 0100 05000000 0100 75 0100 61 e8030000"),
    Case(OLD, 1, m.Rauth(Qid(8, 0, 1)), "14000000 67 0100 08 00000000 0100000000000000"),
    Case(OLD, 1, m.Tattach(0, NOFID, "glenda", ""), "19000000 68 0100 00000000 ffffffff 0600 676c656e6461 0000"),
    Case(L, 1, m.Tattach(0, NOFID, "", "/srv", 0), "1b000000 68 0100 00000000 ffffffff 0000 0400 2f737276 00000000"),
    Case(U, 1, m.Tauth(5, "u", "a", 1000), "15000000 66 0100 05000000 0100 75 0100 61 e8030000"),
    Case(U, 1, m.Tattach(0, NOFID, "", "", 7), "17000000 68 0100 00000000 ffffffff 0000 0000 07000000"),
    Case(U, 3, m.Rerror("no", 2), "0f000000 6b 0300 0200 6e6f 02000000"),
    Case(U, 2, m.Tcreate(1, "l", 0x020001FF, 0, "t"), "16000000 72 0200 01000000 0100 6c ff010002 00 0100 74"),
    Case(U, 2, m.Rstat(STAT_U), f"53000000 7d 0200 4a00 4800 {STAT_HEX} 0100 74 e8030000 64000000 ffffffff"),
    Case(
        U, 2, m.Twstat(1, STAT_U), f"57000000 7e 0200 01000000 4a00 4800 {STAT_HEX} 0100 74 e8030000 64000000 ffffffff"
    ),
    Case(L, 1, m.Rattach(DIR), f"14000000 69 0100 {DIR_HEX}"),
    Case(OLD, 3, m.Rerror("file does not exist"), "1c000000 6b 0300 1300 66696c6520646f6573206e6f74206578697374"),
    Case(L, 3, m.Rlerror(2), "0b000000 07 0300 02000000"),
    Case(NG, 3, m.Rngerror(2, "NOENT", "/x", ""), "18000000 a1 0300 02000000 0500 4e4f454e54 0200 2f78 0000"),
    Case(L, 4, m.Tflush(3), "09000000 6c 0400 0300"),
    Case(L, 4, m.Rflush(), "07000000 6d 0400"),
    Case(OLD, 2, m.Twalk(0, 1, ("usr", "é")), "1a000000 6e 0200 00000000 01000000 0200 0300 757372 0200 c3a9"),
    Case(OLD, 2, m.Twalk(0, 1, ()), "11000000 6e 0200 00000000 01000000 0000"),
    Case(OLD, 2, m.Rwalk((DIR, DIR)), f"23000000 6f 0200 0200 {DIR_HEX} {DIR_HEX}"),
    Case(OLD, 2, m.Rwalk(()), "09000000 6f 0200 0000"),
    Case(OLD, 2, m.Topen(1, 0x10), "0c000000 70 0200 01000000 10"),
    Case(OLD, 2, m.Ropen(DIR, 8168), f"18000000 71 0200 {DIR_HEX} e81f0000"),
    Case(OLD, 2, m.Tcreate(1, "d", 0x800001ED, 0), "13000000 72 0200 01000000 0100 64 ed010080 00"),
    Case(OLD, 2, m.Rcreate(DIR, 0), f"18000000 73 0200 {DIR_HEX} 00000000"),
    Case(L, 2, m.Tread(1, 1 << 32, 512), "17000000 74 0200 01000000 0000000001000000 00020000"),
    Case(L, 2, m.Rread(b"hello"), "10000000 75 0200 05000000 68656c6c6f"),
    Case(L, 2, m.Rread(b""), "0b000000 75 0200 00000000"),
    Case(L, 2, m.Twrite(1, 3, b"hi"), "19000000 76 0200 01000000 0300000000000000 02000000 6869"),
    Case(L, 2, m.Rwrite(2), "0b000000 77 0200 02000000"),
    Case(L, 2, m.Tclunk(1), "0b000000 78 0200 01000000"),
    Case(L, 2, m.Rclunk(), "07000000 79 0200"),
    Case(L, 2, m.Tremove(1), "0b000000 7a 0200 01000000"),
    Case(L, 2, m.Rremove(), "07000000 7b 0200"),
    Case(OLD, 2, m.Tstat(1), "0b000000 7c 0200 01000000"),
    Case(OLD, 2, m.Rstat(STAT), f"44000000 7d 0200 3b00 3900 {STAT_HEX}"),
    Case(OLD, 2, m.Twstat(1, STAT), f"48000000 7e 0200 01000000 3b00 3900 {STAT_HEX}"),
    Case(OLD, 2, m.Rwstat(), "07000000 7f 0200"),
    Case(L, 1, m.Tstatfs(1), "0b000000 08 0100 01000000"),
    Case(
        L,
        1,
        m.Rstatfs(0x01021997, 4096, 1, 2, 3, 4, 5, 6, 255),
        "43000000 09 0100 97190201 00100000 0100000000000000 0200000000000000 0300000000000000"
        " 0400000000000000 0500000000000000 0600000000000000 ff000000",
    ),
    Case(L, 1, m.Tlopen(1, 0o2001), "0f000000 0c 0100 01000000 01040000"),
    Case(L, 1, m.Rlopen(DIR, 0), f"18000000 0d 0100 {DIR_HEX} 00000000"),
    Case(L, 1, m.Tlcreate(1, "f", 0o101, 0o100644, 5), "1a000000 0e 0100 01000000 0100 66 41000000 a4810000 05000000"),
    Case(L, 1, m.Rlcreate(DIR, 1), f"18000000 0f 0100 {DIR_HEX} 01000000"),
    Case(L, 1, m.Tsymlink(1, "s", "/t", 5), "16000000 10 0100 01000000 0100 73 0200 2f74 05000000"),
    Case(
        L,
        1,
        m.Tmknod(1, "n", 0o20644, 1, 3, 5),
        "1e000000 12 0100 01000000 0100 6e a4210000 01000000 03000000 05000000",
    ),
    Case(L, 1, m.Trename(1, 2, "n"), "12000000 14 0100 01000000 02000000 0100 6e"),
    Case(L, 1, m.Rreadlink("/t"), "0b000000 17 0100 0200 2f74"),
    Case(L, 1, m.Tgetattr(1, 0x7FF), "13000000 18 0100 01000000 ff07000000000000"),
    Case(
        L,
        1,
        m.Rgetattr(0x7FF, DIR, 0o40755, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17),
        f"a0000000 19 0100 ff07000000000000 {DIR_HEX} ed410000 01000000 02000000 "
        + " ".join(f"{n:02x}00000000000000" for n in range(3, 18)),
    ),
    Case(
        L,
        1,
        m.Tsetattr(1, 0x1FF, 0o644, 2, 3, 4, 5, 6, 7, 8),
        "43000000 1a 0100 01000000 ff010000 a4010000 02000000 03000000 "
        + " ".join(f"{n:02x}00000000000000" for n in range(4, 9)),
    ),
    Case(L, 1, m.Txattrwalk(1, 2, "user.x"), "17000000 1e 0100 01000000 02000000 0600 757365722e78"),
    Case(L, 1, m.Rxattrwalk(9), "0f000000 1f 0100 0900000000000000"),
    Case(L, 1, m.Txattrcreate(1, "x", 9, 2), "1a000000 20 0100 01000000 0100 78 0900000000000000 02000000"),
    Case(L, 1, m.Treaddir(1, 2, 3), "17000000 28 0100 01000000 0200000000000000 03000000"),
    Case(L, 1, m.Rreaddir(b"x"), "0c000000 29 0100 01000000 78"),
    Case(L, 1, m.Tfsync(1, 1), "0f000000 32 0100 01000000 01000000"),
    Case(
        L,
        1,
        m.Tlock(1, 1, 1, 2, 3, 4, "h"),
        "27000000 34 0100 01000000 01 01000000 0200000000000000 0300000000000000 04000000 0100 68",
    ),
    Case(L, 1, m.Rlock(1), "08000000 35 0100 01"),
    Case(
        L,
        1,
        m.Tgetlock(1, 1, 2, 3, 4, "h"),
        "23000000 36 0100 01000000 01 0200000000000000 0300000000000000 04000000 0100 68",
    ),
    Case(L, 1, m.Rgetlock(2, 2, 3, 4, "h"), "1f000000 37 0100 02 0200000000000000 0300000000000000 04000000 0100 68"),
    Case(L, 1, m.Tlink(1, 2, "n"), "12000000 46 0100 01000000 02000000 0100 6e"),
    Case(L, 1, m.Tmkdir(1, "d", 0o755, 5), "16000000 48 0100 01000000 0100 64 ed010000 05000000"),
    Case(L, 1, m.Trenameat(1, "a", 2, "b"), "15000000 4a 0100 01000000 0100 61 02000000 0100 62"),
    Case(L, 1, m.Tunlinkat(1, "a", 0x200), "12000000 4c 0100 01000000 0100 61 00020000"),
]


def joined(message: Message, tag: int, dialect: Dialect) -> bytes:
    return b"".join(encode(message, tag, dialect))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.dialect.value}-{type(case.message).__name__}")
def test_known_bytes_both_ways(case: Case) -> None:
    wire = bytes.fromhex(case.wire)
    assert joined(case.message, case.tag, case.dialect) == wire
    assert decode(memoryview(wire), case.dialect) == (case.tag, case.message)


def test_every_message_of_the_table_travels_in_exactly_the_dialects_it_names() -> None:
    for row in TABLE:
        assert len(row.layout.split()) in (len(fields(row.message)), len(fields(row.message)) - 1)
        for dialect in Dialect:
            assert (row.message in codec.messages_of(dialect)) == any(
                dialect in other.dialects for other in TABLE if other.message is row.message
            )
    for dialect in Dialect:
        numbers = [row.number for row in TABLE if dialect in row.dialects]
        assert len(numbers) == len(set(numbers))
        for number in numbers:  # only the error replies have no request
            assert number in (7, 107, 161) or {number & ~1, number | 1} <= set(numbers)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
QIDS = st.builds(Qid, st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
STATS = st.tuples(U16, U32, QIDS, U32, U32, U32, U64, NAMES, NAMES, NAMES, NAMES).map(lambda row: WireStat(*row))
STATS_U = st.builds(
    lambda stat, row: stat._replace(extension=row[0], n_uid=row[1], n_gid=row[2], n_muid=row[3]),
    STATS,
    st.tuples(NAMES, U32, U32, U32),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "1": st.integers(0, 255),
    "2": U16,
    "4": U32,
    "8": U64,
    "s": NAMES,
    "q": QIDS,
    "d": st.binary(max_size=200),
    "S": st.lists(NAMES, max_size=20).map(tuple),
    "Q": st.lists(QIDS, max_size=20).map(tuple),
    "t": STATS,
    "F": st.lists(st.builds(m.Feature, NAMES, U64), max_size=4).map(tuple),
    "u": STATS_U,
}


def _build(row: Row) -> st.SearchStrategy[Message]:
    if row.layout == "C":
        asks = row.number % 2 == 0
        inside = [other for other in TABLE if NG in other.dialects and other.message not in NOT_IN_COMPOUNDS]
        part = st.sampled_from([other for other in inside if other.number % 2 == row.number % 2]).flatmap(_build)
        return st.lists(part, max_size=4).map(lambda parts: m.Tcomp(tuple(parts)) if asks else m.Rcomp(tuple(parts)))  # type: ignore[arg-type]
    return st.builds(row.message, *(FIELDS[kind] for kind in row.layout.split()))


def messages_of(row: Row) -> st.SearchStrategy[tuple[Dialect, Message]]:
    message = _build(row)
    return st.tuples(st.sampled_from(sorted(row.dialects, key=lambda dialect: dialect.value)), message)


ANY_MESSAGE = st.sampled_from(TABLE).flatmap(messages_of)


@given(ANY_MESSAGE, U16)
@settings(max_examples=500, deadline=None)
def test_what_is_encoded_decodes_to_the_same(sample: tuple[Dialect, Message], tag: int) -> None:
    dialect, message = sample
    wire = joined(message, tag, dialect)
    assert int.from_bytes(wire[:4], "little") == len(wire)
    assert decode(memoryview(wire), dialect) == (tag, message)


@given(ANY_MESSAGE, st.data())
@settings(deadline=None)
def test_a_message_cut_or_lengthened_is_refused(sample: tuple[Dialect, Message], data: st.DataObject) -> None:
    dialect, message = sample
    wire = joined(message, 1, dialect)
    cut = data.draw(st.integers(7, len(wire)))
    broken = wire[:cut] + (b"" if cut < len(wire) else b"x")
    broken = len(broken).to_bytes(4, "little") + broken[4:]
    with pytest.raises(ProtocolError):
        decode(memoryview(broken), dialect)


@given(st.binary(max_size=80), st.integers(0, 255), st.sampled_from(Dialect))
@settings(max_examples=500, deadline=None)
def test_arbitrary_bodies_give_a_message_or_a_protocol_error(body: bytes, number: int, dialect: Dialect) -> None:
    wire = (7 + len(body)).to_bytes(4, "little") + bytes([number]) + b"\1\0" + body
    try:
        tag, message = decode(memoryview(wire), dialect)
    except ProtocolError:
        return
    assert joined(message, tag, dialect) == wire


@given(st.binary(max_size=120))
@settings(deadline=None)
def test_arbitrary_directory_data_gives_entries_or_a_protocol_error(data: bytes) -> None:
    for unpack, pack in ((codec.unpack_stats, codec.pack_stat), (codec.unpack_dirents, codec.pack_dirent)):
        try:
            entries: Any = unpack(data)
        except ProtocolError:
            continue
        again: Any = pack
        assert b"".join(again(entry) for entry in entries) == data
    try:
        stats = codec.unpack_stats(data, True)
    except ProtocolError:
        return
    assert b"".join(codec.pack_stat(stat, True) for stat in stats) == data


@given(st.lists(STATS, max_size=4), st.lists(st.builds(Dirent, QIDS, U64, st.integers(0, 255), NAMES), max_size=4))
@settings(deadline=None)
def test_directory_entries_round_trip(stats: list[WireStat], entries: list[Dirent]) -> None:
    assert codec.unpack_stats(b"".join(map(codec.pack_stat, stats))) == stats
    assert codec.unpack_dirents(b"".join(map(codec.pack_dirent, entries))) == entries


@given(st.lists(STATS_U, max_size=4))
@settings(deadline=None)
def test_stats_of_9p2000_u_round_trip(stats: list[WireStat]) -> None:
    assert codec.unpack_stats(b"".join(codec.pack_stat(stat, True) for stat in stats), True) == stats


def test_a_stat_whose_sizes_disagree_is_refused() -> None:
    wire = bytearray(joined(m.Rstat(STAT), 1, OLD))
    wire[7] += 1  # n[2] of the reply, not size[2] of the stat
    with pytest.raises(ProtocolError):
        decode(memoryview(wire), OLD)


BAD_TEXTS = [b"\xff", b"a\0b", b"\xed\xa0\x80"]


@pytest.mark.parametrize("raw", BAD_TEXTS)
def test_a_text_that_is_not_utf_8_or_holds_nul_is_refused_by_its_own_error(raw: bytes) -> None:
    body = len(raw).to_bytes(2, "little") + raw
    wire = (7 + len(body)).to_bytes(4, "little") + b"\x6b\1\0" + body
    with pytest.raises(ProtocolError) as caught:
        decode(memoryview(wire), OLD)
    assert caught.value.error is E.ILSEQ


UNENCODABLE: list[tuple[Message, Dialect, E]] = [
    (m.Tclunk(1 << 32), L, E.OVERFLOW),
    (m.Tclunk(-1), L, E.OVERFLOW),
    (m.Rattach(Qid(256, 0, 0)), L, E.OVERFLOW),
    (m.Rreadlink("x" * 65536), L, E.NAMETOOLONG),
    (m.Rreadlink("a\0"), L, E.ILSEQ),
    (m.Rreadlink("\udc80"), L, E.ILSEQ),
    (m.Rstat(STAT._replace(name="x" * 65500)), OLD, E.OVERFLOW),
    (m.Rstat(STAT._replace(length=-1)), OLD, E.OVERFLOW),
    (m.Tstat(1), L, E.NOSYS),
    (m.Tgetattr(1, 0), OLD, E.NOSYS),
    (m.Tgetattr(1, 0), U, E.NOSYS),
    (m.Rstat(STAT_U._replace(n_uid=-1)), U, E.OVERFLOW),
    (m.Tcreate(1, "l", 0, 0, "a\0"), U, E.ILSEQ),
]


@pytest.mark.parametrize(("message", "dialect", "error"), UNENCODABLE)
def test_what_does_not_fit_its_field_is_misuse(message: Message, dialect: Dialect, error: E) -> None:
    with pytest.raises(Misuse) as caught:
        encode(message, 1, dialect)
    assert caught.value.error is error


def test_data_is_neither_copied_into_the_message_nor_out_of_the_frame() -> None:
    data = memoryview(bytes(range(100)))
    buffers = encode(m.Rread(data), 1, L)
    assert buffers[1] is data
    wire = joined(m.Twrite(1, 0, data), 1, L)
    _, message = decode(memoryview(wire), L)
    assert isinstance(message, m.Twrite)
    assert isinstance(message.data, memoryview)
    assert message.data.obj is wire


def test_the_header_of_data_sent_by_others_is_that_of_the_whole_message() -> None:
    assert codec.data_header(117, 9, 5) + b"hello" == joined(m.Rread(b"hello"), 9, L)
    with pytest.raises(Misuse):
        codec.data_header(117, 9, 1 << 32)


# -- frames --

STREAM = [joined(case.message, case.tag, case.dialect) for case in CASES]


@given(st.lists(st.integers(1, 90), max_size=60))
@settings(deadline=None)
def test_frames_do_not_depend_on_how_the_stream_was_cut(sizes: list[int]) -> None:
    stream, frames, got = b"".join(STREAM), Frames(8192), []
    for size in sizes:
        got += [bytes(frame) for frame in frames.feed(stream[:size])]
        stream = stream[size:]
    got += [bytes(frame) for frame in frames.feed(stream)]
    assert got == STREAM
    assert frames.pending == 0


def test_frames_fed_byte_by_byte_and_with_leftovers() -> None:
    stream, frames = b"".join(STREAM), Frames(8192)
    got = [bytes(frame) for at in range(len(stream)) for frame in frames.feed(stream[at : at + 1])]
    assert got == STREAM
    assert [bytes(frame) for frame in frames.feed(STREAM[0] + STREAM[1] + STREAM[2][:5])] == STREAM[:2]
    assert frames.pending == 5
    assert [bytes(frame) for frame in frames.feed(STREAM[2][5:])] == [STREAM[2]]


def test_what_an_abandoned_iterator_left_is_not_lost() -> None:
    frames = Frames(8192)
    assert bytes(next(frames.feed(STREAM[0] + STREAM[1] + STREAM[2][:3]))) == STREAM[0]
    assert [bytes(frame) for frame in frames.feed(STREAM[2][3:])] == STREAM[1:3]


def test_whole_frames_are_views_and_reused_buffers_do_not_change_them() -> None:
    frames = Frames(8192)
    (frame,) = frames.feed(STREAM[0])
    assert frame.obj is STREAM[0]
    buffer = bytearray(STREAM[0])
    (frame,) = frames.feed(buffer)
    buffer[:] = bytes(len(buffer))
    assert bytes(frame) == STREAM[0]
    assert frame.readonly


SIZES = [(0, E.BADMESSAGE), (6, E.BADMESSAGE), (101, E.MSGSIZE), (2**32 - 1, E.MSGSIZE)]


@pytest.mark.parametrize(("size", "error"), SIZES)
@pytest.mark.parametrize("cut", [1, 4])
def test_an_illegal_size_is_refused_before_the_message_is_kept(size: int, error: E, cut: int) -> None:
    wire, frames = size.to_bytes(4, "little"), Frames(100)
    assert list(frames.feed(wire[: cut - 1])) == []
    with pytest.raises(ProtocolError) as caught:
        list(frames.feed(wire[cut - 1 :] + bytes(500)))
    assert caught.value.error is error


@given(st.lists(st.sampled_from([1, 3, 7, 1000, 32_767, 32_768, 200_000]), max_size=40))
@settings(deadline=None, max_examples=50)
def test_a_large_message_does_not_depend_on_how_it_was_cut(sizes: list[int]) -> None:
    wires = [joined(m.Rread(bytes([tag]) * 300_000), tag, L) for tag in range(3)]
    stream, frames = memoryview(b"".join(wires)), Frames(1 << 20)
    got: list[memoryview] = []
    for size in (*sizes, len(stream)):
        fed = bytearray(stream[:size])
        got += frames.feed(fed)
        fed[:] = bytes(len(fed))
        stream = stream[size:]
    assert [bytes(frame) for frame in got] == wires
    assert all(isinstance(frame.obj, bytes) for frame in got)
    assert frames.pending == 0


def test_a_large_message_in_many_pieces_is_gathered_in_linear_time() -> None:
    body = bytes(1 << 20)
    wire, frames = joined(m.Rread(body), 1, L), Frames(2 << 20)
    got = [frame for at in range(0, len(wire), 7) for frame in frames.feed(wire[at : at + 7])]
    assert len(got) == 1
    assert bytes(got[0]) == wire


def test_the_pure_core_imports_nothing_impure() -> None:
    allowed = {"__future__", "collections", "dataclasses", "enum", "operator", "struct", "typing"}
    for path in Path(next(iter(cognu.ninep.__path__))).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path.name
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] in allowed, path.name
            elif isinstance(node, ast.ImportFrom) and node.level == 2:
                assert node.module in ("errors", "values"), path.name
