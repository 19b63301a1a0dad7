"""`cognu 9p`: any server's files from the command line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.cli import remote
from cognu.cli.main import run
from cognu.cli.ninep import UNREACHABLE
from cognu.cli.remote import progress_line, split_lines
from cognu.errors import E, FileError
from cognu.ninep.messages import Dialect
from cognu.world import Stream
from nineserver import Serving, serving
from sessions import short_place
from streams import pair

Captured = pytest.CaptureFixture[str]
COGNU = str(Path(sys.executable).with_name("cognu"))
DIALECTS = pytest.mark.parametrize("dialect", list(Dialect), ids=lambda dialect: dialect.value)


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as path:
        yield path


@pytest.fixture
def server(place: Path) -> Iterator[Serving]:
    with serving(str(place / "s")) as made:
        yield made


def says(captured: Captured, *words: str) -> str:
    """What a command that must succeed prints."""
    assert run(["9p", *words]) == 0, captured.readouterr().err
    out, err = captured.readouterr()
    assert err == ""
    return out


def refuses(captured: Captured, status: int, error: E, *words: str) -> str:
    assert run(["9p", *words]) == status
    out, err = captured.readouterr()
    assert error.text in err
    assert "Traceback" not in err
    return out


@contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    """`data` as this process's descriptor 0: a plain file if they are many, else a pipe."""
    kept = os.dup(0)
    with tempfile.TemporaryFile() as file:
        if len(data) > 4096:
            file.write(data)
            file.seek(0)
            os.dup2(file.fileno(), 0)
        else:
            reading, writing = os.pipe()
            os.write(writing, data)
            os.close(writing)
            os.dup2(reading, 0)
            os.close(reading)
        try:
            yield
        finally:
            os.dup2(kept, 0)
            os.close(kept)


@DIALECTS
def test_files_are_listed_read_made_and_removed_in_every_dialect(
    server: Serving, dialect: Dialect, capsys: Captured
) -> None:
    at = ("--dialect", dialect.value, server.address)
    links = [] if dialect is Dialect.LEGACY else ["l"]
    listed = says(capsys, "ls", *at).split()
    assert [name for name in listed if name != "l"] == ["d", "f", "w"]
    assert set(links) <= set(listed)
    assert says(capsys, "ls", *at, "/d/e", "f") == "/d/e:\ny\nf\n"
    assert says(capsys, "ls", "-d", *at, "d") == "d\n"
    assert says(capsys, "cat", *at, "d/x", "/f", "l") == "d/xfd/x"
    assert says(capsys, "create", "-m", "600", *at, "w/new") == ""
    assert says(capsys, "create", "-d", *at, "w/dir") == ""
    refuses(capsys, 1, E.EXIST, "create", *at, "w/new")
    rows = json.loads(says(capsys, "stat", "--json", *at, "w/new", "w/dir"))
    assert [(row["path"], row["type"], row["dialect"]) for row in rows] == [
        ("w/new", "file", dialect.value),
        ("w/dir", "directory", dialect.value),
    ]
    assert says(capsys, "stat", *at, "f").startswith("f: file, 1 bytes, mode ")
    assert says(capsys, "rm", *at, "w/new", "w/dir") == ""
    assert json.loads(says(capsys, "ls", "--json", *at, "w")) == []
    long = says(capsys, "ls", "-l", *at, "d")
    assert [line.split()[-1] for line in long.splitlines()] == ["e", "x"]
    assert long.startswith("d")


def test_no_name_steers_a_terminal_or_breaks_a_line_behind_a_pipe_either(server: Serving, capsys: Captured) -> None:
    server.server.plant("/w/a\x1b[2J\nb", "text")
    server.server.plant("/w/d\x07", None)
    assert says(capsys, "ls", server.address, "w") == "a?[2J?b\nd?\n"
    assert len(says(capsys, "ls", "-l", server.address, "w").splitlines()) == 2
    assert says(capsys, "ls", server.address, "w/d\x07", "f").startswith("w/d?:\n")
    assert says(capsys, "stat", server.address, "w/d\x07").startswith("w/d?: directory")
    listed = json.loads(says(capsys, "ls", "--json", server.address, "w"))
    assert [row["name"] for row in listed] == ["a\x1b[2J\nb", "d\x07"]


