"""Children that the node and the command start, from the directory that somebody happens to be in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cognu
from cognu.cli.probing import COMMAND
from cognu.node.launcher import SHELL_COMMAND
from cognu.runtime.runners import COMMAND as RUNNER
from cognu.world import Bounds
from cognu.world.real import real_world

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
        ("daemon.py", "-P"), ("launcher.py", "-IB"), ("piped.py", "-I"), ("probing.py", "-P"), ("runners.py", "-IB"),
    ]  # fmt: skip
    assert RUNNER[1] == "-IB"


async def test_a_child_with_narrow_bounds_leaves_no_bytecode_that_is_cut_off(tmp_path: Path) -> None:
    """A write behind RLIMIT_FSIZE is short, and importlib (3.11) puts what was written in place all the same."""
    package = tmp_path / "long"
    package.mkdir()
    (package / "__init__.py").write_text(f"VALUES = {list(range(1000, 6000))}\n")
    code = f"import os, sys; sys.path.insert(0, {str(tmp_path)!r}); os.read(0, 1); import long"
    child, stream = await real_world().spawn.start_joined([sys.executable, RUNNER[1], "-c", code], {}, "/")
    child.bound(Bounds(address_space=1 << 40, data=1 << 30, cpu=1000, file_size=1000, open_files=16))
    await stream.write(b"x")
    assert await child.wait() == 0
    stream.close()
    assert list(package.rglob("*.pyc")) == []
