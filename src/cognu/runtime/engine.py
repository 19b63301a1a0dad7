"""Wasmtime through its C API: the one module (with its table of functions, `capi`) that sees ctypes.

What it gives: an `Engine` that compiles modules, a `Module`, and a `Fiber`: one guest that runs on a stack of
its own until it has used up its slice, called a host function whose answer is not there yet, or ended.
Nothing here knows an event loop, states or files; `scheduler` does.

Rules of use. Breaking one is memory corruption, not an exception, so the code raises `Misuse` where it can
tell:

- A fiber is polled by one thread at a time, never from inside a host call, never again after it ended.
- `delete` frees the future before the store; not while the fiber runs, not from inside any host call. Nothing
  else frees: there are no finalizers, native or Python's.
- A host call's callback lets no exception out. Its error result stands before it starts (see `shim`).
- A guest's memory may move when it grows, without notice: its base and size are asked for at every access.
- `faulthandler.enable()` must come before the first engine, else a guest's bad memory access ends the whole
  node.

Sources: wasmtime's C API manual, wasm.h (the Wasm C API proposal); the costs behind the choices are measured.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from ctypes import byref, c_uint64, c_void_p
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from cognu.errors import E, FileError, Misuse
from cognu.runtime import shim
from cognu.runtime.capi import (
    EXTERN_MEMORY,
    VALUE_LETTER,
    Bytes,
    Callback,
    Extern,
    Instance,
    Vector,
    lib,
    must,
    reason,
    take_error,
    take_trap,
    text_of,
)
from cognu.runtime.shim import FunctionType

Value = int | float
PAGE = 65536


# Engine and modules


@dataclass(frozen=True)
class Settings:
    """What an engine is built with. Sizes in bytes, times in seconds. `host.settings()` fits them to the
    machine."""

    tick: float = 0.002
    wasm_stack: int = 512 << 10
    fiber_stack: int = 2 << 20
    memory_reservation: int = 4 << 30
    memory_growth: int = 2 << 30
    memory_guard: int = 32 << 20
    max_guests: int = 4096

    def __post_init__(self) -> None:
        # A host function runs on the fiber's stack, below the guest; Python needs room there.
        if self.fiber_stack < self.wasm_stack + (1 << 20):
            raise Misuse(E.INVAL, "fiber_stack", f"{self.fiber_stack} < {self.wasm_stack} + {1 << 20}")
        if self.tick <= 0 or self.max_guests < 1:
            raise Misuse(E.INVAL, "settings")


class Import(NamedTuple):
    """`kind` is func, global, table, memory or tag; `type` only for func, with `?` for a type no host
    function takes."""

    module: str
    name: str
    kind: str
    type: FunctionType | None


class Export(NamedTuple):
    name: str
    kind: str
    type: FunctionType | None


_KINDS = ("func", "global", "table", "memory", "tag")


class Counts(NamedTuple):
    """How many native objects are alive, to show that nothing leaks."""

    modules: int
    fibers: int


class Engine:
    """A Wasmtime engine and the thread that ticks its epoch while any fiber runs.

    `compile` and `load` block for long: call them in a thread. Everything else is quick.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.version = lib.version
        self._modules: set[Module] = set()
        self._fibers: set[Fiber] = set()
        self._native: int | None = lib.wasm_engine_new_with_config(_config(self.settings))
        if not self._native:
            raise FileError(E.ENGINE, "wasmtime", repr(self.settings))
        self._busy = threading.Event()
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._tick_along, name="cognu-epoch", daemon=True)
        self._ticker.start()

    @property
    def configuration(self) -> str:
        """Everything that compiled code depends on beside the program; part of the compile cache's key."""
        return f"wasmtime {self.version} {sys.platform} {platform.machine()} {self.settings!r}"

    @property
    def counts(self) -> Counts:
        return Counts(len(self._modules), len(self._fibers))

    def compile(self, wasm: bytes) -> Module:
        """Compile a core module; blocks for about half a second per megabyte.

        Raises `FileError`: NOEXEC if `wasm` is not WebAssembly at all, BADPROGRAM if it is not a valid core
        module.
        """
        if wasm[:4] != b"\0asm":
            raise FileError(E.NOEXEC)
        made = c_void_p()
        error = lib.wasmtime_module_new(self._alive(), wasm, len(wasm), byref(made))
        if error:
            raise FileError(E.BADPROGRAM, "", reason(take_error(error)))
        return self._adopt(made)

    def load(self, data: bytes) -> Module:
        """A module from what `Module.serialize` gave. The bytes hold native code: they must come from a
        trusted place.

        Raises `FileError(BADPROGRAM)` if they are for another engine or configuration.
        """
        made = c_void_p()
        error = lib.wasmtime_module_deserialize(self._alive(), data, len(data), byref(made))
        if error:
            raise FileError(E.BADPROGRAM, "", reason(take_error(error)))
        return self._adopt(made)

    def tick(self) -> None:
        """End every running slice at its next check: what makes a kill of a running guest take effect."""
        lib.wasmtime_engine_increment_epoch(self._alive())

    def close(self) -> None:
        """Free the engine and its modules. Raises `Misuse` while fibers are left. May be called twice."""
        if self._native is None:
            return
        if self._fibers:
            raise Misuse(E.BUSY, "engine", f"{len(self._fibers)} fibers")
        self._closing.set()
        self._busy.set()
        self._ticker.join()
        for module in list(self._modules):
            module.close()
        native, self._native = self._native, None
        lib.wasm_engine_delete(native)

    def _adopt(self, made: c_void_p) -> Module:
        assert made.value is not None
        module = Module(self, made.value)
        self._modules.add(module)
        try:
            module._prepare()
        except BaseException:
            module.close()
            raise
        return module

    def _alive(self) -> int:
        if self._native is None:
            raise Misuse(E.BADF, "engine")
        return self._native

    def _tick_along(self) -> None:
        """Ticks only while a fiber runs, so that an idle node sleeps. A poll registers in `_running` before
        it looks at `_busy`, and here it is cleared before `_running` is looked at, so none is missed."""
        while not self._closing.is_set():
            self._busy.wait()
            if self._closing.wait(self.settings.tick):
                return
            lib.wasmtime_engine_increment_epoch(self._native)
            self._busy.clear()
            if _running or self._closing.is_set():
                self._busy.set()


