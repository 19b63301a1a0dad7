"""What holds for every test: no task is left behind, nothing is skipped in CI, Hypothesis has no deadlines."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

pytest_plugins = ["no_skips"]

# A deadline is a timed assertion; on a busy machine it fails for no fault of the code.
settings.register_profile("cognu", deadline=None, print_blob=True)
settings.load_profile("cognu")

ROUNDS = 10
"""Times round the loop in which tasks that were cancelled may still end."""


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """asyncio's own loop, or the node's for tests marked `uvloop`."""
    if item.get_closest_marker("uvloop"):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and asyncio.iscoroutinefunction(item.function):
            # First, so that it is torn down after what the test's own fixtures end.
            item.fixturenames.insert(0, "no_task_left")


def pytest_collection_finish() -> None:
    """What collecting the tests left in memory stays: tests that collect garbage need not look through it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fails a test that ends with tasks of its own still going."""
    before = asyncio.all_tasks()
    yield
    for _ in range(ROUNDS):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0)
    assert not left, "the test left tasks behind"
