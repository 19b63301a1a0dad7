"""Tattenuate and Tmint at an export: less to work under, never more, and never longer than what it came from."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.chan import Chan, Domain
from cognu.files.handing import attenuate, rights_of_wire, wire_rights
from cognu.files.mounts import MAFTER, MREPL, ChanMover
from cognu.files.process import Process
from cognu.files.server import HandOn, Token
from cognu.files.shown import ShownNamespace, parse_filter
from cognu.files.steps import Steps, finish
from cognu.kernel import ALL_RIGHTS, CREATE, EXECUTE, GRANT, NODE, READ, SEND, WRITE, Cap
from cognu.ninep import messages as m
from cognu.ninep.messages import Dialect
from cognu.ninep.types import NOFID, ORDWR, OREAD, OWRITE, RIGHT_GRANT, RIGHT_READ, RIGHTS_ALL, Buffer, SetStat
from joined import (
    ME,
    CountingServer,
    Joined,
    Raw,
    bring,
    idle,
    joined,
    local_process,
    only_the_roots_are_left,
    put_slow,
    tree,
)
from script import attach_root
from serving import Client

NG = Dialect.NG


async def less(ends: Joined, path: str, rights: int) -> Client:
    """A client whose root is the file at `path`, with `rights` of it."""
    whole = Client(ends.mount, ME)
    fid = await whole.walk(path)
    client = Client(ends.mount, ME)
    try:
        client.root = await ends.mount.attenuate(fid, rights)
    finally:
        ends.mount.clunk(fid)
        whole.close()
    return client


async def test_what_is_below_has_the_rights_that_were_left_and_no_others() -> None:
    async with joined(NG, server=tree()) as ends:
        client = await less(ends, "d", READ | EXECUTE)
        assert await client.names("") == ["e", "x"]
        assert await client.read("e/y") == b"e/y"
        assert await bring(client.open("x", OWRITE)) is E.ACCES
        assert await bring(client.open("e/y", ORDWR)) is E.ACCES
        assert await bring(client.put("new")) is E.ACCES
        assert await bring(client.remove("x")) is E.ACCES
        client.close()
        writer = await less(ends, "d", WRITE)
        assert await writer.write("x", b"D") == 1
        assert await bring(writer.read("x")) is E.ACCES
        writer.close()
        assert await Client(ends.mount, ME).read("d/x") == b"D/x"  # the others have what they had
    assert only_the_roots_are_left(ends)


async def test_nothing_leads_above_it() -> None:
    async with joined(NG, server=tree()) as ends:
        client = await less(ends, "d", READ | WRITE)
        root = client.root
        assert root is not None
        raw = await ends.mount.walk(root, [".."], ME)
        assert raw.qids == [root.qid]
        assert raw.fid is not None
        ends.mount.clunk(raw.fid)
        inside = await client.walk("e")
        up = await ends.mount.walk(inside, [".."], ME)
        assert up.qids == [root.qid]
        assert up.fid is not None
        again = await ends.mount.walk(up.fid, [".."], ME)
        assert again.qids == [root.qid]
        assert again.fid is not None
        for fid in (inside, up.fid, again.fid):
            ends.mount.clunk(fid)
        client.close()


async def test_its_own_name_is_not_its_holders_to_change() -> None:
    async with joined(NG, server=tree()) as ends:
        raw = await Raw.over(ends, NG)
        raw.send((m.Tcaps((m.Feature("attenuate", 1),)), 1), (m.Twalk(0, 1, ("d", "x")), 2))
        raw.send((m.Tattenuate(1, 2, RIGHTS_ALL), 3), (m.Trename(2, 0, "y"), 4), (m.Tremove(2), 5))
        answers = dict(await raw.answers(5))
        assert isinstance(answers[3], m.Rattenuate)
        assert [said.symbol for said in (answers[4], answers[5]) if isinstance(said, m.Rngerror)] == ["PERM", "PERM"]
        raw.send((m.Twalk(0, 3, ("d",)), 1), (m.Tattenuate(3, 4, RIGHTS_ALL), 2), (m.Twalk(4, 5, ("x",)), 3))
        raw.send((m.Trename(5, 4, "y"), 4), (m.Trenameat(4, "x", 4, "y"), 5))
        answers = dict(await raw.answers(5))
        assert isinstance(answers[4], m.Rngerror)
        assert answers[4].symbol == "NOTSUP"
        assert answers[5] == m.Rrenameat()
        await raw.close()


async def test_more_than_it_has_is_refused_and_says_what_it_lacks() -> None:
    async with joined(NG, server=tree()) as ends:
        client = await less(ends, "d", READ | GRANT)
        assert client.root is not None
        with pytest.raises(FileError) as caught:
            await ends.mount.attenuate(client.root, READ | WRITE)
        assert (caught.value.error, caught.value.detail[-1]) == (E.ACCES, "w")
        further = await ends.mount.attenuate(client.root, READ)
        assert await bring(ends.mount.attenuate(further, GRANT)) is E.ACCES
        ends.mount.clunk(further)
        client.close()


@pytest.mark.parametrize("bits", [0, 32, 1 << 31, RIGHTS_ALL + 1])
async def test_rights_that_mean_nothing_are_refused(bits: int) -> None:
    async with joined(NG, server=tree()) as ends:
        raw = await Raw.over(ends, NG, minter=never)
        raw.send((m.Tcaps((m.Feature("attenuate", 1), m.Feature("mint", 60))), 1))
        raw.send((m.Tattenuate(0, 1, bits), 2), (m.Tmint(0, bits, 1, 60, "pi"), 3))
        for _, said in (await raw.answers(3))[1:]:
            assert isinstance(said, m.Rngerror)
            assert said.symbol == "INVAL"
        await raw.close()


def never(process: Process, chan: Chan, what: HandOn) -> Steps[Token]:
    raise AssertionError
    yield


def parent_of(process: Process) -> Cap:
    """What the process's root was minted from, which the node holds."""
    slots = process.namespace.domain.kernel.slots
    slot = slots.parent[process.namespace.root.cap.slot]
    return Cap(slot, slots.generation[slot])


