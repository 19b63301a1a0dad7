"""Machines on the same networks: known peers' addresses, who is near but not joined, and who waits to be paired with.

What is heard is believed in nothing. An address is one more to try, where whoever answers must prove the pinned key;
a name is for people to choose by. So a liar can make this node dial a few addresses in vain, no more: rows, addresses
and how often a peer's are told are bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from cognu.mesh.announcement import (
    INSTANCE_BYTES,
    KIND,
    Announcement,
    addresses_of,
    instance_bytes,
    parse_service,
    proof_of,
    to_service,
    valid_number,
)
from cognu.world import Senses
from cognu.world.nearby import Neighbourhood, Neighbours, Service
from cognu.world.timing import end_tasks

log = logging.getLogger("cognu.discovery")

MODES = ("on", "pairing", "off")
"""Announced and listened for: always; only while one pairs; never."""
MOST_NEAR = 256
"""Machines that are kept; of more, only known peers, in place of one that is none."""
MOST_OF_A_PEER = 4
"""Announcements of one peer that are kept: it may be heard under the one before for a while."""
TELL_SECONDS = 2.0
"""Between two times that a peer's addresses are told."""
LOOPBACK = ("127.", "[::1]", "localhost")


class Meeting(Senses, Protocol):
    """What of a world discovery has."""

    @property
    def neighbours(self) -> Neighbours: ...


@dataclass(frozen=True)
class Me:
    """This machine: `name` is what it calls itself."""

    fingerprint: str
    name: str


@dataclass(frozen=True)
class Near:
    """A machine that was heard. `peer` is its fingerprint if it is a known one's, else empty.

    `addresses` are HOST:PORT of its links; `joining` where one pairs with it, by the invitation `number`, if it waits
    for that; then it has a `name`, by its own word. `since` is ns of the wall clock.
    """

    instance: str
    peer: str
    addresses: tuple[str, ...]
    since: int
    name: str = ""
    number: str = ""
    joining: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairing:
    """A machine that waits to be paired with, by its own word: any may say so, under any name and number."""

    name: str
    addresses: tuple[str, ...]
    number: str


class _Heard(NamedTuple):
    said: Announcement
    row: Near


class _Inbox:
    """What somebody who looks is to be told; of too much, the latest."""

    def __init__(self) -> None:
        self.rows: deque[Pairing] = deque(maxlen=MOST_NEAR)
        self._came = asyncio.Event()

    def put(self, row: Pairing) -> None:
        self.rows.append(row)
        self._came.set()

    async def get(self) -> Pairing:
        while not self.rows:
            self._came.clear()
            await self._came.wait()
        return self.rows.popleft()


class _Table:
    """What is heard now, bounded, in the order in which it was first heard."""

    def __init__(self) -> None:
        self.rows: dict[bytes, _Heard] = {}

    def has_room(self, instance: bytes, peer: str) -> bool:
        """Make room for one more, if it may have some: at the cost of a stranger, or of what the same peer said first.

        What a peer said can be repeated by others, so that one peer's are few, too.
        """
        if instance in self.rows:
            return True
        same = [key for key, (_, row) in self.rows.items() if peer and row.peer == peer]
        if len(same) >= MOST_OF_A_PEER:
            del self.rows[same[0]]
        elif len(self.rows) >= MOST_NEAR:
            strangers = [key for key, (_, row) in self.rows.items() if not row.peer]
            if not peer or not strangers:
                return False
            del self.rows[strangers[0]]
        return True

    def put(self, said: Announcement, row: Near) -> Near | None:
        """What was there before."""
        before = self.rows.get(said.instance)
        self.rows[said.instance] = _Heard(said, row if before is None else replace(row, since=before.row.since))
        return None if before is None else before.row

    def peers_are(self, peer_of: Callable[[Announcement], str]) -> None:
        for key, (said, row) in self.rows.items():
            self.rows[key] = _Heard(said, replace(row, peer=peer_of(said)))


