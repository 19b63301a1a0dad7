"""All recorded namespace scripts give the recorded results, up to where Plan 9, which we follow, differs."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from script import Result, Runner

DATA = json.loads((pathlib.Path(__file__).parents[1] / "data" / "namespace" / "vectors.json").read_text())
PLAN9_DIFFERS = ("twice", "dotdot", "mtpt", "statname")


def comparable(vector: dict[str, Any]) -> int:
    """How many results of a script are those of Plan 9 too."""
    tags = vector.get("tags", {})
    return min([tags[tag] for tag in PLAN9_DIFFERS if tag in tags], default=len(vector["ops"]))


def recorded(result: dict[str, Any], operation: list[str]) -> Result:
    if "ok" in result:
        return {"ok": result["ok"]}
    if result["text"].startswith("(runner)"):
        # Not Inferno's words but its script runner's, which would not read a directory nor list a file.
        return {"err": {"read": "NOTSUP", "ls": "notdir"}[operation[0]]}
    return {"err": result["err"]}


@pytest.mark.parametrize("vector", DATA["vectors"], ids=[vector["name"] for vector in DATA["vectors"]])
def test_script_gives_the_recorded_results(vector: dict[str, Any]) -> None:
    runner = Runner(DATA["setup"])
    for index in range(comparable(vector)):
        operation = vector["ops"][index]
        expected = recorded(vector["results"][index], operation)
        assert runner.run(operation) == expected, f"operation {index}: {operation}"


def test_as_much_of_what_was_recorded_is_compared_as_the_page_on_assurance_says() -> None:
    vectors = DATA["vectors"]
    compared = sum(comparable(vector) for vector in vectors)
    recorded_operations = sum(len(vector["ops"]) for vector in vectors)
    cut = sum(comparable(vector) < len(vector["ops"]) for vector in vectors)
    assert (compared, recorded_operations, cut, len(vectors)) == (11819, 13396, 155, 837)
    page = (pathlib.Path(__file__).parents[2] / "docs" / "assurance.md").read_text()
    assert f"{compared} of the {recorded_operations} operations in {len(vectors)} scripts" in page
    assert f"{cut} scripts are compared up to where Plan 9" in page
