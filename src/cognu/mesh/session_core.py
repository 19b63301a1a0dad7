"""The session below 9P: channels that survive the links that carry them. No I/O, no clock, no randomness.

Every frame that matters has a number and is kept until the other side acknowledged it. When a link is cut, the next
one begins with what each side received, and each sends on from there: nothing is lost and nothing comes twice. Only
when the other side no longer holds the session (a new boot id, or away for too long) do the channels end, and say so.

Rules of use. Of two nodes one is the leader (the lesser fingerprint): it alone decides which link carries the session
and whether the session goes on, so both always agree. A link is adopted by `take_hello` (leader) or `take_use`
(follower); from then on `receive` takes bytes of that link only, and what `output` gives goes to that link only.

Invariant: a channel is in `_ready` at most once, and only if it has something to send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from cognu.errors import E, LinkBroken, Misuse, ProtocolError
from cognu.mesh.frames import (
    FIRST_UNNUMBERED,
    HEADER,
    LABEL_LIMIT,
    NO_SESSION,
    PAYLOAD_LIMIT,
    Hello,
    Kind,
    check_header,
    pack_reason,
    parse_reason,
)
from cognu.mesh.liveness import SECOND, Liveness, Measure
from cognu.mesh.outbox import Frame, Outbox
from cognu.mesh.session_channel import CHANNEL_WINDOW, ChannelState, kind_of

SESSION_WINDOW = 16 << 20
"""Bytes kept of frames sent and not acknowledged, over all channels; when full, no more is taken from the channels.
Control frames go on to twice as much: who takes data and never acknowledges its credit gets no more of that."""
UNREAD_LIMIT = 1 << 28
"""Bytes of all channels that came and were not read; who sends more has the channel closed on which that comes."""
QUEUE_LOW = 1 << 19
"""A write returns when no more than this waits in its channel."""
ACK_BYTES = 1 << 22
"""Received bytes that are acknowledged at once. More than a reader's credit, which acknowledges too: seldom alone."""
CHANNEL_LIMIT = 1024
PIECES_LIMIT = 64
EPOCH_LIMIT = 1 << 63


@dataclass(frozen=True)
class Timing:
    """Seconds. `silence`: a link on which nothing is heard for so long is dead; `answer`: one that owes an
    acknowledgement or a pong is dead after so long; `retention`: a session without a link is lost after so long;
    `first_delay` and `last_delay`: pauses between attempts to reconnect; `ping`: how often at most one goes along with
    what is sent, to measure the link.
    """

    silence: float = 10.0
    answer: float = 3.0
    retention: float = 600.0
    first_delay: float = 0.1
    last_delay: float = 5.0
    ping: float = 0.5

    @property
    def tick(self) -> float:
        """How often `SessionCore.tick` wants to be called while a link is up."""
        return self.answer / 4


class Event(Enum):
    OPENED = "the other side opened the channel"
    READABLE = "read may return something else"
    WRITABLE = "the queue is short, or writing is over"
    CLOSED = "the other side knows that this one closed"


class _Parser:
    """Where in the byte stream of a link the receiver stands."""

    __slots__ = ("channel", "header", "kind", "missing", "number", "pieces", "size")

    def __init__(self) -> None:
        self.header = bytearray()
        self.missing = -1
        self.kind = self.channel = self.number = self.size = 0
        self.pieces: list[bytes] = []


