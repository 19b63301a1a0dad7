"""What a module's source may have of the outside and of file servers: who may have more than others, with reasons.

`door_rules.findings` looks for what has no row here. It does not follow values. It holds where they come from: a part
of a `World`, a file server and what makes either can be had by certain names alone; such a name may be read, called or
not, only where a table here says so. What Python lets a hostile author do is more than any such list; this is for one
who forgot.

The same holds of who may do what: the kernel's tables are written by the kernel alone, what a domain and a chan stand
for is said once, and what reads a chan's capability, mints, or mounts is named. Rows are for one module; those of what
leads outside or makes authority are for one function of it, as another in the same module is another door.
"""

from __future__ import annotations

from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "cognu"


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ANY = "*"
"""All functions of a module."""
Rows = dict[str, dict[str, str]]
"""By module, by function (`Class.method`, with those that it is in; "" outside of all): texts, with spaces between."""


# -- the tables -------------------------------------------------------------------------------------------------------

CONTRACT = words(
    "attach walk open create place read write readdir stat wstat remove clunk symlink readlink link rename sync statfs "
    "mknod getxattr listxattr setxattr removexattr lock_range unlock_range find_lock walk_to accept "
    "settle attenuate hand_on watch walk_now open_now read_now stored_now stat_now"
)
"""The methods of a file server."""

CALLERS = ("dispatch", "at_once")
"""What may call them."""

NEEDED = {
    "read": "READ", "readdir": "READ", "write": "WRITE", "wstat": "WRITE", "remove": "WRITE",
    "read_now": "READ", "stored_now": "READ",
    "create": "CREATE", "place": "CREATE", "symlink": "CREATE", "link": "CREATE", "rename": "CREATE",
    "accept": "WRITE", "mknod": "CREATE", "watch": "READ",
    "attenuate": "READ", "hand_on": "GRANT",
    "getxattr": "READ", "listxattr": "READ", "setxattr": "WRITE", "removexattr": "WRITE",
}  # fmt: skip
"""The right under which `dispatch` is to call a method; those that are not here say nothing of a file's bytes."""

NO_SERVERS = frozenset({
    "self", "super()", "namespace", "stream", "_stream", "disk", "_disk", "guest", "node", "entry", "tree", "_tree",
    "steps", "_steps", "head", "member", "members[0]", "grant", "message", "page", "store", "upload", "_draft",
    "draft", "directory", "way", "fid", "file", "found", "to", "source", "target", "bind", "there", "state", "ahead",
    "kept", "core", "channel", "invitations", "_fiber", "fiber", "_post", "post", "programs", "services", "mesh",
    "_connected()", "_begun()", "_ready", "_taken", "_waiting", "_events", "_listeners", "book", "_book",
    "_sessions[peer]", "part", "putting", "os", "_trips", "behind", "held", "made",
    "_announcement", "kernel", "_authority", "_session", "Sessions(node)", "program", "_program", "replaced",
    "_watches", "piped", "ring", "event", "reply", "mounter", "inner", "outer",
})  # fmt: skip
"""Last names of what has methods that are called like a server's and is none."""

STRANGERS = {
    "compiled.py": {"sys.meta_path": "a list of Python's"},
    "files/mount.py": {"await self._call(m.Tstat(number), m.Rstat)": "an answer of the far side"},
    "files/mount_linux.py": {"await self._ask(m.Tstat(link), m.Rstat)": "the same"},
    "files/shownserver.py": {"self._below": "a server itself, called by dispatch: it passes the call on"},
    "mesh/imports.py": {
        "peer.mount": "a server itself, called by dispatch: it passes the call on to the peer's tree",
        "fid.peer.mount": "the same",
        "mount": "the same",
    },
    "node/channels.py": {
        "mount": "a peer's objects, asked for over a link to that peer, which is a session of the mesh"
    },
    "node/meeting.py": {"row": "what is known of a peer: `link` is a part of it"},
    "node/listening.py": {"_Door(self._node, shown, token, dialects)": "a listener's, for each connection"},
    "runtime/host.py": {"Path('/proc/self/maps')": "what the host gives this process, measured once"},
}
"""By module, other texts before a method's name."""

