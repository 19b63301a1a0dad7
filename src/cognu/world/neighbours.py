"""Machines on the same networks, by multicast DNS: `Neighbours` with the package zeroconf.

Each interface has a zeroconf of its own, and so a cache of its own: on each network this machine is at the addresses
that it has there and at no others (RFC 6762, 14), and what is heard there is not taken for what is heard elsewhere
(10.2). zeroconf listens on port 5353, which it shares with other programs (SO_REUSEPORT), at every address; Linux would
hand such a socket what comes for groups that others joined, on other interfaces, so that is turned off. Who hears of
one instance on several networks is told of all its addresses.

Interfaces are looked at every few seconds: asking for them is quick, and no system tells of changes in the same way.
While there is none, or none that may be used, nothing is open.

A text that was announced before and is so again, under the same instance, is not always told: zeroconf keeps both for a
while and can't say which is the newer. So what changes is announced under another instance.

What others send is bounded: packets in a second, names that are kept or asked about, and, by zeroconf, records.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cognu.world.nearby import Hearing, Neighbourhood, Service
from cognu.world.timing import end_tasks

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

log = logging.getLogger("cognu.world")

LOOK_SECONDS = 3.0
MOST_INTERFACES = 8
MOST_HOSTS = 8
"""Addresses of one service that are told, and of this machine that are announced."""
MOST_ASKED = 64
"""Services that are asked about at a time; others wait."""
MOST_KEPT = 256
"""Services of one network that are told, and that wait; what else is heard is passed over until it is heard again."""
PACKETS_A_SECOND, PACKETS_AT_ONCE = 500, 2000
"""Of one socket. Two hundred machines that answer one question send some two hundred."""
LOOKS_TO_REST = 20
"""Between two tries to use an interface that can't be."""
MOST_PAIRS = 16
SECONDS = 120
"""What was heard is good for so long (RFC 6762, 10, of host names); it is asked for again before."""
ASK_MILLISECONDS = 3000
CLOSE_SECONDS = 2.0
# linux/in.h, linux/in6.h
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29
_order = itertools.count()


class Interface(NamedTuple):
    """`number` is the host's own for it; `hosts` are numeric addresses, without scopes."""

    name: str
    number: int
    hosts: tuple[str, ...]


def host_interfaces() -> list[Interface]:
    """The host's, without its loopback."""
    import ifaddr  # zeroconf's own way to them

    found: list[Interface] = []
    for adapter in ifaddr.get_adapters():
        hosts = tuple(ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in adapter.ips)
        hosts = tuple(host for host in hosts if not ipaddress.ip_address(host).is_loopback)
        if hosts and adapter.index is not None:
            found.append(Interface(adapter.name, adapter.index, hosts))
    return sorted(found)[:MOST_INTERFACES]


class RealNeighbours:
    """`interfaces` says which to use, and is asked again and again."""

    def __init__(self, interfaces: Callable[[], list[Interface]] = host_interfaces) -> None:
        self._interfaces = interfaces

    async def meet(self, kind: str, hearing: Hearing, families: Sequence[int] = (4, 6)) -> Neighbourhood:
        return _Neighbourhood(f"{kind}.local.", hearing, tuple(families), self._interfaces)


