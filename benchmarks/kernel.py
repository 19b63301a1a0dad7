"""The kernel: what operations cost, whether that grows with the number of capabilities, what file operations pay.

The peer of a kernel with very many capabilities is the same kernel with a hundred; both are shuffled, so that slots
come from all over the tables. The peer of a file operation is the same one with the check taken out of dispatch.
Then one guest asks another. All of it is processor time of the one thread.
"""

from __future__ import annotations

import ast
import gc
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from random import Random
from tempfile import TemporaryDirectory
from types import CodeType

import wasmtime
from blake3 import blake3

from benchmarks.launching import launching
from benchmarks.measure import Bench, Case, Measure, Unit
from cognu.devices.ram import RamServer
from cognu.files import dispatch as dispatching
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.dispatch import dispatch
from cognu.files.launch import Launch
from cognu.files.namespace import Namespace
from cognu.files.post import NAME_BYTES
from cognu.files.process import Process, ProcessTable
from cognu.files.steps import finish, start
from cognu.kernel import ALL_RIGHTS, GRANT, NODE, READ, SEND, WRITE, Kernel
from cognu.ninep.types import DMDIR, ORDWR, OREAD
from cognu.world.real import RealClock

FEW = 100
PEER = f"{FEW} capabilities"
UNCHECKED = "without the check"
SHUFFLES = 64


