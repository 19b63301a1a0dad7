"""The doors: every way to something outside of a process is under a capability, and there are no other ways.

The first half reads the source. What makes a file server reachable, a process, a socket or a way to another machine
is named, called or not, where the tables here say so, with the capability that is in hand there; anywhere else it fails
this test, until somebody has thought about who may do that and written it down here. `door_rules.findings` has the
rules for what needs no capability, and by function (`test_doors_source.py`). The second half tries the doors that are
operations on trees of files; `test_doors_tried.py` tries the others.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.dispatch import dispatch
from cognu.files.namespace import Namespace
from cognu.files.server import OEXCL
from cognu.files.steps import Steps, start
from cognu.kernel import ALL_RIGHTS, CREATE, EXECUTE, GRANT, READ, SEND, WRITE, Cap
from cognu.ninep.messages import Dialect
from cognu.ninep.types import DMDIR, DMNAMEDPIPE, OEXEC, ORDWR, OREAD, OTRUNC, OWRITE, SetStat
from cognu.world.real import RealClock
from door_rules import used
from doors import CONTRACT
from joined import ME, bring, joined, tree
from serving import Client, Somebody

TOP = Path(__file__).parents[2]
SOURCE = TOP / "src" / "cognu"
FACES = ("cli", "shell")
"""Each an OS process of its own, as its user: the host says what they may do, and a node what their session may."""


# -- the source -------------------------------------------------------------------------------------------------------


class Site(NamedTuple):
    """What is used as a value, called or not: the module, the function, and the name or attribute as it is written."""

    module: str
    function: str
    called: str


@cache
def sites() -> tuple[Site, ...]:
    """All that is used outside of the world and the faces."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = path.relative_to(SOURCE).as_posix()
        if module.startswith("world/") or module.split("/")[0] in FACES:
            continue
        found += [Site(module, function, text) for function, text in used(path.read_text())]
    return tuple(found)


