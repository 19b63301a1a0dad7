"""What one machine lends, and a second hands on to a third: taken back by the first, the third has nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cognu.errors import E, FileError
from cognu.ninep.types import ORDWR
from e2e.harness import LOOPBACK, Client, File, NodeProcess, Pair, end, join, log_trouble, pair, refused, until
from programs.build import build

PIPE = "/mnt/term"
"""Where pi has a pipe, so that what reads from it waits."""


async def write_on(pipe: File) -> None:
    while True:
        await pipe.write(b"after")


@dataclass
class Three:
    two: Pair
    hub: NodeProcess
    pi: Client
    desk: Client


@asynccontextmanager
async def three(place: Path) -> AsyncIterator[Three]:
    """Pi lends desk a pipe and a directory; the hub lets desk run programs."""
    hub = NodeProcess(place / "hub", "hub", *LOOPBACK)
    async with pair(place) as two:
        try:
            await hub.start()
            await two.pi.stop()
            (two.pi.home / "namespace").write_text(f"bind '#|' {PIPE}\n")
            await two.pi.start()
            (two.shared / "file").write_text("of pi\n")
            await join(two.pi, two.desk, f"write:{PIPE}", f"read:{two.shared}")
            await join(hub, two.desk, "run")
            async with two.pi.client() as pi, two.desk.client() as desk:
                await desk.put(build("cat"), "cat.wasm")
                yield Three(two, hub, pi, desk)
        finally:
            await end(hub)
    assert log_trouble(hub) == []


async def test_a_program_on_a_third_machine_loses_what_the_first_took_back(place: Path) -> None:
    async with three(place) as all_:
        desk, pi = all_.desk, all_.pi
        file, pipe = f"/n/pi{all_.two.shared}/file", f"/n/pi{PIPE}/data"
        near = await pi.open(f"{PIPE}/data1", ORDWR)
        running = await desk.start("cat.wasm", file, pipe, file, on="hub", grants=[f"{file} r", f"{pipe} r"])
        assert await running.stdout.read() == b"of pi\n"
        await near.write(b"before")
        assert await running.stdout.read() == b"before"
        async with all_.hub.client() as hub:
            rows = (await hub.rpc("caps"))["capabilities"]
            assert any(row["holder"]["name"] == "cat.wasm" or row["node"] == "desk" for row in rows)
        for grant in (f"write:{PIPE}", f"read:{all_.two.shared}"):
            await pi.rpc("revoke", peer="desk", grant=grant)
        await refused(write_on(near), E.PIPE)  # who read goes, if not before the first of these
        ended = await running.end()
        assert (ended.output, ended.status) == (b"", 1)
        assert ended.errors.count(b"cat: ") == 2  # for what it had open, and for what it opens now
        near.close()


async def test_a_client_of_what_is_listened_for_loses_what_was_taken_back(place: Path) -> None:
    async with three(place) as all_:
        desk, pi = all_.desk, all_.pi
        socket = str(place / "9p")
        await desk.rpc("listen", address=socket, path=f"/n/pi{all_.two.shared}")
        client = await Client.connect(socket)
        try:
            file = await client.open("file")
            assert await file.read() == b"of pi\n"
            file.offset = 0
            await pi.rpc("revoke", peer="desk", grant=f"read:{all_.two.shared}")
            await refused(file.read(), E.REVOKED)
            file.close()
            with pytest.raises(FileError) as caught:
                await client.open("file")
            assert caught.value.error in (E.REVOKED, E.NOENT)
        finally:
            await client.close()
        await desk.rpc("unlisten", address=socket)


async def test_what_was_lent_to_a_far_program_ends_with_the_program_that_lent_it(place: Path) -> None:
    """Desk's own process stands for the one on the hub: killed, nothing of desk's or pi's is held over there."""
    async with three(place) as all_:
        desk = all_.desk
        pipe = f"/n/pi{PIPE}/data"
        running = await desk.start("cat.wasm", pipe, on="hub", grants=[f"{pipe} r"])
        async with all_.hub.client() as hub:

            async def runs() -> bool:
                rows = (await hub.rpc("caps"))["capabilities"]
                return any(row["node"] == "desk" and row["server"].startswith("#M") for row in rows)

            await until(hub, runs)
            await running.tell("kill")
            assert (await running.end()).status == 128 + 9

            async def gone() -> bool:
                return not await runs()

            await until(hub, gone)
        waiting = asyncio.create_task(all_.pi.list(PIPE))
        assert await waiting == ["data", "data1"]
