"""The session with one peer: `SessionCore` on links, a clock and tasks.

`Session.run_link` gives the core a link, from either side, for as long as that link lasts; `connect` dials one. When a
link is lost and channels are open, or this side dialled it, `Reaching` dials again until the retention time is over.
`change` lets another link take the place of the one that is up.

A link's bytes go from the loop's callback to the core and on to whoever waits, and what is written goes to the host at
once: no task stands between. After that the link rests until the loop's next turn, so that what is written meanwhile
goes out together and nobody sends without giving others their turn.

Tasks: each link has one that waits for its end and one that ticks; a lost link has one that reconnects; each channel
the peer opened has its handler. All of them end with `close`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cognu.errors import CognuError, E, FileError, LinkBroken, Misuse, ProtocolError
from cognu.mesh.frames import HELLO_SIZE, ID_SIZE, pack_hello, parse_hello
from cognu.mesh.reaching import Reaching
from cognu.mesh.session_channel import ChannelState
from cognu.mesh.session_core import QUEUE_LOW, Event, SessionCore, Timing
from cognu.world import SecureStream, Senses
from cognu.world.timing import end_tasks, within

OUTPUT_BYTES = 1 << 19
"""Bytes for a link in one turn of the loop."""
GREETING_SECONDS = 10.0
GREETINGS = 8
"""Connections of a peer that have not greeted yet; with one more, the oldest is closed."""
BYE_SECONDS = 1.0


class Channel:
    """A `Stream` to the peer, through the session. One reader and one writer at a time.

    A cut link is not seen here; `LinkBroken` means that the session is lost or the other side ended the channel. A
    write that was cancelled is still sent, whole.
    """

    def __init__(self, session: Session, state: ChannelState) -> None:
        self._session = session
        self._state = state
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._closed = asyncio.Event()
        self._count = 0  # bytes that the read asks for that waits
        self._kept = b""  # taken for it, and not returned yet
        self._look: Callable[[bytes], bool] | None = None
        self._showing = False  # `_show` is to come

    @property
    def peer(self) -> str:
        """The peer's pet name."""
        return self._session.core.peer

    @property
    def label(self) -> str:
        """What the side that opened the channel called it."""
        return self._state.label

    async def read(self, count: int) -> bytes:
        if count < 1:
            raise Misuse(E.INVAL, self.label, f"read of {count} bytes")
        if self._reader is not None:
            raise Misuse(E.ALREADY, self.label)
        while True:
            if self._kept:
                data, self._kept = self._kept[:count], self._kept[count:]
                return data
            received = self._session.core.read(self._state, count)
            if received is not None:
                if self._session.core.wants_output:  # credit for what was read
                    self._session.settle()
                return received
            self._count = count
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        if self._writer is not None:
            raise Misuse(E.ALREADY, self.label)
        self._session.core.write(self._state, buffers)
        self._session.settle()
        while self._state.queued > QUEUE_LOW:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None
        if not self._state.closing:
            self._state.check_writable(self._session.core.peer)

    def look_first(self, look: Callable[[bytes], bool]) -> None:
        """See `world.DirectStream`."""
        self._look = look

    def offer(self, *buffers: bytes | memoryview) -> bool:
        """See `world.DirectStream`; `write` may be used beside it."""
        try:
            self._session.core.write(self._state, buffers)
        except LinkBroken:
            return False
        self._session.settle()
        return self._state.queued <= QUEUE_LOW

    def end(self) -> None:
        """Write no more; the other side reads what was written and then `b""`. Reading goes on."""
        self._session.core.end(self._state)
        self._session.settle()

    def close(self) -> None:
        """End both directions. What was written is still sent, over as many links as it takes."""
        self.fail(None)

    def fail(self, error: E | None, detail: str = "") -> None:
        """`close`, but the other side's `read` raises `LinkBroken(error)` after what was written."""
        self._session.core.close(self._state, error, detail)
        self._wake(Event.READABLE)
        self._session.settle()

    async def wait_closed(self) -> None:
        """Until the other side has everything written and the close, or the session is lost."""
        await self._closed.wait()

    def _wake(self, event: Event) -> None:
        if event is Event.CLOSED:
            self._closed.set()
        waiter = self._reader if event is Event.READABLE else self._writer
        if waiter is None or waiter.done():
            return
        if event is not Event.READABLE or self._look is None:
            waiter.set_result(None)
        elif not self._showing:
            # In a turn of its own: whoever settles the session may be in the midst of anything.
            self._showing = True
            asyncio.get_running_loop().call_soon(self._show, self._look)

    def _show(self, look: Callable[[bytes], bool]) -> None:
        """Show what came for the read that waits, and wake it for what is left or for the end."""
        self._showing = False
        core = self._session.core
        while self._reader is not None and not self._reader.done():
            try:
                received = core.read(self._state, self._count)
            except LinkBroken:
                received = b""  # the read is told
            if received is None:
                break
            if not (received and look(received)):
                self._kept = received
                if not self._reader.done():  # who looked may have cancelled the read
                    self._reader.set_result(None)
                break
        if core.wants_output:  # credit for what was read
            self._session.settle()


