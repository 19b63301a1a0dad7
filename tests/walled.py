"""A runner that makes one attempt in the place of its program, once the wall is up: `walled.py ATTEMPT PARENT ENGINE`.

What the attempt returned, or was refused with, is the program's last message.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from cognu.runtime import runner

PTRACE_ATTACH = 16
LIBC = ctypes.CDLL(None, use_errno=True)


def _parent() -> int:
    return int(sys.argv[2])


def _called(result: int) -> str:
    return "done" if result >= 0 else os.strerror(ctypes.get_errno())


def _written_page(protection: int) -> str:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return _called(LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), protection))


def _thread() -> str:
    threading.Thread(target=lambda: None).start()
    return "done"


def _network() -> str:
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", 9))
    return "done"


def _send_to_all() -> str:
    return _called(LIBC.kill(-1, 0))


ATTEMPTS: dict[str, Callable[[], str]] = {
    "open": lambda: Path("/etc/passwd").read_text(),
    "create": lambda: _called(os.open("/tmp/walled", os.O_CREAT | os.O_WRONLY)),
    "list": lambda: str(os.listdir("/")),
    "stat": lambda: str(os.stat("/etc/passwd")),
    "memory": lambda: Path(f"/proc/{_parent()}/mem").read_bytes().hex(),
    "own memory": lambda: Path("/proc/self/mem").read_bytes().hex(),
    "connect": _network,
    "local socket": lambda: str(socket.socketpair()),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: str(os.fork()),
    "thread": _thread,
    "ptrace": lambda: _called(LIBC.ptrace(PTRACE_ATTACH, _parent(), 0, 0)),
    "kill": lambda: _called(LIBC.kill(_parent(), 0)),
    "kill all": _send_to_all,
    "kill thread": lambda: _called(LIBC.tgkill(_parent(), _parent(), 0)),
    "limits": lambda: str(resource.prlimit(_parent(), resource.RLIMIT_NOFILE, (64, 64))),
    "share": lambda: _called(LIBC.setpriority(os.PRIO_PROCESS, _parent(), 19)),
    "code": lambda: str(mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC)),
    "own code": lambda: _written_page(mmap.PROT_READ | mmap.PROT_EXEC),
    "data": lambda: _written_page(mmap.PROT_READ),
    "variables": lambda: str(dict(os.environ)),
    "crash": lambda: str(ctypes.string_at(8)),
    "abort": lambda: str(os.abort()),
    "nothing": lambda: "nothing",
}


def attempt(name: str) -> str:
    try:
        return ATTEMPTS[name]()
    except (OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(runner.main(sys.argv[2:], lambda: attempt(sys.argv[1])))
