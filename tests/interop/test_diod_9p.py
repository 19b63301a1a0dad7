"""`cognu 9p` and diod (github.com/chaos/diod): our commands on its tree, and its clients through our tracer."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognu.errors import E
from interop.diods import NAMES, TEXT, place_with_files, program

pytestmark = pytest.mark.interop

COGNU = str(Path(sys.executable).with_name("cognu"))


@pytest.fixture
def tree() -> Iterator[Path]:
    with place_with_files() as path:
        yield path


def run(*words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run(words, input=stdin, capture_output=True)
    return done.returncode, done.stdout, done.stderr


# -- its server, over its standard input and output -------------------------------------------------------------------


def diod(tree: Path) -> list[str]:
    """The address and options for a diod of our own, which serves one connection."""
    words = (
        program("diod"), "--foreground", "--no-auth", "--config-file=/dev/null", "--rfdno=0", "--wfdno=1",
        f"--export={tree / 'files'}", f"--logdest={tree / 'log'}",
    )  # fmt: skip
    return ["--aname", str(tree / "files"), "--user", getpass.getuser(), f"exec!{' '.join(words)}"]


def nine(part: str, tree: Path, *words: str, options: tuple[str, ...] = (), stdin: bytes = b"") -> bytes:
    status, out, err = run(COGNU, "9p", part, *options, *diod(tree), *words, stdin=stdin)
    assert (status, err) == (0, b""), err
    return out


def test_every_part_works_on_what_diod_serves(tree: Path) -> None:
    files = tree / "files"
    assert nine("ls", tree).decode().split() == NAMES
    assert nine("cat", tree, "text", "to-leaf") == TEXT + b"leaf\n"
    [row] = json.loads(nine("stat", tree, "deep/leaf", options=("--json",)))
    assert (row["type"], row["size"], row["dialect"]) == ("file", 5, "9P2000.L")
    nine("create", tree, "deep/new", options=("-m", "600"))
    assert (files / "deep/new").stat().st_mode & 0o777 == 0o600
    nine("write", tree, "deep/new", stdin=TEXT)
    nine("write", tree, "deep/new", options=("-a",), stdin=b"more\n")
    assert (files / "deep/new").read_bytes() == TEXT + b"more\n"
    nine("create", tree, "dir", options=("-d",))
    assert (files / "dir").is_dir()
    nine("rm", tree, "deep/new", "dir")
    assert sorted(os.listdir(files)) == NAMES
    (files / "line").write_bytes(b"")
    assert nine("rdwr", tree, "line", stdin=b"hello\n") == b"hello\n"


def test_what_diod_refuses_or_does_not_know_is_told(tree: Path) -> None:
    at = diod(tree)
    status, _, err = run(COGNU, "9p", "cat", *at, "none")
    assert (status, E.NOENT.text.encode() in err) == (1, True)
    status, _, err = run(COGNU, "9p", "ls", "--aname", "/not/exported", *at[2:])
    assert status == 1
    status, _, err = run(COGNU, "9p", "ls", "--dialect", "9P2000", *at)
    assert (status, E.BADVERSION.text.encode() in err) == (3, True), err


def test_diod_is_traced_between_us_and_it(tree: Path) -> None:
    *options, address = diod(tree)
    traced = f"exec!{COGNU} 9p trace --json - '{address}'"
    status, out, err = run(COGNU, "9p", "cat", "--dialect", "9P2000.L", *options, traced, "deep/leaf")
    assert (status, out) == (0, b"leaf\n")
    rows = [json.loads(line) for line in err.splitlines()]
    types = [row["type"] for row in rows if "type" in row]
    assert types[:4] == ["Tversion", "Rversion", "Tattach", "Rattach"]
    assert {"Twalk", "Rwalk", "Tlopen", "Rlopen", "Tread", "Rread"} <= set(types)
    assert not [row for row in rows if "malformed" in row]


# -- its clients ------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tree: Path) -> Iterator[list[str]]:
    """A node, and how the command talks to it."""
    command = [COGNU, "--home", str(tree / "home")]
    subprocess.run(
        [*command, "up", "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    yield command
    subprocess.run([*command, "down"], capture_output=True)


def test_diods_clients_read_through_the_tracer_and_their_attach_name_is_not_shown(tree: Path, node: list[str]) -> None:
    made = json.loads(run(*node, "--json", "listen", "127.0.0.1:0", "--path", str(tree / "files"), "--hide", "deep")[1])
    tracing = subprocess.Popen(
        [COGNU, "9p", "trace", "127.0.0.1:0", made["address"]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert tracing.stderr is not None
    at = ["-s", tracing.stderr.readline().split("listening at ")[1].partition(",")[0], "-a", made["token"]]
    status, out, err = run(program("diodls"), *at)
    assert (status, err) == (0, b"")
    assert sorted(out.decode().split()) == NAMES[1:]
    assert run(program("diodcat"), *at, "text") == (0, TEXT, b"")
    status, out, err = run(program("diodcat"), *at, "deep/leaf")
    assert (status == 0, out) == (False, b"")
    tracing.terminate()
    text, _ = tracing.communicate()
    assert "Treaddir" in text
    assert "malformed" not in text
    assert made["token"] not in text
    assert "ename" not in text  # 9P2000.L has numbers for errors
