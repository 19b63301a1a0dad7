"""The compiled build passes the tests that the source passes, and is what ran."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts import compiling

TOP = Path(__file__).parents[2]
TESTS = (
    "tests/unit/test_plain.py", "tests/unit/test_ninep_server.py", "tests/unit/test_ninep_races.py",
    "tests/unit/test_devices_host.py", "tests/unit/test_devices_host_hops.py", "tests/unit/test_world_host_tree.py",
    "tests/unit/test_dispatch.py", "tests/unit/test_shown_grants.py", "tests/unit/test_export_mount.py",
    "tests/unit/test_export_wire.py",
    "tests/contract/test_file_servers.py", "tests/contract/test_file_servers_changes.py",
    "tests/e2e/test_permissions.py",
)  # fmt: skip
"""What uses most of what is compiled, and one with nodes as processes of their own."""
SECONDS = 300


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory with a copy of the package, compiled."""
    directory = tmp_path_factory.mktemp("package")
    shutil.copytree(compiling.SOURCE, directory / "cognu", ignore=shutil.ignore_patterns("_compiled", "__pycache__"))
    compiling.build(directory / "cognu", directory / "cognu" / "_compiled")
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
    told = python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not interop and not long", *TESTS)
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
