"""What is left of a session that is over: no domain, also where a start failed and no garbage was collected since."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from cognu.errors import FileError
from cognu.files.chan import Domain
from e2e.harness import Client
from guests import ENDLESS, command
from sessions import served


def domains() -> set[int]:
    """Of those in use, the kernel's numbers."""
    return {held.pid for held in gc.get_objects() if isinstance(held, Domain) and held.uses}


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("/mnt/host{place}/notes", {}), ("nosuch", {}), ("/mnt/host{place}/notes", {"grants": ["/nosuch r"]}),
        ("/mnt/host{place}/notes", {"on": "mars"}), ("/mnt/host{place}/notes", {"lines": ["limit memory 1000"]}),
        ("/mnt/host{place}/notes", {"lines": ["isolate"]}),
    ],
)  # fmt: skip
async def test_a_start_that_failed_leaves_nothing_to_the_garbage_collector(program: str, how: dict[str, Any]) -> None:
    async with served() as at:
        (at.place / "notes").write_text("no program")
        gc.collect()
        gc.disable()
        try:
            before = domains()
            client = await Client.connect(at.node.home.socket)
            with pytest.raises(FileError):
                await client.run(program.format(place=at.place), **how)
            assert domains() > before
            await client.close()
            await at.settle(lambda: domains() == before)
        finally:
            gc.enable()


FAILING = """\
run {place}/notes
run --grant {place}/nope:rw {place}/program
run --memory 1K {place}/program
run --cpu 0 {place}/program
cd {place}
run notes
cat /dev/nosuch /nosuch /proc/77/ctl
cd /dev
cat null
mkdir /tmp/d
cat /tmp/d/e /tmp/d/e/f > /tmp/d
"""
COMMAND = (sys.executable, "-c", "from cognu.cli.main import main; main()")


@pytest.mark.parametrize("killed", [False, True])
async def test_the_end_of_a_session_leaves_nothing_to_the_garbage_collector(killed: bool) -> None:
    """By the command itself: its terminal is a tree of its own, mounted in the session, that goes when it does."""
    async with served() as at:
        (at.place / "notes").write_text("no program")
        (at.place / "program").write_bytes(command(ENDLESS))
        gc.collect()
        gc.disable()
        try:
            before = domains()
            script = FAILING.format(place=f"/mnt/host{at.place}") + "echo done\n" + ("cat cons\n" if killed else "")
            child = await asyncio.create_subprocess_exec(
                *COMMAND, "sh", "-c", script,
                env={**os.environ, "COGNU_HOME": at.node.home.path}, stdin=PIPE, stdout=PIPE, stderr=PIPE,
            )  # fmt: skip
            assert child.stdout is not None
            assert await child.stdout.readline() == b"done\n"
            if killed:
                child.kill()
            _, err = await child.communicate(b"")
            assert err.count(b"\n") == 9, err.decode()
            await at.settle(lambda: domains() == before)
        finally:
            gc.enable()
