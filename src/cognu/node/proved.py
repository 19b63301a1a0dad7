"""Which kernel was proved, and whether it is the one that runs: `cognu verify --record` writes the record."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import Final

RECORD: Final = "proved.json"
"""Beside the kernel's source: the hash of the source that the proof was run on."""

VERIFIED: Final = ", verified"
"""How the verdict on a proved kernel ends."""


def kernel_hash() -> str:
    """SHA-256 over the names and the text of the kernel's modules, in hex."""
    digest = hashlib.sha256()
    modules = (file for file in files("cognu.kernel").iterdir() if file.name.endswith(".py"))
    for file in sorted(modules, key=lambda file: file.name):
        text = file.read_bytes()
        digest.update(f"{file.name} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


def proved_hash() -> str:
    """The hash of the source that was proved, or nothing if there is no record of it that can be read."""
    try:
        record = json.loads((files("cognu.kernel") / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    said = record.get("kernel") if isinstance(record, dict) else None
    return said if isinstance(said, str) else ""


def verdict() -> str:
    """A line for people: the kernel's hash, and whether that kernel is the proved one."""
    running = kernel_hash()
    if running == proved_hash():
        return running[:16] + VERIFIED
    return f"{running[:16]}, not verified: its source differs from the proved one"
