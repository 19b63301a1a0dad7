"""Machines on the same networks, by multicast DNS: `Neighbours` with the package zeroconf.

zeroconf has one socket that listens on port 5353, which it shares with other programs (SO_REUSEPORT), and one that
sends for each interface. Interfaces are looked at every few seconds: asking for them is quick, and no system tells of
changes in the same way. While there is none, or none that may be used, nothing is open.

A text that was announced before and is so again, under the same instance, is not always told: zeroconf keeps both for a
while and can't say which is the newer. So what changes is announced under another instance.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from cognu.world import Hearing, Neighbourhood, Service
from cognu.world.timing import end_tasks

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

log = logging.getLogger("cognu.world")

LOOK_SECONDS = 3.0
MOST_INTERFACES = 16
MOST_HOSTS = 8
"""Addresses of one service that are told, and of this machine that are announced."""
MOST_NAMES = 64
"""Services that are asked about at a time; what else is heard meanwhile is passed over until it is heard again."""
MOST_PAIRS = 16
SECONDS = 120
"""What was heard is good for so long (RFC 6762, 10, of host names); it is asked for again before."""
ASK_MILLISECONDS = 3000
CLOSE_SECONDS = 2.0


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
    """The lock guards `_dns` and `_said`, so that what is announced is so where it should be."""

    def __init__(
        self, kind: str, hearing: Hearing, families: tuple[int, ...], interfaces: Callable[[], list[Interface]]
    ) -> None:
        self._kind = kind
        self._hearing = hearing
        self._families = families
        self._interfaces = interfaces
        self._here: list[Interface] = []
        self._dns: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._service: Service | None = None
        self._said: ServiceInfo | None = None
        self._lock = asyncio.Lock()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._sending: set[asyncio.Future[None]] = set()
        self._complained = False
        self._was_here = False
        self._closed = False
        self._following = asyncio.get_running_loop().create_task(self._follow())

    async def announce(self, service: Service | None) -> None:
        async with self._lock:
            self._service = service
            if self._dns is not None and not self._closed:
                await self._say()

    async def close(self) -> None:
        self._closed = True
        await end_tasks(self._following)
        async with self._lock:
            await self._leave()

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
                if changed or unsettled:
                    await self._move(here)
                self._was_here = self._was_here or bool(before)
                if changed and self._was_here:
                    self._hearing.moved()
            except Exception as error:  # whatever the host or zeroconf raise: there may be a network later
                self._complain(error)
            await asyncio.sleep(LOOK_SECONDS)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning("machines on the local networks are not found: %s: %s", type(error).__name__, error)

    async def _move(self, here: list[Interface]) -> None:
        async with self._lock:
            if not here:
                await self._leave()
            elif self._dns is None:
                await self._enter(here)
            else:
                await self._dns.async_update_interfaces(_choice(here))
            changed, self._here = here != self._here, here
            if changed and self._dns is not None:
                await self._say()

    async def _enter(self, here: list[Interface]) -> None:
        from zeroconf import ServiceListener
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf  # takes a tenth of a second to load

        # What others send must not fill the node's log.
        logging.getLogger("zeroconf").setLevel(logging.ERROR)
        dns = AsyncZeroconf(interfaces=_choice(here))
        try:
            await dns.zeroconf.async_wait_for_start()
            self._browser = AsyncServiceBrowser(dns.zeroconf, self._kind, listener=cast(ServiceListener, _Told(self)))
        except BaseException:
            await dns.async_close()
            raise
        self._dns = dns
        self._complained = False

    async def _leave(self) -> None:
        dns, self._dns = self._dns, None
        browser, self._browser = self._browser, None
        self._said = None
        asking, self._asking = list(self._asking.values()), {}
        await end_tasks(*asking, *self._sending)
        self._again.clear()
        if browser is not None:
            await browser.async_cancel()
        if dns is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await dns.async_close()
            except TimeoutError:
                log.warning("the local networks were not told that this machine leaves")

    # -- what is announced --

    async def _say(self) -> None:
        assert self._dns is not None
        info = None if self._service is None else self._info(self._service)
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
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Future[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._complain(error)

    def _info(self, service: Service) -> ServiceInfo | None:
        from zeroconf import ServiceInfo

        hosts = [host.partition("%")[0] for host in service.hosts] or self._own_hosts()
        if not hosts:
            return None
        return ServiceInfo(
            self._kind, f"{service.instance}.{self._kind}", service.port, properties=dict(service.text),
            server=f"{service.instance}.local.", host_ttl=SECONDS, other_ttl=SECONDS, parsed_addresses=hosts,
        )  # fmt: skip

    def _own_hosts(self) -> list[str]:
        """IPv4 first, then IPv6; those that are good on one link alone last."""
        hosts = [ipaddress.ip_address(host) for interface in self._here for host in interface.hosts]
        hosts = [host for host in hosts if host.version in self._families]
        hosts.sort(key=lambda host: (host.is_link_local, host.version))
        return [str(host) for host in hosts[:MOST_HOSTS]]

    # -- what is heard --

    def named(self, name: str) -> None:
        """There is a service of that name, or it changed: ask for the rest."""
        if name in self._asking:
            self._again.add(name)
        elif self._dns is not None and not self._closed and len(self._asking) < MOST_NAMES:
            self._asking[name] = asyncio.get_running_loop().create_task(self._ask(name, self._dns))

    def unnamed(self, name: str) -> None:
        if not self._closed:
            self._hearing.gone(self._instance(name))

    def _instance(self, name: str) -> str:
        return name.removesuffix(f".{self._kind}")

    async def _ask(self, name: str, dns: AsyncZeroconf) -> None:
        from zeroconf import Error
        from zeroconf.asyncio import AsyncServiceInfo

        try:
            while True:
                self._again.discard(name)
                info = AsyncServiceInfo(self._kind, name)
                with suppress(Error, OSError):
                    if await info.async_request(dns.zeroconf, ASK_MILLISECONDS):
                        self._hearing.heard(_service(info, self._instance(name)))
                if name not in self._again:
                    return
        finally:
            self._asking.pop(name, None)


class _Told:
    """What zeroconf's browser calls, on the loop's thread."""

    def __init__(self, of: _Neighbourhood) -> None:
        self._of = of

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self._of.named(name)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self._of.named(name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self._of.unnamed(name)


def _choice(here: list[Interface]) -> list[str | int]:
    """As zeroconf wants it: IPv4 by address, IPv6 by the interface's number."""
    found: list[str | int] = []
    for interface in here:
        found += [host for host in interface.hosts if ":" not in host]
        if any(":" in host for host in interface.hosts):
            found.append(interface.number)
    return found


def _service(info: ServiceInfo, instance: str) -> Service:
    from zeroconf import IPVersion

    hosts: list[str] = []
    for address in info.parsed_scoped_addresses(IPVersion.All):
        host, _, scope = address.partition("%")
        if ipaddress.ip_address(host).version == 6 and ipaddress.ip_address(host).is_link_local:
            if not (name := _interface_name(scope)):
                continue  # it came by IPv4, or from an interface that is gone: nobody can say where that is
            host = f"{host}%{name}"
        if host not in hosts:
            hosts.append(host)
    pairs = list(info.properties.items())[:MOST_PAIRS]
    text: Mapping[str, bytes] = {key.decode("ascii", "replace").lower(): value or b"" for key, value in pairs}
    return Service(instance, tuple(hosts[:MOST_HOSTS]), info.port or 0, text)


def _interface_name(scope: str) -> str:
    try:
        return socket.if_indextoname(int(scope))
    except (OSError, ValueError, OverflowError):
        return ""
