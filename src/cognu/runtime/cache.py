"""Compiled modules, in memory and on disk, by the program's hash and the engine's configuration.

A file is MAGIC, the BLAKE3 hash of the rest, then what `Module.serialize` gave. Loading it means running it
as native code, so a file that was cut short or changed must be found out before: the hash is checked first.
It does not guard against one who may write in the node's own directory; such a one is the node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from blake3 import blake3

from cognu.errors import E, FileError, Misuse
from cognu.runtime.engine import Engine, Module
from cognu.world import Keeper

log = logging.getLogger(__name__)

MAGIC = b"cognu module 1\n"
HASH_SIZE = 32
REPORT_EVERY = 0.25
FIRST_RATE = 2_000_000.0
"""Bytes of Wasm compiled per second, until a compilation here has shown the true rate."""


class Progress(NamedTuple):
    """Of a compilation: seconds so far, and how many it should take in all, by the rate of earlier ones."""

    elapsed: float
    expected: float


class _Kept:
    __slots__ = ("module", "used")

    def __init__(self, module: Module, used: int) -> None:
        self.module = module
        self.used = used


class CompileCache:
    """Modules belong to the cache, which frees them: users must not `close` them. For the loop's thread."""

    def __init__(self, world: Keeper, directory: str, engine: Engine, keep: int = 64, grace: float = 60.0) -> None:
        """`keep`: modules in memory; above that, those without guests not asked for in `grace` seconds are
        freed."""
        self._world = world
        self._directory = directory
        self._engine = engine
        self._keep = keep
        self._grace = int(grace * 1e9)
        self._kept: dict[str, _Kept] = {}
        """By program alone, as below: the engine's configuration is the same for all."""
        self._making: dict[str, asyncio.Task[Module]] = {}
        self._rate = FIRST_RATE
        self._closed = False

    async def get(
        self,
        program: str,
        wasm: bytes,
        progress: Callable[[Progress], None] | None = None,
    ) -> Module:
        """The module of the program with this hash and these bytes, which the caller has checked to go
        together.

        Whoever asks for a module that is being compiled waits for that one. Cancelling stops the waiting, not
        the compilation, whose result is kept. `progress` is called a few times a second meanwhile. Raises
        `FileError`: NOEXEC, BADPROGRAM.
        """
        if self._closed:
            raise Misuse(E.BADF, "compile cache")
        kept = self._kept.get(program)
        if kept is not None:
            kept.used = self._world.clock.monotonic()
            return kept.module
        task = self._making.get(program)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._make(program, wasm))
            self._making[program] = task
            task.add_done_callback(lambda _: self._made(program))
        if progress is not None:
            await self._report(task, len(wasm), progress)
        try:
            return await asyncio.shield(task)
        finally:
            del task  # which holds its error, whose traceback holds this frame, and that whoever calls

    def key(self, program: str) -> str:
        """The name of the program's file in the cache."""
        return blake3(f"{program}\n{self._engine.configuration}".encode()).hexdigest()

    async def close(self) -> None:
        """Wait for compilations under way and free all modules. No guest may be left (`Misuse`)."""
        self._closed = True
        while self._making:
            await asyncio.wait(list(self._making.values()))
        for program in list(self._kept):
            self._kept[program].module.close()
            del self._kept[program]

    def _made(self, program: str) -> None:
        task = self._making.pop(program)
        if not task.cancelled():
            task.exception()  # seen, even if all who waited were cancelled

    async def _make(self, program: str, wasm: bytes) -> Module:
        clock = self._world.clock
        began = clock.monotonic()
        module, compiled = await self._world.threads.run(self._load_or_compile, self._path(self.key(program)), wasm)
        now = clock.monotonic()
        if compiled and len(wasm) > 100_000:
            self._rate = len(wasm) * 1e9 / max(1, now - began)
        self._kept[program] = _Kept(module, now)
        self._evict(now)
        return module

    def _evict(self, now: int) -> None:
        idle = sorted((kept.used, program) for program, kept in self._kept.items() if not kept.module.users)
        for used, program in idle[: max(0, len(self._kept) - self._keep)]:
            if now - used >= self._grace:
                self._kept.pop(program).module.close()

    async def _report(self, task: asyncio.Task[Module], size: int, progress: Callable[[Progress], None]) -> None:
        clock = self._world.clock
        began = clock.monotonic()
        while not task.done():
            elapsed = (clock.monotonic() - began) / 1e9
            progress(Progress(elapsed, max(elapsed, size / self._rate)))
            pause = asyncio.ensure_future(clock.sleep(REPORT_EVERY))
            try:
                await asyncio.wait({task, pause}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                pause.cancel()

    def _path(self, key: str) -> str:
        return f"{self._directory}/{key}"

    def _load_or_compile(self, path: str, wasm: bytes) -> tuple[Module, bool]:
        """In a thread. Whether it had to be compiled comes with it."""
        module = self._load(path)
        if module is not None:
            return module, False
        module = self._engine.compile(wasm)
        try:
            self._save(path, module.serialize())
        except FileError as error:
            # The program can run all the same; it will be compiled again after the next start.
            log.warning("compiled program not kept: %s", error)
        return module, True

    def _load(self, path: str) -> Module | None:
        try:
            data = self._world.disk.read(path)
        except FileError as error:
            if error.error is not E.NOENT:
                log.warning("compiled program not readable, compiling it again: %s", error)
            return None
        body = memoryview(data)[len(MAGIC) + HASH_SIZE :]
        if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : len(MAGIC) + HASH_SIZE] != blake3(body).digest():
            log.warning("compiled program is damaged, compiling it again: %s", path)
            return None
        try:
            return self._engine.load(bytes(body))
        except FileError as error:
            log.warning("compiled program does not fit this engine, compiling it again: %s: %s", path, error)
            return None

    def _save(self, path: str, body: bytes) -> None:
        disk = self._world.disk
        disk.make_directory(self._directory)
        disk.write(path, MAGIC + blake3(body).digest() + body)
