"""Grants of programs as a user meets them: asked for at a terminal, kept, taken back; told where there is none."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognu.errors import E
from cognu.shell.wants import CHOICES
from e2e.test_cli import LOOPBACK, Machine

POLICY = Path(__file__).parents[2] / "docs" / "default.policy"
ABSENT = "No such file or directory"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Desk, and pi, which lets it run programs."""
    place = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    desk, pi = (Machine(place, name) for name in ("desk", "pi"))
    for machine in (desk, pi):
        assert machine.run("up", "--name", machine.name, *LOOPBACK).returncode == 0
    desk.says("join", pi.asks("invite", "--grant", "run")["ticket"])
    desk.add("show", "files", "wc")
    yield desk, pi
    for machine in (desk, pi):
        machine.stop()
    shutil.rmtree(place)


@pytest.fixture
def desk(machines: tuple[Machine, Machine]) -> Iterator[Machine]:
    """Nothing is kept from one test to the next."""
    desk, _ = machines
    (desk.work / "secret").write_text("of desk\n")
    yield desk
    for program in desk.asks("grants", "list")["programs"]:
        desk.says("grants", "revoke", program["program"])


def test_without_a_terminal_what_was_missing_is_told_with_the_flag_that_grants_it(desk: Machine) -> None:
    secret = desk.work / "secret"
    done = desk.run("run", "show.wasm", "--file=secret")
    told = f"show.wasm: {secret}: {E.NOTGIVEN.text}: run --grant {secret}:r\n"
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"show: secret: {ABSENT}\n{told}"
    assert desk.says("run", "--grant", f"{secret}:r", "show.wasm", "--file=secret") == "of desk\n"
    done = desk.run("run", "show.wasm", "--file=nothing")
    assert done.stderr.decode() == f"show: nothing: {ABSENT}\n"  # it is not there for the user either
    # What goes to another program is no word to the user.
    assert desk.run("sh", "-c", "./show.wasm --file=secret 2>&1 | wc -l").stdout.split() == [b"1"]


@pytest.mark.parametrize("path", ["secret", "{work}/secret"])
@pytest.mark.parametrize("on", [(), ("--on", "pi"), ("--isolate",)])
def test_at_a_terminal_the_program_waits_for_the_answer(desk: Machine, path: str, on: tuple[str, ...]) -> None:
    words = ("run", *on, "show.wasm", f"--file={path.format(work=desk.work)}")
    with desk.terminal(*words) as user:
        user.shows(f"wants to read {desk.work}/secret", CHOICES)
        user.type("once\n")
        user.shows("of desk\n")
        assert user.ends() == 0
    with desk.terminal(*words) as user:
        user.shows(CHOICES)
        user.type("\n")
        user.shows(ABSENT)
        assert user.ends() == 1
    assert desk.asks("grants", "list")["programs"] == []


@pytest.mark.long
def test_in_a_shell_on_another_machine_too_what_was_typed_before_the_question_is_no_answer(desk: Machine) -> None:
    with desk.terminal("cpu", "pi") as user:
        user.shows("% ")
        user.type("echo be''gun; run show.wasm --file=secret\n")
        user.shows("begun\n")  # from here on lines are typed, and the program is not there yet
        user.type("always\nalw")
        user.shows("wants to read", CHOICES)
        user.type("\n")
        user.shows(ABSENT, "% ")
        user.type("exit\n")
        assert user.ends() == 1


@pytest.mark.parametrize("command", ["run show.wasm --file=secret", "sh"])
def test_a_program_on_a_terminal_holds_its_streams_and_the_default_policy_allows_them(
    desk: Machine, command: str
) -> None:
    with desk.terminal(*command.split()) as user:
        if command == "sh":
            user.shows("cognu% ")
            user.type("./show.wasm --file=secret\n")
        user.shows(CHOICES)
        rows = desk.asks("caps")["capabilities"]
        origins = {use["origin"] for row in rows if row["holder"]["kind"] == "program" for use in row["uses"]}
        assert any(origin.startswith("#M/fd/") for origin in origins)
        assert desk.says("caps", "check", str(POLICY)) == ""
        user.type("\n" if command != "sh" else "\nexit\n")
        user.ends()


