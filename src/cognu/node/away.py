"""Calls to a machine that is away: what is new is not kept waiting for it for long.

What is open or runs there already waits for as long as its session is kept, and goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from cognu.errors import E, FileError
from cognu.mesh.identity import Peer
from cognu.node.node import Node
from cognu.world.timing import end_tasks

T = TypeVar("T")

LOOK_SECONDS: Final = 1.0
AWAY_SECONDS: Final = 10.0
"""How long without a break a peer may be away from whoever wants to begin something there: for each address that is
known of it, as one that does not answer keeps a call from the next for as long (`links.DIAL_SECONDS`)."""


async def unless_away(node: Node, peer: Peer, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which needs a peer.

    Raises `FileError(HOSTUNREACH)` once the peer was away for so long; then `work` was cancelled and has ended.
    """
    patience = AWAY_SECONDS * max(1, len(peer.addresses))
    task = asyncio.ensure_future(work)
    away = 0.0
    try:
        while away < patience:
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
    raise FileError(E.HOSTUNREACH, peer.name, f"away for {patience:g} seconds")
