"""9P messages as they go by, for people to read: each request and reply, matched by tag, without the secrets in them.

Nothing here does I/O or asks for the time. A `Tracer` is told what went each way on one connection; it gives rows and
changes nothing. What it holds is bounded: one message each way, and what is under way.

Not shown: the data of authentications (auth(5)), an attach name unless it is plainly a path, and what looks like a
token or ticket of Cognu wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cognu.errors import E, ProtocolError
from cognu.ninep import messages as m
from cognu.ninep.codec import Frames, decode, peek, unpack_dirents
from cognu.ninep.messages import Dialect, Message, WireStat, field_names, is_request
from cognu.ninep.table import TABLE
from cognu.ninep.types import MAX_MSIZE, NOFID, NONUNAME, NOTAG, OACCESS, ORCLOSE, OTRUNC, Qid

USUAL_DATA = 32
WINDOW = 4096
"""Bytes of data that are looked at for secrets before they are shortened."""
MOST_AUTHS = 4096
MOST_NAMES = 16
HIDDEN = "(hidden)"
_TOKENS = re.compile(r"cap:[a-z2-7]+|cognu-[a-z2-7]{4,}|(?<=import )[a-z2-7]{8,}|(?<=\"token\": \")[^\"]*")
_NAMES = {row.number: row.message.__name__ for row in TABLE}
_VERSION = {100, 101}
_SECRET_FIELDS = frozenset({"token", "secret", "key"})
_BRIEF: dict[type[Message], tuple[str, ...]] = {
    m.Rgetattr: ("qid", "mode", "uid", "gid", "nlink", "size", "mtime_sec"),
    m.Rstatfs: ("type", "bsize", "blocks", "bfree"),
}
"""Of the longest messages, the fields that a line has; JSON has all."""
_OCTAL = frozenset({"perm", "flags"})
_MAKES: dict[type[Message], str] = {m.Tattach: "fid", m.Twalk: "newfid", m.Txattrwalk: "newfid"}


class Row(NamedTuple):
    """One message: when it came (ns), from the client or the server, a line for people, and its parts for JSON."""

    time: int
    from_client: bool
    text: str
    parts: dict[str, object]


class _Call(NamedTuple):
    name: str
    begun: int
    turn: int
    fid: int | None
    hidden: bool
    making: int | None


class Tracer:
    """One connection's. `shown` is how many bytes of data are shown at most."""

    def __init__(self, shown: int = USUAL_DATA) -> None:
        self._shown = shown
        self._frames = {True: Frames(MAX_MSIZE), False: Frames(MAX_MSIZE)}
        self._lost: set[bool] = set()  # directions of which no message can be told any more
        self._calls: dict[int, _Call] = {}
        self._auths: dict[int, int] = {}  # fids of authentications, and whose turn it was to make each
        self._blind = False  # more of these than are remembered: no data are shown any more
        self._anames: list[str] = []  # hidden ones, which an error may repeat
        self._turn = 0
        self._dialect = Dialect.LEGACY

    def passed(self, from_client: bool, data: bytes, now: int) -> list[Row]:
        """The messages that are whole now that `data` went by. Never raises."""
        rows: list[Row] = []
        if from_client in self._lost:
            return rows
        try:
            for frame in self._frames[from_client].feed(data):
                rows.append(self._row(from_client, frame, now))
        except ProtocolError as error:
            self._lost.add(from_client)
            reason = f"{error.error.text}: {error.detail or error.subject}"
            text = f"not 9P: {reason}; what follows from there is passed on and not shown"
            rows.append(Row(now, from_client, text, {"malformed": reason}))
        return rows

    def ended(self, from_client: bool, now: int) -> list[Row]:
        """That side said its last: what of a message it left."""
        left = self._frames[from_client].pending
        if not left or from_client in self._lost:
            return []
        self._lost.add(from_client)
        return [Row(now, from_client, f"cut: {left} bytes of a message", {"malformed": "cut", "bytes": left})]

    def _row(self, from_client: bool, frame: memoryview, now: int) -> Row:
        number, tag = peek(frame)
        name = _NAMES.get(number, f"message {number}")
        parts: dict[str, object] = {"type": name, "tag": tag, "size": len(frame)}
        head = f"{name} tag {'none' if tag == NOTAG else tag}"
        try:
            if is_request(number) is not from_client:
                raise ProtocolError(E.BADMESSAGE, "", "from the wrong side")
            message = decode(frame, Dialect.LEGACY if number in _VERSION else self._dialect)[1]
        except ProtocolError as error:
            # What is wrong with a text is not repeated: it may be a secret.
            reason = error.error.text if error.error is E.ILSEQ else f"{error.error.text}: {error.detail}"
            parts["malformed"] = reason
            return Row(now, from_client, f"{head} size {len(frame)} malformed: {reason}", parts)
        self._turn += 1
        call = self._note_request(tag, message, now) if from_client else self._calls.pop(tag, None)
        if not from_client:
            head += self._note_reply(call, message, now, parts)
        told = _told(message, self._shown_of(message, call), self._clean)
        parts |= told.parts
        return Row(now, from_client, f"{head}{told.text}", parts)

    # -- what a connection is in the midst of ---------------------------------------------------------------------

    def _note_request(self, tag: int, message: Message, now: int) -> _Call:
        for request in (message, *_parts(message)):
            if isinstance(request, m.Tauth):
                if len(self._auths) >= MOST_AUTHS:
                    self._blind = True
                else:
                    self._auths[request.afid] = self._turn
            if isinstance(request, m.Tauth | m.Tattach) and not _is_plain(request.aname):
                self._anames = [*self._anames[-15:], request.aname]
        fid = getattr(message, "fid", getattr(message, "afid", None))
        made = _MAKES.get(type(message))
        making = getattr(message, made) if made else None
        call = _Call(type(message).__name__, now, self._turn, fid, self._blind or fid in self._auths, making)
        self._calls[tag] = call
        return call

    def _note_reply(self, call: _Call | None, message: Message, now: int, parts: dict[str, object]) -> str:
        """How a reply's line goes on: with what was asked, and how long that took."""
        if isinstance(message, m.Rversion):
            self._begin_anew(call, message)
        if call is None:
            parts["request"] = None
            return " (nothing was asked under this tag)"
        failed = isinstance(message, m.Rerror | m.Rlerror | m.Rngerror)
        if call.making is not None and not failed and self._auths.get(call.making, call.turn) < call.turn:
            del self._auths[call.making]  # the number stands for a file now
        parts |= {"request": call.name, "ns": now - call.begun}
        of = "" if call.fid is None else f" fid {_number('fid', call.fid)}"
        return f" ({call.name}{of}, {(now - call.begun) / 1e6:.1f} ms)"

    def _begin_anew(self, call: _Call | None, message: m.Rversion) -> None:
        """version(5): what was under way before is no more."""
        known = {dialect.value: dialect for dialect in Dialect}
        self._dialect = known.get(message.version, Dialect.LEGACY)
        turn = self._turn if call is None else call.turn
        self._calls = {tag: other for tag, other in self._calls.items() if other.turn > turn}
        self._auths = {fid: made for fid, made in self._auths.items() if made > turn}

    def _shown_of(self, message: Message, call: _Call | None) -> int | None:
        """How many bytes of its data are shown; None if they are hidden."""
        if call is None or call.hidden or not isinstance(message, m.Twrite | m.Rread | m.Rreaddir):
            return None  # what is not known to be a file's may be anything
        return self._shown

    def _clean(self, text: str) -> str:
        for aname in self._anames:
            if len(aname) > 3:
                text = text.replace(aname, HIDDEN)
        return _TOKENS.sub(HIDDEN, text)


