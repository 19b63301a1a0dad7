"""A grant that is taken back: what runs under it ends, on both machines, and nothing comes through afterwards."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from cognu.errors import E
from cognu.ninep.types import ORDWR
from e2e.harness import pair, refused, until
from programs.build import build


async def test_revoking_net_ends_a_waiting_read_and_the_conversation_itself(place: Path) -> None:
    come: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await come.put((reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with pair(place, "net", "read:{shared}") as two, two.desk.client() as desk, two.pi.client() as pi:
            data = await desk.dial("tcp", f"127.0.0.1!{port}", "/n/pi/net")
            reader, writer = await come.get()
            writer.write(b"before")
            assert await data.read() == b"before"
            waiting = asyncio.create_task(data.read())
            await desk.rpc("status")  # a round trip later the read is with pi
            await desk.list("/n/pi/net")
            assert not waiting.done()

            await pi.rpc("revoke", peer="desk", grant="net")
            writer.write(b"after")
            await refused(waiting, E.REVOKED, "by pi")
            await refused(data.read(), E.REVOKED, "by pi")
            await refused(data.write(b"x"), E.REVOKED)
            data.close()
            with suppress(ConnectionResetError):  # for what was written after the revocation
                assert await reader.read() == b""  # pi hung up
            writer.close()
            assert [name for name in await pi.list("/net/tcp") if name.isdigit()] == []
            await refused(desk.open("/n/pi/net/tcp/clone", ORDWR), E.NOENT)
            assert await desk.list("/n/pi") == [two.shared.parts[1]]
            assert (await pi.rpc("grants"))["desk"] == [f"read:{two.shared}"]
            assert await desk.list(f"/n/pi{two.shared}") == []  # the other grant stands


async def test_revoking_a_tree_ends_reads_of_a_pipe_in_it_and_its_open_files(place: Path) -> None:
    async with pair(place) as two:
        await two.pi.stop()
        (two.pi.home / "namespace").write_text("bind '#|' /mnt/term\n")
        await two.pi.start()
        async with two.pi.client() as pi, two.desk.client() as desk:
            ticket = (await pi.rpc("invite", grants=["write:/mnt/term", f"read:{two.shared}"]))["ticket"]
            await desk.rpc("join", ticket=ticket)
            (two.shared / "file").write_text("kept back")
            near = await pi.open("/mnt/term/data1", ORDWR)
            far = await desk.open("/n/pi/mnt/term/data", ORDWR)
            await near.write(b"one")
            assert await far.read() == b"one"
            file = await desk.open(f"/n/pi{two.shared}/file")
            waiting = asyncio.create_task(far.read())
            assert await desk.list("/n/pi/mnt/term") == ["data", "data1"]
            await pi.rpc("revoke", peer="desk", grant="write:/mnt/term")
            await pi.rpc("revoke", peer="desk", grant=f"read:{two.shared}")
            await refused(waiting, E.REVOKED)
            await refused(far.read(), E.REVOKED)
            await refused(file.read(), E.REVOKED)
            far.close()
            file.close()
            await refused(pi.rpc("revoke", peer="desk", grant="net"), E.NOGRANT)
            assert await desk.list("/n/pi") == []
            near.close()


async def test_revoking_run_ends_the_programs_of_that_peer(place: Path) -> None:
    async with pair(place, "run", "net") as two, two.desk.client() as desk, two.pi.client() as pi:
        await desk.put(build("spin"), "spin.wasm")
        await desk.put(build("cat"), "cat.wasm")
        spinning = await desk.start("spin.wasm", on="pi")
        waiting = await desk.start("cat.wasm", on="pi")
        await pi.rpc("revoke", peer="desk", grant="run")
        for running in (spinning, waiting):
            assert (await running.end()).status != 0
        await refused(desk.start("cat.wasm", on="pi"), E.ACCES)
        before = (await pi.rpc("status"))["processes"]
        assert before == len([name for name in await pi.list("/proc") if name.isdigit()])
        status = [await pi.read(f"/proc/{pid}/status") for pid in await pi.list("/proc") if pid.isdigit()]
        assert not any(b"utime" in text for text in status)


async def test_dropping_a_peer_ends_everything_at_once(place: Path) -> None:
    async with pair(place, "run", "read:{shared}") as two, two.desk.client() as desk, two.pi.client() as pi:
        await desk.put(build("spin"), "spin.wasm")
        spinning = await desk.start("spin.wasm", on="pi")
        (two.shared / "file").write_text("x")
        file = await desk.open(f"/n/pi{two.shared}/file")
        await pi.rpc("drop", peer="desk")
        assert (await spinning.end()).status != 0
        await refused(file.read(), E.DROPPED)
        assert await pi.rpc("peers") == []
        before = (await pi.rpc("status"))["processes"]
        assert before == 2

        async def away() -> bool:
            return not (await desk.rpc("peers"))[0]["connected"]

        await until(desk, away)
        await refused(desk.list("/n/pi"), E.DROPPED)


async def test_a_working_directory_that_was_revoked_is_named_by_what_can_not_be_started_in_it(place: Path) -> None:
    async with pair(place, "run", "read:{shared}") as two, two.desk.client() as desk, two.pi.client() as pi:
        (two.shared / "file").write_text("x")
        ready = two.notes / "ready"
        text = f"cd /n/pi{two.shared}; echo >{ready}; while test -e file; do :; done; cpu pi true"
        running = asyncio.create_task(two.desk.command("sh", "-c", text))
        await until(desk, ready.exists)
        await pi.rpc("revoke", peer="desk", grant=f"read:{two.shared}")
        ended = await running
        assert ended.status == 126, ended
        assert f"/n/pi{two.shared}: ".encode() in ended.errors, ended
