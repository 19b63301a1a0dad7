"""What `.ng` adds to 9P2000.L: whole errors, features to agree on, several requests in one trip, whole listings.

docs/9p-ng.md has the layouts and the rules; `compound` and `listed` what goes with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .types import Buffer

if TYPE_CHECKING:
    from .messages import Reply, Request


class Feature(NamedTuple):
    """Something that a peer can do beyond what every `.ng` peer does; what `value` means is the feature's affair."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Rngerror:
    """`.ng`'s error: an errno, the symbol of the error table, what was refused, and why or by whom."""

    ecode: int
    symbol: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Tcaps:
    features: tuple[Feature, ...]


@dataclass(frozen=True, slots=True)
class Rcaps:
    features: tuple[Feature, ...]


@dataclass(frozen=True, slots=True)
class Tcomp:
    parts: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Rcomp:
    parts: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Tlist:
    fid: int
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Rlist:
    """`end`: 1 if nothing follows, else 0."""

    end: int
    data: Buffer


AddedRequest = Tcaps | Tcomp | Tlist
AddedReply = Rngerror | Rcaps | Rcomp | Rlist

ADDED: tuple[tuple[int, type[AddedRequest | AddedReply], str], ...] = (
    (161, Rngerror, "4 s s s"),
    (162, Tcaps, "F"),
    (163, Rcaps, "F"),
    (164, Tcomp, "C"),
    (165, Rcomp, "C"),
    (166, Tlist, "4 8 4"),
    (167, Rlist, "1 d"),
)
"""Their rows in `table.TABLE`: number, message, layout. 160 (Tngerror) is a number that nobody may send."""
