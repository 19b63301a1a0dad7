"""Wireshark's tshark on a link between two machines finds nothing of what they say to each other."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cognu.mesh.identity import load_identity
from cognu.world.real import real_world
from e2e.harness import NodeProcess
from hosts.kit import at_terminal, joined, well
from hosts.network import Host, Network

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]

CONTENT = "cinnabar contents of a letter"
NAME = "heliotrope-file-name"
KEYS = "periwinkle typed at a terminal"
DESK, PI = "zebrawood-desk", "tamarind-pi"
"""What the machines are called, by themselves and by each other."""
TIMES = 5000
"""Of CONTENT in the file: it is in one packet as a whole, wherever packets end."""

BEGINS, ENDS = 9, 19
"""UDP ports: what comes there is captured first, and last."""
KNOCK = """
import socket, sys, time
knocking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    knocking.sendto(b"knock", (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.05)
"""
TAKE = """
import socket, sys
listener = socket.create_server(("", 5000))
print("ready", flush=True)
stream, _ = listener.accept()
with open(sys.argv[1], "wb") as taken:
    while data := stream.recv(1 << 20):
        taken.write(data)
"""
GIVE = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000)) as stream:
    stream.sendall(sys.stdin.buffer.read())
"""


@asynccontextmanager
async def captured(host: Host, other: Host, into: Path) -> AsyncIterator[None]:
    """Every packet of a host's Ethernet link goes into a file, while this lasts."""
    told = ("-P", "-l", "-T", "fields", "-e", "udp.dstport")
    capturing = await host.begin("tshark", "-n", "-i", "eth", "-w", str(into), *told, stderr=subprocess.DEVNULL)
    assert capturing.stdout is not None
    try:
        await knocked(other, host, capturing.stdout, BEGINS)
        yield
        await knocked(other, host, capturing.stdout, ENDS)
    finally:
        capturing.send_signal(signal.SIGINT)
        await capturing.communicate()
        assert capturing.returncode == 0


async def knocked(by: Host, at: Host, told: asyncio.StreamReader, port: int) -> None:
    """Until a datagram to a port was captured, and so everything before it."""
    knocking = await by.begin(sys.executable, "-c", KNOCK, at.addresses["eth"], str(port))
    try:
        while line := await told.readline():
            if line.strip() == str(port).encode():
                return
        raise AssertionError("tshark ended")
    finally:
        knocking.kill()
        await knocking.communicate()


async def tshark(capture: Path, *words: str) -> list[str]:
    """The lines that it prints of a capture."""
    made = await asyncio.create_subprocess_exec(
        "tshark", "-n", "-r", str(capture), *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await made.communicate()
    assert made.returncode == 0, err.decode()
    return out.decode().splitlines()


async def found(capture: Path, secrets: Mapping[str, bytes]) -> set[str]:
    """Which of the secrets are in any packet."""
    filters = [f"frame contains {secret.hex(':')}" for secret in secrets.values()]
    table = await tshark(capture, "-q", "-z", ",".join(["io,stat,0", *filters]))
    (row,) = (line for line in table if "<>" in line)  # | from <> to | frames | bytes | frames | bytes | ...
    packets = [int(cell) for cell in row.strip("| ").split("|")[1::2]]
    return {what for what, count in zip(secrets, packets, strict=True) if count}


def public_key(node: NodeProcess) -> bytes:
    """By which a machine could be known again."""
    return load_identity(real_world(), str(node.home)).public


async def test_nothing_of_what_machines_say_to_each_other_is_to_be_read_on_the_line(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    desk.node.name, pi.node.name = DESK, PI
    capture, plain = desk.shared / "capture", desk.shared / "plain"
    letter = desk.shared / NAME
    letter.write_text(f"{CONTENT}\n" * TIMES)
    async with captured(pi, desk, capture):
        await joined(network, "write:{shared}", "run")
        far = f"/n/{PI}{pi.shared}"
        assert await well(await desk.node.begin("sh", "-c", f"cp {letter} {far}; cat {far}/{NAME} | wc -l; ls {far}"))
        with at_terminal(desk, "cpu", PI) as terminal:
            terminal.type(f"echo {KEYS}; exit 5\r")
            assert await asyncio.to_thread(terminal.process.wait) == 5
    assert (pi.shared / NAME).read_bytes() == letter.read_bytes()
    secrets = {
        "content": CONTENT.encode(), "file name": NAME.encode(), "directory": str(pi.shared).encode(),
        "keys": KEYS.encode(), "desk's name": DESK.encode(), "pi's name": PI.encode(),
        "desk's key": public_key(desk.node), "pi's key": public_key(pi.node),
    }  # fmt: skip
    assert await found(capture, secrets) == set()
    sizes = [int(line) for line in await tshark(capture, "-Y", "tcp", "-T", "fields", "-e", "tcp.len")]
    assert sum(sizes) > 2 * letter.stat().st_size  # it went there and back, and the capture has it

    # The same search finds what was sent as it is.
    async with captured(pi, desk, plain):
        taking = await pi.begin(sys.executable, "-c", TAKE, str(pi.shared / "plain"))
        assert taking.stdout is not None
        assert await taking.stdout.readline() == b"ready\n"
        bytes_of_all = b"\n".join([letter.read_bytes(), *secrets.values()])
        ended = await desk.run(sys.executable, "-c", GIVE, pi.addresses["eth"], stdin=bytes_of_all)
        assert ended.status == 0, ended.errors
        await well(taking)
    assert await found(plain, secrets) == set(secrets)
