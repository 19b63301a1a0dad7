"""Locks on ranges of files: the table against a naive one, waiting, what goes with whom, and 9P2000.L's messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files import locks
from cognu.files.locks import LOCK_WAIT, LockTable
from cognu.files.mount_linux import LOCK_RETRY
from cognu.files.server import LOCK_END, Fid, Lock, Owner
from cognu.files.writebehind import WriteBehind
from cognu.ninep import messages as m
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.types import (
    LOCK_BLOCKED,
    LOCK_ERROR,
    LOCK_FLAGS_BLOCK,
    LOCK_FLAGS_RECLAIM,
    LOCK_GRACE,
    LOCK_RDLCK,
    LOCK_SUCCESS,
    LOCK_UNLCK,
    LOCK_WRLCK,
    ORDWR,
    OREAD,
    OWRITE,
    Qid,
)
from joined import Raw, bring, idle, local_process
from played import Played, played
from serving import Client

L = Dialect.L
A, B, C = (Owner(session, "host", 1) for session in (1, 2, 3))


class HandClock:
    """Goes on when the test says so."""

    def __init__(self) -> None:
        self.time = 0
        self.sleeping: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self.time

    def monotonic(self) -> int:
        return self.time

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleeping.append((self.time + int(seconds * 1e9), future))
        await future

    async def pass_(self, seconds: float) -> None:
        self.time += int(seconds * 1e9)
        for until, future in self.sleeping:
            if until <= self.time and not future.done():
                future.set_result(None)
        await idle()


def table() -> LockTable:
    return LockTable(HandClock())


def fid_on(file: int = 1) -> Fid:
    return Fid(Qid(0, 0, file))


def exclusive(owner: Owner, start: int = 0, end: int = LOCK_END) -> Lock:
    return Lock(start, end, True, owner)


def shared(owner: Owner, start: int = 0, end: int = LOCK_END) -> Lock:
    return Lock(start, end, False, owner)


def takes(locks: LockTable, fid: Fid, lock: Lock) -> bool:
    taken = locks.take(fid, ORDWR, lock, False)
    assert isinstance(taken, bool)
    return taken


def waits(locks: LockTable, fid: Fid, lock: Lock) -> asyncio.Task[bool]:
    waiting = locks.take(fid, ORDWR, lock, True)
    assert isinstance(waiting, Awaitable)
    return asyncio.ensure_future(waiting)


# -- the table --------------------------------------------------------------------------------------------------------

SIZE = 12
RANGES = st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).map(lambda pair: (pair[0], min(SIZE, sum(pair))))
OWNERS = st.sampled_from([A, B, Owner(1, "host", 2), Owner(1, "other", 1)])
STEPS = st.lists(st.tuples(st.sampled_from(["share", "take", "unlock", "drop"]), OWNERS, RANGES, st.integers(0, 1)))


@given(STEPS)
@settings(deadline=None)
def test_the_table_says_what_a_naive_one_says(steps: list[tuple[str, Owner, tuple[int, int], int]]) -> None:
    """By byte: who has it, exclusively or not, by which of two fids."""
    there = table()
    naive: list[dict[Owner, tuple[bool, Fid]]] = [{} for _ in range(SIZE)]
    fids = {(owner, which): fid_on() for owner in (A, B, Owner(1, "host", 2), Owner(1, "other", 1)) for which in (0, 1)}
    for what, owner, (start, end), which in steps:
        fid = fids[owner, which]
        lock = Lock(start, end, what == "take", owner)
        if what == "drop":
            there.drop(fid)
            for byte in naive:
                for holder in [holder for holder, (_, by) in byte.items() if by is fid]:
                    del byte[holder]
        elif what == "unlock":
            there.release(fid, lock)
            for byte in naive[start:end]:
                byte.pop(owner, None)
        else:
            others = [
                exclusive for byte in naive[start:end] for holder, (exclusive, _) in byte.items() if holder != owner
            ]
            free = not any(exclusive or lock.exclusive for exclusive in others)
            assert takes(there, fid, lock) == free
            if free:
                for byte in naive[start:end]:
                    byte[owner] = (lock.exclusive, fid)
        stranger = Owner(9, "", 9)
        for at, byte in enumerate(naive):
            found = there.find(fid, Lock(at, at + 1, True, stranger))
            assert (found is not None) == bool(byte)
            if found is not None:
                assert found.begin <= at < found.end
                assert byte[found.owner][0] == found.exclusive
    for fid in fids.values():
        there.drop(fid)
    assert there.idle


def test_ranges_that_touch_become_one_so_that_a_file_locked_byte_by_byte_costs_nothing() -> None:
    there, fid = table(), fid_on()
    for at in range(100):
        assert takes(there, fid, exclusive(A, at, at + 1))
    assert there.find(fid, shared(B)) == exclusive(A, 0, 100)
    assert there._count[A.session] == 1
    there.drop(fid)
    assert there.idle


def test_files_and_owners_of_other_sessions_are_apart() -> None:
    there = table()
    assert takes(there, fid_on(1), exclusive(A))
    assert takes(there, fid_on(2), exclusive(B))
    assert not takes(there, fid_on(1), exclusive(A._replace(session=7)))


MODES = [(OREAD, False, True), (OREAD, True, False), (OWRITE, True, True), (OWRITE, False, False), (ORDWR, True, True)]


@pytest.mark.parametrize(("mode", "exclusively", "may"), [*MODES, (None, False, False)])
def test_a_file_is_locked_as_it_was_opened(mode: int | None, exclusively: bool, may: bool) -> None:
    lock = Lock(0, 1, exclusively, A)
    if may:
        assert table().take(fid_on(), mode, lock, False) is True
        return
    with pytest.raises(FileError) as caught:
        table().take(fid_on(), mode, lock, False)
    assert caught.value.error is E.BADF


def test_what_one_session_holds_is_bounded_and_a_refusal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "MOST_LOCKS", 3)
    there, fid = table(), fid_on()
    for at in (0, 2, 4):
        assert takes(there, fid, exclusive(A, at, at + 1))
    for lock in (exclusive(A, 6, 7), exclusive(A._replace(process=2), 6, 7)):
        with pytest.raises(FileError) as caught:
            takes(there, fid, lock)
        assert caught.value.error is E.NOLCK
    assert takes(there, fid_on(2), exclusive(B))  # another's are its own
    assert takes(there, fid, exclusive(A, 0, 9))  # fewer than before
    for at in (1, 3):
        there.release(fid, exclusive(A, at, at + 1))
    with pytest.raises(FileError) as caught:
        there.release(fid, exclusive(A, 5, 6))  # which would make two of one
    assert caught.value.error is E.NOLCK
    assert [there.find(fid, shared(B, at, at + 1)) is not None for at in range(10)] == [
        True, False, True, False, True, True, True, True, True, False,
    ]  # fmt: skip


# -- waiting ----------------------------------------------------------------------------------------------------------


async def test_who_waits_has_it_when_the_last_that_hinders_is_gone() -> None:
    there, mine, theirs = table(), fid_on(), fid_on()
    assert takes(there, mine, shared(A, 0, 5))
    assert takes(there, mine, shared(A._replace(process=2), 5, 9))
    waiting = waits(there, theirs, exclusive(B))
    await idle()
    there.release(mine, shared(A, 0, 5))
    await idle()
    assert not waiting.done()
    there.drop(mine)
    assert await waiting
    assert there.find(mine, shared(A)) == exclusive(B)
    there.drop(theirs)
    assert there.idle


async def test_waiting_ends_by_itself_with_no() -> None:
    clock = HandClock()
    there, mine, theirs = LockTable(clock), fid_on(), fid_on()
    assert takes(there, mine, exclusive(A))
    waiting = waits(there, theirs, exclusive(B))
    await idle()
    await clock.pass_(LOCK_WAIT - 1)
    assert not waiting.done()
    await clock.pass_(2)
    assert await waiting is False
    there.drop(mine)
    assert there.idle


async def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    there, mine, theirs = table(), fid_on(), fid_on()
    assert takes(there, mine, exclusive(A))
    waiting = waits(there, theirs, exclusive(B))
    await idle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    there.drop(mine)
    assert there.idle


async def test_who_would_wait_for_itself_is_refused_at_once_and_the_others_go_on() -> None:
    there = table()
    fids = {owner: fid_on() for owner in (A, B, C)}
    for at, owner in enumerate((A, B, C)):
        assert takes(there, fids[owner], exclusive(owner, at, at + 1))
    first = waits(there, fids[A], exclusive(A, 1, 2))
    second = waits(there, fids[B], exclusive(B, 2, 3))
    await idle()
    with pytest.raises(FileError) as caught:
        await waits(there, fids[C], exclusive(C, 0, 1))
    assert caught.value.error is E.DEADLK
    there.drop(fids[C])
    assert await second
    there.drop(fids[B])
    assert await first


async def test_a_circle_that_closes_when_another_takes_what_was_waited_for_is_found_too() -> None:
    """A waits for what C has; B waits for what A has; then B, not A, gets what C had."""
    there = table()
    fids = {owner: fid_on() for owner in (A, B, C)}
    assert takes(there, fids[C], exclusive(C, 0, 1))
    assert takes(there, fids[A], exclusive(A, 1, 2))
    waiting = waits(there, fids[A], exclusive(A, 0, 1))
    blocked = waits(there, fids[B], exclusive(B, 1, 2))
    await idle()
    there.drop(fids[C])
    assert takes(there, fids[B], exclusive(B, 0, 1))  # before A is awake
    with pytest.raises(FileError) as caught:
        await waiting
    assert caught.value.error is E.DEADLK
    there.drop(fids[A])
    assert await blocked


async def test_only_so_many_calls_of_a_session_wait() -> None:
    there, mine, theirs = table(), fid_on(), fid_on()
    assert takes(there, mine, exclusive(A))
    waiting = [waits(there, theirs, shared(B._replace(process=at))) for at in range(locks.MOST_WAITING)]
    await idle()
    assert there.take(theirs, ORDWR, shared(B._replace(process=1000)), True) is False
    there.drop(mine)
    assert all(await asyncio.gather(*waiting))


# -- 9P2000.L ---------------------------------------------------------------------------------------------------------


class Two(NamedTuple):
    """Two clients of one memory server, each with the file `f` open for both as fid 1, and as fid 2 for reading."""

    server: RamServer
    first: Raw
    second: Raw


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    server = RamServer(HandClock())
    process = local_process(server)
    await Client(server).put("f", b"0123456789")
    clients = [await Raw.over(process, L) for _ in range(2)]
    for client in clients:
        await client.open_path("f", 1, ORDWR)
        await client.open_path("f", 2, OREAD)
    yield Two(server, *clients)
    for client in clients:
        await client.close()
    assert server._locks.idle


def tlock(kind: int, start: int = 0, length: int = 0, flags: int = 0, process: int = 7, fid: int = 1) -> m.Tlock:
    return m.Tlock(fid, kind, flags, start, length, process, "host")


async def ask(client: Raw, message: Message) -> Message:
    client.send((message, 100))
    ((tag, answer),) = await client.answers(1)
    assert tag == 100
    return answer


async def test_a_range_that_another_client_has_is_blocked_until_it_unlocks(two: Two) -> None:
    """They call themselves alike, as two machines of one name might."""
    assert await ask(two.first, tlock(LOCK_WRLCK, 2, 3)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.second, tlock(LOCK_RDLCK, 0, 3)) == m.Rlock(LOCK_BLOCKED)
    assert await ask(two.second, tlock(LOCK_WRLCK, 5)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.first, tlock(LOCK_WRLCK, 0, 6)) == m.Rlock(LOCK_BLOCKED)
    assert await ask(two.first, tlock(LOCK_UNLCK, 2, 1)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.second, tlock(LOCK_RDLCK, 0, 3)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.second, tlock(LOCK_RDLCK, 0, 4)) == m.Rlock(LOCK_BLOCKED)


async def test_who_wants_to_wait_is_answered_when_the_range_is_free(two: Two) -> None:
    assert await ask(two.first, tlock(LOCK_WRLCK)) == m.Rlock(LOCK_SUCCESS)
    two.second.send((tlock(LOCK_WRLCK, flags=LOCK_FLAGS_BLOCK), 5), (m.Twrite(1, 0, b"x"), 6))
    assert await two.second.answers(1) == [(6, m.Rwrite(1))]  # it holds up nothing else on the fid
    assert await ask(two.first, tlock(LOCK_UNLCK)) == m.Rlock(LOCK_SUCCESS)
    assert await two.second.answers(1) == [(5, m.Rlock(LOCK_SUCCESS))]


async def test_after_some_time_it_is_told_that_the_range_is_blocked_and_asks_again(two: Two) -> None:
    clock = two.server._locks._clock
    assert isinstance(clock, HandClock)
    assert await ask(two.first, tlock(LOCK_WRLCK)) == m.Rlock(LOCK_SUCCESS)
    two.second.send((tlock(LOCK_RDLCK, flags=LOCK_FLAGS_BLOCK), 5))
    await idle()
    await clock.pass_(LOCK_WAIT)
    assert await two.second.answers(1) == [(5, m.Rlock(LOCK_BLOCKED))]
    two.second.send((tlock(LOCK_RDLCK, flags=LOCK_FLAGS_BLOCK), 5))
    assert await ask(two.first, m.Tclunk(1)) == m.Rclunk()
    assert await two.second.answers(1) == [(5, m.Rlock(LOCK_SUCCESS))]


async def test_a_flushed_wait_ends_and_has_nothing(two: Two) -> None:
    assert await ask(two.first, tlock(LOCK_WRLCK)) == m.Rlock(LOCK_SUCCESS)
    two.second.send((tlock(LOCK_WRLCK, flags=LOCK_FLAGS_BLOCK), 5), (m.Tflush(5), 6))
    assert await two.second.answers(1) == [(6, m.Rflush())]
    assert await ask(two.first, tlock(LOCK_UNLCK)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.first, m.Tgetlock(1, LOCK_WRLCK, 0, 0, 8, "host")) == m.Rgetlock(LOCK_UNLCK, 0, 0, 8, "host")


async def test_a_clunk_ends_a_wait_and_unlocks_what_was_locked_by_that_fid_alone(two: Two) -> None:
    assert await ask(two.first, tlock(LOCK_RDLCK, 0, 1, fid=2)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.first, tlock(LOCK_RDLCK, 1, 1)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.first, m.Tclunk(2)) == m.Rclunk()
    assert await ask(two.second, tlock(LOCK_WRLCK, 0, 1)) == m.Rlock(LOCK_SUCCESS)
    two.second.send((tlock(LOCK_WRLCK, 1, 1, LOCK_FLAGS_BLOCK), 5), (m.Tclunk(1), 6))
    assert await two.second.answers(2) == [(5, m.Rlerror(E.INTR.errno)), (6, m.Rclunk())]
    assert await ask(two.first, tlock(LOCK_WRLCK, 0, 1)) == m.Rlock(LOCK_SUCCESS)


async def test_the_end_of_a_connection_unlocks_all_that_it_had(two: Two) -> None:
    assert await ask(two.first, tlock(LOCK_WRLCK)) == m.Rlock(LOCK_SUCCESS)
    two.second.send((tlock(LOCK_WRLCK, flags=LOCK_FLAGS_BLOCK), 5))
    await idle()
    await two.first.close()
    assert await two.second.answers(1) == [(5, m.Rlock(LOCK_SUCCESS))]


async def test_two_clients_that_wait_for_each_other_are_not_left_so(two: Two) -> None:
    assert await ask(two.first, tlock(LOCK_WRLCK, 0, 1)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.second, tlock(LOCK_WRLCK, 1, 1)) == m.Rlock(LOCK_SUCCESS)
    two.first.send((tlock(LOCK_WRLCK, 1, 1, LOCK_FLAGS_BLOCK), 5))
    await idle()
    assert await ask(two.second, tlock(LOCK_WRLCK, 0, 1, LOCK_FLAGS_BLOCK)) == m.Rlerror(E.DEADLK.errno)
    assert await ask(two.second, tlock(LOCK_UNLCK, 1, 1)) == m.Rlock(LOCK_SUCCESS)
    assert await two.first.answers(1) == [(5, m.Rlock(LOCK_SUCCESS))]


async def test_processes_of_one_client_are_apart_and_one_process_is_never_in_its_own_way(two: Two) -> None:
    assert await ask(two.first, tlock(LOCK_WRLCK, 0, 4)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.first, tlock(LOCK_RDLCK, 2, 4, fid=2)) == m.Rlock(LOCK_SUCCESS)  # by another fid
    assert await ask(two.first, tlock(LOCK_RDLCK, 2, 1, process=8)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.first, tlock(LOCK_RDLCK, 1, 1, process=8)) == m.Rlock(LOCK_BLOCKED)


async def test_getlock_tells_the_first_lock_in_the_way(two: Two) -> None:
    assert await ask(two.first, tlock(LOCK_RDLCK, 4, 0, process=3)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.first, tlock(LOCK_WRLCK, 1, 2)) == m.Rlock(LOCK_SUCCESS)
    tell = m.Tgetlock(2, LOCK_WRLCK, 0, 0, 9, "host")
    assert await ask(two.second, tell) == m.Rgetlock(LOCK_WRLCK, 1, 2, 7, "host")
    assert await ask(two.first, tlock(LOCK_UNLCK)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.second, tell) == m.Rgetlock(LOCK_RDLCK, 4, 0, 3, "host")
    told = await ask(two.second, m.Tgetlock(2, LOCK_RDLCK, 0, 0, 9, "host"))
    assert told == m.Rgetlock(LOCK_UNLCK, 0, 0, 9, "host")


async def test_linux_does_not_say_which_kind_it_asks_about_and_is_told_of_any(two: Two) -> None:
    tell = m.Tgetlock(2, LOCK_UNLCK, 0, 8, 9, "host")
    assert await ask(two.second, tell) == m.Rgetlock(LOCK_UNLCK, 0, 8, 9, "host")
    assert await ask(two.first, tlock(LOCK_RDLCK, 4, 2, process=3)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.second, tell) == m.Rgetlock(LOCK_RDLCK, 4, 2, 3, "host")


WRONG = [
    (tlock(3), E.INVAL),
    (tlock(LOCK_RDLCK, flags=LOCK_FLAGS_RECLAIM), E.NOTSUP),
    (tlock(LOCK_RDLCK, flags=8), E.NOTSUP),
    (tlock(LOCK_RDLCK, (1 << 64) - 1, 2), E.OVERFLOW),
    (tlock(LOCK_WRLCK, fid=2), E.BADF),
    (tlock(LOCK_WRLCK, fid=0), E.BADUSE),
    (m.Tgetlock(1, 9, 0, 0, 1, ""), E.INVAL),
]


@pytest.mark.parametrize(("message", "error"), WRONG)
async def test_what_is_no_lock_is_refused(two: Two, message: Message, error: E) -> None:
    assert await ask(two.first, message) == m.Rlerror(error.errno)


async def test_the_last_byte_of_all_can_be_locked(two: Two) -> None:
    assert await ask(two.first, tlock(LOCK_WRLCK, (1 << 64) - 1, 1)) == m.Rlock(LOCK_SUCCESS)
    assert await ask(two.second, tlock(LOCK_WRLCK)) == m.Rlock(LOCK_BLOCKED)


# -- the mount driver, whose server the test plays -------------------------------------------------------------------

MINE = Lock(2, 5, True, Owner(3, "host", 7))


def told(at: Played, kind: int, flags: int = 0) -> m.Tlock:
    return m.Tlock(at.file.number, kind, flags, 2, 3, 7, "3.host")


async def test_locks_are_asked_of_the_far_server_under_an_owner_of_their_own() -> None:
    async with played() as at:
        for status, answer in ((LOCK_SUCCESS, True), (LOCK_BLOCKED, False), (LOCK_GRACE, False)):
            asking = asyncio.ensure_future(at.mount.lock_range(at.file, MINE, False))
            await at.answer(await at.asks(told(at, LOCK_WRLCK)), m.Rlock(status))
            assert await asking is answer
        unlocking = asyncio.ensure_future(at.mount.unlock_range(at.file, MINE))
        await at.answer(await at.asks(told(at, LOCK_UNLCK)), m.Rlock(LOCK_SUCCESS))
        await unlocking
        for question in (at.mount.lock_range(at.file, MINE, False), at.mount.unlock_range(at.file, MINE)):
            asked = asyncio.ensure_future(question)
            tag, _ = await at.asked()
            await at.answer(tag, m.Rlock(LOCK_ERROR))
            assert await bring(asked) is E.NOLCK


async def test_what_is_in_the_way_at_the_far_server_is_told() -> None:
    async with played() as at:
        for answer, found in (
            (m.Rgetlock(LOCK_UNLCK, 2, 3, 7, "3.host"), None),
            (m.Rgetlock(LOCK_WRLCK, 4, 0, 1, "x"), Lock(4, LOCK_END, True, Owner(0, "x", 1))),
            (m.Rgetlock(LOCK_RDLCK, 4, 2, 1, "x"), Lock(4, 6, False, Owner(0, "x", 1))),
        ):
            asking = asyncio.ensure_future(at.mount.find_lock(at.file, MINE))
            await at.answer(await at.asks(m.Tgetlock(at.file.number, LOCK_WRLCK, 2, 3, 7, "3.host")), answer)
            assert await asking == found


async def test_a_server_that_does_not_wait_is_asked_again_for_some_time() -> None:
    async with played() as at:
        clock = HandClock()
        at.mount._linux._clock = clock
        asking = asyncio.ensure_future(at.mount.lock_range(at.file, MINE, True))
        for _ in range(3):
            await at.answer(await at.asks(told(at, LOCK_WRLCK, LOCK_FLAGS_BLOCK)), m.Rlock(LOCK_BLOCKED))
            await idle()
            await clock.pass_(LOCK_RETRY)
        tag = await at.asks(told(at, LOCK_WRLCK, LOCK_FLAGS_BLOCK))
        await clock.pass_(LOCK_WAIT)
        await at.answer(tag, m.Rlock(LOCK_BLOCKED))
        assert await asking is False


async def test_what_was_written_under_a_lock_is_at_the_server_before_it_is_unlocked() -> None:
    async with played() as at:
        file = at.file
        file.qid, file.mode = Qid(0, 1, 1), ORDWR
        file.behind = WriteBehind(at.mount._behind, file.number, file.qid.path)
        assert await at.mount.accept(file, 2, b"new") == 3  # not answered, and on its way
        unlocking = asyncio.ensure_future(at.mount.unlock_range(file, MINE))
        await idle()
        await at.answer(await at.asks(m.Twrite(file.number, 2, b"new")), m.Rwrite(3))
        await at.answer(await at.asks(told(at, LOCK_UNLCK)), m.Rlock(LOCK_SUCCESS))
        await unlocking