HELD = {
    "devices/fd.py": {"chan.server.spec": "to show it"},
    "files/chan.py": {
        "self.handle.server": "what a chan is of",
        "handle.server.clunk": "the last holder is gone; a fid that nobody could use is given back",
    },
    "files/listing.py": {
        "chan.server": "whose names are looked up in the table of mounts",
        "member.server": "the same",
    },
    "files/namespace.py": {
        "opened.server.open": "called through dispatch, with the rights that the mode needs",
        "opened.server.ends_with_right": "whether it is told of the end of the right that it was opened under",
        "target.server.create": "the same",
        "source.server.rename": "the same, with the rights of both directories",
        "device.server": "attached under the capability of the device",
        "chan.server.clunk": "of a fid that nobody saw",
        "member.server": "a place in the table of mounts",
    },
    "files/plain.py": {
        "chan.server": "a place in the table of mounts",
        "chan.server.clunk": "of a fid that nobody saw",
    },
    "files/reach.py": {"root.server": "attached under the capability of the process's domain"},
    "files/shownserver.py": {"chan.server": "which the one that shows it in part passes on to"},
    "files/services.py": {
        "root.server": "the mount that is to be ended with its file",
        "chan.server": "whether it is a mount",
    },
    "files/watching.py": {"self.chan.server.watch": "called by dispatch, with READ, under this chan"},
    "node/admitting.py": {
        "namespace.root.server": "the tree of what leads to grants, to add to it",
        "process.namespace.root.server": "the same, to see whether it is one",
    },
    "node/launcher.py": {"device.server": "handed on under a capability minted from the device's"},
    "node/delegation.py": {"chan.server.peer": "whose tree it is, to say so"},
    "node/lending.py": {"descriptors.server": "attached under one minted for the lent process"},
    "node/peers.py": {"namespace.root.server": "the tree of what leads to grants, to add to it"},
    "runtime/wasi/descriptors.py": {"entry.chan.server": "numbered, for a program's st_dev"},
    "runtime/wasi/files.py": {"chan.server": "the same"},
    "files/readonly.py": {"chan.server.far": "whether there is somebody else to hold it to that"},
    "runtime/wasi/table.py": {"entry.chan.server.far": "whether a write may still be on its way"},
    "runtime/wasi/sockets.py": {"control.server": "its `read` is handed to dispatch"},
}
"""By module, the servers of chans that are had otherwise than in a call of `dispatch`."""
DEVICES = {
    "devices/cons.py": {"processes[caller.pid].namespace.devices"},  # their letters
    "files/namespace.py": {"self.devices", "mover.devices"},
    "files/process.py": {"parent.namespace.devices", "namespace.devices", "how.devices", "mover.devices"},
    "node/capabilities.py": {"namespace.devices"},  # to show them
    "node/channels.py": {"self._node.base.namespace.devices"},
    "node/launcher.py": {"base.devices", "namespace.devices"},
}
"""By module: tables of the devices that a namespace may attach, each a server with the capability to do so."""
NO_FILE_SERVER = {
    "devices/proc.py": {"self"},
    "files/post.py": {"letter", "kernel.endpoints"},
    "kernel/messages.py": {"endpoints", "self.endpoints"},
    "kernel/queues.py": {"endpoints"},
    "kernel/tables.py": {"endpoints"},
    "node/capabilities.py": {"self"},
    "node/explaining.py": {"self.view"},
}
"""By module, of what `server` is another thing: the device that a file is of, or the process that has an endpoint."""

THROUGH = {
    ("files/attach.py", "server.attach"): "under the capability that is handed in",
    ("files/listing.py", "member.server.open"): "of a copy of the member, which stays unopened",
    ("files/namespace.py", "server.walk"): "of the member that is named",
    ("files/namespace.py", "server.walk_to"): "the same",
    ("files/namespace.py", "method"): "the rights are those of the mode, or of both directories",
    ("files/watching.py", "part.begin"): "which asks the member that is named, and keeps what ends the watch",
    ("runtime/wasi/sockets.py", "server.read"): "of the chan that is named",
}
"""What `dispatch` is given otherwise than as CHAN, RIGHTS, CHAN.server.METHOD."""

