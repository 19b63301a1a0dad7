"""What `.ng` adds to 9P2000.L: whole errors, features to agree on, several requests in one trip, whole listings,
less authority to work under or to hand on.

docs/9p-ng.md has the layouts and the rules; `compound` and `listed` what goes with them.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple

from ..values import dataclass
from .types import Buffer, Qid

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


@dataclass(frozen=True, slots=True)
class Twatch:
    """`mask`: the kinds of events that are asked for; see `watches`."""

    fid: int
    mask: int


@dataclass(frozen=True, slots=True)
class Rwatch:
    watch: int


@dataclass(frozen=True, slots=True)
class Tevent:
    """`cursor`: of the last event that came, 0 for none."""

    cursor: int
    count: int


@dataclass(frozen=True, slots=True)
class Revent:
    data: Buffer


@dataclass(frozen=True, slots=True)
class Tattenuate:
    """`rights` are bits of `types.RIGHT_*`."""

    fid: int
    newfid: int
    rights: int


@dataclass(frozen=True, slots=True)
class Rattenuate:
    qid: Qid


@dataclass(frozen=True, slots=True)
class Tmint:
    """`peer` is the node id of who may redeem it, at most `uses` times within `seconds`."""

    fid: int
    rights: int
    uses: int
    seconds: int
    peer: str


@dataclass(frozen=True, slots=True)
class Rmint:
    """`seconds` from now on it may be redeemed: at most those asked for. The token is never shown."""

    seconds: int
    token: str = field(repr=False)


AddedRequest = Tcaps | Tcomp | Tlist | Twatch | Tevent | Tattenuate | Tmint
AddedReply = Rngerror | Rcaps | Rcomp | Rlist | Rwatch | Revent | Rattenuate | Rmint

ADDED: tuple[tuple[int, type[AddedRequest | AddedReply], str], ...] = (
    (161, Rngerror, "4 s s s"),
    (162, Tcaps, "F"),
    (163, Rcaps, "F"),
    (164, Tcomp, "C"),
    (165, Rcomp, "C"),
    (166, Tlist, "4 8 4"),
    (167, Rlist, "1 d"),
    (168, Twatch, "4 4"),
    (169, Rwatch, "4"),
    (170, Tevent, "8 4"),
    (171, Revent, "d"),
    (172, Tattenuate, "4 4 4"),
    (173, Rattenuate, "q"),
    (174, Tmint, "4 4 4 4 s"),
    (175, Rmint, "4 s"),
)
"""Their rows in `table.TABLE`: number, message, layout. 160 (Tngerror) is a number that nobody may send."""
