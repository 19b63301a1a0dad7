"""The world outside, as protocols: clock, random, threads, processes, network, disk.

Nothing below the faces touches time, randomness, sockets, disks or processes except through a `World` that the node
hands in: the real one (`cognu.world.real`) or a simulator's. Nothing in this module does anything; it names what a
world can do. All times are integers in nanoseconds, durations for sleeping are float seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from cognu.errors import LinkBroken
from cognu.world.nearby import Neighbours

T = TypeVar("T")

MAX_SOCKET_PATH = 100
"""Bytes of a Unix socket's path that every system takes (unix(7) has 108)."""


class Clock(Protocol):
    def now(self) -> int:
        """Wall clock: nanoseconds since 1970, may jump."""

    def monotonic(self) -> int:
        """Nanoseconds since some start; never goes back; runs on through suspend where the host can."""

    async def sleep(self, seconds: float) -> None: ...


class Random(Protocol):
    def bytes(self, count: int) -> bytes:
        """`count` bytes fit for keys."""


class Threads(Protocol):
    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run a blocking function off the event loop. Cancelling stops the waiting, not the function."""


class Stream(Protocol):
    """A byte stream, both ways: a socket, a link's channel, an end of a pipe. One reader and one writer at a time."""

    @property
    def peer(self) -> str:
        """Who is at the other end, for messages: an address or a node's name."""

    async def read(self, count: int) -> bytes:
        """At least 1 and at most `count` bytes; `b""` at the end. Raises `LinkBroken` if the other side was lost."""

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        """Queue all of `buffers`, in order, and wait until the queue is short again. Raises `LinkBroken`.

        The buffers may be used again when this returns.
        """

    def close(self) -> None:
        """End both directions now; a waiting `read` returns `b""` or raises. May be called twice."""

    async def wait_closed(self) -> None: ...


@runtime_checkable
class DirectStream(Stream, Protocol):
    """A stream that can be used from the loop's callbacks too, without a task."""

    def look_first(self, look: Callable[[bytes], bool]) -> None:
        """Show `look` what comes while a `read` waits. If it gives True that was for it, and the read goes on waiting.

        It must not raise.
        """

    def offer(self, *buffers: bytes | memoryview) -> bool:
        """Give all of `buffers`, which never change, to the host as far as it takes them now; the rest follows.

        True if it took everything. After an error or `close`, which whoever reads is told, nothing goes anywhere.
        """


@runtime_checkable
class FileStream(DirectStream, Protocol):
    """A stream to which the host can send files itself."""

    def offer_file(self, header: bytes, number: int, offset: int, count: int) -> bool:
        """As `offer`, of `header` and `count` bytes of the open file of that number, which the host has in memory.

        What the host does not take now is read into memory now. If the file has fewer, or they can't be read, the
        stream is closed.
        """


class TcpStream(Stream, Protocol):
    """Of TCP, or of a Unix socket, which is as TCP is."""

    @property
    def local(self) -> str:
        """Its address on this side, `HOST:PORT`; empty for a Unix socket."""

    def end_writing(self) -> None:
        """The other side reads the end after what was written; reading goes on. What is written later raises
        `LinkBroken(PIPE)`."""


class Announcement(Protocol):
    """A port where calls come in and wait to be accepted."""

    @property
    def address(self) -> str:
        """`HOST:PORT` with the real port."""

    async def accept(self) -> TcpStream:
        """The next call; one may wait at a time. Cancelling loses none. Raises `LinkBroken(PIPE)` after `close`."""

    def close(self) -> None:
        """Take no more calls; those that wait are refused. What was accepted goes on. May be called twice."""


class Datagrams(Protocol):
    """A udp socket. Datagrams may be lost, and are whole or not there."""

    @property
    def local(self) -> str:
        """`HOST:PORT`."""

    async def receive(self) -> tuple[bytes, str]:
        """The next datagram and where it is from; one may wait at a time.

        Raises `LinkBroken(PIPE)` after `close`, `FileError(CONNREFUSED)` if a connected socket's other side says so.
        """

    async def send(self, data: bytes | bytearray | memoryview, to: str = "") -> None:
        """One datagram, to the address connected to if `to` is empty. Raises `FileError` (MSGSIZE, NETUNREACH …)."""

    def close(self) -> None: ...


