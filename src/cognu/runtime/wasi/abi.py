"""The numbers and layouts of `wasi_snapshot_preview1`, and its table of errors.

Source: WASI preview 1, typenames.witx and wasi_snapshot_preview1.witx (32-bit pointers, little-endian).
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from cognu.errors import E

MODULE: Final = "wasi_snapshot_preview1"


class Errno(IntEnum):
    """`$errno`."""

    SUCCESS = 0
    TOOBIG = 1
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


# Linux's numbers (errno.h, asm-generic), which the error table carries, to WASI's.
_OF_LINUX: Final[dict[int, Errno]] = {
    1: Errno.PERM, 2: Errno.NOENT, 3: Errno.SRCH, 4: Errno.INTR, 5: Errno.IO, 6: Errno.NXIO, 7: Errno.TOOBIG,
    8: Errno.NOEXEC, 9: Errno.BADF, 10: Errno.CHILD, 11: Errno.AGAIN, 12: Errno.NOMEM, 13: Errno.ACCES,
    14: Errno.FAULT, 16: Errno.BUSY, 17: Errno.EXIST, 18: Errno.XDEV, 19: Errno.NODEV, 20: Errno.NOTDIR,
    21: Errno.ISDIR, 22: Errno.INVAL, 23: Errno.NFILE, 24: Errno.MFILE, 25: Errno.NOTTY, 26: Errno.TXTBSY,
    27: Errno.FBIG, 28: Errno.NOSPC, 29: Errno.SPIPE, 30: Errno.ROFS, 31: Errno.MLINK, 32: Errno.PIPE,
    33: Errno.DOM, 34: Errno.RANGE, 35: Errno.DEADLK, 36: Errno.NAMETOOLONG, 37: Errno.NOLCK, 38: Errno.NOSYS,
    39: Errno.NOTEMPTY, 40: Errno.LOOP, 42: Errno.NOMSG, 43: Errno.IDRM, 67: Errno.NOLINK, 71: Errno.PROTO,
    72: Errno.MULTIHOP, 74: Errno.BADMSG, 75: Errno.OVERFLOW, 84: Errno.ILSEQ, 88: Errno.NOTSOCK,
    89: Errno.DESTADDRREQ, 90: Errno.MSGSIZE, 91: Errno.PROTOTYPE, 92: Errno.NOPROTOOPT,
    93: Errno.PROTONOSUPPORT, 95: Errno.NOTSUP, 97: Errno.AFNOSUPPORT, 98: Errno.ADDRINUSE,
    99: Errno.ADDRNOTAVAIL, 100: Errno.NETDOWN, 101: Errno.NETUNREACH, 102: Errno.NETRESET,
    103: Errno.CONNABORTED, 104: Errno.CONNRESET, 105: Errno.NOBUFS, 106: Errno.ISCONN, 107: Errno.NOTCONN,
    110: Errno.TIMEDOUT, 111: Errno.CONNREFUSED, 113: Errno.HOSTUNREACH, 114: Errno.ALREADY,
    115: Errno.INPROGRESS, 116: Errno.STALE, 122: Errno.DQUOT, 125: Errno.CANCELED, 130: Errno.OWNERDEAD,
    131: Errno.NOTRECOVERABLE,
    # What WASI has no number of its own for takes the nearest.
    49: Errno.NXIO, 61: Errno.NOMSG, 62: Errno.TIMEDOUT, 64: Errno.HOSTUNREACH, 76: Errno.INVAL, 108: Errno.PIPE,
    112: Errno.HOSTUNREACH, 126: Errno.ACCES, 127: Errno.STALE, 128: Errno.STALE, 129: Errno.ACCES,
}  # fmt: skip


def errno_of(error: E) -> Errno:
    """WASI's number for a row of the error table; what WASI has no number for is EIO."""
    return _OF_LINUX.get(error.errno, Errno.IO)


