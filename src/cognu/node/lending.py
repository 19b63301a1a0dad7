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
from cognu.files.dispatch import may
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

    def forget(self, peer: str) -> None:
        """Tokens for a peer, by fingerprint, are worth nothing any more, and what they were redeemed for is closed."""
        for token in [token for token, lent in self._lent.items() if lent.peer == peer]:
            lent = self._lent.pop(token)
            if lent.close is not None:
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


class LentTree:
    """What one connection may attach to of a lent process: "" is the root of its namespace; the others see `_make`.

    Each of the others is made once, however often it is attached to; `close` gives back what was made for it.
    """

    def __init__(self, process: Process, descriptors: Device) -> None:
        """`descriptors` (`#d`) shows those of any process. A program's namespace has no devices; that is the node's."""
        self._process = process
        self._descriptors = descriptors
        self._made: dict[str, Chan] = {}

    def attached(self, uname: str, aname: str) -> Steps[Chan]:
        """Raises NOATTACH for a name that is none, REVOKED."""
        if aname == "":
            return self._process.namespace.root.share()
        if aname not in self._made:
            self._made[aname] = yield from self._make(aname)
        return self._made[aname].share()

    def _make(self, aname: str) -> Steps[Chan]:
        """The root of the process's streams, or the file that takes what it wants. Both answer at once."""
        process = self._process
        domain = process.namespace.domain
        if aname == WANTS and process.reach is not None:
            return (yield from reach_root(process, process.reach))
        if aname != STREAMS:
            raise FileError(E.NOATTACH, told(aname))
        descriptors = self._descriptors
        cap = descriptors.domain.mint(descriptors.cap, READ | WRITE, domain)
        return (yield from attach(descriptors.server, domain, cap, process, name=STREAMS))

    def close(self) -> None:
        """The connection is over, its fids too. May be called twice."""
        while self._made:
            aname, root = self._made.popitem()
            authority = root.domain.authority
            if may(root, 0) and aname == WANTS:
                authority.end_server(authority.endpoint(root.domain.pid, root.cap))
            elif may(root, 0):
                authority.revoke(root.domain.pid, root.cap)
                authority.delete(root.domain.pid, root.cap)
            root.close()
