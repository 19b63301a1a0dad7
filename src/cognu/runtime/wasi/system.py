"""Arguments, environment, clocks, random numbers, signals, the end."""

from __future__ import annotations

from collections.abc import Sequence

from cognu.files.steps import Steps
from cognu.runtime.wasi.abi import (
    MONOTONIC,
    PROCESS_CPUTIME,
    REALTIME,
    SIGNALS,
    THREAD_CPUTIME,
    U32,
    Errno,
    WasiError,
)
from cognu.runtime.wasi.memory import Guest, put_u64, reserve
from cognu.runtime.wasi.table import Program

RANDOM_AT_ONCE = 1 << 18
"""Bytes of random numbers between two turns of others."""
RESOLUTION = 1
"""ns: clocks count in them."""

# $signal: those that do nothing by default, and those that would stop a program.
IGNORED = frozenset((0, 16, 17, 22, 27))  # none, CHLD, CONT, URG, WINCH
STOPPING = frozenset((18, 19, 20, 21))  # STOP, TSTP, TTIN, TTOU


def args_sizes_get(program: Program, guest: Guest, count: int, size: int) -> None:
    _put_sizes(guest, program.args, count, size)


def args_get(program: Program, guest: Guest, pointers: int, buffer: int) -> None:
    _put_strings(guest, program.args, pointers, buffer)


def environ_sizes_get(program: Program, guest: Guest, count: int, size: int) -> None:
    _put_sizes(guest, program.environment, count, size)


def environ_get(program: Program, guest: Guest, pointers: int, buffer: int) -> None:
    _put_strings(guest, program.environment, pointers, buffer)


def _put_sizes(guest: Guest, strings: Sequence[bytes], count: int, size: int) -> None:
    reserve(guest, size, 4)
    guest.write(count, U32.pack(len(strings)))
    guest.write(size, U32.pack(sum(len(string) + 1 for string in strings)))


def _put_strings(guest: Guest, strings: Sequence[bytes], pointers: int, buffer: int) -> None:
    at, table = buffer, bytearray()
    for string in strings:
        table += U32.pack(at & 0xFFFFFFFF)
        at += len(string) + 1
    reserve(guest, buffer, at - buffer)
    guest.write(pointers, table)
    guest.write(buffer, b"".join(string + b"\0" for string in strings))


def clock_res_get(program: Program, guest: Guest, clock: int, out: int) -> None:
    if clock > THREAD_CPUTIME:
        raise WasiError(Errno.INVAL)
    put_u64(guest, out, RESOLUTION)


def clock_time_get(program: Program, guest: Guest, clock: int, precision: int, out: int) -> None:
    """The processor time is that of the slices that are over."""
    if clock in (PROCESS_CPUTIME, THREAD_CPUTIME):
        put_u64(guest, out, guest.usage.cpu)
    else:
        put_u64(guest, out, read_clock(program, clock))


def read_clock(program: Program, clock: int) -> int:
    """ns. Raises EINVAL for a clock that can't be waited for."""
    if clock == REALTIME:
        return max(0, program.world.clock.now())
    if clock == MONOTONIC:
        return program.world.clock.monotonic()
    raise WasiError(Errno.INVAL)


def random_get(program: Program, guest: Guest, pointer: int, size: int) -> Steps[None]:
    reserve(guest, pointer, size)
    while size > RANDOM_AT_ONCE:
        guest.write(pointer, program.world.random.bytes(RANDOM_AT_ONCE))
        pointer, size = pointer + RANDOM_AT_ONCE, size - RANDOM_AT_ONCE
        yield program.world.clock.sleep(0)
    guest.write(pointer, program.world.random.bytes(size))


def sched_yield(program: Program, guest: Guest) -> Steps[None]:
    yield program.world.clock.sleep(0)


def proc_exit(program: Program, guest: Guest, code: int) -> None:
    """As exit(3): the low eight bits count."""
    guest.exit(code & 0xFF)


def proc_raise(program: Program, guest: Guest, signal: int) -> None:
    """The default action, for there are no handlers: nothing, or the end with 128 + signal. Stopping is ENOTSUP."""
    if signal > SIGNALS:
        raise WasiError(Errno.INVAL)
    if signal in STOPPING:
        raise WasiError(Errno.NOTSUP)
    if signal not in IGNORED:
        guest.exit(128 + signal)
