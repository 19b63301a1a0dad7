"""Where machines may be reached: what the peer book has, what was heard lately, and how it went there. No I/O.

What is heard comes from anybody on the same network, so it is bounded, gets old, is never written down, and is tried
after what the book has. Where a machine proved its key when it was dialled comes first in the book (`PeerBook`). What a
peer says of its own listener, on a link, is heard too; the last that it said is kept in the book, behind all others, so
that a machine that only ever was called can call after a restart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cognu.mesh.identity import ADDRESS_LENGTH, ADDRESS_LIMIT
from cognu.mesh.liveness import SECOND

HEARD_SECONDS: Final = 3600
"""What was not heard again for so long is forgotten."""
TRIED_LIMIT: Final = 2 * ADDRESS_LIMIT


@dataclass(frozen=True)
class Reserve:
    """Another address of a peer. `heard`: by discovery, and not yet used; `rtt` is ns as measured there last, None if
    it was not; `failed`: nobody answered there last."""

    address: str
    heard: bool
    rtt: int | None
    failed: bool


@dataclass
class _Tried:
    """How it went at one address, last. `proved`: the peer showed its key there, `answered`: to be linked to there."""

    proved: int | None = None
    answered: int | None = None
    failed: int | None = None
    rtt: int | None = None


def is_address(text: str) -> bool:
    """Whether it is a numeric `HOST:PORT` (IPv6 in brackets, with an interface where needed) that may be dialled."""
    host, _, port = text.rpartition(":")
    if len(text) > ADDRESS_LENGTH or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        return False
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        found = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        return False
    return bracketed == (found.version == 6) and not found.is_multicast and not found.is_unspecified


def leading_out(hosts: Iterable[str]) -> tuple[str, ...]:
    """Of this machine's hosts those by which others may know it: not the loopback, nor those of one link, unless it has
    no others. IPv6 ones in brackets."""
    ranked = [(_reach(host), host) for host in hosts]
    farthest = max((reach for reach, _ in ranked), default=0)
    return tuple(host for reach, host in ranked if reach == farthest)


def leading_there(addresses: Iterable[str], here: str, there: str) -> tuple[str, ...]:
    """Of the addresses that another machine says it has, those that may lead there from this one.

    `here` and `there` are the ends of a connection with it, as HOST:PORT. Its loopback is none of them, but where both
    are one machine; nor is an address of one link, but where they met on one, and it names no interface of its own.
    """
    near = min(_reach(_host(here)), _reach(_host(there)))
    if _host(here) == _host(there) or near == _LOOPBACK:
        return tuple(addresses)
    return tuple(address for address in addresses if _reach(_host(address)) >= near and "%" not in address)


_LOOPBACK, _LINK, _ANYWHERE = range(3)


def _reach(host: str) -> int:
    """From how far it leads there; a name is taken to lead there from anywhere."""
    try:
        found = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return _ANYWHERE
    if found.is_loopback:
        return _LOOPBACK
    return _LINK if found.is_link_local else _ANYWHERE


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


class Addresses:
    """Of one peer. `book` is what the peer book has at the moment, in its order."""

    def __init__(self) -> None:
        self.claimed = ""
        """Where the peer said last that it listens, unless it answered there since."""
        self._heard: dict[str, int] = {}
        self._tried: dict[str, _Tried] = {}

    def hear(self, addresses: Iterable[str], now: int) -> bool:
        """The peer is said to be at these; whether one is new. What is no address is left out, the oldest dropped."""
        before = set(self._fresh(now))
        for address in list(addresses)[:ADDRESS_LIMIT]:
            if is_address(address):
                self._heard.pop(address, None)
                self._heard[address] = now
        self._heard = dict(list(self._heard.items())[-ADDRESS_LIMIT:])
        return not set(self._heard) <= before

    def answered(self, address: str, now: int) -> None:
        """It proved its key there, and is linked to there."""
        tried = self._note(address)
        tried.answered = tried.proved = now

    def measured(self, address: str, now: int, rtt: int) -> None:
        """It proved its key there, where a round trip takes so many ns. That it is linked to elsewhere stays so."""
        tried = self._note(address)
        tried.proved, tried.rtt = now, rtt

    def failed(self, address: str, now: int) -> None:
        self._note(address).failed = now

    def refuted(self, addresses: Iterable[str]) -> bool:
        """Whether at all of these a dial failed since the peer was last said to be there."""
        rows = [(self._tried.get(address, _Tried()), self._heard.get(address, 0)) for address in addresses]
        return all(tried.failed is not None and tried.failed >= max(heard, tried.proved or 0) for tried, heard in rows)

    def failed_before(self, addresses: Iterable[str], before: int) -> bool:
        """Whether at one of these nobody answered last, and that was before then."""
        return any(self._fails(address) and (self._tried[address].failed or 0) < before for address in addresses)

    def ever_answered(self, addresses: Iterable[str]) -> bool:
        return any((tried := self._tried.get(address)) and tried.proved is not None for address in addresses)

    def order(self, book: Sequence[str], now: int) -> list[str]:
        """All of them, the likeliest first: the fastest of those that were measured, then where it answered last; the
        other family next (RFC 8305, 4), and so on in turns. Those where nobody answered last come last."""
        known = list(dict.fromkeys([*book, *reversed(self._fresh(now))]))
        good = [address for address in known if not self._fails(address)]
        good.sort(key=self._rank)
        return [*_in_turns(good), *_in_turns([address for address in known if self._fails(address)])]

    def reserves(self, book: Sequence[str], used: str, now: int) -> tuple[Reserve, ...]:
        """All but the one that is used, in the order in which they would be dialled."""
        rows = []
        for address in self.order(book, now):
            if address != used:
                tried = self._tried.get(address, _Tried())
                rows.append(Reserve(address, address not in book, tried.rtt, self._fails(address)))
        return tuple(rows)

    def _fresh(self, now: int) -> list[str]:
        self._heard = {address: at for address, at in self._heard.items() if now - at < HEARD_SECONDS * SECOND}
        return list(self._heard)

    def _fails(self, address: str) -> bool:
        tried = self._tried.get(address)
        return tried is not None and tried.failed is not None and tried.failed >= (tried.proved or 0)

    def _rank(self, address: str) -> tuple[bool, int, int]:
        tried = self._tried.get(address, _Tried())
        return tried.rtt is None, tried.rtt or 0, -(tried.answered or 0)

    def _note(self, address: str) -> _Tried:
        tried = self._tried.pop(address, None) or _Tried()
        self._tried[address] = tried
        while len(self._tried) > TRIED_LIMIT:
            del self._tried[next(iter(self._tried))]
        return tried


def _in_turns(addresses: Sequence[str]) -> list[str]:
    """One of each family at a time, the first's first; names count as IPv4."""
    if not addresses:
        return []
    six = addresses[0].startswith("[")
    first = [address for address in addresses if address.startswith("[") == six]
    other = [address for address in addresses if address.startswith("[") != six]
    ordered: list[str] = []
    while first or other:
        ordered += first[:1] + other[:1]
        first, other = first[1:], other[1:]
    return ordered