DOORS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "an endpoint": (
        r"(^|\.)new_server",
        {
            "files/attach.py": ("attach_own", "of the domain that serves it, and ends with it"),
            "files/post.py": ("Post.serve", "of the process that serves an interface, charged to it"),
            "files/services.py": (
                "Services._roots",
                "of the domain that mounted the service, through a file open for reading and writing",
            ),
            "node/base.py": ("_attachable", "of the node itself, when it begins"),
            "node/launcher.py": ("Launcher._add_devices", "of a peer's shell's own domain, for what is its own"),
        },
    ),
    "a chan": (
        r"(^|\.)Chan",
        {
            "files/attach.py": ("attach", "under the capability that attaching was done under"),
            "files/chan.py": (
                "Chan.at Chan.behind Chan.share",
                "under the capability of the chan that it was walked or copied from, or is shown in part",
            ),
            "files/handing.py": ("attenuate", "under one minted from the chan's, with fewer rights"),
            "files/mounts.py": ("ChanMover._move", "under one minted from the chan's that is handed on"),
            "node/admitting.py": ("_bind", "under one minted from the parent's, for a grant that was answered for"),
            "node/tokens.py": ("Tokens.make", "under one minted from the maker's of a token, for the table"),
            "runtime/launch.py": (
                " _bind _hand_streams",
                "under one minted from the starter's, for a grant or a stream",
            ),
            "runtime/runner.py": (
                "_Runner._stream",
                "in the runner: of descriptors that the node handed over on its one connection",
            ),
        },
    ),
    "a device that may be attached": (
        r"(^|\.)Device",
        {
            "files/attach.py": ("attach", "under the capability that attaching is done under"),
            "files/namespace.py": ("Namespace.__init__", "under the capability that the namespace is made with"),
            "node/launcher.py": (
                "Launcher._add_devices",
                "under one minted from the node's, for a peer's shell; with some rights for the store",
            ),
        },
    ),
    "a capability": (
        r"(^|\.)(mint|new_process)",
        {
            "files/attach.py": ("attach_own", "from the endpoint's own, with fewer rights"),
            "files/authority.py": ("Authority.mint", "the kernel's operation, which checks the holder"),
            "files/chan.py": ("Domain.__init__ Domain.mint Domain.lessened", "of the domain that holds the parent"),
            "files/mounts.py": ("ChanMover._derive", "from the chan's, in the domain that holds it"),
            "files/post.py": ("Post.serve", "from what the giver of a message holds"),
            "kernel/messages.py": (
                "Kernel.accept Kernel.inherit",
                "the kernel itself: what was enclosed, checked when it is accepted",
            ),
            "node/admitting.py": ("_bind _lessen", "from what the parent of a program holds"),
            "node/base.py": ("_attachable", "from the endpoint's own, for the node's process"),
            "node/launcher.py": ("Launcher._add_devices", "from what the node's process holds, for a peer's shell"),
            "node/lending.py": (
                "LentTree._make",
                "from what the node's process holds of descriptors, for those of one lent process",
            ),
            "node/tokens.py": ("Tokens.make", "from what the maker of a token holds, with GRANT"),
            "runtime/launch.py": ("_bind _hand_streams", "from what the starter of a program holds"),
        },
    ),
    "a namespace served to somebody": (
        r"(^|\.)\w*Export",
        {
            "node/channels.py": (
                "Channels._serve_lent Channels._serve_store _PeerTree.__init__",
                "to a peer: of its grants or what a token is for, of what was lent to it, of the shared objects",
            ),
            "node/listening.py": (
                "_Guest.__init__",
                "to a host's 9P client: the tree that a user of the node named, read-only",
            ),
            "node/sessions.py": (
                "_Session.__init__",
                "to a user of the node, whom the host lets open its socket, or by a token",
            ),
            "runtime/engine.py": ("Module._prepare", "WebAssembly's export of a module; no namespace"),
            "runtime/runners.py": (
                "IsolatedRun.begin",
                "to a program's runner: the program's own descriptors and namespace",
            ),
        },
    ),
    "a process": (
        r"(^|\.)_?processes\.(add|fork|clone)",
        {
            "devices/proc.py": ("Clone.open", "clone, opened under a capability for /proc: below whoever opened it"),
            "node/base.py": ("make_base", "the node's own, when it begins"),
            "node/channels.py": (
                "Channels._serve_store _PeerTree._redeemed",
                "for a peer's connection for objects, or by a token for one tree, within its quota",
            ),
            "node/exporting.py": (
                "exported",
                "for a 9P client that attached with the token, or that a user of the node confined",
            ),
            "node/keeping.py": (
                "Keeping._process",
                "for a peer's shell that is kept, below what stands for a connection of that peer",
            ),
            "node/peers.py": (
                "PeerExports.connect",
                "for a peer's connection, within its quota, with its grants alone",
            ),
            "node/sessions.py": ("_Session._begin", "for a user of the node"),
            "runtime/runner.py": ("_Runner.run", "in the runner: a stand-in for the node's, which holds what matters"),
        },
    ),
    "an OS process": (
        r"spawn\.start\w*",
        {
            "devices/cmd.py": (
                "Run._follow",
                "a command that the node's owner named, through a file opened under a capability for its directory",
            ),
            "devices/helper.py": (
                "run_helper",
                "a helper of the host that its owner named, for a file opened under a capability; ended in that call",
            ),
            "node/launcher.py": (
                "Launcher._start_shell",
                "a peer's shell, which the peer may start with the grant `run`, within its memory",
            ),
            "runtime/runners.py": (
                "Runners._start",
                "a runner, behind a wall of its own, for programs that may be started anyway",
            ),
        },
    ),
    "a socket": (
        r"(^|\.)_?network\.(connect|announce|open|listen)_\w+",
        {
            "devices/net.py": (
                "TcpConversation.announce TcpConversation.connect.dial UnixConversation.connect.dial",
                "a conversation of /net, opened under a capability for it; announcing on `#I`, and by `net:listen`",
            ),
            "devices/udp.py": (
                "UdpConversation.announce UdpConversation.connect",
                "a conversation of /net; announced as for tcp",
            ),
            "mesh/join.py": (
                "Inviter._listen connect_any.attempt",
                "to the inviter that a ticket names, and for those who join with one",
            ),
            "mesh/links.py": ("Mesh._attempt Mesh.listen", "to peers by their keys, and for peers alone"),
            "node/assembly.py": ("_open_doors", "the node's own socket, for its owner alone"),
            "node/listening.py": (
                "Listening.listen",
                "for 9P clients, when a user of the node asks for it at /mnt/node",
            ),
        },
    ),
    "a channel to another machine": (
        r"mesh\.open",
        {
            "node/channels.py": (
                "Channels._read_object Channels.dial",
                "for /n/PEER, walked to under a capability for /n; for objects by their hash",
            ),
            "node/delegation.py": ("_redeem", "for what a token is for, on behalf of a user of the node who has it"),
            "node/launcher.py": ("Launcher._lent", "for what a peer lent with its token"),
            "node/telling.py": ("_ask", "to tell a peer what it may do here now, and to hear it"),
        },
    ),
    "a tree of the host": (
        r"disk\.tree",
        {
            "node/base.py": (
                "_host_directories make_base",
                "`#U`, of which the node itself holds the first capability; and a look at what it hides",
            ),
        },
    ),
}
"""What is called (a pattern for the end of the text); by module the functions that may ("" outside of all), and what is
in hand there."""

