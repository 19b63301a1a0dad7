"""Guests that mean harm: host calls at random, everything taken that can be had, very many at once.

Only such a guest dies, if anybody does; nothing it held is left, and others go on meanwhile. What was random is told by
the seed that a failure shows.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from cognu.devices.ram import RamServer
from cognu.errors import E
from cognu.files.launch import Grant, Launch
from cognu.files.limits import Resource
from cognu.files.mounts import MCREATE, MREPL
from cognu.files.steps import finish
from guests import wat
from joined import joined
from programs.build import build
from wasi_kit import attach, attach_later
from wasi_machine import HOME, Machine, Result

pytestmark = pytest.mark.timeout(900)  # the first build of all makes the C library too

NOTES = b"one two\nthree\n"
SEEDS = [1, 20260, 0xC0DE]
CALLS = 3_000
MANY_CALLS = 100_000


class Held(NamedTuple):
    """What a process of the host holds of things that leak."""

    fibers: int
    domains: int
    capabilities: int
    tasks: int
    descriptors: int


@pytest_asyncio.fixture
async def machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Machine]:
    """Nothing that a guest does may be logged as a failure of the host."""
    machine = Machine(tmp_path)
    await machine.make(f"{HOME}/notes.txt", NOTES)
    await machine.make(f"{HOME}/box", None)
    await machine.run("wc")  # what is made once only is there now
    with caplog.at_level(logging.WARNING):
        yield machine
    assert [record.message for record in caplog.records] == []
    await machine.close()


def held(machine: Machine) -> Held:
    gc.collect()  # errors hold frames, and those chans
    machine.authority.close_orphans()
    kernel = machine.authority.kernel
    return Held(
        machine.engine.counts.fibers, len(kernel.processes.alive), sum(kernel.processes.used.values()),
        len(asyncio.all_tasks()), len(os.listdir("/dev/fd")),
    )  # fmt: skip


@asynccontextmanager
async def nothing_left(machine: Machine, *programs: str, pipes: int = 0) -> AsyncIterator[None]:
    """The programs are run once before, for a module stays, with its data in a file without a name.

    `pipes` are made by the test, each of which keeps the two capabilities of its server.
    """
    for name in programs:
        await machine.run(name, limits={"cpu": 20_000_000})
    before = held(machine)
    yield
    await asyncio.sleep(0)  # what was cancelled ends
    assert held(machine) == before._replace(capabilities=before.capabilities + 2 * pipes)
    assert len(machine.processes) == 1


async def chaos(machine: Machine, seed: int, count: int, box: str = f"{HOME}/box") -> Result:
    grants = [(box, "rw"), (f"{HOME}/notes.txt", "r")]
    return await machine.run("chaos", str(seed), str(count), grants=grants, cwd=box)


async def still_answers(machine: Machine) -> None:
    result = await machine.run("wc", "notes.txt", grants=[(f"{HOME}/notes.txt", "r")])
    assert result == Result(0, b"2 3 14 notes.txt\n", b"", "")


# -- at random --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "count"), [
    *((seed, CALLS) for seed in SEEDS), pytest.param(4, MANY_CALLS, marks=pytest.mark.soak),
])  # fmt: skip
async def test_random_host_calls_are_refused_and_leave_nothing(machine: Machine, seed: int, count: int) -> None:
    async with nothing_left(machine, "chaos"):
        result, _ = await asyncio.gather(chaos(machine, seed, count), still_answers(machine))
        assert (result.status, result.message) == (7, ""), seed


@pytest.mark.parametrize(("seed", "count"), [
    (SEEDS[0], CALLS), pytest.param(5, MANY_CALLS, marks=pytest.mark.soak),
])  # fmt: skip
async def test_random_host_calls_on_an_imported_tree_leave_nothing(machine: Machine, seed: int, count: int) -> None:
    async with joined() as ends:
        ends.server.plant("/inside", None)
        namespace = machine.parent.namespace
        source = await attach_later(namespace.domain, ends.mount)
        await machine.make("/far", None)
        place = await finish(namespace.find("/far", machine.parent.cwd, machine.parent))
        namespace.mount(source, place, MREPL | MCREATE)
        async with nothing_left(machine, "chaos"):
            result, _ = await asyncio.gather(chaos(machine, seed, count, "/far/inside"), still_answers(machine))
            assert (result.status, result.message) == (7, ""), seed


@pytest.mark.soak
async def test_random_host_calls_take_no_more_memory_the_longer_they_go_on(machine: Machine) -> None:
    async with nothing_left(machine, "chaos"):
        peaks = []
        for seed in (6, 7, 6, 7):
            result = await chaos(machine, seed, MANY_CALLS)
            assert result.status == 7, seed
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        assert peaks[3] - peaks[1] < peaks[1] // 8, peaks


async def test_guests_killed_amid_random_calls_leave_nothing(machine: Machine) -> None:
    async with nothing_left(machine, "chaos"):
        processes = []
        for seed in range(20):
            process = await machine.child(f"{HOME}/box")
            grants = [Grant(f"{HOME}/box", "rw")]
            await machine.start(process, build("chaos"), ["chaos", str(seed), "1000000"], Launch(grants=grants))
            processes.append(process)
        for process in processes:
            await still_answers(machine)
            assert process.kill is not None
            process.kill("test")
        for process in processes:
            await process.ended.wait()
            assert process.status == 137


# -- everything there is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "errno"), [("files", 33), ("disk", 51), ("names", 51)])
async def test_who_takes_all_files_or_room_is_refused_more(machine: Machine, what: str, errno: int) -> None:
    """ENOSPC, EMFILE; the room is a small file system's."""
    namespace = machine.parent.namespace
    small = attach(namespace.domain, RamServer(machine.world.clock, max_bytes=1 << 20, max_files=200, spec="#s"))
    place = await finish(namespace.find(f"{HOME}/box", machine.parent.cwd, machine.parent))
    namespace.mount(small, place, MREPL | MCREATE)
    await machine.make(f"{HOME}/box/notes.txt", NOTES)
    async with nothing_left(machine, "greedy"):
        run = machine.run("greedy", what, grants=[(f"{HOME}/box", "rw")], cwd=f"{HOME}/box")
        result, _ = await asyncio.gather(run, still_answers(machine))
        assert result == Result(0, b"some %d\n" % errno, b"", "")


