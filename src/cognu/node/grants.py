"""What one machine lets another do: grants as text, and what each puts in the tree that the other one sees.

read:PATH     the file or tree at PATH, read-only
write:PATH    the same, and change it
net           this machine's network, as /net: to dial out, not to announce
run           run programs here, in /proc, as processes that see what the peer brings along
net:listen    the same, and take calls there, at ports from 1024 up
net:listen=PORTS
              the same, at one port or FIRST-LAST
cmd:NAME      start the command of the host that settings(5) has by that name, in /cmd/NAME

A path with a blank in it is in quotes (`files/granttext.py`). Before the colon of the first two there may be patterns
(`files/shown.py`) of what of the tree is shown:
`read+hide=*.key+show=/docs:/home/me`. In these `%` and two hexadecimal digits stand for a byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cognu.devices.announcing import parse_listen
from cognu.errors import E, FileError, visible
from cognu.files.granttext import path_of, word_of
from cognu.files.namespace import split_path
from cognu.files.shown import NOTHING, Filter, Pattern, parse_filter, parse_pattern
from cognu.files.wants import is_within
from cognu.kernel import CREATE, EXECUTE, GRANT, READ, WRITE
from cognu.node.hosting import NAME

NET, RUN = "net", "run"
CMD = "cmd:"
LISTEN = "net:listen"
USAGE = "read:PATH, write:PATH, net, net:listen[=PORTS], run, cmd:NAME"
APART = "a path with a comma in it goes in quotes here, as in \"read:'/a,b'\""
_KIND = re.compile(r"(net|run)\Z|(net|cmd|read|write)[:+]")
LONGEST = 200
"""Bytes of a grant's text, as the peer book has it and the other machine is told."""
_APART = frozenset("%+:,'\\\"")
"""Of patterns, besides blanks and what can't be printed: what does not stand for itself."""
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_READ_ONLY = READ | EXECUTE | GRANT


@dataclass(frozen=True)
class PeerGrant:
    """`text` is the grant's one form; `source` is a path of this node's, `place` where the peer sees it."""

    text: str
    source: str
    place: str
    rights: int
    shown: Filter = NOTHING

    @property
    def creates(self) -> bool:
        return bool(self.rights & CREATE)


def parse_grant(text: str) -> PeerGrant:
    """One grant. Raises USAGE with what there is, SYNTAX for an open quote, ILSEQ."""
    if text == NET:
        return PeerGrant(text, "#i", "/net", _READ_ONLY | WRITE | CREATE)
    if text.startswith(LISTEN) and parse_listen(text.removeprefix("net:")) is not None:
        return PeerGrant(text, f"#i{text.removeprefix('net:')}", "/net", _READ_ONLY | WRITE | CREATE)
    if text == RUN:
        return PeerGrant(text, "#q", "/proc", _READ_ONLY | WRITE)
    if text.startswith(CMD) and NAME.fullmatch(name := text.removeprefix(CMD)):
        return PeerGrant(text, f"#C/{name}", f"/cmd/{name}", _READ_ONLY | WRITE)
    head, colon, word = text.partition(":")
    kind, *patterns = head.split("+")
    if kind in ("read", "write") and colon:
        path = path_of(word)
        begin, names = split_path(path) if path else ("", [])
        if begin == "/" and ".." not in names:
            clean = "/" + "/".join(names)
            rights = _READ_ONLY if kind == "read" else _READ_ONLY | WRITE | CREATE
            shown = _parse_patterns(text, patterns)
            whole = grant_of(kind, clean, *map(_texts, shown))
            if not _fits(whole):
                raise FileError(E.USAGE, whole[:40], f"a grant, its path and patterns, has at most {LONGEST} bytes")
            return PeerGrant(whole, clean, clean, rights, shown)
    raise FileError(E.USAGE, text or "grant", USAGE)


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= LONGEST
    except UnicodeEncodeError:
        raise FileError(E.ILSEQ, ascii(text)) from None


def grant_of(kind: str, path: str, hide: Iterable[str] = (), show: Iterable[str] = ()) -> str:
    """The text of a grant of `kind` (read, write), with patterns. Raises USAGE for what is none of those."""
    words = [
        f"+{name}={_escaped(each)}"
        for name, texts in (("hide", hide), ("show", show))
        for each in sorted({parse_pattern(text).text() for text in texts})
    ]
    return f"{kind}{''.join(words)}:{word_of(path)}"


