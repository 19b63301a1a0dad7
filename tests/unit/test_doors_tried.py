"""The doors to what is not a tree of files, tried: by another's capability, a revoked one, one that lacks a right.

What a process gets by the device `#p`, `#s`, `#I`, `#V`, `#n` or `#N` is real here, the world behind it is not: it
notes what it was made to do. A refusal leaves everything as it was. Walk, open, create and attach are tried so in
`test_doors.py`, for every right; that from afar no name leads to any of it, in `e2e/test_doors.py`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cognu.devices.net import NetServer
from cognu.devices.proc import ProcServer
from cognu.devices.ram import RamServer
from cognu.devices.srv import srv_server
from cognu.errors import E, FileError
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.dispatch import dispatch
from cognu.files.launch import Launch
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace, rights_of_mode
from cognu.files.process import Process, ProcessTable, State
from cognu.files.rpc import request_text
from cognu.files.server import Fid, FileServer
from cognu.files.steps import finish
from cognu.kernel import ALL_RIGHTS, CREATE, EXECUTE, GRANT, NODE, READ, WRITE, Cap
from cognu.mesh.imports import NetworkServer
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.node.control import control_server
from cognu.store.names import name_of
from cognu.store.objects import Store
from cognu.store.server import store_server
from cognu.world import Announcement, TcpStream
from cognu.world.net import RealNetwork
from cognu.world.real import RealClock, real_world
from serving import Client, Somebody

OBJECT = b"at a peer"


class Door(NamedTuple):
    """Open `path`, or create `name` in it; then write `text`, or read if that is None."""

    path: str
    mode: int
    text: bytes | None = None
    name: str = ""

    @property
    def opening(self) -> int:
        return rights_of_mode(self.mode) | (CREATE if self.name else 0)

    @property
    def using(self) -> int:
        return READ if self.text is None else WRITE


DOORS = {
    "/proc": Door("#p/clone", ORDWR),
    "spawn": Door("#p/clone", ORDWR, b"program /x\nstart\n"),
    "kill": Door("#p/{child}/ctl", OWRITE, b"kill"),
    "/srv": Door("#s/posted", OREAD),
    "/srv, to post": Door("#s", OWRITE, b"0", "new"),
    "/net": Door("#I/tcp/clone", ORDWR, b"connect 10.0.0.1!80"),
    "listen": Door("#I/tcp/clone", ORDWR, b"announce 127.0.0.1!0"),
    "listen, for 9P clients": Door("#n/rpc", ORDWR, request_text("listen", {})),
    "export": Door("#n/rpc", OWRITE, request_text("export", {})),
    "fetch": Door("#V/objects/{object}", OREAD),
    "import": Door("#N/pi", OREAD),
}
"""By the words of docs/assurance.md."""
BEHIND = (E.CONNREFUSED, E.HOSTUNREACH)
"""What the world answers when something is asked of it: too late for a refusal."""


class Noted(RamServer):
    def __init__(self, noted: list[str]) -> None:
        super().__init__(RealClock())
        self._noted = noted

    def read(self, fid: Fid, offset: int, count: int) -> Any:
        self._noted.append("read")
        return super().read(fid, offset, count)


class Network(RealNetwork):
    def __init__(self, noted: list[str]) -> None:
        self._noted = noted

    async def connect_tcp(self, address: str, timeout: float = 20.0) -> TcpStream:
        self._noted.append(f"connect {address}")
        raise FileError(E.CONNREFUSED, address)

    async def announce_tcp(self, address: str) -> Announcement:
        self._noted.append(f"announce {address}")
        raise FileError(E.CONNREFUSED, address)


class Bench:
    """`owner` holds capabilities with all rights to each device; a process is given what is to be tried."""

    def __init__(self, store: Store) -> None:
        self.noted: list[str] = []
        self.authority = Authority()
        self.owner, self.other = Domain(self.authority), Domain(self.authority)
        self.processes = ProcessTable(lambda: 1)
        self.servers: dict[str, FileServer] = {
            "p": ProcServer(self.processes, self, self.launch),
            "s": srv_server(self.processes),
            "I": NetServer(Network(self.noted), unix=None, announce=True),
            "n": control_server({"listen": self.asked, "export": self.asked}, dict),
            "V": store_server(store),
            "N": NetworkServer(lambda: ["pi"], self.dial),
        }
        self.caps = {letter: self._cap() for letter in self.servers}
        store.fetch_from(lambda: [("pi", self.source)])
        self.opened: list[Chan] = []

    def _cap(self) -> Cap:
        return self.authority.mint(NODE, self.authority.new_server()[1], ALL_RIGHTS, self.owner.pid)

    async def launch(self, process: Process, launch: Launch) -> None:
        self.noted.append(f"start {launch.program}")

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        raise AssertionError("no door mounts")

    async def asked(self, arguments: dict[str, Any]) -> Any:
        self.noted.append("asked")
        return {"granted": []}

    async def dial(self, name: str) -> MountServer:
        self.noted.append(f"dial {name}")
        raise FileError(E.HOSTUNREACH, name)

    async def source(self, name: str) -> AsyncGenerator[bytes, None]:
        self.noted.append(f"fetch {name}")
        yield OBJECT

    async def start(self) -> Process:
        """A process with a file as descriptor 0, which is posted, and a child that can be killed."""
        root = await finish(attach_own(Noted(self.noted), self.other, Somebody()))
        process = self.processes.add("glenda", Namespace(self.other.hold(), root), root.share())
        process.state = State.RUNNING
        file = await finish(process.namespace.create(root, "file", 0o600, ORDWR, process))
        assert process.descriptors.add(file) == 0
        await Client(self.servers["s"], process).put("posted", b"0")
        self.child = self.processes.fork(process)
        self.child.state = State.RUNNING
        self.child.kill = lambda by: self.noted.append("kill")
        return process

    async def open(self, process: Process, door: Door, cap: Cap) -> Chan:
        letter = door.path[1]
        namespace = Namespace(self.other, process.namespace.root.share(), {letter: (self.servers[letter], cap)})
        path = door.path.format(child=self.child.pid, object=name_of(OBJECT))
        chan = await finish(namespace.find(path, namespace.root, process))
        if door.name:
            chan = await finish(namespace.create(chan, door.name, 0o600, door.mode, process))
        else:
            chan = await finish(namespace.open(chan, door.mode, process))
        self.opened.append(chan)
        return chan

    async def use(self, chan: Chan, door: Door) -> None:
        if door.text is None:
            await finish(dispatch(chan, READ, chan.server.read, chan.fid, 0, 100))
        else:
            await finish(dispatch(chan, WRITE, chan.server.write, chan.fid, 0, door.text))

    async def state(self) -> object:
        posted = await Client(self.servers["s"]).names("")
        return [(each.pid, each.state) for each in self.processes], posted, list(self.noted)

    def held(self, door: Door, rights: int) -> Cap:
        return self.owner.mint(self.caps[door.path[1]], rights | GRANT, self.other)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = Store(real_world(), str(tmp_path))
    made = Bench(store)
    yield made
    for chan in made.opened:
        chan.close()
    for process in made.processes:
        made.processes.end(process, 0)
    await store.close()


@pytest.mark.parametrize("name", DOORS)
async def test_a_door_opens_with_the_rights_it_takes_and_no_more(bench: Bench, name: str) -> None:
    """Else the refusals below would show nothing."""
    door, process = DOORS[name], await bench.start()
    before = await bench.state()
    try:
        await bench.use(await bench.open(process, door, bench.held(door, door.opening | door.using)), door)
    except FileError as error:
        if error.error not in BEHIND:
            raise
    assert await bench.state() != before


@pytest.mark.parametrize("name", DOORS)
async def test_a_door_is_shut_to_anothers_capability_a_revoked_one_and_one_that_lacks_a_right(
    bench: Bench, name: str
) -> None:
    door, process = DOORS[name], await bench.start()
    letter = door.path[1]
    before = await bench.state()
    revoked = bench.held(door, ALL_RIGHTS)
    bench.authority.revoke(bench.owner.pid, bench.caps[letter])
    tries = [(bench.caps[letter], E.ACCES), (revoked, E.REVOKED)]
    tries += [(bench.held(door, ALL_RIGHTS & ~right), E.ACCES) for right in RIGHTS if right & door.opening]
    assert len(tries) > 2
    for cap, error in tries:
        with pytest.raises(FileError) as caught:
            await bench.open(process, door, cap)
        assert caught.value.error is error
        assert await bench.state() == before


RIGHTS = (READ, WRITE, EXECUTE, CREATE)
OPENED = [name for name in DOORS if name != "import"]
"""A peer's tree that is open is files again."""


