"""`#n`, at /mnt/node: this node's control, for its own users.

rpc       write one request, a JSON object {"verb": …, "arguments": {…}}; read the answer, {"result": …} or
          {"error": {"symbol", "subject", "detail"}}
status    the same as the verb `status`, one `key value` per line
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from cognu.errors import CognuError, E, FileError
from cognu.files.nstext import quote
from cognu.files.server import Caller
from cognu.files.tree import Directory, Node, Text, TreeFid, TreeServer

MAX_REQUEST = 1 << 16

Verb = Callable[[dict[str, Any]], Awaitable[Any]]
"""Takes the arguments by name, gives what JSON can say. Raises any `CognuError`."""


class _Rpc(Node):
    def __init__(self, verbs: dict[str, Verb]) -> None:
        super().__init__("rpc", 0o600)
        self._verbs = verbs

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = b""

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        if len(data) > MAX_REQUEST:
            raise FileError(E.MSGSIZE, "rpc", f"at most {MAX_REQUEST} bytes")
        request = bytes(data)
        try:
            answer: dict[str, Any] = {"result": await self._carry_out(request)}
        except CognuError as error:
            answer = {"error": {"symbol": error.error.name, "subject": error.subject, "detail": error.detail}}
        fid.state = json.dumps(answer).encode()
        return len(request)

    async def _carry_out(self, request: bytes) -> Any:
        try:
            message = json.loads(request)
            verb, arguments = message["verb"], message.get("arguments", {})
        except (ValueError, TypeError, KeyError, RecursionError):
            raise FileError(E.USAGE, "rpc", "a JSON object with verb and arguments") from None
        known = self._verbs.get(verb) if isinstance(verb, str) else None
        if known is None or not isinstance(arguments, dict):
            raise FileError(E.USAGE, str(verb)[:80], ", ".join(self._verbs))
        try:
            return await known(arguments)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(E.USAGE, str(verb), f"arguments: {type(error).__name__} {error}") from error

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]


def control_server(verbs: dict[str, Verb], status: Callable[[], dict[str, Any]]) -> TreeServer:
    def text() -> str:
        return "".join(f"{key} {quote(str(value))}\n" for key, value in status().items())

    return TreeServer("#n", Directory("", [_Rpc(verbs), Text("status", text)]))


def answer_of(data: bytes) -> Any:
    """What an rpc answer says, for its client; raises the `FileError` that it carries."""
    answer = json.loads(data)
    if "error" in answer:
        row = answer["error"]
        raise FileError(E[row["symbol"]], row["subject"], row["detail"])
    return answer["result"]
