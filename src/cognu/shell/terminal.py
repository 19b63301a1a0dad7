"""The user's terminal as a 9P server in the shell's own process, so that programs near and far can use it as files:

    cons       reads the keyboard, by lines; writes the screen (cons(3))
    consctl    write `rawon`, `rawoff`; the file that turned raw mode on turns it off when it is closed; `suspend`
               stops this process as Ctrl-Z does, and is answered once it goes on; `discard` drops what was typed and
               not read yet
    winsize    reads `ROWS COLUMNS`
    stdin stdout stderr   this process's streams, whatever they are
    resize     the same as winsize at once, and after that each time the size changes: a read waits for that

It is served over a pipe of the node, whose other end the node mounts before `/dev` of the session.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.process import ProcessTable
from cognu.files.server import Caller
from cognu.files.services import ChanStream
from cognu.files.steps import Steps, finish
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer
from cognu.shell.connection import Somebody, local_namespace
from cognu.shell.hoststreams import HostInput, Modes
from cognu.shell.session import NodeSession
from cognu.shell.state import Streams, end_tasks
from cognu.shell.system import File


class _Stream(Node):
    """Reads one file of this process and writes another."""

    def __init__(self, name: str, reads: File | None, writes: File | None) -> None:
        super().__init__(name, (0o444 if reads else 0) | (0o222 if writes else 0))
        self._reads = reads
        self._writes = writes

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert self._reads is not None
        return await self._reads.read(count) if count else b""

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        assert self._writes is not None
        await self._writes.write(bytes(data))
        return len(data)


class _Control(Node):
    """`consctl`."""

    def __init__(self, modes: Modes, keys: File) -> None:
        super().__init__("consctl", 0o222)
        self._modes = modes
        self._keys = keys
        self._raw: set[TreeFid] = set()

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        return None

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        match bytes(data).strip():
            case b"rawon":
                self._modes.raw()
                self._raw.add(fid)
            case b"rawoff":
                self._end(fid)
            case b"suspend":
                self._modes.restore()
                os.kill(0, signal.SIGTSTP)
                # Also if nothing was stopped, as where no shell would start us again.
                self.go_on()
            case b"discard":
                if not isinstance(self._keys, HostInput):
                    raise FileError(E.NXIO, "consctl", "the input is not this host's")
                await self._keys.discard()
            case _:
                raise FileError(E.USAGE, "consctl", "rawon; rawoff; suspend; discard")
        return len(data)

    def go_on(self) -> None:
        """After a stop the terminal may have somebody else's modes."""
        if self._raw:
            self._modes.raw()

    def close(self, fid: TreeFid) -> None:
        self._end(fid)

    def _end(self, fid: TreeFid) -> None:
        self._raw.discard(fid)
        if not self._raw:
            self._modes.restore()


class _Resize(Node):
    """A fid's state is the size that it was told last."""

    def __init__(self, size: Callable[[], str]) -> None:
        super().__init__("resize", 0o444)
        self._size = size
        self._changed: set[asyncio.Future[None]] = set()

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        fid.state = ""
        return None

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        while (size := self._size()) == fid.state:
            changed = asyncio.get_running_loop().create_future()
            self._changed.add(changed)
            try:
                await changed
            finally:
                self._changed.discard(changed)
        fid.state = size
        return size.encode()[:count]

    def look(self) -> None:
        """The size may have changed."""
        for changed in self._changed:
            if not changed.done():
                changed.set_result(None)


@dataclass(frozen=True)
class Parts:
    """The server's tree, and whom to tell of a changed window and of going on after a stop."""

    server: TreeServer
    resized: Callable[[], None]
    continued: Callable[[], None]


def terminal_server(streams: Streams, modes: Modes) -> Parts:
    """The tree that the module's docstring tells of."""

    def size() -> str:
        rows, columns = modes.size()
        return f"{rows} {columns}\n"

    control = _Control(modes, streams.stdin)
    resize = _Resize(size)

    files = [
        _Stream("cons", streams.stdin, streams.stdout),
        control,
        Text("winsize", size),
        _Stream("stdin", streams.stdin, None),
        _Stream("stdout", None, streams.stdout),
        _Stream("stderr", None, streams.stderr),
        resize,
    ]
    return Parts(TreeServer("#t", Directory("", files)), resize.look, control.go_on)


class Terminal:
    """Serves `streams` to a session. `close` ends that and restores the terminal's modes."""

    def __init__(self, streams: Streams, modes: Modes) -> None:
        self.streams = streams
        self.modes = modes
        self._task: asyncio.Task[None] | None = None
        self._parts = terminal_server(streams, modes)

    def watch(self) -> None:
        """Handle the signals of a changed window and of going on after a stop; again, if somebody else took them."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._parts.resized)
        loop.add_signal_handler(signal.SIGCONT, self._parts.continued)

    async def publish(self, session: NodeSession) -> None:
        """Show the terminal at `/dev` of the session. Raises what the node refuses; nothing is served then."""
        here, there = await session.pipe_ends("rw", "rw")
        self._task = asyncio.create_task(self._serve(ChanStream(here.release()), session))
        try:
            number, _ = await there.lend()
            await session.write_to(f"/proc/{session.pid}/ns", f"mount -b /fd/{number} /dev\n".encode())
        finally:
            await there.close()

    async def _serve(self, stream: ChanStream, session: NodeSession) -> None:
        server = self._parts.server
        caller = Somebody(session.user)
        namespace = await finish(local_namespace(server, caller))
        process = ProcessTable(session.clock.now).add(session.user, namespace, namespace.root.share())

        def attach(user: str, name: str) -> Steps[Chan]:
            if name:
                raise FileError(E.NOATTACH, name)
            return namespace.root.share()
            yield

        await Export(stream, process, attach).serve()

    async def close(self) -> None:
        self.modes.restore()
        for number in (signal.SIGWINCH, signal.SIGCONT):
            asyncio.get_running_loop().remove_signal_handler(number)
        if self._task is not None:
            await end_tasks([self._task])
