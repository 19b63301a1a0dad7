"""What Linux can say of its files without waiting for a disk or a server: from its caches, or not at all.

openat2(2) with RESOLVE_CACHED walks a name only through what is in memory. fstat(2) and open(2) of a file that is held
already wait for nothing on a local file system, but may ask the server on others; which is which, statfs(2) tells.
cachestat(2) counts the pages of a file that are in memory. Python has none of these calls, so they are made by
`ctypes`, under the interpreter's lock: they take about a microsecond.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import lru_cache

from cognu.world import WouldWait

_OPENAT2 = 437
"""The system call's number, the same on every machine since all tables were joined (Linux 5.6)."""
_AT_FDCWD = -100
_RESOLVE_NO_XDEV, _RESOLVE_CACHED = 0x01, 0x20
_STATFS_ROOM = 512
"""More than any `struct statfs`; its first member, a word, is the type."""
_LOCAL = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xF2F52010,  # f2fs
        0x2FC12FC1,  # zfs
        0xCA451A4E,  # bcachefs
        0x01021994,  # tmpfs
        0x858458F6,  # ramfs
        0x794C7630,  # overlayfs
        0x73717368,  # squashfs
        0xE0F5E1E2,  # erofs
        0x4D44,  # vfat
        0x2011BAB0,  # exfat
    }
)
"""File systems (statfs(2)) whose inodes, once held, are in memory. Not procfs and the like: their files run code."""


_CACHESTAT = 451
"""Linux 6.5's, likewise the same everywhere."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Range(ctypes.Structure):
    """struct cachestat_range, cachestat(2)."""

    _fields_ = [("off", ctypes.c_uint64), ("len", ctypes.c_uint64)]


class _Counts(ctypes.Structure):
    """struct cachestat: pages of the range that are in the cache, and what else is known of them."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")]


class _OpenHow(ctypes.Structure):
    """struct open_how, openat2(2)."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


if sys.platform == "linux":
    _HOW = _OpenHow(os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE_CACHED | _RESOLVE_NO_XDEV)
    _libc = ctypes.PyDLL(None, use_errno=True)
    _syscall = _libc.syscall
    _syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    _syscall.restype = ctypes.c_long
    _fstatfs = _libc.fstatfs
    _fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)
    _fstatfs.restype = ctypes.c_int

    def open_cached(directory: int, name: bytes) -> int:
        """An O_PATH descriptor of one component, links not followed. Raises `WouldWait` if the host would have to look
        on a disk or cross into another mount, `OSError` for what is certain.
        """
        descriptor: int = _syscall(_OPENAT2, directory, name, ctypes.addressof(_HOW), ctypes.sizeof(_HOW))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EXDEV):
            raise WouldWait
        raise OSError(number, os.strerror(number))

    _cachestat = ctypes.PyDLL(None, use_errno=True).syscall
    _cachestat.argtypes = (ctypes.c_long, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint)
    _cachestat.restype = ctypes.c_long
    _RANGE, _COUNTS = _Range(), _Counts()  # of the one call at a time that holds the interpreter's lock
    _RANGE_AT, _COUNTS_AT = ctypes.addressof(_RANGE), ctypes.addressof(_COUNTS)

    def is_cached(descriptor: int, offset: int, count: int) -> bool:
        """Whether the host has all pages of these bytes of a file in memory. False too if it does not tell."""
        _RANGE.off, _RANGE.len = offset, count
        if _cachestat(_CACHESTAT, descriptor, _RANGE_AT, _COUNTS_AT, 0) != 0:
            return False
        pages: int = (offset + count - 1) // _PAGE - offset // _PAGE + 1
        return bool(_COUNTS.cache >= pages)

    def is_local(descriptor: int) -> bool:
        """Whether a file is on a file system of this machine's own, by statfs(2), which may wait. False in doubt."""
        room = ctypes.create_string_buffer(_STATFS_ROOM)
        if _fstatfs(descriptor, room) != 0:
            return False
        return ctypes.c_long.from_buffer(room).value & 0xFFFFFFFF in _LOCAL

    @lru_cache(maxsize=1)
    def can_open_cached() -> bool:
        """Whether this host has the call (Linux 5.12) and lets us make it; sandboxes may not."""
        try:
            os.close(open_cached(_AT_FDCWD, b"/"))
        except WouldWait:
            return True
        except OSError:
            return False
        return True

else:

    def open_cached(directory: int, name: bytes) -> int:
        raise WouldWait

    def is_cached(descriptor: int, offset: int, count: int) -> bool:
        return False

    def is_local(descriptor: int) -> bool:
        return False

    def can_open_cached() -> bool:
        return False
