"""Objects by hash: kept, found, checked, fetched from sources of every kind, and what of them is in use."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cognu.errors import E, FileError, LinkBroken
from cognu.files.tree import Directory
from cognu.ninep.types import ORDWR, OREAD
from cognu.store import objects
from cognu.store.names import COMMON, name_of
from cognu.store.objects import MARKS, STALL_SECONDS, Source, Store, parse_marks
from cognu.store.server import shared_server, store_server
from cognu.world import World
from cognu.world.disk import UNFINISHED, RealDisk, RealDraft
from cognu.world.host_tree import RealHostFile
from cognu.world.real import RealThreads, real_world
from cognu.world.refusals import refusals
from serving import Client

DATA = bytes(range(256)) * 5000
NAME = name_of(DATA)


class CountedFile(RealHostFile):
    def __init__(self, path: str, disk: CountingDisk) -> None:
        with refusals(path):
            super().__init__(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)
        self.disk = disk
        self.shut = False

    def pread(self, offset: int, count: int) -> bytes:
        self.disk.before_read()
        self.disk.most = max(self.disk.most, count)
        data = super().pread(offset, count)
        self.disk.bytes_read += len(data)
        return data

    def close(self) -> None:
        if not self.shut:
            self.shut = True
            self.disk.open_files -= 1
        super().close()


class CountingDisk(RealDisk):
    """Knows how many files are open, and what was read of them."""

    def __init__(self) -> None:
        self.opened = self.open_files = self.bytes_read = self.most = 0
        self.before_read: Callable[[], object] = lambda: None

    def open(self, path: str) -> CountedFile:
        file = CountedFile(path, self)
        self.opened += 1
        self.open_files += 1
        return file


class Alarms:
    """A clock whose sleeps end when the test says so."""

    def __init__(self) -> None:
        self.set: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()

    def now(self) -> int:
        return 10**18

    def monotonic(self) -> int:
        return 10**9

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self.set.put_nowait((seconds, event))
        await event.wait()


class Place:
    """A store in a directory, and its sources."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads = RealThreads()
        self.disk = CountingDisk()
        self.clock = Alarms()
        self.world: World = replace(real_world(), threads=self.threads, disk=self.disk, clock=self.clock)
        self.asked: list[str] = []
        self.ended: list[str] = []
        self.store = self.again()

    def again(self) -> Store:
        """As after a restart."""
        return Store(self.world, str(self.path))

    def sources(self, **pieces: Source) -> None:
        self.store.fetch_from(lambda: [(peer, self._watched(peer, source)) for peer, source in pieces.items()])

    def _watched(self, peer: str, source: Source) -> Source:
        async def watched(name: str) -> AsyncGenerator[bytes, None]:
            self.asked.append(peer)
            try:
                async for piece in source(name):
                    yield piece
            finally:
                self.ended.append(peer)

        return watched

    def object_path(self, name: str) -> Path:
        return self.path / "objects" / name[len(COMMON) : len(COMMON) + 2] / name

    def files(self) -> set[str]:
        """Everything below `objects`, unfinished files too."""
        return {path.name for path in (self.path / "objects").rglob("*") if path.is_file()}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path / "store")
    yield made
    await made.store.close()
    assert made.disk.open_files == 0
    assert len(made.store._open) == len(made.store._fetching) == 0
    made.threads.close()


def gives(*pieces: bytes) -> Source:
    async def source(name: str) -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            yield piece

    return source


def fails(error: FileError | LinkBroken, *before: bytes) -> Source:
    async def source(name: str) -> AsyncGenerator[bytes, None]:
        for piece in before:
            yield piece
        raise error

    return source


class Held:
    """A source that gives `first`, and the rest when the test says so."""

    def __init__(self, first: bytes = b"", rest: bytes = b"") -> None:
        self.first = first
        self.rest = rest
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, name: str) -> AsyncGenerator[bytes, None]:
        if self.first:
            yield self.first
        self.reached.set()
        await self.go.wait()
        yield self.rest


HONEST = gives(DATA[:1000], DATA[1000:])
LYING = gives(DATA[:-1], b"!")
ABSENT = fails(FileError(E.NOENT, NAME))


async def refused(store: Store, name: str, error: E) -> FileError:
    with pytest.raises(FileError) as caught:
        await store.get(name)
    assert caught.value.error is error
    return caught.value


# -- here -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", DATA])
async def test_what_was_put_is_there_by_its_name_and_after_a_restart(place: Place, data: bytes) -> None:
    name = await place.store.put(data)
    assert name == name_of(data) == await place.store.hash_of(data)
    assert await place.store.put(data) == name
    assert await place.store.get(name) == data
    assert await place.again().get(name) == data
    assert place.files() == {name}