class _Neighbourhood:
    """The lock guards `_places` and what is announced there, so that it is so where it should be."""

    def __init__(
        self, kind: str, hearing: Hearing, families: tuple[int, ...], interfaces: Callable[[], list[Interface]]
    ) -> None:
        self._kind = kind
        self._hearing = hearing
        self._families = families
        self._interfaces = interfaces
        self._here: list[Interface] = []
        self._places: dict[int, _Place] = {}  # by the interface's number
        self._refused: dict[int, int] = {}  # likewise: looks until one that could not be used is tried again
        self._service: Service | None = None
        self._lock = asyncio.Lock()
        self._complained = False
        self._was_here = False
        self._closed = False
        self._following = asyncio.get_running_loop().create_task(self._follow())

    async def announce(self, service: Service | None) -> None:
        async with self._lock:
            self._service = service
            if not self._closed:
                for place in self._places.values():
                    await self._say(place)

    async def close(self) -> None:
        self._closed = True
        await end_tasks(self._following)
        async with self._lock:
            places, self._places = self._places, {}
            await asyncio.gather(*(place.leave() for place in places.values()))

    # -- interfaces that come and go --

    async def _follow(self) -> None:
        """Look at the interfaces until cancelled."""
        unsettled = 0
        while True:
            try:
                here, before = self._interfaces(), self._here
                changed = here != before
                # An IPv6 address can't be used at once (RFC 4862, 5.4), so what is new is tried again.
                unsettled = 3 if changed else max(0, unsettled - 1)
                if changed:
                    self._refused.clear()
                await self._move(here, bool(unsettled))
                self._was_here = self._was_here or bool(before)
                if changed and self._was_here:
                    self._hearing.moved()
            except Exception as error:  # whatever the host raises: there may be a network later
                self._complain(error)
            await asyncio.sleep(LOOK_SECONDS)

    def _complain(self, error: BaseException, where: str = "the local networks") -> None:
        if not self._complained:
            self._complained = True
            log.warning("machines on %s are not found: %s: %s", where, type(error).__name__, error)

    async def _move(self, here: list[Interface], unsettled: bool) -> None:
        async with self._lock:
            numbers = {interface.number for interface in here}
            for number in [number for number in self._places if number not in numbers]:
                await self._places.pop(number).leave()
            for interface in here:
                await self._attend(interface, unsettled)
            self._here = here

    async def _attend(self, interface: Interface, unsettled: bool) -> None:
        """Be at one interface as it is now; one that can't be used leaves the others as they are."""
        number = interface.number
        if self._refused.get(number, 0):
            self._refused[number] -= 1
            return
        place = self._places.get(number)
        try:
            if place is None:
                self._places[number] = place = await _Place.enter(self, self._kind, interface)
                await self._say(place)
            elif unsettled or place.interface != interface:
                changed, place.interface = place.interface != interface, interface
                await place.settle()
                if changed:
                    await self._say(place)
        except Exception as error:  # whatever the host or zeroconf raise
            self._refused[number] = LOOKS_TO_REST
            self._complain(error, interface.name)

    # -- what is announced --

    async def _say(self, place: _Place) -> None:
        service = self._service
        hosts = [] if service is None else hosts_at(place.interface, self._families, service.hosts)
        await place.say(service._replace(hosts=tuple(hosts)) if service is not None and hosts else None)

    def sent(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._complain(error)

    # -- what is heard --

    def heard(self, instance: str) -> None:
        """One interface has it anew, or no more."""
        if self._closed:
            return
        found = [place.found[instance] for place in self._places.values() if instance in place.found]
        if not found:
            self._hearing.gone(instance)
            return
        service = max(found, key=lambda one: one.order).service
        same = [one.service for one in found if (one.service.port, one.service.text) == (service.port, service.text)]
        hosts = dict.fromkeys(host for one in same for host in one.hosts)
        self._hearing.heard(service._replace(hosts=tuple(hosts)[:MOST_HOSTS]))


class _Found(NamedTuple):
    order: int
    service: Service


class _Place:
    """One interface: what is announced there, and what is heard. Made with `enter`."""

    def __init__(self, of: _Neighbourhood, kind: str, interface: Interface, dns: AsyncZeroconf) -> None:
        self.interface = interface
        self.found: dict[str, _Found] = {}
        self._of = of
        self._kind = kind
        self._dns = dns
        self._browser: AsyncServiceBrowser | None = None
        self._said: ServiceInfo | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, None] = {}
        self._sending: set[asyncio.Future[None]] = set()
        self._left = False

    @classmethod
    async def enter(cls, of: _Neighbourhood, kind: str, interface: Interface) -> _Place:
        from zeroconf import ServiceListener
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf  # takes a tenth of a second to load

        # What others send must not fill the node's log.
        logging.getLogger("zeroconf").setLevel(logging.ERROR)
        dns = AsyncZeroconf(interfaces=_choice(interface))
        place = cls(of, kind, interface, dns)
        try:
            # At once: what came from elsewhere in the first moment would be answered too. Not in its documentation.
            if (listening := dns.zeroconf.engine._listen_socket) is not None:
                _confine(listening, interface)
                _empty(listening)
            await dns.zeroconf.async_wait_for_start()
            _tame(dns, interface)
            place._browser = AsyncServiceBrowser(dns.zeroconf, kind, listener=cast(ServiceListener, _Told(place)))
        except BaseException:
            await dns.async_close()
            raise
        return place

    async def settle(self) -> None:
        """Use the addresses that the interface has now."""
        await self._dns.async_update_interfaces(_choice(self.interface))
        _tame(self._dns, self.interface)

    async def leave(self) -> None:
        self._left = True
        await end_tasks(*self._asking.values(), *self._sending)
        self._waiting.clear()
        if self._browser is not None:
            await self._browser.async_cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._dns.async_close()
        except TimeoutError:
            log.warning("the network at %s was not told that this machine leaves", self.interface.name)
        found, self.found = self.found, {}
        for instance in found:
            self._of.heard(instance)

    async def say(self, service: Service | None) -> None:
        info = None if service is None else _info(self._kind, service)
        said, self._said = self._said, info
        if info is not None and said is not None and info.name == said.name:
            self._keep(await self._dns.async_update_service(info))
            return
        if said is not None:
            self._keep(await self._dns.async_unregister_service(said))
        if info is not None:
            # Not asked first whether somebody has the name: whoever announces takes one at random.
            self._keep(await self._dns.async_register_service(info, cooperating_responders=True))

    def _keep(self, sending: Awaitable[None]) -> None:
        """A service is said several times; `sending` ends with the last."""
        task = asyncio.ensure_future(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        task.add_done_callback(self._of.sent)

    # -- what is heard --

    def named(self, name: str) -> None:
        """There is a service of that name, or it changed: see what it is, or ask for the rest."""
        from zeroconf import Error
        from zeroconf.asyncio import AsyncServiceInfo

        if self._left:
            return
        try:
            info = AsyncServiceInfo(self._kind, name)
        except Error:
            return  # a name that none can have
        if info.load_from_cache(self._dns.zeroconf):
            self._heard(info, name)
        elif len(self._asking) < MOST_ASKED and name not in self._asking:
            self._asking[name] = asyncio.get_running_loop().create_task(self._ask(name))
        elif len(self._waiting) < MOST_KEPT:
            self._waiting[name] = None

    def unnamed(self, name: str) -> None:
        self._waiting.pop(name, None)
        if not self._left and self.found.pop(self._instance(name), None) is not None:
            self._of.heard(self._instance(name))

    def _instance(self, name: str) -> str:
        return name.removesuffix(f".{self._kind}")

    def _heard(self, info: ServiceInfo, name: str) -> None:
        instance = self._instance(name)
        if instance in self.found or len(self.found) < MOST_KEPT:
            self.found[instance] = _Found(next(_order), _service(info, instance, self.interface))
            self._of.heard(instance)

    async def _ask(self, name: str) -> None:
        from zeroconf import Error
        from zeroconf.asyncio import AsyncServiceInfo

        try:
            info = AsyncServiceInfo(self._kind, name)
            with suppress(Error, OSError):
                if await info.async_request(self._dns.zeroconf, ASK_MILLISECONDS):
                    self._heard(info, name)
        finally:
            self._asking.pop(name, None)
            self._ask_those_that_wait()

    def _ask_those_that_wait(self) -> None:
        # All for which there is room: one that is answered from the cache begins no question, at whose end another
        # would be taken. One that is being asked now waits for that.
        for name in [name for name in self._waiting if name not in self._asking]:
            if self._left or len(self._asking) >= MOST_ASKED:
                return
            del self._waiting[name]
            self.named(name)


class _Told:
    """What zeroconf's browser calls, on the loop's thread."""

    def __init__(self, of: _Place) -> None:
        self._of = of

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self._of.named(name)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self._of.named(name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self._of.unnamed(name)


class _Bounded(asyncio.DatagramProtocol):
    """Hands on what comes from one interface, and so many packets in a second; the rest is as if it were lost on the
    way.

    By IPv6 Linux hands a socket all that comes to a group that it joined, on whatever interface; but who sends by an
    address of one link, as mDNS does, is told with that link's number (RFC 4007, 11; RFC 6762, 11).
    """

    def __init__(self, to: asyncio.DatagramProtocol, now: Callable[[], float], interface: int) -> None:
        self._to = to
        self._interface = interface
        self._now = now
        self._left = float(PACKETS_AT_ONCE)
        self._at = now()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if len(addr) > 3 and addr[3] not in (0, self._interface):
            return
        now = self._now()
        self._left = min(PACKETS_AT_ONCE, self._left + (now - self._at) * PACKETS_A_SECOND)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            self._to.datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        self._to.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._to.connection_lost(exc)


def _tame(dns: AsyncZeroconf, interface: Interface) -> None:
    """Its sockets hear that interface alone, and hand on no more than zeroconf shall look at."""
    loop = asyncio.get_running_loop()
    for reader in dns.zeroconf.engine.readers:
        protocol = reader.transport.get_protocol()
        if isinstance(protocol, _Bounded):
            continue
        reader.transport.set_protocol(_Bounded(cast(asyncio.DatagramProtocol, protocol), loop.time, interface.number))
        _confine(reader.sock, interface)


def _confine(sock: socket.socket, interface: Interface) -> None:
    """It hears that interface alone (socket(7); before Linux 5.7 the superuser alone may say so), and only of groups
    that it joined itself (ip(7), ipv6(7)). Elsewhere than on Linux that is so anyway.
    """
    if sys.platform == "linux":
        with suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.name.encode())
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)


