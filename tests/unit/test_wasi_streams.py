"""WASI preview 1 on streams, clocks, arguments, random numbers, signals and sockets, without an engine."""

from __future__ import annotations

import asyncio
import posixpath
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.devices.cons import cons_server
from cognu.devices.fd import fd_server
from cognu.errors import FileError
from cognu.files.chan import Chan
from cognu.files.mounts import MREPL
from cognu.files.steps import finish
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.ninep.types import ORDWR
from cognu.runtime.guest import GuestExit
from cognu.runtime.wasi import FUNCTIONS, abi
from cognu.runtime.wasi.abi import NONBLOCK, SEEK_CUR, Errno, Filetype, Right, WasiError
from cognu.runtime.wasi.paths import Start, resolve
from guests import until
from wasi_kit import BAD, MEMORY, Bench, attach

OK = Errno.SUCCESS


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench([b"prog", b"", "größe".encode()], [b"A=1", b"PATH=/bin"])
    await bench.make("/notes.txt", b"one\ntwo\n")
    yield bench
    bench.close()


def put(end: Chan, data: bytes) -> None:
    """Write from the other side of a pipe."""
    assert end.server.write(end.fid, 0, data) == len(data)


def got(end: Chan) -> bytes:
    data = end.server.read(end.fid, 0, 1 << 20)
    assert isinstance(data, bytes)
    return data


# -- arguments and environment ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "strings"),
    [("args", [b"prog", b"", "größe".encode()]), ("environ", [b"A=1", b"PATH=/bin"])],
)
async def test_strings_are_laid_out_as_c_expects(bench: Bench, name: str, strings: list[bytes]) -> None:
    out = bench.room(8)
    assert bench.ready(f"{name}_sizes_get", out, out + 4) is OK
    count, size = bench.u32(out), bench.u32(out + 4)
    assert (count, size) == (len(strings), sum(len(string) + 1 for string in strings))
    pointers, buffer = bench.room(4 * count), bench.room(size)
    assert bench.ready(f"{name}_get", pointers, buffer) is OK
    places = struct.unpack(f"<{count}I", bench.guest.read(pointers, 4 * count))
    found = [bench.guest.read(place, len(string) + 1) for place, string in zip(places, strings, strict=True)]
    assert found == [string + b"\0" for string in strings]
    assert bench.ready(f"{name}_sizes_get", out, BAD) is Errno.FAULT
    assert bench.ready(f"{name}_sizes_get", BAD, out) is Errno.FAULT
    assert bench.ready(f"{name}_get", pointers, BAD) is Errno.FAULT
    assert bench.ready(f"{name}_get", BAD, buffer) is Errno.FAULT


# -- clocks, random numbers, the end ----------------------------------------------------------------------------------


async def test_clocks_are_the_worlds(bench: Bench) -> None:
    out = bench.room(8)
    for clock, value in ((0, bench.clock.wall), (1, bench.clock.ticks), (2, 1234), (3, 1234)):
        assert bench.ready("clock_time_get", clock, 0, out) is OK
        assert bench.u64(out) == value
        assert bench.ready("clock_res_get", clock, out) is OK
        assert bench.u64(out) == 1
    assert bench.ready("clock_time_get", 4, 0, out) is Errno.INVAL
    assert bench.ready("clock_res_get", 4, out) is Errno.INVAL
    assert bench.ready("clock_time_get", 0, 0, BAD) is Errno.FAULT
    assert bench.ready("clock_res_get", 0, BAD) is Errno.FAULT


async def test_random_numbers_are_the_worlds(bench: Bench) -> None:
    out = bench.room(300)
    assert bench.ready("random_get", out, 300) is OK
    assert bench.guest.read(out, 300) == bench.random.bytes(300)
    bench.random.asked.clear()
    assert bench.ready("random_get", BAD, 300) is Errno.FAULT
    assert bench.random.asked == []
    assert bench.ready("random_get", MEMORY, 0) is OK


async def test_many_random_numbers_come_in_turns(bench: Bench) -> None:
    assert await bench.call("random_get", 0, MEMORY) is OK
    assert sum(bench.random.asked) == MEMORY
    assert max(bench.random.asked) <= 1 << 18
    assert len(bench.clock.slept) == len(bench.random.asked) - 1


