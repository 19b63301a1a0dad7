"""Isolated programs as a node sees them: what is done to their runners. What is believed of these is elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.launch import Grant, Launch
from cognu.files.limits import Resource
from cognu.files.mounts import MREPL, ChanMover
from cognu.files.process import Process, State
from cognu.files.steps import finish
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.runtime.runners import OWN_MEMORY, niceness
from cognu.world import wall
from guests import command, until
from programs.build import build
from wasi_kit import attach
from wasi_machine import HOME, Machine

SPIN = "(loop $l (br $l))"


@pytest_asyncio.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path, isolated=True)
    await machine.make(f"{HOME}/notes.txt", b"one two\nthree\n")
    yield machine
    await machine.close()


async def waiting_cat(machine: Machine, launch: Launch | None = None) -> tuple[Process, Chan, int]:
    """A program that waits for its input: its process, the other end, and the pid of its runner."""
    process = await machine.child()
    end = await machine.pipe(process, 0)
    await machine.start(process, build("cat"), ["cat"], launch)
    return process, end, runner_of(process)


def runner_of(process: Process) -> int:
    assert process.detail is not None
    return int(process.detail()["runner"])


async def read(chan: Chan) -> bytes:
    data = chan.server.read(chan.fid, 0, 1 << 20)
    return bytes(data if isinstance(data, bytes | memoryview) else await data)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def shown(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def condition(pid: int) -> str:
    return shown(pid, "stat").decode().rpartition(")")[2].split()[0]


# -- the wall and the process -----------------------------------------------------------------------------------------


async def test_the_wall_holds_for_every_thread_before_the_program_begins(machine: Machine) -> None:
    process, end, pid = await waiting_cat(machine)
    threads = os.listdir(f"/proc/{pid}/task")
    assert len(threads) > 2
    for thread in threads:
        status = shown(pid, f"task/{thread}/status").decode()
        lines = dict(line.split(":\t", 1) for line in status.splitlines())
        assert (lines["Seccomp"], lines["NoNewPrivs"]) == ("2", "1")
        assert {int(lines[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert shown(pid, "environ") == b""
    # A socket, /dev/null, its way to the log, what the event loop waits with and is woken by, and the first memory.
    files = sorted(
        os.readlink(f"/proc/{pid}/fd/{number}").partition(":")[0] for number in os.listdir(f"/proc/{pid}/fd")
    )
    assert [file for file in files if file != "/memfd"] == ["/dev/null", "anon_inode", "pipe", *["socket"] * 3]
    end.close()
    await process.ended.wait()
    assert (process.status, alive(pid)) == (0, False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU])
async def test_a_runner_that_crashes_ends_its_program_alone_and_says_how(machine: Machine, number: int) -> None:
    process, end, pid = await waiting_cat(machine)
    other, other_end, _ = await waiting_cat(machine)
    os.kill(pid, number)
    await process.ended.wait()
    assert process.status == 128 + number
    assert process.message == str(FileError(E.RUNNER, "", signal.Signals(number).name))
    assert other.state is State.RUNNING
    other_end.close()
    await other.ended.wait()
    assert other.status == 0
    end.close()


async def test_kill_note_stop_and_start_reach_the_runner(machine: Machine) -> None:
    killed, end, pid = await waiting_cat(machine)
    interrupted, other_end, other = await waiting_cat(machine)
    assert killed.pause is not None
    killed.pause(True)
    await until(lambda: condition(pid) == "T")
    killed.pause(False)
    await until(lambda: condition(pid) != "T")
    killed.pause(True)
    assert killed.kill is not None
    assert interrupted.note is not None
    killed.kill("me, process 1")  # stopped as it is
    with pytest.raises(FileError):
        interrupted.note("hello")
    interrupted.note("interrupt")
    await killed.ended.wait()
    await interrupted.ended.wait()
    assert (killed.status, killed.message) == (137, f"{E.KILLED.text}: me, process 1")
    assert (interrupted.status, interrupted.message) == (130, "interrupt")
    assert not alive(pid)
    assert not alive(other)
    end.close()
    other_end.close()


async def test_a_stopped_program_goes_on_where_it_was(machine: Machine) -> None:
    process = await machine.child()
    into, out = await machine.pipe(process, 0), await machine.pipe(process, 1)
    await machine.start(process, build("cat"), ["cat"])
    assert process.pause is not None
    process.pause(True)
    into.server.write(into.fid, 0, b"later\n")
    process.pause(False)
    assert await read(out) == b"later\n"
    into.close()
    await process.ended.wait()
    out.close()


async def test_a_runner_ends_with_its_node(tmp_path: Path) -> None:
    """Killed outright, so that nobody tells it."""
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom guests import command\n"
        "from wasi_machine import Machine\nfrom unit.test_runners import runner_of\n"
        "async def main():\n"
        f"    machine = Machine(Path({str(tmp_path)!r}), isolated=True)\n"
        "    process = await machine.child('/')\n"
        f"    await machine.start(process, command({SPIN!r}), ['x'])\n"
        "    print(runner_of(process), flush=True)\n    await process.ended.wait()\n"
        "asyncio.run(main())\n"
    )
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert node.stdout is not None
    pid = int(await node.stdout.readline())
    watch = os.pidfd_open(pid)
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(watch, over.set)
    try:
        node.kill()
        await over.wait()
    finally:
        asyncio.get_running_loop().remove_reader(watch)
        os.close(watch)
        await node.communicate()


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_the_runner_is_bounded_by_the_host_beyond_the_programs_limits(machine: Machine) -> None:
    launch = Launch(limits={"memory": 32 << 20, "cpu": 3 * 10**9})
    process, end, pid = await waiting_cat(machine, launch)
    limits = shown(pid, "limits").decode()
    found = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
    assert int(found["Max data size"]) <= (32 << 20) + (256 << 20) + 5 * (1 << 20)
    assert int(found["Max address space"]) < 20 << 30
    assert int(found["Max cpu time"]) <= 7
    assert found["Max core file size"] == "0"
    assert int(found["Max file size"]) < 1 << 20
    assert int(found["Max open files"]) == 32
    end.close()
    await process.ended.wait()


async def test_memory_and_time_are_charged_and_given_back(machine: Machine) -> None:
    quota = machine.parent.quota
    process, end, _ = await waiting_cat(machine)
    assert quota.used(Resource.MEMORY) > OWN_MEMORY
    assert process.quota.used(Resource.MEMORY) < OWN_MEMORY
    assert process.detail is not None
    end.close()
    await process.ended.wait()
    assert quota.used(Resource.MEMORY) == quota.used(Resource.FILES) == 0
    assert quota.used(Resource.CPU) > 0
    told = process.detail()
    assert int(told["memory"]) > 0
    assert int(told["calls"]) > 0
    assert int(told["utime"]) > 0


async def test_a_limit_above_the_program_ends_it(machine: Machine) -> None:
    process = await machine.child()
    await machine.start(process, command(SPIN), ["x"])
    process.quota.set_limit(Resource.CPU, 10**8)
    await process.ended.wait()
    assert process.status == 137
    assert E.CPULIMIT.text in process.message


async def test_memory_is_limited_by_the_engine_and_a_lack_of_it_above_refuses_the_start(machine: Machine) -> None:
    result = await machine.run("greedy", limits={"memory": 32 << 20})
    assert result.status != 0
    process = await machine.child()
    machine.parent.quota.set_limit(Resource.MEMORY, OWN_MEMORY // 2)
    with pytest.raises(FileError) as caught:
        await machine.start(process, build("wc"), ["wc"])
    assert caught.value.error is E.DQUOT
    assert process.state is State.NEW
    assert machine.parent.quota.used(Resource.MEMORY) == 0


async def test_its_share_of_the_processor_is_its_niceness(machine: Machine) -> None:
    process, end, pid = await waiting_cat(machine)
    assert process.weigh is not None
    process.weigh(50)
    assert {os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir(f"/proc/{pid}/task")} == {3}
    end.close()
    await process.ended.wait()


def test_niceness_of_weights() -> None:
    weights = [1, 1000, 10_000, 50_000, 80_000, 100_000, 1_000_000]
    assert [niceness(weight) for weight in weights] == [19, 19, 10, 3, 1, 0, 0]


async def test_what_its_owner_closes_from_outside_is_closed_for_it(machine: Machine) -> None:
    process, end, _ = await waiting_cat(machine)
    assert process.quota.used(Resource.FILES) == 3
    assert process.tell is not None
    ctl: Any = process.tell.__self__  # type: ignore[attr-defined]
    process.tell("closefiles")
    await until(lambda: not ctl._lines and ctl._waiting is not None)  # it asks for the next line
    end.server.write(end.fid, 0, b"what it can not write\n")
    await process.ended.wait()
    assert process.status == 1
    assert (await machine.result(process)).out == b""
    end.close()


# -- files ------------------------------------------------------------------------------------------------------------


class Forever(Node):
    """A file whose reads never come back."""

    def __init__(self) -> None:
        super().__init__("forever")
        self.waiting = 0

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        self.waiting += 1
        await asyncio.Event().wait()
        return b""


async def test_a_revoked_grant_ends_a_read_that_waits(machine: Machine) -> None:
    file, parent = Forever(), machine.parent
    domain = parent.namespace.domain
    root = attach(domain, TreeServer("#z", Directory("", [file])))
    await machine.make("/forever", b"")
    place = await finish(parent.namespace.find("/forever", parent.cwd, parent))
    parent.namespace.mount(await finish(parent.namespace.walk(root, ["forever"], parent)), place, MREPL)
    process = await machine.child()
    await machine.start(process, build("cat"), ["cat", "/forever"], Launch(grants=[Grant("/forever", "r")]))
    await until(lambda: file.waiting > 0)
    domain.authority.revoke(domain.pid, root.cap)
    await process.ended.wait()
    result = await machine.result(process)
    assert (result.status, result.out, result.message) == (1, b"", "")
    assert result.err.startswith(b"cat: ")


async def test_programs_that_share_a_stream_write_one_behind_the_other(machine: Machine) -> None:
    """As `{ a; b; } > file`, and both at once: nothing is overwritten."""
    first = await machine.child()
    await machine.make(f"{HOME}/long.txt", b"0123456789" * 30_000)
    grants = [Grant(f"{HOME}/long.txt", "r")]
    others = []
    for _ in range(2):
        other = await machine.child()
        for number in (0, 1, 2):
            other.descriptors.add(ChanMover(other.namespace.domain).move(first.descriptors[number]), number)
        others.append(other)
    [second, third] = others
    await machine.start(second, build("cat"), ["cat", f"{HOME}/long.txt"], Launch(grants=list(grants)))
    await machine.start(third, build("cat"), ["cat", f"{HOME}/long.txt"], Launch(grants=list(grants)))
    await second.ended.wait()
    await third.ended.wait()
    assert first.descriptors[1].handle.offset == 600_000
    await machine.start(first, build("cat"), ["cat", f"{HOME}/long.txt"], Launch(grants=list(grants)))
    await first.ended.wait()
    result = await machine.result(first)
    assert (len(result.out), set(result.out), result.err) == (900_000, set(b"0123456789"), b"")


async def test_what_was_written_without_waiting_arrives_after_the_programs_end(machine: Machine) -> None:
    """Only the first write is taken at once: the next has to wait for the node's answer, and this program does not."""
    process = await machine.child()
    out = await machine.pipe(process, 1)
    await machine.start(process, build("system"), ["system", "behind"])
    received = b""
    while data := await read(out):
        received += data
    assert len(received) == 65536
    await process.ended.wait()
    assert (process.status, process.message) == (1, "")
    out.close()


