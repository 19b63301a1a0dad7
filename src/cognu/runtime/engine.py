"""Wasmtime's engine and modules, through its C API.

This module, `fiber` and their table of functions, `capi`, are the only ones that see ctypes. Nothing in them knows an
event loop, states or files; `scheduler` does.

Sources: wasmtime's C API manual, wasm.h (the Wasm C API proposal); the costs behind the choices are measured.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
import threading
from ctypes import byref, c_uint64, c_void_p
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from cognu.errors import E, FileError, Misuse
from cognu.runtime import shim
from cognu.runtime.capi import VALUE_LETTER, Bytes, Vector, lib, must, reason, take_error, text_of
from cognu.runtime.fiber import MAX_TABLES, Fiber, host_call, running
from cognu.runtime.shim import FunctionType

PAGE = 65536
MAX_TABLE_ELEMENTS = 1 << 18
"""Of each table; more than that no guest gets from a pool."""
WARM = 16
"""Places of a pool that stay mapped for the program that used them last, beyond those in use."""
_UNBOUNDED = (1 << 31) - 1


@dataclass(frozen=True)
class Settings:
    """What an engine is built with. Sizes in bytes, times in seconds. `host.settings()` fits them to the
    machine.

    `pooled`: stacks, memories and tables for `max_guests` are laid out at once, when the engine is made, and used
    again; a guest then starts several times as fast. Each memory's place is 4 GiB, whatever `memory_reservation`.
    """

    tick: float = 0.002
    wasm_stack: int = 512 << 10
    fiber_stack: int = 2 << 20
    memory_reservation: int = 4 << 30
    memory_growth: int = 2 << 30
    memory_guard: int = 32 << 20
    max_guests: int = 4096
    pooled: bool = False

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

    @cached_property
    def configuration(self) -> str:
        """Everything that compiled code depends on beside the program; part of the compile cache's key."""
        # The shims are kept with the program, so how they are built counts too.
        sample = shim.build([shim.ShimFunction("sample", FunctionType("iqfd", "i"))])
        # How many guests there may be, and whether their places are pooled, the code does not know.
        settings = replace(self.settings, tick=1, max_guests=1, pooled=False)
        return f"wasmtime {self.version} {sys.platform} {platform.machine()} {settings!r} {sample.hex()}"

    @property
    def counts(self) -> Counts:
        return Counts(len(self._modules), len(self._fibers))

    def compile(self, wasm: bytes) -> Module:
        """Compile a core module; blocks for about half a second per megabyte.

        Raises `FileError`: NOEXEC if `wasm` is not WebAssembly at all, BADPROGRAM if it is not a valid core module.
        """
        if wasm[:4] != b"\0asm":
            raise FileError(E.NOEXEC)
        return self._adopt(self._code(wasm, compiled=False), None)

    def load(self, data: bytes) -> Module:
        """A module from what `Module.serialize` gave. The bytes hold native code: they must come from a trusted place.

        Raises `FileError(BADPROGRAM)` if they are for another engine or configuration.
        """
        parts = _split(data)
        return self._adopt(self._code(parts[0], compiled=True), parts[1:])

    def _code(self, data: bytes, compiled: bool) -> int:
        """A native module from Wasm or from compiled code."""
        made = c_void_p()
        make = lib.wasmtime_module_deserialize if compiled else lib.wasmtime_module_new
        error = make(self._alive(), data, len(data), byref(made))
        if error:
            raise FileError(E.BADPROGRAM, "", reason(take_error(error)))
        assert made.value is not None
        return made.value

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

    def _adopt(self, native: int, shims: list[bytes] | None) -> Module:
        module = Module(self, native)
        self._modules.add(module)
        try:
            module._prepare(shims)
        except BaseException:
            module.close()
            raise
        return module

    def _alive(self) -> int:
        if self._native is None:
            raise Misuse(E.BADF, "engine")
        return self._native

    def _tick_along(self) -> None:
        """Ticks only while a fiber runs, so that an idle node sleeps. A poll registers in `running` before
        it looks at `_busy`, and here it is cleared before `running` is looked at, so none is missed."""
        while not self._closing.is_set():
            self._busy.wait()
            if self._closing.wait(self.settings.tick):
                return
            lib.wasmtime_engine_increment_epoch(self._native)
            self._busy.clear()
            if running or self._closing.is_set():
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
    if settings.pooled:
        _pool(config, settings)
    return config


