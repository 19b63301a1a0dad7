"""What /mnt/node/rpc understands: the verbs behind `cognu status`, `invite`, `join`, `peers` and the like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from cognu.errors import CognuError, E, FileError
from cognu.files.shown import NOTHING, Shown
from cognu.mesh.identity import Peer
from cognu.mesh.join import join
from cognu.mesh.tickets import parse_ticket, ticket_number
from cognu.node.capabilities import View
from cognu.node.control import HalfDone, Verb
from cognu.node.delegation import HANDING
from cognu.node.explaining import explain
from cognu.node.granting import GRANTING, grant_peers
from cognu.node.grants import describe_grant, grant_of, parse_grant, parse_grants, widenings
from cognu.node.listening import Listening
from cognu.node.meeting import MEETING
from cognu.node.node import Node
from cognu.node.pairing import paired
from cognu.node.telling import say_goodbye

Arguments = dict[str, Any]


def make_verbs(node: Node, listening: Listening) -> dict[str, Verb]:
    """The table of verbs. Each takes its arguments by name and gives what JSON can say."""
    verbs: dict[str, Verb] = {name: partial(verb, node) for name, verb in _VERBS.items()}
    return {**verbs, "listen": partial(_listen, listening), "unlisten": partial(_unlisten, listening)}


async def _status(node: Node, arguments: Arguments) -> Any:
    return node.status()


async def _down(node: Node, arguments: Arguments) -> Any:
    node.stopping.set()
    return {}


async def _invite(node: Node, arguments: Arguments) -> Any:
    grants = await _checked_grants(node, arguments)
    ticket = await node.inviter.invite(grants)
    return {
        "number": ticket_number(ticket),
        "ticket": ticket,
        "expires": parse_ticket(ticket).expires,
        "grants": list(grants),
        "describe": [describe_grant(text) for text in grants],
        "keeps": [peer.name for peer in node.book.all() if peer.granted],
    }


async def _invitations(node: Node, arguments: Arguments) -> Any:
    """Those that can still be used. Their tickets were told once, to whoever made them."""
    return [
        {
            "number": row.number,
            "expires": row.expires,
            "grants": list(row.grants),
            "describe": [describe_grant(text) for text in row.grants],
            "attempts": row.attempts,
        }
        for row in node.inviter.invitations.open()
    ]


async def _withdraw(node: Node, arguments: Arguments) -> Any:
    return {"number": await node.inviter.withdraw(str(arguments["invitation"]))}


async def _join(node: Node, arguments: Arguments) -> Any:
    grants = await _checked_grants(node, arguments)
    before = {known.fingerprint: known for known in node.book.all()}
    peer = await join(node.world, node.me(), node.book, arguments["ticket"], grants)
    known = before.get(peer.fingerprint, peer)
    node.mesh.note_joined(peer.fingerprint)
    refused = await node.put_in_force(peer)
    result = paired(peer, known, refused)
    try:
        await node.mesh.connect(peer.fingerprint)
    except CognuError as error:
        raise HalfDone(result, error) from error
    return result


async def _checked_grants(node: Node, arguments: Arguments) -> tuple[str, ...]:
    """The grants asked for. Raises what putting one of them in force would raise, and USAGE for one with patterns.

    What else they would contradict is only known when it is known who joins.
    """
    grants = parse_grants(map(str, arguments.get("grants", [])))
    for text in grants:
        if parse_grant(text).shown != NOTHING:
            raise FileError(E.USAGE, text, "not with a ticket; when it has joined: export --hide PATTERN PATH NODE")
    await node.exports.check(grants)
    return grants


async def _drop(node: Node, arguments: Arguments) -> Any:
    peer = node.book.find(arguments["peer"])
    # The record first: who is dropped stays so, whatever becomes of the goodbye, or of this node.
    node.book.remove(peer.fingerprint)
    node.part(peer.fingerprint)
    node.mesh.leave(peer.fingerprint)  # and all that goes on, whether it takes note of the goodbye or not
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    parting = node.spawn(_part(node, peer, told))  # it goes on if whoever asked for it is gone
    if parting is not None:
        await asyncio.wait({parting})
    return {"told": told.done() and told.result()}


async def _part(node: Node, peer: Peer, told: asyncio.Future[bool]) -> None:
    """End the link with one that is not in the book any more; `told`: whether it took note before."""
    try:
        told.set_result(await say_goodbye(node, peer))
    finally:
        await node.mesh.cut(peer.fingerprint)
        await node.network.drop(peer.name)


async def _export(node: Node, arguments: Arguments) -> Any:
    hide, show = (tuple(map(str, arguments.get(name, ()))) for name in ("hide", "show"))
    text = parse_grant(grant_of("write" if arguments.get("write") else "read", arguments["path"], hide, show)).text
    chosen = node.book.all() if arguments.get("peer") is None else [node.book.find(arguments["peer"])]
    if not chosen:
        raise FileError(E.NOPEER, "export", "this node has no peers yet")
    await grant_peers(node, chosen, [text])
    return {"granted": [[peer.name, text] for peer in chosen]}


async def _grants(node: Node, arguments: Arguments) -> Any:
    return {peer.name: list(peer.granted) for peer in node.book.all()}


async def _not_in_force(node: Node, arguments: Arguments) -> Any:
    """Of each peer the grants that are on record alone, each with why."""
    return {peer.name: node.exports.not_in_force(peer.fingerprint, peer.granted) for peer in node.book.all()}


async def _widened(node: Node, arguments: Arguments) -> Any:
    """Of each peer the grants that show more of a tree than another with patterns does: pairs of the two."""
    return {peer.name: widenings(peer.granted) for peer in node.book.all()}


async def _revoke(node: Node, arguments: Arguments) -> Any:
    peer = node.book.find(arguments["peer"])
    kind, _, number = str(arguments["grant"]).partition(":")
    if kind == "token" and number.isdigit():
        node.tokens.revoke(peer.fingerprint, int(number))
        return {}
    text = parse_grant(arguments["grant"]).text
    in_force = text in node.exports.granted(peer.fingerprint)
    if text not in peer.granted and not in_force:
        raise FileError(E.NOGRANT, text, f"{peer.name} has {', '.join(peer.granted) or 'none'}")
    try:
        # The record first: what is revoked stays so after a crash.
        node.book.update(replace(peer, granted=tuple(other for other in peer.granted if other != text)))
    except CognuError as error:
        if not in_force:
            raise
        node.exports.revoke(peer.fingerprint, text)
        detail = (
            f"{text} is ended, but on record still: it is back when the node starts anew, unless it is revoked again"
        )
        raise HalfDone({}, FileError(error.error, error.subject, detail)) from error
    if in_force:
        node.exports.revoke(peer.fingerprint, text)
    return {}


async def _caps(node: Node, arguments: Arguments) -> Any:
    return {"node": node.settings.name, "capabilities": View(node).rows(),
            "not_in_force": await _not_in_force(node, arguments)}  # fmt: skip


async def _why(node: Node, arguments: Arguments) -> Any:
    return await explain(node, int(arguments["pid"]), str(arguments["path"]), str(arguments.get("rights", "r")))


async def _listen(listening: Listening, arguments: Arguments) -> Any:
    hide, show = (tuple(map(str, arguments.get(name, ()))) for name in ("hide", "show"))
    shown = Shown(arguments.get("path", "/"), False, hide, show)
    address, token = await listening.listen(arguments["address"], shown, arguments.get("dialect"))
    return {"address": address, "token": token}


async def _unlisten(listening: Listening, arguments: Arguments) -> Any:
    await listening.unlisten(arguments["address"])
    return {}


_VERBS: dict[str, Callable[[Node, Arguments], Awaitable[Any]]] = {
    "status": _status,
    "down": _down,
    "invite": _invite,
    "invitations": _invitations,
    "withdraw": _withdraw,
    "join": _join,
    "drop": _drop,
    "export": _export,
    "grants": _grants,
    "not_in_force": _not_in_force,
    "widened": _widened,
    "revoke": _revoke,
    **MEETING,
    **GRANTING,
    **HANDING,
    "caps": _caps,
    "why": _why,
}
