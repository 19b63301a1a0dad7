"""Paired measurements: ours and a peer's in turn, the ratio of each pair, the median of the ratios."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from inspect import isawaitable
from statistics import median, quantiles
from typing import Any, NamedTuple

from benchmarks.machine import load

BUDGET = 30.0
"""Seconds that the measuring of one benchmark may take in all; what it sets up and takes down comes on top."""
LEAST_PAIRS = 3

Measure = Callable[[], float | Awaitable[float]]
"""One run: its result in the case's unit."""


class Unit(Enum):
    """Text, and whether more of it is better."""

    US = ("us", False)
    MS = ("ms", False)
    MB = ("MB", False)
    PER_SECOND = ("/s", True)
    MB_PER_SECOND = ("MB/s", True)

    @property
    def text(self) -> str:
        return self.value[0]

    @property
    def more_is_better(self) -> bool:
        return self.value[1]


class Case(NamedTuple):
    """Something of ours to measure, beside a peer if there is one. `aim` says in words what we are after."""

    name: str
    unit: Unit
    ours: Measure
    peer: str = ""
    theirs: Measure | None = None
    runs: int = 9
    aim: str = ""


@dataclass
class Results:
    """What was found, as it is printed. `cases` and `figures` are rows ready for JSON."""

    ratios: dict[str, float] = field(default_factory=dict)
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)


class Bench:
    """One benchmark on its way: how large it may be, what it found, and its progress on stderr."""

    def __init__(self, name: str, quick: bool) -> None:
        """`quick`: only to see that everything works; sizes are tiny and the figures mean nothing."""
        self.name = name
        self.quick = quick
        self.results = Results()
        self._began = time.monotonic()

    def size(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual

    def miss(self, case: str, reason: str) -> None:
        """A peer, or a part of ours, is not there: said as such, and never taken for a pass."""
        self.results.missing[case] = reason
        self._say(f"{case}: missing: {reason}")

    def note(self, name: str, text: str) -> None:
        self.results.notes[name] = text

    async def measure(self, cases: Sequence[Case]) -> None:
        """Measure all, in their order, each within its share of the time that is left."""
        began = time.monotonic()
        for done, case in enumerate(cases):
            spent = time.monotonic() - began
            if done:
                left = min(spent / done * (len(cases) - done), BUDGET - spent)
                self._say(f"{case.name} ({done + 1} of {len(cases)}), about {max(left, 0):.0f} s left")
            else:
                self._say(f"{case.name} (1 of {len(cases)}), at most {BUDGET:.0f} s left")
            until = time.monotonic() + (BUDGET - spent) / (len(cases) - done)
            ours, theirs = await self._runs(case, until)
            self._keep(case, ours, theirs)
            self.results.load.append(load())

    async def _runs(self, case: Case, until: float) -> tuple[list[float], list[float]]:
        """All of ours and of theirs, taken in turn, the first pair unmeasured."""
        ours: list[float] = []
        theirs: list[float] = []
        await _run(case.ours)
        if case.theirs is not None:
            await _run(case.theirs)
        runs = 1 if self.quick else case.runs
        while len(ours) < runs and (len(ours) < min(LEAST_PAIRS, runs) or time.monotonic() < until):
            ours.append(await _run(case.ours))
            if case.theirs is not None:
                theirs.append(await _run(case.theirs))
        return ours, theirs

    def _keep(self, case: Case, ours: list[float], theirs: list[float]) -> None:
        row: dict[str, Any] = {"unit": case.unit.text, "runs": len(ours), "ours": _summary(ours)}
        if case.aim:
            row["aim"] = case.aim
        if case.theirs is None:
            self.results.figures[case.name] = row
            return
        pairs = [a / b if case.unit.more_is_better else b / a for a, b in zip(ours, theirs, strict=True)]
        self.results.ratios[case.name] = _round(median(pairs))
        self.results.cases[case.name] = {**row, "peer": case.peer, "theirs": _summary(theirs), "ratio": _summary(pairs)}

    def _say(self, text: str) -> None:
        print(f"{self.name}: {time.monotonic() - self._began:5.1f} s  {text}", file=sys.stderr, flush=True)


async def _run(measure: Measure) -> float:
    result = measure()
    return await result if isawaitable(result) else result


def _summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles: how far the runs lay apart says how much to believe."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"median": _round(median(values)), "low": _round(low), "high": _round(high)}


def _round(value: float) -> float:
    return float(f"{value:.4g}")
