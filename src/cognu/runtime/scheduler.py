"""Runs guests: short ones on the loop's thread, long ones on worker threads.

Rules of use:

- A guest starts on the loop, in turns with everything else there. One that uses up a slice goes to the
  workers; there its host calls are handed back to the loop, because kernel and files are touched on the
  loop's thread alone. One that only makes short host calls from there comes back.
- A guest that may have more than 64 MiB of memory never runs on the loop: one bulk instruction can't be
  interrupted and takes as long as its memory is large.
- Every change of state is made on the loop's thread, so states need no lock. A worker gets a guest whose
  state is already RUNNING and hands it back; of what is the loop's it reads a guest's wish to stop and
  whether others wait.
- Fibers are deleted on the loop's thread, from callbacks of the loop and never from inside a host call.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

from cognu.errors import E, FileError, Misuse
from cognu.files.limits import Account
from cognu.runtime.engine import Engine, Module
from cognu.runtime.fiber import Pending, Step
from cognu.runtime.guest import EXIT_KILLED, Answer, Exit, Guest, GuestExit, How, Imports, Limits, drop
from cognu.runtime.states import Event, State
from cognu.world import Clock

log = logging.getLogger(__name__)

LOOP_MEMORY = 64 << 20
TURN = 1_000_000
"""ns that guests get of the loop's thread before everything else there gets its turn."""
LONG = 1_000_000
"""A run of at least so many ns counts as a slice used up. Less, and the tick merely came early."""
STINT = 100_000_000
"""ns after which a worker brings a guest back though no other waits, so that what it used is seen and charged."""
QUICK = 200_000
QUICK_CALLS = 4
"""So many host calls in a row, each after at most QUICK ns on a worker, and a guest is back on the loop."""


class _Stint(NamedTuple):
    """What a guest did while a thread had it: why it came back, ns, slices."""

    step: Step
    elapsed: int
    slices: int


class _Place:
    """The scheduler's notes on a guest."""

    __slots__ = ("loop_allowed", "on_exit", "on_loop", "quick", "virtual")

    def __init__(self, loop_allowed: bool, on_exit: Callable[[Exit], None]) -> None:
        self.loop_allowed = loop_allowed
        self.on_loop = loop_allowed
        self.on_exit = on_exit
        self.quick = 0
        self.virtual = 0


class _Worker:
    def __init__(self, scheduler: Scheduler, number: int) -> None:
        self.inbox: SimpleQueue[Guest | None] = SimpleQueue()
        self.thread = threading.Thread(target=scheduler._work, args=(self,), name=f"cognu-guests-{number}", daemon=True)


