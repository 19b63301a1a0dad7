"""Listings that Tab keeps: no round trip for what did not change, near and far, and never what is not so any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.export import Export
from cognu.files.mount import MountServer
from cognu.files.mounts import MREPL
from cognu.files.server import Notice
from cognu.files.steps import finish
from cognu.kernel import ALL_RIGHTS
from cognu.mesh.imports import NetworkServer
from cognu.ninep.types import DMDIR, OREAD, Stat
from cognu.ninep.watches import BROKEN, LOST, MADE, REMOVED, RENAMED
from cognu.shell.completion import complete
from cognu.shell.listings import KEPT, Listings
from cognu.shell.state import Shell
from joined import StoppedClock, attach_to, idle, local_process
from serving import Client, Somebody
from sessions import Served, nothing_open, served
from shell_fake import FakeSystem
from streams import pair
from watched import Frame, Noted


class Counting(FakeSystem):
    """Counts how often it is listed."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = 0

    async def list(self, path: str) -> list[Stat]:
        self.listed += 1
        found = await super().list(path)
        if self.listed == 2:
            await self.second()
        return found

    async def second(self) -> None:
        """Comes in the midst of the second listing, the one that is to be kept."""

    def tell(self, path: str, notice: Notice) -> None:
        self.world.watches[path].notices.put_nowait(notice)


def system() -> Counting:
    made = Counting()
    for path in ("/home/me", "/a/b/x", "/a/c"):
        made.make(path)
    return made


async def names(listings: Listings, path: str) -> list[str]:
    found = [stat.name for stat in await listings.list(path)]
    await listings.settled()
    return found


async def test_a_directory_is_listed_again_only_when_it_or_the_way_to_it_changed() -> None:
    fake = system()
    listings = Listings(fake)
    for path, notice, again in (
        ("/a/b", Notice(MADE, "y"), True),
        ("/a", Notice(REMOVED, "c"), False),
        ("/a", Notice(RENAMED, "b", "d"), True),
        ("/", Notice(RENAMED, "z", "a"), True),
        ("/a", Notice(LOST), True),
        ("/a", Notice(REMOVED), True),
        ("/", Notice(BROKEN), True),
        ("/", Notice(REMOVED, "home"), False),
    ):
        assert await names(listings, "/a/b") == ["x"]
        before = fake.listed
        assert await names(listings, "/a/b") == ["x"]
        assert fake.listed == before
        fake.tell(path, notice)
        await idle()
        assert await names(listings, "/a/b/../b") == ["x"]
        assert (fake.listed > before) is again
    await listings.close()
    assert not any(watch.is_open for watch in fake.world.watches.values())


async def test_what_can_not_be_watched_or_is_reached_by_a_link_is_listed_each_time() -> None:
    fake = system()
    fake.make("/link", link="/a")
    listings = Listings(fake)
    for _ in range(2):
        assert await names(listings, "/link/b") == ["x"]
    before = fake.listed
    fake.world.tells = False
    for _ in range(2):
        assert await names(listings, "/a/b") == ["x"]
    assert fake.listed == before + 2
    with pytest.raises(FileError) as caught:
        await listings.list("/none")
    assert caught.value.error is E.NOENT
    await listings.close()
    assert not any(watch.is_open for watch in fake.world.watches.values())


async def test_a_change_while_it_is_about_to_be_kept_is_not_missed() -> None:
    fake = system()

    async def change() -> None:
        fake.make("/a/b/y")
        fake.tell("/a/b", Notice(MADE, "y"))
        await idle()

    fake.second = change  # type: ignore[method-assign]
    listings = Listings(fake)
    assert await names(listings, "/a/b") == ["x"]
    assert await names(listings, "/a/b") == ["x", "y"]
    await listings.close()


