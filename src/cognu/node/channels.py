"""What peers ask for over a link, and what this node asks of them: one label for each kind of channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from cognu.errors import E, FileError
from cognu.files.attach import attach_own
from cognu.files.audit import audit
from cognu.files.chan import Chan, Domain
from cognu.files.export import Export
from cognu.files.launch import TOKEN_LABEL, told
from cognu.files.limits import Quota
from cognu.files.mount import MountServer
from cognu.files.mounts import ChanMover
from cognu.files.namespace import Namespace
from cognu.files.process import Process, State
from cognu.files.shown import Filter, ShownNamespace
from cognu.files.steps import Steps, finish
from cognu.kernel import EXECUTE, GRANT, READ
from cognu.mesh.identity import Peer
from cognu.mesh.session import Channel
from cognu.ninep.server import Limits
from cognu.ninep.types import OREAD
from cognu.node import telling
from cognu.node.delegation import TREE, minter
from cognu.node.launcher import CHUNK
from cognu.node.lending import LentTree
from cognu.node.node import Node
from cognu.node.tokens import Handed
from cognu.store.objects import Source
from cognu.store.server import shared_server

STORE = "store"
"""The label for objects by hash."""
STORE_LIMITS = Limits(fids=64, calls=64)
"""Of one connection for objects. It is for one object, which takes a few of each."""


class Channels:
    """Both ends of the node's links."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # -- asking -----------------------------------------------------------------------------------------------------

    async def dial(self, name: str) -> MountServer:
        mount = await MountServer.connect(await self._node.mesh.open(name, TREE), self._node.world.clock, "#N")
        mount.users = self._node.authority.users
        mount.machine = name
        return mount

    def sources(self) -> list[tuple[str, Source]]:
        """Peers to fetch objects from: those that gave wrong bytes last, the connected ones first."""
        lies = self._node.store.bad_sources
        rows = sorted(self._node.mesh.status(), key=lambda row: (lies.get(row.peer.name, 0), not row.connected))
        return [(row.peer.name, self._source(row.peer)) for row in rows]

    def _source(self, peer: Peer) -> Source:
        return lambda name: self._read_object(peer, name)

    async def _read_object(self, peer: Peer, name: str) -> AsyncGenerator[bytes, None]:
        """The connection is for this alone, and takes its fids with it when it ends."""
        base = self._node.base
        channel = await self._node.mesh.open(peer.fingerprint, STORE)
        mount = await MountServer.connect(channel, self._node.world.clock, "#V")
        try:
            root = await mount.attach(base, "")
            found = (await mount.walk(root, ["objects", name], base)).fid
            if found is None:
                raise FileError(E.NOENT, name)
            opened = await mount.open(found, OREAD, base)
            offset = 0
            while piece := await mount.read(opened, offset, CHUNK):
                yield bytes(piece)
                offset += len(piece)
        finally:
            # Not awaited: it ends when the peer has heard of it, and this one may not be listening.
            self._node.spawn(mount.close())

    # -- answering --------------------------------------------------------------------------------------------------

    async def answer(self, peer: Peer, label: str, channel: Channel) -> None:
        """A peer opened a channel: serve what its label asks for until it ends."""
        if label == TREE:
            session = await self._node.exports.connect(peer.fingerprint, peer.name, channel.close)
            try:
                await _PeerTree(self._node, peer, channel, session).serve()
            finally:
                self._node.exports.disconnect(peer.fingerprint, session)
        elif label == STORE:
            await self._serve_store(peer, channel)
        elif label in telling.LABELS:
            await telling.answer(self._node, peer, channel)
        elif label.startswith(TOKEN_LABEL):
            await self._serve_lent(self._node.lending.redeem(label, peer.fingerprint, channel.close), peer, channel)
        else:
            raise FileError(E.NOATTACH, label[:40])

    async def _serve_lent(self, process: Process, peer: Peer, channel: Channel) -> None:
        """Until either side has enough: what the peer holds open of a process must not outlive that."""
        lent = LentTree(process, self._node.base.namespace.devices["d"])
        limits = Limits(together=self._node.exports.fids(peer.fingerprint, peer.name))
        export = Export(channel, process, lent.attached, limits=limits)
        ended = asyncio.ensure_future(process.ended.wait())
        ended.add_done_callback(lambda _: channel.close())
        try:
            await export.serve()
        finally:
            ended.cancel()
            lent.close()

    async def _serve_store(self, peer: Peer, channel: Channel) -> None:
        domain = Domain(self._node.authority, self._node.base.namespace.domain)
        lent, peers = self._node.lent_objects, peer.fingerprint
        server = shared_server(self._node.store, lambda name: lent.lends(name, peers))
        try:
            root = await finish(attach_own(server, domain, self._node.base, rights=READ | EXECUTE | GRANT))
        except BaseException:
            domain.release()
            raise
        namespace = Namespace(domain, root)
        quota = Quota(self._node.exports.quota(peer.fingerprint, peer.name))
        try:
            session = self._node.processes.add(peer.name, namespace, root.share(), self._node.base, quota=quota)
        except FileError:
            namespace.release()
            raise
        session.args, session.state = ["store", peer.name], State.RUNNING
        limits = STORE_LIMITS._replace(together=self._node.exports.fids(peer.fingerprint, peer.name))
        try:
            await Export(channel, session, _root_only(session), limits=limits).serve()
        finally:
            self._node.processes.end(session, 0)


