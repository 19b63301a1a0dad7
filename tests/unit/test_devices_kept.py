"""The terminal of a shell that is kept: what is printed and typed, with a terminal there and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.kept import PIECES, RING, TYPED, KeptTerminal, Ring, kept_server
from cognu.errors import E, FileError, LinkBroken
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.steps import finish
from cognu.kernel import READ, WRITE
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.shell.connection import Somebody, local_namespace

ME = Somebody("me")


class Screen:
    """A terminal. `holds` makes it take nothing; `lose` makes every call raise, those under way too."""

    def __init__(self, size: bytes = b"24 80\n") -> None:
        self.seen = b""
        self.words: list[bytes] = []
        self.keys: asyncio.Queue[bytes] = asyncio.Queue()
        self.sizes: asyncio.Queue[bytes] = asyncio.Queue()
        self.sizes.put_nowait(size)
        self.takes = asyncio.Event()
        self.takes.set()
        self.stands = asyncio.Event()  # as long as a `suspend` lasts
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost.add_done_callback(lambda lost: lost.exception())

    def lose(self) -> None:
        self._lost.set_exception(LinkBroken(E.CONNRESET, "desk"))

    async def _or_lost(self, work: asyncio.Future[bytes]) -> bytes:
        try:
            either: set[asyncio.Future[Any]] = {work, self._lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done():
                self._lost.result()
            return work.result()
        finally:
            work.cancel()

    async def typed(self) -> bytes:
        return await self._or_lost(asyncio.ensure_future(self.keys.get()))

    async def show(self, data: bytes) -> None:
        async def take() -> bytes:
            await self.takes.wait()
            self.seen += data
            return b""

        await self._or_lost(asyncio.ensure_future(take()))

    async def control(self, word: bytes) -> None:
        async def obey() -> bytes:
            if word == b"suspend":
                await self.stands.wait()
            self.words.append(word)
            return b""

        await self._or_lost(asyncio.ensure_future(obey()))

    async def size(self) -> bytes:
        return await self._or_lost(asyncio.ensure_future(self.sizes.get()))


async def until(so: Callable[[], bool]) -> None:
    """Let others have their turns until it is so."""
    for _ in range(10_000):
        if so():
            return
        await asyncio.sleep(0)
    raise AssertionError("never so")


@asynccontextmanager
async def shown_at(terminal: KeptTerminal, screen: Screen) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(terminal.show_at(screen))
    await until(lambda: terminal.is_shown)
    try:
        yield task
    finally:
        terminal.leave(screen)
        await task


class Files:
    """The files of a kept terminal, as a session opens them."""

    def __init__(self, terminal: KeptTerminal) -> None:
        self._server = kept_server(terminal)

    async def open(self, name: str, mode: int) -> Chan:
        namespace = await finish(local_namespace(self._server, ME))
        found = await finish(namespace.walk(namespace.root, [name], ME))
        return await finish(namespace.open(found, mode, ME))


async def read(chan: Chan, count: int = 1024) -> bytes:
    return bytes(await finish(dispatch(chan, READ, chan.server.read, chan.fid, 0, count)))


async def write(chan: Chan, data: bytes) -> int:
    return await finish(dispatch(chan, WRITE, chan.server.write, chan.fid, 0, data))


# -- the ring ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60), st.integers(0, 400))
def test_a_ring_has_the_last_bytes_by_their_positions(pieces: list[bytes], size: int, position: int) -> None:
    ring, whole = Ring(size), b"".join(pieces)
    for piece in pieces:
        ring.put(piece)
    assert (ring.begin, ring.end) == (max(0, len(whole) - size), len(whole))
    assert ring.after(position) == whole[max(position, ring.begin) :]
    assert ring.after(0) == whole[-size:]


def test_what_is_shown_again_begins_with_a_line_and_asks_the_terminal_nothing() -> None:
    ring = Ring(24)
    ring.put(b"one\n\x1b[6n\x1b[cred \x1b[31mtwo")
    assert ring.again() == b"one\nred \x1b[31mtwo"
    ring.put(b"\n\x1b[?u\x1b[x\x05three four\n")
    assert ring.again() == b"three four\n"
    long = Ring(4)
    long.put(b"abcdef")
    assert long.again() == b"cdef"


# -- what is printed --------------------------------------------------------------------------------------------------


async def test_without_a_terminal_nobody_waits_and_the_last_bytes_are_shown_to_the_next() -> None:
    terminal = KeptTerminal()
    cons = await Files(terminal).open("cons", OWRITE)
    for number in range(40_000):
        assert await write(cons, b"%d\n" % number)
    assert len(terminal.ring.after(0)) == RING
    screen = Screen()
    async with shown_at(terminal, screen):
        await terminal.drained()
        await write(cons, b"then\n")
        await terminal.drained()
    *numbers, last = screen.seen.split()
    assert last == b"then"
    assert [int(number) for number in numbers] == list(range(40_000 - len(numbers), 40_000))
    assert len(screen.seen) > RING - 10
    cons.close()


async def test_a_writer_waits_for_a_terminal_that_takes_nothing_and_goes_on_when_that_is_gone() -> None:
    terminal, screen = KeptTerminal(), Screen()
    screen.takes.clear()
    data = bytes(range(256)) * 1024
    async with shown_at(terminal, screen):
        writing = asyncio.create_task(terminal.put(data))
        await until(lambda: terminal.ring.end >= RING)
        assert not writing.done()
        assert terminal.ring.end == RING
        terminal.leave(screen)
        assert await writing == len(data)
    assert terminal.ring.after(0) == data[-RING:]


async def test_no_byte_is_left_out_or_shown_twice_at_a_terminal_that_is_slow() -> None:
    terminal, screen = KeptTerminal(ring=1000), Screen()
    data = b"".join(b"%d\n" % number for number in range(5000))
    async with shown_at(terminal, screen):
        screen.takes.clear()
        writing = asyncio.create_task(terminal.put(data))
        screen.takes.set()
        await writing
        await terminal.drained()
        assert screen.seen == data


@pytest.mark.parametrize("lost", [False, True])
async def test_each_terminal_sees_what_was_printed_in_order_though_one_is_lost(lost: bool) -> None:
    terminal = KeptTerminal()
    printed = b""
    for turn in range(5):
        screen = Screen()
        async with shown_at(terminal, screen) as task:
            for number in range(20):
                line = b"%d-%d\n" % (turn, number)
                await terminal.put(line)
                printed += line
            await terminal.drained()
            assert screen.seen == printed
            if lost:
                screen.lose()
                await task
        assert not terminal.is_shown
        await terminal.put(b"away\n")
        printed += b"away\n"


# -- what is typed ----------------------------------------------------------------------------------------------------


async def test_what_is_typed_is_read_in_the_pieces_in_which_it_came_and_an_end_is_one() -> None:
    terminal, screen = KeptTerminal(), Screen()
    cons = await Files(terminal).open("cons", ORDWR)
    async with shown_at(terminal, screen):
        for piece in (b"one\n", b"two\n", b"", b"three\n"):
            screen.keys.put_nowait(piece)
        assert await read(cons) == b"one\n"
        assert await read(cons, 2) == b"tw"
        assert await read(cons) == b"o\n"
        assert await read(cons) == b""
        assert await read(cons) == b"three\n"
    cons.close()


async def test_a_read_that_is_cancelled_takes_nothing_and_outlives_the_terminal() -> None:
    terminal = KeptTerminal()
    for turns in range(6):
        first, second = Screen(), Screen()
        waiting = asyncio.create_task(terminal.take(10))
        async with shown_at(terminal, first) as task:
            first.lose()
            await task
        assert not waiting.done()
        async with shown_at(terminal, second):
            second.keys.put_nowait(b"key")
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert (b"key" if waiting.cancelled() else waiting.result()) == b"key"
            if waiting.cancelled():
                assert await terminal.take(10) == b"key"


async def test_no_more_than_a_bound_is_taken_of_what_nobody_reads() -> None:
    terminal, screen = KeptTerminal(), Screen()
    pieces = 3 * TYPED // 1024
    async with shown_at(terminal, screen):
        for _ in range(pieces):
            screen.keys.put_nowait(bytes(1024))
        await until(lambda: pieces - screen.keys.qsize() >= TYPED // 1024)
        for _ in range(100):
            await asyncio.sleep(0)
        assert pieces - screen.keys.qsize() == TYPED // 1024
        for _ in range(pieces):
            assert await terminal.take(1024) == bytes(1024)


async def test_ends_of_the_input_that_nobody_reads_are_bounded_too() -> None:
    terminal, screen = KeptTerminal(), Screen()
    async with shown_at(terminal, screen):
        for _ in range(2 * PIECES):
            screen.keys.put_nowait(b"")
        await until(lambda: screen.keys.qsize() <= PIECES)
        for _ in range(100):
            await asyncio.sleep(0)
        assert screen.keys.qsize() == PIECES
        assert [await terminal.take(1) for _ in range(2 * PIECES)] == [b""] * 2 * PIECES


# -- modes and size ---------------------------------------------------------------------------------------------------


async def test_raw_mode_goes_along_and_ends_with_the_last_file_that_began_it() -> None:
    terminal, first, second = KeptTerminal(), Screen(), Screen()
    files = Files(terminal)
    one, other = await files.open("consctl", OWRITE), await files.open("consctl", OWRITE)
    async with shown_at(terminal, first):
        await write(one, b"rawon\n")
        await write(other, b"rawon")
        assert set(first.words) == {b"rawon"}
        await write(one, b"rawoff")
        assert set(first.words) == {b"rawon"}
    async with shown_at(terminal, second):
        await terminal.drained()
        await until(lambda: second.words == [b"rawon"])
        other.close()
        await until(lambda: second.words == [b"rawon", b"rawoff"])
    third = Screen()
    async with shown_at(terminal, third):
        await terminal.put(b"x")
        await terminal.drained()
        assert third.words == []
    with pytest.raises(FileError) as caught:
        await write(one, b"rawish")
    assert caught.value.error is E.USAGE
    one.close()


async def test_modes_change_when_what_was_printed_before_is_seen() -> None:
    terminal, screen = KeptTerminal(), Screen()
    async with shown_at(terminal, screen):
        screen.takes.clear()
        await terminal.put(b"before")
        turning = asyncio.create_task(terminal.control("by", b"rawon"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert screen.words == []
        screen.takes.set()
        await turning
        assert (screen.seen, screen.words) == (b"before", [b"rawon"])


async def test_what_was_typed_and_not_read_can_be_dropped_here_and_at_the_terminal() -> None:
    terminal, screen = KeptTerminal(), Screen()
    async with shown_at(terminal, screen):
        screen.keys.put_nowait(b"once\n")
        await until(lambda: bool(terminal._typed))
        await terminal.control("by", b"discard")
        assert screen.words == [b"discard"]
        screen.keys.put_nowait(b"no\n")
        assert await terminal.take(100) == b"no\n"
    await terminal.put(b"nobody is there")
    await terminal.control("by", b"discard")


async def test_a_terminal_that_goes_while_it_is_suspended_is_not_waited_for() -> None:
    terminal, screen = KeptTerminal(), Screen()
    async with shown_at(terminal, screen):
        stopped = asyncio.create_task(terminal.control("by", b"suspend"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not stopped.done()
        terminal.leave(screen)
        await stopped
    await terminal.control("by", b"suspend")


async def test_a_size_is_told_when_it_changes_and_with_each_terminal() -> None:
    terminal, first, second = KeptTerminal(), Screen(), Screen()
    files = Files(terminal)
    with pytest.raises(FileError) as caught:
        await files.open("winsize", OREAD)
    assert caught.value.error is E.NXIO
    resize = await files.open("resize", OREAD)
    async with shown_at(terminal, first):
        assert await read(resize) == b"24 80\n"
        waiting = asyncio.create_task(read(resize))
        first.sizes.put_nowait(b"30 90\n")
        assert await waiting == b"30 90\n"
        waiting = asyncio.create_task(read(resize))
        first.sizes.put_nowait(b"24 80\n")
        assert await waiting == b"24 80\n"
        waiting = asyncio.create_task(read(resize))
    winsize = await files.open("winsize", OREAD)
    assert await read(winsize) == b"24 80\n"
    assert not waiting.done()
    async with shown_at(terminal, second):
        assert await waiting == b"24 80\n"
    for chan in (resize, winsize):
        chan.close()


async def test_a_terminal_that_is_lost_at_once_changes_nothing() -> None:
    terminal, here, lost = KeptTerminal(), Screen(), Screen()
    async with shown_at(terminal, here):
        lost.lose()
        with pytest.raises(LinkBroken):
            await terminal.show_at(lost)
        await terminal.put(b"still here")
        await terminal.drained()
        assert here.seen == b"still here"


async def test_the_files_are_those_of_a_terminal() -> None:
    from cognu.node.lent_view import TERMINAL

    namespace = await finish(local_namespace(kept_server(KeptTerminal()), ME))
    top = await finish(namespace.open(namespace.root.share(), OREAD, ME))
    entries = await finish(dispatch(top, READ, top.server.readdir, top.fid, 0, 100))
    assert {entry.name for entry in entries} == {*TERMINAL}
    top.close()
