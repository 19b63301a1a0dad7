"""The connection of a mount: requests sent, answers handed to who waits for them, calls given up, fids ended.

The embedding of the sans-I/O `ClientSession`. What is said of giving up in `files/mount.py` is done here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.files.late import Call, Late, has_result, is_change
from cognu.files.server import FileServer
from cognu.files.stopping import asked_to_stop, put_off
from cognu.ninep import messages as m
from cognu.ninep.client import Agreed, Answered, ClientSession, Declined, Event, Failed
from cognu.ninep.messages import Dialect, Reply, Request
from cognu.ninep.types import Buffer
from cognu.world import Stream

log = logging.getLogger("cognu.mount")

READ_SIZE = 256 * 1024
_R = TypeVar("_R")


class FarCalls(FileServer):
    """A connection to a far server, of which `files.mount` makes a file server."""

    def __init__(self, stream: Stream, session: ClientSession) -> None:
        self.on_idle: Callable[[], None] | None = None  # called when the last fid is gone
        self.on_broken: Callable[[CognuError], None] | None = None
        self.broken: CognuError | None = None
        self.machine = ""  # whose tree it is, for what is said of it; "" is none with a name
        self.changes = 0  # changes begun, and ended, and answers that something was revoked
        self._stream = stream
        self._session = session
        self._calls: dict[int, Call] = {}
        self._doomed: list[tuple[Request, int]] = []  # fids to be clunked or removed
        self._out: list[Buffer] = []
        self._writing: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._agreed: asyncio.Future[Agreed] = self._loop.create_future()

    @property
    def dialect(self) -> Dialect:
        assert self._session.dialect is not None
        return self._session.dialect

    @property
    def peer(self) -> str:
        return self._stream.peer

    @property
    def fid_count(self) -> int:
        return self._session.fid_count

    def _revoked(self) -> None:
        self.changes += 1
        self._distrust()

    def _distrust(self) -> None:
        """Something was revoked, or the connection is lost: what was asked for ahead is not handed out any more."""

    # -- the connection -------------------------------------------------------------------------------------------

    async def _read_on(self) -> None:
        reason: CognuError = LinkBroken(E.CONNRESET, self._stream.peer)
        try:
            # What came in the turn in which it broke, as writing failed, is for nobody any more.
            while (data := await self._stream.read(READ_SIZE)) and self.broken is None:
                for event in self._session.feed(data):
                    self._arrived(event)
                    del event  # an error in it would hold the chans further up until the next answer
        except CognuError as error:
            reason = error
            if isinstance(error, ProtocolError):
                log.warning("%s: %s", self._stream.peer, error)
        except Exception:
            log.exception("%s: an answer could not be handled", self._stream.peer)
            reason = ProtocolError(E.IO, self._stream.peer, "a bug of this side; see its log")
        finally:
            self._break(reason)

    def _arrived(self, event: Event) -> None:
        if isinstance(event, Declined):
            self._send(event.again)
            return
        if isinstance(event, Agreed):
            if not self._agreed.done():
                self._agreed.set_result(event)
                if event.dialect is Dialect.NG:
                    self._ask_caps()
            return
        call = self._calls.pop(event.tag)
        reply = event.message if isinstance(event, Answered) else None
        if call.future.done():  # its caller was cancelled
            call.too_late(reply)
        elif reply is not None:
            call.future.set_result(reply)
        elif isinstance(event, Failed):
            error = event.error
            if error.error is E.REVOKED and self.machine and not error.detail:
                error = FileError(error.error, error.subject, f"by {self.machine}")
            call.future.set_exception(error)
            del error  # as `event`
            if event.error.error is E.REVOKED:
                self._revoked()
        else:  # it was asked to stop, and did
            call.too_late(None)
            call.future.cancel()

    def _break(self, reason: CognuError) -> None:
        if self.broken is not None:
            return
        self.broken = reason
        self._stream.close()
        self._distrust()
        if not self._agreed.done():
            self._agreed.set_exception(reason)
            self._agreed.exception()  # seen here, in case nobody waits
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.future.done():
                call.future.set_exception(self._lost(call.request))
            else:
                call.too_late(None)
        if self.on_broken is not None:
            self.on_broken(reason)

    def _lost(self, request: Request) -> FileError:
        assert self.broken is not None
        if is_change(request):
            return FileError(E.NOTRECOVERABLE, self._stream.peer, self.broken.error.text)
        return FileError(self.broken.error, self._stream.peer, self.broken.detail)

    def _send(self, buffers: Sequence[Buffer]) -> None:
        self._out.extend(buffers)
        if self._writing is None:
            self._writing = self._loop.create_task(self._write_out())

    async def _write_out(self) -> None:
        try:
            while self._out:
                out, self._out = self._out, []
                await self._stream.write(*out)
        except CognuError as error:
            self._break(error)
        finally:
            self._writing = None

    async def _call(self, request: Request, reply_type: type[_R], late: Late | None = None) -> _R:
        """Send a request and wait for its reply. If cancelled it is flushed, and `late` is told the outcome, once.

        If asked to stop it waits for the outcome, which may be its reply; else it is cancelled then.
        """
        if self.broken is not None:
            raise FileError(self.broken.error, self._stream.peer, self.broken.detail)
        self._discard_doomed()  # what was dropped before is told before
        changes = is_change(request)
        self.changes += changes
        tag, buffers = self._session.request(request)
        call = self._calls[tag] = Call(request, self._loop.create_future(), late)
        self._send(buffers)
        try:
            try:
                reply = await call.future
            except asyncio.CancelledError:
                if not asked_to_stop():
                    self._give_up(tag, call)
                    raise
                reply = await self._outcome(tag, call)
        finally:
            self.changes += changes
            del call  # its error holds this frame: together they would keep the chans in use further up
        assert isinstance(reply, reply_type)
        return reply

    async def _ask(self, reply_type: type[_R], request: Request, late: Late | None = None) -> _R:
        return await self._call(request, reply_type, late)

    def _ask_caps(self) -> None:
        """What the server can do beyond what all do. Nobody waits: until the answer is there, it can't."""
        tag, buffers = self._session.request(self._session.caps())
        future: asyncio.Future[Reply] = self._loop.create_future()
        future.cancel()
        self._calls[tag] = Call(m.Tcaps(()), future, lambda _: self._caps_came())
        self._send(buffers)

    def _caps_came(self) -> None:
        """It is known what the server can do, or the connection is lost."""

    def _give_up(self, tag: int, call: Call) -> None:
        call.future.cancel()
        # The tag may have been answered and be another call's by now.
        if self._calls.get(tag) is call:
            self._flush(tag)
        else:
            call.too_late(call.future.result() if has_result(call.future) else None)

    async def _outcome(self, tag: int, call: Call) -> Reply:
        """What becomes of a call that was asked to stop: its answer or error, or it raises `CancelledError`."""
        if self._calls.get(tag) is call:
            call.future = self._loop.create_future()  # the one before went with the wait
            self._flush(tag)
        try:
            reply = await call.future
        except asyncio.CancelledError:
            if call.late is not None:  # cancelled once more
                self._give_up(tag, call)
            raise
        finally:
            del call  # as in `_call`
        put_off()
        return reply

    def _flush(self, tag: int) -> None:
        if isinstance(self._calls[tag].request, m.Tremove | m.Tclunk):
            return  # flushed, it would leave the fid at the server; it ends it either way if it is answered
        try:
            self._send(self._session.flush(tag))
        except FileError:
            log.warning("%s: no tag is free to flush a call; it is answered in its time", self._stream.peer)

    # -- fids -----------------------------------------------------------------------------------------------------

    def _free(self, number: int) -> None:
        self._session.free_fid(number)
        if self._session.fid_count == 0 and self.on_idle is not None:
            self.on_idle()

    def _discard(self, number: int) -> None:
        """Clunk a fid without waiting; its number is free again when the answer is there."""
        self._discard_by(m.Tclunk(number), number)

    def _discard_by(self, request: Request, number: int) -> None:
        """A fid may be dropped in the midst of anything, with the last use of a chan: so it is told a little later.

        Told at once, it could take the tag of an answer that is just being handed out.
        """
        if self.broken is not None or self._loop.is_closed():
            return
        if not self._doomed:
            self._loop.call_soon(self._discard_doomed)
        self._doomed.append((request, number))

    def _discard_doomed(self) -> None:
        doomed, self._doomed = self._doomed, []
        for request, number in doomed:
            if self.broken is None:
                self._end_fid(request, number)

    def _end_fid(self, request: Request, number: int) -> None:
        try:
            tag, buffers = self._session.request(request)
        except FileError:
            # All tags are in flight: the number stays taken, and the server drops the fid with the connection.
            log.warning("%s: no tag is free to clunk fid %d", self._stream.peer, number)
            return
        future: asyncio.Future[Reply] = self._loop.create_future()
        future.cancel()
        self._calls[tag] = Call(request, future, lambda _: self._free(number) if self.broken is None else None)
        self._send(buffers)
