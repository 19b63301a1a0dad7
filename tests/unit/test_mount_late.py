"""What a flushed read brought after all is not lost: the next read of that fid gets it. The test plays the server."""

from __future__ import annotations

import asyncio
import struct

import pytest

from cognu.errors import E, FileError, LinkBroken
from cognu.files.stopping import ask_to_stop, give_up
from cognu.ninep import messages as m
from cognu.ninep.types import GETATTR_ALL, QTDIR, Qid
from played import played
from serving import Somebody


async def test_a_read_answered_after_it_was_flushed_is_given_to_the_next() -> None:
    async with played() as at:
        await at.read_late(7, b"typed")
        await at.went_round()
        assert await at.mount.read(at.file, 7, 3) == b"typ"
        assert await at.mount.read(at.file, 10, 100) == b"ed"
        again = asyncio.create_task(at.mount.read(at.file, 12, 100))
        await at.answer(await at.asks(m.Tread(at.file.number, 12, 100)), m.Rread(b""))
        assert await again == b""


async def test_the_next_read_asks_for_nothing_before_it_is_known_what_the_flushed_one_brought() -> None:
    async with played() as at:
        reading = asyncio.create_task(at.mount.read(at.file, 0, 100))
        tag, _ = await at.asked()
        reading.cancel()
        await asyncio.wait([reading])
        flush = await at.asks(m.Tflush(tag))
        following = [asyncio.create_task(at.mount.read(at.file, 0, 100)) for _ in range(2)]
        await at.went_round()  # and nothing else was asked
        await at.answer(tag, m.Rread(b"typed"))
        await at.answer(flush, m.Rflush())
        assert await following[0] == b"typed"
        await at.answer(await at.asks(m.Tread(at.file.number, 0, 100)), m.Rread(b"more"))
        assert await following[1] == b"more"


@pytest.mark.parametrize("offsets", [(0, 0), (0, 3), (0, 40), (7, 2)])
async def test_a_stream_loses_nothing_at_whatever_offsets_it_is_read(offsets: tuple[int, int]) -> None:
    async with played() as at:
        await at.read_late(offsets[0], b"typed")
        assert await at.mount.read(at.file, offsets[0], 3) == b"typ"
        rest = asyncio.create_task(at.mount.read(at.file, offsets[1], 100))
        if offsets[1] != offsets[0] + 3:
            await at.says_length(0)
        assert await rest == b"ed"


async def test_a_stored_file_is_read_at_the_offset_asked_for() -> None:
    async with played() as at:
        await at.read_late(0, b"typed")
        elsewhere = asyncio.create_task(at.mount.read(at.file, 100, 100))
        await at.says_length(5)
        await at.answer(await at.asks(m.Tread(at.file.number, 100, 100)), m.Rread(b""))
        assert await elsewhere == b""
        assert at.file.kept == []


async def test_the_end_that_a_flushed_read_brought_is_the_next_ones_once() -> None:
    async with played() as at:
        await at.read_late(7, b"")
        following = asyncio.create_task(at.mount.read(at.file, 7, 100))
        await at.says_length(0)
        assert await following == b""
        assert at.file.kept == []
        again = asyncio.create_task(at.mount.read(at.file, 7, 100))
        await at.answer(await at.asks(m.Tread(at.file.number, 7, 100)), m.Rread(b"on"))
        assert await again == b"on"


async def test_the_end_of_a_stored_file_is_looked_for_again() -> None:
    async with played() as at:
        await at.read_late(5, b"")
        following = asyncio.create_task(at.mount.read(at.file, 5, 100))
        await at.says_length(7)
        await at.answer(await at.asks(m.Tread(at.file.number, 5, 100)), m.Rread(b"on"))
        assert await following == b"on"


async def test_the_end_of_a_directory_is_looked_for_again() -> None:
    async with played() as at:
        at.file.qid = Qid(QTDIR, 0, 1)
        await at.read_late(50, b"")
        following = asyncio.create_task(at.mount.read(at.file, 0, 100))
        await at.answer(await at.asks(m.Tread(at.file.number, 0, 100)), m.Rread(b"stats"))
        assert await following == b"stats"


async def test_an_answer_that_comes_as_a_read_is_asked_to_stop_is_kept_be_it_the_end() -> None:
    """The stop has cancelled what the read waits for, but the read has had no turn yet to flush it."""
    for data in (b"typed", b""):
        async with played() as at:
            reading = asyncio.create_task(at.mount.read(at.file, 0, 100))
            tag, _ = await at.asked()
            await at.answer(tag, m.Rread(data))
            ask_to_stop(reading)
            await asyncio.wait([reading])
            got = [] if reading.cancelled() else [reading.result()]
            if not got:
                following = asyncio.create_task(at.mount.read(at.file, 0, 100))
                if not data:
                    await at.says_length(0)
                got.append(await following)
            assert got == [data]


async def test_a_file_that_says_no_length_is_a_stream() -> None:
    async with played() as at:
        await at.read_late(0, b"typed")
        elsewhere = asyncio.create_task(at.mount.read(at.file, 9, 100))
        tag = await at.asks(m.Tgetattr(at.file.number, GETATTR_ALL))
        await at.answer(tag, m.Rngerror(E.ACCES.errno, E.ACCES.name, "", ""))
        assert await elsewhere == b"typed"


