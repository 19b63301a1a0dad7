"""`/dev/sensor`: values in time and size, asked for no oftener than said, and told of when they change."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.helper import run_helper
from cognu.devices.sensor import MAX_VALUE, Host, Source, sensor_server
from cognu.errors import E, FileError
from cognu.files.server import Notice
from cognu.files.tree import TreeFid
from cognu.ninep.types import OWRITE
from cognu.ninep.watches import CONTENT
from cognu.node.hosting import parse_sensors
from cognu.world import Bounds, Piped
from cognu.world.disk import RealDisk
from cognu.world.real import RealClock, RealSpawn, RealThreads
from fifo import Fifo
from joined import bring
from serving import Client

PYTHON = (sys.executable, "-I", "-S", "-c")
HOLD = "import os, time; os.write(os.open('{}', os.O_WRONLY), str(os.getpid()).encode())"
"""Has a named pipe open, and says so there."""


class HandClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []
        self.asked = asyncio.Event()

    def now(self) -> int:
        return self.monotonic()

    def monotonic(self) -> int:
        return int(self.seconds * 1e9)

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append((until, future))
        self.asked.set()
        await future

    def go(self, seconds: float) -> None:
        self.seconds += seconds
        self.asked.clear()
        for until, future in self._sleeping:
            if until <= self.seconds and not future.done():
                future.set_result(None)


class Counting(RealSpawn):
    def __init__(self) -> None:
        self.count = 0

    async def start_piped(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str, errors: bool = True, bounds: Bounds | None = None
    ) -> Piped:
        self.count += 1
        return await super().start_piped(argv, env, cwd, errors, bounds)


class Sensors(Client):
    def __init__(self, clock: RealClock | HandClock, **sources: Source) -> None:
        self.threads = RealThreads(2)
        self.spawn = Counting()
        super().__init__(sensor_server(Host(RealDisk(), self.threads, self.spawn, clock), sources))


@pytest.fixture
async def clock() -> AsyncIterator[HandClock]:
    before = len(os.listdir("/dev/fd"))
    yield HandClock()
    assert len(os.listdir("/dev/fd")) == before


async def test_a_file_is_read_each_time_and_an_open_one_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("21500\n")
    client = Sensors(RealClock(), temp=Source(file=str(tmp_path / "temp")))
    try:
        before = await client.open("/sensor/temp")
        (tmp_path / "temp").write_text("22000\n")
        assert await client.read_fid(before) == b"21500\n"
        assert await client.read_fid(before, offset=2) == b"500\n"
        assert await client.read("/sensor/temp") == b"22000\n"
        assert await client.names("/sensor") == ["temp"]
        assert await bring(client.open("/sensor/temp", OWRITE)) is E.ACCES
        (tmp_path / "temp").write_bytes(bytes(MAX_VALUE + 1))
        assert await bring(client.read("/sensor/temp")) is E.FBIG
        (tmp_path / "temp").unlink()
        assert await bring(client.read("/sensor/temp")) is E.NOENT
        client.server.clunk(before)
    finally:
        client.threads.close()


async def test_a_file_that_the_host_does_not_give_holds_one_thread_however_many_ask(
    tmp_path: Path, clock: HandClock
) -> None:
    os.mkfifo(tmp_path / "stuck")
    client = Sensors(clock, stuck=Source(file=str(tmp_path / "stuck")))
    try:
        first = asyncio.ensure_future(client.read("/sensor/stuck"))
        await clock.asked.wait()
        clock.go(11)
        assert await bring(first) is E.TIMEDOUT
        for _ in range(3):
            assert await bring(client.read("/sensor/stuck")) is E.BUSY
        assert client.threads._threads == 1
        writer = await asyncio.to_thread(os.open, tmp_path / "stuck", os.O_WRONLY)  # lets it go
        os.close(writer)
    finally:
        client.threads.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait([task])  # what waits for the thread, which closes the file


async def test_a_command_is_asked_once_for_all_who_ask_in_that_time(clock: HandClock) -> None:
    client = Sensors(clock, load=Source(command=(*PYTHON, "print(42)"), every=5))
    assert await asyncio.gather(*(client.read("/sensor/load") for _ in range(4))) == [b"42\n"] * 4
    assert client.spawn.count == 1
    clock.go(4.9)
    await client.read("/sensor/load")
    assert client.spawn.count == 1
    clock.go(0.2)
    assert await client.read("/sensor/load") == b"42\n"
    assert client.spawn.count == 2
    client.threads.close()


async def test_a_failure_says_why_and_stands_as_long_as_a_value(clock: HandClock) -> None:
    code = "import sys; print('half a value'); sys.exit('no such\\nwire')"
    client = Sensors(clock, wire=Source(command=(*PYTHON, code), every=5))
    for _ in range(2):
        with pytest.raises(FileError) as caught:
            await client.read("/sensor/wire")
        assert str(caught.value) == "wire: i/o error: it ended with status 1: no such wire"
    assert client.spawn.count == 1
    client.threads.close()


async def test_what_it_says_is_bounded_and_so_is_its_time(clock: HandClock, tmp_path: Path) -> None:
    held = Fifo(tmp_path / "held")
    long = f"{HOLD.format(held.path)}; os.fork(); print(1, flush=True); time.sleep(1000)"
    client = Sensors(
        clock,
        much=Source(command=(*PYTHON, "import os\nwhile True: os.write(1, bytes(1 << 16))")),
        long=Source(command=(*PYTHON, long)),
    )
    assert await bring(client.read("/sensor/much")) is E.FBIG
    asking = asyncio.ensure_future(client.read("/sensor/long"))
    clock.asked.clear()
    await clock.asked.wait()
    await held.begun()
    clock.go(11)
    assert await bring(asking) is E.TIMEDOUT
    await held.ended()
    client.threads.close()


async def test_who_gives_up_asking_ends_the_command_and_the_next_asks_anew(clock: HandClock, tmp_path: Path) -> None:
    held = Fifo(tmp_path / "held")
    code = f"{HOLD.format(held.path)}; time.sleep(1000)"
    client = Sensors(clock, long=Source(command=(*PYTHON, code)))
    asking = asyncio.ensure_future(client.read("/sensor/long"))
    await held.begun()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await held.ended()
    client.threads.close()


async def test_who_watches_is_told_when_the_value_is_another_and_nobody_looks_afterwards(
    tmp_path: Path, clock: HandClock
) -> None:
    (tmp_path / "temp").write_text("1")
    client = Sensors(clock, temp=Source(file=str(tmp_path / "temp"), every=3))
    fid = await client.walk("/sensor/temp")
    told: asyncio.Queue[Notice] = asyncio.Queue()
    ends = [client.server.watch(fid, CONTENT, told.put_nowait) for _ in range(2)]
    for text in ("1", "2", "2", None):
        while sum(not future.done() for until, future in clock._sleeping if until == clock.seconds + 3) != 1:
            clock.asked.clear()
            await clock.asked.wait()
        if text is None:
            (tmp_path / "temp").unlink()  # that it can't be read any more is a change too
        else:
            (tmp_path / "temp").write_text(text)
        clock.go(3)
    for _ in range(4):
        assert await told.get() == Notice(CONTENT)
    assert told.empty()
    for end in ends:
        assert callable(end)
        end()
        end()
    node = fid.node if isinstance(fid, TreeFid) else None
    assert getattr(node, "_looking", 0) is None
    await asyncio.sleep(0)
    client.threads.close()


async def test_a_helper_that_leaves_something_behind_is_not_ended_with_it(tmp_path: Path) -> None:
    held = Fifo(tmp_path / "held")
    code = f"import os\nif os.fork(): os._exit(0)\n{HOLD.format(held.path)}\ntime.sleep(1000)"
    assert await run_helper(RealSpawn(), RealClock(), (*PYTHON, code), 10, 10, leaves=True) == b""
    os.kill(int(await held.begun()), 9)
    await held.ended()


@pytest.mark.parametrize(
    "wrong",
    [
        [], {"a b": {"file": "/x"}}, {"a": "/x"}, {"a": {}}, {"a": {"file": "x"}},
        {"a": {"file": "/x", "command": ["/x"]}},
        {"a": {"command": ["/x", "{args}"]}}, {"a": {"file": "/x", "every": 0}}, {"a": {"file": "/x", "every": True}},
        {"a": {"file": "/x", "often": 1}}, {"a": {"command": "any"}}, {"a": {"file": "/x\0"}}, {"a": {"file": 1}},
    ],
)  # fmt: skip
def test_settings_that_are_none_are_refused(wrong: object) -> None:
    with pytest.raises(FileError) as caught:
        parse_sensors(wrong, "settings.json")
    assert caught.value.error is E.DAMAGED


@given(st.dictionaries(
    st.sampled_from(["file", "command", "every"]),
    st.just("/x") | st.lists(st.sampled_from(["/x", "y"])) | st.integers(-1, 99999) | st.none(),
))  # fmt: skip
def test_any_settings_give_a_sensor_or_a_refusal(entry: dict[str, object]) -> None:
    found: dict[str, Source] = {}
    refusals = []
    try:
        found = parse_sensors({"a": entry}, "settings.json")
    except FileError as error:
        refusals.append(error.error)
    assert refusals in ([], [E.DAMAGED])
    assert all(bool(source.file) != bool(source.command) and source.every >= 1 for source in found.values())


def test_settings_say_what_is_measured() -> None:
    raw = {"attic": {"file": "/sys/temp"}, "disk": {"command": ["/bin/df", "/"], "every": 60}}
    assert parse_sensors(raw, "settings.json") == {
        "attic": Source(file="/sys/temp"), "disk": Source(command=("/bin/df", "/"), every=60),
    }  # fmt: skip
