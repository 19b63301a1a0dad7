"""The kernel's state: rights, refusals, and the tables of capabilities, processes and endpoints.

Every table is ints by number, read and written one element at a time. `tables.py` has the rules they obey.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from cognu.errors import E

SEND: Final = 1
GRANT: Final = 2
READ: Final = 4
WRITE: Final = 8
EXECUTE: Final = 16
CREATE: Final = 32
ALL_RIGHTS: Final = 63
LIVE: Final = 64
"""Set beside the rights of every live capability and asked for at every check; nobody can hold or ask it
otherwise.
"""

NODE: Final = 0
"""The process that is the node itself."""


class Cap(NamedTuple):
    """A handle. It names something only together with the process that holds it."""

    slot: int
    generation: int


class Code(IntEnum):
    """Why an operation was refused; the closed list."""

    REVOKED = 1
    NOT_HOLDER = 2
    RIGHTS = 3
    QUOTA = 4
    NO_PROCESS = 5
    NO_ENDPOINT = 6
    INVALID = 7
    BADGE = 8
    BUSY = 9


ERRORS: Final[dict[int, E]] = {
    Code.REVOKED: E.REVOKED,
    Code.NOT_HOLDER: E.ACCES,
    Code.RIGHTS: E.ACCES,
    Code.QUOTA: E.DQUOT,
    Code.NO_PROCESS: E.SRCH,
    Code.NO_ENDPOINT: E.NXIO,
    Code.INVALID: E.INVAL,
    Code.BADGE: E.PERM,
    Code.BUSY: E.BUSY,
}


class Table(dict[int, int]):
    """Ints by number; reads 0 where nothing was written, without writing it."""

    __slots__ = ()

    def __missing__(self, index: int) -> int:
        return 0


class Sparse(Table):
    """A table that keeps no zeros: numbers of processes and endpoints are never used again."""

    __slots__ = ()

    def __setitem__(self, index: int, value: int) -> None:
        if value:
            super().__setitem__(index, value)
        else:
            self.pop(index, None)


class Slots:
    """The capability tables. `first`, `next` and `prev` join the children of one capability; a free slot's
    `next` is the next free one. `held_next` and `held_prev` join what is charged to one process.
    """

    def __init__(self) -> None:
        self.generation = Table()
        self.holder = Table()
        self.endpoint = Table()
        self.rights = Table()
        self.badge = Table()
        self.parent = Table()
        self.first = Table()
        self.next = Table()
        self.prev = Table()
        self.held_next = Table()
        self.held_prev = Table()


class Processes:
    """`first`, `next` and `prev` join the processes made by one; `held` and `served` begin its lists."""

    def __init__(self) -> None:
        self.alive = Sparse({NODE: 1})
        self.creator = Sparse()
        self.quota = Sparse()
        self.used = Sparse()
        self.first = Sparse()
        self.next = Sparse()
        self.prev = Sparse()
        self.held = Sparse()
        self.served = Sparse()


class Endpoints:
    """`root` is the slot all capabilities to an endpoint derive from; `next` and `prev` join those of one
    server.
    """

    def __init__(self) -> None:
        self.alive = Sparse()
        self.server = Sparse()
        self.root = Sparse()
        self.next = Sparse()
        self.prev = Sparse()
