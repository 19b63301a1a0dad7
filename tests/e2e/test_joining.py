"""Joining by ticket, and what the other machine then shows: what was granted and nothing else."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from cognu.errors import E, FileError
from cognu.ninep.types import ORDWR, OWRITE, QTDIR, QTSYMLINK
from e2e.harness import Client, pair, refused
from programs.build import build


async def test_a_ticket_joins_once_and_both_sides_know_what_is_lent(place: Path) -> None:
    async with pair(place) as two, two.pi.client() as pi, two.desk.client() as desk:
        invitation = await pi.rpc("invite", grants=[f"read:{two.shared}", "net", "run"])
        ticket = invitation["ticket"]
        told = [f"read {two.shared}", "use this machine's network (/net)", "run programs here"]
        assert invitation["describe"] == told
        joined = await desk.rpc("join", ticket=ticket)
        assert joined["peer"] == "pi"
        assert joined["received"] == [f"read:{two.shared}", "net", "run"]
        assert joined["granted"] == []
        ours = [f"read {two.shared} on pi", "use pi's network (/net)", "run programs on pi"]
        assert joined["describe_received"] == ours
        [of_desk], [of_pi] = await desk.rpc("peers"), await pi.rpc("peers")
        assert of_desk["connected"]
        assert of_pi["connected"]
        assert (of_desk["name"], of_pi["name"]) == ("pi", "desk")
        assert of_pi["granted"] == of_desk["received"] == joined["received"]
        assert await pi.rpc("grants") == {"desk": joined["received"]}

        await refused(desk.rpc("join", ticket=ticket), E.BADTICKET, "used")


async def test_tickets_that_are_altered_or_none_are_refused_with_the_reason(place: Path) -> None:
    async with pair(place) as two, two.pi.client() as pi, two.desk.client() as desk:
        ticket = (await pi.rpc("invite"))["ticket"]
        for at in (8, len(ticket) // 2, len(ticket) - 1):
            letter = "b" if ticket[at] != "b" else "c"
            await refused(desk.rpc("join", ticket=ticket[:at] + letter + ticket[at + 1 :]), E.BADTICKET)
        await refused(desk.rpc("join", ticket=ticket[:-1]), E.BADTICKET)
        await refused(desk.rpc("join", ticket="nonsense"), E.BADTICKET)
        assert (await desk.rpc("join", ticket=ticket))["peer"] == "pi"  # none of these spent it


async def test_an_expired_ticket_is_refused_even_after_a_restart(place: Path) -> None:
    async with pair(place) as two:
        async with two.pi.client() as pi:
            ticket = (await pi.rpc("invite"))["ticket"]
            await pi.rpc("invite")  # another, which keeps the listener open
        await two.pi.stop()
        table = two.pi.home / "invitations.json"
        rows = json.loads(table.read_text())
        rows["invitations"][0]["expires"] = 1
        table.write_text(json.dumps(rows))
        await two.pi.start()
        async with two.desk.client() as desk:
            await refused(desk.rpc("join", ticket=ticket), E.BADTICKET, "expired")
            assert await desk.rpc("peers") == []


async def tree(client: Client, path: str) -> set[str]:
    """Every path below a directory."""
    found: set[str] = set()
    for name in await client.list(path):
        below = f"{path}/{name}"
        found.add(below)
        if (await client.stat(below)).qid.type & QTDIR:
            found |= await tree(client, below)
    return found


async def test_a_peer_shows_what_was_granted_and_nothing_else(place: Path) -> None:
    (place / "secret").write_text("not granted")
    async with pair(place, "read:{shared}", "run") as two, two.desk.client() as desk:
        (two.shared / "sub").mkdir()
        (two.shared / "notes.txt").write_text("from pi\n")
        (two.shared / "sub" / "more").write_text("more\n")
        assert await desk.list("/n") == ["pi"]
        steps = two.shared.relative_to("/").parts
        way = ["/n/pi/" + "/".join(steps[: count + 1]) for count in range(len(steps))]
        top = way[-1]
        assert await desk.list("/n/pi") == sorted([steps[0], "proc"])
        for above, below in pairwise(way):
            assert await desk.list(above) == [below.rpartition("/")[2]]
        assert await tree(desk, top) == {f"{top}/notes.txt", f"{top}/sub", f"{top}/sub/more"}
        # The processes that desk may see there: its own connection's. Its kept sessions: none.
        own, clone, kept = await desk.list("/n/pi/proc")
        assert (own.isdigit(), clone, kept) == (True, "clone", "kept")
        assert await desk.read("/n/pi/proc/kept") == b""
        assert await desk.read(f"{top}/notes.txt") == b"from pi\n"

        for outside in ("etc/passwd", "net", "dev", "mnt", "n", "srv", "tmp/nothing", f"{place}/secret"):
            await refused(desk.read(f"/n/pi/{outside}"), E.NOENT)
        await refused(desk.read(f"{top}/../../secret"), E.NOENT)
        for mode in (OWRITE, ORDWR):
            await refused(desk.open(f"{top}/notes.txt", mode), E.ACCES)
        await refused(desk.create(f"{top}/new"), E.ACCES)
        await refused(desk.write(f"{top}/sub/more", b"x"), E.ACCES)
        assert (two.shared / "sub" / "more").read_text() == "more\n"


async def test_a_link_in_a_granted_tree_leads_nowhere_else(place: Path) -> None:
    (place / "secret").write_text("not granted")
    async with pair(place, "read:{shared}") as two, two.desk.client() as desk:
        top = f"/n/pi{two.shared}"
        (two.shared / "absolute").symlink_to("/etc/passwd")
        (two.shared / "up").symlink_to("../secret")
        for name in ("absolute", "up"):
            # 9P2000.L shows links to clients, who resolve them in their own namespace: it is never followed here.
            assert (await desk.stat(f"{top}/{name}")).qid.type & QTSYMLINK
            await refused(desk.read(f"{top}/{name}"), E.LOOP)


async def test_what_is_granted_later_shows_at_once_and_reads_and_writes(place: Path) -> None:
    async with pair(place, "net") as two, two.pi.client() as pi, two.desk.client() as desk:
        far = f"/n/pi{two.shared}"
        assert await desk.list("/n/pi") == ["net"]
        await refused(desk.list(far), E.NOENT)
        await pi.rpc("export", path=str(two.shared), peer="desk", write=True)
        assert await desk.list(far) == []
        file = await desk.create(f"{far}/new")
        await file.write(b"written from afar")
        file.close()
        assert (two.shared / "new").read_bytes() == b"written from afar"


async def test_a_second_ticket_adds_and_what_is_listed_is_what_is_in_force(place: Path) -> None:
    async with pair(place, "read:{shared}") as two, two.pi.client() as pi, two.desk.client() as desk:
        (two.shared / "hello").write_text("hello\n")
        again = await pi.rpc("invite", grants=["net"])
        joined = await desk.rpc("join", ticket=again["ticket"])
        grants = [f"read:{two.shared}", "net"]
        assert joined["received"] == grants
        assert await pi.rpc("grants") == {"desk": grants}
        assert await desk.read(f"/n/pi{two.shared}/hello") == b"hello\n"
        assert "cs" in await desk.list("/n/pi/net")
        for grant in grants:
            await pi.rpc("revoke", peer="desk", grant=grant)
        assert await pi.rpc("grants") == {"desk": []}
        await refused(desk.read(f"/n/pi{two.shared}/hello"), E.NOENT)
        await refused(desk.list("/n/pi/net"), E.NOENT)


async def test_grants_end_with_the_relation_and_do_not_come_back_with_the_next_ticket(place: Path) -> None:
    async with pair(place, "write:{shared}", "run") as two, two.pi.client() as pi, two.desk.client() as desk:
        assert (await desk.rpc("drop", peer="pi"))["told"]
        assert await pi.rpc("grants") == {"desk": []}
        invited = await pi.rpc("invite", grants=[])
        assert invited["keeps"] == []
        joined = await desk.rpc("join", ticket=invited["ticket"])
        assert (joined["received"], joined["describe_received"]) == ([], [])
        [of_desk] = await desk.rpc("peers")
        assert (of_desk["current"], of_desk["received"]) == (True, [])
        assert await desk.list("/n/pi") == []
        # Now they are joined, and a further ticket adds to nothing but what the last one gave.
        again = await pi.rpc("invite", grants=["net"])
        await desk.rpc("join", ticket=again["ticket"], grants=["run"])
        book = json.loads((two.pi.home / "peers.json").read_text())
        assert [row["granted"] for row in book["peers"]] == [["net"]]
        log = (two.pi.home / "log").read_text()
        assert "has dropped this machine; what it was granted ended" in log


async def test_a_grant_above_a_nodes_home_shows_nothing_of_the_home(place: Path) -> None:
    async with pair(place, f"write:{place}") as two, two.desk.client() as desk, two.pi.client() as pi:
        before = {path.name: path.read_bytes() for path in (two.pi.home / "identity", two.pi.home / "peers.json")}
        (place / "open").write_text("granted")
        (place / "way").symlink_to("pi")
        assert await desk.read(f"/n/pi{place}/open") == b"granted"
        assert "pi" not in await desk.list(f"/n/pi{place}")
        for client, top in ((desk, f"/n/pi{place}"), (pi, str(place)), (pi, f"/mnt/host{place}")):
            for way in ("pi", "way", "pi-shared/../pi"):
                for name in ("identity", "peers.json", "invitations.json"):
                    with pytest.raises(FileError) as caught:
                        await client.read(f"{top}/{way}/{name}")
                    assert caught.value.error in (E.NOENT, E.NOTDIR, E.LOOP)
            await refused(client.create(f"{top}/pi"), E.EXIST)
        assert {name: (two.pi.home / name).read_bytes() for name in before} == before


async def test_a_program_given_a_directory_above_the_home_sees_nothing_of_the_home(place: Path) -> None:
    async with pair(place) as two:
        (place / "open").write_text("granted")
        (two.notes / "show.wasm").write_bytes(build("show"))
        program = str(two.notes / "show.wasm")
        shown = await two.desk.command("run", "--dir", str(place), program, f"--file={place}/open")
        assert (shown.output, shown.status) == (b"granted", 0), shown
        hidden = await two.desk.command("run", "--dir", str(place), program, f"--file={place}/desk/identity")
        assert (hidden.output, hidden.status) == (b"", 1)
        assert b"No such file" in hidden.errors
