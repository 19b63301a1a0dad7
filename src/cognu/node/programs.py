"""What programs may use beyond their streams and arguments, and what they are not to be asked for: grants(5).

A program is known by the hash of its bytes, so another one of the same name has none of its grants. The node keeps
them in HOME/grants; the same text can be given to one run by `run --grants FILE`.

    program HASH [NAME]
    allow PATH RIGHTS | net
    never PATH RIGHTS | net

Lines before the first `program` are for any program, which only a file that is given to a run may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from posixpath import normpath

from cognu.errors import E, FileError
from cognu.files.launch import Grant
from cognu.files.nstext import Command, quote, split_commands
from cognu.files.wants import NETWORK, NETWORK_RIGHTS, is_within
from cognu.store.names import check_name
from cognu.world import Disk

ANY = ""
"""Stands for the hash where any program is meant."""
NET = "net"
MAX_TEXT = 1 << 20
"""Bytes of a file of grants."""
MAX_GRANTS = 1024
"""Of one program, allowed and not."""
MAX_PATH = 4096
MAX_NAME = 255
LETTERS = "rwx"
USAGE = "PATH[:rwx], net"
_LINES = "program HASH [NAME]; allow PATH RIGHTS; allow net; never PATH RIGHTS; never net"


@dataclass(frozen=True)
class ProgramGrants:
    """`name` is for people: what the program was called when it was last spoken of."""

    program: str
    name: str = ""
    allow: tuple[Grant, ...] = ()
    never: tuple[Grant, ...] = ()


# -- one grant --------------------------------------------------------------------------------------------------------


def make_grant(path: str, rights: str) -> Grant:
    """In its one form. Raises USAGE for a path that is not absolute, no file's name or too long, or for odd rights."""
    if not _is_path(path):
        raise FileError(E.USAGE, path[:80] or "''", "an absolute path")
    if not rights or set(rights) - set(LETTERS):
        raise FileError(E.USAGE, rights or "''", f"letters out of {LETTERS}")
    clean = "/" + normpath(path).lstrip("/")
    return Grant(clean, "".join(letter for letter in LETTERS if letter in rights))


def _is_path(text: str) -> bool:
    try:
        return text.startswith("/") and "\0" not in text and len(text.encode()) <= MAX_PATH
    except UnicodeEncodeError:
        return False


def parse_grant_text(text: str) -> Grant:
    """`PATH`, `PATH:RIGHTS` (read if none are named) or `net`, as typed. Raises USAGE."""
    if text == NET:
        return Grant(NETWORK, NETWORK_RIGHTS)
    path, colon, rights = text.rpartition(":")
    if not colon or not rights or set(rights) - set(LETTERS):
        path, rights = text, "r"
    return make_grant(path, rights)


def grant_text(grant: Grant) -> str:
    """As it is typed."""
    return NET if grant == Grant(NETWORK, NETWORK_RIGHTS) else f"{grant.path}:{grant.rights}"


def _words(grant: Grant) -> str:
    return NET if grant == Grant(NETWORK, NETWORK_RIGHTS) else f"{quote(grant.path)} {grant.rights}"


def conflict(allow: Iterable[Grant], never: Iterable[Grant]) -> tuple[Grant, Grant] | None:
    """What is allowed and covers what is never to be had: both can't hold."""
    denied = list(never)
    for granted in allow:
        for refused in denied:
            if is_within(refused.path, granted.path) and set(refused.rights) & set(granted.rights):
                return granted, refused
    return None


