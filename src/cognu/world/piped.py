"""Programs of this host with pipes to this process, each in a process group of its own: `RealSpawn.start_piped`.

Nothing is read ahead: what a program says waits in the host's pipe (64 KiB on Linux) until somebody reads it, and the
program waits then too. A read takes its bytes in the same turn of the loop in which it hands them up.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from signal import Signals

from cognu.errors import E, FileError
from cognu.world import Bounds, Child, bounded
from cognu.world.refusals import refusals

BOUNDED = (sys.executable, "-I", "-S", bounded.__file__)


class _End:
    """Our end of a pipe. One waits at it at a time, which the caller sees to."""

    def __init__(self, number: int) -> None:
        os.set_blocking(number, False)
        self._number: int | None = number
        self._waiting: asyncio.Future[None] | None = None

    async def read(self, count: int) -> bytes:
        """`b""` at the end, and after `close`."""
        while self._number is not None:
            with refusals("pipe"):
                try:
                    return os.read(self._number, count)
                except BlockingIOError:
                    pass
            await self._ready(reading=True)
        return b""

    async def write(self, data: bytes | memoryview) -> int:
        """How many bytes the host took, at least one. Raises PIPE if nobody reads them any more."""
        while self._number is not None:
            with refusals("pipe"):
                try:
                    return os.write(self._number, data)
                except BlockingIOError:
                    pass
            await self._ready(reading=False)
        raise FileError(E.PIPE, "pipe")

    async def _ready(self, *, reading: bool) -> None:
        assert self._number is not None
        loop, number = asyncio.get_running_loop(), self._number
        begin, end = (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
        self._waiting = ready = loop.create_future()
        begin(number, _wake, ready)
        try:
            await ready
        finally:
            self._waiting = None
            if self._number is not None:
                end(number)

    def close(self) -> None:
        """Whoever waits is woken. May be called twice."""
        number, self._number = self._number, None
        if number is None:
            return
        if self._waiting is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(number)
            loop.remove_writer(number)
            _wake(self._waiting)
        os.close(number)


def _number(word: str) -> int:
    """A signal's. Raises USAGE for what is none on this host."""
    name = f"SIG{word.upper().removeprefix('SIG')}"
    for known in Signals:
        if name == known.name or word == str(known.value):
            return known.value
    raise FileError(E.USAGE, word, "a signal's name, or number on this host")


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class RealPiped:
    def __init__(self, child: Child, given: _End, output: _End, errors: _End | None) -> None:
        self._child = child
        self._input, self._output, self._errors = given, output, errors

    @property
    def pid(self) -> int:
        return self._child.pid

    async def read(self, count: int) -> bytes:
        return await self._output.read(count)

    async def read_errors(self, count: int) -> bytes:
        return await self._errors.read(count) if self._errors is not None else b""

    async def write(self, data: bytes | memoryview) -> int:
        return await self._input.write(data)

    def close_input(self) -> None:
        self._input.close()

    def close_output(self) -> None:
        self._output.close()

    def close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()

    async def wait(self) -> int:
        return await self._child.wait()

    def weigh(self, nice: int) -> None:
        self._child.weigh(nice)

    def kill_group(self, signal: str = "KILL") -> None:
        number = _number(signal)
        # The number is nobody else's while one of the group is left, be it not the first.
        with suppress(ProcessLookupError, PermissionError):  # macOS: PERM for a group of zombies alone
            os.killpg(self.pid, number)

    def close(self) -> None:
        self.close_input()
        self.close_output()
        self.close_errors()


def _limits(bounds: Bounds | None) -> str:
    """As `bounded` takes them; empty if there are none."""
    if bounds is None:
        return ""
    wanted = (
        ("AS", bounds.address_space), ("DATA", bounds.data), ("CPU", bounds.cpu), ("FSIZE", bounds.file_size),
        ("NOFILE", bounds.open_files), ("NPROC", bounds.processes),
    )  # fmt: skip
    return ",".join(f"{name}={most}" for name, most in wanted if most is not None)


async def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    errors: bool,
    bounds: Bounds | None,
    child: Callable[[Process], Child],
) -> RealPiped:
    """What `Spawn.start_piped` says; `child` makes its handle."""
    limits = _limits(bounds)
    ours: list[_End] = []
    theirs: list[int] = []
    begun: _End | None = None
    try:
        with refusals(argv[0]):
            for reading in (False, True, True)[: 3 if errors else 2]:
                near, far = os.pipe()[:: 1 if reading else -1]
                theirs.append(far)
                ours.append(_End(near))
            given = argv
            if limits:
                near, tell = os.pipe()
                theirs.append(tell)
                begun = _End(near)
                given = [*BOUNDED, str(tell), limits, "1" if "LC_CTYPE" in env else "0", *argv]
            process = await asyncio.create_subprocess_exec(
                *given,
                env=dict(env),
                cwd=cwd,
                close_fds=True,
                pass_fds=theirs[3 if errors else 2 :],
                start_new_session=True,
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2] if errors else DEVNULL,
            )
            while theirs:
                os.close(theirs.pop())
            if begun is not None:
                await _has_begun(begun, process, argv[0])
    except BaseException:
        for end in ours:
            end.close()
        raise
    finally:
        if begun is not None:
            begun.close()
        for number in theirs:
            os.close(number)
    return RealPiped(child(process), ours[0], ours[1], ours[2] if errors else None)


async def _has_begun(begun: _End, process: Process, path: str) -> None:
    """Return when the program runs within its bounds; raise why it can't, with nothing left of it."""
    try:
        failed = await begun.read(16)
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if failed:
        await process.wait()
        raise OSError(int(failed), os.strerror(int(failed)), path)