class _Link:
    """A connection on its way to carry the session, or carrying it: then it attends to the stream."""

    def __init__(self, session: Session, stream: SecureStream) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self.stream = stream
        self.adopted: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.since: int | None = None  # wall-clock ns, once it carries
        self.failure: Exception | None = None  # a bug of this side; what a link may end with is not kept
        self.carrying = False
        self.emptied = asyncio.Event()  # the host took everything
        self.emptied.set()
        self.may_send = False
        self.silent = False  # it ended because nothing was heard

    def carry(self) -> None:
        self.stream.attend(self)
        self.carrying = self.may_send = True

    def send(self, buffers: list[bytes | memoryview]) -> None:
        self.may_send = False
        self._session.sent += sum(map(len, buffers))
        if self.stream.offer(*buffers):
            self._loop.call_soon(self._go_on)
        else:
            self.emptied.clear()

    def _go_on(self) -> None:
        self.may_send = self.carrying
        if self._session.core.wants_output:
            self._session.settle()

    def received(self, data: memoryview) -> None:
        try:
            self._session._received(self, data)
        except (LinkBroken, ProtocolError):
            self.end()
        except Exception as error:
            self.failure = error
            self.end()

    def room(self) -> None:
        self.emptied.set()
        self._go_on()

    def over(self, error: LinkBroken | None) -> None:
        self.end()

    def end(self) -> None:
        """Whoever waits for the end learns of it; the stream is closed by then or soon."""
        self.carrying = self.may_send = False
        self.emptied.set()  # or never, which nobody shall wait for
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(frozen=True)
class LinkStatus:
    """The link that is up, or that none is. None stands for what was not measured.

    `since` is wall-clock nanoseconds; `address` the peer's and `local` this side's `HOST:PORT`; `dialled`: by this
    side, as was the last link if none is up. `rtt` is the smoothed round trip and `shortest` the shortest of the last
    minutes, in nanoseconds; `rate` is what was seen to be carried from here, in bytes a second. `sent` and `received`
    are bytes over all links since the node started.
    """

    connected: bool = False
    since: int | None = None
    address: str = ""
    rtt: int | None = None
    local: str = ""
    dialled: bool = False
    shortest: int | None = None
    rate: int | None = None
    sent: int = 0
    received: int = 0


NO_LINK = LinkStatus()


Dial = Callable[[], Awaitable[SecureStream]]
"""A new pinned connection to the peer; raises `CognuError`."""
Handler = Callable[[Channel], Awaitable[None]]
Linked = Callable[[SecureStream, int, bool], None]
"""Told of each adopted link: the stream, the peer's listening port, and whether this side dialled."""


