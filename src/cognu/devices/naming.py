"""What `/net/cs` and `/net/dns` know: machines by their pet names, then whatever the host's resolver says.

A pet name has no dot, so that it hides at most a name of the local network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from cognu.devices.lookups import Lookups
from cognu.errors import E, FileError
from cognu.files.server import Caller
from cognu.files.steps import Steps
from cognu.files.tree import Node, TreeFid
from cognu.world import Network


class Known(NamedTuple):
    """A machine: its hosts, numeric (IPv6 without brackets) or names, the likeliest first; and the path of its /net,
    empty where it lends none."""

    hosts: tuple[str, ...]
    net: str = ""


class Machines(Protocol):
    """The machines that this one knows by name."""

    def find(self, name: str) -> Known | None: ...

    def named(self, address: str) -> str | None:
        """The name of the machine at a numeric address."""


class Nobody:
    """No machines."""

    def find(self, name: str) -> Known | None:
        return None

    def named(self, address: str) -> str | None:
        return None


class Resolver:
    """Names and addresses by `machines`, and by the network's resolver where these know nothing.

    The network's is asked by way of `lookups`: each method raises AGAIN if who asks has too many questions open.
    """

    def __init__(self, network: Network, machines: Machines, lookups: Lookups) -> None:
        self._network = network
        self._lookups = lookups
        self.machines = machines

    def addresses(self, host: str, caller: Caller | None) -> Steps[list[str]]:
        """Numeric, the best first. Raises HOSTUNREACH."""
        known = self.machines.find(host)
        if known is None:
            return (yield from self._resolved(host, caller))
        found: list[str] = []
        for each in known.hosts:
            try:
                found += [each] if is_numeric(each) else (yield from self._resolved(each, caller))
            except FileError as error:
                if error.error is E.AGAIN:
                    raise
                continue  # one of several ways to name it
        if not found:
            raise FileError(E.HOSTUNREACH, host, "no address of this machine is known here")
        return list(dict.fromkeys(found))

    def _resolved(self, host: str, caller: Caller | None) -> Steps[list[str]]:
        resolved: list[str]
        if is_numeric(host):  # at once
            resolved = yield self._network.resolve(host)
        else:
            resolved = yield self._lookups.ask(caller, lambda: self._network.resolve(host))
        return resolved

    def names(self, address: str, caller: Caller | None) -> Steps[list[str]]:
        """Raises HOSTUNREACH."""
        known = self.machines.named(address)
        if known is not None:
            return [known]
        resolved: list[str] = yield self._lookups.ask(caller, lambda: self._network.reverse(address))
        return resolved

    def port(self, service: str, protocol: str, caller: Caller | None) -> Steps[int]:
        """What the host knows. Raises NOENT."""
        port: int = yield self._lookups.ask(caller, lambda: self._network.service(service, protocol))
        return port


def is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Answering(Node):
    """A file to write a query to and read the answer from, from offset 0, a line to a read. It is the fid's own."""

    def __init__(self, name: str, longest: int) -> None:
        super().__init__(name, 0o666)
        self._longest = longest

    def open(self, fid: TreeFid, mode: int, caller: object) -> TreeFid | None:
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

    def asked(self, fid: TreeFid, data: bytes | memoryview) -> str:
        """The query; what was answered before is gone. Raises TOOBIG, ILSEQ."""
        if len(data) > self._longest:
            raise FileError(E.TOOBIG, self.name, f"{self._longest} bytes")
        try:
            query = bytes(data).decode().strip()
        except UnicodeDecodeError:
            raise FileError(E.ILSEQ, self.name) from None
        fid.state = []
        return query

    def answer(self, fid: TreeFid, lines: Iterable[str]) -> None:
        fid.state = [f"{line}\n".encode() for line in lines]
