"""What launches programs, without the rest of a node: an engine, a process with a tree, its children."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from blake3 import blake3

from cognu.devices.host import HostServer
from cognu.devices.ram import RamServer
from cognu.devices.root import SkeletonServer
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.dispatch import dispatch
from cognu.files.launch import Grant, Launch
from cognu.files.mounts import ChanMover
from cognu.files.namespace import Namespace
from cognu.files.process import Process, ProcessTable
from cognu.files.server import Fid
from cognu.files.steps import finish
from cognu.kernel import ALL_RIGHTS, NODE, WRITE
from cognu.ninep.types import DMDIR, ORDWR, OREAD
from cognu.runtime import host
from cognu.runtime.cache import CompileCache
from cognu.runtime.engine import Engine
from cognu.runtime.guest import Exit, How, Limits
from cognu.runtime.launch import Programs
from cognu.runtime.runners import Runners
from cognu.runtime.scheduler import Scheduler
from cognu.runtime.wasi import IMPORTS, Program
from cognu.world.real import real_world

DIRECTORY = "home"
"""Of the tree, granted to each program that is launched; it holds `file`."""


class Machine:
    """A parent process whose root is a tree in memory, or a directory of the host. Made by `launching`."""

    def __init__(self, cache: str, wasm: bytes, name: str, root: str | None, spare: int) -> None:
        self.world = real_world()
        self.engine = Engine(host.settings(host.measure()))
        self.scheduler = Scheduler(self.engine, self.world.clock)
        self.cache = CompileCache(self.world, cache, self.engine)
        self.processes = ProcessTable(self.world.clock.now)
        self.runners = Runners(self.world, self.engine.settings, self.processes, spare)
        self.programs = Programs(self.world, self.scheduler, self.cache, self.processes, SkeletonServer, self.runners)
        self.wasm = wasm
        self.hash = blake3(wasm).hexdigest()
        self.name = name
        self._spare = spare
        self._tree = HostServer(self.world, self.world.disk.tree(root)) if root else RamServer(self.world.clock)
        self.parent: Process
        self.stream: Chan

    async def prepare(self) -> None:
        authority = Authority()
        domain = Domain(authority)
        _, cap = authority.new_server()
        held = authority.mint(NODE, cap, ALL_RIGHTS, domain.pid)
        attached = self._tree.attach(_Somebody(), "")
        fid = attached if isinstance(attached, Fid) else await attached
        root = Chan(Handle(self._tree, fid), domain, held, Path(None, "/"), Origin(self._tree.spec, ()))
        self.parent = self.processes.add("me", Namespace(domain, root), root.share())
        made = await finish(self.parent.namespace.create(root, DIRECTORY, DMDIR | 0o777, OREAD, self.parent))
        made.close()
        place = await finish(self.parent.namespace.walk(root, [DIRECTORY], self.parent))
        file = await finish(self.parent.namespace.create(place, "file", 0o666, ORDWR, self.parent))
        await finish(dispatch(file, WRITE, file.server.write, file.fid, 0, b"a file\n"))
        file.close()
        self.stream = await finish(self.parent.namespace.create(root.share(), "stream", 0o666, ORDWR, self.parent))

    async def close(self) -> None:
        await self.scheduler.close()
        await self.programs.close()
        await self.cache.close()
        self.stream.close()
        for process in self.processes:
            self.processes.end(process, 0)
        self.engine.close()

    def child(self) -> Process:
        """A new process with the three streams, as opening `/proc/clone` and writing `fd` to its ctl make it."""
        process = self.processes.clone(self.parent)
        for number in range(3):
            process.descriptors.add(ChanMover(process.namespace.domain).move(self.stream), number)
        return process

    async def launch(self, *arguments: str, isolate: bool = False) -> None:
        """Start the program as `run` does and wait for its end. Raises `RuntimeError` unless it exits with 0."""
        process = self.child()
        process.args = [self.name, *arguments]
        launch = Launch(grants=[Grant(f"/{DIRECTORY}", "r")], isolate=isolate)
        await self.programs.launch(process, launch, self.hash, self.wasm)
        await process.ended.wait()
        if process.status != 0:
            raise RuntimeError(f"the program ended with {process.status}: {process.message}")

    async def launches(self, count: int) -> float:
        """Microseconds for each."""
        began = time.perf_counter()
        for _ in range(count):
            await self.launch()
        return (time.perf_counter() - began) / count * 1e6

    async def isolated(self, count: int) -> float:
        """Microseconds for each. If runners are kept ready, one is waited for each time, and that does not count."""
        spent = 0.0
        for _ in range(count):
            await self.ready()
            began = time.perf_counter()
            await self.launch(isolate=True)
            spent += time.perf_counter() - began
        return spent / count * 1e6

    async def ready(self) -> None:
        """Until a runner waits for its program, if any is kept ready: it has begun, and uses no time any more."""
        self.runners.warm()
        before, used = -1, 0
        while self._spare and before != used:
            await asyncio.sleep(0.1)
            before, used = used, self.runners.ready[0].used() if self.runners.ready else before - 1

    async def guests(self, count: int) -> float:
        """Microseconds for each."""
        module = await self.cache.get(self.hash, self.wasm)
        process = self.child()
        began = time.perf_counter()
        for _ in range(count):
            program = Program(process, self.world, (self.name.encode(),), ())
            program.adopt_streams()
            done: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
            self.scheduler.start(module, IMPORTS, Limits(), done.set_result, program)
            ending = await done
            program.close()
            if ending.how is not How.EXITED or ending.code:
                raise RuntimeError(f"the program ended with {ending.code}: {ending.reason}")
        seconds = time.perf_counter() - began
        self.processes.end(process, 0)
        return seconds / count * 1e6


class _Somebody:
    pid = 0
    user = "me"


@asynccontextmanager
async def launching(
    cache: str, wasm: bytes, name: str, root: str | None = None, spare: int = 0
) -> AsyncIterator[Machine]:
    """A machine for one program. `cache`: where compiled programs are kept; `root`: a directory, else it has memory;
    `spare`: runners for isolated programs that are kept ready."""
    machine = Machine(cache, wasm, name, root, spare)
    await machine.prepare()
    try:
        yield machine
    finally:
        await machine.close()
