"""What a process wanted and has no grant for: noted, asked about while it waits, answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.proc import ProcServer
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.launch import Grant, Launch
from cognu.files.process import Process
from cognu.files.wants import MOST, MOST_BYTES, Means, Said, Want, Wants, is_within
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.world.real import RealClock
from serving import Client, Node

PROGRAM = "bafkr4ihash"


class Desk:
    """A process's wants, and what the one who grants was told."""

    def __init__(self, run: Said = Said(), kept: Said = Said()) -> None:  # noqa: B008  (nothing is kept in it)
        self.wants = Wants()
        self.admitted: list[tuple[str, str]] = []
        self.failure: FileError | None = None
        self.has: set[str] = set()
        self.links: dict[str, str] = {}
        self.led: list[str] = []
        self.controls: set[str] = set()
        means = Means(self.admit, lambda path, rights: path not in self.has, self.real, self.steers)
        self.wants.begin(PROGRAM, means, run, kept)

    async def admit(self, path: str, rights: str, real: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.admitted.append((path, rights))
        self.led.append(real)

    async def real(self, path: str) -> str:
        return self.links.get(path, path)

    async def steers(self, path: str) -> bool:
        return path in self.controls

    async def asked(self, path: str, rights: str = "r", number: int = 0) -> asyncio.Task[bool]:
        """The process waits for an answer by now."""
        task = asyncio.create_task(self._reach(path, rights))
        assert await self.wants.next(number) == Want(number, path, rights)
        assert not task.done()
        return task

    async def _reach(self, path: str, rights: str) -> bool:
        return await self.wants.reach(path, rights)


async def refused(error: E, call: Awaitable[Any]) -> None:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error


async def test_with_nobody_to_ask_it_is_refused_at_once_and_noted() -> None:
    desk = Desk()
    assert not await desk.wants.reach("/a", "r")
    assert not await desk.wants.reach("/a", "r")
    assert not await desk.wants.reach("/a", "w")
    desk.wants.close()
    assert [await desk.wants.next(number) for number in range(3)] == [Want(0, "/a", "r"), Want(1, "/a", "w"), None]
    assert desk.admitted == []


async def test_the_process_waits_for_the_answer_and_is_asked_once_for_each_thing() -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    yes = await desk.asked("/a")
    await desk.wants.answer(desk, 0, True)
    assert await yes
    no = await desk.asked("/b", number=1)
    await desk.wants.answer(desk, 1, False)
    assert not await no
    assert not await desk.wants.reach("/b", "r")
    assert desk.admitted == [("/a", "r")]


async def test_an_answer_that_can_not_be_carried_out_is_a_no_and_says_why() -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    asked = await desk.asked("/a")
    desk.failure = FileError(E.ACCES, "/a")
    await refused(E.ACCES, desk.wants.answer(desk, 0, True))
    assert not await asked


async def test_a_process_that_is_killed_asks_no_more_and_a_late_answer_grants_nothing() -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    asked = await desk.asked("/a")
    asked.cancel()
    await asyncio.wait([asked])
    await desk.wants.answer(desk, 0, True)
    assert desk.admitted == []


@pytest.mark.parametrize("way", ["asker", "process"])
async def test_when_the_asker_or_the_process_is_gone_nobody_waits(way: str) -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    asked = await desk.asked("/a")
    if way == "asker":
        desk.wants.end_asking(desk)
    else:
        desk.wants.close()
    assert not await asked
    assert not await desk.wants.reach("/b", "r")


async def test_one_is_asked_at_a_time_and_only_that_one_answers() -> None:
    desk = Desk()
    other = object()
    desk.wants.begin_asking(desk)
    with pytest.raises(FileError) as caught:
        desk.wants.begin_asking(other)
    assert caught.value.error is E.BUSY
    asked = await desk.asked("/a")
    await refused(E.ACCES, desk.wants.answer(other, 0, True))
    desk.wants.end_asking(other)
    assert not asked.done()
    desk.wants.end_asking(desk)
    assert not await asked
    desk.wants.begin_asking(other)


async def test_what_was_said_before_needs_no_question() -> None:
    desk = Desk(Said(never=[Grant("/never", "r")]), Said([Grant("/kept", "rw")], [Grant("/a", "w")]))
    desk.wants.begin_asking(desk)
    assert not await desk.wants.reach("/never/below", "r")
    assert not await desk.wants.reach("/a", "rw")
    assert await desk.wants.reach("/kept/file", "w")
    assert await desk.wants.reach("/kept/new", "wc")
    assert desk.admitted == [("/kept/file", "w"), ("/kept/new", "wc")]
    desk.failure = FileError(E.NOENT)
    assert not await desk.wants.reach("/kept/late", "r")
    desk.failure = None
    assert await desk.wants.reach("/kept/late", "r")  # now it is there
    assert not await desk.wants.reach("/a", "rw")
    assert await desk.wants.next(0) == Want(0, "/a", "rw", Grant("/a", "w"))  # told, by what is kept
    await desk.wants.answer(desk, 0, True)  # it is no question
    asked = await desk.asked("/never/below", "w", 1)
    await desk.wants.answer(desk, 1, False)
    assert not await asked


async def test_what_steers_the_node_is_no_question_and_granted_by_no_answer() -> None:
    desk = Desk()
    desk.controls = {"/innocent"}
    desk.wants.begin_asking(desk)
    assert not await desk.wants.reach("/innocent", "r")
    assert await desk.wants.next(0) == Want(0, "/innocent", "r", None, True)
    await desk.wants.answer(desk, 0, True)
    asked = await desk.asked("/other", "r", 1)
    desk.controls.add("/other")  # it came to be so meanwhile
    await refused(E.ACCES, desk.wants.answer(desk, 1, True))
    assert not await asked
    assert desk.admitted == []


async def test_what_is_kept_is_where_a_path_led_and_not_where_a_link_may_lead_since() -> None:
    desk = Desk(kept=Said([Grant("/real", "r")]))
    desk.links = {"/link": "/real", "/other": "/secret", "/real": "/secret"}
    assert await desk.wants.reach("/link", "r")
    assert desk.led == ["/real"]
    assert not await desk.wants.reach("/other", "r")
    assert not await desk.wants.reach("/real", "r")
    assert not await desk.wants.reach("/link", "w")
    assert desk.admitted == [("/link", "r")]
    assert desk.wants.given == {"/link": "/real"}


async def test_the_network_is_one_thing() -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    reach = asyncio.create_task(desk._reach("/net/tcp/clone", "r"))
    assert await desk.wants.next(0) == Want(0, "/net", "rw")
    await desk.wants.answer(desk, 0, True)
    assert await reach
    assert not await desk.wants.reach("/net/udp/clone", "rw")
    assert desk.admitted == [("/net", "rw")]


async def test_what_the_process_has_already_is_no_question() -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    desk.has = {"/a"}
    assert not await desk.wants.reach("/a", "r")
    desk.wants.close()
    assert await desk.wants.next(0) is None


@pytest.mark.parametrize("path", ["", "a", "/", "/a/../b", "//a", "/a/", "/\udc80", "/a\0b", "/" + "x" * 5000])
async def test_a_path_that_can_not_be_there_is_refused_and_not_noted(path: str) -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    assert not await desk.wants.reach(path, "r")
    desk.wants.close()
    assert await desk.wants.next(0) is None


@pytest.mark.parametrize("path", ["/\x1b[2J", "/a\nb", "/tab\tx", "/\u202e"])
async def test_a_name_that_can_not_be_shown_as_it_is_is_asked_about_as_any(path: str) -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    task = await desk.asked(path)
    await desk.wants.answer(desk, 0, True)
    assert await task
    desk.wants.close()


@pytest.mark.parametrize("put", [False, True])
@pytest.mark.parametrize("how", ["yes", "no", "cancelled", "closed", "ended"])
async def test_what_was_put_to_a_person_ends_with_an_answer_or_with_word_that_none_came(how: str, put: bool) -> None:
    desk = Desk()
    desk.wants.begin_asking(desk)
    task = await desk.asked("/a")
    unanswered: list[Want] = []
    if put:
        desk.wants.put(desk, 0, unanswered.append)
    said = None
    match how:
        case "yes" | "no":
            said = await desk.wants.answer(desk, 0, how == "yes")
        case "cancelled":
            task.cancel()
        case "closed":
            desk.wants.end_asking(desk)
        case "ended":
            desk.wants.close()
    await asyncio.wait([task])
    assert (said is not None) == (how == "yes" or (how == "no" and put))
    assert unanswered == ([Want(0, "/a", "r")] if put and said is None else [])
    assert desk.wants._put == {}
    if how != "closed":
        desk.wants.put(desk, 0, unanswered.append)  # it is over
        assert desk.wants._put == {}
    desk.wants.close()


@pytest.mark.parametrize(("size", "most"), [(0, MOST), (4000, MOST_BYTES // 4007)])
async def test_who_wants_too_much_is_not_listened_to(size: int, most: int) -> None:
    desk = Desk()
    for number in range(most + 10):
        assert not await desk.wants.reach(f"/{'x' * size}{number:06}", "r")
    desk.wants.close()
    assert await desk.wants.next(most - 1) is not None
    assert await desk.wants.next(most) is None


async def test_before_anything_is_known_of_the_program_it_wants_nothing() -> None:
    wants = Wants()
    wants.begin_asking(wants)
    assert not await wants.reach("/a", "r")
    waiting = asyncio.create_task(wants.next(0))
    await asyncio.sleep(0)
    wants.close()
    assert await waiting is None


NAMES = st.lists(st.sampled_from("ab."), max_size=4).map(lambda names: "/" + "/".join(names))


@given(NAMES, NAMES)
def test_within_is_by_whole_names(path: str, tree: str) -> None:
    parts = [[name for name in text.split("/") if name] for text in (path, tree)]
    assert is_within(path, tree) == (parts[0][: len(parts[1])] == parts[1])


# -- the file ---------------------------------------------------------------------------------------------------------


async def test_only_those_above_a_process_hear_what_it_wants_and_answer() -> None:
    """Not itself, nor those below or beside it; whatever else of it they may see."""
    node = Node(RamServer(RealClock()))
    init = await node.start()
    middle = node.processes.fork(init)
    process = node.processes.fork(middle)
    below, beside = node.processes.fork(process), node.processes.fork(middle)
    proc = ProcServer(node.processes, Nothing(), Nothing(), everything=True)
    for caller in (process, below, beside):
        for mode in (OREAD, OWRITE, ORDWR):
            await refused(E.ACCES, Client(proc, caller).open(f"{process.pid}/wants", mode))
    reader = Client(proc, init)
    asker = Client(proc, middle)
    reading, asking = await reader.open(f"{process.pid}/wants"), await asker.open(f"{process.pid}/wants", ORDWR)
    await refused(E.BUSY, reader.open(f"{process.pid}/wants", ORDWR))
    wants = process.wants
    assert wants is not None
    granted: list[tuple[str, str, str]] = []

    async def admit(path: str, rights: str, real: str) -> None:
        granted.append((path, rights, real))

    async def real(path: str) -> str:
        raise NotImplementedError

    async def steers(path: str) -> bool:
        return path == "/control"

    wants.begin(PROGRAM, Means(admit, lambda path, rights: True, real, steers), Said(), Said())
    reaching = asyncio.create_task(_reach(wants, "/a b", "rw"))
    line = f"0 '/a b' rw {PROGRAM}\n".encode()
    assert await asker.read_fid(asking) == await reader.read_fid(reading) == line
    await refused(E.BADF, reader.write_fid(reading, b"0 yes"))
    for wrong in (
        b"",
        b"0",
        b"yes",
        b"0 maybe",
        b"x yes",
        b"0 yes more",
        b"-1 no",
        b"99999999999 no",
        b"0 yes /a /b",
        b"0 no /a",
    ):
        await refused(E.USAGE, asker.write_fid(asking, wrong))
    assert await asker.write_fid(asking, b"7 yes") == 5  # nobody asked that
    await refused(E.RANGE, asker_of_few(asker, wants))
    assert await asker.write_fid(asking, b"0 yes '/c d'\n") == 13
    assert await reaching
    assert granted == [("/a b", "rw", "/c d")]
    waiting = asyncio.create_task(_reach(wants, "/c", "r"))
    assert (await asker.read_fid(asking)).startswith(b"1 /c r ")
    proc.clunk(asking)
    assert not await waiting
    node.processes.end(process, 0)
    assert (await reader.read_fid(reading)).startswith(b"1 /c r ")
    assert await reader.read_fid(reading) == b""
    proc.clunk(reading)


async def asker_of_few(client: Client, wants: Wants) -> None:
    """Reads with too little room, from the start."""
    fid = await client.open(f"{client.caller.pid + 1}/wants")
    try:
        await client.read_fid(fid, 3)
    finally:
        client.server.clunk(fid)


async def _reach(wants: Wants, path: str, rights: str) -> bool:
    return await wants.reach(path, rights)


class Nothing:
    """What a node gives; nothing of it is used."""

    async def __call__(self, process: Process, launch: Launch) -> None:
        raise NotImplementedError

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        raise NotImplementedError
