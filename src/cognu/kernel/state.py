"""The kernel's state: rights, refusals, and the tables of capabilities, processes, endpoints and messages.

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

NODE_QUOTA: Final = 1 << 40

INTERFACES: Final = 1 << 32
"""Interfaces are numbers from 1 up to this; what they stand for is known above."""

PLACES: Final = 4
"""How many capabilities go with a request, and with its answer."""

QUEUED: Final = 1
DELIVERED: Final = 2
ANSWERED: Final = 3
CANCELLED: Final = 4
FAILED: Final = 5
"""What a message is; 0 is one that is over, or never was. `messages.py` says what leads to what."""


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
    NO_MESSAGE = 10
    NO_HANDLER = 11


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
    Code.NO_MESSAGE: E.NOMESSAGE,
    Code.NO_HANDLER: E.NOHANDLER,
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
    `next` is the next free one. `held_next` and `held_prev` join what is charged to one process. `interface` is
    what its holder has it bound to.
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
        self.interface = Sparse()


class Processes:
    """`first`, `next` and `prev` join the processes made by one; `held`, `served` and `sent` begin its lists.

    `ready` and `turn` end the list of its endpoints with something for it, the newest and whose turn it is.
    `bound` is the slot by process and interface: at process * INTERFACES + interface.
    """

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
        self.sent = Sparse()
        self.ready = Sparse()
        self.turn = Sparse()
        self.bound = Sparse()


class Endpoints:
    """`root` is the slot all capabilities to an endpoint derive from; `next` and `prev` join those of one
    server, `ready_next` and `ready_prev` those of them with something for it. `newest` and `oldest` end the queue.
    """

    def __init__(self) -> None:
        self.alive = Sparse()
        self.server = Sparse()
        self.root = Sparse()
        self.next = Sparse()
        self.prev = Sparse()
        self.ready_next = Sparse()
        self.ready_prev = Sparse()
        self.newest = Sparse()
        self.oldest = Sparse()


class Messages:
    """`slot` and `generation` are the capability it was sent by; `wanted` is 1 if the sender waits for an answer.

    `next` and `prev` join the queue of an endpoint, `sent_next` and `sent_prev` what is charged to one sender.
    The capabilities that go with it are at message * PLACES + place: whose slot and generation, and LIVE and the
    rights of the child to make, or 0 for the capability itself.
    """

    def __init__(self) -> None:
        self.state = Sparse()
        self.sender = Sparse()
        self.handler = Sparse()
        self.endpoint = Sparse()
        self.slot = Sparse()
        self.generation = Sparse()
        self.wanted = Sparse()
        self.next = Sparse()
        self.prev = Sparse()
        self.sent_next = Sparse()
        self.sent_prev = Sparse()
        self.cap_slot = Sparse()
        self.cap_generation = Sparse()
        self.cap_rights = Sparse()
