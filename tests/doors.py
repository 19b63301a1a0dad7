"""What a module's source may have of the outside and of file servers: the rules, and who may have more, with reasons.

`findings` is given a source text and the place where it would stand, so that what it finds can itself be tested
(`unit/test_doors_source.py`). It does not follow values. It holds where they come from: a part of a `World`, a file
server and what makes either can be had by certain names alone; such a name may be read, called or not, only where
a table here says so; and what reads attributes without naming them (`vars`, `getattr` of a name that is worked out,
`eval`, a star import) may not be used at all. What Python lets a hostile author do is more than any such list; this is
for one who forgot.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple


class Finding(NamedTuple):
    """What is where it may not be: which rule says so, the line, and the text."""

    rule: str
    line: int
    text: str


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# -- the tables -------------------------------------------------------------------------------------------------------

CONTRACT = _words(
    "attach walk open create place read write readdir stat wstat remove clunk symlink readlink link rename sync statfs "
    "mknod getxattr listxattr setxattr removexattr lock_range unlock_range find_lock"
)
"""The methods of a file server."""

NEEDED = {
    "read": "READ", "readdir": "READ", "write": "WRITE", "wstat": "WRITE", "remove": "WRITE",
    "create": "CREATE", "place": "CREATE", "symlink": "CREATE", "link": "CREATE", "rename": "CREATE",
    "mknod": "CREATE", "getxattr": "READ", "listxattr": "READ", "setxattr": "WRITE", "removexattr": "WRITE",
}  # fmt: skip
"""The right under which `dispatch` is to call a method; those that are not here say nothing of a file's bytes."""

NO_SERVERS = frozenset({
    "self", "super()", "namespace", "stream", "_stream", "disk", "_disk", "guest", "node", "entry", "tree", "_tree",
    "steps", "_steps", "head", "member", "members[0]", "grant", "message", "page", "store", "upload", "_draft",
    "draft", "directory", "way", "fid", "file", "found", "to", "source", "target", "bind", "there", "state", "ahead",
    "kept", "core", "channel", "invitations", "_fiber", "fiber", "_post", "post", "programs", "services", "mesh",
    "_connected()", "_begun()", "_ready", "_taken", "_waiting", "_events", "_listeners", "book", "_book",
    "_sessions[peer]", "part", "putting", "os",
})  # fmt: skip
"""Last names of what has methods that are called like a server's and is none."""

STRANGERS = {
    "files/mount.py": {"await self._call(m.Tstat(number), m.Rstat)": "an answer of the far side"},
    "files/mount_linux.py": {"await self._ask(m.Tstat(link), m.Rstat)": "the same"},
    "mesh/imports.py": {
        "peer.mount": "a server itself, called by dispatch: it passes the call on to the peer's tree",
        "fid.peer.mount": "the same",
        "mount": "the same",
    },
    "node/channels.py": {
        "mount": "a peer's objects, asked for over a link to that peer, which is a session of the mesh"
    },
    "runtime/host.py": {"Path('/proc/self/maps')": "what the host gives this process, measured once"},
}
"""By module, other texts before a method's name."""

HELD = {
    "devices/fd.py": {"chan.server.spec": "to show it"},
    "files/chan.py": {
        "self.handle.server": "what a chan is of",
        "self.server": "a handle's copy is of the same",
        "handle.server.clunk": "the last holder is gone; a fid that nobody could use is given back",
    },
    "files/listing.py": {
        "chan.server": "whose names are looked up in the table of mounts",
        "member.server": "the same",
    },
    "files/namespace.py": {
        "opened.server.open": "called through dispatch, with the rights that the mode needs",
        "target.server.create": "the same",
        "source.server.rename": "the same, with the rights of both directories",
        "device.server": "attached under the capability of the device",
        "chan.server.clunk": "of a fid that nobody saw",
        "member.server": "a place in the table of mounts",
    },
    "files/reach.py": {"root.server": "attached under the capability of the process's domain"},
    "files/services.py": {
        "root.server": "the mount that is to be ended with its file",
        "chan.server": "whether it is a mount",
    },
    "node/admitting.py": {"namespace.root.server": "the tree of what leads to grants, to add to it"},
    "node/launcher.py": {"device.server": "handed on under a capability minted from the device's"},
    "node/lending.py": {"descriptors.server": "attached under one minted for the lent process"},
    "node/peers.py": {"namespace.root.server": "the tree of what leads to grants, to add to it"},
    "runtime/wasi/descriptors.py": {"entry.chan.server": "numbered, for a program's st_dev"},
    "runtime/wasi/files.py": {"chan.server": "the same"},
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
    ("files/namespace.py", "method"): "the rights are those of the mode, or of both directories",
    ("runtime/wasi/sockets.py", "server.read"): "of the chan that is named",
}
"""What `dispatch` is given otherwise than as CHAN, RIGHTS, CHAN.server.METHOD."""

