"""When a session dials, what it does with a greeting that fails, and what whoever waits for a link is told."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.mesh.frames import HELLO_SIZE
from cognu.mesh.roaming import LOOK_SECONDS, SEEK_AGAIN, SEEK_SOON, Roaming
from cognu.mesh.session import BYE_SECONDS, GREETING_SECONDS, Channel
from cognu.mesh.session_core import Timing
from cognu.world.timing import time_of_day
from mesh_core_kit import SECOND
from session_kit import HandClock, HandSenses, SeededRandom, Side, Two, Wire, ends, turns, wires


async def another_version(wire: Wire) -> None:
    """A peer whose sessions begin with another magic."""
    await wire.write(b"CgL2" + bytes(HELLO_SIZE - 4))
    await wire.read(100)


async def hangs_up(wire: Wire) -> None:
    """A peer that ends each connection as soon as it is there."""


@pytest.mark.parametrize("dialler_leads", [True, False])
async def test_a_peer_of_another_version_is_said_to_be_one_and_dialled_once(dialler_leads: bool) -> None:
    async with Two(dialler_leads) as two:
        two.dialler.door = another_version
        said = await ends(two.dialler.session.open_channel("x"), two.clock, 4)
        assert isinstance(said, ProtocolError)
        assert said.error is E.NOPROTO
        assert len(two.dialler.dialled) == 1


@pytest.mark.parametrize("dialler_leads", [True, False])
async def test_a_peer_that_hangs_up_in_its_greeting_is_dialled_once(dialler_leads: bool) -> None:
    async with Two(dialler_leads) as two:
        two.dialler.door = hangs_up
        said = await ends(two.dialler.session.connect(), two.clock, 4)
        assert isinstance(said, LinkBroken)
        assert len(two.dialler.dialled) == 1


@pytest.mark.parametrize("dialler_leads", [True, False])
@pytest.mark.parametrize("door", [another_version, hangs_up])
async def test_a_link_that_was_never_adopted_changes_nothing_and_says_why(dialler_leads: bool, door: object) -> None:
    async with Two(dialler_leads) as two:
        channel = await two.open()
        near, far = wires()
        answering = asyncio.ensure_future(door(far))  # type: ignore[operator]
        changing = asyncio.ensure_future(two.dialler.session.change(near))
        await turns()
        far.close()
        with pytest.raises(CognuError):
            await changing
        assert near.closed
        await answering
        await channel.write(b"y")
        assert await channel.read(1) == b"y"


async def test_a_connection_whose_greeting_never_began_is_closed_with_the_session() -> None:
    async with Two() as two:
        session, (near, _) = two.dialler.session, wires()
        changing = asyncio.ensure_future(session.change(near))
        await asyncio.sleep(0)  # there is a task for it, which has not run yet
        assert len(session._tasks) == 1
        assert not session._greeting
        await session.close(E.SESSIONLOST, "the node shut down")
        with pytest.raises(LinkBroken, match="closed here"):
            await changing
        assert not session._tasks
        assert near.closed


@pytest.mark.parametrize("dialler_leads", [True, False])
@pytest.mark.parametrize("door", [another_version, hangs_up, None])
async def test_the_pauses_between_dials_grow_whatever_they_fail_of(dialler_leads: bool, door: object) -> None:
    async with Two(dialler_leads) as two:
        await two.open()
        two.dialler.dialled.clear()
        two.dialler.door = door  # type: ignore[assignment]
        two.dialler.cut()
        await two.clock.go(5)
        assert 4 <= len(two.dialler.dialled) <= 7


async def test_what_a_dial_ended_with_that_nobody_waited_for_is_not_the_next_ones_answer() -> None:
    async with Two() as two:
        session, gate, dial = two.dialler.session, asyncio.Event(), two.dialler._dial

        async def slowly() -> Wire:
            wire = await dial()
            if len(two.dialler.dialled) == 1:
                await gate.wait()
                raise FileError(E.HOSTUNREACH, "other", "of the dial before")
            return wire

        session._dial = slowly
        gives_up = asyncio.ensure_future(session.open_channel("x"))
        await turns()
        gives_up.cancel()
        await asyncio.gather(gives_up, return_exceptions=True)
        gate.set()
        await turns()
        await two.open()
        assert len(two.dialler.dialled) == 2


@pytest.mark.parametrize("dialler_leads", [True, False])
@pytest.mark.parametrize("comes", [True, False])
async def test_a_dial_that_is_ended_while_the_peers_own_greets_waits_for_that(dialler_leads: bool, comes: bool) -> None:
    async with Two(dialler_leads) as two:
        two.dialler.door = hangs_up
        one, other = wires()
        theirs = asyncio.ensure_future(two.dialler.session.run_link(one))
        await turns()
        opening = asyncio.ensure_future(two.dialler.session.open_channel("echo"))
        await turns()
        assert len(two.dialler.dialled) == 1
        assert not opening.done()
        answering = asyncio.ensure_future(two.other.take(other)) if comes else None
        if not comes:
            other.close()
        await turns()
        assert opening.done()  # and no clock went
        assert (opening.exception() is None) is comes
        assert len(two.dialler.dialled) == 1
        one.close()
        await asyncio.gather(theirs, *([answering] if answering else []), return_exceptions=True)


@pytest.mark.parametrize("dialler_leads", [True, False])
async def test_calls_that_are_refused_prove_nothing_and_the_session_is_kept(dialler_leads: bool) -> None:
    async with Two(dialler_leads) as two:
        channel = await two.open()
        here, told = two.dialler.session, []
        here.reaching.on_away = lambda: told.append((here.reaching.away is not None, here.reaching.refused))
        two.dialler.door, two.dialler.error = None, FileError(E.CONNREFUSED, "leader")
        two.dialler.cut()
        await two.clock.go(Timing().retention - 10)
        assert told == [(True, False), (True, True)]
        two.dialler.door = two.other.take
        await two.clock.go(9)
        assert told[2:] == [(False, False)]
        await channel.write(b"y")
        assert await channel.read(1) == b"y"


async def test_a_machine_that_refuses_for_all_of_the_retention_is_said_to() -> None:
    async with Two() as two:
        channel = await two.open()
        two.dialler.door, two.dialler.error = None, FileError(E.CONNREFUSED, "leader")
        two.dialler.cut()
        said = await ends(channel.read(1), two.clock, Timing().retention + 1)
        assert isinstance(said, LinkBroken)
        assert said.error is E.AWAY
        assert E.CONNREFUSED.text in str(said)
        assert not two.dialler.session.reaching.refused


async def test_one_that_was_killed_and_is_started_again_ends_the_wait_at_once() -> None:
    async with Two() as two:
        channel = await two.open()
        two.dialler.door, two.dialler.error = None, FileError(E.CONNREFUSED, "leader")
        two.dialler.cut()
        await two.clock.go(60)
        again = Side(two.clock, False, Timing(), 9, b"C" * 16)
        two.dialler.door = again.take
        said = await ends(channel.read(1), two.clock, Timing().last_delay)
        assert isinstance(said, LinkBroken)
        assert said.error is E.RESTARTED
        await again.close()


async def test_who_hurries_in_the_very_turn_of_the_cut_has_it_dialled_at_once() -> None:
    async with Two() as two:
        await two.open()
        hurry = two.dialler.session.hurry

        def once() -> None:
            two.dialler.session.reaching.on_away = lambda: None
            hurry()

        two.dialler.session.reaching.on_away = once
        two.dialler.cut()
        await turns()  # and no time passes
        assert len(two.dialler.dialled) == 2


@pytest.mark.parametrize("kept", [True, False])
async def test_who_says_other_addresses_without_end_keeps_no_dial_from_ending(kept: bool) -> None:
    async with Two() as two:
        session, dial = two.dialler.session, two.dialler._dial
        if kept:
            await two.open()

        async def slowly() -> Wire:
            await two.clock.sleep(3)
            return await dial()

        session._dial = slowly
        two.dialler.dialled.clear()
        two.dialler.cut()
        connecting = asyncio.ensure_future(session.connect())
        await two.clock.go(1)
        for _ in range(3):
            session.reaching.heard()
            await two.clock.go(1.9)
        assert session.status.connected
        assert two.dialler.dialled == [two.dialler.dialled[0]]
        assert connecting.done()


async def test_what_is_heard_while_a_dial_goes_on_is_dialled_at_once_and_then_without_a_pause() -> None:
    async with Two() as two:
        session, began = two.dialler.session, []
        await two.open()

        async def slowly() -> Wire:
            began.append(two.clock.at / SECOND)
            await two.clock.sleep(5)
            raise FileError(E.HOSTUNREACH, "other")

        session._dial = slowly
        cut = two.clock.at / SECOND
        two.dialler.cut()
        await two.clock.go(1)
        session.reaching.heard()
        await two.clock.go(1)
        session.reaching.heard()  # it has a dial of its own, after the one before
        await two.clock.go(5)
        first, *others = [at - cut for at in began]
        assert first <= Timing().first_delay
        assert others == [1, 6]
        session.hurry()  # this machine is on another network: whatever is under way began on the one before
        await two.clock.go(0)
        assert began[-1] - cut == 7


async def test_who_is_away_is_waited_for_no_longer_than_the_retention_and_every_answer_says_since_when() -> None:
    """However long a dial takes; and what asks again, as a walk does to learn why, is told the same at once."""
    async with Two(timing=Timing(retention=15)) as two:
        session, clock = two.dialler.session, two.clock
        channel = await two.open()

        async def slowly() -> Wire:
            two.dialler.dialled.append(clock.at / SECOND)
            await clock.sleep(10)
            raise FileError(E.HOSTUNREACH, "other", "nobody answers")

        since = f"since {time_of_day(clock.now())}; "
        session._dial = slowly
        two.dialler.cut()
        await clock.go(0.5)
        new = await ends(session.open_channel("new"), clock, 10.5)
        assert isinstance(new, FileError)
        assert (new.error, new.detail) == (E.HOSTUNREACH, f"away {since}nobody answers")
        lost = await ends(channel.read(1), clock, 4.1)
        assert isinstance(lost, LinkBroken)
        assert (lost.error, lost.detail) == (E.AWAY, f"{since}15 seconds")
        dials = len(two.dialler.dialled)
        again = await ends(session.open_channel("again"), clock, 0)
        assert isinstance(again, FileError)
        assert (again.error, again.detail) == (E.AWAY, f"{since}15 seconds")
        assert len(two.dialler.dialled) == dials
        await clock.go(2)
        later = await ends(session.open_channel("later"), clock, 10.5)
        assert isinstance(later, FileError)
        assert (later.error, later.detail) == (E.AWAY, f"{since}{E.HOSTUNREACH.text}: nobody answers")
        session._dial = two.dialler._dial
        await clock.go(2)
        await two.open()
        assert session.reaching.since is None


async def pauses_of(seed: int) -> list[float]:
    """The first of those between the dials of a session whose peer nobody finds."""
    async with Two(seed=seed) as two:
        await two.open()
        cut = two.clock.at / SECOND
        two.dialler.dialled = [cut]
        two.dialler.door = None
        two.dialler.cut()
        await two.clock.go(60)
        return [after - before for before, after in itertools.pairwise(two.dialler.dialled)]


async def test_pauses_double_up_to_the_longest_and_half_of_each_is_left_to_chance() -> None:
    timing, seen = Timing(), []
    for seed in (1, 50):
        pauses = await pauses_of(seed)
        whole = [min(timing.first_delay * 2**number, timing.last_delay) for number in range(len(pauses))]
        assert len(pauses) >= 12
        assert all(most * 0.499 <= pause <= most for pause, most in zip(pauses, whole, strict=True))
        shares = [pause / most for pause, most in zip(pauses, whole, strict=True)]
        assert max(shares) - min(shares) > 0.1
        seen.append(pauses)
    assert seen[0] != seen[1]  # two sides that notice a cut at the same time do not dial in step


async def silent(wire: Wire) -> None:
    """A peer that says nothing after its handshake, until the other side ends it."""
    while await wire.read(1 << 10):
        pass


@pytest.mark.parametrize("leads", [True, False])
async def test_a_peer_that_says_nothing_after_its_handshake_is_given_up_after_ten_seconds(leads: bool) -> None:
    async with Two(leads) as two:
        near, far = wires()
        answering = asyncio.ensure_future(silent(far))
        taking = asyncio.ensure_future(two.dialler.take(near))  # who was dialled
        two.dialler.door = silent
        connecting = asyncio.ensure_future(two.dialler.session.connect())  # who dialled
        await two.clock.go(GREETING_SECONDS - 0.1)
        assert not taking.done()
        assert not connecting.done()
        await two.clock.go(0.2)
        for ended in (taking, connecting):
            said = ended.exception()
            assert isinstance(said, FileError)
            assert said.error is E.TIMEDOUT
        assert near.closed
        await answering


async def test_a_fault_of_a_handler_is_no_clean_end_to_the_other_side() -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))

    async def faulty(channel: Channel) -> None:
        await channel.write(b"half of")
        raise ValueError("a fault")

    async with Two() as two:
        two.other.handler = faulty
        channel = await two.dialler.session.open_channel("x")
        assert await channel.read(100) == b"half of"
        with pytest.raises(LinkBroken) as caught:
            await channel.read(100)
        assert caught.value.error is E.IO
        assert [type(error) for error in told] == [ValueError]


@pytest.mark.parametrize("room", [True, False])
async def test_who_closes_waits_a_while_until_the_host_has_taken_the_goodbye(room: bool) -> None:
    async with Two() as two:
        channel = await two.open()
        [near, _] = two.dialler.wires
        near.full = True
        closing = asyncio.ensure_future(two.dialler.session.close(E.SESSIONLOST, "the node shut down"))
        await two.clock.go(BYE_SECONDS - 0.1)
        assert not closing.done()
        assert not near.closed
        if room:
            near.make_room()
            await turns()
            assert not two.other.core.alive  # it was told
        else:
            await two.clock.go(0.2)
            assert two.other.core.alive
        assert closing.done()
        assert near.closed
        with pytest.raises(LinkBroken):
            await channel.read(1)


async def test_a_machine_that_was_asleep_asks_its_links_and_goes_on_over_another() -> None:
    """Asleep, Linux's monotonic clock stands still and the wall clock does not; the peer gave the link up meanwhile."""
    async with Two() as two:
        session, clock = two.dialler.session, two.clock
        roaming = Roaming(
            HandSenses(clock, SeededRandom(3)), lambda: {"10.0.0.1": "eth0"}, lambda gone: session.hurry(), no_search,
            lambda _: None,
        )  # fmt: skip
        roaming.begin()
        channel = await two.open()
        await clock.go(4)
        assert len(two.dialler.dialled) == 1
        for wire in two.dialler.wires:
            wire.deaf = True
        clock.jump(3 * Timing().retention)
        await clock.go(
            LOOK_SECONDS + Timing().answer + Timing().tick + 0.2
        )  # an idle link is asked after 7 seconds only
        assert len(two.dialler.dialled) == 2
        await channel.write(b"y")
        assert await channel.read(1) == b"y"
        await roaming.close()


