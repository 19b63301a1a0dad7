"""`verify`: the proof of the kernel, carried out here and now. It needs no node."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from cognu.cli.setting import Setting, table, verb
from cognu.errors import E, FileError, from_oserror
from cognu.node.proved import RECORD, kernel_hash, proof_hash, proved_hash, verdict

if TYPE_CHECKING:
    from proofs.verify import Outcome, Result


@verb("verify", "cognu verify")
@click.option("--mutate", is_flag=True, help="Prove that the proof fails for every kernel with a piece missing.")
@click.option("--record", is_flag=True, help="Keep the hashes of the proved source and of the proof (in a checkout).")
def verify_verb(setting: Setting, mutate: bool, record: bool) -> int:
    """Prove the kernel that is installed here. Half a minute or so on two idle processors; many with `--mutate`."""
    if mutate and record:
        raise FileError(E.USAGE, "verify", "--record goes with the proof, not with --mutate")
    runner = _runner()
    if mutate:
        return _mutants(setting, runner.mutate(progress))
    kernel, proof = kernel_hash(), proof_hash()
    begin = perf_counter()
    results = runner.verify(progress)
    seconds = perf_counter() - begin
    failed = any(result.failures for result in results)
    if record and not failed:
        keep(kernel, proof)
    show(setting, results, seconds)
    return 1 if failed else 0


def _runner() -> Any:
    """The proof's own modules; they are needed here alone."""
    try:
        from proofs import verify
    except ModuleNotFoundError as error:
        raise FileError(E.NOSOLVER, "verify", f"no module {error.name}") from None
    return verify


def progress(part: float, seconds: float) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        end = "\n" if part > 0.999 else ""
        click.echo(f"\r{part:5.0%}, about {seconds:.0f} s left   {end}", err=True, nl=False)


def keep(kernel: str, proof: str) -> None:
    """Write the record. What ran must be what stands there now. Raises STALE, and what writing a file does."""
    if kernel != kernel_hash():
        raise FileError(E.STALE, "the kernel's source", "it was changed while it was proved")
    if proof != proof_hash():
        raise FileError(E.STALE, "the proof's source", "it was changed while it ran")
    path = Path(str(files("cognu.kernel") / RECORD))
    try:
        path.write_text(json.dumps({"kernel": kernel, "proof": proof}) + "\n", encoding="utf-8")
    except OSError as error:
        raise from_oserror(error, str(path)) from None


def show(setting: Setting, results: list[Result], seconds: float) -> None:
    """`seconds` is what it took by the clock; each result says what it took of processors."""
    rows = [["operation", "paths", "theorems", "seconds", ""]]
    for result in results:
        count = [str(result.paths), str(result.theorems), f"{result.seconds:.1f}"]
        rows.append([result.operation, *count, "failed" if result.failures else "proved"])
    totals = [sum(result.paths for result in results), sum(result.theorems for result in results)]
    spent = sum(result.seconds for result in results)
    rows.append(["all", *map(str, totals), f"{spent:.1f}", f"in {seconds:.1f} s by the clock"])
    lines = table(rows)
    for result in results:
        for failure in result.failures:
            lines += ["", f"{result.operation}: a counterexample", *(f"    {line}" for line in failure)]
    proved = not any(result.failures for result in results)
    kernel, proof = kernel_hash(), proof_hash()
    same = proof == proved_hash("proof")
    said = f"kernel {kernel[:16]} is {'proved' if proved else 'NOT proved'}; the node says of it: {verdict()}"
    by = f"the proof is {proof[:16]}, {'the one' if same else 'and not the one'} on record"
    value = {
        "kernel": kernel,
        "proof": proof,
        "proved": proved,
        "on_record": same and kernel == proved_hash(),
        "seconds": seconds,
        "processor_seconds": spent,
        "operations": [result._asdict() for result in results],
    }
    setting.show(value, *lines, "", said, by)


def _mutants(setting: Setting, outcomes: list[Outcome]) -> int:
    lines: list[str] = []
    for outcome in outcomes:
        where = f" by {outcome.by}" if outcome.by else ""
        lines += [f"{outcome.mutant}: {outcome.verdict}{where}", *(f"    {line}" for line in outcome.lines)]
    counts = {verdict: sum(outcome.verdict == verdict for outcome in outcomes)
              for verdict in ("caught", "equivalent", "survived")}  # fmt: skip
    summary = f"{counts['caught']} caught, {counts['equivalent']} proved equivalent, {counts['survived']} survived"
    value = {"kernel": kernel_hash(), **counts, "mutants": [outcome._asdict() for outcome in outcomes]}
    setting.show(value, *lines, summary)
    return 1 if counts["survived"] else 0
