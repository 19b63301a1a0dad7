"""Pipes: order, back-pressure, ends of file, and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.devices.pipe import CAPACITY, PipeServer
from cognu.errors import E, FileError
from cognu.files.server import Fid
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from serving import Client


class Pipe:
    """A new pipe and its two ends, open both ways."""

    def __init__(self) -> None:
        self.client = Client(PipeServer())
        self.ends: list[Fid] = []

    async def open(self) -> Pipe:
        self.ends = [await self.client.open(name, ORDWR) for name in ("data", "data1")]
        return self

    def read(self, end: int, count: int = 1 << 20) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(self.client.read_fid(self.ends[end], count))

    def write(self, end: int, data: bytes) -> asyncio.Task[int]:
        return asyncio.ensure_future(self.client.write_fid(self.ends[end], data))

    def close(self, end: int) -> None:
        self.client.server.clunk(self.ends[end])


async def turns() -> None:
    """Let everybody go as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def refused(error: E, call: Awaitable[Any]) -> None:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error


async def test_bytes_go_both_ways() -> None:
    pipe = await Pipe().open()
    assert await pipe.write(0, b"ping") == 4
    assert await pipe.write(1, b"pong") == 4
    assert await pipe.read(1, 2) == b"pi"
    assert await pipe.read(1) == b"ng"
    assert await pipe.read(0) == b"pong"
    assert await pipe.read(0, 0) == b""


async def test_each_attach_is_a_pipe_of_its_own() -> None:
    server = PipeServer()
    first, second = Client(server), Client(server)
    assert (await first.stat("data")).qid.path != (await second.stat("data")).qid.path
    await first.write("data", b"x")
    assert (await second.stat("data1")).length == 0
    assert await first.names("") == ["data", "data1"]


async def test_a_read_waits_for_a_write() -> None:
    pipe = await Pipe().open()
    reading = pipe.read(1)
    await turns()
    assert not reading.done()
    await pipe.write(0, b"x")
    assert await reading == b"x"


async def test_a_full_pipe_makes_the_writer_wait() -> None:
    pipe = await Pipe().open()
    await pipe.write(0, bytes(CAPACITY))
    writing = pipe.write(0, b"more")
    await turns()
    assert not writing.done()
    assert await pipe.read(1, 4) == bytes(4)
    assert await writing == 4


async def test_a_write_larger_than_the_pipe_arrives_whole_and_unmixed() -> None:
    pipe = await Pipe().open()
    large = b"a" * (3 * CAPACITY + 5)
    writing = [pipe.write(0, large), pipe.write(0, b"b" * 10), pipe.write(0, b"c" * 10)]
    got = b""
    while len(got) < len(large) + 20:
        got += await pipe.read(1, 10000)
    assert got == large + b"b" * 10 + b"c" * 10
    assert await asyncio.gather(*writing) == [len(large), 10, 10]


async def test_closing_an_end_is_the_end_of_file_after_what_was_sent() -> None:
    pipe = await Pipe().open()
    await pipe.write(0, b"last")
    pipe.close(0)
    assert await pipe.read(1, 2) == b"la"
    assert await pipe.read(1) == b"st"
    assert await pipe.read(1) == b""
    await refused(E.PIPE, pipe.write(1, b"x"))


async def test_closing_an_end_wakes_those_who_wait_at_the_other() -> None:
    pipe = await Pipe().open()
    await pipe.write(1, bytes(CAPACITY))
    readers, writer = [pipe.read(1), pipe.read(1)], pipe.write(1, b"x")
    await turns()
    pipe.close(0)
    assert await asyncio.gather(*readers) == [b"", b""]
    await refused(E.PIPE, writer)


async def test_an_end_is_open_until_its_last_close() -> None:
    pipe = await Pipe().open()
    other = await pipe.client.open("data", OWRITE)
    pipe.close(0)
    reading = pipe.read(1)
    await turns()
    assert not reading.done()
    pipe.client.server.clunk(other)
    assert await reading == b""


async def test_before_the_other_end_was_ever_open_reads_wait_and_writes_are_kept() -> None:
    client = Client(PipeServer())
    one = await client.open("data", ORDWR)
    reading = asyncio.ensure_future(client.read_fid(one))
    assert await client.write_fid(one, b"early") == 5
    await turns()
    assert not reading.done()
    two = await client.open("data1", ORDWR)
    assert await client.read_fid(two) == b"early"
    await client.write_fid(two, b"back")
    assert await reading == b"back"


async def test_when_both_ends_were_closed_the_pipe_is_as_new() -> None:
    pipe = await Pipe().open()
    await pipe.write(0, b"lost")
    pipe.close(0)
    pipe.close(1)
    one = await pipe.client.open("data", OREAD)
    two = await pipe.client.open("data1", OWRITE)
    reading = asyncio.ensure_future(pipe.client.read_fid(one))
    await turns()
    assert not reading.done()
    await pipe.client.write_fid(two, b"new")
    assert await reading == b"new"


async def test_a_read_parked_on_a_fid_that_is_clunked_ends() -> None:
    pipe = await Pipe().open()
    reading = pipe.read(0)
    await turns()
    pipe.close(0)
    await refused(E.BADF, reading)


async def test_a_cancelled_read_takes_nothing() -> None:
    pipe = await Pipe().open()
    reading = pipe.read(1)
    await turns()
    await pipe.client.write_fid(pipe.ends[0], b"precious")
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert await pipe.read(1) == b"precious"


async def test_a_cancelled_reader_hands_its_turn_on() -> None:
    pipe = await Pipe().open()
    first, second = pipe.read(1), pipe.read(1)
    await turns()
    await pipe.client.write_fid(pipe.ends[0], b"x")
    first.cancel()
    assert await second == b"x"


async def test_a_cancelled_write_that_fits_a_pipe_put_nothing_and_blocks_nobody() -> None:
    pipe = await Pipe().open()
    await pipe.write(0, b"a" * CAPACITY)
    first, second = pipe.write(0, b"never"), pipe.write(0, b"then")
    await turns()
    first.cancel()
    await turns()
    assert len(await pipe.read(1)) == CAPACITY
    assert await pipe.read(1) == b"then"
    assert await second == 4


async def test_no_aname() -> None:
    with pytest.raises(FileError) as caught:
        PipeServer().attach(Client(PipeServer()).caller, "x")
    assert caught.value.error is E.NOATTACH


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.binary(max_size=CAPACITY // 2), max_size=12),
    st.lists(st.integers(1, CAPACITY), min_size=1, max_size=20),
    st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_whatever_is_cancelled_what_was_written_is_read_in_order(
    pieces: list[bytes], counts: list[int], cancels: list[bool]
) -> None:
    async def scenario() -> None:
        pipe = await Pipe().open()
        sent = bytearray()

        async def write_all() -> None:
            for index, piece in enumerate(pieces):
                writing = pipe.write(0, piece)
                await asyncio.sleep(0)
                if cancels[index % len(cancels)]:
                    writing.cancel()
                await asyncio.wait([writing])
                if not writing.cancelled():
                    sent.extend(piece)
            pipe.close(0)

        writer = asyncio.ensure_future(write_all())
        got, index = bytearray(), 0
        while True:
            reading = pipe.read(1, counts[index % len(counts)])
            await asyncio.sleep(0)
            if cancels[-1 - index % len(cancels)]:
                reading.cancel()
            index += 1
            await asyncio.wait([reading])
            if reading.cancelled():
                if writer.done():
                    cancels[:] = [False]
                continue
            if not reading.result():
                break
            got += reading.result()
        await writer
        assert got == sent

    asyncio.run(scenario())
