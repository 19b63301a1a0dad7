"""Fibers: guests that each run on a stack of their own, through wasmtime's C API.

A `Fiber` runs until it has used up its slice, called a host function whose answer is not there yet, or ended.

Rules of use. Breaking one is memory corruption, not an exception, so the code raises `Misuse` where it can
tell:

- A fiber is polled by one thread at a time, never from inside a host call, never again after it ended.
- `delete` frees the future before the store; not while the fiber runs, not from inside any host call. Nothing
  else frees: there are no finalizers, native or Python's.
- A host call's callback lets no exception out. Its error result stands before it starts (see `shim`).
- A guest's memory may move when it grows, without notice: its base and size are asked for anew in every host call, and
  after every poll.
- `faulthandler.enable()` must come before the first engine, else a guest's bad memory access ends the whole
  node.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from ctypes import byref, c_void_p
from dataclasses import dataclass
from enum import Enum
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cognu.errors import E, FileError, Misuse
from cognu.runtime import shim
from cognu.runtime.capi import EXTERN_MEMORY, Callback, Extern, Instance, lib, must, reason, take_error, take_trap

if TYPE_CHECKING:
    from cognu.runtime.engine import Module

Value = int | float
MAX_TABLES: Final = 4
"""Of one guest."""


class Pending:
    """What a host call's handler returns when the answer will come by `Fiber.answer`."""


PENDING: Final = Pending()


class GuestFault(FileError):
    """A guest gave a pointer outside its memory. A host function may turn it into EFAULT; else it ends that
    guest."""

    def __init__(self, pointer: int, count: int) -> None:
        super().__init__(E.FAULT, "", f"{pointer:#x}+{count}")


class Step(Enum):
    """Why a fiber stopped running."""

    SLICE = "slice used up"
    CALL = "host call pending"
    ENDED = "ended"


class Outcome(NamedTuple):
    """How a fiber ended. `trap` is "" if `_start` returned, else why not; `trace` is wasmtime's whole
    message, with the guest's stack. `refused` means that the limits or the machine do not allow the program
    to start."""

    trap: str
    trace: str
    refused: bool


_NO_MEMORY: Final = memoryview(bytearray())
_RETURNED: Final = Outcome("", "", False)


@dataclass(frozen=True)
class Bounds:
    """What a fiber's store may hold: bytes of memory, elements of each of at most `MAX_TABLES` tables."""

    memory: int
    table_elements: int


class Slot:
    """How one import's values lie in the array of a host call: 16 bytes each, the status before the rest.

    `params` and `result` have a letter per value as in `struct`: i I q Q f d (capital: unsigned).
    """

    __slots__ = ("arguments", "has_result", "reply")

    def __init__(self, params: str, result: str) -> None:
        pad = {"i": "12x", "I": "12x", "f": "12x", "q": "8x", "Q": "8x", "d": "8x"}
        arguments = struct.Struct("<16x" + "".join(letter + pad[letter] for letter in params))
        reply = struct.Struct("<i12x" + "".join(letter + pad[letter] for letter in result))
        self.arguments = arguments.unpack_from  # the methods themselves: they are called at every host call
        self.reply = reply.pack
        self.has_result = bool(result)


class _Out(ctypes.Structure):
    """What a call in progress reads (`start`) and where it leaves its results. Must live as long as its
    future, which looks at it again at every poll."""

    _fields_ = (("trap", c_void_p), ("error", c_void_p), ("instance", Instance), ("start", Extern))


# The trap is the first of it, so where that goes is the whole's own address.
_ERROR, _INSTANCE, _START = _Out.error.offset, _Out.instance.offset, _Out.start.offset
_OF = Extern.of.offset


Handler = Callable[[int, tuple[Value, ...]], Value | Pending | None]
"""Serves a host call: (place in `Module.imports`, arguments) -> the result, None if it has none, or
PENDING."""


def _gone(_place: int, _arguments: tuple[Value, ...]) -> None:
    raise Misuse(E.BADF, "fiber")


