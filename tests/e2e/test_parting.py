"""Machines that part, come back, or change their mind: what each knows of the other is what is so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cognu.errors import E
from e2e.harness import Client, join, pair, refused, until


async def the_peer(client: Client) -> dict[str, Any]:
    [row] = await client.rpc("peers")
    assert isinstance(row, dict)
    return row


async def test_what_one_may_do_there_is_as_it_is_there_now(place: Path) -> None:
    async with pair(place, "read:{shared}", "net") as two, two.desk.client() as desk:
        async with two.pi.client() as pi:
            row = await the_peer(desk)
            assert (row["current"], row["received"]) == (True, [f"read:{two.shared}", "net"])
            await pi.rpc("revoke", peer="desk", grant="net")
            await pi.rpc("export", path=str(two.path), peer="desk", write=True)
            row = await the_peer(desk)
            assert (row["current"], row["received"]) == (True, [f"read:{two.shared}", f"write:{two.path}"])
        await two.pi.stop()

        async def away() -> bool:
            return not (await the_peer(desk))["connected"]

        await until(desk, away)
        later = await the_peer(desk)
        assert (later["current"], later["received"], later["dropped"]) == (False, row["received"], False)
        assert later["as_of"] >= row["as_of"] > 0


async def test_a_machine_that_is_dropped_is_told_and_can_come_back(place: Path) -> None:
    async with pair(place, "read:{shared}") as two, two.desk.client() as desk, two.pi.client() as pi:
        await desk.list(f"/n/pi{two.shared}")
        assert (await pi.rpc("drop", peer="desk"))["told"] is True
        row = await the_peer(desk)
        assert (row["dropped"], row["received"]) == (True, [])
        await refused(desk.list("/n/pi"), E.DROPPED)
        await join(two.pi, two.desk, f"read:{two.shared}")
        row = await the_peer(desk)
        assert (row["dropped"], row["received"], row["current"]) == (False, [f"read:{two.shared}"], True)
        assert await desk.list(f"/n/pi{two.shared}") == []


async def test_a_machine_that_was_away_when_it_was_dropped_finds_out(place: Path) -> None:
    async with pair(place, "read:{shared}") as two, two.pi.client() as pi:
        await two.desk.stop()

        async def away() -> bool:
            return not (await the_peer(pi))["connected"]

        await until(pi, away)
        assert (await pi.rpc("drop", peer="desk"))["told"] is False
        await two.desk.start()
        async with two.desk.client() as desk:
            await refused(desk.list("/n/pi"), E.DROPPED)
            assert (await the_peer(desk))["dropped"] is True


async def test_what_is_kept_of_a_machine_that_is_away_comes_when_it_does(place: Path) -> None:
    async with pair(place, "read:{shared}") as two:
        (two.shared / "file").write_text("of pi")
        await asyncio.gather(two.desk.stop(), two.pi.stop())
        (two.desk.home / "namespace").write_text(f"bind /n/pi{two.shared} /n/photos\n")
        await two.desk.start()
        async with two.desk.client() as desk:
            assert "photos" not in await desk.list("/n")
        await two.pi.start()
        async with two.desk.client() as desk:

            async def come() -> bool:
                return "photos" in await desk.list("/n")

            await until(desk, come)
        async with two.desk.client() as desk:  # which begins with a copy of the base as it is now
            assert await desk.read("/n/photos/file") == b"of pi"
