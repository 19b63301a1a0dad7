"""`/n` as a file server: one directory per peer, and behind each the tree which that peer exports to this node.

Beside them stand places: empty directories that something is mounted on, made for that and gone with it.

A peer's own directory is made up here: listing `/n`, walking to `/n/pi` and asking for its attributes go over no wire,
since one machine that is away must not hold up who looks at all of them. A peer is dialled when something in its tree
is walked to, or its directory opened, and again after its session was lost. Fids of a lost session stay broken: what
they stood for may have changed, so that the user must walk anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b

from cognu.errors import LACKING, THERE, E, FileError, LinkBroken, ProtocolError
from cognu.files.mount import FarFid, MountServer
from cognu.files.server import Caller, End, Entry, Fid, FileServer, HandOn, Lock, MaybeAsync, Tell, Then, Token, Walk
from cognu.files.tree import Watchers
from cognu.ninep.types import DMDIR, OEXEC, OREAD, QTDIR, FileSystemStat, Qid, SetStat, Stat
from cognu.ninep.watches import MADE, REMOVED

Dial = Callable[[str], Awaitable[MountServer]]
"""Connects to a peer's export by the peer's name. Raises NOPEER, HOSTUNREACH, `LinkBroken`."""

MAX_NAME = 255
"""Bytes of a place's name."""
_ROOT_QID = Qid(QTDIR, 0, 0)


class _RootFid(Fid):
    __slots__ = ("names",)

    def __init__(self) -> None:
        super().__init__(_ROOT_QID)
        self.names: list[str] = []


class _PlaceFid(Fid):
    """A fid on a place, which is there as long as one is."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(_made_up(name, b"place"))
        self.name = name


class _Peer:
    """A connection to one peer's export, with a fid at its root that lives as long."""

    def __init__(self, name: str, mount: MountServer, root: FarFid) -> None:
        self.name = name
        self.mount = mount
        self.root = root

    def qid(self, qid: Qid) -> Qid:
        """The peer's numbers, told apart from those of other peers: mount tables go by (server, number).

        The root's is the one that it has before anybody asked the peer.
        """
        if qid.path == self.root.qid.path:
            return _made_up(self.name, b"peer")
        number = blake2b(qid.path.to_bytes(8, "big"), digest_size=8, key=self.name.encode()[:64]).digest()
        return qid._replace(path=int.from_bytes(number, "big"))


class _ImportFid(Fid):
    """A fid on a file of a peer's tree."""

    __slots__ = ("far", "peer")

    def __init__(self, peer: _Peer, far: FarFid) -> None:
        super().__init__(peer.qid(far.qid))
        self.peer = peer
        self.far = far

    @property
    def top(self) -> bool:
        """Whether it is the peer's own directory, and above it is that of peers."""
        return not self.far.names and self.far.root is self.peer.root.root


class _TopFid(Fid):
    """A fid on a peer's own directory. `real` is the peer's, once something had to be asked of it."""

    __slots__ = ("caller", "name", "real")

    def __init__(self, name: str, caller: Caller) -> None:
        super().__init__(_made_up(name, b"peer"))
        self.name = name
        self.caller = caller
        self.real: _ImportFid | None = None