class Scheduler:
    """Runs the guests of one engine on the running event loop. All methods are for that loop's thread."""

    def __init__(self, engine: Engine, clock: Clock, workers: int | None = None) -> None:
        """`workers`: how many threads; one per core if None. At least one."""
        count = workers if workers is not None else os.cpu_count() or 1
        if count < 1:
            raise Misuse(E.INVAL, "workers", str(count))
        self._engine = engine
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._guests: dict[Guest, _Place] = {}
        self._turns: deque[Guest] = deque()
        self._turn_due = False
        self._batch: list[tuple[int, int, Guest]] = []
        """A heap: guests for the workers by virtual time, the one that had least of its share first."""
        self._parked: set[Guest] = set()
        """Guests that could run but were stopped; they are in no queue."""
        self._order = itertools.count()
        self._virtual = 0
        self._dead: list[Guest] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._idle = [_Worker(self, number) for number in range(count)]
        self._workers = list(self._idle)
        for worker in self._workers:
            worker.thread.start()

    @property
    def guests(self) -> list[Guest]:
        """Those not yet deleted, in the order of their start."""
        return list(self._guests)

    def start(
        self, module: Module, imports: Imports, limits: Limits, on_exit: Callable[[Exit], None], data: Any = None,
        account: Account | None = None,
    ) -> Guest:  # fmt: skip
        """Start a command (see `Module.check_command`); it runs from the loop's next turn on.

        With an `account` its memory and processor time are charged there whenever a thread lets go of it, and it
        is ended when that says so; its weight is then the account's. The caller ends the account in `on_exit`.

        `on_exit` is called once, on the loop, after the guest was deleted; what it raises is logged. Raises
        `FileError`: NOSTART, NOMEMORY, NOIMPORT for a program that can't run here, NOMEM if its memory is
        above its limit from the start, TOOMANY. Then nothing was started.
        """
        if self._closing:
            raise Misuse(E.BADF, "scheduler")
        check_start(module, limits)
        if limits.weight < 1:
            raise Misuse(E.INVAL, "weight", str(limits.weight))
        if len(self._guests) >= self._engine.settings.max_guests:
            raise FileError(E.TOOMANY, "", str(len(self._guests)))
        guest = Guest(self, module, imports, limits, data, account)
        most = min(limits.memory, module.memory_maximum)
        self._guests[guest] = _Place(most <= LOOP_MEMORY, on_exit)
        self._empty.clear()
        self._turns.append(guest)
        self._want_turn()
        return guest

    async def close(self) -> None:
        """Kill all guests, wait until they and their host calls are gone, stop the workers. May be called
        twice."""
        self._closing = True
        for guest in self.guests:
            guest.kill()
        await self._empty.wait()
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        # Every worker is idle now, so joining them takes no time.
        for worker in self._workers:
            worker.inbox.put(None)
        for worker in self._workers:
            worker.thread.join()
        self._workers.clear()

    # Choosing

    def _enqueue(self, guest: Guest) -> None:
        if guest.stopped:
            self._parked.add(guest)
            return
        place = self._guests[guest]
        if place.on_loop:
            self._turns.append(guest)
            self._want_turn()
            return
        # Who waited long must not get all of the time that it let pass.
        place.virtual = max(place.virtual, self._virtual)
        heapq.heappush(self._batch, (place.virtual, next(self._order), guest))
        self._dispatch()

    def _unpark(self, guest: Guest) -> None:
        if guest in self._parked:
            self._parked.discard(guest)
            self._enqueue(guest)

    def _want_turn(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Run guests on this thread for a while, then let the loop do its other work."""
        self._turn_due = False
        began = now = self._clock.monotonic()
        try:
            while self._turns and now - began < TURN:
                guest = self._turns.popleft()
                if guest.state not in (State.NEW, State.READY):
                    continue  # killed meanwhile
                if guest.stopped or not self._guests[guest].on_loop:
                    self._enqueue(guest)
                    continue
                guest._move(Event.RUN)
                guest._fiber.handler = guest._call
                step = self._poll(guest)
                before, now = now, self._clock.monotonic()
                self._came_back(guest, _Stint(step, now - before, 1))
        finally:
            if self._turns:
                self._want_turn()

    def _dispatch(self) -> None:
        """Give idle workers the guests that come first."""
        while self._idle and self._batch:
            self._virtual, _, guest = heapq.heappop(self._batch)
            if guest.state not in (State.NEW, State.READY):
                continue
            if guest.stopped:
                self._parked.add(guest)
                continue
            guest._left = _time_left(guest)
            guest._move(Event.RUN)
            guest._fiber.handler = guest._postpone
            self._idle.pop().inbox.put(guest)

    def _work(self, worker: _Worker) -> None:
        """A worker's thread. It keeps a guest over many slices if no other waits."""
        while (guest := worker.inbox.get()) is not None:
            began = self._clock.monotonic()
            elapsed = slices = 0
            step, left = Step.SLICE, guest._left
            while step is Step.SLICE:
                step = self._poll(guest)
                slices += 1
                elapsed = self._clock.monotonic() - began
                if self._batch or guest._let_go() or elapsed >= (STINT if left is None else min(left, STINT)):
                    break
            self._loop.call_soon_threadsafe(self._worker_done, worker, guest, _Stint(step, elapsed, slices))
            del guest  # a thread that waits must not keep the last one alive

    def _worker_done(self, worker: _Worker, guest: Guest, stint: _Stint) -> None:
        self._idle.append(worker)
        try:
            self._came_back(guest, stint)
        finally:
            self._dispatch()

    # What happens to one guest

    def _poll(self, guest: Guest) -> Step:
        try:
            return guest._fiber.poll()
        except BaseException as error:  # an interrupt between the fiber's end and our note of it
            guest._fiber.fault = guest._fiber.fault or error
            return Step.ENDED

    def _came_back(self, guest: Guest, stint: _Stint) -> None:
        """A thread let go of a guest: account, then see what it wants."""
        place, usage = self._guests[guest], guest.usage
        usage.cpu += stint.elapsed
        usage.slices += stint.slices
        usage.memory = guest._fiber.memory_size
        weight = guest.account.weight if guest.account is not None else guest.limits.weight * 1000
        place.virtual += stint.elapsed * 100_000 // weight
        over = guest.account.charge(stint.elapsed, usage.memory) if guest.account is not None else None
        self._replace(place, stint)
        if stint.step is Step.ENDED or guest._stopping():
            self._finish(guest)
        elif guest.limits.cpu is not None and usage.cpu >= guest.limits.cpu:
            used_up = FileError(E.CPULIMIT, "", f"its own limit is {guest.limits.cpu / 1e9:g} s")
            guest._ending = Exit(How.KILLED, EXIT_KILLED, used_up)
            self._finish(guest)
        elif over is not None:
            guest._ending = Exit(How.KILLED, EXIT_KILLED, over)
            self._finish(guest)
        elif stint.step is Step.SLICE:
            guest._move(Event.YIELD)
            self._enqueue(guest)
        else:
            guest._move(Event.CALL)
            if guest._request is not None:
                self._serve_request(guest)

    def _replace(self, place: _Place, stint: _Stint) -> None:
        if place.on_loop:
            place.on_loop = stint.elapsed < LONG
            place.quick = 0
            return
        quick = stint.step is Step.CALL and stint.elapsed <= QUICK
        place.quick = place.quick + 1 if quick else 0
        place.on_loop = place.loop_allowed and place.quick >= QUICK_CALLS

    def _serve_request(self, guest: Guest) -> None:
        """A host call that was made on a worker."""
        assert guest._request is not None
        request, guest._request = guest._request, None
        try:
            value = guest._call(*request)
        except BaseException as error:
            if guest.state is not State.DEAD:  # else it killed its own guest, whose deletion is due
                guest._fiber.fault = error
                self._finish(guest)
            return
        if not isinstance(value, Pending):
            self._answered(guest, value)

    def _serve(self, guest: Guest, generation: int, awaitable: Awaitable[Answer]) -> asyncio.Task[None]:
        # Not by the loop's factory: an eager task would begin right here, inside the guest's host call.
        task = asyncio.Task(self._await(guest, generation, awaitable), loop=self._loop)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            drop(awaitable)  # cancelled before it began, the task never touched what it was to wait for

        task.add_done_callback(ended)
        return task

    async def _await(self, guest: Guest, generation: int, awaitable: Awaitable[Answer]) -> None:
        """Lets nothing out: the loop would take an interrupt or exit raised by a task as its own."""
        try:
            value = await awaitable
        except BaseException as error:
            if guest._generation == generation:
                guest._task = None
                guest._fiber.fault = error
                self._finish(guest)
            elif not isinstance(error, asyncio.CancelledError):
                log.warning("a host call of a guest that is gone failed", exc_info=error)
            return
        if guest._generation == generation:
            guest._task = None
            self._answered(guest, value)

    def _answered(self, guest: Guest, value: Answer) -> None:
        guest._generation += 1
        guest._move(Event.COMPLETE)
        guest._fiber.answer(value)
        self._enqueue(guest)

    def _killed(self, guest: Guest, before: State) -> None:
        """`guest` was killed in state `before`. It may be inside a host call of its own, and this inside
        another's."""
        if before is State.RUNNING:
            self._engine.tick()
            return
        guest._drop_call()
        self._dead.append(guest)
        if len(self._dead) == 1:
            self._loop.call_soon(self._reap)

    def _reap(self) -> None:
        dead, self._dead = self._dead, []
        for guest in dead:
            self._delete(guest)

    def _finish(self, guest: Guest) -> None:
        """It ended, and no thread has it."""
        guest._move(Event.END)
        guest._drop_call()
        self._delete(guest)

    def _delete(self, guest: Guest) -> None:
        ending = guest._how()
        fault = guest._fiber.fault
        if fault is not None and not isinstance(fault, GuestExit):
            log.error("a host function failed; the guest was ended", exc_info=fault)
        self._parked.discard(guest)
        guest._fiber.delete()
        guest._fiber.fault = None  # its traceback holds the frames that hold the guest
        on_exit = self._guests.pop(guest).on_exit
        if not self._guests:
            self._empty.set()
        try:
            on_exit(ending)
        except Exception as error:
            log.error("what was to hear of a guest's end failed", exc_info=error)


def check_start(module: Module, limits: Limits) -> None:
    """Raises `FileError`: NOSTART, NOMEMORY, NOIMPORT for a program that can't run, NOMEM if its memory is above its
    limit from the start.
    """
    module.check_command()
    if module.memory_minimum > limits.memory:
        raise FileError(E.NOMEM, "", f"{module.memory_minimum} > {limits.memory}")


def _time_left(guest: Guest) -> int | None:
    """ns of processor time until a limit of the guest or of its account; None without one."""
    own = guest.limits.cpu - guest.usage.cpu if guest.limits.cpu is not None else None
    tree = guest.account.left if guest.account is not None else None
    return min((left for left in (own, tree) if left is not None), default=None)
