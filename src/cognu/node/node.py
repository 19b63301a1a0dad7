"""A running node: what it is made of, how it starts and stops, and who may connect to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from cognu import __version__
from cognu.devices.log import Ring, RingHandler
from cognu.errors import CognuError, E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.export import Export
from cognu.files.mount import MountServer
from cognu.files.namespace import Namespace
from cognu.files.process import Process, ProcessTable, State
from cognu.files.server import Fid
from cognu.files.services import Services
from cognu.files.steps import Steps, finish
from cognu.kernel import EXECUTE, GRANT, READ, Cap
from cognu.mesh.identity import Identity, Peer, PeerBook, load_identity
from cognu.mesh.imports import NetworkServer
from cognu.mesh.join import Inviter, Self
from cognu.mesh.links import Mesh
from cognu.mesh.session import Channel
from cognu.ninep.types import OREAD
from cognu.node.base import Parts, apply_script, make_base
from cognu.node.control import control_server
from cognu.node.launcher import Launcher, read_all
from cognu.node.lending import LABEL, Lending, attach_lent
from cognu.node.listening import Listening
from cognu.node.peers import PeerExports
from cognu.node.sessions import Sessions
from cognu.node.settings import Home, Settings
from cognu.node.verbs import make_verbs
from cognu.runtime import host
from cognu.runtime.cache import CompileCache
from cognu.runtime.engine import Engine
from cognu.runtime.scheduler import Scheduler
from cognu.store.objects import Source, Store
from cognu.store.server import shared_server
from cognu.world import World

log = logging.getLogger("cognu.node")

TREE = "9p"
"""The label of a link's channel that asks for what the peer was granted."""
STORE = "store"
"""The label for objects by hash."""


