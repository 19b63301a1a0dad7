"""Processes as plain data: what each has, how it comes into being (rfork), how it ends.

What runs a process (a fiber, an operating system's process, nothing at all for a peer's session) is not known here:
the node gives a process what starts and what kills it. `devices.proc` shows processes as files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from cognu.errors import E, FileError
from cognu.files.chan import Chan, Domain
from cognu.files.launch import Launch
from cognu.files.namespace import ChanMover, Namespace

DEFAULT_OPEN_FILES = 1024


class Descriptors:
    """Open files by number. May be shared by processes (rfork without FDG); closed with the last."""

    def __init__(self, limit: int = DEFAULT_OPEN_FILES) -> None:
        self.limit = limit
        self._chans: dict[int, Chan] = {}
        self._users = 1

    def __getitem__(self, number: int) -> Chan:
        """Raises BADF."""
        chan = self._chans.get(number)
        if chan is None:
            raise FileError(E.BADF, f"fd {number}")
        return chan

    def __contains__(self, number: int) -> bool:
        return number in self._chans

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._chans))

    def __len__(self) -> int:
        return len(self._chans)

    def add(self, chan: Chan, number: int | None = None) -> int:
        """Take over `chan` at the lowest free number, or at `number` (closing what is there). Raises MFILE, BADF."""
        if number is None:
            number = next(free for free in range(len(self._chans) + 1) if free not in self._chans)
        if number < 0:
            raise FileError(E.BADF, f"fd {number}")
        if number not in self._chans and len(self._chans) >= self.limit:
            raise FileError(E.MFILE)
        old = self._chans.get(number)
        self._chans[number] = chan
        if old is not None:
            old.close()
        return number

    def close(self, number: int) -> None:
        """Raises BADF."""
        chan = self._chans.pop(number, None)
        if chan is None:
            raise FileError(E.BADF, f"fd {number}")
        chan.close()

    def move(self, number: int, to: int) -> None:
        """Renumber: `to`, which is closed if it was open, becomes what `number` was. Raises BADF."""
        chan = self[number]
        if number == to:
            return
        del self._chans[number]
        old, self._chans[to] = self._chans.get(to), chan
        if old is not None:
            old.close()

    def hold(self) -> Descriptors:
        self._users += 1
        return self

    def release(self) -> None:
        self._users -= 1
        if self._users == 0:
            for number in list(self._chans):
                self.close(number)

    def copy(self, mover: ChanMover) -> Descriptors:
        """A table of the same open files (offsets shared) for the mover's domain; what was revoked is not in it."""
        twin = Descriptors(self.limit)
        try:
            for number, chan in self._chans.items():
                if mover.can(chan):
                    twin._chans[number] = mover.move(chan)
        except BaseException:
            twin.release()
            raise
        return twin


class Environment:
    """Variables of a group of processes: name to bytes, in order of making."""

    def __init__(self, values: dict[str, bytes] | None = None) -> None:
        self.values = dict(values or {})

    def copy(self) -> Environment:
        return Environment(self.values)


class State(Enum):
    NEW = "New"  # made by /proc/clone, not started
    RUNNING = "Running"
    DEAD = "Dead"


@dataclass(eq=False)
class Process:
    """One process. `user` and `pid` make it a `Caller` for file servers."""

    pid: int
    parent: Process | None
    user: str
    namespace: Namespace
    cwd: Chan
    descriptors: Descriptors
    environment: Environment
    started: int  # ns since 1970
    args: list[str] = field(default_factory=list)
    program: str = ""
    node: str = ""  # where it really runs, if not here
    state: State = State.NEW
    status: int | None = None  # exit status once DEAD; 128 + n for a signal
    message: str = ""  # why it ended, if not by exit
    kill: Callable[[str], None] | None = None  # what ends it from outside; the argument says by whom or why
    note: Callable[[str], None] | None = None  # delivers a note such as "interrupt"
    detail: Callable[[], dict[str, int | str]] | None = None  # more lines of its status: memory, CPU time
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    finished: int = 0  # ns since 1970, once DEAD
    launch: Launch = field(default_factory=Launch)  # what it is to be, while NEW


class Share(Enum):
    """What rfork(2) does with one of a process's groups."""

    SHARE = "share"
    COPY = "copy"
    CLEAN = "clean"


@dataclass(frozen=True)
class Fork:
    """What a child gets. The defaults are fork's: everything copied. Inferno's NODEVS is `devices=False`."""

    namespace: Share = Share.COPY
    environment: Share = Share.COPY
    descriptors: Share = Share.COPY
    mount: bool = True
    devices: bool = True


