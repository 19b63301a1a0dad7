"""The C library's allocator, told to keep what a node frees.

A node takes and gives back buffers of up to a message's size (1 MiB) all the time. Left to itself, glibc maps each anew
and unmaps it, and the host clears and maps it page by page when it is used: of what a large write costs a node, more
than half. mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MAPPED_FROM = 4 << 20
"""Bytes from which a buffer is mapped by itself."""
KEPT_FREE = 16 << 20
"""Bytes that may be free at the end of the heap before they are given back."""


def keep_freed_memory() -> bool:
    """For the whole process, from now on. False where the C library has no such settings, which costs time alone."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_FREE))
