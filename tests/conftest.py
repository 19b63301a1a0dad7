"""What holds for every test: no task is left behind, nothing is skipped in CI, Hypothesis has no deadlines.

Of an asynchronous test that was ended in its midst, as a hanging one is, it is told where its tasks waited; the stack
that pytest-timeout shows is that of its loop, which always waits at the same place.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Generator, Mapping

import pytest
import uvloop
from hypothesis import settings

pytest_plugins = ["no_skips", "hosts.fixtures"]

# A deadline is a timed assertion; on a busy machine it fails for no fault of the code. Each run tries other examples,
# and now and then finds a fault that was there all along; but where a change is judged, the same ones go for all.
settings.register_profile("cognu", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("cognu")

LOOP = pytest.StashKey[asyncio.AbstractEventLoop]()
"""What an asynchronous test runs on."""
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


_module = ""


def pytest_runtest_logstart(nodeid: str) -> None:
    """So does what a module of tests kept for all of its own, as the parsed source: nothing of a test is about now."""
    global _module
    module = nodeid.partition("::")[0]
    if module != _module:
        _module = module
        gc.collect()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    # A collection in the midst of parsing the source that a traceback shows can be a SystemError in CPython 3.11 (see
    # its issue 106905), and that ends pytest, or a worker of it without a word.
    gc.disable()
    try:
        report = yield
    finally:
        gc.enable()
    loop = item.stash.get(LOOP, None)
    if call.when == "call" and report.failed and loop is not None and not loop.is_closed():
        waiting = [_where(task) for task in asyncio.all_tasks(loop)]
        if waiting:
            report.sections.append(("Tasks that had not ended", "\n".join(waiting)))
    return report


def _where(task: asyncio.Task[object]) -> str:
    """A task's name, and the lines at which it and whatever it awaits wait, outermost first."""
    lines = [task.get_name()]
    at: object = task.get_coro()
    while at is not None:
        frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
        if frame is not None:
            lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None) or getattr(at, "ag_await", None)
    return "\n".join(lines)


@pytest.fixture
async def no_task_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fails a test that ends with tasks of its own still going."""
    request.node.stash[LOOP] = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    yield
    for _ in range(ROUNDS):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0)
    assert not left, "the test left tasks behind"
