"""`/net/cs`, the connection server, as ndb(8): from `net!host!service` to what to open and what to write there.

Write a query, then read from offset 0: each read gives one line `/net/PROTOCOL/clone ADDRESS`, the best first. The host
`*` is for announcing: `tcp!*!9fs` gives `/net/tcp/clone *!564`.

A host may be a machine's pet name: a line for each address that it is known by, where it was reached last first. If it
lends its network, the last line leads through that to the machine itself: `/n/pi/net/tcp/clone 127.0.0.1!80`. So who
tries them in turn, as dial(2), reaches what listens there for itself alone, and a machine whose address is not known.
A service is a number, a name of the table here, or one that the host knows.

What cs of Plan 9 answers from the network's database, `net!$ATTRIBUTE!SERVICE` and `!ATTRIBUTE=VALUE...`, is not
answered here: what has attributes is in the registry, and whoever has a network is not told of that by it.
"""

from __future__ import annotations

from collections.abc import Collection

from cognu.devices.naming import Answering, Resolver
from cognu.errors import E, FileError
from cognu.files.server import Caller, MaybeAsync
from cognu.files.steps import Steps, start
from cognu.files.tree import TreeFid

LOOPBACK = "127.0.0.1"
MAX_QUERY = 1024
ELSEWHERE = "services are found by their attributes in /mnt/registry/find, or with the command services"
SERVICES = {
    "9fs": 564,
    "9p": 564,
    "9pfs": 564,
    "domain": 53,
    "echo": 7,
    "exportfs": 17007,
    "ftp": 21,
    "http": 80,
    "https": 443,
    "imap": 143,
    "imaps": 993,
    "ncpu": 17010,
    "rcpu": 17019,
    "secstore": 5356,
    "smtp": 25,
    "ssh": 22,
    "telnet": 23,
    "ticket": 567,
    "venti": 17034,
}
"""IANA's service names that people use, and Plan 9's (ndb/common)."""


def parse_query(query: str) -> tuple[str, str, str]:
    """(protocol, host, service) of `tcp!host!service`, `udp!…` or `net!…` (tcp), ("unix", path, "") of `unix!/path`.

    Raises USAGE, NOPROTO for a protocol that is not here, and NOTSUP for what asks for attributes.
    """
    if query.startswith("!") and "=" in query:
        raise FileError(E.NOTSUP, query, ELSEWHERE)
    protocol, _, rest = query.partition("!")
    if protocol == "unix":
        if not rest.startswith("/") or "\0" in rest:
            raise FileError(E.USAGE, query, "unix!/PATH")
        return protocol, rest, ""
    host, _, service = rest.rpartition("!")
    if not host or not service or set(host + service) & set("! \0/\n\r\t"):
        raise FileError(E.USAGE, query, "net!HOST!SERVICE, tcp!…, udp!… or unix!/PATH")
    if host.startswith("$"):
        raise FileError(E.NOTSUP, query, ELSEWHERE)
    if protocol not in ("tcp", "udp", "net"):
        raise FileError(E.NOPROTO, protocol)
    return "udp" if protocol == "udp" else "tcp", host, service


def parse_service(service: str) -> int | None:
    """The port of a number, or of a name of `SERVICES`; None: the host may know. Raises NOENT for a wrong number."""
    if service.isascii() and service.isdigit():
        if len(service) <= 5 and 0 < int(service) <= 65535:
            return int(service)
        raise FileError(E.NOENT, service, "ports are 1 to 65535")
    return SERVICES.get(service)


class ConnectionServer(Answering):
    """`cs`. `ways`: it also names the way through the /net of a machine that lends it, which leads from this one."""

    def __init__(self, resolver: Resolver, protocols: Collection[str], *, ways: bool) -> None:
        super().__init__("cs", MAX_QUERY)
        self._resolver = resolver
        self._protocols = protocols
        self._ways = ways

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        """Raises what `parse_query` does, NOENT for a service and HOSTUNREACH for a host that nobody knows, AGAIN."""
        return start(self._ask(fid, self.asked(fid, data), len(data)))

    def _ask(self, fid: TreeFid, query: str, size: int) -> Steps[int]:
        protocol, host, service = parse_query(query)
        if protocol not in self._protocols:
            raise FileError(E.NOPROTO, protocol)
        clone = f"/net/{protocol}/clone"
        if protocol == "unix":
            self.answer(fid, [f"{clone} {host}"])
            return size
        port = yield from self._port(protocol, host, service, fid.caller)
        if host == "*":
            self.answer(fid, [f"{clone} *!{port}"])
            return size
        known = self._resolver.machines.find(host)
        through = [f"{known.net}/{protocol}/clone {LOOPBACK}!{port}"] if known and known.net and self._ways else []
        try:
            addresses = yield from self._resolver.addresses(host, fid.caller)
        except FileError as error:
            if not through or error.error is E.AGAIN:
                raise
            addresses = []
        self.answer(fid, [*(f"{clone} {address}!{port}" for address in addresses), *through])
        return size

    def _port(self, protocol: str, host: str, service: str, caller: Caller | None) -> Steps[int]:
        if (host, service) == ("*", "0"):
            return 0
        port = parse_service(service)
        return port if port is not None else (yield from self._resolver.port(service, protocol, caller))
