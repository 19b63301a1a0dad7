"""Streams and listeners on real sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import stat
import struct
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError, LinkBroken, Misuse
from cognu.world import Stream
from cognu.world.net import UNIX_PATH_LIMIT, RealNetwork, lookup
from cognu.world.sockets import SocketListener, SocketStream, join_address, split_address

Test = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Test], None]
NETWORK = RealNetwork()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test on each kind of loop, and fails it over what the loop complained of or what stayed open."""
    complaints: list[dict[str, Any]] = []

    def on_loop(test: Test) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
            runner.run(test())

    # The first loop of a kind opens what it keeps for good.
    on_loop(turns)
    before = len(os.listdir("/dev/fd"))
    yield on_loop
    gc.collect()
    assert complaints == []
    assert len(os.listdir("/dev/fd")) == before


def pair() -> tuple[SocketStream, SocketStream]:
    one, two = socket.socketpair()
    return SocketStream(one, "two"), SocketStream(two, "one")


async def read_exactly(stream: Stream, count: int) -> bytes:
    parts = []
    while count:
        part = await stream.read(count)
        assert part, "ended early"
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_is_written_arrives_in_order_and_the_end_reads_empty(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        await a.write(b"one", bytearray(b"two"), memoryview(b"three"), b"")
        assert await read_exactly(b, 11) == b"onetwothree"
        a.close()
        a.close()
        await a.wait_closed()
        assert await b.read(5) == b""
        assert await b.read(5) == b""
        b.close()

    run(test)


def test_a_write_larger_than_the_sockets_buffers_waits_for_the_reader(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        data = os.urandom(1 << 20) * 8
        writing = asyncio.create_task(a.write(b"head", data, b"tail"))
        await turns()
        assert not writing.done()
        assert await read_exactly(b, len(data) + 8) == b"head" + data + b"tail"
        await writing
        a.close()
        b.close()

    run(test)


def test_more_buffers_than_one_call_takes_arrive_whole(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        parts = [bytes([n % 251]) * (n % 7) for n in range(3000)]
        writing = asyncio.create_task(a.write(*parts))
        whole = b"".join(parts)
        assert await read_exactly(b, len(whole)) == whole
        await writing
        a.close()
        b.close()

    run(test)


@pytest.mark.timeout(20)
def test_empty_buffers_that_are_offered_behind_others_hold_up_nothing(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        assert not a.offer(bytes(1 << 20))
        assert not a.offer(b"", memoryview(b""))
        assert not a.offer(b"head", b"", b"tail", b"")
        assert await read_exactly(b, (1 << 20) + 8) == bytes(1 << 20) + b"headtail"
        await turns()
        assert a.offer(b"", b"!")
        assert await b.read(9) == b"!"
        a.close()
        b.close()

    run(test)


def test_a_cancelled_write_is_still_sent_whole_and_its_buffer_is_free(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        data = bytearray(b"x" * (4 << 20))
        writing = asyncio.create_task(a.write(data))
        await turns()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        data[:] = b"y" * len(data)
        next_one = asyncio.create_task(a.write(b"next"))
        assert await read_exactly(b, len(data) + 4) == b"x" * len(data) + b"next"
        await next_one
        a.close()
        b.close()

    run(test)


def test_writers_at_once_go_out_whole_and_in_order(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        blocks = [bytes([n]) * (1 << 20) for n in range(4)]
        writing = [asyncio.create_task(a.write(block)) for block in blocks]
        assert await read_exactly(b, 4 << 20) == b"".join(blocks)
        await asyncio.gather(*writing)
        a.close()
        b.close()

    run(test)


def test_cancelling_a_read_in_the_turn_its_bytes_came_loses_none(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        for number in range(50):
            reading = asyncio.create_task(b.read(100))
            await turns(1)
            await a.write(bytes([number]))
            # The watcher may or may not have fired by now: both orders must keep the byte.
            await turns(number % 4)
            reading.cancel()
            try:
                got = await reading
            except asyncio.CancelledError:
                got = await b.read(100)
            assert got == bytes([number])
        a.close()
        b.close()

    run(test)


def test_bytes_kept_from_a_cancelled_read_come_in_portions(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        reading = asyncio.create_task(b.read(100))
        await turns(1)
        await a.write(b"abcdef")
        b._on_readable()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await b.read(4) == b"abcd"
        assert await b.read(4) == b"ef"
        a.close()
        b.close()

    run(test)


def test_a_second_reader_and_an_empty_read_are_misuse(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        reading = asyncio.create_task(b.read(1))
        await turns(1)
        with pytest.raises(Misuse) as caught:
            await b.read(1)
        assert caught.value.error is E.ALREADY
        with pytest.raises(Misuse):
            await a.read(0)
        with pytest.raises(Misuse):
            await a.wait_closed()
        b.close()
        assert await reading == b""
        a.close()

    run(test)


def test_close_ends_a_waiting_read_and_a_waiting_write(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        reading = asyncio.create_task(a.read(1))
        writing = asyncio.create_task(a.write(bytes(8 << 20)))
        await turns()
        a.close()
        assert await reading == b""
        with pytest.raises(LinkBroken):
            await writing
        assert await a.read(1) == b""
        with pytest.raises(LinkBroken):
            await a.write(b"x")
        b.close()

    run(test)


def test_writing_to_a_stream_whose_other_end_closed_is_a_broken_link(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        writing = asyncio.create_task(a.write(bytes(8 << 20)))
        await turns()
        b.close()
        with pytest.raises(LinkBroken):
            await writing
        with pytest.raises(LinkBroken):
            await a.write(b"x")
        a.close()

    run(test)


def test_a_stream_with_data_always_ready_lets_others_run(run: Run) -> None:
    async def test() -> None:
        a, b = pair()
        await a.write(bytes(4096))
        others = 0

        async def count() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        for _ in range(4096):
            assert await b.read(1) == b"\0"
        assert others >= 4096 // 64
        counting.cancel()
        a.close()
        b.close()

    run(test)


def test_a_reset_by_the_peer_is_a_broken_link_at_every_further_read(run: Run) -> None:
    async def test() -> None:
        connected: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        seen: asyncio.Future[E] = asyncio.get_running_loop().create_future()

        async def accept(stream: Stream) -> None:
            connected.set_result(stream)
            for _ in range(2):
                with pytest.raises(LinkBroken) as caught:
                    await stream.read(10)
            seen.set_result(caught.value.error)

        listener = await NETWORK.listen_tcp("127.0.0.1:0", accept)
        host, port = split_address(listener.address)
        client = socket.create_connection((host, port))
        await connected
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert await seen is E.CONNRESET
        await listener.close()

    run(test)


def test_tcp_echo_with_real_addresses_on_both_families(run: Run) -> None:
    async def test() -> None:
        async def echo(stream: Stream) -> None:
            while data := await stream.read(1000):
                await stream.write(data)

        for host in ("127.0.0.1", "[::1]"):
            listener = await NETWORK.listen_tcp(f"{host}:0", echo)
            assert listener.address.startswith(f"{host}:")
            stream = await NETWORK.connect_tcp(listener.address)
            assert stream.peer == listener.address
            await stream.write(b"hello")
            assert await read_exactly(stream, 5) == b"hello"
            stream.close()
            await listener.close()

    run(test)


def test_closing_a_listener_cancels_its_handlers_waits_for_them_and_ends_their_streams(run: Run) -> None:
    async def test() -> None:
        events: list[str] = []
        started = asyncio.Event()

        async def accept(stream: Stream) -> None:
            started.set()
            try:
                await stream.read(1)
            finally:
                await turns(5)
                events.append("ended")

        listener = await NETWORK.listen_tcp("127.0.0.1:0", accept)
        stream = await NETWORK.connect_tcp(listener.address)
        await started.wait()
        await asyncio.gather(listener.close(), listener.close())
        assert events == ["ended"]
        assert await stream.read(1) == b""
        stream.close()
        with pytest.raises(FileError) as caught:
            await NETWORK.connect_tcp(listener.address)
        assert caught.value.error is E.CONNREFUSED
        await listener.close()

    run(test)


def test_a_connection_whose_handler_never_began_is_closed_with_the_listener(run: Run) -> None:
    async def test() -> None:
        began: list[Stream] = []

        async def accept(stream: Stream) -> None:
            began.append(stream)

        listener = await NETWORK.listen_tcp("127.0.0.1:0", accept)
        assert isinstance(listener, SocketListener)
        with socket.create_connection(split_address(listener.address)) as client:
            listener._on_connections(*listener._sockets)
            await listener.close()
            assert client.recv(1) == b""
        assert began == []

    run(test)


def test_a_handler_may_close_its_own_listener(run: Run) -> None:
    async def test() -> None:
        done = asyncio.Event()

        async def accept(stream: Stream) -> None:
            await listener.close()
            done.set()

        listener = await NETWORK.listen_tcp("127.0.0.1:0", accept)
        stream = await NETWORK.connect_tcp(listener.address)
        await done.wait()
        assert await stream.read(1) == b""
        stream.close()

    run(test)


async def test_a_handler_that_fails_is_reported_and_the_listener_goes_on() -> None:
    reported: asyncio.Queue[BaseException] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.put_nowait(context["exception"]))

    async def accept(stream: Stream) -> None:
        raise ZeroDivisionError

    listener = await NETWORK.listen_tcp("127.0.0.1:0", accept)
    for _ in range(2):
        stream = await NETWORK.connect_tcp(listener.address)
        assert await stream.read(1) == b""
        assert isinstance(await reported.get(), ZeroDivisionError)
        stream.close()
    await listener.close()


async def test_running_out_of_descriptors_is_reported_and_the_connection_is_served_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: asyncio.Queue[BaseException] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.put_nowait(context["exception"]))
    monkeypatch.setattr("cognu.world.sockets.ACCEPT_PAUSE", 0.0)
    served = asyncio.Event()

    async def accept(stream: Stream) -> None:
        served.set()

    class Full:
        """A listening socket whose first accept finds no descriptor free."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.left = 1

        def accept(self) -> tuple[socket.socket, Any]:
            if self.left:
                self.left -= 1
                raise OSError(24, "")
            return self.sock.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    listener = await NETWORK.listen_tcp("127.0.0.1:0", accept)
    assert isinstance(listener, SocketListener)
    monkeypatch.setattr(listener, "_sockets", tuple(map(Full, listener._sockets)))
    listener._resume()
    stream = await NETWORK.connect_tcp(listener.address)
    await served.wait()
    assert isinstance(await reported.get(), OSError)
    stream.close()
    await listener.close()


def test_connecting_where_nobody_listens_is_refused_and_a_bad_name_unreachable(run: Run) -> None:
    async def test() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            with pytest.raises(FileError) as caught:
                await NETWORK.connect_tcp(f"127.0.0.1:{port}")
            assert caught.value.error is E.CONNREFUSED
            with pytest.raises(FileError) as caught:
                await NETWORK.listen_tcp(f"127.0.0.1:{port}", lambda stream: turns())
            assert caught.value.error is E.ADDRINUSE
        for name in ("no.such.host.invalid", "a" * 70 + ".invalid", "\ud800"):
            with pytest.raises(FileError) as caught:
                await NETWORK.resolve(name)
            assert caught.value.error is E.HOSTUNREACH
        with pytest.raises(FileError) as caught:
            await NETWORK.connect_tcp("127.0.0.1:0")
        assert caught.value.error is E.INVAL

    run(test)


def test_a_connect_that_nobody_answers_times_out(run: Run) -> None:
    async def test() -> None:
        # A backlog of nothing, filled: Linux then drops further SYNs.
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            held = []
            for _ in range(3):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(full.getsockname())
                held.append(client)
            with pytest.raises(FileError) as caught:
                await NETWORK.connect_tcp(join_address(full.getsockname()), timeout=0.05)
            assert caught.value.error is E.TIMEDOUT
            for client in held:
                client.close()

    run(test)


def test_resolve_gives_numeric_addresses(run: Run) -> None:
    async def test() -> None:
        assert await NETWORK.resolve("127.0.0.1") == ["127.0.0.1"]
        assert await NETWORK.resolve("::1") == ["::1"]
        assert set(await NETWORK.resolve("localhost")) <= {"127.0.0.1", "::1"}

    run(test)


def test_a_unix_socket_is_its_owners_alone_and_goes_with_its_listener(run: Run, tmp_path: Path) -> None:
    async def test() -> None:
        path = str(tmp_path / "node.sock")

        async def echo(stream: Stream) -> None:
            await stream.write(await stream.read(100))

        before = os.umask(0)
        try:
            listener = await NETWORK.listen_unix(path, echo)
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
        assert listener.address == path
        stream = await NETWORK.connect_unix(path)
        await stream.write(b"hi")
        assert await stream.read(9) == b"hi"
        stream.close()
        with pytest.raises(FileError) as caught:
            await NETWORK.listen_unix(path, echo)
        assert caught.value.error is E.ADDRINUSE
        await listener.close()
        assert os.listdir(tmp_path) == []

    run(test)


def test_a_stale_socket_file_is_replaced_and_any_other_file_kept(run: Run, tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "node.sock"

        async def accept(stream: Stream) -> None:
            return

        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with pytest.raises(FileError) as caught:
            await NETWORK.connect_unix(str(path))
        assert caught.value.error is E.CONNREFUSED
        listener = await NETWORK.listen_unix(str(path), accept)
        # Somebody else's file in our place is not ours to remove.
        path.unlink()
        path.write_text("precious")
        await listener.close()
        with pytest.raises(FileError) as caught:
            await NETWORK.listen_unix(str(path), accept)
        assert caught.value.error is E.ADDRINUSE
        assert path.read_text() == "precious"

    run(test)


def test_paths_no_socket_can_have_are_refused_clearly(run: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async def accept(stream: Stream) -> None:
            return

        room = UNIX_PATH_LIMIT - len(os.fsencode(str(tmp_path))) - 1
        exact = str(tmp_path / ("x" * room))
        await (await NETWORK.listen_unix(exact, accept)).close()
        cases = {exact + "x": E.NAMETOOLONG, "": E.INVAL, "a\0b": E.INVAL, "/\ud800": E.ILSEQ}
        cases[str(tmp_path / "none" / "x")] = E.NOENT
        for path, error in cases.items():
            with pytest.raises(FileError) as caught:
                await NETWORK.listen_unix(path, accept)
            assert caught.value.error is error
            with pytest.raises(FileError) as caught:
                await NETWORK.connect_unix(path)
            assert caught.value.error is error

    run(test)


@pytest.mark.parametrize("size", [1, 8 << 20])  # the host takes it at once, or as it is read
def test_the_end_of_writing_comes_after_what_was_written(run: Run, size: int) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            stream = await NETWORK.connect_tcp(f"127.0.0.1:{listening.getsockname()[1]}")
            other, _ = listening.accept()
        with other:
            writing = asyncio.create_task(stream.write(bytes(size)))
            await turns()
            stream.end_writing()
            stream.end_writing()
            with pytest.raises(LinkBroken) as caught:
                await stream.write(b"more")
            assert caught.value.error is E.PIPE
            received = await asyncio.to_thread(lambda: sum(map(len, iter(lambda: other.recv(1 << 20), b""))))
            await writing
            assert received == size
            other.sendall(b"and back")
            assert await stream.read(20) == b"and back"
            stream.close()

    run(test)


def test_a_dial_goes_to_the_link_that_its_address_names(run: Run) -> None:
    """Nobody has that address there: but the host is asked for it, and not for one without a link, which is none."""

    async def test() -> None:
        loopback = socket.if_indextoname(1)
        with pytest.raises(FileError) as caught:
            (await NETWORK.connect_tcp(f"[fe80::1%{loopback}]:1", 0.1)).close()
        assert caught.value.error is not E.INVAL

    run(test)


def test_a_unix_connect_waits_for_room_in_the_backlog(run: Run, tmp_path: Path) -> None:
    async def test() -> None:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen(0)
            first = await NETWORK.connect_unix(path)
            second = asyncio.create_task(NETWORK.connect_unix(path))
            await turns()
            assert not second.done()
            one, _ = listening.accept()
            stream = await second
            two, _ = listening.accept()
            await stream.write(b"second")
            assert two.recv(10) == b"second"
            one.close()
            two.close()
            first.close()
            stream.close()

    run(test)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("localhost:80", ("localhost", 80)),
        ("[::1]:0", ("::1", 0)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
    ],
)
def test_addresses_split(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address",
    ["", ":", "host", "host:", ":80", "::1:80", "h:65536", "h:-1", "h:+1", "h: 1", "h:１", "[]:1", "[a]b:1"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(FileError) as caught:
        split_address(address)
    assert caught.value.error is E.INVAL


@given(st.text() | st.text("[]:0123456789ab%."))
def test_splitting_any_text_gives_an_address_or_inval(text: str) -> None:
    try:
        host, port = split_address(text)
    except FileError as error:
        if error.error is not E.INVAL:
            raise
    else:
        assert split_address(join_address((host, port))) == (host, port)


@pytest.mark.parametrize("takes", [True, False])
def test_who_looks_first_may_close_the_stream_or_cancel_the_read(run: Run, takes: bool) -> None:
    async def looked_at(
        one: SocketStream, two: SocketStream, do: Callable[[asyncio.Task[bytes]], object]
    ) -> asyncio.Task[bytes]:
        """A read that waits when bytes come, and whoever looks at them first does that."""

        def look(_: bytes) -> bool:
            do(reading)
            return takes

        one.look_first(look)
        reading = asyncio.create_task(one.read(10))
        await turns()
        await two.write(b"abc")
        await asyncio.wait([reading])
        return reading

    async def closed() -> None:
        one, two = pair()
        reading = await looked_at(one, two, lambda _: one.close())
        assert reading.result() == b""
        two.close()

    async def cancelled() -> None:
        one, two = pair()
        reading = await looked_at(one, two, lambda reading: reading.cancel())
        assert reading.cancelled()
        two.close()
        assert await one.read(10) == (b"" if takes else b"abc")
        one.close()

    run(closed)
    run(cancelled)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", (socket.AF_INET, ("127.0.0.1", 7))),
        ("::1", (socket.AF_INET6, ("::1", 7, 0, 0))),
        ("fe80::1%1", (socket.AF_INET6, ("fe80::1", 7, 0, 1))),
    ],
)
def test_an_address_needs_no_thread(run: Run, host: str, found: object) -> None:
    async def test() -> None:
        asyncio.get_running_loop().set_default_executor(NoThreads())
        [(family, name)] = await lookup(host, 7)
        assert (family, (name[0].partition("%")[0], *name[1:])) == found
        with pytest.raises(FileError):
            await lookup("fe80::1%no-such-interface", 7)

    run(test)


class NoThreads(ThreadPoolExecutor):
    def submit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("a thread was asked for")
