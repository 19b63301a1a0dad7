"""What commands of the shell begin before its turn: how many trips it takes, and that nobody can tell otherwise."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

import cognu.ninep.server
from cognu.errors import E, FileError, LinkBroken
from cognu.ninep import messages as m
from cognu.ninep.codec import Frames, decode
from cognu.ninep.messages import Dialect
from cognu.ninep.server import Limits
from cognu.ninep.types import Qid, SetStat, Stat
from cognu.shell.ahead import AT_ONCE, LISTED_AHEAD, LISTED_IN_ALL, Room, ahead, all_of
from cognu.shell.commands.early import SMALL, read_small
from cognu.shell.commands.reading import walk
from cognu.shell.interactive import run_once
from cognu.shell.session import AT_ONCE as ENTRIES_AT_ONCE
from cognu.shell.session import NodeSession
from cognu.shell.state import Shell
from cognu.shell.system import File, Mode
from joined import idle
from sessions import nothing_open, served
from shell_fake import Bench, FakeSystem, FakeWorld, Result
from streams import MemoryStream

T = TypeVar("T")


class FarSystem(FakeSystem):
    """Each call waits for the next trip; those that wait go together. `opened` are the paths in the order of asking."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__(world)
        self.waiting: list[asyncio.Future[None]] = []
        self.most = 0
        self.opened: list[str] = []
        self.cut = False

    async def trip(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self.waiting.append(place)
        await place
        if self.cut:
            raise LinkBroken(E.NONODE, "pi")

    async def open(self, path: str, mode: Mode, perm: int = 0o666) -> File:
        if mode == "r":
            self.opened.append(path)
        await self.trip()
        return await super().open(path, mode, perm)

    async def stat(self, path: str, follow: bool = True) -> Stat:
        await self.trip()
        return await super().stat(path, follow)

    async def list(self, path: str) -> list[Stat]:
        await self.trip()
        return await super().list(path)

    async def mkdir(self, path: str, perm: int = 0o777) -> None:
        await self.trip()
        await super().mkdir(path, perm)

    async def remove(self, path: str) -> None:
        await self.trip()
        await super().remove(path)

    async def wstat(self, path: str, change: SetStat) -> None:
        await self.trip()
        await super().wstat(path, change)

    async def answer(self) -> bool:
        """One trip: what waits is answered, once nothing else goes on. False if nothing waits."""
        seen = -1
        for _ in range(40):
            await idle()
            if seen == len(self.waiting) > 0:
                break
            seen = len(self.waiting)
        waiting, self.waiting = self.waiting, []
        self.most = max(self.most, len(waiting))
        for place in waiting:
            if not place.done():
                place.set_result(None)
        return bool(waiting)

    async def trips(self, work: Awaitable[T], stop: Callable[[int], None] = lambda done: None) -> tuple[T, int]:
        """What `work` comes to, and how many trips it took; `stop` is called after each."""
        task = asyncio.ensure_future(work)
        count = 0
        while not task.done():
            if await self.answer():
                count += 1
                stop(count)
            else:
                assert task.done(), "it waits for something else than an answer"
        return await task, count


class FarBench(Bench):
    def __init__(self) -> None:
        super().__init__()
        self.far = FarSystem(self.system.world)
        self.system = self.far
        self.shell = Shell(self.system, {"HOME": "/home/me"}, ("sh",))

    async def count(self, text: str, stop: Callable[[int], None] = lambda done: None) -> tuple[Result, int]:
        return await self.far.trips(self.run(text), stop)


@pytest.fixture
def bench() -> FarBench:
    return FarBench()


def make_tree(bench: Bench, directories: int, files: int) -> None:
    for directory in range(directories):
        for file in range(files):
            bench.system.make(f"tree/d{directory}/f{file}", f"{directory}.{file}\n".encode())


# -- trips ------------------------------------------------------------------------------------------------------------


async def test_a_tree_is_read_in_few_trips(bench: FarBench) -> None:
    make_tree(bench, 10, 30)
    result, trips = await bench.count("grep -r . tree")
    assert result.out.splitlines() == [f"tree/d{d}/f{f}:{d}.{f}" for d in range(10) for f in sorted(range(30), key=str)]
    # The tree's attributes, its listing, those of the directories; then 300 files, 64 at a time.
    assert trips <= 4 + 2 * (310 // AT_ONCE + 1)
    assert bench.far.most <= AT_ONCE + LISTED_IN_ALL


async def test_a_tree_is_copied_in_few_trips(bench: FarBench) -> None:
    make_tree(bench, 10, 30)
    result, trips = await bench.count("cp -r tree copy")
    assert (result.status, result.err) == (0, "")
    assert all(bench.system.data(f"copy/d{d}/f{f}") == f"{d}.{f}\n".encode() for d in range(10) for f in range(30))
    assert trips <= 30  # one by one it is six for each file, 1,800


async def test_a_tree_is_removed_in_few_trips(bench: FarBench) -> None:
    make_tree(bench, 10, 30)
    result, trips = await bench.count("rm -r tree")
    assert (result.status, bench.system.has("tree")) == (0, False)
    assert trips <= 16


@pytest.mark.parametrize(
    ("text", "most"),
    [("cat tree/d0/*", 8), ("wc tree/d0/*", 8), ("ls -l tree/d0/*", 6), ("stat tree/d0/*", 6), ("rm tree/d0/*", 8)],
)
async def test_many_operands_are_few_trips(bench: FarBench, text: str, most: int) -> None:
    make_tree(bench, 1, 60)
    result, trips = await bench.count(text)
    assert (result.status, result.err) == (0, "")
    assert trips <= most


async def test_many_operands_are_copied_in_few_trips(bench: FarBench) -> None:
    make_tree(bench, 1, 60)
    bench.system.make("to")
    result, trips = await bench.count("cp tree/d0/* to")
    assert (result.status, bench.system.data("to/f59")) == (0, b"0.59\n")
    assert trips <= 12


async def test_deep_and_wide_trees_are_listed_ahead_and_no_more_than_is_said(bench: FarBench) -> None:
    for number in range(400):
        bench.system.make(f"tree/d{number}/e/f", b"x")
    result, trips = await bench.count("grep -rl x tree")
    assert len(result.out.splitlines()) == 400
    assert trips <= 120  # one by one it is two for each directory and two for each file


# -- as if nothing was begun early ------------------------------------------------------------------------------------


async def test_what_is_refused_is_told_in_its_turn_and_the_others_are_read(bench: FarBench) -> None:
    for name in "abc":
        bench.system.make(name, name.encode())
    bench.system.make("b", b"").refuse = E.ACCES
    result, _ = await bench.count("cat a b none c 2>&1")
    assert result.status == 1
    assert result.out == "acat: b: permission denied\ncat: none: file does not exist\nc"


async def test_a_file_that_goes_meanwhile_is_missing(bench: FarBench) -> None:
    for name in "abc":
        bench.system.make(name, name.encode())

    def remove(done: int) -> None:
        if done == 1:  # their attributes are there
            home = bench.system._find("/home/me").children
            assert home is not None
            del home["b"]

    result, _ = await bench.count("cat a b c", remove)
    assert (result.out, result.status) == ("ac", 1)
    assert result.err == "cat: b: file does not exist\n"


async def test_what_may_be_a_stream_is_opened_in_its_turn(bench: FarBench, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up, empty, large = (bench.system.make(name, b"x") for name in ("made-up", "empty", "large"))
    monkeypatch.setattr(made_up, "stat", lambda name: Stat(name, Qid(0, 0, 7), 0o644, 1, 0))
    empty.data.clear()
    large.data += b"y" * SMALL
    bench.system.make("small", b"small")
    await bench.count("cat made-up empty large small")
    assert bench.far.opened == ["small", "made-up", "empty", "large"]


async def test_what_is_read_early_is_no_more_than_it_was_said_to_be() -> None:
    """A file that grew is for who opens it: its beginning alone is not held."""
    bench = Bench()
    bench.system.make("f", b"x" * (SMALL + 1))
    stat = replace(await bench.system.stat("f"), length=10)
    assert await read_small(bench.system, "f", stat) is None
    bench.system.make("g", b"x" * SMALL)
    held = await read_small(bench.system, "g", await bench.system.stat("g"))
    assert held is not None
    assert (await held.read(3), len(await held.read(SMALL)), await held.read()) == (b"xxx", SMALL - 3, b"")
    with pytest.raises(FileError):
        await held.write(b"")
    assert not bench.world.open_files


async def test_a_copy_goes_on_after_refusals_and_names_each(bench: FarBench) -> None:
    make_tree(bench, 5, 100)
    for name in ("d1/f0", "d3/f7"):
        bench.system.make(f"tree/{name}").refuse = E.ACCES
    bench.system.make("tree/d2/dangling", link="nowhere")
    result, _ = await bench.count("cp -r tree copy")
    assert result.status == 1
    assert sorted(result.err.splitlines()) == [
        "cp: tree/d1/f0: permission denied",
        "cp: tree/d2/dangling: file does not exist",
        "cp: tree/d3/f7: permission denied",
    ]
    copied = {(d, f) for d in range(5) for f in range(100) if bench.system.has(f"copy/d{d}/f{f}")}
    assert len(copied) == 498


@pytest.mark.parametrize("then", [E.NOENT, E.RESTARTED])
async def test_a_copy_whose_machine_is_out_of_reach_says_once_how_far_it_came(
    bench: FarBench, monkeypatch: pytest.MonkeyPatch, then: E
) -> None:
    make_tree(bench, 5, 100)
    bench.system.make("tree/d0/f0").refuse = E.ACCES
    opening, made = bench.far.open, 0

    async def open_until(path: str, mode: Mode, perm: int = 0o666) -> File:
        nonlocal made
        if mode == "w":
            made += 1
            if made > 40:
                raise FileError(E.RESTARTED if made == 41 else then, path, "pi")
        return await opening(path, mode, perm)

    monkeypatch.setattr(bench.far, "open", open_until)
    result, _ = await bench.count("cp -r tree copy")
    assert result.status == 1
    refused, gave_up = sorted(result.err.splitlines(), key=lambda line: "restarted" in line)
    assert refused == "cp: tree/d0/f0: permission denied"
    assert "the other node restarted: pi; 40 of the 500 files found were copied" in gave_up
    assert gave_up.endswith("run it again")


async def test_a_copy_that_is_interrupted_says_how_far_it_came(bench: FarBench) -> None:
    make_tree(bench, 3, 100)
    streams, _, err = bench.streams(False)
    copying = asyncio.ensure_future(run_once(bench.shell, "cp -r tree copy", streams))
    while not any(bench.system.has(f"copy/d1/f{n}") for n in range(100)):
        await bench.far.answer()
    copying.cancel()
    while not copying.done():
        await bench.far.answer()
    await bench.close(streams)
    assert "cp: copy: interrupted: " in err.text
    assert re.search(r" 1\d\d of the [12]\d\d files found by then were copied\n", err.text)


async def test_a_removal_goes_on_after_refusals_and_names_each(
    bench: FarBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(bench, 3, 10)
    remove = bench.far.remove

    async def some(path: str) -> None:
        if path in ("tree/d1/f0", "tree/d1/f1"):
            raise FileError(E.PERM, path)
        await remove(path)

    monkeypatch.setattr(bench.far, "remove", some)
    result, _ = await bench.count("rm -r tree")
    assert result.status == 1
    assert result.err == "".join(f"rm: tree/d1/f{n}: operation not permitted\n" for n in (0, 1))
    assert not bench.system.has("tree/d0")
    assert not bench.system.has("tree/d1/f2")


@pytest.mark.parametrize("then", [E.NOENT, E.AWAY])
async def test_a_removal_whose_machine_is_out_of_reach_says_once_how_far_it_came(
    bench: FarBench, monkeypatch: pytest.MonkeyPatch, then: E
) -> None:
    make_tree(bench, 5, 100)
    removing, asked = bench.far.remove, 0

    async def remove_until(path: str) -> None:
        nonlocal asked
        asked += 1
        if path == "tree/d0/f0":
            raise FileError(E.PERM, path)
        if asked > 41:
            raise FileError(E.AWAY if asked == 42 else then, path, "pi")
        await removing(path)

    monkeypatch.setattr(bench.far, "remove", remove_until)
    result, _ = await bench.count("rm -r tree")
    assert result.status == 1
    refused, gave_up = sorted(result.err.splitlines(), key=lambda line: "away" in line)
    assert refused == "rm: tree/d0/f0: operation not permitted"
    removed = [(d, f) for d in range(5) for f in range(100) if not bench.system.has(f"tree/d{d}/f{f}")]
    assert len(removed) == 40
    assert re.search(r": away for too long: pi; 40 of the \d+ files and directories found are known to be", gave_up)
    assert gave_up.endswith("run it again")
    assert bench.system.has("tree/d4")


async def test_a_removal_that_can_not_list_any_more_says_so_once(
    bench: FarBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(bench, 3, 10)
    listing = bench.far.list

    async def once(path: str) -> list[Stat]:
        if path != "tree":
            raise FileError(E.RESTARTED, path, "pi")
        return await listing(path)

    monkeypatch.setattr(bench.far, "list", once)
    result, _ = await bench.count("rm -r tree")
    assert result.status == 1
    [line] = result.err.splitlines()
    assert "the other node restarted: pi; 0 of the 4 files and directories found are known to be removed" in line


async def test_a_removal_that_is_interrupted_says_how_far_it_came(bench: FarBench) -> None:
    make_tree(bench, 3, 100)
    streams, _, err = bench.streams(False)
    removing = asyncio.ensure_future(run_once(bench.shell, "rm -r tree", streams))
    while all(bench.system.has(f"tree/d1/f{n}") for n in range(100)):
        await bench.far.answer()
    removing.cancel()
    while not removing.done():
        await bench.far.answer()
    await bench.close(streams)
    found = re.search(r"rm: tree: interrupted: (\d+) of the \d+ files and directories found by then were", err.text)
    assert found is not None
    gone = [(d, f) for d in range(3) for f in range(100) if not bench.system.has(f"tree/d{d}/f{f}")]
    assert len(gone) - 64 <= int(found[1]) <= len(gone)


@pytest.mark.parametrize("text", ["cp -r tree copy", "rm -r tree"])
async def test_a_directory_that_can_not_be_listed_stops_nothing_else(
    bench: FarBench, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    make_tree(bench, 3, 5)
    listing = bench.far.list

    async def some(path: str) -> list[Stat]:
        if path == "tree/d1":
            raise FileError(E.ACCES, path)
        return await listing(path)

    monkeypatch.setattr(bench.far, "list", some)
    result, _ = await bench.count(text)
    assert (result.status, result.err) == (1, f"{text[:2]}: tree/d1: permission denied\n")
    if text.startswith("cp"):
        assert bench.system.has("copy/d2/f4")
    else:
        assert not bench.system.has("tree/d2")
        assert bench.system.has("tree/d1/f4")


async def test_a_directory_that_can_not_be_made_is_told_once(bench: FarBench) -> None:
    make_tree(bench, 3, 20)
    bench.system.make("copy/tree/d1", b"in the way")
    result, _ = await bench.count("cp -r tree copy")
    assert result.status == 1
    assert result.err == "cp: copy/tree/d1: not a directory\n"


async def test_names_that_meet_are_copied_one_after_the_other(bench: FarBench) -> None:
    for directory in "ab":
        bench.system.make(f"{directory}/x", directory.encode() * 1000)
    bench.system.make("to")
    result, _ = await bench.count("cp a/x b/x to")
    assert (result.status, bench.system.data("to/x")) == (0, b"b" * 1000)


async def test_a_name_removed_twice_is_missing_the_second_time(bench: FarBench) -> None:
    bench.system.make("d/x", b"x")
    result, _ = await bench.count("rm -r d/x d d/x")
    assert (result.status, result.err) == (1, "rm: d/x: file does not exist\n")


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["grep -r . tree", "cp -r tree copy", "rm -r tree", "cat tree/d0/*", "ls -l tree/*"])
@pytest.mark.parametrize("after", [1, 2, 3, 5])
async def test_cancelled_or_cut_off_it_leaves_nothing_open_or_running(bench: FarBench, text: str, after: int) -> None:
    make_tree(bench, 5, 30)
    streams, _, _ = bench.streams()
    before = asyncio.all_tasks()
    running = asyncio.create_task(run_once(bench.shell, text, streams))
    for _ in range(after):
        await bench.far.answer()
    running.cancel()
    await asyncio.wait([running])
    assert asyncio.all_tasks() == before
    await bench.close(streams)

    def cut(done: int) -> None:
        bench.far.cut = done >= after

    make_tree(bench, 5, 30)
    result, _ = await bench.count(text, cut)
    assert result.status != 0 or not bench.far.cut
    assert asyncio.all_tasks() == before


async def test_grep_that_has_found_it_leaves_nothing_running(bench: FarBench) -> None:
    make_tree(bench, 5, 30)
    before = asyncio.all_tasks()
    result, _ = await bench.count("grep -rq . tree")
    assert result.status == 0
    assert asyncio.all_tasks() == before


async def test_a_walk_that_is_left_cancels_its_listings(bench: FarBench) -> None:
    make_tree(bench, 30, 1)
    before = asyncio.all_tasks()
    entries = walk(bench.system, "tree")
    _, _ = await bench.far.trips(anext(entries))
    assert len(asyncio.all_tasks()) > len(before)
    await entries.aclose()
    assert asyncio.all_tasks() == before


# -- the parts --------------------------------------------------------------------------------------------------------


async def test_results_come_in_order_and_no_more_is_begun_than_is_said() -> None:
    begun: list[int] = []
    gates = [asyncio.Event() for _ in range(9)]

    async def work(item: int) -> int:
        begun.append(item)
        await gates[item].wait()
        return item * item

    async with ahead(range(9), work, 3) as done:
        await idle()
        assert begun == [0, 1, 2]
        gates[1].set()
        gates[2].set()
        await idle()
        assert begun == [0, 1, 2]  # they wait for their turn
        for gate in gates:
            gate.set()
        assert [(item, task.result()) async for item, task in done] == [(n, n * n) for n in range(9)]


async def test_a_generator_of_items_is_closed_though_it_is_held() -> None:
    closed = False

    async def items() -> AsyncGenerator[int]:
        nonlocal closed
        try:
            for number in range(9):
                yield number
        finally:
            closed = True

    async def work(item: int) -> int:
        return item

    held = items()
    async with ahead(held, work, 2) as done:
        assert (await anext(aiter(done)))[0] == 0
    assert closed


async def test_what_the_items_raise_comes_after_what_came_before() -> None:
    async def items() -> AsyncGenerator[int]:
        yield 1
        yield 2
        raise FileError(E.IO, "3")

    async def work(item: int) -> int:
        return item

    seen: list[int] = []

    async def all_() -> None:
        async with ahead(items(), work) as done:
            async for item, _ in done:
                seen.append(item)

    with pytest.raises(FileError):
        await all_()
    assert seen == [1, 2]


async def test_refusals_are_told_in_order_whichever_came_first_and_the_others_go_on() -> None:
    order = [asyncio.Event(), asyncio.Event()]
    done: list[int] = []
    heard: list[str] = []

    async def work(item: int) -> None:
        if item > 1:
            done.append(item)
            return
        await order[item].wait()
        order[0].set()
        raise FileError(E.IO, str(item))

    async def refused(error: FileError) -> None:
        heard.append(error.subject)

    order[1].set()
    await all_of(range(200), work, refused)
    assert (heard, sorted(done)) == (["0", "1"], list(range(2, 200)))


@pytest.mark.parametrize("error", [E.SESSIONLOST, E.RESTARTED, E.AWAY, E.HOSTUNREACH])
async def test_when_a_machine_is_out_of_reach_no_more_is_begun_and_it_is_told_once(error: E) -> None:
    begun: list[int] = []
    heard: list[str] = []

    async def work(item: int) -> None:
        begun.append(item)
        raise FileError(error, str(item))

    async def refused(refusal: FileError) -> None:
        heard.append(refusal.subject)

    await all_of(range(200), work, refused)
    assert heard == ["0"]
    assert len(begun) <= AT_ONCE


# -- on the wire ------------------------------------------------------------------------------------------------------


class Counting(MemoryStream):
    """Counts what is asked and answered, by name, and how much was on its way at once."""

    def prepare(self) -> None:
        self.frames = {True: Frames(1 << 24), False: Frames(1 << 24)}
        self.names: dict[str, int] = {}
        self.under_way = self.most = 0
        self.cut_after = -1  # answers
        self.said = asyncio.Event()  # set at each answer

    def note(self, data: bytes, ours: bool) -> None:
        for frame in self.frames[ours].feed(data):
            message = decode(frame, Dialect.NG)[1]
            if isinstance(message, m.Tcomp):
                name = " ".join(type(part).__name__ for part in message.parts)
            else:
                name = type(message).__name__
            self.names[name] = self.names.get(name, 0) + 1
            self.under_way += 1 if ours else -1
            self.most = max(self.most, self.under_way)

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        self.note(b"".join(buffers), True)
        await super().write(*buffers)

    async def read(self, count: int) -> bytes:
        data = await super().read(count)
        self.note(data, False)
        self.said.set()
        self.said.clear()
        if self.cut_after == 0:
            self.cut()
        self.cut_after -= 1
        return data


@asynccontextmanager
async def counted(files: int) -> AsyncIterator[tuple[NodeSession, Counting, str]]:
    """A session with a node, what it says on the wire, and a directory of small files."""
    async with served() as at:
        session = await at.session()
        (end,) = at.ends
        tree = at.place / "tree"
        tree.mkdir()
        for number in range(files):
            (tree / f"f{number}").write_bytes(b"some text\n")
        end.__class__ = Counting
        assert isinstance(end, Counting)
        end.prepare()
        yield session, end, str(tree)
        await session.close()


def planted(top: Path, directories: int) -> None:
    for directory in range(directories):
        place = top / f"d{directory}"
        place.mkdir()
        (place / f"large-{directory}").write_bytes(b"y" * (SMALL + 1))
        (place / f"link-{directory}").symlink_to("../f0")
        (place / f"empty-{directory}").write_bytes(b"")


def told(top: Path) -> dict[str, bytes]:
    """The files below, by name."""
    return {path.name: path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "text",
    ["cp -r {} {}-2", "mkdir {}-2; cp {}/f* {}/d*/* {}-2", "grep -r . {}", "rm -r {}", "cat {}/f* {}/d0", "wc {}/*/*"],
)
async def test_with_few_open_files_less_is_done_at_once_and_all_of_it(text: str) -> None:
    """A limit of 20, of which the session needs some itself; 64 files at once want more."""
    async with counted(100) as (session, _, tree):
        top, copy = Path(tree), Path(f"{tree}-2")
        planted(top, 20)
        before = told(top)
        control = await session.open(f"/proc/{session.pid}/ctl", "w")
        await control.write(b"limit files 20")
        await control.close()
        bench = Bench()
        bench.shell = Shell(session, {}, ("sh",))
        result = await bench.run(text.replace("{}", f"/mnt/host{tree}"))
        if "d0" in text:
            assert result.err == f"cat: /mnt/host{tree}/d0: file is a directory\n"
        else:
            assert (result.status, result.err) == (0, "")
        assert told(copy) == (before if "-2" in text else {})
        assert told(top) == ({} if "rm" in text else before)
        assert session.room._most > 20  # nobody wants any now


async def test_work_with_too_many_files_open_is_done_again_when_others_have_closed_theirs() -> None:
    room, free, tries = Room(), 5, 0

    async def work() -> int:
        nonlocal free, tries
        tries += 1
        if free < 2:
            raise FileError(E.MFILE, "f")
        free -= 2
        await idle()
        free += 2
        return free

    await asyncio.gather(*(room.run(work) for _ in range(100)))
    assert (free, room._busy, room._most > 100) == (5, 0, True)
    assert tries < 300


@pytest.mark.parametrize("error", [E.MFILE, E.NFILE, E.DQUOT])
async def test_who_is_alone_and_has_too_many_files_open_is_refused(error: E) -> None:
    room = Room()
    gate = asyncio.Event()

    async def refused() -> None:
        raise FileError(error, "f")

    async def other() -> None:
        await gate.wait()

    waiting = asyncio.create_task(room.run(other))
    late = [asyncio.create_task(room.run(refused)) for _ in range(3)]
    await idle()
    assert not any(task.done() for task in late)
    late.pop().cancel()
    gate.set()
    outcomes = await asyncio.gather(waiting, *late, return_exceptions=True)
    assert [getattr(outcome, "error", None) for outcome in outcomes] == [None, error, error]
    assert (room._busy, room._wanted) == (0, 0)


async def read_tree(session: NodeSession, top: str) -> list[bytes]:
    async def read(found: tuple[str, Stat]) -> bytes:
        held = await read_small(session, *found)
        assert held is not None
        return await held.read()

    async with ahead(walk(session, top), read) as done:
        return [task.result() async for _, task in done]


async def test_over_9p_a_tree_is_a_compound_for_each_file_with_many_under_way() -> None:
    async with counted(200) as (session, end, tree):
        assert await read_tree(session, tree) == [b"some text\n"] * 200
        await nothing_open(session)
        assert end.names["Twalk Tlopen Tgetattr Tread"] == 200
        assert end.names["Twalk Tlopen Tlist"] == 1
        assert end.most >= AT_ONCE // 2


async def test_over_9p_without_compounds_it_is_the_same_with_many_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cognu.ninep.server, "wanted", lambda msize: ())
    async with counted(200) as (session, end, tree):
        assert await read_tree(session, tree) == [b"some text\n"] * 200
        await nothing_open(session)
        assert not any(" " in name for name in end.names)
        assert end.names["Tlopen"] == 201
        assert end.most >= AT_ONCE // 2


@pytest.mark.parametrize("after", [1, 3, 40])
async def test_over_9p_a_link_that_is_cut_midway_ends_all_of_it(after: int) -> None:
    async with counted(200) as (session, end, tree):
        before = asyncio.all_tasks()
        end.cut_after = after
        with pytest.raises(LinkBroken):
            await read_tree(session, tree)
        assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def test_over_9p_cancelled_midway_no_fid_is_left() -> None:
    async with counted(200) as (session, end, tree):
        reading = asyncio.create_task(read_tree(session, tree))
        while end.names.get("Rcomp", 0) < 20:
            await end.said.wait()
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        del reading
        await nothing_open(session)


def test_what_is_asked_at_once_is_less_than_a_server_takes_of_one_client() -> None:
    """A listing without attributes asks for those of so many entries at once."""
    assert inspect.signature(ahead).parameters["most"].default == AT_ONCE
    assert AT_ONCE + max(LISTED_AHEAD, LISTED_IN_ALL) * ENTRIES_AT_ONCE < Limits().calls
