"""What the documents say, done: the tutorial is executed, and the lists of commands are complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognu.cli.main import VERBS
from cognu.node.grants import USAGE
from cognu.shell.commands import COMMANDS

ROOT = Path(__file__).parents[2]
END = "== end of the block =="


def blocks(page: str) -> list[tuple[str, str]]:
    """Each block of commands of a page, and what it must print."""
    found: list[tuple[str, str]] = []
    for kind, text in re.findall(r"^```(sh|text)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if kind == "sh":
            found.append((text, ""))
        else:
            commands, before = found.pop()
            assert not before
            found.append((commands, text))
    return found


@pytest.fixture
def user() -> Iterator[dict[str, str]]:
    """The environment of somebody with an empty home; the nodes that the tutorial starts are stopped in the end."""
    home = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    programs = str(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COGNU")}
    yield {**kept, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "VENV": str(Path(programs).parent)}
    for node in ("desk", "pi"):
        subprocess.run([f"{programs}/cognu", "--home", str(home / node), "down"], capture_output=True)
    shutil.rmtree(home)


@pytest.mark.long
@pytest.mark.timeout(360)
def test_the_tutorial_does_what_it_says(user: dict[str, str]) -> None:
    steps = blocks((ROOT / "docs/tutorial.md").read_text())
    assert len(steps) > 10
    script = "set -eu\n" + "".join(f"{commands}echo '{END}'\n" for commands, _ in steps)
    # What a node says when it starts or ends goes to the errors, and is not what a step prints.
    script = script.replace("cognu --home ~/desk up", "cognu --home ~/desk up 2>>started")
    script = script.replace("cognu --home ~/pi up", "cognu --home ~/pi up 2>>started")
    ran = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=user, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    printed = ran.stdout.split(f"{END}\n")
    for (commands, wanted), got in zip(steps, printed, strict=False):
        assert got == wanted, commands
    assert (ran.returncode, printed[len(steps) :]) == (0, [""])


def test_every_verb_is_in_the_list_of_commands() -> None:
    host, shell = (ROOT / "docs/commands.md").read_text().split("## The shell")
    named = set(re.findall(r"(?<=`)[a-z0-9]+(?=[ `,])", host))
    assert set(VERBS) <= named
    for command in COMMANDS.values():
        assert f"| `{command.usage}` | {command.summary} |" in shell.replace("\\|", "|"), command.name
    assert shell.count("\n| `") == len(COMMANDS)


def test_every_grant_is_in_the_list_of_commands() -> None:
    page = (ROOT / "docs/commands.md").read_text()
    for grant in USAGE.split(", "):
        assert f"| `{grant}` |" in page


def test_the_demo_on_paper_has_the_ten_steps_of_the_demo() -> None:
    import demo

    page = (ROOT / "docs/demo.md").read_text()
    headings = [f"{number}. {step.__doc__}" for number, step in enumerate(demo.STEPS, 1)]
    assert re.findall(r"^\d+\. .*", page, re.MULTILINE) == headings
    assert "10 of 10 steps checked out" in page