async def test_revoking_what_it_came_from_ends_it_in_the_midst_of_a_read() -> None:
    async with joined(NG, server=tree()) as ends:
        slow = put_slow(ends)
        client = await less(ends, "", READ)
        fid = await client.open("slow")
        reading = asyncio.ensure_future(client.read_fid(fid))
        await slow.parked(1)
        await idle()
        ends.process.namespace.domain.authority.revoke(NODE, parent_of(ends.process))
        assert await bring(reading) is E.REVOKED
        assert slow.cancelled == 1
        assert await bring(client.stat("f")) is E.REVOKED
        ends.mount.clunk(fid)
        client.close()


async def test_however_often_it_is_asked_for_there_is_one_capability_of_each_kind() -> None:
    async with joined(NG, server=tree()) as ends:
        kernel = ends.process.namespace.domain.kernel
        (await less(ends, "d", READ)).close()
        before = kernel.last_slot
        for _ in range(50):
            (await less(ends, "d", READ)).close()
        assert kernel.last_slot == before
        (await less(ends, "d", READ | WRITE)).close()
        assert kernel.last_slot == before + 1


async def test_a_fid_that_is_open_has_a_twin_with_less_that_is_not() -> None:
    async with joined(NG, server=tree()) as ends:
        raw = await Raw.over(ends, NG)
        raw.send((m.Tcaps((m.Feature("attenuate", 1),)), 1), (m.Twalk(0, 1, ("f",)), 2), (m.Tlopen(1, ORDWR), 3))
        raw.send((m.Tattenuate(1, 2, RIGHT_READ), 4), (m.Tlopen(2, OREAD), 5), (m.Tread(2, 0, 9), 6))
        raw.send((m.Twrite(1, 0, b"F"), 7), (m.Twalk(1, 3, ()), 8))
        answers = dict(await raw.answers(8))
        assert answers[6] == m.Rread(b"f")
        assert answers[7] == m.Rwrite(1)
        await raw.close()


async def test_an_older_dialect_has_no_such_thing() -> None:
    async with joined(Dialect.L, server=tree()) as ends:
        fid = await Client(ends.mount, ME).walk("d")
        assert await bring(ends.mount.attenuate(fid, READ)) is E.NOSYS
        assert await bring(ends.mount.hand_on(fid, HandOn(READ, 1, 60, "pi"))) is E.NOSYS
        ends.mount.clunk(fid)


