"""What /proc shows and does beyond starting and ending: open files, notes, limits, privacy, stopping, descriptors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from cognu.devices.pipe import CAPACITY, PipeServer
from cognu.devices.proc import ProcServer
from cognu.devices.procctl import MAX_NOTE
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.launch import Launch
from cognu.files.limits import Resource
from cognu.files.process import Fork, Process, Share, State
from cognu.files.server import Fid
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.world.real import RealClock
from serving import Client, Node


class Starter:
    async def __call__(self, process: Process, launch: Launch) -> None:
        return None

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        raise AssertionError("nothing is mounted here")


class Desk:
    """A process `init` with files at /, and its /proc."""

    def __init__(self) -> None:
        self.ram = RamServer(RealClock(), quota_of=lambda caller: self.node.processes.quota_of(caller))
        self.node = Node(self.ram)
        starter = Starter()
        self.proc = ProcServer(self.node.processes, starter, starter)
        self.pipes = PipeServer(self.node.processes.quota_of)

    async def start(self) -> tuple[Process, Client]:
        await Client(self.ram).put("f", b"0123456789")
        init = await self.node.start()
        return init, Client(self.proc, init)

    def child(self, of: Process, how: Fork | None = None) -> Process:
        child = self.node.processes.fork(of, how)
        child.state = State.RUNNING
        return child

    def deaf(self, child: Process) -> list[str]:
        """The notes that `child` gets from now on."""
        notes: list[str] = []
        child.note = notes.append
        return notes


async def refused(error: E, call: Awaitable[Any]) -> FileError:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value
    return caught.value


async def new(client: Client, desk: Desk) -> tuple[Fid, Process]:
    ctl = await client.open("clone", ORDWR)
    return ctl, desk.node.processes[int(await client.read_fid(ctl))]


# -- fd ---------------------------------------------------------------------------------------------------------------


async def test_fd_shows_where_it_is_and_what_it_has_open() -> None:
    desk = Desk()
    init, client = await desk.start()
    child = desk.child(init)
    child.descriptors.add(await desk.node.open(init, "/f", OREAD), 0)
    child.descriptors.add(await desk.node.open(init, "/f", ORDWR), 7)
    child.descriptors[7].handle.offset = 12
    lines = (await client.read(f"{child.pid}/fd")).decode().splitlines()
    qid = child.descriptors[7].qid
    assert lines == [
        "/",
        f"  0 r  #r ({qid.path:016x} {qid.version} 00)        0 /f",
        f"  7 rw #r ({qid.path:016x} {qid.version} 00)       12 /f",
    ]
    walked = await client.walk(f"{child.pid}/fd")
    desk.node.processes.end(child, 0)
    with pytest.raises(FileError) as caught:
        desk.proc.open(walked, OREAD, init)
    assert caught.value.error is E.SRCH


async def test_close_and_closefiles_close_the_process_own_descriptors() -> None:
    desk = Desk()
    init, client = await desk.start()
    child = desk.child(init)
    told: list[str] = []
    child.tell = told.append
    chan = await desk.node.open(init, "/f", OREAD)
    for number in (0, 3, 5):
        child.descriptors.add(chan.share(), number)
    assert child.quota.used(Resource.FILES) == 3
    ctl = f"{child.pid}/ctl"
    await client.write(ctl, b"close 3")
    assert list(child.descriptors) == [0, 5]
    await refused(E.BADF, client.write(ctl, b"close 3"))
    await client.write(ctl, b"closefiles")
    assert list(child.descriptors) == []
    assert told == ["close 3", "closefiles"]
    assert (child.quota.used(Resource.FILES), chan.closed) == (0, False)
    chan.close()


# -- notes ------------------------------------------------------------------------------------------------------------


async def test_a_note_is_what_is_written() -> None:
    desk = Desk()
    init, client = await desk.start()
    child = desk.child(init)
    notes = desk.deaf(child)
    await client.write(f"{child.pid}/note", b"interrupt\n")
    await client.write(f"{child.pid}/note", b"two words")
    assert notes == ["interrupt", "two words"]
    await refused(E.MSGSIZE, client.write(f"{child.pid}/note", b"x" * MAX_NOTE))
    await refused(E.ILSEQ, client.write(f"{child.pid}/note", b"\xff"))
    await refused(E.NOTSUP, client.write(f"{init.pid}/note", b"x"))
    await refused(E.ACCES, client.open(f"{child.pid}/note", OREAD))
    fid = await client.open(f"{child.pid}/note", OWRITE)
    desk.node.processes.end(child, 0)
    await refused(E.SRCH, client.write_fid(fid, b"x"))


async def test_a_note_to_a_group_reaches_all_in_it_and_nobody_else() -> None:
    desk = Desk()
    init, client = await desk.start()
    first = desk.child(init, Fork(notes=False))
    second, apart = desk.child(first), desk.child(init)
    heard = [desk.deaf(process) for process in (init, first, second, apart)]
    assert (await client.read(f"{second.pid}/noteid")).decode() == f"{first.pid}\n"
    await client.write(f"{second.pid}/notepg", b"hangup")
    assert heard == [[], ["hangup"], ["hangup"], []]
    # The writer is left out, and so is who it does not see.
    failure = await refused(E.SRCH, Client(desk.proc, second).write(f"{second.pid}/notepg", b"x"))
    assert failure.subject == f"note group {first.pid}"
    assert heard == [[], ["hangup"], ["hangup"], []]


async def test_a_refused_note_does_not_keep_the_others_from_theirs() -> None:
    desk = Desk()
    init, client = await desk.start()
    first = desk.child(init, Fork(notes=False))
    second = desk.child(first)

    def refuse(text: str) -> None:
        raise FileError(E.INVAL, text)

    first.note = refuse
    notes = desk.deaf(second)
    await refused(E.INVAL, client.write(f"{first.pid}/notepg", b"odd"))
    assert notes == ["odd"]


async def test_a_new_process_begins_a_note_group_or_joins_one_that_its_maker_sees() -> None:
    desk = Desk()
    init, client = await desk.start()
    ctl, one = await new(client, desk)
    assert one.noteid == init.noteid == init.pid
    await client.write_fid(ctl, b"noteg")
    assert one.noteid == one.pid
    ctl, two = await new(client, desk)
    await client.write_fid(ctl, f"noteg {one.pid}".encode())
    assert two.noteid == one.pid
    stranger = desk.child(init)
    foreign, _ = await new(Client(desk.proc, stranger), desk)
    await refused(E.SRCH, Client(desk.proc, stranger).write_fid(foreign, f"noteg {one.pid}".encode()))


# -- stop, start, pri, private ----------------------------------------------------------------------------------------


async def test_stop_and_start_are_told_to_what_runs_it_and_shown() -> None:
    desk = Desk()
    init, client = await desk.start()
    child = desk.child(init)
    await refused(E.NOTSUP, client.write(f"{child.pid}/ctl", b"stop"))
    pauses: list[bool] = []
    child.pause = pauses.append
    await refused(E.ALREADY, client.write(f"{child.pid}/ctl", b"start"))
    await client.write(f"{child.pid}/ctl", b"stop")
    assert b"state Stopped\n" in await client.read(f"{child.pid}/status")
    await client.write(f"{child.pid}/ctl", b"start")
    assert b"state Running\n" in await client.read(f"{child.pid}/status")
    assert pauses == [True, False]
    await client.write(f"{child.pid}/ctl", b"stop")
    desk.node.processes.end(child, 0)
    assert child.pause is None


async def test_pri_sets_the_weight_before_and_after_the_start() -> None:
    desk = Desk()
    _, client = await desk.start()
    ctl, child = await new(client, desk)
    await client.write_fid(ctl, b"pri 7")
    assert child.weight == 7
    weights: list[int] = []
    child.state, child.weigh = State.RUNNING, weights.append
    await client.write_fid(ctl, b"pri 1000")
    assert (weights, child.weight) == ([1000], 1000)
    assert b"weight 1000\n" in await client.read(f"{child.pid}/status")
    await refused(E.USAGE, client.write_fid(ctl, b"pri 1001"))
    assert desk.node.processes.fork(child).weight == 1000


async def test_of_a_private_process_others_open_what_is_public_alone() -> None:
    desk = Desk()
    init, client = await desk.start()
    child = desk.child(init)
    desk.deaf(child)
    own = Client(desk.proc, child)
    modes = {"ctl": ORDWR, "ns": ORDWR, "note": OWRITE, "notepg": OWRITE}
    # `wants` is the other way round: for those above the process, never for itself.
    names = [name for name in await client.names(str(child.pid)) if name != "wants"]
    await client.write(f"{child.pid}/ctl", b"private")
    refusals: list[tuple[str, E]] = []
    for name in names:
        own.server.clunk(await own.open(f"{child.pid}/{name}", modes.get(name, OREAD)))
        try:
            client.server.clunk(await client.open(f"{child.pid}/{name}", modes.get(name, OREAD)))
        except FileError as error:
            refusals.append((name, error.error))
    hidden = [name for name in names if name not in ("ctl", "status", "wait")]
    assert refusals == [(name, E.ACCES) for name in hidden]


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_limits_are_set_when_new_and_lowered_when_running() -> None:
    desk = Desk()
    init, client = await desk.start()
    ctl, child = await new(client, desk)
    for resource in Resource:
        await client.write_fid(ctl, f"limit {resource} 50\nlimit {resource} 100\n".encode())
    child.state = State.RUNNING
    told: list[str] = []
    child.tell = told.append
    await client.write_fid(ctl, b"limit processes 3\nlimit files 9")
    assert (child.quota.limit(Resource.FILES), child.descriptors.limit) == (9, 9)
    await refused(E.PERM, client.write_fid(ctl, b"limit files 10"))
    assert told == ["limit processes 3", "limit files 9"]
    await refused(E.USAGE, client.write_fid(ctl, b"limit paper 1"))
    lines = (await client.read(f"{child.pid}/mem-limits")).decode().splitlines()
    assert lines == ["memory 0 100 100", "cpu 0 100 100", "files 0 9 9", "processes 1 3 2", "pipe 0 100 100",
                     "disk 0 100 100"]  # fmt: skip
    assert b"limit.processes 1/3\n" in await client.read(f"{child.pid}/status")
    assert (await client.read(f"{init.pid}/mem-limits")).decode().splitlines()[3] == "processes 2 - -"


async def test_processes_and_descriptors_count_in_the_tree_and_are_given_back() -> None:
    desk = Desk()
    init, client = await desk.start()
    top = desk.child(init)
    await client.write(f"{top.pid}/ctl", b"limit processes 3\nlimit files 4")
    chan = await desk.node.open(init, "/f", OREAD)
    for number in range(2):
        top.descriptors.add(chan.share(), number)
    one = desk.child(top)  # has copies of both
    assert top.quota.used(Resource.FILES) == 4
    with pytest.raises(FileError) as caught:
        one.descriptors.add(chan.share())
    assert (caught.value.error, caught.value.subject) == (E.DQUOT, "files")
    assert f"process {top.pid}" in caught.value.detail
    with pytest.raises(FileError) as caught:
        desk.node.processes.fork(one)  # no room for the copies
    assert caught.value.error is E.DQUOT
    one.descriptors.add(chan.share(), 1)  # takes the place of another
    one.descriptors.move(1, 0)
    assert top.quota.used(Resource.FILES) == 3
    two = desk.child(one)
    assert (top.quota.used(Resource.PROCESSES), top.quota.used(Resource.FILES)) == (3, 4)
    below = Client(desk.proc, two)
    failure = await refused(E.DQUOT, below.open("clone", ORDWR))
    assert failure.subject == "processes"
    desk.node.processes.end(one, 0)
    assert (top.quota.used(Resource.PROCESSES), top.quota.used(Resource.FILES)) == (2, 3)
    for process in (two, top):
        desk.node.processes.end(process, 0)
    chan.close()
    assert (init.quota.used(Resource.PROCESSES), init.quota.used(Resource.FILES)) == (1, 0)


async def test_descriptors_shared_by_two_count_once_until_both_ended() -> None:
    desk = Desk()
    init, _ = await desk.start()
    top = desk.child(init)
    top.descriptors.add(await desk.node.open(init, "/f", OREAD))
    child = desk.node.processes.fork(top, Fork(descriptors=Share.SHARE))
    assert init.quota.used(Resource.FILES) == 1
    desk.node.processes.end(top, 0)
    assert init.quota.used(Resource.FILES) == 1
    desk.node.processes.end(child, 0)
    assert init.quota.used(Resource.FILES) == 0


async def test_bytes_in_a_pipe_count_until_they_are_read_or_the_pipe_is_gone() -> None:
    desk = Desk()
    init, client = await desk.start()
    child = desk.child(init)
    await client.write(f"{child.pid}/ctl", b"limit pipe 100")
    pipe, other = Client(desk.pipes, child), Client(desk.pipes, init)
    write, read = await pipe.open("data", ORDWR), await pipe.open("data1", ORDWR)
    assert await pipe.write_fid(write, b"x" * 60) == 60
    await pipe.write_fid(write, b"y" * 40)
    failure = await refused(E.DQUOT, pipe.write_fid(write, b"z"))
    assert failure.subject == "pipe"
    assert await pipe.read_fid(read, 70) == b"x" * 60 + b"y" * 10
    assert child.quota.used(Resource.PIPE) == 30
    await pipe.write_fid(read, b"back")
    assert (child.quota.used(Resource.PIPE), init.quota.used(Resource.PIPE)) == (34, 34)
    ends = await other.open("data", ORDWR), await other.open("data1", ORDWR)
    await other.write_fid(ends[0], b"free")
    assert init.quota.used(Resource.PIPE) == 38
    desk.node.processes.end(child, 0)
    for owner, fids in ((pipe, (write, read)), (other, ends)):
        for fid in fids:
            owner.server.clunk(fid)
    assert (child.quota.used(Resource.PIPE), init.quota.used(Resource.PIPE)) == (0, 0)


async def test_a_long_write_that_a_limit_cuts_short_says_how_much_went() -> None:
    desk = Desk()
    init, client = await desk.start()
    child = desk.child(init)
    pipe = Client(desk.pipes, child)
    write, read = await pipe.open("data", ORDWR), await pipe.open("data1", ORDWR)
    writing = asyncio.ensure_future(pipe.write_fid(write, bytes(200_000)))
    await asyncio.sleep(0)
    assert child.quota.used(Resource.PIPE) == CAPACITY
    await client.write(f"{child.pid}/ctl", b"limit pipe 1000")
    assert len(await pipe.read_fid(read, CAPACITY)) == CAPACITY
    assert await writing == CAPACITY
    await refused(E.DQUOT, pipe.write_fid(write, bytes(CAPACITY)))
    assert child.quota.used(Resource.PIPE) == 0
    for fid in (write, read):
        desk.pipes.clunk(fid)


async def test_bytes_in_memory_count_with_who_made_the_file_until_it_is_gone() -> None:
    desk = Desk()
    init, client = await desk.start()
    child = desk.child(init)
    await client.write(f"{child.pid}/ctl", b"limit disk 100")
    files, mine = Client(desk.ram, child), Client(desk.ram, init)
    await files.put("big", b"x" * 90)
    await refused(E.DQUOT, files.write("big", b"x" * 20, offset=90))
    await mine.write("big", b"x" * 5, offset=90)
    assert (child.quota.used(Resource.DISK), init.quota.used(Resource.DISK)) == (95, 95)
    await mine.write("f", b"x" * 500)
    held = await files.open("big")
    desk.node.processes.end(child, 0)
    await mine.remove("big")
    assert init.quota.used(Resource.DISK) == 95
    desk.ram.clunk(held)
    assert init.quota.used(Resource.DISK) == 0
