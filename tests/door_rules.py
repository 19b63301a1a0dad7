"""What is in a module's source and may not be there, by the tables of `doors`.

`findings` is given a source text and the place where it would stand, so that what it finds can itself be tested
(`unit/test_doors_source.py`). It follows no values: a name may be read, called or not, only where a row says so, and
what reads attributes without naming them (`vars`, `getattr` of a name that is worked out, `eval`, a star import, a
pattern's parts by their place) may not be used at all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import doors


class Finding(NamedTuple):
    """What is where it may not be: which rule says so, the line, and the text."""

    rule: str
    line: int
    text: str


# -- the rules --------------------------------------------------------------------------------------------------------


def findings(module: str, source: str) -> list[Finding]:
    """What is wrong with `source` as the module at `module`, a path below `src/cognu`."""
    nodes, parents, where, bound = _parsed(module, source)
    found = []
    for node in nodes:
        at = Place(module, where.get(node, ""))
        said = [
            *_imports(module, node), *_shown_by_ours(module, node, bound), *_blind(module, node), *_world(at, node),
            *_servers(module, node, parents), *_authority(at, node, parents),
        ]  # fmt: skip
        found += [Finding(rule, getattr(node, "lineno", 0), text) for rule, text in said]
    return sorted(found, key=lambda finding: finding.line)


class Place(NamedTuple):
    """A module and a function of it, as tables name them."""

    module: str
    function: str

    def may(self, rows: doors.Rows) -> list[str]:
        """The texts that the place has rows for."""
        mine = rows.get(self.module, {})
        return [*mine.get(self.function, "").split(), *mine.get(doors.ANY, "").split()]


class Parsed(NamedTuple):
    """A source: its nodes, what each is in, the function each is in, the names that stand for modules of ours."""

    nodes: list[ast.AST]
    parents: dict[ast.AST, ast.AST]
    where: dict[ast.AST, str]
    bound: dict[str, str]


@cache
def _parsed(module: str, source: str) -> Parsed:
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    parents = {child: node for node in nodes for child in ast.iter_child_nodes(node)}
    where = _functions(tree)
    for attribute, pattern in _read_by_patterns(nodes):
        nodes.append(attribute)
        parents[attribute], where[attribute] = pattern, where[pattern]
    return Parsed(nodes, parents, where, _bound(module, tree))


Read = Iterator[tuple[ast.Attribute, ast.pattern]]


def _read_by_patterns(nodes: list[ast.AST]) -> Read:
    """`match it: case object(part=x)` reads `it.part`: such attributes, as if written so, each with its pattern."""
    for node in list(nodes):
        if isinstance(node, ast.Match):
            for case in node.cases:
                yield from _read(case.pattern, node.subject)


def _read(pattern: ast.pattern, of: ast.expr) -> Read:
    """What a pattern reads of `of`, and of what it finds there."""
    below: list[tuple[ast.pattern, ast.expr]] = []
    match pattern:
        case ast.MatchClass():
            for name, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
                attribute = ast.copy_location(ast.Attribute(of, name, ast.Load()), pattern)
                yield attribute, pattern
                below.append((inner, attribute))
            below += [(inner, _part(of, number)) for number, inner in enumerate(pattern.patterns)]
        case ast.MatchSequence(patterns=patterns):
            whole = isinstance(of, ast.Tuple) and len(of.elts) == len(patterns)
            parts = of.elts if isinstance(of, ast.Tuple) and whole else [_part(of, n) for n in range(len(patterns))]
            below += zip(patterns, parts, strict=True)
        case ast.MatchMapping():
            keyed = zip(pattern.keys, pattern.patterns, strict=True)
            below += [(inner, ast.Subscript(of, key, ast.Load())) for key, inner in keyed]
        case ast.MatchOr(patterns=patterns):
            below += [(inner, of) for inner in patterns]
        case ast.MatchAs(pattern=ast.pattern() as inner):
            below.append((inner, of))
    for inner, part in below:
        yield from _read(inner, part)


def _part(of: ast.expr, number: int) -> ast.expr:
    return ast.Subscript(of, ast.Constant(number), ast.Load())


@cache
def _text(node: ast.AST) -> str:
    return ast.unparse(node)


def _functions(tree: ast.AST) -> dict[ast.AST, str]:
    """For each node the function or class that it is in."""
    found: dict[ast.AST, str] = {}
    waiting = [(tree, "")]
    while waiting:
        node, name = waiting.pop()
        for child in ast.iter_child_nodes(node):
            here = name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                here = f"{name}.{child.name}".strip(".")
            found[child] = here
            waiting.append((child, here))
    return found


Said = Iterator[tuple[str, str]]


def _imports(module: str, node: ast.AST) -> Said:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if not _may_import(module, alias.name) or (alias.asname and alias.name == "asyncio"):
                yield "import", alias.name
    if isinstance(node, ast.ImportFrom):
        name = _source_of(module, node)
        for alias in node.names:
            if (
                not _may_import(module, name)
                or not _may_import(module, f"{name}.{alias.name}", part=True)
                or alias.name == "*"
                or (name == "asyncio" and alias.name not in doors.ASYNCIO)
                or (name == "logging" and alias.name not in doors.LOGGING and module != doors.BEGINNING)
                or (alias.name in doors.BY_THE_WAY and name.partition(".")[0] != "cognu")
            ):
                yield "import", f"{name}.{alias.name}"
            elif name.startswith("cognu.world") and alias.name in doors.TYPES - doors.GIVEN.get(module, set()):
                yield "given", alias.name
            elif alias.name in doors.BLIND or (alias.name == "attrgetter" and module not in doors.NAMED_LATER):
                yield "blind", alias.name
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == "asyncio" and node.attr not in doors.ASYNCIO:
            yield "import", _text(node)
        if node.value.id == "logging" and node.attr not in doors.LOGGING and module != doors.BEGINNING:
            yield "import", _text(node)
        if node.value.id == "os" and (
            node.attr in doors.CALLS_OF_OS or node.attr.startswith(("fork", "exec", "spawn"))
        ):
            yield "import", _text(node)


def _shown(name: str, part: str) -> bool:
    """Whether it is a module that another one imported."""
    return part in doors.BY_THE_WAY and name.partition(".")[0] != "cognu"


def _may_import(module: str, name: str, part: bool = False) -> bool:
    """`part` if it is perhaps no module, but something in one."""
    first, _, rest = name.partition(".")
    if first == "cognu":
        hosts = ("calls", "cached", "disk", "host_handles", "host_tree", "net", "own", "real", "sockets", "tls")
        makers = {f"cognu.world.{host}" for host in hosts}
        return name not in makers or name in doors.WORLDS.get(module, {})
    mine = doors.IMPORTED.get(module, set())
    if part:
        return name != "logging.handlers" or name in mine
    return name in mine or (first in doors.HARMLESS and name != "logging.handlers") or (not rest and first in mine)


def _blind(module: str, node: ast.AST) -> Said:
    if isinstance(node, ast.alias) and node.asname and node.asname not in doors.ALIASES | {node.name}:
        yield "import", f"{node.name} as {node.asname}"
    if isinstance(node, ast.Name) and node.id == "asdict" and module not in doors.AS_DICT:
        yield "blind", node.id
    if isinstance(node, ast.Call) and _text(node.func) == "asdict":
        told = [_text(argument) for argument in node.args]
        yield from [("blind", _text(node))] if told != [doors.AS_DICT.get(module)] else []
    if isinstance(node, ast.Name):
        if node.id in doors.BLIND or (node.id == "open" and module not in doors.OPEN):
            yield "blind", node.id
        if node.id == "attrgetter" and module not in doors.NAMED_LATER:
            yield "blind", node.id
    if isinstance(node, ast.Attribute):
        dunder = node.attr.startswith("__") and node.attr.endswith("__")
        if (dunder and node.attr not in doors.DUNDERS) or node.attr in (doors.BLIND | {"attrgetter", "asdict"}) - {
            "compile"
        }:
            yield "blind", _text(node)
        path = node.attr == "socket" and _text(node.value).rpartition(".")[2] in doors.SOCKETS
        own = node.attr == "socket" and module == "runtime/runner.py"
        if node.attr in doors.BY_THE_WAY | doors.OF_LOOPS and not path and not own:
            yield "import", _text(node)
    if isinstance(node, ast.MatchClass) and node.patterns and _text(node.cls) not in doors.BY_PLACE:
        yield "blind", _text(node)  # which attributes these are, the class says


def _attribute(module: str, node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Said:
    """An attribute that is read by `getattr`, as (what it is of, its name)."""
    if isinstance(node, ast.Name) and node.id == "getattr":
        call = parents.get(node)
        if not isinstance(call, ast.Call) or call.func is not node or len(call.args) < 2:
            yield "", "getattr itself"
        elif isinstance(call.args[1], ast.Constant):
            yield _text(call.args[0]), str(call.args[1].value)
        elif module not in doors.NAMED_LATER:
            yield "", "getattr of a name that is worked out"


def _world(at: Place, node: ast.AST) -> Said:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        text = _text(node) if node.attr in doors.PARTS | doors.OPENING else ""
        if node.attr in doors.PARTS and text not in {*doors.TASKS, *at.may(doors.OF_THE_WORLD)}:
            yield "world", text
        if node.attr in doors.OPENING and text not in at.may(doors.OPENED):
            yield "opening", text


def _authority(at: Place, node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Said:
    """Who may do what is for the kernel to say: see the tables."""
    if at.module.startswith("kernel/"):
        return
    if isinstance(node, ast.Name) and node.id in ("setattr", "delattr") and at.module not in doors.SET_LATER:
        yield "authority", node.id
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        known = isinstance(node.value, ast.Attribute) and node.value.attr == "generations"  # as domains call it
        if known or _is_kernels(node.value):
            yield "authority", f"written: {_text(node)}"
    if not isinstance(node, ast.Attribute) or not (
        node.attr in doors.AUTHORITY | doors.FROZEN | doors.OF_OTHERS | doors.MOUNTS or _is_kernels(node)
    ):
        return
    text = _text(node)
    if not isinstance(node.ctx, ast.Load):
        frozen = node.attr in doors.FROZEN or (node.attr in doors.OF_OTHERS and text != f"self.{node.attr}")
        if (frozen and text not in at.may(doors.SAID_ONCE)) or _is_kernels(node):
            yield "authority", f"changed: {text}"
        return
    if (
        _is_kernels(node)
        and not isinstance(parents[node], ast.Subscript)
        and text not in doors.READ_WHOLE.get(at.module, {})
    ):
        yield "authority", f"a table of the kernel: {text}"
    rows = {
        "kernel": doors.KERNEL.get(at.module, set()), "_kernel": doors.KERNEL.get(at.module, set()),
        "cap": doors.CAPS.get(at.module, set()), "mount": at.may(doors.MOUNTING), "heads": at.may(doors.MOUNTING),
        **dict.fromkeys(doors.AUTHORITY, at.may(doors.AUTHORISED)),
    }  # fmt: skip
    if text not in rows.get(node.attr, {text}):
        yield "authority", text


def _is_kernels(node: ast.AST) -> bool:
    """Whether it is a table of the kernel, as `slots.rights`."""
    above = node.value if isinstance(node, ast.Attribute) else None
    name = above.attr if isinstance(above, ast.Attribute) else above.id if isinstance(above, ast.Name) else ""
    return name in doors.KERNELS_TABLES and isinstance(node, ast.Attribute) and node.attr in _fields()


@cache
def _fields() -> frozenset[str]:
    """What the kernel's tables have."""
    tree = ast.parse((doors.SOURCE / "kernel" / "state.py").read_text())
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return frozenset(node.attr for node in assigned)


