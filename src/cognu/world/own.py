"""This machine's own addresses, and the host's word that they are others: rtnetlink(7), on Linux."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable
from typing import Final

log = logging.getLogger("cognu.world")

GROUPS: Final = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of linux/rtnetlink.h: interfaces, and their addresses."""
NOTICE_BYTES: Final = 1 << 16
NOTICES: Final = 64
"""That are taken in one turn of the loop."""


def addresses() -> list[str]:
    """Those that packets to the outside would leave from, or where nothing leads outside all but those of one link;
    then loopback. IPv6 ones in brackets.
    """
    found: list[str] = []
    # Connecting a datagram socket sends nothing; it asks the host's routing table. The addresses are RFC 5737's
    # and RFC 3849's, for documentation.
    for family, beyond in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((beyond, 9))
                host = str(probe.getsockname()[0])
        except OSError:
            continue  # no way out by that family
        found.append(f"[{host}]" if ":" in host else host)
    return [*(found or _within()), "127.0.0.1"]


def _within() -> list[str]:
    """Those that mean the same to any machine that hears of them, IPv4 first."""
    hosts = [host for host in interfaces() if "%" not in host]
    told = [host for host in hosts if not ipaddress.ip_address(host.strip("[]")).is_loopback]
    return sorted(told, key=lambda host: host.startswith("["))


def interfaces() -> dict[str, str]:
    """The interface of each address, IPv6 ones in brackets, those of one link with their interface."""
    import ifaddr  # A node without peers never loads it.

    found: dict[str, str] = {}
    for adapter in ifaddr.get_adapters():
        for at in adapter.ips:
            # An IPv6 address is told with its flow and its scope, which is 0 but for those of one link.
            if isinstance(at.ip, str):
                found[at.ip] = adapter.nice_name
            else:
                found[f"[{at.ip[0]}{f'%{adapter.nice_name}' if at.ip[2] else ''}]"] = adapter.nice_name
    return found


def follow(changed: Callable[[], None]) -> Callable[[], None] | None:
    """See `Network.follow`. What the host says is not read: its addresses are there to be looked at."""
    if sys.platform != "linux":
        return None
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    except OSError as error:
        log.info("the host does not tell of its addresses, which are looked at: %s", error)
        return None
    try:
        sock.bind((0, GROUPS))
    except OSError as error:
        sock.close()
        log.info("the host does not tell of its addresses, which are looked at: %s", error)
        return None
    loop = asyncio.get_running_loop()

    def said() -> None:
        try:
            for _ in range(NOTICES):
                sock.recv(NOTICE_BYTES)
        except BlockingIOError:
            pass
        except OSError:
            pass  # ENOBUFS: it had more to say than there was room for (netlink(7))
        changed()

    def end() -> None:
        if not loop.is_closed():
            loop.remove_reader(sock.fileno())
        sock.close()

    loop.add_reader(sock.fileno(), said)
    return end
