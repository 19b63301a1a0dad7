"""`cognu 9p trace`: between a client and a server, changing nothing."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.cli.addresses import Address
from cognu.cli.main import run
from cognu.cli.trace import Printer, between, time_of_day, trace
from cognu.errors import E, FileError
from cognu.world import Stream
from cognu.world.net import RealNetwork
from nineserver import serving
from sessions import short_place
from streams import MemoryStream, pair

COGNU = str(Path(sys.executable).with_name("cognu"))
Pieces = list[tuple[bool, bytes]]


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as path:
        yield path


@asynccontextmanager
async def watched(path: str, lines: list[str]) -> AsyncIterator[tuple[MemoryStream, Stream]]:
    """The client's end and the server's, with the tracer between them."""
    accepted: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def accept(stream: Stream) -> None:
        accepted.set_result(stream)
        await over.wait()

    listener = await RealNetwork().listen_unix(path, accept)
    client, ours = pair()
    task = asyncio.create_task(between(ours, Address("unix", path), Printer(True, lines.append), 32))
    try:
        yield client, await accepted
        client.close()
        await task
    finally:
        over.set()
        await listener.close()


async def take(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await stream.read(count - len(data))
        assert piece
        data += piece
    return data


PIECES = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=300)), max_size=8)


@settings(max_examples=25)
@given(PIECES)
def test_whatever_is_said_comes_out_as_it_went_in(pieces: Pieces) -> None:
    async def scenario() -> None:
        with short_place() as place:
            lines: list[str] = []
            async with watched(str(place / "s"), lines) as (client, server):
                for from_client, piece in pieces:
                    source, to = (client, server) if from_client else (server, client)
                    await source.write(piece)
                    assert await take(to, len(piece)) == piece
            assert all(json.loads(line)["connection"] == 1 for line in lines)

    asyncio.run(scenario())


async def test_when_the_server_ends_the_client_hears_it(place: Path) -> None:
    lines: list[str] = []
    async with watched(str(place / "s"), lines) as (client, server):
        server.close()
        assert await client.read(1) == b""
    assert json.loads(lines[-1])["note"] == "the connection ended"


async def test_a_server_that_is_not_there_is_told_and_the_client_hung_up_on(place: Path) -> None:
    lines: list[str] = []
    client, ours = pair()
    await between(ours, Address("unix", str(place / "none")), Printer(False, lines.append), 32)
    assert E.NOENT.text in lines[-1]
    client.close()


async def test_where_nobody_may_listen_nobody_does() -> None:
    with pytest.raises(FileError) as refused:
        await trace(Address("tcp", "127.0.0.1:0"), Address("unix", "/x"), Printer(False, print), 0, print)
    assert refused.value.error is E.PERM


def test_a_real_client_and_a_real_server_with_the_tracer_between(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    between_them = str(place / "t")
    with serving(str(place / "s")) as server:
        tracing = subprocess.Popen(
            [COGNU, "9p", "trace", between_them, server.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert tracing.stdout is not None
        assert tracing.stderr is not None
        assert between_them in tracing.stderr.readline()
        assert run(["9p", "cat", "--dialect", "9P2000", between_them, "d/x"]) == 0
        assert capsys.readouterr().out == "d/x"
        tracing.send_signal(signal.SIGTERM)
        out, err = tracing.communicate()
    assert (tracing.returncode, err) == (0, "")
    found = [line.split(" ", 3)[1:] for line in out.splitlines()]
    assert found[0] == ["1", "--", f"{between_them} is connected, to {server.address}"]
    assert found[1] == ["1", "->", 'Tversion tag none msize 1048576 version "9P2000"']
    text = "\n".join(" ".join(line) for line in found)
    assert re.search(r"-> Tread tag \d+ fid \d+ offset 0 count", text)
    assert re.search(r"<- Rread tag \d+ \(Tread fid \d+, [0-9.]+ ms\) count 3 b'd/x'", text)


def test_a_client_at_the_standard_streams_has_the_trace_beside_it(place: Path) -> None:
    with serving(str(place / "s")) as server:
        through = f"exec!{COGNU} 9p trace --json - {server.address}"
        done = subprocess.run([COGNU, "9p", "cat", through, "f"], capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"f")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [row["type"] for row in told if "type" in row][:2] == ["Tversion", "Rversion"]
    assert [row["connection"] for row in told] == [1] * len(told)


def test_the_time_of_day_has_microseconds() -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.000001", time_of_day(1_700_000_000_000_001_999))
