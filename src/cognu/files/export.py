"""A namespace served over 9P: one connection's requests carried out as operations on chans (exportfs(4)).

The sans-I/O `ServerSession` keeps tags, fids and flushes in order; this is its embedding. What each request does is
in `files/export_calls.py`. A request whose answer is ready is answered on the spot; only one that must wait becomes a
task. What is ready without end (`cat /dev/zero`) gives way to others after a few requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from inspect import iscoroutine
from typing import Any, NamedTuple

from cognu.errors import CognuError, E, FileError, Misuse, ProtocolError
from cognu.files.attributes import AttributeFid
from cognu.files.chan import Chan
from cognu.files.export_calls import Answer, Attach, Calls, to_be_told
from cognu.files.export_watch import Watches
from cognu.files.handing import Minter
from cognu.files.listing import sources_of
from cognu.files.plain import BATCH, SMALL, PlainAnswers
from cognu.files.process import Descriptors, Process
from cognu.files.steps import start
from cognu.files.stopping import ask_to_stop, give_up
from cognu.ninep import messages as m
from cognu.ninep.codec import messages_of, number_of
from cognu.ninep.compound import MINT
from cognu.ninep.messages import Dialect
from cognu.ninep.server import Called, Cancel, Limits, Release, Send, ServerSession
from cognu.ninep.types import Buffer
from cognu.world import DirectStream, Stream

log = logging.getLogger("cognu.export")

READ_SIZE = 256 * 1024
UNSENT = 4 << 20
"""Bytes of answers that may wait to be sent before further requests have to."""
TELLING = (m.Tread, m.Treaddir, m.Tlist, m.Treadlink, m.Tstat, m.Tgetattr, m.Tstatfs)
"""What is answered with bytes, names or attributes of files, or with how much room there is."""
TOLD = (m.Rread, m.Rreaddir, m.Rlist, m.Rreadlink, m.Rstat, m.Rgetattr, m.Rstatfs, m.Rcomp, m.Revent)
WITH_DATA = {number_of(dialect, told) for dialect in Dialect for told in TOLD if told in messages_of(dialect)}
RVERSION = number_of(Dialect.LEGACY, m.Rversion)
_TAG = 0xFFFF
"""What of a call's tag is on the wire: the parts of a compound have more."""
TURN = 32
"""Requests answered in one go before others get their turn on the loop."""


class _Unsent(NamedTuple):
    """A message that waits to be sent; `sources` are what its data were read from, if it carries any."""

    buffers: tuple[Buffer, ...]
    size: int
    tag: int
    sources: list[Chan]
    made: tuple[int, ...]


