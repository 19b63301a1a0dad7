"""Programs started through /proc under limits: what holds them, what status shows, and that nothing is left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from cognu.devices.proc import ProcServer
from cognu.devices.ram import RamServer
from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.launch import Launch
from cognu.files.limits import Resource
from cognu.files.process import Process, State
from cognu.files.server import Fid
from cognu.ninep.types import ORDWR, OREAD
from cognu.runtime.cache import CompileCache
from cognu.runtime.engine import Engine
from cognu.runtime.launch import Programs
from cognu.runtime.scheduler import Scheduler
from cognu.world.real import real_world
from guests import ENDLESS, command, until
from serving import Client, Node

PAGE = 65536
PROGRAMS = {
    "endless": command(ENDLESS),
    "big": command(ENDLESS, memory="1000"),
    "grows": command(f"(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) {ENDLESS}"),
    "ends": command(),
}


class Desk:
    """A process `init`, its /proc, and an engine that runs what is started there."""

    def __init__(self, directory: Path) -> None:
        world = real_world()
        self.ram = RamServer(world.clock)
        self.node = Node(self.ram)
        self.engine = Engine()
        self.scheduler = Scheduler(self.engine, world.clock, 1)
        self.cache = CompileCache(world, str(directory), self.engine)
        self.programs = Programs(world, self.scheduler, self.cache, self.node.processes, SkeletonServer)
        self.proc = ProcServer(self.node.processes, self, self.launch)

    async def launch(self, process: Process, launch: Launch) -> None:
        wasm = PROGRAMS[launch.program]
        await self.programs.launch(process, launch, blake3(wasm).hexdigest(), wasm)

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        raise AssertionError("nothing is mounted here")

    async def start(self) -> Process:
        await Client(self.ram).put("f", b"")
        init = await self.node.start()
        for number in range(3):
            init.descriptors.add(await self.node.open(init, "/f", OREAD if number == 0 else ORDWR), number)
        return init

    async def begin(self, by: Process, program: str, *lines: str) -> tuple[Process, Fid]:
        """Start a program as `by`'s child; the ctl is still open."""
        client = Client(self.proc, by)
        ctl = await client.open("clone", ORDWR)
        child = self.node.processes[int(await client.read_fid(ctl))]
        try:
            for line in (*lines, f"program {program}", "start"):
                await client.write_fid(ctl, line.encode())
        except FileError:
            self.proc.clunk(ctl)
            raise
        return child, ctl

    async def close(self) -> None:
        await self.scheduler.close()
        await self.programs.close()
        await self.cache.close()
        self.engine.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    await desk.close()


async def refused(error: E, call: Awaitable[Any]) -> FileError:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value
    return caught.value


def used(process: Process) -> dict[str, int]:
    return {resource.value: process.quota.used(resource) for resource in Resource if resource is not Resource.CPU}


async def charged_again(process: Process) -> None:
    before = process.quota.used(Resource.CPU)
    await until(lambda: process.quota.used(Resource.CPU) > before)


async def test_what_a_program_used_shows_and_is_given_back_when_it_ends(desk: Desk) -> None:
    init = await desk.start()
    before = used(init)
    child, ctl = await desk.begin(init, "endless", "fd 1 1", f"limit memory {3 * PAGE}")
    client = Client(desk.proc, init)
    await until(lambda: child.quota.used(Resource.CPU) > 0)
    text = (await client.read(f"{child.pid}/status")).decode()
    assert f"limit.memory {PAGE}/{3 * PAGE}\n" in text
    assert "limit.processes 1/-\n" in text
    assert init.quota.used(Resource.MEMORY) == PAGE
    assert child.quota.used(Resource.FILES) == len(child.descriptors) > 1
    await client.write_fid(ctl, b"kill")
    await child.ended.wait()
    assert child.status == 137
    assert used(init) == before
    assert init.quota.used(Resource.CPU) == child.quota.used(Resource.CPU) > 0
    desk.proc.clunk(ctl)