def _parse_patterns(text: str, words: Sequence[str]) -> Filter:
    found: dict[str, list[str]] = {"hide": [], "show": []}
    for word in words:
        name, equals, pattern = word.partition("=")
        if name not in found or not equals:
            raise FileError(E.USAGE, text, "patterns are as in read+hide=*.key+show=/docs:PATH")
        try:
            raw = _ESCAPED.sub(lambda each: bytes([int(each[1], 16)]), pattern.encode("utf-8", "surrogatepass"))
            found[name].append(raw.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise FileError(E.USAGE, text, "what is behind a % is no character") from None
    return parse_filter(found["hide"], found["show"])


def _escaped(pattern: str) -> str:
    plain = (char if char.isprintable() and char not in _APART and char != " " else None for char in pattern)
    return "".join(
        kept or "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
        for kept, char in zip(plain, pattern, strict=True)
    )


def _texts(patterns: Iterable[Pattern]) -> list[str]:
    return [pattern.text() for pattern in patterns]


def widenings(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Of one peer's grants: each of a tree below that of another with patterns, and that one.

    There the peer has what either shows: for the tree below the patterns of the other do not count.
    """
    grants = [parse_grant(text) for text in texts]
    return [
        (inner.text, outer.text)
        for inner in grants
        for outer in grants
        if outer.shown != NOTHING and inner.place != outer.place and is_within(inner.place, outer.place)
    ]


def contradiction(grant: PeerGrant, held: PeerGrant) -> str:
    """Why two grants of one peer can't be both: one would show what patterns of the other hide. Empty if they can.

    A tree below one with patterns may be granted too, if that shows the place.
    """
    outer, inner = (grant, held) if len(grant.place) <= len(held.place) else (held, grant)
    if grant.text == held.text or not is_within(inner.place, outer.place):
        return ""
    if grant.text.partition(":")[0] == held.text.partition(":")[0] == NET:
        return f"{held.text} is in force, which has the same place"
    if inner.shown != NOTHING or (inner.place == outer.place and outer.shown != NOTHING):
        return f"{held.text} is in force, which shows another part of the same tree"
    names = inner.place.strip("/").split("/")[len([each for each in outer.place.split("/") if each]) :]
    return "" if outer.shown.allows(names, True) else f"{outer.text} hides it"


def parse_grants(texts: Iterable[str]) -> tuple[str, ...]:
    """Each in its one form, without repeats, of what was a list once. Raises as `parse_grant`."""
    found: dict[str, None] = {}
    before = ""
    for part in texts:
        if before.startswith(("read", "write")) and not _KIND.match(part):
            raise FileError(E.USAGE, f"{before},{part}", f"{part} is no grant ({USAGE}), and {APART}")
        found[parse_grant(part).text] = None
        before = part
    return tuple(found)


def describe_grant(text: str, peer: str = "") -> str:
    """What a person reads before agreeing to it; `peer` is whose grant it is, if not this machine's."""
    grant = parse_grant(text)
    whose, where = (f"{peer}'s", f" on {peer}") if peer else ("this machine's", "")
    if text in (NET, RUN):
        return {NET: f"use {whose} network (/net)", RUN: f"run programs{where or ' here'}"}[text]
    if text.startswith(LISTEN):
        ports = text.partition("=")[2] or "from 1024 up"
        return f"use {whose} network (/net), and take calls there at ports {ports}"
    if text.startswith(CMD):
        return f"run {whose} command {text.removeprefix(CMD)} (/{text.replace(':', '/')})"
    but = [f"without {text}" for text in _texts(grant.shown.hide)]
    but += [f"of it {text}" for text in _texts(grant.shown.show)]
    patterns = f" ({', '.join(but)})" if but else ""
    return visible(f"{'read and change' if grant.creates else 'read'} {word_of(grant.source)}{where}{patterns}")


def describe_received(texts: Iterable[str], peer: str) -> list[str]:
    """What another machine says that it grants; its words are kept, whether they mean something here or not."""
    found = []
    for text in texts:
        try:
            found.append(describe_grant(text, peer))
        except FileError:
            found.append(visible(f"use what {peer} calls {text}"))
    return found
