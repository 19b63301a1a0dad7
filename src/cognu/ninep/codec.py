"""Messages to bytes and back, driven by the table in `table`. No I/O, no state between calls.

Everything that arrives is checked: sizes, counts, UTF-8, nothing left over. What breaks the form is
`ProtocolError(BADMESSAGE)`; a text that isn't UTF-8 or holds NUL (illegal in all of 9P, intro(5)) is
`ProtocolError(ILSEQ)`, whose frame is sound, so that it can be refused without ending the connection. What
can't be encoded is `Misuse` with OVERFLOW, ILSEQ or NAMETOOLONG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from ..errors import E, Misuse, ProtocolError
from .messages import Dialect, Feature, Message, Request, WireStat, field_names, is_request
from .table import NOT_IN_COMPOUNDS, TABLE
from .types import Buffer, Dirent, Qid

HEADER = Struct("<IBH")  # size[4] type[1] tag[2]
_U16 = Struct("<H")
_U32 = Struct("<I")
_QID = Struct("<BIQ")
_STAT = Struct("<HIBIQIIIQ")  # type dev qid mode atime mtime length
_U64 = Struct("<Q")
_OWNERS = Struct("<III")  # n_uid n_gid n_muid, of 9P2000.u
_DIRENT = Struct("<BIQQB")  # qid offset type

_INTEGERS = {"1": "B", "2": "H", "4": "I", "8": "Q"}

_Read = Callable[[memoryview, int, list[Any]], int]
_Write = Callable[[Any, list[Buffer]], None]


def bad(subject: str, detail: str = "") -> ProtocolError:
    return ProtocolError(E.BADMESSAGE, subject, detail)


# -- parts of a message: each reads from (view, offset), appends to values, and returns the next offset --


def read_text(view: memoryview, at: int, values: list[Any]) -> int:
    """A text, size[2] and UTF-8, added to `values`; where it ends. Raises `ProtocolError`, `struct.error` if cut."""
    start = at + 2
    size: int = _U16.unpack_from(view, at)[0]
    end = start + size
    if end > len(view):
        raise bad("text", f"{size} bytes announced, {len(view) - start} there")
    raw = bytes(view[start:end])
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError(E.ILSEQ, repr(raw)[1:]) from None
    if "\0" in text:
        raise ProtocolError(E.ILSEQ, repr(raw)[1:])
    values.append(text)
    return end


def write_text(text: str, parts: list[Buffer]) -> None:
    """Raises `Misuse`: ILSEQ, NAMETOOLONG."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise Misuse(E.ILSEQ, ascii(text)) from None
    if b"\0" in raw:
        raise Misuse(E.ILSEQ, ascii(text))
    if len(raw) > 0xFFFF:
        raise Misuse(E.NAMETOOLONG, f"{text[:32]}…")
    parts.append(_U16.pack(len(raw)))
    parts.append(raw)


def _read_texts(view: memoryview, at: int, values: list[Any]) -> int:
    (count,) = _U16.unpack_from(view, at)
    at += 2
    if 2 * count > len(view) - at:
        raise bad("list of names", f"{count} announced, {len(view) - at} bytes there")
    texts: list[str] = []
    for _ in range(count):
        at = read_text(view, at, texts)
    values.append(tuple(texts))
    return at


def _write_texts(texts: tuple[str, ...], parts: list[Buffer]) -> None:
    parts.append(_U16.pack(len(texts)))
    for text in texts:
        write_text(text, parts)


def _read_qids(view: memoryview, at: int, values: list[Any]) -> int:
    count: int = _U16.unpack_from(view, at)[0]
    at += 2
    end = at + count * _QID.size
    if end > len(view):
        raise bad("list of qids", f"{count} announced, {len(view) - at} bytes there")
    values.append(tuple(map(Qid._make, _QID.iter_unpack(view[at:end]))))
    return end


def _write_qids(qids: tuple[Qid, ...], parts: list[Buffer]) -> None:
    parts.append(_U16.pack(len(qids)))
    parts.extend(_QID.pack(*qid) for qid in qids)


def _read_features(view: memoryview, at: int, values: list[Any]) -> int:
    (count,) = _U16.unpack_from(view, at)
    at += 2
    if 10 * count > len(view) - at:
        raise bad("list of features", f"{count} announced, {len(view) - at} bytes there")
    features: list[Feature] = []
    for _ in range(count):
        name: list[str] = []
        at = read_text(view, at, name)
        features.append(Feature(name[0], _U64.unpack_from(view, at)[0]))
        at += 8
    values.append(tuple(features))
    return at


