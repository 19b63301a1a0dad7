"""Help for tests of the runtime: programs from WebAssembly text, and a scheduler that must leave nothing
behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import wasmtime

from cognu.runtime.engine import Engine, Module, Settings
from cognu.runtime.guest import Exit, Guest, HostFunction, Imports, Limits
from cognu.runtime.scheduler import Scheduler
from cognu.world.real import RealClock

ENDLESS = "(loop $l (br $l))"
GIB = 1 << 30


def wat(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def command(body: str = "", imports: str = "", memory: str = "1", more: str = "") -> bytes:
    """A command that does `body`; `imports` come first, `more` is other fields."""
    return wat(f'(module {imports} (memory (export "memory") {memory}) {more} (func (export "_start") {body}))')


class Runs:
    """A scheduler and the ends of its guests, as futures."""

    def __init__(self, engine: Engine, scheduler: Scheduler) -> None:
        self.engine = engine
        self.scheduler = scheduler
        self.modules: list[Module] = []

    def compile(self, wasm: bytes) -> Module:
        return self.engine.compile(wasm)

    def start(
        self,
        program: Module | bytes,
        imports: Imports | None = None,
        limits: Limits | None = None,
        data: Any = None,
    ) -> tuple[Guest, asyncio.Future[Exit]]:
        module = program if isinstance(program, Module) else self.compile(program)
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        guest = self.scheduler.start(module, imports or {}, limits or Limits(), ended.set_result, data)
        return guest, ended


@asynccontextmanager
async def running(workers: int = 2, settings: Settings | None = None) -> AsyncIterator[Runs]:
    """When it ends, no native object may be left."""
    engine = Engine(settings)
    scheduler = Scheduler(engine, RealClock(), workers)
    try:
        yield Runs(engine, scheduler)
    finally:
        await scheduler.close()
        assert engine.counts.fibers == 0
        assert scheduler.guests == []
        engine.close()
        assert engine.counts.modules == 0


async def until(condition: Callable[[], bool]) -> int:
    """Go round the loop until `condition` holds; says how often. Each round shows that the loop is served."""
    rounds = 0
    while not condition():
        rounds += 1
        await asyncio.sleep(0)
    return rounds


def host(params: str, result: str, call: Callable[..., Any]) -> Imports:
    """The one import `h.f`."""
    return {("h", "f"): HostFunction(params, result, call)}
