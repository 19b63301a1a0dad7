"""The two ways to end a call that waits, so that no byte of a stream is lost: cancel it, or ask it to stop.

Cancelled (`task.cancel`), a call gives up at once, whatever its link does. What it took and could not give to its
caller any more is kept where it is, for the next read of the same fid (`files/mount.py`).

Asked to stop, it ends when it is known what came of it: with its answer, if that came first, else cancelled. Until then
whoever asked may not say that the call is over (flush(5): no answer comes after an Rflush). So a server treats a
Tflush, and whoever wants to read the same stream by another way next. Cancelled meanwhile, it gives up at once.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakSet

_asked: WeakSet[asyncio.Task[Any]] = WeakSet()


def ask_to_stop(task: asyncio.Task[Any]) -> None:
    """Cancel `task`, which may answer nevertheless, if the answer of what it waits for was on its way."""
    _asked.add(task)
    task.cancel()


def give_up(task: asyncio.Task[Any]) -> None:
    """Cancel `task`, also if it was asked to stop and waits for what comes of that."""
    _asked.discard(task)
    task.cancel()


def asked_to_stop() -> bool:
    """Whether the cancellation that the running task has just met may wait until its call's outcome is known."""
    return asyncio.current_task() in _asked


def put_off() -> None:
    """Go on with an answer that came first: should the running task wait again, it is cancelled there."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
