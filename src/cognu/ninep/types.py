"""The vocabulary of 9P: qids, stats, modes. The files layer uses it as its own.

Sources: Plan 9 manual, intro(5), stat(5), open(5); for 9P2000.L Linux's net/9p/9p.h and diod's protocol.md.
Times are integers in nanoseconds since 1970 everywhere; only the codec knows that 9P2000 counts seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from ..values import dataclass

Buffer = bytes | bytearray | memoryview

# Qid.type: the top byte of the mode bits below.
QTDIR = 0x80
QTAPPEND = 0x40
QTEXCL = 0x20
QTMOUNT = 0x10
QTAUTH = 0x08
QTTMP = 0x04
QTSYMLINK = 0x02
QTFILE = 0x00

# Stat.mode: stat(5), and from DMSYMLINK on 9P2000.u's, which never go out on plain 9P2000.
DMDIR = 0x80000000
DMAPPEND = 0x40000000
DMEXCL = 0x20000000
DMMOUNT = 0x10000000
DMAUTH = 0x08000000
DMTMP = 0x04000000
DMSYMLINK = 0x02000000
DMLINK = 0x01000000  # of 9P2000.u's Tcreate alone: another name for the fid that `extension` tells
DMDEVICE = 0x00800000
DMNAMEDPIPE = 0x00200000
DMSOCKET = 0x00100000
DMSETUID = 0x00080000
DMSETGID = 0x00040000
DMBLOCK = 0x00020000  # with DMDEVICE: a block device. Ours alone; the wire says it in its own ways.
DMSETVTX = 0x00010000
DMPERM = 0o777

# Topen.mode and Tcreate.mode, open(5).
OREAD = 0x00
OWRITE = 0x01
ORDWR = 0x02
OEXEC = 0x03
OTRUNC = 0x10
OCEXEC = 0x20
ORCLOSE = 0x40
U_APPEND = 0x80
"""In 9P2000.u, as Linux's client has it (fs/9p/vfs_inode.c, P9_OAPPEND): every write goes to the end."""
OACCESS = 0x03  # the bits that hold one of OREAD, OWRITE, ORDWR, OEXEC

# Tlopen.flags and Tlcreate.flags: Linux numbers on every host (diod protocol.md, lopen).
L_RDONLY = 0o0
L_WRONLY = 0o1
L_RDWR = 0o2
L_ACCESS = 0o3
L_CREAT = 0o100
L_EXCL = 0o200
L_NOCTTY = 0o400
L_TRUNC = 0o1000
L_APPEND = 0o2000
L_NONBLOCK = 0o4000
L_DSYNC = 0o10000
L_FASYNC = 0o20000
L_DIRECT = 0o40000
L_LARGEFILE = 0o100000
L_DIRECTORY = 0o200000
L_NOFOLLOW = 0o400000
L_NOATIME = 0o1000000
L_CLOEXEC = 0o2000000
L_SYNC = 0o4000000

# Tgetattr.request_mask and Rgetattr.valid.
GETATTR_MODE = 0x0001
GETATTR_NLINK = 0x0002
GETATTR_UID = 0x0004
GETATTR_GID = 0x0008
GETATTR_RDEV = 0x0010
GETATTR_ATIME = 0x0020
GETATTR_MTIME = 0x0040
GETATTR_CTIME = 0x0080
GETATTR_INO = 0x0100
GETATTR_SIZE = 0x0200
GETATTR_BLOCKS = 0x0400
GETATTR_BTIME = 0x0800
GETATTR_GEN = 0x1000
GETATTR_DATA_VERSION = 0x2000
GETATTR_BASIC = 0x07FF
GETATTR_ALL = 0x3FFF

# Tsetattr.valid. A time without its _SET bit means "the server's present time".
SETATTR_MODE = 0x0001
SETATTR_UID = 0x0002
SETATTR_GID = 0x0004
SETATTR_SIZE = 0x0008
SETATTR_ATIME = 0x0010
SETATTR_MTIME = 0x0020
SETATTR_CTIME = 0x0040
SETATTR_ATIME_SET = 0x0080
SETATTR_MTIME_SET = 0x0100

