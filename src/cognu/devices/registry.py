"""A registry of services by attribute, after registry(4) of Inferno: what is in it, and as text.

A service is a name and attributes, each a name with one value. `address` says where it is: a path, or what dial(2)
takes. Each machine writes its own services alone; those of other machines are added here as they say, under names
`NAME!MACHINE`, with the attribute `node`, and while the machine is away with `state away`. Nothing that a machine says
changes whose a service is.

What the node itself offers registers itself (`offer`): what it listens for, which others are told, and what is posted
in /srv, which is no other machine's to use and is here alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cognu.devices.cs import parse_query
from cognu.errors import E, FileError
from cognu.files.nstext import quote, split_words
from cognu.world import Clock

SECOND: Final = 1_000_000_000
MAX_SERVICES: Final = 256
"""Of one machine."""
MAX_ATTRIBUTES: Final = 16
MAX_LINE: Final = 1024
"""Bytes of one service's text, quotes too."""
MAX_TEXT: Final = MAX_SERVICES * MAX_LINE
MAX_REFRESH: Final = 86400
NAME, NODE, STATE, ADDRESS = "name", "node", "state", "address"
PERSIST, REFRESH = "persist", "refresh"
PERSISTS: Final = {"yes": True, "1": True, "no": False, "0": False}
GIVEN: Final = frozenset({NAME, NODE, STATE})
"""Attributes that nobody gives: they are what the registry knows."""
OFFERED: Final = ("9p:", "srv:")
"""How the names begin that nobody gives either: of what the node itself offers."""
_ITSELF: Final = frozenset({"*", "localhost", "127.0.0.1", "::1"})
USAGE: Final = "NAME [ATTRIBUTE VALUE]..."
ANY: Final = "*"
_NAME = re.compile(r"[A-Za-z0-9_.+:@-]{1,64}")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


@dataclass(frozen=True)
class Service:
    name: str
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def line(self) -> str:
        """As `parse_service` reads it, with its newline."""
        return " ".join([self.name, *(f"{quote(name)} {quote(value)}" for name, value in self.attributes)]) + "\n"

    def matches(self, wanted: Sequence[tuple[str, str]]) -> bool:
        """Whether it has each of these attributes, `*` with any value; its name counts as one."""
        own = {NAME: self.name} | dict(self.attributes)
        return all(name in own and value in (ANY, own[name]) for name, value in wanted)


def parse_service(line: str) -> Service:
    """What whoever has a service writes, or another machine says of one of its own. Raises USAGE, TOOBIG, SYNTAX."""
    if len(line.encode("utf-8", "surrogatepass")) > MAX_LINE:
        raise FileError(E.TOOBIG, "service", f"{MAX_LINE} bytes")
    name, *rest = split_words(line) or [""]
    if not _NAME.fullmatch(name) or name.strip(".") == "" or name in FILES:
        raise FileError(E.USAGE, name or "service", f"{USAGE}; a name is 1 to 64 letters, digits, _.+:@-")
    pairs = parse_pairs(rest)
    if len(pairs) > MAX_ATTRIBUTES or len(dict(pairs)) < len(pairs):
        raise FileError(E.USAGE, name, f"up to {MAX_ATTRIBUTES} attributes, each once")
    for attribute, value in pairs:
        if attribute in GIVEN:
            raise FileError(E.USAGE, attribute, "the registry itself says that")
        if attribute == ADDRESS:
            _check_address(value)
    return Service(name, tuple(pairs))


def _check_offer(service: Service) -> None:
    """Raises USAGE, TOOBIG for what its line could not be read from."""
    if not (service.name.startswith(OFFERED) and _NAME.fullmatch(service.name)):
        raise FileError(E.USAGE, service.name, f"{USAGE}; a name is 1 to 64 letters, digits, _.+:@-")
    parse_pairs([word for pair in service.attributes for word in pair])
    if len(service.line.encode("utf-8", "surrogatepass")) > MAX_LINE:
        raise FileError(E.TOOBIG, "service", f"{MAX_LINE} bytes")


def _check_address(text: str) -> None:
    """Raises USAGE for what another machine could not be meant by: a device, a relative path, a Unix socket."""
    if text.startswith("/"):
        if ".." in text.split("/"):
            raise FileError(E.USAGE, text, "a path without ..")
        return
    try:
        protocol, _, _ = parse_query(text)
    except FileError:
        protocol = ""
    if protocol not in ("tcp", "udp"):
        raise FileError(E.USAGE, text, "an address is a path from /, or tcp!HOST!SERVICE as /net/cs takes it")