PARTS = frozenset({"network", "_network", "spawn", "_spawn", "disk", "_disk", "neighbours"})
OF_THE_WORLD: Rows = {
    "devices/cmd.py": {"Run._follow": "device.spawn"},
    "devices/naming.py": {
        "Resolver._resolved": "self._network",
        "Resolver.names": "self._network",
        "Resolver.port": "self._network",
    },
    "devices/man.py": {"Page.open": "self._world.disk", "man_server": "world.disk"},
    "devices/net.py": {
        "TcpConversation.announce": "self._network",
        "TcpConversation.connect.dial": "self._network",
        "UnixConversation.connect.dial": "self._network",
    },
    "devices/sensor.py": {"Host._read": "self._disk"},
    "devices/udp.py": {"UdpConversation.announce": "self._network", "UdpConversation.connect": "self._network"},
    "mesh/discovery.py": {"Discovery._enter": "self._world.neighbours"},
    "mesh/identity.py": {"PeerBook._write": "self._disk", "load_identity": "world.disk"},
    "mesh/invitations.py": {"Invitations.__init__": "world.disk self._disk", "Invitations._put": "self._disk"},
    "mesh/join.py": {"Inviter._listen": "self._world.network", "connect_any.attempt": "world.network"},
    "mesh/links.py": {
        "Mesh.__init__": "world.network",
        "Mesh._attempt": "self._world.network",
        "Mesh.listen": "self._world.network",
        "Mesh._interfaces": "self._world.network",
    },
    "node/__main__.py": {"_main": "world.disk"},
    "node/assembly.py": {
        "_join_network": "node.network",
        "_tell_of_peers.book_changed": "node.network",
        "_open_doors": "node.world.network",
        "_take_home": "world.disk",
        "running": "node.network world.disk",
    },
    "node/base.py": {"_host_directories": "world.disk", "make_base": "world.disk world.network parts.network"},
    "node/launcher.py": {"Launcher._start_shell": "node.world.spawn"},
    "node/listening.py": {"Listening.listen": "self._node.world.network"},
    "node/meeting.py": {"_rename": "node.network", "_label": "node.world.disk"},  # the server of /n; the settings
    "node/node.py": {
        "Node.hosts": "self.world.network",
        "Node.listen": "self.world.disk",
        "Node.status": "self.world.spawn",
    },
    "node/programs.py": {"ProgramBook._store": "self._disk"},
    "node/resources.py": {"make_resources": "world.disk world.spawn"},
    "node/script.py": {"BaseScript._lines": "self._world.disk"},
    "node/verbs.py": {"_part": "node.network"},  # the server of /n
    "runtime/cache.py": {ANY: "self._world.disk"},
    "runtime/runners.py": {"Runners._start": "self._world.spawn"},
    "store/objects.py": {ANY: "world.disk self._world.disk self._store.disk self.disk"},
}
"""By module and function, as it is written: parts of a World that lead outside, and what is called alike."""
TASKS = frozenset({"self.spawn", "self._spawn", "node.spawn", "self._node.spawn", "self._runners.spawn"})
"""What starts a task of the loop. Nobody can keep a World's `spawn` there without having read it."""

