"""What the shell can do, as protocols: everything its commands know of the world outside the shell's process.

The real one speaks 9P to a node; tests use one in memory. Paths are absolute or relative to `System.cwd`. Refusals
raise `FileError` whose subject is the path (or name) as it was given; a lost node raises `LinkBroken`. Every call may
be cancelled; a cancelled call leaves nothing open and nothing running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from cognu.files.server import Notice
from cognu.ninep.types import SetStat, Stat
from cognu.shell.ahead import Room
from cognu.world import Clock

TERMINAL = "/dev/cons"
"""A stream with this path is the user's terminal; `ls` then prints columns, and errors come with hints."""

NULL = "/dev/null"
PROGRAMS = "/bin"

Mode = Literal["r", "w", "a", "rw"]
Order = Literal["replace", "before", "after"]
Note = Literal["interrupt", "kill"]


class File(Protocol):
    """An open file or an end of a pipe. Whoever opened it closes it."""

    @property
    def path(self) -> str:
        """The absolute path it was opened by; for a pipe any text that is no path."""

    async def read(self, count: int = 65536) -> bytes:
        """At least 1 and at most `count` bytes from where the last read ended; `b""` at the end.

        A terminal gives at most one line at a time. Cancelling loses no data of a stream.
        """

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises `FileError(PIPE)` if it is a pipe and its reader is gone."""

    async def close(self) -> None:
        """Close it; a second call does nothing. Raises what a late write turned up; it is closed all the same."""


class Watch(Protocol):
    """A file that is watched. Whoever began it closes it."""

    async def next(self) -> Notice:
        """What happened next. After one that says that the watch is over none comes. Cancelling loses none."""

    async def close(self) -> None:
        """End it; a second call does nothing."""


@dataclass(frozen=True, slots=True)
class Flags:
    """How a bind or mount joins what is there; `create` lets new files go to the added member, `read_only` nothing."""

    order: Order = "replace"
    create: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """A program to start: an absolute path, or a hash or a prefix of one (`by_hash`)."""

    text: str
    by_hash: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """An absolute path that a program may use, with `rights` out of the letters `rwx`, in that order."""

    path: str
    rights: str


@dataclass(frozen=True, slots=True)
class Directory:
    """An absolute path `host` given read-write under the name `guest` (as `--dir HOST::GUEST`)."""

    host: str
    guest: str


@dataclass(slots=True, eq=False)
class NoteGroup:
    """The programs of one pipeline or job, which are sent notes together: `member` is one of them."""

    member: int | None = None


@runtime_checkable
class Positioned(Protocol):
    """A `File` that may have positions, as those on a disk have and streams have not."""

    async def has_positions(self) -> bool:
        """Whether `step_back` is allowed."""

    def step_back(self, count: int) -> None:
        """The last `count` bytes that were read are read once more by the next read, whoever's it is."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `run` takes. `on` is a node's name, None for here; `memory` in bytes, `cpu` in seconds, None for the
    node's own limits. An empty `directories` leaves the guest with its usual preopened directories. `grant_files` are
    paths of texts as grants(5). `asks`: the program waits while `Child.want` is asked for what it has no grant for.
    `group` is whose notes it gets; None: those of the session. `isolate`: in an OS process of its own.
    `handles`: names of interfaces that it serves, in hexadecimal.

    Of a shell on another machine: `keep` for how many seconds it stays without its terminal; `kept` is the number of
    one that stayed, to be had in place of a new one, and `kept_how` says `take` (also from a terminal that has it) or
    `end`.
    """

    on: str | None = None
    grants: tuple[Grant, ...] = ()
    directories: tuple[Directory, ...] = ()
    memory: int | None = None
    cpu: float | None = None
    grant_files: tuple[str, ...] = ()
    asks: bool = False
    group: NoteGroup | None = field(default=None, compare=False)
    isolate: bool = False
    handles: tuple[str, ...] = ()
    keep: int = 0
    kept: int | None = None
    kept_how: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """What a program wanted and has no grant for: a path, with letters of `rwxc` (`c`: to be made if it isn't there).

    `program` is its hash, `real` where the path leads, symbolic links and all. `never` is what is kept of the program
    by which it was refused, without a question; so was what `steers` the node or what runs on it.
    """

    number: int
    path: str
    rights: str
    program: str
    real: str = ""
    never: Grant | None = None
    steers: bool = False


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One line of `ps`. `memory` in bytes, `cpu` in nanoseconds, `waits` what it waits for or empty."""

    pid: int
    parent: int
    user: str
    state: str
    memory: int
    cpu: int
    waits: str
    argv: tuple[str, ...]


class Child(Protocol):
    """A process that `start` or `cpu` began."""

    @property
    def pid(self) -> int: ...

    @property
    def message(self) -> str:
        """Once it has ended: why, in words, if it was not by its own exit; else empty."""

    async def wait(self) -> int:
        """Its exit status, 128 + n if signal n ended it. May be called again; cancelling only stops the waiting."""

    async def note(self, note: Note) -> None:
        """Ask it to stop, or end it. Nothing happens if it has ended."""

    async def want(self) -> Want | None:
        """The next thing it wanted and has no grant for; None once it has ended. Started so, it waits for an answer."""

    async def asked(self, want: Want) -> None:
        """Somebody is being asked for it: the node's log has what they answer, or that they did not."""

    async def answer(self, want: Want, yes: bool) -> None:
        """Let it have that, or not. Raises what keeps it from being granted; then it is a no."""

    async def close(self) -> None:
        """Its wants are of no interest any more; it goes on itself, and what it waits for is refused."""


class System(Protocol):
    """One namespace as one user, with a working directory."""

    @property
    def cwd(self) -> str:
        """Absolute, without `.` or `..`."""

    @property
    def user(self) -> str: ...

    @property
    def pid(self) -> int:
        """The node's process whose namespace this is; `/proc/PID` is its directory."""

    @property
    def clock(self) -> Clock: ...

    @property
    def room(self) -> Room:
        """Who has files open for a while only, and can wait for others to close theirs, has them by this."""

    def view(self) -> System:
        """The same namespace with a working directory of its own, for a subshell; needs no closing."""

    async def chdir(self, path: str) -> None:
        """Raises `FileError(NOTDIR)` for a file."""

    async def open(self, path: str, mode: Mode, perm: int = 0o666) -> File:
        """`r` read; `w` write, created or cut to nothing; `a` write at the end, created; `rw` both, must exist.

        `perm`: the permissions of a new file, as far as its directory and its server give them.

        `r` on a directory raises `FileError(ISDIR)`.
        """

    async def ask(self, path: str, question: str) -> Sequence[str]:
        """What a file answers to what is written to it, read from its start: a line for each read, as cs(8) and dns."""

    async def mkdir(self, path: str, perm: int = 0o777) -> None:
        """`perm` as for a file. Raises `FileError(EXIST)` if the name is taken."""

    async def stat(self, path: str, follow: bool = True) -> Stat:
        """`follow=False` tells of a symbolic link itself."""

    async def watch(self, path: str, kinds: int) -> Watch:
        """Be told when something of `kinds` (`ninep.watches`) happens to a file or directory.

        Raises `FileError(NOTSUP)` where its server does not tell: then one has to look.
        """

    async def resolve(self, path: str) -> str:
        """Where a path leads, without symbolic links; the last name need not be there. Raises `FileError`."""

    async def list(self, path: str) -> list[Stat]:
        """A directory's entries, without `.` and `..`; of a union those of all members, so a name may come twice.

        It has its place in `room` itself. Links are not followed. Raises `FileError(NOTDIR)` for a file.
        """

    async def remove(self, path: str) -> None:
        """Remove a file, a link (never what it leads to) or an empty directory; else `FileError(NOTEMPTY)`."""

    async def rename(self, old: str, new: str) -> None:
        """Rename or move; replaces a file at `new`. Raises `FileError(XDEV)` from one server to another."""

    async def wstat(self, path: str, change: SetStat) -> None: ...

    async def pipe(self) -> tuple[File, File]:
        """The reading and the writing end. The reader gets `b""` once the last holder of the writing end closed."""

    async def post(self, name: str) -> tuple[File, File]:
        """A new pipe, one end of which is posted as /srv/NAME: the other end, and the posting, which is taken off when
        it is closed. Raises `FileError(EXIST)`."""

    async def bind(self, new: str, old: str, flags: Flags) -> None: ...

    async def mount(self, service: str, old: str, flags: Flags, aname: str = "") -> None:
        """Mount the 9P service posted at the path `service`."""

    async def unmount(self, new: str | None, old: str) -> None:
        """Undo the bind of `new` at `old`, or everything at `old`. Raises `FileError(NOTMOUNTED)`."""

    async def start(
        self,
        program: Program,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: File,
        stdout: File,
        stderr: File,
        options: RunOptions,
    ) -> Child:
        """Start a program in this working directory; `argv[0]` is the name that was typed.

        When it returns, the child holds the streams by itself and the caller may close its own. Raises
        `FileError`: NOENT (no such program), NOEXEC or BADPROGRAM (not a program), AMBIGUOUS, ACCES.
        """

    async def rpc(self, verb: str, **arguments: object) -> Any:
        """A request to the node itself (rpc(5)). Raises what it answers."""

    async def remember(self, program: str, name: str, grant: Grant, allowed: bool) -> None:
        """Have the node keep for good what a program, by its hash, may use or is never to be asked for."""

    async def processes(self) -> Sequence[ProcessInfo]: ...

    async def control(self, pid: int, line: str) -> None:
        """A line for its ctl (proc(3)). Raises `FileError(SRCH)`, and what refuses the line."""

    async def wait(self, pid: int) -> int:
        """The exit status of any process that may be seen. Raises `FileError(SRCH)`."""

    async def put(self, path: str, name: str | None) -> str:
        """Store a file; returns its hash once it is durable. A name makes `/bin/NAME`."""

    async def get(self, digest: str) -> File:
        """A stored object, to be read; by hash or prefix. What is read has been checked against the hash."""

    async def fetch(self, url: str) -> File:
        """The body of `url`, through `/net` of this namespace. An answer that is no success raises `FileError`."""

    async def import_tree(self, node: str, path: str, at: str, read_only: bool = False) -> None:
        """Mount `path` of another node at `at`, which is made if it is a missing name under `/n`.

        `read_only` takes a place of its own: USAGE at `/n/NODE` itself.
        """

    async def export_tree(
        self, path: str, node: str | None, write: bool, hide: Sequence[str] = (), show: Sequence[str] = ()
    ) -> Mapping[str, Sequence[str]]:
        """Let a paired node (None: every paired node) import `path`, of which patterns say what is shown."""

    async def cpu(
        self,
        node: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: File,
        stdout: File,
        stderr: File,
        options: RunOptions,
    ) -> Child:
        """A shell on another node (or one command, if `argv` is not empty), which `options` need not name.

        It has the terminal and at `/mnt/term` this working directory and what was granted, nothing else from here.
        """


def is_terminal(file: File) -> bool:
    return file.path == TERMINAL


def absolute(cwd: str, path: str) -> str:
    """`path` seen from `cwd`, by text alone: no doubled slashes, no `.`, and `..` undoes the element before it."""
    done: list[str] = []
    for element in (path if path.startswith("/") else f"{cwd}/{path}").split("/"):
        if element == "..":
            del done[-1:]
        elif element not in ("", "."):
            done.append(element)
    return "/" + "/".join(done)
