"""What a command of the host may use at most, with real processes, and what a peer's are charged for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cognu.devices.cmd import ARGS, OF_PEERS, CommandLimits, HostCommand
from cognu.errors import E
from cognu.files.limits import PEER_SHARE, Quota, Resource
from cognu.files.nstext import quote, split_words
from cognu.ninep.types import ORDWR
from cognu.world.bounded import threads_of_user
from cognu.world.piped import BOUNDED
from cognu.world.real import RealSpawn
from joined import bring
from unit.test_devices_cmd import PYTHON, Commands, Hand

SMALL = CommandLimits(memory=64 << 20, cpu=1, files=32, processes=8, output=1000)
ALLOCATE = "a = bytearray(1 << 29); print(len(a))"
OPEN_MANY = "import os\nn = 0\ntry:\n  while True: os.dup(0); n += 1\nexcept OSError as e: print(n, e.errno)"
FORKS = (
    "import os, signal, sys\nmade = []\n"
    "try:\n"
    "  while len(made) < 50:\n"
    "    pid = os.fork()\n"
    "    if not pid: signal.pause()\n"
    "    made.append(pid)\n"
    "except BlockingIOError: print('no more')\n"
    "print(len(made))\n"
    "for pid in made: os.kill(pid, 9)"
)
NOBODY = 54321
"""A user that has no processes; the superuser's are not bounded by number."""


@pytest.fixture
async def small() -> AsyncIterator[Commands]:
    commands = {
        "python": HostCommand((*PYTHON, ARGS), limits=SMALL),
        "missing": HostCommand(("/no/such/program",), limits=SMALL),
        "closed": HostCommand(("/etc/passwd",), limits=SMALL),
        "ignored": HostCommand(("/bin/grep", "SigIgn", "/proc/self/status"), limits=SMALL),
        "env": HostCommand(("/usr/bin/env",), "/", (("X", "1"), ("LANG", "C")), CommandLimits(files=64)),
    }
    client = Commands(RealSpawn(), commands)
    before = len(os.listdir("/dev/fd"))
    yield client
    client.close()
    await client.commands.close()
    assert len(os.listdir("/dev/fd")) == before


async def ran(client: Commands, name: str, *args: str) -> tuple[str, list[str]]:
    """What it said, and the end of its wait line: what ended it, and its status."""
    ctl, at = await client.began(name, " ".join(["exec", *map(quote, args)]))
    fid = await client.open(f"{at}/data")
    said = b""
    while data := await client.read_fid(fid):
        said += data
    ended = split_words(await client.text(f"{at}/wait"))[4:]
    for each in (fid, ctl):
        client.server.clunk(each)
    return said.decode(), ended


async def test_a_command_has_no_more_memory_files_or_processor_time_than_its_limits(small: Commands) -> None:
    assert await ran(small, "python", ALLOCATE) == ("", ["status 1", "1"])
    said, ended = await ran(small, "python", OPEN_MANY)
    assert (0 < int(said.split()[0]) < 32, said.split()[1], ended) == (True, "24", ["", "0"])
    said, ended = await ran(small, "python", "while True: pass")
    assert (said, ended) == ("", [f"signal 24: {E.CPULIMIT.text}: 1 s", "152"])


async def test_a_command_says_no_more_than_its_limit(small: Commands) -> None:
    said, ended = await ran(small, "python", "while True: print('x' * 99)")
    assert (len(said), ended) == (1000, [f"signal 9: {E.DQUOT.text}: 1000 bytes of output", "137"])


async def test_what_can_not_be_started_within_limits_is_refused_as_without_them(small: Commands) -> None:
    for name, error in (("missing", E.NOENT), ("closed", E.ACCES)):
        ctl = await small.open(f"{name}/clone", ORDWR)
        assert await bring(small.write_fid(ctl, b"exec")) is error
        small.server.clunk(ctl)


