"""What the node keeps for each open file, so that it reads as it did when it was opened, counts with who opened it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.devices.desktop import MAX_SNARF, desktop_server
from cognu.devices.registry import Registry
from cognu.devices.registry_files import registry_server
from cognu.devices.sensor import MAX_VALUE, Host, Source, sensor_server
from cognu.errors import E, FileError
from cognu.files.limits import PEER_LIMITS, Copy, Quota, Resource
from cognu.files.server import Caller
from cognu.files.tree import TreeServer
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.node.node import Node
from cognu.node.resources import make_resources
from cognu.world import NO_HELPERS, Helpers
from cognu.world.disk import RealDisk
from cognu.world.real import RealClock, RealSpawn, RealThreads, real_world
from joined import bring
from serving import Client, Somebody


class Peer:
    """A peer's quota, as it is from the start, and a connection of it, which is process 7."""

    def __init__(self, limit: int = PEER_LIMITS[Resource.DISK]) -> None:
        self.quota = Quota(Quota(), "peer pi", {Resource.DISK: limit})
        self.session = Quota(self.quota)

    def quota_of(self, caller: Caller) -> Quota | None:
        return self.session if caller.pid == 7 else None

    @property
    def used(self) -> int:
        return self.quota.used(Resource.DISK)

    def client(self, server: TreeServer) -> Client:
        return Client(server, Somebody(7))


def test_a_copy_is_charged_as_long_as_it_is_kept_and_once() -> None:
    peer = Peer(10)
    copy = Copy(peer.session, b"12345")
    with pytest.raises(FileError) as caught:
        Copy(peer.session, b"123456")
    assert (caught.value.error, peer.used) == (E.DQUOT, 5)
    with pytest.raises(FileError):
        copy.check(11)
    copy.check(10)
    copy.put(b"1")
    assert peer.used == 1
    copy.check(0)
    copy.close()
    copy.close()
    copy.put(b"late")
    assert (peer.used, copy.data) == (0, b"")
    Copy(None, b"nobody's").close()


async def test_a_peer_with_ten_thousand_open_clipboards_is_refused_and_gives_back_what_it_closes() -> None:
    peer = Peer()
    server = desktop_server(NO_HELPERS, RealSpawn(), RealClock(), peer.quota_of)
    client, own = peer.client(server), Client(server, Somebody(1))
    await own.write("snarf", bytes(MAX_SNARF))
    opened = []
    for number in range(10_000):
        try:
            opened.append(await client.open("snarf", OREAD))
        except FileError as error:
            assert (error.error, error.subject) == (E.DQUOT, "disk")  # noqa: PT017
            assert number >= 256
    assert (len(opened), peer.used) == (256, 256 * MAX_SNARF)
    assert len(await own.read("snarf")) == MAX_SNARF, "others have it as before"
    server.clunk(opened.pop())
    opened.append(await client.open("snarf", OREAD))
    assert await bring(client.open("snarf", ORDWR)) is E.DQUOT
    for fid in opened:
        server.clunk(fid)
    assert peer.used == 0


async def test_what_is_written_through_an_open_clipboard_counts_and_a_refusal_changes_nothing() -> None:
    peer = Peer(100)
    server = desktop_server(NO_HELPERS, RealSpawn(), RealClock(), peer.quota_of)
    client = peer.client(server)
    fid = await client.open("snarf", OWRITE)
    await client.write_fid(fid, b"x" * 60)
    await client.write_fid(fid, b"y" * 40, 60)
    assert peer.used == 100
    assert await bring(client.write_fid(fid, b"z", 100)) is E.DQUOT
    await client.write_fid(fid, b"short")
    assert peer.used == 5
    assert await client.read("snarf") == b"short"
    server.clunk(fid)
    assert peer.used == 0


async def test_a_clipboard_that_can_not_be_written_costs_nothing() -> None:
    peer = Peer(100)
    broken = Helpers(copy=("/none",), paste=("/none",))
    server = desktop_server(broken, RealSpawn(), RealClock(), peer.quota_of)
    client = peer.client(server)
    with pytest.raises(FileError):
        await client.open("snarf", OREAD)
    fid = await client.open("snarf", OWRITE)
    with pytest.raises(FileError):
        await client.write_fid(fid, b"x")
    assert peer.used == 0
    server.clunk(fid)


async def test_sensors_and_services_that_are_open_count_too(tmp_path: Path) -> None:
    peer = Peer(2 * MAX_VALUE)
    (tmp_path / "log").write_bytes(bytes(MAX_VALUE))
    threads = RealThreads(1)
    host = Host(RealDisk(), threads, RealSpawn(), RealClock(), peer.quota_of)
    sensors = peer.client(sensor_server(host, {"log": Source(file=str(tmp_path / "log"))}))
    registry = Registry(RealClock())
    services = peer.client(registry_server(registry, peer.quota_of))
    registry.register("notes kind notes", peer)
    size = len(b"notes kind notes\n")
    try:
        fids = [(sensors, await sensors.open("sensor/log")), (services, await services.open("index"))]
        fids += [(services, await services.open("own")), (services, await services.open("find", ORDWR))]
        await services.write_fid(fids[-1][1], b"kind notes")
        assert peer.used == MAX_VALUE + 3 * size
        assert await bring(sensors.open("sensor/log")) is E.DQUOT
        await services.write_fid(fids[-1][1], b"kind none")
        assert peer.used == MAX_VALUE + 2 * size
        peer.quota.set_limit(Resource.DISK, peer.used)
        for asked in (services.write_fid(fids[-1][1], b"kind notes"), services.open("own"), services.open("index")):
            assert await bring(asked) is E.DQUOT
        assert await services.read_fid(fids[-1][1]) == b""
        for client, fid in fids:
            client.server.clunk(fid)
        assert peer.used == 0
    finally:
        threads.close()


async def test_a_node_charges_its_peers_for_what_of_its_host_they_keep_open() -> None:
    peer, threads = Peer(100), RealThreads(1)
    settings = SimpleNamespace(commands={}, sensors={})
    node: Any = SimpleNamespace(
        world=replace(real_world(), threads=threads, helpers=NO_HELPERS), settings=settings,
        home=SimpleNamespace(settings="settings"), processes=peer,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        desktop = make_resources(cast(Node, node), stack)["D"]
        client = Client(desktop, Somebody(7))
        fid = await client.open("snarf", OWRITE)
        assert await bring(client.write_fid(fid, bytes(101))) is E.DQUOT
        desktop.clunk(fid)
    threads.close()