def _config(settings: Settings) -> int:
    config: int = lib.wasm_config_new()
    lib.wasmtime_config_epoch_interruption_set(config, True)
    # Record, replay and moving programs need every run to be the same.
    lib.wasmtime_config_cranelift_nan_canonicalization_set(config, True)
    lib.wasmtime_config_wasm_relaxed_simd_deterministic_set(config, True)
    # Not offered: threads (not deterministic), 64-bit or several memories (the limits count one of at most 4
    # GiB), the collector (its heap would escape the limits).
    lib.wasmtime_config_wasm_threads_set(config, False)
    lib.wasmtime_config_shared_memory_set(config, False)
    lib.wasmtime_config_wasm_memory64_set(config, False)
    lib.wasmtime_config_wasm_multi_memory_set(config, False)
    lib.wasmtime_config_wasm_component_model_set(config, False)
    lib.wasmtime_config_wasm_custom_page_sizes_set(config, False)
    lib.wasmtime_config_wasm_gc_set(config, False)
    lib.wasmtime_config_max_wasm_stack_set(config, settings.wasm_stack)
    lib.wasmtime_config_async_stack_size_set(config, settings.fiber_stack)
    lib.wasmtime_config_memory_may_move_set(config, True)
    lib.wasmtime_config_memory_reservation_set(config, settings.memory_reservation)
    lib.wasmtime_config_memory_reservation_for_growth_set(config, settings.memory_growth)
    lib.wasmtime_config_memory_guard_size_set(config, settings.memory_guard)
    return config


class _Shim(NamedTuple):
    """The shim for the imports from one module name. `pre` is it with the host functions already linked
    in."""

    import_module: bytes
    module: int
    linker: int
    pre: int


