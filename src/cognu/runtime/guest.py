"""A guest as host functions and its owner see it: its memory, its limits, its end."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from cognu.errors import CognuError, E, FileError, Misuse
from cognu.files.limits import Account
from cognu.runtime.engine import Module, shimmable
from cognu.runtime.fiber import PENDING, Bounds, Fiber, GuestFault, Pending, Slot, Value
from cognu.runtime.states import Event, State, move

if TYPE_CHECKING:
    from cognu.runtime.scheduler import Scheduler

Answer = Value | None
EXIT_TRAPPED, EXIT_KILLED = 134, 137
"""What a shell shows for a program that trapped or was killed: 128 + SIGABRT, 128 + SIGKILL."""

HostCall = Callable[..., Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class HostFunction:
    """One import that guests may call.

    `params` and `result` have a letter per value as in `struct`: i I for i32 (signed, unsigned), q Q for i64,
    f, d; `result` is "" for none. `call(guest, *arguments)` runs on the loop's thread and returns the result
    or an awaitable of it. Whatever it raises ends the guest; what it returns must fit the letter, else that
    does too.
    """

    params: str
    result: str
    call: HostCall


Imports = Mapping[tuple[str, str], HostFunction]
"""By (module, name)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Memory in bytes; elements of each table; processor time in all in ns, None for no limit; share of the
    processor relative to other guests' (100 is usual). How deep the stack may be is the engine's:
    `Settings.wasm_stack`.

    A guest that may have more than 64 MiB never runs on the loop's thread, which makes its host calls slower.
    """

    memory: int = 64 << 20
    table_elements: int = 1 << 18
    cpu: int | None = None
    weight: int = 100


@dataclass(slots=True)
class Usage:
    """What a guest used so far: ns of processor time, slices, host calls; bytes of memory at the last slice's
    end."""

    cpu: int = 0
    slices: int = 0
    calls: int = 0
    memory: int = 0


class How(Enum):
    EXITED = "exited"
    TRAPPED = "trapped"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a guest ended. `error` says why if it did not exit by itself; `trace` has the guest's stack after a
    trap."""

    how: How
    code: int
    error: CognuError | None = None
    trace: str = ""

    @property
    def reason(self) -> str:
        return str(self.error) if self.error is not None else ""


class GuestExit(BaseException):
    """Raised by `Guest.exit` to leave the host function; no `except Exception` stops it."""


