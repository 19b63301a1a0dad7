"""A `System` in memory for the shell's tests: files, unions, bounded pipes, programs as Python functions.

It counts what is open, so a test can say that nothing leaked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cognu.errors import E, FileError
from cognu.files.server import Notice
from cognu.ninep.types import DMDIR, DMSYMLINK, Qid, SetStat, Stat
from cognu.shell.ahead import Room
from cognu.shell.interactive import run_once
from cognu.shell.state import Shell, Streams
from cognu.shell.system import File, Flags, Grant, Mode, Note, ProcessInfo, Program, RunOptions, Want, absolute
from cognu.world import Clock

PIPE_SIZE = 16


@dataclass
class Node:
    """A file (`children` is None), a directory, or a link."""

    number: int
    data: bytearray = field(default_factory=bytearray)
    children: dict[str, Node] | None = None
    link: str | None = None
    mtime: int = 0
    refuse: E | None = None
    refuse_close: E | None = None
    mode: int | None = None

    def stat(self, name: str) -> Stat:
        kind = DMDIR if self.children is not None else DMSYMLINK if self.link is not None else 0
        mode = kind | ((0o755 if kind else 0o644) if self.mode is None else self.mode)
        qid = Qid(kind >> 24, 0 if kind else 1, self.number)  # what is stored has a version
        return Stat(name, qid, mode, len(self.data), self.mtime, user="me", group="us")


class FakeFile:
    def __init__(self, world: FakeWorld, path: str) -> None:
        self.world = world
        self.path = path
        self.is_open = True
        world.open_files.add(self)

    def dup(self) -> FakeFile:
        raise NotImplementedError

    async def read(self, count: int = 65536) -> bytes:
        raise FileError(E.BADF, self.path)

    async def write(self, data: bytes) -> None:
        raise FileError(E.BADF, self.path)

    async def close(self) -> None:
        self.is_open = False
        self.world.open_files.discard(self)


class NodeFile(FakeFile):
    def __init__(self, world: FakeWorld, path: str, node: Node, mode: Mode) -> None:
        super().__init__(world, path)
        self.node = node
        self.mode: Mode = mode
        self.offset = 0

    def dup(self) -> FakeFile:
        return NodeFile(self.world, self.path, self.node, self.mode)

    async def read(self, count: int = 65536) -> bytes:
        if not self.is_open or self.mode not in ("r", "rw"):
            raise FileError(E.BADF, self.path)
        if self.path == "/dev/null":
            return b""
        data = bytes(self.node.data[self.offset : self.offset + count])
        self.offset += len(data)
        self.world.most_read = max(self.world.most_read, len(data))
        return data

    async def has_positions(self) -> bool:
        return False

    def step_back(self, count: int) -> None:
        self.offset -= count

    async def write(self, data: bytes) -> None:
        if not self.is_open or self.mode == "r":
            raise FileError(E.BADF, self.path)
        if self.node.refuse is not None:
            raise FileError(self.node.refuse, self.path)
        if self.world.full_after is not None and len(self.node.data) + len(data) > self.world.full_after:
            raise FileError(E.NOSPC, self.path)
        if self.path != "/dev/null":
            self.node.data += data
        if self.world.stuck_after is not None:
            self.world.stuck_after.set()
            await asyncio.Event().wait()

    async def close(self) -> None:
        was_open = self.is_open
        await super().close()
        if was_open and self.node.refuse_close is not None:
            raise FileError(self.node.refuse_close, self.path)


class Pipe:
    def __init__(self) -> None:
        self.data = bytearray()
        self.readers = 0
        self.writers = 0
        self.changed = asyncio.Condition()


class PipeEnd(FakeFile):
    def __init__(self, world: FakeWorld, pipe: Pipe, writes: bool, path: str = "pipe") -> None:
        super().__init__(world, path)
        self.pipe = pipe
        self.writes = writes
        pipe.writers += writes
        pipe.readers += not writes

    def dup(self) -> FakeFile:
        return PipeEnd(self.world, self.pipe, self.writes, self.path)

    async def read(self, count: int = 65536) -> bytes:
        assert not self.writes
        async with self.pipe.changed:
            await self.pipe.changed.wait_for(lambda: self.pipe.data or not self.pipe.writers or not self.is_open)
            if not self.is_open:
                raise FileError(E.BADF, self.path)
            data = bytes(self.pipe.data[:count])
            del self.pipe.data[:count]
            self.pipe.changed.notify_all()
            return data

    async def write(self, data: bytes) -> None:
        assert self.writes
        for start in range(0, len(data), PIPE_SIZE):
            async with self.pipe.changed:
                await self.pipe.changed.wait_for(
                    lambda: len(self.pipe.data) < PIPE_SIZE or not self.pipe.readers or not self.is_open
                )
                if not self.is_open:
                    raise FileError(E.BADF, self.path)
                if not self.pipe.readers:
                    raise FileError(E.PIPE, self.path)
                self.pipe.data += data[start : start + PIPE_SIZE]
                self.pipe.changed.notify_all()

    async def close(self) -> None:
        if self.is_open:
            await super().close()
            self.pipe.writers -= self.writes
            self.pipe.readers -= not self.writes
            async with self.pipe.changed:
                self.pipe.changed.notify_all()


class Posting(FakeFile):
    async def close(self) -> None:
        await super().close()
        self.world.posted.discard(self.path)


class Collector(FakeFile):
    """Collects what is written; `wrote` is set at each write."""

    def __init__(self, world: FakeWorld, path: str) -> None:
        super().__init__(world, path)
        self.data = bytearray()
        self.wrote = asyncio.Event()

    def dup(self) -> FakeFile:
        copy = Collector(self.world, self.path)
        copy.data, copy.wrote = self.data, self.wrote
        return copy

    async def write(self, data: bytes) -> None:
        assert self.is_open
        self.data += data
        self.wrote.set()

    async def until(self, text: bytes) -> None:
        while text not in self.data:
            self.wrote.clear()
            await self.wrote.wait()

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "surrogateescape")


@dataclass
class Running:
    """What a fake program is given."""

    argv: tuple[str, ...]
    env: dict[str, str]
    stdin: File
    stdout: File
    stderr: File
    options: RunOptions
    system: FakeSystem


ProgramFunction = Callable[[Running], Awaitable[int]]


class FakeChild:
    def __init__(self, pid: int, name: str, work: Awaitable[int], stubborn: bool = False) -> None:
        self.pid = pid
        self.name = name
        self.status = 0
        self.message = ""
        self.notes: list[Note] = []
        self.noted = asyncio.Event()
        self.stubborn = stubborn
        self.task = asyncio.ensure_future(work)
        self.wanted: list[Want] = []
        self.asked_for: list[str] = []
        self.answers: list[tuple[Want, bool]] = []
        self.answered = asyncio.Event()
        self.closed = False

    async def want(self) -> Want | None:
        if self.wanted:
            return self.wanted.pop(0)
        await asyncio.wait([self.task])
        return self.wanted.pop(0) if self.wanted else None

    async def asked(self, want: Want) -> None:
        self.asked_for.append(want.path)

    async def answer(self, want: Want, yes: bool) -> None:
        self.answers.append((want, yes))
        self.answered.set()

    async def close(self) -> None:
        self.closed = True

    async def wait(self) -> int:
        await asyncio.wait([self.task])
        if self.task.cancelled():
            return 137 if "kill" in self.notes else 130
        return self.task.result()

    async def note(self, note: Note) -> None:
        self.notes.append(note)
        self.noted.set()
        if note == "kill" or not self.stubborn:
            self.task.cancel()


class FakeClock:
    """Sleeping ends when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.slept = asyncio.Event()
        self.wake = asyncio.Event()

    def now(self) -> int:
        return 10**18

    def monotonic(self) -> int:
        return 10**9

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.slept.set()
        await self.wake.wait()