class Module:
    """A compiled program. Made by `Engine.compile` and `Engine.load`; `close` frees it."""

    def __init__(self, engine: Engine, native: int) -> None:
        self.engine = engine
        self.imports: tuple[Import, ...] = ()
        self.exports: tuple[Export, ...] = ()
        self.memory_minimum = 0
        self.memory_maximum = 0
        """Bytes the program's memory has at the start and may have at most, as it declares; 4 GiB if it says
        nothing."""
        self.memory_import: tuple[str, str] | None = None
        self.users = 0
        self._native: int | None = native
        self._import_types, self._export_types = Vector(), Vector()
        self._memory_type = 0
        self._shims: list[_Shim] = []

    def serialize(self) -> bytes:
        """The compiled form, for `Engine.load`. Tens of megabytes for a large program."""
        out = Bytes()
        error = lib.wasmtime_module_serialize(self._alive(), byref(out))
        if error:
            raise FileError(E.IO, "", reason(take_error(error)))
        data = ctypes.string_at(out.data, out.size)
        lib.wasm_byte_vec_delete(byref(out))
        return data

    def check_command(self) -> None:
        """Raises `FileError(BADPROGRAM)` unless this is a command: it exports `_start`, of no arguments and
        results, and its memory is exported as `memory` or imported, and all else that it imports is
        functions."""
        start = next((e for e in self.exports if e.name == "_start"), None)
        if start is None or start.type != FunctionType("", ""):
            raise FileError(E.NOSTART)
        exported = any(e.name == "memory" and e.kind == "memory" for e in self.exports)
        if self.memory_import is None and not exported:
            raise FileError(E.NOMEMORY)
        for wanted in self.imports:
            if wanted.kind not in ("func", "memory"):
                raise FileError(E.NOIMPORT, f"{wanted.module}.{wanted.name}", wanted.kind)

    def close(self) -> None:
        """Free it; fibers made from it must be gone (`Misuse`). May be called twice."""
        if self._native is None:
            return
        if self.users:
            raise Misuse(E.BUSY, "module", f"{self.users} fibers")
        native, self._native = self._native, None
        self.engine._modules.discard(self)
        lib.wasm_importtype_vec_delete(byref(self._import_types))
        lib.wasm_exporttype_vec_delete(byref(self._export_types))
        for part in self._shims:
            _free_shim(part)
        self._shims.clear()
        lib.wasmtime_module_delete(native)

    def _alive(self) -> int:
        if self._native is None:
            raise Misuse(E.BADF, "module")
        return self._native

    def _prepare(self) -> None:
        lib.wasmtime_module_imports(self._native, byref(self._import_types))
        lib.wasmtime_module_exports(self._native, byref(self._export_types))
        imports, exports = [], []
        for n in range(self._import_types.size):
            item = self._import_types.data[n]
            module = text_of(lib.wasm_importtype_module(item).contents)
            name = text_of(lib.wasm_importtype_name(item).contents)
            kind, of = self._describe(lib.wasm_importtype_type(item))
            imports.append(Import(module, name, kind, of))
            if kind == "memory":
                self.memory_import = (module, name)
                self._memory_type = lib.wasm_externtype_as_memorytype_const(lib.wasm_importtype_type(item))
        for n in range(self._export_types.size):
            item = self._export_types.data[n]
            kind, of = self._describe(lib.wasm_exporttype_type(item))
            exports.append(Export(text_of(lib.wasm_exporttype_name(item).contents), kind, of))
        self.imports, self.exports = tuple(imports), tuple(exports)
        self._build_shims()

    def _describe(self, extern: int) -> tuple[str, FunctionType | None]:
        kind = _KINDS[lib.wasm_externtype_kind(extern)]
        if kind == "func":
            function = lib.wasm_externtype_as_functype_const(extern)
            params = _letters(lib.wasm_functype_params(function))
            return kind, FunctionType(params, _letters(lib.wasm_functype_results(function)))
        if kind == "memory":
            # At most one memory exists, so an imported one that is exported too is the same.
            memory = lib.wasm_externtype_as_memorytype_const(extern)
            most = c_uint64()
            limited = lib.wasmtime_memorytype_maximum(memory, byref(most))
            self.memory_minimum = lib.wasmtime_memorytype_minimum(memory) * PAGE
            self.memory_maximum = most.value * PAGE if limited else PAGE * PAGE
        return kind, None

    def _build_shims(self) -> None:
        """One shim per module name; the host functions in it are told apart by their place in `imports`."""
        places: dict[str, dict[str, int]] = {}
        for place, wanted in enumerate(self.imports):
            if wanted.type is None or not shimmable(wanted.type):
                continue
            known = places.setdefault(wanted.module, {}).setdefault(wanted.name, place)
            if self.imports[known].type != wanted.type:
                raise FileError(E.NOIMPORT, f"{wanted.module}.{wanted.name}")
        for name, functions in places.items():
            self._shims.append(self._build_shim(name, functions))

    def _build_shim(self, name: str, functions: dict[str, int]) -> _Shim:
        types_of = {f: self.imports[place].type or FunctionType("", "") for f, place in functions.items()}
        binary = shim.build([shim.ShimFunction(f, kind) for f, kind in types_of.items()])
        engine = self.engine._alive()
        made, pre = c_void_p(), c_void_p()
        must(lib.wasmtime_module_new(engine, binary, len(binary), byref(made)))
        linker = lib.wasmtime_linker_new(engine)
        types = Vector()
        lib.wasmtime_module_imports(made, byref(types))
        try:
            for n, place in enumerate(functions.values()):
                kind = lib.wasm_externtype_as_functype_const(lib.wasm_importtype_type(types.data[n]))
                field = str(n).encode()
                must(lib.wasmtime_linker_define_func_unchecked(
                    linker, b"host", 4, field, len(field), kind, _host_call, place, None))
            must(lib.wasmtime_linker_instantiate_pre(linker, made, byref(pre)))
        finally:
            lib.wasm_importtype_vec_delete(byref(types))
        assert made.value is not None
        assert pre.value is not None
        return _Shim(name.encode(), made.value, linker, pre.value)


