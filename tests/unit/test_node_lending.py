"""Tokens for lent processes: for one peer, once, and no longer than the lending."""

from __future__ import annotations

import pathlib
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Path
from cognu.files.handing import attenuate
from cognu.files.launch import TOKEN_LABEL
from cognu.files.mounts import Device
from cognu.files.namespace import Namespace
from cognu.files.process import Process, ProcessTable, State
from cognu.files.reach import WANTS
from cognu.files.steps import finish, start
from cognu.mesh.identity import Peer, identity_from_seed
from cognu.ninep.types import RIGHT_READ, RIGHT_WRITE
from cognu.node.assembly import running
from cognu.node.lending import STREAMS, Lending, LentObjects, LentTree
from cognu.node.settings import Home, Settings
from cognu.node.verbs import make_verbs
from cognu.shell.connection import Somebody
from cognu.world.real import RealRandom, real_world
from joined import CountingServer, local_process


def a_process() -> Process:
    domain = Domain(Authority())
    root = start(attach_own(SkeletonServer(()), domain, Somebody("me")))
    assert isinstance(root, Chan)
    namespace = Namespace(domain, root)
    return ProcessTable(lambda: 0).add("me", namespace, namespace.root.share())


def refused(lending: Lending, token: str, peer: str) -> str:
    with pytest.raises(FileError) as caught:
        lending.redeem(TOKEN_LABEL + token, peer, lambda: None)
    assert caught.value.error is E.NOATTACH
    return str(caught.value)


def test_a_token_is_redeemed_once_by_its_peer_and_closed_when_the_lending_ends() -> None:
    lending, process, closed = Lending(RealRandom()), a_process(), []
    token = lending.lend(process, "pi")
    texts = {refused(lending, token, "other"), refused(lending, token[:-1], "pi"), refused(lending, "", "pi")}
    assert lending.redeem(TOKEN_LABEL + token, "pi", lambda: closed.append("a")) is process
    texts.add(refused(lending, token, "pi"))
    assert closed == []
    lending.end(token)
    assert closed == ["a"]
    lending.end(token)
    assert closed == ["a"]
    texts.add(refused(lending, token, "pi"))
    assert len(texts) == 1  # nobody learns which it was


def test_a_token_that_nobody_redeemed_ends_and_one_of_a_process_that_ended_is_refused() -> None:
    lending, process = Lending(RealRandom()), a_process()
    token, other = lending.lend(process, ""), lending.lend(process, "")
    assert token != other
    lending.end(token)
    refused(lending, token, "")
    process.state = State.DEAD
    refused(lending, other, "")


def test_what_was_lent_to_a_peer_that_is_forgotten_ends() -> None:
    lending, process, closed = Lending(RealRandom()), a_process(), []
    used, unused, others = lending.lend(process, "pi"), lending.lend(process, "pi"), lending.lend(process, "desk")
    lending.redeem(TOKEN_LABEL + used, "pi", lambda: closed.append("pi"))
    lending.redeem(TOKEN_LABEL + others, "desk", lambda: closed.append("desk"))
    lending.forget("pi")
    assert closed == ["pi"]
    refused(lending, unused, "pi")
    lending.end(used)
    lending.end(others)
    assert closed == ["pi", "desk"]


async def test_what_was_lent_to_a_peer_ends_when_it_is_dropped(tmp_path: pathlib.Path) -> None:
    settings = Settings("pi", "127.0.0.1:0", ("127.0.0.1",), runners=0, discovery="off")
    async with running(real_world(), Home(str(tmp_path / "pi")), settings, "me") as node:
        desk, nas = (identity_from_seed(name.encode().ljust(32)) for name in ("desk", "nas"))
        for name, of in (("desk", desk), ("nas", nas)):
            node.book.add(Peer(of.fingerprint, name, of.certificate))
        closed: list[str] = []
        used, unused = (node.lending.lend(node.base, desk.fingerprint) for _ in range(2))
        kept = node.lending.lend(node.base, nas.fingerprint)
        node.lending.redeem(TOKEN_LABEL + used, desk.fingerprint, lambda: closed.append("desk"))
        node.lending.redeem(TOKEN_LABEL + kept, nas.fingerprint, lambda: closed.append("nas"))
        await make_verbs(node, cast(Any, None))["drop"]({"peer": "desk"})
        assert closed == ["desk"]
        refused(node.lending, unused, desk.fingerprint)


@given(st.text(), st.text())
def test_no_other_text_is_a_token(text: str, peer: str) -> None:
    lending, process = Lending(RealRandom()), a_process()
    lending.lend(process, peer)
    refused(lending, text, peer)


def test_an_object_is_lent_to_one_peer_as_long_as_any_lending_of_it_lasts() -> None:
    lent = LentObjects()
    first, second = lent.lend("a", "pi"), lent.lend("a", "pi")
    assert (lent.lends("a", "pi"), lent.lends("a", "desk"), lent.lends("b", "pi")) == (True, False, False)
    first()
    first()
    assert lent.lends("a", "pi")
    second()
    assert not lent.lends("a", "pi")


@pytest.mark.parametrize("aname", [STREAMS, WANTS])
async def test_what_is_attached_to_of_a_lent_process_is_made_once_and_given_back(aname: str) -> None:
    process = local_process(CountingServer("#1"))
    domain, streams = process.namespace.domain, CountingServer("#d")
    streams.plant("/0", "typed")

    async def reach(path: str, rights: str) -> bool:
        return False

    process.reach = reach
    holder = Domain(domain.authority)
    _, cap = domain.authority.new_server(holder.pid)
    processes, endpoints = domain.kernel.processes, domain.kernel.endpoints
    before = processes.used[domain.pid], sum(1 for root in endpoints.root.values() if root)
    tree = LentTree(process, Device(streams, holder, cap, Path(None, "#d")))
    for _ in range(100):
        chan = await finish(tree.attached("", aname))
        chan.close()
    assert processes.used[domain.pid] - before[0] == 1
    chan = await finish(tree.attached("", aname))
    less = attenuate(process.namespace, chan, RIGHT_READ if aname == STREAMS else RIGHT_WRITE)
    tree.close()
    tree.close()
    assert (processes.used[domain.pid], sum(1 for root in endpoints.root.values() if root)) == before
    for gone in (chan, less):
        with pytest.raises(FileError) as caught:
            domain.check(gone.cap, 0)
        assert caught.value.error is E.REVOKED
        gone.close()
    assert len(streams.live) == 0


async def test_only_what_is_lent_is_attached_to() -> None:
    process = local_process(CountingServer("#1"))
    tree = LentTree(process, process.namespace.devices["1"])
    for aname in (WANTS, "#1", "other"):
        with pytest.raises(FileError) as caught:
            await finish(tree.attached("", aname))
        assert caught.value.error is E.NOATTACH
    root = await finish(tree.attached("", ""))
    assert root.key == process.namespace.root.key
    root.close()
    tree.close()
