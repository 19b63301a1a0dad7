"""diod, the 9P2000.L server of Linux (github.com/chaos/diod): its clients on our tree, and our client on its tree.

Not its other tools: diodmount and mount.diod call the kernel's client, which test_v9fs.py has; diodshowmount and dtop
read what diod tells of itself (its connections, its counts), which no other server has.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.mount import FarFid, MountServer
from cognu.files.server import OAPPEND, Entry, Lock, Owner
from cognu.files.steps import Steps
from cognu.ninep.messages import Dialect
from cognu.ninep.types import DMDIR, DMNAMEDPIPE, ORDWR, OREAD, OWRITE, XATTR_CREATE, SetStat
from cognu.world.real import RealClock
from cognu.world.sockets import SocketStream
from e2e.harness import Me, NodeProcess, end
from interop.diods import NAMES, TEXT, place_with_files, program
from joined import local_process
from serving import Client

pytestmark = pytest.mark.interop


@pytest.fixture
def tree() -> Iterator[Path]:
    with place_with_files() as path:
        yield path


async def run(name: str, *arguments: str) -> tuple[int, bytes, bytes]:
    started = await asyncio.create_subprocess_exec(
        program(name), *arguments, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await started.communicate()
    assert started.returncode is not None
    return started.returncode, out, err


# -- its clients ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def listening(tree: Path) -> AsyncIterator[list[str]]:
    """A node that serves `files` on loopback; how diod's clients are told to go there."""
    node = await NodeProcess(tree / "home", "desk", "--listen", "127.0.0.1:0").start()
    try:
        async with node.client() as client:
            served = await client.rpc("listen", address="127.0.0.1:0", path=str(tree / "files"))
            yield ["-s", served["address"], "-a", served["token"]]
    finally:
        await end(node)


async def test_diodls_lists_our_directory(listening: list[str]) -> None:
    status, out, err = await run("diodls", *listening)
    assert (status, err) == (0, b"")
    assert sorted(out.decode().split()) == NAMES


async def test_diodcat_reads_our_files_whole(listening: list[str]) -> None:
    assert await run("diodcat", *listening, "text") == (0, TEXT, b"")
    assert await run("diodcat", *listening, "empty") == (0, b"", b"")
    assert await run("diodcat", *listening, "deep/leaf") == (0, b"leaf\n", b"")


async def test_diodcat_is_told_of_a_file_that_is_not_there(listening: list[str]) -> None:
    status, out, err = await run("diodcat", *listening, "nothing")
    assert status != 0
    assert out == b""
    assert b"No such file or directory" in err


async def test_diodcat_without_the_token_is_refused(listening: list[str]) -> None:
    status, out, err = await run("diodcat", *listening[:2], "-a", "guess", "text")
    assert status != 0
    assert out == b""
    assert b"Permission denied" in err


@asynccontextmanager
async def writable(place: Path) -> AsyncIterator[tuple[str, RamServer]]:
    """A tree in memory that its clients may write, whatever name they attach by, and the socket it is served at.

    For the tools that always attach `ctl`, a file tree that diod makes up, and write there: `listen` lets nobody write.
    """
    server = RamServer(RealClock(), max_bytes=8 << 20, max_files=10)
    process = local_process(server)
    tasks: set[asyncio.Task[None]] = set()

    def attach(uname: str, aname: str) -> Steps[Chan]:
        assert aname == "ctl"
        return (yield from process.namespace.find("/", process.cwd, process))

    async def accept() -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(door)
            serving = Export(SocketStream(connection, "diod"), process, attach).serve()
            tasks.add(asyncio.create_task(serving))

    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(place / "door"))
        door.listen()
        door.setblocking(False)
        accepting = asyncio.create_task(accept())
        yield str(place / "door"), server
        accepting.cancel()
        await asyncio.wait([accepting])
        await asyncio.gather(*tasks)
    process.namespace.release()
    process.cwd.close()


async def test_dioddate_reads_the_file_date_that_we_serve(tree: Path) -> None:
    async with writable(tree) as (address, server):
        await Client(server).put("date", b"1700000000.5 0.0\n")
        status, out, err = await run("dioddate", "-s", address, "-t", "20")
    assert (status, err) == (0, b"")
    assert b"2023" in out


