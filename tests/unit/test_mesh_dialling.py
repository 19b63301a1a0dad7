"""Dialling at several addresses: in which order, how far apart, who wins, and that nothing stays open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import CognuError, E, FileError, LinkBroken
from cognu.mesh.addresses import (
    HEARD_SECONDS,
    TRIED_LIMIT,
    Addresses,
    Reserve,
    is_address,
    leading_out,
    leading_there,
)
from cognu.mesh.dialling import APART_SECONDS, Raced, race
from cognu.mesh.identity import ADDRESS_LIMIT
from cognu.mesh.join import connect_any
from cognu.mesh.liveness import SECOND
from cognu.world import Clock, SecureStream, TlsKeys, World

A4, B4, C4 = "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"
A6, B6 = "[2001:db8::1]:1", "[2001:db8::2]:1"


class Steps:
    """A clock whose sleeps end when the test says so."""

    def __init__(self) -> None:
        self.sleeping: list[asyncio.Future[None]] = []
        self.asked = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        assert seconds == APART_SECONDS
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleeping.append(future)
        self.asked.set()
        await future

    async def go_on(self) -> None:
        await self.asked.wait()
        self.asked.clear()
        self.sleeping.pop().set_result(None)


class Connection:
    def __init__(self, address: str) -> None:
        self.address = address
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Line:
    """Addresses at which something happens when the test says so."""

    def __init__(self) -> None:
        self.clock = Steps()
        self.dialled: list[str] = []
        self.answers: dict[str, asyncio.Future[Connection]] = {}
        self.began = asyncio.Condition()

    async def attempt(self, address: str) -> SecureStream:
        self.dialled.append(address)
        self.answers[address] = asyncio.get_running_loop().create_future()
        async with self.began:
            self.began.notify_all()
        return cast(SecureStream, await self.answers[address])

    async def dials(self, count: int) -> None:
        async with self.began:
            await self.began.wait_for(lambda: len(self.dialled) >= count)

    def race(self, *addresses: str) -> asyncio.Task[Raced]:
        def final(error: CognuError) -> bool:
            return error.error is E.DROPPED

        return asyncio.create_task(race(cast(Clock, self.clock), addresses, self.attempt, final))


async def test_the_next_address_is_dialled_a_little_later_and_the_first_that_works_is_taken() -> None:
    line = Line()
    racing = line.race(A4, B4, C4)
    await line.dials(1)
    await line.clock.go_on()
    await line.dials(2)
    assert line.dialled == [A4, B4]
    line.answers[B4].set_result(Connection(B4))
    raced = await racing
    assert (raced.address, raced.failures) == (B4, [])
    assert line.dialled == [A4, B4]
    assert line.answers[A4].cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_address_that_fails_lets_the_next_begin_at_once() -> None:
    line = Line()
    racing = line.race(A4, B4)
    await line.dials(1)
    line.answers[A4].set_exception(FileError(E.CONNREFUSED, A4))
    await line.dials(2)  # the clock stands still
    line.answers[B4].set_exception(FileError(E.HOSTUNREACH, B4))
    raced = await racing
    assert raced.stream is None
    assert [(address, error.error) for address, error in raced.failures] == [
        (A4, E.CONNREFUSED), (B4, E.HOSTUNREACH)
    ]  # fmt: skip


async def test_what_worked_in_the_same_turn_as_another_is_closed() -> None:
    line = Line()
    racing = line.race(A4, B4)
    await line.dials(1)
    await line.clock.go_on()
    await line.dials(2)
    both = [Connection(A4), Connection(B4)]
    line.answers[A4].set_result(both[0])
    line.answers[B4].set_result(both[1])
    raced = await racing
    assert raced.stream is cast(SecureStream, both[0])
    assert [connection.closed for connection in both] == [False, True]


async def test_a_final_refusal_ends_it() -> None:
    line = Line()
    racing = line.race(A4, B4)
    await line.dials(1)
    line.answers[A4].set_exception(LinkBroken(E.DROPPED, A4))
    raced = await racing
    assert raced.stream is None
    assert line.dialled == [A4]


async def test_a_bug_is_no_refusal_and_leaves_nothing_behind() -> None:
    line = Line()
    racing = line.race(A4, B4)
    await line.dials(1)
    await line.clock.go_on()
    await line.dials(2)
    line.answers[A4].set_exception(ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        await racing
    assert line.answers[B4].cancelled()


async def test_cancelling_ends_every_attempt_and_closes_what_worked_meanwhile() -> None:
    line = Line()
    racing = line.race(A4, B4)
    await line.dials(1)
    await line.clock.go_on()
    await line.dials(2)
    made = Connection(B4)
    line.answers[B4].set_result(made)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert line.answers[A4].cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Clinging:
    """An attempt that takes a while to end."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.ending, self.may_end = asyncio.Event(), asyncio.Event()

    async def attempt(self, address: str) -> SecureStream:
        try:
            return await self.line.attempt(address)
        except asyncio.CancelledError:
            self.ending.set()
            await self.may_end.wait()
            raise


