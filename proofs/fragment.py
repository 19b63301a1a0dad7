"""The part of Python that the symbolic executor models; the proof is of nothing that goes beyond it.

A term stands for an int in arithmetic, in comparisons and as an index. Whoever asks what it is otherwise (`is`,
`isinstance`, `hash`, an attribute of it) would be answered about the term and not about the int, and code that keeps
something elsewhere than in the tables keeps it where no theorem looks. So the kernel's source is read before it is
proved, and whatever is not named here is refused: it is a list of what may be, not of what may not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

from cognu.kernel.state import Code
from proofs.machine import SCALARS, TABLES

IMPORTS: Final = {
    "__future__": ("annotations",),
    "cognu.errors": ("E",),
    "enum": ("IntEnum",),
    "typing": ("Final", "NamedTuple"),
}
"""What the kernel takes from elsewhere than the kernel."""

OPERATORS: Final = (
    ast.Add, ast.Sub, ast.Mult, ast.BitOr, ast.BitAnd, ast.Invert, ast.Not, ast.USub, ast.And, ast.Or,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip

TABLE_NAMES: Final = frozenset(name for tables in TABLES.values() for name in tables)

DICT: Final = ("__missing__", "__setitem__")
"""The methods of the tables in `state.py`, which the executor puts its own in place of: they are assumed."""


def outside() -> list[str]:
    """Where the kernel's source is outside of the fragment: module, line, and what stands there."""
    found = []
    modules = {file.name: file.read_text(encoding="utf-8") for file in files("cognu.kernel").iterdir()
               if file.name.endswith(".py")}  # fmt: skip
    for name, text in sorted(modules.items()):
        found += [f"{name}:{said}" for said in violations(text, name)]
    return found


def violations(text: str, name: str = "") -> list[str]:
    """Where a module of the kernel is outside: in its functions, or, of `state.py` and the package itself, in what it
    declares.
    """
    module = Module(ast.parse(text))
    if name == "state.py":
        nodes = declared(module.tree)
    elif name == "__init__.py":
        nodes = (node for node in module.tree.body if not (is_text(node) or imported(node) or exported(node)))
    else:
        nodes = module.beyond()
    return [f"{node.lineno}: {ast.unparse(node).splitlines()[0]}" for node in nodes]


Located = ast.stmt | ast.expr


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def imported(node: ast.AST) -> bool:
    """Whether this takes something from the kernel, or what is listed from elsewhere; under its own name."""
    if not isinstance(node, ast.ImportFrom) or node.level or any(name.asname for name in node.names):
        return False
    allowed = IMPORTS.get(node.module or "", ())
    kernel = (node.module or "").startswith("cognu.kernel.")
    return all(name.name != "*" and (kernel or name.name in allowed) for name in node.names)


def exported(node: ast.AST) -> bool:
    if not isinstance(node, ast.Assign) or ast.unparse(node.targets[0]) != "__all__":
        return False
    return all(isinstance(part, (ast.Constant, ast.List, ast.Load)) for part in ast.walk(node.value))


# What `state.py` declares


