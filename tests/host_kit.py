"""What the tests of `devices/host.py` share: threads that count, trees whose every handle is looked after."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cognu.errors import E, FileError
from cognu.files.server import Fid, Walk
from cognu.world import HostNode, HostStat, World
from cognu.world.real import real_world
from serving import Client, KeepingTree, done

T = TypeVar("T")
K = TypeVar("K", bound=KeepingTree)


class CountingThreads:
    """Counts hops; runs what it is given at once."""

    def __init__(self) -> None:
        self.hops = 0

    async def run(self, function: Callable[..., T], *args: object) -> T:
        self.hops += 1
        return function(*args)


def world_with(threads: Any) -> World:
    return replace(real_world(), threads=threads)


async def refused(error: E, call: Awaitable[Any]) -> None:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value


async def walked(client: Client, fid: Fid, names: list[str]) -> Walk:
    """A walk whose refusal comes when it is awaited, be it ready or not."""
    return await done(client.server.walk(fid, names, client.caller))


class FailingTree(KeepingTree):
    """Refuses to tell about, or to change, files from some call on."""

    stats_left = 1 << 30
    refuse_change = False
    refuse_attributes = False

    def setxattr(self, node: HostNode, name: str, value: bytes, flags: int) -> None:
        if self.refuse_attributes:
            raise FileError(E.NOTSUP)
        super().setxattr(node, name, value, flags)

    def stat(self, node: HostNode) -> HostStat:
        self.stats_left -= 1
        if self.stats_left < 0:
            raise FileError(E.IO)
        return super().stat(node)

    def change(self, node: HostNode, **changes: int | None) -> None:
        if self.refuse_change:
            raise FileError(E.IO)
        super().change(node, **changes)


@contextmanager
def small_tree(place: Path, made: Callable[[str], K]) -> Iterator[K]:
    """A tree of the host with the file d/f, of which no handle may be left in the end."""
    place.mkdir(exist_ok=True)
    (place / "d").mkdir()
    (place / "d" / "f").write_bytes(b"file")
    with no_handle_left(lambda: made(str(place))) as tree:
        yield tree


@contextmanager
def no_handle_left(made: Callable[[], K]) -> Iterator[K]:
    """A tree to be used, which then is closed, and none of the host's handles is open that was not before."""
    before = len(os.listdir("/dev/fd"))
    tree = made()
    yield tree
    tree.close()
    assert len(os.listdir("/dev/fd")) == before, "a handle of the host is left open"
