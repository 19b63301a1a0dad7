"""Runners that are not what they should be, and the texts that they and the node tell each other."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError, ProtocolError
from cognu.files.launch import Grant, Launch, Mapping
from cognu.files.limits import Resource
from cognu.files.mount import FarFid, MountServer
from cognu.files.process import Process, State
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.runtime.guest import Limits
from cognu.runtime.runner_text import (
    MAX_MESSAGE,
    Orders,
    Over,
    Refused,
    Running,
    Stream,
    Used,
    parse_orders,
    parse_said,
    said_text,
)
from cognu.runtime.runners import START_SECONDS
from cognu.world import Bounds, Child
from cognu.world import Stream as WorldStream
from cognu.world.real import RealClock, RealSpawn
from programs.build import build
from streams import pair
from wasi_machine import HOME, Machine


@pytest_asyncio.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path, isolated=True)
    await machine.make(f"{HOME}/notes.txt", b"one two\nthree\n")
    yield machine
    await machine.close()


# -- a runner that is not what it should be ---------------------------------------------------------------------------


class HandChild:
    """An OS process that the test plays."""

    pid = 1 << 22

    def __init__(self) -> None:
        self.over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.signals: list[int] = []

    async def wait(self) -> int:
        return await asyncio.shield(self.over)

    def signal(self, number: int) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL and not self.over.done():
            self.over.set_result(128 + number)

    def bound(self, bounds: Bounds) -> None:
        pass

    def weigh(self, nice: int) -> None:
        pass

    def used(self) -> int:
        return 0


class HandSpawn(RealSpawn):
    def __init__(self) -> None:
        self.child = HandChild()
        self.stream, self.ours = pair()

    async def start_joined(self, argv: Sequence[str], env: MappingOf[str, str], cwd: str) -> tuple[Child, WorldStream]:
        assert (env, cwd) == ({}, "/")
        return self.child, self.stream


class Somebody:
    pid = 0
    user = "nobody"


class Captured:
    """A runner that somebody else has taken over, who now speaks 9P to the node by hand."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.spawn = HandSpawn()
        machine.runners._world = replace(machine.world, spawn=self.spawn)
        self.mount: MountServer

    async def begin(self, process: Process, launch: Launch) -> asyncio.Task[None]:
        starting = asyncio.create_task(self.machine.start(process, build("wc"), ["wc"], launch))
        self.mount = await MountServer.connect(self.spawn.ours, self.machine.world.clock)
        return starting

    async def open(self, tree: str, path: str, mode: int = OREAD) -> FarFid:
        root = await self.mount.attach(Somebody(), tree)
        walked = await self.mount.walk(root, path.split("/"), Somebody())
        if walked.fid is None:
            raise FileError(E.NOENT, path)
        opened = await self.mount.open(walked.fid, mode, Somebody())
        assert isinstance(opened, FarFid)
        return opened

    async def say(self, ctl: FarFid, text: bytes) -> E | None:
        try:
            await self.mount.write(ctl, 0, text)
        except FileError as error:
            return error.error
        return None


async def test_a_captured_runner_gets_what_its_program_was_given_and_nothing_else(machine: Machine) -> None:
    runner, process = Captured(machine), await machine.child()
    await machine.make("/etc/passwd", b"root\n")
    starting = await runner.begin(process, Launch(grants=[Grant(f"{HOME}/notes.txt", "r")]))
    for tree in ("#U", "#p", "#n", "#|", "#s", "cap:x", "#w", "/", "#g "):
        with pytest.raises(FileError) as caught:
            await runner.mount.attach(Somebody(), tree)
        assert caught.value.error is E.NOATTACH
    orders = parse_orders(bytes(await runner.mount.read(await runner.open("#g", "orders"), 0, 1 << 16)))
    assert (orders.args, orders.cwd, [stream.number for stream in orders.streams]) == (("wc",), HOME, [0, 1, 2])
    ctl = await runner.open("#g", "ctl", ORDWR)
    assert await runner.say(ctl, b"running") is None
    await starting
    notes = await runner.open("", f"{HOME}/notes.txt"[1:])
    assert bytes(await runner.mount.read(notes, 0, 100)) == b"one two\nthree\n"
    for path, mode, error in (
        ("etc/passwd", OREAD, E.NOENT), ("../etc/passwd", OREAD, E.NOENT), ("home/me/../../etc/passwd", OREAD, E.NOENT),
        ("home/me/notes.txt", ORDWR, E.ACCES), ("proc/1/status", OREAD, E.NOENT), ("streams", OREAD, E.NOENT),
    ):  # fmt: skip
        with pytest.raises(FileError) as caught:
            await runner.open("", path, mode)
        assert caught.value.error is error, path
    for number, mode in (("0", OWRITE), ("1", OREAD), ("2", ORDWR)):
        with pytest.raises(FileError) as caught:
            await runner.open("#d", number, mode)
        assert caught.value.error is E.ACCES
    with pytest.raises(FileError):
        await runner.open("#d", "3")
    await runner.say(ctl, b"over 3 ''")
    await process.ended.wait()
    assert (process.status, process.message) == (3, "")
    assert runner.spawn.child.signals == [signal.SIGKILL]
    await runner.mount.close()


