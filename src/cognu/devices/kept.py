"""A terminal that outlives the one it is shown at: what a session that is kept has as `/dev/cons` and the rest.

The files are those of terminal(4). Between them and the terminal that the session is shown at, if there is one now:

- what is written goes into a ring of the last bytes, from which it is shown. A writer waits while a terminal is there
  and has not taken a ring's worth; with none there it never waits, and the oldest bytes go.
- what is typed is taken as it comes, in the pieces in which it comes, up to a bound, and waits for whoever reads.
- raw mode is remembered, and the next terminal gets it. The size is the last one that was told; who waits for a change
  of it is told when another terminal comes, so that it draws anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from cognu.devices.sequences import quiet
from cognu.errors import CognuError, E, FileError
from cognu.files.server import Caller
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer
from cognu.world.timing import end_tasks

RING: Final = 64 * 1024
"""Bytes of output that are kept, and shown to a terminal that comes."""
TYPED: Final = 64 * 1024
"""Bytes of input that may wait, beyond which none is taken from the terminal."""
PIECES: Final = 256
"""Pieces of it, which may be empty: ends of the input."""


class Shown(Protocol):
    """A terminal that a session can be shown at. Every method raises `CognuError` once it is lost."""

    async def typed(self) -> bytes:
        """What was typed; empty for an end of the input (Ctrl-D)."""

    async def show(self, data: bytes) -> None:
        """All of it."""

    async def control(self, word: bytes) -> None:
        """`rawon`, `rawoff`, `suspend` or `discard`, as consctl takes them."""

    async def size(self) -> bytes:
        """`ROWS COLUMNS` and a newline: at once the first time, then each time it changed."""


class Ring:
    """The last bytes of a stream, by their positions in it."""

    def __init__(self, size: int = RING) -> None:
        self.size: Final = size
        self.end = 0
        self._data = bytearray()

    @property
    def begin(self) -> int:
        """The position of the oldest byte that is here."""
        return self.end - len(self._data)

    def put(self, data: bytes | memoryview) -> None:
        self._data += data[-self.size :]
        self.end += len(data)
        del self._data[: -self.size]

    def after(self, position: int) -> bytes:
        """What came from there on, as far as it is here."""
        return bytes(self._data[max(position - self.begin, 0) :])

    def again(self) -> bytes:
        """All, as a terminal can be shown it: from a line's beginning if older bytes are gone, and asking nothing."""
        data = self.after(0)
        if self.begin > 0:
            _, newline, rest = data.partition(b"\n")
            data = rest if newline else data
        return quiet(data)