def _write_features(features: tuple[Feature, ...], parts: list[Buffer]) -> None:
    parts.append(_U16.pack(len(features)))
    for name, value in features:
        write_text(name, parts)
        parts.append(_U64.pack(value))


def _read_data(view: memoryview, at: int, values: list[Any]) -> int:
    (count,) = _U32.unpack_from(view, at)
    start = at + 4
    if count != len(view) - start:
        raise bad("data", f"{count} bytes announced, {len(view) - start} there")
    values.append(view[start:])
    return len(view)


def _write_data(data: Buffer, parts: list[Buffer]) -> None:
    parts.append(_U32.pack(len(data)))


def _read_stat(view: memoryview, at: int, values: list[Any], extended: bool = False) -> int:
    """Rstat and Twstat put n[2] before a stat, which has a size[2] of its own: stat(5)'s doubled size."""
    (size,) = _U16.unpack_from(view, at)
    stat, end = _unpack_stat(view, at + 2, extended)
    if end - at - 2 != size:
        raise bad("stat", f"{size} bytes announced, {end - at - 2} there")
    values.append(stat)
    return end


def _write_stat(stat: WireStat, parts: list[Buffer], extended: bool = False) -> None:
    raw = pack_stat(stat, extended)
    parts.append(_U16.pack(len(raw)))
    parts.append(raw)


def _read_stat_u(view: memoryview, at: int, values: list[Any]) -> int:
    return _read_stat(view, at, values, True)


def _write_stat_u(stat: WireStat, parts: list[Buffer]) -> None:
    _write_stat(stat, parts, True)


def _unpack_stat(view: memoryview, at: int, extended: bool) -> tuple[WireStat, int]:
    (size,) = _U16.unpack_from(view, at)
    start, end = at + 2, at + 2 + size
    if end > len(view) or size < _STAT.size:
        raise bad("stat", f"{size} bytes announced, {len(view) - start} there")
    kind, dev, qtype, qversion, qpath, mode, atime, mtime, length = _STAT.unpack_from(view, start)
    names: list[Any] = []
    body, at = view[:end], start + _STAT.size
    for _ in range(5 if extended else 4):
        at = read_text(body, at, names)
    owners = _OWNERS.unpack_from(body, at) if extended else ()
    at += 4 * len(owners)
    if at != end:
        raise bad("stat", f"{end - at} bytes left over")
    return WireStat(kind, dev, Qid(qtype, qversion, qpath), mode, atime, mtime, length, *names, *owners), end


def pack_stat(stat: WireStat, extended: bool = False) -> bytes:
    """One stat as a directory read carries it: size[2] and the fields, if `extended` 9P2000.u's. Raises `Misuse`."""
    parts: list[Buffer] = []
    try:
        parts.append(_STAT.pack(stat.type, stat.dev, *stat.qid, *stat[3:7]))
        for text in (stat.name, stat.uid, stat.gid, stat.muid):
            write_text(text, parts)
        if extended:
            write_text(stat.extension, parts)
            parts.append(_OWNERS.pack(stat.n_uid, stat.n_gid, stat.n_muid))
    except StructError as error:
        raise Misuse(E.OVERFLOW, "stat", str(error)) from None
    body = b"".join(parts)
    if len(body) > 0xFFFD:  # the doubled size of Rstat must fit two bytes as well
        raise Misuse(E.OVERFLOW, "stat", f"{len(body)} bytes")
    return _U16.pack(len(body)) + body


def unpack_stats(data: Buffer, extended: bool = False) -> list[WireStat]:
    """The entries in the data of a directory read of 9P2000, or if `extended` of 9P2000.u.

    A cut one is illegal, read(5): `ProtocolError`.
    """
    view, at = memoryview(data), 0
    stats: list[WireStat] = []
    try:
        while at < len(view):
            stat, at = _unpack_stat(view, at, extended)
            stats.append(stat)
    except StructError:
        raise bad("directory read", "the last entry is cut") from None
    return stats


def pack_dirent(entry: Dirent) -> bytes:
    """One entry as Rreaddir carries it: qid[13] offset[8] type[1] name[s]. Raises `Misuse`."""
    parts: list[Buffer] = []
    try:
        parts.append(_DIRENT.pack(*entry.qid, entry.offset, entry.type))
    except StructError as error:
        raise Misuse(E.OVERFLOW, "directory entry", str(error)) from None
    write_text(entry.name, parts)
    return b"".join(parts)


