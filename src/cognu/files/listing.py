"""Reading an open directory as a namespace shows it: unions joined, mount points in place of what they cover.

As Plan 9's unionread and mountfix (port/sysfile.c): members are read one after the other, duplicates are kept, a member
that errs is skipped; an entry that is a mount point shows what is mounted, under its own name. What was read of a
union is kept, since its cookies count it, and handed out as long as the member that it came from may be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cognu.errors import FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch, may
from cognu.files.mounts import Member, MountHead
from cognu.files.namespace import Namespace
from cognu.files.server import Caller, Entry, FileServer
from cognu.files.steps import Steps
from cognu.kernel import READ
from cognu.ninep.types import OREAD


@dataclass(slots=True)
class _UnionListing:
    """What was read of a union so far; cookies count `entries`."""

    members: list[Member]
    whole: list[Chan]  # all the members there were
    entries: list[tuple[Chan, Entry]] = field(default_factory=list)  # with the member that each is from
    reading: Chan | None = None
    cookie: int = 0


def read_directory(namespace: Namespace, chan: Chan, cookie: int, count: int, caller: Caller) -> Steps[list[Entry]]:
    """At most `count` entries of an open directory after `cookie`; 0 starts anew. An empty list is the end."""
    while True:
        entries = yield from _read(namespace, chan, cookie, count, caller)
        shown = namespace.shown(chan, entries)
        if shown or not entries:
            return shown
        cookie = entries[-1].cookie  # nothing of these is shown, which is not the end


def _read(namespace: Namespace, chan: Chan, cookie: int, count: int, caller: Caller) -> Steps[list[Entry]]:
    listing = None if cookie == 0 else chan.listing
    if listing is None and not _is_union(chan):
        chan.listing = None
        entries = yield from dispatch(chan, READ, chan.server.readdir, chan.fid, cookie, count)
        return [_mounted(namespace, chan, chan.server, entry) for entry in entries]
    if not isinstance(listing, _UnionListing):
        assert isinstance(chan.union, MountHead)
        members = list(chan.union.members)
        listing = chan.listing = _UnionListing(members, [member.chan for member in members])
    while True:
        chan.domain.check(chan.cap, READ)  # the members are skipped if they err, this is not
        while len(listing.entries) < cookie + count and listing.members:
            yield from _read_on(namespace, chan, listing, count, caller)
            chan.domain.check(chan.cap, READ)
        found = listing.entries[cookie : cookie + count]
        allowed = [entry for member, entry in found if may(member, READ)]
        if allowed or not found:
            return allowed
        cookie += len(found)  # these are gone, which is not the end


def may_be_had_again(chan: Chan, cookie: int) -> bool:
    """Whether an entry that `read_directory` gave, with that cookie, may be handed out now.

    `chan` is the directory, still open. Raises REVOKED if that is what is gone.
    """
    chan.domain.check(chan.cap, READ)
    listing = chan.listing
    return not isinstance(listing, _UnionListing) or may(listing.entries[cookie - 1][0], READ)


def sources_of(namespace: Namespace, chan: Chan) -> list[Chan]:
    """Chans by which what a file has may be told now: itself, and of a union the members too that may be read.

    `chan` is a file, open or not; of one that is not open it is what is mounted there that is told of.
    """
    if chan.handle.mode is None:
        return [namespace.cross(chan)[0]]
    if not _is_union(chan):
        return [chan]
    assert isinstance(chan.union, MountHead)
    before = chan.listing.whole if isinstance(chan.listing, _UnionListing) else []
    members = dict.fromkeys([*before, *(member.chan for member in chan.union.members)])
    return [chan, *(member for member in members if may(member, READ))]


def _is_union(chan: Chan) -> bool:
    """A union of one is just its member, already open."""
    return isinstance(chan.union, MountHead) and len(chan.union.members) > 1


def _read_on(namespace: Namespace, chan: Chan, listing: _UnionListing, count: int, caller: Caller) -> Steps[None]:
    """Read one batch of the member at hand, or go on to the next."""
    member = listing.members[0].chan
    entries: list[Entry] = []
    try:
        if listing.reading is None:
            walked = yield from dispatch(member, 0, member.server.walk, member.fid, [], caller)
            if walked.fid is not None:
                unopened = member.at(walked.fid, member.path, member.origin)
                fid = yield from dispatch(unopened, READ, member.server.open, unopened.fid, OREAD, caller)
                same = fid is unopened.fid
                listing.reading = unopened if same else member.at(fid, member.path, member.origin)
        if listing.reading is not None:
            reading = listing.reading
            entries = yield from dispatch(reading, READ, reading.server.readdir, reading.fid, listing.cookie, count)
    except FileError:
        pass  # the member is skipped, as in unionread()
    if entries:
        listing.cookie = entries[-1].cookie
        for entry in entries:
            shown = _mounted(namespace, chan, member.server, entry)
            listing.entries.append((member, shown._replace(cookie=len(listing.entries) + 1)))
        return
    if listing.reading is not None:
        listing.reading.close()
    listing.reading, listing.cookie = None, 0
    del listing.members[0]


def _mounted(namespace: Namespace, chan: Chan, server: FileServer, entry: Entry) -> Entry:
    """The entry of what is mounted there, if anything is. Its attributes are not asked for: its server may be far."""
    if not namespace.heads or chan.path.device:
        return entry
    head = namespace.heads.get((server, entry.qid.path))
    if head is None:
        return entry
    return Entry(entry.cookie, head.members[0].chan.qid, entry.name, None)
