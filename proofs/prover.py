"""Proves one operation: every path of it, every invariant and theorem after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, Final, NamedTuple

import z3

from proofs.effects import PARAMETERS, READ_ONLY, RESULTS, Call
from proofs.invariants import INVARIANTS, LEMMAS, Invariant, Lemma
from proofs.machine import Machine, View
from proofs.symbolic import WIDTH, Bits, Num, Run, explore, leaves, solver
from proofs.theorems import (
    STEPS,
    Charged,
    Goal,
    accounts,
    bindings,
    checked,
    confinement,
    deaths,
    frame,
    messages,
    numbers,
    refusal,
    steps,
    turns,
)

# Every term is checked for its sort by Python's binding, and once more by the solver itself. The latter will do.
z3.z3.Z3_DEBUG = False

TIMEOUT: Final = 60_000
"""Milliseconds for one question to the solver; without an answer until then the proof has failed."""

FRESH: Final = {name: z3.Int(name) for name in ("d", "a", "q", "r", "e", "f", "m", "n", "k")}
PAIR: Final = {
    "slot": (FRESH["d"], FRESH["a"]),
    "process": (FRESH["q"], FRESH["r"]),
    "endpoint": (FRESH["e"], FRESH["f"]),
    "message": (FRESH["m"], FRESH["n"]),
    "binding": (FRESH["k"],),
    "place": (z3.Int("l"),),
}


Touched = dict[str, dict[int, Any]]


class Raised(Exception):
    """An operation raised an exception, or returned what is no int: it is not total."""


class Failure(NamedTuple):
    """A theorem that does not hold, or that the solver could not decide (then there is no model)."""

    operation: str
    goals: list[str]
    model: Any
    path: Path


class Path(NamedTuple):
    """One way through an operation, with the state before and after."""

    run: Run
    machine: Machine
    before: View
    after: View
    call: Call


def argument(run: Run, name: str, kind: str) -> Num | Bits:
    if kind == "bits":
        return Bits(run, z3.BitVec(f"arg.{name}", WIDTH))
    return Num(run, z3.Int(f"arg.{name}"))


def paths(kernel: type, operation: str, begun: Callable[[Run], None] = lambda run: None) -> Iterator[Path]:
    """Every path of an operation of a kernel. `begun` is told of each run before it begins."""
    made: list[Path] = []

    def once(run: Run) -> None:
        begun(run)
        made.append(walk(run, kernel, operation))

    for _ in explore(once):
        yield made.pop()


def walk(run: Run, kernel: type, operation: str) -> Path:
    """One operation along one path."""
    machine = Machine(run, kernel)
    parameters = PARAMETERS[operation]
    arguments = {name: argument(run, name, kind) for name, kind in parameters.items()}
    try:
        result = getattr(machine.kernel, operation)(*arguments.values())
    except Exception as error:
        raise Raised(f"{operation} raises {type(error).__name__}: {error}") from error
    if isinstance(result, int):
        result = Num(run, z3.IntVal(int(result)))
    if not isinstance(result, Num):
        raise Raised(f"{operation} returns {result!r}")
    for name, kind in parameters.items():
        if kind in machine.touched:
            machine.touch(kind, arguments[name].expr)
    if operation in RESULTS:
        machine.touch(RESULTS[operation], result.expr)
    given = {name: value.expr for name, value in arguments.items()}
    elements = (FRESH[name] for name in ("d", "a", "q", "e", "m", "k"))
    call = Call(operation, given, result.expr, *elements)
    return Path(run, machine, View(machine, False), View(machine, True), call)


def theorem_goals(path: Path) -> list[Goal]:
    v, w, c = path.before, path.after, path.call
    found: list[Goal] = checked(v, c) if c.name == "check" else []
    # Where the result is a term, it can be both; then all that is said of either is asked.
    found += [goal._replace(holds=z3.Implies(c.result < 0, goal.holds)) for goal in refusal(v, w, c)]
    if path.run.solver.check(c.result >= 0) == z3.unsat:
        return found
    done = confinement(v, w, c) + frame(v, w, c) + steps(v, w, c) + messages(v, w, c) + bindings(v, w, c)
    done += accounts(v, w, c, written(path.machine))
    if c.name not in READ_ONLY:
        done += deaths(v, w, c) + numbers(v, w, c)
    return found + [goal._replace(holds=z3.Implies(c.result >= 0, goal.holds)) for goal in done]


def written(machine: Machine) -> Charged:
    """What may be charged otherwise than before."""
    return Charged(
        distinct(machine, "slots.endpoint", "slots.holder"),
        distinct(machine, "messages.state", "messages.sender"),
        distinct(machine, "processes.alive", "processes.creator", "processes.quota"),
    )


def distinct(machine: Machine, *tables: str) -> list[Any]:
    known = {leaf.get_id(): leaf for name in tables for _, at, _ in machine.tables[name].log for leaf in leaves(at)}
    return list(known.values())


def together() -> dict[tuple[tuple[str, ...], str], list[Invariant]]:
    """The invariants that are said of the same elements: those of two by the list they are about."""
    found: dict[tuple[tuple[str, ...], str], list[Invariant]] = {}
    for invariant in (*INVARIANTS, *(lemma.says for lemma in LEMMAS)):
        about = invariant.chain if len(invariant.sorts) == 2 else ""
        found.setdefault((invariant.sorts, about), []).append(invariant)
    return found


TOGETHER: Final = together()
CACHE: Final[dict[tuple[Any, ...], Any]] = {}
GENERAL: Final[dict[tuple[tuple[str, ...], str], Any]] = {}


def hypotheses(path: Path, about: str, terms: dict[str, list[Any]], known: dict[str, list[Any]]) -> Iterator[Any]:
    """The invariants before the operation at these elements, but for those that are assumed at the known ones alone:
    with no list to be about those of less than two elements, else those of two that are about that list, or kinship.
    """
    for sorts, chain in TOGETHER:
        if chain != about or (not sorts and known):
            continue
        old = [{element.ast.value for element in known.get(sort, ())} for sort in sorts]
        for elements in product(*(terms[sort] for sort in sorts)):
            ids = [element.ast.value for element in elements]
            if len(ids) == 2 and ids[0] == ids[1]:
                continue
            if not (sorts and all(one in there for one, there in zip(ids, old, strict=True))):
                yield before(path, sorts, chain, elements, (*ids,))


def before(path: Path, sorts: tuple[str, ...], about: str, elements: tuple[Any, ...], ids: tuple[int, ...]) -> Any:
    """Invariants before the operation, which are the same on every path: they are made once, and then put in place."""
    key = (sorts, about, ids)
    if key not in CACHE:
        said = TOGETHER[sorts, about]
        general = fresh(said[0])
        if (sorts, about) not in GENERAL:
            GENERAL[sorts, about] = z3.And(*(invariant.holds(path.before, *general) for invariant in said))
        made = z3.substitute(GENERAL[sorts, about], *zip(general, elements, strict=True))
        # The terms are kept with what was made of them, so that no other takes their place in memory.
        CACHE[key] = (made, elements)
    return CACHE[key][0]


def charge_before(v: View, process: Any, charge: Callable[[View, Any, Any], Any], item: Any) -> Any:
    return charge(v, item, process)


def sums(path: Path, processes: list[Any], known: list[Any]) -> Iterator[Any]:
    """What an account uses is the sum of its charges, so at least that of some of them; and none makes 0."""
    v = path.before
    charged = written(path.machine)
    old = {process.ast.value for process in known}
    for process in processes:
        if process.ast.value not in old:
            yield v.processes.used(process) >= charged.total(partial(charge_before, v, process))
            nothing = z3.And(
                v.processes.held(process) == 0, v.processes.sent(process) == 0, v.processes.first(process) == 0
            )
            yield z3.Implies(nothing, v.processes.used(process) == 0)


class Questions:
    """What is asked about one path. Its solver has the condition of the path and the invariants at what the operation
    touched; above that those of one list, which change with what the questions are about; above that a question's own.
    """

    def __init__(self, path: Path, operation: Touched) -> None:
        self.path, self.known, self.about = path, elements_of(operation), ""
        self.solver = solver()
        self.solver.set("timeout", TIMEOUT)
        self.solver.add(*path.run.condition)
        self.solver.add(*hypotheses(path, "", self.known, {}), *sums(path, self.known["process"], []))

    def turn(self, about: str) -> None:
        """From here on the questions are about this list; kinship if about none."""
        about = about or "anc"
        if about != self.about:
            self.leave()
            self.solver.push()
            self.solver.add(*hypotheses(self.path, about, self.known, {}))
            self.about = about

    def leave(self) -> None:
        """From here on they are about single elements alone."""
        if self.about:
            self.solver.pop()
            self.about = ""

    def state(self, where: Any) -> Any:
        """Whether a state that satisfies the invariants leads along the path to where this holds, as Z3 answers."""
        self.turn("")
        self.solver.push()
        self.solver.add(where)
        answer = self.solver.check()
        self.solver.pop()
        return answer

    def ask(self, about: str, goals: list[Goal], terms: dict[str, list[Any]]) -> Failure | None:
        """Whether all of these goals follow; if not, a state in which one does not."""
        if not about and self.follow(goals, terms):
            return None
        self.turn(about)
        self.solver.push()
        try:
            return self._ask(goals, terms)
        finally:
            self.solver.pop()

    def follow(self, goals: list[Goal], terms: dict[str, list[Any]]) -> bool:
        """Whether these goals follow without kinship, which takes less time, and mostly will do."""
        self.leave()
        self.solver.push()
        self.solver.add(*hypotheses(self.path, "", terms, self.known))
        self.solver.add(*sums(self.path, terms["process"], self.known["process"]))
        self.solver.add(z3.Or(*(z3.Not(goal.holds) for goal in goals)))
        answer = self.solver.check()
        self.solver.pop()
        return bool(answer == z3.unsat)

    def _ask(self, goals: list[Goal], terms: dict[str, list[Any]]) -> Failure | None:
        asked, path = self.solver, self.path
        asked.add(*hypotheses(path, "", terms, self.known), *hypotheses(path, self.about, terms, self.known))
        asked.add(*sums(path, terms["process"], self.known["process"]))
        asked.add(z3.Or(*(z3.Not(goal.holds) for goal in goals)))
        answer = asked.check()
        if answer == z3.unsat:
            return None
        if answer == z3.unknown:
            return Failure(path.call.name, [f"not decided: {asked.reason_unknown()}"], None, path)
        model = smallest(asked, terms, path)
        broken = [goal.name for goal in goals if not z3.is_true(model.eval(goal.holds, model_completion=True))]
        return Failure(path.call.name, broken, model, path)


class Proof(NamedTuple):
    """What came of one path: whether any state leads along it, how many theorems hold after it, or which do not;
    whether any state leads along it to a success, and whether one in which steps are due does.
    """

    possible: bool
    theorems: int
    failure: Failure | None = None
    succeeds: bool = False
    resumes: bool = False


def prove(path: Path, about: str = "") -> Proof:
    """All theorems of one path, or those alone whose names begin so, up to the first group in which one fails."""
    operation = copied(path.machine.touched)
    questions = Questions(path, operation)
    done = z3.simplify(path.call.result >= 0)
    succeeds = not z3.is_false(done) and questions.state(done) == z3.sat
    if not succeeds and questions.state(True) == z3.unsat:
        return Proof(False, 0)
    resumes = succeeds and path.call.name in STEPS and goes_on(path, questions)
    count = 0
    for chain, goals, terms in groups(path, operation):
        goals = [goal for goal in goals if goal.name.startswith(about) and not trivial(goal)]
        if goals:
            failure = questions.ask(chain, goals, terms)
            if failure is not None:
                return Proof(True, count, failure, succeeds, resumes)
            count += len(goals)
    return Proof(True, count, None, succeeds, resumes)


def goes_on(path: Path, questions: Questions) -> bool:
    """Whether a state in which steps are due leads along the path to a success."""
    due = z3.And(path.before.cursor != 0, path.call.result >= 0)
    return bool(path.run.solver.check(due) == z3.sat and questions.state(due) == z3.sat)


def agrees(path: Path, goals: list[Goal]) -> Proof:
    """Whether the goals of refinement hold after a path."""
    goals = [goal for goal in goals if not trivial(goal)]
    if not goals:
        return Proof(True, 0)
    questions = Questions(path, copied(path.machine.touched))
    if questions.state(True) == z3.unsat:
        return Proof(False, 0)
    return Proof(True, len(goals), questions.ask("", goals, questions.known))


def trivial(goal: Goal) -> bool:
    return goal.holds is True or z3.is_true(z3.simplify(goal.holds))


def groups(path: Path, operation: Touched) -> Iterator[tuple[str, list[Goal], dict[str, list[Any]]]]:
    """The goals: the invariants by the list they are about, and the theorems; each with the elements to assume at."""
    machine = path.machine
    changed = machine.changed()
    for about, invariants in BY_LIST.items():
        machine.touched = copied(operation)
        goals = []
        for invariant in invariants:
            elements = fresh(invariant)
            if changed & reads(path, invariant):
                goals.append(Goal(invariant.group, invariant.name, invariant.holds(path.after, *elements)))
                for sort, element in zip(invariant.sorts, elements, strict=True):
                    machine.touch(sort, element)
        if goals:
            yield about, goals, elements_of(machine.touched)
        if about == "anc":
            machine.touched = copied(operation)
            goals = theorem_goals(path)
            yield "", goals, elements_of(machine.touched)
    machine.touched = copied(operation)
    for about, goals in turns(path.before, path.after, path.call).items():
        said = [goal._replace(holds=z3.Implies(path.call.result >= 0, goal.holds)) for goal in goals]
        yield about, said, elements_of(machine.touched)


def reads(path: Path, invariant: Invariant) -> set[str]:
    """The tables and scalars that an invariant speaks of: if none of them changed, it says what it said before."""
    if invariant.name not in READS:
        seen: set[str] = set()
        invariant.holds(View(path.machine, False, seen), *fresh(invariant))
        READS[invariant.name] = seen
    return READS[invariant.name]


READS: Final[dict[str, set[str]]] = {}
BY_LIST: Final[dict[str, list[Invariant]]] = {"": [], "anc": []}
"""What is asked together: of no list, then of kinship, so that its hypotheses need not be put again; then by list."""
for _invariant in INVARIANTS:
    BY_LIST.setdefault(_invariant.chain, []).append(_invariant)


def copied(touched: Touched) -> Touched:
    return {sort: dict(known) for sort, known in touched.items()}


def elements_of(touched: Touched) -> dict[str, list[Any]]:
    return {sort: list(known.values()) for sort, known in touched.items()}


def fresh(invariant: Invariant) -> list[Any]:
    counts: dict[str, int] = {}
    elements = []
    for sort in invariant.sorts:
        elements.append(PAIR[sort][counts.get(sort, 0)])
        counts[sort] = counts.get(sort, 0) + 1
    return elements


SMALL: Final = 9
"""A counterexample is shown with numbers below this if there is one."""


def smallest(asked: Any, terms: dict[str, list[Any]], path: Path) -> Any:
    """A model with small numbers, if there is one: they are easier to read."""
    model = asked.model()
    named = [term for sort in ("slot", "process", "endpoint", "message") for term in terms[sort]]
    named += [value for value in path.call.given.values() if not z3.is_bv(value)]
    asked.set("timeout", 1000)
    if asked.check(*(z3.And(term >= -1, term < SMALL) for term in named)) == z3.sat:
        model = asked.model()
    asked.set("timeout", TIMEOUT)
    return model


def prove_lemma(kernel: type, lemma: Lemma) -> bool:
    """Whether a lemma follows from the invariants at the elements that it names."""
    run = Run([])
    machine = Machine(run, kernel)
    view = View(machine, False)
    elements = fresh(lemma.says)
    terms = lemma.at(view, *elements)
    asked = solver()
    asked.set("timeout", TIMEOUT)
    for invariant in INVARIANTS:
        for chosen in product(*(terms.get(sort, []) for sort in invariant.sorts)):
            asked.add(invariant.holds(view, *chosen))
    asked.add(z3.Not(lemma.says.holds(view, *elements)))
    return bool(asked.check() == z3.unsat)


def prove_start(kernel: type) -> list[str]:
    """The invariants that a new kernel does not satisfy."""
    run = Run([])
    machine = Machine(run, kernel, start=kernel())
    view = View(machine, False)
    broken = []
    for invariant in INVARIANTS:
        asked = solver()
        asked.set("timeout", TIMEOUT)
        asked.add(z3.Not(invariant.holds(view, *fresh(invariant))))
        if asked.check() != z3.unsat:
            broken.append(invariant.name)
    return broken
