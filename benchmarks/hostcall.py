"""What a call from a guest to a Python function costs: answered at once, awaited, and made from a worker thread.

The peer is what `wasmtime`'s own classes offer: `Linker.define_func`. They have no awaited host functions, so those
are compared with their synchronous ones. A read is a C program's `pread` of one byte, through WASI: ours through the
process's namespace, capabilities and dispatch, theirs Wasmtime's own WASI, in Rust, on a preopened directory. An
isolated read is one over 9P, from the runner to the node and back, beside our own that is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import wasmtime

from benchmarks import programs
from benchmarks.launching import DIRECTORY, Machine, launching
from benchmarks.measure import Bench, Case, Unit
from benchmarks.start import all_processor_time
from cognu.runtime.engine import Engine, Module
from cognu.runtime.guest import Exit, Guest, HostFunction, How, Limits
from cognu.runtime.scheduler import LOOP_MEMORY, Scheduler
from cognu.world import wall
from cognu.world.real import RealClock

PROGRAM = bytes(
    wasmtime.wat2wasm("""(module (import "h" "f" (func $f (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (loop $l (br_if $l (call $f (i32.const 1) (i32.const 2))))))""")
)
PEER = "wasmtime-py"
Clock = Callable[[Callable[[], Awaitable[float]]], Awaitable[float]]
"""Microseconds of a measurement, by one clock or another."""


async def run(bench: Bench) -> None:
    engine = Engine()
    scheduler = Scheduler(engine, RealClock(), workers=2)
    module = engine.compile(PROGRAM)
    many, few = bench.size(200_000, 200), bench.size(20_000, 200)

    def theirs() -> float:
        return _their_calls(few)

    def ours(count: int, awaited: bool, memory: int) -> Callable[[], Awaitable[float]]:
        return lambda: _our_calls(scheduler, module, count, awaited, memory)

    small, large = 1 << 20, LOOP_MEMORY * 2
    cases = [
        Case("ready answer", Unit.US, ours(many, False, small), PEER, theirs, aim="under 2 us"),
        Case("ready answer, CPU", Unit.US, _processor_time(ours(many, False, small), many), aim="under 2 us"),
        Case("awaited answer", Unit.US, ours(few, True, small), PEER, theirs),
        Case("ready answer, guest on a worker", Unit.US, ours(few, False, large), PEER, theirs),
    ]
    try:
        with TemporaryDirectory() as directory:
            async with AsyncExitStack() as stack:
                reads = await _reads(stack, Path(directory), few)
                await bench.measure(cases + reads + await _isolated(bench, stack, directory, few // 10))
    finally:
        await scheduler.close()
        module.close()
        engine.close()


async def _our_calls(scheduler: Scheduler, module: Module, count: int, awaited: bool, memory: int) -> float:
    """Microseconds per call, the guest's start and end included."""
    left = count

    def ready(guest: Guest, a: int, b: int) -> int:
        nonlocal left
        left -= 1
        return left

    async def later(guest: Guest, a: int, b: int) -> int:
        return ready(guest, a, b)

    ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    began = time.perf_counter()
    imports = {("h", "f"): HostFunction("ii", "i", later if awaited else ready)}
    scheduler.start(module, imports, Limits(memory=memory), ended.set_result)
    ending = await ended
    seconds = time.perf_counter() - began
    if ending.how is not How.EXITED or left:
        raise RuntimeError(f"the guest ended with {left} calls left: {ending.reason}")
    return seconds / count * 1e6


def _processor_time(measured: Callable[[], Awaitable[float]], count: int) -> Callable[[], Awaitable[float]]:
    """Microseconds of this process's threads for each, which hardly depend on what else the machine does."""

    async def measure() -> float:
        began = time.process_time()
        await measured()
        return (time.process_time() - began) / count * 1e6

    return measure


_engine = wasmtime.Engine()
_module = wasmtime.Module(_engine, PROGRAM)


def _their_calls(count: int) -> float:
    """The same through `wasmtime`'s own classes."""
    left = count

    def ready(a: int, b: int) -> int:
        nonlocal left
        left -= 1
        return left

    began = time.perf_counter()
    store = wasmtime.Store(_engine)
    linker = wasmtime.Linker(_engine)
    word = wasmtime.ValType.i32()
    linker.define_func("h", "f", wasmtime.FuncType([word, word], [word]), ready)
    start = linker.instantiate(store, _module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    start(store)
    seconds = time.perf_counter() - began
    if left:
        raise RuntimeError(f"the guest ended with {left} calls left")
    return seconds / count * 1e6


async def _reads(stack: AsyncExitStack, directory: Path, count: int) -> list[Case]:
    """A program's reads of a file in memory, and of one of the host."""
    wasm = programs.wasi("reads")
    host = directory / "host"
    host.mkdir()
    cache = str(directory / "cache")
    in_memory = await stack.enter_async_context(launching(cache, wasm, "reads"))
    on_host = await stack.enter_async_context(launching(cache, wasm, "reads", str(host)))
    module = wasmtime.Module(_engine, wasm)

    def ours(machine: Machine, count: int) -> Callable[[], Awaitable[float]]:
        async def measure() -> float:
            """Microseconds per read; the launch is of little weight."""
            began = time.perf_counter()
            await machine.launch(f"/{DIRECTORY}/file", str(count))
            return (time.perf_counter() - began) / count * 1e6

        return measure

    def theirs() -> float:
        return _their_reads(module, host, count)

    peer = "Wasmtime's WASI, host's file"
    return [
        Case("WASI read of 1 byte, file in memory", Unit.US, ours(in_memory, count), peer, theirs),
        Case("WASI read of 1 byte, host's file", Unit.US, ours(on_host, count // 4), peer, theirs),
    ]


async def _isolated(bench: Bench, stack: AsyncExitStack, directory: str, count: int) -> list[Case]:
    """A read by a program in a process of its own: what that costs, beside the same program without."""
    lacking = wall.missing()
    if lacking:
        bench.miss("isolated", lacking[0].what)
        return []
    wasm = programs.wasi("reads")
    machine = await stack.enter_async_context(launching(f"{directory}/cache", wasm, "reads", spare=1))

    async def wall_time(launch: Callable[[], Awaitable[float]]) -> float:
        return await launch()

    def measured(isolate: bool, clock: Clock) -> Callable[[], Awaitable[float]]:
        async def launch(reads: int) -> float:
            await machine.ready()
            began = time.perf_counter()
            await machine.launch(f"/{DIRECTORY}/file", str(reads), isolate=isolate)
            return (time.perf_counter() - began) * 1e6

        async def measure() -> float:
            """Microseconds per read, the launch taken off."""
            one = await clock(lambda: launch(1))
            many = await clock(lambda: launch(count + 1))
            return max(many - one, 1e-3) / count

        return measure

    def case(name: str, clock: Clock) -> Case:
        return Case(name, Unit.US, measured(True, clock), "the same, not isolated", measured(False, clock), runs=5)

    return [
        case("WASI read of 1 byte, isolated", wall_time),
        case("WASI read of 1 byte, isolated, CPU", all_processor_time),
    ]


def _their_reads(module: wasmtime.Module, host: Path, count: int) -> float:
    """Microseconds per read; the start is of no weight."""
    store = wasmtime.Store(_engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["reads", f"/{DIRECTORY}/file", str(count)]
    wasi.preopen_dir(str(host / DIRECTORY), f"/{DIRECTORY}")
    store.set_wasi(wasi)
    linker = wasmtime.Linker(_engine)
    linker.define_wasi()
    start = linker.instantiate(store, module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    began = time.perf_counter()
    try:
        start(store)
    except wasmtime.ExitTrap as ending:
        if ending.code:
            raise
    seconds = time.perf_counter() - began
    store.close()
    return seconds / count * 1e6
