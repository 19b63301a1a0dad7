"""`watch` and `tail -f`: on a system in memory, and against a node with the frames counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cognu.errors import E, FileError
from cognu.files.server import Notice
from cognu.files.watching import INBOX, Inbox
from cognu.ninep.watches import BROKEN, CONTENT, GONE, LOST, MADE, RENAMED, REVOKED
from cognu.shell.interactive import run_once
from cognu.shell.session import NodeSession
from cognu.shell.state import Shell, Streams
from joined import idle
from sessions import Served, nothing_open, served
from shell_fake import Bench, Collector, FakeClock, FakeFile, FakeWatch, FakeWorld
from watched import Frame


async def begun(bench: Bench, path: str) -> FakeWatch:
    while path not in bench.world.watches:
        await idle()
    return bench.world.watches[path]


def tell(watch: FakeWatch, *notices: Notice) -> None:
    for notice in notices:
        watch.notices.put_nowait(notice)


# -- watch --


async def test_watch_prints_each_event_and_ends_when_all_are_gone() -> None:
    bench = Bench()
    bench.system.make("d")
    bench.system.make("f", b"")
    running = asyncio.create_task(bench.run("watch d f"))
    tell(await begun(bench, "/home/me/d"), Notice(MADE, "x"), Notice(RENAMED, "x", "y"), Notice(LOST), Notice(GONE))
    await idle()
    tell(await begun(bench, "/home/me/f"), Notice(CONTENT), Notice(GONE))
    result = await running
    lines = result.out.splitlines()
    assert lines[:4] == ["made d/x", "renamed d/x d/y", "lost d", "gone d"]
    assert lines[4:] == ["content f", "gone f"]
    assert result.status == 0
    assert not any(watch.is_open for watch in bench.world.watches.values())


@pytest.mark.parametrize("kind", [BROKEN, REVOKED])
async def test_watch_fails_where_a_path_can_not_be_watched_any_more_and_goes_on_with_the_others(kind: int) -> None:
    bench = Bench()
    bench.system.make("d")
    bench.system.make("f", b"")
    running = asyncio.create_task(bench.run("watch d f"))
    tell(await begun(bench, "/home/me/d"), Notice(kind))
    await idle()
    tell(await begun(bench, "/home/me/f"), Notice(CONTENT), Notice(GONE))
    result = await running
    assert result.status == 1
    assert result.out.splitlines()[1:] == ["content f", "gone f"]


async def test_watch_ends_after_as_many_events_as_asked_for_and_prints_json() -> None:
    bench = Bench()
    bench.system.make("d")
    running = asyncio.create_task(bench.run("watch --json -n 2 d"))
    tell(await begun(bench, "/home/me/d"), Notice(MADE, "ä b"), Notice(RENAMED, "x", "y"), Notice(MADE, "z"))
    result = await running
    assert [json.loads(line) for line in result.out.splitlines()] == [
        {"path": "d", "kind": "made", "name": "ä b", "other": ""},
        {"path": "d", "kind": "renamed", "name": "x", "other": "y"},
    ]
    assert (await bench.run("watch -n 0 d")).out == ""


async def test_watch_goes_on_with_the_others_where_one_is_refused_and_ends_if_all_are() -> None:
    bench = Bench()
    bench.system.make("d")
    running = asyncio.create_task(bench.run("watch -n 1 none d"))
    tell(await begun(bench, "/home/me/d"), Notice(MADE, "x"))
    result = await running
    assert (result.status, result.out) == (1, "made d/x\n")
    assert "none" in result.err
    bench.world.tells = False
    result = await bench.run("watch d")
    assert (result.status, result.out) == (1, "")
    assert E.NOTSUP.text in result.err


async def test_watch_that_is_interrupted_leaves_no_watch() -> None:
    bench = Bench()
    bench.system.make("d")
    running = asyncio.create_task(bench.run("watch d"))
    watch = await begun(bench, "/home/me/d")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not watch.is_open


# -- tail -f --


async def followed(bench: Bench, text: str) -> tuple[Collector, Collector, asyncio.Task[int]]:
    streams, out, err = bench.streams(False)

    async def run() -> int:
        try:
            return await run_once(bench.shell, text, streams)
        finally:
            await bench.close(streams)

    return out, err, asyncio.create_task(run())


async def test_tail_follows_what_is_added_and_begins_anew_where_it_was_cut() -> None:
    bench = Bench()
    node = bench.system.make("f", b"one\ntwo\n")
    out, err, running = await followed(bench, "tail -n 1 -f f")
    watch = await begun(bench, "/home/me/f")
    assert watch.kinds == CONTENT
    await out.until(b"two\n")
    assert node.data is not None
    node.data += b"three\n"
    tell(watch, Notice(CONTENT))
    await out.until(b"three\n")
    node.data[:] = b"anew\n"
    tell(watch, Notice(CONTENT))
    await out.until(b"anew\n")
    node.data += b"last\n"
    tell(watch, Notice(GONE))
    assert await running == 1
    assert out.text == "two\nthree\nanew\nlast\n"
    assert "cut off" in err.text
    assert E.STALE.text in err.text
    assert not watch.is_open


@pytest.mark.parametrize(("kind", "error"), [(REVOKED, E.REVOKED), (BROKEN, E.SESSIONLOST)])
async def test_tail_says_why_it_can_not_go_on(kind: int, error: E) -> None:
    bench = Bench()
    bench.system.make("f", b"one\n")
    _, err, running = await followed(bench, "tail -f f")
    tell(await begun(bench, "/home/me/f"), Notice(kind))
    assert await running == 1
    assert error.text in err.text


async def test_tail_looks_from_time_to_time_where_nobody_tells() -> None:
    bench = Bench()
    bench.world.tells = False
    node = bench.system.make("f", b"one\n")
    out, _, running = await followed(bench, "tail -f f")
    await out.until(b"one\n")
    assert node.data is not None
    node.data += b"two\n"
    clock = bench.system.clock
    assert isinstance(clock, FakeClock)
    await clock.slept.wait()
    clock.slept.clear()
    clock.wake.set()
    clock.wake.clear()  # who waits goes on, once
    await out.until(b"two\n")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_tail_follows_one_file_only_and_of_the_input_prints_what_was_asked_for() -> None:
    bench = Bench()
    bench.stdin = b"out\nin\n"
    assert (await bench.run("tail -n 1 -f")).out == "in\n"
    assert (await bench.run("tail -c 2 -f -")).out == "n\n"
    assert (await bench.run("cat - | tail -f -n +2")).out == "in\n"
    bench.system.make("a", b"")
    bench.system.make("b", b"")
    assert (await bench.run("tail -f a b")).status == 2


# -- a node --


@pytest_asyncio.fixture
async def at() -> AsyncIterator[Served]:
    async with served() as node:
        yield node


async def put(session: NodeSession, path: str, data: bytes) -> None:
    file = await session.open(path, "a")
    await file.write(data)
    await file.close()


async def test_a_node_tells_tail_of_each_change_and_nothing_is_sent_while_nothing_happens(at: Served) -> None:
    session, other = await at.session(), await at.session()
    await put(other, "/tmp/f", b"one\n")
    asked, answered = Frame(at.ends[0]), Frame(at.ends[0].other)
    world = FakeWorld()
    out, err = Collector(world, "out"), Collector(world, "err")
    shell = Shell(session, {}, ("sh",))
    streams = Streams(FakeFile(world, "in"), out, err)
    running = asyncio.create_task(run_once(shell, "tail -f /tmp/f", streams))
    await out.until(b"one\n")
    while "Tevent" not in asked.take():
        await idle()
    await idle()
    asked.take(), answered.take()
    await other.stat("/tmp")
    await idle()
    assert asked.take() + answered.take() == []
    for line in (b"two\n", b"three\n"):
        await put(other, "/tmp/f", line)
        await out.until(line)
        await idle()
        assert answered.take().count("Revent") == 1
        assert set(asked.take()) <= {"Tevent", "Tread", "Tgetattr"}  # the last once, whether it may be read ahead
    await other.remove("/tmp/f")
    assert await running == 1
    assert E.STALE.text in err.text
    for each in (session, other):
        await nothing_open(each)
        await each.close()


async def test_a_session_watches_directories_and_the_log_and_says_where_it_can_not(at: Served) -> None:
    session = await at.session()
    for path in ("/tmp", "/dev/log", "/srv"):
        watch = await session.watch(path, MADE | CONTENT)
        if path == "/tmp":
            await session.mkdir("/tmp/d")
            assert await watch.next() == Notice(MADE, "d")
        await watch.close()
        await watch.close()
    with pytest.raises(FileError) as caught:
        await session.watch("/dev/null", CONTENT)
    assert (caught.value.error, caught.value.subject) == (E.NOTSUP, "/dev/null")
    await nothing_open(session)
    await session.close()


async def test_an_inbox_that_is_full_says_that_something_was_lost() -> None:
    inbox = Inbox()
    for number in range(INBOX + 1):
        inbox(Notice(MADE, str(number)))
    inbox(Notice(CONTENT))
    inbox(Notice(CONTENT))
    assert [await inbox.next() for _ in range(3)] == [Notice(LOST), Notice(MADE, str(INBOX)), Notice(CONTENT)]
    assert not inbox._notices
