"""9P over things that are files themselves: a pipe posted in /srv, a terminal's server, a link's channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from cognu.errors import CognuError, E, FileError, LinkBroken
from cognu.files.attach import attach
from cognu.files.chan import Chan, Domain, Handle, Path
from cognu.files.dispatch import dispatch
from cognu.files.launch import told
from cognu.files.mount import MountServer
from cognu.files.mounts import lent_by
from cognu.files.nstext import SERVED
from cognu.files.server import Caller
from cognu.files.steps import finish
from cognu.kernel import READ, WRITE, Cap
from cognu.ninep.messages import Dialect
from cognu.ninep.types import ORDWR
from cognu.world import Clock, Stream

log = logging.getLogger("cognu.services")

NETWORK, PIPE = "#N", "#|"
"""Other machines' trees, and pipes, as a namespace names them."""


class ChanStream:
    """An open chan as a `Stream`. Takes over the chan."""

    def __init__(self, chan: Chan) -> None:
        self._chan = chan
        self._reading: asyncio.Task[object] | None = None
        self._closed = asyncio.Event()

    @property
    def peer(self) -> str:
        return str(self._chan.path)

    async def read(self, count: int) -> bytes:
        if self._closed.is_set():
            return b""
        self._reading = asyncio.current_task()
        try:
            data = await finish(dispatch(self._chan, READ, self._chan.server.read, self._chan.fid, 0, count))
        except FileError as error:
            raise LinkBroken(error.error, self.peer, error.detail) from None
        finally:
            self._reading = None
        return bytes(data)

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        try:
            for buffer in buffers:
                rest = memoryview(buffer)
                while rest:
                    if self._closed.is_set():
                        raise LinkBroken(E.PIPE, self.peer)
                    chan = self._chan
                    taken = await finish(dispatch(chan, WRITE, chan.server.write, chan.fid, 0, rest))
                    rest = rest[taken:]
        except FileError as error:
            # That a pipe was closed is the user's own affair where the user has it; here it is the server that ended.
            reason = E.CONNRESET if error.error is E.PIPE else error.error
            raise LinkBroken(reason, self.peer, error.detail) from None

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._chan.close()
            # The chans under the mount points on its path would hold what this one was held by.
            self._chan.path = Path(None, str(self._chan.path))
            if self._reading is not None and self._reading is not asyncio.current_task():
                self._reading.cancel()

    async def wait_closed(self) -> None:
        await self._closed.wait()


def is_from_elsewhere(chan: Chan) -> bool:
    """Whether the file came over 9P from outside this node: by another machine's link, or a service on the network.

    A service of a program here, behind a pipe, is none.
    """
    mount = chan.server
    return chan.origin.spec == NETWORK or (isinstance(mount, MountServer) and not mount.near)


@dataclass(eq=False)
class _Mounter:
    """The endpoint that stands for a connection in one domain, with what tells of the end of what it was mounted by."""

    domain: Domain
    endpoint: int
    watches: list[int] = field(default_factory=list)

    def watch(self, caps: Sequence[Cap]) -> None:
        """End with the first of these that does. Raises REVOKED if one is gone."""
        for cap in caps:
            self.watches.append(self.domain.authority.begin(cap, self.end))

    def unwatch(self) -> None:
        while self.watches:
            self.domain.authority.end(self.watches.pop())

    def end(self) -> None:
        self.unwatch()
        try:
            self.domain.authority.end_server(self.endpoint)
        except FileError:
            pass  # it ended before, with its domain at the latest


