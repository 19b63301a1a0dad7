"""What a guest costs: microseconds per synchronous host call, per awaited one, and per start and end of a guest.

Run: python benchmarks/hostcall.py
"""

from __future__ import annotations

import asyncio
import time

import wasmtime

from cognu.runtime.engine import Engine
from cognu.runtime.guest import Exit, Guest, HostFunction, Limits
from cognu.runtime.scheduler import LOOP_MEMORY, Scheduler
from cognu.world.real import RealClock

PROGRAM = """(module (import "h" "f" (func $f (param i32 i32) (result i32))) (memory (export "memory") 1)
  (func (export "_start") (loop $l (br_if $l (call $f (i32.const 1) (i32.const 2))))))"""


async def run(scheduler: Scheduler, engine: Engine, count: int, awaited: bool, memory: int) -> float:
    """Microseconds per call."""
    left = count

    def ready(guest: Guest, a: int, b: int) -> int:
        nonlocal left
        left -= 1
        return left

    async def later(guest: Guest, a: int, b: int) -> int:
        return ready(guest, a, b)

    ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    module = engine.compile(bytes(wasmtime.wat2wasm(PROGRAM)))
    began = time.perf_counter()
    imports = {("h", "f"): HostFunction("ii", "i", later if awaited else ready)}
    scheduler.start(module, imports, Limits(memory=memory), ended.set_result)
    await ended
    return (time.perf_counter() - began) / count * 1e6


async def starts(scheduler: Scheduler, engine: Engine, count: int) -> float:
    """Microseconds per guest that starts, does nothing and ends."""
    module = engine.compile(bytes(wasmtime.wat2wasm(
        '(module (memory (export "memory") 1) (func (export "_start")))')))
    done = asyncio.Event()
    left = count

    def ended(_exit: Exit) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    began = time.perf_counter()
    for _ in range(count):
        scheduler.start(module, {}, Limits(), ended)
    await done.wait()
    return (time.perf_counter() - began) / count * 1e6


async def main() -> None:
    engine = Engine()
    scheduler = Scheduler(engine, RealClock(), workers=2)
    big = LOOP_MEMORY * 2
    print(f"host call, ready, on the loop      {await run(scheduler, engine, 200_000, False, 1 << 20):8.2f} us")
    print(f"host call, awaited, on the loop    {await run(scheduler, engine, 20_000, True, 1 << 20):8.2f} us")
    print(f"host call, ready, from a worker    {await run(scheduler, engine, 20_000, False, big):8.2f} us")
    print(f"guest, start and end               {await starts(scheduler, engine, 2_000):8.2f} us")
    await scheduler.close()
    engine.close()


if __name__ == "__main__":
    asyncio.run(main())
