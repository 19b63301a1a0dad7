"""Two descriptors as a stream: pipes, plain files, ends, and flags that others set."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest

from cognu.cli.addresses import own_streams
from cognu.cli.descriptors import DescriptorStream
from cognu.errors import E, FileError, LinkBroken
from cognu.world.real import RealThreads


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass  # the test closed it


@pytest.fixture
async def threads() -> AsyncIterator[RealThreads]:
    made = RealThreads(2)
    yield made
    made.close()


async def test_what_is_written_to_a_pipe_is_read_from_it_and_then_its_end(
    pipe: tuple[int, int], threads: RealThreads
) -> None:
    stream = DescriptorStream(*pipe, threads, "-")
    reading = asyncio.create_task(stream.read(100))
    await stream.write(b"near ", memoryview(b"and far"))
    assert await reading == b"near and far"
    os.close(pipe[1])
    assert await stream.read(100) == b""


async def test_more_than_a_pipe_holds_goes_through_whatever_flags_it_has(
    pipe: tuple[int, int], threads: RealThreads
) -> None:
    for end in pipe:
        os.set_blocking(end, False)
    stream = DescriptorStream(*pipe, threads, "-")
    data = bytes(range(256)) * 4096
    writing = asyncio.create_task(stream.write(data))
    got = b""
    while len(got) < len(data):
        got += await stream.read(1 << 20)
    await writing
    assert got == data


async def test_closing_ends_a_read_that_waits_and_a_cancelled_one_takes_nothing(
    pipe: tuple[int, int], threads: RealThreads
) -> None:
    stream = DescriptorStream(*pipe, threads, "-")
    reading = asyncio.create_task(stream.read(100))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await stream.write(b"kept")
    assert await stream.read(100) == b"kept"
    reading = asyncio.create_task(stream.read(100))
    await asyncio.sleep(0)
    stream.close()
    assert await reading == b""


async def test_a_plain_file_is_read_to_its_end(threads: RealThreads) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"stored")
        file.seek(0)
        stream = DescriptorStream(file.fileno(), file.fileno(), threads, "-")
        assert await stream.read(4) == b"stor"
        assert await stream.read(4) == b"ed"
        assert await stream.read(4) == b""


async def test_a_reader_that_went_away_is_a_broken_link(pipe: tuple[int, int], threads: RealThreads) -> None:
    os.close(pipe[0])
    stream = DescriptorStream(pipe[1], pipe[1], threads, "-")
    with pytest.raises(LinkBroken) as broken:
        await stream.write(b"x")
    assert broken.value.error is E.PIPE


async def test_a_standard_stream_that_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(FileError) as refused:
        async with own_streams():
            pass
    assert refused.value.error is E.BADF
