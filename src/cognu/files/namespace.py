"""A process's view of the world: the mount table, and names resolved through it.

The semantics are Plan 9's, 4th edition (port/chan.c, sysfile.c; bind(2), namespace(6)). What to know first:

- The table is keyed by file, (server, qid.path), not by name: a mount is seen by every path that leads to the file.
- A mount head holds an ordered chain of members. The first `before` or `after` on a directory puts the directory itself
  in the chain, without create permission. Binding a union copies its chain, flat, without create permission.
- Walking follows a mount point once. In a union, later members are tried only if the first element is not found. `..`
  goes back over the mount points that were crossed, by path.
- A walk ends *before* any mount point at its end. `open`, `stat` and their like cross it first; `cd`, and the place
  of a mount, do not.
- A path that begins with `#` starts at a device and sees no mounts.
- Symlinks (which Plan 9 has not) are resolved here, by the namespace of whoever walks, so a link can only name what
  its reader could name anyway. An absolute link starts at this namespace's root.

Functions return `Steps` (see `files.steps`): run them with `start` or `finish`. Chans they return are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from cognu.errors import E, FileError
from cognu.files.attach import attach
from cognu.files.chan import Chan, Domain, Origin, Path
from cognu.files.dispatch import dispatch, may
from cognu.files.mounts import MCREATE, MORDER, MREAD, ChanMover, Device, MountHead, MountTable
from cognu.files.readonly import read_only, read_only_union
from cognu.files.server import OEXCL, Caller, Entry, FileServer, Notice, Then, Walk
from cognu.files.steps import Steps
from cognu.kernel import ALL_RIGHTS, CREATE, EXECUTE, READ, WRITE, Cap
from cognu.ninep.types import (
    DMDIR,
    OEXEC,
    ORCLOSE,
    ORDWR,
    OREAD,
    OTRUNC,
    OWRITE,
    QTDIR,
    QTSYMLINK,
    Qid,
    SetStat,
    Stat,
)

MAX_WALK = 16
"""Names in one walk request, as 9P has it."""
MAX_LINKS = 40
"""Symlinks followed in one name, as Linux has it."""
ALWAYS_ATTACHABLE = "|decp"
"""Devices that need no authority beyond the process's own, allowed even without mounting (rfork's NOMNT)."""

_RIGHTS = {OREAD: READ, OWRITE: WRITE, ORDWR: READ | WRITE, OEXEC: EXECUTE}


def rights_of_mode(mode: int) -> int:
    """The rights that opening with `mode` needs."""
    rights = _RIGHTS[mode & 3]
    return rights | WRITE if mode & (OTRUNC | ORCLOSE) else rights


def split_path(path: str) -> tuple[str, list[str]]:
    """`("/" | "#x…" | "", names)`; empty elements and `.` are dropped. Raises NOENT (empty path), ILSEQ (a NUL)."""
    if not path:
        raise FileError(E.NOENT, "''")
    if "\0" in path:
        raise FileError(E.ILSEQ, repr(path))
    begin, rest = "", path
    if path[0] == "/":
        begin = "/"
    elif path[0] == "#":
        begin, _, rest = path.partition("/")
        if len(begin) < 2:
            raise FileError(E.NODEV, path)
    return begin, [name for name in rest.split("/") if name not in ("", ".")]


class Watched(Protocol):
    """A watch of something in a namespace (`files.watching`)."""

    def mounts_changed(self, key: object) -> None: ...


class Namespace:
    """A mount table with its root, the devices it may attach, and the domain whose capabilities it uses."""

    def __init__(self, domain: Domain, root: Chan, devices: Mapping[str, tuple[FileServer, Cap]] | None = None) -> None:
        """Takes over one use of `domain` and the chan `root`, which must belong to it."""
        self.domain = domain
        self.root = root
        self.devices = {
            letter: Device(server, domain, cap, Path(None, "#" + letter))
            for letter, (server, cap) in (devices or {}).items()
        }
        self.heads = MountTable()
        self.no_mount = False
        self.watchings: set[Watched] = set()
        self._users = 1

    # -- life -----------------------------------------------------------------------------------------------------

    def hold(self) -> Namespace:
        """Another process shares this namespace."""
        self._users += 1
        return self

    def release(self) -> None:
        """One user less; with the last, everything mounted is closed and the domain's use ends."""
        self._users -= 1
        if self._users:
            return
        self.heads.close()
        self.root.close()
        self.devices.clear()
        self.domain.release()

    def copy(
        self, domain: Domain, devices: bool = True, rights: int = ALL_RIGHTS, mover: ChanMover | None = None
    ) -> Namespace:
        """A copy for another domain, every capability derived from this one's and with at most `rights`.

        Takes over one use of `domain`. `mover`: what else goes to that domain with it, under the same capabilities.

        Without `devices` the copy can't attach any (Inferno's NODEVS). Raises DQUOT with nothing left behind. What
        was revoked or never had GRANT is not copied: such members and mounts are absent from the copy.
        """
        mover = mover or ChanMover(domain, rights)
        twin = Namespace(domain, mover.move(self.root))
        twin.heads = self.heads.moved(mover)
        if devices:
            twin.devices = mover.devices(self.devices)
        twin.no_mount = self.no_mount
        return twin

    # -- names to chans -------------------------------------------------------------------------------------------

    def find(self, path: str, cwd: Chan, caller: Caller, follow: bool = True, then: Then | None = None) -> Steps[Chan]:
        """The file that `path` names, before any mount point at its end. `follow`: a symlink at the end is resolved.

        `then`: what the caller does next with it, if it is what it expects.
        Relative paths start at `cwd`. Raises NOENT, NOTDIR, LOOP, NODEV and what the servers raise; names the path.
        """
        begin, names = split_path(path)
        try:
            if begin.startswith("#"):
                chan = yield from self.attach(begin, caller)
            else:
                chan = self.root if begin else cwd
            must_be_directory = path.endswith(("/", "/."))
            found = yield from self.walk(chan, names, caller, follow or must_be_directory, then=then)
            if must_be_directory and not self.cross(found)[0].qid.type & QTDIR:
                raise FileError(E.NOTDIR, path)
            return found
        except FileError as error:
            if error.subject:
                raise
            raise FileError(error.error, path, error.detail) from None

    def create_path(self, path: str, perm: int, mode: int, cwd: Chan, caller: Caller) -> Steps[Chan]:
        """As `create`, by path. A name with a slash at its end can only become a directory (INVAL)."""
        if path.endswith("/") and not perm & DMDIR:
            raise FileError(E.INVAL, path, "only a directory's name may end in a slash")
        directory, name = yield from self.find_parent(path, cwd, caller)
        return (yield from self.create(directory, name, perm, mode, caller))

    def find_parent(self, path: str, cwd: Chan, caller: Caller) -> Steps[tuple[Chan, str]]:
        """The directory that `path`'s last name is in, and that name: for creating. EXIST if there is none."""
        begin, names = split_path(path)
        if not names or names[-1] == "..":
            raise FileError(E.EXIST, path)
        above = "/".join([begin.rstrip("/"), *names[:-1]]) if begin else "/".join(names[:-1])
        return (yield from self.find(above or begin or ".", cwd, caller)), names[-1]

    def place(self, path: str, cwd: Chan, caller: Caller) -> Steps[Chan]:
        """As `find`, to mount there: if nothing has that name, the directory's server may make a place for it.

        That is gone when nothing is mounted on it any more (`FileServer.place`).
        """
        try:
            return (yield from self.find(path, cwd, caller))
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            refusal = (error.subject, error.detail)  # no exception is kept: its traceback would keep this frame
        names = split_path(path)[1]
        if names and names[-1] != "..":
            directory, name = yield from self.find_parent(path, cwd, caller)
            target, head = self.cross(directory)
            for member in [member.chan for member in head.members] if head is not None else [target]:
                try:
                    fid = yield from dispatch(member, CREATE, member.server.place, member.fid, name, caller)
                except FileError as error:
                    if error.error not in (E.NOENT, E.ACCES):
                        raise
                    continue
                return member.at(fid, directory.path.step([name]), member.origin.step(name))
        raise FileError(E.NOENT, *refusal)

    def attach(self, spec: str, caller: Caller) -> Steps[Chan]:
        """The root of the device tree that `spec` (`#`, a letter, a name) stands for. Raises NODEV, NOATTACH."""
        device = self.devices.get(spec[1])
        if device is None or (self.no_mount and spec[1] not in ALWAYS_ATTACHABLE):
            raise FileError(E.NODEV, spec)
        return (yield from attach(device.server, self.domain, device.cap, caller, spec[2:], spec, spec))

    def cross(self, chan: Chan) -> tuple[Chan, MountHead | None]:
        """The first member of what is mounted on `chan`, with the mount point noted in its path; else `chan` itself.

        A chan that was crossed already, as an open one is, stays: a mount point is followed once.
        """
        if chan.path.mounted_on is not None:
            assert chan.union is None or isinstance(chan.union, MountHead)
            return chan, chan.union
        head = None if chan.path.device else self.heads.get(chan.key)
        if head is None:
            return chan, None
        return _behind(head, chan.share()), head

    def walk(
        self,
        chan: Chan,
        names: Sequence[str],
        caller: Caller,
        follow: bool = True,
        trail: list[Qid] | None = None,
        then: Then | None = None,
    ) -> Steps[Chan]:
        """Walk `names` from `chan` and stop before any mount point at the end (chan.c, walk()).

        Symlinks on the way are resolved, one at the end if `follow`. With `trail` none are: it gets the qid of each
        name that was reached, behind mount points, for a client who resolves links itself; some are in it even if this
        raises. Raises NOENT, NOTDIR, LOOP.
        """
        names, links = list(names), 0
        begin = chan
        while names:
            if not chan.qid.type & QTDIR:
                raise FileError(E.NOTDIR, str(chan.path))
            if names[0] == "..":
                chan = yield from self._walk_up(chan, caller)
                del names[0]
                if trail is not None:
                    trail.append(self.cross(chan)[0].qid)
                continue
            batch = _batch(names)
            chan, head = self.cross(chan)
            last = then if len(batch) == len(names) else None
            member, walked = yield from self._walk_members(chan, head, batch, caller, last)
            stop = None if chan.path.device else self._mount_on_the_way(member, walked.qids, len(batch) - 1)
            link = _first_link(walked.qids)
            if stop is not None:
                _drop(member, walked)
                head = self.heads[(member.server, walked.qids[stop].path)]
                chan = _behind(head, head.place.share(chan.path.step(batch[: stop + 1])))
                names = names[stop + 1 :]
                if trail is not None:
                    trail += [*walked.qids[:stop], chan.qid]
            elif trail is None and link is not None and (follow or link < len(names) - 1):
                _drop(member, walked)
                links += 1
                if links > MAX_LINKS:
                    raise FileError(E.LOOP, str(chan.path.step(batch)))
                target = yield from self._read_link(member, batch[: link + 1], caller)
                chan, above = yield from self._link_base(chan, member, batch[:link], target, caller)
                names = above + split_path(target)[1] + names[link + 1 :]
            elif walked.fid is None:
                where = str(chan.path.step(batch[: len(walked.qids) + 1]))
                if trail is not None:
                    trail += walked.qids
                    raise _walk_failed(walked.qids, where)
                base = yield from self._ask_why(member, chan.path, batch[: len(walked.qids) + 1], walked.qids, caller)
                if base is None:
                    raise _walk_failed(walked.qids, where)
                chan, names = base, names[len(walked.qids) :]
            else:
                chan = member.at(walked.fid, chan.path.step(batch), _origin(member.origin, batch))
                names = names[len(batch) :]
                if trail is not None:
                    trail += [*walked.qids[:-1], self.cross(chan)[0].qid]
        return _near_side(chan, begin)

    def _link_base(
        self, chan: Chan, member: Chan, names: Sequence[str], target: str, caller: Caller
    ) -> Steps[tuple[Chan, list[str]]]:
        """Where a symlink's target is walked from, and the `..` to begin with; the link is below `chan` by `names`."""
        if target.startswith("/"):
            if not chan.path.device:
                return self.root.share(), []
            return chan, [".."] * len(chan.path.names())  # a device's links stay in its own tree
        if not names:
            return chan, []  # of a union: the union, not the member that holds the link
        return (yield from self._step(member, chan.path, names, caller)), []

    def _walk_up(self, chan: Chan, caller: Caller) -> Steps[Chan]:
        if chan.path.mounted_on is not None:
            chan = chan.path.mounted_on
        if chan.path.top or chan.path.parent is None:
            return chan.share()  # the root, which may be deep in its server's tree: nothing leads out
        walked = yield from dispatch(chan, 0, chan.server.walk, chan.fid, [".."], caller)
        path = chan.path.parent
        if path.mounted_on is not None:
            _drop(chan, walked)
            return path.mounted_on.share(Path(path.parent, path.name))
        if walked.fid is None:
            raise FileError(E.NOENT, f"{chan.path}/..")
        return chan.at(walked.fid, path, chan.origin.step(".."))

    def _walk_members(
        self, chan: Chan, head: MountHead | None, names: Sequence[str], caller: Caller, then: Then | None = None
    ) -> Steps[tuple[Chan, Walk]]:
        """Walk from `chan`, or from the first later member of its union that has the first name."""
        if head is None:
            members = [chan]
        else:
            members = [chan, *(member.chan for member in head.members[1:])]
        refusal: tuple[E, str] | None = None  # no exception is kept: its traceback would keep this frame
        for member in members:
            server = member.server
            try:
                if then is not None and server.far and self._may_go_on(member, names, then):
                    return member, (yield from dispatch(member, 0, server.walk_to, member.fid, names, caller, then))
                return member, (yield from dispatch(member, 0, server.walk, member.fid, names, caller))
            except FileError as error:
                where = str(chan.path.step(names[:1]))
                if refusal is None or refusal[0] is E.NOENT:
                    refusal = (error.error, error.detail or _beside(error.subject, where))
        assert refusal is not None
        raise FileError(refusal[0], str(chan.path.step(names[:1])), refusal[1])

    def _may_go_on(self, member: Chan, names: Sequence[str], then: Then) -> bool:
        """Whether `then` may be asked for with the walk: with the rights for it, and if nothing is mounted there."""
        if then is not Then.STAT and not may(member, READ):
            return False
        end = _origin(member.origin, names)
        return all(head.place.origin != end for head in self.heads.values())

    def _mount_on_the_way(self, member: Chan, qids: Sequence[Qid], before: int) -> int | None:
        if not self.heads:
            return None
        for index, qid in enumerate(qids[:before]):
            if (member.server, qid.path) in self.heads:
                return index
        return None

    def _ask_why(
        self, member: Chan, path: Path, names: Sequence[str], qids: Sequence[Qid], caller: Caller
    ) -> Steps[Chan | None]:
        """Raise what the server says of the last of `names`, where a walk of them ended: the walk itself does not tell
        (walk(5)), and it may be that a peer is away, or its grant revoked.

        If it is found now, as by a peer that came back meanwhile, the result is the directory above it, to go on from.
        """
        if len(names) < 2 or not qids[-1].type & QTDIR:
            return None
        above = yield from self._step(member, path, names[:-1], caller)
        try:
            _drop(above, (yield from dispatch(above, 0, above.server.walk, above.fid, names[-1:], caller)))
        except FileError as error:
            raise FileError(error.error, error.subject or str(path.step(names)), error.detail) from None
        return above

    def _step(self, member: Chan, path: Path, names: Sequence[str], caller: Caller) -> Steps[Chan]:
        """A walk that is known to cross nothing."""
        walked = yield from dispatch(member, 0, member.server.walk, member.fid, names, caller)
        if walked.fid is None:
            raise _walk_failed(walked.qids, str(path.step(names)))
        return member.at(walked.fid, path.step(names), _origin(member.origin, names))

    def _read_link(self, member: Chan, names: Sequence[str], caller: Caller) -> Steps[str]:
        link = yield from self._step(member, member.path, names, caller)
        try:
            target = yield from dispatch(link, 0, link.server.readlink, link.fid)
        finally:
            link.close()
        if target.startswith("#"):
            raise FileError(E.NODEV, str(link.path), "a symlink can't name a device")
        return target

    # -- operations on files --------------------------------------------------------------------------------------

    def open(self, chan: Chan, mode: int, caller: Caller) -> Steps[Chan]:
        """Open the file at `chan`, behind any mount point. `chan` is used up; if this raises, it is as before.

        With ORCLOSE as `remove`.
        """
        target, head = self.cross(chan)
        if mode & ORCLOSE:
            _check_not_held(chan, head)
        opened = yield from self._own(target, caller, unopened=True)
        method = opened.server.open
        try:
            fid = yield from dispatch(opened, rights_of_mode(mode), method, opened.fid, mode, caller)
        except BaseException:
            if opened is not chan:
                opened.close()
            raise
        if fid is not opened.fid:
            other = opened.at(fid, opened.path, opened.origin)
            if opened is not chan:
                opened.close()
            opened = other
        if opened.server.ends_with_right:
            try:
                opened.end_with_right()
            except FileError:
                opened.close()
                raise
        opened.handle.mode = mode
        opened.union = head
        if opened is not chan:
            chan.close()
        return opened

    def create(self, directory: Chan, name: str, perm: int, mode: int, caller: Caller) -> Steps[Chan]:
        """Create `name` in `directory` and open it; if it is there it is truncated and opened, or with OEXCL refused.

        In a union the first member that allows creation gets the file, and if that fails, it fails. Raises NOCREATE.
        """
        if name in ("", ".", ".."):
            raise FileError(E.EXIST, str(directory.path))
        try:
            existing = yield from self.walk(directory, [name], caller)
        except FileError as missing:
            if missing.error not in (E.NOENT, E.NOTDIR):  # of a file that is no directory, its server says so
                raise
        else:
            return (yield from self._open_existing(existing, mode, caller))
        target = self.creator(directory)
        rights = CREATE | rights_of_mode(mode)
        method = target.server.create
        try:
            fid = yield from dispatch(target, rights, method, target.fid, name, perm, mode & ~OEXCL, caller)
        except FileError as error:
            if mode & OEXCL or error.error is not E.EXIST:
                raise
            # Somebody else made it just now.
            existing = yield from self.walk(directory, [name], caller)
            return (yield from self._open_existing(existing, mode, caller))
        opened = target.at(fid, directory.path.step([name]), target.origin.step(name))
        opened.handle.mode = mode
        return opened

    def _open_existing(self, existing: Chan, mode: int, caller: Caller) -> Steps[Chan]:
        if mode & OEXCL:
            raise FileError(E.EXIST, str(existing.path))
        return (yield from self.open(existing, mode | OTRUNC, caller))

    def stat(self, chan: Chan) -> Steps[Stat]:
        """The attributes of the file at `chan`, behind any mount point; its name is the last one walked."""
        target, _ = self.cross(chan)
        stat = yield from dispatch(target, 0, target.server.stat, target.fid)
        if chan.path.parent is not None:
            return replace(stat, name=chan.path.name)
        if target is chan:
            return stat
        under = yield from dispatch(chan, 0, chan.server.stat, chan.fid)  # the root keeps its name, whatever is on it
        return replace(stat, name=under.name)

    def wstat(self, chan: Chan, change: SetStat) -> Steps[None]:
        """Change attributes. A mount point can't be renamed (MOUNTPOINT), nor the root of a tree (PERM).

        `chan` goes by its new name afterwards.
        """
        target, head = self.cross(chan)
        if change.name is not None:
            _check_not_held(chan, head)
        yield from dispatch(target, WRITE, target.server.wstat, target.fid, change)
        if change.name is not None:
            chan.renamed(change.name)

    def remove(self, chan: Chan, caller: Caller) -> Steps[None]:
        """Remove the file. A mount point can't be removed (MOUNTPOINT), nor the root of a tree (PERM)."""
        target, head = self.cross(chan)
        _check_not_held(chan, head)
        own = yield from self._own(target, caller)
        try:
            return (yield from dispatch(own, WRITE, own.server.remove, own.fid))
        finally:
            own.close()

    def shown(self, directory: Chan, entries: list[Entry]) -> list[Entry]:
        """Those of a directory's entries that whoever reads it here is to see: all, but in a `ShownNamespace`."""
        return entries

    def shown_notice(self, directory: Chan, notice: Notice) -> Notice:
        """What whoever watches a directory here is told: all, but for names that are not shown."""
        return notice

    def _mounts_changed(self, key: object) -> None:
        for watching in tuple(self.watchings):
            watching.mounts_changed(key)

    def creator(self, directory: Chan, name: str = "") -> Chan:
        """The member of the directory that new entries go to: the first that allows creation. Raises NOCREATE.

        `name`: what is to be made, where it is not asked for otherwise whether that may be (`ShownNamespace`).
        """
        target, head = self.cross(directory)
        if head is None:
            return target
        member = next((member for member in head.members if member.create), None)
        if member is None:
            raise FileError(E.NOCREATE, str(directory.path))
        return member.chan

    def rename(self, directory: Chan, name: str, to: Chan, new_name: str, caller: Caller) -> Steps[None]:
        """Move an entry in one step, replacing what is there (rename(2)). Raises XDEV across servers, MOUNTPOINT."""
        source = yield from self.directory(directory, name, caller)
        try:
            target = yield from self.directory(to, new_name, caller)  # replace it where it is
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            same = self.cross(to)[0].key == self.cross(directory)[0].key
            target = source if same else self.creator(to)
        if source.server is not target.server:
            raise FileError(E.XDEV, str(directory.path.step([name])))
        target.domain.check(target.cap, WRITE | CREATE)
        check_no_gain(source, target)
        method = source.server.rename
        return (yield from dispatch(source, WRITE, method, source.fid, name, target.fid, new_name))

    def link(self, existing: Chan, directory: Chan, name: str) -> Steps[None]:
        """A second name, in `directory`, for a file of the same server (link(2)). Raises XDEV, ACCES."""
        where = self.creator(directory)
        target, _ = self.cross(existing)
        if where.server is not target.server:
            raise FileError(E.XDEV, name)
        target.domain.check(target.cap, WRITE)
        check_no_gain(target, where)
        return (yield from dispatch(where, CREATE, where.server.link, where.fid, target.fid, name))

    def directory(self, chan: Chan, name: str, caller: Caller) -> Steps[Chan]:
        """The member of the directory at `chan` that holds `name`: where renames and unlinks act. Raises NOENT."""
        target, head = self.cross(chan)
        member, walked = yield from self._walk_members(target, head, [name], caller)
        _drop(member, walked)
        if walked.fid is None:
            raise FileError(E.NOENT, str(chan.path.step([name])))
        if not chan.path.device and (member.server, walked.qids[0].path) in self.heads:
            raise FileError(E.MOUNTPOINT, str(chan.path.step([name])))
        return member

    def _own(self, chan: Chan, caller: Caller, unopened: bool = False) -> Steps[Chan]:
        """A chan whose fid nobody else uses, since open and remove change it; if `unopened`, one that is not open."""
        if chan.handle.uses == 1 and chan.path.mounted_on is None and not (unopened and chan.handle.mode is not None):
            return chan
        walked = yield from dispatch(chan, 0, chan.server.walk, chan.fid, [], caller)
        if walked.fid is None:
            raise FileError(E.NOENT, str(chan.path))
        return chan.at(walked.fid, chan.path, chan.origin)

    # -- mounting -------------------------------------------------------------------------------------------------

    def bind(self, source: str, place: str, flags: int, cwd: Chan, caller: Caller) -> Steps[None]:
        """bind(2): make `place` stand for `source` too. Raises MOUNT, INVAL (both orders at once), PERM."""
        self._may_mount(flags)
        near = yield from self.find(source, cwd, caller)
        target, head = self.cross(near)
        if flags & MREAD:
            target, head = (yield from read_only(target)), head and (yield from read_only_union(head))
        where = yield from self.place(place, cwd, caller)
        try:
            self.mount(target, where, flags, head)
        finally:
            where.close()

    def mount(self, source: Chan, place: Chan, flags: int, union: MountHead | None = None) -> None:
        """Mount `source` on `place`; `union` is the head `source` is the first member of (chan.c, cmount())."""
        self._may_mount(flags)
        self.heads.join(source, place, flags, union)
        self._mounts_changed(place.key)

    def unmount(self, source: str | None, place: str, cwd: Chan, caller: Caller) -> Steps[None]:
        """Take `source`, or everything, off `place` (chan.c, cunmount()). Raises NOTMOUNTED, NOTINUNION."""
        self._may_mount(0)
        where = yield from self.find(place, cwd, caller)
        key = where.key
        where.close()
        what = None
        if source is not None:
            near = yield from self.find(source, cwd, caller)
            what, _ = self.cross(near)
        if key not in self.heads:
            raise FileError(E.NOTMOUNTED, place)
        if not self.heads.part(key, None if what is None else what.key):
            raise FileError(E.NOTINUNION, source or "")
        self._mounts_changed(key)

    def _may_mount(self, flags: int) -> None:
        if self.no_mount:
            raise FileError(E.PERM, "mount", "this process gave up mounting")
        if flags & MORDER == MORDER or flags & ~(MORDER | MCREATE | MREAD) or not ~flags & (MCREATE | MREAD):
            raise FileError(E.INVAL, f"flags {flags}")


