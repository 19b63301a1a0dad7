"""`#D`: what the person at this machine copies and is told, seen as `/dev/snarf` and `/dev/notify`.

    snarf    reads as the clipboard was at the opening; what is written through one open file, from its start, becomes
             the clipboard with each write. Opening it with truncation alone changes nothing
    notify   each write is a line, shown to the person, with who says it before it

A helper of the host's does both (`World.helpers`); where there is none for it, the clipboard is the node's own, in
memory, and what is told is a line of the node's log, from `cognu.notify`. What a helper fails at is an error.
"""

from __future__ import annotations

import asyncio
import logging

from cognu.devices.helper import run_helper
from cognu.errors import E, FileError
from cognu.files.limits import Copy, Quota, QuotaOf, nobodys
from cognu.files.server import Caller, MaybeAsync
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.ninep.types import OACCESS, ORDWR, OREAD
from cognu.world import Clock, Helpers, Spawn

MAX_SNARF = 1 << 20
"""Bytes of a clipboard."""
MAX_LINE = 1024
"""Bytes of what is told at once."""
SECONDS = 10.0
"""That a helper may take."""
MAX_WAITING = 16
"""Lines that wait to be told; a helper that hangs takes no more."""

log = logging.getLogger("cognu.notify")


class Snarf(Node):
    def __init__(self, helpers: Helpers, spawn: Spawn, clock: Clock, quota_of: QuotaOf) -> None:
        super().__init__("snarf", 0o666)
        self._quota_of = quota_of
        self._helpers = helpers
        self._spawn = spawn
        self._clock = clock
        self._own = b""  # where the host has no helper
        self._asking = asyncio.Lock()

    async def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        read = await self._get() if mode & OACCESS in (OREAD, ORDWR) else b""
        fid.state = _Text(self._quota_of(caller), read)

    async def _get(self) -> bytes:
        if not self._helpers.paste:
            return self._own
        async with self._asking:
            return await run_helper(
                self._spawn, self._clock, self._helpers.paste, MAX_SNARF, SECONDS, env=dict(self._helpers.environment)
            )

    async def _put(self, text: bytes) -> None:
        if not self._helpers.copy:
            self._own = text
            return
        async with self._asking:
            await run_helper(
                self._spawn, self._clock, self._helpers.copy, 0, SECONDS, text, dict(self._helpers.environment),
                leaves=True,
            )  # fmt: skip

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, _Text)
        return fid.state.read.data[offset : offset + count]

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        text = fid.state
        assert isinstance(text, _Text)
        if offset > len(text.written.data):
            raise FileError(E.SPIPE, self.name, "it is written from its start, in order")
        if offset + len(data) > MAX_SNARF:
            raise FileError(E.FBIG, self.name, f"{MAX_SNARF} bytes at most")
        whole = text.written.data[:offset] + bytes(data)
        text.written.check(len(whole))
        await self._put(whole)
        text.written.put(whole)
        return len(data)

    def close(self, fid: TreeFid) -> None:
        assert isinstance(fid.state, _Text)
        fid.state.read.close()
        fid.state.written.close()


class _Text:
    """What an open file read, and what was written through it."""

    def __init__(self, quota: Quota | None, read: bytes) -> None:
        """Raises DQUOT."""
        self.read = Copy(quota, read)
        self.written = Copy(quota)


class Notify(Node):
    def __init__(self, helpers: Helpers, spawn: Spawn, clock: Clock) -> None:
        super().__init__("notify", 0o222)
        self._helpers = helpers
        self._spawn = spawn
        self._clock = clock
        self._asking = asyncio.Lock()
        self._waiting = 0

    def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        if len(data) > MAX_LINE:
            raise FileError(E.TOOBIG, self.name, f"{MAX_LINE} bytes")
        try:
            words = bytes(data).decode().split()
        except UnicodeDecodeError:
            raise FileError(E.ILSEQ, self.name) from None
        assert fid.caller is not None
        return self._tell(f"{fid.caller.user}: {_plain(' '.join(words))}", len(data))

    async def _tell(self, line: str, size: int) -> int:
        if not self._helpers.notify:
            log.info("%s", line)
            return size
        if self._waiting >= MAX_WAITING:
            raise FileError(E.AGAIN, self.name, f"{MAX_WAITING} lines wait to be told")
        self._waiting += 1
        try:
            async with self._asking:
                argv = (*self._helpers.notify, line)
                environment = dict(self._helpers.environment)
                await run_helper(self._spawn, self._clock, argv, MAX_LINE, SECONDS, env=environment)
        finally:
            self._waiting -= 1
        return size


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def desktop_server(helpers: Helpers, spawn: Spawn, clock: Clock, quota_of: QuotaOf = nobodys) -> TreeServer:
    """An open snarf is a copy of the clipboard, which is charged to who opened it."""
    return TreeServer("#D", Directory("", [Snarf(helpers, spawn, clock, quota_of), Notify(helpers, spawn, clock)]))