OPENING = words(
    "connect_tcp connect_tls connect_unix announce_tcp open_udp listen_tcp listen_tls listen_unix start_joined "
    "start_piped start tree local_addresses own_pid meet"
)
OPENED: Rows = {
    "devices/cmd.py": {"Run._follow": "device.spawn.start_piped"},
    "devices/helper.py": {"run_helper": "spawn.start_piped"},
    "devices/host.py": {ANY: "self.tree"},  # of which this is the server
    "devices/net.py": {
        "TcpConversation.announce": "self._network.announce_tcp",
        "TcpConversation.connect.dial": "self._network.connect_tcp",
        "UnixConversation.connect.dial": "self._network.connect_unix",
    },
    "devices/udp.py": {
        "UdpConversation.announce": "self._network.open_udp",
        "UdpConversation.call": "shared.start",
        "UdpConversation.connect": "self._network.open_udp",
    },
    "files/export_locks.py": {ANY: "message.start"},  # where a range begins
    "files/mount_linux.py": {ANY: "found.start"},  # the same
    "files/readahead.py": {ANY: "last.start part.start"},  # the same
    "files/writebehind.py": {ANY: "place.start other.start"},  # the same
    "mesh/discovery.py": {"Discovery._enter": "self._world.neighbours.meet"},
    "mesh/join.py": {
        "Inviter._listen": "self._world.network.listen_tls",
        "connect_any.attempt": "world.network.connect_tls",
    },
    "mesh/spake.py": {"Exchange.__init__": "self._exchange.start"},  # arithmetic
    "mesh/links.py": {
        "Mesh._attempt": "self._world.network.connect_tls",
        "Mesh.listen": "self._world.network.listen_tls",
    },
    "node/assembly.py": {"_open_doors": "node.world.network.listen_unix node.inviter.start node.discovery.start"},
    "node/base.py": {"_host_directories": "world.disk.tree", "make_base": "world.disk.tree"},
    "node/launcher.py": {"Launcher._start_shell": "node.world.spawn.start"},
    "node/listening.py": {"Listening.listen": "network.listen_tcp network.listen_unix"},
    "node/node.py": {"Node.hosts": "self.world.network.local_addresses", "Node.status": "self.world.spawn.own_pid"},
    "runtime/engine.py": {"Engine.__init__": "self._ticker.start"},  # the thread of the engine's epochs
    "runtime/fiber.py": {"": "_Out.start"},  # a member of a struct of C
    "runtime/launch.py": {
        "Programs._launch_isolated": "self._runners.start",
        "Programs.launch": "self._scheduler.start",
    },
    "runtime/runner.py": {"_Runner._carry_out": "self._scheduler.start"},
    "runtime/runners.py": {"Runners._start": "self._world.spawn.start_joined self._world.spawn.own_pid"},
    "runtime/scheduler.py": {"Scheduler.__init__": "worker.thread.start"},
    "runtime/wasi/files.py": {ANY: "parent.start to_parent.start"},  # where a walk begins
}
"""By module and function, as it is written: what opens something outside, and what is called alike."""