class Services:
    """The 9P connections this side is the client of. Each lives until nothing of it is used any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mounts: dict[MountServer, list[_Mounter]] = {}
        self._behind: dict[Handle, MountServer] = {}  # by the open file that the connection runs over
        self._closing: set[asyncio.Task[None]] = set()

    async def attach(
        self, stream: Stream, domain: Domain, caller: Caller, anames: Sequence[str] = ("",), name: str = "",
        dialect: Dialect = Dialect.NG, msize: int = 1 << 20, by: Sequence[Cap] = (),
    ) -> list[Chan]:  # fmt: skip
        """Attach to each of `anames` of the server behind `stream`: their roots, under a capability of `domain`'s own.

        Takes over `stream`. `name` is what `ns` calls the service; what is attached ends with any of the capabilities
        `by`. Raises `FileError`, `LinkBroken`, `ProtocolError`.
        """
        mount = await MountServer.connect(stream, self._clock, f"{SERVED}{name}", dialect, msize)
        mount.users = domain.authority.users
        self._mounts[mount] = []
        mount.on_broken = lambda _: self._lost(mount)
        return await self._roots(mount, domain, caller, anames, name, by)

    async def _roots(
        self, mount: MountServer, domain: Domain, caller: Caller, anames: Sequence[str], name: str, by: Sequence[Cap]
    ) -> list[Chan]:
        endpoint, cap = domain.authority.new_server(domain.pid, f"{SERVED}{name}")
        mounter = _Mounter(domain, endpoint)
        self._mounts[mount].append(mounter)
        mount.on_idle = None  # not while it is about to be used
        roots: list[Chan] = []
        try:
            mounter.watch(by)
            for aname in anames:
                spec = f"{SERVED}{name}{' ' + told(aname) if aname else ''}"
                roots.append(await finish(attach(mount, domain, cap, caller, aname, spec, spec)))
        except BaseException:
            for root in roots:
                root.close()
            mounter.end()
            if not mount.fid_count:
                self._over(mount)
            raise
        finally:
            mount.on_idle = lambda: self._over(mount)
        return roots

    def _over(self, mount: MountServer) -> None:
        """Nothing uses the connection any more: end it, and what stood for it."""
        mounters = self._mounts.pop(mount, None)
        if mounters is not None:
            self._end(mount, mounters)

    def _lost(self, mount: MountServer) -> None:
        """The connection broke: it is idle never more. What stands for it stays, and says so, until its domain ends."""
        mounters = self._mounts.pop(mount, None)
        if mounters is not None:
            for mounter in mounters:
                mounter.unwatch()
            self._end(mount, ())

    def _end(self, mount: MountServer, mounters: Sequence[_Mounter]) -> None:
        self._behind = {handle: other for handle, other in self._behind.items() if other is not mount}
        task = asyncio.get_running_loop().create_task(self._close(mount, mounters))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, mount: MountServer, mounters: Sequence[_Mounter]) -> None:
        await mount.close()
        for mounter in mounters:
            mounter.end()

    async def mount_service(self, chan: Chan, aname: str, caller: Caller) -> Chan:
        """9P over an open file, as mount(1) does: the root of `aname`. Takes over `chan`.

        What is posted in /srv is one open file, however many mount it: they share one connection (mnt(3)). It runs over
        what is posted, and each has the mount as long as the file that it mounted.
        """
        if chan.handle.mode is None or chan.handle.mode & 3 != ORDWR:
            chan.close()
            raise FileError(E.ACCES, str(chan.path), "a service is mounted through a file open for reading and writing")
        chain = [chan, *lent_by(chan)]
        behind, by = chain[-1], [each.cap for each in chain]
        domain, name, handle, near = chan.domain, str(chan.path), behind.handle, behind.origin.spec == PIPE
        shared = self._behind.get(handle)
        stream = None if shared is not None and shared.broken is None else behind.share(Path(None, name))
        chan.close()
        try:
            if stream is None:
                assert shared is not None
                [root] = await self._roots(shared, domain, caller, (aname,), name, by)
                return root
            [root] = await self.attach(ChanStream(stream), domain, caller, (aname,), name, by=by)
        except CognuError as error:
            raise FileError(error.error, error.subject, error.detail) from None
        mount = root.server
        assert isinstance(mount, MountServer)
        mount.near = near
        if mount.broken is None:
            self._behind[handle] = mount
        return root

    async def close(self) -> None:
        """End every connection."""
        mounts, self._mounts = self._mounts, {}
        for mount, mounters in mounts.items():
            for mounter in mounters:
                mounter.unwatch()
            await mount.close()
        if self._closing:
            await asyncio.wait(list(self._closing))