async def test_yielding_gives_others_a_turn(bench: Bench) -> None:
    assert await bench.call("sched_yield") is OK
    assert bench.clock.slept == [0]


@pytest.mark.parametrize(("code", "status"), [(0, 0), (7, 7), (255, 255), (256, 0), (0xFFFFFFFF, 255)])
async def test_proc_exit_ends_the_guest(bench: Bench, code: int, status: int) -> None:
    with pytest.raises(GuestExit):
        bench.ready("proc_exit", code)
    assert bench.guest.code == status


@pytest.mark.parametrize(("signal", "status"), [(2, 130), (6, 134), (9, 137), (15, 143), (30, 158)])
async def test_proc_raise_ends_the_guest_with_the_signals_status(bench: Bench, signal: int, status: int) -> None:
    with pytest.raises(GuestExit):
        bench.ready("proc_raise", signal)
    assert bench.guest.code == status


@pytest.mark.parametrize(
    ("signal", "errno"),
    [(0, OK), (16, OK), (17, OK), (22, OK), (27, OK), (18, Errno.NOTSUP), (21, Errno.NOTSUP), (31, Errno.INVAL)],
)
async def test_proc_raise_that_does_not_end(bench: Bench, signal: int, errno: Errno) -> None:
    assert bench.ready("proc_raise", signal) is errno
    assert bench.guest.code is None


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_streams_have_rights_by_how_they_were_opened(bench: Bench) -> None:
    await bench.pipe(0)
    kind, flags, rights, inheriting = bench.fdstat(0)
    assert (kind, flags, inheriting) == (Filetype.UNKNOWN, 0, 0)
    assert rights & Right.FD_READ
    assert rights & Right.FD_WRITE
    assert not rights & (Right.FD_SEEK | Right.FD_TELL)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fd_seek", (0, SEEK_CUR, 512)),
        ("fd_tell", (512,)),
        ("fd_pread", (256, 0, 0, 512)),
        ("fd_pwrite", (256, 0, 0, 512)),
        ("fd_advise", (0, 0, 0)),
        ("fd_allocate", (0, 1)),
    ],
)
async def test_streams_have_no_places(bench: Bench, name: str, arguments: tuple[int, ...]) -> None:
    await bench.pipe(0)
    assert bench.ready(name, 0, *arguments) is Errno.SPIPE


async def test_a_stream_has_no_size_to_set(bench: Bench) -> None:
    await bench.pipe(0)
    assert bench.ready("fd_filestat_set_size", 0, 1) is Errno.INVAL


async def test_reading_a_pipe_waits_for_the_writer_and_ends_with_it(bench: Bench) -> None:
    end = await bench.pipe(0)
    reading = asyncio.ensure_future(bench.read_later(0))
    await asyncio.sleep(0)
    assert not reading.done()
    put(end, b"hello")
    assert await reading == (OK, b"hello")
    end.close()
    assert bench.read(0) == (OK, b"")
    assert bench.write(0, b"x")[0] is Errno.PIPE


async def test_a_cancelled_read_takes_nothing(bench: Bench) -> None:
    end = await bench.pipe(0)
    reading = asyncio.ensure_future(bench.read_later(0))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    put(end, b"kept")
    assert bench.read(0) == (OK, b"kept")


async def test_a_nonblocking_read_does_not_wait_and_loses_nothing(bench: Bench) -> None:
    end = await bench.pipe(0)
    assert bench.ready("fd_fdstat_set_flags", 0, NONBLOCK) is OK
    assert bench.read(0)[0] is Errno.AGAIN
    assert bench.read(0)[0] is Errno.AGAIN
    put(end, b"hello")
    ahead = bench.program.table.get(0).ahead
    assert ahead is not None
    await until(lambda: ahead.ready)
    assert bench.read(0, 2) == (OK, b"he")
    assert bench.read(0) == (OK, b"llo")
    assert bench.read(0)[0] is Errno.AGAIN
    end.close()
    await until(lambda: ahead.ready)
    assert bench.read(0) == (OK, b"")


async def test_a_read_that_may_wait_takes_what_was_read_ahead_first(bench: Bench) -> None:
    end = await bench.pipe(0)
    bench.ready("fd_fdstat_set_flags", 0, NONBLOCK)
    assert bench.read(0)[0] is Errno.AGAIN
    bench.ready("fd_fdstat_set_flags", 0, 0)
    reading = asyncio.ensure_future(bench.read_later(0))
    await asyncio.sleep(0)
    put(end, b"hello")
    assert await reading == (OK, b"hello")


