"""Who let whom do what is in the node's log, which is /dev/log, and no secret with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cognu.errors import E
from cognu.mesh.tickets import parse_ticket
from cognu.ninep.types import ORDWR
from e2e.harness import Client, pair, refused, until
from programs.build import build


async def audited(client: Client) -> list[str]:
    """What the log says of authority, by anybody."""
    lines = [json.loads(line) for line in (await client.read("/dev/kmesg")).splitlines()]
    return [line["message"] for line in lines if line["logger"] == "cognu.audit"]


async def test_every_change_of_what_others_may_do_is_in_the_log_with_who_made_it_and_for_whom(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk, two.pi.client() as pi:
        name = (await desk.read("/dev/user")).decode().strip()
        me = f"{name}, process {await desk.pid()}: "
        withdrawn = await desk.rpc("invite", grants=[])
        kept = await desk.rpc("invite", grants=[f"read:{two.notes}"])
        listed = await desk.rpc("invitations")
        assert [(row["number"], row["grants"]) for row in listed] == [
            (withdrawn["number"], []), (kept["number"], [f"read:{two.notes}"]),
        ]  # fmt: skip
        assert "secret" not in json.dumps(listed)
        await desk.rpc("withdraw", invitation=withdrawn["number"][:8])
        joined = await pi.rpc("join", ticket=kept["ticket"], grants=["run"])
        await desk.rpc("grant", peer="pi", grants=["net"])
        await desk.rpc("revoke", peer="pi", grant="net")
        await desk.rpc("export", path=str(two.notes), peer="pi", write=True)
        program = await desk.put(build("cat"), "cat.wasm")
        await desk.rpc("grant", program=program, name="cat.wasm", grants=[f"{two.notes}:r"])
        await desk.rpc("grant", program=program, grants=["/etc:r"], never=True)
        await desk.rpc("ungrant", program=program, grant="/etc:r")
        started = await desk.start("cat.wasm", "--password=x", grants=[f"{two.notes} rw"])
        await started.end()
        await refused(desk.start("cat.wasm", grants=["/nowhere r"]), E.NOENT)
        await refused(desk.rpc("grant", peer="pi", grants=["read:/nowhere"]), E.NOENT)
        await desk.rpc("drop", peer="pi")
        said = await audited(desk)
        whom = next(line for line in said if "joined by invitation" in line)
        assert whom.startswith("pi (")
        assert whom.endswith(f"{kept['number']}; it may here: read:{two.notes}; this machine there: run")
        assert [line for line in said if line != whom] == [
            f"{me}invitation {withdrawn['number']}: whoever joins with it may: nothing",
            f"{me}invitation {kept['number']}: whoever joins with it may: read:{two.notes}",
            f"{me}invitation {withdrawn['number']} withdrawn",
            f"{me}granted pi: net",
            f"{me}took from pi: net",
            f"{me}granted pi: write:{two.notes}",
            f"{me}granted program cat.wasm ({program}): {two.notes}:r",
            f"{me}never for program cat.wasm ({program}): /etc:r",
            f"{me}forgot of program cat.wasm ({program}): /etc:r",
            f"{me}started cat.wasm ({program}), process {started.pid}, with: {two.notes}:rw",
            f"{me}dropped pi",
        ]

        async def heard() -> bool:
            return len(await audited(pi)) > 1

        await until(pi, heard)
        there, ended = await audited(pi)
        assert ended.endswith("has dropped this machine; what it was granted ended: run")
        may = f"it may here: run; this machine there: read:{two.notes}"
        assert there.endswith(f": joined desk ({joined['fingerprint']}); {may}")
        for node in (two.desk, two.pi):
            for ticket in (withdrawn["ticket"], kept["ticket"]):
                assert ticket not in node.log
                assert parse_ticket(ticket).secret.hex() not in node.log


@pytest.mark.parametrize("answer", ["yes", "no", "killed"])
async def test_an_answer_to_a_program_is_in_the_log(place: Path, answer: str) -> None:
    """What nobody was asked about is not, nor what was asked without an answer left out."""
    async with pair(place) as two, two.desk.client() as desk:
        (two.notes / "secret").write_text("x")
        program = await desk.put(build("wants"), "wants.wasm")
        ctl = await desk.open("/proc/clone", ORDWR)
        pid = int(await ctl.read())
        asked = await desk.open(f"/proc/{pid}/wants", ORDWR)
        for line in ("program wants.wasm", f"arg r {two.notes}/secret", "start"):
            await ctl.write(line.encode())
        number, path = (await asked.read()).split()[:2]
        while path.decode() != f"{two.notes}/secret":
            await asked.write(number + b" no")
            number, path = (await asked.read()).split()[:2]
        await asked.write(number + b" asked")
        if answer == "killed":
            await ctl.write(b"kill")
            assert not await asked.read()
        else:
            await asked.write(number + f" {answer}".encode())
        await asked.write(number + b" yes")  # it is over, and no answer
        name = (await desk.read("/dev/user")).decode().strip()
        what = f"{two.notes}/secret (r) to process {pid}, program {program}"
        said = await audited(desk)
        verb = {"yes": "granted, as it asked", "no": "refused, as it asked"}.get(answer)
        verb = verb or "refused, as it asked and nobody answered"
        assert [line for line in said if "it asked" in line] == [f"{name}, process {await desk.pid()}: {verb}: {what}"]
        for file in (asked, ctl):
            file.close()
