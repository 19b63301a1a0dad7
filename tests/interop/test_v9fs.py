"""Linux's own 9P client (v9fs), in a machine of its own, on a directory of the host that is served in each dialect."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cognu.devices.host import HostServer
from cognu.files.export import Export
from cognu.world import Stream
from cognu.world.net import RealNetwork
from cognu.world.real import real_world
from e2e.harness import NodeProcess, end, log_trouble
from interop.v9fs import results, run
from joined import attach_to
from serving import KeepingTree, Node

pytestmark = [pytest.mark.interop, pytest.mark.timeout(1700)]

PAGE = Path(__file__).parents[2] / "docs/9p-linux.md"
SECONDS = 1500
"""For all of it; an idle machine needs a minute or two."""
MAPPING = {"create-write-read": "yes", "map-private": "yes", "map-shared": "yes", "execute": "yes"}
ERRORS = {**errno.errorcode, errno.ENOTSUP: "ENOTSUP"}  # which has two names
ALWAYS = {"mount": "yes", "unmount": "yes"}


@pytest.fixture
def work() -> Iterator[Path]:
    """Outside of /tmp, which nodes have for themselves."""
    path = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    (path / "tree").mkdir()
    (path / "files/deep").mkdir(parents=True)
    (path / "files/text").write_bytes(b"near and far\n")
    (path / "files/deep/leaf").write_bytes(b"leaf\n")
    yield path
    shutil.rmtree(path)


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[str]:
    """The port at which anybody may change what is in `path`. Afterwards no handle of the host is left open."""
    before = len(os.listdir("/dev/fd"))
    tree = KeepingTree(str(path))
    server = HostServer(real_world(), tree)

    async def accept(stream: Stream) -> None:
        process = await Node(server).start()
        try:
            await Export(stream, process, attach_to(process)).serve()
        finally:
            process.namespace.release()
            process.cwd.close()
            gc.collect()
            process.namespace.domain.authority.close_orphans()

    listener = await RealNetwork().listen_tcp("127.0.0.1:0", accept)
    try:
        yield listener.address.rpartition(":")[2]
    finally:
        await listener.close()
        tree.close()
    assert len(os.listdir("/dev/fd")) == before, "a handle of the host is left open"


def told() -> dict[str, dict[str, str]]:
    """What the page says, by mount and check."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return {mount: {row[0]: row[at] for row in rows[1:]} | ALWAYS for at, mount in enumerate(rows[0]) if at}


def said(what: str) -> str:
    """What a result is called on the page."""
    words = what.split()
    if words[0] != "errno":
        return "yes" if what == "ok" else what
    number = int(words[1].rstrip(":"))
    return ERRORS.get(number, str(number)) if number else "no"


async def test_linux_does_with_our_files_what_the_page_says(work: Path) -> None:
    node = await NodeProcess(work / "home", "desk", "--listen", "127.0.0.1:0").start()
    try:
        async with node.client() as client, served(work / "tree") as port:
            listening = await client.rpc("listen", address="127.0.0.1:0", path=str(work / "files"))
            at = listening["address"].rpartition(":")[2]
            text = await run(work, {"served": port, "listened": at, "token": listening["token"]}, SECONDS)
    finally:
        await end(node)
    found = results(text)
    happened = {mount: {check: said(what) for check, what in checks.items()} for mount, checks in found.items()}
    expected = told() | {
        "mapped": MAPPING | ALWAYS,
        "loose": MAPPING | ALWAYS,
        "listened": {"read": "yes", "change-nothing": "yes"} | ALWAYS,
        "guessed": {"mount": "EACCES"},
        "all": {"done": "yes"},
    }
    assert happened == expected, text
    assert log_trouble(node) == []
