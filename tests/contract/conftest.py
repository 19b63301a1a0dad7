"""The servers that a test of the contract is run on: all, or those that know of what it is about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.servers import SERVERS
from serving import Client


@pytest.fixture(params=SERVERS)
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    async for made in SERVERS[request.param](tmp_path):
        yield made


@pytest.fixture(params=["ram", "host", "far", "foreseen", "in part"])
async def linux(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    async for made in SERVERS[request.param](tmp_path):
        yield made


@pytest.fixture(params=["ram", "host", "in part"])
async def local(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    """For what 9P has no words for, or says with another error."""
    async for made in SERVERS[request.param](tmp_path):
        yield made
