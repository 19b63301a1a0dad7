"""What the allocator keeps: shown by where large buffers lie, in a process of its own."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from cognu.world.memory import KEPT_FREE, MAPPED_FROM

HAS_IT = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
FAULTS = """
import resource
from cognu.world.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        buffers = [bytearray(b"x") * (1 << 20) for _ in range(4)]
        del buffers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(not HAS_IT, reason="this C library has no mallopt")
def test_buffers_of_a_messages_size_are_taken_from_what_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50, "each of 200 buffers has 256 pages, which were mapped anew"


def test_what_is_kept_has_a_bound_and_holds_several_messages() -> None:
    assert 1 << 20 < MAPPED_FROM < KEPT_FREE <= 16 << 20
