"""A network in memory on which several nodes meet: `cognu.world.Neighbours` without a socket."""

from __future__ import annotations

from collections.abc import Sequence

from cognu.world.nearby import Hearing, Neighbourhood, Service


class FakeNetwork:
    """What one machine announces all others hear at once, and it itself too, as with multicast."""

    def __init__(self) -> None:
        self.places: list[FakeNeighbourhood] = []

    def tell(self, kind: str, service: Service) -> None:
        """What somebody, perhaps a liar, says."""
        for place in list(self.places):
            if place.kind == kind:
                place.hearing.heard(service)

    def end(self, kind: str, instance: str) -> None:
        for place in list(self.places):
            if place.kind == kind:
                place.hearing.gone(instance)


class FakeNeighbours:
    """One machine on a `FakeNetwork`. `hosts` are its addresses; `move` gives it others."""

    def __init__(self, network: FakeNetwork, *hosts: str) -> None:
        self.network = network
        self.hosts = hosts
        self.mine: list[FakeNeighbourhood] = []
        self.families: tuple[int, ...] = ()
        """Those that were announced last."""

    async def meet(self, kind: str, hearing: Hearing, families: Sequence[int] = (4, 6)) -> Neighbourhood:
        self.families = tuple(families)
        made = FakeNeighbourhood(self, kind, hearing)
        self.mine.append(made)
        self.network.places.append(made)
        for other in self.network.places:
            if other is not made and other.kind == kind and other.said is not None:
                hearing.heard(other.said)
        return made

    def move(self, *hosts: str) -> None:
        self.hosts = hosts
        for place in list(self.mine):
            place.hearing.moved()


class FakeNeighbourhood:
    def __init__(self, machine: FakeNeighbours, kind: str, hearing: Hearing) -> None:
        self.machine = machine
        self.kind = kind
        self.hearing = hearing
        self.said: Service | None = None

    async def announce(self, service: Service | None) -> None:
        before = self.said
        hosts = self.machine.hosts if service is None or not service.hosts else self._own(service.hosts)
        self.said = None if service is None or not hosts else service._replace(hosts=hosts)
        if before is not None and (self.said is None or self.said.instance != before.instance):
            self.machine.network.end(self.kind, before.instance)
        if self.said is not None:
            self.machine.network.tell(self.kind, self.said)

    def _own(self, hosts: Sequence[str]) -> tuple[str, ...]:
        return tuple(host for host in hosts if host in self.machine.hosts)

    async def close(self) -> None:
        await self.announce(None)
        if self in self.machine.mine:
            self.machine.mine.remove(self)
            self.machine.network.places.remove(self)
