"""The process that an isolated program runs in: `python -m cognu.runtime.runner PARENT ENGINE`, started by a node.

It has the engine and the program, and one connection, descriptor 0, to the node. There is nothing else in it: no key,
no store, no other program, no environment, and once it is loaded no way to the host (`cognu.world.wall`). What the
program does with files it does over 9P in the node's tree, under the node's dispatch and its capabilities, as a program
that runs for another machine does. A program that broke out of the sandbox would have this process, and be no further.

In order: imports; the first part of the wall; engine and threads; then the node is waited for, which may be long. Its
orders and the compiled program are read and loaded; the second part of the wall; the program. One program, and it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence

from cognu.errors import CognuError, FileError
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Origin, Path
from cognu.files.dispatch import dispatch
from cognu.files.limits import Account, Quota, Resource
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace
from cognu.files.nstext import split_words
from cognu.files.process import Descriptors, Process, ProcessTable, State
from cognu.files.reach import FarReach
from cognu.files.steps import finish
from cognu.kernel import READ, WRITE
from cognu.ninep.types import OACCESS, ORDWR, OREAD, OWRITE, QTDIR
from cognu.runtime.engine import Engine, Module, Settings
from cognu.runtime.guest import Exit, Guest, How, Limits
from cognu.runtime.launch import preopens
from cognu.runtime.runner_text import (
    MAX_LINE,
    ORDERS_TREE,
    STREAMS_TREE,
    Orders,
    Over,
    Refused,
    Running,
    Said,
    Stream,
    Used,
    parse_orders,
    said_text,
)
from cognu.runtime.scheduler import Scheduler
from cognu.runtime.wasi import IMPORTS, Program
from cognu.world import wall
from cognu.world.real import RealClock, RealRandom
from cognu.world.sockets import SocketStream

CHUNK = 1 << 20
LOST = 69
"""The status of a runner whose node went away; nobody is left to see it."""

BehindWall = Callable[[], str]
"""Run in the place of the program, for tests of the wall: what it returns is the program's last message."""


class _Counting(Account):
    """The program's account here. What it has of memory is told to the node, whose account counts."""

    __slots__ = ("tell",)

    def __init__(self, quota: Quota, memory: int, tell: Callable[[], None]) -> None:
        super().__init__(quota, memory)
        self.tell = tell

    def charge(self, cpu: int, memory: int) -> FileError | None:
        if memory != self._memory:
            asyncio.get_running_loop().call_soon(self.tell)
        return super().charge(cpu, memory)


class _Senses:
    """What of the world a program here has."""

    def __init__(self) -> None:
        self.clock = RealClock()
        self.random = RealRandom()


