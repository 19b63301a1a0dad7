"""Names in /n that something is mounted on: made by mounting, and gone with the last mount."""

from __future__ import annotations

import pytest

from cognu.devices.ram import RamServer
from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.listing import read_directory
from cognu.files.mount import MountServer
from cognu.files.nscommands import apply
from cognu.files.nstext import describe
from cognu.files.process import Fork, Process
from cognu.files.steps import finish
from cognu.mesh.imports import MAX_NAME, NetworkServer
from cognu.world.real import RealClock
from serving import Client, Node


async def nobody_answers(name: str) -> MountServer:
    raise FileError(E.HOSTUNREACH, name)


class NoService:
    async def mount_service(self, chan: object, aname: str) -> object:
        raise FileError(E.NXIO, aname)


class Place:
    """A process with a memory file server at /tmp and the network, with the peer `pi` that is away, at /n."""

    def __init__(self) -> None:
        self.peers = ["pi"]
        self.network = NetworkServer(lambda: self.peers, nobody_answers)
        self.node = Node(SkeletonServer(["/n", "/tmp"]))

    async def start(self) -> Process:
        ram = RamServer(RealClock())
        process = await self.node.start({"/n": self.network, "/tmp": ram})
        client = Client(ram)
        await client.mkdir("/a")
        await client.put("/a/file")
        client.close()
        return process

    async def names(self, process: Process, path: str = "/n") -> list[str]:
        chan = await self.node.open(process, path)
        try:
            return [entry.name for entry in await finish(read_directory(process.namespace, chan, 0, 100, process))]
        finally:
            chan.close()


async def change(process: Process, line: str) -> None:
    await finish(apply(process, line, NoService()))  # type: ignore[arg-type]


async def refused(process: Process, line: str) -> E:
    with pytest.raises(FileError) as raised:
        await change(process, line)
    return raised.value.error


async def test_a_bind_below_n_makes_its_place_and_unmounting_removes_it() -> None:
    place = Place()
    process = await place.start()
    await change(process, "bind /tmp/a /n/photos")
    assert await place.names(process) == ["photos", "pi"]
    assert await place.names(process, "/n/photos") == ["file"]
    assert "bind /tmp/a /n/photos\n" in describe(process.namespace, process.cwd)
    await change(process, "unmount /n/photos")
    assert await place.names(process) == ["pi"]
    assert await refused(process, "cd /n/photos") is E.NOENT


async def test_a_place_lasts_as_long_as_any_namespace_mounts_on_it() -> None:
    place = Place()
    process = await place.start()
    await change(process, "bind /tmp/a /n/photos")
    other = place.node.processes.fork(process, Fork())
    await change(process, "unmount /n/photos")
    assert await place.names(other, "/n/photos") == ["file"]
    assert await place.names(process, "/n/photos") == []  # the bare place, while another has it
    await change(process, "bind -a /tmp/a /n/photos")
    place.node.processes.end(other, 0)
    assert await place.names(process, "/n/photos") == ["file"]
    place.node.processes.end(process, 0)
    client = Client(place.network)
    assert await client.names("/") == ["pi"]
    client.close()


async def test_a_mount_that_fails_leaves_no_place() -> None:
    place = Place()
    process = await place.start()
    assert await refused(process, "bind /tmp/none /n/photos") is E.NOENT
    assert await refused(process, "bind /tmp/a/file /n/photos") is E.MOUNT
    assert await refused(process, "mount /tmp/a/file /n/photos") is E.NXIO
    assert await place.names(process) == ["pi"]


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("/n/photos/deep", E.NOENT), ("/tmp/none", E.NOENT), ("/none", E.NOENT),
        ("/n/pi/none", E.HOSTUNREACH), ("/n/none/..", E.NOENT), ("/n/" + "x" * (MAX_NAME + 1), E.NAMETOOLONG),
    ],
)  # fmt: skip
async def test_places_are_made_directly_below_n_and_nowhere_else(at: str, error: E) -> None:
    place = Place()
    process = await place.start()
    assert await refused(process, f"bind /tmp/a {at}") is error
    assert await place.names(process) == ["pi"]


async def test_a_place_is_an_empty_directory_in_which_nothing_is_made() -> None:
    place = Place()
    process = await place.start()
    await change(process, "bind /tmp/a /n/photos")
    client = Client(place.network)
    assert (await client.stat("/photos")).is_dir
    with pytest.raises(FileError) as raised:
        await client.create("/photos/x")
    assert raised.value.error is E.ACCES
    with pytest.raises(FileError) as raised:
        await client.walk("/photos/x")
    assert raised.value.error is E.NOENT
    client.close()


async def test_a_peer_of_a_places_name_comes_first_from_when_it_is_joined() -> None:
    """A place is one process's: it must not hide a peer from all others, nor stand in for it."""
    place = Place()
    process = await place.start()
    await change(process, "bind /tmp/a /n/photos")
    place.peers.append("photos")
    assert await place.names(process) == ["photos", "pi"]
    with pytest.raises(FileError) as raised:
        await finish(process.namespace.find("/n/photos/file", process.cwd, process))
    assert raised.value.error is E.HOSTUNREACH