WORLDLY = (
    r"(subprocess|socket|ssl|multiprocessing|pty)\.\w+"
    r"|os\.(open|fork\w*|exec\w*|spawn\w*|posix_spawn\w*|system|popen)"
    r"|asyncio\.(create_subprocess_\w+|open_\w+|start_\w*server)"
)
LOOPS = r"(^|\.)(create_(unix_)?(connection|server)|create_datagram_endpoint|subprocess_(exec|shell))"
FILES = r"^(open|io\.open|Path\(.*\)\.(open|read_\w+|write_\w+))"
OUTSIDE = {
    "node/__main__.py": "the name of the host, its umask, and where the log goes, before the node begins",
    "runtime/runner.py": "the one socket that the runner was started with",
}
"""Modules outside of the world and the faces that touch the host's sockets, processes or files by themselves."""


def called(pattern: str) -> dict[str, set[str]]:
    """By module, what is called there that ends so."""
    found: dict[str, set[str]] = {}
    for module, _, text in sites():
        if re.search(f"(?:{pattern})$", text):
            found.setdefault(module, set()).add(text)
    return found


@pytest.mark.parametrize("door", DOORS)
def test_it_comes_into_being_only_where_a_capability_is_in_hand(door: str) -> None:
    pattern, allowed = DOORS[door]
    found = {(site.module, site.function) for site in sites() if re.search(f"(?:{pattern})$", site.called)}
    rows = {(module, function) for module, (functions, _) in allowed.items() for function in functions.split(" ")}
    assert not found - rows, f"{door}: a new door. Who may do that, and under which capability? Then: a row in DOORS"
    assert not rows - found, f"{door}: rows that are about nothing any more"


def test_nothing_else_touches_the_hosts_sockets_processes_and_files() -> None:
    found = called(f"^({WORLDLY})") | called(LOOPS)
    assert set(found) == set(OUTSIDE), found
    # What the machine allows, and the manual's pages.
    assert set(called(FILES)) == {"runtime/host.py", "man/__init__.py"}


def test_the_world_is_made_once_and_handed_in() -> None:
    """Nobody but the node's own start makes a world; what does not get one can't reach outside."""
    assert set(called(r"(^|\.)(real_world|Real\w+)")) == {"node/__main__.py", "runtime/runner.py"}