class Finder(Protocol):
    """What pairing has of discovery."""

    async def announce_pairing(self, number: str, port: int) -> Callable[[], None]:
        """Say on the local networks that one joins this machine at `port`, by invitation `number`, until what is
        returned is called, which may be twice. The last one holds. Nothing is said where discovery is off."""

    def pairing(self) -> AsyncGenerator[Pairing, None]:
        """Those that wait now, then each as it is heard; the same again if it changes.

        It never ends by itself: whoever asked bounds it, and ends it with `aclose`. Where discovery is off it has none.
        """


class Discovery:
    """A `Finder`, and what of the peers' addresses goes to `heard` (fingerprint, addresses). End it with `close`.

    `peers` gives the fingerprints of known peers, `mode` is one of MODES.
    """

    def __init__(
        self,
        world: Meeting,
        me: Me,
        mode: str,
        peers: Callable[[], Iterable[str]],
        heard: Callable[[str, tuple[str, ...]], None],
    ) -> None:
        self._world = world
        self._me = me
        self._mode = mode
        self._peers = peers
        self._tell = heard
        self._port = 0
        self._hosts: tuple[str, ...] = ()
        self._families: tuple[int, ...] = ()
        self._instance = b""
        self._offer: tuple[str, int] | None = None
        self._said: tuple[str, int] | None = None  # the offer that was announced last
        self._offers = 0
        self._place: Neighbourhood | None = None
        self._users = 0
        self._lock = asyncio.Lock()  # guards _place and what is announced
        self._near = _Table()
        self._known = frozenset(peers())
        self._resting: dict[str, tuple[str, ...]] = {}  # told a moment ago; what is to be told next
        self._waiting: set[_Inbox] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when `near` has another answer."""

    async def start(self, address: str) -> None:
        """Links come in at `address`, HOST:PORT. The loopback is no network: then nothing is said or heard."""
        host, _, port = address.rpartition(":")
        if host.startswith(LOOPBACK):
            self._mode = "off"
        self._hosts = () if host in ("*", "0.0.0.0", "[::]") else (host.strip("[]"),)
        self._families = (4,) if host == "0.0.0.0" else (4, 6)
        self._port = int(port)
        if self._mode == "on":
            await self._enter()

    @property
    def mode(self) -> str:
        """One of MODES; `off` too where this machine is in no network."""
        return self._mode

    async def close(self) -> None:
        """Say goodbye, and hear no more. Who iterates over `pairing` is to be ended by its owner."""
        self._closed = True
        await end_tasks(*self._tasks)
        async with self._lock:
            place, self._place = self._place, None
            self._mode = "off"
        if place is not None:
            await place.close()

    def near(self) -> list[Near]:
        """All that are heard now, those that wait to be paired with first, then by name and instance."""
        rows = [heard.row for heard in self._near.rows.values()]
        return sorted(rows, key=lambda row: (not row.number, row.name, row.instance))

    # -- pairing --

    async def announce_pairing(self, number: str, port: int) -> Callable[[], None]:
        if not valid_number(number):
            raise ValueError(f"number {number!r}")
        self._offers += 1
        mine = self._offers
        self._offer = (number, port)
        try:
            await self._enter()
        except BaseException:
            self._offer = None
            raise

        def end() -> None:
            nonlocal mine
            if mine == 0:
                return
            if mine == self._offers:
                self._offer = None
            mine = 0
            self._spawn(self._leave())

        return end

    async def pairing(self) -> AsyncGenerator[Pairing, None]:
        inbox = _Inbox()
        await self._enter()
        try:
            for row in self.near():
                if row.number:
                    inbox.put(_pairing(row))
            self._waiting.add(inbox)
            while True:
                yield await inbox.get()
        finally:
            self._waiting.discard(inbox)
            self._spawn(self._leave())  # whoever ends it may be cancelled, and then must not wait

    # -- being in the network --

    async def _enter(self) -> None:
        """Whoever calls it calls `_leave` later, but for `start`, and but for a call that fails or is cancelled."""
        self._users += 1
        try:
            async with self._lock:
                if self._mode != "off":
                    if self._place is None:
                        self._instance = self._world.random.bytes(INSTANCE_BYTES)
                        self._place = await self._world.neighbours.meet(KIND, self, self._families)
                    await self._say()
        except BaseException:
            self._spawn(self._leave())
            raise

    async def _leave(self) -> None:
        async with self._lock:
            self._users -= 1
            if self._place is None:
                return
            if self._users:
                await self._say()
                return
            place, self._place = self._place, None
            self._near.rows.clear()
            await place.close()
        self.on_change()

    async def _say(self) -> None:
        assert self._place is not None
        if self._offer != self._said:
            # Under another instance: who heard the old text before may pass over it when it is said again.
            self._instance, self._said = self._world.random.bytes(INSTANCE_BYTES), self._offer
        said = Announcement(self._instance)
        if self._mode == "on":
            said = replace(said, proof=proof_of(self._me.fingerprint, self._instance))
        if self._offer is not None:
            number, port = self._offer
            said = replace(said, name=self._me.name, number=number, join_port=port)
        worth = bool(said.proof or said.number)
        service = to_service(said, self._port)._replace(hosts=self._hosts)
        await self._place.announce(service if worth else None)

    async def _say_anew(self) -> None:
        """Under another instance: nobody shall see that who was there is here now, but those who know it."""
        async with self._lock:
            if self._place is not None:
                self._instance = self._world.random.bytes(INSTANCE_BYTES)
                await self._say()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in a task that ends with this object."""
        if self._closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("discovery failed", exc_info=error)

    # -- what is heard: `Hearing` --

    def heard(self, service: Service) -> None:
        said = parse_service(service)
        if said is None:
            self.gone(service.instance)
            return
        peer = self._peer_of(said)
        if said.instance == self._instance:
            return
        links = addresses_of(service, service.port)
        if peer and links:
            self._hand_on(peer, links)
        if not self._near.has_room(said.instance, peer):
            return
        joining = addresses_of(service, said.join_port) if said.number else ()
        row = Near(service.instance, peer, links, self._world.clock.now(), said.name, said.number, joining)
        before = self._near.put(said, row)
        if before is None or replace(before, since=row.since) != row:
            if row.number:
                self._offer_to_all(row)
            self.on_change()

    def gone(self, instance: str) -> None:
        if self._near.rows.pop(instance_bytes(instance), None) is not None:
            self.on_change()

    def moved(self) -> None:
        self._spawn(self._say_anew())

    def peers_changed(self) -> None:
        """The known peers, or what is known of them, may be others than before."""
        known = frozenset(self._peers())
        if known != self._known:
            self._known = known
            self._near.peers_are(self._peer_of)
        self.on_change()

    def _peer_of(self, said: Announcement) -> str:
        if said.proof:
            for peer in self._peers():
                if proof_of(peer, said.instance) == said.proof:
                    return peer
        return ""

    def _offer_to_all(self, row: Near) -> None:
        for inbox in self._waiting:
            inbox.put(_pairing(row))

    def _hand_on(self, peer: str, addresses: tuple[str, ...]) -> None:
        if peer in self._resting:
            self._resting[peer] = addresses
            return
        self._resting[peer] = ()
        self._tell(peer, addresses)
        self._spawn(self._rest(peer))

    async def _rest(self, peer: str) -> None:
        """Tell of the peer again when TELL_SECONDS are over, if there is something to tell by then."""
        try:
            while True:
                await self._world.clock.sleep(TELL_SECONDS)
                addresses, self._resting[peer] = self._resting[peer], ()
                if not addresses:
                    return
                self._tell(peer, addresses)
        finally:
            del self._resting[peer]


def _pairing(row: Near) -> Pairing:
    return Pairing(row.name, row.joining, row.number)
