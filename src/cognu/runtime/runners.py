"""Isolated programs, seen from the node: their runners, what these are given, and what is believed of what they say.

A runner (`cognu.runtime.runner`) is an OS process for one program. The node serves it the program's namespace,
streams and orders over one connection, and is the only one who acts: it ends, stops and weighs the runner, counts its
processor time by the host's clock, and that of serving it, and bounds it by the host's limits, whatever the runner
says of itself. Believed are the program's status and last message, which are nobody else's matter, and how much
memory the program has, which the host's limit bounds.

Starting Python takes most of a start's time, so runners are started beforehand; they know nothing until they are used,
and are used once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from math import log as logarithm
from typing import Any

from cognu.errors import E, FileError, ProtocolError
from cognu.files.attach import OWN, attach_own
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.export_calls import Attach
from cognu.files.launch import Launch
from cognu.files.limits import USUAL_WEIGHT, Account, Resource
from cognu.files.notes import note_signal
from cognu.files.process import Descriptors, Process, ProcessTable
from cognu.files.reach import WANTS, reach_root
from cognu.files.server import FileServer
from cognu.files.steps import Steps, finish
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer
from cognu.ninep.messages import Dialect
from cognu.ninep.server import Limits as SessionLimits
from cognu.runtime.engine import Module, Settings
from cognu.runtime.guest import EXIT_KILLED, Limits, Usage
from cognu.runtime.runner_streams import StreamServer
from cognu.runtime.runner_text import (
    MAX_LINE,
    ORDERS_TREE,
    STREAMS_TREE,
    Orders,
    Over,
    Refused,
    Running,
    Said,
    Used,
    parse_said,
)
from cognu.runtime.runner_text import Stream as StreamOrder
from cognu.world import Bounds, Child, Clock, Senses, Stream, World, wall
from cognu.world.timing import end_tasks

log = logging.getLogger(__name__)

MODULE = "cognu.runtime.runner"
COMMAND = (sys.executable, "-IB", "-m", MODULE)
"""`-I`: nothing of the environment or of anybody's home says what is imported. `-B`: no bytecode is kept, which a child
that may write but little would leave cut off, and Python takes that for whole."""
OWN_MEMORY = 48 << 20
"""Bytes that a runner is charged for beside its program's memory, to whoever started it; about what it takes."""
SLACK = 256 << 20
"""Bytes of its own memory that the host lets a runner have beyond the program's: Python, the engine, three stacks."""
COPIES = 5
"""How often its code is in its memory while it is loaded."""
OPEN_FILES = 32
"""Descriptors of the host that a runner may have: its connection, the loop's, and files in memory, of which the engine
makes one, no larger than the code, for what is in the program's memory at first."""
ADDRESSES = 4 << 30
"""Bytes of addresses that it may have beyond what its engine reserves for one program."""
CPU_SLACK = 2
"""Seconds of processor time that the host lets it have beyond the program's limit, which engine and node see to."""
START_SECONDS = 60.0
"""Within which a runner has the program running, whose code is compiled already; else it is given up."""
FIRST_LOOK, LAST_LOOK = 0.05, 1.0
"""Seconds between two looks at what a runner used: longer and longer while it uses nothing."""
SESSION = SessionLimits(fids=8192, calls=256)
LONG = 1 << 20
"""Bytes of a program from which on its compiled code is got in a thread."""


class _Ready:
    """A runner that has no program yet."""

    def __init__(self, child: Child, stream: Stream) -> None:
        self.child = child
        self.stream = stream
        self.ended = asyncio.ensure_future(child.wait())

    async def end(self) -> None:
        self.stream.close()
        if not self.ended.done():
            signal_child(self.child, signal.SIGKILL)
        await asyncio.wait([self.ended])


def signal_child(child: Child, number: int) -> None:
    """Nothing happens if it has ended."""
    try:
        child.signal(number)
    except FileError as error:
        if error.error is not E.SRCH:
            raise


