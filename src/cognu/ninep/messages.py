"""Every message of 9P2000, 9P2000.u and 9P2000.L, and the one table that says how each lies on the wire.

Sources: Plan 9 manual section 5; diod's protocol.md and Linux's net/9p/client.c for 9P2000.L; the draft RFC on Unix
extensions to 9P2000 (ericvh, 2005) and the same client.c for 9P2000.u. A field means what its manual page says. Data
fields are buffers of bytes; those decoded are views into what was received, never copies, so whoever keeps one keeps
the buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from .additions import Feature as Feature
from .additions import Rcaps as Rcaps
from .additions import Rcomp as Rcomp
from .additions import Rlist as Rlist
from .additions import Tcaps as Tcaps
from .additions import Tcomp as Tcomp
from .additions import Tlist as Tlist
from .types import NONUNAME, Buffer, Qid


class Dialect(Enum):
    """A version string that both sides can agree on."""

    __hash__ = object.__hash__  # Enum's own hashes the name anew each time, and every message asks

    LEGACY = "9P2000"
    U = "9P2000.u"
    L = "9P2000.L"
    NG = "9P2000.ng"


class WireStat(NamedTuple):
    """9P2000's stat as it lies on the wire: times in seconds, owner as names. stat(5).

    The fields with defaults are 9P2000.u's: a link's target or a device's number as text, and owners as numbers.
    """

    type: int
    dev: int
    qid: Qid
    mode: int
    atime: int
    mtime: int
    length: int
    name: str
    uid: str
    gid: str
    muid: str
    extension: str = ""
    n_uid: int = NONUNAME
    n_gid: int = NONUNAME
    n_muid: int = NONUNAME


@dataclass(frozen=True, slots=True)
class Rlerror:
    ecode: int


@dataclass(frozen=True, slots=True)
class Rngerror:
    """`.ng`'s error: an errno, the symbol of the error table, what was refused, and why or by whom."""

    ecode: int
    symbol: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Tstatfs:
    fid: int


@dataclass(frozen=True, slots=True)
class Rstatfs:
    type: int
    bsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    fsid: int
    namelen: int


@dataclass(frozen=True, slots=True)
class Tlopen:
    fid: int
    flags: int


@dataclass(frozen=True, slots=True)
class Rlopen:
    qid: Qid
    iounit: int


@dataclass(frozen=True, slots=True)
class Tlcreate:
    fid: int
    name: str
    flags: int
    mode: int
    gid: int


@dataclass(frozen=True, slots=True)
class Rlcreate:
    qid: Qid
    iounit: int


@dataclass(frozen=True, slots=True)
class Tsymlink:
    fid: int
    name: str
    target: str
    gid: int


@dataclass(frozen=True, slots=True)
class Rsymlink:
    qid: Qid


@dataclass(frozen=True, slots=True)
class Tmknod:
    dfid: int
    name: str
    mode: int
    major: int
    minor: int
    gid: int


@dataclass(frozen=True, slots=True)
class Rmknod:
    qid: Qid


@dataclass(frozen=True, slots=True)
class Trename:
    fid: int
    dfid: int
    name: str


@dataclass(frozen=True, slots=True)
class Rrename:
    pass


@dataclass(frozen=True, slots=True)
class Treadlink:
    fid: int


@dataclass(frozen=True, slots=True)
class Rreadlink:
    target: str


@dataclass(frozen=True, slots=True)
class Tgetattr:
    fid: int
    request_mask: int


@dataclass(frozen=True, slots=True)
class Rgetattr:
    valid: int
    qid: Qid
    mode: int
    uid: int
    gid: int
    nlink: int
    rdev: int
    size: int
    blksize: int
    blocks: int
    atime_sec: int
    atime_nsec: int
    mtime_sec: int
    mtime_nsec: int
    ctime_sec: int
    ctime_nsec: int
    btime_sec: int
    btime_nsec: int
    gen: int
    data_version: int


@dataclass(frozen=True, slots=True)
class Tsetattr:
    fid: int
    valid: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_sec: int
    atime_nsec: int
    mtime_sec: int
    mtime_nsec: int


@dataclass(frozen=True, slots=True)
class Rsetattr:
    pass