AUTHORITY = words("mint new_server new_process inherit lessen")
AUTHORISED: Rows = {
    "files/attach.py": {"attach_own": "authority.new_server authority.mint"},
    "files/authority.py": {"Authority.mint": "self.kernel.mint"},
    "files/chan.py": {
        "Domain.__init__": "authority.new_process authority.post.inherit",
        "Domain.lessened": "self.authority.mint",
        "Domain.mint": "self.authority.mint",
    },
    "files/mounts.py": {"ChanMover._derive": "chan.domain.mint"},
    "files/readonly.py": {"read_only": "twin.lessen"},
    "files/post.py": {
        "Post.inherit": "self._kernel.inherit",
        "Post.serve": "self._authority.new_server self._authority.mint",
    },
    "files/services.py": {"Services._roots": "domain.authority.new_server"},
    "node/admitting.py": {"_bind": "chan.domain.mint", "_lessen": "domain.mint chan.lessen"},
    "node/base.py": {"_attachable": "domain.authority.new_server domain.authority.mint"},
    "node/launcher.py": {"Launcher._add_devices": "base.domain.mint node.authority.new_server"},
    "node/lending.py": {"LentTree._make": "descriptors.domain.mint"},
    "node/tokens.py": {"Tokens.make": "chan.domain.mint"},
    "runtime/launch.py": {"_bind": "chan.domain.mint", "_hand_streams": "chan.domain.mint"},
}
"""By module and function: what makes a capability, or a space for them. Reasons are in `unit/test_doors.py`."""
KERNEL = {
    "files/authority.py": {"self.kernel"},
    "files/chan.py": {"authority.kernel", "self.kernel"},  # to check
    "files/dispatch.py": {"chan.domain.kernel"},  # to check
    "files/post.py": {"authority.kernel", "self._kernel"},
    "node/capabilities.py": {"node.authority.kernel", "self.kernel"},  # to show who holds what
    "node/explaining.py": {"self.view.kernel"},  # the same
    "node/node.py": {"self.kernel"},  # whether it is the proved one
}
"""By module: how the kernel is reached. Its tables are written by itself alone."""
READ_WHOLE = {
    "files/chan.py": {"authority.kernel.slots.generation"},  # to compare with, at every operation
    "node/capabilities.py": {"slots.interface"},  # to show them
}
MOUNTS = frozenset({"mount", "heads", "_kernel"})
KERNELS_TABLES = words("slots processes endpoints messages bindings")
CAPS = {
    "devices/srv.py": {"chan.cap"},
    "files/attributes.py": {"target.cap", "fid.chan.cap"},
    "files/chan.py": {"self.cap"},
    "files/dispatch.py": {"chan.cap"},
    "files/export.py": {"source.cap"},
    "files/handing.py": {"target.cap"},  # minted from
    "files/listing.py": {"chan.cap"},
    "files/mounts.py": {"chan.cap", "self.cap"},
    "files/namespace.py": {"chan.cap", "device.cap", "target.cap"},
    "files/readonly.py": {"chan.cap"},  # what the one with less is minted from
    "files/post.py": {"letter.cap"},  # of a message
    "files/reach.py": {"root.cap"},
    "files/services.py": {"each.cap"},  # watched: a mount ends with what it was made by
    "files/watching.py": {"part.chan.cap"},  # under which the watch is registered
    "node/admitting.py": {"chan.cap", "now.cap"},
    "node/capabilities.py": {"chan.cap", "device.cap"},  # to show
    "node/explaining.py": {"chan.cap"},  # to show
    "node/launcher.py": {"device.cap"},  # minted from
    "node/lending.py": {"descriptors.cap", "root.cap"},  # minted from, and given back
    "node/lent_view.py": {"chan.cap"},
    "node/peers.py": {"chan.cap"},
    "node/tokens.py": {"chan.cap", "handed.chan.cap"},  # minted from, and taken back
    "runtime/launch.py": {"chan.cap"},
    "runtime/runner.py": {"found.cap"},
    "runtime/wasi/files.py": {"directory.cap", "to_directory.cap"},
    "runtime/wasi/streams.py": {"self._chan.cap"},
}
"""By module: whose capability is read; where nothing else is said, to check it, or mint from it with its domain."""
FROZEN = words("pid domain cap kernel authority handle heads generations admitted lacking")
OF_OTHERS = words("root namespace cwd devices")
"""What an object says of itself as often as it likes, and nobody says of another but where a row says so."""
SAID_ONCE: Rows = {
    "devices/procctl.py": {"_import": "to.process.launch.cwd"},  # a path
    "files/authority.py": {"Authority.__init__": "self.kernel"},
    "files/chan.py": {
        "Chan.__init__": "self.handle self.domain self.cap self.admitted self.lacking",
        "Chan.admit": "self.admitted self.lacking",  # as the kernel just said
        "Chan.at": "other.admitted other.lacking",  # of the same capability and domain
        "Chan.lessen": "self.cap self.admitted",  # minted with less, in the same domain
        "Chan.share": "twin.admitted twin.lacking",
        "Domain.__init__": "self.authority self.kernel self.pid self.generations",
    },
    "files/mounts.py": {"ChanMover.__init__": "self.domain"},
    "files/namespace.py": {"Namespace.__init__": "self.domain self.heads", "Namespace.copy": "twin.devices twin.heads"},
    "files/nscommands.py": {"change_directory": "process.cwd"},
    "files/process.py": {
        "ProcessTable._namespace_for": "namespace.devices",
        "ProcessTable.change_namespace": "process.namespace process.cwd",
        "ProcessTable.own_namespace": "process.namespace process.cwd",
    },
    "files/shown.py": {"ShownNamespace.of": "made.heads"},
    "node/capabilities.py": {"View.__init__": "self.kernel"},
    "node/exporting.py": {"exported": "namespace.root"},
    "node/launcher.py": {"_replace": "process.namespace process.cwd"},
    "node/node.py": {"Node.__init__": "self.kernel self.authority"},
    "runtime/launch.py": {
        "Programs.launch": "process.namespace process.cwd",
        "_undress": "process.namespace process.cwd",
    },
    "runtime/runner.py": {"_Runner._dress": "process.cwd"},
    "runtime/wasi/table.py": {"Program.preopen": "entry.root"},
}
"""By module and function: where what a domain, a chan or the like stands for is said, and where a process or namespace
gets another; nowhere else is any of it changed."""
MOUNTING: Rows = {
    "files/handing.py": {"whole": "namespace.heads"},
    "files/listing.py": {ANY: "namespace.heads"},
    "files/namespace.py": {ANY: "self.heads", "Namespace.bind": "self.mount"},
    "files/nscommands.py": {"_mount": "namespace.mount"},
    "files/nstext.py": {"describe": "namespace.heads"},
    "files/plain.py": {ANY: "namespace.heads"},
    "files/process.py": {"ProcessTable._fork_into": "how.mount"},  # whether it still may
    "files/shown.py": {"ShownNamespace.of": "namespace.heads"},
    "mesh/imports.py": {ANY: "old.mount peer.mount fid.real.peer.mount fid.peer.mount"},  # a peer's tree
    "node/admitting.py": {
        "_bind": "namespace.mount",
        "_withdraw": "namespace.heads",
        "deny": "process.namespace.heads",
        "lacks": "process.namespace.heads",
    },
    "node/capabilities.py": {"chans_of": "namespace.heads"},
    "node/exporting.py": {"_keep_own": "namespace.heads"},
    "node/delegation.py": {"_redeem": "namespace.mount"},
    "node/keeping.py": {"Keeping._lend": "namespace.mount"},
    "node/launcher.py": {"Launcher._shell_namespace": "namespace.mount"},
    "node/peers.py": {
        "PeerExports._hide": "namespace.heads",
        "PeerExports._held_by": "namespace.heads",
        "PeerExports._show": "namespace.mount",
    },
    "runtime/launch.py": {"_bind": "namespace.mount"},
}
"""By module and function: what mounts, and whose table of mounts is looked at."""
LOGGING = words("Formatter Handler INFO LogRecord StreamHandler getLogger")
"""What is used of logging: nothing that opens a file or a socket by itself."""
BEGINNING = "node/__main__.py"
"""Where the log is set up."""
SET_LATER = ("runtime/capi.py",)
"""Where attributes are set whose names are worked out: functions of Wasmtime's library, when they are first used."""

