"""The devices of real nodes: what is done to processes near and far, limits of peers, calls from outside, the log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cognu.errors import E
from cognu.files.limits import PEER_LIMITS, Resource
from cognu.ninep.types import ORDWR, OREAD
from cognu.shell.hostpaths import DEVICES
from e2e.harness import LOOPBACK, Client, NodeProcess, end, pair, refused, until
from programs.build import build


async def status(client: Client, pid: str | int) -> dict[str, str]:
    text = (await client.read(f"/proc/{pid}/status")).decode()
    return dict(line.split(" ", 1) for line in text.splitlines())


async def running_for_a_peer(client: Client) -> str:
    """The pid of the one program that a peer runs on the client's node."""
    pids = [pid for pid in await client.list("/proc") if pid.isdigit()]
    [found] = [pid for pid in pids if "utime" in await status(client, pid)]
    return found


async def test_what_is_done_to_a_far_process_is_done_over_there(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        await desk.put(build("spin"), "spin.wasm")
        running = await desk.start("spin.wasm", on="pi", lines=["pri 300", "limit cpu 600000000000"])
        far = await running_for_a_peer(pi)
        there = await status(pi, far)
        assert (there["weight"], there["limit.cpu"].split("/")[1]) == ("300", "600000000000")
        # A peer's limits hold for what it starts.
        memory = PEER_LIMITS[Resource.MEMORY]
        assert there["limit.memory"].endswith(f"/{memory}")
        await running.tell("stop")
        assert (await status(desk, running.pid))["state"] == "Stopped"

        async def state(expected: str) -> None:
            async def so() -> bool:
                return (await status(pi, far))["state"] == expected

            await until(pi, so)

        await state("Stopped")
        await running.tell("start")
        await state("Running")
        await running.tell("limit cpu 1")
        ended = await running.end()
        assert ended.status == 128 + 9
        assert E.CPULIMIT.text in ended.message
        assert (await status(pi, await pi.pid()))["limit.cpu"] == "0/-"


async def test_a_peer_may_dial_but_not_announce_and_its_node_takes_calls(place: Path) -> None:
    async with pair(place, "net") as two, two.desk.client() as desk, two.pi.client() as pi:
        ctl = await desk.open("/n/pi/net/tcp/clone", ORDWR)
        await refused(ctl.write(b"announce *!0"), E.ACCES, "the grant net")
        ctl.close()
        announced = await pi.open("/net/tcp/clone", ORDWR)
        number = (await announced.read()).decode()
        await pi.mount.write(announced.fid, 0, b"announce 127.0.0.1!0")
        address = (await pi.read(f"/net/tcp/{number}/local")).decode().strip()
        calling = asyncio.create_task(desk.dial("tcp", address, "/n/pi/net"))
        call = await pi.open(f"/net/tcp/{number}/listen", ORDWR)
        data = await pi.open(f"/net/tcp/{(await call.read()).decode()}/data", ORDWR)
        near = await calling
        await near.write(b"from desk")
        assert await data.read() == b"from desk"
        for file in (announced, call, data, near):
            file.close()


async def test_the_log_the_drivers_and_top(place: Path) -> None:
    node = NodeProcess(place / "home", "desk", *LOOPBACK)
    try:
        await node.start()
        async with node.client() as client:
            assert (await client.read("/dev/sysname")) == b"desk"
            assert set(await client.list("/dev")) == DEVICES
            drivers = (await client.read("/dev/drivers")).decode().splitlines()
            assert {"#c cons", "#p proc", "#I ip", "#k log"} <= set(drivers)
            assert not any(line.endswith(" -") for line in drivers)
            kept = [json.loads(line) for line in (await client.read("/dev/kmesg")).splitlines()]
            assert any("serves" in line["message"] for line in kept)
            log = await client.open("/dev/log", OREAD)
            seen = b""
            while seen.count(b"\n") < len(kept):
                seen += await log.read()
            following = asyncio.create_task(log.read())
            _, nonsense = await asyncio.open_unix_connection(node.socket)
            nonsense.write(bytes(64))
            line = json.loads((await following).splitlines()[0])
            assert (line["level"], line["logger"]) == ("warning", "cognu.export")
            nonsense.close()
            await nonsense.wait_closed()
            log.close()
            table = (await node.command("top", "-n", "1")).output.decode().splitlines()
            assert table[0].split()[:4] == ["PID", "USER", "STATE", "CPU%"]
            assert any(line.endswith(" node") for line in table)
    finally:
        await end(node)