class Space:
    """A kernel with a server, a client, and many capabilities that a process of its own holds: half of them derived."""

    def __init__(self, capabilities: int) -> None:
        self.kernel = kernel = Kernel()
        self.server, self.client = kernel.create_process(NODE, 1000), kernel.create_process(NODE, 1000)
        endpoint = kernel.create_endpoint(self.server)
        self.root = kernel.endpoints.root[endpoint]
        holder = kernel.create_process(NODE, capabilities * 2)
        above = [kernel.mint(self.server, self.root, 1, ALL_RIGHTS, 0, holder) for _ in range(capabilities // 2)]
        for slot in above:
            kernel.mint(holder, slot, 1, READ, 0, holder)
        self.cap = kernel.mint(self.server, self.root, 1, ALL_RIGHTS, 0, self.client)
        self._scatter(holder, above)

    def _scatter(self, holder: int, slots: list[int]) -> None:
        """Free slots from all over, so that what is made next does not lie side by side."""
        for slot in Random(1).sample(slots, min(SHUFFLES, len(slots))):
            while self.kernel.revoke_step(holder, slot, 1):
                pass
            self.kernel.delete(holder, slot, 1)

    # Each makes one call, or such a chain of calls as leaves the kernel as it was.

    def check(self) -> None:
        self.kernel.check(self.client, self.cap, 1, READ)

    def mint_and_delete(self) -> None:
        kernel = self.kernel
        slot = kernel.mint(self.client, self.cap, 1, READ, 0, self.client)
        kernel.delete(self.client, slot, kernel.slots.generation[slot])

    def mint_and_revoke(self) -> None:
        kernel = self.kernel
        kernel.mint(self.client, self.cap, 1, READ, 0, self.server)
        while kernel.revoke_step(self.client, self.cap, 1):
            pass

    def move_twice(self) -> None:
        kernel = self.kernel
        slot = kernel.mint(self.client, self.cap, 1, READ | GRANT, 0, self.client)
        generation = kernel.move(self.client, slot, kernel.slots.generation[slot], self.server)
        generation = kernel.move(self.server, slot, generation, self.client)
        kernel.delete(self.client, slot, generation)

    def process_of_its_own(self) -> None:
        kernel = self.kernel
        process = kernel.create_process(self.client, 5)
        kernel.mint(self.client, self.cap, 1, READ, 0, process)
        while kernel.end_process_step(process):
            pass

    def endpoint_of_its_own(self) -> None:
        kernel = self.kernel
        endpoint = kernel.create_endpoint(self.client)
        while kernel.end_endpoint_step(endpoint):
            pass

    def message(self) -> None:
        kernel = self.kernel
        message = kernel.emit_message(self.client, self.cap, 1, 1)
        kernel.receive(self.server, kernel.next_message(self.server))
        kernel.emit_answer(self.server, message)
        kernel.take(self.client, message)

    def message_with_a_capability(self) -> None:
        kernel = self.kernel
        message = kernel.emit_message(self.client, self.cap, 1, 0)
        kernel.enclose(self.client, message, 0, self.cap, 1, SEND, 0)
        got = kernel.accept(self.server, message, 0)
        kernel.receive(self.server, message)
        kernel.delete(self.server, got, kernel.slots.generation[got])

    def bind_and_find(self) -> None:
        self.kernel.bind(self.client, self.cap, 1, 7)
        self.kernel.bound(self.client, 7)


OPERATIONS: dict[str, Callable[[Space], None]] = {
    "check": Space.check,
    "mint, delete": Space.mint_and_delete,
    "mint, revoke": Space.mint_and_revoke,
    "mint, move there and back, delete": Space.move_twice,
    "create process, mint, end process": Space.process_of_its_own,
    "create endpoint, end endpoint": Space.endpoint_of_its_own,
    "emit, receive, answer, take": Space.message,
    "emit, enclose, accept, receive, delete": Space.message_with_a_capability,
    "bind, look up": Space.bind_and_find,
}


async def run(bench: Bench) -> None:
    calls, many = bench.size(2000, 10), (bench.size(10_000, 200), bench.size(1_000_000, 400))
    few, spaces = Space(FEW), [Space(count) for count in many]
    # They stay; looking through millions of ints again and again would be measured with what comes.
    gc.collect()
    gc.freeze()
    bench.note("capabilities", ", ".join(f"{count:,}" for count in (FEW, *many)))
    cases = [
        Case(f"{name}, of {count:,}", Unit.US, _timed(operation, space, calls), PEER, _timed(operation, few, calls),
             aim="1: flat")
        for count, space in zip(many, spaces, strict=True)
        for name, operation in OPERATIONS.items()
    ]  # fmt: skip
    files = Files()
    await files.prepare()
    cases += [
        Case(name, Unit.US, files.timed(work, calls), UNCHECKED, files.timed(work, calls, unchecked=True),
             aim=AIM_OF_A_FILE_OPERATION if name in FILE_OPERATIONS else "")
        for name, work in FILE_WORK.items()
    ]  # fmt: skip
    try:
        await bench.measure(cases)
        await _between_guests(bench)
    finally:
        gc.unfreeze()
        files.close()


def _timed(operation: Callable[[Space], None], space: Space, calls: int) -> Measure:
    """Microseconds for each."""

    def measure() -> float:
        began = time.thread_time()
        for _ in range(calls):
            operation(space)
        return (time.thread_time() - began) / calls * 1e6

    return measure


# -- files ------------------------------------------------------------------------------------------------------------


def _unchecked() -> CodeType:
    """`dispatch` as it is, but for the statement with the check."""
    [function] = ast.parse(inspect.getsource(dispatch)).body
    assert isinstance(function, ast.FunctionDef)
    kept = [statement for statement in function.body if ".admit(" not in ast.unparse(statement)]
    if len(kept) != len(function.body) - 1:
        raise RuntimeError("dispatch has no statement that is its check")
    function.body = kept
    names = dict(vars(dispatching))
    exec(compile(ast.Module([function], []), dispatching.__file__, "exec"), names)
    code: CodeType = names["dispatch"].__code__
    return code


class Files:
    """A process with a tree in memory, as a node gives one to a program."""

    process: Process
    open_file: Chan

    async def prepare(self) -> None:
        tree, authority = RamServer(RealClock()), Authority()
        domain = Domain(authority)
        _, cap = authority.new_server()
        held = authority.mint(NODE, cap, ALL_RIGHTS, domain.pid)
        processes = ProcessTable(RealClock().now)
        attached = tree.attach(_Somebody(), "")
        fid = await attached if isawaitable(attached) else attached
        root = Chan(Handle(tree, fid), domain, held, Path(None, "/"), Origin(tree.spec, ()))
        self.process = process = processes.add("me", Namespace(domain, root), root.share())
        self._processes = processes
        (await finish(process.namespace.create(root, "home", DMDIR | 0o777, OREAD, process))).close()
        place = await finish(process.namespace.walk(root, ["home"], process))
        self.open_file = await finish(process.namespace.create(place, "file", 0o666, ORDWR, process))
        await finish(dispatch(self.open_file, WRITE, tree.write, self.open_file.fid, 0, b"a small file\n"))

    def close(self) -> None:
        self.open_file.close()
        self._processes.end(self.process, 0)

    def read_open(self) -> None:
        chan = self.open_file
        start(dispatch(chan, READ, chan.server.read, chan.fid, 0, 100))

    def stat_path(self) -> None:
        process = self.process
        found = start(process.namespace.find("/home/file", process.cwd, process))
        assert isinstance(found, Chan)
        start(process.namespace.stat(found))
        found.close()

    def read_path(self) -> None:
        process = self.process
        found = start(process.namespace.find("/home/file", process.cwd, process))
        assert isinstance(found, Chan)
        opened = start(process.namespace.open(found, OREAD, process))
        assert isinstance(opened, Chan)
        start(dispatch(opened, READ, opened.server.read, opened.fid, 0, 100))
        opened.close()

    def timed(self, work: Callable[[Files], None], calls: int, unchecked: bool = False) -> Measure:
        """Microseconds for each."""

        def measure() -> float:
            with _without_check() if unchecked else _as_it_is():
                began = time.thread_time()
                for _ in range(calls):
                    work(self)
                return (time.thread_time() - began) / calls * 1e6

        return measure


FILE_OPERATIONS: dict[str, Callable[[Files], None]] = {
    "walk, stat": Files.stat_path,
    "walk, open, read, close": Files.read_path,
}
"""Small ones, as a program asks for them by a path."""
AIM_OF_A_FILE_OPERATION = "over 0.95: under 5%"
FILE_WORK: dict[str, Callable[[Files], None]] = {
    "dispatch alone: read 13 bytes of an open file": Files.read_open,  # what the others are made of
    **FILE_OPERATIONS,
}


class _Somebody:
    pid = 0
    user = "me"


@contextmanager
def _without_check() -> Iterator[None]:
    """Every module has its own name for `dispatch`, so the function itself becomes the other one meanwhile."""
    kept: CodeType = dispatching.dispatch.__code__
    dispatching.dispatch.__code__ = _unchecked()
    try:
        yield
    finally:
        dispatching.dispatch.__code__ = kept


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


# -- messages between programs ----------------------------------------------------------------------------------------


NAME = "0c" * 32
CALLS = """(import "cognu" "emit_message" (func $emit (param i32 i32 i32 i32 i32 i32) (result i64)))
  (import "cognu" "emit_answer" (func $answer (param i64 i32 i32 i32 i32) (result i32)))
  (import "cognu" "next_message" (func $next (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "NAME")""".replace("NAME", NAME_BYTES * "\\0c")
HANDLER = bytes(
    wasmtime.wat2wasm(f"""(module {CALLS} (func (export "_start") (loop $more
  (drop (call $next (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 300) (i32.const 3)))
  (br_if $more (i32.eqz (call $answer (i64.load (i32.const 264)) (i32.const 256) (i32.const 16)
    (i32.const 0) (i32.const 0)))))))""")
)


def _client(count: int) -> bytes:
    return bytes(
        wasmtime.wat2wasm(f"""(module {CALLS} (func (export "_start") (local $left i32)
  (local.set $left (i32.const {count}))
  (loop $more
    (i64.store (i32.const 128) (call $emit (i32.const 0) (i32.const 256) (i32.const 16)
      (i32.const 0) (i32.const 0) (i32.const 1)))
    (if (i32.ne (call $next (i32.const 128) (i32.const 1) (i32.const 256) (i32.const 300) (i32.const 1))
      (i32.const 80)) (then (unreachable)))
    (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))""")
    )


async def _between_guests(bench: Bench) -> None:
    """A request of 16 bytes and its answer, from one guest to another and back."""
    count = bench.size(5000, 10)
    with TemporaryDirectory() as directory:
        async with launching(directory, _client(count), "client") as machine:
            handler = machine.child()
            handler.args = ["handler"]
            await machine.programs.launch(handler, Launch(handles=[NAME]), blake3(HANDLER).hexdigest(), HANDLER)

            async def ask() -> float:
                began = time.thread_time()  # both run on the loop's thread
                await machine.launch()
                return (time.thread_time() - began) / count * 1e6

            await bench.measure([Case("a guest asks a guest, 16 bytes and back", Unit.US, ask, runs=5)])
            assert handler.kill is not None
            handler.kill("measured")
            await handler.ended.wait()