PARTS = frozenset({"network", "_network", "spawn", "_spawn", "disk", "_disk"})
OF_THE_WORLD = {
    "devices/cs.py": {"self._network"},
    "devices/man.py": {"world.disk", "self._world.disk"},
    "devices/net.py": {"self._network"},
    "devices/udp.py": {"self._network"},
    "mesh/identity.py": {"world.disk", "self._disk"},
    "mesh/invitations.py": {"world.disk", "self._disk"},
    "mesh/join.py": {"world.network", "self._world.network"},
    "mesh/links.py": {"self._world.network"},
    "node/__main__.py": {"world.disk"},
    "node/assembly.py": {"world.disk", "node.world.network", "node.network"},
    "node/base.py": {"world.disk", "world.network", "parts.network"},
    "node/launcher.py": {"node.world.spawn"},
    "node/listening.py": {"self._node.world.network"},
    "node/node.py": {"self.world.disk", "self.world.network", "self.world.spawn"},
    "node/programs.py": {"self._disk"},
    "node/script.py": {"self._world.disk"},
    "node/verbs.py": {"node.network"},  # the server of /n
    "runtime/cache.py": {"self._world.disk"},
    "runtime/runners.py": {"self._world.spawn"},
    "store/objects.py": {"world.disk", "self._world.disk", "self._store.disk", "self.disk"},
}
"""By module, as it is written: parts of a World that lead outside, and what is called alike."""
TASKS = frozenset({"self.spawn", "self._spawn", "node.spawn", "self._node.spawn", "self._runners.spawn"})
"""What starts a task of the loop. Nobody can keep a World's `spawn` there without having read it."""

OPENING = _words(
    "connect_tcp connect_tls connect_unix announce_tcp open_udp listen_tcp listen_tls listen_unix start_joined "
    "start tree local_addresses own_pid"
)
OPENED = {
    "devices/host.py": {"self.tree"},  # of which this is the server
    "devices/net.py": {"self._network.connect_tcp", "self._network.connect_unix", "self._network.announce_tcp"},
    "devices/udp.py": {"self._network.open_udp", "shared.start"},
    "files/export_locks.py": {"message.start"},  # where a range begins
    "files/mount_linux.py": {"found.start"},  # the same
    "files/readahead.py": {"last.start", "part.start"},  # the same
    "mesh/join.py": {"world.network.connect_tls", "self._world.network.listen_tls"},
    "mesh/links.py": {"self._world.network.connect_tls", "self._world.network.listen_tls"},
    "node/assembly.py": {"node.world.network.listen_unix", "node.inviter.start"},
    "node/base.py": {"world.disk.tree"},
    "node/launcher.py": {"node.world.spawn.start"},
    "node/listening.py": {"network.listen_tcp", "network.listen_unix"},
    "node/node.py": {"self.world.network.local_addresses", "self.world.spawn.own_pid"},
    "runtime/engine.py": {"self._ticker.start"},  # the thread of the engine's epochs
    "runtime/fiber.py": {"_Out.start"},  # a member of a struct of C
    "runtime/launch.py": {"self._runners.start", "self._scheduler.start"},
    "runtime/runner.py": {"self._scheduler.start"},
    "runtime/runners.py": {"self._world.spawn.start_joined", "self._world.spawn.own_pid"},
    "runtime/scheduler.py": {"worker.thread.start"},
    "runtime/wasi/files.py": {"parent.start", "to_parent.start"},  # where a walk begins
}
"""By module, as it is written: what opens something outside, and what is called alike."""