def _pool(config: int, settings: Settings) -> None:
    """Wasmtime's pooling allocator: the addresses of all guests are mapped once, and each start finds them so.

    What a guest wrote is given back to the system at its end (nothing is kept resident), so the next one to use the
    place finds it as new. What only guards against mistakes of the embedder's is opened wide: `Bounds` and
    `max_guests` are the limits, and they refuse before the pool would.
    """
    most = settings.max_guests
    pool: int = lib.wasmtime_pooling_allocation_config_new()
    lib.wasmtime_pooling_allocation_config_total_stacks_set(pool, most)
    lib.wasmtime_pooling_allocation_config_total_memories_set(pool, most)
    lib.wasmtime_pooling_allocation_config_total_tables_set(pool, MAX_TABLES * most)
    lib.wasmtime_pooling_allocation_config_total_core_instances_set(pool, _UNBOUNDED)
    lib.wasmtime_pooling_allocation_config_max_core_instance_size_set(pool, _UNBOUNDED)
    lib.wasmtime_pooling_allocation_config_max_memory_size_set(pool, PAGE * PAGE)
    lib.wasmtime_pooling_allocation_config_max_tables_per_module_set(pool, MAX_TABLES)
    lib.wasmtime_pooling_allocation_config_table_elements_set(pool, MAX_TABLE_ELEMENTS)
    lib.wasmtime_pooling_allocation_config_max_unused_warm_slots_set(pool, WARM)
    lib.wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, 0)
    lib.wasmtime_pooling_allocation_config_table_keep_resident_set(pool, 0)
    lib.wasmtime_pooling_allocation_config_async_stack_keep_resident_set(pool, 0)
    lib.wasmtime_pooling_allocation_strategy_set(config, pool)
    lib.wasmtime_pooling_allocation_config_delete(pool)


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
        self._is_command = False  # until it was looked at
        self._native: int | None = native
        self._import_types, self._export_types = Vector(), Vector()
        self._memory_type = 0
        self._shims: list[_Shim] = []

    def serialize(self) -> bytes:
        """The compiled form, for `Engine.load`. Tens of megabytes for a large program."""
        natives = [self._alive(), *(part.module for part in self._shims)]
        return b"".join(_LENGTH.pack(len(code)) + code for code in map(_serialize, natives))

    def check_command(self) -> None:
        """Raises `FileError(BADPROGRAM)` unless this is a command: it exports `_start`, of no arguments and
        results, and its memory is exported as `memory` or imported, and all else that it imports is
        functions."""
        if not self._is_command:
            self._check_command()
            self._is_command = True

    def _check_command(self) -> None:
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

    def _prepare(self, shims: list[bytes] | None) -> None:
        """Look at the types and make the shims, from compiled code if there is any."""
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
        names = self._shimmed()
        if shims is not None and len(shims) != len(names):
            raise FileError(E.BADPROGRAM, "", f"{len(shims)} != {len(names)}")
        for n, (name, functions) in enumerate(names.items()):
            self._shims.append(self._build_shim(name, functions, shims[n] if shims is not None else None))

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

    def _shimmed(self) -> dict[str, dict[str, int]]:
        """The functions imported from each module name. In its shim they are told apart by their place in `imports`."""
        places: dict[str, dict[str, int]] = {}
        for place, wanted in enumerate(self.imports):
            if wanted.type is None or not shimmable(wanted.type):
                continue
            known = places.setdefault(wanted.module, {}).setdefault(wanted.name, place)
            if self.imports[known].type != wanted.type:
                raise FileError(E.NOIMPORT, f"{wanted.module}.{wanted.name}")
        return places

    def _build_shim(self, name: str, functions: dict[str, int], code: bytes | None) -> _Shim:
        if code is not None:
            made = self.engine._code(code, compiled=True)
        else:
            types_of = {f: self.imports[place].type or FunctionType("", "") for f, place in functions.items()}
            binary = shim.build([shim.ShimFunction(f, kind) for f, kind in types_of.items()])
            made = self.engine._code(binary, compiled=False)
        engine, pre = self.engine._alive(), c_void_p()
        linker = lib.wasmtime_linker_new(engine)
        types = Vector()
        lib.wasmtime_module_imports(made, byref(types))
        try:
            for n, place in enumerate(functions.values()):
                kind = lib.wasm_externtype_as_functype_const(lib.wasm_importtype_type(types.data[n]))
                field = str(n).encode()
                must(
                    lib.wasmtime_linker_define_func_unchecked(
                        linker, b"host", 4, field, len(field), kind, host_call, place, None
                    )
                )
            must(lib.wasmtime_linker_instantiate_pre(linker, made, byref(pre)))
        finally:
            lib.wasm_importtype_vec_delete(byref(types))
        assert pre.value is not None
        return _Shim(name.encode(), made, linker, pre.value)


_LENGTH = struct.Struct("<Q")


def _serialize(native: int) -> bytes:
    out = Bytes()
    error = lib.wasmtime_module_serialize(native, byref(out))
    if error:
        raise FileError(E.IO, "", reason(take_error(error)))
    data = ctypes.string_at(out.data, out.size)
    lib.wasm_byte_vec_delete(byref(out))
    return data


def _split(data: bytes) -> list[bytes]:
    """Serialized code: the program's, then its shims', each after its length."""
    parts, at = [], 0
    while at < len(data):
        head = data[at : at + _LENGTH.size]
        at += _LENGTH.size
        size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else len(data)
        if at + size > len(data):
            raise FileError(E.BADPROGRAM, "", str(at))
        parts.append(data[at : at + size])
        at += size
    if not parts:
        raise FileError(E.BADPROGRAM)
    return parts


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