def _empty(sock: socket.socket) -> None:
    """What came before it was confined may be from elsewhere. Whoever asked asks again."""
    sock.setblocking(False)
    with suppress(BlockingIOError):
        for _ in range(PACKETS_AT_ONCE):
            sock.recv(1)


def hosts_at(interface: Interface, families: Sequence[int], chosen: Sequence[str]) -> list[str]:
    """The addresses to announce on the network at an interface: its own, and of these those `chosen`, if any are. Good
    on that link alone last, then IPv4 first."""
    wanted = {ipaddress.ip_address(host.partition("%")[0]) for host in chosen}
    hosts = [ipaddress.ip_address(host) for host in interface.hosts]
    hosts = [host for host in hosts if host.version in families and (not wanted or host in wanted)]
    hosts.sort(key=lambda host: (host.is_link_local, host.version))
    return [str(host) for host in hosts[:MOST_HOSTS]]


def _choice(interface: Interface) -> list[str | int]:
    """As zeroconf wants it: IPv4 by address, IPv6 by the interface's number."""
    found: list[str | int] = [host for host in interface.hosts if ":" not in host]
    if any(":" in host for host in interface.hosts):
        found.append(interface.number)
    return found


def _info(kind: str, service: Service) -> ServiceInfo:
    from zeroconf import ServiceInfo

    return ServiceInfo(
        kind, f"{service.instance}.{kind}", service.port, properties=dict(service.text),
        server=f"{service.instance}.local.", host_ttl=SECONDS, other_ttl=SECONDS, parsed_addresses=list(service.hosts),
    )  # fmt: skip


def _service(info: ServiceInfo, instance: str, interface: Interface) -> Service:
    from zeroconf import IPVersion

    hosts: list[str] = []
    for address in info.parsed_addresses(IPVersion.All):
        host = address.partition("%")[0]
        if ipaddress.ip_address(host).version == 6 and ipaddress.ip_address(host).is_link_local:
            host = f"{host}%{interface.name}"
        if host not in hosts:
            hosts.append(host)
    pairs = list(info.properties.items())[:MOST_PAIRS]
    text: Mapping[str, bytes] = {key.decode("ascii", "replace").lower(): value or b"" for key, value in pairs}
    return Service(instance, tuple(hosts[:MOST_HOSTS]), info.port or 0, text)