# Tlock.type, Tlock.flags, Rlock.status.
LOCK_RDLCK = 0
LOCK_WRLCK = 1
LOCK_UNLCK = 2
LOCK_FLAGS_BLOCK = 1
LOCK_FLAGS_RECLAIM = 2
LOCK_SUCCESS = 0
LOCK_BLOCKED = 1
LOCK_ERROR = 2
LOCK_GRACE = 3

# Txattrcreate.flags, setxattr(2), and the most bytes that Linux gives an attribute.
XATTR_CREATE = 1
XATTR_REPLACE = 2
XATTR_MAX = 1 << 16

# Tattenuate.rights, Tmint.rights.
RIGHT_READ = 1
RIGHT_WRITE = 2
RIGHT_EXECUTE = 4
RIGHT_CREATE = 8
RIGHT_GRANT = 16
RIGHTS_ALL = 31

UNLINK_DIRECTORY = 0x200  # Tunlinkat.flags: Linux's AT_REMOVEDIR

NOTAG = 0xFFFF
NOFID = 0xFFFFFFFF
NONUNAME = 0xFFFFFFFF  # n_uname of a client that sends names, not numbers
NOBODY = 65534  # uid and gid of a file whose owner has no number here
MAXWELEM = 16  # names in one Twalk, walk(5)
IOHDRSZ = 24  # what servers subtract from msize for iounit, fcall.h
READ_HEADER = 11  # size[4] Rread tag[2] count[4]
MIN_MSIZE = 256  # 9front's client refuses less
MAX_MSIZE = 16 << 20


class Qid(NamedTuple):
    """The server's unique identification of a file: two files are the same if type and path are. intro(5)."""

    type: int
    version: int
    path: int

    @property
    def is_dir(self) -> bool:
        return bool(self.type & QTDIR)


def qid_type(mode: int) -> int:
    """The Qid.type that goes with a Stat.mode."""
    return mode >> 24 & 0xFF


@dataclass(frozen=True, slots=True)
class Stat:
    """What a server says of one file: all of 9P2000's stat and of 9P2000.L's attributes.

    `mode` is DM* bits and 0o777; `length` in bytes; times in nanoseconds; `user`, `group`, `muid` (who wrote
    last) are names, `uid`, `gid` numbers; `btime` None if the server does not know it; `blocks` of 512 bytes,
    None if it follows from the length; `rdev` as Linux encodes it; `type` and `dev` as in stat(5).
    """

    name: str
    qid: Qid
    mode: int
    length: int = 0
    mtime: int = 0
    atime: int = 0
    ctime: int = 0
    btime: int | None = None
    user: str = ""
    group: str = ""
    muid: str = ""
    uid: int = NOBODY
    gid: int = NOBODY
    links: int = 1
    rdev: int = 0
    blksize: int = 4096
    blocks: int | None = None
    dev: int = 0
    type: int = 0

    @property
    def is_dir(self) -> bool:
        return bool(self.mode & DMDIR)

    @property
    def is_symlink(self) -> bool:
        return bool(self.mode & DMSYMLINK)


@dataclass(frozen=True, slots=True)
class SetStat:
    """Changes to one file, all or none; None means "don't touch". Units as in `Stat`.

    `mtime_now` and `atime_now` ask for the server's present time and exclude the explicit time.
    """

    mode: int | None = None
    length: int | None = None
    mtime: int | None = None
    atime: int | None = None
    name: str | None = None
    user: str | None = None
    group: str | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_now: bool = False
    atime_now: bool = False


class FileSystemStat(NamedTuple):
    """Rstatfs: `type` is the magic number of statfs(2); sizes in blocks of `bsize` bytes."""

    type: int = 0x01021997
    bsize: int = 4096
    blocks: int = 0
    bfree: int = 0
    bavail: int = 0
    files: int = 0
    ffree: int = 0
    fsid: int = 0
    namelen: int = 255


class Dirent(NamedTuple):
    """One entry of Rreaddir. `offset` is what Treaddir sends to go on after it; `type` is DT_*, readdir(3)."""

    qid: Qid
    offset: int
    type: int
    name: str


@dataclass(frozen=True, slots=True)
class Extent:
    """`count` bytes of `source` from `offset` on, which the embedding can send by itself (os.sendfile)."""

    source: object
    offset: int
    count: int

    def __len__(self) -> int:
        return self.count
