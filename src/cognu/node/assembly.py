"""How a node starts and stops: the one place that makes its parts and wires them together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from cognu.devices.log import Ring, RingHandler
from cognu.devices.lookups import Lookups
from cognu.devices.registry import Registry
from cognu.errors import E, FileError
from cognu.files.process import Process
from cognu.mesh.identity import PeerBook, load_identity
from cognu.mesh.imports import NetworkServer
from cognu.mesh.join import Inviter
from cognu.mesh.links import Mesh
from cognu.mesh.session_core import Timing
from cognu.node.away import LinksFile
from cognu.node.base import UMASK, Parts, make_base
from cognu.node.channels import Channels
from cognu.node.control import control_server
from cognu.node.launcher import Launcher
from cognu.node.listening import Listening
from cognu.node.meeting import PeersFile, make_discovery
from cognu.node.naming import PeerMachines
from cognu.node.node import Node
from cognu.node.pairing import Pairings
from cognu.node.peers import PeerExports
from cognu.node.programs import ProgramBook
from cognu.node.registering import Following
from cognu.node.resources import make_resources
from cognu.node.script import BaseScript
from cognu.node.seen import Seen
from cognu.node.sessions import Sessions
from cognu.node.settings import Home, Settings, load_users
from cognu.node.telling import Asking, tell_granted
from cognu.node.verbs import make_verbs
from cognu.runtime import host
from cognu.runtime.cache import CompileCache
from cognu.runtime.engine import Engine
from cognu.runtime.runners import Runners
from cognu.runtime.scheduler import Scheduler
from cognu.store.objects import Store
from cognu.world import World, wall
from cognu.world.timing import within

log = logging.getLogger("cognu.node")

LAST_MOMENT = 5.0
"""Seconds that programs may take to end when the node does."""


@asynccontextmanager
async def running(
    world: World, home: Home, settings: Settings, user: str, umask: int = UMASK, open_files: int | None = None
) -> AsyncIterator[Node]:
    """Start a node, and stop it in the end: everything it started ends, in reverse order.

    `umask` is of whoever starts it: files of the host that are made through the node have none of its permissions.
    `open_files` is how many this process may have open, of which peers get a part; None: as many as are wanted.
    """
    node = Node(world, home, settings, user)
    async with AsyncExitStack() as stack:
        kept = _keep_log(stack)
        _take_home(node, stack)
        engine, cache, scheduler = _start_engine(node, stack)
        channels = _join_network(node, stack)
        launcher = _start_launcher(node, stack, engine, cache, scheduler)
        registry = Registry(world.clock)
        listening = Listening(node, registry)
        pairings = Pairings(node, node.discovery)
        links = LinksFile(node.mesh.away)
        peers = PeersFile(node)
        following = Following(node, registry)
        _tell_of_peers(node, links, peers, following)
        control = control_server({**make_verbs(node, listening), **pairings.verbs()}, node.status, links, peers)
        parts = Parts(
            node.store, node.network, control, node, launcher.launch,
            settings.unix, settings.name, user, home.path, kept, umask, lambda: node.settings.labels,
            PeerMachines(node), _make_lookups(node, stack), registry, kept=launcher.keeping.text,
            resources=make_resources(node, stack),
        )  # fmt: skip
        node.authority.users = load_users(world.disk, home)
        node.base = await make_base(world, node.authority, node.processes, parts)
        stack.push_async_callback(_end_processes, node)
        node.store.fetch_from(channels.sources)
        node.exports = PeerExports(node.base, node.processes, open_files)
        stack.callback(node.exports.close)
        stack.callback(node.tokens.close)
        node.script = BaseScript(world, node.base, home.namespace, node)
        await node.script.begin()
        await _open_doors(node, stack, listening)
        following.begin()
        stack.push_async_callback(pairings.close)
        for peer in node.book.all():
            node.spawn(node.announce(peer))
        log.info("node %s serves %s and listens at %s", settings.name, home.socket, node.address)
        yield node


def _keep_log(stack: AsyncExitStack) -> Ring:
    """What is logged from now on, for `/dev/log`."""
    kept = Ring()
    handler = RingHandler(kept)
    logging.getLogger().addHandler(handler)
    stack.callback(handler.close)
    stack.callback(logging.getLogger().removeHandler, handler)
    return kept


def _take_home(node: Node, stack: AsyncExitStack) -> None:
    """Lock the home and read what is in it. Raises `FileError`: NODERUNS if another node has it."""
    world, home = node.world, node.home
    home.check()
    world.disk.make_directory(home.path)
    release = world.disk.lock(home.lock)
    if release is None:
        raise FileError(E.NODERUNS, home.path)
    stack.callback(release)
    world.disk.sweep(home.path)
    node.identity = load_identity(world, home.path)
    node.book = PeerBook(world.disk, home.path)
    node.programs = ProgramBook(world.disk, home.grants)
    node.store = Store(world, home.store)
    stack.push_async_callback(node.store.close)


def _start_engine(node: Node, stack: AsyncExitStack) -> tuple[Engine, CompileCache, Scheduler]:
    """What runs programs in this process."""
    engine = Engine(host.settings(host.measure()))
    stack.callback(engine.close)
    cache = CompileCache(node.world, node.home.compiled, engine)
    stack.push_async_callback(cache.close)
    scheduler = Scheduler(engine, node.world.clock)
    stack.push_async_callback(scheduler.close)
    stack.push_async_callback(node.services.close)
    return engine, cache, scheduler


def _join_network(node: Node, stack: AsyncExitStack) -> Channels:
    """`/n` and the mesh, which listens later. Gives the channels between them."""
    channels = Channels(node)
    # The mesh ends first: a connection to a peer that is away would wait for it to say goodbye.
    node.network = NetworkServer(node.peer_names, channels.dial, node.settings.name)
    stack.push_async_callback(node.network.close)
    timing = Timing(retention=node.settings.retention)
    node.mesh = Mesh(node.world, node.identity, node.book, channels.answer, timing)
    stack.push_async_callback(node.mesh.close)
    node.discovery = make_discovery(node)
    stack.push_async_callback(node.discovery.close)
    node.seen = Seen(node.world.clock, node.book, node.mesh.is_linked)
    node.seen.begin()
    stack.push_async_callback(node.seen.close)
    return channels


def _tell_of_peers(node: Node, links: LinksFile, peers: PeersFile, following: Following) -> None:
    """Who looks at peers, or at /n, is told when there is something else to see."""

    def book_changed() -> None:
        node.network.names_changed()
        node.discovery.peers_changed()
        following.look()

    def link_changed() -> None:
        node.seen.look()
        links.changed()
        peers.changed()
        following.look()

    def linked() -> None:
        node.seen.look()
        peers.changed()
        following.look()

    node.book.on_change = book_changed
    node.discovery.on_change = peers.changed
    node.mesh.on_away = link_changed
    node.on_linked = linked
    node.on_granted = Asking(node, following.look).ask


def _start_launcher(
    node: Node, stack: AsyncExitStack, engine: Engine, cache: CompileCache, scheduler: Scheduler
) -> Launcher:
    """What starts programs, isolated or not. Raises `FileError` if all are to be isolated and the host has no wall."""
    runners = Runners(node.world, engine.settings, node.processes, node.settings.runners)
    launcher = Launcher(node, scheduler, cache, runners)
    stack.push_async_callback(launcher.close)
    if node.settings.isolate == "all":
        wall.check()  # better no node than one that does less than it was told
        runners.warm()
    return launcher


def _make_lookups(node: Node, stack: AsyncExitStack) -> Lookups:
    lookups = Lookups(node.processes.quota_of)
    stack.push_async_callback(lookups.close)
    return lookups


async def _open_doors(node: Node, stack: AsyncExitStack, listening: Listening) -> None:
    """Peers' grants come into force, and only then may peers, those who join, and this user's sessions come in."""
    node.mesh.on_linked = node.linked
    node.mesh.on_dropped = node.dropped_by
    node.book.on_anew = node.part_anew
    for peer in node.book.all():
        await node.put_in_force(peer)
    node.exports.on_changed = lambda peer: _tell_granted(node, peer)
    node.address = await node.listen()
    node.spawn(node.discovery.start(node.address))  # later: nobody who waits for the node waits for that
    home, bind = node.home, node.settings.listen.rpartition(":")[0]
    node.inviter = Inviter(node.world, node.me(), node.book, home.path, bind, node.hosts, node.joined)
    await node.inviter.start()
    stack.push_async_callback(node.inviter.close)
    stack.push_async_callback(listening.close)
    listener = await node.world.network.listen_unix(home.socket, Sessions(node).accept)
    stack.push_async_callback(listener.close)
    stack.push_async_callback(node.end_tasks)


def _tell_granted(node: Node, fingerprint: str) -> None:
    peer = node.book.get(fingerprint)
    if peer is not None:
        node.spawn(tell_granted(node, peer))


async def _end_processes(node: Node) -> None:
    """End every process, programs first, and wait for those that take a moment."""
    killed = [process for process in node.processes if process.kill is not None]
    for process in killed:
        if process.kill is not None:  # it may have ended with one before
            process.kill("the node shuts down")
    try:
        await within(node.world.clock, LAST_MOMENT, _all_ended(killed))
    except TimeoutError:
        log.warning("programs are given up that did not end within %g s", LAST_MOMENT)
    for process in reversed(list(node.processes)):
        node.processes.end(process, 0, "the node shut down")


async def _all_ended(processes: Iterable[Process]) -> None:
    for process in processes:
        await process.ended.wait()
