"""`cognu listen`: a read-only tree for ordinary 9P clients, on a Unix socket or loopback.

Whoever connects costs a socket and nothing more until it attached: the process and the copy of the namespace that serve
it are made when its token was found good. One that does not attach in time is hung up on.

What is listened for is in the registry: its address, tree and dialect, and neither its token nor its patterns. Other
machines are told of 127.0.0.1 alone, which the `/net` of this machine leads to (`net` is granted for that).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from base64 import b32encode

from cognu.devices.registry import ADDRESS, Registry, Service
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.process import Process
from cognu.files.shown import Shown
from cognu.files.steps import Steps
from cognu.ninep.messages import Dialect
from cognu.node.exporting import check_export, exported
from cognu.node.node import Node
from cognu.world import Listener, Stream

log = logging.getLogger("cognu.node")

LOOPBACK = ("127.", "[::1]", "localhost")
ATTACH_SECONDS = 20.0
"""How long a connection may take to attach."""
TOLD_NS = 60_000_000_000
"""Of those that are hung up on at once the log tells so often at most."""
MOST_CONNECTIONS = 256
"""Of one listener at a time."""


class Listening:
    """The listeners of one node. Nothing but Unix sockets and loopback is ever served in clear text."""

    def __init__(self, node: Node, registry: Registry) -> None:
        self._node = node
        self._registry = registry
        self._listeners: list[Listener] = []
        self._last = 0

    async def listen(self, address: str, shown: Shown, dialect: str | None) -> tuple[str, str | None]:
        """Serve a tree from now on: the real address, and for loopback the token that attaching needs.

        The token is the attach name (aname), for every local user can connect there. `dialect` is the only one spoken,
        if given. Raises PERM for any other address, NOENT, ADDRINUSE, USAGE.
        """
        if dialect not in (None, *(known.value for known in Dialect)):
            raise FileError(E.USAGE, dialect or "", ", ".join(known.value for known in Dialect))
        await check_export(self._node, shown)
        network = self._node.world.network
        dialects = tuple(known for known in Dialect if dialect in (None, known.value))
        if address.startswith("/"):
            token = ""
            listener = await network.listen_unix(address, _Door(self._node, shown, token, dialects).accept)
        else:
            if not address.startswith(LOOPBACK):
                raise FileError(E.PERM, address, "9P in clear text is for Unix sockets and loopback; peers use join")
            token = b32encode(self._node.world.random.bytes(15)).decode().lower()
            listener = await network.listen_tcp(address, _Door(self._node, shown, token, dialects).accept)
        self._listeners.append(listener)
        self._offer(listener, shown.path, dialect)
        return listener.address, token or None

    def _offer(self, listener: Listener, tree: str, dialect: str | None) -> None:
        """What can't be registered is served all the same."""
        self._last += 1
        host, _, port = ("", "", "") if listener.address.startswith("/") else listener.address.rpartition(":")
        address = f"tcp!{host.strip('[]')}!{port}" if host else f"unix!{listener.address}"
        about = [("kind", "9p"), (ADDRESS, address), ("tree", tree), *([("dialect", dialect)] if dialect else [])]
        try:
            self._registry.offer(Service(f"9p:{self._last}", tuple(about)), listener, told=host == "127.0.0.1")
        except FileError as error:
            log.warning("%s is served, and not in the registry: %s", listener.address, error)

    async def unlisten(self, address: str) -> None:
        """Stop what `listen` began there, by the address that it gave; its connections end. Raises NOLISTENER."""
        for listener in self._listeners:
            if listener.address == address:
                self._listeners.remove(listener)
                self._registry.release(listener)
                await listener.close()
                return
        there = ", ".join(listener.address for listener in self._listeners)
        raise FileError(E.NOLISTENER, address, f"there is {there}" if there else "")

    async def close(self) -> None:
        for listener in self._listeners:
            self._registry.release(listener)
            await listener.close()
        self._listeners.clear()


class _Door:
    """What is served at one address, and to how many."""

    def __init__(self, node: Node, shown: Shown, token: str, dialects: tuple[Dialect, ...]) -> None:
        self.node = node
        self.shown = shown
        self.dialects = dialects
        self._token = token.encode()
        self.inside = 0
        self._refused = 0  # how many since the log was told
        self._told: int | None = None  # when that was, in ns

    def opens_with(self, aname: str) -> bool:
        """Whether it is the token, in a time that does not depend on how much of it is right."""
        return not self._token or hmac.compare_digest(aname.encode("utf-8", "replace"), self._token)

    async def accept(self, stream: Stream) -> None:
        if self.inside >= MOST_CONNECTIONS:
            self._refuse(stream)
            return
        await _Guest(self, stream).serve()

    def _refuse(self, stream: Stream) -> None:
        """One line for the first, and for those of a minute: a flood is not to push what else was logged out."""
        now = self.node.world.clock.monotonic()
        if self._told is not None and now - self._told < TOLD_NS:
            self._refused += 1
            return
        more = f", and {self._refused} before it" if self._refused else ""
        log.warning("%s is hung up on%s: %d are connected there", stream.peer, more, self.inside)
        self._refused, self._told = 0, now


class _Guest:
    """One connection: nobody's until it attached, then a process of its own."""

    def __init__(self, door: _Door, stream: Stream) -> None:
        self._door = door
        self._stream = stream
        self._making = asyncio.Lock()  # guards the next one: two attaches may be under way
        self._session: Process | None = None
        self._over = False
        # Up to the first attach there is no fid, so the base, whose process it is until then, can't be reached.
        self._export = Export(stream, door.node.base, self._attach, dialects=door.dialects)

    async def serve(self) -> None:
        watch = asyncio.get_running_loop().create_task(self._hang_up_on_the_idle())
        self._door.inside += 1
        try:
            await self._export.serve()
        finally:
            # The wait comes last: it may be cancelled.
            self._over = True
            self._door.inside -= 1
            if self._session is not None:
                self._door.node.processes.end(self._session, 0)
            watch.cancel()
            await asyncio.wait([watch])

    async def _hang_up_on_the_idle(self) -> None:
        await self._door.node.world.clock.sleep(ATTACH_SECONDS)
        if self._session is None:
            log.info("%s did not attach within %g s", self._stream.peer, ATTACH_SECONDS)
            self._stream.close()

    def _attach(self, uname: str, aname: str) -> Steps[Chan]:
        if not self._door.opens_with(aname):
            raise FileError(E.NOATTACH, "aname", "the token that `cognu listen` printed is asked for")
        session: Process = yield self._made()
        return session.namespace.root.share()

    async def _made(self) -> Process:
        async with self._making:
            if self._session is None:
                session = await exported(self._door.node, self._door.shown, "listen")
                if self._over:
                    self._door.node.processes.end(session, 0)
                    raise FileError(E.CANCELED)
                self._session = self._export.calls.process = session
            return self._session
