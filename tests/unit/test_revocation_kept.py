"""What was read and is kept for whoever asks next goes with the capability that it was read under."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cognu.errors import E
from cognu.files.attach import attach_own
from cognu.files.chan import Chan, Domain
from cognu.files.exportdirs import ReadStats, read_stats
from cognu.files.listing import read_directory
from cognu.files.mounts import MAFTER, MREPL, ChanMover
from cognu.files.process import Process
from cognu.files.server import Entry, Fid
from cognu.files.steps import finish
from cognu.ninep.types import OREAD
from cognu.runtime.wasi.abi import DIRECTORY, NONBLOCK, Errno
from cognu.runtime.wasi.table import BATCH
from guests import until
from joined import ME, CountingServer, bring
from serving import done
from wasi_kit import Bench

OK = Errno.SUCCESS


class Lender:
    """Lends trees of the two files `x1` and `x2`, for other letters likewise, and may take each back."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.domain = Domain(process.namespace.domain.authority)
        self.servers: dict[str, CountingServer] = {}
        self.lent: dict[str, Chan] = {}

    async def union(self, letters: str) -> None:
        """One of each, joined at `/u`."""
        namespace, process = self.process.namespace, self.process
        for letter in letters:
            server = self.servers[letter] = CountingServer(f"#{letter}")
            for number in (2, 1):  # as they are listed, the newest comes first
                server.plant(f"/{letter}{number}", "data")
            self.lent[letter] = await finish(attach_own(server, self.domain, ME))
            where = await finish(namespace.find("/u", process.cwd, process))
            member = ChanMover(namespace.domain).move(self.lent[letter])
            namespace.mount(member, where, MAFTER if letter != letters[0] else MREPL)

    def revoke(self, letter: str) -> None:
        self.domain.authority.revoke(self.domain.pid, self.lent[letter].cap)


class Parked:
    """Holds up the reading of a server's directory: the first time, or where it goes on."""

    def __init__(self, server: CountingServer, second: bool = False) -> None:
        self.come, self.go_on = asyncio.Event(), asyncio.Event()
        read = server.readdir

        async def later(fid: Fid, cookie: int, count: int) -> list[Entry]:
            if bool(cookie) is second:
                self.come.set()
                await self.go_on.wait()
            return await done(read(fid, cookie, count))

        server.readdir = later  # type: ignore[method-assign]


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.make("/u", None)
    yield bench
    bench.close()


async def listed(process: Process, chan: Chan, cookie: int, count: int = 10) -> list[str]:
    return [entry.name for entry in await finish(read_directory(process.namespace, chan, cookie, count, process))]


async def opened(process: Process, path: str) -> Chan:
    namespace = process.namespace
    return await finish(namespace.open(await finish(namespace.find(path, process.cwd, process)), OREAD, process))


async def test_an_open_union_shows_nothing_more_of_a_member_that_was_revoked(bench: Bench) -> None:
    lender = Lender(bench.process)
    await lender.union("abc")
    chan = await opened(bench.process, "/u")
    assert await listed(bench.process, chan, 0) == ["a1", "a2", "b1", "b2", "c1", "c2"]
    lender.revoke("b")
    assert await listed(bench.process, chan, 1) == ["a2", "c1", "c2"]
    assert await listed(bench.process, chan, 2, 1) == ["c1"], "what is not shown is not the end"
    assert await listed(bench.process, chan, 0) == ["a1", "a2", "c1", "c2"]
    lender.revoke("c")
    assert await listed(bench.process, chan, 2) == []
    lender.revoke("a")
    assert await bring(listed(bench.process, chan, 1)) is E.REVOKED
    chan.close()


async def test_a_member_that_is_revoked_while_the_next_is_read_is_not_shown(bench: Bench) -> None:
    lender = Lender(bench.process)
    await lender.union("abc")
    parked = Parked(lender.servers["c"])
    chan = await opened(bench.process, "/u")
    reading = asyncio.ensure_future(listed(bench.process, chan, 0))
    await parked.come.wait()
    lender.revoke("b")
    parked.go_on.set()
    assert await reading == ["a1", "a2", "c1", "c2"]
    chan.close()


async def test_a_program_is_told_no_name_again_that_was_revoked(bench: Bench) -> None:
    lender = Lender(bench.process)
    await lender.union("abc")
    fd = bench.open("u", DIRECTORY)
    assert [name for name, *_ in bench.names(fd)[1]] == [".", "..", "a1", "a2", "b1", "b2", "c1", "c2"]
    lender.revoke("b")
    assert [(name, after) for name, after, *_ in bench.names(fd, cookie=3)[1]] == [("a2", 4), ("c1", 7), ("c2", 8)]
    assert [name for name, *_ in bench.names(fd, 30, cookie=4)[1]] == ["c1"]
    lender.revoke("a")  # by which it is open
    assert bench.names(fd, cookie=3)[0] is Errno.STALE


async def test_a_program_is_told_no_name_that_is_revoked_while_it_lists(bench: Bench) -> None:
    lender = Lender(bench.process)
    await lender.union("abc")
    for number in range(BATCH):
        lender.servers["c"].plant(f"/{number}", "")
    fd, buffer, out = bench.open("u", DIRECTORY), bench.room(1 << 16), bench.room(4)
    parked = Parked(lender.servers["c"], second=True)
    reading = asyncio.ensure_future(bench.call("fd_readdir", fd, buffer, 1 << 16, 0, out))
    await parked.come.wait()
    lender.revoke("b")
    parked.go_on.set()
    assert await reading is Errno.STALE
    assert b"b1" not in bench.guest.read(buffer, 1 << 16)
    names = [name for name, *_ in bench.names(fd, 1 << 16, cookie=2)[1]]
    assert names[:2] == ["a1", "a2"]
    assert len(names) == 2 + BATCH + 2


@pytest.mark.parametrize("flags", [NONBLOCK, 0])
async def test_what_was_read_ahead_of_a_program_is_not_handed_out_once_it_is_revoked(bench: Bench, flags: int) -> None:
    end = await bench.pipe(0)
    bench.ready("fd_fdstat_set_flags", 0, NONBLOCK)
    assert bench.read(0)[0] is Errno.AGAIN
    ahead = bench.program.table.get(0).ahead
    assert ahead is not None
    assert end.server.write(end.fid, 0, bytes(5000)) == 5000
    await until(lambda: ahead.ready)
    assert bench.read(0, 10) == (OK, bytes(10))
    bench.ready("fd_fdstat_set_flags", 0, flags)
    authority, cap = bench.authority, bench.process.descriptors[0].cap
    authority.end_server(authority.kernel.slots.endpoint[cap.slot])
    assert bench.read(0) == (Errno.STALE, b"")
    assert bench.read(0) == (Errno.STALE, b"")
    end.close()


async def test_9p2000_sends_no_attributes_read_before_the_directory_was_revoked(bench: Bench) -> None:
    lender = Lender(bench.process)
    await lender.union("abc")
    chan, at = await opened(bench.process, "/u"), ReadStats()

    async def read(count: int) -> bytes:
        return await finish(read_stats(bench.process, chan, at, at.offset, count, False))

    first = await read(80)
    assert b"a1" in first
    assert b"a2" not in first
    lender.revoke("b")
    second = await read(80)
    assert b"a2" in second
    third = await read(80)
    assert b"c1" in third
    assert len(at.held) == 1
    lender.revoke("a")  # by which it is open
    assert await bring(read(80)) is E.REVOKED
    chan.close()