TYPES = frozenset({"World", "Keeper", "Network", "Spawn", "Disk"})
GIVEN = {
    "devices/cs.py": {"Network"},  # of /net
    "devices/man.py": {"Keeper"},
    "devices/net.py": {"Network"},
    "devices/udp.py": {"Network"},
    "mesh/identity.py": {"Disk", "Keeper"},
    "mesh/invitations.py": {"Disk", "Keeper"},
    "mesh/join.py": {"World"},
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
        "cognu.world.net": "its one connection",
    },
}
"""Who imports what makes a World's parts."""

HARMLESS = _words(
    "__future__ argparse asyncio base64 binascii blake3 cognu collections contextlib cryptography dataclasses "
    "datetime enum errno functools getpass hashlib heapq hmac inspect ipaddress itertools json logging math "
    "operator posixpath re string struct types typing weakref"
)
"""Modules of Python and others' that open nothing, by the first part of their name; any other needs a row below."""
IMPORTED = {
    "devices/host.py": {"threading"}, "devices/log.py": {"threading"}, "files/authority.py": {"threading"},
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
ASYNCIO = _words(
    "CancelledError Event FIRST_COMPLETED Future Lock Task create_task current_task ensure_future gather "
    "get_running_loop run shield sleep wait"
)
"""What is used of asyncio: nothing that opens a socket or starts a process."""
OF_LOOPS = _words(
    "create_connection create_server create_unix_connection create_unix_server create_datagram_endpoint "
    "connect_accepted_socket subprocess_exec subprocess_shell sock_connect run_in_executor add_reader add_writer "
    "connect_read_pipe connect_write_pipe create_subprocess_exec create_subprocess_shell"
)
BY_THE_WAY = _words(
    "os sys socket subprocess ssl pty builtins modules handlers ctypes importlib selectors posix multiprocessing "
    "asyncio logging"
)
"""Modules that other modules show, having imported them themselves."""
CALLS_OF_OS = frozenset({"open", "system", "popen", "posix_spawn", "posix_spawnp", "startfile", "openpty"})
"""Of module os, with those that begin with `fork`, `exec` or `spawn`."""

ALIASES = _words("MappingOf SessionLimits StreamOrder StructError d describe_open f logarithm m t")
"""The names that something imported has here besides its own: none of them hides a door."""
BLIND = frozenset({
    "eval", "exec", "compile", "__import__", "globals", "locals", "vars", "breakpoint", "__builtins__", "astuple",
    "methodcaller", "FileHandler", "FileType", "CodeType", "update_mmap", "getattr_static", "getmembers",
})  # fmt: skip
"""What runs text, or reads attributes that nobody named."""
NAMED_LATER = {
    "mesh/identity.py": "rows of the peer book, by the fields of `Peer`",
    "ninep/codec.py": "fields of messages",
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
DUNDERS = frozenset({"__init__", "__name__", "__members__", "__setitem__", "__hash__", "__dataclass_fields__"})


# -- the rules --------------------------------------------------------------------------------------------------------


def findings(module: str, source: str) -> list[Finding]:
    """What is wrong with `source` as the module at `module`, a path below `src/cognu`."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        said = [*_imports(module, node), *_blind(module, node), *_world(module, node), *_servers(module, node, parents)]
        found += [Finding(rule, getattr(node, "lineno", 0), text) for rule, text in said]
    return sorted(found, key=lambda finding: finding.line)


Said = Iterator[tuple[str, str]]


def _imports(module: str, node: ast.AST) -> Said:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if not _may_import(module, alias.name) or (alias.asname and alias.name == "asyncio"):
                yield "import", alias.name
    if isinstance(node, ast.ImportFrom):
        name = node.module or ""
        if node.level:
            name = ".".join(("cognu", *module.split("/")[: -node.level], *filter(None, [name])))
        for alias in node.names:
            if (
                not _may_import(module, name)
                or not _may_import(module, f"{name}.{alias.name}", part=True)
                or alias.name == "*"
                or (name == "asyncio" and alias.name not in ASYNCIO)
                or (alias.name in BY_THE_WAY and name.partition(".")[0] != "cognu")
            ):
                yield "import", f"{name}.{alias.name}"
            elif name.startswith("cognu.world") and alias.name in TYPES - GIVEN.get(module, set()):
                yield "given", alias.name
            elif alias.name in BLIND or (alias.name == "attrgetter" and module not in NAMED_LATER):
                yield "blind", alias.name
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == "asyncio" and node.attr not in ASYNCIO:
            yield "import", ast.unparse(node)
        if node.value.id == "os" and (node.attr in CALLS_OF_OS or node.attr.startswith(("fork", "exec", "spawn"))):
            yield "import", ast.unparse(node)


def _shown(name: str, part: str) -> bool:
    """Whether it is a module that another one imported."""
    return part in BY_THE_WAY and name.partition(".")[0] != "cognu"


def _may_import(module: str, name: str, part: bool = False) -> bool:
    """`part` if it is perhaps no module, but something in one."""
    first, _, rest = name.partition(".")
    if first == "cognu":
        makers = ("cognu.world.real", "cognu.world.net", "cognu.world.tls", "cognu.world.disk", "cognu.world.host_tree",
                  "cognu.world.calls", "cognu.world.cached")  # fmt: skip
        return name not in makers or name in WORLDS.get(module, {})
    mine = IMPORTED.get(module, set())
    if part:
        return name != "logging.handlers" or name in mine
    return name in mine or (first in HARMLESS and name != "logging.handlers") or (not rest and first in mine)


def _blind(module: str, node: ast.AST) -> Said:
    if isinstance(node, ast.alias) and node.asname and node.asname not in ALIASES:
        yield "import", f"{node.name} as {node.asname}"
    if isinstance(node, ast.Name) and node.id == "asdict" and module not in AS_DICT:
        yield "blind", node.id
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "asdict":
        told = [ast.unparse(argument) for argument in node.args]
        yield from [("blind", ast.unparse(node))] if told != [AS_DICT.get(module)] else []
    if isinstance(node, ast.Name):
        if node.id in BLIND or (node.id == "open" and module not in OPEN):
            yield "blind", node.id
        if node.id == "attrgetter" and module not in NAMED_LATER:
            yield "blind", node.id
    if isinstance(node, ast.Attribute):
        dunder = node.attr.startswith("__") and node.attr.endswith("__")
        if (dunder and node.attr not in DUNDERS) or node.attr in (BLIND | {"attrgetter", "asdict"}) - {"compile"}:
            yield "blind", ast.unparse(node)
        path = node.attr == "socket" and ast.unparse(node.value).rpartition(".")[2] in SOCKETS
        own = node.attr == "socket" and module == "runtime/runner.py"
        if node.attr in BY_THE_WAY | OF_LOOPS and not path and not own:
            yield "import", ast.unparse(node)
    if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name):
        parts = [part for part in node.kwd_attrs if part in PARTS | OPENING | CONTRACT | {"server"}]
        if parts or (node.patterns and node.cls.id in TYPES | {"Parts"}):
            yield "blind", ast.unparse(node)


def _attribute(module: str, node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Said:
    """An attribute that is read by `getattr`, as (what it is of, its name)."""
    if isinstance(node, ast.Name) and node.id == "getattr":
        call = parents.get(node)
        if not isinstance(call, ast.Call) or call.func is not node or len(call.args) < 2:
            yield "", "getattr itself"
        elif isinstance(call.args[1], ast.Constant):
            yield ast.unparse(call.args[0]), str(call.args[1].value)
        elif module not in NAMED_LATER:
            yield "", "getattr of a name that is worked out"


def _world(module: str, node: ast.AST) -> Said:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        text = ast.unparse(node)
        if node.attr in PARTS and text not in TASKS | OF_THE_WORLD.get(module, set()):
            yield "world", text
        if node.attr in OPENING and text not in OPENED.get(module, set()):
            yield "opening", text


def _servers(module: str, node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Said:
    for of, name in _attribute(module, node, parents):
        if not of or name in PARTS | OPENING | CONTRACT | OF_LOOPS | BY_THE_WAY | {"server"} or name.startswith("__"):
            yield "blind", f"{of}.{name}" if of else name
    if isinstance(node, ast.Name) and node.id == "dispatch":
        call = parents.get(node)
        if not isinstance(call, ast.Call) or call.func is not node:
            yield "dispatch", "dispatch itself"
        elif said := _dispatched(module, call):
            yield "dispatch", said
    for name in _disguised(node):
        yield "server", f"{name} is a server"
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return
    base, text = ast.unparse(node.value), ast.unparse(node)
    if node.attr == "devices" and text not in DEVICES.get(module, set()):
        yield "server", text
    if node.attr == "dispatch":
        yield "dispatch", ast.unparse(node)
    if node.attr == "server" and base not in NO_FILE_SERVER.get(module, set()):
        around = parents[node]
        method = f"{text}.{around.attr}" if isinstance(around, ast.Attribute) else text
        if not (_in_dispatch(around, parents) or _compared(around) or method in HELD.get(module, {})):
            yield "server", method
    if node.attr in CONTRACT and not _in_dispatch(node, parents):
        known = base.rpartition(".")[2] in NO_SERVERS or base in STRANGERS.get(module, {})
        if not known and text not in HELD.get(module, {}):
            yield "contract", text


def _disguised(node: ast.AST) -> list[str]:
    """Names of what is no server, given to one that was just made, or declared as one."""
    targets: list[ast.expr] = []
    of = ""
    match node:
        case ast.arg(annotation=ast.expr()):
            of, targets = ast.unparse(node.annotation or node), [ast.Name(node.arg)]
        case ast.AnnAssign():
            of, targets = ast.unparse(node.annotation), [node.target]
        case ast.Assign(value=ast.Call(func=called)):
            of, targets = ast.unparse(called), node.targets
        case ast.NamedExpr(value=ast.Call(func=called)):
            of, targets = ast.unparse(called), [node.target]
    made = re.search(r"(Server|_server)( \| None)?$", of) is not None
    names = [ast.unparse(target).rpartition(".")[2] for target in targets]
    return [name for name in names if made and name in NO_SERVERS]


def _in_dispatch(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    call = parents.get(node)
    called = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "dispatch"
    return called and isinstance(call, ast.Call) and len(call.args) > 2 and call.args[2] is node


def _compared(node: ast.AST) -> bool:
    """Whether it is the same, or of a class: nothing is had of it."""
    if isinstance(node, ast.Compare):
        return all(isinstance(how, ast.Is | ast.IsNot) for how in node.ops)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"


def _dispatched(module: str, call: ast.Call) -> str:
    """What is wrong with a call of `dispatch`, or ""."""
    if len(call.args) < 3 or any(isinstance(argument, ast.Starred) for argument in call.args[:3]):
        return ast.unparse(call)
    chan, rights, method = (ast.unparse(argument) for argument in call.args[:3])
    if (module, method) in THROUGH:
        return ""
    of, _, name = method.rpartition(".")
    if name not in CONTRACT or of != f"{chan}.server":
        return f"another's method: {ast.unparse(call)}"
    if name in NEEDED and NEEDED[name] not in rights.split(" | "):
        return f"without {NEEDED[name]}: {ast.unparse(call)}"
    return ""


# -- what is used -----------------------------------------------------------------------------------------------------


def used(source: str) -> list[str]:
    """Names and attributes that a source reads as values, as they are written; types are none.

    Left out: annotations, subscripts, bases of classes, patterns, and what `isinstance` and `cast` are told.
    """
    found: list[str] = []
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.append(ast.unparse(node))
        waiting += _values(node)
    return found


def _values(node: ast.AST) -> list[ast.AST]:
    """The parts of a node that are values."""
    left_out: list[ast.AST | None] = []
    match node:
        case ast.arg() | ast.AnnAssign():
            left_out = [node.annotation]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            left_out = [node.returns]
        case ast.Subscript() if not isinstance(node.slice, ast.Slice):
            left_out = [node.slice] if ast.unparse(node.value) in SUBSCRIPTED else []
        case ast.ClassDef():
            left_out = [*node.bases]
        case ast.MatchClass():
            left_out = [node.cls]
        case ast.Call(func=ast.Name(id="isinstance")):
            left_out = [*node.args[1:]]
        case ast.Call(func=ast.Name(id="cast")):
            left_out = [*node.args[:1]]
        case ast.ExceptHandler():
            left_out = [node.type]
    return [child for child in ast.iter_child_nodes(node) if not any(child is one for one in left_out)]


SUBSCRIPTED = _words("Callable Steps Awaitable Sequence Mapping Iterable list dict set tuple frozenset type")
"""Types of types, in an alias of one."""
