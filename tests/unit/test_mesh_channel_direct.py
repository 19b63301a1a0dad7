"""A channel used from the loop's callbacks: what comes is shown first, what is offered goes on its way."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cognu.errors import E, LinkBroken
from cognu.mesh.identity import Peer
from cognu.mesh.session import Channel
from cognu.mesh.session_core import QUEUE_LOW
from mesh_support import read_all, read_exactly, two_nodes


async def test_what_comes_is_shown_to_who_looks_first_and_the_read_waits_on(tmp_path: Path) -> None:
    ends: list[bytes] = []

    async def answer(_: Peer, __: str, channel: Channel) -> None:
        def look(data: bytes) -> bool:
            channel.offer(data[::-1])
            return True

        channel.look_first(look)
        await channel.write(b"!")
        ends.append(await channel.read(4))

    async with two_nodes(tmp_path, on_b=answer) as (a, _):
        channel = await a.mesh.open("b", "direct")
        await channel.read(1)  # what a read finds when it begins is not shown
        await channel.write(b"123456")
        assert await read_exactly(channel, 6) == b"432165"  # as much at a time as the read asks for
        channel.end()
        assert await read_all(channel) == b""
        assert ends == [b""]


async def test_what_is_not_taken_goes_to_the_read_whole_and_in_order_also_if_that_is_cancelled(tmp_path: Path) -> None:
    shown: list[bytes] = []
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(_: Peer, __: str, channel: Channel) -> None:
        def look(data: bytes) -> bool:
            shown.append(data)
            if len(shown) == 2:
                reading.cancel()  # in the same turn in which the bytes come
            return len(shown) == 1

        channel.look_first(look)
        await channel.write(b"!")
        reading = asyncio.get_running_loop().create_task(channel.read(3))
        await asyncio.wait([reading])
        assert reading.cancelled()
        got.set_result(await channel.read(1) + await channel.read(9) + await channel.read(9))

    async with two_nodes(tmp_path, on_b=answer) as (a, _):
        channel = await a.mesh.open("b", "direct")
        await channel.read(1)
        await channel.write(b"abcdef")
        await channel.write(b"ghi")
        assert await got == b"defghi"
        assert shown[:2] == [b"abc", b"def"]


async def test_much_that_is_offered_arrives_and_who_offers_is_told_to_wait(tmp_path: Path) -> None:
    data = os.urandom(4 * QUEUE_LOW)

    async def answer(_: Peer, __: str, channel: Channel) -> None:
        changing = bytearray(data)
        assert not channel.offer(memoryview(changing), b"end")
        changing[:] = bytes(len(changing))
        await channel.write()  # until the queue is short again
        assert channel.offer(b"!")

    async with two_nodes(tmp_path, on_b=answer) as (a, _):
        assert await read_all(await a.mesh.open("b", "direct")) == data + b"end!"


async def test_the_end_and_why_are_the_reads_and_nothing_is_taken_after_it(tmp_path: Path) -> None:
    over: asyncio.Future[tuple[E, bool]] = asyncio.get_running_loop().create_future()

    async def answer(_: Peer, __: str, channel: Channel) -> None:
        channel.look_first(lambda _: True)
        await channel.write(b"!")
        try:
            await channel.read(9)
        except LinkBroken as error:
            over.set_result((error.error, channel.offer(b"nobody is there")))

    async with two_nodes(tmp_path, on_b=answer) as (a, _):
        channel = await a.mesh.open("b", "direct")
        await channel.read(1)
        await channel.write(b"x")
        channel.fail(E.ACCES, "not any more")
        assert await over == (E.ACCES, False)


async def test_a_channel_closed_on_this_side_ends_the_read_that_waits(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, _):
        channel = await a.mesh.open("b", "echo")
        channel.look_first(lambda _: True)
        reading = asyncio.get_running_loop().create_task(channel.read(1))
        await asyncio.sleep(0)
        channel.close()
        assert await reading == b""
        assert not channel.offer(b"x")
        with pytest.raises(LinkBroken):
            await channel.write(b"x")
