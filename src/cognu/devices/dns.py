"""`/net/dns`, as dns(8) of Plan 9: write `NAME TYPE`, then read from offset 0, a line `NAME TYPE VALUE` to a read.

Types are those that the host's resolver answers by itself, with whatever it is set up to ask (files, DNS, mDNS): `ip`
and `ipv6`, an address, and `ptr`, the name of an address, which may be written as `in-addr.arpa` has it too. Machines
are known by their pet names.
"""

from __future__ import annotations

import ipaddress

from cognu.devices.naming import Answering, Resolver
from cognu.errors import E, FileError
from cognu.files.server import MaybeAsync
from cognu.files.steps import Steps, start
from cognu.files.tree import TreeFid

MAX_QUERY = 300
"""Bytes: a name has at most 255."""
TYPES = ("ip", "ipv6", "ptr")
USAGE = "NAME [ip|ipv6|ptr]"
_ARPA4, _ARPA6 = ".in-addr.arpa", ".ip6.arpa"


def parse_question(query: str) -> tuple[str, str]:
    """(name, type); the name is a numeric address for `ptr`. Raises USAGE, and NOTSUP for a type that is not here."""
    words = query.split()
    if not 1 <= len(words) <= 2 or set(query) & set("\0/!"):
        raise FileError(E.USAGE, query, USAGE)
    name, kind = words[0], words[1] if len(words) == 2 else "ip"
    if kind not in TYPES:
        raise FileError(E.NOTSUP, kind, f"of a name the host's resolver tells {', '.join(TYPES)}")
    return (_address(name) if kind == "ptr" else name), kind


def _address(name: str) -> str:
    """The address that a name of a `ptr` record stands for (RFC 1035 3.5, RFC 3596 2.5), or that it is."""
    labels = name.lower().removesuffix(".")
    if labels.endswith(_ARPA4):
        text = ".".join(reversed(labels.removesuffix(_ARPA4).split(".")))
    elif labels.endswith(_ARPA6):
        digits = labels.removesuffix(_ARPA6).split(".")
        if len(digits) != 32 or any(len(digit) != 1 for digit in digits):
            raise FileError(E.USAGE, name, USAGE)
        joined = "".join(reversed(digits))
        text = ":".join(joined[at : at + 4] for at in range(0, 32, 4))
    else:
        text = name
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise FileError(E.USAGE, name, "ptr is asked of an address") from None


class DnsFile(Answering):
    """`dns`."""

    def __init__(self, resolver: Resolver) -> None:
        super().__init__("dns", MAX_QUERY)
        self._resolver = resolver

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        """Raises what `parse_question` does, HOSTUNREACH for what nobody knows, and AGAIN."""
        return start(self._ask(fid, self.asked(fid, data), len(data)))

    def _ask(self, fid: TreeFid, query: str, size: int) -> Steps[int]:
        name, kind = parse_question(query)
        if kind == "ptr":
            found = yield from self._resolver.names(name, fid.caller)
        else:
            version = 4 if kind == "ip" else 6
            every = yield from self._resolver.addresses(name, fid.caller)
            found = [each for each in every if ipaddress.ip_address(each).version == version]
            if not found:
                raise FileError(E.HOSTUNREACH, name, f"it has no address of type {kind}")
        self.answer(fid, [f"{name} {kind} {each}" for each in found])
        return size