async def test_where_other_trees_are_mounted_only_one_of_them_is_made_less() -> None:
    process = local_process(tree())
    namespace = process.namespace

    async def at(path: str) -> Chan:
        return await finish(namespace.find(path, process.cwd, process))

    other = CountingServer("#2")
    other.plant("/o", "other")
    root = attach_root(namespace.domain.authority, namespace.domain, other, "#2")
    namespace.mount(root, await at("/d/e"), MREPL)
    for path in ("/", "/d"):
        with pytest.raises(FileError) as caught:
            attenuate(namespace, await at(path), RIGHT_READ)
        assert caught.value.error is E.NOTSUP
    made = attenuate(namespace, await at("/d/e"), RIGHT_READ)
    assert made.server is other
    assert (await finish(namespace.walk(made, ["o"], process))).server is other
    made.close()
    namespace.mount(root, await at("/w"), MAFTER)
    with pytest.raises(FileError) as caught:
        attenuate(namespace, await at("/w"), RIGHT_READ)
    assert caught.value.error is E.NOTSUP


async def test_mounts_made_later_are_not_seen_from_it() -> None:
    process = local_process(tree())
    namespace = process.namespace
    made = attenuate(namespace, await finish(namespace.find("/d", process.cwd, process)), RIGHT_READ)
    other = CountingServer("#2")
    root = attach_root(namespace.domain.authority, namespace.domain, other, "#2")
    namespace.mount(root, await finish(namespace.find("/d/e", process.cwd, process)), MREPL)
    inside = await finish(namespace.walk(made, ["e"], process))
    assert namespace.cross(inside)[0].server is not other
    assert (await finish(namespace.walk(made, ["e", "y"], process))).server is made.server


