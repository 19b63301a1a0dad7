"""The mesh of one node: its listener, and a session with each peer it paired with.

Trust is the peer book and nothing else. The TLS contexts hold exactly its certificates, and after each handshake the
leaf is compared with the pin again, so that a slip in one place does not let anybody in.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from cognu.errors import CognuError, E, FileError, LinkBroken, Misuse
from cognu.mesh.addresses import Addresses, Reserve
from cognu.mesh.dialling import race
from cognu.mesh.frames import ID_SIZE
from cognu.mesh.identity import (
    Identity,
    Peer,
    PeerBook,
    certificate_der,
    certificate_public,
    fingerprint_of,
)
from cognu.mesh.liveness import SECOND
from cognu.mesh.roaming import HANDSHAKE_TRIPS, RETURN_FIRST, RETURN_LAST, Roaming, clearly_nearer, host_of
from cognu.mesh.session import NO_LINK, Channel, LinkStatus, Session
from cognu.mesh.session_core import SessionCore, Timing
from cognu.world import Listener, SecureStream, TlsKeys, World

DIAL_SECONDS = 10.0
"""For one address. The next does not wait for it: `dialling.APART_SECONDS`."""
log = logging.getLogger("cognu.mesh")

OnChannel = Callable[[Peer, str, Channel], Awaitable[None]]
"""Called in a task of its own for each channel a peer opens: the peer, the label, the channel, which is closed when
it returns. A `CognuError` it raises is what the peer's `read` raises."""


@dataclass(frozen=True)
class PeerStatus:
    """A peer and how it is reached now; `dropped`: it has dropped this node. `link` has what is known of the link, of
    whose fields the first are given here too. `interface` is this machine's that the link leaves by, empty if it is not
    known; `reserves` are the other addresses, in the order in which they would be dialled. `waits`: this node knows no
    address, so that the peer must dial.
    """

    peer: Peer
    connected: bool
    since: int | None
    address: str
    rtt: int | None
    dropped: bool = False
    link: LinkStatus = NO_LINK
    interface: str = ""
    reserves: tuple[Reserve, ...] = ()
    waits: bool = False


class Whereabouts(NamedTuple):
    """A peer, the address by which it is linked (empty: it is not), and the others at which it may be reached."""

    peer: Peer
    address: str
    reserves: tuple[Reserve, ...]


class PeerAway(NamedTuple):
    """Whether a peer is linked; `away` and `refused` as in `Reaching`."""

    name: str
    linked: bool
    away: tuple[int, int] | None
    refused: bool = False


