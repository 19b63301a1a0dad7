"""The hosts of network namespaces themselves: what their network does to packets, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from pathlib import Path

import pytest

from e2e.harness import Ended
from hosts.network import TESTS, Host, Network, unable

pytestmark = pytest.mark.interop

PYTHON = sys.executable

LISTEN = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 5353))
joined = socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[1])
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
print("ready", flush=True)
print(s.recv(100).decode(), flush=True)
"""
SAY = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
s.sendto(sys.argv[3].encode(), (sys.argv[2], 5353))
"""
TAKE = """
import socket
listener = socket.create_server(("", 5000))
print("ready", flush=True)
stream, _ = listener.accept()
count = 0
while data := stream.recv(1 << 20):
    count += len(data)
print(count, flush=True)
"""
GIVE = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000)) as stream:
    stream.sendall(bytes(int(sys.argv[2])))
"""
FRAMES = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind((sys.argv[1], 0x0800))
print("ready", flush=True)
def total(data):
    data += b"\\0" * (len(data) % 2)
    found = sum(int.from_bytes(data[i:i + 2], "big") for i in range(0, len(data), 2))
    while found >> 16:
        found = (found & 0xffff) + (found >> 16)
    return found
segments = []
longest = 0
while not segments or not segments[-1][21] & 1:  # to the FIN
    frame = s.recv(1 << 17)
    if frame[23] == 6:  # TCP, in IP packets without options
        longest = max(longest, len(frame))
        segments.append(frame[26:34] + frame[34:14 + int.from_bytes(frame[16:18], "big")])
