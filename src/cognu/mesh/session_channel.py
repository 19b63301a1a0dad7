"""One channel of a session: what was written to it and not sent, what came and was not read, how far it is closed.

Read by the driver, changed by the core alone. It knows nothing of frames and links.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from cognu.errors import CognuError, E, LinkBroken
from cognu.mesh.session_inbox import Inbox

CHANNEL_WINDOW = 8 << 20
"""Bytes one channel may have under way or unread at the receiver."""


def kind_of(label: str) -> str:
    """A label as it may be shown: what follows a colon may be secret."""
    return label.partition(":")[0]


class ChannelState:
    """`queued` are the bytes that wait to be sent, of which `credit` allows so many; `window` is what the other side
    may send. `error` is what the channel ended with."""

    __slots__ = (
        "close_known", "close_sent", "closing", "consumed", "credit", "cut", "end_sent", "ending", "error", "id",
        "incoming", "label", "peer_closed", "peer_ended", "queue", "queued", "reason", "scheduled", "window",
    )  # fmt: skip

    def __init__(self, number: int, label: str) -> None:
        self.id = number
        self.label = label
        self.queue: deque[memoryview] = deque()
        self.queued = 0
        self.credit = CHANNEL_WINDOW
        self.incoming = Inbox()
        self.window = CHANNEL_WINDOW
        self.consumed = 0
        self.ending = self.end_sent = False
        self.closing = self.close_sent = self.close_known = False
        self.cut = False  # closed here at once, with an error for who uses it here
        self.peer_ended = self.peer_closed = False
        self.scheduled = False
        self.reason = b""
        self.error: CognuError | None = None

    @property
    def kind(self) -> str:
        return kind_of(self.label)

    @property
    def sendable(self) -> bool:
        """Whether there is something to send, and it may be."""
        if self.queued:
            return self.credit > 0
        if self.closing:
            return not self.close_sent
        return self.ending and not self.end_sent and not self.peer_closed

    def check_writable(self, peer: str) -> None:
        """Raises `LinkBroken`: what the channel ended with, or PIPE if it is closed at either end."""
        if self.error is not None:
            raise self.error
        if self.closing or self.ending:
            raise LinkBroken(E.PIPE, f"{peer}: {self.kind}", "closed here")
        if self.peer_closed:
            raise LinkBroken(E.PIPE, f"{peer}: {self.kind}")

    def put(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        """Queue the buffers; what could change later is copied."""
        for buffer in buffers:
            view = _immutable(buffer)
            if view:
                self.queue.append(view)
                self.queued += len(view)

    def take(self, limit: int) -> tuple[tuple[memoryview, ...], int]:
        """Take up to `limit` bytes out of the queue, as far as the credit goes: pieces and their bytes."""
        size = left = min(limit, self.credit, self.queued)
        pieces: list[memoryview] = []
        queue = self.queue
        while left:
            piece = queue[0]
            if len(piece) > left:
                queue[0] = piece[left:]
                piece = piece[:left]
            else:
                queue.popleft()
            pieces.append(piece)
            left -= len(piece)
        self.queued -= size
        self.credit -= size
        return tuple(pieces), size

    def drop_queue(self) -> None:
        """Nobody will read what is queued."""
        self.queue.clear()
        self.queued = 0


def _immutable(buffer: bytes | bytearray | memoryview) -> memoryview:
    """A view of the buffer if it can never change, else of a copy."""
    view = memoryview(buffer).cast("B") if isinstance(buffer, memoryview) else memoryview(buffer)
    return view if isinstance(view.obj, bytes) else memoryview(bytes(view))
