"""The functions of wasmtime's C API that `engine` uses, with their C types. Private to `engine`.

They are bound here and not taken from wasmtime's Python layer, because that declares every function (which
costs a start 40 ms), keeps the last exception of a callback in one global, and frees by finalizers.
Source: wasmtime's C API manual; wasm.h of the Wasm C API proposal.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import platform
import re
import sys
from ctypes import POINTER, byref, c_bool, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Final

from cognu.errors import E, FileError, Misuse

WASMTIME_FROM, WASMTIME_BELOW = 50, 51
"""The versions of wasmtime this layer was tested with; its C API changes between them."""


class Vector(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("data", POINTER(c_void_p)))


class Bytes(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("data", c_void_p))


class Instance(ctypes.Structure):
    _fields_ = (("store", c_uint64), ("number", c_size_t))


class Handle(ctypes.Union):
    """A function (16 bytes) or a memory (24 bytes); opaque."""

    _fields_ = (("words", c_uint64 * 3),)


class Extern(ctypes.Structure):
    _fields_ = (("kind", c_uint8), ("of", Handle))


EXTERN_MEMORY = 3
Callback = ctypes.CFUNCTYPE(c_size_t, c_size_t, c_size_t, c_size_t, c_size_t)
"""A host call: (number of the import, caller, address of the value array, its length) -> a trap, always 0
here."""

_P, _N = c_void_p, c_size_t
# name: (result, arguments). These run long or may call back, so the interpreter lock is let go meanwhile.
_LONG: Final[dict[str, tuple[Any, ...]]] = {
    "wasm_engine_new_with_config": (_P, _P),
    "wasm_engine_delete": (None, _P),
    "wasmtime_module_new": (_P, _P, _P, _N, _P),
    "wasmtime_module_serialize": (_P, _P, _P),
    "wasmtime_module_deserialize": (_P, _P, _P, _N, _P),
    "wasmtime_module_delete": (None, _P),
    "wasmtime_call_future_poll": (c_bool, _P),
    "wasmtime_call_future_delete": (None, _P),
    "wasmtime_store_delete": (None, _P),
    "wasmtime_memory_new": (_P, _P, _P, _P),
}
# These are over in well under a microsecond; letting the lock go would cost more than they do.
_SHORT: Final[dict[str, tuple[Any, ...]]] = {
    "wasm_config_new": (_P,),
    "wasmtime_config_epoch_interruption_set": (None, _P, c_bool),
    "wasmtime_config_cranelift_nan_canonicalization_set": (None, _P, c_bool),
    "wasmtime_config_wasm_relaxed_simd_deterministic_set": (None, _P, c_bool),
    "wasmtime_config_wasm_threads_set": (None, _P, c_bool),
    "wasmtime_config_shared_memory_set": (None, _P, c_bool),
    "wasmtime_config_wasm_memory64_set": (None, _P, c_bool),
    "wasmtime_config_wasm_multi_memory_set": (None, _P, c_bool),
    "wasmtime_config_wasm_component_model_set": (None, _P, c_bool),
    "wasmtime_config_wasm_custom_page_sizes_set": (None, _P, c_bool),
    "wasmtime_config_wasm_gc_set": (None, _P, c_bool),
    "wasmtime_config_max_wasm_stack_set": (None, _P, _N),
    "wasmtime_config_async_stack_size_set": (None, _P, _N),
    "wasmtime_config_memory_may_move_set": (None, _P, c_bool),
    "wasmtime_config_memory_reservation_set": (None, _P, c_uint64),
    "wasmtime_config_memory_reservation_for_growth_set": (None, _P, c_uint64),
    "wasmtime_config_memory_guard_size_set": (None, _P, c_uint64),
    "wasmtime_pooling_allocation_config_new": (_P,),
    "wasmtime_pooling_allocation_config_delete": (None, _P),
    "wasmtime_pooling_allocation_config_total_stacks_set": (None, _P, c_uint32),
    "wasmtime_pooling_allocation_config_total_memories_set": (None, _P, c_uint32),
    "wasmtime_pooling_allocation_config_total_tables_set": (None, _P, c_uint32),
    "wasmtime_pooling_allocation_config_total_core_instances_set": (None, _P, c_uint32),
    "wasmtime_pooling_allocation_config_max_core_instance_size_set": (None, _P, _N),
    "wasmtime_pooling_allocation_config_max_memory_size_set": (None, _P, _N),
    "wasmtime_pooling_allocation_config_max_tables_per_module_set": (None, _P, c_uint32),
    "wasmtime_pooling_allocation_config_table_elements_set": (None, _P, _N),
    "wasmtime_pooling_allocation_config_max_unused_warm_slots_set": (None, _P, c_uint32),
    "wasmtime_pooling_allocation_config_linear_memory_keep_resident_set": (None, _P, _N),
    "wasmtime_pooling_allocation_config_table_keep_resident_set": (None, _P, _N),
    "wasmtime_pooling_allocation_config_async_stack_keep_resident_set": (None, _P, _N),
    "wasmtime_pooling_allocation_strategy_set": (None, _P, _P),
    "wasmtime_engine_increment_epoch": (None, _P),
    "wasmtime_error_message": (None, _P, _P),
    "wasmtime_error_delete": (None, _P),
    "wasm_trap_message": (None, _P, _P),
    "wasm_trap_delete": (None, _P),
    "wasm_byte_vec_delete": (None, _P),
    "wasmtime_module_imports": (None, _P, _P),
    "wasmtime_module_exports": (None, _P, _P),
    "wasm_importtype_vec_delete": (None, _P),
    "wasm_exporttype_vec_delete": (None, _P),
    "wasm_importtype_module": (POINTER(Bytes), _P),
    "wasm_importtype_name": (POINTER(Bytes), _P),
    "wasm_importtype_type": (_P, _P),
    "wasm_exporttype_name": (POINTER(Bytes), _P),
    "wasm_exporttype_type": (_P, _P),
    "wasm_externtype_kind": (c_uint8, _P),
    "wasm_externtype_as_functype_const": (_P, _P),
    "wasm_externtype_as_memorytype_const": (_P, _P),
    "wasm_functype_params": (POINTER(Vector), _P),
    "wasm_functype_results": (POINTER(Vector), _P),
    "wasm_valtype_kind": (c_uint8, _P),
    "wasmtime_memorytype_minimum": (c_uint64, _P),
    "wasmtime_memorytype_maximum": (c_bool, _P, _P),
    "wasmtime_linker_new": (_P, _P),
    "wasmtime_linker_delete": (None, _P),
    "wasmtime_linker_define": (_P, _P, _P, _P, _N, _P, _N, _P),
    "wasmtime_linker_define_func_unchecked": (_P, _P, _P, _N, _P, _N, _P, Callback, _P, _P),
    "wasmtime_linker_define_instance": (_P, _P, _P, _P, _N, _P),
    "wasmtime_linker_instantiate_pre": (_P, _P, _P, _P),
    "wasmtime_instance_pre_delete": (None, _P),
    "wasmtime_instance_pre_instantiate": (_P, _P, _P, _P, _P),
    "wasmtime_linker_instantiate_async": (_P, _P, _P, _P, _P, _P, _P),
    "wasmtime_instance_export_get": (c_bool, _P, _P, _P, _N, _P),
    "wasmtime_func_call_async": (_P, _P, _P, _P, _N, _P, _N, _P, _P),
    "wasmtime_store_new": (_P, _P, _P, _P),
    "wasmtime_store_context": (_P, _P),
    "wasmtime_store_limiter": (None, _P, c_int64, c_int64, c_int64, c_int64, c_int64),
    "wasmtime_context_set_epoch_deadline": (None, _P, c_uint64),
    # The header gives this one an error as its result; the library returns nothing, and what is found there
    # is garbage.
    "wasmtime_context_epoch_deadline_async_yield_and_update": (None, _P, c_uint64),
    "wasmtime_memory_data": (_P, _P, _P),
    "wasmtime_memory_data_size": (_N, _P, _P),
}


class _Library:
    """The functions of the C API that are used, bound once; a missing one is an error here and not in the
    middle."""

    def __init__(self) -> None:
        version = importlib.metadata.version("wasmtime")
        if not WASMTIME_FROM <= int(version.split(".")[0]) < WASMTIME_BELOW:
            raise FileError(E.ENGINE, "wasmtime", f"{version} is installed, {WASMTIME_FROM} is needed")
        self.version = version
        self.path = _library_path()
        bound: dict[str, Any] = {}
        for loader, table in ((ctypes.CDLL, _LONG), (ctypes.PyDLL, _SHORT)):
            library = loader(self.path)
            for name, (result, *arguments) in table.items():
                try:
                    function = getattr(library, name)
                except AttributeError:
                    raise FileError(E.ENGINE, "wasmtime", f"{version} has no {name}") from None
                function.restype = result
                function.argtypes = arguments
                bound[name] = function
        memory_view = ctypes.pythonapi.PyMemoryView_FromMemory
        memory_view.restype = ctypes.py_object
        memory_view.argtypes = [_P, ctypes.c_ssize_t, ctypes.c_int]
        self.memory_view = memory_view
        self._bound = bound

    def __getattr__(self, name: str) -> Any:
        function = self._bound[name]
        setattr(self, name, function)  # the next use finds it without coming here
        return function


def _library_path() -> str:
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or not spec.submodule_search_locations:
        raise FileError(E.ENGINE, "wasmtime", sys.platform)
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    suffix = "dylib" if sys.platform == "darwin" else "so"
    path = Path(spec.submodule_search_locations[0], f"{sys.platform}-{machine}", f"_libwasmtime.{suffix}")
    if not path.exists():
        raise FileError(E.ENGINE, "wasmtime", f"{sys.platform} {machine}")
    return str(path)


lib = _Library()
VALUE_LETTER = {0: "i", 1: "q", 2: "f", 3: "d"}


def text_of(vector: Bytes) -> str:
    return ctypes.string_at(vector.data, vector.size).decode("utf-8", "replace") if vector.size else ""


def owned_text(vector: Bytes) -> str:
    text = text_of(vector)
    lib.wasm_byte_vec_delete(byref(vector))
    return text


def take_error(error: int) -> str:
    message = Bytes()
    lib.wasmtime_error_message(error, byref(message))
    lib.wasmtime_error_delete(error)
    return owned_text(message)


def take_trap(trap: int) -> str:
    message = Bytes()
    lib.wasm_trap_message(trap, byref(message))
    lib.wasm_trap_delete(trap)
    return owned_text(message).rstrip("\0")


def reason(message: str) -> str:
    """What wasmtime says went wrong, without where: its last cause, or the message's first line."""
    head, _, causes = message.partition("Caused by:")
    lines = [line.strip() for line in (causes or head).splitlines() if line.strip()]
    if not lines:
        return message.strip()
    line = lines[-1] if causes else lines[0]
    return re.sub(r"^\d+: ", "", line).removeprefix("wasm trap: ")


def must(error: int | None) -> None:
    """For calls that fail only if this layer is wrong."""
    if error:
        raise Misuse(E.ENGINE, "wasmtime", reason(take_error(error)))
