"""The streams of an isolated program, as its runner sees them: files `0`, `1` and `2` that stand for open ones.

Each is the open file itself, with its attributes. Where it stands is shared with others who have it open (a shell's
`{ a; b; } > file`), yet the program may also seek in it, and 9P's reads and writes always name an offset. So: whoever
goes on where the last one ended is at the place that all share, wherever that is by now; any other offset is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.process import Process
from cognu.files.server import Caller, Fid, FileServer, MaybeAsync, Walk
from cognu.files.steps import Steps, start
from cognu.kernel import READ, WRITE
from cognu.ninep.types import OACCESS, ORDWR, OREAD, OWRITE, QTDIR, Qid, SetStat, Stat

_GOOD_FOR = {OREAD: {OREAD, ORDWR}, OWRITE: {OWRITE, ORDWR}, ORDWR: {ORDWR}}


class StreamFid(Fid):
    """`chan` None is the directory. `at` is where the runner will go on, if it goes on."""

    __slots__ = ("at", "chan", "number")

    def __init__(self, chan: Chan | None, number: int = -1, at: int = 0) -> None:
        super().__init__(Qid(QTDIR, 0, 0) if chan is None else chan.qid)
        self.chan = chan
        self.at = at
        self.number = number


class StreamServer(FileServer):
    """Of one process's descriptors."""

    def __init__(self, spec: str, process: Process) -> None:
        self.spec = spec
        self._process = process
        self._opened: dict[int, StreamFid] = {}
        files = process.descriptors
        self.begin = {number: files[number].handle.offset for number in files}
        """Where each stands at first."""

    def ended(self, offsets: Sequence[int]) -> None:
        """The program is over, and left its streams there. Only who sought says something new by that."""
        for number, offset in enumerate(offsets):
            fid = self._opened.get(number)
            if fid is not None and fid.chan is not None and offset != fid.at:
                fid.chan.handle.offset = offset

    def attach(self, caller: Caller, aname: str) -> Fid:
        if aname:
            raise FileError(E.NOATTACH, self.spec + aname)
        return StreamFid(None)

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> Walk:
        assert isinstance(fid, StreamFid)
        if not names or list(names) == [".."]:
            chan = fid.chan.share() if fid.chan is not None and not names else None
            clone = StreamFid(None) if names else StreamFid(chan, fid.number, fid.at)
            return Walk([clone.qid] if names else [], clone)
        descriptors = self._process.descriptors
        if fid.chan is not None:
            raise FileError(E.NOTDIR, names[0])
        if names[0] not in ("0", "1", "2") or int(names[0]) not in descriptors:
            raise FileError(E.NOENT, names[0])
        number = int(names[0])
        found = StreamFid(descriptors[number].share(), number, self.begin.get(number, 0))
        return Walk([found.qid], found if len(names) == 1 else None)

    def open(self, fid: Fid, mode: int, caller: Caller) -> Fid:
        chan = _chan(fid)
        if chan.qid.type & QTDIR:
            raise FileError(E.ISDIR, str(chan.path))
        if chan.handle.mode is None or chan.handle.mode & OACCESS not in _GOOD_FOR.get(mode & OACCESS, {OREAD, ORDWR}):
            raise FileError(E.ACCES, str(chan.path), "it was not opened for that")
        assert isinstance(fid, StreamFid)
        self._opened[fid.number] = fid
        return fid

    def read(self, fid: Fid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        assert isinstance(fid, StreamFid)
        return start(_read(fid, offset, count))

    def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        assert isinstance(fid, StreamFid)
        return start(_write(fid, offset, data))

    def stat(self, fid: Fid) -> MaybeAsync[Stat]:
        assert isinstance(fid, StreamFid)
        if fid.chan is None:
            return Stat(name="/", qid=fid.qid, mode=QTDIR << 24 | 0o500)
        chan = fid.chan
        return start(dispatch(chan, 0, chan.server.stat, chan.fid))

    def wstat(self, fid: Fid, change: SetStat) -> MaybeAsync[None]:
        chan = _chan(fid)
        return start(dispatch(chan, WRITE, chan.server.wstat, chan.fid, change))

    def sync(self, fid: Fid, data_only: bool) -> MaybeAsync[None]:
        chan = _chan(fid)
        return start(dispatch(chan, 0, chan.server.sync, chan.fid, data_only))

    def clunk(self, fid: Fid) -> None:
        assert isinstance(fid, StreamFid)
        if self._opened.get(fid.number) is fid:
            del self._opened[fid.number]
        if fid.chan is not None:
            fid.chan.close()


def _chan(fid: Fid) -> Chan:
    assert isinstance(fid, StreamFid)
    if fid.chan is None:
        raise FileError(E.ISDIR, "/")
    return fid.chan


def _read(fid: StreamFid, offset: int, count: int) -> Steps[bytes | memoryview]:
    chan = _chan(fid)
    place = chan.handle.offset if offset == fid.at else offset
    steps: Steps[bytes | memoryview] = dispatch(chan, READ, chan.server.read, chan.fid, place, count)
    data = yield from steps
    _moved(fid, chan, offset, place, len(data))
    return data


def _write(fid: StreamFid, offset: int, data: bytes | memoryview) -> Steps[int]:
    """The place that all share moves on before the write is done, so that who shares it writes behind this."""
    chan, size = _chan(fid), len(data)
    handle = chan.handle
    place = handle.offset if offset == fid.at else offset
    _moved(fid, chan, offset, place, size)
    written = 0
    try:
        written = yield from dispatch(chan, WRITE, chan.server.write, chan.fid, place, data)
    finally:
        handle.offset -= size - written
        fid.at -= size - written
    return written


def _moved(fid: StreamFid, chan: Chan, offset: int, place: int, size: int) -> None:
    fid.at = offset + size
    chan.handle.offset = place + size