class FakeWatch:
    """Tells what the test puts into `notices`."""

    def __init__(self, kinds: int) -> None:
        self.kinds = kinds
        self.notices: asyncio.Queue[Notice] = asyncio.Queue()
        self.is_open = True

    async def next(self) -> Notice:
        return await self.notices.get()

    async def close(self) -> None:
        self.is_open = False


class FakeWorld:
    """What all views of the fake system share."""

    def __init__(self) -> None:
        self.open_files: set[FakeFile] = set()
        self.numbers = 1
        self.root = Node(1, children={})
        self.unions: dict[str, list[str]] = {}
        self.foreign: set[str] = set()
        self.programs: dict[str, ProgramFunction] = {}
        self.stubborn: set[str] = set()
        self.children: list[FakeChild] = []
        self.calls: list[tuple[object, ...]] = []
        self.table: list[ProcessInfo] = []
        self.answers: dict[str, Any] = {"widened": {}}
        self.most_read = 0
        self.full_after: int | None = None  # bytes of a file beyond which there is no room
        self.stuck_after: asyncio.Event | None = None  # set by a write, which then does not end
        self.pipes_left = 1000
        self.posted: set[str] = set()
        self.tells = True
        self.watches: dict[str, FakeWatch] = {}

    def node(self, **values: object) -> Node:
        self.numbers += 1
        return Node(self.numbers, **values)  # type: ignore[arg-type]


