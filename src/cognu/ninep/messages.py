"""Every message of 9P2000, 9P2000.u and 9P2000.L; `additions` has those of `.ng`, `table` how each lies on the wire.

Sources: Plan 9 manual section 5; diod's protocol.md and Linux's net/9p/client.c for 9P2000.L; the draft RFC on Unix
extensions to 9P2000 (ericvh, 2005) and the same client.c for 9P2000.u. A field means what its manual page says. Data
fields are buffers of bytes; those decoded are views into what was received, never copies, so whoever keeps one keeps
the buffer.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ..values import dataclass
from .additions import AddedReply, AddedRequest
from .additions import Feature as Feature
from .additions import Rattenuate as Rattenuate
from .additions import Rcaps as Rcaps
from .additions import Rcomp as Rcomp
from .additions import Revent as Revent
from .additions import Rlist as Rlist
from .additions import Rmint as Rmint
from .additions import Rngerror as Rngerror
from .additions import Rwatch as Rwatch
from .additions import Tattenuate as Tattenuate
from .additions import Tcaps as Tcaps
from .additions import Tcomp as Tcomp
from .additions import Tevent as Tevent
from .additions import Tlist as Tlist
from .additions import Tmint as Tmint
from .additions import Twatch as Twatch
from .types import NONUNAME, Buffer, Qid


class Dialect(Enum):
    """A version string that both sides can agree on."""

    __hash__ = object.__hash__  # Enum's own hashes the name anew each time, and every message asks

    LEGACY = "9P2000"
    U = "9P2000.u"
    L = "9P2000.L"
    NG = "9P2000.ng"


OLD_STYLE = frozenset({Dialect.LEGACY, Dialect.U})
"""Those that open, create, stat and fail as section 5 has it; the others as Linux does."""


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
    | AddedRequest
)
Reply = (
    Rlerror
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
    | AddedReply
)
Message = Request | Reply


def field_names(message: type[Message]) -> tuple[str, ...]:
    return tuple(message.__dataclass_fields__)


def is_request(number: int) -> bool:
    """Requests have even numbers; each reply is its request's plus one. intro(5)."""
    return number % 2 == 0