class NetworkServer(FileServer):
    """`#N`: the directory of peers. `names` lists them; `dial` connects."""

    spec = "#N"

    def __init__(self, names: Callable[[], Iterable[str]], dial: Dial, here: str = "THIS") -> None:
        """`here` is what this machine is called by its peers."""
        self._here = here
        self._names = names
        self._dial = dial
        self._peers: dict[str, _Peer] = {}
        self._dialling: dict[str, asyncio.Task[_Peer]] = {}
        self._places: Counter[str] = Counter()  # with the number of fids on each
        self._watchers = Watchers()  # of the directory of peers itself
        self._told: set[str] = set()  # the peers that they know of

    def names_changed(self) -> None:
        """To be called when there are other peers than before: who watches is told which."""
        before, self._told = self._told, set(self._names())
        for name in before - self._told:
            self._watchers.tell(REMOVED, name)
        for name in self._told - before:
            self._watchers.tell(MADE, name)

    def peer_renamed(self, before: str, after: str) -> None:
        """A peer is called otherwise by now. What is open of its tree stays so."""
        peer = self._peers.pop(before, None)
        if peer is not None:
            peer.name = after
            self._peers[after] = peer

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._dialling.values()):
            task.cancel()
        if self._dialling:
            await asyncio.wait(list(self._dialling.values()))
        for name in list(self._peers):
            await self.drop(name)

    async def drop(self, name: str) -> None:
        """End the connection to one peer, if there is one."""
        peer = self._peers.pop(name, None)
        if peer is not None:
            await peer.mount.close()

    async def _peer(self, name: str, caller: Caller) -> _Peer:
        peer = self._peers.get(name)
        if peer is not None and peer.mount.broken is None:
            return peer
        if name not in self._names():
            raise FileError(E.NOENT, name)
        task = self._dialling.get(name)
        if task is None:
            task = self._dialling[name] = asyncio.get_running_loop().create_task(self._connect(name, caller))
            task.add_done_callback(lambda done: self._dialled(name, done))
        # Many may wait for one dialling; none of them ends it by going away.
        return await asyncio.shield(task)

    def _dialled(self, name: str, task: asyncio.Task[_Peer]) -> None:
        del self._dialling[name]
        if not task.cancelled():
            task.exception()  # whoever waits has it; if nobody does any more, it is of no interest

    async def _connect(self, name: str, caller: Caller) -> _Peer:
        old = self._peers.pop(name, None)
        if old is not None:
            await old.mount.close()
        try:
            mount = await self._dial(name)
        except (LinkBroken, ProtocolError) as error:
            raise FileError(error.error, name, error.detail) from None
        try:
            root = await mount.attach(caller, "")
            assert isinstance(root, FarFid)
            peer = _Peer(name, mount, root)
        except BaseException:
            await mount.close()
            raise
        if name not in self._names():  # dropped, or renamed, meanwhile
            await mount.close()
            raise FileError(E.NOENT, name)
        self._peers[name] = peer
        return peer

    @contextmanager
    def _asked(self, peer: _Peer, names: Sequence[str]) -> Iterator[None]:
        """A refusal names the peer, and, if a grant would help, which; `names` is the way to what it must be of."""
        try:
            yield
        except FileError as error:
            if error.error not in (E.ACCES, E.PERM):
                raise
            detail = f"{peer.name}: {error.detail}" if error.detail else peer.name
            if error.detail.startswith(LACKING):
                kind = "write" if set(error.detail.removeprefix(LACKING)) & set("wc") else "read"
                detail += f"{THERE}grants set {self._here} {kind}:/{'/'.join(names)}"
            elif error.detail.startswith("#"):  # a device: what may be done to it is what it can, and was granted
                detail += f"{THERE}grants list"
            raise FileError(error.error, error.subject, detail) from None

    # -- the contract ---------------------------------------------------------------------------------------------

    def attach(self, caller: Caller, aname: str) -> Fid:
        if aname:
            raise FileError(E.NOATTACH, self.spec + aname)
        return _RootFid()

    def place(self, fid: Fid, name: str, caller: Caller) -> Fid:
        if not isinstance(fid, _RootFid):
            raise FileError(E.NOENT, name)
        if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME:
            raise FileError(E.NAMETOOLONG, name)
        return self._on_place(name)

    def _on_place(self, name: str) -> _PlaceFid:
        self._places[name] += 1
        if self._places[name] == 1:
            self._watchers.tell(MADE, name)
        return _PlaceFid(name)

    @property
    def far(self) -> bool:
        return True

    async def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> Walk:
        return await self._walk(fid, names, caller, None)

    async def walk_to(self, fid: Fid, names: Sequence[str], caller: Caller, then: Then) -> Walk:
        return await self._walk(fid, names, caller, then)

    async def _walk(self, fid: Fid, names: Sequence[str], caller: Caller, then: Then | None) -> Walk:
        if isinstance(fid, _ImportFid):
            if list(names) == [".."] and fid.top:
                return Walk([_ROOT_QID], _RootFid())
            return await self._walk_far(fid.peer, fid.far, names, caller, then)
        if isinstance(fid, _TopFid):
            return await self._walk_top(fid.name, names, caller, then)
        if isinstance(fid, _PlaceFid):
            if names and names[0] != "..":
                raise FileError(E.NOENT, names[0])  # nothing is in it
            return Walk([_ROOT_QID], _RootFid()) if names else Walk([], self._on_place(fid.name))
        if not names or list(names) == [".."]:
            return Walk([_ROOT_QID] * len(names), _RootFid())
        if names[0] in self._places and names[0] not in self._names():
            # A peer of that name comes first: a place is one process's, and would hide the peer from all others.
            on = self._on_place(names[0])
            if len(names) == 1:
                return Walk([on.qid], on)
            self.clunk(on)
            return Walk([on.qid], None)
        if names[0] not in self._names():
            raise FileError(E.NOENT, names[0])
        top = _TopFid(names[0], caller)
        if len(names) == 1:
            return Walk([top.qid], top)
        try:
            walked = await self._walk_top(names[0], names[1:], caller, then)
        except FileError:
            # The first name, the peer's, was found, so this is no refusal (walk(5)); who asks for the next one is told.
            return Walk([top.qid], None)
        return Walk([top.qid, *walked.qids], walked.fid)

    async def _walk_top(self, name: str, names: Sequence[str], caller: Caller, then: Then | None) -> Walk:
        """From a peer's own directory; only what is in it is the peer's to find."""
        if not names:
            return Walk([], _TopFid(name, caller))
        if list(names) == [".."]:
            return Walk([_ROOT_QID], _RootFid())
        peer = await self._peer(name, caller)
        try:
            return await self._walk_far(peer, peer.root, names, caller, then)
        except FileError:
            if peer.mount.broken is None:
                raise
        # Its session was lost with this under way, which changes nothing, so it is asked once more, over a new one.
        peer = await self._peer(name, caller)
        return await self._walk_far(peer, peer.root, names, caller, then)

    async def _real(self, fid: Fid) -> tuple[_Peer, FarFid]:
        """The connection and the far fid; the directory of peers itself can't be changed."""
        if isinstance(fid, _TopFid):
            if fid.real is None or fid.real.peer.mount.broken is not None:
                made = await self._at_top(fid)
                if fid.real is not None:
                    self.clunk(fid.real)  # a broken one, or two asked at once
                fid.real = made
            fid = fid.real
        return _far(fid)

    async def _at_top(self, fid: _TopFid) -> _ImportFid:
        peer = await self._peer(fid.name, fid.caller)
        made = (await self._walk_far(peer, peer.root, [], fid.caller, None)).fid
        assert isinstance(made, _ImportFid)
        return made

    async def _walk_far(self, peer: _Peer, start: Fid, names: Sequence[str], caller: Caller, then: Then | None) -> Walk:
        assert isinstance(start, FarFid)
        with self._asked(peer, [*start.names, *names]):
            if then is None:
                walked = await peer.mount.walk(start, names, caller)
            else:
                walked = await peer.mount.walk_to(start, names, caller, then)
        qids = [peer.qid(qid) for qid in walked.qids]
        return Walk(qids, _ImportFid(peer, walked.fid) if isinstance(walked.fid, FarFid) else None)

    async def open(self, fid: Fid, mode: int, caller: Caller) -> Fid:
        if isinstance(fid, _RootFid | _PlaceFid):
            if mode & 3 not in (OREAD, OEXEC):
                raise FileError(E.ISDIR, "/n")
            return fid
        if isinstance(fid, _TopFid):
            made = await self._at_top(fid)
            try:
                return await self.open(made, mode, caller)
            except BaseException:
                self.clunk(made)
                raise
        peer, far = _far(fid)
        with self._asked(peer, far.names):
            await peer.mount.open(far, mode, caller)
        return fid

    async def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> Fid:
        peer, far = await self._real(fid)
        with self._asked(peer, far.names):
            made = await peer.mount.create(far, name, perm, mode, caller)
        assert isinstance(made, FarFid)
        return _ImportFid(peer, made)

    def read(self, fid: Fid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        peer, far = _far(fid)
        return peer.mount.read(far, offset, count)

    def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        peer, far = _far(fid)
        return peer.mount.write(far, offset, data)

    def accept(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        peer, far = _far(fid)
        return peer.mount.accept(far, offset, data)

    def settle(self, fid: Fid) -> MaybeAsync[None]:
        return fid.peer.mount.settle(fid.far) if isinstance(fid, _ImportFid) else None

    async def readdir(self, fid: Fid, cookie: int, count: int) -> list[Entry]:
        if isinstance(fid, _RootFid):
            if cookie == 0:
                fid.names = sorted({*self._names(), *self._places})
            batch = fid.names[cookie : cookie + count]
            # Listing the peers dials none of them, so the entries carry numbers made up from the names.
            return [self._entry(at, name) for at, name in enumerate(batch, cookie + 1)]
        if isinstance(fid, _PlaceFid):
            return []
        peer, far = _far(fid)
        entries = await peer.mount.readdir(far, cookie, count)
        return [_numbered(peer, entry) for entry in entries]

    def _entry(self, cookie: int, name: str) -> Entry:
        stat = _directory(name, b"peer" if name in self._names() else b"place")
        return Entry(cookie, stat.qid, name, stat)

    async def stat(self, fid: Fid) -> Stat:
        if isinstance(fid, _RootFid):
            return _directory("n")
        if isinstance(fid, _PlaceFid):
            return _directory(fid.name, b"place")
        if isinstance(fid, _TopFid):
            return _directory(fid.name)
        peer, far = _far(fid)
        if isinstance(fid, _ImportFid) and fid.top:
            return _directory(peer.name)
        stat = await peer.mount.stat(far)
        return replace(stat, qid=peer.qid(stat.qid))

    async def wstat(self, fid: Fid, change: SetStat) -> None:
        peer, far = await self._real(fid)
        with self._asked(peer, far.names):
            await peer.mount.wstat(far, change)

    async def remove(self, fid: Fid) -> None:
        peer, far = await self._real(fid)
        with self._asked(peer, far.names):
            await peer.mount.remove(far)

    def clunk(self, fid: Fid) -> None:
        if isinstance(fid, _ImportFid):
            fid.peer.mount.clunk(fid.far)
        elif isinstance(fid, _TopFid):
            if fid.real is not None:
                self.clunk(fid.real)
        elif isinstance(fid, _PlaceFid):
            self._places[fid.name] -= 1
            if not self._places[fid.name]:
                del self._places[fid.name]
                self._watchers.tell(REMOVED, fid.name)

    async def symlink(self, fid: Fid, name: str, target: str) -> Qid:
        peer, far = await self._real(fid)
        with self._asked(peer, far.names):
            return peer.qid(await peer.mount.symlink(far, name, target))

    def readlink(self, fid: Fid) -> MaybeAsync[str]:
        peer, far = _far(fid)
        return peer.mount.readlink(far)

    async def mknod(self, fid: Fid, name: str, mode: int, major: int, minor: int) -> Qid:
        peer, far = await self._real(fid)
        with self._asked(peer, far.names):
            return peer.qid(await peer.mount.mknod(far, name, mode, major, minor))

    async def link(self, directory: Fid, existing: Fid, name: str) -> None:
        peer, far = await self._real(directory)
        other, there = await self._real(existing)
        if other is not peer:
            raise FileError(E.XDEV, name)
        with self._asked(peer, far.names):
            await peer.mount.link(far, there, name)

    async def rename(self, directory: Fid, name: str, to: Fid, new_name: str) -> None:
        peer, far = await self._real(directory)
        other, there = await self._real(to)
        if other is not peer:
            raise FileError(E.XDEV, name)
        with self._asked(peer, far.names):
            await peer.mount.rename(far, name, there, new_name)

    async def sync(self, fid: Fid, data_only: bool) -> None:
        peer, far = await self._real(fid)
        await peer.mount.sync(far, data_only)

    def getxattr(self, fid: Fid, name: str) -> MaybeAsync[bytes]:
        peer, far = _far(fid)
        return peer.mount.getxattr(far, name)

    def listxattr(self, fid: Fid) -> MaybeAsync[list[str]]:
        peer, far = _far(fid)
        return peer.mount.listxattr(far)

    async def setxattr(self, fid: Fid, name: str, value: bytes, flags: int) -> None:
        peer, far = await self._real(fid)
        await peer.mount.setxattr(far, name, value, flags)

    async def removexattr(self, fid: Fid, name: str) -> None:
        peer, far = await self._real(fid)
        await peer.mount.removexattr(far, name)

    async def lock_range(self, fid: Fid, lock: Lock, wait: bool) -> bool:
        peer, far = _far(fid)
        return await peer.mount.lock_range(far, lock, wait)

    async def unlock_range(self, fid: Fid, lock: Lock) -> None:
        peer, far = _far(fid)
        await peer.mount.unlock_range(far, lock)

    async def find_lock(self, fid: Fid, lock: Lock) -> Lock | None:
        peer, far = _far(fid)
        return await peer.mount.find_lock(far, lock)

    async def attenuate(self, fid: Fid, rights: int) -> Fid:
        if isinstance(fid, _RootFid | _PlaceFid):
            raise FileError(E.NOTSUP, "/n", "it is no peer's")
        peer, far = await self._real(fid)
        with self._asked(peer, far.names):
            less = await peer.mount.attenuate(far, rights)
        assert isinstance(less, FarFid)
        return _ImportFid(peer, less)

    async def hand_on(self, fid: Fid, what: HandOn) -> Token:
        peer, far = await self._real(fid)
        with self._asked(peer, far.names):
            return await peer.mount.hand_on(far, what)

    async def watch(self, fid: Fid, kinds: int, tell: Tell) -> End:
        if isinstance(fid, _RootFid):
            self._told = set(self._names())
            return self._watchers.add(tell)
        if isinstance(fid, _PlaceFid):
            raise FileError(E.NOTSUP, fid.name, "nothing is ever in it")
        peer, far = await self._real(fid)
        with self._asked(peer, far.names):
            return await peer.mount.watch(far, kinds, tell)

    async def statfs(self, fid: Fid) -> FileSystemStat:
        if not isinstance(fid, _ImportFid | _TopFid):
            return FileSystemStat()
        peer, far = await self._real(fid)
        return await peer.mount.statfs(far)


def _numbered(peer: _Peer, entry: Entry) -> Entry:
    qid = peer.qid(entry.qid)
    stat = None if entry.stat is None else replace(entry.stat, qid=peer.qid(entry.stat.qid))
    return entry._replace(qid=qid, stat=stat)


def _far(fid: Fid) -> tuple[_Peer, FarFid]:
    """The connection and the far fid; the directory of peers itself can't be changed."""
    if not isinstance(fid, _ImportFid):
        raise FileError(E.ACCES, "/n")
    return fid.peer, fid.far


def _made_up(name: str, kind: bytes) -> Qid:
    """A number for what has none of its own; `kind` tells peers and places apart."""
    number = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, person=kind).digest()
    return Qid(QTDIR, 0, int.from_bytes(number, "big"))


def _directory(name: str, kind: bytes = b"peer") -> Stat:
    qid = _made_up(name, kind)
    return Stat(name=name, qid=qid, mode=DMDIR | 0o555, user="cognu", group="cognu", muid="cognu")
