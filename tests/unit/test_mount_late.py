"""What a flushed read brought after all is not lost: the next read of that fid gets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cognu.files.mount import MountServer
from cognu.ninep import messages as m
from cognu.ninep.codec import Frames, decode, encode
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.types import NOTAG, Qid
from joined import StoppedClock
from serving import Somebody
from streams import MemoryStream, pair


async def requests(stream: MemoryStream) -> AsyncIterator[tuple[int, Message]]:
    frames = Frames(1 << 20)
    while data := await stream.read(1 << 16):
        for frame in frames.feed(data):
            yield decode(frame, Dialect.NG)


async def test_a_read_answered_after_it_was_flushed_is_given_to_the_next() -> None:
    here, there = pair(1 << 16)
    asked = requests(there)

    async def answer(tag: int, message: Message) -> None:
        await there.write(*encode(message, tag, Dialect.NG))

    connecting = asyncio.create_task(MountServer.connect(here, StoppedClock()))
    await anext(asked)
    await answer(NOTAG, m.Rversion(8192, "9P2000.ng"))
    mount = await connecting
    attaching = asyncio.create_task(mount.attach(Somebody(), ""))
    tag, _ = await anext(asked)
    await answer(tag, m.Rattach(Qid(0, 0, 1)))
    fid = await attaching

    reading = asyncio.create_task(mount.read(fid, 7, 100))
    tag, _ = await anext(asked)
    reading.cancel()
    await asyncio.wait([reading])
    flush_tag, flush = await anext(asked)
    assert flush == m.Tflush(tag)
    await answer(tag, m.Rread(b"typed"))
    await answer(flush_tag, m.Rflush())

    # Something else goes round, so that the late answer has arrived.
    asking = asyncio.create_task(mount.readlink(fid))
    tag, _ = await anext(asked)
    await answer(tag, m.Rreadlink("x"))
    assert await asking == "x"

    assert await mount.read(fid, 7, 3) == b"typ"
    assert await mount.read(fid, 10, 100) == b"ed"
    again = asyncio.create_task(mount.read(fid, 12, 100))
    tag, message = await anext(asked)
    assert message == m.Tread(fid.number, 12, 100)  # type: ignore[attr-defined]  # a FarFid
    await answer(tag, m.Rread(b""))
    assert await again == b""
    await mount.close()
