"""The devices that keep the contract of all file servers, each with what it rightly can't do, near and by 9P."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cognu.devices.cmd import CommandServer, HostCommand
from cognu.devices.desktop import desktop_server
from cognu.devices.kept import KeptTerminal, kept_server
from cognu.devices.naming import Known
from cognu.devices.net import NetServer
from cognu.devices.profile import profile_server
from cognu.devices.registry import Registry, Service
from cognu.devices.registry_files import registry_server
from cognu.devices.sensor import Host, Source, sensor_server
from cognu.files.export import Export
from cognu.files.limits import Quota
from cognu.files.mount import MountServer
from cognu.files.server import Caller, FileServer
from cognu.world import NO_HELPERS, Disk, Spawn, Threads
from cognu.world.machine import RealMachine
from cognu.world.real import RealClock, real_world
from cognu.world.sockets import SocketStream
from contract.servers import attach_root
from serving import Client, Node
from unit.test_devices_net import FakeNetwork


@dataclass(frozen=True)
class Means:
    """What a device of the tests is made with. All that it charges is charged to `quota`."""

    place: Path
    threads: Threads
    disk: Disk
    spawn: Spawn
    quota: Quota

    def quota_of(self, caller: Caller) -> Quota:
        return self.quota


@dataclass(frozen=True)
class Device:
    """How one is made. What it can't do is said for each of its files, and tried too; the rest it can.

    `waits`: reading waits for something to happen. `makes`: opening makes a conversation, and the file that is open is
    another, if it is opened for writing. `untold`: changes of it are not told; with `/` at its end,
    of what is below it.
    """

    make: Callable[[Means], FileServer]
    waits: Mapping[str, str] = field(default_factory=dict)
    makes: Mapping[str, str] = field(default_factory=dict)
    untold: Mapping[str, str] = field(default_factory=dict)
    fails: Mapping[str, str] = field(default_factory=dict)
    """Reading is an error, which says so, as long as something else is not there."""
    aname: str = "other"
    """One that it does not know."""

    def is_told(self, path: str) -> bool:
        above = [path[: at + 1] for at, char in enumerate(path) if char == "/"]
        return path not in self.untold and not any(each in self.untold for each in above)


class Machines:
    def find(self, name: str) -> Known | None:
        return Known(("10.0.0.7",)) if name == "pi" else None

    def named(self, address: str) -> str | None:
        return None


def _commands(means: Means) -> FileServer:
    python = HostCommand((sys.executable, "-I", "-S", "-c", "pass"))
    return CommandServer(means.spawn, RealClock(), {"python": python}, means.quota_of)


def _sensors(means: Means) -> FileServer:
    (means.place / "temp").write_text("21500\n")
    sources = {"temp": Source(file=str(means.place / "temp"))}
    return sensor_server(Host(means.disk, means.threads, means.spawn, RealClock(), means.quota_of), sources)


def _desktop(means: Means) -> FileServer:
    return desktop_server(NO_HELPERS, means.spawn, RealClock(), means.quota_of)


def _registry(means: Means) -> FileServer:
    registry = Registry(RealClock())
    server = registry_server(registry, means.quota_of)
    registry.register("notes kind notes address /tmp", means)
    registry.offer(Service("srv:x", (("kind", "srv"),)), means, told=False)
    return server


def _kept(means: Means) -> FileServer:
    return kept_server(KeptTerminal())


def _net(means: Means) -> FileServer:
    return NetServer(FakeNetwork(), unix=None, machines=Machines())


def _profile(means: Means) -> FileServer:
    return profile_server(RealMachine(), means.threads, "pi", lambda: ("room=kitchen",))


MADE = "a conversation is made by opening it, and its ctl is what is open"
STILL = "it does not change as long as the node runs"
ASKED = "what is read is the answer to what was written through the same open file"
STREAM = "it is a stream"
DEVICES: dict[str, Device] = {
    "#C": Device(
        _commands,
        makes={"python/clone": MADE},
        untold={"python/clone": STILL, "python": "conversations are their callers' own, who alone see them"},
    ),
    "#S": Device(_sensors),
    "#D": Device(
        _desktop,
        untold={"snarf": "the host tells nobody when its clipboard is another", "notify": "it is written only"},
    ),
    "#g": Device(
        _registry,
        waits={"event": "for the next change"},
        makes={"new": "what is open becomes a service"},
        untold={
            "new": ASKED, "find": ASKED, "ctl": "it is written only", "event": "reading it tells",
            "notes/kind": "a service with other attributes is another directory", "notes/address": "the same",
            "srv:x/kind": "the same",
        },
    ),
    "#t": Device(
        _kept,
        waits={"cons": "for what is typed", "stdin": "the same"},
        fails={"winsize": "there is no terminal", "resize": "the same"},
        untold={
            "cons": STREAM, "stdin": STREAM, "stdout": STREAM, "stderr": STREAM, "consctl": "it is written only",
            "winsize": "reading resize tells", "resize": "the same",
        },
    ),
    "#i": Device(
        _net,
        makes={f"{protocol}/clone": MADE for protocol in ("tcp", "udp", "unix")},
        untold={
            "cs": ASKED, "dns": ASKED, "tcp/clone": STILL, "udp/clone": STILL, "unix/clone": STILL,
        },
    ),
    "#P": Device(_profile, untold={"profile/": "the host does not tell"}),
}  # fmt: skip


@asynccontextmanager
async def near(server: FileServer) -> AsyncIterator[Client]:
    client = Client(server)
    yield client
    client.close()


@asynccontextmanager
async def far(server: FileServer) -> AsyncIterator[Client]:
    """The device of another process, by 9P over a socket."""
    process = await Node(server).start()
    here, there = map(SocketStream, socket.socketpair(), ("here", "there"))
    serving = asyncio.ensure_future(Export(there, process, lambda user, aname: attach_root(process)).serve())
    mount = await MountServer.connect(here, RealClock())
    client = Client(mount)
    yield client
    client.close()
    await mount.close()
    await serving


def means_of(place: Path, threads: Threads) -> Means:
    world = real_world()
    return Means(place, threads, world.disk, world.spawn, Quota())
