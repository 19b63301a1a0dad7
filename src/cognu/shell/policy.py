"""policy(5): who may hold what, as text, and how far what is held agrees with it; as capDL does for seL4's systems.

    has KIND NAME ORIGIN RIGHTS      held, with all of these rights
    may KIND NAME ORIGIN RIGHTS      may be held, with these rights at most

A `*` in NAME, and at the end of ORIGIN, stands for anything; elsewhere in ORIGIN for anything within one name, so that
nothing deeper down is allowed by the way. What no line allows is a difference, and so is what a `has` misses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cognu.errors import E, FileError
from cognu.files.nstext import quote, split_commands

KINDS = ("node", "process", "program", "peer", "grant", "domain")
LETTERS = "SGrwxc"
NONE = "-"
"""How no rights at all are written."""
MAX_TEXT = 1 << 20
USAGE = f"has|may {'|'.join(KINDS)} NAME ORIGIN RIGHTS (letters of {LETTERS}, or {NONE})"


class Claim(NamedTuple):
    """What somebody holds: `name` is as `holder_name` has it, `origin` the file of a server down from which it is held,
    `rights` as `LETTERS`.
    """

    kind: str
    name: str
    origin: str
    rights: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} holds {self.rights or 'no rights'} of {self.origin}"


@dataclass(frozen=True)
class Line:
    """One line of a policy; `must` for `has`."""

    number: int
    must: bool
    kind: str
    name: str
    origin: str
    rights: str

    def is_about(self, claim: Claim) -> bool:
        return self.kind == claim.kind and _fits(self.name, claim.name) and _leads(self.origin, claim.origin)

    def __str__(self) -> str:
        words = ("has" if self.must else "may", self.kind, quote(self.name), quote(self.origin), self.rights or NONE)
        return " ".join(words)


class Difference(NamedTuple):
    """`more` is held than is allowed, or less: then `line` is what is missed."""

    more: bool
    line: int
    text: str


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def _leads(pattern: str, origin: str) -> bool:
    within, star, end = pattern.rpartition("*")
    if star and not end:
        return re.fullmatch(_names(within) + ".*", origin, re.DOTALL) is not None
    return re.fullmatch(_names(pattern), origin) is not None


def _names(pattern: str) -> str:
    return "[^/]*".join(map(re.escape, pattern.split("*")))


def parse_policy(data: bytes, path: str) -> list[Line]:
    """Raises USAGE about a line of `path`, ILSEQ, TOOBIG."""
    if len(data) > MAX_TEXT:
        raise FileError(E.TOOBIG, path, f"at most {MAX_TEXT} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise FileError(E.ILSEQ, path) from None
    lines = []
    try:
        for command in split_commands(text):
            match command.words:
                case ["has" | "may" as verb, kind, name, origin, rights] if kind in KINDS and _are_rights(rights):
                    held = "" if rights == NONE else "".join(letter for letter in LETTERS if letter in rights)
                    lines.append(Line(command.line, verb == "has", kind, name, origin, held))
                case _:
                    raise FileError(E.USAGE, f"{path}:{command.line}", USAGE)
    except FileError as error:
        if error.error is not E.SYNTAX:
            raise
        raise FileError(E.USAGE, path, f"{error.subject}: {error.detail}") from None
    return lines


def _are_rights(text: str) -> bool:
    return text == NONE or (bool(text) and not set(text) - set(LETTERS))


def holder_name(holder: dict[str, Any]) -> str:
    """A holder in a row of the node. A program's name, which anybody may choose, with its hash, which nobody can."""
    return f"{holder['name']}@{holder['program']}" if holder["kind"] == "program" else str(holder["name"])


def claims_of(rows: Iterable[dict[str, Any]]) -> list[Claim]:
    """What the rows of the node (see its verb `caps`) say is held, each once; tombstones say nothing."""
    found: set[Claim] = set()
    for row in rows:
        if not row["live"]:
            continue
        # What is held and used nowhere that is known may be used for all of the server.
        origins = {use["origin"] for use in row["uses"]} or {row["server"]}
        for origin in origins:
            above = {origin[:at] for at, letter in enumerate(origin) if letter == "/"}
            if not above & origins:  # who holds a directory holds what is below it
                found.add(Claim(row["holder"]["kind"], holder_name(row["holder"]), origin, row["rights"]))
    return sorted(found)


def policy_of(claims: Iterable[Claim]) -> str:
    """The policy that says just this. The name of the node is its own affair."""
    lines: dict[str, None] = {}
    for kind, name, origin, rights in claims:
        lines[str(Line(0, True, kind, "*" if kind == "node" else name, origin, rights))] = None
    return "".join(f"{line}\n" for line in lines)


def differences(policy: Sequence[Line], claims: Iterable[Claim]) -> list[Difference]:
    """First what is held and not allowed, then what should be held and is not."""
    claims = list(claims)
    found = []
    for claim in claims:
        if not any(line.is_about(claim) and set(claim.rights) <= set(line.rights) for line in policy):
            found.append(Difference(True, 0, str(claim)))
    for line in policy:
        if not line.must:
            continue
        held = [set(claim.rights) for claim in claims if line.is_about(claim)]
        if not any(set(line.rights) <= rights for rights in held):
            found.append(Difference(False, line.number, str(line)))
    return found
