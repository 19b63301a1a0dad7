from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

import cognu.runtime
from cognu.errors import E, FileError, Misuse
from cognu.runtime.engine import Settings
from cognu.runtime.fiber import Fiber, GuestFault, Step
from cognu.runtime.guest import Exit, Guest, GuestExit, How, Limits
from cognu.runtime.scheduler import LOOP_MEMORY
from cognu.runtime.states import State
from guests import ENDLESS, GIB, command, host, running, until, wat

CALLS = '(import "h" "f" (func $f (result i32)))'
TAKES = '(import "h" "f" (func $f (param i32) (result i32)))'
BIG = Limits(memory=LOOP_MEMORY + 65536)
"""With these a guest runs on workers alone."""
PLACES = pytest.mark.parametrize("limits", [Limits(), BIG], ids=["loop", "worker"])


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """Every poll as (the guest's module, thread)."""
    seen: list[tuple[Any, int]] = []
    real = Fiber.poll

    def poll(self: Fiber) -> Step:
        seen.append((self.module, threading.get_ident()))
        return real(self)

    monkeypatch.setattr(Fiber, "poll", poll)
    return seen


# Host calls and ends


@PLACES
async def test_a_command_that_returns_exits_with_0(limits: Limits) -> None:
    async with running() as runs:
        guest, ended = runs.start(command(), limits=limits)
        states = [guest.state]
        assert await ended == Exit(How.EXITED, 0)
        states.append(guest.state)
        assert states == [State.NEW, State.DEAD]
        assert guest.usage.slices >= 1
        assert guest.memory_size == 0


@PLACES
async def test_ready_answers_and_awaited_ones_come_back_in_order(limits: Limits) -> None:
    async with running() as runs:
        seen: list[int] = []

        async def later(value: int) -> int:
            await asyncio.sleep(0)
            return value * 2

        def call(guest: Guest, value: int) -> Any:
            assert threading.current_thread() is threading.main_thread()
            seen.append(value)
            if value % 3 == 0:
                return later(value)
            if value % 3 == 1:
                ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                ready.set_result(value * 2)
                return ready
            return value * 2

        body = """(local $i i32) (loop $l
            (if (i32.ne (call $f (local.get $i)) (i32.mul (local.get $i) (i32.const 2))) (then unreachable))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 300))))"""
        guest, ended = runs.start(command(body, TAKES), host("i", "i", call), limits)
        assert await ended == Exit(How.EXITED, 0)
        assert seen == list(range(300))
        assert guest.usage.calls == 300


@PLACES
@pytest.mark.parametrize("later", [False, True])
async def test_exit_from_a_host_call_stops_the_guest_there(limits: Limits, later: bool) -> None:
    async with running() as runs:
        calls = []

        def now(guest: Guest) -> int:
            calls.append(guest)
            try:
                guest.exit(7)
            except Exception:  # a host function that turns errors into errno must not stop an exit
                return 0

        async def soon(guest: Guest) -> int:
            await asyncio.sleep(0)
            return now(guest)

        program = command("(drop (call $f)) (drop (call $f))", CALLS)
        _, ended = runs.start(program, host("", "i", soon if later else now), limits)
        assert await ended == Exit(How.EXITED, 7)
        assert len(calls) == 1


