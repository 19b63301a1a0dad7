"""The one error table: symbol, errno, Plan 9 text, and what to do next.

Every error in Cognu is one row of this table plus what was refused. The rows' texts stand nowhere else; `detail` is
free words for the case at hand.
The numbers are Linux errnos, which is what 9P2000.L carries (diod's protocol.md); the texts are Plan 9's
(9front port/error.h) where Plan 9 has one, because 9P2000 carries only the text.

Whose fault an error is decides its class, as in trio:

- `FileError`: an operation was refused; nothing is wrong with the program that asked.
- `Misuse`: the local caller broke an interface's rules; a bug on this side.
- `ProtocolError`: the other side broke the protocol; the connection ends.
- `LinkBroken`: the other side can't be reached; what happened to running calls is said by the row.
"""

from __future__ import annotations

import errno
import re
from enum import Enum
from typing import NamedTuple

THERE = "; there: cognu "
"""Stands in a detail that says what to do, which is then said in place of the row's hint."""
LACKING = "it was granted without "
"""Begins the detail of what is refused for want of a right: the letters of what is lacking follow, `w and c`."""
PATH = "PATH"
"""Stands in a hint for the path that was refused."""


class Row(NamedTuple):
    """One line of the table. `hint` is for the person at the terminal and never reaches a guest."""

    errno: int
    text: str
    hint: str


