"""`#s`: a board where processes post open files under names, as srv(3).

    create NAME, write the number of an open descriptor, close;
    whoever opens NAME gets that file; removing NAME takes it off.

With `own` after the number the name is there as long as it is open where it was created, and so no longer than the
process that has it open, however that ends. Else what is posted stays open when the process that posted it is gone: in
a domain of its own, under a capability minted from the one that the process had it by. So only what may be handed on is
posted, and it goes when that is revoked.

What is posted under a name that is one of a service is in the registry of this machine as `srv:NAME`, and on no other:
no grant leads here.
"""

from __future__ import annotations

from contextlib import suppress

from cognu.devices.fd import DescriptorFile
from cognu.devices.lent import LentFile
from cognu.devices.ram import check_name
from cognu.devices.registry import ADDRESS, Registry, Service
from cognu.errors import E, FileError
from cognu.files.chan import Chan, Domain, Path
from cognu.files.dispatch import may
from cognu.files.mounts import ChanMover, may_hand_on
from cognu.files.process import ProcessTable
from cognu.files.server import Caller, MaybeAsync
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.kernel import GRANT
from cognu.ninep.types import DMDIR, OACCESS, ORCLOSE, ORDWR, OWRITE


class Posted(LentFile):
    """One name on the board. `posted` is what its creator wrote here; this owns it."""

    def __init__(self, name: str, perm: int, processes: ProcessTable, registry: Registry | None) -> None:
        super().__init__(name, perm & 0o777)
        self.posted: Chan | None = None
        self._processes = processes
        self._registry = registry
        self._new = True  # the next open is its creator's
        self._owner: TreeFid | None = None  # whose end takes the name off

    def chan(self, caller: Caller) -> Chan:
        if self.posted is None:
            raise FileError(E.NXIO, self.name, "nothing is posted there")
        return self.posted

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        if self._new:
            self._new = False
            return None
        return super().open(fid, mode, caller)

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        if isinstance(fid.state, Chan):
            return super().write(fid, offset, data)
        if self.posted is not None:
            raise FileError(E.ALREADY, self.name)
        if self.parent is None:
            raise FileError(E.NOENT, self.name)
        assert fid.caller is not None
        number, *words = bytes(data[:80]).split() or [b""]
        if not number.isdigit() or len(number) > 10 or words not in ([], [b"own"]):
            raise FileError(E.USAGE, self.name, "write the number of one open descriptor, and perhaps own")
        chan = self._processes[fid.caller.pid].descriptors[int(number)]
        if chan.handle.mode is None:
            raise FileError(E.BADF, f"fd {int(number)}", "not open")
        self.posted = _handed_on(chan)
        if words:
            self._owner = fid
        self._offer()
        return len(data)

    def _offer(self) -> None:
        if self._registry is None:
            return
        about = (("kind", "srv"), (ADDRESS, f"/srv/{self.name}"))
        with suppress(FileError):  # of a name that is no service's, or with too many others, the board alone tells
            self._registry.offer(Service(f"srv:{self.name}", about), self, told=False)

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        if not isinstance(fid.state, Chan):
            raise FileError(E.NXIO, self.name, "its creator writes here")
        return super().read(fid, offset, count)

    def close(self, fid: TreeFid) -> None:
        super().close(fid)
        if fid is self._owner or (fid.mode is not None and fid.mode & ORCLOSE):
            self.remove()

    def remove(self) -> None:
        if isinstance(self.parent, Directory):
            self.parent.discard(self.name)
        if self.posted is not None:
            self.posted.close()
            self.posted = None
        if self._registry is not None:
            self._registry.release(self)


def _handed_on(chan: Chan) -> Chan:
    """The open file in a domain that lives as long as it is posted or used. Raises ACCES, REVOKED, DQUOT."""
    fid = chan.fid
    if isinstance(fid, TreeFid) and isinstance(fid.node, DescriptorFile):
        assert isinstance(fid.state, Chan)
        return _handed_on(fid.state)  # the descriptor itself: its process may end
    chan.domain.check(chan.cap, 0)
    if not (may(chan, GRANT) and may_hand_on(chan)):
        raise FileError(E.ACCES, str(chan.path), "it may not be handed on")
    domain = Domain(chan.domain.authority, chan.domain)
    flat = chan.share(Path(None, str(chan.path)))  # without the mount points on the way, which are the process's
    try:
        return ChanMover(domain).move(flat)
    finally:
        flat.close()
        domain.release()


class Board(Directory):
    def __init__(self, processes: ProcessTable, registry: Registry | None) -> None:
        super().__init__("", (), 0o777)
        self._processes = processes
        self._registry = registry

    def create(self, name: str, perm: int, mode: int, caller: Caller) -> Node:
        check_name(name)
        if perm & DMDIR:
            raise FileError(E.PERM, name, "only files are posted")
        if mode & OACCESS not in (OWRITE, ORDWR):
            raise FileError(E.ACCES, name, "open it for writing, to post something")
        if name in self.children:
            raise FileError(E.EXIST, name)
        return self.add(Posted(name, perm, self._processes, self._registry))


def srv_server(processes: ProcessTable, registry: Registry | None = None) -> TreeServer:
    """`registry` has what is posted, if it is given."""
    return TreeServer("#s", Board(processes, registry))
