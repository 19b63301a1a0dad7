"""What is sent to a node to harm it harms its sender alone: a clear error, and nothing is left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import wasmtime

from cognu.errors import E, LinkBroken
from cognu.ninep import messages as m
from cognu.ninep.codec import encode
from cognu.ninep.messages import Dialect
from cognu.ninep.types import NOFID, NOTAG, ORDWR, OWRITE
from cognu.world import Stream
from cognu.world.real import real_world
from e2e.harness import LOOPBACK, Client, NodeProcess, end, log_trouble, refused, until
from programs.build import build

FIDS = 10_000


@asynccontextmanager
async def one_node(place: Path) -> AsyncIterator[NodeProcess]:
    node = NodeProcess(place / "desk", "desk", *LOOPBACK)
    try:
        yield await node.start()
    finally:
        await end(node)
    trouble = log_trouble(node)
    assert trouble == []


@asynccontextmanager
async def nothing_left(node: NodeProcess) -> AsyncIterator[Client]:
    """What happens inside must leave the node's open files, OS processes and own processes as they were."""
    async with node.client() as client:
        for _ in range(2):  # the second time, what is made at first use is there
            await client.list("/tmp")

        async def count() -> tuple[int, int, int]:
            processes = (await client.rpc("status"))["processes"]
            return node.open_files(), len(node.children()), processes

        before = await count()
        yield client

        async def same() -> bool:
            return await count() == before

        await until(client, same)


def wire(message: m.Message, tag: int = 1, dialect: Dialect = Dialect.L) -> bytes:
    return b"".join(bytes(part) for part in encode(message, tag, dialect))


VERSION = wire(m.Tversion(8192, "9P2000.L"), NOTAG)
ATTACH = wire(m.Tattach(0, NOFID, "me", ""))
NOISE = random.Random(9)
GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "noise": NOISE.randbytes(100_000),
    "noise after a greeting": VERSION + NOISE.randbytes(100_000),
    "zeros": bytes(100_000),
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100,
    "a message cut short": VERSION + ATTACH[:-3],
    "only a size": VERSION + b"\xff\xff\xff\x7f",
    "a size too small": VERSION + b"\x03\0\0\0",
    "a message larger than agreed": VERSION + (1 << 20).to_bytes(4, "little") + b"\x76\1\0" + bytes(1 << 20),
    "an unknown type": VERSION + ATTACH + b"\x0b\0\0\0\xfa\1\0\0\0\0\0",
    "a reply": VERSION + wire(m.Rversion(8192, "9P2000.L"), NOTAG),
    "strings longer than the message": VERSION + b"\x15\0\0\0\x68\1\0" + bytes(4) + b"\xff" * 6 + b"ab\xff\xff",
    "a read before the greeting": wire(m.Tread(0, 0, 10)),
    "one tag twice": VERSION + ATTACH + ATTACH,
}


async def send(stream: Stream, data: bytes) -> None:
    """Send it, or as much as is taken, and hang up."""
    try:
        await stream.write(data)
    except LinkBroken:
        pass  # refused before its end
    finally:
        stream.close()
        await stream.wait_closed()


async def listening(client: Client, node: NodeProcess) -> dict[str, tuple[str, str]]:
    """Where garbage is sent to: address and attach name."""
    unix = await client.rpc("listen", address=str(node.home / "legacy.sock"), path="/dev")
    tcp = await client.rpc("listen", address="127.0.0.1:0", path="/dev")
    return {
        "the node's socket": (node.socket, ""),
        "a listener on a Unix socket": (unix["address"], ""),
        "a listener on loopback": (tcp["address"], tcp["token"]),
    }


async def connect(address: str) -> Stream:
    network = real_world().network
    return await (network.connect_unix(address) if address.startswith("/") else network.connect_tcp(address))


async def test_garbage_ends_its_own_connection_alone(place: Path) -> None:
    async with one_node(place) as node, node.client() as bystander:
        places = await listening(bystander, node)
        held = await bystander.open("/dev/zero")
        async with nothing_left(node) as client:
            for address, aname in places.values():
                for data in GARBAGE.values():
                    await send(await connect(address), data)
                good = await Client.connect(address, aname)
                assert "null" in await good.list("" if aname or address != node.socket else "/dev")
                await good.close()
            assert await client.list("/tmp") == []
        assert await held.read(10) == bytes(10)


