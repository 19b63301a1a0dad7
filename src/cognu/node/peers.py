"""What peers see of this node: for each grant a capability of its own, so that revoking it ends all use of it at once.

A grant is held in a domain of its own, minted from the node's. Each connection of the peer gets a process whose
namespace is a skeleton with the granted trees bound in it, minted from the grants' domains. `/n/THIS` over there shows
just that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from cognu.devices.root import ROOT_DIRECTORIES, SkeletonServer
from cognu.errors import CognuError, E, FileError
from cognu.files.attach import attach_own
from cognu.files.chan import Chan, Domain
from cognu.files.limits import PEER_LIMITS, PEER_SHARE, Quota, Resource
from cognu.files.mounts import MAFTER, MCREATE, MREPL, ChanMover
from cognu.files.namespace import Namespace
from cognu.files.process import Process, ProcessTable, State
from cognu.files.services import is_from_elsewhere
from cognu.files.shown import NOTHING
from cognu.files.shownserver import ShownTree
from cognu.files.steps import finish
from cognu.files.wants import is_within
from cognu.kernel import Cap
from cognu.mesh.identity import check_grant_count
from cognu.ninep.fids import FidRoom
from cognu.ninep.types import QTDIR
from cognu.node.grants import CMD, RUN, PeerGrant, contradiction, parse_grant

log = logging.getLogger("cognu.peers")

REFUSED = ("#N", "#n", "#s", "#d", "#e", "#p", "#C")
"""Devices that are no peer's business: other peers' trees, this node's control, and what belongs to processes. And the
host's commands, each of which has a grant of its own, `cmd:NAME`: no grant of a tree has them along."""
PEER_FIDS = 65_536
BEHIND = ("/dev", "/tmp")
"""Where a peer's shell has files of its own and, behind them, what its peer was granted below these."""
ALONE = ("#D",)
"""Devices of the person at this machine, which no grant of a tree that they are mounted in has along."""


def _without_rights(grant: PeerGrant) -> str:
    """What was meant by a path that ends as those of export and of a program's grants do."""
    path, colon, rights = grant.source.rpartition(":")
    if not colon or not rights or set(rights) - set("rwx"):
        return ""
    return f"a machine's grant has no :{rights} behind its path: {'write' if 'w' in rights else 'read'}:{path}"


def _may_lend(chan: Chan) -> bool:
    """Not what came from elsewhere either: then no grant can hold itself, by way of other machines (export(4))."""
    return chan.origin.spec not in REFUSED and not is_from_elsewhere(chan)


@dataclass(eq=False)
class _Held:
    """A grant in force: the chan at its source, and those mounted below it, in a domain of their own."""

    grant: PeerGrant
    domain: Domain
    caps: list[Cap]
    chan: Chan
    below: list[tuple[Chan, list[Chan]]]

    def contradicts(self, other: _Held) -> str:
        """Why both can't be one peer's, by their places or by where the trees really are; empty if they can."""
        here, there = self.chan.origin, other.chan.origin
        why = contradiction(self.grant, other.grant)
        if why or here.spec != there.spec:
            return why
        return contradiction(*(
            replace(grant, place="/" + "/".join(origin.names))
            for grant, origin in ((self.grant, here), (other.grant, there))
        ))  # fmt: skip