# -- what other modules of ours show ----------------------------------------------------------------------------------


@cache
def _defined(module: str) -> frozenset[str] | None:
    """The names that a module of ours, `cognu.…`, has of its own or shows on purpose; None if there is no such one."""
    path = doors.SOURCE.joinpath(*module.split(".")[1:])
    file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    if not file.is_file():
        return None
    found = {child.stem for child in file.parent.iterdir()} if file.name == "__init__.py" else set()
    on_purpose: set[str] = set()
    tops: list[ast.stmt] = list(ast.parse(file.read_text()).body)
    while tops:
        node = tops.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
                found |= {each.id for each in names}
                if "__all__" in {each.id for each in names} and node.value is not None:
                    on_purpose |= set(ast.literal_eval(node.value))
            case ast.ImportFrom(module=str(source)) if node.level or source.startswith("cognu"):
                found |= {alias.name for alias in node.names if alias.asname == alias.name}
            case ast.If() | ast.Try():
                tops += [*node.body, *node.orelse]
    return frozenset(found | on_purpose)


def _bound(module: str, tree: ast.AST) -> dict[str, str]:
    """Names that stand for modules of ours in a source."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = _source_of(module, node)
            for alias in node.names:
                if source.startswith("cognu") and _defined(f"{source}.{alias.name}") is not None:
                    found[alias.asname or alias.name] = f"{source}.{alias.name}"
    return found


def _source_of(module: str, node: ast.ImportFrom) -> str:
    """The whole name of what an import is from."""
    if not node.level:
        return node.module or ""
    return ".".join(("cognu", *module.split("/")[: -node.level], *filter(None, [node.module])))


def _shown_by_ours(module: str, node: ast.AST, bound: dict[str, str]) -> Said:
    """A module of ours is asked for what is its own, not for what it imported itself."""
    if isinstance(node, ast.Import):
        yield from [("import", alias.name) for alias in node.names if alias.name.partition(".")[0] == "cognu"]
    if isinstance(node, ast.ImportFrom):
        source = _source_of(module, node)
        own = _defined(source) if source.partition(".")[0] == "cognu" else None
        if own is not None:
            yield from [("import", f"{source}.{alias.name}") for alias in node.names if alias.name not in own]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound:
        own = _defined(bound[node.value.id])
        if own is not None and node.attr not in own and not node.attr.startswith("__"):
            yield "import", _text(node)


def _servers(module: str, node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Said:
    for of, name in _attribute(module, node, parents):
        if (
            not of
            or name in doors.PARTS | doors.OPENING | doors.CONTRACT | doors.OF_LOOPS | doors.BY_THE_WAY | {"server"}
            or name.startswith("__")
        ):
            yield "blind", f"{of}.{name}" if of else name
    if isinstance(node, ast.Name) and node.id in doors.CALLERS:
        call = parents.get(node)
        if not isinstance(call, ast.Call) or call.func is not node:
            yield "dispatch", f"{node.id} itself"
        elif said := _dispatched(module, call):
            yield "dispatch", said
    for name in _disguised(node):
        yield "server", f"{name} is a server"
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return
    if node.attr not in doors.CONTRACT | {"devices", "dispatch", "server"}:
        return
    base, text = _text(node.value), _text(node)
    if node.attr == "devices" and text not in doors.DEVICES.get(module, set()):
        yield "server", text
    if node.attr == "dispatch":
        yield "dispatch", _text(node)
    if node.attr == "server" and base not in doors.NO_FILE_SERVER.get(module, set()):
        around = parents[node]
        method = f"{text}.{around.attr}" if isinstance(around, ast.Attribute) else text
        if not (_in_dispatch(around, parents) or _compared(around) or method in doors.HELD.get(module, {})):
            yield "server", method
    if node.attr in doors.CONTRACT and not _in_dispatch(node, parents):
        known = base.rpartition(".")[2] in doors.NO_SERVERS or base in doors.STRANGERS.get(module, {})
        if not known and text not in doors.HELD.get(module, {}):
            yield "contract", text


def _disguised(node: ast.AST) -> list[str]:
    """Names of what is no server, given to one that was just made, or declared as one."""
    targets: list[ast.expr] = []
    of = ""
    match node:
        case ast.arg(annotation=ast.expr()):
            of, targets = _text(node.annotation or node), [ast.Name(node.arg)]
        case ast.AnnAssign():
            of, targets = _text(node.annotation), [node.target]
        case ast.Assign(value=ast.Call(func=called)):
            of, targets = _text(called), node.targets
        case ast.NamedExpr(value=ast.Call(func=called)):
            of, targets = _text(called), [node.target]
    made = re.search(r"(Server|_server)( \| None)?$", of) is not None
    names = [_text(target).rpartition(".")[2] for target in targets]
    return [name for name in names if made and name in doors.NO_SERVERS]


def _in_dispatch(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    call = parents.get(node)
    called = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in doors.CALLERS
    return called and isinstance(call, ast.Call) and len(call.args) > 2 and call.args[2] is node


def _compared(node: ast.AST) -> bool:
    """Whether it is the same, or of a class: nothing is had of it."""
    if isinstance(node, ast.Compare):
        return all(isinstance(how, ast.Is | ast.IsNot) for how in node.ops)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"


def _dispatched(module: str, call: ast.Call) -> str:
    """What is wrong with a call of `dispatch`, or ""."""
    if len(call.args) < 3 or any(isinstance(argument, ast.Starred) for argument in call.args[:3]):
        return _text(call)
    chan, rights, method = (_text(argument) for argument in call.args[:3])
    if (module, method) in doors.THROUGH:
        return ""
    of, _, name = method.rpartition(".")
    if name not in doors.CONTRACT or of != f"{chan}.server":
        return f"another's method: {_text(call)}"
    if name in doors.NEEDED and doors.NEEDED[name] not in rights.split(" | "):
        return f"without {doors.NEEDED[name]}: {_text(call)}"
    return ""


# -- what is used -----------------------------------------------------------------------------------------------------


def used(source: str) -> list[tuple[str, str]]:
    """Names and attributes that a source reads as values, as they are written, each after the function that it is in.

    Types are no values. Left out: annotations, subscripts, bases of classes, classes of patterns, and what `isinstance`
    and `cast` are told.
    """
    tree = ast.parse(source)
    where = _functions(tree)
    found: list[tuple[str, str]] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.append((where[node], ast.unparse(node)))
        found += [(where[node], ast.unparse(attribute)) for attribute, _ in _read_by_patterns([node])]
        waiting += _values(node)
    return found


def _values(node: ast.AST) -> list[ast.AST]:
    """The parts of a node that are values."""
    left_out: list[ast.AST | None] = []
    match node:
        case ast.arg() | ast.AnnAssign():
            left_out = [node.annotation]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            left_out = [node.returns]
        case ast.Subscript() if not isinstance(node.slice, ast.Slice):
            left_out = [node.slice] if ast.unparse(node.value) in SUBSCRIPTED else []
        case ast.ClassDef():
            left_out = [*node.bases]
        case ast.MatchClass():
            left_out = [node.cls]
        case ast.Call(func=ast.Name(id="isinstance")):
            left_out = [*node.args[1:]]
        case ast.Call(func=ast.Name(id="cast")):
            left_out = [*node.args[:1]]
        case ast.ExceptHandler():
            left_out = [node.type]
    return [child for child in ast.iter_child_nodes(node) if not any(child is one for one in left_out)]


SUBSCRIPTED = doors.words("Callable Steps Awaitable Sequence Mapping Iterable list dict set tuple frozenset type")
"""Types of types, in an alias of one."""
