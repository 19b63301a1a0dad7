"""What nodes tell each other of themselves, over channels of these labels:

grants     the answer is what whoever asks may do there: a JSON list of grants; then the channel ends
granted    what the other side may do at whoever opens it is another by now; it asks, and ends the channel at once
dropped    whoever opens it has dropped the other side and is about to part; that ends the channel when it took note

So a machine knows what it may do elsewhere as it is now, and not only as it was told when it joined: it asks when a
link comes up, when it is told, and for who wants to see it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace

from cognu.errors import CognuError, E, ProtocolError
from cognu.mesh.identity import Peer, bounded_grants
from cognu.mesh.session import Channel, Session
from cognu.node.node import Node
from cognu.world.timing import within

log = logging.getLogger("cognu.node")

GRANTS, GRANTED, DROPPED = "grants", "granted", "dropped"
LABELS = (GRANTS, GRANTED, DROPPED)
ASK_SECONDS = 3.0
"""How long a peer may take to answer; then what it said last is shown."""
GOODBYE_SECONDS = 0.5
"""How long a peer that was dropped may take to say that it heard. Nothing goes on meanwhile but its link."""
MAX_ANSWER = 1 << 17
"""Bytes of an answer: JSON may take six for one of a grant's text."""
LEAST_SECONDS = 1.0
"""Between two questions to one peer, however often it says that its grants are others."""
KEEP_SECONDS = 60
"""What did not change is written to the disk again only when it is older than this."""


def grants_text(peer: Peer) -> bytes:
    return json.dumps(list(peer.granted)).encode()


def parse_grants_text(data: bytes) -> tuple[str, ...]:
    """What a peer answered. Raises `ProtocolError`."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, list) or not all(isinstance(text, str) for text in told):
        raise ProtocolError(E.BADMESSAGE, GRANTS, "not a list of grants")
    if not bounded_grants(told):
        raise ProtocolError(E.BADMESSAGE, GRANTS, "not such as are given")
    return tuple(told)


async def refresh(node: Node) -> set[str]:
    """Ask the peers that are linked what this node may do there; the fingerprints of those where it is known now."""
    asked = [row.peer for row in node.mesh.status() if row.connected]
    answers = await asyncio.gather(*(refresh_one(node, peer) for peer in asked))
    return {peer.fingerprint for peer, answered in zip(asked, answers, strict=True) if answered}


async def refresh_one(node: Node, peer: Peer) -> bool:
    """Ask one peer; whether what the book has of it is as it says now. It is not where that finds no room."""
    try:
        received = await within(node.world.clock, ASK_SECONDS, _ask(node, peer))
    except (CognuError, TimeoutError) as error:
        log.info("%s does not say what this node may do there: %s", peer.name, str(error) or E.TIMEDOUT.text)
        return False
    known, now = node.book.get(peer.fingerprint), node.world.clock.now() // 10**9
    if known is None:
        return False
    if known.received != received or now - known.as_of > KEEP_SECONDS:
        try:
            node.book.update(replace(known, received=received, as_of=now))
        except CognuError as error:
            log.warning("what this node may do at %s can't be kept until it says so again: %s", peer.name, error)
            return known.received == received
    return True


async def _ask(node: Node, peer: Peer) -> tuple[str, ...]:
    channel = await node.mesh.open(peer.fingerprint, GRANTS)
    data = b""
    try:
        while piece := await channel.read(MAX_ANSWER):
            data += piece
            if len(data) > MAX_ANSWER:
                raise ProtocolError(E.BADMESSAGE, GRANTS, f"more than {MAX_ANSWER} bytes")
    finally:
        channel.close()
    return parse_grants_text(data)


class Asking:
    """Asks peers what this node may do there, when it may be something else: each at most once in `LEAST_SECONDS`.

    `asked` is called after each question, whatever was answered: it may be in force only now.
    """

    def __init__(self, node: Node, asked: Callable[[], None]) -> None:
        self._node = node
        self._asked = asked
        self._again: dict[str, bool] = {}  # of those whose turn it is: whether to ask once more

    def ask(self, fingerprint: str) -> None:
        under_way = fingerprint in self._again
        self._again[fingerprint] = True
        if not under_way:
            self._node.spawn(self._ask(fingerprint))

    async def _ask(self, fingerprint: str) -> None:
        node = self._node
        try:
            while self._again[fingerprint]:
                self._again[fingerprint] = False
                peer = node.book.get(fingerprint)
                if peer is None or not node.mesh.is_linked(fingerprint):
                    return
                await refresh_one(node, peer)
                self._asked()
                await node.world.clock.sleep(LEAST_SECONDS)
        finally:
            del self._again[fingerprint]


async def tell_granted(node: Node, peer: Peer) -> None:
    """Tell a peer that its grants here are others. One that is not linked asks when it is."""
    await _told(node, peer, GRANTED, "what it is granted")


async def say_goodbye(node: Node, peer: Peer) -> bool:
    """Tell a peer that was dropped; whether it took note. One that is not linked finds out by calling."""
    return await _told(node, peer, DROPPED, "that it is dropped", GOODBYE_SECONDS)


async def _told(node: Node, peer: Peer, label: str, what: str, seconds: float = ASK_SECONDS) -> bool:
    link = node.mesh.link_of(peer.fingerprint)
    if link is None or not node.mesh.is_linked(peer.fingerprint):
        return False
    try:
        await within(node.world.clock, seconds, _say(link, label))
    except (CognuError, TimeoutError) as error:
        log.info("%s was not told %s: %s", peer.name, what, str(error) or E.TIMEDOUT.text)
        return False
    return True


async def _say(link: Session, label: str) -> None:
    channel = await link.open_channel(label)
    try:
        while await channel.read(MAX_ANSWER):
            pass
    finally:
        channel.close()


async def answer(node: Node, peer: Peer, channel: Channel) -> None:
    """Serve a channel of one of these labels."""
    if channel.label == GRANTS:
        await channel.write(grants_text(peer))
    elif channel.label == GRANTED:
        node.on_granted(peer.fingerprint)
    else:
        log.warning("%s has dropped this machine", peer.name)
        node.mesh.note_dropped(peer.fingerprint)