class Attendant(Protocol):
    """Who is told what happens on a stream, from the loop itself. None of these may raise or wait."""

    def received(self, data: memoryview) -> None:
        """Bytes came. The buffer is used again afterwards."""

    def room(self) -> None:
        """All that was offered is with the host."""

    def over(self, error: LinkBroken | None) -> None:
        """The stream ended, in order if `error` is None. Nothing more is told."""


class SecureStream(Stream, Protocol):
    @property
    def local(self) -> str:
        """Its address on this side, `HOST:PORT`; empty if the host does not tell any more."""

    @property
    def peer_certificate(self) -> bytes:
        """The other side's leaf certificate, DER."""

    def attend(self, attendant: Attendant) -> None:
        """Have everything told to `attendant` from now on, until `close`; nobody may `read` or `write` any more."""

    def offer(self, *buffers: bytes | memoryview) -> bool:
        """Give all of `buffers`, which never change, to the host as far as it takes them now; the rest follows.

        True if it took everything. If not, `room` is called when it has, unless the stream ends before; to offer more
        until then makes the queue longer. Only after `attend`.
        """


Accept = Callable[[Stream], Awaitable[None]]
"""Called in a task of its own for each connection; the stream is closed when it returns."""


class Listener(Protocol):
    @property
    def address(self) -> str:
        """`HOST:PORT` with the real port, or the path of a Unix socket."""

    async def close(self) -> None:
        """Stop listening, end the connections that came in, and wait until their handlers ended."""


@dataclass(frozen=True)
class TlsKeys:
    """What a TLS end shows and whom it trusts: PEM texts. `trusted` holds exact leaf certificates, no authorities.

    `trusted` None takes anybody, for joining alone, which proves who is there inside the connection; `()` takes nobody.
    A client that shows nothing has empty texts.
    """

    certificate: str
    private_key: str
    trusted: tuple[str, ...] | None


class Network(Protocol):
    """Addresses: `HOST:PORT` (IPv6 hosts in brackets) for tcp, a path for unix. Refusals raise `FileError`."""

    async def connect_tcp(self, address: str, timeout: float = 20.0) -> TcpStream: ...

    async def announce_tcp(self, address: str) -> Announcement:
        """Like `listen_tcp`, but calls wait until they are asked for."""

    async def open_udp(self, local: str, remote: str = "") -> Datagrams:
        """A socket at `local` (port 0: any), connected to `remote` if given. Numeric addresses of one family."""

    async def listen_tcp(self, address: str, accept: Accept) -> Listener: ...

    async def connect_unix(self, path: str) -> TcpStream: ...

    async def listen_unix(self, path: str, accept: Accept) -> Listener:
        """The socket is readable and writable by its owner alone."""

    async def connect_tls(self, address: str, keys: TlsKeys, timeout: float = 20.0) -> SecureStream: ...

    async def listen_tls(
        self, address: str, keys: Callable[[], TlsKeys], accept: Callable[[SecureStream], Awaitable[None]]
    ) -> Listener:
        """TLS 1.3; `keys` is asked at every handshake, so that a change of trust holds at once."""

    def local_addresses(self) -> list[str]:
        """This machine's addresses as others may know it, the likeliest first; IPv6 ones in brackets."""

    def interfaces(self) -> Mapping[str, str]:
        """The interface (`eth0`) of each address that this machine has now; IPv6 addresses in brackets. Cheap.

        Raises OSError where the host can't be asked, as when no descriptor is left.
        """

    def follow(self, changed: Callable[[], None]) -> Callable[[], None] | None:
        """Have `changed` called, on the loop, each time the host says that `interfaces` may be others, until what is
        returned is called. None where the host does not say so. It may say so too often, and not of everything.
        """

    async def resolve(self, host: str) -> list[str]:
        """Numeric addresses of a host name; raises `FileError(HOSTUNREACH)`."""

    async def reverse(self, address: str) -> list[str]:
        """The host names of a numeric address, as the host's resolver has them; raises `FileError(HOSTUNREACH)`."""

    async def service(self, name: str, protocol: str) -> int:
        """The port that the host knows a service of `tcp` or `udp` by (getservbyname(3)); raises `FileError(NOENT)`."""


