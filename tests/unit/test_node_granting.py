"""What peers are granted is on record before it is in force: all of it or nothing, whatever fails or comes between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import pytest

from cognu.errors import E, FileError
from cognu.files.limits import Resource
from cognu.files.mounts import MREPL
from cognu.files.process import ProcessTable
from cognu.files.rpc import answer_of, request_text
from cognu.files.server import Caller, Fid, MaybeAsync, Walk
from cognu.files.steps import finish
from cognu.files.tree import TreeFid
from cognu.mesh.identity import Peer
from cognu.ninep.types import ORDWR, OREAD
from cognu.node import verbs
from cognu.node.control import control_server
from cognu.node.node import Node
from cognu.node.peers import PeerExports
from cognu.node.verbs import make_verbs
from joined import ME, CountingServer, bring, idle, local_process
from script import attach_root
from serving import done

PI, DESK = Peer("f", "pi", ""), Peer("g", "desk", "")


class Waiting(CountingServer):
    """Where finding `slow` takes until `go`."""

    def __init__(self) -> None:
        super().__init__("#1")
        self.go = asyncio.Event()
        for name in ("a", "b", "slow"):
            self.plant(f"/{name}", None)

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        return self._later(fid, names, caller) if "slow" in names else super().walk(fid, names, caller)

    async def _later(self, fid: Fid, names: Sequence[str], caller: Caller) -> Walk:
        await self.go.wait()
        return await done(super().walk(fid, names, caller))


class Book:
    """Peers by fingerprint, on a disk that may be full."""

    def __init__(self, *peers: Peer) -> None:
        self.peers = {peer.fingerprint: peer for peer in peers}
        self.full = False

    def all(self) -> list[Peer]:
        return list(self.peers.values())

    def find(self, name: str) -> Peer:
        for peer in self.all():
            if name in (peer.fingerprint, peer.name):
                return peer
        raise FileError(E.NOPEER, name)

    def update(self, *peers: Peer) -> None:
        if self.full:
            raise FileError(E.NOSPC, "peers.json")
        self.peers |= {peer.fingerprint: peer for peer in peers}


class Here(Node):
    """What of a node the verbs use."""

    def __init__(self, *peers: Peer) -> None:
        self.server = Waiting()
        self.base = local_process(self.server)
        self.exports = PeerExports(self.base, ProcessTable(lambda: 0))
        self.known = Book(*peers)
        self.book = cast(Any, self.known)
        self.table = make_verbs(self, cast(Any, None))

    def held(self) -> int:
        """How many capabilities there are."""
        slots = self.base.namespace.domain.kernel.slots
        return sum(1 for endpoint in slots.endpoint.values() if endpoint)

    def granted(self) -> list[list[str]]:
        """In force and on record, of each peer."""
        return [
            [*self.exports.granted(peer.fingerprint), "|", *self.known.find(peer.name).granted] for peer in (PI, DESK)
        ]

    async def ask(self, verb: str, **arguments: Any) -> FileError | None:
        """By way of the control; what it was refused with."""
        server = control_server(self.table, dict)
        root = await done(server.attach(ME, ""))
        walked = await done(server.walk(root, ["rpc"], ME))
        assert walked.fid is not None
        fid = await done(server.open(walked.fid, ORDWR, ME))
        assert isinstance(fid, TreeFid)
        await done(server.write(fid, 0, request_text(verb, arguments)))
        try:
            answer_of(bytes(await done(server.read(fid, 0, 1 << 16))))
        except FileError as error:
            return error
        return None


@pytest.fixture
def audited(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "cognu.audit")
    return caplog


REQUESTS: dict[str, dict[str, Any]] = {
    "grant": {"peer": "pi", "grants": ["read:/a", "read:/b"]},
    "export": {"path": "/a"},
}


@pytest.mark.parametrize("verb", REQUESTS)
async def test_what_can_not_be_put_on_record_is_not_in_force(verb: str, audited: pytest.LogCaptureFixture) -> None:
    here = Here(PI, DESK)
    before, here.known.full = here.held(), True
    refused = await here.ask(verb, **REQUESTS[verb])
    assert refused is not None
    assert refused.error is E.NOSPC
    assert here.granted() == [["|"], ["|"]]
    assert (here.held(), audited.messages) == (before, [])
    here.known.full = False
    assert await here.ask(verb, **REQUESTS[verb]) is None
    assert here.exports.granted("f") == list(here.known.find("pi").granted) != []
    assert len(audited.messages) == 1
    here.exports.close()
    assert here.held() == before


async def test_of_several_grants_none_is_in_force_or_on_record_if_one_can_not_be_had() -> None:
    here = Here(PI, DESK)
    before = here.held()
    refused = await here.ask("grant", peer="pi", grants=["read:/a", "read:/gone"])
    assert refused is not None
    assert refused.error is E.NOENT
    assert here.granted() == [["|"], ["|"]]
    assert here.held() == before


async def test_what_can_not_be_in_force_beside_another_grant_is_told() -> None:
    """As a further ticket may bring, whose maker does not know who will join."""
    here = Here(Peer("f", "pi", "", granted=("read+hide=b:/a",)), DESK)
    assert await here.put_in_force(here.known.find("pi")) == []
    joined = Peer("f", "pi", "", granted=("read+hide=b:/a", "read:/a"))
    here.known.update(joined)
    [refused] = await here.put_in_force(joined)
    assert refused.error is E.CONFLICT
    assert "read+hide=b:/a" in str(refused)
    assert await here.table["not_in_force"]({}) == {"pi": {"read:/a": str(refused)}, "desk": {}}
    await here.table["revoke"]({"peer": "pi", "grant": "read+hide=b:/a"})
    assert await here.put_in_force(here.known.find("pi")) == []
    assert await here.table["not_in_force"]({}) == {"pi": {}, "desk": {}}
    here.exports.close()


async def test_what_is_in_force_and_not_on_record_is_revoked_too(audited: pytest.LogCaptureFixture) -> None:
    here = Here(PI, DESK)
    await here.exports.grant([("f", "read:/a")], lambda: None)
    assert await here.ask("revoke", peer="pi", grant="read:/a") is None
    assert here.granted() == [["|"], ["|"]]
    assert len(audited.messages) == 1
    refused = await here.ask("revoke", peer="pi", grant="read:/a")
    assert refused is not None
    assert refused.error is E.NOGRANT


async def test_a_revocation_that_can_not_be_put_on_record_ends_the_grant_and_says_so(
    audited: pytest.LogCaptureFixture,
) -> None:
    here = Here(PI, DESK)
    assert await here.ask("grant", peer="pi", grants=["read:/a"]) is None
    here.known.full = True
    refused = await here.ask("revoke", peer="pi", grant="read:/a")
    assert refused is not None
    assert refused.error is E.NOSPC
    assert "on record still" in str(refused)
    assert here.granted() == [["|", "read:/a"], ["|"]]
    assert [message.partition(": ")[2] for message in audited.messages] == [
        "granted pi: read:/a",
        "took from pi: read:/a",
    ]
    here.known.full = False
    assert await here.ask("revoke", peer="pi", grant="read:/a") is None
    assert here.granted() == [["|"], ["|"]]


@pytest.mark.parametrize("way", ["grant", "in force again"])
async def test_a_peer_that_is_dropped_while_a_grant_is_put_in_force_has_none(way: str) -> None:
    here = Here(Peer("f", "pi", "", granted=("read:/slow",)), DESK)
    before = here.held()
    work = here.put_in_force(here.known.find("pi")) if way != "grant" else here.table["grant"](
        {"peer": "pi", "grants": ["read:/slow"]}
    )  # fmt: skip
    granting = asyncio.ensure_future(work)
    await idle()
    del here.known.peers["f"]
    here.exports.forget("f")
    here.server.go.set()
    if way == "grant":
        assert await bring(granting) is E.NOPEER
    else:
        await granting
    assert here.exports.granted("f") == []
    assert here.held() == before


async def test_connections_end_where_no_link_s_end_ends_them() -> None:
    here = Here(Peer("f", "pi", ""), Peer("d", "desk", ""))
    ended: list[str] = []
    for peer, name in (("f", "pi"), ("f", "pi again"), ("d", "desk")):
        await here.exports.connect(peer, name, partial(ended.append, name))
    here.exports.forget("f")
    assert ended == []  # what waits there is answered first, with the reason
    here.exports.end_connections("f")
    assert ended == ["pi", "pi again"]


async def test_what_is_revoked_while_it_is_put_in_force_is_not_in_force() -> None:
    here = Here(Peer("f", "pi", "", granted=("read:/slow", "read:/a")), DESK)
    granting = asyncio.ensure_future(here.put_in_force(here.known.find("pi")))
    await idle()
    assert await here.ask("revoke", peer="pi", grant="read:/slow") is None
    here.server.go.set()
    await granting
    assert here.granted() == [["read:/a", "|", "read:/a"], ["|"]]
    here.exports.close()


async def test_a_grant_made_twice_at_once_is_held_once() -> None:
    here = Here(PI, DESK)
    before = here.held()
    both = [asyncio.ensure_future(here.ask("grant", peer="pi", grants=["read:/slow"])) for _ in range(2)]
    await idle()
    here.server.go.set()
    assert await asyncio.gather(*both) == [None, None]
    assert here.granted() == [["read:/slow", "|", "read:/slow"], ["|"]]
    assert await here.ask("revoke", peer="pi", grant="read:/slow") is None
    assert here.held() == before


async def test_a_grant_that_is_given_up_half_way_leaves_nothing() -> None:
    here = Here(PI, DESK)
    before = here.held()
    granting = asyncio.ensure_future(here.table["grant"]({"peer": "pi", "grants": ["read:/a", "read:/slow"]}))
    await idle()
    granting.cancel()
    await asyncio.wait([granting])
    assert granting.cancelled()
    assert here.granted() == [["|"], ["|"]]
    assert here.held() == before


async def test_who_joined_and_is_not_reached_then_is_in_the_log_with_what_it_may_do(
    monkeypatch: pytest.MonkeyPatch, audited: pytest.LogCaptureFixture
) -> None:
    here = Here(Peer("f", "pi", "", granted=("read:/a",)), DESK)

    class Away:
        async def connect(self, fingerprint: str) -> None:
            raise FileError(E.HOSTUNREACH, "pi")

        def note_joined(self, fingerprint: str) -> None:
            assert fingerprint == here.known.find("pi").fingerprint

    async def join(*_: object) -> Peer:
        return here.known.find("pi")

    here.mesh = cast(Any, Away())
    here.world = here.identity = here.settings = cast(Any, None)
    monkeypatch.setattr(verbs, "join", join)
    monkeypatch.setattr(Here, "me", lambda self: None)
    refused = await here.ask("join", ticket="", grants=["read:/a"])
    assert refused is not None
    assert refused.error is E.HOSTUNREACH
    assert here.exports.granted("f") == ["read:/a"]
    (said,) = audited.messages
    assert "joined pi (f); it may here: read:/a" in said
    here.exports.close()


@pytest.mark.parametrize("place", ["/a", "/slow/x"])
async def test_a_peer_holds_what_it_was_granted_and_nothing_of_the_way_there(place: str) -> None:
    """The granted tree lies in one that is mounted in another; what is mounted in it goes along."""
    here = Here(PI, DESK)
    here.server.go.set()
    namespace = here.base.namespace
    outer, inner = CountingServer("#2"), CountingServer("#3")
    outer.plant("/pub", None)
    outer.plant("/pub/in", None)
    inner.plant("/file", "granted")
    here.server.plant("/slow/x", None)
    for server, where in ((outer, place), (inner, f"{place}/pub/in")):
        root = attach_root(namespace.domain.authority, namespace.domain, server, server.spec)
        namespace.mount(root, await finish(namespace.find(where, namespace.root, here.base)), MREPL)
    slots = namespace.domain.kernel.slots
    own = slots.endpoint[namespace.root.cap.slot]

    def of_the_way() -> int:
        return sum(1 for endpoint in slots.endpoint.values() if endpoint == own)

    before = of_the_way()
    assert await here.ask("grant", peer="pi", grants=[f"read:{place}/pub"]) is None
    session = await here.exports.connect("f", "pi")
    assert of_the_way() == before
    seen = session.namespace
    found = await finish(seen.find(f"{place}/pub/in/file", seen.root, session))
    opened = await finish(seen.open(found, OREAD, session))
    assert bytes(await done(opened.server.read(opened.fid, 0, 100))) == b"granted"
    opened.close()
    inside = await finish(seen.find(f"{place}/pub/in", seen.root, session))
    above = await finish(seen.walk(inside, [".."], session))
    assert [str(above.path), seen.cross(above)[0].server] == [f"{place}/pub", outer]
    top = await finish(seen.walk(inside, [".."] * 5, session))
    assert top.key == seen.root.key
    here.exports.disconnect("f", session)
    here.exports.close()
    assert of_the_way() == before


async def test_peers_hold_part_of_the_open_files_each_and_together_half() -> None:
    exports = PeerExports(Here().base, ProcessTable(lambda: 0), open_files=64)
    pi, desk, lap = (exports.quota(name, name) for name in ("pi", "desk", "lap"))
    pi.take(Resource.FILES, 16)
    with pytest.raises(FileError, match="peer pi is 16") as caught:
        pi.take(Resource.FILES)
    assert caught.value.error is E.DQUOT
    desk.take(Resource.FILES, 16)
    with pytest.raises(FileError, match="all peers is 32"):
        lap.take(Resource.FILES)
    pi.give(Resource.FILES)
    lap.take(Resource.FILES)
    assert PeerExports(Here().base, ProcessTable(lambda: 0)).quota("pi", "pi").bound(Resource.FILES) == 4096


async def test_a_command_that_the_settings_do_not_name_is_said_to_be_none() -> None:
    here = Here(PI, DESK)

    def find(*_: object) -> None:
        raise FileError(E.NOENT, "#C/zzz")

    here.base.namespace.find = find  # type: ignore[assignment, method-assign]
    refused = await here.ask("grant", peer="pi", grants=["cmd:zzz"])
    assert str(refused) == f"zzz: {E.NOCOMMAND.text}: not in settings.json"
