"""A memory file server for namespace tests, with the habits of Inferno's memfs(4): the newest entry is listed first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cognu.errors import E, FileError
from cognu.files.server import Caller, Fid, MaybeAsync, Walk
from cognu.files.tree import Node, TreeFid, TreeServer
from cognu.ninep.types import DMDIR, DMSYMLINK, OTRUNC, QTDIR, QTSYMLINK, Qid, SetStat, Stat


class MemFile(Node):
    def __init__(self, name: str, data: bytes = b"") -> None:
        super().__init__(name, 0o666)
        self.data = data

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        if mode & OTRUNC:
            self.data = b""

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        self.data = self.data[:offset] + bytes(data) + self.data[offset + len(data) :]
        return len(data)

    @property
    def length(self) -> int:
        return len(self.data)

    def remove(self) -> None:
        _take_out(self)

    def wstat(self, change: SetStat) -> None:
        _rename(self, change)


class MemLink(Node):
    """A symlink, which memfs(4) has not."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(name, 0o777, qid_type=QTSYMLINK)
        self.target = target

    def stat(self) -> Stat:
        return replace(super().stat(), mode=DMSYMLINK | 0o777)

    def remove(self) -> None:
        _take_out(self)


class MemDirectory(Node):
    def __init__(self, name: str) -> None:
        super().__init__(name, 0o777, qid_type=QTDIR)
        self.children: dict[str, Node] = {}

    def find(self, name: str, caller: Caller) -> Node:
        if name not in self.children:
            raise FileError(E.NOENT)
        return self.children[name]

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        return reversed(list(self.children.values()))

    def add(self, node: Node) -> Node:
        self.children[node.name] = node
        node.parent = self
        return node

    def create(self, name: str, perm: int, mode: int, caller: Caller) -> Node:
        if name in self.children:
            raise FileError(E.EXIST, name)
        return self.add(MemDirectory(name) if perm & DMDIR else MemFile(name))

    def remove(self) -> None:
        if self.children:
            raise FileError(E.NOTEMPTY, self.name)
        _take_out(self)

    def wstat(self, change: SetStat) -> None:
        _rename(self, change)


def _take_out(node: Node) -> None:
    above = node.parent
    if not isinstance(above, MemDirectory):
        raise FileError(E.ACCES, node.name)
    del above.children[node.name]
    node.parent = node  # marks it: gone from the tree, and `..` of it leads nowhere


def _rename(node: Node, change: SetStat) -> None:
    if change.name is None:
        return
    above = node.parent
    if not isinstance(above, MemDirectory):
        raise FileError(E.ACCES, node.name)
    if change.name in above.children and change.name != node.name:
        raise FileError(E.EXIST, change.name)
    above.children = {change.name if child is node else name: child for name, child in above.children.items()}
    node.name = change.name


class MemServer(TreeServer):
    """Forgets a file when it is removed: whatever was walked to it goes stale."""

    def __init__(self, spec: str, name: str = "memfs") -> None:
        super().__init__(spec, MemDirectory(name))

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        _check(fid)
        return super().walk(fid, names, caller)

    def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        _check(fid)
        return super().open(fid, mode, caller)

    def stat(self, fid: Fid) -> MaybeAsync[Stat]:
        _check(fid)
        return super().stat(fid)

    def remove(self, fid: Fid) -> MaybeAsync[None]:
        _check(fid)
        return super().remove(fid)

    def wstat(self, fid: Fid, change: SetStat) -> MaybeAsync[None]:
        _check(fid)
        return super().wstat(fid, change)

    def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        _check(fid)
        return super().create(fid, name, perm, mode, caller)

    def symlink(self, fid: Fid, name: str, target: str) -> Qid:
        _check(fid)
        assert isinstance(fid, TreeFid)
        directory = fid.node
        if not isinstance(directory, MemDirectory) or name in directory.children:
            raise FileError(E.EXIST if isinstance(directory, MemDirectory) else E.NOTDIR, name)
        return directory.add(MemLink(name, target)).qid

    def readlink(self, fid: Fid) -> str:
        assert isinstance(fid, TreeFid)
        if not isinstance(fid.node, MemLink):
            raise FileError(E.INVAL, fid.node.name)
        return fid.node.target

    def rename(self, directory: Fid, name: str, to: Fid, new_name: str) -> None:
        assert isinstance(directory, TreeFid)
        assert isinstance(to, TreeFid)
        source, target = directory.node, to.node
        assert isinstance(source, MemDirectory)
        assert isinstance(target, MemDirectory)
        if name not in source.children:
            raise FileError(E.NOENT, name)
        node = source.children[name]
        if source is target:
            source.children.pop(new_name if new_name != name else "", None)
            _rename(node, SetStat(name=new_name))
            return
        del source.children[name]
        node.name = new_name
        target.add(node)

    def at(self, path: str) -> Node:
        node = self.root
        for step in path.split("/"):
            if step:
                assert isinstance(node, MemDirectory)
                node = node.children[step]
        return node

    def plant(self, path: str, data: str | None) -> Node:
        """Put a file (or with None a directory) at `path`, whose parent is there."""
        above, _, name = path.rstrip("/").rpartition("/")
        directory = self.at(above)
        assert isinstance(directory, MemDirectory)
        return directory.add(MemDirectory(name) if data is None else MemFile(name, data.encode()))

    def plant_link(self, path: str, target: str) -> None:
        above, _, name = path.rpartition("/")
        directory = self.at(above)
        assert isinstance(directory, MemDirectory)
        directory.add(MemLink(name, target))

    def move(self, path: str, directory: str) -> None:
        """What others may do meanwhile: the file at `path` goes to another directory, under its name."""
        node, to = self.at(path), self.at(directory)
        assert isinstance(node.parent, MemDirectory)
        assert isinstance(to, MemDirectory)
        del node.parent.children[node.name]
        to.add(node)


def _check(fid: Fid) -> None:
    assert isinstance(fid, TreeFid)
    if fid.node.parent is fid.node:
        raise FileError(E.NOENT, fid.node.name)
