"""Calls that a lost session left open: which may have changed something, so that their outcome is unknown."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any, get_args

import pytest

from cognu.errors import E, FileError
from cognu.files.late import is_change
from cognu.files.server import Fid
from cognu.ninep import messages as m
from cognu.ninep.messages import Dialect, Request
from cognu.ninep.types import DMDIR, L_APPEND, L_RDWR, L_TRUNC, OREAD, OTRUNC, OWRITE
from joined import ME, Joined, joined, tree

CHANGING = {
    "Twrite", "Tcreate", "Tlcreate", "Tremove", "Twstat", "Tsetattr", "Tmkdir", "Tsymlink", "Tlink", "Tmknod",
    "Trename", "Trenameat", "Tunlinkat", "Txattrcreate",
}  # fmt: skip
HARMLESS = {
    "Tversion", "Tauth", "Tattach", "Tflush", "Twalk", "Topen", "Tlopen", "Tread", "Tclunk", "Tstat", "Tstatfs",
    "Tgetattr", "Treaddir", "Treadlink", "Tfsync", "Txattrwalk", "Tlock", "Tgetlock", "Tcaps", "Tcomp", "Tlist",
    "Tattenuate", "Tmint", "Twatch", "Tevent",
}  # fmt: skip
"""What they make (fids, locks, watches, a token nobody has seen) goes with the session; an open may truncate, below."""
REQUESTS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Request)}
EMPTY: dict[str, Any] = {"int": 0, "str": "", "Buffer": b""}


def made(kind: type[Any]) -> Request:
    request: Request = kind(*(EMPTY.get(str(field.type), ()) for field in fields(kind)))
    return request


def test_every_request_either_may_change_something_or_does_not() -> None:
    assert {*REQUESTS} == CHANGING | HARMLESS
    assert {name for name, kind in REQUESTS.items() if is_change(made(kind))} == CHANGING


@pytest.mark.parametrize(
    ("request_", "changes"),
    [
        (m.Tlopen(1, L_RDWR | L_TRUNC), True), (m.Tlopen(1, L_RDWR | L_APPEND), False),
        (m.Topen(1, OWRITE | OTRUNC), True), (m.Topen(1, OWRITE), False),
        (m.Tcomp((m.Twalk(1, 2, ("f",)), m.Tlopen(2, L_TRUNC))), True),
        (m.Tcomp((m.Twalk(1, 2, ("f",)), m.Tlopen(2, 0))), False),
    ],
)  # fmt: skip
def test_an_open_changes_what_it_empties(request_: Request, changes: bool) -> None:
    assert is_change(request_) is changes


async def _cut_under(ends: Joined, name: str, fid: Fid) -> E:
    """What a call says that was sent when the link was cut."""
    mount = ends.mount
    calls: dict[str, Any] = {
        "write": lambda: mount.write(fid, 0, b"x"),
        "mkdir": lambda: mount.create(fid, "new", DMDIR | 0o777, OREAD, ME),
        "remove": lambda: mount.remove(fid),
        "rename": lambda: mount.rename(fid, "f", fid, "g"),
        "truncate": lambda: mount.open(fid, OWRITE | OTRUNC, ME),
        "open": lambda: mount.open(fid, OREAD, ME),
        "read": lambda: mount.read(fid, 0, 10),
        "stat": lambda: mount.stat(fid),
    }
    calling = asyncio.ensure_future(calls[name]())
    await asyncio.sleep(0)  # it is sent
    ends.here.cut()
    try:
        await calling
    except FileError as error:
        return error.error
    raise AssertionError("it was answered")


@pytest.mark.parametrize("name", ["write", "mkdir", "remove", "rename", "truncate"])
async def test_a_change_under_way_when_the_link_is_lost_has_an_unknown_outcome(name: str) -> None:
    assert await _lost(name) is E.NOTRECOVERABLE


@pytest.mark.parametrize("name", ["open", "read", "stat"])
async def test_what_only_asks_is_lost_with_the_link(name: str) -> None:
    assert await _lost(name) is E.CONNRESET


async def _lost(name: str) -> E:
    async with joined(Dialect.L, server=tree()) as ends:
        root = await ends.mount.attach(ME, "")
        fid = root
        if name in ("write", "truncate", "open", "read", "remove"):
            walked = await ends.mount.walk(root, ["f"], ME)
            assert walked.fid is not None
            fid = walked.fid
        if name in ("write", "read"):
            fid = await ends.mount.open(fid, OWRITE if name == "write" else OREAD, ME)
        return await _cut_under(ends, name, fid)