def declared(tree: ast.Module) -> Iterator[Located]:
    """Constants, and classes that have nothing but fields, or tables that are made when they are."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            if node.decorator_list or node.keywords:
                yield node
            yield from (part for part in node.body if not (is_text(part) or is_field(part) or makes_tables(part, node)))
        elif not (is_text(node) or imported(node) or is_field(node)):
            yield node


def is_field(node: ast.AST) -> bool:
    """A constant: a number, made of such, or the table of refusals."""
    if isinstance(node, ast.Assign):
        (target,) = node.targets
        return isinstance(target, ast.Name) and is_constant(node.value, target.id)
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        plain = not any(isinstance(part, (ast.Call, ast.NamedExpr)) for part in ast.walk(node.annotation))
        return plain and (node.value is None or is_constant(node.value, node.target.id))
    return False


def is_constant(value: ast.expr, name: str) -> bool:
    if name == "__slots__":
        return ast.unparse(value) == "()"
    if name == "ERRORS":
        names = (ast.Dict, ast.Attribute, ast.Name, ast.Load)
        return all(isinstance(part, names) for part in ast.walk(value))
    if isinstance(value, ast.BinOp):
        return is_constant(value.left, "") and is_constant(value.right, "")
    return not name.startswith("__") and isinstance(value, ast.Constant) and type(value.value) is int


def makes_tables(node: ast.stmt, owner: ast.ClassDef) -> bool:
    """`self.name = Table()` or the like; or a method of a table."""
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return False
    if owner.name in ("Table", "Sparse"):
        return node.name in DICT
    made = ("Table()", "Sparse()", "Sparse({NODE: 1})")
    return node.name == "__init__" and all(
        isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Attribute)
        and ast.unparse(statement.targets[0]) == f"self.{statement.targets[0].attr}"
        and statement.targets[0].attr in TABLE_NAMES
        and ast.unparse(statement.value) in made
        for statement in node.body
    )


# What the operations are made of


class Module:
    """A module of operations, with the names that it knows."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.known: dict[str, str] = {}
        """What was imported, and from where."""
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                self.known |= {name.name: node.module or "" for name in node.names}
        self.functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        self.functions |= {name for name, module in self.known.items() if module == "cognu.kernel.lists"}

    def beyond(self) -> Iterator[Located]:
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                yield from self.function(node)
            elif isinstance(node, ast.ClassDef):
                bases = all(isinstance(base, ast.Name) and base.id in self.known for base in node.bases)
                if node.decorator_list or node.keywords or not bases:
                    yield node
                for part in node.body:
                    if isinstance(part, ast.FunctionDef):
                        yield from self.function(part, method=True)
                    elif not is_text(part):
                        yield part
            elif not (is_text(node) or imported(node)):
                yield node

    def function(self, node: ast.FunctionDef, method: bool = False) -> Iterator[Located]:
        given = node.args
        if method and node.name == "__init__" and starts(node):
            return
        plain = not (given.vararg or given.kwarg or given.kwonlyargs or given.defaults or given.posonlyargs)
        names = [argument.arg for argument in given.args]
        typed = all(argument.annotation is not None and ast.unparse(argument.annotation) in ("int", "Table")
                    for argument in given.args[1 if method else 0 :])  # fmt: skip
        made = node.returns is not None and ast.unparse(node.returns) in ("int", "bool", "None")
        if node.decorator_list or node.name.startswith("__") or not (plain and typed and made):
            yield node
        if method and names[:1] != ["self"]:
            yield node
        inside = Function(self, node, method)
        for statement in node.body:
            yield from inside.statement(statement)


def starts(node: ast.FunctionDef) -> bool:
    """Whether this makes the parts and the scalars, and nothing else. It runs on ints, once; where it leads to is
    compared with what the proof knows of, and the state at the start is proved.
    """
    for statement in node.body:
        if not isinstance(statement, ast.Assign):
            return False
        (target,) = statement.targets
        said = ast.unparse(target)
        if said == "self.processes.quota[NODE]" and ast.unparse(statement.value) == "node_quota":
            continue
        if not isinstance(target, ast.Attribute) or said != f"self.{target.attr}":
            return False
        part = target.attr in TABLES and ast.unparse(statement.value) == f"{target.attr.title()}()"
        scalar = target.attr in SCALARS and ast.unparse(statement.value) in ("0", "NODE")
        if not (part or scalar):
            return False
    return True


