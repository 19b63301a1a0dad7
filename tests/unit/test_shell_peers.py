"""peers: what it shows, what it asks the node, and when it shows it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from cognu.errors import E
from cognu.files.server import Notice
from cognu.ninep.watches import CONTENT, GONE
from cognu.shell.commands.peers import CHANGES, LOOK_SECONDS, PAUSE_SECONDS, family, near_lines, path, peer_lines
from cognu.shell.commands.top import CLEAR
from cognu.shell.interactive import run_once
from shell_fake import Bench, FakeClock

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
    assert cells(head) == ["NAME", "STATE", "SINCE", "RTT", "RATE", "MAY HERE", "WE MAY THERE", "PATH"]
    found = [cell.strip() for cell in cells(line)]
    assert found[0:2] == ["pi", "connected"]
    assert found[3:] == ["1.5ms", "3072KB/s", "net", "-", "192.0.2.2:4000, IPv4, wlan0"]


async def test_json_is_what_the_node_says(bench: Bench) -> None:
    assert json.loads((await bench.run("peers --json")).out) == [row()]
    assert json.loads((await bench.run("peers --near --json")).out) == []


def test_a_peer_that_is_away_says_since_when_and_what_it_said_last() -> None:
    [_, line] = peer_lines([row(**AWAY, seen=10**18, received=["net"], as_of=10**18, reserves=[{"address": "a:1"}])])
    assert "away" in line
    assert "net (as of 2001-09-0" in line
    assert line.endswith("192.0.2.2:4000 (+1)")
    assert "away, near" in peer_lines([row(**AWAY, near=True)])[1]


def test_one_that_parted_says_what_to_do() -> None:
    lines = peer_lines([row(**AWAY, dropped=True)])
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
    _, first, second = near_lines({"discovery": "on", "near": near})
    assert [word in first for word in ("pi", "pairing, number 7", "192.0.2.2:5001")] == [True] * 3
    assert second.startswith("-     not joined")
    assert near_lines({"discovery": "off", "near": []}) == [
        "discovery is off, so nobody is looked for; settings(5) has it"
    ]


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
    head, pi, lap = peer_lines([row(labels=["gpu=yes", "room=a b"]), row("lap")])
    assert "  LABELS  " in head
    assert "  gpu=yes,room=a b  " in pi
    assert cells(lap)[7].strip() == "-"
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


class Instant:
    """Sleeps no longer than a turn of the loop."""

    def now(self) -> int:
        return 10**18

    def monotonic(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
