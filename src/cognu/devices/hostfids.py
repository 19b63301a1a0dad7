"""A fid of the host server: what it holds of the host, and the way it came.

A fid has a handle on its own file only. Of the directories it was walked through it keeps `Place`s (names up to the
root) and identities: when one is needed it is walked to again, and must be the same file. A rename through the server
renames the places, so that fids follow it; `..` is where the fid came from, wherever its file was moved meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

from cognu.errors import E, FileError
from cognu.files.server import Fid
from cognu.ninep.types import OACCESS, OWRITE, Qid
from cognu.values import mypyc_attr
from cognu.world import HostFile, HostNode


@mypyc_attr(native_class=False)  # which can't be known by weak references
class Place:
    """A name in a directory, up to the root."""

    __slots__ = ("__weakref__", "below", "name", "parent")

    def __init__(self, parent: Place | None, name: str) -> None:
        self.parent = parent
        self.name = name
        self.below: WeakValueDictionary[str, Place] | None = None  # most names are files': nothing is below them

    def step(self, name: str) -> Place:
        below = self.below
        if below is None:
            below = self.below = WeakValueDictionary()
        place = below.get(name)
        if place is None:
            place = below[name] = Place(self, name)
        return place

    def move(self, name: str, to: Place, new_name: str) -> None:
        """`name` here is `new_name` in `to` from now on; what was called so there is nowhere."""
        place = None if self.below is None else self.below.pop(name, None)
        if to.below is not None:
            to.below.pop(new_name, None)
        if place is not None:
            place.parent, place.name = to, new_name
            if to.below is None:
                to.below = WeakValueDictionary()
            to.below[new_name] = place

    def names(self) -> list[str]:
        """The way from the root."""
        names: list[str] = []
        place = self
        while place.parent is not None:
            names.append(place.name)
            place = place.parent
        return names[::-1]


class Way(NamedTuple):
    """A directory that a fid was walked through, and the one before it."""

    place: Place
    identity: tuple[int, int]
    above: Way | None


@dataclass
class Held:
    """A handle of the host, with how many fids share it. Counted on the loop's thread alone."""

    node: HostNode
    uses: int = 0

    def release(self) -> None:
        self.uses -= 1
        if self.uses == 0:
            self.node.close()


class HostFid(Fid):
    """A fid on a file of the host; `file` while it is open, `mode` too.

    `plain`: the open file ends where it says. `size`: how much it has, as far as is known.
    """

    __slots__ = ("alone", "file", "held", "listing", "mode", "plain", "size", "way")

    def __init__(self, qid: Qid, held: Held, way: Way) -> None:
        super().__init__(qid)
        held.uses += 1
        self.held = held
        self.way = way
        self.mode: int | None = None
        self.alone = False  # it has its file for exclusive use
        self.file: HostFile | None = None
        self.plain = False
        self.size = 0
        self.listing: list[str] = []

    @property
    def place(self) -> Place:
        return self.way.place

    @property
    def identity(self) -> tuple[int, int]:
        return self.way.identity


def readable(fid: HostFid) -> HostFile:
    return usable(fid, fid.mode is not None and fid.mode & OACCESS != OWRITE)


def usable(fid: HostFid, allowed: bool) -> HostFile:
    if fid.is_directory:
        raise FileError(E.ISDIR, fid.place.name)
    if fid.file is None or not allowed:
        raise FileError(E.BADF, fid.place.name)
    return fid.file
