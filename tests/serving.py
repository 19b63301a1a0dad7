"""Talking to a file server by paths, without a namespace; and a small node's processes, for tests of devices."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import TypeVar

from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.mounts import MCREATE, MREPL
from cognu.files.namespace import Namespace
from cognu.files.process import Process, ProcessTable
from cognu.files.server import Caller, Entry, Fid, FileServer
from cognu.files.steps import finish
from cognu.kernel import ALL_RIGHTS, Cap
from cognu.ninep.types import DMDIR, ORDWR, OREAD, OWRITE, SetStat, Stat
from cognu.world import HostFile, HostNode, HostStat, HostSteps
from cognu.world.host_tree import RealHostFile, RealHostTree

T = TypeVar("T")


@dataclass(frozen=True)
class Somebody:
    pid: int = 1
    user: str = "glenda"


async def done(value: T | Awaitable[T]) -> T:
    """What a method of a server answers, at once or later."""
    if isawaitable(value):
        result: T = await value
        return result
    return value


class Client:
    """One caller of a server. Paths start at its root; every fid made here is clunked or returned."""

    def __init__(self, server: FileServer, caller: Caller | None = None, aname: str = "") -> None:
        self.server = server
        self.caller: Caller = caller or Somebody()
        self.aname = aname
        self.root: Fid | None = None

    async def walk(self, path: str) -> Fid:
        """Raises what the server raises, NOENT too if a later name is missing."""
        if self.root is None:
            self.root = await done(self.server.attach(self.caller, self.aname))
        fid = (await done(self.server.walk(self.root, [], self.caller))).fid
        assert fid is not None
        for name in path.strip("/").split("/"):
            if not name:
                continue
            try:
                walked = await done(self.server.walk(fid, [name], self.caller))
            finally:
                self.server.clunk(fid)
            assert walked.fid is not None
            fid = walked.fid
        return fid

    async def open(self, path: str, mode: int = OREAD) -> Fid:
        fid = await self.walk(path)
        try:
            opened = await done(self.server.open(fid, mode, self.caller))
        except BaseException:
            self.server.clunk(fid)
            raise
        if opened is not fid:
            self.server.clunk(fid)
        return opened

    async def create(self, path: str, perm: int = 0o666, mode: int = ORDWR) -> Fid:
        above, _, name = path.strip("/").rpartition("/")
        directory = await self.walk(above)
        try:
            return await done(self.server.create(directory, name, perm, mode, self.caller))
        finally:
            self.server.clunk(directory)

    async def read_fid(self, fid: Fid, count: int = 8192, offset: int = 0) -> bytes:
        return bytes(await done(self.server.read(fid, offset, count)))

    async def write_fid(self, fid: Fid, data: bytes, offset: int = 0) -> int:
        return await done(self.server.write(fid, offset, memoryview(data)))

    async def put(self, path: str, data: bytes = b"") -> None:
        """A new file."""
        fid = await self.create(path, 0o666, OWRITE)
        try:
            assert await self.write_fid(fid, data) == len(data)
        finally:
            self.server.clunk(fid)

    async def mkdir(self, path: str) -> None:
        self.server.clunk(await self.create(path, DMDIR | 0o777, OREAD))

    async def read(self, path: str) -> bytes:
        """All of a file."""
        fid = await self.open(path)
        try:
            data = b""
            while piece := await self.read_fid(fid, offset=len(data)):
                data += piece
            return data
        finally:
            self.server.clunk(fid)

    async def write(self, path: str, data: bytes, mode: int = OWRITE, offset: int = 0) -> int:
        fid = await self.open(path, mode)
        try:
            return await self.write_fid(fid, data, offset)
        finally:
            self.server.clunk(fid)

    async def entries(self, path: str, count: int = 100) -> list[Entry]:
        fid = await self.open(path)
        try:
            found: list[Entry] = []
            while batch := await done(self.server.readdir(fid, found[-1].cookie if found else 0, count)):
                assert len(batch) <= count
                found += batch
            return found
        finally:
            self.server.clunk(fid)

    async def names(self, path: str, count: int = 100) -> list[str]:
        return sorted(entry.name for entry in await self.entries(path, count))

    async def stat(self, path: str) -> Stat:
        fid = await self.walk(path)
        try:
            return await done(self.server.stat(fid))
        finally:
            self.server.clunk(fid)

    async def wstat(self, path: str, change: SetStat) -> None:
        fid = await self.walk(path)
        try:
            await done(self.server.wstat(fid, change))
        finally:
            self.server.clunk(fid)

    async def remove(self, path: str) -> None:
        fid = await self.walk(path)
        try:
            await done(self.server.remove(fid))
        finally:
            self.server.clunk(fid)

    async def rename(self, old: str, new: str) -> None:
        above, _, name = old.strip("/").rpartition("/")
        to, _, new_name = new.strip("/").rpartition("/")
        source, target = await self.walk(above), await self.walk(to)
        try:
            await done(self.server.rename(source, name, target, new_name))
        finally:
            self.server.clunk(source)
            self.server.clunk(target)

    async def symlink(self, path: str, target: str) -> None:
        above, _, name = path.strip("/").rpartition("/")
        directory = await self.walk(above)
        try:
            await done(self.server.symlink(directory, name, target))
        finally:
            self.server.clunk(directory)

    async def readlink(self, path: str) -> str:
        fid = await self.walk(path)
        try:
            return await done(self.server.readlink(fid))
        finally:
            self.server.clunk(fid)

    async def link(self, path: str, existing: str) -> None:
        above, _, name = path.strip("/").rpartition("/")
        directory, file = await self.walk(above), await self.walk(existing)
        try:
            await done(self.server.link(directory, file, name))
        finally:
            self.server.clunk(directory)
            self.server.clunk(file)

    async def mknod(self, path: str, mode: int, major: int = 0, minor: int = 0) -> None:
        above, _, name = path.strip("/").rpartition("/")
        directory = await self.walk(above)
        try:
            await done(self.server.mknod(directory, name, mode, major, minor))
        finally:
            self.server.clunk(directory)

    def close(self) -> None:
        if self.root is not None:
            self.server.clunk(self.root)
            self.root = None


class Node:
    """A process table whose first process, `init`, has a namespace: a root server and others mounted in it.

    `mounts` maps places in the root server's tree to servers; each is a device of that namespace too, by its spec.
    """

    def __init__(self, root: FileServer, processes: ProcessTable | None = None) -> None:
        self.authority = Authority()
        self.processes = processes or ProcessTable(lambda: 1_000_000_000)
        self.domain = Domain(self.authority)
        self.root = root

    async def start(self, mounts: Mapping[str, FileServer] | None = None) -> Process:
        fid = await done(self.root.attach(Somebody(), ""))
        root = Chan(Handle(self.root, fid), self.domain, self.cap(), Path(None, "/"), Origin(self.root.spec, ()))
        servers = [self.root, *(mounts or {}).values()]
        namespace = Namespace(self.domain, root, {server.spec[1]: (server, self.cap()) for server in servers})
        init = self.processes.add("glenda", namespace, root.share())
        for place, server in (mounts or {}).items():
            source = await finish(namespace.attach(server.spec, init))
            where = await finish(namespace.find(place, root, init))
            namespace.mount(source, where, MREPL | MCREATE)
            source.close()
        return init

    def cap(self) -> Cap:
        _, cap = self.authority.new_server()
        return self.authority.mint(0, cap, ALL_RIGHTS, self.domain.pid)

    async def open(self, process: Process, path: str, mode: int = OREAD) -> Chan:
        namespace = process.namespace
        return await finish(namespace.open(await finish(namespace.find(path, process.cwd, process)), mode, process))


class KeepingSteps:
    """The quick steps of a `KeepingTree`."""

    def __init__(self, steps: HostSteps, kept: list[object]) -> None:
        self._steps = steps
        self._kept = kept
        self.stat = steps.stat

    def root(self) -> HostNode:
        return self._keep(self._steps.root())

    def walk(self, node: HostNode, name: str) -> HostNode:
        return self._keep(self._steps.walk(node, name))

    def look(self, node: HostNode, name: str) -> tuple[HostNode, HostStat]:
        found, stat = self._steps.look(node, name)
        return self._keep(found), stat

    def open(self, node: HostNode, read: bool, write: bool, truncate: bool) -> HostFile:
        return self._keep(self._steps.open(node, read, write, truncate))

    def _keep(self, handle: T) -> T:
        self._kept.append(handle)
        return handle


class KeepingTree(RealHostTree):
    """A host tree that keeps every handle it gave, so that none is closed by being forgotten."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.kept: list[object] = []
        if self.quick is not None:
            self.quick = KeepingSteps(self.quick, self.kept)

    def _keep(self, handle: T) -> T:
        self.kept.append(handle)
        return handle

    def root(self) -> HostNode:
        return self._keep(super().root())

    def walk(self, node: HostNode, name: str) -> HostNode:
        return self._keep(super().walk(node, name))

    def open(self, node: HostNode, read: bool, write: bool, truncate: bool) -> RealHostFile:
        return self._keep(super().open(node, read, write, truncate))

    def create(self, node: HostNode, name: str, mode: int, exclusive: bool) -> tuple[HostNode, RealHostFile]:
        return self._keep(super().create(node, name, mode, exclusive))

    def make_directory(self, node: HostNode, name: str, mode: int) -> HostNode:
        return self._keep(super().make_directory(node, name, mode))

    def symlink(self, node: HostNode, name: str, target: str) -> HostNode:
        return self._keep(super().symlink(node, name, target))

    def make_node(self, node: HostNode, name: str, kind: str, mode: int) -> HostNode:
        return self._keep(super().make_node(node, name, kind, mode))
