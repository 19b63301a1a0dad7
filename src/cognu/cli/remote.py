"""The tree of any 9P server, for one command: a connection, an attach, and files by path (9p(1) of Plan 9)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from typing import TypeVar

from cognu.cli.addresses import LAST_MOMENT, Address, CommandStream, dialled
from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.listing import read_directory
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace
from cognu.files.server import OAPPEND, OEXCL, Entry
from cognu.files.steps import Steps, finish
from cognu.kernel import READ, WRITE
from cognu.ninep.messages import Dialect
from cognu.ninep.types import DMDIR, ORDWR, OREAD, OTRUNC, OWRITE, Stat
from cognu.shell.connection import Somebody, local_namespace
from cognu.world import Stream
from cognu.world.real import RealClock
from cognu.world.timing import within

T = TypeVar("T")

MORE_SECONDS = 1.0
"""How long `rdwr` waits for more of an answer that has begun."""
BEGIN_SECONDS = 20.0
"""How long a server may take to agree on a version and to let this side attach."""
CHUNK = 1 << 20
BATCH = 256


@dataclass(frozen=True)
class How:
    """`dialect` None is the best that the server knows; `user` empty is this host's; `msize` in bytes."""

    aname: str = ""
    user: str = ""
    dialect: Dialect | None = None
    msize: int = 1 << 20


class Unreachable(Exception):
    """There is no server, or it broke off or broke the protocol: nothing is known of the files that were asked for."""

    def __init__(self, error: CognuError) -> None:
        super().__init__(error)
        self.error = error


class Remote:
    """An attached tree. Every method raises `FileError` naming the path, or `Unreachable`."""

    def __init__(self, mount: MountServer, namespace: Namespace, caller: Somebody) -> None:
        self.mount = mount
        self._namespace = namespace
        self._caller = caller

    async def stat(self, path: str, follow: bool = False) -> Stat:
        chan = await self._find(path, follow)
        try:
            return await self._do(path, self._namespace.stat(chan))
        finally:
            chan.close()

    async def list(self, path: str) -> list[Stat]:
        """What is in a directory, sorted by name; entries that went meanwhile are left out."""
        chan = await self.open(path, OREAD)
        try:
            found: list[Stat] = []
            cookie = 0
            while entries := await self._do(path, read_directory(self._namespace, chan, cookie, BATCH, self._caller)):
                for entry in entries:
                    stat = await self._stat_of(path, entry)
                    if stat is not None:
                        found.append(stat)
                if entries[-1].cookie == cookie:
                    raise Unreachable(ProtocolError(E.BADMESSAGE, path, "the directory has no end"))
                cookie = entries[-1].cookie
            return sorted(found, key=lambda stat: stat.name)
        finally:
            chan.close()

    async def _stat_of(self, directory: str, entry: Entry) -> Stat | None:
        if entry.stat is not None:
            return entry.stat
        try:
            return await self.stat(f"{directory.rstrip('/')}/{entry.name}")
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            return None

    async def open(self, path: str, mode: int) -> Chan:
        """An open file, to be closed by the caller."""
        chan = await self._find(path, True)
        try:
            return await self._do(path, self._namespace.open(chan, mode, self._caller))
        except BaseException:
            chan.close()
            raise

    async def read(self, path: str, chan: Chan, offset: int, count: int = CHUNK) -> bytes | memoryview:
        return await self._do(path, dispatch(chan, READ, chan.server.read, chan.fid, offset, count))

    async def write(self, path: str, chan: Chan, offset: int, data: bytes) -> int:
        """All of `data`; what a server takes in pieces goes in pieces. Raises IO if it takes nothing at all."""
        rest = memoryview(data)
        while True:
            steps = dispatch(chan, WRITE, chan.server.write, chan.fid, offset, rest)
            taken = await self._do(path, steps)
            offset, rest = offset + taken, rest[taken:]
            if not rest:
                return offset
            if not taken:
                raise FileError(E.IO, path, "the server takes no more")

    async def create(self, path: str, perm: int) -> None:
        """Raises EXIST if it is there."""
        mode = (OREAD if perm & DMDIR else OWRITE) | OEXCL
        space = self._namespace
        (await self._do(path, space.create_path(f"/{path}", perm, mode, space.root, self._caller))).close()

    async def remove(self, path: str) -> None:
        chan = await self._find(path, False)
        try:
            await self._do(path, self._namespace.remove(chan, self._caller))
        finally:
            chan.close()

    async def _find(self, path: str, follow: bool) -> Chan:
        space = self._namespace
        return await self._do(path, space.find(f"/{path}", space.root, self._caller, follow))

    async def _do(self, path: str, steps: Steps[T]) -> T:
        try:
            return await finish(steps)
        except FileError as error:
            if self.mount.broken is not None:
                raise Unreachable(error) from None
            raise FileError(error.error, path, error.detail) from None


