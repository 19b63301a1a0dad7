"""Which code runs: the Python source, or what was compiled from it.

`scripts/compile`, and `COGNU_COMPILE=1 pip install .`, compile the modules that answer most requests to C with mypyc,
into `_compiled` here, beside a list of what they were made of: hashes of their sources and of all modules that those
import, whose constants are compiled in. Unless all of these are what they were, none of the compiled modules is used,
for they know each other's layouts. `cognu --version`, `doctor`, `status` and the log say which code runs, and why.
COGNU_PURE in the environment, if not empty, has the source run.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

SOURCE = Path(__file__).parent
PURE = "COGNU_PURE"
LIBRARY = "cognu_compiled__mypyc"
"""The library with the code of all compiled modules; what has a module's own name only leads there."""


class Build(NamedTuple):
    """What was compiled: for which interpreter, which modules, and each source's hash by its path in the package."""

    interpreter: str
    names: list[str]
    sources: dict[str, str]


class State(NamedTuple):
    """Whether compiled modules are in use, how that is said, and whether it is otherwise than somebody meant it."""

    compiled: bool
    said: str
    amiss: bool = False


NOT_COMPILED = State(False, "Python")


class _Finder(MetaPathFinder):
    """Finds the compiled modules, before Python looks for their sources."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, file))


def interpreter() -> str:
    """What compiled modules fit, as the names of their files have it: `cpython-311-x86_64-linux-gnu`."""
    return EXTENSION_SUFFIXES[0].removeprefix(".").removesuffix(".so")


def place(directory: Path, module: str) -> Path:
    """The file of a compiled module in the directory of a build."""
    return directory.joinpath(*module.split(".")).with_suffix(f".{interpreter()}.so")


def hash_of(source: Path) -> str:
    from hashlib import sha256  # a start without a build needs none of these

    return sha256(source.read_bytes()).hexdigest()


def write_build(directory: Path, build: Build) -> None:
    import json

    (directory / "build.json").write_text(json.dumps(build._asdict(), indent=1) + "\n")


def read_build(directory: Path) -> Build | None:
    """None if there is none. Raises `ValueError` if it can't be read."""
    import json

    try:
        match json.loads((directory / "build.json").read_bytes()):
            case {"interpreter": str(interpreter), "names": [*names], "sources": {**sources}} if all(
                isinstance(each, str) for each in (*names, *sources.values())
            ):
                return Build(interpreter, names, {str(name): str(value) for name, value in sources.items()})
    except FileNotFoundError:
        return None
    except (OSError, RecursionError) as error:
        raise ValueError(str(error)) from error
    raise ValueError("build.json")


def changed(build: Build, source: Path) -> str:
    """The first source that is not what was compiled; empty if none is."""
    for name, expected in build.sources.items():
        try:
            if hash_of(source / name) != expected:
                return name
        except OSError:
            return name
    return ""


def use(source: Path, environment: Mapping[str, str]) -> State:
    """Have the modules compiled from `source` imported from now on, if that is to be."""
    directory = source / "_compiled"
    if not (directory / "build.json").exists():
        return NOT_COMPILED
    if environment.get(PURE):
        return State(False, f"Python, as {PURE} says")
    try:
        build = read_build(directory)
    except ValueError:
        return State(False, "Python: the list of what was compiled is damaged", True)
    if build is None:
        return NOT_COMPILED
    if build.interpreter != interpreter():
        return State(False, f"Python: compiled was for {build.interpreter}, this is {interpreter()}", True)
    other = changed(build, source)
    if other:
        return State(False, f"Python: {other} is not what was compiled", True)
    finder = _Finder({name: str(place(directory, name)) for name in (LIBRARY, *build.names)})
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(LIBRARY)
    except ImportError as error:
        sys.meta_path.remove(finder)
        return State(False, f"Python: what was compiled does not load: {error}", True)
    return State(True, f"compiled, {len(build.names)} modules")


STATE = use(SOURCE, os.environ)
