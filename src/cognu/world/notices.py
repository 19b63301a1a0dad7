"""What the host tells of changes to its files: inotify(7), on Linux. Other hosts have none here, and say so.

One queue serves all that is watched. It is opened with the first watch and closed with the last, so nothing is left
when nobody watches. Everything here runs on the loop's own thread; the calls are short, none waits for a disk.

A file is watched by an O_PATH descriptor, so by itself, whatever its names. While such a descriptor is open the host
does not say that the file is gone; a file's own links tell that, and of a directory the one above is watched too.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from cognu.errors import E, FileError
from cognu.world import HostChange, HostTell
from cognu.world.host_names import decode
from cognu.world.refusals import refusals

if TYPE_CHECKING:
    from inotify_simple import Event, INotify

MODIFY, ATTRIB, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
DELETE_SELF, UNMOUNT, OVERFLOW, IGNORED = 0x400, 0x2000, 0x4000, 0x8000
_ASKED = MODIFY | ATTRIB | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF
"""The same of every file: the host has one mask for all who watch it."""
_NAMED = {CREATE: "made", MOVED_TO: "made", DELETE: "removed", MOVED_FROM: "removed"}

Listener = Callable[["Event", str], None]
"""Is given an event of the host; and, for a renaming in one directory, the new name."""


class HostNotices:
    """The queue of one process. See `HostTree.watch`."""

    def __init__(self) -> None:
        self._queue: INotify | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # that it is read on
        self._listeners: dict[int, dict[int, Listener]] = {}
        self._numbers = itertools.count()

    def watch(self, path: str, directory: bool, links: Callable[[], int], tell: HostTell) -> Callable[[], None]:
        """Watch what `path` leads to, until what is returned is called. `links`: how many names it has now.

        Raises NOTSUP, and what the host refuses: NOSPC (fs.inotify.max_user_watches), MFILE, ACCES.
        """
        ends: list[Callable[[], None]] = []

        def end() -> None:
            while ends:
                ends.pop()()

        def finish(kind: str) -> None:
            end()
            tell(HostChange(kind))

        def own(event: Event, renamed: str) -> None:
            if event.mask & (IGNORED | UNMOUNT):
                finish("gone" if not links() else "broken")
            elif event.mask & OVERFLOW:
                tell(HostChange("lost"))
            elif not event.name:
                _tell_own(event, links, finish, tell)
            elif renamed:
                tell(HostChange("renamed", _text(event.name), renamed))
            else:
                for mask, kind in _NAMED.items():
                    if event.mask & mask:
                        tell(HostChange(kind, _text(event.name)))

        def above(event: Event, _: str) -> None:
            if event.mask & DELETE and ends and not links():
                finish("gone")

        try:
            ends.append(self._listen(path, own))
            if directory:
                ends.append(self._listen(f"{path}/..", above))
        except BaseException:
            end()
            raise
        return end

    def _listen(self, path: str, listener: Listener) -> Callable[[], None]:
        queue = self._opened()
        try:
            with refusals(path):
                watch = queue.add_watch(path, _ASKED)
        except FileError:
            self._close_idle()
            raise
        number = next(self._numbers)
        self._listeners.setdefault(watch, {})[number] = listener
        return partial(self._unlisten, watch, number)

    def _unlisten(self, watch: int, number: int) -> None:
        listeners = self._listeners.get(watch, {})
        listeners.pop(number, None)
        if not listeners and self._listeners.pop(watch, None) is not None and self._queue is not None:
            try:
                self._queue.rm_watch(watch)
            except OSError:
                pass  # the host took it off itself: the file is gone
        self._close_idle()

    def _opened(self) -> INotify:
        if self._queue is None:
            if sys.platform != "linux":
                raise FileError(E.NOTSUP, "watch", "this host does not tell of changes")
            from inotify_simple import INotify  # slow to import, and wanted by few

            with refusals("inotify"):
                self._queue = INotify(nonblocking=True)
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._queue.fileno(), self._readable)
        return self._queue

    def _close_idle(self) -> None:
        if self._queue is not None and not self._listeners:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._queue.fileno())
            self._queue.close()
            self._queue = None

    def _readable(self) -> None:
        if self._queue is None:
            return
        events: list[Any] = list(self._queue.read(timeout=0))
        for event, renamed in _paired(events):
            if event.mask & OVERFLOW:
                everybody = [listener for each in self._listeners.values() for listener in each.values()]
            else:
                everybody = list(self._listeners.get(event.wd, {}).values())
            for listener in everybody:
                listener(event, renamed)


def _tell_own(event: Event, links: Callable[[], int], finish: Callable[[str], None], tell: HostTell) -> None:
    """Of the file itself. A name less is a change of its attributes; the last one less is its end."""
    if event.mask & DELETE_SELF or (event.mask & ATTRIB and not links()):
        finish("gone")
    elif event.mask & ATTRIB:
        tell(HostChange("attributes"))
    elif event.mask & MODIFY:
        tell(HostChange("content"))


def _paired(events: Iterable[Event]) -> Iterable[tuple[Event, str]]:
    """Events in order; of a renaming in one directory there is one, with the new name."""
    before: Event | None = None
    for event in events:
        if before is not None:
            pair = event.mask & MOVED_TO and (event.wd, event.cookie) == (before.wd, before.cookie)
            yield before, _text(event.name) if pair else ""
            before = None
            if pair:
                continue
        if event.mask & MOVED_FROM:
            before = event
        else:
            yield event, ""
    if before is not None:
        yield before, ""


def _text(name: str) -> str:
    return decode(os.fsencode(name))


@contextmanager
def waiting_for(path: str) -> Iterator[Callable[[], None]]:
    """What waits until a file, or what takes its name, has changed since this began, or since it waited last.

    For who has no event loop, on Linux. Raises what the host refuses; the waiting STALE if the directory is gone.
    """
    from inotify_simple import INotify

    directory, name = os.path.split(path)
    with refusals(path):
        queue = INotify()
    with queue:
        with refusals(path):
            queue.add_watch(directory or ".", MODIFY | CREATE | MOVED_TO)

        def wait() -> None:
            while True:
                for event in queue.read():
                    if event.mask & IGNORED:
                        raise FileError(E.STALE, path)
                    if event.name == name or event.mask & OVERFLOW:
                        return

        yield wait
