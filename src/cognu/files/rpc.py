"""Requests to a node itself, and its answers, as they stand in the file rpc of its control (rpc(5)): JSON both ways.

A request is {"verb": …, "arguments": {…}}; an answer {"result": …} or {"error": {"symbol", "subject", "detail"}}, with
a symbol of the error table.
"""

from __future__ import annotations

import json
from typing import Any

from cognu.errors import CognuError, E, FileError, ProtocolError

MAX_REQUEST = 1 << 16
"""Bytes of one request."""


def request_text(verb: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({"verb": verb, "arguments": arguments}).encode()


def parse_request(data: bytes) -> tuple[str, dict[str, Any]]:
    """Verb and arguments. Raises MSGSIZE, and USAGE for what is no request."""
    if len(data) > MAX_REQUEST:
        raise FileError(E.MSGSIZE, "rpc", f"at most {MAX_REQUEST} bytes")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        message = None
    verb, arguments = (message.get("verb"), message.get("arguments", {})) if isinstance(message, dict) else ("", {})
    if not isinstance(verb, str) or not verb or not isinstance(arguments, dict):
        raise FileError(E.USAGE, "rpc", "a JSON object with verb and arguments")
    return verb, arguments


def result_text(result: Any) -> bytes:
    return json.dumps({"result": result}).encode()


def refusal_text(error: CognuError) -> bytes:
    row = {"symbol": error.error.name, "subject": error.subject, "detail": error.detail}
    return json.dumps({"error": row}).encode()


def answer_of(data: bytes) -> Any:
    """What an answer says. Raises the `FileError` that it carries, and `ProtocolError` for what is no answer."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and answer.keys() == {"result"}:
        return answer["result"]
    row = answer.get("error") if isinstance(answer, dict) else None
    match row:
        case {"symbol": str(symbol), "subject": str(subject), "detail": str(detail)} if symbol in E.__members__:
            raise FileError(E[symbol], subject, detail)
    raise ProtocolError(E.BADMESSAGE, "rpc", "no answer")
