"""A WASI program without an engine: a guest that is only memory, a process on a tree in memory, a clock by hand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any, NoReturn, cast

from cognu.devices.pipe import PipeServer
from cognu.devices.ram import RamServer
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.namespace import Namespace
from cognu.files.process import ProcessTable
from cognu.files.server import Caller, Fid, FileServer, MaybeAsync
from cognu.files.steps import finish
from cognu.kernel import ALL_RIGHTS as ALL_CAP_RIGHTS
from cognu.ninep.types import DMDIR, ORDWR, OREAD, OWRITE
from cognu.runtime.fiber import GuestFault
from cognu.runtime.guest import GuestExit
from cognu.runtime.wasi import IMPORTS, Program, abi
from cognu.runtime.wasi.abi import Errno, Right
from cognu.world import World

MEMORY = 4 << 20
BAD = MEMORY - 2
"""A pointer at which not even an u32 fits."""
ALL = abi.ALL_RIGHTS
READ_RIGHTS = ALL & ~(Right.FD_WRITE | Right.FD_ALLOCATE | Right.FD_FILESTAT_SET_SIZE | Right.FD_DATASYNC)


class HandClock:
    """Time passes only when somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000_000_000_000
        self.ticks = 5_000_000_000
        self.slept: list[float] = []
        self.hold: asyncio.Event | None = None

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> int:
        return self.ticks

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.hold is not None:
            await self.hold.wait()
        else:
            await asyncio.sleep(0)
        self.wall += round(seconds * 1e9)
        self.ticks += round(seconds * 1e9)


class CountingRandom:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def bytes(self, count: int) -> bytes:
        self.asked.append(count)
        return bytes(n & 0xFF for n in range(count))


class Usage:
    cpu = 1234


class FakeGuest:
    def __init__(self, program: Program) -> None:
        self.data: Any = program
        self.usage = Usage()
        self.memory = bytearray(MEMORY)
        self.code: int | None = None
        self._free = 16

    def _check(self, pointer: int, count: int) -> None:
        if pointer < 0 or count < 0 or pointer + count > len(self.memory):
            raise GuestFault(pointer, count)

    def read(self, pointer: int, count: int) -> bytes:
        self._check(pointer, count)
        return bytes(self.memory[pointer : pointer + count])

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        self._check(pointer, len(data))
        self.memory[pointer : pointer + len(data)] = data

    @property
    def memory_size(self) -> int:
        return len(self.memory)

    def exit(self, code: int) -> NoReturn:
        self.code = code
        raise GuestExit

    def put(self, data: bytes, room: int = 0) -> int:
        """Place bytes (and free room) in memory."""
        pointer = self._free
        self._free += max(len(data), room, 1) + 7 & ~7
        self.write(pointer, data)
        return pointer


async def attach_later(domain: Domain, server: FileServer) -> Chan:
    """`attach` to a server whose answers have to be awaited."""
    _, cap = domain.authority.new_server()
    held = domain.authority.mint(0, cap, ALL_CAP_RIGHTS, domain.pid)
    fid = server.attach(NOBODY, "")
    attached = fid if isinstance(fid, Fid) else await fid
    return Chan(Handle(server, attached), domain, held, Path(None, "/"), Origin(server.spec, ()))


def attach(domain: Domain, server: FileServer, rights: int | None = None, caller: Caller | None = None) -> Chan:
    """The root of a server, held by `domain` with some or all rights."""
    _, cap = domain.authority.new_server()
    held = domain.authority.mint(0, cap, ALL_CAP_RIGHTS if rights is None else rights, domain.pid)
    fid = cast(Fid, server.attach(caller or NOBODY, ""))
    return Chan(Handle(server, fid), domain, held, Path(None, "/"), Origin(server.spec, ()))


class Nobody:
    pid = 0
    user = "nobody"


NOBODY = Nobody()