class WasiError(Exception):
    """A call ends with this number. Not for people: guests get numbers only."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno


class Right:
    """`$rights`: what may be done with a descriptor."""

    FD_DATASYNC: Final = 1 << 0
    FD_READ: Final = 1 << 1
    FD_SEEK: Final = 1 << 2
    FD_FDSTAT_SET_FLAGS: Final = 1 << 3
    FD_SYNC: Final = 1 << 4
    FD_TELL: Final = 1 << 5
    FD_WRITE: Final = 1 << 6
    FD_ADVISE: Final = 1 << 7
    FD_ALLOCATE: Final = 1 << 8
    PATH_CREATE_DIRECTORY: Final = 1 << 9
    PATH_CREATE_FILE: Final = 1 << 10
    PATH_LINK_SOURCE: Final = 1 << 11
    PATH_LINK_TARGET: Final = 1 << 12
    PATH_OPEN: Final = 1 << 13
    FD_READDIR: Final = 1 << 14
    PATH_READLINK: Final = 1 << 15
    PATH_RENAME_SOURCE: Final = 1 << 16
    PATH_RENAME_TARGET: Final = 1 << 17
    PATH_FILESTAT_GET: Final = 1 << 18
    PATH_FILESTAT_SET_SIZE: Final = 1 << 19
    PATH_FILESTAT_SET_TIMES: Final = 1 << 20
    FD_FILESTAT_GET: Final = 1 << 21
    FD_FILESTAT_SET_SIZE: Final = 1 << 22
    FD_FILESTAT_SET_TIMES: Final = 1 << 23
    PATH_SYMLINK: Final = 1 << 24
    PATH_REMOVE_DIRECTORY: Final = 1 << 25
    PATH_UNLINK_FILE: Final = 1 << 26
    POLL_FD_READWRITE: Final = 1 << 27
    SOCK_SHUTDOWN: Final = 1 << 28
    SOCK_ACCEPT: Final = 1 << 29


ALL_RIGHTS: Final = (1 << 30) - 1
DIRECTORY_RIGHTS: Final = (
    Right.FD_FDSTAT_SET_FLAGS | Right.FD_SYNC | Right.FD_DATASYNC | Right.FD_ADVISE | Right.FD_READDIR
    | Right.FD_FILESTAT_GET | Right.FD_FILESTAT_SET_TIMES | Right.POLL_FD_READWRITE
    | Right.PATH_CREATE_DIRECTORY | Right.PATH_CREATE_FILE | Right.PATH_LINK_SOURCE | Right.PATH_LINK_TARGET
    | Right.PATH_OPEN | Right.PATH_READLINK | Right.PATH_RENAME_SOURCE | Right.PATH_RENAME_TARGET
    | Right.PATH_FILESTAT_GET | Right.PATH_FILESTAT_SET_SIZE | Right.PATH_FILESTAT_SET_TIMES
    | Right.PATH_SYMLINK | Right.PATH_REMOVE_DIRECTORY | Right.PATH_UNLINK_FILE
)  # fmt: skip
FILE_RIGHTS: Final = (
    Right.FD_DATASYNC | Right.FD_READ | Right.FD_SEEK | Right.FD_FDSTAT_SET_FLAGS | Right.FD_SYNC | Right.FD_TELL
    | Right.FD_WRITE | Right.FD_ADVISE | Right.FD_ALLOCATE | Right.FD_FILESTAT_GET | Right.FD_FILESTAT_SET_SIZE
    | Right.FD_FILESTAT_SET_TIMES | Right.POLL_FD_READWRITE | Right.SOCK_SHUTDOWN | Right.SOCK_ACCEPT
)  # fmt: skip
WRITING_RIGHTS: Final = Right.FD_WRITE | Right.FD_ALLOCATE | Right.FD_FILESTAT_SET_SIZE
SEEKING_RIGHTS: Final = Right.FD_SEEK | Right.FD_TELL


class Filetype(IntEnum):
    """`$filetype`. A pipe has none of its own."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


# $fdflags
APPEND: Final = 1
DSYNC: Final = 2
NONBLOCK: Final = 4
RSYNC: Final = 8
SYNC: Final = 16
FDFLAGS: Final = 31

# $lookupflags, $oflags
SYMLINK_FOLLOW: Final = 1
CREAT: Final = 1
DIRECTORY: Final = 2
EXCL: Final = 4
TRUNC: Final = 8
OFLAGS: Final = 15

# $fstflags
ATIM: Final = 1
ATIM_NOW: Final = 2
MTIM: Final = 4
MTIM_NOW: Final = 8

# $whence, $advice, $clockid
SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2
ADVICES: Final = 6
REALTIME, MONOTONIC, PROCESS_CPUTIME, THREAD_CPUTIME = 0, 1, 2, 3

# $eventtype, $subclockflags, $eventrwflags
EVENT_CLOCK, EVENT_FD_READ, EVENT_FD_WRITE = 0, 1, 2
ABSTIME: Final = 1
HANGUP: Final = 1

# $riflags, $roflags, $sdflags
RECV_PEEK, RECV_WAITALL = 1, 2
SHUT_RD, SHUT_WR = 1, 2

SIGNALS: Final = 30
"""The highest `$signal`; 0 is none."""

U32: Final = Struct("<I")
U64: Final = Struct("<Q")
IOVEC: Final = Struct("<II")  # buf, len
FDSTAT: Final = Struct("<BxHxxxxQQ")  # filetype, flags, base, inheriting
FILESTAT: Final = Struct("<QQB7xQQQQQ")  # dev, ino, filetype, nlink, size, atim, mtim, ctim
PRESTAT: Final = Struct("<BxxxI")  # tag (0: a directory), length of the name
DIRENT: Final = Struct("<QQIB3x")  # next, ino, length of the name, filetype
SUBSCRIPTION: Final = Struct("<QB7xI4xQQH6x")  # userdata, tag, clock or fd, timeout, precision, flags
EVENT: Final = Struct("<QHB5xQH6x")  # userdata, error, type, nbytes, flags
SIZES: Final = Struct("<II")
