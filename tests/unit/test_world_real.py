"""The real world's clock, threads, disk and child processes."""

from __future__ import annotations

import ast
import asyncio
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError, Misuse
from cognu.world import Bounds, World
from cognu.world.disk import UNFINISHED, RealDisk, parse_mounts
from cognu.world.real import MAX_SAID, RealThreads, real_world

DISK = RealDisk()


def test_the_real_world_has_every_part() -> None:
    world: World = real_world()
    first, second = world.clock.monotonic(), world.clock.monotonic()
    assert first <= second
    assert abs(world.clock.now() - time.time_ns()) < 60 * 10**9
    one, two = world.random.bytes(32), world.random.bytes(32)
    assert len(one) == len(two) == 32
    assert one != two


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the host has no such clock")
def test_monotonic_time_counts_suspend() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before <= real_world().clock.monotonic() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def test_sleep_lets_others_run() -> None:
    await real_world().clock.sleep(0)


async def test_a_call_runs_in_another_thread_with_its_result_or_error() -> None:
    threads = RealThreads(2)
    assert await threads.run(threading.get_ident) != threading.get_ident()
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(next, iter(()))
    threads.close()


async def test_no_more_threads_than_the_limit_and_all_calls_get_their_turn() -> None:
    threads = RealThreads(3)
    lock = threading.Lock()
    full = threading.Event()
    running = most = 0

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                full.set()
        full.wait()
        with lock:
            running -= 1
        return number

    assert await asyncio.gather(*(threads.run(work, n) for n in range(30))) == list(range(30))
    assert most == 3
    threads.close()


async def test_cancelling_stops_the_waiting_and_what_had_not_begun_never_runs() -> None:
    threads = RealThreads(1)
    go = threading.Event()
    ran: list[int] = []
    first = asyncio.create_task(threads.run(go.wait))
    second = asyncio.create_task(threads.run(ran.append, 2))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    assert await threads.run(lambda: 3) == 3
    assert ran == []
    threads.close()


async def test_closing_refuses_new_calls_and_fails_those_not_begun() -> None:
    threads = RealThreads(1)
    begun, go = threading.Event(), threading.Event()

    def first() -> str:
        begun.set()
        go.wait()
        return "first"

    running = asyncio.create_task(threads.run(first))
    waiting = asyncio.create_task(threads.run(begun.wait))
    await asyncio.sleep(0)
    begun.wait()
    threads.close()
    with pytest.raises(FileError) as caught:
        await waiting
    assert caught.value.error is E.CANCELED
    with pytest.raises(Misuse):
        await threads.run(begun.wait)
    go.set()
    assert await running == "first"


