"""A directory for nodes: outside of /tmp, where each node has its own, and with a name short enough for sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    yield path
    shutil.rmtree(path)
