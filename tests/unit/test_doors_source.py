"""The ways around the doors that a source can name: what each module may, and that the rules find who goes around."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

import doors
from door_rules import Finding, findings, used

SOURCE = Path(__file__).parents[2] / "src" / "cognu"
FACES = ("cli", "shell")
"""Each an OS process of its own, as its user. The world itself is what the rules are about."""


@cache
def modules() -> dict[str, str]:
    paths = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}
    return {name: path.read_text() for name, path in paths.items() if name.split("/")[0] not in (*FACES, "world")}


@pytest.mark.parametrize("module", modules())
def test_a_module_has_of_the_outside_and_of_servers_what_the_tables_say(module: str) -> None:
    found = findings(module, modules()[module])
    assert not found, "a new door. Who may do that, and under which capability? Then: a row in tests/doors.py"


BACKDOORS = {
    "the network by another name": ("world", "def f(world): wire = world.network; wire.connect_tcp('evil:1')"),
    "the network through the node": ("world", "def f(node): wire = node.world.network"),
    "a call kept for later": ("opening", "def f(wire): call = wire.connect_tcp; call('evil:1')"),
    "a program's start kept for later": ("opening", "def f(it): start = it.start; start(['/bin/sh'])"),
    "a program's start, the reviewer's": ("world", "def f(world): start = world.spawn.start; start(['/bin/sh'])"),
    "a program with a connection": ("opening", "def f(it): it.start_joined(['/bin/sh'], {}, '/')"),
    "a server's method kept for later": ("contract", "def f(server, fid): look = server.read; look(fid, 0, 9)"),
    "a server's method in a partial": (
        "contract", "from functools import partial\ndef f(server, fid): return partial(server.write, fid)",
    ),
    "a server's method of its class": ("contract", "def f(it, fid): RamServer.write(it, fid, 0, b'')"),
    "a server's method of its type": ("contract", "def f(it, fid): type(it).read(it, fid, 0, 9)"),
    "a server's method by getattr": ("blind", "def f(it, fid): getattr(it, 'read')(fid, 0, 9)"),
    "a server's method, name worked out": ("blind", "def f(it, fid): getattr(it, 're' + 'ad')(fid, 0, 9)"),
    "getattr kept for later": ("blind", "def f(it, name): take = getattr; take(it, name)(0)"),
    "a chan's server by another name": ("server", "def f(chan): stream = chan.server; stream.read(chan.fid, 0, 9)"),
    "a chan's server handed to a function": ("server", "def f(chan, g): g(chan.server)"),
    "a chan's server under a harmless name": ("server", "def f(chan): namespace = chan.server; namespace.open(1)"),
    "a server under a harmless name": ("server", "def f(clock, fid): file = RamServer(clock); file.read(fid, 0, 9)"),
    "a server declared under a harmless name": ("server", "def f(stream: FileServer, fid): stream.read(fid, 0, 9)"),
    "a server out of a table": ("contract", "def f(servers, fid): servers['r'].read(fid, 0, 9)"),
    "a server out of a namespace's devices": (
        "server", "def f(node, fid):\n for file, cap in node.base.namespace.devices.values(): file.read(fid, 0, 9)",
    ),
    "a file of the host as a log": ("blind", "import logging\nlogging.FileHandler('/etc/passwd')"),
    "a file of the host as an option": ("blind", "import argparse\nargparse.FileType('r')('/etc/passwd')"),
    "a function of its code": ("blind", "import types\ntypes.CodeType(1)"),
    "a chan's server by getattr": ("blind", "def f(chan): return getattr(chan, 'server')"),
    "a handle's server in a pattern": ("server", "def f(handle):\n match handle:\n  case Handle(server=it): it"),
    "a disk by another name": ("world", "def f(world): host = world.disk; host.tree('/')"),
    "a tree of the host": ("opening", "def f(host): return host.tree('/')"),
    "a part by getattr": ("blind", "def f(world): getattr(world, 'network')"),
    "a part by attrgetter": ("blind", "from operator import attrgetter\ndef f(world): attrgetter('network')(world)"),
    "a part by methodcaller": ("blind", "from operator import methodcaller\ndef f(it): methodcaller('read')(it)"),
    "a part by attrgetter of its module": ("blind", "import operator\ndef f(it): operator.attrgetter('network')(it)"),
    "a part by vars": ("blind", "def f(world): vars(world)['network']"),
    "a part by __dict__": ("blind", "def f(world): world.__dict__['network']"),
    "a part by __getattribute__": ("blind", "def f(world): world.__getattribute__('network')"),
    "the parts as a tuple": ("blind", "from dataclasses import astuple\ndef f(world): astuple(world)"),
    "the parts as a dict": ("blind", "from dataclasses import asdict\ndef f(world): asdict(world)"),
    "a part in a pattern": ("world", "def f(world):\n match world:\n  case World(network=wire): wire"),
    "a part in a pattern by its place": ("blind", "def f(world):\n match world:\n  case World(a, b, c, wire): wire"),
    "a World of its own": ("import", "from cognu.world.real import real_world"),
    "a World's network of its own": ("import", "from cognu.world import net"),
    "a World's network, imported in a function": ("import", "def f():\n import cognu.world.net"),
    "a World's type": ("given", "from cognu.world import World"),
    "a World's network's type": ("given", "from cognu.world import Network"),
    "everything of a World": ("import", "from cognu.world import *"),
    "a socket": ("import", "import socket"),
    "a socket of C": ("import", "from _socket import socket"),
    "a subprocess": ("import", "from subprocess import Popen"),
    "a pty": ("import", "import pty"),
    "a web page": ("import", "import urllib.request"),
    "a module by its name": ("import", "import importlib\nimportlib.import_module('socket')"),
    "a module by __import__": ("blind", "__import__('socket')"),
    "a module that another shows": ("import", "import logging\nlogging.os.fork()"),
    "a module of all there are": ("import", "import inspect\ninspect.sys.modules['socket']"),
    "a log that goes over the network": ("import", "from logging.handlers import SocketHandler"),
    "a log that goes over the network, by the way": ("import", "import logging\nlogging.handlers.SocketHandler('e')"),
    "asyncio's connection": ("import", "import asyncio\ndef f(): asyncio.open_connection('evil', 1)"),
    "asyncio's connection, imported": ("import", "from asyncio import open_connection"),
    "asyncio's subprocess": ("import", "import asyncio\ndef f(): run = asyncio.create_subprocess_exec"),
    "asyncio by another name": ("import", "import asyncio as quiet\ndef f(): quiet.open_connection('evil', 1)"),
    "asyncio that another shows": ("import", "from cognu.files import dispatch\ndispatch.asyncio.open_connection()"),
    "a loop's connection": ("import", "def f(loop): call = loop.create_connection"),
    "a loop's executor": ("import", "def f(loop, g): loop.run_in_executor(None, g)"),
    "a file of the host": ("blind", "def f(): look = open; look('/etc/passwd')"),
    "a file of the host by pathlib": ("import", "from pathlib import Path\nPath('/etc/passwd').read_text()"),
    "text that is run": ("blind", "def f(text): exec(text)"),
    "dispatch by another name": ("import", "from cognu.files.dispatch import dispatch as ask"),
    "dispatch kept for later": ("dispatch", "ask = dispatch"),
    "dispatch of its module": ("dispatch", "import cognu.files.dispatch\ncognu.files.dispatch.dispatch(1, 2, 3)"),
    "dispatch without the right": ("dispatch", "def f(chan): dispatch(chan, 0, chan.server.write, chan.fid, 0, b'')"),
    "dispatch with another right": ("dispatch", "def f(chan): dispatch(chan, READ, chan.server.write, chan.fid)"),
    "dispatch under another's capability": (
        "dispatch", "def f(mine, other): dispatch(mine, READ, other.server.read, other.fid, 0, 9)",
    ),
    "dispatch of what is no method": ("dispatch", "def f(chan, g): dispatch(chan, 0, g)"),
    "another's module by way of ours": ("import", "from cognu.node.__main__ import os\nos.unlink('/etc/passwd')"),
    "another's module by way of a module of ours": ("import", "from cognu.node import __main__\n__main__.os.abort()"),
    "another's class by way of ours": ("import", "from cognu.runtime.runner import SocketStream"),
    "another's class by way of a module of ours": (
        "import", "from cognu.runtime import runner\ndef f(): runner.SocketStream(7)",
    ),
    "ctypes by way of ours": ("import", "from cognu.runtime.capi import ctypes"),
    "a module of ours by its whole name": ("import", "import cognu.runtime.runner"),
    "a file of the host as the log": ("import", "import logging\nlogging.basicConfig(filename='/etc/passwd')"),
    "a file of the host as the log, imported": ("import", "from logging import basicConfig"),
    "a right written": ("authority", "def f(chan): chan.domain.kernel.slots.rights[chan.cap.slot] = 127"),
    "a generation written by way of a domain": ("authority", "def f(domain, it): domain.generations[it] = 1"),
    "what a chan remembers made more": ("authority", "def f(chan): chan.lacking = 0"),
    "a chan under another capability": ("authority", "def f(chan, cap): chan.lessen(cap)"),
    "a right written to a table at hand": ("authority", "def f(slots, it): slots.rights[it] |= 127"),
    "a capability wiped out": ("authority", "def f(slots, it): del slots.holder[it]"),
    "a table of the kernel kept for later": ("authority", "def f(slots): rights = slots.rights; rights[3] = 127"),
    "a table of the kernel by its method": ("authority", "def f(slots): slots.rights.update({3: 127})"),
    "a quota of the kernel's": ("authority", "def f(domain): domain.authority.kernel.processes.quota[0] = 0"),
    "the kernel's operation": ("authority", "def f(chan): chan.domain.kernel.mint(0, 1, 1, 127, 0, 7)"),
    "a capability for whoever": ("authority", "def f(chan, to): chan.domain.authority.mint(0, chan.cap, 127, to)"),
    "a capability by the domain": ("authority", "def f(domain, it, to): domain.mint(it, 127, to)"),
    "an endpoint": ("authority", "def f(authority): authority.new_server(0)"),
    "another's domain": ("authority", "def f(chan): chan.domain.pid = 0"),
    "a domain of another": ("authority", "def f(chan, other): chan.domain = other.domain"),
    "a domain of another, in a tuple": ("authority", "def f(chan, other): chan.domain, it = other.domain, 1"),
    "a capability of another": ("authority", "def f(chan, other): chan.cap = other"),
    "a capability read": ("authority", "def f(chan, g): g(chan.cap)"),
    "a domain by setattr": ("authority", "def f(chan): setattr(chan.domain, 'pid', 0)"),
    "a domain by __setattr__": ("blind", "def f(chan): object.__setattr__(chan.domain, 'pid', 0)"),
    "the parent's root mounted": (
        "authority", "def f(process, place):\n process.namespace.mount(process.parent.namespace.root, place, 0)",
    ),
    "a namespace of another": ("authority", "def f(process): process.namespace = process.parent.namespace"),
    "a root of another": ("authority", "def f(process): process.namespace.root = process.parent.namespace.root"),
    "a table of mounts": ("authority", "def f(process, parent): process.namespace.heads = parent.namespace.heads"),
    "asyncio's calls in a pattern": (
        "import",
        "import asyncio\ndef f():\n match asyncio:\n  case object(open_connection=d, create_subprocess_exec=r): r('e')",
    ),
    "os in a pattern": ("import", "import os\ndef f():\n match os:\n  case object(fork=f): f()"),
    "a loop's connection in a pattern": ("import", "def f(loop):\n match loop:\n  case object(add_reader=r): r(0, f)"),
    "another's module in a pattern": (
        "import", "from cognu.node import __main__\ndef f():\n match __main__:\n  case object(os=o): o.abort()",
    ),
    "a capability for whoever in a pattern": (
        "authority", "def f(domain, c, to):\n match domain:\n  case object(authority=object(mint=m)): m(0, c, 63, to)",
    ),
    "a capability in a pattern": ("authority", "def f(chan):\n match chan:\n  case object(cap=c) as it: it.give(c)"),
    "a right written in a pattern": (
        "authority",
        "def f(authority):\n match authority:\n  case object(kernel=object(slots=object(rights=t))): t[3] = 65535",
    ),
    "a mount in a pattern": ("authority", "def f(it):\n match it:\n  case object(namespace=object(mount=m)): m(it)"),
    "a chan's server in a pattern below": (
        "server", "def f(chan):\n match chan:\n  case object(handle=object(server=s, fid=g)): s.read(g, 0, 10)",
    ),
    "a server's method in a pattern": (
        "contract", "def f(one, it):\n match one, it:\n  case (_, object(read=r)): r(1, 0, 10)",
    ),
    "a server's method in a pattern of a table": (
        "contract", "def f(it):\n match it:\n  case {'r': object(read=r)} | [object(read=r)]: r(1, 0, 10)",
    ),
    "a part in a pattern of a node": (
        "world", "def f(node):\n match node:\n  case object(world=object(spawn=s)): s.run(['sh'])",
    ),
    "a call in a pattern": ("opening", "def f(wire):\n match wire:\n  case object(connect_tcp=c): c('evil:1')"),
    "the devices in a pattern": ("server", "def f(it):\n match it:\n  case object(devices=d): d['s'][0].read(1, 0, 9)"),
    "what reads by name in a pattern": ("blind", "def f(it):\n match it:\n  case object(__dict__=d): d['network']"),
    "parts by place of a class of a module": ("blind", "def f(it):\n match it:\n  case w.World(a, b): b"),
    "a part in a pattern below one by its place": (
        "world", "def f(it):\n match it:\n  case Over(object(network=n)): n",
    ),
    "dispatch of a list": ("dispatch", "def f(them): dispatch(*them)"),
}  # fmt: skip
"""What a module `node/backdoor.py` might say to get around the doors, and the rule by which it is found."""

REVIEWED = """
    from functools import partial

    async def steal(world, server, fid):
        wire = world.network
        await wire.connect_tcp("evil:1")
        start = world.spawn.start
        await start(["/bin/sh"])
        look = server.read
        look(fid, 0, 9)
        host = world.disk
        host.tree("/")
        return partial(server.write, fid)
