"""Machines that are away: which are is told by a file; and what is new is not kept waiting for one for long.

What is open or runs there already waits for as long as its session is kept, and goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from cognu.errors import E, FileError
from cognu.files.launch import AWAY_SECONDS
from cognu.files.nstext import quote
from cognu.files.tree import Text
from cognu.mesh.identity import Peer
from cognu.mesh.links import PeerAway
from cognu.ninep.watches import CONTENT
from cognu.node.node import Node
from cognu.world.timing import end_tasks, time_of_day

T = TypeVar("T")

LOOK_SECONDS: Final = 1.0


class LinksFile(Text):
    """A line for each peer that was linked: `NAME linked`, `NAME away SINCE UNTIL` while what waits for it is kept
    (wall-clock ns), with `refused` behind it if the machine there refuses calls, or `NAME apart`. Who watches is told
    when one changes."""

    tells = True

    def __init__(self, links: Callable[[], Sequence[PeerAway]]) -> None:
        super().__init__("links", lambda: "".join(_line(row) for row in links()))

    def changed(self) -> None:
        self.happened(CONTENT)


def _line(row: PeerAway) -> str:
    state = "linked" if row.linked else "apart" if row.away is None else f"away {row.away[0]} {row.away[1]}"
    if row.away is not None and row.refused:
        state += " refused"
    return f"{quote(row.name)} {state}\n"


async def unless_away(node: Node, peer: Peer, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which needs a peer.

    Raises `FileError(HOSTUNREACH)` once the peer was away for so long; then `work` was cancelled and has ended.
    """
    task = asyncio.ensure_future(work)
    away = 0.0
    try:
        while away < AWAY_SECONDS:
            timer = asyncio.ensure_future(node.world.clock.sleep(LOOK_SECONDS))
            try:
                await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end_tasks(timer)
            if task.done():
                return task.result()
            away = 0.0 if node.mesh.is_linked(peer.fingerprint) else away + LOOK_SECONDS
    finally:
        await end_tasks(task)
    session = node.mesh.link_of(peer.fingerprint)
    since = session.reaching.since if session is not None else None
    known = f"away since {time_of_day(since)}; " if since is not None else ""
    raise FileError(E.HOSTUNREACH, peer.name, f"{known}waited {AWAY_SECONDS:g} seconds")
