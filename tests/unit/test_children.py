"""Children that the node and the command start, from the directory that somebody happens to be in."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import cognu
from cognu.cli.probing import COMMAND
from cognu.node.launcher import SHELL_COMMAND
from cognu.runtime.runners import COMMAND as RUNNER

SOURCE = Path(cognu.__file__).parent


@pytest.mark.parametrize("command", [SHELL_COMMAND, (*COMMAND[:-1], "cognu.node")])
def test_no_module_is_taken_from_the_directory_that_a_child_begins_in(command: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("json", "asyncio", "click", "cognu"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)")
    done = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_python_that_is_started_looks_for_modules_where_it_is_installed() -> None:
    started = [
        (path.name, flag)
        for path in SOURCE.rglob("*.py")
        for flag in re.findall(r'[\[(]sys\.executable, "(-\w+)"', path.read_text())
    ]
    assert sorted(started) == [
        ("daemon.py", "-P"), ("launcher.py", "-I"), ("probing.py", "-P"), ("runners.py", "-I")
    ]  # fmt: skip
    assert RUNNER[1] == "-I"
