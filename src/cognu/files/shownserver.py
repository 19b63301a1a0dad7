"""A file server of which patterns say what is shown: what a grant with patterns is, in whatever namespace it is used.

Where a namespace may be changed by those who use it, or what it shows is handed on, patterns of the namespace's own
names hold nothing: a directory that is bound elsewhere has other names. So here each fid knows by which names its file
was reached from the root of the tree, and what these do not show is not walked to, listed, made, moved to or told of.
The rules are those of `files/shown.py`. Whatever is done with a file that is shown goes to the server below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.server import (
    Caller,
    End,
    Entry,
    Fid,
    FileServer,
    Lock,
    MaybeAsync,
    StoredBytes,
    Tell,
    Walk,
)
from cognu.files.shown import Filter, notice_shown
from cognu.files.steps import Steps, ready, start
from cognu.ninep.types import DMDIR, ORCLOSE, QTDIR, FileSystemStat, Qid, SetStat, Stat

Names = tuple[str, ...]


class ShownFid(Fid):
    """A fid of the server below, and its names from the root of the tree; nothing leads above the first `top` names.

    `caller` walked to it.
    """

    __slots__ = ("below", "caller", "names", "top")

    def __init__(self, below: Fid, names: Names, top: int, caller: Caller) -> None:
        self.below = below
        self.names = names
        self.top = top
        self.caller = caller

    @property
    def qid(self) -> Qid:
        return self.below.qid

    @qid.setter
    def qid(self, qid: Qid) -> None:
        self.below.qid = qid


def _of(fid: Fid) -> ShownFid:
    assert isinstance(fid, ShownFid)
    return fid


@dataclass
class ShownTree:
    """One tree of which a filter says what is shown, over the servers that it is made of: one each for one of those."""

    patterns: Filter
    servers: dict[FileServer, ShownServer] = field(default_factory=dict)

    def chan(self, chan: Chan, names: Names, caller: Caller) -> Steps[Chan]:
        """The file at `chan`, which is closed, as the tree shows it at `names`. Raises what walking does."""
        server = self.servers.get(chan.server)
        if server is None:
            server = self.servers[chan.server] = ShownServer(chan.server, self.patterns)
        walked = yield from dispatch(chan, 0, chan.server.walk, chan.fid, [], caller)
        if walked.fid is None:
            raise FileError(E.NOENT, str(chan.path))
        made = chan.behind(server, ShownFid(walked.fid, names, len(names), caller))
        chan.close()
        return made


class ShownServer(FileServer):
    """What of `server` the patterns show. Has no roots of its own: `ShownTree.chan` makes them."""

    def __init__(self, server: FileServer, patterns: Filter) -> None:
        self._below = server
        self._patterns = patterns
        self.spec = server.spec

    @property
    def far(self) -> bool:
        return self._below.far

    @property
    def ends_with_right(self) -> bool:
        return self._below.ends_with_right

    # -- what goes by names -----------------------------------------------------------------------------------------

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        return start(self._walk(_of(fid), names, caller))

    def _walk(self, fid: ShownFid, names: Sequence[str], caller: Caller) -> Steps[Walk]:
        up = len(names) == 1 and names[0] == ".."
        if up and len(fid.names) > fid.top:
            walked = yield from ready(self._below.walk(fid.below, [".."], caller))
            return _with(walked, fid.names[:-1], fid.top, caller)
        if up or not names:
            walked = yield from ready(self._below.walk(fid.below, [], caller))
            return _with(walked._replace(qids=[fid.qid] * len(names)), fid.names, fid.top, caller)
        count = self._leading(fid, names)
        walked = yield from ready(self._below.walk(fid.below, names[:count], caller))
        return self._walked(fid, names, walked, caller)

    def walk_now(self, fid: Fid, names: Sequence[str], caller: Caller) -> Walk | None:
        at = _of(fid)
        walked = self._below.walk_now(at.below, names[: self._leading(at, names)], caller)
        return None if walked is None else self._walked(at, names, walked, caller)

    def _leading(self, fid: ShownFid, names: Sequence[str]) -> int:
        """How many of `names` may be shown, whatever the files are. Raises NOENT if not the first.

        `..` is none: patterns are not asked about where it leads. It is walked alone (`walk`).
        """
        count, allows = 0, self._patterns.allows
        while count < len(names) and names[count] != ".." and allows((*fid.names, *names[: count + 1]), True):
            count += 1
        if not count:
            raise FileError(E.NOENT, names[0])
        return count

    def _walked(self, fid: ShownFid, names: Sequence[str], walked: Walk, caller: Caller) -> Walk:
        """The walk as far as it is shown; `names` are all that were asked for. Raises NOENT if the first is not."""
        qids = walked.qids
        for index, qid in enumerate(qids):
            if not self._patterns.allows((*fid.names, *names[: index + 1]), bool(qid.type & QTDIR)):
                qids = qids[:index]
                break
        if len(qids) < len(names) and walked.fid is not None:
            self._below.clunk(walked.fid)
        if not qids:
            raise FileError(E.NOENT, names[0])
        whole = len(qids) == len(names)
        return _with(Walk(qids, walked.fid if whole else None), (*fid.names, *names), fid.top, caller)

    def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        at, names = _of(fid), self._new(fid, name, bool(perm & DMDIR))

        def steps() -> Steps[Fid]:
            made = yield from ready(self._below.create(at.below, name, perm, mode, caller))
            return ShownFid(made, names, at.top, caller)

        return start(steps())

    def place(self, fid: Fid, name: str, caller: Caller) -> MaybeAsync[Fid]:
        at, names = _of(fid), self._new(fid, name, True)

        def steps() -> Steps[Fid]:
            made = yield from ready(self._below.place(at.below, name, caller))
            return ShownFid(made, names, at.top, caller)

        return start(steps())

    def readdir(self, fid: Fid, cookie: int, count: int) -> MaybeAsync[list[Entry]]:
        at = _of(fid)

        def steps() -> Steps[list[Entry]]:
            after = cookie
            while entries := (yield from ready(self._below.readdir(at.below, after, count))):
                shown = [each for each in entries if self._patterns.allows((*at.names, each.name), each.qid.is_dir)]
                if shown:
                    return shown
                after = entries[-1].cookie  # nothing of these is shown, which is not the end
            return []

        return start(steps())

    def wstat(self, fid: Fid, change: SetStat) -> MaybeAsync[None]:
        at = _of(fid)
        if change.name is not None:
            if len(at.names) == at.top:
                raise FileError(E.INVAL, change.name, "the root of a tree has no name in it")
            self._may_move(at.names, (*at.names[:-1], change.name), at.qid.is_dir)

        def steps() -> Steps[None]:
            yield from ready(self._below.wstat(at.below, change))
            if change.name is not None:
                at.names = (*at.names[:-1], change.name)

        return start(steps())

    def symlink(self, fid: Fid, name: str, target: str) -> MaybeAsync[Qid]:
        self._new(fid, name, False)
        return self._below.symlink(_of(fid).below, name, target)

    def mknod(self, fid: Fid, name: str, mode: int, major: int, minor: int) -> MaybeAsync[Qid]:
        self._new(fid, name, False)
        return self._below.mknod(_of(fid).below, name, mode, major, minor)

    def link(self, directory: Fid, existing: Fid, name: str) -> MaybeAsync[None]:
        self._new(directory, name, False)
        return self._below.link(_of(directory).below, _of(existing).below, name)

    def rename(self, directory: Fid, name: str, to: Fid, new_name: str) -> MaybeAsync[None]:
        source, target = _of(directory), _of(to)
        old = (*source.names, name)
        if not self._patterns.allows(old, True):
            raise FileError(E.NOENT, name)
        new = (*target.names, new_name)

        def steps() -> Steps[None]:
            walked = yield from ready(self._below.walk(source.below, [name], source.caller))
            if walked.fid is None:
                raise FileError(E.NOENT, name)
            is_directory = walked.fid.qid.is_dir
            self._below.clunk(walked.fid)
            self._may_move(old, new, is_directory)
            yield from ready(self._below.rename(source.below, name, target.below, new_name))

        return start(steps())

    def watch(self, fid: Fid, kinds: int, tell: Tell) -> MaybeAsync[End]:
        at = _of(fid)
        return self._below.watch(at.below, kinds, lambda notice: tell(notice_shown(self._patterns, at.names, notice)))

    def _new(self, directory: Fid, name: str, is_directory: bool) -> Names:
        """The names of what is to be made. Raises ACCES."""
        names = (*_of(directory).names, name)
        self._must_show(names, is_directory)
        return names

    def _must_show(self, names: Names, is_directory: bool) -> None:
        if not self._patterns.allows(names, is_directory):
            raise FileError(E.ACCES, names[-1], "a name that is not shown here")

    def _may_move(self, old: Names, new: Names, is_directory: bool) -> None:
        """Raises ACCES.

        Who uses the tree can't put a directory in a file's place meanwhile, but one that he made, which holds nothing
        hidden: one that does keeps its own.
        """
        self._must_show(new, is_directory)
        if is_directory and not self._patterns.shows_alike(old, new):
            raise FileError(E.ACCES, old[-1], "what is below it would be shown otherwise: it keeps its place")

    # -- what goes by the file alone ----------------------------------------------------------------------------------

    def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        at = _of(fid)
        if mode & ORCLOSE:
            _check_not_root(at)

        def steps() -> Steps[Fid]:
            opened = yield from ready(self._below.open(at.below, mode, caller))
            return at if opened is at.below else ShownFid(opened, at.names, at.top, caller)

        return start(steps())

    def attenuate(self, fid: Fid, rights: int) -> MaybeAsync[Fid]:
        at = _of(fid)

        def steps() -> Steps[Fid]:
            less = yield from ready(self._below.attenuate(at.below, rights))
            return ShownFid(less, at.names, at.top, at.caller)

        return start(steps())

    def clunk(self, fid: Fid) -> None:
        self._below.clunk(_of(fid).below)

    def read(self, fid: Fid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        return self._below.read(_of(fid).below, offset, count)

    def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        return self._below.write(_of(fid).below, offset, data)

    def accept(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        return self._below.accept(_of(fid).below, offset, data)

    def settle(self, fid: Fid) -> MaybeAsync[None]:
        return self._below.settle(_of(fid).below)

    def stat(self, fid: Fid) -> MaybeAsync[Stat]:
        return self._below.stat(_of(fid).below)

    def remove(self, fid: Fid) -> MaybeAsync[None]:
        _check_not_root(_of(fid))
        return self._below.remove(_of(fid).below)

    def readlink(self, fid: Fid) -> MaybeAsync[str]:
        return self._below.readlink(_of(fid).below)

    def sync(self, fid: Fid, data_only: bool) -> MaybeAsync[None]:
        return self._below.sync(_of(fid).below, data_only)

    def getxattr(self, fid: Fid, name: str) -> MaybeAsync[bytes]:
        return self._below.getxattr(_of(fid).below, name)

    def listxattr(self, fid: Fid) -> MaybeAsync[list[str]]:
        return self._below.listxattr(_of(fid).below)

    def setxattr(self, fid: Fid, name: str, value: bytes, flags: int) -> MaybeAsync[None]:
        return self._below.setxattr(_of(fid).below, name, value, flags)

    def removexattr(self, fid: Fid, name: str) -> MaybeAsync[None]:
        return self._below.removexattr(_of(fid).below, name)

    def lock_range(self, fid: Fid, lock: Lock, wait: bool) -> MaybeAsync[bool]:
        return self._below.lock_range(_of(fid).below, lock, wait)

    def unlock_range(self, fid: Fid, lock: Lock) -> MaybeAsync[None]:
        return self._below.unlock_range(_of(fid).below, lock)

    def find_lock(self, fid: Fid, lock: Lock) -> MaybeAsync[Lock | None]:
        return self._below.find_lock(_of(fid).below, lock)

    def statfs(self, fid: Fid) -> MaybeAsync[FileSystemStat]:
        return self._below.statfs(_of(fid).below)

    def open_now(self, fid: Fid, mode: int, caller: Caller) -> bool:
        return self._below.open_now(_of(fid).below, mode, caller)

    def read_now(self, fid: Fid, offset: int, count: int) -> bytes | memoryview | None:
        return self._below.read_now(_of(fid).below, offset, count)

    def stored_now(self, fid: Fid, offset: int, count: int) -> StoredBytes | None:
        return self._below.stored_now(_of(fid).below, offset, count)

    def stat_now(self, fid: Fid) -> Stat | None:
        return self._below.stat_now(_of(fid).below)


def _check_not_root(fid: ShownFid) -> None:
    """Raises BUSY for the root of the tree: its name is in a directory that is not in it."""
    if len(fid.names) == fid.top:
        raise FileError(E.BUSY, "/", "the root stays")


def _with(walked: Walk, names: Names, top: int, caller: Caller) -> Walk:
    return walked if walked.fid is None else Walk(walked.qids, ShownFid(walked.fid, names, top, caller))