class _PeerTree:
    """A peer's connection: its first attach says whether it is for what the peer was granted, or for what a token is.

    What was handed on is a process of its own, whose namespace is that tree.
    """

    def __init__(self, node: Node, peer: Peer, channel: Channel, session: Process) -> None:
        self._node = node
        self._peer = peer
        self._session = session
        self._attached = False
        self._handed: tuple[Handed, Process] | None = None
        limits = Limits(together=node.exports.fids(peer.fingerprint, peer.name))
        self._export = Export(channel, session, self._attach, limits=limits, minter=minter(node, peer.fingerprint))

    async def serve(self) -> None:
        try:
            await self._export.serve()
        finally:
            if self._handed is not None:
                handed, process = self._handed
                self._node.processes.end(process, 0)
                self._node.tokens.leave(handed)

    def _attach(self, uname: str, aname: str) -> Steps[Chan]:
        if aname.startswith(TOKEN_LABEL) and not self._attached:
            self._attached = True
            return self._redeemed(aname).namespace.root.share()
        if aname or self._handed is not None:
            raise FileError(E.NOATTACH, told(aname))
        self._attached = True
        return self._session.namespace.root.share()
        yield

    def _redeemed(self, aname: str) -> Process:
        """Raises NOATTACH; whatever fails, a use of the token is gone, and nothing else is left."""
        node, peer = self._node, self._peer
        handed = node.tokens.redeem(aname, peer.fingerprint)
        try:
            domain = Domain(node.authority, node.base.namespace.domain)
            try:
                namespace = Namespace(domain, ChanMover(domain, handed.rights).move(handed.chan))
            except BaseException:
                domain.release()
                raise
            if handed.shown != Filter():
                namespace = ShownNamespace.of(namespace, handed.shown)
            quota = Quota(node.exports.quota(peer.fingerprint, peer.name))
            try:
                process = node.processes.add(peer.name, namespace, namespace.root.share(), node.base, quota=quota)
            except BaseException:
                namespace.release()
                raise
        except BaseException:
            node.tokens.leave(handed)
            raise
        process.args, process.state = ["peer", peer.name], State.RUNNING
        self._handed = (handed, process)
        audit(f"peer {peer.name}", f"redeemed token {handed.number}: {handed.path}")
        self._export.calls.process = process
        return process


def _root_only(session: Process) -> Callable[[str, str], Steps[Chan]]:
    def attach(uname: str, aname: str) -> Steps[Chan]:
        if aname:
            raise FileError(E.NOATTACH, told(aname))
        return session.namespace.root.share()
        yield

    return attach
