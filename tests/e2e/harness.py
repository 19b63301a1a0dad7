"""Nodes as operating system processes of their own, and a 9P client of them, for the end-to-end tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cognu.cli.serving import confine
from cognu.errors import E, FileError
from cognu.files.mount import FarFid, MountServer
from cognu.files.nstext import quote, split_words
from cognu.files.rpc import answer_of, request_text
from cognu.files.shown import Shown
from cognu.ninep.messages import Dialect
from cognu.ninep.types import ORDWR, OREAD, OWRITE, QTDIR, Stat
from cognu.world.real import RealClock, real_world

CHUNK = 1 << 20


@dataclass(frozen=True)
class Me:
    """The caller of this side."""

    pid: int = 1
    user: str = "tester"


class File:
    """An open file of a client's session; its fid is a descriptor of the session's process."""

    def __init__(self, mount: MountServer, fid: FarFid) -> None:
        self.mount = mount
        self.fid = fid
        self.offset = 0

    @property
    def number(self) -> int:
        return self.fid.number

    async def read(self, count: int = CHUNK) -> bytes:
        """From where the last read ended; `b""` at the end."""
        data = bytes(await self.mount.read(self.fid, self.offset, count))
        self.offset += len(data)
        return data

    async def read_all(self) -> bytes:
        parts = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            taken = await self.mount.write(self.fid, self.offset, rest)
            self.offset += taken
            rest = rest[taken:]

    def close(self) -> None:
        self.mount.clunk(self.fid)


@dataclass(frozen=True)
class Ended:
    """What a process left: what it wrote, its exit status and the message of its end."""

    output: bytes
    errors: bytes
    status: int
    message: str


class Running:
    """A process started by `Client.start`, with this side's ends of its streams."""

    def __init__(self, client: Client, pid: int, ctl: File, wait: File, streams: Sequence[File]) -> None:
        self.client = client
        self.pid = pid
        self.ctl = ctl
        self.wait_file = wait
        self.stdin, self.stdout, self.stderr = streams

    async def tell(self, line: str) -> None:
        """A line for its ctl, such as `kill`."""
        await self.ctl.write(line.encode())

    async def wait(self) -> tuple[int, str]:
        """Its exit status, and why it ended if not by exit."""
        words = split_words((await self.wait_file.read_all()).decode())
        return int(words[5]), words[4]

    async def end(self, stdin: bytes = b"") -> Ended:
        """Give it its input, take all its output, wait for its end."""
        output = asyncio.gather(self.stdout.read_all(), self.stderr.read_all())
        try:
            if stdin:
                await self.stdin.write(stdin)
            self.stdin.close()
            out, err = await output
        finally:
            output.cancel()
        status, message = await self.wait()
        for file in (self.stdout, self.stderr, self.wait_file, self.ctl):
            file.close()
        return Ended(out, err, status, message)


