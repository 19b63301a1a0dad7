"""Programs by their hash: fetched from a peer, run here, run over there on this side's files."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cognu.errors import E, FileError
from e2e.harness import LOOPBACK, Client, NodeProcess, end, join, pair, refused, until
from programs.build import build


async def test_a_program_is_fetched_from_the_peer_that_has_it_and_runs_by_its_hash(place: Path) -> None:
    async with pair(place, "read:{shared}") as two, two.desk.client() as desk, two.pi.client() as pi:
        (two.notes / "notes.txt").write_text("one two\nthree\n")
        score = await pi.put(build("wc"), "wc.wasm")
        lines, grants = [f"cd {two.notes}"], [f"{two.notes}/notes.txt r"]
        ended = await desk.run(score, "notes.txt", lines=lines, grants=grants)
        assert (ended.output, ended.errors, ended.status) == (b"2 3 14 notes.txt\n", b"", 0)
        assert await desk.read(f"/mnt/store/objects/{score}") == build("wc")

        await two.pi.stop()  # from now on it is here
        ended = await desk.run(score[:20], stdin=b"a b\n")
        assert (ended.output, ended.status) == (b"1 2 4\n", 0)


async def test_wrong_bytes_are_refused_and_their_source_marked_and_the_next_one_tried(place: Path) -> None:
    liar = NodeProcess(
        place / "aa",
        "aa",
        *LOOPBACK,
        module=(
            "-P",
            str(Path(__file__).with_name("liar.py")),
        ),
    )
    try:
        await liar.start()
        async with pair(place, "net") as two, two.desk.client() as desk, two.pi.client() as pi:
            await join(liar, two.desk)
            async with liar.client() as lying:
                first = await lying.put(build("wc"))
                alone = await lying.put(build("cat"))
            assert first == await pi.put(build("wc"))
            assert [peer["name"] for peer in await desk.rpc("peers")] == ["aa", "pi"]  # asked in this order

            ended = await desk.run(first, stdin=b"a b\n")
            assert (ended.output, ended.status) == (b"1 2 4\n", 0)
            assert {peer["name"]: peer["lies"] for peer in await desk.rpc("peers")} == {"aa": 1, "pi": 0}
            assert any("aa gave wrong bytes" in line for line in two.desk.log.splitlines())

            await refused(desk.run(alone), E.BADHASH)
            await refused(desk.read(f"/mnt/store/objects/{alone}"), E.BADHASH)

            second = await pi.put(build("spin"))
            assert second == await pi.put(build("spin"))
            await desk.read(f"/mnt/store/objects/{second}")  # the one that lied is asked last
            assert {peer["name"]: peer["lies"] for peer in await desk.rpc("peers")} == {"aa": 3, "pi": 0}
    finally:
        await end(liar)


async def test_a_program_on_the_peer_works_on_what_was_lent_and_sees_nothing_else(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        notes = two.notes / "notes.txt"
        notes.write_text("of desk\n")
        (two.notes / "other.txt").write_text("not lent\n")
        (two.shared / "pi.txt").write_text("of pi\n")
        cat = await desk.put(build("cat"), "cat.wasm")
        here: dict[str, Any] = {"on": "pi", "grants": [f"{notes} r"], "lines": [f"cd {two.notes}"]}
        for path in (str(notes), "notes.txt"):
            ended = await desk.run("cat.wasm", path, **here)
            assert (ended.output, ended.errors, ended.status) == (b"of desk\n", b"", 0)
        assert await pi.read(f"/mnt/store/objects/{cat}") == build("cat")  # it came by its hash
        hidden = [str(two.notes / "other.txt"), "other.txt", str(two.shared / "pi.txt"), "/etc/passwd", "/dev/null"]
        hidden += ["/bin/cat.wasm", "/proc/1/status", "/n/pi", "/mnt/node/status"]
        for path in hidden:
            ended = await desk.run("cat.wasm", path, **here)
            assert (ended.output, ended.status) == (b"", 1), path
            assert ended.errors.strip().endswith(b"No such file or directory"), ended

        ended = await desk.run("cat.wasm", on="pi", stdin=b"given " * 100_000)
        assert (ended.output, ended.status) == (b"given " * 100_000, 0)
        await desk.put(build("crash"), "crash.wasm")
        assert (await desk.run("crash.wasm", "exit", "7", on="pi")).status == 7
        trapped = await desk.run("crash.wasm", "trap", on="pi")
        assert trapped.status == 128 + 6
        assert "trap" in trapped.message


async def test_a_read_only_file_stays_so_on_the_peer(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk:
        (two.notes / "notes.txt").write_text("as it was\n")
        await desk.put(build("files"), "files.wasm")
        kept = await desk.run("files.wasm", on="pi", grants=[f"{two.notes} r"], lines=[f"cd {two.notes}"])
        assert kept.status != 0
        assert sorted(path.name for path in two.notes.iterdir()) == ["notes.txt"]
        done = await desk.run("files.wasm", on="pi", lines=[f"dir {two.notes} .", f"cd {two.notes}"])
        assert (done.output, done.status) == (b"ok\n", 0)


async def spinning(node: NodeProcess) -> list[str]:
    """The status of each program that runs on a node."""
    found = []
    async with node.client() as client:
        for pid in await client.list("/proc"):
            with suppress(FileError):  # it ended meanwhile
                status = (await client.read(f"/proc/{pid}/status")).decode() if pid.isdigit() else ""
                found += [status] if "utime" in status else []
    return found


async def test_killed_from_here_it_ends_over_there(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk:
        await desk.put(build("spin"), "spin.wasm")
        running = await desk.start("spin.wasm", on="pi")
        assert b"node pi\n" in await desk.read(f"/proc/{running.pid}/status")
        assert len(await spinning(two.pi)) == 1
        assert await spinning(two.desk) == []
        await running.tell("kill")
        ended = await running.end()
        assert ended.status == 128 + 9
        assert await spinning(two.pi) == []
        interrupted = await desk.start("spin.wasm", on="pi")
        await interrupted.tell("interrupt")
        assert (await interrupted.end()).status == 128 + 2
        gone = await desk.start("spin.wasm", on="pi")  # and if its starter goes away
        async with two.pi.client() as pi:
            await desk.close()
            await until(pi, lambda: none_spins(two.pi))
        assert gone.pid


async def none_spins(node: NodeProcess) -> bool:
    return not await spinning(node)


async def test_without_the_grant_it_is_refused_and_the_grant_named(place: Path) -> None:
    async with pair(place, "net") as two, two.desk.client() as desk:
        await desk.put(build("wc"), "wc.wasm")
        await refused(desk.run("wc.wasm", on="pi"), E.ACCES)
        for number in await desk.list("/proc"):  # no process of it is left
            if number.isdigit():
                assert b"wc.wasm" not in await desk.read(f"/proc/{number}/status")


@asynccontextmanager
async def patient_for(node: NodeProcess, seconds: int | None) -> AsyncIterator[Client]:
    """A client of it, after it was started again with another `retention`."""
    if seconds is not None:
        await node.stop()
        settings = node.home / "settings.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"retention": seconds}))
        await node.start()
    async with node.client() as client:
        yield client


@pytest.mark.long
async def test_a_program_lost_with_its_peer_ends_with_an_error_whether_the_peer_comes_back_or_not(place: Path) -> None:
    async def lose(home: Path, comes_back: bool) -> None:
        async with pair(home, "run") as two, patient_for(two.desk, None if comes_back else 5) as desk:
            await desk.put(build("spin"), "spin.wasm")
            running = await desk.start("spin.wasm", on="pi")
            wait = await desk.open(f"/n/pi/proc/{(await desk.list('/n/pi/proc'))[0]}/wait")
            reading = asyncio.create_task(wait.read())
            await two.pi.signal(signal.SIGKILL)
            if comes_back:
                await two.pi.start()
            ended = await running.end()
            assert ended.status != 0
            assert "pi" in ended.message
            lost = E.RESTARTED if comes_back else E.AWAY
            assert lost.text in ended.message
            await refused(reading, lost)
            if comes_back:
                assert (await desk.run("spin.wasm", on="pi", lines=["limit cpu 1000000"])).status != 0

    await asyncio.gather(lose(place / "back", True), lose(place / "gone", False))


async def test_kill_ends_a_program_whose_peer_can_not_be_reached(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk:
        await desk.put(build("spin"), "spin.wasm")
        running = await desk.start("spin.wasm", on="pi")
        await two.pi.signal(signal.SIGKILL)

        async def away() -> bool:
            return not (await desk.rpc("peers"))[0]["connected"]

        await until(desk, away)
        await running.tell("kill")
        assert (await running.end()).status == 128 + 9


async def test_knowing_the_hash_of_what_was_run_here_gives_nothing(place: Path) -> None:
    """A program's bytes go to the machine that it runs on, while it does; nobody else, and not later."""
    async with pair(place, "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        program = two.notes / "wc.wasm"
        program.write_bytes(build("wc"))
        ended = await desk.run(str(program), stdin=b"a b\n", on="pi")
        assert (ended.output, ended.status) == (b"1 2 4\n", 0)
        [score] = [path.name for path in (two.desk.home / "store/objects").rglob("bafkr4i*") if path.is_file()]
        [theirs] = (two.pi.home / "store/objects").rglob(score)
        theirs.unlink()
        await refused(pi.read(f"/mnt/store/objects/{score}"), E.NOENT)
        assert await desk.put(build("wc")) == score
        assert await pi.read(f"/mnt/store/objects/{score}") == build("wc")
