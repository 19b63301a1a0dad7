"""Runs the proof, and the proof against the kernel's mutants, on every processor; what `cognu verify` prints.

One job is one operation, or one mutant. Jobs are independent of each other, so they run in processes of their own; the
long ones first, that no processor waits at the end.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from time import perf_counter, process_time
from typing import Final, NamedTuple

import z3

from cognu.kernel import Kernel
from proofs.counterexample import replay, show
from proofs.effects import PARAMETERS
from proofs.fragment import outside
from proofs.invariants import INVARIANTS, LEMMAS
from proofs.machine import SCALARS, TABLES, sort_of
from proofs.mutants import Mutant, affected, build, mutants
from proofs.prover import (
    PAIR,
    Failure,
    Path,
    Questions,
    Raised,
    agrees,
    copied,
    elements_of,
    paths,
    prove,
    prove_lemma,
    prove_start,
    walk,
)
from proofs.refinement import NOT_SPECIFIED, refined
from proofs.symbolic import Run, Unbounded, explore
from proofs.theorems import STEPS, Goal

COST: Final = {
    "end_process_step": 30, "accept": 13, "end_endpoint_step": 8, "inherit": 8, "mint": 6, "receive": 6, "delete": 6,
    "reap_step": 5, "revoke_step": 4,
}  # fmt: skip
"""About how long the proof of an operation takes beside that of a small one; long ones are proved in several jobs."""

SHARE: Final = 12
"""About what one job may cost. Each job of an operation goes along all of its paths, and proves its own."""


class Result(NamedTuple):
    """What came of one job of the proof: how many paths there are, some state leads along, and some leads along to a
    success. `failures` has the lines of each counterexample. `resuming` is how many paths of a step some state in which
    steps are due leads along to a success.
    """

    operation: str
    paths: int
    possible: int
    succeeding: int
    theorems: int
    seconds: float
    failures: list[list[str]]
    resuming: int = 0


class Outcome(NamedTuple):
    """What came of one mutant: `caught` with a counterexample, `equivalent`, or `survived`."""

    mutant: str
    verdict: str
    by: str
    seconds: float
    lines: list[str]


def verify_operation(operation: str, shard: int = 0, shards: int = 1) -> Result:
    """Prove an operation of the shipping kernel, or every `shards`-th path of it."""
    begin = process_time()
    count = possible = succeeding = resuming = theorems = 0
    failures: list[list[str]] = []
    try:
        for number, path in enumerate(paths(Kernel, operation)):
            if number % shards != shard:
                continue
            proof = prove(path)
            count += 1
            possible += proof.possible
            succeeding += proof.succeeds
            resuming += proof.resumes
            theorems += proof.theorems
            if proof.failure is not None:
                failures.append(show(proof.failure))
    except (Raised, Unbounded) as error:
        failures.append([str(error)])
    seconds = process_time() - begin
    return Result(operation, count, possible, succeeding, theorems, seconds, failures, resuming)


def verify_refinement(operation: str, _shard: int, _shards: int) -> Result:
    """Prove that an operation agrees with the specification. Its paths were counted elsewhere."""
    begin = process_time()
    theorems = 0
    failures: list[list[str]] = []
    if operation not in NOT_SPECIFIED:
        for path, goals in refined(Kernel, operation):
            proof = agrees(path, goals)
            theorems += proof.theorems
            if proof.failure is not None:
                failures.append(show(proof.failure))
    return Result(operation, 0, 0, 0, theorems, process_time() - begin, failures)


def verify_ground(_operation: str, _shard: int, _shards: int) -> Result:
    """The source is what the executor models, the state a kernel begins in satisfies the invariants, and the lemmas
    follow from them.
    """
    begin = process_time()
    beyond = [[f"outside of what the proof models: {place}"] for place in outside()]
    failures = beyond + [[f"the state at the start: {name}"] for name in prove_start(Kernel)]
    failures += [[f"the lemma {lemma.says.name} does not follow"] for lemma in LEMMAS if not prove_lemma(Kernel, lemma)]
    return Result("(start, lemmas)", 1, 1, 1, len(INVARIANTS) + len(LEMMAS), process_time() - begin, failures)


def joined(parts: list[Result]) -> Result:
    """The jobs of one operation as one. An operation that no state lets succeed would be proved of nothing, and so
    would the loop of a step that never goes on.
    """
    failures = [failure for part in parts for failure in part.failures]
    succeeding = sum(part.succeeding for part in parts)
    if not succeeding:
        failures.append([f"{parts[0].operation}: from no state that satisfies the invariants does it succeed"])
    resuming = sum(part.resuming for part in parts)
    if parts[0].operation in STEPS and not resuming:
        failures.append([f"{parts[0].operation}: from no state in which steps are due does it succeed"])
    return Result(
        parts[0].operation, sum(part.paths for part in parts), sum(part.possible for part in parts), succeeding,
        sum(part.theorems for part in parts), sum(part.seconds for part in parts), failures, resuming,
    )  # fmt: skip


Progress = Callable[[float, float], None]
"""Is told which part is done, from 0 to 1, and how many seconds the rest will take by what it took so far."""


Job = tuple[Callable[[str, int, int], Result], str, int, int]


def pool() -> ProcessPoolExecutor:
    """Workers that start anew: a fork of a process with threads, or with a solver's state, is not to be had safely."""
    return ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))