def shimmable(kind: FunctionType) -> bool:
    """True if a host function can have this type: numbers only, one result at most."""
    return "?" not in kind.params + kind.results and len(kind.results) <= 1


def _free_shim(part: _Shim) -> None:
    lib.wasmtime_instance_pre_delete(part.pre)
    lib.wasmtime_linker_delete(part.linker)
    lib.wasmtime_module_delete(part.module)


def _letters(vector: Any) -> str:
    held = vector.contents
    return "".join(VALUE_LETTER.get(lib.wasm_valtype_kind(held.data[n]), "?") for n in range(held.size))


# Fibers


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


@dataclass(frozen=True)
class Bounds:
    """What a fiber's store may hold: bytes of memory, elements of each of at most four tables."""

    memory: int
    table_elements: int


class Slot:
    """How one import's values lie in the array of a host call: 16 bytes each, the status before the rest.

    `params` and `result` have a letter per value as in `struct`: i I q Q f d (capital: unsigned).
    """

    __slots__ = ("arguments", "buffer", "has_result", "reply")

    def __init__(self, params: str, result: str) -> None:
        pad = {"i": "12x", "I": "12x", "f": "12x", "q": "8x", "Q": "8x", "d": "8x"}
        self.arguments = struct.Struct("<16x" + "".join(letter + pad[letter] for letter in params))
        self.reply = struct.Struct("<i12x" + "".join(letter + pad[letter] for letter in result))
        self.has_result = bool(result)
        self.buffer = ctypes.c_char * self.arguments.size


