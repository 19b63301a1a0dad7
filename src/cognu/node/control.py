"""`#n`, at /mnt/node: this node's control, for its own users.

rpc       write one request; read the answer (`files.rpc`)
status    the same as the verb `status`, one `key value` per line
links     which machines are linked, and since when one is away: `node.away.LinksFile`
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cognu.errors import CognuError, E, FileError
from cognu.files.nstext import quote
from cognu.files.rpc import parse_request, refusal_text, result_text
from cognu.files.server import Caller
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer
from cognu.node.auditing import given_up, record

Verb = Callable[[dict[str, Any]], Awaitable[Any]]
"""Takes the arguments by name, gives what JSON can say. Raises any `CognuError`."""


class HalfDone(Exception):
    """A verb changed what somebody may do, and then failed with `error`. `result` is for the log."""

    def __init__(self, result: Any, error: CognuError) -> None:
        self.result = result
        self.error = error


class _Rpc(Node):
    def __init__(self, verbs: dict[str, Verb]) -> None:
        super().__init__("rpc", 0o600)
        self._verbs = verbs

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = b""

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        request = bytes(data)
        assert fid.caller is not None
        try:
            fid.state = result_text(await self._carry_out(request, fid.caller))
        except CognuError as error:
            fid.state = refusal_text(error)
        return len(request)

    async def _carry_out(self, request: bytes, by: Caller) -> Any:
        verb, arguments = parse_request(request)
        known = self._verbs.get(verb)
        if known is None:
            raise FileError(E.USAGE, verb[:80], ", ".join(self._verbs))
        try:
            result = await known(arguments)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(E.USAGE, verb, f"arguments: {type(error).__name__} {error}") from error
        except asyncio.CancelledError:
            given_up(by, verb, arguments)
            raise
        except HalfDone as half:
            record(by, verb, arguments, half.result)
            raise half.error from half
        record(by, verb, arguments, result)
        return result

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]


def control_server(verbs: dict[str, Verb], status: Callable[[], dict[str, Any]], *others: Node) -> TreeServer:
    """`others` are more files."""

    def text() -> str:
        return "".join(f"{key} {quote(str(value))}\n" for key, value in status().items())

    return TreeServer("#n", Directory("", [_Rpc(verbs), Text("status", text), *others]))