@pytest.mark.parametrize("options", [[], ["-g"]])
async def test_diodload_reads_and_writes_or_asks_for_attributes_with_many_threads(
    tree: Path, options: list[str]
) -> None:
    """It reads from `zero` and writes to `null`, for a second, over a connection for each thread."""
    async with writable(tree) as (address, server):
        client = Client(server)
        await client.put("zero", bytes(1 << 20))
        await client.put("null", b"")
        status, out, err = await run("diodload", "-s", address, "-r", "1", "-n", "4", *options)
        written = (await client.stat("null")).length
    assert (status, out) == (0, b"")
    done = re.fullmatch(rb"diodload: (\d+) ops/s, (\d+) rMB/s, (\d+) wMB/s\n", err)
    assert done is not None
    assert int(done[1]) > 0
    assert (written > 0) == (not options)


# -- its server -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def mounted(tree: Path) -> AsyncIterator[MountServer]:
    """Our client, connected to a diod that serves one connection."""
    ours, theirs = socket.socketpair()
    with theirs:
        served = await asyncio.create_subprocess_exec(
            program("diod"), "--foreground", "--no-auth", "--config-file=/dev/null", f"--rfdno={theirs.fileno()}",
            f"--wfdno={theirs.fileno()}", f"--export={tree / 'files'}", "--logdest=stderr", pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    try:
        mount = await MountServer.connect(SocketStream(ours, "diod"), RealClock(), offer=Dialect.L)
        yield mount
        await mount.close()
    finally:
        if served.returncode is None:
            served.kill()
        await served.wait()


async def attach(mount: MountServer, tree: Path) -> FarFid:
    fid = await mount.attach(Me(user=getpass.getuser()), str(tree / "files"))
    assert isinstance(fid, FarFid)
    return fid


async def walk(mount: MountServer, root: FarFid, *names: str) -> FarFid:
    fid = (await mount.walk(root, names, Me())).fid
    assert isinstance(fid, FarFid)
    return fid


async def read_all(mount: MountServer, fid: FarFid) -> bytes:
    data = b""
    while piece := await mount.read(fid, len(data), 1 << 20):
        data += piece
    return data


async def test_we_list_and_read_what_diod_serves(mounted: MountServer, tree: Path) -> None:
    root = await attach(mounted, tree)
    opened = await mounted.open(await walk(mounted, root), OREAD, Me())
    entries: list[Entry] = []
    while batch := await mounted.readdir(opened, entries[-1].cookie if entries else 0, 100):
        entries += batch
    assert sorted(entry.name for entry in entries if entry.name not in (".", "..")) == NAMES
    text = await walk(mounted, root, "text")
    assert (await mounted.stat(text)).length == len(TEXT)
    await mounted.open(text, OREAD, Me())
    assert await read_all(mounted, text) == TEXT


async def test_what_we_make_and_write_on_diod_is_there(mounted: MountServer, tree: Path) -> None:
    root = await attach(mounted, tree)
    made = await mounted.create(await walk(mounted, root, "deep"), "new", 0o644, ORDWR, Me())
    assert await mounted.write(made, 0, b"written from afar\n") == 18
    assert (tree / "files/deep/new").read_bytes() == b"written from afar\n"
    await mounted.remove(await walk(mounted, root, "deep", "new"))
    assert not (tree / "files/deep/new").exists()


async def test_directories_made_and_removed_on_diod(mounted: MountServer, tree: Path) -> None:
    root = await attach(mounted, tree)
    made = await mounted.create(await walk(mounted, root, "deep"), "made", DMDIR | 0o750, OREAD, Me())
    assert (tree / "files/deep/made").stat().st_mode & 0o777 == 0o750
    mounted.clunk(made)
    inside = await mounted.create(await walk(mounted, root, "deep", "made"), "file", 0o600, OWRITE, Me())
    mounted.clunk(inside)
    with pytest.raises(FileError) as refused:
        await mounted.remove(await walk(mounted, root, "deep", "made"))
    assert refused.value.error is E.NOTEMPTY
    await mounted.remove(await walk(mounted, root, "deep", "made", "file"))
    await mounted.remove(await walk(mounted, root, "deep", "made"))
    assert not (tree / "files/deep/made").exists()


@pytest.mark.parametrize("data_only", [False, True])
async def test_what_is_synced_on_diod_was_written(mounted: MountServer, tree: Path, data_only: bool) -> None:
    root = await attach(mounted, tree)
    file = await mounted.create(await walk(mounted, root), "synced", 0o600, ORDWR, Me())
    assert isinstance(file, FarFid)
    for number in range(50):
        assert await mounted.accept(file, number * 1000, bytes([number]) * 1000) == 1000
    await mounted.sync(file, data_only)
    assert (tree / "files/synced").read_bytes() == b"".join(bytes([number]) * 1000 for number in range(50))


async def test_what_is_appended_on_diod_comes_at_the_end(mounted: MountServer, tree: Path) -> None:
    root = await attach(mounted, tree)
    both = [await mounted.open(await walk(mounted, root, "deep", "leaf"), OWRITE | OAPPEND, Me()) for _ in range(2)]
    for number, file in enumerate([*both, *both]):
        assert await mounted.write(file, 0, b"line %d\n" % number) == 7
    assert (tree / "files/deep/leaf").read_bytes() == b"leaf\nline 0\nline 1\nline 2\nline 3\n"


async def test_a_directory_of_several_replies_is_listed_whole(mounted: MountServer, tree: Path) -> None:
    """diod grants messages of 64 KiB; these names alone take 200."""
    names = {f"{number:04}" + "n" * 96 for number in range(2000)}
    for name in names:
        (tree / "files/deep" / name).touch()
    root = await attach(mounted, tree)
    opened = await mounted.open(await walk(mounted, root, "deep"), OREAD, Me())
    entries: list[Entry] = []
    replies = 0
    while batch := await mounted.readdir(opened, entries[-1].cookie if entries else 0, 5000):
        entries += batch
        replies += 1
    assert replies > 2
    assert sorted(entry.name for entry in entries) == sorted(names | {"leaf"})


async def test_what_diod_refuses_comes_as_its_error(mounted: MountServer, tree: Path) -> None:
    root = await attach(mounted, tree)
    with pytest.raises(FileError) as refused:
        await mounted.walk(root, ["nothing"], Me())
    assert refused.value.error is E.NOENT
    with pytest.raises(FileError) as refused:
        await mounted.attach(Me(user=getpass.getuser()), "/not/exported")
    assert refused.value.error in (E.NOENT, E.PERM, E.ACCES)


async def test_links_pipes_and_names_on_diod(mounted: MountServer, tree: Path) -> None:
    files = tree / "files"
    root = await attach(mounted, tree)
    deep = await walk(mounted, root, "deep")
    await mounted.symlink(root, "link", "deep/leaf")
    assert os.readlink(files / "link") == "deep/leaf"
    assert await mounted.readlink(await walk(mounted, root, "link")) == "deep/leaf"
    await mounted.link(deep, await walk(mounted, root, "text"), "again")
    assert (files / "deep/again").samefile(files / "text")
    await mounted.mknod(root, "pipe", DMNAMEDPIPE | 0o600, 0, 0)
    assert (files / "pipe").is_fifo()
    await mounted.rename(deep, "again", root, "empty")
    assert (files / "empty").read_bytes() == TEXT
    assert (await mounted.statfs(root)).bsize > 0
    await mounted.wstat(await walk(mounted, root, "text"), SetStat(mode=0o640, length=4))
    assert ((files / "text").stat().st_mode & 0o777, (files / "text").read_bytes()) == (0o640, TEXT[:4])


async def test_ranges_locked_on_diod_are_locked_for_others(mounted: MountServer, tree: Path) -> None:
    root = await attach(mounted, tree)
    first, second = [await mounted.open(await walk(mounted, root, "text"), ORDWR, Me()) for _ in range(2)]
    me, other = (Lock(0, 10, True, Owner(1, "here", process)) for process in (1, 2))
    assert await mounted.lock_range(first, me, False)
    assert not await mounted.lock_range(second, other, False)
    found = await mounted.find_lock(second, other)
    assert found is not None
    assert found.exclusive
    await mounted.unlock_range(first, me)
    assert await mounted.lock_range(second, other, True)
    mounted.clunk(second)
    assert await mounted.lock_range(first, me, False)


async def test_attributes_on_diod(mounted: MountServer, tree: Path) -> None:
    root = await attach(mounted, tree)
    text = await walk(mounted, root, "text")
    await mounted.setxattr(text, "user.x", b"value", 0)
    assert os.getxattr(tree / "files/text", "user.x") == b"value"
    assert await mounted.getxattr(text, "user.x") == b"value"
    assert "user.x" in await mounted.listxattr(text)
    with pytest.raises(FileError) as refused:
        await mounted.setxattr(text, "user.x", b"again", XATTR_CREATE)
    assert refused.value.error is E.EXIST
    await mounted.removexattr(text, "user.x")
    assert os.listxattr(tree / "files/text") == []
