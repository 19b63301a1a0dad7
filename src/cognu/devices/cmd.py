"""`#C`: programs of the host, as cmd(3) of Inferno, with a directory for each command that the node's owner named.

    NAME/clone      opening it makes a conversation N and gives its ctl
    NAME/N/ctl      reads as N; takes the lines below, one to a write
    NAME/N/data     the command's input (writing) and output (reading). Closing the last one that is open for writing
                    ends its input; for reading, it may write no more (SIGPIPE)
    NAME/N/stderr   its errors; they go nowhere unless this is open when it starts
    NAME/N/status   one line: cmd/N, how many files of it are open, Open, Execute or Done, its directory, the command
    NAME/N/wait     a read waits for its end: a line as of /proc/N/wait (host's pid, 0, 0, ms, message, exit status)

    exec [ARG...]   start it; the write returns when it has started, or says why not
    kill            end it, and all of its process group
    killonclose     end it when this open file is closed, and not only with the last
    nice [N]        run it with that niceness (10), 0 to 19
    dir PATH        where to run it, if the owner leaves that open

What runs is the owner's argument list, never a shell's line: the caller's arguments come in where the owner has `ARGS`,
each as one argument. The environment and the directory are the owner's too. Authority is the directory NAME: whoever
may write below it may start NAME, and nothing else.

A command ends at the latest with the last open file of its conversation: so with the connection that they were opened
on, and with the right to it (`ends_with_right`). A peer sees its own conversations, others those of no peer; the rest
does not exist for them. How many each may have, of all commands, is as it is in `/net` (`conversation.Room`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cognu.devices.conversation import Room
from cognu.devices.counted import Clone, Counted, CountedFile, CountedText
from cognu.errors import THERE, E, FileError
from cognu.files.audit import audit, name_of
from cognu.files.limits import Quota, QuotaOf, Resource, whose
from cognu.files.nstext import quote, split_words
from cognu.files.server import Caller, MaybeAsync
from cognu.files.steps import Steps, start
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.ninep.types import OACCESS, ORDWR, OREAD, OWRITE
from cognu.world import Bounds, Clock, Piped, Spawn
from cognu.world.timing import end_tasks, within

log = logging.getLogger("cognu.cmd")

ARGS = "{args}"
MAX_LINE = 1 << 16
ENDING_SECONDS = 3.0
"""How long a node that stops waits for commands that it has killed."""
MAX_TOLD = 500
"""Characters of a command line that the log has."""
OPEN, EXECUTE, DONE = "Open", "Execute", "Done"
USAGE = "exec [ARG...]; kill [SIGNAL]; killonclose; nice [N]; dir PATH"
USUAL_NICE, MOST_NICE = 10, 19
XCPU = 24
"""The signal that ends who has used up its processor time, on Linux and macOS."""


@dataclass(frozen=True)
class CommandLimits:
    """What a command may have at most; None: no limit. `memory` (bytes that it may write to), `cpu` (seconds) and
    `files` (descriptors) are of each of its processes, `output` (bytes) of all that it says; `processes` are as
    `world.Bounds` has them.
    """

    memory: int | None = None
    cpu: int | None = None
    files: int | None = None
    processes: int | None = None
    output: int | None = None

    def for_peer(self) -> CommandLimits:
        """With the usual ones of a peer's commands where the owner says none."""
        usual = OF_PEERS
        return CommandLimits(
            self.memory or usual.memory,
            self.cpu,
            self.files or usual.files,
            self.processes or usual.processes,
            self.output,
        )

    def bounds(self) -> Bounds:
        return Bounds(data=self.memory, cpu=self.cpu, open_files=self.files, processes=self.processes)


OF_PEERS = CommandLimits(memory=256 << 20, files=1024, processes=64)


