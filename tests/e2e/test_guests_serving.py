"""Programs that serve files: posted in /srv and mounted; and what one that misbehaves can do, which is its own mount's
ruin alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cognu.cli.addresses import parse_address
from cognu.cli.remote import How, attached
from cognu.errors import E, FileError
from cognu.ninep.types import DMDIR, ORDWR, OREAD, SetStat
from cognu.shell.program import Start, connect
from cognu.shell.system import Child, Program, RunOptions
from e2e.harness import Client, NodeProcess, daemon, end, refused, until
from programs.build import build
from sessions import short_place

AT = "/tmp/mem"


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    """One for all tests, with programs beside its home."""
    with short_place() as path:
        put_programs(path)
        with daemon(path) as made:
            yield made


def put_programs(place: Path) -> None:
    for name in ("memfs", "badserver", "wc"):
        (place / f"{name}.wasm").write_bytes(build(name))


async def shell(node: NodeProcess, *lines: str) -> tuple[str, str]:
    """What a shell prints, and says of errors, that is given these lines where the programs are."""
    done = await node.command("sh", "-c", "\n".join(lines), cwd=node.home.parent)
    return done.output.decode(), done.errors.decode()


@asynccontextmanager
async def served(node: NodeProcess, program: str, *args: str) -> AsyncIterator[tuple[Client, Child]]:
    """A program of a session serves as `mem`; a client of another session, where it is not mounted yet."""
    async with node.client() as client:
        session = await connect(Start(node.socket))
        try:
            theirs, posting = await session.post("mem")
            quiet = await session.open("/dev/null", "w")
            file = Program(f"{node.home.parent}/{program}.wasm")
            child = await session.start(file, [program, *args], {}, theirs, theirs, quiet, RunOptions())
            for stream in (theirs, quiet):
                await stream.close()
            await make_place(client)
            yield client, child
            await posting.close()
        finally:
            await session.close()


async def make_place(client: Client) -> None:
    if "mem" not in await client.list("/tmp"):
        (await client.create(AT, DMDIR | 0o777, OREAD)).close()


async def mounted(client: Client) -> None:
    """Mount `mem` for this client."""
    await client.change_ns(f"mount -c /srv/mem {AT}\n")


# -- one that behaves -------------------------------------------------------------------------------------------------


async def test_a_program_in_c_serves_files_that_the_shell_and_other_programs_use(node: NodeProcess) -> None:
    place = node.home.parent
    out, err = await shell(
        node,
        "mkdir -p /tmp/mem",
        "run --serve mem memfs.wasm; echo $?",
        "ls /srv",
        "mount -c /srv/mem /tmp/mem",
        "echo hello there > /tmp/mem/a",
        "mkdir /tmp/mem/d",
        f"cp {place}/memfs.wasm /tmp/mem/d/big",
        f"cat /tmp/mem/d/big > {place}/copy",
        "wc -w < /tmp/mem/a",
        "run wc.wasm /tmp/mem/a",
        "mv /tmp/mem/a /tmp/mem/b; ls /tmp/mem",
        "echo more >> /tmp/mem/b; cat /tmp/mem/b",
        "rm -r /tmp/mem/d; ls /tmp/mem",
        "cat /tmp/mem/none",
        "jobs",
        "unmount /tmp/mem; ls /tmp/mem",
    )  # fmt: skip
    assert out.splitlines() == [
        "0", "mem", "2", "1 2 12 /tmp/mem/a", "b", "d", "hello there", "more", "b",
        "[1] running  run --serve mem memfs.wasm",
    ]  # fmt: skip
    assert err == f"cat: /tmp/mem/none: {E.NOENT.text}\n"
    assert (place / "copy").read_bytes() == (place / "memfs.wasm").read_bytes()
    out, _ = await shell(node, "ls /srv; ps")  # it ended with its shell, and was taken off
    assert "memfs" not in out
    assert "mem\n" not in out


async def test_the_same_from_the_host_serves_until_it_is_interrupted(node: NodeProcess) -> None:
    async with node.client() as client:
        serving = await node.begin("run", "--serve", "mem", "memfs.wasm", cwd=node.home.parent)

        async def can_be_mounted() -> bool:
            try:
                await mounted(client)
            except FileError as error:
                if error.error not in (E.NOENT, E.NXIO):  # the name is made first, and something posted then
                    raise
                return False
            return True

        await make_place(client)
        await until(client, can_be_mounted)
        assert serving.stdin is not None
        serving.stdin.close()
        serving.send_signal(2)
        assert await serving.wait() == 130
        await refused(client.list(AT), E.CONNRESET)
        assert await client.list("/srv") == []


async def test_a_name_is_posted_once_and_freed_with_its_program(node: NodeProcess) -> None:
    out, err = await shell(
        node,
        "run --serve mem memfs.wasm; run --serve mem memfs.wasm; echo $?",
        "run --serve a/b memfs.wasm; echo $?; run --serve c none.wasm; echo $?; ls /srv",
        "kill %1; wait %1; ls /srv; run --serve mem memfs.wasm; ls /srv",
    )  # fmt: skip
    assert out.split() == ["126", "2", "127", "mem", "mem"]
    assert E.EXIST.text in err
    assert E.USAGE.text in err
    assert E.NOTFOUND.text in err


async def test_its_files_keep_to_the_rules_of_9p(node: NodeProcess) -> None:
    """What the shell has no words for: truncation, exclusive files, appending, wstat that changes all or nothing."""
    async with served(node, "memfs") as (client, _):
        await mounted(client)
        file = await client.create(f"{AT}/f", 0o640)
        await file.write(b"0123456789")
        await client.mount.wstat(file.fid, SetStat(length=4))
        assert await client.read(f"{AT}/f") == b"0123"
        assert (await client.stat(f"{AT}/f")).length == 4
        await client.mount.write(file.fid, 6, b"x")
        assert await client.read(f"{AT}/f") == b"0123\0\0x"
        await refused(client.mount.write(file.fid, 1 << 40, b"x"), E.FBIG)
        await (await client.create(f"{AT}/g")).write(b"g")
        fid = await client.walk(f"{AT}/g")
        await refused(client.mount.wstat(fid, SetStat(name="f")), E.EXIST)
        await refused(client.mount.wstat(fid, SetStat(name="a/b")), E.ILSEQ)
        await client.mount.wstat(fid, SetStat(name="h"))
        await client.mount.wstat(fid, SetStat(mode=0o600, mtime=7 * 10**9))
        found = await client.stat(f"{AT}/h")
        assert (found.name, found.mode & 0o777, found.mtime) == ("h", 0o600, 7 * 10**9)
        await refused(client.create(f"{AT}/f"), E.EXIST)
        await refused(client.open(f"{AT}/f/x"), E.NOTDIR)
        for number in range(120):
            (await client.create(f"{AT}/n{number}")).close()
        assert len(await client.list(AT)) == 122
        held = await client.open(f"{AT}/n7", ORDWR)
        await client.mount.remove(await client.walk(f"{AT}/n7"))
        await held.write(b"still")
        held.offset = 0
        assert await held.read() == b"still"
        await refused(client.open(f"{AT}/n7"), E.NOENT)


async def test_what_a_program_here_serves_is_this_machines_own_and_served_on(node: NodeProcess) -> None:
    socket = str(node.home.with_name("s"))
    async with served(node, "memfs") as (client, _):
        await client.write("/proc/1/ns", f"mount -c /srv/mem {AT}\n")
        try:
            await mounted(client)
            note = await client.create(f"{AT}/note")
            await note.write(b"near")
            note.close()
            await client.rpc("listen", address=socket, path="/tmp")
            async with attached(parse_address(socket), How()) as remote:
                opened = await remote.open("mem/note", OREAD)
                assert await remote.read("mem/note", opened, 0) == b"near"
                opened.close()
            await client.rpc("unlisten", address=socket)
        finally:
            await client.write("/proc/1/ns", f"unmount {AT}\n")


# -- those that do not ------------------------------------------------------------------------------------------------

ENDS = {"exit": E.CONNRESET, "garbage": E.MSGSIZE, "wrongtag": E.BADMESSAGE, "huge": E.MSGSIZE, "flood": E.BADMESSAGE}
"""What its client is told of one that ends, or breaks the protocol."""


async def test_who_breaks_the_protocol_ruins_its_own_mount_alone(node: NodeProcess) -> None:
    for how, error in ENDS.items():
        async with served(node, "badserver", how) as (client, child):
            await mounted(client)
            for _ in range(2):
                await refused(client.list(AT), error)
            assert await client.list("/srv") == ["mem"]
            assert b"near" in await client.read("/man/7/intro")
            await child.note("kill")
            await child.wait()


async def test_who_never_answers_holds_up_only_those_who_wait_for_it(node: NodeProcess) -> None:
    for how in ("silent", "loop"):
        async with served(node, "badserver", how) as (client, child):
            await mounted(client)
            waiting = [asyncio.create_task(client.list(AT)) for _ in range(3)]
            await client.list("/")
            waiting[0].cancel()
            await asyncio.wait(waiting[:1])
            assert waiting[0].cancelled()
            assert b"near" in await client.read("/man/7/intro"), "the same session goes on"
            assert not waiting[1].done()
            await child.note("kill")
            assert await child.wait() == 137
            for task in waiting[1:]:
                await refused(task, E.CONNRESET)
            await client.change_ns(f"unmount {AT}\n")
            assert await client.list(AT) == []
    async with served(node, "badserver", "deaf") as (client, child):
        mounting = asyncio.create_task(mounted(client))
        await client.rpc("status")
        mounting.cancel()  # so that can be given up
        await asyncio.wait([mounting])
        assert await client.list(AT) == []
        assert b"near" in await client.read("/man/7/intro")
        await child.note("kill")
        assert await child.wait() == 137


async def test_a_node_stops_whatever_waits_for_a_program_that_says_nothing(place: Path) -> None:
    put_programs(place)
    node = await NodeProcess(place / "home", "desk", "--listen", "127.0.0.1:0").start()
    try:
        script = "mkdir /tmp/mem; run --serve mem badserver.wasm silent; mount /srv/mem /tmp/mem; echo so; ls /tmp/mem"
        out = await node.begin("sh", "-c", script, cwd=place)
        assert out.stdout is not None
        assert await out.stdout.readline() == b"so\n"
        assert await node.stop() == 0
        assert await out.wait() != 0
    finally:
        await end(node)
