"""Isolated programs of whole nodes: what a user sees of them, and that nothing of the node is in their processes."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cognu.errors import E, FileError
from e2e.harness import LOOPBACK, Client, NodeProcess, Running, pair, refused, until
from e2e.test_cli import PROMPT, Machine
from programs.build import build

PAGE = mmap.PAGESIZE
ISOLATE: dict[str, Any] = {"lines": ["isolate"]}


@asynccontextmanager
async def one(place: Path, *options: str) -> AsyncIterator[tuple[NodeProcess, Client]]:
    node = NodeProcess(place / "desk", "desk", *LOOPBACK, *options)
    await node.start()
    try:
        async with node.client() as client:
            yield node, client
    finally:
        await node.stop()


async def waiting(node: NodeProcess, client: Client, **how: Any) -> tuple[Running, int]:
    """An isolated program that waits for its input, and the pid of its runner."""
    before = set(walled(node))
    program = await client.start("cat.wasm", **(how or ISOLATE))
    await program.stdin.write(b"x")
    assert await program.stdout.read() == b"x"
    [runner] = set(walled(node)) - before
    return program, runner


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def variables_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def walled(node: NodeProcess) -> list[int]:
    """Its runners with a program."""
    return [pid for pid in node.children() if status_of(pid)["Seccomp"] == "2"]


def found_in(pid: int, wanted: dict[str, bytes]) -> set[str]:
    """Which of these bytes are in the memory of a process, in any page of it that is there (proc(5), pagemap)."""
    found: set[str] = set()
    longest = max(map(len, wanted.values()))
    with (
        open(f"/proc/{pid}/maps") as maps,
        open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,
        open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pages,
    ):
        for line in maps:
            extent, rights = line.split()[:2]
            if not rights.startswith("r") or "[v" in line:
                continue
            begin, end = (int(number, 16) for number in extent.split("-"))
            before = b""
            for first, last in _present(pages, begin // PAGE, end // PAGE):
                memory.seek(first * PAGE)
                data = before + memory.read((last - first) * PAGE)
                found |= {name for name, text in wanted.items() if text in data}
                before = data[-longest:]
    return found


def _present(pages: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of pages that are in memory, at most 4096 each."""
    for first in range(begin, end, 4096):
        pages.seek(first * 8)
        entries = struct.unpack(f"<{(count := min(4096, end - first))}Q", pages.read(8 * count))
        at = 0
        for there, run in groupby(entry >> 62 != 0 for entry in entries):
            size = len(list(run))
            if there:
                yield first + at, first + at + size
            at += size


def secrets_of(node: NodeProcess) -> dict[str, bytes]:
    """Its key in every form, and paths that only it knows."""
    files = {path: path.read_bytes() for path in node.home.iterdir() if path.is_file()}
    [pem] = [data for data in files.values() if b"PRIVATE KEY" in data]
    key = load_pem_private_key(pem[pem.index(b"-----BEGIN") :], None)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    body = pem.split(b"-----")[2].strip().splitlines()[0]
    return {"key": raw, "PEM": body, "home": os.fsencode(node.home), "name": b"node.sock"}


async def test_nothing_of_the_node_is_in_a_runners_memory(place: Path) -> None:
    async with one(place) as (node, client):
        await client.put(build("cat"), "cat.wasm")
        secrets = secrets_of(node)
        program, runner = await waiting(node, client)
        known = {"itself": b"cognu.runtime.runner", **secrets}
        assert found_in(runner, known) == {"itself"}
        assert found_in(node.pid, secrets) >= {"key", "home", "name"}  # so they would have been found
        assert variables_of(runner) == b""
        assert os.readlink(f"/proc/{runner}/cwd") == "/"
        await program.end()


async def test_a_runner_that_dies_ends_its_program_and_nothing_else(place: Path) -> None:
    async with one(place) as (node, client):
        await client.put(build("cat"), "cat.wasm")
        program, runner = await waiting(node, client)
        other, _ = await waiting(node, client)
        os.kill(runner, signal.SIGKILL)
        assert await program.wait() == (137, str(FileError(E.RUNNER, "", "SIGKILL")))
        await other.stdin.write(b"still here")
        assert (await other.stdout.read()) == b"still here"
        ended = await client.run("cat.wasm", stdin=b"again", **ISOLATE)
        assert (ended.output, ended.status) == (b"again", 0)
        await other.end()


async def test_a_runner_ends_with_its_node(place: Path) -> None:
    node = NodeProcess(place / "desk", "desk", *LOOPBACK)
    await node.start()
    async with node.client() as client:
        await client.put(build("cat"), "cat.wasm")
        await client.put(build("spin"), "spin.wasm")
        _, waits = await waiting(node, client)
        await client.start("spin.wasm", **ISOLATE)
        runners = node.children()
        assert waits in runners
        assert len(runners) >= 2
        await node.signal(signal.SIGKILL)
    for runner in runners:
        await gone(runner)


