"""Advisory locks on ranges of a file, as fcntl(2) has them and 9P2000.L asks for them: one table per file server.

Rules. A range belongs to an `Owner`; what one owner has never hinders it, and a new lock replaces what it had there.
Each range is held through an open fid and goes with it. Whoever wants to wait waits here for `LOCK_WAIT` at most and is
then told that the range is still taken: it asks again, as Linux's client does. Who would have to wait for somebody that
waits for it is refused at once. All that one session has is bounded.

Locks bind those who ask for them, of the same server: nothing is locked at a host for its own programs. There a lock
would belong to an open file (F_OFD_SETLK), or to this whole process (F_SETLK), and 9P's belong to neither: a program
may lock by one fid and unlock by another, and must never wait for itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

from cognu.errors import E, FileError
from cognu.files.server import Fid, Lock, MaybeAsync, Owner
from cognu.ninep.types import OACCESS, OEXEC, ORDWR, OREAD, OWRITE
from cognu.world import Clock
from cognu.world.timing import within

LOCK_WAIT = 40.0
"""Seconds. Linux's client asks again after 30: so of two that wait for each other both are seen to, at some time."""
MOST_LOCKS = 8192
"""Ranges that one session may hold at a server."""
MOST_WAITING = 64
"""Calls of one session that may wait at a server; any further is told at once that the range is taken."""


class _Held:
    """A range that is locked, and the fid that it goes with."""

    __slots__ = ("fid", "lock")

    def __init__(self, lock: Lock, fid: Fid) -> None:
        self.lock = lock
        self.fid = fid


