"""top: what it reads, what it shows, and when it ends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.commands.top import HEADS, USUAL_DELAY, Sample, parse_status, size, table
from cognu.shell.commands.windows import CLEAR
from cognu.shell.interactive import run_once
from guests import until
from shell_fake import Bench, FakeClock

SECOND = 10**9


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.system.make("/proc/clone", b"")
    return bench


def status(pid: int, more: str = "", *, name: str = "wc", utime: int = 0, state: str = "Running") -> bytes:
    return (
        f"name {name}\nstate {state}\npid {pid}\nparent 1\nuser me\nnode -\nstarted {10**18 - 4 * SECOND}\n"
        f"utime {utime}\nstime 0\n{more}"
    ).encode()


async def test_one_table_from_the_status_files_alone(bench: Bench) -> None:
    limits = "memory 70000\nlimit.memory 140000/67108864\nlimit.files 3/1024\nlimit.processes 2/64\n"
    bench.system.make("/proc/7/status", status(7))
    bench.system.make("/proc/12/status", status(12, limits, name="'a b'", utime=1000, state="Stopped"))
    assert (await bench.run("top -n 1")).out == (
        "PID  USER  STATE    CPU%  MEMORY  LIMIT  FILES  PROCS  NODE  PROGRAM\n"
        "12   me    Stopped  25.0  69K     64M    3      2      -     a b\n"
        "7    me    Running  0.0   0       -      0      0      -     wc\n"
    )
    assert (await bench.run("top -n 0")).out == ""


async def test_it_goes_on_until_it_is_interrupted(bench: Bench) -> None:
    bench.system.make("/proc/7/status", status(7))
    clock = bench.system.clock
    assert isinstance(clock, FakeClock)
    streams, out, _ = bench.streams(terminal=True)
    running = asyncio.ensure_future(run_once(bench.shell, "top", streams))
    await clock.slept.wait()
    assert clock.asked == [USUAL_DELAY]
    assert out.text.startswith(CLEAR + "PID")
    running.cancel()
    assert await asyncio.wait([running])
    await bench.close(streams)


async def test_it_fits_the_window_and_follows_it(bench: Bench) -> None:
    for pid in range(7, 50):
        bench.system.make(f"/proc/{pid}/status", status(pid, name="long" * 30))
    bench.system.make("/dev/consctl", b"")
    bench.system.make("/dev/resize", b"24 80\n")
    window = bench.system.make("/dev/winsize", b"24 80\n")
    streams, out, _ = bench.streams(terminal=True)
    running = asyncio.ensure_future(run_once(bench.shell, "top", streams))
    await until(lambda: CLEAR in out.text)
    lines = out.text.rpartition(CLEAR)[2].splitlines()
    assert (len(lines), lines[-1], max(map(len, lines))) == (23, "... and 22 more", 80)
    window.data[:] = b"10 40\n"
    await until(lambda: len(out.text.rpartition(CLEAR)[2].splitlines()) == 9)
    assert max(map(len, out.text.rpartition(CLEAR)[2].splitlines())) == 40
    running.cancel()
    await asyncio.wait([running])
    await bench.close(streams)


async def test_clear_clears_a_terminal_and_writes_nothing_elsewhere(bench: Bench) -> None:
    streams, out, _ = bench.streams(terminal=True)
    assert await run_once(bench.shell, "clear", streams) == 0
    assert out.text == CLEAR
    await bench.close(streams)
    assert (await bench.run("clear")).out == ""


async def test_a_process_that_ends_meanwhile_is_left_out_and_other_refusals_are_told(bench: Bench) -> None:
    bench.system.make("/proc/7/status", status(7))
    bench.system.make("/proc/8")
    assert len((await bench.run("top -n 1")).out.splitlines()) == 2
    bench.system.make("/proc/9/status", b"state Running\n")
    result = await bench.run("top -n 1")
    assert (result.status, E.BADMESSAGE.text in result.err) == (1, True)
    for wrong in ("top x", "top -n x", "top -d x"):
        assert (await bench.run(wrong)).status == 2


def sample(pid: int, cpu: int, started: int = 0) -> Sample:
    return Sample(pid, "me", "Running", cpu, started, 0, None, 0, 1, "-", "p")


def test_the_busiest_since_the_last_look_come_first() -> None:
    before = {1: sample(1, 50 * SECOND), 2: sample(2, 0)}
    lines = table([sample(1, 50 * SECOND), sample(2, SECOND), sample(3, SECOND, 8 * SECOND)], before, 4 * SECOND,
                  10 * SECOND)  # fmt: skip
    assert [line.split()[0] for line in lines] == ["PID", "3", "2", "1"]
    assert [line.split()[3] for line in lines] == ["CPU%", "50.0", "25.0", "0.0"]
    assert table([], {}, 0, 0) == ["  ".join(HEADS)]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (10239, "10239"), (10240, "10K"), (10241, "11K"), (65536, "64K"), (1 << 30, "1024M"),
     (1 << 80, "1048576E")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


LINES = ["pid 1\n", "user x\n", "state R\n", "state 'a\n", "name b\n", "started 5\n", "x\n", "limit.memory 1/2\n",
         "limit.files x/2\n", "utime q\n"]  # fmt: skip


@given(st.text() | st.lists(st.sampled_from(LINES)).map("".join))
def test_any_status_is_read_or_refused(text: str) -> None:
    try:
        found = parse_status(text)
    except FileError as error:
        refusal = error.error
        assert refusal in (E.BADMESSAGE, E.SYNTAX)
    else:
        assert found.pid == 1 or found.program
