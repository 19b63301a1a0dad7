"""Extended attributes over 9P2000.L: fids that are read and written, what is set at a clunk, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from cognu.devices.ram import RamServer
from cognu.errors import E
from cognu.files import attributes
from cognu.files.mount_linux import names_of
from cognu.files.process import Process
from cognu.ninep import messages as m
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.types import XATTR_CREATE, XATTR_MAX, XATTR_REPLACE
from cognu.world.real import RealClock
from joined import Raw, bring, idle, local_process
from played import played
from serving import Client, done

L = Dialect.L


class Served(NamedTuple):
    """A client of a memory server that has the file `f`, with fid 1 on it; `local` is how the test looks at it."""

    raw: Raw
    local: Client
    process: Process

    async def value(self, name: str) -> bytes:
        fid = await self.local.walk("f")
        return await done(self.local.server.getxattr(fid, name))

    async def ask(self, *messages: Message) -> list[Message]:
        self.raw.send(*((message, tag) for tag, message in enumerate(messages)))
        return [message for _, message in sorted(await self.raw.answers(len(messages)), key=lambda row: row[0])]

    async def set(self, name: str, value: bytes, flags: int = 0) -> Message:
        """As Linux does it; what the clunk is answered."""
        said = await self.ask(
            m.Twalk(1, 9, ()), m.Txattrcreate(9, name, len(value), flags), m.Twrite(9, 0, value), m.Tclunk(9)
        )
        assert [type(answer) for answer in said[:3]] == [m.Rwalk, m.Rxattrcreate, m.Rwrite]
        return said[3]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    server = RamServer(RealClock())
    process = local_process(server)
    local = Client(server)
    await local.put("f", b"data")
    raw = await Raw.over(process, L)
    raw.send((m.Twalk(0, 1, ("f",)), 1))
    await raw.answers(1)
    yield Served(raw, local, process)
    await raw.close()
    assert raw.export.calls._attributes.used == 0


async def test_a_value_is_set_when_its_fid_is_clunked_and_read_through_a_fid_of_its_own(served: Served) -> None:
    said = await served.ask(m.Twalk(1, 2, ()), m.Txattrcreate(2, "user.x", 6, XATTR_CREATE), m.Twrite(2, 0, b"one"))
    assert said[1:] == [m.Rxattrcreate(), m.Rwrite(3)]
    assert await bring(served.value("user.x")) is E.NODATA
    assert await served.ask(m.Twrite(2, 3, b"two"), m.Tclunk(2)) == [m.Rwrite(3), m.Rclunk()]
    assert await served.value("user.x") == b"onetwo"
    said = await served.ask(m.Txattrwalk(1, 3, "user.x"), m.Tread(3, 0, 4), m.Tread(3, 4, 100), m.Tread(3, 6, 100))
    assert said == [m.Rxattrwalk(6), m.Rread(b"onet"), m.Rread(b"wo"), m.Rread(b"")]
    assert await served.ask(m.Tclunk(3), m.Tread(1, 0, 1)) == [m.Rclunk(), m.Rlerror(E.BADUSE.errno)]


async def test_all_names_are_read_as_one_list(served: Served) -> None:
    assert await served.ask(m.Txattrwalk(1, 3, ""), m.Tread(3, 0, 9)) == [m.Rxattrwalk(0), m.Rread(b"")]
    for name in ("user.a", "user.b"):
        assert await served.set(name, b"v") == m.Rclunk()
    said = await served.ask(m.Txattrwalk(1, 4, ""), m.Tread(4, 0, 100))
    assert said == [m.Rxattrwalk(14), m.Rread(b"user.a\0user.b\0")]


async def test_the_flags_are_those_of_setxattr(served: Served) -> None:
    assert await served.set("user.x", b"1", XATTR_REPLACE) == m.Rlerror(E.NODATA.errno)
    assert await served.set("user.x", b"1", XATTR_CREATE) == m.Rclunk()
    assert await served.set("user.x", b"2", XATTR_CREATE) == m.Rlerror(E.EXIST.errno)
    assert await served.set("user.x", b"3", XATTR_REPLACE) == m.Rclunk()
    assert await served.value("user.x") == b"3"


async def test_nothing_with_the_flag_to_replace_takes_it_away_as_linux_says_it(served: Served) -> None:
    assert await served.set("user.x", b"1") == m.Rclunk()
    assert await served.set("user.x", b"") == m.Rclunk()
    assert await served.value("user.x") == b""
    assert await served.set("user.x", b"", XATTR_REPLACE) == m.Rclunk()
    assert await bring(served.value("user.x")) is E.NODATA
    assert await served.set("user.x", b"", XATTR_REPLACE) == m.Rlerror(E.NODATA.errno)


async def test_a_value_that_came_short_is_not_set_and_the_fid_is_gone(served: Served) -> None:
    said = await served.ask(
        m.Twalk(1, 2, ()), m.Txattrcreate(2, "user.x", 6, 0), m.Twrite(2, 0, b"one"), m.Tclunk(2), m.Tclunk(2)
    )
    assert said[3:] == [m.Rlerror(E.INVAL.errno), m.Rlerror(E.BADF.errno)]
    assert await bring(served.value("user.x")) is E.NODATA


async def test_the_end_of_the_connection_sets_nothing(served: Served) -> None:
    other = await Raw.over(served.process, L)
    other.send((m.Twalk(0, 1, ("f",)), 1), (m.Txattrcreate(1, "user.x", 1, 0), 2), (m.Twrite(1, 0, b"x"), 3))
    await other.answers(3)
    await other.close()
    assert other.export.calls._attributes.used == 0
    assert await bring(served.value("user.x")) is E.NODATA


WRONG = [
    ([m.Twrite(2, 4, b"x")], E.INVAL),  # not in order
    ([m.Twrite(2, 0, b"x" * 7)], E.INVAL),  # beyond the size
    ([m.Twrite(2, 1 << 63, b"")], E.INVAL),
    ([m.Tread(2, 0, 1)], E.BADUSE),
    ([m.Tremove(2)], E.BADUSE),
    ([m.Tgetattr(2, 0)], E.BADUSE),
    ([m.Twalk(2, 5, ())], E.BADUSE),
]


@pytest.mark.parametrize(("messages", "error"), WRONG)
async def test_a_fid_that_takes_a_value_is_for_nothing_else(served: Served, messages: list[Message], error: E) -> None:
    said = await served.ask(m.Twalk(1, 2, ()), m.Txattrcreate(2, "user.x", 6, 0), *messages)
    assert said[2:] == [m.Rlerror(error.errno)]
    assert await bring(served.value("user.x")) is E.NODATA


async def test_a_fid_that_gives_a_value_takes_none(served: Served) -> None:
    said = await served.ask(m.Txattrwalk(1, 3, ""), m.Twrite(3, 0, b"x"), m.Tremove(3), m.Tclunk(3))
    assert said[1:] == [m.Rlerror(E.BADUSE.errno), m.Rlerror(E.BADUSE.errno), m.Rlerror(E.BADF.errno)]


REFUSED = [
    (m.Txattrcreate(1, "user.x", XATTR_MAX + 1, 0), E.TOOBIG),
    (m.Txattrcreate(1, "user.x", 1, 3), E.INVAL),
    (m.Txattrcreate(1, "trusted.x", 1, 0), E.NOTSUP),
    (m.Txattrwalk(1, 2, "user.none"), E.NODATA),
    (m.Txattrwalk(1, 2, "security.selinux"), E.NOTSUP),
]


@pytest.mark.parametrize(("message", "error"), REFUSED)
async def test_what_is_refused_leaves_the_fid_as_it_was(served: Served, message: Message, error: E) -> None:
    assert await served.ask(message) == [m.Rlerror(error.errno)]
    assert isinstance((await served.ask(m.Tgetattr(1, 0)))[0], m.Rgetattr)


async def test_what_fids_keep_in_memory_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "MOST_BYTES", 10)
    said = await served.ask(
        m.Twalk(1, 2, ()), m.Txattrcreate(2, "user.x", 6, 0), m.Twalk(1, 3, ()), m.Txattrcreate(3, "user.y", 6, 0)
    )
    assert said[1::2] == [m.Rxattrcreate(), m.Rlerror(E.NOMEM.errno)]
    said = await served.ask(m.Tclunk(2), m.Txattrcreate(3, "user.y", 6, 0))
    assert said[1] == m.Rxattrcreate()


async def test_attributes_are_counted_as_the_memory_they_take(served: Served) -> None:
    store = served.local.server._store  # type: ignore[attr-defined]
    before = store.used
    assert await served.set("user.x", b"12345") == m.Rclunk()
    assert store.used == before + len("user.x") + 5
    assert await served.set("user.y", bytes(60_000)) == m.Rclunk()
    assert await served.set("user.z", bytes(XATTR_MAX - 60_000)) == m.Rlerror(E.NOSPC.errno)
    assert store.used == before + 6 + 5 + 6 + 60_000
    await served.local.remove("f")
    served.raw.send((m.Tclunk(1), 1))
    await served.raw.answers(1)
    assert store.used == before - 4


async def test_once_revoked_no_byte_of_an_attribute_comes(served: Served) -> None:
    assert await served.set("user.x", b"secret") == m.Rclunk()
    await served.ask(m.Txattrwalk(1, 3, "user.x"), m.Twalk(1, 4, ()), m.Txattrcreate(4, "user.x", 1, 0))
    domain = served.process.namespace.domain
    domain.authority.end_server(1)
    said = await served.ask(m.Tread(3, 0, 9), m.Twrite(4, 0, b"y"), m.Tclunk(4))
    assert said[0] == m.Rlerror(E.REVOKED.errno)
    assert said[2] == m.Rlerror(E.REVOKED.errno)


# -- the mount driver, whose server the test plays -------------------------------------------------------------------


async def test_a_server_that_sends_less_or_more_than_it_announced_is_not_believed() -> None:
    async with played() as at:
        asking = asyncio.ensure_future(at.mount.getxattr(at.file, "user.x"))
        tag, walk = await at.asked()
        assert isinstance(walk, m.Txattrwalk)
        await at.answer(tag, m.Rxattrwalk(5))
        for data in (b"abc", b""):
            tag, read = await at.asked()
            assert isinstance(read, m.Tread)
            await at.answer(tag, m.Rread(data))
        assert await bring(asking) is E.IO
        await at.answer(await at.asks(m.Tclunk(walk.newfid)), m.Rclunk())
        asking = asyncio.ensure_future(at.mount.getxattr(at.file, "user.x"))
        tag, walk = await at.asked()
        assert isinstance(walk, m.Txattrwalk)
        await at.answer(tag, m.Rxattrwalk(1 << 40))
        assert await bring(asking) is E.TOOBIG
        await at.answer(await at.asks(m.Tclunk(walk.newfid)), m.Rclunk())


async def test_what_the_server_says_at_the_clunk_is_what_came_of_setting() -> None:
    async with played() as at:
        before = at.mount.fid_count
        setting = asyncio.ensure_future(at.mount.setxattr(at.file, "user.x", b"abc", 0))
        tag, walk = await at.asked()
        assert isinstance(walk, m.Twalk)
        await at.answer(tag, m.Rwalk(()))
        number = walk.newfid
        await at.answer(await at.asks(m.Txattrcreate(number, "user.x", 3, 0)), m.Rxattrcreate())
        await at.answer(await at.asks(m.Twrite(number, 0, b"abc")), m.Rwrite(2))
        await at.answer(await at.asks(m.Twrite(number, 2, b"c")), m.Rwrite(1))
        await at.answer(await at.asks(m.Tclunk(number)), m.Rngerror(28, "NOSPC", "", ""))
        assert await bring(setting) is E.NOSPC
        assert at.mount.fid_count == before


async def test_a_set_that_is_given_up_leaves_no_fid_and_sets_nothing() -> None:
    async with played() as at:
        before = at.mount.fid_count
        setting = asyncio.ensure_future(at.mount.setxattr(at.file, "user.x", b"abc", 0))
        tag, walk = await at.asked()
        assert isinstance(walk, m.Twalk)
        await at.answer(tag, m.Rwalk(()))
        tag = await at.asks(m.Txattrcreate(walk.newfid, "user.x", 3, 0))
        setting.cancel()
        await asyncio.wait([setting])
        flush = await at.asks(m.Tflush(tag))
        await at.answer(flush, m.Rflush())
        await at.answer(await at.asks(m.Tclunk(walk.newfid)), m.Rclunk())
        await idle()
        assert at.mount.fid_count == before


def test_names_that_are_no_utf8_are_refused() -> None:
    assert names_of(b"user.a\0user.\xc3\xbc\0") == ["user.a", "user.ü"]
    with pytest.raises(Exception, match="bad character"):
        names_of(b"user.\xff\0")