async def gone(pid: int) -> None:
    """Until a process has ended, which another one reaps."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(watch, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(watch)
        os.close(watch)


def runs(pid: int) -> bool:
    try:
        return status_of(pid)["State"][0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_stopping_node_leaves_no_runner(place: Path) -> None:
    async with one(place, "--runners", "2") as (node, client):
        await client.put(build("spin"), "spin.wasm")
        await client.start("spin.wasm", **ISOLATE)
        runners = node.children()
    assert not any(map(runs, runners))


async def test_proc_does_to_it_what_it_does_to_any_program(place: Path) -> None:
    async with one(place) as (node, client):
        await client.put(build("cat"), "cat.wasm")
        program, runner = await waiting(node, client)
        lines = (await client.read(f"/proc/{program.pid}/status")).decode()
        assert "state Running\n" in lines
        assert "\nmemory " in lines
        await program.tell("stop")
        await until(client, lambda: status_of(runner)["State"].startswith("T"))
        assert b"state Stopped\n" in await client.read(f"/proc/{program.pid}/status")
        await program.tell("start")
        await program.stdin.write(b"on")
        assert await program.stdout.read() == b"on"
        await program.tell("pri 50")
        assert os.getpriority(os.PRIO_PROCESS, runner) == 3
        await program.tell("interrupt")
        assert await program.wait() == (130, "interrupt")
        assert not runs(runner)


async def test_all_programs_are_isolated_where_that_is_set(place: Path) -> None:
    async with one(place, "--isolate", "all") as (node, client):
        await until(client, lambda: len(node.children()) == 1)  # one is ready before any was asked for
        await client.put(build("cat"), "cat.wasm")
        program, runner = await waiting(node, client, lines=[])
        assert runner in walled(node)
        assert (await program.end(b"end")).output == b"end"


async def test_no_runner_is_kept_ready_where_that_is_set(place: Path) -> None:
    async with one(place, "--runners", "0") as (node, client):
        await client.put(build("cat"), "cat.wasm")
        ended = await client.run("cat.wasm", stdin=b"x", **ISOLATE)
        assert (ended.output, ended.status) == (b"x", 0)
        assert node.children() == []


async def test_a_program_is_isolated_on_the_machine_that_runs_it(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk:
        (two.notes / "notes.txt").write_text("of desk\n")
        await desk.put(build("cat"), "cat.wasm")
        how: dict[str, Any] = {"grants": [f"{two.notes}/notes.txt r"], "lines": [f"cd {two.notes}", "isolate"]}
        ended = await desk.run("cat.wasm", "notes.txt", on="pi", **how)
        assert (ended.output, ended.errors, ended.status) == (b"of desk\n", b"", 0)
        assert two.desk.children() == []
        await until(desk, lambda: len(two.pi.children()) == 1)  # the next one


async def test_run_isolate_is_the_same_at_the_command_line(place: Path) -> None:
    async with one(place) as (node, _):
        (place / "notes.txt").write_text("one two\n")
        (place / "wc.wasm").write_bytes(build("wc"))
        inside = await node.command("run", "wc.wasm", "notes.txt", "nothing", cwd=place)
        isolated = await node.command("run", "--isolate", "wc.wasm", "notes.txt", "nothing", cwd=place)
        assert isolated == inside
        assert inside.output == b"1 2 8 notes.txt\n"
        assert (await node.command("sh", "-c", "run --isolate ./wc.wasm < notes.txt", cwd=place)).output == b"1 2 8\n"


def test_at_a_terminal_it_is_typed_to_and_interrupted(place: Path) -> None:
    desk = Machine(place, "desk")
    assert desk.run("up", "--name", "desk", *LOOPBACK).returncode == 0
    desk.add("cat", "spin")
    try:
        with desk.terminal("sh") as user:
            user.shows(PROMPT)
            user.type("run --isolate ./cat.wasm\n")
            user.shows("cat.wasm\n")
            user.type("typed\n")
            user.shows("typed\n", "typed\n")
            user.type("\x04")
            user.shows(PROMPT)
            user.type("run --isolate ./spin.wasm\n")
            while not any("spin" in " ".join(row["argv"]) for row in desk.asks("ps")):
                pass
            user.interrupt()
            user.shows(PROMPT)
            user.type("echo $?\n")
            user.shows("130\n", PROMPT)
            user.type("exit 0\n")
            assert user.ends() == 0
    finally:
        desk.stop()


async def test_the_settings_are_kept_and_a_wrong_one_is_refused(place: Path) -> None:
    async with one(place, "--isolate", "all", "--runners", "3"):
        pass
    async with one(place) as (node, client):
        await until(client, lambda: len(node.children()) == 3)
    (place / "desk" / "settings.json").write_text('{"isolate": "some"}')
    with pytest.raises(RuntimeError, match="isolate is one of asked, all"):
        await NodeProcess(place / "desk", "desk", *LOOPBACK).start()
    for wrong in ("-1", "65", '"1"', "true"):
        (place / "desk" / "settings.json").write_text(f'{{"runners": {wrong}}}')
        with pytest.raises(RuntimeError, match="runners is a number, at most 64"):
            await NodeProcess(place / "desk", "desk", *LOOPBACK).start()


async def test_messages_between_programs_are_refused_to_an_isolated_one(place: Path) -> None:
    async with one(place) as (_, client):
        await client.put(build("talk"), "talk.wasm")
        error = await refused(client.start("talk.wasm", **ISOLATE), E.NOTSUP)
        assert "an isolated program sends and handles no messages" in str(error)
