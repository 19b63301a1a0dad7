"""What processes may use, as a tree of quotas with exact accounting; and each one's share of the processor.

Every process has a `Quota` whose parent is that of the process that made it. What is taken of a quota is taken of all
above it too, so a limit binds a process together with everything it started: limits are inherited, and divided by use.
A quota without a limit of its own is bounded by those above it alone.

What outlives a process (a file in memory that it made) stays charged to it and those above until it is given back;
processor time is never given back. The tree is plain data: who takes and gives is the scheduler (memory, processor
time), the tables of descriptors, the table of processes, the pipe device and the file systems in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

from cognu.errors import E, FileError
from cognu.files.server import Caller

USUAL_WEIGHT = 100
MAX_WEIGHT = 1000


class Resource(StrEnum):
    """What is counted; the value is its name in `limit`, status and mem-limits."""

    MEMORY = "memory"  # bytes of guests' linear memories
    CPU = "cpu"  # ns of processor time of guests, those that ended included
    FILES = "files"  # open descriptors
    PROCESSES = "processes"  # a process counts in its own quota
    PIPE = "pipe"  # bytes written to pipes and not yet read
    DISK = "disk"  # bytes kept in file systems in memory and put into the store, and copies that open files keep


_CPU, _MEMORY = Resource.CPU, Resource.MEMORY
_NOTHING = dict.fromkeys(Resource, 0)

PEER_LIMITS: Mapping[Resource, int] = {
    Resource.MEMORY: 1 << 30,
    Resource.FILES: 4096,
    Resource.PROCESSES: 64,
    Resource.PIPE: 4 << 20,
    Resource.DISK: 256 << 20,
}
"""What all that one peer starts here (the `run` grant) may use together, unless its owner says otherwise."""
PEER_SHARE = 50
"""Its share of the processor: all of a peer's programs together weigh half as much as one program of the user's."""


class Quota:
    """Used and allowed of each resource, by one process and all below it. `name` says whose it is, for refusals."""

    __slots__ = ("_limits", "_load", "_share", "_used", "name", "parent")

    def __init__(
        self, parent: Quota | None = None, name: str = "", limits: Mapping[Resource, int] | None = None
    ) -> None:
        self.parent = parent
        self.name = name
        self._limits: dict[Resource, int] = dict(limits or {})
        self._used = _NOTHING.copy()
        self._share: int | None = None
        self._load = 0  # weights of the programs, and shares of the busy quotas, that this one's share is divided among

    def _up(self) -> Iterator[Quota]:
        """This quota and those above it; which they are never changes."""
        at: Quota | None = self
        while at is not None:
            yield at
            at = at.parent

    # -- used and allowed -----------------------------------------------------------------------------------------

    def used(self, resource: Resource) -> int:
        return self._used[resource]

    def limit(self, resource: Resource) -> int | None:
        """The limit of this quota alone; None if it has none."""
        return self._limits.get(resource)

    def bound(self, resource: Resource) -> int | None:
        """The least limit of this quota and those above it; None if there is none."""
        return min((at._limits[resource] for at in self._up() if resource in at._limits), default=None)

    def room(self, resource: Resource) -> int | None:
        """How much more may be taken now; None without any limit. Not below 0."""
        rooms = (at._limits[resource] - at._used[resource] for at in self._up() if resource in at._limits)
        least = min(rooms, default=None)
        return None if least is None else max(0, least)

    def set_limit(self, resource: Resource, limit: int) -> None:
        """May be below what is used: then nothing more is had until enough was given back."""
        self._limits[resource] = limit

    def lower(self, resource: Resource, limit: int) -> None:
        """Raises PERM if that would raise the limit that holds."""
        bound = self.bound(resource)
        if bound is not None and limit > bound:
            raise FileError(E.PERM, f"limit {resource.value}", f"{bound} for {self.name}; it can only be lowered")
        self._limits[resource] = limit

    def check(self, resource: Resource, count: int = 1) -> None:
        """Raises DQUOT, naming the resource, whose limit it is and what of it is used."""
        over = self._over(resource, count)
        if over is not None:
            try:
                raise over
            finally:
                del over  # an error that its own frame holds keeps all that is in use further up

    def take(self, resource: Resource, count: int = 1) -> None:
        """Raises DQUOT with nothing taken. `count` is not negative."""
        self.check(resource, count)
        self.add(resource, count)

    def add(self, resource: Resource, count: int) -> None:
        """Account for what was used already, whatever the limits."""
        at: Quota | None = self
        while at is not None:
            at._used[resource] += count
            at = at.parent

    def give(self, resource: Resource, count: int = 1) -> None:
        """What was taken is used no more."""
        assert 0 <= count <= self._used[resource], (self.name, resource, count)
        self.add(resource, -count)

    def exceeded(self, resource: Resource) -> FileError | None:
        """The refusal for what is used already, if it is more than a limit here or above."""
        return self._over(resource, 0)

    def _over(self, resource: Resource, count: int) -> FileError | None:
        at: Quota | None = self
        while at is not None:
            if at._limits:
                limit = at._limits.get(resource)
                if limit is not None and at._used[resource] + count > limit:
                    used = at._used[resource]
                    detail = f"the limit of {at.name} is {limit}, in use are {used}"
                    if resource is Resource.CPU:
                        detail = f"the limit of {at.name} is {limit / 1e9:g} s, in use are {used / 1e9:.3f} s"
                    return FileError(E.DQUOT, resource.value, detail)
            at = at.parent
        return None

    # -- shares of the processor ------------------------------------------------------------------------------------

    @property
    def share(self) -> int | None:
        return self._share

    def set_share(self, share: int) -> None:
        """All programs below together weigh `share` (1 to 1000), each its part by its own weight.

        To be called once, while none runs. Without a share each program below weighs what it weighs by itself.
        """
        assert self._share is None, self.name
        assert not self._load, self.name
        if not 1 <= share <= MAX_WEIGHT:
            raise FileError(E.INVAL, f"share {share}", f"1-{MAX_WEIGHT}")
        self._share = share

    def _join(self, weight: int) -> None:
        """Something of that weight runs below from now on."""
        for at in self._up():
            if at._share is not None:
                idle = at._load == 0
                at._load += weight
                if not idle:
                    return
                weight = at._share

    def _leave(self, weight: int) -> None:
        for at in self._up():
            if at._share is not None:
                at._load -= weight
                if at._load:
                    return
                weight = at._share


QuotaOf = Callable[[Caller], Quota | None]
"""The quota that a caller's use of a server is charged to (`ProcessTable.quota_of`); None: nobody's."""


def nobodys(caller: Caller) -> None:
    """A `QuotaOf` of servers that charge nobody."""


class Copy:
    """Bytes that are kept for one open file, so that it reads as it did when it was opened: charged (`Resource.DISK`)
    to who opened it until `close`."""

    __slots__ = ("_closed", "_quota", "data")

    def __init__(self, quota: Quota | None, data: bytes = b"") -> None:
        """Raises DQUOT."""
        if quota is not None:
            quota.take(Resource.DISK, len(data))
        self._quota = quota
        self._closed = False
        self.data = data

    def check(self, size: int) -> None:
        """Raises DQUOT if it may not be as large as that."""
        if self._quota is not None and size > len(self.data):
            self._quota.check(Resource.DISK, size - len(self.data))

    def put(self, data: bytes) -> None:
        """Other bytes, which `check` has seen. What is closed keeps nothing."""
        if self._closed:
            return
        if self._quota is not None:
            self._quota.add(Resource.DISK, len(data) - len(self.data))
        self.data = data

    def close(self) -> None:
        """May be called twice."""
        self.put(b"")
        self._closed = True


def whose(quota: Quota | None) -> Quota | None:
    """The quota of the peer that one is below; None for what no peer does. What is no peer's has no share."""
    while quota is not None and quota.share is None:
        quota = quota.parent
    return quota


