"""Listening by IPv4 and IPv6 at one port: what the host `*` means in an address to listen at.

There are two sockets, so that each call is told by the address it really comes from; one IPv6 socket for both would
tell of IPv4 calls as `::ffff:192.0.2.1` (ipv6(7)), which is no address that another machine could be given.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from cognu.errors import E, FileError
from cognu.world.net import listening_socket
from cognu.world.sockets import join_address

FAMILIES: Final = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))
TRIES: Final = 16
"""A port that the host chose for one family may be taken in the other; so many are tried."""
_LACKING: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def is_lacking(error: BaseException | None) -> bool:
    """Whether the host said so because it has not got the address family at all, or has it turned off."""
    return isinstance(error, OSError) and error.errno in _LACKING


def at_one_port(port: int) -> tuple[list[socket.socket], str]:
    """Listening sockets for every address of this host, one of each family that it has, and their address: `*:PORT`,
    or that of the one family which there is. Port 0: any that is free in both.

    Raises `FileError`: ADDRINUSE also if only one of them can't be had, ACCES. No socket is open then.
    """
    for left in reversed(range(TRIES)):
        try:
            return _once(port)
        except FileError as error:
            if port != 0 or error.error is not E.ADDRINUSE or not left:
                raise
    raise AssertionError("the last one returned or raised")


def _once(port: int) -> tuple[list[socket.socket], str]:
    socks: list[socket.socket] = []
    try:
        for family, host in FAMILIES:
            at = socks[0].getsockname()[1] if socks else port
            try:
                socks.append(listening_socket(family, (host, at), f"*:{at}", alone=family == socket.AF_INET6))
            except FileError as error:
                if not is_lacking(error.__cause__) or (host == FAMILIES[-1][1] and not socks):
                    raise
    except BaseException:
        for sock in socks:
            sock.close()
        raise
    found = join_address(socks[0].getsockname())
    return socks, found if len(socks) == 1 else f"*:{found.rpartition(':')[2]}"