class Node:
    """All parts of one node. Made by `running`, which also takes them down."""

    def __init__(self, world: World, home: Home, settings: Settings, user: str) -> None:
        self.world = world
        self.home = home
        self.settings = settings
        self.user = user
        self.started = world.clock.now()
        self.stopping = asyncio.Event()
        self.authority = Authority()
        self.processes = ProcessTable(world.clock.now)
        self.services = Services(world.clock)
        self.lending = Lending(world.random)
        self.base: Process
        self.store: Store
        self.identity: Identity
        self.book: PeerBook
        self.mesh: Mesh
        self.inviter: Inviter
        self.network: NetworkServer
        self.exports: PeerExports
        self.listening: Listening
        self.launcher: Launcher
        self.address = ""
        self._tasks: set[asyncio.Task[None]] = set()

    # -- parts that need each other, late-bound ---------------------------------------------------------------------

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        return await self.services.mount_service(chan, aname, self.base)

    async def dial(self, name: str) -> MountServer:
        return await MountServer.connect(await self.mesh.open(name, TREE), self.world.clock, "#N")

    def me(self) -> Self:
        return Self(self.identity, self.settings.name, self._addresses)

    def _addresses(self) -> tuple[str, ...]:
        port = self.address.rpartition(":")[2]
        return tuple(f"{host}:{port}" for host in self.hosts())

    def hosts(self) -> tuple[str, ...]:
        """This machine's addresses, for tickets and for peers to dial."""
        if self.settings.hosts:
            return self.settings.hosts
        host = self.settings.listen.rpartition(":")[0]
        return (host,) if host not in ("0.0.0.0", "[::]", "") else tuple(self.world.network.local_addresses())

    def peer_names(self) -> list[str]:
        return [peer.name for peer in self.book.all()]

    def sources(self) -> list[tuple[str, Source]]:
        """Peers to fetch objects from: those that gave wrong bytes last, the connected ones first."""
        lies = self.store.bad_sources
        rows = sorted(self.mesh.status(), key=lambda row: (lies.get(row.peer.name, 0), not row.connected))
        return [(row.peer.name, self._source(row.peer)) for row in rows]

    def _source(self, peer: Peer) -> Source:
        async def fetch(name: str) -> bytes:
            channel = await self.mesh.open(peer.fingerprint, STORE)
            domain = Domain(self.authority, self.base.namespace.domain)
            try:
                [root] = await self.services.attach(channel, domain, self.base)
                return await self._read_object(Namespace(domain.hold(), root), name)
            finally:
                domain.release()

        return fetch

    async def _read_object(self, namespace: Namespace, name: str) -> bytes:
        try:
            found = await finish(namespace.walk(namespace.root, ["objects", name], self.base))
            chan = await finish(namespace.open(found, OREAD, self.base))
            try:
                return await read_all(chan)
            finally:
                chan.close()
        finally:
            namespace.release()

    # -- peers ----------------------------------------------------------------------------------------------------

    def joined(self, peer: Peer) -> None:
        """A new peer was pinned on this side: its grants are in force from now on."""
        self.spawn(self.put_in_force(peer))

    async def announce(self, peer: Peer) -> None:
        """Link up with a peer, so that it learns that this node is there, and where, and that it began anew."""
        try:
            await self.mesh.connect(peer.fingerprint)
        except CognuError as error:
            log.info("%s can't be reached now: %s", peer.name, error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def listen(self) -> str:
        """Listen for links; where the port is any, at the one of the last time, for peers know it. The address."""
        address, host = self.settings.listen, self.settings.listen.rpartition(":")[0]
        disk = self.world.disk
        if address.endswith(":0") and disk.exists(self.home.port):
            before = disk.read(self.home.port).decode("ascii", "replace").strip()
            try:
                return await self.mesh.listen(f"{host}:{before}")
            except CognuError as error:
                log.warning("port %s is not to be had again, so peers must be met anew: %s", before, error)
        found = await self.mesh.listen(address)
        disk.write(self.home.port, found.rpartition(":")[2].encode())
        return found

    async def put_in_force(self, peer: Peer) -> None:
        for text in peer.granted:
            try:
                await self.exports.grant(peer.fingerprint, text)
            except CognuError as error:
                log.warning("%s is granted %s, but: %s", peer.name, text, error)

    async def on_channel(self, peer: Peer, label: str, channel: Channel) -> None:
        """A peer opened a channel: serve what its label asks for until it ends."""
        if label == TREE:
            session = await self.exports.connect(peer.fingerprint, peer.name)
            try:
                await Export(channel, session, _root_only(session)).serve()
            finally:
                self.exports.disconnect(peer.fingerprint, session)
        elif label == STORE:
            await self._serve_store(peer, channel)
        elif label.startswith(LABEL):
            await self._serve_lent(self.lending.redeem(label, peer.fingerprint), channel)
        else:
            raise FileError(E.NOATTACH, label[:40])

    async def _serve_lent(self, process: Process, channel: Channel) -> None:
        """Until either side has enough: what the peer holds open of a process must not outlive that."""
        streams = self.base.namespace.devices["d"]
        export = Export(channel, process, lambda uname, aname: attach_lent(process, aname, streams))
        ended = asyncio.ensure_future(process.ended.wait())
        ended.add_done_callback(lambda _: channel.close())
        try:
            await export.serve()
        finally:
            ended.cancel()

    async def _serve_store(self, peer: Peer, channel: Channel) -> None:
        domain = Domain(self.authority, self.base.namespace.domain)
        _, cap = self.authority.new_server(domain.pid)
        server = shared_server(self.store)
        fid = server.attach(self.base, "")
        assert isinstance(fid, Fid)
        readable = self.authority.mint(domain.pid, cap, READ | EXECUTE | GRANT, domain.pid)
        root = Chan(Handle(server, fid), domain, Cap(*readable), Path(None, "/"), Origin("#V", ()))
        session = self.processes.add(peer.name, Namespace(domain, root), root.share(), self.base)
        session.args, session.state = ["store", peer.name], State.RUNNING
        try:
            await Export(channel, session, _root_only(session)).serve()
        finally:
            self.processes.end(session, 0)

    # -- status ---------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        return {
            "name": self.settings.name,
            "fingerprint": self.identity.fingerprint,
            "home": self.home.path,
            "pid": self.world.spawn.own_pid(),
            "started": self.started,
            "listen": self.address,
            "processes": len(self.processes),
            "peers": len(self.book.all()),
            "version": __version__,
        }