class PeerExports:
    """Grants in force, by peer's fingerprint, and the processes of peers' connections."""

    def __init__(self, base: Process, processes: ProcessTable, open_files: int | None = None) -> None:
        """`open_files`: how many this node may have. Peers together have half of them at most, and one a quarter, so
        that links and this machine's own user have the rest; None: it has no limit."""
        self._open_files = open_files
        self._base = base
        self._processes = processes
        self._held: dict[str, dict[str, _Held]] = {}
        self._sessions: dict[str, dict[Process, Callable[[], None]]] = {}
        """With what ends each connection."""
        self.given: dict[str, set[str]] = {}
        """The programs that each gave, by their hashes; they are in the store, and not to be given again."""
        self._refused: dict[tuple[str, str], CognuError] = {}
        self.on_changed: Callable[[str], None] = lambda _: None
        """Called with a peer's fingerprint when other grants than before are in force for it."""
        self._fids: dict[str, FidRoom] = {}
        self._together: Quota | None = None
        self._quotas: dict[str, Quota] = {}
        """What a peer's connections may use together. Kept when they end: what they left here counts on."""

    async def grant(self, grants: Iterable[tuple[str, str]], record: Callable[[], None]) -> None:
        """Put grants in force, each by a peer's fingerprint and its text, also for connections that are there.

        All or none: `record` is called when nothing else can fail any more, to put them on record, or to see that they
        are; if it raises, none is in force. Raises that, NOENT, ACCES, CONFLICT and what finding raises.
        """
        found: list[tuple[str, _Held]] = []
        try:
            for peer, text in grants:
                found.append((peer, await self._hold(parse_grant(text))))
            self._check_apart(found)
            record()
        except BaseException:
            for _, held in found:
                self._end(held)
            raise
        for peer, held in found:
            if held.grant.text in self.granted(peer):
                self._end(held)
            else:
                self._held.setdefault(peer, {})[held.grant.text] = held
                self._refused.pop((peer, held.grant.text), None)
        for peer, held in found:
            for session in list(self._sessions.get(peer, {})):
                for each in self._in_order(peer):
                    if each is held or is_within(each.grant.place, held.grant.place):
                        await self._try_show(peer, session.namespace, each)
        for peer in dict.fromkeys(peer for peer, _ in found):
            self.on_changed(peer)

    def _check_apart(self, found: Iterable[tuple[str, _Held]]) -> None:
        """Raises CONFLICT for a grant that others of the same peer would make vain, or that would make one vain."""
        new: list[tuple[str, _Held]] = []
        for peer, held in found:
            others = [*self._held.get(peer, {}).values(), *(other for whose, other in new if whose == peer)]
            for other in others:
                if why := held.contradicts(other):
                    raise FileError(E.CONFLICT, held.grant.text, why)
            new.append((peer, held))

    def _in_order(self, peer: str) -> list[_Held]:
        """Grants in force as they are to be shown, each over the ones before: the inner tree, and the wider rights."""
        return sorted(
            self._held.get(peer, {}).values(), key=lambda held: (len(held.grant.place), held.grant.rights.bit_count())
        )

    async def check(self, texts: tuple[str, ...], peer: str = "") -> None:
        """Whether grants could be put in force together, beside those of `peer`, if it is one; none is.

        Raises what `grant` would, and GRANTSFULL.
        """
        check_grant_count("grants", (*self.granted(peer), *texts))
        found: list[tuple[str, _Held]] = []
        try:
            for text in texts:
                found.append((peer, await self._hold(parse_grant(text))))
            self._check_apart(found)
        finally:
            for _, held in found:
                self._end(held)

    def revoke(self, peer: str, text: str) -> None:
        """End a grant and all that was derived from it: running operations, open files, mounts. Raises NOGRANT.

        Without `run`, the peer's programs end too.
        """
        held = self._held.get(peer, {}).pop(text, None)
        if held is None:
            raise FileError(E.NOGRANT, text)
        self._end(held)
        for session in self._sessions.get(peer, {}):
            self._hide(session.namespace, held, self._held[peer].values())
            if text == RUN:
                self._kill_below(session, f"{text} was revoked")
        self.on_changed(peer)

    def forget(self, peer: str) -> None:
        """End all grants of a peer, and all that runs here for it; what it gave counts no more."""
        self.given.pop(peer, None)
        for key in [key for key in self._refused if key[0] == peer]:
            del self._refused[key]
        for session in self._sessions.get(peer, {}):
            self._kill_below(session, "its peer was dropped")
        for held in self._held.pop(peer, {}).values():
            self._end(held)

    def end_connections(self, peer: str) -> None:
        for end in list(self._sessions.get(peer, {}).values()):
            end()

    def close(self) -> None:
        for peer in list(self._held):
            self.forget(peer)

    def held(self) -> Iterator[tuple[str, str, Chan]]:
        """Every grant in force: the peer's fingerprint, the text, and the chans that it is held by."""
        for peer, grants in self._held.items():
            for text, held in grants.items():
                yield peer, text, held.chan
                for place, members in held.below:
                    for chan in (place, *members):
                        yield peer, text, chan

    def granted(self, peer: str) -> list[str]:
        return list(self._held.get(peer, {}))

    def note_refused(self, peer: str, text: str, error: CognuError) -> None:
        """A grant is on record and could not be put in force; told until it can."""
        self._refused[peer, text] = error

    def not_in_force(self, peer: str, texts: Iterable[str]) -> dict[str, str]:
        """Of grants on record those that are not in force, and why; that is empty for one that nobody tried yet."""
        idle = [text for text in texts if text not in self._held.get(peer, {})]
        return {text: str(self._refused.get((peer, text), "")) for text in idle}

    def _end(self, held: _Held) -> None:
        for cap in held.caps:
            held.domain.authority.revoke(held.domain.pid, cap)
        held.chan.close()
        for place, members in held.below:
            for chan in (place, *members):
                chan.close()
        held.domain.release()

    async def _hold(self, grant: PeerGrant) -> _Held:
        namespace = self._base.namespace
        try:
            near = await finish(namespace.find(grant.source, self._base.cwd, self._base))
        except FileError as error:
            if error.error is E.NOENT and grant.text.startswith(CMD):
                raise FileError(E.NOCOMMAND, grant.text.removeprefix(CMD), "not in settings.json") from None
            raise FileError(error.error, grant.source, error.detail or _without_rights(grant)) from None
        target, _ = namespace.cross(near)
        if grant.place == grant.source and not _may_lend(target):
            raise FileError(E.ACCES, grant.source, "this tree is not lent on")
        if grant.shown != NOTHING and not target.qid.is_dir:
            raise FileError(E.NOTDIR, grant.source, "patterns say what is shown of a directory")
        domain = Domain(namespace.domain.authority, namespace.domain)
        try:
            held = self._held_by(domain, grant, target)
            if grant.shown != NOTHING:
                await self._show_in_part(held)
            return held
        except BaseException:
            domain.release()
            raise

    async def _show_in_part(self, held: _Held) -> None:
        """Put the grant's patterns before all that it holds."""
        patterns, count = held.grant.shown, len([name for name in held.grant.source.split("/") if name])
        tree = ShownTree(patterns)
        held.chan = await finish(tree.chan(held.chan, (), self._base))
        below, held.below = held.below, []
        for place, members in below:
            names = tuple(place.path.names()[count:])
            if not patterns.allows(names, place.qid.is_dir):
                for chan in (place, *members):
                    chan.close()
            else:
                held.below.append((
                    await finish(tree.chan(place, names, self._base)),
                    [await finish(tree.chan(member, names, self._base)) for member in members],
                ))  # fmt: skip

    def _held_by(self, domain: Domain, grant: PeerGrant, target: Chan) -> _Held:
        namespace = self._base.namespace
        mover = ChanMover(domain, grant.rights)
        below: list[tuple[Chan, list[Chan]]] = []
        inside = grant.source.rstrip("/") + "/"
        for head in namespace.heads.values():
            members = [member.chan for member in head.members if _may_lend(member.chan)]
            members = [chan for chan in members if chan.origin.spec not in ALONE]
            if str(head.place.path).startswith(inside) and members:
                below.append((mover.move(_by_name(head.place)), [mover.move(_by_name(chan)) for chan in members]))
        chan = mover.move(_by_name(target))
        return _Held(grant, domain, mover.minted, chan, below)

    # -- connections ----------------------------------------------------------------------------------------------

    async def connect(self, peer: str, name: str, end: Callable[[], None] = lambda: None) -> Process:
        """A process for one connection of a peer; the caller ends it with `disconnect`. `end` ends the connection."""
        namespace = await self.namespace(peer)
        quota = Quota(self.quota(peer, name))
        try:
            session = self._processes.add(name, namespace, namespace.root.share(), self._base, quota=quota)
        except FileError:
            namespace.release()
            raise
        session.args, session.state = ["peer", name], State.RUNNING
        self._sessions.setdefault(peer, {})[session] = end
        return session

    async def behind(self, peer: str, namespace: Namespace, process: Process) -> list[tuple[Chan, Chan]]:
        """What a peer was granted below `BEHIND`, to be asked before its shell's own devices are bound there: each
        place, and the directory with it, which is to be mounted there after them.

        Of the same name as one of `#c`, which the shell has, it is taken out of the namespace.
        """
        skeleton, keep = namespace.root.server, []
        assert isinstance(skeleton, SkeletonServer)
        for place in (held.grant.place for held in self._in_order(peer)):
            below = place.removeprefix("/dev/") if place.startswith("/dev/") else ""
            if below:
                try:
                    (await finish(namespace.find(f"#c/{below.partition('/')[0]}", namespace.root, process))).close()
                    continue
                except FileError:  # it is none of the shell's own
                    pass
            keep.append(place)
        skeleton.uproot([*ROOT_DIRECTORIES, *keep])
        found: list[tuple[Chan, Chan]] = []
        for top in BEHIND:
            if any(place.startswith(f"{top}/") for place in keep):
                at = await finish(namespace.find(top, namespace.root, process))
                if at.server is skeleton:  # else all of it is another grant's
                    found.append((at, at.share()))
        return found

    def quota(self, peer: str, name: str) -> Quota:
        """What all connections of a peer may use together."""
        if peer not in self._quotas:
            limits = dict(PEER_LIMITS)
            if self._open_files is not None:
                limits[Resource.FILES] = min(limits[Resource.FILES], self._open_files // 4)
            if self._together is None:
                most = {} if self._open_files is None else {Resource.FILES: self._open_files // 2}
                self._together = Quota(self._base.quota, "all peers", most)
            self._quotas[peer] = Quota(self._together, f"peer {name}", limits)
            self._quotas[peer].set_share(PEER_SHARE)
        return self._quotas[peer]

    def fids(self, peer: str, name: str) -> FidRoom:
        """What fids all connections of a peer may hold together. Those that are open count in its quota too."""
        return self._fids.setdefault(peer, FidRoom(f"peer {name}", PEER_FIDS))

    async def namespace(self, peer: str, directories: Iterable[str] = ()) -> Namespace:
        """A namespace with what a peer is granted, and more empty directories to mount on."""
        domain = Domain(self._base.namespace.domain.authority, self._base.namespace.domain)
        try:
            namespace = Namespace(domain, await finish(attach_own(SkeletonServer(directories), domain, self._base)))
        except BaseException:
            domain.release()
            raise
        seen: set[_Held] = set()
        # What is granted while the others are shown is shown too: there is no session yet that it would go to. Then all
        # are shown once more, for it may lie over some.
        while not seen.issuperset(every := self._in_order(peer)):
            for held in every:
                seen.add(held)
                await self._try_show(peer, namespace, held)
        return namespace

    def peer_of(self, process: Process) -> str:
        """The peer on whose connection a process was made. Raises PERM if it was made here."""
        at: Process | None = process
        while at is not None:
            for peer, sessions in self._sessions.items():
                if at in sessions:
                    return peer
            at = at.parent
        raise FileError(E.PERM, f"pid {process.pid}", "only what a peer started is run for a peer")

    def is_from_afar(self, process: Process) -> bool:
        """Whether a process was made on a peer's connection, or below one, even if that connection is over."""
        at: Quota | None = process.quota
        while at is not None:
            if at in self._quotas.values():
                return True
            at = at.parent
        return False

    def disconnect(self, peer: str, session: Process) -> None:
        del self._sessions[peer][session]
        self._kill_below(session, "its peer's connection ended")
        self._processes.end(session, 0)

    def _kill_below(self, session: Process, why: str) -> None:
        for child in self._processes.descendants(session):
            if child.kill is not None:
                child.kill(why)

    async def _try_show(self, peer: str, namespace: Namespace, held: _Held) -> None:
        """Show it if it is in force still. If that fails the peer has less than it was granted, which the log says."""
        if self._held.get(peer, {}).get(held.grant.text) is not held:
            return
        try:
            await self._show(namespace, held)
        except CognuError as error:
            log.warning("%s does not see %s: %s", peer, held.grant.text, error)

    async def _show(self, namespace: Namespace, held: _Held) -> None:
        """Bind a granted tree into a connection's namespace."""
        skeleton = namespace.root.server
        assert isinstance(skeleton, SkeletonServer)
        mover = ChanMover(namespace.domain)
        directory = bool(held.chan.qid.type & QTDIR)
        skeleton.plant(held.grant.place, directory)
        place = await finish(namespace.find(held.grant.place, namespace.root, self._base))
        # Always with create: what may not be created is then refused for want of the right, which says what to ask for.
        namespace.mount(mover.move(held.chan), place, MREPL | MCREATE)
        for where, members in held.below:
            for index, chan in enumerate(members):
                namespace.mount(mover.move(chan), mover.move(where), MREPL if index == 0 else MAFTER)

    def _hide(self, namespace: Namespace, held: _Held, others: Iterable[_Held]) -> None:
        """Take a tree that was revoked, and what led there alone, out of a connection's namespace."""
        skeleton = namespace.root.server
        assert isinstance(skeleton, SkeletonServer)
        for key, head in list(namespace.heads.items()):
            if not all(_alive(member.chan) for member in head.members):
                del namespace.heads[key]
                head.close()
        skeleton.uproot([other.grant.place for other in others])


def _by_name(chan: Chan) -> Chan:
    """The chan with the names of its path alone: what is under mount points on the way there is not granted with it.

    Nobody goes up by that path: where the peer sees the file, it has the path of that place.
    """
    path = chan.path.alone()
    path.device, path.top = chan.path.device, False
    return chan.share(path)


def _alive(chan: Chan) -> bool:
    try:
        chan.domain.check(chan.cap, 0)
    except FileError:
        return False
    return True