@dataclass(frozen=True, slots=True)
class Txattrwalk:
    fid: int
    newfid: int
    name: str


@dataclass(frozen=True, slots=True)
class Rxattrwalk:
    size: int


@dataclass(frozen=True, slots=True)
class Txattrcreate:
    fid: int
    name: str
    attr_size: int
    flags: int


@dataclass(frozen=True, slots=True)
class Rxattrcreate:
    pass


@dataclass(frozen=True, slots=True)
class Treaddir:
    fid: int
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Rreaddir:
    data: Buffer


@dataclass(frozen=True, slots=True)
class Tfsync:
    fid: int
    datasync: int


@dataclass(frozen=True, slots=True)
class Rfsync:
    pass


@dataclass(frozen=True, slots=True)
class Tlock:
    fid: int
    type: int
    flags: int
    start: int
    length: int
    proc_id: int
    client_id: str


@dataclass(frozen=True, slots=True)
class Rlock:
    status: int


@dataclass(frozen=True, slots=True)
class Tgetlock:
    fid: int
    type: int
    start: int
    length: int
    proc_id: int
    client_id: str


@dataclass(frozen=True, slots=True)
class Rgetlock:
    type: int
    start: int
    length: int
    proc_id: int
    client_id: str


@dataclass(frozen=True, slots=True)
class Tlink:
    dfid: int
    fid: int
    name: str


@dataclass(frozen=True, slots=True)
class Rlink:
    pass


@dataclass(frozen=True, slots=True)
class Tmkdir:
    dfid: int
    name: str
    mode: int
    gid: int


@dataclass(frozen=True, slots=True)
class Rmkdir:
    qid: Qid


@dataclass(frozen=True, slots=True)
class Trenameat:
    olddirfid: int
    oldname: str
    newdirfid: int
    newname: str


@dataclass(frozen=True, slots=True)
class Rrenameat:
    pass


@dataclass(frozen=True, slots=True)
class Tunlinkat:
    dirfid: int
    name: str
    flags: int


@dataclass(frozen=True, slots=True)
class Runlinkat:
    pass


@dataclass(frozen=True, slots=True)
class Tversion:
    msize: int
    version: str


@dataclass(frozen=True, slots=True)
class Rversion:
    msize: int
    version: str


@dataclass(frozen=True, slots=True)
class Tauth:
    afid: int
    uname: str
    aname: str
    n_uname: int = NONUNAME


@dataclass(frozen=True, slots=True)
class Rauth:
    aqid: Qid


@dataclass(frozen=True, slots=True)
class Tattach:
    fid: int
    afid: int
    uname: str
    aname: str
    n_uname: int = NONUNAME


@dataclass(frozen=True, slots=True)
class Rattach:
    qid: Qid


@dataclass(frozen=True, slots=True)
class Rerror:
    ename: str
    ecode: int = 0


@dataclass(frozen=True, slots=True)
class Tflush:
    oldtag: int


@dataclass(frozen=True, slots=True)
class Rflush:
    pass


@dataclass(frozen=True, slots=True)
class Twalk:
    fid: int
    newfid: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rwalk:
    qids: tuple[Qid, ...]


@dataclass(frozen=True, slots=True)
class Topen:
    fid: int
    mode: int


@dataclass(frozen=True, slots=True)
class Ropen:
    qid: Qid
    iounit: int


@dataclass(frozen=True, slots=True)
class Tcreate:
    fid: int
    name: str
    perm: int
    mode: int
    extension: str = ""


@dataclass(frozen=True, slots=True)
class Rcreate:
    qid: Qid
    iounit: int


@dataclass(frozen=True, slots=True)
class Tread:
    fid: int
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Rread:
    data: Buffer


@dataclass(frozen=True, slots=True)
class Twrite:
    fid: int
    offset: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class Rwrite:
    count: int


@dataclass(frozen=True, slots=True)
class Tclunk:
    fid: int


@dataclass(frozen=True, slots=True)
class Rclunk:
    pass


@dataclass(frozen=True, slots=True)
class Tremove:
    fid: int


@dataclass(frozen=True, slots=True)
class Rremove:
    pass


@dataclass(frozen=True, slots=True)
class Tstat:
    fid: int