async def test_a_nonblocking_write_is_taken_over_and_the_next_has_to_wait(bench: Bench) -> None:
    end = await bench.pipe(1)
    bench.ready("fd_fdstat_set_flags", 1, NONBLOCK)
    full = bytes(65536)
    assert bench.write(1, full) == (OK, 65536)  # the pipe is full now
    assert bench.write(1, b"behind") == (OK, 6)
    assert bench.program.unsettled
    assert bench.write(1, b"x")[0] is Errno.AGAIN
    assert got(end) == full
    assert await bench.program.settle(0, "") == (0, "")
    assert got(end) == b"behind"
    assert bench.write(1, b"x") == (OK, 1)


async def test_closing_waits_for_what_was_written_behind(bench: Bench) -> None:
    end = await bench.pipe(1)
    bench.ready("fd_fdstat_set_flags", 1, NONBLOCK)
    bench.write(1, bytes(65536))
    bench.write(1, b"last")
    closing = asyncio.ensure_future(bench.call("fd_close", 1))
    await asyncio.sleep(0)
    assert not closing.done()
    assert len(got(end)) == 65536
    assert await closing is OK
    assert got(end) == b"last"
    assert got(end) == b""


async def test_what_failed_behind_is_told_at_the_next_write(bench: Bench) -> None:
    end = await bench.pipe(1)
    bench.ready("fd_fdstat_set_flags", 1, NONBLOCK)
    bench.write(1, bytes(65536))
    bench.write(1, b"lost")
    end.close()
    behind = bench.program.table.get(1).behind
    assert behind is not None
    assert behind.task is not None
    await asyncio.wait([behind.task])
    assert bench.write(1, b"x")[0] is Errno.PIPE


async def test_a_reader_that_went_away_does_not_fail_a_program_that_is_over(bench: Bench) -> None:
    end = await bench.pipe(1)
    bench.ready("fd_fdstat_set_flags", 1, NONBLOCK)
    bench.write(1, bytes(65536))
    bench.write(1, b"lost")
    end.close()
    assert await bench.program.settle(0, "") == (0, "")


async def test_a_program_that_ends_leaves_no_transfer_behind(bench: Bench) -> None:
    end = await bench.pipe(0)
    bench.ready("fd_fdstat_set_flags", 0, NONBLOCK)
    assert bench.read(0)[0] is Errno.AGAIN
    ahead = bench.program.table.get(0).ahead
    assert ahead is not None
    task = ahead.task
    assert task is not None
    bench.program.close()
    await asyncio.wait([task])
    assert task.cancelled()
    end.close()


async def _devices(bench: Bench) -> None:
    """`/dev` with a console in it."""
    await bench.make("/dev", None)
    where = await finish(bench.namespace.find("/dev", bench.process.cwd, bench.process))
    server = TreeServer("#t", Directory("", [Node("cons", 0o666)]))
    bench.namespace.mount(attach(bench.namespace.domain, server), where, MREPL)


async def test_only_the_console_looks_like_a_terminal(bench: Bench) -> None:
    await _devices(bench)
    kind, _, rights, _ = bench.fdstat(bench.open("dev/cons"))
    assert kind == Filetype.CHARACTER_DEVICE
    assert not rights & (Right.FD_SEEK | Right.FD_TELL)
    server = attach(bench.namespace.domain, cons_server(bench.world, "here", bench.processes))
    null = await finish(bench.namespace.walk(server, ["null"], bench.process))
    bench.process.descriptors.add(await finish(bench.namespace.open(null, ORDWR, bench.process)), 0)
    bench.program.adopt_streams()
    kind, _, rights, _ = bench.fdstat(0)
    assert kind == Filetype.CHARACTER_DEVICE
    assert rights & Right.FD_SEEK
    assert bench.read(0) == (OK, b"")
    assert bench.write(0, b"gone") == (OK, 4)