@dataclass(frozen=True)
class Profile:
    """What a machine is, and has. `memory` and `free` are bytes, 0 if the host does not tell; `cores` those that this
    process may use; `sensors` and `screens` are names, a screen's with its size; `batteries` are `NAME PERCENT% STATE`;
    `charger` is `on`, `off` or, where there is none, empty. `isolates`: a program can be run behind a wall."""

    architecture: str
    system: str
    release: str
    cores: int
    memory: int = 0
    free: int = 0
    sensors: tuple[str, ...] = ()
    screens: tuple[str, ...] = ()
    distribution: str = ""
    batteries: tuple[str, ...] = ()
    charger: str = ""
    isolates: bool = False


class Machine(Protocol):
    """The machine that this process is on."""

    def profile(self) -> Profile:
        """As it is now; a blocking call."""


class Helpers(NamedTuple):
    """Programs of the host that reach its person: argument lists, empty for what there is none for.

    `copy` takes what goes into the clipboard on its input, `paste` writes what is there, `notify` takes a line as its
    last argument. `environment` is what they need to find the session.
    """

    copy: tuple[str, ...] = ()
    paste: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


NO_HELPERS = Helpers()


class Draft(Protocol):
    """A file being written, which nobody sees before it is whole. One that is dropped is discarded."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add all of `data` at the end."""

    def commit(self, path: str = "") -> None:
        """Put it in its place, durably, or at `path` on the same disk, whose directory must be there.

        Nothing may be written after that.
        """

    def discard(self) -> None:
        """Give it up; does nothing after `commit`. May be called twice."""


class Disk(Protocol):
    """The node's own files, by absolute path. A write that returned is durable (synced, directory too)."""

    def read(self, path: str) -> bytes:
        """The whole file; raises `FileError(NOENT)`."""

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Replace the file in one step: after a crash it is the old or the new one, never a part."""

    def open(self, path: str) -> HostFile:
        """For reading; raises `FileError(NOENT)`."""

    def draft(self, path: str, mode: int = 0o600) -> Draft:
        """Begin to write as `write` does, in pieces. The directory must be there."""

    def append(self, path: str, data: bytes) -> None: ...

    def remove(self, path: str) -> None: ...

    def list(self, path: str) -> list[str]:
        """Sorted names in a directory; raises `FileError(NOENT)`."""

    def sweep(self, path: str) -> int:
        """Remove what drafts and writes that a crash cut short left in a directory; how many. Nothing may be writing
        there. Raises `FileError(NOENT)`."""

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        """With parents; not an error if it is there."""

    def exists(self, path: str) -> bool: ...

    def lock(self, path: str) -> Callable[[], None] | None:
        """Take an exclusive lock that dies with this process; returns what releases it, or None if another holds it."""

    def mounts(self) -> Mapping[int, str]:
        """The kind of each file system that is mounted now (`ext4`, `proc`), by its device number as in
        `HostStat.identity`; empty where the host does not tell."""

    def tree(self, path: str) -> HostTree:
        """A directory of the host as a tree that nothing leads out of. See `HostTree`."""


MARKS = "user.cognu.marks"
"""The extended attribute that has a plain file's marks, where its sticky bit is set: that bit means nothing of a plain
file to the host, and looking at it costs nothing."""


class HostStat(NamedTuple):
    """What a host says of a file. `kind` is one of `-dlpscb`, as ls prints; times in ns;
    `identity` is (device, inode)."""

    kind: str
    mode: int
    size: int
    mtime: int
    atime: int
    ctime: int
    identity: tuple[int, int]
    links: int
    user: str
    group: str
    uid: int
    gid: int
    number: tuple[int, int] = (0, 0)
    """Of a device: major and minor."""
    marks: str = ""
    """Of a plain file, what a host has no word for: `a` it is only appended to, `x` one at a time has it open."""


class HostNode(Protocol):
    """A handle on one file of a `HostTree`, opened without following links. Owned by whoever walked to it."""

    def close(self) -> None: ...


class HostFile(Protocol):
    """An open file of the host."""

    def pread(self, offset: int, count: int) -> bytes: ...

    def pread_now(self, offset: int, count: int) -> memoryview | None:
        """As `pread` if the host has the bytes in memory, else None: never waits for a disk. They don't change."""

    def stored_now(self, offset: int, count: int) -> tuple[int, int] | None:
        """The file's number and how many of those bytes it has, if the host has them in memory and there is one."""

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> int: ...

    def append(self, data: bytes | bytearray | memoryview) -> int: ...

    def sync(self, data_only: bool) -> None: ...

    def close(self) -> None: ...