def test_always_is_kept_by_the_programs_hash_and_never_refuses_without_asking(desk: Machine) -> None:
    secret = f"{desk.work}/secret"
    with desk.terminal("run", "show.wasm", "--file=secret") as user:
        user.shows(CHOICES)
        user.type("always\n")
        user.shows("of desk\n")
        assert user.ends() == 0
    assert desk.says("run", "show.wasm", f"--file={secret}") == "of desk\n"
    assert desk.says("run", "--on", "pi", "show.wasm", f"--file={secret}") == "of desk\n"
    assert f"program  show.wasm  {secret}:r\n" in desk.says("grants", "list")
    changed = desk.work / "changed.wasm"
    changed.write_bytes((desk.work / "show.wasm").read_bytes() + b"\0\x02\x01x")  # a custom section
    assert desk.run("run", "changed.wasm", f"--file={secret}").returncode == 1

    desk.says("grants", "revoke", "show.wasm")
    with desk.terminal("sh") as user:
        user.shows("cognu% ")
        user.type("./show.wasm --file=secret\n")
        user.shows(CHOICES)
        user.type("never\n")
        user.shows(ABSENT)
        user.shows("cognu% ")
        user.type("./show.wasm --file=secret; echo over\n")
        before = user.shows("\nover\n")
        assert ABSENT in before
        assert CHOICES not in before
    kept = desk.asks("grants", "list")["programs"]
    assert [(row["name"], row["allow"], row["never"]) for row in kept] == [("show.wasm", [], [f"{secret}:r"])]
    how = f"grants revoke show.wasm {secret}:r"
    told = f"show.wasm: {secret}: {E.NOTGIVEN.text}: that is kept as never; {how} takes that back\n"
    for isolated in ((), ("--isolate",), ("--on", "pi")):
        done = desk.run("run", *isolated, "show.wasm", "--file=secret")
        assert (done.returncode, done.stderr.decode()) == (1, f"show: secret: {ABSENT}\n{told}")
        for granted in (f"{secret}:rw", str(desk.work)):
            done = desk.run("run", *isolated, "--grant", granted, "show.wasm", "--file=secret")
            assert done.returncode == 126
            assert f"{E.CONFLICT.text}: this node keeps: never {secret}:r, of show.wasm; {how}" in done.stderr.decode()
    desk.says(*how.split())
    assert desk.says("run", "--grant", secret, "show.wasm", "--file=secret") == "of desk\n"


def test_what_steers_the_node_is_no_question_whatever_it_is_bound_as(desk: Machine) -> None:
    with desk.terminal("sh") as user:
        user.shows("cognu% ")
        user.type("bind /mnt/node /srv; ./show.wasm --file=/srv/status; echo over\n")
        before = user.shows("\nover\n")
        assert ABSENT in before
        assert CHOICES not in before
        assert f"/srv/status: {E.NOTGIVEN.text}: run --grant /srv/status:r" in before


def test_grants_are_set_for_a_file_a_hash_and_a_name_and_contradictions_refused(desk: Machine) -> None:
    secret = f"{desk.work}/secret"
    made = desk.asks("grants", "set", "show.wasm", "secret", "net")
    assert (made["name"], made["allow"], made["never"]) == ("show.wasm", ["net", f"{secret}:r"], [])
    assert desk.says("run", "show.wasm", "--file=secret") == "of desk\n"
    assert desk.asks("grants", "set", made["program"], f"{desk.work}:rw")["allow"][-1] == f"{secret}:r"
    desk.refuses(1, E.CONFLICT, "grants", "set", "--never", "show.wasm", f"{desk.work}/inner:w")
    desk.refuses(1, E.NOPEER, "grants", "set", "nothing", "/x")
    desk.refuses(1, E.NOGRANT, "grants", "revoke", "show.wasm", "/x")
    desk.refuses(1, E.NOGRANT, "grants", "revoke", "wc.wasm")
    desk.refuses(2, E.USAGE, "grants", "set", "--never", "pi", "net")
    desk.refuses(2, E.USAGE, "grants", "revoke", "pi")
    assert "may: net" in desk.says("grants", "set", "pi", "net")
    desk.says("grants", "revoke", "pi", "net")
    rules = desk.work / "rules"
    rules.write_text(f"allow {secret} r\n")
    desk.says("grants", "revoke", made["program"])
    assert desk.says("run", "--grants", "rules", "show.wasm", "--file=secret") == "of desk\n"
    rules.write_text("fly\n")
    desk.refuses(2, E.USAGE, "run", "--grants", "rules", "show.wasm")


