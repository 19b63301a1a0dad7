"""How many files a node may have open: as many as the host lets it, and not what a login begins with.

getrlimit(2): a process may raise its own soft limit as far as the hard one.
"""

from __future__ import annotations

import logging
import resource
from typing import Final

log = logging.getLogger("cognu.world")

MOST: Final = 65_536
"""More are not asked for, for some programs, which inherit the limit, look at each that may be open."""


def within_reach(soft: int, hard: int) -> int:
    """What a soft limit can be had as; `RLIM_INFINITY` is none."""
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    return most if soft == resource.RLIM_INFINITY else max(soft, most)


def raise_open_files() -> int:
    """Raise the limit of this process, if the host lets it; returns what it is, `MOST` for none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = within_reach(soft, hard)
    if soft in (wanted, resource.RLIM_INFINITY):
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:  # macOS has another limit below the one it says
        log.warning("no more than %d files can be open: %s", soft, error)
        return soft
    return wanted