async def test_limits_change_nothing_else_of_what_a_command_begins_with(small: Commands) -> None:
    said, ended = await ran(small, "env")
    assert (sorted(said.split()), ended) == (["LANG=C", "X=1"], ["", "0"])
    said, ended = await ran(small, "ignored")
    ignored = int(said.split()[1], 16) & ~(3 << 31)  # 32 and 33 are the C library's, which nobody may set (nptl(7))
    assert (ignored, ended) == (0, ["", "0"])


BEGIN = f"import os, resource, runpy, signal\nbounded = runpy.run_path({BOUNDED[-1]!r})\n"
"""A program's first lines, that has what `bounded` has."""


def said_by(code: str) -> list[str]:
    done = subprocess.run([*PYTHON, BEGIN + code], env={}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how many there are")
def test_a_fork_bomb_makes_no_more_than_its_user_may_have_beside_what_is_there() -> None:
    begin = (
        f"if os.getuid() == 0: os.setuid({NOBODY})\n"
        "# In a container too: who tests has no others elsewhere.\n"
        "bounded['bound'].__globals__['HOSTS_PROCESSES'] = os.stat('/proc/self/ns/pid').st_ino\n"
        "there = []\n"
        "for _ in range(20):\n"
        "  there.append(os.fork())\n"
        "  if not there[-1]: signal.pause()\n"
        "bounded['bound']('NPROC=8')\n"
    )
    said, count = said_by(begin + FORKS + "\nfor pid in there: os.kill(pid, 9)")
    assert said == "no more"
    assert 1 <= int(count) <= 8


@pytest.mark.parametrize("known", ["nothing", "of a container"])
def test_where_the_hosts_processes_can_not_be_counted_their_number_is_not_bounded_but_the_rest_is(
    tmp_path: Path, known: str
) -> None:
    if known == "of a container":
        (tmp_path / "self" / "ns").mkdir(parents=True)
        (tmp_path / "self" / "ns" / "pid").touch()
        (tmp_path / "1" / "task" / "1").mkdir(parents=True)
    assert threads_of_user(str(tmp_path)) is None
    limits = "print(resource.getrlimit(resource.RLIMIT_NPROC))\n"
    before, after, files = said_by(
        f"{limits}bounded['bound']('NPROC=8,NOFILE=64', {str(tmp_path)!r})\n{limits}"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert (after, files) == (before, "(64, 64)")


async def test_a_peers_commands_are_within_its_quota_and_the_usual_limits() -> None:
    spawn = Hand()
    client = Commands(spawn, {"job": HostCommand(("/bin/job",)), "tiny": HostCommand(("/bin/t",), limits=SMALL)})
    peer = Quota(None, "peer pi", {Resource.MEMORY: 300 << 20, Resource.PROCESSES: 9})
    peer.set_share(PEER_SHARE)
    own, _ = await client.began("job", "exec")
    assert client.run_of(own).limits == CommandLimits()
    client.quotas[client.caller.pid] = Quota(peer, "process 7")
    job, at = await client.began("job", "exec")
    assert client.run_of(job).limits == OF_PEERS
    assert peer.used(Resource.MEMORY) == OF_PEERS.memory
    second, _ = await client.began("job")
    assert await bring(client.write_fid(second, b"exec")) is E.DQUOT
    assert (peer.used(Resource.MEMORY), peer.used(Resource.PROCESSES)) == (OF_PEERS.memory, 1)
    await client.write_fid(job, b"kill")
    await client.text(f"{at}/wait")
    assert (peer.used(Resource.MEMORY), peer.used(Resource.PROCESSES)) == (0, 0)
    tiny, _ = await client.began("tiny", "exec")
    assert client.run_of(tiny).limits == SMALL
    assert peer.used(Resource.MEMORY) == SMALL.memory
    for ctl in (own, job, second, tiny):
        client.server.clunk(ctl)
    await client.commands.close()
    assert peer.used(Resource.MEMORY) == 0
