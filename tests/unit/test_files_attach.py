"""Attaching: an operation under the capability of the chan it makes; and what becomes of connections that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cognu.devices.ram import RamServer
from cognu.errors import CognuError, E, FileError
from cognu.files.attach import attach, attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.dispatch import dispatch
from cognu.files.export import Export
from cognu.files.server import Caller, Fid
from cognu.files.services import Services
from cognu.files.steps import Steps, finish, start
from cognu.files.tree import Directory, TreeServer
from cognu.kernel import ALL_RIGHTS, READ, WRITE
from cognu.world.real import RealClock
from serving import Node, Somebody
from streams import MemoryStream, pair

ME = Somebody()


class Slow(TreeServer):
    """Attaching takes until the test lets it."""

    def __init__(self) -> None:
        super().__init__("#w", Directory(""))
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def attach(self, caller: Caller, aname: str) -> Fid:
        self.begun.set()
        await self.go.wait()
        fid = super().attach(caller, aname)
        assert isinstance(fid, Fid)
        return fid


def test_a_servers_own_domain_has_the_rights_it_is_given() -> None:
    domain = Domain(Authority())
    whole = start(attach_own(TreeServer("#x", Directory("")), domain, ME))
    part = start(attach_own(TreeServer("#x", Directory("")), domain, ME, name="#x", rights=READ))
    assert isinstance(whole, Chan)
    assert isinstance(part, Chan)
    rights = [domain.authority.rights(domain.pid, chan.cap) for chan in (whole, part)]
    assert rights == [ALL_RIGHTS, READ]
    assert [(str(chan.path), chan.origin.spec) for chan in (whole, part)] == [("/", "#x"), ("#x", "#x")]
    with pytest.raises(FileError) as caught:
        part.domain.check(part.cap, WRITE)
    assert caught.value.error is E.ACCES


async def test_attaching_is_checked_and_ends_when_its_capability_does() -> None:
    domain, server = Domain(Authority()), Slow()
    endpoint, cap = domain.authority.new_server(domain.pid)
    attaching = asyncio.create_task(finish(attach(server, domain, cap, ME)))
    await server.begun.wait()
    domain.authority.end_server(endpoint)
    with pytest.raises(FileError) as caught:
        await attaching
    assert caught.value.error is E.REVOKED
    with pytest.raises(FileError) as caught:
        await finish(attach(server, domain, cap, ME))
    assert caught.value.error is E.REVOKED


class There:
    """A node that serves whoever holds the other end of a stream."""

    def __init__(self) -> None:
        self.node = Node(RamServer(RealClock()))
        self.serving: asyncio.Task[None] | None = None

    async def serve(self) -> MemoryStream:
        near, far = pair()
        process = await self.node.start()

        def root(uname: str, aname: str) -> Steps[Chan]:
            if aname:
                raise FileError(E.NOATTACH, aname)
            return process.namespace.root.share()
            yield

        self.serving = asyncio.create_task(Export(far, process, root).serve())
        return near


@pytest.fixture
async def there() -> AsyncIterator[There]:
    made = There()
    yield made
    assert made.serving is not None
    await asyncio.wait([made.serving])


async def test_a_connection_that_broke_is_forgotten_and_says_why_to_those_who_hold_it(there: There) -> None:
    services, domain, stream = Services(RealClock()), Domain(Authority()), await there.serve()
    [root] = await services.attach(stream, domain, ME, name="/srv/x")
    assert len(vars(services)["_mounts"]) == 1
    stream.cut()
    with pytest.raises(CognuError) as caught:
        await finish(dispatch(root, 0, root.server.stat, root.fid))
    assert caught.value.error is not E.REVOKED
    await services.close()
    assert vars(services)["_mounts"] == vars(services)["_behind"] == {}
    assert not vars(services)["_closing"]
    root.close()


async def test_an_attach_that_is_refused_leaves_nothing(there: There) -> None:
    services, domain, stream = Services(RealClock()), Domain(Authority()), await there.serve()
    before = domain.authority.kernel.processes.used[domain.pid]
    with pytest.raises(FileError) as caught:
        await services.attach(stream, domain, ME, ("", "nonsense"), name="/srv/x")
    assert caught.value.error is E.NOATTACH
    await services.close()
    assert vars(services)["_mounts"] == {}
    assert domain.authority.kernel.processes.used[domain.pid] == before
