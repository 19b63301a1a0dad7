"""`#U`: a directory of the host. Every request is at most one hop to a thread, however many names it walks; what the
host has in memory (walks, attributes, opening to read, bytes) is none.

Nothing leads out: each step goes through `world.HostTree`, which follows no links; symlinks are shown as symlinks, and
whoever walks resolves them in their own namespace. Fids own the host's handles and close them at clunk.

Its fids are in `devices/hostfids.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from cognu.devices.hidden import HidingTree, Secrets
from cognu.devices.hostcalls import (
    Found,
    Hop,
    change_file,
    cut_and_open,
    kind_bits,
    list_some,
    make,
    make_link,
    make_special,
    open_file,
    open_present,
    present,
    remove_file,
    walk_from_root,
    walk_names,
)
from cognu.devices.hostfids import Held, HostFid, Place, Way, readable, usable
from cognu.errors import E, FileError
from cognu.files.attributes import check_attribute
from cognu.files.locks import LockTable
from cognu.files.server import (
    OAPPEND,
    Caller,
    End,
    Entry,
    Fid,
    FileServer,
    Lock,
    MaybeAsync,
    Notice,
    StoredBytes,
    Tell,
    Walk,
)
from cognu.ninep.attrs import device_number
from cognu.ninep.types import (
    DMAPPEND,
    DMDEVICE,
    DMDIR,
    DMEXCL,
    DMNAMEDPIPE,
    DMSYMLINK,
    OACCESS,
    ORCLOSE,
    ORDWR,
    OTRUNC,
    OWRITE,
    FileSystemStat,
    Qid,
    SetStat,
    Stat,
    qid_type,
)
from cognu.ninep.watches import NAMES
from cognu.world import MARKS, HostChange, HostFile, HostNode, HostStat, HostTree, Worker, WouldWait

T = TypeVar("T")

READ_LIMIT: Final = 1 << 20
"""Bytes of one read."""
SMALL: Final = 4096
"""Bytes looked for where a file should be at its end."""
LIST_LIMIT: Final = 1024
"""Entries of one read of a directory, each with its own stat, so that a large one does not keep a thread for long."""
_INODE_BITS: Final = 47
_QID_TYPES: Final = {"d": qid_type(DMDIR), "l": qid_type(DMSYMLINK)}
_KINDS = {name: kind for kind, name in NAMES.items()}


class HostServer(FileServer):
    """Serves `tree`. With `read_only`, whatever would change something is ROFS; what is `hidden` does not exist.

    What is made here has none of the permissions in `umask`; whoever may can give it more by wstat.
    """

    def __init__(
        self,
        world: Worker,
        tree: HostTree,
        *,
        read_only: bool = False,
        hidden: Secrets | None = None,
        spec: str = "#U",
        umask: int = 0,
    ) -> None:
        self.spec = spec
        self._umask = umask
        self.tree: HostTree = tree if hidden is None else HidingTree(tree, hidden)
        self._quick = self.tree.quick
        self.read_only = read_only
        self._world = world
        self._root = Place(None, "")
        self._devices: dict[int, int] = {}
        self._odd: dict[tuple[int, int], int] = {}
        self._locks = LockTable(world.clock)
        self._used_alone: set[tuple[int, int]] = set()  # files for exclusive use that are open

    # -- navigation -----------------------------------------------------------------------------------------------

    async def attach(self, caller: Caller, aname: str) -> Fid:
        if aname:
            raise FileError(E.NOATTACH, self.spec + aname)
        found = await self._hop(lambda: walk_from_root(self.tree, []), _close_found)
        return self._fid(found, self._root, None)

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        assert isinstance(fid, HostFid)
        if not names:
            return Walk([], HostFid(fid.qid, fid.held, fid.way))
        steps, wanted = self._quick, list(names)
        if wanted != [".."]:
            return self.walk_now(fid, wanted, caller) or self._walk(fid, wanted)
        if steps is not None:
            try:
                way, place = self._way_up(fid)
                return self._walked_up(way, walk_from_root(steps, place, way.identity))
            except WouldWait:
                pass
        return self._walk_up(fid)

    def walk_now(self, fid: Fid, names: Sequence[str], caller: Caller) -> Walk | None:
        assert isinstance(fid, HostFid)
        if self._quick is None:
            return None
        try:
            return self._walked(fid, names, *walk_names(self._quick, fid.held.node, names))
        except WouldWait:
            return None

    async def _walk(self, fid: HostFid, names: list[str]) -> Walk:
        stats, node = await self._hop(
            lambda: walk_names(self.tree, fid.held.node, names),
            lambda walked: walked[1].close() if walked[1] is not None else None,
        )
        return self._walked(fid, names, stats, node)

    def _walked(self, fid: HostFid, names: Sequence[str], stats: list[HostStat], node: HostNode | None) -> Walk:
        qids = [self._qid(stat) for stat in stats]
        if node is None:
            return Walk(qids, None)
        way = fid.way
        for name, stat in zip(names, stats, strict=True):
            way = Way(way.place.step(name), stat.identity, way)
        return Walk(qids, HostFid(qids[-1], Held(node), way))

    async def _walk_up(self, fid: HostFid) -> Walk:
        way, names = self._way_up(fid)
        found = await self._hop(lambda: walk_from_root(self.tree, names, way.identity), _close_found)
        return self._walked_up(way, found)

    @staticmethod
    def _way_up(fid: HostFid) -> tuple[Way, list[str]]:
        way = fid.way.above or fid.way
        return way, way.place.names()

    def _walked_up(self, way: Way, found: Found) -> Walk:
        up = HostFid(self._qid(found.stat), Held(found.node), way)
        return Walk([up.qid], up)

    # -- opening --------------------------------------------------------------------------------------------------

    def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        assert isinstance(fid, HostFid)
        writes = mode & OACCESS in (OWRITE, ORDWR)
        if fid.is_directory:
            if writes or mode & (OTRUNC | ORCLOSE):
                raise FileError(E.ISDIR, fid.place.name)
            fid.mode = mode
            return fid
        if fid.is_symlink:
            raise FileError(E.LOOP, fid.place.name)
        if writes or mode & (OTRUNC | ORCLOSE):
            self._may_write(fid.place.name)
        elif self.open_now(fid, mode, caller):
            return fid
        return self._open(fid, mode)

    def open_now(self, fid: Fid, mode: int, caller: Caller) -> bool:
        assert isinstance(fid, HostFid)
        if self._quick is None:
            return False
        try:
            self._opened(fid, mode, *open_present(self._quick, fid.held.node))
        except WouldWait:
            return False
        return True

    async def _open(self, fid: HostFid, mode: int) -> Fid:
        access = mode & OACCESS
        reads, writes, node = access != OWRITE, access in (OWRITE, ORDWR), fid.held.node
        # Before anything is done to it, as far as is known now; what it is like then is looked at once more.
        self._use(fid, None)
        try:
            if mode & OTRUNC:
                opened = await self._hop(lambda: cut_and_open(self.tree, node, reads, writes), _close_opened)
            else:
                opened = await self._hop(lambda: open_file(self.tree, node, reads, writes, False), _close_opened)
            try:
                self._use(fid, opened[1])
            except FileError:
                _close_opened(opened)
                raise
        except BaseException:
            self._use_no_more(fid)
            raise
        return self._opened(fid, mode, *opened)

    def _use(self, fid: HostFid, stat: HostStat | None) -> None:
        """Have a file for exclusive use, if it is for that as `stat` says, or the fid's qid. Raises BUSY."""
        exclusive = fid.qid.type & qid_type(DMEXCL) if stat is None else "x" in stat.marks
        if not exclusive:
            self._use_no_more(fid)
        elif not fid.alone:
            if fid.identity in self._used_alone:
                raise FileError(E.BUSY, fid.place.name, "exclusive use")
            self._used_alone.add(fid.identity)
            fid.alone = True

    def _use_no_more(self, fid: HostFid) -> None:
        if fid.alone:
            self._used_alone.discard(fid.identity)
            fid.alone = False

    def _opened(self, fid: HostFid, mode: int, file: HostFile, stat: HostStat) -> Fid:
        fid.file, fid.mode, fid.qid = file, mode, self._qid(stat)
        fid.plain, fid.size = stat.kind == "-", stat.size
        return fid

    async def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> Fid:
        """open(5): the directory's permissions bound the new file's, and so does the server's umask.

        Raises EXIST, and NOTSUP for append-only or exclusive use where the host keeps no extended attributes.
        """
        assert isinstance(fid, HostFid)
        self._may_write(name)
        if perm & DMDIR and perm & (DMAPPEND | DMEXCL):
            raise FileError(E.NOTSUP, name, "append-only or exclusive use of a directory")
        if perm & DMDIR and mode & OACCESS in (OWRITE, ORDWR):
            raise FileError(E.ISDIR, name)
        found, file = await self._hop(
            lambda: make(self.tree, fid.held.node, name, perm, self._umask),
            lambda made: _close_all(made[0].node, made[1]),
        )
        new = self._fid(found, fid.place.step(name), fid.way)
        try:
            self._use(new, found.stat)
        except FileError:  # somebody else was quicker to open it
            if file is not None:
                file.close()
            new.held.release()
            raise
        new.file, new.mode = file, mode
        return new

    def clunk(self, fid: Fid) -> None:
        """Closes here and now, and removes what was opened with ORCLOSE: short calls, no hop."""
        assert isinstance(fid, HostFid)
        self._locks.drop(fid)
        self._use_no_more(fid)
        if fid.file is not None:
            fid.file.close()
            fid.file = None
        if fid.mode is not None and fid.mode & ORCLOSE:
            try:
                remove_file(self.tree, fid.place.names(), fid.identity)
            except FileError:
                pass  # somebody else removed it, or filled the directory; nobody is there to be told
        fid.mode = None
        fid.held.release()

    # -- I/O ------------------------------------------------------------------------------------------------------

    def read(self, fid: Fid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        assert isinstance(fid, HostFid)
        data = self.read_now(fid, offset, count)
        if data is not None:
            return data
        return self._world.threads.run(readable(fid).pread, offset, min(count, READ_LIMIT))

    def read_now(self, fid: Fid, offset: int, count: int) -> bytes | memoryview | None:
        assert isinstance(fid, HostFid)
        file = readable(fid)
        count = min(count, READ_LIMIT)
        # A hop to a thread costs ten times what copying cached bytes does. Of an odd file an empty answer says nothing.
        # Room for what there was, not for what would be taken: most files are smaller than what is asked for. And for
        # one byte more, which tells that it grew: then for all that is asked for.
        room = min(count, max(fid.size + 1 - offset, SMALL))
        data = file.pread_now(offset, room)
        if data is not None and len(data) == room < count:
            data = file.pread_now(offset, count)
        if data is None:
            return None
        end = offset + len(data)
        if len(data) < room and end < fid.size:
            return None  # the host has only the beginning in memory, or the file was cut: `pread` tells
        fid.size = max(fid.size, end) if data else fid.size
        return data if data or fid.plain else None

    def stored_now(self, fid: Fid, offset: int, count: int) -> StoredBytes | None:
        assert isinstance(fid, HostFid)
        if not fid.plain or fid.size - offset <= SMALL:
            return None
        file = readable(fid)
        found = file.stored_now(offset, min(count, READ_LIMIT))
        return None if found is None else StoredBytes(*found)

    async def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> int:
        assert isinstance(fid, HostFid)
        file = usable(fid, fid.mode is not None and fid.mode & OACCESS in (OWRITE, ORDWR))
        assert fid.mode is not None
        # A copy of what may change: if this is cancelled the thread goes on, and the caller's buffer is no longer ours.
        kept = data if isinstance(data, memoryview) and isinstance(data.obj, bytes) else bytes(data)
        if fid.mode & OAPPEND or fid.qid.type & qid_type(DMAPPEND):
            return await self._world.threads.run(file.append, kept)
        return await self._world.threads.run(file.pwrite, offset, kept)

    async def readdir(self, fid: Fid, cookie: int, count: int) -> list[Entry]:
        assert isinstance(fid, HostFid)
        if fid.mode is None or not fid.is_directory:
            raise FileError(E.NOTDIR, fid.place.name)
        known = None if cookie == 0 else fid.listing
        fid.listing, found = await self._world.threads.run(
            list_some, self.tree, fid.held.node, known, cookie, min(count, LIST_LIMIT)
        )
        return [self._entry(*listed) for listed in found]

    async def sync(self, fid: Fid, data_only: bool) -> None:
        assert isinstance(fid, HostFid)
        if fid.file is not None:
            await self._world.threads.run(fid.file.sync, data_only)

    async def watch(self, fid: Fid, kinds: int, tell: Tell) -> End:
        """The host tells (inotify(7)): of what others on it do too. Of what is hidden no name is told."""
        assert isinstance(fid, HostFid)
        held = fid.held
        held.uses += 1  # the watch is of the file, whatever becomes of the fid
        try:
            unshown: set[str] = set()
            if fid.is_directory:
                unshown |= await self._world.threads.run(self.tree.unshown, held.node)
            told = partial(self._told, held.node, unshown, tell)
            end = self.tree.watch(held.node, fid.is_directory, told)
        except BaseException:
            held.release()
            raise
        over = False

        def finish() -> None:
            nonlocal over
            if not over:
                over = True
                end()
                held.release()

        return finish

    def _told(self, node: HostNode, unshown: set[str], tell: Tell, change: HostChange) -> None:
        kind, name, other = change
        new = other if kind == "renamed" else name if kind == "made" else ""
        if new and not self._shows(node, new):
            unshown.add(new)
        hidden = {name, other} & unshown
        if kind in ("removed", "renamed"):
            unshown.discard(name)
        tell(Notice(_KINDS[kind]) if hidden else Notice(_KINDS[kind], name, other))

    def _shows(self, node: HostNode, name: str) -> bool:
        """Whether there is such a name, to be told of; what can't be said at once is not."""
        try:
            (self._quick or self.tree).walk(node, name).close()
        except (FileError, WouldWait):
            return False
        return True

    def lock_range(self, fid: Fid, lock: Lock, wait: bool) -> MaybeAsync[bool]:
        assert isinstance(fid, HostFid)
        return self._locks.take(fid, fid.mode, lock, wait)

    def unlock_range(self, fid: Fid, lock: Lock) -> None:
        self._locks.release(fid, lock)

    def find_lock(self, fid: Fid, lock: Lock) -> Lock | None:
        return self._locks.find(fid, lock)

    # -- attributes and names -------------------------------------------------------------------------------------

    def stat(self, fid: Fid) -> MaybeAsync[Stat]:
        assert isinstance(fid, HostFid)
        return self.stat_now(fid) or self._ask_stat(fid)

    def stat_now(self, fid: Fid) -> Stat | None:
        assert isinstance(fid, HostFid)
        if self._quick is None:
            return None
        try:
            return self._present(fid, present(self._quick, fid.held.node, fid.mode is not None))
        except WouldWait:
            return None

    async def _ask_stat(self, fid: HostFid) -> Stat:
        stat = await self._world.threads.run(present, self.tree, fid.held.node, fid.mode is not None)
        return self._present(fid, stat)

    def _present(self, fid: HostFid, stat: HostStat) -> Stat:
        fid.qid = self._qid(stat)
        return self._stat(stat, fid.way.place.name or "/", fid.qid)

    async def wstat(self, fid: Fid, change: SetStat) -> None:
        """A new name must be free (EXIST), as stat(5) has it; owners stay as they are (PERM)."""
        assert isinstance(fid, HostFid)
        self._may_write(fid.place.name)
        place, names, now = fid.place, fid.place.names(), self._world.clock.now()
        if change.name is not None and not names:
            raise FileError(E.INVAL, "/", "the root has no other name")
        await self._world.threads.run(change_file, self.tree, fid.held.node, fid.identity, names, change, now)
        if change.name is not None and place.parent is not None and change.name != place.name:
            place.parent.move(place.name, place.parent, change.name)
            place.name = change.name

    async def remove(self, fid: Fid) -> None:
        assert isinstance(fid, HostFid)
        self._may_write(fid.place.name)
        names = fid.place.names()
        if not names:
            raise FileError(E.BUSY, "/", "the root stays")
        await self._world.threads.run(remove_file, self.tree, names, fid.identity)

    async def symlink(self, fid: Fid, name: str, target: str) -> Qid:
        assert isinstance(fid, HostFid)
        self._may_write(name)
        if not target:
            raise FileError(E.NOENT, name)
        return self._qid(await self._world.threads.run(make_link, self.tree, fid.held.node, name, target))

    async def mknod(self, fid: Fid, name: str, mode: int, major: int, minor: int) -> Qid:
        assert isinstance(fid, HostFid)
        self._may_write(name)
        if mode & DMDEVICE:
            raise FileError(E.PERM, name, "a device would lead past all capabilities, to the host's own")
        kind = "p" if mode & DMNAMEDPIPE else "s"
        above = fid.held.node
        made = self._world.threads.run(make_special, self.tree, above, name, kind, mode, self._umask)
        return self._qid(await made)

    async def readlink(self, fid: Fid) -> str:
        assert isinstance(fid, HostFid)
        return await self._world.threads.run(self.tree.readlink, fid.held.node)

    async def link(self, directory: Fid, existing: Fid, name: str) -> None:
        assert isinstance(directory, HostFid)
        assert isinstance(existing, HostFid)
        self._may_write(name)
        await self._world.threads.run(self.tree.link, directory.held.node, name, existing.held.node)

    async def rename(self, directory: Fid, name: str, to: Fid, new_name: str) -> None:
        assert isinstance(directory, HostFid)
        assert isinstance(to, HostFid)
        self._may_write(name)
        await self._world.threads.run(self.tree.rename, directory.held.node, name, to.held.node, new_name)
        if (directory.place, name) != (to.place, new_name):
            directory.place.move(name, to.place, new_name)

    async def getxattr(self, fid: Fid, name: str) -> bytes:
        assert isinstance(fid, HostFid)
        _check_attribute(name)
        return await self._world.threads.run(self.tree.getxattr, fid.held.node, name)

    async def listxattr(self, fid: Fid) -> list[str]:
        """Only a user's own are shown: the host's other kinds say who may do what there."""
        assert isinstance(fid, HostFid)
        names = await self._world.threads.run(self.tree.listxattr, fid.held.node)
        return [name for name in names if name.startswith("user.") and name != MARKS]

    async def setxattr(self, fid: Fid, name: str, value: bytes, flags: int) -> None:
        assert isinstance(fid, HostFid)
        self._may_write(fid.place.name)
        _check_attribute(name)
        await self._world.threads.run(self.tree.setxattr, fid.held.node, name, value, flags)

    async def removexattr(self, fid: Fid, name: str) -> None:
        assert isinstance(fid, HostFid)
        self._may_write(fid.place.name)
        _check_attribute(name)
        await self._world.threads.run(self.tree.removexattr, fid.held.node, name)

    async def statfs(self, fid: Fid) -> FileSystemStat:
        size, blocks, free = await self._world.threads.run(self.tree.space)
        return FileSystemStat(bsize=size, blocks=blocks, bfree=free, bavail=free)

    # -- helpers --------------------------------------------------------------------------------------------------

    async def _hop(self, call: Callable[[], T], release: Callable[[T], None]) -> T:
        hop = Hop(call, release)
        try:
            return await self._world.threads.run(hop.run)
        except BaseException:
            hop.abandon()
            raise

    def _may_write(self, name: str) -> None:
        if self.read_only:
            raise FileError(E.ROFS, name)

    def _fid(self, found: Found, place: Place, above: Way | None) -> HostFid:
        return HostFid(self._qid(found.stat), Held(found.node), Way(place, found.stat.identity, above))

    def _qid(self, stat: HostStat) -> Qid:
        kind, _, size, mtime, _, _, identity, *_ = stat
        # The version is to change when the contents do; the size helps where the host's clock is coarse. A file that
        # is made up as it is read, as devices and most of /proc, has none: nobody shall read it ahead or keep it.
        stored = size > 0 if kind == "-" else kind in "dl"
        version = (mtime ^ mtime >> 32) + size & 0xFFFFFFFF if stored else 0
        bits = qid_type(kind_bits(stat)) if stat.marks else _QID_TYPES.get(kind, 0)
        return Qid(bits, version, self._number(identity))

    def _entry(self, cookie: int, name: str, stat: HostStat) -> Entry:
        qid = self._qid(stat)
        return Entry(cookie, qid, name, self._stat(stat, name, qid))

    def _number(self, identity: tuple[int, int]) -> int:
        """One number for each (device, inode): small inodes as they are, others counted in the upper half."""
        device, inode = identity
        index = self._devices.get(device)
        if index is None:
            index = self._devices[device] = len(self._devices)
        if inode >> _INODE_BITS == 0 and index >> 63 - _INODE_BITS == 0:
            return index << _INODE_BITS | inode
        return 1 << 63 | self._odd.setdefault(identity, len(self._odd))

    def _stat(self, stat: HostStat, name: str, qid: Qid) -> Stat:
        kind, mode, size, mtime, atime, ctime, _, links, user, group, uid, gid, number, _ = stat
        rdev = device_number(*number) if kind in "cb" else 0
        length = 0 if kind == "d" else size
        bits = kind_bits(stat) | mode & 0o777
        return Stat(name, qid, bits, length, mtime, atime, ctime, None, user, group, user, uid, gid, links, rdev)


def _check_attribute(name: str) -> None:
    """As `check_attribute`; what this server keeps in one is told by the mode."""
    check_attribute(name)
    if name == MARKS:
        raise FileError(E.NOTSUP, name, "it is changed by the mode")


def _close_found(found: Found) -> None:
    found.node.close()


def _close_opened(opened: tuple[HostFile, HostStat]) -> None:
    opened[0].close()


def _close_all(node: HostNode, file: HostFile | None) -> None:
    node.close()
    if file is not None:
        file.close()
