"""Machines with two links each, of which one is cut or loses its address; and machines that dial each other at once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from hosts.kit import MIB, sum_of, well, write_big
from hosts.network import Network
from mesh_support import two_nodes

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

MEGABYTES = 96
AT_ONCE = 100
NEAR, FAR = 0.005, 0.15
"""Seconds of delay, one way."""
FAR_RATE, FAR_MEGABYTES = 2e6, 32
"""Bytes a second, so that a copy takes a while."""


async def joined(network: Network) -> None:
    """lap knows pi by both of its addresses, and may read its files."""
    pi = network["pi"]
    pi.node.options = ("--host", pi.addresses["eth"], "--host", pi.addresses["wifi"])
    await network.start("lap", "pi")
    await network.join("pi", "lap", "read:{shared}")


async def seen_of(network: Network, here: str = "lap") -> dict[str, Any]:
    """What a machine says of the other."""
    async with network[here].node.client() as client:
        (row,) = await client.rpc("peers")
    assert isinstance(row, dict)
    return row


async def test_a_copy_goes_on_over_the_other_link_when_one_is_cut(network: Network) -> None:
    lap, pi = network["lap"], network["pi"]
    await joined(network)
    digest = write_big(pi.shared / "big", MEGABYTES)
    copying = await lap.node.begin("sh", "-c", f"cp /n/pi{pi.shared}/big {lap.shared}/big")
    await network.carried("pi", "lap", MEGABYTES * MIB // 3)
    used = (await seen_of(network))["address"].partition(":")[0]
    link, other = ("eth", "wifi") if used == pi.addresses["eth"] else ("wifi", "eth")
    assert used == pi.addresses[link]
    assert copying.returncode is None
    await network.cut(f"lap.{link}")
    assert await well(copying) == b""  # it is cut still
    assert sum_of(lap.shared / "big") == digest
    row = await seen_of(network)
    assert row["connected"]
    assert row["address"].startswith(pi.addresses[other] + ":")
    await network.mend(f"lap.{link}")


async def test_a_link_whose_interface_loses_its_address_is_left_for_the_other(network: Network) -> None:
    lap, pi = network["lap"], network["pi"]
    await joined(network)
    (pi.shared / "note").write_text("here\n")
    async with lap.node.client() as here:
        held = await here.open(f"/n/pi{pi.shared}/note")
        used = (await seen_of(network))["address"].partition(":")[0]
        link, other = ("eth", "wifi") if used == pi.addresses["eth"] else ("wifi", "eth")
        await lap.ip("address", "flush", "dev", link, "scope", "global")
        assert await here.list(f"/n/pi{pi.shared}") == ["note"]  # far away, and answered
        # Linux answers for its addresses on all its links, so lap may have dialled either; it came by the other one.
        assert (await seen_of(network, "pi"))["address"].startswith(lap.addresses[other] + ":")
        held.close()


async def test_machines_with_ipv6_addresses_alone_join_and_talk(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    for number, host in enumerate((desk, pi), 1):
        for link in host.addresses:
            await host.ip("-4", "address", "flush", "dev", link)
        await host.ip("address", "add", f"fd77::{number}/64", "dev", "eth", "nodad")
    await network.start("desk", "pi")
    await network.join("pi", "desk", "read:{shared}")
    (pi.shared / "note").write_text("here\n")
    assert await well(await desk.node.begin("sh", "-c", f"cat /n/pi{pi.shared}/note")) == b"here\n"
    async with pi.node.client() as client:
        assert (await client.rpc("status"))["listen"].startswith("*:")
    assert (await seen_of(network, "desk"))["address"].startswith("[fd77::2]:")
    # By multicast DNS each knows the other's new address too, once the one that both had is gone.
    for number, host in enumerate((desk, pi), 1):
        await host.ip("address", "add", f"fd77::a{number}/64", "dev", "eth", "nodad")
        await host.ip("address", "delete", f"fd77::{number}/64", "dev", "eth")
    assert await well(await desk.node.begin("sh", "-c", f"cat /n/pi{pi.shared}/note")) == b"here\n"
    # Two machines on a cable have nothing else than the addresses of that link.
    for host in (desk, pi):
        await host.ip("-6", "address", "flush", "dev", "eth", "scope", "global")
    assert await well(await desk.node.begin("sh", "-c", f"cat /n/pi{pi.shared}/note")) == b"here\n"
    assert (await seen_of(network, "desk"))["address"].startswith("[fe80::")


FOLLOW = """
import asyncio
from cognu.mesh import roaming
from cognu.world.real import real_world

