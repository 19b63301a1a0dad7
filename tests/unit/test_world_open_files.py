"""The limit of open files is raised as far as the host lets it, in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from cognu.world.open_files import MOST, within_reach

NONE = resource.RLIM_INFINITY
SCRIPT = """
import resource
from cognu.world.open_files import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "had"),
    [(256, 1024, 1024), (1024, NONE, MOST), (1024, 1 << 20, MOST), (1 << 20, 1 << 20, 1 << 20), (NONE, NONE, MOST)],
)
def test_as_many_as_the_host_lets_one_have_within_reason(soft: int, hard: int, had: int) -> None:
    assert within_reach(soft, hard) == had


@pytest.mark.parametrize(("soft", "hard"), [(64, 200), (200, 200)])
def test_a_process_raises_its_own_and_leaves_the_hard_one(soft: int, hard: int) -> None:
    said = subprocess.run([sys.executable, "-c", SCRIPT.format(soft=soft, hard=hard)], capture_output=True, check=True)
    assert said.stdout.split() == [b"200", b"200", b"200"]
