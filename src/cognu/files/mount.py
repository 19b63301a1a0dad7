"""A far tree as a file server: the mount driver (mnt(3)), a 9P client over any stream.

The sans-I/O `ClientSession` keeps tags and fids; this is its embedding. A cancelled call is flushed, and what the
server did anyway before it saw the flush is undone (a fid it made is clunked) or kept (bytes that it read, for the
next read of the fid). A call that is asked to stop (`files/stopping.py`) is flushed too, but has its answer if that
came first. When the connection is lost, every call under way ends with an error: for one that changes something,
`outcome unknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.files.farcalls import FarCalls
from cognu.files.fardirs import checked, read_entries, read_stats
from cognu.files.farfid import FarFid as FarFid
from cognu.files.farfid import Root
from cognu.files.farwatch import FarWatches
from cognu.files.handing import wire_rights
from cognu.files.late import Kept, Late, take_kept
from cognu.files.mount_linux import LinuxCalls, names_of
from cognu.files.readahead import AheadOfAll, ReadAhead, is_plain, may_read_ahead
from cognu.files.server import OAPPEND, Caller, End, Entry, Fid, HandOn, Lock, Tell, Then, Token, Walk
from cognu.files.trips import Trips
from cognu.files.users import Users
from cognu.files.writebehind import BehindOfAll, WriteBehind, may_write_behind
from cognu.ninep import messages as m
from cognu.ninep.attrs import (
    open_flags,
    posix_mode,
    setattr_of_setstat,
    stat_of_getattr,
    stat_of_wire,
    wire_of_setstat,
)
from cognu.ninep.client import LOWER, ClientSession
from cognu.ninep.messages import OLD_STYLE, Dialect, Reply, Request
from cognu.ninep.types import (
    DMDIR,
    GETATTR_ALL,
    L_APPEND,
    L_CREAT,
    L_EXCL,
    MAXWELEM,
    NOFID,
    ORCLOSE,
    OREAD,
    OTRUNC,
    QTDIR,
    U_APPEND,
    FileSystemStat,
    Qid,
    SetStat,
    Stat,
)
from cognu.world import Clock, Stream

_R = TypeVar("_R")


class MountServer(FarCalls):
    """The tree at the other end of `stream`. Made by `connect`; `close` ends it and everything walked to in it."""

    def __init__(self, stream: Stream, session: ClientSession, clock: Clock, spec: str) -> None:
        super().__init__(stream, session)
        self.spec = spec
        self.near = False  # what serves it is a program of this node
        self.users = Users()
        self._clock = clock
        self._linux = LinuxCalls(session, clock, self._call, self._clone, self._discard, self._give_back)
        self._ahead = AheadOfAll(self._read_ahead, self._is_plain, clock)
        self._behind = BehindOfAll(self._write, clock)
        self._watches = FarWatches(session, self._ask_watch, self._clone, self._discard, self._break, self._revoked)
        self._trips = Trips(
            session,
            clock,
            lambda: self.changes,
            partial(self._ask, m.Rcomp),
            self._revoked,
            self._free,
            self._discard,
        )

    @classmethod
    async def connect(
        cls, stream: Stream, clock: Clock, spec: str = "#M", offer: Dialect = Dialect.NG, msize: int = 1 << 20,
        lower: tuple[Dialect, ...] | None = None,
    ) -> MountServer:  # fmt: skip
        """Agree on a version and a size. Takes over `stream`. Raises `LinkBroken`, `ProtocolError`.

        `lower` are offered in turn to a server that does not know `offer`; None: what is below `.ng`, else nothing.
        """
        if lower is None:
            lower = LOWER if offer is Dialect.NG else ()
        server = cls(stream, ClientSession(offer, msize, lower=lower), clock, spec)
        server._reader = server._loop.create_task(server._read_on())
        try:
            server._send(server._session.version())
            await server._agreed
        except BaseException:
            await server.close()
            raise
        return server

    @property
    def far(self) -> bool:
        return True

    @property
    def _compounds(self) -> bool:
        return self._session.parts > 3

    async def close(self) -> None:
        """End the connection. Calls under way end as if the link had broken. May be called twice."""
        self._break(LinkBroken(E.SESSIONLOST, self._stream.peer, "closed on this side"))
        for task in (self._reader, self._writing, self._watches.asking, *self._ahead.tasks, *self._behind.tasks):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                await asyncio.wait([task])
        await self._stream.wait_closed()

    def _distrust(self) -> None:
        self._ahead.drop()

    def _caps_came(self) -> None:
        self._watches.settled.set()

    def _break(self, reason: CognuError) -> None:
        super()._break(reason)
        self._watches.broken()

    async def _ask_watch(
        self, reply_type: type[m.Rwatch] | type[m.Revent], request: m.Twatch | m.Tevent
    ) -> m.Rwatch | m.Revent:
        return await self._call(request, reply_type)

    async def _change(self, path: int, request: Request, reply_type: type[_R]) -> _R:
        """`_call` of what changes a file: what was read of it ahead may be of before, until it is over."""
        self._ahead.changed(path)
        try:
            return await self._call(request, reply_type)
        finally:
            self._ahead.changed(path)

    # -- the contract ---------------------------------------------------------------------------------------------

    async def attach(self, caller: Caller, aname: str) -> Fid:
        number = self._session.new_fid()

        try:
            late: Late = lambda reply: self._give_back(number, reply is not None)  # noqa: E731
            reply = await self._call(
                m.Tattach(number, NOFID, caller.user, aname, self.users.number_of(caller.user)), m.Rattach, late
            )
        except FileError:
            self._free(number)
            raise
        return FarFid(reply.qid, number, Root(number, reply.qid), ())

    async def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> Walk:
        assert isinstance(fid, FarFid)
        up = list(names) == [".."]
        reached = fid.names[:-1] if up else (*fid.names, *names)
        if not fid.opened:
            qids, number = await self._walk(fid.number, names)
        else:  # walk(5): not from a fid that is open
            qids, number = await self._walk(fid.root.number, reached)
            begin = len(reached) - 1 if up else len(fid.names)
            if number is None and len(qids) <= begin:
                raise FileError(E.NOENT, "/".join(reached))
            qids = qids[begin:] if reached else [fid.root.qid]
        if number is None:
            return Walk(qids, None)
        return Walk(qids, FarFid(qids[-1] if qids else fid.qid, number, fid.root, reached))

    async def walk_to(self, fid: Fid, names: Sequence[str], caller: Caller, then: Then) -> Walk:
        assert isinstance(fid, FarFid)
        if (
            not self._compounds
            or fid.opened
            or self._behind.files
            or not 0 < len(names) <= MAXWELEM
            or names[0] == ".."
        ):
            return await self.walk(fid, names, caller)
        reached = await self._trips.walk(fid.number, names, then)
        if reached is not None and reached.number is not None:
            made = FarFid(reached.qids[-1], reached.number, fid.root, (*fid.names, *names))
            made.opened, made.held = reached.opened, reached.held
            return Walk(reached.qids, made)
        if reached is not None and reached.held is None:
            return Walk(reached.qids, None)
        walked = await self.walk(fid, names, caller)  # what comes then is refused, and with it went the fid
        if reached is not None and isinstance(walked.fid, FarFid):
            walked.fid.held = reached.held
        return walked

    async def _walk(self, start: int, names: Sequence[str]) -> tuple[list[Qid], int | None]:
        """A new fid at the end of `names`, in as many requests as it takes; None if not all of them were reached."""
        number = self._session.new_fid()
        qids: list[Qid] = []
        at, rest = start, tuple(names)
        while True:
            batch, rest = rest[:MAXWELEM], rest[MAXWELEM:]
            try:
                reply = await self._call(m.Twalk(at, number, batch), m.Rwalk, self._undo_walk(number, at, len(batch)))
            except FileError:
                self._drop(number, at)
                if qids:
                    return qids, None
                raise
            qids += reply.qids
            if len(reply.qids) < len(batch):
                self._drop(number, at)
                return qids, None
            if not rest:
                return qids, number
            at = number

    def _give_back(self, number: int, made: bool) -> None:
        """What was to be a fid is given up; `made` if the server has it."""
        if self.broken is None:
            self._drop(number, number if made else NOFID)

    async def _clone(self, start: int) -> int:
        _, number = await self._walk(start, ())
        assert number is not None  # of no name, all or nothing
        return number

    def _drop(self, number: int, walked_from: int) -> None:
        """Give up a fid whose last walk failed: it is there only if an earlier one made it."""
        if walked_from == number:
            self._discard(number)
        else:
            self._free(number)

    def _undo_walk(self, number: int, start: int, count: int) -> Late:
        """What to do when a walk ends after its caller went away."""

        def late(reply: Reply | None) -> None:
            if self.broken is not None:
                return
            whole = isinstance(reply, m.Rwalk) and len(reply.qids) == count
            self._drop(number, number if whole else start)

        return late

    async def open(self, fid: Fid, mode: int, caller: Caller) -> Fid:
        assert isinstance(fid, FarFid)
        await self._behind.quiet(fid.qid.path)
        if fid.number == fid.root.number:  # it stays as it is, to be walked from
            clone = (await self.walk(fid, [], caller)).fid
            assert clone is not None
            try:
                return await self.open(clone, mode, caller)
            except BaseException:
                self.clunk(clone)
                raise
        if fid.opened:
            await self._open_opened(fid, mode)
        elif (refusal := self._trips.refusal(fid.held)) is not None and mode == OREAD:
            try:
                raise refusal
            finally:
                del refusal  # an error that its own frame holds keeps all that is in use further up
        elif self.dialect not in OLD_STYLE:
            flags = open_flags(mode) | _appending(mode)
            fid.qid = (await self._call(m.Tlopen(fid.number, flags), m.Rlopen)).qid
        else:
            fid.qid = (await self._call(m.Topen(fid.number, self._old_mode(mode)), m.Ropen)).qid
        self._now_open(fid, mode)
        if mode & OTRUNC:
            self._ahead.changed(fid.qid.path)
        if may_read_ahead(fid.qid, mode):
            fid.ahead = ReadAhead(self._ahead, fid.number, fid.qid.path, self._session.io_limit)
        return fid

    def _old_mode(self, mode: int) -> int:
        """`mode` as Topen and Tcreate have it."""
        return mode & 0xFF | (U_APPEND if mode & OAPPEND and self.dialect is Dialect.U else 0)

    async def _open_opened(self, fid: FarFid, mode: int) -> None:
        """The far fid is open for reading already. If that is not what is wanted, another takes its place."""
        if fid.mode is None and mode == OREAD:
            return
        _, number = await self._walk(fid.root.number, fid.names)
        if number is None:
            raise FileError(E.NOENT, "/".join(fid.names))
        self._discard(fid.number)
        fid.number, fid.opened, fid.held = number, False, None
        flags = open_flags(mode) | _appending(mode)
        fid.qid = (await self._call(m.Tlopen(number, flags), m.Rlopen)).qid

    async def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> Fid:
        assert isinstance(fid, FarFid)
        there = None
        if self._compounds and not fid.opened:
            there = await self._trips.create(fid.number, name, perm, open_flags(mode) | _appending(mode))
            if there is not None and there.number is not None:
                made = FarFid(there.qids[0], there.number, fid.root, (*fid.names, name))
                made.made = True
                return self._now_open(made, mode)
        legacy = self.dialect in OLD_STYLE
        if perm & DMDIR and not legacy:
            if there is None:
                await self._call(m.Tmkdir(fid.number, name, posix_mode(perm) & 0o7777, 0), m.Rmkdir)
            walked = await self.walk(fid, [name], caller)
            if walked.fid is None:
                raise FileError(E.NOENT, name)
            try:
                return await self.open(walked.fid, mode, caller)
            except BaseException:
                self.clunk(walked.fid)
                raise
        clone = (await self.walk(fid, [], caller)).fid
        assert isinstance(clone, FarFid)
        try:
            if legacy:
                request = m.Tcreate(clone.number, name, perm, self._old_mode(mode))
                clone.qid = (await self._call(request, m.Rcreate)).qid
            else:
                flags = open_flags(mode) | L_CREAT | L_EXCL | _appending(mode)
                lcreate = m.Tlcreate(clone.number, name, flags, posix_mode(perm) & 0o7777, 0)
                clone.qid = (await self._call(lcreate, m.Rlcreate)).qid
        except BaseException:
            self.clunk(clone)
            raise
        clone.names = (*fid.names, name)
        return self._now_open(clone, mode)

    def _now_open(self, fid: FarFid, mode: int) -> FarFid:
        fid.mode, fid.opened = mode, True
        if may_write_behind(fid.qid, mode):
            fid.behind = WriteBehind(self._behind, fid.number, fid.qid.path)
        return fid

    async def read(self, fid: Fid, offset: int, count: int) -> bytes | memoryview:
        assert isinstance(fid, FarFid)
        if fid.is_directory and self.dialect in OLD_STYLE:  # which would give stats; `readdir` is for that
            raise FileError(E.ISDIR, fid.name())
        return await self._read_in_order(fid, offset, count)

    async def _read_in_order(self, fid: FarFid, offset: int, count: int) -> bytes | memoryview:
        while fid.kept and count:
            data = await take_kept(fid.kept, offset, count, partial(self._is_stored, fid))
            if data is not None:
                return data
        count = min(count, self._session.io_limit)
        await self._behind.quiet(fid.qid.path)
        if count and (held := self._trips.read(fid.held, offset, count)) is not None:
            if fid.ahead is not None:
                fid.ahead.went_to(offset + len(held))
            return held
        if fid.ahead is not None and count:
            return await fid.ahead.read(offset, count, partial(self._read, fid))
        return await self._read(fid, offset, count)

    async def _read(self, fid: FarFid, offset: int, count: int) -> bytes | memoryview:
        kept = Kept(offset, self._loop.create_future())
        request = m.Tread(fid.number, offset, count)
        try:
            reply = await self._call(request, m.Rread, kept.late)
        except asyncio.CancelledError:
            fid.kept.append(kept)
            raise
        return reply.data if isinstance(reply.data, bytes | memoryview) else bytes(reply.data)

    async def _read_ahead(self, number: int, offset: int, count: int) -> bytes | memoryview:
        data = (await self._call(m.Tread(number, offset, count), m.Rread)).data
        return data if isinstance(data, bytes | memoryview) else bytes(data)

    async def _is_plain(self, number: int) -> bool:
        return is_plain(await self._stat(number, ""))

    async def _is_stored(self, fid: FarFid, end: int) -> bool:
        """Whether the file has bytes, up to `end`: by convention (stat(5)) the length of a stream is 0.

        That of a directory is 0 too, and it is read again.
        """
        if fid.qid.type & QTDIR:
            return True
        try:
            return (await self.stat(fid)).length >= max(end, 1)
        except FileError:
            return False

    async def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> int:
        assert isinstance(fid, FarFid)
        if (fid.mode or 0) & OAPPEND and self.dialect in OLD_STYLE:
            # 9P2000 can't ask for appending, and not each server of .u knows its bit: at the end as it is now.
            offset = (await self.stat(fid)).length
        if fid.behind is not None:
            await fid.behind.settle()
        await self._behind.quiet(fid.qid.path)
        # The far side may take its time: what the caller may reuse after a cancellation is copied.
        return await self._write(fid.number, fid.qid.path, offset, bytes(data[: self._session.io_limit]))

    async def _write(self, number: int, path: int, offset: int, data: bytes) -> int:
        return (await self._change(path, m.Twrite(number, offset, data), m.Rwrite)).count

    async def accept(self, fid: Fid, offset: int, data: bytes | memoryview) -> int:
        assert isinstance(fid, FarFid)
        if fid.behind is None and fid.wrote and not fid.looked:
            await self._look_whether_behind(fid)
        if fid.behind is None:
            first, fid.wrote = not fid.wrote, True
            if first and fid.made and not fid.is_directory:
                return await self._write_first(fid, offset, data)
            return await self.write(fid, offset, data)
        return await fid.behind.write(offset, bytes(data[: self._session.io_limit]))

    async def _write_first(self, fid: FarFid, offset: int, data: bytes | memoryview) -> int:
        """The first write of a file just made, and in the same trip what it is then."""
        self._ahead.changed(fid.qid.path)
        try:
            wrote = await self._trips.write(fid.number, offset, bytes(data[: self._session.io_limit]))
        finally:
            self._ahead.changed(fid.qid.path)
        if wrote is None:
            return await self.write(fid, offset, data)
        count, stat = wrote
        if stat is not None:
            self._looked(fid, stat)
        return count

    async def _look_whether_behind(self, fid: FarFid) -> None:
        """A file just made is empty, which says nothing; by the second write it may be seen to be a plain one."""
        fid.looked = True
        with suppress(FileError):  # the write will say why
            self._looked(fid, await self._stat(fid.number, ""))

    def _looked(self, fid: FarFid, stat: Stat) -> None:
        fid.looked = True
        if is_plain(stat) and may_write_behind(stat.qid, fid.mode or 0):
            fid.behind = WriteBehind(self._behind, fid.number, fid.qid.path)

    async def settle(self, fid: Fid) -> None:
        assert isinstance(fid, FarFid)
        if fid.behind is not None:
            await fid.behind.settle()

    async def readdir(self, fid: Fid, cookie: int, count: int) -> list[Entry]:
        assert isinstance(fid, FarFid)
        await self._behind.all_quiet()
        if not fid.is_directory:
            raise FileError(E.NOTDIR, fid.name())
        try:
            entries = await self._entries(fid, cookie, count)
        except ProtocolError as error:  # the message was sound: this listing is lost, not the connection
            raise FileError(error.error, fid.name(), str(error)) from None
        return checked(fid, cookie, entries)

    async def _entries(self, fid: FarFid, cookie: int, count: int) -> list[Entry]:
        limit = self._session.io_limit
        if self.dialect in OLD_STYLE:
            return await read_stats(self._read_in_order, fid, cookie, count, limit, self.dialect is Dialect.U)
        if self._session.lists:
            listed = self._trips.entries(fid.held, cookie, count)
            if listed is None:
                listed, fid.held = await self._trips.listing(partial(self._ask, m.Rlist), fid.number, cookie, count)
            named = self.users.named
            return [entry if entry.stat is None else entry._replace(stat=named(entry.stat)) for entry in listed]
        return await read_entries(partial(self._ask, m.Rreaddir), fid, cookie, count, limit)

    async def stat(self, fid: Fid) -> Stat:
        assert isinstance(fid, FarFid)
        await self._behind.quiet(fid.qid.path)
        stat = self._trips.stat(fid.held) or await self._stat(fid.number, fid.name())
        fid.qid = stat.qid
        return stat if self.dialect in OLD_STYLE else self.users.named(stat)

    async def _stat(self, number: int, name: str) -> Stat:
        if self.dialect in OLD_STYLE:
            return stat_of_wire((await self._call(m.Tstat(number), m.Rstat)).stat)
        return stat_of_getattr(name, await self._call(m.Tgetattr(number, GETATTR_ALL), m.Rgetattr))

    async def wstat(self, fid: Fid, change: SetStat) -> None:
        assert isinstance(fid, FarFid)
        await self._behind.quiet(fid.qid.path)
        if self.dialect in OLD_STYLE:
            wire = wire_of_setstat(change, self._clock.now(), self.dialect is Dialect.U)
            await self._change(fid.qid.path, m.Twstat(fid.number, wire), m.Rwstat)
        elif change.name is None:
            await self._change(fid.qid.path, setattr_of_setstat(fid.number, change), m.Rsetattr)
        else:
            rest = replace(change, name=None)
            if rest != SetStat():
                raise FileError(E.NOTSUP, fid.name(), "a rename goes alone")
            if change.name == fid.name():
                return
            above = await self._parent(fid)
            try:
                await self._must_be_free(above, change.name)  # Trename would replace it
                await self._call(m.Trename(fid.number, above, change.name), m.Rrename)
            finally:
                self._discard(above)
            fid.names = (*fid.names[:-1], change.name)

    async def _must_be_free(self, directory: int, name: str) -> None:
        """Raises EXIST if there is a file of that name."""
        try:
            _, number = await self._walk(directory, [name])
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            return
        assert number is not None  # of one name, all or nothing
        self._discard(number)
        raise FileError(E.EXIST, name)

    async def _parent(self, fid: FarFid) -> int:
        """The number of a fid on the directory that `fid` was walked in, to be discarded by the caller."""
        if not fid.names:
            raise FileError(E.ACCES, fid.name())
        _, number = await self._walk(fid.root.number, fid.names[:-1])
        if number is None:
            raise FileError(E.NOENT, "/".join(fid.names[:-1]))
        return number

    async def remove(self, fid: Fid) -> None:
        assert isinstance(fid, FarFid)
        if fid.number == fid.root.number:
            raise FileError(E.BUSY, fid.name(), "the root stays")
        await self._behind.quiet(fid.qid.path)
        number = self._leave(fid)  # it is gone however the call ends
        late: Late = lambda _: self._free(number) if self.broken is None else None  # noqa: E731
        try:
            await self._call(m.Tremove(number), m.Rremove, late)
        except FileError:
            if self.broken is None:
                self._free(number)
            raise
        self._free(number)

    def clunk(self, fid: Fid) -> None:
        assert isinstance(fid, FarFid)
        if fid.number == NOFID:
            return
        remove = (fid.mode or 0) & ORCLOSE and self.dialect not in OLD_STYLE  # .L has no bit for it in Tlopen
        behind, number = fid.behind, self._leave(fid)
        ended = partial(self._discard_by, m.Tremove(number) if remove else m.Tclunk(number), number)
        if behind is not None:
            behind.close(ended)  # which would end what is on its way
        elif number != fid.root.number:
            ended()

    def _leave(self, fid: FarFid) -> int:
        """The fid's number, which it has no more. The root goes with its last."""
        number, fid.number = fid.number, NOFID
        if fid.ahead is not None:
            fid.ahead.close()
            fid.ahead = None
        fid.root.uses -= 1
        if fid.root.uses == 0:
            self._discard(fid.root.number)
        return number

    async def symlink(self, fid: Fid, name: str, target: str) -> Qid:
        return await self._linux.make_symlink(_number(fid), name, target)

    async def readlink(self, fid: Fid) -> str:
        return await self._linux.target_of(_number(fid))

    async def mknod(self, fid: Fid, name: str, mode: int, major: int, minor: int) -> Qid:
        return await self._linux.make_node(_number(fid), name, mode, major, minor)

    async def link(self, directory: Fid, existing: Fid, name: str) -> None:
        await self._linux.make_link(_number(directory), _number(existing), name)

    async def rename(self, directory: Fid, name: str, to: Fid, new_name: str) -> None:
        assert isinstance(directory, FarFid)
        assert isinstance(to, FarFid)
        if self.dialect not in OLD_STYLE:
            try:
                await self._call(m.Trenameat(directory.number, name, to.number, new_name), m.Rrenameat)
                return
            except FileError as error:
                if error.error is not E.NOTSUP:
                    raise
            # Older servers have Trename alone (Debian's diod): so Linux's client does then.
        elif directory.qid.path != to.qid.path:
            # wstat(5) renames within a directory only, and never over another file.
            raise FileError(E.XDEV, name, "9P2000 renames within a directory")
        _, number = await self._walk(directory.number, [name])
        assert number is not None  # of one name, all or nothing
        try:
            if self.dialect in OLD_STYLE:
                wire = wire_of_setstat(SetStat(name=new_name), self._clock.now())
                await self._call(m.Twstat(number, wire), m.Rwstat)
            else:
                await self._call(m.Trename(number, to.number, new_name), m.Rrename)
        finally:
            self._discard(number)

    async def sync(self, fid: Fid, data_only: bool) -> None:
        await self.settle(fid)
        assert isinstance(fid, FarFid)
        await self._behind.quiet(fid.qid.path)
        if self.dialect not in OLD_STYLE:
            await self._call(m.Tfsync(fid.number, int(data_only)), m.Rfsync)
        else:
            wire = wire_of_setstat(SetStat(), self._clock.now())
            await self._call(m.Twstat(fid.number, wire), m.Rwstat)

    async def attenuate(self, fid: Fid, rights: int) -> Fid:
        """The same file as the root of a tree, under a capability with `rights` alone, which the server made.

        Raises NOSYS if the server has no such thing, ACCES for rights that the fid has not.
        """
        assert isinstance(fid, FarFid)
        self._must_be_ng("attenuate")
        number = self._session.new_fid()
        late: Late = lambda reply: self._give_back(number, reply is not None)  # noqa: E731
        try:
            reply = await self._call(m.Tattenuate(fid.number, number, wire_rights(rights)), m.Rattenuate, late)
        except FileError:
            self._free(number)
            raise
        return FarFid(reply.qid, number, Root(number, reply.qid, fid.name()), ())

    async def hand_on(self, fid: Fid, what: HandOn) -> Token:
        """Cancelled, it may leave a token that nobody knows; that one expires."""
        self._must_be_ng("hand on")
        request = m.Tmint(_number(fid), wire_rights(what.rights), what.uses, what.seconds, what.peer)
        reply = await self._call(request, m.Rmint)
        return Token(reply.token, reply.seconds)

    def _must_be_ng(self, what: str) -> None:
        if self.dialect is not Dialect.NG:
            raise FileError(E.NOSYS, what, f"the server speaks {self.dialect.value}")

    async def watch(self, fid: Fid, kinds: int, tell: Tell) -> End:
        if self.dialect is not Dialect.NG:
            raise FileError(E.NOTSUP, "watch", f"the server speaks {self.dialect.value}")
        return await self._watches.watch(_number(fid), kinds, tell)

    async def statfs(self, fid: Fid) -> FileSystemStat:
        return await self._linux.space(_number(fid))

    async def getxattr(self, fid: Fid, name: str) -> bytes:
        return await self._linux.attribute(_number(fid), name)

    async def listxattr(self, fid: Fid) -> list[str]:
        return names_of(await self._linux.attribute(_number(fid), ""))

    async def setxattr(self, fid: Fid, name: str, value: bytes, flags: int) -> None:
        await self._linux.set_attribute(_number(fid), name, value, flags)

    async def removexattr(self, fid: Fid, name: str) -> None:
        await self._linux.remove_attribute(_number(fid), name)

    async def lock_range(self, fid: Fid, lock: Lock, wait: bool) -> bool:
        await self._behind.quiet(fid.qid.path)  # an exclusive lock may become a shared one
        taken = await self._linux.take_lock(_number(fid), lock, wait)
        self._ahead.changed(fid.qid.path)  # what was read of it ahead may be of before
        return taken

    async def unlock_range(self, fid: Fid, lock: Lock) -> None:
        """What was written under the lock is there when others have it."""
        await self._behind.quiet(fid.qid.path)
        await self._linux.release_lock(_number(fid), lock)

    async def find_lock(self, fid: Fid, lock: Lock) -> Lock | None:
        return await self._linux.lock_in_the_way(_number(fid), lock)


def _number(fid: Fid) -> int:
    assert isinstance(fid, FarFid)
    return fid.number


def _appending(mode: int) -> int:
    return L_APPEND if mode & OAPPEND else 0