class Client:
    """A connection to a node's socket: a session with a process and a namespace of its own there."""

    def __init__(self, mount: MountServer, root: FarFid) -> None:
        self.mount = mount
        self.root = root

    @classmethod
    async def connect(cls, socket: str, aname: str = "", dialect: Dialect = Dialect.NG) -> Client:
        network = real_world().network
        stream = await (network.connect_unix(socket) if socket.startswith("/") else network.connect_tcp(socket))
        mount = await MountServer.connect(stream, RealClock(), offer=dialect)
        try:
            return cls(mount, far(await mount.attach(Me(), aname)))
        except BaseException:
            await mount.close()
            raise

    async def close(self) -> None:
        await self.mount.close()

    # -- files ----------------------------------------------------------------------------------------------------

    async def walk(self, path: str, at: FarFid | None = None) -> FarFid:
        """Raises NOENT."""
        names = [name for name in path.split("/") if name]
        walked = await self.mount.walk(at or self.root, names, Me())
        if walked.fid is None:
            # The walk does not say why (walk(5)), but one of the last name alone does.
            above = await self.mount.walk(at or self.root, names[: len(walked.qids)], Me())
            assert above.fid is not None
            try:
                await self.mount.walk(above.fid, names[len(walked.qids) : len(walked.qids) + 1], Me())
            finally:
                self.mount.clunk(above.fid)
            raise FileError(E.NOENT, path)
        return far(walked.fid)

    async def open(self, path: str, mode: int = OREAD, at: FarFid | None = None) -> File:
        fid = await self.walk(path, at)
        try:
            await self.mount.open(fid, mode, Me())
        except BaseException:
            self.mount.clunk(fid)
            raise
        return File(self.mount, fid)

    async def create(self, path: str, perm: int = 0o666, mode: int = ORDWR) -> File:
        above, _, name = path.rpartition("/")
        directory = await self.walk(above)
        try:
            return File(self.mount, far(await self.mount.create(directory, name, perm, mode, Me())))
        finally:
            self.mount.clunk(directory)

    async def read(self, path: str) -> bytes:
        file = await self.open(path)
        try:
            return await file.read_all()
        finally:
            file.close()

    async def write(self, path: str, data: bytes | str) -> None:
        file = await self.open(path, OWRITE)
        try:
            await file.write(data if isinstance(data, bytes) else data.encode())
        finally:
            file.close()

    async def list(self, path: str) -> list[str]:
        """Sorted names in a directory."""
        file = await self.open(path)
        try:
            assert file.fid.qid.type & QTDIR
            names: list[str] = []
            cookie = 0
            while entries := await self.mount.readdir(file.fid, cookie, 256):
                names += (entry.name for entry in entries)
                cookie = entries[-1].cookie
            return sorted(names)
        finally:
            file.close()

    async def stat(self, path: str) -> Stat:
        fid = await self.walk(path)
        try:
            return await self.mount.stat(fid)
        finally:
            self.mount.clunk(fid)

    async def rpc(self, verb: str, **arguments: Any) -> Any:
        """A request to the node itself. Raises what it answers."""
        file = await self.open("/mnt/node/rpc", ORDWR)
        try:
            await self.mount.write(file.fid, 0, request_text(verb, arguments))
            return answer_of(await file.read_all())
        finally:
            file.close()

    async def dial(self, protocol: str, address: str, net: str = "/net") -> File:
        """Connect through a /net: the conversation's data file."""
        ctl = await self.open(f"{net}/{protocol}/clone", ORDWR)
        try:
            number = (await ctl.read()).decode().strip()
            await self.mount.write(ctl.fid, 0, f"connect {address}".encode())
            return await self.open(f"{net}/{protocol}/{number}/data", ORDWR)
        finally:
            ctl.close()

    # -- namespace and processes ----------------------------------------------------------------------------------

    async def pid(self) -> int:
        """This session's process."""
        return int(await self.read("/dev/pid"))

    async def ns(self) -> str:
        return (await self.read(f"/proc/{await self.pid()}/ns")).decode()

    async def change_ns(self, text: str) -> None:
        await self.write(f"/proc/{await self.pid()}/ns", text)

    async def put(self, data: bytes, name: str = "") -> str:
        """Keep an object in the node's store; its hash."""
        file = await self.open("/mnt/store/put", ORDWR)
        try:
            await file.write(data)
            file.offset = 0
            score = (await file.read_all()).decode().strip()
        finally:
            file.close()
        if name:
            await self.write("/mnt/store/ctl", f"name {quote(name)} {score}")
        return score

    async def pipe(self) -> tuple[File, File]:
        root = far(await self.mount.attach(Me(), "#|"))
        try:
            return await self.open("data", ORDWR, root), await self.open("data1", ORDWR, root)
        finally:
            self.mount.clunk(root)

    async def start(
        self, program: str, *args: str, on: str = "", grants: Sequence[str] = (), lines: Sequence[str] = ()
    ) -> Running:
        """Start a program with pipes as its streams. `grants`: as `/path rights`; `lines`: more for its ctl."""
        ctl = await self.open("/proc/clone", ORDWR)
        ends: list[tuple[File, File]] = []
        wait: File | None = None
        try:
            pid = int(await ctl.read())
            for number in range(3):
                near, theirs = await self.pipe()
                ends.append((near, theirs))
                await ctl.write(f"fd {number} {theirs.number}".encode())
                theirs.close()
            for line in [f"program {quote(program)}", *(f"arg {quote(word)}" for word in args), *lines]:
                await ctl.write(line.encode())
            for grant in grants:
                path, _, rights = grant.rpartition(" ")
                await ctl.write(f"grant {quote(path)} {rights}".encode())
            if on:
                await ctl.write(f"on {quote(on)}".encode())
            wait = await self.open(f"/proc/{pid}/wait")
            await ctl.write(b"start")
        except BaseException:
            for file in [near for near, _ in ends] + [ctl] + ([wait] if wait else []):
                file.close()
            raise
        return Running(self, pid, ctl, wait, [near for near, _ in ends])

    async def run(self, program: str, *args: str, stdin: bytes = b"", **how: Any) -> Ended:
        """`start` and `end`."""
        return await (await self.start(program, *args, **how)).end(stdin)


