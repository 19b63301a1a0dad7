"""Programs that use Cognu's own calls: a handler and its clients, each a guest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Domain
from cognu.files.launch import Launch
from cognu.files.limits import Quota, Resource
from cognu.files.post import Gift, Kind, Notice
from cognu.files.process import Process
from cognu.kernel import SEND
from cognu.runtime import native
from cognu.runtime.fiber import GuestFault
from cognu.runtime.native import HEADER_BYTES
from guests import until, wat
from programs.build import build
from wasi_machine import Machine, Result

pytestmark = pytest.mark.timeout(600)  # the first build of all makes the C library too

NAME = b"interface of the test".ljust(32, b"\0")
HANDLES = NAME.hex()


@pytest_asyncio.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path)
    await machine.make("/home/me", None)
    yield machine
    assert not machine.authority.post._letters
    assert not machine.authority.post._boxes
    await machine.close()


async def start(machine: Machine, *args: str, handles: str = "") -> Process:
    process = await machine.child()
    launch = Launch(handles=[handles] if handles else [])
    await machine.start(process, build("talk"), ["talk", *args], launch)
    return process


async def ended(machine: Machine, process: Process) -> Result:
    await process.ended.wait()
    return await machine.result(process)


async def test_a_guest_asks_another_by_an_interface(machine: Machine) -> None:
    server = await start(machine, "serve", "3", handles=HANDLES)
    client = await start(machine, "ask", "one", "two", "three")
    assert await ended(machine, client) == Result(0, b"ONE\nTWO\nTHREE\n", b"", "")
    assert (await ended(machine, server)).out == b"".join(
        b"request %s from 0 caps 0\n" % word for word in (b"one", b"two", b"three")
    )


async def test_requests_that_came_before_are_not_lost_on_a_handler_that_is_slow(machine: Machine) -> None:
    server = await start(machine, "serve", "20", handles=HANDLES)
    clients = [await start(machine, "ask", f"a{number}", f"b{number}") for number in range(10)]
    for number, client in enumerate(clients):
        assert await ended(machine, client) == Result(0, b"A%d\nB%d\n" % (number, number), b"", "")
    assert (await ended(machine, server)).status == 0


async def test_without_a_handler_there_is_an_error(machine: Machine) -> None:
    result = await ended(machine, await start(machine, "ask", "one"))
    assert result.out == f"emit: {E.NOHANDLER.errno}\n".encode()


async def test_what_a_handler_that_ends_owes_fails(machine: Machine) -> None:
    server = await start(machine, "serve", "9", handles=HANDLES)
    client = await start(machine, "ask", "keep", "exit", "never")
    assert (await ended(machine, server)).status == 0
    assert (await ended(machine, client)).out == b"kind 3\nkind 3\nkind 3\n"


async def test_a_killed_handlers_clients_are_told(machine: Machine) -> None:
    server = await start(machine, "serve", "9", handles=HANDLES)
    client = await start(machine, "ask", "keep")
    post = machine.authority.post
    await until(lambda: bool(post._letters) and post._kernel.messages.state[next(iter(post._letters))] == 2)
    assert server.kill is not None
    server.kill("test")
    assert (await ended(machine, client)).out == b"kind 3\n"


async def test_a_handler_is_told_of_a_client_that_ends(machine: Machine) -> None:
    server = await start(machine, "serve", "3", handles=HANDLES)
    client = await start(machine, "keep")
    assert await ended(machine, client) == Result(0, b"OK\n", b"", "")
    told = b"request keep from 0 caps 0\nrequest ok from 0 caps 0\ncancelled 1\n"
    assert (await ended(machine, server)).out == told


async def test_a_program_that_waits_for_what_can_not_come_is_told_so(machine: Machine) -> None:
    assert (await ended(machine, await start(machine, "wait"))).out == b"next: 22\n"


async def test_a_waiting_handler_can_be_killed(machine: Machine) -> None:
    server = await start(machine, "serve", "1", handles=HANDLES)
    await until(lambda: machine.authority.post._boxes[server.namespace.domain.pid].quota is server.quota)
    assert server.kill is not None
    server.kill("test")
    assert (await ended(machine, server)).status == 137


@pytest.mark.parametrize("name", ["", "xyz", "0" * 64, HANDLES + "00"])
async def test_what_is_no_interface_is_refused_and_nothing_starts(machine: Machine, name: str) -> None:
    process = await machine.child()
    with pytest.raises(FileError) as caught:
        await machine.start(process, build("talk"), ["talk", "serve", "1"], Launch(handles=[name]))
    assert caught.value.error is E.INVAL


async def test_bytes_under_way_count_in_the_senders_quota(machine: Machine) -> None:
    server = await start(machine, "serve", "1", handles=HANDLES)
    client = await machine.child()
    client.quota.set_limit(Resource.PIPE, 3)
    await machine.start(client, build("talk"), ["talk", "ask", "four", "abc"])
    assert (await ended(machine, client)).out == f"emit: {E.DQUOT.errno}\nABC\n".encode()
    assert (await ended(machine, server)).status == 0


# -- calls with whatever arguments ------------------------------------------------------------------------------------


CALLS = """
  (import "cognu" "emit_message" (func $emit (param i32 i32 i32 i32 i32 i32) (result i64)))
  (import "cognu" "emit_answer" (func $answer (param i64 i32 i32 i32 i32) (result i32)))
  (import "cognu" "next_message" (func $next (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
"""
NO_HANDLER = E.NOHANDLER.errno


async def status(machine: Machine, call: str) -> int:
    """Run one call; the program exits with its result, negated."""
    wasm = wat(f"""(module {CALLS} (memory (export "memory") 1) (data (i32.const 64) "\\01")
      (func (export "_start") (call $exit (i32.sub (i32.const 0) {call}))))""")
    process = await machine.child()
    await machine.start(process, wasm, ["call"])
    await process.ended.wait()
    assert process.status is not None
    return process.status


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("(i32.wrap_i64 (call $emit {0} {0} {0} {0} {0} {0}))", E.INVAL.errno),
        ("(i32.wrap_i64 (call $emit (i32.const 64) {0} {0} {0} {0} {0}))", NO_HANDLER),
        ("(i32.wrap_i64 (call $emit (i32.const 64) {0} {0} {0} {0} (i32.const 2)))", E.REVOKED.errno),
        ("(i32.wrap_i64 (call $emit (i32.const 64) {0} {0} {0} {0} (i32.const 4)))", E.INVAL.errno),
        ("(i32.wrap_i64 (call $emit (i32.const 64) {0} {0} {0} (i32.const 5) {0}))", E.INVAL.errno),
        ("(i32.wrap_i64 (call $emit (i32.const 64) {0} (i32.const 1048577) {0} {0} {0}))", E.MSGSIZE.errno),
        ("(i32.wrap_i64 (call $emit (i32.const -1) {0} {0} {0} {0} {0}))", E.FAULT.errno),
        ("(i32.wrap_i64 (call $emit (i32.const 64) (i32.const 65535) (i32.const 2) {0} {0} {0}))", E.FAULT.errno),
        ("(call $answer (i64.const 1) {0} {0} {0} {0})", E.NOMESSAGE.errno),
        ("(call $answer (i64.const -1) {0} {0} {0} {0})", E.NOMESSAGE.errno),
        ("(call $answer (i64.const 1) {0} (i32.const -1) {0} {0})", E.MSGSIZE.errno),
        ("(call $answer (i64.const 1) {0} {0} {0} (i32.const 1))", E.REVOKED.errno),
        ("(call $next {0} {0} {0} {0} {0})", E.INVAL.errno),
        ("(call $next {0} {0} {0} {room} {0})", 0),
        ("(call $next {0} {0} {0} {room} (i32.const 2))", 0),
        ("(call $next {0} {0} {0} {room} (i32.const 3))", E.INVAL.errno),
        ("(call $next {0} {0} {0} {room} (i32.const 4))", E.INVAL.errno),
        ("(call $next {0} (i32.const 1) {0} {room} {0})", 0),
        ("(call $next (i32.const 64) (i32.const 1) {0} {room} (i32.const 1))", E.NOMESSAGE.errno),
        ("(call $next {0} (i32.const 513) {0} {room} {0})", E.INVAL.errno),
        ("(call $next (i32.const 65530) (i32.const 1) {0} {room} {0})", E.FAULT.errno),
        ("(call $next {0} {0} (i32.const 65530) {room} {0})", E.FAULT.errno),
    ],
)
async def test_any_call_gives_its_error(machine: Machine, call: str, expected: int) -> None:
    text = call.replace("{0}", "(i32.const 0)").replace("{room}", f"(i32.const {HEADER_BYTES})")
    assert await status(machine, text) == expected


async def test_what_does_not_fit_says_how_much_it_needs_and_stays(machine: Machine) -> None:
    """The client's answer is too large for the first try; it then has it in a larger place."""
    server = await start(machine, "serve", "1", handles=HANDLES)
    escaped = "".join(f"\\{byte:02x}" for byte in NAME)
    wasm = wat(f"""(module {CALLS} (memory (export "memory") 1) (data (i32.const 8) "{escaped}")
      (data (i32.const 64) "a word of 20 letters")
      (func (export "_start")
        (i64.store (i32.const 128) (call $emit (i32.const 8) (i32.const 64) (i32.const 20)
          (i32.const 0) (i32.const 0) (i32.const 1)))
        (if (i32.ne (call $next (i32.const 128) (i32.const 1) (i32.const 256) (i32.const 70) (i32.const 1))
          (i32.const {HEADER_BYTES + 20})) (then (call $exit (i32.const 1))))
        (if (i32.ne (call $next (i32.const 128) (i32.const 1) (i32.const 256) (i32.const 84) (i32.const 0))
          (i32.const {HEADER_BYTES + 20})) (then (call $exit (i32.const 2))))
        (if (i64.ne (i64.load (i32.const 128)) (i64.const 0)) (then (call $exit (i32.const 3))))
        (call $exit (i32.load8_u (i32.const {256 + HEADER_BYTES})))))""")
    process = await machine.child()
    await machine.start(process, wasm, ["fit"])
    await process.ended.wait()
    assert process.status == ord("A")
    assert (await ended(machine, server)).status == 0


async def test_a_capability_comes_with_a_request_and_may_be_sent_by(machine: Machine) -> None:
    """The client is the test, which encloses a capability to an endpoint of its own."""
    server = await start(machine, "serve", "2", handles=HANDLES)
    authority, pid = machine.authority, machine.parent.namespace.domain.pid
    post = authority.post
    box = post.open(pid, machine.parent.quota)
    _, mine = authority.new_server(pid)
    post.emit(pid, NAME, b"here", False, [Gift(mine, SEND)])
    await box.ready.wait()
    found = post.peek(pid, (), True)
    assert found is not None
    assert post.take(pid, found) == Notice(Kind.REQUEST, 0, data=b"by your leave")
    assert server.kill is not None
    server.kill("test")
    assert (await ended(machine, server)).out == b"request here from 0 caps 1\n"
    post.close(pid)


class FakeGuest:
    """Memory, and a domain that serves an interface and asks it."""

    def __init__(self, memory: bytes) -> None:
        self.memory = bytearray(memory.ljust(4096, b"\0"))
        authority = Authority()
        self.domain = Domain(authority)
        self.data = SimpleNamespace(process=SimpleNamespace(namespace=SimpleNamespace(domain=self.domain)))
        authority.post.open(self.domain.pid, Quota())
        authority.post.serve(self.domain.pid, NAME, self.domain.pid)
        self.memory[:32] = NAME

    def view(self, pointer: int, count: int) -> memoryview:
        if pointer < 0 or pointer + count > len(self.memory):
            raise GuestFault(pointer, count)
        return memoryview(self.memory)[pointer : pointer + count]

    def read(self, pointer: int, count: int) -> bytes:
        return bytes(self.view(pointer, count))

    def write(self, pointer: int, data: bytes) -> None:
        self.view(pointer, len(data))[:] = data


POINTER = st.sampled_from([0, 32, 64, 1024, 4095, 4096, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF)
COUNT = st.integers(0, 6) | st.sampled_from([HEADER_BYTES, 200, 1 << 20, 0xFFFFFFFF])


@given(st.binary(max_size=256), st.data())
def test_calls_with_any_numbers_over_any_memory_give_a_number(memory: bytes, data: st.DataObject) -> None:
    guest: Any = FakeGuest(memory)
    made = 0
    for _ in range(data.draw(st.integers(1, 6))):
        call: Any = data.draw(st.sampled_from([native.emit_message, native.emit_answer, native.next_message]))
        first = data.draw(POINTER)
        if call is native.emit_answer:
            first = data.draw(st.integers(0, made + 1) | st.integers(0, (1 << 64) - 1))
        rest = [data.draw(draw) for draw in (POINTER, COUNT, POINTER, COUNT)]
        if call is native.next_message:
            rest = [data.draw(draw) for draw in (COUNT, POINTER, COUNT, st.integers(0, 4))]
        elif call is native.emit_message:
            rest.append(data.draw(st.integers(0, 4)))
        result = call(guest, first, *rest)
        if isinstance(result, Coroutine):
            result.close()
            continue
        assert result > -512
        made += call is native.emit_message and result > 0
    guest.domain.authority.post.close(guest.domain.pid)
    guest.domain.release()
    assert not guest.domain.authority.post._letters
    assert not guest.domain.authority.kernel.messages.state