@dataclass(frozen=True)
class HostCommand:
    """`argv` begins with an absolute path and may have `ARGS` once; empty: whatever the caller says, with a path.

    Then the caller may choose the directory too.
    """

    argv: tuple[str, ...]
    directory: str = "/"
    environment: tuple[tuple[str, str], ...] = ()
    limits: CommandLimits = CommandLimits()

    def words(self, name: str, given: list[str]) -> list[str]:
        """What is started for the caller's arguments. Raises ACCES where none are taken, USAGE, INVAL."""
        if any("\0" in word for word in given):
            raise FileError(E.INVAL, name, "an argument has a NUL")
        if not self.argv:
            if not given or not given[0].startswith("/"):
                raise FileError(E.USAGE, name, "exec PATH [ARG...], the path of a program of the host")
            return given
        if ARGS in self.argv:
            at = self.argv.index(ARGS)
            return [*self.argv[:at], *given, *self.argv[at + 1 :]]
        if given:
            raise FileError(E.ACCES, name, f"it takes no arguments: its entry has no {ARGS}{THERE}man settings")
        return list(self.argv)


class Run(Counted):
    """One conversation. While its command runs a task of its own waits for the end."""

    tells = False

    def __init__(self, command: Command, number: int, quota: Quota | None) -> None:
        status = CountedText(self, "status", self._status)
        super().__init__(str(number), _Ctl(self), [_Data(self), _Errors(self), status, _Wait(self)])
        self.command = command
        self.quota = quota
        of_peer = whose(quota) is not None
        self.limits = command.entry.limits.for_peer() if of_peer else command.entry.limits
        self.memory = self.limits.memory or 0 if of_peer else 0  # bytes that it takes of the quota while it runs
        self.said = 0  # bytes of its output and errors that were read
        self.over_limit = ""
        self.state = OPEN
        self.directory = command.entry.directory
        self.nice = 0
        self.readers = self.writers = self.listeners = 0
        self.over = False  # hung up: what comes now comes too late
        self.ended = asyncio.Event()
        self.result = ""
        self.piped: Piped | None = None

    def _status(self) -> str:
        return f"cmd/{self.name} {self.opens} {self.state} {quote(self.directory)} {quote(self.command.name)}\n"

    def kill(self, signal: str = "KILL") -> None:
        if self.piped is not None and self.state == EXECUTE:
            self.piped.kill_group(signal)

    def release(self) -> None:
        super().release()
        if self.opens == 0:
            self.command.device.room.give(self.quota)

    def hang_up(self) -> None:
        """End it and its streams. What is still starting ends when it has."""
        self.over = True
        self.kill()
        if self.piped is not None:
            self.piped.close()

    def running(self) -> Piped:
        """Raises INVAL before `exec`."""
        if self.piped is None:
            raise FileError(E.INVAL, self.name, "nothing runs; write exec to ctl first")
        return self.piped

    async def execute(self, given: list[str], caller: Caller) -> None:
        """Raises ALREADY, DQUOT, what `HostCommand.words` does, and why the host does not start it."""
        if self.state != OPEN or self.over:
            raise FileError(E.ALREADY, "exec", self.state)
        argv = self.command.entry.words(self.command.name, given)
        if self.quota is not None:
            self.quota.check(Resource.MEMORY, self.memory)
            self.quota.take(Resource.PROCESSES)
            self.quota.add(Resource.MEMORY, self.memory)
        self.state = EXECUTE
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.command.device.begin(self._follow(argv, name_of(caller), started))
        try:
            await started
        except asyncio.CancelledError:
            self.hang_up()  # nobody hears whether it has started: then it has not
            raise

    async def _follow(self, argv: list[str], by: str, started: asyncio.Future[None]) -> None:
        """Start the command and wait for its end. It is tied to nobody's waiting, so no cancellation loses it."""
        device, entry = self.command.device, self.command.entry
        begin = device.clock.monotonic()
        try:
            piped = await device.spawn.start_piped(
                argv, dict(entry.environment), self.directory, self.listeners > 0, self.limits.bounds()
            )
        except Exception as error:
            self.state = OPEN
            self._give()
            known = isinstance(error, FileError)  # what a host's Python has against a name, say, is not in the table
            if not started.done():
                started.set_exception(error if known else FileError(E.IO, argv[0], str(error)))
            return
        line = " ".join(map(quote, argv))
        line = line if len(line) <= MAX_TOLD else f"{line[:MAX_TOLD]}…"
        audit(by, f"started command {self.command.name} on the host, process {piped.pid}: {line}")
        self.piped = piped
        try:
            self._begun(piped, started)
            status = await piped.wait()
        finally:
            piped.kill_group()  # what it left behind
            piped.close_input()
            self._give()
            self.state = DONE
        elapsed = (device.clock.monotonic() - begin) // 10**6
        message = f"signal {status - 128}" if status > 128 else f"status {status}" if status else ""
        if status == 128 + XCPU and self.limits.cpu is not None:
            self.over_limit = f"{E.CPULIMIT.text}: {self.limits.cpu} s"
        message = f"{message}: {self.over_limit}" if self.over_limit else message
        self.result = f"{piped.pid} 0 0 {elapsed} {quote(message)} {status}\n"
        self.ended.set()
        if self.over:
            piped.close()
        audit(by, f"command {self.command.name}, process {piped.pid}, ended{f': {message}' if message else ''}")

    def _begun(self, piped: Piped, started: asyncio.Future[None]) -> None:
        if self.over:
            self.hang_up()
        elif self.nice:
            try:
                piped.weigh(self.nice)
            except FileError as error:
                self.hang_up()
                if not started.done():
                    started.set_exception(error)
        if not started.done():
            started.set_result(None)

    def _give(self) -> None:
        if self.quota is not None:
            self.quota.give(Resource.PROCESSES)
            self.quota.give(Resource.MEMORY, self.memory)

    def count(self, data: bytes) -> bytes:
        """What was read of what it says. Beyond the limit there is nothing, and it is killed."""
        most = self.limits.output
        if most is not None and self.said + len(data) > most:
            data = data[: most - self.said]
            self.over_limit = f"{E.DQUOT.text}: {most} bytes of output"
            self.kill()
        self.said += len(data)
        return data