class HostChange(NamedTuple):
    """That a file of the host changed: content, attributes, made, removed, renamed (an entry), gone, lost, broken.

    `other` is the name that an entry has now. With gone and broken it is over; lost: the host dropped some.
    """

    kind: str
    name: str = ""
    other: str = ""


HostTell = Callable[[HostChange], None]


class WouldWait(Exception):
    """The host can't answer from memory; ask again where waiting holds up nobody."""


class HostSteps(Protocol):
    """The way to a file of a `HostTree`, and into it."""

    def root(self) -> HostNode: ...

    def walk(self, node: HostNode, name: str) -> HostNode: ...

    def stat(self, node: HostNode) -> HostStat: ...

    def look(self, node: HostNode, name: str) -> tuple[HostNode, HostStat]:
        """`walk`, and `stat` of what is there."""

    def open(self, node: HostNode, read: bool, write: bool, truncate: bool) -> HostFile: ...


class HostTree(HostSteps, Protocol):
    """Blocking calls (for a thread pool) on the tree below one directory. No symlink, `..` or race leads out of it.

    Every step opens exactly one component relative to a handle, without following links; names holding a slash or
    NUL, and `.`/`..`, are refused with INVAL. Odd files (pipes, devices) never block at open. All raise `FileError`.
    """

    @property
    def quick(self) -> HostSteps | None:
        """The same steps, on the same nodes, for the loop's own thread: what would have to wait raises `WouldWait`.

        So does a walk into another mount, and thereby into another file system.

        None where the host has no such calls.
        """

    def list(self, node: HostNode) -> list[str]:
        """Names, without `.` and `..`, in the host's order."""

    def create(self, node: HostNode, name: str, mode: int, exclusive: bool) -> tuple[HostNode, HostFile]: ...

    def make_directory(self, node: HostNode, name: str, mode: int) -> HostNode: ...

    def symlink(self, node: HostNode, name: str, target: str) -> HostNode: ...

    def make_node(self, node: HostNode, name: str, kind: str, mode: int) -> HostNode:
        """A pipe (`p`) or socket (`s`) by name, as `HostStat.kind` has it."""

    def readlink(self, node: HostNode) -> str: ...

    def link(self, node: HostNode, name: str, existing: HostNode) -> None: ...

    def unlink(self, node: HostNode, name: str, directory: bool) -> None: ...

    def rename(self, node: HostNode, name: str, to: HostNode, new_name: str) -> None: ...

    def change(
        self,
        node: HostNode,
        *,
        mode: int | None = None,
        size: int | None = None,
        mtime: int | None = None,
        atime: int | None = None,
    ) -> None: ...

    def getxattr(self, node: HostNode, name: str) -> bytes:
        """An extended attribute, xattr(7); raises NODATA, NOTSUP."""

    def listxattr(self, node: HostNode) -> tuple[str, ...]: ...

    def setxattr(self, node: HostNode, name: str, value: bytes, flags: int) -> None:
        """`flags` as in setxattr(2)."""

    def removexattr(self, node: HostNode, name: str) -> None: ...

    def unshown(self, node: HostNode) -> Set[str]:
        """Names that are in a directory, and of which nothing is told."""

    def watch(self, node: HostNode, directory: bool, tell: HostTell) -> Callable[[], None]:
        """Have `tell` called, on the loop's own thread, which is where this is called, when the file changes.

        Until what is returned is called; the node stays open until then. Raises NOTSUP where the host has nothing of
        the kind, and what it refuses.
        """

    def space(self) -> tuple[int, int, int]:
        """(block size, blocks in all, blocks free) of the file system under the root."""


@dataclass(frozen=True)
class Bounds:
    """What the host is to allow a process at most; None for what is as it was. See getrlimit(2).

    Bytes of addresses, bytes of its own writable memory, seconds of processor time in all, bytes of a file that it
    writes (one in memory too), descriptors. `processes` is how many more threads its user may have than there are when
    it starts, whoever starts them; of the superuser the host bounds none, and none are bounded where they can't be
    counted (`world.bounded`): without Linux's /proc, or in a container.
    """

    address_space: int | None = None
    data: int | None = None
    cpu: int | None = None
    file_size: int | None = None
    open_files: int | None = None
    processes: int | None = None