class Export:
    """Serves one connection with the namespace of `process` until the client goes away or breaks the protocol.

    `descriptors`, if given, holds the client's open fids under their numbers, so that the process can hand them on.
    `minter` makes tokens: with it the client may hand on what it has (Tmint). `calls` has the first two from then on.
    """

    def __init__(
        self,
        stream: Stream,
        process: Process,
        attach: Attach,
        descriptors: Descriptors | None = None,
        limits: Limits | None = None,
        dialects: tuple[Dialect, ...] = tuple(Dialect),
        minter: Minter | None = None,
    ) -> None:
        self._stream = stream
        self._session = ServerSession(limits or Limits(), dialects, () if minter else (MINT,))
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopping: set[int] = set()  # tags of calls that the session asked to stop
        self._out: deque[_Unsent] = deque()
        self._unsent = 0  # bytes in `_out`
        self._held_up = False  # events wait until more is sent
        self._reads: dict[int, list[Chan]] = {}  # by tag: what a call of `TELLING` under way, or not sent, is from
        self._parts_read: dict[int, list[Chan]] = {}  # by a compound's tag: what its parts have read so far
        self._writing: asyncio.Task[None] | None = None  # sends what calls that waited brought, by `_write_out`
        self._fed = False  # what the reading task is being woken for is with the session already
        self._failure: Exception | None = None  # what it is being woken for: the end
        self._sending = False  # somebody is in `_write_out`: from there alone the stream is written to
        self._watches = Watches(self._session, self._parts_read, self._wake)
        self.calls = Calls(self._session, process, attach, descriptors, minter, self._watches, self._tasks)
        self._plain = PlainAnswers(stream, self._session, self.calls) if isinstance(stream, DirectStream) else None

    async def serve(self) -> None:
        """Until the connection ends. Everything the client held is released when this returns; cancel it to stop."""
        if isinstance(self._stream, DirectStream):
            self._stream.look_first(self._look)
        try:
            while data := await self._stream.read(READ_SIZE):
                if self._failure is not None:
                    break
                if not self._fed:
                    self._session.feed(data)
                self._fed = False
                await self._take_turns()
            if self._failure is not None:
                raise self._failure
        except ProtocolError as error:
            log.warning("%s: %s", self._stream.peer, error)
        except Misuse as error:
            log.error("%s: a mistake on this side ends the connection", self._stream.peer, exc_info=error)
        except CognuError as error:
            # A client that was ended closes nothing: that is how clients end, and no news, read or written to.
            if error.error not in (E.CONNRESET, E.PIPE):
                log.info("%s", error if error.subject == self._stream.peer else f"{self._stream.peer}: {error}")
        finally:
            try:
                await self._close()
            finally:
                self._failure = None  # its traceback holds frames that hold it

    async def _take_turns(self) -> None:
        more = True
        while more:
            if self._blocked:
                await self._drain()  # before others are answered the long way, which keeps more in memory
            more = self._carry_out(TURN) or self._held_up
            await self._drain()
            if more:
                await asyncio.sleep(0)

    def _carry_out(self, most: int) -> bool:
        """Handle up to `most` events; whether there may be more. Raises `ProtocolError`."""
        most -= self._answer_plain(most)
        if self._session.idle:
            self._held_up = False
            return False
        for _ in range(most):
            self._held_up = self._unsent > UNSENT or self._blocked
            if self._held_up:
                return False
            event = self._session.next_event()
            if event is None:
                return False
            match event:
                case Called():
                    self._begin(event)
                case Send(buffers, made):
                    self._queue(buffers, made)  # type: ignore[arg-type]  # extents are never given to this session
                case Cancel(tag):
                    if self._watches.stop(tag):
                        self._session.cancelled(tag)
                    task = self._tasks.get(tag)
                    if task is not None:
                        # A task cancelled before its first step would never run, nor clean up: its first step is
                        # in the loop's queue already, so this comes after it.
                        self._stopping.add(tag)
                        asyncio.get_running_loop().call_soon(ask_to_stop, task)
                case Release(targets):
                    for target in targets:
                        self.calls.release(target)
                    if not self._session.fid_count:
                        self._watches.end()
        return True

    # -- from the loop's callbacks, without a task ----------------------------------------------------------------

    def _look(self, data: bytes) -> bool:
        """Carry out what came while the reading task waits; False to wake it, for what is left or for the end."""
        if self._plain is None or self._plain.blocked or self._out or self._writing is not None:
            return False
        try:
            self._session.feed(data)
            more = self._carry_out(TURN)
        except Exception as error:
            self._failure = error  # the reading task ends with it
            return False
        self._fed = more or self._held_up or not self._offer_out()
        return not self._fed

    def _answer_plain(self, most: int) -> int:
        """See `files/plain.py`."""
        if self._plain is None or self._out or self._writing is not None or self._sending:
            return 0
        return self._plain.answer(most)

    def _offer_out(self) -> bool:
        """Give the host what is due, if that is little; whether nothing is left to be sent by a task."""
        if self._plain is None or self._plain.blocked or self._unsent > SMALL:
            return not self._is_due
        batch: list[Buffer] = []
        while self._out:
            batch += self._next_to_send()
        if batch:
            self._plain.offer(b"".join(batch))
        return not self._plain.blocked

    # -- calls ----------------------------------------------------------------------------------------------------

    def _begin(self, called: Called) -> None:
        if isinstance(called.message, m.Tevent):
            try:
                self._watches.ask(called.tag, called.message)
            except FileError as error:
                self._session.error(called.tag, error)
            return
        if isinstance(called.message, TELLING):
            source = called.target.chan if isinstance(called.target, AttributeFid) else called.target
            if isinstance(source, Chan):
                self._reads[called.tag] = [chan.share() for chan in sources_of(self.calls.process.namespace, source)]
        try:
            result = start(self.calls.steps(called))
        except Exception as error:
            self._fail(called.tag, error)
            return
        if iscoroutine(result):
            task = asyncio.get_running_loop().create_task(self._finish(called.tag, result))
            self._tasks[called.tag] = task
        else:
            self._succeed(called.tag, result)  # type: ignore[arg-type]

    async def _finish(self, tag: int, pending: Coroutine[Any, Any, Answer]) -> None:
        answer: Answer | None = None
        failure: BaseException | None = None
        try:
            answer = await pending
        except (Exception, asyncio.CancelledError) as error:
            failure = error
        stopping = tag in self._stopping
        self._stopping.discard(tag)
        del self._tasks[tag]
        if answer is not None:
            self._succeed(tag, answer)
        elif isinstance(failure, Exception):
            self._fail(tag, failure)
        elif stopping:
            self._session.cancelled(tag)
            self._forget_read(tag)
        else:  # the server gave up by itself, or the whole loop is ending
            self._fail(tag, FileError(E.CANCELED))
        failure = None  # its traceback holds this frame, and what the call held with it
        self._after_call()

    def _succeed(self, tag: int, answer: Answer) -> None:
        reply, made = answer
        if tag > _TAG and tag in self._reads:
            self._parts_read.setdefault(tag & _TAG, []).extend(self._reads.pop(tag))
        try:
            self._session.reply(tag, reply, made)
        except Misuse as error:  # a server that answers more than it was asked, say: its fault, not the client's
            if made is not None:
                self.calls.release(made)
            log.error("a server gave a wrong answer", exc_info=error)
            self._session.error(tag, FileError(E.IO))

    def _fail(self, tag: int, error: Exception) -> None:
        told = to_be_told(error)
        if tag > _TAG:
            self._forget_read(tag)
        self._session.error(tag, told)

    def _wake(self) -> None:
        """Something was answered in the midst of anything; it is sent when that is over."""
        asyncio.get_running_loop().call_soon(self._after_call)

    def _after_call(self) -> None:
        """Carry on with what a finished call allows, and send what is due, from outside the reading task."""
        try:
            self._carry_on()
            if not self._sending and self._writing is None and not self._offer_out():
                self._writing = asyncio.get_running_loop().create_task(self._write_aside())
        except Exception as error:
            self._end_with(error)

    def _carry_on(self) -> None:
        """Handle all events, or as many as there is room for. Raises `ProtocolError`."""
        while self._carry_out(TURN):
            pass

    def _end_with(self, error: Exception) -> None:
        """Have the reading task end with it."""
        self._failure = self._failure or error
        self._stream.close()

    # -- sending --------------------------------------------------------------------------------------------------

    @property
    def _blocked(self) -> bool:
        return self._plain is not None and self._plain.blocked

    @property
    def _is_due(self) -> bool:
        return bool(self._out) or self._blocked

    async def _drain(self) -> None:
        """Wait until all is sent. Calls that end meanwhile may start the writer too: there is never more than one."""
        while self._is_due or self._writing is not None:
            if self._writing is not None:
                await asyncio.shield(self._writing)
                if self._failure is not None:
                    raise self._failure
            else:
                await self._write_out()  # no task for what is sent at once

    def _queue(self, buffers: tuple[Buffer, ...], made: tuple[int, ...]) -> None:
        """Put one message in the line of those to send."""
        kind, tag = buffers[0][4], int.from_bytes(buffers[0][5:7], "little")
        if kind == RVERSION:
            self._forget_sources()  # of calls of the session before, whose tags are free for others now
        sources = self._parts_read.pop(tag, [])
        sources += self._reads.pop(tag, [])
        if kind not in WITH_DATA:
            _close_all(sources)
            sources = []
        size = sum(map(len, buffers))
        self._out.append(_Unsent(buffers, size, tag, sources, made))
        self._unsent += size

    def _next_to_send(self) -> tuple[Buffer, ...]:
        """The next message. Data whose capability was revoked while they waited don't go out: an error does."""
        unsent = self._out.popleft()
        self._unsent -= unsent.size
        if not unsent.sources:
            return unsent.buffers
        try:
            for source in unsent.sources:
                source.domain.check(source.cap, 0)
        except FileError as error:
            if unsent.made:
                asyncio.get_running_loop().call_soon(self._after_call)  # those fids are to be released
            return tuple(self._session.refusal(unsent.tag, error, unsent.made))
        finally:
            _close_all(unsent.sources)
        return unsent.buffers

    async def _write_aside(self) -> None:
        try:
            await self._write_out()
        except Exception as error:
            self._end_with(error)
        finally:
            self._writing = None

    async def _write_out(self) -> None:
        """Send all there is, by the one who may write: the stream takes no second writer. Raises `LinkBroken`."""
        self._sending = True
        try:
            while self._is_due or self._held_up:
                if self._plain is not None:
                    await self._plain.drain()
                if self._held_up:
                    self._held_up = self._carry_out(TURN) or self._held_up
                if self._out:
                    await self._stream.write(*self._next_batch())
                elif self._held_up:
                    await asyncio.sleep(0)
        finally:
            self._sending = False

    def _next_batch(self) -> list[Buffer]:
        batch: list[Buffer] = []
        size = 0
        while self._out and size < BATCH:
            size += self._out[0].size
            batch += self._next_to_send()
        return batch

    def _forget_read(self, tag: int) -> None:
        _close_all(self._reads.pop(tag, []))

    def _forget_sources(self) -> None:
        for tag in list(self._reads):
            self._forget_read(tag)
        for sources in self._parts_read.values():
            _close_all(sources)
        self._parts_read.clear()

    def _forget_unsent(self) -> None:
        for unsent in self._out:
            _close_all(unsent.sources)
        self._out.clear()
        self._unsent = 0

    async def _close(self) -> None:
        self._session.close()
        self._watches.end()
        if self._plain is not None:
            self._plain.blocked = False  # nothing is held up any more
        self._forget_unsent()
        while True:
            try:
                self._carry_on()
            except ProtocolError:
                pass
            if not self._tasks:
                break
            for task in self._tasks.values():
                # Nobody is left to hear what comes of them, so none may wait for that. Not before its first step.
                asyncio.get_running_loop().call_soon(give_up, task)
            await asyncio.wait(list(self._tasks.values()))
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        self._forget_unsent()
        self._forget_sources()
        self._stream.close()


def _close_all(chans: list[Chan]) -> None:
    for chan in chans:
        chan.close()