TYPES = frozenset({"World", "Keeper", "Network", "Spawn", "Disk"})
GIVEN = {
    "devices/cmd.py": {"Spawn"},
    "devices/desktop.py": {"Spawn"},
    "devices/helper.py": {"Spawn"},
    "devices/sensor.py": {"Disk", "Spawn"},
    "devices/naming.py": {"Network"},  # of /net
    "devices/man.py": {"Keeper"},
    "devices/net.py": {"Network"},
    "devices/udp.py": {"Network"},
    "mesh/identity.py": {"Disk", "Keeper"},
    "mesh/invitations.py": {"Disk", "Keeper"},
    "mesh/join.py": {"World"},
    "mesh/pair.py": {"World"},
    "mesh/links.py": {"World"},
    "node/assembly.py": {"World"},
    "node/base.py": {"World"},
    "node/node.py": {"World"},
    "node/programs.py": {"Disk"},
    "node/script.py": {"Keeper"},
    "node/settings.py": {"Disk"},
    "runtime/cache.py": {"Keeper"},
    "runtime/runners.py": {"World"},
    "store/objects.py": {"Keeper"},
}
"""Who is given a World, or a part of one that leads outside: who can't name the type is handed none.

All others have `Senses` or a `Worker`, of which mypy knows no network, disk or process.
"""
WORLDS = {
    "node/__main__.py": {"cognu.world.real": "makes the World"},
    "runtime/runner.py": {
        "cognu.world.real": "a clock and chance, which is all it has",
        "cognu.world.sockets": "its one connection",
    },
}
"""Who imports what makes a World's parts."""

