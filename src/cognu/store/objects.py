"""Objects on this node's disk, fetched from peers where they are missing, and always checked against their names.

Each object is a file of its own for now, under `objects/` in the store's directory, written in one step and synced
before it is acknowledged. What is read, fetched or put passes through in pieces; no object is in memory as a whole but
for whoever asks for all of its bytes.

Knowing a hash is no authority: peers may fetch an object only if it is published, which what a user put here is (an
empty file of its name in `published/`). What came here to be run, or was fetched, is not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import NamedTuple

from blake3 import blake3

from cognu.errors import CognuError, E, FileError
from cognu.store.names import COMMON, LENGTH, check_name, is_prefix, name_of, name_of_digest
from cognu.store.shared import Shared, Use
from cognu.world import Draft, HostFile, Keeper, Threads
from cognu.world.timing import within

log = logging.getLogger("cognu.store")

MAX_OBJECT = 1 << 30
"""Bytes of one object; larger things will be trees of chunks."""
MAX_NAME = 255

CHECK_SIZE = 1 << 20
"""Bytes read at once to check an object: all of its memory that checking takes."""
STALL_SECONDS = 30.0
"""How long a source may give nothing before the next one is asked."""
MARKS = "bad-sources.json"

Source = Callable[[str], AsyncGenerator[bytes, None]]
"""Gives the bytes that a peer says an object has, in pieces that are not empty. Raises NOENT if it has none, any
`CognuError` if it fails. It is closed early when what it gives is wrong or nobody waits for it any more."""

_MISSING = (E.NOENT, E.BADHASH)


class _Lied(Exception):
    """A source gave what is not the object."""


class _Failed(Exception):
    """A source gave no object, for the reason `error`."""

    def __init__(self, error: CognuError) -> None:
        super().__init__(error)
        self.error = error


class _File(NamedTuple):
    file: HostFile
    size: int


class OpenObject:
    """An object whose bytes were found right when it was opened. To be closed."""

    def __init__(self, threads: Threads, use: Use[_File]) -> None:
        self._threads = threads
        self._use = use

    @property
    def size(self) -> int:
        """In bytes."""
        return self._use.value.size

    async def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes at `offset`, `b""` at the end. Raises IO."""
        return await self._threads.run(self._use.value.file.pread, offset, count)

    async def read_all(self) -> bytes:
        parts: list[bytes] = []
        offset = 0
        while piece := await self.read(offset, self.size - offset):
            parts.append(piece)
            offset += len(piece)
        return b"".join(parts)

    def close(self) -> None:
        """May be called twice."""
        self._use.leave()


