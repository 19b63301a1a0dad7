"""Listings that Tab looks at, kept until something tells that they may be other: near and far directories alike.

What is kept of a directory is right as long as three things are: its entries, the way to it (each directory above has
the next name, as before), and the mounts of the namespace. All are watched before it is listed; what can't be watched
is listed anew each time. So a directory of another machine is listed over the wire once, and again only when it was
changed. Links are not kept to lead where they led: they are asked about each time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from cognu.errors import CognuError, E, FileError
from cognu.files.server import Notice
from cognu.ninep.types import Stat
from cognu.ninep.watches import ENDS, LOST, MADE, REMOVED, RENAMED
from cognu.shell.state import end_tasks
from cognu.shell.system import System, Watch, absolute

KEPT = 16
"""Directories that are kept at most, those looked at last."""
MOST_ENTRIES = 4096
"""Of a directory that is kept."""
DEEPEST = 12
"""Directories on the way to it."""


class _Kept:
    """A listing, and who is told that it may be another."""

    def __init__(self) -> None:
        self.stats: list[Stat] | None = None  # not there yet
        self.watches: list[Watch] = []
        self.told: list[asyncio.Task[None]] = []
        self.over = False


class Listings:
    """Directories of one system. `close` ends what it watches."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def list(self, path: str) -> list[Stat]:
        """As `System.list`. What is not kept is listed now, and kept from some time after on. Raises `FileError`."""
        whole = absolute(self._system.cwd, path)
        kept = self._kept.get(whole)
        if kept is not None and kept.stats is not None and not kept.over:
            self._kept.move_to_end(whole)
            return kept.stats
        stats = await self._system.list(path)
        if kept is None and not self._closed and len(stats) <= MOST_ENTRIES and whole.count("/") <= DEEPEST:
            self._spawn(self._keep(whole))
        return stats

    async def close(self) -> None:
        """Nothing is kept or watched any more."""
        self._closed = True
        await end_tasks(self._tasks)
        for path in list(self._kept):
            await self._drop(path, self._kept[path])

    async def settled(self) -> None:
        """Returns when what is about to be kept is kept, or given up."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, path: str) -> None:
        kept = self._kept[path] = _Kept()
        try:
            await self._watch_way(path, kept)
            if await self._system.resolve(path) != path:
                raise FileError(E.LOOP, path, "a link on the way may lead elsewhere")
            stats = await self._system.list(path)
            if not kept.over and len(stats) <= MOST_ENTRIES:
                kept.stats = stats
        except CognuError:
            pass  # it can't be watched, or is gone: it is listed each time
        finally:
            if kept.stats is None:
                await self._drop(path, kept)
        while len(self._kept) > KEPT:
            await self._drop(*next(iter(self._kept.items())))

    async def _watch_way(self, path: str, kept: _Kept) -> None:
        """Watch the directory for any entry, and those above for the names that lead to it."""
        names = [name for name in path.split("/") if name]
        for depth in range(len(names) + 1):
            above = "/" + "/".join(names[:depth])
            next_name = names[depth] if depth < len(names) else ""
            kinds = REMOVED | RENAMED | (0 if next_name else MADE)
            watch = await self._system.watch(above, kinds)
            kept.watches.append(watch)
            kept.told.append(asyncio.create_task(self._wait(path, kept, watch, next_name)))

    async def _wait(self, path: str, kept: _Kept, watch: Watch, name: str) -> None:
        """Until what is told makes the listing another, perhaps: of a directory above that is one of its `name`."""
        while True:
            notice = await watch.next()
            if not name or _is_about(notice, name):
                break
        kept.over = True
        if self._kept.get(path) is kept and kept.stats is not None:
            self._spawn(self._drop(path, kept))

    async def _drop(self, path: str, kept: _Kept) -> None:
        kept.over = True
        if self._kept.get(path) is kept:
            del self._kept[path]
        await end_tasks(kept.told)
        for watch in kept.watches:
            with suppress(CognuError):
                await watch.close()
        kept.watches.clear()


def _is_about(notice: Notice, name: str) -> bool:
    return bool(notice.kind & (ENDS | LOST)) or not notice.name or name in (notice.name, notice.other)
