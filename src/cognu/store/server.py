"""The store as files (`#V`):

    bin/NAME          a named object's bytes; removing it removes the name
    objects/HASH      an object's bytes; fetched from a peer if it is not here. Any unambiguous prefix will do
    put               write an object, then read its hash, which is there once the object is durable; its bytes are
                      charged (`Resource.DISK`) to the process that put it, for as long as the node runs
    ctl               write `name LABEL HASH`

What is put is published, so that peers may fetch it. A server for peers has `objects` alone, takes whole hashes of what
is published or lent to that peer, and never asks further peers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from cognu.errors import E, FileError
from cognu.files.limits import Quota, QuotaOf, Resource, nobodys
from cognu.files.nstext import split_words
from cognu.files.server import Caller
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer, check_for_writing
from cognu.ninep.types import QTDIR
from cognu.store.names import check_name, is_prefix
from cognu.store.objects import MAX_OBJECT, OpenObject, Store, Upload


class _Object(Node):
    """An object's bytes, read from the disk as they are asked for."""

    def __init__(self, store: Store, label: str, name: str, local: bool) -> None:
        super().__init__(label, 0o555)
        self._store = store
        self._object = name
        self._local = local

    async def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        store = self._store
        fid.state = await (store.open_local(self._object) if self._local else store.open(self._object))

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, OpenObject)
        return await fid.state.read(offset, count)

    def close(self, fid: TreeFid) -> None:
        assert isinstance(fid.state, OpenObject)
        fid.state.close()
        fid.state = None


class _Named(_Object):
    def remove(self) -> None:
        self._store.remove_name(self.name)


class _Bin(Node):
    def __init__(self, store: Store) -> None:
        super().__init__("bin", 0o555, qid_type=QTDIR)
        self._store = store
        self._seen: dict[str, tuple[str, _Named]] = {}
        """By label, of those that there are: what it stands for, and its node."""

    def find(self, name: str, caller: Caller) -> Node:
        try:
            return self._node(name, self._store.named(name))
        except FileError:
            self._seen.pop(name, None)
            raise

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        labels = self._store.labels()
        self._seen = {label: self._seen[label] for label in labels if label in self._seen}
        return [self._node(label, self._store.named(label)) for label in labels]

    def _node(self, label: str, name: str) -> Node:
        """One node, and so one qid, for a label as long as it stands for the same object."""
        seen = self._seen.get(label)
        if seen is not None and seen[0] == name:
            return seen[1]
        node = _Named(self._store, label, name, False)
        node.parent = self
        self._seen[label] = name, node
        return node


class _Objects(Node):
    """Listed for this node's own; of a peer's, whoever asks knows the name."""

    def __init__(self, store: Store, may: Callable[[str], bool] | None = None) -> None:
        """`may`: which of the objects that are here a peer may fetch, for a peer's."""
        super().__init__("objects", 0o555, qid_type=QTDIR)
        self._store = store
        self._may = may

    def find(self, name: str, caller: Caller) -> Node:
        if self._may is not None:
            whole = check_name(name)
            if not self._may(whole):
                raise FileError(E.NOENT, name)  # as if it were not here: whether it is, is nobody's business
        elif is_prefix(name):
            whole = self._store.resolve(name)
        else:
            raise FileError(E.NOENT, name)
        return _Object(self._store, name, whole, self._may is not None)

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        if self._may is not None:
            return []
        return [_Object(self._store, name, name, False) for name in self._store.objects()]


class _Putting:
    """What a fid on `put` is about to put."""

    def __init__(self, store: Store, quota: Quota | None) -> None:
        self._store = store
        self._quota = quota
        self._turn = asyncio.Lock()  # guards the upload: several requests may be under way
        self._upload: Upload | None = None
        self._failed = False
        self.size = 0
        self.name: bytes | None = None

    async def write(self, data: bytes) -> None:
        if self._quota is not None:
            self._quota.take(Resource.DISK, len(data))
        self.size += len(data)
        try:
            async with self._turn:
                await (await self._begun()).write(data)
        except BaseException:
            self._failed = True  # part of it may be written, or is still being written
            raise

    async def finish(self) -> bytes:
        """What reading the file gives: the name, once the object is durable and published."""
        async with self._turn:
            if self.name is None:
                name = await (await self._begun()).commit()
                await self._store.publish(name)
                self.name = name.encode() + b"\n"
        return self.name

    async def _begun(self) -> Upload:
        if self._failed:
            raise FileError(E.IO, "put", "a write before this one failed; begin anew")
        if self._upload is None:
            self._upload = await self._store.upload()
        return self._upload

    def close(self) -> None:
        if self._upload is not None:
            self._upload.discard()
        if self.name is None and self._quota is not None:
            self._quota.give(Resource.DISK, self.size)


class _Put(Node):
    def __init__(self, store: Store, quota_of: QuotaOf) -> None:
        super().__init__("put", 0o666)
        self._store = store
        self._quota_of = quota_of

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        check_for_writing(self, mode)
        fid.state = _Putting(self._store, self._quota_of(caller))

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        putting = fid.state
        assert isinstance(putting, _Putting)
        if putting.name is not None or offset != putting.size:
            raise FileError(E.INVAL, "put", "an object is written once, from its start to its end")
        if offset + len(data) > MAX_OBJECT:
            raise FileError(E.FBIG, "put", f"at most {MAX_OBJECT} bytes")
        await putting.write(bytes(data))
        return len(data)

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        putting = fid.state
        assert isinstance(putting, _Putting)
        return (await putting.finish())[offset : offset + count]

    def close(self, fid: TreeFid) -> None:
        putting = fid.state
        assert isinstance(putting, _Putting)
        putting.close()
        fid.state = None


def store_server(store: Store, quota_of: QuotaOf = nobodys) -> TreeServer:
    """The whole store, for this node's users."""

    def control(data: bytes) -> None:
        words = split_words(data.decode("utf-8", "replace"))
        if len(words) != 3 or words[0] != "name":
            raise FileError(E.USAGE, "ctl", "name LABEL HASH")
        store.set_name(words[1], store.resolve(words[2]))

    tree = Directory("", [_Bin(store), _Objects(store), _Put(store, quota_of), Text("ctl", None, control)])
    return TreeServer("#V", tree)


def shared_server(store: Store, may: Callable[[str], bool] | None = None) -> TreeServer:
    """What a peer may fetch: objects that are here, by whole hash, if they are published or `may` says so."""

    def allowed(name: str) -> bool:
        return store.is_published(name) or (may is not None and may(name))

    return TreeServer("#V", Directory("", [_Objects(store, allowed)]))
