"""The compiled build passes the tests that the source passes, and is what ran."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from scripts import compiling

TOP = Path(__file__).parents[2]
TESTS = (
    "unit/test_admitted.py", "unit/test_devices_host*.py", "unit/test_dialect*.py", "unit/test_dispatch.py",
    "unit/test_export_*.py", "unit/test_files_*.py", "unit/test_handing.py", "unit/test_host_watching.py",
    "unit/test_hostile_peers.py", "unit/test_locks.py", "unit/test_mesh_imports.py", "unit/test_mount_*.py",
    "unit/test_ninep_*.py", "unit/test_outcomes.py", "unit/test_plain*.py", "unit/test_readonly.py",
    "unit/test_revocation*.py", "unit/test_shown*.py", "unit/test_steps.py", "unit/test_watching*.py",
    "unit/test_world_host_tree.py", "contract/test_file_servers*.py", "e2e/test_permissions.py",
)  # fmt: skip
"""What uses what is compiled, hostile peers and revocation among it, and one with nodes as processes of their own."""
LOOKS_INSIDE = (
    "unit/test_hostile_peers.py::test_the_hostile_client_is_answered_by_the_short_way_too",
    "unit/test_watching.py::test_what_was_answered_when_a_new_version_came_is_of_no_call_of_the_new_session",
)
"""They replace a method, which compiled classes do not have done to them; the source's run has them."""
SECONDS = 300


def wheel(directory: Path, **variables: str) -> tuple[Path, str]:
    """A wheel as pip builds it, with what its build needs from the registry, and what that said."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--wheel-dir", str(directory), str(TOP)],
        env={**os.environ, "COGNU_COMPILE": "1", **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout[-6000:]
    [built] = directory.glob("*.whl")
    return built, told.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory with what a compiled wheel holds."""
    directory = tmp_path_factory.mktemp("package")
    built, _ = wheel(directory)
    assert not built.name.endswith("-py3-none-any.whl")
    with ZipFile(built) as archive:
        archive.extractall(directory)
    yield directory
    shutil.rmtree(directory)


def python(package: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python, to which the package is the one in that directory."""
    environment = {**os.environ, "PYTHONPATH": str(package), **variables}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(
        [sys.executable, *words], cwd=TOP, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )


LOADED = f"""
import json, sys, cognu, {", ".join(compiling.MODULES)}
print(json.dumps([cognu.compiled.STATE.said, *(sys.modules[name].__file__ for name in {compiling.MODULES!r})]))
"""


@pytest.mark.interop
@pytest.mark.timeout(2 * SECONDS)
def test_what_is_compiled_passes_the_same_tests(package: Path) -> None:
    said, *files = json.loads(python(package, "-c", LOADED).stdout)
    assert said == f"compiled, {len(compiling.MODULES)} modules"
    assert all(file.startswith(str(package / "cognu" / "_compiled")) and file.endswith(".so") for file in files)
    tests = sorted(str(file) for pattern in TESTS for file in (TOP / "tests").glob(pattern))
    assert len(tests) > len(TESTS)
    told = python(
        package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not interop and not long and not soak",
        *(f"--deselect=tests/{test}" for test in LOOKS_INSIDE), *tests,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout[-6000:]
    version = python(package, "-c", "from cognu.cli.main import main; main()", "--version").stdout
    assert version.endswith(f"({said})\n")


@pytest.mark.interop
@pytest.mark.timeout(2 * SECONDS)
def test_the_source_runs_if_asked_for_or_changed_since(package: Path) -> None:
    said, *files = json.loads(python(package, "-c", LOADED, COGNU_PURE="1").stdout)
    assert said == "Python, as COGNU_PURE says"
    assert all(file.endswith(".py") for file in files)
    constant = package / "cognu" / "kernel" / "state.py"
    before = constant.read_bytes()
    constant.write_bytes(before + b"\n")
    try:
        said, *files = json.loads(python(package, "-c", LOADED).stdout)
    finally:
        constant.write_bytes(before)
    assert said == "Python: kernel/state.py is not what was compiled"
    assert all(file.endswith(".py") for file in files)


@pytest.mark.interop
@pytest.mark.timeout(SECONDS)
def test_without_a_compiler_the_wheel_has_the_source_and_its_build_says_so(tmp_path: Path) -> None:
    built, said = wheel(tmp_path, CC="no-such-compiler")
    assert built.name.endswith("-py3-none-any.whl")
    assert "could not be compiled: there is no C compiler" in said
    with ZipFile(built) as archive:
        assert not [name for name in archive.namelist() if "_compiled" in name]
