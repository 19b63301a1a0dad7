"""A file system in memory, `#r`: what `/tmp` is, and what tests stand on. As ramfs(4), with rename, symlinks, limits.

A file may have several names; each is a node of its own, and all share what the file is (`_Shared`). A file whose last
name was removed lives on for those who have it open and for nobody else; its bytes count until the last of them closes
it. They are charged (`Resource.DISK`) to the process that made the file, as in Unix to a file's owner.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from cognu.errors import E, FileError
from cognu.files.attributes import check_attribute
from cognu.files.limits import Quota, QuotaOf, Resource, nobodys
from cognu.files.locks import LockTable
from cognu.files.server import OAPPEND, Caller, Fid, Lock, MaybeAsync, Walk
from cognu.files.tree import Directory, Node, TreeFid, TreeServer, Watchers
from cognu.ninep.types import (
    DMAPPEND,
    DMDEVICE,
    DMDIR,
    DMEXCL,
    DMNAMEDPIPE,
    DMPERM,
    DMSOCKET,
    DMSYMLINK,
    OACCESS,
    ORCLOSE,
    ORDWR,
    OTRUNC,
    OWRITE,
    QTSYMLINK,
    XATTR_CREATE,
    XATTR_MAX,
    XATTR_REPLACE,
    FileSystemStat,
    Qid,
    SetStat,
    Stat,
    qid_type,
)
from cognu.ninep.watches import ATTRIBUTES, CONTENT, GONE, RENAMED
from cognu.world import Clock

T = TypeVar("T")

BLOCK = 4096
NAME_MAX = 255
_KEPT_BITS = DMPERM | DMAPPEND | DMEXCL


@dataclass
class _Store:
    """What all files of one server share: the clock, the limits and how much of them is used."""

    clock: Clock
    max_bytes: int
    max_files: int
    quota_of: QuotaOf = nobodys
    used: int = 0
    files: int = 1  # the root

    def take(self, count: int) -> None:
        """Room for `count` more bytes (fewer, if negative). Raises NOSPC."""
        if count > 0 and self.used + count > self.max_bytes:
            raise FileError(E.NOSPC)
        self.used += count

    def take_file(self) -> None:
        """Room for one more name. Raises NOSPC."""
        if self.files >= self.max_files:
            raise FileError(E.NOSPC, "", f"{self.max_files} files")
        self.files += 1


class _Shared(Generic[T]):
    """An attribute that all names of a file have together: it is kept in their `inode`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, node: _RamNode, owner: type) -> T:
        value: T = node.inode[self._name]
        return value

    def __set__(self, node: _RamNode, value: T) -> None:
        node.inode[self._name] = value


