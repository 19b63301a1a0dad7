"""`cognu doctor` on homes and nodes that are well, and on such as are not."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from cognu.errors import E
from e2e.harness import LOOPBACK, NodeProcess, end, pair


async def doctor(node: NodeProcess, status: int) -> dict[str, tuple[str, str]]:
    """What it says of each check, by `area check`: level and text. Its exit status must be this."""
    ended = await node.command("doctor", "--json")
    assert (ended.status, ended.errors) == (status, b""), ended
    said: dict[str, Any] = json.loads(ended.output)
    problems = [row for row in said["findings"] if row["level"] == "problem"]
    assert said["problems"] == len(problems)
    assert all(row["remedy"] and row["means"] for row in problems)
    return {f"{row['area']} {row['check']}": (row["level"], row["found"]) for row in said["findings"]}


def contents(home: Path) -> dict[str, tuple[int, bytes]]:
    """Modes and bytes of all files of a home but the log, which a running node writes."""
    files = [path for path in home.rglob("*") if path.name != "log"]
    return {str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in files}


@pytest.fixture
async def made(place: Path) -> NodeProcess:
    """A home that a node made, with one object and a name; the node is down."""
    node = NodeProcess(place / "desk", "desk", *LOOPBACK)
    await node.start()
    try:
        async with node.client() as client:
            await client.put(b"something", "thing")
    finally:
        await end(node)
    return node


async def test_two_nodes_that_are_well_have_no_problem_and_nothing_changes(place: Path) -> None:
    async with pair(place, "read:{shared}", "net") as two:
        async with two.desk.client() as client:
            await client.list("/n/pi")
        before = contents(two.desk.home)
        said = await doctor(two.desk, 0)
        assert contents(two.desk.home) == before
        assert said["home lock"] == ("ok", f"held by the node, process {two.desk.pid}")
        assert said["node running"][1].startswith(f"process {two.desk.pid} answers, up ")
        assert said["home peers.json"] == ("ok", "1 machine")
        level, text = said["peers peer pi"]
        assert level == "ok"
        assert text.startswith("connected")
        assert f"we may there: read:{two.shared},net" in text
        shown = await two.desk.command("doctor")
        assert shown.status == 0
        assert b" 0 wrong\n" in shown.output


async def test_without_a_node_it_is_noted_how_to_start_one(place: Path) -> None:
    node = NodeProcess(place / "none", "none")
    said = await doctor(node, 0)
    assert said["node running"] == ("note", f"{node.home}: {E.NONODE.text}")
    assert said["home directory"][0] == "note"
    assert said["host programs"][0] == "ok"
    assert not node.home.exists()


async def test_a_node_that_is_down_is_noted_and_its_home_checked(made: NodeProcess) -> None:
    before = contents(made.home)
    said = await doctor(made, 0)
    assert contents(made.home) == before
    assert said["node running"][0] == "note"
    assert said["home lock"] == ("ok", "free")
    assert said["home objects"] == ("ok", "1 of 1 checked")
    assert said["home names"] == ("ok", "1")


async def test_modes_that_let_others_in_are_problems(made: NodeProcess) -> None:
    made.home.chmod(0o755)
    (made.home / "identity").chmod(0o644)
    ended = await made.command("doctor")
    assert ended.status == 1
    text = ended.output.decode()
    assert f"{made.home} is open to others: 0755" in text
    assert f"do: chmod 600 {made.home}/identity" in text
    assert stat.S_IMODE(made.home.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("file", "check"),
    [("peers.json", "peers.json"), ("settings.json", "settings"), ("identity", "identity"),
     ("invitations.json", "invitations"), ("grants", "grants")],
)  # fmt: skip
async def test_a_damaged_file_is_named(made: NodeProcess, file: str, check: str) -> None:
    path = made.home / file
    path.write_bytes(b'{"half": ')
    path.chmod(0o600)
    said = await doctor(made, 1)
    level, text = said[f"home {check}"]
    assert level == "problem"
    assert text.startswith(f"{path}: {E.DAMAGED.text}")
    assert path.read_bytes() == b'{"half": '


async def test_a_damaged_object_and_a_bad_name_are_named(made: NodeProcess) -> None:
    [path] = (made.home / "store" / "objects").glob("*/*")
    path.chmod(0o600)
    path.write_bytes(b"something else")
    (made.home / "store" / "names" / "other").write_text("no hash")
    said = await doctor(made, 1)
    assert said["home objects"] == ("problem", f"{path.name}: {E.BADHASH.text}")
    assert said["home names"][1].startswith("other: ")


async def test_a_line_of_the_namespace_that_is_none_is_named(made: NodeProcess) -> None:
    (made.home / "namespace").write_text("bind /a /b\nbind 'open /c\n")
    level, text = (await doctor(made, 1))["home namespace"]
    assert level == "problem"
    assert text.startswith("line 2 of ")


async def test_a_home_whose_socket_would_have_too_long_a_path(place: Path) -> None:
    node = NodeProcess(place / ("long" * 30), "long")
    level, text = (await doctor(node, 1))["host socket"]
    assert level == "problem"
    assert str(node.home) in text


async def test_a_lock_whose_holder_does_not_answer_is_a_problem(made: NodeProcess) -> None:
    lock = os.open(made.home / "lock", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        level, text = (await doctor(made, 1))["home lock"]
    finally:
        os.close(lock)
    assert level == "problem"
    assert f"process {os.getpid()}" in text


async def test_a_node_that_hangs_is_a_problem_and_does_not_hang_the_doctor(made: NodeProcess) -> None:
    await made.start()
    try:
        os.kill(made.pid, signal.SIGSTOP)
        said = await doctor(made, 1)
    finally:
        os.kill(made.pid, signal.SIGCONT)
        await end(made)
    level, text = said["node running"]
    assert level == "problem"
    assert text.startswith(f"{made.home}: {E.SILENT.text}: process {made.pid} says nothing")
    assert said["home lock"] == ("problem", f"process {made.pid} holds {made.home}/lock, but no node answers")


async def test_what_a_killed_node_left_is_noted(made: NodeProcess) -> None:
    await made.start()
    await made.signal(9)
    said = await doctor(made, 0)
    assert said["home lock"][0] == "note"
    assert said["node running"] == ("note", f"{made.home}: {E.NONODE.text}")


async def test_a_peer_that_is_down_is_a_problem_with_or_without_the_own_node(place: Path) -> None:
    async with pair(place, "net") as two:
        await end(two.pi)
        # Every address is tried again, so what matters is only that pi no longer listens.
        said = await doctor(two.desk, 1)
        assert said["peers peer pi"][0] == "problem"
        assert E.HOSTUNREACH.text in said["peers peer pi"][1]
        await end(two.desk)
        said = await doctor(two.desk, 1)
        assert said["peers peer pi"][0] == "problem"
        await two.pi.start()
        said = await doctor(two.desk, 0)
        assert said["peers peer pi"][0] == "note"


async def test_errors_in_the_log_are_counted(made: NodeProcess) -> None:
    row = {"time": 1 << 62, "level": "error", "logger": "x", "message": "the disk is on fire"}
    (made.home / "log").write_text(json.dumps(row) + "\n")
    level, text = (await doctor(made, 0))["node errors"]
    assert level == "note"
    assert text == "1 in the last hour; the last: the disk is on fire"


async def test_a_peer_that_hangs_does_not_answer_though_its_host_takes_the_call(place: Path) -> None:
    async with pair(place, "net") as two:
        await two.desk.stop()
        said = await doctor(two.desk, 0)
        assert said["peers peer pi"][0] == "note"
        assert "answers in" in said["peers peer pi"][1]
        os.kill(two.pi.pid, signal.SIGSTOP)
        try:
            said = await doctor(two.desk, 1)
        finally:
            os.kill(two.pi.pid, signal.SIGCONT)
        assert said["peers peer pi"][0] == "problem"
        assert said["peers peer pi"][1].startswith(f"away; {E.HOSTUNREACH.text}")
