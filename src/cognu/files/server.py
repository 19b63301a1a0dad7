"""The contract of a file server: one method per request; a server fills in those it has.

In the spirit of 9front's lib9p `Srv` (one slot per T-message, nil means "not supported"): a new device
derives from `FileServer` (or from `files.tree.TreeServer`, which does the navigation) and writes 30 to 80 lines.
The same object is called in process, exported over 9P, and mounted from afar, and doesn't know which.

Each method returns its result, or is `async` and returns it later. Errors are raised as `FileError`; state is then as
before. Methods are called by `files.dispatch` only, which has checked the caller's capability and rights; a server
checks its own permissions beyond that (a file's mode, who the caller is). A cancelled method leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from cognu.errors import E, FileError
from cognu.files.launch import told
from cognu.ninep.types import QTDIR, QTSYMLINK, FileSystemStat, Qid, SetStat, Stat
from cognu.values import mypyc_attr

OEXCL = 0x1000
OAPPEND = 0x4000
"""Open modes beyond open(5)'s: create fails if the file is there; every write goes to the end (plan9port's libc.h)."""

T = TypeVar("T")
MaybeAsync: TypeAlias = T | Awaitable[T]


class Caller(Protocol):
    """Who asks, as far as a server may know: an identity, never an authority."""

    @property
    def pid(self) -> int: ...

    @property
    def user(self) -> str: ...


class Known(Protocol):
    """What has a qid, by an attribute or a property: a subclass of `Fid` may have that instead.

    Compiled code takes an attribute of a class that it knows from its place in the object, past such a property.
    """

    @property
    def qid(self) -> Qid: ...


class Spelled(Protocol):
    """The same of a server's name, which a subclass has in its class."""

    @property
    def spec(self) -> str: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Fid:
    """A server's handle on one of its files, made by `attach`, `walk` or `create` and ended by `clunk`.

    Servers derive from it to keep what they need. `qid` is kept up to date by the server.
    """

    __slots__ = ("qid",)

    def __init__(self, qid: Qid) -> None:
        self.qid = qid

    @property
    def is_directory(self) -> bool:
        known: Known = self
        return bool(known.qid.type & QTDIR)

    @property
    def is_symlink(self) -> bool:
        known: Known = self
        return bool(known.qid.type & QTSYMLINK)


class Walk(NamedTuple):
    """`qids` of the elements reached; `fid` is a new one at the last element, or None if not all were reached."""

    qids: list[Qid]
    fid: Fid | None


class Entry(NamedTuple):
    """One entry of a directory. Reading on from `cookie` gives what follows. `stat` is None where it costs a trip.

    Then `kind` may tell what it is, as readdir(3)'s d_type does (DT_REG …); 0 if it is not known.
    """

    cookie: int
    qid: Qid
    name: str
    stat: Stat | None
    kind: int = 0


class StoredBytes(NamedTuple):
    """`size` bytes from where they were asked for, which the host has in memory: in the open file of that number.

    The number is good until whoever asked gives way to others.
    """

    number: int
    size: int


class Then(Enum):
    """What whoever walks to a file does next, so that a far server can be asked for it in the same trip.

    It follows by its own call, which passes dispatch like any other.
    """

    STAT = "stat"
    READ = "open it for reading, and read from its start"
    LIST = "open it for reading, and list it from its start"


class Owner(NamedTuple):
    """Whose lock it is: a process at a client, as it says, of one connection here (`session`, a number made up)."""

    session: int
    client: str
    process: int


LOCK_END = 1 << 64
"""As the end of a range: however long the file grows."""


class Lock(NamedTuple):
    """A range of bytes, from `begin` to before `end`, for one owner alone if `exclusive`."""

    begin: int
    end: int
    exclusive: bool
    owner: Owner


class HandOn(NamedTuple):
    """What a token is to be for: `rights` of the kernel's, for the node `peer`, `uses` times, within `seconds`."""

    rights: int
    uses: int
    seconds: int
    peer: str


class Token(NamedTuple):
    """`text` is a secret. It may be redeemed within `seconds` from when it was made."""

    text: str
    seconds: int

    def __repr__(self) -> str:
        return f"Token(…, {self.seconds})"


class Notice(NamedTuple):
    """That something happened to a file that is watched: a kind of `ninep.watches`, and of an entry its name.

    `other` is the name that it has now. An empty name is one that is not told.
    """

    kind: int
    name: str = ""
    other: str = ""