async def test_where_its_input_stands_is_known_to_who_reads_on(machine: Machine) -> None:
    """A program that reads all of it leaves nothing."""
    process = await machine.child(stdin=b"one two\n")
    other = await machine.child()
    other.descriptors.add(ChanMover(other.namespace.domain).move(process.descriptors[0]), 0)
    for at, expected in ((process, b"1 2 8\n"), (other, b"0 0 0\n")):
        await machine.start(at, build("wc"), ["wc"])
        await at.ended.wait()
        assert (await machine.result(at)).out == expected


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_runners_are_kept_ready_and_used_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path, isolated=True, spare=2)
    await machine.make(f"{HOME}/notes.txt", b"")
    assert machine.runners.ready == []
    assert (await machine.run("wc")).status == 0
    await until(lambda: len(machine.runners.ready) == 2)
    pids = [child.pid for child in machine.runners.ready]
    process, end, pid = await waiting_cat(machine)
    assert pid == pids[0]
    await until(lambda: len(machine.runners.ready) == 2)
    ready = [child.pid for child in machine.runners.ready]
    os.kill(ready[0], signal.SIGKILL)
    await machine.runners._ready[0].ended  # it is left out
    other, other_end, another = await waiting_cat(machine)
    assert another == ready[1]
    for side, ending in ((end, process), (other_end, other)):
        side.close()
        await ending.ended.wait()
    pids = [child.pid for child in machine.runners.ready]
    await machine.close()
    assert not any(map(alive, pids))