class KeptTerminal:
    """What the files work on. `show_at` joins it to a terminal, for as long as that is there."""

    def __init__(self, ring: int = RING) -> None:
        self.ring = Ring(ring)
        self._at: Shown | None = None
        self._shown = 0  # the position up to which the terminal took what was written
        self._typed: deque[bytes] = deque()
        self._size = b""
        self._turn_of_size = 0  # grows with each terminal that comes
        self._raw: set[object] = set()
        self._writing = asyncio.Lock()  # one at a time, so that long writes are not mixed
        self._waiting: set[asyncio.Future[None]] = set()

    # -- who waits for a change looks again after each ----------------------------------------------------------------

    def _changed(self) -> None:
        for waiter in tuple(self._waiting):
            if not waiter.done():
                waiter.set_result(None)

    def _waiter(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        waiter.add_done_callback(self._waiting.discard)
        return waiter

    async def _change(self) -> None:
        await self._waiter()

    # -- the terminal's side ------------------------------------------------------------------------------------------

    @property
    def is_shown(self) -> bool:
        return self._at is not None

    async def show_at(self, terminal: Shown) -> None:
        """Until the terminal is lost, or `leave` is called for it, or this is cancelled.

        What was printed last is shown there first. Raises `CognuError` if it is lost at once; then nothing has changed.
        """
        size = await terminal.size()
        self._at = terminal
        self._size = size
        self._turn_of_size += 1
        self._shown = self.ring.begin
        self._changed()
        tasks = [
            asyncio.ensure_future(work) for work in (self._show(terminal), self._take(terminal), self._follow(terminal))
        ]
        try:
            await self._while_at(terminal, *tasks)
        finally:
            self.leave(terminal)
            await end_tasks(*tasks)

    async def _while_at(self, terminal: Shown, *tasks: asyncio.Future[None]) -> None:
        """Until one of the tasks is done, or it is not shown there any more."""
        while self._at is terminal and not any(task.done() for task in tasks):
            change = self._waiter()
            try:
                await asyncio.wait([*tasks, change], return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()

    def leave(self, terminal: Shown) -> None:
        """It is not shown there any more. May be called twice, and when it is shown elsewhere."""
        if self._at is terminal:
            self._at = None
            self._changed()

    async def drained(self) -> None:
        """Return when all was shown, or there is no terminal."""
        while self._at is not None and self._shown < self.ring.end:
            await self._change()

    async def _show(self, terminal: Shown) -> None:
        try:
            if self._raw:
                await terminal.control(b"rawon")
            at, data = self.ring.end, self.ring.again()
            while True:
                if data:
                    await terminal.show(data)
                if self._at is not terminal:
                    return
                self._shown = at
                self._changed()
                while self.ring.end == at:
                    await self._change()
                data, at = self.ring.after(at), self.ring.end
        except CognuError:
            return  # it is lost

    async def _take(self, terminal: Shown) -> None:
        try:
            while True:
                while len(self._typed) >= PIECES or sum(map(len, self._typed)) >= TYPED:
                    await self._change()
                self._typed.append(await terminal.typed())
                self._changed()
        except CognuError:
            return

    async def _follow(self, terminal: Shown) -> None:
        try:
            while size := await terminal.size():
                self._size = size
                self._changed()
        except CognuError:
            return

    # -- the session's side -------------------------------------------------------------------------------------------

    async def take(self, count: int) -> bytes:
        """The next piece that was typed, or so much of it. A read that is cancelled takes nothing."""
        while not self._typed:
            await self._change()
        piece = self._typed.popleft()
        if len(piece) > count:
            self._typed.appendleft(piece[count:])
        self._changed()
        return piece[:count]

    async def put(self, data: bytes | memoryview) -> int:
        """Print it; how much was taken, which is all."""
        rest = memoryview(data)
        async with self._writing:
            while rest:
                room = len(rest) if self._at is None else self.ring.size - (self.ring.end - self._shown)
                if room <= 0:
                    await self._change()
                    continue
                self.ring.put(rest[:room])
                rest = rest[room:]
                self._changed()
        return len(data)

    async def control(self, by: object, word: bytes) -> None:
        """A line for consctl; `by` is the open file that it was written to. Raises USAGE."""
        match word:
            case b"rawon":
                self._raw.add(by)
            case b"rawoff":
                self._raw.discard(by)
                if self._raw:
                    return
            case b"suspend" | b"discard":
                pass
            case _:
                raise FileError(E.USAGE, "consctl", "rawon; rawoff; suspend; discard")
        await self._pass_on(word)
        if word == b"discard":
            self._typed.clear()
            self._changed()

    def closed(self, by: object) -> asyncio.Task[None] | None:
        """An open consctl is gone, and the raw mode that it began. The task, if there is one, sees to that."""
        if by not in self._raw:
            return None
        self._raw.discard(by)
        return None if self._raw or self._at is None else asyncio.ensure_future(self._pass_on(b"rawoff"))

    async def _pass_on(self, word: bytes) -> None:
        """To the terminal, once it has shown what was written before. One that goes meanwhile is not waited for."""
        await self.drained()
        terminal = self._at
        if terminal is None:
            return
        task = asyncio.ensure_future(terminal.control(word))
        try:
            await self._while_at(terminal, task)
        finally:
            if not task.done():
                await end_tasks(task)
        if not task.cancelled() and isinstance(error := task.exception(), FileError) and self._at is terminal:
            raise error

    @property
    def size(self) -> str:
        """Raises NXIO before any terminal told one."""
        if not self._size:
            raise FileError(E.NXIO, "winsize", "there is no terminal")
        return self._size.decode("ascii", "replace")

    async def next_size(self, known: object) -> tuple[int, str]:
        """The size, when it is not `known`, which is what this gave before, or there is another terminal."""
        while (told := (self._turn_of_size, self.size)) == known:
            await self._change()
        return told


class _Stream(Node):
    def __init__(self, name: str, mode: int, terminal: KeptTerminal) -> None:
        super().__init__(name, mode)
        self._terminal = terminal

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return await self._terminal.take(count) if count else b""

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        return await self._terminal.put(data)


class _Control(Node):
    def __init__(self, terminal: KeptTerminal) -> None:
        super().__init__("consctl", 0o222)
        self._terminal = terminal
        self._closing: set[asyncio.Task[None]] = set()

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        await self._terminal.control(fid, bytes(data).strip())
        return len(data)

    def close(self, fid: TreeFid) -> None:
        task = self._terminal.closed(fid)
        if task is not None:
            self._closing.add(task)
            task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # nobody is there to be told


class _Resize(Node):
    """A fid's state is what it was told last."""

    def __init__(self, terminal: KeptTerminal) -> None:
        super().__init__("resize", 0o444)
        self._terminal = terminal

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        fid.state = None
        return None

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        fid.state = told = await self._terminal.next_size(fid.state)
        return told[1].encode()[:count]


def kept_server(terminal: KeptTerminal) -> TreeServer:
    """The files of terminal(4)."""
    files = [
        _Stream("cons", 0o666, terminal),
        _Control(terminal),
        Text("winsize", lambda: terminal.size),
        _Resize(terminal),
        _Stream("stdin", 0o444, terminal),
        _Stream("stdout", 0o222, terminal),
        _Stream("stderr", 0o222, terminal),
    ]
    return TreeServer("#t", Directory("", files))
