"""The process of a node, as the host sees it: which it is, and how one that does not answer is ended.

A node holds an flock(2) on HOME/lock for as long as it lives, and nobody else gets it. The host says who holds it
(/proc/locks); that it is a node of this home, its command line and its open files say. It is looked at through a
pidfd, so what is signalled is what was looked at, and never another process that got its number since.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

from cognu.errors import E, FileError

_MODULE = "cognu.node"
ENDS_SECONDS = 10.0
"""How long a process may take to be gone once it was killed: one in the midst of a call to a disk may not go."""


def holder(locks: str, device: int, inode: int) -> int | None:
    """Who holds an flock(2) on a file, by the text of /proc/locks (proc(5)): a pid, 0 if it is not ours to see, None
    if nobody does."""
    for line in locks.splitlines():
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK":
            continue
        major, _, rest = words[5].partition(":")
        minor, _, number = rest.partition(":")
        try:
            same = (os.makedev(int(major, 16), int(minor, 16)), int(number)) == (device, inode)
            pid = int(words[4])
        except (ValueError, OverflowError):
            continue
        if same:
            return max(pid, 0)
    return None


def lock_holder(lock: str) -> int | None:
    """Who holds the flock(2) on the file `lock`, as `holder` says. Raises OSError where the host does not tell."""
    seen = os.stat(lock)
    with open("/proc/locks", encoding="ascii", errors="replace") as table:
        return holder(table.read(), seen.st_dev, seen.st_ino)


def node_process(home: str) -> int | None:
    """The pid of the node of the home directory `home`; None if there is none, or the host does not tell."""
    lock = f"{home}/lock"
    try:
        pid = lock_holder(lock)
        return pid if pid and _is_node(pid, home) and _has_open(pid, lock) else None
    except OSError:
        return None


def _is_node(pid: int, home: str) -> bool:
    """Whether the process was started as a node of that home. Raises OSError if it is gone."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = [os.fsdecode(word) for word in file.read().split(b"\0")]
    if _MODULE not in words or "--home" not in words[:-1]:
        return False
    return os.path.samefile(words[words.index("--home") + 1], home)


def _has_open(pid: int, path: str) -> bool:
    wanted = os.stat(path)
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile, or no file
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), wanted):
                return True
    return False


def silent(home: str, seconds: float) -> FileError:
    """What is said of a node that is there and does not answer: which process it is, if the host tells."""
    pid = node_process(home)
    who = f"process {pid}" if pid else "its process"
    return FileError(E.SILENT, home, f"{who} says nothing for {seconds:g} s")


def unreachable(home: str) -> FileError:
    """What is said where nobody is at a node's socket: NONODE, or SILENT where its process is there all the same."""
    pid = node_process(home)
    if pid is None:
        return FileError(E.NONODE, home)
    return FileError(E.SILENT, home, f"process {pid} is there, but nobody is at {home}/node.sock")


def kill_node(home: str) -> int:
    """End the process of the node of `home` with SIGKILL, and return its pid once it is gone.

    Raises NONODE if no such process is found, NOTSUP where the host can't tell for certain, TIMEDOUT if it does not
    go.
    """
    if sys.platform != "linux":
        raise FileError(E.NOTSUP, "--force", "this host does not tell which process it is: look with ps, and kill it")
    pid = node_process(home)
    if pid is None:
        raise FileError(E.NONODE, home, "no process that holds its lock is a node")
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid
    try:
        if node_process(home) != pid:  # it ended, and its number may be another's
            raise FileError(E.NONODE, home)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not select.select([handle], [], [], ENDS_SECONDS)[0]:
            raise FileError(E.TIMEDOUT, f"process {pid}", f"killed, and not gone within {ENDS_SECONDS:g} s")
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
    return pid
