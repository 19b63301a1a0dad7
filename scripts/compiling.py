"""The optional build: what answers most requests, compiled to C by mypyc from the same Python source.

`scripts/compile` puts it beside the source, in `src/cognu/_compiled`; the wheel's build (`hatch_build.py`) into the
wheel. What is in use, and why if not, `cognu.compiled` says. The kernel stays as it is: what is proved is its source.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

MODULES = (
    "cognu.devices.hidden",
    "cognu.devices.host",
    "cognu.devices.hostcalls",
    "cognu.devices.hostfids",
    "cognu.files.chan",
    "cognu.files.dispatch",
    "cognu.files.plain",
    "cognu.files.server",
    "cognu.ninep.fids",
    "cognu.ninep.glance",
    "cognu.ninep.server",
    "cognu.ninep.types",
    "cognu.world.host_handles",
    "cognu.world.host_names",
    "cognu.world.host_tree",
    "cognu.world.refusals",
)
"""One group: only within it are calls direct and attributes at known places."""
REQUIRED = ("mypy>=2.4,<3", "setuptools>=65")
"""What compiling needs besides a C compiler."""
SOURCE = Path(__file__).resolve().parents[1] / "src" / "cognu"
LAST_LINES = 12


class NotCompiled(Exception):
    """It could not be built; the text says why."""


def build(source: Path, target: Path, modules: Sequence[str] = MODULES) -> None:
    """Compile `modules` of the package in the directory `source` into `target`, in place of what is there.

    Raises `NotCompiled`, with `target` as it was.
    """
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(os.environ.get("CC", compiler).split()[0]) is None:
        raise NotCompiled(f"there is no C compiler ({compiler})")
    with TemporaryDirectory() as name:
        work = Path(name)
        # mypyc goes by names relative to where it is, and leaves files there.
        shutil.copytree(source, work / "cognu", ignore=shutil.ignore_patterns("_compiled", "__pycache__"))
        path = os.pathsep.join(filter(None, [name, os.environ.get("PYTHONPATH")]))
        told = subprocess.run(
            [sys.executable, __file__, *modules], cwd=work, env={**os.environ, "PYTHONPATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if told.returncode:
            lines = [line for line in (told.stdout + told.stderr).splitlines() if ": warning: " not in line]
            raise NotCompiled("\n".join(lines[-LAST_LINES:]))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(work / "built", target)


def compile_here(modules: list[str]) -> None:
    """From the directory with the package into `built`. For a process of its own: mypyc and setuptools set globals."""
    compiled: Any = import_module("cognu.compiled")
    import_module("setuptools")  # mypyc looks whether that is there already
    mypyc: Any = import_module("mypyc.build")
    build_ext: Any = import_module("setuptools.command.build_ext").build_ext
    # Of the types that a field may have it does not know this one by itself (mypy 2.4: KeyError when imported).
    known = import_module("mypyc.primitives.registry").builtin_names
    known.setdefault("builtins.object", (import_module("mypyc.ir.rtypes").object_rprimitive, "PyBaseObject_Type"))
    extensions = mypyc.mypycify(
        ["--config-file=", "--ignore-missing-imports", *(str(_file(module)) for module in modules)],
        opt_level="1",  # 2 and 3, which take longer, were not measured
        debug_level="0",
        target_dir="generated",
        group_name=compiled.LIBRARY.removesuffix("__mypyc"),
    )
    distribution = import_module("setuptools").Distribution({"name": "cognu", "ext_modules": extensions})
    command = build_ext(distribution)
    command.build_lib, command.build_temp = "built", "objects"
    command.ensure_finalized()
    command.run()
    sources = {str(file.relative_to("cognu")): compiled.hash_of(file) for file in sources_of(modules)}
    compiled.write_build(Path("built"), compiled.Build(compiled.interpreter(), modules, sources))


def _file(module: str) -> Path:
    return Path(*module.split(".")).with_suffix(".py")


def sources_of(modules: Sequence[str]) -> list[Path]:
    """The files of these modules and of all that they import, directly or not, in a directory with the package."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        for file in (_file(module), Path(*module.split("."), "__init__.py")):
            if file.is_file() and file not in found:
                found.add(file)
                waiting += _imported(file)
    return sorted(found)


def _imported(file: Path) -> list[str]:
    """Full names of what may be modules that a file imports, and of the packages above them."""
    package = file.parent.parts
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            names += [".".join([*base, *name]) for name in ([], *([alias.name] for alias in node.names))]
    parts = [name.split(".") for name in names if name.split(".")[0] == "cognu"]
    return [".".join(part[:count]) for part in parts for count in range(1, len(part) + 1)]


def main() -> int:
    print(f"Compiling {len(MODULES)} modules, which takes half a minute or more", flush=True)
    try:
        build(SOURCE, SOURCE / "_compiled")
    except NotCompiled as error:
        print(f"Cognu runs as Python source, for it could not be compiled: {error}", file=sys.stderr)
        print("  Debian and Ubuntu: apt-get install gcc; macOS: xcode-select --install", file=sys.stderr)
        return 1
    print(f"Compiled {len(MODULES)} modules into {SOURCE / '_compiled'}; to undo it, remove that")
    print("A node that runs goes on as it was until it is started anew: cognu down, cognu up")
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        compile_here(sys.argv[1:])
    else:
        sys.exit(main())