@PLACES
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    "error",
    [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, RecursionError, asyncio.CancelledError],
)
async def test_a_host_function_that_raises_ends_that_guest_alone(
    limits: Limits,
    later: bool,
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as runs:
        calls = []

        def now(guest: Guest) -> int:
            calls.append(1)
            raise error("on purpose")

        async def soon(guest: Guest) -> int:
            await asyncio.sleep(0)
            return now(guest)

        other, other_ended = runs.start(command(ENDLESS))
        program = command("(drop (call $f)) (drop (call $f))", CALLS)
        with caplog.at_level(logging.ERROR):
            _, ended = runs.start(program, host("", "i", soon if later else now), limits)
            end = await ended
        assert end.how is How.TRAPPED
        assert end.error is not None
        assert end.error.error is E.HOSTFAULT
        assert error.__name__ in end.reason
        assert len(calls) == 1
        assert any(record.exc_info and record.exc_info[0] is error for record in caplog.records)
        assert other.state is not State.DEAD
        other.kill()
        await other_ended


@PLACES
async def test_deep_recursion_in_a_host_function_ends_that_guest_alone(limits: Limits) -> None:
    async with running() as runs:

        def call(guest: Guest) -> int:
            return call(guest) + 1

        _, ended = runs.start(command("(drop (call $f))", CALLS), host("", "i", call), limits)
        assert "RecursionError" in (await ended).reason


@PLACES
async def test_wild_pointers_are_faults(limits: Limits) -> None:
    async with running() as runs:
        caught = []

        def call(guest: Guest, pointer: int) -> int:
            try:
                guest.write(pointer, b"12345678")
            except GuestFault as fault:
                caught.append(fault.errno)
            return len(guest.read(pointer, 8))

        body = "(drop (call $f (i32.const {})))"
        _, good = runs.start(command(body.format(65528), TAKES), host("I", "i", call), limits)
        _, bad = runs.start(command(body.format(-8), TAKES), host("I", "i", call), limits)
        assert await good == Exit(How.EXITED, 0)
        end = await bad
        assert end.how is How.TRAPPED
        assert end.error is not None
        assert end.error.error is E.TRAP
        assert "0xfffffff8" in end.reason
        assert caught == [14]


async def test_a_late_access_after_the_end_is_a_fault() -> None:
    async with running() as runs:
        guest, ended = runs.start(command())
        await ended
        for act in (lambda: guest.read(0, 1), lambda: guest.write(0, b"x"), lambda: guest.view(0, 1)):
            with pytest.raises(GuestFault):
                act()


@PLACES
@pytest.mark.parametrize(
    ("body", "more", "words"),
    [
        ("unreachable", "", "unreachable"),
        ("(call 0)", "", "stack"),
        ("(drop (i32.load (i32.const -8)))", "", "out of bounds"),
        ("(drop (memory.grow (i32.const 1000000))) unreachable", "", "unreachable"),
        ("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable", "", "out of memory"),
        (
            "(loop $l (br_if $l (i32.ne (table.grow 0 (ref.null func) (i32.const 100)) (i32.const -1)))) unreachable",
            "(table 1 funcref)",
            "unreachable",
        ),
    ],
)
async def test_a_trap_says_why(limits: Limits, body: str, more: str, words: str) -> None:
    async with running() as runs:
        _, ended = runs.start(command(body, more=more), limits=limits)
        end = await ended
        assert end.how is How.TRAPPED
        assert end.code == 134
        assert words in end.reason
        assert "backtrace" in end.trace


async def test_what_cannot_start_is_refused_and_leaves_nothing() -> None:
    async with running(settings=Settings(max_guests=1)) as runs:
        cases: list[tuple[bytes, Any, Limits, E]] = [
            (wat('(module (memory (export "memory") 1))'), {}, Limits(), E.NOSTART),
            (command("(drop (call $f))", CALLS), {}, Limits(), E.NOIMPORT),
            (command("(drop (call $f))", CALLS), host("", "q", lambda _g: 1), Limits(), E.NOIMPORT),
            (command("(drop (call $f))", CALLS), host("i", "i", lambda _g: 1), Limits(), E.NOIMPORT),
            (command(imports='(import "h" "f" (func (result i32 i32)))'), host("", "i", int), Limits(), E.NOIMPORT),
            (command(imports='(import "h" "f" (func (param externref)))'), host("i", "", int), Limits(), E.NOIMPORT),
            (command(imports='(import "h" "g" (global i32))'), {}, Limits(), E.NOIMPORT),
            (command(memory="2000"), {}, Limits(), E.NOMEM),
        ]
        for program, imports, limits, row in cases:
            with pytest.raises(FileError) as caught:
                runs.start(program, imports, limits)
            assert caught.value.error is row
        assert runs.engine.counts.fibers == 0
        guest, ended = runs.start(command(ENDLESS))
        with pytest.raises(FileError) as caught:
            runs.start(command())
        assert caught.value.error is E.TOOMANY
        guest.kill()
        await ended
        await runs.start(command())[1]
        _, big_table = runs.start(command(more="(table 1000000 funcref)"))
        end = await big_table
        assert end.error is not None
        assert end.error.error is E.NOMEM


# Sharing


async def test_an_endless_loop_leaves_the_loop_and_other_guests_served(polls: list[tuple[Any, int]]) -> None:
    async with running() as runs:
        hogs = [runs.start(command(ENDLESS)) for _ in range(5)]
        await until(lambda: all(hog.usage.slices > 0 for hog, _ in hogs))
        calls = 0

        async def call(guest: Guest) -> int:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            return int(calls < 1000)

        _, ended = runs.start(command("(loop $l (br_if $l (call $f)))", CALLS), host("", "i", call))
        assert await ended == Exit(How.EXITED, 0)
        assert calls == 1000
        before = [hog.usage.slices for hog, _ in hogs]
        await until(lambda: all(hog.usage.slices > had for (hog, _), had in zip(hogs, before, strict=True)))
        main = threading.get_ident()
        for hog, ended in hogs:
            threads = [thread for module, thread in polls if module is hog.module]
            assert main in threads[:1]
            assert threads[-1] != main
            hog.kill()
            await ended


async def test_two_busy_guests_run_on_two_threads_at_once() -> None:
    async with running(workers=2) as runs:
        first, second = (runs.start(command(ENDLESS))[0] for _ in range(2))
        await until(lambda: first.state is State.RUNNING and second.state is State.RUNNING)


async def test_a_gibibyte_is_never_filled_on_the_loop(polls: list[tuple[Any, int]]) -> None:
    async with running() as runs:
        main = threading.get_ident()
        fill = "(memory.fill (i32.const 0) (i32.const 1) (i32.const {}))"
        large, large_ended = runs.start(command(fill.format(GIB), memory="16384"), limits=Limits(memory=GIB))
        grow = "(drop (memory.grow (i32.const 2047)))" + fill.format(GIB // 8)
        grown, grown_ended = runs.start(command(grow), limits=Limits(memory=GIB))
        rounds = await until(lambda: large_ended.done() and grown_ended.done())
        assert rounds > 10
        assert large_ended.result() == grown_ended.result() == Exit(How.EXITED, 0)
        assert (large.usage.memory, grown.usage.memory) == (GIB, GIB // 8)
        for guest in (large, grown):
            assert main not in {thread for module, thread in polls if module is guest.module}


async def test_a_guest_that_only_makes_short_calls_comes_back_to_the_loop(polls: list[tuple[Any, int]]) -> None:
    async with running() as runs:
        main = threading.get_ident()
        program = runs.compile(
            command(
                "(local $i i32) (loop $s (local.set $i (i32.add (local.get $i) (i32.const 1)))"
                "(br_if $s (i32.lt_u (local.get $i) (i32.const 50000000)))) (loop $l (br_if $l (call $f)))",
                CALLS,
            )
        )

        def call(guest: Guest) -> int:
            threads = [thread for _, thread in polls]
            return int(not (threads[-1] == main and any(thread != main for thread in threads)))

        _, ended = runs.start(program, host("", "i", call))
        assert await ended == Exit(How.EXITED, 0)


async def test_shares_of_the_processor_follow_the_weights() -> None:
    async with running(workers=1) as runs:
        light, _ = runs.start(command(ENDLESS), limits=Limits(weight=100))
        heavy, _ = runs.start(command(ENDLESS), limits=Limits(weight=400))
        await until(lambda: light.usage.slices > 20 and heavy.usage.slices > 20)
        assert heavy.usage.cpu > 2 * light.usage.cpu


@PLACES
async def test_processor_time_is_limited(limits: Limits) -> None:
    async with running() as runs:
        guest, ended = runs.start(command(ENDLESS), limits=Limits(memory=limits.memory, cpu=20_000_000))
        end = await ended
        assert end.how is How.KILLED
        assert end.error is not None
        assert end.error.error is E.CPULIMIT
        assert guest.usage.cpu >= 20_000_000


# Start functions


async def test_a_start_function_may_loop_and_call() -> None:
    async with running() as runs:
        seen: list[Any] = []

        async def call(guest: Guest) -> int:
            with pytest.raises(GuestFault):
                guest.read(0, 1)
            seen.append(guest.state)
            return 0

        program = wat(
            f'(module {CALLS} (memory (export "memory") 1) (start $s) (func $s (local $i i32)'
            "(loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))"
            "(br_if $l (i32.lt_u (local.get $i) (i32.const 20000000)))) (drop (call $f)))"
            '(func (export "_start")))'
        )
        _, ended = runs.start(program, host("", "i", call))
        assert await ended == Exit(How.EXITED, 0)
        assert seen == [State.WAITING]


async def test_an_endless_start_function_is_killed_like_any_other() -> None:
    async with running() as runs:
        program = wat(f'(module (memory (export "memory") 1) (start $s) (func $s {ENDLESS}) (func (export "_start")))')
        guest, ended = runs.start(program)
        await until(lambda: guest.usage.slices > 0 and guest.state is State.RUNNING)
        guest.kill()
        assert (await ended).how is How.KILLED


# Kills


async def _wait_for_ever(_guest: Guest) -> int:
    await asyncio.get_running_loop().create_future()
    return 0


@PLACES
@pytest.mark.parametrize("state", [State.NEW, State.READY, State.RUNNING, State.WAITING])
async def test_a_guest_is_killed_in_any_state(state: State, limits: Limits) -> None:
    async with running(workers=1) as runs:
        waits = state is State.WAITING
        program = command("(drop (call $f))" if waits else ENDLESS, CALLS)
        others = [runs.start(command(ENDLESS))[0] for _ in range(2)] if state is State.READY else []
        guest, ended = runs.start(program, host("", "i", _wait_for_ever), limits)
        await until(lambda: guest.state is state and (guest.usage.slices > 0 or state is State.NEW or limits is BIG))
        guest.kill("for a test")
        guest.kill("again")
        assert not ended.done(), "never from inside kill"
        end = await ended
        assert end.how is How.KILLED
        assert end.code == 137
        assert "for a test" in end.reason
        assert guest.state is State.DEAD
        guest.kill("dead")
        for other in others:
            assert other.state is not State.DEAD


@PLACES
async def test_a_guest_kills_itself_and_another_from_inside_its_call(limits: Limits) -> None:
    async with running() as runs:
        victims = [
            runs.start(command(ENDLESS)),
            runs.start(command("(drop (call $f))", CALLS), host("", "i", _wait_for_ever)),
        ]
        await until(lambda: victims[1][0].state is State.WAITING)

        def call(guest: Guest) -> Any:
            fresh = runs.start(command())
            victims.append(fresh)
            for victim, _ in victims:
                victim.kill()
            guest.kill("own hand")
            return _wait_for_ever(guest)  # must be closed, not left to warn

        _, ended = runs.start(command("(drop (call $f)) unreachable", CALLS), host("", "i", call), limits)
        assert "own hand" in (await ended).reason
        for _, victim_ended in victims:
            assert (await victim_ended).how is How.KILLED


@PLACES
async def test_a_guest_kills_itself_from_an_awaited_call(limits: Limits) -> None:
    async with running() as runs:

        async def call(guest: Guest) -> int:
            await asyncio.sleep(0)
            guest.kill("own hand")
            return 0

        _, ended = runs.start(command("(drop (call $f)) unreachable", CALLS), host("", "i", call), limits)
        assert "own hand" in (await ended).reason


@PLACES
@pytest.mark.parametrize("fails", [False, True])
async def test_a_late_completion_finds_nothing(limits: Limits, fails: bool) -> None:
    async with running() as runs:
        release = asyncio.Event()
        done = asyncio.Event()

        async def stubborn(guest: Guest) -> int:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                await release.wait()
            with pytest.raises(GuestFault):
                guest.write(0, b"late")
            done.set()
            if fails:
                raise ValueError
            return 1

        guest, ended = runs.start(command("(drop (call $f)) unreachable", CALLS), host("", "i", stubborn), limits)
        await until(lambda: guest.state is State.WAITING and guest._task is not None)
        await asyncio.sleep(0)  # the task begins before it is cancelled
        guest.kill()
        assert (await ended).how is How.KILLED
        assert runs.engine.counts.fibers == 0
        release.set()
        await done.wait()
        assert guest.state is State.DEAD


async def test_a_call_killed_before_it_began_leaves_no_coroutine_behind() -> None:
    async with running() as runs:
        began = []

        async def call(guest: Guest) -> int:
            began.append(1)
            return 0

        def make(guest: Guest) -> Any:
            asyncio.get_running_loop().call_soon(guest.kill)
            return call(guest)

        _, ended = runs.start(command("(drop (call $f))", CALLS), host("", "i", make))
        assert (await ended).how is How.KILLED


async def test_on_exit_is_called_once_and_may_fail_or_start_another(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as runs:
        module = runs.compile(command())
        ends: list[Exit] = []
        done = asyncio.Event()

        def on_exit(end: Exit) -> None:
            ends.append(end)
            if len(ends) < 5:
                runs.scheduler.start(module, {}, Limits(), on_exit)
            else:
                done.set()
            raise ValueError("on purpose")

        runs.scheduler.start(module, {}, Limits(), on_exit)
        await done.wait()
        assert len(ends) == 5
        assert sum("on purpose" in str(record.exc_info) for record in caplog.records) == 5


# The whole


@PLACES
async def test_a_thousand_guests_leave_nothing_behind(limits: Limits) -> None:
    async with running() as runs:

        async def call(guest: Guest) -> int:
            await gate.wait()
            return 0

        gate = asyncio.Event()
        module = runs.compile(command("(drop (call $f))", CALLS))
        await runs.start(command(), limits=limits)[1]
        before = _mappings()
        started = [runs.start(module, host("", "i", call), limits) for _ in range(1000)]
        references = [weakref.ref(guest) for guest, _ in started]
        await until(lambda: all(guest.state is State.WAITING for guest, _ in started))
        assert runs.engine.counts.fibers == 1000
        gate.set()
        ends = [await ended for _, ended in started]
        assert set(ends) == {Exit(How.EXITED, 0)}
        assert runs.engine.counts.fibers == 0
        assert _mappings() < before + 100
        started.clear()
        await asyncio.sleep(0)
        gc.collect()
        assert [reference for reference in references if reference() is not None] == []


def _mappings() -> int:
    with Path("/proc/self/maps").open() as lines:
        return sum(1 for _ in lines)


CROWD = """
import asyncio, resource
from guests import command, host, running, until
resource.setrlimit(resource.RLIMIT_AS, (30 << 30, 30 << 30))
async def main():
    async with running(workers=1) as runs:
        gate = asyncio.Event()
        async def call(guest):
            await gate.wait()
            return 0
        program = runs.compile(command("(drop (call $f))", '(import "h" "f" (func $f (result i32)))'))
        started = [runs.start(program, host("", "i", call)) for _ in range(20)]
        await until(lambda: all(ended.done() or guest.state.value == "waiting" for guest, ended in started))
        gate.set()
        ends = [await ended for _, ended in started]
        print(sum(end.code == 0 for end in ends) > 0, {end.error.error.name for end in ends if end.error})
asyncio.run(main())
"""


def test_guests_for_whom_there_are_no_addresses_are_refused_and_the_others_run() -> None:
    paths = [str(Path(cognu.runtime.__file__).parents[2]), str(Path(__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", CROWD],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(paths)},
    )
    assert done.stdout.strip() == "True {'NOMEM'}", done.stderr


async def test_close_ends_guests_in_all_states_and_then_refuses() -> None:
    async with running() as runs:
        ends = [runs.start(command(ENDLESS))[1] for _ in range(3)]
        ends += [
            runs.start(command("(drop (call $f))", CALLS), host("", "i", _wait_for_ever), limits)[1]
            for limits in (Limits(), BIG)
            for _ in range(3)
        ]
        threads = threading.active_count()
        await until(lambda: len([g for g in runs.scheduler.guests if g.state is State.WAITING]) == 6)
        module = runs.compile(command())
        await runs.scheduler.close()
        assert {end.result().how for end in ends} == {How.KILLED}
        assert threading.active_count() == threads - 2
        with pytest.raises(Misuse):
            runs.start(module)
        await runs.scheduler.close()


def test_it_runs_on_uvloop_too() -> None:
    async def main() -> None:
        async with running() as runs:
            hog, hog_ended = runs.start(command(ENDLESS))
            calls = 0

            async def call(guest: Guest) -> int:
                nonlocal calls
                calls += 1
                await asyncio.sleep(0)
                return int(calls < 100)

            for limits in (Limits(), BIG):
                calls = 0
                _, ended = runs.start(command("(loop $l (br_if $l (call $f)))", CALLS), host("", "i", call), limits)
                assert await ended == Exit(How.EXITED, 0)
            hog.kill()
            assert (await hog_ended).how is How.KILLED

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_loop_with_eager_tasks_serves_as_well() -> None:
    factory: Callable[..., Any] | None = getattr(asyncio, "eager_task_factory", None)

    async def main() -> None:
        if factory is not None:
            asyncio.get_running_loop().set_task_factory(factory)
        async with running() as runs:

            async def call(guest: Guest) -> int:
                assert guest.state is State.WAITING
                return 5

            _, ended = runs.start(command("(drop (call $f))", CALLS), host("", "i", call))
            assert await ended == Exit(How.EXITED, 0)

    asyncio.run(main())


def test_guest_exit_is_no_exception_that_a_host_function_would_catch() -> None:
    assert not issubclass(GuestExit, Exception)
