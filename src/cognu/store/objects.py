"""Objects on this node's disk, fetched from peers where they are missing, and always checked against their names.

Each object is a file of its own for now, under `objects/` in the store's directory, written in one step and synced
before it is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from cognu.errors import CognuError, E, FileError
from cognu.store.names import COMMON, LENGTH, check_name, is_prefix, name_of
from cognu.world import World

log = logging.getLogger("cognu.store")

MAX_OBJECT = 1 << 30
"""Bytes of one object; larger things will be trees of chunks."""
MAX_NAME = 255

Source = Callable[[str], Awaitable[bytes]]
"""Gives the bytes that a peer says an object has. Raises NOENT if it has none, any `CognuError` if it fails."""


class Store:
    """The objects and names of one node. `directory` is its own; one process uses it at a time (the node's lock)."""

    def __init__(self, world: World, directory: str) -> None:
        self._world = world
        self._objects = f"{directory}/objects"
        self._names = f"{directory}/names"
        self._sources: Callable[[], Iterable[tuple[str, Source]]] = lambda: ()
        self._bad_sources: dict[str, int] = {}
        self._fetching: dict[str, asyncio.Task[bytes]] = {}
        world.disk.make_directory(self._objects)
        world.disk.make_directory(self._names)

    def fetch_from(self, sources: Callable[[], Iterable[tuple[str, Source]]]) -> None:
        """Where to look for what is missing: (peer's name, source) in the order to try."""
        self._sources = sources

    @property
    def bad_sources(self) -> dict[str, int]:
        """Peers that gave wrong bytes, and how often."""
        return dict(self._bad_sources)

    async def hash_of(self, data: bytes) -> str:
        """The name that an object of these bytes has, without keeping it."""
        return await self._world.threads.run(name_of, data)

    # -- objects --------------------------------------------------------------------------------------------------

    async def put(self, data: bytes) -> str:
        """Keep an object; returns its name once it is durable. Raises FBIG, NOSPC."""
        if len(data) > MAX_OBJECT:
            raise FileError(E.FBIG, "object", f"at most {MAX_OBJECT} bytes")
        return await self._world.threads.run(self._put, data)

    def _put(self, data: bytes) -> str:
        name = name_of(data)
        path = self._path(name)
        if not self._world.disk.exists(path) or name_of(self._world.disk.read(path)) != name:
            self._world.disk.make_directory(path.rpartition("/")[0])
            self._world.disk.write(path, data)
        return name

    async def get(self, name: str) -> bytes:
        """The bytes of an object, from here or from a peer. Raises NOENT, INVAL, BADHASH."""
        try:
            return await self.get_local(name)
        except FileError as error:
            if error.error not in (E.NOENT, E.BADHASH):
                raise
            here = error
        task = self._fetching.get(name)
        if task is None:
            task = self._fetching[name] = asyncio.get_running_loop().create_task(self._fetch(name, here))
            task.add_done_callback(lambda done: self._fetched(name, done))
        return await asyncio.shield(task)

    async def get_local(self, name: str) -> bytes:
        """As `get`, from this node's disk alone. BADHASH if the disk has damaged it."""
        data = await self._world.threads.run(self._world.disk.read, self._path(check_name(name)))
        if await self._world.threads.run(name_of, data) != name:
            raise FileError(E.BADHASH, name, "damaged on this node's disk")
        return data

    def _fetched(self, name: str, task: asyncio.Task[bytes]) -> None:
        del self._fetching[name]
        if not task.cancelled():
            task.exception()

    async def _fetch(self, name: str, here: FileError) -> bytes:
        """From the first source that has the right bytes. A wrong byte is refused and its source marked."""
        lied: list[str] = []
        for peer, source in self._sources():
            try:
                data = await source(name)
            except CognuError as error:
                if error.error is not E.NOENT:
                    log.info("fetching %s from %s: %s", name, peer, error)
                continue
            if await self._world.threads.run(name_of, data) != name:
                self._bad_sources[peer] = self._bad_sources.get(peer, 0) + 1
                lied.append(peer)
                log.warning("%s gave wrong bytes for %s; refused", peer, name)
                continue
            await self.put(data)
            log.info("fetched %s (%d bytes) from %s", name, len(data), peer)
            return data
        if lied:
            raise FileError(E.BADHASH, name, f"wrong bytes from {', '.join(lied)}")
        raise FileError(here.error, name, here.detail or "neither here nor at a connected peer")

    async def close(self) -> None:
        """Stop fetching."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def resolve(self, prefix: str) -> str:
        """The one object here whose name begins so; a whole name is given back even if the object isn't here.

        Raises NOENT, AMBIGUOUS.
        """
        if len(prefix) == LENGTH:
            return check_name(prefix)
        if not is_prefix(prefix):
            raise FileError(E.NOENT, prefix, f"names of objects begin with {COMMON}")
        # Objects lie in directories by the two characters after the common part.
        found = [
            name
            for group in self._world.disk.list(self._objects)
            if group.startswith(prefix[len(COMMON) : len(COMMON) + 2])
            for name in self._world.disk.list(f"{self._objects}/{group}")
            if name.startswith(prefix)
        ]
        if not found:
            raise FileError(E.NOENT, prefix, "no object here begins so")
        if len(found) > 1:
            raise FileError(E.AMBIGUOUS, prefix, f"{len(found)} objects begin so")
        return found[0]

    def _path(self, name: str) -> str:
        return f"{self._objects}/{name[len(COMMON) : len(COMMON) + 2]}/{name}"

    # -- names ----------------------------------------------------------------------------------------------------

    def set_name(self, label: str, name: str) -> None:
        """Let `label` stand for an object; durable. Raises INVAL, NAMETOOLONG."""
        if not label or "/" in label or "\0" in label or label in (".", ".."):
            raise FileError(E.INVAL, label)
        if len(label.encode()) > MAX_NAME:
            raise FileError(E.NAMETOOLONG, label)
        self._world.disk.write(f"{self._names}/{label}", check_name(name).encode())

    def remove_name(self, label: str) -> None:
        """Raises NOENT. The object stays."""
        self.named(label)
        self._world.disk.remove(f"{self._names}/{label}")

    def named(self, label: str) -> str:
        """The object that `label` stands for. Raises NOENT."""
        if "/" in label or label in ("", ".", ".."):
            raise FileError(E.NOENT, label)
        return check_name(self._world.disk.read(f"{self._names}/{label}").decode("ascii", "replace").strip())

    def labels(self) -> list[str]:
        return [label for label in self._world.disk.list(self._names) if not label.startswith(".")]
