"""The other machine's network, and the namespace that says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cognu.devices.ram import RamServer
from cognu.errors import E
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.steps import Steps
from cognu.ninep.types import ORDWR, OWRITE
from cognu.world.real import RealClock
from e2e.harness import Client, File, pair, refused
from serving import Node

PAGE = b"HTTP/1.0 200 OK\r\n\r\nonly from pi's side\n"


@asynccontextmanager
async def serving(path: Path, answer: bytes = PAGE) -> AsyncIterator[None]:
    """A server at a Unix socket that answers each request with `answer` and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, path):
        yield


async def fetch(client: Client, protocol: str, address: str) -> bytes:
    data = await client.dial(protocol, address)
    try:
        await data.write(b"GET /\n")
        return await data.read_all()
    finally:
        data.close()


async def ask(client: Client, path: str, query: str) -> list[str]:
    """What cs or dns answers, a line to a read."""
    file = await client.open(path, ORDWR)
    try:
        await file.write(query.encode())
        said = b""
        while line := await client.mount.read(file.fid, len(said), 8192):
            said += line
        return said.decode().splitlines()
    finally:
        file.close()


async def test_after_bind_before_net_the_other_machines_network_comes_first(place: Path) -> None:
    page = place / "page.sock"
    async with serving(page), pair(place, "net", pi_options=["--unix", str(page)]) as two, two.desk.client() as desk:
        await refused(fetch(desk, "unix", str(page)), E.NOENT)
        await desk.change_ns("bind -b /n/pi/net /net\n")
        assert await fetch(desk, "unix", str(page)) == PAGE
        await refused(fetch(desk, "unix", str(place / "another.sock")), E.ACCES)
        assert "bind #I /net\nbind -b /n/pi/net /net\n" in await desk.ns()

        async with two.desk.client() as another:  # a namespace is of one session
            await refused(fetch(another, "unix", str(page)), E.NOENT)
        await desk.change_ns("unmount /n/pi/net /net\n")
        await refused(fetch(desk, "unix", str(page)), E.NOENT)


async def test_a_tcp_dial_goes_out_from_the_machine_whose_network_is_bound(place: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with pair(place, "net") as two, two.desk.client() as desk, two.pi.client() as pi:
            before = two.pi.open_files()
            await desk.change_ns("bind -b /n/pi/net /net")
            data = await desk.dial("tcp", f"127.0.0.1!{port}")
            [number] = [name for name in await desk.list("/n/pi/net/tcp") if name.isdigit()]
            assert (await desk.read(f"/n/pi/net/tcp/{number}/status")).startswith(b"Established")
            assert not [name for name in await pi.list("/net/tcp") if name.isdigit()]  # pi's own users see none of it
            assert two.pi.open_files() == before + 1
            await data.write(b"through pi\n")
            assert await data.read_all() == b"through pi\n"
            data.close()
            await refused(desk.dial("tcp", "127.0.0.1!1"), E.CONNREFUSED)


async def test_machines_are_known_by_name_near_and_far(place: Path) -> None:
    async with pair(place, "net") as two, two.desk.client() as desk:
        assert await ask(desk, "/net/cs", "net!pi!http") == [
            "/net/tcp/clone 127.0.0.1!80",
            "/n/pi/net/tcp/clone 127.0.0.1!80",
        ]
        assert await ask(desk, "/net/dns", "pi ip") == ["pi ip 127.0.0.1"]
        # As pi sees it: its own name, its peers, and no ways through what its peers lend it.
        assert (await ask(desk, "/n/pi/net/cs", "net!pi!http"))[0] == "/net/tcp/clone 127.0.0.1!80"
        assert await ask(desk, "/n/pi/net/cs", "net!desk!http") == ["/net/tcp/clone 127.0.0.1!80"]
        assert await ask(desk, "/n/pi/net/dns", "127.0.0.1 ptr") == ["127.0.0.1 ptr desk"]
        await refused(ask(desk, "/net/dns", "pi mx"), E.NOTSUP)


async def test_the_text_of_a_namespace_makes_the_same_one_in_another_session(place: Path) -> None:
    page = place / "page.sock"
    async with serving(page), pair(place, "net", "read:{shared}", pi_options=["--unix", str(page)]) as two:
        (two.shared / "of-pi").write_text("pi's")
        (two.notes / "of-desk").write_text("desk's")
        async with two.desk.client() as desk, two.desk.client() as other:
            await desk.change_ns(
                "bind -b /n/pi/net /net\n"
                f"bind -a /n/pi{two.shared} {two.notes}\n"
                f"bind {two.notes} /mnt/term\n"
                "bind -c '#r' /srv\n"
                f"cd {two.notes}\n"
            )
            text = await desk.ns()
            await other.change_ns(text)
            assert await other.ns() == text
            for client in (desk, other):
                assert await fetch(client, "unix", str(page)) == PAGE
                assert await client.list("/mnt/term") == ["of-desk", "of-pi"]
                assert await client.read("/mnt/term/of-pi") == b"pi's"
            again = await other.ns()
            assert again == text


class FileStream:
    """An open file of a session as a stream, to serve something through it."""

    peer = "the node"

    def __init__(self, file: File) -> None:
        self._file = file
        self._closed = asyncio.Event()

    async def read(self, count: int) -> bytes:
        return await self._file.read(count)

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        for buffer in buffers:
            await self._file.write(bytes(buffer))

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._file.close()

    async def wait_closed(self) -> None:
        await self._closed.wait()


async def test_what_a_program_serves_is_mounted_by_as_many_as_like_and_told_by_the_namespace(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk, two.desk.client() as other:
        small = await Node(RamServer(RealClock())).start()
        near, theirs = await desk.pipe()
        post = await desk.create("/srv/small", mode=OWRITE)
        await post.write(str(theirs.number).encode())
        post.close()
        theirs.close()

        def attach(uname: str, aname: str) -> Steps[Chan]:
            return small.namespace.root.share()
            yield

        serving = asyncio.create_task(Export(FileStream(near), small, attach).serve())
        await desk.change_ns("mount -bc /srv/small /tmp\n")
        file = await desk.create("/tmp/made")
        await file.write(b"kept by a server of the test's")
        text = await desk.ns()
        assert "mount -bc /srv/small /tmp\n" in text
        assert await other.list("/tmp") == []
        await other.change_ns(text)
        assert await other.ns() == text
        assert await other.list("/tmp") == ["made"]
        assert await other.read("/tmp/made") == b"kept by a server of the test's"
        await file.write(b", still")  # the first mount goes on
        file.close()
        await desk.change_ns("unmount /tmp\n")
        assert await desk.list("/tmp") == []
        assert await other.read("/tmp/made") == b"kept by a server of the test's, still"
        await other.change_ns("unmount /tmp\n")
        await desk.mount.remove(await desk.walk("/srv/small"))
        await serving