async def test_a_message_that_breaks_the_protocol_is_answered_by_the_end_of_the_connection(place: Path) -> None:
    async with one_node(place) as node, nothing_left(node):
        for what in ("only a size", "a size too small", "noise", "zeros", "text", "a reply"):
            stream = await connect(node.socket)
            await stream.write(GARBAGE[what])
            while await stream.read(1 << 16):
                pass
            stream.close()
            await stream.wait_closed()


async def test_what_is_well_formed_and_wrong_is_refused_and_the_connection_goes_on(place: Path) -> None:
    async with one_node(place) as node, nothing_left(node):
        stream = await connect(node.socket)
        await stream.write(GARBAGE["an unknown type"] + wire(m.Tattach(0, NOFID, "me", "")) + wire(m.Tclunk(0), 2))
        wanted = wire(m.Rlerror(E.NOSYS.errno)) + wire(m.Rlerror(E.DUPFID.errno)) + wire(m.Rclunk(), 2)
        said = b""
        while not said.endswith(wanted):
            part = await stream.read(1 << 16)
            assert part, said
            said += part
        stream.close()
        await stream.wait_closed()


async def test_ten_thousand_fids_are_held_and_given_back(place: Path) -> None:
    async with one_node(place) as node:
        async with nothing_left(node) as client:
            many = await Client.connect(node.socket)
            fids = [await many.walk("/dev") for _ in range(FIDS)]
            assert len({fid.number for fid in fids}) == FIDS
            assert "null" in await client.list("/dev")
            opened = await asyncio.gather(*(many.open("/etc/passwd") for _ in range(500)))
            assert node.open_files() >= 500
            assert len({file.number for file in opened}) == 500
            await many.close()
        async with nothing_left(node) as client:
            address = (await client.rpc("status"))["home"]
            assert address == str(node.home)


async def test_a_listener_reads_only_and_asks_for_its_token(place: Path) -> None:
    async with one_node(place) as node, node.client() as client:
        (place / "tree").mkdir()
        (place / "tree" / "file").write_text("read me")
        unix = (await client.rpc("listen", address=str(place / "l.sock"), path=str(place / "tree")))["address"]
        tcp = await client.rpc("listen", address="127.0.0.1:0", path=str(place / "tree"))
        for aname in ("", "wrong", tcp["token"][:-1]):
            await refused(Client.connect(tcp["address"], aname), E.NOATTACH)
        for dialect in Dialect:
            for address, aname in ((unix, ""), (tcp["address"], tcp["token"])):
                legacy = await Client.connect(address, aname, dialect)
                try:
                    assert legacy.mount.dialect is dialect
                    assert await legacy.list("") == ["file"]
                    assert await legacy.read("file") == b"read me"
                    for call in (legacy.open("file", OWRITE), legacy.create("new"), legacy.open("file", ORDWR)):
                        await refused(call, E.ACCES)
                    file = await legacy.walk("file")
                    await refused(legacy.mount.remove(file), E.ACCES)
                    await refused(legacy.walk("../../etc"), E.NOENT)
                finally:
                    await legacy.close()
        assert (place / "tree" / "file").read_text() == "read me"
        await refused(client.rpc("listen", address="0.0.0.0:0"), E.PERM)
        await refused(client.rpc("listen", address=str(place / "m.sock"), path="/nothing"), E.NOENT)
        await refused(client.rpc("listen", address=unix), E.ADDRINUSE)


async def test_who_does_not_attach_gets_no_process_and_takes_nobodys_place(place: Path) -> None:
    async with one_node(place) as node, nothing_left(node) as client:
        tcp = await client.rpc("listen", address="127.0.0.1:0", path="/dev")
        before = (await client.rpc("status"))["processes"]
        idle = [await connect(tcp["address"]) for _ in range(50)]
        wrong = wire(m.Tattach(0, NOFID, "me", "wrong"))
        for number, stream in enumerate(idle):
            await stream.write(VERSION + (wrong if number % 2 else b""))
            answer = wire(m.Rversion(8192, "9P2000.L"), NOTAG)
            if number % 2:
                answer += wire(m.Rlerror(E.NOATTACH.errno))
            said = b""
            while len(said) < len(answer):
                part = await stream.read(1 << 16)
                assert part, said
                said += part
            assert said == answer
        assert (await client.rpc("status"))["processes"] == before
        good = await Client.connect(tcp["address"], tcp["token"])
        assert "null" in await good.list("")
        assert (await client.rpc("status"))["processes"] == before + 1
        stopped = await node.command("listen", "--stop", tcp["address"])
        assert (stopped.status, stopped.errors) == (0, b""), stopped
        assert tcp["address"] in stopped.output.decode()
        for stream in idle:
            assert await stream.read(1) == b""
            stream.close()
            await stream.wait_closed()
        await refused(good.list(""), E.CONNRESET)
        await good.close()
        await refused(client.rpc("unlisten", address=tcp["address"]), E.NOLISTENER)
        again = await client.rpc("listen", address=tcp["address"], path="/dev")
        assert again["address"] == tcp["address"]
        await client.rpc("unlisten", address=again["address"])