@dataclass(frozen=True, slots=True)
class Rstat:
    stat: WireStat


@dataclass(frozen=True, slots=True)
class Twstat:
    fid: int
    stat: WireStat


@dataclass(frozen=True, slots=True)
class Rwstat:
    pass


Request = (
    Tstatfs
    | Tlopen
    | Tlcreate
    | Tsymlink
    | Tmknod
    | Trename
    | Treadlink
    | Tgetattr
    | Tsetattr
    | Txattrwalk
    | Txattrcreate
    | Treaddir
    | Tfsync
    | Tlock
    | Tgetlock
    | Tlink
    | Tmkdir
    | Trenameat
    | Tunlinkat
    | Tversion
    | Tauth
    | Tattach
    | Tflush
    | Twalk
    | Topen
    | Tcreate
    | Tread
    | Twrite
    | Tclunk
    | Tremove
    | Tstat
    | Twstat
    | Tcaps
    | Tcomp
    | Tlist
)
Reply = (
    Rlerror
    | Rngerror
    | Rstatfs
    | Rlopen
    | Rlcreate
    | Rsymlink
    | Rmknod
    | Rrename
    | Rreadlink
    | Rgetattr
    | Rsetattr
    | Rxattrwalk
    | Rxattrcreate
    | Rreaddir
    | Rfsync
    | Rlock
    | Rgetlock
    | Rlink
    | Rmkdir
    | Rrenameat
    | Runlinkat
    | Rversion
    | Rauth
    | Rattach
    | Rerror
    | Rflush
    | Rwalk
    | Ropen
    | Rcreate
    | Rread
    | Rwrite
    | Rclunk
    | Rremove
    | Rstat
    | Rwstat
    | Rcaps
    | Rcomp
    | Rlist
)
Message = Request | Reply


class Row(NamedTuple):
    """How one message lies on the wire in some dialects, after size[4] type[1] tag[2].

    `layout` has one word per field, in the class's order: 1 2 4 8 an integer of so many bytes; s a text
    (size[2], UTF-8); q a qid; S, Q a count[2] of those; t a stat with its doubled size, u that of 9P2000.u; d data
    (count[4]), always last; F a count[2] of features, name[s] value[8]; C a count[2] of whole messages, all of the
    same tag. Fields of the class beyond the layout don't travel and take their defaults.
    """

    number: int
    message: type[Message]
    layout: str
    dialects: frozenset[Dialect]


_BOTH = frozenset(Dialect)
OLD_STYLE = _OLD = frozenset({Dialect.LEGACY, Dialect.U})
"""Those that open, create, stat and fail as section 5 has it; the others as Linux does."""
_PLAIN = frozenset({Dialect.LEGACY})
_U = frozenset({Dialect.U})
_NUMBERED = frozenset(Dialect) - _PLAIN
_NEW = frozenset({Dialect.L, Dialect.NG})
_L_ONLY = frozenset({Dialect.L})
_NG = frozenset({Dialect.NG})