def parse_pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """Attributes and their values, in turns. Raises USAGE."""
    if len(words) % 2:
        raise FileError(E.USAGE, words[-1], "[ATTRIBUTE VALUE]...: each has a value")
    pairs = list(zip(words[::2], words[1::2], strict=True))
    for name, value in pairs:
        if not _ATTRIBUTE.fullmatch(name):
            raise FileError(E.USAGE, name, "an attribute is 1 to 32 of a-z, 0-9, _.-, a letter first")
        if not value or not value.isprintable():
            raise FileError(E.USAGE, name, "a value is one line, not empty")
    return pairs


def parse_services(text: str) -> tuple[Service, ...]:
    """All that a machine says of its services. Raises BADMESSAGE: of a machine that says nonsense nothing is taken."""
    if text.count("\n") > MAX_SERVICES:  # before any of it is read
        raise FileError(E.BADMESSAGE, "services", f"up to {MAX_SERVICES}, each once")
    try:
        found = [parse_service(line) for line in text.split("\n") if line]
    except FileError as error:
        raise FileError(E.BADMESSAGE, "services", str(error)) from None
    if len(found) > MAX_SERVICES or len({service.name for service in found}) < len(found):
        raise FileError(E.BADMESSAGE, "services", f"up to {MAX_SERVICES}, each once")
    return tuple(found)


@dataclass(frozen=True)
class _Own:
    service: Service
    holder: object | None
    """Whose end is its end; None: it persists."""
    refresh: int
    """Seconds within which it is to be written again; 0: it need not be."""
    due: int


@dataclass(frozen=True)
class _Far:
    """What one other machine said last. `node` is its pet name, `away` since when it is, in ns of the wall clock."""

    node: str
    services: tuple[Service, ...]
    away: int | None = None