class Mesh:
    """Links to all peers. Made on the running loop; end it with `close`."""

    def __init__(
        self, world: World, identity: Identity, book: PeerBook, on_channel: OnChannel, timing: Timing | None = None
    ) -> None:
        self._world = world
        self._identity = identity
        self._book = book
        self._on_channel = on_channel
        self._timing = timing or Timing()
        self._boot = world.random.bytes(ID_SIZE)
        self._sessions: dict[str, Session] = {}
        self._addresses: dict[str, Addresses] = {}
        network = world.network
        self._roaming = Roaming(world, lambda: network.interfaces(), self._hurry, self._seek, network.follow)
        self._dropped_by: set[str] = set()
        self._pauses: dict[str, float] = {}  # of peers that were linked: the last between dials since
        self._new: set[str] = set()
        self.on_dropped: Callable[[Peer], None] = lambda _: None
        """Told of a peer that has dropped this node, as it was in the book until then."""
        self.on_linked: Callable[[str], None] = lambda _: None
        """Called with the fingerprint of a peer, each time a link to it came up."""
        self.on_away: Callable[[], None] = lambda: None
        """Called when what `away` gives is another."""
        self._listener: Listener | None = None
        self._port = 0
        self._closed = False

    async def listen(self, address: str) -> str:
        """Take links at `HOST:PORT` (port 0: any free one); returns the real address. Raises `FileError`."""
        if self._listener is not None or self._closed:
            raise Misuse(E.ALREADY, address)
        self._listener = await self._world.network.listen_tls(address, self._keys, self._accept)
        self._port = int(self._listener.address.rpartition(":")[2])
        return self._listener.address

    async def connect(self, peer: str) -> None:
        """Link up with a peer now, by fingerprint, pet name or the beginning of a fingerprint; at once if it is.

        Raises `FileError`: NOPEER, AMBIGUOUS, HOSTUNREACH, CONNREFUSED; `LinkBroken(BADPEER)` if another machine
        answers there.
        """
        await self._session(self._book.find(peer)).connect()

    async def open(self, peer: str, label: str) -> Channel:
        """A new channel to a peer; dials if need be. Raises as `connect`, and `LinkBroken` of `SessionCore.open`."""
        return await self._session(self._book.find(peer)).open_channel(label)

    def status(self) -> list[PeerStatus]:
        """All peers of the book, sorted by pet name."""
        interfaces, now = self._interfaces(), self._now()
        rows = []
        for peer in self._book.all():
            session = self._sessions.get(peer.fingerprint)
            link = session.status if session is not None else NO_LINK
            reserves = self._of(peer.fingerprint).reserves(peer.addresses, link.address, now)
            rows.append(
                PeerStatus(
                    peer, link.connected, link.since, link.address, link.rtt,
                    dropped=peer.fingerprint in self._dropped_by,
                    link=link,
                    interface=interfaces.get(host_of(link.local), ""),
                    reserves=reserves,
                    waits=not link.connected and not reserves,
                )
            )  # fmt: skip
        return rows

    def _interfaces(self) -> Mapping[str, str]:
        try:
            return self._world.network.interfaces()
        except OSError as error:  # no descriptor is left: the rest is known without
            log.warning("by which interfaces peers are linked can't be had: %s", error)
            return {}

    def whereabouts(self) -> list[Whereabouts]:
        """All peers of the book, sorted by pet name. Nothing is asked of the host, as `status` does."""
        now, rows = self._now(), []
        for peer in self._book.all():
            session = self._sessions.get(peer.fingerprint)
            address = session.status.address if session is not None else ""
            rows.append(Whereabouts(peer, address, self._of(peer.fingerprint).reserves(peer.addresses, address, now)))
        return rows

    def heard(self, fingerprint: str, addresses: Sequence[str]) -> None:
        """Somebody says that a peer is at these addresses, numeric `HOST:PORT` (IPv6 in brackets).

        That may be a lie, and is nothing but a place to dial, where it must prove its key. What is no peer's, or no
        address, is passed over. If one is new, a link that is wanted is dialled at once. One where nobody answered is
        worth a dial when it is said again, if there is no link.
        """
        if self._closed or self._book.get(fingerprint) is None:
            return
        ways, session = self._of(fingerprint), self._sessions.get(fingerprint)
        apart = session is not None and not session.status.connected
        again = apart and ways.failed_before(addresses, self._now() - int(RETURN_FIRST * SECOND))
        if ways.hear(addresses, self._now()):
            if session is not None and apart:
                session.reaching.heard()
        elif not again:
            return
        self._roaming.seek_soon(fingerprint)

    def refuted(self, fingerprint: str, addresses: Sequence[str]) -> bool:
        """Whether a peer was dialled in vain at all the addresses where it is said to be, since that was said."""
        return self._of(fingerprint).refuted(addresses)

    def moved(self) -> None:
        """This machine may be on another network, or was asleep: links are to prove themselves, pauses are over."""
        self._roaming.moved()

    def _now(self) -> int:
        return self._world.clock.monotonic()

    def _of(self, fingerprint: str) -> Addresses:
        return self._addresses.setdefault(fingerprint, Addresses())

    def note_joined(self, fingerprint: str) -> None:
        """It was pinned just now. Until it has pinned this node too it may refuse a link as if it had dropped it."""
        self._dropped_by.discard(fingerprint)
        self._new.add(fingerprint)
        session = self._sessions.get(fingerprint)
        if session is not None:
            session.hurry()

    def note_dropped(self, fingerprint: str) -> None:
        """A peer has dropped this node, until they join again: what either may do at the other ends."""
        known = fingerprint in self._dropped_by  # it says so each time it is dialled
        self._dropped_by.add(fingerprint)
        peer = self._book.get(fingerprint)
        if peer is None or fingerprint in self._new or (known and not peer.granted and not peer.received):
            return
        self.on_dropped(peer)  # first, for the record may find no room
        try:
            self._book.update(replace(peer, granted=(), received=(), as_of=self._world.clock.now() // 10**9))
        except FileError as error:
            log.warning("that %s has dropped this machine can't be kept until it says so again: %s", peer.name, error)

    async def drop(self, peer: str) -> Peer:
        """Trust a peer no more: forget it and cut its link at once; its channels end with `LinkBroken(PARTED)`.

        Raises `FileError`: NOPEER, AMBIGUOUS.
        """
        dropped = self._book.remove(self._book.find(peer).fingerprint)
        await self.cut(dropped.fingerprint)
        return dropped

    def leave(self, fingerprint: str) -> None:
        """End every channel with a peer at once, and take no more of its. The link stays, for a last word to it."""
        session = self._sessions.get(fingerprint)
        if session is not None:
            session.leave(E.PARTED, E.DROPPED)

    def link_of(self, fingerprint: str) -> Session | None:
        """What there is of a link to a peer, also to one that is not in the book any more."""
        return self._sessions.get(fingerprint)

    def is_linked(self, fingerprint: str) -> bool:
        """Whether a link to a peer is up now."""
        session = self._sessions.get(fingerprint)
        return session is not None and session.status.connected

    def away(self) -> list[PeerAway]:
        """The peers of the book to which there is a session, sorted by pet name."""
        found = ((peer, self._sessions.get(peer.fingerprint)) for peer in self._book.all())
        return [
            PeerAway(peer.name, at.status.connected, at.reaching.away, at.reaching.refused)
            for peer, at in found
            if at is not None
        ]

    async def cut(self, fingerprint: str) -> None:
        """The end of `drop`, for one that was removed from the book before."""
        session = self._sessions.pop(fingerprint, None)
        self._addresses.pop(fingerprint, None)
        self._pauses.pop(fingerprint, None)
        self._new.discard(fingerprint)
        self._roaming.forget(fingerprint)
        if session is not None:
            await session.close(E.DROPPED, "", E.PARTED)

    async def close(self) -> None:
        """End all sessions and stop listening. May be called twice."""
        self._closed = True
        await self._roaming.close()
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close(E.SESSIONLOST, "the node shut down")
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()

    def _keys(self) -> TlsKeys:
        trusted = tuple(peer.certificate for peer in self._book.all())
        return TlsKeys(self._identity.certificate, self._identity.private_key, trusted)

    def _session(self, peer: Peer) -> Session:
        if self._closed:
            raise LinkBroken(E.SESSIONLOST, peer.name, "the node is shutting down")
        session = self._sessions.get(peer.fingerprint)
        if session is None:
            fingerprint = peer.fingerprint
            leader = self._identity.fingerprint < fingerprint
            core = SessionCore(leader, self._boot, self._timing, peer.name)

            async def dial() -> SecureStream:
                return await self._dial(fingerprint)

            async def handle(channel: Channel) -> None:
                await self._on_channel(self._book.find(fingerprint), channel.label, channel)

            def linked(stream: SecureStream, port: int, dialled: bool) -> None:
                self._learn(fingerprint, stream, port, dialled)
                self._pauses[fingerprint] = 0.0
                self._roaming.seek_later(fingerprint)
                self._dropped_by.discard(fingerprint)
                self._new.discard(fingerprint)
                self.on_linked(fingerprint)

            session = Session(self._world, core, self._timing, dial, handle, linked, lambda: self._port)
            session.reaching.on_away = lambda: self._away(fingerprint)
            session.on_silent = lambda address: self._of(fingerprint).failed(address, self._now())
            self._sessions[fingerprint] = session
            self._roaming.begin()
        return session

    def _away(self, fingerprint: str) -> None:
        session = self._sessions.get(fingerprint)
        if session is not None and session.reaching.away is None and not session.status.connected:
            self._roaming.seek_soon(fingerprint)  # it gave the session up, and dials by itself no more
        self.on_away()

    def _hurry(self, gone: Set[str]) -> None:
        """The network changed; `gone` are hosts that were this machine's addresses."""
        for session in list(self._sessions.values()):
            if host_of(session.status.local) in gone:
                session.cut_link()
            session.hurry()

    async def _seek(self, fingerprint: str) -> float | None:
        """See `Roaming`."""
        peer, session = self._book.get(fingerprint), self._sessions.get(fingerprint)
        if peer is None or session is None:
            return None
        if session.status.connected:
            await self._seek_nearer(peer, session)
            return None
        return await self._come_back(fingerprint, session)

    async def _come_back(self, fingerprint: str, session: Session) -> float | None:
        """Link up again with a peer that was linked before; else, in how many seconds to try again."""
        if session.reaching.away is not None or fingerprint in self._dropped_by or fingerprint not in self._pauses:
            return None
        with suppress(CognuError):
            await session.connect()
            return None
        pause = self._pauses[fingerprint] = min(max(2 * self._pauses.get(fingerprint, 0.0), RETURN_FIRST), RETURN_LAST)
        chance = int.from_bytes(self._world.random.bytes(2), "big") / 65536  # so that two do not dial in step
        return pause * (0.5 + chance / 2)

    async def _seek_nearer(self, peer: Peer, session: Session) -> None:
        """Whether another address is clearly nearer than the one in use; then the session goes on over that.

        The side that dialled looks, so that not both do.
        """
        fingerprint = peer.fingerprint
        ways = self._of(fingerprint)
        used = session.status
        if used.connected and used.dialled and used.shortest is not None:
            ways.measured(used.address, self._now(), used.shortest)
        session.hurry()  # the link in use is measured at the same time
        for reserve in ways.reserves(peer.addresses, session.status.address, self._now()):
            status = session.status
            if not status.connected or not status.dialled:
                return
            began = self._now()
            try:
                stream = await self._attempt(fingerprint, reserve.address)
            except CognuError:
                ways.failed(reserve.address, self._now())
                continue
            took = (self._now() - began) // HANDSHAKE_TRIPS
            ways.measured(reserve.address, self._now(), took)
            if session.status.connected and not clearly_nearer(took, session.status.shortest):
                stream.close()
                continue
            with suppress(CognuError):  # then the link is as it was
                await session.change(stream)
                ways.answered(reserve.address, self._now())
            return

    async def _accept(self, stream: SecureStream) -> None:
        peer = self._identify(stream)
        await self._session(peer).run_link(stream)

    def _identify(self, stream: SecureStream) -> Peer:
        """The peer whose pinned certificate the other side showed; raises `LinkBroken(BADPEER)`."""
        shown = stream.peer_certificate
        fingerprint = fingerprint_of(certificate_public(shown))
        peer = self._book.get(fingerprint)
        if peer is None:
            raise LinkBroken(E.BADPEER, stream.peer, f"{fingerprint} is not a peer")
        if certificate_der(peer.certificate) != shown:
            raise LinkBroken(E.BADPEER, stream.peer, f"{fingerprint} shows another certificate than the pinned one")
        return peer

    async def _dial(self, fingerprint: str) -> SecureStream:
        """A pinned connection to the first address where the peer proves its key.

        Raises `LinkBroken`: DROPPED, or BADPEER if at an address from the book another machine answers; `FileError`:
        HOSTUNREACH, or CONNREFUSED if at every address, one of them the peer's, a machine said that nothing listens
        there.
        """
        peer, ways = self._book.find(fingerprint), self._of(fingerprint)
        addresses = ways.order(peer.addresses, self._now())
        if not addresses:
            raise FileError(E.HOSTUNREACH, peer.name, "no address known; it must connect to this node")
        raced = await race(
            self._world.clock, addresses, lambda address: self._attempt(fingerprint, address), _is_dropped
        )
        for address, _ in raced.failures:
            ways.failed(address, self._now())
        if raced.stream is not None:
            ways.answered(raced.address, self._now())
            return raced.stream
        errors = [error.error for _, error in raced.failures]
        said = "; ".join(str(error) for _, error in raced.failures)
        if E.DROPPED in errors:
            self.note_dropped(fingerprint)
            raise LinkBroken(E.DROPPED, peer.name)
        if any(error.error is E.BADPEER and address in peer.addresses for address, error in raced.failures):
            raise LinkBroken(E.BADPEER, peer.name, said)
        if set(errors) == {E.CONNREFUSED} and ways.ever_answered(addresses):
            raise FileError(E.CONNREFUSED, peer.name, said)
        raise FileError(E.HOSTUNREACH, peer.name, said)

    async def _attempt(self, fingerprint: str, address: str) -> SecureStream:
        """A connection to an address where the peer answers; raises `FileError`, `LinkBroken`."""
        peer = self._book.find(fingerprint)
        keys = TlsKeys(self._identity.certificate, self._identity.private_key, (peer.certificate,))
        stream = await self._world.network.connect_tls(address, keys, DIAL_SECONDS)
        try:
            shown = self._identify(stream).fingerprint
            if shown != fingerprint:
                raise LinkBroken(E.BADPEER, address, f"{shown} answers")
        except BaseException:
            stream.close()
            raise
        return stream

    def _learn(self, fingerprint: str, stream: SecureStream, port: int, dialled: bool) -> None:
        """Remember where a peer is: the address that answered, or the host it came from with its listener's port.

        That one nobody has tried: it is dialled after those that answered, until it did. To be kept at all is a hint:
        a link is as good where it can't be written down.
        """
        peer, ways = self._book.get(fingerprint), self._of(fingerprint)
        if peer is None or (not dialled and port == 0):
            return
        address = stream.peer if dialled else f"{host_of(stream.peer)}:{port}"
        try:
            if dialled:
                ways.claimed = "" if ways.claimed == address else ways.claimed
                self._book.learn_address(fingerprint, address)
            else:
                ways.hear([address], self._now())
                before, ways.claimed = ways.claimed, address
                self._book.claim_address(fingerprint, address, before)
        except FileError as error:
            log.warning("%s is at %s, which can't be kept: %s", peer.name, address, error)


def _is_dropped(error: CognuError) -> bool:
    """It proved first that it is the peer: no other address will do better."""
    return error.error is E.DROPPED