async def test_a_host_without_threads_to_give_is_told_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = RealThreads(2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_start)
        with pytest.raises(FileError) as caught:
            await threads.run(divmod, 7, 2)
        assert caught.value.error is E.AGAIN
    assert await threads.run(divmod, 7, 2) == (3, 1)
    threads.close()


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    DISK.write(path, b"one")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    DISK.write(path, b"two", 0o644)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    assert DISK.read(path) == b"two"
    assert os.listdir(tmp_path) == ["f"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "f")
    DISK.write(path, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(FileError) as caught:
            DISK.write(path, b"new")
        assert caught.value.error is E.NOSPC
        with pytest.raises(FileError):
            DISK.append(path, b"more")
    assert DISK.read(path) == b"old"
    assert os.listdir(tmp_path) == ["f"]
    (tmp_path / "d" / "full").mkdir(parents=True)
    with pytest.raises(FileError) as caught:
        DISK.write(str(tmp_path / "d"), b"x")
    assert caught.value.error is E.ISDIR
    assert sorted(os.listdir(tmp_path)) == ["d", "f"]


def test_the_new_content_is_synced_before_it_gets_the_name_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        events.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def noted_rename(source: str, target: str) -> None:
        events.append("rename")
        assert os.path.dirname(source) == os.path.dirname(target)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    DISK.write(str(tmp_path / "f"), b"x")
    assert events == ["file", "rename", "directory"]


def test_append_makes_the_file_and_adds_at_its_end(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    DISK.append(path, b"a")
    DISK.append(path, b"b")
    assert DISK.read(path) == b"ab"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_listing_is_sorted_and_leaves_out_what_a_crash_left(tmp_path: Path) -> None:
    for name in ("b", "a", UNFINISHED + "0123"):
        (tmp_path / name).touch()
    assert DISK.list(str(tmp_path)) == ["a", "b"]


def test_removing_and_asking_for_files_and_directories(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "c")
    before = os.umask(0)
    try:
        DISK.make_directory(path)
        DISK.make_directory(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o700
    assert DISK.exists(path)
    DISK.remove(path)
    assert not DISK.exists(path)
    DISK.write(path, b"")
    assert not DISK.exists(path + "/below")
    with pytest.raises(FileError) as caught:
        DISK.make_directory(path)
    assert caught.value.error is E.NOTDIR
    DISK.remove(path)


@pytest.mark.parametrize(("path", "error"), [("/none/x", E.NOENT), ("a\0b", E.INVAL), ("/\ud800", E.ILSEQ)])
def test_paths_that_lead_nowhere_are_clear_errors(path: str, error: E) -> None:
    calls = [DISK.read, DISK.list, DISK.remove, DISK.lock, DISK.tree]
    for call in calls:
        with pytest.raises(FileError) as caught:
            call(path)
        assert caught.value.error is error
    for change in (DISK.write, DISK.append):
        with pytest.raises(FileError) as caught:
            change(path, b"x")
        assert caught.value.error is error


def test_a_lock_has_one_holder_and_ends_with_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    release = DISK.lock(path)
    assert release is not None
    assert DISK.lock(path) is None
    release()
    release()
    other = "import fcntl,os,sys;f=open(sys.argv[1],'w');fcntl.flock(f,2);print('held',flush=True);input()"
    with subprocess.Popen(
        [sys.executable, "-c", other, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert DISK.lock(path) is None
        process.kill()
    again = DISK.lock(path)
    assert again is not None
    again()


async def test_a_child_gets_its_arguments_environment_directory_and_descriptors(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    script = (
        "import os, sys\n"
        f"os.write({writing}, repr((sys.argv[1], os.environ['A'], 'HOME' in os.environ, os.getcwd(), "
        "sys.stdin.read())).encode())\n"
        "sys.exit(3)"
    )
    child = await real_world().spawn.start(
        [sys.executable, "-c", script, "one"], {"A": "b"}, cwd=str(tmp_path), pass_fds=[writing]
    )
    os.close(writing)
    assert child.pid > 0
    assert await child.wait() == 3
    assert os.read(reading, 1000).decode() == repr(("one", "b", False, str(tmp_path), ""))
    os.close(reading)
    with pytest.raises(FileError) as caught:
        child.signal(signal.SIGTERM)
    assert caught.value.error is E.SRCH


async def test_a_child_ended_by_a_signal_has_a_status_beyond_128() -> None:
    reading, writing = os.pipe()
    child = await real_world().spawn.start(["/bin/cat"], {}, stdin=reading)
    child.signal(signal.SIGKILL)
    assert await child.wait() == 128 + signal.SIGKILL
    os.close(reading)
    os.close(writing)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="this host can't bound another process")
async def test_a_child_has_no_more_memory_and_descriptors_than_it_may() -> None:
    waiting, go = os.pipe()
    reading, writing = os.pipe()
    script = (
        "import os, resource\n"
        "os.read(0, 1)\n"
        "try:\n"
        "    bytearray(1 << 30)\n"
        "    grew = True\n"
        "except MemoryError:\n"
        "    grew = False\n"
        "print(grew, resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)\n"
    )
    child = await real_world().spawn.start(
        [sys.executable, "-c", script], {}, stdin=waiting, stdout=writing, memory=512 << 20, open_files=64
    )
    os.write(go, b"x")  # its limits hold by now
    assert await child.wait() == 0
    assert os.read(reading, 1000) == b"False (64, 64)\n"
    for descriptor in (waiting, go, reading, writing):
        os.close(descriptor)


async def test_what_can_not_be_started_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    cases: list[tuple[list[str], E]] = [
        ([], E.INVAL),
        (["/no/such/program"], E.NOENT),
        ([str(tmp_path / "text")], E.ACCES),
        (["a\0b"], E.INVAL),
    ]
    for argv, error in cases:
        with pytest.raises(FileError) as caught:
            await real_world().spawn.start(argv, {})
        assert caught.value.error is error


def test_a_draft_is_seen_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    draft = DISK.draft(str(path), 0o640)
    draft.write(b"new ")
    draft.write(memoryview(b"text"))
    assert (path.read_bytes(), DISK.list(str(tmp_path))) == (b"old", ["f"])
    draft.commit()
    draft.discard()
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new text", 0o640)
    assert os.listdir(tmp_path) == ["f"]
    file = DISK.open(str(path))
    assert (file.pread(4, 100), file.pread(8, 1)) == (b"text", b"")
    file.close()


def test_a_draft_discarded_or_dropped_leaves_nothing(tmp_path: Path) -> None:
    draft = DISK.draft(str(tmp_path / "f"))
    draft.write(b"x")
    draft.discard()
    draft.discard()
    with pytest.raises(FileError) as caught:
        draft.write(b"x")
    assert caught.value.error is E.BADF
    dropped = DISK.draft(str(tmp_path / "f"))
    del dropped
    assert os.listdir(tmp_path) == []
    for begin in (DISK.open, DISK.draft):
        with pytest.raises(FileError) as caught:
            begin(str(tmp_path / "none" / "f"))
        assert caught.value.error is E.NOENT


def test_what_was_left_unfinished_is_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in ("kept", UNFINISHED + "0", UNFINISHED + "1"):
        (tmp_path / name).write_bytes(b"x")
    assert DISK.sweep(str(tmp_path)) == 2
    assert DISK.sweep(str(tmp_path)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    with pytest.raises(FileError) as caught:
        DISK.sweep(str(tmp_path / "none"))
    assert caught.value.error is E.NOENT


def test_a_draft_may_find_its_place_at_the_end(tmp_path: Path) -> None:
    draft = DISK.draft(str(tmp_path / "somewhere"))
    draft.write(b"abc")
    (tmp_path / "d").mkdir()
    draft.commit(str(tmp_path / "d" / "there"))
    draft.discard()
    assert (tmp_path / "d" / "there").read_bytes() == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


# -- mounts -----------------------------------------------------------------------------------------------------------

MOUNTINFO = b"""\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
23 22 0:21 / /proc rw,nosuid shared:5 master:2 - proc proc rw
24 22 0:30 /a /with\\040blank rw - fuse.sshfs me@host:/ rw
nonsense
25 22 x:y / /odd rw - ext4 /dev/odd rw
26 22 8:3 / /short
"""


def test_mounts_are_known_by_device_and_kind() -> None:
    kinds = {os.makedev(8, 2): "ext4", os.makedev(0, 21): "proc", os.makedev(0, 30): "fuse.sshfs"}
    assert parse_mounts(MOUNTINFO) == kinds
    if sys.platform == "linux":
        assert RealDisk().mounts()[os.stat("/proc").st_dev] == "proc"


@given(st.binary() | st.lists(st.sampled_from(MOUNTINFO.split() + [b"\n", b" - "])).map(b" ".join))
def test_any_text_gives_some_mounts(text: bytes) -> None:
    assert all(device >= 0 and kind for device, kind in parse_mounts(text).items())


# -- a process joined to this one, and its limits ---------------------------------------------------------------------

ECHO = """
import os, resource, socket
sock = socket.socket(fileno=0)
sock.sendall(repr((sorted(os.environ.keys() - {'LC_CTYPE'}), os.getcwd(), os.listdir('/proc/self/fd'))).encode())
sock.recv(1)
limits = (getattr(resource, 'RLIMIT_' + name) for name in ('AS', 'DATA', 'CPU', 'FSIZE', 'NOFILE'))
sock.sendall(repr([resource.getrlimit(limit)[0] for limit in limits]).encode())
sock.recv(1)
"""


async def test_a_joined_process_has_its_connection_alone_and_gets_its_limits_while_it_runs() -> None:
    child, stream = await real_world().spawn.start_joined([sys.executable, "-I", "-c", ECHO], {}, "/")
    variables, directory, files = ast.literal_eval((await stream.read(4096)).decode())
    assert (variables, directory) == ([], "/")
    assert len(files) == 4  # with the one that lists them
    child.bound(Bounds(address_space=1 << 40, data=1 << 30, cpu=1000, file_size=1 << 20, open_files=16))
    await stream.write(b"x")
    assert ast.literal_eval((await stream.read(4096)).decode()) == [1 << 40, 1 << 30, 1000, 1 << 20, 16]
    assert child.used() > 0
    child.weigh(5)
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == 5
    stream.close()
    assert await child.wait() == 0
    child.bound(Bounds(data=1 << 20))
    child.weigh(6)
    for call in (child.used, lambda: child.signal(9)):
        with pytest.raises(FileError) as caught:
            call()
        assert caught.value.error is E.SRCH


async def test_what_a_joined_process_says_on_its_standard_error_is_logged_on_one_line_and_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = "import sys; sys.stderr.write('why\\x1b[2J\\n' + 'x' * 200_000); sys.exit(3)"
    child, stream = await real_world().spawn.start_joined([sys.executable, "-I", "-c", code], {}, "/")
    assert await child.wait() == 3
    stream.close()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"process {child.pid}: why\\x1b[2J\\nxxx")
    assert len(record.getMessage()) < MAX_SAID + 100


async def test_a_joined_process_that_can_not_be_started_leaves_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileError):
        await real_world().spawn.start_joined(["/no/such/program"], {}, "/")
    assert len(os.listdir("/proc/self/fd")) == before
