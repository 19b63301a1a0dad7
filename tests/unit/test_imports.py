"""The pure cores import nothing that knows of the world: no sockets, loops, clocks, chance, or operating system."""

from __future__ import annotations

import ast
import pathlib
import sys

import pytest

SOURCE = pathlib.Path(__file__).parents[2] / "src" / "cognu"
PURE = ("kernel", "ninep")
ALLOWED = {"__future__", "collections", "dataclasses", "enum", "itertools", "operator", "struct", "typing"}
"""What a pure core may use of Python's own library: no module of it does I/O, or differs from run to run."""


def modules() -> list[pathlib.Path]:
    return sorted(path for core in PURE for path in (SOURCE / core).rglob("*.py"))


def imports(path: pathlib.Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it, relative ones resolved."""
    package = ["cognu", *path.relative_to(SOURCE).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")]
            found.add(".".join(part for part in module if part))
    return found


def calls(path: pathlib.Path) -> set[str]:
    """Names of builtins that a file calls."""
    tree = ast.walk(ast.parse(path.read_text()))
    return {node.func.id for node in tree if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def test_there_are_pure_cores_to_look_at() -> None:
    assert {path.parent.name for path in modules()} == set(PURE)
    assert len(modules()) > 8


@pytest.mark.parametrize("path", modules(), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_pure_core_imports_only_itself_the_errors_and_plain_data_structures(path: pathlib.Path) -> None:
    found = imports(path)
    theirs = {name.split(".")[0] for name in found if not name.startswith("cognu")}
    assert theirs <= ALLOWED & set(sys.stdlib_module_names)
    core = "cognu." + path.relative_to(SOURCE).parts[0]
    ours = {name for name in found if name.startswith("cognu")}
    assert all(name in ("cognu.errors", core) or name.startswith(core + ".") for name in ours), ours


@pytest.mark.parametrize("path", modules(), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_pure_core_reaches_for_no_file_and_no_hidden_import(path: pathlib.Path) -> None:
    assert not calls(path) & {"open", "print", "input", "exec", "eval", "compile", "__import__", "id", "hash"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_servers_root_is_had_by_attach_alone_which_goes_through_dispatch(path: pathlib.Path) -> None:
    """A handle is what a chan is made of: of a root in `files.attach`, of what was walked to in `files.chan`."""
    if path.relative_to(SOURCE).as_posix() not in ("files/attach.py", "files/chan.py"):
        assert "Handle" not in calls(path)
