"""One C program under Wasmtime's own WASI and under ours, to compare: `programs/calls.c`, which calls by script.

Both have one directory, `.`, as descriptor 3; here it is a directory of a file system in memory, or of the host.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import wasmtime

from cognu.devices.host import HostServer
from cognu.files.launch import Launch, Mapping
from cognu.files.mounts import MCREATE, MREPL
from cognu.files.steps import finish
from programs.build import build
from wasi_kit import attach_later
from wasi_machine import Machine


class Theirs:
    """Wasmtime's command, as it were, on a directory of the host."""

    def __init__(self) -> None:
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module(self._engine, build("calls"))
        self._linker = wasmtime.Linker(self._engine)
        self._linker.define_wasi()

    def run(self, script: str) -> str:
        place = Path(tempfile.mkdtemp())
        try:
            (place / "box").mkdir()
            (place / "in").write_text(script)
            config = wasmtime.WasiConfig()
            config.stdin_file = str(place / "in")
            config.stdout_file = str(place / "out")
            config.preopen_dir(str(place / "box"), ".")
            store = wasmtime.Store(self._engine)
            store.set_wasi(config)
            start = self._linker.instantiate(store, self._module).exports(store)["_start"]
            assert isinstance(start, wasmtime.Func)
            start(store)
            store.close()
            return (place / "out").read_text()
        finally:
            shutil.rmtree(place)


class Ours:
    """A machine without a node, on an event loop of its own."""

    def __init__(self) -> None:
        self._place = Path(tempfile.mkdtemp())
        self._runner = asyncio.Runner()
        self._machine = self._runner.run(self._make())
        self._count = 0

    async def _make(self) -> Machine:
        return Machine(self._place)

    def close(self) -> None:
        self._runner.run(self._machine.close())
        self._runner.close()
        shutil.rmtree(self._place)

    def run(self, script: str, *, host: bool = False) -> str:
        return self._runner.run(self._run(script, host))

    async def _run(self, script: str, host: bool) -> str:
        machine = self._machine
        self._count += 1
        box = f"/box-{self._count}"
        await machine.make(box, None)
        if host:
            directory = self._place / box[1:]
            directory.mkdir()
            tree = HostServer(machine.world, machine.world.disk.tree(str(directory)))
            source = await attach_later(machine.parent.namespace.domain, tree)
            place = await finish(machine.parent.namespace.find(box, machine.parent.cwd, machine.parent))
            machine.parent.namespace.mount(source, place, MREPL | MCREATE)
        process = await machine.child("/", script.encode())
        await machine.start(process, build("calls"), ["calls"], Launch(directories=[Mapping(box, ".")]))
        await process.ended.wait()
        result = await machine.result(process)
        assert (result.status, result.err, result.message) == (0, b"", "")
        return result.out.decode()
