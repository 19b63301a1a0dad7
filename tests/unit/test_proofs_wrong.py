"""Kernels that are wrong in ways that no single change to the shipping one makes: the proof fails for each."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from proofs import verify
from proofs.fragment import outside, violations
from proofs.prover import Failure, Raised, paths, prove

from cognu.cli import verify as command
from cognu.errors import E, FileError
from cognu.kernel import Kernel
from cognu.kernel.state import LIVE, Code, Sparse, Table
from cognu.node import proved


class TurnsBackInItsOwnCut(Kernel):
    def revoke_step(self, holder: int, slot: int, generation: int) -> int:
        if self.cursor:
            return -Code.INVALID if self.cut == slot and not self.cut_root else -Code.BUSY
        return super().revoke_step(holder, slot, generation)


class NeverReaps(Kernel):
    def reap_step(self) -> int:
        if self.cut:
            return -Code.BUSY
        if self.cursor:
            return -Code.INVALID
        self.died = 0
        return 0


class NeverEndsWhoSent(Kernel):
    def end_process_step(self, process: int) -> int:
        if self.cursor and not self.cut and self.processes.sent[process]:
            return -Code.QUOTA
        return super().end_process_step(process)


ADOPTED = verify.Reached()
"""Is told when a path comes by an adoption: what is wrong with those is shown on such a path alone."""


class GivesWhatIsSpareToAChild(Kernel):
    def _adopt(self, child: int) -> None:
        ADOPTED()
        processes = self.processes
        creator = processes.creator[child]
        if processes.quota[creator] - processes.used[creator] >= 5:
            processes.quota[child] += 5
            processes.used[creator] += 5
        super()._adopt(child)


class TakesFromAChild(Kernel):
    def _adopt(self, child: int) -> None:
        ADOPTED()
        processes = self.processes
        if processes.quota[child] > processes.used[child]:
            processes.quota[child] -= 1
            processes.used[processes.creator[child]] -= 1
        super()._adopt(child)


class KeepsOneBack(Kernel):
    """Who made the ending process has one less than it passed on."""

    def _adopt(self, child: int) -> None:
        ADOPTED()
        processes = self.processes
        process = processes.creator[child]
        super()._adopt(child)
        if processes.quota[process] > processes.used[process]:
            processes.quota[process] -= 1
            processes.used[processes.creator[process]] -= 1


class TakesANumberAgain(Kernel):
    def create_process(self, creator: int, quota: int) -> int:
        last = self.last_process
        if not self.cursor and last > creator and not self.processes.alive[last]:
            self.last_process = last - 1
            made = super().create_process(creator, quota)
            if made < 0:
                self.last_process = last
            return made
        return super().create_process(creator, quota)


class TakesAnEndpointAgain(Kernel):
    def create_endpoint(self, server: int) -> int:
        last = self.last_endpoint
        if not self.cursor and last and not self.endpoints.alive[last]:
            self.last_endpoint = last - 1
            made = super().create_endpoint(server)
            if made < 0:
                self.last_endpoint = last
            return made
        return super().create_endpoint(server)


class MovingToOneselfGivesTheParentsRights(Kernel):
    def move(self, holder: int, slot: int, generation: int, to: int) -> int:
        result = super().move(holder, slot, generation, to)
        rights, parent = self.slots.rights, self.slots.parent[slot]
        if result > 0 and to == holder and parent:
            rights[slot] = rights[slot] | rights[parent] | LIVE
        return result


class IsRefusedAtTheEnd(Kernel):
    """Busy without a reason, and not on a way of its own."""

    def bind(self, process: int, slot: int, generation: int, interface: int) -> int:
        return super().bind(process, slot, generation, interface) - (Code.BUSY if interface == 3 else 0)


LONG = pytest.mark.long  # the operation with most paths


@pytest.mark.parametrize(
    ("kernel", "operation", "broken"),
    [
        (TurnsBackInItsOwnCut, "revoke_step", "with none but its own steps due a step succeeds"),
        (NeverReaps, "reap_step", "with none but its own steps due a step succeeds"),
        (NeverEndsWhoSent, "end_process_step", "with none but its own steps due a step succeeds"),
        pytest.param(
            GivesWhatIsSpareToAChild, "end_process_step", "of another process the creator alone changes", marks=LONG
        ),
        pytest.param(TakesFromAChild, "end_process_step", "of another process the creator alone changes", marks=LONG),
        pytest.param(KeepsOneBack, "end_process_step", "the quota of the ending falls by what passes on", marks=LONG),
        (TakesANumberAgain, "create_process", "the number of a process is never used again"),
        (TakesAnEndpointAgain, "create_endpoint", "the number of an endpoint is never used again"),
        (MovingToOneselfGivesTheParentsRights, "move", "a capability is gained only from a holder"),
        (IsRefusedAtTheEnd, "bind", "busy is said only while other steps are due"),
    ],
)
def test_the_proof_fails_for_kernels_that_are_wrong_in_other_ways(kernel: type, operation: str, broken: str) -> None:
    failure = first_failure(kernel, operation, broken)
    assert failure is not None
    assert failure.model is not None
    assert failure.goals == [broken]


def first_failure(kernel: type, operation: str, broken: str) -> Failure | None:
    adopts = "_adopt" in vars(kernel)
    for path in paths(kernel, operation, ADOPTED.begin):
        failure = prove(path, broken).failure if ADOPTED.hit or not adopts else None
        if failure is not None:
            return failure
    return None


def test_a_step_that_never_goes_on_is_not_proved() -> None:
    part = verify.Result("reap_step", 2, 2, 1, 10, 0.1, [], 0)
    assert verify.joined([part]).failures == [["reap_step: from no state in which steps are due does it succeed"]]
    assert verify.joined([part, part._replace(resuming=1)]).failures == []


# What the executor does not model is refused before the proof


def test_the_kernel_is_within_what_the_proof_models() -> None:
    assert outside() == []


def test_what_is_beyond_it_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify.verify_ground("", 0, 1).failures == []
    monkeypatch.setattr(verify, "outside", lambda: ["tables.py:3: while 1:"])
    assert verify.verify_ground("", 0, 1).failures == [["outside of what the proof models: tables.py:3: while 1:"]]


METHOD = """
from cognu.kernel.state import QUEUED, Code
from cognu.kernel.lists import link
from cognu.kernel.tables import Capabilities