async def test_a_read_of_nothing_takes_nothing_of_what_was_kept() -> None:
    async with played() as at:
        await at.read_late(0, b"typed")
        nothing = asyncio.create_task(at.mount.read(at.file, 0, 0))
        await at.answer(await at.asks(m.Tread(at.file.number, 0, 0)), m.Rread(b""))
        assert await nothing == b""
        assert await at.mount.read(at.file, 0, 100) == b"typed"


async def test_asked_to_stop_a_read_has_the_answer_that_crossed_the_flush() -> None:
    async with played() as at:
        reading = asyncio.create_task(at.mount.read(at.file, 0, 100))
        tag, _ = await at.asked()
        ask_to_stop(reading)
        flush = await at.asks(m.Tflush(tag))
        assert not reading.done()
        await at.answer(tag, m.Rread(b"typed"))
        await at.answer(flush, m.Rflush())
        assert await reading == b"typed"
        assert at.file.kept == []


async def test_asked_to_stop_a_read_ends_when_the_flush_is_answered_and_not_before() -> None:
    async with played() as at:
        reading = asyncio.create_task(at.mount.read(at.file, 0, 100))
        tag, _ = await at.asked()
        ask_to_stop(reading)
        flush = await at.asks(m.Tflush(tag))
        await at.went_round()
        assert not reading.done()
        await at.answer(flush, m.Rflush())
        await asyncio.wait([reading])
        assert reading.cancelled()


async def test_asked_to_stop_a_call_of_several_requests_begins_no_other() -> None:
    async with played() as at:
        opening = asyncio.create_task(at.mount.open(at.file, 0, Somebody()))  # it clones the root first
        tag, clone = await at.asked()
        assert isinstance(clone, m.Twalk)
        ask_to_stop(opening)
        flush = await at.asks(m.Tflush(tag))
        await at.answer(tag, m.Rwalk(()))
        await at.answer(flush, m.Rflush())
        # The request that follows is flushed as soon as it is made, and the fid that was made is clunked.
        tag = await at.asks(m.Tlopen(clone.newfid, 0))
        await at.answer(await at.asks(m.Tflush(tag)), m.Rflush())
        await asyncio.wait([opening])
        assert opening.cancelled()
        await at.asks(m.Tclunk(clone.newfid))


async def test_a_read_that_gives_up_waits_for_no_answer_and_what_comes_is_kept() -> None:
    async with played() as at:
        reading = asyncio.create_task(at.mount.read(at.file, 0, 100))
        tag, _ = await at.asked()
        ask_to_stop(reading)
        flush = await at.asks(m.Tflush(tag))
        give_up(reading)
        await asyncio.wait([reading])
        assert reading.cancelled()
        await at.answer(tag, m.Rread(b"typed"))
        await at.answer(flush, m.Rflush())
        assert await at.mount.read(at.file, 0, 100) == b"typed"


async def test_a_lost_connection_ends_a_read_that_was_asked_to_stop() -> None:
    async with played() as at:
        reading = asyncio.create_task(at.mount.read(at.file, 0, 100))
        tag, _ = await at.asked()
        ask_to_stop(reading)
        await at.asks(m.Tflush(tag))
        at.stream.cut()
        with pytest.raises(FileError) as caught:
            await reading
        assert caught.value.error is E.CONNRESET


async def test_a_server_that_renames_by_fid_alone_is_asked_so() -> None:
    async with played() as at:
        number = at.file.number
        renaming = asyncio.create_task(at.mount.rename(at.file, "old", at.file, "new"))
        tag = await at.asks(m.Trenameat(number, "old", number, "new"))
        await at.answer(tag, m.Rngerror(E.NOTSUP.errno, "NOTSUP", "", ""))
        tag, walk = await at.asked()
        assert isinstance(walk, m.Twalk)
        assert (walk.fid, walk.names) == (number, ("old",))
        await at.answer(tag, m.Rwalk((Qid(0, 0, 5),)))
        await at.answer(await at.asks(m.Trename(walk.newfid, number, "new")), m.Rrename())
        await at.answer(await at.asks(m.Tclunk(walk.newfid)), m.Rclunk())
        await renaming


async def test_whatever_goes_wrong_as_a_connection_breaks_its_stream_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with played() as at:
        with monkeypatch.context() as patch:
            patch.setattr(at.mount._ahead, "drop", lambda: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                at.mount._break(LinkBroken(E.CONNRESET, "test"))
        await at.mount._stream.wait_closed()
        assert at.mount._stream.closed  # type: ignore[attr-defined]


async def test_an_answer_that_comes_in_the_turn_of_a_cut_is_nobodys(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with played() as at:
        reading = asyncio.create_task(at.mount.read(at.file, 0, 100))
        tag, _ = await at.asked()
        at.mount._break(LinkBroken(E.CONNRESET, "test"))
        answers = [struct.pack("<IBHI", 11, 117, tag, 0), b""]

        async def read(count: int) -> bytes:
            return answers.pop(0)

        monkeypatch.setattr(at.mount._stream, "read", read)
        await at.mount._read_on()
        with pytest.raises(FileError) as caught:
            await reading
        assert caught.value.error is E.CONNRESET
        assert caplog.records == []