def _behind(head: MountHead, place: Chan) -> Chan:
    """The chan behind the mount point at `place`, which it takes over, to remember what it crossed."""
    chan = head.members[0].chan.share(place.path.crossing(place))
    chan.union = head
    return chan


def _check_not_held(chan: Chan, head: MountHead | None) -> None:
    """Raises MOUNTPOINT, or PERM for the top of a tree: its name is in a directory that is not in it."""
    if head is not None:
        raise FileError(E.MOUNTPOINT, str(chan.path))
    if chan.path.top:
        raise FileError(E.PERM, str(chan.path), "nothing above it may be used")


def check_no_gain(source: Chan, target: Chan) -> None:
    """A name in another tree must not give any right to a file that its old name does not. Raises ACCES, REVOKED.

    To create in a directory, or to hand a file on, counts as much as to read it.
    """
    if _rights(target) & ~_rights(source):
        raise FileError(E.ACCES, str(source.path), "the other tree may be used for more than this one")


def _rights(chan: Chan) -> int:
    return chan.domain.authority.rights(chan.domain.pid, chan.cap)


def _beside(subject: str, path: str) -> str:
    """What a server's error names, if that isn't just its own name for `path`."""
    return "" if subject.rpartition("/")[2] == path.rpartition("/")[2] else subject


def _batch(names: Sequence[str]) -> list[str]:
    batch = list(names[:MAX_WALK])
    return batch[: batch.index("..")] if ".." in batch else batch


def _first_link(qids: Sequence[Qid]) -> int | None:
    return next((index for index, qid in enumerate(qids) if qid.type & QTSYMLINK), None)


def _near_side(chan: Chan, begin: Chan) -> Chan:
    """Where a walk came to: a link to `.` may have left off where it began, or behind a mount point."""
    if chan.path.mounted_on is not None:
        return chan.path.mounted_on.share()
    return begin.share() if chan is begin else chan


def _drop(chan: Chan, walked: Walk) -> None:
    if walked.fid is not None:
        chan.server.clunk(walked.fid)


def _origin(origin: Origin, names: Sequence[str]) -> Origin:
    return Origin(origin.spec, (*origin.names, *names))


def _walk_failed(qids: Sequence[Qid], where: str) -> FileError:
    return FileError(E.NOENT if not qids or qids[-1].type & QTDIR else E.NOTDIR, where)
