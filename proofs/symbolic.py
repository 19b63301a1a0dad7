"""A symbolic executor for loop-free Python over tables of ints: it runs a function on Z3 terms, once for each path.

A term answers `bool()` by asking the `Run` it belongs to. The run decides, notes the condition and, where both
answers are possible, asks to be run again with the other one. As the functions hold no loop, the runs come to an
end, and together they are every path. Feasibility is decided from the conditions of the path alone.

Rights are bit vectors of `WIDTH`, although Python's ints have no end. The operations on them (`|`, `&`, `~`, is it
0) treat all bits alike, and no bit above LIVE has a name; of infinitely many unnamed bits a theorem about one path
can tell apart at most as many as it makes non-zero tests, of which there are fewer than `WIDTH` - 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import z3

WIDTH: Final = 16
MAX_PATHS: Final = 4000
MAX_DECISIONS: Final = 200

TRUE: Final = z3.BoolVal(True)
FALSE: Final = z3.BoolVal(False)


class Unbounded(Exception):
    """An operation has more paths, or a longer one, than it may: it holds a loop."""


class Truth:
    """A symbolic bool. Whoever asks which one it is decides the path."""

    __slots__ = ("expr", "run")

    def __init__(self, run: Run, expr: Any) -> None:
        self.run, self.expr = run, expr

    def __bool__(self) -> bool:
        return self.run.decide(self.expr)

    def __eq__(self, other: object) -> bool:
        raise TypeError(f"{other!r} beside a symbolic bool")

    __hash__ = None  # type: ignore[assignment]


class Term:
    """What ints and bits have in common: they can be compared, and asked whether they are not 0."""

    __slots__ = ("expr", "run")

    def __init__(self, run: Run, expr: Any) -> None:
        self.run, self.expr = run, expr

    def lift(self, other: Any) -> Any:
        """The Z3 term for the other side of an operation."""
        raise NotImplementedError

    def __eq__(self, other: object) -> Truth:  # type: ignore[override]
        return Truth(self.run, self.expr == self.lift(other))

    def __ne__(self, other: object) -> Truth:  # type: ignore[override]
        return Truth(self.run, self.expr != self.lift(other))

    def __hash__(self) -> int:
        """By identity: what is put into a set is not compared."""
        return id(self)

    def __bool__(self) -> bool:
        return self.run.decide(self.expr != self.lift(0))


class Num(Term):
    """A symbolic int."""

    def lift(self, other: Any) -> Any:
        if isinstance(other, Num):
            return other.expr
        if isinstance(other, int):
            return z3.IntVal(int(other))
        raise TypeError(f"{other!r} beside a symbolic int")

    def __add__(self, other: Any) -> Num:
        return Num(self.run, self.expr + self.lift(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Num:
        return Num(self.run, self.expr - self.lift(other))

    def __rsub__(self, other: Any) -> Num:
        return Num(self.run, self.lift(other) - self.expr)

    def __mul__(self, other: int) -> Num:
        if not isinstance(other, int):
            raise TypeError(f"a symbolic int times {other!r}")
        return Num(self.run, self.expr * other)

    def __neg__(self) -> Num:
        return Num(self.run, -self.expr)

    def __lt__(self, other: Any) -> Truth:
        return Truth(self.run, self.expr < self.lift(other))

    def __le__(self, other: Any) -> Truth:
        return Truth(self.run, self.expr <= self.lift(other))

    def __gt__(self, other: Any) -> Truth:
        return Truth(self.run, self.expr > self.lift(other))

    def __ge__(self, other: Any) -> Truth:
        return Truth(self.run, self.expr >= self.lift(other))


class Bits(Term):
    """A symbolic int that is used bit by bit."""

    def lift(self, other: Any) -> Any:
        if isinstance(other, Bits):
            return other.expr
        if isinstance(other, int) and 0 <= other < 1 << WIDTH:
            return z3.BitVecVal(int(other), WIDTH)
        raise TypeError(f"{other!r} beside symbolic bits")

    def __or__(self, other: Any) -> Bits:
        return Bits(self.run, self.expr | self.lift(other))

    __ror__ = __or__

    def __and__(self, other: Any) -> Bits:
        return Bits(self.run, self.expr & self.lift(other))

    __rand__ = __and__

    def __invert__(self) -> Bits:
        return Bits(self.run, ~self.expr)


def solver() -> Any:
    """A solver for the questions that come up here, for which Z3's older arithmetic takes a quarter less."""
    made = z3.SimpleSolver()
    made.set("arith.solver", 2)
    return made