class Slowly(FileServer):
    """Another server, each of whose answers has to be awaited."""

    def __init__(self, inner: FileServer) -> None:
        self.inner = inner
        self.spec = inner.spec
        for name in ("walk", "open", "create", "read", "write", "readdir", "stat", "wstat", "remove", "symlink",
                     "readlink", "link", "rename", "sync", "statfs"):  # fmt: skip
            setattr(self, name, self._later(getattr(inner, name)))

    def attach(self, caller: Caller, aname: str) -> MaybeAsync[Fid]:
        return self.inner.attach(caller, aname)

    def clunk(self, fid: Fid) -> None:
        self.inner.clunk(fid)

    def _later(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def later(*arguments: object) -> object:
            await asyncio.sleep(0)
            result = method(*arguments)
            return await result if isawaitable(result) else result

        return later


class Bench:
    """A process whose namespace is one tree in memory, `/`, with `.` (the root) and `/` preopened as 3 and 4."""

    def __init__(self, args: Sequence[bytes] = (), environment: Sequence[bytes] = (), *, slow: bool = False) -> None:
        self.clock = HandClock()
        self.random = CountingRandom()
        nothing = cast(Any, None)
        self.world = World(self.clock, self.random, nothing, nothing, nothing, nothing, nothing, nothing)
        self.authority = Authority()
        self.ram = RamServer(self.clock)
        domain = Domain(self.authority)
        root = attach(domain, Slowly(self.ram) if slow else self.ram)
        self.processes = ProcessTable(self.clock.now)
        self.process = self.processes.add("u", Namespace(domain, root), root.share())
        self.program = Program(self.process, self.world, tuple(args), tuple(environment))
        self.guest = FakeGuest(self.program)
        self.program.preopen([(".", root.share()), ("/", root.share())])

    @property
    def namespace(self) -> Namespace:
        return self.process.namespace

    def close(self) -> None:
        self.program.close()
        self.processes.end(self.process, 0)

    # the host's side

    async def make(self, path: str, data: bytes | None = b"") -> None:
        """A file, or with None a directory."""
        above, _, name = path.rpartition("/")
        directory = await finish(self.namespace.find(above or "/", self.process.cwd, self.process))
        perm, mode = (DMDIR | 0o777, OREAD) if data is None else (0o666, OWRITE)
        chan = await finish(self.namespace.create(directory, name, perm, mode, self.process))
        if data:
            self.ram.write(chan.fid, 0, data)
        chan.close()

    async def link(self, path: str, target: str) -> None:
        above, _, name = path.rpartition("/")
        directory = await finish(self.namespace.find(above or "/", self.process.cwd, self.process))
        self.ram.symlink(directory.fid, name, target)

    async def content(self, path: str) -> bytes:
        chan = await finish(self.namespace.find(path, self.process.cwd, self.process))
        chan = await finish(self.namespace.open(chan, OREAD, self.process))
        data = cast(bytes, chan.server.read(chan.fid, 0, 1 << 20))
        chan.close()
        return data

    async def pipe(self, number: int) -> Chan:
        """Give the process one end of a pipe as a stream; returns the other end."""
        ends = attach(self.namespace.domain, PipeServer())
        opened = []
        for name in ("data", "data1"):
            chan = await finish(self.namespace.walk(ends, [name], self.process))
            opened.append(await finish(self.namespace.open(chan, ORDWR, self.process)))
        self.process.descriptors.add(opened[0], number)
        self.program.adopt_streams()
        return opened[1]

    # the guest's side

    def ready(self, name: str, *arguments: int) -> Errno:
        """A call whose answer must not be awaited."""
        result = IMPORTS[abi.MODULE, name].call(self.guest, *arguments)
        assert isinstance(result, int), name
        return Errno(result)

    async def call(self, name: str, *arguments: int) -> Errno:
        result = IMPORTS[abi.MODULE, name].call(self.guest, *arguments)
        return Errno(cast(int, await result if isawaitable(result) else result))

    def text(self, text: str | bytes) -> tuple[int, int]:
        """(pointer, length)."""
        data = text.encode() if isinstance(text, str) else text
        return self.guest.put(data), len(data)

    def room(self, size: int = 64) -> int:
        return self.guest.put(b"", size)

    def vector(self, *parts: bytes | int) -> tuple[int, int]:
        """Buffers with these contents, or of these sizes: (pointer, count)."""
        table = b""
        for part in parts:
            size = part if isinstance(part, int) else len(part)
            table += struct.pack("<II", self.guest.put(b"" if isinstance(part, int) else part, size), size)
        return self.guest.put(table), len(parts)

    def u32(self, pointer: int) -> int:
        return int(struct.unpack("<I", self.guest.read(pointer, 4))[0])

    def u64(self, pointer: int) -> int:
        return int(struct.unpack("<Q", self.guest.read(pointer, 8))[0])

    def try_open(
        self, path: str, oflags: int = 0, rights: int | None = None, flags: int = 0, fd: int = 3, follow: bool = True,
        inheriting: int = ALL,
    ) -> tuple[Errno, int]:  # fmt: skip
        """With all rights that what is opened may have, unless others are given."""
        out = self.room(4)
        if rights is None:
            rights = ALL & ~abi.Right.FD_WRITE if oflags & abi.DIRECTORY else ALL
        errno = self.ready("path_open", fd, int(follow), *self.text(path), oflags, rights, inheriting, flags, out)
        return errno, self.u32(out)

    def open(
        self, path: str, oflags: int = 0, rights: int | None = None, flags: int = 0, fd: int = 3, follow: bool = True
    ) -> int:
        errno, number = self.try_open(path, oflags, rights, flags, fd, follow)
        assert errno is Errno.SUCCESS, (path, errno)
        return number

    def write(self, fd: int, *parts: bytes) -> tuple[Errno, int]:
        out = self.room(4)
        return self.ready("fd_write", fd, *self.vector(*parts), out), self.u32(out)

    def read(self, fd: int, size: int = 4096) -> tuple[Errno, bytes]:
        buffer, out = self.room(size), self.room(4)
        table = self.guest.put(struct.pack("<II", buffer, size))
        errno = self.ready("fd_read", fd, table, 1, out)
        return errno, self.guest.read(buffer, self.u32(out)) if errno is Errno.SUCCESS else b""

    async def read_later(self, fd: int, size: int = 4096) -> tuple[Errno, bytes]:
        buffer, out = self.room(size), self.room(4)
        table = self.guest.put(struct.pack("<II", buffer, size))
        errno = await self.call("fd_read", fd, table, 1, out)
        return errno, self.guest.read(buffer, self.u32(out)) if errno is Errno.SUCCESS else b""

    def seek(self, fd: int, offset: int, whence: int) -> tuple[Errno, int]:
        out = self.room(8)
        return self.ready("fd_seek", fd, offset, whence, out), self.u64(out)

    def fdstat(self, fd: int) -> tuple[int, int, int, int]:
        out = self.room(24)
        assert self.ready("fd_fdstat_get", fd, out) is Errno.SUCCESS
        return cast(tuple[int, int, int, int], abi.FDSTAT.unpack(self.guest.read(out, 24)))

    def path_stat(self, path: str, follow: bool = True, fd: int = 3) -> tuple[Errno, tuple[int, ...]]:
        out = self.room(64)
        errno = self.ready("path_filestat_get", fd, int(follow), *self.text(path), out)
        return errno, abi.FILESTAT.unpack(self.guest.read(out, 64))

    def names(self, fd: int, size: int = 4096, cookie: int = 0) -> tuple[Errno, list[tuple[str, int, int, int]]]:
        """Whole entries: (name, next cookie, inode, type)."""
        buffer, out = self.room(size), self.room(4)
        errno = self.ready("fd_readdir", fd, buffer, size, cookie, out)
        if errno:
            return errno, []
        data, entries = self.guest.read(buffer, self.u32(out)), []
        while len(data) >= 24:
            after, inode, length, kind = abi.DIRENT.unpack_from(data)
            if len(data) < 24 + length:
                break
            entries.append((data[24 : 24 + length].decode(), after, inode, kind))
            data = data[24 + length :]
        return errno, entries
