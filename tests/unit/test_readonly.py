"""Trees bound read-only: nothing is changed through them, here or, where the far server can, there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cognu.errors import E, FileError
from cognu.files.attach import attach
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.mounts import MAFTER, MCREATE, MREAD, MREPL, ChanMover
from cognu.files.nscommands import apply
from cognu.files.nstext import describe
from cognu.files.process import Process
from cognu.files.steps import finish
from cognu.kernel import CREATE, READ, WRITE
from cognu.ninep import messages as m
from cognu.ninep.messages import Dialect
from cognu.ninep.types import OREAD, OTRUNC, OWRITE, Buffer
from joined import ME, Joined, bring, idle, joined, local_process, tree
from serving import Client

NG = Dialect.NG


@asynccontextmanager
async def mounted(dialect: Dialect = NG) -> AsyncIterator[tuple[Joined, Process, list[m.Request]]]:
    """A process with a far tree at its `/w`; what is asked of the far server from then on."""
    async with joined(dialect, server=tree()) as ends:
        process = local_process(tree())
        namespace = process.namespace
        _, cap = namespace.domain.authority.new_server(namespace.domain.pid, "far")
        root = await finish(attach(ends.mount, namespace.domain, cap, ME, "", "#M", "#M"))
        namespace.mount(root, await finish(namespace.find("/w", process.cwd, process)), MREPL | MCREATE)
        root.close()
        await idle()
        asked: list[m.Request] = []
        request = ends.mount._session.request

        def noting(message: m.Request) -> tuple[int, list[Buffer]]:
            asked.append(message)
            return request(message)

        ends.mount._session.request = noting  # type: ignore[method-assign]
        yield ends, process, asked
        process.cwd.close()
        namespace.release()
        await idle()


async def bind(process: Process, source: str, place: str, flags: int = MREAD) -> None:
    await finish(process.namespace.bind(source, place, flags, process.cwd, process))


async def opened(process: Process, path: str, mode: int) -> bytes:
    namespace = process.namespace
    chan = await finish(namespace.open(await finish(namespace.find(path, process.cwd, process)), mode, process))
    try:
        return bytes(await finish(dispatch(chan, READ, chan.server.read, chan.fid, 0, 100)))
    finally:
        chan.close()


async def made(process: Process, path: str) -> None:
    (await finish(process.namespace.create_path(path, 0o666, OWRITE, process.cwd, process))).close()


async def removed(process: Process, path: str) -> None:
    namespace = process.namespace
    await finish(namespace.remove(await finish(namespace.find(path, process.cwd, process)), process))


async def all_refused(process: Process, file: str, directory: str) -> None:
    for mode in (OWRITE, OREAD | OTRUNC):
        assert await bring(opened(process, file, mode)) is E.ACCES
    assert await bring(made(process, f"{directory}/new")) is E.NOCREATE
    assert await bring(made(process, f"{directory}/e/new")) is E.ACCES
    assert await bring(removed(process, file)) is E.ACCES


async def test_a_far_tree_is_bound_by_one_tattenuate_and_held_to_it_there_too() -> None:
    async with mounted() as (ends, process, asked):
        await bind(process, "/w/d", "/d/e")
        [less] = [message for message in asked if isinstance(message, m.Tattenuate)]
        assert less.rights == 1 | 4
        assert await opened(process, "/d/e/x", OREAD) == b"d/x"
        assert await opened(process, "/d/e/e/y", OREAD) == b"e/y"
        del asked[:]
        await all_refused(process, "/d/e/x", "/d/e")
        assert not [message for message in asked if isinstance(message, m.Tlcreate | m.Tremove)]
        # And if this side did not refuse it, the far one would.
        at = await finish(process.namespace.find("/d/e", process.cwd, process))
        behind = process.namespace.cross(at)[0]
        far = Client(ends.mount, ME)
        far.root = behind.fid
        assert await bring(far.open("x", OWRITE)) is E.ACCES
        assert await bring(far.remove("x")) is E.ACCES
        await made(process, "/w/d/new")  # by its own name it is what it was
        assert await Client(ends.mount, ME).names("d") == ["e", "new", "x"]


@pytest.mark.parametrize("dialect", [Dialect.L, Dialect.LEGACY])
async def test_a_far_server_that_can_not_is_held_to_it_on_this_side(dialect: Dialect) -> None:
    async with mounted(dialect) as (_, process, asked):
        await bind(process, "/w/d", "/d/e")
        assert not [message for message in asked if isinstance(message, m.Tattenuate)]
        assert await opened(process, "/d/e/x", OREAD) == b"d/x"
        await all_refused(process, "/d/e/x", "/d/e")


async def test_a_near_tree_and_a_union_of_both_are_read_only_as_well() -> None:
    async with mounted() as (_, process, asked):
        await bind(process, "/w/d", "/d", MAFTER | MCREATE)
        await bind(process, "/d", "/w/d/e")
        assert len([message for message in asked if isinstance(message, m.Tattenuate)]) == 1
        assert await opened(process, "/w/d/e/x", OREAD) == b"d/x"
        await all_refused(process, "/w/d/e/x", "/w/d/e")
        await made(process, "/d/new")  # by way of the other name new files go where they went
        assert await bring(removed(process, "/w/d/e/new")) is E.ACCES


async def test_what_is_handed_on_from_it_has_no_more() -> None:
    async with mounted() as (_, process, _):
        await bind(process, "/w/d", "/d/e")
        at = await finish(process.namespace.find("/d/e/x", process.cwd, process))
        domain = process.namespace.domain
        moved = ChanMover(domain).move(at)
        assert domain.authority.rights(domain.pid, moved.cap) & (READ | WRITE | CREATE) == READ
        moved.close()


async def test_the_namespace_as_text_says_so_and_rebuilds_it() -> None:
    async with mounted() as (_, process, _):
        await bind(process, "/d", "/w/d/e", MREAD)
        text = describe(process.namespace, process.cwd)
        assert "bind -r /d /w/d/e\n" in text
        await finish(process.namespace.unmount(None, "/w/d/e", process.cwd, process))
        await finish(apply(process, "bind -r /d /w/d/e\n", NoMounter()))
        assert describe(process.namespace, process.cwd) == text
        await all_refused(process, "/w/d/e/x", "/w/d/e")


class NoMounter:
    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        raise AssertionError


class Mounter:
    """Mounts one tree, whatever is asked for."""

    def __init__(self, root: Chan) -> None:
        self.root = root

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        chan.close()
        return self.root.share()


async def test_a_service_is_mounted_read_only() -> None:
    async with mounted() as (_, process, asked):
        whole = process.namespace.cross(await finish(process.namespace.find("/w", process.cwd, process)))[0]
        await finish(apply(process, "mount -r /f /d", Mounter(whole)))
        assert len([message for message in asked if isinstance(message, m.Tattenuate)]) == 1
        assert await opened(process, "/d/d/x", OREAD) == b"d/x"
        assert await bring(opened(process, "/d/d/x", OWRITE)) is E.ACCES
        assert await bring(made(process, "/d/d/new")) is E.ACCES
        assert "bind -r" in describe(process.namespace, process.cwd)
        whole.close()


async def test_to_be_read_only_and_to_take_new_files_is_refused() -> None:
    async with mounted() as (_, process, _):
        assert await bring(bind(process, "/w/d", "/d/e", MREAD | MCREATE)) is E.INVAL


async def test_binding_again_and_again_takes_one_capability() -> None:
    """They last as long as what was opened under them, which is longer than the mount."""
    process = local_process(tree())
    namespace = process.namespace
    used = namespace.domain.kernel.processes.used
    await bind(process, "/d", "/w")
    before = used[namespace.domain.pid]
    for _ in range(20):
        await finish(namespace.unmount(None, "/w", process.cwd, process))
        await bind(process, "/d", "/w")
    assert used[namespace.domain.pid] == before
    # One that was revoked is made anew.
    namespace.domain.authority.revoke(namespace.domain.pid, namespace.root.cap)
    with pytest.raises(FileError):
        await opened(process, "/w/x", OREAD)
    await finish(namespace.unmount(None, "/w", process.cwd, process))
    await bind(process, "/d", "/w")
    assert await opened(process, "/w/x", OREAD) == b"d/x"