class Upload:
    """An object on its way in, whose bytes go to the disk as they come. One at a time writes. To be discarded."""

    def __init__(self, store: Store, threads: Threads, draft: Draft) -> None:
        self._store = store
        self._threads = threads
        self._draft = draft
        self._hasher = blake3()
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Add `data` at the end. Raises FBIG with nothing added, NOSPC; then the upload is of no further use."""
        if self.size + len(data) > MAX_OBJECT:
            raise FileError(E.FBIG, "object", f"at most {MAX_OBJECT} bytes")
        self.size += len(data)
        await self._threads.run(self._hasher.update, data)
        await self._threads.run(self._draft.write, data)

    async def commit(self) -> str:
        """Its name, once it is durable. What is here already in good order stays as it is."""
        name = name_of_digest(self._hasher.digest())
        try:
            (await self._store.open_local(name)).close()
        except FileError as error:
            if error.error not in _MISSING:
                raise
            await self._threads.run(self._place, self._store.path_of(name))
        self.discard()
        return name

    def _place(self, path: str) -> None:
        self._store.disk.make_directory(path.rpartition("/")[0])
        self._draft.commit(path)

    def discard(self) -> None:
        """Give it up; does nothing after `commit`. May be called twice."""
        self._draft.discard()


class Store:
    """The objects and names of one node. `directory` is its own; one process uses it at a time (the node's lock).

    Making it raises DAMAGED if its record of bad sources is.
    """

    def __init__(self, world: Keeper, directory: str) -> None:
        self._world = world
        self.disk = world.disk
        self._objects = f"{directory}/objects"
        self._names = f"{directory}/names"
        self._published = f"{directory}/published"
        self._sources: Callable[[], Iterable[tuple[str, Source]]] = lambda: ()
        self._open = Shared[_File](lambda opened: opened.file.close())
        self._fetching = Shared[None](lambda _: None)
        world.disk.make_directory(self._objects)
        world.disk.make_directory(self._names)
        world.disk.make_directory(self._published)
        self._sweep(directory)
        self._marks = f"{directory}/{MARKS}"
        self._bad_sources = parse_marks(world.disk.read(self._marks)) if world.disk.exists(self._marks) else {}

    def fetch_from(self, sources: Callable[[], Iterable[tuple[str, Source]]]) -> None:
        """Where to look for what is missing: (peer's name, source) in the order to try."""
        self._sources = sources

    @property
    def bad_sources(self) -> dict[str, int]:
        """Peers that gave wrong bytes, and how often."""
        return dict(self._bad_sources)

    # -- objects --------------------------------------------------------------------------------------------------

    async def hash_of(self, data: bytes) -> str:
        """The name that an object of these bytes has, without keeping it."""
        return await self._world.threads.run(name_of, data)

    async def upload(self) -> Upload:
        """Begin to put an object. Raises NOSPC."""
        draft = await self._world.threads.run(self.disk.draft, f"{self._objects}/upload")
        return Upload(self, self._world.threads, draft)

    async def put(self, data: bytes) -> str:
        """Keep an object; returns its name once it is durable. Raises FBIG, NOSPC."""
        upload = await self.upload()
        try:
            await upload.write(data)
            return await upload.commit()
        finally:
            upload.discard()

    async def publish(self, name: str) -> None:
        """Let peers fetch an object by its name; durable. Raises INVAL."""
        await self._world.threads.run(self.disk.write, f"{self._published}/{check_name(name)}", b"")

    def is_published(self, name: str) -> bool:
        return self.disk.exists(f"{self._published}/{check_name(name)}")

    def _sweep(self, directory: str) -> None:
        """Remove what a crash cut short."""
        groups = [f"{self._objects}/{group}" for group in self.disk.list(self._objects)]
        swept = sum(self.disk.sweep(path) for path in (directory, self._objects, self._names, self._published, *groups))
        if swept:
            log.info("%s: %d unfinished files of an earlier run removed", directory, swept)

    async def get(self, name: str) -> bytes:
        """All bytes of an object. Raises as `open`."""
        opened = await self.open(name)
        try:
            return await opened.read_all()
        finally:
            opened.close()

    async def get_from(self, peer: str, name: str) -> bytes:
        """All bytes of an object that `peer` gives now, even if it is here already. Raises NOENT, INVAL, BADHASH."""
        theirs = [(known, source) for known, source in self._sources() if known == peer]
        await self._fetch(check_name(name), FileError(E.NOENT, name), theirs)
        return await self.get(name)

    async def open(self, name: str) -> OpenObject:
        """An object to read, from here or fetched from a peer first. Raises NOENT, INVAL, BADHASH."""
        try:
            return await self.open_local(name)
        except FileError as error:
            if error.error not in _MISSING:
                raise
            here = error
        (await self._fetching.take(name, lambda: self._fetch(name, here, self._sources()))).leave()
        return await self.open_local(name)

    async def open_local(self, name: str) -> OpenObject:
        """As `open`, from this node's disk alone. BADHASH if the disk has damaged it.

        All who have an object open share one file, whose bytes are checked once.
        """
        path = self.path_of(check_name(name))
        return OpenObject(self._world.threads, await self._open.take(name, lambda: self._check(name, path)))

    async def _check(self, name: str, path: str) -> _File:
        """The open file, once its bytes were found right."""
        run = self._world.threads.run
        file = await run(self._world.disk.open, path)
        try:
            hasher, size = blake3(), 0
            while piece := await run(file.pread, size, CHECK_SIZE):
                await run(hasher.update, piece)
                size += len(piece)
            if name_of_digest(hasher.digest()) != name:
                raise FileError(E.BADHASH, name, "damaged on this node's disk")
        except BaseException:
            file.close()
            raise
        return _File(file, size)

    # -- fetching -------------------------------------------------------------------------------------------------

    async def _fetch(self, name: str, here: FileError, sources: Iterable[tuple[str, Source]]) -> None:
        """From the first source that has the right bytes. A wrong byte is refused and its source marked."""
        lied: list[str] = []
        for peer, source in sources:
            try:
                size = await self._fetch_from(name, source)
            except _Lied as lie:
                self._mark(peer)
                lied.append(peer)
                log.warning("%s gave wrong bytes for %s; refused: %s", peer, name, lie)
            except _Failed as failure:
                if failure.error.error is not E.NOENT:
                    log.info("fetching %s from %s: %s", name, peer, failure.error)
            else:
                log.info("fetched %s (%d bytes) from %s", name, size, peer)
                return
        if lied:
            raise FileError(E.BADHASH, name, f"wrong bytes from {', '.join(lied)}")
        raise FileError(here.error, name, here.detail or "neither here nor at a connected peer")

    async def _fetch_from(self, name: str, source: Source) -> int:
        """The size of what one source gave and is kept now. Raises `_Lied`, `_Failed`, and for this node's own disk
        `FileError`."""
        run, path = self._world.threads.run, self.path_of(name)
        async with aclosing(source(name)) as pieces:
            piece = await self._next(pieces)  # before a file is made for it: most sources have nothing
            await run(self._world.disk.make_directory, path.rpartition("/")[0])
            draft = await run(self._world.disk.draft, path)
            try:
                hasher, size = blake3(), 0
                while piece:
                    size += len(piece)
                    if size > MAX_OBJECT:
                        raise _Lied(f"more than {MAX_OBJECT} bytes")
                    await run(hasher.update, piece)
                    await run(draft.write, piece)
                    piece = await self._next(pieces)
                if name_of_digest(hasher.digest()) != name:
                    raise _Lied(f"{size} bytes of something else")
                await run(draft.commit)
            finally:
                draft.discard()
        return size

    async def _next(self, pieces: AsyncGenerator[bytes, None]) -> bytes:
        """The next piece, `b""` at the end. Raises `_Failed`."""

        async def step() -> bytes:
            return await anext(pieces, b"")

        try:
            return await within(self._world.clock, STALL_SECONDS, step())
        except TimeoutError:
            raise _Failed(FileError(E.TIMEDOUT, "", f"no byte in {STALL_SECONDS} s")) from None
        except CognuError as error:
            raise _Failed(error) from error

    def _mark(self, peer: str) -> None:
        self._bad_sources[peer] = self._bad_sources.get(peer, 0) + 1
        try:
            self._world.disk.write(self._marks, json.dumps(self._bad_sources).encode())
        except FileError as error:
            log.warning("that %s gave wrong bytes is forgotten when this node stops: %s", peer, error)

    async def close(self) -> None:
        """Stop fetching and checking. What is open stays so until it is closed."""
        await self._fetching.close()
        await self._open.close()

    # -- finding --------------------------------------------------------------------------------------------------

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

    def objects(self) -> list[str]:
        """The names of all objects here."""
        groups = self.disk.list(self._objects)
        return [name for group in groups for name in self.disk.list(f"{self._objects}/{group}")]

    def path_of(self, name: str) -> str:
        """Where an object's bytes are, or would be."""
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


def parse_marks(data: bytes) -> dict[str, int]:
    """The record of bad sources: a JSON object of peers' names and how often each lied. Raises DAMAGED."""
    try:
        marks = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(E.DAMAGED, MARKS, str(error)) from error
    if not isinstance(marks, dict) or not all(type(count) is int and count > 0 for count in marks.values()):
        raise FileError(E.DAMAGED, MARKS, "not an object of names and counts")
    return marks
