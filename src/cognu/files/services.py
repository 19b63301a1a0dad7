"""9P over things that are files themselves: a pipe posted in /srv, a terminal's server, a link's channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from cognu.errors import CognuError, E, FileError, LinkBroken
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.dispatch import dispatch
from cognu.files.mount import MountServer
from cognu.files.server import Caller
from cognu.files.steps import finish
from cognu.kernel import READ, WRITE
from cognu.ninep.messages import Dialect
from cognu.ninep.types import ORDWR
from cognu.world import Clock, Stream

log = logging.getLogger("cognu.services")


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
            raise LinkBroken(error.error, self.peer, error.detail) from None

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._chan.close()
            if self._reading is not None and self._reading is not asyncio.current_task():
                self._reading.cancel()

    async def wait_closed(self) -> None:
        await self._closed.wait()


class Services:
    """The 9P connections this side is the client of. Each lives until nothing of it is used any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mounts: set[MountServer] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def attach(
        self, stream: Stream, domain: Domain, caller: Caller, anames: Sequence[str] = ("",), name: str = "",
        dialect: Dialect = Dialect.NG, msize: int = 1 << 20,
    ) -> list[Chan]:  # fmt: skip
        """Attach to each of `anames` of the server behind `stream`: their roots, under a capability of `domain`'s own.

        Takes over `stream`. `name` is what `ns` calls the service. Raises `FileError`, `LinkBroken`, `ProtocolError`.
        """
        mount = await MountServer.connect(stream, self._clock, f"#M{name}", dialect, msize)
        self._mounts.add(mount)
        endpoint, cap = domain.authority.new_server(domain.pid)

        def over(_: CognuError | None = None) -> None:
            if mount in self._mounts:
                self._mounts.discard(mount)
                task = asyncio.get_running_loop().create_task(self._close(mount, domain, endpoint))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

        roots: list[Chan] = []
        try:
            for aname in anames:
                fid = await mount.attach(caller, aname)
                spec = f"#M{name}{' ' + aname if aname else ''}"
                root = Chan(Handle(mount, fid), domain, cap, Path(None, spec), Origin(spec, ()))
                roots.append(root)
        except BaseException:
            for root in roots:
                root.close()
            over()
            raise
        mount.on_idle = over
        return roots

    async def _close(self, mount: MountServer, domain: Domain, endpoint: int) -> None:
        await mount.close()
        try:
            domain.authority.end_server(endpoint)
        except FileError:
            pass  # it ended with its domain

    async def mount_service(self, chan: Chan, aname: str, caller: Caller) -> Chan:
        """9P over an open file, as mount(1) does: the root of `aname`. Takes over `chan`."""
        if chan.handle.mode is None or chan.handle.mode & 3 != ORDWR:
            chan.close()
            raise FileError(E.ACCES, str(chan.path), "a service is mounted through a file open for reading and writing")
        domain = chan.domain
        try:
            [root] = await self.attach(ChanStream(chan), domain, caller, (aname,), str(chan.path))
        except CognuError as error:
            raise FileError(error.error, error.subject, error.detail) from None
        return root

    async def close(self) -> None:
        """End every connection."""
        mounts, self._mounts = self._mounts, set()
        for mount in mounts:
            await mount.close()
        if self._closing:
            await asyncio.wait(list(self._closing))
