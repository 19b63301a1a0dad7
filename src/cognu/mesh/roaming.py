"""Links of a machine that moves: when the network may be another, and when to look for a nearer way to a peer.

There are no reserve links: another address is dialled when it is needed. A link that is cut is found dead within
`Timing.answer`, and dialling all addresses a little apart (`dialling.race`) then takes three round trips more. A link
kept in reserve would save these, and cost messages day and night, on both machines, for each pair of addresses. So that
the nearest way is used though another answered first, the side that dialled looks from time to time: it connects to the
other addresses, one by one, and goes over to one that is clearly nearer.

This machine's addresses are looked at every two seconds, and when the host says that they are others. That, a clock
that jumps, and a pause that took too long (the machine was asleep) count as another network: links are asked whether
they live, and who pauses between dials dials.

A peer that was linked since this node started, and whose session is lost, is dialled on, with pauses that grow to a
minute, so that two machines come together again without anybody's doing. While the session is kept it dials by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Set
from contextlib import suppress
from typing import Final

from cognu.mesh.liveness import SECOND
from cognu.world import Senses
from cognu.world.timing import end_tasks, within

log = logging.getLogger("cognu.mesh")

LOOK_SECONDS: Final = 2.0
GATHER_SECONDS: Final = 0.1
"""After the host said something, for seldom does one thing alone change."""
LATE_SECONDS: Final = 5.0
"""A look that comes so late, or a wall clock that went so much further than the other, means that time was lost."""
SEEK_FIRST: Final = 5.0
"""Seconds from a link's beginning until a nearer way is looked for."""
SEEK_AGAIN: Final = 300.0
SEEK_SOON: Final = 1.0
"""When the network changed, or a new address was heard of."""
RETURN_FIRST: Final = 5.0
"""Seconds of the first pause between dials of a peer whose session is lost, and of the longest."""
RETURN_LAST: Final = 60.0
HANDSHAKE_TRIPS: Final = 3
"""Round trips until a peer has proved its key: TCP's, TLS's, and the listener's greeting."""
LEAST_GAIN: Final = 1_000_000
"""Nanoseconds of a round trip for which it is worth to change the way."""


def host_of(address: str) -> str:
    """The host of `HOST:PORT`, IPv6 in brackets."""
    return address.rpartition(":")[0]


def clearly_nearer(took: int, shortest: int | None) -> bool:
    """Whether a round trip of `took` ns is worth leaving a way whose shortest is that: by a third at least, so that two
    like ways do not take turns. What was not measured is not left."""
    return shortest is not None and 3 * took < 2 * shortest and shortest - took > LEAST_GAIN


class Change:
    """What tells that the network may be another than at the look before."""

    def __init__(self) -> None:
        self._wall = self._monotonic = 0
        self._hosts: frozenset[str] | None = None

    def look(self, wall: int, monotonic: int, hosts: Set[str] | None) -> tuple[bool, frozenset[str]]:
        """Whether it may be, and which hosts are not this machine's any more. Times in ns, `hosts` are all it has; None
        if that could not be had, then they count as the same."""
        passed, wall_passed = monotonic - self._monotonic, wall - self._wall
        before = self._hosts
        if hosts is not None:
            self._hosts = frozenset(hosts)
        self._wall, self._monotonic = wall, monotonic
        if before is None or self._hosts is None:
            return False, frozenset()
        late = passed > (LOOK_SECONDS + LATE_SECONDS) * SECOND
        jumped = abs(wall_passed - passed) > LATE_SECONDS * SECOND
        return late or jumped or before != self._hosts, before - self._hosts


class Roaming:
    """The looks of one mesh: one task, from `begin` to `close`, and one for each search."""

    def __init__(
        self,
        world: Senses,
        interfaces: Callable[[], Mapping[str, str]],
        changed: Callable[[Set[str]], None],
        seek: Callable[[str], Awaitable[float | None]],
        follow: Callable[[Callable[[], None]], Callable[[], None] | None],
    ) -> None:
        """`interfaces` and `follow` are the network's; `changed` is given the hosts that are not this machine's any
        more; `seek` seeks a nearer way to a peer, or any, and gives in how many seconds to do so again, at the latest.
        """
        self._world = world
        self._interfaces = interfaces
        self._changed = changed
        self._seek = seek
        self._follow = follow
        self._said = asyncio.Event()  # by the host, that something is another
        self._unfollow: Callable[[], None] | None = None
        self._change = Change()
        self._complained = False  # since the host last told its addresses
        self._due: dict[str, int] = {}
        self._searches: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """There is a session; may be called again."""
        if self._looking is None:
            if self._unfollow is None:
                self._unfollow = self._follow(self._said.set)  # first, so that nothing is between
            self._look()
            self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def close(self) -> None:
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None
        await end_tasks(*([self._looking] if self._looking is not None else []))
        await end_tasks(*self._searches.values())

    def seek_later(self, fingerprint: str) -> None:
        """A link came up. What is due sooner stays so."""
        self._again(fingerprint, SEEK_FIRST)

    def seek_soon(self, fingerprint: str) -> None:
        self._due[fingerprint] = self._after(SEEK_SOON)

    def forget(self, fingerprint: str) -> None:
        """Ends a search for a peer's address."""
        self._due.pop(fingerprint, None)
        search = self._searches.get(fingerprint)
        if search is not None:
            search.cancel()

    def moved(self, gone: Set[str] = frozenset()) -> None:
        self._changed(gone)
        for fingerprint in self._due:
            self._due[fingerprint] = self._after(SEEK_SOON)

    def _again(self, fingerprint: str, seconds: float) -> None:
        after = self._after(seconds)
        self._due[fingerprint] = min(self._due.get(fingerprint, after), after)

    def _after(self, seconds: float) -> int:
        return self._world.clock.monotonic() + int(seconds * SECOND)

    async def _look_on(self) -> None:
        clock = self._world.clock
        while True:
            with suppress(TimeoutError):
                await within(clock, LOOK_SECONDS, self._said.wait())
                await clock.sleep(GATHER_SECONDS)
                self._said.clear()
            self._look()

    def _look(self) -> None:
        clock = self._world.clock
        now = clock.monotonic()
        changed, gone = self._change.look(clock.now(), now, self._hosts())
        if changed:
            log.info("the network may be another: links are tried anew")
            self.moved(gone)
        # What is due while a search goes on is so after it: the way may be another than when that began.
        for fingerprint in [key for key, due in self._due.items() if due <= now and key not in self._searches]:
            self._due[fingerprint] = self._after(SEEK_AGAIN)
            search = asyncio.get_running_loop().create_task(self._search(fingerprint))
            self._searches[fingerprint] = search
            search.add_done_callback(lambda _, key=fingerprint: self._searches.pop(key, None))  # type: ignore[misc]

    def _hosts(self) -> Set[str] | None:
        """This machine's, or None: where no descriptor is left the host can't be asked, and will be again."""
        try:
            hosts = self._interfaces().keys()
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("this machine's addresses can't be had, and count as the same: %s", error)
            return None
        self._complained = False
        return hosts

    async def _search(self, fingerprint: str) -> None:
        again = await self._seek(fingerprint)
        if again is not None and fingerprint in self._due:
            self._again(fingerprint, again)
