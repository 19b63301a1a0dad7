"""What a mount table is made of, and how chans are handed from one domain to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from cognu.errors import E, FileError
from cognu.files.chan import Chan, Domain, Path
from cognu.files.dispatch import Held, may
from cognu.files.server import FileServer
from cognu.files.tree import TreeFid
from cognu.kernel import ALL_RIGHTS, GRANT, Cap
from cognu.ninep.types import QTDIR

MREPL, MBEFORE, MAFTER, MCREATE = 0, 1, 2, 4
"""Flags of bind and mount, as in bind(2)."""
MREAD = 8
"""Ours: what is joined is to be read only."""
MORDER = 3

Key = tuple[FileServer, int]
"""What a file is known by, whatever it is called: its server, and the path of its qid."""


class Device(NamedTuple):
    """A server that a domain may attach by `#x`, and the capability it may do so with."""

    server: FileServer
    domain: Domain
    cap: Cap
    path: Path

    @property
    def admitted(self) -> int:
        """Attached to once in a while: asked of the kernel each time."""
        return -1

    @property
    def lacking(self) -> int:
        return 0

    def admit(self, rights: int) -> None:
        """Raises ACCES, REVOKED."""
        self.domain.check(self.cap, rights)


@dataclass(slots=True, eq=False)
class Member:
    """`order` is how it was joined, `turn` when: only `ns` cares, to print the binds as they were made.

    So it does whether it is `read_only`: the chan's capability says what may be done.
    """

    chan: Chan
    create: bool
    order: int = MREPL
    turn: int = 0
    read_only: bool = False


@dataclass(slots=True, eq=False)
class MountHead:
    """What is mounted on one file: `place` is the file itself; `members` is empty only once nothing is mounted."""

    place: Chan
    members: list[Member]

    def close(self) -> None:
        """An open directory that still refers to it sees an empty union from now on."""
        members, self.members = self.members, []
        self.place.close()
        for member in members:
            member.chan.close()


class MountTable(dict[Key, MountHead]):
    """What is mounted on which file. In order: what `ns` prints before a head, its sources may be named by."""

    def join(self, source: Chan, place: Chan, flags: int, union: MountHead | None = None) -> None:
        """Mount `source` on `place`; `union` is the head `source` is the first member of (chan.c, cmount()).

        Both stay the caller's. Raises MOUNT with nothing changed.
        """
        order = flags & MORDER
        directory = bool(place.qid.type & QTDIR)
        if directory != bool(source.qid.type & QTDIR) or (not directory and order != MREPL):
            raise FileError(E.MOUNT, str(place.path))
        if flags & MCREATE and union is not None and (len(union.members) > 1 or not union.members[0].create):
            raise FileError(E.MOUNT, str(source.path), "a union can't be bound with create")
        head = self.pop(place.key, None)
        if head is None:
            head = MountHead(place.share(), [] if order == MREPL else [_member(place, False, MREPL, 0)])
        self[place.key] = head
        turn = 1 + max((member.turn for member in head.members), default=0)
        read = bool(flags & MREAD)
        added = [_member(source, bool(flags & MCREATE), order, turn, read)]
        added += [
            _member(member.chan, False, order, turn + index, read)
            for index, member in enumerate(union.members[1:] if union else (), 1)
        ]
        replaced: list[Member] = []
        if order == MREPL:
            replaced, head.members = head.members, added
        elif order == MAFTER:
            head.members = head.members + added
        else:
            head.members = added + head.members
        for member in replaced:
            member.chan.close()

    def part(self, place: Key, source: Key | None) -> bool:
        """Take a member, or everything, off a file on which something is mounted; whether it was mounted there."""
        head = self[place]
        gone = [member for member in head.members if source is None or member.chan.key == source]
        if not gone:
            return False
        if source is None or len(head.members) == 1:
            del self[place]
            head.close()
        else:
            head.members = [member for member in head.members if member is not gone[0]]
            gone[0].chan.close()
        return True

    def moved(self, mover: ChanMover) -> MountTable:
        """The table for another domain, without what may not be handed to it. Raises DQUOT."""
        table = MountTable()
        for key, head in self.items():
            members = [
                replace(member, chan=mover.move(member.chan)) for member in head.members if mover.can(member.chan)
            ]
            if members and mover.can(head.place):
                table[key] = MountHead(mover.move(head.place), members)
        return table

    def close(self) -> None:
        for head in self.values():
            head.close()
        self.clear()


def _member(chan: Chan, create: bool, order: int, turn: int, read_only: bool = False) -> Member:
    twin = chan.share()
    twin.union = None
    return Member(twin, create, order, turn, read_only)


def lent_by(chan: Chan) -> Iterator[Chan]:
    """What an open file of /fd or /srv stands for: another open file, what that stands for, and so on."""
    fid = chan.handle.fid
    while isinstance(fid, TreeFid) and isinstance(fid.state, Chan):
        yield fid.state
        fid = fid.state.handle.fid


def may_hand_on(chan: Chan) -> bool:
    """Whether what the chan stands for may be handed to another domain. Its own capability is not looked at."""
    return all(may(lent, GRANT) for lent in lent_by(chan))


class ChanMover:
    """Hands chans of one domain to another, minting each capability once and keeping the paths' mount points."""

    def __init__(self, domain: Domain, rights: int = ALL_RIGHTS) -> None:
        """`rights`: at most these go along."""
        self.domain = domain
        self.rights = rights
        self._caps: dict[tuple[int, Cap], Cap | None] = {}
        self._paths: dict[Path, Path] = {}
        self._unions: dict[MountHead, MountHead | None] = {}
        self.minted: list[Cap] = []
        """The capabilities made so far, which the new domain holds."""

    def can(self, chan: Chan) -> bool:
        """Whether the chan's capability, and those of the mount points on its path, are live and may be granted on.

        And so for what it stands for, if it is an open file of /fd or /srv.
        """
        path: Path | None = chan.path
        while path is not None:
            if path.mounted_on is not None and self._cap(path.mounted_on) is None:
                return False
            path = path.parent
        return self._cap(chan) is not None

    def move(self, chan: Chan) -> Chan:
        """The chan for the new domain. Raises REVOKED if its capability can't be granted on, DQUOT.

        An open union takes along the members it has now: it stays readable when the other domain is gone.
        """
        moved = self._move(chan)
        if chan.handle.mode is not None and isinstance(chan.union, MountHead):
            moved.union = self._union(chan.union)
        return moved

    def devices(self, devices: Mapping[str, Device]) -> dict[str, Device]:
        """Those of `devices` whose capability is live and may be granted on, for the new domain."""
        moved: dict[str, Device] = {}
        for letter, device in devices.items():
            cap = self._cap(device)
            if cap is not None:
                moved[letter] = device._replace(domain=self.domain, cap=cap)
        return moved

    def _move(self, chan: Chan) -> Chan:
        cap = self._cap(chan)
        if cap is None:
            raise FileError(E.REVOKED, str(chan.path))
        return Chan(chan.handle, self.domain, cap, self._path(chan.path), chan.origin)

    def _union(self, head: MountHead) -> MountHead | None:
        if head not in self._unions:
            members = [replace(each, chan=self._move(each.chan)) for each in head.members if self.can(each.chan)]
            whole = bool(members) and self.can(head.place)
            self._unions[head] = MountHead(self._move(head.place), members) if whole else None
        return self._unions[head]

    def _cap(self, chan: Held) -> Cap | None:
        if isinstance(chan, Chan) and chan.domain is not self.domain and not may_hand_on(chan):
            return None
        key = (chan.domain.pid, chan.cap)
        if key not in self._caps:
            try:
                self._caps[key] = self._derive(chan)
            except FileError as error:
                if error.error is E.DQUOT:
                    raise
                self._caps[key] = None
        return self._caps[key]

    def _derive(self, chan: Held) -> Cap:
        if chan.domain.pid == self.domain.pid and self.rights == ALL_RIGHTS:
            chan.domain.check(chan.cap, 0)
            return chan.cap  # within one domain a child would say nothing new, and stay as long as the domain
        cap = chan.domain.mint(chan.cap, self.rights, self.domain)
        self.minted.append(cap)
        return cap

    def _path(self, path: Path) -> Path:
        """The same path with the chans under its mount points moved. A path may be longer than Python's stack."""
        chain: list[Path] = []
        node: Path | None = path
        while node is not None and node not in self._paths:
            chain.append(node)
            node = node.parent
        while chain:
            node = chain.pop()
            parent = self._paths[node.parent] if node.parent else None
            under = node.mounted_on
            # Without the chan under a mount point, `..` would lead on in the mounted tree: so this raises instead.
            moved = self._move(under) if under is not None else None
            self._paths[node] = copy = Path(parent, node.name, moved)
            copy.device, copy.top = node.device, node.top
        return self._paths[path]
