"""What the tests with diod (github.com/chaos/diod) share: where its programs are, and a directory of files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sessions import short_place

# Debian has diod and its clients where only root's PATH looks.
SEARCH = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
TEXT = b"near and far\n" * 50_000
"""More than one read of any size that was agreed on."""
NAMES = ["deep", "empty", "text", "to-leaf"]
"""What is in the directory `files`."""


def program(name: str) -> str:
    path = shutil.which(name, path=SEARCH)
    assert path is not None, f"{name} is not here; make interop installs it, or says how"
    return path


@contextmanager
def place_with_files() -> Iterator[Path]:
    with short_place() as path:
        (path / "files/deep").mkdir(parents=True)
        (path / "files/text").write_bytes(TEXT)
        (path / "files/empty").write_bytes(b"")
        (path / "files/deep/leaf").write_bytes(b"leaf\n")
        (path / "files/to-leaf").symlink_to("deep/leaf")
        yield path
