"""What other machines say of their services: when it is read, what it comes to, and what of it goes when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.devices.registry import MAX_TEXT, SECOND, Registry
from cognu.errors import E, FileError
from cognu.files.server import Caller, Fid, MaybeAsync, Walk
from cognu.files.tree import Directory, Text, TreeFid, TreeServer
from cognu.ninep.watches import BROKEN, CONTENT
from cognu.node.node import Node as WholeNode
from cognu.node.registering import AGAIN_SECONDS, ASK_SECONDS, KEEP_SECONDS, LEAST_SECONDS, Following
from cognu.world.timing import end_tasks
from joined import idle
from serving import Node


class Clock:
    """Goes when it is told."""

    def __init__(self) -> None:
        self.at = 0
        self.sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return 1_700_000_000 * SECOND + self.at

    def monotonic(self) -> int:
        return self.at

    async def sleep(self, seconds: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.at + round(seconds * SECOND), waiter))
        await waiter

    async def passes(self, seconds: float) -> None:
        self.at += round(seconds * SECOND)
        for due, waiter in self.sleepers:
            if due <= self.at and not waiter.done():
                waiter.set_result(None)
        self.sleepers = [(due, waiter) for due, waiter in self.sleepers if not waiter.done()]
        await idle()


class Counted(TreeServer):
    """Knows how many of its fids are not clunked yet."""

    live = 0

    def attach(self, caller: Caller, aname: str) -> MaybeAsync[Fid]:
        self.live += 1
        return super().attach(caller, aname)

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        walked = super().walk(fid, names, caller)
        assert isinstance(walked, Walk)
        self.live += walked.fid is not None
        return walked

    def clunk(self, fid: Fid) -> None:
        self.live -= 1
        super().clunk(fid)


class Own(Text):
    """A machine's file, which may keep whoever opens it waiting, or refuse."""

    tells = True

    def __init__(self) -> None:
        super().__init__("own", lambda: self.text)
        self.text = ""
        self.reads = 0
        self.refuses = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:  # type: ignore[override]  # a text is at once
        self.reads += 1
        await self.gate.wait()
        if self.refuses:
            raise FileError(E.ACCES, "own")
        super().open(fid, mode, caller)

    def says(self, text: str) -> None:
        self.text = text
        self.happened(CONTENT)


