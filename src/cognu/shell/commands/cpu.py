"""`cpu`: shells and commands on other machines, also such as stay there when their terminal goes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass

from cognu.errors import E, FileError
from cognu.files.launch import LONGEST_KEPT
from cognu.files.nstext import split_commands
from cognu.shell.commands.peers import time_text
from cognu.shell.commands.processes import typed_grants
from cognu.shell.commands.reading import chunks, opened
from cognu.shell.commands.windows import columns
from cognu.shell.lexer import is_name
from cognu.shell.options import parse_count
from cognu.shell.programs import could_not_run, wait_at_terminal, wait_for
from cognu.shell.state import PROMPT_VARIABLE, Call, goes_along
from cognu.shell.system import RunOptions, is_terminal
from cognu.world.timing import within

USAGE = (
    "cpu [--grant PATH[:rwx]] [-e NAME[=VALUE]] [--keep [--for SECONDS]] NODE [COMMAND [ARG...]] | "
    "cpu -a ID [-d] NODE | cpu --end ID NODE | cpu -l [--json] [NODE | --here]"
)
OPTIONS = ("grant=", "e=", "keep", "for=", "a=", "d", "end=", "l", "here", "json")
SCRIPT = "-"
"""In place of a command: the input is a script."""
KEPT_SECONDS = 24 * 3600
"""How long a shell is kept without a terminal, unless `--for` says."""
ASK_SECONDS = 5.0
"""How long a machine may take to say what it keeps, where all are asked."""
_NEW = ("grant", "e", "keep", "for")
"""What is said of a new one alone."""
_HEADS = ("ID", "STARTED", "TERMINAL", "SINCE", "UNTIL", "COMMAND")


async def cpu(call: Call) -> int:
    options = call.options
    if "l" in options:
        return await _list(call)
    for name in ("json", "here"):
        if name in options:
            raise call.usage("it goes with -l", f"--{name}")
    if not call.operands:
        raise call.usage("which machine? cpu NODE")
    if "a" in options or "end" in options:
        return await _attach(call)
    if "d" in options:
        raise call.usage("it goes with -a ID", "-d")
    return await _begin(call)


async def _begin(call: Call) -> int:
    node, *argv = call.operands
    streams = call.streams
    grants = await typed_grants(call)
    keep = _seconds(call)
    at_terminal = is_terminal(streams.stdin)
    environment = variables(call)
    if not argv and at_terminal:
        environment |= {PROMPT_VARIABLE: f"{node}% "}  # so that its user sees where a line goes
    try:
        child = await call.system.cpu(
            node, argv or ([] if at_terminal else [SCRIPT]), environment,
            streams.stdin, streams.stdout, streams.stderr, RunOptions(grants=grants, keep=keep),
        )  # fmt: skip
    except FileError as error:
        return await could_not_run(call, error)
    if keep:
        there = f"what is kept there: cognu cpu -l {node}"
        return await wait_at_terminal(call, child, f"left {node}; {there}", f"it goes on there; {there}")
    if not argv and at_terminal:
        return await wait_at_terminal(call, child, f"left {node}; what ran there ends when it hears of it")
    return await wait_for(call, child)


def _seconds(call: Call) -> int:
    """For how long it is to be kept; 0: not at all. Raises USAGE."""
    text = call.options.value("for")
    if "keep" not in call.options:
        if text is not None:
            raise call.usage("it goes with --keep", "--for")
        return 0
    _need_terminal(call, "--keep")
    seconds = KEPT_SECONDS if text is None else parse_count(text)
    if not 1 <= seconds <= LONGEST_KEPT:
        raise call.usage(f"from 1 to {LONGEST_KEPT} seconds", f"--for {text}")
    return seconds


def _need_terminal(call: Call, subject: str) -> None:
    streams = call.streams
    if not all(map(is_terminal, (streams.stdin, streams.stdout, streams.stderr))):
        raise call.usage("input and output must be a terminal", subject)


def variables(call: Call) -> dict[str, str]:
    """What of the environment goes along: see `goes_along`, what stands before the command on its line, and `-e`.

    Everything else stays: a variable may be a secret. Raises USAGE.
    """
    known = call.shell.variables
    along = {name: value for name, value in call.environment.items() if goes_along(name) or known.get(name) != value}
    for text in call.options.values("e"):
        name, equals, value = text.partition("=")
        if not is_name(name):
            raise call.usage("NAME or NAME=VALUE is wanted", text)
        if not equals and name not in call.environment:
            raise call.usage("no such variable is set here", name)
        along[name] = value if equals else call.environment[name]
    return along


async def _attach(call: Call) -> int:
    options, streams = call.options, call.streams
    ending = "end" in options
    given = [name for name in _NEW if name in options]
    if given or len(call.operands) != 1 or (ending and ("a" in options or "d" in options)):
        raise call.usage("cpu -a ID [-d] NODE, or cpu --end ID NODE", given[0] if given else "")
    if not ending:
        _need_terminal(call, "-a")
    [node] = call.operands
    number = parse_count(options.value("end" if ending else "a") or "")
    how = "end" if ending else "take" if "d" in options else ""
    try:
        child = await call.system.cpu(
            node, [], {}, streams.stdin, streams.stdout, streams.stderr, RunOptions(kept=number, kept_how=how)
        )
    except FileError as error:
        return await could_not_run(call, error)
    if ending:
        return await wait_for(call, child)
    again = f"cognu cpu -a {number} {node} is there again"
    return await wait_at_terminal(call, child, f"left {node}; {again}", f"it goes on there; {again}")


@dataclass(frozen=True)
class KeptShell:
    """A line of /proc/kept; times in ns since 1970."""

    node: str
    id: int
    user: str
    started: int
    shown: bool
    since: int
    seconds: int
    argv: tuple[str, ...]


def parse_kept(node: str, text: str) -> list[KeptShell]:
    """The lines of a machine's /proc/kept (proc(3)). Raises BADMESSAGE for what is none."""
    found = []
    try:
        for command in split_commands(text):
            number, user, started, state, since, seconds, *argv = command.words
            if state not in ("shown", "away"):
                raise ValueError(state)
            times = (int(started), state == "shown", int(since), int(seconds))
            found.append(KeptShell(node, int(number), user, *times, tuple(argv)))
    except (ValueError, FileError):
        raise FileError(E.BADMESSAGE, f"/n/{node}/proc/kept") from None
    return found


