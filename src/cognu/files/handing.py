"""Less authority, to work under (Tattenuate) or to hand on (Tmint); docs/9p-ng.md has the rules.

What is made less is one tree of one server, under a capability of its own: nothing that is mounted in it is in it, and
nothing leads above it. A file in which other trees are mounted is refused, for half of what it shows would be missing.
"""

from __future__ import annotations

from collections.abc import Callable

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.namespace import Namespace
from cognu.files.process import Process
from cognu.files.server import HandOn, Token
from cognu.files.steps import Steps
from cognu.kernel import CREATE, EXECUTE, GRANT, READ, WRITE
from cognu.ninep.types import RIGHT_CREATE, RIGHT_EXECUTE, RIGHT_GRANT, RIGHT_READ, RIGHT_WRITE, RIGHTS_ALL

Minter = Callable[[Process, Chan, HandOn], Steps[Token]]
"""Makes a token for the file at a chan of the process. Raises ACCES, NOPEER, DQUOT and what else stands in the way."""

_ON_THE_WIRE = (
    (RIGHT_READ, READ),
    (RIGHT_WRITE, WRITE),
    (RIGHT_EXECUTE, EXECUTE),
    (RIGHT_CREATE, CREATE),
    (RIGHT_GRANT, GRANT),
)


def rights_of_wire(bits: int) -> int:
    """The kernel's rights. Raises INVAL for none, and for bits that mean nothing."""
    if not 0 < bits <= RIGHTS_ALL:
        raise FileError(E.INVAL, f"rights {bits}")
    return sum(right for bit, right in _ON_THE_WIRE if bits & bit)


def wire_rights(rights: int) -> int:
    return sum(bit for bit, right in _ON_THE_WIRE if rights & right)


def whole(namespace: Namespace, chan: Chan) -> Chan:
    """The file at `chan`, behind any mount point. Raises NOTSUP if it shows more than one tree."""
    target, union = namespace.cross(chan)
    names = target.origin.names
    places = [] if chan.path.device else [head.place for head in namespace.heads.values()]
    below = [
        place
        for place in places
        if place.server is target.server and place.key != target.key and place.origin.names[: len(names)] == names
    ]
    if below or (union is not None and len(union.members) > 1):
        raise FileError(E.NOTSUP, str(chan.path), "other trees are mounted there; take one of them")
    return target


def attenuate(namespace: Namespace, chan: Chan, bits: int) -> Chan:
    """The same file with `bits` of the wire's rights alone. Raises ACCES for more than it has, REVOKED, NOTSUP.

    The capability ends with what it was minted from, and with the connection's domain.
    """
    rights = rights_of_wire(bits)
    target = whole(namespace, chan)
    return Chan(
        target.handle, target.domain, target.domain.lessened(target.cap, rights), chan.path.alone(), target.origin
    )
