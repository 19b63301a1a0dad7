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
from cognu.files.limits import USUAL_WEIGHT, Quota, Resource
from cognu.files.mounts import ChanMover
from cognu.files.namespace import Namespace
from cognu.files.server import Caller
from cognu.files.wants import Reach, Wants

DEFAULT_OPEN_FILES = 1024


class Descriptors:
    """Open files by number. May be shared by processes (rfork without FDG); closed with the last.

    `limit` is this table's own (MFILE). Each open file counts in `quota` too, that of the process it was made for.
    """

    def __init__(self, limit: int = DEFAULT_OPEN_FILES, quota: Quota | None = None) -> None:
        self.limit = limit
        self._quota = quota
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
        """Take over `chan` at the lowest free number, or at `number` (closing what is there).

        Raises MFILE, DQUOT, BADF.
        """
        if number is None:
            number = next(free for free in range(len(self._chans) + 1) if free not in self._chans)
        if number < 0:
            raise FileError(E.BADF, f"fd {number}")
        old = self._chans.get(number)
        if old is None:
            if len(self._chans) >= self.limit:
                raise FileError(E.MFILE)
            self._take(1)
        self._chans[number] = chan
        if old is not None:
            old.close()
        return number

    def close(self, number: int) -> None:
        """Raises BADF."""
        chan = self._chans.pop(number, None)
        if chan is None:
            raise FileError(E.BADF, f"fd {number}")
        self._give(1)
        chan.close()

    def move(self, number: int, to: int) -> None:
        """Renumber: `to`, which is closed if it was open, becomes what `number` was. Raises BADF."""
        chan = self[number]
        if number == to:
            return
        del self._chans[number]
        old, self._chans[to] = self._chans.get(to), chan
        if old is not None:
            self._give(1)
            old.close()

    def hold(self) -> Descriptors:
        self._users += 1
        return self

    def release(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._give(len(self._chans))
            while self._chans:
                self._chans.popitem()[1].close()

    def copy(self, mover: ChanMover, quota: Quota | None = None) -> Descriptors:
        """A table of the same open files (offsets shared) for the mover's domain; what was revoked is not in it.

        Raises DQUOT; then nothing is left behind.
        """
        twin = Descriptors(self.limit, quota)
        try:
            for number, chan in self._chans.items():
                if mover.can(chan):
                    twin._take(1)
                    twin._chans[number] = mover.move(chan)
        except BaseException:
            twin.release()
            raise
        return twin

    def succeed(self, other: Descriptors, quota: Quota) -> None:
        """Count in `quota` from now on, in place of `other`, which counts no more if it was that quota's alone.

        So the two that a process has while it changes its clothes count once. Nothing happens to a table that counts
        already. Raises DQUOT with nothing changed.
        """
        if self._quota is not None:
            return
        freed = len(other) if other._quota is quota and other._users == 1 else 0
        more = len(self) - freed
        if more > 0:
            quota.take(Resource.FILES, more)
        else:
            quota.give(Resource.FILES, -more)
        self._quota = quota
        if freed:
            other._quota = None

    def _take(self, count: int) -> None:
        if self._quota is not None:
            self._quota.take(Resource.FILES, count)

    def _give(self, count: int) -> None:
        if self._quota is not None:
            self._quota.give(Resource.FILES, count)


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
    score: str = ""  # the hash of the program that it runs, or is about to
    node: str = ""  # where it really runs, if not here
    state: State = State.NEW
    status: int | None = None  # exit status once DEAD; 128 + n for a signal
    message: str = ""  # why it ended, if not by exit
    noteid: int = 0  # its note group: the pid of the process that began it
    private: bool = False  # others see its status alone
    stopped: bool = False  # not scheduled until it is started again
    weight: int = USUAL_WEIGHT  # its share of the processor relative to others', 1 to 1000
    quota: Quota = field(default_factory=Quota)
    kill: Callable[[str], None] | None = None  # what ends it from outside; the argument says by whom or why
    note: Callable[[str], None] | None = None  # delivers a note such as "interrupt"
    pause: Callable[[bool], None] | None = None  # True stops it, False lets it go on
    weigh: Callable[[int], None] | None = None  # makes a new weight hold
    tell: Callable[[str], None] | None = None  # sends a line of ctl to the node where it really runs
    detail: Callable[[], dict[str, int | str]] | None = None  # more lines of its status: memory, CPU time
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    finished: int = 0  # ns since 1970, once DEAD
    launch: Launch = field(default_factory=Launch)  # what it is to be, while NEW
    borrowed: Namespace | None = None  # its maker's namespace, while it is used as it is: see `ProcessTable.clone`
    wants: Wants | None = None  # of a program: what it has no grant for
    reach: Reach | None = None  # asks for that, here or where its files are


class Share(Enum):
    """What rfork(2) does with one of a process's groups."""

    SHARE = "share"
    COPY = "copy"
    CLEAN = "clean"


@dataclass(frozen=True)
class Fork:
    """What a child gets. The defaults are fork's: everything copied. Inferno's NODEVS is `devices=False`.

    `notes` false begins a note group (Plan 9's RFNOTEG).
    """

    namespace: Share = Share.COPY
    environment: Share = Share.COPY
    descriptors: Share = Share.COPY
    mount: bool = True
    devices: bool = True
    notes: bool = True


_BORROWING = Fork(namespace=Share.SHARE, descriptors=Share.CLEAN)


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

    def quota_of(self, caller: Caller) -> Quota | None:
        """What `caller` uses of servers is charged there; None for one that is no process."""
        process = self._processes.get(caller.pid)
        return None if process is None else process.quota

    def group(self, noteid: int) -> list[Process]:
        """The live processes of a note group."""
        return [process for process in self if process.noteid == noteid]

    def descendants(self, of: Process) -> list[Process]:
        """Live processes that `of` made, or that these made. Not `of` itself."""
        return [process for process in self if any(ancestor is of for ancestor in ancestors(process))]

    def add(
        self,
        user: str,
        namespace: Namespace,
        cwd: Chan,
        parent: Process | None = None,
        descriptors: Descriptors | None = None,
        environment: Environment | None = None,
        quota: Quota | None = None,
    ) -> Process:
        """A process of these parts, which it takes over; they are released when it ends.

        `quota` is its own, one below the parent's if None. Raises AGAIN at the node's limit, DQUOT at one above.
        """
        if quota is None:
            quota = Quota(parent.quota if parent is not None else None)
        self._check_room(quota)
        quota.take(Resource.PROCESSES)
        self._last += 1
        quota.name = quota.name or f"process {self._last}"
        process = Process(
            self._last,
            parent,
            user,
            namespace,
            cwd,
            Descriptors(quota=quota) if descriptors is None else descriptors,
            Environment() if environment is None else environment,
            self._now(),
            noteid=self._last,
            quota=quota,
        )
        self._processes[process.pid] = process
        return process

    def fork(self, parent: Process, how: Fork | None = None) -> Process:
        """rfork(2): a new process, in state NEW, with its groups shared with, copied from, or without the parent's.

        A clean namespace is the root alone (the parent's root directory, with nothing mounted). As in Plan 9, giving
        up mounting or devices in a namespace that is shared gives it up for all who share it.

        Its quota is one below the parent's.

        Raises AGAIN, DQUOT, and REVOKED if the parent lost its root; nothing is left behind then.
        """
        how = how or Fork()
        self._check_room(parent.quota)
        namespace, mover = self._namespace_for(parent, how)
        try:
            return self._fork_into(namespace, mover, parent, how)
        except BaseException:
            namespace.release()
            raise

    def clone(self, parent: Process) -> Process:
        """A child as /proc/clone makes it: no open files, and the parent's namespace until it would change that.

        Most are confined when they start, to a namespace made for them, so that a copy would be made for nothing. What
        is written to its ns makes it one (`own_namespace`). Raises as `fork`.
        """
        child = self.fork(parent, _BORROWING)
        child.borrowed = child.namespace
        return child

    def own_namespace(self, process: Process) -> None:
        """Copy the namespace of a process that still borrows its maker's, so that it can be changed. Raises DQUOT,
        REVOKED with nothing changed.
        """
        borrowed = process.borrowed
        if borrowed is not process.namespace:
            return
        domain = Domain(borrowed.domain.authority, borrowed.domain)
        mover = ChanMover(domain)
        try:
            namespace = borrowed.copy(domain, mover=mover)
        except BaseException:
            domain.release()
            raise
        try:
            cwd = mover.move(process.cwd) if mover.can(process.cwd) else namespace.root.share()
        except BaseException:
            namespace.release()
            raise
        process.cwd.close()
        borrowed.release()
        process.namespace, process.cwd, process.borrowed = namespace, cwd, None

    def _check_room(self, quota: Quota) -> None:
        if len(self._processes) >= self._limit:
            raise FileError(E.AGAIN, "processes", f"{self._limit} are running")
        quota.check(Resource.PROCESSES)

    def _fork_into(self, namespace: Namespace, mover: ChanMover, parent: Process, how: Fork) -> Process:
        """The child with its namespace, which is the caller's again if this raises."""
        if how.namespace is Share.CLEAN or not mover.can(parent.cwd):
            cwd = namespace.root.share()
        else:
            cwd = mover.move(parent.cwd)
        quota = Quota(parent.quota, f"process {self._last + 1}")
        if how.descriptors is Share.SHARE:
            descriptors = parent.descriptors.hold()
        elif how.descriptors is Share.COPY:
            descriptors = parent.descriptors.copy(mover, quota)
        else:
            descriptors = Descriptors(parent.descriptors.limit, quota)
        if how.environment is Share.SHARE:
            environment = parent.environment
        else:
            environment = parent.environment.copy() if how.environment is Share.COPY else Environment()
        child = self.add(parent.user, namespace, cwd, parent, descriptors, environment, quota)
        child.weight = parent.weight
        if how.notes:
            child.noteid = parent.noteid
        if not how.mount:
            namespace.no_mount = True
        if not how.devices:
            namespace.devices.clear()
        return child

    def _namespace_for(self, parent: Process, how: Fork) -> tuple[Namespace, ChanMover]:
        """The child's namespace, and what brings the rest of the parent's to it, under the same capabilities."""
        if how.namespace is Share.SHARE:
            return parent.namespace.hold(), ChanMover(parent.namespace.domain)
        domain = Domain(parent.namespace.domain.authority, parent.namespace.domain)
        mover = ChanMover(domain)
        try:
            if how.namespace is Share.COPY:
                return parent.namespace.copy(domain, how.devices, mover=mover), mover
            namespace = Namespace(domain, mover.move(parent.namespace.root))
            if how.devices:
                namespace.devices = mover.devices(parent.namespace.devices)
            namespace.no_mount = parent.namespace.no_mount
            return namespace, mover
        except BaseException:
            domain.release()
            raise

    def change_namespace(self, process: Process, share: Share) -> None:
        """rfork(2)'s groups for a process that is there: share, copy or clean its parent's namespace. Raises SRCH."""
        parent = process.parent
        if parent is None or parent.state is State.DEAD:
            raise FileError(E.SRCH, f"parent of {process.pid}")
        namespace, mover = self._namespace_for(parent, Fork(namespace=share))
        try:
            stays = share is not Share.CLEAN and mover.can(parent.cwd)
            cwd = mover.move(parent.cwd) if stays else namespace.root.share()
        except BaseException:
            namespace.release()
            raise
        process.cwd.close()
        process.namespace.release()
        process.namespace, process.cwd, process.borrowed = namespace, cwd, None

    def end(self, process: Process, status: int, message: str = "") -> None:
        """The process is over: everything it had is given back and whoever waits is told. Later calls do nothing."""
        if process.state is State.DEAD:
            return
        process.state = State.DEAD
        process.status = status
        process.message = message
        process.finished = self._now()
        process.kill = process.note = process.borrowed = None
        process.pause = process.weigh = process.tell = process.reach = None
        if process.wants is not None:
            process.wants.close()
        if self._processes.pop(process.pid, None) is not None:
            process.quota.give(Resource.PROCESSES)
        process.descriptors.release()
        process.cwd.close()
        # Whoever keeps a process that is over (a child does, to know its maker) keeps nothing that was mounted for it.
        process.cwd.path = process.cwd.path.alone()
        process.namespace.release()
        process.ended.set()


def ancestors(process: Process) -> Iterator[Process]:
    """Who made it, who made that one, and so on, the nearest first; they may have ended."""
    above = process.parent
    while above is not None:
        yield above
        above = above.parent
