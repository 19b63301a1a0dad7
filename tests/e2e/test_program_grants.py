"""Grants of programs as a user meets them: asked for at a terminal, kept, taken back; told where there is none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognu.errors import E
from cognu.shell.wants import CHOICES
from e2e.test_cli import LOOPBACK, Machine

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
@pytest.mark.parametrize("on", [(), ("--on", "pi")])
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
