"""The parts of one node, as plain data with what several of them need. `assembly` puts it together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from ipaddress import ip_address
from typing import Any

from cognu import __version__, compiled
from cognu.errors import CognuError, E, FileError
from cognu.files.audit import audit
from cognu.files.authority import Authority
from cognu.files.chan import Chan
from cognu.files.process import Process, ProcessTable
from cognu.files.services import Services
from cognu.mesh.addresses import leading_out
from cognu.mesh.discovery import Discovery
from cognu.mesh.identity import Identity, Peer, PeerBook
from cognu.mesh.imports import NetworkServer
from cognu.mesh.join import Inviter, Self
from cognu.mesh.links import Mesh
from cognu.node.lending import Lending, LentObjects
from cognu.node.peers import PeerExports
from cognu.node.programs import ProgramBook
from cognu.node.proved import verdict
from cognu.node.script import BaseScript
from cognu.node.seen import Seen
from cognu.node.settings import Home, Settings
from cognu.node.tokens import Tokens
from cognu.store.objects import Store
from cognu.world import World

EVERYWHERE = ("*", "0.0.0.0", "[::]", "")
"""Hosts to listen on that stand for all addresses."""
log = logging.getLogger("cognu.node")


class Node:
    """All parts of one node that others need. Made by `assembly.running`, which also takes them down."""

    def __init__(self, world: World, home: Home, settings: Settings, user: str) -> None:
        self.world = world
        self.home = home
        self.settings = settings
        self.user = user
        self.started = world.clock.now()
        self.kernel = verdict()
        self.stopping = asyncio.Event()
        self.authority = Authority()
        self.processes = ProcessTable(world.clock.now)
        self.services = Services(world.clock)
        self.lending = Lending(world.random)
        self.tokens = Tokens(world, self.authority)
        self.lent_objects = LentObjects()
        self.base: Process
        self.store: Store
        self.identity: Identity
        self.book: PeerBook
        self.mesh: Mesh
        self.discovery: Discovery
        self.seen: Seen
        self.inviter: Inviter
        self.network: NetworkServer
        self.script: BaseScript
        self.exports: PeerExports
        self.programs: ProgramBook
        self.address = ""
        self.on_linked: Callable[[], None] = lambda: None
        """Called each time a link came up."""
        self.on_granted: Callable[[str], None] = lambda _: None
        """Called with a peer's fingerprint when what this node may do there may be something else."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False

    # -- parts that need each other, late-bound ---------------------------------------------------------------------

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        return await self.services.mount_service(chan, aname, self.base)

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
        if host not in EVERYWHERE:
            return (host,)
        local = self.world.network.local_addresses()
        return leading_out(each for each in local if host != "0.0.0.0" or not each.startswith("["))

    def reachable(self) -> bool:
        """Whether another machine may know one of `hosts`, or it was said that they are to be used."""
        host = self.settings.listen.rpartition(":")[0]
        said = self.settings.hosts or host not in EVERYWHERE
        return bool(said) or any(not ip_address(each.strip("[]")).is_loopback for each in self.hosts())

    def peer_names(self) -> list[str]:
        return [peer.name for peer in self.book.all()]

    # -- peers ----------------------------------------------------------------------------------------------------

    def joined(self, peer: Peer) -> None:
        """A new peer was pinned on this side: its grants are in force from now on, and no others."""
        self.mesh.note_joined(peer.fingerprint)
        self.spawn(self._put_in_force(peer))

    def part(self, fingerprint: str) -> None:
        """A peer is none any more, or joins anew: what it was granted ends, what runs for it, tokens for it, and what
        was lent to it for what runs there."""
        self.exports.forget(fingerprint)
        self.tokens.forget(fingerprint)
        self.lending.forget(fingerprint)

    def part_anew(self, fingerprint: str) -> None:
        """The same where no link's end will end the connections that it has, which have no rights any more."""
        self.part(fingerprint)
        self.exports.end_connections(fingerprint)

    def dropped_by(self, peer: Peer) -> None:
        """A peer has dropped this node: with that ends what it was granted here, all that runs for it too."""
        self.part_anew(peer.fingerprint)
        gone = ", ".join(peer.granted) or "nothing"
        audit(f"{peer.name} ({peer.fingerprint})", f"has dropped this machine; what it was granted ended: {gone}")

    def linked(self, peer: str) -> None:
        """A link to a peer came up."""
        self.on_linked()
        self.on_granted(peer)
        self.spawn(self.script.again())

    async def announce(self, peer: Peer) -> None:
        """Link up with a peer, so that it learns that this node is there, and where, and that it began anew."""
        try:
            await self.mesh.connect(peer.fingerprint)
        except CognuError as error:
            log.info("%s can't be reached now: %s", peer.name, error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run it beside everything else until `end_tasks`, after which nothing is begun any more. What it raises goes
        to the log. None if nothing was begun; whoever waits for the task knows that it may be cancelled at any time.
        """
        if self._over:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the node failed", exc_info=error)

    async def end_tasks(self) -> None:
        self._over = True
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

    async def put_in_force(self, peer: Peer) -> list[CognuError]:
        """What the peer was granted, as far as can be; it is on record all the same. Returns what was refused."""
        refused: list[CognuError] = []
        for text in peer.granted:
            try:
                await self.exports.grant(
                    [(peer.fingerprint, text)], partial(self._check_granted, peer.fingerprint, text)
                )
            except CognuError as error:
                log.warning("%s is granted %s, but: %s", peer.name, text, error)
                self.exports.note_refused(peer.fingerprint, text, error)
                refused.append(error)
        return refused

    async def _put_in_force(self, peer: Peer) -> None:
        await self.put_in_force(peer)

    def _check_granted(self, fingerprint: str, text: str) -> None:
        """Raises NOPEER, NOGRANT if that is not so any more."""
        if text not in self.book.find(fingerprint).granted:
            raise FileError(E.NOGRANT, text)

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
            "code": compiled.STATE.said,
            "kernel": self.kernel,
        }
