"""The node's own process and its namespace, of which every session starts with a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from cognu.devices.cons import cons_server
from cognu.devices.env import env_server
from cognu.devices.fd import fd_server
from cognu.devices.hidden import Secrets, identities_of
from cognu.devices.host import HostServer
from cognu.devices.log import Ring, log_server
from cognu.devices.lookups import Lookups
from cognu.devices.man import man_server
from cognu.devices.naming import Machines
from cognu.devices.net import NetServer
from cognu.devices.pipe import PipeServer
from cognu.devices.proc import ProcServer, none_kept
from cognu.devices.procctl import Launcher
from cognu.devices.profile import profile_server
from cognu.devices.ram import RamServer
from cognu.devices.registry import Registry
from cognu.devices.registry_files import registry_server
from cognu.devices.root import ROOT_DIRECTORIES, root_server
from cognu.devices.srv import srv_server
from cognu.errors import CognuError
from cognu.files.attach import attach
from cognu.files.authority import Authority
from cognu.files.chan import Domain
from cognu.files.namespace import Namespace
from cognu.files.nscommands import Mounter, apply
from cognu.files.nstext import quote
from cognu.files.process import Process, ProcessTable, State
from cognu.files.server import Caller, FileServer
from cognu.files.steps import finish
from cognu.kernel import ALL_RIGHTS, NODE, Cap
from cognu.man import directory
from cognu.mesh.identity import KEY
from cognu.store.objects import Store
from cognu.store.server import store_server
from cognu.world import HostStat, HostTree, World

UMASK = 0o077
"""Of the node's process: what it keeps for itself is its owner's alone."""
MORE_DIRECTORIES = ("/mnt/node", "/mnt/registry", "/mnt/store")
NAMESPACE = """\
bind '#c' /dev
bind -a '#k' /dev
bind -a '#P' /dev
bind -a '#S' /dev
bind -a '#D' /dev
bind -c '#e' /env
bind '#d' /fd
bind '#p' /proc
bind -c '#s' /srv
bind -c '#r' /tmp
bind '#I' /net
bind '#h' /man
bind '#V/bin' /bin
bind '#V' /mnt/store
bind '#N' /n
bind '#n' /mnt/node
bind '#g' /mnt/registry
bind -c '#U' /mnt/host
"""


@dataclass(frozen=True)
class Parts:
    """What the base namespace is made of beyond what `make_base` makes itself."""

    store: Store
    network: FileServer  # /n
    control: FileServer  # /mnt/node
    mounter: Mounter
    launcher: Launcher
    unix: tuple[str, ...]
    sysname: str
    user: str
    home: str  # the node's directory; its key is no file of anybody's namespace, whatever is granted
    log: Ring = field(default_factory=Ring)  # the node's log
    umask: int = UMASK  # for files of the host that are made through it
    labels: Callable[[], Sequence[str]] = tuple  # this machine's own, `mesh.labels`
    machines: Machines | None = None  # those that /net/cs knows by name
    lookups: Lookups | None = None  # what asks the host for other names
    registry: Registry | None = None  # of services, here and on other machines
    kept: Callable[[Caller | None], str] = none_kept  # what /proc/kept has for a caller
    resources: Mapping[str, FileServer] = field(default_factory=dict)  # devices of the host, by letter


async def make_base(world: World, authority: Authority, processes: ProcessTable, parts: Parts) -> Process:
    """Process 1, with all devices and the namespace that users start from."""
    ours = await world.threads.run(lambda: identities_of(world.disk.tree(parts.home), KEY))
    mine = await world.threads.run(lambda: _root_of(world.disk.tree(parts.home)))
    authority.users = authority.users.with_own(parts.user, mine.uid, mine.group, mine.gid)
    host = HostServer(world, world.disk.tree("/"), hidden=Secrets(ours, world.disk.mounts), umask=parts.umask)
    tops = await _host_directories(world)
    root = root_server([*MORE_DIRECTORIES, *(f"/{name}" for name in tops)])
    registry = parts.registry or Registry(world.clock)
    network = partial(
        NetServer, world.network, unix=parts.unix, machines=parts.machines, lookups=parts.lookups,
        quota_of=processes.quota_of,
    )  # fmt: skip
    servers: dict[str, FileServer] = {
        "R": root,
        "U": host,
        "r": RamServer(world.clock, user=parts.user, quota_of=processes.quota_of),
        "c": cons_server(world, parts.sysname, processes),
        "e": env_server(processes),
        "d": fd_server(processes),
        "|": PipeServer(processes.quota_of),
        "s": srv_server(processes, registry),
        "p": ProcServer(processes, parts.mounter, parts.launcher, everything=True, kept=parts.kept),
        "q": ProcServer(processes, parts.mounter, parts.launcher, kept=parts.kept),
        "k": log_server(parts.log),
        "P": profile_server(world.machine, world.threads, parts.sysname, parts.labels),
        "h": man_server(world, directory()),
        "I": network(announce=True),
        "i": network(spec="#i"),
        "V": store_server(parts.store, processes.quota_of),
        "N": parts.network,
        "n": parts.control,
        "g": registry_server(registry, processes.quota_of),
        **parts.resources,
    }
    domain = Domain(authority)
    devices = {letter: (server, _attachable(domain, f"#{letter}")) for letter, server in servers.items()}
    root_chan = await finish(attach(root, domain, devices["R"][1], _Node(parts.user)))
    namespace = Namespace(domain, root_chan, devices)
    base = processes.add(parts.user, namespace, root_chan.share())
    base.args = ["node"]
    base.state = State.RUNNING
    binds = "".join(f"bind -c {quote('#U/' + name)} {quote('/' + name)}\n" for name in tops)
    await finish(apply(base, NAMESPACE + binds, parts.mounter))
    return base


def _root_of(tree: HostTree) -> HostStat:
    root = tree.root()
    try:
        return tree.stat(root)
    finally:
        root.close()


def _attachable(domain: Domain, name: str) -> Cap:
    """A new server's capability, for the node's own domain."""
    _, cap = domain.authority.new_server(name=name)
    return domain.authority.mint(NODE, cap, ALL_RIGHTS, domain.pid)


async def _host_directories(world: World) -> list[str]:
    """Top-level directories of the host whose names Cognu doesn't use itself."""
    ours = {path.split("/")[1] for path in ROOT_DIRECTORIES}
    tree = world.disk.tree("/")

    def look() -> list[str]:
        root = tree.root()
        try:
            found = []
            for name in tree.list(root):
                if name in ours or name.startswith("."):
                    continue
                try:
                    node = tree.walk(root, name)
                except CognuError:
                    continue  # not ours to see
                try:
                    if tree.stat(node).kind == "d":
                        found.append(name)
                finally:
                    node.close()
            return sorted(found)
        finally:
            root.close()

    return await world.threads.run(look)


@dataclass(frozen=True)
class _Node:
    """The caller that the node is before it has a process."""

    user: str
    pid: int = 0
