from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError, Misuse
from cognu.runtime.cache import CompileCache, Progress
from cognu.runtime.engine import Engine, Module, Settings
from cognu.runtime.fiber import Bounds, Fiber
from cognu.world.real import real_world
from guests import command

PROGRAM = command("unreachable")


class Counting(Engine):
    """An engine that says how often it compiled and loaded, and compiles when it may."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.compiled = 0
        self.loaded = 0
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def compile(self, wasm: bytes) -> Module:
        self.entered.set()
        assert self.gate.wait(60)
        self.compiled += 1
        return super().compile(wasm)

    def load(self, data: bytes) -> Module:
        module = super().load(data)
        self.loaded += 1
        return module


@pytest.fixture
async def engine() -> AsyncIterator[Counting]:
    engine = Counting()
    yield engine
    assert engine.counts.modules == 0, "the cache freed its modules"
    engine.close()


def make(engine: Engine, path: Path, keep: int = 64, grace: float = 60.0) -> CompileCache:
    return CompileCache(real_world(), str(path / "cache"), engine, keep, grace)


async def test_a_program_is_compiled_once_and_then_loaded(engine: Counting, tmp_path: Path) -> None:
    first = make(engine, tmp_path)
    module = await first.get("aa", PROGRAM)
    assert await first.get("aa", PROGRAM) is module
    await first.close()
    second = make(engine, tmp_path)
    again = await second.get("aa", PROGRAM)
    assert (engine.compiled, engine.loaded) == (1, 1)
    assert again.exports
    await second.close()
    await second.close()
    with pytest.raises(Misuse):
        await second.get("aa", PROGRAM)


async def test_programs_and_engines_do_not_share_files(engine: Counting, tmp_path: Path) -> None:
    other_engine = Engine(Settings(memory_reservation=65536))
    one, two = make(engine, tmp_path), make(other_engine, tmp_path)
    assert len({one.key("aa"), one.key("ab"), two.key("aa"), two.key("ab")}) == 4
    await one.get("aa", PROGRAM)
    await two.get("aa", PROGRAM)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    await one.close()
    await two.close()
    other_engine.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:10],
        lambda data: b"",
        lambda data: b"X" + data[1:],
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
    ],
)
async def test_a_damaged_file_is_said_and_made_anew(
    engine: Counting,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: object,
) -> None:
    cache = make(engine, tmp_path)
    await cache.get("aa", PROGRAM)
    await cache.close()
    (path,) = (tmp_path / "cache").iterdir()
    good = path.read_bytes()
    assert callable(damage)
    path.write_bytes(damage(good))
    cache = make(engine, tmp_path)
    await cache.get("aa", PROGRAM)
    assert (engine.compiled, engine.loaded) == (2, 0), "damaged code is never loaded"
    assert "damaged" in caplog.text
    assert len(path.read_bytes()) == len(good)
    await cache.close()


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_at_all_are_loaded_as_code(tmp_path: Path, data: bytes, header: bool) -> None:
    engine = Counting()
    cache = make(engine, tmp_path)
    path = tmp_path / "file"
    path.write_bytes((b"cognu module 1\n" if header else b"") + data)
    assert cache._load(str(path)) is None
    assert engine.loaded == 0
    engine.close()


async def test_a_sound_file_of_another_engine_is_said_and_made_anew(
    engine: Counting,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other_engine = Engine(Settings(memory_reservation=65536))
    other, cache = make(other_engine, tmp_path), make(engine, tmp_path)
    await other.get("aa", PROGRAM)
    (tmp_path / "cache" / other.key("aa")).rename(tmp_path / "cache" / cache.key("aa"))
    await cache.get("aa", PROGRAM)
    assert engine.compiled == 1
    assert "does not fit" in caplog.text
    await other.close()
    await cache.close()
    other_engine.close()


async def test_all_who_ask_at_once_wait_for_one_compilation(engine: Counting, tmp_path: Path) -> None:
    cache = make(engine, tmp_path)
    engine.gate.clear()
    asked = [asyncio.ensure_future(cache.get("aa", PROGRAM)) for _ in range(10)]
    await asyncio.to_thread(engine.entered.wait)
    engine.gate.set()
    modules = await asyncio.gather(*asked)
    assert len(set(modules)) == 1
    assert engine.compiled == 1
    await cache.close()


async def test_who_is_killed_while_its_program_compiles_only_stops_waiting(engine: Counting, tmp_path: Path) -> None:
    cache = make(engine, tmp_path)
    engine.gate.clear()
    first = asyncio.ensure_future(cache.get("aa", PROGRAM, lambda _progress: None))
    second = asyncio.ensure_future(cache.get("aa", PROGRAM))
    await asyncio.to_thread(engine.entered.wait)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    engine.gate.set()
    assert await second is await cache.get("aa", PROGRAM)
    assert engine.compiled == 1
    await cache.close()


async def test_close_waits_for_a_compilation_that_nobody_waits_for(engine: Counting, tmp_path: Path) -> None:
    cache = make(engine, tmp_path)
    engine.gate.clear()
    asked = asyncio.ensure_future(cache.get("aa", b"\0asm\1\0\0\0bad"))
    good = asyncio.ensure_future(cache.get("bb", PROGRAM))
    await asyncio.to_thread(engine.entered.wait)
    asked.cancel()
    good.cancel()
    await asyncio.wait([asked, good])
    closing = asyncio.ensure_future(cache.close())
    await asyncio.sleep(0)
    assert not closing.done()
    engine.gate.set()
    await closing
    assert engine.compiled == 2


@pytest.mark.parametrize(("wasm", "row"), [(b"#!/bin/sh", E.NOEXEC), (b"\0asm\1\0\0\0\1", E.BADPROGRAM)])
async def test_what_does_not_compile_is_refused_each_time_and_not_kept(
    engine: Counting,
    tmp_path: Path,
    wasm: bytes,
    row: E,
) -> None:
    cache = make(engine, tmp_path)
    for _ in range(2):
        with pytest.raises(FileError) as caught:
            await cache.get("aa", wasm)
        assert caught.value.error is row
    assert engine.compiled == 2
    assert not (tmp_path / "cache").exists()
    await cache.close()


async def test_a_full_disk_is_said_and_the_program_runs_all_the_same(
    engine: Counting,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    cache = make(engine, tmp_path)
    await cache.get("aa", PROGRAM)
    assert "not kept" in caplog.text
    await cache.close()


async def test_progress_is_told_while_it_compiles(engine: Counting, tmp_path: Path) -> None:
    cache = make(engine, tmp_path)
    engine.gate.clear()
    seen: list[Progress] = []

    def progress(step: Progress) -> None:
        seen.append(step)
        if len(seen) == 3:
            engine.gate.set()

    await cache.get("aa", PROGRAM, progress)
    assert len(seen) >= 3
    assert seen[0].elapsed < seen[1].elapsed < seen[2].elapsed
    assert all(step.expected >= step.elapsed for step in seen)
    await cache.close()


async def test_idle_modules_are_freed_and_used_ones_kept(engine: Counting, tmp_path: Path) -> None:
    cache = make(engine, tmp_path, keep=2, grace=0)
    used = await cache.get("used", PROGRAM)
    fiber = Fiber(used, [], Bounds(65536, 0), lambda _place, _values: None)
    for name in "abcdef":
        await cache.get(name, PROGRAM)
        assert engine.counts.modules <= 3
    assert await cache.get("used", PROGRAM) is used
    with pytest.raises(Misuse):
        await cache.close()
    fiber.delete()
    await cache.close()
