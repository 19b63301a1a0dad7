"""HOME/namespace: each line is carried out at the start, or when the peer it needs comes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cognu.devices.ram import RamServer
from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.mount import MountServer
from cognu.files.process import Process
from cognu.mesh.imports import NetworkServer
from cognu.node.script import BaseScript
from cognu.world.real import RealClock, real_world
from serving import Client, Node
from wasi_kit import HandClock


class NoService:
    async def mount_service(self, chan: object, aname: str) -> object:
        raise FileError(E.NXIO, aname)


class Base:
    """A base with memory at /tmp; the peer `pi` answers as `dial` says."""

    def __init__(self, home: Path, clock: HandClock) -> None:
        self.ram = RamServer(RealClock())
        self.path = home / "namespace"
        self.world = replace(real_world(), clock=clock)
        self.dialled = 0
        self.refusal: FileError | None = None

    async def dial(self, name: str) -> MountServer:
        self.dialled += 1
        if self.refusal is not None:
            raise self.refusal
        answer: MountServer = await asyncio.get_running_loop().create_future()
        return answer

    async def start(self) -> tuple[Process, BaseScript]:
        self.network = NetworkServer(lambda: ["pi"], self.dial)
        base = await Node(SkeletonServer(["/n", "/tmp", "/mnt"])).start({"/n": self.network, "/tmp": self.ram})
        return base, BaseScript(self.world, base, str(self.path), NoService())  # type: ignore[arg-type]

    async def make(self, path: str) -> None:
        client = Client(self.ram)
        await client.mkdir(path)
        client.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def mounted(process: Process) -> list[str]:
    return [str(head.place.path) for head in process.namespace.heads.values()]


async def test_a_line_that_failed_is_tried_again_and_the_others_are_not(tmp_path: Path, clock: HandClock) -> None:
    base = Base(tmp_path, clock)
    base.path.write_text("# mine\n\nbind /tmp/a /mnt\nbind /tmp /n/here\nnonsense\n")
    process, script = await base.start()
    await script.begin()
    assert script.waiting == ["bind /tmp/a /mnt", "nonsense"]
    assert mounted(process) == ["/n", "/tmp", "/n/here"]
    await script.again()
    assert script.waiting == ["bind /tmp/a /mnt", "nonsense"]
    await base.make("/a")
    await script.again()
    assert script.waiting == ["nonsense"]
    assert mounted(process) == ["/n", "/tmp", "/n/here", "/mnt"]


async def test_a_line_taken_out_of_the_file_is_not_tried_again(tmp_path: Path, clock: HandClock) -> None:
    base = Base(tmp_path, clock)
    base.path.write_text("bind /tmp/a /mnt\n")
    process, script = await base.start()
    await script.begin()
    base.path.write_text("")
    await base.make("/a")
    await script.again()
    assert script.waiting == []
    assert mounted(process) == ["/n", "/tmp"]


async def test_no_start_waits_for_a_peer_for_long(tmp_path: Path, clock: HandClock) -> None:
    base = Base(tmp_path, clock)
    base.path.write_text("bind /n/pi/a /mnt\nbind /n/pi/b /mnt\nbind /tmp /n/here\n")
    process, script = await base.start()
    await script.begin()  # the hand's clock does not wait
    assert script.waiting == ["bind /n/pi/a /mnt", "bind /n/pi/b /mnt"]
    assert mounted(process) == ["/n", "/tmp", "/n/here"]
    await base.network.close()


async def test_a_peer_that_is_away_is_asked_again_when_a_link_comes_up(tmp_path: Path, clock: HandClock) -> None:
    base = Base(tmp_path, clock)
    base.refusal = FileError(E.HOSTUNREACH, "pi")
    clock.hold = asyncio.Event()
    base.path.write_text("bind /n/pi/a /mnt\n")
    _, script = await base.start()
    await script.begin()
    await script.again()
    # Each time twice: by who asks whether the machine is there, and by who is then told why it is not. Both are asked
    # of the one session, which dials once (`test_a_dial_that_failed_stands_for_a_second_and_no_longer`).
    assert (base.dialled, script.waiting) == (4, ["bind /n/pi/a /mnt"])


async def test_no_script_is_nothing_to_do(tmp_path: Path, clock: HandClock) -> None:
    _, script = await Base(tmp_path, clock).start()
    await script.begin()
    await script.again()
    assert script.waiting == []
