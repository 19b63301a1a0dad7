"""Which ports may be announced, and announcing at one of them: what tcp and udp share.

A grant says it as `net:listen`, every port from 1024 up, or `net:listen=PORT` or `net:listen=FIRST-LAST`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Protocol, TypeVar

from cognu.devices.conversation import announced_address
from cognu.errors import THERE, E, FileError

EVERY = range(65536)
NONE = range(0)
USUAL = range(1024, 65536)
"""Below are those of the host's own services (RFC 6335, System Ports)."""
MOST_TRIED = 64
"""Of a narrower range, how many are tried for port 0, any."""
_PORTS = re.compile(r"listen(?:=([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?)?")


class Announced(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Announced)


def parse_listen(text: str) -> range | None:
    """The ports of `listen`, `listen=PORT` or `listen=FIRST-LAST`; None for anything else."""
    found = _PORTS.fullmatch(text)
    if found is None:
        return None
    if found[1] is None:
        return USUAL
    first, last = int(found[1]), int(found[2] or found[1])
    whole = first < last if found[2] else True  # one port is written in one way
    return range(first, last + 1) if whole and last <= 65535 else None


async def announce_at(word: str, usage: str, ports: range, begin: Callable[[str], Awaitable[T]]) -> T:
    """What `begin` makes at an address that is written `[ADDRESS!]PORT`, at one of `ports`.

    Raises USAGE, ACCES, naming the grant, and what `begin` does.
    """
    address = announced_address(word, usage)
    host, _, text = address.rpartition(":")
    port = int(text)
    if not ports:
        said = f"the grant net is for dialling{THERE}grants revoke WHO net, and then grants set WHO net:listen"
        raise FileError(E.ACCES, f"announce {word}", said)
    if port in ports or (not port and ports in (EVERY, USUAL)):
        return await begin(address)  # the host chooses none below 1024
    if port:
        said = f"the grant net:listen is for ports {ports[0]}-{ports[-1]}"
        said += f"{THERE}grants set WHO net:listen={port}, in place of that one"
        raise FileError(E.ACCES, f"announce {word}", said)
    for candidate in islice(ports, MOST_TRIED):
        try:
            return await begin(f"{host}:{candidate}")
        except FileError as error:
            if error.error is not E.ADDRINUSE:
                raise
    raise FileError(E.ADDRINUSE, f"announce {word}", f"{ports[0]} and after")
