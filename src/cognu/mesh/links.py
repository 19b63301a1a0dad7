"""The mesh of one node: its listener, and a session with each peer it paired with.

Trust is the peer book and nothing else. The TLS contexts hold exactly its certificates, and after each handshake the
leaf is compared with the pin again, so that a slip in one place does not let anybody in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from cognu.errors import CognuError, E, FileError, LinkBroken, Misuse
from cognu.mesh.frames import ID_SIZE
from cognu.mesh.identity import (
    Identity,
    Peer,
    PeerBook,
    certificate_der,
    certificate_public,
    fingerprint_of,
)
from cognu.mesh.session import Channel, LinkStatus, Session
from cognu.mesh.session_core import SessionCore, Timing
from cognu.world import Listener, SecureStream, TlsKeys, World

DIAL_SECONDS = 10.0

OnChannel = Callable[[Peer, str, Channel], Awaitable[None]]
"""Called in a task of its own for each channel a peer opens: the peer, the label, the channel, which is closed when
it returns. A `CognuError` it raises is what the peer's `read` raises."""


@dataclass(frozen=True)
class PeerStatus:
    """A peer and how it is reached now; `since` is wall-clock ns, `rtt` ns; `dropped`: it has dropped this node."""

    peer: Peer
    connected: bool
    since: int | None
    address: str
    rtt: int | None
    dropped: bool = False


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
        self._answered: set[str] = set()  # addresses at which a peer was reached
        self._dropped_by: set[str] = set()
        self.on_linked: Callable[[str], None] = lambda _: None
        """Called with the fingerprint of a peer, each time a link to it came up."""
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
        rows = []
        for peer in self._book.all():
            session = self._sessions.get(peer.fingerprint)
            link = session.status if session is not None else LinkStatus(False, None, "", None)
            dropped = peer.fingerprint in self._dropped_by
            rows.append(PeerStatus(peer, link.connected, link.since, link.address, link.rtt, dropped))
        return rows

    def note_dropped(self, fingerprint: str) -> None:
        """A peer has dropped this node, until a link to it comes up again: there is nothing that may be done there."""
        self._dropped_by.add(fingerprint)
        peer = self._book.get(fingerprint)
        if peer is not None:
            self._book.update(replace(peer, received=(), as_of=self._world.clock.now() // 10**9))

    async def drop(self, peer: str) -> Peer:
        """Trust a peer no more: forget it and cut its link at once; its channels end with `LinkBroken(DROPPED)`.

        Raises `FileError`: NOPEER, AMBIGUOUS.
        """
        dropped = self._book.remove(self._book.find(peer).fingerprint)
        await self.cut(dropped.fingerprint)
        return dropped

    def link_of(self, fingerprint: str) -> Session | None:
        """What there is of a link to a peer, also to one that is not in the book any more."""
        return self._sessions.get(fingerprint)

    def is_linked(self, fingerprint: str) -> bool:
        """Whether a link to a peer is up now."""
        session = self._sessions.get(fingerprint)
        return session is not None and session.status.connected

    async def cut(self, fingerprint: str) -> None:
        """The end of `drop`, for one that was removed from the book before."""
        session = self._sessions.pop(fingerprint, None)
        if session is not None:
            await session.close(E.DROPPED, "")

    async def close(self) -> None:
        """End all sessions and stop listening. May be called twice."""
        self._closed = True
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
                self._dropped_by.discard(fingerprint)
                self.on_linked(fingerprint)

            session = Session(self._world, core, self._timing, dial, handle, linked, lambda: self._port)
            self._sessions[fingerprint] = session
        return session

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
        """A pinned connection to the first address that answers.

        Raises `LinkBroken`: BADPEER, DROPPED; `FileError`: HOSTUNREACH, or CONNREFUSED if at every address, one of them
        the peer's, a machine said that nothing listens there.
        """
        peer = self._book.find(fingerprint)
        keys = TlsKeys(self._identity.certificate, self._identity.private_key, (peer.certificate,))
        tried: list[str] = []
        refused = 0
        wrong: LinkBroken | None = None
        for address in peer.addresses:
            try:
                stream = await self._world.network.connect_tls(address, keys, DIAL_SECONDS)
            except CognuError as error:
                if error.error is E.DROPPED:  # it proved first that it is the peer
                    self.note_dropped(fingerprint)
                    raise LinkBroken(E.DROPPED, peer.name) from error
                tried.append(str(error))
                refused += error.error is E.CONNREFUSED
                if isinstance(error, LinkBroken) and error.error is E.BADPEER:
                    wrong = error
                continue
            try:
                shown = self._identify(stream).fingerprint
                if shown != fingerprint:
                    raise LinkBroken(E.BADPEER, address, f"{shown} answers")
            except LinkBroken as error:
                stream.close()
                tried.append(str(error))
                wrong = error
                continue
            self._answered.add(address)
            return stream
        if wrong is not None:
            raise LinkBroken(E.BADPEER, peer.name, "; ".join(tried))
        if tried and refused == len(tried) and not self._answered.isdisjoint(peer.addresses):
            raise FileError(E.CONNREFUSED, peer.name, "; ".join(tried))
        raise FileError(E.HOSTUNREACH, peer.name, "; ".join(tried) or "no address known; it must connect to this node")

    def _learn(self, fingerprint: str, stream: SecureStream, port: int, dialled: bool) -> None:
        """Remember where a peer is: the address that answered, or the host it came from with its listener's port."""
        peer = self._book.get(fingerprint)
        if peer is None or (not dialled and port == 0):
            return
        host, _, own_port = stream.peer.rpartition(":")
        self._book.learn_address(fingerprint, f"{host}:{own_port if dialled else port}")