class Fiber:
    """One guest on a stack of its own. Made suspended; `poll` runs it.

    First it is instantiated (which runs the program's own start function, if any), then `_start` is called.
    """

    __slots__ = (
        "_answer",
        "_base",
        "_bounds",
        "_context",
        "_future",
        "_linker",
        "_memory",
        "_memory_ref",
        "_out",
        "_phase",
        "_polling",
        "_size",
        "_slots",
        "_store",
        "_view",
        "_waiting",
        "fault",
        "handler",
        "module",
        "outcome",
    )

    def __init__(self, module: Module, slots: Sequence[Slot | None], bounds: Bounds, handler: Handler) -> None:
        """`slots` go with `module.imports`. `handler` may be replaced between polls, for another thread say. Raises
        `Misuse` if the module is closed."""
        module._alive()
        self.module = module
        self.outcome: Outcome | None = None
        self.fault: BaseException | None = None
        self._slots = slots
        self._bounds = bounds
        self.handler = handler
        self._store = self._context = self._linker = self._future = 0
        self._memory = Extern()
        self._memory_ref: Any = None
        self._view = _NO_MEMORY  # all of the memory, as it was when `_size` was found
        self._base = 0
        self._size = -1  # of the memory; -1: to be looked up
        self._out = _Out()
        self._phase = 0
        self._polling = False
        self._waiting = False
        self._answer: tuple[Value | None] | None = None
        module.users += 1
        module.engine._fibers.add(self)

    def poll(self) -> Step:
        """Run until the slice is over, a host call has to wait, or the end. Any thread, one at a time."""
        thread = get_ident()
        if self.outcome is not None or self._polling or thread in running:
            raise Misuse(E.ALREADY, "fiber")
        # Stays True if an exception comes between a future's end and our note of it: polling again would
        # abort.
        self._polling = True
        busy = self.module.engine._busy
        running[thread] = self
        try:
            if not busy.is_set():
                busy.set()
            step = self._run()
        finally:
            del running[thread]
            self._size = -1
        self._polling = False
        return step

    def answer(self, value: Value | None) -> None:
        """The answer to the host call that waits; the next `poll` hands it over. Raises `Misuse` if none
        waits."""
        if not self._waiting or self._answer is not None:
            raise Misuse(E.ALREADY, "fiber")
        self._answer = (value,)

    def delete(self) -> None:
        """Free everything. Not while it runs, not from inside a host call of any fiber (`Misuse`). Twice is
        fine."""
        if self._phase < 0:
            return
        if get_ident() in running or self in running.values():
            raise Misuse(E.BUSY, "fiber")
        self._phase = self._size = -1
        self._memory_ref = None
        self._view = _NO_MEMORY
        self.handler = _gone
        self._end_future()
        if self._linker:
            lib.wasmtime_linker_delete(self._linker)
        if self._store:
            lib.wasmtime_store_delete(self._store)
        self._store = self._context = self._linker = 0
        self.module.engine._fibers.discard(self)
        self.module.users -= 1

    # The guest's memory

    @property
    def memory_size(self) -> int:
        """Bytes; 0 before instantiation and after deletion."""
        size = self._size if self._size >= 0 else self._look()
        return size if size > 0 else 0

    def read(self, pointer: int, count: int) -> bytes:
        """A copy. Raises `GuestFault`."""
        size = self._size if self._size >= 0 else self._look()
        if pointer < 0 or count < 0 or pointer + count > size:
            raise GuestFault(pointer, count)
        return bytes(self._view[pointer : pointer + count])

    def view(self, pointer: int, count: int) -> memoryview:
        """The bytes themselves, to read and write. Good only until the host function returns or awaits: the
        memory may move as soon as the guest runs. Raises `GuestFault`."""
        size = self._size if self._size >= 0 else self._look()
        if pointer < 0 or count < 0 or pointer + count > size:
            raise GuestFault(pointer, count)
        return self._view[pointer : pointer + count]

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        """Raises `GuestFault`; then nothing was written."""
        source = data if type(data) is bytes else memoryview(data).cast("B")
        count = len(source)
        size = self._size if self._size >= 0 else self._look()
        if pointer < 0 or pointer + count > size:
            raise GuestFault(pointer, count)
        self._view[pointer : pointer + count] = source

    def _look(self) -> int:
        """The memory's size in bytes now, for which `_view` is then right; -1 if there is no memory."""
        reference = self._memory_ref
        if reference is None:
            return -1
        size: int = lib.wasmtime_memory_data_size(self._context, reference)
        base: int = lib.wasmtime_memory_data(self._context, reference) or 0
        if base != self._base or size != len(self._view):
            self._base = base
            self._view = lib.memory_view(base, size, 0x200) if size else _NO_MEMORY  # PyBUF_WRITE
        self._size = size
        return size

    # Running

    def _run(self) -> Step:
        if self._context:
            lib.wasmtime_context_set_epoch_deadline(self._context, 1)
        while True:
            if not self._future and not self._next_phase():
                return Step.ENDED
            if not lib.wasmtime_call_future_poll(self._future):
                # The slice may be over before the shim has fetched an answer that is there.
                return Step.CALL if self._waiting and self._answer is None else Step.SLICE
            if not self._phase_done():
                return Step.ENDED

    def _next_phase(self) -> bool:
        """Begin the program's instantiation, then `_start`. False if it fails."""
        out = self._out
        if self._phase == 0:
            if not self._open_store():
                return False
            self._future = lib.wasmtime_linker_instantiate_async(
                self._linker, self._context, self.module._alive(), byref(out, _INSTANCE), byref(out), byref(out, _ERROR)
            )
        else:
            lib.wasmtime_instance_export_get(self._context, byref(out, _INSTANCE), b"_start", 6, byref(out, _START))
            self._future = lib.wasmtime_func_call_async(
                self._context, byref(out, _START + _OF), None, 0, None, 0, byref(out), byref(out, _ERROR)
            )
        self._phase += 1
        return True

    def _open_store(self) -> bool:
        """The store, with the shims and an imported memory in it. False, and the outcome says why, if they may not be.

        No code of the guest's runs here, so nothing of it has to be able to suspend; only after this is the store
        told to yield, from when on it takes asynchronous calls alone.
        """
        engine, shims, bounds = self.module.engine._alive(), self.module._shims, self._bounds
        self._store = store = lib.wasmtime_store_new(engine, None, None)
        self._context = context = lib.wasmtime_store_context(store)
        lib.wasmtime_store_limiter(store, bounds.memory, bounds.table_elements, len(shims) + 1, MAX_TABLES, 1)
        self._linker = linker = lib.wasmtime_linker_new(engine)
        out = self._out
        instance = byref(out, _INSTANCE)
        for part in shims:
            error = lib.wasmtime_instance_pre_instantiate(part.pre, context, instance, byref(out))
            if error or out.trap:
                self._fail(take_error(error) if error else take_trap(out.trap), True)
                return False
            name = part.import_module
            must(lib.wasmtime_linker_define_instance(linker, context, name, len(name), instance))
        if self.module.memory_import is not None and not self._make_memory(*self.module.memory_import):
            return False
        lib.wasmtime_context_epoch_deadline_async_yield_and_update(context, 1)
        lib.wasmtime_context_set_epoch_deadline(context, 1)
        return True

    def _make_memory(self, module: str, name: str) -> bool:
        memory = self._memory
        handle = byref(memory, _OF)
        error = lib.wasmtime_memory_new(self._context, self.module._memory_type, handle)
        if error:
            self._fail(take_error(error), True)
            return False
        memory.kind = EXTERN_MEMORY
        self._memory_ref = handle
        words = module.encode(), name.encode()
        sizes = len(words[0]), len(words[1])
        must(
            lib.wasmtime_linker_define(
                self._linker, self._context, words[0], sizes[0], words[1], sizes[1], byref(memory)
            )
        )
        return True

    def _phase_done(self) -> bool:
        """A future has ended: look at how, and free it. False if the fiber is at its end."""
        out = self._out
        trap, error = out.trap, out.error
        self._end_future()
        if trap or error:
            out.trap = out.error = None
            self._fail(take_trap(trap) if trap else take_error(error), not trap)
            return False
        if self._phase > 1:
            self.outcome = _RETURNED
            return False
        if self._memory_ref is None:
            self._memory_ref = self._exported_memory()
        return True

    def _exported_memory(self) -> Any:
        instance = byref(self._out, _INSTANCE)
        lib.wasmtime_instance_export_get(self._context, instance, b"memory", 6, byref(self._memory))
        return byref(self._memory, _OF)

    def _fail(self, message: str, refused: bool) -> None:
        self.outcome = Outcome(reason(message), message, refused)

    def _end_future(self) -> None:
        if self._future:
            future, self._future = self._future, 0
            lib.wasmtime_call_future_delete(future)

    def _fetch(self) -> Value | Pending | None:
        """The answer to the call that waits, if it has come."""
        if self._answer is None:
            return PENDING
        (value,) = self._answer
        self._answer = None
        self._waiting = False
        return value

    def _suspend(self) -> bytes:
        self._waiting = True
        # The shim's next function entry finds its time used up and suspends.
        lib.wasmtime_context_set_epoch_deadline(self._context, 0)
        return _PENDING_REPLY