class FakeSystem:
    def __init__(
        self,
        world: FakeWorld | None = None,
        cwd: str = "/home/me",
        clock: Clock | None = None,
        room: Room | None = None,
    ) -> None:
        self.world = world or FakeWorld()
        self.cwd = cwd
        self.user = "me"
        self.pid = 7
        self.clock: Clock = clock or FakeClock()
        self.room = room or Room()

    def view(self) -> FakeSystem:
        return FakeSystem(self.world, self.cwd, self.clock, self.room)

    # Preparing and looking, for tests.

    def make(self, path: str, data: bytes | None = None, link: str | None = None) -> Node:
        """Make a file (or a directory, if `data` is None) with its parents."""
        *parents, name = absolute(self.cwd, path).strip("/").split("/")
        directory = self.world.root
        for parent in parents:
            assert directory.children is not None
            directory = directory.children.setdefault(parent, self.world.node(children={}))
        node = self.world.node(link=link) if link else self.world.node(children={} if data is None else None)
        if data is not None:
            node.data += data
        assert directory.children is not None
        return directory.children.setdefault(name, node)

    def data(self, path: str) -> bytes:
        return bytes(self._find(path).data)

    def node(self, path: str) -> Node:
        return self._find(path)

    def has(self, path: str) -> bool:
        try:
            self._find(path, follow=False)
        except FileError:
            return False
        return True

    def _members(self, path: str, depth: int = 0) -> list[Node]:
        """The directories (or the file) at an absolute path, several for a union."""
        if depth > 20:
            raise FileError(E.LOOP, path)
        if path in self.world.unions:
            members: list[Node] = []
            for member in self.world.unions[path]:
                members.extend([self._plain(member, depth)] if member == path else self._members(member, depth + 1))
            return members
        return [self._plain(path, depth)]

    def _plain(self, path: str, depth: int) -> Node:
        if path == "/":
            return self.world.root
        parent, _, name = path.rpartition("/")
        for member in self._members(parent or "/", depth):
            if member.link is not None:
                above = parent.rpartition("/")[0] or "/"
                member = self._members(absolute(above, member.link), depth + 1)[0]
            if member.children is None:
                raise FileError(E.NOTDIR, path)
            if name in member.children:
                return member.children[name]
        raise FileError(E.NOENT, path)

    def _find(self, path: str, follow: bool = True) -> Node:
        try:
            here = absolute(self.cwd, path)
            node = self._members(here)[0]
            for _ in range(20):
                if node.link is None or not follow:
                    return node
                node = self._members(absolute(here.rpartition("/")[0] or "/", node.link))[0]
        except FileError as error:
            raise FileError(error.error, path) from None
        raise FileError(E.LOOP, path)

    def _parent(self, path: str) -> tuple[dict[str, Node], str]:
        directory, _, name = absolute(self.cwd, path).rpartition("/")
        try:
            members = self._members(directory or "/")
        except FileError as error:
            raise FileError(error.error, path) from None
        for member in members:
            if member.children is not None and name in member.children:
                return member.children, name
        if members[0].children is None:
            raise FileError(E.NOTDIR, path)
        return members[0].children, name

    # The protocol.

    async def chdir(self, path: str) -> None:
        if self._find(path).children is None:
            raise FileError(E.NOTDIR, path)
        self.cwd = absolute(self.cwd, path)

    async def open(self, path: str, mode: Mode, perm: int = 0o666) -> File:
        # A real system answers later; commands must not depend on being alone.
        await asyncio.sleep(0)
        parent, name = self._parent(path)
        if mode in ("w", "a") and name not in parent:
            parent[name] = self.world.node(mode=perm & 0o755)
        node = self._find(path)
        if node.children is not None:
            raise FileError(E.ISDIR, path)
        if node.refuse is E.ACCES:
            raise FileError(E.ACCES, path)
        if mode == "w":
            node.data.clear()
        return NodeFile(self.world, absolute(self.cwd, path), node, mode)

    async def mkdir(self, path: str, perm: int = 0o777) -> None:
        parent, name = self._parent(path)
        if name in parent:
            raise FileError(E.EXIST, path)
        parent[name] = self.world.node(children={}, mode=perm & 0o755)

    async def stat(self, path: str, follow: bool = True) -> Stat:
        return self._find(path, follow).stat(absolute(self.cwd, path).rpartition("/")[2] or "/")

    async def watch(self, path: str, kinds: int) -> FakeWatch:
        self._find(path)
        if not self.world.tells:
            raise FileError(E.NOTSUP, path)
        watch = self.world.watches[absolute(self.cwd, path)] = FakeWatch(kinds)
        return watch

    async def resolve(self, path: str) -> str:
        whole = absolute(self.cwd, path)
        self._parent(whole)
        for _ in range(10):
            try:
                node = self._find(whole, follow=False)
            except FileError:
                break
            if node.link is None:
                break
            whole = absolute(whole.rpartition("/")[0], node.link)
        return whole

    async def list(self, path: str) -> list[Stat]:
        self._find(path)
        entries: list[Stat] = []
        for member in self._members(absolute(self.cwd, path)):
            if member.link is not None:
                member = self._find(path)
            if member.children is None:
                raise FileError(E.NOTDIR, path)
            if member.refuse is not None:
                raise FileError(member.refuse, path)
            entries.extend(node.stat(name) for name, node in member.children.items())
        return entries

    async def remove(self, path: str) -> None:
        parent, name = self._parent(path)
        if name not in parent:
            raise FileError(E.NOENT, path)
        if parent[name].children:
            raise FileError(E.NOTEMPTY, path)
        del parent[name]

    async def rename(self, old: str, new: str) -> None:
        source, old_name = self._parent(old)
        if old_name not in source:
            raise FileError(E.NOENT, old)
        paths = [absolute(self.cwd, path) for path in (old, new)]
        for prefix in self.world.foreign:
            if paths[0].startswith(prefix) != paths[1].startswith(prefix):
                raise FileError(E.XDEV, old)
        target, new_name = self._parent(new)
        target[new_name] = source.pop(old_name)

    async def wstat(self, path: str, change: SetStat) -> None:
        node = self._find(path)
        if node.refuse is E.PERM:
            raise FileError(E.PERM, path)
        if change.mtime_now:
            node.mtime = self.clock.now()
        if change.mode is not None:
            node.mode = change.mode & 0o777

    async def pipe(self) -> tuple[File, File]:
        await asyncio.sleep(0)
        if not self.world.pipes_left:
            raise FileError(E.MFILE)
        self.world.pipes_left -= 1
        pipe = Pipe()
        return PipeEnd(self.world, pipe, writes=False), PipeEnd(self.world, pipe, writes=True)

    async def post(self, name: str) -> tuple[File, File]:
        """The end reads as empty."""
        if name in self.world.posted:
            raise FileError(E.EXIST, f"/srv/{name}")
        self.world.posted.add(name)
        return await self.open("/dev/null", "rw"), Posting(self.world, name)

    async def bind(self, new: str, old: str, flags: Flags) -> None:
        self._find(new)
        self._find(old)
        self.world.calls.append(("bind", new, old, flags))
        source, place = absolute(self.cwd, new), absolute(self.cwd, old)
        chain = self.world.unions.get(place, [place])
        orders = {"replace": [source], "before": [source, *chain], "after": [*chain, source]}
        self.world.unions[place] = orders[flags.order]

    async def mount(self, service: str, old: str, flags: Flags, aname: str = "") -> None:
        self.world.calls.append(("mount", service, old, flags, aname))

    async def unmount(self, new: str | None, old: str) -> None:
        if absolute(self.cwd, old) not in self.world.unions:
            raise FileError(E.NOTMOUNTED, old)
        self.world.calls.append(("unmount", new, old))
        del self.world.unions[absolute(self.cwd, old)]

    async def start(
        self,
        program: Program,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: File,
        stdout: File,
        stderr: File,
        options: RunOptions,
    ) -> FakeChild:
        self.world.calls.append(("start", program, tuple(argv), options))
        if not program.by_hash:
            self._find(program.text)
        function = self.world.programs.get(program.text)
        if function is None:
            raise FileError(E.NOENT if program.by_hash else E.NOEXEC, program.text)
        files = [file.dup() for file in (stdin, stdout, stderr) if isinstance(file, FakeFile)]
        running = Running(tuple(argv), dict(env), files[0], files[1], files[2], options, self)
        return self._child(function, running, files, program.text in self.world.stubborn)

    def _child(
        self, function: ProgramFunction, running: Running, files: Sequence[FakeFile], stubborn: bool
    ) -> FakeChild:
        async def work() -> int:
            try:
                return await function(running)
            except FileError as error:
                return 141 if error.error is E.PIPE else 1
            finally:
                for file in files:
                    await file.close()

        child = FakeChild(100 + len(self.world.children), (running.argv or ("cpu",))[0], work(), stubborn)
        self.world.children.append(child)
        return child

    async def rpc(self, verb: str, **arguments: object) -> Any:
        self.world.calls.append(("rpc", verb, arguments))
        return self.world.answers[verb]

    async def remember(self, program: str, name: str, grant: Grant, allowed: bool) -> None:
        self.world.calls.append(("remember", program, name, grant, allowed))

    async def processes(self) -> Sequence[ProcessInfo]:
        return self.world.table

    async def control(self, pid: int, line: str) -> None:
        if pid not in [process.pid for process in self.world.table]:
            raise FileError(E.SRCH, str(pid))
        self.world.calls.append(("ctl", pid, line))

    async def wait(self, pid: int) -> int:
        for child in self.world.children:
            if child.pid == pid:
                return await child.wait()
        raise FileError(E.SRCH, str(pid))

    async def put(self, path: str, name: str | None) -> str:
        self._find(path)
        self.world.calls.append(("put", path, name))
        return "bafkr4itest"

    async def get(self, digest: str) -> File:
        return await self.open(f"/store/{digest}", "r")

    async def ask(self, path: str, question: str) -> Sequence[str]:
        self.world.calls.append(("ask", path, question))
        return [f"{question} is known\n"]

    async def fetch(self, url: str) -> File:
        if not url.startswith("http://"):
            raise FileError(E.NETUNREACH, url)
        return await self.open("/page", "r")

    async def import_tree(self, node: str, path: str, at: str, read_only: bool = False) -> None:
        self.world.calls.append(("import", node, path, at, *(["read-only"] if read_only else [])))

    async def export_tree(
        self, path: str, node: str | None, write: bool, hide: Sequence[str] = (), show: Sequence[str] = ()
    ) -> Mapping[str, Sequence[str]]:
        self.world.calls.append(("export", path, node, write))
        return {node or "pi": [f"{'write' if write else 'read'}:{path}"]}

    async def cpu(
        self,
        node: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: File,
        stdout: File,
        stderr: File,
        options: RunOptions,
    ) -> FakeChild:
        self.world.calls.append(("cpu", node, tuple(argv), options.grants))
        if "cpu" not in self.world.programs:
            raise FileError(E.NOPEER, node)
        files = [file.dup() for file in (stdin, stdout, stderr) if isinstance(file, FakeFile)]
        running = Running(tuple(argv), dict(env), files[0], files[1], files[2], options, self)
        return self._child(self.world.programs["cpu"], running, files, stubborn=False)