Tell = Callable[[Notice], None]
"""Is told of each. It only notes what it is told: it asks nothing of any server, and never raises or waits."""
End = Callable[[], None]
"""Ends what it was returned by. May be called again."""


@mypyc_attr(allow_interpreted_subclasses=True)
class FileServer:
    """A tree of files. `spec` is how a namespace names it: `#` and a letter, as Plan 9's devices (`#c`)."""

    spec = "#?"

    @property
    def far(self) -> bool:
        """Whether a call costs a trip, so that `walk_to` may save some."""
        return False

    @property
    def ends_with_right(self) -> bool:
        """Whether an open file is clunked when the right to it is taken back, and not only when its holder closes it.

        So where what it stands for goes on by itself. `clunk` may come twice then.
        """
        return False

    def attach(self, caller: Caller, aname: str) -> MaybeAsync[Fid]:
        """A fid at the root of the tree `aname` (usually ""). Raises NOATTACH."""
        spelled: Spelled = self
        raise FileError(E.NOATTACH, spelled.spec + told(aname))

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        """Walk from `fid` (which stays as it is) through `names`, at most 16; no names clones the fid.

        `..` comes only alone, and stays put at the root. If the first name fails, raises (NOENT, NOTDIR); if a later
        one does, returns the qids so far. A symlink is not followed: it ends the walk like a file does.
        """
        raise FileError(E.NOTSUP, "walk")

    def walk_to(self, fid: Fid, names: Sequence[str], caller: Caller, then: Then) -> MaybeAsync[Walk]:
        """As `walk`, for somebody who means to do `then`, and may do it."""
        return self.walk(fid, names, caller)

    def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        """Make a fid ready for I/O; `mode` is OREAD, OWRITE, ORDWR or OEXEC with OTRUNC, ORCLOSE, OAPPEND, OEXCL bits.

        Usually returns the same fid. Another fid may be returned (a clone device does so); then `fid` is clunked.
        """
        raise FileError(E.NOTSUP, "open")

    def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        """Make a file (a directory with DMDIR in `perm`) in the directory `fid` and open it: a new fid; `fid` stays."""
        raise FileError(E.ACCES, name)

    def place(self, fid: Fid, name: str, caller: Caller) -> MaybeAsync[Fid]:
        """A directory `name` in the directory `fid`, there to mount on: it exists as long as a fid on it does.

        Raises NOENT if the server makes none there.
        """
        raise FileError(E.NOENT, name)

    def read(self, fid: Fid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        """At most `count` bytes at `offset` of an open file; `b""` at the end. Streams ignore `offset`."""
        raise FileError(E.NOTSUP, "read")

    def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        """Write to an open file; returns how many bytes were taken. `data` is valid during the call only."""
        raise FileError(E.ACCES, "write")

    def accept(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        """As `write`, for who asks by `settle` what became of it: it may be on its way yet when this returns.

        Raises also what an earlier write that was accepted so failed with.
        """
        return self.write(fid, offset, data)

    def settle(self, fid: Fid) -> MaybeAsync[None]:
        """What was accepted is written when this returns. Raises what the first that failed did, once."""
        return None

    def readdir(self, fid: Fid, cookie: int, count: int) -> MaybeAsync[list[Entry]]:
        """At most `count` entries of an open directory after `cookie`; 0 starts anew, with a fresh look."""
        raise FileError(E.NOTDIR, "readdir")

    def stat(self, fid: Fid) -> MaybeAsync[Stat]:
        raise FileError(E.NOTSUP, "stat")

    def wstat(self, fid: Fid, change: SetStat) -> MaybeAsync[None]:
        """Change what `change` names, all of it or nothing. A `name` renames within the directory."""
        raise FileError(E.ACCES, "wstat")

    def remove(self, fid: Fid) -> MaybeAsync[None]:
        """Remove the file. The fid is clunked by the caller in any case."""
        raise FileError(E.ACCES, "remove")

    def clunk(self, fid: Fid) -> None:
        """The fid is gone. Never awaited and never fails; a far server is told without waiting for its answer."""

    def watch(self, fid: Fid, kinds: int, tell: Tell) -> MaybeAsync[End]:
        """Have `tell` called, on the loop's thread, whenever something of `kinds` happens to the file; or of any kind.

        Until what is returned is called, or a notice says that the watch is over; whatever becomes of `fid`. Raises
        NOTSUP where the server does not learn of changes: then one has to look.
        """
        raise FileError(E.NOTSUP, "watch")

    # What 9P2000.L has beyond 9P2000.

    def symlink(self, fid: Fid, name: str, target: str) -> MaybeAsync[Qid]:
        raise FileError(E.NOTSUP, "symlink")

    def readlink(self, fid: Fid) -> MaybeAsync[str]:
        raise FileError(E.INVAL, "readlink")

    def mknod(self, fid: Fid, name: str, mode: int, major: int, minor: int) -> MaybeAsync[Qid]:
        """A pipe or socket by name only (DMNAMEDPIPE, DMSOCKET, with permissions); a device is PERM everywhere."""
        raise FileError(E.NOTSUP, "mknod")

    def link(self, directory: Fid, existing: Fid, name: str) -> MaybeAsync[None]:
        raise FileError(E.NOTSUP, "link")

    def rename(self, directory: Fid, name: str, to: Fid, new_name: str) -> MaybeAsync[None]:
        """Rename in one step, replacing what is there (rename(2)). Both directories are this server's."""
        raise FileError(E.NOTSUP, "rename")

    def sync(self, fid: Fid, data_only: bool) -> MaybeAsync[None]:
        """What was written through any fid of this file survives a crash when this returns."""
        return None

    def getxattr(self, fid: Fid, name: str) -> MaybeAsync[bytes]:
        """An extended attribute's value. Raises NODATA, NOTSUP for a name that is not `user.` and more."""
        raise FileError(E.NOTSUP, name)

    def listxattr(self, fid: Fid) -> MaybeAsync[list[str]]:
        """The names of all that the file has."""
        raise FileError(E.NOTSUP, "listxattr")

    def setxattr(self, fid: Fid, name: str, value: bytes, flags: int) -> MaybeAsync[None]:
        """Set it, whether it is there or not; XATTR_CREATE refuses if it is (EXIST), XATTR_REPLACE if not (NODATA)."""
        raise FileError(E.NOTSUP, name)

    def removexattr(self, fid: Fid, name: str) -> MaybeAsync[None]:
        """Raises NODATA."""
        raise FileError(E.NOTSUP, name)

    def lock_range(self, fid: Fid, lock: Lock, wait: bool) -> MaybeAsync[bool]:
        """Lock a range of an open file for all who ask for locks; it goes with the fid, or with `unlock_range`.

        False if another owner has some of it: at once, or with `wait` after some time; then one may ask again.
        Raises BADF if the file is not open for reading (a shared lock) or writing, NOLCK, DEADLK.
        """
        raise FileError(E.NOTSUP, "lock")

    def unlock_range(self, fid: Fid, lock: Lock) -> MaybeAsync[None]:
        """Unlock what the lock's owner has of its range; nothing is an answer too."""
        raise FileError(E.NOTSUP, "lock")

    def find_lock(self, fid: Fid, lock: Lock) -> MaybeAsync[Lock | None]:
        """The first that is in the way of `lock`, if any is."""
        raise FileError(E.NOTSUP, "lock")

    def attenuate(self, fid: Fid, rights: int) -> MaybeAsync[Fid]:
        """The same file as the root of a tree whose server holds whoever uses it to `rights`: servers that are far ask.

        Raises NOTSUP or NOSYS where there is no such thing, and what is refused there.
        """
        raise FileError(E.NOTSUP, "attenuate")

    def hand_on(self, fid: Fid, what: HandOn) -> MaybeAsync[Token]:
        """A token for the file, and what is below it, made by whoever the file really is of: servers that are far ask.

        Raises NOTSUP where that is this node itself, and what is refused there.
        """
        raise FileError(E.NOTSUP, "hand on")

    def statfs(self, fid: Fid) -> MaybeAsync[FileSystemStat]:
        raise FileError(E.NOTSUP, "statfs")

    # The same as above for whoever can't wait: the answer if it is there at once, or None, with nothing changed. A
    # server that has none of these, or None, is asked the other way. An error raised here is None to whoever asks.

    def walk_now(self, fid: Fid, names: Sequence[str], caller: Caller) -> Walk | None:
        """There is at least one name, and no `..`."""
        return None

    def open_now(self, fid: Fid, mode: int, caller: Caller) -> bool:
        """Whether `fid` itself, which is no directory, is ready for I/O now; `mode` is OREAD."""
        return False

    def read_now(self, fid: Fid, offset: int, count: int) -> bytes | memoryview | None:
        return None

    def stored_now(self, fid: Fid, offset: int, count: int) -> StoredBytes | None:
        """What `read` would give, if it is a host's file, with one byte at least."""
        return None

    def stat_now(self, fid: Fid) -> Stat | None:
        return None
