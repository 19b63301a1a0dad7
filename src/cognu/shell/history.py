"""The lines that were typed, those of earlier sessions too: bounded, without repetitions, in a file of their owner's.

A file has one entry in each line, in which a newline is `\\n` and a backslash is two. Shells that run at the same time
append to it in turn; a lock beside it keeps one from shortening it while another appends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cognu.errors import from_oserror

MOST_ENTRIES = 2000
LONGEST_ENTRY = 64 * 1024
"""Characters; what is longer was pasted and is not kept."""
_MOST_BYTES = 8 << 20


class History:
    """`entries`, the oldest first. Without a path they are kept in memory alone."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.entries: list[str] = []

    def load(self) -> None:
        """Take over what the file has; there may be none yet. Raises `FileError` if it can't be read or shortened."""
        try:
            with self._locked():
                lines = self._lines()
                for line in lines:
                    self._take(_decoded(line))
                if len(lines) > 2 * MOST_ENTRIES:
                    self._shorten()
        except OSError as error:
            raise from_oserror(error, self.path) from None

    def add(self, text: str) -> None:
        """Keep what was typed, unless it begins with a blank, is empty or too long. Raises `FileError`.

        After a failure it is kept in memory, and the file is as before.
        """
        text = text.rstrip("\n")
        if not text.strip() or text[0] in " \t" or len(text) > LONGEST_ENTRY or self.entries[-1:] == [text]:
            return
        self._take(text)
        if self.path:
            try:
                with self._locked():
                    self._append(_encoded(text))
            except OSError as error:
                raise from_oserror(error, self.path) from None

    def _take(self, text: str) -> None:
        if text in self.entries:
            self.entries.remove(text)
        self.entries.append(text)
        del self.entries[:-MOST_ENTRIES]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _lines(self) -> list[bytes]:
        if not os.path.exists(self.path):
            return []
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _MOST_BYTES))
            lines = file.read(_MOST_BYTES).split(b"\n")
        # A first line that was cut in the middle is none; the last one has its newline unless a write was cut.
        return [line for line in lines[size > _MOST_BYTES :] if line]

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def _shorten(self) -> None:
        descriptor = os.open(f"{self.path}.new", os.O_WRONLY | os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(b"".join(map(_encoded, self.entries)))
        os.replace(f"{self.path}.new", self.path)


def _encoded(text: str) -> bytes:
    return text.replace("\\", "\\\\").replace("\n", "\\n").encode("utf-8", "surrogateescape") + b"\n"


def _decoded(line: bytes) -> str:
    pieces = line.decode("utf-8", "surrogateescape").split("\\\\")
    return "\\".join(piece.replace("\\n", "\n") for piece in pieces)
