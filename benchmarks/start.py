"""A WASI program that is in the compile cache, from its start to its end, one after the other.

Ours, "launch": what a node does for `run`: a new process with streams, the program's private namespace with one grant,
its WASI state, a fiber, its end, everything given back. Ours, "guest": the WASI state and the fiber alone, in a process
that is there. "isolated": the launch in a runner, one that is kept ready or one that has to be started, beside the
launch without. The program is the same C source for all, with nothing in its `main`.

"CPU": the processor time of all that takes part, ours with all threads, the peer's with its children and what the
system does for both. On a busy machine that is the figure to trust.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import wasmtime

from benchmarks import programs
from benchmarks.launching import launching
from benchmarks.measure import Bench, Case, Unit
from cognu.world import wall


async def run(bench: Bench) -> None:
    wasm = programs.wasi("nothing")
    dynamic, static = programs.native("nothing"), programs.native("nothing", static=True)
    launcher = programs.native("forks", static=True)
    few = bench.size(100, 2)

    def forks(program: Path) -> float:
        said = subprocess.run([launcher, program, str(few)], capture_output=True, text=True, check=True).stdout
        return float(said) / 1000

    def spawns() -> float:
        return _spawns(dynamic, few)

    with TemporaryDirectory() as directory:
        async with launching(directory, wasm, "nothing") as ours, AsyncExitStack() as stack:
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

            def launch_cpu() -> Awaitable[float]:
                return _processor_time(ours.launches, few)

            def guest_cpu() -> Awaitable[float]:
                return _processor_time(ours.guests, few)

            def fork_cpu() -> float:
                return _children_time(lambda: forks(dynamic), few)

            def fork_static_cpu() -> float:
                return _children_time(lambda: forks(static), few)

            aim = "at least 10 times as fast"
            await bench.measure(
                [
                    Case("launch / fork and exec", Unit.US, launch, "from C", fork_dynamic, aim=aim),
                    Case("launch / fork and exec, static", Unit.US, launch, "from C", fork_static),
                    Case("launch / posix_spawn from Python", Unit.US, launch, "CPython", spawns),
                    Case("launch / wasmtime-py", Unit.US, launch, "wasmtime-py", wasmtime_classes),
                    Case("guest / fork and exec", Unit.US, guest, "from C", fork_dynamic, aim=aim),
                    Case("guest / wasmtime-py", Unit.US, guest, "wasmtime-py", wasmtime_classes),
                    Case("CPU: launch / fork and exec", Unit.US, launch_cpu, "from C", fork_cpu, aim=aim),
                    Case("CPU: launch / fork and exec, static", Unit.US, launch_cpu, "from C", fork_static_cpu),
                    Case("CPU: guest / fork and exec", Unit.US, guest_cpu, "from C", fork_cpu, aim=aim),
                    *await _isolated(bench, stack, directory, wasm, launch, few),
                ]
            )


async def _isolated(
    bench: Bench, stack: AsyncExitStack, cache: str, wasm: bytes, launch: Callable[[], Awaitable[float]], launches: int
) -> list[Case]:
    """What a process of its own costs a program: no peer's, but our own start without it."""
    lacking = wall.missing()
    if lacking:
        bench.miss("isolated", lacking[0].what)
        return []
    kept = await stack.enter_async_context(launching(cache, wasm, "nothing", spare=1))
    cold = await stack.enter_async_context(launching(cache, wasm, "nothing"))
    few = bench.size(3, 1)

    async def ready() -> float:
        return await kept.isolated(few)

    async def fresh() -> float:
        return await cold.isolated(few)

    async def fresh_cpu() -> float:
        return await all_processor_time(lambda: cold.isolated(few)) / few

    async def launch_cpu() -> float:
        return await all_processor_time(launch) / launches

    peer = "the same, not isolated"
    return [
        Case("isolated, a runner ready", Unit.US, ready, peer, launch, runs=5),
        Case("isolated, none ready", Unit.US, fresh, peer, launch, runs=5),
        Case("CPU: isolated, the runner's start included", Unit.US, fresh_cpu, peer, launch_cpu, runs=5),
    ]


async def all_processor_time(measured: Callable[[], Awaitable[float]]) -> float:
    """Microseconds of this process's threads, and of the processes that ended meanwhile."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    began = used()
    await measured()
    return (used() - began) * 1e6


async def _processor_time(measured: Callable[[int], Awaitable[float]], count: int) -> float:
    """Microseconds of this process's threads, in user and system mode, for each."""
    began = time.process_time()
    await measured(count)
    return (time.process_time() - began) / count * 1e6


def _children_time(measured: Callable[[], object], count: int) -> float:
    """Microseconds of the processes begun and ended meanwhile (getrusage(2), RUSAGE_CHILDREN), for each."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count * 1e6


def _spawns(program: Path, count: int) -> float:
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
