"""Dispatch under revocation, and the steps that answer at once when they can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Domain, Path
from cognu.files.dispatch import dispatch
from cognu.files.steps import Steps, finish, ready, start
from cognu.kernel import ALL_RIGHTS, READ, WRITE, Cap


class Thing:
    """What an operation goes through, with the parent capability that ends it."""

    def __init__(self, rights: int = ALL_RIGHTS) -> None:
        self.authority = Authority()
        self.domain = Domain(self.authority)
        self.path = Path(None, "thing")
        _, self.root = self.authority.new_server()
        self.cap: Cap = self.authority.mint(0, self.root, rights, self.domain.pid)
        self.admitted, self.lacking = -1, 0

    def admit(self, rights: int) -> None:
        self.domain.check(self.cap, rights)

    def revoke(self) -> None:
        self.authority.revoke(0, self.root)


@pytest.fixture
def thing() -> Thing:
    return Thing()


async def settle() -> None:
    """Let every task run until it waits for something that is not there."""
    for _ in range(10):
        await asyncio.sleep(0)


def call(thing: Thing, method: Callable[[], Any], rights: int = READ) -> Steps[Any]:
    return dispatch(thing, rights, method)


def giving(value: object) -> Callable[[], Any]:
    """A method that returns `value`, which may be something to await."""
    return lambda: value


def begin(thing: Thing, method: Callable[[], Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(finish(call(thing, method)))


async def refused(task: Awaitable[object]) -> E:
    with pytest.raises(FileError) as caught:
        await task
    return caught.value.error


# -- steps ------------------------------------------------------------------------------------------------------------


def twice(first: Any, second: Any) -> Steps[Any]:
    return ((yield from ready(first)), (yield from ready(second)))


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def test_what_is_ready_is_answered_without_a_coroutine_or_a_task() -> None:
    before = len(asyncio.all_tasks())
    assert start(twice(1, 2)) == (1, 2)
    assert len(asyncio.all_tasks()) == before


async def test_only_what_waits_becomes_a_coroutine_which_carries_on() -> None:
    for first, second in ((later(1), 2), (1, later(2)), (later(1), later(2))):
        pending = start(twice(first, second))
        assert isinstance(pending, Coroutine)
        assert await pending == (1, 2)
    assert await finish(twice(1, 2)) == (1, 2)


async def test_a_failure_of_what_was_awaited_is_thrown_into_the_steps() -> None:
    async def fail() -> int:
        await asyncio.sleep(0)
        raise FileError(E.NOENT)

    def recovers() -> Steps[object]:
        try:
            yield fail()
        except FileError:
            return (yield from ready(later(7)))
        return "not reached"

    assert await finish(recovers()) == 7
    assert await refused(finish(twice(1, fail()))) is E.NOENT


async def test_a_failure_of_the_steps_themselves_comes_out_of_start() -> None:
    def fails() -> Steps[int]:
        raise FileError(E.NOENT)
        yield

    with pytest.raises(FileError):
        start(fails())


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_steps_that_end_before_their_time_clean_up(how: str) -> None:
    cleaned: list[str] = []

    def steps() -> Steps[None]:
        try:
            yield from ready(asyncio.get_running_loop().create_future())
        finally:
            cleaned.append(how)

    pending = start(steps())
    assert isinstance(pending, Coroutine)
    if how == "close":
        pending.send(None)
        pending.close()
    else:
        task = asyncio.get_running_loop().create_task(pending)
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert cleaned == [how]


# -- dispatch ---------------------------------------------------------------------------------------------------------


def test_an_operation_needs_the_rights_it_asks_for() -> None:
    thing = Thing(READ)
    assert start(call(thing, giving(5))) == 5
    called: list[int] = []
    with pytest.raises(FileError) as caught:
        start(dispatch(thing, READ | WRITE, called.append, 1))
    assert (caught.value.error, called) == (E.ACCES, [])


def test_nothing_is_called_under_a_revoked_capability(thing: Thing) -> None:
    thing.revoke()
    called: list[int] = []
    with pytest.raises(FileError) as caught:
        start(dispatch(thing, 0, called.append, 1))
    assert (caught.value.error, called) == (E.REVOKED, [])


@pytest.fixture
async def waiting() -> AsyncIterator[asyncio.Future[bytes]]:
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    yield future
    future.cancel()


async def test_revoking_ends_a_read_that_waits_and_brings_no_data(thing: Thing, waiting: asyncio.Future[bytes]) -> None:
    task = begin(thing, giving(waiting))
    await settle()
    thing.revoke()
    assert await refused(task) is E.REVOKED
    assert waiting.cancelled()
    assert task.cancelling() == 0


async def test_revoking_cancels_what_the_method_is_in_the_midst_of(thing: Thing) -> None:
    seen: list[str] = []

    async def method() -> bytes:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return b"data"

    task = begin(thing, method)
    await settle()
    thing.revoke()
    assert await refused(task) is E.REVOKED
    assert seen == ["cancelled"]


async def test_an_answer_that_is_ready_as_the_capability_is_revoked_is_withheld() -> None:
    for order in ("answer first", "revoke first"):
        current = Thing()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        task = begin(current, giving(future))
        await settle()
        if order == "answer first":
            future.set_result(b"data")
            current.revoke()
        else:
            current.revoke()
            assert future.cancelled()
        assert await refused(task) is E.REVOKED


async def test_a_revocation_between_the_call_and_its_first_step_abandons_the_call() -> None:
    ran: list[int] = []

    async def method() -> None:
        ran.append(1)

    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    for pending in (method(), future):
        other = Thing()
        begun = start(call(other, giving(pending)))
        assert isinstance(begun, Coroutine)
        other.revoke()
        assert await refused(begun) is E.REVOKED
    assert ran == []
    assert future.cancelled()


@pytest.mark.parametrize("outcome", ["returns", "raises", "waits"])
async def test_a_method_that_revokes_its_own_capability_gets_no_answer_out(thing: Thing, outcome: str) -> None:
    async def method() -> bytes:
        thing.revoke()
        if outcome == "raises":
            raise FileError(E.IO)
        if outcome == "waits":
            await asyncio.get_running_loop().create_future()
        return b"data"

    async def caller() -> str:
        error = await refused(finish(call(thing, method)))
        await settle()  # no cancellation is left to hit the caller
        return error.name

    task = asyncio.get_running_loop().create_task(caller())
    assert await task == "REVOKED"
    assert task.cancelling() == 0


async def test_a_method_that_swallows_the_cancellation_gets_no_answer_out() -> None:
    for ending in (b"data", FileError(E.INTR)):
        current = Thing()

        async def method(ending: bytes | FileError = ending) -> bytes:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                pass
            if isinstance(ending, FileError):
                raise ending
            return ending

        task = begin(current, method)
        await settle()
        current.revoke()
        assert await refused(task) is E.REVOKED
        assert task.cancelling() == 0


@pytest.mark.parametrize("revoked", [True, False])
async def test_an_answer_goes_out_under_what_its_chan_has_by_then(thing: Thing, revoked: bool) -> None:
    """The chan was lessened in the midst: the new capability was revoked, or lacks the right."""
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    task = begin(thing, giving(future))
    await settle()
    whole = thing.cap
    thing.cap = thing.authority.mint(thing.domain.pid, whole, READ if revoked else WRITE, thing.domain.pid)
    if revoked:
        thing.authority.revoke(thing.domain.pid, whole)
    future.set_result(b"data")
    assert await refused(task) is (E.REVOKED if revoked else E.ACCES)
    thing.authority.check(thing.domain.pid, whole, READ)  # what it was begun under


async def test_a_timeout_is_not_mistaken_for_a_revocation(thing: Thing, waiting: asyncio.Future[bytes]) -> None:
    async def caller() -> None:
        async with asyncio.timeout(0):
            await finish(call(thing, giving(waiting)))

    with pytest.raises(TimeoutError):
        await caller()
    assert start(call(thing, giving(1))) == 1


async def test_a_cancelled_caller_stays_cancelled_though_the_capability_went_too() -> None:
    for first in ("revoke", "cancel"):
        current = Thing()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        task = begin(current, giving(future))
        await settle()
        if first == "revoke":
            current.revoke()
            task.cancel()
        else:
            task.cancel()
            current.revoke()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancellation_during_the_withdrawal_of_another_stands(thing: Thing) -> None:
    task: asyncio.Task[Any]

    async def method() -> bytes:
        thing.revoke()
        asyncio.get_running_loop().call_soon(task.cancel)
        return b"data"

    task = begin(thing, method)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_operations_within_operations_end_each_with_its_own_revocation() -> None:
    outer, inner = Thing(), Thing()
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def method() -> str:
        try:
            await finish(call(inner, giving(future)))
        except FileError as error:
            return f"inner {error.error.name}"
        return "nothing"

    task = begin(outer, method)
    await settle()
    inner.revoke()
    assert await task == "inner REVOKED"
    future = asyncio.get_running_loop().create_future()
    inner = Thing()
    task = begin(outer, method)
    await settle()
    outer.revoke()
    inner.revoke()
    assert await refused(task) is E.REVOKED
    assert task.cancelling() == 0


async def test_an_ended_operation_is_forgotten(thing: Thing) -> None:
    for _ in range(3):
        assert await finish(call(thing, giving(later(b"data")))) == b"data"
    thing.revoke()  # would cancel this task if one were still registered
    await settle()
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
    assert not thing.authority._running
    assert not thing.authority._caps
