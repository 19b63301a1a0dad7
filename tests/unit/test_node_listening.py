"""`cognu listen`: who connects and does not attach, and how many may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cognu.devices.ram import RamServer
from cognu.devices.registry import MAX_LINE, Registry
from cognu.errors import CognuError, E, FileError
from cognu.files.mount import MountServer
from cognu.files.shown import Shown
from cognu.ninep.messages import Dialect
from cognu.ninep.types import DMDIR, QTDIR
from cognu.node import listening
from cognu.node.listening import Listening
from cognu.node.node import Node
from cognu.node.settings import Home, Settings
from cognu.world.real import RealClock, real_world
from serving import Client, Somebody, done
from serving import Node as SmallNode
from wasi_kit import HandClock


@pytest.fixture
def clock() -> HandClock:
    made = HandClock()
    made.hold = asyncio.Event()
    return made


@pytest.fixture
async def node(tmp_path: Path, clock: HandClock) -> AsyncIterator[Node]:
    made = Node(replace(real_world(), clock=clock), Home(str(tmp_path)), Settings("desk"), "me")
    small = SmallNode(RamServer(RealClock()))
    made.processes = small.processes
    made.base = await small.start()
    yield made
    await made.end_tasks()


async def attached(node: Node, address: str, aname: str) -> MountServer:
    mount = await MountServer.connect(await node.world.network.connect_tcp(address), RealClock(), offer=Dialect.NG)
    try:
        fid = await mount.attach(Somebody(), aname)
    except CognuError:
        await mount.close()
        raise
    assert fid.qid.type & QTDIR
    return mount


async def test_who_does_not_attach_in_time_is_hung_up_on_and_who_did_stays(node: Node, clock: HandClock) -> None:
    served = Listening(node, Registry(node.world.clock))
    address, token = await served.listen("127.0.0.1:0", Shown("/"), None)
    assert token
    idle = await node.world.network.connect_tcp(address)
    good = await attached(node, address, token)
    assert len(node.processes) == 2
    assert clock.hold is not None
    clock.hold.set()
    assert await idle.read(1) == b""
    assert set(clock.slept) == {listening.ATTACH_SECONDS}
    good.clunk(await good.attach(Somebody(), token))  # it still answers
    await good.close()
    idle.close()
    await idle.wait_closed()
    await served.close()
    assert len(node.processes) == 1


async def test_one_connection_more_than_may_be_is_hung_up_on(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "MOST_CONNECTIONS", 2)
    served = Listening(node, Registry(node.world.clock))
    address, token = await served.listen("127.0.0.1:0", Shown("/"), None)
    assert token
    first, second = [await attached(node, address, token) for _ in range(2)]
    third = await node.world.network.connect_tcp(address)
    assert await third.read(1) == b""
    assert "hung up on" in caplog.text
    third.close()
    for late in (False, False, True):
        monkeypatch.setattr(listening, "TOLD_NS", 0 if late else listening.TOLD_NS)
        more = await node.world.network.connect_tcp(address)
        assert await more.read(1) == b""
        more.close()
    told = [record.getMessage() for record in caplog.records if "hung up on" in record.getMessage()]
    assert len(told) == 2
    assert "hung up on, and 2 before it: 2 are" in told[1]
    served_first = next(process for process in node.processes if process is not node.base)
    await first.close()
    await served_first.ended.wait()
    fourth = await attached(node, address, token)
    for mount in (second, fourth):
        await mount.close()
    await served.close()


async def test_what_is_listened_for_is_in_the_registry_as_long_and_others_are_told_of_the_loopback(
    node: Node, tmp_path: Path
) -> None:
    registry = Registry(node.world.clock)
    served = Listening(node, registry)
    address, token = await served.listen("127.0.0.1:0", Shown("/"), "9P2000.L")
    assert token
    port = address.rpartition(":")[2]
    told = f"9p:1 kind 9p address 'tcp!127.0.0.1!{port}' tree / dialect 9P2000.L\n"
    assert [service.line for service in registry.own()] == [told]
    near, _ = await served.listen(str(tmp_path / "a:9"), Shown("/", hide=("secret",)), None)
    assert [service.line for service in registry.all()] == [told, f"9p:2 kind 9p address 'unix!{near}' tree /\n"]
    assert [service.line for service in registry.own()] == [told], "no other machine reaches a socket of the host"
    await served.unlisten(address)
    assert [service.name for service in registry.all()] == ["9p:2"]
    await served.close()
    assert list(registry.all()) == []


async def test_what_can_not_be_registered_is_served_and_the_log_says_so(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(node.world.clock)
    served = Listening(node, registry)
    root = node.base.namespace.root
    name = "x" * 255
    tree = ""
    while len(tree) <= MAX_LINE:
        tree += f"/{name}"
        await Client(root.server).mkdir(tree)
    address, token = await served.listen("127.0.0.1:0", Shown(tree), None)
    assert token
    assert list(registry.all()) == []
    assert f"{address} is served, and not in the registry: service: " in caplog.text
    mount = await attached(node, address, token)
    await mount.close()
    await served.close()


@pytest.mark.parametrize("aname", ["", "wrong", "\u00e4\u00f6", "x" * 1000])
async def test_a_wrong_token_makes_no_process(node: Node, aname: str) -> None:
    served = Listening(node, Registry(node.world.clock))
    address, _ = await served.listen("127.0.0.1:0", Shown("/"), None)
    with pytest.raises(FileError) as caught:
        await attached(node, address, aname)
    assert caught.value.error is E.NOATTACH
    await served.close()
    assert len(node.processes) == 1


async def test_a_tree_that_went_away_is_told_and_leaves_nothing(node: Node) -> None:
    served = Listening(node, Registry(node.world.clock))
    root = node.base.namespace.root
    root.server.clunk(await done(root.server.create(root.fid, "tree", DMDIR | 0o755, 0, Somebody())))
    address, token = await served.listen("127.0.0.1:0", Shown("/tree"), None)
    fid = (await done(root.server.walk(root.fid, ["tree"], Somebody()))).fid
    assert fid is not None
    await done(root.server.remove(fid))
    root.server.clunk(fid)
    with pytest.raises(FileError) as caught:
        await attached(node, address, token or "")
    assert caught.value.error is E.NOENT
    await served.close()
    assert len(node.processes) == 1


async def test_a_task_of_the_node_that_fails_is_logged(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    async def fails() -> None:
        begun.set()
        raise ValueError("what went wrong")

    with caplog.at_level(logging.ERROR):
        node.spawn(fails())
        await begun.wait()
        await asyncio.sleep(0)  # what is called when a task is done comes a turn later
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "what went wrong" in caplog.text
