"""The wall around a runner, tried from inside once it is up."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import walled
from cognu.errors import E, FileError
from cognu.world import wall
from guests import command
from wasi_machine import Machine, Result

HOOK = str(Path(walled.__file__))
REFUSED = ("PermissionError", "Operation not permitted", "RuntimeError: can't start new thread")


async def attempt(place: Path, name: str) -> Result:
    machine = Machine(place, isolated=True, command=(sys.executable, "-IB", HOOK, name))
    try:
        process = await machine.child("/")
        await machine.start(process, command("(nop)"), ["x"])
        await process.ended.wait()
        return await machine.result(process)
    finally:
        await machine.close()


@pytest.mark.parametrize(
    "name",
    ["open", "create", "list", "stat", "memory", "own memory", "fork", "thread", "limits", "share", "code", "own code"],
)
async def test_what_a_library_may_try_is_refused_behind_the_wall(tmp_path: Path, name: str) -> None:
    result = await attempt(tmp_path, name)
    assert any(word in result.message for word in REFUSED), result.message
    assert result.status == 0


@pytest.mark.parametrize("name", ["connect", "local socket", "exec", "ptrace", "kill", "kill all", "kill thread"])
async def test_what_only_an_attacker_tries_ends_the_runner(tmp_path: Path, name: str) -> None:
    result = await attempt(tmp_path, name)
    assert result.status == 128 + signal.SIGSYS
    assert result.message == str(FileError(E.RUNNER, "", "SIGSYS: it tried what the wall forbids"))


async def test_behind_the_wall_computing_goes_on(tmp_path: Path) -> None:
    assert (await attempt(tmp_path, "nothing")).message == "nothing"
    assert (await attempt(tmp_path, "data")).message == "done"


async def test_a_runner_has_no_variables(tmp_path: Path) -> None:
    assert (await attempt(tmp_path, "variables")).message == "{}"


@pytest.mark.parametrize(("name", "number"), [("abort", signal.SIGABRT), ("crash", signal.SIGSEGV)])
async def test_how_a_runner_crashes_is_told(tmp_path: Path, name: str, number: signal.Signals) -> None:
    result = await attempt(tmp_path, name)
    assert (result.status, result.message) == (128 + number, str(FileError(E.RUNNER, "", number.name)))


def test_this_host_lacks_nothing() -> None:
    assert wall.missing() == []
    wall.check()
    assert wall.landlock_abi() >= wall.OLDEST_ABI


def test_what_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wall, "LIBRARY", "libnothing.so.0")
    monkeypatch.setattr(wall, "OLDEST_ABI", 1000)
    with pytest.raises(FileError) as caught:
        wall.check()
    assert caught.value.error is E.NOWALL
    assert "libnothing.so.0 is not there (install it: " in caught.value.detail
    assert "the kernel has no Landlock (use Linux 5.13" in caught.value.detail
    monkeypatch.setattr(sys, "platform", "darwin")
    [found] = wall.missing()
    assert "neither Landlock nor seccomp" in found.what


ALONE = "from pathlib import Path; import socket, sys; from cognu.world import wall\n"


@pytest.mark.parametrize("part", ["wall.begin()", "wall.Filter().raise_()"])
@pytest.mark.parametrize("attempt", ["Path('/etc/passwd').read_bytes()", "Path('/tmp').iterdir().__next__()"])
def test_each_part_of_the_wall_keeps_files_away_by_itself(part: str, attempt: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"{ALONE}{part}\n{attempt}"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "PermissionError" in done.stderr or done.returncode < 0, done.stderr


def test_behind_the_first_part_root_may_do_no_more_than_others() -> None:
    """What each of these takes is a capability of the host's, and Landlock keeps none of them away."""
    code = (
        f"{ALONE}import os\nname = socket.gethostname()\nwall.begin()\n"
        "for attempt in (lambda: os.setuid(65534), lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),\n"
        "                lambda: socket.sethostname(name)):\n"
        "    try:\n        attempt(); print('done')\n    except OSError as error:\n        print(error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {str(errno.EACCES), str(errno.EPERM)}
    assert len(done.stdout.split()) == 3


def test_landlock_by_itself_keeps_ports_and_other_processes_away() -> None:
    """As far as the kernel's version of it goes."""
    code = (
        f"{ALONE}import os, signal\nsock = socket.socket()\nwall.begin()\n"
        "for attempt in (lambda: sock.connect(('127.0.0.1', 9)), lambda: os.kill(os.getppid(), 0)):\n"
        "    try:\n        attempt(); print('done')\n    except OSError as error:\n        print(error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    abi, refused = wall.landlock_abi(), {str(errno.EACCES), str(errno.EPERM)}
    connected, signalled = done.stdout.split()
    assert connected in (refused if abi >= 4 else {str(errno.ECONNREFUSED)})
    assert signalled in (refused if abi >= 6 else {"done"})