def verify(progress: Progress) -> list[Result]:
    """The whole proof, by operation."""
    jobs: list[tuple[float, Job]] = []
    for operation in sorted(PARAMETERS, key=lambda name: -COST.get(name, 1)):
        shards = -(-COST.get(operation, 1) // SHARE)
        cost = COST.get(operation, 1) / shards
        jobs += [(cost, (verify_operation, operation, shard, shards)) for shard in range(shards)]
    jobs += [(1, (verify_refinement, operation, 0, 1)) for operation in PARAMETERS]
    jobs.append((1, (verify_ground, "", 0, 1)))
    total = sum(cost for cost, _ in jobs)
    begin = perf_counter()
    done = 0.0
    found: dict[str, list[Result]] = {}
    with pool() as workers:
        running = {workers.submit(work, name, shard, shards): cost for cost, (work, name, shard, shards) in jobs}
        for future in as_completed(running):
            result = future.result()
            found.setdefault(result.operation, []).append(result)
            done += running[future]
            progress(done / total, (perf_counter() - begin) / done * (total - done))
    order = ["(start, lemmas)", *PARAMETERS]
    return [joined(found[operation]) for operation in order]


class Reached:
    """Whether a path came by the place where a mutant differs."""

    def __init__(self) -> None:
        self.hit = False

    def __call__(self) -> None:
        self.hit = True

    def begin(self, _run: Run) -> None:
        self.hit = False


def examine(mutant: Mutant) -> Outcome:
    """Whether the proof fails for a mutant. Only the paths that come by the change are looked at: all others are the
    shipping kernel's, which are proved.
    """
    begin = process_time()
    reached = Reached()
    kernel = build(mutant, reached)

    def outcome(verdict: str, by: str, lines: list[str]) -> Outcome:
        return Outcome(mutant.name, verdict, by, process_time() - begin, lines)

    undecided = ""
    for operation in affected(mutant.function):
        try:
            for failure in failures_of(kernel, operation, reached):
                if failure.model is None:
                    undecided = f"{operation}: {', '.join(failure.goals)}"
                    continue
                differs = replay(kernel, failure)
                if differs:
                    return outcome("survived", operation, [f"the executor is wrong: {differs}", *show(failure)])
                return outcome("caught", operation, show(failure))
        except (Raised, Unbounded) as error:
            return outcome("caught", operation, [str(error)])
    if not undecided and all(equivalent(kernel, operation, reached) for operation in affected(mutant.function)):
        return outcome("equivalent", "", ["proved to do the same as the shipping kernel"])
    return outcome("survived", "", [undecided or "no theorem fails, and it is not the same"])


def failures_of(kernel: type, operation: str, reached: Reached) -> Iterator[Failure]:
    """What fails of an operation on the paths that come by a change. Which kind of goal shows it soonest is not known:
    theorems and refinement take turns, a path each.
    """
    trials = [theorems_of(kernel, operation, reached), refinement_of(kernel, operation, reached)]
    while trials:
        for trial in trials[:]:
            try:
                failure = next(trial)
            except StopIteration:
                trials.remove(trial)
                continue
            if failure is not None:
                yield failure


def theorems_of(kernel: type, operation: str, reached: Reached) -> Iterator[Failure | None]:
    for path in paths(kernel, operation, reached.begin):
        yield prove(path).failure if reached.hit else None


def refinement_of(kernel: type, operation: str, reached: Reached) -> Iterator[Failure | None]:
    if operation not in NOT_SPECIFIED:
        for path, goals in refined(kernel, operation, reached.begin):
            yield agrees(path, goals).failure if reached.hit else None


def equivalent(kernel: type, operation: str, reached: Reached) -> bool:
    """Whether an operation of a mutant returns the same and leaves the same state, wherever it begins."""
    made: list[tuple[bool, Path, Path]] = []

    def both(run: Run) -> None:
        reached.begin(run)
        changed = walk(run, kernel, operation)
        hit = reached.hit
        made.append((hit, changed, walk(run, Kernel, operation)))

    for _ in explore(both):
        hit, changed, shipped = made.pop()
        if hit and not same(changed, shipped):
            return False
    return True


def same(changed: Path, shipped: Path) -> bool:
    """Whether two paths from one state under one condition end alike."""
    touched = copied(changed.machine.touched)
    for sort, known in shipped.machine.touched.items():
        touched[sort] |= known
    if Questions(changed, touched).state(True) == z3.unsat:
        return True
    one, other = changed.after, shipped.after
    goals = [changed.call.result == shipped.call.result]
    goals += [getattr(one, name) == getattr(other, name) for name in SCALARS]
    for part, tables in TABLES.items():
        for name in tables:
            for at in PAIR[sort_of(part, name)][:1]:
                goals.append(getattr(getattr(one, part), name)(at) == getattr(getattr(other, part), name)(at))
    for machine in (changed.machine, shipped.machine):
        for sort, known in machine.touched.items():
            touched[sort] |= known
    said = [Goal(8, "the same", z3.simplify(goal)) for goal in goals]
    said = [goal for goal in said if not z3.is_true(goal.holds)]
    return not said or Questions(changed, touched).ask("", said, elements_of(touched)) is None


def examine_number(number: int) -> Outcome:
    return examine(mutants()[number])


def mutate(progress: Progress) -> list[Outcome]:
    """The proof against all mutants."""
    numbers = range(len(mutants()))
    begin = perf_counter()
    found: dict[int, Outcome] = {}
    with pool() as workers:
        running = {workers.submit(examine_number, number): number for number in numbers}
        for done, future in enumerate(as_completed(running), 1):
            found[running[future]] = future.result()
            spent = perf_counter() - begin
            progress(done / len(numbers), spent / done * (len(numbers) - done))
    return [found[number] for number in numbers]
