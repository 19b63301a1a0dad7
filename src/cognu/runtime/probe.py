"""Can this host run programs? `python -m cognu.runtime.probe`, run as a child, because what is probed may
crash.

Prints one line per finding and exits with 0 if programs run, 1 if not. `diagnose` turns the child's end into
words.
"""

from __future__ import annotations

import sys

from cognu.errors import E, FileError
from cognu.runtime import host
from cognu.runtime.engine import Engine
from cognu.runtime.fiber import PENDING, Bounds, Fiber, Slot, Step

# (module (memory (export "memory") 1) (import "p" "wait" (func (result i32)))
#   (func (export "_start") call 0  i32.const 65536  i32.load  drop  drop)): waits, then reads outside its
# memory.
_PROGRAM = (
    b"\0asm\1\0\0\0"
    b"\1\x08\2\x60\0\1\x7f\x60\0\0"
    b"\2\x0a\1\1p\4wait\0\0"
    b"\3\2\1\1"
    b"\5\3\1\0\1"
    b"\7\x13\2\6memory\2\0\6_start\0\1"
    b"\x0a\x0f\1\x0d\0\x10\0\x41\x80\x80\4\x28\2\0\x1a\x1a\x0b"
)
GUESTS = 8


def main() -> int:
    measured = host.measure()
    settings = host.settings(measured)
    print(
        f"python {sys.version.split()[0]}, address space 2^{measured.address_space.bit_length() - 1}, "
        f"mappings {measured.mappings}, programs at once {settings.max_guests}, "
        f"reserved per memory {settings.memory_reservation >> 10} KiB, "
        f"{'all at once' if settings.pooled else 'one by one, so programs start slower'}"
    )
    engine = Engine(settings)
    module = engine.compile(_PROGRAM)
    slots, bounds = [Slot("", "i")], Bounds(1 << 20, 0)
    fibers = [Fiber(module, slots, bounds, lambda _place, _values: PENDING) for _ in range(GUESTS)]
    good = all(_until(fiber, Step.CALL) for fiber in fibers)
    for fiber in fibers:
        fiber.answer(0)
    # Each must switch stacks back, fault, and be ended by that alone.
    ended = [fiber.outcome for fiber in fibers if _until(fiber, Step.ENDED)]
    good = good and len([outcome for outcome in ended if outcome and outcome.trap]) == GUESTS
    for fiber in fibers:
        fiber.delete()
    engine.close()
    return 0 if good else 1


def _until(fiber: Fiber, wanted: Step) -> bool:
    while (step := fiber.poll()) is Step.SLICE:
        pass
    return step is wanted


def diagnose(status: int, output: str) -> FileError | None:
    """The error for a probe that ended with `status` and printed `output` (both streams); None if all is
    well."""
    if status == 0:
        return None
    if sys.version_info[:3] == (3, 14, 0):
        return FileError(E.FIBERS, "python 3.14.0", "it aborts on stacks not its own; use another Python")
    last = output.strip().splitlines()[-1:] or [f"status {status}"]
    return FileError(E.FIBERS, "", last[0])


if __name__ == "__main__":
    sys.exit(main())
