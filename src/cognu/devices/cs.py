"""`/net/cs`, the connection server, as ndb(8): from `net!host!service` to what to open and what to write there.

Write a query, then read from offset 0: each read gives one line `/net/PROTOCOL/clone ADDRESS`, the best first. The host
`*` is for announcing: `tcp!*!9fs` gives `/net/tcp/clone *!564`.
"""

from __future__ import annotations

from collections.abc import Collection

from cognu.errors import E, FileError
from cognu.files.server import Caller, MaybeAsync
from cognu.files.steps import Steps, start
from cognu.files.tree import Node, TreeFid
from cognu.world import Network

MAX_QUERY = 1024
SERVICES = {
    "9fs": 564,
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


def parse_query(query: str) -> tuple[str, str, int]:
    """(protocol, host, port) of `tcp!host!service`, `udp!…` or `net!…` (tcp), ("unix", path, 0) of `unix!/path`.

    Port 0 only with the host `*`.

    Raises USAGE, and NOENT for a service nobody knows, NOPROTO for a protocol that is not here.
    """
    protocol, _, rest = query.partition("!")
    if protocol == "unix":
        if not rest.startswith("/") or "\0" in rest:
            raise FileError(E.USAGE, query, "unix!/PATH")
        return protocol, rest, 0
    host, _, service = rest.rpartition("!")
    if not host or not service or set(host) & set("! \0/"):
        raise FileError(E.USAGE, query, "net!HOST!SERVICE, tcp!…, udp!… or unix!/PATH")
    if protocol not in ("tcp", "udp", "net"):
        raise FileError(E.NOPROTO, protocol)
    port = 0 if (host, service) == ("*", "0") else parse_service(service)
    return "udp" if protocol == "udp" else "tcp", host, port


def parse_service(service: str) -> int:
    """The port of a number or a name. Raises NOENT."""
    if service.isascii() and service.isdigit() and len(service) <= 5 and 0 < int(service) <= 65535:
        return int(service)
    port = SERVICES.get(service)
    if port is None:
        raise FileError(E.NOENT, service, "no such service")
    return port


class ConnectionServer(Node):
    """`cs`. What a fid asked and got is the fid's own."""

    def __init__(self, network: Network, protocols: Collection[str]) -> None:
        super().__init__("cs", 0o666)
        self._network = network
        self._protocols = protocols

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid | None:
        fid.state = []
        return None

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        """The line that `offset` is in, from there on."""
        assert isinstance(fid.state, list)
        line: bytes
        for line in fid.state:
            if offset < len(line):
                return line[offset : offset + count]
            offset -= len(line)
        return b""

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        if len(data) > MAX_QUERY:
            raise FileError(E.TOOBIG, "cs", f"{MAX_QUERY} bytes")
        try:
            query = bytes(data).decode().strip()
        except UnicodeDecodeError:
            raise FileError(E.ILSEQ, "cs") from None
        fid.state = []
        return start(self._ask(fid, query, len(data)))

    def _ask(self, fid: TreeFid, query: str, size: int) -> Steps[int]:
        protocol, host, port = parse_query(query)
        if protocol not in self._protocols:
            raise FileError(E.NOPROTO, protocol)
        if protocol == "unix":
            found = [host]
        elif host == "*":
            found = [f"*!{port}"]
        else:
            addresses: list[str] = yield self._network.resolve(host)
            found = [f"{address}!{port}" for address in addresses]
        fid.state = [f"/net/{protocol}/clone {address}\n".encode() for address in found]
        return size