async def no_search(_: str) -> float | None:
    raise AssertionError("no link was announced to it")


async def test_forgetting_a_peer_ends_the_search_for_its_addresses() -> None:
    clock = HandClock()
    began, ended = asyncio.Event(), asyncio.Event()

    async def search(_: str) -> float | None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return None

    roaming = Roaming(HandSenses(clock, SeededRandom(1)), dict, lambda _: None, search, lambda _: None)
    roaming.begin()
    roaming.seek_soon("peer")
    await clock.go(SEEK_SOON + LOOK_SECONDS)
    assert began.is_set()
    assert not ended.is_set()
    roaming.forget("peer")
    await turns()
    assert ended.is_set()
    began.clear()
    await clock.go(2 * SEEK_AGAIN)
    assert not began.is_set()
    await roaming.close()


async def test_what_is_heard_while_a_search_goes_on_is_searched_after_it_and_else_it_rests() -> None:
    clock = HandClock()
    searches: list[float] = []
    gate = asyncio.Event()

    async def search(_: str) -> float | None:
        searches.append(clock.at / SECOND)
        await gate.wait()
        return 60.0

    roaming = Roaming(HandSenses(clock, SeededRandom(1)), dict, lambda _: None, search, lambda _: None)
    roaming.begin()
    roaming.seek_soon("peer")
    await clock.go(10)
    assert len(searches) == 1
    roaming.seek_soon("peer")
    await clock.go(10)
    assert len(searches) == 1
    gate.set()
    await clock.go(LOOK_SECONDS)
    assert len(searches) == 2
    await clock.go(59)
    assert len(searches) == 2
    await clock.go(LOOK_SECONDS + 1)
    assert len(searches) == 3
    await roaming.close()


async def test_a_clock_of_the_kit_wakes_in_order() -> None:
    clock, woken = HandClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.at))

    tasks = [asyncio.ensure_future(sleeper(seconds)) for seconds in (3.0, 1.0, 2.0)]
    await clock.go(2)
    assert woken == [(1.0, 10**9), (2.0, 2 * 10**9)]
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
