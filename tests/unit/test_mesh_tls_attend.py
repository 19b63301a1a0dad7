"""A TLS stream that tells an attendant what comes, instead of being read: order, room, ends, and misuse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from cognu.errors import E, LinkBroken, Misuse
from cognu.mesh.identity import Identity, identity_from_seed
from cognu.world import SecureStream, TlsKeys
from cognu.world.tls import connect_tls, listen_tls
from mesh_support import read_exactly

SERVER = identity_from_seed(b"s" * 32)
CLIENT = identity_from_seed(b"c" * 32)
LARGE = 12_000_000
"""More bytes than the host's sockets hold."""


def keys(me: Identity, other: Identity) -> TlsKeys:
    return TlsKeys(me.certificate, me.private_key, (other.certificate,))


class Listens:
    """An attendant that keeps everything."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.rooms = 0
        self.ends: list[LinkBroken | None] = []
        self._changed = asyncio.Event()

    def received(self, data: memoryview) -> None:
        assert not self.ends
        self.data += data
        self._changed.set()

    def room(self) -> None:
        self.rooms += 1
        self._changed.set()

    def over(self, error: LinkBroken | None) -> None:
        self.ends.append(error)
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[SecureStream, SecureStream]]:
    """(dialled, accepted)"""
    accepted: asyncio.Future[SecureStream] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def handle(stream: SecureStream) -> None:
        accepted.set_result(stream)
        await done.wait()

    listener = await listen_tls("127.0.0.1:0", lambda: keys(SERVER, CLIENT), handle)
    near = await connect_tls(listener.address, keys(CLIENT, SERVER))
    try:
        yield near, await accepted
    finally:
        done.set()
        near.close()
        await listener.close()


async def exchange() -> None:
    """Much both ways at once, in offers of every size."""
    async with pair() as (near, far):
        data = os.urandom(LARGE)
        listens, answers = Listens(), Listens()
        near.attend(listens)
        far.attend(answers)
        at, size = 0, 1
        while at < LARGE:
            part = memoryview(data)[at : at + size]
            # What does not fit waits in the stream, whoever goes on offering.
            near.offer(data[at : at + 1], part[1:])
            far.offer(part)
            at += len(part)
            size = size * 3 + 1 if size < 2_000_000 else 1
        await answers.until(lambda: len(answers.data) == LARGE)
        await listens.until(lambda: len(listens.data) == LARGE)
        assert answers.data == data
        assert listens.data == data


async def test_what_is_offered_arrives_whole_and_in_order() -> None:
    await exchange()


def test_the_same_holds_on_uvloop() -> None:
    uvloop.run(exchange())


async def test_room_is_told_once_the_host_has_taken_everything() -> None:
    async with pair() as (near, far):
        listens = Listens()
        near.attend(listens)
        assert near.offer(b"a little")
        assert near.offer()
        assert near.offer(b"", memoryview(b""))
        assert not near.offer(bytes(LARGE))
        assert not near.offer(b"the end")
        assert listens.rooms == 0
        assert (await read_exactly(far, 8 + LARGE + 7))[-7:] == b"the end"
        await listens.until(lambda: listens.rooms > 0)
        assert listens.rooms == 1
        assert near.offer(b"more")
        assert await read_exactly(far, 4) == b"more"


async def test_bytes_that_were_decrypted_before_are_told_too() -> None:
    async with pair() as (near, far):
        await far.write(b"hello and more")
        assert await near.read(5) == b"hello"
        listens = Listens()
        near.attend(listens)
        await listens.until(lambda: len(listens.data) == 9)
        assert listens.data == b" and more"


async def last_words() -> None:
    """The other side says goodbye and is gone with some of what was sent to it unread: the host answers that with a
    reset, so the next write here fails before anybody has read the goodbye.
    """
    async with pair() as (near, far):
        listens = Listens()
        near.attend(listens)
        assert near.offer(bytes(100_000))
        await far.write(b"last words")  # it fits, so the loop takes no turn in which near could read
        far.close()
        while near.offer(b"more"):
            pass
        assert not listens.ends
        await listens.until(lambda: bool(listens.ends))
        assert listens.data == b"last words"
        assert len(listens.ends) == 1
        assert not near.offer(b"more")


async def test_what_was_said_before_a_reset_is_told_although_a_write_met_the_reset_first() -> None:
    await last_words()


def test_the_same_holds_of_a_reset_on_uvloop() -> None:
    uvloop.run(last_words())


async def test_an_orderly_end_is_told_after_all_that_came_before() -> None:
    async with pair() as (near, far):
        listens = Listens()
        near.attend(listens)
        await far.write(b"last words")
        far.close()
        await listens.until(lambda: bool(listens.ends))
        assert listens.data == b"last words"
        assert listens.ends == [None]
        assert not near.offer(b"too late")
        near.close()
        assert listens.ends == [None]


async def test_a_cut_is_told_as_such_and_once() -> None:
    async with pair() as (near, far):
        listens, torn = Listens(), Listens()
        near.attend(listens)
        far.attend(torn)
        # It closes with a record half sent, so it can't end the stream in order.
        assert not far.offer(bytes(LARGE))
        far.close()
        assert torn.ends == []
        await listens.until(lambda: bool(listens.ends))
        (error,) = listens.ends
        assert error is not None
        assert error.error is E.CONNRESET


async def test_a_closed_stream_tells_nothing_and_takes_nothing() -> None:
    async with pair() as (near, far):
        listens = Listens()
        near.attend(listens)
        await far.write(b"unheard")
        near.close()
        near.close()
        assert not near.offer(b"x")
        with suppress(LinkBroken):  # what it had not read may be a reset to the other side
            assert await far.read(100) == b""
        assert not listens.data
        assert listens.ends == []
        with pytest.raises(Misuse):
            near.attend(listens)


async def test_reading_and_attending_exclude_each_other() -> None:
    async with pair() as (near, far):
        with pytest.raises(Misuse):
            near.offer(b"x")
        reading = asyncio.create_task(near.read(1))
        await asyncio.sleep(0)
        with pytest.raises(Misuse):
            near.attend(Listens())
        await far.write(b"x")
        assert await reading == b"x"
        near.attend(Listens())
        with pytest.raises(Misuse):
            near.attend(Listens())
        with pytest.raises(Misuse):
            await near.read(1)
        with pytest.raises(Misuse):
            await near.write(b"x")
        far.close()
        with pytest.raises(LinkBroken):
            far.attend(Listens())
