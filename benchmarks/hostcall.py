"""What a call from a guest to a Python function costs: answered at once, awaited, and made from a worker thread.

The peer is what `wasmtime`'s own classes offer: `Linker.define_func`. They have no awaited host functions, so those
are compared with their synchronous ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import wasmtime

from benchmarks.measure import Bench, Case, Unit
from cognu.runtime.engine import Engine, Module
from cognu.runtime.guest import Exit, Guest, HostFunction, How, Limits
from cognu.runtime.scheduler import LOOP_MEMORY, Scheduler
from cognu.world.real import RealClock

PROGRAM = bytes(wasmtime.wat2wasm("""(module (import "h" "f" (func $f (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (loop $l (br_if $l (call $f (i32.const 1) (i32.const 2))))))"""))
PEER = "wasmtime-py"


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
    try:
        await bench.measure([
            Case("ready answer", Unit.US, ours(many, False, small), PEER, theirs, aim="under 2 us"),
            Case("awaited answer", Unit.US, ours(few, True, small), PEER, theirs),
            Case("ready answer, guest on a worker", Unit.US, ours(few, False, large), PEER, theirs),
        ])
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