async def test_cancelling_while_the_others_are_ended_closes_the_one_that_won() -> None:
    line = Line()
    clinging = Clinging(line)
    racing = asyncio.create_task(race(cast(Clock, line.clock), [A4, B4], clinging.attempt))
    await line.dials(1)
    await line.clock.go_on()
    await line.dials(2)
    made = Connection(B4)
    line.answers[B4].set_result(made)
    await clinging.ending.wait()
    racing.cancel()
    clinging.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert made.closed


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (A4, True), (A6, True), ("[fe80::1%eth0]:4000", True), ("127.0.0.1:65535", True),
        ("pi.local:4000", False), ("192.0.2.1:0", False), ("192.0.2.1:65536", False), ("192.0.2.1", False),
        ("2001:db8::1:1", False), ("[192.0.2.1]:1", False), ("224.0.0.1:1", False), ("0.0.0.0:1", False),
        ("[ff02::1]:1", False), (":1", False), ("192.0.2.1:١", False), ("192.0.2.1:" + "1" * 300, False),
    ],
)  # fmt: skip
def test_only_a_numeric_address_is_taken_from_whoever_says_so(text: str, valid: bool) -> None:
    assert is_address(text) is valid


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_not(text: str) -> None:
    ways = Addresses()
    assert ways.hear([text], 0) is is_address(text)


def test_what_was_heard_is_refuted_by_dials_since_then_until_it_is_heard_or_answers_again() -> None:
    ways = Addresses()
    said = ("192.0.2.1:9", "192.0.2.2:9")
    ways.hear(said, 10)
    assert not ways.refuted(said)
    ways.failed(said[0], 11)
    assert not ways.refuted(said)
    ways.failed(said[1], 12)
    assert ways.refuted(said)
    ways.hear(said[:1], 13)
    assert not ways.refuted(said)
    ways.failed(said[0], 14)
    assert ways.refuted(said)
    ways.answered(said[0], 15)
    assert not ways.refuted(said)


def test_the_book_comes_before_what_was_heard_and_families_take_turns() -> None:
    ways = Addresses()
    assert ways.hear([C4, A6], 0)
    assert not ways.hear([A6], 1)
    assert ways.order((A4, B4), 1) == [A4, A6, B4, C4]
    assert ways.order((B6, A4, B4), 1) == [B6, A4, A6, B4, C4]


def test_where_it_answered_last_comes_first_and_where_nobody_answered_last() -> None:
    ways = Addresses()
    ways.answered(B4, 5)
    ways.failed(A4, 6)
    assert ways.order((A4, B4, C4), 7) == [B4, C4, A4]
    ways.answered(A4, 8)
    assert ways.order((A4, B4, C4), 9) == [A4, B4, C4]
    ways.measured(A4, 9, 1000)
    ways.failed(A4, 10)
    assert ways.reserves((A4, B4), B4, 11) == (Reserve(A4, False, 1000, True),)


def test_of_those_that_were_measured_the_fastest_comes_first() -> None:
    ways = Addresses()
    ways.answered(B4, 5)  # and is in use
    ways.measured(B4, 6, 1_000_000)
    ways.measured(A4, 7, 80_000_000)  # a search came by there
    ways.measured(C4, 8, 40_000_000)
    assert ways.order((A4, B4, C4), 9) == [B4, C4, A4]
    assert [row.address for row in ways.reserves((A4, B4, C4), B4, 9)] == [C4, A4]
    ways.failed(B4, 10)
    assert ways.order((A4, B4, C4), 11) == [C4, A4, B4]
    assert ways.ever_answered((A4,))
    assert ways.order(("192.0.2.9:1", A4), 12) == [A4, "192.0.2.9:1"]


def test_a_measurement_where_nobody_answered_before_makes_it_one_of_the_good_again() -> None:
    ways = Addresses()
    ways.hear((A4,), 0)
    ways.failed(A4, 1)
    assert ways.refuted((A4,))
    ways.measured(A4, 2, 1000)
    assert not ways.refuted((A4,))
    assert not ways.reserves((A4,), "", 3)[0].failed


