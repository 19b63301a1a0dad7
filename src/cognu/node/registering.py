"""Other machines' services: what each says of its own, in the registry of this one as long as it may be read there.

A machine that grants `read:/mnt/registry/own` has its services here too. Each machine writes its own alone, and what it
says is read from it itself, so there is nothing to agree on: no copy of a copy, no vote. The file is watched, and read
again when it changed, at most once in a second. When its link is cut what it said stays, marked, for an hour; when it
is dropped, or takes the grant back, nothing of it is left at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from cognu.devices.registry import MAX_TEXT, SECOND, Registry, Service, parse_services
from cognu.errors import CognuError, E, FileError
from cognu.files.dispatch import dispatch
from cognu.files.steps import finish
from cognu.files.watching import Inbox, Watching, watch
from cognu.kernel import READ
from cognu.ninep.types import OREAD
from cognu.ninep.watches import CONTENT, ENDS, GONE, REVOKED
from cognu.node.node import Node
from cognu.world.timing import end_tasks, within

log = logging.getLogger("cognu.registry")

AGAIN_SECONDS: Final = 60.0
"""A machine that grants nothing yet is asked again so often; and at once when something is known to be otherwise."""
LEAST_SECONDS: Final = 1.0
"""Between two reads of one machine's services, however often it says that they changed."""
ASK_SECONDS: Final = 20.0
KEEP_SECONDS: Final = 3600.0
"""How long the services of a machine that is away are kept."""
PIECE: Final = 1 << 16
_NOT_GIVEN: Final = frozenset({E.NOENT, E.ACCES, E.PERM, E.REVOKED, E.NOTDIR, E.ISDIR})
_NONSENSE: Final = frozenset({E.BADMESSAGE, E.TOOBIG})


def path_of(name: str) -> str:
    """A machine's file, whatever is mounted over its tree here."""
    return f"#N/{name}/mnt/registry/own"


class Following:
    """One task for each peer, and one for services here that must be written again in time; all are the node's."""

    def __init__(self, node: Node, registry: Registry) -> None:
        self._node = node
        self._registry = registry
        self._wakes: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._begun = False
        registry.on_change.append(self._changed.set)

    def begin(self) -> None:
        """The node is up."""
        self._begun = True
        self._node.spawn(self._expire())
        self.look()

    def look(self) -> None:
        """There are other peers, names or links than before."""
        if not self._begun:
            return
        peers = {peer.fingerprint: peer.name for peer in self._node.book.all()}
        for key in self._registry.machines():
            if key in peers:
                self._registry.called(key, peers[key])
            else:
                self._registry.forget(key)
        for key in peers:
            if key not in self._wakes:
                self._wakes[key] = asyncio.Event()
                self._node.spawn(self._follow(key, self._wakes[key]))
        for wake in self._wakes.values():
            wake.set()

    async def _expire(self) -> None:
        while True:
            self._changed.clear()
            seconds = self._registry.expire()
            await self._either(self._changed.wait(), seconds)

    async def _follow(self, key: str, wake: asyncio.Event) -> None:
        """One peer, until it is none."""
        try:
            while (name := self._name(key)) is not None:
                wake.clear()
                if self._node.mesh.is_linked(key):
                    await self._while_told(key, name, wake)
                seconds = self._mark(key)
                await self._either(wake.wait(), AGAIN_SECONDS if seconds is None else min(seconds, AGAIN_SECONDS))
        finally:
            del self._wakes[key]
            self._registry.forget(key)

    def _name(self, key: str) -> str | None:
        peer = self._node.book.get(key)
        return None if peer is None else peer.name

    def _mark(self, key: str) -> float | None:
        """Whether the peer is away, in the registry; seconds until what it said is dropped, None if that is not due."""
        if self._node.mesh.is_linked(key):
            return None
        self._registry.away(key)
        since = self._registry.away_since(key)
        if since is None:
            return None
        left = KEEP_SECONDS - (self._node.world.clock.now() - since) / SECOND
        if left <= 0:
            self._registry.forget(key)
        return max(left, 0.0) or None

    async def _while_told(self, key: str, name: str, wake: asyncio.Event) -> None:
        """Have what a peer says here, until it says no more, or what it says can't be had."""
        inbox, watching = Inbox(), None
        clock = self._node.world.clock
        try:
            watching = await within(clock, ASK_SECONDS, self._watch(name, inbox))
            while True:
                services = await within(clock, ASK_SECONDS, self._read(name))
                current = self._name(key)
                if current is None:
                    return
                self._registry.says(key, current, services)
                if not await self._told(key, inbox, wake):
                    return
                await clock.sleep(LEAST_SECONDS)
                name = self._name(key) or name
        except (CognuError, TimeoutError) as error:
            self._failed(key, name, error)
        finally:
            if watching is not None:
                watching.end()

    def _failed(self, key: str, name: str, error: CognuError | TimeoutError) -> None:
        row = error.error if isinstance(error, CognuError) else E.TIMEDOUT
        if row in _NONSENSE:
            log.warning("what %s says of its services is not taken: %s", name, error)
        if row in _NONSENSE | _NOT_GIVEN:
            self._registry.forget(key)
        else:
            log.info("the services of %s can't be read now: %s", name, str(error) or row.text)
            self._registry.away(key)

    async def _told(self, key: str, inbox: Inbox, wake: asyncio.Event) -> bool:
        """Wait until a peer's services are others, or are forgotten here; False if that is not told any more."""
        while True:
            heard = await self._either(inbox.next(), self._mark(key), wake.wait())
            if heard is not None:
                if heard.kind & (REVOKED | GONE):
                    self._registry.forget(key)
                return not heard.kind & ENDS
            wake.clear()
            if self._name(key) is None:
                return False
            if self._node.mesh.is_linked(key):
                self._registry.back(key)
                if key not in self._registry.machines():  # it was away for too long, and the session lasted
                    return True

    async def _either(
        self, work: Coroutine[Any, Any, Any], seconds: float | None, *more: Coroutine[Any, Any, Any]
    ) -> Any:
        """What `work` gives; None if anything else, or the time, comes first."""
        first = asyncio.ensure_future(work)
        others = [asyncio.ensure_future(each) for each in more]
        if seconds is not None:
            others.append(asyncio.ensure_future(self._node.world.clock.sleep(seconds)))
        try:
            await asyncio.wait([first, *others], return_when=asyncio.FIRST_COMPLETED)
            return first.result() if first.done() else None
        finally:
            await end_tasks(first, *others)

    async def _watch(self, name: str, inbox: Inbox) -> Watching:
        base = self._node.base
        found = await finish(base.namespace.find(path_of(name), base.cwd, base))
        try:
            return await finish(watch(base.namespace, found, CONTENT, inbox))
        finally:
            found.close()

    async def _read(self, name: str) -> tuple[Service, ...]:
        """Raises TOOBIG, BADMESSAGE, and what reading does."""
        base = self._node.base
        found = await finish(base.namespace.find(path_of(name), base.cwd, base))
        try:
            chan = await finish(base.namespace.open(found, OREAD, base))
        except BaseException:
            found.close()
            raise
        try:
            data = b""
            while piece := await finish(dispatch(chan, READ, chan.server.read, chan.fid, len(data), PIECE)):
                data += bytes(piece)
                if len(data) > MAX_TEXT:
                    raise FileError(E.TOOBIG, "services", f"{MAX_TEXT} bytes")
        finally:
            chan.close()
        return parse_services(data.decode("utf-8", "replace"))
