"""Change notices without I/O: events as bytes, and the ring of one connection against a model of what it may forget."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError, Misuse, ProtocolError
from cognu.ninep import messages as m
from cognu.ninep.compound import WATCH, granted, wanted
from cognu.ninep.messages import Dialect, Feature
from cognu.ninep.moves import FidState
from cognu.ninep.server import Called, Cancel, Limits
from cognu.ninep.types import NOTAG
from cognu.ninep.watches import (
    ASKED,
    ATTRIBUTES,
    CONTENT,
    ENDS,
    GONE,
    LEAST_COUNT,
    LOST,
    MADE,
    NAMES,
    RENAMED,
    REVOKED,
    Event,
    Ring,
    pack_event,
    unpack_events,
)
from ninep_kit import Bench, refused

ROOM = 1 << 16
NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
EVENT = st.builds(
    Event, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.sampled_from(sorted(NAMES)), NAME, NAME
)


# -- bytes --


@given(st.lists(EVENT, max_size=5))
def test_events_come_back_from_bytes_as_they_were(events: list[Event]) -> None:
    data = b"".join(map(pack_event, events))
    assert list(unpack_events(data)) == events


@given(st.binary(max_size=80))
def test_of_any_bytes_either_events_come_or_they_are_refused(data: bytes) -> None:
    refusal: E | None
    try:
        events = list(unpack_events(data))
    except ProtocolError as error:
        refusal = error.error
    else:
        refusal = None
        assert b"".join(map(pack_event, events)) == data
    assert refusal in (None, E.BADMESSAGE, E.ILSEQ)


def test_a_cut_event_and_one_of_no_kind_or_two_are_refused() -> None:
    whole = pack_event(Event(1, 1, MADE, "f"))
    for data in (whole[:-1], whole[:10], pack_event(Event(1, 1, 0)), pack_event(Event(1, 1, 3))):
        with pytest.raises(ProtocolError):
            list(unpack_events(data))


def test_what_no_event_can_hold_is_misuse() -> None:
    for event in (Event(1 << 64, 1, MADE), Event(1, 1, MADE, "\0"), Event(1, -1, MADE)):
        with pytest.raises(Misuse):
            pack_event(event)


# -- the ring --


def kinds(events: list[Event]) -> list[tuple[int, int, str]]:
    return [(event.watch, event.kind, event.name) for event in events]


def test_what_was_not_confirmed_is_told_again_and_what_was_is_not() -> None:
    ring = Ring()
    watch = ring.watch(ASKED)
    assert ring.since(0, ROOM) == []
    assert ring.add(watch, MADE, "a")
    assert ring.add(watch, MADE, "b")
    first = ring.since(0, ROOM)
    assert kinds(first) == [(watch, MADE, "a"), (watch, MADE, "b")]
    assert ring.since(0, ROOM) == first
    assert ring.since(first[0].cursor, ROOM) == first[1:]
    assert ring.since(first[1].cursor, ROOM) == []
    assert len(ring) == 0


def test_a_cursor_that_goes_back_or_is_of_another_connection_brings_lost() -> None:
    ring = Ring()
    watch = ring.watch(ASKED)
    ring.add(watch, MADE, "a")
    (event,) = ring.since(0, ROOM)
    assert ring.since(event.cursor, ROOM) == []
    (lost,) = ring.since(0, ROOM)
    assert lost[1:3] == (0, LOST)
    assert lost.cursor > event.cursor
    (again,) = ring.since(10**9, ROOM)
    assert again[1:3] == (0, LOST)
    assert ring.since(again.cursor, ROOM) == []


def test_equal_changes_that_were_not_handed_out_are_told_once_and_later_ones_anew() -> None:
    ring = Ring()
    watch = ring.watch(CONTENT | ATTRIBUTES)
    assert [ring.add(watch, kind) for kind in (CONTENT, CONTENT, ATTRIBUTES, CONTENT)] == [True, False, True, False]
    assert kinds(ring.since(0, ROOM)) == [(watch, CONTENT, ""), (watch, ATTRIBUTES, "")]
    assert ring.add(watch, CONTENT)
    assert len(ring.since(0, ROOM)) == 3


def test_only_the_kinds_asked_for_are_told_and_its_end_always() -> None:
    ring = Ring()
    watch = ring.watch(MADE)
    assert not ring.add(watch, CONTENT)
    assert ring.add(watch, GONE)
    assert not ring.add(watch, MADE, "a")
    assert kinds(ring.since(0, ROOM)) == [(watch, GONE, "")]
    with pytest.raises(FileError, match="bad arg"):
        ring.watch(GONE)


def test_a_full_ring_gives_way_to_one_lost_and_to_the_ends_of_watches() -> None:
    ring = Ring(most_events=3)
    watch, other = ring.watch(ASKED), ring.watch(ASKED)
    ring.add(other, GONE)
    for number in range(100):
        ring.add(watch, MADE, str(number))
        assert len(ring) <= 4
    events = ring.since(0, ROOM)
    assert kinds(events) == [(0, LOST, ""), (other, GONE, "")]
    assert ring.add(watch, MADE, "after")
    assert kinds(ring.since(events[-1].cursor, ROOM)) == [(watch, MADE, "after")]


def test_the_bound_on_watches_counts_those_whose_end_was_not_confirmed() -> None:
    ring = Ring(most_watches=2)
    first, _ = ring.watch(MADE), ring.watch(MADE)
    ring.add(first, GONE)
    with pytest.raises(FileError) as caught:
        ring.watch(MADE)
    assert caught.value.error is E.DQUOT
    (end,) = ring.since(0, ROOM)
    assert ring.since(end.cursor, ROOM) == []
    assert ring.watch(MADE) == 3


def test_of_an_ended_or_revoked_watch_nothing_of_before_is_told() -> None:
    ring = Ring()
    kept, ended, revoked = ring.watch(ASKED), ring.watch(ASKED), ring.watch(ASKED)
    for watch in (kept, ended, revoked):
        ring.add(watch, MADE, "secret")
    ring.end(ended)
    ring.add(revoked, REVOKED)
    assert kinds(ring.since(0, ROOM)) == [(kept, MADE, "secret"), (revoked, REVOKED, "")]


def test_names_that_do_not_fit_are_not_told_and_a_count_for_no_event_is_refused() -> None:
    ring = Ring()
    watch = ring.watch(ASKED)
    ring.add(watch, RENAMED, "x" * 200, "y" * 256)
    (event,) = ring.since(0, ROOM)
    assert (event.name, event.other) == ("x" * 200, "")
    assert [event[2:] for event in ring.since(0, LEAST_COUNT)] == [(RENAMED, "", "")]
    with pytest.raises(FileError, match="count 19"):
        ring.since(0, 19)


@dataclass
class Told:
    """What a client that follows the rules knows, and what happened."""

    happened: dict[int, list[tuple[int, str]]] = field(default_factory=dict)  # by watch, since it last looked
    knows: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)  # known to be

    def take(self, events: list[Event]) -> None:
        for event in events:
            if event.kind == LOST:
                for watch in self.happened:  # it looks, and has seen all
                    self.knows[watch] = list(self.happened[watch])
            elif event.watch in self.knows:
                if event.kind & ENDS:
                    self.over.add(event.watch)
                self.knows[event.watch].append((event.kind, event.name))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("watch"), st.sampled_from([MADE, ASKED, 0]), st.just("")),
        st.tuples(st.just("add"), st.integers(0, 5), st.sampled_from(["a", "b", "c"])),
        st.tuples(st.just("content"), st.integers(0, 5), st.just("")),
        st.tuples(st.just("lost"), st.integers(0, 5), st.just("")),
        st.tuples(st.just("over"), st.integers(0, 5), st.sampled_from(["gone", "revoked"])),
        st.tuples(st.just("clunk"), st.integers(0, 5), st.just("")),
        st.tuples(st.sampled_from(["ask", "unheard", "foreign", "narrow"]), st.just(0), st.just("")),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(STEPS)
def test_a_client_that_asks_on_from_its_cursor_knows_all_or_is_told_to_look(steps: list[tuple[str, int, str]]) -> None:
    """Watches, changes, flushed answers, foreign cursors, overflows, revocations and clunks, in any order."""
    ring, told, cursor = Ring(most_watches=6, most_events=4), Told(), 0
    masks: dict[int, int] = {}  # of those neither ended nor clunked
    for step, number, text in steps:
        live = sorted(masks)
        one = live[number % len(live)] if live else None
        if step == "watch":
            if ring.watches + sum(bool(event.kind & ENDS) for event in ring) >= 6:
                with pytest.raises(FileError):
                    ring.watch(number)
                continue
            made = ring.watch(number)
            assert made not in told.happened
            masks[made], told.happened[made], told.knows[made] = number, [], []
        elif step in ("add", "content") and one is not None:
            kind = MADE if step == "add" else CONTENT
            ring.add(one, kind, text)
            if masks[one] & kind:
                told.happened[one].append((kind, text))
        elif step == "lost" and one is not None:
            ring.add(one, LOST)
            assert {event.kind for event in ring if event.watch in (0, one)} == {LOST}
        elif step == "over" and one is not None:
            kind = GONE if text == "gone" else REVOKED
            ring.add(one, kind)
            del masks[one]
            told.happened[one] = list(told.knows[one])  # it is not told the rest
            told.happened[one].append((kind, ""))
        elif step == "clunk" and one is not None:
            ring.end(one)
            del masks[one], told.happened[one], told.knows[one]
        elif step in ("ask", "unheard", "foreign", "narrow"):
            room = LEAST_COUNT if step == "narrow" else ROOM
            events = ring.since(cursor + (1 << 40 if step == "foreign" else 0), room)
            assert [event.cursor for event in events] == sorted({event.cursor for event in events})
            assert all(event.watch in told.happened for event in events if event.watch)
            if step == "ask" and events:
                told.take(events)
                cursor = events[-1].cursor
        assert len(ring) <= 4 + 6
        assert ring.watches == len(masks)
    while events := ring.since(cursor, ROOM):
        told.take(events)
        cursor = events[-1].cursor
    for watch, happened in told.happened.items():
        ends = [step for step in happened if step[0] & ENDS]
        assert (watch in told.over) == bool(ends)
        # Who looked again has perhaps seen what it is told of later.
        assert set(told.knows[watch]) == set(happened)


# -- in a session --


def agreed(limits: Limits | None = None) -> Bench:
    bench = Bench(Dialect.NG, limits or Limits(65_536))
    bench.feed(m.Tcaps(wanted(65_536)), NOTAG - 1)
    assert [tag for tag, _ in bench.sent()] == [NOTAG - 1]
    return bench


def test_without_the_feature_both_are_refused() -> None:
    bench = Bench(Dialect.NG)
    bench.fid(0, FidState.DIR)
    refused(bench, bench.ask(m.Twatch(0, MADE)), E.NOSYS)
    refused(bench, bench.ask(m.Tevent(0, 4096)), E.NOSYS)
    assert granted((Feature(WATCH, 7),), wanted(65_536)) == (Feature(WATCH, 7),)


def test_a_watch_needs_a_fid_and_events_a_count_that_fits_the_message() -> None:
    bench = agreed()
    refused(bench, bench.ask(m.Twatch(0, MADE)), E.BADF)
    bench.fid(0, FidState.DIR)
    (called,) = bench.ask(m.Twatch(0, MADE))
    assert isinstance(called, Called)
    bench.session.reply(1, m.Rwatch(1))
    assert bench.sent() == [(1, m.Rwatch(1))]
    (called,) = bench.ask(m.Tevent(0, 1 << 31), 2)
    assert isinstance(called, Called)
    assert called.message == m.Tevent(0, 65_536 - 12)
    with pytest.raises(Misuse):
        bench.session.reply(2, m.Revent(bytes(65_536 - 11)))
    assert bench.ask(m.Tflush(2), 3) == [Cancel(2)]
    bench.session.cancelled(2)
    assert bench.sent() == [(3, m.Rflush())]