def test_each_path_is_tried_and_the_status_tells_that_one_was_refused(server: Serving, capsys: Captured) -> None:
    assert refuses(capsys, 1, E.NOENT, "cat", server.address, "none", "f", "d/none/x") == "f"
    assert refuses(capsys, 1, E.ISDIR, "cat", server.address, "d") == ""
    assert refuses(capsys, 1, E.NOENT, "ls", server.address, "none", "f") == "f\n"
    refuses(capsys, 1, E.NOTEMPTY, "rm", server.address, "d")
    refuses(capsys, 1, E.NOATTACH, "ls", "--aname", "none", server.address)
    assert says(capsys, "ls", "--aname", "w", server.address) == ""


@pytest.mark.parametrize(
    "words",
    [["ls"], ["ls", "nowhere"], ["cat", "/s"], ["ls", "--dialect", "9P2001", "/s"], ["ls", "--msize", "1", "/s"], [],
     ["create", "-m", "999", "/s", "f"], ["create", "-m", "1777", "/s", "f"], ["cat", "--json", "/s", "f"], ["ls", "-"],
     ["nonsense"]],
)  # fmt: skip
def test_wrong_usage_is_2(words: list[str], capsys: Captured) -> None:
    assert run(["9p", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_every_part_has_help_with_an_example_and_its_statuses(capsys: Captured) -> None:
    for part in ("ls", "cat", "write", "stat", "rm", "create", "rdwr", "trace"):
        assert run(["9p", part, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"Usage: cognu 9p {part}" in out
        assert "Example: " in out
        assert "3 if there is no server" in out


# -- servers that are not there, or are none --------------------------------------------------------------------------


def test_no_server_is_3(place: Path, capsys: Captured) -> None:
    refuses(capsys, UNREACHABLE, E.NOENT, "ls", str(place / "none"))
    with serving("127.0.0.1:0") as made:
        address = made.address
    refuses(capsys, UNREACHABLE, E.CONNREFUSED, "ls", address)
    refuses(capsys, UNREACHABLE, E.NOPROGRAM, "ls", "exec!/no/such/program")
    refuses(capsys, UNREACHABLE, E.NOPROGRAM, "ls", "exec!nosuchcommand")
    for command, status in (("true", 0), ("false", 1)):
        assert run(["9p", "ls", f"exec!{command}"]) == UNREACHABLE
        assert f"{command}: {E.NOT9P.text}: it ended with status {status}\n" in capsys.readouterr().err
    refuses(capsys, UNREACHABLE, E.NOT9P, "ls", "exec!echo hello")
    (place / "file").write_text("text")
    refuses(capsys, UNREACHABLE, E.NOTSOCK, "ls", f"unix!{place}/file")


async def _babble(stream: Stream) -> None:
    await stream.read(100)
    await stream.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def _hang_up(stream: Stream) -> None:
    await stream.read(100)


async def _only_listen(stream: Stream) -> None:
    while await stream.read(100):
        pass


def test_what_speaks_no_9p_is_3_and_told_so(place: Path, capsys: Captured) -> None:
    with serving(str(place / "s"), handler=_babble) as made:
        refuses(capsys, UNREACHABLE, E.MSGSIZE, "ls", made.address)
    with serving(str(place / "s"), handler=_hang_up) as made:
        refuses(capsys, UNREACHABLE, E.CONNRESET, "cat", made.address, "f")


def test_a_server_that_never_answers_is_given_up(
    place: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BEGIN_SECONDS", 0.05)
    with serving(str(place / "s"), handler=_only_listen) as made:
        refuses(capsys, UNREACHABLE, E.TIMEDOUT, "ls", made.address)


@pytest.mark.parametrize("known", [Dialect.L, Dialect.LEGACY], ids=lambda dialect: dialect.value)
def test_a_server_that_knows_one_dialect_alone_is_asked_for_that_in_the_end(
    place: Path, known: Dialect, capsys: Captured
) -> None:
    with serving(str(place / "s"), (known,)) as made:
        [row] = json.loads(says(capsys, "stat", "--json", made.address, "f"))
        assert row["dialect"] == known.value
        if known is Dialect.L:
            refuses(capsys, UNREACHABLE, E.BADVERSION, "ls", "--dialect", Dialect.NG.value, made.address)


# -- the standard input -----------------------------------------------------------------------------------------------


def test_the_standard_input_goes_to_a_file_whole_or_behind_what_is_there(server: Serving, capsys: Captured) -> None:
    for words, stdin, after in (
        (("write",), b"first\n" * 40_000, b"first\n" * 40_000),
        (("write", "-a"), b"second\n", b"first\n" * 40_000 + b"second\n"),
        (("write", "-l"), b"a\nb", b"a\nb"),
        (("write",), b"", b""),
    ):
        with standard_input(stdin):
            assert says(capsys, *words, server.address, "f") == ""
        assert says(capsys, "cat", server.address, "f").encode() == after
    with standard_input(b"12345"):
        assert json.loads(says(capsys, "write", "--json", server.address, "f")) == {"path": "f", "bytes": 5}
    with standard_input(b"x"):
        refuses(capsys, 1, E.NOENT, "write", server.address, "none")


def test_rdwr_writes_a_line_and_prints_what_is_there_then(server: Serving, capsys: Captured) -> None:
    done = subprocess.run([COGNU, "9p", "rdwr", server.address, "f"], input=b"one\ntwenty\n", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one\ntwenty\n", b"")
    with standard_input(b"x\n"):
        refuses(capsys, 1, E.NOENT, "rdwr", server.address, "none")


class Answers:
    """In place of an attached tree: a file that answers a request with the pieces it has for that, one to a read."""

    def __init__(self, **answers: list[bytes | FileError]) -> None:
        self.answers = answers
        self.pieces: list[bytes | FileError] = []
        self.at = 0

    async def open(self, path: str, mode: int) -> Any:
        return SimpleNamespace(close=lambda: None)

    async def write(self, path: str, chan: object, offset: int, data: bytes) -> None:
        self.pieces, self.at = [*self.answers[data.decode()]], 0

    async def read(self, path: str, chan: object, offset: int) -> bytes:
        assert offset == self.at
        if not self.pieces:
            await asyncio.Event().wait()
        piece = self.pieces.pop(0)
        if isinstance(piece, FileError):
            raise piece
        self.at += len(piece)
        return piece


async def test_rdwr_prints_an_answer_of_many_reads_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MORE_SECONDS", 0.01)
    refusal = FileError(E.NOENT, "cs")
    answers = Answers(many=[b"a 1\n", b"b 2\n", b"c", b""], once=[b"o", b"k", refusal], stream=[b"s\n"], none=[b""],
                      bad=[refusal])  # fmt: skip
    here, there = pair()
    await there.write(b"many\nonce\nstream\nbad\nnone\n")
    there.close()
    put: list[bytes] = []
    status = await remote.converse(cast(Any, answers), "/net/cs", here, lambda data: put.append(bytes(data)))
    assert (b"".join(put), status) == (b"a 1\nb 2\nc\nok\ns\n\n", 1)


# -- parts ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=20)))
def test_lines_come_whole_whatever_the_pieces(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        ours, theirs = pair()
        for piece in pieces:
            await theirs.write(piece)
        theirs.close()
        lines = [line async for line in split_lines(ours)]
        assert b"".join(lines) == b"".join(pieces)
        assert all(line.count(b"\n") <= 1 and b"\n" not in line[:-1] for line in lines)

    asyncio.run(scenario())


async def test_a_line_that_never_ends_is_refused() -> None:
    class Endless:
        peer = "-"

        async def read(self, count: int) -> bytes:
            return b"x" * count

    lines = split_lines(Endless())  # type: ignore[arg-type]  # reading is all that is done with it
    with pytest.raises(FileError) as refused:
        await anext(lines)
    assert refused.value.error is E.LINETOOLONG


def test_progress_says_how_far_how_fast_and_how_long() -> None:
    half = progress_line("f", 50_000_000, 100_000_000, 5.0)
    assert half == "f: 50.0 MB of 100.0, 50%, 10.0 MB/s, about 5 s left"
    assert progress_line("f", 3_000_000, 0, 1.0) == "f: 3.0 MB, 3.0 MB/s"
    assert progress_line("f", 0, 10, 0.0) == "f: 0.0 MB of 0.0, 0%, 0.0 MB/s"


def test_progress_is_shown_after_a_while_and_not_before(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = remote.Progress("f", 100, True)
    progress.add(10)
    assert capsys.readouterr().err == ""
    now = 2.0
    progress.add(10)
    progress.end()
    assert capsys.readouterr().err == "\rf: 0.0 MB of 0.0, 20%, 0.0 MB/s, about 8 s left\x1b[K\n"
