"""Builds the tests' programs and the examples, in C and Zig, with Zig's compiler: each once, whatever the number of
test processes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
"""Each in a directory of its own name."""
CACHE = HERE.parent.parent / ".cache" / "programs"
FLAGS = {
    ".c": ("cc", "-target", "wasm32-wasi", "-O2", "-s"),
    ".zig": ("build-exe", "-target", "wasm32-wasi", "-OReleaseSmall", "-fstrip"),
}
"""One level of optimisation for all of C: each costs a C library compiled anew, which takes about a minute."""


def build(name: str) -> bytes:
    """`name.c` or `name.zig`, here or among the examples, as a WASI program."""
    places = (HERE, EXAMPLES / name)
    [source] = [path for suffix in FLAGS for place in places if (path := place / f"{name}{suffix}").exists()]
    key = hashlib.sha256(repr(FLAGS[source.suffix]).encode() + source.read_bytes()).hexdigest()[:16]
    made = CACHE / f"{name}-{key}.wasm"
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with open(CACHE / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                _compile(source, made)
    return made.read_bytes()


def _compile(source: Path, made: Path) -> None:
    kept = str(CACHE.parent / "zig")
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": kept, "ZIG_LOCAL_CACHE_DIR": kept}
    part = made.with_suffix(".part")
    command, *flags = FLAGS[source.suffix]
    into = ("-o", str(part)) if command == "cc" else (f"-femit-bin={part}",)
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", command, *flags, *into, str(source)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    part.rename(made)


if __name__ == "__main__":
    for program in sys.argv[1:] or sorted(path.stem for path in HERE.iterdir() if path.suffix in FLAGS):
        sys.stdout.write(f"{program}: {len(build(program))} bytes\n")
