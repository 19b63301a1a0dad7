"""The store as files (`#V`):

    bin/NAME          a named object's bytes; removing it removes the name
    objects/HASH      an object's bytes; fetched from a peer if it is not here. Any unambiguous prefix will do
    put               write an object, then read its hash, which is there once the object is durable; its bytes are
                      charged (`Resource.DISK`) to the process that put it, for as long as the node runs
    ctl               write `name LABEL HASH`

A server for peers has `objects` alone, takes whole hashes only, and never asks further peers.
"""

from __future__ import annotations

from collections.abc import Iterable

from cognu.errors import E, FileError
from cognu.files.limits import Quota, QuotaOf, Resource, nobodys
from cognu.files.nstext import split_words
from cognu.files.server import Caller
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer
from cognu.ninep.types import QTDIR
from cognu.store.names import check_name, is_prefix
from cognu.store.objects import MAX_OBJECT, OpenObject, Store


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
        self._seen: dict[tuple[str, str], _Named] = {}

    def find(self, name: str, caller: Caller) -> Node:
        return self._node(name, self._store.named(name))

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        return [self._node(label, self._store.named(label)) for label in self._store.labels()]

    def _node(self, label: str, name: str) -> Node:
        """One node, and so one qid, for a label as long as it stands for the same object."""
        node = self._seen.get((label, name))
        if node is None:
            node = self._seen[label, name] = _Named(self._store, label, name, False)
            node.parent = self
        return node


class _Objects(Node):
    """Not listed: whoever asks knows the name."""

    def __init__(self, store: Store, local: bool) -> None:
        super().__init__("objects", 0o555, qid_type=QTDIR)
        self._store = store
        self._local = local

    def find(self, name: str, caller: Caller) -> Node:
        if self._local:
            whole = check_name(name)
        elif is_prefix(name):
            whole = self._store.resolve(name)
        else:
            raise FileError(E.NOENT, name)
        return _Object(self._store, name, whole, self._local)

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        return []


class _Upload:
    def __init__(self, quota: Quota | None) -> None:
        self.parts = bytearray()
        self.name: bytes | None = None
        self.quota = quota


class _Put(Node):
    def __init__(self, store: Store, quota_of: QuotaOf) -> None:
        super().__init__("put", 0o666)
        self._store = store
        self._quota_of = quota_of

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = _Upload(self._quota_of(caller))

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        upload = fid.state
        assert isinstance(upload, _Upload)
        if upload.name is not None or offset != len(upload.parts):
            raise FileError(E.INVAL, "put", "an object is written once, from its start to its end")
        if offset + len(data) > MAX_OBJECT:
            raise FileError(E.FBIG, "put", f"at most {MAX_OBJECT} bytes")
        if upload.quota is not None:
            upload.quota.take(Resource.DISK, len(data))
        upload.parts += data
        return len(data)

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        upload = fid.state
        assert isinstance(upload, _Upload)
        if upload.name is None:
            upload.name = (await self._store.put(bytes(upload.parts))).encode() + b"\n"
            upload.parts = bytearray()
        return upload.name[offset : offset + count]

    def close(self, fid: TreeFid) -> None:
        upload = fid.state
        assert isinstance(upload, _Upload)
        if upload.name is None and upload.quota is not None:
            upload.quota.give(Resource.DISK, len(upload.parts))
        fid.state = None


def store_server(store: Store, quota_of: QuotaOf = nobodys) -> TreeServer:
    """The whole store, for this node's users."""

    def control(data: bytes) -> None:
        words = split_words(data.decode("utf-8", "replace"))
        if len(words) != 3 or words[0] != "name":
            raise FileError(E.USAGE, "ctl", "name LABEL HASH")
        store.set_name(words[1], store.resolve(words[2]))

    tree = Directory("", [_Bin(store), _Objects(store, False), _Put(store, quota_of), Text("ctl", None, control)])
    return TreeServer("#V", tree)


def shared_server(store: Store) -> TreeServer:
    """What peers may fetch: objects that are here, by whole hash."""
    return TreeServer("#V", Directory("", [_Objects(store, True)]))