CODE = "import os, socket, sys, time\nsock = socket.socket(fileno=0)\n"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("sys.exit(3)", "status 3"),
        ("os.abort()", "SIGABRT"),
        ("sock.sendall(b'x' * 100); time.sleep(1000)", "it ended the connection to its node"),
        ("sock.shutdown(socket.SHUT_RDWR); time.sleep(1000)", "it ended the connection to its node"),
    ],
)
async def test_a_runner_that_is_none_is_a_start_that_failed(tmp_path: Path, code: str, says: str) -> None:
    machine = Machine(tmp_path, isolated=True, command=(sys.executable, "-I", "-c", CODE + code))
    process = await machine.child("/")
    before = process.namespace, process.cwd, process.descriptors
    with pytest.raises(FileError) as caught:
        await machine.start(process, build("wc"), ["wc"])
    assert str(caught.value) == str(FileError(E.RUNNER, "", says))
    assert (process.namespace, process.cwd, process.descriptors) == before
    assert process.state is State.NEW
    assert machine.parent.quota.used(Resource.MEMORY) == 0
    await machine.close()


async def test_a_start_that_is_given_up_leaves_no_runner(tmp_path: Path) -> None:
    machine = Machine(tmp_path, isolated=True, command=(sys.executable, "-I", "-c", "import time; time.sleep(1000)"))
    process = await machine.child("/")
    starting = asyncio.ensure_future(machine.start(process, build("wc"), ["wc"]))
    await until(lambda: any(run._serving is not None for run in machine.runners._runs))
    [run] = machine.runners._runs
    assert run._runner is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not alive(run._runner.child.pid)
    assert process.state is State.NEW
    await machine.close()


async def test_without_a_wall_nothing_is_isolated(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wall, "LIBRARY", "libnothing.so.0")
    process = await machine.child()
    with pytest.raises(FileError) as caught:
        await machine.start(process, build("wc"), ["wc"])
    assert caught.value.error is E.NOWALL
    assert "libnothing.so.0" in str(caught.value)
    assert process.state is State.NEW


async def test_a_program_ended_by_shutting_down_is_gone_with_its_runner(tmp_path: Path) -> None:
    machine = Machine(tmp_path, isolated=True)
    process = await machine.child("/")
    await machine.start(process, command(SPIN), ["x"])
    pid = runner_of(process)
    await machine.close()
    assert (process.status, alive(pid)) == (137, False)
