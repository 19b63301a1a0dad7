"""What a running shell holds, and what a command is called with.

A `Shell` belongs to one interpreter; a subshell gets a copy of it. A `Call` lives as long as one command.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cognu.errors import CognuError, E, FileError
from cognu.shell.history import History
from cognu.shell.options import Options
from cognu.shell.syntax import Compound
from cognu.shell.system import File, NoteGroup, System, is_terminal

if TYPE_CHECKING:
    from cognu.shell.listings import Listings

FAILED = 1
USAGE = 2
NOT_A_PROGRAM = 126
NOT_FOUND = 127
PROMPT_VARIABLE, CONTINUED_VARIABLE = "PS1", "PS2"
"""They say, as they are, what asks for a line, and for more of a script that is incomplete."""
_ALONG = ("HOME", "USER", "TERM", "COLORTERM", "NO_COLOR", "LANG", "TZ")
INTERRUPTED = 130
BROKEN_PIPE = 141

_STATUS = {E.USAGE: USAGE, E.SYNTAX: USAGE, E.NOTFOUND: NOT_FOUND, E.PIPE: BROKEN_PIPE, E.INTR: INTERRUPTED}


class ExitShell(Exception):
    """`exit` was called: the innermost shell ends with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class LoopExit(Exception):
    """`break` or `continue`: `levels` loops are left, of which the last one goes on if `again`."""

    def __init__(self, levels: int, again: bool) -> None:
        super().__init__(levels, again)
        self.levels = levels
        self.again = again


