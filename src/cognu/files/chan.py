"""Chans: what a process holds of a file, and domains: whose authority it is used under.

A `Domain` is a capability space of the kernel that lives as long as anything uses it: a namespace, an open chan, a
descriptor handed to a child. So a file that was opened stays usable when the process that opened it is gone, and the
kernel, not Python references, decides what may be done through it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from functools import partial
from threading import get_ident
from typing import Final, NamedTuple

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.server import Fid, FileServer, Known
from cognu.kernel import Cap
from cognu.ninep.types import Qid

_collecting = False
"""The collector runs whenever it likes, on any thread: also while the kernel or a 9P session is half way through a
change. What it finds must not call into them then."""


def _watch_collector(phase: str, _: dict[str, int]) -> None:
    global _collecting
    _collecting = phase == "start"


gc.callbacks.append(_watch_collector)


class Domain:
    """A capability space. Begins with one use; `release` ends one; at the last the kernel process is ended."""

    __slots__ = ("_lessened", "_whole", "authority", "generations", "kernel", "pid", "uses")

    def __init__(self, authority: Authority, creator: Domain | None = None, quota: int | None = None) -> None:
        self.authority: Final = authority
        self.kernel: Final = authority.kernel
        self.generations: Final[Mapping[int, int]] = authority.kernel.slots.generation
        self.pid: Final[int] = authority.new_process(creator.pid if creator else 0, quota)
        self.uses = 1
        self._lessened: dict[tuple[Cap, int], Cap] = {}
        self._whole: dict[Cap, Cap] = {}  # what each of those was minted from
        if creator is not None:
            try:
                authority.post.inherit(creator.pid, self.pid)
            except FileError:
                authority.end_process(self.pid)
                raise

    def check(self, cap: Cap, rights: int) -> None:
        """Raises ACCES if the capability lacks `rights`, REVOKED if it is gone."""
        self.authority.check(self.pid, cap, rights)

    def mint(self, cap: Cap, rights: int, to: Domain) -> Cap:
        """A child capability for another domain, with those of `rights` that the capability has."""
        rights &= self.authority.rights(self.pid, cap)
        return self.authority.mint(self.pid, cap, rights, to.pid)

    def lessened(self, cap: Cap, rights: int) -> Cap:
        """A capability with `rights` for this domain itself. Raises ACCES for more than it has, REVOKED, DQUOT.

        Of one with the same rights there is one while it lives, and of what was lessened before none of its own, but
        of what that was minted from: so no more than rights allow, however often it is asked, and in whatever chains.
        """
        self.check(cap, rights)
        whole = self._whole.get(cap, cap)
        if not self._lives(whole):
            whole = cap  # it was given up, which takes nothing from its children
        made = self._lessened.get((whole, rights))
        if made is None or not self._lives(made):
            made = self.authority.mint(self.pid, whole, rights, self.pid)
            self._lessened = {key: each for key, each in self._lessened.items() if self._lives(each)}
            self._lessened[whole, rights] = made
            self._whole = {each: key[0] for key, each in self._lessened.items()}
        return made

    def _lives(self, cap: Cap) -> bool:
        return not self.kernel.check(self.pid, cap.slot, cap.generation, 0)

    def hold(self) -> Domain:
        self.uses += 1
        return self

    def release(self) -> None:
        self.uses -= 1
        if self.uses == 0:
            self.authority.end_process(self.pid)


class Origin(NamedTuple):
    """Where a chan really is, whatever is mounted: a device as a namespace names it (`#c`), and the names below it."""

    spec: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join((self.spec, *self.names)) if self.names else self.spec

    def step(self, name: str) -> Origin:
        return Origin(self.spec, self.names[:-1] if name == ".." else (*self.names, name))


class Path:
    """The way a chan was reached. `mounted_on` is the chan under the mount point crossed at this element, if any."""

    __slots__ = ("device", "mounted_on", "name", "parent", "top")

    def __init__(self, parent: Path | None, name: str, mounted_on: Chan | None = None) -> None:
        self.parent = parent
        self.name = name
        self.mounted_on = mounted_on
        self.device: bool = parent.device if parent else name.startswith("#")
        """Reached through a device's name: such a path sees no mounts."""
        self.top: bool = parent is None
        """Nothing leads above it."""

    def step(self, names: Iterable[str]) -> Path:
        path = self
        for name in names:
            path = Path(path, name)
        return path

    def crossing(self, place: Chan) -> Path:
        """The same path with the mount point at its end crossed; `place` is the chan under it."""
        return Path(self.parent, self.name, place)

    def alone(self) -> Path:
        """The same names, with nothing above the last of them, and no mounts to be seen at it or below."""
        node = self
        while node.parent is not None:
            node = node.parent
        path = Path(None, node.name).step(self.names())
        path.device = path.top = True
        return path

    def names(self) -> list[str]:
        found: list[str] = []
        node = self
        while node.parent is not None:
            found.append(node.name)
            node = node.parent
        found.reverse()
        return found

    def __str__(self) -> str:
        """As pwd prints it. A path that starts at a device keeps the device's name."""
        node = self
        while node.parent is not None:
            node = node.parent
        if node.name == "/":
            return "/" + "/".join(self.names())
        return "/".join((node.name, *self.names()))


