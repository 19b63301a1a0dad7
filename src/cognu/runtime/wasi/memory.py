"""A guest as these functions see it, and what they do with its memory.

Every pointer is checked before anything is done that could not be undone: data that was read must not be lost because
the place for its length is not there. A pointer outside the memory is EFAULT.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

from cognu.runtime.wasi.abi import IOVEC, U32, U64, Errno, WasiError

MAX_IOVECS = 1024
MAX_TRANSFER = 1 << 20
"""Bytes moved by one call at most; a longer one comes back short, as read(2) and write(2) may."""
MAX_PATH = 4096


class Usage(Protocol):
    @property
    def cpu(self) -> int:
        """ns of processor time so far."""


class Guest(Protocol):
    """What of `runtime.guest.Guest` these functions use."""

    @property
    def data(self) -> Any:
        """The guest's `Program`."""

    @property
    def usage(self) -> Usage: ...

    def read(self, pointer: int, count: int) -> bytes: ...

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None: ...

    @property
    def memory_size(self) -> int: ...

    def exit(self, code: int) -> NoReturn: ...


class Vector:
    """The buffers of a call; `total` in bytes, at most `MAX_TRANSFER`."""

    __slots__ = ("regions", "total")

    def __init__(self, guest: Guest, pointer: int, count: int) -> None:
        """Raises EINVAL for too many buffers, EFAULT if the list or a buffer is outside the memory."""
        if count > MAX_IOVECS:
            raise WasiError(Errno.INVAL)
        self.regions: list[tuple[int, int]] = []
        self.total = 0
        end = guest.memory_size
        for start, size in IOVEC.iter_unpack(guest.read(pointer, count * IOVEC.size)):
            if start + size > end:
                raise WasiError(Errno.FAULT)
            size = min(size, MAX_TRANSFER - self.total)
            self.regions.append((start, size))
            self.total += size

    def gather(self, guest: Guest) -> bytes:
        if len(self.regions) == 1:
            return guest.read(*self.regions[0])
        return b"".join(guest.read(start, size) for start, size in self.regions)

    def scatter(self, guest: Guest, data: bytes | memoryview) -> None:
        """`data` is at most `total` bytes."""
        if len(self.regions) == 1:  # the usual case, without a view
            start, size = self.regions[0]
            guest.write(start, data if len(data) <= size else memoryview(data)[:size])
            return
        rest = memoryview(data)
        for start, size in self.regions:
            if not len(rest):
                return
            guest.write(start, rest[:size])
            rest = rest[size:]


def reserve(guest: Guest, pointer: int, size: int) -> None:
    """Raises EFAULT unless the guest has these bytes."""
    if pointer + size > guest.memory_size:
        raise WasiError(Errno.FAULT)


def put_u32(guest: Guest, pointer: int, value: int) -> None:
    guest.write(pointer, U32.pack(value))


def put_u64(guest: Guest, pointer: int, value: int) -> None:
    guest.write(pointer, U64.pack(value))


def path_at(guest: Guest, pointer: int, size: int) -> str:
    """A path or link's text. Raises EFAULT, ENAMETOOLONG, EILSEQ (not UTF-8), EINVAL (a NUL)."""
    if size > MAX_PATH:
        reserve(guest, pointer, size)
        raise WasiError(Errno.NAMETOOLONG)
    try:
        text = guest.read(pointer, size).decode()
    except UnicodeDecodeError:
        raise WasiError(Errno.ILSEQ) from None
    if "\0" in text:
        raise WasiError(Errno.INVAL)
    return text
