"""A link between two nodes goes dead in the middle, without a word, and comes back: what ran over it goes on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path

import pytest

from cognu.errors import E
from e2e.harness import LOOPBACK, Client, NodeProcess, Pair, end, join, log_trouble, refused
from e2e.typing import Terminal
from hosts.kit import MIB, write_big
from mesh_support import Forwarder

MEGABYTES = 256
SIZE = MEGABYTES * MIB
READERS = 4
CUT_SECONDS = 10


def address_of(node: NodeProcess, peer: str, *addresses: str) -> None:
    """Write into a stopped node's book where it finds a peer."""
    book = node.home / "peers.json"
    rows = json.loads(book.read_text())
    for row in rows["peers"]:
        if row["name"] == peer:
            row["addresses"] = list(addresses)
    book.write_text(json.dumps(rows))


@asynccontextmanager
async def over_a_line(place: Path, *grants: str) -> AsyncIterator[tuple[Pair, Forwarder]]:
    """`desk` reaches `pi` over a line that the test can cut; `pi` can't reach `desk`, which listens elsewhere."""
    two = Pair(place)
    two.desk.options = ("--listen", "[::1]:0", "--host", "[::1]")
    assert two.pi.options == LOOPBACK
    line: Forwarder | None = None
    try:
        await asyncio.gather(two.desk.start(), two.pi.start())
        await join(two.pi, two.desk, *(grant.format(shared=two.shared) for grant in grants))
        async with two.pi.client() as pi:
            at = (await pi.rpc("status"))["listen"]
        await asyncio.gather(two.desk.stop(), two.pi.stop())
        line = await Forwarder(at).start()
        address_of(two.desk, "pi", line.address)
        address_of(two.pi, "desk")
        await two.pi.start()
        async with two.pi.client() as pi:
            assert (await pi.rpc("status"))["listen"] == at  # where the line leads
        await two.desk.start()
        yield two, line
    finally:
        await asyncio.gather(end(two.desk), end(two.pi))
        if line is not None:
            await line.close()
    for node in (two.desk, two.pi):
        trouble = log_trouble(node)
        assert trouble == [], f"{node.name}: {trouble}"


async def checksum(client: Client, path: str, half: asyncio.Event) -> str:
    """Of a file, read in order with several reads on their way at any time."""
    file = await client.open(path)
    digest, done = blake2b(), 0
    reads = [asyncio.create_task(piece(client, file.fid, at * MIB)) for at in range(READERS)]
    while done < SIZE:
        digest.update(await reads[0])
        done += MIB
        following = done + (READERS - 1) * MIB
        reads = reads[1:] + [asyncio.create_task(piece(client, file.fid, following))]
        if done == SIZE // 2:
            half.set()
    assert await asyncio.gather(*reads) == [b""] * READERS
    file.close()
    return digest.hexdigest()


async def piece(client: Client, fid: object, offset: int) -> bytes:
    """A megabyte, or what there is of it."""
    data = b""
    while len(data) < MIB:
        part = bytes(await client.mount.read(fid, offset + len(data), MIB - len(data)))  # type: ignore[arg-type]
        if not part:
            break
        data += part
    return data


async def converse(client: Client, two: Pair, cut: asyncio.Event, over: asyncio.Event) -> list[bytes]:
    """A shell on pi, given a line before, two during and one after the cut; what it wrote."""
    shell = await client.start("cpu", on="pi", grants=[f"{two.notes} r"])
    said = []

    async def ask(line: str) -> None:
        await shell.stdin.write(f"{line}\n".encode())
        said.append(await shell.stdout.read())

    await ask("echo before")
    await cut.wait()
    await ask("echo during >/tmp/kept; cat /tmp/kept")
    await over.wait()
    await ask("cat /tmp/kept")
    await shell.stdin.write(f"cat /mnt/term{two.notes}/notes.txt\nexit 3\n".encode())
    ended = await shell.end()
    assert ended.status == 3
    return [*said, ended.output]


@pytest.mark.long
async def test_a_far_read_and_a_far_shell_go_on_after_ten_seconds_of_silence(place: Path) -> None:
    async with over_a_line(place, "read:{shared}", "run") as (two, line):
        (two.notes / "notes.txt").write_text("of desk\n")
        sum_here = write_big(two.shared / "big", MEGABYTES)
        cut, over = asyncio.Event(), asyncio.Event()
        async with two.desk.client() as reading, two.desk.client() as talking:
            read = asyncio.create_task(checksum(reading, f"/n/pi{two.shared}/big", cut))
            talk = asyncio.create_task(converse(talking, two, cut, over))
            await asyncio.wait({read, asyncio.create_task(cut.wait())}, return_when=asyncio.FIRST_COMPLETED)
            line.deaf = True
            await asyncio.sleep(CUT_SECONDS)  # this is the fault itself, not a wait for something
            assert not read.done()
            assert not talk.done()
            before = line.connections
            line.deaf = False
            over.set()
            assert await read == sum_here
            assert await talk == [b"before\n", b"during\n", b"during\n", b"of desk\n"]
            assert line.connections > before
            row = (await talking.rpc("peers"))[0]
            assert row["connected"]
            assert row["address"] == line.address
            await refused(talking.list("/n/pi/etc"), E.NOENT)


@pytest.mark.long
async def test_a_kept_shell_outlives_a_link_that_is_away_for_too_long(place: Path) -> None:
    async with over_a_line(place, "run") as (two, line):
        await two.pi.stop()
        settings = two.pi.home / "settings.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"retention": 1}))
        await two.pi.start()
        while (await two.desk.command("sh", "-c", "ls /n/pi")).status:  # what it found a moment ago stands for a second
            pass
        env = {"PATH": os.environ["PATH"], "HOME": str(two.notes), "TERM": "xterm"}
        cpu = [str(Path(sys.executable).with_name("cognu")), "--home", str(two.desk.home), "cpu"]
        with Terminal([*cpu, "--keep", "pi"], env, two.notes) as user:
            await asyncio.to_thread(user.shows, "[")
            number = await asyncio.to_thread(user.shows, ": kept for ")
            await asyncio.to_thread(user.shows, "pi%")
            user.type("x=before; echo kept\r")
            await asyncio.to_thread(user.shows, "\nkept\n", "pi%")
            async with two.pi.client() as pi:
                line.deaf = True
                while b" shown " in await pi.read("/proc/kept"):
                    pass
            user.type("~.")
            await asyncio.to_thread(user.shows, "left pi")
        line.deaf = False
        with Terminal([*cpu, "-a", number, "pi"], env, two.notes) as user:
            await asyncio.to_thread(user.shows, "\nkept\n", "pi%")
            user.type("echo $x after\r")
            await asyncio.to_thread(user.shows, "before after\n", "pi%")
            user.type("exit 7\r")
            assert await asyncio.to_thread(user.ends) == 7


@pytest.mark.long
async def test_what_would_begin_on_a_machine_that_is_away_is_refused_and_what_runs_there_goes_on(place: Path) -> None:
    async with over_a_line(place, "read:{shared}", "run") as (two, line), two.desk.client() as desk:
        shell = await desk.start("cpu", on="pi")
        await shell.stdin.write(b"echo before\n")
        assert await shell.stdout.read() == b"before\n"
        line.deaf = True
        await refused(desk.start("cpu", on="pi"), E.HOSTUNREACH)
        line.deaf = False
        await shell.stdin.write(b"echo after; exit 3\n")
        ended = await shell.end()
        assert ended.status == 3
        assert ended.output == b"after\n"
        assert (await desk.run("cpu", on="pi", stdin=b"exit 4\n")).status == 4