async def _list(call: Call) -> int:
    """Of one machine, or of all; those that are not reached are named. Or what is kept here for others."""
    here = "here" in call.options
    if len(call.operands) + here > 1 or any(name not in ("l", "here", "json") for name, _ in call.options.given):
        raise call.usage("cpu -l [--json] [NODE | --here]")
    if here:
        kept = parse_kept((await _text(call, "/dev/sysname")).strip(), await _text(call, "/proc/kept"))
        await _print(call, kept, [("FOR", *_HEADS), *((each.user, *_row(each)[1:]) for each in kept)])
        return 0
    nodes = call.operands or [peer["name"] for peer in await call.system.rpc("peers")]
    found = await asyncio.gather(*(_kept_at(call, node) for node in nodes))
    kept = []
    for node, each in zip(nodes, found, strict=True):
        if not isinstance(each, FileError):
            kept += each
        elif call.operands:
            await call.complain(FileError(E.NOPEER, node) if each.error is E.NOENT else each)
            return 1
        elif each.error is not E.NOENT:  # else it lets us run nothing, so it keeps nothing
            await call.complain(FileError(each.error, node, "what it keeps is not known"))
    await _print(call, kept, [("NODE", *_HEADS), *map(_row, kept)])
    return 0


async def _kept_at(call: Call, node: str) -> list[KeptShell] | FileError:
    """What one machine keeps, which is dialled if it is away; or why that is not known."""
    asking = _text(call, f"/n/{node}/proc/kept")
    try:
        text = await (asking if call.operands else within(call.system.clock, ASK_SECONDS, asking))
        return parse_kept(node, text)
    except FileError as error:
        return error
    except TimeoutError:
        return FileError(E.TIMEDOUT, node)


async def _text(call: Call, path: str) -> str:
    async with opened(call.system, path, "r") as file:
        return b"".join([data async for data in chunks(file)]).decode("utf-8", "replace")


async def _print(call: Call, kept: list[KeptShell], rows: list[tuple[str, ...]]) -> None:
    if "json" in call.options:
        await call.print(json.dumps([asdict(each) for each in kept]))
    elif kept:
        await call.print(*columns(rows))


def _row(kept: KeptShell) -> tuple[str, ...]:
    until = "-" if kept.shown else time_text(kept.since + kept.seconds * 10**9)
    state = "shown" if kept.shown else "none"
    command = " ".join(kept.argv[1:]) or "a shell"
    return (kept.node, str(kept.id), time_text(kept.started), state, time_text(kept.since), until, command)
