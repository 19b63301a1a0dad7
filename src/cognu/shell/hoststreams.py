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
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cognu.errors import E, FileError, from_oserror
from cognu.shell.state import Streams
from cognu.shell.system import TERMINAL
from cognu.world import Threads

STDIN, STDOUT, STDERR = "/dev/stdin", "/dev/stdout", "/dev/stderr"
"""The names of the streams where they are no terminal; the terminal's server shows them there."""
READ_SIZE = 64 * 1024


class Escapes:
    """`~.` at the beginning of a line, as in ssh(1): what is typed goes through it; `~~` there is one `~`."""

    def __init__(self) -> None:
        self._begins = True  # a line, with the next byte
        self._tilde = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether `~.` was typed; what follows that is dropped."""
        passed = bytearray()
        for byte in data:
            if self._tilde:
                self._tilde = False
                if byte == ord("."):
                    return bytes(passed), True
                passed.append(ord("~"))
                self._begins = False
                if byte == ord("~"):
                    continue
            elif byte == ord("~") and self._begins:
                self._tilde = True
                continue
            passed.append(byte)
            self._begins = byte in b"\r\n"
        return bytes(passed), False

    def end(self) -> bytes:
        """What was held back."""
        return b"~" if self._tilde else b""


class HostInput:
    """Reads a descriptor. Several may ask at once, and are served in turn; a cancelled read takes nothing.

    While somebody listens for escapes, what is typed is taken as it comes, whether or not anybody asks, and waits here.
    It is read in the pieces in which the terminal gave it, never two together: a shell that reads a line there must not
    have the next one too, which is for the command (termios(3), canonical mode).
    `answer` goes before all others: what is typed to a question must not be taken by who reads the terminal meanwhile.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self.path = path
        self._descriptor = descriptor
        self._turn = asyncio.Lock()
        kind = _kind(descriptor)
        self._is_terminal = os.isatty(descriptor)
        self._may_wait = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or self._is_terminal
        self._held: deque[bytes] = deque()  # taken and not read yet, as it came
        self._room = READ_SIZE  # bytes that may still come to that before it is read
        self._over: bytes | FileError | None = None  # what comes after that: `b""` at the end, or a refusal
        self._waiting: asyncio.Future[bool] | None = None  # whose turn it is; true: the descriptor can be read
        self._answered = asyncio.Event()  # not set while a question waits for what is typed
        self._answered.set()
        self._escapes: Escapes | None = None
        self._escaped: Callable[[], object] = lambda: None

    async def read(self, count: int = READ_SIZE) -> bytes:
        async with self._turn:
            while True:
                while not self._answered.is_set():
                    await self._answered.wait()
                if self._held or self._over is not None:
                    break
                readable = not self._may_wait or await self._readable()
                if readable and self._escapes is None and self._answered.is_set():
                    self._take(min(count, READ_SIZE))
            if self._held:
                data = self._next(count)
            else:
                over, self._over = self._over, None
                if isinstance(over, FileError):
                    raise over
                data = b""
            self._listen()
            return data

    async def answer(self) -> bytes:
        """The next line that is typed, from now on; `b""` at the end of the input. One question at a time.

        What waits here to be read was typed before the question and is dropped, as is what waits in the terminal.
        """
        self._answered.clear()
        try:
            await self._drop()
            line = b""
            while not line.endswith((b"\n", b"\r")) and (self._held or self._over is None):
                if self._held:
                    line += self._next(READ_SIZE)
                elif await self._readable():
                    self._take(READ_SIZE)
            if self._over == b"":
                self._over = None  # of a terminal that is no end for good
            return line
        finally:
            self._answered.set()
            self._listen()

    async def discard(self) -> None:
        """What was typed and not read yet is dropped, here and in the terminal; if a question waits here, after it."""
        while not self._answered.is_set():
            await self._answered.wait()
        self._answered.clear()
        try:
            await self._drop()
        finally:
            self._answered.set()
            self._listen()

    async def _drop(self) -> None:
        """The same, with `_answered` not set: nobody may find that the terminal can be read, and then read in vain."""
        while self._waiting is not None:
            self._wake(False)
            await asyncio.sleep(0)  # until that reader has let go of the descriptor
        if os.isatty(self._descriptor):
            termios.tcflush(self._descriptor, termios.TCIFLUSH)
        while self._held:
            self._next(READ_SIZE)
        if self._over == b"":
            self._over = None
        self._listen()

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._held.append(piece)
            self._room -= len(piece)

    def _next(self, count: int) -> bytes:
        """The first piece that waits, or so much of it."""
        piece = self._held.popleft()
        if len(piece) > count:
            self._held.appendleft(piece[count:])
        self._room += len(piece[:count])
        return piece[:count]

    def _take(self, count: int) -> None:
        """One read of the descriptor; nothing if somebody else took it, or made it non-blocking."""
        try:
            data = os.read(self._descriptor, count)
        except BlockingIOError:
            return
        except OSError as error:
            self._over = from_oserror(error, self.path)
            return
        if not data:
            # A terminal that was hung up gives the same as Ctrl-D (tty_ioctl(4)), and is no terminal any more. Nobody
            # typed that end: a shell that is kept somewhere must not take it for one.
            gone = self._is_terminal and not os.isatty(self._descriptor)
            self._over = FileError(E.NXIO, self.path, "the terminal was closed") if gone else b""
        elif self._escapes is None:
            self._keep(data)
        else:
            passed, escaped = self._escapes.feed(data)
            self._keep(passed)
            if escaped:
                self._escaped()

    async def _readable(self) -> bool:
        """Until there is something; whether that is in the descriptor."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[bool] = loop.create_future()
        self._waiting = ready
        if self._escapes is None:
            loop.add_reader(self._descriptor, self._wake, True)
        try:
            return await ready
        finally:
            self._waiting = None
            if self._escapes is None:
                loop.remove_reader(self._descriptor)

    def _wake(self, readable: bool) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(readable)

    @contextmanager
    def escapes(self, escaped: Callable[[], object]) -> Iterator[None]:
        """While it lasts, `~.` is taken out of what is typed, and `escaped` is called. Only for a terminal."""
        self._escapes, self._escaped = Escapes(), escaped
        self._listen()
        try:
            yield
        finally:
            self._keep(self._escapes.end())
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._escapes = None
            self._wake(False)

    def _listen(self) -> None:
        """Take what is typed, unless there is no room for it, or it is over."""
        if self._escapes is None:
            return
        loop = asyncio.get_running_loop()
        if self._over is None and self._room > 0:
            loop.add_reader(self._descriptor, self._take_typed)
        else:
            loop.remove_reader(self._descriptor)

    def _take_typed(self) -> None:
        self._take(READ_SIZE)
        self._listen()
        if self._held or self._over is not None:
            self._wake(False)

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
        self._mute = False

    def mute(self) -> None:
        """Write nothing more, and say so to nobody."""
        self._mute = True

    async def read(self, count: int = READ_SIZE) -> bytes:
        raise FileError(E.BADF, self.path)

    async def write(self, data: bytes) -> None:
        if self._mute:
            return
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

    def mend(self) -> None:
        """Where lines are to be typed: a terminal that was left raw, by something killed, gets the usual modes back."""
        if self._saved is None or self._saved[3] & (termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG):
            return
        self._saved[0] |= termios.ICRNL | termios.IXON
        self._saved[1] |= termios.OPOST | termios.ONLCR
        self._saved[3] |= termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG
        self.restore()

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
