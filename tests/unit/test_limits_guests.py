"""Guests under quotas: memory and processor time of a tree, shares; stopped and started again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cognu.errors import E, FileError
from cognu.files.limits import Account, Quota, Resource
from cognu.runtime.guest import Exit, Guest, How, Limits
from cognu.runtime.scheduler import LOOP_MEMORY
from cognu.runtime.states import State
from guests import ENDLESS, Runs, command, host, running, until

CALLS = '(import "h" "f" (func $f (result i32)))'
PAGE = 65536
BIG = Limits(memory=LOOP_MEMORY + PAGE)
"""With these a guest runs on workers alone."""
PLACES = pytest.mark.parametrize("limits", [Limits(), BIG], ids=["loop", "worker"])
CALL_FOR_EVER = "(loop $l (drop (call $f)) (br $l))"


def start(
    runs: Runs, wasm: bytes, quota: Quota, limits: Limits, imports: Any = None, weight: int = 100
) -> tuple[Guest, Account, asyncio.Future[Exit]]:
    """A guest with an account that ends with it."""
    module = runs.compile(wasm)
    account = Account(quota, module.memory_minimum, weight)
    ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def over(ending: Exit) -> None:
        account.end()
        ended.set_result(ending)

    guest = runs.scheduler.start(module, imports or {}, limits, over, None, account)
    return guest, account, ended


# -- quotas -----------------------------------------------------------------------------------------------------------


@PLACES
async def test_processor_time_of_a_tree_ends_who_uses_it_up(limits: Limits) -> None:
    async with running() as runs:
        top = Quota(name="the tree", limits={Resource.CPU: 20_000_000})
        ends = [start(runs, command(ENDLESS), Quota(top), limits)[2] for _ in range(3)]
        for ended in ends:
            ending = await ended
            assert (ending.how, ending.code) == (How.KILLED, 137)
            assert ending.error is not None
            assert ending.error.error is E.CPULIMIT
            assert "the tree" in ending.reason
        assert top.used(Resource.CPU) > 20_000_000
        assert top.used(Resource.MEMORY) == 0


@PLACES
async def test_memory_of_a_tree_ends_who_grows_beyond_it(limits: Limits) -> None:
    async with running() as runs:
        top = Quota(name="the tree", limits={Resource.MEMORY: 5 * PAGE})
        still, _, still_ended = start(runs, command(ENDLESS, memory="2"), Quota(top), limits)
        with pytest.raises(FileError) as caught:
            start(runs, command(ENDLESS, memory="4"), Quota(top), limits)
        assert (caught.value.error, caught.value.subject) == (E.DQUOT, "memory")
        grows = command(f"(drop (memory.grow (i32.const 3))) {ENDLESS}")
        _, _, ended = start(runs, grows, Quota(top), limits)
        ending = await ended
        assert ending.error is not None
        assert (ending.how, ending.error.error) == (How.KILLED, E.DQUOT)
        assert top.used(Resource.MEMORY) == 2 * PAGE
        assert not still_ended.done()
        still.kill()
        await still_ended
        assert top.used(Resource.MEMORY) == 0


async def test_a_limit_lowered_while_a_guest_has_a_worker_to_itself_is_noticed() -> None:
    async with running(workers=1) as runs:
        quota = Quota(name="q")
        guest, _, ended = start(runs, command(ENDLESS), quota, BIG)
        await until(lambda: guest.usage.cpu > 0)  # it is charged though nobody else waits
        assert quota.used(Resource.CPU) == guest.usage.cpu
        quota.lower(Resource.CPU, 1)
        assert (await ended).error is not None


async def test_weights_of_accounts_decide_who_gets_the_worker() -> None:
    async with running(workers=1) as runs:
        top = Quota(name="top")
        shared = Quota(top, "shared")
        shared.set_share(100)
        alone, account, _ = start(runs, command(ENDLESS), Quota(top), BIG, weight=300)
        others = [start(runs, command(ENDLESS), Quota(shared), BIG) for _ in range(2)]
        assert (account.weight, others[0][1].weight) == (300_000, 50_000)
        await until(lambda: alone.usage.slices >= 60)
        both = sum(guest.usage.cpu for guest, _, _ in others)
        assert both < alone.usage.cpu  # a third of it, less what is measured roughly
        for guest in (alone, *(guest for guest, _, _ in others)):
            guest.kill()


# -- stopping ---------------------------------------------------------------------------------------------------------


@PLACES
async def test_a_stopped_guest_is_not_run_until_it_is_started_again(limits: Limits) -> None:
    async with running() as runs:
        calls: list[int] = []

        def called(guest: Guest) -> int:
            calls.append(1)
            if len(calls) == 10:
                guest.stop()
            return 0

        other, _, other_ended = start(runs, command(ENDLESS), Quota(), limits)
        guest, account, ended = start(runs, command(CALL_FOR_EVER, CALLS), Quota(), limits, host("", "i", called))
        await until(lambda: len(calls) >= 10 and guest.state is State.READY)
        count, slices = len(calls), other.usage.slices
        await until(lambda: other.usage.slices > slices + 5)
        assert len(calls) == count
        guest.resume()
        guest.resume()
        await until(lambda: len(calls) > count + 10)
        for one in (guest, other):
            one.kill()
        assert {(await ended).how, (await other_ended).how} == {How.KILLED}
        guest.resume()
        assert account.left is None


@PLACES
async def test_a_guest_stopped_before_it_ran_runs_once_it_is_started(limits: Limits) -> None:
    async with running() as runs:
        guest, _, ended = start(runs, command(), Quota(), limits)
        guest.stop()
        _, _, probe_ended = start(runs, command(), Quota(), limits)
        await probe_ended
        assert guest.state is State.NEW
        assert guest.usage.slices == 0
        guest.resume()
        assert await ended == Exit(How.EXITED, 0)


@PLACES
async def test_an_answer_that_comes_while_a_guest_is_stopped_waits_for_it(limits: Limits) -> None:
    async with running() as runs:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        program = command("(drop (call $f))", CALLS)
        guest, _, ended = start(runs, program, Quota(), limits, host("", "i", lambda guest: answer))
        await until(lambda: guest.state is State.WAITING)
        guest.stop()
        answer.set_result(1)
        await until(lambda: guest.state is State.READY)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not ended.done()
        guest.resume()
        assert await ended == Exit(How.EXITED, 0)


@PLACES
async def test_a_stopped_guest_can_be_killed(limits: Limits) -> None:
    async with running() as runs:
        quota = Quota()
        guest, _, ended = start(runs, command(ENDLESS), quota, limits)
        await until(lambda: guest.usage.slices > 0 or guest.state is State.RUNNING)
        guest.stop()
        await until(lambda: guest.state is State.READY)
        guest.kill("enough")
        ending = await ended
        assert (ending.how, "enough" in ending.reason) == (How.KILLED, True)
        assert quota.used(Resource.MEMORY) == 0
