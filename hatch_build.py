"""Of a wheel's build: with COGNU_COMPILE=1 in the environment, what `scripts/compiling.py` compiles goes into it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent / "scripts"))
import compiling


class CompiledHook(BuildHookInterface):  # type: ignore[type-arg]
    """Where it can't be compiled the wheel is as without, and its build says why."""

    _place: TemporaryDirectory[str] | None = None

    def _wanted(self) -> bool:
        return self.target_name == "wheel" and bool(os.environ.get("COGNU_COMPILE"))

    def dependencies(self) -> list[str]:
        return list(compiling.REQUIRED) if self._wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._wanted() or version == "editable":
            return
        self._place = TemporaryDirectory()
        target = Path(self._place.name) / "_compiled"
        try:
            compiling.build(Path(self.root) / "src" / "cognu", target)
        except compiling.NotCompiled as error:
            print(f"Cognu is installed as Python source, for it could not be compiled: {error}", file=sys.stderr)
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(target)] = "cognu/_compiled"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._place is not None:
            self._place.cleanup()