class _Waiter:
    """Somebody who waits for a range of the file numbered `file`."""

    __slots__ = ("file", "lock", "woken")

    def __init__(self, file: int, lock: Lock) -> None:
        self.file = file
        self.lock = lock
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class LockTable:
    """The locks of one server's files, which it knows by their `qid.path`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[int, list[_Held]] = {}
        self._count: Counter[int] = Counter()  # ranges by session
        self._waiting: list[_Waiter] = []

    @property
    def idle(self) -> bool:
        """Nobody holds or waits for anything."""
        return not (self._held or self._waiting or +self._count)

    def take(self, fid: Fid, mode: int | None, lock: Lock, wait: bool) -> MaybeAsync[bool]:
        """Lock a range through an open fid; False if another owner has some of it, for `LOCK_WAIT` if `wait`.

        Raises BADF unless `mode`, as the fid was opened, reads for a shared lock or writes for an exclusive one;
        NOLCK if the session has too many; DEADLK.
        """
        needed = (OWRITE, ORDWR) if lock.exclusive else (OREAD, ORDWR, OEXEC)
        if mode is None or mode & OACCESS not in needed:
            raise FileError(E.BADF, detail=f"open it for {'writing' if lock.exclusive else 'reading'} first")
        if self._take_now(fid, lock):
            return True
        session = lock.owner.session
        if not wait or sum(waiter.lock.owner.session == session for waiter in self._waiting) >= MOST_WAITING:
            return False
        return self._wait(fid, lock)

    def find(self, fid: Fid, lock: Lock) -> Lock | None:
        """The first range of another owner that keeps `lock` from being taken."""
        found = [held.lock for held in self._held.get(fid.qid.path, ()) if _conflict(held.lock, lock)]
        return min(found, key=lambda other: other.begin, default=None)

    def release(self, fid: Fid, lock: Lock) -> None:
        """Unlock what the owner has of the range, through whatever fid. Raises NOLCK if that would make too many."""
        file = fid.qid.path
        self._replace(file, list(self._without(file, lock)), lock.owner.session)

    def drop(self, fid: Fid) -> None:
        """The fid is gone, with all that is held through it."""
        file = fid.qid.path
        held = self._held.get(file)
        if held is None:
            return
        for session in {other.lock.owner.session for other in held if other.fid is fid}:
            self._replace(file, [other for other in self._held.get(file, ()) if not _of(other, fid, session)], session)

    def _take_now(self, fid: Fid, lock: Lock) -> bool:
        if self.find(fid, lock) is not None:
            return False
        file, start, end = fid.qid.path, lock.begin, lock.end
        kept: list[_Held] = []
        for held in self._without(file, lock):
            same = held.fid is fid and (held.lock.owner, held.lock.exclusive) == (lock.owner, lock.exclusive)
            if same and held.lock.begin <= end and start <= held.lock.end:  # they touch: one range in place of two
                start, end = min(start, held.lock.begin), max(end, held.lock.end)
            else:
                kept.append(held)
        kept.append(_Held(lock._replace(begin=start, end=end), fid))
        self._replace(file, kept, lock.owner.session)
        return True

    async def _wait(self, fid: Fid, lock: Lock) -> bool:
        waiter = _Waiter(fid.qid.path, lock)
        self._waiting.append(waiter)
        until = self._clock.monotonic() + int(LOCK_WAIT * 1e9)
        try:
            while not self._take_now(fid, lock):
                if self._waits_for_itself(lock.owner):
                    raise FileError(E.DEADLK)
                left = (until - self._clock.monotonic()) / 1e9
                if left <= 0:
                    return False
                try:
                    await within(self._clock, left, _wait_for(waiter.woken))
                except TimeoutError:
                    return self._take_now(fid, lock)
                waiter.woken = asyncio.get_running_loop().create_future()
            return True
        finally:
            self._waiting.remove(waiter)

    def _waits_for_itself(self, owner: Owner) -> bool:
        """Whether somebody that `owner` waits for, or that these wait for, and so on, is `owner`."""
        seen: set[Owner] = set()
        rest = [owner]
        while rest:
            for blocker in self._blockers(rest.pop()):
                if blocker == owner:
                    return True
                if blocker not in seen:
                    seen.add(blocker)
                    rest.append(blocker)
        return False

    def _blockers(self, owner: Owner) -> set[Owner]:
        waits = [waiter for waiter in self._waiting if waiter.lock.owner == owner]
        return {
            held.lock.owner
            for waiter in waits
            for held in self._held.get(waiter.file, ())
            if _conflict(held.lock, waiter.lock)
        }

    def _without(self, file: int, lock: Lock) -> Iterator[_Held]:
        """What is held of the file but for what the owner of `lock` has of its range."""
        for held in self._held.get(file, ()):
            there = held.lock
            if there.owner != lock.owner or there.end <= lock.begin or lock.end <= there.begin:
                yield held
                continue
            if there.begin < lock.begin:
                yield _Held(there._replace(end=lock.begin), held.fid)
            if lock.end < there.end:
                yield _Held(there._replace(begin=lock.end), held.fid)

    def _replace(self, file: int, held: list[_Held], session: int) -> None:
        """What is held of the file from now on, of which only what `session` has may differ. Raises NOLCK."""
        before = sum(other.lock.owner.session == session for other in self._held.get(file, ()))
        after = sum(other.lock.owner.session == session for other in held)
        if after > before and self._count[session] + after - before > MOST_LOCKS:
            raise FileError(E.NOLCK, detail=f"at most {MOST_LOCKS} ranges")
        self._count[session] += after - before
        if not self._count[session]:
            del self._count[session]
        if held:
            self._held[file] = held
        else:
            self._held.pop(file, None)
        for waiter in self._waiting:
            if waiter.file == file and not waiter.woken.done():
                waiter.woken.set_result(None)


def _of(held: _Held, fid: Fid, session: int) -> bool:
    return held.fid is fid and held.lock.owner.session == session


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future


def _conflict(held: Lock, wanted: Lock) -> bool:
    overlap = held.begin < wanted.end and wanted.begin < held.end
    return overlap and held.owner != wanted.owner and (held.exclusive or wanted.exclusive)
