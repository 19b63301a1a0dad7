"""A program or directory of the host that is not there is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognu.errors import E, FileError
from cognu.world import Bounds
from cognu.world.real import RealSpawn


@pytest.mark.parametrize("bounds", [None, Bounds(open_files=64)])
async def test_what_the_host_does_not_have_is_named(tmp_path: Path, bounds: Bounds | None) -> None:
    program, directory = str(tmp_path / "none"), str(tmp_path / "gone")
    for argv, cwd, missing in (
        ([program], str(tmp_path), f"program {program}"), (["/bin/sh", "-c", ":"], directory, f"directory {directory}"),
    ):  # fmt: skip
        with pytest.raises(FileError) as caught:
            await RealSpawn().start_piped(argv, {}, cwd, bounds=bounds)
        assert caught.value.error is E.NOENT
        assert caught.value.detail == f"the host has no {missing}"