class ProcessTable:
    """All processes of this node, by pid. Pids are never used twice while the node runs."""

    def __init__(self, now: Callable[[], int], limit: int = 32768) -> None:
        self._now = now
        self._limit = limit
        self._processes: dict[int, Process] = {}
        self._last = 0

    def __getitem__(self, pid: int) -> Process:
        """Raises SRCH."""
        process = self._processes.get(pid)
        if process is None:
            raise FileError(E.SRCH, f"pid {pid}")
        return process

    def __contains__(self, pid: int) -> bool:
        return pid in self._processes

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._processes.values()))

    def __len__(self) -> int:
        return len(self._processes)

    def descendants(self, of: Process) -> list[Process]:
        """Live processes that `of` made, or that these made. Not `of` itself."""
        return [process for process in self if any(ancestor is of for ancestor in _ancestors(process))]

    def add(
        self,
        user: str,
        namespace: Namespace,
        cwd: Chan,
        parent: Process | None = None,
        descriptors: Descriptors | None = None,
        environment: Environment | None = None,
    ) -> Process:
        """A process of these parts, which it takes over; they are released when it ends. Raises AGAIN at the limit."""
        if len(self._processes) >= self._limit:
            raise FileError(E.AGAIN, "processes", f"{self._limit} are running")
        self._last += 1
        process = Process(
            self._last,
            parent,
            user,
            namespace,
            cwd,
            Descriptors() if descriptors is None else descriptors,
            Environment() if environment is None else environment,
            self._now(),
        )
        self._processes[process.pid] = process
        return process

    def fork(self, parent: Process, how: Fork | None = None) -> Process:
        """rfork(2): a new process, in state NEW, with its groups shared with, copied from, or without the parent's.

        A clean namespace is the root alone (the parent's root directory, with nothing mounted). As in Plan 9, giving
        up mounting or devices in a namespace that is shared gives it up for all who share it.

        Raises AGAIN, DQUOT, and REVOKED if the parent lost its root; nothing is left behind then.
        """
        how = how or Fork()
        if len(self._processes) >= self._limit:
            raise FileError(E.AGAIN, "processes", f"{self._limit} are running")
        if how.namespace is Share.SHARE:
            namespace = parent.namespace.hold()
        else:
            namespace = self._new_namespace(parent, how)
        try:
            return self._fork_into(namespace, parent, how)
        except BaseException:
            namespace.release()
            raise

    def _fork_into(self, namespace: Namespace, parent: Process, how: Fork) -> Process:
        """The child with its namespace, which is the caller's again if this raises."""
        mover = ChanMover(namespace.domain)
        if how.namespace is Share.CLEAN or not mover.can(parent.cwd):
            cwd = namespace.root.share()
        else:
            cwd = mover.move(parent.cwd)
        if how.descriptors is Share.SHARE:
            descriptors = parent.descriptors.hold()
        elif how.descriptors is Share.COPY:
            descriptors = parent.descriptors.copy(mover)
        else:
            descriptors = Descriptors(parent.descriptors.limit)
        environment = {
            Share.SHARE: lambda: parent.environment,
            Share.COPY: parent.environment.copy,
            Share.CLEAN: Environment,
        }[how.environment]()
        child = self.add(parent.user, namespace, cwd, parent, descriptors, environment)
        if not how.mount:
            namespace.no_mount = True
        if not how.devices:
            namespace.devices.clear()
        return child

    def _new_namespace(self, parent: Process, how: Fork) -> Namespace:
        domain = Domain(parent.namespace.domain.authority, parent.namespace.domain)
        try:
            if how.namespace is Share.COPY:
                return parent.namespace.copy(domain, how.devices)
            mover = ChanMover(domain)
            namespace = Namespace(domain, mover.move(parent.namespace.root))
            if how.devices:
                namespace.devices = mover.devices(parent.namespace.devices)
            namespace.no_mount = parent.namespace.no_mount
            return namespace
        except BaseException:
            domain.release()
            raise

    def change_namespace(self, process: Process, share: Share) -> None:
        """rfork(2)'s groups for a process that is there: share, copy or clean its parent's namespace. Raises SRCH."""
        parent = process.parent
        if parent is None or parent.state is State.DEAD:
            raise FileError(E.SRCH, f"parent of {process.pid}")
        shared = share is Share.SHARE
        namespace = parent.namespace.hold() if shared else self._new_namespace(parent, Fork(namespace=share))
        try:
            mover = ChanMover(namespace.domain)
            stays = share is not Share.CLEAN and mover.can(parent.cwd)
            cwd = mover.move(parent.cwd) if stays else namespace.root.share()
        except BaseException:
            namespace.release()
            raise
        process.cwd.close()
        process.namespace.release()
        process.namespace, process.cwd = namespace, cwd

    def end(self, process: Process, status: int, message: str = "") -> None:
        """The process is over: everything it had is given back and whoever waits is told. Later calls do nothing."""
        if process.state is State.DEAD:
            return
        process.state = State.DEAD
        process.status = status
        process.message = message
        process.finished = self._now()
        process.kill = process.note = None
        self._processes.pop(process.pid, None)
        process.descriptors.release()
        process.cwd.close()
        process.namespace.release()
        process.ended.set()


def _ancestors(process: Process) -> Iterator[Process]:
    above = process.parent
    while above is not None:
        yield above
        above = above.parent