class SessionCore:
    """One end of the session between two nodes, over as many lives of it as there are."""

    def __init__(self, leader: bool, boot: bytes, timing: Timing, peer: str) -> None:
        """`boot` is 16 bytes, new at every start of the node; `peer` is the other side's name, for messages."""
        self.leader = leader
        self.peer = peer
        self.alive = False
        self.rtt: int | None = None
        self.channels: dict[int, ChannelState] = {}
        self.events: list[tuple[Event, ChannelState]] = []
        self._boot = boot
        self._timing = timing
        self._peer_boot = NO_SESSION
        self._id = NO_SESSION
        self._epoch = 0
        self._session_epoch = 0
        self._link: Liveness | None = None
        self._bye: bytes | None = None
        self._left: E | None = None  # by `leave`: what channels that it opens are refused with
        self._begin_session()

    def _begin_session(self) -> None:
        self._confirmed = False
        self._next_channel = 1 if self.leader else 2
        self._last_opened = 0
        self._received = 0
        self._unread = 0  # bytes in the channels' incoming
        self._outbox = Outbox()
        self._control: deque[tuple[int, int, bytes]] = deque()
        self._ready: deque[ChannelState] = deque()
        self._parser = _Parser()

    # Links

    @property
    def up(self) -> bool:
        """Whether a link carries the session."""
        return self._link is not None

    @property
    def measure(self) -> Measure | None:
        """What was measured on the link that carries the session."""
        return self._link.measure if self._link is not None else None

    def ask(self) -> None:
        """Have the link prove that it is alive: within `Timing.answer`, or `tick` finds it dead."""
        if self._link is not None and self._link.ping is None:
            self._link.ping_wanted = True

    def hello(self, port: int = 0) -> Hello:
        """What the follower says first on a new link; changes nothing."""
        return Hello(self._boot, self._id, self._received, self._epoch, port, self.alive)

    def take_hello(self, hello: Hello, fresh_id: bytes, now: int, port: int = 0) -> Hello:
        """Leader: adopt the link that `hello` came on; returns the answer, to be sent on it before anything else.

        `fresh_id` is 16 random bytes. Raises `ProtocolError`, STALE if the hello was overtaken by another link; the
        session is then as before.
        """
        if not self.leader:
            raise Misuse(E.INVAL, self.peer, "take_hello is the leader's")
        if hello.epoch >= EPOCH_LIMIT:
            raise ProtocolError(E.BADFRAME, "hello", f"epoch {hello.epoch}")
        same_boot = hello.boot == self._peer_boot
        if self.alive and self._confirmed and same_boot and hello.epoch < self._session_epoch:
            # Said before the follower took part in this session, on a link it dialled at the same time.
            raise ProtocolError(E.STALE, self.peer, "a later link is in use")
        resumes = self.alive and hello.alive and same_boot and hello.session == self._id
        # Nothing came back in this session yet: the follower may never have got the answer that began it.
        reoffers = self.alive and not self._confirmed and same_boot and hello.session != self._id
        if resumes:
            self._check_received(hello.received)
        if not resumes and not reoffers:
            self.lose(*self._lost_by(same_boot))
            self._id, self.alive = fresh_id, True
        self._peer_boot = hello.boot
        # Above all that the follower has seen, so that epochs grow even where this node restarted.
        self._epoch = max(self._epoch, hello.epoch) + 1
        if not resumes and not reoffers:
            self._session_epoch = self._epoch
        self._adopt(hello.received if resumes else 0, now)
        self._confirmed = self._confirmed or resumes
        return Hello(self._boot, self._id, self._received, self._epoch, port, True, not resumes)

    def take_use(self, use: Hello, now: int) -> None:
        """Follower: adopt the link that the leader's answer came on.

        Raises `ProtocolError`: ALREADY if a later link was adopted meanwhile, STALE for a session given up here; the
        session is then as before.
        """
        if self.leader:
            raise Misuse(E.INVAL, self.peer, "take_use is the follower's")
        same_boot = use.boot == self._peer_boot
        if use.epoch <= self._epoch:
            raise ProtocolError(E.ALREADY, self.peer, "a later link is in use")
        if use.session == NO_SESSION or (use.fresh and use.received):
            raise ProtocolError(E.BADFRAME, "hello", "no session")
        held = use.session == self._id
        if (held and not self.alive) or (not held and not use.fresh) or (held and not same_boot):
            raise ProtocolError(E.STALE, self.peer, "the session is not held any more")
        # A session that is offered again although it is held goes on: the offer crossed what it was answered with.
        if not held:
            self.lose(*self._lost_by(same_boot))
            self._id, self.alive = use.session, True
        self._check_received(use.received)
        self._peer_boot = use.boot
        self._epoch = use.epoch
        self._adopt(use.received, now)

    def _lost_by(self, same_boot: bool) -> tuple[E, str]:
        return (E.AWAY, "it holds the session no longer") if same_boot else (E.RESTARTED, "")

    def _check_received(self, received: int) -> None:
        if received > self._outbox.number:
            raise ProtocolError(E.BADFRAME, "hello", f"received {received} of {self._outbox.number}")

    def _adopt(self, received: int, now: int) -> None:
        self._take_ack(received)
        self._outbox.replay()
        self._parser = _Parser()
        self._link = Liveness(now)
        if self._outbox.resend:
            self._link.owed_since = now

    def link_down(self) -> None:
        """The link is gone; the session waits for the next one."""
        self._link = None

    def lose(self, error: E, detail: str) -> None:
        """End the session: every channel ends with `LinkBroken(error)`. Nothing happens if there is none."""
        if not self.alive:
            return
        self.alive = False
        self._link = None
        for channel in self.channels.values():
            if channel.error is None:
                channel.error = LinkBroken(error, f"{self.peer}: {channel.kind}", detail)
            channel.drop_queue()
            channel.close_known = True
            self.events += [(Event.READABLE, channel), (Event.WRITABLE, channel), (Event.CLOSED, channel)]
        self.channels = {}
        self._begin_session()

    def leave(self, here: E, there: E) -> None:
        """Every channel ends at once: here with `LinkBroken(here)`, at the other side with `there`.

        What still comes for them is dropped, whatever was acknowledged, and those that it opens from now on are
        refused. The session goes on for what this side opens.
        """
        self._left = there
        for channel in self.channels.values():
            channel.drop_queue()
            if not channel.closing:
                channel.cut = True
                channel.error = channel.error or LinkBroken(here, f"{self.peer}: {channel.kind}")
            self.close(channel, there)
            self._schedule(channel)
            self.events += [(Event.READABLE, channel), (Event.WRITABLE, channel)]

    def bye(self, error: E, detail: str) -> None:
        """Tell the other side, with the next output, that the session ends."""
        self._bye = pack_reason(error, detail)

    def take_events(self) -> list[tuple[Event, ChannelState]]:
        events, self.events = self.events, []
        return events

    # Channels

    def open(self, label: str) -> ChannelState:
        """A new channel. Raises `LinkBroken`: SESSIONLOST if there is no session, NFILE; `Misuse` for a long label."""
        data = label.encode()
        if len(data) > LABEL_LIMIT:
            raise Misuse(E.NAMETOOLONG, label[:40], f"labels have at most {LABEL_LIMIT} bytes")
        if not self.alive:
            raise LinkBroken(E.SESSIONLOST, f"{self.peer}: {kind_of(label)}")
        if len(self.channels) >= CHANNEL_LIMIT:
            raise LinkBroken(E.NFILE, f"{self.peer}: {kind_of(label)}", f"{CHANNEL_LIMIT} channels are open")
        channel = ChannelState(self._next_channel, label)
        self._next_channel += 2
        self.channels[channel.id] = channel
        self._control.append((Kind.OPEN, channel.id, data))
        return channel

    def read(self, channel: ChannelState, count: int) -> bytes | None:
        """1 to `count` bytes; `b""` at the end or after `close`; None if there is nothing yet.

        Raises what the channel ended with, once everything that came before was read.
        """
        if channel.closing:
            if channel.cut and channel.error is not None:
                raise channel.error
            return b""
        if not channel.incoming.size:
            if channel.peer_ended:
                return b""
            if channel.error is not None:
                raise channel.error
            return None
        data = channel.incoming.take(count)
        if self.channels.get(channel.id) is channel:  # and not of a session that was lost
            self._unread -= len(data)
        self._consumed(channel, len(data))
        return data

    def _consumed(self, channel: ChannelState, count: int) -> None:
        channel.consumed += count
        # After this side's CLOSE the other one drops what it has, and a CREDIT would name a closed channel.
        over = channel.peer_ended or channel.close_sent or channel.error is not None
        if over or channel.consumed < CHANNEL_WINDOW // 4:
            return
        self._control.append((Kind.CREDIT, channel.id, channel.consumed.to_bytes(4, "big")))
        channel.consumed = 0

    def write(self, channel: ChannelState, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        """Queue the buffers; what could change later is copied. Raises `LinkBroken` if nobody will read it."""
        channel.check_writable(self.peer)
        channel.put(buffers)
        self._schedule(channel)

    def end(self, channel: ChannelState) -> None:
        """No more is written; the other side reads what is queued and then `b""`. Reading goes on."""
        channel.ending = True
        self._schedule(channel)

    def close(self, channel: ChannelState, error: E | None = None, detail: str = "") -> None:
        """What is queued is still sent, then the close; what was not read is dropped. May be called twice."""
        if channel.closing:
            return
        channel.closing = True
        channel.reason = pack_reason(error, detail) if error is not None else b""
        # The other side may need credit to send the rest of what it has, and then its own close.
        dropped = channel.incoming.clear()
        if self.channels.get(channel.id) is channel:
            self._unread -= dropped
        self._consumed(channel, dropped)
        self._schedule(channel)

    def _schedule(self, channel: ChannelState) -> None:
        if not channel.scheduled and channel.id in self.channels and channel.sendable:
            channel.scheduled = True
            self._ready.append(channel)

    # Sending

    @property
    def wants_output(self) -> bool:
        """Whether `output` has something for the link now."""
        link = self._link
        if link is None:
            return False
        if self._bye is not None or link.ack_due or link.pong or link.ping_wanted:
            return True
        return self._has_frames

    @property
    def _has_frames(self) -> bool:
        if self._outbox.resend or self._may_control:
            return True
        return bool(self._ready) and self._outbox.size < SESSION_WINDOW

    @property
    def _may_control(self) -> bool:
        return bool(self._control) and self._outbox.size < 2 * SESSION_WINDOW

    def output(self, budget: int, now: int) -> list[bytes | memoryview]:
        """The next bytes for the link, about `budget` of them; empty if there is nothing to send now.

        The channels take turns, a frame each.
        """
        link = self._link
        out: list[bytes | memoryview] = []
        if link is None:
            return out
        if self._has_frames and now - link.pinged >= int(self._timing.ping * SECOND) and link.ping is None:
            link.ping_wanted = True
        self._output_unnumbered(link, out, now)
        size = 0
        while size < budget:
            if self._outbox.resend:
                frame = self._outbox.resend.popleft()
            elif self._may_control:
                kind, channel_id, payload = self._control.popleft()
                if kind == Kind.CREDIT and channel_id in self.channels:
                    # Not before: else who never has its credit sent to it could go on as if it had.
                    self.channels[channel_id].window += int.from_bytes(payload, "big")
                frame = self._outbox.add(kind, channel_id, (memoryview(payload),) if payload else (), len(payload))
            elif self._ready and self._outbox.size < SESSION_WINDOW:
                frame = self._next_frame()
            else:
                link.dry = link.dry or not self._ready
                break
            out.append(HEADER.pack(frame.size, frame.kind, 0, 0, frame.channel, frame.number, self._received))
            out.extend(frame.pieces)
            size += frame.size + HEADER.size
        if size and link.owed_since is None:
            link.owed_since = now
        if not out and link.ack_due:
            out.append(HEADER.pack(0, Kind.ACK, 0, 0, 0, 0, self._received))
        if out:
            link.ack_due = link.progress = False
            link.ack_bytes = 0
        return out

    def _output_unnumbered(self, link: Liveness, out: list[bytes | memoryview], now: int) -> None:
        if self._bye is not None:
            out += [HEADER.pack(len(self._bye), Kind.BYE, 0, 0, 0, 0, self._received), self._bye]
            self._bye = None
        if link.pong is not None:
            out += [HEADER.pack(8, Kind.PONG, 0, 0, 0, 0, self._received), link.pong]
            link.pong = None
        if link.ping_wanted:
            link.ping_wanted = False
            link.ping = link.pinged = now
            if link.owed_since is None:
                link.owed_since = now
            out += [HEADER.pack(8, Kind.PING, 0, 0, 0, 0, self._received), now.to_bytes(8, "big")]

    def _next_frame(self) -> Frame:
        channel = self._ready.popleft()
        channel.scheduled = False
        before = channel.queued
        if before:
            frame = self._outbox.add(Kind.DATA, channel.id, *channel.take(PAYLOAD_LIMIT))
            if before > QUEUE_LOW >= channel.queued:
                self.events.append((Event.WRITABLE, channel))
        elif channel.closing:
            channel.close_sent = True
            payload = (memoryview(channel.reason),) if channel.reason else ()
            frame = self._outbox.add(Kind.CLOSE, channel.id, payload, len(channel.reason))
        else:
            channel.end_sent = True
            frame = self._outbox.add(Kind.END, channel.id, (), 0)
        self._schedule(channel)
        return frame

    # Receiving

    def receive(self, data: bytes | memoryview, now: int) -> None:
        """Take bytes of the adopted link, cut anywhere; nothing of `data` is kept. Raises `ProtocolError`; the session
        is then lost.
        """
        link = self._link
        if link is None:
            raise Misuse(E.NOTCONN, self.peer)
        link.heard = now
        try:
            self._parse(memoryview(data), link, now)
        except ProtocolError as error:
            self.lose(error.error, f"{error.subject}: {error.detail}")
            raise

    def _parse(self, view: memoryview, link: Liveness, now: int) -> None:
        parser = self._parser
        position, total = 0, len(view)
        # A frame may end the session (BYE), and with it this parser.
        while position < total and parser is self._parser:
            if parser.missing < 0:
                taken = self._parse_header(parser, view, position)
                position += taken
                if parser.missing < 0:
                    return
                if parser.kind < FIRST_UNNUMBERED or parser.kind == Kind.PING:
                    link.progress = True
            part = view[position : position + parser.missing]
            if part:
                position += len(part)
                parser.missing -= len(part)
                parser.pieces.append(bytes(part))
                if parser.kind < FIRST_UNNUMBERED:
                    link.progress = True
            if parser.missing == 0:
                pieces, parser.pieces, parser.missing = parser.pieces, [], -1
                self._finish(parser, pieces, link, now)
            elif len(parser.pieces) > PIECES_LIMIT:
                parser.pieces = [b"".join(parser.pieces)]

    def _parse_header(self, parser: _Parser, view: memoryview, position: int) -> int:
        """Read a header, or a part of one; returns the bytes taken."""
        if not parser.header and len(view) - position >= HEADER.size:
            taken = HEADER.size
            fields = HEADER.unpack_from(view, position)
        else:
            taken = min(HEADER.size - len(parser.header), len(view) - position)
            parser.header += view[position : position + taken]
            if len(parser.header) < HEADER.size:
                return taken
            fields = HEADER.unpack(parser.header)
            parser.header.clear()
        length, kind, zero, zeros, parser.channel, parser.number, ack = fields
        check_header(length, kind, zero | zeros, parser.number)
        if ack > self._outbox.number:
            raise ProtocolError(E.BADFRAME, "acknowledgement", f"{ack} of {self._outbox.number}")
        if parser.number > self._received + 1:
            raise ProtocolError(E.BADFRAME, "number", f"{parser.number} after {self._received}")
        if ack > self._outbox.acked:
            self._take_ack(ack)
            if self._link is not None and not self._outbox.unacked and self._link.ping is None:
                self._link.owed_since = None
        self._confirmed = True
        parser.kind, parser.size, parser.missing = kind, length, length
        return taken

    def _take_ack(self, ack: int) -> None:
        for frame in self._outbox.acknowledge(ack):
            if frame.kind == Kind.CLOSE:
                channel = self.channels[frame.channel]
                channel.close_known = True
                self.events.append((Event.CLOSED, channel))
                self._forget_if_over(channel)

    def _finish(self, parser: _Parser, pieces: list[bytes], link: Liveness, now: int) -> None:
        kind = parser.kind
        if kind == Kind.DATA:
            link.ack_bytes += parser.size
            if link.ack_bytes >= ACK_BYTES:
                link.ack_due = True
        if kind >= FIRST_UNNUMBERED:
            self._take_unnumbered(kind, b"".join(pieces), link, now)
            return
        if parser.number <= self._received:
            # Sent again because the other side could not know that it had come on the link before.
            return
        self._received = parser.number
        if kind == Kind.DATA:
            self._take_data(parser.channel, pieces, parser.size)
        elif kind == Kind.OPEN:
            self._take_open(parser.channel, b"".join(pieces))
        elif kind == Kind.CREDIT:
            channel = self._known(parser.channel, kind)
            channel.credit += int.from_bytes(b"".join(pieces), "big")
            if channel.credit > CHANNEL_WINDOW:
                raise ProtocolError(E.BADFRAME, "CREDIT", f"{channel.credit} bytes")
            self._schedule(channel)
        elif kind == Kind.END:
            self._take_end(parser.channel)
        else:
            self._take_close(parser.channel, b"".join(pieces))
            link.ack_due = True  # somebody may wait for it: `Channel.wait_closed`

    def _take_unnumbered(self, kind: int, payload: bytes, link: Liveness, now: int) -> None:
        if kind == Kind.PING:
            link.pong = payload
        elif kind == Kind.PONG:
            if link.answered(int.from_bytes(payload, "big"), self._outbox.carried, now):
                self.rtt = link.measure.smoothed
                if not self._outbox.unacked:
                    link.owed_since = None
        elif kind == Kind.BYE:
            self.lose(*parse_reason(payload))

    def _known(self, channel_id: int, kind: int) -> ChannelState:
        channel = self.channels.get(channel_id)
        if channel is None or channel.peer_closed:
            raise ProtocolError(E.BADFRAME, Kind(kind).name, f"channel {channel_id} is not open")
        return channel

    def _take_data(self, channel_id: int, pieces: list[bytes], size: int) -> None:
        channel = self._known(channel_id, Kind.DATA)
        if channel.peer_ended:
            raise ProtocolError(E.BADFRAME, "DATA", f"channel {channel_id} has ended")
        if size > channel.window:
            raise ProtocolError(E.BADFRAME, "DATA", f"channel {channel_id} has no credit for {size} bytes")
        channel.window -= size
        if channel.closing:
            self._consumed(channel, size)
            return
        if not channel.incoming.size:
            self.events.append((Event.READABLE, channel))
        channel.incoming.add(pieces, size)
        self._unread += size
        if self._unread > UNREAD_LIMIT:
            self.close(channel, E.DQUOT, f"{UNREAD_LIMIT >> 20} MiB were sent that nobody has read")

    def _take_open(self, channel_id: int, label: bytes) -> None:
        theirs = channel_id > self._last_opened and channel_id % 2 == (0 if self.leader else 1)
        if not theirs:
            raise ProtocolError(E.BADFRAME, "OPEN", f"channel {channel_id}")
        self._last_opened = channel_id
        try:
            channel = ChannelState(channel_id, label.decode())
        except UnicodeDecodeError as error:
            raise ProtocolError(E.BADFRAME, "OPEN", "label") from error
        full = len(self.channels) >= CHANNEL_LIMIT
        self.channels[channel_id] = channel
        if full:
            if len(self.channels) > 2 * CHANNEL_LIMIT:
                raise ProtocolError(E.BADFRAME, "OPEN", f"{len(self.channels)} channels")
            self.close(channel, E.NFILE, f"{CHANNEL_LIMIT} channels are open")
        elif self._left is not None:
            self.close(channel, self._left)
        else:
            self.events.append((Event.OPENED, channel))

    def _take_end(self, channel_id: int) -> None:
        channel = self._known(channel_id, Kind.END)
        if channel.peer_ended:
            raise ProtocolError(E.BADFRAME, "END", f"channel {channel_id} has ended")
        channel.peer_ended = True
        self.events.append((Event.READABLE, channel))

    def _take_close(self, channel_id: int, reason: bytes) -> None:
        channel = self._known(channel_id, Kind.CLOSE)
        channel.peer_closed = True
        if reason and not channel.peer_ended:
            error, detail = parse_reason(reason)
            channel.error = LinkBroken(error, f"{self.peer}: {channel.kind}", detail)
        else:
            channel.peer_ended = True
        # Nobody will read it, and no more credit will come for it.
        channel.drop_queue()
        self.events += [(Event.READABLE, channel), (Event.WRITABLE, channel)]
        self._unschedule_idle(channel)
        self._schedule(channel)
        self._forget_if_over(channel)

    def _unschedule_idle(self, channel: ChannelState) -> None:
        if channel.scheduled and not channel.sendable:
            channel.scheduled = False
            self._ready.remove(channel)

    def _forget_if_over(self, channel: ChannelState) -> None:
        if channel.peer_closed and channel.close_known:
            self.channels.pop(channel.id, None)

    # Time

    def tick(self, now: int) -> bool:
        """Let time pass; call it every `timing.tick` seconds while `up`. False if the link is dead: end it."""
        link = self._link
        if link is None:
            return True
        answer = int(self._timing.answer * SECOND)
        silence = int(self._timing.silence * SECOND)
        if now - link.ticked > answer:
            # This process stood still (or the machine slept); what came meanwhile waits in the socket, unread.
            link.heard = now
            if link.owed_since is not None:
                link.owed_since = now
        link.ticked = now
        if link.progress:
            link.ack_due = True
        if link.owed_since is not None and now - max(link.heard, link.owed_since) >= answer:
            return False
        if now - link.heard >= max(silence - answer, 0) and link.ping is None:
            link.ping_wanted = True
        return now - link.heard < silence
