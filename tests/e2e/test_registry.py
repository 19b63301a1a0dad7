"""A service of one machine, found and used on another by what it is; and what is seen when that machine goes."""

from __future__ import annotations

from pathlib import Path

from cognu.errors import E
from cognu.ninep.types import ORDWR, OWRITE
from e2e.harness import Client, File, NodeProcess, pair, refused

NOTES = "notes!pi address /n/pi/tmp/notes kind notes node pi"


async def register(pi: Client) -> File:
    new = await pi.open("/mnt/registry/new", ORDWR)
    await new.write(b"notes address /tmp/notes kind notes")
    return new


async def make_notes(pi: NodeProcess) -> None:
    made = await pi.command("sh", "-c", "mkdir /tmp/notes; echo one > /tmp/notes/first")
    assert made.status == 0, made.errors


async def find(client: Client, text: str) -> list[str]:
    asked = await client.open("/mnt/registry/find", ORDWR)
    try:
        await asked.write(text.encode())
        asked.offset = 0
        return (await asked.read_all()).decode().splitlines()
    finally:
        asked.close()


async def comes(client: Client, event: File, wanted: list[str]) -> None:
    """Wait, as told by `event`, until the notes are these."""
    while await find(client, "kind notes") != wanted:
        assert await event.read()


async def test_a_service_of_another_machine_is_found_used_away_and_back(place: Path) -> None:
    async with pair(place, "read:/mnt/registry/own", "write:/tmp") as two, two.desk.client() as desk:
        event = await desk.open("/mnt/registry/event")
        await make_notes(two.pi)
        async with two.pi.client() as pi:
            await register(pi)
            await comes(desk, event, [NOTES])
            [address] = [line.split()[2] for line in await find(desk, "kind notes node *")]
            await desk.change_ns(f"bind -c {address} /mnt/host\n")
            assert await desk.read("/mnt/host/first") == b"one\n"
            first = await desk.open("/mnt/host/first", OWRITE)
            await first.write(b"two")
            first.close()
            assert await pi.read("/tmp/notes/first") == b"two\n"
            assert (await two.desk.command("services", "kind", "notes")).output.decode() == f"{NOTES}\n"
            # It is pi's to say, and nobody's to say on.
            await refused(desk.read("/n/pi/mnt/registry/index"), E.NOENT)
            await refused(desk.open("/n/pi/mnt/registry/own", OWRITE), E.ACCES)
            assert await desk.read("/mnt/registry/own") == b""
        await comes(desk, event, [])  # the session that had it open ended, and the service with it
        async with two.pi.client() as pi:
            await register(pi)
            await comes(desk, event, [NOTES])
            await two.pi.stop()
        await comes(desk, event, [f"{NOTES} state away"])
        await two.pi.start()
        async with two.pi.client() as pi:
            await register(pi)
            await comes(desk, event, [NOTES])
            await pi.rpc("revoke", peer="desk", grant="read:/mnt/registry/own")
            await comes(desk, event, [])
            assert await pi.read("/mnt/registry/index") == b"notes address /tmp/notes kind notes\n"
