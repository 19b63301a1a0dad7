"""From nothing to a node that answers, and to a shell's prompt; and what an idle node holds of memory.

No peer: these are figures with an aim. Each run has a home directory of its own; the first of them, which fills the
caches of the host, is not counted.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import servers
from benchmarks.machine import resident
from benchmarks.measure import Bench, Case, Unit

COGNU = Path(sys.executable).parent / "cognu"
PROMPT = b"cognu%"
RUNS = 7
CAN_WEIGH = Path("/proc/self/status").exists()


async def run(bench: Bench) -> None:
    cases = [
        Case("Python alone, to compare", Unit.MS, _python, runs=RUNS),
        Case("node: start to ready", Unit.MS, _ready, runs=RUNS),
    ]
    if CAN_WEIGH:
        cases.append(Case("node: resident when idle", Unit.MB, _resident, runs=RUNS, aim="under 80 MB"))
    else:
        bench.miss("node: resident when idle", "this system has no /proc")
    broken = _command_is_broken()
    if broken:
        bench.miss("cognu up, cognu sh", broken)
        await bench.measure(cases)
        return
    with TemporaryDirectory() as name:
        home = Path(name) / "home"
        node = servers.start_node(home)
        try:
            cases += [
                Case("cognu up: start to prompt", Unit.MS, _prompt, runs=RUNS, aim="under 1 s"),
                Case("cognu sh -c true, node running", Unit.MS, lambda: _shell(home), runs=RUNS),
            ]
            await bench.measure(cases)
        finally:
            servers.end(node)


def _command_is_broken() -> str:
    """Why the command can't be measured here; empty if it can."""
    if not COGNU.exists():
        return f"{COGNU} is not there"
    done = subprocess.run([COGNU, "--version"], capture_output=True, text=True)
    return f"cognu --version: {done.stderr.strip().splitlines()[-1]}" if done.returncode else ""


def _python() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1000


def _ready() -> float:
    with TemporaryDirectory() as name:
        began = time.perf_counter()
        node = servers.start_node(Path(name) / "home")
        taken = time.perf_counter() - began
        servers.end(node)
        return taken * 1000


def _resident() -> float:
    """After it has answered one request, and that connection is gone."""
    with TemporaryDirectory() as name:
        home = Path(name) / "home"
        node = servers.start_node(home)
        try:
            servers.rpc(home, "status")
            return resident(node.pid)
        finally:
            servers.end(node)


def _prompt() -> float:
    """`cognu up` on a terminal, until the shell asks for its first line."""
    with TemporaryDirectory() as name:
        command = [str(COGNU), "--home", f"{name}/home"]
        began = time.perf_counter()
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(COGNU, [*command, "up"])
        try:
            _until_prompt(terminal)
            taken = time.perf_counter() - began
            os.write(terminal, b"exit\r")
            _to_end(terminal)
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)
            subprocess.run([*command, "down"], check=True, capture_output=True)
        return taken * 1000


def _until_prompt(terminal: int) -> None:
    """Raises `RuntimeError` with what came instead."""
    said = b""
    while PROMPT not in said:
        if not select.select([terminal], [], [], servers.PATIENCE)[0]:
            raise RuntimeError(f"no prompt in {servers.PATIENCE} s: {said!r}")
        try:
            said += os.read(terminal, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            raise RuntimeError(f"cognu up ended: {said!r}") from None


def _to_end(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass  # as above


def _shell(home: Path) -> float:
    began = time.perf_counter()
    subprocess.run([COGNU, "--home", home, "sh", "-c", "true"], check=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000
