"""The pure cores know nothing of the world: no sockets, loops, clocks, chance, or operating system; what is above them
reaches it through a `World` alone, but for a short list of exceptions, each with its reason.
"""

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
    assert all(name in ("cognu.errors", "cognu.values", core) or name.startswith(core + ".") for name in ours), ours


@pytest.mark.parametrize("path", modules(), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_pure_core_reaches_for_no_file_and_no_hidden_import(path: pathlib.Path) -> None:
    assert not calls(path) & {"open", "print", "input", "exec", "eval", "compile", "__import__", "id", "hash"}


# -- the world is reached through a World -----------------------------------------------------------------------------

GUARDED = ("files", "store", "devices", "mesh", "runtime", "node")
OUTSIDE = {
    "concurrent", "ctypes", "fcntl", "glob", "io", "mmap", "multiprocessing", "os", "pathlib", "platform", "pwd",
    "queue", "random", "resource", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess",
    "sys", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip
"""What has time, chance, threads, files, the network or processes in it; `world` and the faces may import it."""
TIMED = {
    "call_at", "call_later", "create_subprocess_exec", "create_subprocess_shell", "open_connection", "run_in_executor",
    "start_server", "start_unix_server", "timeout", "timeout_at", "to_thread", "wait_for",
}  # fmt: skip
"""Names of asyncio and its loops that go by the host's own clock, or lead to the outside."""
THREAD = "names the thread it is on, or guards what threads share; starts none"
WASM = "the binding to Wasmtime's library, which is native code"
EXCEPTIONS: dict[str, tuple[set[str], str]] = {
    "files/authority.py": ({"threading"}, THREAD),
    "files/chan.py": ({"threading"}, THREAD),
    "devices/hostcalls.py": ({"threading"}, THREAD),
    "devices/log.py": ({"threading"}, THREAD),
    "runtime/capi.py": ({"ctypes", "pathlib", "platform", "sys"}, WASM),
    "runtime/engine.py": ({"ctypes", "platform", "sys", "threading"}, WASM + "; its epochs are ticked by a thread"),
    "runtime/fiber.py": ({"ctypes", "threading"}, WASM),
    "runtime/host.py": ({"mmap", "pathlib", "resource", "sys"}, "measures what the host gives a process, once"),
    "runtime/probe.py": ({"sys"}, "a program of its own, run in a child"),
    "runtime/runner.py": ({"os", "resource", "socket", "sys"}, "a program of its own, run in a child"),
    "runtime/runners.py": ({"signal", "sys"}, "numbers of signals, and which Python to start in a child"),
    "runtime/scheduler.py": (
        {"os", "queue", "threading"},
        "programs run on threads of their own, one for each processor",
    ),
    "node/__main__.py": ({"os", "signal", "socket", "sys"}, "the program that makes the real World"),
    "node/launcher.py": ({"signal", "sys"}, "numbers of signals, and which Python to start in a child"),
}


def guarded() -> list[pathlib.Path]:
    return sorted(path for floor in GUARDED for path in (SOURCE / floor).rglob("*.py"))


def timed(path: pathlib.Path) -> set[str]:
    """What a file uses of `TIMED`, sleeping that is more than a turn of the loop, and waiting with a time limit."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in TIMED:
            found.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_asyncio = isinstance(node.func.value, ast.Name) and node.func.value.id == "asyncio"
            turn = [ast.unparse(argument) for argument in node.args] == ["0"]
            if of_asyncio and node.func.attr == "sleep" and not turn:
                found.add("sleep")
            if node.func.attr == "wait" and any(keyword.arg == "timeout" for keyword in node.keywords):
                found.add("wait with a timeout")
    return found


@pytest.mark.parametrize("path", guarded(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_the_outside_is_reached_through_a_world_alone(path: pathlib.Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)} & OUTSIDE
    allowed, _ = EXCEPTIONS.get(path.relative_to(SOURCE).as_posix(), (set[str](), ""))
    assert outside == allowed, "an exception that is none any more is taken out of the list"
    assert not calls(path) & {"open", "input", "__import__"}
    assert timed(path) == set(), "a World's clock has sleep, and world.timing deadlines on it"


def test_every_exception_is_of_a_file_that_is_there_and_has_its_reason() -> None:
    names = {path.relative_to(SOURCE).as_posix() for path in guarded()}
    assert EXCEPTIONS.keys() <= names
    assert all(reason and modules <= OUTSIDE for modules, reason in EXCEPTIONS.values())


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_servers_root_is_had_by_attach_alone_which_goes_through_dispatch(path: pathlib.Path) -> None:
    """A handle is what a chan is made of: of a root in `files.attach`, of what was walked to in `files.chan`."""
    if path.relative_to(SOURCE).as_posix() not in ("files/attach.py", "files/chan.py"):
        assert "Handle" not in calls(path)
