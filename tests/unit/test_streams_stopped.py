"""The law of streams: a read that is cancelled or flushed takes no byte that then vanishes, at any hop.

The hops are those of a key typed for a far shell: a keyboard, and above it, once per machine, a lent descriptor that is
exported, mounted and opened. A read at the top is ended at every moment: before, while and after bytes are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from cognu.devices.lent import LentFile
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.dispatch import dispatch
from cognu.files.export import Export
from cognu.files.mount import MountServer
from cognu.files.server import Caller, FileServer
from cognu.files.steps import finish
from cognu.files.stopping import ask_to_stop, give_up
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.kernel import READ
from cognu.ninep.messages import Dialect
from cognu.ninep.types import OREAD
from joined import ME, StoppedClock, attach_to, local_process
from serving import Client
from streams import pair

STEPS_UP = 25
"""More turns of the loop than a read needs to go through one hop and back."""
Stop = Callable[[asyncio.Task[Any]], object]


class Keyboard(Node):
    """What is typed waits until it is read; a reader waits until something is typed, and then takes it at once."""

    def __init__(self) -> None:
        super().__init__("keys", 0o444)
        self.typed = bytearray()
        self.ends = 0  # Ctrl-D typed after that, which a read tells once each
        self.readers: list[asyncio.Future[None]] = []
        self._more = asyncio.Event()

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        while not self.typed and not self.ends:
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.readers.append(ready)
            self._more.set()
            try:
                await ready
            finally:
                self.readers.remove(ready)
        if not self.typed:
            self.ends -= 1
        taken = bytes(self.typed[:count])
        del self.typed[:count]
        return taken

    def type(self, data: bytes, ends: int = 0) -> None:
        self.typed += data
        self.ends += ends
        for ready in self.readers:
            if not ready.done():
                ready.set_result(None)

    async def waited_for(self) -> None:
        while not self.readers:
            self._more.clear()
            await self._more.wait()


class Deaf(Keyboard):
    """A keyboard that does not hear that a read shall end, as one at the other end of a dead line."""

    def __init__(self) -> None:
        super().__init__()
        self.over = False

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        while True:
            try:
                return await super().read(fid, offset, count)
            except asyncio.CancelledError:
                if self.over:
                    raise


class Lent(LentFile):
    def __init__(self, chan: Chan) -> None:
        super().__init__("keys", 0o600)
        self._chan = chan

    def chan(self, caller: Caller) -> Chan:
        return self._chan


async def opened(server: FileServer) -> Chan:
    """`keys` of a server, open for reading."""
    domain = Domain(Authority())
    _, cap = domain.authority.new_server(domain.pid)
    handle = Handle(server, await Client(server, ME).open("/keys", OREAD))
    handle.mode = OREAD
    return Chan(handle, domain, cap, Path(None, "keys"), Origin("#M", ("keys",)))


class Tower:
    """Hops over a keyboard. `chan` is the file at the top; `read` reads on in it as a descriptor does."""

    def __init__(self, keyboard: Keyboard, chan: Chan) -> None:
        self.keyboard = keyboard
        self.chan = chan

    async def read(self, count: int = 100) -> bytes:
        chan = self.chan
        at = chan.handle.offset
        data = bytes(await finish(dispatch(chan, READ, chan.server.read, chan.fid, at, count)))
        chan.handle.offset += len(data)
        return data

    async def rest(self, size: int, piece: int) -> bytes:
        """`size` bytes, at most `piece` at a time."""
        data = b""
        while len(data) < size:
            data += await self.read(piece)
        return data


@asynccontextmanager
async def hop(chan: Chan, dialect: Dialect) -> AsyncIterator[Chan]:
    """An open file lent, exported, mounted on the other side and opened there."""
    process = local_process(TreeServer("#d", Directory("", [Lent(chan)])))
    here, there = pair()
    export = Export(there, process, attach_to(process))
    serving = asyncio.create_task(export.serve())
    mount = await MountServer.connect(here, StoppedClock(), "#M", dialect)
    far = await opened(mount)
    try:
        yield far
    finally:
        far.close()
        await mount.close()
        await serving
        assert not export._tasks
        assert not export._stopping


@asynccontextmanager
async def tower(height: int, dialect: Dialect = Dialect.NG, keyboard: Keyboard | None = None) -> AsyncIterator[Tower]:
    keyboard = keyboard or Keyboard()
    async with AsyncExitStack() as owned:
        chan = await opened(TreeServer("#t", Directory("", [keyboard])))
        owned.callback(chan.close)
        for _ in range(height):
            chan = await owned.enter_async_context(hop(chan, dialect))
        yield Tower(keyboard, chan)
        assert not keyboard.readers, "a read goes on that nobody waits for"


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def outcome(task: asyncio.Task[bytes]) -> bytes:
    await asyncio.wait([task])
    return b"" if task.cancelled() else task.result()


@pytest.mark.parametrize("dialect", [Dialect.NG, Dialect.LEGACY])
@pytest.mark.parametrize("stop", [asyncio.Task.cancel, ask_to_stop])
@pytest.mark.parametrize("height", [1, 2, 3])
async def test_what_is_typed_around_the_end_of_a_read_comes_once_and_in_order(
    height: int, stop: Stop, dialect: Dialect
) -> None:
    across = height * STEPS_UP
    async with tower(height, dialect) as at:
        for piece in (100, 1):
            for moment in range(-across, across):
                reading = asyncio.create_task(at.read())
                await at.keyboard.waited_for()
                if moment >= 0:
                    at.keyboard.type(b"ab")
                    await turns(moment)
                stop(reading)
                if moment < 0:
                    await turns(moment + across)
                    at.keyboard.type(b"ab")
                got = await outcome(reading)
                at.keyboard.type(b"cd")
                assert got + await at.rest(4 - len(got), piece) == b"abcd", (piece, moment)


@pytest.mark.parametrize("stop", [asyncio.Task.cancel, ask_to_stop])
@pytest.mark.parametrize("height", [1, 2, 3])
async def test_an_end_that_is_typed_around_the_end_of_a_read_is_told_once(height: int, stop: Stop) -> None:
    across = height * STEPS_UP
    async with tower(height) as at:
        at.keyboard.type(b"before")
        assert await at.rest(6, 100) == b"before"
        for moment in range(-across, across):
            reading = asyncio.create_task(at.read())
            await at.keyboard.waited_for()
            if moment >= 0:
                at.keyboard.type(b"", ends=1)
                await turns(moment)
            stop(reading)
            if moment < 0:
                await turns(moment + across)
                at.keyboard.type(b"", ends=1)
            await asyncio.wait([reading])
            if reading.cancelled():
                assert await at.read() == b"", moment
            at.keyboard.type(b"cd")
            assert await at.read() == b"cd", moment


@pytest.mark.parametrize("stop", [asyncio.Task.cancel, ask_to_stop])
async def test_a_read_ended_on_its_way_takes_nothing(stop: Stop) -> None:
    async with tower(3) as at:
        for moment in range(1, 3 * STEPS_UP):
            reading = asyncio.create_task(at.read())
            await turns(moment)
            stop(reading)
            at.keyboard.type(b"ab")
            got = await outcome(reading)
            assert got + await at.rest(2 - len(got), 100) == b"ab", moment


async def test_a_read_that_was_asked_to_stop_goes_on_nowhere_when_it_has_ended() -> None:
    async with tower(3) as at:
        for moment in range(3 * STEPS_UP):
            reading = asyncio.create_task(at.read())
            await turns(moment + 1)
            ask_to_stop(reading)
            await asyncio.wait([reading])
            assert not at.keyboard.readers, moment
            # So another reader of the keyboard has what is typed now.
            at.keyboard.type(b"x")
            await turns(3 * STEPS_UP)
            assert at.keyboard.typed == b"x", moment
            at.keyboard.typed.clear()


async def test_an_answer_that_came_first_is_the_reads_although_it_was_asked_to_stop() -> None:
    async with tower(1) as at:
        reading = asyncio.create_task(at.read())
        await at.keyboard.waited_for()
        at.keyboard.type(b"ab")
        ask_to_stop(reading)
        assert await reading == b"ab"


async def test_several_readers_that_end_lose_nothing_together() -> None:
    async with tower(2) as at:
        for moment in range(2 * STEPS_UP):
            readers = [asyncio.create_task(at.read(1)) for _ in range(3)]
            await at.keyboard.waited_for()
            at.keyboard.type(b"abcd")
            await turns(moment)
            readers[0].cancel()
            ask_to_stop(readers[1])
            give_up(readers[2])
            got = [await outcome(reader) for reader in readers]
            rest = await at.rest(4 - sum(map(len, got)), 100)
            assert sorted(b"".join(got) + rest) == list(b"abcd"), moment


async def test_who_goes_away_does_not_wait_for_the_far_side_of_what_it_asked_to_stop() -> None:
    keyboard = Deaf()
    async with tower(1, keyboard=keyboard) as at:
        async with hop(at.chan, Dialect.NG) as chan:
            top = Tower(keyboard, chan)
            reading = asyncio.create_task(top.read())
            await keyboard.waited_for()
            ask_to_stop(reading)
            await turns(2 * STEPS_UP)
            assert not reading.done()
            give_up(reading)
            await asyncio.wait([reading])
        # The upper hop has ended by now, with its connection; the lower one still waits.
        keyboard.type(b"ab")
        assert await at.read() == b"ab"
        keyboard.over = True


async def test_a_lost_connection_loses_nothing_below_it() -> None:
    async with tower(1) as at:
        for moment in range(STEPS_UP):
            async with hop(at.chan, Dialect.NG) as chan:
                reading = asyncio.create_task(Tower(at.keyboard, chan).read())
                await at.keyboard.waited_for()
            await asyncio.wait([reading])
            assert reading.exception() is not None
            at.keyboard.type(b"ab")
            await turns(moment)
            assert await at.read() == b"ab", moment
