"""A wall around this process: after `raise_` it can do nothing to the host but compute, and use what it has open.

Two of Linux's means, each enough for most of it, so that a hole in one is not one in the wall:

- Landlock (landlock(7)): no file or directory by any path, no TCP port, no abstract socket of others, no signal to
  others, as far as the kernel knows of these. It holds for the calling thread and those it starts, so `begin` comes
  before the first of them. With it go the host's capabilities (capabilities(7)): what root may do beyond others.
- seccomp (seccomp(2)), by libseccomp, for all threads: a list of the calls that a program which only computes and
  talks over open sockets makes. `raise_` comes when everything is loaded and every thread is there: from then on no
  thread is started and no page made executable.

What is not on the list fails with EPERM: C libraries and interpreters try one thing and then another, and should not
die of it after an update. What no honest runner would ever call (execve, ptrace, socket …) ends the process at once
(SIGSYS), so that a program which broke out of its sandbox gets no second try, and its node hears of the first.

libseccomp is used itself, through ctypes: its Python bindings come with the system's Python alone. Landlock has three
system calls and no library.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from cognu.errors import E, FileError

OLDEST_ABI = 1
"""Of Landlock. 4 brought TCP, 6 signals and abstract sockets; seccomp refuses all of these by itself."""
OLDEST_SECCOMP = 3
"""libseccomp's API level that knows of KILL_PROCESS and of all threads at once (Linux 4.14)."""
LIBRARY = "libseccomp.so.2"

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# linux/landlock.h; the numbers of the calls are the same on every architecture.
_CREATE_RULESET, _RESTRICT_SELF, _ASK_VERSION = 444, 446, 1
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""By the ABI that brought them: all that can be done with files."""
_TCP_ABI, _TCP_RIGHTS = 4, 0b11
# linux/capability.h
_CAPABILITY_VERSION_3, _CAPABILITY_WORDS = 0x20080522, 6
_SCOPE_ABI, _SCOPES = 6, 0b11
# seccomp.h
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_OTHER_MACHINE, _ALL_THREADS, _OPTIMIZE = 2, 4, 8
_NOT_EQUAL, _EQUAL, _MASKED_EQUAL = 1, 4, 7

ALLOWED = (
    # what is open
    "read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg", "close", "fstat", "lseek",
    # waiting
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl", "poll", "ppoll", "select", "pselect6", "futex",
    "futex_time64", "clock_nanosleep", "nanosleep", "sched_yield", "restart_syscall",
    # memory
    "munmap", "mremap", "madvise", "brk", "membarrier", "memfd_create", "ftruncate",
    # clocks, random numbers, itself
    "clock_gettime", "clock_getres", "gettimeofday", "time", "getrandom", "getpid", "gettid", "getrusage",
    "sched_getaffinity", "set_robust_list", "rseq",
    # signals to itself, and the end
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "exit", "exit_group",
)  # fmt: skip
NEVER_EXECUTABLE = ("mmap", "mmap2", "mprotect")
"""Allowed unless their third argument asks for PROT_EXEC."""
SEALING = ("fcntl", "fcntl64")
"""Allowed to seal a file in memory (fcntl(2), F_ADD_SEALS): the engine keeps a program's first memory in one."""
SELF_ONLY = ("tgkill",)
"""Allowed with this process as the first argument: how abort(3) ends it. At any other it is an attack."""
FORBIDDEN = (
    "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "open_by_handle_at", "mount", "umount2",
    "pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "userfaultfd", "keyctl", "add_key", "request_key", "init_module", "finit_module",
    "delete_module", "kexec_load", "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "capset",
    "personality", "seccomp",
)  # fmt: skip
_PROT_EXEC = 4
_F_ADD_SEALS = 1033


class Missing(NamedTuple):
    """Why there can be no wall here, and what to do."""

    what: str
    remedy: str


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = (
        ("argument", ctypes.c_uint), ("how", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64),
    )  # fmt: skip