class E(Enum):
    """The closed list of errors; the member's name is the symbol."""

    PERM = Row(1, "operation not permitted", "ask the owner of the file or the node")
    NOENT = Row(2, "file does not exist", "check the path with ls; a program sees only what it was granted")
    SRCH = Row(3, "process does not exist", "ps lists the processes you may see")
    INTR = Row(4, "interrupted", "run it again if that was not meant")
    IO = Row(5, "i/o error", "look at the log of the node that serves the file: cognu logs")
    NXIO = Row(6, "no such device or address", "check the address")
    TOOBIG = Row(7, "argument list too long", "pass fewer or shorter arguments, or a file that lists them")
    NOEXEC = Row(8, "not a program", "programs are WebAssembly modules; check with: head -c 4 FILE")
    BADF = Row(9, "fid unknown or out of range", "the file was closed, or its server went away")
    CHILD = Row(10, "no living children", "there is nothing to wait for")
    AGAIN = Row(11, "resource temporarily unavailable", "try again shortly")
    NOMEM = Row(12, "out of memory", "raise the program's memory limit, or end something: ps, kill")
    ACCES = Row(13, "permission denied", "ls -ld PATH shows its mode; cognu caps why PID PATH, what was granted")
    FAULT = Row(14, "bad address", "the program passed a pointer outside its memory")
    BUSY = Row(16, "device or file already in use", "wait until its user is done: ps shows who")
    EXIST = Row(17, "file already exists", "choose another name or remove it first")
    XDEV = Row(18, "rename between different servers", "copy it, then remove the original")
    NODEV = Row(19, "no such device", "the name after # is not a device this process may attach")
    NOTDIR = Row(20, "not a directory", "check the path")
    ISDIR = Row(21, "file is a directory", "name a file in it")
    INVAL = Row(22, "bad arg in system call", "see the manual page of the file or command")
    NFILE = Row(23, "too many open files on this node", "close some, or raise the node's limit")
    MFILE = Row(24, "no free file descriptors", "close some, or raise the program's limit")
    FBIG = Row(27, "file too large", "the server does not take files of that size")
    NOSPC = Row(28, "file system full", "make room on the disk or raise the quota")
    SPIPE = Row(29, "seek on a stream", "streams are read and written in order only")
    ROFS = Row(30, "read only file system", "import or grant it with :rw if you may")
    PIPE = Row(32, "write on closed pipe", "the reader went away")
    RANGE = Row(34, "result too large", "pass a larger buffer")
    DEADLK = Row(35, "would wait for itself", "two programs wait for each other's locks; let one end or unlock")
    NAMETOOLONG = Row(36, "file name too long", "a name has at most 255 bytes")
    NOLCK = Row(37, "no locks available", "the server refuses locks, or one client has too many; unlock some")
    NOSYS = Row(38, "function not supported by this server", "the server or dialect can't do this")
    NOTEMPTY = Row(39, "directory is not empty", "remove what is in it first: rm -r")
    LOOP = Row(40, "too many symbolic links", "a link points round in a circle")
    OVERFLOW = Row(75, "value too large", "the value does not fit the field")
    ILSEQ = Row(84, "bad character in file name", "names are UTF-8 without NUL and slash")
    MSGSIZE = Row(90, "message too large", "send it in smaller pieces")
    NOPROTO = Row(93, "protocol not supported", "this node has tcp and udp; check /net")
    NOTSUP = Row(95, "operation not supported", "the server or dialect can't do this")
    ADDRINUSE = Row(98, "address in use", "choose another port, or stop what listens there")
    NETUNREACH = Row(101, "no route", "bind another machine's network: bind -b /n/NODE/net /net")
    CONNRESET = Row(104, "connection reset", "the other side ended the connection; try again")
    NOTCONN = Row(107, "not connected", "write 'connect ADDRESS' to ctl first")
    TIMEDOUT = Row(110, "timed out", "the other side did not answer in time; check that it is up")
    CONNREFUSED = Row(111, "connection refused", "nothing listens there; check address and port")
    HOSTUNREACH = Row(113, "host not reachable", "check the name and that it is up; machines joined: cognu peers")
    ALREADY = Row(114, "already in progress", "wait for the first to end")
    STALE = Row(116, "file is gone at its server", "walk to it again")
    DQUOT = Row(122, "quota exceeded", "raise the limit or end something: ps")
    CANCELED = Row(125, "cancelled", "run it again if that was not meant")
    NOTRECOVERABLE = Row(131, "outcome unknown", "the link was cut with the call under way; look before you repeat")

    # Rows beyond the errno table's own words; the errno is the nearest one a foreign client understands, and where
    # one is free (128 EKEYREVOKED, 67 ENOLINK …) one that a Cognu client reads back as this row.
    REVOKED = Row(128, "capability revoked", "ask its owner to grant it again: cognu grants")
    SAME = Row(22, "same file as the source, or inside it", "name another target")
    MOUNT = Row(22, "inconsistent mount", "bind directories over directories; files over files, by replacing only")
    MOUNTPOINT = Row(16, "is a mount point", "unmount it first; ns shows what is mounted there")
    NOTANNOUNCED = Row(22, "not announced", "write 'announce PORT' to ctl first")
    NOTMOUNTED = Row(22, "not mounted", "ns shows what is mounted where")
    NOTINUNION = Row(22, "not in union", "ns shows the members of the union")
    NOCREATE = Row(13, "mounted directory forbids creation", "mount or bind it with -c to let it take new files")
    NOAUTH = Row(2, "authentication not required", "attach without it")
    NOATTACH = Row(13, "attach refused", "no such tree, or not granted; if a token is asked for: 9p --aname TOKEN")
    BADTOKEN = Row(13, "token refused", "used up, expired, taken back or another's; there: cognu export --token")
    NOLISTENER = Row(2, "nothing is served there", "cognu listen --stop takes the address as it was printed")
    NOTMINE = Row(22, "can not be removed from where you are", "cd elsewhere first, and name what is to go")
    SESSIONLOST = Row(67, "session lost", "the other node ended, or gave it up; open the file again")
    RESTARTED = Row(102, "the other node restarted", "what was open or ran there is gone; open the file again")
    AWAY = Row(62, "away for too long", "open the file again; 'retention' in settings(5) is how long is waited")
    AMBIGUOUS = Row(76, "hash prefix is ambiguous", "type more of the hash")
    BADHASH = Row(74, "content does not match its hash", "the source was marked; another peer may have it")
    BADTICKET = Row(129, "ticket is not valid", "tickets work once and for ten minutes; make another: cognu invite")
    NOTPAIRED = Row(129, "not paired", "show a new code on one machine, cognu pair, and type it on the other")
    WRONGCODE = Row(129, "not paired yet", "type it again: cognu pair -; after three wrong ones show a new code")
    CODESHOWN = Row(16, "a code is shown already", "use that one, or end it with Ctrl-C where it is shown")
    DAMAGED = Row(5, "file is damaged", "correct it, restore it from a backup, or move it away and begin anew")
    BADPEER = Row(13, "peer is not who it should be", "pair again: cognu invite there, cognu join here")
    DROPPED = Row(127, "it has dropped this machine", "join it again: there, cognu invite; here, cognu join TICKET")
    PARTED = Row(108, "this machine has dropped it", "join it again: there, cognu invite; here, cognu join TICKET")
    NOGRANT = Row(2, "no such grant", "cognu grants list shows what was granted to whom")
    CONFLICT = Row(17, "grants contradict each other", "take the other one back first: cognu grants revoke")
    GRANTSFULL = Row(28, "too many grants", "take one back first, cognu grants revoke, or grant a tree above several")
    MOVED = Row(116, "it leads elsewhere by now", "a link was changed; look where it leads: ls -l")
    NOTKEPT = Row(13, "the answer can not be kept", "a far shell keeps none; on that machine itself: cognu grants set")
    NOTGIVEN = Row(2, "is there, but was not granted", "grant it with run --grant, or for good: cognu grants set")
    NODATA = Row(61, "no such attribute", "it was never set, or is removed; list the file's attributes")
    NOPEER = Row(64, "no such peer", "cognu peers lists the machines you joined")
    NOPLACE = Row(2, "no such place", "a place is one that is there (mkdir makes one), or a new name below /n: /n/NAME")
    NONODE = Row(111, "node is not running", "start it: cognu up")
    SILENT = Row(110, "node does not answer", "wait, or end it and all that it runs: cognu down --force")
    NOTHERE = Row(2, "can not be asked for here", "a far shell has files alone, as granted; try it at home")
    NODERUNS = Row(98, "node is already running", "use it: cognu sh, or stop it: cognu down")
    NOT9P = Row(71, "speaks no 9P", "check the address: what is there is something else")
    NOCOMMAND = Row(2, "no such command of this host", "name it in settings.json first, with what it runs: settings(5)")
    NOPROGRAM = Row(2, "no such program of this host", "check its name, or give its path: exec!/usr/bin/NAME")
    NOTSOCK = Row(88, "is no socket", "name the socket that the server has made; is it the right file?")
    BADMESSAGE = Row(71, "bad 9P message", "the other side broke the protocol; its log may tell why")
    BADFRAME = Row(71, "bad message between nodes", "the other side broke the protocol; run the same version on both")
    DUPTAG = Row(71, "duplicate tag", "the other side used a tag twice; its log may tell why")
    DUPFID = Row(22, "duplicate fid", "the other side used a fid twice; its log may tell why")
    BADUSE = Row(9, "bad use of fid", "open it first, or walk to it again if it is open")
    BADVERSION = Row(93, "unknown 9P version", "offer 9P2000 or 9P2000.L")
    BADPROGRAM = Row(8, "WebAssembly module is not valid", "compile it again for wasm32-wasi")
    NOSTART = Row(8, "program exports no _start function", "build it as a command, not as a library")
    NOMEMORY = Row(8, "program has no memory", "build it so that it exports its memory as 'memory'")
    NOIMPORT = Row(8, "program wants an import that does not exist", "build it for wasm32-wasi (preview 1)")
    HOSTFAULT = Row(14, "a host function failed", "this is a bug of the node; look at its log: cognu logs")
    CPULIMIT = Row(4, "processor time used up", "run --cpu SECONDS gives more; a limit for a peer is that machine's")
    TOOMANY = Row(12, "too many processes", "end some: ps, kill; or raise vm.max_map_count")
    KILLED = Row(4, "killed", "whoever ended it may say why; ps shows what still runs")
    ENGINE = Row(8, "WebAssembly engine does not fit", "install the one tested with: pip install 'wasmtime>=50,<51'")
    FIBERS = Row(8, "programs can not run on this host", "cognu doctor names what is missing")
    NOWALL = Row(38, "no program can be isolated here", "cognu doctor names what is missing")
    RUNNER = Row(5, "the program's runner ended", "nothing else was harmed; an attack, or a bug: see cognu logs")
    TRAP = Row(14, "program trapped", "run it under its own debugger; the trap names the reason")
    USAGE = Row(22, "usage", "try --help")
    SYNTAX = Row(22, "syntax error", "help lists the shell's commands and forms")
    DEEP = Row(40, "calls nest too deeply", "a function or script calls itself without end")
    LINETOOLONG = Row(75, "line too long", "it is no text, or not by lines; cat, cp and head -c take any bytes")
    NOPAGE = Row(2, "no such page of the manual", "man without a name lists the pages")
    NOMESSAGE = Row(42, "no such message", "it was answered, cancelled or never sent; wait for an answer once")
    NOHANDLER = Row(49, "no handler for the interface", "bind one for the program before it starts")
    NOSOLVER = Row(38, "the solver is not installed", "install it: pip install 'cognu[verify]'")
    NOTFOUND = Row(2, "command not found", "ls /bin shows the programs; a path or a hash works too")

    @property
    def errno(self) -> int:
        return self.value.errno

    @property
    def text(self) -> str:
        return self.value.text

    @property
    def hint(self) -> str:
        return self.value.hint