class Guest:
    """One running program. Made by `Scheduler.start`. Everything here is for the loop's thread.

    Host functions may keep what they need in `data`; the scheduler does not look at it.
    """

    def __init__(
        self, scheduler: Scheduler, module: Module, imports: Imports, limits: Limits, data: Any,
        account: Account | None = None,
    ) -> None:  # fmt: skip
        slots, self._functions = resolve(module, imports)
        self.module = module
        self.limits = limits
        self.usage = Usage()
        self.data = data
        self.state = State.NEW
        self.account = account
        self.stopped = False
        self._left: int | None = None  # ns of processor time that it may use until a thread lets go of it
        self._scheduler = scheduler
        bounds = Bounds(limits.memory, limits.table_elements)
        self._fiber = Fiber(module, slots, bounds, self._call)
        self._ending: Exit | None = None
        self._request: tuple[int, tuple[Value, ...]] | None = None
        self._generation = 0
        self._task: asyncio.Task[None] | None = None

    # For host functions

    def read(self, pointer: int, count: int) -> bytes:
        """A copy of guest memory. Raises `GuestFault`."""
        return self._fiber.read(pointer, count)

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        """Raises `GuestFault`; then nothing was written."""
        self._fiber.write(pointer, data)

    def view(self, pointer: int, count: int) -> memoryview:
        """Guest memory itself, writable. Drop it before the host function returns or awaits. Raises
        `GuestFault`."""
        return self._fiber.view(pointer, count)

    @property
    def memory_size(self) -> int:
        """Bytes now; 0 while the program is being instantiated, and after its end."""
        return self._fiber.memory_size

    def exit(self, code: int) -> NoReturn:
        """From inside a host function: end the guest here, with this exit code."""
        self._ending = self._ending or Exit(How.EXITED, code)
        raise GuestExit

    def kill(self, reason: str = "") -> None:
        """End it, whatever it is doing. `on_exit` follows soon, never from inside this call. Twice is
        fine."""
        self._end(Exit(How.KILLED, EXIT_KILLED, FileError(E.KILLED, "", reason)))

    def stop(self) -> None:
        """Don't run it until `resume`. A host call under way goes on; a thread that runs it lets go soon."""
        self.stopped = True
        if self.state is State.RUNNING:
            self._scheduler._engine.tick()

    def resume(self) -> None:
        """Let it run again. Nothing happens if it was not stopped, or has ended."""
        self.stopped = False
        self._scheduler._unpark(self)

    # For the scheduler

    def _end(self, ending: Exit) -> None:
        before = self.state
        self._move(Event.KILL)
        if before is not State.DEAD:
            self._ending = self._ending or ending
            self._scheduler._killed(self, before)

    def _move(self, event: Event) -> None:
        self.state = move(self.state, event)

    def _postpone(self, place: int, arguments: tuple[Value, ...]) -> Pending:
        """A host call on a worker's thread: it waits until the loop's has it."""
        self._request = (place, arguments)
        return PENDING

    def _call(self, place: int, arguments: tuple[Value, ...]) -> Value | Pending | None:
        """A host call, on the loop's thread."""
        self.usage.calls += 1
        result = self._functions[place](self, *arguments)
        if self._ending is None and (type(result) is int or result is None):
            return result
        return self._returned(result)

    def _returned(self, result: Answer | Awaitable[Answer]) -> Value | Pending | None:
        """What is not so simple: the guest's end was decided meanwhile, or the answer is to be awaited."""
        if result is None or type(result) is int or type(result) is float:
            if self._ending is not None:
                raise GuestExit
            return result
        if not inspect.isawaitable(result):
            raise TypeError(type(result))
        if self._ending is not None:
            drop(result)
            raise GuestExit
        self._generation += 1
        self._task = self._scheduler._serve(self, self._generation, result)
        return PENDING

    def _drop_call(self) -> None:
        """Make the host call under way, if any, find nothing when it completes."""
        self._generation += 1
        task, self._task = self._task, None
        if task is not None:
            # Cancelled before its first step it would never run, nor clean up; that step is in the queue already.
            asyncio.get_running_loop().call_soon(task.cancel)

    def _let_go(self) -> bool:
        """Whether a worker is to bring it back after this slice: it ends, was stopped, or its memory must be
        counted."""
        return self.stopped or self._stopping() or self._fiber.memory_size != self.usage.memory

    def _stopping(self) -> bool:
        return self._ending is not None or self._fiber.fault is not None

    def _how(self) -> Exit:
        """How it ended, now that it did. What was decided first counts: an exit or kill, a host function's
        exception, the trap."""
        if self._ending is not None:
            return self._ending
        outcome, fault = self._fiber.outcome, self._fiber.fault
        trace = outcome.trace if outcome is not None else ""
        if fault is not None:
            detail = str(fault) if isinstance(fault, GuestFault) else type(fault).__name__
            row = E.TRAP if isinstance(fault, GuestFault) else E.HOSTFAULT
            return Exit(How.TRAPPED, EXIT_TRAPPED, FileError(row, "", detail), trace)
        assert outcome is not None
        if not outcome.trap:
            return Exit(How.EXITED, 0)
        row = E.NOMEM if outcome.refused else E.TRAP
        detail = outcome.trap
        if not outcome.refused and self._fiber.memory_size >= self.limits.memory:
            detail = f"{detail}; {E.NOMEM.text}: {self.limits.memory}"
        return Exit(How.TRAPPED, EXIT_TRAPPED, FileError(row, "", detail), trace)


def drop(awaitable: Awaitable[Answer]) -> None:
    """Let go of what will never be awaited, or was."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    elif isinstance(awaitable, asyncio.Future):
        awaitable.cancel()


_slot = lru_cache(maxsize=1024)(Slot)


def resolve(module: Module, imports: Imports) -> tuple[list[Slot | None], list[HostCall]]:
    """The host functions in the order of the module's imports. Raises `FileError(NOIMPORT)` for what is not
    there."""
    slots: list[Slot | None] = []
    functions: list[HostCall] = []
    for wanted in module.imports:
        if wanted.type is None:
            slots.append(None)
            functions.append(_no_function)
            continue
        function = imports.get((wanted.module, wanted.name))
        subject = f"{wanted.module}.{wanted.name}"
        if function is None:
            raise FileError(E.NOIMPORT, subject)
        has = (function.params.lower(), function.result.lower())
        if not shimmable(wanted.type) or has != wanted.type:
            raise FileError(E.NOIMPORT, subject, f"{wanted.type.params}->{wanted.type.results}")
        slots.append(_slot(function.params, function.result))
        functions.append(function.call)
    return slots, functions


def _no_function(guest: Guest) -> None:
    """In the place of an import that is not a function."""
    raise Misuse(E.INVAL, "host call")
