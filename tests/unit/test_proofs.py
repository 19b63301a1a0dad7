"""The proof of the kernel: it holds, it can fail, and it is of the kernel that runs.

All mutants are for `make interop`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import z3
from click.testing import CliRunner
from proofs import verify
from proofs.effects import EFFECTS, PARAMETERS, Call
from proofs.mutants import CHEAP_FIRST, Mutant, build, functions, mutants, sources
from proofs.prover import agrees, paths, prove
from proofs.refinement import refined
from proofs.symbolic import MAX_DECISIONS, Num, Run, Sym, Unbounded, explore

from cognu.cli import verify as command
from cognu.cli.main import run, verbs
from cognu.kernel import Kernel
from cognu.kernel.state import INTERFACES, PLACES, Code
from cognu.node import proved

FIXED = (
    "emit_message: without self._enqueue(message)",
    "emit_message: without self.last_message += 1",
    "receive: without self._clear_places(message)",
    "receive: as if not endpoints.newest[endpoint]",
    "_let_go: without self._enqueue(message)",
    "emit_answer: without if self._lost(message): ...",
    "take: without if not self._lost(message): ...",
    "cancel: without self._let_go(message)",
    "enclose: as if moved",
    "enclose: without of != giver of ",
    "accept: without self._clear(at)",
    "bind: without self._bind(process, slot, interface)",
    "bound: as if not slot",
    "inherit: without if self.cursor: ...",
    "check: without not (rights | LIVE) & ~slots.rights[slot] of ",
    "mint: without if processes.used[to] >= processes.quota[to]: ...",
    "move: without self._announce(slot)",
    "delete: without self._bury(slot)",
    "delete: without self._drop(slot)",
    "reap_step: without self._drop(self.cursor)",
    "revoke_step: without self.cut != slot of ",
    "revoke_step: without self.cut != slot or self.cut_root of ",
    "create_endpoint: without self.last_endpoint += 1",
    "end_endpoint_step: without self.cut != root or not self.cut_root of ",
    "create_process: without processes.used[creator] += quota + 1",
    "link: without before[old] = item",
    "unlink: without heads[owner] = behind",
    "_enqueue: push(endpoints.newest, endpoints.oldest, messages.next, messages.prev, endpoint, message) has its links",
    "mint: processes.used[to] >= processes.quota[to] has >",
    "mint: -Code.BADGE is 0",
    "accept: without if self.cursor: ...",
    "end_endpoint_step: -Code.BUSY is -Code.NO_MESSAGE",
    "create_process: processes.used[creator] += quota + 1 has -",
    "emit_answer: messages.state[message] = ANSWERED has CANCELLED",
    "end_process_step: return 1 has 0",
    "push: without tails[owner] = item",
    "pull: without tails[owner] = before[item]",
    "_announce: without self.slots.generation[slot] += 1",
    "_new_slot: without slots.badge[slot] = badge",
    "_charge: without self.processes.used[process] += 1",
    "_uncharge: without self.processes.used[process] -= 1",
    "_free: without self.free = slot",
    "_bury: without self.slots.rights[slot] = 0",
    "_drop: without self._fail(message)",
    "_cut_step: without self._free(at)",
    "_adopt: without processes.creator[child] = above",
    "_forget: without processes.alive[process] = 0",
    "_dequeue: as if not endpoints.newest[endpoint]",
    "_ready: without push(",
    "_unready: without pull(",
    "_fail: without self._dequeue(message)",
    "_abandon: without self._let_go(message)",
    "_charge_message: without self.messages.sender[message] = process",
    "_uncharge_message: without self.processes.used[process] -= 1",
    "_pass_units: without processes.quota[process] -= units",
    "_forget_message: without messages.handler[message] = 0",
    "_clear_places: without self._clear(message * PLACES + 2)",
    "_clear: without self.messages.cap_slot[at] = 0",
    "_bind: without self.slots.interface[slot] = interface",
    "_unbind: without slots.interface[slot] = 0",
)
"""The mutants that are examined here: of each operation, and of what they share. All of them in `make interop`."""


PARTS = 30
"""Of all mutants, each a test, so that the workers share them."""


def silent(_part: float, _seconds: float) -> None:
    pass


def silent_place() -> None:
    """Is told whenever a mutant's place is come by."""