_UNTOLD = (("n_uname", NONUNAME), ("ecode", 0), ("extension", ""))
"""What a line leaves out: a message of plain 9P2000 has no such field."""


class _Told(NamedTuple):
    text: str
    parts: dict[str, object]


def _told(message: Message, shown: int | None, clean: Callable[[str], str]) -> _Told:
    """The fields of a message. `shown` bytes of its data; `clean` takes the secrets out of a text."""
    brief = _BRIEF.get(type(message))
    text, parts = "", dict[str, object]()
    for name in field_names(type(message)):
        value: Any = getattr(message, name)
        if isinstance(value, bytes | bytearray | memoryview):
            words, part = _data(message, value, shown, clean)
        elif name == "aname" or name in _SECRET_FIELDS:
            known = name == "aname" and _is_plain(str(value))
            words, part = (f"{name} {_quoted(clean(value))}", clean(value)) if known else (f"{name} {HIDDEN}", None)
        else:
            opened = name == "mode" and isinstance(message, m.Topen | m.Tcreate)
            shown_value = _mode_words(value) if opened else _words(name, value, clean)
            words, part = f"{name} {shown_value}", _part(value, clean)
        parts[name] = part
        if (brief is None or name in brief) and (name, value) not in _UNTOLD:
            text += f" {words}"
    return _Told(text, parts)


