"""Machines on one network find each other by multicast DNS, on hosts of their own."""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hosts.network import Host, Network

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

Rows = list[dict[str, Any]]


class Live:
    """`cognu peers -w --json` at a host: what it shows, line by line."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def until(self, so: Callable[[Rows], bool]) -> Rows:
        """The first picture in which it is so. Nothing is asked for: it must be told."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            rows: Rows = json.loads(line)
            if so(rows):
                return rows
        raise AssertionError("it ended")


@asynccontextmanager
async def live(host: Host, *more: str) -> AsyncIterator[Live]:
    process = await host.node.begin("peers", "-w", "--json", *more)
    try:
        yield Live(process)
    finally:
        process.terminate()
        await process.communicate()


def addresses(rows: Rows) -> set[str]:
    return {address.rpartition(":")[0] for row in rows for address in row["addresses"]}


async def test_three_hosts_find_each_other_without_names_and_one_that_goes_is_gone(network: Network) -> None:
    desk, pi, lap = (network[name] for name in ("desk", "pi", "lap"))
    await network.start("desk", "pi", "lap")
    async with live(desk, "--near") as seen:
        rows = await seen.until(lambda rows: {pi.addresses["eth"], lap.addresses["eth"]} <= addresses(rows))
        wifi = {pi.addresses["wifi"], lap.addresses["wifi"]}
        assert not wifi & addresses(rows), "desk is not on that network, so nobody says there where he is on it"
        async with live(lap, "--near") as both:
            await both.until(lambda rows: set(pi.addresses.values()) <= addresses(rows))
        assert all((row["peer"], row["name"], row["number"]) == ("", "", "") for row in rows)
        for secret in ("pi", "lap", (await pi.node.command("status")).output.decode().split()[1]):
            assert secret not in json.dumps(rows)
        await lap.node.stop()
        await seen.until(lambda rows: lap.addresses["eth"] not in addresses(rows))
    shown = (await desk.node.command("peers", "--near")).output.decode()
    assert pi.addresses["eth"] in shown
    assert "not joined" in shown


async def test_two_peers_that_both_get_other_addresses_at_once_find_each_other_again(network: Network) -> None:
    """Neither knows where the other is then: the book of each has an address that is nobody's."""
    desk, pi = network["desk"], network["pi"]
    for host in (desk, pi):
        for link in host.addresses:  # those of one link would stay
            await host.ip("-6", "address", "flush", "dev", link)
    await network.start("desk", "pi")
    await network.join("pi", "desk", "read:{shared}")
    (pi.shared / "notes").write_text("found again\n")
    async with live(desk) as seen:
        await seen.until(lambda rows: bool(rows) and rows[0]["connected"] and rows[0]["near"])
        reading = await desk.node.begin("sh", "-c", f"tail -f /n/pi{pi.shared}/notes")
        assert reading.stdout is not None
        assert await reading.stdout.readline() == b"found again\n"
        await network.cut("desk", "pi")
        new = [await host.new_address(link) for host in (desk, pi) for link in host.addresses]
        await network.mend("desk", "pi")
        at_new = [at for at in new if at in pi.addresses.values()]
        await seen.until(lambda rows: rows[0]["connected"] and rows[0]["address"].rpartition(":")[0] in at_new)
        (pi.shared / "notes").write_text("found again\nand again\n")
        assert await reading.stdout.readline() == b"and again\n"
        reading.terminate()
        await reading.communicate()


async def test_a_peer_is_told_from_a_stranger_and_a_new_name_is_in_force_at_once(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    await network.start("desk", "pi", "lap")
    await network.join("pi", "desk", "read:{shared}")
    (pi.shared / "notes").write_text("lent\n")
    async with live(desk) as seen, live(desk, "--near") as near:
        await seen.until(lambda rows: bool(rows) and rows[0]["near"])
        lap = network["lap"].addresses["eth"]
        found = await near.until(lambda rows: lap in addresses(rows) and pi.addresses["eth"] not in addresses(rows))
        assert len(found) == 1
        renamed = await desk.node.command("peers", "rename", "pi", "attic")
        assert (renamed.status, renamed.output) == (0, b"pi is attic from now on, at /n/attic\n")
        await seen.until(lambda rows: rows[0]["name"] == "attic")
    read = await desk.node.command("sh", "-c", f"ls /n; cat /n/attic{pi.shared}/notes")
    assert read.output == b"attic\nlent\n"


async def test_two_machines_of_one_name_are_two_rows_named_only_while_they_pair(network: Network) -> None:
    twins = [network[name] for name in ("pi", "lap")]
    for twin in twins:
        twin.node.name = "twin"
    await network.start("desk", "pi", "lap")
    async with live(network["desk"], "--near") as seen:
        both = {twin.addresses["eth"] for twin in twins}
        rows = await seen.until(lambda rows: both <= addresses(rows))
        assert len({row["instance"] for row in rows}) == len(rows) == 2
        pairing = [await twin.node.begin("pair", "--yes") for twin in twins]
        named = await seen.until(lambda rows: [row["name"] for row in rows] == ["twin", "twin"])
        joining = {address.rpartition(":")[0] for row in named for address in row["joining"]}
        assert both <= joining
        for process in pairing:
            process.send_signal(signal.SIGINT)
            await process.communicate()
        await seen.until(lambda rows: {row["name"] for row in rows} == {""})


async def test_where_it_is_off_nothing_is_heard(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    pi.node.options = ("--discovery", "off")
    await network.start("desk", "pi", "lap")
    async with live(desk, "--near") as seen:
        rows = await seen.until(lambda rows: network["lap"].addresses["eth"] in addresses(rows))
        assert pi.addresses["eth"] not in addresses(rows)
    bound = (await pi.run("cat", "/proc/net/udp", "/proc/net/udp6")).output.decode()
    assert ":14E9 " not in bound, "a socket on port 5353"
    said = await pi.node.command("peers", "--near")
    assert said.output == b"discovery is off, so nobody is looked for; settings(5) has it\n"
    await asyncio.gather(*(network[name].node.stop() for name in ("desk", "pi", "lap")))