def unpack_dirent(view: memoryview, at: int) -> tuple[Dirent, int]:
    """The entry at `at`, and where it ends. Raises `ProtocolError`, and `struct.error` if it is cut."""
    qtype, qversion, qpath, offset, kind = _DIRENT.unpack_from(view, at)
    name: list[str] = []
    at = read_text(view, at + _DIRENT.size, name)
    return Dirent(Qid(qtype, qversion, qpath), offset, kind, name[0]), at


def unpack_dirents(data: Buffer) -> list[Dirent]:
    """The entries in the data of an Rreaddir. Raises `ProtocolError`, also for a cut entry."""
    view, at = memoryview(data), 0
    entries: list[Dirent] = []
    try:
        while at < len(view):
            entry, at = unpack_dirent(view, at)
            entries.append(entry)
    except StructError:
        raise bad("directory read", "the last entry is cut") from None
    return entries


_VARIABLE: dict[str, tuple[_Read, _Write]] = {
    "s": (read_text, write_text),
    "S": (_read_texts, _write_texts),
    "Q": (_read_qids, _write_qids),
    "d": (_read_data, _write_data),
    "F": (_read_features, _write_features),
    "t": (_read_stat, _write_stat),
    "u": (_read_stat_u, _write_stat_u),
}


class _Fixed:
    """A run of integers and qids, one struct. `qids` are the places where three integers make a qid."""

    def __init__(self, kinds: list[str]) -> None:
        self.struct = Struct("<" + "".join("BIQ" if kind == "q" else _INTEGERS[kind] for kind in kinds))
        self.fields = len(kinds)
        self.qids = [place for place, kind in enumerate(kinds) if kind == "q"]

    def read(self, view: memoryview, at: int, values: list[Any]) -> int:
        raw: Any = self.struct.unpack_from(view, at)
        if self.qids:
            raw = list(raw)
            for place in self.qids:  # in order: earlier ones are folded already, so places are final
                raw[place : place + 3] = [Qid(*raw[place : place + 3])]
        values.extend(raw)
        return at + self.struct.size

    def pack(self, values: list[Any]) -> bytes:
        if self.qids:
            for place in reversed(self.qids):
                values[place : place + 1] = values[place]
        return self.struct.pack(*values)


class _Codec:
    """One row of the table, made ready: alternating fixed runs and variable parts."""

    def __init__(self, number: int, message: type[Message], layout: str) -> None:
        self.number = number
        self.message = message
        kinds = layout.split()
        self.names = field_names(message)[: len(kinds)]
        self.values = _getter(self.names)
        self.data = attrgetter(self.names[-1]) if kinds and kinds[-1] == "d" else None
        self.parts: list[_Fixed | tuple[_Read, _Write]] = []
        run: list[str] = []
        for kind in kinds:
            if kind in _VARIABLE:
                if run:
                    self.parts.append(_Fixed(run))
                    run = []
                self.parts.append(_VARIABLE[kind])
            else:
                run.append(kind)
        if run:
            self.parts.append(_Fixed(run))

    def decode(self, frame: memoryview) -> Message:
        values: list[Any] = []
        at = HEADER.size
        try:
            for part in self.parts:
                at = part.read(frame, at, values) if isinstance(part, _Fixed) else part[0](frame, at, values)
        except StructError:
            raise bad(self.message.__name__, "it ends too early") from None
        if at != len(frame):
            raise bad(self.message.__name__, f"{len(frame) - at} bytes left over")
        return self.message(*values)

    def encode(self, message: Message, tag: int) -> list[Buffer]:
        values = self.values(message)
        parts: list[Buffer] = [b""]
        try:
            at = 0
            for part in self.parts:
                if isinstance(part, _Fixed):
                    parts.append(part.pack(values[at : at + part.fields]))
                    at += part.fields
                else:
                    part[1](values[at], parts)
                    at += 1
            data: Buffer = self.data(message) if self.data else b""
            parts[0] = HEADER.pack(HEADER.size + sum(map(len, parts)) + len(data), self.number, tag)
        except StructError as error:
            raise Misuse(E.OVERFLOW, self.message.__name__, str(error)) from None
        head = b"".join(parts)
        return [head, data] if data else [head]