@pytest.mark.timeout(900)
def test_the_kernel_is_proved() -> None:
    results = verify.verify(silent)
    assert [result.failures for result in results if result.failures] == []
    assert [result.operation for result in results[1:]] == list(PARAMETERS)
    assert all(result.succeeding and result.theorems for result in results)


def test_the_record_is_of_the_kernel_and_by_the_proof_that_are_here() -> None:
    """After a change of the kernel or of the proof: `cognu verify --record`."""
    assert proved.proved_hash() == proved.kernel_hash()
    assert proved.proved_hash("proof") == proved.proof_hash()
    assert proved.verdict().endswith(", verified")


def test_every_operation_of_the_kernel_is_proved() -> None:
    operations = {name for name in dir(Kernel) if not name.startswith("_")}
    assert operations == set(PARAMETERS) == set(EFFECTS) == set(CHEAP_FIRST)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_proof_fails_for_every_mutant(part: int) -> None:
    mine = mutants()[part::PARTS]
    assert len(mine) >= 10
    for mutant in mine:
        outcome = verify.examine(mutant)
        assert outcome.verdict != "survived", outcome
        assert outcome.lines


@pytest.mark.long
def test_all_mutants_are_examined_each_once_and_told_of_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first = mutants()[:4]
    monkeypatch.setattr(verify, "mutants", lambda: first)
    told: list[float] = []
    outcomes = verify.mutate(lambda part, _seconds: told.append(part))
    assert [outcome.mutant for outcome in outcomes] == [mutant.name for mutant in first]
    assert told == [0.25, 0.5, 0.75, 1.0]


def named(text: str) -> list[Mutant]:
    return [mutant for mutant in mutants() if f" {text}" in mutant.name]


def test_of_each_function_of_the_kernel_that_has_mutants_one_is_examined_here() -> None:
    assert {mutant.function for change in FIXED for mutant in named(change)} == {each.function for each in mutants()}
    # Of one expression each: the wrong kernels below have the first, the second is said by what calls it.
    whole = {function.name for tree in sources().values() for function in functions(tree)}
    assert whole - {mutant.function for mutant in mutants()} == {"next_message", "_lost"}


@pytest.mark.parametrize("change", FIXED)
def test_the_proof_fails_without_a_piece_of_the_kernel(change: str) -> None:
    found = named(change)
    assert found
    for mutant in found:
        outcome = verify.examine(mutant)
        assert outcome.verdict == "caught", outcome


class StoresMoved(Kernel):
    def enclose(self, giver: int, message: int, place: int, slot: int, generation: int, rights: int, moved: int) -> int:
        return super().enclose(giver, message, place, slot, generation, rights, 1)


class StoresAllRights(Kernel):
    def enclose(self, giver: int, message: int, place: int, slot: int, generation: int, rights: int, moved: int) -> int:
        result = super().enclose(giver, message, place, slot, generation, rights, moved)
        if not result and not moved:
            self.messages.cap_rights[message * PLACES + place] = self.slots.rights[slot]
        return result


class DoesNothing(Kernel):
    def enclose(self, giver: int, message: int, place: int, slot: int, generation: int, rights: int, moved: int) -> int:
        return -Code.BUSY if self.cursor else 0


class EmptiesTheNextPlaceToo(Kernel):
    def enclose(self, giver: int, message: int, place: int, slot: int, generation: int, rights: int, moved: int) -> int:
        result = super().enclose(giver, message, place, slot, generation, rights, moved)
        if not result and place + 1 < PLACES:
            self._clear(message * PLACES + place + 1)
        return result


class SaysNothingWaits(Kernel):
    def next_message(self, server: int) -> int:
        return 0


class GivesTheNewest(Kernel):
    def next_message(self, server: int) -> int:
        return self.endpoints.newest[self.processes.turn[server]]


class GivesWhatIsNewlyReady(Kernel):
    def next_message(self, server: int) -> int:
        return self.endpoints.oldest[self.processes.ready[server]]


