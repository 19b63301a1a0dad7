"""Asking the node one thing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cognu.cli.setting import Setting
from cognu.shell.program import Start, connect
from cognu.shell.session import NodeSession

T = TypeVar("T")


def with_session(setting: Setting, work: Callable[[NodeSession], Awaitable[T]]) -> T:
    """Do `work` in a session of its own. Raises NONODE if no node runs."""

    async def session() -> T:
        at = await connect(Start(setting.socket))
        try:
            return await work(at)
        finally:
            await at.close()

    return asyncio.run(session())


def ask(setting: Setting, verb: str, **arguments: object) -> Any:
    """One request to /mnt/node/rpc. Raises what it answers, and NONODE."""
    return with_session(setting, lambda session: session.rpc(verb, **arguments))