class Child(Protocol):
    """An OS process started by `Spawn`."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """Its exit status; 128 + n if signal n ended it."""

    def signal(self, number: int) -> None: ...

    def bound(self, bounds: Bounds) -> None:
        """Limit it from now on; one that has ended needs no limits.

        Raises `FileError`: NOTSUP where the host can't limit another process (Linux can: prlimit(2)).
        """

    def weigh(self, nice: int) -> None:
        """Its threads' niceness, 0 to 19 (nice(2)). Raises `FileError`: PERM if the host does not let it fall again."""

    def used(self) -> int:
        """ns of processor time that it used so far. Raises `FileError`: SRCH if it has ended."""


class Piped(Protocol):
    """An OS process in a process group of its own, with its streams here. Whoever started it closes it, and waits.

    One reads its output at a time, one its errors, one writes. `FileError` is what the host refuses.
    """

    @property
    def pid(self) -> int:
        """The process group's number too."""

    async def read(self, count: int) -> bytes:
        """At least 1 and at most `count` bytes of its output; `b""` at the end. Cancelled, it takes none."""

    async def read_errors(self, count: int) -> bytes:
        """The same of its errors; nothing if they are not kept."""

    async def write(self, data: bytes | memoryview) -> int:
        """Give it input: how many bytes were taken, at least 1. Raises PIPE if it takes no more."""

    def close_input(self) -> None:
        """It reads an end after what was written. May be called twice, as the next two."""

    def close_output(self) -> None: ...

    def close_errors(self) -> None: ...

    async def wait(self) -> int:
        """Its exit status; 128 + n if signal n ended it. What it started may go on."""

    def weigh(self, nice: int) -> None:
        """As `Child.weigh`."""

    def kill_group(self, signal: str = "KILL") -> None:
        """Send a signal, by its name or this host's number, to it and all of its group that is left.

        KILL ends them at once. What has left the group by itself hears nothing of it. Raises USAGE.
        """

    def close(self) -> None:
        """Close all streams; who waits at one is woken. May be called twice."""


class Spawn(Protocol):
    def own_pid(self) -> int:
        """The operating system's number for this process."""

    async def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str | None = None,
        pass_fds: Sequence[int] = (),
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        memory: int | None = None,
        open_files: int | None = None,
    ) -> Child:
        """Start a program of the host; descriptors not given are /dev/null.

        `memory` is the most bytes of address space it may have, `open_files` the most descriptors, where the host can
        bound those of another process (Linux: prlimit(2)). They hold when this returns; the program has begun by then.
        """

    async def start_joined(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> tuple[Child, Stream]:
        """Start a program whose descriptor 0 is one end of a connection, and give the other end. It has no other files
        but /dev/null as 1 and, as 2, a way to the log of whoever started it, which takes so much and no more.
        """

    async def start_piped(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str, errors: bool = True, bounds: Bounds | None = None
    ) -> Piped:
        """Start a program of the host with pipes; without `errors`, what it says there goes nowhere.

        `argv[0]` is a path, `env` all of the environment. Nothing is read ahead: who does not read has it wait. The
        bounds hold for each process of it, from its first instruction.
        """


class Senses(Protocol):
    """What of a world a program has without asking for a file."""

    @property
    def clock(self) -> Clock: ...

    @property
    def random(self) -> Random: ...


class Worker(Senses, Protocol):
    """What of a world a part of the node has that works on threads besides: nothing outside."""

    @property
    def threads(self) -> Threads: ...


class Keeper(Worker, Protocol):
    """What of a world a part of the node has that keeps files of its own."""

    @property
    def disk(self) -> Disk: ...


@dataclass(frozen=True)
class World:
    """All of it: for the node, which gives its parts what they need, and for who opens sockets or starts processes."""

    clock: Clock
    random: Random
    threads: Threads
    network: Network
    disk: Disk
    spawn: Spawn
    neighbours: Neighbours
    machine: Machine
    helpers: Helpers = NO_HELPERS