class _Runner:
    """One program, from the node's orders to its end."""

    def __init__(self, mount: MountServer, engine: Engine, scheduler: Scheduler) -> None:
        self._mount = mount
        self._engine = engine
        self._scheduler = scheduler
        self._senses = _Senses()
        self._domain = Domain(Authority())
        self._processes = ProcessTable(self._senses.clock.now)
        self._process: Process
        self._ctl: Chan
        self._guest: Guest | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, filter_: wall.Filter | FileError, behind: BehindWall | None) -> None:
        """Until the node has heard of the end."""
        root = await self._attach("")
        root.path = Path(None, "/")
        namespace = Namespace(self._domain, root)
        self._process = self._processes.add("", namespace, root.share())
        self._process.state = State.RUNNING
        tree = await self._attach(ORDERS_TREE)
        self._ctl = await self._open(tree, ["ctl"], ORDWR)
        try:
            if isinstance(filter_, FileError):
                raise filter_
            orders = parse_orders(await self._read_all(await self._open(tree, ["orders"], OREAD)))
            module = self._engine.load(await self._read_all(await self._open(tree, ["code"], OREAD), orders.code))
            program = await self._dress(orders)
            filter_.raise_()
        except CognuError as error:
            await self._say(Refused(FileError(error.error, error.subject, error.detail)))
            return
        await self._say(Running())
        if behind is not None:
            await self._say(Over(0, behind(), ()))
            return
        listening = asyncio.create_task(self._listen())
        self._tasks.add(listening)
        await self._say(await self._carry_out(orders, module, program))

    async def _carry_out(self, orders: Orders, module: Module, program: Program) -> Over:
        done: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        account = _Counting(Quota(), module.memory_minimum, self._tell_usage)
        limits = Limits(memory=orders.memory, cpu=orders.cpu)
        self._guest = self._scheduler.start(module, IMPORTS, limits, done.set_result, program, account)
        ending = await done
        status, message = ending.code, ending.reason
        if ending.how is How.EXITED and program.unsettled:
            status, message = await program.settle(status, message)
        await self._usage()
        files = self._process.descriptors
        offsets = [files[number].handle.offset if number in files else 0 for number in range(3)]
        return Over(status, message, tuple(offsets))

    # -- what it begins with --------------------------------------------------------------------------------------

    async def _dress(self, orders: Orders) -> Program:
        process, namespace = self._process, self._process.namespace
        process.user = orders.user
        process.descriptors.release()
        process.descriptors = Descriptors(orders.files)
        process.cwd.close()
        try:
            process.cwd = await finish(namespace.find(orders.cwd, namespace.root, process))
        except FileError:
            process.cwd = namespace.root.share()  # a mapping over what led there
        tree = await self._attach(STREAMS_TREE)
        for stream in orders.streams:
            process.descriptors.add(await self._stream(tree, stream), stream.number)
        if orders.asks:
            process.reach = FarReach(process, namespace.root.share()).reach
        args, environment = map(_bytes, orders.args), map(_bytes, orders.environment)
        program = Program(process, self._senses, tuple(args), tuple(environment))
        program.adopt_streams()
        tops = None if orders.tops is None else dict.fromkeys(orders.tops)
        opened = await finish(preopens(process, orders.directories, orders.grants, tops))
        program.preopen(opened, mapped=bool(orders.directories))
        return program

    async def _stream(self, tree: Chan, stream: Stream) -> Chan:
        """Known by the names that the node has for it: what it is, a terminal say, is seen from these."""
        access = stream.mode & OACCESS
        access = access if access in (OREAD, OWRITE, ORDWR) else OREAD
        found = await finish(self._process.namespace.walk(tree, [str(stream.number)], self._process))
        if not found.qid.type & QTDIR:  # that can't be read, but looked at
            found = await finish(self._process.namespace.open(found, access, self._process))
        begin, _, rest = stream.path.partition("/")
        path = Path(None, begin or "/").step(rest.split("/") if rest else [])
        chan = Chan(found.handle, self._domain, found.cap, path, Origin(stream.spec, stream.names))
        chan.handle.mode, chan.handle.offset = stream.mode, stream.offset
        found.close()
        return chan

    # -- the node's files -----------------------------------------------------------------------------------------

    async def _attach(self, aname: str) -> Chan:
        spec = aname or self._mount.spec
        return await finish(attach_own(self._mount, self._domain, _NOBODY, aname, spec, spec))

    async def _open(self, tree: Chan, names: list[str], mode: int) -> Chan:
        namespace = self._process.namespace
        found = await finish(namespace.walk(tree, names, self._process))
        return await finish(namespace.open(found, mode, self._process))

    async def _read_all(self, chan: Chan, size: int = 0) -> bytes:
        """To its end, or to its `size` if that is known. Takes over the chan."""
        data = bytearray()
        while not size or len(data) < size:
            piece: bytes | memoryview
            piece = await finish(dispatch(chan, READ, chan.server.read, chan.fid, len(data), CHUNK))
            if not piece:
                break
            data += piece
        chan.close()
        return bytes(data)

    async def _say(self, said: Said) -> None:
        data = said_text(said)
        await finish(dispatch(self._ctl, WRITE, self._ctl.server.write, self._ctl.fid, 0, data))

    # -- while it runs --------------------------------------------------------------------------------------------

    def _tell_usage(self) -> None:
        task = asyncio.create_task(self._usage())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _usage(self) -> None:
        assert self._guest is not None
        usage = self._guest.usage
        await self._say(Used(usage.memory, usage.slices, usage.calls))

    async def _listen(self) -> None:
        """The node's lines: what proc(3) does to a running program's files."""
        ctl, files = self._ctl, self._process.descriptors
        while line := bytes(await finish(dispatch(ctl, READ, ctl.server.read, ctl.fid, 0, MAX_LINE))):
            match split_words(line.decode()):
                case ["close", number] if int(number) in files:
                    files.close(int(number))
                case ["closefiles"]:
                    for open_file in files:
                        files.close(open_file)
                case ["limit", Resource.FILES.value, most]:
                    files.limit = min(files.limit, int(most))


class _Nobody:
    """Who attaches: the node knows who this is."""

    pid = 0
    user = ""


_NOBODY = _Nobody()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _lost(_: CognuError) -> None:
    """The node is gone or has had enough. There is nothing here to put in order."""
    os._exit(LOST)


async def _main(engine: Engine, filter_: wall.Filter | FileError, behind: BehindWall | None) -> None:
    scheduler = Scheduler(engine, RealClock(), workers=1)
    stream = SocketStream(socket.socket(fileno=0), "the node")
    mount = await MountServer.connect(stream, RealClock())
    mount.on_broken = _lost
    await _Runner(mount, engine, scheduler).run(filter_, behind)
    await asyncio.Event().wait()  # until the node ends this


def main(argv: Sequence[str], behind: BehindWall | None = None) -> int:
    """`argv`: the node's process, and the engine's settings as JSON."""
    parent, settings = argv
    wall.die_with_parent(int(parent))
    os.setsid()  # what a terminal sends to the node's group is not for this one
    os.environ.clear()  # Python itself sets one for its locale (PEP 538)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    filter_: wall.Filter | FileError
    try:
        filter_ = wall.Filter()
        wall.begin()
    except FileError as error:
        filter_ = error  # told to whoever wants to run a program
    try:
        asyncio.run(_main(Engine(Settings(**json.loads(settings))), filter_, behind))
    except CognuError as error:
        print(f"cognu: {error}", file=sys.stderr)
    os._exit(LOST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
