"""A tree as it is bound read-only: under a capability that neither writes nor creates, whatever the file is used by.

Where a far server can (`.ng`'s Tattenuate) it is told so too, and holds this mount to reading itself: nothing that goes
wrong here then changes anything there. Where it can't, or shows several trees as one, the capability here is all.
"""

from __future__ import annotations

from dataclasses import replace

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.mounts import MountHead
from cognu.files.steps import Steps
from cognu.kernel import CREATE, EXECUTE, READ, WRITE


def read_only(chan: Chan) -> Steps[Chan]:
    """The same file, to be read only: a new chan of the same domain. Raises ACCES, REVOKED and what the server does."""
    domain = chan.domain
    less = domain.lessened(chan.cap, domain.authority.rights(domain.pid, chan.cap) & ~(WRITE | CREATE))
    twin = chan.share()
    if chan.server.far:
        try:
            fid = yield from dispatch(chan, READ, chan.server.attenuate, chan.fid, READ | EXECUTE)
            twin = chan.at(fid, chan.path, chan.origin)
        except FileError as error:
            if error.error not in (E.NOSYS, E.NOTSUP):
                raise
    twin.lessen(less)
    return twin


def read_only_union(head: MountHead) -> Steps[MountHead]:
    """The same of each member of a union but the first, which is a chan of its own; to be closed."""
    made = MountHead(head.place.share(), head.members[:1])
    made.members[0] = replace(head.members[0], chan=head.members[0].chan.share())
    try:
        for member in head.members[1:]:
            made.members.append(replace(member, chan=(yield from read_only(member.chan))))
    except BaseException:
        made.close()
        raise
    return made
