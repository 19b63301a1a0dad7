"""The C programs of the benchmarks, for WASI by Zig's C compiler and for this machine by its own; each built once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "benchmarks"
ZIG_CACHE = HERE.parents[1] / ".cache" / "zig"
WASI = ("-target", "wasm32-wasi", "-O2", "-s")


def wasi(name: str) -> bytes:
    """`name.c` as a WASI program."""
    return _build(name, [*_zig(), *WASI], ".wasm").read_bytes()


def native(name: str, *, static: bool = False) -> Path:
    """`name.c` as a program of this machine, by its C compiler or, if it has none, Zig's."""
    compiler = shutil.which("cc")
    return _build(name, [*([compiler] if compiler else _zig()), "-O2", *(["-static"] if static else [])], "")


def _zig() -> list[str]:
    return [sys.executable, "-m", "ziglang", "cc"]


def _build(name: str, compile_: list[str], suffix: str) -> Path:
    """Raises `RuntimeError` with what the compiler said."""
    source = HERE / f"{name}.c"
    key = hashlib.sha256(repr(compile_).encode() + source.read_bytes()).hexdigest()[:16]
    made = CACHE / f"{name}-{key}{suffix}"
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = CACHE / f"{name}-{key}.{os.getpid()}.part"
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(ZIG_CACHE), "ZIG_LOCAL_CACHE_DIR": str(ZIG_CACHE)}
        command = [*compile_, "-o", str(part), str(source)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        part.rename(made)
    return made
