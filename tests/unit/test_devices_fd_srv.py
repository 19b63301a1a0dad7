"""Open files as files: /fd and /srv."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.fd import fd_server
from cognu.devices.pipe import PipeServer
from cognu.devices.ram import RamServer
from cognu.devices.registry import MAX_SERVICES, Registry
from cognu.devices.srv import srv_server
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.mounts import ChanMover
from cognu.files.process import Fork, Process, Share
from cognu.files.steps import finish
from cognu.kernel import READ
from cognu.ninep.types import DMDIR, ORCLOSE, ORDWR, OREAD, OTRUNC, OWRITE
from cognu.world.real import RealClock
from serving import Client, Node, done


class Desk:
    """A process over a memory file system with a pipe at /pipe, and its /fd and /srv."""

    def __init__(self) -> None:
        self.ram = RamServer(RealClock())
        self.files = Client(self.ram)
        self.node = Node(self.ram)
        self.fd = fd_server(self.node.processes)
        self.registry = Registry(RealClock())
        self.srv = srv_server(self.node.processes, self.registry)

    async def start(self) -> Process:
        await self.files.mkdir("pipe")
        await self.files.mkdir("fd")
        await self.files.put("f", b"0123456789")
        return await self.node.start({"/pipe": PipeServer(), "/fd": self.fd})


async def refused(error: E, call: Awaitable[Any]) -> None:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value


async def test_reading_fd_n_goes_on_where_the_descriptor_is() -> None:
    desk = Desk()
    process = await desk.start()
    chan = await desk.node.open(process, "/f", OREAD)
    number = process.descriptors.add(chan)
    chan.handle.offset = 3
    client = Client(desk.fd, process)
    fid = await client.open(str(number))
    assert await client.read_fid(fid, 2, offset=99) == b"34"
    assert chan.handle.offset == 5
    assert await client.read_fid(fid, 2) == b"56"
    client.server.clunk(fid)
    assert chan.handle.uses == 1


async def test_fd_n_is_opened_only_as_the_descriptor_is() -> None:
    desk = Desk()
    process = await desk.start()
    for number, mode in enumerate((OREAD, OWRITE, ORDWR)):
        process.descriptors.add(await desk.node.open(process, "/f", mode), number)
    process.descriptors.add(await desk.node.open(process, "/", OREAD), 3)
    client = Client(desk.fd, process)
    await refused(E.ACCES, client.open("0", OWRITE))
    await refused(E.ACCES, client.open("0", ORDWR))
    await refused(E.ACCES, client.open("1", OREAD))
    await refused(E.ISDIR, client.open("3", OREAD))
    await client.write("1", b"ab")
    client.server.clunk(await client.open("2", ORDWR))
    assert await desk.files.read("f") == b"ab23456789"


async def test_fd_lists_the_callers_own() -> None:
    desk = Desk()
    process = await desk.start()
    process.descriptors.add(await desk.node.open(process, "/f", ORDWR), 7)
    client = Client(desk.fd, process)
    assert await client.names("") == ["7", "7ctl"]
    line = (await client.read("7ctl")).decode().split()
    assert line[:2] == ["7", "rw"]
    assert line[-1] == "/f"
    other = Client(desk.fd, desk.node.processes.fork(process))
    assert await other.names("") == ["7", "7ctl"]
    process.descriptors.close(7)
    assert await client.names("") == []
    await refused(E.NOENT, client.walk("7"))


@given(st.text(st.sampled_from("0123456789ctl-+ ٣²"), max_size=6))
def test_only_the_listed_names_of_descriptors_are_found(name: str) -> None:
    async def scenario() -> None:
        desk = Desk()
        process = await desk.start()
        process.descriptors.add(await desk.node.open(process, "/f"), 12)
        if name in ("12", "12ctl", ""):
            return
        await refused(E.NOENT, Client(desk.fd, process).walk(name))

    asyncio.run(scenario())


async def test_a_file_that_was_posted_serves_who_opens_its_name() -> None:
    desk = Desk()
    process = await desk.start()
    data = await desk.node.open(process, "/pipe/data", ORDWR)
    data1 = await desk.node.open(process, "/pipe/data1", ORDWR)
    number = process.descriptors.add(data)
    board = Client(desk.srv, process)
    await board.put("service", b"%d\n" % number)
    assert await board.names("") == ["service"]
    other = Client(desk.srv, desk.node.processes.fork(process, Fork(descriptors=Share.CLEAN)))
    fid = await other.open("service", ORDWR)
    await other.write_fid(fid, b"ping")
    assert bytes(await done(data1.server.read(data1.fid, 0, 100))) == b"ping"
    process.descriptors.close(number)
    reading = asyncio.ensure_future(other.read_fid(fid))
    await asyncio.sleep(0)
    assert await done(data1.server.write(data1.fid, 0, b"pong")) == 4
    assert await reading == b"pong"
    other.server.clunk(fid)
    await board.remove("service")
    assert await board.names("") == []
    assert await done(data1.server.read(data1.fid, 0, 100)) == b"", "the posted end is not closed"


async def test_what_is_posted_outlives_its_process() -> None:
    desk = Desk()
    process = await desk.start()
    child = desk.node.processes.fork(process)
    number = child.descriptors.add(await desk.node.open(child, "/f", OREAD))
    await Client(desk.srv, child).put("f", str(number).encode())
    alive = desk.node.authority.kernel.processes.alive
    domain = child.namespace.domain.pid
    desk.node.processes.end(child, 0)
    assert not alive[domain]
    assert await Client(desk.srv, process).read("f") == b"0123456789"
    before = sum(alive.values())
    fid = await Client(desk.srv, process).open("f")
    await Client(desk.srv, process).remove("f")
    assert sum(alive.values()) == before, "who opened it has it yet"
    assert await Client(desk.srv, process).read_fid(fid) == b""
    desk.srv.clunk(fid)
    assert sum(alive.values()) == before - 1


async def test_what_is_posted_is_gone_when_the_poster_may_not_have_it() -> None:
    desk = Desk()
    process = await desk.start()
    child = desk.node.processes.fork(process)
    number = child.descriptors.add(await desk.node.open(child, "/f", OREAD))
    client = Client(desk.srv, process)
    await Client(desk.srv, child).put("f", str(number).encode())
    await Client(desk.srv, child).put("same", str(number).encode())
    fid = await client.open("f")
    desk.node.authority.revoke(process.namespace.domain.pid, process.namespace.root.cap)
    await refused(E.REVOKED, client.read_fid(fid))
    await refused(E.REVOKED, client.read("same"))


@pytest.mark.parametrize("by", ["descriptor", "/fd"])
async def test_what_may_not_be_handed_on_is_not_posted(by: str) -> None:
    desk = Desk()
    process = await desk.start()
    chan, domain = await desk.node.open(process, "/f", OREAD), process.namespace.domain
    number = process.descriptors.add(lent_for_reading(chan))
    chan.close()
    if by == "/fd":
        number = process.descriptors.add(await desk.node.open(process, f"/fd/{number}", OREAD))
        assert process.descriptors[number].cap != process.descriptors[0].cap
    board = Client(desk.srv, process)
    fid = await board.create("f", 0o666, OWRITE)
    await refused(E.ACCES, board.write_fid(fid, str(number).encode()))
    board.server.clunk(fid)
    await refused(E.NXIO, Client(desk.srv, desk.node.processes.fork(process)).read("f"))
    assert domain.authority.kernel.processes.alive[domain.pid]


async def test_what_may_not_be_handed_on_is_not_copied_by_way_of_fd() -> None:
    desk = Desk()
    process = await desk.start()
    chan = await desk.node.open(process, "/f", OREAD)
    for each in (lent_for_reading(chan), chan):
        number = process.descriptors.add(each)
        process.descriptors.add(await desk.node.open(process, f"/fd/{number}", OREAD))
    child = desk.node.processes.fork(process)
    assert list(child.descriptors) == [2, 3]
    with pytest.raises(FileError):
        ChanMover(child.namespace.domain).move(process.descriptors[1])


def lent_for_reading(chan: Chan) -> Chan:
    """The open file with READ alone, as a program has its input."""
    cap = chan.domain.mint(chan.cap, READ, chan.domain)
    return Chan(chan.handle, chan.domain, cap, chan.path, chan.origin)


async def test_a_board_takes_one_open_descriptor_for_each_name() -> None:
    desk = Desk()
    process = await desk.start()
    number = process.descriptors.add(await desk.node.open(process, "/f", OREAD))
    process.descriptors.add(await finish(process.namespace.find("/f", process.cwd, process)), 50)
    board = Client(desk.srv, process)
    fid = await board.create("x", 0o666, OWRITE)
    for text, error in ((b"none", E.USAGE), (b"", E.USAGE), (b"-1", E.USAGE), (b"99", E.BADF), (b"50", E.BADF)):
        await refused(error, board.write_fid(fid, text))
    await refused(E.NXIO, board.open("x"))
    await board.write_fid(fid, str(number).encode())
    await refused(E.ALREADY, board.write_fid(fid, str(number).encode()))
    await refused(E.EXIST, board.create("x", 0o666, OWRITE))
    await refused(E.ACCES, board.create("y", 0o666, OREAD))
    await refused(E.PERM, board.create("d", DMDIR | 0o777, OREAD))
    await refused(E.INVAL, board.create("..", 0o666, OWRITE))
    await refused(E.ACCES, board.open("x", OWRITE | OTRUNC))
    await board.remove("x")
    await refused(E.NOENT, board.write_fid(fid, str(number).encode()))
    board.server.clunk(fid)


async def test_a_posting_of_its_owner_goes_when_it_is_closed_there_and_with_its_process() -> None:
    desk = Desk()
    process = await desk.start()
    number = process.descriptors.add(await desk.node.open(process, "/f", OREAD))
    board = Client(desk.srv, process)
    fid = await board.create("x", 0o666, OWRITE)
    for wrong in (b"own", f"{number} own own".encode(), f"{number} mine".encode()):
        await refused(E.USAGE, board.write_fid(fid, wrong))
    await board.write_fid(fid, f"{number} own\n".encode())
    other = await board.open("x")
    assert await board.names("") == ["x"]
    desk.srv.clunk(other)
    assert await board.names("") == ["x"]  # it is not the owner's
    desk.srv.clunk(fid)
    assert await board.names("") == []
    fid = await board.create("x", 0o666, OWRITE)
    await board.write_fid(fid, f"{number} own".encode())
    await board.remove("x")
    await board.put("x", str(number).encode())
    desk.srv.clunk(fid)
    assert await board.names("") == ["x"]  # a later one of that name


async def test_what_is_posted_is_in_the_registry_here_as_long_and_no_other_machine_is_told() -> None:
    desk = Desk()
    process = await desk.start()
    number = process.descriptors.add(await desk.node.open(process, "/f", OREAD))
    board = Client(desk.srv, process)
    names = ("notes", "more.1", "not one", "x" * 61, "ü", "..x")
    for name in names:
        await board.put(name, str(number).encode())
    empty = await board.create("empty")
    assert [service.line for service in desk.registry.all()] == [
        f"srv:{name} kind srv address /srv/{name}\n" for name in ("..x", "more.1", "notes")
    ]
    assert desk.registry.own() == []
    desk.srv.clunk(empty)
    await board.remove("more.1")
    fid = await board.create("own", 0o600, OWRITE | ORCLOSE)
    await board.write_fid(fid, f"{number} own".encode())
    assert [service.name for service in desk.registry.all()] == ["srv:..x", "srv:notes", "srv:own"]
    desk.srv.clunk(fid)
    await board.remove("..x")
    assert [service.name for service in desk.registry.all()] == ["srv:notes"]
    desk.registry.withdraw("srv:notes")
    await board.remove("notes")
    assert list(desk.registry.all()) == []


async def test_a_full_registry_keeps_nobody_from_posting() -> None:
    desk = Desk()
    process = await desk.start()
    number = process.descriptors.add(await desk.node.open(process, "/f", OREAD))
    board = Client(desk.srv, process)
    for index in range(MAX_SERVICES + 1):
        await board.put(f"n{index}", str(number).encode())
    assert len(list(desk.registry.all())) == MAX_SERVICES
    desk.registry.register("mine", desk)
    assert [service.name for service in desk.registry.own()] == ["mine"]
    assert await board.read(f"n{MAX_SERVICES}") == b"0123456789"


async def test_a_posting_that_is_removed_on_close_takes_no_later_one_with_it() -> None:
    desk = Desk()
    process = await desk.start()
    number = process.descriptors.add(await desk.node.open(process, "/f", OREAD))
    board = Client(desk.srv, process)
    fid = await board.create("x", 0o666, OWRITE | ORCLOSE)
    await board.write_fid(fid, str(number).encode())
    await board.remove("x")
    await board.put("x", str(number).encode())
    board.server.clunk(fid)
    assert await board.names("") == ["x"]