@given(st.lists(st.integers(1, RIGHTS_ALL), max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_chain_of_them_has_what_all_of_them_left(chain: list[int]) -> None:
    process = local_process(tree())
    namespace = process.namespace
    at, has = namespace.root.share(), RIGHTS_ALL
    for bits in chain:
        if bits & ~has:
            with pytest.raises(FileError) as caught:
                attenuate(namespace, at, bits)
            assert caught.value.error is E.ACCES
            continue
        at, has = attenuate(namespace, at, bits), bits
        assert namespace.domain.authority.rights(at.domain.pid, at.cap) == rights_of_wire(bits)
    for bit in range(5):
        needed = rights_of_wire(1 << bit)
        assert (namespace.domain.kernel.check(at.domain.pid, *at.cap, needed) == 0) == bool(has >> bit & 1)


async def test_a_chain_of_any_length_makes_no_more_capabilities_than_there_are_rights() -> None:
    process = local_process(tree())
    domain = process.namespace.domain
    before = domain.kernel.processes.used[domain.pid]
    raw = await Raw.over(process, NG)
    raw.send((m.Tcaps((m.Feature("attenuate", 1),)), 1))
    await raw.answers(1)
    at = 0
    for bits in [RIGHTS_ALL] * 100 + [RIGHTS_ALL & ~RIGHT_GRANT, RIGHT_READ] * 2 + [RIGHT_READ] * 100:
        raw.send((m.Tattenuate(at, 3 - at if at else 1, bits), 2))
        ((_, said),) = await raw.answers(1)
        if isinstance(said, m.Rattenuate):
            raw.send(*([(m.Tclunk(at), 3)] if at else []))
            await raw.answers(1 if at else 0)
            at = 3 - at if at else 1
    await raw.close()
    assert domain.kernel.processes.used[domain.pid] - before == 3
    less = attenuate(process.namespace, process.namespace.root, RIGHT_READ)
    further = attenuate(process.namespace, less, RIGHT_READ)
    assert further.cap == less.cap
    assert domain.kernel.processes.used[domain.pid] - before == 3  # another connection has the same


async def test_what_is_lessened_goes_on_when_what_it_came_from_is_given_up() -> None:
    process = local_process(tree())
    domain = process.namespace.domain
    twin = domain.authority.mint(domain.pid, process.namespace.root.cap, ALL_RIGHTS, domain.pid)
    less = domain.lessened(twin, READ | WRITE)
    domain.authority.delete(domain.pid, twin)
    least = domain.lessened(less, READ)
    assert domain.authority.rights(domain.pid, least) == READ
    domain.authority.revoke(domain.pid, less)
    with pytest.raises(FileError):
        domain.check(least, 0)


@given(st.integers(1, RIGHTS_ALL))
def test_rights_on_the_wire_are_the_kernels(bits: int) -> None:
    assert wire_rights(rights_of_wire(bits)) == bits
    assert wire_rights(rights_of_wire(bits) | SEND) == bits


def test_every_right_but_sending_has_a_bit() -> None:
    assert rights_of_wire(RIGHTS_ALL) == READ | WRITE | EXECUTE | CREATE | GRANT
    assert rights_of_wire(RIGHT_GRANT) == GRANT


async def test_a_token_is_asked_of_whoever_makes_them_with_what_the_client_said() -> None:
    asked: list[tuple[str, HandOn]] = []

    def minter(process: Process, chan: Chan, what: HandOn) -> Steps[Token]:
        asked.append((str(chan.path), what))
        return Token("secret", 30)
        yield

    process = local_process(tree())
    raw = await Raw.over(process, NG, minter=minter)
    raw.send((m.Tcaps((m.Feature("mint", 60),)), 1), (m.Twalk(0, 1, ("d",)), 2), (m.Tmint(1, 17, 2, 60, "pi"), 3))
    assert (await raw.answers(3))[-1] == (3, m.Rmint(30, "secret"))
    assert asked == [("/d", HandOn(READ | GRANT, 2, 60, "pi"))]
    assert "secret" not in repr(Token("secret", 30))
    await raw.close()


async def test_each_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with joined(NG, server=tree()) as ends:
        fid = await Client(ends.mount, ME).walk("d")
        await idle()  # what the walk is done with is clunked
        sent = list[str]()
        request = ends.mount._session.request

        def noting(message: m.Request) -> tuple[int, list[Buffer]]:
            sent.append(type(message).__name__)
            return request(message)

        monkeypatch.setattr(ends.mount._session, "request", noting)
        less = await ends.mount.attenuate(fid, READ)
        assert await bring(ends.mount.hand_on(less, HandOn(READ, 1, 60, "pi"))) is E.NOSYS  # nobody makes tokens here
        assert sent == ["Tattenuate", "Tmint"]
        ends.mount.clunk(less)
        ends.mount.clunk(fid)


async def test_a_client_without_identity_can_not_ask_for_tokens() -> None:
    raw = await Raw.over(local_process(tree()), NG)
    raw.send((m.Tcaps((m.Feature("mint", 60),)), 1), (m.Tmint(0, 1, 1, 60, "pi"), 2))
    agreed, refused = (said for _, said in await raw.answers(2))
    assert agreed == m.Rcaps(())
    assert isinstance(refused, m.Rngerror)
    assert refused.symbol == "NOSYS"
    raw.send((m.Tattach(7, NOFID, "", "cap:abcdefgh"), 3))
    ((_, said),) = await raw.answers(1)
    assert isinstance(said, m.Rngerror)
    assert said.symbol == "NOATTACH"
    await raw.close()


async def test_a_change_of_its_name_by_an_older_client_is_refused_too() -> None:
    process = local_process(tree())
    namespace = process.namespace
    made = attenuate(namespace, await finish(namespace.find("/d", process.cwd, process)), RIGHTS_ALL)
    with pytest.raises(FileError) as caught:
        await finish(namespace.wstat(made, SetStat(name="z")))
    assert caught.value.error is E.PERM


async def test_what_is_not_shown_is_not_shown_by_a_fid_with_less_either() -> None:
    process = local_process(tree())
    process.namespace = namespace = ShownNamespace.of(process.namespace, parse_filter(["/d/x", "y"], []))
    made = attenuate(namespace, await finish(namespace.find("/d", process.cwd, process)), RIGHTS_ALL)
    assert (await finish(namespace.walk(made, ["e"], process))).qid.is_dir
    for hidden in (["x"], ["e", "y"], ["e", "..", "x"]):
        with pytest.raises(FileError) as caught:
            await finish(namespace.walk(made, hidden, process))
        assert caught.value.error is E.NOENT


async def test_nothing_leads_above_it_where_it_is_handed_to_either() -> None:
    process = local_process(tree())
    namespace = process.namespace
    made = attenuate(namespace, await finish(namespace.find("/d", process.cwd, process)), RIGHT_READ | 16)
    moved = ChanMover(Domain(namespace.domain.authority)).move(made)
    assert (await finish(namespace.walk(moved, ["..", ".."], process))).key == made.key
    inside = await finish(namespace.walk(moved, ["e"], process))
    assert (await finish(namespace.walk(inside, ["..", ".."], process))).key == made.key
    assert namespace.domain.authority.rights(moved.domain.pid, moved.cap) == READ | GRANT