class _Out(ctypes.Structure):
    """What a call in progress reads (`start`) and where it leaves its results. Must live as long as its
    future, which looks at it again at every poll."""

    _fields_ = (("trap", c_void_p), ("error", c_void_p), ("instance", Instance), ("start", Extern))


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
        "_answer", "_bounds", "_context", "_future", "_handler", "_linker", "_memory", "_memory_ref", "_out", "_phase",
        "_polling", "_slots", "_store", "_waiting", "fault", "module", "outcome",
    )

    def __init__(self, module: Module, slots: Sequence[Slot | None], bounds: Bounds, handler: Handler) -> None:
        """`slots` go with `module.imports`. Raises `Misuse` if the module is closed."""
        module._alive()
        self.module = module
        self.outcome: Outcome | None = None
        self.fault: BaseException | None = None
        self._slots = slots
        self._bounds = bounds
        self._handler = handler
        self._store = self._context = self._linker = self._future = 0
        self._memory = Extern()
        self._memory_ref: Any = None
        self._out = _Out()
        self._phase = 0
        self._polling = False
        self._waiting = False
        self._answer: tuple[Value | None] | None = None
        module.users += 1
        module.engine._fibers.add(self)

    def poll(self) -> Step:
        """Run until the slice is over, a host call has to wait, or the end. Any thread, one at a time."""
        thread = threading.get_ident()
        if self.outcome is not None or self._polling or thread in _running:
            raise Misuse(E.ALREADY, "fiber")
        # Stays True if an exception comes between a future's end and our note of it: polling again would
        # abort.
        self._polling = True
        busy = self.module.engine._busy
        _running[thread] = self
        try:
            if not busy.is_set():
                busy.set()
            step = self._run()
        finally:
            del _running[thread]
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
        if threading.get_ident() in _running or self in _running.values():
            raise Misuse(E.BUSY, "fiber")
        self._phase = -1
        self._memory_ref = None
        self._handler = _gone
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
        if self._memory_ref is None:
            return 0
        size: int = lib.wasmtime_memory_data_size(self._context, self._memory_ref)
        return size

    def read(self, pointer: int, count: int) -> bytes:
        """A copy. Raises `GuestFault`."""
        return ctypes.string_at(self._at(pointer, count), count)

    def view(self, pointer: int, count: int) -> memoryview:
        """The bytes themselves, to read and write. Good only until the host function returns or awaits: the
        memory may move as soon as the guest runs. Raises `GuestFault`."""
        view: memoryview = lib.memory_view(self._at(pointer, count), count, 0x200)  # PyBUF_WRITE
        return view

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        """Raises `GuestFault`; then nothing was written."""
        if type(data) is bytes:
            ctypes.memmove(self._at(pointer, len(data)), data, len(data))
            return
        source = memoryview(data).cast("B")
        with self.view(pointer, len(source)) as target:
            target[:] = source

    def _at(self, pointer: int, count: int) -> int:
        reference = self._memory_ref
        if reference is None:
            raise GuestFault(pointer, count)
        size = lib.wasmtime_memory_data_size(self._context, reference)
        if pointer < 0 or count < 0 or pointer + count > size:
            raise GuestFault(pointer, count)
        base: int = lib.wasmtime_memory_data(self._context, reference) or 0
        return base + pointer

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
        """Begin the shims one by one, then the program's instantiation, then `_start`. False if that is all,
        or it fails."""
        out, shims = self._out, self.module._shims
        trap, error = byref(out, _Out.trap.offset), byref(out, _Out.error.offset)
        instance = byref(out, _Out.instance.offset)
        if self._phase == 0 and not self._open_store():
            return False
        if self._phase < len(shims):
            self._future = lib.wasmtime_instance_pre_instantiate_async(
                shims[self._phase].pre, self._context, instance, trap, error)
        elif self._phase == len(shims):
            self._future = lib.wasmtime_linker_instantiate_async(
                self._linker, self._context, self.module._alive(), instance, trap, error)
        else:
            start = _Out.start.offset
            lib.wasmtime_instance_export_get(self._context, instance, b"_start", 6, byref(out, start))
            self._future = lib.wasmtime_func_call_async(
                self._context, byref(out, start + Extern.of.offset), None, 0, None, 0, trap, error)
        self._phase += 1
        return True

    def _open_store(self) -> bool:
        engine = self.module.engine._alive()
        self._store = lib.wasmtime_store_new(engine, None, None)
        self._context = lib.wasmtime_store_context(self._store)
        shims = self.module._shims
        bounds = self._bounds
        lib.wasmtime_store_limiter(self._store, bounds.memory, bounds.table_elements, len(shims) + 1, 4, 1)
        lib.wasmtime_context_epoch_deadline_async_yield_and_update(self._context, 1)
        lib.wasmtime_context_set_epoch_deadline(self._context, 1)
        self._linker = lib.wasmtime_linker_new(engine)
        if self.module.memory_import is None:
            return True
        memory = self._memory
        handle = byref(memory, Extern.of.offset)
        error = lib.wasmtime_memory_new(self._context, self.module._memory_type, handle)
        if error:
            self._fail(take_error(error), True)
            return False
        memory.kind = EXTERN_MEMORY
        self._memory_ref = handle
        module, name = (part.encode() for part in self.module.memory_import)
        must(lib.wasmtime_linker_define(
            self._linker, self._context, module, len(module), name, len(name), byref(memory)))
        return True

    def _phase_done(self) -> bool:
        """A future has ended: look at how, and free it. False if the fiber is at its end."""
        out = self._out
        trap, error = out.trap, out.error
        out.trap = out.error = None
        self._end_future()
        shims = self.module._shims
        if trap or error:
            self._fail(take_trap(trap) if trap else take_error(error), not trap)
            return False
        if self._phase <= len(shims):
            name = shims[self._phase - 1].import_module
            must(lib.wasmtime_linker_define_instance(
                self._linker, self._context, name, len(name), byref(out, _Out.instance.offset)))
        elif self._phase == len(shims) + 1:
            if self._memory_ref is None:
                self._memory_ref = self._exported_memory()
        else:
            self.outcome = Outcome("", "", False)
            return False
        return True

    def _exported_memory(self) -> Any:
        instance = byref(self._out, _Out.instance.offset)
        lib.wasmtime_instance_export_get(self._context, instance, b"memory", 6, byref(self._memory))
        return byref(self._memory, Extern.of.offset)

    def _fail(self, message: str, refused: bool) -> None:
        self.outcome = Outcome(reason(message), message, refused)

    def _end_future(self) -> None:
        if self._future:
            future, self._future = self._future, 0
            lib.wasmtime_call_future_delete(future)

    def _serve(self, place: int, address: int) -> None:
        """A host call. FAILED stands in the reply's place until the one copy that is the last step.

        (`pack_into` would not do: it leaves the status written when it refuses the result.)
        """
        slot = self._slots[place]
        assert slot is not None
        if not self._waiting:
            value = self._handler(place, slot.arguments.unpack_from(slot.buffer.from_address(address)))
        elif self._answer is not None:
            (value,) = self._answer
            self._answer = None
            self._waiting = False
        else:
            value = PENDING
        if value is PENDING:
            self._waiting = True
            # The shim's next function entry finds its time used up and suspends.
            lib.wasmtime_context_set_epoch_deadline(self._context, 0)
            reply = _PENDING_REPLY
        elif slot.has_result:
            reply = slot.reply.pack(shim.DONE, value)
        elif value is None:
            reply = _DONE_REPLY
        else:
            raise TypeError(value)
        ctypes.memmove(address, reply, len(reply))


_PENDING_REPLY = struct.pack("<i", shim.PENDING)
_DONE_REPLY = struct.pack("<i", shim.DONE)

_running: dict[int, Fiber] = {}
"""The fiber that each thread runs now, by the thread's number; an entry is touched by its own thread only."""


@Callback  # type: ignore[untyped-decorator]
def _host_call(place: int, _caller: int, address: int, _length: int) -> int:
    try:
        fiber = _running[threading.get_ident()]
        if fiber.fault is not None:
            return 0
        try:
            fiber._serve(place, address)
        except BaseException as error:  # whatever it is, it ends this guest and nothing else
            fiber.fault = error
    except BaseException:  # an interrupt in the handler above; FAILED still stands, so the guest ends all the same
        pass
    return 0
