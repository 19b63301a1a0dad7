"""A service of one machine, found and used on another by what it is; and what is seen when that machine goes."""

from __future__ import annotations

from pathlib import Path

from cognu.errors import E
from cognu.ninep.types import ORDWR, OWRITE
from e2e.harness import Client, File, NodeProcess, pair, refused

TVERSION = b"\x13\0\0\0\x64\xff\xff\0\x20\0\0\x06\x009P2000"
RVERSION = b"\x13\0\0\0\x65\xff\xff\0\x20\0\0\x06\x009P2000"
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


async def comes(client: Client, event: File, wanted: list[str], kind: str = "notes") -> None:
    """Wait, as told by `event`, until the services of the kind are these."""
    while await find(client, f"kind {kind}") != wanted:
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
            # Nobody asks, and no minute goes by: pi says that there is another grant.
            await pi.rpc("grant", peer="desk", grants=["read:/mnt/registry/own"])
            await comes(desk, event, [NOTES])


async def test_what_is_listened_for_is_found_and_dialled_from_another_machine_until_it_is_stopped(place: Path) -> None:
    async with pair(place, "read:/mnt/registry/own", "net") as two, two.desk.client() as desk, two.pi.client() as pi:
        event = await desk.open("/mnt/registry/event")
        board = await pi.create("/srv/board")
        await board.write(str((await pi.open("/dev/sysname")).number).encode())
        served = await pi.rpc("listen", address="127.0.0.1:0", path="/tmp", dialect="9P2000")
        port = served["address"].rpartition(":")[2]
        found = f"9p:1!pi kind 9p address 'tcp!pi!{port}' tree /tmp dialect 9P2000 node pi"
        await comes(desk, event, [found], "9p")
        assert served["token"] not in (await desk.read("/mnt/registry/index")).decode()
        assert (await pi.read("/mnt/registry/index")).decode().splitlines()[1:] == [
            "srv:board kind srv address /srv/board"
        ]
        assert await find(desk, "kind srv") == [], "a name on the board is no other machine's to use"
        names = await desk.open("/net/cs", ORDWR)
        await names.write(f"tcp!pi!{port}".encode())
        names.offset = 0
        clone, where = (await names.read_all()).decode().splitlines()[-1].split()
        names.close()
        line = await desk.dial("tcp", where, clone.removesuffix("/tcp/clone"))
        await line.write(TVERSION)
        assert await line.read() == RVERSION
        line.close()
        await pi.rpc("unlisten", address=served["address"])
        await comes(desk, event, [], "9p")
        board.close()
        assert (await two.pi.command("sh", "-c", "rm /srv/board")).status == 0
        assert await pi.read("/mnt/registry/index") == b""