class CognuError(Exception):
    """An error of the table. `subject` is what was refused (a path, a name, a verb), `detail` why or by whom.

    `str()` is one line without the hint, fit for the wire and for guests; `explain()` adds the hint for people.
    """

    def __init__(self, error: E, subject: str = "", detail: str = "") -> None:
        super().__init__(error, subject, detail)
        self.error = error
        self.subject = subject
        self.detail = detail

    @property
    def errno(self) -> int:
        return self.error.errno

    def __str__(self) -> str:
        head = f"{self.subject}: {self.error.text}" if self.subject else self.error.text
        return f"{head}: {self.detail}" if self.detail else head

    def explain(self) -> str:
        """The message for a person: what was refused, why, what to do next (the row's hint, or what `detail` says)."""
        hint = self.error.hint.replace(PATH, self.subject) if self.subject.startswith("/") else self.error.hint
        if self.error is E.NOENT and (far := _FAR.match(self.subject)):
            hint = _ask_there(far[1], self.subject[far.end() - 1 :])
        said = visible(str(self))
        return said if THERE in self.detail else f"{said}\n  {visible(hint)}"


_FAR = re.compile(r"/n/([^/]+)/(?=[^/])")
_LENT = re.compile(r"/(net)(?:/|\Z)|/cmd/([^/]+)")


