"""`dial`, `listen1`, `csquery`, `dnsquery` and `os` as the installed command has them, between two nodes."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
from asyncio.subprocess import Process
from pathlib import Path

from cognu.errors import E
from cognu.world.bounded import threads_of_user
from e2e.harness import NodeProcess, pair
from e2e.test_resources import PYTHON, UPPER, set_for
from unit.test_devices_cmd_limits import ALLOCATE, FORKS


async def said(node: NodeProcess, text: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Status, output and errors of a line for the shell."""
    process = await node.begin("sh", "-c", text)
    out, errors = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def announced(process: Process) -> str:
    """The port at which a `listen1` takes calls."""
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    found = re.fullmatch(r"listen1: calls are taken at \S+!(\d+)\n", line)
    assert found is not None, line
    return found[1]


async def test_calls_are_taken_at_another_machine_and_answered_here(place: Path) -> None:
    async with pair(place, "net:listen") as two:
        desk, pi = two.desk, two.pi
        text = "listen1 /n/pi/net/tcp!*!0 'read line; echo got $line; cat | wc -c; exit 3'"
        listening = await desk.begin("sh", "-c", text)
        port = await announced(listening)
        both = [said(pi, f"dial tcp!127.0.0.1!{port}", f"{name}\n".encode() + bytes(200_000)) for name in "ab"]
        for name, ended in zip("ab", await asyncio.gather(*both), strict=True):
            assert ended == (0, f"got {name}\n200000\n", "")
        # From the same network, named before the address; the command there has the connection.
        answered = """echo c; read answer; [ "$answer" = "got c" ] || exit 5; exit 4"""
        line = f"dial /n/pi/net/tcp!127.0.0.1!{port} '{answered}'"
        assert await said(desk, line) == (4, "", "")
        listening.send_signal(signal.SIGINT)
        await listening.communicate()
        assert listening.returncode == 130
        refused = f"dial: tcp!127.0.0.1!{port}: {E.CONNREFUSED.text}\n"
        assert await said(pi, f"dial tcp!127.0.0.1!{port}") == (1, "", refused)


async def test_one_call_gives_its_status_and_refusals_name_the_address(place: Path) -> None:
    async with pair(place, "net") as two:
        desk = two.desk
        listening = await desk.begin("sh", "-c", "listen1 -1 tcp!*!0 'echo $net $remote; exit 9'")
        status, out, _ = await said(desk, f"dial tcp!localhost!{await announced(listening)}")
        assert (status, re.fullmatch(r"/net/tcp/\d+ 127\.0\.0\.1!\d+\n", out) is not None) == (0, True), out
        await listening.communicate()
        assert listening.returncode == 9
        for line, row in (
            ("listen1 /n/pi/net/tcp!*!0 cat", E.ACCES),
            ("listen1 tcp!*!fly cat", E.NOENT),
            ("dial tcp!nobody.invalid!80", E.HOSTUNREACH),
            ("dial udp!pi", E.USAGE),
            ("dial /n/mars/net/tcp!pi!80", E.NOENT),
        ):
            status, out, errors = await said(desk, line)
            command, address, *_ = line.split()
            assert (status, out) == (2 if row is E.USAGE else 1, "")
            assert errors.startswith(f"{command}: {address}: {row.text}"), errors


async def test_names_are_asked_for_on_the_command_line_and_on_the_input(place: Path) -> None:
    async with pair(place, "net") as two:
        ways = "/net/tcp/clone 127.0.0.1!80\n/n/pi/net/tcp/clone 127.0.0.1!80\n"
        assert await said(two.desk, "csquery net!pi!http") == (0, ways, "")
        assert await said(two.desk, "csquery '/n/pi/net/tcp!127.0.0.1!80'") == (0, ways.partition("\n")[2], "")
        assert await said(two.desk, "csquery", b"net!pi!http\n\nx\n") == (
            1, ways, f"csquery: x: {E.USAGE.text}: net!HOST!SERVICE, tcp!…, udp!… or unix!/PATH\n",
        )  # fmt: skip
        assert await said(two.desk, "dnsquery pi") == (0, "pi ip 127.0.0.1\n", "")
        assert await said(two.desk, "dnsquery", b"127.0.0.1 ptr\npi\n") == (
            0,
            "127.0.0.1 ptr pi\npi ip 127.0.0.1\n",
            "",
        )
        assert (await said(two.desk, "dnsquery pi mx"))[2].startswith(f"dnsquery: pi mx: {E.NOTSUP.text}")