@asynccontextmanager
async def confined(node: NodeProcess, shown: Shown) -> AsyncIterator[MountServer]:
    """A 9P client of a node that sees one tree alone, as `9p --stdio` lets one."""
    stream = await real_world().network.connect_unix(node.socket)
    await confine(stream, shown)
    mount = await MountServer.connect(stream, RealClock())
    try:
        yield mount
    finally:
        await mount.close()


def far(fid: object) -> FarFid:
    assert isinstance(fid, FarFid)
    return fid


@contextmanager
def daemon(path: Path) -> Iterator[NodeProcess]:
    """A node that `cognu up` made, with its home in `path`, for all tests of a module; it may log no trouble."""
    node = NodeProcess(path / "home", "desk")
    node.errors.touch()
    up = [*node.argv("up"), "--name", "desk", "--listen", "127.0.0.1:0"]
    subprocess.run(up, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    try:
        yield node
    finally:
        subprocess.run(node.argv("down"), capture_output=True)
    assert log_trouble(node) == []


class NodeProcess:
    """`python -m cognu.node`, or another module, with a home of its own."""

    def __init__(self, home: Path, name: str, *options: str, module: Sequence[str] = ("-m", "cognu.node")) -> None:
        self.home = home
        self.name = name
        self.options = options
        self.module = module
        self.prefix: Sequence[str] = ()
        """What stands before the node's command, and before those of its user: what runs them on another host."""
        self.process: asyncio.subprocess.Process | None = None

    @property
    def socket(self) -> str:
        return str(self.home / "node.sock")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def errors(self) -> Path:
        """What it wrote to its standard error."""
        return self.home.with_name(f"{self.home.name}.errors")

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    async def start(self) -> NodeProcess:
        """Returns once it serves. Raises `RuntimeError` with what it says if it does not."""
        ours, theirs = os.pipe()
        errors = os.open(self.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            argv = [*self.module, "--home", str(self.home), "--name", self.name, "--ready-fd", str(theirs)]
            self.process = await asyncio.create_subprocess_exec(
                *self.prefix, sys.executable, *argv, *self.options, pass_fds=[theirs], stderr=errors
            )
        finally:
            os.close(theirs)
            os.close(errors)
        with os.fdopen(ours) as ready:
            said = await asyncio.to_thread(ready.readline)
        if said != "ready\n":
            await self.process.wait()
            raise RuntimeError(f"{said}{self.errors.read_text()}")
        return self

    async def stop(self) -> int:
        """SIGTERM; its exit status."""
        return await self.signal(signal.SIGTERM)

    async def signal(self, number: int) -> int:
        process = self.process
        assert process is not None
        if process.returncode is None:
            process.send_signal(number)
        return await process.wait()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        client = await Client.connect(self.socket)
        try:
            yield client
        finally:
            await client.close()

    async def command(self, *words: str, stdin: bytes = b"", cwd: Path | None = None) -> Ended:
        """The installed command, as a user of this node types it."""
        made = await self.begin(*words, cwd=cwd)
        out, err = await made.communicate(stdin)
        assert made.returncode is not None
        return Ended(out, err, made.returncode, "")

    async def begin(self, *words: str, cwd: Path | None = None) -> asyncio.subprocess.Process:
        """The same with pipes as its streams, left running."""
        return await asyncio.create_subprocess_exec(
            *self.argv(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd
        )

    def argv(self, *words: str) -> list[str]:
        return [*self.prefix, str(Path(sys.executable).with_name("cognu")), "--home", str(self.home), *words]

    def open_files(self) -> int:
        """How many descriptors it has open."""
        listed = Path(f"/proc/{self.pid}/fd")
        if listed.exists():
            return len(list(listed.iterdir()))
        lines = subprocess.run(["lsof", "-p", str(self.pid)], capture_output=True, text=True, check=True).stdout
        return len(lines.splitlines())

    def children(self) -> list[int]:
        """The operating system's processes that it started."""
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in table.splitlines()]
        return [int(pid) for pid, parent in rows if int(parent) == self.pid]


LOOPBACK = ("--listen", "127.0.0.1:0", "--host", "127.0.0.1")


class Pair:
    """Two nodes, `desk` and `pi`; `shared` is a directory of pi's."""

    def __init__(self, path: Path, *, pi_options: Sequence[str] = (), desk_options: Sequence[str] = ()) -> None:
        self.path = path
        self.shared = path / "pi-shared"
        self.notes = path / "desk-files"
        for directory in (self.shared, self.notes):
            directory.mkdir(parents=True)
        self.desk = NodeProcess(path / "desk", "desk", *LOOPBACK, *desk_options)
        self.pi = NodeProcess(path / "pi", "pi", *LOOPBACK, *pi_options)


async def join(inviter: NodeProcess, joiner: NodeProcess, *grants: str) -> dict[str, Any]:
    """`inviter` invites `joiner` and grants it `grants`; what `join` answers there."""
    async with inviter.client() as theirs, joiner.client() as ours:
        invitation = await theirs.rpc("invite", grants=list(grants))
        answer: dict[str, Any] = await ours.rpc("join", ticket=invitation["ticket"])
        return answer


@asynccontextmanager
async def pair(path: Path, *grants: str, **options: Sequence[str]) -> AsyncIterator[Pair]:
    """Two nodes, joined if there are grants (`{shared}` is pi's directory); both are stopped, and clean, in the end."""
    two = Pair(path, **options)
    try:
        await asyncio.gather(two.desk.start(), two.pi.start())
        if grants:
            await join(two.pi, two.desk, *(grant.format(shared=two.shared) for grant in grants))
        yield two
    finally:
        await asyncio.gather(end(two.desk), end(two.pi))
    for node in (two.desk, two.pi):
        trouble = log_trouble(node)
        assert trouble == [], f"{node.name}: {trouble}"


async def end(node: NodeProcess) -> None:
    """Stop a node if it runs, whatever it takes."""
    if node.process is not None and node.process.returncode is None:
        node.process.terminate()
        try:
            await asyncio.wait_for(node.process.wait(), 20)
        except TimeoutError:
            node.process.kill()
            await node.process.wait()
            raise AssertionError(f"{node.name} did not stop") from None


async def until(client: Client, condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Ask the node something harmless until a condition holds; the test's own time limit ends it otherwise."""
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        await client.rpc("status")


async def refused(call: Awaitable[object], error: E, *words: str) -> FileError:
    """The call must be refused with this error; its message must have all of `words`."""
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value
    for word in words:
        assert word in str(caught.value)
    return caught.value


def log_trouble(node: NodeProcess) -> list[str]:
    """What of a node's log tells of an error or holds a trace, and its standard error."""
    lines = [json.loads(line) for line in node.log.splitlines()]
    bad = [line for line in lines if line["level"] == "error" or "trace" in line]
    return [*(f"{line['message']} {line.get('trace', '')}" for line in bad), *node.errors.read_text().splitlines()]