class Session:
    """The one session with one peer, whoever dialled."""

    def __init__(
        self, world: Senses, core: SessionCore, timing: Timing, dial: Dial, handler: Handler,
        linked: Linked, port: Callable[[], int],
    ) -> None:  # fmt: skip
        """`handler` is called in a task of its own for each channel the peer opens, which is closed when it returns."""
        self.core = core
        self._world = world
        self._timing = timing
        self._dial = dial
        self._handler = handler
        self._linked = linked
        self._port = port
        self._link: _Link | None = None
        self.reaching = Reaching(world, timing, self)
        self._channels: dict[ChannelState, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._greeting: dict[SecureStream, _Link] = {}  # the oldest first
        self._closed = False
        self.sent = 0
        self._got = 0
        self.on_silent: Callable[[str], None] = lambda _: None
        """Told the peer's address when a link that this side dialled fell silent."""

    @property
    def status(self) -> LinkStatus:
        link, measure = self._link, self.core.measure
        if link is None or measure is None:
            return LinkStatus(rtt=self.core.rtt, dialled=self.reaching.dialled, sent=self.sent, received=self._got)
        return LinkStatus(
            True, link.since, link.stream.peer, self.core.rtt, link.stream.local, self.reaching.dialled,
            measure.shortest, measure.rate, self.sent, self._got,
        )  # fmt: skip

    def hurry(self) -> None:
        """The network may be another now: the link is to prove itself; if there is none, dial without a pause."""
        self.reaching.hurry()
        self.core.ask()
        self.settle()

    def cut_link(self) -> None:
        """The link that is up can't carry anything any more; the session goes on over the next."""
        if self._link is not None:
            self._link.end()

    async def change(self, stream: SecureStream) -> None:
        """Let a connection that this side dialled carry the session in place of the link that is up, without loss.

        Returns when it does. Raises `CognuError` if it never did; it is closed then, and the session as it was.
        """
        if self._closed:
            stream.close()
            self.check_open()
        await self._begin(stream)

    async def connect(self) -> None:
        """See `Reaching.connect`."""
        await self.reaching.connect()

    async def open_channel(self, label: str) -> Channel:
        """A new channel to the peer's handler, over a link that is up. Raises as `connect` and `SessionCore.open`."""
        self.check_open()
        await self.connect()
        self.check_open()
        channel = self._adopt_channel(self.core.open(label))
        self.settle()
        return channel

    async def run_link(self, stream: SecureStream, dialled: bool = False) -> None:
        """Let the core have this link; returns when the link is over, and closes it. Raises `CognuError` if the link
        was never adopted: LinkBroken, ProtocolError for a wrong greeting, FileError(TIMEDOUT) for none.
        """
        if self._closed:
            stream.close()
            self.check_open()
        await self._run(_Link(self, stream), dialled)

    def leave(self, here: E, there: E) -> None:
        """End all channels at once, and take no more of the peer's: see `SessionCore.leave`. The link stays."""
        self.core.leave(here, there)
        self.settle()

    async def close(self, error: E, detail: str, here: E | None = None) -> None:
        """End all channels with `LinkBroken(error)` at once, tell the peer if it can be reached, end every task.

        With `here`, that is what they end with on this side.
        """
        if self._closed:
            return
        self._closed = True
        link = self._link
        self.core.bye(error, detail)
        goodbye = self.core.output(1, self._now()) if link is not None else []
        self.core.lose(here or error, detail)
        self.settle()
        if link is not None:
            if link.carrying:
                await self._say_goodbye(link, goodbye)
            link.stream.close()
        current = asyncio.current_task()
        await end_tasks(*(task for task in self._tasks if task is not current))

    async def _say_goodbye(self, link: _Link, goodbye: list[bytes | memoryview]) -> None:
        # If the host takes no more, the peer finds out by the cut alone.
        if not link.stream.offer(*goodbye):
            link.emptied.clear()
            with suppress(TimeoutError):
                await within(self._world.clock, BYE_SECONDS, link.emptied.wait())

    def check_open(self) -> None:
        if self._closed:
            raise LinkBroken(E.SESSIONLOST, self.core.peer, "closed here")

    def _now(self) -> int:
        return self._world.clock.monotonic()

    def run_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None and not isinstance(error, CognuError):
                loop = asyncio.get_running_loop()
                loop.call_exception_handler({"message": f"{self.core.peer}: session task failed", "exception": error})

    # Channels

    def _adopt_channel(self, state: ChannelState) -> Channel:
        channel = Channel(self, state)
        self._channels[state] = channel
        return channel

    def settle(self) -> None:
        """After any call of the core: send what there is to send, if the link may, and wake who waits for something."""
        link = self._link
        if link is not None and link.may_send and self.core.wants_output:
            buffers = self.core.output(OUTPUT_BYTES, self._now())
            if buffers:
                link.send(buffers)
        for event, state in self.core.take_events() if self.core.events else ():
            if event is Event.OPENED:
                self.run_task(self._serve(self._adopt_channel(state)))
                continue
            channel = self._channels.get(state)
            if channel is not None:
                channel._wake(event)
                if event is Event.CLOSED:
                    del self._channels[state]
        if not self.core.up:
            # The session was lost over this link; it is on its way out, and nothing new may begin on it.
            self.reaching.up.clear()
            if self._link is not None and self._link.carrying and not self._closed:
                self._link.end()

    def _received(self, link: _Link, data: memoryview) -> None:
        """Raises `ProtocolError`, after which the session is lost."""
        if link is not self._link or not self.core.up:
            return  # closed on this side with bytes on their way
        self._got += len(data)
        try:
            self.core.receive(data, self._now())
        finally:
            self.settle()

    async def _serve(self, channel: Channel) -> None:
        try:
            await self._handler(channel)
        except CognuError as error:
            channel.fail(error.error, str(error))
        except asyncio.CancelledError:
            channel.fail(E.CANCELED)
            raise
        except Exception:
            channel.fail(E.IO, "its handler failed")
            raise
        channel.close()

    # Links

    async def dial_once(self) -> None:
        """See `Side`, as the next ones."""
        stream = await self._dial()
        if self.reaching.up.is_set():
            stream.close()
            return
        await self._begin(stream)

    async def greeted(self) -> None:
        with suppress(TimeoutError):
            await within(self._world.clock, GREETING_SECONDS, self._greetings_over())

    async def _greetings_over(self) -> None:
        while not self.reaching.up.is_set():
            adopted = [link.adopted for link in self._greeting.values() if not link.adopted.done()]
            if not adopted:
                return
            await asyncio.wait(adopted, return_when=asyncio.FIRST_COMPLETED)

    @property
    def name(self) -> str:
        return self.core.peer

    @property
    def kept(self) -> bool:
        return self.core.alive

    @property
    def in_use(self) -> bool:
        return bool(self.core.channels)

    def give_up(self, detail: str) -> None:
        self.core.lose(E.AWAY, detail)
        self.settle()

    async def _begin(self, stream: SecureStream) -> None:
        """Returns when the link is adopted, and leaves it running; raises what it ended with if it never was."""
        link = _Link(self, stream)
        task = self.run_task(self._run(link, True))
        task.add_done_callback(lambda _: stream.close())  # one that is cancelled before its first step runs no line
        try:
            await asyncio.wait({task, link.adopted}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not link.adopted.done() or link.adopted.cancelled():
            await asyncio.wait({task})
            if task.cancelled():  # by `close`, which need not end whoever waits here
                raise LinkBroken(E.SESSIONLOST, self.core.peer, "closed here")
            task.result()

    async def _run(self, link: _Link, dialled: bool) -> None:
        stream = link.stream
        try:
            self._make_room(link)
            try:
                await within(self._world.clock, GREETING_SECONDS, self._greet(link, dialled))
            except TimeoutError:
                raise FileError(E.TIMEDOUT, stream.peer) from None
            finally:
                self._greeting.pop(stream, None)
            if self._link is link:
                await self._carry(link)
        finally:
            stream.close()
            if not link.adopted.done():
                link.adopted.cancel()
            if self._link is link:
                self._link_lost()

    def _make_room(self, link: _Link) -> None:
        """A peer may connect as often as it likes, and takes no more of this host's descriptors for that."""
        if len(self._greeting) >= GREETINGS:
            oldest = next(iter(self._greeting))
            del self._greeting[oldest]
            oldest.close()
        self._greeting[link.stream] = link

    async def _greet(self, link: _Link, dialled: bool) -> None:
        """Exchange hellos and adopt the link."""
        stream, core = link.stream, self.core
        if core.leader:
            hello = parse_hello(await _read_exactly(stream, HELLO_SIZE))
            self.check_open()
            answer = core.take_hello(hello, self._world.random.bytes(ID_SIZE), self._now(), self._port())
            self._switch(link, hello.port, dialled)
            await stream.write(pack_hello(answer))
        else:
            await stream.write(pack_hello(core.hello(self._port())))
            hello = parse_hello(await _read_exactly(stream, HELLO_SIZE))
            self.check_open()
            core.take_use(hello, self._now())
            self._switch(link, hello.port, dialled)

    def _switch(self, link: _Link, port: int, dialled: bool) -> None:
        before, self._link = self._link, link
        link.since = self._world.clock.now()
        if before is not None:
            before.stream.close()
            before.end()
        self.reaching.linked(dialled)
        self._linked(link.stream, port, dialled)
        self.reaching.up.set()
        link.adopted.set_result(None)
        self.settle()

    async def _carry(self, link: _Link) -> None:
        """Until the link ended, is dead, or another took its place."""
        link.carry()
        self.settle()
        ticker = asyncio.get_running_loop().create_task(self._tick(link))
        try:
            await asyncio.wait({ticker, link.ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            link.end()
            link.stream.close()
            await end_tasks(ticker)
        if link.silent and self.reaching.dialled:
            self.on_silent(link.stream.peer)
        failure = link.failure or (None if ticker.cancelled() else ticker.exception())
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # an error that its own frame holds keeps all that is in use further up

    async def _tick(self, link: _Link) -> None:
        while self._link is link and (self.core.up or self._closed):  # closed, it is left to `close`
            if not self.core.tick(self._now()):
                link.silent = True
                return
            self.settle()
            await self._world.clock.sleep(self._timing.tick)

    def _link_lost(self) -> None:
        self._link = None
        self.core.link_down()
        self.reaching.lost(self.core.alive and not self._closed)


async def _read_exactly(stream: SecureStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.read(count - len(data))
        if not part:
            raise LinkBroken(E.CONNRESET, stream.peer, "ended in its greeting")
        data += part
    return data