@cache
def servers() -> frozenset[str]:
    """Classes that are file servers, by name, whoever they derive from."""
    bases: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    found = {"FileServer"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return frozenset(found)


SERVED = {
    "devices/cons.py", "devices/env.py", "devices/fd.py", "devices/log.py", "devices/man.py", "devices/srv.py",
    "devices/root.py", "devices/kept.py", "devices/profile.py", "devices/registry_files.py", "devices/sensor.py",
    "devices/desktop.py", "store/server.py", "node/control.py",
}  # fmt: skip
"""Modules that make the server they are about, for whoever calls them; the others are below."""
MADE = {
    "node/base.py": "the devices of the base namespace, each with an endpoint of the node's",
    "node/launcher.py": "what a peer's shell has of its own, each with an endpoint of its domain's",
    "node/assembly.py": "/n and the node's control, handed to the base namespace",
    "node/resources.py": "what of the host is served, handed to the base namespace",
    "node/channels.py": "the shared objects, attached in a domain for one peer's connection; a peer's tree and objects",
    "files/shownserver.py": "what shows another server's tree in part, used under the capabilities to that one",
    "files/services.py": "what is served behind a file, attached in the domain that mounts it",
    "runtime/runner.py": "in the runner: what leads to what the node handed over",
    "node/peers.py": "what leads to a peer's grants, attached in the domain of its connection",
    "node/lent_view.py": "what leads to what is lent to a far shell, attached in the domain of the lent process",
    "files/reach.py": "where a lent program's wants are taken, attached in the domain of the lent process",
    "runtime/runners.py": "what a runner is told by, attached in the domain of the program",
}


def test_a_file_server_is_made_only_where_it_gets_an_endpoint() -> None:
    names = servers()
    assert {"TreeServer", "RamServer", "HostServer", "MountServer", "NetServer", "ProcServer"} <= names
    found = called(rf"(^|\.)({'|'.join(sorted(names))}|\w+_server|MountServer\.connect)")
    kernel = r"(^|\.)(new|end|serve)_server$"
    made = {module for module, texts in found.items() if not all(re.search(kernel, text) for text in texts)}
    assert made - SERVED == set(MADE)


# -- tried ------------------------------------------------------------------------------------------------------------


class Watched(RamServer):
    """Notes which of its methods were called."""

    def __init__(self) -> None:
        super().__init__(RealClock())
        self.calls: list[str] = []


def _noting(name: str) -> Callable[..., Any]:
    def call(self: Watched, *arguments: Any) -> Any:
        self.calls.append(name)
        return getattr(super(Watched, self), name)(*arguments)

    return call


for _name in CONTRACT - {"clunk", "place", "walk_to", "accept", "settle"}:
    setattr(Watched, _name, _noting(_name))
Watched.link = lambda self, *_: self.calls.append("link")  # type: ignore[method-assign]  # files in memory have one name


class Tree:
    """A tree in memory, whose owner makes a namespace of it for another domain with some of the rights."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.owner = Domain(self.authority)
        self.server = Watched()
        self.me = Somebody()
        self.root: Chan = now(attach_own(self.server, self.owner, self.me))
        whole = Namespace(self.owner, self.root)
        for name, perm in (("file", 0o666), ("directory", DMDIR | 0o777)):
            now(whole.create(self.root, name, perm, OREAD, self.me)).close()
        now(dispatch(self.root, CREATE, self.server.symlink, self.root.fid, "link", "file"))
        self.other = Domain(self.authority)

    def held(self, rights: int) -> Cap:
        return self.owner.mint(self.root.cap, rights | GRANT, self.other)

    def namespace(self, domain: Domain, cap: Cap) -> Namespace:
        root = Chan(self.root.handle, domain.hold(), cap, self.root.path, self.root.origin)
        return Namespace(domain, root, {"r": (self.server, cap)})


def now(steps: Steps[Any]) -> Any:
    result = start(steps)
    assert not hasattr(result, "__await__")
    return result


Operation = Callable[[Tree, Namespace], Steps[Any]]


def _on(name: str, do: Callable[[Tree, Namespace, Chan], Steps[Any]]) -> Operation:
    def operation(tree: Tree, namespace: Namespace) -> Steps[Any]:
        found = yield from namespace.walk(namespace.root, [name], tree.me, follow=False)
        return (yield from do(tree, namespace, found))

    return operation


def _opening(mode: int, name: str = "file") -> Operation:
    return _on(name, lambda tree, namespace, chan: namespace.open(chan, mode, tree.me))


def _opened(method: str, rights: int, *arguments: Any) -> Operation:
    """Read or write through a chan that was opened while that was allowed."""

    def operation(tree: Tree, namespace: Namespace) -> Steps[Any]:
        whole = Namespace(tree.owner, tree.root)
        opened = yield from whole.open((yield from whole.walk(tree.root, ["file"], tree.me)), ORDWR, tree.me)
        chan = Chan(opened.handle, namespace.domain.hold(), namespace.root.cap, opened.path, opened.origin)
        tree.server.calls.clear()
        return (yield from dispatch(chan, rights, getattr(chan.server, method), chan.fid, *arguments))

    return operation


OPERATIONS: dict[str, tuple[str, int, Operation]] = {
    "walk": ("walk", 0, lambda t, n: n.walk(n.root, ["file"], t.me)),
    "attach": ("attach", 0, lambda t, n: n.attach("#r", t.me)),
    "open for reading": ("open", READ, _opening(OREAD)),
    "open for writing": ("open", WRITE, _opening(OWRITE)),
    "open and cut": ("open", READ | WRITE, _opening(OREAD | OTRUNC)),
    "open for running": ("open", EXECUTE, _opening(OEXEC)),
    "open a directory": ("open", READ, _opening(OREAD, "directory")),
    "create": ("create", CREATE | WRITE, lambda t, n: n.create(n.root, "new", 0o666, OWRITE | OEXCL, t.me)),
    "create a directory": ("create", CREATE | READ, lambda t, n: n.create(n.root, "new", DMDIR | 0o777, OREAD, t.me)),
    "stat": ("stat", 0, _on("file", lambda t, n, c: n.stat(c))),
    "wstat": ("wstat", WRITE, _on("file", lambda t, n, c: n.wstat(c, SetStat(mode=0o600)))),
    "remove": ("remove", WRITE, _on("file", lambda t, n, c: n.remove(c, t.me))),
    "rename": ("rename", WRITE | CREATE, lambda t, n: n.rename(n.root, "file", n.root, "name", t.me)),
    "link": ("link", CREATE | WRITE, _on("file", lambda t, n, c: n.link(c, n.root, "name"))),
    "readlink": ("readlink", 0, lambda t, n: n.walk(n.root, ["link"], t.me)),
    "read": ("read", READ, _opened("read", READ, 0, 10)),
    "write": ("write", WRITE, _opened("write", WRITE, 0, b"x")),
}


def refused(tree: Tree, operation: Operation, method: str, domain: Domain, cap: Cap) -> FileError:
    namespace = tree.namespace(domain, cap)
    tree.server.calls.clear()
    with pytest.raises(FileError) as caught:
        now(operation(tree, namespace))
    assert method not in tree.server.calls
    return caught.value


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_refused_before_the_server_hears_of_it(name: str) -> None:
    """With somebody else's capability, with one that was revoked, and with one that lacks a right."""
    method, rights, operation = OPERATIONS[name]
    tree = Tree()
    assert now(operation(tree, tree.namespace(tree.other, tree.held(ALL_RIGHTS)))) is not None or rights & WRITE
    tree = Tree()
    assert refused(tree, operation, method, tree.other, tree.root.cap).error is E.ACCES
    tree = Tree()
    cap = tree.held(ALL_RIGHTS)
    tree.authority.revoke(tree.owner.pid, tree.root.cap)
    assert refused(tree, operation, method, tree.other, cap).error is E.REVOKED
    for right in (READ, WRITE, EXECUTE, CREATE):
        tree = Tree()
        cap = tree.held(ALL_RIGHTS & ~right)
        if rights & right:
            assert refused(tree, operation, method, tree.other, cap).error is E.ACCES
        else:
            now(operation(tree, tree.namespace(tree.other, cap)))
            assert method in tree.server.calls


LOCKS = {"lock_range", "unlock_range", "find_lock"}
"""Of an open file, whose mode says what they may be: they hinder none but those who ask for locks too."""

ATTRIBUTES = {"getxattr", "listxattr", "setxattr", "removexattr"}
"""As reads and writes of the file; `test_attributes.py` tries them when they are revoked."""


LATER = {"walk_to", "accept", "settle"}
"""As walk and write, with the same right, and the wait for what was accepted."""


AT_ONCE = {"walk_now", "open_now", "read_now", "stored_now", "stat_now"}
"""As walk, open, read and stat; `test_plain.py` tries them when they are revoked."""


def test_the_operations_tried_are_the_contract() -> None:
    tried = {method for method, _, _ in OPERATIONS.values()}
    # What the namespace has no operation of its own for is called through dispatch with the chan's capability.
    rest = {"readdir", "symlink", "sync", "statfs", "mknod", "hand_on", "attenuate", "watch", *LOCKS, *ATTRIBUTES}
    rest |= {*LATER, *AT_ONCE}
    assert CONTRACT - {"clunk", "place"} - tried == rest


async def test_every_operation_from_afar_is_refused_without_the_right() -> None:
    """9P2000.L has more ways to change a tree than a namespace has operations; each goes through dispatch."""
    async with joined(Dialect.L, server=tree()) as ends:
        namespace = ends.process.namespace
        before = namespace.root.cap
        authority, pid = namespace.domain.authority, namespace.domain.pid
        namespace.root.cap = authority.mint(pid, before, READ | EXECUTE, pid)
        client = Client(ends.mount, ME)
        mount = ends.mount
        root, directory, file = [await client.walk(path) for path in ("", "d", "f")]
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "create": lambda: mount.create(root, "new", 0o666, OWRITE, ME),
            "mkdir": lambda: mount.create(root, "new", DMDIR | 0o777, OREAD, ME),
            "symlink": lambda: mount.symlink(root, "new", "f"),
            "mknod": lambda: mount.mknod(root, "new", DMNAMEDPIPE | 0o666, 0, 0),
            "link": lambda: mount.link(root, file, "new"),
            "rename": lambda: mount.rename(root, "f", directory, "f"),
            "rename within": lambda: mount.wstat(file, SetStat(name="new")),
            "wstat": lambda: mount.wstat(file, SetStat(mode=0o600)),
            "truncate": lambda: mount.wstat(file, SetStat(length=0)),
            "open for writing": lambda: mount.open(file, OWRITE, ME),
            "open and cut": lambda: mount.open(file, OREAD | OTRUNC, ME),
            "remove": lambda: client.remove("f"),
            "set an attribute": lambda: mount.setxattr(file, "user.x", b"v", 0),
            "remove an attribute": lambda: mount.removexattr(file, "user.x"),
        }
        for way, change in ways.items():
            assert await bring(change()) is E.ACCES, way
        assert await client.names("") == ["d", "f", "l", "w"]
        assert await client.read("f") == b"f"
        for fid in (root, directory, file):
            mount.clunk(fid)
        client.close()