_DONE: Final = shim.DONE
_PENDING_REPLY = struct.pack("<i", shim.PENDING)
_DONE_REPLY = struct.pack("<i", shim.DONE)

_Values = ctypes.c_char * (16 * 1024)
"""Room for more values than a function can have (1000, Wasm's JavaScript interface, limits); how many there are says
the slot, and nothing beyond is touched."""
_KEPT = 4096
_values: dict[int, ctypes.Array[ctypes.c_char]] = {}
"""The array at an address, made once: a guest's calls mostly come from the same depth of its stack. It is looked at
only while a host call has its values at that very address."""


def _values_at(address: int) -> ctypes.Array[ctypes.c_char]:
    if len(_values) >= _KEPT:
        _values.clear()
    array = _values[address] = _Values.from_address(address)
    return array


running: dict[int, Fiber] = {}
"""The fiber that each thread runs now, by the thread's number; an entry is touched by its own thread only."""


@Callback  # type: ignore[untyped-decorator]
def host_call(place: int, _caller: int, address: int, _length: int) -> int:
    """FAILED stands in the reply's place until the one copy that is the last step. (`pack_into` would not do: it leaves
    the status written when it refuses the result.)"""
    try:
        fiber = running[get_ident()]
        if fiber.fault is not None:
            return 0
        fiber._size = -1
        try:
            slot = fiber._slots[place]
            assert slot is not None
            array = _values.get(address)
            if array is None:
                array = _values_at(address)
            value = fiber._fetch() if fiber._waiting else fiber.handler(place, slot.arguments(array))
            if value is PENDING:
                reply = fiber._suspend()
            elif slot.has_result:
                reply = slot.reply(_DONE, value)
            elif value is None:
                reply = _DONE_REPLY
            else:
                raise TypeError(value)
            array.raw = reply
        except BaseException as error:  # whatever it is, it ends this guest and nothing else
            fiber.fault = error
    except BaseException:  # an interrupt in the handler above; FAILED still stands, so the guest ends all the same
        pass
    return 0
