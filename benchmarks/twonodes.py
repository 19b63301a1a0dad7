"""Two nodes, `near` and `far`, each a process of its own; far's files are at near's /n/far."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import servers
from benchmarks.delay import connect
from benchmarks.wire import Wire
from cognu.mesh.identity import Peer, PeerBook, load_identity
from cognu.world.real import real_world

MSIZE = 1 << 17


class Two(NamedTuple):
    """The homes of both, their process ids, and what orders the line between them, if there is one."""

    near: Path
    far: Path
    near_pid: int
    far_pid: int
    order: Callable[[str], None]

    def wire(self) -> Wire:
        """A connection to near, for its owner."""
        return Wire(connect(str(self.near / "node.sock")), "", MSIZE)


@contextmanager
def strangers(directory: Path) -> Iterator[Two]:
    """Two that do not know each other."""
    with ExitStack() as stack:
        near, far = directory / "near", directory / "far"
        pids = [stack.enter_context(_node(home)).pid for home in (near, far)]

        def order(what: str) -> None:
            raise RuntimeError(f"there is no line to {what}")

        yield Two(near, far, pids[0], pids[1], order)


@contextmanager
def over_a_line(directory: Path, delay: float, grants: tuple[str, ...]) -> Iterator[Two]:
    """Two that know each other, `delay` ms apart each way; far grants near these.

    Near finds far behind the line alone. Far does not find near: it knows no address, and where near's links come from
    (127.0.0.1, the line's own end) near does not listen.
    """
    world = real_world()
    near, far = (directory / name for name in ("near", "far"))
    ours, theirs = (load_identity(world, str(home)) for home in (near, far))
    PeerBook(world.disk, str(far)).add(Peer(ours.fingerprint, "near", ours.certificate, (), grants))
    with ExitStack() as stack:
        far_pid = stack.enter_context(_node(far)).pid
        door = f"127.0.0.1:{servers.free_port()}"
        order = stack.enter_context(servers.delayed(delay, (door, servers.rpc(far, "status")["listen"])))
        PeerBook(world.disk, str(near)).add(Peer(theirs.fingerprint, "far", theirs.certificate, (door,)))
        two = Two(near, far, stack.enter_context(_node(near, "[::1]")).pid, far_pid, order)
        yield two
        [link] = servers.rpc(near, "peers")
        if link["address"] != door:
            raise RuntimeError(f"the link went by {link['address']}, past the delay at {door}")


@contextmanager
def _node(home: Path, host: str = "127.0.0.1") -> Iterator[subprocess.Popen[bytes]]:
    process = servers.start_node(home, host=host, options=("--name", home.name, "--discovery", "off"))
    try:
        yield process
    finally:
        servers.end(process)
