"""The legal moves of a 9P session: which message may name a fid in which state. One table, `MOVES`.

Source: Plan 9 manual section 5 (attach, walk, open, read, clunk, remove), diod's protocol.md.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ..errors import E
from . import messages as m
from .messages import OLD_STYLE, Dialect, Request
from .types import MAXWELEM, NOFID


class FidState(Enum):
    """What a fid stands for, as far as the protocol cares."""

    __hash__ = object.__hash__  # as in Dialect

    FREE = "free"  # names nothing
    FILE = "file"  # walked to, not open, not a directory
    DIR = "directory"  # the same for a directory
    OPEN = "open file"
    OPENDIR = "open directory"
    AUTH = "authentication"
    XATTR = "attribute"  # an extended attribute, being read or written


class Use(NamedTuple):
    """That a message names a fid in `field`, which must be in one of `states`.

    `exclusive`: the message changes what the fid stands for, so it waits for all that names the fid before it,
    and what comes after waits for it. `optional`: NOFID is legal and names nothing.
    """

    field: str
    states: frozenset[FidState]
    exclusive: bool = False
    optional: bool = False


_FREE = frozenset({FidState.FREE})
_UNOPENED = frozenset({FidState.FILE, FidState.DIR})
_OPEN = frozenset({FidState.OPEN, FidState.OPENDIR})
_DIRS = frozenset({FidState.DIR, FidState.OPENDIR})
_FILES = _UNOPENED | _OPEN
_WRITABLE = frozenset({FidState.OPEN, FidState.AUTH, FidState.XATTR})
_ANY = frozenset(FidState) - _FREE

_FID = (Use("fid", _FILES),)
_OPENED = (Use("fid", _OPEN),)
_TO_OPEN = (Use("fid", _UNOPENED, exclusive=True),)
_TO_CREATE = (Use("fid", frozenset({FidState.DIR}), exclusive=True),)
_END = (Use("fid", _ANY, exclusive=True),)

MOVES: dict[type[Request], tuple[Use, ...]] = {
    m.Tversion: (),
    m.Tflush: (),
    m.Tauth: (Use("afid", _FREE, exclusive=True),),
    m.Tattach: (
        Use("fid", _FREE, exclusive=True),
        Use("afid", frozenset({FidState.AUTH}), optional=True),
    ),
    m.Twalk: (Use("fid", _FILES), Use("newfid", _FREE, exclusive=True)),
    m.Topen: _TO_OPEN,
    m.Tcreate: _TO_CREATE,
    m.Tread: (Use("fid", _WRITABLE | _OPEN),),
    m.Twrite: (Use("fid", _WRITABLE),),
    m.Tclunk: _END,
    m.Tremove: _END,
    m.Tstat: _FID,
    m.Twstat: _FID,
    m.Tstatfs: _FID,
    m.Tlopen: _TO_OPEN,
    m.Tlcreate: _TO_CREATE,
    m.Tsymlink: (Use("fid", _DIRS),),
    m.Tmknod: (Use("dfid", _DIRS),),
    m.Trename: (Use("fid", _FILES), Use("dfid", _DIRS)),
    m.Treadlink: (Use("fid", frozenset({FidState.FILE, FidState.OPEN})),),
    m.Tgetattr: _FID,
    m.Tsetattr: _FID,
    m.Txattrwalk: (Use("fid", _FILES), Use("newfid", _FREE, exclusive=True)),
    m.Txattrcreate: (Use("fid", _UNOPENED, exclusive=True),),
    m.Treaddir: (Use("fid", frozenset({FidState.OPENDIR})),),
    m.Tfsync: _OPENED,
    m.Tlock: _OPENED,
    m.Tgetlock: _OPENED,
    m.Tlink: (Use("fid", _FILES), Use("dfid", _DIRS)),
    m.Tmkdir: (Use("dfid", _DIRS),),
    m.Trenameat: (Use("olddirfid", _DIRS), Use("newdirfid", _DIRS)),
    m.Tunlinkat: (Use("dirfid", _DIRS),),
    m.Tcaps: (),
    m.Tcomp: (),
    m.Tlist: (Use("fid", frozenset({FidState.OPENDIR})),),
    m.Tattenuate: (Use("fid", _FILES), Use("newfid", _FREE, exclusive=True)),
    m.Tmint: _FID,
    m.Twatch: _FID,
    m.Tevent: (),
}

# Walks with names start at an unopened directory; with none they clone, open fids too.
_WALK_ON = (Use("fid", frozenset({FidState.DIR})), Use("newfid", _FREE, exclusive=True))
_WALK_IN_PLACE = (Use("fid", frozenset({FidState.DIR}), exclusive=True),)
_CLONE_ON_ITSELF = (Use("fid", _FILES),)
# 9P2000.L reads directories with Treaddir alone.
_READ_L = (Use("fid", _WRITABLE),)

# Messages that make a new fid, but for a Twalk onto its own.
MAKES_FID: frozenset[type[Request]] = frozenset(
    kind for kind, moves in MOVES.items() if any(FidState.FREE in use.states for use in moves)
)

# The field that holds a name to be made or changed: "." and ".." can't be.
NEW_NAMES: dict[type[Request], str] = {
    m.Tcreate: "name",
    m.Tlcreate: "name",
    m.Tsymlink: "name",
    m.Tmknod: "name",
    m.Tmkdir: "name",
    m.Tlink: "name",
    m.Trename: "name",
    m.Trenameat: "newname",
}
_OLD_NAMES: dict[type[Request], str] = {m.Tunlinkat: "name", m.Trenameat: "oldname"}
_NAMED: frozenset[type[Request]] = frozenset({m.Twalk, m.Twstat, *NEW_NAMES, *_OLD_NAMES})


def uses(message: Request, dialect: Dialect) -> tuple[Use, ...]:
    """The fids that a message names and the states that they must be in."""
    if type(message) is m.Twalk:
        if message.fid == message.newfid:
            return _WALK_IN_PLACE if message.names else _CLONE_ON_ITSELF
        return _WALK_ON if message.names else MOVES[m.Twalk]
    if type(message) is m.Tread and dialect not in OLD_STYLE:
        return _READ_L
    return MOVES[type(message)]


def refusal(use: Use, state: FidState, fid: int) -> E | None:
    """Why a fid in `state` can't be used so, or None if it can."""
    if fid == NOFID:
        return None if use.optional else E.BADF
    if state in use.states:
        return None
    if state is FidState.FREE:
        return E.BADF
    if FidState.FREE in use.states:
        return E.DUPFID
    if use.states <= _DIRS and state in (FidState.FILE, FidState.OPEN):
        return E.NOTDIR
    if state is FidState.OPENDIR and FidState.OPEN in use.states:
        return E.ISDIR
    return E.BADUSE


def bad_name(message: Request) -> E | None:
    """What is wrong with the names in a message as such, or None. Whether they exist is for the server to say."""
    kind = type(message)
    if kind not in _NAMED:
        return None
    if isinstance(message, m.Twalk):
        if len(message.names) > MAXWELEM:
            return E.BADMESSAGE
        return next((error for name in message.names if (error := _bad_element(name))), None)
    if isinstance(message, m.Twstat):
        return _bad_element(message.stat.name) if message.stat.name else None
    new = NEW_NAMES.get(kind)
    if new is not None:
        name: str = getattr(message, new)
        if name in (".", ".."):
            return E.INVAL
        if error := _bad_element(name):
            return error
    old = _OLD_NAMES.get(kind)
    return _bad_element(getattr(message, old)) if old is not None else None


def _bad_element(name: str) -> E | None:
    if not name or "/" in name:
        return E.ILSEQ
    return E.NAMETOOLONG if len(name.encode()) > 255 else None
