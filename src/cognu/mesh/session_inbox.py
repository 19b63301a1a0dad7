"""What came on one channel and was not read yet."""

from __future__ import annotations

from collections import deque

WHOLE_BYTES = 1 << 16
"""A piece of this size is given to the reader as it is, instead of being joined with the next."""
SMALL_BYTES = 1 << 12
"""Pieces below this are put together: each by itself takes tens of bytes more, which a sender of single bytes would
make a multiple of what is counted."""


class Inbox:
    """A queue of bytes. `size` is how many there are."""

    __slots__ = ("_pieces", "_taken", "size")

    def __init__(self) -> None:
        self.size = 0
        self._pieces: deque[bytes | bytearray] = deque()
        self._taken = 0  # bytes of the first piece

    def add(self, pieces: list[bytes], size: int) -> None:
        """Put pieces that are not empty, `size` bytes in all, at the end."""
        for piece in pieces:
            self._add(piece)
        self.size += size

    def _add(self, piece: bytes) -> None:
        last = self._pieces[-1] if self._pieces else b""
        if len(piece) >= SMALL_BYTES or not last or len(last) >= WHOLE_BYTES:
            self._pieces.append(piece)
        elif isinstance(last, bytearray):
            last += piece
        elif len(last) < SMALL_BYTES:
            self._pieces[-1] = bytearray(last) + piece
        else:
            self._pieces.append(piece)

    def clear(self) -> int:
        """Drop everything; returns how many bytes that was."""
        dropped, self.size, self._taken = self.size, 0, 0
        self._pieces.clear()
        return dropped

    def take(self, count: int) -> bytes:
        """1 to `count` bytes; there must be some. Fewer than there are only where that saves a copy."""
        pieces, at = self._pieces, self._taken
        first = pieces[0]
        if len(first) - at > count:
            self._taken = at + count
            data = bytes(first[at : at + count])
        else:
            pieces.popleft()
            self._taken = 0
            data = bytes(first[at:] if at else first)
            if pieces and len(data) < min(count, WHOLE_BYTES):
                data = self._join(data, count)
        self.size -= len(data)
        return data

    def _join(self, first: bytes, count: int) -> bytes:
        joined: list[bytes | bytearray] = [first]
        left = count - len(first)
        while left and self._pieces:
            piece = self._pieces[0]
            if len(piece) > left:
                self._taken = left
                joined.append(piece[:left])
                break
            joined.append(self._pieces.popleft())
            left -= len(piece)
        return b"".join(joined)