class _RamNode(Node):
    """What files, directories and links have in common. A node is one name, and knows where it is."""

    tells = True

    store: _Store
    kind = 0  # DMNAMEDPIPE or DMSOCKET
    gone = False  # removed from its directory
    inode: dict[str, Any]
    mode = _Shared[int]()
    qid = _Shared[Qid]()
    user = _Shared[str]()
    group = _Shared[str]()
    muid = _Shared[str]()
    mtime = _Shared[int]()
    atime = _Shared[int]()
    ctime = _Shared[int]()
    attributes = _Shared[dict[str, bytes]]()
    opens = _Shared[int]()
    names = _Shared[int]()
    _watchers = _Shared[Watchers | None]()

    def __new__(cls, *_: Any, **__: Any) -> Self:
        # Before any `__init__`, each of which sets some of what is kept in it.
        node = super().__new__(cls)
        node.inode = {"attributes": {}, "muid": "", "ctime": 0, "opens": 0, "names": 1}
        return node

    def happened(self, kind: int, name: str = "", other: str = "") -> None:
        # With another name left it is not gone, for whoever watches it by that.
        super().happened(ATTRIBUTES if kind == GONE and self.names > 1 else kind, name, other)

    def again(self, name: str) -> _RamNode:
        """Another name of the same file, which is not in a directory yet."""
        other = copy.copy(self)
        other.name, other.parent, other.gone = name, None, False
        return other

    def adopt(self, store: _Store, user: str) -> None:
        self.store = store
        self.user = self.group = self.muid = user
        self.mtime = self.atime = self.ctime = store.clock.now()

    def changed(self, user: str | None = None) -> None:
        self.mtime = self.ctime = self.store.clock.now()
        self.qid = self.qid._replace(version=self.qid.version + 1 & 0xFFFFFFFF)
        if user is not None:
            self.muid = user
        if not self.is_directory:
            self.happened(CONTENT)

    def stat(self) -> Stat:
        return Stat(
            name=self.name or "/",
            qid=self.qid,
            mode=self.qid.type << 24 | self.kind | self.mode & DMPERM,
            length=self.length,
            mtime=self.mtime,
            atime=self.atime,
            ctime=self.ctime,
            user=self.user,
            group=self.group,
            muid=self.muid,
            links=2 if self.is_directory else self.names,
        )

    def wstat(self, change: SetStat) -> None:
        """Rename within the directory (EXIST if the name is taken), resize, change mode and times: all or nothing."""
        directory = self.parent
        if change.name is not None and change.name != self.name:
            if not isinstance(directory, RamDirectory):
                raise FileError(E.INVAL, self.name, "the root has no other name")
            check_name(change.name)
            if change.name in directory.children:
                raise FileError(E.EXIST, change.name)
        if change.mode is not None and change.mode & ~(self.qid.type << 24) & (DMDIR | DMSYMLINK):
            raise FileError(E.PERM, self.name, "a file can't become a directory")
        owner = {self.user, self.group, None}
        if not {change.user, change.group} <= owner or {change.uid, change.gid} != {None}:
            raise FileError(E.PERM, self.name, "owners don't change here")
        if change.length is not None:
            self.resize(change.length)
        self._set(change)
        if change.name is not None and change.name != self.name:
            assert isinstance(directory, RamDirectory)
            directory.rename(self, change.name)

    def _set(self, change: SetStat) -> None:
        now = self.store.clock.now()
        if change.mode is not None:
            kind = self.qid.type & ~qid_type(DMAPPEND | DMEXCL) | qid_type(change.mode & (DMAPPEND | DMEXCL))
            self.mode = change.mode & DMPERM
            self.qid = self.qid._replace(type=kind)
        if change.mtime is not None or change.mtime_now:
            self.mtime = now if change.mtime_now or change.mtime is None else change.mtime
        if change.atime is not None or change.atime_now:
            self.atime = now if change.atime_now or change.atime is None else change.atime
        self.ctime = now
        if change != SetStat(name=change.name, length=change.length):
            self.happened(ATTRIBUTES)

    def resize(self, length: int) -> None:
        if length != 0 or not self.is_directory:
            raise FileError(E.ISDIR if self.is_directory else E.INVAL, self.name, "length")

    def remove(self) -> None:
        """Raises NOTEMPTY, and BUSY for the root."""
        if not isinstance(self.parent, RamDirectory):
            raise FileError(E.BUSY, self.name or "/", "the root stays")
        if isinstance(self, RamDirectory) and self.children:
            raise FileError(E.NOTEMPTY, self.name)
        self.parent.changed()
        self.parent.discard(self.name)
        self.gone = True
        self.names -= 1
        if self.names:
            self.store.files -= 1
            self.ctime = self.store.clock.now()
        elif self.opens == 0:
            self.free()

    def set_attribute(self, name: str, value: bytes | None, flags: int = 0) -> None:
        """Set it, or with None take it away. Raises EXIST, NODATA, NOTSUP (a link), NOSPC, DQUOT."""
        check_attribute(name)
        there = self.attributes.get(name)
        if self.qid.type & QTSYMLINK:
            raise FileError(E.NOTSUP, self.name, "attributes of a link")
        if there is not None and flags == XATTR_CREATE:
            raise FileError(E.EXIST, name)
        if there is None and (value is None or flags == XATTR_REPLACE):
            raise FileError(E.NODATA, name)
        changed = {other: kept for other, kept in self.attributes.items() if other != name}
        if value is not None:
            changed[name] = value
        size = _size(changed)
        if size > XATTR_MAX:
            raise FileError(E.NOSPC, name, f"at most {XATTR_MAX} bytes of attributes")
        self._take(size - _size(self.attributes))
        self.attributes = changed
        self.ctime = self.store.clock.now()
        self.happened(ATTRIBUTES)

    def free(self) -> None:
        self.store.files -= 1
        self._take(-_size(self.attributes))
        self.attributes = {}

    def _take(self, count: int) -> None:
        """Room for `count` more bytes (fewer, if negative). Raises NOSPC, DQUOT."""
        self.store.take(count)

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        self.opens += 1
        return None

    def close(self, fid: TreeFid) -> None:
        self.opens -= 1
        assert fid.mode is not None
        if fid.mode & ORCLOSE and not self.gone and not (isinstance(self, RamDirectory) and self.children):
            self.remove()
        elif self.names == 0 and self.opens == 0:
            self.free()


