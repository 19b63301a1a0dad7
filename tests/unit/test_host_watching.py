"""Change notices of the host's files, inotify(7): what others on the host do is told, of what is hidden no name."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cognu.devices.hidden import Secrets
from cognu.devices.host import HostServer
from cognu.errors import E, FileError
from cognu.files.server import End, Notice
from cognu.ninep.types import SetStat
from cognu.ninep.watches import ASKED, ATTRIBUTES, BROKEN, CONTENT, GONE, LOST, MADE, REMOVED, RENAMED
from cognu.world.host_handles import NamedHandle
from cognu.world.host_tree import RealHostTree
from cognu.world.notices import IGNORED, OVERFLOW, HostNotices
from cognu.world.real import real_world
from serving import Client, done
from watched import Noted, ends

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the host does not tell of changes")


class Place:
    """A directory of the host, `in`, as a server; nothing may be watched, or open, in the end."""

    def __init__(self, path: Path, hidden: Secrets | None = None) -> None:
        self.path = path / "in"
        self.path.mkdir()
        self.tree = RealHostTree(str(self.path))
        self.server = HostServer(real_world(), self.tree, hidden=hidden)
        self.client = Client(self.server)

    async def watch(self, path: str) -> tuple[End, Noted]:
        noted = Noted()
        fid = await self.client.walk(path)
        try:
            return await done(self.server.watch(fid, ASKED, noted)), noted
        finally:
            self.server.clunk(fid)

    @property
    def idle(self) -> bool:
        return self.tree._notices._queue is None


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    before = len(os.listdir("/dev/fd"))
    place = Place(tmp_path)
    yield place
    place.client.close()
    assert place.idle
    place.tree.close()
    assert len(os.listdir("/dev/fd")) == before


async def test_what_others_do_in_a_directory_is_told(place: Place) -> None:
    end, noted = await place.watch("/")
    (place.path / "a").write_bytes(b"")
    assert await noted.all(1) == [(MADE, "a")]
    os.rename(place.path / "a", place.path / "b")
    await noted.all(2)
    assert noted.notices[1] == Notice(RENAMED, "a", "b")
    os.rename(place.path / "b", place.path.parent / "out")
    os.rename(place.path.parent / "out", place.path / "c")
    await noted.all(4)
    (place.path / "c").unlink()
    assert (await noted.all(5))[2:] == [(REMOVED, "b"), (MADE, "c"), (REMOVED, "c")]
    end()
    end()
    (place.path / "late").write_bytes(b"")
    assert len(noted.notices) == 5


async def test_what_happens_to_a_file_is_told_until_its_last_name_is_gone(place: Place) -> None:
    file = place.path / "f"
    file.write_bytes(b"")
    end, noted = await place.watch("/f")
    with file.open("ab") as open_file:
        open_file.write(b"x")
    assert await noted.all(1) == [(CONTENT, "")]
    file.chmod(0o600)
    assert (await noted.all(2))[1] == (ATTRIBUTES, "")
    os.link(file, place.path / "g")
    file.unlink()
    (place.path / "g").unlink()
    while (await noted.all(len(noted.notices)))[-1] != (GONE, ""):
        await noted.all(len(noted.notices) + 1)
    assert place.idle
    end()


async def test_a_directory_that_is_removed_is_gone_though_it_is_held(place: Place) -> None:
    (place.path / "d").mkdir()
    fid = await place.client.walk("/d")
    end, noted = await place.watch("/d")
    (place.path / "d").rmdir()
    assert await noted.all(1) == [(GONE, "")]
    assert place.idle
    end()
    place.server.clunk(fid)


async def test_many_watch_one_file_and_each_ends_by_itself(place: Place) -> None:
    (place.path / "f").write_bytes(b"")
    watches = [await place.watch("/f") for _ in range(3)]
    watches[0][0]()
    (place.path / "f").write_bytes(b"x")
    for _, noted in watches[1:]:
        assert (await noted.all(1))[0] == (CONTENT, "")
    assert watches[0][1].notices == []
    for end, _ in watches:
        end()


async def test_of_what_is_hidden_no_name_is_told(tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    for file in (key, other):
        file.write_bytes(b"")
    stat = key.stat()
    place = Place(tmp_path, Secrets(frozenset({(stat.st_dev, stat.st_ino)})))
    os.link(key, place.path / "old")
    end, noted = await place.watch("/")
    os.link(key, place.path / "new")
    os.rename(place.path / "new", place.path / "newer")
    for name in ("newer", "old"):
        (place.path / name).unlink()
    os.link(other, place.path / "shown")
    found = await noted.all(5)
    assert (MADE, "shown") in found
    assert {name for _, name in found} == {"", "shown"}
    end()
    place.client.close()
    assert place.idle
    place.tree.close()


async def test_the_host_that_drops_events_or_takes_a_watch_off_says_so(place: Place) -> None:
    (place.path / "f").write_bytes(b"")
    end, noted = await place.watch("/f")
    queue = place.tree._notices
    (watch,) = queue._listeners

    class Played:
        def __init__(self, mask: int) -> None:
            self.wd, self.mask, self.cookie, self.name = watch, mask, 0, ""

    for mask in (OVERFLOW, IGNORED):
        for listener in list(queue._listeners[watch].values()):
            listener(Played(mask), "")
    assert await noted.all(2) == [(LOST, ""), (BROKEN, "")]
    end()


async def test_a_host_without_says_that_it_can_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = RealHostTree(str(tmp_path), NamedHandle)
    client = Client(HostServer(real_world(), tree))
    fid = await client.walk("/")
    with pytest.raises(FileError) as caught:
        await done(client.server.watch(fid, ASKED, Noted()))
    assert caught.value.error is E.NOTSUP
    client.server.clunk(fid)
    client.close()
    tree.close()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(FileError) as caught:
        HostNotices().watch(str(tmp_path), True, lambda: 1, lambda change: None)
    assert caught.value.error is E.NOTSUP


async def test_what_is_not_there_is_refused_and_leaves_no_queue(tmp_path: Path) -> None:
    queue = HostNotices()
    with pytest.raises(FileError) as caught:
        queue.watch(str(tmp_path / "none"), False, lambda: 1, lambda change: None)
    assert caught.value.error is E.NOENT
    assert queue._queue is None


async def test_from_afar_a_host_directory_is_told_of_too(place: Place) -> None:
    async with ends(server=place.server) as both:
        _, noted = await both.watch("/")
        (place.path / "a").write_bytes(b"")
        assert (await noted.all(1))[0] == (MADE, "a")
        _, of_file = await both.watch("/a")
        await Client(both.mount).wstat("/a", SetStat(mode=0o600))
        assert (await of_file.all(1))[0] == (ATTRIBUTES, "")
        both.revoke()
        await of_file.all(2)
        both.exported.namespace.release()
        both.exported.cwd.close()
