"""What a server's reply may say, what it does to the client's fids, and how an error is said in each dialect.

Sources: Plan 9 manual section 5, above all walk(5) and error(5).
"""

from __future__ import annotations

from ..errors import CognuError, E, FileError, Misuse
from . import messages as m
from .codec import encode
from .fids import FidTable
from .messages import Dialect, Message, Request
from .moves import MAKES_FID, FidState
from .types import Buffer, Qid

ERRMAX = 128  # Plan 9 clients cut longer error texts, terminator included
# Requests whose replies can say too much or too little.
_CHECKED = MAKES_FID | {m.Tread, m.Treaddir, m.Tlist, m.Tevent, m.Twrite, m.Tmint}
_OPENS = (m.Topen, m.Tlopen, m.Tcreate, m.Tlcreate)


def check_reply(request: Request, reply: Message, made: object) -> None:
    """Raises `Misuse` for a reply that says more than was asked, or one without what the new fid stands for."""
    if made is None and type(request) not in _CHECKED:
        return
    needed = False
    allowed = isinstance(request, (*_OPENS, m.Txattrcreate))
    wrong = False
    match request, reply:
        case m.Tattach() | m.Tauth() | m.Txattrwalk() | m.Tattenuate(), _:
            needed = True
        case m.Twalk(), m.Rwalk():
            got, asked = len(reply.qids), len(request.names)
            wrong = got > asked or (asked > 0 and got == 0)
            needed = got == asked and (asked > 0 or request.newfid != request.fid)
        case (m.Tread() | m.Treaddir() | m.Tlist() | m.Tevent(), m.Rread() | m.Rreaddir() | m.Rlist() | m.Revent()):
            wrong = len(reply.data) > request.count
        case m.Twrite(), m.Rwrite():
            wrong = reply.count > len(request.data)
        case m.Tmint(), m.Rmint():
            wrong = reply.seconds > request.seconds
        case _:
            pass
    if wrong or (needed and made is None) or (made is not None and not needed and not allowed):
        raise Misuse(E.BADMESSAGE, type(reply).__name__, f"to {type(request).__name__}")


def commit(fids: FidTable, request: Request, reply: Message, made: object) -> object:
    """Change the fids as the reply says. The call holds them alone, so nothing else sees the change half done.

    Gives what `made` took the place of, which no fid stands for any more; None if there is no such thing.
    """
    match request, reply:
        case m.Tattach(fid=fid), m.Rattach(qid=qid):
            fids.bind(fid, unopened_state(qid), made)
        case m.Tauth(afid=fid), _:
            fids.bind(fid, FidState.AUTH, made)
        case m.Twalk(), m.Rwalk(qids=qids):
            return _commit_walk(fids, request, qids, made)
        case m.Txattrwalk(newfid=fid), _:
            fids.bind(fid, FidState.XATTR, made)
        case m.Tattenuate(newfid=fid), m.Rattenuate(qid=qid):
            fids.bind(fid, unopened_state(qid), made)
        case m.Txattrcreate(fid=fid), _:
            return _rebind(fids, fid, FidState.XATTR, made)
        case m.Topen(fid=fid) | m.Tlopen(fid=fid), m.Ropen(qid=qid) | m.Rlopen(qid=qid):
            return _rebind(fids, fid, opened_state(qid), made)
        case m.Tcreate(fid=fid) | m.Tlcreate(fid=fid), m.Rcreate(qid=qid) | m.Rlcreate(qid=qid):
            return _rebind(fids, fid, opened_state(qid), made)
        case m.Tclunk(fid=fid) | m.Tremove(fid=fid), _:
            fids.bind(fid, FidState.FREE, None)
        case _:
            raise AssertionError(request)
    return None


def _commit_walk(fids: FidTable, request: m.Twalk, qids: tuple[Qid, ...], made: object) -> object:
    if len(qids) < len(request.names) or made is None:
        return None
    if qids:
        state = unopened_state(qids[-1])
    else:
        source = fids.state(request.fid)
        state = FidState.DIR if source in (FidState.DIR, FidState.OPENDIR) else FidState.FILE
    old = fids.bind(request.newfid, state, made)
    return old if request.newfid == request.fid and old is not made else None


def _rebind(fids: FidTable, fid: int, state: FidState, made: object) -> object:
    old = fids.target(fid)
    fids.bind(fid, state, old if made is None else made)
    return old if made is not None and made is not old else None


def unopened_state(qid: Qid) -> FidState:
    return FidState.DIR if qid.is_dir else FidState.FILE


def opened_state(qid: Qid) -> FidState:
    return FidState.OPENDIR if qid.is_dir else FidState.OPEN


def error_reply(error: CognuError, tag: int, dialect: Dialect | None, room: int) -> list[Buffer]:
    """Errno on 9P2000.L, text on 9P2000 and while none was agreed on, both on 9P2000.u; on `.ng` all there is of it.

    `room` is the most bytes that the message may have; a text that does not fit is cut, or is the error's own alone.
    """
    if dialect is Dialect.NG:
        return encode(_ng_error(error, room), tag, Dialect.NG)
    if dialect is Dialect.L:
        return encode(m.Rlerror(error.errno), tag, Dialect.L)
    spoken = dialect or Dialect.LEGACY
    try:
        # Linux's client of plain 9P2000 has only texts, and knows them whole (net/9p/error.c).
        text = str(error if dialect is Dialect.U else FileError(error.error, "", error.detail))
        if len(text.encode()) < ERRMAX:
            return encode(m.Rerror(text, error.errno), tag, spoken)
    except (UnicodeEncodeError, Misuse):
        pass  # the subject is no legal text; the row's own always is
    return encode(m.Rerror(error.error.text, error.errno), tag, spoken)


def _ng_error(error: CognuError, msize: int) -> m.Rngerror:
    """The whole error, its texts cut to what a message holds."""
    room = (msize - 64) // 2
    subject, detail = (_cut(text, room) for text in (error.subject, error.detail))
    return m.Rngerror(error.errno, error.error.name, subject, detail)


def _cut(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8, and nothing in it that 9P can't carry."""
    raw = text.replace("\0", "?").encode("utf-8", "replace")[: min(size, 4096)]
    return raw.decode("utf-8", "ignore")