class _Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`."""

    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


def missing() -> list[Missing]:
    """What this host lacks for a wall; nothing if `begin` and `raise_` will do. Changes nothing."""
    if sys.platform != "linux":
        return [Missing(f"{platform.system()} has neither Landlock nor seccomp", "isolate programs on a Linux machine")]
    found = []
    if landlock_abi() < OLDEST_ABI:
        remedy = "use Linux 5.13 or newer, with landlock among the modules of the boot option lsm="
        found.append(Missing("the kernel has no Landlock", remedy))
    try:
        level = _seccomp().seccomp_api_get()
    except FileError as error:
        found.append(Missing(error.detail, "install it: apt install libseccomp2, dnf install libseccomp"))
    else:
        if level < OLDEST_SECCOMP:
            remedy = "use Linux 4.14 or newer, with CONFIG_SECCOMP_FILTER"
            found.append(Missing("the kernel's seccomp is too old", remedy))
    return found


def check() -> None:
    """Raises NOWALL, naming what is missing and the remedy."""
    lacking = missing()
    if lacking:
        raise FileError(E.NOWALL, "", "; ".join(f"{what} ({remedy})" for what, remedy in lacking))


def landlock_abi() -> int:
    """The kernel's version of Landlock; 0 if it has none, or it is switched off."""
    return max(0, _system_call(_CREATE_RULESET, None, 0, _ASK_VERSION))


def die_with_parent(parent: int) -> None:
    """From now on this process is killed when `parent`'s thread that started it ends. Raises SRCH if it has."""
    _prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        raise FileError(E.SRCH, f"process {parent}")


def begin() -> None:
    """The part of the wall that holds for this thread and those it will start: files, ports, signals, privileges.

    A node that is root's has a runner that is root's, since its limits and its share of the processor are set from
    outside; but without a capability, which it can never have again. Nothing can be imported any more. Raises NOWALL.
    """
    abi = landlock_abi()
    if abi < OLDEST_ABI:
        check()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    files = sum(rights for since, rights in _FILE_RIGHTS.items() if since <= abi)
    rules = _Ruleset(files, _TCP_RIGHTS if abi >= _TCP_ABI else 0, _SCOPES if abi >= _SCOPE_ABI else 0)
    # Older kernels know a shorter structure, and refuse a longer one unless what they don't know is 0.
    ruleset = _system_call(_CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    if ruleset < 0:
        raise FileError(E.NOWALL, "landlock_create_ruleset", os.strerror(ctypes.get_errno()))
    try:
        if _system_call(_RESTRICT_SELF, ruleset, 0, 0):
            raise FileError(E.NOWALL, "landlock_restrict_self", os.strerror(ctypes.get_errno()))
    finally:
        os.close(ruleset)
    none = (ctypes.c_uint32 * _CAPABILITY_WORDS)()  # effective, permitted and inheritable ones, in two words each
    if _libc().capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), none):
        raise FileError(E.NOWALL, "capset", os.strerror(ctypes.get_errno()))


class Filter:
    """The rest of the wall, made ready while files can still be opened. `raise_` puts it up."""

    def __init__(self) -> None:
        """Raises NOWALL."""
        self._library = library = _seccomp()
        self._context = library.seccomp_init(0x00050000 | 1)  # what is not named: EPERM
        if not self._context:
            raise FileError(E.NOWALL, LIBRARY, "seccomp_init")
        _must("all threads", library.seccomp_attr_set(self._context, _ALL_THREADS, 1))
        # The calls of another kind of machine (i386's on x86-64) have other numbers, and go by no list.
        _must("other machines", library.seccomp_attr_set(self._context, _OTHER_MACHINE, _KILL))
        library.seccomp_attr_set(self._context, _OPTIMIZE, 2)  # a tree; older libraries have only the list
        for name in ALLOWED:
            self._rule(_ALLOW, name)
        for name in NEVER_EXECUTABLE:
            self._rule(_ALLOW, name, _Comparison(2, _MASKED_EQUAL, _PROT_EXEC, 0))
        for name in SEALING:
            self._rule(_ALLOW, name, _Comparison(1, _EQUAL, _F_ADD_SEALS, 0))
        for name in SELF_ONLY:
            self._rule(_ALLOW, name, _Comparison(0, _EQUAL, os.getpid(), 0))
            self._rule(_KILL, name, _Comparison(0, _NOT_EQUAL, os.getpid(), 0))
        for name in FORBIDDEN:
            self._rule(_KILL, name)

    def raise_(self) -> None:
        """For all threads of this process, for good. Raises NOWALL."""
        _must("seccomp_load", self._library.seccomp_load(self._context))

    def _rule(self, action: int, name: str, *comparisons: _Comparison) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # this machine, or this library, has no such call: then it stays forbidden
        array = (_Comparison * len(comparisons))(*comparisons)
        _must(name, self._library.seccomp_rule_add_array(self._context, action, number, len(comparisons), array))


def _must(what: str, result: int) -> None:
    if result < 0:
        raise FileError(E.NOWALL, what, os.strerror(-result))


def _seccomp() -> Any:
    """The library. Raises NOWALL if it can't be loaded."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise FileError(E.NOWALL, "", f"{LIBRARY} is not there") from None
    pointer, word, number = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
    library.seccomp_init.restype = pointer
    library.seccomp_init.argtypes = (word,)
    library.seccomp_attr_set.argtypes = (pointer, number, word)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (pointer, word, number, ctypes.c_uint, pointer)
    library.seccomp_load.argtypes = (pointer,)
    return library


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    if _libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero):
        raise FileError(E.NOWALL, f"prctl {option}", os.strerror(ctypes.get_errno()))


def _system_call(number: int, *arguments: object) -> int:
    call: Callable[..., int] = _libc().syscall
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return call(ctypes.c_long(number), *words)


def _libc() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library
