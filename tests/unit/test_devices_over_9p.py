"""Starting a program as a shell does: over a 9P connection whose fids are the process's descriptors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from cognu.devices.pipe import PipeServer
from cognu.devices.proc import ProcServer
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.launch import Launch
from cognu.files.limits import Resource
from cognu.files.mount import FarFid, MountServer
from cognu.files.process import Process, ProcessTable, State
from cognu.files.steps import Steps
from cognu.ninep.types import ORDWR, OREAD
from cognu.world.real import RealClock
from cognu.world.sockets import SocketStream
from serving import Client, Node, done


class Starter:
    def __init__(self) -> None:
        self.started: list[Process] = []

    async def __call__(self, process: Process, launch: Launch) -> None:
        self.started.append(process)

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        raise AssertionError("nothing is mounted here")


@dataclass
class Session:
    """A process of the node, and a client far away that holds it."""

    processes: ProcessTable
    process: Process
    client: Client
    mount: MountServer
    serving: asyncio.Future[None]


def attach_root(process: Process) -> Steps[Chan]:
    return process.namespace.root.share()
    yield


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    ram = RamServer(RealClock())
    files = Client(ram)
    await files.mkdir("proc")
    await files.mkdir("pipe")
    await files.put("f", b"0123456789")
    node, starter = Node(ram), Starter()
    process = await node.start({"/proc": ProcServer(node.processes, starter, starter), "/pipe": PipeServer()})
    here, there = map(SocketStream, socket.socketpair(), ("here", "there"))
    export = Export(there, process, lambda user, aname: attach_root(process), process.descriptors)
    serving = asyncio.ensure_future(export.serve())
    mount = await MountServer.connect(here, RealClock())
    yield Session(node.processes, process, Client(mount), mount, serving)
    await mount.close()
    await serving


async def test_a_program_is_started_with_an_open_fid_of_the_connection(session: Session) -> None:
    client = session.client
    file = await client.open("f", OREAD)
    assert isinstance(file, FarFid)
    ctl = await client.open("proc/clone", ORDWR)
    await client.write_fid(ctl, f"program x\nfd 0 {file.number} 4\nstart\n".encode())
    child = session.processes[int(await client.read_fid(ctl))]
    assert child.state is State.RUNNING
    client.server.clunk(file)
    client.server.clunk(ctl)
    waited = await client.open(f"proc/{child.pid}/wait")
    waiting = asyncio.ensure_future(client.read_fid(waited))
    given = child.descriptors[0]
    assert bytes(await done(given.server.read(given.fid, given.handle.offset, 3))) == b"456"
    await client.stat("f")  # the read is parked; the connection goes on
    assert not waiting.done()
    session.processes.end(child, 7, "gone")
    assert (await waiting).endswith(b"'gone' 7\n")


async def test_a_connection_that_goes_away_ends_what_it_had_not_started_and_closes_its_pipes(session: Session) -> None:
    client = session.client
    ctl = await client.open("proc/clone", ORDWR)
    data = await client.open("pipe/data", ORDWR)
    assert isinstance(data, FarFid)
    await client.write_fid(ctl, f"program x\nfd 1 {data.number}".encode())
    child = session.processes[int(await client.read_fid(ctl))]
    pipe = session.process.descriptors[data.number].server
    parked = asyncio.ensure_future(client.read_fid(data))
    await client.stat("f")
    end = child.descriptors[1].fid
    await session.mount.close()
    await session.serving
    await asyncio.wait([parked])
    assert parked.exception() is not None
    assert child.state is State.DEAD
    assert isinstance(pipe, PipeServer)
    assert end.node.opens == 0  # type: ignore[attr-defined]
    assert list(session.process.descriptors) == []


async def test_a_descriptor_closed_through_ctl_is_gone_and_the_clients_fid_stays_its_own(session: Session) -> None:
    client = session.client
    file, other = await client.open("f"), await client.open("f")
    assert isinstance(file, FarFid)
    ctl = f"proc/{session.process.pid}/ctl"
    await client.write(ctl, f"close {file.number}".encode())
    assert file.number not in session.process.descriptors
    with pytest.raises(FileError) as caught:
        await client.write("proc/clone", f"fd 0 {file.number}".encode(), ORDWR)
    assert caught.value.error is E.BADF
    assert await client.read_fid(file) == b"0123456789"
    client.server.clunk(file)
    assert await client.read_fid(other) == b"0123456789"
    again = await client.open("f")  # may well have the number of the one before
    assert await client.read_fid(again) == b"0123456789"
    for fid in (other, again):
        client.server.clunk(fid)


async def test_descriptors_of_a_connection_count_and_are_refused_beyond_its_limit(session: Session) -> None:
    client = session.client
    session.process.quota.set_limit(Resource.FILES, 3)
    fids = [await client.open("f") for _ in range(3)]
    with pytest.raises(FileError) as caught:
        await client.open("f")
    assert caught.value.error is E.DQUOT
    client.server.clunk(fids.pop())
    fids.append(await client.open("f"))
    for fid in fids:
        client.server.clunk(fid)
    await client.stat("f")  # what was clunked has been carried out
    assert session.process.quota.used(Resource.FILES) == 0
