"""Two meshes on loopback: real sockets, real TLS, cuts of every kind."""

from __future__ import annotations

import asyncio
import datetime
import errno
import hashlib
import os
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cognu.errors import E, FileError, LinkBroken, Misuse
from cognu.mesh.identity import Peer, certificate_der, identity_from_seed
from cognu.mesh.links import Mesh
from cognu.mesh.liveness import SECOND
from cognu.mesh.reaching import FAILED_SECONDS
from cognu.mesh.session import Channel
from cognu.mesh.session_core import Timing
from cognu.world import Attendant, SecureStream, TlsKeys
from cognu.world.net import RealNetwork
from cognu.world.tls import TlsStream
from mesh_support import QUICK, Forwarder, Node, behind_a_line, echo, echoed, read_all, read_exactly, two_nodes


async def test_a_channel_carries_bytes_both_ways_and_ends(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, _):
        channel = await a.mesh.open("b", "echo")
        data = os.urandom(3_000_000)
        assert await echoed(channel, data) == data
        channel.close()
        await channel.wait_closed()


async def test_an_idle_link_sends_at_once_and_then_what_one_turn_wrote_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path, timing=replace(QUICK, ping=1000.0)) as (a, _):
        channels = [await a.mesh.open("b", "echo") for _ in range(10)]
        await channels[0].write(b"0")
        assert await channels[0].read(1) == b"0"  # both sides have sent what the openings bring
        offered: list[int] = []
        offer = TlsStream.offer

        def count(stream: TlsStream, *buffers: bytes | memoryview) -> bool:
            offered.append(sum(map(len, buffers)))
            return offer(stream, *buffers)

        monkeypatch.setattr(TlsStream, "offer", count)
        for channel in channels:
            await channel.write(b"12345")  # takes no turn of the loop
        assert len(offered) == 1
        for channel in channels:
            assert await channel.read(5) == b"12345"
        from_here = [size for size in offered if size == 9 * offered[0]]
        assert len(from_here) >= 1


async def test_the_handler_learns_who_opened_what(tmp_path: Path) -> None:
    seen: asyncio.Future[tuple[str, str, str]] = asyncio.get_running_loop().create_future()

    async def note(peer: Peer, label: str, channel: Channel) -> None:
        seen.set_result((peer.name, label, channel.peer))

    async with two_nodes(tmp_path, on_b=note) as (a, b):
        await a.mesh.open(b.identity.fingerprint[:8], "the label")
        assert await seen == ("a", "the label", "a")


async def test_status_says_who_is_connected_since_when_and_how(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        (before,) = a.mesh.status()
        assert (before.peer.name, before.connected, before.since, before.rtt) == ("b", False, None, None)
        started = a.world.clock.now()
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        await channel.read(1)
        (status,) = a.mesh.status()
        assert status.connected
        assert status.since is not None
        assert started <= status.since <= a.world.clock.now()
        assert status.address == b.address
        assert status.rtt is not None
        assert status.rtt > 0
        assert b.mesh.status()[0].connected


async def test_where_peers_are_is_known_without_asking_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path) as (a, b):
        [before] = a.mesh.whereabouts()
        assert before.address == ""
        assert [row.address for row in before.reserves] == [b.address]
        await a.mesh.connect("b")
        with monkeypatch.context() as patch:
            patch.setattr(type(a.world.network), "interfaces", lambda _: pytest.fail("all interfaces are listed"))
            [after] = a.mesh.whereabouts()
        assert (after.peer.name, after.address, after.reserves) == ("b", b.address, ())


