"""The real world: this host's clock, random numbers, threads, processes, network and disk.

`real_world()` is what a node hands in; nothing else below the faces imports the host. The network is in
`net.py`, the node's own files in `disk.py`, directories of the host in `host_tree.py`, TLS in `tls.py`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import shutil
import socket
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from cognu.errors import E, FileError, Misuse
from cognu.world import Bounds, Child, Piped, Stream, World, piped
from cognu.world.desktop import find_helpers
from cognu.world.disk import RealDisk
from cognu.world.machine import RealMachine
from cognu.world.neighbours import RealNeighbours
from cognu.world.net import RealNetwork
from cognu.world.refusals import refusals
from cognu.world.sockets import SocketStream

T = TypeVar("T")
log = logging.getLogger("cognu.world")

THREAD_LIMIT = 16
ASKING_LIMIT = 64
"""Threads that may wait for the host's resolver, each for one name."""

MAX_SAID = 1 << 13
"""Bytes of what a joined process says on its standard error that go to the log."""
_CPU_CLOCK = 2
"""CPUCLOCK_SCHED: a process's own time, by the scheduler's account (linux/posix-timers.h)."""

# CLOCK_MONOTONIC stands still in suspend on Linux and runs on macOS; CLOCK_BOOTTIME is Linux's that runs on
# (clock_gettime(2), clock_gettime(3) of macOS).
_MONOTONIC: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class RealClock:
    def now(self) -> int:
        return time.time_ns()

    def monotonic(self) -> int:
        return time.clock_gettime_ns(_MONOTONIC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class RealRandom:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)