class Kernel(Capabilities):
    def operation(self, slot: int, rights: int) -> int:
        slots = self.slots
        {}
        return 0
"""


@pytest.mark.parametrize(
    "statement",
    [
        "if isinstance(slot, int) and slot == 7777: return 0",
        "if slot is rights: return 0",
        "if slot is not rights: return 0",
        "if type(slot) == int: return 0",
        "if hash(slot) == 3: return 0",
        "if id(slot) == 3: return 0",
        "if getattr(slot, 'run', 0): return 0",
        "if slot.real: return 0",
        "if slot.__class__: return 0",
        "if self.__dict__: return 0",
        "if slots: return 0",
        "if slots.rights: return 0",
        "if slot in slots.rights: return 0",
        "if 0 < slot < 3: return 0",
        "if (slot, 1) == (1, 1): return 0",
        "if callable(lambda: slot): return 0",
        "if (rights := slot): return 0",
        "if eval('slot'): return 0",
        "if slots.rights[slot:]: return 0",
        "if slots.rights.get(slot): return 0",
        "if len(slots.rights): return 0",
        "if [slot][0]: return 0",
        "if {slot: 1}[slot]: return 0",
        "if f'{slot}': return 0",
        "if slot == 1.5: return 0",
        "if slot == 'a': return 0",
        "if slot == None: return 0",
        "if slot / 2: return 0",
        "if slot % 2: return 0",
        "if slot << 2: return 0",
        "if Code(slot): return 0",
        "if Code.BUSY.value: return 0",
        "if unknown: return 0",
        "if Kernel.counter: return 0",
        "try: pass\n        except TypeError: return 0",
        "while slot: slot -= 1",
        "for slot in slots.rights: pass",
        "global counter",
        "import os",
        "del slots.rights[slot]",
        "assert slot",
        "raise ValueError",
        "with slot: pass",
        "def inner() -> int: return 0",
        "self.counter = 1",
        "self.slots = slots",
        "self.slots.rights = slots.badge",
        "slots.rights = slots.badge",
        "slots = self.endpoints",
        "Kernel.operation = slot",
        "Code.BUSY = slot",
        "QUEUED = slot",
        "table = slots.rights",
        "a, b = slot",
        "slot, rights = rights, slot, 0",
        "slots.rights.clear()",
        "super().operation(slot, rights)",
        "Capabilities.operation(self, slot, rights)",
        "self.check(*slots)",
        "self.check(holder=slot)",
        "self.__init__()",
        "print(slot)",
        "setattr(self, 'cursor', 1)",
        "await slot",
        "yield slot",
    ],
)
def test_what_the_proof_does_not_model_is_found(statement: str) -> None:
    assert violations(METHOD.format(statement)) != []


@pytest.mark.parametrize(
    "statement",
    [
        "if slot == 7777 and not rights | 3: return -Code.BUSY",
        "slot, rights = rights, slot",
        "self.cursor, slots.rights[slot] = slot + 1, ~rights & QUEUED",
        "self.cursor = self.check(slot, 1) if slot else self.free",
        "link(slots.first, slots.next, slots.prev, slot, rights)",
        "self.processes.used[slot] -= slots.holder[slot] * 2",
    ],
)
def test_what_the_proof_models_is_allowed(statement: str) -> None:
    assert violations(METHOD.format(statement)) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tables.py", "import os"),
        ("tables.py", "from os import getpid"),
        ("tables.py", "from cognu.kernel.lists import link as push"),
        ("tables.py", "from cognu.kernel.lists import *"),
        ("tables.py", "counter = 0"),
        ("tables.py", "class Kernel(dict):\n    pass"),
        ("tables.py", "@cache\nclass Kernel:\n    'x'"),
        ("tables.py", "class Kernel(metaclass=M):\n    'x'"),
        ("tables.py", "class Kernel:\n    counter = 0"),
        ("tables.py", "class Kernel:\n    @property\n    def cursor(self) -> int:\n        return 0"),
        ("tables.py", "class Kernel:\n    def __getattr__(self, name: int) -> int:\n        return 0"),
        ("tables.py", "class Kernel:\n    def f(self, slot: int = 0) -> int:\n        return 0"),
        ("tables.py", "class Kernel:\n    def f(self, *slot: int) -> int:\n        return 0"),
        ("tables.py", "class Kernel:\n    def f(self, slot: str) -> int:\n        return 0"),
        ("tables.py", "class Kernel:\n    async def f(self, slot: int) -> int:\n        return 0"),
        ("tables.py", "class Kernel:\n    def __init__(self) -> None:\n        self.counter = 0"),
        ("tables.py", "class Kernel:\n    def __init__(self) -> None:\n        self.cursor = 7"),
        ("tables.py", "class Kernel:\n    def __init__(self) -> None:\n        print()"),
        ("lists.py", "def link(heads: Table, owner: int) -> None:\n    if heads:\n        heads[owner] = 0"),
        ("lists.py", "def link(heads: Table, owner: int) -> None:\n    heads = owner"),
        ("lists.py", "def link(heads: Table, owner: int) -> int:\n    return heads == heads"),
        ("state.py", "SEND: Final = compute()"),
        ("state.py", "class Slots:\n    def __init__(self) -> None:\n        self.rights = Other()"),
        ("state.py", "class Slots:\n    def __init__(self) -> None:\n        self.counter = Table()"),
        ("state.py", "class Slots:\n    def __getattribute__(self, name: str) -> Table:\n        return Table()"),
        ("state.py", "class Sparse(Table):\n    def __getitem__(self, index: int) -> int:\n        return 0"),
        ("state.py", "Table.__missing__ = 3"),
        ("__init__.py", "Kernel.check = 3"),
        ("__init__.py", "__all__ = [patch()]"),
    ],
)
def test_what_a_module_may_not_hold_is_found(name: str, text: str) -> None:
    assert violations(text, name) != []


@pytest.mark.parametrize("table", [Table, Sparse])
def test_a_table_reads_what_was_written_last_and_nothing_else_changes(table: type[Table]) -> None:
    assert forgets(table) == ""


class ForgetsSeven(Sparse):
    def __setitem__(self, index: int, value: int) -> None:
        super().__setitem__(index, 0 if index == 7 else value)


class KeepsTheFirst(Table):
    def __setitem__(self, index: int, value: int) -> None:
        self.setdefault(index, value)


class WritesWhenRead(Table):
    def __missing__(self, index: int) -> int:
        self[index] = 0
        return 0


class ClearsTheNext(Sparse):
    def __setitem__(self, index: int, value: int) -> None:
        super().__setitem__(index, value)
        if not value:
            self.pop(index + 1, None)


class ReadsMinusOne(Table):
    def __missing__(self, index: int) -> int:
        return -1


@pytest.mark.parametrize("table", [ForgetsSeven, KeepsTheFirst, WritesWhenRead, ClearsTheNext, ReadsMinusOne])
def test_a_table_that_is_wrong_is_found(table: type[Table]) -> None:
    assert forgets(table) != ""


def forgets(kind: type[Table]) -> str:
    """Where a table differs from a function of ints, as which the proof has it: 0 everywhere at first, and after a
    write what was written there. All histories of three writes at a few numbers; and each number up to 300 alone, which
    goes beyond those that CPython has only once.
    """
    values = (0, 1, -1)
    writes = list(product((-1, 0, 7, 8), values))
    for history in (*product(writes, repeat=3), *(((index, 5),) for index in range(300))):
        table, expected = kind(), dict[int, int]()
        for index, value in history:
            table[index] = value
            expected[index] = value
            for at in (-1, 0, 1, 6, 7, 8, 9, index, 1 << 40):
                if table[at] != expected.get(at, 0):
                    return f"after {history}: {at} is {table[at]}"
        if set(table) - set(expected):
            return f"after {history}: numbers that were only read are kept"
        if isinstance(table, Sparse) and 0 in table.values():
            return f"after {history}: a zero is kept"
    return ""


class ComparesAnAnswer(Kernel):
    """On ints `True == 1`; a symbolic bool is no term, and would be unequal to everything."""

    def check(self, holder: int, slot: int, generation: int, rights: int) -> int:
        if (slot == 7777) == 1:
            return 0
        return super().check(holder, slot, generation, rights)


def test_an_answer_that_is_compared_is_refused_and_not_taken_for_another() -> None:
    with pytest.raises(Raised, match="beside a symbolic bool"):
        list(paths(ComparesAnAnswer, "check"))


# The record


def test_with_other_theorems_it_is_another_proof(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(proved, "files", lambda package: tmp_path)
    (tmp_path / "theorems.py").write_text("holds = True\n")
    (tmp_path / "mutants.py").write_text("mutants = 3\n")
    before = proved.proof_hash()
    (tmp_path / "mutants.py").write_text("mutants = 4\n")
    assert proved.proof_hash() == before
    (tmp_path / "theorems.py").write_text("holds = None\n")
    assert proved.proof_hash() != before


def test_nothing_is_recorded_of_what_was_changed_meanwhile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(proved, "files", lambda package: tmp_path)
    monkeypatch.setattr(command, "files", lambda package: tmp_path)
    kernel, proof = proved.kernel_hash(), proved.proof_hash()
    for changed in ((proof[::-1], proof), (kernel, proof[::-1])):
        with pytest.raises(FileError) as caught:
            command.keep(*changed)
        assert caught.value.error is E.STALE
    assert not (tmp_path / proved.RECORD).exists()
    command.keep(kernel, proof)
    assert (proved.proved_hash(), proved.proved_hash("proof")) == (kernel, proof)
