"""Pairing by a short code: two machines that know it become peers, who gives it up is heard of, who shows one found."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cognu.errors import E, FileError, LinkBroken
from cognu.mesh import join as join_module
from cognu.mesh import pair as pair_module
from cognu.mesh import pairing as pairing_module
from cognu.mesh.codes import (
    ATTEMPTS,
    Code,
)
from cognu.mesh.discovery import Discovery, Me, Pairing
from cognu.mesh.identity import GRANT_LENGTH, GRANT_LIMIT, Peer
from cognu.mesh.join_messages import (
    Refusal,
)
from cognu.mesh.pairing import Proposal, Wish
from cognu.world import SecureStream
from cognu.world.tls import TlsStream
from mesh_support import read_exactly
from neighbours import FakeNeighbours, FakeNetwork
from pairing_kit import Machine, User, another, machines, refused, where


async def test_a_code_makes_two_machines_peers_that_link_up(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show("read:/home/me")
        peer = await pi.type(await desk.code(), "net")
        known = await showing
        assert (peer.name, peer.fingerprint) == ("desk", desk.identity.fingerprint)
        assert (peer.granted, peer.received) == (("net",), ("read:/home/me",))
        assert (known.name, known.granted, known.received) == ("pi", ("read:/home/me",), ("net",))
        assert desk.joined == [known]
        assert desk.user.asked == pi.user.asked == []
        for opener, name in ((desk, "pi"), (pi, "desk")):
            channel = await opener.mesh.open(name, "echo")
            await channel.write(b"hello")
            assert await read_exactly(channel, 5) == b"hello"


async def test_addresses_that_can_not_lead_to_the_other_machine_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TlsStream, "local", "192.0.2.1:9")
    monkeypatch.setattr(TlsStream, "peer", "192.0.2.7:9")
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        for machine in (desk, pi):
            machine.me = replace(machine.me, addresses=lambda: ("127.0.0.1:5", "192.0.2.9:5", "[::1]:5"))
            machine.inviter._me = machine.me
        showing = desk.show()
        assert (await pi.type(await desk.code())).addresses == ("192.0.2.9:5",)
        assert (await showing).addresses == ("192.0.2.9:5",)


async def test_as_many_grants_as_one_may_have_are_told_while_pairing(tmp_path: Path) -> None:
    """Both offer and ask for as many as there may be, each as long as it may be."""
    grants, asks = (tuple(f"read:/{kind}{n:0{GRANT_LENGTH - 7}}" for n in range(GRANT_LIMIT)) for kind in "ga")
    assert {len(grant) for grant in grants} == {GRANT_LENGTH}
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show(*grants)
        peer = await pi.type(await desk.code(), *asks, asks=grants)
        assert (peer.granted, peer.received) == (asks, grants)
        assert (await showing).granted == grants


async def test_who_would_have_more_grants_than_there_may_be_is_not_paired_and_both_hear_it(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        await pi.type(await desk.code(), *(f"cmd:c{n}" for n in range(GRANT_LIMIT)))
        await showing
        before = pi.book.all(), desk.book.all()
        showing = desk.show()
        with pytest.raises(FileError) as caught:
            await pi.type(await desk.code(), "net")
        assert str(caught.value) == "desk: too many grants: 65, and one machine may have at most 64"
        assert await refused(showing) == Refusal.NOT_KEPT.detail
        assert (pi.book.all(), desk.book.all()) == before


async def test_by_default_nothing_is_granted_and_nothing_asked(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        peer = await pi.type(await desk.code())
        assert (peer.granted, peer.received, (await showing).granted) == ((), (), ())


async def test_what_is_asked_is_granted_when_both_users_agree(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show("net", asks=("run",))
        peer = await pi.type(await desk.code(), "read:/a", asks=("read:/b", "net"))
        known = await showing
        assert (known.granted, known.received) == (("net", "read:/b"), ("read:/a", "run"))
        assert (peer.granted, peer.received) == (("read:/a", "run"), ("net", "read:/b"))
        [to_desk], [to_pi] = desk.user.asked, pi.user.asked
        assert (to_desk.name, to_desk.fingerprint) == ("pi", pi.identity.fingerprint)
        assert (to_desk.asks, to_desk.grants, to_desk.offers) == (("read:/b", "net"), ("net",), ("read:/a",))
        assert to_desk.address.startswith("127.0.0.1:")
        assert (to_pi.name, to_pi.asks, to_pi.grants) == ("desk", ("run",), ("read:/a",))


@pytest.mark.parametrize("who", ["desk", "pi"])
async def test_a_no_on_either_side_pairs_nobody_and_both_are_told(tmp_path: Path, who: str) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        (desk if who == "desk" else pi).user.yes = False
        showing = desk.show(asks=("run",))
        there = await refused(pi.type(await desk.code(), asks=("net",)))
        here = await refused(showing)
        said = {here, there}
        assert said == {Refusal.DECLINED.detail, "what was asked for was not agreed to here"}
        assert desk.book.all() == pi.book.all() == []


async def test_an_answer_that_does_not_come_is_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_module, "CONSENT_SECONDS", 0.05)
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user.thinks = True
        showing = desk.show()
        assert await refused(pi.type(await desk.code(), asks=("net",))) == Refusal.DECLINED.detail
        assert "nobody has answered here" in await refused(showing)
        assert desk.user.left_alone.is_set()


@pytest.mark.parametrize("unable", [False, True])
async def test_a_no_that_is_not_taken_is_a_no_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unable: bool
) -> None:
    class No(User):
        async def agrees(self, proposal: Proposal) -> bool:
            monkeypatch.setattr(join_module, "CONVERSATION_SECONDS", 0.05)
            if unable:
                raise FileError(E.NOENT, "/secret")
            return False

    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user = No()
        showing = desk.show()
        stays = asyncio.Event()

        async def stay(*_: object) -> None:
            await stays.wait()

        monkeypatch.setattr(pair_module, "accepted", stay)  # it reads nothing from then on
        typing = asyncio.create_task(pi.type(await desk.code(), asks=("net",)))
        with pytest.raises(FileError) as caught:
            await showing
        if unable:
            assert (caught.value.error, caught.value.subject) == (E.NOENT, "/secret")
        else:
            assert caught.value.detail == "what was asked for was not agreed to here"
        typing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await typing


async def test_what_can_not_be_granted_is_told_here_and_there_only_that_it_was_not(tmp_path: Path) -> None:
    class Unable(User):
        async def agrees(self, proposal: object) -> bool:
            raise FileError(E.NOENT, "/secret")

    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user = Unable()
        showing = desk.show()
        assert await refused(pi.type(await desk.code(), asks=("read:/secret",))) == Refusal.DECLINED.detail
        with pytest.raises(FileError) as caught:
            await showing
        assert (caught.value.error, caught.value.subject) == (E.NOENT, "/secret")
        assert desk.book.all() == pi.book.all() == []


async def test_giving_up_where_the_code_is_shown_ends_the_other_side_too(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user.thinks = True
        showing = desk.show()
        typing = asyncio.create_task(pi.type(await desk.code(), asks=("net",)))
        await desk.user.is_asked.wait()
        assert pi.user.waiting == ["somebody"]  # as it is announced
        showing.cancel()
        assert await refused(typing) == Refusal.GIVEN_UP.detail
        await desk.user.left_alone.wait()
        await asyncio.wait([showing])
        assert desk.user.gave_up == [("pi", True)]
        assert pi.user.gave_up == []
        assert desk.book.all() == pi.book.all() == []


async def test_giving_up_where_the_code_was_typed_ends_the_question_on_the_other_side(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user.thinks = True
        showing = desk.show()
        typing = asyncio.create_task(pi.type(await desk.code(), asks=("net",)))
        await desk.user.is_asked.wait()
        typing.cancel()
        assert await refused(showing) == Refusal.GIVEN_UP.detail
        assert desk.user.left_alone.is_set()
        assert desk.book.all() == []
        await asyncio.wait([typing])
        assert pi.user.gave_up == [("somebody", True)]


async def test_a_machine_that_goes_away_is_told_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(stream: SecureStream, *_: object) -> None:
        stream.close()
        raise asyncio.CancelledError

    monkeypatch.setattr(pair_module, "accepted", gone)
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        desk.user.thinks = True
        showing = desk.show()
        typing = asyncio.create_task(pi.type(await desk.code(), asks=("net",), at=(await where(desk),)))
        assert re.fullmatch(r"the other machine went away \(127\.0\.0\.1:[0-9]+\)", await refused(showing))
        await asyncio.wait([typing])
        assert pi.user.gave_up == [(desk.user.addresses[0], False)]


async def test_giving_up_when_both_have_confirmed_is_too_late_where_the_code_is_shown(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()

        def late(peer: Peer) -> None:
            showing.cancel()

        desk.inviter._joined = late
        assert (await pi.type(await desk.code())).name == "desk"
        assert (await showing).name == "pi"
        assert desk.user.gave_up == []


async def test_giving_up_in_the_midst_of_confirming_is_told_as_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirming = asyncio.Event()

    async def wait(*_: object) -> None:
        confirming.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(pair_module, "confirm", wait)
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        typing = asyncio.create_task(pi.type(await desk.code()))
        await confirming.wait()
        typing.cancel()
        assert "went away" in await refused(showing)
        await asyncio.wait([typing])
        assert pi.user.gave_up == [("somebody", None)]


async def test_giving_up_while_the_one_who_typed_is_asked_ends_both(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        pi.user.thinks = True
        showing = desk.show(asks=("net",))
        typing = asyncio.create_task(pi.type(await desk.code()))
        await pi.user.is_asked.wait()
        assert desk.user.waiting == ["pi"]
        assert pi.user.waiting == []
        showing.cancel()
        assert await refused(typing) == Refusal.GIVEN_UP.detail
        assert pi.user.left_alone.is_set()


@pytest.mark.parametrize(("meanwhile", "why"), [("taken", Refusal.CODE_USED), ("given up", Refusal.GIVEN_UP)])
async def test_a_right_code_that_comes_too_late_is_told_why_and_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str, why: Refusal
) -> None:
    told: list[Refusal] = []

    async def not_taken(stream: SecureStream, refusal: Refusal) -> None:
        told.append(refusal)
        raise LinkBroken(E.CONNRESET, stream.peer)

    monkeypatch.setattr(join_module, "refuse", not_taken)
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        shown = desk.inviter._code
        assert shown is not None
        take = shown.take

        def late() -> Refusal | None:
            if meanwhile == "taken":
                shown._taken = True
            else:
                showing.cancel()
                shown.end()
            return take()

        monkeypatch.setattr(shown, "take", late)
        await refused(pi.type(code))
        assert told == [why]
        assert shown._under_way == 0
        showing.cancel()
        await asyncio.wait([showing])


async def test_giving_up_a_code_that_nobody_typed_closes_the_listener(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        closing = desk.inviter._closing
        showing.cancel()
        assert closing is not None
        await closing
        assert desk.inviter.listening == ""
        assert desk.inviter._code is None
        assert pi.air.rows == []
        assert Refusal.NO_CODE.detail in await refused(pi.type(code, at=desk.user.addresses))


async def test_a_code_lives_for_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing_module, "CODE_SECONDS", 0.05)
    async with machines(tmp_path, "desk") as (desk,):
        assert "nobody has typed the code" in await refused(desk.show())


async def test_one_code_is_shown_at_a_time_and_a_ticket_may_be_open_beside_it(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi", "third") as (desk, pi, third):
        ticket = await desk.inviter.invite(("run",))
        showing = desk.show()
        code = await desk.code()
        with pytest.raises(FileError) as caught:
            await desk.inviter.show_code(Wish(), User(), desk.air)
        assert caught.value.error is E.CODESHOWN
        assert re.search(r"ends by itself at \d\d:\d\d:\d\d$", str(caught.value))
        assert (await join_module.join(third.world, third.me, third.book, ticket)).received == ("run",)
        await pi.type(code)
        await showing


async def test_a_machine_can_not_pair_with_itself(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk") as (desk,):
        showing = desk.show()
        assert "own" in await refused(desk.type(await desk.code(), at=(await where(desk),)))
        showing.cancel()


# -- finding ----------------------------------------------------------------------------------------------------------


async def test_liars_of_the_same_number_are_passed_over_and_get_one_guess_each(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi", "liar") as (desk, pi, liar):
        showing = desk.show()
        code = await desk.code()
        lying = asyncio.create_task(_show_under(liar, another(code)))
        await liar.user.sees.wait()
        pi.air.rows.reverse()
        await pi.type(code)
        await showing
        assert liar.user.tries == [(Refusal.CODE, ATTEMPTS - 1)]
        lying.cancel()


async def _show_under(machine: Machine, code: Code) -> Peer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join_module, "new_code", lambda _: code)
        return await machine.show()


async def test_the_code_is_tried_with_few_machines(tmp_path: Path) -> None:
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        showing = desk.show()
        code = await desk.code()
        port = desk.user.addresses[0].rpartition(":")[2]
        pi.air.rows[:] = [Pairing("x", (f"127.0.0.{host}:{port}",), code.number) for host in range(2, 12)]
        with pytest.raises(FileError):
            await pi.type(another(code))
        assert len(desk.user.tries) <= pair_module.MACHINES
        showing.cancel()


async def test_the_nodes_own_discovery_finds_who_shows_the_code(tmp_path: Path) -> None:
    network = FakeNetwork()
    async with machines(tmp_path, "desk", "pi") as (desk, pi):
        for machine in (desk, pi):
            meeting = replace(machine.world, neighbours=FakeNeighbours(network, "127.0.0.1"))
            me = Me(machine.identity.fingerprint, machine.me.name)
            machine.finder = Discovery(meeting, me, "pairing", list, lambda *_: None)
            await machine.finder.start("0.0.0.0:7")
        typing = asyncio.create_task(pi.type(Code("0000000000")))  # it waits for one that nobody shows, meanwhile
        showing = desk.show()
        code = await desk.code()
        assert (await pi.type(code)).name == "desk"
        assert (await showing).name == "pi"
        typing.cancel()
        await asyncio.wait({typing})
        for machine in (desk, pi):
            assert isinstance(machine.finder, Discovery)
            await machine.finder.close()
        assert network.places == []


async def test_when_nobody_shows_such_a_code_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_module, "FIND_SECONDS", 0.05)
    async with machines(tmp_path, "pi") as (pi,):
        assert "begins with 27; say" in await refused(pi.type(Code("2748319052")))


async def test_who_shows_another_code_is_named_while_it_is_looked_for_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_module, "FIND_SECONDS", 0.05)
    async with machines(tmp_path, "pi") as (pi,):
        pi.air.rows += [Pairing("desk", ("127.0.0.1:9",), "82")] * 2
        pi.air.rows += [Pairing(f"liar{count}", ("127.0.0.1:9",), "83") for count in range(100)]
        said = await refused(pi.type(Code("2748319052")))
        assert "begins with 27, desk shows one that begins with 82, liar0 shows" in said
        assert said.endswith("; say its ADDRESS too")
        assert pi.user.others[:2] == [("desk", "82"), ("liar0", "83")]
        assert len(pi.user.others) == said.count(" shows one ") == pair_module.HEARD