class Command(Directory):
    """`NAME`: what one command may be started by."""

    tells = False  # who may see its conversations differs

    def __init__(self, name: str, entry: HostCommand, device: CommandServer) -> None:
        super().__init__(name, [Clone(self.new)])
        self.entry = entry
        self.device = device
        self._last = -1

    def new(self, caller: Caller) -> Run:
        """One that is to be held at once. Raises AGAIN, DQUOT."""
        quota = self.device.quota_of(caller)
        self.device.room.take(quota)
        self._last += 1
        run = Run(self, self._last, quota)
        for node in (run, *run.children.values()):
            node.user = node.group = caller.user
        self.add(run)
        return run

    def find(self, name: str, caller: Caller) -> MaybeAsync[Node]:
        found = self.children.get(name)
        if found is None or not self._shows(found, caller):
            raise FileError(E.NOENT)
        return found

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        return [node for node in self.children.values() if self._shows(node, caller)]

    def _shows(self, node: Node, caller: Caller | None) -> bool:
        if not isinstance(node, Run):
            return True
        return caller is not None and whose(node.quota) is whose(self.device.quota_of(caller))


class _File(CountedFile):
    def __init__(self, run: Run, name: str, mode: int) -> None:
        super().__init__(run, name, mode)
        self.run = run