class Handle:
    """A server's fid with how many chans share it, and the offset they share (as descriptors after fork do)."""

    __slots__ = ("fid", "mode", "offset", "server", "token", "uses")

    def __init__(self, server: FileServer, fid: Fid) -> None:
        self.server = server
        self.fid = fid
        self.mode: int | None = None  # None: not open
        self.offset = 0
        self.token = 0  # of what is told when the right to it ends; 0: nothing is
        self.uses = 0


class Chan:
    """A file as one domain holds it: the handle, the capability it is used under, and the path it was reached by.

    A chan that isn't open is a value; an open one is owned by a descriptor table and closed with it. Closing the last
    chan of a handle clunks the fid. What is dropped without closing is closed by its destruction.

    `admitted` and `lacking` are what the kernel last said of the capability: its generation (-1: not asked yet) and the
    rights that it has not. While that is its generation, it is what it was: proved, as "what a handle stands for never
    changes" and "a handle that was live is never live again".
    """

    __slots__ = ("admitted", "cap", "closed", "domain", "handle", "lacking", "listing", "origin", "path", "union")

    def __init__(self, handle: Handle, domain: Domain, cap: Cap, path: Path, origin: Origin) -> None:
        self.handle = handle
        self.domain: Final = domain.hold()
        self.cap = cap
        self.admitted = -1
        self.lacking = 0
        self.path = path
        self.origin = origin
        self.closed = False
        self.union: object | None = None  # the namespace's MountHead, when this is an open union directory
        self.listing: object | None = None  # the namespace's state of reading a directory
        handle.uses += 1

    @property
    def server(self) -> FileServer:
        return self.handle.server

    @property
    def fid(self) -> Fid:
        if self.closed:
            raise FileError(E.BADF, str(self.path))
        return self.handle.fid

    @property
    def qid(self) -> Qid:
        fid: Known = self.handle.fid
        return fid.qid

    @property
    def key(self) -> tuple[FileServer, int]:
        """What a mount table knows a file by: its server and its number there."""
        fid: Known = self.handle.fid
        return (self.handle.server, fid.qid.path)

    def at(self, fid: Fid, path: Path, origin: Origin) -> Chan:
        """A new chan on another fid of the same server, under the same capability."""
        other = Chan(Handle(self.handle.server, fid), self.domain, self.cap, path, origin)
        other.admitted, other.lacking = self.admitted, self.lacking
        return other

    def behind(self, server: FileServer, fid: Fid) -> Chan:
        """The same file as `server` shows it, which passes on what it is asked: a new chan on that one's fid."""
        return Chan(Handle(server, fid), self.domain, self.cap, self.path, self.origin)

    def share(self, path: Path | None = None) -> Chan:
        """Another chan on the same handle (same offset, closed apart), perhaps known by another path."""
        twin = Chan(self.handle, self.domain, self.cap, path or self.path, self.origin)
        twin.admitted, twin.lacking = self.admitted, self.lacking
        twin.union = self.union
        return twin

    def admit(self, rights: int) -> None:
        """Ask the kernel, and keep what it says. Raises ACCES if the capability lacks `rights`, REVOKED if it died."""
        self.domain.check(self.cap, rights)
        self.lacking = ~self.domain.authority.rights(self.domain.pid, self.cap)
        self.admitted = self.cap.generation

    def end_with_right(self) -> None:
        """Have the server close the open file as soon as the capability that it is under dies, whoever shares it.

        Raises REVOKED.
        """
        handle = self.handle
        handle.token = self.domain.authority.begin(self.cap, partial(handle.server.clunk, handle.fid))

    def lessen(self, cap: Cap) -> None:
        """Go on under another capability of the same domain, one to the same server that was minted with less."""
        self.cap = cap
        self.admitted = -1

    def renamed(self, name: str) -> None:
        """The file has another name in its directory now."""
        self.path = Path(self.path.parent, name, self.path.mounted_on)
        self.origin = Origin(self.origin.spec, (*self.origin.names[:-1], name))

    def close(self) -> None:
        """May be called again. In the midst of a garbage collection it is put off to the next `dispatch`."""
        if self.closed:
            return
        authority = self.domain.authority
        if _collecting or get_ident() != authority.thread:
            authority.orphans.append(self.close)
            return
        self.closed = True
        self.listing = None
        self.union = None
        handle = self.handle
        handle.uses -= 1
        try:
            if handle.uses == 0:
                if handle.token:
                    authority.end(handle.token)
                handle.server.clunk(handle.fid)
        finally:
            self.domain.release()

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            self.close()
