"""Plain requests, answered from the loop's callback: the bytes and checks of the long way, in no more memory."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognu.devices.host import HostServer
from cognu.errors import E, FileError
from cognu.files.mounts import MREPL
from cognu.files.server import Caller, Fid, FileServer, MaybeAsync, Walk
from cognu.files.steps import finish
from cognu.kernel import WRITE
from cognu.ninep import glance
from cognu.ninep import messages as m
from cognu.ninep.attrs import getattr_of_stat
from cognu.ninep.codec import decode
from cognu.ninep.fids import FidTable
from cognu.ninep.messages import Dialect
from cognu.ninep.moves import FidState
from cognu.ninep.replies import error_reply
from cognu.ninep.types import GETATTR_ALL, GETATTR_BASIC, L_DIRECTORY, L_RDWR, NOFID, ORDWR, OREAD, Qid, Stat
from cognu.world.host_tree import RealHostTree
from cognu.world.real import real_world
from joined import Slow, idle
from memfs import MemDirectory
from prompt import LARGE, MSIZE, L, Prompt, plant, prompt, served, wire


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return plant(tmp_path / "tree")


# -- what is parsed and packed ----------------------------------------------------------------------------------------


def fids() -> FidTable:
    table = FidTable(64)
    for fid, state in enumerate([FidState.DIR, FidState.FILE, FidState.OPEN, FidState.OPENDIR]):
        table.put(fid, state, f"target {fid}")
    return table


NAMES = st.sampled_from(["x", "d", "..", ".", "a/b", "", "é", "n" * 256, "\0"])
FIDS = st.integers(0, 5) | st.just(NOFID)
REQUESTS = st.one_of(
    st.builds(m.Tgetattr, FIDS, st.integers(0, (1 << 64) - 1)),
    st.builds(m.Tread, FIDS, st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1)),
    st.builds(m.Twalk, FIDS, FIDS, st.lists(NAMES.filter(lambda name: name != "\0"), max_size=17).map(tuple)),
    st.builds(m.Tlopen, FIDS, st.sampled_from([0, L_RDWR, L_DIRECTORY])),
    st.builds(m.Tclunk, FIDS),
    st.builds(m.Tstatfs, FIDS),
)


@given(REQUESTS, st.integers(0, 0xFFFE), st.binary(max_size=30))
def test_what_is_shown_as_plain_is_what_the_codec_makes_of_it(request: m.Request, tag: int, rest: bytes) -> None:
    raw = wire(request, tag)
    shown = glance.parse(memoryview(raw + rest), 0, fids())
    if shown is None:
        return
    target, fields, names = shown
    assert fields[:3] == (len(raw), raw[4], tag)
    assert target == f"target {fields[3]}"
    match decode(memoryview(raw), L)[1]:
        case m.Twalk(fid=fid, newfid=newfid, names=asked):
            assert (fields[3:], names) == ((fid, newfid, len(asked)), asked)
        case m.Tgetattr(fid=fid, request_mask=last) | m.Tlopen(fid=fid, flags=last):
            assert (fields[3:], names) == ((fid, last), ())
        case m.Tread(fid=fid, offset=offset, count=count):
            assert (fields[3:], names) == ((fid, offset, count), ())
        case m.Tclunk(fid=fid):
            assert (fields[3:], names) == ((fid,), ())
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize(
    "request_",
    [m.Tgetattr(1, 5), m.Tread(2, 7, 9), m.Twalk(0, 9, ("a", "b" * 255)), m.Tlopen(1, 0), m.Tclunk(3)],
    ids=lambda request: type(request).__name__,
)
def test_each_of_the_five_is_plain_whole_and_not_when_it_is_cut(request_: m.Request) -> None:
    raw = wire(request_, 3)
    assert glance.parse(memoryview(raw), 0, fids()) is not None
    for end in range(7, len(raw)):
        assert glance.parse(memoryview(raw[:end]), 0, fids()) is None


@given(st.binary(min_size=7, max_size=80) | st.builds(lambda n, rest: bytes([40, 0, 0, 0, n]) + rest,
       st.sampled_from([24, 116, 110, 12, 120]), st.binary(min_size=2, max_size=60)))  # fmt: skip
def test_any_bytes_are_plain_or_not(raw: bytes) -> None:
    shown = glance.parse(memoryview(raw), 0, fids())
    assert shown is None or shown[1][0] <= len(raw)


NUMBERS = st.integers(-(1 << 63), 1 << 63)
STATS = st.builds(
    Stat,
    st.just("f"),
    st.builds(Qid, st.integers(0, 255), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)),
    st.integers(0, (1 << 32) - 1),
    length=st.integers(0, 1 << 63),
    mtime=NUMBERS,
    atime=NUMBERS,
    ctime=NUMBERS,
    btime=st.none() | NUMBERS,
    uid=st.integers(0, (1 << 32) - 1),
    gid=st.integers(0, (1 << 32) - 1),
    links=st.integers(0, 1 << 40),
    rdev=st.integers(0, (1 << 64) - 1),
    blocks=st.none() | st.integers(0, 1 << 60),
)


@given(STATS, st.sampled_from([0, GETATTR_BASIC, GETATTR_ALL]), st.integers(0, 0xFFFE))
def test_attributes_are_packed_as_the_codec_does(stat: Stat, mask: int, tag: int) -> None:
    assert glance.pack_getattr(tag, stat, mask) == wire(getattr_of_stat(stat, mask), tag)


def test_a_number_that_does_not_fit_is_left_to_the_codec() -> None:
    assert glance.pack_getattr(1, Stat("f", Qid(0, 1 << 32, 0), 0), 0) is None
    assert glance.pack_walk(1, [Qid(0, 0, -1)]) is None
    assert glance.pack_lopen(1, Qid(256, 0, 0)) is None


@given(st.lists(st.builds(Qid, st.integers(0, 255), st.integers(0, 9), st.integers(0, 1 << 63)), max_size=16))
def test_the_other_replies_are_packed_as_the_codec_does(qids: Sequence[Qid]) -> None:
    assert glance.pack_walk(7, qids) == wire(m.Rwalk(tuple(qids)), 7)
    assert glance.pack_clunk(7) == wire(m.Rclunk(), 7)
    assert glance.pack_read(7, 3) + b"abc" == wire(m.Rread(b"abc"), 7)
    for qid in qids[:1]:
        assert glance.pack_lopen(7, qid) == wire(m.Rlopen(qid, 0), 7)


# -- both ways --------------------------------------------------------------------------------------------------------

LIVE_FIDS = st.integers(0, 3)
BOTH = st.one_of(
    st.builds(m.Tread, LIVE_FIDS, st.sampled_from([0, 1, 5000, 1 << 40]), st.sampled_from([0, 1, 20_000, 400_000])),
    st.builds(m.Twrite, LIVE_FIDS, st.sampled_from([0, 5000, 1 << 63]), st.sampled_from([b"", b"!", LARGE[:50_000]])),
    st.builds(m.Twalk, LIVE_FIDS, LIVE_FIDS, st.lists(
        st.sampled_from(["d", "x", "deep", "y", "large", "link", "..", "absent"]), max_size=3).map(tuple)),
    st.builds(m.Tclunk, st.integers(1, 3)),
)  # fmt: skip
STEPS = BOTH | st.one_of(
    st.builds(m.Tgetattr, LIVE_FIDS, st.sampled_from([GETATTR_BASIC, GETATTR_ALL])),
    st.builds(m.Tlopen, LIVE_FIDS, st.sampled_from([0, L_RDWR, 0o100000])),
)
LEGACY_STEPS = BOTH | st.builds(m.Tstat, LIVE_FIDS) | st.builds(m.Topen, LIVE_FIDS, st.sampled_from([OREAD, ORDWR]))
TO_BE_WRITTEN: dict[Dialect, m.Request] = {
    dialect: m.Tlopen(3, L_RDWR) if dialect in glance.DIALECTS else m.Topen(3, ORDWR) for dialect in Dialect
}


async def compare(server: FileServer, dialect: Dialect, steps: Sequence[m.Request]) -> None:
    async with served(server, True, dialect) as short, served(server, False, dialect) as long:
        begun = [m.Twalk(0, 1, ("d", "x")), m.Twalk(0, 2, ("large",)), m.Twalk(0, 3, ("d", "deep", "y"))]
        for step in [*begun, TO_BE_WRITTEN[dialect], *steps]:
            assert await short.ask(step) == await long.ask(step)


@pytest.mark.parametrize("kind", ["host", "memory"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25), dialect=st.sampled_from([Dialect.L, Dialect.NG]))
def test_whatever_is_asked_the_answers_are_those_of_the_long_way(
    tree: Path, kind: str, steps: list[m.Request], dialect: Dialect
) -> None:
    server = HostServer(real_world(), RealHostTree(str(tree))) if kind == "host" else Prompt(tree / "large")
    asyncio.run(compare(server, dialect, steps))
    if isinstance(server, Prompt):
        server.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(LEGACY_STEPS, max_size=25), dialect=st.sampled_from([Dialect.LEGACY, Dialect.U]))
def test_so_they_are_in_the_dialects_that_have_no_plain_requests(
    tree: Path, steps: list[m.Request], dialect: Dialect
) -> None:
    asyncio.run(compare(HostServer(real_world(), RealHostTree(str(tree))), dialect, steps))


@pytest.mark.parametrize("dialect", list(Dialect))
async def test_what_waits_for_nobody_does_not_wake_the_reading_task(
    tree: Path, dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(HostServer(real_world(), RealHostTree(str(tree))), True, dialect) as ends:
        await ends.call(m.Twalk(0, 3, ("d", "x")))
        await ends.call(TO_BE_WRITTEN[dialect])
        await idle()
        with monkeypatch.context() as patched:
            patched.setattr(ends.export, "_take_turns", None)  # which would be called now
            assert await ends.call(m.Twrite(3, 0, LARGE)) == m.Rwrite(len(LARGE))
            assert (
                await ends.call(m.Tclunk(9))
                == decode(
                    memoryview(b"".join(map(bytes, error_reply(FileError(E.BADF, "fid 9"), 1, dialect, MSIZE)))),
                    dialect,
                )[1]
            )
            for piece in (wire(m.Tread(3, 0, 9), 5, dialect)[:6], wire(m.Tread(3, 0, 9), 5, dialect)[6:]):
                await ends.client.write(piece)
                await idle()
            assert await ends.replies(1) == [wire(m.Rread(LARGE[:9]), 5, dialect)]
    assert (tree / "d" / "x").read_bytes() == LARGE


@pytest.mark.parametrize("bad", [b"\x06\0\0\0", b"\xff\xff\xff\xff", b"\x07\0\0\0\x19\0\0", b"\x08\0\0\0\x74\0\0!"])
async def test_what_breaks_the_protocol_ends_the_connection_after_the_answers_before_it(
    bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with prompt() as (server, ends):
        await ends.open(1, "d", "x")
        await ends.client.write(wire(m.Tread(1, 0, 3), 5) + bad + wire(m.Tread(1, 0, 3), 6))
        assert await ends.replies(1) == [wire(m.Rread(b"d/x"), 5)]
        assert await ends.client.read(1) == b""
        await ends.serving
        assert len(server.live) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_bug_met_in_a_callback_ends_the_connection_as_one_in_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async with prompt() as (_, ends):
        await ends.open(1, "d", "x")

        def fail(_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(ends.export, "_begin", fail)
        await ends.send((m.Tstatfs(1), 5))
        assert await ends.client.read(1) == b""
        with pytest.raises(ZeroDivisionError):
            await ends.serving
        ends.serving = asyncio.get_running_loop().create_task(idle())


async def test_the_five_are_answered_without_the_reading_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async with prompt() as (server, ends):
        await ends.call(m.Tgetattr(0, 0))  # the kernel is asked once by the long way
        monkeypatch.setattr(ends.export, "_begin", None)  # which would be called now
        before = server.asked
        walked = await ends.call(m.Twalk(0, 1, ("d", "x")))
        assert isinstance(walked, m.Rwalk)
        assert len(walked.qids) == 2
        opened = await ends.call(m.Tlopen(1, 0))
        assert isinstance(opened, m.Rlopen)
        assert await ends.call(m.Tread(1, 3, 6)) == m.Rread(b"d/xd/x")
        assert isinstance(await ends.call(m.Tgetattr(1, 0)), m.Rgetattr)
        assert await ends.call(m.Tclunk(1)) == m.Rclunk()
        assert server.asked == before + 4
    assert len(server.live) == 1


async def test_many_that_come_in_one_piece_are_answered_in_order_and_the_rest_goes_on(tree: Path) -> None:
    async with prompt() as (_, ends):
        await ends.open(1, "d", "x")
        asked = [(m.Tread(1, n, 3), n) for n in range(200)] + [(m.Tstatfs(1), 200)] + [(m.Tread(1, 5, 3), 201)]
        await ends.send(*asked)
        replies = [decode(memoryview(raw), L) for raw in await ends.replies(202)]
        data = b"d/x" * 1000
        assert replies[:200] == [(n, m.Rread(data[n : n + 3])) for n in range(200)]
        assert {tag for tag, _ in replies[200:]} == {200, 201}


async def test_a_request_that_comes_byte_by_byte_is_answered() -> None:
    async with prompt() as (_, ends):
        await ends.open(1, "d", "x")
        for byte in wire(m.Tread(1, 0, 3), 9):
            await ends.client.write(bytes([byte]))
            await idle()
        assert await ends.replies(1) == [wire(m.Rread(b"d/x"), 9)]


async def test_what_was_revoked_is_refused_by_the_short_way_too() -> None:
    async with prompt() as (server, ends):
        await ends.open(1, "d", "x")
        await ends.call(m.Twalk(0, 2, ("d",)))
        await ends.call(m.Twalk(0, 3, ("d", "x")))
        assert await ends.call(m.Tread(1, 0, 3)) == m.Rread(b"d/x")
        asked = server.asked
        ends.revoke()
        refusal = m.Rlerror(FileError(E.REVOKED).errno)
        for message in (
            m.Tread(1, 0, 3),
            m.Tgetattr(1, 0),
            m.Twalk(2, 4, ("x",)),
            m.Tlopen(3, 0),
            m.Tread(1, 0, 1 << 19),
        ):
            assert await ends.call(message) == refusal
        assert server.asked == asked, "a server was asked without a capability"


async def test_a_right_that_is_missing_is_missing_by_the_short_way_too() -> None:
    async with prompt() as (server, ends):
        await ends.call(m.Twalk(0, 1, ("d", "x")))
        root = ends.process.namespace.root
        authority = root.domain.authority
        ends.process.namespace.root.lessen(authority.mint(root.domain.pid, root.cap, WRITE, root.domain.pid))
        await ends.call(m.Tattach(5, NOFID, "glenda", ""))
        await ends.call(m.Twalk(5, 6, ("d", "x")))
        asked = server.asked
        assert await ends.call(m.Tlopen(6, 0)) == m.Rlerror(FileError(E.ACCES).errno)
        assert server.asked == asked


async def test_what_was_mounted_on_a_file_that_was_walked_to_is_what_is_opened_and_told_of() -> None:
    """By the long way, which follows the mount point."""
    async with prompt() as (server, ends):
        process, namespace = ends.process, ends.process.namespace
        await ends.call(m.Twalk(0, 1, ("d", "x")))
        shown = await finish(namespace.find("/large", process.cwd, process))
        place = await finish(namespace.find("/d/x", process.cwd, process))
        namespace.mount(shown, place, MREPL)
        asked = server.asked
        told = await ends.call(m.Tgetattr(1, GETATTR_BASIC))
        assert isinstance(told, m.Rgetattr)
        assert told.qid == shown.qid
        assert await ends.call(m.Tlopen(1, 0)) == m.Rlopen(shown.qid, 0)
        assert server.asked == asked
        assert await ends.call(m.Tread(1, 0, 3)) == m.Rread(b"")  # of /large, which is empty here
        shown.close()
        place.close()


async def test_a_read_under_way_keeps_its_fid_from_being_clunked_at_once() -> None:
    async with prompt() as (server, ends):
        assert isinstance(server.root, MemDirectory)
        slow = Slow("slow")
        server.root.add(slow)
        await ends.call(m.Twalk(0, 1, ("slow",)))
        assert isinstance(await ends.call(m.Tlopen(1, 0)), m.Rlopen)
        await ends.send((m.Tread(1, 0, 3), 5))
        await slow.parked(1)
        await ends.send((m.Tclunk(1), 6))
        assert [decode(memoryview(raw), L) for raw in await ends.replies(2)] == [
            (5, m.Rlerror(FileError(E.INTR).errno)),
            (6, m.Rclunk()),
        ]


async def test_a_server_that_fails_at_once_is_asked_again_and_the_failure_is_the_answer(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with prompt() as (server, ends):
        await ends.open(1, "d", "x")

        def fail(*_: object) -> bytes:
            raise ZeroDivisionError

        monkeypatch.setattr(server, "read", fail)
        monkeypatch.setattr(server, "read_now", fail)
        assert await ends.call(m.Tread(1, 0, 3)) == m.Rlerror(FileError(E.IO).errno)
        assert await ends.call(m.Tclunk(1)) == m.Rclunk()
    assert [record.message for record in caplog.records if record.exc_info] == [
        "a plain request failed on this side",
        "request failed on this side",
    ]


@pytest.mark.parametrize("direct", [True, False], ids=["short", "long"])
async def test_a_clunk_that_fails_is_answered_so_and_what_comes_next_goes_on(
    direct: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Prompt()
    async with served(server, direct) as ends:
        await ends.open(1, "d", "x")
        await ends.open(2, "d", "x")
        clunk = server.clunk

        def fail(fid: Fid) -> None:
            clunk(fid)
            raise OSError(errno.EDQUOT, "quota")

        with monkeypatch.context() as patched:
            patched.setattr(server, "clunk", fail)
            assert await ends.call(m.Tclunk(1)) == m.Rlerror(FileError(E.IO).errno)
        asked = server.asked
        assert await ends.call(m.Tread(2, 0, 3)) == m.Rread(b"d/x")
        assert server.asked == asked + direct
        assert await ends.call(m.Tclunk(1)) == m.Rlerror(FileError(E.BADF).errno)
    assert [record.message for record in caplog.records] == ["request failed on this side"]
    assert len(server.live) == 1


@pytest.mark.parametrize("direct", [True, False], ids=["short", "long"])
async def test_what_the_host_says_at_a_close_is_in_the_log_and_the_fid_is_gone(
    tree: Path, direct: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(HostServer(real_world(), RealHostTree(str(tree))), direct) as ends:
        await ends.open(1, "d", "x")
        close, failed = os.close, 0

        def fail(fd: int) -> None:
            nonlocal failed
            close(fd)
            if not failed:
                failed = 1
                raise OSError(errno.EDQUOT, "quota")

        with monkeypatch.context() as patched:
            patched.setattr(os, "close", fail)
            assert await ends.call(m.Tclunk(1)) == m.Rclunk()
        assert failed
        assert isinstance(await ends.call(m.Tgetattr(0, 0)), m.Rgetattr)
    assert [record.message for record in caplog.records] == [
        f"what was written to a file of the host may be lost: {FileError(E.DQUOT)}"
    ]


async def test_a_walk_to_what_no_reply_can_name_is_refused_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with prompt() as (server, ends):
        walk_now = server.walk_now

        def far_away(fid: Fid, names: Sequence[str], caller: Caller) -> Walk | None:
            walked = walk_now(fid, names, caller)
            return walked and Walk([Qid(0, 0, -1)] * len(names), walked.fid)

        await ends.call(m.Tgetattr(0, 0))  # the kernel is asked once by the long way
        monkeypatch.setattr(server, "walk_now", far_away)
        before = len(server.live)
        assert isinstance(await ends.call(m.Twalk(0, 1, ("d", "x"))), m.Rwalk)  # the long way has it right
        assert len(server.live) == before + 1


@pytest.mark.parametrize("direct", [True, False], ids=["short", "long"])
async def test_an_opening_that_no_reply_can_tell_of_is_refused(direct: bool) -> None:
    class Odd(Prompt):
        def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
            opened = super().open(fid, mode, caller)
            fid.qid = Qid(0, 0, -1)
            return opened

    server = Odd()
    async with served(server, direct) as ends:
        await ends.call(m.Tgetattr(0, 0))  # the kernel is asked once by the long way
        await ends.call(m.Twalk(0, 1, ("d", "x")))
        asked = server.asked
        assert await ends.call(m.Tlopen(1, 0)) == m.Rlerror(FileError(E.OVERFLOW).errno)
        assert server.asked == asked + direct
        assert await ends.call(m.Tclunk(1)) == m.Rclunk()
    assert len(server.live) == 1
