"""`python -m benchmarks [NAME …] [--json] [--quick]`, from the top of the repository; without names, all."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import uvloop

from benchmarks.machine import CAN_PIN, load, machine
from benchmarks.measure import Bench

BENCHMARKS = {
    "start": "a cached WASI program, from its start to its end, beside fork and exec, and wasmtime's own classes",
    "hostcall": "a call from a guest to Python, beside wasmtime's own classes",
    "kernel": "operations on capabilities and messages, beside a small kernel; file operations, beside no check",
    "link": "a channel between two nodes on loopback, beside a blocking TLS socket and plain TCP",
    "ninep": "a node's 9P server over a directory of the host, beside diod",
    "trips": "far files over links with a delay, beside diod, sshfs and single requests",
    "trees": "a far tree of 5,000 files: how much comes of asking for many at once, and how much of compounds",
    "mesh": "two machines: joining, after a cut, far files beside sshfs and ssh with tar, links beside plain TLS",
    "node": "from nothing to a node that answers, to a prompt; memory of an idle node",
}


def main() -> int:
    options = _arguments()
    if options.list:
        for name, what in BENCHMARKS.items():
            print(f"{name:10}{what}")
        return 0
    for name in options.names or BENCHMARKS:
        result = _run(name, options.quick)
        print(json.dumps(result) if options.json else _table(result), flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure Cognu beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all if none is given")
    parser.add_argument("--json", action="store_true", help="one JSON object per benchmark, one per line")
    parser.add_argument("--quick", action="store_true", help="only see that everything works: the figures mean nothing")
    parser.add_argument("--list", action="store_true", help="say what there is")
    options = parser.parse_args()
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark is called {name}; --list says what there is")
    return options


def _run(name: str, quick: bool) -> dict[str, Any]:
    """Run one benchmark; what it found, as the JSON object to print."""
    run: Callable[[Bench], Coroutine[Any, Any, None]] = import_module(f"benchmarks.{name}").run
    bench = Bench(name, quick)
    began, load_before = time.monotonic(), load()
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    uvloop.run(run(bench))
    found = bench.results
    return {
        "benchmark": name,
        "quick": quick,
        "date": date,
        "seconds": round(time.monotonic() - began, 1),
        "machine": {**machine(), "pinned": CAN_PIN, "load": {"before": load_before, "during": max(found.load or [0])}},
        "ratios": found.ratios,
        "missing": found.missing,
        "cases": found.cases,
        "figures": found.figures,
        "notes": found.notes,
    }


def _table(result: dict[str, Any]) -> str:
    """For people: a line per case."""
    lines = [f"{result['benchmark']}: {BENCHMARKS[result['benchmark']]}"]
    for name, row in (result["cases"] | result["figures"]).items():
        line = f"  {name:44} {_number(row['ours']['median']):>9} {row['unit']:5}"
        if "theirs" in row:
            line += f" {row['peer']} {_number(row['theirs']['median'])}: {row['ratio']['median']:.3g} times as fast"
        if "aim" in row:
            line += f"  (aim: {row['aim']})"
        lines.append(line)
    lines += [f"  {name:44} missing: {reason}" for name, reason in result["missing"].items()]
    lines += [f"  {name}: {text}" for name, text in result["notes"].items()]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
