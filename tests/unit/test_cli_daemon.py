"""Before a node starts: the probe of the host. And its log, which is followed from file to file."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from cognu.cli import daemon, probing
from cognu.cli.main import run
from cognu.cli.setting import Setting
from cognu.errors import E, FileError
from cognu.node import __main__ as node_main
from sessions import short_place

Captured = pytest.CaptureFixture[str]
COUNTS = "import sys; open(sys.argv[1], 'a').write('x')"
FAILS = f"{COUNTS}; print('no stacks of its own here'); sys.exit(1)"
DIES = f"{COUNTS}; import os; os.abort()"


@pytest.fixture
def home() -> Iterator[Path]:
    with short_place() as place:
        yield place


def pretend(monkeypatch: pytest.MonkeyPatch, home: Path, program: str) -> Callable[[], int]:
    """A probe that does as `program`; how often it was asked."""
    counter = home / "asked"
    monkeypatch.setattr(probing, "COMMAND", (sys.executable, "-c", program, str(counter)))
    return lambda: len(counter.read_text()) if counter.exists() else 0


def test_a_home_that_can_be_none_is_told_with_what_to_do_and_nothing_else(home: Path, capsys: Captured) -> None:
    (home / "file").write_text("")
    for bad, error in ((home / "file" / "home", E.NOTDIR), (home / ("x" * 200), E.NAMETOOLONG)):
        assert run(["--home", str(bad), "up"]) == 1
        said = capsys.readouterr().err
        assert error.text in said
        assert error.hint not in said
        assert "choose another directory: --home DIR" in said


def test_a_host_that_can_not_run_programs_is_told_so_before_anything_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    asked = pretend(monkeypatch, home, FAILS)
    for options in ([], ["-f"]):
        assert run(["--home", str(home), "up", *options]) == 1
        said = capsys.readouterr().err
        assert f"{E.FIBERS.text}: no stacks of its own here" in said
        assert E.FIBERS.hint in said
    assert asked() == 2
    assert sorted(path.name for path in home.iterdir()) == ["asked"]


def test_a_probe_that_crashes_or_hangs_is_a_refusal_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(str(home), False)
    pretend(monkeypatch, home, DIES)
    with pytest.raises(FileError) as caught:
        daemon.start(setting, [])
    assert caught.value.error is E.FIBERS
    monkeypatch.setattr(probing, "PROBE_SECONDS", 0.0)
    with pytest.raises(FileError) as caught:
        daemon.start(setting, [])
    assert caught.value.error is E.TIMEDOUT


def test_what_was_probed_is_probed_again_for_other_versions_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(str(home), False)
    asked = pretend(monkeypatch, home, COUNTS)
    for _ in range(3):
        probing.probe_once(setting)
    assert asked() == 1
    monkeypatch.setattr(probing, "__version__", "999")
    for _ in range(2):
        probing.probe_once(setting)
    assert asked() == 2
    pretend(monkeypatch, home, FAILS)
    with pytest.raises(FileError):
        probing.probe(setting)
    assert not (home / "probed").exists()


def test_a_node_that_died_without_a_word_has_its_host_probed_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(str(home), False)
    asked = pretend(monkeypatch, home, COUNTS)
    probing.probe_once(setting)
    monkeypatch.setattr(daemon, "_command", lambda setting: [sys.executable, "-c", "import os; os.abort()"])
    with pytest.raises(FileError) as caught:
        daemon.start(setting, [])
    assert (caught.value.error, asked()) == (E.IO, 2)
    pretend(monkeypatch, home, FAILS)
    with pytest.raises(FileError) as caught:
        daemon.start(setting, [])
    assert caught.value.error is E.FIBERS


def test_the_real_probe_goes_well_here(home: Path) -> None:
    probing.probe_once(Setting(str(home), False))
    assert sys.executable in (home / "probed").read_text()


def test_the_log_is_followed_from_file_to_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "log"
    path.write_text("one\n")

    def grow(text: str) -> None:
        with path.open("a") as log:
            log.write(text)

    def begin_anew() -> None:
        grow("three, cut short")
        path.rename(home / "log.1")
        path.write_text("four\n")

    steps: Iterator[Callable[[], None]] = iter(
        [lambda: grow("tw"), lambda: grow("o\n"), begin_anew, lambda: grow("five\u2028\n")]
    )
    with daemon._waiting(str(path)) as really_wait:

        def wait() -> None:
            next(steps)()
            really_wait()  # returns: the host has told of it

        monkeypatch.setattr("cognu.cli.daemon._waiting", lambda path: nullcontext(wait))
        with path.open() as log, closing(daemon._growing(str(path), log)) as lines:
            found = [next(lines) for _ in range(5)]
    assert found == ["one", "two", "three, cut short", "four", "five\u2028"]


def test_a_host_that_does_not_tell_of_changes_is_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("cognu.cli.daemon.sys.platform", "darwin")
    monkeypatch.setattr("cognu.cli.daemon.time.sleep", slept.append)
    with daemon._waiting("log") as wait:
        wait()
    assert slept == [daemon.LOOK_SECONDS]


def test_the_end_of_a_log_that_just_began_anew_is_in_the_file_before(home: Path, capsys: Captured) -> None:
    (home / "log.1").write_text("one\ntwo\n")
    (home / "log").write_text("three\n")
    assert run(["--home", str(home), "logs", "-n", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree\n"


def test_the_log_is_bounded_and_loses_only_the_oldest(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_main, "LOG_BYTES", 1000)
    handler = node_main.LogFile(str(home / "log"))
    with closing(handler):
        for number in range(200):
            handler.emit(logging.makeLogRecord({"msg": f"{number:040}"}))
    files = [home / name for name in ("log.2", "log.1", "log")]
    assert sorted(home.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 1000 for file in files)
    numbers = [int(line) for file in files for line in file.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 200))


def test_the_standard_error_goes_along_with_the_log(home: Path) -> None:
    program = """if True:
        import logging, os, sys
        from cognu.node import __main__ as node
        node.LOG_BYTES = 100
        os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        handler = node.LogFile(sys.argv[1])
        for number in range(10):
            handler.emit(logging.makeLogRecord({"msg": "x" * 60}))
        os.write(2, b"last words\\n")
    """
    subprocess.run([sys.executable, "-c", program, str(home / "log")], check=True)
    assert (home / "log").read_text().endswith("x\nlast words\n")
