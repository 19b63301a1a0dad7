"""Whom to cut when too many wait at a door: however many come from one place, one from elsewhere gets its turn."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def place_of(address: str) -> str:
    """Where a connection from `HOST:PORT` comes from: its IPv4 address, or the first 64 bits of its IPv6 address, for
    a host has all of the others (RFC 7421)."""
    host = address.rpartition(":")[0]
    try:
        numeric = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    if isinstance(numeric, ipaddress.IPv6Address):
        plain = numeric.ipv4_mapped
        return str(plain) if plain is not None else str(ipaddress.ip_network((numeric, 64), strict=False))
    return str(numeric)


def one_too_many(waiting: Mapping[T, str]) -> T:
    """The oldest of the place that has most; `waiting`, the oldest first, are those who wait, with their places."""
    busiest = Counter(waiting.values()).most_common(1)[0][0]
    return next(who for who, place in waiting.items() if place == busiest)