class Account:
    """A running program's standing with its process's quota: memory in bytes, processor time in ns, weight."""

    __slots__ = ("_chain", "_ended", "_memory", "_own", "_quota", "_shares")

    def __init__(self, quota: Quota, memory: int, weight: int = USUAL_WEIGHT) -> None:
        """A program that begins with `memory` bytes. Raises DQUOT."""
        quota.take(Resource.MEMORY, memory)
        quota._join(weight)
        self._quota = quota
        # Kept at hand, for it is charged whenever a thread lets go of the program.
        self._chain = tuple(quota._up())
        self._shares = tuple(at for at in self._chain if at._share is not None)
        self._memory = memory
        self._own = weight
        self._ended = False

    @property
    def weight(self) -> int:
        """What it weighs among all programs of the node, in thousandths; at least 1. Not to be asked after `end`."""
        weight = self._own * 1000
        for at in self._shares:
            assert at._share is not None
            weight = weight * at._share // at._load
        return weight or 1

    def set_weight(self, weight: int) -> None:
        if not self._ended:
            self._quota._leave(self._own)
            self._quota._join(weight)
        self._own = weight

    @property
    def left(self) -> int | None:
        """ns of processor time that it may still use; None without a limit."""
        return self._quota.room(Resource.CPU)

    def charge(self, cpu: int, memory: int) -> FileError | None:
        """It used `cpu` ns more and has `memory` bytes now. Returns why it must end, if it must: CPULIMIT or DQUOT."""
        grown = memory - self._memory
        self._memory = memory
        limited = False
        for at in self._chain:
            at._used[_CPU] += cpu
            if grown:
                at._used[_MEMORY] += grown
            if at._limits:
                limited = True
        if not limited:
            return None
        over = self._quota.exceeded(Resource.CPU)
        if over is not None:
            return FileError(E.CPULIMIT, "", over.detail)
        # Whoever is charged first while too much is used gives its own back by ending: who grew, for that is found
        # here at once, or after a limit was lowered anybody.
        return self._quota.exceeded(Resource.MEMORY)

    def end(self) -> None:
        """Memory and share are given back. May be called twice."""
        if not self._ended:
            self._ended = True
            self._quota.give(Resource.MEMORY, self._memory)
            self._quota._leave(self._own)