def _ask_there(name: str, path: str) -> str:
    """What to do for `path` of another machine, which is not there, or was not granted: nobody can tell from here."""
    lent = _LENT.match(path)
    grant = f"read:{path}" if lent is None else lent[1] or f"cmd:{lent[2]}"
    return f"ls /n/{name} shows what it lends; to have more{THERE}grants set WHO {grant}"


def visible(text: str) -> str:
    """One line to be read: names and reasons may be another machine's, and a terminal obeys what is not to be seen."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class FileError(CognuError):
    """An operation was refused; state is as before the call."""


class Misuse(CognuError):
    """The local caller broke an interface's rules."""


class ProtocolError(CognuError):
    """The other side broke the protocol; its connection is of no further use."""


class LinkBroken(CognuError):
    """The other side can't be reached any more."""


def _first_rows() -> dict[int, E]:
    rows: dict[int, E] = {}
    for member in E:
        rows.setdefault(member.errno, member)
    return rows


_BY_ERRNO = _first_rows()
# Linux names some numbers twice or in ways no row above needs; they fold into the nearest row.
_BY_ERRNO.update({26: E.BUSY, 31: E.NOSPC, 71: E.BADMESSAGE})
_BY_ERRNO.update({100: E.NETUNREACH, 103: E.CONNRESET})
_BY_NAME = {
    "ENOTSUP": E.NOTSUP,
    "EOPNOTSUPP": E.NOTSUP,
    "EWOULDBLOCK": E.AGAIN,
    "ETXTBSY": E.BUSY,
    "EMLINK": E.NOSPC,
    "ENETDOWN": E.NETUNREACH,
    "ECONNABORTED": E.CONNRESET,
    "ESHUTDOWN": E.PIPE,
}
_BY_TEXT = {member.text: member for member in E} | {"directory not empty": E.NOTEMPTY}
"""With what Inferno says; ours is what Linux's client of plain 9P2000 knows (net/9p/error.c)."""


def from_errno(number: int, subject: str = "", detail: str = "") -> FileError:
    """The error for a Linux errno, as 9P2000.L and `OSError` carry it; an unknown number becomes EIO and is named."""
    row = _BY_ERRNO.get(number)
    if row is None:
        return FileError(E.IO, subject, detail or f"errno {number}")
    return FileError(row, subject, detail)


def from_oserror(error: OSError, subject: str = "") -> FileError:
    """The error for a host's `OSError`, translated by the errno's name, since the numbers differ between hosts."""
    name = errno.errorcode.get(error.errno or 0, "EIO")
    row = E.__members__.get(name[1:]) or _BY_NAME.get(name)
    return FileError(row, subject) if row is not None else FileError(E.IO, subject, name)


def from_text(text: str) -> FileError:
    """The error for a Plan 9 error string: by a row's text, anything else EIO with the string kept as detail.

    Plan 9 servers often send `'PATH' reason` or `PATH: reason`; ours send `SUBJECT: reason: detail`.
    """
    row = _BY_TEXT.get(text)
    if row is not None:
        return FileError(row)
    for known, member in _BY_TEXT.items():
        if text.endswith(known):
            return FileError(member, text[: -len(known)].strip(" :'"))
    for known, member in _BY_TEXT.items():
        before, found, after = text.partition(f": {known}: ")
        if found:
            return FileError(member, before, after)
        if text.startswith(f"{known}: "):
            return FileError(member, "", text[len(known) + 2 :])
    return FileError(E.IO, "", text)