class Runners:
    """Starts isolated programs, and keeps `spare` runners ready for the next once one was asked for."""

    def __init__(
        self, world: World, settings: Settings, processes: ProcessTable, spare: int = 1,
        command: Sequence[str] = COMMAND,
    ) -> None:  # fmt: skip
        """`settings`: of the engine whose compiled programs are to be run."""
        self._world = world
        # One program needs no pool; what the code depends on stays as it is.
        self._settings = replace(settings, pooled=False, max_guests=1)
        self._processes = processes
        self._spare = spare
        self._command = command
        self._ready: deque[_Ready] = deque()
        self._runs: set[IsolatedRun] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._filling = False
        self._closed = False

    @property
    def ready(self) -> list[Child]:
        """Those that wait for a program, or are just beginning to, the oldest first."""
        return [runner.child for runner in self._ready]

    def warm(self) -> None:
        """Have the spare ones started, if not now then soon."""
        if not self._closed and not self._filling and len(self._ready) < self._spare:
            self._filling = True
            self.spawn(self._fill())

    async def _fill(self) -> None:
        try:
            while not self._closed and len(self._ready) < self._spare:
                self._ready.append(await self._start())
        except FileError as error:
            log.warning("no runner could be started beforehand: %s", error)
        finally:
            self._filling = False
        if self._closed:
            await self._end_ready()

    async def _start(self) -> _Ready:
        parent = str(self._world.spawn.own_pid())
        argv = [*self._command, parent, json.dumps(asdict(self._settings))]
        child, stream = await self._world.spawn.start_joined(argv, {}, "/")
        return _Ready(child, stream)

    async def _take(self) -> _Ready:
        while self._ready:
            runner = self._ready.popleft()
            if not runner.ended.done():
                return runner
            await runner.end()
        return await self._start()

    async def start(
        self, process: Process, launch: Launch, module: Module, size: int, limits: Limits,
        texts: tuple[Sequence[bytes], ...], tops: Iterable[str] | None = None,
    ) -> IsolatedRun:  # fmt: skip
        """Run `module`, of a program of `size` bytes, in the process; its namespace and descriptors are the program's,
        `texts` its arguments and variables, `tops` the names at the top of its namespace, if the caller knows. The
        wall is up and the program begins when this returns; `follow` must be called then.

        Raises `FileError`, with nothing left behind: NOWALL, RUNNER if the runner ended, DQUOT, what the host says.
        """
        wall.check()
        if self._closed:
            raise FileError(E.CANCELED, "runner")
        serialize = module.serialize
        code = await self._world.threads.run(serialize) if size > LONG else serialize()
        run = IsolatedRun(self, self._world, self._processes, process, limits)
        orders = _orders(process, launch, limits, texts, tops, run.streams.begin, len(code))
        self._runs.add(run)
        try:
            await run.begin(await self._take(), orders, code, module.memory_minimum)
            self.warm()  # not before: it would take the processor from this one
        except BaseException:
            await run.abandon()
            raise
        return run

    def bounds(self, limits: Limits, code: int, used: int) -> Bounds:
        """What the host is to allow a runner of a program of so many bytes, which used so many ns already."""
        settings = self._settings
        reserved = settings.memory_reservation + settings.memory_growth + 2 * settings.memory_guard
        own = SLACK + COPIES * code
        return Bounds(
            address_space=reserved + limits.memory + own + ADDRESSES,
            data=limits.memory + own,
            cpu=None if limits.cpu is None else -(-(limits.cpu + used) // 10**9) + CPU_SLACK,
            file_size=code,
            open_files=OPEN_FILES,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("following a runner failed", exc_info=error)

    def forget(self, run: IsolatedRun) -> None:
        self._runs.discard(run)

    async def _end_ready(self) -> None:
        while self._ready:
            await self._ready.popleft().end()

    async def close(self) -> None:
        """Kill every program that is isolated, end all runners, and wait for both."""
        self._closed = True
        for run in list(self._runs):
            run.kill("")
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        await self._end_ready()


class IsolatedRun:
    """One program in its runner, from its start to its process's end."""

    def __init__(
        self, runners: Runners, world: Senses, processes: ProcessTable, process: Process, limits: Limits
    ) -> None:
        self.usage = Usage()
        self._runners = runners
        self._world = world
        self._processes = processes
        self._process = process
        self._limits = limits
        self._account: Account | None = None
        self._runner: _Ready | None = None
        self._export: _CountedExport | None = None
        self._serving: asyncio.Task[None] | None = None
        self._ctl = _Ctl(self._said)
        self.streams = StreamServer(STREAMS_TREE, process)
        self._running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._own = 0  # bytes charged to who started it
        self._began = 0  # ns of processor time that the runner had used before
        self._ending: tuple[int, str] | None = None

    @property
    def pid(self) -> int:
        """The host's number of its process."""
        assert self._runner is not None
        return self._runner.child.pid

    # -- its start ------------------------------------------------------------------------------------------------

    async def begin(self, runner: _Ready, orders: Orders, code: bytes, memory: int) -> None:
        self._runner = runner
        if self._ending is not None:
            raise FileError(E.CANCELED, "runner")  # the node shuts down
        child, process = runner.child, self._process
        above = process.quota.parent or process.quota
        above.take(Resource.MEMORY, OWN_MEMORY)
        self._own = OWN_MEMORY
        self._account = Account(process.quota, memory, process.weight)
        self.usage.memory = memory  # which it has whatever it says; more is by its runner's word
        try:
            self._began = child.used()
        except FileError:
            raise await self._how_it_ended() from None  # while it waited
        child.bound(self._runners.bounds(self._limits, len(code), self._began))
        child.weigh(niceness(self._account.weight))
        roots = await self._roots(orders, code)
        self._export = _CountedExport(self._world.clock, runner.stream, process, _attach(roots))
        self._serving = asyncio.create_task(_serve(self._export, roots))
        timer = asyncio.ensure_future(self._world.clock.sleep(START_SECONDS))
        waits: list[asyncio.Future[Any]] = [self._running, runner.ended, self._serving, timer]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(timer)
        if not any(future.done() for future in waits[:-1]):
            raise FileError(E.RUNNER, "", f"it had not begun after {START_SECONDS:.0f} s")
        if not self._running.done():
            raise await self._how_it_ended()
        self._running.result()

    async def _roots(self, orders: Orders, code: bytes) -> dict[str, Chan]:
        process = self._process
        files = [Text("orders", orders.text, mode=0o400), Text("code", lambda: code, mode=0o400), self._ctl]
        roots = {"": process.namespace.root.share()}
        told = TreeServer(ORDERS_TREE, Directory("", files))
        roots[ORDERS_TREE] = await finish(_root(process, told, f"{OWN}:orders"))
        roots[STREAMS_TREE] = await finish(_root(process, self.streams, f"{OWN}:streams"))
        if process.reach is not None:
            roots[WANTS] = await finish(reach_root(process, process.reach))
        return roots

    async def abandon(self) -> None:
        """The start failed: nothing is left of it."""
        await self._end_runner()
        self._give_back()
        self._runners.forget(self)

    def follow(self) -> None:
        """See to it until the end, which ends the process."""
        process = self._process
        process.tell = self._ctl.tell
        self._runners.spawn(self._follow())

    # -- what is done to it ---------------------------------------------------------------------------------------

    def kill(self, by: str) -> None:
        self._end(EXIT_KILLED, str(FileError(E.KILLED, "", by)))

    def note(self, text: str) -> None:
        """Raises INVAL for a note that means nothing to a program."""
        self._end(128 + note_signal(text), text)

    def _end(self, status: int, message: str) -> None:
        self._ending = self._ending or (status, message)
        if self._runner is not None:
            self._runner.stream.close()
            signal_child(self._runner.child, signal.SIGKILL)

    def pause(self, stop: bool) -> None:
        assert self._runner is not None
        signal_child(self._runner.child, signal.SIGSTOP if stop else signal.SIGCONT)

    def weigh(self, weight: int) -> None:
        """Raises PERM if that would be more than it has, and the host lets only its superuser give more."""
        assert self._runner is not None
        assert self._account is not None
        before = self._process.weight
        self._account.set_weight(weight)
        try:
            self._runner.child.weigh(niceness(self._account.weight))
        except FileError:
            self._account.set_weight(before)
            raise

    # -- what it says ---------------------------------------------------------------------------------------------

    def _said(self, said: Said) -> None:
        match said:
            case Running() if not self._running.done():
                # What is open so far is its runner's; what comes is the program's, and counts.
                limit = self._process.descriptors.limit + SESSION.calls
                assert self._export is not None
                self._export.calls.descriptors = Descriptors(limit, self._process.quota)
                self._running.set_result(None)
            case Refused(error) if not self._running.done():
                self._running.set_exception(error)
            case Used(memory, slices, calls):
                usage = self.usage
                usage.memory = max(usage.memory, min(memory, self._limits.memory))  # no memory shrinks
                usage.slices, usage.calls = slices, calls
                self._charge()
            case Over(status, message, offsets) if self._running.done():
                self._ending = self._ending or (status, message)  # no limit changes how it ended
                self._charge()
                self.streams.ended(offsets)
                self._end(status, message)
            case _:
                raise ProtocolError(E.BADMESSAGE, "runner", type(said).__name__)

    # -- while it runs --------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        runner = self._runner
        assert runner is not None
        assert self._serving is not None
        looking = asyncio.create_task(self._look())
        waits: list[asyncio.Future[Any]] = [runner.ended, self._serving]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
        if self._ending is None:
            error = await self._how_it_ended()
            log.warning("process %d: %s", self._process.pid, error)
            self._ending = runner.ended.result() or EXIT_KILLED, str(error)
        await self._end_runner()
        self._give_back()
        self._runners.forget(self)
        self._processes.end(self._process, *self._ending)

    async def _look(self) -> None:
        """Count what it used, and end it when that is too much."""
        pause = FIRST_LOOK
        while True:
            await self._world.clock.sleep(pause)
            pause = min(2 * pause, LAST_LOOK) if not self._charge() else FIRST_LOOK

    def _charge(self) -> int:
        """ns that it used since it was last charged."""
        assert self._runner is not None
        if self._account is None or self._export is None:
            return 0
        try:
            used = self._runner.child.used() - self._began
            cpu = max(0, used + self._export.spent - self.usage.cpu)
        except FileError:
            return 0  # it has just ended; what it used since the last look nobody can say
        self.usage.cpu += cpu
        over = self._account.charge(cpu, self.usage.memory)
        if over is not None:
            self._end(EXIT_KILLED, str(over))
        return cpu

    # -- its end --------------------------------------------------------------------------------------------------

    async def _how_it_ended(self) -> FileError:
        """Of a runner that ended, or ended the connection, unasked. A moment later it has ended in any case."""
        assert self._runner is not None
        if not self._runner.ended.done():
            # It may be just about to end; one that is not has broken the protocol, or was broken itself.
            waiting = asyncio.ensure_future(self._world.clock.sleep(LAST_LOOK))
            ends: list[asyncio.Future[Any]] = [waiting, self._runner.ended]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if not self._runner.ended.done():
            await self._runner.end()
            return FileError(E.RUNNER, "", "it ended the connection to its node")
        return ended_badly(self._runner.ended.result())

    async def _end_runner(self) -> None:
        if self._runner is not None:
            await self._runner.end()
        if self._serving is not None:
            await asyncio.wait([self._serving])
            if (error := self._serving.exception()) is not None:
                log.error("serving a runner failed", exc_info=error)

    def _give_back(self) -> None:
        if self._account is not None:
            self._account.end()
        above = self._process.quota.parent or self._process.quota
        above.give(Resource.MEMORY, self._own)
        self._own = 0
        self._ctl.close_all()


class _Ctl(Node):
    """`#g/ctl`: see `runner_text`."""

    def __init__(self, said: Callable[[Said], None]) -> None:
        super().__init__("ctl", 0o600)
        self._said = said
        self._lines: deque[str] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    def tell(self, line: str) -> None:
        if len(self._lines) < SESSION.calls:  # a runner that does not read them is not an honest one
            self._lines.append(line)
        self._wake()

    def close_all(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        """The next line; `b""` at the program's end."""
        if self._waiting is not None:
            raise FileError(E.ALREADY, self.name)
        while not self._lines:
            if self._closed:
                return b""
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        line = self._lines.popleft().encode()
        if len(line) > count:
            raise FileError(E.RANGE, self.name, f"{len(line)} bytes")
        return line

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        if len(data) > MAX_LINE:
            raise FileError(E.MSGSIZE, self.name, f"{MAX_LINE} bytes")
        try:
            self._said(parse_said(bytes(data)))
        except ProtocolError as error:
            raise FileError(error.error, error.subject, error.detail) from None
        return len(data)


class _CountedExport(Export):
    """`spent` are the ns that the loop's thread has served the runner: the program's time too, as of one inside."""

    def __init__(self, clock: Clock, stream: Stream, process: Process, attach: Attach) -> None:
        super().__init__(stream, process, attach, None, SESSION, (Dialect.NG,))
        self.spent = 0
        self._clock = clock

    def _carry_out(self, most: int) -> bool:
        began = self._clock.monotonic()
        try:
            return super()._carry_out(most)
        finally:
            self.spent += self._clock.monotonic() - began


async def _serve(export: Export, roots: dict[str, Chan]) -> None:
    try:
        await export.serve()
    finally:
        for root in roots.values():
            root.close()


def _attach(roots: dict[str, Chan]) -> Callable[[str, str], Steps[Chan]]:
    def attach(uname: str, aname: str) -> Steps[Chan]:
        if aname not in roots:
            raise FileError(E.NOATTACH, aname[:40])
        return roots[aname].share()
        yield

    return attach


def _root(process: Process, server: FileServer, spec: str) -> Steps[Chan]:
    return (yield from attach_own(server, process.namespace.domain, process, name=server.spec, spec=spec))


def _orders(
    process: Process, launch: Launch, limits: Limits, texts: tuple[Sequence[bytes], ...],
    tops: Iterable[str] | None, offsets: Mapping[int, int], code: int,
) -> Orders:  # fmt: skip
    args, environment = (tuple(text.decode("utf-8", "surrogateescape") for text in part) for part in texts)
    files = process.descriptors
    streams = []
    for number in files:
        chan = files[number]
        streams.append(
            StreamOrder(
                number, chan.handle.mode or 0, offsets[number], str(chan.path), chan.origin.spec, chan.origin.names
            )
        )
    path = str(process.cwd.path)
    return Orders(
        args=args,
        environment=environment,
        user=process.user,
        pid=process.pid,
        cwd=path if path.startswith("/") else "/",
        grants=tuple(launch.grants),
        directories=tuple(launch.directories),
        tops=None if tops is None else tuple(tops),
        streams=tuple(streams),
        memory=limits.memory,
        cpu=limits.cpu,
        files=files.limit,
        asks=process.reach is not None,
        code=code,
    )


def niceness(weight: int) -> int:
    """For a weight in thousandths of `limits`'. Each step of it is a quarter more or less (sched(7)), so the usual
    weight is 0; more than that only a superuser could give, and counts as the usual one."""
    return max(0, min(19, round(logarithm(USUAL_WEIGHT * 1000 / max(1, weight), 1.25))))


def ended_badly(status: int) -> FileError:
    """The error for a runner that ended unasked, with the status of a shell."""
    if status > 128:
        number = status - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        if number == signal.SIGSYS:
            return FileError(E.RUNNER, "", f"{name}: it tried what the wall forbids")
        return FileError(E.RUNNER, "", name)
    return FileError(E.RUNNER, "", f"status {status}")
