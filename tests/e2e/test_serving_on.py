"""`run --serve`: a program on another machine that serves files here, and the name in /srv when its shell is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognu.errors import E
from e2e.harness import Client, pair, refused, until
from programs.build import build


@pytest.mark.long
async def test_a_program_on_another_machine_serves_files_here(place: Path) -> None:
    (place / "memfs.wasm").write_bytes(build("memfs"))
    async with pair(place, "run") as two:
        lines = (
            "mkdir -p /tmp/mem",
            "run --on pi --serve mem memfs.wasm; echo $?",
            "mount -c /srv/mem /tmp/mem",
            "echo hello > /tmp/mem/a; cat /tmp/mem/a; ls /tmp/mem",
            "jobs",
            "kill %1; wait %1; ls /srv; ls /tmp/mem",
        )
        done = await two.desk.command("sh", "-c", "\n".join(lines), cwd=place)
        said = [b"0", b"hello", b"a", b"[1] running  run --on pi --serve mem memfs.wasm"]
        assert done.output.splitlines() == said
        assert done.errors == f"ls: /tmp/mem: {E.CONNRESET.text}\n".encode()
        async with two.pi.client() as pi:
            await until(pi, lambda: not_there(pi))
            await pi.rpc("revoke", peer="desk", grant="run")
        done = await two.desk.command("sh", "-c", "run --on pi --serve mem memfs.wasm; echo $?; ls /srv", cwd=place)
        assert done.output == b"126\n"
        assert b"does not let this machine run programs" in done.errors


async def not_there(pi: Client) -> bool:
    """Whether no program is left."""
    numbers = [name for name in await pi.list("/proc") if name.isdigit()]
    return not [name for name in numbers if b"memfs" in await pi.read(f"/proc/{name}/args")]


async def test_a_shell_that_is_killed_leaves_no_name_behind(place: Path) -> None:
    (place / "memfs.wasm").write_bytes(build("memfs"))
    async with pair(place) as two, two.desk.client() as desk:
        shell = await two.desk.begin("sh", "-c", "run --serve mem memfs.wasm; echo $?; cat", cwd=place)
        assert shell.stdout is not None
        assert await shell.stdout.readline() == b"0\n"
        assert await desk.list("/srv") == ["mem"]
        shell.kill()
        await shell.wait()
        assert shell.stdin is not None
        shell.stdin.close()

        async def is_gone() -> bool:
            return await desk.list("/srv") == []

        await until(desk, is_gone)
        await refused(desk.open("/srv/mem"), E.NOENT)