@pytest.mark.parametrize(("kind", "limit", "what", "errno"), [
    (Resource.FILES, 20, "files", 19), (Resource.MEMORY, 32 << 20, "memory", 48),
])  # fmt: skip
async def test_a_quota_bounds_a_guest(machine: Machine, kind: Resource, limit: int, what: str, errno: int) -> None:
    async with nothing_left(machine, "greedy"):
        process = await machine.child()
        process.quota.set_limit(kind, limit)
        grants = [Grant(f"{HOME}/notes.txt", "r")]
        await machine.start(process, build("greedy"), ["greedy", what], Launch(grants=grants))
        await asyncio.gather(process.ended.wait(), still_answers(machine))
        assert await machine.result(process) == Result(0, b"some %d\n" % errno, b"", "")
        assert process.quota.used(kind) == 0


async def test_memory_ends_at_the_limit(machine: Machine) -> None:
    async with nothing_left(machine, "greedy"):
        run = machine.run("greedy", "memory", limits={"memory": 32 << 20})
        result, _ = await asyncio.gather(run, still_answers(machine))
        assert result == Result(0, b"some 48\n", b"", "")


@pytest.mark.parametrize(("how", "status"), [("deep", 134), ("wild", 134), ("trap", 134)])
async def test_a_trap_ends_its_guest_alone(machine: Machine, how: str, status: int) -> None:
    async with nothing_left(machine, "crash"):
        results = await asyncio.gather(*(machine.run("crash", how) for _ in range(20)), still_answers(machine))
        assert [result.status for result in results if result is not None] == [status] * 20


GROWING_TABLE = """(module (memory (export "memory") 1) (table 1 funcref)
  (func (export "_start") (loop $more
    (br_if $more (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable))"""


async def test_a_table_ends_at_the_limit(machine: Machine) -> None:
    async with nothing_left(machine):
        process = await machine.child()
        await machine.start(process, wat(GROWING_TABLE), ["grow"])
        await asyncio.gather(process.ended.wait(), still_answers(machine))
        assert process.status == 134


async def test_processor_time_ends_while_others_go_on(machine: Machine) -> None:
    async with nothing_left(machine, "spin"):
        runs = [machine.run("spin", limits={"cpu": 30_000_000}) for _ in range(4)]
        results = await asyncio.gather(*runs, still_answers(machine), still_answers(machine))
        for result in results:
            assert result is None or (result.status == 137 and E.CPULIMIT.text in result.message)


async def test_what_fills_a_pipe_nobody_reads_waits_and_is_killed(machine: Machine) -> None:
    async with nothing_left(machine, "system", pipes=1):
        process = await machine.child()
        out = await machine.pipe(process, 1)
        await machine.start(process, build("system"), ["system", "bytes", "10000000"])
        await still_answers(machine)
        assert process.kill is not None
        process.kill("test")
        await process.ended.wait()
        assert process.status == 137
        out.close()


# -- very many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.soak)])
async def test_very_many_guests_at_once(machine: Machine, count: int) -> None:
    async with nothing_left(machine, "cat", pipes=count):
        processes = []
        for _ in range(count):
            process = await machine.child()
            end = await machine.pipe(process, 0)
            await machine.start(process, build("cat"), ["cat"])
            processes.append((process, end))
        assert machine.engine.counts.fibers == count
        await still_answers(machine)
        for number, (_, end) in enumerate(processes):
            end.server.write(end.fid, 0, b"%d\n" % number)
            end.close()
        for number, (process, _) in enumerate(processes):
            await process.ended.wait()
            assert await machine.result(process) == Result(0, b"%d\n" % number, b"", "")