@pytest.mark.parametrize("lacking", [SEND, GRANT, READ, WRITE, EXECUTE, CREATE])
@pytest.mark.parametrize("way", ["rename", "link"])
def test_a_file_gains_no_rights_by_another_name(way: str, lacking: int) -> None:
    """Two trees of one server, in the second of which more may be done; a file of the first stays what it is."""
    tree = Tree()
    namespace = tree.namespace(tree.other, tree.owner.mint(tree.root.cap, ALL_RIGHTS & ~lacking, tree.other))
    file = now(namespace.walk(namespace.root, ["file"], tree.me))
    where = now(namespace.walk(namespace.root, ["directory"], tree.me))
    where.cap = tree.held(ALL_RIGHTS)
    tree.server.calls.clear()
    rename = namespace.rename(namespace.root, "file", where, "file", tree.me)
    with pytest.raises(FileError) as caught:
        now(rename if way == "rename" else namespace.link(file, where, "file"))
    assert caught.value.error is E.ACCES
    assert way not in tree.server.calls


def test_a_link_can_not_name_a_device() -> None:
    """Else whoever may make a link would have its reader attach what that one may."""
    tree = Tree()
    now(dispatch(tree.root, CREATE, tree.server.symlink, tree.root.fid, "trap", "#r/file"))
    namespace = tree.namespace(tree.other, tree.held(ALL_RIGHTS))
    with pytest.raises(FileError) as caught:
        now(namespace.find("/trap", namespace.root, tree.me))
    assert caught.value.error is E.NODEV
    now(namespace.find("#r/file", namespace.root, tree.me))  # which it may
