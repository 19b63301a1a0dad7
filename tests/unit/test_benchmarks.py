"""The benchmarks run, and print what their readers rely on. How fast anything is is not tested here."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks import openssh, servers
from benchmarks.__main__ import BENCHMARKS
from benchmarks.delay import connect, listen
from benchmarks.measure import Bench, Case, Unit
from benchmarks.ninep import Best
from benchmarks.servers import delayed
from benchmarks.trips import median_trip

ROOT = Path(__file__).parents[2]
WITHOUT_DIOD = """\
import sys
from benchmarks import __main__, servers
servers.find_diod = lambda: None
sys.argv[1:] = ["ninep", "--json", "--quick"]
sys.exit(__main__.main())
"""
SUMMARY = {"median", "low", "high"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True)


def check(result: dict[str, Any], name: str) -> None:
    """`result` is what `docs/performance.md` promises."""
    assert result["benchmark"] == name
    assert result["quick"] is True
    assert {"cpu", "cores", "python", "wasmtime", "load"} <= result["machine"].keys()
    assert result["ratios"].keys() == result["cases"].keys()
    for case, row in result["cases"].items():
        assert row["peer"]
        assert row["ours"].keys() == row["theirs"].keys() == row["ratio"].keys() == SUMMARY
        assert result["ratios"][case] == row["ratio"]["median"] > 0
    for row in result["figures"].values():
        assert row["ours"].keys() == SUMMARY
    for row in (result["cases"] | result["figures"]).values():
        assert row["unit"] in {unit.text for unit in Unit}
        assert row["ours"]["median"] > 0
    assert result["cases"] or result["figures"]
    assert all(isinstance(reason, str) and reason for reason in result["missing"].values())


@pytest.mark.long
@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_runs_and_prints_one_json_object(name: str) -> None:
    ran = run(name, "--json", "--quick")
    assert ran.returncode == 0, ran.stderr
    [line] = ran.stdout.splitlines()
    check(json.loads(line), name)
    assert " left\n" in ran.stderr


@pytest.mark.long
def test_a_peer_that_is_not_there_is_missing_and_nothing_is_compared_with_it() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_DIOD], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert "diod" in result["missing"]
    assert result["ratios"] == {}
    assert "Unix: getattr" in result["figures"]


def test_the_list_names_each_benchmark() -> None:
    assert [line.split()[0] for line in run("--list").stdout.splitlines()] == list(BENCHMARKS)


def test_an_unknown_name_is_refused_before_anything_runs() -> None:
    ran = run("nothing-of-that-name", "--json")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "nothing-of-that-name" in ran.stderr


@pytest.mark.parametrize(("unit", "ours", "theirs"), [(Unit.US, 2.0, 6.0), (Unit.PER_SECOND, 6.0, 2.0)])
async def test_a_ratio_above_one_means_that_ours_is_faster(unit: Unit, ours: float, theirs: float) -> None:
    bench = Bench("test", quick=False)
    await bench.measure([Case("case", unit, lambda: ours, "peer", lambda: theirs)])
    assert bench.results.ratios == {"case": 3.0}


@pytest.mark.parametrize(("more_is_better", "best"), [(True, 2), (False, 4)])
def test_a_peer_is_measured_with_the_number_of_threads_that_is_best_for_it(more_is_better: bool, best: int) -> None:
    bench, asked = Bench("test", quick=False), []

    def one(workers: int, rate: float) -> Callable[[], float]:
        def measure() -> float:
            asked.append(workers)
            return rate

        return measure

    measure = Best(bench, {1: one(1, 5.0), 2: one(2, 9.0), 4: one(4, 3.0)}).named("case", more_is_better)
    assert measure() == {2: 9.0, 4: 3.0}[best]
    assert set(asked) == {1, 2, 4}
    asked.clear()
    measure()
    assert asked == [best]
    assert bench.results.notes == {"diod's threads, case": f"{best} (1: 5, 2: 9, 4: 3)"}


async def test_runs_are_taken_in_turn_and_the_median_of_the_pairs_ratios_counts() -> None:
    """Between the pairs the machine gets slower; that must not show in the ratio."""
    order: list[str] = []
    slow = iter([1, 1, 1, 1, 2, 2, 40, 40])

    def ours() -> float:
        order.append("ours")
        return 1.0 * next(slow)

    async def theirs() -> float:
        order.append("theirs")
        return 5.0 * next(slow)

    bench = Bench("test", quick=False)
    await bench.measure([Case("case", Unit.MS, ours, "peer", theirs, runs=3)])
    assert order == ["ours", "theirs"] * 4
    assert bench.results.ratios == {"case": 5.0}
    assert bench.results.cases["case"]["runs"] == 3


def test_the_delay_proxy_gives_on_all_in_order_both_ways(tmp_path: Path) -> None:
    sent = [bytes([number]) * (1 + number * 7) for number in range(200)]
    door, target = str(tmp_path / "door"), str(tmp_path / "target")
    with listen(target) as far, delayed(2, (door, target)), connect(door) as near:
        reached, _ = far.accept()
        with reached:
            for there, here in ((near, reached), (reached, near)):
                for piece in sent:
                    there.sendall(piece)
                there.shutdown(socket.SHUT_WR)
                came = b""
                while data := here.recv(1 << 16):
                    came += data
                assert came == b"".join(sent)


def test_a_proxy_that_delays_less_than_it_says_measures_nothing() -> None:
    """Each run looks how long a trip took before it measures."""
    assert median_trip([20.0, 20.5, 31.0], 10) == 20.5
    with pytest.raises(RuntimeError, match=r"delays 9\.95 ms, not 10"):
        median_trip([19.9, 20.5, 31.0], 10)


def test_the_delay_proxy_ends_a_connection_whose_target_is_not_there(tmp_path: Path) -> None:
    door = str(tmp_path / "door")
    with delayed(0, (door, str(tmp_path / "nothing"))), connect(door) as near:
        assert near.recv(1) == b""


def test_a_line_that_is_held_passes_on_what_waits_when_it_is_mended(tmp_path: Path) -> None:
    door, target = str(tmp_path / "door"), str(tmp_path / "target")
    with listen(target) as far, delayed(0, (door, target)) as order, connect(door) as near:
        reached, _ = far.accept()
        far.setblocking(False)
        with reached:
            order("hold")
            near.sendall(b"held")
            near.shutdown(socket.SHUT_WR)
            reached.sendall(b"and back")
            with connect(door) as later:
                later.sendall(b"later")
                nothing_came(far.accept)
                nothing_came(lambda: reached.recv(1, socket.MSG_DONTWAIT))
                nothing_came(lambda: near.recv(1, socket.MSG_DONTWAIT))
                order("mend")
                assert (reached.recv(4, socket.MSG_WAITALL), reached.recv(1)) == (b"held", b"")
                assert near.recv(8, socket.MSG_WAITALL) == b"and back"
                far.setblocking(True)
                with far.accept()[0] as put_through:
                    assert put_through.recv(5, socket.MSG_WAITALL) == b"later"


def test_a_line_that_was_forgotten_passes_nothing_of_the_connections_that_there_were(tmp_path: Path) -> None:
    """Nor are they told; a connection that begins meanwhile or later is none of them."""
    door, target = str(tmp_path / "door"), str(tmp_path / "target")
    with listen(target) as far, delayed(0, (door, target)) as order, connect(door) as near:
        reached, _ = far.accept()
        with reached:
            order("forget")
            near.sendall(b"lost")
            with connect(door) as later:
                order("mend")
                near.sendall(b"lost too")
                later.sendall(b"later")
                with far.accept()[0] as put_through:
                    assert put_through.recv(5, socket.MSG_WAITALL) == b"later"
                    near.shutdown(socket.SHUT_WR)
                    put_through.sendall(b"back")
                    assert later.recv(4, socket.MSG_WAITALL) == b"back"
                nothing_came(lambda: reached.recv(1, socket.MSG_DONTWAIT))
                nothing_came(lambda: near.recv(1, socket.MSG_DONTWAIT))


def nothing_came(look: Callable[[], object]) -> None:
    with pytest.raises(BlockingIOError):
        look()


def test_an_order_that_is_none_is_refused(tmp_path: Path) -> None:
    with delayed(0) as order, pytest.raises(RuntimeError, match="the delay proxy does not fly"):
        order("fly")


def test_an_openssh_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssh, "SERVER", "/nothing/of/that/name")
    assert "apt-get install openssh-server" in openssh.missing()
    monkeypatch.setenv("PATH", "/nothing")
    assert "apt-get install sshfs" in openssh.sshfs_missing()


def test_an_sshfs_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "SFTP_SERVER", "/nothing/of/that/name")
    assert "apt-get install" in servers.sftp_missing()
