"""A machine that may read all of another still can't read what gives it away: its key, its memory, its environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cognu.errors import FileError
from cognu.ninep.types import QTDIR
from e2e.harness import Client, join, pair

SHOWN = "this is there to be read"


async def contents(client: Client, top: str, without: set[str]) -> dict[str, bytes]:
    """All files below a directory that can be read, by path; links are not followed."""
    found: dict[str, bytes] = {}
    for name in await client.list(top):
        path = f"{top}/{name}"
        if path in without:
            continue
        try:
            if (await client.stat(path)).qid.type & QTDIR:
                found.update(await contents(client, path, without))
            else:
                found[path] = await client.read(path)
        except FileError as error:
            found[path] = str(error).encode()
    return found


async def test_who_may_read_everything_finds_no_key_by_any_way(place: Path) -> None:
    async with pair(place) as two:
        shared, home, pid = two.shared, two.pi.home, two.pi.pid
        key = (home / "identity").read_bytes()
        (shared / "plain").write_text(SHOWN)
        (shared / "hard").hardlink_to(home / "identity")
        for name, target in {
            "soft": home / "identity", "home": home, "root": f"/proc/{pid}/root", "cwd": f"/proc/{pid}/cwd",
            "mem": f"/proc/{pid}/mem", "self": "/proc/self/mem", "fds": "/dev/fd", "stdin": "/dev/stdin",
            "environ": f"/proc/{pid}/environ", "hostself": "/mnt/host/proc/self/environ",
        }.items():  # fmt: skip
            (shared / name).symlink_to(str(target))
        await join(two.pi, two.desk, "read:/", "run")
        async with two.desk.client() as desk:
            top = f"/n/pi{shared}"
            assert await desk.read(f"{top}/plain") == SHOWN.encode()
            assert await desk.read(f"/n/pi/mnt/host{shared}/plain") == SHOWN.encode()
            assert "hard" not in await desk.list(top)
            links = ("soft", "home/identity", "root", f"root{home}/identity", "cwd", "mem", "self", "fds/0", "stdin",
                     "environ", "hostself", "hard")  # fmt: skip
            ways = [f"{top}/{name}" for name in links] + [f"/n/pi/mnt/host{shared}/{name}" for name in links]
            for process in (str(pid), "self", "thread-self", str(os.getpid()), "1"):
                for name in ("mem", "environ", "maps", "auxv", "cmdline", "fd/0", "fdinfo/0", f"root{home}/identity",
                             f"cwd{home}/identity", "task", f"task/{pid}/mem", "map_files"):  # fmt: skip
                    ways.append(f"/n/pi/mnt/host/proc/{process}/{name}")
            ways += [f"/n/pi/mnt/host/proc/{name}" for name in ("kcore", "kmsg", "kallsyms", "keys")]
            ways += [f"/n/pi{prefix}/dev/fd/{number}" for prefix in ("", "/mnt/host") for number in range(12)]
            ways += [f"/n/pi{prefix}{home}{name}" for prefix in ("", "/mnt/host") for name in ("", "/identity", "/log")]
            ways += [f"/n/pi/mnt/host/dev/{name}" for name in ("mem", "kmem", "port", "stdin", "stdout")]
            for way in ways:
                with pytest.raises(FileError):
                    await desk.read(way)
            assert "proc" not in await desk.list("/n/pi/mnt/host")
            # And everything that is there, by listing: none of it holds a line of the key.
            secret = key.splitlines()[1]
            mine = f"/n/pi/mnt/host{two.desk.home}"
            found = await contents(desk, f"/n/pi/mnt/host{place}", {mine})
            assert SHOWN.encode() in found.values()
            assert not [path for path, data in found.items() if secret in data]


async def test_who_may_write_everything_moves_no_secret_into_the_open(place: Path) -> None:
    async with pair(place) as two:
        home = two.pi.home
        key = (home / "identity").read_bytes()
        await join(two.pi, two.desk, "write:/")
        async with two.desk.client() as desk:
            above = await desk.walk(f"/n/pi/mnt/host{place}")
            to = await desk.walk(f"/n/pi/mnt/host{two.shared}")
            with pytest.raises(FileError):
                await desk.mount.rename(above, home.name, to, "moved")
            with pytest.raises(FileError):
                await desk.mount.rename(to, "none", above, home.name)
            with pytest.raises(FileError):
                await desk.walk(f"/n/pi/mnt/host{home}/identity")
            desk.mount.clunk(above)
            desk.mount.clunk(to)
        assert (home / "identity").read_bytes() == key
        assert os.listdir(two.shared) == []
