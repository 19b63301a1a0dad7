"""`cognu pair` between two nodes, as people type it: at terminals, and without one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path

import pytest

from cognu.errors import E
from cognu.mesh.codes import parse_offer
from e2e.harness import NodeProcess, pair, refused, until
from e2e.typing import Terminal


async def shown(process: asyncio.subprocess.Process) -> dict[str, object]:
    """The first line of `pair --json`."""
    assert process.stdout is not None
    event = json.loads(await process.stdout.readline())
    assert event["event"] == "code"
    assert isinstance(event, dict)
    return event


def at_terminal(node: NodeProcess, *words: str) -> Terminal:
    return Terminal(node.argv(*words), {**os.environ, "TERM": "xterm"}, Path("/"))


async def test_a_code_pairs_two_machines_that_grant_nothing(place: Path) -> None:
    async with pair(place) as two:
        showing = await two.pi.begin("pair", "--json")
        event = await shown(showing)
        code = str(event["code"])
        assert isinstance(event["addresses"], list)
        [address] = event["addresses"]
        assert parse_offer(str(event["text"]))[0].text == code
        typed = await two.desk.command("pair", "-", address, stdin=f"{code}\n".encode())
        assert typed.status == 0, typed
        assert typed.output.decode().splitlines()[1:] == [
            "this machine may do nothing there yet",
            "pi may do nothing here yet",
        ]
        out, _ = await showing.communicate()
        assert json.loads(out.splitlines()[-1])["peer"] == "desk"
        async with two.desk.client() as desk, two.pi.client() as pi:
            [of_desk], [of_pi] = await desk.rpc("grants"), await pi.rpc("grants")
            assert (of_desk, of_pi) == ("pi", "desk")
            assert await desk.list("/n/pi") == []
        again = await two.desk.command("pair", code, address)
        assert again.status == 1
        assert b"shows no such code" in again.errors
        digits = code.replace("-", "")
        for node in (two.desk, two.pi):
            for text in (node.log, *(path.read_text() for path in _files(node.home))):
                assert code not in text
                assert digits not in text
                assert digits[2:] not in text


def _files(home: Path) -> list[Path]:
    return [home / "invitations.json" if (home / "invitations.json").exists() else home / "peers.json"]


async def test_what_is_asked_is_agreed_to_at_a_terminal_and_ends_when_it_is_taken_back(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk, two.pi.client() as pi:
        (two.shared / "hello").write_text("hello\n")
        with at_terminal(two.pi, "pair") as terminal:
            code = await asyncio.to_thread(_code_at, terminal)
            asked = await two.desk.begin("pair", "--ask", f"read:{two.shared}", *code)
            question = await asyncio.to_thread(terminal.shows, "agree? [y/N] ")
            fingerprint = (await desk.rpc("status"))["fingerprint"]
            assert f"desk ({fingerprint[:8]}, at 127.0.0.1:" in question
            assert f"desk wants to read {two.shared}" in question
            terminal.type("y\n")
            await asyncio.to_thread(terminal.shows, f"paired with desk ({fingerprint})")
            await asyncio.to_thread(terminal.shows, f"desk may read {two.shared}")
            assert await asyncio.to_thread(terminal.process.wait) == 0
        out, errors = await asked.communicate()
        assert asked.returncode == 0, errors
        assert f"this machine may read {two.shared} on pi" in out.decode()
        far = f"/n/pi{two.shared}/hello"
        assert await desk.read(far) == b"hello\n"
        consents = [line for line in two.pi.log.splitlines() if "said yes to desk" in line]
        assert len(consents) == 1
        assert f"asks for: read:{two.shared}" in consents[0]
        assert "without being asked" not in consents[0]
        # Taking it back ends what is open, and dropping ends the link, at once.
        file = await desk.open(far)
        await pi.rpc("revoke", peer="desk", grant=f"read:{two.shared}")
        await refused(file.read_all(), E.REVOKED)
        file.close()
        assert (await pi.rpc("drop", peer="desk"))["told"]

        async def away() -> bool:
            return not (await desk.rpc("peers"))[0]["connected"]

        await until(desk, away)


def _code_at(terminal: Terminal) -> list[str]:
    """Code and address, as a terminal shows them, below the QR code."""
    assert "█" in terminal.shows("code: ")
    code = terminal.shows("\n").strip()
    terminal.shows("  cognu pair - ")
    return [code, terminal.shows("\n").strip()]


async def test_a_no_pairs_nobody_and_an_empty_line_is_a_no_whatever_was_typed_before(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk, two.pi.client() as pi:
        with at_terminal(two.pi, "pair") as terminal:
            code = await asyncio.to_thread(_code_at, terminal)
            terminal.type("y\ny")
            asked = await two.desk.begin("pair", "--ask", "net", *code)
            await asyncio.to_thread(terminal.shows, "agree? [y/N] ")
            terminal.type("\n")
            await asyncio.to_thread(terminal.shows, "not paired: what was asked for was not agreed to here")
            assert await asyncio.to_thread(terminal.process.wait) == 1
        _, errors = await asked.communicate()
        assert b"what was asked for was not agreed to" in errors
        assert asked.returncode == 1
        assert await desk.rpc("peers") == await pi.rpc("peers") == []
        assert [line for line in two.pi.log.splitlines() if "said no to desk" in line]


@pytest.mark.long
async def test_without_a_terminal_nobody_agrees_but_by_yes(place: Path) -> None:
    async with pair(place) as two:
        for words, status in (((), 1), (("--yes",), 0)):
            showing = await two.pi.begin("pair", "--json", *words)
            event = await shown(showing)
            typed = await two.desk.command("pair", "--ask", "net", str(event["code"]), event["addresses"][0])  # type: ignore[index]
            _, errors = await showing.communicate()
            assert (typed.status, showing.returncode) == (status, status), (typed, errors)
            assert (b"at a terminal, or says --yes" in errors) is bool(status)
        assert [line for line in two.pi.log.splitlines() if "said yes, without being asked to desk" in line]


@pytest.mark.long
@pytest.mark.parametrize("who", ["shows", "types"])
async def test_ctrl_c_on_either_side_ends_both(place: Path, who: str) -> None:
    async with pair(place) as two, two.desk.client() as desk:
        with at_terminal(two.pi, "pair") as terminal:
            code = await asyncio.to_thread(_code_at, terminal)
            asked = await two.desk.begin("pair", "--ask", "net", *code)
            await asyncio.to_thread(terminal.shows, "agree? [y/N] ")
            if who == "shows":
                terminal.interrupt()
                await asyncio.to_thread(terminal.shows, "pairing was given up, and desk was told so")
            else:
                asked.send_signal(signal.SIGINT)
                await asyncio.to_thread(terminal.shows, "not paired: it was given up there")
            assert await asyncio.to_thread(terminal.process.wait) == (130 if who == "shows" else 1)
        _, errors = await asked.communicate()
        assert asked.returncode == (1 if who == "shows" else 130)
        assert (b"it was given up there" if who == "shows" else b"pairing was given up, and ") in errors
        assert await desk.rpc("peers") == []


@pytest.mark.long
async def test_a_command_that_dies_is_as_good_as_one_that_gives_up(place: Path) -> None:
    async with pair(place) as two:
        showing = await two.pi.begin("pair", "--json")
        event = await shown(showing)
        showing.kill()
        await showing.wait()
        while True:  # the node hears of it a moment later
            again = await two.pi.begin("pair", "--json")
            assert again.stdout is not None
            if said := await again.stdout.readline():
                break
            assert b"a code is shown already" in (await again.communicate())[1]
        assert json.loads(said)["code"] != event["code"]
        again.send_signal(signal.SIGINT)
        assert await again.wait() == 130


async def test_what_is_typed_wrongly_is_said_before_anything_is_tried(place: Path) -> None:
    async with pair(place) as two:
        for words, said in (
            (("12",), "a code is 10 digits"),
            (("27-4831-9052", "pi"), "HOST:PORT"),
            (("cognu-pair:x",), "the text of the QR code is damaged"),
            (("cognu-afke",), "that is a ticket: cognu join TICKET"),
            (("--grant", "all"), "read:PATH, write:PATH, net, net:listen[=PORTS], run, cmd:NAME"),
            (("--ask", "all"), "read:PATH, write:PATH, net, net:listen[=PORTS], run, cmd:NAME"),
        ):
            ended = await two.pi.command("pair", *words)
            assert ended.status in (1, 2)
            assert re.search(re.escape(said), ended.errors.decode())
        joined = await two.pi.command("join", "cognu-pair:2748319052@127.0.0.1:9")
        assert b"not paired: the machine there shows no such code, or no longer (127.0.0.1:9" in joined.errors
