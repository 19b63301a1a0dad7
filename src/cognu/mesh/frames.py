"""What two nodes say to each other on a link: the frames of a session and the greeting each link begins with.

A frame is a header of 32 bytes and a payload. All integers are big-endian:

    length u32   payload bytes
    kind u8      below 16: numbered, kept until acknowledged; from 16 up: for this link only
    zero u8 u16
    channel u64
    number u64   1, 2, 3 … per direction and session; 0 for kinds that have none
    ack u64      the highest number received without a gap

A link begins with one `Hello` each way, of fixed size: the follower's first, then the leader's answer, which decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from cognu.errors import E, ProtocolError

HEADER = Struct(">IBBHQQQ")
PAYLOAD_LIMIT = 1 << 18
"""What programs and 9P write at once is a power of two, and is to fill frames without a remainder."""
LABEL_LIMIT = 1024
REASON_LIMIT = 1024
ID_SIZE = 16
NO_SESSION = bytes(ID_SIZE)


class Kind(IntEnum):
    OPEN = 1
    DATA = 2
    CREDIT = 3
    END = 4
    CLOSE = 5
    ACK = 16
    PING = 17
    PONG = 18
    BYE = 19


PAYLOADS: dict[int, tuple[int, int]] = {
    Kind.OPEN: (0, LABEL_LIMIT),
    Kind.DATA: (1, PAYLOAD_LIMIT),
    Kind.CREDIT: (4, 4),
    Kind.END: (0, 0),
    Kind.CLOSE: (0, REASON_LIMIT),
    Kind.ACK: (0, 0),
    Kind.PING: (8, 8),
    Kind.PONG: (8, 8),
    Kind.BYE: (0, REASON_LIMIT),
}
"""Smallest and largest payload of each kind."""
FIRST_UNNUMBERED = 16


def check_header(length: int, kind: int, zeros: int, number: int) -> None:
    """Raises `ProtocolError` for a header no node sends."""
    bounds = PAYLOADS.get(kind)
    if bounds is None or zeros:
        raise ProtocolError(E.BADFRAME, "", f"kind {kind}")
    if not bounds[0] <= length <= bounds[1]:
        raise ProtocolError(E.BADFRAME, Kind(kind).name, f"{length} bytes")
    if (number == 0) != (kind >= FIRST_UNNUMBERED):
        raise ProtocolError(E.BADFRAME, Kind(kind).name, f"number {number}")


def pack_reason(error: E, detail: str) -> bytes:
    """An error of the table as a CLOSE or BYE carries it."""
    return f"{error.name} {detail}".encode("utf-8", "replace")[:REASON_LIMIT]


def parse_reason(data: bytes) -> tuple[E, str]:
    """The other way; a symbol this node does not know becomes IO and is kept in the text."""
    symbol, _, detail = data.decode("utf-8", "replace").partition(" ")
    if symbol in E.__members__:
        return E[symbol], detail
    return E.IO, f"{symbol} {detail}".strip()


@dataclass(frozen=True)
class Hello:
    """The first message of a link, from each side.

    `session` is the last session this side took part in (zeros: none) and `alive` whether it still holds it;
    `received` is the highest number it got. `epoch` counts the leader's decisions, so that of two links both take the
    later one; the follower says which it knows. From the leader, `fresh` says that the session begins anew. `port` is
    where this side's listener is, 0 if it has none.
    """

    boot: bytes
    session: bytes
    received: int
    epoch: int = 0
    port: int = 0
    alive: bool = False
    fresh: bool = False


_HELLO = Struct(">4sBBH16s16sQQ")
HELLO_SIZE = _HELLO.size
_MAGIC = b"CgL1"
_ALIVE, _FRESH = 1, 2


def pack_hello(hello: Hello) -> bytes:
    flags = (_ALIVE if hello.alive else 0) | (_FRESH if hello.fresh else 0)
    return _HELLO.pack(_MAGIC, flags, 0, hello.port, hello.boot, hello.session, hello.epoch, hello.received)


def parse_hello(data: bytes) -> Hello:
    """Raises `ProtocolError`: NOPROTO for another protocol or version, BADFRAME for a hello no node sends."""
    if len(data) != HELLO_SIZE:
        raise ProtocolError(E.BADFRAME, "hello", f"{len(data)} bytes")
    magic, flags, zero, port, boot, session, epoch, received = _HELLO.unpack(data)
    if magic != _MAGIC:
        raise ProtocolError(E.NOPROTO, "hello", "the nodes speak different versions")
    if flags & ~(_ALIVE | _FRESH) or zero:
        raise ProtocolError(E.BADFRAME, "hello", "unknown flags")
    return Hello(boot, session, received, epoch, port, bool(flags & _ALIVE), bool(flags & _FRESH))