class Frame:
    """One way through a region whose ways are merged."""

    def __init__(self, prefix: list[bool]) -> None:
        self.prefix = prefix
        self.taken: list[bool] = []
        self.condition: list[Any] = []
        self.forks: list[list[bool]] = []


class Run:
    """One path: the decisions it was given, those it made, and its condition."""

    def __init__(self, prefix: list[bool]) -> None:
        self.top = Frame(prefix)
        self.frames = [self.top]
        self.solver = solver()
        self.marked = False
        """Whether the path came by the place where a mutant differs."""
        self.saved: list[Any] = []
        """What takes part in merging: objects with `mark`, `cut` and `join`."""

    def decide(self, condition: Any) -> bool:
        condition = z3.simplify(condition)
        if z3.is_true(condition):
            return True
        if z3.is_false(condition):
            return False
        frame = self.frames[-1]
        at = len(frame.taken)
        if at >= MAX_DECISIONS:
            raise Unbounded(f"a path with more than {MAX_DECISIONS} decisions")
        if at < len(frame.prefix):
            answer = frame.prefix[at]
        else:
            answer = self._possible(condition)
            if answer and self._possible(z3.Not(condition)):
                frame.forks.append([*frame.taken, False])
        frame.taken.append(answer)
        said = condition if answer else z3.Not(condition)
        frame.condition.append(said)
        if frame is self.top:
            self.solver.add(said)
        return answer

    def _possible(self, condition: Any) -> bool:
        inner = [said for frame in self.frames[1:] for said in frame.condition]
        return bool(self.solver.check(*inner, condition) != z3.unsat)

    @property
    def condition(self) -> list[Any]:
        return self.top.condition

    def merged(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function through all of its ways, and go on with one state and one result that are all of theirs."""
        marks = [item.mark() for item in self.saved]
        pending: list[list[bool]] = [[]]
        ways: list[tuple[Any, Any, list[Any]]] = []
        while pending:
            frame = Frame(pending.pop())
            self.frames.append(frame)
            result = function(*args)
            self.frames.pop()
            pending += frame.forks
            guard = z3.And(*frame.condition) if frame.condition else TRUE
            ways.append((guard, result, [item.cut(mark) for item, mark in zip(self.saved, marks, strict=True)]))
        for number, item in enumerate(self.saved):
            item.join([(guard, parts[number]) for guard, _, parts in ways])
        results = [result for _, result, _ in ways]
        if all(result is None for result in results):
            return None
        merged = raw(results[0])
        for guard, result, _ in ways[1:]:
            merged = choose(guard, raw(result), merged)
        return Num(self, merged)


Write = tuple[Any, Any, Any]


class Sym:
    """A table of ints with a symbolic content: a function of nothing known, and the writes since."""

    def __init__(self, run: Run, name: str, base: Callable[[Any], Any], kind: type[Term], touch: Callable[[Any], None]):
        self.run, self.name, self.base, self.kind, self.touch = run, name, base, kind, touch
        self.log: list[Write] = []
        self.on_write: Callable[[Any, Any], None] | None = None
        run.saved.append(self)

    def __getitem__(self, index: Any) -> Term:
        at = raw(index)
        self.touch(at)
        return self.kind(self.run, read(self.base, self.log, at))

    def __setitem__(self, index: Any, value: Any) -> None:
        at = raw(index)
        self.touch(at)
        stored = self.kind(self.run, None).lift(value)
        self.log.append((TRUE, at, stored))
        if self.on_write is not None:
            self.on_write(at, stored)

    def mark(self) -> int:
        return len(self.log)

    def cut(self, mark: int) -> list[Write]:
        written = self.log[mark:]
        del self.log[mark:]
        return written

    def join(self, ways: list[tuple[Any, list[Write]]]) -> None:
        for guard, writes in ways:
            self.log += [(both(guard, within), at, value) for within, at, value in writes]


class Cell:
    """A symbolic int that is no table: one of the kernel's scalars, or of the proof's own."""

    def __init__(self, run: Run, expr: Any) -> None:
        self.expr = expr
        run.saved.append(self)

    def mark(self) -> Any:
        return self.expr

    def cut(self, mark: Any) -> Any:
        expr, self.expr = self.expr, mark
        return expr

    def join(self, ways: list[tuple[Any, Any]]) -> None:
        for guard, expr in ways:
            if expr.ast.value != self.expr.ast.value:
                self.expr = choose(guard, expr, self.expr)


def read(base: Callable[[Any], Any], log: list[Write], at: Any) -> Any:
    """What stands at `at` after the writes of `log`."""
    start = 0
    value = None
    for number in range(len(log) - 1, -1, -1):
        guard, index, stored = log[number]
        if guard is TRUE and index.ast.value == at.ast.value:
            start, value = number + 1, stored
            break
    if value is None:
        value = base(at)
    for guard, index, stored in log[start:]:
        same = equal(index, at)
        if same is not FALSE:
            value = choose(both(guard, same), stored, value)
    return value


# Most of what the executor does is to make terms of these four kinds. Z3's binding looks at the sorts of all that it is
# given first, which takes longer than the rest of it; here they are known.
CONTEXT: Final = z3.main_ctx()


def equal(left: Any, right: Any) -> Any:
    """Whether two ints are the same."""
    if left.ast.value == right.ast.value:
        return TRUE
    if isinstance(left, z3.IntNumRef) and isinstance(right, z3.IntNumRef):
        return FALSE
    return z3.BoolRef(z3.Z3_mk_eq(CONTEXT.ref(), left.ast, right.ast), CONTEXT)


def both(left: Any, right: Any) -> Any:
    if left is TRUE:
        return right
    if right is TRUE:
        return left
    return z3.BoolRef(z3.Z3_mk_and(CONTEXT.ref(), 2, (z3.Ast * 2)(left.ast, right.ast)), CONTEXT)


def choose(guard: Any, yes: Any, no: Any) -> Any:
    """One of two terms of one sort."""
    if guard is TRUE or yes.ast.value == no.ast.value:
        return yes
    made = z3.Z3_mk_ite(CONTEXT.ref(), guard.ast, yes.ast, no.ast)
    return like(yes)(made, CONTEXT)


def like(term: Any) -> Any:
    """The class of the terms of a term's sort."""
    if isinstance(term, z3.ArithRef):
        return z3.ArithRef
    return z3.BitVecRef if isinstance(term, z3.BitVecRef) else z3.BoolRef


def unknown(name: str, bits: bool) -> Callable[[Any], Any]:
    """A function of ints of which nothing is known; of bits or of ints."""
    declared = z3.Function(name, z3.IntSort(), z3.BitVecSort(WIDTH) if bits else z3.IntSort())
    sort = z3.BitVecRef if bits else z3.ArithRef

    def apply(at: Any) -> Any:
        return sort(z3.Z3_mk_app(CONTEXT.ref(), declared.ast, 1, (z3.Ast * 1)(at.ast)), CONTEXT)

    return apply


def raw(value: Any) -> Any:
    """The Z3 term of an int."""
    if isinstance(value, Num):
        return value.expr
    if isinstance(value, int):
        return z3.IntVal(int(value))
    raise TypeError(f"{value!r} instead of an int")


def leaves(term: Any) -> Iterator[Any]:
    """What a term may be: itself, or whatever its cases are."""
    if z3.is_app_of(term, z3.Z3_OP_ITE):
        yield from leaves(term.arg(1))
        yield from leaves(term.arg(2))
    else:
        yield term


def explore(function: Callable[[Run], None]) -> Iterator[Run]:
    """Each path of a function of a run, as the run that took it. Raises what the function raises, or `Unbounded`."""
    pending: list[list[bool]] = [[]]
    count = 0
    while pending:
        run = Run(pending.pop())
        function(run)
        pending += run.top.forks
        count += 1
        if count > MAX_PATHS:
            raise Unbounded(f"more than {MAX_PATHS} paths")
        yield run