async def test_what_stands_for_an_open_file_is_a_stream_and_the_console_stays_one(bench: Bench) -> None:
    """As a program run for a peer has its streams: through `/fd`."""
    await _devices(bench)
    console = await finish(bench.namespace.find("/dev/cons", bench.process.cwd, bench.process))
    file = await finish(bench.namespace.find("/notes.txt", bench.process.cwd, bench.process))
    for number, chan in ((10, console), (11, file)):
        bench.process.descriptors.add(await finish(bench.namespace.open(chan, ORDWR, bench.process)), number)
    numbers = attach(bench.namespace.domain, fd_server(bench.processes), caller=bench.process)
    for number, lent in ((0, "10"), (1, "11")):
        chan = await finish(bench.namespace.walk(numbers, [lent], bench.process))
        bench.process.descriptors.add(await finish(bench.namespace.open(chan, ORDWR, bench.process)), number)
    bench.program.adopt_streams()
    for number, kind in ((0, Filetype.CHARACTER_DEVICE), (1, Filetype.UNKNOWN)):
        assert bench.fdstat(number)[0] == kind
        assert not bench.fdstat(number)[2] & (Right.FD_SEEK | Right.FD_TELL)
    assert bench.read(1) == (OK, b"one\ntwo\n")


# -- poll_oneoff ------------------------------------------------------------------------------------------------------


def clock(userdata: int, timeout: int, flags: int = 0, clock_id: int = 1) -> bytes:
    return abi.SUBSCRIPTION.pack(userdata, abi.EVENT_CLOCK, clock_id, timeout, 0, flags)


def ready_to(kind: int, userdata: int, fd: int) -> bytes:
    return abi.SUBSCRIPTION.pack(userdata, kind, fd, 0, 0, 0)


def readable(userdata: int, fd: int) -> bytes:
    return ready_to(abi.EVENT_FD_READ, userdata, fd)


def writable(userdata: int, fd: int) -> bytes:
    return ready_to(abi.EVENT_FD_WRITE, userdata, fd)


Event = tuple[int, int, int, int, int]


async def poll(bench: Bench, *subscriptions: bytes) -> tuple[Errno, list[Event]]:
    """Events: (userdata, error, type, nbytes, flags)."""
    count, out = len(subscriptions), bench.room(4)
    asked, events = bench.guest.put(b"".join(subscriptions)), bench.room(32 * max(1, count))
    errno = await bench.call("poll_oneoff", asked, events, count, out)
    found = bench.u32(out) if errno is OK else 0
    return errno, [abi.EVENT.unpack(bench.guest.read(events + 32 * n, 32)) for n in range(found)]


async def test_sleeping_waits_for_the_first_clock(bench: Bench) -> None:
    assert await poll(bench, clock(7, 2_000_000_000), clock(8, 500_000_000)) == (OK, [(8, 0, 0, 0, 0)])
    assert bench.clock.slept == [0.5]


async def test_absolute_times_are_of_the_clock_named(bench: Bench) -> None:
    wall = bench.clock.wall + 3_000_000_000
    assert await poll(bench, clock(1, wall, abi.ABSTIME, 0)) == (OK, [(1, 0, 0, 0, 0)])
    assert bench.clock.slept == [3.0]
    assert await poll(bench, clock(2, 5, abi.ABSTIME)) == (OK, [(2, 0, 0, 0, 0)])
    assert bench.clock.slept == [3.0]


async def test_a_long_sleep_looks_at_the_clock_now_and_then(bench: Bench) -> None:
    assert (await poll(bench, clock(1, 9000 * 10**9)))[0] is OK
    assert bench.clock.slept == [3600.0, 3600.0, 1800.0]


async def test_files_are_always_ready(bench: Bench) -> None:
    fd = bench.open("notes.txt")
    bench.read(fd, 3)
    events = [(1, 0, abi.EVENT_FD_READ, 5, 0), (2, 0, abi.EVENT_FD_WRITE, 65536, 0)]
    assert await poll(bench, readable(1, fd), writable(2, fd), clock(3, 10**9)) == (OK, events)
    assert bench.clock.slept == []