def _size(attributes: dict[str, bytes]) -> int:
    return sum(len(name.encode()) + len(value) for name, value in attributes.items())


class RamFile(_RamNode):
    """A plain file: one bytearray, so that writes anywhere cost what they write."""

    data = _Shared[bytearray]()

    def __init__(self, name: str, mode: int, quota: Quota | None = None) -> None:
        super().__init__(name, mode & DMPERM, qid_type=qid_type(mode & _KEPT_BITS))
        self.data = bytearray()
        self._quota = quota

    @property
    def length(self) -> int:
        return len(self.data)

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        if self.qid.type & qid_type(DMEXCL) and self.opens:
            raise FileError(E.BUSY, self.name, "exclusive use")
        if mode & OTRUNC and not self.qid.type & qid_type(DMAPPEND):
            self.resize(0)
        self.opens += 1

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return bytes(memoryview(self.data)[offset : offset + count])

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        assert fid.mode is not None
        assert fid.caller is not None
        if fid.mode & OAPPEND or self.qid.type & qid_type(DMAPPEND):
            offset = len(self.data)
        end = offset + len(data)
        if len(data) and end > len(self.data):
            self._take(end - len(self.data))
            self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset:end] = data
        self.changed(fid.caller.user)
        return len(data)

    def resize(self, length: int) -> None:
        """Cut off, or fill up with zeros. Raises NOSPC, DQUOT, INVAL."""
        if length < 0:
            raise FileError(E.INVAL, self.name, f"length {length}")
        self._take(length - len(self.data))
        if length < len(self.data):
            del self.data[length:]
        else:
            self.data.extend(bytes(length - len(self.data)))
        self.changed()

    def free(self) -> None:
        super().free()
        self._take(-len(self.data))
        self.data = bytearray()

    def _take(self, count: int) -> None:
        """Room for `count` more bytes (fewer, if negative). Raises NOSPC, DQUOT."""
        if self._quota is not None and count > 0:
            self._quota.check(Resource.DISK, count)
        self.store.take(count)
        if self._quota is not None:
            self._quota.add(Resource.DISK, count)


