"""A file that stands for a chan somebody has open: what `/fd/N` and `/srv/NAME` are.

Opening it holds the chan; reading and writing go to the chan's own file, under the chan's own capability, at the offset
that all its users share, as for descriptors that dup(2) made.
"""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.server import Caller, MaybeAsync
from cognu.files.steps import Steps, start
from cognu.files.tree import Node, TreeFid
from cognu.kernel import READ, WRITE
from cognu.ninep.types import OACCESS, ORDWR, OREAD, OWRITE, QTDIR

_NEEDS = {OREAD: {OREAD, ORDWR}, OWRITE: {OWRITE, ORDWR}, ORDWR: {ORDWR}}


class LentFile(Node):
    def chan(self, caller: Caller) -> Chan:
        """The chan this file stands for. Raises what says that there is none."""
        raise NotImplementedError

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        chan = self.chan(caller)
        access = mode & OACCESS
        if chan.handle.mode is None:
            raise FileError(E.BADF, self.name, "not open")
        if chan.qid.type & QTDIR:
            raise FileError(E.ISDIR, self.name)
        if chan.handle.mode & OACCESS not in _NEEDS.get(access, {OREAD, ORDWR}):
            raise FileError(E.ACCES, self.name, "it was not opened for that")
        fid.state = chan.share()
        return None

    def close(self, fid: TreeFid) -> None:
        if isinstance(fid.state, Chan):
            fid.state.close()
        fid.state = None

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        assert isinstance(fid.state, Chan)
        return start(read_on(fid.state, count))

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        assert isinstance(fid.state, Chan)
        return start(write_on(fid.state, data))


def read_on(chan: Chan, count: int) -> Steps[bytes | memoryview]:
    """Read an open file where its users are, as read(2) does."""
    steps: Steps[bytes | memoryview] = dispatch(chan, READ, chan.server.read, chan.fid, chan.handle.offset, count)
    data = yield from steps
    chan.handle.offset += len(data)
    return data


def write_on(chan: Chan, data: bytes | memoryview) -> Steps[int]:
    """Write there; how much was taken."""
    written = yield from dispatch(chan, WRITE, chan.server.write, chan.fid, chan.handle.offset, data)
    chan.handle.offset += written
    return written