def joined(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """One for each path, with all that was granted of it, by path."""
    rights: dict[str, set[str]] = {}
    for grant in grants:
        rights.setdefault(grant.path, set()).update(grant.rights)
    return tuple(make_grant(path, "".join(rights[path])) for path in sorted(rights))


# -- the text ---------------------------------------------------------------------------------------------------------


def parse_grants_text(data: bytes, path: str, general: bool = False) -> dict[str, ProgramGrants]:
    """By program's hash. `general`: lines for any program may come first. Raises USAGE about a line of `path`."""
    if len(data) > MAX_TEXT:
        raise FileError(E.TOOBIG, path, f"at most {MAX_TEXT} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise FileError(E.ILSEQ, path) from None
    found: dict[str, ProgramGrants] = {}
    at = ANY
    try:
        for command in split_commands(text):
            at = _line(found, at, command, path, general)
    except FileError as error:
        if error.error is not E.SYNTAX:
            raise
        raise FileError(E.USAGE, path, f"{error.subject}: {error.detail}") from None
    return found


def _line(found: dict[str, ProgramGrants], at: str, command: Command, path: str, general: bool) -> str:
    """Take one line; the program that the next one is about."""
    where = f"{path}:{command.line}"
    match command.words:
        case ["program", program, *name] if len(name) < 2:
            if not _is_hash(program) or program in found or not all(map(_is_name, name)):
                raise FileError(E.USAGE, where, "each program once, by its whole hash")
            found[program] = ProgramGrants(program, name[0] if name else "")
            return program
        case ["allow" | "never" as kind, *words] if len(words) in (1, 2):
            if at == ANY and not general:
                raise FileError(E.USAGE, where, "after a line `program`")
            if len(words) == 1 and words != [NET]:
                raise FileError(E.USAGE, where, _LINES)
            try:
                grant = parse_grant_text(NET) if len(words) == 1 else make_grant(*words)
            except FileError as error:
                raise FileError(error.error, where, f"{error.subject}: {error.detail}") from None
            row = found.get(at, ProgramGrants(at))
            try:
                found[at] = with_grants(row, allow=[grant]) if kind == "allow" else with_grants(row, never=[grant])
            except FileError as error:
                raise FileError(E.USAGE, where, str(error)) from None
            return at
    raise FileError(E.USAGE, where, _LINES)


def with_grants(row: ProgramGrants, allow: Iterable[Grant] = (), never: Iterable[Grant] = ()) -> ProgramGrants:
    """The row with more in it. Raises CONFLICT if what is allowed would cover what is never to be had, TOOBIG."""
    more = replace(row, allow=joined([*row.allow, *allow]), never=joined([*row.never, *never]))
    clash = conflict(more.allow, more.never)
    if clash is not None:
        raise FileError(E.CONFLICT, f"allow {grant_text(clash[0])}", f"never {grant_text(clash[1])}")
    if len(more.allow) + len(more.never) > MAX_GRANTS:
        raise FileError(E.TOOBIG, row.name or row.program, f"at most {MAX_GRANTS} grants")
    return more


def less(grants: Iterable[Grant], gone: Iterable[Grant]) -> tuple[Grant, ...]:
    """What is left of `grants` without the letters of `gone` at the very same paths."""
    letters: dict[str, set[str]] = {}
    for grant in gone:
        letters.setdefault(grant.path, set()).update(grant.rights)
    left = [
        Grant(grant.path, "".join(letter for letter in grant.rights if letter not in letters.get(grant.path, ())))
        for grant in grants
    ]
    return tuple(grant for grant in left if grant.rights)


def format_grants(rows: Iterable[ProgramGrants]) -> bytes:
    lines = []
    for row in rows:
        lines.append(f"program {row.program}" + (f" {quote(row.name)}" if row.name else ""))
        lines += [f"allow {_words(grant)}" for grant in row.allow]
        lines += [f"never {_words(grant)}" for grant in row.never]
    return "".join(f"{line}\n" for line in lines).encode()


def _is_hash(text: str) -> bool:
    try:
        return check_name(text) == text
    except FileError:
        return False


def _is_name(text: str) -> bool:
    return 0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_NAME and text.isprintable()


def plain_name(word: str) -> str:
    """What a program is called, out of the word it was started by; empty if that is no fit name."""
    name = word.rstrip("/").rpartition("/")[2]
    return name if _is_name(name) and not _is_hash(name) else ""


# -- the node's own ---------------------------------------------------------------------------------------------------


class ProgramBook:
    """HOME/grants, mode 0600. Every change is on the disk when the call returns, or nothing has changed."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Raises DAMAGED for a file that is none."""
        self._disk = disk
        self._path = path
        self._rows: Mapping[str, ProgramGrants] = {}
        if disk.exists(path):
            try:
                self._rows = parse_grants_text(disk.read(path), path)
            except FileError as error:
                raise FileError(E.DAMAGED, path, f"{error.subject}: {error.detail}") from None

    def all(self) -> list[ProgramGrants]:
        """By name, then by hash."""
        return sorted(self._rows.values(), key=lambda row: (row.name, row.program))

    def get(self, program: str) -> ProgramGrants:
        return self._rows.get(program) or ProgramGrants(program)

    def called(self, program: str) -> str:
        """The name by which it can be told from others here, else its hash."""
        name = self.get(program).name
        return name if name and [row.name for row in self._rows.values()].count(name) == 1 else program

    def add(
        self, program: str, name: str = "", allow: Iterable[Grant] = (), never: Iterable[Grant] = ()
    ) -> ProgramGrants:
        """Keep more of a program, by its whole hash. Of the very same paths the last word counts, letter by letter.

        Raises CONFLICT, TOOBIG, INVAL.
        """
        check_name(program)
        allow, never = list(allow), list(never)
        known = self.get(program)
        kept = replace(
            known,
            name=plain_name(name) or known.name,
            allow=less(known.allow, never),
            never=less(known.never, allow),
        )
        row = with_grants(kept, allow, never)
        self._store({**self._rows, program: row})
        return row

    def remove(self, program: str, grant: Grant | None = None) -> ProgramGrants:
        """Forget these letters of what was allowed or never to be had of a path, or (None) all of a program.

        Returns what is left of it.

        Raises NOGRANT.
        """
        known = self.get(program)
        had = (*known.allow, *known.never)
        gone = had if grant is None else [grant]
        row = replace(known, allow=less(known.allow, gone), never=less(known.never, gone))
        if row == known:
            raise FileError(E.NOGRANT, known.name or program if grant is None else grant_text(grant))
        rows = {key: other for key, other in self._rows.items() if key != program}
        self._store({**rows, program: row} if row.allow or row.never else rows)
        return row

    def _store(self, rows: Mapping[str, ProgramGrants]) -> None:
        data = format_grants(rows.values())
        if len(data) > MAX_TEXT:
            raise FileError(E.TOOBIG, self._path, f"at most {MAX_TEXT} bytes")
        self._disk.write(self._path, data)
        self._rows = rows