class RamLink(_RamNode):
    """A symlink."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(name, 0o777, qid_type=QTSYMLINK)
        self.target = target

    @property
    def length(self) -> int:
        return len(self.target.encode())

    def free(self) -> None:
        super().free()
        self.store.take(-self.length)


class RamSpecial(_RamNode):
    """A pipe or socket by name, for a client that knows what to do with it: nothing goes through it here."""

    def __init__(self, name: str, mode: int) -> None:
        super().__init__(name, mode & DMPERM)
        self.kind = mode & (DMNAMEDPIPE | DMSOCKET)


class RamDirectory(_RamNode, Directory):
    """A directory. Its children are in the order of their making; a rename within it keeps the place."""

    def find(self, name: str, caller: Caller) -> MaybeAsync[Node]:
        if self.gone:
            raise FileError(E.NOENT)
        return Directory.find(self, name, caller)

    def create(self, name: str, perm: int, mode: int, caller: Caller) -> Node:
        """open(5): a new file has no more permissions than its directory gives. Raises EXIST, NOSPC."""
        if perm & DMDIR and mode & OACCESS in (OWRITE, ORDWR):
            raise FileError(E.ISDIR, name)
        if perm & DMDIR:
            made: RamFile | RamDirectory = RamDirectory(name, (), perm & (~0o777 | self.mode) & DMPERM)
        else:
            made = RamFile(name, perm & (~0o666 | self.mode), self.store.quota_of(caller))
        return self.put(made, caller.user)

    def put(self, node: RamFile | RamDirectory | RamLink | RamSpecial, user: str) -> Node:
        node.adopt(self.store, user)
        return self.enter(node, user)

    def enter(self, node: _RamNode, user: str) -> Node:
        """Have a name here that is nowhere yet. Raises INVAL and such for the name, NOENT, EXIST, NOSPC."""
        check_name(node.name)
        if self.gone:
            raise FileError(E.NOENT, node.name)
        if node.name in self.children:
            raise FileError(E.EXIST, node.name)
        self.store.take_file()
        self.add(node)
        self.changed(user)
        return node

    def rename(self, node: Node, name: str) -> None:
        """A rename within this directory, to a name nobody has."""
        old = node.name
        self.children = {(name if child is node else key): child for key, child in self.children.items()}
        node.name = name
        self.changed()
        self.happened(RENAMED, old, name)


def check_name(name: str) -> None:
    """Raises INVAL, ILSEQ or NAMETOOLONG for what can't name a file."""
    if name in ("", ".", "..") or "/" in name:
        raise FileError(E.INVAL, name, "name of a file")
    if "\0" in name:
        raise FileError(E.ILSEQ, repr(name))
    if len(name.encode("utf-8", "surrogatepass")) > NAME_MAX:
        raise FileError(E.NAMETOOLONG, name)


