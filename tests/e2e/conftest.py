"""A directory for nodes: outside of /tmp, where each node has its own, and with a name short enough for sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions import short_place


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as path:
        yield path
