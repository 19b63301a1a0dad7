"""Peers, and machines that are near: what `peers` shows, pet names, and the file that tells when to look again.

/mnt/node/peers has a line for each peer, `peer=NAME fingerprint=… state=linked|away|dropped address=… interface=…
rtt=…` (in ns), and for each machine that is near and none, `near=ID address=…`, with `name=… pairing=NUMBER` while one
may pair with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from cognu.errors import E, FileError
from cognu.files.nstext import quote
from cognu.files.tree import Text
from cognu.mesh.discovery import Discovery, Me
from cognu.mesh.identity import Peer, clean_name, short
from cognu.mesh.labels import changed_labels
from cognu.mesh.links import PeerStatus
from cognu.ninep.watches import CONTENT
from cognu.node.node import Node
from cognu.node.settings import change_labels
from cognu.node.telling import refresh

Arguments = dict[str, Any]


def make_discovery(node: Node) -> Discovery:
    """Of a node whose identity, book and mesh are there. It is to be started, and closed."""
    fingerprint = node.identity.fingerprint
    me = Me(fingerprint, clean_name(node.settings.name, short(fingerprint)))
    return Discovery(
        node.world, me, node.settings.discovery, lambda: [peer.fingerprint for peer in node.book.all()], node.mesh.heard
    )


class PeersFile(Text):
    """Who watches is told when a peer, a link, or who is near is another; not of round trips."""

    tells = True

    def __init__(self, node: Node) -> None:
        super().__init__("peers", lambda: _text(node))

    def changed(self) -> None:
        self.happened(CONTENT)


def _text(node: Node) -> str:
    rows = [_peer_line(row) for row in node.mesh.status()]
    for near in node.discovery.near():
        if not near.peer:
            words = {"near": near.instance, "address": " ".join(near.addresses)}
            if near.number:
                words |= {"name": near.name, "pairing": near.number}
            rows.append(_line(words))
    return "".join(rows)


def _peer_line(row: PeerStatus) -> str:
    words = {"peer": row.peer.name, "fingerprint": row.peer.fingerprint, "state": _state(row), "address": row.address}
    words |= {"interface": row.interface, "rtt": "" if row.rtt is None else str(row.rtt)}
    return _line(words)


def _line(words: dict[str, str]) -> str:
    """Attributes and their values, as ndb(6) of Plan 9 has them; those without one are left out."""
    return " ".join(f"{name}={quote(value)}" for name, value in words.items() if value) + "\n"


def _state(row: PeerStatus) -> str:
    return "linked" if row.connected else "dropped" if row.dropped else "away"


async def _peers(node: Node, arguments: Arguments) -> Any:
    """`received` is as the peer says now if `current`, else as it said at `as_of`. Times in ns."""
    answered = await refresh(node)
    node.seen.look()
    near = {row.peer for row in node.discovery.near() if not node.mesh.refuted(row.peer, row.addresses)}
    return [_row(node, row, row.peer.fingerprint in answered, near) for row in node.mesh.status()]


def _row(node: Node, row: PeerStatus, current: bool, near: set[str]) -> Arguments:
    peer, link, now = row.peer, row.link, node.world.clock.now()
    return {
        "name": peer.name,
        "fingerprint": peer.fingerprint,
        "connected": row.connected,
        "since": None if row.since is None or row.since > now else row.since,  # the clock was set back
        "seen": None if row.connected else node.seen.last(peer.fingerprint),
        "address": row.address,
        "interface": row.interface,
        "dialled": link.dialled,
        "rtt": row.rtt,
        "rate": link.rate,
        "sent": link.sent,
        "received_bytes": link.received,
        "near": peer.fingerprint in near,
        "reserves": [
            {"address": other.address, "heard": other.heard, "rtt": other.rtt, "failed": other.failed}
            for other in row.reserves
        ],
        "waits": row.waits,
        "labels": list(peer.labels),
        "granted": list(peer.granted),
        "received": list(peer.received),
        "current": current,
        "as_of": peer.as_of * 10**9,
        "dropped": row.dropped,
        "lies": node.store.bad_sources.get(peer.name, 0),
    }


async def _near(node: Node, arguments: Arguments) -> Any:
    """Machines on the same networks that are no peers; `discovery` says whether any are looked for."""
    found = [
        {
            "instance": row.instance,
            "peer": row.peer,
            "addresses": list(row.addresses),
            "since": row.since,
            "name": row.name,
            "number": row.number,
            "joining": list(row.joining),
        }
        for row in node.discovery.near()
        if not row.peer
    ]
    return {"discovery": node.discovery.mode, "near": found}


async def _rename(node: Node, arguments: Arguments) -> Any:
    """Give a peer another pet name, in force at once; `changed` says if it is another than before.

    Raises NOPEER, AMBIGUOUS, INVAL, and EXIST, also for this machine's own name.
    """
    peer = node.book.find(str(arguments["peer"]))
    renamed = replace(peer, name=str(arguments["name"]))
    if renamed.name == peer.name:
        return {"peer": peer.name, "fingerprint": peer.fingerprint, "changed": False}
    if renamed.name == clean_name(node.settings.name, ""):
        raise FileError(E.EXIST, renamed.name, "it is this machine's own name")
    node.book.update(renamed)
    node.network.peer_renamed(peer.name, renamed.name)
    session = node.mesh.link_of(peer.fingerprint)
    if session is not None:
        session.core.peer = renamed.name
    return {"peer": renamed.name, "fingerprint": renamed.fingerprint, "changed": True}


async def _label(node: Node, arguments: Arguments) -> Any:
    """Give labels to a machine, or take them: `words` as in `mesh.labels.changed_labels`, none to see what there is.

    This machine's `own` are said by its profile; those of a peer are kept here alone. Raises NOPEER, AMBIGUOUS, INVAL,
    and DAMAGED if the settings were damaged meanwhile.
    """
    text, words = str(arguments["peer"]), [str(word) for word in arguments.get("words", ())]
    peer = _other(node, text)
    if peer is None:
        name, before = node.settings.name, node.settings.labels
        if words:
            node.settings = change_labels(node.world.disk, node.home, node.settings, words)
        labels = node.settings.labels
    else:
        name, before, labels = peer.name, peer.labels, changed_labels(peer.labels, words)
        node.book.update(replace(peer, labels=labels))
    return {"peer": name, "own": peer is None, "labels": list(labels), "changed": labels != before}


def _other(node: Node, text: str) -> Peer | None:
    """The peer that a text names; None if it names this machine. A peer comes first, should both have a name."""
    if text == node.identity.fingerprint:
        return None
    try:
        return node.book.find(text)
    except FileError as error:
        if error.error is E.NOPEER and text in (node.settings.name, clean_name(node.settings.name, "")):
            return None
        raise


MEETING: dict[str, Callable[[Node, Arguments], Awaitable[Any]]] = {
    "peers": _peers, "near": _near, "rename": _rename, "label": _label,
}  # fmt: skip
