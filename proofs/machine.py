"""The kernel's state as the proof sees it: every table an unknown function, every scalar an unknown int.

Beside them stand ghosts, which no operation reads and which the proof alone needs. They are kept by what the
operations write, so that it does not matter which function of the kernel did it:

- `stamp`, for each list: when an item came to the head of its list. Along a list they fall, so a list has no circle.
- `depth`, `anc`, `via`: a slot's depth below its root; whether `a` is an ancestor of `d`; the child of `a` towards `d`.
- `in_use`, `waiting`: how many slots are in use, how many messages are in a queue.
- `granted`: the rights a capability was made with, also when it is a tombstone.
- `spent`: the highest generation under which a slot ever was live.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import z3

from cognu.kernel.state import CANCELLED, QUEUED
from proofs.symbolic import TRUE, WIDTH, Bits, Cell, Num, Run, Sym, both, choose, equal, leaves, read, unknown

SORTS: Final = {"slots": "slot", "processes": "process", "endpoints": "endpoint", "messages": "message"}
"""What numbers the tables of each part of the kernel are indexed by."""

KEYS: Final = {
    "processes.bound": "binding", "messages.cap_slot": "place", "messages.cap_generation": "place",
    "messages.cap_rights": "place",
}  # fmt: skip
"""The tables that are indexed by a number made of two."""

ELEMENTS: Final = ("slot", "process", "endpoint", "message", "binding", "place")

TABLES: Final[dict[str, dict[str, str]]] = {
    "slots": {
        "generation": "int", "holder": "process", "endpoint": "endpoint", "rights": "bits", "badge": "int",
        "parent": "slot", "first": "slot", "next": "slot", "prev": "slot", "held_next": "slot", "held_prev": "slot",
        "interface": "int",
    },
    "processes": {
        "alive": "int", "creator": "process", "quota": "int", "used": "int", "first": "process", "next": "process",
        "prev": "process", "held": "slot", "served": "endpoint", "sent": "message", "ready": "endpoint",
        "turn": "endpoint", "bound": "slot",
    },
    "endpoints": {
        "alive": "int", "server": "process", "root": "slot", "next": "endpoint", "prev": "endpoint",
        "ready_next": "endpoint", "ready_prev": "endpoint", "newest": "message", "oldest": "message",
    },
    "messages": {
        "state": "int", "sender": "process", "handler": "process", "endpoint": "endpoint", "slot": "slot",
        "generation": "int", "wanted": "int", "next": "message", "prev": "message", "sent_next": "message",
        "sent_prev": "message", "cap_slot": "slot", "cap_generation": "int", "cap_rights": "bits",
    },
}  # fmt: skip
"""Every table, and what its values are."""

SCALARS: Final = {
    "last_process": "process", "last_endpoint": "endpoint", "last_slot": "slot", "last_message": "message",
    "free": "slot", "cursor": "slot", "cut": "slot", "cut_root": "int", "died": "slot", "died_generation": "int",
}  # fmt: skip

HEADS: Final = {
    "slots.first": "kin", "processes.held": "held", "processes.first": "made", "processes.served": "served",
    "processes.sent": "sent", "endpoints.newest": "queue", "processes.ready": "ready",
}  # fmt: skip
"""The tables that hold the heads of lists, and which lists."""

STAMPS: Final = {
    "kin": "slot", "held": "slot", "made": "process", "served": "endpoint", "free": "slot", "sent": "message",
    "queue": "message", "ready": "endpoint",
}  # fmt: skip


MERGED: Final = (
    "_enqueue", "_dequeue", "_ready", "_unready", "_charge", "_uncharge", "_charge_message", "_uncharge_message",
    "_announce", "_unbind", "_bind", "_forget_message", "_fail", "_let_go", "_abandon", "_adopt", "_forget",
    "_new_slot", "_free", "check",
)  # fmt: skip
"""Commits whose ways are merged into one state instead of making paths of their own."""


def sort_of(part: str, name: str) -> str:
    """What a table is indexed by."""
    return KEYS.get(f"{part}.{name}", SORTS[part])


BASE: Final = {
    f"{part}.{name}": unknown(f"{part}.{name}", kind == "bits")
    for part, tables in TABLES.items()
    for name, kind in tables.items()
}
GHOST: Final = {f"stamp.{name}": unknown(f"stamp.{name}", False) for name in STAMPS} | {
    "depth": unknown("depth", False),
    "granted": unknown("granted", True),
    "spent": unknown("spent", False),
}
ANC: Final = z3.Function("anc", z3.IntSort(), z3.IntSort(), z3.BoolSort())
VIA: Final = z3.Function("via", z3.IntSort(), z3.IntSort(), z3.IntSort())


def in_queue(state: Any) -> Any:
    """Whether a message of this state is in the queue of its endpoint."""
    return z3.Or(state == QUEUED, state == CANCELLED)


def constant(kernel: Any, name: str) -> Callable[[Any], Any]:
    """A table as it stands in a kernel; a ghost is 0 everywhere."""
    part, _, table = name.partition(".")
    known: dict[int, int] = getattr(getattr(kernel, part), table) if part in TABLES else {}
    bits = name == "granted" or TABLES.get(part, {}).get(table) == "bits"

    def look(at: Any) -> Any:
        value = z3.BitVecVal(0, WIDTH) if bits else z3.IntVal(0)
        for index, content in known.items():
            value = z3.If(at == index, z3.BitVecVal(content, WIDTH) if bits else z3.IntVal(content), value)
        return value

    return look


def is_zero(term: Any) -> bool:
    return isinstance(term, z3.IntNumRef) and term.as_long() == 0


class Kinship:
    """The ghosts of two slots: changed where a slot gets its parent."""

    def __init__(self, run: Run) -> None:
        self.log: list[tuple[Any, Any, Any]] = []
        self.none = False
        """Whether there is no kinship to begin with, because there are no slots."""
        run.saved.append(self)

    def mark(self) -> int:
        return len(self.log)

    def cut(self, mark: int) -> list[tuple[Any, Any, Any]]:
        written = self.log[mark:]
        del self.log[mark:]
        return written

    def join(self, ways: list[tuple[Any, list[tuple[Any, Any, Any]]]]) -> None:
        for guard, writes in ways:
            self.log += [(both(guard, within), child, parent) for within, child, parent in writes]

    def anc(self, d: Any, a: Any, upto: int | None = None) -> Any:
        log = self.log if upto is None else self.log[:upto]
        if not log:
            return z3.BoolVal(False) if self.none else ANC(d, a)
        guard, child, parent = log[-1]
        before = len(log) - 1
        new = z3.And(parent != 0, a != child, z3.Or(a == parent, self.anc(parent, a, before)))
        old = z3.And(a != child, self.anc(d, a, before))
        return choose(guard, choose(equal(d, child), new, old), self.anc(d, a, before))

    def via(self, d: Any, a: Any, upto: int | None = None) -> Any:
        log = self.log if upto is None else self.log[:upto]
        if not log:
            return VIA(d, a)
        guard, child, parent = log[-1]
        before = len(log) - 1
        new = z3.If(a == parent, child, self.via(parent, a, before))
        old = self.via(d, a, before)
        return choose(both(guard, equal(d, child)), new, old)


class Machine:
    """A symbolic kernel for one path. `kernel` is what the operations are called on."""

    def __init__(self, run: Run, kernel: type, start: Any = None) -> None:
        self.run = run
        self.base = BASE | GHOST
        if start is not None:
            self.base = {name: constant(start, name) for name in self.base}
        self.touched: dict[str, dict[int, Any]] = {sort: {} for sort in ELEMENTS}
        self.leaves: dict[int, tuple[Any, list[tuple[int, Any, bool]]]] = {}
        self.tables: dict[str, Sym] = {}
        for part, tables in TABLES.items():
            for name, kind in tables.items():
                self._table(f"{part}.{name}", sort_of(part, name), kind)
        for name, sort in STAMPS.items():
            self._table(f"stamp.{name}", sort, "int")
        self._table("depth", "slot", "int")
        self.kinship = Kinship(run)
        self.cells = {name: Cell(run, z3.Int(name)) for name in (*SCALARS, "clock", "in_use", "waiting")}
        if start is not None:
            for name, cell in self.cells.items():
                cell.expr = z3.IntVal(getattr(start, name, 0))
            self.kinship.none = True
        self.before = {name: cell.expr for name, cell in self.cells.items()}
        self._ghosts()
        self.kernel = self._kernel(kernel)

    def touch(self, sort: str, term: Any) -> None:
        """Remember that an element was looked at; the hypotheses are taken there."""
        known = self.touched[sort]
        where = term.ast.value
        if where not in self.leaves:
            # The term is kept with its leaves, so that no other takes its place in memory.
            self.leaves[where] = (term, [(leaf.ast.value, leaf, is_zero(leaf)) for leaf in leaves(term)])
        for leaf_where, leaf, zero in self.leaves[where][1]:
            if not zero or sort == "process":
                known.setdefault(leaf_where, leaf)

    def _table(self, name: str, sort: str, kind: str) -> None:
        wrapper = Bits if kind == "bits" else Num
        self.tables[name] = Sym(self.run, name, self.base[name], wrapper, lambda at: self.touch(sort, at))

    def _ghosts(self) -> None:
        for head, chain in HEADS.items():
            self.tables[head].on_write = self._stamper(chain)
        tables = self.tables

        def parent_written(slot: Any, parent: Any) -> None:
            above = read(tables["depth"].base, tables["depth"].log, parent)
            tables["depth"].log.append((TRUE, slot, choose(equal(parent, z3.IntVal(0)), z3.IntVal(1), above + 1)))
            self.kinship.log.append((TRUE, slot, parent))

        def endpoint_written(slot: Any, endpoint: Any) -> None:
            log = tables["slots.endpoint"].log[:-1]
            old = read(tables["slots.endpoint"].base, log, slot)
            count = self.cells["in_use"]
            count.expr = count.expr + z3.If(endpoint != 0, 1, 0) - z3.If(old != 0, 1, 0)

        def state_written(message: Any, state: Any) -> None:
            log = tables["messages.state"].log[:-1]
            old = read(tables["messages.state"].base, log, message)
            count = self.cells["waiting"]
            count.expr = count.expr + z3.If(in_queue(state), 1, 0) - z3.If(in_queue(old), 1, 0)

        tables["messages.state"].on_write = state_written
        tables["slots.parent"].on_write = parent_written
        tables["slots.endpoint"].on_write = endpoint_written

    def _stamper(self, chain: str) -> Callable[[Any, Any], None]:
        def head_written(owner: Any, item: Any) -> None:
            self.stamp(chain, item)

        return head_written

    def stamp(self, chain: str, item: Any) -> None:
        clock = self.cells["clock"]
        self.tables[f"stamp.{chain}"].log.append((TRUE, item, clock.expr))
        clock.expr = clock.expr + 1

    def _kernel(self, kernel: type) -> Any:
        real = kernel()
        parts = {part: SimpleNamespace(**{name: self.tables[f"{part}.{name}"] for name in TABLES[part]})
                 for part in TABLES}  # fmt: skip
        found = {part: set(vars(getattr(real, part))) for part in vars(real) if part in TABLES}
        if found != {part: set(names) for part, names in TABLES.items()} or set(vars(real)) != {*TABLES, *SCALARS}:
            raise TypeError("the kernel has other tables than the proof knows of")
        attributes: dict[str, Any] = {name: self._scalar(name) for name in SCALARS}
        attributes |= {name: self._merging(getattr(kernel, name)) for name in MERGED}
        made: Any = object.__new__(type("SymbolicKernel", (kernel,), attributes))
        for part, tables in parts.items():
            setattr(made, part, tables)
        return made

    def _merging(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(kernel: Any, *args: Any) -> Any:
            return self.run.merged(method, kernel, *args)

        return call

    def _scalar(self, name: str) -> property:
        cell, sort = self.cells[name], SCALARS[name]

        def get(_kernel: Any) -> Num:
            if sort != "int":
                self.touch(sort, cell.expr)
            return Num(self.run, cell.expr)

        def put(_kernel: Any, value: Any) -> None:
            cell.expr = Num(self.run, None).lift(value)
            if name == "free":
                self.stamp("free", cell.expr)

        return property(get, put)

    def changed(self) -> set[str]:
        """The tables and scalars that were written."""
        found = {name for name, table in self.tables.items() if table.log}
        found |= {name for name, cell in self.cells.items() if not cell.expr.eq(self.before[name])}
        if self.kinship.log:
            found |= {"anc", "via"}
        if found & {"slots.rights", "slots.generation"}:
            found |= {"granted", "spent"}
        return found


class Part:
    """The tables of one part, as functions."""

    def __init__(self, view: View, part: str) -> None:
        for name in TABLES[part]:
            setattr(self, name, view.table(f"{part}.{name}", sort_of(part, name)))

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        raise AttributeError(name)


class View:
    """The state before an operation, or after it, as Z3 functions."""

    def __init__(self, machine: Machine, after: bool, seen: set[str] | None = None) -> None:
        self.machine, self.after = machine, after
        self.seen = seen
        self.known: dict[tuple[str, int], tuple[Any, Any]] = {}
        """What was read, beside where: the operation is over, so that it stays."""
        self.slots, self.processes, self.endpoints, self.messages = (Part(self, part) for part in TABLES)
        self.stamp = {name: self.table(f"stamp.{name}", sort) for name, sort in STAMPS.items()}
        self.depth = self.table("depth", "slot")

    def __getattr__(self, name: str) -> Any:
        """A scalar."""
        self.note(name)
        return self.machine.cells[name].expr if self.after else self.machine.before[name]

    def note(self, name: str) -> None:
        if self.seen is not None:
            self.seen.add(name)

    def table(self, name: str, sort: str) -> Callable[[Any], Any]:
        table, machine = self.machine.tables[name], self.machine
        log = table.log if self.after else []

        def look(at: Any) -> Any:
            self.note(name)
            if isinstance(at, int):
                at = z3.IntVal(at)
            if self.after:
                machine.touch(sort, at)
            key = (name, at.ast.value)
            if key not in self.known:
                self.known[key] = (read(table.base, log, at), at)
            return self.known[key][0]

        return look

    def anc(self, d: Any, a: Any) -> Any:
        self.note("anc")
        return self.machine.kinship.anc(d, a, None if self.after else 0)

    def via(self, d: Any, a: Any) -> Any:
        self.note("via")
        return self.machine.kinship.via(d, a, None if self.after else 0)

    def granted(self, s: Any) -> Any:
        self.note("granted")
        before = self.machine.base["granted"](s)
        if not self.after or not self.machine.tables["slots.rights"].log:
            return before
        now = self.slots.rights(s)
        return z3.If(now != 0, now, before)

    def spent(self, s: Any) -> Any:
        self.note("spent")
        before = self.machine.base["spent"](s)
        tables = self.machine.tables
        if not self.after or not (tables["slots.rights"].log or tables["slots.generation"].log):
            return before
        return z3.If(self.slots.rights(s) != 0, self.slots.generation(s), before)
