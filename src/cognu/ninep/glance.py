"""Plain requests: those that can be answered on the spot, without ever having been in flight.

Most requests are of few kinds, lie whole in what was received, name fids that no other request changes, and have an
answer that is ready. Of such a one nothing has to be kept: no tag that a Tflush could name, no turn that others wait
for. So `ServerSession.glance` shows it to the embedding before anything is decided. If the embedding has the answer at
once, it says so (`taken`, `walked`, `opened`, `clunked`) and sends what the functions here pack; if not, nothing has
happened, and the same request comes by `next_event`. Whatever is odd about a request is left to `next_event` too,
errors above all.

The bytes are those that `codec` makes of the same messages, in `DIALECTS`, which have them in the same layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple, TypeAlias

from . import messages as m
from .attrs import posix_mode
from .codec import number_of
from .fids import FidTable
from .messages import Dialect
from .moves import FidState
from .types import GETATTR_BASIC, GETATTR_BTIME, GETATTR_DATA_VERSION, MAXWELEM, NOFID, Qid, Stat

DIALECTS: Final = frozenset({Dialect.L, Dialect.NG})
GETATTR, READ, WALK, LOPEN, CLUNK = (
    number_of(Dialect.L, kind) for kind in (m.Tgetattr, m.Tread, m.Twalk, m.Tlopen, m.Tclunk)
)

Fields: TypeAlias = tuple[int, ...]
"""Of a request: size, number, tag, the fid that it names, and what follows, in the order of the message's class."""
Plain: TypeAlias = tuple[object, Fields, tuple[str, ...]]
"""A request: what its fid stands for, its fields, and of a Twalk, whose fields end with newfid, the names."""


class Shape(NamedTuple):
    """A request of fixed length from its size on (of a Twalk the part before the names), and when it is plain.

    `states`: of the fid that it names. `alone`: no other request may hold that fid.
    """

    layout: Struct
    states: frozenset[FidState]
    alone: bool


_FILES: Final = frozenset({FidState.FILE, FidState.DIR, FidState.OPEN, FidState.OPENDIR})
SHAPES: Final = {
    GETATTR: Shape(Struct("<IBHIQ"), _FILES, False),
    READ: Shape(Struct("<IBHIQI"), frozenset({FidState.OPEN}), False),
    WALK: Shape(Struct("<IBHIIH"), frozenset({FidState.DIR}), False),
    LOPEN: Shape(Struct("<IBHII"), frozenset({FidState.FILE}), True),
    CLUNK: Shape(Struct("<IBHI"), _FILES, True),
}

_RCLUNK: Final = Struct("<IBH")
_RREAD: Final = Struct("<IBHI")
_RLOPEN: Final = Struct("<IBHBIQI")
_RWALK: Final = tuple(Struct("<IBHH" + "BIQ" * count) for count in range(MAXWELEM + 1))
_RGETATTR: Final = Struct("<IBHQBIQIII15Q")
_SECOND: Final = 1_000_000_000
_U64: Final = 0xFFFFFFFFFFFFFFFF
_NO_NAMES: tuple[str, ...] = ()


def parse(frames: memoryview, at: int, fids: FidTable) -> Plain | None:
    """The request that begins at `at`, where at least the seven bytes of a header are, if it is plain."""
    shape = SHAPES.get(frames[at + 4])
    if shape is None or len(frames) - at < shape.layout.size:
        return None
    fields: Fields = shape.layout.unpack_from(frames, at)
    entry = fids.still(fields[3])
    if entry is None or entry.state not in shape.states or (shape.alone and entry.holders):
        return None
    if fields[1] == WALK:
        names = _names(frames, at, fields)
        if names is None or fields[4] == NOFID or not fids.is_free(fields[4]):
            return None
        return entry.target, fields, names
    return (entry.target, fields, _NO_NAMES) if fields[0] == shape.layout.size else None


def _names(frames: memoryview, at: int, fields: Fields) -> tuple[str, ...] | None:
    """Of a Twalk: all that are new and could be files' names; else None, for whoever says what is wrong."""
    end, count = at + fields[0], fields[5]
    if end > len(frames) or not 1 <= count <= MAXWELEM:
        return None
    at += SHAPES[WALK].layout.size
    names = []
    for _ in range(count):
        if end - at < 2:
            return None
        size = frames[at] | frames[at + 1] << 8
        at += 2 + size
        if at > end or not 0 < size < 256:
            return None
        try:
            name = str(frames[at - size : at], "utf-8")
        except UnicodeDecodeError:
            return None
        if "/" in name or "\0" in name or name in (".", ".."):
            return None
        names.append(name)
    return tuple(names) if at == end else None


# -- replies: None if a number does not fit its field -----------------------------------------------------------------


def pack_getattr(tag: int, stat: Stat, mask: int) -> bytes | None:
    """As `attrs.getattr_of_stat`."""
    known = GETATTR_BASIC | GETATTR_DATA_VERSION
    born = stat.btime
    if born is None:
        born = 0
    else:
        known |= GETATTR_BTIME
    kind, version, path = stat.qid
    size, blocks = stat.length, stat.blocks
    read, written, changed = stat.atime, stat.mtime, stat.ctime
    try:
        return _RGETATTR.pack(
            _RGETATTR.size, GETATTR + 1, tag, (mask | GETATTR_BASIC) & known, kind, version, path,
            posix_mode(stat.mode), stat.uid, stat.gid, stat.links, stat.rdev, size, stat.blksize,
            (size + 511) // 512 if blocks is None else blocks,
            read // _SECOND & _U64, read % _SECOND, written // _SECOND & _U64, written % _SECOND,
            changed // _SECOND & _U64, changed % _SECOND, born // _SECOND & _U64, born % _SECOND,
            0, version,
        )  # fmt: skip
    except StructError:
        return None


def pack_read(tag: int, count: int) -> bytes:
    """The header of an Rread whose `count` bytes of data follow it."""
    return _RREAD.pack(_RREAD.size + count, READ + 1, tag, count)


def pack_walk(tag: int, qids: Sequence[Qid]) -> bytes | None:
    layout = _RWALK[len(qids)]
    try:
        return layout.pack(layout.size, WALK + 1, tag, len(qids), *(number for qid in qids for number in qid))
    except StructError:
        return None


def pack_lopen(tag: int, qid: Qid) -> bytes | None:
    try:
        return _RLOPEN.pack(_RLOPEN.size, LOPEN + 1, tag, *qid, 0)
    except StructError:
        return None


def pack_clunk(tag: int) -> bytes:
    return _RCLUNK.pack(_RCLUNK.size, CLUNK + 1, tag)
