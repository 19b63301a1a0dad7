"""The memory file system: its limits, its special files, and any sequence of operations against a model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.server import Lock, Owner
from cognu.ninep.types import DMAPPEND, DMEXCL, ORCLOSE, ORDWR, OTRUNC, OWRITE, QTAPPEND, SetStat
from cognu.ninep.watches import ATTRIBUTES, CONTENT, GONE
from serving import Client, Somebody, done


class Ticks:
    """A clock that goes on by a nanosecond whenever it is asked."""

    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        self.time += 1
        return self.time

    def monotonic(self) -> int:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing sleeps here")


def small(max_bytes: int = 100, max_files: int = 5) -> Client:
    return Client(RamServer(Ticks(), max_bytes=max_bytes, max_files=max_files))


async def test_bytes_are_limited_and_a_refused_write_changes_nothing() -> None:
    client = small()
    await client.put("a", bytes(60))
    fid = await client.create("b")
    for offset, size in ((0, 41), (40, 1), (1 << 62, 1)):
        with pytest.raises(FileError) as caught:
            await client.write_fid(fid, bytes(size), offset)
        assert caught.value.error is E.NOSPC
    assert (await client.stat("b")).length == 0
    assert await client.write_fid(fid, b"x" * 40) == 40
    assert await client.write_fid(fid, b"y" * 40) == 40
    with pytest.raises(FileError):
        await client.wstat("a", SetStat(length=61))
    await client.wstat("a", SetStat(length=10))
    assert await client.write_fid(fid, b"z" * 50, 40) == 50


async def test_files_are_limited() -> None:
    client = small(max_files=3)
    await client.put("a")
    await client.mkdir("d")
    with pytest.raises(FileError) as caught:
        await client.create("b")
    assert caught.value.error is E.NOSPC
    with pytest.raises(FileError):
        await client.symlink("s", "x" * 10)
    await client.remove("a")
    await client.symlink("s", "x" * 100)
    await client.remove("s")
    await client.put("b", bytes(100))


async def test_a_removed_files_bytes_count_until_its_last_close() -> None:
    client = small()
    fid = await client.create("a")
    await client.write_fid(fid, bytes(100))
    await client.remove("a")
    with pytest.raises(FileError):
        await client.put("b", b"x")
    client.server.clunk(fid)
    await client.write("b", bytes(100))


async def test_an_append_only_file_keeps_what_it_has() -> None:
    client = small()
    client.server.clunk(await client.create("log", DMAPPEND | 0o666))
    await client.write("log", b"one", offset=50)
    await client.write("log", b"two", OWRITE | OTRUNC)
    assert await client.read("log") == b"onetwo"
    stat = await client.stat("log")
    assert stat.qid.type == QTAPPEND
    assert stat.mode == DMAPPEND | 0o666


async def test_an_exclusive_file_is_open_once() -> None:
    client = small()
    fid = await client.create("lock", DMEXCL | 0o666)
    with pytest.raises(FileError) as caught:
        await client.open("lock")
    assert caught.value.error is E.BUSY
    client.server.clunk(fid)
    client.server.clunk(await client.open("lock"))


async def test_permissions_that_nobody_has_refuse() -> None:
    client = small()
    client.server.clunk(await client.create("a", 0o444))
    with pytest.raises(FileError) as caught:
        await client.open("a", OWRITE)
    assert caught.value.error is E.ACCES
    client.server.clunk(await client.open("a"))


async def test_who_wrote_last_is_told() -> None:
    server = RamServer(Ticks())
    await Client(server).put("a", b"x")
    await Client(server, Somebody(2, "rob")).write("a", b"y")
    stat = await Client(server).stat("a")
    assert (stat.user, stat.muid) == ("glenda", "rob")


async def test_times_follow_the_changes() -> None:
    client = small()
    await client.mkdir("d")
    before = await client.stat("d")
    await client.put("d/a", b"x")
    after = await client.stat("d")
    assert after.mtime > before.mtime
    assert after.qid.version != before.qid.version
    old = await client.stat("d/a")
    await client.read("d/a")
    assert (await client.stat("d/a")).mtime == old.mtime
    await client.write("d/a", b"y")
    assert (await client.stat("d/a")).mtime > old.mtime


async def test_an_open_fid_of_a_removed_directory_lists_nothing_and_takes_nothing() -> None:
    client = small()
    await client.mkdir("d")
    fid = await client.open("d")
    await client.remove("d")
    assert client.server.readdir(fid, 0, 10) == []
    with pytest.raises(FileError) as caught:
        client.server.create(fid, "f", 0o666, OWRITE, client.caller)
    assert caught.value.error is E.NOENT
    client.server.clunk(fid)


async def test_a_rename_within_a_directory_keeps_the_place() -> None:
    client = small()
    for name in "abc":
        await client.put(name)
    await client.rename("a", "z")
    assert [entry.name for entry in await client.entries("")] == ["z", "b", "c"]


# -- several names -----------------------------------------------------------------------------------------------------


async def refused(error: E, call: Awaitable[object]) -> None:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error


async def linked() -> Client:
    """A file with the names `a` and `d/b`."""
    client = small()
    await client.mkdir("d")
    await client.put("a", b"one")
    await client.link("d/b", "a")
    return client


async def test_all_names_of_a_file_are_the_same_file() -> None:
    client = await linked()
    await client.write("d/b", b"two!")
    await client.wstat("a", SetStat(mode=0o640, mtime=5))
    assert await client.read("a") == b"two!"
    one, two = await client.stat("a"), await client.stat("d/b")
    assert (one.name, two.name) == ("a", "b")
    assert one == replace(two, name="a")
    assert (one.links, one.mode, one.mtime) == (2, 0o640, 5)
    assert [entry.name for entry in await client.entries("d")] == ["b"]
    await client.write("a", b"", OWRITE | OTRUNC)
    assert await client.read("d/b") == b""


async def test_a_file_is_there_until_its_last_name_is_removed_and_its_last_fid_closed() -> None:
    client = await linked()
    server = client.server
    assert isinstance(server, RamServer)
    fid = await client.open("a")
    await client.remove("a")
    await refused(E.NOENT, client.stat("a"))
    assert (await client.stat("d/b")).links == 1
    assert await client.read("d/b") == b"one"
    await client.remove("d/b")
    assert (await done(server.stat(fid))).links == 0
    assert await client.read_fid(fid) == b"one"
    assert server._store.used == 3
    server.clunk(fid)
    assert (server._store.used, server._store.files) == (0, 2)


async def test_bytes_count_once_and_each_name_as_a_file() -> None:
    client = small()
    await client.put("a", bytes(80))
    await client.link("b", "a")
    await client.put("c", bytes(20))
    store = client.server._store  # type: ignore[attr-defined]
    assert (store.used, store.files) == (100, 4)
    await client.remove("a")
    assert (store.used, store.files) == (100, 3)
    for number in range(store.max_files - store.files):
        await client.link(f"l{number}", "b")
    await refused(E.NOSPC, client.link("more", "b"))


async def test_a_directory_has_one_name_and_a_name_is_given_once() -> None:
    client = await linked()
    await refused(E.PERM, client.link("e", "d"))
    await refused(E.EXIST, client.link("d/b", "a"))
    await refused(E.INVAL, client.link("..", "a"))
    assert (await client.stat("a")).links == 2
    fid, root = await client.open("a"), await client.walk("")
    await client.remove("a")
    with pytest.raises(FileError) as caught:
        client.server.link(root, fid, "again")
    assert caught.value.error is E.NOENT
    client.server.clunk(fid)
    client.server.clunk(root)


async def test_a_rename_over_another_name_of_the_same_file_does_nothing() -> None:
    client = await linked()
    await client.rename("a", "d/b")
    assert await client.read("a") == b"one"
    assert await client.read("d/b") == b"one"
    await client.put("c", b"other")
    await client.rename("c", "a")
    assert (await client.read("a"), await client.read("d/b")) == (b"other", b"one")
    assert (await client.stat("d/b")).links == 1


async def test_what_is_removed_when_it_is_closed_is_the_name_it_was_opened_by() -> None:
    client = await linked()
    client.server.clunk(await client.open("d/b", ORDWR | ORCLOSE))
    assert await client.names("d") == []
    assert await client.read("a") == b"one"


async def test_exclusive_use_and_locks_are_of_the_file_not_of_the_name() -> None:
    client = small()
    client.server.clunk(await client.create("a", DMEXCL | 0o666))
    await client.link("b", "a")
    fid = await client.open("a")
    await refused(E.BUSY, client.open("b"))
    client.server.clunk(fid)
    await client.wstat("b", SetStat(mode=0o666))
    first, second = await client.open("a", ORDWR), await client.open("b", ORDWR)
    mine, yours = (Lock(0, 1, True, Owner(session, "x", 1)) for session in (1, 2))
    assert await done(client.server.lock_range(first, mine, False))
    assert not await done(client.server.lock_range(second, yours, False))
    client.server.clunk(first)
    assert await done(client.server.lock_range(second, yours, False))
    client.server.clunk(second)


async def test_who_watches_a_file_by_one_name_hears_of_it_by_the_other_until_the_last_is_gone() -> None:
    client = await linked()
    told: list[int] = []
    fid = await client.walk("a")
    end = await done(client.server.watch(fid, 0xFFFF, lambda notice: told.append(notice.kind)))
    await client.write("d/b", b"changed")
    assert CONTENT in told
    await client.remove("a")
    assert told[-1] == ATTRIBUTES
    await client.remove("d/b")
    assert told[-1] == GONE
    end()
    client.server.clunk(fid)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


class Model(RuleBasedStateMachine):
    """The server against a dict: path to bytes, or to None for a directory. Every error class must agree too."""

    def __init__(self) -> None:
        super().__init__()
        self.server = RamServer(Ticks(), max_bytes=300, max_files=8)
        self.client = Client(self.server)
        self.tree: dict[str, bytes | None] = {"": None}
        self.loop = asyncio.new_event_loop()

    def teardown(self) -> None:
        self.loop.close()

    def attempt(self, call: Any) -> E | None:
        try:
            self.loop.run_until_complete(call)
        except FileError as error:
            return error.error
        return None

    def way(self, path: str) -> E | None:
        """Why `path` can't be walked to."""
        names = path.split("/") if path else []
        for end in range(len(names)):
            if self.tree["/".join(names[:end])] is not None:
                return E.NOTDIR
            if "/".join(names[: end + 1]) not in self.tree:
                return E.NOENT
        return None

    def above(self, path: str) -> str:
        return path.rpartition("/")[0]

    def under(self, path: str) -> list[str]:
        return [each for each in self.tree if each.startswith(path + "/")]

    def size(self) -> int:
        return sum(len(data) for data in self.tree.values() if data is not None)

    def refused_create(self, path: str) -> E | None:
        failure = self.way(self.above(path))
        if failure is not None:
            return failure
        if self.tree[self.above(path)] is not None:
            return E.NOTDIR
        if path in self.tree:
            return E.EXIST
        return E.NOSPC if len(self.tree) >= 8 else None

    @rule(path=PATHS)
    def make_file(self, path: str) -> None:
        expected = self.refused_create(path)
        assert self.attempt(self.client.put(path)) is expected
        if expected is None:
            self.tree[path] = b""

    @rule(path=PATHS)
    def make_directory(self, path: str) -> None:
        expected = self.refused_create(path)
        assert self.attempt(self.client.mkdir(path)) is expected
        if expected is None:
            self.tree[path] = None

    @rule(path=PATHS, offset=st.integers(0, 200), data=st.binary(max_size=120), truncate=st.booleans())
    def write(self, path: str, offset: int, data: bytes, truncate: bool) -> None:
        expected = self.way(path)
        old = self.tree.get(path)
        if expected is None and old is None:
            expected = E.ISDIR
        if expected is None:
            assert old is not None
            if truncate:
                old = self.tree[path] = b""
            new = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :] if data else old
            if self.size() - len(old) + len(new) > 300:
                expected = E.NOSPC
            else:
                self.tree[path] = new
        assert self.attempt(self.client.write(path, data, ORDWR | (OTRUNC if truncate else 0), offset)) is expected

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        expected = self.way(path) or (E.NOTEMPTY if self.under(path) else None)
        assert self.attempt(self.client.remove(path)) is expected
        if expected is None:
            del self.tree[path]

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        expected = self.refused_rename(old, new)
        assert self.attempt(self.client.rename(old, new)) is expected, (old, new)
        if expected is None and old != new:
            self.tree.pop(new, None)
            for path in [old, *self.under(old)]:
                self.tree[new + path[len(old) :]] = self.tree.pop(path)

    def refused_rename(self, old: str, new: str) -> E | None:
        for directory in (self.above(old), self.above(new)):
            if failure := self.way(directory):
                return failure
        if self.tree[self.above(old)] is not None or self.tree[self.above(new)] is not None:
            return E.NOTDIR
        if old not in self.tree:
            return E.NOENT
        if new == old:
            return None
        if (new + "/").startswith(old + "/"):
            return E.INVAL
        if new not in self.tree:
            return None
        if (self.tree[new] is None) != (self.tree[old] is None):
            return E.ISDIR if self.tree[new] is None else E.NOTDIR
        return E.NOTEMPTY if self.under(new) else None

    @invariant()
    def the_tree_is_the_models(self) -> None:
        for path, data in self.tree.items():
            if data is None:
                below = sorted(each.rpartition("/")[2] for each in self.tree if each and self.above(each) == path)
                assert self.loop.run_until_complete(self.client.names(path)) == below
            else:
                assert self.loop.run_until_complete(self.client.read(path)) == data

    @invariant()
    def what_is_used_is_what_is_there(self) -> None:
        fid = self.loop.run_until_complete(self.client.walk(""))
        space = self.server.statfs(fid)
        assert space.files - space.ffree == len(self.tree)
        assert self.server._store.used == self.size()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