async def test_only_so_many_are_kept_and_all_are_let_go() -> None:
    fake = system()
    listings = Listings(fake)
    for number in range(KEPT + 5):
        fake.make(f"/many/{number}/x")
        assert await names(listings, f"/many/{number}") == ["x"]
    assert len(listings._kept) == KEPT
    await listings.list("/a/b")
    await listings.close()
    await listings.close()
    assert not listings._kept
    await listings.list("/a/b")
    assert not listings._tasks


# -- a node --


@pytest_asyncio.fixture
async def at() -> AsyncIterator[Served]:
    async with served() as node:
        yield node


async def offered(shell: Shell, text: str) -> tuple[str, ...]:
    assert shell.listings is not None
    found = (await complete(shell, text)).names
    await shell.listings.settled()
    await idle()
    return found


async def test_tab_in_a_directory_of_another_machine_costs_nothing_the_second_time_and_is_never_stale(
    at: Served,
) -> None:
    session = await at.session()
    # The other machine: a tree in memory behind a connection, mounted in this shell's namespace at the node.
    far = RamServer(StoppedClock())
    there = Client(far)
    far.clunk(await there.create("/d", DMDIR | 0o777, OREAD))
    far.clunk(await there.create("/d/one"))
    exported = local_process(far)
    here, other_end = pair()
    serving = asyncio.create_task(Export(other_end, exported, attach_to(exported)).serve())
    wire, answers = Frame(here), Frame(other_end)
    mount = await MountServer.connect(here, StoppedClock())
    process = next(process for process in at.node.processes if process.args[:1] == ["session"])
    root = await root_of(process.namespace.domain, mount)
    place = await finish(process.namespace.find("/tmp", process.cwd, process))
    process.namespace.mount(root, place, MREPL)
    place.close()
    root.close()
    asked = Frame(at.ends[0])
    shell = Shell(session, {}, ("sh",), listings=Listings(session))
    assert await offered(shell, "cat /tmp/d/") == ("one",)
    for frames in (wire, answers, asked):
        frames.take()
    assert await offered(shell, "cat /tmp/d/o") == ("one",)
    assert wire.take() == asked.take() == answers.take() == []
    far.clunk(await there.create("/d/other"))
    while "Tevent" not in asked.take():
        await idle()
    assert answers.take().count("Revent") == 1
    assert await offered(shell, "cat /tmp/d/o") == ("one", "other")
    await session.rename("/tmp/d", "/tmp/e")
    await idle()
    assert await offered(shell, "cat /tmp/d/o") == ()
    await session.unmount(None, "/tmp")
    await idle()
    assert await offered(shell, "cat /tmp/e/o") == ()
    assert shell.listings is not None
    await shell.listings.close()
    await nothing_open(session)
    await session.close()
    await mount.close()
    await serving


async def root_of(domain: Domain, mount: MountServer) -> Chan:
    _, cap = domain.authority.new_server()
    mine = domain.authority.mint(0, cap, ALL_RIGHTS, domain.pid)
    fid = await mount.attach(Somebody(), "")
    return Chan(Handle(mount, fid), domain, mine, Path(None, "/"), Origin("#M", ()))


async def test_the_directory_of_machines_tells_of_those_that_come_and_go() -> None:
    peers = ["pi"]

    async def dial(name: str) -> MountServer:
        raise FileError(E.NOPEER, name)

    network = NetworkServer(lambda: peers, dial)
    noted = Noted()
    root = network.attach(Somebody(), "")
    end = await network.watch(root, MADE | REMOVED, noted)
    place = network.place(root, "here", Somebody())
    peers[:] = ["desk"]
    network.names_changed()
    network.names_changed()
    network.clunk(place)
    assert await noted.all(4) == [(MADE, "here"), (REMOVED, "pi"), (MADE, "desk"), (REMOVED, "here")]
    end()
    peers.clear()
    network.names_changed()
    assert len(noted.notices) == 4
    held = network.place(root, "here", Somebody())
    with pytest.raises(FileError) as caught:
        await network.watch(held, MADE, noted)
    assert caught.value.error is E.NOTSUP
    network.clunk(held)