class _Ctl(_File):
    def __init__(self, run: Run) -> None:
        super().__init__(run, "ctl", 0o660)

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return f"{self.run.name}\n".encode()[offset : offset + count]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        if len(data) > MAX_LINE:
            raise FileError(E.TOOBIG, "ctl", f"{MAX_LINE} bytes")
        return start(self._control(fid, bytes(data)))

    def _control(self, fid: TreeFid, data: bytes) -> Steps[int]:
        try:
            words = split_words(data.decode())
        except UnicodeDecodeError:
            raise FileError(E.ILSEQ, "ctl") from None
        run = self.run
        assert fid.caller is not None
        match words:
            case ["exec", *given]:
                yield run.execute(given, fid.caller)
            case ["kill", *given] if len(given) < 2:
                run.running()
                run.kill(*given)
            case ["killonclose"]:
                fid.state = run
            case ["nice"]:
                self._nice(USUAL_NICE)
            case ["nice", number] if number.isascii() and number.isdigit() and int(number[:4]) <= MOST_NICE:
                self._nice(int(number))
            case ["dir", path]:
                self._change(path)
            case _:
                raise FileError(E.USAGE, " ".join(words[:1]), USAGE)
        return len(data)

    def _nice(self, nice: int) -> None:
        if self.run.piped is not None:
            self.run.piped.weigh(nice)
        self.run.nice = nice

    def _change(self, path: str) -> None:
        if self.run.command.entry.argv:
            raise FileError(E.ACCES, path, "the owner of this machine says where it runs")
        if self.run.state != OPEN:
            raise FileError(E.ALREADY, path, self.run.state)
        if not path.startswith("/") or "\0" in path:
            raise FileError(E.USAGE, path, "dir PATH, an absolute one")
        self.run.directory = path

    def close(self, fid: TreeFid) -> None:
        if fid.state is self.run:
            self.run.kill()
        super().close(fid)


class _Data(_File):
    def __init__(self, run: Run) -> None:
        super().__init__(run, "data", 0o660)
        self._reading = asyncio.Lock()
        self._writing = asyncio.Lock()

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        self.run.hold()
        self.run.readers += mode & OACCESS in (OREAD, ORDWR)
        self.run.writers += mode & OACCESS in (OWRITE, ORDWR)

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        piped = self.run.running()
        async with self._reading:
            return self.run.count(await piped.read(count)) if count else b""

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        piped = self.run.running()
        async with self._writing:
            return await piped.write(data) if data else 0

    def close(self, fid: TreeFid) -> None:
        run = self.run
        assert fid.mode is not None
        if fid.mode & OACCESS in (OREAD, ORDWR):
            run.readers -= 1
            if not run.readers and run.piped is not None:
                run.piped.close_output()
        if fid.mode & OACCESS in (OWRITE, ORDWR):
            run.writers -= 1
            if not run.writers and run.piped is not None:
                run.piped.close_input()
        super().close(fid)


class _Errors(_File):
    def __init__(self, run: Run) -> None:
        super().__init__(run, "stderr", 0o440)
        self._reading = asyncio.Lock()

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        self.run.hold()
        self.run.listeners += 1

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        piped = self.run.running()
        async with self._reading:
            return self.run.count(await piped.read_errors(count)) if count else b""

    def close(self, fid: TreeFid) -> None:
        self.run.listeners -= 1
        if not self.run.listeners and self.run.piped is not None:
            self.run.piped.close_errors()
        super().close(fid)


class _Wait(_File):
    def __init__(self, run: Run) -> None:
        super().__init__(run, "wait", 0o440)

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        await self.run.ended.wait()
        return self.run.result.encode()[offset : offset + count]


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*map(asyncio.shield, tasks), return_exceptions=True)


class CommandServer(TreeServer):
    """`spawn` starts what the `commands` say. Whoever made this closes it, when no file of it is open any more."""

    def __init__(self, spawn: Spawn, clock: Clock, commands: Mapping[str, HostCommand], quota_of: QuotaOf) -> None:
        self.spawn = spawn
        self.clock = clock
        self.quota_of = quota_of
        self.room = Room(quota_of)
        self._tasks: set[asyncio.Task[None]] = set()
        self._commands = [Command(name, entry, self) for name, entry in commands.items()]
        super().__init__("#C", Directory("", self._commands))

    @property
    def ends_with_right(self) -> bool:
        return True

    @property
    def runs(self) -> int:
        """How many run, or are about to."""
        return len(self._tasks)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what still runs, and wait for it, but not for what the host won't end: another user's process, say."""
        for command in self._commands:
            for run in list(command.children.values()):
                if isinstance(run, Run):
                    run.hang_up()
        tasks = list(self._tasks)
        try:
            await within(self.clock, ENDING_SECONDS, _ended(tasks))
        except TimeoutError:
            log.warning("%d commands of the host could not be ended", self.runs)
            await end_tasks(*tasks)