@pytest.mark.parametrize("name", OPENED)
async def test_what_was_opened_serves_no_more_once_revoked_nor_another_nor_without_the_right(
    bench: Bench, name: str
) -> None:
    door, process = DOORS[name], await bench.start()
    cap = bench.held(door, ALL_RIGHTS)
    chan = await bench.open(process, door, cap)
    before = await bench.state()
    tries = [(bench.caps[door.path[1]], E.ACCES), (bench.held(door, ALL_RIGHTS & ~door.using), E.ACCES)]
    for held, error in tries:
        twin = Chan(chan.handle, bench.other, held, chan.path, chan.origin)
        bench.opened.append(twin)
        with pytest.raises(FileError) as caught:
            await bench.use(twin, door)
        assert caught.value.error is error
        assert await bench.state() == before
    bench.authority.revoke(bench.owner.pid, bench.caps[door.path[1]])
    with pytest.raises(FileError) as caught:
        await bench.use(chan, door)
    assert caught.value.error is E.REVOKED
    assert await bench.state() == before


def test_these_are_the_doors_that_the_page_on_assurance_names() -> None:
    page = (Path(__file__).parents[2] / "docs" / "assurance.md").read_text()
    found = re.search(r"^\| doors \| each way to something outside of a process \(([^)]*)\)", page, re.MULTILINE)
    assert found is not None
    in_trees = {"walk", "open", "create", "attach"}  # which `test_doors.py` tries
    assert set(found[1].split(", ")) == in_trees | {name.partition(",")[0] for name in DOORS}