def test_what_is_heard_is_bounded_and_gets_old() -> None:
    ways = Addresses()
    many = [f"192.0.2.{number}:1" for number in range(1, 100)]
    for at, address in enumerate(many):
        ways.hear([address], at)
    assert ways.order((), 100) == many[: -ADDRESS_LIMIT - 1 : -1]  # the newest
    ways.hear(many, 100)
    assert len(ways.order((), 100)) == ADDRESS_LIMIT
    assert ways.order((), 101 + HEARD_SECONDS * SECOND) == []
    for address in many:
        ways.failed(address, 0)
    assert len(ways._tried) == TRIED_LIMIT


def test_the_loopback_and_addresses_of_one_link_are_told_only_by_a_machine_that_has_no_others() -> None:
    assert leading_out(["192.0.2.7", "[2001:db8::7]", "169.254.1.2", "[::1]", "127.0.0.1"]) == (
        "192.0.2.7", "[2001:db8::7]"
    )  # fmt: skip
    assert leading_out(["169.254.1.2", "127.0.0.1"]) == ("169.254.1.2",)
    assert leading_out(["127.0.0.1", "[::1]"]) == ("127.0.0.1", "[::1]")
    assert leading_out(["pi.example", "127.0.0.1"]) == ("pi.example",)
    assert leading_out([]) == ()


@pytest.mark.parametrize(
    ("here", "there", "kept"),
    [
        ("192.0.2.1:9", "192.0.2.7:9", (A4, A6, "pi.example:1")),
        ("[2001:db8::1]:9", "[2001:db8::7]:9", (A4, A6, "pi.example:1")),
        ("169.254.1.1:9", "169.254.1.7:9", (A4, A6, "169.254.1.2:1", "pi.example:1")),
        ("192.0.2.1:9", "192.0.2.1:8", None),  # one machine
        ("127.0.0.1:9", "127.0.0.1:8", None),
        ("127.0.0.1:9", "127.0.0.2:8", None),
    ],
)
def test_of_what_a_machine_says_it_has_is_kept_what_may_lead_there(
    here: str, there: str, kept: tuple[str, ...] | None
) -> None:
    said = (A4, A6, "127.0.0.1:1", "[::1]:1", "169.254.1.2:1", "[fe80::7%eth0]:1", "pi.example:1")
    assert leading_there(said, here, there) == (said if kept is None else kept)


@given(st.text(), st.text(), st.text())
def test_whatever_is_said_of_addresses_is_kept_or_left_out(address: str, here: str, there: str) -> None:
    assert leading_there([address], here, there) in ((), (address,))
    assert leading_out([address]) == (address,)


# -- joining and pairing dial so too -----------------------------------------------------------------------------------


@dataclass
class Outside:
    """As much of a World as `connect_any` uses."""

    line: Line

    @property
    def clock(self) -> Steps:
        return self.line.clock

    @property
    def network(self) -> Outside:
        return self

    async def connect_tls(self, address: str, keys: TlsKeys, timeout: float) -> SecureStream:
        return await self.line.attempt(address)

    def connect(self, *addresses: str) -> asyncio.Task[tuple[SecureStream | None, bool, str]]:
        return asyncio.create_task(connect_any(cast(World, self), addresses))


async def test_who_joins_waits_a_moment_for_an_address_where_nobody_answers() -> None:
    line = Line()
    joining = Outside(line).connect(A4, B4, C4)
    await line.clock.go_on()
    await line.clock.go_on()
    await line.dials(3)  # none of them has failed
    connection = Connection(C4)
    line.answers[C4].set_result(connection)
    assert await joining == (cast(SecureStream, connection), False, "")
    assert line.answers[A4].cancelled()
    assert line.answers[B4].cancelled()
    assert not connection.closed


async def test_who_joins_tries_every_address_and_is_told_of_each_in_their_order() -> None:
    line = Line()
    joining = Outside(line).connect(A4, B4)
    await line.clock.go_on()
    await line.dials(2)
    line.answers[B4].set_exception(FileError(E.CONNREFUSED, B4))
    line.answers[A4].set_exception(FileError(E.TIMEDOUT, A4))
    stream, refused, where = await joining
    assert (stream, refused) == (None, True)
    assert where == f"{FileError(E.TIMEDOUT, A4)}; {FileError(E.CONNREFUSED, B4)}"
