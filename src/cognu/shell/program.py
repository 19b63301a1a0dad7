"""The shell as a program: a session with a node, this process's streams, signals, and an exit status.

SIGINT is Ctrl-C: it ends what runs in the foreground (a second one kills it); so does SIGQUIT, Ctrl-\\. SIGTERM and
SIGHUP end the session, and with it everything the node runs for it. However it ends, the terminal gets its modes back.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from cognu.errors import CognuError, E, FileError
from cognu.files.nstext import split_commands
from cognu.shell.connection import NodeFile
from cognu.shell.history import History
from cognu.shell.hostpaths import namespace_path
from cognu.shell.hoststreams import HostInput, HostOutput, Modes, host_streams
from cognu.shell.interactive import NAME, LineEditor, Prompt, run_once
from cognu.shell.interpreter import execute, interpret
from cognu.shell.listings import Listings
from cognu.shell.nodeprocess import silent, unreachable
from cognu.shell.session import NodeSession
from cognu.shell.state import INTERRUPTED, Call, ExitShell, Shell, Streams, complain, decode, end_tasks, goes_along
from cognu.shell.system import TERMINAL, Mode, is_terminal
from cognu.shell.terminal import Terminal
from cognu.shell.waiting import Teller
from cognu.shell.wants import Questions, discard_typed, line_of
from cognu.world.net import UNIX_CONNECT_SECONDS, RealNetwork
from cognu.world.real import RealClock, RealThreads

PLAIN = ("", "dumb", "unknown")
"""Values of TERM for terminals on which nothing can be edited."""
NODE_ENVIRONMENT = "/env"
CALLER = "/mnt/term"
"""Where a shell that `cpu` started on another machine has the files of whoever called."""


@dataclass(frozen=True)
class Start:
    """How to begin. `socket` is a node's. With a `token` the session is a process that is there; `own_streams` False
    takes that process's streams, `/fd/0` to `/fd/2`, instead of this one's; `terminal` says that they are one.

    `publish`: programs can use the terminal. `cwd` is a path of the namespace, `/` if it is not there. `history` is a
    file of the host with the lines that were typed; if empty, they are forgotten in the end. `typed`: lines are to be
    typed, so a terminal that something left raw is put right.
    """

    socket: str
    token: str = ""
    own_streams: bool = True
    terminal: bool = False
    publish: bool = True
    cwd: str = "/"
    variables: Mapping[str, str] = field(default_factory=dict)
    history: str = ""
    typed: bool = False


def _nothing() -> None:
    """The terminal is another machine's, which looks after its own signals."""


@dataclass(frozen=True)
class Begun:
    """A shell on a session with its streams. `watch`: see `Terminal.watch`."""

    session: NodeSession
    shell: Shell
    streams: Streams
    watch: Callable[[], None] = _nothing


ANSWER_SECONDS = 5.0
"""How long a node may take to begin a session: one that is there but stopped would be waited for without an end."""


async def connect(start: Start) -> NodeSession:
    """Raises NONODE if there is no node, SILENT if one does not answer, or is not at its socket."""
    home = os.path.dirname(start.socket)
    try:
        stream = await RealNetwork().connect_unix(start.socket)
    except FileError as error:
        if error.error is E.TIMEDOUT:
            raise silent(home, UNIX_CONNECT_SECONDS) from None
        if error.error not in (E.NOENT, E.CONNREFUSED):
            raise
        raise unreachable(home) from None
    user = os.environ.get("USER") or str(os.getuid())
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await NodeSession.open_session(stream, RealClock(), user, token=start.token)
    except TimeoutError:
        raise silent(home, ANSWER_SECONDS) from None


@asynccontextmanager
async def begun(start: Start) -> AsyncIterator[Begun]:
    """A session, which is closed at the end, with the terminal as it was."""
    session = await connect(start)
    threads = RealThreads()
    terminal: Terminal | None = None
    try:
        if start.own_streams:
            streams = host_streams(threads)
            modes = Modes(0)
            if start.typed:
                modes.mend()
            terminal = Terminal(streams, modes)
            if start.publish:
                await terminal.publish(session)
                terminal.watch()
        else:
            streams = await _streams_of_process(session, start.terminal)
        await _enter(session, start)
        variables = dict(start.variables)
        if start.token:
            variables = await _environment(session) | variables
        shell = Shell(session, variables, (NAME,), typed=History(start.history))
        if is_terminal(streams.stderr):
            shell.beside = Teller(session, streams.stderr).run
        if is_terminal(streams.stdin) and is_terminal(streams.stderr):
            stdin = streams.stdin
            if isinstance(stdin, HostInput):
                shell.ask = Questions(streams.stderr, stdin.answer).ask
            else:
                drop = partial(discard_typed, session)
                shell.ask = Questions(streams.stderr, partial(line_of, stdin), drop).ask
        yield Begun(session, shell, streams, terminal.watch if terminal is not None else _nothing)
    finally:
        if terminal is not None:
            await terminal.close()
        await session.close()
        threads.close()


async def _enter(session: NodeSession, start: Start) -> None:
    """Go to the working directory: the one asked for, or with a token the process's own."""
    cwd = start.cwd
    if start.token:
        lines = (await session.read_all(f"/proc/{session.pid}/ns")).decode("utf-8", "replace")
        found = [command.words[1] for command in split_commands(lines) if command.words[0] == "cd"]
        cwd = found[-1] if found else cwd
    try:
        await session.chdir(cwd)
    except FileError:
        # It may be a directory of the host that the namespace does not show; there is always the root.
        await session.chdir("/")


