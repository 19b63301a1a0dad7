"""The emulated lines and the switch between test hosts: what they do to frames, without any host."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosts.wire import PLAIN, SECOND, Conditions, Line, Switch

MS = SECOND // 1000


def line(seed: str = "1", **conditions: Any) -> Line:
    made = Line(seed)
    made.set(Conditions(**conditions))
    return made


def test_a_plain_line_gives_a_frame_at_once() -> None:
    assert line().take(5, 1500) == 5
    assert PLAIN.plain
    assert not Conditions(delay=0.001).plain


def test_delay_and_rate_add_up() -> None:
    slow = line(delay=0.1, rate=1500.0 * 100)
    assert [slow.take(0, 1500), slow.take(0, 1500)] == [110 * MS, 120 * MS]
    assert slow.take(500 * MS, 1500) == 610 * MS  # by then nobody waits for a turn


def test_what_finds_the_queue_full_is_dropped_and_counted() -> None:
    narrow = line(rate=1000.0, queue=2000)
    assert [narrow.take(0, 1000) is not None for _ in range(3)] == [True, True, False]
    assert narrow.overflowed == 1
    assert narrow.take(SECOND, 1000) == 3 * SECOND


def test_a_cut_line_drops_what_comes_and_what_is_under_way() -> None:
    cut = line(delay=1.0)
    assert cut.take(0, 100) == SECOND
    cut.set(cut.conditions.but({"cut": True}))
    assert cut.take(1, 100) is None
    assert not cut.comes_out(100)
    assert (cut.stopped, cut.frames) == (2, 0)
    cut.set(cut.conditions.but({"cut": False}))
    assert cut.comes_out(100)
    assert (cut.frames, cut.bytes) == (1, 100)


@given(st.floats(0, 1), st.text(max_size=9))
def test_loss_is_by_chance_and_the_same_for_a_seed(loss: float, seed: str) -> None:
    one, other = line(seed, loss=loss), line(seed, loss=loss)
    fates = [one.take(now, 100) for now in range(200)]
    assert fates == [other.take(now, 100) for now in range(200)]
    assert one.lost == fates.count(None)
    assert loss not in (0, 1) or one.lost == 200 * loss


@given(st.floats(0, 1), st.lists(st.integers(0, 100 * MS), min_size=1, max_size=50), st.floats(0, 1))
def test_jitter_overtakes_nothing_and_nothing_comes_too_early(jitter: float, pauses: list[int], delay: float) -> None:
    shaky = line(delay=delay, jitter=jitter)
    now, last = 0, 0
    for pause in pauses:
        now += pause
        out = shaky.take(now, 100)
        assert out is not None
        assert last <= out
        assert now + int(delay * SECOND) <= out
        last = out


def test_some_frames_are_overtaken_when_told_so() -> None:
    mixed = line(reorder=0.2, late=0.5)
    outs = [mixed.take(now, 100) for now in range(100)]
    late = [now for now, out in enumerate(outs) if out == now + SECOND // 2]
    assert 0 < len(late) < 50
    assert all(out == now for now, out in enumerate(outs) if now not in late)


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.1}, {"loss": -0.1}, {"reorder": 2}, {"delay": -1}, {"rate": 0}, {"queue": -1}]
)
def test_conditions_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"from 0 to 1|below zero"):
        PLAIN.but(wrong)
    with pytest.raises(TypeError, match="lag"):
        PLAIN.but({"lag": 1})


A, B, C = (bytes([2, 0, 0, 0, 0, number]) for number in range(3))
ALL = b"\xff" * 6
MDNS = bytes.fromhex("01005e0000fb")
PORTS = {"a": "eth", "b": "eth", "c": "eth", "d": "wifi"}


def test_a_switch_learns_where_machines_are() -> None:
    switch = Switch(PORTS)
    assert switch.targets("a", B + A + b"..") == ("b", "c")
    assert switch.targets("b", A + B + b"..") == ("a",)
    assert switch.targets("a", B + A + b"..") == ("b",)
    assert switch.targets("c", A + B + b"..") == ("a",)  # B has moved
    assert switch.targets("a", B + A + b"..") == ("c",)
    assert switch.targets("c", B + C + b"..") == ()  # it is on that side already


@pytest.mark.parametrize("group", [ALL, MDNS])
def test_what_is_for_all_or_for_a_group_goes_to_all_others_of_the_segment(group: bytes) -> None:
    switch = Switch(PORTS)
    assert switch.targets("b", group + B + b"..") == ("a", "c")
    assert switch.targets("d", group + C + b"..") == ()


def test_segments_never_meet() -> None:
    switch = Switch(PORTS)
    switch.targets("a", ALL + A + b"..")
    assert switch.targets("d", A + C + b"..") == ()


@given(st.lists(st.tuples(st.sampled_from(sorted(PORTS)), st.binary(max_size=20)), max_size=30))
def test_any_bytes_are_a_frame_or_go_nowhere(frames: list[tuple[str, bytes]]) -> None:
    switch = Switch(PORTS)
    for port, frame in frames:
        targets = switch.targets(port, frame)
        assert port not in targets
        assert all(PORTS[target] == PORTS[port] for target in targets)
        assert len(frame) >= 14 or not targets
