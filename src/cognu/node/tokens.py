"""Tokens that hand on a tree of this node to another machine: the export table (docs/9p-ng.md, Tmint).

Each holds the tree in a domain of its own, under a capability minted from its maker's; what redeems it works under one
minted from that. So taking it back ends all use of it, and so does the end of whatever it came from. A token that is
used up stays as long as somebody has the tree by it. All of them are gone when the node ends.
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from cognu.errors import E, FileError
from cognu.files.authority import Authority, letters_of
from cognu.files.chan import Chan, Domain, Path
from cognu.files.launch import TOKEN_LABEL
from cognu.files.server import HandOn, Token
from cognu.files.shown import Filter
from cognu.kernel import GRANT, Cap
from cognu.ninep.compound import MOST_SECONDS
from cognu.world import Senses

MOST = 256
"""Tokens in force, or by which somebody has something."""
MOST_OF_ONE = 64
"""The same, made for one machine that asked for them."""
MOST_OF_OTHERS = MOST - MOST_OF_ONE
"""The same, made for all machines that asked: there is room for what this node's user makes."""
MOST_USES = 16
TOKEN_BYTES = 20
SECOND = 1_000_000_000


@dataclass(eq=False)
class Handed:
    """One token: for which peer (fingerprint), asked for by which (empty: by this node's user), and how it stands."""

    number: int
    digest: bytes
    peer: str
    by: str
    path: str
    rights: int
    shown: Filter
    chan: Chan
    left: int  # times that it may still be redeemed
    until: int  # on the monotonic clock, in ns
    used: int = 0  # connections that have the tree by it


class Tokens:
    """The tokens of one node. Used on the loop's thread alone; nothing here waits."""

    def __init__(self, world: Senses, authority: Authority) -> None:
        self._world = world
        self._handed: dict[int, Handed] = {}
        self._by_cap: dict[Cap, Handed] = {}
        self._last = 0
        authority.on_death.append(self._died)

    def make(
        self,
        holder: Domain,
        chan: Chan,
        what: HandOn,
        by: str = "",
        path: str = "",
        shown: Filter = Filter(),  # noqa: B008
    ) -> tuple[Token, int]:
        """A token for the tree at `chan` alone, whatever is mounted there, and its number, which is no secret.

        `holder` pays for what it is held by. Raises ACCES for rights that the chan has not, INVAL, DQUOT, REVOKED.
        """
        if not 1 <= what.uses <= MOST_USES or what.seconds < 1:
            raise FileError(E.INVAL, "token", f"for 1 to {MOST_USES} uses, and at least a second")
        self._forget_expired()
        self._check_room(by)
        chan.domain.check(chan.cap, what.rights | GRANT)
        domain = Domain(chan.domain.authority, holder)
        try:
            # With GRANT, by which it is handed to those who redeem it; they get `rights`.
            cap = chan.domain.mint(chan.cap, what.rights | GRANT, domain)
            held = Chan(chan.handle, domain, cap, Path(None, "/"), chan.origin)
        finally:
            domain.release()
        text = b32encode(self._world.random.bytes(TOKEN_BYTES)).decode().lower()
        seconds = min(what.seconds, MOST_SECONDS)
        self._last += 1
        self._handed[self._last] = self._by_cap[cap] = Handed(
            self._last, digest_of(text), what.peer, by, path, what.rights, shown, held, what.uses,
            self._world.clock.monotonic() + seconds * SECOND,
        )  # fmt: skip
        return Token(text, seconds), self._last

    def _check_room(self, by: str) -> None:
        makers = [handed.by for handed in self._handed.values() if handed.by]
        if by and makers.count(by) >= MOST_OF_ONE:
            raise FileError(E.DQUOT, "tokens", f"{MOST_OF_ONE} at a time for one machine")
        if by and len(makers) >= MOST_OF_OTHERS:
            raise FileError(E.DQUOT, "tokens", f"{MOST_OF_OTHERS} at a time for other machines")
        if len(self._handed) >= MOST:
            raise FileError(E.DQUOT, "tokens", f"{MOST} at a time")

    def redeem(self, aname: str, peer: str) -> Handed:
        """What a peer's attach name stands for; `leave` it in the end.

        Raises NOATTACH: unknown, expired, used up, taken back, or another peer's, without a word of which.
        """
        self._forget_expired()
        digest = digest_of(aname.removeprefix(TOKEN_LABEL))
        found = [handed for handed in self._handed.values() if hmac.compare_digest(handed.digest, digest)]
        if not found or found[0].peer != peer or not found[0].left:
            raise FileError(E.NOATTACH, TOKEN_LABEL, "no such token for this peer")
        found[0].left -= 1
        found[0].used += 1
        return found[0]

    def leave(self, handed: Handed) -> None:
        """A connection that had it ended."""
        handed.used -= 1
        self._forget_expired()

    def revoke(self, peer: str, number: int) -> None:
        """End a token of that peer, and all that was derived from it, in the midst of what runs. Raises NOGRANT."""
        handed = self._handed.get(number)
        if handed is None or handed.peer != peer:
            raise FileError(E.NOGRANT, f"token:{number}")
        handed.chan.domain.authority.revoke(handed.chan.domain.pid, handed.chan.cap)
        self._forget(handed)

    def forget(self, peer: str) -> None:
        """End all tokens for a peer."""
        for handed in self.all():
            if handed.peer == peer:
                self.revoke(peer, handed.number)

    def close(self) -> None:
        for handed in list(self._handed.values()):
            self.revoke(handed.peer, handed.number)

    def all(self) -> list[Handed]:
        """Those in force, or by which somebody has something, in order of making."""
        self._forget_expired()
        return list(self._handed.values())

    def rows(self, name_of: dict[str, str]) -> Iterator[dict[str, object]]:
        """What JSON can say of each; `seconds` and `uses` are what is left. `name_of`: peers by fingerprint."""
        now = self._world.clock.monotonic()
        for handed in self.all():
            yield {
                "number": handed.number,
                "peer": name_of.get(handed.peer, handed.peer),
                "by": name_of.get(handed.by, handed.by),
                "path": handed.path,
                "rights": letters_of(handed.rights),
                "uses": handed.left,
                "seconds": max(0, (handed.until - now) // SECOND),
                "open": handed.used,
            }

    def _forget_expired(self) -> None:
        now = self._world.clock.monotonic()
        for handed in list(self._handed.values()):
            if now >= handed.until:
                handed.left = 0
            if not handed.left and not handed.used:
                self._forget(handed)

    def _died(self, cap: Cap) -> None:
        handed = self._by_cap.get(cap)
        if handed is not None:
            self._forget(handed)

    def _forget(self, handed: Handed) -> None:
        if self._handed.pop(handed.number, None) is not None:
            del self._by_cap[handed.chan.cap]
            handed.chan.close()


def digest_of(token: str) -> bytes:
    return sha256(token.encode("utf-8", "backslashreplace")).digest()
