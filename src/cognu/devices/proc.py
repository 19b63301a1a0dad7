"""`#p`: processes as files, as proc(3): `/proc/clone` and for each process N a directory `/proc/N`.

args        the arguments, quoted as in rc(1), on one line; read-only, for a program has its own copy
ctl         reads as the pid; takes the lines of `procctl`
fd          the working directory on the first line, then a line for each open file: number, access, server, qid (path,
            version, type), offset, path
mem-limits  a line for each resource of `Resource`: name, used (by it and all it started), least limit that holds, how
            much more may be had now (what others under the same limits use counts too); `-` for no limit
note        what is written is a note to the process
noteid      the number of its note group
notepg      what is written is a note to its note group, the writer left out
ns          reads as commands that rebuild the namespace; takes such commands
status      `key value` lines: name, state (New, Running, Stopped or Dead), pid, parent, user, node (where it really
            runs, `-` for here), started (ns since 1970), noteid, weight, for a program memory (bytes), utime and stime
            (ms), slices, calls, if it is isolated runner (the host's number of its process), then `limit.RESOURCE
            USED/LIMIT` for each resource, and status (exit) once it ended
wait        once it ended its wait(3) line and its exit status
wants       what a program wanted and has no grant for: each read brings the next, as number, path, rights and hash of
            the program, or waits for it, up to the program's end. `never PATH RIGHTS` follows if that is what was
            said of the program for good, `steers` if it steers the node: it was refused by that already. While it is
            open for reading and writing the program waits for answers, `NUMBER yes [PATH]` (where it must lead) or
            `NUMBER no`. For those above the process alone, never for itself

kept (beside clone) has a line for each shell that is kept for a terminal to come: its number, whose it is, when it was
started (ns since 1970), `shown` or `away`, since when, for how many seconds it is kept when away, and its arguments

A process sees itself and its descendants. Opening `clone` makes a new child, which takes the right to write; the fid is
then the child's ctl, and closing it before `start` ends the child. Whoever holds a file of a process open may go on
reading it when that ended. Of a process that is private others open only ctl, status and wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from cognu.devices.fd import describe as describe_open
from cognu.devices.procctl import MAX_NOTE, Control, Launcher, control, send_note, send_notes
from cognu.errors import E, FileError
from cognu.files.audit import audit, name_of
from cognu.files.limits import Resource
from cognu.files.nscommands import Mounter, apply
from cognu.files.nstext import describe, quote, split_words
from cognu.files.process import Process, ProcessTable, State, ancestors
from cognu.files.server import Caller, MaybeAsync
from cognu.files.steps import Steps, start
from cognu.files.tree import Node, Text, TreeFid, TreeServer, check_for_writing
from cognu.files.wants import Want, Wants
from cognu.ninep.types import OACCESS, ORDWR, OREAD, OWRITE, QTDIR, QTFILE, Qid

_FILES = ("args", "ctl", "fd", "mem-limits", "note", "noteid", "notepg", "ns", "status", "wait", "wants")
_PUBLIC = ("ctl", "status", "wait")
"""Files of a private process that others may open."""
_MADE_HERE = object()
"""The state of the fid that made a process by opening clone."""


class _ProcText(Text):
    def __init__(self, process: Process, name: str, get: Callable[[Process], str]) -> None:
        super().__init__(name, lambda: get(process))
        self._process = process

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        _check_private(self._process, self.name, caller)
        super().open(fid, mode, caller)


class _Writable(Node):
    """A file whose writes are lines that change the process: for the process itself and those above it alone."""

    def __init__(self, server: ProcServer, process: Process, name: str, mode: int = 0o600) -> None:
        super().__init__(name, mode)
        self.server = server
        self.process = process

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        _check_private(self.process, self.name, caller)
        if mode & OACCESS in (OWRITE, ORDWR) and not self.server.sees(caller, self.process):
            raise FileError(E.ACCES, f"/proc/{self.process.pid}/{self.name}", "it is not below you")
        return None

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        """Each write is whole lines; the last needs no newline."""
        try:
            text = bytes(data).decode()
        except UnicodeDecodeError:
            raise FileError(E.ILSEQ, self.name) from None
        return start(self._write(fid, text, len(data)))

    def _write(self, fid: TreeFid, text: str, size: int) -> Steps[int]:
        yield from self.carry_out(fid, text)
        return size

    def carry_out(self, fid: TreeFid, text: str) -> Steps[None]:
        raise NotImplementedError


class Ctl(_Writable):
    """Reads as the pid; takes the lines of `procctl`."""

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return f"{self.process.pid}\n".encode()[offset : offset + count]

    def carry_out(self, fid: TreeFid, text: str) -> Steps[None]:
        assert fid.caller is not None
        server = self.server
        return control(Control(self.process, fid.caller, server.processes, server.launcher, server.sees), text)

    def close(self, fid: TreeFid) -> None:
        if fid.state is not _MADE_HERE or self.process.state is not State.NEW:
            return
        if self.process.launch.starting:
            self.process.launch.abandoned = True
        else:
            self.server.processes.end(self.process, 1, E.CANCELED.text)


class Ns(_Writable):
    """Reads as commands that rebuild the namespace, takes such commands."""

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        super().open(fid, mode, caller)
        self._alive()
        if mode & OACCESS != OWRITE:
            fid.state = describe(self.process.namespace, self.process.cwd).encode()
        return None

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]

    def carry_out(self, fid: TreeFid, text: str) -> Steps[None]:
        self._alive()
        self.server.processes.own_namespace(self.process)
        return apply(self.process, text, self.server.mounter)

    def _alive(self) -> None:
        if self.process.state is State.DEAD:
            raise FileError(E.SRCH, f"pid {self.process.pid}")


class Note(_Writable):
    """`note` and `notepg`: each write is a note, to the process or to its group, less a newline at its end."""

    def __init__(self, server: ProcServer, process: Process, name: str) -> None:
        super().__init__(server, process, name, 0o200)

    def carry_out(self, fid: TreeFid, text: str) -> Steps[None]:
        assert fid.caller is not None
        process, caller, server = self.process, fid.caller, self.server
        note = text.removesuffix("\n")
        if len(note.encode()) >= MAX_NOTE:
            raise FileError(E.MSGSIZE, self.name, f"a note has less than {MAX_NOTE} bytes")
        if process.state is State.DEAD:
            raise FileError(E.SRCH, f"pid {process.pid}")
        if self.name == "note":
            send_note(process, note)
        else:
            send_notes(server.processes, process.noteid, note, caller, lambda member: server.sees(caller, member))
        return
        yield


class Wait(Node):
    """Reads, once the process ended, as its wait(3) line and its exit status; any number of readers may wait."""

    def __init__(self, process: Process) -> None:
        super().__init__("wait", 0o400)
        self.process = process

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        if self.process.state is State.DEAD:
            return wait_line(self.process).encode()[offset : offset + count]
        return self._read_later(offset, count)

    async def _read_later(self, offset: int, count: int) -> bytes | memoryview:
        await self.process.ended.wait()
        return wait_line(self.process).encode()[offset : offset + count]


class WantsFile(Node):
    """See the head of this module. Whoever could open it for its own process would grant itself what it likes."""

    def __init__(self, process: Process) -> None:
        super().__init__("wants", 0o600)
        self.process = process

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        if not any(above.pid == caller.pid for above in ancestors(self.process)):
            raise FileError(E.ACCES, f"/proc/{self.process.pid}/wants", "it is not below you")
        if mode & OACCESS != OREAD:
            self._wants().begin_asking(fid)
        fid.state = 0
        return None

    def _wants(self) -> Wants:
        if self.process.wants is None:
            self.process.wants = Wants()
            if self.process.state is State.DEAD:
                self.process.wants.close()
        return self.process.wants

    async def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, int)
        wants = self._wants()
        want = await wants.next(fid.state)
        if want is None:
            return b""
        why = f" never {quote(want.never.path)} {want.never.rights}" if want.never else " steers" if want.steers else ""
        line = f"{want.number} {quote(want.path)} {want.rights} {wants.program or '-'}{why}\n".encode()
        if len(line) > count:
            raise FileError(E.RANGE, "wants", f"{len(line)} bytes")
        fid.state = want.number + 1
        return line

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        """One answer. Raises what keeps the path from being granted, and ACCES to who is not asked."""
        match split_words(bytes(data).decode("utf-8", "surrogateescape")):
            case [number, "yes"] if _is_number(number):
                await self._answer(fid, int(number), True)
            case [number, "yes", real] if _is_number(number) and real.startswith("/"):
                await self._answer(fid, int(number), True, real)
            case [number, "no"] if _is_number(number):
                await self._answer(fid, int(number), False)
            case [number, "asked"] if _is_number(number):
                self._wants().put(fid, int(number), partial(self._log, fid, "refused, as it asked and nobody answered"))
            case _:
                raise FileError(E.USAGE, "wants", "NUMBER asked; NUMBER yes [PATH]; NUMBER no")
        return len(data)

    async def _answer(self, fid: TreeFid, number: int, yes: bool, real: str = "") -> None:
        want = await self._wants().answer(fid, number, yes, real)
        if want is not None:
            self._log(fid, f"{'granted' if yes else 'refused'}, as it asked", want)

    def _log(self, fid: TreeFid, said: str, want: Want) -> None:
        if fid.caller is not None:
            program = self._wants().program
            what = f"{want.path} ({want.rights}) to process {self.process.pid}, program {program}"
            audit(name_of(fid.caller), f"{said}: {what}")

    def close(self, fid: TreeFid) -> None:
        self._wants().end_asking(fid)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


class Clone(Node):
    """Opening it makes a process: with the caller's namespace and a copy of its environment, without its open files.

    Raises ACCES for reading alone, TOOMANY, DQUOT.
    """

    def __init__(self, server: ProcServer) -> None:
        super().__init__("clone", 0o666)
        self.server = server

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid:
        check_for_writing(self, mode)
        processes = self.server.processes
        child = processes.clone(processes[caller.pid])
        directory = ProcessDirectory(self.server, child)
        made = TreeFid(directory.file("ctl"), TreeFid(directory, fid.above))
        made.state = _MADE_HERE
        return made


class ProcessDirectory(Node):
    """`/proc/N`. Made anew for each walk; the numbers of its files follow from the pid."""

    def __init__(self, server: ProcServer, process: Process) -> None:
        super().__init__(str(process.pid), 0o555, qid_type=QTDIR)
        self.server = server
        self.process = process
        self.qid = Qid(QTDIR, 0, _number(process, 0))
        self.mtime = self.atime = process.started
        self.user = self.group = process.user

    def find(self, name: str, caller: Caller) -> Node:
        if name not in _FILES:
            raise FileError(E.NOENT, name)
        return self.file(name)

    def entries(self, caller: Caller | None) -> Iterable[Node]:
        return map(self.file, _FILES)

    def file(self, name: str) -> Node:
        node: Node
        match name:
            case "ctl":
                node = Ctl(self.server, self.process, name)
            case "ns":
                node = Ns(self.server, self.process, name)
            case "note" | "notepg":
                node = Note(self.server, self.process, name)
            case "wait":
                node = Wait(self.process)
            case "wants":
                node = WantsFile(self.process)
            case _:
                node = _ProcText(self.process, name, _TEXTS[name])
        node.qid = Qid(QTFILE, 0, _number(self.process, 1 + _FILES.index(name)))
        node.mtime = node.atime = self.mtime
        node.user = node.group = self.user
        node.parent = self
        return node


class _Kept(Node):
    """`kept`: see the head of this module."""

    def __init__(self, server: ProcServer) -> None:
        super().__init__("kept", 0o444)
        self.server = server

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = self.server.kept(None if self.server.everything else caller).encode()

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]


class _Root(Node):
    def __init__(self, server: ProcServer) -> None:
        super().__init__("", 0o555, qid_type=QTDIR)
        self.server = server
        self.clone = Clone(server)
        self.kept = _Kept(server)
        self.clone.parent = self.kept.parent = self

    def find(self, name: str, caller: Caller) -> Node:
        if name == "clone":
            return self.clone
        if name == "kept":
            return self.kept
        if not (name.isascii() and name.isdigit() and len(name) < 19 and str(int(name)) == name):
            raise FileError(E.NOENT, name)
        try:
            process = self.server.processes[int(name)]
        except FileError:
            raise FileError(E.NOENT, name) from None
        if not self.server.sees(caller, process):
            raise FileError(E.NOENT, name)
        return self._directory(process)

    def entries(self, caller: Caller | None) -> Iterator[Node]:
        assert caller is not None
        yield self.clone
        yield self.kept
        for process in self.server.processes:
            if self.server.sees(caller, process):
                yield self._directory(process)

    def _directory(self, process: Process) -> Node:
        directory = ProcessDirectory(self.server, process)
        directory.parent = self
        return directory


def none_kept(caller: Caller | None) -> str:
    return ""


class ProcServer(TreeServer):
    """Shows `processes`; with `everything`, all of them to everybody who may attach.

    `kept` gives the text of that file: what is kept for a caller, or (None) for anybody.
    """

    def __init__(
        self, processes: ProcessTable, mounter: Mounter, launcher: Launcher, *, everything: bool = False,
        kept: Callable[[Caller | None], str] = none_kept,
    ) -> None:  # fmt: skip
        self.processes = processes
        self.mounter = mounter
        self.launcher = launcher
        self.kept = kept
        self.everything = everything
        super().__init__("#p", _Root(self))

    def sees(self, caller: Caller, process: Process) -> bool:
        """Whether `process` is the caller or below it."""
        at: Process | None = process
        while at is not None and not self.everything:
            if at.pid == caller.pid:
                return True
            at = at.parent
        return self.everything


def args_line(process: Process) -> str:
    return " ".join(map(quote, process.args)) + "\n"


def fd_lines(process: Process) -> str:
    """Raises SRCH once it ended: then it has no files."""
    if process.state is State.DEAD:
        raise FileError(E.SRCH, f"pid {process.pid}")
    files = process.descriptors
    return f"{process.cwd.path}\n" + "".join(describe_open(number, files[number]) for number in files)


def limit_lines(process: Process) -> str:
    quota = process.quota
    return "".join(
        f"{resource} {quota.used(resource)} {_or_none(quota.bound(resource))} {_or_none(quota.room(resource))}\n"
        for resource in Resource
    )


def _or_none(limit: int | None) -> str:
    return "-" if limit is None else str(limit)


def status_lines(process: Process) -> str:
    """See the head of this module."""
    program = process.args[0] if process.args else process.program
    lines: dict[str, int | str] = {
        "name": program.rstrip("/").rpartition("/")[2] or "-",
        "state": "Stopped" if process.stopped and process.state is State.RUNNING else process.state.value,
        "pid": process.pid,
        "parent": process.parent.pid if process.parent else 0,
        "user": process.user,
        "node": process.node or "-",
        "started": process.started,
        "noteid": process.noteid,
        "weight": process.weight,
    }
    if process.detail is not None:
        lines.update(process.detail())
    quota = process.quota
    for resource in Resource:
        lines[f"limit.{resource}"] = f"{quota.used(resource)}/{_or_none(quota.bound(resource))}"
    if process.status is not None:
        lines["status"] = process.status
    return "".join(f"{key} {value if isinstance(value, int) else quote(value)}\n" for key, value in lines.items())


def wait_line(process: Process) -> str:
    """wait(3): pid, user, system and real time in ms, the message (empty after success); then the exit status."""
    times = process.detail() if process.detail is not None else {}
    real = (process.finished - process.started) // 10**6
    used = f"{times.get('utime', 0)} {times.get('stime', 0)} {real}"
    return f"{process.pid} {used} {_quoted(process.message)} {process.status}\n"


_TEXTS: dict[str, Callable[[Process], str]] = {
    "args": args_line,
    "fd": fd_lines,
    "mem-limits": limit_lines,
    "noteid": lambda process: f"{process.noteid}\n",
    "status": status_lines,
}


def _check_private(process: Process, name: str, caller: Caller) -> None:
    if process.private and name not in _PUBLIC and caller.pid != process.pid:
        raise FileError(E.ACCES, f"/proc/{process.pid}/{name}", "it is private")


def _quoted(message: str) -> str:
    return "'" + message.replace("\n", " ").replace("'", "''") + "'"


def _number(process: Process, file: int) -> int:
    """A qid path; far above those of the nodes that are made once."""
    return 1 << 62 | process.pid << 4 | file
