"""Which kernel was proved, and whether it is the one that runs: `cognu verify --record` writes the record."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import Final

RECORD: Final = "proved.json"
"""Beside the kernel's source: the hash of the source that the proof was run on, and that of the proof."""

DECIDES_NOTHING: Final = ("counterexample.py", "mutants.py", "small.py")
"""The proof's modules that show what failed, or try the proof, and have no part in whether a kernel is proved."""

VERIFIED: Final = ", verified"
"""How the verdict on a proved kernel ends."""


def kernel_hash() -> str:
    """SHA-256 over the names and the text of the kernel's modules, in hex."""
    return source_hash("cognu.kernel")


def proof_hash() -> str:
    """The same of the proof's modules, which say what is proved: with weaker theorems it is another proof. Raises
    ModuleNotFoundError where the proof is not installed.
    """
    return source_hash("proofs", DECIDES_NOTHING)


def source_hash(package: str, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over a package's modules, but for those named."""
    digest = hashlib.sha256()
    modules = (file for file in files(package).iterdir() if file.name.endswith(".py") and file.name not in without)
    for file in sorted(modules, key=lambda file: file.name):
        text = file.read_bytes()
        digest.update(f"{file.name} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


def proved_hash(of: str = "kernel") -> str:
    """The hash of the source that was proved, or of the `proof` that it was proved by; nothing if there is no record of
    it that can be read.
    """
    try:
        record = json.loads((files("cognu.kernel") / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    said = record.get(of) if isinstance(record, dict) else None
    return said if isinstance(said, str) else ""


def verdict() -> str:
    """A line for people: the kernel's hash, and whether that kernel is the proved one."""
    running = kernel_hash()
    if running == proved_hash():
        return running[:16] + VERIFIED
    return f"{running[:16]}, not verified: its source differs from the proved one"
