"""Permissions of files that are made and copied, near and far: what the host says of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognu.errors import E
from e2e.harness import pair


def modes(directory: Path) -> dict[str, int]:
    return {name: stat.S_IMODE(os.stat(directory / name).st_mode) for name in sorted(os.listdir(directory))}


@pytest.fixture(params=[0o077, 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of whoever types `cognu up`."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


async def test_what_is_made_copied_and_moved_is_as_private_as_it_was(place: Path, umask: int) -> None:
    async with pair(place, "write:{shared}") as two:
        near, far = two.notes, two.shared
        for directory in (near, far):
            os.chmod(directory, 0o1777)
        (near / "tree").mkdir(mode=0o700)
        for name, mode in (("key", 0o600), ("open", 0o644), ("program", 0o755), ("tree/key", 0o400)):
            (near / name).write_text("x")
            os.chmod(near / name, mode)
        there = f"/n/pi{far}"
        script = f"""cd /mnt/host{near}
            echo secret > made; echo > new; mkdir dir
            cp key {there}/copied; cp program prog2; cp -r tree {there}/tree
            mv open {there}/open; mv key {there}/key
            chmod 640 made"""
        done = await two.desk.command("sh", "-c", script)
        assert (done.status, done.errors) == (0, b"")
        assert modes(near) == {
            "dir": 0o777 & ~umask, "made": 0o640, "new": 0o666 & ~umask, "prog2": 0o755 & ~umask,
            "program": 0o755, "tree": 0o700,
        }  # fmt: skip
        found = modes(far)
        assert {name: found[name] for name in ("copied", "open", "key", "tree")} == {
            "copied": 0o600, "open": 0o644, "key": 0o600, "tree": 0o700,
        }  # fmt: skip
        assert modes(far / "tree") == {"key": 0o400}
        refused = await two.desk.command("sh", "-c", "rm -r /n/pi")
        assert (refused.status, E.MOUNTPOINT.text.encode() in refused.errors) == (1, True)
        assert (far / "key").read_text() == "x"
