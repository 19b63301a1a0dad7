"""What a peer gets of the store over a channel, within its quota, and how objects are fetched over one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.errors import CognuError, E, FileError
from cognu.files.limits import PEER_LIMITS, Resource
from cognu.files.mount import MountServer
from cognu.files.tree import Directory, TreeServer
from cognu.mesh.identity import Peer
from cognu.mesh.session import Channel
from cognu.ninep.types import OREAD
from cognu.node import channels
from cognu.node.channels import STORE, STORE_LIMITS, Channels
from cognu.node.lending import LentObjects
from cognu.node.node import Node
from cognu.node.peers import PeerExports
from cognu.store.names import name_of
from cognu.store.objects import Store
from cognu.world.real import RealThreads, real_world
from serving import Node as Base
from serving import Somebody
from streams import MemoryStream, pair

DATA = bytes(range(256)) * 5000
NAME = name_of(DATA)
PEER = Peer("f" * 52, "pi", "")


class Here:
    """What of a node the channels use, with one peer whose channels end in memory."""

    def __init__(self, path: Path) -> None:
        self.threads = RealThreads()
        self.world = replace(real_world(), threads=self.threads)
        base = Base(TreeServer("#R", Directory("")))
        self.authority, self.processes, self._base = base.authority, base.processes, base
        self.store = Store(self.world, str(path))
        self.lent_objects = LentObjects()
        self.far: asyncio.Queue[MemoryStream] = asyncio.Queue()
        self.opened: list[MemoryStream] = []
        self.mesh = SimpleNamespace(open=self._open, status=lambda: [SimpleNamespace(peer=PEER, connected=True)])
        self.channels = Channels(cast(Node, self))
        self.store.fetch_from(self.channels.sources)
        self.spawned: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.base = await self._base.start()
        self.exports = PeerExports(self.base, self.processes)

    async def _open(self, fingerprint: str, label: str) -> MemoryStream:
        assert (fingerprint, label) == (PEER.fingerprint, STORE)
        near, far = pair()
        self.opened.append(near)
        self.far.put_nowait(far)
        return near

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.spawned.append(asyncio.ensure_future(work))

    def answer(self, stream: MemoryStream) -> asyncio.Task[None]:
        return asyncio.create_task(self.channels.answer(PEER, STORE, cast(Channel, stream)))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[MountServer]:
        """A peer's connection for objects."""
        near, far = pair()
        answering = self.answer(far)
        mount = await MountServer.connect(near, self.world.clock)
        try:
            yield mount
        finally:
            await mount.close()
            await answering


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    made = Here(tmp_path / "here")
    await made.start()
    yield made
    await made.store.close()
    await asyncio.gather(*made.spawned)
    assert all(stream.closed for stream in made.opened)
    made.threads.close()


def processes_used(here: Here) -> int:
    return here.exports.quota(PEER.fingerprint, PEER.name).used(Resource.PROCESSES)


async def test_a_store_session_counts_in_its_peers_quota_while_it_lasts(here: Here) -> None:
    async with here.client():
        assert processes_used(here) == 1
        async with here.client():
            assert processes_used(here) == 2
    assert processes_used(here) == 0


async def test_a_session_beyond_the_quota_is_refused_and_leaves_nothing(here: Here) -> None:
    quota, before = here.exports.quota(PEER.fingerprint, PEER.name), len(here.processes)
    quota.add(Resource.PROCESSES, PEER_LIMITS[Resource.PROCESSES])
    _, far = pair()
    with pytest.raises(FileError) as caught:
        await here.answer(far)
    assert caught.value.error is E.DQUOT
    assert len(here.processes) == before


async def test_a_session_holds_few_fids(here: Here) -> None:
    async with here.client() as mount:
        fids = [await mount.attach(Somebody(), "") for _ in range(STORE_LIMITS.fids)]
        with pytest.raises(FileError):
            await mount.attach(Somebody(), "")
        mount.clunk(fids.pop())


async def test_an_object_is_fetched_over_a_channel_that_then_ends(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CHUNK", 100_000)
    there = Here(tmp_path / "there")
    await there.start()
    await there.store.publish(await there.store.put(DATA))
    getting = asyncio.create_task(here.store.get(NAME))
    answering = there.answer(await here.far.get())
    assert await getting == DATA
    await answering
    assert processes_used(there) == 0
    getting = asyncio.create_task(here.store.get(name_of(b"nothing")))
    answering = there.answer(await here.far.get())
    with pytest.raises(FileError) as caught:
        await getting
    assert caught.value.error is E.NOENT
    await answering
    await there.store.close()
    there.threads.close()


async def test_a_channel_to_a_silent_peer_ends_when_nobody_waits_any_more(here: Here) -> None:
    getting = asyncio.create_task(here.store.get(NAME))
    far = await here.far.get()
    assert await far.read(100)  # it was asked, and does not answer
    getting.cancel()
    await asyncio.wait([getting])
    while await far.read(100):
        pass  # until the end, which comes


async def test_a_peer_that_goes_away_in_the_midst_of_it_is_not_marked(here: Here, tmp_path: Path) -> None:
    getting = asyncio.create_task(here.store.get(NAME))
    far = await here.far.get()
    assert await far.read(100)
    far.cut()
    with pytest.raises(CognuError) as caught:
        await getting
    assert caught.value.error is E.NOENT
    assert here.store.bad_sources == {}


async def test_opening_at_a_peer_reads_what_is_asked_for(here: Here) -> None:
    await here.store.put(DATA)
    end = here.lent_objects.lend(NAME, PEER.fingerprint)
    async with here.client() as mount:
        root = await mount.attach(Somebody(), "")
        fid = (await mount.walk(root, ["objects", NAME], Somebody())).fid
        assert fid is not None
        await mount.open(fid, OREAD, Somebody())
        assert bytes(await mount.read(fid, 256_000, 300)) == DATA[256_000:256_300]
    end()
    end()
    async with here.client() as mount:
        root = await mount.attach(Somebody(), "")
        assert (await mount.walk(root, ["objects", NAME], Somebody())).fid is None