def _root_only(session: Process) -> Callable[[str, str], Steps[Chan]]:
    def attach(uname: str, aname: str) -> Steps[Chan]:
        if aname:
            raise FileError(E.NOATTACH, aname)
        return session.namespace.root.share()
        yield

    return attach


@asynccontextmanager
async def running(world: World, home: Home, settings: Settings, user: str) -> AsyncIterator[Node]:
    """Start a node, and stop it in the end: everything it started ends, in reverse order."""
    node = Node(world, home, settings, user)
    async with AsyncExitStack() as stack:
        kept = Ring()
        handler = RingHandler(kept)
        logging.getLogger().addHandler(handler)
        stack.callback(handler.close)
        stack.callback(logging.getLogger().removeHandler, handler)
        home.check()
        world.disk.make_directory(home.path)
        release = world.disk.lock(home.lock)
        if release is None:
            raise FileError(E.NODERUNS, home.path)
        stack.callback(release)
        node.identity = load_identity(world, home.path)
        node.book = PeerBook(world.disk, home.path)
        node.store = Store(world, home.store)
        stack.push_async_callback(node.store.close)
        engine = Engine(host.settings(host.measure()))
        stack.callback(engine.close)
        cache = CompileCache(world, home.compiled, engine)
        stack.push_async_callback(cache.close)
        scheduler = Scheduler(engine, world.clock)
        stack.push_async_callback(scheduler.close)
        stack.push_async_callback(node.services.close)
        # The mesh ends first: a connection to a peer that is away would wait for it to say goodbye.
        node.network = NetworkServer(node.peer_names, node.dial)
        stack.push_async_callback(node.network.close)
        node.mesh = Mesh(world, node.identity, node.book, node.on_channel)
        stack.push_async_callback(node.mesh.close)
        node.launcher = Launcher(node, scheduler, cache)
        stack.push_async_callback(node.launcher.close)
        control = control_server(make_verbs(node), node.status)
        parts = Parts(
            node.store, node.network, control, node, node.launcher.launch, settings.unix, settings.name, user, kept
        )
        node.base = await make_base(world, node.authority, node.processes, parts)
        stack.push_async_callback(_end_processes, node)
        node.store.fetch_from(node.sources)
        node.exports = PeerExports(node.base, node.processes)
        stack.callback(node.exports.close)
        await apply_script(world, node.base, home.namespace, node)
        for peer in node.book.all():
            await node.put_in_force(peer)
        node.address = await node.listen()
        bind = settings.listen.rpartition(":")[0]
        node.inviter = Inviter(world, node.me(), node.book, home.path, bind, node.hosts, node.joined)
        await node.inviter.start()
        stack.push_async_callback(node.inviter.close)
        node.listening = Listening(node)
        stack.push_async_callback(node.listening.close)
        sessions = Sessions(node)
        listener = await world.network.listen_unix(home.socket, sessions.accept)
        stack.push_async_callback(listener.close)
        stack.push_async_callback(node.end_tasks)
        for peer in node.book.all():
            node.spawn(node.announce(peer))
        log.info("node %s serves %s and listens at %s", settings.name, home.socket, node.address)
        yield node


async def _end_processes(node: Node) -> None:
    """End every process, programs first, and wait for those that take a moment."""
    waiting = []
    for process in node.processes:
        if process.kill is not None:
            process.kill("the node shuts down")
            waiting.append(asyncio.create_task(process.ended.wait()))
    if waiting:
        await asyncio.wait(waiting, timeout=5)
        for task in waiting:
            task.cancel()
    for process in reversed(list(node.processes)):
        node.processes.end(process, 0, "the node shut down")