async def test_what_is_not_here_and_has_no_source_does_not_exist(place: Place) -> None:
    await refused(place.store, NAME, E.NOENT)
    await refused(place.store, "bafk", E.INVAL)
    await refused(place.store, NAME[:-1] + "!", E.INVAL)


async def test_an_object_too_large_is_not_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MAX_OBJECT", len(DATA) - 1)
    with pytest.raises(FileError) as caught:
        await place.store.put(DATA)
    assert caught.value.error is E.FBIG
    assert not place.files()


async def test_a_prefix_stands_for_the_one_object_that_begins_so(place: Place) -> None:
    names: dict[str, str] = {}  # by what follows the common part
    number = 0
    while True:
        name = await place.store.put(b"%d" % number)
        other = names.setdefault(name[len(COMMON) : len(COMMON) + 1], name)
        if other != name:
            break
        number += 1
    with pytest.raises(FileError) as caught:
        place.store.resolve(name[: len(COMMON) + 1])
    assert caught.value.error is E.AMBIGUOUS
    assert place.store.resolve(name[:-1]) == name
    assert place.store.resolve(NAME) == NAME  # a whole name need not be here
    for prefix in (NAME[:-1], COMMON, "bafkreia", "", NAME + "a"):
        with pytest.raises(FileError) as caught:
            place.store.resolve(prefix)
        assert caught.value.error is E.NOENT


async def test_damage_on_the_disk_is_found_and_mended_by_putting_it_again(place: Place) -> None:
    await place.store.put(DATA)
    place.object_path(NAME).write_bytes(DATA[:-1])
    await refused(place.store, NAME, E.BADHASH)
    await place.store.put(DATA)
    assert await place.store.get(NAME) == DATA


async def test_damage_on_the_disk_is_mended_from_a_source(place: Place) -> None:
    await place.store.put(DATA)
    place.object_path(NAME).write_bytes(b"")
    place.sources(pi=HONEST)
    assert await place.store.get(NAME) == DATA
    assert place.object_path(NAME).read_bytes() == DATA


async def test_a_label_stands_for_an_object_until_it_is_removed(place: Place) -> None:
    place.store.set_name("wc", NAME)
    assert (place.store.named("wc"), place.again().named("wc"), place.store.labels()) == (NAME, NAME, ["wc"])
    place.store.remove_name("wc")
    for label in ("wc", "", "..", "a/b"):
        with pytest.raises(FileError) as caught:
            place.store.named(label)
        assert caught.value.error is E.NOENT
    for label, name, error in (
        ("", NAME, E.INVAL), ("a/b", NAME, E.INVAL), ("..", NAME, E.INVAL), ("\0", NAME, E.INVAL),
        ("ä" * 128, NAME, E.NAMETOOLONG), ("wc", NAME[:-1], E.INVAL),
    ):  # fmt: skip
        with pytest.raises(FileError) as caught:
            place.store.set_name(label, name)
        assert caught.value.error is error
    assert place.store.labels() == []


# -- from sources -----------------------------------------------------------------------------------------------------


async def test_sources_are_asked_in_order_until_one_has_it_and_then_it_is_here(place: Place) -> None:
    broken = fails(LinkBroken(E.SESSIONLOST, "b"), DATA[:10])
    place.sources(a=ABSENT, b=broken, c=HONEST, d=HONEST)
    assert await place.store.get(NAME) == DATA
    assert place.asked == place.ended == ["a", "b", "c"]
    assert place.store.bad_sources == {}
    assert place.files() == {NAME}
    assert await place.store.get(NAME) == DATA
    assert len(place.asked) == 3


async def test_an_empty_object_is_fetched_too(place: Place) -> None:
    place.sources(a=gives())
    assert await place.store.get(name_of(b"")) == b""


async def test_wrong_bytes_are_refused_and_their_source_marked_also_after_a_restart(place: Place) -> None:
    place.sources(a=LYING, b=HONEST)
    assert await place.store.get(NAME) == DATA
    assert place.store.bad_sources == place.again().bad_sources == {"a": 1}
    place.sources(a=LYING, b=ABSENT)
    error = await refused(place.store, name_of(b"other"), E.BADHASH)
    assert "a" in error.detail
    assert place.store.bad_sources == place.again().bad_sources == {"a": 2}
    assert place.files() == {NAME}


