"""Processes lent to a peer: a program runs over there, on this side's files and streams.

A lent process exists here, with its namespace and descriptors; a token, made for one peer, lets that peer attach to
them, once. When the lending ends, what the token was redeemed for ends too.
"""

from __future__ import annotations

from base64 import b32encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cognu.errors import E, FileError
from cognu.files.attach import attach
from cognu.files.chan import Chan
from cognu.files.launch import TOKEN_LABEL, told
from cognu.files.mounts import Device
from cognu.files.process import Process, State
from cognu.files.reach import WANTS, reach_root
from cognu.files.steps import Steps
from cognu.kernel import READ, WRITE
from cognu.world import Random

STREAMS = "#d"
"""The attach name for the lent process's descriptors, as files; "" is its namespace."""


@dataclass
class Lent:
    process: Process
    peer: str  # fingerprint of who may redeem it; "" is a shell of this node
    close: Callable[[], None] | None = None  # ends what it was redeemed for; None: it was not yet


class Lending:
    """Tokens in force."""

    def __init__(self, random: Random) -> None:
        self._random = random
        # By the token's digest: how long looking one up takes says nothing of those in force.
        self._lent: dict[bytes, Lent] = {}

    def lend(self, process: Process, peer: str) -> str:
        """A token for `peer`, to be redeemed once; end it with `end`."""
        token = b32encode(self._random.bytes(20)).decode().lower()
        self._lent[_digest(token)] = Lent(process, peer)
        return token

    def end(self, token: str) -> None:
        """The token is worth nothing from now on, and what it was redeemed for is closed. May be called twice."""
        lent = self._lent.pop(_digest(token), None)
        if lent is not None and lent.close is not None:
            lent.close()

    def redeem(self, label: str, peer: str, close: Callable[[], None]) -> Process:
        """The process that a label or attach name asks for; `close` is called when the lending ends.

        Raises NOATTACH: unknown, redeemed before, ended, or another peer's, without a word of which.
        """
        lent = self._lent.get(_digest(label.removeprefix(TOKEN_LABEL)))
        if lent is None or lent.peer != peer or lent.close is not None or lent.process.state is State.DEAD:
            raise FileError(E.NOATTACH, TOKEN_LABEL, "no such token for this peer")
        lent.close = close
        return lent.process


class LentObjects:
    """Objects of the store that peers may fetch although they are not published: programs about to run there."""

    def __init__(self) -> None:
        self._lent: Counter[tuple[str, str]] = Counter()

    def lend(self, name: str, peer: str) -> Callable[[], None]:
        """Let a peer, by fingerprint, fetch an object until what this returns is called, once or more often."""
        ended = False
        self._lent[name, peer] += 1

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._lent[name, peer] -= 1
                if not self._lent[name, peer]:
                    del self._lent[name, peer]

        return end

    def lends(self, name: str, peer: str) -> bool:
        return (name, peer) in self._lent


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "backslashreplace")).digest()


def attach_lent(process: Process, aname: str, descriptors: Device) -> Steps[Chan]:
    """The root of a lent process's namespace, or its streams, which `descriptors` (`#d`) shows.

    A program's namespace has no devices, so that one is the node's.
    """
    if aname == "":
        return process.namespace.root.share()
    domain = process.namespace.domain
    if aname == WANTS and process.reach is not None:
        return (yield from reach_root(process, process.reach))
    if aname != STREAMS:
        raise FileError(E.NOATTACH, told(aname))
    cap = descriptors.domain.mint(descriptors.cap, READ | WRITE, domain)
    return (yield from attach(descriptors.server, domain, cap, process, name=STREAMS))
