"""The node's log as a file: what is kept, what waits, what is lost, and who may write from where."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.log import MAX_LINE, JsonLines, Ring, RingHandler, log_server
from serving import Client


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of its own, that no other test hears."""
    logger = logging.Logger("cognu.some", logging.DEBUG)
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def objects(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


async def test_records_are_json_lines_that_a_reader_gets_as_they_come(logger: logging.Logger) -> None:
    ring = Ring()
    logger.addHandler(RingHandler(ring))
    client = Client(log_server(ring))
    logger.info("one %s", "ä\udc80")
    early = await client.open("log")
    [line] = objects(await client.read_fid(early))
    assert (line["level"], line["logger"], line["message"]) == ("info", "cognu.some", "one ä\udc80")
    assert line["time"] > 1_600_000_000 * 10**9
    late = [await client.open("log") for _ in range(2)]
    for fid in late:
        await client.read_fid(fid)
    waiting = [asyncio.ensure_future(client.read_fid(fid)) for fid in (early, *late)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    waiting.pop().cancel()
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("two")
    for data in await asyncio.gather(*waiting):
        [line] = objects(data)
        assert (line["level"], line["message"]) == ("error", "two")
        assert line["trace"].endswith("ValueError: why")
    assert [line["message"] for line in objects(await client.read("kmesg"))] == ["one ä\udc80", "two"]
    assert objects(await client.read_fid(late[1]))[0]["message"] == "two"  # the cancelled read took nothing


async def test_a_reader_that_falls_behind_is_told_how_many_lines_were_lost() -> None:
    ring = Ring(lines=3)
    client = Client(log_server(ring))
    fid = await client.open("log")
    for number in range(3):
        ring.add(b'{"time": %d, "message": "m"}\n' % number)
    assert len(objects(await client.read_fid(fid, 40))) == 1
    for number in range(3, 8):
        ring.add(b'{"time": %d, "message": "m"}\n' % number)
    lines = objects(await client.read_fid(fid))
    assert lines[0] == {
        "time": 5, "level": "warning", "logger": "cognu.log", "message": "4 lines lost", "lost": 4,
    }  # fmt: skip
    assert [line["time"] for line in lines[1:]] == [5, 6, 7]
    assert ring.first == 5


async def test_lines_of_other_threads_are_there_too(logger: logging.Logger) -> None:
    ring = Ring()
    logger.addHandler(RingHandler(ring))
    client = Client(log_server(ring))
    fid = await client.open("log")
    reading = asyncio.ensure_future(client.read_fid(fid))
    thread = threading.Thread(target=logger.warning, args=("from afar",))
    thread.start()
    assert objects(await reading)[0]["message"] == "from afar"
    thread.join()


async def test_a_record_that_can_not_be_formatted_ends_nobody(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    ring = Ring()
    logger.addHandler(RingHandler(ring))
    logger.info("%d", "no number")
    logger.info("fine")
    assert [line["message"] for line in objects(ring.text())] == ["fine"]


def test_long_messages_are_cut() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "x" * (MAX_LINE + 5), None, None)
    assert len(json.loads(JsonLines().format(record))["message"]) == MAX_LINE


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 8), st.integers(20, 120))
def test_the_ring_keeps_the_last_lines_within_its_bounds(sizes: list[int], lines: int, size: int) -> None:
    ring, all_lines = Ring(lines, size), [bytes([65 + at % 26]) * (count - 1) + b"\n" for at, count in enumerate(sizes)]
    for line in all_lines:
        ring.add(line)
    kept = all_lines[ring.first :]
    assert ring.end == len(all_lines)
    assert ring.text() == b"".join(kept)
    assert len(kept) <= lines
    assert sum(map(len, kept)) <= size or len(kept) == 1
    fits = len(kept) == len(all_lines) or len(kept) == lines
    assert fits or sum(map(len, all_lines[ring.first - 1 :])) > size


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.lists(st.integers(1, 70), min_size=1, max_size=5))
def test_reads_of_any_size_give_every_byte_once(sizes: list[int], counts: list[int]) -> None:
    async def scenario() -> None:
        ring = Ring()
        everything = [b"x" * (size - 1) + b"\n" for size in sizes]
        for line in everything:
            ring.add(line)
        client = Client(log_server(ring))
        fid = await client.open("log")
        got = b""
        turn = 0
        while len(got) < sum(sizes):
            data = await client.read_fid(fid, counts[turn % len(counts)])
            assert 0 < len(data) <= counts[turn % len(counts)]
            got += data
            turn += 1
        assert got == b"".join(everything)

    asyncio.run(scenario())