class _Work:
    """One call on its way through the pool."""

    __slots__ = ("arguments", "function", "future", "loop")

    def __init__(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()

    def tell(self, result: object, failure: BaseException | None) -> None:
        # A closed loop means that nobody waits any more.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._settle, result, failure)

    def _settle(self, result: object, failure: BaseException | None) -> None:
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(failure)


def _attempt(function: Callable[..., Any], arguments: tuple[object, ...]) -> tuple[object, BaseException | None]:
    """The result, or what was raised.

    An error's traceback holds the frames below it, and these their callers'. So no frame here may hold what will hold
    the error: such a ring, with all that its frames hold, would stay until the garbage collector comes by.
    """
    try:
        return function(*arguments), None
    except StopIteration as error:
        failure = RuntimeError("StopIteration")  # A future can't carry one.
        failure.__cause__ = error
        return None, failure
    except BaseException as error:
        return None, error


class RealThreads:
    """At most `limit` threads, started when needed. Daemons: a call stuck in the host must not hold up the
    node's end.
    """

    def __init__(self, limit: int = THREAD_LIMIT) -> None:
        self._limit = limit
        # The condition guards everything below.
        self._changed = threading.Condition()
        self._waiting: deque[_Work] = deque()
        self._threads = 0
        self._idle = 0
        self._closed = False

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Raises what `function` raises; `Misuse(CANCELED)` after `close`. Not begun when cancelled: never
        runs.
        """
        work = _Work(function, args)
        with self._changed:
            if self._closed:
                raise Misuse(E.CANCELED, "threads")
            self._waiting.append(work)
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._threads < self._limit:
                self._start(work)
        try:
            result: T = await work.future
            return result
        finally:
            del work  # see _attempt

    def _start(self, work: _Work) -> None:
        try:
            threading.Thread(target=self._serve, name="cognu-worker", daemon=True).start()
        except RuntimeError as error:
            # The host gives no more threads; those there are will do, unless there are none.
            if not self._threads:
                self._waiting.remove(work)
                raise FileError(E.AGAIN, "threads", str(error)) from error
        else:
            self._threads += 1

    def close(self) -> None:
        """Refuse new calls, fail those not begun with `FileError(CANCELED)`, and let the threads end with
        their calls.
        """
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for work in waiting:
            work.tell(None, FileError(E.CANCELED))

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            if not work.future.cancelled():
                work.tell(*_attempt(work.function, work.arguments))
            del work  # The result belongs to who asked; an idle thread must not keep it alive.

    def _next(self) -> _Work | None:
        with self._changed:
            self._idle += 1
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None


class RealChild:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._said: asyncio.Task[None] | None = None
        if process.stderr is not None:
            self._said = asyncio.get_running_loop().create_task(_log_said(process.pid, process.stderr))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        status = await self._process.wait()
        if self._said is not None:
            await asyncio.wait([self._said])
        return status if status >= 0 else 128 - status

    def signal(self, number: int) -> None:
        """Raises `FileError(SRCH)` if it has ended."""
        subject = f"process {self.pid}"
        if self._process.returncode is not None:
            raise FileError(E.SRCH, subject)
        with refusals(subject):
            # Not by asyncio's send_signal: that asks for the status first, and whoever waits for it then gets none.
            os.kill(self.pid, number)

    def bound(self, bounds: Bounds) -> None:
        if not hasattr(resource, "prlimit"):
            raise FileError(E.NOTSUP, f"process {self.pid}", "this host has no prlimit")
        wanted = (
            (resource.RLIMIT_AS, bounds.address_space), (resource.RLIMIT_DATA, bounds.data),
            (resource.RLIMIT_CPU, bounds.cpu), (resource.RLIMIT_FSIZE, bounds.file_size),
            (resource.RLIMIT_NOFILE, bounds.open_files),
        )  # fmt: skip
        for what, most in wanted:
            if most is not None:
                _limit(self.pid, what, most)

    def weigh(self, nice: int) -> None:
        subject = f"process {self.pid}"
        with refusals(subject), suppress(ProcessLookupError, FileNotFoundError):
            # On Linux each thread has a niceness of its own (setpriority(2), C library/kernel differences).
            for thread in os.listdir(f"/proc/{self.pid}/task"):
                try:
                    os.setpriority(os.PRIO_PROCESS, int(thread), nice)
                except PermissionError:
                    raise FileError(E.PERM, subject, "this host lets a share only fall") from None

    def used(self) -> int:
        # The clock of another process by its number, as clock_getcpuclockid(3) makes it.
        with refusals(f"process {self.pid}"):
            try:
                return time.clock_gettime_ns(~self.pid << 3 | _CPU_CLOCK)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise FileError(E.SRCH, f"process {self.pid}") from None


class RealSpawn:
    def own_pid(self) -> int:
        return os.getpid()

    async def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str | None = None,
        pass_fds: Sequence[int] = (),
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        memory: int | None = None,
        open_files: int | None = None,
    ) -> Child:
        """`env` is the whole environment; `pass_fds` keep their numbers, every other descriptor is closed."""
        if not argv:
            raise FileError(E.INVAL, "", "no program named")
        with refusals(argv[0]):
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(env),
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                close_fds=True,
                stdin=DEVNULL if stdin is None else stdin,
                stdout=DEVNULL if stdout is None else stdout,
                stderr=DEVNULL if stderr is None else stderr,
            )
        try:
            _bound(process.pid, memory, open_files)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return RealChild(process)

    async def start_joined(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> tuple[Child, Stream]:
        with refusals(argv[0]):
            ours, theirs = socket.socketpair()
        try:
            child = await self.start(argv, env, cwd, stdin=theirs.fileno(), stderr=PIPE)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return child, SocketStream(ours, f"process {child.pid}")

    async def start_piped(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str, errors: bool = True, bounds: Bounds | None = None
    ) -> Piped:
        try:
            return await piped.start(argv, env, cwd, errors, bounds, RealChild)
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            raise FileError(E.NOENT, error.subject, f"the host has no {_missing(argv[0], cwd)}") from None


def _missing(program: str, directory: str) -> str:
    return f"program {program}" if os.path.isdir(directory) else f"directory {directory}"


async def _log_said(pid: int, errors: asyncio.StreamReader) -> None:
    """What a process says on its standard error until it ends goes to the log, as far as there is room for it.

    All of it is read, so that the process does not wait. An attacker may have written it: one line, no controls.
    """
    said = b""
    while piece := await errors.read(MAX_SAID):
        said += piece[: MAX_SAID - len(said)]
    text = said.decode("utf-8", "replace").strip()
    if text:
        log.warning("process %d: %s", pid, "".join(char if char.isprintable() else repr(char)[1:-1] for char in text))


def _bound(pid: int, memory: int | None, open_files: int | None) -> None:
    """Limit another process. One that has ended already needs none."""
    wanted = [(resource.RLIMIT_AS, memory), (resource.RLIMIT_NOFILE, open_files)]
    for what, most in wanted:
        if most is None:
            continue
        if not hasattr(resource, "prlimit"):
            log.warning("process %d runs without a limit: this host has no prlimit", pid)
            return
        _limit(pid, what, most)


def _limit(pid: int, what: int, most: int) -> None:
    with refusals(f"process {pid}"), suppress(ProcessLookupError):
        hard = resource.prlimit(pid, what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.prlimit(pid, what, (most, most))


def real_world() -> World:
    """This host. Call it once per node; it opens nothing before it is used."""
    return World(
        RealClock(),
        RealRandom(),
        RealThreads(),
        RealNetwork(RealThreads(ASKING_LIMIT)),
        RealDisk(),
        RealSpawn(),
        RealNeighbours(),
        RealMachine(),
        find_helpers(os.environ, shutil.which, sys.platform),
    )
