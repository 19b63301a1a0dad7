"""What the doctor's checks conclude from what they see, without a host or a node."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.cli.checks import home, host, node
from cognu.cli.checks.finding import Check, Found, Level, Subject, carry_out, note, ok, problem
from cognu.cli.doctor import lines
from cognu.errors import E, FileError
from cognu.node import proved
from cognu.runtime.probe import diagnose
from cognu.shell.nodeprocess import holder

OK, NOTE, PROBLEM = Level.OK, Level.NOTE, Level.PROBLEM
SECOND = 10**9
NOW = 1_795_257_817 * SECOND


def level(found: object) -> Level:
    assert isinstance(found, list)
    [one] = found
    assert isinstance(one, Found)
    assert one.remedy or one.level is not PROBLEM, "a problem says what to do"
    return one.level


@pytest.mark.parametrize(
    ("version", "wanted"),
    [((3, 10, 9), PROBLEM), ((3, 11, 0), OK), ((3, 13, 7), OK), ((3, 14, 0), PROBLEM), ((3, 14, 1), OK)],
)
def test_python_3_14_0_and_older_than_3_11_are_problems(version: tuple[int, int, int], wanted: Level) -> None:
    assert level(host.python(version)) is wanted


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (host.room(4096, True, True), OK),
        (host.room(4096, True, False), NOTE),
        (host.room(4096, False, False), NOTE),
        (host.room(100, True, True), NOTE),
        (host.room(1, True, True), PROBLEM),
        (host.open_files(resource.RLIM_INFINITY), OK),
        (host.open_files(20000), OK),
        (host.open_files(512), NOTE),
        (host.open_files(64), PROBLEM),
        (host.address_space(resource.RLIM_INFINITY), OK),
        (host.address_space(64 << 30), NOTE),
        (host.address_space(1 << 30), PROBLEM),
        (host.disk(100 << 30), OK),
        (host.disk(500 << 20), NOTE),
        (host.disk(1 << 20), PROBLEM),
        (host.fuse(True, True), OK),
        (host.fuse(True, False), NOTE),
        (host.fuse(False, False), NOTE),
        (host.isolation([], True), OK),
        (host.isolation([("the kernel has no Landlock", "use Linux 5.13")], False), NOTE),
        (host.isolation([("the kernel has no Landlock", "use Linux 5.13")], True), PROBLEM),
        (host.clock(NOW, 5 * SECOND, 5 * SECOND), OK),
        (host.clock(NOW, 5 * SECOND, None), OK),
        (host.clock(NOW, 5 * SECOND, 3600 * SECOND), NOTE),
        (host.clock(NOW, 3600 * SECOND, 5 * SECOND), PROBLEM),
        (host.clock(0, 5 * SECOND, 5 * SECOND), PROBLEM),
        (host.clock(1 << 63, 5 * SECOND, 5 * SECOND), PROBLEM),
        (host.socket_path("/home/me/.cognu/node.sock"), OK),
        (host.socket_path("/" + "x" * 100), PROBLEM),
    ],
)
def test_what_is_seen_of_the_host_has_its_level(found: object, wanted: Level) -> None:
    assert level(found) is wanted


def test_a_port_that_somebody_has_is_a_problem_and_a_free_one_is_not() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert level(host.free_port("127.0.0.1", port)) is PROBLEM
    assert level(host.free_port("127.0.0.1", port)) is OK


def test_a_kernel_that_is_not_the_proved_one_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proved, "proved_hash", proved.kernel_hash)
    assert level(node.kernel(proved.verdict())) is OK
    monkeypatch.setattr(proved, "proved_hash", lambda: "0" * 64)
    assert level(node.kernel(proved.verdict())) is PROBLEM


@pytest.mark.parametrize("address", ["", "127.0.0.1", "::1:5", "127.0.0.1:70000", "127.0.0.1:x", "[::1]", ":5"])
def test_at_what_is_no_address_nobody_answers(address: str) -> None:
    assert node.dial(address) is None


def test_the_probes_end_is_told_in_words() -> None:
    assert diagnose(0, "python 3.12") is None
    error = diagnose(-6, "Fatal Python error: Aborted\n")
    assert error is not None
    assert error.error is E.FIBERS
    assert "Aborted" in str(error)


# -- the home ---------------------------------------------------------------------------------------------------------

LOCKS = """\
1: FLOCK  ADVISORY  WRITE 17333 fe:00:1647267 0 EOF
2: POSIX  ADVISORY  WRITE 17319 fe:00:1647089 0 EOF
3: FLOCK  ADVISORY  WRITE -1 fe:00:1646817 0 EOF
1: -> FLOCK  ADVISORY  WRITE 4 fe:00:99 0 EOF
"""


@pytest.mark.parametrize(("inode", "wanted"), [(1647267, 17333), (1647089, None), (1646817, 0), (99, None), (1, None)])
def test_who_holds_a_lock_is_read_from_the_hosts_table(inode: int, wanted: int | None) -> None:
    assert holder(LOCKS, os.makedev(0xFE, 0), inode) == wanted


@given(st.text() | st.from_regex(r"\d+: FLOCK +ADVISORY WRITE -?\w+ [\w:]+ 0 EOF", fullmatch=True))
def test_any_table_of_locks_is_read(text: str) -> None:
    pid = holder(text, os.makedev(0xFE, 0), 1)
    assert pid is None or pid >= 0


@given(st.lists(st.integers(), unique=True, max_size=300), st.integers(1, 64))
def test_a_sample_is_of_different_ones_and_not_too_many(numbers: list[int], count: int) -> None:
    names = [str(number) for number in numbers]
    chosen = home.sample(names, count)
    assert len(chosen) == min(count, len(names)) == len(set(chosen))
    assert set(chosen) <= set(names)


# -- the node and its peers -------------------------------------------------------------------------------------------


def row(seconds: int, what: str, message: str = "m") -> str:
    return json.dumps({"time": NOW - seconds * SECOND, "level": what, "logger": "x", "message": message})


def test_errors_of_the_last_hour_are_counted() -> None:
    log = [row(5000, "error", "old"), row(9, "error", "new"), row(8, "warning"), row(7, "critical", "newest"), "no"]
    assert node.count_errors(log, NOW - node.HOUR) == (2, "newest")


@given(st.lists(st.text() | st.builds(json.dumps, st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["time", "level", "message"]), inner)))))  # fmt: skip
def test_any_log_is_counted(log: list[str]) -> None:
    assert node.count_errors(log, 0)[0] <= len(log)


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (200000, "2 d 7 h"), (-5, "0 s")],
)
def test_uptime_is_told_in_two_units(seconds: int, wanted: str) -> None:
    assert node.uptime(seconds * SECOND) == wanted


def peer(**more: Any) -> dict[str, Any]:
    return {"name": "pi", "connected": False, "rtt": None, "granted": [], "received": ["net"], "lies": 0,
            "dropped": False, "addresses": ["a:1", "b:2"], **more}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "reached", "wanted", "said"),
    [
        (peer(connected=True, rtt=1_500_000), {}, OK, "connected, 1.5 ms"),
        (peer(), {"a:1": None, "b:2": 2.0}, NOTE, "away; b:2 answers in 2.0 ms"),
        (peer(), {"a:1": None, "b:2": None}, PROBLEM, "away; host not reachable: a:1, b:2"),
        (peer(addresses=[]), {}, NOTE, "no address"),
        (peer(connected=True, lies=2), {}, PROBLEM, "wrong bytes 2 times"),
    ],
)
def test_what_is_told_of_a_peer(
    row: dict[str, Any], reached: dict[str, float | None], wanted: Level, said: str
) -> None:
    [found] = node.told(row, reached, True)
    assert (found.level, found.about) == (wanted, "pi")
    assert said in found.text
    assert "we may there: net" in found.text


# -- carrying out -----------------------------------------------------------------------------------------------------


def test_a_check_that_hangs_is_a_problem_and_holds_up_no_other() -> None:
    never = threading.Event()

    def hang(subject: Subject) -> list[Found]:
        never.wait()
        return ok("late")

    found = carry_out([Check("a", "slow", "", hang, 0.05), Check("a", "quick", "", lambda _: ok("well"))], Subject("/"))
    never.set()
    assert [(one.check, one.level) for one in found] == [("slow", PROBLEM), ("quick", OK)]
    assert E.TIMEDOUT.text in found[0].found


def test_what_a_check_is_refused_is_a_problem_with_the_tables_remedy() -> None:
    def damaged(subject: Subject) -> list[Found]:
        raise FileError(E.DAMAGED, "peers.json")

    def unreadable(subject: Subject) -> list[Found]:
        raise PermissionError(13, "no", "identity")

    found = carry_out([Check("a", "x", "", damaged), Check("a", "y", "", unreadable)], Subject("/"))
    assert [one.level for one in found] == [PROBLEM, PROBLEM]
    assert found[0].remedy == E.DAMAGED.hint
    assert found[1].found == f"identity: {E.ACCES.text}"


def test_a_bug_in_a_check_is_not_taken_for_a_finding() -> None:
    def bug(subject: Subject) -> list[Found]:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        carry_out([Check("a", "x", "", bug)], Subject("/"))


def test_people_see_what_is_not_well_with_its_remedy() -> None:
    def mixed(subject: Subject) -> list[Found]:
        return [*ok("fine"), *note("odd"), *problem("broken", "mend it", "pi")]

    found = carry_out([Check("a", "x", "means much", mixed)], Subject("/"))
    assert lines(found, False) == [
        "note     a: x     odd", "    means much",
        "problem  a: x pi  broken", "    means much", "    do: mend it",
        "1 ok, 1 to note, 1 wrong",
    ]  # fmt: skip
    assert len(lines(found, True)) == 7


def test_every_check_has_a_meaning_and_a_name_of_its_own() -> None:
    checks = [*host.CHECKS, *home.CHECKS, *node.CHECKS]
    assert len({(check.area, check.name) for check in checks}) == len(checks)
    assert all(check.means for check in checks)
    assert max(check.seconds for check in checks) <= 12


def test_the_port_of_a_node_that_does_not_answer_is_its_own(tmp_path: Path) -> None:
    (port_check,) = [check for check in host.CHECKS if check.name == "port"]
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()
        (tmp_path / "port").write_text(str(own.getsockname()[1]))
        (tmp_path / "settings.json").write_text('{"listen": "127.0.0.1:0"}')
        for error, count in ((E.SILENT, 0), (E.NONODE, 1)):
            found = carry_out([port_check], Subject(str(tmp_path), silent=FileError(error, str(tmp_path))))
            assert [one.level for one in found] == [PROBLEM] * count


def test_a_home_that_is_not_there_is_only_noted(tmp_path: Path) -> None:
    subject = Subject(str(tmp_path / "none"), silent=FileError(E.NONODE, "none"))
    found = carry_out([*home.CHECKS, *node.CHECKS], subject)
    assert [one.level for one in found] == [NOTE, NOTE]
    assert not (tmp_path / "none").exists()
