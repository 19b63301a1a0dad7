"""peers: what it shows, what it asks the node, and when it shows it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E
from cognu.files.server import Notice
from cognu.ninep.watches import CONTENT, GONE
from cognu.shell.commands.peers import (
    CHANGES,
    LOOK_SECONDS,
    PAUSE_SECONDS,
    family,
    moment_text,
    near_lines,
    path,
    peer_blocks,
    peer_lines,
)
from cognu.shell.commands.windows import CLEAR, columns, cut, fitted, folded, parse_window, width
from cognu.shell.interactive import run_once
from shell_fake import Bench, FakeClock

LATER = 1_800_000_000 * 10**9
NEVER: dict[str, Any] = {"discovery": "on", "near": []}


def row(name: str = "pi", **more: Any) -> dict[str, Any]:
    usual = {
        "name": name, "fingerprint": name * 10, "connected": True, "since": 10**18, "seen": None, "rtt": 1_500_000,
        "address": "192.0.2.2:4000", "interface": "wlan0", "dialled": True, "rate": 3 << 20, "near": False,
        "reserves": [], "waits": False, "granted": ["net"], "received": [], "current": True, "as_of": 0,
        "dropped": False, "labels": [],
    }  # fmt: skip
    return {**usual, **more}


AWAY: dict[str, Any] = {"connected": False, "since": None, "rtt": None, "rate": None, "interface": "", "current": False}


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.system.make(CHANGES, b"")
    bench.system.world.answers = {"peers": [row()], "near": NEVER}
    return bench


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell]


async def test_a_peer_has_its_state_distance_grants_and_path(bench: Bench) -> None:
    head, line = (await bench.run("peers")).out.splitlines()
    heads = [cell.strip() for cell in cells(head)]
    assert heads == ["NAME", "STATE", "SINCE", "RTT", "RATE", "PATH", "MAY HERE", "WE MAY THERE"]
    found = [cell.strip() for cell in cells(line)]
    assert found[0:2] == ["pi", "connected"]
    assert found[3:] == ["1.5ms", "3072KB/s", "192.0.2.2:4000, IPv4, wlan0", "net", "-"]


async def test_json_is_what_the_node_says(bench: Bench) -> None:
    assert json.loads((await bench.run("peers --json")).out) == [row()]
    assert json.loads((await bench.run("peers --near --json")).out) == []


def test_a_peer_that_is_away_says_since_when_and_what_it_said_last() -> None:
    [_, line] = peer_lines(
        [row(**AWAY, seen=10**18, received=["net"], as_of=10**18, reserves=[{"address": "a:1"}])], LATER
    )
    assert "away" in line
    assert line.endswith("net (as of 2001-09-09)")
    assert "  192.0.2.2:4000 (+1)  " in line
    assert "away, near" in peer_lines([row(**AWAY, near=True)], LATER)[1]
    assert peer_lines([], LATER) == ["no machine was joined yet; pair(1) and invite(1) do that"]


def test_one_that_parted_says_what_to_do() -> None:
    lines = peer_lines([row(**AWAY, dropped=True)], LATER)
    assert "dropped us" in lines[1]
    assert E.DROPPED.hint in lines[2]


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"address": "[fe80::1%wlan0]:4000", "dialled": False}, "[fe80::1%wlan0]:4000, IPv6, wlan0, it called"),
        ({"address": "127.0.0.1:4000", "interface": "lo"}, "127.0.0.1:4000, loopback, lo"),
        ({"address": "pi.example:4000", "interface": ""}, "pi.example:4000"),
        ({**AWAY, "address": "", "waits": True}, "it must call"),
        ({**AWAY, "address": "", "reserves": [{"address": "192.0.2.9:1"}]}, "192.0.2.9:1"),
        ({**AWAY, "address": ""}, "-"),
    ],
)
def test_the_path_of_a_link(more: dict[str, Any], shown: str) -> None:
    assert path(row(**more)) == shown


def test_the_family_of_what_is_no_address() -> None:
    assert [family(text) for text in ("", ":1", "[::1]:5", "name:1", "[x]:1")] == ["", "", "loopback", "", ""]


def test_who_is_near_is_shown_with_a_name_only_while_it_waits_to_be_paired_with() -> None:
    near = [
        {"instance": "a" * 16, "name": "pi", "number": "7", "joining": ["192.0.2.2:5001"], "addresses": [], "since": 1},
        {"instance": "b" * 16, "name": "", "number": "", "joining": [], "addresses": ["192.0.2.3:1"], "since": 1},
    ]
    _, first, second = near_lines({"discovery": "on", "near": near}, LATER)
    assert [word in first for word in ("pi", "pairing, number 7", "192.0.2.2:5001")] == [True] * 3
    assert second.startswith("-     not joined")
    assert near_lines({"discovery": "off", "near": []}, LATER) == [
        "discovery is off, so nobody is looked for; settings(5) has it"
    ]


def test_where_nobody_is_near_that_is_said_and_when_others_are_looked_for() -> None:
    assert near_lines({"discovery": "on", "near": []}, LATER) == ["nobody is near who was not joined"]
    [line] = near_lines({"discovery": "pairing", "near": []}, LATER)
    assert "only while one pairs" in line


async def test_renaming_and_dropping_are_the_node_s(bench: Bench) -> None:
    renamed = {"peer": "attic", "fingerprint": "f", "changed": True}
    bench.system.world.answers |= {"rename": renamed, "drop": {"told": False}}
    assert "/n/attic" in (await bench.run("peers rename pi attic")).out
    assert "not reached" in (await bench.run("peers drop pi")).out
    assert json.loads((await bench.run("peers drop pi --json")).out) == {"told": False}
    asked = [call[1:] for call in bench.system.world.calls]
    assert asked == [("rename", {"peer": "pi", "name": "attic"}), ("drop", {"peer": "pi"}), ("drop", {"peer": "pi"})]


async def test_a_name_that_a_machine_has_already_is_not_told_as_a_change(bench: Bench) -> None:
    bench.system.world.answers |= {"rename": {"peer": "pi", "fingerprint": "f", "changed": False}}
    assert (await bench.run("peers rename pi pi")).out == "pi is pi already, at /n/pi\n"


@pytest.mark.parametrize(
    ("words", "asked", "own", "labels", "said"),
    [
        ("pi gpu=yes -ram", ["gpu=yes", "-ram"], False, ["gpu=yes", "room=the kitchen"],
         "pi, for this machine alone, is labelled gpu=yes, room=the kitchen\n"),
        ("pi -- -gpu", ["-gpu"], False, [], "pi has no labels\n"),
        ("desk gpu", ["gpu"], True, ["gpu"], "desk, this machine, is labelled gpu\n"),
        ("pi -gpu", ["-gpu"], False, [], "pi has no labels\n"),
        ("pi", [], False, ["a=1", "b"], "a=1\nb\n"),
        ("pi", [], False, [], ""),
    ],
)  # fmt: skip
async def test_labels_are_given_taken_away_and_listed(
    bench: Bench, words: str, asked: list[str], own: bool, labels: list[str], said: str
) -> None:
    name = words.split()[0]
    bench.system.world.answers["label"] = {"peer": name, "own": own, "labels": labels, "changed": True}
    assert (await bench.run(f"peers label {words}")).out == said
    assert bench.system.world.calls[-1][1:] == ("label", {"peer": name, "words": asked})


async def test_labels_have_a_column_when_there_are_some(bench: Bench) -> None:
    head, pi, lap = peer_lines([row(labels=["gpu=yes", "room=a b"]), row("lap")], LATER)
    assert head.endswith("  LABELS")
    assert pi.endswith("  gpu=yes,room=a b")
    assert lap.endswith("  -")
    bench.system.world.answers["label"] = {"peer": "pi", "own": False, "labels": ["a"], "changed": True}
    assert json.loads((await bench.run("peers --json label pi a")).out)["labels"] == ["a"]


@pytest.mark.parametrize("words", ["peers pi", "peers rename pi", "peers drop", "peers label", "peers -x"])
async def test_wrong_usage(bench: Bench, words: str) -> None:
    assert (await bench.run(words)).status == 2


async def until(so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize("terminal", [True, False])
async def test_live_it_shows_again_what_changed_and_nothing_else(bench: Bench, terminal: bool) -> None:
    clock = bench.system.clock
    assert isinstance(clock, FakeClock)
    streams, out, _ = bench.streams(terminal=terminal)
    running = asyncio.ensure_future(run_once(bench.shell, "peers -w", streams))
    await until(lambda: out.text.count("pi ") == 1 and len(clock.asked) == 1 + terminal)
    assert out.text.startswith(CLEAR + "NAME" if terminal else "NAME")
    assert not [file.path for file in bench.world.open_files if file.path == "/dev/winsize"]
    assert set(clock.asked) == ({PAUSE_SECONDS, LOOK_SECONDS} if terminal else {PAUSE_SECONDS})
    running.cancel()
    await asyncio.wait([running])
    assert not bench.system.world.watches[CHANGES].is_open
    await bench.close(streams)


async def test_it_ends_when_what_tells_it_is_gone(bench: Bench) -> None:
    bench.system.clock = Instant()
    streams, out, errors = bench.streams()
    running = asyncio.ensure_future(run_once(bench.shell, "peers -w", streams))
    await until(lambda: CHANGES in bench.system.world.watches and "pi" in out.text)
    watch = bench.system.world.watches[CHANGES]
    bench.system.world.answers["peers"] = [row("attic")]
    watch.notices.put_nowait(Notice(CONTENT))
    await until(lambda: "attic" in out.text)
    assert out.text.count("NAME") == 2
    watch.notices.put_nowait(Notice(GONE))
    assert await running == 1
    assert E.SESSIONLOST.text in errors.text
    assert not watch.is_open
    await bench.close(streams)


async def live(bench: Bench, words: str, changes: list[list[dict[str, Any]]]) -> str:
    """What is printed into a pipe while the node's answer becomes each of these in turn, told of each time."""
    bench.system.clock = Instant()
    streams, out, _ = bench.streams()
    looks = 0
    real = bench.system.rpc

    async def rpc(verb: str, **arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return await real(verb, **arguments)

    bench.system.rpc = rpc  # type: ignore[method-assign]
    running = asyncio.ensure_future(run_once(bench.shell, words, streams))
    await until(lambda: looks == 1 and CHANGES in bench.system.world.watches)
    for number, rows in enumerate(changes):
        bench.system.world.answers["peers"] = rows
        bench.system.world.watches[CHANGES].notices.put_nowait(Notice(CONTENT))
        await until(lambda wanted=number + 2: looks == wanted)  # type: ignore[misc]
    bench.system.world.watches[CHANGES].notices.put_nowait(Notice(GONE))
    assert await running == 1
    await bench.close(streams)
    return out.text


MEASURED: dict[str, Any] = {"rtt": 9_900_000, "rate": 77, "sent": 5, "received_bytes": 6}
OTHER = {"address": "192.0.2.9:1", "heard": True, "rtt": 5, "failed": False}


async def test_into_a_pipe_only_what_changed_is_shown_again(bench: Bench) -> None:
    changes = [[row()], [row(**MEASURED)], [row(near=True)], [row(granted=["net", "run"])], [row(as_of=9)]]
    assert (await live(bench, "peers -w", changes)).count("NAME") == 3


async def test_as_json_there_is_a_line_for_each_change(bench: Bench) -> None:
    changes = [
        [row(**MEASURED)], [row(near=True)], [row(near=True, reserves=[OTHER])],
        [row(near=True, reserves=[{**OTHER, "rtt": 6}])], [row(**AWAY, seen=1)], [],
    ]  # fmt: skip
    lines = [json.loads(line) for line in (await live(bench, "peers -w --json", changes)).splitlines()]
    assert lines == [[row()], [row(near=True)], [row(near=True, reserves=[OTHER])], [row(**AWAY, seen=1)], []]


# -- at a terminal --


async def test_in_a_narrow_window_what_is_long_has_lines_of_its_own(bench: Bench) -> None:
    size = bench.system.make("/dev/winsize", b"24 80\n")
    long = row(granted=["net", "read:/home/me/letters"], received=["run"], labels=["gpu=yes"])
    bench.system.world.answers["peers"] = [long, row("lap", **AWAY, address="", seen=10**18)]
    shown = (await bench.run("peers", terminal=True)).out.splitlines()
    assert shown[0] == "NAME  STATE      SINCE     RTT    RATE"
    assert [line.split()[0] for line in (shown[1], shown[6])] == ["pi", "lap"]
    assert shown[2:6] == [
        "    path: 192.0.2.2:4000, IPv4, wlan0", "    may here: net,read:/home/me/letters", "    we may there: run",
        "    labels: gpu=yes",
    ]  # fmt: skip
    assert all(width(line) <= 80 for line in shown)
    size.data[:] = b"50 200\n"
    assert len((await bench.run("peers", terminal=True)).out.splitlines()) == 3
    assert len((await bench.run("peers")).out.splitlines()) == 3, "into a pipe a line each"


async def test_live_it_fits_the_window_and_follows_it(bench: Bench) -> None:
    bench.system.clock = Instant()
    size = bench.system.make("/dev/winsize", b"24 80\n")
    bench.system.make("/dev/resize", b"24 80\n")
    bench.system.world.answers["peers"] = [row(f"machine-{number}") for number in range(40)]
    streams, out, _ = bench.streams(terminal=True)
    running = asyncio.ensure_future(run_once(bench.shell, "peers -w", streams))
    await until(lambda: CLEAR in out.text)
    lines = out.text.rpartition(CLEAR)[2].splitlines()
    assert len(lines) == 23
    assert lines[-1] == "... and 19 more"
    assert max(map(width, lines)) <= 80
    size.data[:] = b"60 30\n"
    await until(lambda: len(out.text.rpartition(CLEAR)[2].splitlines()) == 41)
    assert max(map(width, out.text.rpartition(CLEAR)[2].splitlines())) <= 30
    running.cancel()
    await asyncio.wait([running])
    await bench.close(streams)


def test_many_grants_are_folded_and_what_is_away_has_no_round_trip() -> None:
    grants = [f"read:/home/me/projects/number-{number}" for number in range(13)] + ["net:listen", "run"]
    peers = [row("pi", granted=grants), row("attic", connected=False, rtt=1_500_000, rate=7)]
    for across in (80, 150, 200):
        lines = peer_blocks(peers, LATER, across)
        assert max(map(width, lines)) <= across
        here = [line.strip() for line in lines]
        first = next(at for at, line in enumerate(here) if line.startswith("may here: "))
        count = -(-len(",".join(grants)) // across)
        assert "".join(here[first:]).startswith("may here: " + ",".join(grants))
        assert count <= next(at for at in range(len(here)) if here[first + at][-1] != ",") + 1 <= count + 2
        [away] = [line for line in here if line.startswith("attic")]
        assert away.split()[-2:] == ["-", "-"]
    assert folded("a" * 50, 20) == ["a" * 50]


@given(st.text(max_size=30), st.integers(2, 30))
def test_a_line_that_is_cut_fits_and_begins_as_before(line: str, most: int) -> None:
    found = cut(line, most)
    assert width(found) <= most
    assert found == line or (found[-1] == "\u2026" and line.startswith(found[:-1]))


@given(st.one_of(st.binary(max_size=20), st.sampled_from([b"24 80\n", b"0 0", b"1 99999", b"1 999999", b"-1 5"])))
def test_any_size_of_a_window_is_a_size_or_none(text: bytes) -> None:
    window = parse_window(text)
    assert window is None or (0 < window.rows < 10**5 and 0 < window.columns < 10**5)
    for lines in (["a" * 50] * 5, ["a"]):
        shown = fitted(lines, window)
        assert window is None or len(shown) <= max(2, window.rows - 1)


def test_wide_letters_and_marks_are_counted_as_they_are_shown() -> None:
    assert [width(text) for text in ("ab", "\u4e2d", "e\u0301", "")] == [2, 2, 1, 0]
    assert columns([("\u4e2d", "x"), ("abc", "y")]) == ["\u4e2d   x", "abc  y"]


def test_a_moment_is_as_long_as_it_must_be() -> None:
    noon = 1_800_014_400 * 10**9
    day = 24 * 3600 * 10**9
    assert len(moment_text(noon, noon)) == len("12:00:00")
    assert len(moment_text(noon + 30 * day, noon + 60 * day)) == len("01-01 12:00")
    assert moment_text(noon - 400 * day, noon) == "2025-12-11"


class Instant:
    """Sleeps no longer than a turn of the loop."""

    def now(self) -> int:
        return 10**18

    def monotonic(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
