"""Machines on the same networks, as protocols: what is announced and heard; `world.neighbours` is the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Service(NamedTuple):
    """A service on the local networks, as DNS-SD has it (RFC 6763). Whoever announces it may lie in all of it.

    `instance` is one label of at most 63 bytes; `hosts` are numeric, IPv6 ones without brackets, those of one link
    with their interface (`fe80::1%eth0`); `text` are the pairs of its TXT record, values at most 255 bytes with name.
    """

    instance: str
    hosts: tuple[str, ...]
    port: int
    text: Mapping[str, bytes]


class Hearing(Protocol):
    """Who is told, from the loop itself, what happens on the local networks. None of these may raise or wait."""

    def heard(self, service: Service) -> None:
        """It is there, or is another than before under the same instance; one's own too."""

    def gone(self, instance: str) -> None:
        """It said so, or was not heard any more. One that was never heard may go."""

    def moved(self) -> None:
        """This machine has other addresses than before."""


class Neighbourhood(Protocol):
    """What is announced on the local networks, and listened to there. Interfaces may come and go, none be there."""

    async def announce(self, service: Service | None) -> None:
        """Be known as `service` from now on, in place of what was announced before; None: as nothing.

        On each network it has the addresses that this machine has there; with `hosts`, those of them alone, and nothing
        is said where there are none. Returns when it was said, or will be when there is a network.
        """

    async def close(self) -> None:
        """Say that what was announced is gone, and hear no more. May be called twice."""


class Neighbours(Protocol):
    """Machines on the same networks: multicast DNS (RFC 6762)."""

    async def meet(self, kind: str, hearing: Hearing, families: Sequence[int] = (4, 6)) -> Neighbourhood:
        """Listen for services of a kind (`_cognu._tcp`). `families` are of the own addresses that are announced.

        A host without a network, or whose networks refuse, is no error: what was refused goes to the log, once.
        """
