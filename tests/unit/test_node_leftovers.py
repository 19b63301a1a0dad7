"""What is left of a session that is over: no domain, also where a start failed and no garbage was collected since."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from cognu.errors import FileError
from cognu.files.chan import Domain
from e2e.harness import Client
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
