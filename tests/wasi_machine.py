"""Programs in C and Zig on the scheduler, over namespaces of their own; no node around them."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from blake3 import blake3

from cognu.devices.pipe import PipeServer
from cognu.devices.ram import RamServer
from cognu.devices.root import SkeletonServer
from cognu.errors import FileError
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.launch import Grant, Launch, Mapping
from cognu.files.namespace import Namespace
from cognu.files.process import Fork, Process, ProcessTable, Share
from cognu.files.steps import finish
from cognu.ninep.types import DMDIR, ORDWR, OREAD, OWRITE
from cognu.runtime.cache import CompileCache
from cognu.runtime.engine import Engine
from cognu.runtime.launch import Programs
from cognu.runtime.runners import COMMAND, Runners
from cognu.runtime.scheduler import Scheduler
from cognu.world.real import real_world
from programs.build import build
from wasi_kit import attach

HOME = "/home/me"


class Result(NamedTuple):
    status: int
    out: bytes
    err: bytes
    message: str


class Machine:
    """A parent process with a tree in memory, an engine and a scheduler."""

    def __init__(
        self, directory: Path, *, isolated: bool = False, command: Sequence[str] = COMMAND, spare: int = 0
    ) -> None:
        """`isolated`: each program in a runner of its own, started by `command`; `spare` are kept ready."""
        self.isolated = isolated
        self.world = real_world()
        self.engine = Engine()
        self.scheduler = Scheduler(self.engine, self.world.clock, 1)
        self.cache = CompileCache(self.world, str(directory), self.engine)
        self.authority = Authority()
        self.processes = ProcessTable(self.world.clock.now)
        self.runners = Runners(self.world, self.engine.settings, self.processes, spare, command)
        self.programs = Programs(self.world, self.scheduler, self.cache, self.processes, SkeletonServer, self.runners)
        domain = Domain(self.authority)
        root = attach(domain, RamServer(self.world.clock))
        self.parent = self.processes.add("me", Namespace(domain, root), root.share())

    async def close(self) -> None:
        await self.scheduler.close()
        await self.programs.close()
        await self.cache.close()
        for process in self.processes:
            self.processes.end(process, 0)
        assert self.engine.counts.fibers == 0
        self.engine.close()
        gc.collect()  # errors that tests caught hold frames, and those chans
        self.authority.close_orphans()
        assert list(self.authority.kernel.processes.alive) == [0]

    async def make(self, path: str, data: bytes | None = b"") -> None:
        names, ns = path.strip("/").split("/"), self.parent.namespace
        at = ns.root.share()
        for name in names[:-1]:
            try:
                at = await finish(ns.walk(at, [name], self.parent))
            except FileError:
                made = await finish(ns.create(at, name, DMDIR | 0o777, OREAD, self.parent))
                made.close()
                at = await finish(ns.walk(at, [name], self.parent))
        perm, mode = (DMDIR | 0o777, OREAD) if data is None else (0o666, OWRITE)
        chan = await finish(ns.create(at, names[-1], perm, mode, self.parent))
        if data:
            chan.server.write(chan.fid, 0, data)
        chan.close()

    async def open(self, path: str, mode: int, process: Process | None = None) -> Chan:
        process = process or self.parent
        chan = await finish(process.namespace.find(path, process.cwd, process))
        return await finish(process.namespace.open(chan, mode, process))

    async def content(self, path: str) -> bytes:
        chan = await self.open(path, OREAD)
        data = cast(bytes, chan.server.read(chan.fid, 0, 1 << 24))
        chan.close()
        return data

    async def child(self, cwd: str = HOME, stdin: bytes = b"") -> Process:
        """A NEW process with files as its streams."""
        process = self.processes.fork(self.parent, Fork(descriptors=Share.CLEAN))
        process.cwd.close()
        process.cwd = await finish(process.namespace.find(cwd, process.cwd, process))
        for number, (name, data, mode) in enumerate((("in", stdin, OREAD), ("out", b"", OWRITE), ("err", b"", OWRITE))):
            await self.make(f"/streams/{process.pid}-{name}", data)
            process.descriptors.add(await self.open(f"/streams/{process.pid}-{name}", mode, process), number)
        return process

    async def pipe(self, process: Process, number: int) -> Chan:
        """Give a process one end of a pipe as a descriptor; returns the other end."""
        pipe = attach(self.parent.namespace.domain, PipeServer())
        chans = []
        for name in ("data", "data1"):
            chan = await finish(self.parent.namespace.walk(pipe, [name], self.parent))
            chans.append(await finish(self.parent.namespace.open(chan, ORDWR, self.parent)))
        process.descriptors.add(chans[0], number)
        return chans[1]

    async def start(
        self, process: Process, wasm: bytes, args: Sequence[str], launch: Launch | None = None, confined: bool = True
    ) -> None:
        process.args = list(args)
        launch = launch or Launch()
        launch.isolate = self.isolated
        await self.programs.launch(process, launch, blake3(wasm).hexdigest(), wasm, confined=confined)

    async def run(
        self, program: str, *args: str, grants: Sequence[tuple[str, str]] = (), dirs: Sequence[tuple[str, str]] = (),
        stdin: bytes = b"", cwd: str = HOME, confined: bool = True, env: dict[str, bytes] | None = None,
        limits: dict[str, int] | None = None,
    ) -> Result:  # fmt: skip
        launch = Launch(
            grants=[Grant(*grant) for grant in grants], directories=[Mapping(*d) for d in dirs], limits=limits or {}
        )
        process = await self.child(cwd, stdin)
        process.environment.values.update(env or {})
        await self.start(process, build(program), [program, *args], launch, confined)
        await process.ended.wait()
        return await self.result(process)

    async def result(self, process: Process) -> Result:
        assert process.status is not None
        out, err = [await self.content(f"/streams/{process.pid}-{name}") for name in ("out", "err")]
        return Result(process.status, out, err, process.message)