class RamServer(TreeServer):
    """A tree in memory of at most `max_bytes` bytes of contents and `max_files` files and directories."""

    def __init__(
        self,
        clock: Clock,
        *,
        max_bytes: int = 64 << 20,
        max_files: int = 65536,
        spec: str = "#r",
        user: str = "cognu",
        mode: int = 0o777,
        quota_of: QuotaOf = nobodys,
    ) -> None:
        self._store = _Store(clock, max_bytes, max_files, quota_of)
        root = RamDirectory("", (), mode)
        root.adopt(self._store, user)
        self._locks = LockTable(clock)
        super().__init__(spec, root)

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        _present(fid)
        return super().walk(fid, names, caller)

    def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        node = _present(fid)
        if isinstance(node, RamLink):
            raise FileError(E.LOOP, node.name)
        if isinstance(node, RamSpecial):
            raise FileError(E.NXIO, node.name, "nobody is behind it here")
        opened = super().open(fid, mode, caller)
        fid.qid = node.qid
        return opened

    def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        written = super().write(fid, offset, data)
        assert isinstance(fid, TreeFid)
        fid.qid = fid.node.qid
        return written

    def stat(self, fid: Fid) -> MaybeAsync[Stat]:
        _present(fid)
        return super().stat(fid)

    def wstat(self, fid: Fid, change: SetStat) -> None:
        node = _present(fid)
        node.wstat(change)
        fid.qid = node.qid

    def remove(self, fid: Fid) -> None:
        node = _present(fid)
        if node.gone:
            raise FileError(E.NOENT, node.name)
        node.remove()

    def symlink(self, fid: Fid, name: str, target: str) -> Qid:
        if not target or "\0" in target:
            raise FileError(E.NOENT if not target else E.ILSEQ, name)
        directory = _directory(fid)
        link = RamLink(name, target)
        self._store.take(link.length)
        try:
            directory.put(link, directory.user)
        except FileError:
            self._store.take(-link.length)
            raise
        return link.qid

    def mknod(self, fid: Fid, name: str, mode: int, major: int, minor: int) -> Qid:
        if mode & DMDEVICE:
            raise FileError(E.PERM, name, "devices are servers here, bound where they are wanted")
        directory = _directory(fid)
        return directory.put(RamSpecial(name, mode & (~0o666 | directory.mode)), directory.user).qid

    def readlink(self, fid: Fid) -> str:
        node = _present(fid)
        if not isinstance(node, RamLink):
            raise FileError(E.INVAL, node.name, "not a symlink")
        return node.target

    def rename(self, directory: Fid, name: str, to: Fid, new_name: str) -> None:
        """rename(2). Raises NOENT, INVAL (a directory into itself), ISDIR, NOTDIR, NOTEMPTY."""
        source, target = _directory(directory), _directory(to)
        check_name(new_name)
        node = source.children.get(name)
        if node is None:
            raise FileError(E.NOENT, name)
        assert isinstance(node, _RamNode)
        above: Node | None = target
        while above is not None:
            if above is node:
                raise FileError(E.INVAL, name, "into itself")
            above = above.parent
        there = target.children.get(new_name)
        assert there is None or isinstance(there, _RamNode)
        if there is not None and there.inode is node.inode:  # itself, or another name of the same file
            return
        if there is not None:
            if there.is_directory != node.is_directory:
                raise FileError(E.ISDIR if there.is_directory else E.NOTDIR, new_name)
            there.remove()
        if source is target:
            source.rename(node, new_name)
            return
        source.discard(name, moved=True)
        source.changed()
        node.name = new_name
        target.add(node)
        target.changed()

    def link(self, directory: Fid, existing: Fid, name: str) -> None:
        """link(2). Raises PERM for a directory, NOENT for a file whose name is gone, and what `enter` does."""
        node, above = _present(existing), _directory(directory)
        if node.is_directory:
            raise FileError(E.PERM, name, "a directory has one name")
        if node.gone:
            raise FileError(E.NOENT, node.name)
        made = node.again(name)
        above.enter(made, above.user)
        made.names += 1
        made.ctime = self._store.clock.now()

    def getxattr(self, fid: Fid, name: str) -> bytes:
        check_attribute(name)
        value = _present(fid).attributes.get(name)
        if value is None:
            raise FileError(E.NODATA, name)
        return value

    def listxattr(self, fid: Fid) -> list[str]:
        return list(_present(fid).attributes)

    def setxattr(self, fid: Fid, name: str, value: bytes, flags: int) -> None:
        _present(fid).set_attribute(name, value, flags)

    def removexattr(self, fid: Fid, name: str) -> None:
        _present(fid).set_attribute(name, None)

    def lock_range(self, fid: Fid, lock: Lock, wait: bool) -> MaybeAsync[bool]:
        assert isinstance(fid, TreeFid)
        return self._locks.take(fid, fid.mode, lock, wait)

    def unlock_range(self, fid: Fid, lock: Lock) -> None:
        self._locks.release(fid, lock)

    def find_lock(self, fid: Fid, lock: Lock) -> Lock | None:
        return self._locks.find(fid, lock)

    def clunk(self, fid: Fid) -> None:
        self._locks.drop(fid)
        super().clunk(fid)

    def statfs(self, fid: Fid) -> FileSystemStat:
        store = self._store
        free = (store.max_bytes - store.used) // BLOCK
        return FileSystemStat(
            bsize=BLOCK,
            blocks=store.max_bytes // BLOCK,
            bfree=free,
            bavail=free,
            files=store.max_files,
            ffree=store.max_files - store.files,
            namelen=NAME_MAX,
        )


def _present(fid: Fid) -> _RamNode:
    """The fid's node; a fid that is not open does not outlive its file (NOENT)."""
    assert isinstance(fid, TreeFid)
    assert isinstance(fid.node, _RamNode)
    if fid.node.gone and fid.mode is None:
        raise FileError(E.NOENT, fid.node.name)
    return fid.node


def _directory(fid: Fid) -> RamDirectory:
    node = _present(fid)
    if not isinstance(node, RamDirectory):
        raise FileError(E.NOTDIR, node.name)
    return node
