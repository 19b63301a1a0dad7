"""The lines that `/proc/N/ctl` takes: what a new process is to be, and what is done to a running one.

One table says for each verb what it takes, and in which states. Words are quoted as in rc(1).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cognu.errors import E, FileError
from cognu.files.launch import Grant, Launch, Mapping
from cognu.files.namespace import ChanMover
from cognu.files.nscommands import change_directory
from cognu.files.nstext import split_commands
from cognu.files.process import Process, ProcessTable, Share, State
from cognu.files.server import Caller
from cognu.files.steps import Steps

MAX_ITEMS = 1024
"""Grants, and mapped directories, of one process; the node keeps them in memory."""
MAX_ARGUMENTS = 1 << 20
"""Bytes of all arguments, as Linux has it in the order of magnitude (execve(2))."""
MAX_NUMBER = (1 << 63) - 1

Launcher = Callable[[Process, Launch], Awaitable[None]]
"""Given by the node: makes a NEW process run, or raises with nothing left running. May set `kill`, `note`, `detail`."""


class Control(NamedTuple):
    """Who does what to whom."""

    process: Process
    caller: Caller
    processes: ProcessTable
    launcher: Launcher


class _Verb(NamedTuple):
    least: int
    most: int | None
    usage: str
    act: Callable[[Control, list[str]], Steps[None] | None]


def control(to: Control, text: str) -> Steps[None]:
    """Carry out the lines of `text` in order; the first that is refused ends it, with those before it done."""
    for command in split_commands(text):
        yield from _line(to, command.words)


def _line(to: Control, words: list[str]) -> Steps[None]:
    name, rest = words[0], words[1:]
    state = to.process.state
    if state is State.DEAD:
        raise FileError(E.SRCH, f"pid {to.process.pid}")
    new, running = NEW_VERBS.get(name), RUNNING_VERBS.get(name)
    if new is None and running is None:
        known = NEW_VERBS if state is State.NEW else RUNNING_VERBS
        raise FileError(E.USAGE, name, "; ".join(verb.usage for verb in known.values()))
    if new is not None and (state is not State.NEW or to.process.launch.starting):
        raise FileError(E.ALREADY, name, "it is started")
    verb = new or running
    assert verb is not None
    if len(rest) < verb.least or (verb.most is not None and len(rest) > verb.most):
        raise FileError(E.USAGE, name, verb.usage)
    steps = verb.act(to, rest)
    if steps is not None:
        yield from steps


# -- a new process ----------------------------------------------------------------------------------------------------


def _program(to: Control, words: list[str]) -> None:
    if not words[0]:
        raise FileError(E.USAGE, "program", NEW_VERBS["program"].usage)
    to.process.launch.program = words[0]


def _arg(to: Control, words: list[str]) -> None:
    args = to.process.launch.args
    if sum(len(word.encode()) + 1 for word in args + words) > MAX_ARGUMENTS:
        raise FileError(E.TOOBIG, "arg", f"{MAX_ARGUMENTS} bytes")
    args.extend(words)


def _env(to: Control, words: list[str]) -> None:
    name, equals, value = words[0].partition("=")
    if not equals or not name or "/" in name or "\0" in words[0]:
        raise FileError(E.USAGE, "env", NEW_VERBS["env"].usage)
    values = to.process.environment.values
    if name not in values and len(values) >= MAX_ITEMS:
        raise FileError(E.TOOBIG, "env", f"{MAX_ITEMS} variables")
    values[name] = value.encode()


def _cd(to: Control, words: list[str]) -> Steps[None]:
    return change_directory(to.process, words[0])


def _ns(to: Control, words: list[str]) -> None:
    if words[0] not in {share.value for share in Share}:
        raise FileError(E.USAGE, "ns", NEW_VERBS["ns"].usage)
    to.processes.change_namespace(to.process, Share(words[0]))


def _grant(to: Control, words: list[str]) -> None:
    path, rights = words
    if not path.startswith("/") or not rights or set(rights) - set("rwx"):
        raise FileError(E.USAGE, "grant", NEW_VERBS["grant"].usage)
    grant = Grant(path, "".join(letter for letter in "rwx" if letter in rights))
    _keep(to.process.launch.grants, grant, "grant")


def _dir(to: Control, words: list[str]) -> None:
    if not all(words):
        raise FileError(E.USAGE, "dir", NEW_VERBS["dir"].usage)
    _keep(to.process.launch.directories, Mapping(*words), "dir")


def _keep(items: list[Grant] | list[Mapping], item: Grant | Mapping, what: str) -> None:
    if len(items) >= MAX_ITEMS:
        raise FileError(E.TOOBIG, what, f"{MAX_ITEMS} of them")
    items.append(item)  # type: ignore[arg-type]  # each list gets its own kind


def _fd(to: Control, words: list[str]) -> None:
    """Hand over a descriptor of whoever writes; it is the same open file, as after fork."""
    usage = NEW_VERBS["fd"].usage
    numbers = [_number(word, "fd", usage) for word in words]
    chan = to.processes[to.caller.pid].descriptors[numbers[1]]
    if chan.handle.mode is None:
        raise FileError(E.BADF, f"fd {numbers[1]}", "not open")
    moved = ChanMover(to.process.namespace.domain).move(chan)
    try:
        to.process.descriptors.add(moved, numbers[0])
    except FileError:
        moved.close()
        raise
    if len(numbers) == 3:
        chan.handle.offset = numbers[2]


def _limit(to: Control, words: list[str]) -> None:
    what, usage = words[0], NEW_VERBS["limit"].usage
    if what not in ("memory", "cpu", "files"):
        raise FileError(E.USAGE, "limit", usage)
    value = _number(words[1], "limit", usage)
    to.process.launch.limits[what] = value
    if what == "files":
        to.process.descriptors.limit = value


def _import(to: Control, words: list[str]) -> None:
    to.process.launch.token = words[0]
    to.process.launch.cwd = words[1] if len(words) > 1 else "/"


def _on(to: Control, words: list[str]) -> None:
    to.process.launch.on = words[0]


def _start(to: Control, words: list[str]) -> Steps[None]:
    process, launch = to.process, to.process.launch
    if not launch.program:
        raise FileError(E.USAGE, "start", NEW_VERBS["program"].usage)
    process.program = launch.program
    process.args = [launch.program, *launch.args]
    launch.starting = True
    try:
        yield to.launcher(process, launch)
        if process.state is State.NEW:
            process.state = State.RUNNING
    finally:
        launch.starting = False
        if launch.abandoned and process.state is State.NEW:
            to.processes.end(process, 1, E.CANCELED.text)


def _number(word: str, verb: str, usage: str) -> int:
    if not (word.isascii() and word.isdigit()) or len(word) > 19 or int(word) > MAX_NUMBER:
        raise FileError(E.USAGE, verb, usage)
    return int(word)


# -- a running one ----------------------------------------------------------------------------------------------------


def _kill(to: Control, words: list[str]) -> None:
    process = to.process
    by = f"{to.caller.user}, process {to.caller.pid}"
    if process.state is State.NEW and not process.launch.starting:
        to.processes.end(process, 128 + 9, by)
    elif process.kill is None:
        raise FileError(E.NOTSUP, "kill", f"process {process.pid} can't be ended from outside")
    else:
        process.kill(by)


def _interrupt(to: Control, words: list[str]) -> None:
    _send_note(to, "interrupt")


def _note(to: Control, words: list[str]) -> None:
    _send_note(to, " ".join(words))


def _send_note(to: Control, text: str) -> None:
    if to.process.note is None:
        raise FileError(E.NOTSUP, "note", f"process {to.process.pid} takes none")
    to.process.note(text)


NEW_VERBS = {
    "program": _Verb(1, 1, "program WORD", _program),
    "arg": _Verb(1, None, "arg WORD...", _arg),
    "env": _Verb(1, 1, "env NAME=VALUE", _env),
    "cd": _Verb(1, 1, "cd PATH", _cd),
    "ns": _Verb(1, 1, "ns clean|copy|share", _ns),
    "grant": _Verb(2, 2, "grant /PATH RIGHTS (letters of rwx)", _grant),
    "dir": _Verb(2, 2, "dir SOURCE GUESTPATH", _dir),
    "fd": _Verb(2, 3, "fd CHILD FD [OFFSET]", _fd),
    "limit": _Verb(2, 2, "limit memory|cpu|files N (bytes, nanoseconds, descriptors)", _limit),
    "import": _Verb(1, 2, "import TOKEN [PATH]", _import),
    "on": _Verb(1, 1, "on NODE", _on),
    "start": _Verb(0, 0, "start", _start),
}
RUNNING_VERBS = {
    "kill": _Verb(0, 0, "kill", _kill),
    "interrupt": _Verb(0, 0, "interrupt", _interrupt),
    "note": _Verb(1, None, "note TEXT", _note),
}