class _CompoundCodec(_Codec):
    """Tcomp and Rcomp: whole messages of the dialect, each with the compound's tag. Their data are not copied."""

    def __init__(self, number: int, message: type[Message], parts: dict[int, _Codec]) -> None:
        """`parts` are those that it may hold, by number."""
        super().__init__(number, message, "")
        self._parts = parts
        self._numbers = {codec.message: codec for codec in parts.values()}

    def decode(self, frame: memoryview) -> Message:
        tag, at = peek(frame)[1], HEADER.size + 2
        if at > len(frame):
            raise bad(self.message.__name__, "it ends too early")
        (count,) = _U16.unpack_from(frame, HEADER.size)
        found: list[Message] = []
        for _ in range(count):
            if at + HEADER.size > len(frame):
                raise bad(self.message.__name__, "it ends too early")
            size, number, own = HEADER.unpack_from(frame, at)
            if not HEADER.size <= size <= len(frame) - at or own != tag:
                raise bad("part", f"{size} bytes announced, {len(frame) - at} there; tag {own} in {tag}")
            codec = self._parts.get(number)
            if codec is None:
                raise ProtocolError(E.NOSYS, f"message {number}", self.message.__name__)
            found.append(codec.decode(frame[at : at + size]))
            at += size
        if at != len(frame):
            raise bad(self.message.__name__, f"{len(frame) - at} bytes left over")
        make: Any = self.message
        compound: Message = make(tuple(found))
        return compound

    def encode(self, message: Message, tag: int) -> list[Buffer]:
        parts: Any = message
        buffers: list[Buffer] = []
        for part in parts.parts:
            codec = self._numbers.get(type(part))
            if codec is None:
                raise Misuse(E.NOSYS, type(part).__name__, self.message.__name__)
            buffers += codec.encode(part, tag)
        return [compound_header(self.number, tag, len(parts.parts), sum(map(len, buffers))), *buffers]


def compound_header(number: int, tag: int, count: int, size: int) -> bytes:
    """The beginning of a Tcomp or Rcomp whose `count` parts, `size` bytes, the caller sends right after it."""
    try:
        return HEADER.pack(HEADER.size + 2 + size, number, tag) + _U16.pack(count)
    except StructError as error:
        raise Misuse(E.OVERFLOW, "compound", str(error)) from None


def _getter(names: tuple[str, ...]) -> Callable[[Message], list[Any]]:
    if not names:
        return lambda message: []
    if len(names) == 1:
        only = attrgetter(names[0])
        return lambda message: [only(message)]
    several = attrgetter(*names)
    return lambda message: list(several(message))


class _Codecs(NamedTuple):
    by_number: dict[int, _Codec]
    by_message: dict[type[Message], _Codec]
    replies: dict[type[Message], type[Message]]


def _build(dialect: Dialect) -> _Codecs:
    rows = [row for row in TABLE if dialect in row.dialects]
    codecs = [_Codec(row.number, row.message, row.layout) for row in rows if row.layout != "C"]
    parts = [codec for codec in codecs if codec.message not in NOT_IN_COMPOUNDS]
    codecs += [
        _CompoundCodec(
            row.number,
            row.message,
            {part.number: part for part in parts if is_request(part.number) == is_request(row.number)},
        )
        for row in rows
        if row.layout == "C"
    ]
    by_number = {codec.number: codec for codec in codecs}
    replies = {codec.message: by_number[codec.number + 1].message for codec in codecs if is_request(codec.number)}
    return _Codecs(by_number, {codec.message: codec for codec in codecs}, replies)


_DIALECTS = {dialect: _build(dialect) for dialect in Dialect}


def speaks(dialect: Dialect, number: int) -> bool:
    """Whether the dialect has a message of that number."""
    return number in _DIALECTS[dialect].by_number


def number_of(dialect: Dialect, message: type[Message]) -> int:
    """The message's number. Raises `Misuse(NOSYS)` if the dialect has no such message."""
    codec = _DIALECTS[dialect].by_message.get(message)
    if codec is None:
        raise Misuse(E.NOSYS, message.__name__, dialect.value)
    return codec.number


def messages_of(dialect: Dialect) -> Iterable[type[Message]]:
    return _DIALECTS[dialect].by_message.keys()


def expected_reply(dialect: Dialect, request: type[Request]) -> type[Message]:
    """The reply that a request gets when it succeeds. Raises `Misuse(NOSYS)` as `number_of`."""
    reply = _DIALECTS[dialect].replies.get(request)
    if reply is None:
        raise Misuse(E.NOSYS, request.__name__, dialect.value)
    return reply


def encode(message: Message, tag: int, dialect: Dialect) -> list[Buffer]:
    """The message as one or two buffers: header and fields, then the data as it was given, not copied.

    Raises `Misuse`: NOSYS if the dialect has no such message, OVERFLOW for a number out of its field's range,
    NAMETOOLONG and ILSEQ for texts.
    """
    codec = _DIALECTS[dialect].by_message.get(type(message))
    if codec is None:
        raise Misuse(E.NOSYS, type(message).__name__, dialect.value)
    return codec.encode(message, tag)