# 6 (Tlerror), 106 (Terror) and 160 (Tngerror) are numbers that nobody may send.
TABLE: tuple[Row, ...] = (
    Row(7, Rlerror, "4", _L_ONLY),
    Row(8, Tstatfs, "4", _NEW),
    Row(9, Rstatfs, "4 4 8 8 8 8 8 8 4", _NEW),
    Row(12, Tlopen, "4 4", _NEW),
    Row(13, Rlopen, "q 4", _NEW),
    Row(14, Tlcreate, "4 s 4 4 4", _NEW),
    Row(15, Rlcreate, "q 4", _NEW),
    Row(16, Tsymlink, "4 s s 4", _NEW),
    Row(17, Rsymlink, "q", _NEW),
    Row(18, Tmknod, "4 s 4 4 4 4", _NEW),
    Row(19, Rmknod, "q", _NEW),
    Row(20, Trename, "4 4 s", _NEW),
    Row(21, Rrename, "", _NEW),
    Row(22, Treadlink, "4", _NEW),
    Row(23, Rreadlink, "s", _NEW),
    Row(24, Tgetattr, "4 8", _NEW),
    Row(25, Rgetattr, "8 q 4 4 4 8 8 8 8 8 8 8 8 8 8 8 8 8 8 8", _NEW),
    Row(26, Tsetattr, "4 4 4 4 4 8 8 8 8 8", _NEW),
    Row(27, Rsetattr, "", _NEW),
    Row(30, Txattrwalk, "4 4 s", _NEW),
    Row(31, Rxattrwalk, "8", _NEW),
    Row(32, Txattrcreate, "4 s 8 4", _NEW),
    Row(33, Rxattrcreate, "", _NEW),
    Row(40, Treaddir, "4 8 4", _NEW),
    Row(41, Rreaddir, "d", _NEW),
    Row(50, Tfsync, "4 4", _NEW),
    Row(51, Rfsync, "", _NEW),
    Row(52, Tlock, "4 1 4 8 8 4 s", _NEW),
    Row(53, Rlock, "1", _NEW),
    Row(54, Tgetlock, "4 1 8 8 4 s", _NEW),
    Row(55, Rgetlock, "1 8 8 4 s", _NEW),
    Row(70, Tlink, "4 4 s", _NEW),
    Row(71, Rlink, "", _NEW),
    Row(72, Tmkdir, "4 s 4 4", _NEW),
    Row(73, Rmkdir, "q", _NEW),
    Row(74, Trenameat, "4 s 4 s", _NEW),
    Row(75, Rrenameat, "", _NEW),
    Row(76, Tunlinkat, "4 s 4", _NEW),
    Row(77, Runlinkat, "", _NEW),
    Row(100, Tversion, "4 s", _BOTH),
    Row(101, Rversion, "4 s", _BOTH),
    Row(102, Tauth, "4 s s", _PLAIN),
    Row(102, Tauth, "4 s s 4", _NUMBERED),
    Row(103, Rauth, "q", _BOTH),
    Row(104, Tattach, "4 4 s s", _PLAIN),
    Row(104, Tattach, "4 4 s s 4", _NUMBERED),
    Row(105, Rattach, "q", _BOTH),
    Row(107, Rerror, "s", _PLAIN),
    Row(107, Rerror, "s 4", _U),
    Row(108, Tflush, "2", _BOTH),
    Row(109, Rflush, "", _BOTH),
    Row(110, Twalk, "4 4 S", _BOTH),
    Row(111, Rwalk, "Q", _BOTH),
    Row(112, Topen, "4 1", _OLD),
    Row(113, Ropen, "q 4", _OLD),
    Row(114, Tcreate, "4 s 4 1", _PLAIN),
    Row(114, Tcreate, "4 s 4 1 s", _U),
    Row(115, Rcreate, "q 4", _OLD),
    Row(116, Tread, "4 8 4", _BOTH),
    Row(117, Rread, "d", _BOTH),
    Row(118, Twrite, "4 8 d", _BOTH),
    Row(119, Rwrite, "4", _BOTH),
    Row(120, Tclunk, "4", _BOTH),
    Row(121, Rclunk, "", _BOTH),
    Row(122, Tremove, "4", _BOTH),
    Row(123, Rremove, "", _BOTH),
    Row(124, Tstat, "4", _OLD),
    Row(125, Rstat, "t", _PLAIN),
    Row(125, Rstat, "u", _U),
    Row(126, Twstat, "4 t", _PLAIN),
    Row(126, Twstat, "4 u", _U),
    Row(127, Rwstat, "", _OLD),
    Row(161, Rngerror, "4 s s s", _NG),
    Row(162, Tcaps, "F", _NG),
    Row(163, Rcaps, "F", _NG),
    Row(164, Tcomp, "C", _NG),
    Row(165, Rcomp, "C", _NG),
    Row(166, Tlist, "4 8 4", _NG),
    Row(167, Rlist, "1 d", _NG),
)


NOT_IN_COMPOUNDS: frozenset[type[Message]] = frozenset(
    {Tversion, Rversion, Tauth, Rauth, Tflush, Rflush, Tcaps, Rcaps, Tcomp, Rcomp}
)


def field_names(message: type[Message]) -> tuple[str, ...]:
    return tuple(message.__dataclass_fields__)


def is_request(number: int) -> bool:
    """Requests have even numbers; each reply is its request's plus one. intro(5)."""
    return number % 2 == 0
