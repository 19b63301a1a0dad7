"""A WASI program that is in the compile cache, from its start to its end, one after the other.

Ours, "launch": what a node does for `run`: a new process with streams, the program's private namespace with one grant,
its WASI state, a fiber, its end, everything given back. Ours, "guest": the WASI state and the fiber alone, in a process
that is there. The program is the same C source for all, with nothing in its `main`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as HostPath
from tempfile import TemporaryDirectory

import wasmtime
from blake3 import blake3

from benchmarks import programs
from benchmarks.measure import Bench, Case, Unit
from cognu.devices.ram import RamServer
from cognu.devices.root import SkeletonServer
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.launch import Grant, Launch
from cognu.files.namespace import Namespace
from cognu.files.process import Fork, Process, ProcessTable, Share
from cognu.files.server import Fid
from cognu.files.steps import finish
from cognu.kernel import ALL_RIGHTS, NODE
from cognu.ninep.types import DMDIR, ORDWR, OREAD
from cognu.runtime import host
from cognu.runtime.cache import CompileCache
from cognu.runtime.engine import Engine
from cognu.runtime.guest import Exit, How, Limits
from cognu.runtime.launch import Programs
from cognu.runtime.scheduler import Scheduler
from cognu.runtime.wasi import IMPORTS, Program
from cognu.world.real import real_world

DIRECTORY = "home"


async def run(bench: Bench) -> None:
    wasm = programs.wasi("nothing")
    dynamic, static = programs.native("nothing"), programs.native("nothing", static=True)
    launcher = programs.native("forks", static=True)
    few = bench.size(100, 2)

    def forks(program: HostPath) -> float:
        said = subprocess.run([launcher, program, str(few)], capture_output=True, text=True, check=True).stdout
        return float(said) / 1000

    def spawns() -> float:
        return _spawns(dynamic, few)

    with TemporaryDirectory() as directory:
        async with _machine(directory, wasm) as ours:
            theirs = _Wasmtime(wasm)

            async def launch() -> float:
                return await ours.launches(few)

            async def guest() -> float:
                return await ours.guests(few)

            def fork_dynamic() -> float:
                return forks(dynamic)

            def fork_static() -> float:
                return forks(static)

            def wasmtime_classes() -> float:
                return theirs.starts(few)

            aim = "at least 10 times as fast"
            await bench.measure([
                Case("launch / fork and exec", Unit.US, launch, "from C", fork_dynamic, aim=aim),
                Case("launch / fork and exec, static", Unit.US, launch, "from C", fork_static),
                Case("launch / posix_spawn from Python", Unit.US, launch, "CPython", spawns),
                Case("launch / wasmtime-py", Unit.US, launch, "wasmtime-py", wasmtime_classes),
                Case("guest / fork and exec", Unit.US, guest, "from C", fork_dynamic, aim=aim),
                Case("guest / wasmtime-py", Unit.US, guest, "wasmtime-py", wasmtime_classes),
            ])


class _Machine:
    """A parent process on a tree in memory, and what launches programs for it: a node without its faces."""

    def __init__(self, directory: str, wasm: bytes) -> None:
        self.world = real_world()
        self.engine = Engine(host.settings(host.measure()))
        self.scheduler = Scheduler(self.engine, self.world.clock)
        self.cache = CompileCache(self.world, directory, self.engine)
        self.processes = ProcessTable(self.world.clock.now)
        self.programs = Programs(self.world, self.scheduler, self.cache, self.processes, SkeletonServer)
        self.wasm = wasm
        self.name = blake3(wasm).hexdigest()
        self.parent: Process
        self.stream: Chan

    async def prepare(self) -> None:
        ram = RamServer(self.world.clock)
        authority = Authority()
        domain = Domain(authority)
        _, cap = authority.new_server()
        held = authority.mint(NODE, cap, ALL_RIGHTS, domain.pid)
        fid = ram.attach(_Somebody(), "")
        assert isinstance(fid, Fid)
        root = Chan(Handle(ram, fid), domain, held, Path(None, "/"), Origin(ram.spec, ()))
        self.parent = self.processes.add("me", Namespace(domain, root), root.share())
        made = await finish(self.parent.namespace.create(root, DIRECTORY, DMDIR | 0o777, OREAD, self.parent))
        made.close()
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
        """A new process with the three streams."""
        process = self.processes.fork(self.parent, Fork(descriptors=Share.CLEAN))
        domain = process.namespace.domain
        for number in range(3):
            cap = self.stream.domain.mint(self.stream.cap, ALL_RIGHTS, domain)
            stream = Chan(self.stream.handle, domain, cap, self.stream.path, self.stream.origin)
            process.descriptors.add(stream, number)
        return process

    async def launches(self, count: int) -> float:
        """Microseconds for each."""
        launch = Launch(grants=[Grant(f"/{DIRECTORY}", "r")])
        began = time.perf_counter()
        for _ in range(count):
            process = self.child()
            process.args = ["nothing"]
            await self.programs.launch(process, launch, self.name, self.wasm)
            await process.ended.wait()
            if process.status != 0:
                raise RuntimeError(f"the program ended with {process.status}: {process.message}")
        return (time.perf_counter() - began) / count * 1e6

    async def guests(self, count: int) -> float:
        """Microseconds for each."""
        module = await self.cache.get(self.name, self.wasm)
        process = self.child()
        began = time.perf_counter()
        for _ in range(count):
            program = Program(process, self.world, (b"nothing",), ())
            await finish(program.adopt_streams())
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
async def _machine(directory: str, wasm: bytes) -> AsyncIterator[_Machine]:
    machine = _Machine(directory, wasm)
    await machine.prepare()
    try:
        yield machine
    finally:
        await machine.close()


def _spawns(program: HostPath, count: int) -> float:
    """Microseconds for each, from this process, which is as large as a node."""
    began = time.perf_counter()
    for _ in range(count):
        pid = os.posix_spawn(program, [str(program)], {})
        _, status = os.waitpid(pid, 0)
        if status:
            raise RuntimeError(f"{program} ended with {status}")
    return (time.perf_counter() - began) / count * 1e6


class _Wasmtime:
    """What `wasmtime`'s own classes need for each start of a module that was compiled before."""

    def __init__(self, wasm: bytes) -> None:
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module(self._engine, wasm)

    def starts(self, count: int) -> float:
        """Microseconds for each."""
        began = time.perf_counter()
        for _ in range(count):
            store = wasmtime.Store(self._engine)
            wasi = wasmtime.WasiConfig()
            wasi.argv = ["nothing"]
            store.set_wasi(wasi)
            linker = wasmtime.Linker(self._engine)
            linker.define_wasi()
            start = linker.instantiate(store, self._module).exports(store)["_start"]
            assert isinstance(start, wasmtime.Func)
            try:
                start(store)
            except wasmtime.ExitTrap as ending:
                if ending.code:
                    raise
            store.close()
        return (time.perf_counter() - began) / count * 1e6
