"""The vocabulary of 9P: qids, stats, modes. The files layer uses it as its own.

Sources: Plan 9 manual, intro(5), stat(5), open(5); for 9P2000.L Linux's net/9p/9p.h and diod's protocol.md.
Times are integers in nanoseconds since 1970 everywhere; only the codec knows that 9P2000 counts seconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..values import dataclass

Buffer = bytes | bytearray | memoryview

# Qid.type: the top byte of the mode bits below.
QTDIR: Final = 0x80
QTAPPEND: Final = 0x40
QTEXCL: Final = 0x20
QTMOUNT: Final = 0x10
QTAUTH: Final = 0x08
QTTMP: Final = 0x04
QTSYMLINK: Final = 0x02
QTFILE: Final = 0x00

# Stat.mode: stat(5), and from DMSYMLINK on 9P2000.u's, which never go out on plain 9P2000.
DMDIR: Final = 0x80000000
DMAPPEND: Final = 0x40000000
DMEXCL: Final = 0x20000000
DMMOUNT: Final = 0x10000000
DMAUTH: Final = 0x08000000
DMTMP: Final = 0x04000000
DMSYMLINK: Final = 0x02000000
DMLINK: Final = 0x01000000  # of 9P2000.u's Tcreate alone: another name for the fid that `extension` tells
DMDEVICE: Final = 0x00800000
DMNAMEDPIPE: Final = 0x00200000
DMSOCKET: Final = 0x00100000
DMSETUID: Final = 0x00080000
DMSETGID: Final = 0x00040000
DMBLOCK: Final = 0x00020000  # with DMDEVICE: a block device. Ours alone; the wire says it in its own ways.
DMSETVTX: Final = 0x00010000
DMPERM: Final = 0o777

# Topen.mode and Tcreate.mode, open(5).
OREAD: Final = 0x00
OWRITE: Final = 0x01
ORDWR: Final = 0x02
OEXEC: Final = 0x03
OTRUNC: Final = 0x10
OCEXEC: Final = 0x20
ORCLOSE: Final = 0x40
U_APPEND: Final = 0x80
"""In 9P2000.u, as Linux's client has it (fs/9p/vfs_inode.c, P9_OAPPEND): every write goes to the end."""
OACCESS: Final = 0x03  # the bits that hold one of OREAD, OWRITE, ORDWR, OEXEC

# Tlopen.flags and Tlcreate.flags: Linux numbers on every host (diod protocol.md, lopen).
L_RDONLY: Final = 0o0
L_WRONLY: Final = 0o1
L_RDWR: Final = 0o2
L_ACCESS: Final = 0o3
L_CREAT: Final = 0o100
L_EXCL: Final = 0o200
L_NOCTTY: Final = 0o400
L_TRUNC: Final = 0o1000
L_APPEND: Final = 0o2000
L_NONBLOCK: Final = 0o4000
L_DSYNC: Final = 0o10000
L_FASYNC: Final = 0o20000
L_DIRECT: Final = 0o40000
L_LARGEFILE: Final = 0o100000
L_DIRECTORY: Final = 0o200000
L_NOFOLLOW: Final = 0o400000
L_NOATIME: Final = 0o1000000
L_CLOEXEC: Final = 0o2000000
L_SYNC: Final = 0o4000000

# Tgetattr.request_mask and Rgetattr.valid.
GETATTR_MODE: Final = 0x0001
GETATTR_NLINK: Final = 0x0002
GETATTR_UID: Final = 0x0004
GETATTR_GID: Final = 0x0008
GETATTR_RDEV: Final = 0x0010
GETATTR_ATIME: Final = 0x0020
GETATTR_MTIME: Final = 0x0040
GETATTR_CTIME: Final = 0x0080
GETATTR_INO: Final = 0x0100
GETATTR_SIZE: Final = 0x0200
GETATTR_BLOCKS: Final = 0x0400
GETATTR_BTIME: Final = 0x0800
GETATTR_GEN: Final = 0x1000
GETATTR_DATA_VERSION: Final = 0x2000
GETATTR_BASIC: Final = 0x07FF
GETATTR_ALL: Final = 0x3FFF

# Tsetattr.valid. A time without its _SET bit means "the server's present time".
SETATTR_MODE: Final = 0x0001
SETATTR_UID: Final = 0x0002
SETATTR_GID: Final = 0x0004
SETATTR_SIZE: Final = 0x0008
SETATTR_ATIME: Final = 0x0010
SETATTR_MTIME: Final = 0x0020
SETATTR_CTIME: Final = 0x0040
SETATTR_ATIME_SET: Final = 0x0080
SETATTR_MTIME_SET: Final = 0x0100

# Tlock.type, Tlock.flags, Rlock.status.
LOCK_RDLCK: Final = 0
LOCK_WRLCK: Final = 1
LOCK_UNLCK: Final = 2
LOCK_FLAGS_BLOCK: Final = 1
LOCK_FLAGS_RECLAIM: Final = 2
LOCK_SUCCESS: Final = 0
LOCK_BLOCKED: Final = 1
LOCK_ERROR: Final = 2
LOCK_GRACE: Final = 3

# Txattrcreate.flags, setxattr(2), and the most bytes that Linux gives an attribute.
XATTR_CREATE: Final = 1
XATTR_REPLACE: Final = 2
XATTR_MAX: Final = 1 << 16

# Tattenuate.rights, Tmint.rights.
RIGHT_READ: Final = 1
RIGHT_WRITE: Final = 2
RIGHT_EXECUTE: Final = 4
RIGHT_CREATE: Final = 8
RIGHT_GRANT: Final = 16
RIGHTS_ALL: Final = 31

UNLINK_DIRECTORY: Final = 0x200  # Tunlinkat.flags: Linux's AT_REMOVEDIR

NOTAG: Final = 0xFFFF
NOFID: Final = 0xFFFFFFFF
NONUNAME: Final = 0xFFFFFFFF  # n_uname of a client that sends names, not numbers
NOBODY: Final = 65534  # uid and gid of a file whose owner has no number here
MAXWELEM: Final = 16  # names in one Twalk, walk(5)
IOHDRSZ: Final = 24  # what servers subtract from msize for iounit, fcall.h
READ_HEADER: Final = 11  # size[4] Rread tag[2] count[4]
MIN_MSIZE: Final = 256  # 9front's client refuses less
MAX_MSIZE: Final = 16 << 20


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