@pytest.mark.parametrize(
    ("kernel", "operation", "broken"),
    [
        (StoresMoved, "enclose", "enclosing promises what was asked for"),
        (StoresAllRights, "enclose", "enclosing promises what was asked for"),
        (DoesNothing, "enclose", "enclosing promises what was asked for"),
        (EmptiesTheNextPlaceToo, "enclose", "other places stay"),
        (SaysNothingWaits, "next_message", "there is a next message if any waits"),
        (GivesTheNewest, "next_message", "the next message waited longest at its endpoint"),
        (GivesWhatIsNewlyReady, "next_message", "the next message is of the endpoint whose turn it is"),
    ],
)
def test_the_proof_fails_for_wrong_kernels(kernel: type, operation: str, broken: str) -> None:
    # Of all that is wrong in a counterexample the solver may choose any; so it is asked about this theorem alone.
    failures = [failure for path in paths(kernel, operation) if (failure := prove(path, broken).failure)]
    assert {goal for failure in failures for goal in failure.goals} == {broken}


class UnbindsNothing(Kernel):
    def _unbind(self, slot: int) -> None:
        self.slots.interface[slot] = 0


def test_what_the_specification_deletes_must_be_gone() -> None:
    failures = []
    for path, goals in refined(UnbindsNothing, "move"):
        failures.append(agrees(path, [goal for goal in goals if goal.name == "unbound as specified"]).failure)
    assert any(failure and failure.goals == ["unbound as specified"] for failure in failures)


def test_an_operation_that_never_succeeds_is_not_proved() -> None:
    class Refuses(Kernel):
        def take(self, sender: int, message: int) -> int:
            return -Code.NO_MESSAGE

    (path,) = paths(Refuses, "take")
    proof = prove(path)
    assert proof.possible
    assert not proof.succeeds
    part = verify.Result("take", 1, proof.possible, proof.succeeds, 2, 0.1, [])
    assert verify.joined([part]).failures == [["take: from no state that satisfies the invariants does it succeed"]]


class AsksInAnotherOrder(Kernel):
    def bound(self, process: int, interface: int) -> int:
        slot = self.processes.bound[process * INTERFACES + interface]
        if interface >= INTERFACES or interface <= 0:
            return -Code.INVALID
        return -Code.NO_HANDLER if slot == 0 else slot


class TakesOneTooMany(Kernel):
    def bound(self, process: int, interface: int) -> int:
        if interface <= 0 or interface > INTERFACES:
            return -Code.INVALID
        return self.processes.bound[process * INTERFACES + interface] or -Code.NO_HANDLER


class Everywhere(verify.Reached):
    def begin(self, _run: Run) -> None:
        self.hit = True


@pytest.mark.parametrize(("kernel", "same"), [(AsksInAnotherOrder, True), (TakesOneTooMany, False)])
def test_only_what_does_the_same_is_called_equivalent(kernel: type, same: bool) -> None:
    assert verify.equivalent(kernel, "bound", Everywhere()) is same


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("check: without slots.holder[slot] == holder", "check says yes to the holder of the rights alone"),
        ("create_process: without if processes.used[creator] + quota + 1", "account is within its quota"),
        ("create_process: without processes.creator[process] = creator", "made: "),
        ("bind: without if self.cursor", "nothing else happens while steps are due"),
    ],
)
def test_a_counterexample_names_what_is_broken_and_shows_the_state(change: str, broken: str) -> None:
    (mutant,) = named(change)
    outcome = verify.examine(mutant)
    failures = [prove(path, broken).failure for path in paths(build(mutant, silent_place), outcome.by)]
    assert any(failure and failure.model is not None for failure in failures)
    assert outcome.verdict == "caught"
    assert outcome.lines[0].startswith(f"{outcome.by}(")
    assert any(line.startswith("broken: ") for line in outcome.lines)
    assert any(line.startswith(("slot ", "process ", "message ")) for line in outcome.lines)


# The executor itself


def test_every_way_through_a_function_is_taken_once() -> None:
    seen: list[tuple[bool, bool]] = []

    def function(made: Run) -> None:
        a, b = Num(made, z3.Int("a")), Num(made, z3.Int("b"))
        seen.append((bool(a < b), bool(a + 1 < b)))

    assert len(list(explore(function))) == 3
    assert sorted(seen) == [(False, False), (True, False), (True, True)]


def test_a_loop_is_found_out() -> None:
    def function(made: Run) -> None:
        number = Num(made, z3.Int("a"))
        while number > 0:
            number = number - 1

    with pytest.raises(Unbounded, match=str(MAX_DECISIONS)):
        list(explore(function))