@pytest.mark.parametrize("how", [(), ("--isolate",)])
def test_a_grant_taken_back_is_gone_for_a_program_that_runs(desk: Machine, how: tuple[str, ...]) -> None:
    """The program waits for a question; meanwhile what it has is taken away."""
    desk.add("wants")
    secret = f"{desk.work}/secret"
    (desk.work / "other").write_text("other\n")
    desk.says("grants", "set", "wants.wasm", secret)
    with desk.terminal("run", *how, "wants.wasm", "r", f"@{secret}", "s", "@other", "r", f"@{secret}") as user:
        user.shows("r: of desk\n")
        user.shows(CHOICES)
        desk.says("grants", "revoke", "wants.wasm", secret)
        user.type("once\n")
        user.shows("s: ok\n", f"wants to read {secret}", CHOICES)
        user.type("\n")
        user.shows(f"r: {ABSENT}")
        assert user.ends() == 0


def test_the_grants_of_programs_are_the_owners_alone_and_damage_is_told(desk: Machine) -> None:
    desk.says("grants", "set", "show.wasm", "secret")
    kept = desk.home / "grants"
    assert kept.stat().st_mode & 0o777 == 0o600
    text = kept.read_text()
    desk.says("down")
    kept.write_text("fly\n")
    done = desk.run("up")
    assert done.returncode == 1
    assert E.DAMAGED.text in done.stderr.decode()
    assert kept.read_text() == "fly\n"
    kept.write_text(text)
    assert desk.run("up").returncode == 0
    assert desk.says("run", "show.wasm", "--file=secret") == "of desk\n"


def test_the_network_is_asked_for_as_a_whole(desk: Machine) -> None:
    desk.add("wants")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        line = f"connect 127.0.0.1!{listening.getsockname()[1]}"
        words = ("run", "wants.wasm", "c", "@/net/tcp/clone", line)
        with desk.terminal(*words) as user:
            user.shows("wants.wasm wants to use the network (/net), which it was not granted", CHOICES)
            user.type("o\n")
            connected, _ = listening.accept()
            connected.close()
            user.shows("c: ")
            assert user.ends() == 0
        done = desk.run(*words)
        assert done.stdout.decode() == f"c: {ABSENT}\n"
        assert done.returncode == 0
        desk.says("grants", "set", "wants.wasm", "net")
        assert desk.says(*words).startswith("c: ")
        listening.accept()[0].close()


def test_the_answer_is_not_taken_by_a_program_that_looks_at_the_terminal(desk: Machine) -> None:
    """It has asked for what is typed, and not waited for it; then it wants a file; then it reads the terminal."""
    desk.add("wants")
    with desk.terminal("run", "wants.wasm", "p", "-", "r", "@secret", "i", "-") as user:
        user.shows("p: ok\n", CHOICES)
        user.type("once\n")
        user.shows("r: of desk\n")
        user.type("for the program\n")
        user.shows("i: for the program\n")
        assert user.ends() == 0


def test_in_a_far_shell_its_own_user_is_asked_and_nothing_is_kept_over_there(
    machines: tuple[Machine, Machine], desk: Machine
) -> None:
    _, pi = machines
    with desk.terminal("cpu", "pi") as user:
        user.shows("pi% ")
        user.type("./show.wasm --file=secret\n")
        user.shows(f"wants to read /mnt/term{desk.work}/secret", CHOICES)
        user.type("always\n")
        user.shows(E.NOTKEPT.text, "of desk\n", "pi% ")
        user.type("exit\n")
        assert user.ends() == 0
    for machine in (desk, pi):
        assert machine.asks("grants", "list")["programs"] == []