wrong = sum(total(s[:8] + bytes([0, 6]) + (len(s) - 8).to_bytes(2, "big") + s[8:]) != 0xffff for s in segments)
print(len(segments), wrong, longest, flush=True)
"""


async def heard(host: Host, program: str, *words: str) -> asyncio.subprocess.Process:
    """Start a Python program on a host; it is ready."""
    made = await host.begin(PYTHON, "-c", program, *words)
    assert made.stdout is not None
    assert await made.stdout.readline() == b"ready\n"
    return made


async def said(made: asyncio.subprocess.Process) -> str:
    out, err = await made.communicate()
    assert made.returncode == 0, err.decode()
    return out.decode().strip()


async def knock(source: Host, address: str, *options: str) -> Ended:
    """Whether a machine is there: it refuses a connection, for nobody listens at that port."""
    program = (
        "import socket, sys, time\ns = socket.socket()\ns.settimeout(float(sys.argv[2]))\nbegan = time.monotonic()\n"
        "try:\n    s.connect((sys.argv[1], 9))\nexcept OSError as error:\n"
        "    print(type(error).__name__, time.monotonic() - began)\n"
    )
    return await source.run(PYTHON, "-c", program, address, *(options or ("20",)))


async def test_packets_take_as_long_as_was_said_and_no_less(network: Network) -> None:
    await network.set("desk", "pi", delay=0.2)
    word, seconds = (await knock(network["desk"], network["pi"].addresses["eth"])).output.split()
    assert word == b"ConnectionRefusedError"
    assert float(seconds) >= 0.4
    assert (await knock(network["lap"], network["pi"].addresses["eth"])).output.startswith(b"ConnectionRefused")


async def test_a_cut_drops_packets_both_ways_and_tells_nobody(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    assert (await knock(desk, pi.addresses["eth"])).output.startswith(b"ConnectionRefused")
    await network.cut("desk", "pi")
    for a, b in ((desk, pi), (pi, desk)):
        assert (await knock(a, b.addresses["eth"], "1")).output.startswith(b"TimeoutError")
        assert (await network.counts(a.name, b.name)).stopped > 0
    assert (await knock(desk, network["lap"].addresses["eth"])).output.startswith(b"ConnectionRefused")
    await network.mend("desk", "pi")
    assert (await knock(desk, pi.addresses["eth"])).output.startswith(b"ConnectionRefused")


async def test_what_is_for_all_and_for_a_group_comes_to_all_others_of_a_segment(network: Network) -> None:
    desk = network["desk"]
    for to in ("10.77.1.255", "224.0.0.251"):
        others = [await heard(network[name], LISTEN, network[name].addresses["eth"]) for name in ("pi", "lap")]
        ended = await desk.run(PYTHON, "-c", SAY, desk.addresses["eth"], to, f"for {to}")
        assert ended.status == 0, ended.errors
        assert [await said(other) for other in others] == [f"for {to}"] * 2


async def test_bytes_come_whole_over_a_line_that_loses_delays_and_reorders(network: Network) -> None:
    pi = network["pi"]
    await network.set("desk", "pi", delay=0.01, jitter=0.005, loss=0.02, reorder=0.02, rate=20e6)
    taking = await heard(pi, TAKE)
    assert (await network["desk"].run(PYTHON, "-c", GIVE, pi.addresses["eth"], str(4 << 20))).status == 0
    assert await said(taking) == str(4 << 20)
    counts = await network.counts("desk", "pi")
    assert counts.lost > 0
    assert counts.bytes > 4 << 20


async def test_checksums_and_sizes_are_as_on_a_wire(network: Network) -> None:
    pi = network["pi"]
    taking = await heard(pi, TAKE)
    # What is not summed up yet waits in the socket, which has room for so much.
    watching = await heard(pi, FRAMES, "eth")
    assert (await network["desk"].run(PYTHON, "-c", GIVE, pi.addresses["eth"], str(1 << 16))).status == 0
    await said(taking)
    frames, wrong, longest = (int(word) for word in (await said(watching)).split())
    assert frames >= (1 << 16) // 1460
    assert wrong == 0
    assert longest == 1514


async def test_a_host_with_a_new_address_is_there_and_at_the_old_one_nobody_is(network: Network) -> None:
    pi, lap = network["pi"], network["lap"]
    old = pi.addresses["eth"]
    new = await pi.new_address()
    assert new != old
    assert (await knock(lap, new)).output.startswith(b"ConnectionRefused")
    assert not (await knock(lap, old, "1")).output.startswith(b"ConnectionRefused")
    assert (await knock(lap, pi.addresses["wifi"])).output.startswith(b"ConnectionRefused")


async def test_a_host_with_two_links_goes_on_over_the_other_one(network: Network) -> None:
    pi, lap = network["pi"], network["lap"]
    await network.cut("pi.eth")
    assert (await knock(lap, pi.addresses["eth"], "1")).output.startswith(b"TimeoutError")
    assert (await knock(lap, pi.addresses["wifi"])).output.startswith(b"ConnectionRefused")
    with pytest.raises(ValueError, match=r"no line leads from pi\.eth to lap\.wifi"):
        await network.cut("pi.eth", "lap.wifi")


KILLED = """
import asyncio, sys, tempfile
from pathlib import Path
from hosts.network import emulated
async def main():
    with tempfile.TemporaryDirectory() as place:
        async with emulated(Path(place), "1", {"desk": ("eth",)}) as network:
            running = await network["desk"].begin("cat")
            print(network["desk"].pid, running.pid, flush=True)
            await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_nothing_is_left_when_the_run_is_killed(tmp_path: Path) -> None:
    if reason := unable():
        pytest.skip(reason)
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "TMPDIR": str(tmp_path)}
    run = await asyncio.create_subprocess_exec(PYTHON, "-c", KILLED, stdout=asyncio.subprocess.PIPE, env=environment)
    assert run.stdout is not None
    pids = [int(word) for word in (await run.stdout.readline()).split()]
    assert len(pids) == 2
    ends = [os.pidfd_open(pid) for pid in pids]
    try:
        run.send_signal(signal.SIGKILL)
        await run.wait()
        for ended in ends:
            # Whoever keeps a namespace ends, and with it the namespace and what is in it.
            assert await asyncio.to_thread(select.select, [ended], [], [], 60) == ([ended], [], [])
    finally:
        for ended in ends:
            os.close(ended)
