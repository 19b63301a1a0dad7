"""Both ends of 9P under atheris (github.com/google/atheris), which looks for bytes that lead where none led before."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOP = HERE.parents[1]
PYTHON = TOP / ".cache/interop/venv/bin/python"
"""Where scripts/peers puts atheris; what else is needed comes from the environment of this test."""
SHORT, LONG = 20, 1800
"""Seconds of looking, at most."""
FEW = 4000
"""Runs of a short one: the same each time, so that what it finds is there to be found again."""
TARGETS = ("server", "client", "caller", "called")
RUNS = [pytest.param(target, SHORT, marks=pytest.mark.interop, id=target) for target in TARGETS] + [
    pytest.param(target, LONG, marks=pytest.mark.soak, id=f"{target}-long") for target in TARGETS
]


@pytest.mark.timeout(2 * LONG)
@pytest.mark.parametrize(("target", "seconds"), RUNS)
def test_no_bytes_break_it(target: str, seconds: int, tmp_path: Path) -> None:
    assert PYTHON.exists(), "atheris is not here; make interop installs it"
    (tmp_path / "corpus").mkdir()
    paths = (TOP / "src", TOP / "tests", sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    # In their own time and memory; the choice of bytes begins the same each time.
    runs_most = FEW if seconds == SHORT else -1
    options = (
        f"-max_total_time={seconds}",
        f"-runs={runs_most}",
        "-max_len=4096",
        "-timeout=60",
        "-rss_limit_mb=2048",
        "-seed=1",
    )
    done = subprocess.run(
        [PYTHON, HERE / "fuzz_ninep.py", target, *options, "-verbosity=0", "-print_final_stats=1", "corpus"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + 300,
    )  # fmt: skip
    kept = [f"{path.name}: {path.read_bytes().hex()}" for path in tmp_path.glob("*-*") if path.is_file()]
    assert (done.returncode, kept) == (0, []), done.stdout
    (runs,) = (int(line.split()[-1]) for line in done.stdout.splitlines() if "number_of_executed_units" in line)
    assert runs > 100, done.stdout
