"""What waits for a machine that is away is told of at a terminal: once, and when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.launch import AWAY_SECONDS
from cognu.files.server import Notice
from cognu.mesh.links import PeerAway
from cognu.ninep.watches import CONTENT
from cognu.node.away import LinksFile
from cognu.shell.connection import LEAVES, Wait
from cognu.shell.launching import ProgramStart
from cognu.shell.session import NodeSession
from cognu.shell.state import end_tasks
from cognu.shell.system import TERMINAL, File, Grant, RunOptions
from cognu.shell.waiting import LINKS, TURNS, Link, Teller, machines_at, parse_links, time_of
from mesh_support import behind_a_line
from sessions import served

SECOND = 10**9
LOST = 1_700_000_000 * SECOND
UNTIL = LOST + 600 * SECOND
AWAY = f"pi away {LOST} {UNTIL}\n"
SAID = f"cognu: pi is away since {time_of(LOST)}; waiting (until {time_of(UNTIL)}; Ctrl-C gives up)\r\n"


class Machine:
    """A node as a shell sees it. Time goes on when the test says so."""

    cwd = "/n/pi/home"
    pid = 7

    def __init__(self) -> None:
        self.waits: dict[int, Wait] = {}
        self.links = "pi linked\n"
        self.namespace = "bind /tmp /x\nbind -a /n/pi/home/me /home/pi\nmount /srv/a /n\n"
        self.notices: asyncio.Queue[Notice] = asyncio.Queue()
        self.asked: list[str] = []
        self.time = LOST
        self.turn = asyncio.Semaphore(0)
        self.asleep = asyncio.Event()
        self.watches = 0
        self.path = TERMINAL
        self.said = ""

    @property
    def clock(self) -> Machine:
        return self

    def now(self) -> int:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.asleep.set()
        await self.turn.acquire()
        self.time += int(seconds * SECOND)

    async def read_all(self, path: str) -> bytes:
        self.asked.append(path)
        if path == LINKS:
            return self.links.encode()
        assert path == "/proc/7/ns"
        return self.namespace.encode()

    async def watch(self, path: str, kinds: int) -> Machine:
        assert (path, kinds) == (LINKS, CONTENT)
        if not self.links:
            raise FileError(E.NOENT, path)
        self.watches += 1
        return self

    async def next(self) -> Notice:
        return await self.notices.get()

    async def close(self) -> None:
        self.watches -= 1

    async def write(self, data: bytes) -> None:
        self.said += data.decode()

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await self.asleep.wait()
            self.asleep.clear()
            self.turn.release()
        await self.asleep.wait()

    def change(self, links: str) -> None:
        self.links = links
        self.notices.put_nowait(Notice(CONTENT))


@asynccontextmanager
async def telling() -> AsyncIterator[Machine]:
    machine = Machine()
    task = asyncio.create_task(Teller(cast(NodeSession, machine), cast(File, machine)).run())
    try:
        yield machine
    finally:
        await end_tasks([task])
    assert machine.watches == 0


async def test_what_waits_for_a_machine_that_is_away_is_told_once_and_when_it_is_back() -> None:
    async with telling() as at:
        at.waits[1] = Wait(("/n/pi/etc",))
        await at.turns(TURNS + 2)
        assert at.said == ""
        at.change(AWAY)
        at.waits[2] = Wait(("notes.txt",))  # in /n/pi/home
        await at.turns(TURNS + 3)
        assert at.said == SAID
        at.change("pi linked\n")
        await at.turns(2)
        assert at.said == SAID + "cognu: pi is back\r\n"
        assert at.asked.count(LINKS) == 3  # and not at each turn


async def test_that_a_machine_which_is_away_refuses_calls_is_told_to_who_waits() -> None:
    async with telling() as at:
        at.waits[1] = Wait(("/n/pi/etc",))
        await at.turns(TURNS + 2)
        at.change(AWAY.replace("\n", " refused\n"))
        await at.turns(TURNS + 3)
        assert at.said == SAID.replace("; waiting", " and refuses calls; waiting")


async def test_what_would_begin_there_is_not_said_to_wait_as_long_as_what_runs() -> None:
    async with telling() as at:
        at.links = AWAY
        at.waits[1] = Wait(("/n/pi", "/n/pi/etc"), begins="pi")
        await at.turns(TURNS + 3)
        assert at.said == SAID.replace(f"until {time_of(UNTIL)}", f"for {AWAY_SECONDS:g} s in all")


async def test_what_waits_shortly_or_for_something_else_is_not_told_and_nobody_asked() -> None:
    async with telling() as at:
        at.links = AWAY
        for number in range(6):
            at.waits = {number: Wait(("/n/pi/etc",))}
            await at.turns(1)
        assert at.asked == []
        at.waits = {9: Wait(("/tmp/x", "/n/desk/pi", "/n", ""))}
        await at.turns(TURNS + 3)
        assert at.said == ""


@pytest.mark.parametrize("path", ["/home/pi", "/home/pi/letters", "../..//pi/etc"])
async def test_a_machine_is_known_by_where_its_files_are_bound(path: str) -> None:
    async with telling() as at:
        at.links = AWAY
        at.waits[1] = Wait((path,), LEAVES)
        await at.turns(TURNS + 3)
        assert at.said == "\r\n" + SAID.replace("Ctrl-C gives up", LEAVES), "on a line of its own, behind a prompt"


async def test_one_that_stayed_away_too_long_is_not_back() -> None:
    async with telling() as at:
        at.links = AWAY
        at.waits[1] = Wait(("/n/pi",))
        await at.turns(TURNS + 3)
        at.change("pi apart\n")
        await at.turns(2)
        assert at.said == SAID


async def test_where_the_node_does_not_say_nothing_is_told() -> None:
    for links in ("", "pi away soon\n"):
        machine = Machine()
        machine.links = links
        machine.waits[1] = Wait(("/n/pi",))
        task = asyncio.create_task(Teller(cast(NodeSession, machine), cast(File, machine)).run())
        while not task.done():  # each look takes a turn of the clock
            machine.turn.release()
            await asyncio.sleep(0)
        assert machine.said == ""
        assert machine.watches == 0


def test_what_a_program_may_have_to_wait_for_is_its_machine_and_its_grants() -> None:
    options = RunOptions(on="pi", grants=(Grant("notes.txt", "r"),))
    assert ProgramStart("wc", ("wc",), {}, "/n/a", options).waits_for("/n/a") == Wait(("/n/pi", "/n/a/notes.txt"))
    assert ProgramStart("cpu", ("cpu",), {}, "/", RunOptions(on="pi")).waits_for("/") == Wait(("/n/pi",), "~. leaves")


@given(st.text() | st.from_regex(r"\w+ (linked|apart|away -?[0-9]{1,40} -?[0-9]{1,40}( refused)?)\n", fullmatch=True))
def test_any_text_of_links_is_read_or_refused(text: str) -> None:
    with suppress(FileError):
        for link in parse_links(text).values():
            time_of(link.until)
            time_of(link.since)


def test_the_nodes_file_is_what_is_read_here() -> None:
    rows = [PeerAway("pi", True, None), PeerAway("a b", False, (LOST, UNTIL)), PeerAway("c", False, None)]
    rows.append(PeerAway("d", False, (LOST, UNTIL), True))
    links = LinksFile(lambda: rows)
    told: list[Notice] = []
    links.watch(told.append)
    links.changed()
    assert told == [Notice(CONTENT)]
    assert links._get is not None
    text = links._get()
    assert isinstance(text, str)
    assert parse_links(text) == {
        "pi": Link(True),
        "a b": Link(False, LOST, UNTIL),
        "c": Link(False),
        "d": Link(False, LOST, UNTIL, True),
    }


def test_binds_alone_say_where_a_machines_files_are() -> None:
    assert machines_at("bind /n/pi/net /net\nmount /srv/x /n/b\nbind /n /m\nbind '/n/a b/c' /d\n") == {
        "/net": "pi",
        "/d": "a b",
    }


async def test_a_node_tells_that_a_link_is_lost_and_that_it_is_back(tmp_path: Path) -> None:
    async with behind_a_line(tmp_path) as (a, _, line):
        changed: asyncio.Queue[PeerAway] = asyncio.Queue()

        def note() -> None:
            for row in a.mesh.away():
                changed.put_nowait(row)

        a.mesh.on_away = note
        channel = await a.mesh.open("b", "x")  # what is wanted is dialled again
        assert a.mesh.away() == [PeerAway("b", True, None)]
        line.cut()
        lost = await changed.get()
        assert lost.away is not None
        assert not lost.linked
        assert lost.away[1] > lost.away[0]
        assert await changed.get() == PeerAway("b", True, None)
        channel.close()


async def test_what_is_under_way_at_a_node_is_known_and_over_in_the_end() -> None:
    async with served() as at:
        session = await at.session()
        assert dict(session.waits) == {}
        near, far = await session.pipe()
        reading = asyncio.create_task(near.read())
        await at.settle(lambda: bool(session.waits))
        assert [wait.paths for wait in session.waits.values()] == [("pipe",)]
        reading.cancel()
        await asyncio.wait([reading])
        assert dict(session.waits) == {}
        with pytest.raises(FileError):
            await session.stat("/none")
        assert dict(session.waits) == {}
        assert parse_links((await session.read_all(LINKS)).decode()) == {}
        await near.close()
        await far.close()
        await session.close()