async def test_a_pipe_is_ready_when_something_came(bench: Bench) -> None:
    end = await bench.pipe(0)
    bench.clock.hold = asyncio.Event()
    polling = asyncio.ensure_future(poll(bench, readable(1, 0), clock(2, 10**9)))
    await asyncio.sleep(0)
    assert not polling.done()
    put(end, b"hello")
    assert await polling == (OK, [(1, 0, abi.EVENT_FD_READ, 5, 0)])
    assert bench.read(0) == (OK, b"hello")
    end.close()
    assert await poll(bench, readable(1, 0)) == (OK, [(1, 0, abi.EVENT_FD_READ, 0, abi.HANGUP)])


async def test_a_timeout_loses_nothing_of_the_pipe(bench: Bench) -> None:
    end = await bench.pipe(0)
    assert await poll(bench, readable(1, 0), clock(2, 10**9)) == (OK, [(2, 0, 0, 0, 0)])
    put(end, b"later")
    assert await poll(bench, readable(1, 0)) == (OK, [(1, 0, abi.EVENT_FD_READ, 5, 0)])
    assert bench.read(0) == (OK, b"later")


async def test_polling_for_writing_waits_for_the_write_behind(bench: Bench) -> None:
    end = await bench.pipe(1)
    bench.ready("fd_fdstat_set_flags", 1, NONBLOCK)
    bench.write(1, bytes(65536))
    bench.write(1, b"behind")
    polling = asyncio.ensure_future(poll(bench, writable(1, 1)))
    await asyncio.sleep(0)
    assert not polling.done()
    assert len(got(end)) == 65536
    assert await polling == (OK, [(1, 0, abi.EVENT_FD_WRITE, 65536, 0)])


async def test_wrong_subscriptions_are_events_of_their_own(bench: Bench) -> None:
    fd = bench.open("notes.txt", rights=Right.FD_READ)
    errno, events = await poll(
        bench, readable(1, 77), writable(2, fd), clock(3, 10**9, clock_id=2), clock(4, 0, flags=2), ready_to(9, 5, 0),
        clock(6, 10**9), readable(7, 3),
    )  # fmt: skip
    assert errno is OK
    assert [(event[0], event[1]) for event in events] == [
        (1, Errno.BADF), (2, Errno.NOTCAPABLE), (3, Errno.INVAL), (4, Errno.INVAL), (5, Errno.INVAL), (7, OK),
    ]  # fmt: skip
    assert bench.clock.slept == []


async def test_poll_refusals(bench: Bench) -> None:
    out = bench.room(64)
    assert await bench.call("poll_oneoff", out, out, 0, out) is Errno.INVAL
    assert await bench.call("poll_oneoff", out, out, 5000, out) is Errno.INVAL
    assert await bench.call("poll_oneoff", BAD, out, 1, out) is Errno.FAULT
    assert await bench.call("poll_oneoff", out, BAD, 1, out) is Errno.FAULT
    assert await bench.call("poll_oneoff", out, out, 1, BAD) is Errno.FAULT


async def test_two_hundred_subscriptions(bench: Bench) -> None:
    errno, events = await poll(bench, *(clock(n, 10**9 if n % 2 else 10**10) for n in range(200)))
    assert errno is OK
    assert [event[0] for event in events] == list(range(1, 200, 2))


# -- sockets ----------------------------------------------------------------------------------------------------------


