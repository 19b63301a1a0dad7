"""WASI preview 1 over a process's namespace.

Start a guest with `IMPORTS` and, as its `data`, a `Program`. Every file call walks the process's namespace.
Sources: the WASI preview 1 specification (wasi_snapshot_preview1.witx); where that says nothing, POSIX and Wasmtime.
"""

from cognu.runtime.wasi.calls import FUNCTIONS, IMPORTS
from cognu.runtime.wasi.table import Program

__all__ = ["FUNCTIONS", "IMPORTS", "Program"]
