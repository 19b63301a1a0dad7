"""The kernel's source with one change, for each of its guards, updates and values: the proof must fail for every one.

Taken away: an assignment to the state, or a call that makes one; an `if` that refuses; one side of an `and` or an
`or`. Any other `if`, and any choice between two values, is made to go one way always, and then the other.

Put in another's place: the code of a refusal, by the next one and by success; what an operation returns, a flag or a
message's state that is assigned, by another of its kind; an operator, by its opposite or by the one that differs at the
bound alone; the two links that a list is given, by each other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

from cognu.kernel.state import Code
from proofs.effects import PARAMETERS

MODULES: Final = ("lists", "queues", "tables", "messages")
"""The modules of the kernel that have operations or parts of them, each after those it imports."""

MARK: Final = "__mutant__"


class Mutant(NamedTuple):
    """One change: in which module and function, at which line, what is changed. `tree` makes the module with it."""

    module: str
    function: str
    line: int
    change: str
    tree: Callable[[], ast.Module]

    @property
    def name(self) -> str:
        return f"{self.module}.py:{self.line} {self.function}: {self.change}"


@cache
def sources() -> dict[str, ast.Module]:
    """The shipping source, parsed."""
    found = {}
    for name in MODULES:
        file = import_module(f"cognu.kernel.{name}").__file__
        assert file is not None
        found[name] = ast.parse(Path(file).read_text(encoding="utf-8"))
    return found


def mark() -> ast.expr:
    return ast.Call(ast.Name(MARK, ast.Load()), [], [])


Site = tuple[str, Callable[[ast.AST], None], int]
"""A change to a node: what it is called, how to do it to a copy, and its line, or 0 for the node's own."""


def _replace_statement(owner: str, index: int, statement: ast.stmt) -> Callable[[ast.AST], None]:
    def change(parent: ast.AST) -> None:
        getattr(parent, owner)[index] = statement

    return change


def statement_sites(parent: ast.AST) -> Iterator[Site]:
    """The statements directly in a node that can be taken away."""
    for owner in ("body", "orelse"):
        held = getattr(parent, owner, None)
        for index, statement in enumerate(held if isinstance(held, list) else []):
            text = ast.unparse(statement).splitlines()[0]
            gone = ast.Expr(mark())
            if isinstance(statement, ast.Assign):
                yield from assignment_sites(owner, index, statement)
            elif isinstance(statement, ast.AugAssign) or (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            ):
                yield f"without {text}", _replace_statement(owner, index, gone), statement.lineno
            elif isinstance(statement, ast.If) and refuses(statement):
                yield f"without {text} ...", _replace_statement(owner, index, gone), statement.lineno


def refuses(statement: ast.If) -> bool:
    return len(statement.body) == 1 and isinstance(statement.body[0], ast.Return) and not statement.orelse


def assignment_sites(owner: str, index: int, statement: ast.Assign) -> Iterator[Site]:
    """Names are for reading alone; what is assigned to the state is an update, each of several for itself."""
    (target,) = statement.targets
    if isinstance(target, (ast.Attribute, ast.Subscript)):
        yield f"without {ast.unparse(statement)}", _replace_statement(owner, index, ast.Expr(mark())), statement.lineno
    if isinstance(target, ast.Tuple) and isinstance(target.elts[0], ast.Attribute):
        assert isinstance(statement.value, ast.Tuple)
        for gone, part in enumerate(target.elts):
            kept = [number for number in range(len(target.elts)) if number != gone]
            rest = ast.Assign(
                [ast.Tuple([target.elts[number] for number in kept], ast.Store())],
                ast.Tuple([mark(), *(statement.value.elts[number] for number in kept)][1:], ast.Load()),
            )
            both = ast.If(ast.BoolOp(ast.Or(), [mark(), ast.Constant(True)]), [rest], [])
            said = f"without {ast.unparse(part)} = {ast.unparse(statement.value.elts[gone])}"
            yield said, _replace_statement(owner, index, both), statement.lineno


def expression_sites(node: ast.AST) -> Iterator[Site]:
    """The changes to a condition."""

    def always(answer: bool) -> Callable[[ast.AST], None]:
        def change(found: ast.AST) -> None:
            assert isinstance(found, (ast.If, ast.IfExp))
            found.test = ast.BoolOp(ast.Or(), [mark(), ast.Constant(answer)])

        return change

    def shorter(gone: int) -> Callable[[ast.AST], None]:
        def change(found: ast.AST) -> None:
            assert isinstance(found, ast.BoolOp)
            rest = [value for number, value in enumerate(found.values) if number != gone]
            kept: ast.expr = rest[0] if len(rest) == 1 else ast.BoolOp(found.op, rest)
            found.op, found.values = ast.Or(), [mark(), kept]

        return change

    if isinstance(node, ast.BoolOp):
        for index, value in enumerate(node.values):
            yield f"without {ast.unparse(value)} of {ast.unparse(node)}", shorter(index), 0
    if isinstance(node, ast.IfExp) or (isinstance(node, ast.If) and not refuses(node)):
        said = ast.unparse(node.test)
        yield f"as if {said}", always(True), 0
        if isinstance(node, ast.IfExp) or node.orelse or len(node.body) > 1:
            yield f"as if not {said}", always(False), 0


