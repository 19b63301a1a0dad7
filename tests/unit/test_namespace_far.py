"""The recorded namespace scripts over 9P: a namespace of far trees gives what one of near trees gives."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cognu.files.server import FileServer
from cognu.files.steps import Steps, finish
from cognu.ninep.messages import Dialect
from joined import CountingServer, joined
from memfs import MemServer
from script import Result, Runner

DATA = json.loads((pathlib.Path(__file__).parents[1] / "data" / "namespace" / "vectors.json").read_text())
CHOSEN = [vector for vector in DATA["vectors"] if vector["seed"] is None or vector["seed"] % 9 == 0]
"""All named scripts and some of the random ones."""


class FarScripts:
    """Runs scripts on servers near or far, with a loop that runs while an operation does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stack: AsyncExitStack, dialect: Dialect) -> None:
        self.loop = loop
        self.stack = stack
        self.dialect = dialect
        self.exported: list[CountingServer] = []

    def complete(self, steps: Steps[Any]) -> Any:
        return self.loop.run_until_complete(finish(steps))

    def reach(self, server: MemServer) -> FileServer:
        """The same tree from afar."""
        counting = CountingServer(server.spec)
        counting.root = server.root
        self.exported.append(counting)
        ends = self.loop.run_until_complete(self.stack.enter_async_context(joined(self.dialect, server=counting)))
        return ends.mount


@pytest.fixture(params=[Dialect.LEGACY, Dialect.L], ids=["9P2000", "9P2000.L"])
def far(request: pytest.FixtureRequest) -> Iterator[FarScripts]:
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    try:
        yield FarScripts(loop, stack, request.param)
    finally:
        loop.run_until_complete(stack.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def results(runner: Runner, operations: list[list[str]]) -> list[Result]:
    return [runner.run(operation) for operation in operations]


@pytest.mark.parametrize("vector", CHOSEN, ids=[vector["name"] for vector in CHOSEN])
def test_far_trees_behave_like_near_ones(far: FarScripts, vector: dict[str, Any]) -> None:
    near = results(Runner(DATA["setup"]), vector["ops"])
    runner = Runner(DATA["setup"], far.complete, far.reach)
    assert results(runner, vector["ops"]) == [as_seen(far.dialect, result) for result in near]


def as_seen(dialect: Dialect, result: Result) -> Result:
    """9P2000.L's attributes have no name in them, so a root has none there."""
    match result:
        case {"ok": ["memfs", kind, length]} if dialect is Dialect.L:
            return {"ok": ["/", kind, length]}
    return result
