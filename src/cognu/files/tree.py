"""A library for file servers in memory: navigation, opening, reading directories; a device is then a table of names.

A tree is made of `Node`s. A device derives from `Node` for each kind of file it has and overrides `read`, `write`,
`open`, `close`; directories that know their children beforehand use `Directory`, others override `find` and
`entries`. As in Inferno's styxservers, navigation is apart from I/O; as in Plan 9's dev.c, a simple device is a table
plus a few functions.

    class Zero(Node):
        def read(self, fid, offset, count):
            return bytes(count)

    server = TreeServer("#c", Directory("", [Zero("zero", 0o666), ...]))
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec, TypeVar

from cognu.errors import E, FileError
from cognu.files.server import Caller, End, Entry, Fid, FileServer, MaybeAsync, Notice, Tell, Walk
from cognu.files.steps import Steps, is_awaitable, ready, start
from cognu.ninep.types import DMDIR, OACCESS, OEXEC, ORCLOSE, ORDWR, OREAD, OTRUNC, OWRITE, QTDIR, Qid, SetStat, Stat
from cognu.ninep.watches import ENDS, GONE, MADE, REMOVED

T = TypeVar("T")
P = ParamSpec("P")
_numbers = itertools.count(1)
_REFUSALS = (E.ACCES, E.PERM, E.NOTSUP)


class Watchers:
    """Who is told what happens to one file."""

    def __init__(self) -> None:
        self._tells: dict[int, Tell] = {}
        self._numbers = itertools.count()

    def add(self, tell: Tell) -> End:
        number = next(self._numbers)
        self._tells[number] = tell

        def end() -> None:
            self._tells.pop(number, None)

        return end

    def tell(self, kind: int, name: str = "", other: str = "") -> None:
        notice = Notice(kind, name, other)
        for tell in tuple(self._tells.values()):
            tell(notice)
        if kind & ENDS:
            self._tells.clear()


class TreeFid(Fid):
    """A fid on a node. `state` is the node's to use between open and close.

    `above` is the fid that it was walked from: `..` goes there, even if the node was moved meanwhile, so that whoever
    was given a directory never gets out of it.
    """

    __slots__ = ("above", "caller", "mode", "node", "snapshot", "state")

    def __init__(self, node: Node, above: TreeFid | None = None) -> None:
        super().__init__(node.qid)
        self.node = node
        self.above = above
        self.mode: int | None = None
        self.caller: Caller | None = None  # who opened it
        self.snapshot: list[Node] = []
        self.state: object = None


class Node:
    """One file. The permission bits in `mode` say what opening allows to anybody; capabilities decide the rest."""

    def __init__(self, name: str, mode: int = 0o444, *, qid_type: int = 0) -> None:
        self.name = name
        self.mode = mode
        self.parent: Node | None = None
        self.qid = Qid(qid_type, 0, next(_numbers))
        self.user = self.group = "cognu"
        self.mtime = self.atime = 0
        self._watchers: Watchers | None = None  # made with the first watch

    @property
    def is_directory(self) -> bool:
        return bool(self.qid.type & QTDIR)

    # navigation, for directories

    def find(self, name: str, caller: Caller) -> MaybeAsync[Node]:
        """The child of that name. Raises NOENT."""
        raise FileError(E.NOTDIR, self.name)

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        """The children, for reading the directory."""
        raise FileError(E.NOTDIR, self.name)

    def create(self, name: str, perm: int, mode: int, caller: Caller) -> MaybeAsync[Node]:
        """Make a child; the caller opens it. Raises EXIST."""
        raise FileError(E.ACCES, name)

    # I/O, on an open fid

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> MaybeAsync[TreeFid | None]:
        """May raise, set `fid.state`, or return another fid that is open instead (a clone file does)."""
        return None

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        raise FileError(E.ACCES, self.name)

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        raise FileError(E.ACCES, self.name)

    def close(self, fid: TreeFid) -> None:
        """An open fid is gone."""

    # change notices

    tells = False
    """Whether all that happens to files of this kind is told by `happened`."""

    def watch(self, tell: Tell) -> End:
        """Raises NOTSUP."""
        if not self.tells:
            raise FileError(E.NOTSUP, self.name or "/", "changes of it are not told")
        if self._watchers is None:
            self._watchers = Watchers()
        return self._watchers.add(tell)

    def happened(self, kind: int, name: str = "", other: str = "") -> None:
        """Tell who watches; see `ninep.watches` for the kinds."""
        if self._watchers is not None:
            self._watchers.tell(kind, name, other)

    # attributes

    @property
    def length(self) -> int:
        return 0

    def stat(self) -> Stat:
        return Stat(
            name=self.name or "/",
            qid=self.qid,
            mode=self.mode | (DMDIR if self.is_directory else 0),
            length=self.length,
            mtime=self.mtime,
            atime=self.atime,
            user=self.user,
            group=self.group,
            muid=self.user,
        )

    def wstat(self, change: SetStat) -> MaybeAsync[None]:
        """Devices take a truncation (shells write `> file`) and refuse the rest."""
        if change != SetStat(length=change.length):
            raise FileError(E.ACCES, self.name)
        return None

    def remove(self) -> MaybeAsync[None]:
        raise FileError(E.ACCES, self.name)


def check_for_writing(node: Node, mode: int) -> None:
    """Raises ACCES if a file that makes something when it is opened would be opened for reading alone.

    Opening for writing is what takes the right to write (`namespace.rights_of_mode`).
    """
    if mode & OACCESS not in (OWRITE, ORDWR):
        raise FileError(E.ACCES, node.name, "opening it makes something, and so is for writing")


class Directory(Node):
    """A directory whose children are kept here. One that finds others as well does not tell of changes."""

    tells = True

    def __init__(self, name: str, children: Sequence[Node] = (), mode: int = 0o555) -> None:
        super().__init__(name, mode, qid_type=QTDIR)
        self.children: dict[str, Node] = {}
        for child in children:
            self.add(child)

    def add(self, child: Node) -> Node:
        self.children[child.name] = child
        child.parent = self
        self.happened(MADE, child.name)
        return child

    def discard(self, name: str, moved: bool = False) -> None:
        """Take the child out; unless it is `moved` elsewhere, it is gone."""
        child = self.children.pop(name, None)
        if child is not None:
            child.parent = None
            self.happened(REMOVED, name)
            if not moved:
                child.happened(GONE)

    def find(self, name: str, caller: Caller) -> MaybeAsync[Node]:
        child = self.children.get(name)
        if child is None:
            raise FileError(E.NOENT)
        return child

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        return self.children.values()


class Text(Node):
    """A file that reads as what `get` returns at the moment of opening, and whose writes go to `put`, one at a time."""

    def __init__(
        self,
        name: str,
        get: Callable[[], str | bytes] | None,
        put: Callable[[bytes], None] | None = None,
        mode: int | None = None,
    ) -> None:
        default = (0o444 if get else 0) | (0o222 if put else 0)
        super().__init__(name, default if mode is None else mode)
        self._get = get
        self._put = put

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        if self._get is not None and mode & 3 in (OREAD, ORDWR, OEXEC):
            text = self._get()
            fid.state = text.encode() if isinstance(text, str) else text

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        assert self._put is not None
        self._put(bytes(data))
        return len(data)


class TreeServer(FileServer):
    """Serves the tree under `root`."""

    def __init__(self, spec: str, root: Node) -> None:
        self.spec = spec
        self.root = root

    def attach(self, caller: Caller, aname: str) -> MaybeAsync[Fid]:
        if aname:
            raise FileError(E.NOATTACH, self.spec + aname)
        return TreeFid(self.root)

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        assert isinstance(fid, TreeFid)
        return start(self._walk(fid, names, caller))

    def _walk(self, fid: TreeFid, names: Sequence[str], caller: Caller) -> Steps[Walk]:
        if list(names) == [".."]:
            up = fid.above or fid
            return Walk([up.qid], TreeFid(up.node, up.above))
        at, qids = TreeFid(fid.node, fid.above), list[Qid]()
        for name in names:
            try:
                if not at.node.is_directory:
                    raise FileError(E.NOTDIR)
                found = at.node.find(name, caller)
                node: Node = (yield found) if is_awaitable(found) else found
            except FileError:
                if not qids:
                    raise
                return Walk(qids, None)
            at = TreeFid(node, at)
            qids.append(at.qid)
        return Walk(qids, at)

    def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        assert isinstance(fid, TreeFid)
        node = fid.node
        access = mode & 3
        if node.is_directory:
            if access in (OWRITE, ORDWR) or mode & (OTRUNC | ORCLOSE):
                raise FileError(E.ISDIR, node.name)
        elif not _allows(node.mode, access):
            raise self._refusal(FileError(E.ACCES, node.name))
        return start(self._named(_open(fid, mode, caller)))

    def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        assert isinstance(fid, TreeFid)
        if not fid.node.is_directory:
            raise FileError(E.NOTDIR, fid.node.name)
        return start(self._named(self._create(fid, name, perm, mode, caller)))

    def _create(self, fid: TreeFid, name: str, perm: int, mode: int, caller: Caller) -> Steps[Fid]:
        node = yield from ready(fid.node.create(name, perm, mode, caller))
        # A file just made is opened as asked, whatever permissions it was made with.
        return (yield from _open(TreeFid(node, fid), mode & ~OTRUNC, caller))

    def read(self, fid: Fid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        assert isinstance(fid, TreeFid)
        if fid.mode is None or fid.mode & 3 == OWRITE:
            raise FileError(E.BADF, fid.node.name)
        if fid.node.is_directory:
            raise FileError(E.ISDIR, fid.node.name)
        return fid.node.read(fid, offset, count)

    def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        assert isinstance(fid, TreeFid)
        if fid.mode is None or fid.mode & 3 not in (OWRITE, ORDWR):
            raise FileError(E.BADF, fid.node.name)
        return fid.node.write(fid, offset, data)

    def readdir(self, fid: Fid, cookie: int, count: int) -> MaybeAsync[list[Entry]]:
        assert isinstance(fid, TreeFid)
        if fid.mode is None or not fid.node.is_directory:
            raise FileError(E.NOTDIR, fid.node.name)
        if cookie == 0:
            fid.snapshot = list(fid.node.entries(fid.caller))
        batch = fid.snapshot[cookie : cookie + count]
        return [Entry(cookie + index, node.qid, node.name, node.stat()) for index, node in enumerate(batch, 1)]

    def watch(self, fid: Fid, kinds: int, tell: Tell) -> MaybeAsync[End]:
        assert isinstance(fid, TreeFid)
        return fid.node.watch(tell)

    def stat(self, fid: Fid) -> MaybeAsync[Stat]:
        assert isinstance(fid, TreeFid)
        return fid.node.stat()

    def wstat(self, fid: Fid, change: SetStat) -> MaybeAsync[None]:
        assert isinstance(fid, TreeFid)
        return start(self._named(_call(fid.node.wstat, change)))

    def remove(self, fid: Fid) -> MaybeAsync[None]:
        assert isinstance(fid, TreeFid)
        return start(self._named(_call(fid.node.remove)))

    def _named(self, work: Steps[T]) -> Steps[T]:
        """What the tree itself refuses says so."""
        try:
            return (yield from work)
        except FileError as error:
            if error.error in _REFUSALS:
                raise self._refusal(error) from None
            raise

    def _refusal(self, error: FileError) -> FileError:
        said = f"{self.spec} refuses it"
        return FileError(error.error, error.subject, f"{said}: {error.detail}" if error.detail else said)

    def clunk(self, fid: Fid) -> None:
        assert isinstance(fid, TreeFid)
        if fid.mode is not None:
            fid.node.close(fid)
            fid.mode = None
        fid.snapshot = []


def _call(method: Callable[P, MaybeAsync[T]], *args: P.args, **kwargs: P.kwargs) -> Steps[T]:
    return (yield from ready(method(*args, **kwargs)))


def _open(fid: TreeFid, mode: int, caller: Caller) -> Steps[Fid]:
    other = yield from ready(fid.node.open(fid, mode, caller))
    opened = other or fid
    opened.mode = mode
    opened.caller = caller
    return opened


def _allows(permissions: int, access: int) -> bool:
    """Whether any class of users may open so. Who may is decided by capabilities, not by names of users."""
    bits = permissions | permissions >> 3 | permissions >> 6
    need = {OREAD: 4, OWRITE: 2, ORDWR: 6, OEXEC: 4}[access]
    return bits & need == need