@asynccontextmanager
async def attached(address: Address, how: How) -> AsyncIterator[Remote]:
    """A tree of the server at `address`, in the best dialect that it knows. Raises `Unreachable`, `FileError`."""
    async with AsyncExitStack() as stack:
        mount = await _agreed(stack, address, how)
        caller = Somebody(how.user or getuser())
        try:
            namespace = await _in_time(address, finish(local_namespace(mount, caller, how.aname)))
        except FileError as error:
            if mount.broken is not None:
                raise Unreachable(error) from None
            raise
        stack.callback(namespace.release)
        yield Remote(mount, namespace, caller)


async def _agreed(stack: AsyncExitStack, address: Address, how: How) -> MountServer:
    stream: Stream | None = None
    try:
        stream = await stack.enter_async_context(dialled(address))
        mount = await _in_time(address, _connect(stream, how))
    except CognuError as error:
        raise Unreachable(await _why(address, stream, error)) from None
    stack.push_async_callback(mount.close)
    return mount


async def _why(address: Address, stream: Stream | None, error: CognuError) -> CognuError:
    """Who answers with something else, or ends without a word, is no server."""
    if isinstance(error, ProtocolError) and error.error is not E.BADVERSION:
        return ProtocolError(E.NOT9P, str(address), f"what came is none ({error})")
    if isinstance(stream, CommandStream) and error.error in (E.CONNRESET, E.PIPE):
        with suppress(TimeoutError):
            status = await within(RealClock(), LAST_MOMENT, stream.child.wait())
            return LinkBroken(E.NOT9P, str(address), f"it ended with status {status}")
    return error


async def _connect(stream: Stream, how: How) -> MountServer:
    if how.dialect is None:
        return await MountServer.connect(stream, RealClock(), msize=how.msize)
    return await MountServer.connect(stream, RealClock(), offer=how.dialect, msize=how.msize, lower=())


async def _in_time(address: Address, work: Awaitable[T]) -> T:
    async def do() -> T:
        return await work

    try:
        return await within(RealClock(), BEGIN_SECONDS, do())
    except TimeoutError:
        raise Unreachable(LinkBroken(E.TIMEDOUT, str(address), f"no answer within {BEGIN_SECONDS:g} s")) from None


# -- whole files ------------------------------------------------------------------------------------------------------


