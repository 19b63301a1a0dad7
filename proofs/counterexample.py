"""A counterexample in words: the elements of a state that a proof looked at, before the operation and after it.

The rest of the state is left open, so it is shown to no one. What is shown is not only the solver's word: the
operation is run once more, on ints, from that very state, and must come to the same end.
"""

from __future__ import annotations

from typing import Any

import z3

from cognu.kernel.state import CREATE, EXECUTE, GRANT, LIVE, READ, SEND, WRITE, Code, Table
from proofs.machine import BASE, SCALARS, SORTS, TABLES, sort_of
from proofs.prover import Failure, Path
from proofs.symbolic import WIDTH

RIGHTS = ((SEND, "SEND"), (GRANT, "GRANT"), (READ, "READ"), (WRITE, "WRITE"), (EXECUTE, "EXECUTE"), (CREATE, "CREATE"))


class Modelled(Table):
    """A table that reads what the model has where nothing was written."""

    __slots__ = ("function", "model")

    def __init__(self, model: Any, function: Any) -> None:
        super().__init__()
        self.model, self.function = model, function

    def __missing__(self, index: int) -> int:
        return number(self.model, self.function(z3.IntVal(index)))


def number(model: Any, term: Any) -> int:
    value = model.eval(term, model_completion=True)
    return int(value.as_long())


def rights(bits: int) -> str:
    named = [name for bit, name in RIGHTS if bits & bit]
    if bits & LIVE:
        named.append("live")
    other = bits & ~(2 * LIVE - 1)
    return "|".join([*named, *([hex(other)] if other else [])]) or "0"


def show(failure: Failure) -> list[str]:
    """The counterexample, as lines: the call, what is broken, and each element that was looked at and is not blank."""
    path, model = failure.path, failure.model
    call = path.call
    if model is None:
        return [f"{call.name}: {', '.join(failure.goals)}"]
    kinds = {name: rights if z3.is_bv(value) else str for name, value in call.given.items()}
    given = ", ".join(f"{name}={kinds[name](number(model, value))}" for name, value in call.given.items())
    result = number(model, call.result)
    said = f"-{Code(-result).name}" if result < 0 and -result in set(Code) else str(result)
    lines = [f"{call.name}({given}) = {said}", *(f"broken: {name}" for name in failure.goals)]
    lines += scalars(path, model)
    for part, sort in SORTS.items():
        for element in elements(path, model, sort):
            line = row(path, model, part, element)
            if line:
                lines.append(f"{sort} {element}: {line}")
    return lines


def scalars(path: Path, model: Any) -> list[str]:
    found = []
    for name in SCALARS:
        before, after = (number(model, getattr(view, name)) for view in (path.before, path.after))
        if before or after:
            found.append(f"{name} {before}" if before == after else f"{name} {before} -> {after}")
    return [", ".join(found)] if found else []


def elements(path: Path, model: Any, sort: str) -> list[int]:
    """Which elements the operation, the theorems and the arguments speak of."""
    terms = [*path.machine.touched[sort].values()]
    call = path.call
    terms += {"slot": [call.d, call.a], "process": [call.q], "endpoint": [call.e], "message": [call.m]}[sort]
    return sorted({number(model, term) for term in terms} - (set() if sort == "process" else {0}))


ALWAYS = {
    "slots": ("endpoint", "generation", "holder", "rights", "badge", "parent"),
    "processes": ("alive", "creator", "quota", "used"),
    "endpoints": ("alive", "server", "root"),
    "messages": ("state", "sender", "handler", "endpoint", "slot", "generation", "wanted"),
}
"""What is shown of an element though it did not change; the first says whether there is one at all."""


def row(path: Path, model: Any, part: str, element: int) -> str:
    """The fields of one element that tell what it is, and those that changed, with what they became."""
    found = []
    changed = False
    for name, kind in TABLES[part].items():
        if sort_of(part, name) != SORTS[part]:
            continue
        at = z3.IntVal(element)
        before, after = (number(model, getattr(getattr(v, part), name)(at)) for v in (path.before, path.after))
        changed = changed or before != after
        if before != after or (before and name in ALWAYS[part]):
            said = rights if kind == "bits" else str
            found.append(f"{name} {said(before)}" + ("" if before == after else f" -> {said(after)}"))
    there = number(model, getattr(getattr(path.before, part), ALWAYS[part][0])(z3.IntVal(element)))
    return ", ".join(found) if changed or there else ""


def replay(kernel: type, failure: Failure) -> str:
    """Run the operation on ints from the counterexample's state; what came out otherwise than the executor had it, or
    nothing.
    """
    path, model = failure.path, failure.model
    real = kernel()
    for part, tables in TABLES.items():
        for name in tables:
            setattr(getattr(real, part), name, Modelled(model, BASE[f"{part}.{name}"]))
    for name in SCALARS:
        setattr(real, name, number(model, getattr(path.before, name)))
    given = [number(model, value) for value in path.call.given.values()]
    result = getattr(real, path.call.name)(*given)
    if result != number(model, path.call.result):
        return f"{path.call.name} returned {result}, not {number(model, path.call.result)}"
    for name in SCALARS:
        if getattr(real, name) != number(model, getattr(path.after, name)):
            return f"{name} is {getattr(real, name)}"
    for name, table in path.machine.tables.items():
        part, _, field = name.partition(".")
        if part not in TABLES:
            continue
        for _, at, _ in table.log:
            index = number(model, at)
            found = getattr(getattr(real, part), field)[index] & mask(name)
            if found != number(model, getattr(getattr(path.after, part), field)(z3.IntVal(index))) & mask(name):
                return f"{name}[{index}] is {found}"
    return ""


def mask(name: str) -> int:
    part, _, field = name.partition(".")
    return (1 << WIDTH) - 1 if TABLES[part][field] == "bits" else -1
