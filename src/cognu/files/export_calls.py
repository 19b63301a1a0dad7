"""What each request of a connection does to the chans that its fids stand for (exportfs(4)).

`Export` has the connection: the order of calls, their tasks, and what is sent. Here is one method per request, each in
steps (`files/steps.py`), and what is kept from one request to the next.

On 9P2000.L and .u symlinks are shown, and the client resolves them; plain 9P2000 has none, so they are followed here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sized
from dataclasses import replace
from typing import Any

from cognu.errors import CognuError, E, FileError
from cognu.files.attributes import AttributeFid, AttributeFids, end_attribute, read_attribute, write_attribute
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.export_locks import find_lock, new_session, take_lock
from cognu.files.export_watch import Watches
from cognu.files.exportdirs import ReadStats, read_entries, read_listing, read_stats
from cognu.files.handing import Minter, attenuate, rights_of_wire
from cognu.files.process import Descriptors, Process
from cognu.files.server import OAPPEND, OEXCL, HandOn, Then
from cognu.files.special import SPECIAL, create_special, extended_stat, linked_fid, make_node, make_symlink
from cognu.files.steps import Steps
from cognu.files.users import Users
from cognu.kernel import READ, WRITE
from cognu.ninep import messages as m
from cognu.ninep.attrs import (
    getattr_of_stat,
    mode_of_posix,
    open_mode,
    setstat_of_setattr,
    setstat_of_wire,
    wire_stat,
)
from cognu.ninep.messages import Dialect, Request
from cognu.ninep.server import Called, ServerSession
from cognu.ninep.types import (
    DMDIR,
    L_APPEND,
    L_EXCL,
    L_LARGEFILE,
    L_RDONLY,
    OREAD,
    QTDIR,
    U_APPEND,
    UNLINK_DIRECTORY,
    FileSystemStat,
    SetStat,
    Stat,
)

log = logging.getLogger("cognu.export")

WHOLE_READS = 64
"""Calls under way from which on reads give at most `SHORT_READ` bytes: each may end in memory at the same time."""
SHORT_READ = 1 << 14

Attach = Callable[[str, str], Steps[Chan]]
"""Gives the chan that (uname, aname) attaches to; raises NOATTACH."""
Answer = tuple[Any, Any]
"""A reply and what the new fid stands for, if one is made."""


class Calls:
    """Carries out the requests of one connection, whose `session` has the fids, in the namespace of `process`.

    `descriptors`, if given, holds the client's open fids under their numbers, so that the process can hand them on.
    Who learns only with the attach whose the client is sets both then. `minter` makes tokens; `under_way` are the calls
    that wait for something. What is noted of a chan goes when `release` closes it.
    """

    def __init__(
        self,
        session: ServerSession,
        process: Process,
        attach: Attach,
        descriptors: Descriptors | None,
        minter: Minter | None,
        watches: Watches,
        under_way: Sized,
    ) -> None:
        self.process = process
        self.descriptors = descriptors
        self._session = session
        self._attach = attach
        self._minter = minter
        self._watches = watches
        self._under_way = under_way
        self._reading: dict[Chan, ReadStats] = {}
        self._numbers: dict[Chan, int] = {}  # fids that are descriptors too
        self._number = new_session()
        self._attributes = AttributeFids()
        self._handlers: dict[type, Callable[[Any, Any, Any], Steps[Answer]]] = {
            m.Tauth: self._auth, m.Tattach: self._attached, m.Twalk: self._walk, m.Topen: self._open,
            m.Tcreate: self._create, m.Tread: self._read, m.Twrite: self._write, m.Tclunk: self._clunk,
            m.Tremove: self._remove, m.Tstat: self._stat, m.Twstat: self._wstat, m.Tlopen: self._lopen,
            m.Tlcreate: self._lcreate, m.Tsymlink: self._symlink, m.Treadlink: self._readlink,
            m.Tgetattr: self._getattr, m.Tsetattr: self._setattr, m.Treaddir: self._readdir, m.Tfsync: self._fsync,
            m.Tlist: self._list, m.Twatch: self._watch, m.Tattenuate: self._attenuate, m.Tmint: self._mint,
            m.Tlink: self._link, m.Tmkdir: self._mkdir, m.Trename: self._rename, m.Trenameat: self._renameat,
            m.Tunlinkat: self._unlinkat, m.Tstatfs: self._statfs, m.Tmknod: self._mknod,
            m.Tlock: self._lock, m.Tgetlock: self._getlock, m.Txattrwalk: self._xattrwalk,
            m.Txattrcreate: self._xattrcreate,
        }  # fmt: skip

    def steps(self, called: Called) -> Steps[Answer]:
        """What carries out the request. Raises NOTSUP for one that is not among those here."""
        message = called.message
        if isinstance(message, m.Twalk) and called.following:
            return self._walk(message, called.target, _then(message.newfid, called.following))  # type: ignore[arg-type]
        handler = self._handlers.get(type(message))
        if handler is None:
            raise FileError(E.NOTSUP, type(message).__name__)
        return handler(message, called.target, called.other)

    # -- fids -----------------------------------------------------------------------------------------------------

    def clunked(self, fid: int, chan: Chan) -> None:
        """A plain Tclunk is carried out."""
        self._watches.end_fid(fid)
        self.release(chan)

    def release(self, target: object) -> None:
        """No fid stands for the chan any more: close it, and the descriptor that it was."""
        if isinstance(target, AttributeFid):
            target.close()
        if not isinstance(target, Chan):
            return
        self._reading.pop(target, None)
        fid = self._numbers.pop(target, None)
        held = self.descriptors
        if held is not None and fid is not None and fid in held and held[fid].handle is target.handle:
            held.close(fid)
        target.close()

    def _opened(self, fid: int, chan: Chan, before: Chan) -> object:
        """Note an open fid as a descriptor; gives what replaces the fid's target. Raises MFILE, with `chan` closed."""
        if self.descriptors is not None:
            share = chan.share()
            try:
                self.descriptors.add(share, fid)
            except FileError:
                share.close()
                if chan is not before:
                    chan.close()
                raise
            self._numbers[chan] = fid
        if chan.qid.type & QTDIR:
            self._reading[chan] = ReadStats()
        return None if chan is before else chan

    @property
    def _follow(self) -> bool:
        return self._session.dialect is Dialect.LEGACY

    @property
    def _users(self) -> Users:
        return self.process.namespace.domain.authority.users

    @property
    def _extended(self) -> bool:
        return self._session.dialect is Dialect.U

    # -- one method per request -----------------------------------------------------------------------------------

    def _auth(self, message: m.Tauth, _: object, __: object) -> Steps[Answer]:
        raise FileError(E.NOAUTH)
        yield

    def _attached(self, message: m.Tattach, _: object, __: object) -> Steps[Answer]:
        user = self._users.user_of(message.uname, message.n_uname)
        chan = yield from self._attach(user, message.aname)
        return m.Rattach(self.process.namespace.cross(chan)[0].qid), chan

    def _walk(self, message: m.Twalk, chan: Chan, then: Then | None) -> Steps[Answer]:
        namespace, process = self.process.namespace, self.process
        if not message.names:
            return m.Rwalk(()), (None if message.newfid == message.fid else chan.share())
        trail: list[Any] = []
        try:
            if self._follow:
                found = chan
                for name in message.names:
                    found = yield from namespace.walk(found, [name], process)
                    trail.append(namespace.cross(found)[0].qid)
            else:
                found = yield from namespace.walk(chan, message.names, process, trail=trail, then=then)
        except FileError:
            if not trail:
                raise
            return m.Rwalk(tuple(trail)), None
        return m.Rwalk(tuple(trail)), found

    def _open(self, message: m.Topen, chan: Chan, _: object) -> Steps[Answer]:
        opened = yield from self.process.namespace.open(chan, self._mode(message.mode), self.process)
        return m.Ropen(opened.qid, 0), self._opened(message.fid, opened, chan)

    def _mode(self, wire: int) -> int:
        """What a Topen or Tcreate asks for. Linux's client of 9P2000.u has a bit for O_APPEND."""
        return wire & ~U_APPEND | OAPPEND if self._extended and wire & U_APPEND else wire

    def _lopen(self, message: m.Tlopen, chan: Chan, _: object) -> Steps[Answer]:
        opened = yield from self.process.namespace.open(chan, _mode_of_flags(message.flags), self.process)
        return m.Rlopen(opened.qid, 0), self._opened(message.fid, opened, chan)

    def _create(self, message: m.Tcreate, chan: Chan, _: object) -> Steps[Answer]:
        if message.perm & SPECIAL and self._extended:
            fid = linked_fid(message)
            linked = None if fid is None else self._session.target(fid)
            made = yield from create_special(self.process, chan, message, linked)
            return m.Rcreate(made.qid, 0), made
        # create(5) refuses a name that is taken; to truncate what is there instead is the client's part.
        mode = self._mode(message.mode) | OEXCL
        made = yield from self.process.namespace.create(chan, message.name, message.perm, mode, self.process)
        return m.Rcreate(made.qid, 0), self._opened(message.fid, made, chan)

    def _lcreate(self, message: m.Tlcreate, chan: Chan, _: object) -> Steps[Answer]:
        mode = _mode_of_flags(message.flags)
        perm = mode_of_posix(message.mode) & ~DMDIR
        namespace = self.process.namespace
        try:
            made = yield from namespace.create(chan, message.name, perm, mode | OEXCL, self.process)
        except FileError as error:
            if mode & OEXCL or error.error is not E.EXIST:
                raise
            found = yield from namespace.walk(chan, [message.name], self.process)
            made = yield from namespace.open(found, mode, self.process)
        return m.Rlcreate(made.qid, 0), self._opened(message.fid, made, chan)

    def _read(self, message: m.Tread, chan: Chan | AttributeFid, _: object) -> Steps[Answer]:
        if isinstance(chan, AttributeFid):
            return m.Rread(read_attribute(chan, message.offset, message.count)), None
        if chan.qid.type & QTDIR:
            return m.Rread((yield from self._read_stats(chan, message))), None
        count = message.count if len(self._under_way) < WHOLE_READS else min(message.count, SHORT_READ)
        data = yield from dispatch(chan, READ, chan.server.read, chan.fid, message.offset, count)
        assert isinstance(data, bytes | memoryview)
        return m.Rread(data), None

    def _read_stats(self, chan: Chan, message: m.Tread) -> Steps[bytes]:
        at = self._reading.get(chan)
        if at is None:  # it was no directory when it was opened: a far server may say one thing and then another
            raise FileError(E.STALE, str(chan.path))
        return (yield from read_stats(self.process, chan, at, message.offset, message.count, self._extended))

    def _readdir(self, message: m.Treaddir, chan: Chan, _: object) -> Steps[Answer]:
        return (yield from read_entries(self.process, chan, message)), None

    def _list(self, message: m.Tlist, chan: Chan, _: object) -> Steps[Answer]:
        return (yield from read_listing(self.process, chan, message)), None

    def _attenuate(self, message: m.Tattenuate, chan: Chan, _: object) -> Steps[Answer]:
        less = attenuate(self.process.namespace, chan, message.rights)
        return m.Rattenuate(less.qid), less
        yield

    def _mint(self, message: m.Tmint, chan: Chan, _: object) -> Steps[Answer]:
        assert self._minter is not None  # it was not agreed on else
        what = HandOn(rights_of_wire(message.rights), message.uses, message.seconds, message.peer)
        made = yield from self._minter(self.process, chan, what)
        return m.Rmint(made.seconds, made.text), None

    def _write(self, message: m.Twrite, chan: Chan | AttributeFid, _: object) -> Steps[Answer]:
        data = memoryview(message.data)
        if isinstance(chan, AttributeFid):
            return m.Rwrite(write_attribute(chan, message.offset, data)), None
        count = yield from dispatch(chan, WRITE, chan.server.write, chan.fid, message.offset, data)
        return m.Rwrite(count), None

    def _watch(self, message: m.Twatch, chan: Chan, _: object) -> Steps[Answer]:
        return (yield from self._watches.watch(self.process.namespace, chan, message)), None

    def _clunk(self, message: m.Tclunk, chan: object, _: object) -> Steps[Answer]:
        self._watches.end_fid(message.fid)
        if isinstance(chan, AttributeFid):
            yield from end_attribute(chan)
        else:
            self.release(chan)
        return m.Rclunk(), None

    def _remove(self, message: m.Tremove, chan: Chan | AttributeFid, _: object) -> Steps[Answer]:
        self._watches.end_fid(message.fid)
        try:
            if isinstance(chan, AttributeFid):
                raise FileError(E.BADUSE, f"fid {message.fid}", "an attribute is removed by Txattrcreate")
            yield from self.process.namespace.remove(chan, self.process)
        finally:
            self.release(chan)
        return m.Rremove(), None

    def _stat(self, message: m.Tstat, chan: Chan, _: object) -> Steps[Answer]:
        stat = yield from self._stat_of(chan)
        return m.Rstat((yield from extended_stat(chan, stat)) if self._extended else wire_stat(stat)), None

    def _wstat(self, message: m.Twstat, chan: Chan, _: object) -> Steps[Answer]:
        present = yield from self._stat_of(chan)
        target = (yield from extended_stat(chan, present)).extension if self._extended and present.is_symlink else ""
        change = setstat_of_wire(message.stat, present, self._extended, target)
        if change == SetStat():
            yield from dispatch(chan, 0, chan.server.sync, chan.fid, False)
        else:
            yield from self.process.namespace.wstat(chan, change)
        return m.Rwstat(), None

    def _getattr(self, message: m.Tgetattr, chan: Chan, _: object) -> Steps[Answer]:
        stat = yield from self._stat_of(chan)
        return getattr_of_stat(stat, message.request_mask), None

    def _setattr(self, message: m.Tsetattr, chan: Chan, _: object) -> Steps[Answer]:
        present = yield from self._stat_of(chan)
        change = setstat_of_setattr(message, present.mode)
        # By the table's numbers, which the file's server may not have.
        uid = None if change.uid == present.uid else change.uid
        gid = None if change.gid == present.gid else change.gid
        change = replace(change, uid=uid, gid=gid)
        if change != SetStat():
            yield from self.process.namespace.wstat(chan, change)
        return m.Rsetattr(), None

    def _stat_of(self, chan: Chan) -> Steps[Stat]:
        if chan.handle.mode is not None:  # an open file is what it is, whatever was mounted since
            return self._users.numbered((yield from dispatch(chan, 0, chan.server.stat, chan.fid)))
        return self._users.numbered((yield from self.process.namespace.stat(chan)))

    def _symlink(self, message: m.Tsymlink, chan: Chan, _: object) -> Steps[Answer]:
        return m.Rsymlink((yield from make_symlink(self.process, chan, message.name, message.target))), None

    def _mknod(self, message: m.Tmknod, chan: Chan, _: object) -> Steps[Answer]:
        mode = mode_of_posix(message.mode)
        return m.Rmknod(
            (yield from make_node(self.process, chan, message.name, mode, message.major, message.minor))
        ), None

    def _readlink(self, message: m.Treadlink, chan: Chan, _: object) -> Steps[Answer]:
        return m.Rreadlink((yield from dispatch(chan, 0, chan.server.readlink, chan.fid))), None

    def _mkdir(self, message: m.Tmkdir, chan: Chan, _: object) -> Steps[Answer]:
        perm = mode_of_posix(message.mode) | DMDIR
        namespace = self.process.namespace
        made = yield from namespace.create(chan, message.name, perm, OREAD | OEXCL, self.process)
        qid = made.qid
        made.close()
        return m.Rmkdir(qid), None

    def _link(self, message: m.Tlink, existing: Chan, chan: Chan) -> Steps[Answer]:
        yield from self.process.namespace.link(existing, chan, message.name)
        return m.Rlink(), None

    def _rename(self, message: m.Trename, chan: Chan, to: Chan) -> Steps[Answer]:
        above = yield from self._above(chan)
        yield from self.process.namespace.rename(above, chan.path.name, to, message.name, self.process)
        target = self.process.namespace.cross(to)[0]
        chan.path = target.path.step([message.name])
        chan.origin = target.origin.step(message.name)
        return m.Rrename(), None

    def _above(self, chan: Chan) -> Steps[Chan]:
        """The directory that the file was found in. Raises STALE if its name is not its any more, PERM for a root."""
        namespace, parent = self.process.namespace, chan.path.parent
        if chan.path.top or parent is None:
            raise FileError(E.PERM, str(chan.path))
        if chan.qid.type & QTDIR:
            return (yield from namespace.walk(chan, [".."], self.process))
        if chan.path.device:
            raise FileError(E.NOTSUP, str(chan.path), "by its directory it can be renamed: Trenameat")
        above = yield from namespace.find(str(parent), self.process.cwd, self.process)
        found = yield from namespace.walk(above, [chan.path.name], self.process, follow=False)
        if found.key != chan.key and namespace.cross(found)[0].key != chan.key:
            raise FileError(E.STALE, str(chan.path))
        return above

    def _renameat(self, message: m.Trenameat, chan: Chan, to: Chan) -> Steps[Answer]:
        yield from self.process.namespace.rename(chan, message.oldname, to, message.newname, self.process)
        return m.Rrenameat(), None

    def _unlinkat(self, message: m.Tunlinkat, chan: Chan, _: object) -> Steps[Answer]:
        namespace = self.process.namespace
        found = yield from namespace.walk(chan, [message.name], self.process, follow=False)
        is_directory = bool(found.qid.type & QTDIR)
        if is_directory != bool(message.flags & UNLINK_DIRECTORY):
            raise FileError(E.ISDIR if is_directory else E.NOTDIR, message.name)
        yield from namespace.remove(found, self.process)
        return m.Runlinkat(), None

    def _fsync(self, message: m.Tfsync, chan: Chan, _: object) -> Steps[Answer]:
        yield from dispatch(chan, 0, chan.server.sync, chan.fid, bool(message.datasync))
        return m.Rfsync(), None

    def _statfs(self, message: m.Tstatfs, chan: Chan, _: object) -> Steps[Answer]:
        target, _ = self.process.namespace.cross(chan)
        try:
            space = yield from dispatch(target, 0, target.server.statfs, target.fid)
        except FileError as error:
            if error.error is not E.NOTSUP:
                raise
            space = FileSystemStat()  # a device has no blocks to count
        return m.Rstatfs(*space), None

    def _lock(self, message: m.Tlock, chan: Chan, _: object) -> Steps[Answer]:
        return (yield from take_lock(self._number, chan, message)), None

    def _getlock(self, message: m.Tgetlock, chan: Chan, _: object) -> Steps[Answer]:
        return (yield from find_lock(self._number, chan, message)), None

    def _xattrwalk(self, message: m.Txattrwalk, chan: Chan, _: object) -> Steps[Answer]:
        found = yield from self._attributes.to_read(self.process, chan, message.name)
        return m.Rxattrwalk(found.size), found

    def _xattrcreate(self, message: m.Txattrcreate, chan: Chan, _: object) -> Steps[Answer]:
        size, flags = message.attr_size, message.flags
        return m.Rxattrcreate(), self._attributes.to_write(self.process, chan, message.name, size, flags)
        yield


def to_be_told(error: Exception) -> CognuError:
    """What the client is told of a failure: itself, or, of one that is this side's alone, IO; the log has that."""
    if isinstance(error, CognuError):
        return error
    log.error("request failed on this side", exc_info=error)
    return FileError(E.IO, detail=type(error).__name__)


def _then(fid: int, following: tuple[Request, ...]) -> Then | None:
    """What the parts of a compound after the walk that makes `fid` are about to do, so far as that may be told."""
    match following:
        case (m.Tgetattr(fid=first), *_) if first == fid:
            return Then.STAT
        case (m.Tlopen(fid=first, flags=flags), *rest) if first == fid and flags & ~L_LARGEFILE == L_RDONLY:
            return Then.LIST if rest and isinstance(rest[0], m.Tlist) else Then.READ
    return None


def _mode_of_flags(flags: int) -> int:
    mode = open_mode(flags)
    if flags & L_APPEND:
        mode |= OAPPEND
    if flags & L_EXCL:
        mode |= OEXCL
    return mode