"""


@pytest.mark.parametrize("name", BACKDOORS)
@pytest.mark.parametrize("place", ["node/backdoor.py", "devices/proc.py", "files/backdoor.py"])
def test_a_backdoor_is_found(place: str, name: str) -> None:
    rule, source = BACKDOORS[name]
    assert rule in {finding.rule for finding in findings(place, source)}, findings(place, source)


def test_each_line_of_the_backdoor_that_was_not_found_once_is_found() -> None:
    assert findings("node/backdoor.py", dedent(REVIEWED)) == [
        Finding("world", 5, "world.network"),
        Finding("opening", 6, "wire.connect_tcp"),
        Finding("opening", 7, "world.spawn.start"),
        Finding("world", 7, "world.spawn"),
        Finding("contract", 9, "server.read"),
        Finding("world", 11, "world.disk"),
        Finding("opening", 12, "host.tree"),
        Finding("contract", 13, "server.write"),
    ]


def test_what_a_pattern_reads_is_named_as_if_it_was_written_out() -> None:
    source = """
        def f(domain, one, two):
            match domain:
                case object(authority=object(mint=m), pid=1) | object(other=object(cap=m)) as it:
                    m()
            match one, [two]:
                case (object(a=1), [object(b=2), *_]):
                    pass
                case {"x": object(c=3)}:
                    pass
    """
    read = {text for function, text in used(dedent(source)) if function == "f"}
    assert read >= {
        "domain.authority", "domain.authority.mint", "domain.pid", "domain.other", "domain.other.cap",
        "one.a", "[two][0].b", "(one, [two])['x'].c",
    }  # fmt: skip


def test_what_has_no_way_outside_is_left_alone() -> None:
    source = """
        from __future__ import annotations
        import asyncio
        import logging
        from cognu.files.dispatch import dispatch
        from cognu.world import Clock

        async def f(chan: Chan, clock: Clock, namespace: Namespace) -> None:
            await asyncio.Event().wait()
            dispatch(chan, READ, chan.server.read, chan.fid, 0, 9)
            dispatch(chan, READ | WRITE, chan.server.wstat, chan.fid, None)
            namespace.open(chan, 0, None)
            getattr(chan, "closed", True)
            logging.getLogger("x").info("%s", clock.now())
            assert chan.server is not None or isinstance(chan.server, object)
    """
    assert findings("node/quiet.py", dedent(source)) == []


def test_a_row_is_for_one_function_of_one_module_alone() -> None:
    """What one may, another may not, and not the same one by another name."""
    source = "def make_base(world): world.disk.tree('/')"
    assert findings("node/base.py", source) == []
    assert {finding.rule for finding in findings("node/basement.py", source)} == {"world", "opening"}
    assert findings("node/base.py", "def make_base(mine): mine.disk.tree('/')") != []
    assert findings("node/base.py", "def f(world): world.disk.tree('/')") != []


SECOND = {
    "devices/net.py": "class TcpConversation:\n async def hang_up(self): await self._network.connect_tcp('evil:1')",
    "node/launcher.py": "class Launcher:\n async def _here(self, node): await node.world.spawn.start(['/bin/sh'])",
    "node/listening.py": "class Listening:\n async def close(self, network): await network.listen_tcp('0.0.0.0:1')",
    "runtime/launch.py": "def f(chan, domain): return chan.domain.mint(chan.cap, 127, domain)",
    "node/peers.py": "def f(namespace, chan, place): namespace.mount(chan, place, 0)",
}
"""By module: what it does already, somewhere else in it."""


@pytest.mark.parametrize("module", SECOND)
def test_a_second_door_in_a_module_that_has_one_is_found(module: str) -> None:
    whole = modules()[module]
    assert findings(module, whole) == []
    assert findings(module, f"{whole}\n\n{SECOND[module]}\n")


TABLES = (
    doors.STRANGERS, doors.HELD, doors.NO_FILE_SERVER, doors.DEVICES, doors.GIVEN, doors.WORLDS, doors.IMPORTED,
    doors.NAMED_LATER, doors.AS_DICT, doors.KERNEL, doors.CAPS, doors.READ_WHOLE,
)  # fmt: skip
BY_FUNCTION = (doors.OF_THE_WORLD, doors.OPENED, doors.AUTHORISED, doors.SAID_ONCE, doors.MOUNTING)


def test_every_row_is_about_something() -> None:
    """Taken away, each row of a table is missed by the module that it is about."""
    everything, dead = modules(), []
    for table in TABLES:
        rows: dict[str, object] = dict(table)
        for module, kept in rows.items():
            entries = sorted(kept) if isinstance(kept, set | dict) else [""]
            for entry in entries:
                dead += [] if _missed(table, module, entry, everything[module]) else [(module, entry)]
    for by_function in BY_FUNCTION:
        for module, functions in by_function.items():
            for function, texts in functions.items():
                for text in texts.split():
                    functions[function] = " ".join(each for each in texts.split() if each != text)
                    dead += [] if findings(module, everything[module]) else [(module, f"{function}: {text}")]
                    functions[function] = texts
    assert not dead
    for names in (doors.NO_SERVERS, doors.TASKS, doors.HARMLESS, doors.ASYNCIO, doors.LOGGING, doors.BY_PLACE):
        words = {word for source in everything.values() for word in names if word in source}
        assert words == names


def _missed(table: object, module: str, entry: str, source: str) -> bool:
    assert isinstance(table, dict)
    kept = table[module]
    less = {one: kept[one] for one in kept if one != entry} if isinstance(kept, dict) else None
    try:
        if isinstance(kept, str):
            del table[module]
        else:
            table[module] = kept - {entry} if less is None else less
        return bool(findings(module, source))
    finally:
        table[module] = kept


@pytest.mark.parametrize(
    "module", sorted({*doors.OF_THE_WORLD, *doors.OPENED, *doors.HELD, *doors.STRANGERS, *doors.AUTHORISED})
)
def test_a_module_that_may_more_may_not_elsewhere(module: str) -> None:
    assert findings("node/elsewhere.py", modules()[module])
