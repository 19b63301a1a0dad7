"""A real node in this process, and shells' sessions with it over streams in memory."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from cognu.node.assembly import running
from cognu.node.node import Node
from cognu.node.sessions import Sessions
from cognu.node.settings import Home, Settings
from cognu.shell.session import NodeSession
from cognu.world.real import RealClock, real_world
from streams import MemoryStream, pair


@contextmanager
def short_place() -> Iterator[Path]:
    """A directory outside of /tmp, which every node has for itself, with a name short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    try:
        yield path
    finally:
        shutil.rmtree(path)


COLLECTIONS = 3
"""What a collection finds is closed at the next operation; from CPython 3.12 on, cycles through it go with the next."""
ROUNDS = 100
"""Questions to the node in which it must have answered every clunk."""


async def nothing_open(session: NodeSession) -> None:
    """No fid but the root's may be left."""
    for _ in range(COLLECTIONS):  # what pytest.raises caught keeps the frames it came through, in cycles
        gc.collect()
        await session.stat("/")
    for _ in range(ROUNDS):
        if session.open_fids > 1:
            await session.stat("/")
    assert session.open_fids == 1


class Served:
    """A node and the sessions with it."""

    def __init__(self, node: Node, place: Path) -> None:
        self.node = node
        self.place = place
        self._tasks: list[asyncio.Task[None]] = []
        self.ends: list[MemoryStream] = []

    @property
    def processes(self) -> list[list[str]]:
        """What runs beside the node's own process and sessions."""
        return [process.args for process in self.node.processes if process.args[:1] not in (["node"], ["session"])]

    async def session(self, token: str = "") -> NodeSession:
        ours, theirs = pair()
        ours.other, theirs.other = theirs, ours
        self.ends.append(ours)
        self._tasks.append(asyncio.create_task(Sessions(self.node).accept(theirs)))
        return await NodeSession.open_session(ours, RealClock(), "me", token=token)

    async def settle(self, condition: Callable[[], bool]) -> None:
        """Let the node go on until a condition holds; the test's own time limit ends it otherwise."""
        while not condition():  # noqa: ASYNC110  # a process that ends tells nobody outside the node
            await asyncio.sleep(0)

    async def close(self) -> None:
        for end in self.ends:
            end.close()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def served(unix: tuple[str, ...] = ()) -> AsyncIterator[Served]:
    with short_place() as place:
        settings = Settings("desk", "127.0.0.1:0", unix=unix)
        async with running(real_world(), Home(str(place / "home")), settings, "me") as node:
            at = Served(node, place)
            try:
                yield at
            finally:
                await at.close()
