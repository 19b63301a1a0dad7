"""What one machine lets another do: grants as text, and what each puts in the tree that the other one sees.

read:PATH     the file or tree at PATH, read-only
write:PATH    the same, and change it
net           this machine's network, as /net: to dial out, not to announce
run           run programs here, in /proc, as processes that see what the peer brings along
"""

from __future__ import annotations

from dataclasses import dataclass

from cognu.errors import E, FileError
from cognu.files.namespace import split_path
from cognu.kernel import CREATE, EXECUTE, GRANT, READ, WRITE

NET, RUN = "net", "run"
USAGE = "read:PATH, write:PATH, net, run"
_READ_ONLY = READ | EXECUTE | GRANT


@dataclass(frozen=True)
class PeerGrant:
    """`text` is the grant's one form; `source` is a path of this node's, `place` where the peer sees it."""

    text: str
    source: str
    place: str
    rights: int

    @property
    def creates(self) -> bool:
        return bool(self.rights & CREATE)


def parse_grant(text: str) -> PeerGrant:
    """One grant. Raises USAGE with what there is."""
    if text == NET:
        return PeerGrant(text, "#i", "/net", _READ_ONLY | WRITE | CREATE)
    if text == RUN:
        return PeerGrant(text, "#q", "/proc", _READ_ONLY | WRITE)
    kind, colon, path = text.partition(":")
    if kind in ("read", "write") and colon:
        begin, names = split_path(path) if path else ("", [])
        if begin == "/" and ".." not in names and " " not in path:
            clean = "/" + "/".join(names)
            rights = _READ_ONLY if kind == "read" else _READ_ONLY | WRITE | CREATE
            return PeerGrant(f"{kind}:{clean}", clean, clean, rights)
    raise FileError(E.USAGE, text or "grant", USAGE)


def parse_grants(text: str) -> tuple[str, ...]:
    """A comma-separated list in its one form, without repeats. Raises USAGE."""
    found = [parse_grant(part.strip()).text for part in text.split(",") if part.strip()]
    return tuple(dict.fromkeys(found))


def describe_grant(text: str, peer: str = "") -> str:
    """What a person reads before agreeing to it; `peer` is whose grant it is, if not this machine's."""
    grant = parse_grant(text)
    whose, where = (f"{peer}'s", f" on {peer}") if peer else ("this machine's", "")
    if text in (NET, RUN):
        return {NET: f"use {whose} network (/net)", RUN: f"run programs{where or ' here'}"}[text]
    return f"{'read and change' if grant.creates else 'read'} {grant.source}{where}"
