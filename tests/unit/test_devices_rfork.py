"""rfork's combinations as /env and /fd show them: shared, copied and clean, each on its own."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable
from typing import Any

import pytest

from cognu.devices.env import env_server
from cognu.devices.fd import fd_server
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.process import Fork, Process, Share
from cognu.ninep.types import ORDWR, OTRUNC, OWRITE
from cognu.world.real import RealClock
from serving import Client, Node

COMBINATIONS = list(itertools.product(Share, repeat=3))


class Desk:
    """`init` has a variable and two open files."""

    def __init__(self) -> None:
        ram = RamServer(RealClock())
        self.files = Client(ram)
        self.node = Node(ram)
        self.env, self.fd = env_server(self.node.processes), fd_server(self.node.processes)

    async def start(self) -> Process:
        await self.files.put("f", b"0123456789")
        init = await self.node.start()
        init.environment.values["KEPT"] = b"before"
        for number in (0, 4):
            init.descriptors.add(await self.node.open(init, "/f", ORDWR), number)
        return init

    async def variables(self, of: Process) -> dict[str, bytes]:
        client = Client(self.env, of)
        return {name: await client.read(name) for name in await client.names("")}

    async def open_files(self, of: Process) -> list[str]:
        return [name for name in await Client(self.fd, of).names("") if not name.endswith("ctl")]


async def refused(error: E, call: Awaitable[Any]) -> None:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error


@pytest.mark.parametrize(("environment", "descriptors", "namespace"), COMBINATIONS)
async def test_the_environment_is_shared_copied_or_clean(
    environment: Share, descriptors: Share, namespace: Share
) -> None:
    desk = Desk()
    init = await desk.start()
    child = desk.node.processes.fork(init, Fork(namespace, environment, descriptors))
    kept = {} if environment is Share.CLEAN else {"KEPT": b"before"}
    assert await desk.variables(child) == kept
    theirs, mine = Client(desk.env, child), Client(desk.env, init)
    await theirs.put("CHILD", b"c")
    await mine.put("PARENT", b"p")
    await mine.write("KEPT", b"after", OWRITE | OTRUNC)
    if environment is Share.SHARE:
        everything = {"KEPT": b"after", "CHILD": b"c", "PARENT": b"p"}
        assert await desk.variables(child) == await desk.variables(init) == everything
        await theirs.remove("KEPT")
        await refused(E.NOENT, mine.read("KEPT"))
    else:
        assert await desk.variables(child) == {**kept, "CHILD": b"c"}
        assert await desk.variables(init) == {"KEPT": b"after", "PARENT": b"p"}
    desk.node.processes.end(child, 0)
    assert ("CHILD" in await desk.variables(init)) == (environment is Share.SHARE)
    desk.node.processes.end(init, 0)


@pytest.mark.parametrize(("environment", "descriptors", "namespace"), COMBINATIONS)
async def test_open_files_are_shared_copied_or_clean(environment: Share, descriptors: Share, namespace: Share) -> None:
    desk = Desk()
    init = await desk.start()
    child = desk.node.processes.fork(init, Fork(namespace, environment, descriptors))
    clean = descriptors is Share.CLEAN
    assert await desk.open_files(child) == ([] if clean else ["0", "4"])
    chan = init.descriptors[4]
    if clean:
        await refused(E.NOENT, Client(desk.fd, child).open("4"))
    else:
        # The same open file: what one reads the other has passed.
        fid = await Client(desk.fd, child).open("4")
        assert await desk.files.read_fid(fid, 0) == b""
        assert bytes(await Client(desk.fd, child).read_fid(fid, 3)) == b"012"
        desk.fd.clunk(fid)
        assert chan.handle.offset == 3
    init.descriptors.close(0)
    child.descriptors.add(await desk.node.open(init, "/f", ORDWR) if clean else child.descriptors[4].share(), 9)
    expected = {
        Share.SHARE: (["4", "9"], ["4", "9"]),
        Share.COPY: (["0", "4", "9"], ["4"]),
        Share.CLEAN: (["9"], ["4"]),
    }
    assert (await desk.open_files(child), await desk.open_files(init)) == expected[descriptors]
    desk.node.processes.end(init, 0)
    left = {Share.SHARE: ["4", "9"], Share.COPY: ["0", "4", "9"], Share.CLEAN: ["9"]}[descriptors]
    assert await desk.open_files(child) == left
    for name in left if descriptors is not Share.CLEAN else []:
        assert (await Client(desk.fd, child).read(f"{name}ctl")).endswith(b" /f\n")
    desk.node.processes.end(child, 0)
    assert chan.closed


async def test_a_variable_open_before_the_fork_is_the_openers() -> None:
    desk = Desk()
    init = await desk.start()
    mine = Client(desk.env, init)
    fid = await mine.open("KEPT", ORDWR)
    child = desk.node.processes.fork(init)
    await mine.write_fid(fid, b"XX")
    assert (await desk.variables(init), await desk.variables(child)) == ({"KEPT": b"XXfore"}, {"KEPT": b"before"})
    desk.env.clunk(fid)