async def _streams_of_process(session: NodeSession, terminal: bool) -> Streams:
    """The streams that whoever started the process gave it; `terminal` if they are its user's."""
    files: list[NodeFile] = []
    modes: tuple[Mode, ...] = ("r", "w", "w")
    for number, mode in enumerate(modes):
        file = await session.open(f"/fd/{number}", mode)
        if terminal:
            file.path = TERMINAL
        files.append(file)
    return Streams(*files)


async def _environment(session: NodeSession) -> dict[str, str]:
    """The variables of the process that the session is."""
    found: dict[str, str] = {}
    for entry in await session.list(NODE_ENVIRONMENT):
        value = await session.read_all(f"{NODE_ENVIRONMENT}/{entry.name}")
        found[entry.name] = value.decode("utf-8", "surrogateescape")
    if "HOME" in found:
        # A directory of whoever called, whose files are there.
        found["HOME"] = CALLER + found["HOME"]
    return found


def host_variables() -> dict[str, str]:
    """What a shell started on the host begins with: HOME by its name in the namespace, and a few more."""
    variables = {name: value for name, value in os.environ.items() if goes_along(name)}
    return {**variables, "HOME": namespace_path(os.path.expanduser("~"))}


def host_cwd() -> str:
    """The working directory by its name in the namespace."""
    try:
        return namespace_path(os.getcwd())
    except FileNotFoundError:
        return "/"


async def interactive(at: Begun) -> int:
    """A prompt until `exit` or the end of the input."""
    prompt = Prompt(at.shell, at.streams, await _editor(at))
    if prompt.editor is None:
        return await _until_signal(at, prompt.run(), prompt.interrupt)
    listings = at.shell.listings = Listings(at.shell.system)
    try:
        return await _until_signal(at, prompt.run(), prompt.interrupt)
    finally:
        await listings.close()


async def _editor(at: Begun) -> LineEditor | None:
    """An editor on a terminal that can move its cursor; None on others."""
    streams = at.streams
    if not (is_terminal(streams.stdin) and is_terminal(streams.stderr)):
        return None
    if at.shell.variables.get("TERM", "") in PLAIN:
        return None
    from cognu.shell.editor import Editor

    if at.shell.typed.path:
        try:
            at.shell.typed.load()
        except FileError as error:
            await complain(streams.stderr, NAME, error)
    return Editor(at.shell, streams, at.watch)


async def script(at: Begun, text: str) -> int:
    """`sh -c`."""
    return await _ended_by_interrupt(at, run_once(at.shell, text, at.streams))


async def whole_input(at: Begun) -> int:
    """A script on an input that is no terminal: all of it is read before anything runs."""
    text = bytearray()
    while data := await at.streams.stdin.read():
        text += data
    return await script(at, decode(bytes(text)))


async def words(at: Begun, argv: Sequence[str]) -> int:
    """One command, its words as they are."""
    return await _ended_by_interrupt(at, _run_words(at, argv))


async def _run_words(at: Begun, argv: Sequence[str]) -> int:
    async def nothing() -> None:
        """The streams are this process's and stay."""

    at.shell.explains = True
    call = Call(at.shell, tuple(argv), at.streams, dict(at.shell.variables), execute, interpret, nothing)
    try:
        try:
            async with at.shell.attended():
                status = await execute(call)
            await at.shell.wait_jobs(services=True)  # what `run --serve` left to run
            return status
        except ExitShell as ended:
            return ended.status
    except CognuError as error:
        return await complain(at.streams.stderr, NAME, error, explains=True)
    finally:
        await at.shell.end_jobs()


async def _ended_by_interrupt(at: Begun, work: Awaitable[int]) -> int:
    task = asyncio.ensure_future(work)

    def interrupt() -> None:
        task.cancel()

    return await _until_signal(at, task, interrupt)


async def _until_signal(at: Begun, work: Awaitable[int], interrupt: Callable[[], None]) -> int:
    """The status of `work`, or 128 + n if signal n ended it."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    stopped: list[int] = []
    closing: list[asyncio.Task[None]] = []

    def stop(number: int) -> None:
        if not stopped:
            stopped.append(number)
            # The node ends what it runs for us; `work` then sees a broken link and ends in its own way. What it would
            # say of that link is not the user's trouble: the status tells of the signal.
            if isinstance(at.streams.stderr, HostOutput):
                at.streams.stderr.mute()
            closing.append(asyncio.create_task(at.session.close()))
            task.cancel()

    interrupting, ending = (signal.SIGINT, signal.SIGQUIT), (signal.SIGTERM, signal.SIGHUP)
    for number in interrupting:
        loop.add_signal_handler(number, interrupt)
    for number in ending:
        loop.add_signal_handler(number, stop, number)
    try:
        await asyncio.wait([task])
        if closing:
            await asyncio.wait(closing)
        if stopped:
            return 128 + stopped[0]
        return INTERRUPTED if task.cancelled() else task.result()
    finally:
        for number in (*interrupting, *ending):
            loop.remove_signal_handler(number)


async def shell(start: Start, command: str | None = None, argv: Sequence[str] = (), prompt: bool = False) -> int:
    """A whole shell: a command's words, a script, a prompt if asked for or at a terminal, else a script on the input.

    Raises what beginning raises; later refusals are told on the standard error.
    """
    async with begun(start) as at:
        # Started by the node, and on no terminal: nobody else ends it when the node is gone.
        hanging = [asyncio.create_task(_hang_up(at.session))] if start.token else []
        try:
            if argv:
                return await words(at, argv)
            if command is not None:
                return await script(at, command)
            if prompt or is_terminal(at.streams.stdin):
                return await interactive(at)
            return await whole_input(at)
        finally:
            await end_tasks(hanging)


async def _hang_up(session: NodeSession) -> None:
    """As a terminal does when it goes."""
    await session.wait_lost()
    signal.raise_signal(signal.SIGHUP)
