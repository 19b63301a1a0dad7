"""`#g`, the registry of services as files, after registry(4) of Inferno.

new         write `NAME [ATTRIBUTE VALUE]...`: the service is there while the file is open; written again it changes
index       a line for each service, as they are written; other machines' are called NAME!MACHINE
find        write `[ATTRIBUTE VALUE]...`, `*` for any value, then read the lines of those that have all of these
event       a read waits for the next change, and gives its number
own         this machine's services alone: what other machines are to read
ctl         `remove NAME`, for a service that persists
NAME/       a file for each attribute, with its value
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cognu.devices.registry import MAX_LINE, Registry, Service, parse_pairs
from cognu.errors import E, FileError
from cognu.files.limits import Copy, QuotaOf, nobodys
from cognu.files.nstext import split_words
from cognu.files.server import Caller, MaybeAsync
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer, check_for_writing
from cognu.ninep.watches import CONTENT


def _text(data: bytes | memoryview, name: str) -> str:
    """One line. Raises TOOBIG, ILSEQ."""
    if len(data) > MAX_LINE:
        raise FileError(E.TOOBIG, name, f"{MAX_LINE} bytes")
    try:
        return bytes(data).decode().strip()
    except UnicodeDecodeError:
        raise FileError(E.ILSEQ, name) from None


class New(Node):
    """`new`. What a fid registered is its own, and reads as the name."""

    def __init__(self, registry: Registry) -> None:
        super().__init__("new", 0o666)
        self._registry = registry

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        check_for_writing(self, mode)
        fid.state = ""

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, str)
        return fid.state.encode()[offset : offset + count]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        """Raises what `Registry.register` does, and ALREADY for a second name."""
        text = _text(data, self.name)
        name = (split_words(text) or [""])[0]
        if fid.state not in ("", name):
            raise FileError(E.ALREADY, name, f"this is open for {fid.state}")
        fid.state = self._registry.register(text, fid).name
        return len(data)

    def close(self, fid: TreeFid) -> None:
        self._registry.release(fid)


class Find(Node):
    """`find`. What a fid asked and got is the fid's own."""

    def __init__(self, registry: Registry, quota_of: QuotaOf) -> None:
        super().__init__("find", 0o666)
        self._registry = registry
        self._quota_of = quota_of

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = Copy(self._quota_of(caller))

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return _copy(fid).data[offset : offset + count]

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        """Raises USAGE, SYNTAX, TOOBIG, DQUOT."""
        answer = _copy(fid)
        answer.put(b"")
        wanted = parse_pairs(split_words(_text(data, self.name)))
        found = "".join(service.line for service in self._registry.find(wanted)).encode()
        answer.check(len(found))
        answer.put(found)
        return len(data)

    def close(self, fid: TreeFid) -> None:
        _copy(fid).close()


def _copy(fid: TreeFid) -> Copy:
    assert isinstance(fid.state, Copy)
    return fid.state


class Event(Node):
    """`event`. Nobody misses a change since it was opened; several are one."""

    def __init__(self, registry: Registry) -> None:
        super().__init__("event", 0o444)
        self._registry = registry
        self._waiting: set[asyncio.Future[None]] = set()

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = self._registry.version

    def read(self, fid: TreeFid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        return self._next(fid) if fid.state != self._registry.version else self._wait(fid)

    async def _wait(self, fid: TreeFid) -> bytes | memoryview:
        while fid.state == self._registry.version:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
            if fid.mode is None:
                raise FileError(E.BADF, self.name)
        return self._next(fid)

    def _next(self, fid: TreeFid) -> bytes:
        fid.state = self._registry.version
        return f"{self._registry.version}\n".encode()

    def tell(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def close(self, fid: TreeFid) -> None:
        self.tell()  # who waits by this fid finds it closed


class Lines(Node):
    """Services as lines, as they were at the opening. Who watches is told when there are others."""

    tells = True

    def __init__(self, name: str, get: Callable[[], str], quota_of: QuotaOf) -> None:
        super().__init__(name, 0o444)
        self._get = get
        self._quota_of = quota_of

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = Copy(self._quota_of(caller), self._get().encode())

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return _copy(fid).data[offset : offset + count]

    def close(self, fid: TreeFid) -> None:
        _copy(fid).close()


class RegistryDirectory(Directory):
    """The root. `registry` says when it is another."""

    def __init__(self, registry: Registry, quota_of: QuotaOf) -> None:
        self._event = Event(registry)
        self._index = Lines("index", lambda: "".join(service.line for service in registry.all()), quota_of)
        self._own = Lines("own", lambda: own_text(registry), quota_of)
        ctl = Text("ctl", None, lambda data: _control(registry, data))
        super().__init__("", [New(registry), self._index, Find(registry, quota_of), self._event, self._own, ctl])
        self._registry = registry
        self._shown: dict[str, Service] = {}
        self._said = ""

    def changed(self) -> None:
        there = {service.name: service for service in self._registry.all()}
        for name in [name for name, service in self._shown.items() if there.get(name) != service]:
            self.discard(name)
        for name, service in there.items():
            if self._shown.get(name) != service:
                self.add(Directory(name, [_attribute(*pair) for pair in service.attributes]))
        self._shown = there
        self._index.happened(CONTENT)
        before, self._said = self._said, own_text(self._registry)
        if self._said != before:
            self._own.happened(CONTENT)
        self._event.tell()


def own_text(registry: Registry) -> str:
    return "".join(service.line for service in registry.own())


def _attribute(name: str, value: str) -> Text:
    return Text(name, lambda: f"{value}\n")


def _control(registry: Registry, data: bytes) -> None:
    match split_words(_text(data, "ctl")):
        case ["remove", name]:
            registry.withdraw(name)
        case _:
            raise FileError(E.USAGE, "ctl", "remove NAME")


def registry_server(registry: Registry, quota_of: QuotaOf = nobodys) -> TreeServer:
    """What an open file keeps of the services is charged to who opened it."""
    root = RegistryDirectory(registry, quota_of)
    registry.on_change.append(root.changed)
    return TreeServer("#g", root)