class StartOver(RealClock):
    """On which the time that a runner has to begin is over as soon as the test says so."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds == START_SECONDS:
            await self.over.wait()
        else:
            await super().sleep(seconds)


async def test_a_runner_that_does_not_begin_its_program_is_given_up(machine: Machine) -> None:
    runner, process, clock = Captured(machine), await machine.child(), StartOver()
    machine.runners._world = replace(machine.runners._world, clock=clock)
    starting = await runner.begin(process, Launch())
    ctl = await runner.open("#g", "ctl", ORDWR)
    clock.over.set()
    with pytest.raises(FileError) as caught:
        await starting
    assert caught.value.error is E.RUNNER
    assert runner.spawn.child.signals == [signal.SIGKILL]
    assert machine.parent.quota.used(Resource.MEMORY) == 0
    with pytest.raises(FileError):
        await runner.mount.stat(ctl)


async def test_what_a_captured_runner_says_out_of_turn_is_refused(machine: Machine) -> None:
    runner, process = Captured(machine), await machine.child()
    starting = await runner.begin(process, Launch())
    ctl = await runner.open("#g", "ctl", ORDWR)
    for text in (b"over 0 ''", b"nonsense", b"\xff", b"over 256 ''", b"used -1 0 0", b"refused NOSUCH a b"):
        assert await runner.say(ctl, text) is E.BADMESSAGE, text
    assert await runner.say(ctl, b"x" * 5000) is E.MSGSIZE
    assert await runner.say(ctl, b"running") is None
    await starting
    assert await runner.say(ctl, b"running") is E.BADMESSAGE
    assert await runner.say(ctl, b"refused NOMEM a b") is E.BADMESSAGE
    assert process.detail is not None
    least = process.detail()["memory"]
    assert int(least) > 0  # before it has said anything: what the program begins with
    assert await runner.say(ctl, b"used 0 1 1") is None
    assert process.detail()["memory"] == least
    assert await runner.say(ctl, b"used 9223372036854775807 1 1") is None
    assert process.detail()["memory"] == Limits().memory  # more than it may have nobody believes
    reading = asyncio.create_task(runner.mount.read(ctl, 0, 100))
    again = await runner.open("#g", "ctl", ORDWR)
    with pytest.raises(FileError) as caught:
        await runner.mount.read(again, 0, 100)
    assert caught.value.error is E.ALREADY
    assert process.tell is not None
    process.tell("close 5")
    assert bytes(await reading) == b"close 5"
    await runner.say(ctl, b"over 1 'a\x1b[31m\nb'")
    await process.ended.wait()
    assert (process.status, process.message) == (1, "a\\x1b[31m\\nb")
    await runner.mount.close()


async def test_what_the_node_does_for_a_captured_runner_is_the_programs_time(machine: Machine) -> None:
    """Its own process uses none, says the host here; all of it is the node's."""
    runner, process = Captured(machine), await machine.child()
    starting = await runner.begin(process, Launch(grants=[Grant(f"{HOME}/notes.txt", "r")]))
    ctl = await runner.open("#g", "ctl", ORDWR)
    await runner.say(ctl, b"running")
    await starting
    process.quota.set_limit(Resource.CPU, 5 * 10**6)
    notes = await runner.open("", f"{HOME}/notes.txt"[1:])

    async def read_on() -> None:
        while True:
            await runner.mount.read(notes, 0, 4)

    with pytest.raises(FileError):
        await read_on()
    await process.ended.wait()
    assert process.status == 137
    assert E.CPULIMIT.text in process.message
    await runner.mount.close()