HARMLESS = words(
    "__future__ argparse asyncio base64 binascii blake3 cognu collections contextlib cryptography dataclasses "
    "datetime enum errno functools getpass hashlib heapq hmac inspect ipaddress itertools json logging math "
    "operator posixpath re shlex spake2 string struct types typing unicodedata weakref"
)
"""Modules of Python and others' that open nothing, by the first part of their name; any other needs a row below."""
IMPORTED = {
    "devices/ram.py": {"copy"},  # another name of a file is another node with the same contents
    "devices/hostcalls.py": {"threading"}, "devices/log.py": {"threading"}, "files/authority.py": {"threading"},
    "compiled.py": {"importlib", "importlib.abc", "importlib.machinery", "importlib.util", "os", "pathlib", "sys"},
    "values.py": {"mypy_extensions"},
    "files/chan.py": {"gc", "threading"}, "man/__init__.py": {"os"},
    "node/__main__.py": {"logging.handlers", "os", "signal", "socket", "sys", "uvloop"},
    "node/launcher.py": {"signal", "sys"}, "node/proved.py": {"importlib.resources"},
    "runtime/capi.py": {"ctypes", "importlib.metadata", "importlib.util", "pathlib", "platform", "sys"},
    "runtime/engine.py": {"ctypes", "platform", "sys", "threading"}, "runtime/fiber.py": {"ctypes", "threading"},
    "runtime/host.py": {"mmap", "pathlib", "resource", "sys"}, "runtime/probe.py": {"sys"},
    "runtime/runner.py": {"os", "resource", "socket", "sys"}, "runtime/runners.py": {"signal", "sys"},
    "runtime/scheduler.py": {"os", "queue", "threading"},
}  # fmt: skip
"""Reasons are in `unit/test_imports.py`."""
ASYNCIO = words(
    "CancelledError Event FIRST_COMPLETED Future Lock Queue Task create_task current_task ensure_future gather "
    "get_running_loop run shield sleep wait"
)
"""What is used of asyncio: nothing that opens a socket or starts a process."""
OF_LOOPS = words(
    "create_connection create_server create_unix_connection create_unix_server create_datagram_endpoint "
    "connect_accepted_socket subprocess_exec subprocess_shell sock_connect run_in_executor add_reader add_writer "
    "connect_read_pipe connect_write_pipe create_subprocess_exec create_subprocess_shell"
)
BY_THE_WAY = words(
    "os sys socket subprocess ssl pty builtins modules handlers ctypes importlib selectors posix multiprocessing "
    "asyncio logging"
)
"""Modules that other modules show, having imported them themselves."""
CALLS_OF_OS = frozenset({"open", "system", "popen", "posix_spawn", "posix_spawnp", "startfile", "openpty"})
"""Of module os, with those that begin with `fork`, `exec` or `spawn`."""

ALIASES = words("MappingOf SessionLimits StreamOrder StructError d describe_open f logarithm m t")
"""The names that something imported has here besides its own: none of them hides a door."""
BLIND = frozenset({
    "eval", "exec", "compile", "__import__", "globals", "locals", "vars", "breakpoint", "__builtins__", "astuple",
    "methodcaller", "FileHandler", "FileType", "CodeType", "update_mmap", "getattr_static", "getmembers",
})  # fmt: skip
"""What runs text, or reads attributes that nobody named."""
BY_PLACE = words("Cancel Over Refused Release Send Used m.Tflush str")
"""Classes whose parts a pattern may have by their place; of any other by their names, which can be looked at."""
NAMED_LATER = {
    "mesh/identity.py": "rows of the peer book, by the fields of `Peer`",
    "ninep/codec.py": "fields of messages",
    "ninep/listed.py": "fields of attributes",
    "ninep/moves.py": "fields of messages",
    "ninep/server.py": "fields of messages",
    "node/__main__.py": "what the command line says",
    "runtime/capi.py": "functions of Wasmtime's library",
}
"""Where attributes are read whose names are worked out."""
AS_DICT = {
    "mesh/invitations.py": "row",
    "node/settings.py": "settings",
    "runtime/runner_text.py": "self",
    "runtime/runners.py": "self._settings",
}
"""By module, what is written as text by its fields."""
SOCKETS = frozenset({"home", "self"})
"""A home's `socket` is a path. `runtime/runner.py` has a real one."""
OPEN = ("man/__init__.py",)
"""Where the host's files are opened by hand: the manual's pages."""
DUNDERS = frozenset({
    "__init__", "__new__", "__name__", "__members__", "__setitem__", "__hash__", "__dataclass_fields__",
})  # fmt: skip
