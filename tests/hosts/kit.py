"""What tests on hosts do: files that are made and compared, commands that must succeed, somebody at a terminal."""

from __future__ import annotations

import os
from asyncio.subprocess import Process
from hashlib import blake2b
from pathlib import Path

from e2e.typing import Terminal
from hosts.network import Host, Network

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


async def well(command: Process) -> bytes:
    """The output of a command that must succeed."""
    out, err = await command.communicate()
    assert (command.returncode, err) == (0, b""), err.decode()
    return out


def at_terminal(host: Host, *words: str) -> Terminal:
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    return Terminal(host.node.argv(*words), {**kept, "HOME": str(host.shared), "TERM": "xterm"}, host.shared)
