"""Who holds what, why, and whether it agrees with a policy: on nodes with programs and peers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cognu.errors import E
from cognu.ninep.types import ORDWR
from cognu.shell.policy import claims_of, differences, parse_policy
from e2e.harness import Client, Running, pair, refused
from programs.build import build

DEFAULT = (Path(__file__).parents[2] / "docs" / "default.policy").read_bytes()


async def told(client: Client) -> list[str]:
    """Where what is held differs from the policy for a node as it is made."""
    rows = (await client.rpc("caps"))["capabilities"]
    return [each.text for each in differences(parse_policy(DEFAULT, "default"), claims_of(rows))]


async def waiting(client: Client, *grants: str) -> Running:
    """A program that waits for its input."""
    return await client.start("cat.wasm", grants=grants)


async def test_a_node_as_it_is_made_agrees_with_the_default_policy(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk, two.desk.client():
        assert await told(desk) == []
        program = await desk.put(build("cat"), "cat.wasm")
        running = await waiting(desk)
        assert await told(desk) == []  # a program that was granted nothing
        granted = await waiting(desk, f"{two.notes} rw")
        assert await told(desk) == [f"program cat.wasm@{program} holds rwc of #U{two.notes}"]
        rows = (await desk.rpc("caps"))["capabilities"]
        assert all(row["holder"]["kind"] != "domain" for row in rows)  # nobody is unknown
        for each in (running, granted):
            await each.end()
        assert await told(desk) == []
        ended = await two.desk.command("caps", "check", str(Path(__file__).parents[2] / "docs" / "default.policy"))
        assert (ended.output, ended.errors, ended.status) == (b"", b"", 0)


@pytest.mark.parametrize("options", [(), ("--isolate", "all")])
async def test_an_isolated_program_holds_what_any_does_and_the_nodes_whole_tree_is_no_programs_own(
    place: Path, options: tuple[str, ...]
) -> None:
    async with pair(place, desk_options=options) as two, two.desk.client() as desk:
        program = await desk.put(build("cat"), "cat.wasm")
        each = [await desk.start("cat.wasm"), await desk.start("cat.wasm", lines=["isolate"])]
        assert await told(desk) == []
        rows = (await desk.rpc("caps"))["capabilities"]
        own = {(row["server"], row["holder"]["pid"]) for row in rows if row["server"].startswith("#own")}
        isolated = [running.pid for running in each[0 if options else 1 :]]
        trees = {(f"#own:{tree}", pid) for tree in ("orders", "streams", "wants") for pid in isolated}
        assert own == {("#own", running.pid) for running in each} | trees
        for lines in ([], ["isolate"]):
            whole = await desk.start("cat.wasm", grants=["/ rwx"], lines=lines)
            assert await told(desk) == [f"program cat.wasm@{program} holds rwxc of #R"]
            each.append(whole)
            assert (await desk.rpc("caps"))["capabilities"]
            await each.pop().end()
        for running in each:
            await running.end()


async def test_a_program_is_one_whatever_it_is_called_and_whatever_it_is_started_with(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk:
        program = ""
        for name in ("peer", "session", "node", "cpu"):
            program = await desk.put(build("cat"), name)
        running = [
            await desk.start("peer", grants=["/net rw"]),
            await desk.start("session", lines=[f"dir {two.notes} /here"]),
            await desk.start("node", lines=["dir /net /net"]),
            await desk.start("cpu", grants=["/proc r"]),
        ]
        assert await told(desk) == [
            f"program cpu@{program} holds r of #p",
            f"program node@{program} holds rwc of #I",
            f"program peer@{program} holds rwc of #I",
            f"program session@{program} holds rwc of #U{two.notes}",
        ]
        remedy = (await desk.rpc("why", pid=running[0].pid, path="/etc"))["remedy"]
        assert remedy.endswith("cognu grants set peer /etc:r")
        await desk.write("/mnt/store/ctl", f"name peer {await desk.put(build('talk'))}")  # it means another one now
        remedy = (await desk.rpc("why", pid=running[0].pid, path="/etc"))["remedy"]
        assert remedy.endswith(f"cognu grants set {program} /etc:r")
        for each in running:
            await each.end()


async def test_what_was_handed_on_hangs_below_what_it_came_from_and_names_the_machine(place: Path) -> None:
    async with pair(place, "read:{shared}", "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        await desk.put(build("cat"), "cat.wasm")
        assert await desk.list(f"/n/pi{two.shared}") == []
        running = await desk.start("cat.wasm", on="pi", grants=[f"{two.notes} r"])
        rows = {row["slot"]: row for row in (await pi.rpc("caps"))["capabilities"]}

        def above(row: dict[str, Any]) -> list[str]:
            found = []
            while row["parent"]:
                row = rows[row["parent"]]
                found.append(row["holder"]["kind"])
            return found

        lent = [row for row in rows.values() if row["holder"]["kind"] == "peer" and row["server"] == "#U"]
        assert {(row["holder"]["name"], row["node"], row["rights"]) for row in lent} == {("desk", "desk", "Grx")}
        assert above(lent[0]) == ["grant", "process", "node"]
        granted = rows[lent[0]["parent"]]
        assert granted["holder"]["name"] == f"read:{two.shared} of desk"
        assert granted["uses"] == [{"place": str(two.shared), "origin": f"#U{two.shared}"}]
        here = (await desk.rpc("caps"))["capabilities"]
        [held] = [row for row in here if row["holder"]["kind"] == "program" and row["server"] == "#U"]
        assert (held["node"], held["rights"]) == ("pi", "r")
        await running.end()

        session = next(row["holder"]["pid"] for row in lent)
        why = await pi.rpc("why", pid=session, path=str(two.shared), rights="w")
        assert not why["granted"]
        assert why["remedy"] == f"cognu export {two.shared} desk :rw"
        assert f"grant read:{two.shared} of desk" in " ".join(why["steps"])
        assert (await pi.rpc("why", pid=session, path=str(two.shared)))["granted"]


async def explained(client: Client, pid: int, path: str, rights: str = "r") -> tuple[bool, str, str]:
    answer = await client.rpc("why", pid=pid, path=path, rights=rights)
    return answer["granted"], "\n".join(answer["steps"]), answer["remedy"]


async def test_why_goes_from_the_walk_to_the_root_of_the_capability(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk:
        (two.notes / "notes").write_text("x")
        (two.notes / "other").write_text("x")
        await desk.put(build("cat"), "cat.wasm")
        running = await waiting(desk, f"{two.notes}/notes r")
        pid, notes = running.pid, f"{two.notes}/notes"
        session = await desk.pid()

        granted, steps, remedy = await explained(desk, pid, notes)
        assert (granted, remedy) == (True, "")
        lines = steps.splitlines()
        assert lines[0] == f"program {pid} cat.wasm sees a namespace of its own"
        assert lines[1].startswith(f"{notes} is #U{notes}, mounted under capability ")
        assert lines[2].endswith(f"(r) of program {pid} cat.wasm was minted from "
                                 f"{lines[3].split()[1]} by process {session} session")  # fmt: skip
        assert lines[-2].endswith("(SGrwxc) of node desk was made with the server #U")
        assert lines[-1] == "it has all of r"

        granted, steps, remedy = await explained(desk, pid, notes, "rw")
        assert not granted
        assert "it lacks w" in steps
        assert f"process {session} session has that, and did not hand it on to program {pid} cat.wasm" in steps
        assert remedy == f"run --grant {notes}:rw, or for good: cognu grants set cat.wasm {notes}:rw"

        granted, steps, remedy = await explained(desk, pid, f"{two.notes}/other")
        assert not granted
        assert f"{two.notes}/other is not there: no more of {two.notes} is, than leads to what was granted" in steps
        assert remedy.startswith(f"run --grant {two.notes}/other:r")

        granted, steps, remedy = await explained(desk, pid, two.notes.name)
        begins = f"{two.notes.name} begins at its working directory, /"
        assert begins in steps.splitlines()
        assert not granted  # a path typed elsewhere is the process's all the same
        assert (await explained(desk, session, "etc"))[0]

        granted, steps, remedy = await explained(desk, pid, "/none")
        assert (granted, remedy) == (False, "")
        assert f"for process {session} session, which started it, /none: {E.NOENT.text}" in steps

        assert "it has no such device" in (await explained(desk, pid, "#U"))[1]
        assert (await explained(desk, session, "#U/etc"))[0]
        assert (await explained(desk, session, "/net", "rwc"))[0]
        assert E.NOENT.text in (await explained(desk, session, f"{two.notes}/none"))[1]

        for arguments, error in (
            ({"pid": 99_999, "path": "/"}, E.SRCH),
            ({"pid": pid, "path": ""}, E.NOENT),
            ({"pid": pid, "path": "/", "rights": "q"}, E.USAGE),
            ({"path": "/"}, E.USAGE),
        ):
            await refused(desk.rpc("why", **arguments), error)
        await running.end()
        await refused(desk.rpc("why", pid=pid, path="/"), E.SRCH)


async def test_what_runs_loses_what_it_is_never_to_have_and_who_keeps_it_is_named(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk:
        (two.notes / "secret").write_text("x")
        secret, program = f"{two.notes}/secret", await desk.put(build("cat"), "cat.wasm")
        below, above = await waiting(desk, f"{secret} rw"), await waiting(desk, f"{two.notes} r")
        mapped = await desk.start("cat.wasm", lines=[f"dir {two.notes} /here"])
        said = await desk.rpc("grant", program=program, grants=[f"{secret}:r"], never=True)
        assert said["keeping"] == [
            {"pid": above.pid, "grant": f"{two.notes}:r"}, {"pid": mapped.pid, "grant": f"{two.notes}:rw"},
        ]  # fmt: skip
        assert not (await desk.rpc("why", pid=below.pid, path=secret))["granted"]
        assert (await desk.rpc("why", pid=below.pid, path=secret, rights="w"))["granted"]
        assert (await desk.rpc("why", pid=above.pid, path=secret))["granted"]
        said = await desk.rpc("grant", program=program, grants=[f"{two.notes}:rw"], never=True)
        assert said["keeping"] == [{"pid": mapped.pid, "grant": f"{two.notes}:rw"}]
        for each in (below, above):
            assert not (await desk.rpc("why", pid=each.pid, path=secret, rights="w"))["granted"]
            assert not (await desk.rpc("why", pid=each.pid, path=secret))["granted"]
        for each in (below, above, mapped):
            await each.end()


async def test_of_a_file_on_another_machine_that_one_is_asked_what_it_grants(place: Path) -> None:
    async with pair(place, "read:{shared}", "net") as two, two.desk.client() as desk, two.pi.client() as pi:
        (two.shared / "file").write_text("x")
        session, path = await desk.pid(), f"/n/pi{two.shared}/file"
        granted, steps, _ = await explained(desk, session, path)
        assert granted
        assert f"pi says what it grants this machine: read:{two.shared}, net" in steps
        assert steps.endswith("so pi lets it; the file's mode there may refuse more")
        granted, steps, remedy = await explained(desk, session, path, "rw")
        assert not granted
        assert steps.endswith("so pi refuses it: w was not granted")
        assert remedy == f"on pi: cognu grants set desk write:{two.shared}/file"
        await refused(desk.open(path, ORDWR), E.ACCES)
        assert (await explained(desk, session, "/n/pi/net", "rw"))[0]
        for above, rights in (("/n/pi", "r"), (f"/n/pi{two.shared.parent}", "r"), (f"/n/pi{two.shared.parent}", "w")):
            assert (await explained(desk, session, above, rights))[0] == (rights == "r")

        await pi.rpc("grant", peer="desk", grants=[f"write:{two.shared}"])  # it is asked each time
        assert (await explained(desk, session, path, "rw"))[0]
        (await desk.open(path, ORDWR)).close()
        await two.pi.stop()
        granted, steps, _ = await explained(desk, session, "/n/pi")
        assert granted
        assert (
            f"pi does not answer, and said last, what it grants this machine: read:{two.shared}, net, write:" in steps
        )


async def test_a_refusal_says_who_refused_for_want_of_what_and_what_to_do(place: Path) -> None:
    async with pair(place, "read:{shared}") as two, two.pi.client() as pi:
        (two.shared / "file").write_text("x")
        far = f"/n/pi{two.shared}"
        for command, letters, path in (
            (f"rm {far}/file", "w", "/file"), (f"echo x > {far}/file", "w", "/file"), (f"mkdir {far}/new", "c", ""),
        ):  # fmt: skip
            ended = await two.desk.command("sh", "-c", command)
            assert ended.status == 1
            said = f": {E.ACCES.text}: pi: it was granted without {letters}; there: cognu grants set desk write:"
            assert ended.errors.decode().endswith(f"{said}{two.shared}{path}\n")
        await pi.rpc("grant", peer="desk", grants=[f"write:{two.shared}"])
        assert (await two.desk.command("sh", "-c", f"mkdir {far}/new; rm {far}/file")).errors == b""


@pytest.mark.parametrize("count", [1, 20])
async def test_what_ends_leaves_nothing_held(place: Path, count: int) -> None:
    async with pair(place) as two, two.desk.client() as desk:
        await desk.put(build("cat"), "cat.wasm")
        before = (await desk.rpc("caps"))["capabilities"]
        started = [await waiting(desk, f"{two.notes} rw") for _ in range(count)]
        during = (await desk.rpc("caps"))["capabilities"]
        assert len([row for row in during if row["holder"]["kind"] == "program" and row["server"] == "#U"]) == count
        await asyncio.gather(*(running.end() for running in started))
        after = (await desk.rpc("caps"))["capabilities"]
        assert claims_of(after) == claims_of(before)
        assert len(after) == len(before)


async def test_who_serves_an_interface_and_who_may_send_to_it_is_told_by_its_name(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk:
        program = await desk.put(build("talk"), "talk.wasm")
        name = "ab" * 32
        server = await desk.start("talk.wasm", "serve", "1", lines=[f"handle {name}"])
        session = await desk.pid()
        rows = [row for row in (await desk.rpc("caps"))["capabilities"] if row["server"] == f"interface {name}"]
        held = {(row["holder"]["kind"], row["holder"]["pid"]): row for row in rows}
        assert held["program", server.pid]["rights"] == "SGrwxc"
        bound = held["process", session]
        assert (bound["rights"], bound["parent"]) == ("SG", held["program", server.pid]["slot"])
        assert bound["uses"] == [{"place": "interface", "origin": name}]
        assert f"program talk.wasm@{program} holds SGrwxc of interface {name}" in await told(desk)
        await server.tell("kill")
        await server.end()
        assert await told(desk) == []