class Registry:
    """This machine's services, and those of others by some key that stays when their names change."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._own: dict[str, _Own] = {}
        self._here: dict[str, _Own] = {}  # of which others are not told
        self._far: dict[str, _Far] = {}
        self.version = 0
        """Counts changes."""
        self.on_change: list[Callable[[], None]] = []

    # -- this machine's -------------------------------------------------------------------------------------------

    def register(self, text: str, holder: object) -> Service:
        """Add a service, or replace what `holder` has under that name. Raises what `parse_service` does, EXIST, AGAIN.

        It is there until `release(holder)`, or with `persist yes` until `withdraw`; with `refresh SECONDS` only as long
        as it is written again in time.
        """
        service = parse_service(text)
        if service.name.startswith(OFFERED):
            raise FileError(E.USAGE, service.name, f"what begins with {' or '.join(OFFERED)} the node itself offers")
        about = dict(service.attributes)
        known = self._own.get(service.name)
        persist, refresh = about.get(PERSIST, "no"), about.get(REFRESH, "0")
        if persist not in PERSISTS:
            raise FileError(E.USAGE, PERSIST, "yes or no; 1 or 0 say the same")
        if not (refresh.isascii() and refresh.isdigit() and len(refresh) <= 5 and int(refresh) <= MAX_REFRESH):
            raise FileError(E.USAGE, REFRESH, f"seconds, up to {MAX_REFRESH}")
        if known is not None and known.holder is not holder and not (known.holder is None and PERSISTS[persist]):
            raise FileError(E.EXIST, service.name)
        if known is None and len(self._own) >= MAX_SERVICES:
            raise FileError(E.AGAIN, "services", f"{MAX_SERVICES} are registered")
        shown = tuple(pair for pair in service.attributes if pair[0] not in (PERSIST, REFRESH))
        service = replace(service, attributes=shown)
        due = self._clock.monotonic() + int(refresh) * SECOND
        before = None if known is None else known.service
        self._own[service.name] = _Own(service, None if PERSISTS[persist] else holder, int(refresh), due)
        self._changed(before != service or known is None or known.refresh != int(refresh))
        return service

    def offer(self, service: Service, holder: object, *, told: bool) -> None:
        """Add what the node itself offers, until `release(holder)`; `told`: to other machines too.

        Raises USAGE, TOOBIG for what is no line of a service, EXIST, AGAIN.
        """
        _check_offer(service)
        if service.name in self._own or service.name in self._here:
            raise FileError(E.EXIST, service.name)
        where = self._own if told else self._here
        if len(where) >= MAX_SERVICES:
            raise FileError(E.AGAIN, "services", f"{MAX_SERVICES} are registered")
        where[service.name] = _Own(service, holder, 0, 0)
        self._changed(True)

    def release(self, holder: object) -> None:
        """Whoever had it is gone."""
        self._take_out([
            name for where in (self._own, self._here) for name, own in where.items() if own.holder is holder
        ])  # fmt: skip

    def withdraw(self, name: str) -> None:
        """Raises NOENT if this machine has none of that name."""
        if name not in self._own and name not in self._here:
            raise FileError(E.NOENT, name)
        self._take_out([name])

    def expire(self) -> float | None:
        """Take out what was not written again in time; seconds until the next may be due, None if none is."""
        now = self._clock.monotonic()
        self._take_out([name for name, own in self._own.items() if own.refresh and own.due <= now])
        dues = [own.due for own in self._own.values() if own.refresh]
        return max(0.0, (min(dues) - now) / SECOND) if dues else None

    def own(self) -> list[Service]:
        """What other machines are told, by name."""
        return [self._own[name].service for name in sorted(self._own)]

    def _take_out(self, names: Iterable[str]) -> None:
        gone = [(self._own if name in self._own else self._here).pop(name) for name in names]
        self._changed(bool(gone))

    # -- other machines' ------------------------------------------------------------------------------------------

    def says(self, key: str, node: str, services: tuple[Service, ...]) -> None:
        """A machine is there, and has these services."""
        self._put(key, _Far(node, services))

    def away(self, key: str) -> None:
        """A machine is not there; what it said stays, marked. The first call counts."""
        far = self._far.get(key)
        if far is not None and far.away is None:
            self._put(key, replace(far, away=self._clock.now()))

    def back(self, key: str) -> None:
        """A machine that was away is there again, and what it said holds."""
        far = self._far.get(key)
        if far is not None:
            self._put(key, replace(far, away=None))

    def called(self, key: str, node: str) -> None:
        far = self._far.get(key)
        if far is not None:
            self._put(key, replace(far, node=node))

    def forget(self, key: str) -> None:
        """Nothing of that machine is here any more."""
        self._changed(self._far.pop(key, None) is not None)

    def machines(self) -> list[str]:
        """The keys of those of which something is here."""
        return list(self._far)

    def away_since(self, key: str) -> int | None:
        """Wall-clock ns; None if it is there, or nothing of it is known."""
        far = self._far.get(key)
        return None if far is None else far.away

    def _put(self, key: str, far: _Far) -> None:
        before, self._far[key] = self._far.get(key), far
        self._changed(before != far)

    # -- all ------------------------------------------------------------------------------------------------------

    def all(self) -> Iterator[Service]:
        """This machine's, what others are told first, each by name; then each other's, by machine and name."""
        yield from self.own()
        for name in sorted(self._here):
            yield self._here[name].service
        for far in sorted(self._far.values(), key=lambda far: far.node):
            for service in sorted(far.services, key=lambda service: service.name):
                yield seen_from_here(service, far.node, far.away is not None)

    def find(self, wanted: Sequence[tuple[str, str]]) -> list[Service]:
        return [service for service in self.all() if service.matches(wanted)]

    def _changed(self, really: bool) -> None:
        if really:
            self.version += 1
            for tell in tuple(self.on_change):
                tell()


def seen_from_here(service: Service, node: str, away: bool) -> Service:
    """Another machine's service as it is here: its paths are below /n/NODE, and where it says itself in a dial string,
    its name here stands.
    """
    about = dict(service.attributes)
    address = about.get(ADDRESS, "")
    if address.startswith("/"):
        about[ADDRESS] = f"/n/{node}{address}"
    elif address:
        protocol, host, port = parse_query(address)
        about[ADDRESS] = f"{protocol}!{node if host in _ITSELF else host}!{port}"
    about[NODE] = node
    if away:
        about[STATE] = "away"
    return Service(f"{service.name}!{node}", tuple(about.items()))


FILES: Final[Mapping[str, str]] = {
    "new": "registers", "index": "all", "find": "those asked for", "event": "tells of changes", "own": "this machine's",
    "ctl": "removes",
}  # fmt: skip
"""The files of the registry, whose names no service has."""