async def test_a_command_that_another_machine_began_has_no_more_than_the_owner_says(place: Path) -> None:
    limits = {"memory": 64 << 20, "processes": 8, "output": 1000}
    codes = {
        "eat": ALLOCATE,
        "fork": FORKS,
        "may": "import resource as r; print(*r.getrlimit(r.RLIMIT_NPROC))",
        "talk": "while True: print('x' * 99)",
    }
    commands = {name: {"run": [*PYTHON, code], "limits": limits} for name, code in codes.items()}
    set_for(place / "pi", commands=commands)
    async with pair(place, "cmd:eat", "cmd:fork", "cmd:may", "cmd:talk") as two:
        status, out, errors = await said(two.desk, "os -m /n/pi/cmd eat")
        assert (status, out, errors.splitlines()[-1]) == (1, "", "MemoryError")
        if os.getuid() != 0 and threads_of_user() is not None:  # the superuser may have more, whatever it was told
            status, out, errors = await said(two.desk, "os -m /n/pi/cmd fork")
            assert (status, errors) == (0, "")
            done, made = out.splitlines()
            assert (done, int(made) <= 8) == ("no more", True)
        status, out, errors = await said(two.desk, "os -m /n/pi/cmd may")
        assert (status, errors) == (0, "")
        soft, hard = map(int, out.split())
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        if threads_of_user() is None:  # in a container, say: no bound
            assert hard == most
        else:
            assert soft == hard != resource.RLIM_INFINITY
            assert most == resource.RLIM_INFINITY or soft < most
        status, out, errors = await said(two.desk, "os -m /n/pi/cmd talk")
        assert (status, len(out)) == (137, 1000)
        assert errors == f"os: talk: signal 9: {E.DQUOT.text}: 1000 bytes of output\n"


async def test_a_command_of_another_machine_has_these_streams_and_this_status(place: Path) -> None:
    code = f"{UPPER}; print('!' * 200000, file=sys.stderr); sys.exit(7)"
    forever = "import time; print('begun', flush=True); time.sleep(1000)"
    commands = {"upper": [*PYTHON, code, "{args}"], "forever": [*PYTHON, forever]}
    set_for(place / "pi", commands=commands)
    async with pair(place, "cmd:upper", "cmd:forever") as two:
        status, out, errors = await said(two.desk, "os -m /n/pi/cmd upper 'a  b' -x $UNSET", b"loud\n")
        assert (status, out, errors) == (7, "a  b -x\nLOUD\n", "!" * 200000 + "\n")
        status, out, errors = await said(two.desk, "os -n 5 -m /n/pi/cmd forever now")
        assert (status, out, errors.startswith(f"os: /n/pi/cmd/forever/clone: {E.ACCES.text}")) == (1, "", True), errors
        running = await two.desk.begin("sh", "-c", "os -m /n/pi/cmd forever")
        assert running.stdout is not None
        assert await running.stdout.readline() == b"begun\n"
        async with two.pi.client() as pi:
            await pi.change_ns("bind '#C' /tmp")
            running.send_signal(signal.SIGINT)
            await running.communicate()
            assert running.returncode == 130
            while any(name.isdigit() for name in await pi.list("/tmp/forever")):
                pass
        assert (await said(two.desk, "os upper"))[2] == f"os: /cmd/upper/clone: {E.NOENT.text}\n"
        assert (await said(two.desk, "os -m /n/pi/cmd ../x"))[0] == 2
