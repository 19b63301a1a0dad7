"""The machine a measurement was made on, and keeping a measurement on one of its processors."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

CAN_PIN = sys.platform == "linux"
CAN_ACCOUNT = Path("/proc/self/schedstat").exists()


def machine() -> dict[str, Any]:
    """What a reader must know to compare."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "wasmtime": version("wasmtime"),
        "uvloop": version("uvloop"),
    }


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def load() -> float:
    """How many processes wanted a processor in the last minute, this one included."""
    return round(os.getloadavg()[0], 2)


@contextmanager
def pinned(*pids: int) -> Iterator[None]:
    """Keep this process and others, with all their threads, on one processor meanwhile.

    One request at a time between two processors measures how fast the machine wakes up, not the server. Does nothing
    where the system has no such call; the results say whether it was done.
    """
    if sys.platform != "linux":
        yield
        return
    everything = os.sched_getaffinity(0)
    one = {max(everything)}
    _keep_on(one, pids)
    try:
        yield
    finally:
        _keep_on(everything, pids)


def _keep_on(processors: set[int], pids: tuple[int, ...]) -> None:
    if sys.platform == "linux":
        for pid in (os.getpid(), *pids):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with suppress(ProcessLookupError):  # it ended meanwhile
                    os.sched_setaffinity(int(thread), processors)


def spent(pid: int) -> int:
    """Nanoseconds of processor that the threads of a process have had (/proc/PID/task/TID/schedstat, proc(5)).

    Unlike the time on the clock it hardly depends on what else the machine does. Linux alone has it.
    """
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total


def family(pid: int) -> list[int]:
    """A process and all that it started, and these, as far as they run (/proc/PID/task/TID/children, proc(5))."""
    children: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            children += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    found = [pid]
    for child in children:
        with suppress(FileNotFoundError, ProcessLookupError):
            found += family(child)
    return found


def resident(pid: int) -> float:
    """Resident memory (VmRSS, proc(5)) in MB of 10**6 bytes. Raises `FileNotFoundError` if the system has no /proc."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise FileNotFoundError(f"/proc/{pid}/status: VmRSS")