def value_sites(node: ast.AST) -> Iterator[Site]:
    """The values in a node that another can stand for."""
    if isinstance(node, ast.UnaryOp) and is_code(node.operand):
        assert isinstance(node.operand, ast.Attribute)
        other = after(node.operand.attr)
        yield f"{short(node)} is -Code.{other}", _put("operand", code_of(other)), 0
        yield f"{short(node)} is 0", _put("operand", ast.Constant(0)), 0
    elif isinstance(node, (ast.Return, ast.Assign)):
        for value in others(node):
            yield f"{short(node)} has {ast.unparse(value)}", _put("value", value), 0
    elif isinstance(node, (ast.AugAssign, ast.BinOp)) and type(node.op) in OPPOSITE:
        one = OPPOSITE[type(node.op)]
        yield f"{short(node)} has {SIGN[one]}", _operate(one), 0
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in AT_THE_BOUND:
        bound = AT_THE_BOUND[type(node.ops[0])]
        yield f"{short(node)} has {SIGN[bound]}", _compare(bound), 0
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LINKING:
        yield f"{short(node)} has its links exchanged", _exchange, 0


def short(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0]


def is_code(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Code"


OPPOSITE: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
AT_THE_BOUND: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
SIGN: Final[dict[type[ast.AST], str]] = {
    ast.Add: "+", ast.Sub: "-", ast.BitOr: "|", ast.BitAnd: "&", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
LINKING: Final = ("link", "unlink", "push", "pull")
STATES: Final = ("QUEUED", "DELIVERED", "ANSWERED", "CANCELLED", "FAILED")


def after(code: str) -> str:
    """The next refusal of the list."""
    names = [known.name for known in Code]
    return names[(names.index(code) + 1) % len(names)]


def code_of(name: str) -> ast.expr:
    return ast.Attribute(ast.Name("Code", ast.Load()), name, ast.Load())


def others(node: ast.Return | ast.Assign) -> Iterator[ast.expr]:
    """What a constant can be taken for; but that something is 0 again is an update that is taken away elsewhere."""
    value = node.value
    if isinstance(value, ast.Constant) and value.value in (0, 1) and (value.value or isinstance(node, ast.Return)):
        yield ast.Constant(1 - value.value)
    elif isinstance(value, ast.Name) and value.id in STATES:
        yield ast.Name(STATES[(STATES.index(value.id) + 1) % len(STATES)], ast.Load())


def _put(field: str, value: ast.expr) -> Callable[[ast.AST], None]:
    def change(found: ast.AST) -> None:
        setattr(found, field, marked(value))

    return change


def _operate(operator: type[ast.operator]) -> Callable[[ast.AST], None]:
    def change(found: ast.AST) -> None:
        if isinstance(found, ast.AugAssign):
            found.op, found.value = operator(), marked(found.value)
        elif isinstance(found, ast.BinOp):
            found.op, found.left = operator(), marked(found.left)

    return change


def _compare(bound: type[ast.cmpop]) -> Callable[[ast.AST], None]:
    def change(found: ast.AST) -> None:
        assert isinstance(found, ast.Compare)
        found.ops, found.left = [bound()], marked(found.left)

    return change


def _exchange(found: ast.AST) -> None:
    """`after` and `before` stand before owner and item."""
    assert isinstance(found, ast.Call)
    found.args[-4], found.args[-3] = marked(found.args[-3]), found.args[-4]


def marked(value: ast.expr) -> ast.expr:
    """The value, by way of the mark."""
    return ast.BoolOp(ast.Or(), [mark(), value])


@cache
def mutants() -> tuple[Mutant, ...]:
    """Every change, in the order of the source."""
    return tuple(changes())


def changes() -> Iterator[Mutant]:
    for module, tree in sources().items():
        for number, function in enumerate(functions(tree)):
            for place, node in enumerate(ast.walk(function)):
                for said, change, at in (*statement_sites(node), *expression_sites(node), *value_sites(node)):
                    line = at if at else getattr(node, "lineno", function.lineno)
                    made = partial(changed, tree, number, place, change)
                    yield Mutant(module, function.name, line, said, made)


def changed(tree: ast.Module, number: int, place: int, change: Callable[[ast.AST], None]) -> ast.Module:
    """A copy of a module, with one node of one of its functions changed."""
    copy = deepcopy(tree)
    change(list(ast.walk(functions(copy)[number]))[place])
    return ast.fix_missing_locations(copy)


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name != "__init__"]


def build(mutant: Mutant, reached: Callable[[], None]) -> type:
    """The kernel with this change. `reached` is called whenever the changed place is come by."""
    trees = {**sources(), mutant.module: mutant.tree()}
    names = {f"cognu.kernel.{name}": tree for name, tree in trees.items()}
    before = {name: sys.modules[name] for name in names}
    try:
        for name, tree in names.items():
            module = ModuleType(name)
            module.__dict__[MARK] = reached
            sys.modules[name] = module
            exec(compile(tree, name, "exec"), module.__dict__)
        kernel = sys.modules["cognu.kernel.messages"].__dict__["Kernel"]
    finally:
        sys.modules.update(before)
    assert isinstance(kernel, type)
    return kernel


@cache
def callers() -> dict[str, set[str]]:
    """Who calls each function of the kernel, by name."""
    found: dict[str, set[str]] = {}
    for tree in sources().values():
        for function in functions(tree):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    called = node.func
                    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                    found.setdefault(name, set()).add(function.name)
    return found


def affected(function: str) -> list[str]:
    """The operations that may come by a function, those with few paths first."""
    seen: set[str] = set()
    todo = [function]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += callers().get(name, ())
    return [name for name in CHEAP_FIRST if name in seen]


CHEAP_FIRST: Final = (
    "check", "bound", "next_message", "create_process", "emit_answer", "emit_message", "bind", "create_endpoint",
    "enclose", "cancel", "take", "move", "receive", "mint", "inherit", "revoke_step", "delete", "reap_step", "accept",
    "end_endpoint_step", "end_process_step",
)  # fmt: skip
assert set(CHEAP_FIRST) == set(PARAMETERS)
