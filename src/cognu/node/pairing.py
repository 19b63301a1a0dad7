"""The verbs behind `cognu pair`: `pair` begins, `attend` tells what happens next, `consent` is the user's answer, and
`forgo` gives it up.

A pairing belongs to the command that attends to it: a command that dies while it waits for what happens next has given
it up too, and the other machine is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cognu.errors import CognuError, E, FileError, visible
from cognu.mesh.codes import ATTEMPTS, CODE_SECONDS, Code, check_address, format_offer, parse_code
from cognu.mesh.discovery import Finder
from cognu.mesh.identity import Peer, check_grant_count
from cognu.mesh.join_messages import Refusal
from cognu.mesh.pair import pair
from cognu.mesh.pairing import Proposal, Wish
from cognu.node.grants import contradiction, describe_grant, describe_received, parse_grant, parse_grants
from cognu.node.node import Node
from cognu.world.timing import end_tasks

Arguments = dict[str, Any]
UNATTENDED_SECONDS = 5
"""After so long without its command, a pairing may make room for another."""
PAIRINGS = 4
"""At once; more than one code is never shown."""
OFFERED = 3
"""Addresses in the text of the QR code: with more it would not fit a small terminal."""


class Pairing:
    """One of them, as its command follows it: a `Person` of the mesh's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answer: asyncio.Future[bool] | None = None
        self.asked: Proposal | None = None
        self.attended = False
        self.ended = "it was given up here"
        """Why, if its task was cancelled."""
        self.given_up: dict[str, Any] = {}
        """Whom it was begun with when it was given up, and whether that one heard so."""
        self.left_alone = node.world.clock.monotonic()
        self.task: asyncio.Task[dict[str, Any]]

    # -- what the mesh tells --

    def shown(self, code: Code, addresses: tuple[str, ...]) -> None:
        if not self._node.reachable():
            addresses = ()
        self._events.put_nowait({
            "event": "code", "code": code.text, "addresses": list(addresses), "seconds": CODE_SECONDS,
            "attempts": ATTEMPTS, "text": format_offer(code, addresses[:OFFERED]) if addresses else "",
        })  # fmt: skip

    def tried(self, address: str, why: Refusal, left: int) -> None:
        self._events.put_nowait({"event": "tried", "address": address, "why": why.detail, "left": left})

    def heard(self, name: str, number: str) -> None:
        self._events.put_nowait({"event": "heard", "name": name, "number": number})

    def waits(self, name: str) -> None:
        self._events.put_nowait({"event": "waiting", "peer": visible(name)})

    def left(self, name: str, told: bool | None) -> None:
        self.given_up = {"peer": visible(name), "told": told}

    def _known(self, proposal: Proposal) -> dict[str, Any]:
        """Whether it is a peer already, and by which name; else the one that it would get."""
        known = self._node.book.get(proposal.fingerprint)
        if known is not None:
            return {"peer": known.name, "known": True, "calls_itself": proposal.name}
        return {"peer": self._node.book.unique_name(proposal.name), "known": False, "calls_itself": proposal.name}

    async def agrees(self, proposal: Proposal) -> bool:
        """Raises USAGE for what is no grant, and, after a yes, so that nobody learns from it what is here, what putting
        one in force would raise."""
        if parse_grants(proposal.asks) != proposal.asks:
            raise FileError(E.USAGE, proposal.name, "it asks for what is no grant")
        self.asked = proposal
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({
            "event": "asked", **self._known(proposal), "fingerprint": proposal.fingerprint, "address": proposal.address,
            "asks": list(proposal.asks), "describe_asks": [describe_grant(text) for text in proposal.asks],
            "grants": list(proposal.grants), "describe_grants": [describe_grant(text) for text in proposal.grants],
            "offers": list(proposal.offers), "describe_offers": describe_received(proposal.offers, proposal.name),
            "contradictions": self._contradictions(proposal),
        })  # fmt: skip
        try:
            agreed = bool(await answer)
        finally:
            self._answer = None
        if agreed:
            for text in proposal.asks:
                await self._check(text, (text,), "")
            kept = proposal.fingerprint if proposal.knows else ""
            await self._check("all of it", (*proposal.grants, *proposal.asks), kept)
        return agreed

    async def _check(self, what: str, texts: tuple[str, ...], peer: str) -> None:
        try:
            await self._node.exports.check(texts, peer)
        except CognuError as error:
            why = f"{error.detail}; " if error.detail else ""
            said = f"{why}{what} can't be granted, so the two were not paired"
            raise FileError(error.error, error.subject, said) from error

    def _contradictions(self, proposal: Proposal) -> list[str]:
        """What is asked for and could not be granted beside something else, as far as the grants' own words tell."""
        known = self._node.book.get(proposal.fingerprint)
        others = [*proposal.grants, *(known.granted if known is not None and proposal.knows else ())]
        found = []
        for text in proposal.asks:
            reasons = (contradiction(parse_grant(text), parse_grant(other)) for other in others)
            if why := next(filter(None, reasons), ""):
                found.append(f"{text} can't be granted: {why}")
            others.append(text)
        return found

    # -- what its command does --

    def answer(self, yes: bool) -> Proposal:
        """Raises INVAL if nothing is asked."""
        if self._answer is None or self._answer.done() or self.asked is None:
            raise FileError(E.INVAL, "consent", "nothing is asked now")
        self._answer.set_result(yes)
        return self.asked

    async def next(self) -> dict[str, Any]:
        """What happens next; at the end what came of it, again and again. Raises why it came to nothing.

        Cancelling gives the pairing up.
        """
        if self.attended:
            raise FileError(E.ALREADY, "attend")
        self.attended = True
        coming = asyncio.ensure_future(self._events.get())
        try:
            await asyncio.wait({coming, self.task}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
            return self.task.result()
        except asyncio.CancelledError:
            if self.task.cancelled():
                raise FileError(E.NOTPAIRED, "pair", self.ended) from None
            await end_tasks(self.task)
            raise
        finally:
            await end_tasks(coming)
            self.attended = False
            self.left_alone = self._node.world.clock.monotonic()

    @property
    def abandoned(self) -> bool:
        """Whether nobody asks for it any more."""
        alone = self._node.world.clock.monotonic() - self.left_alone
        return not self.attended and (self.task.done() or alone > UNATTENDED_SECONDS * 10**9)


class Pairings:
    """Those of a node."""

    def __init__(self, node: Node, finder: Finder) -> None:
        self._node = node
        self._finder = finder
        self._open: dict[int, Pairing] = {}
        self._count = 0

    def verbs(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        return {"pair": self._pair, "attend": self._attend, "consent": self._consent, "forgo": self._forgo}

    async def close(self) -> None:
        """Give all of them up: the node stops."""
        for pairing in self._open.values():
            pairing.ended = "the node is stopping"
        await end_tasks(*(pairing.task for pairing in self._open.values()))

    async def _pair(self, arguments: Arguments) -> Any:
        node = self._node
        grants = parse_grants(map(str, arguments.get("grants", [])))
        await node.exports.check(grants)
        wish = Wish(grants, parse_grants(map(str, arguments.get("asks", []))))
        check_grant_count("asks", wish.asks)
        code = None if arguments.get("code") is None else parse_code(str(arguments["code"]))
        addresses = tuple(check_address(str(address)) for address in arguments.get("addresses", []))
        for number in [number for number, each in self._open.items() if each.abandoned]:
            await self._forgo({"pairing": number})
        if code is not None and not addresses and code.number == node.inviter.number:
            detail = f"this machine itself shows the code that begins with {code.number}; type it on the other one"
            raise FileError(E.NOTPAIRED, "pair", detail)
        if len(self._open) >= PAIRINGS:
            raise FileError(E.BUSY, "pair", f"{PAIRINGS} pairings are under way")
        pairing = Pairing(node)
        work = self._show(wish, pairing) if code is None else self._type(code, addresses, wish, pairing)
        pairing.task = asyncio.get_running_loop().create_task(work)
        pairing.task.add_done_callback(_looked_at)
        self._count += 1
        self._open[self._count] = pairing
        return {"pairing": self._count, "grants": list(wish.grants), "asks": list(wish.asks)}

    async def _show(self, wish: Wish, pairing: Pairing) -> dict[str, Any]:
        node, before = self._node, _records(self._node)
        peer = await node.inviter.show_code(wish, pairing, self._finder)
        refused = await node.put_in_force(peer)
        return {"event": "paired", **paired(peer, before.get(peer.fingerprint, peer), refused)}

    async def _type(
        self, code: Code, addresses: tuple[str, ...], wish: Wish, pairing: Pairing
    ) -> dict[str, Any]:  # fmt: skip
        node, before = self._node, _records(self._node)
        peer = await pair(node.world, node.me(), node.book, code, addresses, self._finder, wish, pairing)
        node.mesh.note_joined(peer.fingerprint)
        refused = await node.put_in_force(peer)
        await node.announce(peer)
        return {"event": "paired", **paired(peer, before.get(peer.fingerprint, peer), refused)}

    async def _attend(self, arguments: Arguments) -> Any:
        number = int(arguments["pairing"])
        pairing = self._find(number)
        try:
            event = await pairing.next()
        except CognuError:  # if it is given up, `_forgo` is asked what came of that
            self._open.pop(number, None)
            raise
        if event["event"] == "paired":
            self._open.pop(number, None)
        return event

    async def _consent(self, arguments: Arguments) -> Any:
        yes = arguments["yes"] is True
        asked = self._find(int(arguments["pairing"])).answer(yes)
        return {
            "peer": asked.name, "fingerprint": asked.fingerprint, "address": asked.address, "asks": list(asked.asks),
            "yes": yes,
        }  # fmt: skip

    async def _forgo(self, arguments: Arguments) -> Any:
        """Give it up, if it is not over. `peer` is whom it was begun with, if anybody, and `told` whether that one has
        heard so, null if it may have kept this machine; or what came of it, if that was earlier."""
        pairing = self._open.pop(int(arguments["pairing"]), None)
        if pairing is None:
            return {}
        await end_tasks(pairing.task)
        done = not pairing.task.cancelled() and pairing.task.exception() is None
        return pairing.task.result() if done else pairing.given_up

    def _find(self, number: int) -> Pairing:
        if number not in self._open:
            raise FileError(E.NOTPAIRED, "pair", "it is over")
        return self._open[number]


def _records(node: Node) -> dict[str, Peer]:
    return {peer.fingerprint: peer for peer in node.book.all()}


def paired(peer: Peer, before: Peer, refused: Sequence[CognuError]) -> dict[str, Any]:
    """What came of pairing or joining, as its command is told: all that either machine may do at the other, in words.

    `before` is what was on record of the peer, `refused` what of its grants is on record alone.
    """
    ended_granted = [text for text in before.granted if text not in peer.granted]
    ended_received = [text for text in before.received if text not in peer.received]
    return {
        "not_in_force": [visible(f"{error}; {error.error.hint}") for error in refused],
        "peer": peer.name, "fingerprint": peer.fingerprint,
        "granted": list(peer.granted), "received": list(peer.received),
        "describe_granted": [describe_grant(text) for text in peer.granted],
        "describe_received": describe_received(peer.received, peer.name),
        "ended_granted": [describe_grant(text) for text in ended_granted],
        "ended_received": describe_received(ended_received, peer.name),
    }  # fmt: skip


def _looked_at(task: asyncio.Task[dict[str, Any]]) -> None:
    """Nobody may be left to hear of its failure, and that is no fault."""
    if not task.cancelled():
        task.exception()
