"""A pytest plugin: `network`, hosts of network namespaces. Without these a test is skipped, and fails in CI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache

import pytest

from hosts.network import Network, emulated, seed, unable
from sessions import short_place

_why_not = cache(unable)


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    """Hosts `desk`, `pi` and `lap`; no node runs yet."""
    if reason := _why_not():
        pytest.skip(reason)
    with short_place() as place:
        async with emulated(place, seed()) as made:
            yield made
