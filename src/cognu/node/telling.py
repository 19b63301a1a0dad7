"""What nodes tell each other of themselves, over channels of these labels:

grants     the answer is what whoever asks may do there: a JSON list of grants; then the channel ends
dropped    whoever opens it has dropped the other side and is about to part; that ends the channel when it took note

So a machine knows what it may do elsewhere as it is now, and not only as it was told when it joined.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

from cognu.errors import CognuError, E, ProtocolError
from cognu.mesh.identity import Peer, bounded_grants
from cognu.mesh.session import Channel, Session
from cognu.node.node import Node
from cognu.world.timing import within

log = logging.getLogger("cognu.node")

GRANTS, DROPPED = "grants", "dropped"
ASK_SECONDS = 3.0
"""How long a peer may take to answer; then what it said last is shown."""
MAX_ANSWER = 1 << 16
"""Bytes of an answer."""
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
    """Ask the peers that are linked what this node may do there; the fingerprints of those that answered."""
    asked = [row.peer for row in node.mesh.status() if row.connected]
    answers = await asyncio.gather(*(refresh_one(node, peer) for peer in asked))
    return {peer.fingerprint for peer, answered in zip(asked, answers, strict=True) if answered}


async def refresh_one(node: Node, peer: Peer) -> bool:
    """Ask one peer; whether it answered. Then what the book has of it is as it says now."""
    try:
        received = await within(node.world.clock, ASK_SECONDS, _ask(node, peer))
    except (CognuError, TimeoutError) as error:
        log.info("%s does not say what this node may do there: %s", peer.name, error)
        return False
    known, now = node.book.get(peer.fingerprint), node.world.clock.now() // 10**9
    if known is None:
        return False
    if known.received != received or now - known.as_of > KEEP_SECONDS:
        node.book.update(replace(known, received=received, as_of=now))
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


async def say_goodbye(node: Node, peer: Peer) -> bool:
    """Tell a peer that was dropped; whether it took note. One that is not linked finds out by calling."""
    link = node.mesh.link_of(peer.fingerprint)
    if link is None or not node.mesh.is_linked(peer.fingerprint):
        return False
    try:
        await within(node.world.clock, ASK_SECONDS, _say(link))
    except (CognuError, TimeoutError) as error:
        log.info("%s was not told that it is dropped: %s", peer.name, error)
        return False
    return True


async def _say(link: Session) -> None:
    channel = await link.open_channel(DROPPED)
    try:
        while await channel.read(MAX_ANSWER):
            pass
    finally:
        channel.close()


async def answer(node: Node, peer: Peer, channel: Channel) -> None:
    """Serve a channel of one of these labels."""
    if channel.label == GRANTS:
        await channel.write(grants_text(peer))
    else:
        log.warning("%s has dropped this machine", peer.name)
        node.mesh.note_dropped(peer.fingerprint)