@dataclass
class Result:
    status: int
    out: str
    err: str


class Bench:
    """A shell on a fake system. `run` runs a text and says what came of it; nothing may be left open."""

    def __init__(self) -> None:
        self.system = FakeSystem()
        for directory in ("/home/me", "/bin", "/tmp", "/n", "/store"):
            self.system.make(directory)
        self.system.make("/dev/null", b"")
        self.shell = Shell(self.system, {"HOME": "/home/me"}, ("sh", "one", "two words"))
        self.stdin = b""

    @property
    def world(self) -> FakeWorld:
        return self.system.world

    def program(self, name: str, function: ProgramFunction, stubborn: bool = False) -> None:
        """Put a program at `/bin/NAME`."""
        self.system.make(f"/bin/{name}", b"\0asm")
        self.world.programs[f"/bin/{name}"] = function
        if stubborn:
            self.world.stubborn.add(f"/bin/{name}")

    def child(self, name: str) -> FakeChild:
        """The one process that was started as `name`."""
        (child,) = [child for child in self.world.children if child.name == name]
        return child

    def streams(self, terminal: bool = False) -> tuple[Streams, Collector, Collector]:
        node = self.world.node()
        node.data += self.stdin
        path = "/dev/cons" if terminal else "/out"
        out, err = Collector(self.world, path), Collector(self.world, path)
        return Streams(NodeFile(self.world, "/in", node, "r"), out, err), out, err

    async def run(self, text: str, terminal: bool = False) -> Result:
        streams, out, err = self.streams(terminal)
        status = await run_once(self.shell, text, streams)
        await self.close(streams)
        return Result(status, out.text, err.text)

    async def close(self, streams: Streams) -> None:
        for file in (streams.stdin, streams.stdout, streams.stderr):
            await file.close()
        assert not self.world.open_files, [file.path for file in self.world.open_files]
