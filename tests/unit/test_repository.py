"""The repository's own machinery: what conftest promises, and that documents and scripts agree with what there is."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

ROOT = Path(__file__).parents[2]
SKIPPING = """\
import pytest
def test_good(): pass
@pytest.mark.skip(reason="for a test")
def test_marked(): pass
def test_called(): pytest.skip("for a test")
@pytest.mark.xfail(strict=True, raises=ZeroDivisionError)
def test_expected(): 1 / 0
"""
WHOLE_MODULE = 'import pytest\npytest.skip("for a test", allow_module_level=True)\n'
LEAVING = """\
import asyncio
async def test_leaves_a_task():
    global task
    task = asyncio.create_task(asyncio.Event().wait())
async def test_cancels_its_task():
    asyncio.create_task(asyncio.Event().wait()).cancel()
"""


def run_pytest(directory: Path, text: str, **environment: str) -> str:
    """pytest's closing line for a module of tests under this suite's conftest."""
    (directory / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (directory / "test_it.py").write_text(text)
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "asyncio_mode=auto",
         "--rootdir", str(directory), str(directory)],
        cwd=directory, env={**kept, "PYTHONPATH": str(ROOT / "tests"), **environment}, capture_output=True, text=True,
    )  # fmt: skip
    return re.sub(r" in .*", "", ran.stdout.rstrip().splitlines()[-1].strip("= "))


def test_where_ci_is_set_a_skipped_test_has_failed(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, SKIPPING, CI="true") == "1 failed, 1 passed, 1 xfailed, 1 error"


def test_elsewhere_a_skipped_test_is_skipped(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, SKIPPING) == "1 passed, 2 skipped, 1 xfailed"


def test_where_ci_is_set_a_skipped_module_is_an_error(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, WHOLE_MODULE, CI="true") == "1 error"


def test_a_test_that_leaves_a_task_fails(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, LEAVING) == "2 passed, 1 error"


@pytest.mark.uvloop
async def test_a_test_marked_uvloop_runs_on_it() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


async def test_other_tests_run_on_asyncios_own_loop() -> None:
    assert not isinstance(asyncio.get_running_loop(), uvloop.Loop)


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").iterdir() if path.suffix != ".py"))
def test_scripts_are_shell_without_errors_of_syntax(script: str) -> None:
    checked = subprocess.run(["sh", "-n", str(ROOT / "scripts" / script)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_target_of_the_makefile_has_its_script() -> None:
    [line] = re.findall(r"^(demo .*):$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in line.split():
        assert os.access(ROOT / "scripts" / target, os.X_OK), target


def test_documents_link_to_what_exists() -> None:
    missing = []
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.name}: {target}")
    assert missing == []
