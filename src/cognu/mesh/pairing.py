"""What pairing by a code has beside joining by a ticket (join.py): the code that is shown, and the people who agree.

The machine that shows a code has `ATTEMPTS` exchanges ready; each attempt takes one away before anything of it is
looked at. The code itself is kept nowhere; with the last exchange nothing is left from which it could be had. It lives
in memory alone: a node that ends has forgotten it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cognu.errors import CognuError, E, FileError
from cognu.mesh.codes import ATTEMPTS, CODE_SECONDS, Code
from cognu.mesh.identity import Peer
from cognu.mesh.join_messages import Refusal
from cognu.mesh.spake import Exchange, Side
from cognu.world import Clock, Random
from cognu.world.timing import within

LAST_WORD_SECONDS = 2.0
"""How long who gives up waits for the other machine to take note."""


@dataclass(frozen=True)
class Wish:
    """What a machine's user wants of pairing: `grants` is what the other may do here whatever it asks for, `asks` what
    this machine asks of the other."""

    grants: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """What another machine that has proved its key asks of this one's user. `name` is by its own word, `address` where
    it was met; `grants` is what it gets here in any case, `offers` what this machine may do there. `knows`: it has this
    machine as a peer, so that what it was granted before stays, if it is one here too."""

    name: str
    fingerprint: str
    address: str
    asks: tuple[str, ...]
    grants: tuple[str, ...]
    offers: tuple[str, ...]
    knows: bool = False


class Person(Protocol):
    """This machine's user, while a pairing goes on."""

    def shown(self, code: Code, addresses: tuple[str, ...]) -> None:
        """There is a code now, to be typed elsewhere."""

    def tried(self, address: str, why: Refusal, left: int) -> None:
        """Somebody at `address` did not get through; `left` attempts are left."""

    def heard(self, name: str, number: str) -> None:
        """A machine that calls itself `name` shows another code than is looked for, which begins with `number`."""

    def waits(self, name: str) -> None:
        """The user of the other machine is being asked; `name` is by its own word, or its address."""

    def left(self, name: str, told: bool | None) -> None:
        """This user gave up, when there was another machine already; whether that has heard so. None: it had confirmed
        by then, or was about to, and may have kept this one."""

    async def agrees(self, proposal: Proposal) -> bool:
        """Whether the other machine is to have what it asks for. Cancelled if it went away. Raises what makes granting
        impossible."""


class ShownCode:
    """A code while it is shown, without the code."""

    def __init__(self, code: Code, random: Random, wish: Wish, person: Person, now: int) -> None:
        self.number = code.number
        self.wish = wish
        self.person = person
        self.until = now + CODE_SECONDS * 10**9
        """When it ends if nobody types it, in ns of the wall clock."""
        self.over = asyncio.Event()
        """Nobody waits for it any more."""
        self._exchanges = [Exchange(Side.SHOWS, code.digits, random) for _ in range(ATTEMPTS)]
        self._under_way = 0
        self._taken = False
        self._begun = asyncio.Event()
        self._settled = asyncio.Event()
        self._result: Peer | CognuError | None = None

    @property
    def left(self) -> int:
        """Attempts that can still be made."""
        return len(self._exchanges)

    async def wait(self, clock: Clock) -> Peer:
        """Until it has come to something: the peer. Raises `FileError(NOTPAIRED)`, and what pinning raised."""
        try:
            await within(clock, CODE_SECONDS, self._begun.wait())
        except TimeoutError:
            raise FileError(E.NOTPAIRED, "pair", f"nobody has typed the code within {CODE_SECONDS} s") from None
        await self._settled.wait()
        return self._outcome()

    async def leave(self, clock: Clock) -> Peer | None:
        """Nobody waits any more. If another machine is being talked to, wait for a moment until it has been told; the
        peer, if it has become one before it was."""
        self.end()
        if self._taken:
            with suppress(TimeoutError):
                await within(clock, 2 * LAST_WORD_SECONDS, self._settled.wait())
        return self._result if isinstance(self._result, Peer) else None

    def _outcome(self) -> Peer:
        if not isinstance(self._result, Peer):
            assert self._result is not None
            raise self._result
        return self._result

    def attempt(self) -> Exchange | Refusal:
        """Count an attempt, and only then give what it is made with."""
        if self._taken or self.over.is_set():
            return Refusal.CODE_USED if self._taken else Refusal.NO_CODE
        if not self._exchanges:
            return Refusal.CODE_SPENT
        self._under_way += 1
        return self._exchanges.pop()

    def failed(self, address: str, why: Refusal) -> None:
        """An attempt came to nothing; the last one ends the code."""
        self._under_way -= 1
        if self._taken or self.over.is_set():
            return
        self.person.tried(address, why, self.left)
        if not self._exchanges and not self._under_way:
            self.conclude(Refusal.CODE_SPENT.error())

    def take(self) -> Refusal | None:
        """An attempt was good: the code is used up. Why it is not, if another was so first, or it is over."""
        self._under_way -= 1
        if self._taken or self.over.is_set():
            return Refusal.CODE_USED if self._taken else Refusal.GIVEN_UP
        self._taken = True
        self._forget()
        self._begun.set()
        return None

    def conclude(self, result: Peer | CognuError) -> None:
        """What it came to; the first word holds."""
        if self._result is None:
            self._result = result
        self._begun.set()
        self._settled.set()
        self.end()

    def end(self) -> None:
        """Nobody can pair by it any more."""
        self._forget()
        self.over.set()

    def _forget(self) -> None:
        for exchange in self._exchanges:
            exchange.forget()
        self._exchanges.clear()
