"""`#d`: the caller's open files, as dup(3). Opening `N` opens what descriptor N has open; `Nctl` tells about it."""

from __future__ import annotations

from collections.abc import Iterable

from cognu.devices.lent import LentFile
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.process import ProcessTable
from cognu.files.server import Caller
from cognu.files.tree import Node, TreeFid, TreeServer
from cognu.ninep.types import DMDEVICE, OACCESS, QTDIR, Qid

_MODES = ("r", "w", "rw", "x")
_ROOT = 1


class DescriptorFile(LentFile):
    """`/fd/N`. Shown as a device if it is the console: a program that runs elsewhere has only this to tell it by."""

    def __init__(self, processes: ProcessTable, number: int, console: bool = False) -> None:
        super().__init__(str(number), 0o600 | (DMDEVICE if console else 0))
        self.qid = Qid(0, 0, _ROOT + 1 + 2 * number)
        self._processes = processes
        self._number = number

    def chan(self, caller: Caller) -> Chan:
        return self._processes[caller.pid].descriptors[self._number]


class ControlFile(Node):
    """`/fd/Nctl`: reads as number, access, file, where it is."""

    def __init__(self, processes: ProcessTable, number: int) -> None:
        super().__init__(f"{number}ctl", 0o400)
        self.qid = Qid(0, 0, _ROOT + 2 + 2 * number)
        self._processes = processes
        self._number = number

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        chan = self._processes[caller.pid].descriptors[self._number]
        fid.state = describe(self._number, chan).encode()

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]


class DescriptorDirectory(Node):
    def __init__(self, processes: ProcessTable) -> None:
        super().__init__("", 0o555, qid_type=QTDIR)
        self.qid = Qid(QTDIR, 0, _ROOT)
        self._processes = processes

    def find(self, name: str, caller: Caller) -> Node:
        digits = name.removesuffix("ctl")
        # Only the number as it is listed: else one file would have many names (`007`, `٧`).
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and str(int(digits)) == digits):
            raise FileError(E.NOENT, name)
        number = int(digits)
        descriptors = self._processes[caller.pid].descriptors
        if number not in descriptors:
            raise FileError(E.NOENT, name)
        return self._node(number, name != digits, descriptors[number])

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        assert caller is not None
        descriptors = self._processes[caller.pid].descriptors
        for number in descriptors:
            yield self._node(number, False, descriptors[number])
            yield self._node(number, True, descriptors[number])

    def _node(self, number: int, control: bool, chan: Chan) -> Node:
        node: Node
        if control:
            node = ControlFile(self._processes, number)
        else:
            node = DescriptorFile(self._processes, number, chan.path.names()[-2:] == ["dev", "cons"])
        node.parent = self
        return node


def describe(number: int, chan: Chan) -> str:
    """A line about an open file: number, access, device, qid, offset and path, as in Plan 9's /proc/n/fd."""
    access = "-" if chan.handle.mode is None else _MODES[chan.handle.mode & OACCESS]
    qid = chan.qid
    where = f"({qid.path:016x} {qid.version} {qid.type:02x})"
    return f"{number:3d} {access:2s} {chan.server.spec} {where} {chan.handle.offset:8d} {chan.path}\n"


def fd_server(processes: ProcessTable) -> TreeServer:
    return TreeServer("#d", DescriptorDirectory(processes))