class Bench:
    """desk, with the peers pi and nas; each of their files is the test's. Nobody is linked at first."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock)
        self.peers = {"f1": "pi", "f2": "nas"}
        self.linked: set[str] = set()
        self.own = {"pi": Own(), "nas": Own()}
        self.places: dict[str, Directory] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.following: Following
        self.machines: Counted

    async def begin(self) -> None:
        machines = Directory("", [])
        for name, own in self.own.items():
            self.places[name] = Directory("registry", [own])
            machines.add(Directory(name, [Directory("mnt", [self.places[name]])]))
        root = TreeServer("#R", Directory("", [Directory("n", [])]))
        self.machines = Counted("#N", machines)
        base = await Node(root).start({"/n": self.machines})

        def peer(key: str) -> Any:
            return SimpleNamespace(fingerprint=key, name=self.peers[key]) if key in self.peers else None

        node = SimpleNamespace(
            world=SimpleNamespace(clock=self.clock),
            book=SimpleNamespace(all=lambda: [peer(key) for key in self.peers], get=peer),
            mesh=SimpleNamespace(is_linked=lambda key: key in self.linked),
            base=base,
            spawn=self.spawn,
        )
        self.following = Following(cast(WholeNode, node), self.registry)
        self.following.begin()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def link(self, *keys: str) -> None:
        self.linked = set(keys)
        await self.look()

    async def look(self) -> None:
        self.following.look()
        await idle()

    def index(self) -> list[str]:
        return [service.line.strip() for service in self.registry.all()]


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.begin()
    try:
        yield made
        assert not [task for task in made.tasks if task.done() and task.exception()]
    finally:
        await end_tasks(*made.tasks)


async def test_what_a_linked_machine_says_is_there_and_again_when_it_changed() -> None:
    async with bench() as desk:
        desk.own["pi"].text = "a kind notes\n"
        await desk.link("f1")
        assert desk.index() == ["a!pi kind notes node pi"]
        desk.own["pi"].says("b kind notes\n")
        await idle()
        assert desk.index() == ["a!pi kind notes node pi"], "not sooner than that"
        await desk.clock.passes(LEAST_SECONDS)
        assert desk.index() == ["b!pi kind notes node pi"]


async def test_a_machine_that_changes_without_end_is_read_once_in_a_second() -> None:
    async with bench() as desk:
        await desk.link("f1")
        before = desk.own["pi"].reads
        for number in range(100):
            desk.own["pi"].says(f"a{number}\n")
            await asyncio.sleep(0)
        await desk.clock.passes(LEAST_SECONDS)
        assert desk.own["pi"].reads == before + 1
        assert desk.index() == ["a99!pi node pi"]


async def test_a_machine_that_is_away_is_marked_and_dropped_from_here_after_an_hour() -> None:
    async with bench() as desk:
        desk.own["pi"].text = "a\n"
        await desk.link("f1")
        await desk.link()
        assert desk.index() == ["a!pi node pi state away"]
        await desk.link("f1")
        assert desk.index() == ["a!pi node pi"]
        await desk.link()
        await desk.clock.passes(KEEP_SECONDS - 1)
        assert desk.index() == ["a!pi node pi state away"]
        await desk.clock.passes(1)
        assert desk.index() == []


async def test_a_machine_that_is_back_after_more_than_an_hour_is_read_again_though_nothing_changed_there() -> None:
    async with bench() as desk:
        desk.own["pi"].text = "a\n"
        await desk.link("f1")
        await desk.link()
        await desk.clock.passes(KEEP_SECONDS)
        assert desk.index() == []
        before = desk.own["pi"].reads
        await desk.link("f1")
        await desk.clock.passes(LEAST_SECONDS)
        assert (desk.index(), desk.own["pi"].reads) == (["a!pi node pi"], before + 1)
        desk.own["pi"].says("b\n")
        await idle()
        await desk.clock.passes(LEAST_SECONDS)
        assert desk.index() == ["b!pi node pi"]


async def test_a_machine_whose_session_was_lost_is_marked_and_read_anew() -> None:
    async with bench() as desk:
        desk.own["pi"].text = "a\n"
        await desk.link("f1")
        desk.linked = set()
        desk.own["pi"].happened(BROKEN)
        await idle()
        assert desk.index() == ["a!pi node pi state away"]
        desk.own["pi"].text = "b\n"
        await desk.link("f1")
        assert desk.index() == ["b!pi node pi"]


async def test_a_machine_that_is_dropped_leaves_nothing_at_once_and_its_name_may_go_to_another() -> None:
    async with bench() as desk:
        for own in desk.own.values():
            own.text = "a\n"
        await desk.link("f1", "f2")
        assert desk.index() == ["a!nas node nas", "a!pi node pi"]
        del desk.peers["f1"]
        desk.following.look()
        assert desk.index() == ["a!nas node nas"]
        await idle()
        desk.own["pi"].says("b\n")
        await desk.clock.passes(AGAIN_SECONDS)
        assert desk.index() == ["a!nas node nas"]
        desk.peers["f2"] = "attic"
        await desk.look()
        assert desk.index() == ["a!attic node attic"]


async def test_what_was_dropped_while_it_was_read_is_not_there() -> None:
    async with bench() as desk:
        desk.own["pi"].text = "a\n"
        desk.own["pi"].gate.clear()
        await desk.link("f1")
        del desk.peers["f1"]
        await desk.look()
        desk.own["pi"].gate.set()
        await idle()
        assert desk.index() == []


async def test_what_is_not_granted_any_more_goes_at_once_and_comes_when_it_is_again() -> None:
    async with bench() as desk:
        own = desk.own["pi"]
        own.text = "a\n"
        await desk.link("f1")
        desk.places["pi"].discard("own")  # which tells GONE
        await idle()
        assert desk.index() == []
        await desk.clock.passes(AGAIN_SECONDS)
        assert desk.index() == []
        desk.places["pi"].add(own)
        await desk.clock.passes(AGAIN_SECONDS)
        assert desk.index() == ["a!pi node pi"]


async def test_a_grant_that_is_told_of_is_noticed_without_waiting() -> None:
    async with bench() as desk:
        own = desk.own["pi"]
        desk.places["pi"].discard("own")
        own.text = "a\n"
        await desk.link("f1")
        desk.places["pi"].add(own)
        await idle()
        assert desk.index() == [], "nobody said so"
        await desk.look()
        assert desk.index() == ["a!pi node pi"]


async def test_of_what_is_nonsense_or_too_much_nothing_is_taken() -> None:
    async with bench() as desk:
        desk.own["pi"].text = "a\n"
        await desk.link("f1")
        for text in ("a node desk\n", "x" * (MAX_TEXT + 1), "a kind 'open\n", "\x00\n"):
            desk.own["pi"].says("a\n")
            await idle()
            await desk.clock.passes(AGAIN_SECONDS)
            assert desk.index() == ["a!pi node pi"]
            desk.own["pi"].says(text)
            await idle()
            await desk.clock.passes(LEAST_SECONDS)
            assert desk.index() == []


async def test_a_file_that_may_not_be_opened_is_not_held() -> None:
    async with bench() as desk:
        desk.own["pi"].refuses = True
        before = desk.machines.live
        await desk.link("f1")
        assert (desk.own["pi"].reads, desk.machines.live) == (1, before)


async def test_a_machine_that_does_not_answer_is_given_up_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with bench() as desk:
        desk.own["pi"].text = "a\n"
        desk.own["pi"].gate.clear()
        desk.own["nas"].text = "b\n"
        await desk.link("f1", "f2")
        assert desk.index() == ["b!nas node nas"], "nobody waits for the other"
        await desk.clock.passes(ASK_SECONDS)
        assert f"the services of pi can't be read now: {E.TIMEDOUT.text}" in caplog.messages
        desk.own["pi"].gate.set()
        await desk.clock.passes(AGAIN_SECONDS)
        assert desk.index() == ["b!nas node nas", "a!pi node pi"]


async def test_this_machines_services_end_when_they_are_not_refreshed() -> None:
    async with bench() as desk:
        desk.registry.register("a refresh 5", desk)
        desk.registry.register("b refresh 9", desk)
        await idle()
        await desk.clock.passes(5)
        assert desk.index() == ["b"]
        await desk.clock.passes(4)
        assert desk.index() == []