GROWS = """(module (memory (export "memory") 1) (func (export "_start")
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1000)) (i32.const -1)))) unreachable))"""
"""Takes memory until it gets no more, and says so by a trap."""


async def test_what_is_no_program_is_refused_with_what_is_wrong(place: Path) -> None:
    cases = {
        E.BADPROGRAM: b"\0asm\1\0\0\0" + random.Random(3).randbytes(1000),
        E.NOEXEC: b"#!/bin/sh\necho no program\n",
        E.NOSTART: wasmtime.wat2wasm('(module (memory (export "memory") 1))'),
        E.NOMEMORY: wasmtime.wat2wasm('(module (func (export "_start")))'),
    }
    async with one_node(place) as node, nothing_left(node) as client:
        for error, made in cases.items():
            await refused(client.run(await client.put(bytes(made))), error)
        missing = wasmtime.wat2wasm(
            '(module (import "env" "nothing" (func)) (memory (export "memory") 1) (func (export "_start")))'
        )
        await refused(client.run(await client.put(bytes(missing))), E.NOIMPORT, "nothing")
        await refused(client.run(""), E.USAGE)
        await refused(client.run("no-such-program"), E.NOTFOUND)


async def test_a_program_that_goes_wrong_harms_itself_alone(place: Path) -> None:
    async with one_node(place) as node, node.client() as bystander:
        crash = await bystander.put(build("crash"))
        grows = await bystander.put(bytes(wasmtime.wat2wasm(GROWS)))
        beside = await bystander.start(await bystander.put(build("cat")))
        await bystander.run(crash, "trap")  # the node keeps what it compiled
        async with nothing_left(node) as client:
            words = {"wild": "out of bounds", "deep": "stack", "abort": "unreachable", "trap": "unreachable"}
            for how, word in words.items():
                ended = await client.run(crash, how)
                assert ended.status == 128 + 6, (how, ended)
                assert word in ended.message, (how, ended)
            ended = await client.run(crash, "pointers")
            assert (ended.output, ended.status) == (b"refused\n", 0)
            ended = await client.run(grows, lines=[f"limit memory {64 << 20}"])
            assert ended.status == 128 + 6
            await refused(client.run(grows, lines=["limit memory 1000"]), E.NOMEM, "its limit is 1000")
        await beside.stdin.write(b"still here")
        assert await beside.stdout.read() == b"still here"
        assert (await beside.end()).status == 0


async def test_bad_lines_and_requests_are_refused_by_name(place: Path) -> None:
    async with one_node(place) as node, nothing_left(node) as client:
        pid = await client.pid()
        for text, error in (
            ("bind /nothing /net", E.NOENT),
            ("bind", E.USAGE),
            ("bind '", E.SYNTAX),
            ("explode /dev", E.USAGE),
            ("mount /dev/null /mnt/term", E.CONNRESET),
            ("bind /dev/null /dev", E.MOUNT),
        ):
            await refused(client.write(f"/proc/{pid}/ns", text), error)
        rpc = await client.open("/mnt/node/rpc", ORDWR)
        wrong = [b"", b"{", b"[]", b"null", b'{"verb": 1}', b'{"verb": "status", "arguments": []}', b"\xff"]
        for request in [*wrong, b"[" * 60000]:
            await client.mount.write(rpc.fid, 0, request)
            rpc.offset = 0
            assert b'"error": {"symbol": "USAGE"' in await rpc.read(), request
        await client.mount.write(rpc.fid, 0, bytes(100_000))
        rpc.offset = 0
        assert b'"error": {"symbol": "MSGSIZE"' in await rpc.read()
        rpc.close()
        await refused(client.rpc("join"), E.USAGE, "ticket")
        await refused(client.rpc("join", ticket=7), E.USAGE)
        await refused(client.rpc("invite", grants=3), E.USAGE)
        await refused(client.rpc("revoke", peer="x", grant="net"), E.NOPEER, "x")
        await refused(client.rpc("explode"), E.USAGE, "status")
        await refused(client.rpc("invite", grants=["everything"]), E.USAGE, "everything", "read:PATH")
        await refused(client.rpc("invite", grants=["read:/no/such"]), E.NOENT)
