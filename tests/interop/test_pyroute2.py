"""The 9P2000 client of pyroute2 (docs.pyroute2.org/plan9.html), from PyPI, at a node's own socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pyroute2.plan9 import msg_tclunk, msg_topen
from pyroute2.plan9.client import Plan9ClientSocket

from cognu.ninep.types import OREAD, OTRUNC, OWRITE
from e2e.harness import LOOPBACK, NodeProcess, end, until
from sessions import short_place

pytestmark = pytest.mark.interop

TEXT = b"written by another client\n" * 200


@pytest.fixture
def tree() -> Iterator[Path]:
    with short_place() as path:
        (path / "file").write_bytes(b"before")
        yield path


@asynccontextmanager
async def session(address: str) -> AsyncIterator[Any]:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    connection.setblocking(False)
    client = Plan9ClientSocket(use_socket=connection, use_event_loop=asyncio.get_running_loop())
    try:
        await client.start_session()
        yield client
    finally:
        client.transport.abort()  # its own close() fails where it was given a loop


async def opened(client: Any, path: Path, mode: int) -> int:
    """A fid, open: this client walks, reads and writes, and leaves opening to its caller."""
    fid: int = await client.fid(str(path).lstrip("/"))
    message = msg_topen()
    message["fid"], message["mode"] = fid, mode
    await client.request(message)
    return fid


async def clunk(client: Any, fid: int) -> None:
    message = msg_tclunk()
    message["fid"] = fid
    await client.request(message)


async def test_it_writes_a_file_and_reads_it_back(tree: Path) -> None:
    node = NodeProcess(tree / "home", "desk", *LOOPBACK)
    try:
        await node.start()
        async with session(node.socket) as client:
            fid = await opened(client, tree / "file", OWRITE | OTRUNC)
            assert (await client.write(fid, TEXT))["count"] == len(TEXT)
            await clunk(client, fid)
        assert (tree / "file").read_bytes() == TEXT
        async with session(node.socket) as client:
            fid = await opened(client, tree / "file", OREAD)
            assert bytes((await client.read(fid, count=len(TEXT)))["data"]) == TEXT
        async with node.client() as ours:

            async def alone() -> bool:
                """It left no session behind."""
                return bool((await ours.rpc("status"))["processes"] == 2)

            await until(ours, alone)
    finally:
        await end(node)