async def test_a_program_gets_no_more_memory_than_its_makers_have(desk: Desk) -> None:
    init = await desk.start()
    session = desk.node.processes.fork(init)
    session.state = State.RUNNING
    session.quota.set_limit(Resource.MEMORY, 20 * PAGE)
    failure = await refused(E.DQUOT, desk.begin(session, "big"))
    assert (failure.subject, f"process {session.pid}" in failure.detail) == ("memory", True)
    child, ctl = await desk.begin(session, "grows")
    await until(lambda: child.quota.used(Resource.MEMORY) == 20 * PAGE)  # it asked for more, and was refused
    await refused(E.DQUOT, desk.begin(session, "ends"))
    assert not child.ended.is_set()
    await Client(desk.proc, init).write(f"{child.pid}/ctl", b"kill")
    await child.ended.wait()
    assert session.quota.used(Resource.MEMORY) == 0
    other, other_ctl = await desk.begin(session, "ends")
    await other.ended.wait()
    assert other.status == 0
    for fid in (ctl, other_ctl):
        desk.proc.clunk(fid)
    desk.node.processes.end(session, 0)


async def test_a_limit_on_processor_time_set_before_or_after_the_start_ends_it(desk: Desk) -> None:
    init = await desk.start()
    first, ctl = await desk.begin(init, "endless", "limit cpu 2000000")
    await first.ended.wait()
    assert (first.status, E.CPULIMIT.text in first.message) == (137, True)
    second, second_ctl = await desk.begin(init, "endless")
    await until(lambda: second.quota.used(Resource.CPU) > 0)
    await Client(desk.proc, init).write_fid(second_ctl, b"limit cpu 1")
    await second.ended.wait()
    assert f"process {second.pid} is 1" in second.message
    for fid in (ctl, second_ctl):
        desk.proc.clunk(fid)


async def test_a_start_refused_for_descriptors_leaves_the_process_as_it_was(desk: Desk) -> None:
    init = await desk.start()
    client = Client(desk.proc, init)
    before = used(init)
    ctl = await client.open("clone", ORDWR)
    child = desk.node.processes[int(await client.read_fid(ctl))]
    await client.write_fid(ctl, b"fd 0 0\nfd 1 1\nfd 2 2\nprogram endless\nlimit files 3")
    await refused(E.MFILE, client.write_fid(ctl, b"start"))
    child.descriptors.limit = 100
    await refused(E.DQUOT, client.write_fid(ctl, b"start"))
    assert (child.state, sorted(child.descriptors), child.quota.used(Resource.FILES)) == (State.NEW, [0, 1, 2], 3)
    await client.write_fid(ctl, b"limit files 10\nstart")
    assert child.quota.used(Resource.FILES) == len(child.descriptors)
    await client.write_fid(ctl, b"kill")
    await child.ended.wait()
    desk.proc.clunk(ctl)
    assert used(init) == before


async def test_stop_and_start_through_ctl_hold_a_program_up(desk: Desk) -> None:
    init = await desk.start()
    child, ctl = await desk.begin(init, "endless")
    other, other_ctl = await desk.begin(init, "endless", "pri 500")
    client = Client(desk.proc, init)
    await until(lambda: child.quota.used(Resource.CPU) > 0)
    await client.write_fid(ctl, b"stop")
    assert b"state Stopped\n" in await client.read(f"{child.pid}/status")
    for _ in range(2):  # once perhaps on the loop, then on the only worker, which the stopped one has left then
        await charged_again(other)
    held = child.quota.used(Resource.CPU)
    after = other.quota.used(Resource.CPU)
    await until(lambda: other.quota.used(Resource.CPU) > after + 2 * 10**6)
    assert child.quota.used(Resource.CPU) == held
    await client.write_fid(ctl, b"pri 1000\nstart")
    await until(lambda: child.quota.used(Resource.CPU) > held)
    await client.write_fid(ctl, b"stop\nkill")
    await client.write_fid(other_ctl, b"kill")
    await asyncio.gather(child.ended.wait(), other.ended.wait())
    assert child.status == 137
    for fid in (ctl, other_ctl):
        desk.proc.clunk(fid)


async def test_a_note_to_the_group_ends_a_pipeline(desk: Desk) -> None:
    init = await desk.start()
    first, ctl = await desk.begin(init, "endless", "noteg")
    second, second_ctl = await desk.begin(init, "endless", f"noteg {first.pid}")
    apart, apart_ctl = await desk.begin(init, "endless", "noteg")
    client = Client(desk.proc, init)
    await client.write(f"{second.pid}/notepg", b"interrupt")
    await asyncio.gather(first.ended.wait(), second.ended.wait())
    assert (first.status, second.status) == (130, 130)
    await refused(E.INVAL, client.write(f"{apart.pid}/notepg", b"what is that"))
    assert not apart.ended.is_set()
    await client.write(f"{apart.pid}/note", b"kill")
    await apart.ended.wait()
    for fid in (ctl, second_ctl, apart_ctl):
        desk.proc.clunk(fid)
