"""The shim between a guest and its host functions: a small Wasm module, built here byte by byte.

Why it exists. A guest's call of a host function must be able to suspend the guest, yet a host function that
is ready must cost as little as a plain call, and a host function that dies must never look like one that
returned. So a guest imports a shim's function, and that one is, in words:

    again:  status, result = host(FAILED, arguments...)
            if status == DONE: return result
            if status != PENDING: trap
            pause, then go to again

- The host's callback gets its arguments and leaves its results in one array, so that the constant FAILED, the
  first argument, is also the status that stands there if the callback never gets to write one. The error
  result is thus preset by the guest's own code before a line of ours runs.
- `pause` is an empty function. Entering a function reads the store's epoch deadline (a loop's head may use an
  older one), and the callback that said PENDING has set that to "now", so the fiber suspends there. When it
  goes on the host is asked again, and finds the answer. No callback of the asynchronous C API is needed, and
  none of its dangers exist: a raising one aborts the node or hangs the guest for ever.

Binary format: WebAssembly Core Specification 2.0, chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

DONE = 0
PENDING = 1
FAILED = -1

_VALUE_TYPE = {"i": 0x7F, "q": 0x7E, "f": 0x7D, "d": 0x7C}
_HOST_MODULE = "host"


class FunctionType(NamedTuple):
    """A function's type, one letter per value as in `struct`: i i32, q i64, f f32, d f64."""

    params: str
    results: str


class ShimFunction(NamedTuple):
    name: str
    type: FunctionType


def build(functions: Sequence[ShimFunction]) -> bytes:
    """The shim module for these functions; it exports each by its name.

    It imports `host`.`0`, `host`.`1` ... in order, of the type (i32, params...) -> (i32, results...).
    Names must differ, each type has at most one result, and every letter must be one of `iqfd`.
    """
    count = len(functions)
    types = [_function_type("", "")]
    for function in functions:
        types.append(_function_type("i" + function.type.params, "i" + function.type.results))
        types.append(_function_type(function.type.params, function.type.results))
    imports = [_name(_HOST_MODULE) + _name(str(n)) + b"\x00" + _unsigned(2 * n + 1) for n in range(count)]
    declared = [_unsigned(0)] + [_unsigned(2 * n + 2) for n in range(count)]
    pause = count
    exports = [_name(f.name) + b"\x00" + _unsigned(pause + 1 + n) for n, f in enumerate(functions)]
    bodies = [_sized(b"\x00\x0b")] + [_body(n, function.type, pause) for n, function in enumerate(functions)]
    sections = ((1, types), (2, imports), (3, declared), (7, exports), (10, bodies))
    body = b"".join(bytes([number]) + _sized(_vector(items)) for number, items in sections)
    return b"\x00asm\x01\x00\x00\x00" + body


def _body(host: int, kind: FunctionType, pause: int) -> bytes:
    """Locals after the parameters: the status, then the result if there is one."""
    status = len(kind.params)
    groups = [_unsigned(1) + bytes([_VALUE_TYPE["i"]])]
    groups += [_unsigned(1) + bytes([_VALUE_TYPE[letter]]) for letter in kind.results]
    code = bytearray(_vector(groups))
    code += b"\x03\x40"  # loop
    code += b"\x41\x7f"  # i32.const FAILED
    for parameter in range(len(kind.params)):
        code += b"\x20" + _unsigned(parameter)  # local.get
    code += b"\x10" + _unsigned(host)  # call
    if kind.results:
        code += b"\x21" + _unsigned(status + 1)  # local.set result
    code += b"\x22" + _unsigned(status) + b"\x45\x04\x40"  # local.tee status; i32.eqz; if
    if kind.results:
        code += b"\x20" + _unsigned(status + 1)
    code += b"\x0f\x0b"  # return; end
    # status; i32.const PENDING; i32.ne; if; unreachable; end
    code += b"\x20" + _unsigned(status) + b"\x41" + bytes([PENDING]) + b"\x47\x04\x40\x00\x0b"
    code += b"\x10" + _unsigned(pause) + b"\x0c\x00\x0b"  # call pause; br again; end
    code += b"\x00\x0b"  # unreachable; end
    return _sized(bytes(code))


def _function_type(params: str, results: str) -> bytes:
    def values(letters: str) -> bytes:
        return _vector([bytes([_VALUE_TYPE[letter]]) for letter in letters])

    return b"\x60" + values(params) + values(results)


def _unsigned(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(data: bytes) -> bytes:
    return _unsigned(len(data)) + data


def _vector(items: Iterable[bytes]) -> bytes:
    listed = list(items)
    return _unsigned(len(listed)) + b"".join(listed)


def _name(text: str) -> bytes:
    return _sized(text.encode())