@pytest.mark.parametrize("merge", [False, True])
def test_a_merged_function_leaves_what_its_ways_leave(merge: bool) -> None:
    """The same theorem, with the ways apart and together: a table keeps the larger of two numbers."""

    def keep(table: Sym, left: Num, right: Num) -> None:
        table[0] = left
        if left < right:
            table[0] = right

    def function(made: Run) -> None:
        table = Sym(made, "t", z3.Function("t", z3.IntSort(), z3.IntSort()), Num, lambda at: None)
        left, right = Num(made, z3.Int("left")), Num(made, z3.Int("right"))
        if merge:
            made.merged(keep, table, left, right)
        else:
            keep(table, left, right)
        kept = table[0].expr
        assert made.solver.check(z3.Not(z3.And(kept >= left.expr, kept >= right.expr))) == z3.unsat
        assert made.solver.check(z3.And(kept != left.expr, kept != right.expr)) == z3.unsat

    assert len(list(explore(function))) == (1 if merge else 2)


# The command


RESULT = verify.Result("mint", 3, 2, 1, 40, 1.5, [])
BROKEN = verify.Result("mint", 3, 2, 1, 39, 1.5, [["mint(holder=1) = 2", "broken: a death is told"]])


def test_the_table_says_what_was_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "verify", lambda progress: [RESULT])
    result = CliRunner().invoke(verbs, ["verify"], standalone_mode=False)
    assert result.return_value == 0
    assert "mint" in result.stdout
    assert f"kernel {proved.kernel_hash()[:16]} is proved" in result.stdout
    assert re.search(r"^all +3 +40 +1\.5 +in \d+\.\d s by the clock$", result.stdout, re.MULTILINE)
    result = CliRunner().invoke(verbs, ["verify", "--json"], standalone_mode=False)
    said = json.loads(result.stdout)
    assert said["proved"] is True
    assert said["kernel"] == proved.kernel_hash()
    assert said["proof"] == proved.proof_hash()
    assert said["operations"][0]["theorems"] == 40
    assert said["processor_seconds"] == said["operations"][0]["seconds"] == 1.5
    assert said["seconds"] > 0


def test_what_fails_is_shown_with_its_state_and_makes_the_status_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(verify, "verify", lambda progress: [BROKEN])
    monkeypatch.setattr(command, "keep", kept.append)
    result = CliRunner().invoke(verbs, ["verify", "--record"], standalone_mode=False)
    assert result.return_value == 1
    assert "broken: a death is told" in result.stdout
    assert "is NOT proved" in result.stdout
    assert kept == []


def test_a_mutant_that_survives_makes_the_status_one(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = verify.Outcome("tables.py:1 mint: without x", "caught", "mint", 0.1, ["mint(holder=1) = 2"])
    survived = verify.Outcome("tables.py:2 mint: without y", "survived", "", 0.1, ["no theorem fails"])
    for outcomes, status in (([caught], 0), ([caught, survived], 1)):
        monkeypatch.setattr(verify, "mutate", lambda progress, outcomes=outcomes: outcomes)
        result = CliRunner().invoke(verbs, ["verify", "--mutate"], standalone_mode=False)
        assert result.return_value == status
        assert "mint: without x: caught by mint" in result.stdout


def test_the_record_is_written_and_another_kernel_is_not_called_verified(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(proved, "files", lambda package: tmp_path)
    monkeypatch.setattr(command, "files", lambda package: tmp_path)
    (tmp_path / "tables.py").write_text("a = 1\n")
    assert "not verified" in proved.verdict()
    command.keep(proved.kernel_hash(), proved.proof_hash())
    assert proved.verdict().endswith(", verified")
    assert proved.proved_hash("proof") == proved.proof_hash()
    (tmp_path / "tables.py").write_text("a = 2\n")
    assert "not verified" in proved.verdict()
    for damaged in ("", "[]", "{}", '{"kernel": 1}', "\ud800"):
        (tmp_path / "proved.json").write_bytes(damaged.encode("utf-8", "surrogatepass"))
        assert proved.proved_hash() == ""


def test_without_the_solver_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "proofs", None)
    assert run(["verify"]) == 1
    assert "pip install 'cognu[verify]'" in capsys.readouterr().err


def test_recording_mutants_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--mutate", "--record"]) == 2
    assert "--record" in capsys.readouterr().err


def test_a_call_names_the_elements_that_theorems_speak_of() -> None:
    assert Call._fields[3:] == ("d", "a", "q", "e", "m", "k")