async def main():
    roaming.LOOK_SECONDS = 1e6  # no look is due before the test is over
    world = real_world()
    network = world.network
    changed = lambda gone: print("changed", *sorted(gone), flush=True)
    roaming.Roaming(world, network.interfaces, changed, None, network.follow).begin()
    print("begun", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_new_address_is_acted_on_when_the_host_says_so_and_no_look_is_due(network: Network) -> None:
    pi = network["pi"]
    before = pi.addresses["eth"]
    following = await pi.begin(sys.executable, "-c", FOLLOW)
    try:
        assert following.stdout is not None
        assert await following.stdout.readline() == b"begun\n"
        await pi.new_address("eth")
        assert await following.stdout.readline() == f"changed {before}\n".encode()
    finally:
        following.terminate()
        await following.communicate()


async def test_a_copy_goes_over_to_a_nearer_way_that_comes_up(network: Network) -> None:
    """Each way has a delay of its own. The near one is cut until the link is up by the far one, with a copy on it."""
    lap, pi = network["lap"], network["pi"]
    await network.set("lap.eth", "pi.eth", delay=FAR, rate=FAR_RATE)
    await network.set("lap.wifi", "pi.wifi", delay=NEAR, cut=True)
    await joined(network)
    digest = write_big(pi.shared / "big", FAR_MEGABYTES)
    copying = await lap.node.begin("sh", "-c", f"cp /n/pi{pi.shared}/big {lap.shared}/big")
    await network.carried("pi.eth", "lap.eth", MIB)
    assert (await seen_of(network))["address"].startswith(pi.addresses["eth"] + ":")
    await network.mend("lap.wifi", "pi.wifi")
    # A nearer way is looked for a while after a link came up, and when this machine has another address.
    await lap.ip("address", "add", "10.77.9.1/32", "dev", "lo")
    copied = asyncio.create_task(well(copying))
    over = asyncio.create_task(network.carried("pi.wifi", "lap.wifi", FAR_MEGABYTES * MIB // 2))
    await asyncio.wait({copied, over}, return_when=asyncio.FIRST_COMPLETED)
    over.cancel()
    assert await copied == b""
    assert sum_of(lap.shared / "big") == digest
    row = await seen_of(network)
    assert row["address"].startswith(pi.addresses["wifi"] + ":")
    [reserve] = [other for other in row["reserves"] if other["address"].startswith(pi.addresses["eth"] + ":")]
    assert not reserve["failed"]  # it was left for the other, not lost
    assert (await network.counts("pi.wifi", "lap.wifi")).bytes > FAR_MEGABYTES * MIB // 2


async def test_two_that_dial_each_other_at_once_a_hundred_times_have_one_link_each_time(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        channel = await a.mesh.open("b", "echo")
        sessions = [*a.mesh._sessions.values(), *b.mesh._sessions.values()]
        ways = set()
        for number in range(AT_ONCE):
            for session in sessions:
                session.cut_link()
            await asyncio.gather(a.mesh.connect("b"), b.mesh.connect("a"))
            data = number.to_bytes(8, "big")
            await channel.write(data)
            assert await channel.read(8) == data
            ways.add(a.mesh.status()[0].link.dialled)
        for _ in range(AT_ONCE):  # what crossed has settled
            await channel.write(b"x")
            assert await channel.read(1) == b"x"
        of_a, of_b = a.mesh.status()[0].link, b.mesh.status()[0].link
        assert (of_a.local, of_a.address) == (of_b.address, of_b.local)
        assert [*a.mesh._sessions.values(), *b.mesh._sessions.values()] == sessions
        assert all(session.core.alive for session in sessions)
