"""Handing on by tokens: what a peer asks for over its link (Tmint), and the verbs behind `export --token` and `import`.

What is another machine's is handed on by that machine: it is asked for the token, and whoever redeems it does so there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from cognu.errors import E, FileError
from cognu.files.audit import audit
from cognu.files.authority import letters_of
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.handing import whole
from cognu.files.launch import TOKEN_LABEL
from cognu.files.mount import MountServer
from cognu.files.mounts import MCREATE, MREPL
from cognu.files.namespace import Namespace
from cognu.files.process import Process
from cognu.files.server import HandOn, Token
from cognu.files.services import NETWORK, is_from_elsewhere
from cognu.files.shown import Filter, ShownNamespace, parse_filter
from cognu.files.steps import Steps, finish
from cognu.kernel import CREATE, EXECUTE, GRANT, READ, WRITE
from cognu.ninep.compound import MOST_SECONDS
from cognu.node.node import Node
from cognu.node.peers import ALONE, REFUSED

Arguments = dict[str, Any]
NOT_HANDED_ON = (*REFUSED, *ALONE, "#q")
"""Nor what runs programs for a peer: that goes by whose link it is."""
TREE = "9p"
"""The label of a channel that asks for what the peer was granted, or by a token for what was handed on."""


def make_token(node: Node, namespace: Namespace, chan: Chan, what: HandOn, by: str, shown: Filter) -> tuple[Token, int]:
    """A token for a tree of this node's own, as the namespace shows it; and its number.

    Raises NOPEER, NOTSUP for what shows several trees, ACCES for what is none to hand on, and what `Tokens.make` does.
    """
    if isinstance(namespace, ShownNamespace):
        raise FileError(E.NOTSUP, str(chan.path), "a tree that is shown in part is not handed on")
    target = whole(namespace, chan)
    if target.origin.spec in NOT_HANDED_ON or is_from_elsewhere(target):
        raise FileError(E.ACCES, str(chan.path), "this tree is not lent on")
    if node.book.get(what.peer) is None:
        raise FileError(E.NOPEER, what.peer)
    return node.tokens.make(node.base.namespace.domain, target, what, by, str(chan.path), shown)


def minter(node: Node, by: str) -> Callable[[Process, Chan, HandOn], Steps[Token]]:
    """What makes tokens for the peer `by` (fingerprint), of what its connection has."""

    def made(process: Process, chan: Chan, what: HandOn) -> Steps[Token]:
        token, number = make_token(node, process.namespace, chan, what, by, Filter())
        peers = [node.book.find(fingerprint).name for fingerprint in (by, what.peer)]
        tree = f"{letters_of(what.rights)}:{chan.path}"
        audit(f"peer {peers[0]}", f"made token {number} for {peers[1]}, {what.uses} uses: {tree}")
        return token
        yield

    return made


async def _mint(node: Node, arguments: Arguments) -> Any:
    """A token for a tree that the base namespace shows; where it is redeemed, and what it is known by there."""
    seconds = int(arguments.get("seconds", 600))
    if seconds > MOST_SECONDS:
        raise FileError(E.USAGE, f"--for {seconds}", f"a token lasts at most {MOST_SECONDS} seconds, a day")
    peer = node.book.find(arguments["peer"])
    rights = READ | EXECUTE | (WRITE | CREATE if arguments.get("write") else 0)
    what = HandOn(rights, int(arguments.get("uses", 1)), seconds, peer.fingerprint)
    hide, show = (tuple(map(str, arguments.get(name, ()))) for name in ("hide", "show"))
    shown = parse_filter(hide, show)
    base = node.base
    chan = await finish(base.namespace.find(str(arguments["path"]), base.cwd, base))
    target = base.namespace.cross(chan)[0]
    owner, number = node.identity.fingerprint, 0
    if is_from_elsewhere(target):
        if shown != Filter():
            raise FileError(E.NOTSUP, str(chan.path), "another machine's tree is handed on as a whole")
        token = await finish(dispatch(target, GRANT, target.server.hand_on, target.fid, what))
        owner = _owner(node, target)
    else:
        token, number = make_token(node, base.namespace, chan, what, "", shown)
    known = node.book.get(owner)
    name = node.settings.name if number else known.name if known is not None else owner
    return {
        "token": token.text, "seconds": token.seconds, "uses": what.uses, "peer": peer.name,
        "at": name, "fingerprint": owner, "number": number or None,
    }  # fmt: skip


def _owner(node: Node, chan: Chan) -> str:
    """The fingerprint of the machine that a far file is of, as far as that is known here."""
    if chan.origin.spec == NETWORK:
        return node.book.find(chan.origin.names[0]).fingerprint
    return chan.server.peer if isinstance(chan.server, MountServer) else ""


async def _redeem(node: Node, arguments: Arguments) -> Any:
    """Mount at `at` in the namespace of process `pid` what a peer's token stands for."""
    process, peer = node.processes[int(arguments["pid"])], node.book.find(arguments["peer"])
    aname, at = TOKEN_LABEL + str(arguments["token"]), str(arguments["at"])
    node.processes.own_namespace(process)
    namespace = process.namespace
    where = await finish(namespace.place(at, process.cwd, process))
    try:
        channel = await node.mesh.open(peer.fingerprint, TREE)
        try:
            [root] = await node.services.attach(channel, namespace.domain, process, (aname,), name=peer.name)
        except FileError as error:
            if error.error not in (E.NOATTACH, E.ACCES):
                raise
            raise FileError(E.BADTOKEN, f"{peer.name}'s token") from None
        try:
            # With create: what may not be made is then refused for want of the right.
            namespace.mount(root, where, MREPL | (MCREATE if root.qid.is_dir else 0))
        finally:
            root.close()
    finally:
        where.close()
    return {"peer": peer.name, "at": at}


async def _tokens(node: Node, arguments: Arguments) -> Any:
    return list(node.tokens.rows({peer.fingerprint: peer.name for peer in node.book.all()}))


HANDING: dict[str, Callable[[Node, Arguments], Awaitable[Any]]] = {"mint": _mint, "redeem": _redeem, "tokens": _tokens}