class Progress:
    """How far a long transfer is, on the standard error if that is a terminal; nothing is said of a short one."""

    AFTER, EVERY = 1.0, 0.2

    def __init__(self, name: str, total: int, shown: bool) -> None:
        """`total` bytes, 0 if that is not known."""
        self._name = name
        self._total = total
        self._shown = shown
        self._begun = time.monotonic()
        self._told = 0.0
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._shown and now - self._begun > self.AFTER and now - self._told > self.EVERY:
            self._told = now
            sys.stderr.write(f"\r{progress_line(self._name, self._done, self._total, now - self._begun)}\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        if self._told:
            sys.stderr.write("\n")


def progress_line(name: str, done: int, total: int, seconds: float) -> str:
    """`done` of `total` bytes (0: not known) after so many seconds, and how many more it may take."""
    rate = done / seconds if seconds > 0 else 0.0
    line = f"{name}: {done / 1e6:.1f} MB"
    if total > done:
        line += f" of {total / 1e6:.1f}, {done / total:.0%}"
    line += f", {rate / 1e6:.1f} MB/s"
    if total > done and rate:
        line += f", about {(total - done) / rate:.0f} s left"
    return line


async def copy_out(remote: Remote, path: str, put: Callable[[bytes | memoryview], object], shown: bool) -> None:
    """All of a file, piece by piece, to `put`; `shown`: with progress."""
    chan = await remote.open(path, OREAD)
    progress = None
    try:
        if chan.qid.is_dir:
            raise FileError(E.ISDIR, path)
        total = (await remote.stat(path, follow=True)).length if shown else 0
        progress = Progress(path, total, shown)
        offset = 0
        while data := await remote.read(path, chan, offset):
            put(data)
            offset += len(data)
            progress.add(len(data))
    finally:
        if progress is not None:
            progress.end()
        chan.close()


async def copy_in(remote: Remote, path: str, source: Stream, append: bool, lines: bool, shown: bool) -> int:
    """All of `source` to a file that is there, which is emptied first unless `append`; how many bytes that were.

    `lines`: each line in a write of its own, as files that take commands want it. Without any input there is one
    empty write.
    """
    chan = await remote.open(path, OWRITE | (OAPPEND if append else OTRUNC))
    progress = Progress(path, _size_of_input(), shown)
    try:
        begin = (await remote.stat(path, follow=True)).length if append else 0
        offset = begin
        pieces = split_lines(source) if lines else _pieces(source)
        async for data in pieces:
            offset = await remote.write(path, chan, offset, data)
            progress.add(len(data))
        if offset == begin:
            await remote.write(path, chan, offset, b"")
        return offset - begin
    finally:
        progress.end()
        chan.close()


def _size_of_input() -> int:
    try:
        return os.fstat(0).st_size
    except OSError:
        return 0


async def _pieces(source: Stream) -> AsyncIterator[bytes]:
    while data := await source.read(CHUNK):
        yield data


async def split_lines(source: Stream) -> AsyncIterator[bytes]:
    """Each line with its newline; the last may have none. Raises LINETOOLONG for one of more than 1 MiB."""
    held = b""
    while data := await source.read(CHUNK):
        *whole, held = (held + data).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(held) > CHUNK:
            raise FileError(E.LINETOOLONG, source.peer)
    if held:
        yield held


async def converse(remote: Remote, path: str, source: Stream, put: Callable[[bytes | memoryview], object]) -> int:
    """Each line of `source` is written without its newline, and what can be read then goes to `put`; 1 if any was
    refused.

    A refusal is told and the next line is tried: so files that answer requests work (factotum(4), cs(3)).
    """
    chan = await remote.open(path, ORDWR)
    status = 0
    try:
        async for line in split_lines(source):
            try:
                await remote.write(path, chan, 0, line.removesuffix(b"\n"))
                await _answered(remote, path, chan, put)
            except FileError as error:
                tell(error)
                status = 1
        return status
    finally:
        chan.close()


async def _answered(remote: Remote, path: str, chan: Chan, put: Callable[[bytes | memoryview], object]) -> None:
    """An answer to its end, and a newline if it has none. The end of what has none is that nothing comes for a while,
    or that there is an answer to one read alone.
    """
    piece: bytes | memoryview = await remote.read(path, chan, 0)
    offset, last = 0, b""
    while piece:
        put(piece)
        offset, last = offset + len(piece), bytes(piece[-1:])
        try:
            piece = await within(RealClock(), MORE_SECONDS, remote.read(path, chan, offset))
        except (FileError, TimeoutError):
            break
    if last != b"\n":
        put(b"\n")


def tell(error: CognuError) -> None:
    sys.stderr.write(f"cognu: {error.explain()}\n")


async def each(paths: Iterable[str], work: Callable[[str], Awaitable[None]]) -> int:
    """Do it for each path, telling what is refused; the exit status."""
    status = 0
    for path in paths:
        try:
            await work(path)
        except FileError as error:
            tell(error)
            status = 1
    return status