class Wire(Node):
    """`data` of a connection: reads what `incoming` has, piece by piece; notes what is written."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__("data", 0o666)
        self.incoming = pieces
        self.sent: list[bytes] = []

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        if not self.incoming:
            return b""
        piece, self.incoming[0] = self.incoming[0][:count], self.incoming[0][count:]
        if not self.incoming[0]:
            del self.incoming[0]
        return piece

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        self.sent.append(bytes(data))
        return len(data)


class Ctl(Node):
    def __init__(self, name: str, number: str) -> None:
        super().__init__(name, 0o666)
        self.number = number
        self.told: list[bytes] = []

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return self.number.encode()[offset : offset + count]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        self.told.append(bytes(data))
        return len(data)


class Net:
    """`/net/tcp` with a connection 4, and one that listens, 5, which is called as 6."""

    def __init__(self) -> None:
        self.wire, self.ctl, self.called = Wire([b"hello", b" world"]), Ctl("ctl", "4"), Wire([b"called"])
        self.clone = Ctl("clone", "5")
        connections = [
            Directory("4", [self.ctl, self.wire]),
            Directory("5", [Ctl("ctl", "5"), Ctl("listen", "6")]),
            Directory("6", [Ctl("ctl", "6"), self.called]),
        ]
        self.server = TreeServer("#I", Directory("", [Directory("tcp", [self.clone, *connections])]))


@pytest_asyncio.fixture
async def net(bench: Bench) -> Net:
    net = Net()
    await bench.make("/net", None)
    where = await finish(bench.namespace.find("/net", bench.process.cwd, bench.process))
    bench.namespace.mount(attach(bench.namespace.domain, net.server), where, MREPL)
    return net


async def recv(bench: Bench, fd: int, size: int, flags: int = 0) -> tuple[Errno, bytes]:
    buffer, out, out_flags = bench.room(size), bench.room(4), bench.guest.put(b"\xff\xff")
    table = bench.guest.put(struct.pack("<II", buffer, size))
    errno = await bench.call("sock_recv", fd, table, 1, flags, out, out_flags)
    if errno is not OK:
        return errno, b""
    assert bench.guest.read(out_flags, 2) == b"\0\0"
    return errno, bench.guest.read(buffer, bench.u32(out))


async def test_sockets_are_the_files_of_a_connection(bench: Bench, net: Net) -> None:
    fd = bench.open("net/tcp/4/data")
    assert bench.fdstat(fd)[0] == Filetype.SOCKET_STREAM
    assert await recv(bench, fd, 3) == (OK, b"hel")
    out = bench.room(4)
    assert bench.ready("sock_send", fd, *bench.vector(b"a", b"b"), 0, out) is OK
    assert bench.u32(out) == 2
    assert net.wire.sent == [b"ab"]
    assert bench.ready("sock_send", fd, *bench.vector(b"a"), 1, out) is Errno.INVAL
    assert bench.seek(fd, 0, SEEK_CUR)[0] is Errno.SPIPE


async def test_peeking_and_waiting_for_all(bench: Bench, net: Net) -> None:
    fd = bench.open("net/tcp/4/data")
    assert await recv(bench, fd, 4, abi.RECV_PEEK) == (OK, b"hell")
    assert await recv(bench, fd, 9, abi.RECV_WAITALL) == (OK, b"hello wor")
    assert await recv(bench, fd, 9, abi.RECV_WAITALL) == (OK, b"ld")
    assert await recv(bench, fd, 9, 4) == (Errno.INVAL, b"")


async def test_the_end_of_writing_leaves_reading(bench: Bench, net: Net) -> None:
    fd = bench.open("net/tcp/4/data")
    assert bench.write(fd, b"last") == (OK, 4)
    assert bench.ready("sock_shutdown", fd, abi.SHUT_WR) is OK
    assert net.ctl.told == [b"hangup write"]
    assert bench.write(fd, b"x")[0] is Errno.PIPE
    assert await recv(bench, fd, 5) == (OK, b"hello")


async def test_shutdown(bench: Bench, net: Net) -> None:
    fd = bench.open("net/tcp/4/data")
    assert bench.ready("sock_shutdown", fd, 0) is Errno.INVAL
    assert bench.ready("sock_shutdown", fd, abi.SHUT_RD) is OK
    assert await recv(bench, fd, 5) == (OK, b"")
    assert bench.write(fd, b"still") == (OK, 5)
    assert bench.ready("sock_shutdown", fd, abi.SHUT_WR) is OK
    assert net.ctl.told == [b"hangup"]
    assert bench.write(fd, b"x")[0] is Errno.PIPE
    assert await poll(bench, readable(1, fd)) == (OK, [(1, 0, abi.EVENT_FD_READ, 0, abi.HANGUP)])


@pytest.mark.parametrize("path", ["net/tcp/clone", "net/tcp/5/ctl"])
async def test_accepting_a_call(bench: Bench, net: Net, path: str) -> None:
    fd, out = bench.open(path), bench.room(4)
    assert bench.ready("sock_accept", fd, NONBLOCK, out) is OK
    accepted = bench.u32(out)
    assert bench.fdstat(accepted)[:2] == (Filetype.SOCKET_STREAM, NONBLOCK)
    assert await recv(bench, accepted, 20) == (OK, b"called")


async def test_socket_refusals(bench: Bench, net: Net) -> None:
    out = bench.room(16)
    file, data = bench.open("notes.txt"), bench.open("net/tcp/4/data")
    for name, arguments in (
        ("sock_recv", (out, 0, 0, out, out)),
        ("sock_send", (out, 0, 0, out)),
        ("sock_shutdown", (3,)),
        ("sock_accept", (0, out)),
    ):
        assert bench.ready(name, file, *arguments) is Errno.NOTSOCK
        assert bench.ready(name, 77, *arguments) is Errno.BADF
    assert bench.ready("sock_accept", data, 0, out) is Errno.NOTSUP  # it does not listen
    assert bench.ready("sock_accept", data, 64, out) is Errno.INVAL
    assert bench.ready("sock_recv", data, out, 0, 0, BAD, out) is Errno.FAULT
    assert bench.ready("sock_recv", data, out, 0, 0, out, MEMORY - 1) is Errno.FAULT
    assert bench.ready("sock_send", data, out, 0, 0, BAD) is Errno.FAULT
    assert bench.ready("fd_fdstat_set_rights", data, 0, 0) is OK
    assert bench.ready("sock_recv", data, out, 0, 0, out, out) is Errno.NOTCAPABLE
    assert bench.ready("sock_send", data, out, 0, 0, out) is Errno.NOTCAPABLE
    assert bench.ready("sock_shutdown", data, 3) is Errno.NOTCAPABLE
    assert bench.ready("sock_accept", data, 0, out) is Errno.NOTCAPABLE


# -- anything at all --------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(0, 8), st.sampled_from([BAD, MEMORY - 1, MEMORY, 1 << 31, (1 << 32) - 1]), st.integers(0, MEMORY)
)
WIDE = st.one_of(NUMBERS, st.sampled_from([(1 << 63) - 1, 1 << 63, (1 << 64) - 1]))
SIGNED = st.integers(-(1 << 63), (1 << 63) - 1)
LETTERS = {"I": NUMBERS, "Q": WIDE, "q": SIGNED}
CALLS = st.sampled_from(sorted(FUNCTIONS)).flatmap(
    lambda name: st.tuples(st.just(name), *(LETTERS[letter] for letter in FUNCTIONS[name][0]))
)
NAMES = st.lists(st.sampled_from(["dir", "notes.txt", "..", ".", "", "link", "x", "\0", "#c", "\udcff"]), max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.lists(CALLS, max_size=25), st.binary(max_size=64), NAMES, st.booleans())
def test_no_sequence_of_calls_does_more_than_return_a_number(
    calls: list[tuple[str, int]], data: bytes, names: list[str], slow: bool
) -> None:
    """Whatever the arguments: an errno, or the guest's own end; never an exception, and nothing is left behind."""

    async def run() -> None:
        bench = Bench([b"prog"], slow=slow)
        await bench.make("/notes.txt", b"one")
        await bench.make("/dir", None)
        await bench.link("/link", "dir/../notes.txt")
        bench.guest.write(0, data + "/".join(names).encode("utf-8", "surrogateescape"))
        for name, *arguments in calls:
            try:
                await bench.call(name, *arguments)
            except GuestExit:
                pass
        bench.close()
        assert len(bench.process.descriptors) == 0

    asyncio.run(run())


@settings(max_examples=500, deadline=None)
@given(NAMES, st.booleans(), st.booleans(), st.booleans())
def test_no_path_leads_out_of_its_directory(names: list[str], follow: bool, place: bool, slow: bool) -> None:
    """Against a plain model: where the names lead, counted without servers, links or batches."""

    async def run() -> None:
        bench = Bench(slow=slow)
        await bench.make("/box", None)
        await bench.make("/box/dir", None)
        await bench.make("/box/notes.txt", b"inside")
        await bench.make("/notes.txt", b"outside")
        await bench.link("/box/link", "../notes.txt")
        await bench.link("/box/dir/link", "../notes.txt")
        base = await finish(bench.namespace.find("/box", bench.process.cwd, bench.process))
        path = "/".join(names)
        try:
            found = await finish(resolve(bench.process, Start(base, None), path, follow=follow, place=place))
        except (WasiError, FileError):
            bench.close()
            return
        for chan in (found.chan, found.directory):
            if chan is not None:
                assert str(chan.path).startswith("/box")
                assert ".." not in chan.path.names()
        model = posixpath.normpath(path)
        assert not model.startswith("..")
        bench.close()

    asyncio.run(run())
