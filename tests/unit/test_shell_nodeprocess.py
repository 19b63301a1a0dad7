"""A node that does not answer: its process is named, and ended if that is asked for; no other process ever is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cognu.cli import daemon
from cognu.cli.daemon import answers
from cognu.cli.main import run
from cognu.cli.setting import Setting
from cognu.errors import E, FileError
from cognu.shell import program
from cognu.shell.nodeprocess import kill_node, node_process
from sessions import short_place

Captured = pytest.CaptureFixture[str]
HANGS = """
import fcntl, os, signal, socket, sys
place, locks = sys.argv[-2:]
lock = os.open(place + "/lock", os.O_RDWR | os.O_CREAT)
if locks == "locks":
    fcntl.flock(lock, fcntl.LOCK_EX)
listener = socket.socket(socket.AF_UNIX)
listener.bind(place + "/node.sock")
listener.listen()
print("ready", flush=True)
signal.pause()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the host does not tell who holds a lock")


@pytest.fixture
def home() -> Iterator[Path]:
    with short_place() as place:
        yield place


@contextmanager
def hanging(place: Path, *words: str, locks: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a home's lock and socket, and answers nobody; `words` are on its command line."""
    argv = [sys.executable, "-c", HANGS, *words, str(place), "locks" if locks else "does not"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            yield child
        finally:
            child.kill()


def node_words(home: Path) -> tuple[str, ...]:
    return ("-m", "cognu.node", "--home", str(home))


def test_a_node_that_hangs_is_named_and_killed_by_down_force_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(program, "ANSWER_SECONDS", 0.05)
    with hanging(home, *node_words(home)) as node:
        node.send_signal(signal.SIGSTOP)
        for verb in ("status", "down", "up", "ps"):
            assert run(["--home", str(home), verb]) == 1
            said = capsys.readouterr().err
            assert f"{home}: {E.SILENT.text}: process {node.pid} says nothing for 0.05 s" in said
            assert "cognu down --force" in said
            assert node.poll() is None
        assert run(["--home", str(home), "--json", "down", "--force"]) == 0
        told = capsys.readouterr()
        assert told.out == f'{{"pid": {node.pid}}}\n'
        assert "killed" in told.err
        assert node.wait() == -signal.SIGKILL


def test_a_node_whose_socket_was_removed_is_named_and_killed_by_down_force_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    refuses = (sys.executable, "-c", f"import os, sys; os.write(int(sys.argv[-1]), b'{home}: {E.NODERUNS.text}\\n')")
    monkeypatch.setattr(daemon, "_command", lambda _: list(refuses))  # as a second one does
    monkeypatch.setattr(daemon, "probe_once", lambda _: None)
    with hanging(home, *node_words(home)) as node:
        (home / "node.sock").unlink()
        for words in (["status"], ["down"], ["up"], ["ps"], ["9p", "--stdio", "/"]):
            assert run(["--home", str(home), *words]) == 1, words
            said = capsys.readouterr().err
            assert f"{home}: {E.SILENT.text}: process {node.pid} is there, but nobody is at {home}/node.sock" in said
            assert "cognu down --force" in said
            assert node.poll() is None
        assert run(["--home", str(home), "--json", "down", "--force"]) == 0
        assert capsys.readouterr().out == f'{{"pid": {node.pid}}}\n'
        assert node.wait() == -signal.SIGKILL
    assert run(["--home", str(home), "status"]) == 3
    assert E.NONODE.text in capsys.readouterr().err


def test_who_holds_the_lock_and_is_no_node_of_this_home_is_not_killed(home: Path) -> None:
    other = home / "other"
    other.mkdir()
    for words in ((), ("-m", "cognu.node"), ("cognu.node", "--home", str(other)), ("--home", str(home))):
        (home / "node.sock").unlink(missing_ok=True)
        with hanging(home, *words) as somebody:
            assert node_process(str(home)) is None
            with pytest.raises(FileError) as caught:
                kill_node(str(home))
            assert caught.value.error is E.NONODE
            assert somebody.poll() is None


def test_a_node_that_has_not_the_lock_is_not_killed(home: Path) -> None:
    with hanging(home, *node_words(home), locks=False) as somebody:
        with pytest.raises(FileError) as caught:
            kill_node(str(home))
        assert caught.value.error is E.NONODE
        assert somebody.poll() is None


def test_a_process_that_got_the_number_of_the_node_is_not_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the handle the node ends, and its number is another's."""
    with (
        hanging(home, "nobody", locks=False) as other,
        short_place() as place,
        hanging(place, *node_words(place)) as node,
    ):
        opened: list[int] = []

        def late(pid: int) -> int:
            assert pid == node.pid
            node.kill()
            node.wait()
            opened.append(real(other.pid))
            return opened[0]

        real = os.pidfd_open
        monkeypatch.setattr(os, "pidfd_open", late)
        with pytest.raises(FileError) as caught:
            kill_node(str(place))
        assert caught.value.error is E.NONODE
        assert other.poll() is None
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(opened[0])


def test_a_home_reached_by_a_link_is_the_same(home: Path) -> None:
    real, link = home / "real", home / "link"
    real.mkdir()
    link.symlink_to(real)
    with hanging(real, *node_words(link)) as node:
        assert node_process(str(real)) == node_process(str(link)) == node.pid


def test_a_node_that_hangs_with_a_full_queue_is_still_there(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "node.sock"))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(home / "node.sock"))
            assert answers(Setting(str(home), False))
