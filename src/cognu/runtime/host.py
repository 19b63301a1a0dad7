"""What this machine allows: address space and memory mappings, and the engine settings that fit."""

from __future__ import annotations

import mmap
import resource
import sys
from pathlib import Path
from typing import NamedTuple

from cognu.runtime.engine import MAX_TABLE_ELEMENTS, Settings
from cognu.runtime.fiber import MAX_TABLES

MAPPINGS_PER_GUEST = 8
"""Measured: 5 for a program with one memory; some more for tables and data images."""
MOST_GUESTS = 4096
"""The stacks and memories of all are laid out when the node starts, which takes about 8 us for each."""
_POINTER = 8
_SMALL = 64 << 10
_LARGEST = 1 << 46


class Host(NamedTuple):
    """`address_space`: bytes that one process can reserve. `mappings`: how many it may have, None for no
    limit. `overcommits`: whether addresses may be reserved beyond what there is of memory."""

    address_space: int
    mappings: int | None
    mappings_used: int
    overcommits: bool = True


def measure() -> Host:
    return Host(_address_space(), _max_map_count(), _mappings_used(), _overcommits())


def settings(host: Host) -> Settings:
    """Settings that leave room for as many guests as the mappings allow.

    With room for it, each guest's memory reserves 4 GiB of addresses, which makes access fast (no bounds
    checks) and growth free, and all of them are laid out beforehand, which makes starts fast; else a memory starts
    small, moves as it grows, and is checked at each access. A host that counts every reservation as memory used
    (vm.overcommit_memory=2) gets them one by one.
    """
    guests = MOST_GUESTS
    if host.mappings is not None:
        free = host.mappings - host.mappings_used - host.mappings // 8
        guests = max(1, min(MOST_GUESTS, free // MAPPINGS_PER_GUEST))
    full = Settings(max_guests=guests, pooled=host.overcommits)
    tables = MAX_TABLES * MAX_TABLE_ELEMENTS * _POINTER
    each = full.memory_reservation + 2 * full.memory_guard + full.fiber_stack + tables
    if guests * each <= host.address_space // 2:
        return full
    small = Settings(memory_reservation=_SMALL, memory_growth=_SMALL, memory_guard=_SMALL, fiber_stack=full.fiber_stack)
    return Settings(
        memory_reservation=_SMALL,
        memory_growth=_SMALL,
        memory_guard=_SMALL,
        max_guests=max(1, min(guests, host.address_space // 2 // (2 * small.fiber_stack))),
    )


def _address_space() -> int:
    """Found by reserving: kernels and machines differ (39 to 57 bits), and limits may be set on top."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    size = _LARGEST if soft == resource.RLIM_INFINITY else min(_LARGEST, soft)
    no_access, no_reserve = 0, getattr(mmap, "MAP_NORESERVE", 0)
    while size > 1 << 30:
        try:
            mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve, no_access).close()
        except (OSError, ValueError, OverflowError):
            size //= 2
        else:
            return size
    return size


def _max_map_count() -> int | None:
    """`vm.max_map_count` (proc(5), sysctl vm); None where the host has no such limit."""
    if not sys.platform.startswith("linux"):
        return None
    return int(Path("/proc/sys/vm/max_map_count").read_text())


def _overcommits() -> bool:
    """Not with `vm.overcommit_memory` 2 (proc(5)); other hosts than Linux always do."""
    if not sys.platform.startswith("linux"):
        return True
    return Path("/proc/sys/vm/overcommit_memory").read_text().strip() != "2"


def _mappings_used() -> int:
    if not sys.platform.startswith("linux"):
        return 0
    with Path("/proc/self/maps").open() as lines:
        return sum(1 for _ in lines)
