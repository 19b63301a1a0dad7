"""This machine's own addresses."""

from __future__ import annotations

import ipaddress
import socket


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