async def test_a_mark_that_can_not_be_written_does_not_stop_the_fetch(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    (place.path / MARKS).mkdir()
    place.sources(a=LYING, b=HONEST)
    assert await place.store.get(NAME) == DATA
    assert place.store.bad_sources == {"a": 1}
    assert "is forgotten when this node stops" in caplog.text


async def test_a_source_without_end_is_stopped_at_the_largest_object_and_marked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_out = 0

    async def endless(name: str) -> AsyncGenerator[bytes, None]:
        nonlocal given_out
        while True:
            given_out += 1000
            yield bytes(1000)

    monkeypatch.setattr(objects, "MAX_OBJECT", len(DATA))
    place.sources(a=endless, b=HONEST)
    assert await place.store.get(NAME) == DATA
    assert given_out <= len(DATA) + 1000
    assert place.store.bad_sources == {"a": 1}
    assert place.ended == ["a", "b"]


@pytest.mark.parametrize("first", [b"", DATA[:10]])
async def test_a_source_that_falls_silent_is_given_up_for_the_next_one(place: Place, first: bytes) -> None:
    silent = Held(first)
    place.sources(a=silent, b=HONEST)
    getting = asyncio.create_task(place.store.get(NAME))
    await silent.reached.wait()
    while True:  # the alarms of pieces that came are not waited for any more
        seconds, alarm = await place.clock.set.get()
        assert seconds == STALL_SECONDS
        if place.clock.set.empty():
            break
    alarm.set()
    assert await getting == DATA
    assert place.ended == ["a", "b"]
    assert place.store.bad_sources == {}  # silent is not wrong
    assert place.files() == {NAME}


async def test_two_who_wait_share_one_fetch_and_one_may_leave(place: Place) -> None:
    held = Held(DATA[:10], DATA[10:])
    place.sources(a=held)
    first, second = (asyncio.create_task(place.store.get(NAME)) for _ in range(2))
    await held.reached.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    held.go.set()
    assert await second == DATA
    assert place.asked == ["a"]


async def test_the_fetch_ends_when_the_last_who_waits_leaves_and_can_begin_anew(place: Place) -> None:
    held = Held(DATA[:10])
    place.sources(a=held, b=HONEST)
    waiting = [asyncio.create_task(place.store.get(NAME)) for _ in range(2)]
    await held.reached.wait()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert len(place.store._fetching) == 0
    await place.store.close()
    assert place.ended == ["a"]
    assert not place.files()
    place.sources(b=HONEST)
    assert await place.store.get(NAME) == DATA


async def test_who_waits_when_the_store_closes_is_told(place: Place) -> None:
    held = Held()
    place.sources(a=held)
    getting = asyncio.create_task(place.store.get(NAME))
    await held.reached.wait()
    await place.store.close()
    with pytest.raises(FileError) as caught:
        await getting
    assert caught.value.error is E.CANCELED
    assert place.ended == ["a"]


async def test_a_full_disk_is_no_fault_of_the_source(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, mode: int = 0o600) -> None:
        raise FileError(E.NOSPC, path)

    monkeypatch.setattr(place.disk, "draft", full)
    place.sources(a=HONEST, b=HONEST)
    await refused(place.store, NAME, E.NOSPC)
    assert place.asked == place.ended == ["a"]
    assert place.store.bad_sources == {}


# -- open -------------------------------------------------------------------------------------------------------------


async def test_many_opens_of_an_object_share_one_file_and_one_check_and_hold_no_bytes(place: Place) -> None:
    await place.store.publish(await place.store.put(DATA))
    place.disk.opened = place.disk.bytes_read = place.disk.most = 0
    client = Client(shared_server(place.store))
    fids = [await client.open(f"objects/{NAME}") for _ in range(20)]
    fids += await asyncio.gather(*(client.open(f"objects/{NAME}") for _ in range(20)))
    assert (place.disk.opened, place.disk.open_files) == (1, 1)
    assert place.disk.bytes_read == len(DATA)
    assert place.disk.most == objects.CHECK_SIZE < len(DATA)
    for fid in fids:
        assert await client.read_fid(fid, 10, len(DATA) - 5) == DATA[-5:]
        assert await client.read_fid(fid, 10, len(DATA)) == b""
    for fid in fids[1:]:
        client.server.clunk(fid)
    assert await client.read_fid(fids[0], 10) == DATA[:10]
    client.server.clunk(fids[0])
    assert place.disk.open_files == 0
    assert await client.read(f"objects/{NAME}") == DATA
    client.close()


async def test_opens_begun_at_once_are_checked_once(place: Place) -> None:
    await place.store.put(DATA)
    place.disk.opened = 0
    opened = await asyncio.gather(*(place.store.open_local(NAME) for _ in range(40)))
    assert (place.disk.opened, opened[0].size) == (1, len(DATA))
    for one in opened:
        one.close()
        one.close()


async def test_an_open_that_is_given_up_leaves_no_file_open(place: Place) -> None:
    await place.store.put(DATA)
    loop, reading, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def before_read() -> None:
        loop.call_soon_threadsafe(reading.set)
        go.wait()

    place.disk.before_read = before_read
    opening = asyncio.create_task(place.store.open_local(NAME))
    await reading.wait()
    opening.cancel()
    await asyncio.wait([opening])
    await place.store.close()
    go.set()
    assert place.disk.open_files == 0


async def test_peers_are_served_whole_hashes_of_what_is_here_alone(place: Place) -> None:
    place.sources(a=HONEST)
    shared, own = Client(shared_server(place.store)), Client(store_server(place.store))
    for path, error in ((f"objects/{NAME}", E.NOENT), (f"objects/{NAME[:-1]}", E.INVAL), ("bin", E.NOENT)):
        with pytest.raises(FileError) as caught:
            await shared.open(path)
        assert caught.value.error is error
    assert not place.asked
    assert await own.read(f"objects/{NAME}") == DATA
    with pytest.raises(FileError) as caught:
        await shared.open(f"objects/{NAME}")  # it was fetched, and knowing its hash is no authority
    assert caught.value.error is E.NOENT
    await place.store.publish(NAME)
    assert await shared.read(f"objects/{NAME}") == await own.read(f"objects/{NAME[:-1]}") == DATA
    await own.write("ctl", b"name wc " + NAME[:20].encode())
    assert await own.read("bin/wc") == DATA
    shared.close()
    own.close()


async def test_what_a_user_puts_is_published_and_what_is_lent_is_not(place: Place) -> None:
    lent: set[str] = set()
    shared, own = Client(shared_server(place.store, lent.__contains__)), Client(store_server(place.store))
    fid = await own.open("put", ORDWR)
    await own.write_fid(fid, DATA)
    assert (await own.read_fid(fid)).decode().strip() == NAME
    own.server.clunk(fid)
    assert await shared.read(f"objects/{NAME}") == DATA
    assert place.again().is_published(NAME)
    other = await place.store.put(b"to run there")
    assert not place.store.is_published(other)
    with pytest.raises(FileError) as caught:
        await shared.open(f"objects/{other}")
    absent = name_of(b"never here")
    with pytest.raises(FileError) as never:
        await shared.open(f"objects/{absent}")
    assert str(caught.value).replace(other, "") == str(never.value).replace(absent, "")  # neither tells the other's
    lent.add(other)
    assert await shared.read(f"objects/{other}") == b"to run there"
    shared.close()
    own.close()


async def test_what_a_peer_must_give_is_asked_of_it_alone_though_it_is_here(place: Place) -> None:
    """Whoever knows the name alone does not get it, nor who gives other bytes for it."""
    name = await place.store.put(DATA)

    async def nothing(name: str) -> AsyncGenerator[bytes, None]:
        raise FileError(E.NOENT, name)
        yield b""

    async def wrong(name: str) -> AsyncGenerator[bytes, None]:
        yield b"wrong"

    async def right(name: str) -> AsyncGenerator[bytes, None]:
        yield DATA

    place.sources(nothing=nothing, wrong=wrong, right=right)
    for peer, error in (("nothing", E.NOENT), ("nobody", E.NOENT), ("wrong", E.BADHASH)):
        with pytest.raises(FileError) as caught:
            await place.store.get_from(peer, name)
        assert caught.value.error is error
    assert await place.store.get_from("right", name) == DATA == await place.store.get(name)
    assert place.asked == ["nothing", "wrong", "right"]
    assert place.store.bad_sources == {"wrong": 1}


# -- put --------------------------------------------------------------------------------------------------------------


async def test_what_is_put_goes_to_the_disk_as_it_comes(place: Place) -> None:
    client = Client(store_server(place.store))
    fid = await client.open("put", ORDWR)
    for offset in range(0, len(DATA), 1000):
        await client.write_fid(fid, DATA[offset : offset + 1000], offset)
        [draft] = list(place.path.rglob(f"{UNFINISHED}*"))
        assert draft.stat().st_size == len(DATA[: offset + 1000])
    assert (await client.read_fid(fid)).decode().strip() == NAME
    client.server.clunk(fid)
    client.close()
    assert place.files() == {NAME}
    assert await place.store.get(NAME) == DATA


async def test_who_may_only_read_puts_nothing(place: Place) -> None:
    client = Client(store_server(place.store))
    with pytest.raises(FileError) as caught:
        await client.open("put", OREAD)
    assert caught.value.error is E.ACCES
    assert await client.names("objects") == []


async def test_pieces_put_at_once_keep_their_order(place: Place) -> None:
    client = Client(store_server(place.store))
    fid = await client.open("put", ORDWR)
    await asyncio.gather(*(client.write_fid(fid, DATA[at : at + 999], at) for at in range(0, len(DATA), 999)))
    assert (await client.read_fid(fid)).decode().strip() == NAME
    client.server.clunk(fid)
    client.close()


@pytest.mark.parametrize("pieces", [0, 1])
async def test_an_upload_given_up_leaves_nothing(place: Place, pieces: int) -> None:
    client = Client(store_server(place.store))
    fid = await client.open("put", ORDWR)
    for piece in range(pieces):
        await client.write_fid(fid, b"x" * 10, 10 * piece)
    client.server.clunk(fid)
    client.close()
    assert not list(place.path.rglob(f"{UNFINISHED}*"))
    assert place.files() == set()


async def test_after_a_write_that_failed_nothing_more_is_put(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RealDraft, data: bytes) -> None:
        raise FileError(E.NOSPC, "disk")

    client = Client(store_server(place.store))
    fid = await client.open("put", ORDWR)
    await client.write_fid(fid, b"x" * 10)
    with monkeypatch.context() as patch:
        patch.setattr(RealDraft, "write", full)
        with pytest.raises(FileError) as caught:
            await client.write_fid(fid, b"y" * 10, 10)
        assert caught.value.error is E.NOSPC
    for call in (client.write_fid(fid, b"z", 20), client.read_fid(fid)):
        with pytest.raises(FileError) as caught:
            await call
        assert caught.value.error is E.IO
    client.server.clunk(fid)
    client.close()
    assert not list(place.path.rglob(f"{UNFINISHED}*"))
    assert place.files() == set()


async def test_what_a_crash_cut_short_is_swept_at_the_next_start(place: Place) -> None:
    name = await place.store.put(DATA)
    left = [place.path / f"{UNFINISHED}0", place.path / "objects" / f"{UNFINISHED}1",
            place.path / "names" / f"{UNFINISHED}2", place.object_path(name).parent / f"{UNFINISHED}3"]  # fmt: skip
    for path in left:
        path.write_bytes(b"half")
    again = place.again()
    assert not any(path.exists() for path in left)
    assert await again.get(name) == DATA
    await again.close()


async def test_names_that_are_gone_are_not_kept_in_memory(place: Place) -> None:
    server = store_server(place.store)
    client = Client(server)
    for number in range(30):
        place.store.set_name(f"label{number}", NAME)
    assert len(await client.names("bin")) == 30
    before = (await client.stat("bin/label0")).qid
    assert (await client.stat("bin/label0")).qid == before
    assert isinstance(server.root, Directory)
    seen = vars(server.root.children["bin"])["_seen"]
    assert len(seen) == 30
    for number in range(30):
        await client.remove(f"bin/label{number}")
        with pytest.raises(FileError):
            await client.walk(f"bin/label{number}")
    assert seen == {}
    place.store.set_name("label0", NAME)
    await client.names("bin")
    place.store.remove_name("label0")
    assert await client.names("bin") == []
    assert vars(server.root.children["bin"])["_seen"] == {}
    client.close()


# -- the record of bad sources ----------------------------------------------------------------------------------------


DAMAGED = [
    b"", b"{", b"[]", b"null", b'{"a": -1}', b'{"a": true}', b'{"a": 1.5}', b'{"a": "1"}', b"\xff", b"[" * 10**5,
]  # fmt: skip
LEAVES = st.integers() | st.text() | st.none()
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data[:12]))
def test_a_damaged_record_of_bad_sources_is_said_so(data: bytes, tmp_path: Path) -> None:
    (tmp_path / MARKS).write_bytes(data)
    with pytest.raises(FileError) as caught:
        Store(real_world(), str(tmp_path))
    assert (caught.value.error, caught.value.subject) == (E.DAMAGED, MARKS)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"9" * 5000)
def test_any_bytes_are_a_record_or_damaged(data: bytes) -> None:
    marks, refusal = {}, E.DAMAGED
    try:
        marks = parse_marks(data)
    except FileError as error:
        refusal = error.error
    assert refusal is E.DAMAGED
    assert all(count > 0 for count in marks.values())


@given(st.dictionaries(st.text(), st.integers(1, 10**6)))
def test_a_record_reads_as_it_was_written(marks: dict[str, int]) -> None:
    assert parse_marks(json.dumps(marks).encode()) == marks
