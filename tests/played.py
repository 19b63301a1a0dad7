"""A mount driver whose server the test plays: it reads each request and writes each answer by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cognu.errors import E
from cognu.files.mount import FarFid, MountServer
from cognu.ninep import messages as m
from cognu.ninep.attrs import getattr_of_stat
from cognu.ninep.codec import Frames, decode, encode
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.types import GETATTR_ALL, NOTAG, Qid, Stat
from joined import StoppedClock
from serving import Somebody
from streams import MemoryStream, pair


class Played:
    """A mount and its server's side of the stream. `file` is a fid that was attached to."""

    def __init__(self, mount: MountServer, stream: MemoryStream) -> None:
        self.mount = mount
        self.stream = stream
        self.file: FarFid
        self._frames = Frames(1 << 20)
        self._asked: list[tuple[int, Message]] = []

    async def asked(self) -> tuple[int, Message]:
        """The next request: its tag and what it says."""
        while not self._asked:
            data = await self.stream.read(1 << 16)
            assert data, "the client went away"
            self._asked += [decode(frame, Dialect.NG) for frame in self._frames.feed(data)]
        return self._asked.pop(0)

    async def answer(self, tag: int, message: Message) -> None:
        await self.stream.write(*encode(message, tag, Dialect.NG))

    async def asks(self, message: Message) -> int:
        """The tag of the next request, which must say just this."""
        tag, said = await self.asked()
        assert said == message
        return tag

    async def went_round(self) -> None:
        """What was answered before has arrived."""
        asking = asyncio.create_task(self.mount.readlink(self.file))
        await self.answer(await self.asks(m.Treadlink(self.file.number)), m.Rreadlink("x"))
        assert await asking == "x"

    async def read_late(self, offset: int, data: bytes) -> None:
        """A read is cancelled, flushed, and answered nevertheless before the flush is."""
        reading = asyncio.create_task(self.mount.read(self.file, offset, 100))
        tag = await self.asks(m.Tread(self.file.number, offset, 100))
        reading.cancel()
        await asyncio.wait([reading])
        flush = await self.asks(m.Tflush(tag))
        await self.answer(tag, m.Rread(data))
        await self.answer(flush, m.Rflush())

    async def says_length(self, length: int) -> None:
        tag = await self.asks(m.Tgetattr(self.file.number, GETATTR_ALL))
        stat = Stat(name="f", qid=Qid(0, 0, 1), mode=0o644, length=length, user="me", group="me", muid="me")
        await self.answer(tag, getattr_of_stat(stat, GETATTR_ALL))


@asynccontextmanager
async def played() -> AsyncIterator[Played]:
    here, there = pair(1 << 16)
    connecting = asyncio.create_task(MountServer.connect(here, StoppedClock()))
    data = await there.read(1 << 16)
    assert decode(memoryview(data), Dialect.NG)[1] == m.Tversion(1 << 20, Dialect.NG.value)
    await there.write(*encode(m.Rversion(8192, Dialect.NG.value), NOTAG, Dialect.NG))
    at = Played(await connecting, there)
    tag, asked = await at.asked()
    assert isinstance(asked, m.Tcaps)
    await at.answer(tag, m.Rngerror(E.NOSYS.errno, "NOSYS", "message 162", ""))  # as one from before Tcaps does
    attaching = asyncio.create_task(at.mount.attach(Somebody(), ""))
    tag, _ = await at.asked()
    await at.answer(tag, m.Rattach(Qid(0, 0, 1)))
    fid = await attaching
    assert isinstance(fid, FarFid)
    at.file = fid
    try:
        yield at
    finally:
        await at.mount.close()
