"""The demo as its users run it: what it says, its exit status, and that nothing is left of it however it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

import demo
from machines import Failed

ROOT = Path(__file__).parents[2]


def start() -> subprocess.Popen[str]:
    # Whoever was started in the background, and so ignores interrupts, hands that on.
    takes_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "demo/demo.py")], preexec_fn=takes_interrupts,
        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def check_nothing_is_left(text: str) -> None:
    """By what it said of itself: its directory is gone, and so are its nodes."""
    [top] = set(re.findall(r"/var/tmp/cognu-demo-\w+", text))
    assert not Path(top).exists()
    pids = [int(pid) for pid in re.findall(r"is process (\d+)", text)]
    assert pids
    for pid in pids:
        # One that ended and that nobody asked for its status (Z) is over; not every container's init asks.
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
        assert state.strip()[:1] in ("", "Z"), pid


@pytest.fixture
def handlers() -> Iterator[None]:
    """The demo takes over signals; this gives them back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.long
def test_all_ten_steps_check_out_and_nothing_is_left() -> None:
    with start() as running:
        text, _ = running.communicate()
    assert text.endswith("\n10 of 10 steps checked out\n"), text
    assert running.returncode == 0
    assert re.findall(r"^(\d+)\. ", text, re.MULTILINE) == [str(number) for number in range(1, 11)]
    check_nothing_is_left(text)


def test_an_interrupt_stops_the_nodes_and_leaves_nothing() -> None:
    with start() as running:
        assert running.stdout is not None
        text = ""
        while "\n2. " not in text:
            line = running.stdout.readline()
            assert line, text
            text += line
        running.send_signal(signal.SIGINT)
        text += running.stdout.read()
        running.wait()
    assert text.endswith("Interrupted; everything that was started is stopped.\n"), text
    assert running.returncode == 130
    check_nothing_is_left(text)


def test_a_failing_step_ends_it_with_the_ends_of_both_logs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers: None
) -> None:
    def fail(two: demo.Demo) -> None:
        """Bad on purpose"""
        raise Failed("it was meant to")

    monkeypatch.setattr(demo, "STEPS", (demo.two_nodes, fail, demo.join))
    with ExitStack() as stack:
        done = demo.run(demo.prepare(stack))
    text = capsys.readouterr().out
    assert done == 1
    assert "FAILED: it was meant to" in text
    assert text.count("listens at 127.0.0.1:") == 2
    assert "Join by ticket" not in text
    check_nothing_is_left(text)
