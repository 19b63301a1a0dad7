"""Reading ahead and writing behind, for streams whose guest polls them or asked not to wait.

A file server has no way to say "there would be something to read", and a read once asked for can't be taken back
without losing what it was about to bring. So readiness is found as APE's select(2) finds it on Plan 9: by reading.
What came is kept here until the guest asks. A write that must not wait is likewise taken over whole and finished in
the background; until it is, the next one is told to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from inspect import iscoroutine
from typing import Any, cast

from cognu.errors import CognuError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.steps import Steps, start
from cognu.kernel import READ, WRITE

Data = bytes | memoryview
AHEAD = 64 << 10
BEHIND = 64 << 10
"""Bytes kept per descriptor and direction at most."""


def read_at(chan: Chan, offset: int, count: int) -> Steps[Data]:
    return cast(Data, (yield from dispatch(chan, READ, chan.server.read, chan.fid, offset, count)))


def read_chan(chan: Chan, count: int) -> Steps[Data]:
    """Read at the chan's offset, which moves on."""
    data = yield from read_at(chan, chan.handle.offset, count)
    chan.handle.offset += len(data)
    return data


def write_chan(chan: Chan, data: Data) -> Steps[int]:
    """Write at the chan's offset. It moves on before the write is done, so that who shares it writes behind this."""
    handle = chan.handle
    offset = handle.offset
    handle.offset += len(data)
    written = 0
    try:
        written = yield from dispatch(chan, WRITE, chan.server.accept, chan.fid, offset, data)
    finally:
        handle.offset -= len(data) - written
    return written


class ReadAhead:
    """What was read before the guest asked. At most one read is under way."""

    def __init__(self, chan: Chan) -> None:
        self._chan = chan
        self._data = b""
        self._error: CognuError | None = None
        self._ended = False
        self.task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether `take` has an answer: data, the end, or an error."""
        return bool(self._data) or self._ended or self._error is not None

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def ended(self) -> bool:
        return self._ended and not self._data

    def begin(self) -> None:
        """See to it that there is an answer or a read under way."""
        if self.ready or self.task is not None:
            return
        try:
            result = start(read_chan(self._chan, AHEAD))
        except CognuError as error:
            self._error = error
            return
        if iscoroutine(result):
            self.task = asyncio.get_running_loop().create_task(self._finish(result))
        else:
            self._keep(result)  # type: ignore[arg-type]

    async def _finish(self, pending: Coroutine[Any, Any, Data]) -> None:
        try:
            self._keep(await pending)
        except CognuError as error:
            self._error = error
        finally:
            self.task = None

    def _keep(self, data: Data) -> None:
        self._data = bytes(data)
        self._ended = not self._data

    def take(self, count: int, peek: bool = False) -> bytes:
        """What is `ready`, at most `count` bytes; `b""` is the end. Raises what the read raised, or would raise now."""
        self._chan.domain.check(self._chan.cap, READ)
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # an error that its own frame holds keeps all that is in use further up
        data = self._data[:count]
        if not peek:
            self._data = self._data[count:]
            self._ended = False  # a stream may go on after its end, as a terminal does
        return data

    def close(self) -> None:
        if self.task is not None:
            _cancel(self.task)


class WriteBehind:
    """A write that the guest did not wait for. At most one is under way."""

    def __init__(self, chan: Chan) -> None:
        self._chan = chan
        self._error: CognuError | None = None
        self.task: asyncio.Task[None] | None = None

    def begin(self, data: bytes) -> None:
        """Write all of `data` now or in the background. Raises what the write before this one raised."""
        assert self.task is None
        self.check()
        result = start(self._write(data))
        if iscoroutine(result):
            self.task = asyncio.get_running_loop().create_task(self._finish(result))

    def _write(self, data: bytes) -> Steps[None]:
        rest = memoryview(data)
        while len(rest):
            rest = rest[(yield from write_chan(self._chan, rest)) :]

    async def _finish(self, pending: Coroutine[Any, Any, None]) -> None:
        try:
            await pending
        except CognuError as error:
            self._error = error
        finally:
            self.task = None

    def check(self) -> None:
        """Raises what a write that is over raised, once."""
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # an error that its own frame holds keeps all that is in use further up

    def close(self) -> None:
        if self.task is not None:
            _cancel(self.task)


def _cancel(task: asyncio.Task[None]) -> None:
    """Cancelled before its first step it would never run, nor clean up; that step is in the loop's queue already."""
    asyncio.get_running_loop().call_soon(task.cancel)


async def settled(task: asyncio.Task[None]) -> None:
    """Until a background transfer is over. Cancelling the wait leaves the transfer running."""
    await asyncio.wait([task])
