"""The lines that `/proc/N/ctl` takes: what a new process is to be, and what is done to a running one.

One table says for each verb what it takes, and in which states. Words are quoted as in rc(1). Of proc(3)'s verbs these
are here: close, closefiles, kill, pri, private, start, stop; what is about debugging machine code is not. What is done
to a process that really runs on another node is passed on to there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from string import hexdigits
from typing import NamedTuple

from cognu.errors import E, FileError
from cognu.files.launch import LONGEST_KEPT, Grant, Launch, Mapping
from cognu.files.limits import MAX_WEIGHT, USUAL_WEIGHT, Resource
from cognu.files.mounts import ChanMover
from cognu.files.nscommands import change_directory
from cognu.files.nstext import split_commands
from cognu.files.post import NAME_BYTES
from cognu.files.process import Process, ProcessTable, Share, State
from cognu.files.server import Caller
from cognu.files.steps import Steps

MAX_ITEMS = 1024
"""Grants, and mapped directories, of one process; the node keeps them in memory."""
MAX_ARGUMENTS = 1 << 20
"""Bytes of all arguments, as Linux has it in the order of magnitude (execve(2))."""
INTERFACE_DIGITS = 2 * NAME_BYTES
MAX_NUMBER = (1 << 63) - 1
MAX_NOTE = 128
"""Bytes of a note, as ERRMAX in Plan 9."""
_LIMIT = f"limit {'|'.join(Resource)} N (bytes, ns of processor time, descriptors, processes)"

Launcher = Callable[[Process, Launch], Awaitable[None]]
"""Given by the node: makes a NEW process run, or raises with nothing left running. May set `kill`, `note`, `pause`,
`weigh`, `tell`, `detail`."""


class Control(NamedTuple):
    """Who does what to whom."""

    process: Process
    caller: Caller
    processes: ProcessTable
    launcher: Launcher
    sees: Callable[[Caller, Process], bool]


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
    fresh = state is State.NEW and not to.process.launch.starting
    verb = (NEW_VERBS.get(name) if fresh else None) or RUNNING_VERBS.get(name)
    if verb is None:
        if name in NEW_VERBS:
            raise FileError(E.ALREADY, name, "it is started")
        known = {**RUNNING_VERBS, **NEW_VERBS} if state is State.NEW else RUNNING_VERBS
        raise FileError(E.USAGE, name, "; ".join(verb.usage for verb in known.values()))
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


def _grants(to: Control, words: list[str]) -> None:
    if not words[0].startswith("/"):
        raise FileError(E.USAGE, "grants", NEW_VERBS["grants"].usage)
    _keep(to.process.launch.grant_files, words[0], "grants")


def _keep(items: list[Grant] | list[Mapping] | list[str], item: Grant | Mapping | str, what: str) -> None:
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
    resource, value = _limit_words(words)
    to.process.launch.limits[resource.value] = value
    to.process.quota.set_limit(resource, value)
    if resource is Resource.FILES:
        to.process.descriptors.limit = value


def _limit_words(words: list[str]) -> tuple[Resource, int]:
    if words[0] not in list(Resource):
        raise FileError(E.USAGE, "limit", _LIMIT)
    return Resource(words[0]), _number(words[1], "limit", _LIMIT)


def _noteg(to: Control, words: list[str]) -> None:
    """Begin a note group, or join that of a process which whoever writes may see."""
    if not words:
        to.process.noteid = to.process.pid
        return
    other = to.processes[_number(words[0], "noteg", NEW_VERBS["noteg"].usage)]
    if not to.sees(to.caller, other):
        raise FileError(E.SRCH, f"pid {other.pid}")
    to.process.noteid = other.noteid


def _import(to: Control, words: list[str]) -> None:
    to.process.launch.token = words[0]
    to.process.launch.cwd = words[1] if len(words) > 1 else "/"


def _isolate(to: Control, words: list[str]) -> None:
    to.process.launch.isolate = True


def _handle(to: Control, words: list[str]) -> None:
    if len(words[0]) != INTERFACE_DIGITS or set(words[0]) - set(hexdigits):
        raise FileError(E.USAGE, "handle", NEW_VERBS["handle"].usage)
    _keep(to.process.launch.handles, words[0], "handle")


def _on(to: Control, words: list[str]) -> None:
    to.process.launch.on = words[0]


def _stay(to: Control, words: list[str]) -> None:
    usage = NEW_VERBS["keep"].usage
    seconds = _number(words[0], "keep", usage)
    if not 1 <= seconds <= LONGEST_KEPT:
        raise FileError(E.USAGE, "keep", usage)
    to.process.launch.keep = seconds


def _attach(to: Control, words: list[str]) -> None:
    usage = NEW_VERBS["attach"].usage
    how = words[1] if len(words) > 1 else ""
    if how not in ("", "take", "end"):
        raise FileError(E.USAGE, "attach", usage)
    launch = to.process.launch
    launch.kept, launch.kept_how = _number(words[0], "attach", usage), how


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
        raise FileError(E.NOTSUP, "kill", _what_it_is(process))
    else:
        process.kill(by)


def _what_it_is(process: Process) -> str:
    """Who refuses what is no program, and how its work is ended."""
    match process.args:
        case ["node", *_]:
            what = "is this node itself; cognu down stops it"
        case ["peer", name]:
            what = f"stands for {name}, a machine that was joined; end what it runs here (ps), or cognu drop {name}"
        case ["store", name]:
            what = f"fetches objects for {name}; it ends with that"
        case _ if process.parent is not None and process.parent.args[:1] == ["node"]:
            what = "is a session, which ends with its shell or command; what it runs can be killed, see ps"
        case _:
            what = "runs no program yet; close its ctl"
    return f"process {process.pid} {what}"


def _interrupt(to: Control, words: list[str]) -> None:
    send_note(to.process, "interrupt")


def _note(to: Control, words: list[str]) -> None:
    send_note(to.process, " ".join(words))


def send_note(process: Process, text: str) -> None:
    """Raises NOTSUP if it takes no notes, INVAL for one that means nothing to it."""
    if process.note is None:
        raise FileError(E.NOTSUP, "note", _what_it_is(process))
    process.note(text)


def send_notes(
    processes: ProcessTable, noteid: int, text: str, sender: Caller, sees: Callable[[Process], bool]
) -> None:
    """A note to the processes of a group that the sender sees, itself left out, as notepg in proc(3).

    All get it, even if one refuses, whose refusal is raised. Raises SRCH if no process of the group takes notes.
    """
    members = [
        process for process in processes.group(noteid)
        if process.note is not None and process.pid != sender.pid and sees(process)
    ]  # fmt: skip
    if not members:
        raise FileError(E.SRCH, f"note group {noteid}", "nobody in it takes notes")
    refusals = []
    for process in members:
        try:
            send_note(process, text)
        except FileError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _stop(to: Control, words: list[str]) -> None:
    _pause(to.process, True)


def _go_on(to: Control, words: list[str]) -> None:
    if not to.process.stopped:
        raise FileError(E.ALREADY, "start", "it is started")
    _pause(to.process, False)


def _pause(process: Process, stop: bool) -> None:
    if process.pause is None:
        raise FileError(E.NOTSUP, "stop", _what_it_is(process))
    process.pause(stop)
    process.stopped = stop


def _close(to: Control, words: list[str]) -> None:
    number = _number(words[0], "close", RUNNING_VERBS["close"].usage)
    to.process.descriptors.close(number)
    _pass_on(to.process, f"close {number}")


def _close_files(to: Control, words: list[str]) -> None:
    for number in to.process.descriptors:
        to.process.descriptors.close(number)
    _pass_on(to.process, "closefiles")


def _pri(to: Control, words: list[str]) -> None:
    usage = RUNNING_VERBS["pri"].usage
    weight = _number(words[0], "pri", usage)
    if not 1 <= weight <= MAX_WEIGHT:
        raise FileError(E.USAGE, "pri", usage)
    process = to.process
    if process.weigh is not None:
        process.weigh(weight)
    process.weight = weight


def _private(to: Control, words: list[str]) -> None:
    to.process.private = True


def _lower(to: Control, words: list[str]) -> None:
    resource, value = _limit_words(words)
    process = to.process
    process.quota.lower(resource, value)
    if resource is Resource.FILES:
        process.descriptors.limit = min(process.descriptors.limit, value)
    _pass_on(process, f"limit {resource.value} {value}")


def _pass_on(process: Process, line: str) -> None:
    """To the node where it really runs, if that is not this one."""
    if process.tell is not None:
        process.tell(line)


NEW_VERBS = {
    "program": _Verb(1, 1, "program WORD", _program),
    "arg": _Verb(1, None, "arg WORD...", _arg),
    "env": _Verb(1, 1, "env NAME=VALUE", _env),
    "cd": _Verb(1, 1, "cd PATH", _cd),
    "ns": _Verb(1, 1, "ns clean|copy|share", _ns),
    "grant": _Verb(2, 2, "grant /PATH RIGHTS (letters of rwx)", _grant),
    "grants": _Verb(1, 1, "grants /PATH", _grants),
    "dir": _Verb(2, 2, "dir SOURCE GUESTPATH", _dir),
    "fd": _Verb(2, 3, "fd CHILD FD [OFFSET]", _fd),
    "limit": _Verb(2, 2, _LIMIT, _limit),
    "noteg": _Verb(0, 1, "noteg [PID]", _noteg),
    "import": _Verb(1, 2, "import TOKEN [PATH]", _import),
    "isolate": _Verb(0, 0, "isolate", _isolate),
    "handle": _Verb(1, 1, f"handle INTERFACE ({INTERFACE_DIGITS} hexadecimal digits)", _handle),
    "on": _Verb(1, 1, "on NODE", _on),
    "keep": _Verb(1, 1, f"keep SECONDS (1-{LONGEST_KEPT})", _stay),
    "attach": _Verb(1, 2, "attach PID [take|end]", _attach),
    "start": _Verb(0, 0, "start", _start),
}
RUNNING_VERBS = {
    "kill": _Verb(0, 0, "kill", _kill),
    "interrupt": _Verb(0, 0, "interrupt", _interrupt),
    "note": _Verb(1, None, "note TEXT", _note),
    "stop": _Verb(0, 0, "stop", _stop),
    "start": _Verb(0, 0, "start", _go_on),
    "close": _Verb(1, 1, "close FD", _close),
    "closefiles": _Verb(0, 0, "closefiles", _close_files),
    "private": _Verb(0, 0, "private", _private),
    "pri": _Verb(1, 1, f"pri N (1-{MAX_WEIGHT}, {USUAL_WEIGHT} is usual)", _pri),
    "limit": _Verb(2, 2, f"{_LIMIT}, no more than it has", _lower),
}
