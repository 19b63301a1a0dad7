"""Machines by their pet names, for `/net/cs` and `/net/dns`: this one, and its peers where they are reached."""

from __future__ import annotations

from cognu.devices.naming import Known
from cognu.mesh.links import Whereabouts
from cognu.node.grants import NET, grant_of
from cognu.node.node import Node

OWN = ("127.0.0.1", "::1")


class PeerMachines:
    """Of one node. A peer comes before this machine, should both have a name."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def find(self, name: str) -> Known | None:
        """Where a peer is linked comes first. Only addresses where it proved its key, or that its user gave."""
        peer = next((row for row in self._node.mesh.whereabouts() if row.peer.name == name), None)
        if peer is not None:
            lends = {NET, grant_of("write", "/net")} & set(peer.peer.received)
            return Known(_hosts(peer), f"/n/{name}/net" if lends else "")
        if name == self._node.settings.name:
            return Known((*OWN, *(host.strip("[]") for host in self._node.hosts())))
        return None

    def named(self, address: str) -> str | None:
        for row in self._node.mesh.whereabouts():
            if address in _hosts(row):
                return row.peer.name
        return self._node.settings.name if address in OWN else None


def _hosts(row: Whereabouts) -> tuple[str, ...]:
    linked = [row.address] if row.address else []
    addresses = [*linked, *(reserve.address for reserve in row.reserves if not reserve.heard)]
    return tuple(dict.fromkeys(address.rpartition(":")[0].strip("[]") for address in addresses))