class Function:
    """One function: its statements and expressions, by what each may be."""

    def __init__(self, module: Module, node: ast.FunctionDef, method: bool) -> None:
        self.module = module
        given = node.args.args[1 if method else 0 :]
        self.tables = {argument.arg for argument in given if ast.unparse(argument.annotation or node) == "Table"}
        """The tables that it was given. Whether a table has anything in it is not for the kernel to ask, nor which
        table one is; so a table is no value."""
        self.locals = {argument.arg for argument in given}
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self.locals.add(part.id)
        self.locals -= {"self", *TABLES, *self.tables}

    def statement(self, node: ast.stmt) -> Iterator[Located]:
        if isinstance(node, ast.If):
            yield from self.expression(node.test)
            for inner in (*node.body, *node.orelse):
                yield from self.statement(inner)
        elif isinstance(node, ast.Return):
            yield from () if node.value is None else self.expression(node.value)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            yield from self.assignment(node.targets[0], node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, OPERATORS):
            yield from self.target(node.target)
            yield from self.expression(node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from self.expression(node.value)
        elif not is_text(node):
            yield node

    def assignment(self, target: ast.expr, value: ast.expr) -> Iterator[Located]:
        """One value to one place, or as many to as many."""
        if isinstance(target, ast.Tuple):
            if not isinstance(value, ast.Tuple) or len(value.elts) != len(target.elts):
                yield target
                return
            for one, other in zip(target.elts, value.elts, strict=True):
                yield from self.assignment(one, other)
            return
        if isinstance(target, ast.Name) and target.id in TABLES:
            # A part of the kernel under its own name.
            yield from () if self.is_part(value) and ast.unparse(value) == f"self.{target.id}" else (target,)
            return
        yield from self.target(target)
        yield from self.expression(value)

    def target(self, node: ast.expr) -> Iterator[Located]:
        """A name that is no other's, a scalar of the kernel, an element of a table."""
        taken = (*self.module.known, *self.module.functions, *self.tables, *TABLES, "self")
        if isinstance(node, ast.Name) and node.id not in taken:
            return
        if isinstance(node, ast.Attribute) and is_self(node.value) and node.attr in SCALARS:
            return
        if isinstance(node, ast.Subscript) and self.is_table(node.value):
            yield from self.expression(node.slice)
            return
        yield node

    def is_part(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Attribute) and is_self(node.value) and node.attr in TABLES

    def is_table(self, node: ast.expr) -> bool:
        """A table, of a part or of a part under a name of its own; or one that was given."""
        if isinstance(node, ast.Attribute) and node.attr in TABLE_NAMES:
            return self.is_part(node.value) or (isinstance(node.value, ast.Name) and node.value.id in TABLES)
        return isinstance(node, ast.Name) and node.id in self.tables

    def expression(self, node: ast.expr) -> Iterator[Located]:
        """An int."""
        if isinstance(node, ast.Constant) and type(node.value) in (int, bool):
            return
        if isinstance(node, ast.Name):
            constant = self.module.known.get(node.id) == "cognu.kernel.state" and node.id.isupper()
            yield from () if constant or node.id in self.locals else (node,)
        elif isinstance(node, ast.Attribute):
            code = isinstance(node.value, ast.Name) and node.value.id == "Code" and node.attr in Code.__members__
            yield from () if code or (is_self(node.value) and node.attr in SCALARS) else (node,)
        elif isinstance(node, ast.Subscript) and self.is_table(node.value):
            yield from self.expression(node.slice)
        elif isinstance(node, ast.Call):
            yield from self.call(node)
        else:
            yield from self.operation(node)

    def operation(self, node: ast.expr) -> Iterator[Located]:
        operands: list[ast.expr]
        operators: list[ast.AST] = []
        if isinstance(node, ast.BinOp):
            operands, operators = [node.left, node.right], [node.op]
        elif isinstance(node, ast.BoolOp):
            operands, operators = node.values, [node.op]
        elif isinstance(node, ast.UnaryOp):
            operands, operators = [node.operand], [node.op]
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            operands, operators = [node.left, *node.comparators], [*node.ops]
        elif isinstance(node, ast.IfExp):
            operands = [node.test, node.body, node.orelse]
        else:
            yield node
            return
        if not all(isinstance(operator, OPERATORS) for operator in operators):
            yield node
        for operand in operands:
            yield from self.expression(operand)

    def call(self, node: ast.Call) -> Iterator[Located]:
        """Of the kernel's own methods on itself, and of its functions on tables and ints."""
        called = node.func
        method = isinstance(called, ast.Attribute) and is_self(called.value) and not called.attr.startswith("__")
        function = isinstance(called, ast.Name) and called.id in self.module.functions
        if node.keywords or not (method or function):
            yield node
            return
        for argument in node.args:
            if not (function and self.is_table(argument)):
                yield from self.expression(argument)


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"
