"""One shell's `ls` answers while something else keeps the node busy; and a node that is busy stops when told to.

What is asserted is order and never a time: all listings were answered while the other was at it, by its own count of
what it does: it was under way before the first, and not done after the last. How long each took bounds nothing; it is
printed for people (`pytest -s`).
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable
from pathlib import Path

import wasmtime

from cognu.errors import E, FileError
from cognu.ninep.types import ORDWR
from e2e.harness import Client, Running, pair, refused, until
from programs.build import build

LISTINGS = 50
GIB = 1 << 30
FILL = """(module (memory (export "memory") 16384)
  (func (export "_start") (loop $again
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x40000000)) (br $again))))"""


def large(functions: int, operations: int) -> bytes:
    """A module that takes seconds to compile."""
    body = "local.get 0 i32.const 7 i32.mul i32.const 3 i32.add local.tee 0 i32.popcnt local.get 0 i32.xor local.set 0 "
    made = "".join(f"(func $f{n} (param i32) (result i32) {body * operations} local.get 0)" for n in range(functions))
    calls = "".join(f"(drop (call $f{n} (i32.const {n})))" for n in range(functions))
    return bytes(wasmtime.wat2wasm(f'(module (memory (export "memory") 1) {made} (func (export "_start") {calls}))'))


async def list_often(client: Client, what: str) -> None:
    """`ls /` and `ls /dev` many times over, with the waits printed."""
    waits = []
    for _ in range(LISTINGS):
        begun = time.perf_counter()
        assert "dev" in await client.list("/")
        assert "zero" in await client.list("/dev")
        waits.append(time.perf_counter() - begun)
    waits.sort()
    median, worst = waits[LISTINGS // 2] * 1000, waits[-1] * 1000
    print(f"ls beside {what}: median {median:.1f} ms, worst {worst:.1f} ms")


async def slices(client: Client, running: Running) -> int:
    """How often a program got its turn so far."""
    status = (await client.read(f"/proc/{running.pid}/status")).decode()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("slices ")))


async def beside_a_program(busy: Client, other: Client, what: str, program: bytes, *lines: str) -> None:
    score = await busy.put(program)
    running = await busy.start(score, lines=lines)

    async def turned() -> bool:
        return await slices(other, running) > 1

    await until(other, turned)
    before = await slices(other, running)
    await list_often(other, what)

    async def went_on() -> bool:
        return await slices(other, running) > before

    await until(other, went_on)
    assert b"state Running" in await other.read(f"/proc/{running.pid}/status")
    await running.tell("kill")
    assert (await running.end()).status == 128 + 9


async def test_ls_answers_beside_an_endless_copy_of_zeros(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as busy, two.desk.client() as other:
        zero, null = await busy.open("/dev/zero"), await busy.open("/dev/null", ORDWR)
        copied = 0

        async def copy() -> None:
            nonlocal copied
            while True:
                data = await zero.read()
                await null.write(data)
                copied += len(data)

        copies = [asyncio.create_task(copy()) for _ in range(8)]
        await until(other, lambda: copied > 0)
        before = copied
        await list_often(other, "cat /dev/zero >/dev/null")
        assert copied > before
        for task in copies:
            task.cancel()
        await asyncio.wait(copies)


async def test_ls_answers_beside_programs_that_never_wait(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as busy, two.desk.client() as other:
        await beside_a_program(busy, other, "an endless loop", build("spin"))
        filling = bytes(wasmtime.wat2wasm(FILL))
        await beside_a_program(busy, other, "memory.fill of 1 GiB", filling, f"limit memory {GIB}")


async def test_ls_answers_beside_a_long_compilation(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as busy, two.desk.client() as other:
        score = await busy.put(large(1500, 120))
        compiling = asyncio.create_task(busy.start(score))
        await busy.list("/")  # a round trip later the start is under way
        await list_often(other, "a compilation")
        assert not compiling.done()
        running = await compiling
        assert (await running.end()).status == 0


async def failed(call: Awaitable[object]) -> FileError:
    try:
        await call
    except FileError as error:
        return error
    raise AssertionError("it should have failed")


async def test_a_busy_node_stops_when_told_to_and_leaves_nothing(place: Path) -> None:
    async with pair(place, "read:{shared}", "net", "run") as two:
        desk, other = await Client.connect(two.desk.socket), await Client.connect(two.desk.socket)
        spin = await desk.put(build("spin"), "spin.wasm")
        cat = await desk.put(build("cat"), "cat.wasm")
        here = await desk.start(spin)
        there = await desk.start(spin, on="pi")
        reader = await desk.start(cat, on="pi")
        address = (await desk.rpc("listen", address=str(two.path / "legacy.sock")))["address"]
        legacy = await Client.connect(address)
        waiting = [
            asyncio.create_task(failed(call))
            for call in (reader.stdout.read(), here.wait(), there.wait(), other.read("/n/pi/proc/1/wait"))
        ]
        compiling = asyncio.create_task(failed(other.start(await other.put(large(1500, 120)))))
        await desk.list("/")
        begun = time.perf_counter()
        assert await two.desk.stop() == 0
        print(f"a busy node stopped in {time.perf_counter() - begun:.2f} s")
        await asyncio.gather(*waiting, compiling)
        assert two.desk.children() == []
        assert not (two.desk.home / "node.sock").exists()
        assert not (two.path / "legacy.sock").exists()
        for client in (desk, other, legacy):
            await client.close()

        async with two.pi.client() as pi:  # where its programs were killed

            async def alone() -> bool:
                return not (await pi.rpc("peers"))[0]["connected"] and (await pi.rpc("status"))["processes"] == 2

            await until(pi, alone)


def lasting(rows: list[dict[str, object]]) -> list[list[object]]:
    """What of `peers` is kept on disk."""
    return [[row[key] for key in ("name", "fingerprint", "granted", "received")] for row in rows]


async def test_what_was_acknowledged_survives_a_kill(place: Path) -> None:
    async with pair(place, "read:{shared}", "run") as two:
        (two.shared / "file").write_text("of pi")
        async with two.desk.client() as desk, two.pi.client() as pi:
            score = await desk.put(build("wc"), "wc.wasm")
            await pi.rpc("export", path=str(two.path), peer="desk")
            await pi.rpc("revoke", peer="desk", grant="run")
            ticket = (await pi.rpc("invite"))["ticket"]
            peers = [await desk.rpc("peers"), await pi.rpc("peers")]
            identities = [(await client.rpc("status"))["fingerprint"] for client in (desk, pi)]
        for node in (two.desk, two.pi):
            await node.signal(signal.SIGKILL)
        await asyncio.gather(two.desk.start(), two.pi.start())
        async with two.desk.client() as desk, two.pi.client() as pi:
            assert await desk.read(f"/mnt/store/objects/{score}") == build("wc")
            assert await desk.list("/bin") == ["wc.wasm"]
            assert (await desk.run("wc.wasm", stdin=b"a b\n")).output == b"1 2 4\n"
            assert [(await client.rpc("status"))["fingerprint"] for client in (desk, pi)] == identities
            for rows, client in zip(peers, (desk, pi), strict=True):
                assert lasting(await client.rpc("peers")) == lasting(rows)
            assert await desk.read(f"/n/pi{two.shared}/file") == b"of pi"
            await refused(desk.list("/n/pi/proc"), E.NOENT)
            assert (await pi.rpc("grants"))["desk"] == [f"read:{two.shared}", f"read:{two.path}"]
            assert ticket
