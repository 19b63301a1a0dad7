"""What `.ng` adds to 9P2000.L: agreeing on features, several requests in one trip, listings with attributes.

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
