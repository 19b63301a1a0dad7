"""`#e`: the caller's environment variables as files, as env(3). What fork shares or copies is its `Environment`."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from cognu.errors import E, FileError
from cognu.files.process import Environment, ProcessTable
from cognu.files.server import Caller
from cognu.files.tree import Node, TreeFid, TreeServer
from cognu.ninep.types import DMDIR, ORCLOSE, OTRUNC, QTDIR, QTFILE, Qid, SetStat

MAX_VALUE = 64 * 1024
MAX_VARIABLES = 4096
"""The environment is the node's memory: bytes of one variable, and variables of one process."""


class Variable(Node):
    """One variable. Made anew for each walk; the value is in the `Environment`, the number in the directory."""

    def __init__(self, name: str, environment: Environment, number: int) -> None:
        super().__init__(name, 0o666)
        self.qid = Qid(QTFILE, 0, number)
        self._environment = environment

    @property
    def value(self) -> bytes:
        value = self._environment.values.get(self.name)
        if value is None:
            raise FileError(E.NOENT, self.name)
        return value

    @property
    def length(self) -> int:
        return len(self.value)

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        if mode & OTRUNC:
            self._set(self.value[:0])
        return None

    def close(self, fid: TreeFid) -> None:
        if fid.mode is not None and fid.mode & ORCLOSE:
            self._environment.values.pop(self.name, None)

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return self.value[offset : offset + count]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        if offset + len(data) > MAX_VALUE:
            raise FileError(E.FBIG, self.name, f"a variable has at most {MAX_VALUE} bytes")
        old = self.value
        self._set(old[:offset].ljust(offset, b"\0") + bytes(data) + old[offset + len(data) :])
        return len(data)

    def wstat(self, change: SetStat) -> None:
        super().wstat(change)
        if change.length is not None:
            if change.length > MAX_VALUE:
                raise FileError(E.FBIG, self.name, f"a variable has at most {MAX_VALUE} bytes")
            self._set(self.value[: change.length].ljust(change.length, b"\0"))

    def remove(self) -> None:
        self._set(self.value)
        del self._environment.values[self.name]

    def _set(self, value: bytes) -> None:
        self._environment.values[self.name] = value


class EnvironmentDirectory(Node):
    def __init__(self, processes: ProcessTable) -> None:
        super().__init__("", 0o777, qid_type=QTDIR)
        self._processes = processes
        self._last = self.qid.path
        self._numbers: WeakKeyDictionary[Environment, dict[str, int]] = WeakKeyDictionary()

    def find(self, name: str, caller: Caller) -> Node:
        environment = self._of(caller)
        if name not in environment.values:
            raise FileError(E.NOENT, name)
        return self._variable(environment, name)

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        assert caller is not None
        environment = self._of(caller)
        return [self._variable(environment, name) for name in environment.values]

    def create(self, name: str, perm: int, mode: int, caller: Caller) -> Node:
        environment = self._of(caller)
        if perm & DMDIR:
            raise FileError(E.PERM, name, "variables are files")
        if name in ("", ".", "..") or any(odd in name for odd in "/\0"):
            raise FileError(E.INVAL, repr(name), "name of a variable")
        if name in environment.values:
            raise FileError(E.EXIST, name)
        if len(environment.values) >= MAX_VARIABLES:
            raise FileError(E.NOSPC, name, f"{MAX_VARIABLES} variables")
        environment.values[name] = b""
        return self._variable(environment, name)

    def _of(self, caller: Caller) -> Environment:
        return self._processes[caller.pid].environment

    def _variable(self, environment: Environment, name: str) -> Variable:
        numbers = self._numbers.setdefault(environment, {})
        if name not in numbers:
            self._last += 1
            numbers[name] = self._last
        variable = Variable(name, environment, numbers[name])
        variable.parent = self
        return variable


def env_server(processes: ProcessTable) -> TreeServer:
    return TreeServer("#e", EnvironmentDirectory(processes))
