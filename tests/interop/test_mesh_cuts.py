"""The network between machines goes dead in the middle of things, and comes back: on hosts of their own.

Where a test sleeps, that is the fault itself and not a wait for something.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from pathlib import Path

import pytest

from hosts.network import Network

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]

MIB = 1 << 20


def write_big(path: Path, megabytes: int) -> str:
    """A file in which no megabyte is like another; its checksum."""
    digest = blake2b()
    with open(path, "wb") as big:
        for megabyte in range(megabytes):
            data = blake2b(megabyte.to_bytes(8, "big"), digest_size=64).digest() * (MIB // 64)
            big.write(data)
            digest.update(data)
    return digest.hexdigest()


def sum_of(path: Path) -> str:
    digest = blake2b()
    with open(path, "rb") as big:
        while data := big.read(MIB):
            digest.update(data)
    return digest.hexdigest()


async def joined(network: Network, *grants: str) -> None:
    """desk and pi run, and pi lends desk these."""
    await network.start("desk", "pi")
    await network.join("pi", "desk", *grants)


async def test_a_write_over_a_line_that_is_dead_for_40_seconds_ends_with_every_byte(network: Network) -> None:
    desk, pi = network["desk"], network["pi"]
    await joined(network, "write:{shared}")
    digest = write_big(desk.shared / "big", 128)
    writing = await desk.node.begin("sh", "-c", f"cp {desk.shared}/big /n/pi{pi.shared}/big")
    await network.carried("desk", "pi", 16 * MIB)
    await network.cut("desk", "pi")
    await asyncio.sleep(40)
    assert writing.returncode is None
    for a, b in (("desk", "pi"), ("pi", "desk")):
        assert (await network.counts(a, b)).stopped > 0
    await network.mend("desk", "pi")
    assert await writing.communicate() == (b"", b"")
    assert await writing.wait() == 0
    assert sum_of(pi.shared / "big") == digest
