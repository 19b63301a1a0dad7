"""The node's control: what changes anybody's rights is in the log with who asked, done or given up; reading is not."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from cognu.files.rpc import request_text
from cognu.files.tree import TreeFid
from cognu.ninep.types import ORDWR
from cognu.node.control import control_server
from serving import done


@dataclass(frozen=True)
class Me:
    user: str = "ann\nb"
    pid: int = 7


async def opened(verbs: dict[str, Any]) -> tuple[Any, TreeFid]:
    """`rpc` of a control with these verbs, and an open fid of it."""
    server = control_server(verbs, dict)
    root = await done(server.attach(Me(), ""))
    walked = await done(server.walk(root, ["rpc"], Me()))
    assert walked.fid is not None
    fid = await done(server.open(walked.fid, ORDWR, Me()))
    assert isinstance(fid, TreeFid)
    return fid.node, fid


async def test_what_a_verb_changed_is_logged_on_one_line_and_what_was_refused_or_read_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cognu.audit")

    async def nothing(arguments: dict[str, Any]) -> Any:
        return {}

    async def wrong(arguments: dict[str, Any]) -> Any:
        raise KeyError("peer")

    rpc, fid = await opened({"revoke": nothing, "status": nothing, "drop": wrong})
    whom = {"peer": "pi", "grant": "net"}
    for verb in ("status", "drop", "revoke"):
        await rpc.write(fid, 0, request_text(verb, whom))
    assert [record.getMessage() for record in caplog.records] == [repr("ann\nb, process 7: took from pi: net")]


async def test_a_token_that_is_made_or_redeemed_is_logged_without_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cognu.audit")

    async def mint(arguments: dict[str, Any]) -> Any:
        return {"token": "hush", "seconds": 60, "uses": 2, "peer": "pi", "at": "x", "number": 3}

    async def redeem(arguments: dict[str, Any]) -> Any:
        return {"peer": "pi", "at": "/n/x"}

    rpc, fid = await opened({"mint": mint, "redeem": redeem})
    await rpc.write(fid, 0, request_text("mint", {"path": "/home", "peer": "pi", "write": True}))
    await rpc.write(fid, 0, request_text("redeem", {"peer": "pi", "token": "hush", "at": "x"}))
    made, used = (record.getMessage() for record in caplog.records)
    assert "made token 3 for pi, 2 uses within 60 s: write:/home" in made
    assert "redeemed a token of pi at /n/x" in used
    assert "hush" not in caplog.text


async def test_a_change_that_nobody_waited_for_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cognu.audit")
    begun = asyncio.Event()

    async def endless(arguments: dict[str, Any]) -> Any:
        begun.set()
        await asyncio.Event().wait()

    rpc, fid = await opened({"drop": endless})
    asking = asyncio.ensure_future(rpc.write(fid, 0, request_text("drop", {"peer": "pi"})))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    [line] = [record.getMessage() for record in caplog.records]
    assert line == repr("ann\nb, process 7: drop pi: not waited for; it may be done")