async def test_what_a_captured_runner_has_open_counts_and_is_given_back(machine: Machine) -> None:
    runner, process = Captured(machine), await machine.child()
    process.quota.set_limit(Resource.FILES, 10)
    starting = await runner.begin(process, Launch(grants=[Grant(f"{HOME}/notes.txt", "r")]))
    ctl = await runner.open("#g", "ctl", ORDWR)
    await runner.say(ctl, b"running")
    await starting
    for _ in range(7):
        await runner.open("", f"{HOME}/notes.txt"[1:])
    with pytest.raises(FileError) as caught:
        await runner.open("", f"{HOME}/notes.txt"[1:])
    assert caught.value.error is E.DQUOT
    assert process.quota.used(Resource.FILES) == 10
    runner.spawn.ours.close()  # it is not heard of any more, and so ended
    await process.ended.wait()
    assert process.message == str(FileError(E.RUNNER, "", "it ended the connection to its node"))
    assert process.quota.used(Resource.FILES) == 0
    await runner.mount.close()


async def test_a_captured_runner_can_refuse_and_the_process_is_as_it_was(machine: Machine) -> None:
    runner, process = Captured(machine), await machine.child()
    starting = await runner.begin(process, Launch())
    ctl = await runner.open("#g", "ctl", ORDWR)
    await runner.say(ctl, b"refused NOWALL landlock 'not here'")
    with pytest.raises(FileError) as caught:
        await starting
    assert str(caught.value) == str(FileError(E.NOWALL, "landlock", "not here"))
    assert process.state is State.NEW
    machine.processes.end(process, 0)
    await runner.mount.close()


async def test_a_runner_that_ends_while_its_program_is_being_given_to_it_is_a_start_that_failed(
    machine: Machine,
) -> None:
    runner, process = Captured(machine), await machine.child()
    runner.spawn.child.used = gone  # type: ignore[method-assign]
    runner.spawn.child.over.set_result(139)
    with pytest.raises(FileError) as caught:
        await machine.start(process, build("wc"), ["wc"])
    assert str(caught.value) == str(FileError(E.RUNNER, "", "SIGSEGV"))
    assert process.state is State.NEW


def gone() -> int:
    raise FileError(E.SRCH, "process 1")


# -- what they tell each other ----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"))
ANY_TEXT = st.text()
NUMBER = st.integers(0, (1 << 63) - 1)
PRINTABLE = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=MAX_MESSAGE)
STREAM = st.builds(Stream, st.integers(0, 2), NUMBER, NUMBER, ANY_TEXT, ANY_TEXT, st.lists(ANY_TEXT).map(tuple))
ORDERS = st.builds(
    Orders,
    args=st.lists(ANY_TEXT).map(tuple),
    environment=st.lists(ANY_TEXT).map(tuple),
    user=ANY_TEXT,
    pid=NUMBER,
    cwd=ANY_TEXT,
    grants=st.lists(st.builds(Grant, ANY_TEXT, ANY_TEXT)).map(tuple),
    directories=st.lists(st.builds(Mapping, ANY_TEXT, ANY_TEXT)).map(tuple),
    tops=st.none() | st.lists(ANY_TEXT).map(tuple),
    streams=st.lists(STREAM).map(tuple),
    memory=NUMBER,
    cpu=st.none() | NUMBER,
    files=NUMBER,
    asks=st.booleans(),
    code=NUMBER,
)
SAID = st.one_of(
    st.just(Running()),
    st.builds(Used, NUMBER, NUMBER, NUMBER),
    st.builds(Over, st.integers(0, 255), PRINTABLE, st.lists(NUMBER, max_size=3).map(tuple)),
)


@given(ORDERS)
def test_orders_arrive_as_they_were_given(orders: Orders) -> None:
    assert parse_orders(orders.text()) == orders


@given(st.binary() | st.builds(lambda orders, key: _without(orders, key), ORDERS, st.integers(0, 13)))
def test_what_is_no_order_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_orders(data)
    assert caught.value.error is E.BADMESSAGE


def _without(orders: Orders, place: int) -> bytes:
    row = json.loads(orders.text())
    del row[list(row)[place]]
    return json.dumps(row).encode()


@given(SAID)
def test_what_a_runner_says_is_understood(said: Running | Used | Over) -> None:
    assert parse_said(said_text(said)) == said


def test_a_refusal_of_a_runner_is_its_error() -> None:
    said = parse_said(said_text(Refused(FileError(E.NOWALL, "landlock_restrict_self", "Operation not supported"))))
    assert isinstance(said, Refused)
    assert str(said.error) == str(FileError(E.NOWALL, "landlock_restrict_self", "Operation not supported"))


@given(st.binary(max_size=5000) | TEXT.map(str.encode) | TEXT.map(lambda text: f"over {text}".encode()))
def test_whatever_a_runner_says_is_understood_or_refused(data: bytes) -> None:
    try:
        said = parse_said(data)
    except ProtocolError:
        return
    if isinstance(said, Over):
        assert 0 <= said.status < 256
        assert said.message.isprintable()
    if isinstance(said, Refused):
        assert str(said.error).isprintable()
