"""Runs a program of the host within bounds (`world.Bounds`), in the place of this process: a script, not a module.

    bounded.py FD RLIMIT=MOST[,RLIMIT=MOST...] KEEP PATH [ARG...]

The bounds hold before the program's first instruction, for it and all that it starts. NPROC counts all threads of the
user: MOST is how many there may be beside those that are there now, and where those can't be counted there is no such
bound. Python's own marks are taken off before: signals that it ignores, and LC_CTYPE unless KEEP is 1. If the program
can't be started its errno goes to FD.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from contextlib import suppress

PROC = "/proc"
HOSTS_PROCESSES = 0xEFFFFFFC
"""The inode of the host's own process namespace (proc_ns.h of Linux: PROC_PID_INIT_INO)."""


def threads_of_user(proc: str = PROC) -> int | None:
    """How many the host counts for this process's user. None where `proc` does not tell: there is none (macOS), or it
    has a container's processes alone, while the limit counts those of the user in other containers too.
    """
    try:
        if os.stat(f"{proc}/self/ns/pid").st_ino != HOSTS_PROCESSES:
            return None
        names = os.listdir(proc)
    except OSError:
        return None
    count = 0
    for name in names:
        with suppress(OSError):  # it ended meanwhile
            if name.isdigit() and os.stat(f"{proc}/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"{proc}/{name}/task"))
    return count


def bound(text: str, proc: str = PROC) -> None:
    """Set what `text` says, never more than what holds already."""
    for word in text.split(","):
        name, _, most = word.partition("=")
        there = threads_of_user(proc) if name == "NPROC" else 0
        if there is None:
            continue
        what: int = getattr(resource, f"RLIMIT_{name}")
        value = int(most) + there
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # Of processor time the first limit is a signal that says what it is (XCPU); the second kills who ignores it.
        last = value + 1 if name == "CPU" and (hard == resource.RLIM_INFINITY or value < hard) else value
        resource.setrlimit(what, (value, last))


def main(tell: int, limits: str, keep: str, argv: list[str]) -> None:
    os.set_inheritable(tell, False)
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if keep != "1":
        os.environ.pop("LC_CTYPE", None)
    try:
        bound(limits)
        os.execv(argv[0], argv)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else errno.EINVAL  # a limit that the host does not take
        os.write(tell, str(number).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
    os._exit(127)