class Return(Exception):
    """`return`: the innermost function or read script ends with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Streams:
    stdin: File
    stdout: File
    stderr: File


@dataclass(slots=True)
class Job:
    """A list entry that runs in the background; its task returns the status. `told`: whoever types knows its number.
    `serves`: it is there for others and does not end by itself.
    """

    number: int
    text: str
    task: asyncio.Task[int]
    told: bool = False
    serves: bool = False

    @property
    def name(self) -> str:
        return f"%{self.number}"

    def status(self) -> int | None:
        """None while it runs. Raises what a defect in a command raised."""
        if not self.task.done():
            return None
        return INTERRUPTED if self.task.cancelled() else self.task.result()


Ask = Callable[[str], Coroutine[Any, Any, str]]
"""Shows a text, gives the line that was typed."""


Beside = Callable[[], Coroutine[Any, Any, None]]


@dataclass
class Shell:
    """`arguments` are `$0`, `$1` ...; every variable goes to programs as their environment (as in Plan 9's rc).

    `loops` counts the loops around, in the same function; `calls` the functions, scripts and `eval`s that are under
    way, of which `returns` can be returned from here. `kept` has for each function under way what its own variables
    were outside (None: not set). `stops` is `set -e`, which is put off while `tested` is not 0; `strict` is `set -u`.
    `group` is that of the pipeline or job under way. `typed` are the lines of this session and those before. `ask`
    puts a question to whoever sits at the terminal. `listings` are those that Tab looks at, where they are kept.
    `beside` tells at a terminal what they wait for; it ends by being cancelled, or of itself. With `explains` refusals
    come with what to do, as they do at a terminal: for one that `cognu VERB` began.
    """

    system: System
    variables: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("cognu",)
    status: int = 0
    jobs: list[Job] = field(default_factory=list)
    last_job: str = ""
    functions: dict[str, Compound] = field(default_factory=dict)
    loops: int = 0
    calls: int = 0
    returns: int = 0
    kept: list[dict[str, str | None]] = field(default_factory=list)
    stops: bool = False
    tested: int = 0
    strict: bool = False
    typed: History = field(default_factory=History)
    ask: Ask | None = None
    group: NoteGroup | None = None
    listings: Listings | None = None
    beside: Beside | None = None
    explains: bool = False

    @asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """While somebody waits for what runs within, `beside` runs too."""
        tasks = [] if self.beside is None else [asyncio.create_task(self.beside())]
        try:
            yield
        finally:
            await end_tasks(tasks)

    def copy(self) -> Shell:
        """For a subshell: it may change everything but the namespace without this one noticing; it has no jobs."""
        return replace(
            self, system=self.system.view(), variables=dict(self.variables), functions=dict(self.functions), jobs=[],
            loops=0, kept=[dict(values) for values in self.kept],
        )  # fmt: skip

    def add_job(self, text: str, task: asyncio.Task[int], serves: bool = False) -> Job:
        job = Job(max((job.number for job in self.jobs), default=0) + 1, text, task, serves=serves)
        self.jobs.append(job)
        self.last_job = job.name
        return job

    def job(self, name: str) -> Job:
        """The job called `%N`. Raises `FileError(SRCH)`."""
        for job in self.jobs:
            if job.name == name:
                return job
        raise FileError(E.SRCH, name)

    async def wait_jobs(self, services: bool = False) -> None:
        """Wait until every job has ended, and forget them. Those that serve go on, unless `services` are waited for."""
        while waited := [job for job in self.jobs if services or not job.serves]:
            await asyncio.wait([job.task for job in waited])
            self.jobs = [job for job in self.jobs if job.status() is None or job not in waited]

    async def end_jobs(self) -> None:
        """Interrupt what still runs, wait for its end, and forget it. Raises what a defect in a command raised."""
        jobs, self.jobs = self.jobs, []
        await end_tasks(job.task for job in jobs)
        for job in jobs:
            job.status()


def goes_along(name: str) -> bool:
    """Whether a variable says what terminal, language and user it is: what a shell on another machine is to know.

    Not COLUMNS and LINES: a window's size changes, and /dev/winsize has it.
    """
    return name in _ALONG or name.startswith("LC_")


async def end_tasks(
    tasks: Iterable[asyncio.Task[Any]], end: Callable[[asyncio.Task[Any]], object] = asyncio.Task.cancel
) -> None:
    """Cancel `tasks`, or do what `end` does, and wait until all ended. If this is cancelled too, they are cancelled
    again, and it goes on waiting: a program that ignored the first Ctrl-C is killed by the second."""
    tasks = list(tasks)
    pending = [task for task in tasks if not task.done()]
    interrupted = False
    for task in pending:
        end(task)
    while pending:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            interrupted = True
            for task in pending:
                task.cancel()
        pending = [task for task in pending if not task.done()]
    for task in tasks:
        # Looked at here, for the caller may have no use for it: asyncio complains of errors nobody saw.
        if not task.cancelled():
            task.exception()
    if interrupted:
        raise asyncio.CancelledError


@dataclass(frozen=True)
class Call:
    """One command under way. `argv[0]` is its name; `environment` the variables with those set for it alone.

    `execute` runs another command as the shell would, `interpret` a text in this same shell. `release` closes the
    files and pipe ends that were opened for this command; to be called once a started program has its own hold of them.
    """

    shell: Shell
    argv: tuple[str, ...]
    streams: Streams
    environment: dict[str, str]
    execute: Callable[[Call], Awaitable[int]]
    interpret: Callable[[Call, str], Awaitable[int]]
    release: Callable[[], Awaitable[None]]
    options: Options = field(default_factory=Options)

    @property
    def system(self) -> System:
        return self.shell.system

    @property
    def operands(self) -> list[str]:
        return self.options.operands

    async def write(self, data: bytes) -> None:
        await self.streams.stdout.write(data)

    async def print(self, *lines: str) -> None:
        """Write lines of text, in one piece; nothing if there is none."""
        if lines:
            await self.write(encode("".join(f"{line}\n" for line in lines)))

    async def complain(self, error: CognuError) -> int:
        """Tell the user of `error`; returns the exit status that fits it. A broken pipe is quiet, as in Unix."""
        return await complain(self.streams.stderr, self.argv[0], error, self.shell.explains)

    async def each(self, paths: Iterable[str], action: Callable[[str], Awaitable[None]]) -> int:
        """Do `action` to every path; a refused one is reported and the others go on. 0, or 1 if one was refused."""
        status = 0
        for path in paths:
            try:
                await action(path)
            except FileError as error:
                if error.error is E.PIPE:
                    raise
                await self.complain(error if error.subject else FileError(error.error, path, error.detail))
                status = FAILED
        return status

    def usage(self, detail: str, subject: str = "") -> FileError:
        """The error for a command line that this command can't take."""
        return FileError(E.USAGE, subject, detail)


async def complain(stderr: File, name: str, error: CognuError, explains: bool = False) -> int:
    """What is refused, in a line; at a terminal, or if it `explains`, with one of what to do. Returns the status."""
    status = _STATUS.get(error.error, FAILED)
    if status == BROKEN_PIPE:
        return status
    if error.subject == name:
        error = FileError(error.error, "", error.detail)  # it is said once
    text = error.explain() if explains or is_terminal(stderr) else str(error)
    try:
        await stderr.write(encode(f"{name}: {text}\n"))
    except FileError:
        # There is nowhere left to say it; the status still tells.
        return status or FAILED
    return status


def encode(text: str) -> bytes:
    """Text of the shell as bytes; what was no UTF-8 when it came in goes out as it was."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
