"""This process's own standard streams as `shell.system.File`s, and its terminal's modes.

A descriptor's flags are shared with other programs, so none is made non-blocking: reading waits until there is
something, writing is done in a thread.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import termios

from cognu.errors import E, FileError, from_oserror
from cognu.shell.state import Streams
from cognu.shell.system import TERMINAL
from cognu.world import Threads

STDIN, STDOUT, STDERR = "/dev/stdin", "/dev/stdout", "/dev/stderr"
"""The names of the streams where they are no terminal; the terminal's server shows them there."""
READ_SIZE = 64 * 1024


class HostInput:
    """Reads a descriptor. Several may ask at once, and are served in turn; a cancelled read takes nothing."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.path = path
        self._descriptor = descriptor
        self._turn = asyncio.Lock()
        kind = _kind(descriptor)
        self._may_wait = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or os.isatty(descriptor)

    async def read(self, count: int = READ_SIZE) -> bytes:
        async with self._turn:
            while True:
                if self._may_wait:
                    await self._readable()
                try:
                    return os.read(self._descriptor, min(count, READ_SIZE))
                except BlockingIOError:
                    continue  # somebody else took it, or made the descriptor non-blocking
                except OSError as error:
                    raise from_oserror(error, self.path) from None

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._descriptor, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._descriptor)

    async def write(self, data: bytes) -> None:
        raise FileError(E.BADF, self.path)

    async def close(self) -> None:
        """The descriptor belongs to the process and stays."""


class HostOutput:
    """Writes a descriptor, whole writes in the order of the calls. What was begun is written even if cancelled."""

    def __init__(self, descriptor: int, path: str, threads: Threads) -> None:
        self.path = path
        self._descriptor = descriptor
        self._threads = threads
        self._turn = asyncio.Lock()
        self._begun: asyncio.Future[None] | None = None

    async def read(self, count: int = READ_SIZE) -> bytes:
        raise FileError(E.BADF, self.path)

    async def write(self, data: bytes) -> None:
        async with self._turn:
            if self._begun is not None:
                await asyncio.wait([self._begun])
            self._begun = asyncio.ensure_future(self._threads.run(self._write_all, bytes(data)))
            # Looked at here, for its caller may be gone: asyncio complains of errors nobody saw.
            self._begun.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(self._begun)

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                raise from_oserror(error, self.path) from None

    async def close(self) -> None:
        """The descriptor belongs to the process and stays."""


def host_streams(threads: Threads) -> Streams:
    """Descriptors 0, 1 and 2. Those that are a terminal are called `/dev/cons`."""
    paths = [TERMINAL if os.isatty(number) else path for number, path in enumerate((STDIN, STDOUT, STDERR))]
    return Streams(HostInput(0, paths[0]), HostOutput(1, paths[1], threads), HostOutput(2, paths[2], threads))


def _kind(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_mode
    except OSError as error:
        raise from_oserror(error, f"fd {descriptor}") from None


class Modes:
    """A terminal's modes; `restore` brings back those it had at the start."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._saved = termios.tcgetattr(descriptor) if os.isatty(descriptor) else None

    def raw(self) -> None:
        """Bytes as they are typed, not shown, Ctrl-C among them (cons(3)); output is treated as before.

        Raises NXIO if there is no terminal.
        """
        if self._saved is None:
            raise FileError(E.NXIO, "consctl", "the input is not a terminal")
        modes = termios.tcgetattr(self._descriptor)
        modes[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        modes[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, modes)

    def restore(self) -> None:
        if self._saved is not None:
            try:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)
            except termios.error:
                self._saved = None  # the terminal is gone

    def size(self) -> tuple[int, int]:
        """(rows, columns). Raises NXIO if there is no terminal."""
        for descriptor in (self._descriptor, 1, 2):
            try:
                columns, rows = os.get_terminal_size(descriptor)
                return rows, columns
            except OSError:
                continue
        raise FileError(E.NXIO, "winsize", "there is no terminal")