async def test_status_without_a_descriptor_left_lacks_the_interface_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(_: object) -> dict[str, str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with two_nodes(tmp_path) as (a, b):
        await a.mesh.connect("b")
        with monkeypatch.context() as patch:
            patch.setattr(type(a.world.network), "interfaces", none_left)
            [status] = a.mesh.status()
        assert (status.connected, status.address, status.interface) == (True, b.address, "")
        assert "by which interfaces peers are linked can't be had" in caplog.text


@pytest.mark.parametrize("round_", range(3))
async def test_both_dialling_at_once_end_up_with_one_session(tmp_path: Path, round_: int) -> None:
    async with two_nodes(tmp_path) as (a, b):
        first, second = await asyncio.gather(a.mesh.open("b", "1"), b.mesh.open("a", "2"))
        for channel in (first, second):
            await channel.write(b"still here")
            assert await read_exactly(channel, 10) == b"still here"
        assert len(a.mesh._sessions) == len(b.mesh._sessions) == 1


async def test_a_handlers_refusal_is_what_the_opener_reads(tmp_path: Path) -> None:
    async def refuse(peer: Peer, label: str, channel: Channel) -> None:
        await channel.write(b"first")
        raise FileError(E.ACCES, label, "not granted")

    async with two_nodes(tmp_path, on_b=refuse) as (a, _):
        channel = await a.mesh.open("b", "secret")
        assert await read_exactly(channel, 5) == b"first"
        with pytest.raises(LinkBroken, match="not granted") as caught:
            await channel.read(1)
        assert caught.value.error is E.ACCES


async def test_an_unknown_peer_and_one_that_is_down_are_told_apart(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        with pytest.raises(FileError) as caught:
            await a.mesh.open("nobody", "x")
        assert caught.value.error is E.NOPEER
        await b.mesh.close()
        with pytest.raises(FileError) as caught:
            await a.mesh.open("b", "x")
        assert caught.value.error is E.HOSTUNREACH
        assert b.address in str(caught.value)
        c = Node(tmp_path / "c")
        a.knows(c, "c")
        with pytest.raises(FileError, match="no address") as caught:
            await a.mesh.open("c", "x")
        assert caught.value.error is E.HOSTUNREACH


async def test_a_node_that_is_no_peer_is_refused_by_the_listener(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (_, b):
        stranger = Node(tmp_path / "stranger")
        stranger.knows(b, "b", b.address)
        with pytest.raises(LinkBroken) as caught:
            await stranger.mesh.connect("b")
        assert caught.value.error is E.DROPPED
        await stranger.mesh.close()


async def test_another_node_at_a_peers_address_is_refused_by_the_dialler(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        c = await Node(tmp_path / "c").listen()
        c.knows(a, "a", a.address)
        a.knows(c, "c")
        a.book.update(replace(a.book.find("b"), addresses=(c.address,)))
        with pytest.raises(LinkBroken) as caught:
            await a.mesh.connect("b")
        assert caught.value.error is E.BADPEER
        a.book.update(replace(a.book.find("b"), addresses=(c.address, b.address)))
        await a.mesh.connect("b")
        assert a.book.find("b").addresses[0] == b.address
        await c.mesh.close()


async def test_new_addresses_of_a_peer_begin_its_dial_anew_once(tmp_path: Path) -> None:
    async with behind_a_line(tmp_path) as (a, b, line):
        line.deaf = True
        connecting = asyncio.create_task(a.mesh.connect("b"))
        await asyncio.sleep(0)
        [session] = a.mesh._sessions.values()
        dials = [session.reaching._attempt]
        for port in range(1, 4):
            a.mesh.heard(b.identity.fingerprint, [f"127.0.0.1:{port}"])
            for _ in range(10):
                await asyncio.sleep(0)
            dials.append(session.reaching._attempt)
        first, second, *others = dials
        assert first is not None
        assert first.cancelled()
        assert second is not None
        assert others == [second, second]
        assert not second.done()
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


class _Shows:
    """A connection whose other side shows a given certificate, past TLS."""

    peer = "10.0.0.1:1"
    local = "10.0.0.2:1"

    def __init__(self, certificate: bytes) -> None:
        self.peer_certificate = certificate
        self.closed = False

    def attend(self, attendant: Attendant) -> None:
        raise AssertionError("a stranger is not attended to")

    def offer(self, *buffers: bytes | memoryview) -> bool:
        raise AssertionError("nothing may be sent to a stranger")

    async def read(self, count: int) -> bytes:
        raise AssertionError("nothing may be read from a stranger")

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        raise AssertionError("nothing may be written to a stranger")

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        return


class _LaxNetwork(RealNetwork):
    """A network whose TLS lets everybody through."""

    def __init__(self, shown: bytes) -> None:
        self.stream = _Shows(shown)

    async def connect_tls(self, address: str, keys: TlsKeys, timeout: float = 20.0) -> SecureStream:
        return self.stream


async def test_the_leaf_is_compared_with_the_pin_even_if_tls_let_it_through(tmp_path: Path) -> None:
    a, b, c = (Node(tmp_path / name) for name in "abc")
    a.knows(b, "b", "10.0.0.1:1")
    a.knows(c, "c", "10.0.0.1:1")
    # The same key in another certificate, another peer's, and a stranger's.
    seed = identity_from_seed(bytes(32))
    stranger = certificate_der(seed.certificate)
    other_form = _reissue(b)
    for shown in (other_form, certificate_der(c.identity.certificate), stranger, b"no certificate"):
        network = _LaxNetwork(shown)
        mesh = Mesh(replace(a.world, network=network), a.identity, a.book, echo, QUICK)
        with pytest.raises(LinkBroken) as caught:
            await mesh.connect("b")
        assert caught.value.error is E.BADPEER
        assert network.stream.closed
        await mesh.close()


def _reissue(node: Node) -> bytes:
    """Another certificate for the same key."""
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(7)
    builder = builder.public_key(node.identity.key.public_key())
    builder = builder.not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(2050, 1, 1))
    return builder.sign(node.identity.key, None).public_bytes(Encoding.DER)


@pytest.mark.parametrize("dialler_leads", [True, False])
async def test_a_transfer_survives_cuts_and_a_deaf_line(tmp_path: Path, dialler_leads: bool) -> None:
    """The checksum of 12 MB each way, with the line cut three times and deaf, without FIN, twice."""
    async with behind_a_line(tmp_path, dialler_leads) as (a, _, line):
        points = [1_500_000, 4_000_000, 7_000_000, 9_000_000, 13_000_000]
        kinds = ["cut", "deaf", "cut", "deaf", "cut"]

        def on_bytes() -> None:
            # A new connection hears again.
            if points and line.passed >= points[0]:
                points.pop(0)
                if kinds.pop(0) == "cut":
                    line.cut()
                else:
                    line.deaf = True
                    connections = line.connections

                    def hear() -> None:
                        line.deaf = line.deaf and line.connections == connections

                    line.hear = hear

        line.on_bytes = on_bytes
        channel = await a.mesh.open("b", "echo")
        data = os.urandom(12_000_000)

        async def send() -> None:
            for start in range(0, len(data), 700_000):
                await channel.write(data[start : start + 700_000])
            channel.end()

        sending = asyncio.create_task(send())
        received = await read_all(channel)
        await sending
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        assert points == []
        assert line.connections >= 4
        channel.close()
        await channel.wait_closed()


async def test_both_sides_redialling_over_failing_lines_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both dial each other over lines that are cut together, again and again; both send on channels of their own."""
    # Else they would find the way around the lines.
    monkeypatch.setattr(Mesh, "_learn", lambda *_: None)
    async with two_nodes(tmp_path) as (a, b):
        lines = [await Forwarder(node.address).start() for node in (a, b)]
        a.book.update(replace(a.book.find("b"), addresses=(lines[1].address,)))
        b.book.update(replace(b.book.find("a"), addresses=(lines[0].address,)))
        left = [8]

        def on_bytes() -> None:
            if left[0] and sum(line.passed for line in lines) > (9 - left[0]) * 1_000_000:
                left[0] -= 1
                for line in lines:
                    line.cut()

        for line in lines:
            line.on_bytes = on_bytes

        async def transfer(node: Node, peer: str) -> bool:
            channel = await node.mesh.open(peer, "echo")
            data = os.urandom(4_000_000)
            return await echoed(channel, data) == data

        assert all(await asyncio.gather(transfer(a, "b"), transfer(b, "a")))
        assert left == [0]
        for line in lines:
            await line.close()


async def test_a_restarted_peer_ends_the_channels_with_session_lost(tmp_path: Path) -> None:
    async with behind_a_line(tmp_path) as (a, b, line):
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        await channel.read(1)
        # The node dies without a word: its end is there, but nothing comes through.
        line.deaf = True
        await b.mesh.close()
        again = await Node(Path(b.home)).listen()
        a.book.update(replace(a.book.find("b"), addresses=(again.address,)))
        with pytest.raises(LinkBroken) as caught:
            await channel.read(1)
        assert caught.value.error is E.RESTARTED
        fresh = await a.mesh.open("b", "echo")
        await fresh.write(b"y")
        assert await fresh.read(1) == b"y"
        await again.mesh.close()


async def test_a_peer_away_for_longer_than_the_retention_is_lost(tmp_path: Path) -> None:
    timing = Timing(silence=0.3, answer=0.2, retention=0.3, first_delay=0.02, last_delay=0.1)
    async with behind_a_line(tmp_path, timing=timing) as (a, _, line):
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        await channel.read(1)
        await line.close()
        with pytest.raises(LinkBroken) as caught:
            await channel.read(1)
        assert caught.value.error is E.AWAY
        with pytest.raises(LinkBroken):
            await channel.write(b"x")
        await channel.wait_closed()


async def test_a_shut_down_peer_says_so(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        await channel.read(1)
        await b.mesh.close()
        with pytest.raises(LinkBroken, match="shut down") as caught:
            await channel.read(1)
        assert caught.value.error is E.SESSIONLOST


async def test_dropping_a_peer_cuts_it_at_once_and_for_good(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        await channel.read(1)
        reading = asyncio.create_task(channel.read(1))
        await b.mesh.drop("a")
        with pytest.raises(LinkBroken) as caught:
            await reading
        assert caught.value.error is E.DROPPED
        assert b.book.all() == []
        assert not a.mesh.status()[0].dropped  # nobody has told it; it finds out
        told: list[Peer] = []
        a.mesh.on_dropped = told.append
        a.book.update(replace(a.book.find("b"), granted=("run",), received=("net",)))
        b_is = b.identity.fingerprint
        a.mesh.note_joined(b_is)  # it may have pinned this one only after it was asked for a link
        for granted in (("run",), ()):
            with pytest.raises(LinkBroken) as caught:
                await a.mesh.connect("b")
            assert (caught.value.error, caught.value.subject) == (E.DROPPED, "b")
            assert a.mesh.status()[0].dropped
            assert a.book.find("b").granted == granted
            if granted:
                assert told == []
                b.book.add(Peer(a.identity.fingerprint, "a", a.identity.certificate))
                channel = await a.mesh.open("b", "echo")
                await channel.write(b"x")
                assert await channel.read(1) == b"x"
                await b.mesh.drop("a")
                with pytest.raises(LinkBroken):
                    await channel.read(1)
        with pytest.raises(LinkBroken):
            await a.mesh.connect("b")  # each dial says so, and once is enough
        assert (a.book.find("b").received, [peer.granted for peer in told]) == ((), [("run",)])
        b.book.add(Peer(a.identity.fingerprint, "a", a.identity.certificate))
        await a.mesh.connect("b")
        assert not a.mesh.status()[0].dropped
        await b.mesh.drop("a")
        with pytest.raises(FileError):
            await b.mesh.drop("a")


async def answers(node: Node, peer: str) -> None:
    """Both have the link now."""
    channel = await node.mesh.open(peer, "echo")
    await channel.write(b"x")
    assert await channel.read(1) == b"x"
    channel.close()


async def test_the_host_a_peer_comes_from_is_kept_with_its_listeners_port_behind_where_it_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(fingerprint: str, address: str) -> SecureStream:
        raise FileError(E.HOSTUNREACH, address)

    async with two_nodes(tmp_path) as (a, b):
        monkeypatch.setattr(b.mesh, "_attempt", never)
        before = b.mesh._of(a.identity.fingerprint).order
        assert before(("192.0.2.1:9", a.address), 0) == ["192.0.2.1:9", a.address]
        b.book.update(replace(b.book.find("a"), addresses=("192.0.2.1:9",)))
        writes: list[None] = []
        b.book.on_change = lambda: writes.append(None)
        for _ in range(3):  # said each time, and written once
            await answers(a, "b")
            assert b.book.find("a").addresses == ("192.0.2.1:9", a.address)
            a.mesh._sessions[b.identity.fingerprint].cut_link()
        assert len(writes) == 1
        await answers(a, "b")
        a.mesh._port = 9  # it listens elsewhere, it says
        a.mesh._sessions[b.identity.fingerprint].cut_link()
        await answers(a, "b")
        assert b.book.find("a").addresses == ("192.0.2.1:9", "127.0.0.1:9")
        a.mesh._port = int(a.address.rpartition(":")[2])
        a.mesh._sessions[b.identity.fingerprint].cut_link()
        await answers(a, "b")
        await b.mesh.close()
        again = Node(Path(b.home))  # it never dialled, and can after a restart
        await again.mesh.connect("a")
        assert again.book.find("a").addresses == (a.address, "192.0.2.1:9")
        await again.mesh.close()


async def test_a_dial_that_failed_stands_for_a_second_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = Node(tmp_path / "a"), Node(tmp_path / "b")
    b_is, dialled, now = b.identity.fingerprint, [], [0]
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        nowhere = f"127.0.0.1:{deaf.getsockname()[1]}"
        a.knows(b, "b", nowhere)
        b.knows(a, "a", (await a.listen()).address)
        attempt = a.mesh._attempt

        async def counted(fingerprint: str, address: str) -> SecureStream:
            dialled.append(address)
            return await attempt(fingerprint, address)

        monkeypatch.setattr(a.mesh, "_attempt", counted)
        session = a.mesh._session(a.book.find("b"))
        monkeypatch.setattr(session.reaching, "_now", lambda: now[0])

        async def refused() -> tuple[str, int]:
            """Why, and how many dials it took."""
            dialled.clear()
            with pytest.raises(FileError) as caught:
                await a.mesh.open("b", "echo")
            return str(caught.value), len(dialled)

        said, dials = await refused()
        assert dials == 1
        assert nowhere in said
        assert await refused() == (said, 0)
        now[0] += int(FAILED_SECONDS * SECOND) - 1
        assert await refused() == (said, 0)
        now[0] += 1
        assert await refused() == (said, 1)
        for hint in (a.mesh.moved, lambda: a.mesh.note_joined(b_is), lambda: a.mesh.heard(b_is, ["127.0.0.1:1"])):
            assert await refused() == (said, 0)
            hint()
            assert (await refused())[1] >= 1
        dialled.clear()
        await b.mesh.connect("a")  # its own call ends that
        await answers(a, "b")
        assert dialled == []
        await b.mesh.close()
    await a.mesh.close()


async def test_who_was_dropped_and_has_no_room_to_write_that_down_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_nodes(tmp_path) as (a, b):
        a.book.update(replace(a.book.find("b"), granted=("run",)))
        b.book.remove(a.identity.fingerprint)
        told: list[Peer] = []
        a.mesh.on_dropped = told.append

        def full(*_: object) -> None:
            raise FileError(E.NOSPC, "peers.json")

        with monkeypatch.context() as patch:
            patch.setattr(a.book, "_store", full)
            with pytest.raises(LinkBroken) as caught:
                await a.mesh.connect("b")
        assert caught.value.error is E.DROPPED
        assert [peer.granted for peer in told] == [("run",)]
        assert [message for message in caplog.messages if "peers.json" in message]
        assert (a.mesh.status()[0].dropped, a.book.find("b").granted) == (True, ("run",))
        a.mesh.note_dropped(b.identity.fingerprint)  # it says so again
        assert a.book.find("b").granted == ()


async def test_a_link_is_as_good_where_the_peers_address_can_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_nodes(tmp_path) as (a, b):
        b.book.update(replace(b.book.find("a"), addresses=("192.0.2.1:9",)))

        def full(*_: object) -> None:
            raise FileError(E.NOSPC, "peers.json")

        monkeypatch.setattr(b.book, "_store", full)
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        assert await channel.read(1) == b"x"
        assert b.mesh.is_linked(a.identity.fingerprint)
        assert b.book.find("a").addresses == ("192.0.2.1:9",)  # and where it is is heard of
        assert a.address in b.mesh._of(a.identity.fingerprint).order((), 0)
        [said] = [message for message in caplog.messages if "can't be kept" in message]
        assert a.address in said
        assert "peers.json" in said


async def test_a_channel_nobody_reads_does_not_hold_up_another(tmp_path: Path) -> None:
    async def handle(peer: Peer, label: str, channel: Channel) -> None:
        if label == "stuck":
            await asyncio.get_running_loop().create_future()
        await echo(peer, label, channel)

    async with two_nodes(tmp_path, on_b=handle) as (a, _):
        stuck, quick = await a.mesh.open("b", "stuck"), await a.mesh.open("b", "quick")
        writing = asyncio.create_task(stuck.write(bytes(30_000_000)))
        for number in range(20):
            await quick.write(b"%020d" % number)
            assert await read_exactly(quick, 20) == b"%020d" % number
        assert not writing.done()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing


async def test_a_second_reader_or_writer_is_misuse_and_closing_wakes_the_first(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, _):
        channel = await a.mesh.open("b", "echo")
        reading = asyncio.create_task(channel.read(1))
        await asyncio.sleep(0)
        with pytest.raises(Misuse):
            await channel.read(1)
        with pytest.raises(Misuse):
            await channel.read(0)
        channel.close()
        assert await reading == b""
        with pytest.raises(LinkBroken):
            await channel.write(b"x")


async def test_a_cancelled_read_loses_nothing(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, _):
        channel = await a.mesh.open("b", "echo")
        reading = asyncio.create_task(channel.read(100))
        await asyncio.sleep(0)
        await channel.write(b"kept")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await read_exactly(channel, 4) == b"kept"


async def test_a_trusted_peer_that_talks_garbage_is_cut(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        keys = TlsKeys(a.identity.certificate, a.identity.private_key, (b.identity.certificate,))
        stream = await a.world.network.connect_tls(b.address, keys)
        await stream.write(b"x" * 4096)
        # Cut with its bytes unread, so the end may be a reset.
        with suppress(LinkBroken):
            while len(await stream.read(4096)):
                pass
        stream.close()
        channel = await a.mesh.open("b", "echo")
        await channel.write(b"x")
        assert await channel.read(1) == b"x"


async def test_a_closed_mesh_refuses_and_leaves_no_task(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with two_nodes(tmp_path) as (a, _):
        channel = await a.mesh.open("b", "echo")
        with pytest.raises(Misuse):
            await a.mesh.listen("127.0.0.1:0")
        await a.mesh.close()
        with pytest.raises(LinkBroken):
            await channel.write(b"x")
        with pytest.raises(LinkBroken):
            await a.mesh.open("b", "x")
    assert asyncio.all_tasks() == before