def _parts(message: Message) -> tuple[Message, ...]:
    """The messages in a message, if it is a compound."""
    return message.parts if isinstance(message, m.Tcomp | m.Rcomp) else ()


def _is_plain(aname: str) -> bool:
    """Whether an attach name is a path or a device's, and no token."""
    return not aname or aname[0] in "/#"


def _quoted(text: str) -> str:
    return '"' + "".join(_printable(char) for char in text) + '"'


def _printable(char: str) -> str:
    return f"\\{char}" if char in '"\\' else char if char.isprintable() else ascii(char)[1:-1]


def _number(name: str, value: int) -> str:
    if "fid" in name and value == NOFID:
        return "none"
    return f"0{value:o}" if name in _OCTAL else str(value)


def _words(name: str, value: Any, clean: Callable[[str], str]) -> str:
    """A field that is no data, on a line."""
    if isinstance(value, Qid):
        return f"{value.path:x}.{value.version}.{value.type:02x}"
    if isinstance(value, WireStat):
        user = _quoted(clean(value.uid))
        return f"{_quoted(clean(value.name))} mode 0{value.mode:o} length {value.length} uid {user}"
    if isinstance(value, Message):
        return f"({type(value).__name__}{_told(value, None, clean).text})"  # whose data these are is not looked into
    if isinstance(value, tuple):
        many = "" if len(value) <= MOST_NAMES else f" and {len(value) - MOST_NAMES} more"
        return "[" + " ".join(_words(name, each, clean) for each in value[:MOST_NAMES]) + many + "]"
    if isinstance(value, str):
        return _quoted(clean(value))
    return _number(name, value) if isinstance(value, int) else _quoted(clean(str(value)))


def _part(value: Any, clean: Callable[[str], str]) -> object:
    """A field that is no data, for JSON."""
    if isinstance(value, Qid | WireStat):
        return {name: _part(each, clean) for name, each in value._asdict().items()}
    if isinstance(value, Message):
        return {"type": type(value).__name__, **_told(value, None, clean).parts}
    if isinstance(value, tuple):
        return [_part(each, clean) for each in value]
    return value if isinstance(value, int) else clean(str(value))


def _data(
    message: Message, data: bytes | bytearray | memoryview, shown: int | None, clean: Callable[[str], str]
) -> tuple[str, object]:
    """Data for a line and for JSON: their count, and the beginning, as Python writes bytes, or the names in them."""
    count = len(data)
    if not count:
        return "count 0", {"count": 0}
    if shown is None:
        return f"count {count} {HIDDEN}", {"count": count}
    if shown == 0:
        return f"count {count}", {"count": count}
    if isinstance(message, m.Rreaddir):
        try:
            names = [clean(entry.name) for entry in unpack_dirents(data)]
        except ProtocolError:
            return f"count {count} malformed entries", {"count": count, "malformed": "entries"}
        more = "" if len(names) <= MOST_NAMES else f" and {len(names) - MOST_NAMES} more"
        return f"count {count} [{' '.join(map(_quoted, names[:MOST_NAMES]))}{more}]", {"count": count, "names": names}
    begin = clean(bytes(data[:WINDOW]).decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    cut = repr(begin[:shown])
    return f"count {count} {cut}{'…' if len(begin) > shown else ''}", {"count": count, "bytes": cut}


def _mode_words(mode: int) -> str:
    """Topen's and Tcreate's mode, open(5)."""
    words = ["read", "write", "read-write", "execute"][mode & OACCESS : (mode & OACCESS) + 1]
    words += ["truncate"] * bool(mode & OTRUNC) + ["remove-on-close"] * bool(mode & ORCLOSE)
    rest = mode & ~(OACCESS | OTRUNC | ORCLOSE)
    return "|".join([*words, *([f"{rest:#x}"] if rest else [])])