def decode(frame: memoryview, dialect: Dialect) -> tuple[int, Message]:
    """Tag and message of one whole frame, as `Frames` yields it. Data fields are views into `frame`.

    Raises `ProtocolError`: BADMESSAGE, ILSEQ, or NOSYS for a number that the dialect does not have.
    """
    number, tag = peek(frame)
    codec = _DIALECTS[dialect].by_number.get(number)
    if codec is None:
        raise ProtocolError(E.NOSYS, f"message {number}", dialect.value)
    return tag, codec.decode(frame)


def peek(frame: Buffer) -> tuple[int, int]:
    """Number and tag of a frame, unchecked otherwise. Raises `ProtocolError` if it is no frame."""
    if len(frame) < HEADER.size:
        raise bad("frame", f"{len(frame)} bytes")
    size, number, tag = HEADER.unpack_from(frame)
    if size != len(frame):
        raise bad("frame", f"{size} bytes announced, {len(frame)} there")
    return number, tag


def data_header(number: int, tag: int, count: int) -> bytes:
    """The header of an Rread or Rreaddir whose `count` bytes of data the caller sends right after it."""
    try:
        return HEADER.pack(HEADER.size + 4 + count, number, tag) + _U32.pack(count)
    except StructError as error:
        raise Misuse(E.OVERFLOW, "data", str(error)) from None


_NOTHING = memoryview(b"")
_LARGE_PIECE = 1 << 15
"""Bytes of a message that came together and are kept as they came until it is whole; less costs more than a copy."""


class Frames:
    """Cuts a byte stream into messages by their size[4].

    A message that lies whole in what was fed is a view of it, not a copy; one in pieces is gathered once. A
    size below 7 or above `max_size` is refused (`ProtocolError(BADMESSAGE)` or `(MSGSIZE)`) as soon as its
    four bytes are there, before anything of the message is kept. `max_size` may be changed between two messages.
    After an error the object is of no further use.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._chunk = _NOTHING
        self._at = 0
        self._pieces: list[memoryview | bytearray] = []  # of a message that is not whole
        self._kept = 0  # bytes in them

    @property
    def pending(self) -> int:
        """Bytes fed and not yet taken."""
        return self._kept + len(self._chunk) - self._at

    def feed(self, data: Buffer) -> Iterator[memoryview]:
        """Add `data`; yields the messages that are whole now. What the caller leaves, `take` gives later."""
        self.add(data)
        return iter(self.take, None)

    def add(self, data: Buffer) -> None:
        """Add `data` without taking messages. A bytes object is kept as it is; anything else is copied."""
        if self._at < len(self._chunk):
            self._chunk = memoryview(bytes(self._chunk[self._at :]) + bytes(data))
        else:
            self._chunk = memoryview(bytes(data))
        self._at = 0

    def look(self) -> tuple[memoryview, int]:
        """What was added last and where in it the next message begins; nothing if that is kept in pieces."""
        return (_NOTHING, 0) if self._pieces else (self._chunk, self._at)

    def skip(self, size: int) -> None:
        """Take the next message, of `size` bytes, which `look` showed to be whole."""
        self._at += size

    def take(self) -> memoryview | None:
        """The next whole message, read-only, or None if more bytes are needed. Raises `ProtocolError`."""
        chunk, at, pieces = self._chunk, self._at, self._pieces
        if not pieces:
            left = len(chunk) - at
            if left >= 4:
                size = self._checked(_U32.unpack_from(chunk, at)[0])
                if left >= size:
                    self._at = at + size
                    return chunk[at : at + size]
            elif not left:
                return None
        elif self._kept < 4:
            self._gather(4 - self._kept)
        if self._kept >= 4:
            size = self._checked(_U32.unpack_from(pieces[0])[0])
            self._gather(size - self._kept)
            if self._kept < size:
                return None
            self._pieces, self._kept = [], 0
            return memoryview(b"".join(pieces))
        self._gather(len(chunk))
        return None

    def _gather(self, count: int) -> None:
        """Keep up to `count` more bytes of the message: large pieces as they are, small ones together."""
        end = min(self._at + count, len(self._chunk))
        piece, pieces = self._chunk[self._at : end], self._pieces
        if len(piece) >= _LARGE_PIECE:
            pieces.append(piece)
        elif pieces and isinstance(last := pieces[-1], bytearray):
            last += piece
        elif piece:
            pieces.append(bytearray(piece))
        self._kept += len(piece)
        self._at = end

    def _checked(self, size: int) -> int:
        if size < HEADER.size:
            raise bad("frame", f"{size} bytes")
        if size > self.max_size:
            raise ProtocolError(E.MSGSIZE, "frame", f"{size} bytes, at most {self.max_size} were agreed")
        return size
